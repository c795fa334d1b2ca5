//! Merged writes of uploads by helper threads and by io_uring, in turns: what `docs/decisions/011` quotes.
//!
//! `upload_writes DIRECTORY FILES [ROUNDS] [MIB] [WAY]`: MIB in all to FILES new files at once, one write of half a MiB of each
//! under way, as the disk has it, then `fdatasync`. A write is of 8 blocks, or of 140 received frames with 3,744 bytes each.
//! The memory is 16 MiB that is used in turn. `fixed` is memory (and for io_uring always a file) that was registered before;
//! `async` tells the kernel to hand every write to its own threads at once. Printed: medians over the rounds, least and most of
//! the rate, processor time of the loop and of the whole process (the kernel's threads for io_uring are part of it) for the
//! writes, the longest call that the loop made, and the time until all was durable. With WAY only the ways whose names begin
//! so, for `perf stat -e raw_syscalls:sys_enter,io_uring:io_uring_queue_async_work`.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::pwritev;

use support::{Clocks, Pool, Work, spread};

mod support;

const WRITES_IN_MEMORY: usize = 32;
const WRITE_ROOM: usize = 1 << 19;
/// Bytes that a frame carries of a packet that fills several, and the distance of frames.
const FRAME_BYTES: usize = 3744;
const FRAME_ROOM: usize = 4096;
const FRAMES: usize = 140;
const BLOCK_BYTES: usize = 65_536;

/// What a write is made of.
#[derive(Clone, Copy)]
enum Pieces {
    Blocks,
    Frames,
    /// One piece.
    Whole,
}

impl Pieces {
    fn layout(self) -> (usize, usize, usize) {
        match self {
            Pieces::Blocks => (WRITE_ROOM / BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES),
            Pieces::Frames => (FRAMES, FRAME_BYTES, FRAME_ROOM),
            Pieces::Whole => (1, WRITE_ROOM, WRITE_ROOM),
        }
    }

    fn of(self, memory: &[u8]) -> impl Iterator<Item = &[u8]> {
        let (count, len, distance) = self.layout();
        (0..count).map(move |at| &memory[at * distance..][..len])
    }

    /// In a write.
    fn bytes(self) -> u64 {
        let (count, len, _) = self.layout();
        (count * len) as u64
    }
}

/// How memory is named to io_uring.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    Any,
    Fixed,
}

#[derive(Clone, Copy)]
enum Way {
    Threads(Pieces),
    Ring {
        pieces: Pieces,
        memory: Memory,
        punt: bool,
    },
}

const fn ring(pieces: Pieces, memory: Memory, punt: bool) -> Way {
    Way::Ring {
        pieces,
        memory,
        punt,
    }
}

const WAYS: [(&str, Way); 9] = [
    ("threads, blocks", Way::Threads(Pieces::Blocks)),
    ("ring, blocks", ring(Pieces::Blocks, Memory::Any, false)),
    (
        "ring, fixed whole",
        ring(Pieces::Whole, Memory::Fixed, false),
    ),
    (
        "ring async, blocks",
        ring(Pieces::Blocks, Memory::Any, true),
    ),
    (
        "ring async, fixed whole",
        ring(Pieces::Whole, Memory::Fixed, true),
    ),
    ("threads, frames", Way::Threads(Pieces::Frames)),
    ("ring, frames", ring(Pieces::Frames, Memory::Any, false)),
    (
        "ring, fixed frames",
        ring(Pieces::Frames, Memory::Fixed, false),
    ),
    (
        "ring async, fixed frames",
        ring(Pieces::Frames, Memory::Fixed, true),
    ),
];

/// What one run came to.
struct Figures {
    gib_per_s: f64,
    /// Processor time, s per GiB.
    of_loop: f64,
    of_all: f64,
    longest_call: Duration,
    /// Of all, s.
    durable: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .expect("upload_writes DIRECTORY FILES [ROUNDS] [MIB] [WAY]");
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |n| n.parse().expect("a number"))
    };
    let files: usize = number(1);
    let rounds: usize = number(5);
    let mib: usize = number(1024);
    let only = arguments.next().unwrap_or_default();
    let ways: Vec<(&str, Way)> = WAYS
        .into_iter()
        .filter(|(name, _)| name.starts_with(&only))
        .collect();
    let mut found: Vec<Vec<Figures>> = ways.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        // Every round begins with another one: what a way leaves behind is not always the next one's.
        for turn in 0..ways.len() {
            let at = (round + turn) % ways.len();
            use_memory(Path::new(&directory), mib);
            found[at].push(measure(Path::new(&directory), ways[at].1, files, mib));
        }
    }
    println!("{mib} MiB to {files} files");
    println!(
        "way                       GiB/s (least-most)  loop s/GiB  all s/GiB  longest call us  durable s"
    );
    for ((name, _), found) in ways.iter().zip(&found) {
        let of = |value: fn(&Figures) -> f64| spread(found.iter().map(value).collect());
        let (rate, least, most) = of(|figures| figures.gib_per_s);
        println!(
            "{name:<25} {rate:>5.2} ({least:>4.2}-{most:>4.2})  {:>11.3}  {:>9.3}  {:>15.0}  {:>9.2}",
            of(|figures| figures.of_loop).0,
            of(|figures| figures.of_all).0,
            of(|figures| figures.longest_call.as_secs_f64() * 1e6).0,
            of(|figures| figures.durable).0,
        );
    }
}

