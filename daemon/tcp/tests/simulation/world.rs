//! One seed: connections, a path between them and the stack, and what happens in which order. Who carries, drives and
//! checks stands in the modules below.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use sluice_tcp::clock::Instant;
use sluice_tcp::ecn_terms::EcnConfig;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{CloseReason, ConnId, Stack, StackConfig, State};
use sluice_wire::{IcmpError, TcpHeader};

use crate::chance::Chance;
use crate::client::{Client, Plan, Said};
use crate::link::Link;
use crate::scenario::Scenario;

#[path = "world/carriage.rs"]
mod carriage;
#[path = "world/driver.rs"]
mod driver;
#[path = "world/invariants.rs"]
mod invariants;

/// Nothing takes longer, given-up connections included.
const WORLD_END: Duration = Duration::from_secs(4 * 3600);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Between two connections of a tuple.
const GAP_MAX: Duration = Duration::from_secs(2);
const LOCAL_PORT: u16 = 80;
const FIRST_PORT: u16 = 10_000;

/// What came of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    /// Every segment with its time went into it.
    pub trace_hash: u64,
    pub sent_again: u64,
    pub timeouts: u64,
    pub black_holes: u64,
    /// Segments that the path marked, and those on which the window was reduced for it.
    pub marked: u64,
    pub marks_heard: u64,
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
    /// With the round of the tuple it was sent in: our small client takes nothing from an earlier one. The path may have
    /// marked it.
    ToClient(usize, u32, TcpHeader, Range<u64>, bool),
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
    marked: u64,
    /// Echoes that began in earlier rounds of the tuples.
    echoes: u64,
    /// Segments with CWR, by flow, round and first byte, whose clients have not got them, or not in time.
    unheard_cwrs: BTreeSet<(usize, u32, u64)>,
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
            ecn: EcnConfig::ACCEPT,
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
            marked: 0,
            echoes: 0,
            unheard_cwrs: BTreeSet::new(),
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
            Event::ToClient(index, round, ..) if self.flows[index].round != round => Ok(()),
            Event::ToClient(index, _, header, payload, marked) => {
                self.note(index, '>', &header, &payload);
                self.hear_cwr(index, &header, &payload);
                let client = &mut self.flows[index].client;
                client.on_segment(self.now, &header, &payload, marked, &mut self.out)?;
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
        self.echoes += flow.client.echoes;
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
