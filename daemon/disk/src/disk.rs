//! The disk of one worker, from its parts.
//!
//! Here are its life, its turns and what holds for a file or a block once it is there. How they get there is in `opens`,
//! `reads` and `directs`; the other way is in `uploads`.

mod directs;
mod opens;
mod reads;
mod uploads;

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::block::{BLOCK_BYTES, BlockMemory};
use crate::budget::TurnBudget;
use crate::cache::BlockCache;
use crate::config::DiskConfig;
use crate::direct::DirectReads;
use crate::file::{FileMeta, FileTable};
use crate::group::GROUP_BLOCKS;
use crate::handle::{BlockRef, FileHandle};
use crate::ledger::{DiskCounters, DiskLedger};
use crate::reader::{Helpers, Outcome};
use crate::recent::Recent;
use crate::refusals::Refusals;
use crate::ticket::{Name, TicketTable};
use crate::upload::loan::Loan;
use crate::upload::table::UploadTable;
use crate::writer::Source;

/// What is tried on the caller's thread. Everything, except in tests of the helper path.
#[derive(Clone, Copy)]
struct Inline {
    opens: bool,
    /// In one read, at most.
    bytes: usize,
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
    direct: DirectReads,
    uploads: UploadTable,
    /// Loans that nobody needs any more.
    returned: Vec<Box<dyn Loan>>,
    refusals: Refusals,
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
        let memory = BlockMemory::anonymous(bytes)?;
        if config.direct_above.is_some() {
            memory.ask_for_huge_pages();
        }
        Disk::over(memory, config)
    }

    fn over(memory: BlockMemory, config: &DiskConfig) -> io::Result<Disk> {
        let sizes = config.table_sizes()?;
        let blocks = memory.blocks();
        let direct = DirectReads::new(config.direct_above, config.queue_depth, memory.alignment());
        Ok(Disk {
            helpers: Helpers::start(config.threads, config.queue_depth, &config.uploads)?,
            cache: BlockCache::new(blocks),
            memory,
            files: FileTable::new(sizes.files),
            tickets: TicketTable::new(sizes.queue_depth),
            recent: Recent::new(),
            name: Name::new(),
            counters: DiskCounters::default(),
            budget: TurnBudget::new(),
            direct,
            uploads: UploadTable::new(sizes.uploads, &config.uploads, blocks),
            returned: Vec::with_capacity(config.uploads.loans),
            refusals: Refusals::default(),
            inline: Inline {
                opens: true,
                bytes: GROUP_BLOCKS * BLOCK_BYTES,
            },
        })
    }

    /// Size and times of the file when it was opened.
    #[must_use]
    pub fn meta(&self, file: &FileHandle) -> FileMeta {
        *self.files.meta(file.0)
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
        if self.refusals.concerns_memory_of_uploads() {
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
        let mut changed = self.cache.next_turn() && self.refusals.is_starved();
        changed |= self.budget.next_turn();
        changed |= self.refusals.is_over();
        while let Some(outcome) = self.helpers.take() {
            self.settle(outcome);
            changed = true;
        }
        if changed {
            self.refusals.forget();
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
            Outcome::Direct { job, result } => self.settle_direct(job, result),
            Outcome::Upload { job, result } => self.settle_upload(job, result),
        }
    }

    /// Notes that somebody got no block although some are kept back for others.
    fn starve(&mut self) {
        if self.refusals.starve(self.cache.keeps_back()) {
            self.helpers.signal_self();
        }
    }

    /// A block came back without news from a helper: the next poll tells those who were refused one.
    fn end_refusal(&mut self) {
        if self.refusals.end() {
            self.helpers.signal_self();
        }
    }

    /// Blocks that are kept back become evictable by turns of the loop, which may be about to sleep.
    fn wake_for_starved(&mut self) {
        if self.refusals.is_starved() && self.cache.keeps_back() {
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

#[cfg(test)]
mod tests;
