//! The open files: one entry per *version* of a file, shared by every handle to that version.
//!
//! A version is what statx(2) said when the file was opened: device, inode, size, mtime, ctime. Every block that is
//! read is followed by a comparison with it, so a block in the cache holds bytes of the version it is filed under and
//! a response is one version or is cut. An entry keeps its descriptor while it has handles or reads in flight. After
//! that the descriptor is closed, so that a deleted file's space comes back, and the entry itself stays while slots
//! last: the next open of the same version finds its blocks still cached.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Statx, StatxTimestamp};

use crate::answer::ReadError;
use crate::block::{BLOCK_BYTES, BLOCK_BYTES_U64};
use crate::handle::FileHandle;
use crate::index::Index;
use crate::list::{Links, List};
use crate::root::Opened;

/// Names one version of a file for the cache. Never used twice, so blocks of a forgotten version are never found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FileId(pub(crate) u64);

impl FileId {
    /// No file: the key of a block that never held anything.
    pub(crate) const NONE: FileId = FileId(0);
}

/// What is known about a file at the moment it was opened; identifies its version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileMeta {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, seconds since 1970 UTC (negative before).
    pub mtime_s: i64,
    /// Its fraction of a second in nanoseconds, `0..1_000_000_000`.
    pub mtime_ns: u32,
    ctime_s: i64,
    ctime_ns: u32,
    device: (u32, u32),
    inode: u64,
    links: u32,
}

/// How a file stands to the version that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drift {
    /// It is that version.
    Same,
    /// Same content, but the number of its names, and with it the ctime, changed: it was unlinked, replaced by
    /// rename(2), or got a hard link. The open descriptor still reads that version.
    Relinked,
    /// It is, or may be, another version.
    Changed(ReadError),
}

impl FileMeta {
    pub(crate) fn from_statx(stat: &Statx) -> FileMeta {
        let (mtime_s, mtime_ns) = seconds_and_ns(&stat.stx_mtime);
        let (ctime_s, ctime_ns) = seconds_and_ns(&stat.stx_ctime);
        FileMeta {
            size: stat.stx_size,
            mtime_s,
            mtime_ns,
            ctime_s,
            ctime_ns,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            links: stat.stx_nlink,
        }
    }

    /// How many blocks the file has: its size in units of [`BLOCK_BYTES`], rounded up.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK_BYTES_U64)
    }

    /// How many bytes block `block` has: [`BLOCK_BYTES`], fewer for the last, none behind the end.
    pub(crate) fn block_len(&self, block: u64) -> usize {
        let start = block.saturating_mul(BLOCK_BYTES_U64);
        let len = self.size.saturating_sub(start).min(BLOCK_BYTES_U64);
        usize::try_from(len).unwrap_or(BLOCK_BYTES)
    }

    /// Time of the last change of the inode, seconds since 1970 UTC.
    pub(crate) fn ctime_s(&self) -> i64 {
        self.ctime_s
    }

    /// Whether both are versions of one inode.
    pub(crate) fn is_same_inode(&self, other: &FileMeta) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether anything leads to it still.
    pub(crate) fn has_names(&self) -> bool {
        self.links > 0
    }

    /// Compares the version that was opened (`self`) with the file as it is `now`.
    pub(crate) fn drift(&self, now: &FileMeta) -> Drift {
        if self == now {
            return Drift::Same;
        }
        if now.size < self.size {
            return Drift::Changed(ReadError::Shrunk);
        }
        // Whoever rewrites a file can set its mtime back but not its ctime, so a new ctime means a new version,
        // unless the changed number of links explains it. (Rewritten, mtime restored and relinked, all between two
        // comparisons: not told apart. No tool does that.)
        let relinked = FileMeta {
            ctime_s: now.ctime_s,
            ctime_ns: now.ctime_ns,
            links: now.links,
            ..*self
        };
        if relinked == *now && self.links != now.links {
            Drift::Relinked
        } else {
            Drift::Changed(ReadError::Changed)
        }
    }
}

fn seconds_and_ns(time: &StatxTimestamp) -> (i64, u32) {
    (time.tv_sec, time.tv_nsec)
}

/// How the blocks of a file are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Through the page cache.
    Cached,
    /// Past it: the descriptor has O_DIRECT.
    Direct,
    /// Through the page cache, although it was to go past it.
    Refused,
}

struct Entry {
    id: FileId,
    meta: FileMeta,
    /// Open exactly while there are handles or loads.
    fd: Option<OwnedFd>,
    handles: u32,
    /// Reads in flight on helper threads, which borrow the descriptor.
    loads: u32,
    /// Whether a later open of the same version may find this entry.
    shared: bool,
    /// See [`Opened::settled`].
    settled: bool,
    way: Way,
    /// Whether the file system takes RWF_NOWAIT.
    nowait: bool,
    /// Whether the last read without waiting found all it asked for.
    warm: bool,
    /// Set once the file is known to be another version: every later read fails with it.
    broken: Option<ReadError>,
    /// The turn of the loop in which it was found to be this version last.
    confirmed: u64,
    /// Where in the cache the block was that was fetched last.
    fetched: u32,
}

