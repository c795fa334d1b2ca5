//! All connections of one worker: flows, timers and the order of work.

use std::collections::VecDeque;

use sluice_wire::TcpHeader;

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::{Connection, Env};
use crate::events::{CloseReason, ConnId, Events};
use crate::flight_pool::FlightPool;
use crate::flow_table::{FlowKey, FlowTable};
use crate::handshake::Handshake;
use crate::listener::{self, Arrival, Listener};
use crate::segment::{ControlView, Disposition, Outgoing, Receipt, Segment, SendView};
use crate::seq::SeqNumber;
use crate::state::State;
use crate::stats::{SegmentDrop, StackCounters};
use crate::syn_table::EntryId;
use crate::time_wait::{Answer, Remnant, TimeWaitTable};
use crate::wheel::TimerWheel;

/// Segments one connection may send before the next has its turn: keeps a flow's state in cache for a burst
/// and still shares the ring (deficit round robin with a quantum of 16 segments).
const TURN_SEGMENTS: u32 = 16;
/// Timers served per call of [`Stack::on_timers`]; the rest is due at once again.
const TIMERS_PER_TURN: u32 = 1024;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    /// Of the slot and not of its connection: the entry may outlive that.
    in_transmit_queue: bool,
    connection: Option<Connection>,
}

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
/// Call order of a turn, as in the worker: [`on_segment`](Self::on_segment) for every segment received,
/// [`on_timers`](Self::on_timers), then [`poll_event`](Self::poll_event) until it is empty while the driver
/// reacts with [`supply`](Self::supply), [`consume`](Self::consume), [`close`](Self::close) or
/// [`abort`](Self::abort), and [`poll_transmit`](Self::poll_transmit) while there is room to send. A loop
/// that has nothing to do sleeps until [`next_deadline`](Self::next_deadline).
///
/// Nothing allocates after [`new`](Self::new) except the first use of a connection slot, which fills memory
/// reserved there.
pub struct Stack {
    config: StackConfig,
    flows: FlowTable,
    slots: Vec<Slot>,
    free: Vec<u32>,
    wheel: TimerWheel,
    flights: FlightPool,
    transmit: VecDeque<u32>,
    turn_left: u32,
    events: VecDeque<u32>,
    time_wait: TimeWaitTable,
    listener: Listener,
    counters: StackCounters,
}

impl Stack {
    /// A stack whose clock stands at `now`. All memory is reserved here.
    #[must_use]
    pub fn new(mut config: StackConfig, now: Instant) -> Self {
        let capacity = config.connections.max(1);
        config.connections = capacity;
        let reserve = capacity as usize;
        Stack {
            flows: FlowTable::new(capacity, config.flow_hash_key),
            slots: Vec::with_capacity(reserve),
            free: Vec::with_capacity(reserve),
            wheel: TimerWheel::new(capacity, now),
            flights: FlightPool::new(capacity),
            transmit: VecDeque::with_capacity(reserve),
            turn_left: TURN_SEGMENTS,
            events: VecDeque::with_capacity(reserve),
            time_wait: TimeWaitTable::new(config.time_wait, config.flow_hash_key),
            listener: Listener::new(&config, now),
            counters: StackCounters::default(),
            config,
        }
    }

