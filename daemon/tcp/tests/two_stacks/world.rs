//! Two stacks, two drivers, a path in each direction and a clock.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeMap;

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::{CloseReason, ConnId, Disposition, Events, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

use crate::chance::Chance;
use crate::link::{Conditions, Link};

const LISTENS: u16 = 80;
/// Port of the end that opens, from here on; the other end of crossing SYNs counts from there on.
const OPENS: [u16; 2] = [10_000, 20_000];
const READ_AHEAD: u64 = 128 << 10;
const HEADERS: u64 = 40;
/// Nothing takes longer, TIME-WAIT included.
const END: Duration = Duration::from_secs(3600);

/// Who opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    First,
    Second,
    /// Their SYNs may cross.
    Both,
}

/// When an end closes after its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    AtOnce,
    /// The first end waits for the FIN of the other.
    FirstWaits,
    SecondWaits,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub opens: Opens,
    /// What each end sends.
    pub bytes: [u64; 2],
    pub closes: Closes,
    pub starts: Duration,
}

/// What a seed stands for.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub plans: Vec<Plan>,
    /// From the first end to the second, and back.
    pub paths: [Conditions; 2],
    pub congestion: [Algorithm; 2],
    pub receive_buffer: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    pub trace_hash: u64,
    pub sent_again: u64,
    /// Connections whose SYNs crossed.
    pub crossed: u64,
}

/// One end of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    conn: Option<ConnId>,
    /// Bytes of the other end that were taken, in any order.
    taken: u64,
    finishing: bool,
    peer_finished: bool,
    closed: Option<CloseReason>,
}

enum Event {
    /// An end opens a connection.
    Open(usize, usize),
    /// A segment arrives at an end.
    Arrive(usize, FlowKey, TcpHeader, Range<u64>),
}

pub struct World {
    scenario: Scenario,
    start: Instant,
    now: Instant,
    stacks: [Stack; 2],
    links: [Link; 2],
    halves: [Vec<Half>; 2],
    /// Which bytes were taken, by end and connection.
    taken: [Vec<BTreeMap<u64, u64>>; 2],
    events: BTreeMap<(Instant, u64), Event>,
    order: u64,
    segments: u64,
    hash: u64,
}

impl World {
    pub fn new(seed: u64, scenario: Scenario) -> World {
        let mut chance = Chance::new(seed.wrapping_mul(0x9e37_79b9));
        let start = Instant::from_nanos(chance.range(1..1 << 53));
        let flows = scenario.plans.len();
        let stack = |end: usize, chance: &mut Chance| {
            let mut secret = [0; 32];
            secret[..8].copy_from_slice(&chance.next().to_be_bytes());
            Stack::new(config(&scenario, end, secret), start)
        };
        let stacks = [stack(0, &mut chance), stack(1, &mut chance)];
        let links = scenario.paths.map(|path| Link::new(path, chance.fork()));
        let mut world = World {
            start,
            now: start,
            stacks,
            links,
            halves: [vec![Half::default(); flows], vec![Half::default(); flows]],
            taken: [vec![BTreeMap::new(); flows], vec![BTreeMap::new(); flows]],
            events: BTreeMap::new(),
            order: 0,
            segments: 0,
            hash: 0,
            scenario,
        };
        for flow in 0..flows {
            let plan = world.scenario.plans[flow];
            for (end, is_opener) in [plan.opens != Opens::Second, plan.opens != Opens::First]
                .into_iter()
                .enumerate()
            {
                if is_opener {
                    world.schedule(start + plan.starts, Event::Open(end, flow));
                }
            }
        }
        world
    }

