//! A queue against the in-memory twin of the kernel: behaviours one by one, then random operations against an oracle.
//!
//! Every test ends with a ledger at rest: no frame is lost, whatever happened.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::os::fd::AsRawFd;

use proptest::prelude::*;
use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{
    HugePages, Kick, MAX_PACKET_FRAMES, Queue, QueueConfig, RX_FRAME_BYTES, RxBatch, TxChecksum,
    Umem, UmemConfig,
};

const START: u32 = u32::MAX - 7;

fn umem() -> Umem {
    Umem::new(&UmemConfig {
        frames: 128,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("memory")
}

fn config() -> QueueConfig {
    QueueConfig {
        rx_ring: 64,
        tx_ring: 32,
        fill_ring: 64,
        completion_ring: 32,
        ..QueueConfig::new(0, 0)
    }
}

fn pair() -> (Queue, MemoryNic) {
    Queue::in_memory(umem(), &config(), START)
}

/// Bytes that differ from packet to packet and from place to place.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 31 + seed * 17 + i / 251).to_le_bytes()[0])
        .collect()
}

fn send(queue: &mut Queue, bytes: &[u8], more: bool) -> bool {
    let mut frame = queue.tx_frame().expect("a free frame");
    queue.buffer(&mut frame)[..bytes.len()].copy_from_slice(bytes);
    match queue.send(
        frame,
        u32::try_from(bytes.len()).expect("small"),
        more,
        None,
    ) {
        Ok(()) => true,
        Err(frame) => {
            queue.unused(frame);
            false
        }
    }
}

fn packets_of(batch: &RxBatch) -> Vec<Vec<u8>> {
    batch
        .packets()
        .map(|packet| packet.pieces().collect::<Vec<_>>().concat())
        .collect()
}

/// Sends and completes everything, and gives every frame back.
fn settle(queue: &mut Queue, nic: &mut MemoryNic) {
    nic.hold_completions(false);
    nic.stall(false);
    queue.abandon_packet();
    let mut batch = RxBatch::with_capacity(64);
    for _ in 0..1000 {
        let _ = queue.kick();
        nic.transmit(u32::MAX, |_, _| {});
        nic.complete(u32::MAX);
        queue.reap();
        queue.receive(&mut batch);
        queue.recycle(&mut batch);
        if queue.ledger().at_rest() && queue.tx_queued() == 0 {
            return;
        }
    }
    panic!("frames are missing: {:?}", queue.ledger());
}

fn assert_settled(mut queue: Queue, mut nic: MemoryNic) {
    settle(&mut queue, &mut nic);
    assert!(queue.ledger().balanced());
    assert_eq!(queue.counters().rx_invalid, 0);
    assert_eq!(queue.counters().completions_invalid, 0);
    assert_eq!(queue.statistics().expect("memory").tx_invalid_descs, 0);
}

#[test]
fn the_fill_ring_is_filled_from_the_start() {
    let (queue, mut nic) = pair();
    assert_eq!(nic.fill_level(), 64);
    assert_eq!(queue.ledger().fill, 64);
    assert_settled(queue, nic);
}

#[test]
fn packets_arrive_whole_and_in_order() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    let sent: Vec<_> = [60, 9000, 1, RX_FRAME_BYTES, RX_FRAME_BYTES + 1, 57_986]
        .into_iter()
        .enumerate()
        .map(|(seed, len)| pattern(seed, len))
        .collect();
    for packet in &sent {
        assert!(nic.inject(packet));
    }
    assert_eq!(queue.receive(&mut batch), sent.len());
    assert_eq!(packets_of(&batch), sent);
    let pieces: Vec<_> = batch
        .packets()
        .map(|packet| packet.frames().len())
        .collect();
    assert_eq!(pieces, [1, 3, 1, 1, 2, 16]);
    assert_eq!(queue.ledger().rx_held, 24);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn an_incomplete_chain_is_held_back_until_its_end() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    assert!(nic.inject(&pattern(1, 100)));
    assert!(nic.inject_piece(&pattern(2, 3840), true));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(queue.receive(&mut batch), 0);
    assert_eq!(batch.len(), 1);
    assert!(nic.inject_piece(&pattern(3, 10), false));
    assert_eq!(queue.receive(&mut batch), 1);
    let expected = [pattern(1, 100), [pattern(2, 3840), pattern(3, 10)].concat()];
    assert_eq!(packets_of(&batch), expected);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn a_packet_that_does_not_fit_in_the_batch_waits_for_the_next() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(18);
    for seed in 0..3 {
        assert!(nic.inject(&pattern(seed, 8 * RX_FRAME_BYTES)));
    }
    assert_eq!(queue.receive(&mut batch), 2);
    assert_eq!(batch.len(), 16);
    queue.recycle(&mut batch);
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(packets_of(&batch), [pattern(2, 8 * RX_FRAME_BYTES)]);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn a_packet_of_eighteen_frames_fits_the_smallest_batch() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(0);
    let packet = pattern(9, MAX_PACKET_FRAMES * RX_FRAME_BYTES);
    assert!(nic.inject(&packet));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(packets_of(&batch), [packet]);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn a_chain_without_end_is_thrown_away_and_the_next_packet_arrives() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    for _ in 0..30 {
        assert!(nic.inject_piece(&[1; 100], true));
    }
    assert!(nic.inject_piece(&[1; 100], false));
    assert!(nic.inject(&pattern(1, 50)));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(packets_of(&batch), [pattern(1, 50)]);
    assert_eq!(queue.counters().rx_broken_packets, 1);
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn frames_kept_from_a_batch_come_back_one_by_one() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    assert!(nic.inject(&pattern(1, 9000)));
    assert_eq!(queue.receive(&mut batch), 1);
    let kept: Vec<_> = batch.drain().collect();
    queue.recycle(&mut batch);
    assert_eq!(queue.ledger().rx_held, 3);
    let bytes: Vec<_> = kept
        .iter()
        .flat_map(|frame| queue.data(frame).to_vec())
        .collect();
    assert_eq!(bytes, pattern(1, 9000));
    for frame in kept {
        queue.release(frame);
    }
    assert_settled(queue, nic);
}

