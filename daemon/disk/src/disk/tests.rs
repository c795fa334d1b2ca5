//! Real files in a temporary directory; helper threads frozen where a test needs a moment in between.

mod changes;
mod direct;
mod groups;
mod helpers;
mod random;
mod sharing;
mod turns;
mod uploads;
mod uploads_random;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use tempfile::TempDir;

use super::*;
use crate::block::BLOCK_BYTES_U64;
use crate::reader::{NoWait, read_nowait};
use crate::root::{Freshness, Opened, stat};
use crate::{
    Along, Errno, Fetch, FileKind, OpenError, OpenTicket, Opening, Prefetch, ReadError, Root,
    Symlinks, UploadLimits,
};

/// How long a test waits for a helper thread before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Room for 4 files and 8 jobs, and 2 helpers.
const SMALL: DiskConfig = DiskConfig {
    threads: 2,
    files: 4,
    queue_depth: 8,
    direct_above: None,
    uploads: UploadLimits::NONE,
};

/// A directory of files and a disk over it. When it goes, nothing may be left over.
struct Rig {
    dir: TempDir,
    root: Root,
    disk: Disk,
}

impl Rig {
    /// A [`SMALL`] disk with `blocks` blocks.
    fn new(blocks: usize) -> Rig {
        Rig::with(blocks, &SMALL)
    }

    fn with(blocks: usize, config: &DiskConfig) -> Rig {
        let dir = TempDir::new().expect("a temporary directory");
        let root = Root::open(dir.path(), Symlinks::Never).expect("the root opens");
        let disk = Disk::anonymous(blocks * BLOCK_BYTES, config).expect("a disk");
        Rig { dir, root, disk }
    }

    /// Drops the disk, with another one in its place; everything must be closed when drop returns.
    fn drop_disk(&mut self) {
        let other = Disk::anonymous(BLOCK_BYTES, &SMALL).expect("a disk");
        drop(std::mem::replace(&mut self.disk, other));
        assert_eq!(self.descriptors(), 0, "nothing is open when drop returns");
    }

    /// As [`Rig::new`], but everything goes by the helper threads.
    fn by_helpers(blocks: usize) -> Rig {
        let mut rig = Rig::new(blocks);
        rig.disk.inline = Inline {
            opens: false,
            bytes: 0,
        };
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of `size` bytes of [`content`], clean on disk.
    fn write(&self, name: &str, seed: u8, size: usize) -> Vec<u8> {
        let bytes = content(seed, size);
        fs::write(self.path(name), &bytes).expect("the file is written");
        bytes
    }

    /// Drops the file from the page cache, where the file system has such a thing.
    fn make_cold(&self, name: &str) {
        let file = fs::File::open(self.path(name)).expect("the file opens");
        file.sync_all().expect("only clean pages can be dropped");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    }

    /// Opens in a turn of its own: what other turns saw does not count.
    fn try_open(&mut self, name: &str) -> Result<FileHandle, OpenError> {
        self.disk.poll();
        self.try_open_now(name)
    }

    /// Opens in the present turn, unless that takes a helper.
    fn try_open_now(&mut self, name: &str) -> Result<FileHandle, OpenError> {
        let mut ticket = match self.disk.open(&self.root, name.as_bytes()) {
            Opening::Done(answer) => return answer,
            Opening::Pending(ticket) => ticket,
        };
        loop {
            match self.disk.opened(ticket) {
                Ok(answer) => return answer,
                Err(pending) => ticket = pending,
            }
            self.wait();
        }
    }

    fn open(&mut self, name: &str) -> FileHandle {
        self.try_open(name).expect("the file opens")
    }

    /// Sleeps until the wake-up descriptor says there is news, and takes it.
    fn wait(&mut self) {
        self.disk.end_turn(false);
        assert!(self.is_awake(PATIENCE), "no news from the helpers");
        self.disk.poll();
    }

    fn is_awake(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.disk.wake_fd(), PollFlags::IN)];
        let patience = Timespec::try_from(patience).expect("a short time");
        rustix::event::poll(&mut fds, Some(&patience)).expect("poll") > 0
    }

    /// Fetches until the answer is final.
    fn try_fetch(&mut self, file: &FileHandle, block: u64) -> Result<BlockRef, ReadError> {
        loop {
            match self.disk.fetch(file, block) {
                Fetch::Ready(block) => return Ok(block),
                Fetch::Failed(error) => return Err(error),
                Fetch::Pending | Fetch::NextTurn => self.wait(),
                Fetch::NoBlock => panic!("every block is pinned"),
            }
        }
    }

    fn fetch(&mut self, file: &FileHandle, block: u64) -> BlockRef {
        self.try_fetch(file, block).expect("the block is read")
    }

    fn read_block(&mut self, file: &FileHandle, block: u64) -> Result<Vec<u8>, ReadError> {
        let block = self.try_fetch(file, block)?;
        let bytes = self.disk.bytes(&block).to_vec();
        self.disk.release(block);
        Ok(bytes)
    }

    /// The whole file, one block after the other.
    fn read(&mut self, file: &FileHandle) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        for block in 0..self.disk.meta(file).blocks() {
            bytes.extend(self.read_block(file, block)?);
        }
        Ok(bytes)
    }

    /// Whether RWF_NOWAIT works here, so that the path taken can be asserted.
    fn has_nowait(&self) -> bool {
        let probe = self.path("probe");
        fs::write(&probe, "x").expect("the probe is written");
        let file = fs::File::open(&probe).expect("the probe opens");
        let mut byte = [0];
        let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
        let answer = read_nowait(std::os::fd::AsFd::as_fd(&file), &mut buffers, 0);
        if matches!(answer, Err(NoWait::Unsupported)) {
            eprintln!("the temporary directory has no RWF_NOWAIT: inline reads are not asserted");
            return false;
        }
        true
    }

    /// The descriptors of this process that lead to files of this test.
    fn descriptors(&self) -> usize {
        let links = fs::read_dir("/proc/self/fd").expect("procfs");
        let ours = |entry: std::io::Result<fs::DirEntry>| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            // The root itself is one, too.
            (target != self.dir.path() && target.starts_with(self.dir.path())).then_some(())
        };
        links.filter_map(ours).count()
    }

    /// Lets `done` come true by polling the disk.
    fn poll_until(&mut self, what: &str, done: impl Fn(&Rig) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "not yet: {what}");
            self.disk.end_turn(false);
            self.disk.poll();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.disk.helpers.gate().set_closed(false);
        self.poll_until("the ledger is back to its base", |rig| {
            rig.disk.ledger().at_rest()
        });
        self.poll_until("all descriptors are closed", |rig| rig.descriptors() == 0);
    }
}

