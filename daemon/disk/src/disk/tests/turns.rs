//! What one look at the file system in a turn of the loop is good for, and for how long.

use super::*;

/// Has `name` open from a turn before this one.
fn opened_before(rig: &mut Rig, name: &str) -> FileHandle {
    let file = rig.open(name);
    let again = rig.try_open_now(name).expect("it is open");
    rig.disk.close(again);
    rig.disk.poll();
    file
}

#[test]
fn requests_of_one_turn_open_a_file_once() {
    let mut rig = Rig::new(2);
    let bytes = rig.write("file", 1, 1000);
    for turn in 1..4 {
        rig.disk.poll();
        let first = rig.open("file");
        let others = [(); 9].map(|()| rig.try_open_now("file").expect("it is open"));
        let counters = rig.disk.counters();
        assert_eq!(counters.opens_inline, turn);
        assert_eq!(counters.opens_recent, 9 * turn);
        assert_eq!(rig.read(&first).as_ref(), Ok(&bytes));
        for file in others {
            assert_eq!(rig.read(&file).as_ref(), Ok(&bytes));
            rig.disk.close(file);
        }
        rig.disk.close(first);
    }
}

#[test]
fn a_file_stays_open_for_others_to_the_end_of_the_turn_and_no_longer() {
    let mut rig = Rig::new(1);
    rig.write("file", 2, 10);
    for turn in 1..4 {
        for _ in 0..3 {
            let file = rig.try_open_now("file").expect("it opens");
            rig.disk.close(file);
        }
        let counters = rig.disk.counters();
        assert_eq!(
            (counters.opens_inline, counters.opens_recent),
            (turn, 2 * turn)
        );
        assert_eq!(rig.disk.ledger().files_open, 1);
        rig.disk.end_turn(false);
        assert_eq!(rig.disk.ledger().files_open, 0);
    }
}

#[test]
fn what_is_open_for_nobody_in_particular_gives_way_to_another_file() {
    let mut rig = Rig::new(1);
    for number in 0..6 {
        rig.write(&number.to_string(), number, 10);
    }
    // There are 4 slots for files.
    for number in 0..6 {
        let file = rig
            .try_open_now(&number.to_string())
            .expect("there is room");
        rig.disk.close(file);
    }
    let held: Vec<FileHandle> = (0..4)
        .map(|number| {
            rig.try_open_now(&number.to_string())
                .expect("there is room")
        })
        .collect();
    assert_eq!(rig.try_open_now("4"), Err(OpenError::TooManyFiles));
    for file in held {
        rig.disk.close(file);
    }
}

#[test]
fn a_file_replaced_by_rename_is_the_new_one_from_the_next_turn_on() {
    let mut rig = Rig::new(4);
    let old_bytes = rig.write("file", 3, 1000);
    let old = opened_before(&mut rig, "file");
    let new_bytes = rig.write("fresh", 4, 1000);
    fs::rename(rig.path("fresh"), rig.path("file")).expect("it is replaced");
    let new = rig.try_open_now("file").expect("the new one opens");
    assert_eq!(rig.read(&new), Ok(new_bytes));
    assert_eq!(rig.read(&old), Ok(old_bytes));
    rig.disk.close(old);
    rig.disk.close(new);
}

#[test]
fn a_deleted_file_is_gone_from_the_next_turn_on() {
    let mut rig = Rig::new(1);
    rig.write("file", 5, 10);
    let file = opened_before(&mut rig, "file");
    fs::remove_file(rig.path("file")).expect("it is deleted");
    assert_eq!(rig.try_open_now("file"), Err(OpenError::NotFound));
    rig.disk.close(file);
}

#[test]
fn a_file_whose_directory_was_renamed_is_gone_from_the_next_turn_on() {
    let mut rig = Rig::new(1);
    fs::create_dir(rig.path("sub")).expect("a directory");
    rig.write("sub/file", 6, 10);
    let file = opened_before(&mut rig, "sub/file");
    fs::rename(rig.path("sub"), rig.path("other")).expect("it is renamed");
    assert_eq!(rig.try_open_now("sub/file"), Err(OpenError::NotFound));
    rig.disk.close(file);
}

#[test]
fn a_link_put_in_the_way_of_an_open_file_is_refused_from_the_next_turn_on() {
    let mut rig = Rig::new(1);
    fs::create_dir(rig.path("sub")).expect("a directory");
    rig.write("sub/file", 7, 10);
    let file = opened_before(&mut rig, "sub/file");
    fs::rename(rig.path("sub"), rig.path("other")).expect("it is renamed");
    // It leads to the very file that is open.
    std::os::unix::fs::symlink("other", rig.path("sub")).expect("a link");
    assert_eq!(rig.try_open_now("sub/file"), Err(OpenError::Denied));
    rig.disk.close(file);
}

#[test]
fn a_rewritten_file_is_another_version_from_the_next_turn_on() {
    let mut rig = Rig::new(4);
    rig.write("file", 8, 1000);
    let old = opened_before(&mut rig, "file");
    let_the_clock_tick();
    let bytes = rig.write("file", 9, 1000);
    let new = rig.try_open_now("file").expect("it opens");
    assert_eq!(rig.read(&new), Ok(bytes));
    assert_eq!(rig.read_block(&old, 0), Err(ReadError::Changed));
    rig.disk.close(old);
    rig.disk.close(new);
}

#[test]
fn a_cached_last_block_is_compared_once_in_a_turn() {
    let mut rig = Rig::new(2);
    let bytes = rig.write("file", 10, 1000);
    let file = rig.open("file");
    assert_eq!(rig.read(&file).as_ref(), Ok(&bytes));
    rig.disk.poll();
    assert_eq!(rig.read(&file).as_ref(), Ok(&bytes));
    let_the_clock_tick();
    rig.write("file", 11, 1000);
    assert_eq!(
        rig.read(&file).as_ref(),
        Ok(&bytes),
        "as it was in this turn"
    );
    rig.disk.poll();
    assert_eq!(rig.read_block(&file, 0), Err(ReadError::Changed));
    rig.disk.close(file);
}

#[test]
fn a_block_read_after_a_rewrite_in_the_same_turn_does_not_continue_the_old_version() {
    let mut rig = Rig::new(4);
    let bytes = rig.write("file", 12, 2 * BLOCK_BYTES);
    let file = rig.open("file");
    let first = rig.read_block(&file, 0);
    assert_eq!(first.as_deref(), Ok(&bytes[..BLOCK_BYTES]));
    let_the_clock_tick();
    rig.write("file", 13, 2 * BLOCK_BYTES);
    assert_eq!(rig.read_block(&file, 1), Err(ReadError::Changed));
    let again = rig.try_open_now("file").expect("it opens");
    assert_ne!(again, file, "a version that broke is not joined");
    rig.disk.close(again);
    rig.disk.close(file);
}
