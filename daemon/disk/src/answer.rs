//! What a disk answers: at once, later, or why not.

use rustix::io::Errno;

#[cfg(doc)]
use crate::Disk;
use crate::handle::{BlockRef, FileHandle, OpenTicket};
use crate::root::OpenError;

/// The answer to [`Disk::open`].
#[must_use]
#[derive(Debug)]
pub enum Opening {
    /// Known at once.
    Done(Result<FileHandle, OpenError>),
    /// A helper thread walks the path: ask [`Disk::opened`] after [`Disk::poll`] said so.
    Pending(OpenTicket),
}

/// The answer to [`Disk::fetch`].
#[must_use]
#[derive(Debug)]
pub enum Fetch {
    /// The block, pinned.
    Ready(BlockRef),
    /// Being read: fetch again after [`Disk::poll`] said so.
    Pending,
    /// Enough was read in this turn: fetch again after [`Disk::poll`], which begins the next and says so.
    NextTurn,
    /// Every block is in use: fetch again after a release, or after [`Disk::poll`] said so.
    NoBlock,
    /// These bytes cannot be had.
    Failed(ReadError),
}

/// The answer to [`Disk::prefetch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefetch {
    /// It was in memory: a fetch will find it, as long as its memory is not needed for others.
    Here,
    /// A helper thread reads it.
    Coming {
        /// The number of the first block behind it that is not read with it.
        until: u64,
    },
    /// Nothing was begun: others have the blocks or the helper threads, enough was read in this turn, or the fetch will
    /// fail.
    Refused,
}

/// Why a block could not be read. What was fetched before is of one version and must not be continued from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// The file is shorter than it was, and every later fetch of it fails too; or it never had such a block.
    Shrunk,
    /// The file was written to (its size, mtime or ctime differs). Every later fetch of it fails too.
    Changed,
    /// The read failed. A later fetch tries again.
    Io(Errno),
}
