//! How a block is read: it is cached, the page cache gives it, or a helper thread reads it.
//!
//! Whoever gets bytes gets those of the version that was opened. A block is compared with it when it was read, and the
//! last one once more in each turn that hands it out, so that an answer ends only if the file was the same all the time.

use rustix::io::Errno;

use super::Disk;
use crate::answer::{Fetch, Prefetch, ReadError};
use crate::block::BLOCK_BYTES_U64;
use crate::cache::{BlockKey, Lookup, Urgency};
use crate::file::FileMeta;
use crate::handle::{BlockRef, FileHandle};
use crate::reader::{NoWait, ReadJob, read_nowait};
use crate::root::{Freshness, stat};

/// How an attempt to fill a block ended.
enum Load {
    /// In the block given.
    Done(u32),
    Pending,
    /// As many reads are in flight as may be.
    Full,
    NoBlock,
    Failed(ReadError),
}

impl Disk {
    /// Asks for block number `block` of the file: bytes from `block` x [`BLOCK_BYTES`](crate::BLOCK_BYTES) on.
    ///
    /// The last block is ready only if the file is in this turn of the loop still the version that was opened; every
    /// other block, if it was when the block was read.
    pub fn fetch(&mut self, file: &FileHandle, block: u64) -> Fetch {
        let slot = file.0;
        if let Some(error) = self.files.broken(slot) {
            return Fetch::Failed(error);
        }
        let meta = self.files.meta(slot);
        if block >= meta.blocks() {
            return Fetch::Failed(ReadError::Shrunk);
        }
        let is_last = block + 1 == meta.blocks();
        let key = BlockKey {
            file: self.files.id(slot),
            block,
        };
        let load = match self.cache.lookup_near(&key, self.files.fetched(slot)) {
            Lookup::Ready(found) => self.take_found(slot, found, is_last),
            Lookup::Loading(found) => {
                self.cache.awaited(found);
                Load::Pending
            }
            Lookup::Failed(found, errno) => {
                self.cache.discard(found);
                Load::Failed(ReadError::Io(errno))
            }
            Lookup::Absent if self.budget.is_spent() => return self.put_off(),
            Lookup::Absent => self.load(slot, key, Urgency::Awaited),
        };
        match load {
            Load::Done(found) => {
                self.cache.pin(found);
                self.files.note_fetched(slot, found);
                Fetch::Ready(BlockRef(found))
            }
            // If the queue is full reads are in flight, so poll() will report a change and the caller will ask again.
            Load::Pending | Load::Full => Fetch::Pending,
            Load::NoBlock => self.no_block(),
            Load::Failed(error) => Fetch::Failed(error),
        }
    }

    /// Begins to read a block that will soon be fetched, if that takes nothing from anybody who waits now. Errors
    /// show when it is fetched.
    pub fn prefetch(&mut self, file: &FileHandle, block: u64) -> Prefetch {
        let slot = file.0;
        if self.files.broken(slot).is_some() || block >= self.files.meta(slot).blocks() {
            return Prefetch::Refused;
        }
        let key = BlockKey {
            file: self.files.id(slot),
            block,
        };
        match self.cache.lookup(&key) {
            Lookup::Ready(_) => Prefetch::Here,
            Lookup::Loading(_) => Prefetch::Coming,
            Lookup::Failed(..) => Prefetch::Refused,
            // Not even looked for in the page cache: what is read ahead must not take the loop's time from those who wait.
            Lookup::Absent
                if self.budget.is_spent_ahead() || !self.helpers.has_room(Urgency::Ahead) =>
            {
                Prefetch::Refused
            }
            Lookup::Absent => match self.load(slot, key, Urgency::Ahead) {
                Load::Done(_) => Prefetch::Here,
                Load::Pending => Prefetch::Coming,
                Load::Full | Load::NoBlock | Load::Failed(_) => Prefetch::Refused,
            },
        }
    }

    fn take_found(&mut self, slot: u32, found: u32, is_last: bool) -> Load {
        // One look at the file in a turn is enough: the block was compared when it was read, and so holds that version.
        let is_confirmed = self.files.confirmed(slot) == self.recent.turn();
        if is_last
            && !is_confirmed
            && let Err(error) = self.confirm_now(slot)
        {
            return Load::Failed(error);
        }
        self.counters.hits += 1;
        Load::Done(found)
    }