    /// Runs to the end of everything.
    pub fn run(mut self) -> Result<Report, String> {
        while let Some(at) = self.next_moment() {
            self.now = self.now.max(at);
            if self.now.saturating_since(self.start) > END {
                return Err(format!("stuck: {:?}", self.halves));
            }
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now
            {
                match entry.remove() {
                    Event::Open(end, flow) => self.open(end, flow)?,
                    Event::Arrive(end, key, header, payload) => {
                        self.arrive(end, &key, &header, &payload)?;
                    }
                }
            }
            self.turn(0);
            self.turn(1);
        }
        // TIME-WAIT sets no deadline: it is over when somebody looks.
        self.now = self.now + sluice_tcp::config::TIME_WAIT + Duration::from_secs(1);
        self.turn(0);
        self.turn(1);
        self.check_end()?;
        let counters = self.stacks.each_ref().map(Stack::counters);
        Ok(Report {
            segments: self.segments,
            trace_hash: self.hash,
            sent_again: counters
                .iter()
                .map(|counters| counters.retransmitted_fast + counters.retransmitted_timeout)
                .sum(),
            crossed: self.count_crossed(),
        })
    }

    fn next_moment(&self) -> Option<Instant> {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let deadlines = self.stacks.iter().filter_map(Stack::next_deadline);
        deadlines.chain(event).min()
    }

    fn open(&mut self, end: usize, flow: usize) -> Result<(), String> {
        if self.halves[end][flow].conn.is_some() {
            // The SYN of the other end was here first.
            return Ok(());
        }
        let key = self.key(end, flow);
        match self.stacks[end].connect(key, self.now) {
            Ok(conn) => self.halves[end][flow].conn = Some(conn),
            // Or it is still half open.
            Err(_) if self.scenario.plans[flow].opens == Opens::Both => {}
            Err(error) => return Err(format!("cannot open {flow}: {error:?}")),
        }
        Ok(())
    }

    fn arrive(
        &mut self,
        end: usize,
        key: &FlowKey,
        header: &TcpHeader,
        payload: &Range<u64>,
    ) -> Result<(), String> {
        let segment = Segment {
            ecn: Ecn::NotEct,
            key: *key,
            header,
            payload_len: u32::try_from(payload.end - payload.start).expect("a segment"),
        };
        let receipt = self.stacks[end].on_segment(self.now, &segment);
        let flow = self.flow(key);
        let half = &mut self.halves[end][flow];
        let is_accepted = receipt.disposition == Disposition::Accepted;
        if half.conn.is_none() && is_accepted && !header.flags.contains(TcpFlags::SYN) {
            half.conn = receipt.conn;
        }
        for piece in receipt.pieces.clone() {
            let in_place = receipt.payload_start == i64::try_from(payload.start).unwrap_or(-1)
                && payload.start <= piece.start
                && piece.end <= payload.end;
            let last = self.scenario.plans[flow].bytes[1 - end];
            if half.conn != receipt.conn || !in_place || piece.end > last {
                return Err(format!("bytes that nobody sent: {piece:?} of {header:?}"));
            }
            half.taken += piece.end - piece.start;
            if !take(&mut self.taken[end][flow], &piece) {
                return Err(format!("bytes that came before: {piece:?}"));
            }
        }
        let answer = match receipt.disposition {
            Disposition::Unknown => self.stacks[end].refuse(&segment),
            _ => receipt.reply,
        };
        if let Some(answer) = answer {
            self.carry(end, key, &answer, 0..0);
        }
        Ok(())
    }

