//! What may be asked of a stack, for the driver and for diagnostics. Nothing here changes anything.

use core::net::IpAddr;

use super::Stack;
use crate::autotune::BuffersView;
use crate::connection::Connection;
use crate::events::ConnId;
use crate::record::ConnectionRecord;
use crate::segment::{ControlView, EcnView, SendView};
use crate::state::State;
use crate::stats::StackCounters;

impl Stack {
    /// Address of the peer, or `None` if the connection is gone.
    #[must_use]
    pub fn remote(&self, conn: ConnId) -> Option<IpAddr> {
        self.view(conn, |connection| connection.key.remote())
    }

    /// Stream offset up to which the peer's bytes were delivered in order.
    #[must_use]
    pub fn delivered(&self, conn: ConnId) -> u64 {
        self.view(conn, |connection| connection.receive.delivered())
            .unwrap_or(0)
    }

    /// Stream offset up to which the peer has acknowledged what was sent, or `None` if the connection is gone.
    #[must_use]
    pub fn acknowledged(&self, conn: ConnId) -> Option<u64> {
        self.view(conn, |connection| connection.send.acknowledged())
    }

    /// The sending side of a connection, or `None` if it is gone.
    #[must_use]
    pub fn send_view(&self, conn: ConnId) -> Option<SendView> {
        self.view(conn, |connection| {
            connection.send_view(connection.flight_end(&self.common.config, &self.common.flights))
        })
    }

    /// Bytes of room with which the peer would never wait for the window, going by what the driver consumed in each of the
    /// last two round trips; 0 while nothing is known. `None` without
    /// [`StackConfig::autotune`](crate::StackConfig::autotune). For a driver that
    /// [says its room](Self::consume_with_room), and only while it does.
    #[must_use]
    pub fn receive_wanted(&self, conn: ConnId) -> Option<u32> {
        self.common.config.autotune?;
        self.view(conn, Connection::receive_wanted)
    }

    /// What windows and flights hold of their budgets.
    #[must_use]
    pub fn buffers(&self) -> BuffersView {
        self.common.flights.budgets.view()
    }

    /// Congestion window, pacing and round trip of a connection, or `None` if it is gone.
    #[must_use]
    pub fn control_view(&self, conn: ConnId) -> Option<ControlView> {
        self.view(conn, Connection::control_view)
    }

    /// What a connection does about ECN, or `None` if it is gone.
    #[must_use]
    pub fn ecn_view(&self, conn: ConnId) -> Option<EcnView> {
        self.view(conn, Connection::ecn_view)
    }

    /// What a connection did with its time so far, or `None` if it is gone.
    #[must_use]
    pub fn record(&self, conn: ConnId) -> Option<ConnectionRecord> {
        self.view(conn, |connection| {
            connection.told_record(self.now, &self.common.flights)
        })
    }

    /// The same of the connection whose end [`poll_event`](Self::poll_event) told last, unless it ended as both
    /// sides wanted ([`CloseReason::Finished`](crate::CloseReason::Finished)).
    #[must_use]
    pub fn last_record(&self) -> Option<&ConnectionRecord> {
        self.last_record.as_ref()
    }

    /// Event rings that connections hold: zero when nothing is live.
    #[must_use]
    pub fn trails(&self) -> usize {
        self.common.flights.rings.out()
    }

    /// State of a connection or of a handshake, or `None` if it is gone.
    #[must_use]
    pub fn state(&self, conn: ConnId) -> Option<State> {
        if let Some(entry) = self.entry_of(conn) {
            let is_live = self.listener.table().is_live(entry);
            return is_live.then_some(State::SynReceived);
        }
        self.view(conn, |connection| connection.state)
    }

    /// Every live connection, for drain and for diagnostics. Walks all slots.
    pub fn connections(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.slots.iter()
    }

    /// The live connection in a slot, or the handshake (see [`ConnId::slot`]), if any.
    #[must_use]
    pub fn at_slot(&self, slot: usize) -> Option<ConnId> {
        if let Some(place) = slot.checked_sub(self.common.config.connections as usize) {
            let entry = self.listener.table().at(place)?;
            return Some(self.handshake_id(entry));
        }
        self.slots.at(slot)
    }

    /// Live connections and handshakes under way, TIME-WAIT not.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.flows.len() + self.half_open()
    }

    /// Connections that are awake. The others rest: they take a fraction of the memory.
    #[must_use]
    pub fn awake(&self) -> usize {
        self.slots.awake_count()
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
        self.slots.has_room()
    }

    /// Entries in TIME-WAIT.
    #[must_use]
    pub fn time_wait(&self) -> u32 {
        self.time_wait.len()
    }

    /// Totals since the stack was made.
    #[must_use]
    pub fn counters(&self) -> &StackCounters {
        &self.common.counters
    }

    /// Timers that are armed, one per handshake included: zero when nothing is live.
    #[must_use]
    pub fn timers(&self) -> u32 {
        self.wheel.len() + self.half_open()
    }

    fn view<T>(&self, conn: ConnId, look: impl FnOnce(&Connection) -> T) -> Option<T> {
        self.slots.view(conn, &self.common.config, look)
    }
}
