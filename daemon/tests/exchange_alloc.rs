//! The application allocates at construction and never again: requests, responses, uploads, blocks and time limits of
//! connections that come and go, counted by an instrumented allocator.
//!
//! One test in a binary of its own, since the count is of the whole process.

use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks, UploadLimits};
use sluice_http::UploadRules;
use sluice_tcp::clock::Instant;
use sluiced::exchange::Exchange;
use sluiced::services::{ServiceReport, Services, ServicesConfig, UploadConfig};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What clients ask for: every kind of answer, with everything a request head may carry.
const REQUESTS: [&str; 9] = [
    "GET /big HTTP/1.1\r\nHost: test\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
    "GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes=100000-200000\r\n\r\n",
    "GET /small HTTP/1.1\r\nHost: test\r\nIf-None-Match: \"x\", W/\"y\"\r\n\r\n",
    "HEAD /small HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /sub HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /sub/ HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes=99999999-\r\n\r\n",
    "GET /missing%20file HTTP/1.1\r\nHost: test\r\n\r\n",
    "BREW /pot HTTP/1.1\r\nHost: test\r\n\r\n",
];

/// A connection that asks for everything, in order, pipelined two at a time, and takes it.
fn converse(services: &mut Services, now: Instant) -> u64 {
    let mut exchange = Exchange::new(now);
    let (mut sent, mut received) = (0, 0);
    for pair in REQUESTS.chunks(2) {
        for request in pair {
            assert!(exchange.place(sent, request.as_bytes(), services));
            sent += u64::try_from(request.len()).expect("small");
            exchange.delivered(sent);
        }
        loop {
            let progress = exchange.advance(received + 300_000, now, services);
            let mut at = received;
            while at < progress.ready_until {
                let piece = exchange.bytes(at, 1448, services);
                assert!(!piece.is_empty());
                at += u64::try_from(piece.len()).expect("small");
            }
            exchange.sent(at, now, services);
            exchange.acknowledged(at, now, services);
            services.end_turn(false);
            let _ = services.poll(784_111_777);
            if at == received && !progress.waiting {
                break;
            }
            received = at;
        }
    }
    exchange.on_deadline(now + Duration::from_secs(60), services);
    exchange.teardown(services);
    received
}

/// Sends a request of any length as the window allows, and waits for the end of its answer, which closes.
fn upload(services: &mut Services, now: Instant, request: &[u8]) {
    let mut exchange = Exchange::new(now);
    let (mut sent, mut received) = (0, 0);
    loop {
        exchange.set_wanted(None);
        let progress = exchange.advance(received + 1000, now, services);
        received = progress.ready_until;
        exchange.sent(received, now, services);
        exchange.acknowledged(received, now, services);
        if progress.finish {
            break;
        }
        let edge = match exchange.promise(services) {
            Some(edge) => edge,
            None => exchange.consumed() + services.input_bytes() as u64,
        };
        let from = usize::try_from(sent).expect("small");
        let to = usize::try_from(edge).expect("small").min(request.len());
        for piece in request[from..to.max(from)].chunks(1448) {
            assert!(exchange.place(sent, piece, services));
            sent += piece.len() as u64;
            exchange.delivered(sent);
        }
        services.end_turn(false);
        let _ = services.poll(784_111_777);
    }
    exchange.teardown(services);
}

/// Both kinds of uploads, several windows long.
fn uploads() -> [Vec<u8>; 2] {
    let head = "PUT /up HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
    let body = [7; 500_000];
    let mut long = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    long.extend_from_slice(&body);
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(10_000) {
        chunked.extend_from_slice(b"2710\r\n");
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    [long, chunked]
}

#[test]
fn connections_in_the_steady_state_do_not_allocate() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path();
    std::fs::write(path.join("big"), vec![7; 10 * BLOCK_BYTES]).expect("write file");
    std::fs::write(path.join("small"), b"small").expect("write file");
    std::fs::create_dir(path.join("sub")).expect("create directory");
    std::fs::write(path.join("sub/index.html"), b"index").expect("write file");
    let limits = UploadLimits {
        uploads: 2,
        threads: 1,
        blocks: 4,
        blocks_each: 4,
        loans: 0,
    };
    let disk_config = DiskConfig {
        threads: 1,
        files: 16,
        queue_depth: 16,
        direct_above: None,
        uploads: limits,
    };
    let disk = Disk::anonymous(8 * BLOCK_BYTES, &disk_config).expect("disk");
    let root = Root::open(path, Symlinks::Never).expect("root");
    let config = ServicesConfig {
        uploads: Some(UploadConfig {
            rules: UploadRules { max_size: 1 << 20 },
            limits,
        }),
        ..ServicesConfig::default()
    };
    let mut services = Services::new(disk, root, &config);
    let mut report = ServiceReport::default();
    let now = Instant::from_nanos(1_000_000_000);
    let expected = converse(&mut services, now);
    let uploads = uploads();
    uploads
        .iter()
        .for_each(|request| upload(&mut services, now, request));
    assert!(expected > 700_000, "everything was served: {expected}");

    // The test harness has threads of its own that may allocate now and then; an allocation of ours would be in
    // every round.
    let fewest = (0..5)
        .map(|_| {
            let region = Region::new(ALLOCATOR);
            for _ in 0..20 {
                assert_eq!(converse(&mut services, now), expected);
                uploads
                    .iter()
                    .for_each(|request| upload(&mut services, now, request));
            }
            services.report_into(&mut report);
            let change = region.change();
            change.allocations + change.reallocations
        })
        .min();
    assert_eq!(fewest, Some(0));
    assert_eq!(report.counters.responses(), 101 * (9 + 2));
    assert_eq!(report.counters.uploads, 101 * 2);
    assert!(report.disk.balanced());
}
