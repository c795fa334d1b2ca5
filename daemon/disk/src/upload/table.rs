//! The uploads under way: what each waits for, and which job is next. No I/O.
//!
//! A slot's work is here or with a helper, never both, so an upload has one job at a time. A slot becomes free when
//! its handle is given back, its work is here, its file is gone or published, and no block is out for it: so a block
//! always belongs to the upload it was taken for. Nothing allocates after [`UploadTable::new`].

use crate::list::{Links, List};
use crate::root::Root;
use crate::upload::target::TargetName;
use crate::upload::{Published, UploadError, UploadLimits, UploadOptions, UploadState};
use crate::writer::{Order, Piece, UploadJob, UploadResult, UploadWork};

/// So many pieces are handed over at once, others at the end of a turn: 512 KiB are a long write, and still in the
/// processor's cache when a helper reads them.
const PIECES_AT_ONCE: usize = 8;
/// Busy turns after which pieces are handed over, however few they are.
const TURNS_KEPT_MAX: u32 = 32;

struct Slot {
    /// Away while a helper has it.
    work: Option<Box<UploadWork>>,
    /// Submitted since the present job was handed over.
    waiting: Vec<Piece>,
    /// Blocks out for it: with the caller, waiting, or with a helper.
    blocks: u32,
    /// Loans waiting or with a helper.
    loans: u32,
    /// The first job went well.
    opened: bool,
    /// The length, once it was said.
    finish: Option<u64>,
    outcome: Option<Result<Published, UploadError>>,
    /// The handle was given back.
    ended: bool,
    /// It is in the list of those with pieces to hand over.
    due: bool,
}

/// A fixed number of uploads, and their share of the blocks.
pub(crate) struct UploadTable {
    slots: Box<[Slot]>,
    links: Links,
    free: List,
    /// Those with pieces that wait for more of them.
    due: List,
    turns_kept: u32,
    blocks: u32,
    blocks_max: u32,
    blocks_each: u32,
    loans: u32,
    loans_max: u32,
}

impl UploadTable {
    /// A table for `limits` on a disk of `blocks_total` blocks.
    pub(crate) fn new(slots: u32, limits: &UploadLimits, blocks_total: u32) -> UploadTable {
        let half = (blocks_total / 2).max(1);
        let share = |n: usize| u32::try_from(n).map_or(half, |n| n.min(half));
        let blocks_each = share(limits.blocks_each);
        let loans_max = u32::try_from(limits.loans).unwrap_or(u32::MAX);
        let pieces = blocks_each as usize + limits.loans;
        let mut links = Links::new(slots);
        UploadTable {
            slots: (0..slots).map(|_| Slot::new(pieces)).collect(),
            free: List::of_all(&mut links, slots),
            due: List::new(),
            turns_kept: 0,
            links,
            blocks: 0,
            blocks_max: share(limits.blocks),
            blocks_each,
            loans: 0,
            loans_max,
        }
    }

    /// Takes a slot for an upload. Its first job makes the file.
    pub(crate) fn begin(
        &mut self,
        root: &Root,
        path: &[u8],
        options: &UploadOptions,
    ) -> Result<u32, UploadError> {
        let number = self.free.front().ok_or(UploadError::TooMany)?;
        let slot = self.slot_mut(number);
        let work = slot.work.as_mut().ok_or(UploadError::TooMany)?;
        work.target.set(path)?;
        work.root = Some(root.clone());
        work.options = *options;
        self.free.remove(&mut self.links, number);
        Ok(number)
    }

    pub(crate) fn state(&self, slot: u32) -> UploadState {
        let slot = self.slot(slot);
        match slot.outcome {
            Some(Ok(published)) => UploadState::Published(published),
            Some(Err(error)) => UploadState::Failed(error),
            None if !slot.opened => UploadState::Opening,
            None if slot.finish.is_some() => UploadState::Publishing,
            None => UploadState::Writing,
        }
    }

    /// Whether the upload takes bytes.
    pub(crate) fn is_open(&self, slot: u32) -> bool {
        let slot = self.slot(slot);
        slot.outcome.is_none() && slot.finish.is_none() && !slot.ended
    }

