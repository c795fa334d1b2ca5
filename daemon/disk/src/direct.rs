//! Reads past the page cache: O_DIRECT, from the disk into the blocks.
//!
//! For files from a configured size on (docs/decisions/010). Nothing is copied, and nothing is kept but in our blocks. A read
//! is of up to [`DIRECT_BLOCKS`] blocks that follow one another in the file, and always on a helper thread: it waits for the
//! disk, with RWF_NOWAIT as well.
//!
//! A read asks for whole blocks at offsets of whole blocks, behind the end of the file too. So it fits whatever alignment a
//! file system wants, and the kernel ends it where the file ends.
//!
//! The descriptor that is open is switched by F_SETFL: nobody else has it, a second one would count against the limit, and
//! it could only be opened by a name that may lead to another file by now. Where the file system takes no direct reads,
//! which it says at once ([`admit`]) or by EINVAL when it is to read, the descriptor is switched back, and who asked for
//! the blocks gets them through the page cache.

use std::array;
use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_setfl, statx};
use rustix::io::{Errno, preadv};

use crate::answer::ReadError;
use crate::block::{BLOCK_BYTES, LoadBuffer};
use crate::file::FileMeta;
use crate::root::{Freshness, stat};

/// Blocks of a read at most: 512 KiB, of which four threads read as much as the disk of decision 010 has.
pub(crate) const DIRECT_BLOCKS: usize = 8;

/// [`DIRECT_BLOCKS`] in the arithmetic of block numbers.
pub(crate) const DIRECT_BLOCKS_U64: u64 = 8;
const _: () = assert!(DIRECT_BLOCKS as u64 == DIRECT_BLOCKS_U64);

/// Where a read that was cut short is taken up again: at a multiple of this. A file system that wants a larger one says
/// EINVAL, and the rest is read through the page cache.
const RESUMED_AT: usize = 4096;

/// Has `fd` read past the page cache from now on, if its file system reads so into memory at multiples of `alignment`. Says
/// whether it does, as far as it says anything before it reads. Waits for nothing.
pub(crate) fn admit(fd: BorrowedFd<'_>, alignment: usize) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    // Linux 6.1, and not on every file system: who does not say is asked by F_SETFL, and then by the first read.
    if let Ok(stat) = statx(fd, c"", flags, StatxFlags::DIOALIGN)
        && stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0
        && !fits(stat.stx_dio_mem_align, stat.stx_dio_offset_align, alignment)
    {
        return false;
    }
    fcntl_setfl(fd, OFlags::NONBLOCK | OFlags::DIRECT).is_ok()
}

/// Whether whole blocks in memory at multiples of `alignment` can be read where statx(2) gives these two numbers; 0 is a
/// file that cannot be read so at all (encrypted, compressed, verified, with data in the journal).
fn fits(memory: u32, offset: u32, alignment: usize) -> bool {
    let multiple = |of: u32, number: usize| {
        usize::try_from(of).is_ok_and(|of| of > 0 && number.is_multiple_of(of))
    };
    multiple(memory, alignment) && multiple(offset, BLOCK_BYTES)
}

/// Through the page cache again.
fn turn_back(fd: BorrowedFd<'_>) {
    // If that fails the next read does, and says why.
    let _ = fcntl_setfl(fd, OFlags::NONBLOCK);
}

/// A read on its way to a helper thread or back.
#[derive(Debug)]
pub(crate) struct DirectJob {
    /// Borrowed from the file table by `begin_load`.
    pub(crate) fd: BorrowedFd<'static>,
    /// Slot of the file table.
    pub(crate) file: u32,
    pub(crate) read: Box<DirectRead>,
}

impl DirectJob {
    /// Reads. The answer is the file as it was after the last byte had been read.
    pub(crate) fn run(&mut self) -> Result<FileMeta, ReadError> {
        self.read.run(self.fd)?;
        let (now, _) = stat(self.fd, Freshness::Synced).map_err(ReadError::Io)?;
        Ok(now)
    }
}

/// Blocks that follow one another in a file, to be filled by one read. Made at the start and used again, so that handing one
/// over allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct DirectRead {
    /// Of the first block, in the file.
    offset: u64,
    buffers: [Option<LoadBuffer>; DIRECT_BLOCKS],
    blocks: usize,
    /// Bytes that the file has of them.
    want: usize,
    filled: usize,
    is_refused: bool,
    /// What the first system call answers.
    #[cfg(test)]
    pub(crate) answers: Option<Errno>,
}

impl DirectRead {
    /// Begins anew, without a block, at `offset` of a file.
    pub(crate) fn begin(&mut self, offset: u64) {
        *self = DirectRead {
            offset,
            ..DirectRead::default()
        };
    }

