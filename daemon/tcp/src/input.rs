//! A segment arrives at a connection: the steps of RFC 9293 section 3.10.7.4 in their order, with the
//! hardening of RFC 5961 on all three edges (RST, SYN, ACK).
//!
//! [`Connection::on_segment`] is the parent that keeps the order; each step is a function below it that
//! either lets the segment pass or ends its processing with an [`Outcome`].

use core::time::Duration;

use sluice_wire::{TcpFlags, TcpHeader};

use crate::ack_run::Acks;
use crate::clock::Instant;
use crate::config::{DELAYED_ACK, FIN_WAIT_2};
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::event_ring::EventKind;
use crate::events::CloseReason;
use crate::listener;
use crate::receive::{AckWanted, NewBytes};
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::state::State;
use crate::stats::SegmentDrop;
use crate::verdict::AckSeen;

/// What a connection did with a segment.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub dropped: Option<SegmentDrop>,
    pub pieces: NewBytes,
    pub trusted: bool,
    pub rtt: Option<Duration>,
    /// A RST that goes back the way the segment came.
    pub reply: Option<TcpHeader>,
    /// Both FINs are done and acknowledged: TIME-WAIT follows.
    pub time_wait: bool,
}

impl Outcome {
    pub(crate) fn dropped(reason: SegmentDrop) -> Self {
        Outcome {
            dropped: Some(reason),
            ..Outcome::default()
        }
    }
}

/// Which budget an answer to an unacceptable segment is taken from (RFC 5961 section 7).
#[derive(Clone, Copy)]
enum Budget {
    ResetOrSyn,
    Other,
}

