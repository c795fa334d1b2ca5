//! The driver of the stack and the application above it, as a worker has them.

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::congestion::Algorithm;
use sluice_tcp::{AckRun, AckRuns, ConnId, Disposition, Events, Joining, RunLimit, Segment};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

use super::invariants::keep;
use super::{Event, FIRST_PORT, World};
use crate::client::Ending;

/// A driver without progress aborts.
const DRIVER_DEADLINE: Duration = Duration::from_secs(900);
/// How much a driver supplies ahead of what is acknowledged.
const READ_AHEAD: u64 = 2 << 20;
const SERVER_READ_PERIOD: Duration = Duration::from_millis(50);

impl World {
    /// What a worker does every turn.
    pub(super) fn turn(&mut self) -> Result<(), String> {
        self.receive()?;
        self.stack.on_timers(self.now);
        let mut budget = self.scenario.turn_segments;
        loop {
            let mut quiet = true;
            while budget > 0 {
                let limit = self.limit(budget);
                let Some(outgoing) = self.stack.poll_transmit_run(self.now, limit) else {
                    break;
                };
                quiet = false;
                budget -= outgoing.count();
                self.longest_run = self.longest_run.max(outgoing.count());
                let index = usize::from(outgoing.key.remote_port() - FIRST_PORT);
                if outgoing.ect && !self.may_be_capable(index) {
                    return Err(format!("ECN that was not negotiated: {outgoing:?}"));
                }
                for segment in outgoing.segments() {
                    self.carry_down(index, &segment.header, segment.payload, segment.ect);
                }
            }
            while let Some((conn, events)) = self.stack.poll_event() {
                quiet = false;
                let known = self.by_slot[conn.slot()].filter(|(known, _)| *known == conn);
                if let Some((_, index)) = known {
                    self.react(index, conn, events)?;
                }
            }
            if quiet {
                break;
            }
        }
        if self.stack.wants_transmit() {
            self.schedule_turn(self.now + Duration::from_micros(20));
        }
        let buffers = self.stack.buffers();
        for budget in [buffers.receive, buffers.send] {
            if budget.used > budget.total {
                return Err(format!("more is held than there is: {buffers:?}"));
            }
        }
        Ok(())
    }

    /// Whether what is sent on a flow may be ECN-capable: its client asked, and its controller answers to marks.
    fn may_be_capable(&self, index: usize) -> bool {
        self.flows[index].client.plan.ecn && self.scenario.congestion != Algorithm::Bbr
    }

    /// Takes what waits in the ring, as a worker does.
    fn receive(&mut self) -> Result<(), String> {
        let mut runs = AckRuns::new();
        for (index, header, payload, forged) in core::mem::take(&mut self.ring) {
            if forged && !self.is_live(index) {
                continue;
            }
            let segment = Segment {
                ecn: Ecn::NotEct,
                key: self.flows[index].key,
                header: &header,
                payload_len: u32::try_from(payload.end - payload.start).expect("a segment"),
            };
            match runs.join(&segment) {
                Joining::Joined => continue,
                Joining::Ends(run) => self.end_run(&run)?,
                Joining::Free => {}
            }
            let run = self.stack.begin_run(self.now, &segment);
            match run.filter(|run| self.flows[index].conn == Some(run.conn())) {
                Some(run) => runs
                    .wait(run)
                    .map_or(Ok(()), |oldest| self.end_run(&oldest))?,
                None => self.arrive(index, &header, &payload, forged)?,
            }
        }
        while let Some(run) = runs.end_next() {
            self.end_run(&run)?;
        }
        Ok(())
    }

    pub(super) fn arrive(
        &mut self,
        index: usize,
        header: &TcpHeader,
        payload: &Range<u64>,
        forged: bool,
    ) -> Result<(), String> {
        let segment = Segment {
            ecn: Ecn::NotEct,
            key: self.flows[index].key,
            header,
            payload_len: u32::try_from(payload.end - payload.start).expect("a segment"),
        };
        let receipt = self.stack.on_segment(self.now, &segment);
        let flow = &mut self.flows[index];
        if let Some(conn) = receipt.conn {
            self.by_slot[conn.slot()] = Some((conn, index));
            let is_accepted = receipt.disposition == Disposition::Accepted;
            if header.flags == TcpFlags::SYN {
                // A late duplicate of an older SYN may have an entry too; it ends by itself.
                if is_accepted && header.seq == flow.client.iss {
                    flow.handshake = Some(conn);
                }
            } else if is_accepted && flow.conn.is_none() && flow.client.knows(header.ack) {
                flow.conn = Some(conn);
            }
        }
        flow.cookie |= receipt.conn.is_none()
            && receipt
                .reply
                .is_some_and(|reply| reply.flags.contains(TcpFlags::SYN));
        flow.had_cookie |= flow.cookie;
        let ours = receipt.conn == flow.conn;
        if let Some(conn) = receipt.conn
            && !(ours || forged || header.flags.contains(TcpFlags::SYN))
            && flow.had_cookie
        {
            // A late duplicate opened again what its cookie has opened before; a real driver's would time out.
            self.stack.abort(conn);
            return self.check_state(index);
        }
        for piece in receipt.pieces.clone() {
            let from_payload = receipt.payload_start == i64::try_from(payload.start).unwrap_or(-1)
                && payload.start <= piece.start
                && piece.end <= payload.end;
            if forged || !ours || !from_payload {
                return Err(format!("bytes that nobody sent: {piece:?} of {header:?}"));
            }
            if !keep(&mut flow.kept, &piece) {
                return Err(format!("bytes that were kept before: {piece:?}"));
            }
        }
        let answer = match receipt.disposition {
            Disposition::Unknown => self.stack.refuse(&segment),
            _ => receipt.reply,
        };
        if let Some(answer) = answer {
            self.carry_down(index, &answer, 0..0, false);
        }
        self.check_state(index)
    }

