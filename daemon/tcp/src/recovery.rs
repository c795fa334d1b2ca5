//! What a connection does about loss: carries values between the loss detector, congestion control, the round-trip
//! estimate, the timers and the segments that leave.
//!
//! Three timers belong to it. *Reorder* looks again at what may only be late, *TailProbe* asks a silent path for an
//! acknowledgement, and *Retransmit* is the last resort. Decisions are made in [`crate::loss`] and below.

use core::ops::Range;

use sluice_wire::{SackBlocks, TcpHeader};

use crate::clock::Instant;
use crate::config::RETRANSMISSIONS_MAX;
use crate::connection::{Connection, Env};
use crate::control::JudgedAck;
use crate::deadlines::Timer;
use crate::event_ring::EventKind;
use crate::events::CloseReason;
use crate::path_probe::Probed;
use crate::rack::Path;
use crate::record::Repeat;
use crate::send::{Cut, Sender};
use crate::seq::SeqNumber;
use crate::tail_probe::probe_timeout;
use crate::verdict::{AckSeen, Delivered, Judged, Verdict};

impl Connection {
    fn path(&self, now: Instant) -> Path {
        Path {
            now,
            srtt: self.rtt.srtt(),
            min_rtt: self.rtt.min_rtt(),
            smss: self.send.smss(),
        }
    }

    /// An acknowledgement, after SND.UNA and the window were updated. `in_flight`: the pipe before it. True if it
    /// delivered anything.
    pub(crate) fn hear_ack(
        &mut self,
        ack: &AckSeen,
        header: &TcpHeader,
        in_flight: u32,
        env: &mut Env<'_>,
    ) -> bool {
        let path = self.path(env.now);
        let skip = usize::from(ack.dsack.is_some());
        let blocks = self.reported(header, skip);
        let delivered = self.loss.deliver(ack, blocks, &path, env.flights);
        if let Some(rtt) = delivered.rtt {
            if self.sack {
                self.rtt.observe(env.now, rtt);
            } else {
                self.rtt.observe_least(env.now, rtt);
            }
            self.loss.on_rtt_sample();
        }
        debug_assert!(self.loss.is_about(self.send.snd_una, self.send.snd_nxt));
        let path = self.path(env.now);
        let pipe = self.pipe();
        let judged = self.loss.judge(ack, &delivered, &path, env.flights);
        let probed = self.loss.take_probed();
        if probed != Some(Probed::Refused) {
            self.note_lost(pipe);
        }
        let judged_ack = JudgedAck {
            acked: ack.acked,
            acks: ack.acks.count,
            delivered: delivered.bytes,
            rtt: delivered.rtt,
            in_flight,
            verdict: judged.verdict,
            marks: self.hear_marks(ack, delivered.bytes, header, env),
        };
        self.steer(&judged_ack, header, env);
        self.act(&judged, Some(&delivered), env);
        self.steer_by_echo(&judged_ack, env);
        self.learn_path_mtu((ack.acked, delivered.bytes), judged.verdict, probed, env);
        let safe = ack.acked > 0 && !judged.found_lost;
        self.loss
            .regulate(delivered.bytes, safe, path.smss, self.congestion.cwnd());
        delivered.bytes > 0
    }

    /// What the SACK blocks behind the first `skip` report, in the order of the sequence: the newest comes first on
    /// the wire (RFC 2018 section 4), and in that order the others would look reordered.
    pub(crate) fn reported(
        &self,
        header: &TcpHeader,
        skip: usize,
    ) -> impl Iterator<Item = Range<u64>> + use<> {
        let send = &self.send;
        let mut ranges = [const { 0..0 }; SackBlocks::MAX];
        let mut count = 0;
        for block in header.options.sack.iter().skip(skip) {
            if let (Some(start), Some(end)) = (offset(send, block.start), offset(send, block.end))
                // Below, above or inverted: ignored (RFC 2018 section 3).
                && start >= send.snd_una
                && start < end
                && end <= send.snd_nxt
            {
                ranges[count] = start..end;
                count += 1;
            }
        }
        ranges[..count].sort_unstable_by_key(|range| range.start);
        ranges.into_iter().take(count)
    }

    /// The DSACK in a segment that acknowledges everything below `ack`: its first block, if that lies below or inside
    /// the second one (RFC 2883 section 4). Compared with what the segment itself acknowledges: an old one that was
    /// overtaken reports what was news then.
    pub(crate) fn duplicate_sack(&self, header: &TcpHeader, ack: u64) -> Option<Range<u64>> {
        let mut blocks = header.options.sack.iter();
        let first = blocks.next().filter(|_| self.sack)?;
        let start = offset(&self.send, first.start)?;
        let end = offset(&self.send, first.end)?;
        let repeated = blocks.next().is_some_and(|second| {
            let (left, right) = (SeqNumber::new(second.start), SeqNumber::new(second.end));
            left.le(SeqNumber::new(first.start)) && SeqNumber::new(first.end).le(right)
        });
        let duplicate = start < ack || repeated;
        (duplicate && start < end && end <= self.send.snd_max()).then_some(start..end)
    }

