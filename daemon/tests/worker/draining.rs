//! The last words of a worker: what runs is finished, nothing new begins, and the deadline holds.

use core::time::Duration;
use std::thread;

use sluice_tcp::SegmentDrop;
use sluiced::clock::monotonic;
use sluiced::control;
use sluiced::exchange::RESPONSES_MAX;
use sluiced::worker::WorkerReport;

use crate::bed::{Bed, get};
use crate::client::Client;
use crate::site::{KIB, MIB, Site};

const PATIENCE: Duration = Duration::from_secs(30);
/// Time for the resets to leave after the deadline.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Begins a drain whose deadline is [`PATIENCE`] from now.
fn drain(bed: &mut Bed) {
    let now = bed.now;
    bed.worker.drain(now + PATIENCE, now);
}

fn has_drained(bed: &mut Bed) -> bool {
    let now = bed.now;
    bed.worker.has_drained(now)
}

fn begin_transfer(bed: &mut Bed) -> Client {
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 200 * KIB);
    client
}

#[test]
fn a_worker_without_connections_is_done_at_once() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    assert!(!has_drained(&mut bed), "nobody asked for it");
    drain(&mut bed);
    assert!(has_drained(&mut bed));
    bed.assert_at_rest();
}

#[test]
fn a_transfer_under_way_is_finished_and_then_its_connection() {
    let site = Site::new();
    let content = site.file("big", 4 * MIB);
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    drain(&mut bed);
    assert!(bed.response(&mut client).body == content);
    bed.run_one(&mut client, |client| client.finished);
    assert!(!has_drained(&mut bed), "the client has not finished");
    bed.close(client);
    assert!(has_drained(&mut bed));
    assert_eq!(bed.report().tcp.resets_sent, 0);
    bed.assert_at_rest();
}

#[test]
fn an_idle_connection_ends_at_once() {
    let site = Site::new();
    site.file("small", 3000);
    for requests in [0, 1] {
        let mut bed = Bed::new(&site);
        let mut client = bed.connect();
        for _ in 0..requests {
            bed.get(&mut client, "/small");
            bed.settle_one(&mut client);
        }
        drain(&mut bed);
        bed.settle_one(&mut client);
        assert!(client.finished, "after {requests} requests");
        assert_eq!(bed.report().service.counters.drained, 1);
        bed.close(client);
        assert!(has_drained(&mut bed));
        bed.assert_at_rest();
    }
}

#[test]
fn pipelined_requests_that_came_before_are_all_answered_and_the_last_says_close() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big").repeat(RESPONSES_MAX + 4));
    bed.run_one(&mut client, |client| client.received.len() > 200 * KIB);
    drain(&mut bed);
    // One that came after it is not.
    client.write(get("/big"));
    for n in 0..RESPONSES_MAX + 4 {
        let response = bed.response(&mut client);
        assert!(response.body == content, "response {n}");
        let last = n == RESPONSES_MAX + 3;
        let close = response.field("Connection") == Some("close");
        assert_eq!(close, last, "response {n}");
    }
    bed.run_one(&mut client, |client| client.finished);
    assert_eq!(client.unparsed(), b"");
    bed.close(client);
    assert!(has_drained(&mut bed));
    bed.assert_at_rest();
}

#[test]
fn a_new_caller_gets_silence() {
    // Not a RST: a router in front may send the retry to another machine.
    let site = Site::new();
    site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = begin_transfer(&mut bed);
    drain(&mut bed);
    bed.settle_one(&mut client);
    let mut stranger = Client::connect(bed.take_port());
    for _ in 0..3 {
        bed.inject_from(&mut stranger);
        assert!(bed.turn().is_empty());
        stranger.resend();
    }
    let tcp = bed.report().tcp;
    assert_eq!(tcp.dropped[SegmentDrop::Draining.index()], 3);
    assert_eq!((tcp.accepted, bed.worker.stack().len()), (1, 1));
}

#[test]
fn a_handshake_under_way_is_completed_and_ended_in_order() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = Client::connect(bed.take_port());
    bed.round(core::slice::from_mut(&mut client));
    drain(&mut bed);
    bed.run_one(&mut client, |client| client.finished);
    assert!(!client.reset);
    bed.close(client);
    assert!(has_drained(&mut bed));
    bed.assert_at_rest();
}

#[test]
fn what_is_left_at_the_deadline_is_reset() {
    let site = Site::new();
    let content = site.file("big", 4 * MIB);
    let mut bed = Bed::new(&site);
    // One that does not read, one that does not finish its side, one in the middle of its handshake.
    let idle = bed.connect();
    let mut clients = vec![begin_transfer(&mut bed), idle];
    clients[0].out.clear();
    clients[0].set_window(0);
    bed.settle(&mut clients);
    clients.push(Client::connect(bed.take_port()));
    clients[2].mute = true;
    bed.settle(&mut clients);
    assert_eq!(bed.worker.stack().half_open(), 1);
    drain(&mut bed);
    bed.settle(&mut clients);
    assert!(clients[1].finished && !clients[0].finished);
    bed.pass(PATIENCE - Duration::from_millis(100));
    bed.settle(&mut clients);
    assert!(!has_drained(&mut bed));
    assert!(clients.iter().all(|client| !client.reset), "too early");
    bed.pass(Duration::from_millis(100));
    assert!(!has_drained(&mut bed), "the resets have not left yet");
    bed.settle(&mut clients);
    assert!(clients.iter().all(|client| client.reset));
    assert!(has_drained(&mut bed));
    assert_eq!(bed.report().tcp.resets_sent, 3);
    let head = clients[0]
        .received
        .windows(4)
        .position(|at| at == b"\r\n\r\n");
    let body = &clients[0].received[head.expect("a head") + 4..];
    assert!(content.starts_with(body), "wrong bytes");
    bed.assert_at_rest();
}

#[test]
fn a_device_that_does_not_send_the_last_words_holds_nobody_up_for_long() {
    let site = Site::new();
    site.file("big", 4 * MIB);
    let mut bed = Bed::new(&site);
    let _client = begin_transfer(&mut bed);
    drain(&mut bed);
    bed.nic.stall(true);
    bed.pass(PATIENCE);
    assert!(!has_drained(&mut bed));
    bed.turn();
    bed.pass(LAST_WORDS - Duration::from_millis(1));
    bed.turn();
    assert!(!has_drained(&mut bed), "frames are still with the device");
    bed.pass(Duration::from_millis(1));
    assert!(has_drained(&mut bed));
    // Frames do not matter any more; blocks and files of a worker that ends do.
    bed.turn();
    assert!(bed.report().service.disk.at_rest());
}

#[test]
fn the_loop_of_the_thread_ends_by_a_drain_and_answers_until_then() {
    let site = Site::new();
    let bed = Bed::new(&site);
    let (side, control) = control::channel::<WorkerReport>().expect("eventfd");
    let worker = bed.worker;
    let thread = thread::spawn(move || worker.run(control));
    side.snapshot(Box::default()).expect("none is under way");
    let report = side.wait_report(Duration::from_secs(10));
    assert!(report.is_some_and(|report| report.frames.is_some_and(|ledger| ledger.at_rest())));
    side.drain(monotonic() + Duration::from_secs(10));
    let worker = thread.join().expect("the worker ends in order");
    assert!(side.finished() && worker.stack().is_empty());
    assert!(worker.queue().ledger().at_rest());
}
