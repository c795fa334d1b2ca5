//! What a connection sends next, and what its timers do.
//!
//! [`Connection::next_segment`] is asked until it answers `None`. The order: RST, SYN-ACK, an ACK with SACK
//! blocks, what is lost, new data with the FIN, what is suspected to be lost, a window probe, a keep-alive
//! probe, a bare ACK. Every segment carries the acknowledgement, so an ACK is only bare when nothing else
//! leaves, or when it carries blocks: a data segment has no room for them and is no duplicate ACK.

use core::ops::Range;

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

use crate::clock::Instant;
use crate::config::{NO_PROGRESS, RETRANSMISSIONS_MAX, SYN_ACK_REPEATS_MAX};
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::events::CloseReason;
use crate::loss::Suspect;
use crate::receive::AckWanted;
use crate::send::{Cut, Sender};
use crate::seq::SeqNumber;
use crate::state::State;

/// SACK blocks beside timestamps, and alone (RFC 2018 section 3: 40 bytes of options).
const SACK_BLOCKS_WITH_TIMESTAMPS: usize = 3;
const SACK_BLOCKS_ALONE: usize = 4;

impl Connection {
    /// The next segment to send now: header and the stream bytes behind it.
    pub(crate) fn next_segment(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if self.finish.is_some() && self.reset_wanted {
            self.reset_wanted = false;
            env.counters.resets_sent += 1;
            return Some(self.reset(env));
        }
        if self.finish.is_none() {
            if self.state == State::SynReceived {
                return self.syn_ack(env);
            }
            if self.sack
                && self.receive.ack_wanted() == AckWanted::Now
                && self.receive.has_sack_blocks()
            {
                return Some(self.bare_ack(env));
            }
            if let Some(segment) = self.next_data(env) {
                return Some(segment);
            }
        }
        // A finished connection may still owe its last ACK.
        self.owes_ack().then(|| self.bare_ack(env))
    }

    fn next_data(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if let Some(cut) = self.next_lost() {
            return Some(self.send_again(&cut, env));
        }
        if let Some(cut) = self.next_new(env) {
            return Some(self.send_new(&cut, env));
        }
        if let Some(segment) = self.next_suspect(env) {
            return Some(segment);
        }
        if core::mem::take(&mut self.probe_wanted)
            && let Some(cut) = self.send.probe()
        {
            return Some(self.send_probe(&cut, env));
        }
        if core::mem::take(&mut self.keep_alive_wanted) {
            env.counters.keep_alive_probes += 1;
            // SEQ = SND.NXT - 1 with no data (RFC 9293 section 3.8.4): outside the window, so it is answered.
            let seq = self.send.seq(self.send.snd_nxt).add(u32::MAX);
            return Some((self.header(seq, TcpFlags::ACK, env.now), 0..0));
        }
        None
    }

    fn next_lost(&self) -> Option<Cut> {
        let range = self.loss.next_retransmission(self.send.snd_una)?;
        let cut = self.send.recut(&range);
        (self.fits(&cut) || self.loss.goes_at_once()).then_some(cut)
    }

    /// Nothing is known to be lost and nothing new can leave: NextSeg rules 3 and 4 of RFC 6675.
    fn next_suspect(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        let (una, nxt) = (self.send.snd_una, self.send.snd_nxt);
        match self.loss.next_suspect(una, nxt, self.send.smss())? {
            Suspect::Hole(range) => {
                let cut = self.send.recut(&range);
                self.fits(&cut).then(|| self.send_again(&cut, env))
            }
            Suspect::Tail(range) => {
                let cut = self.send.recut(&range);
                if !self.fits(&cut) {
                    return None;
                }
                self.loss.on_rescued();
                env.counters.retransmitted_fast += 1;
                self.send.on_sent_again(env.now);
                Some(self.data_header(&cut, env))
            }
        }
    }

    /// Whether the congestion window has room for a cut (RFC 6675 section 5, step C).
    fn fits(&self, cut: &Cut) -> bool {
        let room = u64::from(self.congestion.cwnd()).saturating_sub(self.pipe());
        room >= Sender::end_of(cut) - cut.payload.start
    }

    fn next_new(&mut self, env: &Env<'_>) -> Option<Cut> {
        if self.send.in_flight() == 0
            && self.send.unsent() > 0
            && env.now.saturating_since(self.send.last_sent_at) > self.rtt.rto()
        {
            // Restart after idle (RFC 5681 section 4.1).
            self.congestion.on_idle_restart();
        }
        let pipe = self.pipe();
        let window = u64::from(self.congestion.cwnd()).saturating_sub(pipe);
        let budget = u64::from(env.config.send_limit).saturating_sub(self.send.in_flight());
        let whole = u64::from(self.send.smss());
        let mut allowance = window.min(budget);
        if allowance < whole.min(self.send.unsent()) {
            // A congestion window of less than a segment still lets one out when nothing is in flight; else
            // wait for room for a whole one rather than send a sliver.
            allowance = if pipe == 0 { whole } else { 0 };
        }
        self.send.next_new(allowance)
    }

