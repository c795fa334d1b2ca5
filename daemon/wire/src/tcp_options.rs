//! TCP options: MSS, window scale, SACK-permitted, SACK, timestamps and AccECN (RFC 9293 3.1, 7323, 2018, 9768).
//!
//! Reading takes options in any segment, skips unknown kinds by their length and refuses a segment whose
//! lengths do not add up (MUST-6, MUST-7, MUST-68). A known kind of a wrong length is skipped like an
//! unknown one; of a repeated option the last counts. Values are as sent: what is ignored outside a SYN, a
//! scale above 14 and SACK blocks that make no sense are the protocol's decision.
//! Writing keeps 32-bit fields aligned, in the order Linux uses (some middleboxes parse no other).

use core::fmt;

use crate::DropReason;
use crate::accecn_option::{self, AccEcnOption};
use crate::words::Words;

/// The most bytes the option field can have: data offset 15 words, less the fixed header (RFC 9293 3.1).
pub(crate) const MAX_LEN: usize = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

const MSS_LEN: usize = 4;
/// Window scale after one NOP.
const WINDOW_SCALE_LEN: usize = 4;
/// Timestamps after two bytes of NOP or SACK-permitted.
const TIMESTAMPS_LEN: usize = 12;
/// SACK-permitted alone, after two NOPs.
const SACK_PERMITTED_LEN: usize = 4;
/// Two NOPs, kind and length before the blocks.
const SACK_PREFIX_LEN: usize = 4;
const SACK_BLOCK_LEN: usize = 8;

/// One SACK block: the sequence numbers `[start, end)` (RFC 2018 3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SackBlock {
    /// First sequence number held.
    pub start: u32,
    /// The sequence number after the last one held.
    pub end: u32,
}

/// Up to four SACK blocks in the order of the segment.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    // Unused places stay zero, so that the derived equality compares blocks only.
    blocks: [SackBlock; SackBlocks::MAX],
    len: u8,
}

impl SackBlocks {
    /// The most blocks that fit into 40 bytes of options.
    pub const MAX: usize = 4;

    /// No blocks.
    pub const EMPTY: SackBlocks = SackBlocks {
        blocks: [SackBlock { start: 0, end: 0 }; SackBlocks::MAX],
        len: 0,
    };

    /// Appends a block; false, and nothing changed, when there are four already.
    pub fn push(&mut self, block: SackBlock) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = block;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The blocks in order.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.len)]
    }

    /// The number of blocks, 0..=4.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The blocks in order.
    pub fn iter(&self) -> core::slice::Iter<'_, SackBlock> {
        self.as_slice().iter()
    }
}

impl<'a> IntoIterator for &'a SackBlocks {
    type Item = &'a SackBlock;
    type IntoIter = core::slice::Iter<'a, SackBlock>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// The timestamps option (RFC 7323 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the clock value echoed; meaningful with ACK only.
    pub echo: u32,
}

/// The options of one segment.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOptions {
    /// Maximum segment size in bytes, as sent (0 is possible and means the default).
    pub mss: Option<u16>,
    /// Window scale shift, as sent (above 14 is possible and reads as 14, RFC 7323 2.3).
    pub window_scale: Option<u8>,
    /// SACK may be sent on this connection (RFC 2018 2).
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgements.
    pub sack: SackBlocks,
    /// Byte counters of accurate ECN (RFC 9768 3.2.3).
    pub accecn: Option<AccEcnOption>,
}

