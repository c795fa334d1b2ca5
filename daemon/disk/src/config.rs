//! The sizes of a disk, and which of them make sense.

use std::io;

use crate::upload::UploadLimits;

/// Sizes of a [`Disk`](crate::Disk), fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskConfig {
    /// Helper threads, at least 1: how many slow reads and opens proceed at the same time.
    pub threads: usize,
    /// Versions of files open at once, at least 1; each holds one descriptor. Further ones are
    /// [`OpenError::TooManyFiles`](crate::OpenError::TooManyFiles).
    pub files: usize,
    /// Reads in flight on helper threads, at least 1, and as many opens. An open costs a name buffer of 4 KiB.
    pub queue_depth: usize,
    /// Files of so many bytes and more are read with O_DIRECT, past the page cache: up to eight blocks by one read of a helper
    /// thread. `None` for none. It costs 200 bytes for each of `queue_depth`.
    pub direct_above: Option<u64>,
    /// How much of uploads, [`UploadLimits::NONE`] for a disk that only serves.
    pub uploads: UploadLimits,
}

/// The lengths of a disk's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableSizes {
    pub files: u32,
    pub queue_depth: u32,
    /// None for a disk that only serves.
    pub uploads: u32,
}

impl DiskConfig {
    /// # Errors
    /// `InvalidInput` if a number is 0 or above 2^30.
    pub(crate) fn table_sizes(&self) -> io::Result<TableSizes> {
        let files = table_size("files", self.files)?;
        let queue_depth = table_size("queue_depth", self.queue_depth)?;
        table_size("threads", self.threads)?;
        Ok(TableSizes {
            files,
            queue_depth,
            uploads: upload_slots(&self.uploads)?,
        })
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
