//! The ring against an oracle from any start index, across threads, and under loom.
//!
//! Loom: `RUSTFLAGS="--cfg loom" cargo test -p sluice-afxdp --release --lib loom`.

use super::*;

#[cfg(not(loom))]
mod single_thread {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn pair(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let (ours, theirs) = Ring::heap(size, start);
        (Producer::new(ours), Consumer::new(theirs))
    }

    #[test]
    fn entries_are_invisible_until_published() {
        let (mut producer, mut consumer) = pair(4, 0);
        assert!(producer.push(1));
        assert_eq!(consumer.available(), 0);
        assert_eq!(consumer.peek(0), None);
        producer.publish();
        assert_eq!(consumer.available(), 1);
        assert_eq!(consumer.peek(0), Some(1));
    }

    #[test]
    fn a_full_ring_takes_nothing_until_entries_are_released() {
        let (mut producer, mut consumer) = pair(2, u32::MAX);
        assert!(producer.push(1) && producer.push(2) && !producer.push(3));
        producer.publish();
        assert_eq!(consumer.available(), 2);
        assert_eq!(consumer.peek(1), Some(2));
        assert!(!producer.push(3));
        consumer.release(1);
        assert!(producer.push(3));
        assert!(!producer.push(4));
    }

    #[test]
    fn entries_held_back_can_be_taken_back_and_published_ones_cannot() {
        let (mut producer, mut consumer) = pair(4, u32::MAX - 1);
        for value in 1..=3 {
            assert!(producer.push(value));
        }
        producer.publish_except(2);
        assert_eq!(consumer.available(), 1);
        assert_eq!(producer.pending(), 1);
        assert_eq!(producer.occupied(), 3);
        assert_eq!(producer.pop_unpublished(), Some(3));
        assert_eq!(producer.pop_unpublished(), Some(2));
        assert_eq!(producer.pop_unpublished(), None);
        assert_eq!(producer.occupied(), 1);
    }

    #[test]
    fn no_more_can_be_released_than_is_there() {
        let (mut producer, mut consumer) = pair(4, 7);
        assert!(producer.push(1));
        producer.publish();
        assert_eq!(consumer.available(), 1);
        consumer.release(4);
        assert_eq!(producer.pending(), 0);
        assert_eq!(producer.free(), 4);
    }

    #[test]
    fn an_impossible_index_of_the_other_side_never_leaves_the_ring() {
        let (mut producer, mut consumer) = pair(4, 0);
        assert!(producer.push(1));
        producer.publish();
        // The other side claims a lap and a half.
        producer.ring.producer().store(6, Ordering::Relaxed);
        assert_eq!(consumer.available(), 4);
        assert_eq!(consumer.peek(4), None);
        // And to have consumed what was never produced.
        consumer.ring.consumer().store(100, Ordering::Relaxed);
        assert_eq!(producer.free(), 0);
    }

    #[test]
    fn the_wakeup_bit_reaches_the_producer() {
        let (producer, consumer) = pair(4, 0);
        assert!(!producer.needs_wakeup());
        consumer.set_need_wakeup(true);
        assert!(producer.needs_wakeup());
        consumer.set_need_wakeup(false);
        assert!(!producer.needs_wakeup());
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Push,
        Publish { hold_back: u32 },
        TakeBack,
        Look,
        Consume { count: u32 },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => Just(Operation::Push),
            2 => (0..4_u32).prop_map(|hold_back| Operation::Publish { hold_back }),
            1 => Just(Operation::TakeBack),
            2 => Just(Operation::Look),
            2 => (0..10_u32).prop_map(|count| Operation::Consume { count }),
        ]
    }

    proptest! {
        #[test]
        fn a_ring_behaves_like_a_queue_from_any_start_index(
            start in prop_oneof![any::<u32>(), (u32::MAX - 20)..=u32::MAX],
            order in 0..4_u32,
            operations in prop::collection::vec(operation(), 1..300),
        ) {
            let size = 1 << order;
            let (mut producer, mut consumer) = pair(size, start);
            let (mut written, mut published) = (VecDeque::new(), VecDeque::new());
            let mut seen = 0;
            for (value, operation) in (0_u64..).zip(operations) {
                match operation {
                    Operation::Push => {
                        let fits = written.len() + published.len() < size as usize;
                        prop_assert_eq!(producer.push(value), fits);
                        if fits {
                            written.push_back(value);
                        }
                    }
                    Operation::Publish { hold_back } => {
                        let hold_back = (hold_back as usize).min(written.len());
                        let whole = written.len() - hold_back;
                        published.extend(written.drain(..whole));
                        producer.publish_except(u32::try_from(hold_back).expect("small"));
                    }
                    Operation::TakeBack => {
                        prop_assert_eq!(producer.pop_unpublished(), written.pop_back());
                    }
                    Operation::Look => {
                        seen = published.len();
                        prop_assert_eq!(consumer.available() as usize, seen);
                    }
                    Operation::Consume { count } => {
                        for (ahead, expected) in (0..count).zip(published.iter().take(seen)) {
                            prop_assert_eq!(consumer.peek(ahead), Some(*expected));
                        }
                        consumer.release(count);
                        let released = seen.min(count as usize);
                        published.drain(..released);
                        seen -= released;
                    }
                }
                prop_assert_eq!(producer.pending() as usize, published.len());
                prop_assert_eq!(producer.occupied() as usize, published.len() + written.len());
                prop_assert_eq!(producer.free_now() as usize, size as usize - published.len() - written.len());
            }
        }
    }

    #[test]
    fn every_entry_crosses_threads_once_and_in_order() {
        const ENTRIES: u64 = 100_000;
        let (mut producer, mut consumer) = pair(8, u32::MAX - 1000);
        let writer = std::thread::spawn(move || {
            for value in 0..ENTRIES {
                while !producer.push(value) {
                    producer.publish();
                    std::hint::spin_loop();
                }
                if value % 3 == 0 {
                    producer.publish();
                }
            }
            producer.publish();
        });
        let mut expected = 0;
        while expected < ENTRIES {
            let available = consumer.available();
            for ahead in 0..available {
                assert_eq!(consumer.peek(ahead), Some(expected));
                expected += 1;
            }
            consumer.release(available);
        }
        writer.join().expect("the writer finishes");
    }
}