    /// What a driver does every turn.
    fn turn(&mut self, end: usize) {
        self.stacks[end].on_timers(self.now);
        loop {
            let mut quiet = true;
            while let Some(out) = self.stacks[end].poll_transmit(self.now) {
                quiet = false;
                self.carry(end, &out.key, &out.header, out.payload);
            }
            while let Some((conn, events)) = self.stacks[end].poll_event() {
                quiet = false;
                let halves = &self.halves[end];
                if let Some(flow) = halves.iter().position(|half| half.conn == Some(conn)) {
                    self.react(end, flow, conn, events);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn react(&mut self, end: usize, flow: usize, conn: ConnId, events: Events) {
        let plan = self.scenario.plans[flow];
        let stack = &mut self.stacks[end];
        let half = &mut self.halves[end][flow];
        half.closed = half.closed.or(events.closed);
        half.peer_finished |= events.peer_finished;
        let delivered = stack.delivered(conn);
        stack.consume(conn, delivered);
        let Some(view) = stack.send_view(conn) else {
            return;
        };
        let last = plan.bytes[end];
        let until = last.min(view.acknowledged + READ_AHEAD);
        stack.supply(conn, until, until < last);
        let waits = match plan.closes {
            Closes::AtOnce => false,
            Closes::FirstWaits => end == 0,
            Closes::SecondWaits => end == 1,
        };
        if until == last && !half.finishing && (half.peer_finished || !waits) {
            half.finishing = true;
            stack.close(conn, self.now);
        }
    }

    fn carry(&mut self, from: usize, key: &FlowKey, header: &TcpHeader, payload: Range<u64>) {
        self.segments += 1;
        let len = payload.end - payload.start;
        let since = self.now.saturating_since(self.start);
        for part in [
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            u64::from(header.seq) << 32 | u64::from(header.ack),
            u64::from(header.flags.bits()) << 32 | len,
        ] {
            self.hash = (self.hash.rotate_left(5) ^ part).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
        }
        let there = FlowKey::new(
            key.remote(),
            key.remote_port(),
            key.local(),
            key.local_port(),
        );
        for at in self.links[from]
            .carry(self.now, len + HEADERS)
            .into_iter()
            .flatten()
        {
            let arrival = Event::Arrive(1 - from, there, *header, payload.clone());
            self.schedule(at, arrival);
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn check_end(&self) -> Result<(), String> {
        for (flow, plan) in self.scenario.plans.iter().enumerate() {
            for end in 0..2 {
                let half = &self.halves[end][flow];
                let expected = plan.bytes[1 - end];
                if half.taken != expected {
                    let other = &self.halves[1 - end][flow];
                    return Err(format!("{flow}: {half:?} of {expected} from {other:?}"));
                }
                if half.closed != Some(CloseReason::Finished) {
                    return Err(format!("{flow} at {end} ended as {:?}", half.closed));
                }
            }
        }
        for stack in &self.stacks {
            let left = [
                stack.len(),
                stack.half_open(),
                stack.timers(),
                stack.time_wait(),
            ];
            if left != [0; 4] {
                return Err(format!("something is left: {left:?}"));
            }
        }
        Ok(())
    }

    /// Connections of which neither end got a SYN-ACK in SYN-SENT.
    fn count_crossed(&self) -> u64 {
        let connected = self.stacks.iter().map(|stack| stack.counters().connected);
        self.scenario.plans.len() as u64 - connected.sum::<u64>()
    }

    fn key(&self, end: usize, flow: usize) -> FlowKey {
        let number = u16::try_from(flow).expect("few");
        let ports = match self.scenario.plans[flow].opens {
            Opens::First => [OPENS[0] + number, LISTENS],
            Opens::Second => [LISTENS, OPENS[0] + number],
            Opens::Both => [OPENS[0] + number, OPENS[1] + number],
        };
        FlowKey::new(address(end), ports[end], address(1 - end), ports[1 - end])
    }

    fn flow(&self, key: &FlowKey) -> usize {
        let ports = [key.local_port(), key.remote_port()];
        let port = ports
            .into_iter()
            .find(|port| (OPENS[0]..OPENS[1]).contains(port));
        usize::from(port.expect("one end has such a port") - OPENS[0])
    }
}

fn address(end: usize) -> IpAddr {
    let last = u8::try_from(end + 1).expect("two ends");
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

/// False if any of it was there.
fn take(taken: &mut BTreeMap<u64, u64>, piece: &Range<u64>) -> bool {
    let before = taken.range(..piece.end).next_back();
    let is_new = before.is_none_or(|(_, end)| *end <= piece.start);
    taken.insert(piece.start, piece.end);
    is_new
}

fn config(scenario: &Scenario, end: usize, secret: [u8; 32]) -> StackConfig {
    StackConfig {
        receive_buffer: scenario.receive_buffer,
        congestion: scenario.congestion[end],
        pacing: Some(PacingConfig::default()),
        ..StackConfig::new(64, [5; 16], Secret::new(secret))
    }
}
