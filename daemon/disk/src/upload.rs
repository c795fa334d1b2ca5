//! Uploads: what a caller asks for, holds and is told.
//!
//! The bytes go to a file without a name (O_TMPFILE) in the directory of the target and are on disk before the name
//! is: fdatasync, then linkat or rename, then fsync of the directory. So a name leads to the old version or to the
//! new one, never to half of one, whenever the machine stops; whoever has the old version open keeps it.
//!
//! Where the file system has no O_TMPFILE (NFS, FAT), the file has a name with [`TEMPORARY_PREFIX`] meanwhile; so it
//! has for the moment between linkat and rename when another file is replaced. Only a crash leaves such a name
//! behind. They are never served, whatever a request asks for, and an operator may delete those of yesterday.

pub(crate) mod loan;
pub(crate) mod scratch;
pub(crate) mod table;
pub(crate) mod target;

use std::fmt;

use rustix::io::Errno;

#[cfg(doc)]
use crate::Disk;
use crate::block::LoadBuffer;
use crate::file::FileMeta;

/// How the names of unfinished uploads begin, where they need one. [`crate::Root`] finds no file of such a name, and a
/// listing should skip them ([`is_temporary_name`]).
pub const TEMPORARY_PREFIX: &str = ".sluice-upload-";

/// Whether `name`, one component of a path, is kept for unfinished uploads.
#[must_use]
pub fn is_temporary_name(name: &[u8]) -> bool {
    name.starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Sizes of the upload side of a [`Disk`], fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UploadLimits {
    /// Uploads at once, each with two descriptors, a name buffer of 4 KiB and some hundred bytes. 0: this disk takes
    /// none, and the other numbers do not matter.
    pub uploads: usize,
    /// Threads of their own for uploads, at least 1: a slow fdatasync must not hold up reads. An upload keeps one busy
    /// at most.
    pub threads: usize,
    /// Blocks that all uploads together hold, at least 1; never more than half of all blocks, so that uploads leave
    /// room for downloads.
    pub blocks: usize,
    /// Blocks that one upload holds, at least 1; 2 let the network and the disk work at the same time.
    pub blocks_each: usize,
    /// Pieces of the caller's own memory that all uploads together may have lent ([`Disk::submit_loan`]).
    pub loans: usize,
}

impl UploadLimits {
    /// No uploads: [`Disk::begin_upload`] answers [`UploadError::TooMany`], and no thread is started.
    pub const NONE: UploadLimits = UploadLimits {
        uploads: 0,
        threads: 0,
        blocks: 0,
        blocks_each: 0,
        loans: 0,
    };
}

/// What must be true of the target for the upload to be published. Tested when the upload begins, so that nobody sends
/// gigabytes in vain, and again immediately before the name changes. Uploads by way of clones of one
/// [`Root`](crate::Root) exclude each other there; between the test and a change by somebody else (a shell) there are
/// some microseconds that the kernel has no means to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precondition {
    /// Nothing: creates the file or replaces it.
    #[default]
    None,
    /// No file of that name (`If-None-Match: *`). Exact against everybody.
    Absent,
    /// A file of that name (`If-Match: *`).
    Present,
    /// The file is this version (`If-Match` with an entity tag, after the caller opened the file and compared its tag).
    Version(FileMeta),
}

/// What is known about the length of an upload when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Space {
    /// Nothing.
    #[default]
    Unknown,
    /// It will be so many bytes long: refused at once if the file system has fewer to give. Reserves nothing.
    Expected(u64),
    /// The same, and the space is taken from the file system at once (fallocate(2), where it has that), so that the
    /// upload cannot fail for want of it later. Whoever may ask for this can hold space without sending a byte.
    Reserved(u64),
}

/// How an upload is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UploadOptions {
    /// What must be true of the target.
    pub precondition: Precondition,
    /// What is known about the length.
    pub space: Space,
    /// Permission bits of the new file, `0..=0o777`; those of the process's umask are taken off. A replaced file's
    /// permissions and owner are not inherited.
    pub mode: u32,
}

impl Default for UploadOptions {
    fn default() -> UploadOptions {
        UploadOptions {
            precondition: Precondition::None,
            space: Space::Unknown,
            mode: 0o666,
        }
    }
}

/// An upload. Linear like the other handles: give it back with [`Disk::end_upload`], or its slot is lost.
#[must_use = "an upload that is not ended keeps its slot"]
#[derive(Debug, PartialEq, Eq)]
pub struct UploadHandle(pub(crate) u32);

