//! Everything that is only known while data is in flight, and the phases of its recovery.
//!
//! Composes the parts: [`Flight`] records what was sent, [`Rack`] finds what is lost, [`TailProbe`] provokes the
//! acknowledgement that a tail lacks, [`Prr`] paces a recovery, [`Undo`] takes back what was not deserved, and
//! [`Duplicates`] stands in for all of it with a peer that has no SACK.
//!
//! Four phases. *Open*: nothing is known to be lost. *Fast*: a loss was proven by acknowledgements; the window
//! was reduced once, and the phase lasts until everything that was out then is acknowledged. *Timeout*: the timer
//! fired, and what is lost is sent again in slow start. *Recut*: what was too big for the
//! path is sent again in shorter segments (see `too_big`). Congestion control is told by the caller, from the
//! [`Verdict`].

use core::ops::Range;
use core::time::Duration;

use crate::clock::Instant;
use crate::congestion::Controller;
use crate::duplicates::Duplicates;
use crate::flight::{Delivery, Flight};
use crate::flight_pool::FlightPool;
use crate::path_probe::PathProbe;
use crate::prr::{Prr, PrrAck};
use crate::rack::{Path, Rack, Tolerance};
use crate::skip::Skip;
use crate::tail_probe::{ProbeEnd, TailProbe};
use crate::undo::{Frto, FrtoAck, FrtoPlainAck, Undo};
use crate::verdict::{AckSeen, Delivered, Judged, Verdict};

mod too_big;

/// New segments that duplicates before a recovery let out (RFC 3042).
const LIMITED_TRANSMIT: u32 = 2;

/// A window that limits nothing.
const NO_LIMIT: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    Fast {
        until: u64,
        /// Not with a peer without SACK: its deliveries cannot be counted.
        prr: Option<Prr>,
    },
    Timeout {
        until: u64,
        frto: Frto,
    },
    /// What is lost was too big for the path, which says nothing about congestion.
    Recut {
        until: u64,
    },
}

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
    /// The first retransmission of a recovery does not wait for the window (RFC 6675 section 5, step 4.3).
    first_goes_at_once: bool,
    phase: Phase,
    flight: Flight,
    rack: Rack,
    pub probe: TailProbe,
    pub path_probe: PathProbe,
    pub skip: Skip,
    undo: Undo,
    duplicates: Duplicates,
    /// After a recovery the flight returns to cwnd no faster than in slow start, not in one burst.
    catch_up: u64,
}