/// A fixed number of entries.
pub(crate) struct FileTable {
    entries: Box<[Entry]>,
    index: Index,
    links: Links,
    free: List,
    /// Entries without descriptor, longest unused first.
    idle: List,
    open: u32,
    changed: u64,
    last_id: u64,
}

/// What became of a freshly opened file.
pub(crate) enum Adopted {
    /// It has its own entry now, or its descriptor went to an idle one.
    Own(FileHandle),
    /// An open entry has the same version: the new descriptor is not needed.
    Shared(FileHandle, OwnedFd),
    /// Every slot holds an open file.
    Full(Opened),
}

impl FileTable {
    /// A table for `slots` files open at once.
    pub(crate) fn new(slots: u32) -> FileTable {
        let nothing = || Entry {
            id: FileId::NONE,
            meta: FileMeta {
                size: 0,
                mtime_s: 0,
                mtime_ns: 0,
                ctime_s: 0,
                ctime_ns: 0,
                device: (0, 0),
                inode: 0,
                links: 0,
            },
            fd: None,
            handles: 0,
            loads: 0,
            shared: false,
            settled: false,
            way: Way::Cached,
            nowait: true,
            warm: false,
            broken: None,
            confirmed: 0,
            fetched: 0,
        };
        let mut links = Links::new(slots);
        FileTable {
            entries: (0..slots).map(|_| nothing()).collect(),
            index: Index::new(slots),
            free: List::of_all(&mut links, slots),
            links,
            idle: List::new(),
            open: 0,
            changed: 0,
            last_id: 0,
        }
    }

    /// Makes a handle for a file that was just opened.
    pub(crate) fn adopt(&mut self, opened: Opened) -> Adopted {
        let Opened { meta, settled, .. } = opened;
        let twin = self
            .index
            .find(&meta, |slot| self.entry(slot).meta == meta)
            .filter(|&slot| self.may_join(slot, settled));
        if let Some(slot) = twin {
            let entry = self.entry_mut(slot);
            entry.handles += 1;
            if entry.fd.is_some() {
                return Adopted::Shared(FileHandle(slot), opened.fd);
            }
            entry.fd = Some(opened.fd);
            self.idle.remove(&mut self.links, slot);
            self.open += 1;
            return Adopted::Own(FileHandle(slot));
        }
        let Some(slot) = self.free_slot() else {
            return Adopted::Full(opened);
        };
        self.last_id += 1;
        *self.entry_mut(slot) = Entry {
            id: FileId(self.last_id),
            meta,
            fd: Some(opened.fd),
            handles: 1,
            loads: 0,
            shared: true,
            settled,
            way: Way::Cached,
            nowait: true,
            warm: false,
            broken: None,
            confirmed: 0,
            fetched: 0,
        };
        self.index.insert(&meta, slot);
        self.open += 1;
        Adopted::Own(FileHandle(slot))
    }

    /// One more handle for the version `id` in `slot`, if somebody has it open and it may be shared.
    pub(crate) fn join(&mut self, slot: u32, id: FileId) -> Option<FileHandle> {
        let entry = self.entry_mut(slot);
        let may = entry.id == id && entry.fd.is_some() && entry.shared;
        may.then(|| {
            entry.handles += 1;
            FileHandle(slot)
        })
    }

    /// An entry made while the file was freshly changed is left to its present users once an open finds the same
    /// version settled: only blocks read from then on are beyond doubt.
    fn may_join(&mut self, slot: u32, settled: bool) -> bool {
        let join = self.entry(slot).settled || !settled;
        if !join {
            self.unshare(slot);
        }
        join
    }

    /// Ends a handle. Returns the descriptor if nobody needs it any more.
    pub(crate) fn close(&mut self, handle: FileHandle) -> Option<OwnedFd> {
        let entry = self.entry_mut(handle.0);
        debug_assert!(entry.handles > 0, "file {} has no handle", handle.0);
        entry.handles = entry.handles.saturating_sub(1);
        self.rest(handle.0)
    }

