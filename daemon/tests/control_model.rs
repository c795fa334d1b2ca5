//! `daemon/src/control.rs` under loom: in no interleaving is a wake-up lost.
//!
//! The file is compiled here once more, with the modules below in place of those of the daemon. Where a side would sleep
//! for ever, loom reports a deadlock. The queues of crossbeam do not know loom: what they do counts as one step, which
//! leaves open what is asked here, the order of telling, ringing, clearing and looking.

#[expect(dead_code, reason = "what wakes nobody is not modelled")]
#[path = "../src/control.rs"]
mod control;

/// Time that stands still: no patience ends a wait.
mod clock {
    use sluice_tcp::clock::Instant;

    pub fn monotonic() -> Instant {
        Instant::from_nanos(1)
    }
}

/// `daemon/src/sync.rs` of loom's types.
mod sync {
    use core::time::Duration;

    use loom::sync::{Condvar, Mutex};
    use rustix::io::Errno;

    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    pub struct Bell {
        rang: Mutex<bool>,
        ringing: Condvar,
    }

    pub type BellFd<'a> = &'a Bell;

    impl Bell {
        pub fn new() -> Result<Bell, Errno> {
            Ok(Bell {
                rang: Mutex::new(false),
                ringing: Condvar::new(),
            })
        }

        pub fn ring(&self) {
            *self.rang.lock().expect("no panic before") = true;
            self.ringing.notify_all();
        }

        pub fn clear(&self) {
            *self.rang.lock().expect("no panic before") = false;
        }

        pub fn sleep(&self, _: Duration) {
            let mut rang = self.rang.lock().expect("no panic before");
            while !*rang {
                rang = self.ringing.wait(rang).expect("no panic before");
            }
        }

        pub fn fd(&self) -> BellFd<'_> {
            self
        }
    }
}

use core::time::Duration;

use control::{Command, WorkerControl, channel};
use loom::thread;
use sluice_tcp::clock::Instant;

const FOR_EVER: Duration = Duration::MAX;
const DEADLINE: Instant = Instant::from_nanos(7);

/// Turns of a worker until it was asked to drain and has filled `reports`.
fn work(worker: &mut WorkerControl<u32>, mut reports: u32) {
    let mut drains = false;
    while !drains || reports > 0 {
        worker.turn();
        worker.clear_wake();
        let mut is_idle = true;
        while let Some(command) = worker.take() {
            is_idle = false;
            match command {
                Command::Drain { deadline } => {
                    assert_eq!(deadline, DEADLINE);
                    drains = true;
                }
                Command::Snapshot(mut report) => {
                    *report += 1;
                    worker.publish(report);
                    reports -= 1;
                }
            }
        }
        if is_idle {
            worker.wake_fd().sleep(FOR_EVER);
        }
    }
}

#[test]
fn no_command_is_slept_through_and_no_report() {
    loom::model(|| {
        let (control, mut worker) = channel::<u32>().expect("a model of it");
        let thread = thread::spawn(move || work(&mut worker, 1));
        control.snapshot(Box::new(41)).expect("an empty queue");
        control.drain(DEADLINE);
        let report = control.wait_report(FOR_EVER).expect("it was filled");
        assert_eq!(*report, 42);
        thread.join().expect("the worker ends");
    });
}

#[test]
fn a_drain_behind_a_report_is_heard() {
    loom::model(|| {
        let (control, mut worker) = channel::<u32>().expect("a model of it");
        let thread = thread::spawn(move || work(&mut worker, 1));
        control.snapshot(Box::new(41)).expect("an empty queue");
        assert!(control.wait_report(FOR_EVER).is_some());
        control.drain(DEADLINE);
        thread.join().expect("the worker ends");
    });
}

#[test]
fn two_reports_under_way_both_arrive() {
    loom::model(|| {
        let (control, mut worker) = channel::<u32>().expect("a model of it");
        control.drain(DEADLINE);
        let thread = thread::spawn(move || work(&mut worker, 2));
        for report in [10, 20] {
            control.snapshot(Box::new(report)).expect("room for two");
        }
        for report in [11, 21] {
            assert_eq!(control.wait_report(FOR_EVER).as_deref(), Some(&report));
        }
        thread.join().expect("the worker ends");
    });
}

#[test]
fn who_sees_the_end_of_a_worker_also_sees_its_last_report() {
    loom::model(|| {
        let (control, worker) = channel::<u32>().expect("a model of it");
        let thread = thread::spawn(move || {
            worker.publish(Box::new(42));
            drop(worker);
        });
        assert_eq!(control.wait_report(FOR_EVER).as_deref(), Some(&42));
        assert!(control.wait_report(FOR_EVER).is_none());
        assert!(control.finished());
        thread.join().expect("the worker ends");
    });
}

#[test]
fn the_begin_of_a_flood_wakes_and_is_seen() {
    loom::model(|| {
        let (control, mut worker) = channel::<u32>().expect("a model of it");
        let thread = thread::spawn(move || worker.set_flooded(true));
        while !control.is_flooded() {
            control.report_fd().sleep(FOR_EVER);
        }
        thread.join().expect("the worker ends");
    });
}

/// The supervisor sleeps on the bells of its workers and looks at all they say, at their end last: every look clears.
#[test]
fn an_end_behind_a_late_report_and_a_flood_is_seen() {
    let mut model = loom::model::Builder::new();
    // Three rings against three looks: every interleaving is too many, and a loss takes one switch at the wrong place.
    model.preemption_bound = Some(2);
    model.check(|| {
        let (control, mut worker) = channel::<u32>().expect("a model of it");
        let thread = thread::spawn(move || {
            worker.publish(Box::new(42));
            worker.set_flooded(true);
            drop(worker);
        });
        loop {
            control.discard_late_reports();
            let _ = control.is_flooded();
            if control.finished() {
                break;
            }
            control.report_fd().sleep(FOR_EVER);
        }
        thread.join().expect("the worker ends");
    });
}
