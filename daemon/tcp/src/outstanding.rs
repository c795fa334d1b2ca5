//! Everything that is only known while data is in flight, and its recovery.
//!
//! Composes the parts: [`Flight`] records what was sent, [`Rack`] finds what is lost, [`TailProbe`] provokes the
//! acknowledgement that a tail lacks, [`Undo`] takes back what was not deserved, [`Phase`] knows where the recovery
//! stands and paces it, and [`Duplicates`] stands in for all of it with a peer that has no SACK. Here is what is sent and
//! acknowledged, and what both lead to. Beside it: `plain`, of a peer without SACK; `spurious`, recoveries that are taken
//! back; `too_big`, what the path refuses for its length. Congestion control is told by the caller, from the [`Verdict`].

use core::ops::Range;
use core::time::Duration;

use crate::clock::Instant;
use crate::duplicates::Duplicates;
use crate::flight::{Delivery, Flight};
use crate::flight_pool::FlightPool;
use crate::path_probe::PathProbe;
use crate::prr::{Prr, PrrAck};
use crate::rack::{Path, Rack, Tolerance};
use crate::skip::Skip;
use crate::tail_probe::{ProbeEnd, TailProbe};
use crate::undo::Undo;
use crate::verdict::{AckSeen, Delivered, Judged, Verdict};

mod catch_up;
mod phase;
mod plain;
mod spurious;
mod too_big;

use phase::Phase;

/// New segments that duplicates before a recovery let out (RFC 3042).
const LIMITED_TRANSMIT: u32 = 2;

/// What outlives a flight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learnt {
    pub snd_una: u64,
    pub tolerance: Tolerance,
    pub telling_from: u64,
    /// The last segment was probed for and acknowledged: what comes next tells whether once or twice.
    pub probe: TailProbe,
}

/// Loss state of one flight.
#[derive(Debug)]
pub(crate) struct Outstanding {
    sack: bool,
    phase: Phase,
    flight: Flight,
    rack: Rack,
    pub probe: TailProbe,
    pub path_probe: PathProbe,
    pub skip: Skip,
    undo: Undo,
    duplicates: Duplicates,
}

impl Outstanding {
    /// Nothing is in flight yet. `learnt`: what earlier flights leave to this one.
    pub(crate) fn new(sack: bool, learnt: &Learnt) -> Self {
        Outstanding {
            sack,
            phase: Phase::new(),
            flight: Flight::new(learnt.snd_una),
            rack: Rack::new(learnt.tolerance),
            probe: learnt.probe,
            path_probe: PathProbe::default(),
            skip: Skip::new(learnt.snd_una),
            undo: Undo::default(),
            duplicates: Duplicates::new(learnt.telling_from),
        }
    }

    /// What outlives the flight.
    pub(crate) fn learnt(&self) -> Learnt {
        Learnt {
            snd_una: self.flight.start(),
            tolerance: self.rack.tolerance(),
            telling_from: self.duplicates.telling_after(self.flight.start()),
            probe: if self.probe.is_pending() {
                self.probe
            } else {
                TailProbe::default()
            },
        }
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_over(&self) -> bool {
        self.flight.is_empty()
    }

    /// New data up to `end` left.
    pub(crate) fn on_sent(
        &mut self,
        end: u64,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        let len = end.saturating_sub(self.flight.end());
        self.flight.on_sent(end, now, grain, pool);
        self.phase.on_sent(len);
    }

    /// `range` left again.
    pub(crate) fn on_sent_again(
        &mut self,
        range: &Range<u64>,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        self.skip.on_sent_again(range);
        let len = range.end - range.start;
        self.flight.on_sent_again(range, now, grain, pool);
        self.undo.on_retransmitted(len, now);
        self.phase.on_sent_again(len);
    }

    /// `range`, the newest data, is accounted for and did not leave: see [`crate::skip`].
    pub(crate) fn withhold(&mut self, range: Range<u64>, pool: &mut FlightPool) {
        self.flight.hold_back(&range, pool);
        self.skip.hold(range);
    }

    /// It has left now: for the first time, so neither undo nor PRR hears of it.
    pub(crate) fn on_shown(
        &mut self,
        range: &Range<u64>,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        self.flight.on_sent_again(range, now, grain, pool);
        self.skip.on_shown();
    }

    /// It never left, and is as good as lost.
    pub(crate) fn give_up_skip(&mut self, pool: &mut FlightPool) {
        if let Some(range) = self.skip.give_up() {
            self.flight.lose(&range, pool);
        }
    }

    /// Whether new segments may leave as a run: to the next one it makes no difference that one left but for what is in
    /// flight then. Not so while F-RTO counts them, while something lost may go first, and where a duplicate stands for
    /// a segment that may be shorter than the rest.
    pub(crate) fn may_run(&self) -> bool {
        let is_counted = self.phase.frto_sends_from().is_some();
        let is_told = self.sack || self.duplicates.departed(1) == 0;
        !is_counted && is_told && self.flight.lost_bytes() == 0
    }

    /// Whether nothing is known to be wrong.
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.phase.is_open() && self.flight.sacked_bytes() == 0 && self.flight.lost_bytes() == 0
    }

