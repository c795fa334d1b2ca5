//! Blocks that are read together: what one by one would have given, for fewer calls.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

/// Fetches `blocks` in order and has `lead` more read ahead, as a connection does whose transport wants so much. Holds
/// what it got to the end; there it stops also where all memory is in use.
fn fill(
    rig: &mut Rig,
    file: &FileHandle,
    blocks: Range<u64>,
    lead: u64,
    is_grouped: bool,
) -> Vec<Result<Vec<u8>, ReadError>> {
    let along = match is_grouped {
        true => Along {
            wanted_until: blocks.end,
            ahead_until: blocks.end + lead,
        },
        false => Along::NOTHING,
    };
    let mut held = Vec::new();
    let mut answers = Vec::new();
    for block in blocks.clone() {
        match fetch_along(rig, file, block, along) {
            Some(Ok(block)) => {
                answers.push(Ok(rig.disk.bytes(&block).to_vec()));
                held.push(block);
            }
            Some(Err(error)) => answers.push(Err(error)),
            None => break,
        }
    }
    if held.len() as u64 == blocks.end - blocks.start {
        for block in blocks.end..blocks.end + lead {
            rig.disk.prefetch(file, block);
        }
    }
    for block in held {
        rig.disk.release(block);
    }
    answers
}

/// Fetches until the answer is final; none if there is no block.
fn fetch_along(
    rig: &mut Rig,
    file: &FileHandle,
    block: u64,
    along: Along,
) -> Option<Result<BlockRef, ReadError>> {
    loop {
        match rig.disk.fetch_along(file, block, along) {
            Fetch::Ready(block) => return Some(Ok(block)),
            Fetch::Failed(error) => return Some(Err(error)),
            Fetch::Pending | Fetch::NextTurn => rig.wait(),
            Fetch::NoBlock => return None,
        }
    }
}

/// A file of so many bytes whose first block was read, so that it is known to be in memory. None where nothing can be read
/// without waiting.
fn warm(rig: &mut Rig, seed: u8, size: usize) -> Option<(FileHandle, Vec<u8>)> {
    if !rig.has_nowait() {
        return None;
    }
    let bytes = rig.write("file", seed, size);
    let file = rig.open("file");
    assert!(rig.read_block(&file, 0).is_ok());
    rig.disk.poll();
    Some((file, bytes))
}

fn concat(answers: Vec<Result<Vec<u8>, ReadError>>) -> Vec<u8> {
    let bytes: Result<Vec<_>, _> = answers.into_iter().collect();
    bytes.expect("all are read").concat()
}

#[test]
fn what_a_flow_wants_of_a_file_in_memory_takes_a_quarter_of_the_calls() {
    let mut rig = Rig::new(64);
    let Some((file, bytes)) = warm(&mut rig, 1, 61 * BLOCK_BYTES) else {
        return;
    };
    let before = rig.disk.counters();
    let read = fill(&mut rig, &file, 0..61, 0, true);
    assert!(concat(read) == bytes);
    let after = rig.disk.counters();
    assert_eq!(after.reads_inline - before.reads_inline, 60);
    // Fifteen, if turns ended between groups: a turn tries 32 blocks.
    let calls = after.read_calls - before.read_calls;
    assert!((15..=16).contains(&calls), "{calls} calls");
    assert_eq!(after.version_checks - before.version_checks, calls);
    rig.disk.close(file);
}

#[test]
fn of_a_file_not_known_to_be_in_memory_one_block_is_tried() {
    let mut rig = Rig::new(8);
    rig.write("file", 2, 8 * BLOCK_BYTES);
    let file = rig.open("file");
    let along = Along {
        wanted_until: 8,
        ahead_until: 8,
    };
    let block = fetch_along(&mut rig, &file, 0, along);
    let ledger = rig.disk.ledger();
    assert_eq!((ledger.pinned, ledger.cached, ledger.loading), (1, 0, 0));
    rig.disk
        .release(block.expect("memory").expect("it is read"));
    rig.disk.close(file);
}

