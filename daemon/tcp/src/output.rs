//! What a connection sends next, and what its timers do.
//!
//! [`Connection::next_segment`] is asked until it answers `None`. The order: RST, SYN-ACK, an ACK with SACK
//! blocks, a tail loss probe, what is lost, new data with the FIN, a window probe, a keep-alive probe, a bare ACK. Every segment carries the acknowledgement, so an ACK is only bare when nothing else
//! leaves, or when it carries blocks: a data segment has no room for them and is no duplicate ACK.

use core::ops::Range;

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

use crate::clock::Instant;
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::event_ring::EventKind;
use crate::events::CloseReason;
use crate::receive::AckWanted;
use crate::runs::Run;
use crate::send::{Cut, Sender};
use crate::seq::SeqNumber;
use crate::state::State;

/// SACK blocks beside timestamps, and alone (RFC 2018 section 3: 40 bytes of options).
const SACK_BLOCKS_WITH_TIMESTAMPS: usize = 3;
const SACK_BLOCKS_ALONE: usize = 4;
/// Bytes of all options, and of SACK with its padding (RFC 9293 section 3.1, RFC 2018 section 3).
const OPTIONS_MAX: usize = 40;
const SACK_PREFIX: usize = 4;
const SACK_BLOCK: usize = 8;
/// What timestamps leave of them.
const OPTION_BESIDE_DATA: usize = OPTIONS_MAX - 12;

/// A header and the stream bytes behind it.
pub(crate) type Segment = (TcpHeader, Range<u64>);

impl Connection {
    /// The next segment to send now: header and the stream bytes behind it. New data may be several segments, as `run`
    /// allows and is then told.
    pub(crate) fn next_segment(&mut self, run: &mut Run, env: &mut Env<'_>) -> Option<Segment> {
        if self.finish.is_some() && self.reset_wanted {
            self.reset_wanted = false;
            env.counters.resets_sent += 1;
            return Some(self.reset(env));
        }
        if self.finish.is_none() {
            match self.state {
                State::SynSent => return self.syn(env),
                State::SynReceived => return self.syn_ack(env),
                _ => {}
            }
            if self.control.ecn.owes_handshake_ack() {
                return Some(self.bare_ack(env));
            }
            if self.sack
                && self.receive.ack_wanted() == AckWanted::Now
                && self.receive.has_sack_blocks()
            {
                return Some(self.bare_ack(env));
            }
            if let Some(segment) = self.next_data(run, env) {
                return Some(segment);
            }
        }
        // A finished connection may still owe its last ACK.
        self.owes_ack().then(|| self.bare_ack(env))
    }

    fn next_data(&mut self, run: &mut Run, env: &mut Env<'_>) -> Option<Segment> {
        if let Some(segment) = self.next_missed(env).or_else(|| self.next_tail_probe(env)) {
            return Some(segment);
        }
        if !self.loss.awaits_verdict() {
            if let Some((cut, again)) = self.next_lost() {
                return self.is_released(env).then(|| self.resend(&cut, again, env));
            }
            if let Some((cut, size)) = self.next_path_probe(env) {
                return self
                    .is_released(env)
                    .then(|| self.send_path_probe(&cut, size, env));
            }
            while let Some(cut) = self.next_new(env) {
                if !self.is_released(env) {
                    return None;
                }
                if !self.is_to_withhold(&cut, env) {
                    return Some(self.send_run(cut, run, env));
                }
                self.withhold(&cut, env);
            }
            if self.loss.on_nothing_new()
                && let Some((cut, again)) = self.next_lost()
            {
                return Some(self.resend(&cut, again, env));
            }
        }
        if self.probe_wanted {
            if let Some(cut) = self.send.probe() {
                return Some(self.send_probe(&cut, env));
            }
            // Still wanted while the driver fetches what it carries.
            self.probe_wanted = self.send.is_stalled_by_window();
        }
        if core::mem::take(&mut self.keep_alive_wanted) {
            env.counters.keep_alive_probes += 1;
            // SEQ = SND.NXT - 1 with no data (RFC 9293 section 3.8.4): outside the window, so it is answered.
            let seq = self.send.seq(self.send.snd_nxt).add(u32::MAX);
            return Some((self.header(seq, TcpFlags::ACK, env.now), 0..0));
        }
        self.on_nothing_to_send();
        self.note_quiet(env);
        None
    }

