//! The helper threads: what would block the loop is done here.
//!
//! Work goes over and comes back through two bounded lock-free queues; helpers sleep on a futex and the loop is woken
//! through an eventfd, so that nobody spins and an idle service uses no processor time. The loop's side never waits:
//! the queues have room for every ticket and every read that can be in flight.
//!
//! Each outcome in the queue is followed by one signal on the eventfd, and the loop counts both. It reads the
//! eventfd only while it has taken more outcomes than signals, and looks into the queue again after each read: so an
//! idle turn costs no system call, no outcome stays behind a signal already read, and the eventfd is never readable
//! for long without an outcome to take.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::answer::ReadError;
use crate::block::LoadBuffer;
use crate::cache::Urgency;
use crate::closer::Closer;
use crate::direct::DirectJob;
use crate::file::FileMeta;
use crate::root::{Freshness, OpenError, Opened, Root, stat};
use crate::ticket::Name;
use crate::tokens::Tokens;
use crate::upload::UploadLimits;
use crate::writer::{UploadJob, UploadResult};

/// A block to fill. Owns the block's memory while it travels.
#[derive(Debug)]
pub(crate) struct ReadJob {
    /// Borrowed from the file table by `begin_load`.
    pub(crate) fd: BorrowedFd<'static>,
    /// Slot of the file table.
    pub(crate) file: u32,
    pub(crate) buffer: LoadBuffer,
    /// Of the block, in the file.
    pub(crate) offset: u64,
    /// How many bytes from the start of the block are there already.
    pub(crate) filled: usize,
    /// How many were there when the job was made.
    pub(crate) filled_inline: usize,
    /// How many there must be.
    pub(crate) want: usize,
}

/// Work for a helper.
pub(crate) enum Job {
    Open { ticket: u32, root: Root, name: Name },
    Read(ReadJob),
    Direct(DirectJob),
}

/// Work done.
pub(crate) enum Outcome {
    Opened {
        ticket: u32,
        name: Name,
        result: Result<Opened, OpenError>,
    },
    Read {
        job: ReadJob,
        /// The file as it was after the last byte had been read.
        result: Result<FileMeta, ReadError>,
    },
    Direct {
        job: DirectJob,
        /// As of a read.
        result: Result<FileMeta, ReadError>,
    },
    Upload {
        job: UploadJob,
        result: UploadResult,
    },
}

/// Why a read that must not wait gave nothing.
pub(crate) enum NoWait {
    /// The bytes are not in the page cache.
    WouldBlock,
    /// The file system cannot tell (tmpfs, overlayfs and network file systems: EOPNOTSUPP).
    Unsupported,
    Failed(Errno),
}

/// Reads what the page cache holds from `offset` on: all that `buffers` take, or up to the first byte that it has not.
pub(crate) fn read_nowait(
    fd: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
    offset: u64,
) -> Result<usize, NoWait> {
    preadv2(fd, buffers, offset, ReadWriteFlags::NOWAIT).map_err(|errno| match errno {
        Errno::AGAIN | Errno::INTR => NoWait::WouldBlock,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => NoWait::Unsupported,
        other => NoWait::Failed(other),
    })
}

impl ReadJob {
    fn run(&mut self) -> Result<FileMeta, ReadError> {
        while self.filled < self.want {
            let rest = &mut self.buffer.bytes_mut()[self.filled..self.want];
            let from = self.offset + self.filled as u64;
            match rustix::io::pread(self.fd, rest, from) {
                Ok(0) => return Err(ReadError::Shrunk),
                Ok(read) => self.filled += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ReadError::Io(errno)),
            }
        }
        let (now, _) = stat(self.fd, Freshness::Synced).map_err(ReadError::Io)?;
        Ok(now)
    }
}

impl Job {
    fn run(self) -> Outcome {
        match self {
            Job::Open { ticket, root, name } => Outcome::Opened {
                ticket,
                result: root.open_blocking(name.as_c_str()),
                name,
            },
            Job::Read(mut job) => {
                let result = job.run();
                Outcome::Read { job, result }
            }
            Job::Direct(mut job) => {
                let result = job.run();
                Outcome::Direct { job, result }
            }
        }
    }
}

/// What the loop and the helpers share.
struct Shared {
    jobs: ArrayQueue<Job>,
    closer: Closer,
    outcomes: ArrayQueue<Outcome>,
    /// One token per job, some for closes, and one per thread at the end.
    work: Tokens,
    /// Jobs for the upload threads: one per upload at most.
    uploads: ArrayQueue<UploadJob>,
    /// One token per upload job, and one per upload thread at the end.
    upload_work: Tokens,
    wake: OwnedFd,
    stopping: AtomicBool,
    /// Every job passes here.
    #[cfg(test)]
    gate: Gate,
}

