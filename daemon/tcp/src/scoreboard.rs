//! What the peer holds of what we sent, and what follows about loss (RFC 6675 sections 3 and 4).
//!
//! A bounded set of SACKed ranges above SND.UNA. Everything not SACKed below `lost_below` counts as lost;
//! `retransmitted_below` is HighRxt. Both are offsets, so no per-segment record is needed. Peers that send no
//! SACK are handled by the same two numbers: the caller moves `lost_below` segment by segment (RFC 6582).

use core::ops::Range;

use crate::ranges::RangeSet;

/// SACKed ranges remembered. Beyond that new ranges are ignored, as if the peer had not reported them, so the
/// work per acknowledgement stays bounded (CVE-2019-11477/8).
const RANGES_MAX: usize = 64;

/// Duplicate acknowledgements, or SACKed ranges above a hole, that prove a loss (RFC 6675 section 2).
pub(crate) const DUP_THRESH: u32 = 3;

/// SACK scoreboard of one connection, in stream offsets.
#[derive(Debug)]
pub(crate) struct Scoreboard {
    sacked: RangeSet<RANGES_MAX>,
    lost_below: u64,
    retransmitted_below: u64,
}

impl Scoreboard {
    pub(crate) fn new() -> Self {
        Scoreboard {
            sacked: RangeSet::new(),
            lost_below: 0,
            retransmitted_below: 0,
        }
    }

    /// Whether nothing is SACKed and nothing is lost: the usual case, and a cheap test.
    pub(crate) fn is_clean(&self, snd_una: u64) -> bool {
        self.sacked.is_empty() && self.lost_below <= snd_una
    }

    /// Adds a SACKed range; true if any byte of it was news.
    pub(crate) fn mark(&mut self, range: Range<u64>) -> bool {
        let before = self.sacked.covered_bytes();
        self.sacked.insert(range).is_ok() && self.sacked.covered_bytes() > before
    }

    /// SND.UNA moved.
    pub(crate) fn advance(&mut self, snd_una: u64) {
        if !self.sacked.is_empty() {
            self.sacked.remove_below(snd_una);
        }
    }

    /// The peer discarded what it had SACKed (reneging, RFC 2018 section 8).
    pub(crate) fn forget(&mut self) {
        self.sacked.clear();
    }

    pub(crate) fn is_sacked(&self, offset: u64) -> bool {
        self.sacked.contains(offset)
    }

    /// IsLost of RFC 6675 section 4 for all holes at once: a hole is lost when DupThresh ranges, or more than
    /// (DupThresh - 1) segments' worth of bytes, are SACKed above it.
    pub(crate) fn detect_loss(&mut self, smss: u32) -> bool {
        let mut ranges = 0;
        let mut bytes = 0;
        for range in self.sacked.iter().rev() {
            ranges += 1;
            bytes += range.end - range.start;
            if ranges >= DUP_THRESH || bytes > u64::from((DUP_THRESH - 1) * smss) {
                let grown = range.start > self.lost_below;
                self.lost_below = self.lost_below.max(range.start);
                return grown;
            }
        }
        false
    }

    /// Declares everything below `offset` that is not SACKed lost.
    pub(crate) fn lose_below(&mut self, offset: u64) {
        self.lost_below = self.lost_below.max(offset);
    }

    /// Nothing has been retransmitted since `snd_una`: the start of a recovery, or of the next attempt.
    pub(crate) fn restart_retransmission(&mut self, snd_una: u64) {
        self.retransmitted_below = snd_una;
    }

    /// Nothing is lost any more: the end of a recovery.
    pub(crate) fn clear_loss(&mut self, snd_una: u64) {
        self.lost_below = snd_una;
        self.retransmitted_below = snd_una;
    }

    /// NextSeg rule 1 (RFC 6675 section 4): the first lost range that was not sent again yet.
    pub(crate) fn next_lost(&self, snd_una: u64) -> Option<Range<u64>> {
        self.next_hole(snd_una, self.lost_below)
    }

    /// NextSeg rule 3: the first hole below what is SACKed that was not sent again yet, lost or not.
    pub(crate) fn next_suspect(&self, snd_una: u64) -> Option<Range<u64>> {
        self.next_hole(snd_una, self.sacked.last()?.end)
    }

    /// NextSeg rule 4: the last `len` bytes below SND.NXT, if nothing of them is SACKed.
    pub(crate) fn tail(&self, snd_una: u64, snd_nxt: u64, len: u32) -> Option<Range<u64>> {
        let floor = self.sacked.last().map_or(snd_una, |range| range.end);
        let start = floor.max(snd_nxt.saturating_sub(u64::from(len)));
        (start < snd_nxt).then_some(start..snd_nxt)
    }

