//! Everything at once, from a seed: a link that loses, doubles and reorders, a device whose kicks fail and whose
//! completions are late, few blocks, and many clients of both IP versions that ask, pipeline, change their windows,
//! end and give up.
//!
//! Every byte is compared, and nothing may be left in the end. The seed is printed; `SEED=n` replays a storm, the
//! same frame by frame as long as the disk answers from memory.

use core::mem;
use core::ops::Range;
use core::time::Duration;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use sluice_tcp::clock::Instant;
use sluice_wire::TcpFlags;

use crate::bed::{Bed, Setup, wait_for_helpers};
use crate::client::{Client, Offer};
use crate::frames;
use crate::site::{KIB, MIB, Random, Site};

/// Storms without a given seed.
const STORMS: u64 = 10;
const CLIENTS: usize = 60;
/// Of those at the same time.
const CLIENTS_AT_ONCE: usize = 20;
/// What a client waits before it sends again, and before it opens a window that it closed.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(300);
/// Of virtual time, before a storm is given up as hanging.
const STORM_MAX: Duration = Duration::from_secs(1800);

#[test]
fn a_storm_of_every_evil_changes_no_byte_and_leaves_nothing() {
    let site = Site::new();
    let files: Vec<(String, Vec<u8>)> = [0, 1, 1459, 5000, 70_000, 300 * KIB, MIB]
        .into_iter()
        .enumerate()
        .map(|(n, len)| (format!("/f{n}"), site.file(&format!("f{n}"), len)))
        .collect();
    let given = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = match given {
        Some(seed) => seed..seed + 1,
        None => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let first = since.map_or(0, |since| u64::from(since.subsec_nanos()));
            first..first + STORMS
        }
    };
    for seed in seeds {
        println!("SEED={seed}");
        Storm::new(&site, &files, seed).rage();
    }
}

/// One direction of the link: frames under way, with the round in which they arrive.
#[derive(Default)]
struct Link {
    under_way: Vec<(u64, Vec<u8>)>,
    lost: u64,
    doubled: u64,
    delayed: u64,
}

impl Link {
    fn send(&mut self, frame: Vec<u8>, round: u64, random: &mut Random) {
        if random.chance(2) {
            self.lost += 1;
            return;
        }
        if random.chance(2) {
            self.doubled += 1;
            self.under_way
                .push((round + delay(random, 50), frame.clone()));
        }
        let delay = delay(random, 5);
        self.delayed += u64::from(delay > 0);
        self.under_way.push((round + delay, frame));
    }

    /// What arrives now, in the order in which it was sent.
    fn arrived(&mut self, round: u64) -> Vec<Vec<u8>> {
        let (now, later) = mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(due, _)| *due <= round);
        self.under_way = later;
        let now: Vec<(u64, Vec<u8>)> = now;
        now.into_iter().map(|(_, frame)| frame).collect()
    }
}

/// Rounds that a frame is late, in `percent` of 100 cases.
fn delay(random: &mut Random, percent: usize) -> u64 {
    if random.chance(percent) {
        random.next() % 6
    } else {
        0
    }
}

/// An answer that a client waits for: which file, and which bytes of it; all if that is not said.
struct Expected {
    file: usize,
    range: Option<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Asking,
    /// Everything was asked for, and the server was told to end the connection.
    Leaving,
    /// FIN was sent.
    Finished,
    /// RST was sent: answers everything with RST, as a closed port does.
    Dead,
}

/// What a client is up to.
struct Plan {
    asks_left: usize,
    expected: VecDeque<Expected>,
    phase: Phase,
    heard_at: Instant,
    window_closed: bool,
}

struct Storm<'a> {
    files: &'a [(String, Vec<u8>)],
    random: Random,
    bed: Bed,
    round: u64,
    to_worker: Link,
    to_clients: Link,
    clients: Vec<Client>,
    plans: Vec<Plan>,
    /// Rounds for which the device sends nothing.
    stalled_for: usize,
    holding: bool,
    answers: u64,
    given_up: u64,
}

