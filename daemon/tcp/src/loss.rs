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
    /// It moved SND.UNA.
    pub advanced: bool,
    /// It is a duplicate in the sense of RFC 5681 section 2, or brought new SACK information.
    pub duplicate: bool,
    /// Sender's MSS in bytes.
    pub smss: u32,
}

/// Loss state of one connection.
#[derive(Debug)]
pub(crate) struct Loss {
    board: Scoreboard,
    phase: Phase,
    duplicates: u32,
    sack: bool,
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
            first_goes_at_once: false,
        }
    }

    /// A SACKed range inside `[snd_una, snd_nxt)`; true if it is news.
    pub(crate) fn on_sack(&mut self, range: Range<u64>) -> bool {
        self.sack && self.board.mark(range)
    }

    /// After SND.UNA and the scoreboard were updated.
    pub(crate) fn on_ack(&mut self, ack: AckSeen) -> Verdict {
        if ack.advanced {
            self.board.advance(ack.snd_una);
            self.duplicates = 0;
        } else if ack.duplicate {
            self.duplicates += 1;
        }
        match self.phase {
            Phase::Open => self.on_ack_open(ack),
            Phase::Fast { until } => self.on_ack_fast(ack, until),
            Phase::Timeout { until } => {
                if ack.snd_una >= until {
                    self.close(ack.snd_una);
                }
                Verdict::Grow
            }
        }
    }

    fn on_ack_open(&mut self, ack: AckSeen) -> Verdict {
        if self.board.is_clean(ack.snd_una) && self.duplicates < DUP_THRESH {
            return Verdict::Grow;
        }
        let proven = self.sack && self.board.detect_loss(ack.smss);
        if !proven && self.duplicates < DUP_THRESH {
            return Verdict::Grow;
        }
        self.phase = Phase::Fast { until: ack.snd_nxt };
        self.board.restart_retransmission(ack.snd_una);
        self.board.lose_below(self.first_segment_end(&ack));
        self.first_goes_at_once = true;
        Verdict::Reduce
    }

    fn on_ack_fast(&mut self, ack: AckSeen, until: u64) -> Verdict {
        if ack.snd_una >= until {
            self.close(ack.snd_una);
            return Verdict::Hold;
        }
        if self.sack {
            self.board.detect_loss(ack.smss);
        } else if ack.advanced {
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

    fn close(&mut self, snd_una: u64) {
        self.phase = Phase::Open;
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
    /// says that one segment has left (RFC 5681 section 3.2, step 4).
    pub(crate) fn pipe(&self, snd_una: u64, snd_nxt: u64, smss: u32) -> u64 {
        let pipe = self.board.pipe(snd_una, snd_nxt);
        if self.sack {
            pipe
        } else {
            pipe.saturating_sub(u64::from(self.duplicates) * u64::from(smss))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(snd_una: u64, advanced: bool) -> AckSeen {
        AckSeen {
            snd_una,
            snd_nxt: 10_000,
            advanced,
            duplicate: !advanced,
            smss: 1000,
        }
    }

    #[test]
    fn third_duplicate_enters_recovery_once() {
        // RFC 5681 section 3.2; RFC 6675 section 5.
        let mut loss = Loss::new(false);
        assert_eq!(loss.on_ack(ack(0, false)), Verdict::Grow);
        assert_eq!(loss.on_ack(ack(0, false)), Verdict::Grow);
        assert_eq!(loss.on_ack(ack(0, false)), Verdict::Reduce);
        assert_eq!(loss.on_ack(ack(0, false)), Verdict::Hold);
        assert_eq!(loss.next_retransmission(0), Some(0..1000));
    }

    #[test]
    fn partial_acknowledgement_names_the_next_hole() {
        // RFC 6582 section 3.2.
        let mut loss = Loss::new(false);
        for _ in 0..3 {
            let _ = loss.on_ack(ack(0, false));
        }
        loss.on_retransmitted(1000);
        assert_eq!(loss.on_ack(ack(4000, true)), Verdict::Hold);
        assert_eq!(loss.next_retransmission(4000), Some(4000..5000));
        assert_eq!(loss.on_ack(ack(10_000, true)), Verdict::Hold);
        assert_eq!(loss.next_retransmission(10_000), None);
    }

    #[test]
    fn sacked_ranges_prove_the_loss_of_all_holes_below() {
        let mut loss = Loss::new(true);
        assert!(loss.on_sack(1000..2000));
        assert_eq!(loss.on_ack(ack(0, false)), Verdict::Grow);
        assert!(loss.on_sack(3000..4000));
        assert!(loss.on_sack(5000..6000));
        assert_eq!(loss.on_ack(ack(0, false)), Verdict::Reduce);
        assert_eq!(loss.next_retransmission(0), Some(0..1000));
        loss.on_retransmitted(1000);
        assert_eq!(loss.next_retransmission(0), None);
        assert!(loss.on_sack(6000..9000));
        let _ = loss.on_ack(ack(0, false));
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
    fn a_lost_retransmission_is_sent_again_after_the_next_time_out() {
        let mut loss = Loss::new(true);
        assert!(loss.on_timeout(0, 3000));
        loss.on_retransmitted(3000);
        assert_eq!(loss.next_retransmission(0), None);
        assert!(!loss.on_timeout(0, 3000));
        assert_eq!(loss.next_retransmission(0), Some(0..3000));
    }
}