/// `size` bytes that differ from block to block and from seed to seed.
fn content(seed: u8, size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| {
            let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
            u8::try_from(mixed).unwrap_or(0) ^ seed
        })
        .collect()
}

/// Time stamps of kernels before 6.13 advance by ticks: a change within the same tick would not show.
fn let_the_clock_tick() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_disk_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Disk>();
    assert_send::<Root>();
}

#[test]
fn sizes_of_zero_are_refused() {
    let good = DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 1,
        direct_above: None,
        uploads: UploadLimits::NONE,
    };
    for bad in [
        DiskConfig { threads: 0, ..good },
        DiskConfig { files: 0, ..good },
        DiskConfig {
            queue_depth: 0,
            ..good
        },
    ] {
        let error = Disk::anonymous(BLOCK_BYTES, &bad).expect_err("not a usable size");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
    }
    assert!(Disk::anonymous(0, &good).is_err());
}

#[test]
fn a_warm_file_is_read_on_the_callers_thread() {
    let mut rig = Rig::new(4);
    let bytes = rig.write("file", 1, 2 * BLOCK_BYTES + 100);
    let file = rig.open("file");
    assert_eq!(rig.read(&file), Ok(bytes));
    if rig.has_nowait() {
        let counters = rig.disk.counters();
        assert_eq!((counters.reads_inline, counters.reads_helper), (3, 0));
        assert_eq!(counters.bytes_inline, 2 * BLOCK_BYTES_U64 + 100);
        assert_eq!((counters.read_calls, counters.version_checks), (3, 3));
    }
    rig.disk.close(file);
}

#[test]
fn a_cold_file_is_read_whole() {
    let mut rig = Rig::new(4);
    let bytes = rig.write("file", 2, 9 * BLOCK_BYTES + 1);
    rig.make_cold("file");
    let file = rig.open("file");
    assert_eq!(rig.read(&file), Ok(bytes));
    let counters = rig.disk.counters();
    assert_eq!(
        counters.bytes_inline + counters.bytes_helper,
        9 * BLOCK_BYTES_U64 + 1
    );
    rig.disk.close(file);
}

#[test]
fn the_last_block_is_as_short_as_the_rest_of_the_file() {
    let mut rig = Rig::new(2);
    let bytes = rig.write("file", 3, BLOCK_BYTES + 7);
    let file = rig.open("file");
    assert_eq!(rig.disk.meta(&file).blocks(), 2);
    let last = rig.fetch(&file, 1);
    assert_eq!(rig.disk.bytes(&last), &bytes[BLOCK_BYTES..]);
    rig.disk.release(last);
    rig.disk.close(file);
}

#[test]
fn a_block_behind_the_end_is_an_error() {
    let mut rig = Rig::new(1);
    rig.write("empty", 0, 0);
    rig.write("one", 0, BLOCK_BYTES);
    let empty = rig.open("empty");
    let one = rig.open("one");
    assert_eq!(rig.try_fetch(&empty, 0), Err(ReadError::Shrunk));
    assert_eq!(rig.try_fetch(&one, 1), Err(ReadError::Shrunk));
    assert_eq!(rig.try_fetch(&one, u64::MAX), Err(ReadError::Shrunk));
    rig.disk.prefetch(&one, u64::MAX);
    assert!(rig.read(&one).is_ok(), "the handle is not harmed");
    rig.disk.close(empty);
    rig.disk.close(one);
}

