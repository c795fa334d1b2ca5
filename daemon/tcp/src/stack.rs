//! All connections of one worker: flows, timers and the order of work.
//!
//! Here is what segments and time bring about. What the driver tells a connection is in `calls`, what it may ask in
//! `views`, and acknowledgements that come in runs are in `runs`.

mod calls;
mod runs;
mod views;

use sluice_wire::{IcmpError, TcpHeader};

use crate::autotune::Budgets;
use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::event_ring::EventKind;
use crate::events::{CloseReason, ConnId, Events};
use crate::flight_pool::FlightPool;
use crate::flow_table::{FlowKey, FlowTable};
use crate::handshake::Handshake;
use crate::listener::{self, Arrival, Listener};
use crate::queues::Queues;
use crate::record::ConnectionRecord;
use crate::runs::{Run, RunLimit};
use crate::segment::{Disposition, Outgoing, Receipt, Segment};
use crate::seq::SeqNumber;
use crate::slots::Slots;
use crate::stats::{IcmpVerdict, SegmentDrop, StackCounters};
use crate::syn_table::EntryId;
use crate::time_wait::{Answer, Remnant, TimeWaitTable};
use crate::timestamps::TimestampState;
use crate::wheel::TimerWheel;

/// Timers served per call of [`Stack::on_timers`]; the rest is due at once again.
const TIMERS_PER_TURN: u32 = 1024;

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// A connection of this tuple lives or is about to, or did so within TIME-WAIT.
    InUse,
    /// [`StackConfig::connections`] are open.
    Full,
}

impl core::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ConnectError::InUse => "the address and port pair is in use: take another local port",
            ConnectError::Full => "no room for another connection: raise the limit of connections",
        })
    }
}

impl core::error::Error for ConnectError {}

/// The TCP of one worker.
///
/// Call order of a turn, as in the worker: [`on_segment`](Self::on_segment) for every segment received, or
/// [`begin_run`](Self::begin_run) for acknowledgements that may come in a row, then [`on_timers`](Self::on_timers), then [`poll_event`](Self::poll_event) until it is empty while the driver
/// reacts with [`supply`](Self::supply), [`consume`](Self::consume), [`close`](Self::close) or
/// [`abort`](Self::abort), and [`poll_transmit`](Self::poll_transmit) or
/// [`poll_transmit_run`](Self::poll_transmit_run) while there is room to send. A loop
/// that has nothing to do sleeps until [`next_deadline`](Self::next_deadline).
///
/// Nothing allocates after [`new`](Self::new) except the first use of a connection slot, which fills memory
/// reserved there.
pub struct Stack {
    config: StackConfig,
    flows: FlowTable,
    pub(crate) slots: Slots,
    wheel: TimerWheel,
    flights: FlightPool,
    queues: Queues,
    time_wait: TimeWaitTable,
    listener: Listener,
    counters: StackCounters,
    /// Where the flow of the last segment lives, until a flow ends: segments of one flow come in a row.
    recent: Option<u32>,
    /// The latest time that a call told.
    now: Instant,
    /// Of the connection that ended last, if it ended badly.
    last_record: Option<ConnectionRecord>,
}

impl Stack {
    /// A stack whose clock stands at `now`. All memory is reserved here.
    #[must_use]
    pub fn new(mut config: StackConfig, now: Instant) -> Self {
        let capacity = config.connections.max(1);
        config.connections = capacity;
        Stack {
            flows: FlowTable::new(capacity, config.flow_hash_key),
            slots: Slots::new(capacity),
            wheel: TimerWheel::new(capacity, now),
            flights: FlightPool::new(capacity).with_budgets(Budgets::new(&config)),
            queues: Queues::new(capacity as usize),
            time_wait: TimeWaitTable::new(config.time_wait, config.flow_hash_key),
            listener: Listener::new(&config, now),
            counters: StackCounters::default(),
            recent: None,
            now,
            last_record: None,
            config,
        }
    }