    /// Processes one segment. The driver keeps the payload bytes that the receipt names.
    ///
    /// [`Disposition::Unknown`] asks the driver to look for another owner of the flow, and to call
    /// [`refuse`](Self::refuse) if there is none.
    pub fn on_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Receipt {
        self.counters.segments_in += 1;
        let receipt = match self.flows.get(&segment.key) {
            Some(slot) => self.on_connection_segment(slot, now, segment),
            None => self.on_strange_segment(now, segment),
        };
        if let Disposition::Dropped(reason) = receipt.disposition {
            self.counters.drop(reason);
        }
        receipt
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
        if outcome.time_wait {
            connection.end(CloseReason::Finished, false);
            let remnant = remnant(connection);
            self.time_wait.insert(remnant, now);
        }
        let origin = connection
            .receive
            .offset_of(SeqNumber::new(segment.header.seq));
        self.settle(slot);
        Receipt {
            conn: Some(self.id(slot)),
            disposition: match (outcome.foreign, outcome.dropped) {
                (true, _) => Disposition::Unknown,
                (false, Some(reason)) => Disposition::Dropped(reason),
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
        let after = match self.time_wait.answer(segment, now) {
            Some(Answer::Acknowledge(header)) => {
                return Receipt {
                    reply: Some(header),
                    ..Receipt::dropped(SegmentDrop::TimeWait)
                };
            }
            Some(Answer::Drop(reason)) => return Receipt::dropped(reason),
            Some(Answer::Reopen { snd_nxt }) => Some(snd_nxt),
            None => None,
        };
        let room = self.has_room();
        let mut env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        match self.listener.on_segment(segment, after, room, &mut env) {
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
                ..Receipt::dropped(reason)
            },
        }
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
        let Some(slot) = self.take_slot() else {
            return Receipt::dropped(SegmentDrop::ConnectionsFull);
        };
        if self.flows.insert(segment.key, slot).is_err() {
            self.free.push(slot);
            return Receipt::dropped(SegmentDrop::ConnectionsFull);
        }
        let mut env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        self.listener.complete(handshake, entry, &mut env);
        let connection = Connection::from_handshake(handshake, &env);
        self.slots[slot as usize].connection = Some(connection);
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
        if is_half_open || self.flows.get(&key).is_some() || self.time_wait.contains(&key) {
            return Err(ConnectError::InUse);
        }
        let slot = self.take_slot().ok_or(ConnectError::Full)?;
        if self.flows.insert(key, slot).is_err() {
            self.free.push(slot);
            return Err(ConnectError::Full);
        }
        let env = Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        let connection = Connection::active(key, &env);
        self.slots[slot as usize].connection = Some(connection);
        self.settle(slot);
        Ok(self.id(slot))
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
            connection.on_timers(&mut env);
            self.settle(slot);
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
        while let Some(slot) = self.events.pop_front() {
            let id = self.id(slot);
            let entry = &mut self.slots[slot as usize];
            let Some(connection) = entry.connection.as_mut() else {
                continue;
            };
            connection.in_event_queue = false;
            let events = core::mem::take(&mut connection.events);
            if events.closed.is_some() {
                entry.connection = None;
                entry.generation = entry.generation.wrapping_add(1);
                self.free.push(slot);
            }
            return Some((id, events));
        }
        None
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.transmit.is_empty() || self.listener.table().has_due()
    }

    /// The next segment to send; `None` when nothing may leave now. Connections take turns.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if self.listener.table().has_due() {
            return self.next_of_handshakes(now);
        }
        while let Some(&slot) = self.transmit.front() {
            let Some((connection, mut env)) = split(
                &mut self.slots,
                &self.config,
                &mut self.counters,
                &mut self.flights,
                slot,
                now,
            ) else {
                self.leave_transmit_queue();
                continue;
            };
            if let Some((header, payload)) = connection.next_segment(&mut env) {
                let key = connection.key;
                let has_news = !connection.events.is_empty() && !connection.in_event_queue;
                connection.in_event_queue |= has_news;
                let ect = connection.control.ecn.take_ect();
                self.counters.segments_out += 1;
                if has_news {
                    self.events.push_back(slot);
                }
                self.take_turn();
                return Some(Outgoing {
                    conn: self.id(slot),
                    key,
                    header,
                    payload,
                    ect,
                });
            }
            connection.loss.rest(env.flights);
            if connection.finish.is_none() && connection.send.is_stalled_by_window() {
                arm_persist(connection, now);
            }
            self.leave_transmit_queue();
            self.retire_if_done(slot);
            self.schedule(slot);
        }
        None
    }

    fn leave_transmit_queue(&mut self) {
        if let Some(slot) = self.transmit.pop_front() {
            self.slots[slot as usize].in_transmit_queue = false;
            self.turn_left = TURN_SEGMENTS;
        }
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
            ect: false,
        })
    }

    fn take_turn(&mut self) {
        self.turn_left -= 1;
        if self.turn_left == 0 {
            self.turn_left = TURN_SEGMENTS;
            self.transmit.rotate_left(1);
        }
    }

    /// The driver can produce the bytes of the stream up to `until`. With `more_follows` a short segment
    /// at the end waits for company.
    pub fn supply(&mut self, conn: ConnId, until: u64, more_follows: bool) {
        if let Some(connection) = self.get_mut(conn) {
            connection.send.supply(until, more_follows);
            self.want_transmit(conn.slot);
        }
    }

    /// The driver is done with the received bytes below `until`: the window may open.
    pub fn consume(&mut self, conn: ConnId, until: u64) {
        if let Some(connection) = self.get_mut(conn) {
            connection.receive.on_consumed(until);
            self.want_transmit(conn.slot);
        }
    }

    /// FIN after what was supplied.
    pub fn close(&mut self, conn: ConnId, now: Instant) {
        if let Some(connection) = self.get_mut(conn) {
            connection.close(now);
            self.want_transmit(conn.slot);
        }
    }

    /// RST, and the connection is gone (RFC 9293 section 3.10.5).
    pub fn abort(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            connection.abort();
            self.want_transmit(conn.slot);
        } else if let Some(entry) = self.entry_of(conn) {
            self.listener.abort(entry);
        }
    }

    /// Sets or clears the driver's own deadline, reported as [`Events::deadline`].
    pub fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>) {
        use crate::deadlines::Timer;
        if let Some(connection) = self.get_mut(conn) {
            match at {
                Some(at) if connection.finish.is_none() => {
                    connection.deadlines.set(Timer::Driver, at);
                }
                _ => connection.deadlines.clear(Timer::Driver),
            }
            self.schedule(conn.slot);
        }
    }

    /// Whether new connections are answered; while draining a SYN gets silence, so that a router can send
    /// the retry elsewhere.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.listener.set_accepting(accepting);
    }

    /// Stream offset up to which the peer's bytes were delivered in order.
    #[must_use]
    pub fn delivered(&self, conn: ConnId) -> u64 {
        self.get(conn).map_or(0, |c| c.receive.delivered())
    }

    /// The sending side of a connection, or `None` if it is gone.
    #[must_use]
    pub fn send_view(&self, conn: ConnId) -> Option<SendView> {
        self.get(conn).map(Connection::send_view)
    }

    /// Congestion window, pacing and round trip of a connection, or `None` if it is gone.
    #[must_use]
    pub fn control_view(&self, conn: ConnId) -> Option<ControlView> {
        self.get(conn).map(Connection::control_view)
    }

    /// State of a connection or of a handshake, or `None` if it is gone.
    #[must_use]
    pub fn state(&self, conn: ConnId) -> Option<State> {
        if let Some(entry) = self.entry_of(conn) {
            let is_live = self.listener.table().is_live(entry);
            return is_live.then_some(State::SynReceived);
        }
        self.get(conn).map(|c| c.state)
    }

    /// Every live connection, for drain and for diagnostics. Walks all slots.
    pub fn connections(&self) -> impl Iterator<Item = ConnId> + '_ {
        (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.connection.is_some())
            .map(|(index, slot)| ConnId {
                slot: index,
                generation: slot.generation,
            })
    }

    /// The live connection in a slot, or the handshake (see [`ConnId::slot`]), if any.
    #[must_use]
    pub fn at_slot(&self, slot: usize) -> Option<ConnId> {
        if let Some(place) = slot.checked_sub(self.config.connections as usize) {
            let entry = self.listener.table().at(place)?;
            return Some(self.handshake_id(entry));
        }
        let entry = self.slots.get(slot)?;
        entry.connection.as_ref()?;
        Some(ConnId {
            slot: u32::try_from(slot).ok()?,
            generation: entry.generation,
        })
    }

    /// Live connections and handshakes under way, TIME-WAIT not.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.flows.len() + self.half_open()
    }

    /// Whether no connection is live and no handshake under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handshakes under way, those in cookies not.
    #[must_use]
    pub fn half_open(&self) -> u32 {
        self.listener.table().len()
    }

    /// Whether so many SYNs come that the driver should have some dropped before they get here: the SYN table is
    /// nearly full, or as many cookies leave per second as it has entries.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        self.listener.is_flooded()
    }

    /// Whether a connection slot is free: without one, SYNs are dropped. A slot becomes free when
    /// [`poll_event`](Self::poll_event) has said that its connection is gone.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.config.connections as usize
    }

    /// Entries in TIME-WAIT.
    #[must_use]
    pub fn time_wait(&self) -> u32 {
        self.time_wait.len()
    }

    /// Totals since the stack was made.
    #[must_use]
    pub fn counters(&self) -> &StackCounters {
        &self.counters
    }

    /// Timers that are armed, one per handshake included: zero when nothing is live.
    #[must_use]
    pub fn timers(&self) -> u32 {
        self.wheel.len() + self.half_open()
    }

    fn id(&self, slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: self.slots[slot as usize].generation,
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

    fn get(&self, conn: ConnId) -> Option<&Connection> {
        let slot = self.slots.get(conn.slot as usize)?;
        slot.connection
            .as_ref()
            .filter(|_| slot.generation == conn.generation)
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        slot.connection
            .as_mut()
            .filter(|_| slot.generation == conn.generation)
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() >= self.config.connections as usize {
            return None;
        }
        let slot = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot::default());
        Some(slot)
    }

    /// After anything happened on a connection: queue its events, let it transmit, keep its timer.
    fn settle(&mut self, slot: u32) {
        self.retire_if_done(slot);
        let Some(connection) = self.slots[slot as usize].connection.as_mut() else {
            return;
        };
        if !connection.events.is_empty() && !connection.in_event_queue {
            connection.in_event_queue = true;
            self.events.push_back(slot);
        }
        self.want_transmit(slot);
        self.schedule(slot);
    }

    fn want_transmit(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if let Some(connection) = &entry.connection
            && connection.events.closed.is_none()
            && !core::mem::replace(&mut entry.in_transmit_queue, true)
        {
            self.transmit.push_back(slot);
        }
    }

    /// Moves the wheel entry forward only if the earliest deadline is before it.
    fn schedule(&mut self, slot: u32) {
        let Some(connection) = self.slots[slot as usize].connection.as_mut() else {
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

    /// Takes a connection that is over and owes no segment out of everything but the event queue. What it holds is
    /// free then even if nothing can be sent.
    fn retire_if_done(&mut self, slot: u32) {
        let Some(connection) = self.slots[slot as usize].connection.as_mut() else {
            return;
        };
        if connection.events.closed.is_some() || !connection.is_done() {
            return;
        }
        connection.events.closed = connection.finish;
        connection.loss.release(&mut self.flights);
        connection.release_markers(&mut self.flights);
        self.flows.remove(&connection.key);
        self.wheel.cancel(slot);
        if !connection.in_event_queue {
            connection.in_event_queue = true;
            self.events.push_back(slot);
        }
    }
}

/// The connection in a slot and what it needs from the stack, borrowed side by side.
fn split<'a>(
    slots: &'a mut [Slot],
    config: &'a StackConfig,
    counters: &'a mut StackCounters,
    flights: &'a mut FlightPool,
    slot: u32,
    now: Instant,
) -> Option<(&'a mut Connection, Env<'a>)> {
    let connection = slots.get_mut(slot as usize)?.connection.as_mut()?;
    let env = Env {
        now,
        config,
        counters,
        flights,
    };
    Some((connection, env))
}

fn arm_persist(connection: &mut Connection, now: Instant) {
    use crate::deadlines::Timer;
    if !connection.deadlines.is_set(Timer::Retransmit) {
        connection.progress_at = now;
        connection
            .deadlines
            .set(Timer::Retransmit, now + connection.rtt.rto());
    }
}

fn remnant(connection: &mut Connection) -> Remnant {
    let ts = connection.timestamps.as_ref();
    Remnant {
        key: connection.key,
        snd_nxt: connection.send.seq(connection.send.snd_nxt),
        rcv_nxt: connection.receive.ack_number(),
        window: connection.receive.unscaled_window(),
        timestamps: ts.map(|state| (state.ts_recent(), state.offset())),
    }
}
