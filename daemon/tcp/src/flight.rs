//! What is in flight: when each byte between SND.UNA and SND.NXT left last, and what became of it.
//!
//! The record is a sequence of *runs*, ascending and without gaps: `runs` cover exactly `[start, end())`. A run
//! is one or more neighbouring segments with one fate, one send time and one answer to "was it sent again?".
//! Segments of one batch share a run, and so do segments sent within `grain` of each other (RACK compares times
//! with a quarter of an RTT, so a 32nd of one is exact enough); the run then keeps the *later* time, which can
//! only delay a verdict about it, and the spread, so that it does not hasten one about others. Ranges that are
//! SACKed or lost merge whatever their times. So a window of any size is some dozen runs, a hole costs two, and
//! [`RUNS_MAX`] bounds memory and work per acknowledgement (CVE-2019-11477/8): beyond it SACK blocks that need
//! another run are ignored, as if they had not come.
//!
//! Costs, in runs that are looked at, n of them: a cumulative acknowledgement, and new data, amortised O(1); a SACK
//! block, a retransmission and a verdict about a run amortised O(log n) as long as losses are found in the order of
//! the sequence; a question for verdicts amortised O(1) beside them. What costs O(n) or O(n log n) is named in `board`,
//! and for want of room in `cutting`; n is [`RUNS_MAX`] at most. An insertion moves two bytes for each run behind it.
//! Memory comes from the [`FlightPool`] of the worker, and goes back when nothing is in flight.
//!
//! RFC 8985 section 5.2 (per-segment variables), RFC 6675 section 4 (pipe).

use core::ops::Range;
use core::time::Duration;

use crate::clock::Instant;
use crate::flight_pool::FlightPool;

mod board;
mod cutting;
mod run;

use board::Board;
pub(crate) use board::Node;
use run::{Fate, Run, earlier};

/// Most runs of one connection.
pub(crate) const RUNS_MAX: usize = 512;
/// Runs that SACK blocks leave to new data and retransmissions.
const RESERVE: usize = 4;

/// When something leaves that may not leave at all.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// A round trip is measured where the record's spread is at most this share of it.
const SPREAD_SHARE: u32 = 8;

/// A range that the peer now has, and when it had left last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub range: Range<u64>,
    pub sent_at: Instant,
    /// How much earlier its first segment may have left.
    pub spread: Duration,
    pub retransmitted: bool,
    /// It was proven lost and not sent again since: what arrived had left before, and was late.
    pub held_lost: bool,
}

impl Delivery {
    /// The round trip that its arrival at `now` measures. None for what was sent twice (Karn), nor for a record
    /// that was made so coarse that the time says little.
    pub(crate) fn round_trip(&self, now: Instant) -> Option<Duration> {
        let exact = !self.retransmitted && !self.is_coarse(now);
        exact.then(|| now.saturating_since(self.sent_at))
    }

    /// Whether its record was merged, for want of room, with what left at other times: what arrived at `now` may
    /// have left long before [`Self::sent_at`].
    pub(crate) fn is_coarse(&self, now: Instant) -> bool {
        self.spread > now.saturating_since(self.sent_at) / SPREAD_SHARE
    }

    /// When its first segment left, at the earliest.
    pub(crate) fn earliest(&self) -> Instant {
        let spread = u64::try_from(self.spread.as_nanos()).unwrap_or(u64::MAX);
        earlier(self.sent_at, spread)
    }
}

/// A range in flight, as [`Flight::lose_while`] shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub end: u64,
    pub sent_at: Instant,
}

/// What to do with a range that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Keep,
    Lose,
}

/// The record of one connection. See the module documentation.
#[derive(Debug)]
pub(crate) struct Flight {
    runs: Board,
    /// SND.UNA.
    start: u64,
    sacked_bytes: u64,
    lost_bytes: u64,
    /// When new data left last, and when something was sent again last: the order in which they left is that of the
    /// times in the record, also of what left at one moment of the clock.
    newest: Instant,
    repeated: Instant,
    /// Changes since runs were merged for want of room.
    changes: usize,
}