    /// Processes one segment. The driver keeps the payload bytes that the receipt names.
    ///
    /// [`Disposition::Unknown`] asks the driver to look for another owner of the flow, and to call
    /// [`refuse`](Self::refuse) if there is none.
    pub fn on_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Receipt {
        self.counters.segments_in += 1;
        self.now = now;
        match self.slot_of(&segment.key) {
            Some(slot) => {
                self.recent = Some(slot);
                self.on_connection_segment(slot, now, segment)
            }
            None => self.on_strange_segment(now, segment),
        }
    }

    fn on_connection_segment(&mut self, slot: u32, now: Instant, segment: &Segment<'_>) -> Receipt {
        let Some((connection, mut env)) = split(
            &mut self.slots,
            &self.config,
            &mut self.counters,
            &mut self.flights,
            slot,
            now,
        ) else {
            return Receipt::unknown();
        };
        let outcome = connection.on_segment(segment, &mut env);
        if let Some(reason) = outcome.dropped {
            let len = segment.payload_len.into();
            connection.note(EventKind::Dropped, reason as u8, len, &mut env);
        }
        if outcome.time_wait {
            connection.end(CloseReason::Finished, false);
            let remnant = remnant(connection);
            self.time_wait.insert(&remnant, now);
        }
        let origin = connection
            .receive
            .window
            .offset_of(SeqNumber::new(segment.header.seq));
        self.settle(slot);
        Receipt {
            conn: Some(self.slots.id(slot)),
            disposition: match (outcome.foreign, outcome.dropped) {
                (true, _) => Disposition::Unknown,
                (false, Some(reason)) => {
                    self.counters.drop(reason);
                    Disposition::Dropped(reason)
                }
                (false, None) => Disposition::Accepted,
            },
            pieces: outcome.pieces,
            payload_start: origin,
            trusted: outcome.trusted,
            rtt: outcome.rtt,
            reply: outcome.reply,
        }
    }

    fn on_strange_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Receipt {
        let after = match self.time_wait.answer(segment, &self.config.secret, now) {
            Some(Answer::Acknowledge(header)) => {
                return Receipt {
                    reply: Some(header),
                    ..self.dropped(SegmentDrop::TimeWait)
                };
            }
            Some(Answer::Drop(reason)) => return self.dropped(reason),
            Some(Answer::Reopen { snd_nxt }) => Some(snd_nxt),
            None => None,
        };
        let room = self.slots.has_room();
        let mut env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        let arrival = self.listener.on_segment(segment, after, room, &mut env);
        if after.is_some() && matches!(arrival, Arrival::Pending(..)) {
            self.time_wait.reopened(&segment.key);
        }
        match arrival {
            Arrival::Complete(handshake, entry) => self.complete(now, segment, &handshake, entry),
            Arrival::Pending(entry, reply) => Receipt {
                conn: Some(self.handshake_id(entry)),
                disposition: Disposition::Accepted,
                trusted: true,
                reply,
                ..Receipt::unknown()
            },
            Arrival::Cookie(header) => Receipt {
                disposition: Disposition::Accepted,
                reply: Some(header),
                ..Receipt::unknown()
            },
            Arrival::Stray => Receipt::unknown(),
            Arrival::Drop(reason, reply) => Receipt {
                reply,
                ..self.dropped(reason)
            },
        }
    }

    fn dropped(&mut self, reason: SegmentDrop) -> Receipt {
        self.counters.drop(reason);
        Receipt::dropped(reason)
    }

    /// The final ACK of a handshake takes a connection slot. Without a free one it is dropped: the peer will send it
    /// again with its data, and nobody is ESTABLISHED whom nobody serves.
    fn complete(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        handshake: &Handshake,
        entry: Option<EntryId>,
    ) -> Receipt {
        let Some(slot) = self.slots.take(segment.key) else {
            return self.dropped(SegmentDrop::ConnectionsFull);
        };
        if self.flows.insert(&segment.key, slot).is_err() {
            self.slots.free(slot);
            return self.dropped(SegmentDrop::ConnectionsFull);
        }
        let mut env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        self.listener.complete(handshake, entry, &mut env);
        let connection = Connection::from_handshake(handshake, &env);
        self.slots.place(slot, connection);
        self.on_connection_segment(slot, now, segment)
    }