impl Connection {
    /// Processes a segment of this flow. Payload stays with the caller, who keeps `pieces` of it.
    pub(crate) fn on_segment(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> Outcome {
        let header = segment.header;
        if self.finish.is_some() {
            return Outcome::dropped(SegmentDrop::OutsideWindow);
        }
        if self.state == State::SynSent {
            return self.on_segment_syn_sent(segment, env);
        }
        if self.state == State::SynReceived
            && let Some(outcome) = self.on_crossing_syn(header, env)
        {
            return outcome;
        }
        if let Some(reason) = self
            .check_timestamp(segment, env)
            .or_else(|| self.check_sequence(segment, env))
            .or_else(|| self.check_reset(header, env))
            .or_else(|| self.check_syn(segment, env))
        {
            return Outcome::dropped(reason);
        }
        if !header.flags.contains(TcpFlags::ACK) {
            return Outcome::dropped(SegmentDrop::NoAck);
        }
        if self.state == State::SynReceived && header.ack != self.send.seq(0).raw() {
            // Nothing but our SYN can be acknowledged yet. Not a challenge: the peer may be talking about a connection
            // that we have forgotten (RFC 9293 section 3.5.2).
            return Outcome {
                reply: listener::refusal(segment),
                ..Outcome::dropped(SegmentDrop::AckOutOfRange)
            };
        }
        let Some(ack) = self.acceptable_ack(header) else {
            // Data and all: an attacker who guesses SEQ must also guess ACK (RFC 5961 section 5.2).
            self.challenge(Budget::Other, env);
            return Outcome::dropped(SegmentDrop::AckOutOfRange);
        };
        if self.state == State::SynReceived {
            self.establish(header, true, env);
            if self.control.ecn.on_final_ack(header, segment.payload_len) {
                self.steer_by_handshake_mark(env);
            }
        }
        let mut outcome = Outcome {
            trusted: true,
            ..Outcome::default()
        };
        self.process_acceptable(segment, ack, Acks::ONE, env, &mut outcome);
        if self.finish.is_some() {
            return outcome;
        }
        self.process_payload(segment, env, &mut outcome);
        outcome
    }

    /// Processes a run of acknowledgements, for which `segment` stands and which has passed the checks. The round-trip
    /// time that it measured.
    pub(crate) fn on_acks(
        &mut self,
        segment: &Segment<'_>,
        acks: Acks,
        env: &mut Env<'_>,
    ) -> Option<Duration> {
        let ack = self.acceptable_ack(segment.header)?;
        let mut outcome = Outcome::default();
        self.process_acceptable(segment, ack, acks, env, &mut outcome);
        outcome.rtt
    }

    /// What an acceptable segment says by its header, up to the fifth check.
    fn process_acceptable(
        &mut self,
        segment: &Segment<'_>,
        ack: i64,
        acks: Acks,
        env: &mut Env<'_>,
        outcome: &mut Outcome,
    ) {
        self.keep_alive_restarts(env);
        self.on_probe_answered();
        let is_newer = self.is_newer(segment.header);
        self.move_ts_recent(segment.header, env);
        self.note_codepoint(segment, env);
        self.process_ack(segment, (ack, is_newer), acks, env, outcome);
    }

    /// The SYN of the peer again, in SYN-RECEIVED after a simultaneous open. It lies below the window by now, so the first
    /// check would drop what the handshake needs.
    fn on_crossing_syn(&mut self, header: &TcpHeader, env: &mut Env<'_>) -> Option<Outcome> {
        let seq = SeqNumber::new(header.seq);
        let is_first = self.receive.window.distance_to_next(seq) == -1;
        if !is_first
            || !header.flags.contains(TcpFlags::SYN)
            || header.flags.contains(TcpFlags::RST)
        {
            return None;
        }
        if !header.flags.contains(TcpFlags::ACK) {
            // Our SYN-ACK may be lost; say it again without waiting for the timer.
            self.syn_wanted = true;
        } else if header.ack == self.send.seq(0).raw() {
            // Simultaneous open (RFC 9293 section 3.5, figure 7): the peer repeats its SYN to say that it has
            // ours. The window of a SYN is never scaled (RFC 7323 section 2.2).
            self.establish(header, false, env);
            self.receive.want_ack_now();
        } else {
            return None;
        }
        Some(Outcome {
            trusted: true,
            ..Outcome::default()
        })
    }

    /// RFC 7323 section 5.3, R1, and section 3.2. RST is exempt from both; so is SYN, whose answer must reach a
    /// peer that restarted without our connection, and maybe without timestamps (RFC 5961 section 4.2).
    fn check_timestamp(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> Option<SegmentDrop> {
        let header = segment.header;
        let state = self.timestamps.as_ref()?;
        if header.flags.intersects(TcpFlags::RST.union(TcpFlags::SYN)) {
            return None;
        }
        match header.options.timestamps {
            None => Some(SegmentDrop::TimestampMissing),
            Some(timestamps) if state.is_old(timestamps.value, env.now) => {
                if segment.payload_len > 0 && self.is_repeat(segment) {
                    // An original that its retransmission has overtaken: told so (RFC 2883 section 4), the peer takes
                    // back what it did for a loss.
                    let seq = SeqNumber::new(header.seq);
                    self.receive.on_repeat(seq, segment.payload_len);
                } else {
                    self.challenge(Budget::Other, env);
                }
                Some(SegmentDrop::Paws)
            }
            Some(_) => None,
        }
    }

    /// First check: the sequence number (RFC 9293 section 3.10.7.4).
    fn check_sequence(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> Option<SegmentDrop> {
        let header = segment.header;
        let seq = SeqNumber::new(header.seq);
        if header.flags.contains(TcpFlags::RST)
            || self
                .receive
                .window
                .is_acceptable(seq, segment.sequence_len())
        {
            return None;
        }
        if header.flags.contains(TcpFlags::SYN) {
            self.challenge_syn(segment, env);
            return Some(SegmentDrop::SynInConnection);
        }
        let is_keep_alive =
            segment.sequence_len() == 0 && self.receive.window.distance_to_next(seq) == -1;
        if self.is_repeat(segment) {
            // A peer whose data or FIN comes again has lost our acknowledgement: it is answered always, because nothing
            // else makes it go on. No guess of a stranger gets so far as easily as one at the window.
            self.receive.on_repeat(seq, segment.payload_len);
        } else if is_keep_alive {
            // It waits for exactly this answer, or is the acknowledgement of a peer that thinks us a byte behind, to
            // whom the answer would look the same.
            if self.keep_alive_answers.take_unspaced(env.now) {
                self.receive.want_ack_now();
            }
        } else {
            self.challenge(Budget::Other, env);
        }
        Some(SegmentDrop::OutsideWindow)
    }

    /// Whether it begins with what was received, and no further back than what a peer may have in flight.
    fn is_repeat(&self, segment: &Segment<'_>) -> bool {
        let behind = -self
            .receive
            .window
            .distance_to_next(SeqNumber::new(segment.header.seq));
        let reach = i64::from(self.receive.window.reach_of_repeats());
        segment.sequence_len() > 0 && (1..=reach).contains(&behind)
    }

    /// Second check: RST (RFC 5961 section 3.2).
    fn check_reset(&mut self, header: &TcpHeader, env: &mut Env<'_>) -> Option<SegmentDrop> {
        if !header.flags.contains(TcpFlags::RST) {
            return None;
        }
        let seq = SeqNumber::new(header.seq);
        if self.receive.window.distance_to_next(seq) == 0 {
            env.counters.resets_received += 1;
            // Who is in SYN-RECEIVED here has opened, and both SYNs crossed.
            let reason = match self.state {
                State::SynReceived => CloseReason::Refused,
                _ => CloseReason::PeerReset,
            };
            self.end(reason, false);
            return Some(SegmentDrop::ConnectionReset);
        }
        if self.receive.window.contains(seq) {
            self.challenge(Budget::ResetOrSyn, env);
        }
        Some(SegmentDrop::ResetNotExact)
    }

    /// Fourth check: SYN (RFC 5961 section 4.2).
    fn check_syn(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> Option<SegmentDrop> {
        if !segment.header.flags.contains(TcpFlags::SYN) {
            return None;
        }
        self.challenge_syn(segment, env);
        Some(SegmentDrop::SynInConnection)
    }

    /// If it is the SYN-ACK again, our ACK of it may be lost: that says as what the SYN-ACK arrived (RFC 9768 section
    /// 3.2.2.1).
    fn challenge_syn(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        let header = segment.header;
        let seq = SeqNumber::new(header.seq);
        let is_answered = self.challenge(Budget::ResetOrSyn, env);
        if is_answered
            && header.flags.contains(TcpFlags::ACK)
            && header.ack == self.send.seq(0).raw()
            && self.receive.window.offset_of(seq) == -1
        {
            self.control.ecn.on_syn_ack_again(header.flags, segment.ecn);
        }
    }

    /// Fifth check: the stream offset acknowledged, if it is one we could have expected
    /// (RFC 5961 section 5.2).
    fn acceptable_ack(&self, header: &TcpHeader) -> Option<i64> {
        let ack = self.send.offset_of(SeqNumber::new(header.ack));
        let una = signed(self.send.snd_una);
        let oldest = una - i64::from(self.send.max_window());
        (ack >= oldest && ack <= signed(self.send.snd_max())).then_some(ack)
    }

    /// The final ACK of the handshake. A close that came before it takes effect now.
    fn establish(&mut self, header: &TcpHeader, scaled: bool, env: &mut Env<'_>) {
        self.state = if self.send.is_finishing() {
            State::FinWait1
        } else {
            State::Established
        };
        env.counters.accepted += 1;
        self.count_ecn(env);
        self.send
            .set_first_window(SeqNumber::new(header.seq), header.window, scaled);
        self.complete_handshake(header, env);
    }

    /// What both ways of opening have in common: events, timers, and the first round-trip time.
    pub(crate) fn complete_handshake(&mut self, header: &TcpHeader, env: &Env<'_>) {
        self.events.established = true;
        self.syn_wanted = false;
        self.deadlines.clear(Timer::Retransmit);
        if self.syn_repeats > 0 {
            // RFC 6298 section 5.7.
            self.rtt.handshake_was_retransmitted();
        }
        if self.syn_repeats > 1 {
            // RFC 6928 section 2: a single repeat does not cost the initial window, more do.
            self.congestion.on_rto(env.now, 0, false);
        }
        let round_trip = match self.syns_sent {
            // A cookie, whose timestamp holds options in place of the last 64 ms.
            0 => None,
            1 => Some(env.now.saturating_since(self.progress_at)),
            // It is not known which one this acknowledges (Karn), unless it says so.
            _ => self.echoed_round_trip(header, env.now),
        };
        if let Some(rtt) = round_trip {
            self.rtt.sample(env.now, rtt);
        }
        self.progress_at = env.now;
    }

    /// Whether a segment is newer than all before it by its timestamp.
    fn is_newer(&self, header: &TcpHeader) -> bool {
        let state = self.timestamps.as_ref();
        let value = header.options.timestamps.map(|option| option.value);
        (state.zip(value)).is_some_and(|(state, value)| state.is_newer(value))
    }

    fn move_ts_recent(&mut self, header: &TcpHeader, env: &Env<'_>) {
        // RFC 7323 section 4.3 (2): only a segment that begins at or before the last ACK we sent.
        if let (Some(state), Some(timestamps)) = (&mut self.timestamps, header.options.timestamps)
            && SeqNumber::new(header.seq).le(self.last_ack_sent)
        {
            state.update(timestamps.value, env.now);
        }
    }

    fn process_ack(
        &mut self,
        segment: &Segment<'_>,
        (ack, is_newer): (i64, bool),
        acks: Acks,
        env: &mut Env<'_>,
        outcome: &mut Outcome,
    ) {
        let header = segment.header;
        let una_before = self.send.snd_una;
        let ack = u64::try_from(ack).unwrap_or(0);
        if self.catch_optimist(ack, header) {
            return;
        }
        let in_flight = u32::try_from(self.pipe()).unwrap_or(u32::MAX);
        let advanced = ack > una_before;
        if advanced {
            self.advance(ack, header, env, outcome);
        }
        let was_closed = self.send.window() == 0;
        let window_changed = ack >= una_before
            && self
                .send
                .update_window(SeqNumber::new(header.seq), ack, header.window, advanced);
        if window_changed {
            self.on_window_changed(was_closed, env);
        }
        // RFC 5681 section 2: nothing but an acknowledgement number we already had, while data is out. A peer
        // with SACK says by a block what came (RFC 6675 section 2); without one its ACK is an echo of a
        // duplicated packet, not a sign of loss. Neither is the answer to a window probe, which had no room.
        let duplicate = ack == una_before
            && !advanced
            && segment.sequence_len() == 0
            && !window_changed
            && self.send.in_flight() > 0
            && !self.send.is_probing()
            && header.options.sack.is_empty();
        let seen = AckSeen {
            snd_una: self.send.snd_una,
            snd_nxt: self.send.snd_nxt,
            acked: self.send.snd_una - una_before,
            duplicate,
            dsack: self.duplicate_sack(header, ack),
            echoed_ms: self.echoed_ms(header, env.now),
            is_newer,
            acks,
        };
        if let Some(range) = &seen.dsack {
            self.note(EventKind::Duplicate, 0, range.end - range.start, env);
        }
        let news = self.hear_ack(&seen, header, in_flight, env);
        if advanced || window_changed || news || (duplicate && !self.sack) {
            // Each of them moves the horizon of the driver.
            self.events.acknowledged = true;
            self.keep_retransmission_timer(advanced, env.now);
        }
        if advanced || news {
            self.keep_tail_probe(env.now);
        }
        if advanced && self.send.is_fin_acknowledged() {
            outcome.time_wait |= self.on_fin_acknowledged(env.now);
        }
    }

    fn advance(&mut self, ack: u64, header: &TcpHeader, env: &mut Env<'_>, outcome: &mut Outcome) {
        // The timed segment is exact to the nanosecond; timestamps tick in milliseconds but survive
        // retransmission.
        let untimed = self.send.was_sent_again() || self.rtt.srtt().is_none();
        let mut sample = self.send.on_acknowledged(ack, env.now);
        if sample.is_none() && untimed {
            sample = self.echoed_round_trip(header, env.now);
        }
        if let Some(rtt) = sample {
            self.rtt.sample(env.now, rtt);
            self.loss.on_rtt_sample();
            outcome.rtt = Some(rtt);
        }
        self.rtt.reset_back_off();
        self.time_outs = 0;
        self.progress_at = env.now;
    }

    /// Round trip by the echoed timestamp (RFC 7323 section 4). A zero echo is what broken peers send instead.
    pub(crate) fn echoed_round_trip(&self, header: &TcpHeader, now: Instant) -> Option<Duration> {
        let echo = header.options.timestamps?.echo;
        let state = self.timestamps.as_ref().filter(|_| echo != 0)?;
        state.round_trip(echo, now)
    }

    /// When the segment left that an acknowledgement echoes.
    fn echoed_ms(&self, header: &TcpHeader, now: Instant) -> Option<u64> {
        let echo = header.options.timestamps?.echo;
        let state = self.timestamps.as_ref().filter(|_| echo != 0)?;
        state.echoed_ms(echo, now)
    }

    fn on_window_changed(&mut self, was_closed: bool, env: &mut Env<'_>) {
        self.send.take_back_probe();
        self.loss.take_back(self.send.snd_nxt, env.flights);
        if self.send.window() == 0 {
            if !was_closed {
                self.on_window_taken(env.now);
            }
            return;
        }
        if was_closed && self.time_outs > 0 {
            self.on_window_back(env.now);
        }
        if self.time_outs == 0 {
            // What was backed off were the probes (RFC 9293 section 3.8.6.1), not retransmissions.
            self.rtt.reset_back_off();
        }
        if was_closed {
            self.on_window_opened(env.now);
        }
    }

    /// RFC 6298 section 5: off when everything is acknowledged, restarted by acknowledgements of new data and by
    /// nothing else, or a peer could put it off for ever. With the window closed and data waiting the same timer
    /// times the probes.
    fn keep_retransmission_timer(&mut self, advanced: bool, now: Instant) {
        if self.send.in_flight() == 0 && !self.send.is_stalled_by_window() {
            self.end_wait(now);
        } else if advanced || !self.deadlines.is_set(Timer::Retransmit) {
            if self.send.is_stalled_by_window() {
                self.begin_to_wait(now);
            } else {
                self.restart_retransmission_timer(now);
            }
        }
    }

    /// Seventh and eighth check: payload and FIN. Urgent data is in line (RFC 6093), so URG needs no step.
    fn process_payload(&mut self, segment: &Segment<'_>, env: &mut Env<'_>, outcome: &mut Outcome) {
        let fin = segment.header.flags.contains(TcpFlags::FIN);
        if (segment.payload_len == 0 && !fin) || !self.state.can_receive() {
            if segment.payload_len > 0 || fin {
                // The peer has finished before: this is a repeat, and it wants our ACK.
                self.receive.want_ack_now();
            }
            return;
        }
        let seq = SeqNumber::new(segment.header.seq);
        self.receive.make_room(&mut env.flights.held);
        let arrival = self.receive.on_payload(seq, segment.payload_len, fin);
        self.receive.tidy(&mut env.flights.held);
        let is_unwanted = self.receive_closed && !arrival.pieces.is_empty();
        if is_unwanted && self.is_closed_for_good() {
            // RFC 9293 section 3.6.1: the peer is told that it was lost.
            self.end(CloseReason::DataNotRead, true);
            return;
        }
        if arrival.refused {
            env.counters.drop(SegmentDrop::OutOfOrderFull);
        }
        if self.state == State::FinWait2 && arrival.advanced && !self.receive_closed {
            // Half-closed, and the peer is heard (RFC 9293 section 3.6, case 1): only its silence ends that.
            self.deadlines.set(Timer::FinWait2, env.now + FIN_WAIT_2);
        }
        self.tune_receive(segment, env);
        if is_unwanted {
            self.receive.on_consumed(self.receive.delivered());
        } else {
            self.events.readable |= arrival.advanced;
            outcome.pieces = arrival.pieces;
        }
        if arrival.finished {
            self.note(EventKind::PeerFinished, 0, self.send.in_flight(), env);
            outcome.time_wait |= self.on_peer_finished();
        }
        if self.receive.ack_wanted() == AckWanted::Delayed
            && !self.deadlines.is_set(Timer::DelayedAck)
        {
            self.deadlines.set(Timer::DelayedAck, env.now + DELAYED_ACK);
        }
    }

    /// The peer lives: the silence is counted from now on.
    pub(crate) fn keep_alive_restarts(&mut self, env: &Env<'_>) {
        if let Some(keep_alive) = env.config.keep_alive {
            self.keep_alive_probes = 0;
            self.deadlines
                .set(Timer::KeepAlive, env.now + keep_alive.idle);
        }
    }

    /// Whether an answer leaves.
    fn challenge(&mut self, budget: Budget, env: &mut Env<'_>) -> bool {
        let noise = self.send.iss().raw();
        let budget = match budget {
            Budget::ResetOrSyn => &mut self.challenge_reset,
            Budget::Other => &mut self.challenge_other,
        };
        let is_answered = budget.take(env.now, noise);
        if is_answered {
            env.counters.challenge_acks += 1;
            self.receive.want_ack_now();
        }
        is_answered
    }
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