    /// Whether nothing hangs on a single acknowledgement: neither a recovery nor the end of a tail loss probe.
    pub(crate) fn is_steady(&self) -> bool {
        self.is_undisturbed() && !self.probe.is_pending()
    }

    /// A window probe was taken back: SND.NXT is `snd_nxt` again.
    pub(crate) fn take_back(&mut self, snd_nxt: u64, pool: &mut FlightPool) {
        self.flight.take_back(snd_nxt, pool);
    }

    /// First half of an acknowledgement: what it says has arrived. `blocks` lie in `[snd_una, snd_nxt]`.
    pub(crate) fn deliver(
        &mut self,
        ack: &AckSeen,
        blocks: impl Iterator<Item = Range<u64>>,
        path: &Path,
        pool: &mut FlightPool,
    ) -> Delivered {
        let original_below = self.phase.time_out().map_or(0, |(until, _)| until);
        let mut delivered = Delivered {
            bytes: 0,
            rtt: None,
            outstanding_before: self.flight.unsacked_bytes(),
            original: false,
            first_sent_again_at: None,
            late: false,
        };
        let snd_una = self.flight.start();
        let mut first_sent_again_at = None;
        let mut late = false;
        let mut min_rtt = path.min_rtt;
        let rack = &mut self.rack;
        let mut note = |delivery: Delivery, echoed_ms: Option<u64>| {
            delivered.bytes += delivery.range.end - delivery.range.start;
            delivered.original |= !delivery.retransmitted && delivery.range.start < original_below;
            if let Some(rtt) = delivery.round_trip(path.now) {
                delivered.rtt = Some(delivered.rtt.map_or(rtt, |least| least.min(rtt)));
                // RFC 8985 section 6.2, step 1.
                min_rtt = Some(min_rtt.map_or(rtt, |least| least.min(rtt)));
            }
            rack.on_delivered(&delivery, path.now, min_rtt, echoed_ms);
        };
        // In the order of the sequence, or SACK blocks of one acknowledgement would make what it acknowledges
        // cumulatively look reordered.
        self.flight.acknowledge(ack.snd_una, pool, |delivery| {
            if delivery.retransmitted && delivery.range.start == snd_una {
                first_sent_again_at = Some(delivery.earliest());
            }
            late |= delivery.held_lost && !delivery.retransmitted;
            note(delivery, ack.echoed_ms);
        });
        if self.sack {
            for range in blocks {
                self.flight
                    .sack(range, pool, |delivery| note(delivery, None));
            }
        }
        delivered.first_sent_again_at = first_sent_again_at;
        delivered.late = late;
        delivered
    }

