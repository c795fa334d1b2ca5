//! One version of a file is read once, whoever asks.

use super::*;

#[test]
fn two_handles_of_one_version_read_each_block_once() {
    let mut rig = Rig::new(4);
    let bytes = rig.write("file", 1, 3 * BLOCK_BYTES);
    let first = rig.open("file");
    let second = rig.open("file");
    assert_eq!(rig.read(&first).as_ref(), Ok(&bytes));
    assert_eq!(rig.read(&second).as_ref(), Ok(&bytes));
    let counters = rig.disk.counters();
    assert_eq!(counters.opens_shared, 1);
    assert_eq!(counters.reads_inline + counters.reads_helper, 3);
    assert_eq!(counters.hits - counters.reads_helper, 3);
    assert_eq!(rig.disk.ledger().files_open, 1);
    rig.disk.close(first);
    assert_eq!(rig.disk.ledger().files_open, 1);
    rig.disk.close(second);
}

#[test]
fn a_block_that_is_being_read_is_not_read_twice() {
    let mut rig = Rig::by_helpers(4);
    let bytes = rig.write("file", 2, BLOCK_BYTES);
    let first = rig.open("file");
    let second = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    assert!(matches!(rig.disk.fetch(&first, 0), Fetch::Pending));
    assert!(matches!(rig.disk.fetch(&second, 0), Fetch::Pending));
    assert_eq!(rig.disk.ledger().loading, 1);
    rig.disk.helpers.gate().set_closed(false);
    let ours = rig.fetch(&first, 0);
    let theirs = rig.fetch(&second, 0);
    assert_eq!(ours, theirs);
    assert_eq!(rig.disk.bytes(&ours), bytes);
    assert_eq!(rig.disk.counters().reads_helper, 1);
    rig.disk.release(ours);
    assert_eq!(rig.disk.ledger().pinned, 1, "the other reference holds it");
    rig.disk.release(theirs);
    rig.disk.close(first);
    rig.disk.close(second);
}

#[test]
fn a_cloned_reference_holds_the_block_as_the_first_did() {
    let mut rig = Rig::new(1);
    let bytes = rig.write("file", 3, 500);
    let file = rig.open("file");
    let first = rig.fetch(&file, 0);
    let clone = rig.disk.clone_ref(&first);
    rig.disk.release(first);
    assert_eq!(rig.disk.ledger().pinned, 1);
    assert_eq!(rig.disk.bytes(&clone), bytes);
    rig.disk.release(clone);
    rig.disk.close(file);
}

#[test]
fn a_settled_file_finds_its_blocks_again_after_everybody_closed_it() {
    let mut rig = Rig::new(2);
    let bytes = rig.write("file", 4, 2 * BLOCK_BYTES);
    let start = Instant::now();
    loop {
        let before = rig.disk.counters();
        let file = rig.open("file");
        assert_eq!(rig.read(&file).as_ref(), Ok(&bytes));
        rig.disk.close(file);
        rig.disk.end_turn(false);
        assert_eq!(rig.disk.ledger().files_open, 0);
        let after = rig.disk.counters();
        let reads = |of: &DiskCounters| of.reads_inline + of.reads_helper;
        if reads(&after) == reads(&before) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the file never settles");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_file_slot_that_was_only_remembered_is_given_to_another_file() {
    let mut rig = Rig::new(8);
    for round in 0..3 {
        for number in 0..6 {
            let bytes = rig.write(&format!("{number}"), round * 8 + number, 700);
            let file = rig.open(&format!("{number}"));
            assert_eq!(rig.read(&file), Ok(bytes));
            rig.disk.close(file);
        }
        let_the_clock_tick();
    }
}

#[test]
fn files_of_one_content_but_two_inodes_are_two_files() {
    let mut rig = Rig::new(4);
    rig.write("one", 5, 100);
    rig.write("two", 5, 100);
    let one = rig.open("one");
    let two = rig.open("two");
    assert_eq!(rig.disk.ledger().files_open, 2);
    assert_eq!(rig.disk.counters().opens_shared, 0);
    rig.disk.close(one);
    rig.disk.close(two);
}
