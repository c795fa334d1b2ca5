//! The worker threads of a service, of either backend: spawned, asked to drain, asked for reports, joined.

use core::cell::Cell;
use core::time::Duration;
use std::io;
use std::thread::{self, JoinHandle};

use rustix::fd::BorrowedFd;

use super::{Failure, disk_problem, pin_to};
use crate::clock::monotonic;
use crate::control::{ControlSide, WorkerControl, channel};
use crate::preflight::Problem;

/// How long a live worker may take to answer. It answers between two turns of its loop.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// What the supervisor asks of the workers of either backend.
pub(super) trait Crew {
    /// Asks every worker to finish until `patience` has passed.
    fn drain(&self, patience: Duration);
    /// Whether every worker has ended.
    fn finished(&self) -> bool;
    /// Whether a worker ended although nobody asked it to.
    fn failed(&self) -> bool;
    /// Whether more SYNs reach a worker than can be honest. Asked after every wake-up.
    fn is_flooded(&self) -> bool;
    /// Readable when a worker ends or reports, and when a flood of SYNs begins or ends.
    fn wake_fds(&self) -> Vec<BorrowedFd<'_>>;
}

/// One running worker thread.
struct Member<R, W> {
    control: ControlSide<R>,
    thread: JoinHandle<W>,
}

/// All of them.
pub(super) struct Team<R, W> {
    members: Vec<Member<R, W>>,
    /// Whether the workers were asked to end: only then is an end in order.
    draining: Cell<bool>,
}

impl<R: Default + Send + 'static, W: Send + 'static> Team<R, W> {
    pub(super) fn new() -> Self {
        Team {
            members: Vec::new(),
            draining: Cell::new(false),
        }
    }

    /// Starts a thread that is pinned to `cpu` and runs `work`.
    pub(super) fn spawn(
        &mut self,
        name: String,
        cpu: u32,
        work: impl FnOnce(WorkerControl<R>) -> W + Send + 'static,
    ) -> Result<(), Failure> {
        let (control, side) =
            channel().map_err(|error| disk_problem("cannot make a control channel", &error))?;
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || {
                pin_to(cpu);
                work(side)
            })
            .map_err(|error: io::Error| disk_problem("cannot start a worker thread", &error))?;
        self.members.push(Member { control, thread });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// A report from every live worker that answers in time.
    pub(super) fn reports(&self) -> Vec<Box<R>> {
        self.members
            .iter()
            .filter_map(|member| {
                member.control.snapshot(Box::default()).ok()?;
                member.control.wait_report(REPORT_PATIENCE)
            })
            .collect()
    }

    /// Waits for the workers and gives what they end with.
    pub(super) fn join(&mut self) -> Result<Vec<W>, Failure> {
        self.members
            .drain(..)
            .map(|member| member.thread.join().map_err(|_| worker_died().into()))
            .collect()
    }
}

impl<R, W> Crew for Team<R, W> {
    fn drain(&self, patience: Duration) {
        self.draining.set(true);
        let deadline = monotonic() + patience;
        for member in &self.members {
            member.control.drain(deadline);
        }
    }

    fn finished(&self) -> bool {
        self.members.iter().all(|member| member.control.finished())
    }

    fn failed(&self) -> bool {
        !self.draining.get() && self.members.iter().any(|member| member.control.finished())
    }

    fn is_flooded(&self) -> bool {
        // Every one is asked, because that ends its wake-up.
        let flooded = |count, member: &Member<R, W>| {
            count + u32::from(!member.control.finished() && member.control.is_flooded())
        };
        self.members.iter().fold(0, flooded) > 0
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.members
            .iter()
            .filter(|member| !member.control.finished())
            .map(|member| member.control.report_fd())
            .collect()
    }
}

fn worker_died() -> Problem {
    Problem::new(
        "a worker thread panicked",
        "its panic message is above",
        "this is a bug: please report it with the message; restart the service to serve again",
    )
}
