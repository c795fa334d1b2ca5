//! Cold blocks by helper threads and by io_uring, in turns: what `docs/decisions/006` quotes.
//!
//! `cold_reads FILE [READS] [DEPTH]`: random blocks of 64 KiB of FILE, which is dropped from the page cache before every
//! run, with DEPTH of them under way at a time. The first way is [`Disk`] as the daemon uses it. The second tries RWF_NOWAIT
//! as well, then submits a read into a registered buffer, and compares the file's version after it as the disk does.
//! Printed per run: blocks per second, processor time per block of the loop's thread and of the process, the longest call
//! that the loop made, the median and the 99th percentile of the time from the first question to the block.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ReadWriteFlags;
use rustix::time::ClockId;
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Fetch, Opening, Root, Symlinks};

use support::{cpu, make_cold, shuffled};

mod support;

const ROUNDS: usize = 3;
/// [`BLOCK_BYTES`] as io_uring takes it.
const BLOCK_LEN: u32 = 65_536;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("cold_reads FILE [READS] [DEPTH]");
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |n| n.parse().expect("a number"))
    };
    let reads: usize = number(4000);
    let depth: usize = number(128);
    let path = Path::new(&path);
    let blocks = std::fs::metadata(path).expect("the file").len() / BLOCK_BYTES as u64;
    let order = shuffled(blocks, reads);
    println!(
        "{} reads of {blocks} blocks, {depth} at a time",
        order.len()
    );
    println!(
        "way            blocks/s  loop us/block  all us/block  longest call us  p50 us  p99 us"
    );
    for _ in 0..ROUNDS {
        for threads in [4, 16, 64] {
            make_cold(path);
            report(&format!("{threads} threads"), &order, |run| {
                by_threads(path, threads, depth, run)
            });
        }
        for flags in [Punt::Never, Punt::Always] {
            make_cold(path);
            report(&format!("uring {flags:?}"), &order, |run| {
                by_uring(path, depth, flags, run)
            });
        }
    }
}

/// Whether the kernel is told to hand every read to its own threads at once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Punt {
    Never,
    Always,
}

/// What a way records.
struct Run<'o> {
    order: &'o [u64],
    waits: Vec<Duration>,
    longest_call: Duration,
}

impl Run<'_> {
    fn timed<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = call();
        self.longest_call = self.longest_call.max(began.elapsed());
        result
    }
}