impl Flight {
    /// Nothing is in flight at SND.UNA = `start`.
    pub(crate) fn new(start: u64) -> Self {
        Flight {
            runs: Board::new(),
            start,
            sacked_bytes: 0,
            lost_bytes: 0,
            newest: Instant::ZERO,
            repeated: Instant::ZERO,
            changes: 0,
        }
    }

    /// SND.NXT, as far as the record knows.
    pub(crate) fn end(&self) -> u64 {
        self.runs.back().map_or(self.start, |run| run.end)
    }

    /// SND.UNA, as far as the record knows.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn sacked_bytes(&self) -> u64 {
        self.sacked_bytes
    }

    pub(crate) fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Bytes that were sent and that the peer is not known to hold.
    pub(crate) fn unsacked_bytes(&self) -> u64 {
        self.end() - self.start - self.sacked_bytes
    }

    /// Pipe (RFC 6675 section 4): bytes believed to be in the network. What was lost and sent again is in it
    /// once, the lost original not any more.
    pub(crate) fn pipe(&self) -> u64 {
        self.unsacked_bytes() - self.lost_bytes
    }

    /// The byte at SND.UNA is SACKed: a peer that still wants it has reneged (RFC 2018 section 8).
    pub(crate) fn is_first_sacked(&self) -> bool {
        self.runs
            .front()
            .is_some_and(|run| run.fate == Fate::Sacked)
    }

    /// The byte at SND.UNA was sent again, whatever became of that (or never left: see [`Self::hold_back`]).
    pub(crate) fn is_first_retransmitted(&self) -> bool {
        self.runs.front().is_some_and(|run| run.retransmitted)
    }

    /// The byte at SND.UNA was sent again and is in flight.
    pub(crate) fn is_first_repeated(&self) -> bool {
        self.runs
            .front()
            .is_some_and(|run| run.fate == Fate::InFlight && run.retransmitted)
    }

    /// Whether DupThresh segments are SACKed: as many separate ranges, or more bytes than fit into fewer
    /// (RFC 6675 section 2).
    pub(crate) fn has_sacked_segments(&self, segments: u32, smss: u32) -> bool {
        self.sacked_bytes > u64::from((segments - 1) * smss)
            || self.runs.sacked() >= segments as usize
    }

    /// New data up to `end` left.
    pub(crate) fn on_sent(
        &mut self,
        end: u64,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        if end <= self.end() {
            return;
        }
        // A run that left partly before and partly after a repetition would make that look late.
        let apart = self.repeated > self.newest;
        self.newest = now.max(self.repeated);
        let run = Run {
            end,
            sent_at: self.newest,
            spread_ns: 0,
            fate: Fate::InFlight,
            retransmitted: false,
        };
        if !apart && self.runs.back().is_some_and(|last| last.joins(&run, grain)) {
            self.runs.extend_last(&run);
            return;
        }
        self.changes = self.changes.saturating_add(1);
        if self.make_room(1, pool) {
            self.runs.push_back(run);
        } else {
            self.absorb(run);
        }
    }

    /// `range`, which is in the record, left again.
    pub(crate) fn on_sent_again(
        &mut self,
        range: &Range<u64>,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        // Without room for another run the whole run counts as sent again: what was not is then found lost
        // once more.
        let (first, next) = self.cut_around(range, pool);
        let now = self.time_of_repetition(now);
        self.changes = self.changes.saturating_add(1);
        self.each(first..next, |flight, index, run, len| {
            if run.fate == Fate::Lost {
                flight.lost_bytes -= len;
            }
            if run.fate != Fate::Sacked {
                flight.runs.update(index, |run| {
                    run.fate = Fate::InFlight;
                    run.leave_again(now);
                });
            }
        });
        self.merge(first, next, grain);
    }

    /// Of two segments of one moment the higher one left later, as far as RACK can see (RFC 8985 section 6.2). That is
    /// not so of one that is sent again after new data.
    fn time_of_repetition(&mut self, now: Instant) -> Instant {
        let after = if self.newest >= now {
            self.newest + Duration::from_nanos(1)
        } else {
            now
        };
        self.repeated = after.max(self.repeated);
        self.repeated
    }

    /// `range`, which is in the record, has not left after all and will later: until [`Self::on_sent_again`] says when,
    /// it counts as sent again at a time that never comes. So it is never lost nor reordered, and measures nothing. Where
    /// there is no room for a run of its own it counts as having left. If it was lost, it is not any more.
    pub(crate) fn hold_back(&mut self, range: &Range<u64>, pool: &mut FlightPool) {
        let (first, next) = self.cut_around(range, pool);
        self.each(first..next, |flight, index, run, len| {
            let is_inside = run.end - len >= range.start && run.end <= range.end;
            if is_inside && run.fate != Fate::Sacked {
                if run.fate == Fate::Lost {
                    flight.lost_bytes -= len;
                }
                flight.runs.update(index, |run| {
                    run.fate = Fate::InFlight;
                    run.leave_again(NEVER);
                });
            }
        });
    }

    /// SND.UNA moves to `una`. `deliver` hears of what was not known to be delivered before, in ascending order.
    pub(crate) fn acknowledge(
        &mut self,
        una: u64,
        pool: &mut FlightPool,
        mut deliver: impl FnMut(Delivery),
    ) {
        while let Some(&run) = self.runs.front() {
            if self.start >= una {
                break;
            }
            let end = run.end.min(una);
            match run.fate {
                Fate::Sacked => self.sacked_bytes -= end - self.start,
                Fate::Lost => self.lost_bytes -= end - self.start,
                Fate::InFlight => {}
            }
            if run.fate != Fate::Sacked {
                deliver(run.delivery(self.start..end));
            }
            self.start = end;
            if end == run.end {
                self.runs.pop_front();
            }
        }
        self.start = self.start.max(una);
        if self.runs.is_empty() {
            self.give_back(pool);
        }
    }

    /// The peer holds `range`. `deliver` hears of what is news, in ascending order.
    pub(crate) fn sack(
        &mut self,
        range: Range<u64>,
        pool: &mut FlightPool,
        mut deliver: impl FnMut(Delivery),
    ) {
        let range = range.start.max(self.start)..range.end.min(self.end());
        if range.is_empty() {
            return;
        }
        let (first, next) = self.cut_within(&range, pool);
        if first >= next {
            return;
        }
        self.each(first..next, |flight, index, run, len| {
            if run.fate == Fate::Lost {
                flight.lost_bytes -= len;
            }
            if run.fate != Fate::Sacked {
                deliver(run.delivery(run.end - len..run.end));
                flight.sacked_bytes += len;
                flight.runs.update(index, |run| run.fate = Fate::Sacked);
            }
        });
        self.merge(first, next, Duration::ZERO);
    }

    /// Everything in `range` that is not SACKed is lost. Runs that cannot be cut are lost whole.
    pub(crate) fn lose(&mut self, range: &Range<u64>, pool: &mut FlightPool) {
        let (first, next) = self.cut_around(range, pool);
        self.each(first..next, |flight, index, run, len| {
            if run.fate == Fate::InFlight {
                flight.lose_run(index, len);
            }
        });
        self.merge(first, next, Duration::ZERO);
    }

    fn lose_run(&mut self, index: usize, len: u64) {
        self.runs.update(index, |run| run.fate = Fate::Lost);
        self.lost_bytes += len;
    }

    /// Has `visit` do something with each of these runs: it hears the index, what the run is, and how long.
    fn each(
        &mut self,
        indices: Range<usize>,
        mut visit: impl FnMut(&mut Flight, usize, &Run, u64),
    ) {
        let mut start = self.start_of(indices.start);
        for index in indices {
            if let Some(&run) = self.runs.get(index) {
                visit(self, index, &run, run.end - start);
                start = run.end;
            }
        }
    }

    /// Shows `judge` what is in flight in the order in which it left, and marks as lost what comes before the first
    /// that is to be kept. True if anything did.
    pub(crate) fn lose_while(&mut self, mut judge: impl FnMut(Pending) -> Judgement) -> bool {
        let before = self.lost_bytes;
        while let Some((index, run)) = self.runs.oldest()
            && judge(run.pending()) == Judgement::Lose
        {
            let len = run.end - self.start_of(index);
            self.lose_run(index, len);
            self.merge(index, index + 1, Duration::ZERO);
        }
        self.lost_bytes > before
    }

    /// What left last of what is in flight and left before `limit`, a time and where times are equal the end.
    pub(crate) fn newest_before(&mut self, limit: (Instant, u64)) -> Option<Pending> {
        self.runs.newest_before(limit).map(|run| run.pending())
    }

    /// NextSeg (RFC 6675 section 4, rule 1): the first range that is lost and was not sent again since, and
    /// whether it had been sent again before.
    pub(crate) fn next_lost(&self) -> Option<(Range<u64>, bool)> {
        let (index, run) = self.runs.first_lost()?;
        Some((self.start_of(index)..run.end, run.retransmitted))
    }

    /// The last bytes that the peer is not known to hold, at most `len`: what a loss probe sends again (RFC 8985
    /// section 7.3).
    pub(crate) fn tail(&self, len: u32) -> Option<Range<u64>> {
        let last = self.runs.iter().rposition(|run| run.fate != Fate::Sacked)?;
        let end = self.runs.get(last)?.end;
        let start = self.start_of(last).max(end.saturating_sub(u64::from(len)));
        Some(start..end)
    }

    /// What was held lost is in flight after all: the recovery was spurious. Not so what never left: lost it stays
    /// until it is [held back](Self::hold_back) again or sent.
    pub(crate) fn forget_losses(&mut self) {
        self.replace(Fate::Lost);
    }

    /// The peer discarded what it had SACKed.
    pub(crate) fn forget_sacks(&mut self) {
        self.replace(Fate::Sacked);
        self.sacked_bytes = 0;
    }

    fn replace(&mut self, fate: Fate) {
        self.runs.replace(fate);
        self.merge(0, self.runs.len(), Duration::ZERO);
        let (mut start, mut lost) = (self.start, 0);
        for run in self.runs.iter() {
            if run.fate == Fate::Lost {
                lost += run.end - start;
            }
            start = run.end;
        }
        self.lost_bytes = lost;
    }

    /// What was sent above `end` does not count any more (a window probe was taken back).
    pub(crate) fn take_back(&mut self, end: u64, pool: &mut FlightPool) {
        while let Some(&last) = self.runs.back() {
            if last.end <= end {
                break;
            }
            let start = self.start_of(self.runs.len() - 1);
            let gone = last.end - end.max(start);
            match last.fate {
                Fate::Sacked => self.sacked_bytes -= gone,
                Fate::Lost => self.lost_bytes -= gone,
                Fate::InFlight => {}
            }
            if start >= end {
                self.runs.pop_back();
            } else {
                self.runs.update(self.runs.len() - 1, |last| last.end = end);
            }
        }
        if self.runs.is_empty() {
            self.give_back(pool);
        }
    }

    /// The connection is over: memory goes back.
    pub(crate) fn release(&mut self, pool: &mut FlightPool) {
        self.start = self.start.max(self.end());
        self.give_back(pool);
        (self.sacked_bytes, self.lost_bytes) = (0, 0);
    }

    fn give_back(&mut self, pool: &mut FlightPool) {
        let (nodes, order) = self.runs.take();
        pool.give_back(nodes, order);
    }

    fn start_of(&self, index: usize) -> u64 {
        let before = index.checked_sub(1).and_then(|index| self.runs.get(index));
        before.map_or(self.start, |run| run.end)
    }
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
