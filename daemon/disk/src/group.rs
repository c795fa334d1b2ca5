//! Blocks that one read fills.
//!
//! Beside its bytes a read costs two system calls: preadv2(2), and the statx(2) behind it which shows that the file is
//! still the version that was opened. Blocks that follow one another share both. What a read finds is their first bytes
//! up to some byte: so all blocks before a certain one are whole, and all behind it are empty.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::{array, iter};

#[cfg(doc)]
use crate::Disk;
use crate::block::{BLOCK_BYTES, LoadBuffer};
use crate::reader::{NoWait, read_nowait};

/// Blocks of a group at most. It is what a response on kernel sockets asks for at a time, and half of what one on AF_XDP
/// does in a long turn; a quarter of the calls is left, 0.4 us per block. With eight it would be half of that, for twice
/// the blocks that a change of the file makes worthless.
pub(crate) const GROUP_BLOCKS: usize = 4;

/// What the caller of [`Disk::fetch_along`] will want behind the block it asks for. Ends that are not behind that block say
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Along {
    /// End of the blocks that it fetches next, in order and in this turn: the number of the first that it does not.
    pub wanted_until: u64,
    /// End of those that it will have read ahead then.
    pub ahead_until: u64,
}

impl Along {
    /// Nothing else.
    pub const NOTHING: Along = Along {
        wanted_until: 0,
        ahead_until: 0,
    };

    /// The end of all that may come along.
    pub(crate) fn until(&self) -> u64 {
        self.wanted_until.max(self.ahead_until)
    }
}

/// Blocks that follow one another in a file, on loan for one read.
pub(crate) struct Group {
    first: LoadBuffer,
    others: [Option<LoadBuffer>; GROUP_BLOCKS - 1],
    /// How many the others are.
    behind: usize,
    /// Of the file, in all of them.
    bytes: usize,
}

impl Group {
    /// A group of one block, of which the file has `bytes` bytes.
    pub(crate) fn of(first: LoadBuffer, bytes: usize) -> Group {
        Group {
            first,
            others: [const { None }; GROUP_BLOCKS - 1],
            behind: 0,
            bytes,
        }
    }

    /// Adds the next block of the file to a group that is not full. All before it have [`BLOCK_BYTES`].
    pub(crate) fn push(&mut self, buffer: LoadBuffer, bytes: usize) {
        self.others[self.behind] = Some(buffer);
        self.behind += 1;
        self.bytes += bytes;
    }

    /// How many bytes of the file they hold when all of them are whole.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads what the page cache holds from `offset` on, at most `limit` bytes. Returns how many it were, in the order of
    /// the file.
    pub(crate) fn read_nowait(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: u64,
        limit: usize,
    ) -> Result<usize, NoWait> {
        let mut slices: [_; GROUP_BLOCKS] = array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut left = self.bytes.min(limit);
        let buffers = iter::once(&mut self.first).chain(self.others.iter_mut().flatten());
        for (slice, buffer) in slices.iter_mut().zip(buffers) {
            let len = left.min(BLOCK_BYTES);
            *slice = IoSliceMut::new(&mut buffer.bytes_mut()[..len]);
            left -= len;
        }
        read_nowait(fd, &mut slices[..=self.behind], offset)
    }

    /// The first block, and those behind it in the order of the file.
    pub(crate) fn into_parts(self) -> (LoadBuffer, impl Iterator<Item = LoadBuffer>) {
        (self.first, self.others.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;
    use crate::block::BlockMemory;

    /// Reads a group of `blocks` blocks from the second block of a file of `size` bytes. Returns the blocks and what was
    /// expected in them; none where the file system has no RWF_NOWAIT.
    fn read(size: usize, blocks: u32, limit: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let content: Vec<u8> = (0..=250).cycle().take(size).collect();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, &content).expect("the file is written");
        let file = File::open(&path).expect("the file opens");
        let mut memory = BlockMemory::anonymous(GROUP_BLOCKS * BLOCK_BYTES).expect("map");
        let bytes_of = |block: u32| {
            let start = (block as usize + 1) * BLOCK_BYTES;
            size.saturating_sub(start).min(BLOCK_BYTES)
        };
        // Backwards, so that blocks which follow one another in the file do not in memory.
        let mut group = Group::of(memory.lend(3), bytes_of(0));
        for block in 1..blocks {
            group.push(memory.lend(3 - block), bytes_of(block));
        }
        let whole = group.bytes();
        let read = match group.read_nowait(file.as_fd(), BLOCK_BYTES as u64, limit) {
            Err(NoWait::Unsupported) => {
                eprintln!("the temporary directory has no RWF_NOWAIT: nothing is read");
                None
            }
            Err(_) => panic!("what was just written is in memory"),
            Ok(read) => Some(read),
        };
        let mut found = Vec::new();
        let (first, others) = group.into_parts();
        for mut buffer in iter::once(first).chain(others) {
            found.extend_from_slice(buffer.bytes_mut());
            memory.take_back(buffer);
        }
        let read = read?;
        assert_eq!(read, whole.min(limit));
        let mut expected = content[BLOCK_BYTES..][..read].to_vec();
        expected.resize(found.len(), 0);
        Some((found, expected))
    }

    #[test]
    fn blocks_are_filled_in_the_order_of_the_file() {
        for blocks in 1..=4 {
            if let Some((found, expected)) = read(6 * BLOCK_BYTES, blocks, usize::MAX) {
                assert!(found == expected, "{blocks} blocks");
            }
        }
    }

    #[test]
    fn a_limit_ends_a_read_in_the_middle_of_a_block() {
        for limit in [1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5000] {
            if let Some((found, expected)) = read(6 * BLOCK_BYTES, 4, limit) {
                assert!(found == expected, "{limit} bytes");
            }
        }
    }

    #[test]
    fn the_last_block_of_a_file_is_as_short_as_it_is() {
        if let Some((found, expected)) = read(3 * BLOCK_BYTES + 7, 3, usize::MAX) {
            assert!(found == expected);
        }
    }
}
