//! What goes by the helper threads: slow, out of step with the caller, or never fetched.

use super::*;

#[test]
fn helpers_read_a_whole_file() {
    let mut rig = Rig::by_helpers(4);
    let bytes = rig.write("file", 1, 6 * BLOCK_BYTES + 3);
    let file = rig.open("file");
    assert_eq!(rig.read(&file), Ok(bytes));
    let counters = rig.disk.counters();
    assert_eq!((counters.opens_inline, counters.opens_helper), (0, 1));
    assert_eq!((counters.reads_inline, counters.reads_helper), (0, 7));
    assert_eq!(counters.bytes_helper, 6 * BLOCK_BYTES_U64 + 3);
    rig.disk.close(file);
}

#[test]
fn a_helper_continues_where_the_page_cache_ended() {
    let mut rig = Rig::new(2);
    rig.disk.inline.bytes = 5000;
    let bytes = rig.write("file", 2, BLOCK_BYTES + 6000);
    let file = rig.open("file");
    assert_eq!(rig.read(&file), Ok(bytes));
    if rig.has_nowait() {
        let counters = rig.disk.counters();
        assert_eq!(counters.bytes_inline, 10_000);
        assert_eq!(counters.bytes_helper, BLOCK_BYTES_U64 + 6000 - 10_000);
    }
    rig.disk.close(file);
}

#[test]
fn an_idle_disk_is_quiet() {
    let mut rig = Rig::by_helpers(2);
    rig.write("file", 3, 2 * BLOCK_BYTES);
    let file = rig.open("file");
    assert!(rig.read(&file).is_ok());
    rig.disk.poll();
    assert!(!rig.is_awake(Duration::from_millis(50)));
    assert!(!rig.disk.poll());
    rig.disk.close(file);
}

