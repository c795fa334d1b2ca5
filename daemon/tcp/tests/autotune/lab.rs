//! Two of our stacks and a link between them, in virtual time: one sends as much as it may, the other reads.
//!
//! The link has a rate, a delay and a buffer in each direction, and a seeded coin loses some segments. After every
//! turn the lab checks what may never be false: the ledgers of both budgets are within their totals, and what the
//! receiver promises stays within its budget and the least of every connection, and never shrinks.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::{Autotune, BuffersView, ConnId, Disposition, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

/// Bytes of a frame besides the payload: Ethernet, IPv4, TCP with timestamps.
const OVERHEAD: u64 = 66;
const PORT: u16 = 80;
const FIRST_PORT: u16 = 10_000;

/// Who sends the bulk: the side that was opened, or the one that opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From server to client, whose kernel is ours too.
    Download,
    /// From client to server.
    Upload,
}

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub algorithm: Algorithm,
    pub direction: Direction,
    /// Bytes per second.
    pub rate: u64,
    pub rtt: Duration,
    /// Bytes that wait before the link.
    pub queue: u64,
    /// Segments with data lost by chance, in millionths.
    pub loss_ppm: u32,
    pub mtu: u16,
    pub timestamps: bool,
    /// Of both stacks.
    pub receive_buffer: u32,
    pub send_limit: u32,
    pub autotune: Option<Autotune>,
    pub connections: u32,
    pub seed: u64,
}

impl Setup {
    /// 10 Gbit/s and 100 ms in jumbo frames, a queue that nobody overflows, and memory for all of it.
    pub fn long_fat(algorithm: Algorithm, direction: Direction) -> Setup {
        Setup {
            algorithm,
            direction,
            rate: 1_250_000_000,
            rtt: Duration::from_millis(100),
            queue: 1_000_000_000,
            loss_ppm: 0,
            mtu: 9_000,
            timestamps: true,
            receive_buffer: 64 << 10,
            send_limit: 1 << 30,
            autotune: Some(Autotune {
                receive_max: 1 << 30,
                receive_budget: 1 << 30,
                send_budget: 1 << 30,
            }),
            connections: 4,
            seed: 1,
        }
    }

    fn stack(&self) -> StackConfig {
        StackConfig {
            mtu: self.mtu,
            receive_buffer: self.receive_buffer,
            send_limit: self.send_limit,
            autotune: self.autotune,
            congestion: self.algorithm,
            pacing: Some(PacingConfig::default()),
            ..StackConfig::new(self.connections, [5; 16], Secret::new([6; 32]))
        }
    }
}

/// One end of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

#[derive(Debug)]
struct Flying {
    to: Side,
    flow: usize,
    header: TcpHeader,
    len: u32,
}

/// One direction of the link.
#[derive(Clone, Copy, Debug)]
struct Line {
    busy_until: Instant,
}

#[derive(Clone, Debug, Default)]
pub struct Flow {
    server: Option<ConnId>,
    client: Option<ConnId>,
    /// Bytes that the sender has; all of them if it is endless.
    pub available: u64,
    /// The sender sends FIN behind them.
    pub closes: bool,
    is_closing: bool,
    /// The receiver reads.
    pub reads: bool,
    pub consumed: u64,
    /// Where the receiver's promise ends, as a stream offset, and its scale.
    pub edge: u64,
    scale: u8,
    pub finished: bool,
    pub closed: bool,
}

pub struct Lab {
    pub setup: Setup,
    pub now: Instant,
    server: Stack,
    client: Stack,
    pub flows: Vec<Flow>,
    /// The flow in each slot, of the server and of the client.
    by_slot: [Vec<usize>; 2],
    lines: [Line; 2],
    events: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    flying: Vec<Option<Flying>>,
    free: Vec<usize>,
    order: u64,
    random: u64,
    pub lost: u64,
    /// Most that the receiver promised at once.
    pub promised_max: u64,
    promised: u64,
}

