//! Taking back a reduction that was not deserved: the segments that were called lost were late.
//!
//! A recovery keeps a copy of congestion control from before its reduction and collects evidence:
//!
//! * *Eifel* (RFC 3522): the acknowledgement of a segment that this recovery sent again echoes a timestamp from
//!   before its first retransmission, so it was the original that arrived;
//! * *nothing sent again*: what was called lost is acknowledged before its first retransmission has left, because the
//!   pacer held that back. Where there are no two of it, none has to be told from the other (RFC 3522 section 1);
//! * *DSACK* (RFC 3708): the peer has reported every byte that was sent again as a duplicate;
//! * *F-RTO* (RFC 5682 section 3.1): after a time-out, the peer acknowledges or SACKs bytes that were sent
//!   before it and never again. To make that visible, two new segments leave instead of further repetitions once
//!   the first repetition is acknowledged. A peer without SACK shows the same by moving on (section 2.1) with the echo
//!   of an original, or without timestamps as far as the time-out: what it had kept behind a second hole it could
//!   acknowledge piece by piece as well (section 6).
//!
//! What follows from the evidence (RFC 4015: restore cwnd and ssthresh, tolerate more reordering) is the
//! caller's.

use core::ops::Range;

use crate::clock::Instant;
use crate::congestion::Controller;

/// The reduction that could be taken back, if any.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    /// Congestion control before the reduction.
    before: Option<Controller>,
    /// SND.UNA at the begin: older duplicates are no evidence.
    marker: u64,
    /// Acknowledgements beyond this end the search for evidence.
    expires_at: u64,
    /// Bytes sent again that no DSACK has reported.
    unreported: u64,
    /// When the first retransmission left, in milliseconds: the grain of timestamps.
    first_sent_ms: Option<u64>,
}

impl Undo {
    /// A recovery begins, before the reduction.
    pub(crate) fn begin(&mut self, controller: &Controller, snd_una: u64) {
        *self = Undo {
            before: Some(*controller),
            marker: snd_una,
            expires_at: u64::MAX,
            unreported: 0,
            first_sent_ms: None,
        };
    }

    pub(crate) fn is_open(&self) -> bool {
        self.before.is_some()
    }

    /// `len` bytes were sent again.
    pub(crate) fn on_retransmitted(&mut self, len: u64, now: Instant) {
        if self.is_open() {
            self.unreported += len;
            self.first_sent_ms.get_or_insert(now.as_millis());
        }
    }

    /// The peer has `range` twice. True if that is because something was sent again; the network duplicates
    /// segments too.
    pub(crate) fn on_dsack(&mut self, range: &Range<u64>) -> bool {
        let ours = self.is_open() && self.has_sent_again() && range.start >= self.marker;
        if ours {
            self.unreported = self.unreported.saturating_sub(range.end - range.start);
        }
        ours
    }

    /// Everything that was sent again was a duplicate.
    pub(crate) fn is_all_duplicates(&self) -> bool {
        self.is_open() && self.has_sent_again() && self.unreported == 0
    }

    /// An acknowledgement of new data echoes `echoed_ms`, our clock in milliseconds: it was an original that
    /// brought it about. `sent_again_at`: when the byte at SND.UNA was sent again that it acknowledges, because what
    /// filled that place is what the peer echoes (RFC 7323 section 4.3).
    ///
    /// On a path that loses much one recovery follows the other, and acknowledgements of what the last one sent again
    /// arrive in the next: they echo something older than all of its retransmissions, and are no evidence.
    pub(crate) fn is_echo_older(
        &self,
        echoed_ms: Option<u64>,
        sent_again_at: Option<Instant>,
    ) -> bool {
        let (Some(first), Some(echo), Some(at)) = (self.first_sent_ms, echoed_ms, sent_again_at)
        else {
            return false;
        };
        self.is_open() && at.as_millis() >= first && echo < first
    }

    /// Whether this recovery has sent anything again. If not, what arrives of what was called lost is an original.
    pub(crate) fn has_sent_again(&self) -> bool {
        self.first_sent_ms.is_some()
    }

    /// Whether `echoed_ms` is from before the first retransmission. `None` where there is nothing to compare.
    pub(crate) fn is_before_first(&self, echoed_ms: Option<u64>) -> Option<bool> {
        Some(echoed_ms? < self.first_sent_ms?)
    }

    /// Bytes sent again of which nobody knows that they were needed.
    pub(crate) fn unreported(&self) -> u64 {
        self.unreported
    }