impl Outstanding {
    /// Nothing is in flight yet. `learnt`: what earlier flights leave to this one.
    pub(crate) fn new(sack: bool, learnt: &Learnt) -> Self {
        Outstanding {
            sack,
            first_goes_at_once: false,
            phase: Phase::Open,
            flight: Flight::new(learnt.snd_una),
            rack: Rack::new(learnt.tolerance),
            probe: learnt.probe,
            path_probe: PathProbe::default(),
            skip: Skip::new(learnt.snd_una),
            undo: Undo::default(),
            duplicates: Duplicates::new(learnt.telling_from),
            catch_up: NO_LIMIT,
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
        match &mut self.phase {
            Phase::Fast { prr: Some(prr), .. } => prr.on_sent(len),
            Phase::Timeout { frto, .. } => *frto = frto.on_new_segment(),
            _ => {}
        }
    }

    /// `range` left again.
    pub(crate) fn on_sent_again(
        &mut self,
        range: &Range<u64>,
        now: Instant,
        grain: Duration,
        pool: &mut FlightPool,
    ) {
        self.first_goes_at_once = false;
        self.skip.on_sent_again(range);
        let len = range.end - range.start;
        self.flight.on_sent_again(range, now, grain, pool);
        self.undo.on_retransmitted(len, now);
        if let Phase::Fast { prr: Some(prr), .. } = &mut self.phase {
            prr.on_sent(len);
        }
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
        let counts = matches!(
            self.phase,
            Phase::Timeout {
                frto: Frto::SendNew { .. } | Frto::AwaitVerdict,
                ..
            }
        );
        let is_told = self.sack || self.duplicates.departed(1) == 0;
        !counts && is_told && self.flight.lost_bytes() == 0
    }

    /// Whether nothing is known to be wrong.
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.is_open() && self.flight.sacked_bytes() == 0 && self.flight.lost_bytes() == 0
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
        let original_below = match self.phase {
            Phase::Timeout { until, .. } => until,
            _ => 0,
        };
        let mut delivered = Delivered {
            bytes: 0,
            rtt: None,
            outstanding_before: self.flight.unsacked_bytes(),
            original: false,
            first_sent_again_at: None,
        };
        let snd_una = self.flight.start();
        let mut first_sent_again_at = None;
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
            note(delivery, ack.echoed_ms);
        });
        if self.sack {
            for range in blocks {
                self.flight
                    .sack(range, pool, |delivery| note(delivery, None));
            }
        }
        delivered.first_sent_again_at = first_sent_again_at;
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
        let probe_end = self.hear_probe(ack);
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
            return Judged::quiet(Verdict::Undo);
        }
        let before = self.verdict_of_phase();
        if self.is_recut_over(ack.snd_una) {
            self.end_recut();
        } else if self.until().is_some_and(|until| ack.snd_una >= until) {
            self.rack.on_recovery_exit();
            self.undo.recovery_ended(ack.snd_nxt);
            self.end_recovery(ack.snd_nxt, path.smss);
        }
        let judged = self.look_for_losses(ack.snd_nxt, path);
        if judged.verdict == Verdict::Reduce {
            return judged;
        }
        let verdict = match probe_end {
            ProbeEnd::Repaired if self.is_open() => Verdict::ReduceForProbe,
            _ => before,
        };
        Judged { verdict, ..judged }
    }

    /// The reordering timer fired.
    pub(crate) fn on_reorder_timer(&mut self, snd_nxt: u64, path: &Path) -> Judged {
        self.look_for_losses(snd_nxt, path)
    }

    fn look_for_losses(&mut self, snd_nxt: u64, path: &Path) -> Judged {
        let recovering = !self.is_open();
        let (found_lost, reorder_timeout) =
            self.rack.detect_loss(&mut self.flight, path, recovering);
        let is_news = match self.phase {
            Phase::Open => self.flight.lost_bytes() > 0,
            // Lost once more, and short enough for the path.
            Phase::Recut { .. } => found_lost,
            Phase::Fast { .. } | Phase::Timeout { .. } => false,
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
            self.verdict_of_phase()
        };
        Judged {
            verdict,
            reorder_timeout,
            found_lost,
        }
    }

    fn verdict_of_phase(&self) -> Verdict {
        match self.phase {
            Phase::Fast { .. } => Verdict::Hold,
            Phase::Open | Phase::Timeout { .. } | Phase::Recut { .. } => Verdict::Grow,
        }
    }

    fn enter_fast(&mut self, snd_nxt: u64) {
        self.phase = Phase::Fast {
            until: snd_nxt,
            prr: None,
        };
        if !self.sack {
            // Nothing will show that this one was not deserved, and an earlier one is history.
            self.undo.forget();
        }
        self.probe.abandon();
        self.first_goes_at_once = true;
        self.catch_up = NO_LIMIT;
    }

    /// A duplicate that reports nothing answers the new segments of F-RTO: without SACK, or because the receiver keeps
    /// nothing out of order (RFC 2018 section 8 allows it). They left the network, and in the pipe they would leave no room
    /// for the rest.
    fn lose_what_was_not_kept(&mut self, snd_nxt: u64, pool: &mut FlightPool) {
        if let Phase::Timeout {
            until,
            frto: Frto::SendNew { .. } | Frto::AwaitVerdict,
        } = &mut self.phase
        {
            self.flight.lose(&(*until..snd_nxt), pool);
            if !self.sack {
                // Nothing but this recovery would send them again.
                *until = snd_nxt;
            }
        }
    }

    fn hear_probe(&mut self, ack: &AckSeen) -> ProbeEnd {
        if let Some(range) = &ack.dsack
            && self.undo.on_dsack(range)
        {
            self.rack.on_dsack(ack.snd_una, ack.snd_nxt);
        }
        let dsack_end = ack.dsack.as_ref().map(|range| range.end);
        self.probe.on_ack(ack.snd_una, ack.duplicate, dsack_end)
    }

    fn is_spurious(&mut self, ack: &AckSeen, delivered: &Delivered) -> bool {
        if !self.undo.is_open() {
            return false;
        }
        let mut spurious = self.undo.is_all_duplicates();
        if !self.is_open() {
            spurious |= self
                .undo
                .is_echo_older(ack.echoed_ms, delivered.first_sent_again_at);
        }
        if let Phase::Timeout { until, frto } = &mut self.phase {
            let advanced = ack.acked > 0;
            let (next, late) = if self.sack {
                frto.on_ack(FrtoAck {
                    original_delivered: delivered.original,
                    advanced: advanced && ack.snd_una < *until,
                    delivered: delivered.bytes > 0,
                    bare_duplicate: ack.duplicate,
                })
            } else {
                frto.on_plain_ack(FrtoPlainAck {
                    duplicate: ack.duplicate,
                    advanced,
                    covers_repeated: !self.flight.is_first_retransmitted(),
                    covers_all: ack.snd_una >= *until,
                    echoes_original: self.undo.is_before_first(ack.echoed_ms),
                })
            };
            *frto = next;
            spurious |= late;
        }
        spurious
    }

    /// What was held lost was late. Not so what never left: that the peer will miss, for no other reason than that.
    fn forget_losses(&mut self, pool: &mut FlightPool) {
        self.flight.forget_losses();
        if let Some(range) = self.skip.resume() {
            self.flight.hold_back(&range, pool);
        }
    }

    /// The phase is over. `smss` bounds what may follow at once.
    fn end_recovery(&mut self, until: u64, smss: u32) {
        self.phase = Phase::Open;
        self.duplicates.recovery_ended(until);
        self.first_goes_at_once = false;
        self.catch_up = self.flight.pipe() + u64::from(smss);
    }

    /// Without SACK: RFC 5681 section 3.2 and RFC 6582.
    fn judge_duplicates(
        &mut self,
        ack: &AckSeen,
        delivered: &Delivered,
        path: &Path,
        pool: &mut FlightPool,
    ) -> Verdict {
        let smss = path.smss;
        if ack.duplicate {
            self.lose_what_was_not_kept(ack.snd_nxt, pool);
        }
        if self.is_timeout() && self.is_spurious(ack, delivered) {
            let needless = self.undo.unreported().div_ceil(u64::from(smss.max(1)));
            let needless = u32::try_from(needless).unwrap_or(u32::MAX);
            self.end_recovery(ack.snd_una, smss);
            // But for their answers duplicates prove something from here on ("recover").
            self.duplicates
                .recovery_undone(ack.snd_una, ack.snd_nxt, needless);
            self.forget_losses(pool);
            return Verdict::Undo;
        }
        if ack.acked > 0 {
            let recovering = matches!(self.phase, Phase::Fast { .. });
            self.duplicates.on_acknowledged(ack.acked, recovering, smss);
        } else if ack.duplicate && self.skip.explains_duplicate(ack.snd_una) {
            // The hole is of our making.
            self.skip.on_hole();
        } else if ack.duplicate {
            self.duplicates.on_duplicate(ack.snd_una);
        }
        let verdict = self.verdict_of_phase();
        if self.is_recut_over(ack.snd_una) {
            self.end_recut();
            return verdict;
        }
        if let Some(until) = self.until()
            && ack.snd_una >= until
        {
            self.end_recovery(until, smss);
            // No DSACK will come, and no other evidence is looked for outside of a time-out.
            self.undo.forget();
            return verdict;
        }
        match self.phase {
            Phase::Open if self.duplicates.prove_loss(ack.snd_una) => {
                self.enter_fast(ack.snd_nxt);
                self.lose_first(ack.snd_una, smss, pool);
                Verdict::Reduce
            }
            Phase::Fast { .. } if ack.acked > 0 && !self.flight.is_first_repeated() => {
                // A partial acknowledgement names the next hole (RFC 6582 section 3.2, step 3); not one of a part of
                // what was just sent again, or each byte of it would be worth a segment.
                self.lose_first(ack.snd_una, smss, pool);
                self.first_goes_at_once = true;
                verdict
            }
            _ => verdict,
        }
    }

    fn lose_first(&mut self, snd_una: u64, smss: u32, pool: &mut FlightPool) {
        let end = (snd_una + u64::from(smss)).min(self.flight.end());
        self.flight.lose(&(snd_una..end), pool);
    }

    /// Before the reduction that a [`Verdict`] asked for.
    pub(crate) fn remember(&mut self, controller: &Controller) {
        // Nothing but F-RTO and the echoes of a time-out would show without SACK that it was not deserved.
        if self.sack || self.is_timeout() {
            self.undo.begin(controller, self.flight.start());
        }
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
        if let Phase::Fast { prr, .. } = &mut self.phase
            && self.sack
        {
            *prr = Some(Prr::new(ssthresh, outstanding, credit));
        }
    }

    /// What may leave after this acknowledgement.
    pub(crate) fn regulate(&mut self, bytes: u64, safe: bool, smss: u32, cwnd: u32) {
        let in_flight = self.flight.pipe();
        if let Phase::Fast { prr: Some(prr), .. } = &mut self.phase {
            prr.on_ack(PrrAck {
                delivered: bytes,
                in_flight,
                safe,
                smss,
            });
        } else if self.flight.is_empty() {
            self.catch_up = NO_LIMIT;
        } else if self.catch_up != NO_LIMIT {
            // What was delivered may be replaced, and grow by as much again.
            let grown = in_flight + bytes + bytes.max(u64::from(smss));
            self.catch_up = self.catch_up.max(grown);
            if self.catch_up >= u64::from(cwnd) {
                self.catch_up = NO_LIMIT;
            }
        }
    }

    /// The state of congestion control to return to.
    pub(crate) fn take_undo(&mut self) -> Option<Controller> {
        self.undo.take()
    }

    /// The window to send by, where `cwnd` is that of congestion control. A pacer leaves no burst to be prevented
    /// after a recovery: what is paced has the whole of `cwnd` at once.
    pub(crate) fn window(&self, cwnd: u32, paced: bool) -> u64 {
        match self.phase {
            Phase::Fast { prr: Some(prr), .. } => prr.cwnd(),
            _ if paced => u64::from(cwnd),
            _ => self.catch_up.min(u64::from(cwnd)),
        }
    }

    /// The retransmission timer fired. True if no recovery was under way: then ssthresh is lowered (RFC 5681
    /// section 3.1), else it has been.
    pub(crate) fn on_timeout(&mut self, path: &Path, snd_nxt: u64, pool: &mut FlightPool) -> bool {
        let first = matches!(self.phase, Phase::Open | Phase::Recut { .. });
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
        // Not after a fast recovery: what arrives then may answer its retransmissions (RFC 5682 section 3.1).
        let frto = match self.phase {
            Phase::Open | Phase::Timeout { .. } if self.sack => Frto::AwaitFirst,
            // Without SACK only while nothing but the first segment was sent again (section 2.1, step 1).
            Phase::Open
            | Phase::Timeout {
                frto: Frto::AwaitFirst,
                ..
            } => Frto::AwaitFirst,
            _ => Frto::Off,
        };
        self.phase = Phase::Timeout {
            until: snd_nxt,
            frto,
        };
        self.probe.abandon();
        self.duplicates.forget();
        self.first_goes_at_once = true;
        self.catch_up = NO_LIMIT;
        first
    }

    /// The range to send again next, and whether it was sent again before.
    pub(crate) fn next_retransmission(&mut self) -> Option<(Range<u64>, bool)> {
        match self.phase {
            Phase::Open
            | Phase::Timeout {
                frto: Frto::SendNew { .. } | Frto::AwaitVerdict,
                ..
            } => None,
            Phase::Fast { .. } | Phase::Timeout { .. } | Phase::Recut { .. } => {
                self.flight.next_lost()
            }
        }
    }

    /// Whether something is lost and was not sent again.
    pub(crate) fn has_lost(&self) -> bool {
        self.flight.lost_bytes() > 0
    }

    /// Whether nothing may leave until F-RTO has its answer.
    pub(crate) fn awaits_verdict(&self) -> bool {
        matches!(
            self.phase,
            Phase::Timeout {
                frto: Frto::AwaitVerdict,
                ..
            }
        )
    }

    /// No new data can leave. True if something is lost that had waited for new data to leave first.
    pub(crate) fn on_nothing_new(&mut self) -> bool {
        match &mut self.phase {
            Phase::Timeout { frto, .. } if *frto != Frto::Off => {
                *frto = frto.on_nothing_new();
                *frto == Frto::Off
            }
            _ => false,
        }
    }

    /// Whether the next retransmission ignores the congestion window.
    pub(crate) fn goes_at_once(&self) -> bool {
        self.first_goes_at_once
    }

    /// Whether the current recovery began with a time-out.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self.phase, Phase::Timeout { .. })
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// What has to be acknowledged for the phase to end.
    fn until(&self) -> Option<u64> {
        match self.phase {
            Phase::Open => None,
            Phase::Fast { until, .. } | Phase::Timeout { until, .. } | Phase::Recut { until } => {
                Some(until)
            }
        }
    }

    /// Whether silence is to be probed: nothing is known to be wrong with what is in flight (RFC 8985 section
    /// 7.2), or everything known to be wrong was sent again in a fast recovery.
    pub(crate) fn may_probe(&self) -> bool {
        self.sack
            && self.probe.is_allowed()
            && match self.phase {
                Phase::Open => self.flight.sacked_bytes() == 0,
                Phase::Fast { .. } | Phase::Recut { .. } => self.flight.lost_bytes() == 0,
                Phase::Timeout { .. } => false,
            }
    }

    /// A probe left. In a fast recovery what it repairs is part of that.
    pub(crate) fn on_probe_sent(&mut self, snd_nxt: u64, is_retransmission: bool) {
        let accountable = is_retransmission && self.is_open();
        self.probe.on_sent(snd_nxt, accountable);
    }

    /// Whether the peer may hold back its acknowledgement of what is in flight: a single segment that fills no
    /// gap.
    pub(crate) fn may_be_delayed(&self, smss: u32) -> bool {
        self.is_open() && self.flight.pipe() <= u64::from(smss)
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
        let departed = self.duplicates.departed(smss);
        match self.phase {
            Phase::Open => pipe.saturating_sub(departed),
            // A receiver that invents duplicates must not get more out of it than the flight in which the loss
            // happened (RFC 5681 section 5).
            Phase::Fast { until, .. } => {
                pipe.saturating_sub(departed.min(until.saturating_sub(self.flight.start())))
            }
            Phase::Timeout { .. } | Phase::Recut { .. } => pipe,
        }
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
