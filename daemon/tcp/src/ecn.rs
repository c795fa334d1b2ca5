//! Explicit congestion notification of one connection (RFC 3168), both halves.
//!
//! As a receiver: CE on data makes every acknowledgement carry ECE until the peer says CWR; DCTCP instead
//! echoes the mark of the newest segment (RFC 8257 section 3.2). As a sender: new data leaves as ECT(0), and
//! nothing else does; ECE asks for one reduction per window, announced by CWR on the next new segment. Who
//! never hears of the first marked flight takes it that the path drops marked packets and goes on without.
//! A SYN that offers AccECN (RFC 9768) also has ECE and CWR set and is answered as this one.

use sluice_wire::{Ecn, TcpFlags};

/// ECE and CWR: an ECN-setup SYN (RFC 3168 section 6.1.1).
const SETUP: TcpFlags = TcpFlags::ECE.union(TcpFlags::CWR);

/// What the echo follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Echo {
    /// From the first CE until CWR.
    UntilCwr,
    /// The newest segment.
    Newest,
}

/// ECN state of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcnState {
    negotiated: bool,
    /// New data leaves as ECT(0).
    marking: bool,
    echo: Echo,
    echoing: bool,
    cwr_wanted: bool,
    /// Congestion of what was sent below this offset has been answered, by whichever kind of reduction.
    answered_until: u64,
    /// The same, but the answer was to an echo: until then the window does not grow.
    held_until: u64,
    /// Something that left as ECT was delivered.
    proven: bool,
    ect_next: bool,
}

/// Whether a SYN with these flags offers ECN (RFC 3168 section 6.1.1).
pub(crate) fn is_offered(syn: TcpFlags) -> bool {
    syn.contains(SETUP)
}

/// What a SYN-ACK adds to its flags if ECN was agreed on: ECE alone.
pub(crate) fn syn_ack_flags(negotiated: bool) -> TcpFlags {
    if negotiated {
        TcpFlags::ECE
    } else {
        TcpFlags::EMPTY
    }
}

impl EcnState {
    /// As the handshake ended.
    pub(crate) fn new(negotiated: bool, dctcp: bool) -> Self {
        EcnState {
            negotiated,
            marking: negotiated,
            echo: if dctcp { Echo::Newest } else { Echo::UntilCwr },
            echoing: false,
            cwr_wanted: false,
            answered_until: 0,
            held_until: 0,
            proven: false,
            ect_next: false,
        }
    }

    pub(crate) fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// What every segment with an acknowledgement adds, except a SYN-ACK.
    pub(crate) fn ack_flags(&self) -> TcpFlags {
        if self.echoing {
            TcpFlags::ECE
        } else {
            TcpFlags::EMPTY
        }
    }

