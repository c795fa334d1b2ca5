//! O_DIRECT into the blocks beside reads through the page cache, in turns: what `docs/decisions/010` quotes.
//!
//! `direct_reads FILE [ROUNDS] [READS] [PATTERN] [WAY]`: FILE, whose size must be a multiple of 64 KiB, is read cold at
//! random (READS blocks, 128 at a time), cold from begin to end, and from begin to end when all of it is in the page cache
//! (64 blocks at a time each). PATTERN and WAY choose those that begin so. `disk` is [`Disk`] as the daemon uses it,
//! `disk, direct` the same with `direct_above`, by 4 or 16 threads; where blocks follow one another they are told how far
//! the caller will go, as a connection tells them. The other ways have helper threads of the same kind and compare the
//! file's times after every read, too; `buffered` says how well these stand for the disk's. `uncached` is RWF_DONTCACHE
//! (Linux 6.14): through the page cache, but nothing that was not there before stays. Printed: medians over the rounds,
//! least and most of the rate, processor time of the loop and of the whole process, how much of the file was in the page
//! cache after.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::{ReadWriteFlags, preadv2};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use sluice_disk::{
    Along, BLOCK_BYTES, Disk, DiskConfig, Fetch, FileHandle, Opening, Root, Symlinks,
};

use support::{Clocks, Pool, Work, make_cold, shuffled, spread};

mod support;

const DONTCACHE: ReadWriteFlags =
    ReadWriteFlags::from_bits_retain(libc::RWF_DONTCACHE.cast_unsigned());
/// Linux 6.5; the same number on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;
const RANDOM_DEPTH: usize = 128;
const SEQUENTIAL_DEPTH: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Pattern {
    RandomCold,
    WholeCold,
    WholeWarm,
}

#[derive(Clone, Copy)]
enum Way {
    /// The daemon's: so many threads, with O_DIRECT or not.
    Disk { threads: usize, is_direct: bool },
    /// Four threads, RWF_NOWAIT on the loop's first.
    Cached(ReadWriteFlags),
    /// O_DIRECT, so many blocks in one read.
    Direct { threads: usize, run: usize },
}

const WAYS: [(&str, Way); 9] = [
    (
        "disk",
        Way::Disk {
            threads: 4,
            is_direct: false,
        },
    ),
    (
        "disk, direct",
        Way::Disk {
            threads: 4,
            is_direct: true,
        },
    ),
    (
        "disk, direct, 16",
        Way::Disk {
            threads: 16,
            is_direct: true,
        },
    ),
    ("buffered", Way::Cached(ReadWriteFlags::empty())),
    ("uncached", Way::Cached(DONTCACHE)),
    ("direct, 4 threads", Way::Direct { threads: 4, run: 1 }),
    (
        "direct, 16 threads",
        Way::Direct {
            threads: 16,
            run: 1,
        },
    ),
    ("direct, 4, 512 KiB", Way::Direct { threads: 4, run: 8 }),
    (
        "direct, 16, 512 KiB",
        Way::Direct {
            threads: 16,
            run: 8,
        },
    ),
];

/// What one run came to.
struct Figures {
    mib_per_s: f64,
    /// Processor time, s per GiB.
    of_loop: f64,
    of_all: f64,
    /// 99 % of the reads took no longer, us.
    p99: f64,
    cached_mib: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .expect("direct_reads FILE [ROUNDS] [READS] [PATTERN] [WAY]");
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |n| n.parse().expect("a number"))
    };
    let rounds: usize = number(5);
    let reads: usize = number(8000);
    let only = arguments.next().unwrap_or_default();
    let name = arguments.next().unwrap_or_default();
    let ways: Vec<(&str, Way)> = WAYS
        .into_iter()
        .filter(|(way, _)| way.starts_with(&name))
        .collect();
    let path = Path::new(&path);
    let size = std::fs::metadata(path).expect("the file").len();
    assert!(size.is_multiple_of(BLOCK_BYTES as u64), "whole blocks");
    let blocks = size / BLOCK_BYTES as u64;
    for pattern in [Pattern::RandomCold, Pattern::WholeCold, Pattern::WholeWarm] {
        if !format!("{pattern:?}").starts_with(&only) {
            continue;
        }
        let (order, depth): (Vec<u64>, usize) = match pattern {
            Pattern::RandomCold => (shuffled(blocks, reads), RANDOM_DEPTH),
            _ => ((0..blocks).collect(), SEQUENTIAL_DEPTH),
        };
        println!("{pattern:?}, {} of {blocks} blocks", order.len());
        let mut memory = huge_blocks(depth);
        let mut found: Vec<Vec<Figures>> = ways.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            // Every round begins with another one: what a way leaves behind is not always the next one's.
            for turn in 0..ways.len() {
                let at = (round + turn) % ways.len();
                let way = ways[at].1;
                if matches!(pattern, Pattern::RandomCold)
                    && matches!(way, Way::Direct { run, .. } if run > 1)
                {
                    continue;
                }
                // Also where it is dropped again: a virtual machine may have given free memory back to its host, and to get
                // that page by page costs more than reading.
                warm_up(path);
                if !matches!(pattern, Pattern::WholeWarm) {
                    make_cold(path);
                }
                found[at].push(measure(path, way, &order, &mut memory));
            }
        }
        print(&ways, &found);
    }
}

