//! A bottleneck in virtual time: senders behind a link with a rate, a delay and a buffer, and the receivers at its
//! far end. Those of one controller are flows of one [`Stack`].
//!
//! The link is a queue with one server. A segment that finds the buffer full is dropped, one that finds more
//! than `mark_above` in it is marked if it may be, and a seeded coin loses some that the queue took. The way
//! back only takes time. Senders always have data. The loop wakes up `late` after each deadline, as a
//! thread that sleeps does.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::ecn_terms::EcnConfig;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::rtt::RtoConfig;
use sluice_tcp::{AckRun, ConnId, ControlView, Outgoing, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

use crate::receiver::{Receiver, STAMP_LEN};

/// Bytes of a frame besides the payload: Ethernet, IPv4, TCP without options.
pub const OVERHEAD: u64 = 54;
/// Payload of a full segment.
pub const MSS: u32 = 1_448;
/// How much an endless sender has.
const ENDLESS: u64 = 1 << 44;

/// The path between sender and receivers.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bytes per second.
    pub rate: u64,
    /// Round-trip time without a queue.
    pub rtt: Duration,
    /// Bytes the queue holds.
    pub buffer: u64,
    /// Segments lost by chance, in millionths.
    pub loss_ppm: u32,
    /// Marks what finds more bytes than this in the queue.
    pub mark_above: Option<u64>,
    /// Drops everything that is marked as ECN-capable.
    pub hates_ecn: bool,
    /// Segments that take longer by chance, in millionths, and by how much: what left behind them overtakes them.
    pub late_ppm: u32,
    /// See `late_ppm`.
    pub late_by: Duration,
}

impl Path {
    /// 100 Mbit/s and 20 ms, with a buffer of one bandwidth-delay product.
    pub const USUAL: Path = Path {
        rate: 12_500_000,
        rtt: Duration::from_millis(20),
        buffer: 250_000,
        loss_ppm: 0,
        mark_above: None,
        hates_ecn: false,
        late_ppm: 0,
        late_by: Duration::ZERO,
    };

    /// Bytes in flight that fill the path without a queue.
    pub fn bdp(&self) -> u64 {
        u64::try_from(u128::from(self.rate) * self.rtt.as_nanos() / 1_000_000_000).expect("small")
    }
}

/// How the senders are set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub algorithm: Algorithm,
    pub path: Path,
    pub ecn: bool,
    pub pacing: bool,
    pub quanta: PacingConfig,
    pub seed: u64,
    /// How late the loop wakes up.
    pub late: Duration,
    pub rto_min: Duration,
    /// Receivers know timestamps.
    pub timestamps: bool,
    /// Acknowledgements arrive at multiples of this, as from a NIC that moderates its interrupts.
    pub coalesced: Duration,
    /// Those that arrive at one moment are taken in runs.
    pub merges: bool,
    /// The application supplies what the windows let leave and no more, as the daemon does.
    pub frugal: bool,
}

impl Setup {
    pub fn new(algorithm: Algorithm, path: Path) -> Setup {
        Setup {
            algorithm,
            path,
            ecn: true,
            pacing: true,
            quanta: PacingConfig::default(),
            seed: 1,
            late: Duration::from_micros(60),
            rto_min: Duration::from_millis(200),
            timestamps: false,
            coalesced: Duration::ZERO,
            merges: false,
            frugal: false,
        }
    }
}

#[derive(Debug)]
enum Event {
    Arrives {
        flow: usize,
        header: TcpHeader,
        len: u32,
        ecn: Ecn,
    },
    Answers {
        flow: usize,
        header: TcpHeader,
    },
    DelayedAck {
        flow: usize,
    },
    Starts {
        flow: usize,
    },
}

/// One departure from the sender.
#[derive(Clone, Debug)]
pub struct Departure {
    pub at: Instant,
    pub payload: Range<u64>,
    pub flags: TcpFlags,
    pub ect: bool,
    pub view: ControlView,
}

