//! Behaviours that need a driver which breaks the rules; all others are in `tests/in_memory.rs`.

use super::*;
use crate::testing::MemoryNic;
use crate::{HugePages, UmemConfig};

fn queue() -> (Queue, MemoryNic) {
    let umem = Umem::new(&UmemConfig {
        frames: 64,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("memory");
    let config = QueueConfig {
        rx_ring: 64,
        tx_ring: 32,
        fill_ring: 32,
        completion_ring: 32,
        ..QueueConfig::new(0, 0)
    };
    Queue::in_memory(umem, &config, u32::MAX - 5)
}

#[test]
fn an_rx_entry_that_names_a_free_frame_is_counted_and_skipped() {
    let (mut queue, mut nic) = queue();
    let mut batch = RxBatch::with_capacity(32);
    // The fill ring took frames 0 to 31; frame 63 is free.
    assert!(nic.inject_descriptor(63 * 4096 + 256, 100, false));
    assert!(nic.inject_descriptor(u64::MAX, 100, false));
    assert!(nic.inject(b"an honest packet"));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(queue.counters().rx_invalid, 2);
    assert_eq!(queue.counters().rx_broken_packets, 2);
    queue.recycle(&mut batch);
    assert!(queue.ledger().at_rest());
}

#[test]
fn a_packet_with_an_invalid_piece_is_dropped_whole() {
    let (mut queue, mut nic) = queue();
    let mut batch = RxBatch::with_capacity(32);
    assert!(nic.inject_piece(&[1; 100], true));
    assert!(nic.inject_descriptor(u64::MAX, 100, true));
    assert_eq!(queue.receive(&mut batch), 0);
    assert!(nic.inject_piece(&[1; 100], false));
    assert!(nic.inject(b"the next packet"));
    assert_eq!(queue.receive(&mut batch), 1);
    assert_eq!(
        batch.packets().next().map(|p| p.head().to_vec()),
        Some(b"the next packet".to_vec())
    );
    assert_eq!(queue.counters().rx_broken_packets, 1);
    queue.recycle(&mut batch);
    assert!(queue.ledger().at_rest());
}

#[test]
fn the_metadata_has_the_layout_of_the_kernel() {
    let bytes = metadata_bytes(TxChecksum {
        start: 34,
        offset: 16,
    });
    let mut expected = [0; 16];
    expected[..8].copy_from_slice(&2_u64.to_ne_bytes());
    expected[8..10].copy_from_slice(&34_u16.to_ne_bytes());
    expected[10..12].copy_from_slice(&16_u16.to_ne_bytes());
    assert_eq!(bytes, expected);
}
