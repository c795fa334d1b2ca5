//! What the driver does to the connection of a flow, and what its shadow remembers of that.

use core::time::Duration;

use sluice_tcp::{Awaited, ConnId, State};

use super::ops::{Op, user_timeout};
use super::{Bench, key};

impl Bench {
    pub(super) fn driver_step(&mut self, op: &Op) {
        let (Op::Supply { flow, .. }
        | Op::SupplyLess { flow }
        | Op::Consume { flow, .. }
        | Op::ConsumeWithRoom { flow, .. }
        | Op::Close { flow }
        | Op::CloseReceive { flow }
        | Op::Abort { flow }
        | Op::UserTimeout { flow, .. }
        | Op::WaitsFor { flow, .. }
        | Op::Deadline { flow, .. }) = *op
        else {
            return;
        };
        let key = key(flow);
        let Some(at) = self.live.iter().rposition(|shadow| shadow.key == key) else {
            return;
        };
        let Some(id) = self.live[at].id else {
            return;
        };
        if self.live[at].is_handshake {
            self.driver_step_on_handshake(id, op);
            return;
        }
        match *op {
            Op::Supply { .. } | Op::SupplyLess { .. } => self.supply_step(at, id, op),
            Op::Consume { .. } | Op::ConsumeWithRoom { .. } | Op::CloseReceive { .. } => {
                self.reading_step(at, id, op);
            }
            _ => self.other_step(at, id, op),
        }
    }

    fn supply_step(&mut self, at: usize, id: ConnId, op: &Op) {
        let sent = self.stack.send_view(id).map_or(0, |view| view.sent);
        let shadow = &mut self.live[at];
        let mut more_follows = false;
        if let Op::Supply { bytes, more, .. } = *op {
            more_follows = more;
            if !shadow.closed {
                shadow.supplied += u64::from(bytes);
            }
        } else if !shadow.closed {
            shadow.supplied = sent.max(shadow.sent_end);
        }
        self.stack.supply(id, shadow.supplied, more_follows);
    }

    fn reading_step(&mut self, at: usize, id: ConnId, op: &Op) {
        // Before that nothing was promised but the buffer, and nothing else can be.
        let may_promise = self.stack.state(id).is_some_and(State::is_synchronized);
        let shadow = &mut self.live[at];
        match *op {
            Op::Consume { part, .. } => {
                shadow.consume(part);
                shadow.room = None;
                self.stack.consume(id, shadow.consumed);
            }
            Op::ConsumeWithRoom { part, room, .. } => {
                // What it said before it keeps: the end of its room never falls.
                let end = shadow
                    .room
                    .map_or(0, |room| shadow.consumed + u64::from(room));
                shadow.consume(part);
                let least = u32::try_from(end.saturating_sub(shadow.consumed)).expect("less");
                let room = least.max(u32::from(room) << 4);
                if may_promise {
                    shadow.room = Some(room);
                    shadow.was_driven = true;
                }
                self.stack.consume_with_room(id, shadow.consumed, room);
            }
            _ => {
                shadow.receive_closed = true;
                self.stack.close_receive(id);
            }
        }
    }

    fn other_step(&mut self, at: usize, id: ConnId, op: &Op) {
        let shadow = &mut self.live[at];
        match *op {
            Op::Close { .. } => {
                shadow.closed = true;
                self.stack.close(id, self.now);
            }
            Op::Deadline { after_ms, .. } => {
                let at = after_ms.map(|ms| self.now + Duration::from_millis(ms.into()));
                self.stack.set_deadline(id, at);
            }
            Op::UserTimeout { limit, .. } => {
                shadow.limit_time(limit.is_some());
                self.stack.set_user_timeout(id, limit.map(user_timeout));
            }
            Op::WaitsFor { what, .. } => {
                let all = [Awaited::Application, Awaited::Disk, Awaited::Memory];
                let awaited = all.get(usize::from(what % 4)).copied();
                self.stack.waits_for(id, awaited);
                assert!(self.stack.record(id).is_some());
            }
            _ => {
                shadow.aborted = true;
                self.stack.abort(id);
            }
        }
    }

    /// Nothing but an abort means anything to a handshake.
    fn driver_step_on_handshake(&mut self, id: ConnId, op: &Op) {
        match *op {
            Op::Supply { bytes, more, .. } => self.stack.supply(id, bytes.into(), more),
            Op::Consume { part, .. } => self.stack.consume(id, part.into()),
            Op::ConsumeWithRoom { part, room, .. } => {
                self.stack.consume_with_room(id, part.into(), room.into());
            }
            Op::Close { .. } => self.stack.close(id, self.now),
            Op::CloseReceive { .. } => self.stack.close_receive(id),
            Op::UserTimeout { limit, .. } => {
                self.stack.set_user_timeout(id, limit.map(user_timeout));
            }
            Op::WaitsFor { .. } => self.stack.waits_for(id, Some(Awaited::Disk)),
            Op::Deadline { .. } => self.stack.set_deadline(id, Some(self.now)),
            Op::Abort { .. } => self.stack.abort(id),
            _ => {}
        }
    }
}