#[test]
fn a_read_that_ends_in_the_middle_keeps_the_whole_blocks_and_a_helper_reads_the_rest() {
    let mut rig = Rig::new(8);
    let Some((file, bytes)) = warm(&mut rig, 3, 8 * BLOCK_BYTES) else {
        return;
    };
    rig.disk.inline.bytes = 2 * BLOCK_BYTES + 5000;
    rig.disk.helpers.gate().set_closed(true);
    let along = Along {
        wanted_until: 8,
        ahead_until: 8,
    };
    let Fetch::Ready(first) = rig.disk.fetch_along(&file, 1, along) else {
        panic!("it is whole");
    };
    let ledger = rig.disk.ledger();
    assert_eq!((ledger.pinned, ledger.cached, ledger.loading), (1, 2, 1));
    assert_eq!(rig.disk.counters().reads_inline, 1 + 2);
    assert!(matches!(rig.disk.fetch(&file, 3), Fetch::Pending));
    rig.disk.helpers.gate().set_closed(false);
    rig.disk.release(first);
    assert!(concat(fill(&mut rig, &file, 0..8, 0, true)) == bytes);
    let counters = rig.disk.counters();
    assert_eq!(
        counters.bytes_inline + counters.bytes_helper,
        8 * BLOCK_BYTES_U64,
        "no byte was read twice"
    );
    rig.disk.close(file);
}

#[test]
fn a_read_that_ends_at_a_block_leaves_those_behind_it_as_they_were() {
    let mut rig = Rig::new(8);
    let Some((file, _)) = warm(&mut rig, 4, 8 * BLOCK_BYTES) else {
        return;
    };
    rig.disk.inline.bytes = 2 * BLOCK_BYTES;
    let along = Along {
        wanted_until: 8,
        ahead_until: 8,
    };
    let block = fetch_along(&mut rig, &file, 1, along);
    let ledger = rig.disk.ledger();
    assert_eq!((ledger.cached, ledger.loading, ledger.free), (2, 0, 5));
    rig.disk
        .release(block.expect("memory").expect("it is whole"));
    rig.disk.close(file);
}

#[test]
fn a_group_ends_with_the_file() {
    let mut rig = Rig::new(8);
    let Some((file, bytes)) = warm(&mut rig, 5, 2 * BLOCK_BYTES + 7) else {
        return;
    };
    let before = rig.disk.counters();
    let read = fill(&mut rig, &file, 1..3, 10, true);
    assert_eq!(concat(read), bytes[BLOCK_BYTES..]);
    let after = rig.disk.counters();
    assert_eq!(after.read_calls - before.read_calls, 1);
    assert_eq!(
        after.version_checks - before.version_checks,
        1,
        "the last block was looked at when it was read, in this turn"
    );
    rig.disk.close(file);
}

#[test]
fn what_is_there_is_not_read_again_and_ends_a_group() {
    let mut rig = Rig::new(8);
    let Some((file, bytes)) = warm(&mut rig, 6, 8 * BLOCK_BYTES) else {
        return;
    };
    assert!(rig.read_block(&file, 3).is_ok());
    let before = rig.disk.counters();
    assert!(concat(fill(&mut rig, &file, 0..8, 0, true)) == bytes);
    let after = rig.disk.counters();
    assert_eq!(after.bytes_inline, 8 * BLOCK_BYTES_U64);
    assert_eq!(after.read_calls - before.read_calls, 2, "1 to 2 and 4 to 7");
    rig.disk.close(file);
}

#[test]
fn what_was_read_along_serves_every_handle_of_the_version() {
    let mut rig = Rig::new(8);
    let Some((first, bytes)) = warm(&mut rig, 7, 5 * BLOCK_BYTES) else {
        return;
    };
    let second = rig.open("file");
    let along = Along {
        wanted_until: 5,
        ahead_until: 5,
    };
    let held = fetch_along(&mut rig, &first, 1, along);
    assert!(concat(fill(&mut rig, &second, 0..5, 0, true)) == bytes);
    assert_eq!(rig.disk.counters().reads_inline, 5);
    rig.disk.release(held.expect("memory").expect("it is read"));
    rig.disk.close(first);
    rig.disk.close(second);
}

#[test]
fn a_group_is_as_long_as_there_is_memory() {
    let mut rig = Rig::new(3);
    let Some((file, bytes)) = warm(&mut rig, 8, 8 * BLOCK_BYTES) else {
        return;
    };
    let held = rig.fetch(&file, 0);
    let read = fill(&mut rig, &file, 4..8, 0, true);
    assert!(concat(read) == bytes[4 * BLOCK_BYTES..6 * BLOCK_BYTES]);
    assert_eq!(rig.disk.counters().no_block, 1, "for the third");
    assert_eq!(rig.disk.bytes(&held), &bytes[..BLOCK_BYTES]);
    rig.disk.release(held);
    rig.disk.close(file);
}

