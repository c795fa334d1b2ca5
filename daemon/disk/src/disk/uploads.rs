//! The uploads of a [`Disk`]: blocks from the caller to the helper threads, and what these bring back.

use super::Disk;
use crate::root::Root;
use crate::upload::{
    TakeBlock, UploadBlock, UploadError, UploadHandle, UploadOptions, UploadState,
};

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
        let _ = (root, path, options);
        Err(UploadError::TooMany)
    }

    /// Where an upload stands. Changes in [`Disk::poll`], and by the calls for this upload.
    #[must_use]
    pub fn upload_state(&self, upload: &UploadHandle) -> UploadState {
        let _ = upload;
        UploadState::Failed(UploadError::TooMany)
    }

    /// Takes a block for bytes of the upload. Whoever holds one while no bytes come takes it from other uploads: after
    /// a while without news, submit what is there.
    pub fn upload_block(&mut self, upload: &UploadHandle) -> TakeBlock {
        let _ = upload;
        TakeBlock::Closed
    }

    /// Has the first `len` bytes of `block` written at `offset` of the file. The order of submissions does not matter,
    /// unless they overlap: then the later one wins. How it went shows in [`Disk::upload_state`]; a block of an upload
    /// that takes no more bytes is merely returned.
    pub fn submit(&mut self, block: UploadBlock, offset: u64, len: usize) {
        let _ = (offset, len);
        self.return_block(block);
    }

    /// Gives a block back without writing it. Blocks may outlive the upload they were taken for.
    pub fn return_block(&mut self, block: UploadBlock) {
        self.memory.take_back(block.buffer);
    }

    /// Says that no more bytes come: once everything submitted is written, the file is cut or extended (with zeros) to
    /// `size` bytes, made durable and given its name. Called twice, or after a failure, it does nothing.
    pub fn finish_upload(&mut self, upload: &UploadHandle, size: u64) {
        let _ = (upload, size);
    }

    /// Ends an upload. Unless it is published, it is given up, and nothing of it is left in the file system when its
    /// helper thread is done; but once [`Disk::finish_upload`] was called it may just be too late for that.
    pub fn end_upload(&mut self, upload: UploadHandle) {
        let _ = upload;
    }
}
