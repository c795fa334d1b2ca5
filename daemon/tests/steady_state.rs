//! The packet loop allocates at construction and never again (CONTRIBUTING.md): whole turns of a worker over
//! in-memory rings, counted by an instrumented allocator.
//!
//! Only what happens inside of [`Worker::turn`](sluiced::worker::Worker::turn) is counted, and in helper threads of the disk
//! meanwhile; clients and link are the test's own. Nothing is left out: uploads begin, make their file, and publish it in
//! turns that are counted. One test in a binary of its own, since the count is of the whole process.

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

use sluice_disk::UploadLimits;
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
/// Turns that must not touch the allocator, and what is sent or stored in them.
const TURNS: u32 = 500;
const PACKETS: u64 = 40_000;
const UPLOADS: u64 = 60;

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

/// What happens to a worker.
struct Case<'a> {
    name: &'a str,
    setup: Setup,
    /// Every so many frames to a client is lost; 0 for none.
    loss: u64,
    /// What is asked for, in turn.
    requests: &'a [Vec<u8>],
    /// Payload of the longest packet of a client; `None`: a segment.
    longest_segment: Option<usize>,
    /// Frames to be sent at least while the allocator is watched, and files to be stored.
    packets: u64,
    uploads: u64,
}

/// A site under load, and what the allocator was asked for during turns.
struct Load<'a> {
    bed: Bed,
    /// Connections that stay, and those that come and go.
    clients: Vec<Client>,
    report: Box<WorkerReport>,
    calls: Calls,
    sent: u64,
    case: &'a Case<'a>,
    asked: usize,
    waits_for: Vec<WaitsFor>,
}

impl<'a> Load<'a> {
    fn new(site: &Site, case: &'a Case<'a>) -> Load<'a> {
        let mut bed = Bed::with(site, &case.setup);
        let clients = (0..2 * CLIENTS).map(|_| caller(&mut bed, case)).collect();
        Load {
            bed,
            clients,
            report: Box::default(),
            calls: Calls::default(),
            sent: 0,
            case,
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
            if self.case.loss == 0 || !self.sent.is_multiple_of(self.case.loss) {
                deliver(frame, &mut self.clients, now);
            }
        }
        frames.len()
    }

    /// So many turns and more until so many frames were sent and files stored, while every client asks again and again.
    fn run(&mut self, mut turns: u32, packets: u64, uploads: u64) -> Calls {
        self.calls = Calls::default();
        let end = self.sent + packets;
        let stored = self.report.service.counters.uploads + uploads;
        while turns > 0 || self.sent < end || self.report.service.counters.uploads < stored {
            for index in 0..self.clients.len() {
                self.act(index);
            }
            turns = turns.saturating_sub(1);
            let sent = self.turn();
            let disk = &self.report.service.disk;
            let stores = disk.uploads > 0;
            let waits_for_helpers = disk.loading > 0 || (stores && sent == 0);
            self.bed.pass(match sent {
                // A helper thread that takes longer than a client is patient would be the machine's fault.
                0 if stores => Duration::from_micros(500),
                // The next thing to happen is a timer, or a helper thread.
                0 => Duration::from_millis(10),
                _ => Duration::from_micros(50),
            });
            if waits_for_helpers {
                wait_for_helpers();
            }
        }
        self.calls
    }

    /// The first half stays connected; of the second everybody asks once, ends, and is followed by another.
    fn act(&mut self, index: usize) {
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
                *client = caller(&mut self.bed, self.case);
                *waits_for = WaitsFor::Connection;
            }
            _ => {}
        }
    }

    fn ask(&mut self, index: usize) {
        let requests = self.case.requests;
        self.clients[index].write(&requests[self.asked % requests.len()]);
        self.waits_for[index] = WaitsFor::Answer;
        self.asked += 1;
    }
}

fn caller(bed: &mut Bed, case: &Case) -> Client {
    let offer = Offer {
        mss: case.setup.mtu - 40,
        ..Offer::default()
    };
    let mut client = Client::with(bed.take_port(), offer);
    client.longest_segment = case.longest_segment;
    client
}

/// Stores so many bytes under a name that may be taken.
fn put(path: &str, bytes: usize) -> Vec<u8> {
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: sluice.test\r\nContent-Length: {bytes}\r\n\r\n");
    [head.into_bytes(), vec![7; bytes]].concat()
}

/// Runs a case and watches the allocator. Returns how many bytes of uploads were lent.
fn watch(site: &Site, case: &Case) -> u64 {
    let name = case.name;
    let mut load = Load::new(site, case);
    load.run(WARM_TURNS, 0, case.uploads / 2);
    let before = load.bed.report();
    let calls = load.run(TURNS, case.packets, case.uploads);
    assert_eq!(calls, Calls::default(), "{name}");
    // It was not idle while it was watched.
    let after = load.bed.report();
    let (counters, earlier) = (&after.service.counters, &before.service.counters);
    assert!(
        after.tcp.accepted > before.tcp.accepted,
        "{name}: nobody came or went"
    );
    assert!(counters.responses() > 50, "{name}");
    assert_eq!(after.tcp.retransmitted_fast > 0, case.loss > 0, "{name}");
    let refused = (counters.uploads_refused, counters.uploads_discarded);
    assert_eq!(refused, (0, 0), "{name}");
    counters.upload_bytes_lent - earlier.upload_bytes_lent
}

#[test]
fn turns_of_a_busy_worker_do_not_touch_the_allocator() {
    downloads();
    uploads();
}

fn downloads() {
    let site = Site::new();
    site.file("big", MIB);
    site.file("mid", 200 * KIB);
    site.file("small", 3000);
    let paths = ["/big", "/small", "/mid", "/missing", "/small"];
    let requests = paths.map(|path| get(path).into_bytes());
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
        let case = Case {
            name,
            setup,
            loss,
            requests: &requests,
            longest_segment: None,
            packets: PACKETS,
            uploads: 0,
        };
        assert_eq!(watch(&site, &case), 0, "{name}");
    }
}

/// New files and replaced ones, in packets of one frame, which are copied, and of 16, which are lent to the disk.
fn uploads() {
    let site = Site::new();
    let names = ["/a", "/b", "/c", "/d", "/e", "/f", "/g"];
    let requests = names.map(|name| put(name, 400 * KIB + 17));
    let many_loans = Setup {
        // All clients send what they have in the same round.
        zero_copy: true,
        ring: 4096,
        rx_ring: 4096,
        frames: 16_384,
        blocks: 96,
        uploads: UploadLimits {
            // Of which a network has a share.
            uploads: 32,
            threads: 2,
            blocks: 48,
            blocks_each: 6,
            loans: 64,
        },
        ..Setup::default()
    };
    let mut few_loans = many_loans.clone();
    few_loans.uploads.loans = 3;
    for (name, setup, longest_segment) in [
        ("uploads that are lent", many_loans.clone(), Some(60 * KIB)),
        ("uploads that outrun the loans", few_loans, Some(60 * KIB)),
        ("uploads that are copied", many_loans, None),
    ] {
        let case = Case {
            name,
            setup,
            loss: 0,
            requests: &requests,
            longest_segment,
            packets: 0,
            uploads: UPLOADS,
        };
        let lent = watch(&site, &case);
        assert_eq!(lent > 0, longest_segment.is_some(), "{name}: {lent}");
    }
}