    /// Active open (RFC 9293 section 3.10.1): the SYN leaves with the next [`poll_transmit`](Self::poll_transmit).
    /// Bytes may be supplied at once. The end of the handshake is [`Events::established`], its failure
    /// [`Events::closed`] with [`CloseReason::Refused`] or [`CloseReason::HandshakeTimeout`].
    ///
    /// # Errors
    /// The tuple is in use or in TIME-WAIT (take another local port), or there is no room.
    pub fn connect(&mut self, key: FlowKey, now: Instant) -> Result<ConnId, ConnectError> {
        let is_half_open = self.listener.table().find(&key).is_some();
        if is_half_open || self.slot_of(&key).is_some() || self.time_wait.contains(&key) {
            return Err(ConnectError::InUse);
        }
        let slot = self.slots.take(key).ok_or(ConnectError::Full)?;
        if self.flows.insert(&key, slot).is_err() {
            self.slots.free(slot);
            return Err(ConnectError::Full);
        }
        let env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        let connection = Connection::active(key, &env);
        self.slots.place(slot, connection);
        self.settle(slot);
        Ok(self.slots.id(slot))
    }

    /// An ICMP error that quotes a segment of ours; the driver has checked it and that the address quoted is ours.
    ///
    /// What changes is done by the time of the next [`poll_transmit`](Self::poll_transmit).
    /// `None`, which is not counted here: no flow of this stack. With several workers it may be another's, so the driver
    /// looks for its owner, as with a segment, and counts it once.
    pub fn on_icmp(&mut self, now: Instant, error: &IcmpError) -> Option<IcmpVerdict> {
        let quoted = &error.quoted;
        let key = FlowKey::new(quoted.src, quoted.src_port, quoted.dst, quoted.dst_port);
        let verdict = match self.slot_of(&key) {
            Some(slot) => self.on_connection_icmp(slot, now, error)?,
            // What a handshake has sent is short, and it is repeated anyway.
            None if self.listener.table().find(&key).is_some() => IcmpVerdict::Soft,
            None => return None,
        };
        self.counters.icmp[verdict.index()] += 1;
        Some(verdict)
    }

    fn on_connection_icmp(
        &mut self,
        slot: u32,
        now: Instant,
        error: &IcmpError,
    ) -> Option<IcmpVerdict> {
        if self.slots.resting(slot).is_some() {
            // Nothing is in flight, so nobody has to wake up for it.
            return Some(IcmpVerdict::NotInFlight);
        }
        let (connection, mut env) = split(
            &mut self.slots,
            &self.config,
            &mut self.counters,
            &mut self.flights,
            slot,
            now,
        )?;
        let verdict = connection.on_icmp(error, &mut env);
        self.settle(slot);
        Some(verdict)
    }

    /// The answer to a segment that belongs to no worker: a RST, or nothing (RFC 9293 section 3.10.7.1).
    #[must_use]
    pub fn refuse(&mut self, segment: &Segment<'_>) -> Option<TcpHeader> {
        let answer = listener::refusal(segment)?;
        self.counters.refused += 1;
        Some(answer)
    }

    /// Serves due timers: bounded work, the rest is due at once again.
    pub fn on_timers(&mut self, now: Instant) {
        self.now = now;
        self.time_wait.expire(now);
        let mut env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        self.listener.on_timers(TIMERS_PER_TURN, &mut env);
        for _ in 0..TIMERS_PER_TURN {
            let Some(slot) = self.wheel.pop_expired(now) else {
                return;
            };
            let Some((connection, mut env)) = split(
                &mut self.slots,
                &self.config,
                &mut self.counters,
                &mut self.flights,
                slot,
                now,
            ) else {
                continue;
            };
            connection.scheduled_at = None;
            let may_rest = connection.deadlines.take_due(Timer::Rest, now);
            connection.on_timers(&mut env);
            if may_rest {
                connection.begin_anew_at_rest(&mut env);
            }
            if !(may_rest && self.lay_to_rest(slot, now)) {
                self.settle(slot);
            }
        }
    }

