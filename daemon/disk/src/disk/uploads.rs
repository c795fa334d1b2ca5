//! The uploads of a [`Disk`]: blocks from the caller to the helper threads, and what these bring back.

use super::Disk;
use crate::block::{BLOCK_BYTES, LoadBuffer};
use crate::root::Root;
use crate::upload::loan::{self, Loan};
use crate::upload::{
    TakeBlock, UploadBlock, UploadError, UploadHandle, UploadOptions, UploadState,
};
use crate::writer::{Piece, Source, UploadJob, UploadResult, fits_a_write};

/// Uploads. Call order: [`begin_upload`](Disk::begin_upload); [`upload_block`](Disk::upload_block), fill it,
/// [`submit`](Disk::submit), as often as there are bytes; [`finish_upload`](Disk::finish_upload);
/// [`upload_state`](Disk::upload_state) until it is final; [`end_upload`](Disk::end_upload), at any time.
impl Disk {
    /// Begins an upload to `path` below `root`: relative, already decoded, as for [`Disk::open`]. The answer to whether
    /// it can be done comes by [`Disk::upload_state`], which is at first [`UploadState::Opening`].
    ///
    /// # Errors
    /// [`UploadError::TooMany`] if every slot is taken, and what the path alone tells: [`UploadError::BadName`],
    /// [`UploadError::IsDirectory`].
    pub fn begin_upload(
        &mut self,
        root: &Root,
        path: &[u8],
        options: &UploadOptions,
    ) -> Result<UploadHandle, UploadError> {
        let slot = self.uploads.begin(root, path, options)?;
        self.counters.uploads_begun += 1;
        self.advance(slot);
        Ok(UploadHandle(slot))
    }

    /// Where an upload stands. Changes in [`Disk::poll`], and by the calls for this upload.
    #[must_use]
    pub fn upload_state(&self, upload: &UploadHandle) -> UploadState {
        self.uploads.state(upload.0)
    }

    /// Takes a block for bytes of the upload. Whoever holds one while no bytes come takes it from other uploads: after
    /// a while without news, submit what is there.
    pub fn upload_block(&mut self, upload: &UploadHandle) -> TakeBlock {
        let slot = upload.0;
        if !self.uploads.is_open(slot) {
            return TakeBlock::Closed;
        }
        if !self.uploads.may_have_block(slot) {
            self.counters.upload_no_block += 1;
            self.uploads.hurry();
            self.refusals.note_share();
            return TakeBlock::NoBlock;
        }
        let Some(block) = self.cache.begin_upload() else {
            self.counters.upload_no_block += 1;
            self.uploads.hurry();
            self.refusals.note_upload();
            self.starve();
            return TakeBlock::NoBlock;
        };
        self.uploads.block_out(slot);
        TakeBlock::Taken(UploadBlock {
            buffer: self.memory.lend(block),
            upload: slot,
        })
    }

    /// Blocks out for the upload: with the caller, waiting to be written, or being written.
    #[must_use]
    pub fn upload_blocks(&self, upload: &UploadHandle) -> usize {
        self.uploads.blocks_of(upload.0) as usize
    }

    /// Whether the upload has as many blocks as one may have, written ones included: then it waits for nobody else.
    pub fn has_upload_share(&self, upload: &UploadHandle) -> bool {
        self.uploads.has_share(upload.0)
    }

    /// Has the first `len` bytes of `block` written at `offset` of the file. The order of submissions does not matter,
    /// unless they overlap: then the later one wins. How it went shows in [`Disk::upload_state`]; a block of an upload
    /// that takes no more bytes is merely returned.
    pub fn submit(&mut self, block: UploadBlock, offset: u64, len: usize) {
        debug_assert!(len <= BLOCK_BYTES, "{len} bytes are more than a block");
        let UploadBlock { buffer, upload } = block;
        if len == 0 || !self.uploads.is_open(upload) {
            self.take_back(upload, buffer);
            self.tell_refused();
            return;
        }
        let len = len.min(BLOCK_BYTES);
        self.uploads.submit(
            upload,
            Piece {
                source: Source::Block(buffer),
                offset,
                len,
            },
        );
        self.advance_if_enough(upload);
    }

    /// Whether [`Disk::submit_loan`] would take something for the upload: no more is out than may be, and the upload has
    /// not more than an equal share of that.
    #[must_use]
    pub fn takes_loan(&self, upload: &UploadHandle) -> bool {
        self.uploads.is_open(upload.0) && self.uploads.may_lend(upload.0)
    }