#[test]
fn an_empty_fill_ring_drops_packets_and_says_so() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(64);
    while nic.inject(&[1; 60]) {}
    assert_eq!(queue.receive(&mut batch), 64);
    assert!(!nic.inject(&[1; 60]));
    assert_eq!(
        queue.statistics().expect("memory").rx_fill_ring_empty_descs,
        2
    );
    queue.recycle(&mut batch);
    assert!(nic.inject(&[1; 60]));
    assert_settled(queue, nic);
}

#[test]
fn a_receiver_that_keeps_every_frame_leaves_the_transmit_reserve() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(128);
    loop {
        while nic.inject(&[1; 60]) {}
        if queue.receive(&mut batch) == 0 {
            break;
        }
        queue.refill();
    }
    assert_eq!(queue.ledger().rx_held, 96);
    for _ in 0..32 {
        assert!(send(&mut queue, &[2; 60], false));
    }
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

#[test]
fn sent_packets_are_seen_after_the_kick_and_not_before() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &pattern(1, 60), false));
    assert!(send(&mut queue, &pattern(2, 1514), false));
    assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 0);
    assert_eq!(queue.kick(), Kick::Done);
    let mut seen = Vec::new();
    assert_eq!(
        nic.transmit(u32::MAX, |pieces, _| seen.push(pieces.concat())),
        2
    );
    assert_eq!(seen, [pattern(1, 60), pattern(2, 1514)]);
    assert_eq!(queue.reap(), 2);
    assert_eq!(queue.kick(), Kick::Idle);
    assert_eq!(nic.kicks(), 1);
    assert_settled(queue, nic);
}

#[test]
fn a_multi_buffer_packet_appears_only_when_whole() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &pattern(1, 4080), true));
    assert!(send(&mut queue, &pattern(2, 4080), true));
    let _ = queue.kick();
    assert_eq!(nic.tx_queued(), 0);
    assert!(send(&mut queue, &pattern(3, 1), false));
    assert_eq!(queue.kick(), Kick::Done);
    let mut seen = Vec::new();
    nic.transmit(u32::MAX, |pieces, _| {
        seen.push((pieces.len(), pieces.concat()))
    });
    assert_eq!(
        seen,
        [(
            3,
            [pattern(1, 4080), pattern(2, 4080), pattern(3, 1)].concat()
        )]
    );
    assert_settled(queue, nic);
}

#[test]
fn an_abandoned_packet_leaves_no_trace() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &pattern(1, 60), false));
    assert!(send(&mut queue, &pattern(2, 60), true));
    assert!(send(&mut queue, &pattern(3, 60), true));
    assert_eq!(queue.abandon_packet(), 2);
    assert_eq!(queue.abandon_packet(), 0);
    assert!(send(&mut queue, &pattern(4, 60), false));
    assert_eq!(queue.kick(), Kick::Done);
    let mut seen = Vec::new();
    nic.transmit(u32::MAX, |pieces, _| seen.push(pieces.concat()));
    assert_eq!(seen, [pattern(1, 60), pattern(4, 60)]);
    assert_settled(queue, nic);
}

