//! What a handshake agrees on about ECN: RFC 3168 section 6.1.1 and RFC 9768 sections 3.1 and 3.2.2.1.
//!
//! AE, CWR and ECE on the SYN say what is offered, on the SYN-ACK what is taken; under AccECN the SYN-ACK and the
//! ACK of it also say as which codepoint the packet before them arrived. Who has agreed stays with it, whatever
//! repeated SYNs say; only whether we send ECN-capable packets may change. Nothing here keeps state.

use sluice_wire::{Ecn, TcpFlags};

/// How much of ECN is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum EcnLevel {
    /// None.
    #[default]
    Off,
    /// One signal per round trip (RFC 3168).
    Classic,
    /// Every mark is counted (RFC 9768), and RFC 3168 with a peer that does not know it.
    Accurate,
}

/// What is agreed to, and what is asked for. Neither with a congestion control that does not answer to marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnConfig {
    /// For connections that a peer opens: the most that is taken of its offer.
    pub accept: EcnLevel,
    /// For connections that we open: what our SYN offers.
    pub offer: EcnLevel,
}

impl EcnConfig {
    /// Never.
    pub const OFF: EcnConfig = EcnConfig {
        accept: EcnLevel::Off,
        offer: EcnLevel::Off,
    };
    /// For peers that ask for it, as Linux does by default.
    pub const ACCEPT: EcnConfig = EcnConfig {
        accept: EcnLevel::Accurate,
        offer: EcnLevel::Off,
    };
    /// Also asked for.
    pub const OFFER: EcnConfig = EcnConfig {
        accept: EcnLevel::Accurate,
        offer: EcnLevel::Accurate,
    };
}

/// What a SYN and its answer agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum EcnTerms {
    #[default]
    None,
    Classic {
        /// Our packets may be ECN-capable.
        may_send: bool,
    },
    Accurate {
        /// As which codepoint the latest SYN arrived at its receiver.
        syn: Ecn,
        /// As above.
        may_send: bool,
    },
}

/// Two SYNs of a handshake ask for different kinds of feedback (RFC 9768 section 3.1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contradiction;

/// Repeats of a SYN or SYN-ACK by the timer that still speak of AccECN; what follows does not, in case a middlebox
/// drops such packets (RFC 9768 sections 3.1.4.1 and 3.2.3.2.2).
const ACCURATE_REPEATS: u8 = 1;

/// The flags of a SYN that offers `level` after `repeats` by the timer.
pub(crate) fn syn_flags(level: EcnLevel, repeats: u8) -> TcpFlags {
    match level {
        EcnLevel::Accurate if repeats <= ACCURATE_REPEATS => TcpFlags::ACE,
        // RFC 3168 section 6.1.1.1.
        EcnLevel::Classic if repeats == 0 => TcpFlags::ECE.union(TcpFlags::CWR),
        _ => TcpFlags::EMPTY,
    }
}

/// AE, CWR and ECE that say as which codepoint a SYN or SYN-ACK arrived (RFC 9768 tables 2 and 3).
pub(crate) fn handshake_ace(arrived: Ecn) -> u8 {
    match arrived {
        Ecn::NotEct => 0b010,
        Ecn::Ect1 => 0b011,
        Ecn::Ect0 => 0b100,
        Ecn::Ce => 0b110,
    }
}

/// The other way round. `None` for the values that say nothing (0, 1) or nothing yet (5, 7).
pub(crate) fn arrived_by(ace: u8) -> Option<Ecn> {
    match ace {
        0b010 => Some(Ecn::NotEct),
        0b011 => Some(Ecn::Ect1),
        0b100 => Some(Ecn::Ect0),
        0b110 => Some(Ecn::Ce),
        _ => None,
    }
}

impl EcnTerms {
    /// What to answer to a SYN that arrived as `ecn`, at most `accept`. Combinations that nobody sends today ask
    /// for AccECN (RFC 9768 section 3.1.3).
    pub(crate) fn of_syn(flags: TcpFlags, ecn: Ecn, accept: EcnLevel) -> EcnTerms {
        let setup = TcpFlags::ECE.union(TcpFlags::CWR);
        match (accept, flags.ace()) {
            (EcnLevel::Off, _) | (_, 0b000) => EcnTerms::None,
            (EcnLevel::Accurate, 0b011) => EcnTerms::Classic { may_send: true },
            (EcnLevel::Accurate, _) => EcnTerms::Accurate {
                syn: ecn,
                may_send: true,
            },
            (EcnLevel::Classic, _) if flags.contains(setup) => EcnTerms::Classic { may_send: true },
            (EcnLevel::Classic, _) => EcnTerms::None,
        }
    }

