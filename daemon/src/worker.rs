//! One worker: one queue, one AF_XDP socket, one TCP stack, one block cache. The only file where all crates
//! meet.
//!
//! [`Worker::turn`] is the whole data path, in a fixed order with bounded work: completions, a receive batch,
//! timers, disk answers, the application, transmission. It takes the time as an argument and touches nothing
//! outside its own parts, so the tests drive it over in-memory rings. [`Worker::run`] is the loop around it:
//! clock, control commands and the decision when to sleep.

mod application;
mod egress;
mod frames;
mod gather_lane;
mod gso_lane;
mod handoff;
mod host;
mod icmp;
mod idle;
mod idle_line;
mod ingress;
mod loans;
mod pressure;
mod refill;
mod report;
mod turn_length;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use sluice_afxdp::{GsoSocket, MAX_PACKET_FRAMES, Queue, RxBatch, RxFrame};
use sluice_tcp::clock::Instant;
use sluice_tcp::{AckRuns, ConnId, Stack, StackConfig};
use sluice_wire::{ChecksumPolicy, LinkHeader, ParseConfig};

use crate::clock::{monotonic, unix_seconds};
use crate::control::{Command, WorkerControl};
use crate::exchange::Exchange;
use crate::farewells::Farewells;
use crate::limits::{CHUNK_PACKET_BYTES, LINK_HEADER_BYTES};
use crate::services::Services;
use gather_lane::GatherLane;
use gso_lane::GsoLane;
use icmp::PassBudget;
use idle::Patience;
use idle_line::IdleLine;
use loans::{Lending, Loans};
use pressure::Pressure;
use refill::Refill;
use turn_length::TurnLength;

pub use frames::TX_FRAMES_MAX;
pub use gather_lane::{GatherCounters, can_gather};
pub use handoff::{Handoff, handoff_ring};
pub use idle::Poll;
pub use report::{WorkerCounters, WorkerReport};

/// Frames taken from the RX ring per turn: bounds the time until timers and transmission have their turn.
const RX_BATCH_FRAMES: usize = 256;
/// After the drain deadline the resets still leave and their frames come back.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a worker is told at construction.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Address and port pairs that this service answers.
    pub endpoints: Vec<SocketAddr>,
    /// Addresses for which we answer ARP, NDP and echo ourselves.
    pub owned: Vec<IpAddr>,
    /// MAC address of the interface.
    pub mac: sluice_wire::MacAddr,
    /// Whether VLAN tags are accepted.
    pub vlan: bool,
    /// What to accept as a TCP checksum on receive.
    pub checksum_rx: ChecksumPolicy,
    /// How to wait when there is nothing to do.
    pub poll: Poll,
    /// The TCP stack.
    pub stack: StackConfig,
}

/// A worker with all its parts. It is built on the control thread and moved to its own.
pub struct Worker {
    config: WorkerConfig,
    parse: ParseConfig,
    queue: Queue,
    /// Frames of one packet at most, as the queue is bound.
    tx_frames_max: usize,
    /// Packets built in this turn.
    tx_built: u32,
    batch: Option<RxBatch>,
    /// The frames of the packet at hand.
    chain: Vec<RxFrame>,
    loans: Loans,
    /// What is to be lent of it.
    lending: Option<Lending>,
    /// Acknowledgements of the batch that wait for others of their connection.
    ack_runs: AckRuns,
    stack: Stack,
    services: Services,
    exchanges: Vec<Option<Exchange>>,
    /// Link header of replies, per connection slot and per handshake.
    peers: Vec<LinkHeader>,
    /// Connections whose exchange waits for the disk or for a block.
    waiting: VecDeque<ConnId>,
    /// Whether the connection of a slot is in `waiting`.
    is_waiting: Vec<bool>,
    /// Of those in `waiting`, from the front: to be asked because something was freed since they were asked last.
    to_ask: usize,
    refill: Refill,
    turn_length: TurnLength,
    pressure: Pressure,
    idle_line: IdleLine,
    handoff: Option<Handoff>,
    icmp_budget: PassBudget,
    /// The TSO lane, if this worker has one.
    gso: Option<GsoLane>,
    /// The gather lane, if this worker has one.
    gather: Option<GatherLane>,
    /// Where the records of connections go that ended badly.
    farewells: Option<Farewells>,
    counters: WorkerCounters,
    drain_at: Option<Instant>,
}

impl Worker {
    /// Assembles a worker. `handoff` is `None` when it is the only one.
    #[must_use]
    pub fn new(
        mut config: WorkerConfig,
        queue: Queue,
        services: Services,
        handoff: Option<Handoff>,
        now: Instant,
    ) -> Self {
        let connections = config.stack.connections as usize;
        let tx_frames_max = queue.bound().max_packet_frames.clamp(1, TX_FRAMES_MAX);
        config.stack.mtu = config.stack.mtu.min(longest_packet(tx_frames_max));
        let mut exchanges = Vec::with_capacity(connections);
        exchanges.resize_with(connections, || None);
        Worker {
            parse: ParseConfig { vlan: config.vlan },
            stack: Stack::new(config.stack.clone(), now),
            tx_frames_max,
            tx_built: 0,
            queue,
            batch: Some(RxBatch::with_capacity(RX_BATCH_FRAMES)),
            chain: Vec::with_capacity(MAX_PACKET_FRAMES),
            loans: Loans::new(services.upload_loans()),
            lending: None,
            ack_runs: AckRuns::new(),
            services,
            exchanges,
            peers: vec![LinkHeader::default(); config.stack.slots()],
            // An entry may outlive its connection by a turn, so there can be more entries than slots.
            waiting: VecDeque::with_capacity(2 * connections),
            is_waiting: vec![false; connections],
            to_ask: 0,
            refill: Refill::new(connections),
            turn_length: TurnLength::new(now),
            pressure: Pressure::new(now),
            idle_line: IdleLine::new(connections),
            handoff,
            icmp_budget: PassBudget::new(now),
            gso: None,
            gather: None,
            farewells: None,
            counters: WorkerCounters::default(),
            drain_at: None,
            config,
        }
    }

