//! Files that change while they are served: one version whole, or an error.

use std::fs::FileTimes;
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;

const SIZE: usize = 3 * BLOCK_BYTES + 10;

/// Both ways a block can be read.
fn rigs() -> [Rig; 2] {
    [Rig::new(8), Rig::by_helpers(8)]
}

#[test]
fn a_file_cut_short_fails_where_bytes_are_missing() {
    for mut rig in rigs() {
        let bytes = rig.write("file", 1, SIZE);
        let file = rig.open("file");
        assert_eq!(
            rig.read_block(&file, 0).as_deref(),
            Ok(&bytes[..BLOCK_BYTES])
        );
        let_the_clock_tick();
        let writer = fs::File::options().write(true).open(rig.path("file"));
        let writer = writer.expect("the file opens");
        writer.set_len(BLOCK_BYTES_U64 + 5).expect("it is cut");
        assert_eq!(rig.read_block(&file, 2), Err(ReadError::Shrunk));
        assert_eq!(rig.read_block(&file, 0), Err(ReadError::Shrunk), "for good");
        assert_eq!(rig.disk.counters().files_changed, 1);
        rig.disk.close(file);
    }
}

#[test]
fn a_file_cut_to_nothing_fails() {
    for mut rig in rigs() {
        rig.write("file", 2, SIZE);
        let file = rig.open("file");
        let_the_clock_tick();
        fs::File::create(rig.path("file")).expect("it is cut");
        assert_eq!(rig.read_block(&file, 0), Err(ReadError::Shrunk));
        rig.disk.close(file);
    }
}

#[test]
fn a_file_rewritten_in_place_gives_no_block_of_the_new_version() {
    for mut rig in rigs() {
        let bytes = rig.write("file", 3, SIZE);
        let file = rig.open("file");
        assert_eq!(
            rig.read_block(&file, 0).as_deref(),
            Ok(&bytes[..BLOCK_BYTES])
        );
        let_the_clock_tick();
        rig.write("file", 4, SIZE);
        assert_eq!(rig.read_block(&file, 1), Err(ReadError::Changed));
        assert_eq!(
            rig.read_block(&file, 0),
            Err(ReadError::Changed),
            "for good"
        );
        rig.disk.close(file);
    }
}

#[test]
fn a_cached_last_block_is_not_given_once_the_file_has_changed() {
    for mut rig in rigs() {
        rig.write("file", 5, SIZE);
        let file = rig.open("file");
        assert!(rig.read(&file).is_ok());
        let_the_clock_tick();
        let writer = fs::File::options().write(true).open(rig.path("file"));
        let writer = writer.expect("the file opens");
        writer.write_all_at(b"x", 0).expect("one byte is written");
        rig.disk.poll();
        assert_eq!(rig.read_block(&file, 3), Err(ReadError::Changed));
        rig.disk.close(file);
    }
}

#[test]
fn a_file_that_grew_is_another_version() {
    let mut rig = Rig::new(8);
    rig.write("file", 6, SIZE);
    let file = rig.open("file");
    let_the_clock_tick();
    let mut writer = fs::File::options()
        .append(true)
        .open(rig.path("file"))
        .expect("it opens");
    writer.write_all(b"more").expect("it grows");
    assert_eq!(rig.read_block(&file, 3), Err(ReadError::Changed));
    rig.disk.close(file);
}

#[test]
fn setting_the_mtime_back_does_not_hide_a_rewrite() {
    let mut rig = Rig::new(8);
    rig.write("file", 7, SIZE);
    let file = rig.open("file");
    let_the_clock_tick();
    let mtime = fs::metadata(rig.path("file"))
        .and_then(|meta| meta.modified())
        .expect("stat");
    let writer = fs::File::options()
        .write(true)
        .open(rig.path("file"))
        .expect("it opens");
    writer.write_all_at(b"changed", 0).expect("it is rewritten");
    writer
        .set_times(FileTimes::new().set_modified(mtime))
        .expect("the mtime is restored");
    assert_eq!(rig.read_block(&file, 0), Err(ReadError::Changed));
    rig.disk.close(file);
}

#[test]
fn a_file_replaced_by_rename_is_served_whole_as_it_was_and_anew_as_it_is() {
    for mut rig in rigs() {
        let old_bytes = rig.write("file", 8, SIZE);
        let old = rig.open("file");
        assert!(rig.read_block(&old, 0).is_ok());
        let_the_clock_tick();
        let new_bytes = rig.write("fresh", 9, SIZE);
        fs::rename(rig.path("fresh"), rig.path("file")).expect("it is replaced");
        let new = rig.open("file");
        assert_eq!(rig.read(&old), Ok(old_bytes));
        assert_eq!(rig.read(&new), Ok(new_bytes));
        rig.disk.close(old);
        rig.disk.close(new);
    }
}

#[test]
fn a_deleted_file_is_served_to_its_end() {
    for mut rig in rigs() {
        let bytes = rig.write("file", 10, SIZE);
        let file = rig.open("file");
        let_the_clock_tick();
        fs::remove_file(rig.path("file")).expect("it is deleted");
        assert_eq!(rig.read(&file), Ok(bytes));
        assert_eq!(rig.try_open("file"), Err(OpenError::NotFound));
        rig.disk.close(file);
    }
}

#[test]
fn a_read_that_a_rewrite_overtook_is_thrown_away() {
    let mut rig = Rig::by_helpers(8);
    rig.write("file", 11, SIZE);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    assert!(matches!(rig.disk.fetch(&file, 1), Fetch::Pending));
    let_the_clock_tick();
    rig.write("file", 12, SIZE);
    rig.disk.helpers.gate().set_closed(false);
    assert_eq!(rig.read_block(&file, 1), Err(ReadError::Changed));
    assert_eq!(rig.disk.ledger().cached, 0);
    rig.disk.close(file);
}

#[test]
fn an_open_after_a_rewrite_shares_nothing_with_the_version_before() {
    let mut rig = Rig::new(8);
    rig.write("file", 13, SIZE);
    let old = rig.open("file");
    assert!(rig.read(&old).is_ok());
    let_the_clock_tick();
    let bytes = rig.write("file", 14, SIZE);
    let new = rig.open("file");
    assert_eq!(rig.read(&new), Ok(bytes));
    assert_eq!(rig.read_block(&old, 3), Err(ReadError::Changed));
    rig.disk.close(old);
    rig.disk.close(new);
}
