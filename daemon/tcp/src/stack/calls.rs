//! What the driver tells the stack about one connection, or about all.
//!
//! None of these calls sends: what follows from them leaves with the next [`Stack::poll_transmit`]. A connection that is
//! gone takes them without effect.

use core::time::Duration;

use super::Stack;
use crate::clock::Instant;
use crate::connection::millis;
use crate::deadlines::Timer;
use crate::events::ConnId;
use crate::record::Awaited;

impl Stack {
    /// Says what the driver waits for before it can supply more, until it says otherwise; `None` is nothing, or its
    /// application if more was said to follow. Told before a [`supply`](Self::supply), it costs a store.
    pub fn waits_for(&mut self, conn: ConnId, awaited: Option<Awaited>) {
        if let Some(connection) = self.get_mut(conn) {
            connection.record.wait_for(awaited);
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

    /// The driver is done with the received bytes below `until`: the window may open, to the size of the receive buffer.
    pub fn consume(&mut self, conn: ConnId, until: u64) {
        let capacity = self.common.config.receive_buffer;
        if let Some(connection) = self.get_mut(conn) {
            if connection.receive.window.is_driven() {
                connection.receive.window.end_driving(capacity);
            }
            connection.receive.on_consumed(until);
            self.want_transmit(conn.slot);
        }
    }

    /// The same while the driver stores what comes elsewhere than in its receive buffer: it has room for `room` bytes
    /// from `until` on, no more and no less, until the next [`Self::consume`]. What the window promised before must stay
    /// storable (RFC 9293 section 3.8.6: a window is not to be shrunk), so `until + room` never falls.
    /// Without effect before the handshake is complete: a SYN promises the receive buffer, and nothing is there yet.
    pub fn consume_with_room(&mut self, conn: ConnId, until: u64, room: u32) {
        if let Some(connection) = self.get_mut(conn)
            && connection.state.is_synchronized()
        {
            connection.receive.on_consumed_with_room(until, room);
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

    /// The driver reads no more. What still comes is acknowledged and thrown away while our direction is open. Once it
    /// is [closed](Self::close) too, data that comes, or that is not [consumed](Self::consume), ends the connection by
    /// RST (RFC 9293 section 3.6.1) with
    /// [`CloseReason::DataNotRead`](crate::CloseReason::DataNotRead), so that the peer knows that it was lost.
    pub fn close_receive(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            connection.close_receive();
            self.want_transmit(conn.slot);
        }
    }

    /// The user timeout of one connection (RFC 9293 section 3.9.1.8), in place of
    /// [`StackConfig::user_timeout`](crate::StackConfig::user_timeout); `None` is the limit of repetitions. Looked at
    /// when the retransmission timer fires.
    pub fn set_user_timeout(&mut self, conn: ConnId, limit: Option<Duration>) {
        if let Some(connection) = self.get_mut(conn) {
            connection.user_timeout_ms = millis(limit);
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

    /// Sets or clears the driver's own deadline, reported as [`Events::deadline`](crate::Events::deadline).
    pub fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>) {
        if !self.slots.is_live(conn) {
            return;
        }
        if let Some(resting) = self.slots.resting(conn.slot) {
            resting.set_deadline(at);
            self.schedule_resting(conn.slot);
        } else if let Some((connection, _)) = self.slots.awake(conn.slot) {
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
}
