//! Large files, which are read past the page cache: the same bytes, by reads of eight blocks on helper threads.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::*;
use crate::direct::DIRECT_BLOCKS;

/// Everything is large.
fn direct(blocks: usize) -> Rig {
    direct_above(blocks, 1)
}

fn direct_above(blocks: usize, size: usize) -> Rig {
    Rig::with(
        blocks,
        &DiskConfig {
            direct_above: Some(size as u64),
            ..SMALL
        },
    )
}

impl Rig {
    /// Whether files here are read directly, so that it can be asserted.
    fn has_direct(&mut self) -> bool {
        self.write("probe", 0, 1);
        let file = self.open("probe");
        let has = self.disk.blocks_of_read(&file) > 1;
        self.disk.close(file);
        if !has {
            eprintln!("the temporary directory has no direct reads: they are not asserted");
        }
        has
    }

    fn rewrite(&self, name: &str) {
        let writer = fs::File::options().write(true).open(self.path(name));
        let writer = writer.expect("the file opens");
        writer.write_all_at(b"x", 0).expect("one byte is written");
    }
}

/// What a connection wants that sees no end.
const ALL: Along = Along {
    wanted_until: 1 << 30,
    ahead_until: 1 << 30,
};

/// All of a file, each block with what may come along.
fn read_along(rig: &mut Rig, file: &FileHandle) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    for block in 0..rig.disk.meta(file).blocks() {
        let found = loop {
            match rig.disk.fetch_along(file, block, ALL) {
                Fetch::Ready(found) => break found,
                Fetch::Failed(error) => return Err(error),
                Fetch::Pending | Fetch::NextTurn => rig.wait(),
                Fetch::NoBlock => panic!("nothing is pinned"),
            }
        };
        bytes.extend_from_slice(rig.disk.bytes(&found));
        rig.disk.release(found);
    }
    Ok(bytes)
}

#[test]
fn files_of_every_length_are_read_to_their_end() {
    for size in [
        1,
        4095,
        4096,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
        8 * BLOCK_BYTES - 1,
        8 * BLOCK_BYTES,
        8 * BLOCK_BYTES + 513,
        19 * BLOCK_BYTES + 4096,
    ] {
        for blocks in [1, 3, 32] {
            let mut rig = direct(blocks);
            let bytes = rig.write("file", 1, size);
            rig.make_cold("file");
            let file = rig.open("file");
            assert!(read_along(&mut rig, &file).as_ref() == Ok(&bytes), "{size}");
            if rig.disk.blocks_of_read(&file) > 1 {
                let counters = rig.disk.counters();
                assert_eq!((counters.read_calls, counters.reads_inline), (0, 0));
                assert!(counters.bytes_direct >= size as u64);
                assert_eq!(counters.bytes_helper, counters.bytes_direct);
                let reads = size.div_ceil(DIRECT_BLOCKS * BLOCK_BYTES) as u64;
                assert!(counters.reads_direct >= reads);
                assert!(blocks < 32 || counters.reads_direct == reads, "{size}");
            }
            rig.disk.close(file);
        }
    }
}

#[test]
fn what_is_smaller_is_read_as_ever() {
    let mut rig = direct_above(8, BLOCK_BYTES + 1);
    let small = rig.write("small", 2, BLOCK_BYTES);
    let large = rig.write("large", 3, BLOCK_BYTES + 1);
    let file = rig.open("small");
    assert_eq!(rig.disk.blocks_of_read(&file), 1);
    assert_eq!(rig.read(&file), Ok(small));
    assert_eq!(rig.disk.counters().reads_direct, 0);
    rig.disk.close(file);
    let is_direct = rig.has_direct() || rig.disk.direct.alignment() < 4096;
    let file = rig.open("large");
    assert_eq!(rig.read(&file), Ok(large));
    assert!(!is_direct || rig.disk.counters().reads_direct > 0);
    rig.disk.close(file);
}

#[test]
fn the_page_cache_gets_nothing_of_it() {
    let mut rig = direct(16);
    if !rig.has_direct() || !rig.has_nowait() {
        return;
    }
    let is_cached = |rig: &Rig, name: &str| {
        let file = fs::File::open(rig.path(name)).expect("it opens");
        let mut byte = [0];
        let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
        read_nowait(file.as_fd(), &mut buffers, 3 * BLOCK_BYTES_U64).is_ok()
    };
    for name in ["twin", "file"] {
        rig.write(name, 4, 9 * BLOCK_BYTES);
        rig.make_cold(name);
    }
    if is_cached(&rig, "twin") {
        eprintln!("nothing is ever cold here");
        return;
    }
    let file = rig.open("file");
    assert!(read_along(&mut rig, &file).is_ok());
    assert!(!is_cached(&rig, "file"));
    rig.disk.close(file);
}