impl Lab {
    pub fn new(setup: Setup) -> Lab {
        let now = Instant::from_nanos(1_000_000_000);
        Lab {
            server: Stack::new(setup.stack(), now),
            client: Stack::new(setup.stack(), now),
            now,
            flows: Vec::new(),
            by_slot: [(); 2].map(|()| vec![usize::MAX; setup.stack().slots()]),
            lines: [Line { busy_until: now }; 2],
            events: BinaryHeap::new(),
            flying: Vec::new(),
            free: Vec::new(),
            order: 0,
            random: setup.seed.max(1),
            lost: 0,
            promised_max: 0,
            promised: 0,
            setup,
        }
    }

    /// Opens a connection whose sender has `available` bytes.
    pub fn open(&mut self, available: u64) -> usize {
        let flow = self.flows.len();
        let id = self
            .client
            .connect(self.key(flow).reversed(), self.now)
            .expect("room for it");
        self.by_slot[Side::Client as usize][id.slot()] = flow;
        self.flows.push(Flow {
            client: Some(id),
            available,
            reads: true,
            ..Flow::default()
        });
        self.turn(Side::Client);
        flow
    }

    /// Lets `flow` have more bytes.
    pub fn extend(&mut self, flow: usize, bytes: u64) {
        self.flows[flow].available += bytes;
        let side = self.sender();
        if let Some(conn) = self.id(side, flow) {
            self.supply(side, flow, conn);
        }
        self.turn(side);
    }

    /// The sender of `flow` is done.
    pub fn close(&mut self, flow: usize) {
        self.flows[flow].closes = true;
        self.extend(flow, 0);
    }

    /// The receiver of `flow` reads what is there.
    pub fn resume(&mut self, flow: usize) {
        let side = self.receiver();
        if let Some(conn) = self.id(side, flow) {
            self.read(flow, conn);
        }
        self.turn(side);
    }

    /// Runs for `time`; the bytes that each flow delivered in it.
    pub fn run(&mut self, time: Duration) -> Vec<u64> {
        let before: Vec<u64> = (0..self.flows.len())
            .map(|flow| self.delivered(flow))
            .collect();
        let end = self.now + time;
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
        (0..self.flows.len())
            .map(|flow| self.delivered(flow) - before[flow])
            .collect()
    }

    /// Share of the link that `payload` bytes in `time` take, with their headers.
    #[allow(clippy::cast_precision_loss)]
    pub fn utilisation(&self, payload: u64, time: Duration) -> f64 {
        let mss = f64::from(self.setup.mtu) - 52.0;
        let frames = payload as f64 * (mss + OVERHEAD as f64) / mss;
        frames / (self.setup.rate as f64 * time.as_secs_f64())
    }

    pub fn sending(&self) -> BuffersView {
        self.stack(self.sender()).buffers()
    }

    pub fn receiving(&self) -> BuffersView {
        self.stack(self.receiver()).buffers()
    }

    /// Connections of both sides that do not rest.
    pub fn awake(&self) -> usize {
        self.server.awake() + self.client.awake()
    }

    pub fn delivered(&self, flow: usize) -> u64 {
        let receiver = self.receiver();
        self.id(receiver, flow)
            .map_or(0, |conn| self.stack(receiver).delivered(conn))
            .max(self.flows[flow].consumed)
    }

    /// Congestion window of the sender of `flow`; 0 before there is one.
    pub fn cwnd(&self, flow: usize) -> u32 {
        let sender = self.sender();
        let conn = self.id(sender, flow);
        conn.and_then(|conn| self.stack(sender).control_view(conn))
            .map_or(0, |view| view.cwnd)
    }

    /// Bytes that the receiver of `flow` promises at this moment.
    pub fn window(&self, flow: usize) -> u64 {
        let flow = &self.flows[flow];
        flow.edge.saturating_sub(flow.consumed)
    }

    fn sender(&self) -> Side {
        match self.setup.direction {
            Direction::Download => Side::Server,
            Direction::Upload => Side::Client,
        }
    }