    fn act(&mut self, judged: &Judged, delivered: Option<&Delivered>, env: &mut Env<'_>) {
        match judged.reorder_timeout {
            Some(timeout) => self.deadlines.set(Timer::Reorder, env.now + timeout),
            None => self.deadlines.clear(Timer::Reorder),
        }
        match judged.verdict {
            Verdict::Grow | Verdict::Hold => {}
            Verdict::Reduce => {
                env.counters.fast_recoveries += 1;
                self.note(EventKind::Recovery, 0, self.send.in_flight(), env);
                self.loss.remember(&self.congestion);
                let cwnd = self.congestion.cwnd();
                self.steer_reduction(env.now);
                if self.congestion.uses_prr() {
                    let ssthresh = self.congestion.ssthresh();
                    let smss = self.send.smss();
                    self.loss.begin_recovery(cwnd, ssthresh, delivered, smss);
                }
            }
            Verdict::ReduceForProbe => self.steer_reduction(env.now),
            Verdict::Undo => {
                if let Some(before) = self.loss.take_undo() {
                    env.counters.spurious_undone += 1;
                    self.congestion.undo(&before);
                    self.note(EventKind::Undone, 0, self.send.in_flight(), env);
                }
            }
        }
    }

    /// What was sent last may only be late: now it has had its time (RFC 8985 section 6.3).
    pub(crate) fn on_reorder_timer(&mut self, env: &mut Env<'_>) {
        let path = self.path(env.now);
        let pipe = self.pipe();
        let judged = self.loss.on_reorder_timer(self.send.snd_nxt, &path);
        let probed = self.loss.take_probed();
        if probed != Some(Probed::Refused) {
            self.note_lost(pipe);
        }
        self.act(&judged, None, env);
        self.learn_path_mtu((0, 0), judged.verdict, probed, env);
        self.loss
            .regulate(0, false, path.smss, self.congestion.cwnd());
        self.keep_tail_probe(env.now);
    }

    /// RFC 8985 section 7.2: set anew by new data and by progress, off while anything is known to be wrong.
    pub(crate) fn keep_tail_probe(&mut self, now: Instant) {
        if self.send.in_flight() == 0 || !self.loss.may_probe() || self.send.is_stalled_by_window()
        {
            self.deadlines.clear(Timer::TailProbe);
            return;
        }
        let delayed = self.loss.may_be_delayed(self.send.smss());
        let timeout = probe_timeout(self.rtt.srtt(), delayed);
        let at = self.deadlines.at(Timer::Retransmit).min(now + timeout);
        self.deadlines.set(Timer::TailProbe, at);
    }

    pub(crate) fn on_tail_probe_timer(&mut self, env: &mut Env<'_>) {
        if self.send.in_flight() > 0 && self.loss.may_probe() && !self.send.is_stalled_by_window() {
            self.loss.want_probe();
            // The probe comes first even where both were due (RFC 8985 section 7.3).
            self.restart_retransmission_timer(env.now);
        }
    }

    /// The loss probe, if one is due: new data if any may leave, else the last segment again. It does not wait for
    /// the congestion window.
    pub(crate) fn next_tail_probe(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if !self.loss.take_wanted_probe() {
            return None;
        }
        let smss = self.send.smss();
        let budget = self.flight_room(env);
        let fresh = self.send.next_new(budget.min(u64::from(smss)));
        let again = fresh.is_none();
        let cut = fresh.or_else(|| self.loss.tail(smss).map(|range| self.send.recut(&range)))?;
        env.counters.tail_probes += 1;
        let segment = if again {
            env.counters.retransmitted_tlp += 1;
            self.repeat(&cut, Repeat::TailProbe, env)
        } else {
            let len = Sender::end_of(&cut) - cut.payload.start;
            self.note(EventKind::TailProbe, 0, len, env);
            self.send_new(&cut, env)
        };
        self.loss.on_probe_sent(self.send.snd_nxt, again);
        self.deadlines.clear(Timer::TailProbe);
        self.restart_retransmission_timer(env.now);
        Some(segment)
    }

    /// The next segment that is known to be lost, if the window has room for it, and whether it was sent again
    /// before.
    pub(crate) fn next_lost(&mut self) -> Option<(Cut, bool)> {
        let (range, again) = self.loss.next_retransmission()?;
        let cut = self.send.recut(&range);
        (self.fits(&cut) || self.loss.goes_at_once()).then_some((cut, again))
    }