fn warm_up(path: &Path) {
    let mut file = File::open(path).expect("it opens");
    std::io::copy(&mut file, &mut std::io::sink()).expect("read");
}

fn print(ways: &[(&str, Way)], found: &[Vec<Figures>]) {
    println!("way                  MiB/s (least-most)   loop s/GiB  all s/GiB  p99 us  cached MiB");
    for ((name, _), found) in ways.iter().zip(found) {
        if found.is_empty() {
            continue;
        }
        let of = |value: fn(&Figures) -> f64| spread(found.iter().map(value).collect());
        let (rate, least, most) = of(|figures| figures.mib_per_s);
        println!(
            "{name:<20} {rate:>5.0} ({least:>5.0}-{most:>5.0})  {:>11.3}  {:>9.3}  {:>6.0}  {:>10.0}",
            of(|figures| figures.of_loop).0,
            of(|figures| figures.of_all).0,
            of(|figures| figures.p99).0,
            of(|figures| figures.cached_mib).0,
        );
    }
}

fn measure(path: &Path, way: Way, order: &[u64], blocks: &mut Vec<Block>) -> Figures {
    let mut waits = Vec::with_capacity(order.len());
    let began = match way {
        Way::Disk { threads, is_direct } => {
            by_disk(path, threads, is_direct, order, blocks.len(), &mut waits)
        }
        Way::Cached(flags) => by_pool(path, 4, 1, Some(flags), order, blocks, &mut waits),
        Way::Direct { threads, run } => {
            by_pool(path, threads, run, None, order, blocks, &mut waits)
        }
    };
    let (elapsed, of_loop, of_all) = began.until_now();
    let mib = (order.len() * BLOCK_BYTES) as f64 / f64::from(1 << 20);
    waits.sort_unstable();
    Figures {
        mib_per_s: mib / elapsed,
        of_loop: of_loop * 1024.0 / mib,
        of_all: of_all * 1024.0 / mib,
        p99: waits[(waits.len() - 1) * 99 / 100].as_secs_f64() * 1e6,
        cached_mib: cached_bytes(path) as f64 / f64::from(1 << 20),
    }
}

fn by_disk(
    path: &Path,
    threads: usize,
    is_direct: bool,
    order: &[u64],
    depth: usize,
    waits: &mut Vec<Duration>,
) -> Clocks {
    let config = DiskConfig {
        threads,
        files: 4,
        queue_depth: 1024,
        direct_above: is_direct.then_some(1),
        uploads: sluice_disk::UploadLimits::NONE,
    };
    let mut disk = Disk::anonymous(2 * depth * BLOCK_BYTES, &config).expect("a disk");
    let directory = path.parent().expect("a path");
    let name = path.file_name().expect("a name");
    let root = Root::open(directory, Symlinks::Never).expect("the root");
    let file = loop {
        match disk.open(&root, name.as_encoded_bytes()) {
            Opening::Done(file) => break file.expect("it opens"),
            Opening::Pending(ticket) => {
                sleep(&disk);
                disk.poll();
                disk.abandon(ticket);
            }
        }
    };
    let is_in_order = order.windows(2).all(|two| two[0] < two[1]);
    let along = |block: u64| match is_in_order {
        true => Along {
            wanted_until: block + depth as u64,
            ahead_until: block + depth as u64,
        },
        false => Along::NOTHING,
    };
    let began = Clocks::now();
    let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut rest = order.iter();
    loop {
        for _ in 0..waiting.len() {
            let (block, since) = waiting.pop_front().expect("counted");
            ask(
                &mut disk,
                &file,
                block,
                along(block),
                since,
                &mut waiting,
                waits,
            );
        }
        while waiting.len() < depth
            && let Some(&block) = rest.next()
        {
            ask(
                &mut disk,
                &file,
                block,
                along(block),
                Instant::now(),
                &mut waiting,
                waits,
            );
        }
        if waiting.is_empty() {
            break;
        }
        while !disk.poll() {
            sleep(&disk);
        }
    }
    disk.close(file);
    began
}

fn ask(
    disk: &mut Disk,
    file: &FileHandle,
    block: u64,
    along: Along,
    since: Instant,
    waiting: &mut VecDeque<(u64, Instant)>,
    waits: &mut Vec<Duration>,
) {
    match disk.fetch_along(file, block, along) {
        Fetch::Ready(found) => {
            waits.push(since.elapsed());
            disk.release(found);
        }
        Fetch::Pending | Fetch::NextTurn | Fetch::NoBlock => waiting.push_back((block, since)),
        Fetch::Failed(error) => panic!("{error:?}"),
    }
}