    /// Whether the upload may have one more block.
    pub(crate) fn may_have_block(&self, slot: u32) -> bool {
        self.blocks < self.blocks_max && !self.has_share(slot)
    }

    /// Blocks out for the upload.
    pub(crate) fn blocks_of(&self, slot: u32) -> u32 {
        self.slot(slot).blocks
    }

    /// Whether the upload has as many blocks as one may have.
    pub(crate) fn has_share(&self, slot: u32) -> bool {
        self.blocks_of(slot) >= self.blocks_each
    }

    /// Counts a block that is given to the upload, until [`UploadTable::block_back`].
    pub(crate) fn block_out(&mut self, slot: u32) {
        self.blocks += 1;
        self.slot_mut(slot).blocks += 1;
    }

    pub(crate) fn block_back(&mut self, slot: u32) {
        debug_assert!(self.slot(slot).blocks > 0, "upload {slot} has no block");
        self.blocks = self.blocks.saturating_sub(1);
        let blocks = &mut self.slot_mut(slot).blocks;
        *blocks = blocks.saturating_sub(1);
        self.retire_if_done(slot);
    }

    /// Whether the upload may have one more loan: all have equal shares.
    pub(crate) fn may_lend(&self, slot: u32) -> bool {
        self.loans < self.loans_max && !self.has_loan_share(slot)
    }

    fn has_loan_share(&self, slot: u32) -> bool {
        let share = self.loans_max / self.under_way().max(1);
        self.slot(slot).loans >= share.max(1)
    }

    /// Counts a loan that is taken for the upload, until [`UploadTable::loan_back`].
    pub(crate) fn loan_out(&mut self, slot: u32) {
        self.loans += 1;
        self.slot_mut(slot).loans += 1;
    }

    pub(crate) fn loan_back(&mut self, slot: u32) {
        debug_assert!(self.slot(slot).loans > 0, "upload {slot} has no loan");
        self.loans = self.loans.saturating_sub(1);
        let loans = &mut self.slot_mut(slot).loans;
        *loans = loans.saturating_sub(1);
        self.retire_if_done(slot);
    }

    /// Queues bytes for an upload that takes them.
    pub(crate) fn submit(&mut self, slot: u32, piece: Piece) {
        // As long as the number of blocks and loans that an upload may have.
        self.slot_mut(slot).waiting.push(piece);
    }

    /// Whether the pieces of an upload that goes on shall wait for more of them, until [`UploadTable::due`].
    pub(crate) fn keeps(&mut self, number: u32) -> bool {
        // Who has all that he may have can only go on when some of it is written.
        let is_full = self.has_loan_share(number);
        let slot = &mut self.slots[number as usize];
        let few = (1..PIECES_AT_ONCE).contains(&slot.waiting.len());
        let keeps = few && !is_full && slot.opened && slot.finish.is_none() && !slot.ended;
        if keeps && !core::mem::replace(&mut slot.due, true) {
            self.due.push_back(&mut self.links, number);
        }
        keeps
    }

    /// At the end of a turn: an upload whose pieces have waited for enough. `is_busy`: another turn follows at once.
    pub(crate) fn due(&mut self, is_busy: bool) -> Option<u32> {
        if self.due.is_empty() {
            self.turns_kept = 0;
            return None;
        }
        if is_busy && self.turns_kept < TURNS_KEPT_MAX {
            self.turns_kept += 1;
            return None;
        }
        let number = self.due.front()?;
        self.forget_due(number);
        Some(number)
    }

    /// Somebody waits for blocks.
    pub(crate) fn hurry(&mut self) {
        self.turns_kept = TURNS_KEPT_MAX;
    }

    fn forget_due(&mut self, number: u32) {
        if core::mem::replace(&mut self.slots[number as usize].due, false) {
            self.due.remove(&mut self.links, number);
        }
    }

    /// Notes the length of the whole. Nothing happens if the upload is over, or was told already.
    pub(crate) fn finish(&mut self, slot: u32, size: u64) {
        if self.is_open(slot) {
            self.slot_mut(slot).finish = Some(size);
        }
    }