impl Shared {
    fn help(&self) {
        let mut has_token = false;
        loop {
            if !has_token {
                self.work.take();
            }
            // C: pairs with D.
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            #[cfg(test)]
            self.gate.pass();
            // Jobs first: somebody waits for them.
            has_token = match self.jobs.pop() {
                Some(job) => {
                    self.report(job.run());
                    false
                }
                None => self.closer.close_and_linger(&self.work),
            };
        }
    }

    /// The same on a thread for uploads, where nothing needs closing out of turn.
    fn help_uploads(&self) {
        loop {
            self.upload_work.take();
            // C: pairs with D.
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            #[cfg(test)]
            self.gate.pass();
            if let Some(mut job) = self.uploads.pop() {
                let result = job.work.run();
                self.report(Outcome::Upload { job, result });
            }
        }
    }

    fn report(&self, outcome: Outcome) {
        // The queue is as long as those all jobs came from, and what was taken from there is in here once.
        let pushed = self.outcomes.push(outcome).is_ok();
        debug_assert!(pushed, "more outcomes than jobs");
        self.signal();
    }

    fn signal(&self) {
        // EAGAIN at 2^64 - 1 unread signals; nothing else can happen to an eventfd.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The loop's side of the helper threads.
pub(crate) struct Helpers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    upload_threads: Vec<JoinHandle<()>>,
    queue_depth: usize,
    reads_in_flight: usize,
    opens_in_flight: usize,
    upload_jobs_in_flight: usize,
    /// Jobs in the queue of which no upload thread was told.
    upload_jobs_untold: u32,
    /// Signals that were or will be sent for what this side has seen.
    signals_due: u64,
    signals_read: u64,
}

impl Helpers {
    /// Starts `threads` helpers, for at most `queue_depth` reads and as many opens in flight, and those for uploads.
    ///
    /// # Errors
    /// Those of eventfd(2) and of starting a thread.
    pub(crate) fn start(
        threads: usize,
        queue_depth: usize,
        uploads: &UploadLimits,
    ) -> io::Result<Helpers> {
        let upload_threads = if uploads.uploads > 0 {
            uploads.threads
        } else {
            0
        };
        let shared = Arc::new(Shared {
            jobs: ArrayQueue::new(2 * queue_depth),
            closer: Closer::new(),
            outcomes: ArrayQueue::new(2 * queue_depth + uploads.uploads),
            work: Tokens::default(),
            // A queue for nothing is not to be had.
            uploads: ArrayQueue::new(uploads.uploads.max(1)),
            upload_work: Tokens::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stopping: AtomicBool::new(false),
            #[cfg(test)]
            gate: Gate::default(),
        });
        let mut helpers = Helpers {
            shared,
            threads: Vec::with_capacity(threads),
            upload_threads: Vec::with_capacity(upload_threads),
            queue_depth,
            reads_in_flight: 0,
            opens_in_flight: 0,
            upload_jobs_in_flight: 0,
            upload_jobs_untold: 0,
            signals_due: 0,
            signals_read: 0,
        };
        for number in 0..threads {
            let shared = Arc::clone(&helpers.shared);
            let thread = thread::Builder::new().name(format!("disk-{number}"));
            // If this fails, dropping `helpers` ends those already started.
            helpers.threads.push(thread.spawn(move || shared.help())?);
        }
        for number in 0..upload_threads {
            let shared = Arc::clone(&helpers.shared);
            let thread = thread::Builder::new().name(format!("upload-{number}"));
            let thread = thread.spawn(move || shared.help_uploads())?;
            helpers.upload_threads.push(thread);
        }
        Ok(helpers)
    }

    /// Whether one more read may be handed over. Read-ahead leaves half of the places to blocks somebody waits for.
    pub(crate) fn has_room(&self, urgency: Urgency) -> bool {
        let places = match urgency {
            Urgency::Awaited => self.queue_depth,
            Urgency::Ahead => self.queue_depth.div_ceil(2),
        };
        self.reads_in_flight < places
    }

    /// Hands a read over for which there is room.
    pub(crate) fn read(&mut self, job: ReadJob) {
        self.reads_in_flight += 1;
        self.submit(Job::Read(job));
    }

    /// The same past the page cache.
    pub(crate) fn read_direct(&mut self, job: DirectJob) {
        self.reads_in_flight += 1;
        self.submit(Job::Direct(job));
    }

    /// Hands an open over. The tickets bound how many there are.
    pub(crate) fn open(&mut self, ticket: u32, root: Root, name: Name) {
        self.opens_in_flight += 1;
        self.submit(Job::Open { ticket, root, name });
    }

    /// Hands an upload job over. An upload has one at a time, and the table bounds how many uploads there are.
    pub(crate) fn upload(&mut self, job: UploadJob) {
        self.upload_jobs_in_flight += 1;
        let pushed = self.shared.uploads.push(job).is_ok();
        assert!(pushed, "the upload queue has room for a job of each");
        self.upload_jobs_untold += 1;
    }

