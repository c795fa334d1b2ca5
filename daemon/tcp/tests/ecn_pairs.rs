//! Two stacks of ours, one of them opening, over a path that marks, loses, repeats and reorders: what the receiver
//! counted and what the sender was told is the same in the end (RFC 9768), and each kind of pair answers to marks.
//!
//! A seed decides everything; a failure names it.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::ecn_terms::{EcnConfig, EcnLevel};
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{ConnId, EcnView, Outgoing, RunLimit, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpHeader};

const DELAY: Duration = Duration::from_millis(5);
/// Bytes each way under bad conditions, and then under good ones.
const BYTES: u64 = 400_000;
const TAIL: u64 = 30_000;

/// What happens to one packet of so many.
#[derive(Clone, Copy)]
struct Path {
    marks: u64,
    loses_data: u64,
    loses_acks: u64,
    repeats: u64,
    delays: u64,
}

const PERFECT: Path = Path {
    marks: 0,
    loses_data: 0,
    loses_acks: 0,
    repeats: 0,
    delays: 0,
};

struct End {
    stack: Stack,
    key: FlowKey,
    conn: Option<ConnId>,
    supplied: u64,
    /// Packets that left, or were made, CE on their way to this end, and arrived.
    marked: u32,
}

struct Pair {
    ends: [End; 2],
    now: Instant,
    path: Path,
    random: u64,
    /// What is polled at once.
    limit: RunLimit,
    /// Of several segments.
    polled_runs: u32,
    order: u64,
    flying: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    packets: Vec<(usize, TcpHeader, u32, Ecn)>,
}

fn stack(ecn: EcnConfig, congestion: Algorithm, secret: u8, now: Instant) -> Stack {
    let config = StackConfig {
        receive_buffer: 1 << 18,
        congestion,
        ecn,
        ..StackConfig::new(2, [secret; 16], Secret::new([secret; 32]))
    };
    Stack::new(config, now)
}

impl Pair {
    fn new(client: EcnConfig, server: EcnConfig, congestion: Algorithm, seed: u64) -> Pair {
        let now = Instant::from_nanos(1_000_000_000_000 + seed * 1_000_003);
        let address = |host| IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
        let end = |ecn, secret, key| End {
            stack: stack(ecn, congestion, secret, now),
            key,
            conn: None,
            supplied: 0,
            marked: 0,
        };
        let here = FlowKey::new(address(1), 40_000, address(2), 80);
        let there = FlowKey::new(address(2), 80, address(1), 40_000);
        let mut pair = Pair {
            ends: [end(client, 1, here), end(server, 2, there)],
            now,
            path: PERFECT,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            limit: RunLimit::ONE,
            polled_runs: 0,
            order: 0,
            flying: BinaryHeap::new(),
            packets: Vec::new(),
        };
        let conn = pair.ends[0].stack.connect(here, now).expect("room");
        pair.ends[0].conn = Some(conn);
        pair.run(|pair| {
            pair.ends[1]
                .conn
                .is_some_and(|conn| pair.ends[1].stack.send_view(conn).is_some())
        });
        pair
    }

    /// xorshift64: true once in `of`, never for 0.
    fn hits(&mut self, of: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        of > 0 && (self.random >> 20).is_multiple_of(of)
    }

    fn transmit(&mut self) {
        for from in 0..2 {
            while let Some(run) = self.ends[from]
                .stack
                .poll_transmit_run(self.now, self.limit)
            {
                self.polled_runs += u32::from(run.count() > 1);
                for out in run.segments() {
                    self.carry(from, &out);
                }
            }
        }
    }

    fn carry(&mut self, from: usize, out: &Outgoing) {
        let len = u32::try_from(out.payload.end - out.payload.start).expect("a segment");
        let path = self.path;
        if self.hits(if len > 0 {
            path.loses_data
        } else {
            path.loses_acks
        }) {
            return;
        }
        let ecn = match out.ect {
            true if self.hits(path.marks) => Ecn::Ce,
            true => Ecn::Ect0,
            false => Ecn::NotEct,
        };
        let copies = 1 + u32::from(self.hits(path.repeats));
        for _ in 0..copies {
            let late = if self.hits(path.delays) {
                DELAY
            } else {
                Duration::ZERO
            };
            self.send(1 - from, self.now + DELAY + late, (out.header, len, ecn));
        }
    }

    fn send(&mut self, to: usize, at: Instant, (header, len, ecn): (TcpHeader, u32, Ecn)) {
        self.packets.push((to, header, len, ecn));
        self.order += 1;
        let place = self.packets.len() - 1;
        self.flying.push(Reverse((at, self.order, place)));
    }