/// Has the kernel use so much memory for a file, and free it: a virtual machine may have given free memory back to its host,
/// and to get that page by page costs more than the writes.
fn use_memory(directory: &Path, mib: usize) {
    let path = directory.join("memory");
    let mut file = File::create(&path).expect("created");
    std::fs::remove_file(&path).expect("removed");
    let piece = vec![0; 1 << 20];
    for _ in 0..mib {
        file.write_all(&piece).expect("written");
    }
}

/// What has to be written: the next offset of every file, up to the same length.
struct Plan {
    files: Vec<Arc<File>>,
    next: Vec<u64>,
    length: u64,
    step: u64,
}

impl Plan {
    fn new(directory: &Path, files: usize, mib: usize, pieces: Pieces) -> Plan {
        let step = pieces.bytes();
        let create = |number| {
            let path = directory.join(format!("upload-{number}"));
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).open(&path);
            std::fs::remove_file(&path).expect("removed");
            Arc::new(file.expect("created"))
        };
        Plan {
            files: (0..files).map(create).collect(),
            next: vec![0; files],
            length: ((mib << 20) / files) as u64 / step * step,
            step,
        }
    }

    fn offset(&mut self, file: usize) -> Option<u64> {
        let offset = self.next[file];
        self.next[file] += self.step;
        (offset < self.length).then_some(offset)
    }
}

fn measure(directory: &Path, way: Way, files: usize, mib: usize) -> Figures {
    let pieces = match way {
        Way::Threads(pieces) | Way::Ring { pieces, .. } => pieces,
    };
    let mut plan = Plan::new(directory, files, mib, pieces);
    let mut longest_call = Duration::ZERO;
    let (began, (written, of_loop, of_all)) = match way {
        Way::Threads(pieces) => by_threads(&mut plan, pieces, &mut longest_call),
        Way::Ring {
            pieces,
            memory,
            punt,
        } => by_ring(&mut plan, pieces, memory, punt, &mut longest_call),
    };
    let gib = (plan.length * files as u64) as f64 / f64::from(1 << 30);
    Figures {
        gib_per_s: gib / written,
        of_loop: of_loop / gib,
        of_all: of_all / gib,
        longest_call,
        durable: began.until_now().0,
    }
}

/// When it began, and how long the writes took.
type Times = (Clocks, (f64, f64, f64));

/// A job for a helper.
struct Job {
    file: usize,
    on: Arc<File>,
    task: Task,
}

enum Task {
    Write {
        memory: Vec<u8>,
        pieces: Pieces,
        offset: u64,
    },
    Sync,
}

impl Work for Job {
    fn run(&mut self) {
        match &self.task {
            Task::Write {
                memory,
                pieces,
                offset,
            } => {
                let mut slices = [IoSlice::new(&[]); FRAMES];
                let mut count = 0;
                for piece in pieces.of(memory) {
                    slices[count] = IoSlice::new(piece);
                    count += 1;
                }
                let written = pwritev(&*self.on, &slices[..count], *offset).expect("written");
                assert_eq!(written as u64, pieces.bytes(), "a whole write");
            }
            Task::Sync => rustix::fs::fdatasync(&*self.on).expect("synced"),
        }
    }
}

fn by_threads(plan: &mut Plan, pieces: Pieces, longest_call: &mut Duration) -> Times {
    let pool = Pool::start(4, plan.files.len());
    let mut free: std::collections::VecDeque<Vec<u8>> = (0..WRITES_IN_MEMORY).map(filled).collect();
    let began = Clocks::now();
    let mut idle: Vec<usize> = (0..plan.files.len()).collect();
    let mut under_way = 0;
    loop {
        let call = Instant::now();
        for file in idle.drain(..) {
            let Some(offset) = plan.offset(file) else {
                continue;
            };
            let memory = free.pop_front().expect("more memory than files");
            pool.submit(Job {
                file,
                on: Arc::clone(&plan.files[file]),
                task: Task::Write {
                    memory,
                    pieces,
                    offset,
                },
            });
            under_way += 1;
        }
        *longest_call = (*longest_call).max(call.elapsed());
        if under_way == 0 {
            break;
        }
        pool.wait();
        while let Some(job) = pool.take() {
            idle.push(job.file);
            if let Task::Write { memory, .. } = job.task {
                free.push_back(memory);
            }
            under_way -= 1;
        }
    }
    let written = began.until_now();
    for (file, on) in plan.files.iter().enumerate() {
        pool.submit(Job {
            file,
            on: Arc::clone(on),
            task: Task::Sync,
        });
    }
    let mut synced = 0;
    while synced < plan.files.len() {
        pool.wait();
        synced += std::iter::from_fn(|| pool.take()).count();
    }
    (began, written)
}