    fn send_again(&mut self, cut: &Cut, env: &mut Env<'_>) -> (TcpHeader, Range<u64>) {
        if self.loss.is_timeout() {
            env.counters.retransmitted_timeout += 1;
        } else {
            env.counters.retransmitted_fast += 1;
        }
        self.loss.on_retransmitted(Sender::end_of(cut));
        self.send.on_sent_again(env.now);
        // The timer guards the first segment: only its repetition begins a new wait (RFC 6298 section 5.1).
        if cut.payload.start == self.send.snd_una || !self.deadlines.is_set(Timer::Retransmit) {
            self.deadlines
                .set(Timer::Retransmit, env.now + self.rtt.rto());
        }
        self.data_header(cut, env)
    }

    fn send_new(&mut self, cut: &Cut, env: &mut Env<'_>) -> (TcpHeader, Range<u64>) {
        if self.send.in_flight() == 0 {
            self.progress_at = env.now;
        }
        self.send.on_sent_new(cut, env.now);
        env.counters.bytes_out += cut.payload.end - cut.payload.start;
        if !self.deadlines.is_set(Timer::Retransmit) {
            self.deadlines
                .set(Timer::Retransmit, env.now + self.rtt.rto());
        }
        self.data_header(cut, env)
    }

    fn send_probe(&mut self, cut: &Cut, env: &mut Env<'_>) -> (TcpHeader, Range<u64>) {
        env.counters.window_probes += 1;
        self.send.on_probe_sent(cut, env.now);
        self.data_header(cut, env)
    }

    fn data_header(&mut self, cut: &Cut, env: &Env<'_>) -> (TcpHeader, Range<u64>) {
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
        let seq = self.send.bare_seq();
        let mut header = self.header(seq, TcpFlags::ACK, env.now);
        header.options.sack = blocks.unwrap_or_default();
        (header, 0..0)
    }

    fn syn_ack(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if !core::mem::take(&mut self.syn_ack_wanted) {
            return (self.receive.ack_wanted() == AckWanted::Now).then(|| self.bare_ack(env));
        }
        if self.syn_acks_sent == 0 {
            self.progress_at = env.now;
        }
        self.syn_acks_sent = self.syn_acks_sent.saturating_add(1);
        if !self.deadlines.is_set(Timer::Retransmit) {
            self.deadlines
                .set(Timer::Retransmit, env.now + self.rtt.rto());
        }
        let flags = TcpFlags::SYN.union(TcpFlags::ACK);
        let mut header = self.header(self.send.iss(), flags, env.now);
        header.window = self.receive.unscaled_window();
        header.options.mss = Some(self.our_mss);
        header.options.window_scale = self.offered_scale;
        header.options.sack_permitted = self.sack;
        Some((header, 0..0))
    }

    fn reset(&mut self, env: &Env<'_>) -> (TcpHeader, Range<u64>) {
        let seq = self.send.bare_seq();
        let flags = TcpFlags::RST.union(TcpFlags::ACK);
        (self.header(seq, flags, env.now), 0..0)
    }

    fn header(&mut self, seq: SeqNumber, flags: TcpFlags, now: Instant) -> TcpHeader {
        let (ack, window) = self.receive.advertise();
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
    }

    fn on_retransmission_timer(&mut self, env: &mut Env<'_>) {
        if self.state == State::SynReceived {
            self.on_syn_ack_timer(env);
        } else if self.send.is_stalled_by_window() {
            self.on_persist_timer(env);
        } else if self.send.in_flight() > 0 {
            self.on_time_out(env);
        }
    }

    fn on_syn_ack_timer(&mut self, env: &mut Env<'_>) {
        if self.syn_ack_repeats >= SYN_ACK_REPEATS_MAX {
            self.end(CloseReason::HandshakeTimeout, false);
            return;
        }
        self.syn_ack_repeats += 1;
        self.syn_ack_wanted = true;
        env.counters.retransmitted_syn_ack += 1;
        self.rtt.back_off();
    }

    /// The peer's window is closed (RFC 9293 section 3.8.6.1): probe, ever more rarely, and give up on a peer
    /// that answers but never reads (RFC 6429).
    fn on_persist_timer(&mut self, env: &mut Env<'_>) {
        let give_up_at = self.progress_at + NO_PROGRESS;
        if env.now >= give_up_at {
            self.end(CloseReason::NoProgress, true);
            return;
        }
        self.probe_wanted = true;
        self.rtt.back_off();
        let next = (env.now + self.rtt.rto()).min(give_up_at);
        self.deadlines.set(Timer::Retransmit, next);
    }

    /// RFC 6298 section 5.4-5.7, RFC 5681 section 3.1.
    fn on_time_out(&mut self, env: &mut Env<'_>) {
        if self.send.window() == 0 {
            // The peer took its window back. It is not given up as dead while it has no room (SHLD-17): the
            // retransmissions are its window probes, and progress is what counts (RFC 6429).
            if env.now >= self.progress_at + NO_PROGRESS {
                self.end(CloseReason::NoProgress, true);
                return;
            }
        } else if self.time_outs >= RETRANSMISSIONS_MAX {
            self.end(CloseReason::RetransmissionTimeout, true);
            return;
        }
        self.time_outs = self.time_outs.saturating_add(1);
        env.counters.timeouts += 1;
        let flight_size = self.flight_size();
        let first = self.loss.on_timeout(self.send.snd_una, self.send.snd_nxt);
        self.congestion.on_rto(env.now, flight_size, first);
        self.rtt.back_off();
        self.deadlines
            .set(Timer::Retransmit, env.now + self.rtt.rto());
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
