//! File blocks shared by reference, read without blocking the caller.
//!
//! A [`Disk`] belongs to one worker. It opens files below a [`Root`] and fills blocks of [`BLOCK_BYTES`] from them,
//! in memory it is given (the UMEM, so that a block can be sent without a copy). All connections of the worker that
//! read the same version of a file share its blocks. A block stays while it is referred to, until its bytes are
//! acknowledged, and after that while memory lasts.
//!
//! The caller's thread does what needs no I/O: RESOLVE_CACHED for names, RWF_NOWAIT for bytes. The rest goes to
//! helper threads ([`Disk::poll`], [`Disk::wake_fd`]). Files are never mapped: a file that shrinks under a mapping
//! is a SIGBUS, here it is a [`ReadError`].
//!
//! Uploads go the other way ([`Disk::begin_upload`], [`UploadState`]): into blocks of the same memory, from there to a
//! file without a name, and only when all of it is on disk does it get its name.
//!
//! Way of a block: `recent` (opened in this turn already?) -> `root` (openat2) -> `file` (one entry per version) ->
//! `cache` (which block, whom to evict) -> `block` (whose memory is it now: all unsafe code but one line is there) ->
//! `group` (which blocks one read fills; `direct` where that goes past the page cache) -> `reader` (helper threads, which also close, see `closer`) -> `disk` (puts
//! them together). Way of an upload: `upload` (the words, the table, the scratch file) -> `writer` (helper threads of
//! its own). Nothing allocates after [`Disk::new`].
//!
//! Assumed: Linux 5.12 or later; time stamps that change with the content (not a file written through a mapping,
//! whose stamps lag); the tree mounted `relatime` or `noatime`, since an atime update can wait for the journal.

// They panic when nobody reads; what is to be said goes to the caller.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod answer;
mod block;
mod budget;
mod cache;
mod closer;
mod config;
mod direct;
mod disk;
mod file;
mod group;
mod handle;
mod index;
mod ledger;
mod list;
mod reader;
mod recent;
mod refusals;
mod root;
mod sync;
mod ticket;
mod tokens;
mod upload;
mod writer;

pub use answer::{Fetch, Opening, Prefetch, ReadError};
pub use block::BLOCK_BYTES;
pub use config::DiskConfig;
pub use disk::Disk;
pub use file::FileMeta;
pub use group::Along;
pub use handle::{BlockRef, FileHandle, OpenTicket};
pub use ledger::{DiskCounters, DiskLedger};
pub use root::{FileKind, OpenError, Root, Symlinks};
/// The error number of a failed system call.
pub use rustix::io::Errno;
pub use upload::loan::Loan;
pub use upload::{
    Precondition, Published, Space, TEMPORARY_PREFIX, TakeBlock, UploadBlock, UploadError,
    UploadHandle, UploadLimits, UploadOptions, UploadState, is_temporary_name,
};
