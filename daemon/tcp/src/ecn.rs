//! Explicit congestion notification of one connection, both halves: RFC 3168, and RFC 9768 where both ends know it.
//!
//! As a receiver it says what arrived marked: classic ECN makes every acknowledgement carry ECE until the peer says
//! CWR (with DCTCP it echoes the mark of the newest segment, RFC 8257 section 3.2), accurate ECN counts, see
//! [`crate::accecn`]. As a sender: new data leaves as ECT(0), and nothing else does; a reported mark asks for one
//! reduction per window, which classic ECN announces by CWR on the next new segment. Until the peer has acknowledged
//! that, its echo is the one that was answered. Who never hears of the first marked flight takes it that the path drops
//! marked packets and goes on without. What both ends agree on is decided in [`crate::ecn_terms`].

use sluice_wire::{AccEcnOption, Ecn, TcpFlags, TcpHeader};

use crate::accecn::{AccEcn, Report, longest_stretch};
use crate::ack_run::Acks;
use crate::ecn_terms::{EcnLevel, EcnTerms, arrived_by, syn_flags};

mod rest;

pub(crate) use rest::RestingEcn;

/// What the echo follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Echo {
    /// From the first CE until CWR.
    UntilCwr,
    /// The newest segment.
    Newest,
}

/// Classic feedback, both halves.
#[derive(Clone, Copy, Debug)]
struct Classic {
    echo: Echo,
    echoing: bool,
    cwr_wanted: bool,
}

/// How marks are fed back.
#[derive(Clone, Copy, Debug)]
enum Feedback {
    None,
    Classic(Classic),
    Accurate(AccEcn),
}

/// Marks that an acknowledgement reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Marks {
    /// At least one packet. Classic feedback does not say how many: one then.
    pub packets: u32,
    /// Bytes that met congestion; with classic feedback all that the acknowledgement covers (RFC 8257 section 3.3).
    pub bytes: u32,
}

impl Marks {
    pub(crate) fn any(&self) -> bool {
        self.packets > 0 || self.bytes > 0
    }
}

/// An acceptable segment, as far as marks on it matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub ecn: Ecn,
    pub flags: TcpFlags,
    pub payload_len: u32,
    /// Of so many packets was it merged on its way: 1 if it was not.
    pub packets: u32,
    /// Data waits for an acknowledgement.
    pub awaits_ack: bool,
}

/// An acknowledgement, as far as the marks that it reports depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckOfEct<'a> {
    pub header: &'a TcpHeader,
    /// Bytes by which it moved SND.UNA, and bytes that it delivered.
    pub acked: u64,
    pub delivered: u64,
    /// One that acknowledges more came before it.
    pub is_overtaken: bool,
    /// How many acknowledgements it stands for.
    pub acks: Acks,
    /// Its timestamp is newer than all before it.
    pub is_newer: bool,
    pub smss: u32,
}

/// ECN state of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcnState {
    feedback: Feedback,
    terms: EcnTerms,
    /// What our SYN offers, while it waits for an answer.
    offered: EcnLevel,
    /// A SYN of ours left without the offer.
    withdrawn: bool,
    /// New data leaves as ECT(0).
    marking: bool,
    /// Something that left as ECT was delivered.
    proven: bool,
    ect_next: bool,
    /// What acknowledges less than this is about congestion that has been answered, by whichever kind of reduction.
    answered_until: u64,
    /// What was sent below this offset met congestion that was told by an echo: until then the window does not grow.
    held_until: u64,
}

impl EcnState {
    /// As the handshake ended.
    pub(crate) fn new(terms: EcnTerms, dctcp: bool) -> Self {
        EcnState {
            feedback: match terms {
                EcnTerms::None => Feedback::None,
                EcnTerms::Classic { .. } => Feedback::Classic(Classic {
                    echo: if dctcp { Echo::Newest } else { Echo::UntilCwr },
                    echoing: false,
                    cwr_wanted: false,
                }),
                EcnTerms::Accurate { .. } => Feedback::Accurate(AccEcn::new()),
            },
            terms,
            offered: EcnLevel::Off,
            withdrawn: false,
            marking: terms.may_send(),
            proven: false,
            ect_next: false,
            answered_until: 0,
            held_until: 0,
        }
    }

    /// While a SYN of ours that offers `level` waits for its answer.
    pub(crate) fn offering(level: EcnLevel) -> Self {
        EcnState {
            offered: level,
            ..EcnState::new(EcnTerms::None, false)
        }
    }

    pub(crate) fn is_negotiated(&self) -> bool {
        !matches!(self.feedback, Feedback::None)
    }

