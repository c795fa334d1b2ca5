//! Loss recovery: when to send again, and what (RFC 6675; RFC 6582 for peers without SACK; RFC 6298
//! section 5 for the time-out).
//!
//! Three phases. *Open*: nothing is known to be lost. *Fast*: a loss was proven by acknowledgements; the
//! window was reduced once and stays until `until` is acknowledged. *Timeout*: the timer fired, everything not
//! SACKed counts as lost and is sent again in slow start. The congestion controller is told by the caller,
//! from the returned [`Verdict`].

use core::ops::Range;

use crate::scoreboard::{DUP_THRESH, Scoreboard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Fast { until: u64 },
    Timeout { until: u64 },
}

/// What an acknowledgement means for the congestion window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The window may grow by what was acknowledged.
    Grow,
    /// A loss was proven: reduce the window now.
    Reduce,
    /// A recovery is under way: the window stays.
    Hold,
}

/// An acknowledgement as the loss detector sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckSeen {
    /// SND.UNA after it, in stream offsets.
    pub snd_una: u64,
    /// SND.NXT.
    pub snd_nxt: u64,
    /// Bytes by which it moved SND.UNA.
    pub acked: u64,
    /// With SACK: it brought new SACK information (RFC 6675 section 2). Without: it is a duplicate in the sense
    /// of RFC 5681 section 2.
    pub duplicate: bool,
    /// Sender's MSS in bytes.
    pub smss: u32,
}

/// What is sent again on suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suspect {
    /// A hole below what is SACKed.
    Hole(Range<u64>),
    /// The end of what was sent.
    Tail(Range<u64>),
}

/// Loss state of one connection.
#[derive(Debug)]
pub(crate) struct Loss {
    board: Scoreboard,
    phase: Phase,
    duplicates: u32,
    sack: bool,
    /// End of the last recovery. Without SACK, duplicates up to there are echoes of what was sent again and
    /// prove nothing (RFC 6582 section 3.2, "recover").
    recover: Option<u64>,
    /// The one rescue retransmission of a recovery was used (RFC 6675 section 4, RescueRxt).
    rescued: bool,
    /// The first retransmission of a recovery does not wait for the window (RFC 6675 section 5, step 4.3).
    first_goes_at_once: bool,
}

impl Loss {
    pub(crate) fn new(sack: bool) -> Self {
        Loss {
            board: Scoreboard::new(),
            phase: Phase::Open,
            duplicates: 0,
            sack,
            recover: None,
            rescued: false,
            first_goes_at_once: false,
        }
    }

    /// A SACKed range inside `[snd_una, snd_nxt)`; true if it is news.
    pub(crate) fn on_sack(&mut self, range: Range<u64>) -> bool {
        self.sack && self.board.mark(range)
    }

    /// After SND.UNA and the scoreboard were updated.
    pub(crate) fn on_ack(&mut self, ack: AckSeen) -> Verdict {
        if ack.acked > 0 {
            self.board.advance(ack.snd_una);
            self.forget_duplicates(&ack);
        } else if ack.duplicate {
            self.duplicates = self.duplicates.saturating_add(1);
        }
        match self.phase {
            Phase::Open => self.on_ack_open(ack),
            Phase::Fast { until } => self.on_ack_fast(ack, until),
            Phase::Timeout { until } => {
                if ack.snd_una >= until {
                    self.close(ack.snd_una, until);
                }
                Verdict::Grow
            }
        }
    }

    /// Duplicates below the new SND.UNA are spent. In recovery those of segments above stay: the
    /// acknowledgement covers one segment that was sent again, and others that had been duplicates.
    fn forget_duplicates(&mut self, ack: &AckSeen) {
        self.duplicates = match self.phase {
            Phase::Fast { .. } => {
                let segments = ack.acked.div_ceil(u64::from(ack.smss.max(1)));
                let spent = u32::try_from(segments - 1).unwrap_or(u32::MAX);
                self.duplicates.saturating_sub(spent)
            }
            Phase::Open | Phase::Timeout { .. } => 0,
        };
    }