    /// Sends runs of segments as super-segments through `socket`, which is on the interface of the queue.
    #[must_use]
    pub fn with_gso(mut self, socket: GsoSocket) -> Self {
        self.gso = Some(GsoLane::new(socket, self.exchanges.len()));
        self
    }

    /// Sends payload from the file blocks where the queue takes packets of several pieces; else nothing changes.
    #[must_use]
    pub fn with_gather(mut self) -> Self {
        self.gather = GatherLane::new(&self.queue, self.config.stack.mtu);
        self
    }

    /// Hands the records of connections that end badly to `farewells`.
    #[must_use]
    pub fn with_farewells(mut self, farewells: Farewells) -> Self {
        self.farewells = Some(farewells);
        self
    }

    /// The lane of bulk data, as the configuration calls it.
    #[must_use]
    pub fn tx_lane(&self) -> &'static str {
        match (&self.gso, &self.gather) {
            (Some(_), _) => "tso",
            (None, Some(_)) => "gather",
            (None, None) => "copy",
        }
    }

    /// One turn at the time that `clock` gives. True if anything happened, so that an idle loop may sleep.
    ///
    /// The clock is read twice: for what arrived, at the ring, and for what leaves, so that the time a request
    /// spent in this turn counts in its latency.
    pub fn turn(&mut self, mut clock: impl FnMut() -> Instant, unix_seconds: i64) -> bool {
        let now = clock();
        self.tx_built = 0;
        let mut busy = self.reap();
        busy |= self.receive(now);
        busy |= self.receive_handed_over();
        self.stack.on_timers(now);
        let freed = self.services.poll(unix_seconds);
        self.loans.reclaim(&mut self.services, &mut self.queue);
        busy |= self.serve(now, freed, &mut clock);
        busy |= self.relieve(now);
        self.make_room(now);
        busy |= self.transmit(clock());
        self.kick();
        self.services.end_turn(busy);
        busy
    }

    /// The loop of the thread: turns until the drain is over, or the queue is lost.
    pub fn run(mut self, mut control: WorkerControl<WorkerReport>) -> Self {
        let mut quiet_turns = 0u32;
        let mut patience = Patience::new(self.config.poll);
        let mut worked_at = monotonic();
        loop {
            let busy = self.turn(monotonic, unix_seconds());
            control.turn();
            control.set_flooded(self.stack.is_flooded());
            quiet_turns = if busy {
                0
            } else {
                quiet_turns.saturating_add(1)
            };
            let now = monotonic();
            if busy {
                worked_at = now;
            }
            if self.obey(&mut control, now) {
                // What it began is handed over at the end of a turn.
                quiet_turns = 0;
            }
            if self.has_drained(now) || self.has_lost_queue() {
                return self;
            }
            if patience.may_sleep(quiet_turns) && !self.services.has_freed() {
                self.sleep(&control, now);
                patience.slept(monotonic().saturating_since(worked_at));
            }
        }
    }

    /// Commands of the control side. True if there was one.
    fn obey(&mut self, control: &mut WorkerControl<WorkerReport>, now: Instant) -> bool {
        let mut obeyed = false;
        while let Some(command) = control.take() {
            obeyed = true;
            match command {
                Command::Drain { deadline } => self.drain(deadline, now),
                Command::Snapshot(mut report) => {
                    self.fill(&mut report);
                    control.publish(report);
                }
            }
        }
        obeyed
    }

    /// Accepts nothing new and lets what runs finish, until `deadline`.
    pub fn drain(&mut self, deadline: Instant, now: Instant) {
        self.drain_at = Some(deadline);
        self.services.draining = true;
        self.stack.set_accepting(false);
        for slot in 0..self.exchanges.len() {
            if let Some(conn) = self.stack.at_slot(slot) {
                self.touch(conn, now);
            }
        }
    }

    /// Whether a drain is over; asked after every turn, it resets what is left at the deadline.
    ///
    /// Over means that no connection is left and the device has sent everything, or that it did not do so in the
    /// time for last words.
    pub fn has_drained(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.drain_at else {
            return false;
        };
        if !self.stack.is_empty() && now >= deadline {
            self.reset_all();
        }
        let sent = self.queue.tx_in_flight() == 0;
        (self.stack.is_empty() && sent) || now >= deadline + LAST_WORDS
    }

    fn reset_all(&mut self) {
        for slot in 0..self.peers.len() {
            if let Some(conn) = self.stack.at_slot(slot) {
                self.stack.abort(conn);
            }
        }
    }

    /// The stack, for tests and reports.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The rings, for tests and reports.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

/// Bytes of the longest IP packet that so many frames hold.
fn longest_packet(frames: usize) -> u16 {
    let room = frames * CHUNK_PACKET_BYTES as usize - LINK_HEADER_BYTES as usize;
    u16::try_from(room).unwrap_or(u16::MAX)
}