    /// What the answer to a SYN of ours means, which offered `offered`; `also_plain` if another one offered nothing.
    pub(crate) fn of_syn_ack(flags: TcpFlags, offered: EcnLevel, also_plain: bool) -> EcnTerms {
        // RFC 3168 section 6.1.1: who has sent a SYN without the offer does not set ECT. Under AccECN the peer is
        // known to have agreed, and he does (RFC 9768 section 3.1.4.1).
        let classic = EcnTerms::Classic {
            may_send: !also_plain,
        };
        match (offered, flags.ace()) {
            (EcnLevel::Off, _) => EcnTerms::None,
            (EcnLevel::Classic, _) => {
                let agreed = flags.contains(TcpFlags::ECE) && !flags.contains(TcpFlags::CWR);
                if agreed { classic } else { EcnTerms::None }
            }
            // Nothing, or a server that repeats whatever it gets.
            (EcnLevel::Accurate, 0b000 | 0b111) => EcnTerms::None,
            (EcnLevel::Accurate, 0b001) => classic,
            (EcnLevel::Accurate, ace) => {
                // The reserved 0b101 stands for a SYN that arrived as it was sent (section 3.1.3).
                let syn = arrived_by(ace).unwrap_or(Ecn::NotEct);
                EcnTerms::Accurate {
                    syn,
                    // Our SYN was not ECN-capable: somebody changes what is not his (section 3.2.2.3).
                    may_send: syn == Ecn::NotEct,
                }
            }
        }
    }

    /// The same handshake after its SYN came again, by RFC 9768 section 3.1.5.
    pub(crate) fn on_repeated_syn(
        self,
        flags: TcpFlags,
        ecn: Ecn,
        accept: EcnLevel,
    ) -> Result<EcnTerms, Contradiction> {
        match (self, EcnTerms::of_syn(flags, ecn, accept)) {
            // It will not use it, so it is not offered it any more.
            (EcnTerms::None, _) => Ok(EcnTerms::None),
            (EcnTerms::Classic { .. }, EcnTerms::None) => Ok(EcnTerms::Classic { may_send: false }),
            (EcnTerms::Accurate { .. }, EcnTerms::None) => Ok(EcnTerms::Accurate {
                syn: ecn,
                may_send: false,
            }),
            (EcnTerms::Classic { .. }, EcnTerms::Classic { .. }) => Ok(self),
            (EcnTerms::Accurate { may_send, .. }, EcnTerms::Accurate { syn, .. }) => {
                Ok(EcnTerms::Accurate { syn, may_send })
            }
            (EcnTerms::Classic { .. }, EcnTerms::Accurate { .. })
            | (EcnTerms::Accurate { .. }, EcnTerms::Classic { .. }) => Err(Contradiction),
        }
    }

    /// What the ACK of a SYN cookie tells, when the cookie itself holds no ECN: only who has agreed on AccECN sets
    /// these flags (RFC 9768 section 5.1). With data it is the counter already, whose first values have AE.
    pub(crate) fn of_cookie_ack(flags: TcpFlags, has_data: bool, accept: EcnLevel) -> EcnTerms {
        let says_so = if has_data {
            flags.contains(TcpFlags::AE)
        } else {
            flags.ace() >= 0b010
        };
        if accept == EcnLevel::Accurate && says_so {
            EcnTerms::Accurate {
                syn: Ecn::NotEct,
                may_send: true,
            }
        } else {
            EcnTerms::None
        }
    }

    /// The flags of the SYN-ACK after `repeats` by the timer.
    pub(crate) fn syn_ack_flags(self, repeats: u8) -> TcpFlags {
        match self {
            EcnTerms::None => TcpFlags::EMPTY,
            // The peer has fallen back to a SYN without: nothing is offered that a middlebox could drop.
            EcnTerms::Classic { may_send: false } => TcpFlags::EMPTY,
            EcnTerms::Classic { .. } => TcpFlags::ECE,
            EcnTerms::Accurate { .. } if repeats > ACCURATE_REPEATS => TcpFlags::EMPTY,
            EcnTerms::Accurate { syn, .. } => TcpFlags::EMPTY.with_ace(handshake_ace(syn)),
        }
    }

