//! All connections of one worker: flows, timers and the order of work.
//!
//! Here is what a stack is made of, and what is done when anything happened on a connection. The rest by what brings it
//! about: `arrivals` are segments and ICMP errors, or runs of acknowledgements (`runs`); `timers` is time; `transmit` is
//! room to send; `connect` and `calls` are what the driver tells, `views` what it may ask. Parts of a stack that are
//! nobody else's: `flows`, and the `common` ground of its connections.

mod arrivals;
mod calls;
mod common;
mod connect;
mod flows;
mod runs;
mod timers;
mod transmit;
mod views;

use common::Common;
use flows::Flows;

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::Connection;
use crate::events::{CloseReason, ConnId, Events};
use crate::listener::Listener;
use crate::queues::Queues;
use crate::record::ConnectionRecord;
use crate::slots::Slots;
use crate::syn_table::EntryId;
use crate::time_wait::TimeWaitTable;
use crate::wheel::TimerWheel;

pub use connect::ConnectError;

/// The TCP of one worker.
///
/// Call order of a turn, as in the worker: [`on_segment`](Self::on_segment) for every segment received, or
/// [`begin_run`](Self::begin_run) for acknowledgements that may come in a row, then [`on_timers`](Self::on_timers), then
/// [`poll_event`](Self::poll_event) until it is empty while the driver reacts with [`supply`](Self::supply),
/// [`consume`](Self::consume), [`close`](Self::close) or [`abort`](Self::abort), and
/// [`poll_transmit`](Self::poll_transmit) or [`poll_transmit_run`](Self::poll_transmit_run) while there is room to send.
/// A loop that has nothing to do sleeps until [`next_deadline`](Self::next_deadline).
///
/// Nothing allocates after [`new`](Self::new) except the first use of a connection slot, which fills memory
/// reserved there.
pub struct Stack {
    common: Common,
    flows: Flows,
    pub(crate) slots: Slots,
    wheel: TimerWheel,
    queues: Queues,
    time_wait: TimeWaitTable,
    listener: Listener,
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
            flows: Flows::new(&config),
            slots: Slots::new(capacity),
            wheel: TimerWheel::new(capacity, now),
            queues: Queues::new(capacity as usize),
            time_wait: TimeWaitTable::new(config.time_wait, config.flow_hash_key),
            listener: Listener::new(&config, now),
            now,
            last_record: None,
            common: Common::new(config),
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
                    .then(|| connection.told_record(self.now, &self.common.flights));
                connection.record.release(&mut self.common.flights);
                self.slots.free(slot);
            }
            return Some((id, events));
        }
        None
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
        let mut env = self.common.env(self.now);
        connection.record.on_quiet(&mut env);
        match connection.finish {
            Some(CloseReason::UserTimeout) => self.common.counters.user_timeouts += 1,
            Some(CloseReason::DataNotRead) => self.common.counters.data_not_read += 1,
            Some(CloseReason::OptimisticAck) => self.common.counters.optimistic_acks += 1,
            _ => {}
        }
        connection.loss.release(&mut self.common.flights);
        connection.release_markers(&mut self.common.flights);
        connection.receive.release(&mut self.common.flights.held);
        connection.release_buffers(&mut self.common.flights);
        self.flows.remove(&connection.key, slot);
        self.wheel.cancel(slot);
        self.queues.announce(slot, queued);
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        if !self.slots.is_live(conn) {
            return None;
        }
        self.slots.wake(conn.slot, &self.common.config)
    }

    fn handshake_id(&self, entry: EntryId) -> ConnId {
        ConnId {
            slot: self.common.config.connections + u32::from(entry.index),
            generation: entry.generation.into(),
        }
    }

    fn entry_of(&self, conn: ConnId) -> Option<EntryId> {
        let index = conn.slot.checked_sub(self.common.config.connections)?;
        Some(EntryId {
            index: u16::try_from(index).ok()?,
            generation: u16::try_from(conn.generation).ok()?,
        })
    }
}