impl<'a> Storm<'a> {
    fn new(site: &Site, files: &'a [(String, Vec<u8>)], seed: u64) -> Storm<'a> {
        let mut random = Random::new(seed);
        let lane = random.below(3);
        let setup = Setup {
            mtu: if random.chance(30) { 9000 } else { 1500 },
            offload: random.chance(50),
            gso: lane == 1,
            gather: lane == 2,
            packet_frames: 3 + random.below(16),
            ring: 256,
            rx_ring: 256,
            frames: 1024,
            // Not enough for everybody.
            blocks: 16 + random.below(32),
            ..Setup::default()
        };
        Storm {
            files,
            random,
            bed: Bed::with(site, &setup),
            round: 0,
            to_worker: Link::default(),
            to_clients: Link::default(),
            clients: Vec::new(),
            plans: Vec::new(),
            stalled_for: 0,
            holding: false,
            answers: 0,
            given_up: 0,
        }
    }

    fn rage(mut self) {
        let begun = self.bed.now;
        while self.clients.len() < CLIENTS || self.active() > 0 || !self.is_over() {
            if self.clients.len() < CLIENTS && self.active() < CLIENTS_AT_ONCE {
                self.new_client();
            }
            for index in 0..self.clients.len() {
                self.act(index);
            }
            let moved = self.turn();
            self.bed.pass(match moved {
                0 => Duration::from_millis(5),
                _ => Duration::from_micros(50),
            });
            if moved == 0 && self.bed.report().service.disk.loading > 0 {
                wait_for_helpers();
            }
            let lasted = self.bed.now.saturating_since(begun);
            assert!(lasted < STORM_MAX, "the storm does not end");
        }
        self.clear_up();
        self.assert_was_a_storm();
    }

    fn active(&self) -> usize {
        self.clients
            .iter()
            .zip(&self.plans)
            .filter(|(client, plan)| plan.phase != Phase::Dead && !client.is_closed())
            .count()
    }

    fn is_over(&self) -> bool {
        self.bed.worker.stack().is_empty()
            && self.to_worker.under_way.is_empty()
            && self.to_clients.under_way.is_empty()
    }

    fn new_client(&mut self) {
        let offer = Offer {
            mss: [536, 1200, 1460, 8960][self.random.below(4)],
            window_scale: (!self.random.chance(10)).then_some(7),
            sack: !self.random.chance(20),
            timestamps: !self.random.chance(20),
        };
        let port = self.bed.take_port();
        self.clients.push(match self.random.chance(20) {
            true => Client::connect_v6(port),
            false => Client::with(port, offer),
        });
        self.plans.push(Plan {
            asks_left: 1 + self.random.below(6),
            expected: VecDeque::new(),
            phase: Phase::Asking,
            heard_at: self.bed.now,
            window_closed: false,
        });
    }

    /// What a client does of its own accord.
    fn act(&mut self, index: usize) {
        let now = self.bed.now;
        let (client, plan) = (&mut self.clients[index], &mut self.plans[index]);
        if plan.phase == Phase::Dead || client.is_closed() {
            return;
        }
        assert!(!client.reset, "{} was reset", client.local);
        while let Some(expected) = plan.expected.front()
            && let Some(response) = client.take_response()
        {
            let content = &self.files[expected.file].1;
            match &expected.range {
                Some(range) => {
                    assert_eq!(response.status, 206);
                    assert!(response.body == content[range.clone()], "{}", client.local);
                }
                None => {
                    assert_eq!(response.status, 200);
                    assert!(response.body == *content, "{}", client.local);
                }
            }
            plan.expected.pop_front();
            self.answers += 1;
        }
        if client.is_established() && self.random.chance(1) && self.random.chance(5) {
            client.abort();
            plan.phase = Phase::Dead;
            self.given_up += 1;
            return;
        }
        match plan.phase {
            Phase::Asking if plan.expected.is_empty() => self.ask(index),
            Phase::Leaving if client.finished => {
                client.finish();
                plan.phase = Phase::Finished;
            }
            _ => {}
        }
        let (client, plan) = (&mut self.clients[index], &mut self.plans[index]);
        let timed_out = now.saturating_since(plan.heard_at) > CLIENT_TIMEOUT;
        if plan.window_closed && timed_out {
            plan.window_closed = false;
            client.set_window(64 * 1024);
        } else if client.is_established() && self.random.chance(1) {
            let window = [0, 3000, 20_000, 65_535][self.random.below(4)];
            plan.window_closed = window == 0;
            client.set_window(window);
        }
        if timed_out {
            plan.heard_at = now;
            client.resend();
        }
    }

    /// One to three requests at once, or the end.
    fn ask(&mut self, index: usize) {
        let (client, plan) = (&mut self.clients[index], &mut self.plans[index]);
        if plan.asks_left == 0 {
            client.finish();
            plan.phase = Phase::Finished;
            return;
        }
        let count = (1 + self.random.below(3)).min(plan.asks_left);
        plan.asks_left -= count;
        let leave = plan.asks_left == 0 && self.random.chance(50);
        let mut requests = String::new();
        for n in 0..count {
            let file = self.random.below(self.files.len());
            let (path, content) = &self.files[file];
            let mut head = format!("GET {path} HTTP/1.1\r\nHost: sluice.test\r\n");
            let range = (content.len() > 1 && self.random.chance(30)).then(|| {
                let start = self.random.below(content.len());
                start..start + 1 + self.random.below(content.len() - start)
            });
            if let Some(range) = &range {
                head += &format!("Range: bytes={}-{}\r\n", range.start, range.end - 1);
            }
            if leave && n + 1 == count {
                head += "Connection: close\r\n";
                plan.phase = Phase::Leaving;
            }
            requests += &head;
            requests += "\r\n";
            plan.expected.push_back(Expected { file, range });
        }
        client.write(requests);
    }

    /// One turn of the worker in bad weather. Returns how many frames arrived somewhere.
    fn turn(&mut self) -> usize {
        self.round += 1;
        for client in &mut self.clients {
            for frame in client.out.drain(..) {
                self.to_worker.send(frame, self.round, &mut self.random);
            }
        }
        let arrived = self.to_worker.arrived(self.round);
        for frame in &arrived {
            // A full ring loses it, too.
            self.bed.nic.inject(frame);
        }
        self.upset_device();
        let sent = self.bed.turn();
        let mut moved = arrived.len() + sent.len();
        for frame in sent {
            self.to_clients.send(frame, self.round, &mut self.random);
        }
        let arrived = self.to_clients.arrived(self.round);
        moved += arrived.len();
        for frame in &arrived {
            self.deliver(frame);
        }
        moved + self.to_worker.under_way.len() + self.to_clients.under_way.len()
    }

    fn upset_device(&mut self) {
        let nic = &mut self.bed.nic;
        if self.stalled_for > 0 {
            self.stalled_for -= 1;
            nic.stall(self.stalled_for > 0);
        } else if self.random.chance(2) {
            self.stalled_for = 1 + self.random.below(10);
            nic.stall(true);
        }
        if self.random.chance(5) {
            let errnos = [Errno::AGAIN, Errno::NOBUFS, Errno::BUSY, Errno::NETDOWN];
            nic.fail_next_kick(errnos[self.random.below(4)].raw_os_error());
        }
        if self.random.chance(2) {
            self.holding = !self.holding;
            nic.hold_completions(self.holding);
        }
        nic.complete(match self.holding {
            true => u32::try_from(self.random.below(20)).expect("small"),
            false => u32::MAX,
        });
    }

    fn deliver(&mut self, frame: &[u8]) {
        let (packet, payload) = frames::read(frame);
        let index = self
            .clients
            .iter()
            .position(|client| client.local.port() == packet.header.dst_port)
            .expect("a frame for a client");
        let (client, plan) = (&mut self.clients[index], &mut self.plans[index]);
        plan.heard_at = self.bed.now;
        // A doubled SYN may arrive after the end of its connection and open a ghost.
        let ghost = packet.header.flags.contains(TcpFlags::SYN) && client.is_closed();
        if plan.phase == Phase::Dead || ghost {
            client.out.extend(frames::refusal(&packet));
        } else {
            client.hear(&packet, payload, self.bed.now);
        }
    }

    /// The sky is clear: everything comes to rest.
    fn clear_up(&mut self) {
        self.bed.nic.stall(false);
        self.bed.nic.hold_completions(false);
        loop {
            let mut moved = self.bed.nic.complete(u32::MAX) as usize;
            for client in &mut self.clients {
                for frame in client.out.drain(..) {
                    moved += usize::from(self.bed.nic.inject(&frame));
                }
            }
            for frame in self.bed.turn() {
                moved += 1;
                self.deliver(&frame);
            }
            if moved == 0 {
                break;
            }
        }
        self.bed.assert_at_rest();
    }

    /// The weather was as bad as it should be.
    fn assert_was_a_storm(&self) {
        for link in [&self.to_worker, &self.to_clients] {
            assert!(link.lost > 10 && link.doubled > 10 && link.delayed > 10);
        }
        let report = self.bed.report();
        let (queue, tcp) = (&report.queue, &report.tcp);
        assert!(queue.kicks_again + queue.kicks_no_memory + queue.kicks_down > 10);
        assert!(tcp.retransmitted_fast + tcp.retransmitted_timeout > 10);
        let planned = report.service.counters.responses();
        assert!(
            self.answers > 60 && planned >= self.answers,
            "{} answers, {} given up",
            self.answers,
            self.given_up
        );
    }
}