/// A block of memory to be filled with bytes of an upload. Linear: give it back with [`Disk::submit`] or
/// [`Disk::return_block`], or the block is lost.
#[must_use = "a block that is neither submitted nor returned is lost"]
pub struct UploadBlock {
    pub(crate) buffer: LoadBuffer,
    pub(crate) upload: u32,
}

impl UploadBlock {
    /// Its [`BLOCK_BYTES`](crate::BLOCK_BYTES), with whatever was in them before.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.bytes_mut()
    }
}

impl fmt::Debug for UploadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadBlock")
            .field("block", &self.buffer.block())
            .field("upload", &self.upload)
            .finish()
    }
}

/// The answer to [`Disk::upload_block`].
#[must_use]
#[derive(Debug)]
pub enum TakeBlock {
    /// A block to fill.
    Taken(UploadBlock),
    /// This upload or all uploads have their share, or every block is in use. Ask again after [`Disk::poll`] said so.
    NoBlock,
    /// The upload takes no more bytes: it failed, or [`Disk::finish_upload`] was called.
    Closed,
}

/// Where an upload stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadState {
    /// A helper thread looks for the directory and makes the file. Blocks are taken already, and written afterwards.
    Opening,
    /// The file is there and the precondition held so far: the moment for `100 Continue`.
    Writing,
    /// [`Disk::finish_upload`] was called; the rest is written and made durable.
    Publishing,
    /// The file is there under its name, and on disk with it.
    Published(Published),
    /// It failed, and nothing of it is left in the file system; but after [`UploadError::NotDurable`] the file is there.
    Failed(UploadError),
}

/// A published upload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Whether there was no file of that name before (201, not 200 or 204).
    pub created: bool,
    /// The new version: what an open of it will say, so that its entity tag can be told. Its modification time is a
    /// multiple of 100 ns only where the file system rounded it: then another upload may have left the same.
    pub meta: FileMeta,
}

/// Why an upload failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadError {
    /// The directory does not exist, or was removed meanwhile. No directory is made.
    NoDirectory,
    /// No file can have that name: too long, a NUL byte, or kept for unfinished uploads.
    BadName,
    /// There is a directory of that name, or the path can only mean one (empty, or with a slash or dots at its end).
    IsDirectory,
    /// There is a FIFO, socket or device of that name.
    NotAFile,
    /// The process may not write there (EACCES, EPERM), or a symbolic link is in the way: at the target always, above
    /// it as the root's [`Symlinks`](crate::Symlinks) say.
    Denied,
    /// The path leads out of the root (EXDEV).
    Escapes,
    /// [`Precondition::Absent`]: there is a file.
    Exists,
    /// [`Precondition::Present`] or [`Precondition::Version`]: there is no file, or another version.
    Changed,
    /// The file system is mounted read-only (EROFS).
    ReadOnly,
    /// No space is left (ENOSPC), or less than the upload needs.
    NoSpace,
    /// The quota of the user is used up (EDQUOT).
    Quota,
    /// The file would be larger than the file system or RLIMIT_FSIZE allows (EFBIG). (Crossing the limit also raises
    /// SIGXFSZ, which ends a process that does not ignore it.)
    TooLarge,
    /// Every upload slot is taken, or the process has no descriptor left (EMFILE, ENFILE): ask later.
    TooMany,
    /// The file system failed.
    Io(Errno),
    /// The file system failed when the file had its name: the new version is there, for how long nobody knows. A crash
    /// may bring the old one back.
    NotDurable(Errno),
}

impl UploadError {
    /// What an error number means of a file being written or published.
    pub(crate) fn from_errno(errno: Errno) -> UploadError {
        match errno {
            Errno::NAMETOOLONG => UploadError::BadName,
            Errno::ISDIR => UploadError::IsDirectory,
            Errno::ACCESS | Errno::PERM | Errno::LOOP => UploadError::Denied,
            Errno::XDEV => UploadError::Escapes,
            Errno::ROFS => UploadError::ReadOnly,
            Errno::NOSPC => UploadError::NoSpace,
            Errno::DQUOT => UploadError::Quota,
            Errno::FBIG => UploadError::TooLarge,
            Errno::MFILE | Errno::NFILE => UploadError::TooMany,
            other => UploadError::Io(other),
        }
    }
}
