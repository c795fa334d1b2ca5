//! The directory that is served, and opening a name below it.
//!
//! All containment is the kernel's: openat2(2) with RESOLVE_BENEATH from the root's descriptor, so that neither `..`,
//! an absolute path, a symbolic link nor a rename during the walk leads outside. Magic links (`/proc/self/exe`) are
//! refused always, other links by choice. Only regular files come out. A name is tried with RESOLVE_CACHED first,
//! which answers from the dentry cache or not at all; the blocking form belongs on a helper thread.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, openat2, statx,
};
use rustix::io::Errno;

use crate::file::FileMeta;
use crate::upload::is_temporary_name;

/// What a symbolic link below the root may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symlinks {
    /// Nothing: a path with a link in it is [`OpenError::Denied`].
    Never,
    /// Lead to another place below the root, by a relative path; any other link is [`OpenError::Escapes`].
    InsideRoot,
}

/// What a name that is not a regular file stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A FIFO, socket or device.
    Other,
}

/// Why a file could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// There is no such file (ENOENT, ENOTDIR), or no file can have such a name (ENAMETOOLONG, a NUL byte).
    NotFound,
    /// There is something else of that name.
    NotAFile(FileKind),
    /// The file may not be read (EACCES, EPERM), or a symbolic link is in the way (ELOOP; see [`Symlinks`]).
    Denied,
    /// The path leads out of the root (EXDEV).
    Escapes,
    /// Every file slot holds an open file, every ticket is taken, or the process has no descriptor left (EMFILE,
    /// ENFILE): the service is loaded to its limits, ask later.
    TooManyFiles,
    /// The file system failed.
    Io(Errno),
}

impl OpenError {
    fn from_errno(errno: Errno) -> OpenError {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => OpenError::NotFound,
            // A socket, or a device without driver: open(2).
            Errno::NXIO | Errno::NODEV => OpenError::NotAFile(FileKind::Other),
            Errno::ACCESS | Errno::PERM | Errno::LOOP => OpenError::Denied,
            Errno::XDEV => OpenError::Escapes,
            Errno::MFILE | Errno::NFILE => OpenError::TooManyFiles,
            other => OpenError::Io(other),
        }
    }
}

/// A directory whose files are served. Clones share one descriptor, on any thread.
#[derive(Clone, Debug)]
pub struct Root(Arc<RootDirectory>);

#[derive(Debug)]
struct RootDirectory {
    fd: OwnedFd,
    resolve: ResolveFlags,
    /// Held by the helper thread that gives an upload its name.
    publishing: Mutex<()>,
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    pub(crate) meta: FileMeta,
    /// Whether the last change is so long ago that every later one shows in the time stamps.
    pub(crate) settled: bool,
}

/// A file changed within the last two seconds can change again without a new time stamp: kernels before 6.13 stamp by
/// the tick (up to 10 ms), ext3 and NFSv2 by the second, FAT by two.
const SETTLED_AFTER_S: i64 = 2;

/// How often a walk is repeated that the kernel gave up because something was renamed meanwhile (EAGAIN, openat2(2)).
/// Only links with `..` in them are exposed to it; someone who renames for ever must not hold a helper thread.
const WALKS_MAX: u32 = 64;

