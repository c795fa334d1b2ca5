//! Single reads of a real file, with O_DIRECT where the temporary directory has it.

use std::fs::{self, File};
use std::os::fd::AsFd;

use rustix::fs::fcntl_getfl;
use tempfile::TempDir;

use super::*;
use crate::block::BlockMemory;

/// Where in the file the reads begin.
const OFFSET: usize = BLOCK_BYTES;

/// A file, and memory for one read of it.
struct Rig {
    _dir: TempDir,
    file: File,
    content: Vec<u8>,
    memory: BlockMemory,
    read: DirectRead,
}

impl Rig {
    /// A file of `size` bytes that is to be read from its second block on, as if it had `expected`.
    fn new(size: usize, expected: usize) -> Rig {
        let content: Vec<u8> = (0..=250).cycle().take(size).collect();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, &content).expect("the file is written");
        let file = File::open(&path).expect("the file opens");
        let memory = BlockMemory::anonymous(DIRECT_BLOCKS * BLOCK_BYTES).expect("map");
        if !admit(file.as_fd(), memory.alignment()) {
            eprintln!("the temporary directory has no direct reads: these are others");
        }
        let mut rig = Rig {
            _dir: dir,
            file,
            content,
            memory,
            read: DirectRead::default(),
        };
        rig.read.begin(OFFSET as u64);
        let mut left = expected - OFFSET;
        // Backwards, so that blocks which follow one another in the file do not in memory.
        for block in (0..8).rev() {
            if left > 0 {
                let bytes = left.min(BLOCK_BYTES);
                rig.read.push(rig.memory.lend(block), bytes);
                left -= bytes;
            }
        }
        rig
    }

    fn run(&mut self) -> Result<(), ReadError> {
        self.read.run(self.file.as_fd())
    }

    /// Whether the bytes that are said to be there are those of the file.
    fn is_right(&mut self) -> bool {
        let mut found = Vec::new();
        for mut buffer in self.read.take_buffers() {
            found.extend_from_slice(buffer.bytes_mut());
            self.memory.take_back(buffer);
        }
        let filled = self.read.filled();
        found[..filled] == self.content[OFFSET..][..filled]
    }

    fn is_direct(&self) -> bool {
        let flags = fcntl_getfl(&self.file).expect("an open file");
        flags.contains(OFlags::DIRECT)
    }
}

#[test]
fn blocks_of_every_length_are_filled_to_the_end_of_the_file() {
    for bytes in [
        1,
        511,
        512,
        4096,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
        3 * BLOCK_BYTES + 4097,
        DIRECT_BLOCKS * BLOCK_BYTES,
    ] {
        let mut rig = Rig::new(OFFSET + bytes, OFFSET + bytes);
        assert_eq!(rig.run(), Ok(()), "{bytes}");
        assert_eq!(rig.read.filled(), bytes);
        assert!(!rig.read.is_refused());
        assert!(rig.is_right(), "{bytes}");
    }
}

#[test]
fn nothing_behind_the_expected_end_counts() {
    let expected = OFFSET + BLOCK_BYTES + 100;
    let mut rig = Rig::new(expected + 5000, expected);
    assert_eq!(rig.run(), Ok(()));
    assert_eq!(rig.read.filled(), BLOCK_BYTES + 100);
    assert!(rig.is_right());
}

#[test]
fn a_file_that_is_shorter_than_expected_is_shrunk_wherever_it_ends() {
    for bytes in [
        0,
        1,
        100,
        4096,
        5000,
        BLOCK_BYTES,
        BLOCK_BYTES + 512,
        3 * BLOCK_BYTES - 1,
    ] {
        let mut rig = Rig::new(OFFSET + bytes, OFFSET + 3 * BLOCK_BYTES);
        assert_eq!(rig.run(), Err(ReadError::Shrunk), "{bytes}");
        assert!(rig.is_right());
    }
}

#[test]
fn a_file_system_that_refuses_is_read_through_the_page_cache() {
    for errno in [Errno::INVAL, Errno::OPNOTSUPP] {
        let mut rig = Rig::new(OFFSET + 3 * BLOCK_BYTES + 7, OFFSET + 3 * BLOCK_BYTES + 7);
        rig.read.answers = Some(errno);
        assert_eq!(rig.run(), Ok(()));
        assert!(rig.read.is_refused());
        assert!(!rig.is_direct());
        assert_eq!(rig.read.filled(), 3 * BLOCK_BYTES + 7);
        assert!(rig.is_right());
    }
}

#[test]
fn what_fails_as_a_whole_is_read_as_far_as_the_first_block() {
    let mut rig = Rig::new(OFFSET + 3 * BLOCK_BYTES, OFFSET + 3 * BLOCK_BYTES);
    rig.read.answers = Some(Errno::IO);
    assert_eq!(rig.run(), Ok(()));
    assert!(!rig.read.is_refused());
    assert_eq!(rig.read.filled(), BLOCK_BYTES);
    assert!(rig.is_right());
}

#[test]
fn a_bad_block_is_an_error() {
    let mut rig = Rig::new(OFFSET + BLOCK_BYTES, OFFSET + BLOCK_BYTES);
    rig.read.answers = Some(Errno::IO);
    assert_eq!(rig.run(), Err(ReadError::Io(Errno::IO)));
    assert_eq!(rig.read.filled(), 0);
    assert!(rig.is_right());
}

#[test]
fn a_signal_changes_nothing() {
    let mut rig = Rig::new(OFFSET + 2 * BLOCK_BYTES, OFFSET + 2 * BLOCK_BYTES);
    rig.read.answers = Some(Errno::INTR);
    assert_eq!(rig.run(), Ok(()));
    assert_eq!(rig.read.filled(), 2 * BLOCK_BYTES);
    assert!(rig.is_right());
}

#[test]
fn memory_and_blocks_must_fit_what_the_file_system_says() {
    for (memory, offset, alignment, expected) in [
        (512, 512, 4096, true),
        (4096, 4096, 4096, true),
        (4, 65_536, 65_536, true),
        (4096, 4096, 512, false),
        (512, 131_072, 4096, false),
        (0, 0, 65_536, false),
        (512, 0, 65_536, false),
    ] {
        assert_eq!(
            fits(memory, offset, alignment),
            expected,
            "{memory} {offset} {alignment}"
        );
    }
}
