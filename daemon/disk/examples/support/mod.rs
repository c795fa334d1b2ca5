//! What the measuring examples share: helper threads as the disk has them, clocks, cold files, medians.
//!
//! The pool does what `src/reader.rs` does (bounded queues, an eventfd that is signalled once per outcome, wake-ups only
//! while somebody sleeps) for work that [`sluice_disk::Disk`] does not do.

// Every example uses its part of it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::{ClockId, clock_gettime};

/// What a helper thread does.
pub trait Work: Send + 'static {
    fn run(&mut self);
}

struct Waiting<W> {
    jobs: VecDeque<W>,
    sleepers: usize,
    ended: bool,
}

struct Shared<W> {
    waiting: Mutex<Waiting<W>>,
    more: Condvar,
    done: ArrayQueue<W>,
    wake: OwnedFd,
}

/// Helper threads that take work from one queue and answer through another.
pub struct Pool<W: Work> {
    shared: Arc<Shared<W>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Work> Pool<W> {
    /// `depth`: pieces of work under way at most.
    pub fn start(threads: usize, depth: usize) -> Pool<W> {
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting {
                jobs: VecDeque::with_capacity(depth),
                sleepers: 0,
                ended: false,
            }),
            more: Condvar::new(),
            done: ArrayQueue::new(depth),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd"),
        });
        let start = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.help())
        };
        let threads = (0..threads).map(start).collect();
        Pool { shared, threads }
    }

    pub fn submit(&self, work: W) {
        let mut waiting = self.shared.waiting.lock().expect("no helper panics");
        waiting.jobs.push_back(work);
        let is_needed = waiting.sleepers > 0;
        drop(waiting);
        if is_needed {
            self.shared.more.notify_one();
        }
    }

    pub fn take(&self) -> Option<W> {
        self.shared.done.pop()
    }

    /// Sleeps until something is done.
    pub fn wait(&self) {
        let mut fds = [PollFd::from_borrowed_fd(
            self.shared.wake.as_fd(),
            PollFlags::IN,
        )];
        poll(&mut fds, None).expect("poll");
        rustix::io::read(&self.shared.wake, &mut [0; 8]).expect("it is readable");
    }
}

impl<W: Work> Drop for Pool<W> {
    fn drop(&mut self) {
        self.shared.waiting.lock().expect("no helper panics").ended = true;
        self.shared.more.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().expect("it ends");
        }
    }
}

impl<W: Work> Shared<W> {
    fn help(&self) {
        while let Some(mut work) = self.next() {
            work.run();
            assert!(self.done.push(work).is_ok(), "more answers than questions");
            rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).expect("signalled");
        }
    }

    fn next(&self) -> Option<W> {
        let mut waiting = self.waiting.lock().expect("nobody panics");
        loop {
            if let Some(work) = waiting.jobs.pop_front() {
                return Some(work);
            }
            if waiting.ended {
                return None;
            }
            waiting.sleepers += 1;
            waiting = self.more.wait(waiting).expect("nobody panics");
            waiting.sleepers -= 1;
        }
    }
}

pub fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).expect("below a second"),
    )
}

/// Where the clocks stood.
pub struct Clocks {
    began: Instant,
    thread: Duration,
    process: Duration,
}

impl Clocks {
    pub fn now() -> Clocks {
        Clocks {
            began: Instant::now(),
            thread: cpu(ClockId::ThreadCPUTime),
            process: cpu(ClockId::ProcessCPUTime),
        }
    }

    /// Seconds since then: by the clock, of processor time of this thread, and of the process.
    pub fn until_now(&self) -> (f64, f64, f64) {
        let now = Clocks::now();
        (
            (now.began - self.began).as_secs_f64(),
            (now.thread - self.thread).as_secs_f64(),
            (now.process - self.process).as_secs_f64(),
        )
    }
}

/// Drops a file from the page cache.
pub fn make_cold(path: &Path) {
    let file = File::open(path).expect("it opens");
    file.sync_all().expect("only clean pages can be dropped");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
}

/// `count` different blocks of `blocks`, in an order that no read-ahead guesses.
pub fn shuffled(blocks: u64, count: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..blocks).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..order.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).expect("31 bits") % (at + 1);
        order.swap(at, other);
    }
    order.truncate(count);
    order
}

/// Median, least and most.
pub fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    )
}
