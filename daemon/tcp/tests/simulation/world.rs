//! One seed: connections, a path between them and the stack, the driver of the stack, and the invariants.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{
    AckRun, AckRuns, CloseReason, ConnId, Disposition, Joining, RunLimit, Segment, Stack,
    StackConfig, StackCounters, State,
};
use sluice_wire::{Ecn, IcmpError, IcmpErrorKind, QuotedSegment, TcpFlags, TcpHeader};

use crate::chance::{Chance, PARTS};
use crate::client::{Client, Ending, Plan, Said};
use crate::link::Link;
use crate::scenario::Scenario;

/// A driver without progress aborts.
const DRIVER_DEADLINE: Duration = Duration::from_secs(900);
/// Nothing takes longer, given-up connections included.
const WORLD_END: Duration = Duration::from_secs(4 * 3600);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Between two connections of a tuple.
const GAP_MAX: Duration = Duration::from_secs(2);
/// Longer than TIME-WAIT.
const AFTERWARDS: Duration = Duration::from_secs(61);
const LOCAL_PORT: u16 = 80;
const FIRST_PORT: u16 = 10_000;
/// How much a driver supplies ahead of what is acknowledged.
const READ_AHEAD: u64 = 2 << 20;
const SERVER_READ_PERIOD: Duration = Duration::from_millis(50);
const HEADERS_OF_IP_AND_TCP: usize = 40;

/// What came of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    /// Every segment with its time went into it.
    pub trace_hash: u64,
    pub sent_again: u64,
    pub timeouts: u64,
    pub black_holes: u64,
    /// Segments held back as a test, and clients caught by it.
    pub withheld: u64,
    /// Acknowledgements for which a later one stood.
    pub merged: u64,
    pub optimists: u64,
    /// Handshakes of which every answer was lost.
    pub given_up: u64,
    /// Segments of the longest run that was polled.
    pub longest_run: u32,
    /// From the start to the last byte that a client got.
    pub took: Duration,
}

#[derive(Debug)]
enum Event {
    Open(usize),
    Reopen(usize),
    ToServer(usize, TcpHeader, Range<u64>, bool),
    /// With the round of the tuple it was sent in: our small client takes nothing from an earlier one.
    ToClient(usize, u32, TcpHeader, Range<u64>),
    ClientTimer(usize),
    /// An ICMP error, from a router or from a liar.
    Icmp(IcmpError),
    ServerReads(usize),
    Turn,
}

/// A connection seen from both ends.
struct Flow {
    key: FlowKey,
    round: u32,
    reopening: bool,
    client: Client,
    timer_at: Option<Instant>,
    /// What the SYN made, until the final ACK.
    handshake: Option<ConnId>,
    /// A SYN was answered by a cookie, in this round of the tuple and in any.
    cookie: bool,
    had_cookie: bool,
    conn: Option<ConnId>,
    state: Option<State>,
    /// Ranges of the request that were kept.
    kept: BTreeMap<u64, u64>,
    consumed: u64,
    acknowledged: u64,
    established: bool,
    peer_finished: bool,
    closing: bool,
    progress_at: Instant,
    closed: Option<CloseReason>,
}

pub struct World {
    start: Instant,
    now: Instant,
    stack: Stack,
    scenario: Scenario,
    chance: Chance,
    flows: Vec<Flow>,
    by_slot: Vec<Option<(ConnId, usize)>>,
    up: Link,
    down: Link,
    /// How long the runs are that the driver asks for, if it asks for runs.
    lengths: Option<Chance>,
    longest_run: u32,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    /// Segments that wait for the turn, if any do.
    ring: Vec<(usize, TcpHeader, Range<u64>, bool)>,
    turn_at: Option<Instant>,
    out: Vec<Said>,
    hash: u64,
    given_up: u64,
    pub trace: Option<String>,
}

