//! The disk of one worker: opens files, hands out blocks, and settles what helper threads bring back.

mod uploads;

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::answer::{Fetch, Opening, Prefetch, ReadError};
use crate::block::{BLOCK_BYTES, BLOCK_BYTES_U64, BlockMemory};
use crate::budget::TurnBudget;
use crate::cache::{BlockCache, BlockKey, Lookup, Urgency};
use crate::file::{Adopted, FileMeta, FileTable};
use crate::handle::{BlockRef, FileHandle, OpenTicket};
use crate::ledger::{DiskCounters, DiskLedger};
use crate::reader::{Helpers, NoWait, Outcome, ReadJob, read_nowait};
use crate::recent::Recent;
use crate::root::{Freshness, OpenError, Opened, Root, stat};
use crate::ticket::{Name, TicketTable};
use crate::upload::UploadLimits;
use crate::upload::loan::Loan;
use crate::upload::table::UploadTable;
use crate::writer::Source;

/// Sizes of a [`Disk`], fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskConfig {
    /// Helper threads, at least 1: how many slow reads and opens proceed at the same time.
    pub threads: usize,
    /// Versions of files open at once, at least 1; each holds one descriptor. Further ones are
    /// [`OpenError::TooManyFiles`].
    pub files: usize,
    /// Reads in flight on helper threads, at least 1, and as many opens. An open costs a name buffer of 4 KiB.
    pub queue_depth: usize,
    /// How much of uploads, [`UploadLimits::NONE`] for a disk that only serves.
    pub uploads: UploadLimits,
}

/// What is tried on the caller's thread. Everything, except in tests of the helper path.
#[derive(Clone, Copy)]
struct Inline {
    opens: bool,
    /// Of a block, at most.
    bytes: usize,
}

/// Who was told since the last poll that there is no block, and who must hear of it when there is one.
#[derive(Default)]
struct Refused {
    fetch: bool,
    /// An upload, for want of memory.
    upload: bool,
    /// An upload, because it or all of them have their share.
    share: bool,
    /// There is one again.
    is_over: bool,
}

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

/// Files and blocks of one worker. Not shared: every method but the readers takes `&mut self`.
///
/// Call order: [`open`](Disk::open) (then [`opened`](Disk::opened)) gives a handle; [`fetch`](Disk::fetch) block by
/// block gives references whose [`bytes`](Disk::bytes) are sent; [`release`](Disk::release) each when acknowledged;
/// [`close`](Disk::close), before or after that. [`poll`](Disk::poll) once in every turn of the loop.
///
/// Dropping it waits for the reads and writes that helper threads have in hand. Nothing is left of unpublished uploads.
pub struct Disk {
    helpers: Helpers,
    cache: BlockCache,
    memory: BlockMemory,
    files: FileTable,
    tickets: TicketTable,
    recent: Recent,
    /// The name being opened, for the caller's thread.
    name: Name,
    counters: DiskCounters,
    budget: TurnBudget,
    /// Somebody was told [`Fetch::NoBlock`] while blocks were kept back for their waiters.
    starved: bool,
    uploads: UploadTable,
    /// Loans that nobody needs any more.
    returned: Vec<Box<dyn Loan>>,
    refused: Refused,
    inline: Inline,
}

impl Disk {
    /// A disk whose blocks are `memory`: as many as fit, each [`BLOCK_BYTES`] long. Page alignment is not needed for
    /// reading, but whoever sends a block without a copy will want it.
    ///
    /// The helper threads inherit the CPU affinity and signal mask of the caller: make the disk before pinning.
    ///
    /// # Errors
    /// `InvalidInput` if a number in `config` is 0 or above 2^30, or if `memory` holds no block; otherwise a thread
    /// or descriptor could not be made.
    pub fn new(memory: &'static mut [u8], config: &DiskConfig) -> io::Result<Disk> {
        Disk::over(BlockMemory::from_static(memory)?, config)
    }

    /// A disk that maps `bytes` of memory of its own.
    ///
    /// # Errors
    /// As [`Disk::new`], and those of mmap(2).
    pub fn anonymous(bytes: usize, config: &DiskConfig) -> io::Result<Disk> {
        Disk::over(BlockMemory::anonymous(bytes)?, config)
    }

    fn over(memory: BlockMemory, config: &DiskConfig) -> io::Result<Disk> {
        let files = table_size("files", config.files)?;
        let queue_depth = table_size("queue_depth", config.queue_depth)?;
        table_size("threads", config.threads)?;
        let uploads = upload_slots(&config.uploads)?;
        let blocks = memory.blocks();
        Ok(Disk {
            helpers: Helpers::start(config.threads, config.queue_depth, &config.uploads)?,
            cache: BlockCache::new(blocks),
            memory,
            files: FileTable::new(files),
            tickets: TicketTable::new(queue_depth),
            recent: Recent::new(),
            name: Name::new(),
            counters: DiskCounters::default(),
            budget: TurnBudget::new(),
            starved: false,
            uploads: UploadTable::new(uploads, &config.uploads, blocks),
            returned: Vec::with_capacity(config.uploads.loans),
            refused: Refused::default(),
            inline: Inline {
                opens: true,
                bytes: BLOCK_BYTES,
            },
        })
    }