    /// Earliest moment at which [`on_timers`](Self::on_timers) has something to do; may be early.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let handshakes = self.listener.next_deadline();
        match (self.wheel.next_deadline(), handshakes) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The next connection with news.
    pub fn poll_event(&mut self) -> Option<(ConnId, Events)> {
        while let Some(slot) = self.queues.next_event() {
            let id = self.slots.id(slot);
            Queues::heard(self.slots.queued(slot));
            let Some((connection, _)) = self.slots.awake(slot) else {
                continue;
            };
            let events = core::mem::take(&mut connection.events);
            if let Some(reason) = events.closed {
                self.last_record = (reason != CloseReason::Finished)
                    .then(|| connection.told_record(self.now, &self.flights));
                connection.record.release(&mut self.flights);
                self.slots.free(slot);
            }
            return Some((id, events));
        }
        None
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.queues.wants_transmit() || self.listener.table().has_due()
    }

    /// The next segment to send; `None` when nothing may leave now. Connections take turns.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.poll_transmit_run(now, RunLimit::ONE)
    }

    /// As [`poll_transmit`](Self::poll_transmit), with the segments that would follow at this moment joined to the first
    /// as far as `limit` goes. Polled by runs until it says `None`, a stack sends the same segments in the same order as
    /// polled one by one; what makes a segment different ends a run (see `runs`).
    pub fn poll_transmit_run(&mut self, now: Instant, limit: RunLimit) -> Option<Outgoing> {
        self.now = now;
        if self.listener.table().has_due() {
            return self.next_of_handshakes(now);
        }
        while let Some(slot) = self.queues.transmitter() {
            let Some((connection, queued)) = self.slots.awake(slot) else {
                self.queues.end_turn(self.slots.queued(slot));
                continue;
            };
            let mut env = Env {
                now,
                config: &self.config,
                counters: &mut self.counters,
                flights: &mut self.flights,
            };
            let mut run = Run::new(limit, self.queues.turn_left());
            if let Some((header, payload)) = connection.next_segment(&mut run, &mut env) {
                let key = connection.key;
                let ect = connection.control.ecn.take_ect();
                if !connection.events.is_empty() {
                    self.queues.announce(slot, queued);
                }
                let segment_len = run.segment_len(&payload);
                self.counters.segments_out += u64::from(run.segments());
                self.queues.take_turn(run.segments());
                return Some(Outgoing {
                    conn: self.slots.id(slot),
                    key,
                    header,
                    payload,
                    segment_len,
                    ect,
                });
            }
            connection.loss.clear(env.flights);
            connection.settle_buffers(env.config, env.flights);
            if connection.send.in_flight() == 0 {
                connection.record.let_go(env.flights);
            }
            if connection.finish.is_none()
                && connection.send.is_stalled_by_window()
                && !connection.deadlines.is_set(Timer::Retransmit)
            {
                connection.begin_to_wait(now);
            }
            let is_fresh = connection.send.is_fresh();
            self.queues.end_turn(queued);
            if is_fresh && self.lay_to_rest(slot, now) {
                continue;
            }
            if let Some((connection, _)) = self.slots.awake(slot) {
                connection.expect_rest(now);
            }
            self.retire_if_done(slot);
            self.schedule(slot);
        }
        None
    }

    fn next_of_handshakes(&mut self, now: Instant) -> Option<Outgoing> {
        let mut env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        let (entry, key, header) = self.listener.next_due(&mut env)?;
        self.counters.segments_out += 1;
        Some(Outgoing {
            conn: self.handshake_id(entry),
            key,
            header,
            payload: 0..0,
            segment_len: 0,
            ect: false,
        })
    }

    fn slot_of(&self, key: &FlowKey) -> Option<u32> {
        let is_flow = |slot| self.slots.key(slot) == Some(key);
        match self.recent {
            Some(slot) if is_flow(slot) => Some(slot),
            _ => self.flows.get(key, is_flow),
        }
    }

    fn handshake_id(&self, entry: EntryId) -> ConnId {
        ConnId {
            slot: self.config.connections + u32::from(entry.index),
            generation: entry.generation.into(),
        }
    }

    fn entry_of(&self, conn: ConnId) -> Option<EntryId> {
        let index = conn.slot.checked_sub(self.config.connections)?;
        Some(EntryId {
            index: u16::try_from(index).ok()?,
            generation: u16::try_from(conn.generation).ok()?,
        })
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        if !self.slots.is_live(conn) {
            return None;
        }
        self.slots.wake(conn.slot, &self.config)
    }

    /// After anything happened on a connection: queue its events, let it transmit, keep its timer.
    fn settle(&mut self, slot: u32) {
        self.retire_if_done(slot);
        let Some((connection, queued)) = self.slots.awake(slot) else {
            return;
        };
        if !connection.events.is_empty() {
            self.queues.announce(slot, queued);
        }
        self.want_transmit(slot);
        self.schedule(slot);
    }

    fn want_transmit(&mut self, slot: u32) {
        if let Some((connection, queued)) = self.slots.awake(slot)
            && connection.events.closed.is_none()
        {
            let is_new = connection.send.in_flight() == 0;
            self.queues.want_transmit(slot, is_new, queued);
        }
    }

    /// Moves the wheel entry forward only if the earliest deadline is before it.
    fn schedule(&mut self, slot: u32) {
        let Some((connection, _)) = self.slots.awake(slot) else {
            return;
        };
        if let Some(at) = connection.deadlines.earliest()
            && connection.events.closed.is_none()
            && connection.scheduled_at.is_none_or(|known| at < known)
        {
            connection.scheduled_at = Some(at);
            self.wheel.schedule(slot, at);
        }
    }

    /// Packs a connection if nothing is under way on it, and says whether it rests now.
    fn lay_to_rest(&mut self, slot: u32, now: Instant) -> bool {
        let rests = self.slots.rest(slot, now);
        if rests {
            self.schedule_resting(slot);
        }
        rests
    }

    /// As [`Self::schedule`], for a connection at rest.
    fn schedule_resting(&mut self, slot: u32) {
        if let Some(resting) = self.slots.resting(slot) {
            match resting.wakes_at() {
                Some(at) => self.wheel.schedule(slot, at),
                None => {
                    self.wheel.cancel(slot);
                }
            }
        }
    }

    /// Takes a connection that is over and owes no segment out of everything but the event queue. What it holds is
    /// free then even if nothing can be sent.
    fn retire_if_done(&mut self, slot: u32) {
        let Some((connection, queued)) = self.slots.awake(slot) else {
            return;
        };
        if connection.events.closed.is_some() || !connection.is_done() {
            return;
        }
        connection.events.closed = connection.finish;
        let mut env = Env {
            now: self.now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        connection.record.on_quiet(&mut env);
        match connection.finish {
            Some(CloseReason::UserTimeout) => self.counters.user_timeouts += 1,
            Some(CloseReason::DataNotRead) => self.counters.data_not_read += 1,
            Some(CloseReason::OptimisticAck) => self.counters.optimistic_acks += 1,
            _ => {}
        }
        connection.loss.release(&mut self.flights);
        connection.release_markers(&mut self.flights);
        connection.receive.release(&mut self.flights.held);
        connection.release_buffers(&mut self.flights);
        self.flows.remove(&connection.key, slot);
        self.recent = None;
        self.wheel.cancel(slot);
        self.queues.announce(slot, queued);
    }
}

/// The connection in a slot and what it needs from the stack, borrowed side by side.
fn split<'a>(
    slots: &'a mut Slots,
    config: &'a StackConfig,
    counters: &'a mut StackCounters,
    flights: &'a mut FlightPool,
    slot: u32,
    now: Instant,
) -> Option<(&'a mut Connection, Env<'a>)> {
    let connection = slots.wake(slot, config)?;
    let env = Env {
        now,
        config,
        counters,
        flights,
    };
    Some((connection, env))
}

fn remnant(connection: &mut Connection) -> Remnant {
    let ts = connection.timestamps.as_ref();
    Remnant {
        key: connection.key,
        snd_nxt: connection.send.seq(connection.send.snd_nxt),
        rcv_nxt: connection.receive.window.ack_number(),
        window: connection.receive.window.unscaled(),
        ts_recent: ts.map(TimestampState::ts_recent),
    }
}