struct Flow {
    /// Whose it is, of [`Lab::stacks`].
    stack: usize,
    key: FlowKey,
    conn: Option<ConnId>,
    receiver: Receiver,
    /// Bytes that the application has for now.
    available: u64,
}

/// What the queue saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueStats {
    pub enqueued: u64,
    pub dropped: u64,
    pub lost: u64,
    pub marked: u64,
    /// Sum over the segments, for the mean.
    backlog_sum: u128,
    pub backlog_max: u64,
}

impl QueueStats {
    pub fn mean_backlog(&self) -> u64 {
        u64::try_from(self.backlog_sum / u128::from(self.enqueued.max(1)))
            .expect("bytes of a buffer")
    }
}

pub struct Lab {
    pub setup: Setup,
    stacks: Vec<Stack>,
    pub now: Instant,
    pub queue: QueueStats,
    /// All departures with payload, if they are recorded.
    pub departures: Option<Vec<Departure>>,
    flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    /// The payloads of `events`, by their third field.
    pending: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
    busy_until: Instant,
    random: u64,
    /// Acknowledgements that are being merged, and whose they are.
    run: Option<(usize, AckRun)>,
}

impl Lab {
    /// `flows` connections, of which each begins `stagger` after the one before.
    pub fn new(setup: Setup, flows: usize, stagger: Duration) -> Lab {
        let mut lab = Lab::empty(setup);
        for flow in 0..flows {
            lab.add(0, stagger * u32::try_from(flow).expect("few"));
        }
        lab
    }

    /// A connection of each controller: that of `setup` begins `after` so long, that of `other` after so long.
    pub fn beside(setup: Setup, other: Algorithm, after: [Duration; 2]) -> Lab {
        let mut lab = Lab::empty(setup);
        let config = stack_config(&Setup {
            algorithm: other,
            ..setup
        });
        lab.stacks.push(Stack::new(config, lab.now));
        for (stack, after) in after.into_iter().enumerate() {
            lab.add(stack, after);
        }
        lab
    }

    fn empty(setup: Setup) -> Lab {
        let now = Instant::from_nanos(1_000_000_000);
        Lab {
            stacks: vec![Stack::new(stack_config(&setup), now)],
            setup,
            now,
            queue: QueueStats::default(),
            departures: None,
            run: None,
            flows: Vec::new(),
            events: BinaryHeap::new(),
            pending: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            busy_until: now,
            random: setup.seed.max(1),
        }
    }

    fn add(&mut self, stack: usize, after: Duration) {
        let flow = self.flows.len();
        let port = 10_000 + u16::try_from(flow).expect("few");
        let dctcp = self.setup.algorithm == Algorithm::Dctcp;
        let receiver = Receiver::new(port, self.setup.ecn, dctcp);
        self.flows.push(Flow {
            stack,
            key: FlowKey::new(
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
                80,
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
                port,
            ),
            conn: None,
            receiver: if self.setup.timestamps {
                receiver.with_timestamps()
            } else {
                receiver
            },
            available: ENDLESS,
        });
        self.push(self.now + after, Event::Starts { flow });
    }

    /// The stack of the controller of `setup`.
    pub fn stack(&self) -> &Stack {
        &self.stacks[0]
    }

    /// Lets `flow` have only the bytes below `until` for now.
    pub fn limit(&mut self, flow: usize, until: u64) {
        self.flows[flow].available = until;
        self.supply(flow);
        self.transmit();
    }

    /// Bytes that arrived, each counted once.
    pub fn received(&self, flow: usize) -> u64 {
        self.flows[flow].receiver.received()
    }

    /// Control state of a flow that is established.
    pub fn view(&self, flow: usize) -> ControlView {
        let Flow { stack, conn, .. } = self.flows[flow];
        let conn = conn.expect("established");
        self.stacks[stack].control_view(conn).expect("alive")
    }

