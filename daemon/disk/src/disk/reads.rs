//! How a block is read: it is cached, the page cache gives it, or a helper thread reads it.
//!
//! Whoever gets bytes gets those of the version that was opened. A block is compared with it when it was read, and the
//! last one once more in each turn that hands it out, so that an answer ends only if the file was the same all the time.

use rustix::io::Errno;

use super::Disk;
use crate::answer::{Fetch, Prefetch, ReadError};
use crate::block::{BLOCK_BYTES, BLOCK_BYTES_U64, LoadBuffer};
use crate::cache::{BlockKey, Lookup, Urgency};
use crate::file::{FileMeta, Way};
use crate::group::{Along, GROUP_BLOCKS, Group};
use crate::handle::{BlockRef, FileHandle};
use crate::reader::{NoWait, ReadJob};
use crate::root::{Freshness, stat};

/// How an attempt to fill a block ended.
pub(super) enum Load {
    /// In the block given.
    Done(u32),
    /// A helper reads it, and with it what is before block `until`.
    Pending {
        until: u64,
    },
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
        self.fetch_along(file, block, Along::NOTHING)
    }

    /// The same, for a caller that wants the blocks behind it too. Of a file that is in the page cache up to three of
    /// them are read with it by one preadv2(2) and looked at by one statx(2), unless they are there. They are found when they
    /// are fetched, as if they had been read ahead. Of a file that is read past the page cache up to seven are read with it by
    /// a helper thread.
    pub fn fetch_along(&mut self, file: &FileHandle, block: u64, along: Along) -> Fetch {
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
                Load::Pending { until: block + 1 }
            }
            Lookup::Failed(found, errno) => {
                self.cache.discard(found);
                Load::Failed(ReadError::Io(errno))
            }
            Lookup::Absent if self.budget.is_spent() => return self.put_off(),
            Lookup::Absent if self.files.way(slot) == Way::Direct => {
                self.load_direct(slot, key, Urgency::Awaited, along)
            }
            Lookup::Absent => self.load(slot, key, Urgency::Awaited, along),
        };
        match load {
            Load::Done(found) => {
                self.cache.pin(found);
                self.files.note_fetched(slot, found);
                Fetch::Ready(BlockRef(found))
            }
            // If the queue is full reads are in flight, so poll() will report a change and the caller will ask again.
            Load::Pending { .. } | Load::Full => Fetch::Pending,
            Load::NoBlock => self.no_block(),
            Load::Failed(error) => Fetch::Failed(error),
        }
    }

    /// Begins to read a block that will soon be fetched, if that takes nothing from anybody who waits now. Errors
    /// show when it is fetched.
    pub fn prefetch(&mut self, file: &FileHandle, block: u64) -> Prefetch {
        self.prefetch_along(file, block, Along::NOTHING)
    }

    /// The same for a caller that wants the blocks behind it too. They come with it where the file is read past the page cache.
    pub fn prefetch_along(&mut self, file: &FileHandle, block: u64, along: Along) -> Prefetch {
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
            Lookup::Loading(_) => Prefetch::Coming { until: block + 1 },
            Lookup::Failed(..) => Prefetch::Refused,
            // Not even looked for in the page cache: what is read ahead must not take the loop's time from those who wait.
            Lookup::Absent if !self.may_read_ahead() => Prefetch::Refused,
            Lookup::Absent => match self.load_ahead(slot, key, along) {
                Load::Done(_) => Prefetch::Here,
                Load::Pending { until } => Prefetch::Coming { until },
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

    fn load_ahead(&mut self, slot: u32, key: BlockKey, along: Along) -> Load {
        match self.files.way(slot) {
            Way::Direct => self.load_direct(slot, key, Urgency::Ahead, along),
            // Block by block, as the transport takes them: to copy is the loop's work.
            Way::Cached | Way::Refused => self.load(slot, key, Urgency::Ahead, Along::NOTHING),
        }
    }

    /// Fills a block for an absent key, and with it what may come along: on this thread as far as the page cache goes, the
    /// rest of the block on a helper.
    fn load(&mut self, slot: u32, key: BlockKey, urgency: Urgency, along: Along) -> Load {
        let Some(block) = self.cache.reserve(key, urgency) else {
            return Load::NoBlock;
        };
        let bytes = self.files.meta(slot).block_len(key.block);
        let mut group = Group::of(self.memory.lend(block), bytes);
        let mut filled = 0;
        if self.inline.bytes > 0 && self.files.nowait(slot) {
            self.budget.spend();
            self.take_along(slot, key, along, &mut group);
            match self.read_inline(slot, key.block, &mut group) {
                Ok(found) => filled = found,
                Err(errno) => {
                    self.forget(group);
                    self.counters.read_errors += 1;
                    return Load::Failed(ReadError::Io(errno));
                }
            }
        }
        // One look at the file behind the read is one behind the bytes of every block.
        if filled >= bytes
            && let Err(error) = self.confirm_now(slot)
        {
            self.forget(group);
            return Load::Failed(error);
        }
        self.keep(slot, key.block, urgency, group, filled)
    }

    /// Adds blocks behind the first one to a group: those that are absent up to one that is not, and that would be asked for
    /// one by one next, as far as the budget goes. So a group takes from nobody what single reads would have left.
    fn take_along(&mut self, slot: u32, first: BlockKey, along: Along, group: &mut Group) {
        // What is cold goes to the helpers block by block, and the kernel reads ahead of it as it sees fit.
        if !self.files.is_warm(slot) {
            return;
        }
        let end = along.until().min(self.files.meta(slot).blocks());
        for block in (first.block + 1..end).take(GROUP_BLOCKS - 1) {
            let key = BlockKey { block, ..first };
            let may = if block < along.wanted_until {
                !self.budget.is_spent()
            } else {
                self.may_read_ahead()
            };
            if !may || self.cache.lookup(&key) != Lookup::Absent {
                return;
            }
            let Some(found) = self.cache.reserve(key, Urgency::Ahead) else {
                return;
            };
            self.budget.spend();
            let bytes = self.files.meta(slot).block_len(block);
            group.push(self.memory.lend(found), bytes);
        }
    }

    /// How many bytes the page cache gave; 0 if it has none or cannot be asked.
    fn read_inline(&mut self, slot: u32, first: u64, group: &mut Group) -> Result<usize, Errno> {
        let Some(fd) = self.files.fd(slot) else {
            return Err(Errno::BADF);
        };
        self.counters.read_calls += 1;
        let offset = first * BLOCK_BYTES_U64;
        let filled = match group.read_nowait(fd, offset, self.inline.bytes) {
            Ok(filled) => filled,
            Err(NoWait::WouldBlock) => 0,
            Err(NoWait::Unsupported) => {
                self.files.never_nowait(slot);
                0
            }
            Err(NoWait::Failed(errno)) => return Err(errno),
        };
        self.files.note_warm(slot, filled == group.bytes());
        self.counters.bytes_inline += filled as u64;
        Ok(filled)
    }

    /// After a read of `filled` bytes: keeps the blocks that are whole, and gives the rest of the next one to a helper. Those
    /// behind it are empty; whoever wants them asks for them. Returns how it went with the first.
    fn keep(
        &mut self,
        slot: u32,
        first: u64,
        urgency: Urgency,
        group: Group,
        mut filled: usize,
    ) -> Load {
        let (buffer, others) = group.into_parts();
        let load = self.keep_one(slot, first, urgency, buffer, filled);
        for (number, buffer) in (first + 1..).zip(others) {
            filled = filled.saturating_sub(BLOCK_BYTES);
            if filled > 0 {
                self.keep_one(slot, number, Urgency::Ahead, buffer, filled);
            } else {
                self.cancel(buffer);
            }
        }
        load
    }

    fn keep_one(
        &mut self,
        slot: u32,
        number: u64,
        urgency: Urgency,
        buffer: LoadBuffer,
        filled: usize,
    ) -> Load {
        let want = self.files.meta(slot).block_len(number);
        if filled < want {
            return self.leave_to_helper(slot, number, urgency, buffer, filled);
        }
        let block = buffer.block();
        self.memory.take_back(buffer);
        self.cache.finish(block, valid_bytes(want));
        self.counters.reads_inline += 1;
        Load::Done(block)
    }

    /// Has a helper read what is missing of a block behind its first `filled` bytes.
    fn leave_to_helper(
        &mut self,
        slot: u32,
        number: u64,
        urgency: Urgency,
        buffer: LoadBuffer,
        filled: usize,
    ) -> Load {
        let has_room = self.helpers.has_room(urgency);
        let Some(fd) = has_room.then(|| self.files.begin_load(slot)).flatten() else {
            self.cancel(buffer);
            self.counters.queue_full += 1;
            return Load::Full;
        };
        self.counters.reads_helper += 1;
        self.helpers.read(ReadJob {
            fd,
            file: slot,
            buffer,
            offset: number * BLOCK_BYTES_U64,
            filled,
            filled_inline: filled,
            want: self.files.meta(slot).block_len(number),
        });
        Load::Pending { until: number + 1 }
    }

    /// Gives the blocks of a group back as if nobody had asked for them.
    fn forget(&mut self, group: Group) {
        let (first, others) = group.into_parts();
        self.cancel(first);
        others.for_each(|buffer| self.cancel(buffer));
    }

    fn cancel(&mut self, buffer: LoadBuffer) {
        let block = buffer.block();
        self.memory.take_back(buffer);
        self.cache.cancel(block);
    }

    /// Whether there is time and room for what nobody waits for.
    fn may_read_ahead(&self) -> bool {
        !self.budget.is_spent_ahead() && self.helpers.has_room(Urgency::Ahead)
    }

    /// Compares the file with the version that was opened, by what this machine knows without asking a server.
    fn confirm_now(&mut self, slot: u32) -> Result<(), ReadError> {
        let Some(fd) = self.files.fd(slot) else {
            return Err(ReadError::Io(Errno::BADF));
        };
        self.counters.version_checks += 1;
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
pub(super) fn valid_bytes(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(0)
}