    /// No evidence will come any more.
    pub(crate) fn forget(&mut self) {
        self.before = None;
    }

    /// The recovery is over. DSACKs are worth waiting for until what is in flight now has been acknowledged.
    pub(crate) fn recovery_ended(&mut self, snd_nxt: u64) {
        self.expires_at = snd_nxt;
    }

    /// SND.UNA moved.
    pub(crate) fn on_acknowledged(&mut self, snd_una: u64) {
        if snd_una > self.expires_at {
            self.before = None;
        }
    }

    /// The state to return to; only once.
    pub(crate) fn take(&mut self) -> Option<Controller> {
        self.before.take()
    }
}

/// The steps of F-RTO (RFC 5682 section 3.1, and 2.1 without SACK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frto {
    /// Not in use, or decided: conventional recovery.
    Off,
    /// Step 2: the first segment was sent again, its acknowledgement is awaited.
    AwaitFirst,
    /// Step 2b: up to two new segments leave before anything is sent again.
    SendNew {
        /// Those that left.
        sent: u8,
    },
    /// Step 3: the next acknowledgement decides; until then nothing leaves.
    AwaitVerdict,
}

/// New segments of step 2b.
const NEW_SEGMENTS: u8 = 2;

/// What an acknowledgement means to F-RTO.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrtoAck {
    /// It delivers bytes from before the time-out that were never sent again.
    pub original_delivered: bool,
    /// It moves SND.UNA, but not beyond what was sent before the time-out.
    pub advanced: bool,
    /// It delivers something that was not known to be delivered.
    pub delivered: bool,
    /// A duplicate without any SACK block: what provoked it was not kept, or it would be reported.
    pub bare_duplicate: bool,
}

/// What an acknowledgement of a peer without SACK means to F-RTO.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrtoPlainAck {
    /// A duplicate (RFC 5681 section 2).
    pub duplicate: bool,
    /// It moves SND.UNA.
    pub advanced: bool,
    /// Nothing of what was sent again is left behind it.
    pub covers_repeated: bool,
    /// It covers what was sent before the time-out ("recover").
    pub covers_all: bool,
    /// It echoes a timestamp from before the first repetition; `None` if it echoes none.
    pub echoes_original: Option<bool>,
}

impl Frto {
    /// The next step with a peer without SACK (RFC 5682 section 2.1); true if the time-out was spurious.
    pub(crate) fn on_plain_ack(self, ack: FrtoPlainAck) -> (Frto, bool) {
        match self {
            _ if !ack.duplicate && !ack.advanced => (self, false),
            // Step 2b. It may cover more than was sent again: that is what had arrived behind a hole.
            Frto::AwaitFirst if ack.advanced && ack.covers_repeated && !ack.covers_all => {
                (Frto::SendNew { sent: 0 }, false)
            }
            // Step 2a.
            Frto::Off | Frto::AwaitFirst => (Frto::Off, false),
            // Step 3a.
            Frto::SendNew { .. } | Frto::AwaitVerdict if ack.duplicate => (Frto::Off, false),
            // Step 3: what moves it on was not sent again. It need not have come only now: the receiver may have had it
            // behind the first hole, and have split its acknowledgement. That of an original echoes an original; without
            // timestamps a second hole would stop it before "recover" (RFC 5682 section 6).
            Frto::SendNew { .. } | Frto::AwaitVerdict => match ack.echoes_original {
                Some(of_original) => (Frto::Off, of_original),
                None if ack.covers_all => (Frto::Off, true),
                None => (self.go_on(), false),
            },
        }
    }

    /// Each acknowledgement that proves nothing yet lets one more new segment out.
    fn go_on(self) -> Frto {
        match self {
            Frto::AwaitVerdict => Frto::SendNew {
                sent: NEW_SEGMENTS - 1,
            },
            _ => self,
        }
    }

    /// The next step; true if the time-out was spurious.
    pub(crate) fn on_ack(self, ack: FrtoAck) -> (Frto, bool) {
        match self {
            Frto::Off => (Frto::Off, false),
            _ if ack.original_delivered => (Frto::Off, true),
            Frto::AwaitFirst if ack.advanced => (Frto::SendNew { sent: 0 }, false),
            // Step 3a: it tells of new data or repetitions only. A receiver that keeps nothing out of order tells of
            // nothing at all, and to wait for more would be to wait for the next time-out.
            Frto::SendNew { .. } | Frto::AwaitVerdict if ack.delivered || ack.bare_duplicate => {
                (Frto::Off, false)
            }
            _ => (self, false),
        }
    }