    /// Whether the pacer lets the next segment go.
    fn is_released(&mut self, env: &mut Env<'_>) -> bool {
        let held = self.is_held(env.now);
        if held {
            self.note_paced(env);
        }
        !held
    }

    fn next_new(&mut self, env: &mut Env<'_>) -> Option<Cut> {
        if self.send.in_flight() == 0
            && self.send.unsent() > 0
            && env.now.saturating_since(self.send.last_sent_at) > self.rtt.rto()
        {
            // Restart after idle (RFC 5681 section 4.1).
            self.steer_restart(env);
        }
        let pipe = self.pipe();
        let window = self.send_room_beside(pipe);
        let budget = self.flight_room(env);
        let whole = u64::from(self.send.smss());
        if window < whole.min(self.send.unsent()) {
            self.on_refused_by_window();
        }
        let mut allowance = window.min(budget);
        if allowance < whole.min(self.send.unsent()) {
            // A congestion window of less than a segment still lets one out when nothing is in flight; else
            // wait for room for a whole one rather than send a sliver.
            allowance = if pipe == 0 { whole } else { 0 };
        }
        self.send.next_new(allowance)
    }

    // Always inline, like all that makes a header: each return by value would copy it right after it was written in
    // parts, for which a processor waits.
    #[inline(always)]
    pub(crate) fn send_new(&mut self, cut: &Cut, env: &mut Env<'_>) -> Segment {
        self.account_new(cut, env);
        self.new_header(cut, env)
    }

    /// As [`Self::send_new`], with what may follow it at once.
    #[inline(always)]
    fn send_run(&mut self, mut cut: Cut, run: &mut Run, env: &mut Env<'_>) -> Segment {
        self.account_first(&cut, env);
        if run.has_room() {
            self.extend(&mut cut, run, env);
        }
        self.keep_tail_probe(env.now);
        self.new_header(&cut, env)
    }

    #[inline(always)]
    fn new_header(&mut self, cut: &Cut, env: &mut Env<'_>) -> Segment {
        let (mut header, payload) = self.data_header(cut, env);
        // Data packets are ECN-capable and carry CWR (RFC 3168 section 6.1.2). A FIN alone is none, and a mark on it
        // would be lost: a peer that has closed too does not count it any more.
        if !payload.is_empty() {
            let extra = self.control.ecn.on_new_data(payload.start);
            header.flags = header.flags.union(extra);
        }
        header.options.accecn = self.control.ecn.option(self.option_room(&payload));
        (header, payload)
    }

    /// New data leaves: everybody hears of it.
    pub(crate) fn account_new(&mut self, cut: &Cut, env: &mut Env<'_>) {
        self.account_first(cut, env);
        self.keep_tail_probe(env.now);
    }

    /// The same but for the timer of the tail loss probe, which begins with the last segment.
    #[inline(never)]
    fn account_first(&mut self, cut: &Cut, env: &mut Env<'_>) {
        if self.send.in_flight() == 0 {
            self.begin_flight(env.now);
        }
        self.record.on_sending(env);
        self.note_new(&(cut.payload.start..Sender::end_of(cut)), env);
        self.send.on_sent_new(cut, env.now);
        self.record_new(env);
        env.counters.bytes_out += cut.payload.end - cut.payload.start;
        if !self.deadlines.is_set(Timer::Retransmit) {
            self.restart_retransmission_timer(env.now);
        }
    }