    fn on_ack_open(&mut self, ack: AckSeen) -> Verdict {
        if self.board.is_clean(ack.snd_una) && self.duplicates < DUP_THRESH {
            return Verdict::Grow;
        }
        let proven = if self.sack {
            self.board.detect_loss(ack.smss) || self.duplicates >= DUP_THRESH
        } else {
            self.duplicates >= DUP_THRESH && self.recover.is_none_or(|end| ack.snd_una > end)
        };
        if !proven {
            return Verdict::Grow;
        }
        self.phase = Phase::Fast { until: ack.snd_nxt };
        self.rescued = false;
        self.board.restart_retransmission(ack.snd_una);
        self.board.lose_below(self.first_segment_end(&ack));
        self.first_goes_at_once = true;
        Verdict::Reduce
    }

    fn on_ack_fast(&mut self, ack: AckSeen, until: u64) -> Verdict {
        if ack.snd_una >= until {
            self.close(ack.snd_una, until);
            return Verdict::Hold;
        }
        if self.sack {
            self.board.detect_loss(ack.smss);
        } else if ack.acked > 0 {
            // A partial acknowledgement names the next hole (RFC 6582 section 3.2, step 3).
            self.board.restart_retransmission(ack.snd_una);
            self.board.lose_below(self.first_segment_end(&ack));
            self.first_goes_at_once = true;
        }
        Verdict::Hold
    }

    fn first_segment_end(&self, ack: &AckSeen) -> u64 {
        (ack.snd_una + u64::from(ack.smss)).min(ack.snd_nxt)
    }

    fn close(&mut self, snd_una: u64, until: u64) {
        self.phase = Phase::Open;
        self.recover = Some(until);
        self.duplicates = 0;
        self.first_goes_at_once = false;
        self.board.clear_loss(snd_una);
    }

    /// The retransmission timer fired. True if this is the first time-out of an episode, which lowers
    /// ssthresh; further ones do not (RFC 5681 section 3.1).
    pub(crate) fn on_timeout(&mut self, snd_una: u64, snd_nxt: u64) -> bool {
        let first = !matches!(self.phase, Phase::Timeout { .. });
        if self.board.is_sacked(snd_una) {
            // The peer SACKed what it now wants again: it reneged (RFC 2018 section 8).
            self.board.forget();
        }
        self.phase = Phase::Timeout { until: snd_nxt };
        self.duplicates = 0;
        self.board.lose_below(snd_nxt);
        self.board.restart_retransmission(snd_una);
        self.first_goes_at_once = true;
        first
    }

    /// The range to send again next, if any.
    pub(crate) fn next_retransmission(&self, snd_una: u64) -> Option<Range<u64>> {
        if self.phase == Phase::Open {
            return None;
        }
        self.board.next_lost(snd_una)
    }

    /// What to send again in a fast recovery when nothing is known to be lost and nothing new can leave: a hole
    /// below what is SACKed, and once per recovery the tail that no SACK can vouch for (RFC 6675 section 4,
    /// NextSeg rules 3 and 4).
    pub(crate) fn next_suspect(&self, snd_una: u64, snd_nxt: u64, smss: u32) -> Option<Suspect> {
        if !self.sack || !matches!(self.phase, Phase::Fast { .. }) {
            return None;
        }
        if let Some(range) = self.board.next_suspect(snd_una) {
            return Some(Suspect::Hole(range));
        }
        let tail = self.board.tail(snd_una, snd_nxt, smss);
        tail.filter(|_| !self.rescued).map(Suspect::Tail)
    }

    /// The tail was sent again. HighRxt stays (RFC 6675 section 4, NextSeg rule 4).
    pub(crate) fn on_rescued(&mut self) {
        self.rescued = true;
    }