    pub(crate) fn is_accurate(&self) -> bool {
        matches!(self.feedback, Feedback::Accurate(_))
    }

    /// Whether new data leaves as ECT(0).
    pub(crate) fn is_marking(&self) -> bool {
        self.marking
    }

    /// The flags of our SYN after `repeats` by the timer.
    pub(crate) fn syn_flags(&mut self, repeats: u8) -> TcpFlags {
        let flags = match self.withdrawn {
            true => TcpFlags::EMPTY,
            false => syn_flags(self.offered, repeats),
        };
        // It may still be the answer to an earlier one that comes.
        self.withdrawn |= flags == TcpFlags::EMPTY;
        flags
    }

    /// SYNs go without the offer from now on. False if the one sent last did so already.
    pub(crate) fn withdraw_offer(&mut self, repeats: u8) -> bool {
        let was_offered = self.syn_flags(repeats) != TcpFlags::EMPTY;
        self.withdrawn = true;
        was_offered
    }

    /// What the answer to our SYN agrees to.
    pub(crate) fn terms_of(&self, syn_ack: TcpFlags) -> EcnTerms {
        EcnTerms::of_syn_ack(syn_ack, self.offered, self.withdrawn)
    }

    /// The flags of a SYN-ACK after `repeats` by the timer.
    pub(crate) fn syn_ack_flags(&self, repeats: u8) -> TcpFlags {
        self.terms.syn_ack_flags(repeats)
    }

    /// The SYN-ACK that answers our SYN, or repeats that answer. True if it says that our SYN was marked.
    pub(crate) fn on_syn_ack(&mut self, header: &TcpHeader, ecn: Ecn) -> bool {
        let Feedback::Accurate(accurate) = &mut self.feedback else {
            return false;
        };
        accurate.reporter.on_syn_ack(ecn);
        accurate.reporter.want_option();
        if let Some(option) = &header.options.accecn {
            accurate.reader.see_option(option);
        }
        matches!(self.terms, EcnTerms::Accurate { syn: Ecn::Ce, .. })
    }

    /// Whether a SYN-ACK that comes again is to be acknowledged as one (RFC 9768 section 3.2.2.1).
    pub(crate) fn on_syn_ack_again(&mut self, flags: TcpFlags, ecn: Ecn) {
        if let Feedback::Accurate(accurate) = &mut self.feedback
            && EcnTerms::of_syn_ack(flags, EcnLevel::Accurate, false).is_accurate()
        {
            accurate.reporter.on_syn_ack(ecn);
        }
    }

    /// The first acknowledgement of our SYN-ACK, which was ECN-capable in no case (RFC 9768 table 4). True if it
    /// says that it arrived marked.
    pub(crate) fn on_final_ack(&mut self, header: &TcpHeader, payload_len: u32) -> bool {
        let Feedback::Accurate(accurate) = &mut self.feedback else {
            return false;
        };
        if payload_len > 0 || !header.options.sack.is_empty() {
            return false;
        }
        accurate.reader.take_ace();
        let ace = header.flags.ace();
        let arrived = arrived_by(ace);
        if ace == 0 {
            accurate.reader.ignore_all();
        }
        if arrived == Some(Ecn::Ce) {
            accurate.reader.on_marked_syn_ack();
        }
        self.marking &= ace != 0 && arrived.is_none_or(|ecn| ecn == Ecn::NotEct);
        arrived == Some(Ecn::Ce)
    }

    /// Packets with AccECN options seem to be dropped on their way.
    pub(crate) fn stop_options(&mut self) {
        if let Feedback::Accurate(accurate) = &mut self.feedback {
            accurate.reporter.stop_options();
        }
    }

    /// A pure ACK has to leave before any data.
    pub(crate) fn owes_handshake_ack(&self) -> bool {
        match &self.feedback {
            Feedback::Accurate(accurate) => accurate.reporter.owes_handshake_ack(),
            _ => false,
        }
    }

    /// `flags` of a segment that leaves with an acknowledgement, SYN-ACKs excepted, and what they say of marks.
    pub(crate) fn on_ack_leaves(&mut self, flags: TcpFlags) -> TcpFlags {
        match &mut self.feedback {
            Feedback::Classic(classic) if classic.echoing => flags.union(TcpFlags::ECE),
            Feedback::None | Feedback::Classic(_) => flags,
            Feedback::Accurate(accurate) => flags.with_ace(accurate.reporter.ace()),
        }
    }

