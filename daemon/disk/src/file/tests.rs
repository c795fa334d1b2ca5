use std::fs::File;

use super::*;

const META: FileMeta = FileMeta {
    size: 3 * BLOCK_BYTES_U64 + 5,
    mtime_s: 1_000,
    mtime_ns: 1,
    ctime_s: 2_000,
    ctime_ns: 2,
    device: (8, 1),
    inode: 77,
    links: 1,
};

fn opened(meta: FileMeta, settled: bool) -> Opened {
    let file = File::open("/dev/null").expect("every system has it");
    Opened {
        fd: file.into(),
        meta,
        settled,
    }
}

fn inode(inode: u64) -> FileMeta {
    FileMeta { inode, ..META }
}

fn own(table: &mut FileTable, meta: FileMeta) -> FileHandle {
    match table.adopt(opened(meta, true)) {
        Adopted::Own(handle) => handle,
        Adopted::Shared(..) => panic!("nobody has that version open"),
        Adopted::Full(_) => panic!("there is a free slot"),
    }
}

#[test]
fn the_last_block_has_the_rest_and_blocks_behind_the_end_nothing() {
    assert_eq!(META.blocks(), 4);
    assert_eq!(META.block_len(0), BLOCK_BYTES);
    assert_eq!(META.block_len(3), 5);
    assert_eq!(META.block_len(4), 0);
    assert_eq!(META.block_len(u64::MAX), 0);
}

#[test]
fn any_field_that_differs_makes_another_version() {
    let changed = Drift::Changed(ReadError::Changed);
    #[rustfmt::skip]
    let table = [
        (META, Drift::Same),
        (FileMeta { size: META.size - 1, ..META }, Drift::Changed(ReadError::Shrunk)),
        (FileMeta { size: META.size + 1, ..META }, changed),
        (FileMeta { mtime_s: 1_001, ..META }, changed),
        (FileMeta { mtime_ns: 2, ..META }, changed),
        (FileMeta { ctime_s: 2_001, ..META }, changed),
        (FileMeta { ctime_ns: 3, ..META }, changed),
        (FileMeta { inode: 78, ..META }, changed),
        (FileMeta { device: (8, 2), ..META }, changed),
    ];
    for (now, expected) in table {
        assert_eq!(META.drift(&now), expected, "{now:?}");
    }
}

#[test]
fn a_new_ctime_is_no_change_of_content_if_the_number_of_names_explains_it() {
    let unlinked = FileMeta {
        links: 0,
        ctime_s: 2_001,
        ..META
    };
    assert_eq!(META.drift(&unlinked), Drift::Relinked);
    let and_written = FileMeta {
        mtime_s: 2_001,
        ..unlinked
    };
    assert_eq!(META.drift(&and_written), Drift::Changed(ReadError::Changed));
}

#[test]
fn two_opens_of_one_version_share_an_entry_and_give_one_descriptor_back() {
    let mut table = FileTable::new(2);
    let first = own(&mut table, META);
    let Adopted::Shared(second, _surplus) = table.adopt(opened(META, true)) else {
        panic!("the same version is open");
    };
    assert_eq!(table.open(), 1);
    assert!(table.close(first).is_none());
    assert!(table.close(second).is_some());
    assert_eq!(table.open(), 0);
}

#[test]
fn a_version_that_nobody_has_open_is_remembered_under_its_id() {
    let mut table = FileTable::new(2);
    let first = own(&mut table, META);
    let id = table.id(first.0);
    assert!(table.close(first).is_some());
    let again = own(&mut table, META);
    assert_eq!(table.id(again.0), id);
    assert!(table.close(again).is_some());
}

#[test]
fn another_version_of_the_same_file_gets_another_id() {
    let mut table = FileTable::new(2);
    let old = own(&mut table, META);
    let new = own(
        &mut table,
        FileMeta {
            ctime_s: 3_000,
            ..META
        },
    );
    assert_ne!(table.id(old.0), table.id(new.0));
}

#[test]
fn an_unsettled_version_is_forgotten_when_closed() {
    let mut table = FileTable::new(1);
    let Adopted::Own(first) = table.adopt(opened(META, false)) else {
        panic!("the table is empty");
    };
    let id = table.id(first.0);
    table.close(first);
    let again = own(&mut table, META);
    assert_ne!(table.id(again.0), id);
}

#[test]
fn an_unsettled_version_is_shared_while_open_but_only_until_an_open_finds_it_settled() {
    let mut table = FileTable::new(3);
    let Adopted::Own(_first) = table.adopt(opened(META, false)) else {
        panic!("the table is empty");
    };
    let Adopted::Shared(..) = table.adopt(opened(META, false)) else {
        panic!("the same version is open");
    };
    let settled = own(&mut table, META);
    let Adopted::Shared(joined, _) = table.adopt(opened(META, true)) else {
        panic!("the settled entry is open");
    };
    assert_eq!(joined, settled);
}

#[test]
fn a_full_table_refuses_and_forgets_the_longest_unused_version_first() {
    let mut table = FileTable::new(2);
    let one = own(&mut table, inode(1));
    let two = own(&mut table, inode(2));
    let ids = (table.id(one.0), table.id(two.0));
    assert!(matches!(
        table.adopt(opened(inode(3), true)),
        Adopted::Full(_)
    ));
    table.close(two);
    table.close(one);
    let three = own(&mut table, inode(3));
    let one = own(&mut table, inode(1));
    assert_eq!(table.id(one.0), ids.0, "closed last, still remembered");
    table.close(three);
    let two = own(&mut table, inode(2));
    assert_ne!(table.id(two.0), ids.1, "closed first, forgotten");
}

#[test]
fn a_read_in_flight_keeps_the_descriptor_of_a_closed_file() {
    let mut table = FileTable::new(1);
    let file = own(&mut table, META);
    let slot = file.0;
    let borrowed = table.begin_load(slot).expect("the file is open");
    assert!(table.close(file).is_none());
    assert!(rustix::io::fcntl_getfd(borrowed).is_ok());
    assert_eq!(table.open(), 1);
    assert!(table.end_load(slot).is_some());
    assert_eq!(table.open(), 0);
}

#[test]
fn a_condemned_entry_is_neither_shared_nor_remembered() {
    let mut table = FileTable::new(2);
    let old = own(&mut table, META);
    let grown = FileMeta {
        size: META.size + 1,
        ..META
    };
    assert_eq!(table.confirm(old.0, &grown), Err(ReadError::Changed));
    assert_eq!(table.broken(old.0), Some(ReadError::Changed));
    let fresh = own(&mut table, META);
    assert_eq!(table.broken(fresh.0), None);
    assert_eq!(table.changed(), 1);
}

#[test]
fn a_relinked_file_goes_on_for_its_present_users_only() {
    let mut table = FileTable::new(1);
    let old = own(&mut table, META);
    let unlinked = FileMeta {
        links: 0,
        ctime_s: 3_000,
        ..META
    };
    assert_eq!(table.confirm(old.0, &unlinked), Ok(()));
    assert_eq!(table.confirm(old.0, &unlinked), Ok(()));
    // The only slot is taken, so an open that does not share it finds no room.
    for meta in [META, unlinked] {
        assert!(matches!(table.adopt(opened(meta, true)), Adopted::Full(_)));
    }
    assert!(table.close(old).is_some());
    let fresh = own(&mut table, unlinked);
    assert!(table.close(fresh).is_some());
}