    /// Whether the next retransmission ignores the congestion window.
    pub(crate) fn goes_at_once(&self) -> bool {
        self.first_goes_at_once
    }

    pub(crate) fn on_retransmitted(&mut self, end: u64) {
        self.first_goes_at_once = false;
        self.board.on_retransmitted(end);
    }

    /// Whether the current recovery began with a time-out.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self.phase, Phase::Timeout { .. })
    }

    /// Bytes believed to be in the network (RFC 6675 section 4). Without SACK each duplicate acknowledgement
    /// says that one segment has left (RFC 5681 section 3.2, step 4; RFC 3042 for the first two).
    pub(crate) fn pipe(&self, snd_una: u64, snd_nxt: u64, smss: u32) -> u64 {
        let pipe = self.board.pipe(snd_una, snd_nxt);
        let left = u64::from(self.duplicates) * u64::from(smss);
        match self.phase {
            _ if self.sack => pipe,
            Phase::Open => pipe.saturating_sub(left),
            // A receiver that invents duplicates must not get more out of it than the flight in which the loss
            // happened (RFC 5681 section 5).
            Phase::Fast { until } => pipe.saturating_sub(left.min(until.saturating_sub(snd_una))),
            Phase::Timeout { .. } => pipe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An acknowledgement of `acked` bytes up to `snd_una`; a duplicate if that is none.
    fn ack(snd_una: u64, acked: u64) -> AckSeen {
        AckSeen {
            snd_una,
            snd_nxt: 10_000,
            acked,
            duplicate: acked == 0,
            smss: 1000,
        }
    }

    #[test]
    fn third_duplicate_enters_recovery_once() {
        // RFC 5681 section 3.2; RFC 6675 section 5.
        let mut loss = Loss::new(false);
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Grow);
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Grow);
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Reduce);
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Hold);
        assert_eq!(loss.next_retransmission(0), Some(0..1000));
    }

    #[test]
    fn partial_acknowledgement_names_the_next_hole() {
        // RFC 6582 section 3.2.
        let mut loss = Loss::new(false);
        for _ in 0..3 {
            let _ = loss.on_ack(ack(0, 0));
        }
        loss.on_retransmitted(1000);
        assert_eq!(loss.on_ack(ack(4000, 4000)), Verdict::Hold);
        assert_eq!(loss.next_retransmission(4000), Some(4000..5000));
        assert_eq!(loss.on_ack(ack(10_000, 6000)), Verdict::Hold);
        assert_eq!(loss.next_retransmission(10_000), None);
    }

    #[test]
    fn sacked_ranges_prove_the_loss_of_all_holes_below() {
        let mut loss = Loss::new(true);
        assert!(loss.on_sack(1000..2000));
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Grow);
        assert!(loss.on_sack(3000..4000));
        assert!(loss.on_sack(5000..6000));
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Reduce);
        assert_eq!(loss.next_retransmission(0), Some(0..1000));
        loss.on_retransmitted(1000);
        assert_eq!(loss.next_retransmission(0), None);
        assert!(loss.on_sack(6000..9000));
        let _ = loss.on_ack(ack(0, 0));
        assert_eq!(loss.next_retransmission(0), Some(2000..3000));
    }

    #[test]
    fn time_out_sends_everything_again_that_is_not_sacked() {
        let mut loss = Loss::new(true);
        assert!(loss.on_sack(2000..3000));
        assert!(loss.on_timeout(0, 5000));
        assert!(!loss.on_timeout(0, 5000));
        assert_eq!(loss.next_retransmission(0), Some(0..2000));
        loss.on_retransmitted(2000);
        assert_eq!(loss.next_retransmission(0), Some(3000..5000));
    }

    #[test]
    fn reneging_is_noticed_at_the_time_out() {
        // RFC 2018 section 8.
        let mut loss = Loss::new(true);
        assert!(loss.on_sack(0..2000));
        assert!(loss.on_timeout(0, 5000));
        assert_eq!(loss.next_retransmission(0), Some(0..5000));
    }

    #[test]
    fn duplicates_without_sack_information_prove_nothing_to_a_sack_sender() {
        // RFC 6675 section 2: duplicated packets cause such acknowledgements too.
        let mut loss = Loss::new(true);
        let plain = AckSeen {
            duplicate: false,
            ..ack(0, 0)
        };
        for _ in 0..5 {
            assert_eq!(loss.on_ack(plain), Verdict::Grow);
        }
    }

    #[test]
    fn duplicates_right_after_a_recovery_are_its_echo() {
        // RFC 6582 section 3.2: only acknowledgements beyond "recover" count.
        let mut loss = Loss::new(false);
        assert!(loss.on_timeout(0, 10_000));
        let _ = loss.on_ack(ack(10_000, 10_000));
        for _ in 0..4 {
            let echo = AckSeen {
                snd_nxt: 20_000,
                ..ack(10_000, 0)
            };
            assert_eq!(loss.on_ack(echo), Verdict::Grow);
        }
        let mut later = AckSeen {
            snd_nxt: 20_000,
            ..ack(11_000, 1000)
        };
        let _ = loss.on_ack(later);
        (later.acked, later.duplicate) = (0, true);
        assert_eq!(loss.on_ack(later), Verdict::Grow);
        assert_eq!(loss.on_ack(later), Verdict::Grow);
        assert_eq!(loss.on_ack(later), Verdict::Reduce);
    }

    #[test]
    fn invented_duplicates_gain_no_more_than_the_flight_of_the_loss() {
        // RFC 5681 section 5.
        let mut loss = Loss::new(false);
        for _ in 0..1000 {
            let _ = loss.on_ack(ack(0, 0));
        }
        assert_eq!(loss.pipe(0, 15_000, 1000), 4000);
    }

    #[test]
    fn a_partial_acknowledgement_keeps_the_duplicates_above_it() {
        // RFC 6582 section 3.2, step 3: deflate by what was acknowledged, add one segment.
        let mut loss = Loss::new(false);
        for _ in 0..8 {
            let _ = loss.on_ack(ack(0, 0));
        }
        loss.on_retransmitted(1000);
        assert_eq!(loss.pipe(0, 10_000, 1000), 2000);
        let _ = loss.on_ack(ack(1000, 1000));
        assert_eq!(loss.pipe(1000, 10_000, 1000), 0);
        loss.on_retransmitted(2000);
        assert_eq!(loss.pipe(1000, 10_000, 1000), 1000);
    }

    #[test]
    fn a_recovery_with_nothing_better_to_send_repeats_holes_and_once_the_tail() {
        // RFC 6675 section 4, NextSeg rules 3 and 4.
        let mut loss = Loss::new(true);
        for range in [1000..2000, 3000..4000, 5000..6000] {
            assert!(loss.on_sack(range));
        }
        assert_eq!(loss.on_ack(ack(0, 0)), Verdict::Reduce);
        loss.on_retransmitted(1000);
        let suspect = |loss: &Loss| loss.next_suspect(0, 10_000, 1000);
        assert_eq!(suspect(&loss), Some(Suspect::Hole(2000..3000)));
        loss.on_retransmitted(3000);
        assert_eq!(suspect(&loss), Some(Suspect::Hole(4000..5000)));
        loss.on_retransmitted(5000);
        assert_eq!(suspect(&loss), Some(Suspect::Tail(9000..10_000)));
        loss.on_rescued();
        assert_eq!(suspect(&loss), None);
    }

    #[test]
    fn a_lost_retransmission_is_sent_again_after_the_next_time_out() {
        let mut loss = Loss::new(true);
        assert!(loss.on_timeout(0, 3000));
        loss.on_retransmitted(3000);
        assert_eq!(loss.next_retransmission(0), None);
        assert!(!loss.on_timeout(0, 3000));
        assert_eq!(loss.next_retransmission(0), Some(0..3000));
    }
}