    /// The terms of a server whose SYN-ACK the timer repeated so often: who has sent one without ECN does not set
    /// ECT (RFC 9768 section 3.1.5).
    pub(crate) fn after_repeats(self, repeats: u8) -> EcnTerms {
        match self {
            EcnTerms::Accurate { syn, .. } if repeats > ACCURATE_REPEATS => EcnTerms::Accurate {
                syn,
                may_send: false,
            },
            other => other,
        }
    }

    pub(crate) fn is_accurate(self) -> bool {
        matches!(self, EcnTerms::Accurate { .. })
    }

    pub(crate) fn may_send(self) -> bool {
        match self {
            EcnTerms::None => false,
            EcnTerms::Classic { may_send } | EcnTerms::Accurate { may_send, .. } => may_send,
        }
    }

    /// In four bits, for the SYN table.
    pub(crate) fn to_bits(self) -> u8 {
        let may_send = if self.may_send() { MAY_SEND } else { 0 };
        match self {
            EcnTerms::None => 0,
            EcnTerms::Classic { .. } => CLASSIC | may_send,
            EcnTerms::Accurate { syn, .. } => ACCURATE | may_send | syn.bits(),
        }
    }

    pub(crate) fn from_bits(bits: u8) -> EcnTerms {
        let may_send = bits & MAY_SEND != 0;
        if bits & ACCURATE != 0 {
            EcnTerms::Accurate {
                syn: Ecn::from_tos(bits),
                may_send,
            }
        } else if bits & CLASSIC != 0 {
            EcnTerms::Classic { may_send }
        } else {
            EcnTerms::None
        }
    }
}

const ACCURATE: u8 = 0x8;
const MAY_SEND: u8 = 0x4;
/// Where the codepoint of the SYN is with [`ACCURATE`].
const CLASSIC: u8 = 0x1;

#[cfg(test)]
mod tests {
    use super::*;

    const CODEPOINTS: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    fn of_syn(ace: u8, accept: EcnLevel) -> EcnTerms {
        EcnTerms::of_syn(TcpFlags::SYN.with_ace(ace), Ecn::Ect0, accept)
    }

    fn accurate(syn: Ecn) -> EcnTerms {
        EcnTerms::Accurate {
            syn,
            may_send: true,
        }
    }

    const CLASSIC_TERMS: EcnTerms = EcnTerms::Classic { may_send: true };

    /// RFC 9768 table 2, first and third block, and section 3.1.3.
    #[test]
    fn a_syn_is_answered_by_what_it_asks_for() {
        for ace in 0..8 {
            let expected = match ace {
                0b000 => EcnTerms::None,
                0b011 => CLASSIC_TERMS,
                _ => accurate(Ecn::Ect0),
            };
            assert_eq!(of_syn(ace, EcnLevel::Accurate), expected, "{ace:03b}");
            assert_eq!(of_syn(ace, EcnLevel::Off), EcnTerms::None);
        }
    }

    /// RFC 3168 section 6.1.1, for which AE is a reserved bit.
    #[test]
    fn without_accurate_ecn_only_both_classic_flags_are_an_offer() {
        for ace in 0..8 {
            let expected = match ace {
                0b011 | 0b111 => CLASSIC_TERMS,
                _ => EcnTerms::None,
            };
            assert_eq!(of_syn(ace, EcnLevel::Classic), expected, "{ace:03b}");
        }
    }

    /// RFC 9768 table 2, first, second and fourth block.
    #[test]
    fn a_syn_ack_says_how_the_syn_arrived() {
        let of = |ace| EcnTerms::of_syn_ack(TcpFlags::SYN.with_ace(ace), EcnLevel::Accurate, false);
        let mangled = |syn| EcnTerms::Accurate {
            syn,
            may_send: false,
        };
        let expected = [
            EcnTerms::None,
            CLASSIC_TERMS,
            accurate(Ecn::NotEct),
            mangled(Ecn::Ect1),
            mangled(Ecn::Ect0),
            accurate(Ecn::NotEct),
            mangled(Ecn::Ce),
            EcnTerms::None,
        ];
        for (ace, expected) in (0..8).zip(expected) {
            assert_eq!(of(ace), expected, "{ace:03b}");
        }
    }

    /// RFC 3168 section 6.1.1.
    #[test]
    fn a_classic_offer_is_taken_by_ece_alone() {
        for ace in 0..8 {
            let flags = TcpFlags::SYN.with_ace(ace);
            let expected = if ace & 0b011 == 0b001 {
                CLASSIC_TERMS
            } else {
                EcnTerms::None
            };
            let of = |level| EcnTerms::of_syn_ack(flags, level, false);
            assert_eq!(of(EcnLevel::Classic), expected, "{ace:03b}");
            assert_eq!(of(EcnLevel::Off), EcnTerms::None);
        }
    }