    fn send_probe(&mut self, cut: &Cut, env: &mut Env<'_>) -> (TcpHeader, Range<u64>) {
        env.counters.window_probes += 1;
        self.note(
            EventKind::WindowProbe,
            0,
            Sender::end_of(cut) - cut.payload.start,
            env,
        );
        self.probe_wanted = false;
        let into_window = self.send.window() > 0;
        if into_window {
            self.begin_flight(env.now);
        }
        self.send.on_probe_sent(cut, env.now);
        self.record_new(env);
        // It may leave long after its timer, when the driver has fetched what it carries.
        self.restart_retransmission_timer(env.now);
        if !into_window {
            self.on_probe_left(env.now);
        }
        // The driver may let go of what it carried.
        self.events.acknowledged = true;
        self.data_header(cut, env)
    }

    pub(crate) fn record_new(&mut self, env: &mut Env<'_>) {
        self.loss
            .on_sent(self.send.snd_nxt, env.now, self.rtt.grain(), env.flights);
        debug_assert!(self.loss.is_about(self.send.snd_una, self.send.snd_nxt));
    }

    #[inline(always)]
    pub(crate) fn data_header(&mut self, cut: &Cut, env: &Env<'_>) -> (TcpHeader, Range<u64>) {
        let mut flags = TcpFlags::ACK;
        if cut.push {
            flags = flags.union(TcpFlags::PSH);
        }
        if cut.fin {
            flags = flags.union(TcpFlags::FIN);
        }
        let seq = self.send.seq(cut.payload.start);
        (self.header(seq, flags, env.now), cut.payload.clone())
    }

    fn bare_ack(&mut self, env: &Env<'_>) -> (TcpHeader, Range<u64>) {
        let room = if self.timestamps.is_some() {
            SACK_BLOCKS_WITH_TIMESTAMPS
        } else {
            SACK_BLOCKS_ALONE
        };
        let blocks = self.sack.then(|| self.receive.sack_blocks(room));
        let blocks = blocks.unwrap_or_default();
        let seq = self.send.bare_seq();
        let mut header = self.header(seq, TcpFlags::ACK, env.now);
        let ecn = &mut self.control.ecn;
        header.flags = ecn.on_pure_ack_leaves(header.flags, !blocks.is_empty());
        // Two blocks come before the counters of AccECN, and those before the others (RFC 9768 section 3.2.3.3).
        let before = match blocks.len() {
            0 => 0,
            len => SACK_PREFIX + SACK_BLOCK * len.min(2),
        };
        let used = header.encoded_len() - TcpHeader::default().encoded_len();
        header.options.accecn = self.control.ecn.option(OPTIONS_MAX - used - before);
        let used = header.encoded_len() - TcpHeader::default().encoded_len();
        let fitting = OPTIONS_MAX.saturating_sub(used + SACK_PREFIX) / SACK_BLOCK;
        for block in blocks.iter().take(fitting) {
            header.options.sack.push(*block);
        }
        (header, 0..0)
    }

    /// Bytes for an option beside this payload and the options that every segment carries.
    fn option_room(&self, payload: &Range<u64>) -> usize {
        let free = u64::from(self.send.smss()).saturating_sub(payload.end - payload.start);
        usize::try_from(free).unwrap_or(0).min(OPTION_BESIDE_DATA)
    }

    /// After a simultaneous open: what we would have answered had we not opened too (RFC 9768 section 3.1.2).
    fn syn_ack(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if !core::mem::take(&mut self.syn_wanted) {
            return (self.receive.ack_wanted() == AckWanted::Now).then(|| self.bare_ack(env));
        }
        self.on_syn_sent(env.now);
        let ecn = self.control.ecn.syn_ack_flags(self.syn_repeats);
        let flags = TcpFlags::SYN.union(TcpFlags::ACK).union(ecn);
        Some((self.syn_header(flags, env.now), 0..0))
    }

