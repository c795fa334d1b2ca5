//! What a connection sends next, and what its timers do.
//!
//! [`Connection::next_segment`] is asked until it answers `None`. The order: RST, SYN-ACK, what is lost, new
//! data with the FIN, a window probe, a keep-alive probe, a bare ACK. Every segment carries the
//! acknowledgement, so an ACK is only bare when nothing else leaves.

use core::ops::Range;

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

use crate::clock::Instant;
use crate::config::{NO_PROGRESS, RETRANSMISSIONS_MAX, SYN_ACK_REPEATS_MAX};
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::events::CloseReason;
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
            if let Some(segment) = self.next_data(env) {
                return Some(segment);
            }
        }
        // A finished connection may still owe its last ACK.
        (self.receive.ack_wanted() == AckWanted::Now).then(|| self.bare_ack(env))
    }

    fn next_data(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if let Some(cut) = self.next_lost() {
            return Some(self.send_again(&cut, env));
        }
        if let Some(cut) = self.next_new(env) {
            return Some(self.send_new(&cut, env));
        }
        if self.probe_wanted {
            self.probe_wanted = false;
            if let Some(cut) = self.send.probe() {
                return Some(self.send_probe(&cut, env));
            }
        }
        if self.keep_alive_wanted {
            self.keep_alive_wanted = false;
            env.counters.keep_alive_probes += 1;
            // SEQ = SND.NXT - 1 with no data (RFC 9293 section 3.8.4): outside the window, so it is answered.
            let seq = self.send.seq(self.send.snd_nxt).add(u32::MAX);
            return Some((self.header(seq, TcpFlags::ACK, env.now), 0..0));
        }
        None
    }

    fn next_lost(&self) -> Option<Cut> {
        let range = self.loss.next_retransmission(self.send.snd_una)?;
        let cut = self.send.recut(&range, self.max_payload());
        let room = u64::from(self.congestion.cwnd()).saturating_sub(self.pipe());
        let fits = room >= Sender::end_of(&cut) - cut.payload.start;
        (fits || self.loss.goes_at_once()).then_some(cut)
    }

    fn next_new(&mut self, env: &Env<'_>) -> Option<Cut> {
        if self.send.in_flight() == 0
            && self.send.supplied() > self.send.snd_nxt
            && env.now.saturating_since(self.send.last_sent_at) > self.rtt.rto()
        {
            // Restart after idle (RFC 5681 section 4.1).
            self.congestion.on_idle_restart();
        }
        let pipe = self.pipe();
        let window = u64::from(self.congestion.cwnd()).saturating_sub(pipe);
        let budget = u64::from(env.config.send_limit).saturating_sub(self.send.in_flight());
        let max_payload = self.max_payload();
        let mut allowance = window.min(budget);
        if allowance < u64::from(max_payload) {
            // A congestion window of less than a segment still lets one out when nothing is in flight; else
            // wait for room for a whole one rather than send a sliver.
            allowance = if pipe == 0 { u64::from(max_payload) } else { 0 };
        }
        self.send.next_new(max_payload, allowance)
    }

    fn send_again(&mut self, cut: &Cut, env: &mut Env<'_>) -> (TcpHeader, Range<u64>) {
        if self.loss.is_timeout() {
            env.counters.retransmitted_timeout += 1;
        } else {
            env.counters.retransmitted_fast += 1;
        }
        self.loss.on_retransmitted(Sender::end_of(cut));
        self.send.on_sent_again(env.now);
        self.deadlines
            .set(Timer::Retransmit, env.now + self.rtt.rto());
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
        self.send.on_sent_new(cut, env.now);
        self.send.on_sent_again(env.now);
        self.send.probe_outstanding = true;
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
        let seq = self.send.seq(self.send.snd_nxt);
        let mut header = self.header(seq, TcpFlags::ACK, env.now);
        header.options.sack = blocks.unwrap_or_default();
        (header, 0..0)
    }

    fn syn_ack(&mut self, env: &mut Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if !core::mem::take(&mut self.syn_ack_wanted) {
            return (self.receive.ack_wanted() == AckWanted::Now).then(|| self.bare_ack(env));
        }
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
        let seq = self.send.seq(self.send.snd_nxt);
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

    /// Payload of a full segment: the MSS less the options that every data segment carries (RFC 6691).
    fn max_payload(&self) -> u32 {
        self.smss()
    }

    /// Acts on every timer that is due. Returns whether a segment may now be waiting.
    pub(crate) fn on_timers(&mut self, env: &mut Env<'_>) -> bool {
        let now = env.now;
        let mut transmit = false;
        if self.deadlines.take_due(Timer::Retransmit, now) {
            self.on_retransmission_timer(env);
            transmit = true;
        }
        if self.deadlines.take_due(Timer::DelayedAck, now) {
            self.receive.want_ack_now();
            transmit = true;
        }
        if self.deadlines.take_due(Timer::KeepAlive, now) {
            self.on_keep_alive_timer(env);
            transmit = true;
        }
        if self.deadlines.take_due(Timer::FinWait2, now) && self.state == State::FinWait2 {
            self.end(CloseReason::FinWaitTimeout, false);
            transmit = true;
        }
        if self.deadlines.take_due(Timer::Driver, now) {
            self.events.deadline = true;
        }
        transmit
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
        if env.now.saturating_since(self.progress_at) > NO_PROGRESS {
            self.end(CloseReason::NoProgress, true);
            return;
        }
        self.probe_wanted = true;
        self.rtt.back_off();
        self.deadlines
            .set(Timer::Retransmit, env.now + self.rtt.rto());
    }

    /// RFC 6298 section 5.4-5.7, RFC 5681 section 3.1.
    fn on_time_out(&mut self, env: &mut Env<'_>) {
        if self.time_outs >= RETRANSMISSIONS_MAX {
            self.end(CloseReason::RetransmissionTimeout, true);
            return;
        }
        self.time_outs += 1;
        env.counters.timeouts += 1;
        let in_flight = u32::try_from(self.send.in_flight()).unwrap_or(u32::MAX);
        let first = self.loss.on_timeout(self.send.snd_una, self.send.snd_nxt);
        self.congestion.on_rto(env.now, in_flight, first);
        self.rtt.back_off();
        self.deadlines
            .set(Timer::Retransmit, env.now + self.rtt.rto());
    }

    fn on_keep_alive_timer(&mut self, env: &mut Env<'_>) {
        let Some(keep_alive) = env.config.keep_alive else {
            return;
        };
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
