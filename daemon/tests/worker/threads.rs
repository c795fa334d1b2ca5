//! Two workers on threads of their own, with a real clock, and every frame steered to the wrong one.
//!
//! `workers` tests the same frame by frame; here it is the queues between threads, under load: 32 clients download at
//! once, and every acknowledgement of theirs crosses from one thread to the other.

use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sluice_afxdp::testing::MemoryNic;
use sluiced::clock::monotonic;
use sluiced::worker::{WorkerReport, handoff_ring};

use crate::bed::{Bed, Setup, UNIX_SECONDS, deliver, get};
use crate::client::{Client, Offer};
use crate::frames;
use crate::site::{KIB, MIB, Site};

/// Connections of each worker. Their windows together are fewer segments than a worker has parcels (512), so that a
/// worker that the scheduler takes the CPU from can lose nothing.
const CLIENTS: usize = 16;
const WINDOW: u32 = 32 * 1024;
/// Rounds of the clients without a frame before the test is given up as hanging.
const QUIET_ROUNDS_MAX: u32 = 20_000;

/// Clients and the workers' ends of their wires.
struct Wires {
    nics: Vec<MemoryNic>,
    /// By the worker that owns them.
    clients: Vec<Vec<Client>>,
}

impl Wires {
    /// Frames of the clients to the worker that `steer` makes of their owner, and what the workers sent to the clients.
    fn round(&mut self, steer: impl Fn(usize) -> usize) -> usize {
        let mut moved = 0;
        for (owner, clients) in self.clients.iter_mut().enumerate() {
            let nic = &mut self.nics[steer(owner)];
            for frame in clients.iter_mut().flat_map(|client| client.out.drain(..)) {
                assert!(nic.inject(&frame), "the rings have room for all windows");
                moved += 1;
            }
        }
        for (nic, clients) in self.nics.iter_mut().zip(&mut self.clients) {
            nic.transmit(u32::MAX, |pieces, checksum| {
                let mut frame = pieces.concat();
                frames::complete(&mut frame, checksum.expect("left to the device"));
                deliver(&frame, clients, monotonic());
                moved += 1;
            });
        }
        moved
    }

    fn run(&mut self, steer: impl Fn(usize) -> usize, done: impl Fn(&Client) -> bool) {
        let mut quiet = 0;
        while !self.clients.iter().flatten().all(&done) {
            if self.round(&steer) > 0 {
                quiet = 0;
                continue;
            }
            quiet += 1;
            assert!(quiet < QUIET_ROUNDS_MAX, "nothing moves any more");
            crate::bed::wait_for_helpers();
        }
    }
}

#[test]
fn frames_at_the_wrong_worker_are_handed_over_without_loss_under_load() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let ring = handoff_ring(2, 2048).expect("eventfd");
    let setup = Setup::default();
    let (workers, nics): (Vec<_>, Vec<_>) = ring
        .into_iter()
        .map(|handoff| Bed::with_handoff(&site, &setup, Some(handoff)))
        .map(|bed| (bed.worker, bed.nic))
        .unzip();
    let offer = Offer {
        window_scale: None,
        ..Offer::default()
    };
    let mut port = 40_000;
    let clients = (0..2).map(|_| {
        (0..CLIENTS)
            .map(|_| {
                port += 1;
                Client::with(port, offer)
            })
            .collect()
    });
    let mut wires = Wires {
        nics,
        clients: clients.collect(),
    };
    let stop = AtomicBool::new(false);
    let reports: Vec<WorkerReport> = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if !worker.turn(monotonic, UNIX_SECONDS) {
                            thread::yield_now();
                        }
                    }
                    let mut report = WorkerReport::default();
                    worker.fill(&mut report);
                    report
                })
            })
            .collect();
        // Whatever a client asserts: the workers have to end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            converse(&mut wires, &content);
        }));
        stop.store(true, Ordering::Relaxed);
        let reports = threads
            .into_iter()
            .map(|thread| thread.join().expect("no worker panics"))
            .collect();
        outcome.expect("the clients were served");
        reports
    });
    for report in &reports {
        assert_eq!(report.pass_on_dropped, 0);
        assert_eq!(report.tcp.refused, 0);
        // Every second acknowledgement and more: all of them came by way of the other worker.
        let segments = u64::try_from(CLIENTS * MIB / 1460).expect("few");
        assert!(report.passed_on >= segments / 2, "{}", report.passed_on);
        assert_eq!(report.tcp.retransmitted_fast, 0, "nothing was lost");
    }
}

/// Everybody connects at the right worker, asks at the wrong one, and gets the file.
fn converse(wires: &mut Wires, content: &[u8]) {
    let right = |owner| owner;
    let wrong = |owner| 1 - owner;
    wires.run(right, Client::is_established);
    wires.round(right);
    for client in wires.clients.iter_mut().flatten() {
        client.set_window(WINDOW);
        client.write(get("/big"));
    }
    wires.run(wrong, Client::has_response);
    for client in wires.clients.iter_mut().flatten() {
        let response = client.take_response().expect("run until there was one");
        assert!(
            response.body == content,
            "{} KiB",
            response.body.len() / KIB
        );
        client.finish();
    }
    wires.run(wrong, Client::is_closed);
}