impl World {
    pub fn new(seed: u64, scenario: Scenario) -> World {
        let mut chance = Chance::new(seed ^ 0x51_u64.rotate_left(40));
        // Clocks and sequence numbers begin anywhere, often just below a wrap.
        let start = Instant::from_nanos(chance.range(1..1 << 53));
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&chance.next().to_be_bytes());
        let config = StackConfig {
            half_open: scenario.half_open,
            receive_buffer: scenario.receive_buffer,
            send_limit: 2 << 20,
            autotune: scenario.autotune,
            congestion: scenario.congestion,
            pacing: Some(sluice_tcp::pacing::PacingConfig::default()),
            skip: scenario.skip,
            ..StackConfig::new(160, [9; 16], Secret::new(secret))
        };
        let flows: Vec<Flow> = (0..)
            .zip(&scenario.plans)
            .map(|(index, plan)| flow(index, *plan, &mut chance, start))
            .collect();
        let mut world = World {
            start,
            now: start,
            by_slot: vec![None; config.slots()],
            stack: Stack::new(config, start),
            up: Link::new(scenario.up, chance.fork()),
            down: Link::new(scenario.down, chance.fork()),
            lengths: scenario.runs.then(|| Chance::new(!seed)),
            longest_run: 0,
            flows,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            order: 0,
            ring: Vec::new(),
            turn_at: None,
            out: Vec::new(),
            given_up: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: None,
            scenario,
            chance,
        };
        for index in 0..world.flows.len() {
            let at = start + world.chance.duration(Duration::from_millis(200));
            world.schedule(at, Event::Open(index));
        }
        world
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Result<Report, String> {
        while let Some(at) = self.next_moment() {
            self.now = self.now.max(at);
            if self.now.saturating_since(self.start) > WORLD_END {
                let open = self.flows.iter().position(|flow| flow.closed.is_none());
                let flow = open.map(|index| self.summary(index));
                return Err(format!(
                    "not over after {WORLD_END:?}: {}",
                    flow.unwrap_or_default()
                ));
            }
            self.step()?;
        }
        self.check_end()
    }

