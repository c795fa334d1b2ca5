//! The border between control thread and worker, with its eventfds: who is woken, by what, and until when.

use core::time::Duration;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use sluice_tcp::clock::Instant;
use sluiced::control::{Command, WorkerControl, channel};

/// Longer than any scheduler keeps a thread waiting that was woken.
const PATIENCE: Duration = Duration::from_secs(20);

fn readable(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).expect("poll") == 1
}

#[test]
fn a_drain_wakes_the_worker_and_is_taken_once() {
    let (control, mut worker) = channel::<u32>().expect("eventfd");
    assert!(!readable(worker.wake_fd()));
    control.drain(Instant::from_nanos(7));
    assert!(readable(worker.wake_fd()));
    worker.clear_wake();
    assert!(!readable(worker.wake_fd()));
    match worker.take() {
        Some(Command::Drain { deadline }) => assert_eq!(deadline.as_nanos(), 7),
        other => panic!("{other:?}"),
    }
    assert!(worker.take().is_none());
}

#[test]
fn a_second_drain_moves_the_deadline() {
    let (control, mut worker) = channel::<u32>().expect("eventfd");
    control.drain(Instant::from_nanos(7));
    assert!(worker.take().is_some());
    control.drain(Instant::from_nanos(3));
    match worker.take() {
        Some(Command::Drain { deadline }) => assert_eq!(deadline.as_nanos(), 3),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_report_box_travels_to_the_worker_and_back() {
    let (control, mut worker) = channel::<u32>().expect("eventfd");
    let thread = thread::spawn(move || {
        for _ in 0..1_000_000 {
            worker.turn();
            if let Some(Command::Snapshot(mut report)) = worker.take() {
                *report += 1;
                worker.publish(report);
                return;
            }
            thread::yield_now();
        }
    });
    let report = Box::new(41);
    let address = core::ptr::from_ref(&*report);
    control.snapshot(report).expect("an empty queue");
    let report = control.wait_report(PATIENCE).expect("a report");
    assert_eq!(*report, 42);
    assert_eq!(
        core::ptr::from_ref(&*report),
        address,
        "the same allocation"
    );
    thread.join().expect("worker");
    assert!(control.finished());
    assert!(control.turns() > 0);
}

#[test]
fn a_third_snapshot_is_refused_until_a_report_is_taken() {
    let (control, _worker) = channel::<u32>().expect("eventfd");
    control.snapshot(Box::new(1)).expect("first");
    control.snapshot(Box::new(2)).expect("second");
    assert_eq!(*control.snapshot(Box::new(3)).expect_err("full"), 3);
}

#[test]
fn a_report_that_comes_too_late_is_thrown_away_and_wakes_nobody() {
    let (control, mut worker) = channel::<u32>().expect("eventfd");
    let answer = |worker: &mut WorkerControl<u32>| match worker.take() {
        Some(Command::Snapshot(report)) => worker.publish(report),
        other => panic!("{other:?}"),
    };
    control.snapshot(Box::new(1)).expect("an empty queue");
    assert!(control.wait_report(Duration::ZERO).is_none());
    answer(&mut worker);
    assert!(readable(control.report_fd()));
    control.discard_late_reports();
    assert!(!readable(control.report_fd()));
    control.snapshot(Box::new(2)).expect("an empty queue");
    answer(&mut worker);
    assert_eq!(*control.wait_report(Duration::ZERO).expect("a report"), 2);
}

#[test]
fn the_begin_and_the_end_of_a_flood_wake_the_control_side() {
    let (control, mut worker) = channel::<u32>().expect("eventfd");
    worker.set_flooded(false);
    assert!(!readable(control.report_fd()) && !control.is_flooded());
    for flooded in [true, false] {
        worker.set_flooded(flooded);
        worker.set_flooded(flooded);
        assert!(readable(control.report_fd()));
        assert_eq!(control.is_flooded(), flooded);
        assert!(!readable(control.report_fd()));
    }
}

#[test]
fn waiting_ends_when_the_worker_is_gone() {
    let (control, worker) = channel::<u32>().expect("eventfd");
    drop(worker);
    assert!(control.wait_report(PATIENCE).is_none());
    assert!(control.finished());
}

/// The worker sleeps without a limit: one wake-up that is lost and nobody ends.
#[test]
fn twenty_thousand_snapshots_are_all_answered_by_a_worker_that_sleeps_between_them() {
    const SNAPSHOTS: u64 = 20_000;
    let (control, mut worker) = channel::<u64>().expect("eventfd");
    let thread = thread::spawn(move || {
        let mut flooded = false;
        loop {
            worker.turn();
            worker.clear_wake();
            while let Some(command) = worker.take() {
                match command {
                    Command::Drain { .. } => return,
                    Command::Snapshot(mut report) => {
                        *report += 1;
                        worker.publish(report);
                        flooded = !flooded;
                        worker.set_flooded(flooded);
                    }
                }
            }
            let wake = worker.wake_fd();
            let _ = poll(&mut [PollFd::new(&wake, PollFlags::IN)], None);
        }
    });
    let mut report = Some(Box::new(0));
    for count in 1..=SNAPSHOTS {
        let sent = control.snapshot(report.take().expect("it came back"));
        assert!(sent.is_ok(), "at most one is under way");
        report = control.wait_report(PATIENCE);
        assert_eq!(report.as_deref(), Some(&count), "a wake-up was lost");
    }
    control.drain(Instant::from_nanos(7));
    assert!(control.wait_report(PATIENCE).is_none());
    assert!(control.finished(), "a wake-up was lost");
    thread.join().expect("worker");
}
