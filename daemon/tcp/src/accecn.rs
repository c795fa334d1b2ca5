//! Accurate ECN feedback of one connection (RFC 9768 section 3.2), both halves.
//!
//! [`Reporter`] is the data receiver: it counts what arrives and says so in the ACE field of every segment, and in
//! options where there is room. [`Reader`] is the data sender: it takes the increments out of what the peer says.
//! What is done about a mark, and whether our packets are ECN-capable, is decided in [`crate::ecn`].
//! Not kept are s.e0b and s.e1b: nothing depends on them.

mod reader;
mod reporter;
mod rest;

pub(crate) use reader::{Reader, Report, longest_stretch};
pub(crate) use reporter::Reporter;
pub(crate) use rest::RestingAccEcn;

/// Packet counters begin here, so that a zeroed field shows (RFC 9768 section 3.2.1).
const CEP_INITIAL: u16 = 5;
/// The ACE field has three bits of them.
const ACE_MASK: u32 = 7;
/// A field of the option has 24 bits of a byte counter.
const FIELD_MASK: u32 = 0x00ff_ffff;

/// Both halves of a connection in AccECN mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccEcn {
    pub reporter: Reporter,
    pub reader: Reader,
}

impl AccEcn {
    pub(crate) fn new() -> Self {
        AccEcn {
            reporter: Reporter::new(),
            reader: Reader::new(),
        }
    }
}

fn ace_of(cep: u16) -> u8 {
    // Three bits.
    u8::try_from(u32::from(cep) & ACE_MASK).unwrap_or(0)
}

/// A packet counter after so many more: of 16 bits, which the three of the wire divide.
fn counted_on(cep: u16, packets: u32) -> u16 {
    cep.wrapping_add(u16::try_from(packets & 0xffff).unwrap_or(0))
}

#[cfg(test)]
mod tests;