    fn arrive(&mut self, place: usize) {
        let (to, header, payload_len, ecn) = self.packets[place];
        let end = &mut self.ends[to];
        let segment = Segment {
            key: end.key,
            header: &header,
            payload_len,
            ecn,
        };
        let receipt = end.stack.on_segment(self.now, &segment);
        if let Some(conn) = receipt.conn {
            end.conn = Some(conn);
            end.stack.consume(conn, end.stack.delivered(conn));
        }
        end.marked += u32::from(ecn == Ecn::Ce);
        if let Some(reply) = receipt.reply {
            self.send(1 - to, self.now + DELAY, (reply, 0, Ecn::NotEct));
        }
    }

    /// Until `done`, and for an hour at most.
    fn run(&mut self, done: impl Fn(&Pair) -> bool) {
        let end = self.now + Duration::from_secs(3600);
        while !done(self) {
            self.transmit();
            for end in &mut self.ends {
                while let Some((_, events)) = end.stack.poll_event() {
                    assert_eq!(events.closed, None);
                }
            }
            let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
            let deadlines = self.ends.iter().filter_map(|end| end.stack.next_deadline());
            let next = deadlines
                .chain(arrival)
                .min()
                .expect("something is under way");
            self.now = self.now.max(next);
            assert!(self.now < end, "a stall");
            while let Some(Reverse((at, _, place))) = self.flying.peek().copied() {
                if at > self.now {
                    break;
                }
                self.flying.pop();
                self.arrive(place);
            }
            for end in &mut self.ends {
                end.stack.on_timers(self.now);
            }
        }
    }

    /// So many more bytes from each end that `sends`, until all are acknowledged.
    fn transfer(&mut self, bytes: [u64; 2]) {
        for (end, bytes) in self.ends.iter_mut().zip(bytes) {
            end.supplied += bytes;
            let conn = end.conn.expect("established");
            end.stack.supply(conn, end.supplied, false);
        }
        self.run(|pair| {
            pair.ends.iter().all(|end| {
                let view = end.conn.and_then(|conn| end.stack.send_view(conn));
                view.is_some_and(|view| view.acknowledged == end.supplied)
            })
        });
    }

    fn view(&self, end: usize) -> EcnView {
        let end = &self.ends[end];
        end.stack
            .ecn_view(end.conn.expect("established"))
            .expect("alive")
    }

    fn reductions(&self, end: usize) -> u64 {
        self.ends[end].stack.counters().ecn_reductions
    }
}

/// What `from` was told is what the other end counted.
fn assert_agreement(pair: &Pair, from: usize, what: &str) {
    let (told, counted) = (pair.view(from), pair.view(1 - from));
    assert_eq!(
        told.ce_bytes_reported, counted.ce_bytes_received,
        "{what}: bytes"
    );
    assert_eq!(
        told.ce_packets_reported, counted.ce_packets_received,
        "{what}: packets"
    );
}

fn accurate_pair(congestion: Algorithm, seed: u64) -> Pair {
    let pair = Pair::new(EcnConfig::OFFER, EcnConfig::ACCEPT, congestion, seed);
    assert!(pair.view(0).accurate && pair.view(1).accurate);
    assert!(pair.view(0).sending && pair.view(1).sending);
    pair
}

#[test]
fn every_mark_is_counted_once_and_told() {
    for seed in 1..=60 {
        for congestion in [Algorithm::Cubic, Algorithm::NewReno, Algorithm::Dctcp] {
            let mut pair = accurate_pair(congestion, seed);
            pair.path.marks = 2 + seed % 30;
            pair.transfer([BYTES / 4, BYTES]);
            pair.path = PERFECT;
            pair.transfer([TAIL, TAIL]);
            for end in 0..2 {
                let what = format!("seed {seed} {congestion:?} end {end}");
                assert_agreement(&pair, end, &what);
                assert_eq!(
                    pair.view(end).ce_packets_received,
                    pair.ends[end].marked,
                    "{what}"
                );
                assert_eq!(pair.ends[end].stack.counters().ecn_mangled, 0, "{what}");
            }
            assert!(
                pair.ends[0].marked > 0 && pair.reductions(1) > 0,
                "seed {seed}"
            );
        }
    }
}

/// Lost ACKs take the counters with them, and a later one brings them back: bytes exactly, packets within what the
/// three bits can tell.
#[test]
fn loss_repetition_and_reordering_lose_no_mark() {
    for seed in 1..=100 {
        let mut pair = accurate_pair(Algorithm::Cubic, seed);
        pair.path = Path {
            marks: 3 + seed % 20,
            loses_data: 40,
            loses_acks: 3 + seed % 8,
            repeats: 50,
            delays: 20,
        };
        pair.transfer([BYTES / 4, BYTES]);
        pair.path = PERFECT;
        pair.transfer([TAIL, TAIL]);
        for end in 0..2 {
            let what = format!("seed {seed} end {end}");
            let (told, counted) = (pair.view(end), pair.view(1 - end));
            assert_eq!(told.ce_bytes_reported, counted.ce_bytes_received, "{what}");
            let packets = (told.ce_packets_reported, counted.ce_packets_received);
            assert_eq!(packets.0 % 8, packets.1 % 8, "{what}: {packets:?}");
            assert_eq!(pair.ends[end].stack.counters().ecn_mangled, 0, "{what}");
            // What lies outside of the window is not acceptable, and not counted.
            assert!(
                counted.ce_packets_received <= pair.ends[1 - end].marked,
                "{what}"
            );
        }
    }
}