    /// The same for a pure ACK, after [`Self::on_ack_leaves`]. One with SACK blocks speaks to a peer that has sent data,
    /// so it has had the ACK of its SYN-ACK: none is owed any more, and the field is the counter (RFC 9768 section
    /// 3.2.2.1).
    pub(crate) fn on_pure_ack_leaves(
        &mut self,
        flags: TcpFlags,
        has_sack_blocks: bool,
    ) -> TcpFlags {
        match &mut self.feedback {
            Feedback::Accurate(accurate) => match accurate.reporter.take_handshake_ace() {
                Some(ace) if !has_sack_blocks => flags.with_ace(ace),
                _ => flags,
            },
            _ => flags,
        }
    }

    /// The AccECN option of a segment that leaves, if it has something to say and `room` bytes are enough.
    pub(crate) fn option(&mut self, room: usize) -> Option<AccEcnOption> {
        match &mut self.feedback {
            Feedback::Accurate(accurate) => accurate.reporter.option(room),
            _ => None,
        }
    }

    /// An acceptable segment arrived. True if the peer should hear at once: DCTCP must not blur which bytes were
    /// marked (RFC 8257 section 3.2), and a counter of three bits goes round (RFC 9768 section 3.2.2.5.1).
    pub(crate) fn on_segment(&mut self, arrived: &Arrived) -> bool {
        match &mut self.feedback {
            Feedback::None => false,
            // Only data is ever ECN-capable: a mark on anything else is forged (RFC 3168 section 6.1.4).
            Feedback::Classic(_) if arrived.payload_len == 0 => false,
            Feedback::Classic(classic) => classic.on_data(arrived.ecn, arrived.flags),
            Feedback::Accurate(accurate) => accurate.reporter.on_packet(
                arrived.ecn,
                arrived.payload_len,
                arrived.packets,
                arrived.awaits_ack,
            ),
        }
    }

    /// Data was delivered: marked packets pass.
    pub(crate) fn on_delivered(&mut self) {
        self.proven |= self.marking;
    }

    /// What an acknowledgement says. With feedback that cannot be, our packets are not ECN-capable any more, which
    /// the second value tells.
    pub(crate) fn on_ack(&mut self, ack: &AckOfEct<'_>) -> (Marks, bool) {
        let none = Marks::default();
        match &mut self.feedback {
            Feedback::None => (none, false),
            // What was overtaken left the peer before it may have heard CWR.
            Feedback::Classic(_)
                if ack.is_overtaken || !ack.header.flags.contains(TcpFlags::ECE) =>
            {
                (none, false)
            }
            Feedback::Classic(_) => (
                Marks {
                    packets: 1,
                    bytes: u32::try_from(ack.acked).unwrap_or(u32::MAX),
                },
                false,
            ),
            Feedback::Accurate(accurate) => {
                let reading = accurate.reader.on_ack(&Report {
                    ace: ack.header.flags.ace(),
                    option: ack.header.options.accecn.as_ref(),
                    delivered: ack.delivered,
                    acks: ack.acks,
                    is_newer: ack.is_newer,
                    smss: ack.smss,
                });
                let stops = reading.mangled && self.marking;
                self.marking &= !reading.mangled;
                let marks = Marks {
                    packets: reading.packets,
                    bytes: reading.bytes,
                };
                (marks, stops)
            }
        }
    }

    /// Most bytes between two acknowledgements of which one may stand for both.
    pub(crate) fn longest_stretch(&self, smss: u32) -> u32 {
        match &self.feedback {
            Feedback::None | Feedback::Classic(_) => u32::MAX,
            Feedback::Accurate(_) => longest_stretch(smss),
        }
    }

    /// Whether an echo was answered less than a window ago: then neither growth nor another reduction
    /// (RFC 3168 section 6.1.2).
    pub(crate) fn is_holding(&self, snd_una: u64) -> bool {
        snd_una < self.held_until
    }

    /// Whether an echo now is about a window whose congestion was answered already: an acknowledgement of all that had
    /// left by then still is, and so is all that comes before the peer can have heard CWR.
    pub(crate) fn is_answered(&self, snd_una: u64) -> bool {
        self.owes_cwr() || snd_una < self.answered_until
    }

    fn owes_cwr(&self) -> bool {
        matches!(&self.feedback, Feedback::Classic(classic) if classic.cwr_wanted)
    }

    /// The window was reduced for an echo.
    pub(crate) fn on_reduced_by_echo(&mut self, snd_nxt: u64) {
        self.held_until = snd_nxt;
        self.on_reduced_by_loss(snd_nxt);
    }

    /// The window was reduced for a loss. A classic peer hears of it all the same (RFC 3168 section 6.1.2).
    pub(crate) fn on_reduced_by_loss(&mut self, snd_nxt: u64) {
        self.answered_until = snd_nxt + 1;
        if let Feedback::Classic(classic) = &mut self.feedback {
            classic.cwr_wanted = true;
        }
    }