#[test]
fn what_cannot_be_opened_says_why_by_either_way() {
    for mut rig in [Rig::new(1), Rig::by_helpers(1)] {
        fs::create_dir(rig.path("sub")).expect("a directory");
        std::os::unix::fs::symlink("sub", rig.path("link")).expect("a link");
        let fifo = rig.path("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("a FIFO");
        let directory = OpenError::NotAFile(FileKind::Directory);
        let other = OpenError::NotAFile(FileKind::Other);
        assert_eq!(rig.try_open("nothing"), Err(OpenError::NotFound));
        assert_eq!(rig.try_open("a\0b"), Err(OpenError::NotFound));
        assert_eq!(rig.try_open(&"a".repeat(5000)), Err(OpenError::NotFound));
        assert_eq!(rig.try_open("sub"), Err(directory));
        assert_eq!(rig.try_open(""), Err(directory));
        assert_eq!(rig.try_open("fifo"), Err(other));
        assert_eq!(rig.try_open("link/file"), Err(OpenError::Denied));
        assert_eq!(rig.try_open("../secret"), Err(OpenError::Escapes));
        assert_eq!(rig.try_open("/etc/passwd"), Err(OpenError::Escapes));
    }
}

#[test]
fn more_files_than_slots_are_refused_until_one_is_closed() {
    let mut rig = Rig::new(1);
    for number in 0..5 {
        rig.write(&format!("{number}"), number, 10);
    }
    let mut open: Vec<FileHandle> = (0..4)
        .map(|number| rig.open(&format!("{number}")))
        .collect();
    assert_eq!(rig.try_open("4"), Err(OpenError::TooManyFiles));
    assert_eq!(rig.disk.ledger().files_open, 4);
    let first = open.remove(0);
    rig.disk.close(first);
    open.push(rig.open("4"));
    for file in open {
        rig.disk.close(file);
    }
}

#[test]
fn more_fetches_than_blocks_wait_for_a_release() {
    let mut rig = Rig::new(2);
    let bytes = rig.write("file", 4, 3 * BLOCK_BYTES);
    let file = rig.open("file");
    let first = rig.fetch(&file, 0);
    let second = rig.fetch(&file, 1);
    assert!(matches!(rig.disk.fetch(&file, 2), Fetch::NoBlock));
    assert_eq!(rig.disk.counters().no_block, 1);
    rig.disk.release(first);
    let third = rig.fetch(&file, 2);
    assert_eq!(
        rig.disk.bytes(&second),
        &bytes[BLOCK_BYTES..2 * BLOCK_BYTES]
    );
    assert_eq!(rig.disk.bytes(&third), &bytes[2 * BLOCK_BYTES..]);
    rig.disk.release(second);
    rig.disk.release(third);
    rig.disk.close(file);
}

#[test]
fn blocks_outlive_their_handle() {
    let mut rig = Rig::new(1);
    let bytes = rig.write("file", 5, 1000);
    let file = rig.open("file");
    let block = rig.fetch(&file, 0);
    rig.disk.close(file);
    rig.disk.end_turn(false);
    assert_eq!(rig.disk.ledger().files_open, 0);
    assert_eq!(rig.disk.bytes(&block), bytes);
    rig.disk.release(block);
}

#[test]
fn given_memory_serves_as_well_as_mapped_memory() {
    let mut rig = Rig::new(1);
    let memory = vec![0; 2 * BLOCK_BYTES].leak();
    let config = DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 1,
        direct_above: None,
        uploads: UploadLimits::NONE,
    };
    rig.disk = Disk::new(memory, &config).expect("a disk");
    let bytes = rig.write("file", 6, 2 * BLOCK_BYTES);
    let file = rig.open("file");
    assert_eq!(rig.disk.ledger().blocks_total, 2);
    assert_eq!(rig.read(&file), Ok(bytes));
    rig.disk.close(file);
}

#[test]
fn a_failed_read_is_told_and_tried_again() {
    for inline_bytes in [0, BLOCK_BYTES] {
        let mut rig = Rig::new(1);
        rig.disk.inline.bytes = inline_bytes;
        rig.write("file", 7, 1000);
        let path = rig.path("file");
        // A descriptor that cannot be read stands for a disk that cannot.
        let write_only = fs::File::options().write(true).open(path).expect("open");
        let fd = OwnedFd::from(write_only);
        let (meta, _) = stat(std::os::fd::AsFd::as_fd(&fd), Freshness::Synced).expect("stat");
        let settled = false;
        let file = rig.disk.adopt(Opened { fd, meta, settled }).expect("room");
        for errors in 1..3 {
            let failed = rig.try_fetch(&file, 0);
            assert_eq!(failed, Err(ReadError::Io(Errno::BADF)));
            assert_eq!(rig.disk.counters().read_errors, errors);
        }
        rig.disk.close(file);
    }
}