#[test]
fn the_checksum_request_travels_with_its_packet_only() {
    let (mut queue, mut nic) = pair();
    let request = TxChecksum {
        start: 34,
        offset: 16,
    };
    for checksum in [Some(request), None] {
        let frame = queue.tx_frame().expect("a free frame");
        queue.send(frame, 60, false, checksum).expect("room");
        // The same frame is used again: metadata left in it must not count.
        let _ = queue.kick();
        let mut seen = Vec::new();
        nic.transmit(u32::MAX, |_, checksum| seen.push(checksum));
        assert_eq!(seen, [checksum]);
        queue.reap();
    }
    assert_settled(queue, nic);
}

#[test]
fn what_the_kernel_would_refuse_is_not_sent() {
    let (mut queue, nic) = pair();
    let fits = TxChecksum {
        start: 34,
        offset: 16,
    };
    let beyond = TxChecksum {
        start: 34,
        offset: 25,
    };
    let wraps = TxChecksum {
        start: u16::MAX,
        offset: u16::MAX,
    };
    let bad = [
        (0, false, None),
        (13, false, None),
        (4081, false, None),
        (u32::MAX, false, None),
        (60, false, Some(beyond)),
        (60, false, Some(wraps)),
    ];
    for (refused, (len, more, checksum)) in (1..).zip(bad) {
        let frame = queue.tx_frame().expect("a free frame");
        let frame = queue.send(frame, len, more, checksum).expect_err("refused");
        queue.unused(frame);
        assert_eq!(queue.counters().tx_refused, refused);
    }
    // A checksum belongs to the first frame.
    assert!(send(&mut queue, &[1; 60], true));
    let frame = queue.tx_frame().expect("a free frame");
    let frame = queue
        .send(frame, 60, false, Some(fits))
        .expect_err("refused");
    queue.unused(frame);
    assert_settled(queue, nic);
}

#[test]
fn a_packet_of_eighteen_frames_is_sent_and_a_nineteenth_refused() {
    let (mut queue, mut nic) = pair();
    for _ in 0..MAX_PACKET_FRAMES - 1 {
        assert!(send(&mut queue, &[1; 60], true));
    }
    assert!(!send(&mut queue, &[1; 60], true));
    assert_eq!(queue.counters().tx_refused, 1);
    assert!(send(&mut queue, &[1; 60], false));
    assert_eq!(queue.kick(), Kick::Done);
    assert_eq!(
        nic.transmit(u32::MAX, |pieces, _| assert_eq!(pieces.len(), 18)),
        1
    );
    assert_settled(queue, nic);
}

#[test]
fn without_multi_buffer_a_packet_is_one_frame_both_ways() {
    let config = QueueConfig {
        multi_buffer: false,
        ..config()
    };
    let (mut queue, mut nic) = Queue::in_memory(umem(), &config, START);
    assert_eq!(queue.bound().max_packet_frames, 1);
    assert!(!nic.inject(&[1; 3841]));
    assert_eq!(queue.statistics().expect("memory").rx_dropped, 1);
    assert!(!send(&mut queue, &[1; 60], true));
    assert!(send(&mut queue, &[1; 60], false));
    assert_settled(queue, nic);
}

#[test]
fn without_metadata_the_buffer_is_the_whole_chunk_and_checksums_are_refused() {
    let umem = Umem::new(&UmemConfig {
        frames: 64,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: false,
    })
    .expect("memory");
    let (mut queue, nic) = Queue::in_memory(umem, &config(), START);
    assert!(!queue.bound().tx_checksum);
    assert!(send(&mut queue, &[1; 4096], false));
    let frame = queue.tx_frame().expect("a free frame");
    let request = TxChecksum {
        start: 34,
        offset: 16,
    };
    let frame = queue
        .send(frame, 60, false, Some(request))
        .expect_err("refused");
    queue.unused(frame);
    assert_settled(queue, nic);
}

#[test]
fn a_full_ring_returns_the_frame() {
    let (mut queue, mut nic) = pair();
    for slots in (1..=32).rev() {
        assert_eq!(queue.tx_slots(), slots);
        assert!(send(&mut queue, &[1; 60], false));
    }
    assert_eq!(queue.tx_slots(), 0);
    assert!(!send(&mut queue, &[1; 60], false));
    assert_eq!(queue.counters().tx_refused, 0);
    let _ = queue.kick();
    nic.transmit(10, |_, _| {});
    // Ring entries are free again, but nothing more may be in flight than the completion ring holds.
    assert_eq!(queue.tx_slots(), 0);
    queue.reap();
    assert_eq!(queue.tx_slots(), 10);
    assert_settled(queue, nic);
}

#[test]
fn the_budget_never_splits_a_packet() {
    let (mut queue, mut nic) = pair();
    for _ in 0..3 {
        assert!(send(&mut queue, &[1; 60], true));
        assert!(send(&mut queue, &[1; 60], false));
    }
    let _ = queue.kick();
    assert_eq!(nic.transmit(5, |_, _| {}), 2);
    assert_eq!(nic.tx_queued(), 2);
    assert_settled(queue, nic);
}