/// Runs carry CWR, the ACE field, options and codepoints as their segments would: both ways to poll, with data both
/// ways, give the same packets at the same times and the same views.
#[test]
fn runs_feed_back_what_their_segments_would_one_by_one() {
    let classic = EcnConfig {
        accept: EcnLevel::Classic,
        offer: EcnLevel::Classic,
    };
    let mut joined = 0;
    for seed in 1..=30 {
        for (offer, congestion) in [
            (classic, Algorithm::Cubic),
            (EcnConfig::OFFER, Algorithm::Cubic),
            (EcnConfig::OFFER, Algorithm::Dctcp),
            (EcnConfig::OFF, Algorithm::NewReno),
        ] {
            let [by_one, by_run] = [RunLimit::ONE, RunLimit::segments(u32::MAX)].map(|limit| {
                let mut pair = Pair::new(offer, EcnConfig::ACCEPT, congestion, seed);
                pair.limit = limit;
                pair.path = Path {
                    marks: 3 + seed % 20,
                    loses_data: 60,
                    loses_acks: 3 + seed % 8,
                    repeats: 50,
                    delays: 20,
                };
                pair.transfer([BYTES / 2, BYTES]);
                pair
            });
            let what = format!("seed {seed} {offer:?} {congestion:?}");
            assert_eq!(by_run.packets, by_one.packets, "{what}");
            assert_eq!(by_run.now, by_one.now, "{what}");
            for end in 0..2 {
                assert_eq!(by_run.view(end), by_one.view(end), "{what}");
                let counters = [&by_run, &by_one].map(|pair| pair.ends[end].stack.counters());
                assert_eq!(
                    format!("{:?}", counters[0]),
                    format!("{:?}", counters[1]),
                    "{what}"
                );
            }
            joined += by_run.polled_runs;
        }
    }
    assert!(joined > 1000, "{joined} runs");
}

/// RFC 3168: one signal per round trip, and it is answered.
#[test]
fn classic_pairs_answer_to_marks_in_every_combination() {
    let classic = EcnConfig {
        accept: EcnLevel::Classic,
        offer: EcnLevel::Classic,
    };
    for (client, server) in [
        (classic, EcnConfig::ACCEPT),
        (EcnConfig::OFFER, classic),
        (classic, classic),
    ] {
        for seed in 1..=10 {
            let mut pair = Pair::new(client, server, Algorithm::Cubic, seed);
            assert!(pair.view(0).negotiated && !pair.view(0).accurate);
            assert!(pair.view(1).negotiated && !pair.view(1).accurate);
            pair.path.marks = 40;
            pair.transfer([0, BYTES]);
            let marks = u64::from(pair.ends[0].marked);
            let counters = pair.ends[0].stack.counters();
            assert_eq!(counters.ecn_marks_received, marks, "seed {seed}");
            let reductions = pair.reductions(1);
            assert!((1..=marks).contains(&reductions), "{reductions} of {marks}");
        }
    }
}

/// RFC 9768 section 3.1.2.
#[test]
fn without_ecn_at_either_end_nothing_is_marked() {
    for (client, server) in [
        (EcnConfig::OFFER, EcnConfig::OFF),
        (EcnConfig::OFF, EcnConfig::ACCEPT),
    ] {
        let mut pair = Pair::new(client, server, Algorithm::Cubic, 1);
        pair.path.marks = 1;
        pair.transfer([TAIL, BYTES]);
        for end in 0..2 {
            assert!(!pair.view(end).negotiated);
            assert_eq!(pair.ends[end].marked, 0);
        }
    }
}

/// RFC 8257 with the fraction that AccECN tells: few marks cost little, many cost much.
#[test]
fn dctcp_follows_the_fraction_of_marked_bytes() {
    let took = |marks| {
        let mut pair = accurate_pair(Algorithm::Dctcp, 7);
        pair.path.marks = marks;
        let begin = pair.now;
        pair.transfer([0, 20 * BYTES]);
        pair.now.saturating_since(begin)
    };
    let (rare, often, always) = (took(200), took(20), took(1));
    println!("one of 200 {rare:?}, of 20 {often:?}, each {always:?}");
    assert!(rare < often && often < always);
}
