//! Between the stack and the exchanges: events of connections in, supplied bytes and closes out.

use sluice_tcp::clock::Instant;
use sluice_tcp::{ConnId, Events};

use super::Worker;
use super::refill::Reach;
use crate::exchange::Exchange;

/// Waiting connections that are asked in one turn: every block that becomes free may concern any of them, and there
/// may be as many as there are connections.
const ASKED_PER_TURN: usize = 256;

/// Connections with news that are served before what they have to say leaves. Their peers go on while the others of the
/// turn are served: otherwise server and clients of many small objects work by turns, and each sleeps meanwhile
/// (docs/PERFORMANCE.md, "Small objects"). Fewer cost more kicks, each of which wakes somebody.
const SERVED_AT_ONCE: u32 = 32;

impl Worker {
    /// Serves every connection with news, and those that waited if a block or an open file came.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        freed: bool,
        clock: &mut impl FnMut() -> Instant,
    ) -> bool {
        let mut busy = freed;
        let mut served = 0;
        // Before the news, so that who was put off by the disk's budget is not put off again by those who come after it.
        if freed {
            self.to_ask = self.waiting.len();
        }
        self.serve_waiting(now);
        while let Some((conn, events)) = self.stack.poll_event() {
            busy = true;
            self.on_events(conn, events, now);
            served += 1;
            if served == SERVED_AT_ONCE {
                served = 0;
                self.transmit(clock());
                self.kick();
            }
        }
        for _ in 0..self.refill.due() {
            if let Some(conn) = self.refill.take() {
                self.advance(conn, now);
            }
        }
        busy | (self.to_ask > 0)
    }

    fn on_events(&mut self, conn: ConnId, events: Events, now: Instant) {
        let slot = conn.slot();
        if events.closed.is_some() {
            self.is_waiting[slot] = false;
            self.refill.note(conn, false);
            self.idle_line.leave(slot);
            if let (Some(farewells), Some(record)) = (&self.farewells, self.stack.last_record()) {
                farewells.push(record);
            }
            if let Some(mut exchange) = self.exchanges[slot].take() {
                exchange.teardown(&mut self.services);
            }
            return;
        }
        let peer = || self.stack.remote(conn);
        let exchange =
            self.exchanges[slot].get_or_insert_with(|| Exchange::new(now).with_peer(peer()));
        if events.readable {
            self.turn_length.on_request(now);
            exchange.delivered(self.stack.delivered(conn));
        }
        if events.peer_finished {
            exchange.peer_finished();
        }
        if events.acknowledged
            && let Some(acknowledged) = self.stack.acknowledged(conn)
        {
            exchange.acknowledged(acknowledged, now, &mut self.services);
        }
        if events.deadline {
            // If it ends an idle connection, the time for its last words begins: then it stands at the end again.
            self.idle_line.leave(slot);
            exchange.on_deadline(now, &mut self.services);
            if exchange.has_lingered() {
                self.stack.close_receive(conn);
            }
        }
        self.advance(conn, now);
    }

    /// Connections that waited for a block or an open file, each asked once and in order; what is too much for one
    /// turn is due in the next.
    fn serve_waiting(&mut self, now: Instant) {
        let asked = self.to_ask.min(ASKED_PER_TURN);
        self.to_ask -= asked;
        for _ in 0..asked {
            let Some(conn) = self.waiting.pop_front() else {
                self.to_ask = 0;
                return;
            };
            self.is_waiting[conn.slot()] = false;
            self.counters.waiting_asked += 1;
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
        // Of a peer whose window is closed the horizon is what it acknowledged: its blocks go back, and come again
        // when the window opens or a probe is due.
        if exchange.is_uploading() {
            exchange.set_wanted(self.stack.receive_wanted(conn));
        }
        let runs = self.turn_length.runs_ahead(self.refill.wanting(), now);
        let reach = Reach::of(&view, runs);
        let progress = exchange.advance(reach.horizon, now, &mut self.services);
        if progress.abort {
            self.stack.abort(conn);
            return;
        }
        let asks = progress.waiting || progress.asks_again;
        if asks && !core::mem::replace(&mut self.is_waiting[conn.slot()], true) {
            self.waiting.push_back(conn);
        }
        // The end of the stream is never cut off: a FIN goes behind what is supplied.
        let cut = reach.cuts(progress.ready_until) && !progress.finish;
        self.refill
            .note(conn, reach.capped && (progress.more || cut));
        let deadline = exchange.deadline(&self.services);
        let consumed = exchange.consumed();
        match exchange.promise(&self.services) {
            Some(edge) => {
                let room = u32::try_from(edge.saturating_sub(consumed)).unwrap_or(u32::MAX);
                self.stack.consume_with_room(conn, consumed, room);
            }
            None => self.stack.consume(conn, consumed),
        }
        // All that was asked for is there: nothing is lacking but the next turn.
        let is_served = reach.capped && progress.ready_until >= reach.horizon;
        let awaited = progress.awaited.filter(|_| !is_served);
        self.stack.waits_for(conn, awaited);
        if cut {
            self.stack.supply(conn, reach.horizon, true);
        } else {
            self.stack.supply(conn, progress.ready_until, progress.more);
        }
        if progress.finish {
            self.stack.close(conn, now);
        }
        self.stack.set_deadline(conn, deadline);
        self.note_idle(conn);
    }

    /// Resets a connection for a reason of this worker, which its caller counts.
    pub(super) fn give_up(&mut self, conn: ConnId) {
        if let Some(exchange) = &mut self.exchanges[conn.slot()] {
            exchange.given_up();
        }
        self.stack.abort(conn);
    }

    /// Advances a connection that had no event, as when a drain begins.
    pub(super) fn touch(&mut self, conn: ConnId, now: Instant) {
        if self.exchanges[conn.slot()].is_some() {
            self.advance(conn, now);
        }
    }
}