    /// A time-out, with everything sent so far ending at `snd_nxt`. True if it ends ECN: nothing of what left
    /// marked has ever been acknowledged.
    pub(crate) fn on_time_out(&mut self, snd_nxt: u64) -> bool {
        // Slow start follows, and it must not wait for the acknowledgement of what is lost.
        self.held_until = 0;
        self.on_reduced_by_loss(snd_nxt);
        let ends = self.marking && !self.proven;
        self.marking &= self.proven;
        ends
    }

    /// New data leaves that begins at `start`: its extra flags. [`Self::take_ect`] then says how it is marked.
    pub(crate) fn on_new_data(&mut self, start: u64) -> TcpFlags {
        self.ect_next = self.marking;
        // Under AccECN the bit belongs to the counter.
        if let Feedback::Classic(classic) = &mut self.feedback
            && core::mem::take(&mut classic.cwr_wanted)
        {
            self.answered_until = self.answered_until.max(start + 1);
            return TcpFlags::CWR;
        }
        TcpFlags::EMPTY
    }

    /// Whether the next new segment says something that those behind it do not: CWR, and with `room` beside its
    /// payload an option.
    pub(crate) fn marks_next(&self, room: usize) -> bool {
        match &self.feedback {
            Feedback::None => false,
            Feedback::Classic(classic) => classic.cwr_wanted,
            Feedback::Accurate(accurate) => room > 0 && accurate.reporter.has_option(),
        }
    }

    /// Whether the segment that was just cut leaves as ECT(0).
    pub(crate) fn take_ect(&mut self) -> bool {
        core::mem::take(&mut self.ect_next)
    }

    /// Marked packets and bytes that arrived, then those that the peer has reported; zero but with AccECN.
    pub(crate) fn totals(&self) -> ((u32, u32), (u32, u32)) {
        match &self.feedback {
            Feedback::Accurate(accurate) => {
                (accurate.reporter.received(), accurate.reader.reported())
            }
            _ => ((0, 0), (0, 0)),
        }
    }
}