    fn next_moment(&self) -> Option<Instant> {
        let event = self.queue.peek().map(|Reverse((at, ..))| *at);
        [event, self.stack.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.stack.next_deadline().is_some_and(|at| at <= self.now) {
            return self.turn();
        }
        let Some(Reverse((_, _, place))) = self.queue.pop() else {
            return Ok(());
        };
        let event = self.events[place].take().expect("scheduled once");
        self.free.push(place);
        match event {
            Event::Turn => {
                self.turn_at = None;
                self.turn()
            }
            Event::Open(index) => {
                self.open(index);
                Ok(())
            }
            Event::Reopen(index) => {
                self.reopen(index);
                Ok(())
            }
            Event::ClientTimer(index) => {
                let flow = &mut self.flows[index];
                flow.timer_at = None;
                if flow.client.next_deadline().is_some_and(|at| at <= self.now) {
                    flow.client.on_timers(self.now, &mut self.out);
                }
                self.carry_up(index);
                self.check_progress(index)
            }
            Event::ToClient(index, round, _, _) if self.flows[index].round != round => Ok(()),
            Event::ToClient(index, _, header, payload) => {
                self.note(index, '>', &header, &payload);
                let client = &mut self.flows[index].client;
                client.on_segment(self.now, &header, &payload, &mut self.out)?;
                self.carry_up(index);
                self.check_progress(index)?;
                self.reopen_if_over(index)
            }
            // A blind SYN may end a TIME-WAIT (RFC 6191), whose client then gets RST: not what is tested here.
            Event::ToServer(index, _, _, true) if !self.is_live(index) => Ok(()),
            Event::ToServer(index, header, payload, forged) => {
                self.note(index, '<', &header, &payload);
                if self.chance.hit(self.scenario.pauses) {
                    self.now = self.now + self.chance.duration(PAUSE_MAX);
                }
                if self.scenario.merges {
                    self.ring.push((index, header, payload, forged));
                    self.schedule_turn(self.now + self.scenario.batch);
                    return Ok(());
                }
                self.arrive(index, &header, &payload, forged)?;
                if self.scenario.batch.is_zero() {
                    self.turn()
                } else {
                    self.schedule_turn(self.now + self.scenario.batch);
                    Ok(())
                }
            }
            Event::ServerReads(index) => {
                self.server_reads(index);
                self.turn()
            }
            Event::Icmp(error) => {
                let _ = self.stack.on_icmp(self.now, &error);
                self.turn()
            }
        }
    }

    fn open(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        flow.progress_at = self.now;
        flow.client.progress_at = self.now;
        flow.client.open(self.now, &mut self.out);
        self.carry_up(index);
    }

    /// The tuple is used again, while the end of its last connection may still be in TIME-WAIT and its segments on
    /// their way.
    fn reopen_if_over(&mut self, index: usize) -> Result<(), String> {
        let flow = &self.flows[index];
        let over = flow.client.is_done() && flow.closed.is_some();
        if !over || flow.round + 1 >= self.scenario.rounds || flow.reopening {
            return Ok(());
        }
        self.given_up += self.check_flow(index)?;
        let at = self.now + self.chance.duration(GAP_MAX);
        self.flows[index].reopening = true;
        self.schedule(at, Event::Reopen(index));
        Ok(())
    }

    fn reopen(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        let plan = flow.client.plan;
        let ports = (flow.key.remote_port(), LOCAL_PORT);
        *flow = Flow {
            key: flow.key,
            round: flow.round + 1,
            had_cookie: flow.had_cookie,
            ..Flow::new(
                flow.key,
                Client::new(plan, ports, flow.client.next_iss(), self.now),
                self.now,
            )
        };
        self.open(index);
    }

    fn arrive(
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
            self.carry_down(index, &answer, 0..0);
        }
        self.check_state(index)
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

    fn end_run(&mut self, run: &AckRun) -> Result<(), String> {
        self.stack.end_run(self.now, run);
        let known = self.by_slot[run.conn().slot()].filter(|(known, _)| *known == run.conn());
        known.map_or(Ok(()), |(_, index)| self.check_state(index))
    }

    /// What a worker does every turn.
    fn turn(&mut self) -> Result<(), String> {
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
                for segment in outgoing.segments() {
                    self.carry_down(index, &segment.header, segment.payload);
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

    fn react(
        &mut self,
        index: usize,
        conn: ConnId,
        events: sluice_tcp::Events,
    ) -> Result<(), String> {
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

    /// What a connection says of itself agrees with the clock, and with the counters if it is the only one.
    fn check_record(&self, conn: ConnId) -> Result<(), String> {
        let Some(record) = self.stack.record(conn) else {
            return Ok(());
        };
        let unit = Duration::from_micros(66);
        if record.busy() > self.now.saturating_since(self.start) + unit {
            return Err(format!("more pauses than time: {record:?}"));
        }
        if self.flows.len() > 1 || self.scenario.rounds > 1 {
            return Ok(());
        }
        let counters = self.stack.counters();
        let counted = [
            counters.retransmitted_fast,
            counters.retransmitted_rack,
            counters.retransmitted_tlp,
            counters.retransmitted_timeout,
            counters.retransmitted_path_mtu,
        ];
        if record.sent_again.map(u64::from) != counted {
            return Err(format!("{:?} instead of {counted:?}", record.sent_again));
        }
        // The pause that is not over is in the record alone.
        let paused = sluice_tcp::Cause::ALL.iter().map(|cause| {
            let pauses = record.pauses[cause.index()];
            (pauses.total + unit, counters.paused(*cause))
        });
        match paused.into_iter().find(|(told, counted)| told < counted) {
            Some(wrong) => Err(format!("a pause less than what was counted: {wrong:?}")),
            None => Ok(()),
        }
    }

    fn server_reads(&mut self, index: usize) {
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

    fn carry_up(&mut self, index: usize) {
        let said: Vec<Said> = self.out.drain(..).collect();
        for (header, payload) in said {
            let bytes = packet_bytes(&header, &payload);
            for at in self.up.carry(self.now, bytes).into_iter().flatten() {
                self.schedule(at, Event::ToServer(index, header, payload.clone(), false));
            }
            if self.chance.hit(self.scenario.forged) && self.flows[index].client.is_open() {
                let (header, len) = self.forge(index);
                let at = self.now + self.chance.duration(Duration::from_millis(50));
                self.schedule(at, Event::ToServer(index, header, 0..len, true));
            }
            if self.scenario.lies > 0 && self.chance.hit(self.scenario.lies) {
                let error = self.lie(index, header.ack);
                let at = self.now + self.chance.duration(Duration::from_millis(50));
                self.schedule(at, Event::Icmp(error));
            }
        }
        let flow = &mut self.flows[index];
        if let Some(at) = flow.client.next_deadline()
            && flow.timer_at.is_none_or(|known| at < known)
        {
            flow.timer_at = Some(at);
            self.schedule(at.max(self.now), Event::ClientTimer(index));
        }
    }

    fn carry_down(&mut self, index: usize, header: &TcpHeader, payload: Range<u64>) {
        let bytes = packet_bytes(header, &payload);
        let bytes = bytes
            + if self.flows[index].key.local().is_ipv6() {
                20
            } else {
                0
            };
        if self
            .down
            .is_too_big(self.now.saturating_since(self.start), bytes)
        {
            self.tell(index, header.seq);
            return;
        }
        for at in self.down.carry(self.now, bytes).into_iter().flatten() {
            let round = self.flows[index].round;
            self.schedule(at, Event::ToClient(index, round, *header, payload.clone()));
        }
    }

    /// The router of the narrow link may say what it drops.
    fn tell(&mut self, index: usize, seq: u32) {
        let Some(narrow) = self.scenario.down.narrow else {
            return;
        };
        if self.chance.hit(narrow.told) {
            let mtu = u32::try_from(narrow.mtu).expect("small");
            let at = self.now + self.scenario.up.delay;
            let error = too_big(&self.flows[index].key, seq, mtu);
            self.schedule(at, Event::Icmp(error));
        }
    }

    /// A liar, who in every second case knows what is in flight.
    fn lie(&mut self, index: usize, acknowledged: u32) -> IcmpError {
        let mtu = self.chance.word() % 1600;
        let seq = match self.chance.hit(PARTS / 2) {
            true => acknowledged.wrapping_add(self.chance.word() % 3000),
            false => self.chance.word(),
        };
        too_big(&self.flows[index].key, seq, mtu)
    }

    /// A segment of an attacker who knows the tuple and guesses the numbers.
    fn forge(&mut self, index: usize) -> (TcpHeader, u64) {
        let flags = self.chance.pick(&[
            TcpFlags::RST,
            TcpFlags::RST.union(TcpFlags::ACK),
            TcpFlags::SYN,
            TcpFlags::SYN.union(TcpFlags::ACK),
            TcpFlags::ACK,
            TcpFlags::FIN.union(TcpFlags::ACK),
            TcpFlags::EMPTY,
        ]);
        let header = TcpHeader {
            src_port: self.flows[index].key.remote_port(),
            dst_port: LOCAL_PORT,
            seq: self.chance.word(),
            ack: self.chance.word(),
            flags,
            window: u16::try_from(self.chance.word() >> 16).expect("16 bits"),
            ..TcpHeader::default()
        };
        (header, self.chance.pick(&[0, 0, 1, 1460]))
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.order += 1;
        self.queue.push(Reverse((at, self.order, place)));
    }

    fn schedule_turn(&mut self, at: Instant) {
        if self.turn_at.is_none() {
            self.turn_at = Some(at);
            self.schedule(at, Event::Turn);
        }
    }

    fn note(&mut self, index: usize, way: char, header: &TcpHeader, payload: &Range<u64>) {
        let numbers = [
            self.now.as_nanos(),
            u64::try_from(index).expect("few flows"),
            (u64::from(header.seq) << 32) | u64::from(header.ack),
            (u64::from(header.flags.bits()) << 16) | u64::from(header.window),
            payload.start,
            payload.end,
        ];
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash = self.hash.rotate_left(23);
        }
        if let Some(trace) = &mut self.trace {
            let at = self.now.saturating_since(self.start);
            let _ = writeln!(trace, "{at:?} flow {index} {way} {payload:?} {header:?}");
        }
    }

    fn is_live(&self, index: usize) -> bool {
        self.state_of(&self.flows[index]).is_some()
    }

    fn state_of(&self, flow: &Flow) -> Option<State> {
        let id = flow.conn.or(flow.handshake)?;
        self.stack.state(id)
    }

    fn check_state(&mut self, index: usize) -> Result<(), String> {
        let state = self.state_of(&self.flows[index]);
        let flow = &mut self.flows[index];
        if let (Some(before), Some(after)) = (flow.state, state)
            && !may_follow(before, after)
        {
            return Err(format!("{} after {}", after.name(), before.name()));
        }
        if state.is_some() {
            flow.state = state;
        }
        Ok(())
    }

    fn check_progress(&self, index: usize) -> Result<(), String> {
        let flow = &self.flows[index];
        let since = self
            .now
            .saturating_since(flow.progress_at.max(flow.client.progress_at));
        if !flow.client.is_done() && since > self.scenario.stall_max {
            return Err(format!("flow {index} stalls: {}", self.summary(index)));
        }
        Ok(())
    }

    /// Every byte of a flow that is over must be where it belongs. How many handshakes were given up: 0 or 1.
    fn check_flow(&self, index: usize) -> Result<u64, String> {
        let flow = &self.flows[index];
        let plan = &flow.client.plan;
        // Entries had to make room before their final ACK came.
        let was_crowded = self.stack.counters().half_open_evicted > 0;
        if flow.conn.is_none() && plan.request == 0 && flow.client.is_open() {
            // Its final ACK was lost, as was every SYN-ACK that would have brought another; a cookie comes once.
            return Ok(u64::from(!flow.cookie && !was_crowded));
        }
        if flow.was_torn() || (flow.conn.is_none() && flow.client.was_reset && was_crowded) {
            return Ok(0);
        }
        if plan.optimistic > 0 && flow.closed == Some(CloseReason::OptimisticAck) {
            // It may not believe the RST, whose number is of a stream that it only claims to have.
            return Ok(0);
        }
        if !flow.client.is_done() {
            return Err(format!("flow {index} is not done: {}", self.summary(index)));
        }
        let finished = flow.closed == Some(CloseReason::Finished) && !flow.client.was_reset;
        let kept_all =
            plan.request == 0 || (flow.kept.len() == 1 && flow.kept.get(&0) == Some(&plan.request));
        let ended_right = match plan.ending {
            Ending::ServerFirst | Ending::HalfClose | Ending::ClientLast => {
                finished && kept_all && flow.closing
            }
            // A RST that comes after both FINs finds nothing to reset.
            Ending::Abort(_) | Ending::Vanish(_) => flow.closed.is_some() || flow.conn.is_none(),
        };
        if ended_right {
            Ok(0)
        } else {
            Err(format!("flow {index} ended wrong: {}", self.summary(index)))
        }
    }

    /// Nothing may be left.
    fn check_end(&mut self) -> Result<Report, String> {
        for index in 0..self.flows.len() {
            self.given_up += self.check_flow(index)?;
        }
        self.now = self.now + AFTERWARDS;
        self.stack.on_timers(self.now);
        let stack = &self.stack;
        let left = [
            ("connections", stack.len()),
            ("half-open", stack.half_open()),
            ("timers", stack.timers()),
            ("TIME-WAIT", stack.time_wait()),
            ("trails", u32::try_from(stack.trails()).unwrap_or(u32::MAX)),
        ];
        if left.iter().any(|(_, count)| *count > 0) {
            return Err(format!("left at the end: {left:?}"));
        }
        let buffers = stack.buffers();
        if (buffers.receive.used, buffers.send.used) != (0, 0) {
            return Err(format!("held at the end: {buffers:?}"));
        }
        let counters = stack.counters();
        let progress = self.flows.iter().map(|flow| flow.client.progress_at);
        let last = progress.max().unwrap_or(self.start);
        let took = last.saturating_since(self.start);
        Ok(Report {
            segments: counters.segments_in + counters.segments_out,
            trace_hash: self.hash,
            sent_again: sent_again(counters),
            timeouts: counters.timeouts,
            black_holes: counters.black_holes,
            withheld: counters.withheld,
            merged: counters.acks_merged,
            optimists: counters.optimistic_acks,
            given_up: self.given_up,
            longest_run: self.longest_run,
            took,
        })
    }

    /// A flow and what surrounds it, for the message of a failure.
    fn summary(&self, index: usize) -> String {
        let flow = &self.flows[index];
        let mut text = format!(
            "{:?}, closed {:?}, kept {:?}, consumed {}, acknowledged {}\n{:#?}\n",
            flow.state, flow.closed, flow.kept, flow.consumed, flow.acknowledged, flow.client
        );
        let scenario = Scenario {
            plans: Vec::new(),
            ..self.scenario.clone()
        };
        let _ = writeln!(text, "{scenario:?}");
        for (name, value) in self.stack.counters().rows().filter(|(_, value)| *value > 0) {
            let _ = write!(text, "{name} {value}, ");
        }
        text
    }
}

impl Flow {
    fn new(key: FlowKey, client: Client, now: Instant) -> Flow {
        Flow {
            key,
            round: 0,
            reopening: false,
            client,
            timer_at: None,
            handshake: None,
            cookie: false,
            had_cookie: false,
            conn: None,
            state: None,
            kept: BTreeMap::new(),
            consumed: 0,
            acknowledged: 0,
            established: false,
            peer_finished: false,
            closing: false,
            progress_at: now,
            closed: None,
        }
    }

    /// The first bytes came late or never: a cookie does not vouch for the numbers of those after them, which are
    /// answered by RST.
    fn was_torn(&self) -> bool {
        self.cookie && self.client.was_reset
    }
}

fn flow(index: u16, plan: Plan, chance: &mut Chance, start: Instant) -> Flow {
    let port = FIRST_PORT + index;
    let near_wrap = chance.hit(500_000);
    let iss = if near_wrap {
        u32::MAX - chance.word() % 65_536
    } else {
        chance.word()
    };
    let client = Client::new(plan, (port, LOCAL_PORT), iss, start);
    Flow::new(key(index.is_multiple_of(4), port), client, start)
}

fn key(ipv6: bool, port: u16) -> FlowKey {
    let address = |last: u8| {
        if ipv6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()))
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
        }
    };
    FlowKey::new(address(1), LOCAL_PORT, address(2), port)
}

fn too_big(key: &FlowKey, seq: u32, mtu: u32) -> IcmpError {
    IcmpError {
        kind: IcmpErrorKind::PacketTooBig { mtu },
        quoted: QuotedSegment {
            src: key.local(),
            dst: key.remote(),
            src_port: key.local_port(),
            dst_port: key.remote_port(),
            seq,
        },
    }
}

fn packet_bytes(header: &TcpHeader, payload: &Range<u64>) -> u64 {
    let headers = HEADERS_OF_IP_AND_TCP + header.options.encoded_len();
    u64::try_from(headers).expect("short headers") + payload.end - payload.start
}

/// Adds a range; false if any of it was there.
fn keep(kept: &mut BTreeMap<u64, u64>, piece: &Range<u64>) -> bool {
    let (mut start, mut end) = (piece.start, piece.end);
    let before = kept.range(..=start).next_back().map(|(s, e)| (*s, *e));
    if let Some((before_start, before_end)) = before {
        if before_end > start {
            return false;
        }
        if before_end == start {
            start = before_start;
        }
    }
    if let Some((&after_start, &after_end)) = kept.range(piece.start..).next() {
        if after_start < end {
            return false;
        }
        if after_start == end {
            kept.remove(&after_start);
            end = after_end;
        }
    }
    kept.insert(start, end);
    true
}

/// Whether a connection can get from one state to the other, over several steps within one event.
fn may_follow(before: State, after: State) -> bool {
    use State::{
        CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
    };
    before == after
        || match before {
            SynSent | SynReceived => after != SynSent,
            Established => !matches!(after, SynSent | SynReceived),
            FinWait1 => matches!(after, FinWait2 | Closing),
            CloseWait => after == LastAck,
            FinWait2 | Closing | LastAck => false,
        }
}

fn sent_again(counters: &StackCounters) -> u64 {
    counters.retransmitted_fast
        + counters.retransmitted_rack
        + counters.retransmitted_tlp
        + counters.retransmitted_timeout
        + counters.retransmitted_path_mtu
        + counters.retransmitted_syn_ack
}