fn by_ring(
    plan: &mut Plan,
    pieces: Pieces,
    memory: Memory,
    punt: bool,
    longest_call: &mut Duration,
) -> Times {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(64)
        .expect("io_uring");
    let buffers: Vec<Vec<u8>> = (0..WRITES_IN_MEMORY).map(filled).collect();
    let whole: Vec<libc::iovec> = buffers.iter().map(|buffer| iovec(buffer)).collect();
    let lists: Vec<Vec<libc::iovec>> = buffers
        .iter()
        .map(|buffer| pieces.of(buffer).map(iovec).collect())
        .collect();
    if memory == Memory::Fixed {
        // SAFETY: `buffers` outlives every write, since `by_ring` waits for all, and nobody changes it meanwhile.
        unsafe { ring.submitter().register_buffers(&whole) }.expect("registered");
    }
    let descriptors: Vec<i32> = plan.files.iter().map(|file| file.as_raw_fd()).collect();
    ring.submitter()
        .register_files(&descriptors)
        .expect("registered");
    let began = Clocks::now();
    let mut idle: Vec<usize> = (0..plan.files.len()).collect();
    let (mut under_way, mut next) = (0, 0);
    loop {
        let call = Instant::now();
        for file in idle.drain(..) {
            let Some(offset) = plan.offset(file) else {
                continue;
            };
            let at = next % WRITES_IN_MEMORY;
            next += 1;
            let on = types::Fixed(u32::try_from(file).expect("few"));
            let index = u16::try_from(at).expect("few");
            let list = &lists[at];
            let count = u32::try_from(list.len()).expect("few");
            let entry = match (memory, pieces) {
                (Memory::Any, _) => opcode::Writev::new(on, list.as_ptr(), count)
                    .offset(offset)
                    .build(),
                (Memory::Fixed, Pieces::Whole) => {
                    let len = u32::try_from(WRITE_ROOM).expect("half a MiB");
                    opcode::WriteFixed::new(on, buffers[at].as_ptr(), len, index)
                        .offset(offset)
                        .build()
                }
                (Memory::Fixed, _) => opcode::WritevFixed::new(on, list.as_ptr(), count, index)
                    .offset(offset)
                    .build(),
            };
            let flags = if punt {
                squeue::Flags::ASYNC
            } else {
                squeue::Flags::empty()
            };
            let entry = entry.flags(flags).user_data(file as u64);
            // SAFETY: file, list and memory stay until the ring is gone, and the ring until all is complete.
            unsafe { ring.submission().push(&entry) }.expect("fewer files than entries");
            under_way += 1;
        }
        ring.submit().expect("submitted");
        *longest_call = (*longest_call).max(call.elapsed());
        if under_way == 0 {
            break;
        }
        under_way -= complete(&mut ring, &mut idle, pieces.bytes());
    }
    let written = began.until_now();
    for file in 0..plan.files.len() {
        let on = types::Fixed(u32::try_from(file).expect("few"));
        let entry = opcode::Fsync::new(on)
            .flags(types::FsyncFlags::DATASYNC)
            .build();
        // SAFETY: the files outlive the ring.
        unsafe { ring.submission().push(&entry) }.expect("fewer files than entries");
    }
    let mut under_way = plan.files.len();
    while under_way > 0 {
        under_way -= complete(&mut ring, &mut idle, 0);
    }
    (began, written)
}

/// Waits for completions, each of `bytes`, and lists their files: how many.
fn complete(ring: &mut IoUring, idle: &mut Vec<usize>, bytes: u64) -> usize {
    if ring.completion().is_empty() {
        ring.submit_and_wait(1).expect("waited");
    }
    let before = idle.len();
    for entry in ring.completion() {
        let result = u64::try_from(entry.result());
        assert_eq!(result, Ok(bytes), "a whole write");
        idle.push(usize::try_from(entry.user_data()).expect("a file"));
    }
    idle.len() - before
}

fn filled(at: usize) -> Vec<u8> {
    vec![at.to_le_bytes()[0]; WRITE_ROOM + FRAME_ROOM * (FRAMES - WRITE_ROOM / FRAME_ROOM)]
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        // The kernel only reads.
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}
