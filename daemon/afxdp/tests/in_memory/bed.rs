//! A small queue and its twin, and how every test ends: with a ledger at rest.

use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{HugePages, Queue, QueueConfig, RxBatch, Umem, UmemConfig};

/// Where ring indices begin: they are about to wrap.
pub const START: u32 = u32::MAX - 7;

pub fn umem() -> Umem {
    Umem::new(&UmemConfig {
        frames: 128,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("memory")
}

pub fn config() -> QueueConfig {
    QueueConfig {
        rx_ring: 64,
        tx_ring: 32,
        fill_ring: 64,
        completion_ring: 32,
        ..QueueConfig::new(0, 0)
    }
}

pub fn pair() -> (Queue, MemoryNic) {
    Queue::in_memory(umem(), &config(), START)
}

/// Bytes that differ from packet to packet and from place to place.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 31 + seed * 17 + i / 251).to_le_bytes()[0])
        .collect()
}

/// Sends one frame of a packet. False, with the frame given back, if it is refused.
pub fn send(queue: &mut Queue, bytes: &[u8], more: bool) -> bool {
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

pub fn packets_of(batch: &RxBatch) -> Vec<Vec<u8>> {
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

/// Ends a test: no frame is lost, and neither side has seen anything invalid.
pub fn assert_settled(mut queue: Queue, mut nic: MemoryNic) {
    settle(&mut queue, &mut nic);
    assert!(queue.ledger().balanced());
    assert_eq!(queue.counters().rx_invalid, 0);
    assert_eq!(queue.counters().completions_invalid, 0);
    assert_eq!(queue.statistics().expect("memory").tx_invalid_descs, 0);
}