    /// Sends again what [`Self::next_lost`] found.
    pub(crate) fn resend(
        &mut self,
        cut: &Cut,
        again: bool,
        env: &mut Env<'_>,
    ) -> (TcpHeader, Range<u64>) {
        let cut = &self.recut_if_vanished(cut, again, env);
        let repeat = if self.loss.is_timeout() {
            env.counters.retransmitted_timeout += 1;
            Repeat::TimeOut
        } else if self.loss.is_recut() {
            env.counters.retransmitted_path_mtu += 1;
            Repeat::PathMtu
        } else if again {
            env.counters.retransmitted_rack += 1;
            Repeat::Rack
        } else {
            env.counters.retransmitted_fast += 1;
            Repeat::Fast
        };
        // The timer guards the first segment: only its repetition begins a new wait (RFC 6298 section 5.1).
        if cut.payload.start == self.send.snd_una || !self.deadlines.is_set(Timer::Retransmit) {
            self.restart_retransmission_timer(env.now);
        }
        let segment = self.repeat(cut, repeat, env);
        self.keep_tail_probe(env.now);
        segment
    }

    fn repeat(&mut self, cut: &Cut, repeat: Repeat, env: &mut Env<'_>) -> (TcpHeader, Range<u64>) {
        let range = cut.payload.start..Sender::end_of(cut);
        self.note_repeat(repeat, &range, env);
        self.note_again(&range, env);
        self.loss
            .on_sent_again(&range, env.now, self.rtt.grain(), env.flights);
        self.send.on_sent_again(env.now);
        if self.send.window() == 0 {
            self.on_probe_left(env.now);
        }
        self.data_header(cut, env)
    }

    /// Whether the window has room for a cut (RFC 6675 section 5, step C).
    fn fits(&self, cut: &Cut) -> bool {
        self.send_room() >= Sender::end_of(cut) - cut.payload.start
    }

    /// RFC 6298 section 5.4-5.7, RFC 5681 section 3.1.
    pub(crate) fn on_time_out(&mut self, env: &mut Env<'_>) {
        if self.send.window() == 0 {
            // The peer took its window back. It is not given up as dead while it has no room (SHLD-17): the
            // retransmissions are its window probes, and progress is what counts (RFC 6429).
            if let Some(reason) = self.gives_up_waiting(env.now) {
                self.end(reason, true);
                return;
            }
        } else if let Some(reason) = self.gives_up(env.now) {
            self.end(reason, true);
            return;
        }
        self.time_outs = self.time_outs.saturating_add(1);
        env.counters.timeouts += 1;
        self.note(EventKind::TimeOut, 0, self.send.in_flight(), env);
        let flight_size = self.flight_size();
        self.suspect_black_hole(env);
        let path = self.path(env.now);
        let pipe = self.pipe();
        let first = self.loss.on_timeout(&path, self.send.snd_nxt, env.flights);
        if let Some(probed) = self.loss.take_probed() {
            self.path_mtu.on_probed(probed, env.now);
        }
        if first {
            self.loss.remember(&self.congestion);
        }
        self.note_lost(pipe);
        self.steer_time_out(flight_size, first, env);
        self.rtt.back_off();
        self.deadlines.clear(Timer::Reorder);
        self.deadlines.clear(Timer::TailProbe);
        self.restart_retransmission_timer(env.now);
    }

    /// The peer took its window back (RFC 9293 section 3.8.6, MUST-34) and gives it again: what left meanwhile were window
    /// probes, so no limit of repetitions or time has begun, and the next one does not wait as if they had been lost.
    /// Not for ever: whoever opens and closes its window and takes nothing is judged as before after
    /// [`NO_PROGRESS`](crate::config::NO_PROGRESS).
    pub(crate) fn on_window_back(&mut self, now: Instant) {
        if now < self.progress_ends_at() {
            self.window_back_at = now;
            self.time_outs = 0;
            self.rtt.reset_back_off();
            self.restart_retransmission_timer(now);
        }
    }

    /// The retransmission timer begins a new wait (RFC 6298 section 5), which ends with the user timeout at the latest.
    pub(crate) fn restart_retransmission_timer(&mut self, now: Instant) {
        let next = now + self.retransmission_interval();
        let next = self.user_timeout_at().map_or(next, |end| next.min(end));
        self.deadlines.set(Timer::Retransmit, next);
    }

    /// R2 (RFC 9293 section 3.8.3): a time if there is one, else a number of repetitions.
    fn gives_up(&self, now: Instant) -> Option<CloseReason> {
        match self.user_timeout_at() {
            Some(end) => (now >= end).then_some(CloseReason::UserTimeout),
            None => (self.time_outs >= RETRANSMISSIONS_MAX)
                .then_some(CloseReason::RetransmissionTimeout),
        }
    }

    /// When the user timeout ends that began with the last progress. A peer that took its window back has the limits of
    /// [`Self::wait_ends_at`], and this one from when it gave it back.
    fn user_timeout_at(&self) -> Option<Instant> {
        if self.send.window() == 0 {
            return Some(self.wait_ends_at());
        }
        let limit = self.user_timeout()?;
        Some(self.progress_at.max(self.window_back_at) + limit)
    }
}

fn offset(send: &Sender, seq: u32) -> Option<u64> {
    u64::try_from(send.offset_of(SeqNumber::new(seq))).ok()
}