#[test]
fn outcomes_that_arrive_together_are_taken_together() {
    let mut rig = Rig::by_helpers(8);
    rig.write("file", 14, 8 * BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    for block in 0..8 {
        assert!(matches!(rig.disk.fetch(&file, block), Fetch::Pending));
    }
    rig.disk.helpers.gate().set_closed(false);
    rig.poll_until("all blocks are read", |rig| rig.disk.ledger().cached == 8);
    rig.poll_until("all signals are read", |rig| rig.disk.helpers.is_quiet());
    assert!(!rig.is_awake(Duration::ZERO));
    rig.disk.close(file);
}

#[test]
fn read_ahead_arrives_unasked_and_unpinned() {
    let mut rig = Rig::by_helpers(2);
    let bytes = rig.write("file", 4, 2 * BLOCK_BYTES);
    let file = rig.open("file");
    assert_eq!(rig.disk.prefetch(&file, 0), Prefetch::Coming { until: 1 });
    assert_eq!(rig.disk.prefetch(&file, 0), Prefetch::Coming { until: 1 });
    assert_eq!(rig.disk.ledger().loading, 1);
    rig.wait();
    assert_eq!(rig.disk.prefetch(&file, 0), Prefetch::Here);
    assert_eq!(
        rig.disk.prefetch(&file, 2),
        Prefetch::Refused,
        "behind the end"
    );
    assert_eq!(rig.disk.ledger().cached, 1);
    let Fetch::Ready(block) = rig.disk.fetch(&file, 0) else {
        panic!("the block was read ahead");
    };
    assert_eq!(rig.disk.bytes(&block), &bytes[..BLOCK_BYTES]);
    rig.disk.release(block);
    rig.disk.close(file);
}

#[test]
fn read_ahead_leaves_places_to_blocks_that_somebody_waits_for() {
    let mut rig = Rig::by_helpers(12);
    rig.write("file", 5, 12 * BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    for block in 0..8 {
        let expected = match block {
            0..4 => Prefetch::Coming { until: block + 1 },
            _ => Prefetch::Refused,
        };
        assert_eq!(rig.disk.prefetch(&file, block), expected);
    }
    assert_eq!(rig.disk.ledger().loading, 4);
    assert!(matches!(rig.disk.fetch(&file, 11), Fetch::Pending));
    assert_eq!(rig.disk.ledger().loading, 5);
    rig.disk.close(file);
}

#[test]
fn a_full_queue_puts_a_read_off_and_loses_nothing() {
    let config = DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 1,
        direct_above: None,
        uploads: UploadLimits::NONE,
    };
    let mut rig = Rig::with(4, &config);
    rig.disk.inline.bytes = 0;
    let bytes = rig.write("file", 6, 3 * BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    for block in 0..3 {
        assert!(matches!(rig.disk.fetch(&file, block), Fetch::Pending));
    }
    let ledger = rig.disk.ledger();
    assert_eq!((ledger.loading, ledger.free), (1, 3));
    assert_eq!(rig.disk.counters().queue_full, 2);
    rig.disk.helpers.gate().set_closed(false);
    assert_eq!(rig.read(&file), Ok(bytes));
    rig.disk.close(file);
}

#[test]
fn a_file_closed_under_a_read_stays_open_until_the_read_is_done() {
    let mut rig = Rig::by_helpers(1);
    rig.write("file", 7, BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    assert!(matches!(rig.disk.fetch(&file, 0), Fetch::Pending));
    rig.disk.close(file);
    assert_eq!(rig.disk.ledger().files_open, 1);
    rig.disk.helpers.gate().set_closed(false);
    rig.wait();
    assert_eq!(rig.disk.ledger().files_open, 0);
}

#[test]
fn an_open_that_nobody_waits_for_is_closed_when_it_arrives() {
    let mut rig = Rig::by_helpers(1);
    rig.write("file", 8, 10);
    rig.disk.helpers.gate().set_closed(true);
    let Opening::Pending(ticket) = rig.disk.open(&rig.root, b"file") else {
        panic!("opens go by the helpers here");
    };
    rig.disk.abandon(ticket);
    assert_eq!(rig.disk.ledger().tickets, 1);
    rig.disk.helpers.gate().set_closed(false);
    rig.wait();
    assert_eq!(rig.disk.ledger().tickets, 0);
}

#[test]
fn an_open_given_up_after_it_arrived_is_closed() {
    let mut rig = Rig::by_helpers(1);
    rig.write("file", 9, 10);
    let Opening::Pending(ticket) = rig.disk.open(&rig.root, b"file") else {
        panic!("opens go by the helpers here");
    };
    rig.wait();
    rig.disk.abandon(ticket);
    assert_eq!(rig.disk.ledger().tickets, 0);
}

#[test]
fn more_opens_than_tickets_are_refused() {
    let mut rig = Rig::by_helpers(1);
    rig.write("file", 10, 10);
    rig.disk.helpers.gate().set_closed(true);
    for _ in 0..8 {
        let Opening::Pending(ticket) = rig.disk.open(&rig.root, b"file") else {
            panic!("there is a ticket");
        };
        rig.disk.abandon(ticket);
    }
    let refused = rig.disk.open(&rig.root, b"file");
    assert!(matches!(
        refused,
        Opening::Done(Err(OpenError::TooManyFiles))
    ));
    rig.disk.helpers.gate().set_closed(false);
}

#[test]
fn more_waiters_than_blocks_all_get_their_block() {
    const WAITERS: u64 = 8;
    let mut rig = Rig::by_helpers(2);
    let bytes = rig.write("file", 11, 8 * BLOCK_BYTES);
    let file = rig.open("file");
    let mut waiting: Vec<u64> = (0..WAITERS).collect();
    let start = Instant::now();
    while !waiting.is_empty() {
        assert!(start.elapsed() < PATIENCE, "still waiting: {waiting:?}");
        // The order that starves: those who have read nothing yet go before those whose block has just arrived.
        waiting.reverse();
        waiting.retain(|&block| match rig.disk.fetch(&file, block) {
            Fetch::Ready(found) => {
                let at = usize::try_from(block).expect("small") * BLOCK_BYTES;
                assert_eq!(rig.disk.bytes(&found), &bytes[at..at + BLOCK_BYTES]);
                rig.disk.release(found);
                false
            }
            Fetch::Pending | Fetch::NextTurn | Fetch::NoBlock => true,
            Fetch::Failed(error) => panic!("{error:?}"),
        });
        rig.disk.poll();
    }
    assert_eq!(
        rig.disk.counters().reads_helper,
        WAITERS,
        "none was read twice"
    );
    rig.disk.close(file);
}

#[test]
fn blocks_kept_for_waiters_that_left_come_back_without_further_news() {
    let mut rig = Rig::by_helpers(1);
    rig.write("file", 12, 2 * BLOCK_BYTES);
    let file = rig.open("file");
    assert!(matches!(rig.disk.fetch(&file, 0), Fetch::Pending));
    rig.wait();
    // The waiter for block 0 is gone. Somebody else wants block 1 and sleeps until there is news.
    assert!(matches!(rig.disk.fetch(&file, 1), Fetch::NoBlock));
    let start = Instant::now();
    let block = loop {
        assert!(rig.is_awake(PATIENCE), "asleep for ever");
        assert!(start.elapsed() < PATIENCE);
        if !rig.disk.poll() {
            continue;
        }
        if let Fetch::Ready(block) = rig.disk.fetch(&file, 1) {
            break block;
        }
    };
    rig.disk.release(block);
    rig.disk.poll();
    assert!(!rig.is_awake(Duration::ZERO), "and then it is quiet");
    rig.disk.close(file);
}

#[test]
fn dropping_a_disk_joins_its_helpers_with_work_outstanding() {
    let mut rig = Rig::by_helpers(8);
    rig.write("file", 13, 8 * BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    for block in 0..8 {
        assert!(matches!(rig.disk.fetch(&file, block), Fetch::Pending));
    }
    for _ in 0..8 {
        let opening = rig.disk.open(&rig.root, b"file");
        assert!(matches!(opening, Opening::Pending(_)));
    }
    rig.disk.close(file);
    rig.disk.helpers.gate().set_closed(false);
    rig.drop_disk();
}

#[test]
fn what_is_too_much_for_one_turn_is_due_at_once_in_the_next() {
    const BLOCKS: u64 = 80;
    let mut rig = Rig::new(80);
    rig.write("file", 15, 80 * BLOCK_BYTES);
    let file = rig.open("file");
    if !rig.has_nowait() {
        return rig.disk.close(file);
    }
    let mut held = Vec::new();
    let mut next = 0;
    let mut by_turn = Vec::new();
    while next < BLOCKS {
        let before = next;
        while next < BLOCKS {
            match rig.disk.fetch(&file, next) {
                Fetch::Ready(block) => held.push(block),
                Fetch::NextTurn => break,
                other => panic!("{other:?}"),
            }
            next += 1;
        }
        by_turn.push(next - before);
        if next < BLOCKS {
            assert_eq!(rig.disk.prefetch(&file, next), Prefetch::Refused);
            assert!(rig.is_awake(Duration::ZERO), "the loop must not sleep");
            assert!(rig.disk.poll(), "who was put off is asked again");
        }
    }
    assert_eq!(by_turn, [32, 32, 16]);
    assert!(!rig.disk.poll() && !rig.is_awake(Duration::ZERO));
    for block in held {
        rig.disk.release(block);
    }
    rig.disk.close(file);
}
