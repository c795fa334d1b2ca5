//! The ECN codepoint, the low two bits of the IPv4 TOS and the IPv6 traffic class (RFC 3168 5).

/// An ECN codepoint.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not do ECN.
    #[default]
    NotEct = 0,
    /// ECN-capable transport, codepoint 1 (L4S and experiments, RFC 9331).
    Ect1 = 1,
    /// ECN-capable transport, codepoint 0: the one RFC 3168 senders set.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// From a TOS or traffic class octet; the DSCP bits are ignored.
    #[must_use]
    pub const fn from_tos(octet: u8) -> Ecn {
        match octet & 3 {
            0 => Ecn::NotEct,
            1 => Ecn::Ect1,
            2 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }

    /// The two bits, with DSCP 0 a whole TOS or traffic class octet.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_maps_to_its_low_two_bits() {
        for octet in 0..=u8::MAX {
            assert_eq!(Ecn::from_tos(octet).bits(), octet & 3);
        }
    }
}
