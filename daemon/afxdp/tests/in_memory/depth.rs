//! How many frames wait in a large fill ring: few go round, a burst is lost once at most, and no frame ever.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;
use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{
    HugePages, Ledger, Queue, QueueConfig, RX_FRAME_BYTES, RxBatch, RxFrame, Umem, UmemConfig,
};

use crate::bed::{START, assert_settled, send};

/// Entries of every ring.
const RING: u32 = 2048;
/// Frames that wait at first.
const FIRST: u32 = 512;
/// Frames of a batch, as a worker has it.
const BATCH: usize = 256;
const FRAMES: u32 = 4 * RING;

fn queue_and_nic(frames: u32) -> (Queue, MemoryNic) {
    let umem = Umem::new(&UmemConfig {
        frames,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("memory");
    let config = QueueConfig {
        rx_ring: RING,
        tx_ring: RING,
        fill_ring: RING,
        completion_ring: RING,
        ..QueueConfig::new(0, 0)
    };
    Queue::in_memory(umem, &config, START)
}

/// Short packets at once. Returns how many were lost.
fn burst(nic: &mut MemoryNic, packets: u32) -> u32 {
    (0..packets).map(|_| u32::from(!nic.inject(&[1; 60]))).sum()
}

/// As a worker that does nothing else, until no packet waits. Returns how many there were.
fn take_all(queue: &mut Queue) -> usize {
    let mut batch = RxBatch::with_capacity(BATCH);
    let mut taken = 0;
    loop {
        let packets = queue.receive(&mut batch);
        queue.recycle(&mut batch);
        if packets == 0 {
            return taken;
        }
        taken += packets;
    }
}

#[test]
fn of_a_burst_after_idleness_only_the_first_loses_what_the_first_depth_could_not_hold() {
    let (mut queue, mut nic) = queue_and_nic(FRAMES);
    assert_eq!((queue.fill_depth(), nic.fill_level()), (FIRST, FIRST));
    assert_eq!(burst(&mut nic, RING), RING - FIRST);
    assert_eq!(take_all(&mut queue), FIRST as usize);
    for _ in 0..3 {
        assert_eq!(burst(&mut nic, RING), 0);
        assert_eq!(take_all(&mut queue), RING as usize);
    }
    assert_settled(queue, nic);
}

#[test]
fn bursts_that_double_from_turn_to_turn_as_in_slow_start_lose_nothing() {
    let (mut queue, mut nic) = queue_and_nic(FRAMES);
    for log in 0..=11 {
        assert_eq!(burst(&mut nic, 1 << log), 0, "2^{log}");
        assert_eq!(take_all(&mut queue), 1 << log);
    }
    assert_settled(queue, nic);
}

#[test]
fn the_depth_comes_back_after_a_burst_without_losing_a_packet_or_a_frame() {
    let (mut queue, mut nic) = queue_and_nic(FRAMES);
    burst(&mut nic, RING);
    take_all(&mut queue);
    assert_eq!((queue.fill_depth(), nic.fill_level()), (RING, RING));
    for _ in 0..5000 {
        assert_eq!(burst(&mut nic, 120), 0);
        assert_eq!(take_all(&mut queue), 120);
    }
    assert_eq!((queue.fill_depth(), nic.fill_level()), (FIRST, FIRST));
    assert_settled(queue, nic);
}

#[test]
fn the_frames_that_were_used_last_are_used_again() {
    let (mut queue, mut nic) = queue_and_nic(FRAMES);
    let mut batch = RxBatch::with_capacity(BATCH);
    let mut used = HashSet::new();
    for _ in 0..100 {
        assert_eq!(burst(&mut nic, 64), 0);
        assert_eq!(queue.receive(&mut batch), 64);
        used.extend(batch.packets().map(|packet| packet.head().as_ptr()));
        queue.recycle(&mut batch);
    }
    assert_eq!(used.len(), FIRST as usize);
    assert_settled(queue, nic);
}

#[test]
fn in_zero_copy_mode_the_whole_ring_is_kept_full() {
    let (queue, mut nic) = queue_and_nic(FRAMES);
    let mut queue = queue.with_zero_copy();
    assert_eq!((queue.fill_depth(), nic.fill_level()), (RING, RING));
    assert_eq!(burst(&mut nic, RING), 0);
    take_all(&mut queue);
    for _ in 0..5000 {
        assert_eq!(burst(&mut nic, 120), 0);
        assert_eq!(take_all(&mut queue), 120);
    }
    assert_eq!((queue.fill_depth(), nic.fill_level()), (RING, RING));
    assert_settled(queue, nic);
}

#[test]
fn frames_that_the_receiver_keeps_are_no_burst() {
    let (mut queue, mut nic) = queue_and_nic(FRAMES);
    let mut batch = RxBatch::with_capacity(BATCH);
    let mut kept = Vec::new();
    while burst(&mut nic, 100) < 100 {
        queue.receive(&mut batch);
        kept.extend(batch.drain());
        queue.recycle(&mut batch);
    }
    // All but what transmission needs.
    assert_eq!(kept.len(), (FRAMES - RING) as usize);
    assert_eq!((queue.fill_depth(), nic.fill_level()), (FIRST, 0));
    for frame in kept {
        queue.release(frame);
    }
    queue.refill();
    assert_eq!((queue.fill_depth(), nic.fill_level()), (FIRST, FIRST));
    assert_settled(queue, nic);
}

#[derive(Clone, Debug)]
enum Operation {
    /// So many packets of so many frames each.
    Burst {
        packets: u32,
        frames: u32,
    },
    /// Receives a batch, keeps one of so many frames, and refills.
    Turn {
        keep_one_of: usize,
    },
    /// Gives back so many of those kept.
    Release {
        frames: usize,
    },
    /// Sends packets of one frame.
    Send {
        packets: u32,
    },
    Reap,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => (1..300_u32).prop_map(|packets| Operation::Burst { packets, frames: 1 }),
        1 => (1..2500_u32).prop_map(|packets| Operation::Burst { packets, frames: 1 }),
        1 => (1..60_u32, 2..18_u32)
            .prop_map(|(packets, frames)| Operation::Burst { packets, frames }),
        6 => (1..10_usize).prop_map(|keep_one_of| Operation::Turn { keep_one_of }),
        1 => (0..3000_usize).prop_map(|frames| Operation::Release { frames }),
        1 => (0..3000_u32).prop_map(|packets| Operation::Send { packets }),
        1 => Just(Operation::Reap),
    ]
}

/// A queue, its twin, and the same in numbers.
struct World {
    queue: Queue,
    nic: MemoryNic,
    batch: RxBatch,
    kept: Vec<RxFrame>,
    pool: u32,
    waiting: u32,
    /// Frames of each packet in the RX ring.
    arrived: VecDeque<u32>,
    in_flight: u32,
}

impl World {
    /// So few frames that a receiver that keeps some leaves none.
    const FRAMES: u32 = 3 * RING;

    fn new() -> Self {
        let (queue, nic) = queue_and_nic(Self::FRAMES);
        Self {
            queue,
            nic,
            batch: RxBatch::with_capacity(BATCH),
            kept: Vec::new(),
            pool: Self::FRAMES - FIRST,
            waiting: FIRST,
            arrived: VecDeque::new(),
            in_flight: 0,
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Burst { packets, frames } => {
                let packet = vec![1; frames as usize * RX_FRAME_BYTES];
                for _ in 0..packets {
                    self.arrive(&packet, frames);
                }
            }
            Operation::Turn { keep_one_of } => self.turn(keep_one_of),
            Operation::Release { frames } => self.release(frames),
            Operation::Send { packets } => {
                for _ in 0..packets.min(self.pool).min(RING - self.in_flight) {
                    assert!(send(&mut self.queue, &[2; 60], false));
                    self.pool -= 1;
                    self.in_flight += 1;
                }
                let _ = self.queue.kick();
                self.nic.transmit(u32::MAX, |_, _| {});
            }
            Operation::Reap => {
                assert_eq!(self.queue.reap(), self.in_flight);
                self.pool += self.in_flight;
                self.in_flight = 0;
            }
        }
    }

    fn arrive(&mut self, packet: &[u8], frames: u32) {
        let in_rx_ring: u32 = self.arrived.iter().sum();
        let has_room = frames <= self.waiting && in_rx_ring + frames <= RING;
        assert_eq!(self.nic.inject(packet), has_room);
        if has_room {
            self.waiting -= frames;
            self.arrived.push_back(frames);
        }
    }

    fn turn(&mut self, keep_one_of: usize) {
        let packets = self.queue.receive(&mut self.batch);
        let received: u32 = self.arrived.drain(..packets).sum();
        assert_eq!(self.batch.len(), received as usize);
        for (index, frame) in self.batch.drain().enumerate() {
            if index % keep_one_of == keep_one_of - 1 {
                self.kept.push(frame);
            } else {
                self.queue.release(frame);
                self.pool += 1;
            }
        }
        self.queue.recycle(&mut self.batch);
        self.refilled();
    }

    fn release(&mut self, frames: usize) {
        for frame in self.kept.drain(..frames.min(self.kept.len())) {
            self.queue.release(frame);
            self.pool += 1;
        }
    }

    /// What a refill does, in one line.
    fn refilled(&mut self) {
        let spare = self.pool.saturating_sub(RING - self.in_flight);
        let added = self.queue.fill_depth().saturating_sub(self.waiting);
        let added = added.min(spare);
        self.pool -= added;
        self.waiting += added;
    }

    fn check(&mut self) {
        let ledger = Ledger {
            total: Self::FRAMES,
            pool: self.pool,
            fill: self.waiting + self.arrived.iter().sum::<u32>(),
            rx_held: u32::try_from(self.kept.len()).expect("frames"),
            tx_building: 0,
            tx_in_flight: self.in_flight,
        };
        assert_eq!(self.queue.ledger(), ledger);
        assert!(ledger.balanced());
        assert_eq!(self.nic.fill_level(), self.waiting);
        assert!((FIRST..=RING).contains(&self.queue.fill_depth()));
    }
}

proptest! {
    // Each moves some ten thousand packets.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frame_is_lost_whatever_arrives_and_is_kept(
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let mut world = World::new();
        for operation in &operations {
            world.apply(operation);
            world.check();
        }
        world.release(usize::MAX);
        assert_settled(world.queue, world.nic);
    }
}