    /// Second half: what follows from it. `path` has the round trips of this acknowledgement.
    pub(crate) fn judge(
        &mut self,
        ack: &AckSeen,
        delivered: &Delivered,
        path: &Path,
        pool: &mut FlightPool,
    ) -> Judged {
        self.undo.on_acknowledged(ack.snd_una);
        self.path_probe.on_acknowledged(ack.snd_una);
        self.skip.on_acknowledged(ack.snd_una);
        if self.flight.sacked_bytes() > 0 {
            self.skip.on_hole();
        }
        if !self.sack {
            return Judged::quiet(self.judge_duplicates(ack, delivered, path, pool));
        }
        self.hear_dsack(ack);
        let dsack_end = ack.dsack.as_ref().map(|range| range.end);
        let probe_end = self.probe.on_ack(ack.snd_una, ack.duplicate, dsack_end);
        if ack.duplicate {
            self.lose_what_was_not_kept(ack.snd_nxt, pool);
        }
        if self.is_spurious(ack, delivered) {
            if self.is_timeout() {
                self.rack.on_spurious_time_out();
            } else {
                self.rack.on_spurious(ack.snd_una, ack.snd_nxt);
            }
            self.end_recovery(ack.snd_nxt, path.smss);
            self.forget_losses(pool);
            return Judged {
                reorder_timeout: self.rack.reorder_timeout(&mut self.flight, path),
                ..Judged::quiet(Verdict::Undo)
            };
        }
        let before = self.phase.verdict();
        if self.is_recut_over(ack.snd_una) {
            self.end_recut();
        } else if self.phase.until().is_some_and(|until| ack.snd_una >= until) {
            self.rack.on_recovery_exit();
            self.undo.recovery_ended(ack.snd_nxt);
            self.end_recovery(ack.snd_nxt, path.smss);
        }
        let judged = self.look_for_losses(ack.snd_nxt, path);
        if judged.verdict == Verdict::Reduce {
            return judged;
        }
        let verdict = match probe_end {
            ProbeEnd::Repaired if self.phase.is_open() => Verdict::ReduceForProbe,
            _ => before,
        };
        Judged { verdict, ..judged }
    }

    /// The reordering timer fired.
    pub(crate) fn on_reorder_timer(&mut self, snd_nxt: u64, path: &Path) -> Judged {
        self.look_for_losses(snd_nxt, path)
    }

    fn look_for_losses(&mut self, snd_nxt: u64, path: &Path) -> Judged {
        let recovering = !self.phase.is_open();
        let (found_lost, reorder_timeout) =
            self.rack.detect_loss(&mut self.flight, path, recovering);
        let is_news = if self.phase.is_open() {
            self.flight.lost_bytes() > 0
        } else {
            // Lost once more, and short enough for the path.
            self.phase.is_recut() && found_lost
        };
        let verdict = if is_news && self.is_path_probe_alone_lost() {
            self.path_probe.on_refused();
            self.enter_recut(snd_nxt);
            Verdict::Grow
        } else if is_news {
            self.path_probe.on_loss();
            self.enter_fast(snd_nxt);
            Verdict::Reduce
        } else {
            self.phase.verdict()
        };
        Judged {
            verdict,
            reorder_timeout,
            found_lost,
        }
    }

    fn enter_fast(&mut self, snd_nxt: u64) {
        self.phase.begin_fast(snd_nxt);
        if !self.sack {
            // Nothing will show that this one was not deserved, and an earlier one is history.
            self.undo.forget();
        }
        self.probe.abandon();
    }

    /// The phase is over. `smss` bounds what may follow at once.
    fn end_recovery(&mut self, until: u64, smss: u32) {
        self.phase.end(self.flight.pipe(), smss);
        self.duplicates.recovery_ended(until);
    }

    fn lose_first(&mut self, snd_una: u64, smss: u32, pool: &mut FlightPool) {
        let end = (snd_una + u64::from(smss)).min(self.flight.end());
        self.flight.lose(&(snd_una..end), pool);
    }

    /// Begin of a fast recovery: congestion control had `cwnd` and now has `ssthresh`, which is where PRR leads
    /// to. `delivered` is what the acknowledgement delivered that proved the loss, if it was one.
    pub(crate) fn begin_recovery(
        &mut self,
        cwnd: u32,
        ssthresh: u32,
        delivered: Option<&Delivered>,
        smss: u32,
    ) {
        let unsacked = self.flight.unsacked_bytes();
        let (bytes, outstanding) = delivered.map_or((0, unsacked), |delivered| {
            (delivered.bytes, delivered.outstanding_before)
        });
        let unused = u64::from(cwnd).saturating_sub(unsacked + bytes);
        let credit = unused.min(u64::from(LIMITED_TRANSMIT * smss));
        if self.sack {
            self.phase.pace(Prr::new(ssthresh, outstanding, credit));
        }
    }

    /// What may leave after this acknowledgement.
    pub(crate) fn regulate(&mut self, bytes: u64, safe: bool, smss: u32, cwnd: u32) {
        let ack = PrrAck {
            delivered: bytes,
            in_flight: self.flight.pipe(),
            safe,
            smss,
        };
        self.phase.regulate(ack, self.flight.is_empty(), cwnd);
    }

