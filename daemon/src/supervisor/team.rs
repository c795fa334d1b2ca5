//! The worker threads of a service, of either backend: spawned, asked to drain, asked for reports, joined.

use core::cell::Cell;
use core::time::Duration;
use std::io;
use std::thread::{self, JoinHandle};

use rustix::fd::BorrowedFd;

use super::{Failure, disk_problem, pin_to};
use crate::clock::monotonic;
use crate::control::{ControlSide, WorkerControl, channel};
use crate::placement::Seat;
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
    /// Throws away reports nobody waits for any more, which would keep [`Crew::wake_fds`] readable.
    fn discard_late_reports(&self);
}

/// One running worker thread.
struct Member<R, W> {
    /// The queue it serves: tells it from the others.
    queue: u32,
    control: ControlSide<R>,
    thread: JoinHandle<W>,
}

/// All of them. Dropped, as when a later step of a start fails, it ends them at once and waits for that.
pub(super) struct Team<R, W> {
    members: Vec<Member<R, W>>,
    /// Whether the workers were asked to end: only then is an end in order.
    draining: Cell<bool>,
}

/// What threads leave behind.
pub(super) struct Joined<W> {
    /// What the workers ended with, by queue; those that panicked are missing.
    pub ended: Vec<(u32, W)>,
    /// One per worker that panicked.
    pub problems: Vec<Problem>,
}

impl<R: Default + Send + 'static, W: Send + 'static> Team<R, W> {
    pub(super) fn new() -> Self {
        Team {
            members: Vec::new(),
            draining: Cell::new(false),
        }
    }

    /// Starts a thread that is pinned to the CPU of `seat` and runs `work`. `kind` begins its name.
    pub(super) fn spawn(
        &mut self,
        kind: &str,
        seat: &Seat,
        work: impl FnOnce(WorkerControl<R>) -> W + Send + 'static,
    ) -> Result<(), Failure> {
        let (control, side) =
            channel().map_err(|error| disk_problem("cannot make a control channel", &error))?;
        let &Seat { queue, cpu, .. } = seat;
        let thread = thread::Builder::new()
            .name(format!("{kind}{cpu}"))
            .spawn(move || {
                pin_to(cpu);
                work(side)
            })
            .map_err(|error: io::Error| disk_problem("cannot start a worker thread", &error))?;
        self.members.push(Member {
            queue,
            control,
            thread,
        });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// A report from every live worker that answers in time, by queue.
    pub(super) fn reports(&self) -> Vec<(u32, Box<R>)> {
        self.discard_late_reports();
        self.members
            .iter()
            .filter_map(|member| {
                member.control.snapshot(Box::default()).ok()?;
                let report = member.control.wait_report(REPORT_PATIENCE)?;
                Some((member.queue, report))
            })
            .collect()
    }

    /// Waits for all workers and gives what they end with.
    pub(super) fn join(&mut self) -> Joined<W> {
        let mut joined = Joined {
            ended: Vec::new(),
            problems: Vec::new(),
        };
        for Member { queue, thread, .. } in self.members.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            match thread.join() {
                Ok(work) => joined.ended.push((queue, work)),
                Err(_) => joined.problems.push(worker_died(&name)),
            }
        }
        joined
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

    fn discard_late_reports(&self) {
        for member in &self.members {
            member.control.discard_late_reports();
        }
    }
}

impl<R, W> Drop for Team<R, W> {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
        for member in self.members.drain(..) {
            // A panic has said what there is to say.
            let _ = member.thread.join();
        }
    }
}

fn worker_died(name: &str) -> Problem {
    Problem::new(
        format!("worker thread {name} panicked"),
        "its panic message is above",
        "this is a bug: please report it with the message; restart the service to serve again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Command;
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;

    /// A worker that does nothing until it is asked to end.
    fn idle(mut control: WorkerControl<u32>) {
        loop {
            match control.take() {
                Some(Command::Drain { .. }) => return,
                Some(Command::Snapshot(report)) => control.publish(report),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn seat(queue: u32) -> Seat {
        Seat {
            worker: queue,
            queue,
            cpu: 0,
        }
    }

    #[test]
    fn one_panic_hides_neither_another_nor_what_the_others_end_with() {
        let mut team = Team::<u32, u32>::new();
        for queue in 0..4 {
            let work = move |_: WorkerControl<u32>| {
                assert!(queue % 2 == 1, "worker {queue} of a test panics");
                10 * queue
            };
            team.spawn("test-w", &seat(queue), work).expect("a thread");
        }
        let joined = team.join();
        assert_eq!(joined.ended, [(1, 10), (3, 30)]);
        assert_eq!(joined.problems.len(), 2);
        assert!(joined.problems[0].what.contains("test-w0"));
    }

    #[test]
    fn a_team_that_is_dropped_leaves_no_thread_behind() {
        let running = Arc::new(AtomicU32::new(2));
        let mut team = Team::<u32, ()>::new();
        for queue in 0..2 {
            let running = Arc::clone(&running);
            let work = move |control| {
                idle(control);
                running.fetch_sub(1, Ordering::SeqCst);
            };
            team.spawn("test-w", &seat(queue), work).expect("a thread");
        }
        drop(team);
        assert_eq!(running.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn reports_are_told_apart_by_queue() {
        let mut team = Team::<u32, ()>::new();
        for queue in [3, 5] {
            team.spawn("test-w", &seat(queue), idle).expect("a thread");
        }
        let queues: Vec<u32> = team.reports().iter().map(|(queue, _)| *queue).collect();
        assert_eq!(queues, [3, 5]);
    }
}