    /// Lends the descriptor to a read on a helper thread, until [`FileTable::end_load`]. `None` if it is closed.
    pub(crate) fn begin_load(&mut self, slot: u32) -> Option<BorrowedFd<'static>> {
        let entry = self.entry_mut(slot);
        let raw = entry.fd.as_ref()?.as_raw_fd();
        entry.loads += 1;
        // SAFETY: `raw` is open now and stays so for as long as the borrow is used: `rest` is the only place that
        // closes an entry's descriptor and does not while `loads` counts this borrow, which `end_load` takes back
        // after the helper is done. When the table itself goes, `Disk::drop` has joined the helpers before.
        Some(unsafe { BorrowedFd::borrow_raw(raw) })
    }

    /// Ends a read. Returns the descriptor if nobody needs it any more.
    pub(crate) fn end_load(&mut self, slot: u32) -> Option<OwnedFd> {
        let entry = self.entry_mut(slot);
        debug_assert!(entry.loads > 0, "file {slot} has no read in flight");
        entry.loads = entry.loads.saturating_sub(1);
        self.rest(slot)
    }

    /// Compares the version of `slot` with the file as it is `now`.
    ///
    /// # Errors
    /// The file is another version. So say all later reads of this entry.
    pub(crate) fn confirm(&mut self, slot: u32, now: &FileMeta) -> Result<(), ReadError> {
        match self.entry(slot).meta.drift(now) {
            Drift::Same => Ok(()),
            Drift::Relinked => {
                // Its name now leads elsewhere: an open that meets this inode by another name starts afresh.
                self.unshare(slot);
                self.entry_mut(slot).meta = *now;
                Ok(())
            }
            Drift::Changed(error) => {
                self.condemn(slot, error);
                Err(error)
            }
        }
    }

    /// In turn `turn` the file was seen to be this version.
    pub(crate) fn note_confirmed(&mut self, slot: u32, turn: u64) {
        self.entry_mut(slot).confirmed = turn;
    }

    /// The last such turn.
    pub(crate) fn confirmed(&self, slot: u32) -> u64 {
        self.entry(slot).confirmed
    }

    /// The block that was fetched last is in `block` of the cache.
    pub(crate) fn note_fetched(&mut self, slot: u32, block: u32) {
        self.entry_mut(slot).fetched = block;
    }

    /// Where the block was that was fetched last; any other may be there by now.
    pub(crate) fn fetched(&self, slot: u32) -> u32 {
        self.entry(slot).fetched
    }

    /// Lets every later read of this entry fail with `error`.
    pub(crate) fn condemn(&mut self, slot: u32, error: ReadError) {
        self.unshare(slot);
        let broken = &mut self.entry_mut(slot).broken;
        if broken.is_none() {
            *broken = Some(error);
            self.changed += 1;
        }
    }

    /// Why nothing can be read from this entry any more, if so.
    pub(crate) fn broken(&self, slot: u32) -> Option<ReadError> {
        self.entry(slot).broken
    }

    pub(crate) fn id(&self, slot: u32) -> FileId {
        self.entry(slot).id
    }

    pub(crate) fn meta(&self, slot: u32) -> &FileMeta {
        &self.entry(slot).meta
    }

    /// The descriptor, open while there is a handle.
    pub(crate) fn fd(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.entry(slot).fd.as_ref().map(AsFd::as_fd)
    }

    /// How it is read.
    pub(crate) fn way(&self, slot: u32) -> Way {
        self.entry(slot).way
    }

    /// Has it read so from now on.
    pub(crate) fn set_way(&mut self, slot: u32, way: Way) {
        self.entry_mut(slot).way = way;
    }

    /// Whether the file system takes RWF_NOWAIT, as far as known.
    pub(crate) fn nowait(&self, slot: u32) -> bool {
        self.entry(slot).nowait
    }

    /// Remembers that it does not.
    pub(crate) fn never_nowait(&mut self, slot: u32) {
        self.entry_mut(slot).nowait = false;
    }

    /// Whether the file is in the page cache, as far as the last read shows.
    pub(crate) fn is_warm(&self, slot: u32) -> bool {
        self.entry(slot).warm
    }

    /// A read without waiting found all it asked for, or not.
    pub(crate) fn note_warm(&mut self, slot: u32, is_warm: bool) {
        self.entry_mut(slot).warm = is_warm;
    }

    /// How many entries hold a descriptor.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// How many entries were condemned.
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }

    /// Puts an entry without users to rest.
    fn rest(&mut self, slot: u32) -> Option<OwnedFd> {
        let entry = self.entry_mut(slot);
        if entry.handles > 0 || entry.loads > 0 {
            return None;
        }
        let fd = entry.fd.take()?;
        // Without the descriptor the inode number can be given to a new file. That file's ctime differs, unless all
        // of it happened within one tick of the clock: hence only settled versions are remembered.
        let remember = entry.shared && entry.settled;
        self.open -= 1;
        if remember {
            self.idle.push_back(&mut self.links, slot);
        } else {
            self.unshare(slot);
            self.free.push_back(&mut self.links, slot);
        }
        Some(fd)
    }

    /// A slot for a new entry, from the longest unused one if need be.
    fn free_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop_front(&mut self.links) {
            return Some(slot);
        }
        let slot = self.idle.pop_front(&mut self.links)?;
        self.unshare(slot);
        Some(slot)
    }

    fn unshare(&mut self, slot: u32) {
        if !self.entry(slot).shared {
            return;
        }
        let meta = self.entry(slot).meta;
        self.index.remove(&meta, slot);
        self.entry_mut(slot).shared = false;
    }

    fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }
}

#[cfg(test)]
mod tests;