#[test]
fn a_group_keeps_to_the_budget_of_the_turn() {
    let mut rig = Rig::new(64);
    let Some((file, _)) = warm(&mut rig, 9, 60 * BLOCK_BYTES) else {
        return;
    };
    // So that what is left is no number of whole groups.
    for block in 1..3 {
        assert!(rig.read_block(&file, block).is_ok());
    }
    let along = Along {
        wanted_until: 60,
        ahead_until: 60,
    };
    let mut held = Vec::new();
    let mut next = 0;
    while let Fetch::Ready(block) = rig.disk.fetch_along(&file, next, along) {
        held.push(block);
        next += 1;
    }
    assert_eq!(next, 1 + 32, "the first was there before");
    assert_eq!(rig.disk.ledger().cached, 0, "and no more is");
    rig.disk.poll();
    for block in held {
        rig.disk.release(block);
    }
    rig.disk.close(file);
}

#[test]
fn what_comes_along_for_later_leaves_half_of_the_turn_to_those_who_wait() {
    let mut rig = Rig::new(64);
    let Some((file, _)) = warm(&mut rig, 10, 60 * BLOCK_BYTES) else {
        return;
    };
    for block in 1..15 {
        assert!(rig.read_block(&file, block).is_ok());
    }
    let before = rig.disk.counters().reads_inline;
    let along = Along {
        wanted_until: 16,
        ahead_until: 60,
    };
    let block = fetch_along(&mut rig, &file, 15, along);
    let read = rig.disk.counters().reads_inline - before;
    assert_eq!(read, 2, "with the one asked for half of the turn's 32 are");
    rig.disk
        .release(block.expect("memory").expect("it is read"));
    rig.disk.close(file);
}

#[test]
fn nothing_of_a_group_is_kept_when_the_file_was_rewritten_before_it_was_read() {
    let mut rig = Rig::new(8);
    let Some((file, _)) = warm(&mut rig, 11, 8 * BLOCK_BYTES) else {
        return;
    };
    let_the_clock_tick();
    rig.write("file", 12, 8 * BLOCK_BYTES);
    let read = fill(&mut rig, &file, 1..4, 1, true);
    assert_eq!(read, vec![Err(ReadError::Changed); 3]);
    let ledger = rig.disk.ledger();
    assert_eq!((ledger.cached, ledger.free), (1, 7), "block 0 alone");
    rig.disk.close(file);
}

#[test]
fn nothing_of_a_group_is_kept_when_the_file_was_cut_in_its_middle() {
    let mut rig = Rig::new(8);
    let Some((file, _)) = warm(&mut rig, 13, 8 * BLOCK_BYTES) else {
        return;
    };
    let_the_clock_tick();
    let writer = fs::File::options().write(true).open(rig.path("file"));
    let writer = writer.expect("the file opens");
    writer.set_len(2 * BLOCK_BYTES_U64 + 5).expect("it is cut");
    let read = fill(&mut rig, &file, 1..5, 0, true);
    assert_eq!(read, vec![Err(ReadError::Shrunk); 4]);
    assert_eq!(rig.disk.counters().files_changed, 1);
    let ledger = rig.disk.ledger();
    assert_eq!((ledger.cached, ledger.free), (1, 7), "block 0 alone");
    rig.disk.close(file);
}

#[test]
fn what_came_along_before_a_change_is_the_old_version_and_the_end_is_not_given() {
    let mut rig = Rig::new(8);
    let Some((file, bytes)) = warm(&mut rig, 14, 4 * BLOCK_BYTES) else {
        return;
    };
    assert!(concat(fill(&mut rig, &file, 1..2, 2, true)) == bytes[BLOCK_BYTES..][..BLOCK_BYTES]);
    assert_eq!(rig.disk.ledger().cached, 4);
    let_the_clock_tick();
    let writer = fs::File::options().write(true).open(rig.path("file"));
    let writer = writer.expect("the file opens");
    writer.write_all_at(b"x", 0).expect("one byte is written");
    rig.disk.poll();
    let read = fill(&mut rig, &file, 2..4, 0, true);
    assert!(read[0].as_deref() == Ok(&bytes[2 * BLOCK_BYTES..3 * BLOCK_BYTES]));
    assert_eq!(read[1], Err(ReadError::Changed));
    rig.disk.close(file);
}

#[test]
fn a_helper_reads_block_by_block() {
    let mut rig = Rig::by_helpers(8);
    let bytes = rig.write("file", 15, 6 * BLOCK_BYTES);
    let file = rig.open("file");
    assert!(concat(fill(&mut rig, &file, 0..6, 0, true)) == bytes);
    assert_eq!(rig.disk.counters().reads_helper, 6);
    rig.disk.close(file);
}