fn report(name: &str, order: &[u64], way: impl FnOnce(&mut Run<'_>)) {
    let mut run = Run {
        order,
        waits: Vec::with_capacity(order.len()),
        longest_call: Duration::ZERO,
    };
    let (began, thread, process) = (
        Instant::now(),
        cpu(ClockId::ThreadCPUTime),
        cpu(ClockId::ProcessCPUTime),
    );
    way(&mut run);
    let elapsed = began.elapsed().as_secs_f64();
    let count = order.len() as f64;
    let each = |clock, before: Duration| (cpu(clock) - before).as_secs_f64() * 1e6 / count;
    run.waits.sort_unstable();
    let wait = |share: usize| run.waits[(run.waits.len() - 1) * share / 100].as_micros();
    println!(
        "{name:<14} {:>8.0} {:>14.1} {:>13.1} {:>16} {:>7} {:>7}",
        count / elapsed,
        each(ClockId::ThreadCPUTime, thread),
        each(ClockId::ProcessCPUTime, process),
        run.longest_call.as_micros(),
        wait(50),
        wait(99),
    );
}

fn by_threads(path: &Path, threads: usize, depth: usize, run: &mut Run<'_>) {
    let config = DiskConfig {
        threads,
        files: 4,
        queue_depth: 1024,
        direct_above: None,
        uploads: sluice_disk::UploadLimits::NONE,
    };
    let mut disk = Disk::anonymous(2 * depth * BLOCK_BYTES, &config).expect("a disk");
    let (dir, name) = (
        path.parent().expect("a path"),
        path.file_name().expect("a name"),
    );
    let root = Root::open(dir, Symlinks::Never).expect("the root");
    let file = loop {
        match disk.open(&root, name.as_encoded_bytes()) {
            Opening::Done(file) => break file.expect("it opens"),
            Opening::Pending(ticket) => {
                sleep(disk.wake_fd());
                disk.poll();
                disk.abandon(ticket);
            }
        }
    };
    let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut next = 0;
    while next < run.order.len() || !waiting.is_empty() {
        for _ in 0..waiting.len() {
            let (block, since) = waiting.pop_front().expect("counted");
            ask(&mut disk, &file, block, since, &mut waiting, run);
        }
        while waiting.len() < depth && next < run.order.len() {
            ask(
                &mut disk,
                &file,
                run.order[next],
                Instant::now(),
                &mut waiting,
                run,
            );
            next += 1;
        }
        while !waiting.is_empty() && !run.timed(|| disk.poll()) {
            sleep(disk.wake_fd());
        }
    }
    disk.close(file);
}

fn ask(
    disk: &mut Disk,
    file: &sluice_disk::FileHandle,
    block: u64,
    since: Instant,
    waiting: &mut VecDeque<(u64, Instant)>,
    run: &mut Run<'_>,
) {
    match run.timed(|| disk.fetch(file, block)) {
        Fetch::Ready(found) => {
            run.waits.push(since.elapsed());
            disk.release(found);
        }
        Fetch::Pending | Fetch::NextTurn | Fetch::NoBlock => waiting.push_back((block, since)),
        Fetch::Failed(error) => panic!("{error:?}"),
    }
}

fn by_uring(path: &Path, depth: usize, punt: Punt, run: &mut Run<'_>) {
    let file = File::open(path).expect("it opens");
    let mut ring = IoUring::new(u32::try_from(depth).expect("small")).expect("io_uring");
    let mut memory = vec![0_u8; depth * BLOCK_BYTES];
    let buffers: Vec<libc::iovec> = memory
        .chunks_mut(BLOCK_BYTES)
        .map(|chunk| libc::iovec {
            iov_base: chunk.as_mut_ptr().cast(),
            iov_len: BLOCK_BYTES,
        })
        .collect();
    // SAFETY: `memory` outlives the ring, which is dropped first, and no slice of it is used while a read is under way.
    unsafe { ring.submitter().register_buffers(&buffers) }.expect("registered");
    ring.submitter()
        .register_files(&[file.as_raw_fd()])
        .expect("registered");
    let mut free: Vec<usize> = (0..depth).collect();
    let mut since = vec![Instant::now(); depth];
    let (mut next, mut under_way) = (0, 0);
    while next < run.order.len() || under_way > 0 {
        while let Some(slot) = free.pop() {
            let Some(&block) = run.order.get(next) else {
                free.push(slot);
                break;
            };
            next += 1;
            since[slot] = Instant::now();
            let offset = block * BLOCK_BYTES as u64;
            let chunk = &mut memory[slot * BLOCK_BYTES..][..BLOCK_BYTES];
            let had = run.timed(|| {
                rustix::io::preadv2(
                    &file,
                    &mut [IoSliceMut::new(chunk)],
                    offset,
                    ReadWriteFlags::NOWAIT,
                )
            });
            if had == Ok(BLOCK_BYTES) {
                run.timed(|| version(file.as_fd()));
                run.waits.push(since[slot].elapsed());
                free.push(slot);
                continue;
            }
            let index = u16::try_from(slot).expect("small");
            let mut entry =
                opcode::ReadFixed::new(types::Fixed(0), chunk.as_mut_ptr(), BLOCK_LEN, index)
                    .offset(offset)
                    .build()
                    .user_data(slot as u64);
            if punt == Punt::Always {
                entry = entry.flags(io_uring::squeue::Flags::ASYNC);
            }
            // SAFETY: buffer and file stay until the completion is taken: `slot` is not in `free` until then.
            unsafe { ring.submission().push(&entry) }.expect("as many entries as slots");
            under_way += 1;
        }
        if under_way > 0 {
            run.timed(|| ring.submit()).expect("submitted");
            ring.submit_and_wait(1).expect("waited");
        }
        let done: Vec<(usize, i32)> = ring
            .completion()
            .map(|entry| {
                (
                    usize::try_from(entry.user_data()).expect("a slot"),
                    entry.result(),
                )
            })
            .collect();
        for (slot, result) in done {
            assert_eq!(usize::try_from(result), Ok(BLOCK_BYTES), "a whole block");
            run.timed(|| version(file.as_fd()));
            run.waits.push(since[slot].elapsed());
            free.push(slot);
            under_way -= 1;
        }
    }
}

fn version(file: BorrowedFd<'_>) {
    rustix::fs::fstat(file).expect("an open file");
}

fn sleep(wake: BorrowedFd<'_>) {
    poll(&mut [PollFd::from_borrowed_fd(wake, PollFlags::IN)], None).expect("poll");
}