#[test]
fn every_answer_to_a_kick_is_counted_by_its_kind() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &[1; 60], false));
    let answers = [
        (libc::EAGAIN, Kick::Again),
        (libc::EBUSY, Kick::FrameLost),
        (libc::ENOBUFS, Kick::NoMemory),
        (libc::ENETDOWN, Kick::Down),
        (libc::ENXIO, Kick::Gone),
        (libc::EINVAL, Kick::Wedged(libc::EINVAL)),
    ];
    for (errno, kick) in answers {
        nic.fail_next_kick(errno);
        assert_eq!(queue.kick(), kick);
    }
    nic.stall(true);
    assert_eq!(queue.kick(), Kick::Again);
    nic.stall(false);
    assert_eq!(queue.kick(), Kick::Done);
    let counters = *queue.counters();
    assert_eq!(counters.kicks, 8);
    assert_eq!(counters.kicks_again, 2);
    assert_eq!(counters.kicks_frame_lost, 1);
    assert_eq!(counters.kicks_no_memory, 1);
    assert_eq!(counters.kicks_down, 2);
    assert_eq!(counters.kicks_wedged, 1);
    assert_settled(queue, nic);
}

#[test]
fn a_nic_that_polls_needs_no_kick() {
    let (mut queue, mut nic) = pair();
    nic.need_wakeup(false);
    assert!(send(&mut queue, &[1; 60], false));
    assert_eq!(queue.kick(), Kick::Done);
    assert_eq!(nic.kicks(), 0);
    assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 1);
    assert_settled(queue, nic);
}

#[test]
fn a_lost_completion_stays_in_the_ledger_as_in_flight() {
    let (mut queue, mut nic) = pair();
    nic.drop_completions(1);
    assert!(send(&mut queue, &[1; 60], false));
    assert!(send(&mut queue, &[1; 60], false));
    let _ = queue.kick();
    nic.transmit(u32::MAX, |_, _| {});
    assert_eq!(queue.reap(), 1);
    let ledger = queue.ledger();
    assert_eq!(ledger.tx_in_flight, 1);
    assert!(ledger.balanced() && !ledger.at_rest());
}

#[test]
fn held_completions_come_back_in_order_when_the_hardware_is_done() {
    let (mut queue, mut nic) = pair();
    nic.hold_completions(true);
    for _ in 0..4 {
        assert!(send(&mut queue, &[1; 60], false));
    }
    let _ = queue.kick();
    assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 4);
    assert_eq!(queue.reap(), 0);
    assert_eq!(nic.complete(3), 3);
    assert_eq!(queue.reap(), 3);
    assert_eq!(queue.ledger().tx_in_flight, 1);
    assert_settled(queue, nic);
}

#[test]
fn the_descriptor_is_readable_when_packets_wait() {
    let (mut queue, mut nic) = pair();
    let mut batch = RxBatch::with_capacity(32);
    assert!(!readable(&queue));
    assert!(nic.inject(&[1; 60]));
    assert!(readable(&queue));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(queue.receive(&mut batch), 0);
    assert!(!readable(&queue));
    queue.recycle(&mut batch);
    assert_settled(queue, nic);
}

fn readable(queue: &Queue) -> bool {
    let mut poll = libc::pollfd {
        fd: queue.fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry, borrowed for the call, which does not wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn queue_and_nic_work_from_two_threads() {
    const PACKETS: usize = 20_000;
    let (mut queue, mut nic) = pair();
    let kernel = std::thread::spawn(move || {
        let (mut injected, mut echoed) = (0, 0);
        while echoed < PACKETS {
            if injected < PACKETS && nic.inject(&pattern(injected, 100 + injected % 5000)) {
                injected += 1;
            }
            nic.transmit(8, |pieces, _| {
                assert_eq!(pieces.concat(), pattern(echoed, 100 + echoed % 5000));
                echoed += 1;
            });
        }
        nic
    });
    let mut batch = RxBatch::with_capacity(32);
    while !kernel.is_finished() {
        queue.reap();
        // Room for everything the batch may hold, so that nothing has to wait.
        if queue.tx_slots() == 32 && queue.receive(&mut batch) > 0 {
            echo(&mut queue, &batch);
            queue.recycle(&mut batch);
        }
        let _ = queue.kick();
    }
    let nic = kernel
        .join()
        .expect("every packet comes back as it was sent");
    assert_settled(queue, nic);
}

fn echo(queue: &mut Queue, batch: &RxBatch) {
    for packet in batch.packets() {
        for piece in packet.frames() {
            assert!(send(queue, piece.bytes(), !piece.is_last()));
        }
    }
}

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
    kept: Vec<sluice_afxdp::RxFrame>,
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
