//! Between the stack and the exchanges: events of connections in, supplied bytes and closes out.

use sluice_tcp::clock::Instant;
use sluice_tcp::{ConnId, Events};

use super::Worker;
use crate::exchange::Exchange;

impl Worker {
    /// Serves every connection with news, and those that waited if a block or an open file came.
    pub(super) fn serve(&mut self, now: Instant, freed: bool) -> bool {
        let mut busy = freed;
        while let Some((conn, events)) = self.stack.poll_event() {
            busy = true;
            self.on_events(conn, events, now);
        }
        if freed {
            self.serve_waiting(now);
        }
        busy
    }

    fn on_events(&mut self, conn: ConnId, events: Events, now: Instant) {
        let slot = conn.slot();
        if events.closed.is_some() {
            self.is_waiting[slot] = false;
            if let Some(mut exchange) = self.exchanges[slot].take() {
                exchange.teardown(&mut self.services);
            }
            return;
        }
        let exchange = self.exchanges[slot].get_or_insert_with(|| Exchange::new(now));
        if events.readable {
            exchange.delivered(self.stack.delivered(conn));
        }
        if events.peer_finished {
            exchange.peer_finished();
        }
        if events.acknowledged
            && let Some(view) = self.stack.send_view(conn)
        {
            exchange.acknowledged(view.acknowledged, now, &mut self.services);
        }
        if events.deadline {
            exchange.on_deadline(now, &mut self.services);
        }
        self.advance(conn, now);
    }

    /// Connections that waited for a block or an open file, each asked once and in order, so that the one that
    /// waited longest is first when a block becomes free.
    fn serve_waiting(&mut self, now: Instant) {
        for _ in 0..self.waiting.len() {
            let Some(conn) = self.waiting.pop_front() else {
                return;
            };
            self.is_waiting[conn.slot()] = false;
            self.advance(conn, now);
        }
    }

    /// Lets an exchange work and tells the stack what follows from it.
    fn advance(&mut self, conn: ConnId, now: Instant) {
        let Some(view) = self.stack.send_view(conn) else {
            return;
        };
        let Some(exchange) = self.exchanges[conn.slot()].as_mut() else {
            return;
        };
        // One byte more than was acknowledged, however closed the window: it is probed with that byte, since
        // the update that opens it can get lost (RFC 9293 section 3.8.6.1, MUST-36). Costs a block per
        // connection that does not read, until the stack gives it up.
        let horizon = view.horizon.max(view.acknowledged + 1);
        let progress = exchange.advance(horizon, now, &mut self.services);
        if progress.abort {
            self.stack.abort(conn);
            return;
        }
        if progress.waiting && !core::mem::replace(&mut self.is_waiting[conn.slot()], true) {
            self.waiting.push_back(conn);
        }
        let deadline = exchange.deadline(&self.services);
        self.stack.consume(conn, exchange.consumed());
        self.stack.supply(conn, progress.ready_until, progress.more);
        if progress.finish {
            self.stack.close(conn, now);
        }
        self.stack.set_deadline(conn, deadline);
    }

    /// Advances a connection that had no event, as when a drain begins.
    pub(super) fn touch(&mut self, conn: ConnId, now: Instant) {
        if self.exchanges[conn.slot()].is_some() {
            self.advance(conn, now);
        }
    }
}