fn sleep(disk: &Disk) {
    let wake = disk.wake_fd();
    poll(&mut [PollFd::new(&wake, PollFlags::IN)], None).expect("poll");
}

/// A block in memory that is page aligned, as O_DIRECT wants it.
type Block = &'static mut [u8];

/// Blocks one behind the other in huge pages if there are any, as the daemon's are: the device gets longer pieces then.
fn huge_blocks(count: usize) -> Vec<Block> {
    let bytes = count * BLOCK_BYTES;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: without a hint no memory in use is replaced.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE) };
    let start = start.expect("memory");
    // SAFETY: it is the range just mapped, and only the size of its pages is asked for.
    unsafe { madvise(start, bytes, Advice::LinuxHugepage) }.expect("advice");
    // SAFETY: mapped just now for ever, zeros, and nobody else has it.
    let memory = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), bytes) };
    memory.fill(1);
    memory.chunks_mut(BLOCK_BYTES).collect()
}

/// Blocks that follow one another in the file.
struct Read {
    file: Arc<File>,
    blocks: Vec<Block>,
    first: u64,
    flags: ReadWriteFlags,
    since: Instant,
}

impl Read {
    /// Reads all of it and compares the times of the file, as the disk does; false if that would block.
    fn attempt(&mut self, more: ReadWriteFlags) -> bool {
        let offset = self.first * BLOCK_BYTES as u64;
        let want = self.blocks.len() * BLOCK_BYTES;
        let mut slices: Vec<IoSliceMut<'_>> = self
            .blocks
            .iter_mut()
            .map(|block| IoSliceMut::new(block))
            .collect();
        let read = preadv2(&*self.file, &mut slices, offset, self.flags | more);
        let is_whole = read == Ok(want);
        if is_whole {
            let none = c"";
            statx(
                &*self.file,
                none,
                AtFlags::EMPTY_PATH,
                StatxFlags::BASIC_STATS,
            )
            .expect("an open file");
        }
        is_whole
    }
}

impl Work for Read {
    fn run(&mut self) {
        assert!(self.attempt(ReadWriteFlags::empty()), "a whole read");
    }
}

/// `cached`: through the page cache, with these flags.
fn by_pool(
    path: &Path,
    threads: usize,
    run: usize,
    cached: Option<ReadWriteFlags>,
    order: &[u64],
    blocks: &mut Vec<Block>,
    waits: &mut Vec<Duration>,
) -> Clocks {
    let mut options = OpenOptions::new();
    options.read(true);
    if cached.is_none() {
        options.custom_flags(libc::O_DIRECT);
    }
    let file = Arc::new(options.open(path).expect("it opens"));
    let reads = blocks.len() / run;
    let pool = Pool::start(threads, reads);
    let empty = || Read {
        file: Arc::clone(&file),
        blocks: blocks.drain(..run).collect(),
        first: 0,
        flags: cached.unwrap_or(ReadWriteFlags::empty()),
        since: Instant::now(),
    };
    let mut free: Vec<Read> = std::iter::repeat_with(empty).take(reads).collect();
    let began = Clocks::now();
    let mut rest = order.chunks(run);
    let mut under_way = 0;
    loop {
        while let Some(mut read) = free.pop() {
            let Some(next) = rest.next() else {
                free.push(read);
                break;
            };
            assert_eq!(next.len(), run, "a multiple of the run");
            read.first = next[0];
            read.since = Instant::now();
            if cached.is_some() && read.attempt(ReadWriteFlags::NOWAIT) {
                waits.push(read.since.elapsed());
                free.push(read);
                continue;
            }
            pool.submit(read);
            under_way += 1;
        }
        if under_way == 0 {
            break;
        }
        pool.wait();
        while let Some(read) = pool.take() {
            waits.push(read.since.elapsed());
            free.push(read);
            under_way -= 1;
        }
    }
    blocks.extend(free.into_iter().flat_map(|read| read.blocks));
    blocks.sort_unstable_by_key(|block| block.as_ptr());
    began
}

/// How much of a file is in the page cache: `cachestat`, Linux 6.5.
fn cached_bytes(path: &Path) -> u64 {
    let file = File::open(path).expect("it opens");
    // Offset and length; 0 means up to the end.
    let range = [0_u64; 2];
    // Pages in the cache, dirty, written back, evicted, recently evicted.
    let mut pages = [0_u64; 5];
    // SAFETY: the kernel reads two u64 (`struct cachestat_range`) and writes five (`struct cachestat`), which both live on.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_fd().as_raw_fd(),
            range.as_ptr(),
            pages.as_mut_ptr(),
            0,
        )
    };
    assert_eq!(result, 0, "cachestat");
    // SAFETY: it takes a number and reads no memory of ours.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages[0] * page_bytes.cast_unsigned()
}
