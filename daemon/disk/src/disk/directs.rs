//! How blocks of a large file are read past the page cache: which files, how many blocks at a time, what comes of it.
//!
//! The loop only hands over. What a read is, and what becomes of a file that cannot be read so, is in
//! [`direct`](crate::direct).

use super::Disk;
use super::reads::{Load, valid_bytes};
use crate::answer::ReadError;
use crate::block::{BLOCK_BYTES, BLOCK_BYTES_U64};
use crate::cache::{BlockKey, Lookup, Urgency};
use crate::direct::{DIRECT_BLOCKS_U64, DirectJob, admit};
use crate::file::{FileMeta, Way};
use crate::group::Along;
use crate::handle::FileHandle;

impl Disk {
    /// How many blocks one read of this file takes at best. Who reads ahead does so in whole multiples of it, counted
    /// from the begin of the file.
    #[must_use]
    pub fn blocks_of_read(&self, file: &FileHandle) -> u64 {
        match self.files.way(file.0) {
            Way::Direct => DIRECT_BLOCKS_U64,
            Way::Cached | Way::Refused => 1,
        }
    }

    /// Whether since this was asked last a file was found that is large enough for direct reads and whose file system takes
    /// none. It is read through the page cache.
    pub fn take_refused_direct(&mut self) -> bool {
        self.direct.take_news()
    }

    /// Chooses how the file in `slot`, which was just opened, is read. Two system calls for a file that is large enough,
    /// none for others.
    pub(super) fn choose_way(&mut self, slot: u32) {
        let is_refused = self.files.way(slot) == Way::Refused;
        if is_refused || !self.direct.wants(self.files.meta(slot).size) {
            return;
        }
        let alignment = self.direct.alignment();
        if self.files.fd(slot).is_some_and(|fd| admit(fd, alignment)) {
            self.files.set_way(slot, Way::Direct);
        } else {
            self.refuse_direct(slot);
        }
    }

    /// Hands a read of a block to a helper, and with it of those that may come along up to the next multiple of
    /// [`DIRECT_BLOCKS_U64`]: so that reads of neighbours do not leave single blocks between them.
    pub(super) fn load_direct(
        &mut self,
        slot: u32,
        first: BlockKey,
        urgency: Urgency,
        along: Along,
    ) -> Load {
        if !self.helpers.has_room(urgency) {
            self.counters.queue_full += 1;
            return Load::Full;
        }
        let Some(block) = self.cache.reserve(first, urgency) else {
            return Load::NoBlock;
        };
        // There is one for each read that may be under way, and whoever asks has the file open.
        let read = self.direct.take(first.block * BLOCK_BYTES_U64);
        let (Some(mut read), Some(fd)) = (read, self.files.begin_load(slot)) else {
            self.cache.cancel(block);
            return Load::Full;
        };
        self.budget.spend();
        let meta = *self.files.meta(slot);
        read.push(self.memory.lend(block), meta.block_len(first.block));
        let run_end = (first.block / DIRECT_BLOCKS_U64 + 1) * DIRECT_BLOCKS_U64;
        let end = along.until().min(run_end).min(meta.blocks());
        for number in first.block + 1..end {
            let key = BlockKey {
                block: number,
                ..first
            };
            if self.cache.lookup(&key) != Lookup::Absent {
                break;
            }
            let Some(block) = self.cache.reserve(key, Urgency::Ahead) else {
                break;
            };
            read.push(self.memory.lend(block), meta.block_len(number));
        }
        let until = first.block + read.blocks() as u64;
        self.counters.reads_direct += 1;
        self.counters.reads_helper += read.blocks() as u64;
        self.helpers.read_direct(DirectJob {
            fd,
            file: slot,
            read,
        });
        Load::Pending { until }
    }

    pub(super) fn settle_direct(&mut self, job: DirectJob, result: Result<FileMeta, ReadError>) {
        let DirectJob { file, mut read, .. } = job;
        self.counters.bytes_helper += read.filled() as u64;
        if read.is_refused() {
            self.refuse_direct(file);
        } else {
            self.counters.bytes_direct += read.filled() as u64;
        }
        let mut errno = None;
        let whole = match result.and_then(|now| self.files.confirm(file, &now)) {
            Ok(()) => read.filled(),
            Err(ReadError::Io(why)) => {
                self.counters.read_errors += 1;
                errno = Some(why);
                0
            }
            Err(error) => {
                // The file's entry remembers why; the blocks are worth nothing.
                self.files.condemn(file, error);
                0
            }
        };
        let meta = *self.files.meta(file);
        let first = read.offset() / BLOCK_BYTES_U64;
        for (at, buffer) in read.take_buffers().enumerate() {
            let block = buffer.block();
            self.memory.take_back(buffer);
            let want = meta.block_len(first + at as u64);
            if at * BLOCK_BYTES + want <= whole {
                self.cache.finish(block, valid_bytes(want));
            } else if let Some(errno) = errno.take() {
                self.cache.fail(block, errno);
            } else {
                // Whoever waits for it asks again.
                self.cache.cancel(block);
            }
        }
        self.direct.give_back(read);
        let unneeded = self.files.end_load(file);
        self.close_fd(unneeded);
    }

    /// Notes that a file is read through the page cache although it is large enough. Reads that were handed over together
    /// say so more than once.
    fn refuse_direct(&mut self, slot: u32) {
        if self.files.way(slot) != Way::Refused {
            self.files.set_way(slot, Way::Refused);
            self.counters.direct_refused += 1;
            self.direct.note_refused();
        }
    }
}