impl Root {
    /// Opens the directory at `path` as a root. This is start-up work: it follows links and may block.
    ///
    /// # Errors
    /// Those of open(2), such as `NotFound` and `NotADirectory`.
    pub fn open(path: &Path, symlinks: Symlinks) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let contained = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let resolve = match symlinks {
            Symlinks::Never => contained | ResolveFlags::NO_SYMLINKS,
            Symlinks::InsideRoot => contained,
        };
        Ok(Root(Arc::new(RootDirectory {
            fd,
            resolve,
            publishing: Mutex::new(()),
        })))
    }

    /// Whether both are one root or clones of one.
    pub(crate) fn is(&self, other: &Root) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Opens `name` if that needs no I/O. `None`: it would block, or the walk must be repeated.
    pub(crate) fn open_cached(&self, name: &CStr) -> Option<Result<Opened, OpenError>> {
        match self.walk(name, ResolveFlags::CACHED) {
            Ok(fd) => Some(regular_file(fd, Freshness::Cached)),
            Err(Errno::AGAIN) => None,
            Err(errno) => Some(Err(OpenError::from_errno(errno))),
        }
    }

    /// Opens `name`, however long that takes.
    pub(crate) fn open_blocking(&self, name: &CStr) -> Result<Opened, OpenError> {
        match patiently(|| self.walk(name, ResolveFlags::empty())) {
            Ok(fd) => regular_file(fd, Freshness::Synced),
            Err(errno) => Err(OpenError::from_errno(errno)),
        }
    }

    /// Opens the directory `name` for uploads into it, however long that takes. fsync(2) needs it readable.
    pub(crate) fn open_directory(&self, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        patiently(|| openat2(&self.0.fd, name, flags, Mode::empty(), self.0.resolve))
    }

    /// Waits until no other upload by way of this root or its clones is given its name. For helper threads.
    pub(crate) fn publishing_turn(&self) -> MutexGuard<'_, ()> {
        // It guards no data: whoever panicked with it left nothing broken.
        self.0
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn walk(&self, name: &CStr, how: ResolveFlags) -> Result<OwnedFd, Errno> {
        let leaf = name.to_bytes().rsplit(|&byte| byte == b'/').next();
        if leaf.is_some_and(is_temporary_name) {
            return Err(Errno::NOENT);
        }
        // NONBLOCK: opening a FIFO must not wait for its writer. NOCTTY: a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        // An empty path names the root itself, as in a URL.
        let name = if name.is_empty() { c"." } else { name };
        openat2(&self.0.fd, name, flags, Mode::empty(), self.0.resolve | how)
    }
}

/// Whether a question about a file may go to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freshness {
    /// What this machine knows (AT_STATX_DONT_SYNC): never waits for a network. Exact on local file systems.
    Cached,
    /// As stat(2) has it.
    Synced,
}

/// Size, times and identity of an open file, and its type.
pub(crate) fn stat(
    fd: BorrowedFd<'_>,
    freshness: Freshness,
) -> Result<(FileMeta, FileType), Errno> {
    let sync = match freshness {
        Freshness::Cached => AtFlags::STATX_DONT_SYNC,
        Freshness::Synced => AtFlags::STATX_SYNC_AS_STAT,
    };
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH | sync, StatxFlags::BASIC_STATS)?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    Ok((FileMeta::from_statx(&stat), kind))
}

/// The same for what is called `name` in `directory`, a symbolic link included.
pub(crate) fn stat_at(
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<(FileMeta, FileType), Errno> {
    let stat = statx(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    Ok((FileMeta::from_statx(&stat), kind))
}

/// Repeats a walk that the kernel gave up.
fn patiently(walk: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 1..WALKS_MAX {
        match walk() {
            Err(Errno::AGAIN | Errno::INTR) => thread::yield_now(),
            answer => return answer,
        }
    }
    walk()
}

fn regular_file(fd: OwnedFd, freshness: Freshness) -> Result<Opened, OpenError> {
    let (meta, kind) = stat(fd.as_fd(), freshness).map_err(OpenError::from_errno)?;
    match kind {
        FileType::RegularFile => Ok(Opened {
            settled: settled(&meta),
            fd,
            meta,
        }),
        FileType::Directory => Err(OpenError::NotAFile(FileKind::Directory)),
        _ => Err(OpenError::NotAFile(FileKind::Other)),
    }
}

/// The clock is read here and nowhere else in the crate: this is the edge where time stamps come in and go out. 1970 for
/// a clock that stands before it.
pub(crate) fn realtime() -> Timespec {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    Timespec {
        tv_sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: now.subsec_nanos().into(),
    }
}

/// A clock before the file's makes the file unsettled, which is always right, only slower.
fn settled(meta: &FileMeta) -> bool {
    realtime().tv_sec.saturating_sub(meta.ctime_s()) > SETTLED_AFTER_S
}

#[cfg(test)]
mod tests;