    /// Runs for `time`; the bytes that each flow delivered in it.
    pub fn run(&mut self, time: Duration) -> Vec<u64> {
        let before: Vec<u64> = (0..self.flows.len())
            .map(|flow| self.received(flow))
            .collect();
        let end = self.now + time;
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = next;
            self.step();
        }
        self.now = end;
        (0..self.flows.len())
            .map(|flow| self.received(flow) - before[flow])
            .collect()
    }

    /// Share of the link that `payload` bytes in `time` take, with their headers.
    pub fn utilisation(&self, payload: u64, time: Duration) -> f64 {
        let frames = payload as f64 * (u64::from(MSS) + OVERHEAD) as f64 / f64::from(MSS);
        frames / (self.setup.path.rate as f64 * time.as_secs_f64())
    }

    pub fn forget_queue(&mut self) {
        self.queue = QueueStats::default();
    }

    fn next_time(&self) -> Option<Instant> {
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        let deadlines = self.stacks.iter().filter_map(Stack::next_deadline);
        let deadline = deadlines.min().map(|at| at.max(self.now) + self.setup.late);
        event
            .into_iter()
            .chain(deadline)
            .min()
            .map(|at| at.max(self.now))
    }

    fn step(&mut self) {
        while let Some(Reverse((at, _, index))) = self.events.peek().copied() {
            if at > self.now {
                break;
            }
            self.events.pop();
            self.free.push(index);
            if let Some(event) = self.pending[index].take() {
                self.handle(event);
            }
        }
        self.end_run();
        for stack in 0..self.stacks.len() {
            self.stacks[stack].on_timers(self.now);
            while let Some((conn, events)) = self.stacks[stack].poll_event() {
                assert_eq!(events.closed, None, "nobody closes");
                let told = (stack, Some(conn));
                let mut flows = self.flows.iter();
                if let Some(flow) = flows.position(|flow| (flow.stack, flow.conn) == told) {
                    self.supply(flow);
                }
            }
        }
        self.transmit();
    }

    fn supply(&mut self, flow: usize) {
        let Flow {
            stack,
            conn,
            available,
            ..
        } = self.flows[flow];
        if let Some(conn) = conn {
            let view = self.stacks[stack].send_view(conn);
            let horizon = view.filter(|_| self.setup.frugal).map(|view| view.horizon);
            let until = horizon.map_or(available, |horizon| available.min(horizon));
            self.stacks[stack].supply(conn, until, available == ENDLESS);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Starts { flow } => {
                let syn = self.flows[flow].receiver.syn(self.now);
                self.answer(flow, syn);
            }
            Event::Arrives {
                flow,
                header,
                len,
                ecn,
            } => {
                let now = self.now;
                let reply = self.flows[flow].receiver.on_segment(now, &header, len, ecn);
                if let Some(header) = reply.ack {
                    self.answer(flow, header);
                }
                if let Some(at) = reply.delayed_until {
                    self.push(at, Event::DelayedAck { flow });
                }
            }
            Event::DelayedAck { flow } => {
                if let Some(header) = self.flows[flow].receiver.on_delay(self.now) {
                    self.answer(flow, header);
                }
            }
            Event::Answers { flow, header } => {
                let stack = self.flows[flow].stack;
                let segment = Segment {
                    key: self.flows[flow].key,
                    header: &header,
                    payload_len: 0,
                    ecn: Ecn::NotEct,
                };
                if self.setup.merges {
                    let run = self.run.as_mut().filter(|(whose, _)| *whose == stack);
                    if run.is_some_and(|(_, run)| run.merge(&segment)) {
                        return;
                    }
                    self.end_run();
                    let run = self.stacks[stack].begin_run(self.now, &segment);
                    self.run = run.map(|run| (stack, run));
                    if self.run.is_some() {
                        return;
                    }
                }
                let receipt = self.stacks[stack].on_segment(self.now, &segment);
                self.flows[flow].conn = receipt.conn;
            }
        }
    }

    fn end_run(&mut self) {
        if let Some((stack, run)) = self.run.take() {
            self.stacks[stack].end_run(self.now, &run);
        }
    }

    /// Acknowledgements for which a later one stood.
    pub fn merged(&self) -> u64 {
        self.stack().counters().acks_merged
    }

    fn answer(&mut self, flow: usize, header: TcpHeader) {
        let mut at = self.now + self.setup.path.rtt / 2;
        let grid = u64::try_from(self.setup.coalesced.as_nanos()).expect("short");
        if grid > 0 {
            at = Instant::from_nanos(at.as_nanos().next_multiple_of(grid));
        }
        self.push(at, Event::Answers { flow, header });
    }

    fn transmit(&mut self) {
        for stack in 0..self.stacks.len() {
            while let Some(outgoing) = self.stacks[stack].poll_transmit(self.now) {
                let flow = self
                    .flows
                    .iter()
                    .position(|flow| flow.key == outgoing.key)
                    .expect("one of ours");
                self.record(stack, &outgoing);
                self.enqueue(flow, &outgoing);
            }
        }
    }

    fn record(&mut self, stack: usize, outgoing: &Outgoing) {
        let view = self.stacks[stack].control_view(outgoing.conn);
        if let (Some(departures), Some(view)) = (&mut self.departures, view)
            && !outgoing.payload.is_empty()
        {
            departures.push(Departure {
                at: self.now,
                payload: outgoing.payload.clone(),
                flags: outgoing.header.flags,
                ect: outgoing.ect,
                view,
            });
        }
    }

    fn enqueue(&mut self, flow: usize, outgoing: &Outgoing) {
        let path = self.setup.path;
        let len = outgoing.payload.end - outgoing.payload.start;
        let options = if self.setup.timestamps { STAMP_LEN } else { 0 };
        let size = len + OVERHEAD + u64::from(options);
        let waiting = self.busy_until.saturating_since(self.now);
        let backlog = u64::try_from(waiting.as_nanos() * u128::from(path.rate) / 1_000_000_000)
            .expect("bytes of a buffer");
        if backlog + size > path.buffer || (path.hates_ecn && outgoing.ect) {
            self.queue.dropped += 1;
            return;
        }
        self.queue.enqueued += 1;
        self.queue.backlog_sum += u128::from(backlog);
        self.queue.backlog_max = self.queue.backlog_max.max(backlog);
        let marked = outgoing.ect && path.mark_above.is_some_and(|limit| backlog > limit);
        self.queue.marked += u64::from(marked);
        let service = Duration::from_nanos(size * 1_000_000_000 / path.rate);
        self.busy_until = self.busy_until.max(self.now) + service;
        if len > 0 && self.next_random() % 1_000_000 < u64::from(path.loss_ppm) {
            self.queue.lost += 1;
            return;
        }
        let event = Event::Arrives {
            flow,
            header: outgoing.header,
            len: u32::try_from(len).expect("a segment"),
            ecn: match (marked, outgoing.ect) {
                (true, _) => Ecn::Ce,
                (false, true) => Ecn::Ect0,
                (false, false) => Ecn::NotEct,
            },
        };
        let mut at = self.busy_until + path.rtt / 2;
        if path.late_ppm > 0 && self.next_random() % 1_000_000 < u64::from(path.late_ppm) {
            at = at + path.late_by;
        }
        self.push(at, event);
    }

    fn push(&mut self, at: Instant, event: Event) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() - 1
        });
        self.pending[index] = Some(event);
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, index)));
    }

    /// xorshift64.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

/// The stack of the senders.
pub fn stack_config(setup: &Setup) -> StackConfig {
    StackConfig {
        mtu: 1_500,
        send_limit: 64 << 20,
        congestion: setup.algorithm,
        pacing: setup.pacing.then_some(setup.quanta),
        ecn: if setup.ecn {
            EcnConfig::ACCEPT
        } else {
            EcnConfig::OFF
        },
        rto: RtoConfig::default().with_min(setup.rto_min),
        ..StackConfig::new(
            16,
            [7; 16],
            Secret::new([u8::try_from(setup.seed & 0xff).expect("masked"); 32]),
        )
    }
}