impl Classic {
    fn on_data(&mut self, ecn: Ecn, flags: TcpFlags) -> bool {
        let before = self.echoing;
        let marked = ecn == Ecn::Ce;
        match self.echo {
            Echo::Newest => self.echoing = marked,
            // CWR first: its own segment may have been marked again.
            Echo::UntilCwr => {
                self.echoing = marked || (self.echoing && !flags.contains(TcpFlags::CWR));
            }
        }
        self.echo == Echo::Newest && self.echoing != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSIC: EcnTerms = EcnTerms::Classic { may_send: true };

    fn negotiated() -> EcnState {
        EcnState::new(CLASSIC, false)
    }

    fn data(state: &mut EcnState, ecn: Ecn, flags: TcpFlags) -> bool {
        state.on_segment(&Arrived {
            ecn,
            flags,
            payload_len: 1000,
            packets: 1,
            awaits_ack: true,
        })
    }

    fn echoes(state: &mut EcnState) -> bool {
        state.on_ack_leaves(TcpFlags::ACK).contains(TcpFlags::ECE)
    }

    fn is_echo(state: &mut EcnState, flags: TcpFlags) -> bool {
        let header = TcpHeader {
            flags,
            ..TcpHeader::default()
        };
        let ack = AckOfEct {
            header: &header,
            acked: 1000,
            delivered: 1000,
            is_overtaken: false,
            acks: Acks::ONE,
            is_newer: true,
            smss: 1000,
        };
        state.on_ack(&ack).0.any()
    }

    /// RFC 3168 section 6.1.3.
    #[test]
    fn a_mark_is_echoed_until_cwr() {
        let mut state = negotiated();
        assert!(!data(&mut state, Ecn::Ect0, TcpFlags::ACK));
        assert!(!echoes(&mut state));
        data(&mut state, Ecn::Ce, TcpFlags::ACK);
        data(&mut state, Ecn::Ect0, TcpFlags::ACK);
        assert!(echoes(&mut state));
        data(&mut state, Ecn::Ect0, TcpFlags::ACK.union(TcpFlags::CWR));
        assert!(!echoes(&mut state));
        data(&mut state, Ecn::Ce, TcpFlags::ACK.union(TcpFlags::CWR));
        assert!(echoes(&mut state), "marked again");
    }

    /// RFC 8257 section 3.2.
    #[test]
    fn dctcp_echoes_the_newest_segment_and_says_so_at_once() {
        let mut state = EcnState::new(CLASSIC, true);
        assert!(data(&mut state, Ecn::Ce, TcpFlags::ACK));
        assert!(!data(&mut state, Ecn::Ce, TcpFlags::ACK));
        assert!(echoes(&mut state));
        assert!(data(&mut state, Ecn::Ect0, TcpFlags::ACK));
        assert!(!echoes(&mut state));
    }

    /// RFC 3168 sections 6.1.2 and 6.1.5.
    #[test]
    fn a_reduction_is_announced_once_on_new_data() {
        let mut state = negotiated();
        assert!(is_echo(&mut state, TcpFlags::ACK.union(TcpFlags::ECE)));
        state.on_reduced_by_echo(5_000);
        assert!(state.is_holding(4_999) && !state.is_holding(5_000));
        assert_eq!(state.on_new_data(5_000), TcpFlags::CWR);
        assert!(state.take_ect());
        assert!(!state.take_ect(), "a retransmission after it is not marked");
        assert_eq!(state.on_new_data(6_000), TcpFlags::EMPTY);
    }

    /// RFC 3168 sections 6.1.2 and 6.1.3.
    #[test]
    fn an_echo_is_answered_once_until_the_peer_has_heard_cwr() {
        let mut state = negotiated();
        assert!(!state.is_answered(0));
        state.on_reduced_by_echo(5_000);
        assert!(state.is_answered(5_000), "all that left before it");
        assert!(state.is_answered(6_000), "a window probe says no CWR");
        assert_eq!(state.on_new_data(6_000), TcpFlags::CWR);
        assert!(state.is_answered(6_000));
        assert!(!state.is_answered(6_001), "it has heard, or lost it");
    }

    /// RFC 3168 section 6.1.3.
    #[test]
    fn an_overtaken_acknowledgement_echoes_nothing() {
        let mut state = negotiated();
        let header = TcpHeader {
            flags: TcpFlags::ACK.union(TcpFlags::ECE),
            ..TcpHeader::default()
        };
        let ack = AckOfEct {
            header: &header,
            acked: 0,
            delivered: 0,
            is_overtaken: true,
            acks: Acks::ONE,
            is_newer: false,
            smss: 1000,
        };
        assert!(!state.on_ack(&ack).0.any());
    }

    /// RFC 3168 section 6.1.2: accurate feedback is no echo, but what it counts may have left before the reduction.
    #[test]
    fn of_accurate_feedback_a_window_is_answered_once() {
        let mut state = EcnState::new(
            EcnTerms::Accurate {
                syn: Ecn::NotEct,
                may_send: true,
            },
            false,
        );
        assert!(!state.is_answered(0));
        state.on_reduced_by_echo(5_000);
        assert!(state.is_answered(5_000) && !state.is_answered(5_001));
    }

    #[test]
    fn a_time_out_lets_the_window_grow_again_but_answers_old_echoes() {
        let mut state = negotiated();
        state.on_reduced_by_echo(5_000);
        state.on_time_out(8_000);
        assert!(!state.is_holding(1_000));
        assert!(state.is_answered(8_000));
    }

    #[test]
    fn a_first_flight_that_vanishes_ends_marking() {
        let mut state = negotiated();
        let _ = state.on_new_data(0);
        assert!(state.on_time_out(1_000));
        let _ = state.on_new_data(1_000);
        assert!(!state.take_ect());
        assert!(!state.on_time_out(1_000), "said once");

        let mut state = negotiated();
        state.on_delivered();
        assert!(!state.on_time_out(1_000));
        let _ = state.on_new_data(1_000);
        assert!(state.take_ect());
    }

    #[test]
    fn without_the_handshake_marks_and_echoes_mean_nothing() {
        let mut state = EcnState::new(EcnTerms::None, false);
        data(&mut state, Ecn::Ce, TcpFlags::ACK);
        assert!(!echoes(&mut state));
        assert!(!is_echo(&mut state, TcpFlags::ACK.union(TcpFlags::ECE)));
        state.on_reduced_by_loss(1_000);
        assert_eq!(state.on_new_data(1_000), TcpFlags::EMPTY);
        assert!(!state.take_ect());
    }

    /// RFC 9768 section 3.1.5: the bit of CWR belongs to the counter.
    #[test]
    fn accurate_ecn_announces_no_reduction() {
        let mut state = EcnState::new(
            EcnTerms::Accurate {
                syn: Ecn::NotEct,
                may_send: true,
            },
            false,
        );
        state.on_reduced_by_echo(5_000);
        assert_eq!(state.on_new_data(5_000), TcpFlags::EMPTY);
        assert!(state.take_ect());
        assert_eq!(state.on_ack_leaves(TcpFlags::ACK).ace(), 5);
    }
}
