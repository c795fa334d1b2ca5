//! Random operations against an oracle that knows what must come out.

use std::collections::VecDeque;

use proptest::prelude::*;
use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{Queue, RX_FRAME_BYTES, RxBatch, RxFrame, TxChecksum};

use crate::bed::{assert_settled, config, packets_of, pattern, umem};

#[derive(Clone, Debug)]
enum Operation {
    Inject { len: usize },
    InjectPart,
    Receive,
    Recycle,
    Keep,
    ReleaseKept,
    Refill,
    Send { lens: Vec<usize>, checksum: bool },
    StartPacket,
    Kick { errno: i32 },
    Transmit { limit: u32 },
    Hold { hold: bool },
    Complete { frames: u32 },
    Stall { stalled: bool },
    Reap,
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![1..200_usize, 3800..3900_usize, 1..60_000_usize];
    let piece = prop_oneof![14..200_usize, Just(4080)];
    prop_oneof![
        6 => len.prop_map(|len| Operation::Inject { len }),
        1 => Just(Operation::InjectPart),
        4 => Just(Operation::Receive),
        4 => Just(Operation::Recycle),
        1 => Just(Operation::Keep),
        1 => Just(Operation::ReleaseKept),
        1 => Just(Operation::Refill),
        6 => (prop::collection::vec(piece, 1..6), any::<bool>())
            .prop_map(|(lens, checksum)| Operation::Send { lens, checksum }),
        1 => Just(Operation::StartPacket),
        4 => prop_oneof![4 => Just(0), 1 => Just(libc::EAGAIN), 1 => Just(libc::ENETDOWN)]
            .prop_map(|errno| Operation::Kick { errno }),
        4 => (0..40_u32).prop_map(|limit| Operation::Transmit { limit }),
        1 => any::<bool>().prop_map(|hold| Operation::Hold { hold }),
        2 => (0..40_u32).prop_map(|frames| Operation::Complete { frames }),
        1 => any::<bool>().prop_map(|stalled| Operation::Stall { stalled }),
        4 => Just(Operation::Reap),
    ]
}

/// The queue, its twin, and what must come out of them.
struct World {
    queue: Queue,
    nic: MemoryNic,
    batch: RxBatch,
    kept: Vec<RxFrame>,
    seed: usize,
    /// Pieces of a packet injected in parts whose end is to come.
    part: Vec<u8>,
    arriving: VecDeque<Vec<u8>>,
    received: Vec<Vec<u8>>,
    queued: VecDeque<(Vec<u8>, Option<TxChecksum>)>,
    published: VecDeque<(Vec<u8>, Option<TxChecksum>)>,
}

impl World {
    fn new(start: u32) -> Self {
        let (queue, nic) = Queue::in_memory(umem(), &config(), start);
        Self {
            queue,
            nic,
            batch: RxBatch::with_capacity(40),
            kept: Vec::new(),
            seed: 0,
            part: Vec::new(),
            arriving: VecDeque::new(),
            received: Vec::new(),
            queued: VecDeque::new(),
            published: VecDeque::new(),
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.seed += 1;
        pattern(self.seed, len)
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Inject { len } => self.inject(len),
            Operation::InjectPart => self.inject_part(),
            Operation::Receive => self.receive(),
            Operation::Recycle => {
                self.queue.recycle(&mut self.batch);
                self.received.clear();
            }
            Operation::Keep => {
                self.kept.extend(self.batch.drain());
                self.received.clear();
            }
            Operation::ReleaseKept => {
                for frame in self.kept.drain(..) {
                    self.queue.release(frame);
                }
            }
            Operation::Refill => self.queue.refill(),
            Operation::Send { lens, checksum } => self.send(&lens, checksum),
            Operation::StartPacket => {
                if let Some(frame) = self.queue.tx_frame()
                    && let Err(frame) = self.queue.send(frame, 60, true, None)
                {
                    self.queue.unused(frame);
                }
                let _ = self.queue.kick();
                self.published.append(&mut self.queued);
                self.queue.abandon_packet();
            }
            Operation::Kick { errno } => {
                self.nic.fail_next_kick(errno);
                let _ = self.queue.kick();
                self.nic.fail_next_kick(0);
                self.published.append(&mut self.queued);
            }
            Operation::Transmit { limit } => self.transmit(limit),
            Operation::Hold { hold } => self.nic.hold_completions(hold),
            Operation::Complete { frames } => {
                self.nic.complete(frames);
            }
            Operation::Stall { stalled } => self.nic.stall(stalled),
            Operation::Reap => {
                self.queue.reap();
            }
        }
    }