#[cfg(loom)]
mod loom_models {
    use loom::thread;

    use super::*;

    /// Reads `count` values that must be 0, 1, 2, ...
    fn read_in_order(consumer: &mut Consumer<u64>, count: u64) {
        let mut expected = 0;
        while expected < count {
            let available = consumer.available();
            for ahead in 0..available {
                assert_eq!(consumer.peek(ahead), Some(expected));
                expected += 1;
            }
            consumer.release(available);
            if available == 0 {
                thread::yield_now();
            }
        }
    }

    fn push_or_yield(producer: &mut Producer<u64>, value: u64) {
        while !producer.push(value) {
            producer.publish();
            thread::yield_now();
        }
    }

    #[test]
    fn loom_entries_are_whole_when_seen_and_free_when_overwritten() {
        loom::model(|| {
            // Two entries and three values: the third waits for a release, and the index wraps.
            let (ours, theirs) = Ring::heap(2, u32::MAX);
            let mut producer = Producer::new(ours);
            let mut consumer = Consumer::new(theirs);
            let writer = thread::spawn(move || {
                for value in 0..3 {
                    push_or_yield(&mut producer, value);
                    producer.publish();
                }
            });
            read_in_order(&mut consumer, 3);
            writer.join().expect("the writer finishes");
        });
    }

    #[test]
    fn loom_a_batch_held_back_is_never_seen_in_part() {
        loom::model(|| {
            let (ours, theirs) = Ring::heap(4, u32::MAX - 1);
            let mut producer = Producer::new(ours);
            let mut consumer = Consumer::new(theirs);
            let writer = thread::spawn(move || {
                // A whole packet of one entry, then one of two of which the first is written early.
                producer.push(0);
                producer.push(1);
                producer.publish_except(1);
                producer.push(2);
                producer.publish();
            });
            let mut read = 0;
            while read < 3 {
                let available = consumer.available();
                assert!(matches!((read, available), (_, 0) | (0, 1 | 3) | (1, 2)));
                for ahead in 0..available {
                    assert_eq!(consumer.peek(ahead), Some(read));
                    read += 1;
                }
                consumer.release(available);
                if available == 0 {
                    thread::yield_now();
                }
            }
            writer.join().expect("the writer finishes");
        });
    }

    #[test]
    fn loom_two_rings_carry_a_frame_there_and_back() {
        // Fill and RX as the kernel uses them: the frame's memory itself changes hands by the rings alone.
        loom::model(|| {
            let frame = Arc::new(UnsafeCell::new(0_u64));
            let (fill, kernel_fill) = Ring::heap(2, u32::MAX);
            let (rx, kernel_rx) = Ring::heap(2, u32::MAX);
            let (mut fill, mut rx) = (Producer::new(fill), Consumer::new(rx));
            let (mut kernel_fill, mut kernel_rx) =
                (Consumer::new(kernel_fill), Producer::new(kernel_rx));
            let memory = Arc::clone(&frame);
            let kernel = thread::spawn(move || {
                for packet in 1..=2 {
                    while kernel_fill.available() == 0 {
                        thread::yield_now();
                    }
                    let address: u64 = kernel_fill.peek(0).expect("available");
                    // SAFETY: the frame is in the fill ring, so it is the kernel's.
                    memory.with_mut(|bytes| unsafe { *bytes = packet });
                    kernel_fill.release(1);
                    kernel_rx.push(address);
                    kernel_rx.publish();
                }
            });
            for packet in 1..=2 {
                fill.push(0);
                fill.publish();
                while rx.available() == 0 {
                    thread::yield_now();
                }
                // SAFETY: the frame came out of the RX ring, so it is ours.
                let bytes = frame.with(|bytes| unsafe { *bytes });
                assert_eq!(bytes, packet);
                rx.release(1);
            }
            kernel.join().expect("the kernel finishes");
        });
    }
}
