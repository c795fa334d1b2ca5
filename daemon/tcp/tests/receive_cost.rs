//! What a hostile segment costs the receiver, beside one that is in order: at most three times as much.
//!
//! Time and not looks, since a hostile segment costs most where it is not looked at any more: in the answer that it gets,
//! with SACK blocks. All is measured in the same run, in batches of a fraction of a millisecond, and the fastest batch of
//! each kind counts: whatever else the machine does makes a batch slower and none faster.

mod support;

use core::time::Duration;
use std::time::Instant as WallInstant;

use sluice_tcp::clock::Instant;
use sluice_tcp::{Segment, Stack};
use sluice_wire::{Ecn, TcpFlags, Timestamps};
use support::{Peer, START, config};

/// Segments of a batch: as many as ranges that a receiver holds at most.
const BATCH: i64 = 256;
/// Batches of each kind.
const ROUNDS: usize = 200;
const FULL: u32 = 1448;
/// Hostile over in order.
const RATIO_MAX: f64 = 3.0;

/// A segment by its distance from RCV.NXT at the begin of the batch, and its length.
type Piece = (i64, u32);

/// What a peer sends.
struct Case {
    name: &'static str,
    /// Before the time that counts.
    before: Vec<Piece>,
    counted: Vec<Piece>,
}

/// A connection whose driver reads everything at once.
struct Receiver {
    stack: Stack,
    peer: Peer,
    now: Instant,
    /// RCV.NXT at the begin of the batch.
    base: u32,
    ack: u32,
    echo: u32,
    delivered: u64,
    answers: u64,
}

impl Receiver {
    fn new() -> Receiver {
        let mut stack = Stack::new(config(1, 1), START);
        let peer = Peer::new(1);
        let syn_ack = peer.knock(&mut stack, START);
        let _ = peer.say(&mut stack, START, &peer.ack(&syn_ack));
        let stamp = syn_ack.options.timestamps.expect("they were offered");
        Receiver {
            stack,
            peer,
            now: START,
            base: peer.iss.wrapping_add(1),
            ack: syn_ack.seq.wrapping_add(1),
            echo: stamp.value,
            delivered: 0,
            answers: 0,
        }
    }

    /// A segment, and what a worker does about it.
    fn hear(&mut self, (ahead, len): Piece) {
        self.now = self.now + Duration::from_micros(1);
        // Modulo 2^32, as sequence numbers are.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seq = self.base.wrapping_add(ahead as u32);
        let mut header = self.peer.header(seq, self.ack, TcpFlags::ACK);
        header.options.timestamps = Some(Timestamps {
            value: 1001,
            echo: self.echo,
        });
        let receipt = self.stack.on_segment(
            self.now,
            &Segment {
                key: self.peer.key(),
                header: &header,
                payload_len: len,
                ecn: Ecn::NotEct,
            },
        );
        self.answers += u64::from(receipt.reply.is_some());
        while let Some((conn, events)) = self.stack.poll_event() {
            if events.readable {
                self.delivered = self.stack.delivered(conn);
                self.stack.consume(conn, self.delivered);
            }
        }
        while self.stack.poll_transmit(self.now).is_some() {
            self.answers += 1;
        }
    }

    /// Nanoseconds for each segment that counts.
    fn batch(&mut self, case: &Case) -> f64 {
        let from = self.delivered;
        case.before.iter().for_each(|piece| self.hear(*piece));
        let begun = WallInstant::now();
        case.counted.iter().for_each(|piece| self.hear(*piece));
        let took = begun.elapsed().as_secs_f64() * 1e9;
        self.fill(from, &case.before);
        self.fill(from, &case.counted);
        // Of the stream as it is now the next batch begins.
        let moved = u32::try_from(self.delivered - from).expect("a window");
        self.base = self.base.wrapping_add(moved);
        took / f64::from(u32::try_from(case.counted.len()).expect("a batch"))
    }

    /// Sends all that these segments left out, so that the next batch finds nothing held.
    fn fill(&mut self, from: u64, pieces: &[Piece]) {
        let ends = pieces.iter().map(|(ahead, len)| ahead + i64::from(*len));
        let Some(end) = ends.max().and_then(|end| u64::try_from(end).ok()) else {
            return;
        };
        while self.delivered < from + end {
            let ahead = self.delivered - from;
            let len = u32::try_from(end - ahead).expect("a window").min(FULL);
            self.hear((i64::try_from(ahead).expect("a window"), len));
        }
    }
}

/// The place of every second byte, far enough ahead that nothing is delivered.
fn place(number: i64) -> Piece {
    (2 * number + 1, 1)
}

fn ascending() -> Vec<Piece> {
    (0..BATCH).map(place).collect()
}

fn case(name: &'static str, counted: Vec<Piece>) -> Case {
    Case {
        name,
        before: Vec::new(),
        counted,
    }
}

fn in_order() -> Case {
    let segments = (0..BATCH).map(|number| (number * i64::from(FULL), FULL));
    case("in order", segments.collect())
}

fn hostile() -> Vec<Case> {
    let full = i64::from(FULL);
    vec![
        case("every second byte", ascending()),
        case(
            "every second byte, from the last",
            ascending().into_iter().rev().collect(),
        ),
        // Each lands between all that are there.
        case(
            "every second byte, from both ends",
            (0..BATCH / 2)
                .flat_map(|number| [place(number), place(BATCH - 1 - number)])
                .collect(),
        ),
        Case {
            name: "more pieces than are held",
            before: ascending(),
            counted: (BATCH..2 * BATCH).map(place).collect(),
        },
        case("the same piece ahead", vec![(full, FULL); 256]),
        Case {
            name: "the same piece that was delivered",
            before: vec![(0, FULL)],
            counted: vec![(0, FULL); 256],
        },
        Case {
            name: "over eight holes ahead",
            before: ascending(),
            counted: (0..BATCH / 8).map(|number| (16 * number + 1, 16)).collect(),
        },
        Case {
            name: "over all holes",
            before: ascending(),
            counted: vec![(0, FULL); 32],
        },
        case(
            "overlapping by all but a byte",
            (0..BATCH).map(|number| (number + 1, FULL)).collect(),
        ),
    ]
}

/// The fastest batch of each, in turns: nanoseconds for a segment.
fn compare(receiver: &mut Receiver, honest: &Case, hostile: &Case) -> (f64, f64) {
    (0..ROUNDS).fold((f64::INFINITY, f64::INFINITY), |(order, cost), _| {
        (
            order.min(receiver.batch(honest)),
            cost.min(receiver.batch(hostile)),
        )
    })
}

#[test]
fn no_order_of_pieces_costs_more_than_three_times_what_order_does() {
    let mut receiver = Receiver::new();
    let honest = in_order();
    let mut dearest = 0.0;
    for case in hostile() {
        let (order, cost) = compare(&mut receiver, &honest, &case);
        let ratio = cost / order;
        println!(
            "{:<36} {cost:>5.0} ns, in order {order:>5.0} ns: {ratio:.2}",
            case.name
        );
        dearest = ratio.max(dearest);
    }
    assert!(receiver.answers > 0, "nothing was acknowledged");
    assert!(
        dearest <= RATIO_MAX,
        "{dearest:.2} times as much as in order"
    );
}