    fn end_run(&mut self, run: &AckRun) -> Result<(), String> {
        self.stack.end_run(self.now, run);
        let known = self.by_slot[run.conn().slot()].filter(|(known, _)| *known == run.conn());
        known.map_or(Ok(()), |(_, index)| self.check_state(index))
    }

    /// The next run at most, of a turn that has room for so many segments.
    fn limit(&mut self, segments: u32) -> RunLimit {
        match &mut self.lengths {
            None => RunLimit::ONE,
            Some(chance) => RunLimit {
                segments: chance.pick(&[1, 2, 10, u32::MAX, u32::MAX]).min(segments),
                bytes: chance.pick(&[0, 4000, u32::MAX, u32::MAX, u32::MAX]),
            },
        }
    }

    fn react(&mut self, index: usize, conn: ConnId, events: Events) -> Result<(), String> {
        if self.flows[index].conn != Some(conn) {
            return Ok(());
        }
        let deadline = self.now + DRIVER_DEADLINE;
        let flow = &mut self.flows[index];
        flow.established |= events.established;
        flow.peer_finished |= events.peer_finished;
        if let Some(reason) = events.closed {
            flow.closed = Some(reason);
            flow.state = None;
            return self.reopen_if_over(index);
        }
        if events.deadline {
            if !matches!(flow.client.plan.ending, Ending::Vanish(_)) && !flow.was_torn() {
                return Err(format!(
                    "flow {index} stands still: {}",
                    self.summary(index)
                ));
            }
            self.stack.abort(conn);
            return Ok(());
        }
        if let Some(view) = self.stack.send_view(conn) {
            if view.acknowledged > flow.acknowledged {
                flow.acknowledged = view.acknowledged;
                flow.progress_at = self.now;
            }
            let mtu = self
                .stack
                .control_view(conn)
                .map_or(0, |view| view.path_mtu);
            let floor = if flow.key.local().is_ipv6() {
                1280
            } else {
                552
            };
            if mtu < floor && mtu < flow.client.plan.mss {
                return Err(format!("flow {index} believes in a path of {mtu} bytes"));
            }
            if view.acknowledged > view.sent || view.acknowledged > view.horizon {
                return Err(format!("a view that makes no sense: {view:?}"));
            }
        }
        self.check_record(conn)?;
        self.look(conn);
        self.stack.set_deadline(conn, Some(deadline));
        let flow = &mut self.flows[index];
        if events.readable {
            flow.progress_at = self.now;
            if self.scenario.server_reads == 0 {
                self.server_reads(index);
            } else {
                self.schedule(self.now + SERVER_READ_PERIOD, Event::ServerReads(index));
            }
        }
        self.feed(index, conn);
        self.check_state(index)
    }

    /// All that a connection shows of itself becomes part of the trace.
    fn look(&mut self, conn: ConnId) {
        if !self.scenario.is_watched {
            return;
        }
        let stack = &self.stack;
        let views = (
            stack.send_view(conn),
            stack.control_view(conn),
            stack.record(conn),
            (stack.buffers(), stack.next_deadline()),
        );
        for byte in format!("{views:?}").into_bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn server_reads(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        let Some(conn) = flow.conn else {
            return;
        };
        let delivered = self.stack.delivered(conn);
        let step = match self.scenario.server_reads {
            0 => u64::MAX,
            bytes => u64::from(bytes),
        };
        flow.consumed = delivered.min(flow.consumed.saturating_add(step));
        self.stack.consume(conn, flow.consumed);
        if flow.consumed < delivered {
            self.schedule(self.now + SERVER_READ_PERIOD, Event::ServerReads(index));
        }
        self.feed(index, conn);
    }

    /// The application: the response follows the whole request.
    fn feed(&mut self, index: usize, conn: ConnId) {
        let flow = &mut self.flows[index];
        let plan = flow.client.plan;
        let Some(view) = self.stack.send_view(conn) else {
            return;
        };
        if !flow.established || flow.consumed < plan.request {
            return;
        }
        let wanted = if self.scenario.lean {
            view.horizon
        } else {
            view.acknowledged + READ_AHEAD
        };
        let until = plan.response.min(wanted);
        self.stack.supply(conn, until, until < plan.response);
        let may_close = plan.ending != Ending::ClientLast || flow.peer_finished;
        if until == plan.response && may_close && !flow.closing {
            flow.closing = true;
            self.stack.close(conn, self.now);
        }
    }
}
