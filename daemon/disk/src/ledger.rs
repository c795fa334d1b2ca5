//! The numbers a disk keeps of itself: what it holds now, and what it did so far.

/// Where the blocks, files and tickets of a disk are at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskLedger {
    /// All blocks.
    pub blocks_total: u32,
    /// Blocks without content.
    pub free: u32,
    /// Blocks with content that nobody refers to: taken for other content, oldest use first.
    pub cached: u32,
    /// Blocks that somebody refers to.
    pub pinned: u32,
    /// Blocks being read into by a helper thread.
    pub loading: u32,
    /// Blocks out for uploads: being filled by the caller, or on their way to the file.
    pub uploading: u32,
    /// Files with a handle or a read in flight; shared ones count once. A file closed by its last user is not
    /// counted, although its descriptor may stay open for some 10 ms more.
    pub files_open: u32,
    /// Opens under way or answered but not yet fetched, abandoned ones included until they are answered.
    pub tickets: u32,
    /// Uploads whose handle is out, or whose remains a helper thread has not cleared away yet.
    pub uploads: u32,
}

impl DiskLedger {
    /// Whether every block is in exactly one place. Always true; asserted by tests.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.free + self.cached + self.pinned + self.loading + self.uploading == self.blocks_total
    }

    /// Whether nobody holds or waits for anything: the state to come back to when all connections are gone.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let held = self.pinned + self.loading + self.uploading;
        self.balanced() && held + self.files_open + self.tickets + self.uploads == 0
    }
}

/// What a disk did since it was made. Every number only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskCounters {
    /// Opens answered on the caller's thread from the dentry cache, refused ones included.
    pub opens_inline: u64,
    /// Opens handed to a helper thread.
    pub opens_helper: u64,
    /// Opens answered by an open of the same name in the same turn of the loop, without a system call.
    pub opens_recent: u64,
    /// Opens that found the same version of the file open already and share its entry.
    pub opens_shared: u64,
    /// Blocks filled on the caller's thread from the page cache.
    pub reads_inline: u64,
    /// Blocks, or the rest of them, handed to a helper thread.
    pub reads_helper: u64,
    /// Reads handed to a helper thread that go past the page cache, each of up to eight blocks. Their blocks count in
    /// `reads_helper` too.
    pub reads_direct: u64,
    /// Reads tried on the caller's thread, a preadv2(2) each, those that found nothing included.
    pub read_calls: u64,
    /// Looks on the caller's thread at a file that is read, a statx(2) each: whether it is the version that was opened.
    pub version_checks: u64,
    /// Bytes read on the caller's thread.
    pub bytes_inline: u64,
    /// Bytes read by helper threads.
    pub bytes_helper: u64,
    /// Of them those that went past the page cache.
    pub bytes_direct: u64,
    /// Fetches answered by a block that was there: in use, cached, or read ahead or along with another.
    pub hits: u64,
    /// Blocks with content that were taken for other content.
    pub evictions: u64,
    /// Fetches refused because no block could be taken ([`Fetch::NoBlock`](crate::Fetch::NoBlock)).
    pub no_block: u64,
    /// Fetches put off because enough had been read in that turn of the loop.
    pub put_off: u64,
    /// Reads put off because the queue to the helper threads was full.
    pub queue_full: u64,
    /// Reads of a block that failed ([`ReadError::Io`](crate::ReadError::Io)).
    pub read_errors: u64,
    /// Files found to be another version than the one opened, shrunk ones included.
    pub files_changed: u64,
    /// Files that are large enough for direct reads and read through the page cache, because their file system or the place of
    /// the blocks in memory does not allow it. A version of a file counts once while it is remembered.
    pub direct_refused: u64,
    /// Uploads begun.
    pub uploads_begun: u64,
    /// Uploads that have their name and are durable.
    pub uploads_published: u64,
    /// Uploads that failed after they had begun, whatever the reason. Those given up by the caller are in neither.
    pub uploads_failed: u64,
    /// Bytes written for uploads.
    pub bytes_uploaded: u64,
    /// Requests for a block to upload from that were refused ([`TakeBlock::NoBlock`](crate::TakeBlock::NoBlock)).
    pub upload_no_block: u64,
}