    /// RFC 3168 section 6.1.1, RFC 9768 section 3.1.4.1.
    #[test]
    fn after_a_syn_without_the_offer_only_accurate_ecn_sends_ect() {
        let of = |ace, level| EcnTerms::of_syn_ack(TcpFlags::SYN.with_ace(ace), level, true);
        assert!(of(0b010, EcnLevel::Accurate).may_send());
        assert!(!of(0b001, EcnLevel::Accurate).may_send());
        assert!(!of(0b001, EcnLevel::Classic).may_send());
    }

    /// RFC 9768 sections 3.1.4.1 and 3.2.3.2.2, RFC 3168 section 6.1.1.1.
    #[test]
    fn repeats_fall_back_to_no_ecn() {
        let syn = |level| [0, 1, 2, 7].map(|repeats| syn_flags(level, repeats).ace());
        assert_eq!(syn(EcnLevel::Accurate), [0b111, 0b111, 0, 0]);
        assert_eq!(syn(EcnLevel::Classic), [0b011, 0, 0, 0]);
        assert_eq!(syn(EcnLevel::Off), [0; 4]);
        let terms = accurate(Ecn::Ect1);
        let syn_ack = [0, 1, 2, 5].map(|repeats| terms.syn_ack_flags(repeats).ace());
        assert_eq!(syn_ack, [0b011, 0b011, 0, 0]);
        let may_send = [0, 1, 2, 5].map(|repeats| terms.after_repeats(repeats).may_send());
        assert_eq!(may_send, [true, true, false, false]);
    }

    /// RFC 9768 section 3.1.5.
    #[test]
    fn the_first_syn_decides_whatever_follows() {
        let again = |terms: EcnTerms, ace, ecn| {
            terms.on_repeated_syn(TcpFlags::SYN.with_ace(ace), ecn, EcnLevel::Accurate)
        };
        for ace in 0..8 {
            assert_eq!(again(EcnTerms::None, ace, Ecn::Ce), Ok(EcnTerms::None));
        }
        let first = accurate(Ecn::NotEct);
        assert_eq!(again(first, 0b111, Ecn::Ce), Ok(accurate(Ecn::Ce)));
        assert_eq!(again(first, 0b011, Ecn::Ce), Err(Contradiction));
        let plain = again(first, 0b000, Ecn::Ect1).unwrap();
        assert!(plain.is_accurate() && !plain.may_send());
        assert_eq!(plain.syn_ack_flags(0).ace(), handshake_ace(Ecn::Ect1));
        let later = again(plain, 0b111, Ecn::NotEct).unwrap();
        assert!(!later.may_send(), "once is enough");
        let classic = again(CLASSIC_TERMS, 0b000, Ecn::NotEct);
        assert_eq!(classic, Ok(EcnTerms::Classic { may_send: false }));
        assert_eq!(classic.unwrap().syn_ack_flags(0), TcpFlags::EMPTY);
        assert_eq!(again(CLASSIC_TERMS, 0b111, Ecn::NotEct), Err(Contradiction));
    }

    /// RFC 9768 section 5.1.
    #[test]
    fn the_ack_of_a_cookie_tells_of_accurate_ecn() {
        for ace in 0..8 {
            let of = |data, level| {
                EcnTerms::of_cookie_ack(TcpFlags::ACK.with_ace(ace), data, level).is_accurate()
            };
            assert_eq!(of(false, EcnLevel::Accurate), ace >= 2, "{ace}");
            assert_eq!(of(true, EcnLevel::Accurate), ace >= 4, "{ace}");
            assert!(!of(false, EcnLevel::Classic) && !of(true, EcnLevel::Off));
        }
    }

    #[test]
    fn codepoints_survive_the_handshake_encoding_and_the_table() {
        for codepoint in CODEPOINTS {
            assert_eq!(arrived_by(handshake_ace(codepoint)), Some(codepoint));
            for may_send in [false, true] {
                for terms in [
                    EcnTerms::None,
                    EcnTerms::Classic { may_send },
                    EcnTerms::Accurate {
                        syn: codepoint,
                        may_send,
                    },
                ] {
                    assert_eq!(EcnTerms::from_bits(terms.to_bits()), terms);
                }
            }
        }
    }
}