    /// An acceptable segment with payload arrived. True if the peer should hear at once: DCTCP must not
    /// blur which bytes were marked (RFC 8257 section 3.2).
    pub(crate) fn on_data(&mut self, ecn: Ecn, flags: TcpFlags) -> bool {
        if !self.negotiated {
            return false;
        }
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

    /// Data was delivered: marked packets pass.
    pub(crate) fn on_delivered(&mut self) {
        self.proven |= self.marking;
    }

    /// Whether an acknowledgement with these flags says ECE, to a sender who marks.
    pub(crate) fn is_echo(&self, flags: TcpFlags) -> bool {
        self.negotiated && flags.contains(TcpFlags::ECE)
    }

    /// Whether an echo was answered less than a window ago: then neither growth nor another reduction
    /// (RFC 3168 section 6.1.2).
    pub(crate) fn is_holding(&self, snd_una: u64) -> bool {
        snd_una < self.held_until
    }

    /// Whether an echo now is about a window whose congestion was answered already.
    pub(crate) fn is_answered(&self, snd_una: u64) -> bool {
        snd_una < self.answered_until
    }

    /// The window was reduced for an echo.
    pub(crate) fn on_reduced_by_echo(&mut self, snd_nxt: u64) {
        self.held_until = snd_nxt;
        self.on_reduced_by_loss(snd_nxt);
    }

    /// The window was reduced for a loss. The peer hears of it all the same (RFC 3168 section 6.1.2).
    pub(crate) fn on_reduced_by_loss(&mut self, snd_nxt: u64) {
        self.answered_until = snd_nxt;
        self.cwr_wanted = self.negotiated;
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

    /// New data leaves: its extra flags. [`Self::take_ect`] then says how it is marked.
    pub(crate) fn on_new_data(&mut self) -> TcpFlags {
        self.ect_next = self.marking;
        if core::mem::take(&mut self.cwr_wanted) {
            TcpFlags::CWR
        } else {
            TcpFlags::EMPTY
        }
    }

    /// Whether the segment that was just cut leaves as ECT(0).
    pub(crate) fn take_ect(&mut self) -> bool {
        core::mem::take(&mut self.ect_next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated() -> EcnState {
        EcnState::new(true, false)
    }

    /// RFC 3168 section 6.1.1.
    #[test]
    fn only_a_syn_with_both_flags_is_an_offer() {
        assert!(is_offered(SETUP.union(TcpFlags::SYN)));
        for flags in [TcpFlags::SYN, TcpFlags::ECE, TcpFlags::CWR] {
            assert!(!is_offered(flags.union(TcpFlags::SYN)));
        }
    }

    /// RFC 3168 section 6.1.3.
    #[test]
    fn a_mark_is_echoed_until_cwr() {
        let mut state = negotiated();
        assert!(!state.on_data(Ecn::Ect0, TcpFlags::ACK));
        assert_eq!(state.ack_flags(), TcpFlags::EMPTY);
        state.on_data(Ecn::Ce, TcpFlags::ACK);
        state.on_data(Ecn::Ect0, TcpFlags::ACK);
        assert_eq!(state.ack_flags(), TcpFlags::ECE);
        state.on_data(Ecn::Ect0, TcpFlags::ACK.union(TcpFlags::CWR));
        assert_eq!(state.ack_flags(), TcpFlags::EMPTY);
        state.on_data(Ecn::Ce, TcpFlags::ACK.union(TcpFlags::CWR));
        assert_eq!(state.ack_flags(), TcpFlags::ECE, "marked again");
    }

    /// RFC 8257 section 3.2.
    #[test]
    fn dctcp_echoes_the_newest_segment_and_says_so_at_once() {
        let mut state = EcnState::new(true, true);
        assert!(state.on_data(Ecn::Ce, TcpFlags::ACK));
        assert!(!state.on_data(Ecn::Ce, TcpFlags::ACK));
        assert_eq!(state.ack_flags(), TcpFlags::ECE);
        assert!(state.on_data(Ecn::Ect0, TcpFlags::ACK));
        assert_eq!(state.ack_flags(), TcpFlags::EMPTY);
    }

    /// RFC 3168 sections 6.1.2 and 6.1.5.
    #[test]
    fn a_reduction_is_announced_once_on_new_data() {
        let mut state = negotiated();
        assert!(state.is_echo(TcpFlags::ACK.union(TcpFlags::ECE)));
        state.on_reduced_by_echo(5_000);
        assert!(state.is_holding(4_999) && !state.is_holding(5_000));
        assert!(state.is_answered(4_999) && !state.is_answered(5_000));
        assert_eq!(state.on_new_data(), TcpFlags::CWR);
        assert!(state.take_ect());
        assert!(!state.take_ect(), "a retransmission after it is not marked");
        assert_eq!(state.on_new_data(), TcpFlags::EMPTY);
    }

    #[test]
    fn a_time_out_lets_the_window_grow_again_but_answers_old_echoes() {
        let mut state = negotiated();
        state.on_reduced_by_echo(5_000);
        state.on_time_out(8_000);
        assert!(!state.is_holding(1_000));
        assert!(state.is_answered(7_999));
    }

    #[test]
    fn a_first_flight_that_vanishes_ends_marking() {
        let mut state = negotiated();
        let _ = state.on_new_data();
        assert!(state.on_time_out(1_000));
        let _ = state.on_new_data();
        assert!(!state.take_ect());
        assert!(!state.on_time_out(1_000), "said once");

        let mut state = negotiated();
        state.on_delivered();
        assert!(!state.on_time_out(1_000));
        let _ = state.on_new_data();
        assert!(state.take_ect());
    }

    #[test]
    fn without_the_handshake_marks_and_echoes_mean_nothing() {
        let mut state = EcnState::new(false, false);
        state.on_data(Ecn::Ce, TcpFlags::ACK);
        assert_eq!(state.ack_flags(), TcpFlags::EMPTY);
        assert!(!state.is_echo(TcpFlags::ECE));
        state.on_reduced_by_loss(1_000);
        assert_eq!(state.on_new_data(), TcpFlags::EMPTY);
    }
}