    /// The window to send by, where `cwnd` is that of congestion control.
    pub(crate) fn window(&self, cwnd: u32, paced: bool) -> u64 {
        self.phase.window(cwnd, paced)
    }

    /// The retransmission timer fired. True if no recovery was under way: then ssthresh is lowered (RFC 5681
    /// section 3.1), else it has been.
    pub(crate) fn on_timeout(&mut self, path: &Path, snd_nxt: u64, pool: &mut FlightPool) -> bool {
        self.path_probe.on_loss();
        self.give_up_skip(pool);
        if self.flight.is_first_sacked() {
            // The peer SACKed what it now wants again: it reneged (RFC 2018 section 8).
            self.flight.forget_sacks();
        }
        let snd_una = self.flight.start();
        if self.sack {
            self.rack.mark_on_time_out(&mut self.flight, path);
            self.lose_first(snd_una, path.smss, pool);
        } else {
            self.flight.lose(&(snd_una..snd_nxt), pool);
        }
        self.probe.abandon();
        self.duplicates.forget();
        self.phase.begin_time_out(snd_nxt, self.sack)
    }

    /// The range to send again next, and whether it was sent again before.
    pub(crate) fn next_retransmission(&mut self) -> Option<(Range<u64>, bool)> {
        if !self.phase.repeats() {
            return None;
        }
        self.flight.next_lost()
    }

    /// Whether something is lost and was not sent again.
    pub(crate) fn has_lost(&self) -> bool {
        self.flight.lost_bytes() > 0
    }

    /// Whether nothing may leave until F-RTO has its answer.
    pub(crate) fn awaits_verdict(&self) -> bool {
        self.phase.awaits_verdict()
    }

    /// No new data can leave. True if something is lost that had waited for new data to leave first.
    pub(crate) fn on_nothing_new(&mut self) -> bool {
        self.phase.on_nothing_new()
    }

    /// Whether the next retransmission ignores the congestion window.
    pub(crate) fn goes_at_once(&self) -> bool {
        self.phase.goes_at_once()
    }

    /// Whether the current recovery began with a time-out.
    pub(crate) fn is_timeout(&self) -> bool {
        self.phase.is_timeout()
    }

    /// Whether silence is to be probed: nothing is known to be wrong with what is in flight (RFC 8985 section
    /// 7.2), or everything known to be wrong was sent again in a fast recovery.
    pub(crate) fn may_probe(&self) -> bool {
        self.sack
            && self.probe.is_allowed()
            && !self.phase.is_timeout()
            && if self.phase.is_open() {
                self.flight.sacked_bytes() == 0
            } else {
                self.flight.lost_bytes() == 0
            }
    }

    /// A probe left. In a fast recovery what it repairs is part of that.
    pub(crate) fn on_probe_sent(&mut self, snd_nxt: u64, is_retransmission: bool) {
        let accountable = is_retransmission && self.phase.is_open();
        self.probe.on_sent(snd_nxt, accountable);
    }

    /// Whether the peer may hold back its acknowledgement of what is in flight: a single segment that fills no
    /// gap.
    pub(crate) fn may_be_delayed(&self, smss: u32) -> bool {
        self.phase.is_open() && self.flight.pipe() <= u64::from(smss)
    }

    /// The range that a probe without new data sends again.
    pub(crate) fn tail(&self, smss: u32) -> Option<Range<u64>> {
        self.flight.tail(smss)
    }

    /// Bytes believed to be in the network (RFC 6675 section 4).
    pub(crate) fn pipe(&self, smss: u32) -> u64 {
        let pipe = self.flight.pipe();
        if self.sack {
            return pipe;
        }
        self.pipe_after_duplicates(pipe, smss)
    }

    /// Whether the record is that of a sender between these two offsets: for debug builds.
    pub(crate) fn is_about(&self, snd_una: u64, snd_nxt: u64) -> bool {
        self.flight.start() == snd_una && self.flight.end() == snd_nxt
    }

    /// The ring goes back.
    pub(crate) fn release(&mut self, pool: &mut FlightPool) {
        self.flight.release(pool);
    }
}

#[cfg(test)]
mod tests;