    /// Opens the regular file at `path` below `root`. `path` is relative, already decoded; whatever it contains, it
    /// does not lead out of the root. The empty path is the root itself, a directory.
    ///
    /// A path that was opened in this turn of the loop leads to the same version again: the caller calls
    /// [`poll`](Disk::poll) after requests have arrived and before it answers them.
    pub fn open(&mut self, root: &Root, path: &[u8]) -> Opening {
        if let Some((slot, id)) = self.recent.find(root, path)
            && let Some(handle) = self.files.join(slot, id)
        {
            self.counters.opens_recent += 1;
            return Opening::Done(Ok(handle));
        }
        if let Err(error) = self.name.set(path) {
            return Opening::Done(Err(error));
        }
        if self.inline.opens
            && let Some(answer) = root.open_cached(self.name.as_c_str())
        {
            self.counters.opens_inline += 1;
            let answer = answer.and_then(|opened| self.adopt(opened));
            if let Ok(handle) = &answer {
                self.note_recent(root, path, handle.0);
            }
            return Opening::Done(answer);
        }
        let Some((ticket, name)) = self.tickets.issue(&self.name) else {
            return Opening::Done(Err(OpenError::TooManyFiles));
        };
        self.counters.opens_helper += 1;
        self.helpers.open(ticket.0, root.clone(), name);
        Opening::Pending(ticket)
    }

    /// Exchanges a ticket for the answer.
    ///
    /// # Errors
    /// The ticket back, if there is no answer yet.
    pub fn opened(
        &mut self,
        ticket: OpenTicket,
    ) -> Result<Result<FileHandle, OpenError>, OpenTicket> {
        let answer = self.tickets.redeem(ticket)?;
        Ok(answer.and_then(|opened| self.adopt(opened)))
    }

    /// Gives up an open, whether it is answered or not.
    pub fn abandon(&mut self, ticket: OpenTicket) {
        if let Some(opened) = self.tickets.abandon(ticket) {
            self.helpers.close(opened.fd);
        }
    }

    /// Size and times of the file when it was opened.
    #[must_use]
    pub fn meta(&self, file: &FileHandle) -> FileMeta {
        *self.files.meta(file.0)
    }

    /// Asks for block number `block` of the file: bytes from `block` x [`BLOCK_BYTES`] on.
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
        let load = match self.cache.lookup(&key) {
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

    /// The bytes of a block: [`BLOCK_BYTES`], fewer for the last block of a file.
    #[must_use]
    pub fn bytes(&self, block: &BlockRef) -> &[u8] {
        let valid = self.cache.valid(block.0) as usize;
        self.memory.bytes(block.0).get(..valid).unwrap_or_default()
    }

    /// A further reference to the same block.
    pub fn clone_ref(&mut self, block: &BlockRef) -> BlockRef {
        self.cache.pin(block.0);
        BlockRef(block.0)
    }

    /// Ends a reference. Without references the block stays cached until its memory is needed.
    pub fn release(&mut self, block: BlockRef) {
        self.cache.unpin(block.0);
        if self.refused.upload {
            self.end_refusal();
        }
    }

    /// Ends a handle. References to its blocks stay valid.
    pub fn close(&mut self, file: FileHandle) {
        let unneeded = self.files.close(file);
        self.close_fd(unneeded);
    }

    /// Takes what helper threads have finished. True if something changed: ask again for all that was pending or had
    /// no block. To be called in every turn of the loop; a turn without news costs no system call. What was seen of
    /// names and files before is seen anew from here on.
    pub fn poll(&mut self) -> bool {
        self.forget_turn();
        let mut changed = self.cache.next_turn() && self.starved;
        changed |= self.budget.next_turn();
        changed |= self.refused.is_over;
        while let Some(outcome) = self.helpers.take() {
            self.settle(outcome);
            changed = true;
        }
        if changed {
            self.starved = false;
            self.refused = Refused::default();
        }
        self.wake_for_starved();
        changed
    }

    /// Ends a turn of the loop: hands over what was submitted of uploads, and closes what was kept open for those who would
    /// ask again in it. `is_busy`: the next turn follows at once; before the caller sleeps it is false.
    pub fn end_turn(&mut self, is_busy: bool) {
        self.hand_over(is_busy);
        self.forget_turn();
    }

    /// Has names and files seen anew from here on. For a caller that reads requests after [`Disk::poll`]: what is opened for
    /// one of those must not be older than it.
    pub fn forget_turn(&mut self) {
        self.let_go();
        self.recent.next_turn();
    }

    /// Readable when [`Disk::poll`] has something to take. For poll(2) or epoll(7) only; poll() reads it.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.helpers.wake_fd()
    }

