//! What a caller holds: files, blocks, and opens under way.
//!
//! All three are linear: not `Clone`, not `Copy`, made only by a [`Disk`] and given back to it. None has
//! a `Drop`, which could not reach the disk; what is lost stays visible in the [`DiskLedger`](crate::DiskLedger).
//! Each is the number of a slot, so that a connection can keep many.

#[cfg(doc)]
use crate::Disk;

/// An open file. Give it back with [`Disk::close`], or its slot is lost.
#[must_use = "a handle that is not closed keeps its file open"]
#[derive(Debug, PartialEq, Eq)]
pub struct FileHandle(pub(crate) u32);

impl FileHandle {
    /// The number of its slot, below [`DiskConfig::files`](crate::DiskConfig::files): the same for all handles to one
    /// version of a file, and for another file once they are closed.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.0 as usize
    }
}

/// A reference to a filled block. Give it back with [`Disk::release`], or the block is lost.
#[must_use = "a block that is not released stays pinned"]
#[derive(Debug, PartialEq, Eq)]
pub struct BlockRef(pub(crate) u32);

/// An open under way. Exchange it with [`Disk::opened`] or give it up with [`Disk::abandon`].
#[must_use = "a ticket that is neither redeemed nor abandoned is lost"]
#[derive(Debug, PartialEq, Eq)]
pub struct OpenTicket(pub(crate) u32);
