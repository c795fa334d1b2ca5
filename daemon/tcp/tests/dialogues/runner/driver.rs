//! The driver of the stack: what a script has it call, and what it does every turn.

use sluice_tcp::Events;

use super::{IRS, Peer, Runner, key};
use crate::script::Call;

impl Runner {
    /// What a `do` line asks for.
    pub(super) fn call(&mut self, call: &Call, port: u16) -> Result<(), String> {
        self.transcript
            .push(format!("{} do {call:?}", self.stamp(self.now)));
        if let Call::Accepting(accepting) = call {
            self.stack.set_accepting(*accepting);
            return Ok(());
        }
        if let Call::Connect = call {
            return self.connect(port);
        }
        let peer = self.peers.get(&port).and_then(|peer| peer.conn);
        let conn = peer.ok_or("no connection on this port")?;
        match call {
            Call::Supply(until, more) => {
                self.stack.supply(conn, *until, *more);
                if let Some(peer) = self.peers.get_mut(&port) {
                    peer.supplied = *until;
                }
            }
            Call::Consume(until) => self.stack.consume(conn, *until),
            Call::Room(until, bytes) => self.stack.consume_with_room(conn, *until, *bytes),
            Call::Close => self.stack.close(conn, self.now),
            Call::CloseReceive => self.stack.close_receive(conn),
            Call::WaitsFor(awaited) => {
                self.stack.waits_for(conn, *awaited);
                let view = self.stack.send_view(conn);
                // As a driver does that has nothing more to give.
                let supplied = self.peers[&port].supplied.max(view.map_or(0, |v| v.sent));
                self.stack.supply(conn, supplied, awaited.is_some());
            }
            Call::UserTimeout(limit) => self.stack.set_user_timeout(conn, *limit),
            Call::Abort => self.stack.abort(conn),
            Call::Deadline(time) => {
                let at = time.map(|time| self.now + time);
                self.stack.set_deadline(conn, at);
            }
            Call::Accepting(_) | Call::Connect => {}
        }
        Ok(())
    }

    fn connect(&mut self, port: u16) -> Result<(), String> {
        let conn = self.stack.connect(key(self.ipv6, port), self.now);
        let conn = conn.map_err(|error| error.to_string())?;
        let peer = self.peers.entry(port).or_default();
        *peer = Peer {
            irs: IRS,
            window: u16::MAX,
            conn: Some(conn),
            is_called: true,
            // As our SYN offers.
            timestamps: true,
            ..Peer::default()
        };
        Ok(())
    }

    /// Sends the next segment. False if there is none.
    pub(super) fn transmit(&mut self) -> bool {
        let Some(outgoing) = self.stack.poll_transmit(self.now) else {
            return false;
        };
        let len = outgoing.payload.end - outgoing.payload.start;
        let port = outgoing.key.remote_port();
        self.sent(port, outgoing.header, len, Some(outgoing.conn));
        if let Some(leaving) = self.leaving.back_mut() {
            leaving.ect = outgoing.ect;
        }
        true
    }

    /// What the driver does every turn.
    pub(super) fn pump(&mut self) {
        loop {
            let mut quiet = true;
            while self.transmit() {
                quiet = false;
            }
            while let Some((conn, events)) = self.stack.poll_event() {
                quiet = false;
                if let Some(peer) = self.peers.values_mut().find(|p| p.conn == Some(conn)) {
                    peer.events = merged(peer.events, events);
                    peer.closed = peer.closed.or(events.closed);
                    if events.closed.is_some() {
                        peer.record = self.stack.last_record().copied();
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }
}

fn merged(before: Events, after: Events) -> Events {
    Events {
        established: before.established | after.established,
        readable: before.readable | after.readable,
        acknowledged: before.acknowledged | after.acknowledged,
        peer_finished: before.peer_finished | after.peer_finished,
        deadline: before.deadline | after.deadline,
        closed: before.closed.or(after.closed),
    }
}