    fn receiver(&self) -> Side {
        match self.setup.direction {
            Direction::Download => Side::Client,
            Direction::Upload => Side::Server,
        }
    }

    fn stack(&self, side: Side) -> &Stack {
        match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        }
    }

    fn stack_mut(&mut self, side: Side) -> &mut Stack {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }

    fn id(&self, side: Side, flow: usize) -> Option<ConnId> {
        match side {
            Side::Server => self.flows[flow].server,
            Side::Client => self.flows[flow].client,
        }
    }

    /// The tuple as the server sees it.
    fn key(&self, flow: usize) -> Tuple {
        Tuple(FIRST_PORT + u16::try_from(flow).expect("few flows"))
    }

    fn next_time(&self) -> Option<Instant> {
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        [
            event,
            self.server.next_deadline(),
            self.client.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn step(&mut self) {
        while let Some(Reverse((at, _, place))) = self.events.peek().copied() {
            if at > self.now {
                break;
            }
            self.events.pop();
            self.free.push(place);
            let flying = self.flying[place].take().expect("scheduled once");
            self.arrive(&flying);
            self.turn(flying.to);
        }
        for side in [Side::Server, Side::Client] {
            if self
                .stack(side)
                .next_deadline()
                .is_some_and(|at| at <= self.now)
            {
                self.turn(side);
            }
        }
    }

    fn arrive(&mut self, flying: &Flying) {
        let (flow, now) = (flying.flow, self.now);
        let tuple = self.key(flow);
        let key = match flying.to {
            Side::Server => tuple.of_server(),
            Side::Client => tuple.reversed(),
        };
        let segment = Segment {
            key,
            header: &flying.header,
            payload_len: flying.len,
            ecn: Ecn::NotEct,
        };
        let receipt = self.stack_mut(flying.to).on_segment(now, &segment);
        if flying.to == Side::Server && !flying.header.flags.contains(TcpFlags::SYN) {
            self.flows[flow].server = receipt.conn.or(self.flows[flow].server);
            if let Some(conn) = receipt.conn {
                self.by_slot[Side::Server as usize][conn.slot()] = flow;
            }
        }
        if receipt.disposition == Disposition::Unknown {
            assert!(self.flows[flow].closed, "a live flow is known");
        }
        if let Some(reply) = receipt.reply {
            self.carry(flying.to, flow, reply, 0..0);
        }
    }

    /// What a driver does in a turn.
    fn turn(&mut self, side: Side) {
        let now = self.now;
        self.stack_mut(side).on_timers(now);
        loop {
            let mut quiet = true;
            while let Some((conn, events)) = self.stack_mut(side).poll_event() {
                quiet = false;
                let flow = self.by_slot[side as usize][conn.slot()];
                if events.closed.is_some() {
                    self.flows[flow].closed = true;
                    continue;
                }
                if side == self.receiver() {
                    self.read(flow, conn);
                    if events.peer_finished {
                        // No byte will follow: nothing is promised any more.
                        self.promised -= self.window(flow);
                        self.flows[flow].edge = 0;
                        self.flows[flow].finished = true;
                        self.stack_mut(side).close(conn, now);
                    }
                } else if events.peer_finished {
                    self.flows[flow].finished = true;
                }
                if side == self.sender() {
                    self.supply(side, flow, conn);
                }
            }
            while let Some(outgoing) = self.stack_mut(side).poll_transmit(now) {
                quiet = false;
                let port = match side {
                    Side::Server => outgoing.key.remote_port(),
                    Side::Client => outgoing.key.local_port(),
                };
                let flow = usize::from(port - FIRST_PORT);
                self.carry(side, flow, outgoing.header, outgoing.payload);
            }
            if quiet {
                break;
            }
        }
        self.check();
    }

    fn read(&mut self, flow: usize, conn: ConnId) {
        if !self.flows[flow].reads {
            return;
        }
        let side = self.receiver();
        let delivered = self.stack(side).delivered(conn);
        let before = self.window(flow);
        self.flows[flow].consumed = delivered;
        self.promised = self.promised - before + self.window(flow);
        self.stack_mut(side).consume(conn, delivered);
    }

    /// Exactly what the stack wants, as a driver does whose blocks are few.
    fn supply(&mut self, side: Side, flow: usize, conn: ConnId) {
        let Some(view) = self.stack(side).send_view(conn) else {
            return;
        };
        let available = self.flows[flow].available;
        let until = view.horizon.min(available).max(view.sent);
        self.stack_mut(side).supply(conn, until, until < available);
        if self.flows[flow].closes && until == available && !self.flows[flow].is_closing {
            self.flows[flow].is_closing = true;
            let now = self.now;
            self.stack_mut(side).close(conn, now);
        }
    }

    fn carry(&mut self, from: Side, flow: usize, mut header: TcpHeader, payload: Range<u64>) {
        if from == self.receiver() {
            self.note_window(flow, &header);
        }
        if header.flags.contains(TcpFlags::SYN) && !self.setup.timestamps {
            header.options.timestamps = None;
        }
        let len = payload.end - payload.start;
        let size = len + OVERHEAD;
        let rate = u128::from(self.setup.rate);
        let line = &mut self.lines[usize::from(from == Side::Client)];
        let waiting = line.busy_until.saturating_since(self.now);
        let backlog = waiting.as_nanos() * rate / 1_000_000_000;
        if backlog > u128::from(self.setup.queue) {
            self.lost += 1;
            return;
        }
        let service = Duration::from_nanos(size * 1_000_000_000 / self.setup.rate);
        line.busy_until = line.busy_until.max(self.now) + service;
        let at = line.busy_until + self.setup.rtt / 2;
        if len > 0 && self.chance() < u64::from(self.setup.loss_ppm) {
            self.lost += 1;
            return;
        }
        let to = match from {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        self.flying[place] = Some(Flying {
            to,
            flow,
            header,
            len: u32::try_from(len).expect("a segment"),
        });
        self.order += 1;
        self.events.push(Reverse((at, self.order, place)));
    }

    /// RFC 9293 section 3.8.6: the right edge that the receiver of the bulk promises never moves back, but for what
    /// the scale rounds (RFC 7323 section 2.4).
    fn note_window(&mut self, flow: usize, header: &TcpHeader) {
        if header.flags.contains(TcpFlags::RST) || self.flows[flow].finished {
            return;
        }
        let before = self.window(flow);
        let delivered = self.delivered(flow);
        let state = &mut self.flows[flow];
        let edge = if header.flags.contains(TcpFlags::SYN) {
            state.scale = header.options.window_scale.unwrap_or(0);
            u64::from(header.window)
        } else {
            delivered + (u64::from(header.window) << state.scale)
        };
        let unit = 1 << state.scale;
        assert!(
            edge + unit > state.edge,
            "the window shrinks from {} to {edge}",
            state.edge
        );
        state.edge = state.edge.max(edge);
        self.promised = self.promised - before + self.window(flow);
        self.promised_max = self.promised_max.max(self.promised);
    }

    fn check(&self) {
        for stack in [&self.server, &self.client] {
            let BuffersView { receive, send } = stack.buffers();
            assert!(receive.used <= receive.total, "{receive:?}");
            assert!(send.used <= send.total, "{send:?}");
        }
        let least = u64::from(self.setup.receive_buffer);
        let flows = u64::try_from(self.flows.len()).expect("few flows");
        let budget = self.receiving().receive;
        assert!(
            self.promised <= budget.used + flows * least,
            "{} bytes are promised, {budget:?} and {least} each of {flows}",
            self.promised
        );
    }

    /// xorshift64, in millionths.
    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % 1_000_000
    }
}

/// The port of the client tells its connections apart.
#[derive(Clone, Copy)]
struct Tuple(u16);

impl Tuple {
    fn of_server(self) -> FlowKey {
        FlowKey::new(address(1), PORT, address(2), self.0)
    }

    fn reversed(self) -> FlowKey {
        FlowKey::new(address(2), self.0, address(1), PORT)
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}