    /// A new segment left.
    pub(crate) fn on_new_segment(self) -> Frto {
        match self {
            Frto::SendNew { sent } if sent + 1 < NEW_SEGMENTS => Frto::SendNew { sent: sent + 1 },
            Frto::SendNew { .. } => Frto::AwaitVerdict,
            _ => self,
        }
    }

    /// No (further) new segment can leave: without any there will be no evidence.
    pub(crate) fn on_nothing_new(self) -> Frto {
        match self {
            Frto::SendNew { sent: 0 } => Frto::Off,
            Frto::SendNew { .. } => Frto::AwaitVerdict,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Algorithm;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn open() -> Undo {
        let mut undo = Undo::default();
        undo.begin(&Controller::new(Algorithm::NewReno, 1000), 10_000);
        undo
    }

    #[test]
    fn duplicates_of_all_that_was_sent_again_are_evidence() {
        // RFC 3708 section 3.2.
        let mut undo = open();
        assert!(!undo.is_all_duplicates(), "nothing was sent again yet");
        undo.on_retransmitted(1000, at(5));
        undo.on_retransmitted(500, at(6));
        assert!(undo.on_dsack(&(10_000..11_000)));
        assert!(!undo.is_all_duplicates());
        assert!(!undo.on_dsack(&(9000..9500)));
        assert!(!undo.is_all_duplicates(), "of an earlier recovery");
        assert!(undo.on_dsack(&(11_000..11_500)));
        assert!(undo.is_all_duplicates());
        assert!(undo.take().is_some());
        assert!(!undo.is_all_duplicates(), "once");
    }

    #[test]
    fn an_echo_from_before_the_first_retransmission_is_evidence() {
        // RFC 3522 section 3.2, steps 3 to 5.
        let mut undo = open();
        assert!(!undo.is_echo_older(Some(4), Some(at(5))));
        undo.on_retransmitted(1000, at(5));
        undo.on_retransmitted(1000, at(8));
        assert!(undo.is_echo_older(Some(4), Some(at(5))));
        assert!(undo.is_echo_older(Some(4), Some(at(8))));
        assert!(!undo.is_echo_older(Some(5), Some(at(5))));
        assert!(!undo.is_echo_older(None, Some(at(5))));
    }

    #[test]
    fn what_was_sent_again_is_known_from_the_first_repetition_on() {
        let mut undo = open();
        assert!(!undo.has_sent_again());
        undo.on_retransmitted(1000, at(5));
        assert!(undo.has_sent_again());
        undo.begin(&Controller::new(Algorithm::NewReno, 1000), 20_000);
        assert!(!undo.has_sent_again(), "by this recovery");
    }

    #[test]
    fn an_echo_of_what_an_earlier_recovery_sent_again_is_no_evidence() {
        // RFC 3522 section 3.2: the acknowledgement has to be that of what was sent again.
        let mut undo = open();
        undo.on_retransmitted(1000, at(5));
        assert!(!undo.is_echo_older(Some(4), Some(at(4))));
        assert!(!undo.is_echo_older(Some(4), None), "never sent again");
    }

    #[test]
    fn evidence_is_awaited_for_one_more_flight() {
        let mut undo = open();
        undo.on_acknowledged(50_000);
        undo.recovery_ended(60_000);
        undo.on_acknowledged(60_000);
        assert!(undo.is_open());
        undo.on_acknowledged(60_001);
        assert!(!undo.is_open());
    }

    fn ack(original_delivered: bool, advanced: bool, delivered: bool) -> FrtoAck {
        FrtoAck {
            original_delivered,
            advanced,
            delivered,
            bare_duplicate: false,
        }
    }

    #[test]
    fn originals_that_arrive_after_the_time_out_show_it_was_spurious() {
        // RFC 5682 section 3.1, step 3b.
        let (step, spurious) = Frto::AwaitFirst.on_ack(ack(false, true, true));
        assert_eq!((step, spurious), (Frto::SendNew { sent: 0 }, false));
        let waiting = step.on_new_segment().on_new_segment();
        assert_eq!(waiting, Frto::AwaitVerdict);
        assert_eq!(waiting.on_ack(ack(true, true, true)), (Frto::Off, true));
    }

    #[test]
    fn an_acknowledgement_of_new_data_only_means_the_loss_was_real() {
        // RFC 5682 section 3.1, step 3a.
        let waiting = Frto::AwaitVerdict;
        assert_eq!(waiting.on_ack(ack(false, false, false)), (waiting, false));
        assert_eq!(waiting.on_ack(ack(false, false, true)), (Frto::Off, false));
    }

    #[test]
    fn a_duplicate_that_reports_nothing_means_the_loss_was_real() {
        // RFC 5682 section 3.1, step 3: a duplicate applies, too.
        let bare = FrtoAck {
            bare_duplicate: true,
            ..ack(false, false, false)
        };
        assert_eq!(Frto::AwaitFirst.on_ack(bare), (Frto::AwaitFirst, false));
        assert_eq!(Frto::AwaitVerdict.on_ack(bare), (Frto::Off, false));
        let sending = Frto::SendNew { sent: 1 };
        assert_eq!(sending.on_ack(bare), (Frto::Off, false));
    }

    #[test]
    fn without_new_data_there_is_no_evidence_to_wait_for() {
        // RFC 5682 section 3.1, step 2b.
        assert_eq!(Frto::SendNew { sent: 0 }.on_nothing_new(), Frto::Off);
        assert_eq!(
            Frto::SendNew { sent: 1 }.on_nothing_new(),
            Frto::AwaitVerdict
        );
    }

    #[test]
    fn duplicates_before_the_first_acknowledgement_decide_nothing() {
        // RFC 5682 section 3.1, step 2.
        let step = Frto::AwaitFirst;
        assert_eq!(step.on_ack(ack(false, false, true)), (step, false));
    }

    fn plain(advanced: bool) -> FrtoPlainAck {
        FrtoPlainAck {
            duplicate: !advanced,
            advanced,
            covers_repeated: true,
            covers_all: false,
            echoes_original: None,
        }
    }

    const STEP_3: [Frto; 3] = [
        Frto::SendNew { sent: 0 },
        Frto::SendNew { sent: 1 },
        Frto::AwaitVerdict,
    ];

    #[test]
    fn without_sack_an_acknowledgement_that_advances_by_an_original_shows_it_was_spurious() {
        // RFC 5682 section 2.1, steps 2b, 3a and 3b; RFC 3522 section 3.2 for what an original is.
        let first = Frto::AwaitFirst.on_plain_ack(plain(true));
        assert_eq!(first, (Frto::SendNew { sent: 0 }, false));
        for of_original in [true, false] {
            let echoing = FrtoPlainAck {
                echoes_original: Some(of_original),
                ..plain(true)
            };
            for waiting in STEP_3 {
                assert_eq!(waiting.on_plain_ack(echoing), (Frto::Off, of_original));
                assert_eq!(waiting.on_plain_ack(plain(false)), (Frto::Off, false));
            }
        }
    }

    #[test]
    fn without_timestamps_nothing_less_than_all_of_the_flight_shows_it_was_spurious() {
        // RFC 5682 section 6: what was kept behind the first hole may be acknowledged in pieces.
        let all = FrtoPlainAck {
            covers_all: true,
            ..plain(true)
        };
        for waiting in STEP_3 {
            let (next, spurious) = waiting.on_plain_ack(plain(true));
            assert!(!spurious && matches!(next, Frto::SendNew { .. }));
            assert_eq!(waiting.on_plain_ack(all), (Frto::Off, true));
        }
        let (next, _) = Frto::AwaitVerdict.on_plain_ack(plain(true));
        assert_eq!(next.on_nothing_new(), Frto::AwaitVerdict);
        assert_eq!(next.on_new_segment(), Frto::AwaitVerdict, "one for each");
    }

    #[test]
    fn without_sack_a_first_acknowledgement_that_tells_nothing_ends_the_test() {
        // RFC 5682 section 2.1, step 2a.
        let short = FrtoPlainAck {
            covers_repeated: false,
            ..plain(true)
        };
        let all = FrtoPlainAck {
            covers_all: true,
            ..plain(true)
        };
        for ack in [plain(false), short, all] {
            assert_eq!(Frto::AwaitFirst.on_plain_ack(ack), (Frto::Off, false));
        }
    }

    #[test]
    fn what_neither_advances_nor_is_a_duplicate_decides_nothing() {
        let nothing = FrtoPlainAck {
            duplicate: false,
            ..plain(false)
        };
        for step in [Frto::AwaitFirst, Frto::AwaitVerdict] {
            assert_eq!(step.on_plain_ack(nothing), (step, false));
        }
    }
}