    /// Wakes upload threads for what was handed over since the last time: a system call at most.
    pub(crate) fn wake_upload_threads(&mut self) {
        let jobs = core::mem::take(&mut self.upload_jobs_untold);
        if jobs > 0 {
            self.shared.upload_work.add(jobs);
        }
    }

    /// Hands a descriptor over to be closed.
    pub(crate) fn close(&mut self, fd: OwnedFd) {
        self.shared.closer.push(fd, &self.shared.work);
    }

    /// Takes an outcome. The caller must go on until there is none: only then is the wake-up descriptor quiet.
    pub(crate) fn take(&mut self) -> Option<Outcome> {
        if self.is_quiet() {
            return None;
        }
        if let Some(outcome) = self.pop() {
            return Some(outcome);
        }
        if self.read_signals() {
            // Pushed before its signal, an outcome whose signal has just been read is in the queue.
            return self.pop();
        }
        None
    }

    /// Makes the wake-up descriptor readable until the next [`Helpers::take`].
    pub(crate) fn signal_self(&mut self) {
        self.signals_due += 1;
        self.shared.signal();
    }

    /// Readable while there is something to take.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// Ends the helpers, each after the job it has in hand.
    pub(crate) fn join(&mut self) {
        // D: pairs with C; the tokens that wake the threads are added after it.
        self.shared.stopping.store(true, Ordering::Release);
        let all = |threads: &Vec<_>| u32::try_from(threads.len()).unwrap_or(u32::MAX);
        self.shared.work.add(all(&self.threads));
        self.shared.upload_work.add(all(&self.upload_threads));
        for thread in self.threads.drain(..).chain(self.upload_threads.drain(..)) {
            // A helper that panicked is gone, which is all that is wanted here.
            let _ = thread.join();
        }
    }

    /// After [`Helpers::join`]: gives all block memory that was still under way to `take_back`.
    pub(crate) fn left_over(&mut self, mut take_back: impl FnMut(LoadBuffer)) {
        while let Some(outcome) = self.shared.outcomes.pop() {
            match outcome {
                Outcome::Read { job, .. } => take_back(job.buffer),
                Outcome::Direct { mut job, .. } => job.read.take_buffers().for_each(&mut take_back),
                Outcome::Upload { job, .. } => job.take_apart(&mut take_back),
                Outcome::Opened { .. } => {}
            }
        }
        while let Some(job) = self.shared.jobs.pop() {
            match job {
                Job::Read(job) => take_back(job.buffer),
                Job::Direct(mut job) => job.read.take_buffers().for_each(&mut take_back),
                Job::Open { .. } => {}
            }
        }
        while let Some(job) = self.shared.uploads.pop() {
            job.take_apart(&mut take_back);
        }
    }

    /// The gate that every job passes.
    #[cfg(test)]
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    fn submit(&mut self, job: Job) {
        let pushed = self.shared.jobs.push(job).is_ok();
        // `queue_depth` reads (`has_room`) and `queue_depth` opens (the tickets) fit, and this is the only producer.
        assert!(pushed, "the job queue has room for all that is in flight");
        self.shared.work.add(1);
    }

    /// Whether nothing is under way and no signal is unread.
    pub(crate) fn is_quiet(&self) -> bool {
        self.reads_in_flight == 0
            && self.opens_in_flight == 0
            && self.upload_jobs_in_flight == 0
            && self.signals_due == self.signals_read
    }

    fn pop(&mut self) -> Option<Outcome> {
        let outcome = self.shared.outcomes.pop()?;
        self.signals_due += 1;
        match outcome {
            Outcome::Read { .. } | Outcome::Direct { .. } => self.reads_in_flight -= 1,
            Outcome::Opened { .. } => self.opens_in_flight -= 1,
            Outcome::Upload { .. } => self.upload_jobs_in_flight -= 1,
        }
        Some(outcome)
    }

    /// Reads the signals sent so far, if some for known outcomes may be among them. Says whether there were any.
    fn read_signals(&mut self) -> bool {
        if self.signals_read >= self.signals_due {
            return false;
        }
        let mut sent = [0; 8];
        // EAGAIN: the helper is between its push and its signal. The next turn reads it.
        if rustix::io::read(&self.shared.wake, &mut sent).is_err() {
            return false;
        }
        self.signals_read += u64::from_ne_bytes(sent);
        true
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.join();
    }
}

/// Tests freeze the helpers with this.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Gate {
    closed: std::sync::Mutex<bool>,
    opened: std::sync::Condvar,
}

#[cfg(test)]
impl Gate {
    pub(crate) fn set_closed(&self, closed: bool) {
        *self.closed.lock().expect("gate") = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock().expect("gate");
        while *closed {
            closed = self.opened.wait(closed).expect("gate");
        }
    }
}