#[test]
fn eight_blocks_are_one_read_up_to_a_multiple_of_eight() {
    let mut rig = direct(64);
    if !rig.has_direct() {
        return;
    }
    let bytes = rig.write("file", 5, 20 * BLOCK_BYTES + 9);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    assert!(matches!(
        rig.disk.fetch_along(&file, 3, ALL),
        Fetch::Pending
    ));
    assert_eq!(rig.disk.ledger().loading, 5);
    assert!(matches!(
        rig.disk.fetch_along(&file, 5, ALL),
        Fetch::Pending
    ));
    let ahead = rig.disk.prefetch_along(&file, 8, ALL);
    assert_eq!(ahead, Prefetch::Coming { until: 16 });
    let ahead = rig.disk.prefetch_along(&file, 9, ALL);
    assert_eq!(ahead, Prefetch::Coming { until: 10 }, "it is on its way");
    let ahead = rig.disk.prefetch_along(&file, 16, ALL);
    assert_eq!(ahead, Prefetch::Coming { until: 21 }, "the end of the file");
    assert_eq!(rig.disk.prefetch(&file, 0), Prefetch::Coming { until: 1 });
    let counters = rig.disk.counters();
    assert_eq!((counters.reads_direct, counters.reads_helper), (4, 19));
    rig.disk.helpers.gate().set_closed(false);
    assert!(read_along(&mut rig, &file) == Ok(bytes));
    // Blocks 1 and 2.
    assert_eq!(rig.disk.counters().reads_direct, 5);
    rig.disk.close(file);
}

