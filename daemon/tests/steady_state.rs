//! The packet loop allocates at construction and never again (CONTRIBUTING.md): whole turns of a worker over
//! in-memory rings, counted by an instrumented allocator.
//!
//! Only what happens inside of [`Worker::turn`](sluiced::worker::Worker::turn) is counted; clients and link are the
//! test's own. One test in a binary of its own, since the count is of the whole process.

#[path = "worker/bed.rs"]
#[allow(dead_code, reason = "made for the tests of the worker")]
mod bed;
#[path = "worker/client.rs"]
#[allow(dead_code, reason = "made for the tests of the worker")]
mod client;
#[path = "worker/frames.rs"]
#[allow(dead_code, reason = "made for the tests of the worker")]
mod frames;
#[path = "worker/site.rs"]
#[allow(dead_code, reason = "made for the tests of the worker")]
mod site;

use core::time::Duration;
use std::alloc::System;

use sluiced::worker::WorkerReport;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use bed::{Bed, Setup, UNIX_SECONDS, deliver, get, wait_for_helpers};
use client::{Client, Offer};
use site::{KIB, MIB, Site};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Connections of the busy site; as many again come and go.
const CLIENTS: usize = 6;
/// Turns in which every table, queue and connection slot is used for the first time.
const WARM_TURNS: u32 = 100;
/// Turns that must not touch the allocator, and frames that are sent in them.
const TURNS: u32 = 500;
const PACKETS: u64 = 40_000;

/// Calls to the allocator: allocations, reallocations and deallocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    allocations: usize,
    reallocations: usize,
    deallocations: usize,
}

/// What a client waits for.
#[derive(Clone, Copy)]
enum WaitsFor {
    Connection,
    Answer,
    End,
}

/// A site under load, and what the allocator was asked for during turns.
struct Load<'a> {
    bed: Bed,
    /// Connections that stay, and those that come and go.
    clients: Vec<Client>,
    report: Box<WorkerReport>,
    calls: Calls,
    sent: u64,
    /// Every so many frames to a client is lost; 0 for none.
    loss: u64,
    paths: &'a [&'a str],
    asked: usize,
    waits_for: Vec<WaitsFor>,
}

impl<'a> Load<'a> {
    fn new(site: &Site, setup: &Setup, loss: u64, paths: &'a [&'a str]) -> Load<'a> {
        let mut bed = Bed::with(site, setup);
        let clients = (0..2 * CLIENTS).map(|_| caller(&mut bed, setup)).collect();
        Load {
            bed,
            clients,
            report: Box::default(),
            calls: Calls::default(),
            sent: 0,
            loss,
            paths,
            asked: 0,
            waits_for: vec![WaitsFor::Connection; 2 * CLIENTS],
        }
    }

    /// Counts one turn and one report, and delivers what was sent.
    fn turn(&mut self) -> usize {
        for client in &mut self.clients {
            self.bed.inject_from(client);
        }
        let now = self.bed.now;
        let region = Region::new(ALLOCATOR);
        self.bed.worker.turn(|| now, UNIX_SECONDS);
        self.bed.worker.fill(&mut self.report);
        let change = region.change();
        self.calls.allocations += change.allocations;
        self.calls.reallocations += change.reallocations;
        self.calls.deallocations += change.deallocations;
        let frames = self.bed.collect();
        for frame in &frames {
            self.sent += 1;
            if self.loss == 0 || !self.sent.is_multiple_of(self.loss) {
                deliver(frame, &mut self.clients, now);
            }
        }
        frames.len()
    }

    /// So many turns and more until `packets` were sent, while every client asks again and again.
    fn run(&mut self, setup: &Setup, mut turns: u32, packets: u64) -> Calls {
        self.calls = Calls::default();
        let end = self.sent + packets;
        while turns > 0 || self.sent < end {
            for index in 0..self.clients.len() {
                self.act(index, setup);
            }
            turns = turns.saturating_sub(1);
            let sent = self.turn();
            self.bed.pass(match sent {
                // The next thing to happen is a timer, or a helper thread.
                0 => Duration::from_millis(10),
                _ => Duration::from_micros(50),
            });
            if self.report.service.disk.loading > 0 {
                wait_for_helpers();
            }
        }
        self.calls
    }

    /// The first half stays connected; of the second everybody asks once, ends, and is followed by another.
    fn act(&mut self, index: usize, setup: &Setup) {
        let (client, waits_for) = (&mut self.clients[index], &mut self.waits_for[index]);
        assert!(!client.reset, "nobody is turned away");
        match waits_for {
            WaitsFor::Connection if client.is_established() => self.ask(index),
            WaitsFor::Answer if client.take_response().is_some() => {
                if index < CLIENTS {
                    self.ask(index);
                } else {
                    client.finish();
                    *waits_for = WaitsFor::End;
                }
            }
            WaitsFor::End if client.is_closed() && client.out.is_empty() => {
                *client = caller(&mut self.bed, setup);
                *waits_for = WaitsFor::Connection;
            }
            _ => {}
        }
    }

    fn ask(&mut self, index: usize) {
        let path = self.paths[self.asked % self.paths.len()];
        self.clients[index].write(get(path));
        self.waits_for[index] = WaitsFor::Answer;
        self.asked += 1;
    }
}

fn caller(bed: &mut Bed, setup: &Setup) -> Client {
    let offer = Offer {
        mss: setup.mtu - 40,
        ..Offer::default()
    };
    Client::with(bed.take_port(), offer)
}

#[test]
fn turns_of_a_busy_worker_do_not_touch_the_allocator() {
    let site = Site::new();
    site.file("big", MIB);
    site.file("mid", 200 * KIB);
    site.file("small", 3000);
    let paths = ["/big", "/small", "/mid", "/missing", "/small"];
    let plain = Setup::default();
    let jumbo = Setup {
        mtu: 9000,
        offload: false,
        ..Setup::default()
    };
    let few_blocks = Setup {
        blocks: 8,
        ..Setup::default()
    };
    let super_segments = Setup {
        gso: true,
        ..plain.clone()
    };
    let gathered = Setup {
        gather: true,
        ..plain.clone()
    };
    let gathered_jumbo = Setup {
        gather: true,
        blocks: 8,
        ..jumbo.clone()
    };
    let cases = [
        ("payload from the blocks", gathered.clone(), 0),
        (
            "payload from the blocks, and every 50th frame is lost",
            gathered,
            50,
        ),
        (
            "payload from few blocks, summed in software",
            gathered_jumbo,
            0,
        ),
        ("super-segments", super_segments, 50),
        ("a warm site", plain.clone(), 0),
        ("a link that loses every 50th frame", plain, 50),
        ("chains of frames, summed in software", jumbo, 0),
        ("fewer blocks than clients", few_blocks, 0),
    ];
    for (name, setup, loss) in cases {
        let mut load = Load::new(&site, &setup, loss, &paths);
        load.run(&setup, WARM_TURNS, 0);
        let accepted = load.bed.report().tcp.accepted;
        assert_eq!(load.run(&setup, TURNS, PACKETS), Calls::default(), "{name}");
        // It was not idle while it was watched.
        let report = load.bed.report();
        assert!(
            report.tcp.accepted > accepted,
            "{name}: nobody came or went"
        );
        assert!(report.service.counters.responses() > 50, "{name}");
        assert_eq!(report.tcp.retransmitted_fast > 0, loss > 0, "{name}");
    }
}