/// What happens to a file, or what a connection wants of it.
#[derive(Clone, Copy, Debug)]
enum Op {
    Fill { from: u64, blocks: u64, lead: u64 },
    Rewrite(u8),
    Cut(usize),
    Append,
    Reopen,
    Poll,
}

/// The file changes with weight `change`, 16 being that of a fill.
fn op(change: u32) -> impl Strategy<Value = Op> {
    let fill = (0..14_u64, 1..10_u64, 0..4_u64);
    prop_oneof![
        16 => fill.prop_map(|(from, blocks, lead)| Op::Fill { from, blocks, lead }),
        change => any::<u8>().prop_map(Op::Rewrite),
        change => (0..12 * BLOCK_BYTES).prop_map(Op::Cut),
        change => Just(Op::Append),
        2 * change => Just(Op::Reopen),
        4 => Just(Op::Poll),
    ]
}

/// One of two disks, each over a file of its own.
struct Side {
    rig: Rig,
    file: FileHandle,
    is_grouped: bool,
}

impl Side {
    fn new(memory: usize, size: usize, is_grouped: bool) -> Side {
        let mut rig = Rig::new(memory);
        rig.write("file", 0, size);
        let file = rig.open("file");
        Side {
            rig,
            file,
            is_grouped,
        }
    }

    fn apply(&mut self, op: Op) -> Vec<Result<Vec<u8>, ReadError>> {
        let rig = &mut self.rig;
        let change = || {
            let writer = fs::File::options().write(true).open(rig.path("file"));
            let writer = writer.expect("the file opens");
            let size = writer.metadata().expect("stat").len();
            (writer, size)
        };
        match op {
            Op::Fill { from, blocks, lead } => {
                let blocks = from..from + blocks;
                return fill(rig, &self.file, blocks, lead, self.is_grouped);
            }
            Op::Rewrite(seed) => {
                let (_, size) = change();
                rig.write("file", seed, usize::try_from(size).expect("small"));
            }
            Op::Cut(at) => {
                let (writer, size) = change();
                writer.set_len(size.min(at as u64)).expect("it is cut");
            }
            Op::Append => {
                let (writer, size) = change();
                writer.write_all_at(b"more", size).expect("it grows");
            }
            // A version that is fine is not opened again: whether the new handle finds its blocks depends on its age.
            Op::Reopen if rig.disk.files.broken(self.file.0).is_some() => {
                let file = rig.open("file");
                rig.disk.close(std::mem::replace(&mut self.file, file));
            }
            Op::Reopen => {}
            Op::Poll => {
                rig.disk.poll();
            }
        }
        Vec::new()
    }

    fn end(mut self) -> DiskCounters {
        self.rig.disk.close(self.file);
        self.rig.disk.counters()
    }
}

/// Applies the same to a disk that reads in groups and to one that does not, and compares every answer.
fn compare(memory: usize, size: usize, ops: &[Op]) -> [DiskCounters; 2] {
    let mut sides = [true, false].map(|is_grouped| Side::new(memory, size, is_grouped));
    for (number, &op) in ops.iter().enumerate() {
        if matches!(op, Op::Rewrite(_) | Op::Cut(_) | Op::Append) {
            let_the_clock_tick();
        }
        let [grouped, single] = sides.each_mut().map(|side| side.apply(op));
        assert!(grouped == single, "operation {number}: {op:?}");
        for side in &sides {
            assert!(side.rig.disk.ledger().balanced());
        }
    }
    sides.map(Side::end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn groups_give_what_single_reads_give_and_read_and_evict_as_much(
        memory in 1_usize..20,
        size in 1..12 * BLOCK_BYTES,
        ops in prop::collection::vec(op(0), 1..60),
    ) {
        let [grouped, single] = compare(memory, size, &ops);
        if grouped.reads_helper + single.reads_helper == 0 {
            prop_assert!(grouped.read_calls <= single.read_calls);
            prop_assert_eq!(grouped.bytes_inline, single.bytes_inline);
            prop_assert_eq!(grouped.reads_inline, single.reads_inline);
            prop_assert_eq!(grouped.evictions, single.evictions);
            prop_assert_eq!(grouped.no_block, single.no_block);
        }
    }

    #[test]
    fn groups_of_a_file_that_changes_fail_where_single_reads_fail(
        size in 1..12 * BLOCK_BYTES,
        ops in prop::collection::vec(op(1), 1..40),
    ) {
        // More memory than all versions take: what is evicted earlier would be read later.
        compare(512, size, &ops);
    }
}
