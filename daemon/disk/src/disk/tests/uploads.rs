//! Uploads to real directories, by both kinds of scratch file.

mod endings;
mod file_systems;
mod loans;
#[path = "../../../../tests/names/mod.rs"]
mod names;
mod paths;
mod preconditions;
mod publishing;
mod shares;
#[path = "../../../../tests/skip.rs"]
mod skip;

use super::*;
use crate::upload::{
    Published, TEMPORARY_PREFIX, TakeBlock, UploadError, UploadHandle, UploadOptions, UploadState,
};
use names::names;

const LIMITS: UploadLimits = UploadLimits {
    uploads: 3,
    threads: 2,
    blocks: 6,
    blocks_each: 4,
    loans: 0,
};

pub(super) fn rig_with(blocks: usize, uploads: UploadLimits) -> Rig {
    let config = DiskConfig {
        threads: 2,
        files: 4,
        queue_depth: 8,
        direct_above: None,
        uploads,
    };
    Rig::with(blocks, &config)
}

fn config_of_one() -> DiskConfig {
    DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 1,
        direct_above: None,
        uploads: UploadLimits::NONE,
    }
}

/// With O_TMPFILE and without. Whatever the test did, no temporary name may be left.
fn on_both(test: impl Fn(&mut Rig)) {
    for tmpfile in [true, false] {
        let mut rig = rig_with(16, LIMITS);
        if !tmpfile {
            rig.disk.uploads.without_tmpfile();
        }
        test(&mut rig);
        rig.poll_until("every upload is cleared away", |rig| {
            rig.disk.ledger().at_rest()
        });
        assert_eq!(rig.temporary_names(), Vec::<String>::new(), "{tmpfile}");
    }
}

impl Rig {
    fn begin(&mut self, name: &str, options: &UploadOptions) -> Result<UploadHandle, UploadError> {
        self.disk.begin_upload(&self.root, name.as_bytes(), options)
    }

    /// Waits for the state after `than`.
    fn state_after(&mut self, upload: &UploadHandle, than: UploadState) -> UploadState {
        while self.disk.upload_state(upload) == than {
            self.wait();
        }
        self.disk.upload_state(upload)
    }

    /// Takes blocks until all of `bytes` are submitted from `offset` on.
    fn send(&mut self, upload: &UploadHandle, bytes: &[u8], offset: u64) {
        for (number, piece) in (0..).zip(bytes.chunks(BLOCK_BYTES)) {
            let mut block = loop {
                match self.disk.upload_block(upload) {
                    TakeBlock::Taken(block) => break block,
                    TakeBlock::NoBlock => self.wait(),
                    TakeBlock::Closed => return,
                }
            };
            block.bytes_mut()[..piece.len()].copy_from_slice(piece);
            let offset = offset + number * BLOCK_BYTES_U64;
            self.disk.submit(block, offset, piece.len());
        }
    }

    fn finish(&mut self, upload: UploadHandle, size: u64) -> Result<Published, UploadError> {
        self.disk.finish_upload(&upload, size);
        let answer = loop {
            match self.disk.upload_state(&upload) {
                UploadState::Published(published) => break Ok(published),
                UploadState::Failed(error) => break Err(error),
                _ => self.wait(),
            }
        };
        self.disk.end_upload(upload);
        answer
    }

    fn put_as(
        &mut self,
        name: &str,
        bytes: &[u8],
        options: &UploadOptions,
    ) -> Result<Published, UploadError> {
        let upload = self.begin(name, options)?;
        self.send(&upload, bytes, 0);
        self.finish(upload, bytes.len() as u64)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Published, UploadError> {
        self.put_as(name, bytes, &UploadOptions::default())
    }

    pub(super) fn temporary_names(&self) -> Vec<String> {
        let mut names = names(self.dir.path());
        names.retain(|name| name.starts_with(TEMPORARY_PREFIX));
        names
    }
}