    /// A whole packet, or the end of one that arrives in parts.
    fn inject(&mut self, len: usize) {
        if self.part.is_empty() {
            let packet = self.bytes(len);
            if self.nic.inject(&packet) {
                self.arriving.push_back(packet);
            }
        } else {
            let piece = self.bytes(len.min(RX_FRAME_BYTES));
            if self.nic.inject_piece(&piece, false) {
                self.part.extend(&piece);
                self.arriving.push_back(std::mem::take(&mut self.part));
            }
        }
    }

    fn inject_part(&mut self) {
        if self.part.len() < 5 * 100 {
            let piece = self.bytes(100);
            if self.nic.inject_piece(&piece, true) {
                self.part.extend(&piece);
            }
        }
    }

    fn receive(&mut self) {
        let packets = self.queue.receive(&mut self.batch);
        self.received.extend(self.arriving.drain(..packets));
        assert_eq!(packets_of(&self.batch), self.received);
    }

    fn send(&mut self, lens: &[usize], checksum: bool) {
        let checksum = checksum.then_some(TxChecksum {
            start: 0,
            offset: 6,
        });
        let slots = self.queue.tx_slots() as usize;
        let free = self.queue.ledger().pool as usize;
        let mut packet = Vec::new();
        for (index, &len) in lens.iter().enumerate() {
            let bytes = self.bytes(len);
            let Some(mut frame) = self.queue.tx_frame() else {
                assert_eq!(index, free);
                self.queue.abandon_packet();
                return;
            };
            self.queue.buffer(&mut frame)[..len].copy_from_slice(&bytes);
            packet.extend(bytes);
            let more = index + 1 < lens.len();
            let checksum = checksum.filter(|_| index == 0);
            let len = u32::try_from(len).expect("small");
            if let Err(frame) = self.queue.send(frame, len, more, checksum) {
                assert_eq!(index, slots, "only a full ring refuses");
                self.queue.unused(frame);
                self.queue.abandon_packet();
                return;
            }
        }
        self.queued.push_back((packet, checksum));
    }

    fn transmit(&mut self, limit: u32) {
        let mut seen = Vec::new();
        self.nic.transmit(limit, |pieces, checksum| {
            seen.push((pieces.concat(), checksum))
        });
        for packet in seen {
            assert_eq!(Some(packet), self.published.pop_front());
        }
    }

    fn finish(mut self) {
        let _ = self.queue.kick();
        self.published.append(&mut self.queued);
        self.nic.stall(false);
        self.nic.hold_completions(false);
        while !self.published.is_empty() {
            let left = self.published.len();
            self.nic.complete(u32::MAX);
            self.queue.reap();
            self.transmit(u32::MAX);
            assert!(
                self.published.len() < left,
                "nothing stops the rest of the ring"
            );
        }
        for frame in self.kept.drain(..) {
            self.queue.release(frame);
        }
        self.queue.recycle(&mut self.batch);
        self.received.clear();
        if !self.part.is_empty() {
            self.inject(1);
        }
        while !self.arriving.is_empty() {
            let left = self.arriving.len();
            self.receive();
            self.queue.recycle(&mut self.batch);
            self.received.clear();
            assert!(
                self.arriving.len() < left,
                "nothing stops the rest of the ring"
            );
        }
        assert_settled(self.queue, self.nic);
    }
}

proptest! {
    #[test]
    fn any_order_of_operations_carries_every_packet_and_loses_no_frame(
        start in prop_oneof![any::<u32>(), (u32::MAX - 64)..=u32::MAX],
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        let mut world = World::new(start);
        for operation in operations {
            world.apply(operation);
            prop_assert!(world.queue.ledger().balanced());
        }
        world.finish();
    }
}