    /// Where everything is now.
    #[must_use]
    pub fn ledger(&self) -> DiskLedger {
        let census = self.cache.census();
        DiskLedger {
            blocks_total: self.memory.blocks(),
            free: census.free,
            cached: census.cached,
            pinned: census.pinned,
            loading: census.loading,
            uploading: census.uploading,
            files_open: self.files.open(),
            tickets: self.tickets.out(),
            uploads: self.uploads.under_way(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> DiskCounters {
        DiskCounters {
            evictions: self.cache.evictions(),
            files_changed: self.files.changed(),
            ..self.counters
        }
    }

    fn adopt(&mut self, opened: Opened) -> Result<FileHandle, OpenError> {
        let opened = match self.files.adopt(opened) {
            Adopted::Full(opened) => opened,
            adopted => return self.adopted(adopted),
        };
        // What is open for nobody in particular must not be in the way.
        self.let_go();
        let adopted = self.files.adopt(opened);
        self.adopted(adopted)
    }

    fn adopted(&mut self, adopted: Adopted) -> Result<FileHandle, OpenError> {
        match adopted {
            Adopted::Own(handle) => Ok(handle),
            Adopted::Shared(handle, surplus) => {
                self.counters.opens_shared += 1;
                self.helpers.close(surplus);
                Ok(handle)
            }
            Adopted::Full(unwanted) => {
                self.helpers.close(unwanted.fd);
                Err(OpenError::TooManyFiles)
            }
        }
    }

    /// `path` was opened here and now: others in this turn may have the same.
    fn note_recent(&mut self, root: &Root, path: &[u8], slot: u32) {
        let id = self.files.id(slot);
        self.recent.note(root, path, slot, id);
        // Its times were read a moment ago.
        self.files.note_confirmed(slot, self.recent.turn());
        if self.recent.may_hold()
            && let Some(held) = self.files.join(slot, id)
        {
            self.recent.hold(held);
        }
    }

    fn let_go(&mut self) {
        while let Some(held) = self.recent.let_go() {
            self.close(held);
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

    fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Opened {
                ticket,
                name,
                result,
            } => {
                if let Some(unwanted) = self.tickets.answer(ticket, name, result) {
                    self.helpers.close(unwanted.fd);
                }
            }
            Outcome::Read { job, result } => self.settle_read(job, result),
            Outcome::Upload { job, result } => self.settle_upload(job, result),
        }
    }

    fn settle_read(&mut self, job: ReadJob, result: Result<FileMeta, ReadError>) {
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
        self.refused.fetch = true;
        self.starve();
        Fetch::NoBlock
    }

    /// Notes that somebody got no block although some are kept back for others.
    fn starve(&mut self) {
        if !self.starved && self.cache.keeps_back() {
            self.starved = true;
            self.wake_for_starved();
        }
    }

    /// A block came back without news from a helper: the next poll tells those who were refused one.
    fn end_refusal(&mut self) {
        if !self.refused.is_over {
            self.refused.is_over = true;
            self.helpers.signal_self();
        }
    }

    /// Blocks that are kept back become evictable by turns of the loop, which may be about to sleep.
    fn wake_for_starved(&mut self) {
        if self.starved && self.cache.keeps_back() {
            self.helpers.signal_self();
        }
    }

    fn close_fd(&mut self, fd: Option<OwnedFd>) {
        if let Some(fd) = fd {
            self.helpers.close(fd);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // In this order: while helpers run they borrow descriptors of `files` and write into `memory`.
        self.helpers.join();
        let memory = &mut self.memory;
        self.helpers.left_over(|buffer| memory.take_back(buffer));
        while let Some(piece) = self.uploads.left_over() {
            if let Source::Block(buffer) = piece.source {
                memory.take_back(buffer);
            }
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("ledger", &self.ledger())
            .finish_non_exhaustive()
    }
}

/// A configured number as the length of a table.
fn table_size(name: &str, n: usize) -> io::Result<u32> {
    const MAX: u32 = 1 << 30;
    match u32::try_from(n) {
        Ok(n) if (1..=MAX).contains(&n) => Ok(n),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("disk: {name} = {n} is not between 1 and {MAX}"),
        )),
    }
}

/// The length of the table of uploads.
fn upload_slots(limits: &UploadLimits) -> io::Result<u32> {
    if limits.uploads == 0 {
        return Ok(0);
    }
    table_size("uploads.threads", limits.threads)?;
    table_size("uploads.blocks", limits.blocks)?;
    table_size("uploads.blocks_each", limits.blocks_each)?;
    table_size("uploads.uploads", limits.uploads)
}

/// A length within one block, as the cache keeps it.
fn valid_bytes(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(0)
}

#[cfg(test)]
mod tests;
