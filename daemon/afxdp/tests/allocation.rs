//! The steady state allocates nothing: one turn of a worker, many times, under an allocator that counts.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sluice_afxdp::{HugePages, Kick, Queue, QueueConfig, RxBatch, Umem, UmemConfig};

thread_local! {
    /// Per thread, so that the harness's own threads do not disturb the count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; counting touches a thread-local integer only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_turn_of_the_worker_allocates_nothing() {
    let umem = Umem::new(&UmemConfig {
        frames: 256,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("memory");
    let config = QueueConfig {
        rx_ring: 128,
        tx_ring: 64,
        fill_ring: 128,
        completion_ring: 64,
        ..QueueConfig::new(0, 0)
    };
    let (mut queue, mut nic) = Queue::in_memory(umem, &config, u32::MAX - 100);
    let mut batch = RxBatch::with_capacity(64);
    let packet = [7; 9000];

    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        for _ in 0..8 {
            assert!(nic.inject(&packet));
        }
        queue.reap();
        assert_eq!(queue.receive(&mut batch), 8);
        for received in batch.packets() {
            for piece in received.frames() {
                let mut frame = queue.tx_frame().expect("a free frame");
                frame.bytes_mut()[..piece.len()].copy_from_slice(piece.bytes());
                let len = u32::try_from(piece.len()).expect("a frame");
                queue
                    .send(frame, len, !piece.is_last(), None)
                    .expect("room");
            }
        }
        queue.recycle(&mut batch);
        assert_eq!(queue.kick(), Kick::Done);
        assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 8);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    queue.reap();
    assert!(queue.ledger().at_rest());
}