    /// As [`Disk::submit`] of memory that is the caller's: it is written from where it lies and then comes back by
    /// [`Disk::take_loan`], whatever becomes of the upload.
    ///
    /// # Errors
    /// The loan, if [`Disk::takes_loan`] says no, or it has no pieces or more than 288.
    pub fn submit_loan(
        &mut self,
        upload: &UploadHandle,
        loan: Box<dyn Loan>,
        offset: u64,
    ) -> Result<(), Box<dyn Loan>> {
        let slot = upload.0;
        if !self.takes_loan(upload) || !fits_a_write(loan.as_ref()) {
            return Err(loan);
        }
        let len = loan::bytes_of(loan.as_ref());
        self.uploads.loan_out(slot);
        self.uploads.submit(
            slot,
            Piece {
                source: Source::Loan(loan),
                offset,
                len,
            },
        );
        self.advance_if_enough(slot);
        Ok(())
    }

    /// A loan that came back: to be asked in every turn, after [`Disk::poll`], until there is none.
    pub fn take_loan(&mut self) -> Option<Box<dyn Loan>> {
        self.returned.pop()
    }

    /// Somebody waits for blocks that are to be written: what was submitted is handed over at the end of this turn.
    pub fn hurry_uploads(&mut self) {
        self.uploads.hurry();
    }

    /// Hands over what was submitted, so that the helper threads write it. While turns follow one another (`is_busy`) a few
    /// pieces wait for more, some turns at most: a longer write costs less, and every one wakes a thread.
    pub(super) fn hand_over(&mut self, is_busy: bool) {
        while let Some(slot) = self.uploads.due(is_busy) {
            self.advance(slot);
        }
        self.helpers.wake_upload_threads();
    }

    /// Gives a block back without writing it. Blocks may outlive the upload they were taken for.
    pub fn return_block(&mut self, block: UploadBlock) {
        self.take_back(block.upload, block.buffer);
        self.tell_refused();
    }

    /// Says that no more bytes come: once everything submitted is written, the file is cut or extended (with zeros) to
    /// `size` bytes, made durable and given its name. Called twice, or after a failure, it does nothing.
    pub fn finish_upload(&mut self, upload: &UploadHandle, size: u64) {
        self.uploads.finish(upload.0, size);
        self.advance(upload.0);
    }

    /// Ends an upload. Unless it is published, it is given up, and nothing of it is left in the file system when its
    /// helper thread is done; but once [`Disk::finish_upload`] was called it may just be too late for that.
    pub fn end_upload(&mut self, upload: UploadHandle) {
        let slot = upload.0;
        self.uploads.end(slot);
        self.drop_unwanted(slot);
        self.tell_refused();
        self.advance(slot);
    }

    /// Takes what a helper brings back of an upload.
    pub(super) fn settle_upload(&mut self, job: UploadJob, result: UploadResult) {
        let UploadJob { slot, mut work } = job;
        match &result {
            Ok(Some(_)) => self.counters.uploads_published += 1,
            Ok(None) => {}
            Err(_) => self.counters.uploads_failed += 1,
        }
        self.counters.bytes_uploaded += work.written;
        self.uploads.settle(slot, result);
        for piece in work.batch.drain(..) {
            self.take_back_from(slot, piece.source);
        }
        self.uploads.bring_home(slot, work);
        self.drop_unwanted(slot);
        self.advance_if_enough(slot);
    }

    /// Hands the next job of an upload over, if it has one and none is under way.
    fn advance_if_enough(&mut self, slot: u32) {
        if !self.uploads.keeps(slot) {
            self.advance(slot);
        }
    }

    fn advance(&mut self, slot: u32) {
        if let Some(job) = self.uploads.next_job(slot) {
            self.helpers.upload(job);
        }
    }

    /// Takes back the blocks that were submitted to an upload which is over.
    fn drop_unwanted(&mut self, slot: u32) {
        while let Some(piece) = self.uploads.unwanted_piece(slot) {
            self.take_back_from(slot, piece.source);
        }
    }

    fn take_back_from(&mut self, slot: u32, source: Source) {
        match source {
            Source::Block(buffer) => self.take_back(slot, buffer),
            Source::Loan(loan) => {
                // As long as there may be loans.
                self.returned.push(loan);
                self.uploads.loan_back(slot);
            }
        }
    }

    fn take_back(&mut self, slot: u32, buffer: LoadBuffer) {
        let block = buffer.block();
        self.memory.take_back(buffer);
        self.cache.end_upload(block);
        self.uploads.block_back(slot);
    }

    /// Blocks may have come back by a call of the caller, of which [`Disk::poll`] would otherwise have no news.
    fn tell_refused(&mut self) {
        if self.refusals.concerns_anybody() {
            self.end_refusal();
        }
    }
}