    /// Fills a block for an absent key: on this thread as far as the page cache goes, the rest on a helper.
    fn load(&mut self, slot: u32, key: BlockKey, urgency: Urgency) -> Load {
        let want = self.files.meta(slot).block_len(key.block);
        let offset = key.block * BLOCK_BYTES_U64;
        let Some(block) = self.cache.reserve(key, urgency) else {
            return Load::NoBlock;
        };
        let mut buffer = self.memory.lend(block);
        let limit = want.min(self.inline.bytes);
        let filled = match self.read_inline(slot, &mut buffer.bytes_mut()[..limit], offset) {
            Ok(filled) => filled,
            Err(errno) => {
                self.memory.take_back(buffer);
                self.cache.cancel(block);
                self.counters.read_errors += 1;
                return Load::Failed(ReadError::Io(errno));
            }
        };
        if filled == want {
            self.memory.take_back(buffer);
            return self.finish_inline(slot, block, want);
        }
        let has_room = self.helpers.has_room(urgency);
        let Some(fd) = has_room.then(|| self.files.begin_load(slot)).flatten() else {
            self.memory.take_back(buffer);
            self.cache.cancel(block);
            self.counters.queue_full += 1;
            return Load::Full;
        };
        self.counters.reads_helper += 1;
        self.helpers.read(ReadJob {
            fd,
            file: slot,
            buffer,
            offset,
            filled,
            filled_inline: filled,
            want,
        });
        Load::Pending
    }

    /// How many bytes the page cache gave; 0 if it has none or cannot be asked.
    fn read_inline(&mut self, slot: u32, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if into.is_empty() || !self.files.nowait(slot) {
            return Ok(0);
        }
        let Some(fd) = self.files.fd(slot) else {
            return Err(Errno::BADF);
        };
        self.budget.spend();
        match read_nowait(fd, into, offset) {
            Ok(filled) => {
                self.counters.bytes_inline += filled as u64;
                Ok(filled)
            }
            Err(NoWait::WouldBlock) => Ok(0),
            Err(NoWait::Unsupported) => {
                self.files.never_nowait(slot);
                Ok(0)
            }
            Err(NoWait::Failed(errno)) => Err(errno),
        }
    }

    fn finish_inline(&mut self, slot: u32, block: u32, want: usize) -> Load {
        self.counters.reads_inline += 1;
        if let Err(error) = self.confirm_now(slot) {
            self.cache.cancel(block);
            return Load::Failed(error);
        }
        self.cache.finish(block, valid_bytes(want));
        Load::Done(block)
    }

    /// Compares the file with the version that was opened, by what this machine knows without asking a server.
    fn confirm_now(&mut self, slot: u32) -> Result<(), ReadError> {
        let Some(fd) = self.files.fd(slot) else {
            return Err(ReadError::Io(Errno::BADF));
        };
        let (now, _) = stat(fd, Freshness::Cached).map_err(ReadError::Io)?;
        self.files.confirm(slot, &now)?;
        self.files.note_confirmed(slot, self.recent.turn());
        Ok(())
    }

    pub(super) fn settle_read(&mut self, job: ReadJob, result: Result<FileMeta, ReadError>) {
        let block = job.buffer.block();
        self.memory.take_back(job.buffer);
        self.counters.bytes_helper += (job.filled - job.filled_inline) as u64;
        match result.and_then(|now| self.files.confirm(job.file, &now)) {
            Ok(()) => self.cache.finish(block, valid_bytes(job.want)),
            Err(ReadError::Io(errno)) => {
                self.counters.read_errors += 1;
                self.cache.fail(block, errno);
            }
            Err(error) => {
                // The file's entry remembers why; the block is worth nothing.
                self.files.condemn(job.file, error);
                self.cache.cancel(block);
            }
        }
        let unneeded = self.files.end_load(job.file);
        self.close_fd(unneeded);
    }

    fn put_off(&mut self) -> Fetch {
        self.counters.put_off += 1;
        // The next turn is due at once, and the loop may be about to sleep.
        if self.budget.put_off() {
            self.helpers.signal_self();
        }
        Fetch::NextTurn
    }

    fn no_block(&mut self) -> Fetch {
        self.counters.no_block += 1;
        self.refusals.note_fetch();
        self.starve();
        Fetch::NoBlock
    }
}

/// A length within one block, as the cache keeps it.
fn valid_bytes(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(0)
}