    /// Notes that the handle is gone.
    pub(crate) fn end(&mut self, slot: u32) {
        self.slot_mut(slot).ended = true;
        self.retire_if_done(slot);
    }

    /// The next piece of an upload that is over, which will not be written.
    pub(crate) fn unwanted_piece(&mut self, slot: u32) -> Option<Piece> {
        let slot = self.slot_mut(slot);
        let is_over = slot.ended || slot.outcome.is_some();
        if is_over { slot.waiting.pop() } else { None }
    }

    /// The next job, if there is something to do and no job under way.
    pub(crate) fn next_job(&mut self, number: u32) -> Option<UploadJob> {
        let slot = self.slot_mut(number);
        let order = match (slot.ended, slot.finish) {
            (true, _) => Order::GiveUp,
            (false, Some(size)) => Order::Finish(size),
            (false, None) => Order::GoOn,
        };
        let work = slot.work.as_mut()?;
        // The slot may have become free by what the caller did just before.
        work.root.as_ref()?;
        let is_needed = match order {
            Order::GiveUp => work.scratch.is_some(),
            _ if slot.outcome.is_some() => false,
            Order::Finish(_) => true,
            Order::GoOn => !slot.opened || !slot.waiting.is_empty(),
        };
        if !is_needed {
            return None;
        }
        work.order = order;
        if order != Order::GiveUp {
            std::mem::swap(&mut work.batch, &mut slot.waiting);
        }
        let work = slot.work.take()?;
        self.forget_due(number);
        Some(UploadJob { slot: number, work })
    }

    /// Takes a job's result. The work must follow by [`UploadTable::bring_home`].
    pub(crate) fn settle(&mut self, slot: u32, result: UploadResult) {
        let slot = self.slot_mut(slot);
        match result {
            Ok(None) => slot.opened = true,
            Ok(Some(published)) => slot.outcome = Some(Ok(published)),
            Err(error) => slot.outcome = Some(Err(error)),
        }
    }

    /// Takes the work back, with its batch empty.
    pub(crate) fn bring_home(&mut self, slot: u32, work: Box<UploadWork>) {
        debug_assert!(work.batch.is_empty(), "blocks are left in the batch");
        self.slot_mut(slot).work = Some(work);
        self.retire_if_done(slot);
    }

    /// How many slots are taken.
    pub(crate) fn under_way(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX) - self.free.len()
    }

    /// Lets every upload have a temporary name from the start.
    #[cfg(test)]
    pub(crate) fn without_tmpfile(&mut self) {
        for work in self.slots.iter_mut().filter_map(|slot| slot.work.as_mut()) {
            work.tmpfile = false;
        }
    }

    /// When the disk goes: the next piece that no helper has.
    pub(crate) fn left_over(&mut self) -> Option<Piece> {
        self.slots.iter_mut().find_map(|slot| slot.waiting.pop())
    }

    fn retire_if_done(&mut self, number: u32) {
        let slot = self.slot_mut(number);
        let Some(work) = slot.work.as_mut() else {
            return;
        };
        let is_owed = slot.blocks > 0 || slot.loans > 0;
        if !slot.ended || is_owed || work.scratch.is_some() {
            return;
        }
        work.root = None;
        self.forget_due(number);
        let slot = self.slot_mut(number);
        slot.opened = false;
        slot.finish = None;
        slot.outcome = None;
        slot.ended = false;
        self.free.push_back(&mut self.links, number);
    }

    fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }
}

impl Slot {
    /// For so many pieces at once.
    fn new(pieces: usize) -> Slot {
        Slot {
            work: Some(Box::new(UploadWork {
                target: TargetName::new(),
                root: None,
                options: UploadOptions::default(),
                scratch: None,
                batch: Vec::with_capacity(pieces),
                order: Order::GoOn,
                written: 0,
                tmpfile: true,
            })),
            waiting: Vec::with_capacity(pieces),
            blocks: 0,
            loans: 0,
            opened: false,
            finish: None,
            outcome: None,
            ended: false,
            due: false,
        }
    }
}