    /// Adds the next block of the file, which has `bytes` of it. All before it are whole, and fewer than [`DIRECT_BLOCKS`].
    pub(crate) fn push(&mut self, buffer: LoadBuffer, bytes: usize) {
        self.buffers[self.blocks] = Some(buffer);
        self.blocks += 1;
        self.want += bytes;
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Where it begins in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes were read, in the order of the file.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Whether the file system does not read so.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// The blocks, in the order of the file.
    pub(crate) fn take_buffers(&mut self) -> impl Iterator<Item = LoadBuffer> {
        self.buffers.iter_mut().filter_map(Option::take)
    }

    /// Fills the blocks; without an error at least the first of them.
    fn run(&mut self, fd: BorrowedFd<'_>) -> Result<(), ReadError> {
        let mut blocks = self.blocks;
        while self.filled < self.want.min(blocks * BLOCK_BYTES) {
            let from = self.filled / RESUMED_AT * RESUMED_AT;
            match self.call(fd, from, blocks) {
                Ok(read) if from + read > self.filled => {
                    self.filled = (from + read).min(self.want);
                }
                // The file ends here.
                Ok(_) => return Err(ReadError::Shrunk),
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) if !self.is_refused => {
                    turn_back(fd);
                    self.is_refused = true;
                }
                // What is whole can be had. Who wants more asks for it, and then the bad block is the first.
                Err(_) if self.filled >= BLOCK_BYTES => break,
                // A long read fails as a whole wherever the bad block is.
                Err(_) if blocks > 1 => blocks = 1,
                Err(errno) => return Err(ReadError::Io(errno)),
            }
        }
        Ok(())
    }

    /// Reads into the first `blocks` of them, `from` some byte on.
    fn call(&mut self, fd: BorrowedFd<'_>, from: usize, blocks: usize) -> Result<usize, Errno> {
        #[cfg(test)]
        if let Some(errno) = self.answers.take() {
            return Err(errno);
        }
        let mut slices: [_; DIRECT_BLOCKS] = array::from_fn(|_| IoSliceMut::new(&mut []));
        let first = from / BLOCK_BYTES;
        let mut skip = from % BLOCK_BYTES;
        let buffers = self.buffers[first..blocks].iter_mut().flatten();
        let mut count = 0;
        for (slice, buffer) in slices.iter_mut().zip(buffers) {
            *slice = IoSliceMut::new(&mut buffer.bytes_mut()[skip..]);
            skip = 0;
            count += 1;
        }
        preadv(fd, &mut slices[..count], self.offset + from as u64)
    }
}

/// The reads of a disk that are not on their way, and which files are read so.
pub(crate) struct DirectReads {
    above: Option<u64>,
    alignment: usize,
    #[expect(
        clippy::vec_box,
        reason = "a job carries the box to its thread and back"
    )]
    idle: Vec<Box<DirectRead>>,
    is_news: bool,
    /// What the first system call of every read answers.
    #[cfg(test)]
    pub(crate) answers: Option<Errno>,
}

impl DirectReads {
    /// For files of `above` bytes and more, none without a number; `reads` can be on their way at once, into memory at
    /// multiples of `alignment`.
    pub(crate) fn new(above: Option<u64>, reads: usize, alignment: usize) -> DirectReads {
        let reads = if above.is_some() { reads } else { 0 };
        DirectReads {
            above,
            alignment,
            idle: (0..reads).map(|_| Box::default()).collect(),
            is_news: false,
            #[cfg(test)]
            answers: None,
        }
    }

    /// Whether a file of `size` bytes is to be read so.
    pub(crate) fn wants(&self, size: u64) -> bool {
        self.above.is_some_and(|above| size >= above)
    }

    pub(crate) fn alignment(&self) -> usize {
        self.alignment
    }

    /// A read at `offset`, without a block. `None` if all are on their way.
    pub(crate) fn take(&mut self, offset: u64) -> Option<Box<DirectRead>> {
        let mut read = self.idle.pop()?;
        read.begin(offset);
        #[cfg(test)]
        {
            read.answers = self.answers;
        }
        Some(read)
    }

    /// Takes a read back, which has no blocks any more.
    pub(crate) fn give_back(&mut self, read: Box<DirectRead>) {
        self.idle.push(read);
    }

    /// A file that was to be read so cannot be.
    pub(crate) fn note_refused(&mut self) {
        self.is_news = true;
    }

    /// Whether there was one since this was asked last.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }
}

#[cfg(test)]
mod tests;