impl TcpOptions {
    /// Bytes on the wire: a multiple of 4, at most 40. SACK blocks that do not fit beside the other options
    /// are left out from the end: three go with timestamps, four without.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let blocks = self.sack_blocks_that_fit();
        let sack = if blocks == 0 {
            0
        } else {
            SACK_PREFIX_LEN + SACK_BLOCK_LEN * blocks
        };
        self.len_without_sack() + sack
    }

    fn len_without_sack(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += MSS_LEN;
        }
        if self.timestamps.is_some() {
            len += TIMESTAMPS_LEN;
        } else if self.sack_permitted {
            len += SACK_PERMITTED_LEN;
        }
        if self.window_scale.is_some() {
            len += WINDOW_SCALE_LEN;
        }
        if let Some(accecn) = &self.accecn {
            len += accecn.padded_len();
        }
        len
    }

    fn sack_blocks_that_fit(&self) -> usize {
        let room = MAX_LEN - SACK_PREFIX_LEN - self.len_without_sack();
        self.sack.len().min(room / SACK_BLOCK_LEN)
    }

    /// Reads the option field of a header: everything between the fixed part and the data offset.
    #[inline(always)]
    pub(crate) fn parse(field: &[u8]) -> Result<TcpOptions, DropReason> {
        // What nearly every segment after the handshake carries, as RFC 7323 appendix A lays it out.
        if let &[NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] = field {
            return Ok(TcpOptions {
                timestamps: Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                }),
                ..TcpOptions::default()
            });
        }
        TcpOptions::parse_any(field)
    }

    #[inline(never)]
    fn parse_any(mut field: &[u8]) -> Result<TcpOptions, DropReason> {
        let mut options = TcpOptions::default();
        // Every step takes at least one byte of at most 40, which bounds the loop.
        while let Some((&kind, after_kind)) = field.split_first() {
            match kind {
                END => break,
                NOP => field = after_kind,
                _ => {
                    let len = after_kind.first().map_or(0, |&len| usize::from(len));
                    if len < 2 || len > field.len() {
                        return Err(DropReason::TcpBadOption);
                    }
                    let (option, rest) = field.split_at(len);
                    options.take(kind, &option[2..]);
                    field = rest;
                }
            }
        }
        Ok(options)
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                let value = u32::from_be_bytes([a, b, c, d]);
                self.timestamps = Some(Timestamps {
                    value,
                    echo: u32::from_be_bytes([e, f, g, h]),
                });
            }
            (SACK, blocks) => {
                let (blocks, []) = blocks.as_chunks::<SACK_BLOCK_LEN>() else {
                    return;
                };
                for &[a, b, c, d, e, f, g, h] in blocks {
                    let start = u32::from_be_bytes([a, b, c, d]);
                    // Four blocks fill the field, so none can be refused.
                    self.sack.push(SackBlock {
                        start,
                        end: u32::from_be_bytes([e, f, g, h]),
                    });
                }
            }
            (accecn_option::KIND_ORDER_0 | accecn_option::KIND_ORDER_1, value) => {
                self.accecn = Some(AccEcnOption::read(kind, value));
            }
            _ => {}
        }
    }

    /// Writes the options, [`TcpOptions::encoded_len`] bytes.
    pub(crate) fn emit(&self, out: &mut Words<'_>) {
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            out.put_bytes([MSS, 4, high, low]);
        }
        let [first, second] = if self.sack_permitted {
            [SACK_PERMITTED, 2]
        } else {
            [NOP, NOP]
        };
        if let Some(timestamps) = self.timestamps {
            out.put_bytes([first, second, TIMESTAMPS, 10]);
            out.put(timestamps.value);
            out.put(timestamps.echo);
        } else if self.sack_permitted {
            out.put_bytes([NOP, NOP, first, second]);
        }
        if let Some(shift) = self.window_scale {
            out.put_bytes([NOP, WINDOW_SCALE, 3, shift]);
        }
        if let Some(accecn) = &self.accecn {
            let mut bytes = [NOP; accecn_option::PADDED_MAX];
            accecn.write(&mut bytes);
            let (words, _) = bytes[..accecn.padded_len()].as_chunks();
            for word in words {
                out.put_bytes(*word);
            }
        }
        let blocks = &self.sack.as_slice()[..self.sack_blocks_that_fit()];
        if !blocks.is_empty() {
            // Kind, length and at most four blocks: 34.
            let [len, ..] = (2 + SACK_BLOCK_LEN * blocks.len()).to_le_bytes();
            out.put_bytes([NOP, NOP, SACK, len]);
            for block in blocks {
                out.put(block.start);
                out.put(block.end);
            }
        }
    }
}

#[cfg(test)]
mod tests;