    /// Header of a SYN or a SYN-ACK, with what we offer.
    pub(crate) fn syn_header(&mut self, flags: TcpFlags, now: Instant) -> TcpHeader {
        let said = self.receive.advertise_unscaled();
        let mut header = self.header_saying(said, self.send.iss(), flags, now);
        header.options.mss = Some(self.our_mss);
        header.options.window_scale = self.offered_scale;
        header.options.sack_permitted = self.sack;
        header
    }

    fn reset(&mut self, env: &Env<'_>) -> (TcpHeader, Range<u64>) {
        let seq = self.send.bare_seq();
        let flags = TcpFlags::RST.union(TcpFlags::ACK);
        (self.header(seq, flags, env.now), 0..0)
    }

    #[inline(always)]
    fn header(&mut self, seq: SeqNumber, flags: TcpFlags, now: Instant) -> TcpHeader {
        let said = self.receive.advertise();
        self.header_saying(said, seq, flags, now)
    }

    #[inline(always)]
    fn header_saying(
        &mut self,
        (ack, window): (SeqNumber, u16),
        seq: SeqNumber,
        flags: TcpFlags,
        now: Instant,
    ) -> TcpHeader {
        let flags = if flags.intersects(TcpFlags::SYN.union(TcpFlags::RST)) {
            flags
        } else {
            self.control.ecn.on_ack_leaves(flags)
        };
        self.last_ack_sent = ack;
        self.deadlines.clear(Timer::DelayedAck);
        TcpHeader {
            src_port: self.key.local_port(),
            dst_port: self.key.remote_port(),
            seq: seq.raw(),
            ack: ack.raw(),
            flags,
            window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.timestamps.as_ref().map(|state| state.option(now)),
                ..TcpOptions::default()
            },
        }
    }

    /// Acts on every timer that is due.
    pub(crate) fn on_timers(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        if self.deadlines.take_due(Timer::Reorder, now) {
            self.on_reorder_timer(env);
        }
        if self.deadlines.take_due(Timer::TailProbe, now) {
            self.on_tail_probe_timer(env);
        }
        if self.deadlines.take_due(Timer::Retransmit, now) {
            self.on_retransmission_timer(env);
        }
        if self.deadlines.take_due(Timer::DelayedAck, now) {
            self.receive.want_ack_now();
        }
        if self.deadlines.take_due(Timer::KeepAlive, now) {
            self.on_keep_alive_timer(env);
        }
        if self.deadlines.take_due(Timer::FinWait2, now) && self.state == State::FinWait2 {
            self.end(CloseReason::FinWaitTimeout, false);
        }
        if self.deadlines.take_due(Timer::Driver, now) {
            self.events.deadline = true;
        }
        // What the pacer held leaves because the connection may transmit again after any timer.
        self.deadlines.take_due(Timer::Pacing, now);
    }

    fn on_retransmission_timer(&mut self, env: &mut Env<'_>) {
        if !self.state.is_synchronized() {
            self.on_syn_timer(env);
        } else if self.send.is_stalled_by_window() {
            self.on_persist_timer(env);
        } else if self.send.in_flight() > 0 {
            self.on_time_out(env);
        }
    }

    fn on_keep_alive_timer(&mut self, env: &mut Env<'_>) {
        let Some(keep_alive) = env.config.keep_alive else {
            return;
        };
        if self.send.in_flight() > 0 {
            // Data is out, and its own timer finds out whether the peer lives (RFC 9293 section 3.8.4).
            self.keep_alive_restarts(env);
            return;
        }
        if self.keep_alive_probes >= keep_alive.probes {
            self.end(CloseReason::KeepAliveTimeout, true);
            return;
        }
        self.keep_alive_probes += 1;
        self.keep_alive_wanted = true;
        self.deadlines
            .set(Timer::KeepAlive, env.now + keep_alive.interval);
    }
}