    fn next_hole(&self, snd_una: u64, limit: u64) -> Option<Range<u64>> {
        let mut at = self.retransmitted_below.max(snd_una);
        for range in self.sacked.iter() {
            if at < range.start {
                break;
            }
            at = at.max(range.end);
        }
        let end = self
            .sacked
            .iter()
            .map(|range| range.start)
            .find(|start| *start > at)
            .map_or(limit, |start| start.min(limit));
        (at < end).then_some(at..end)
    }

    /// HighRxt moves to the end of what was sent again.
    pub(crate) fn on_retransmitted(&mut self, end: u64) {
        self.retransmitted_below = self.retransmitted_below.max(end);
    }

    /// Pipe (RFC 6675 section 4): bytes believed to be in the network. What was sent again counts once more.
    pub(crate) fn pipe(&self, snd_una: u64, snd_nxt: u64) -> u64 {
        let outstanding = snd_nxt.saturating_sub(snd_una);
        if self.is_clean(snd_una) {
            return outstanding;
        }
        let sacked = self.sacked.covered_bytes();
        let lost = self.holes_below(snd_una, self.lost_below.min(snd_nxt));
        let again = self.holes_below(snd_una, self.retransmitted_below.min(snd_nxt));
        (outstanding + again).saturating_sub(sacked + lost)
    }

    /// Bytes in `[snd_una, end)` that are not SACKed.
    fn holes_below(&self, snd_una: u64, end: u64) -> u64 {
        let mut holes = end.saturating_sub(snd_una);
        for range in self.sacked.iter() {
            if range.start >= end {
                break;
            }
            holes = holes.saturating_sub(range.end.min(end) - range.start);
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMSS: u32 = 1000;

    fn sacked(ranges: &[Range<u64>]) -> Scoreboard {
        let mut board = Scoreboard::new();
        for range in ranges {
            board.mark(range.clone());
        }
        board
    }

    #[test]
    fn three_sacked_ranges_above_a_hole_prove_its_loss() {
        let mut board = sacked(&[1000..1100, 1200..1300]);
        assert!(!board.detect_loss(SMSS));
        board.mark(1400..1500);
        assert!(board.detect_loss(SMSS));
        assert_eq!(board.next_lost(0), Some(0..1000));
    }

    #[test]
    fn more_than_two_segments_of_bytes_prove_a_loss() {
        let mut board = sacked(&[std::ops::Range {
            start: 1000,
            end: 3000,
        }]);
        assert!(!board.detect_loss(SMSS));
        board.mark(3000..3001);
        assert!(board.detect_loss(SMSS));
    }

    #[test]
    fn a_hole_above_the_proof_is_not_lost_yet() {
        let mut board = sacked(&[1000..5000, 6000..6100]);
        assert!(board.detect_loss(SMSS));
        assert_eq!(board.next_lost(0), Some(0..1000));
        board.on_retransmitted(1000);
        assert_eq!(board.next_lost(0), None);
    }

    #[test]
    fn pipe_counts_neither_sacked_nor_lost_but_what_was_sent_again() {
        // RFC 6675 section 4, SetPipe.
        let mut board = sacked(std::slice::from_ref(&(1000..5000)));
        assert_eq!(board.pipe(0, 6000), 2000);
        assert!(board.detect_loss(SMSS));
        assert_eq!(board.pipe(0, 6000), 1000);
        board.on_retransmitted(600);
        assert_eq!(board.pipe(0, 6000), 1600);
    }

    #[test]
    fn a_hole_that_is_not_lost_yet_is_suspected_and_counted_twice_when_sent_again() {
        // RFC 6675 section 4, NextSeg rule 3 and SetPipe.
        let mut board = sacked(&[1000..5000, 6000..6100]);
        assert!(board.detect_loss(SMSS));
        board.on_retransmitted(1000);
        assert_eq!(board.pipe(0, 7000), 2900);
        assert_eq!(board.next_suspect(0), Some(5000..6000));
        board.on_retransmitted(6000);
        assert_eq!(board.next_suspect(0), None);
        assert_eq!(board.pipe(0, 7000), 3900);
    }

    #[test]
    fn the_tail_is_what_no_sack_covers() {
        // RFC 6675 section 4, NextSeg rule 4.
        let board = sacked(std::slice::from_ref(&(1000..5000)));
        assert_eq!(board.tail(0, 5500, SMSS), Some(5000..5500));
        assert_eq!(board.tail(0, 9000, SMSS), Some(8000..9000));
        assert_eq!(board.tail(0, 5000, SMSS), None);
    }

    #[test]
    fn a_time_out_loses_all_that_is_not_sacked() {
        let mut board = sacked(std::slice::from_ref(&(2000..3000)));
        board.lose_below(5000);
        board.restart_retransmission(0);
        assert_eq!(board.pipe(0, 5000), 0);
        assert_eq!(board.next_lost(0), Some(0..2000));
        board.on_retransmitted(2000);
        assert_eq!(board.next_lost(0), Some(3000..5000));
    }
}