#[test]
fn a_file_rewritten_while_it_is_read_gives_nothing() {
    let mut rig = direct(16);
    rig.write("file", 6, 9 * BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    assert!(matches!(
        rig.disk.fetch_along(&file, 0, ALL),
        Fetch::Pending
    ));
    let_the_clock_tick();
    rig.rewrite("file");
    rig.disk.helpers.gate().set_closed(false);
    assert_eq!(read_along(&mut rig, &file), Err(ReadError::Changed));
    assert_eq!(rig.disk.ledger().cached, 0);
    let changed = rig.open("file");
    assert!(read_along(&mut rig, &changed).is_ok());
    assert_eq!(
        rig.read_block(&file, 8),
        Err(ReadError::Changed),
        "for good"
    );
    rig.disk.close(file);
    rig.disk.close(changed);
}

#[test]
fn what_was_just_written_is_what_is_read() {
    let mut rig = direct(16);
    for seed in 0..5 {
        let bytes = rig.write("file", seed, 8 * BLOCK_BYTES + 77);
        let file = rig.open("file");
        assert!(read_along(&mut rig, &file) == Ok(bytes), "dirty pages");
        rig.disk.close(file);
        let_the_clock_tick();
    }
}

#[test]
fn a_file_cut_short_fails_where_bytes_are_missing() {
    for left in [0, 100, 4096, BLOCK_BYTES + 5, 2 * BLOCK_BYTES] {
        let mut rig = direct(16);
        rig.write("file", 7, 9 * BLOCK_BYTES);
        let file = rig.open("file");
        let_the_clock_tick();
        let writer = fs::File::options().write(true).open(rig.path("file"));
        let writer = writer.expect("the file opens");
        writer.set_len(left as u64).expect("it is cut");
        assert_eq!(
            read_along(&mut rig, &file),
            Err(ReadError::Shrunk),
            "{left}"
        );
        assert_eq!(rig.disk.counters().files_changed, 1);
        rig.disk.close(file);
    }
}

#[test]
fn a_deleted_file_is_served_to_its_end() {
    let mut rig = direct(16);
    let bytes = rig.write("file", 8, 9 * BLOCK_BYTES + 1);
    let file = rig.open("file");
    let_the_clock_tick();
    fs::remove_file(rig.path("file")).expect("it is deleted");
    assert!(read_along(&mut rig, &file) == Ok(bytes));
    rig.disk.close(file);
}

#[test]
fn a_file_system_that_refuses_costs_the_client_nothing_and_counts_once() {
    for errno in [Errno::INVAL, Errno::OPNOTSUPP] {
        let mut rig = direct(64);
        if !rig.has_direct() {
            return;
        }
        rig.disk.direct.answers = Some(errno);
        let bytes = rig.write("file", 9, 20 * BLOCK_BYTES + 7);
        let file = rig.open("file");
        // Several at once, which all find out.
        rig.disk.helpers.gate().set_closed(true);
        for block in [0, 8, 16] {
            assert!(matches!(
                rig.disk.fetch_along(&file, block, ALL),
                Fetch::Pending
            ));
        }
        rig.disk.helpers.gate().set_closed(false);
        rig.poll_until("all are read", |rig| rig.disk.ledger().loading == 0);
        assert!(rig.disk.take_refused_direct());
        assert!(!rig.disk.take_refused_direct(), "told once");
        assert_eq!(rig.disk.blocks_of_read(&file), 1);
        assert!(read_along(&mut rig, &file).as_ref() == Ok(&bytes));
        rig.disk.close(file);
        // Remembered while the entry is; the last write is too young for that.
        let again = rig.open("file");
        assert!(read_along(&mut rig, &again) == Ok(bytes));
        rig.disk.close(again);
        let counters = rig.disk.counters();
        assert!(counters.direct_refused <= 2, "{counters:?}");
        assert_eq!(counters.read_errors, 0);
    }
}

#[test]
fn memory_that_does_not_fit_is_refused_before_anything_is_read() {
    let mut rig = direct(8);
    if !rig.has_direct() {
        return;
    }
    let given = vec![0_u8; 9 * BLOCK_BYTES].leak();
    let odd = 1 + usize::from(given.as_ptr() as usize % 2 == 1);
    let config = DiskConfig {
        threads: 2,
        files: 4,
        queue_depth: 8,
        direct_above: Some(1),
        uploads: UploadLimits::NONE,
    };
    rig.disk = Disk::new(&mut given[odd..], &config).expect("a disk");
    let bytes = rig.write("file", 10, 9 * BLOCK_BYTES + 7);
    rig.make_cold("file");
    let file = rig.open("file");
    assert!(read_along(&mut rig, &file) == Ok(bytes));
    let counters = rig.disk.counters();
    // Where the file system does not say what it wants, a read finds out, or none is needed.
    assert_eq!(counters.read_errors, 0);
    assert!(counters.direct_refused == 1 || counters.bytes_direct > 0);
    rig.disk.close(file);
}

#[test]
fn blocks_before_a_bad_one_are_served() {
    let mut rig = direct(16);
    if !rig.has_direct() {
        return;
    }
    let bytes = rig.write("file", 11, 9 * BLOCK_BYTES + 7);
    let file = rig.open("file");
    // Whatever is longer than a block fails; the last is alone.
    rig.disk.direct.answers = Some(Errno::IO);
    for block in 0..9 {
        assert!(matches!(
            rig.disk.fetch_along(&file, block, ALL),
            Fetch::Pending
        ));
        rig.wait();
        let found = if block == 7 {
            // Alone in its read, as it ends eight.
            rig.disk.direct.answers = None;
            assert_eq!(rig.try_fetch(&file, block), Err(ReadError::Io(Errno::IO)));
            let found = rig.fetch(&file, block);
            rig.disk.direct.answers = Some(Errno::IO);
            found
        } else {
            rig.fetch(&file, block)
        };
        let at = usize::try_from(block).expect("small") * BLOCK_BYTES;
        assert_eq!(rig.disk.bytes(&found), &bytes[at..at + BLOCK_BYTES]);
        rig.disk.release(found);
    }
    assert_eq!(rig.try_fetch(&file, 9), Err(ReadError::Io(Errno::IO)));
    rig.disk.direct.answers = None;
    assert_eq!(
        rig.read_block(&file, 9).as_deref(),
        Ok(&bytes[9 * BLOCK_BYTES..])
    );
    assert_eq!(rig.disk.counters().read_errors, 2);
    rig.disk.close(file);
}

#[test]
fn a_version_that_is_opened_again_is_read_directly_again() {
    let mut rig = direct(2);
    if !rig.has_direct() {
        return;
    }
    rig.write("file", 12, 5 * BLOCK_BYTES);
    for round in 1..4 {
        let file = rig.open("file");
        assert!(read_along(&mut rig, &file).is_ok());
        assert_eq!(rig.disk.counters().reads_inline, 0, "{round}");
        rig.disk.close(file);
    }
}

#[test]
fn dropping_a_disk_joins_its_helpers_with_direct_reads_outstanding() {
    let mut rig = direct(64);
    rig.write("file", 13, 64 * BLOCK_BYTES);
    let file = rig.open("file");
    rig.disk.helpers.gate().set_closed(true);
    for block in 0..7 {
        let _ = rig.disk.fetch_along(&file, 8 * block, ALL);
    }
    rig.disk.close(file);
    rig.disk.helpers.gate().set_closed(false);
    rig.drop_disk();
}
