//! What the stack records of connections that the worker serves: causes of pauses, and ends that are no good.

use core::time::Duration;
use std::fs::File;

use rustix::fs::{Advice, fadvise};
use sluice_tcp::event_ring::EVENTS_MAX;
use sluice_tcp::{Cause, CloseReason};
use sluiced::farewells::farewells;

use crate::bed::{Bed, Setup, get, wait_for_helpers};
use crate::client::Client;
use crate::site::{KIB, MIB, Site};
use crate::skip::skip;

/// As in the exchange: how long what comes after the last response is read away.
const LINGER: Duration = Duration::from_secs(5);
/// Longer than any helper takes here.
const ROUNDS_MAX: u32 = 100_000;

/// Sets the pages of a file free, so that a read waits where the file system has a disk behind it.
fn cool(site: &Site, name: &str) {
    let file = File::open(site.path(name)).expect("open");
    file.sync_all().expect("fsync");
    fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
}

/// Fetches `path` while virtual time goes on, whether or not a frame moves.
fn fetch(bed: &mut Bed, client: &mut Client, path: &str) {
    client.write(get(path));
    for _ in 0..ROUNDS_MAX {
        bed.round(core::slice::from_mut(client));
        if client.take_response().is_some() {
            return;
        }
        bed.pass(Duration::from_millis(1));
        wait_for_helpers();
    }
    panic!("no response: {} bytes", client.received.len());
}

#[test]
fn a_wait_for_the_disk_is_a_pause_of_the_disk() {
    let site = Site::new();
    site.file("cold", 8 * MIB);
    cool(&site, "cold");
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    fetch(&mut bed, &mut client, "/cold");
    if bed.report().service.reads.reads_helper == 0 {
        skip(
            "worker",
            "the file system of the test directory has no disk behind it",
        );
        return;
    }
    let tcp = bed.report().tcp;
    assert!(tcp.pauses[Cause::Disk.index()] > 0, "{:?}", tcp.pauses);
    assert_eq!(tcp.pauses[Cause::Application.index()], 0);
}

#[test]
fn what_is_in_the_cache_is_no_pause_of_the_disk() {
    let site = Site::new();
    site.file("warm", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    fetch(&mut bed, &mut client, "/warm");
    fetch(&mut bed, &mut client, "/warm");
    let before = bed.report().tcp.pauses[Cause::Disk.index()];
    fetch(&mut bed, &mut client, "/warm");
    let tcp = bed.report().tcp;
    assert_eq!(tcp.pauses[Cause::Disk.index()], before);
    assert!(tcp.pauses[Cause::CongestionWindow.index()] > 0);
}

#[test]
fn a_client_that_does_not_read_pauses_its_receive_window() {
    let site = Site::new();
    site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.set_window(8 * 1024);
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 100 * KIB);
    let tcp = bed.report().tcp;
    assert!(tcp.pauses[Cause::ReceiveWindow.index()] > 0);
    assert_eq!(tcp.pauses[Cause::CongestionWindow.index()], 0);
}

#[test]
fn clients_without_a_block_pause_for_memory() {
    let site = Site::new();
    site.file("big", 8 * MIB);
    let setup = Setup {
        blocks: 2,
        pacing: false,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut crowd: Vec<Client> = (0..8).map(|_| Client::connect(bed.take_port())).collect();
    bed.settle(&mut crowd);
    for (n, client) in crowd.iter_mut().enumerate() {
        let from = n * 512 * KIB;
        let to = from + 200 * KIB;
        client.write(format!(
            "GET /big HTTP/1.1\r\nHost: sluice.test\r\nRange: bytes={from}-{to}\r\n\r\n"
        ));
    }
    bed.run(&mut crowd, |crowd| crowd.iter().all(Client::has_response));
    let tcp = bed.report().tcp;
    assert!(tcp.pauses[Cause::Memory.index()] > 0, "{:?}", tcp.pauses);
}

#[test]
fn the_record_of_a_reset_transfer_is_there_when_its_end_is_told() {
    let site = Site::new();
    site.file("big", 8 * MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 200 * KIB);
    client.abort();
    bed.settle_one(&mut client);
    let record = *bed.worker.stack().last_record().expect("it was reset");
    assert_eq!(record.reason, Some(CloseReason::PeerReset));
    assert!(record.sent > 200 * 1024 && record.acknowledged <= record.sent);
    assert!(record.events().count() > 0);
    assert_eq!(bed.worker.stack().trails(), 0, "the ring went back");
}

#[test]
fn the_log_hears_every_event_of_a_full_trail() {
    let site = Site::new();
    site.file("big", 8 * MIB);
    let mut bed = Bed::new(&site);
    let (worker, mut book) = farewells();
    bed.worker = bed.worker.with_farewells(worker);
    let mut client = bed.connect();
    client.set_window(8 * 1024);
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 100 * KIB);
    for _ in 0..EVENTS_MAX {
        // Two that have no effect, each for a reason of its own.
        let old = client.segment(0..1);
        client.out.push(old);
        client.abort_ahead(100);
        bed.round(core::slice::from_mut(&mut client));
    }
    client.abort();
    bed.settle_one(&mut client);
    let record = *bed.worker.stack().last_record().expect("it was reset");
    assert_eq!(record.events().count(), EVENTS_MAX);
    let lines = book.lines(bed.now);
    let (_, trail) = lines[0].split_once(" trail=").expect("it has a trail");
    assert_eq!(trail.split(',').count(), EVENTS_MAX, "{trail}");
    let (last, _) = trail.rsplit_once("@").expect("an event");
    assert!(last.ends_with(",dropped:connection_reset"), "{trail}");
}

#[test]
fn a_connection_that_ends_in_order_leaves_no_record() {
    let site = Site::new();
    site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    bed.get(&mut client, "/small");
    bed.close(client);
    assert!(bed.worker.stack().last_record().is_none());
    assert_eq!(bed.worker.stack().trails(), 0);
}

/// RFC 9112 section 9.6, RFC 1122 section 4.2.2.13.
#[test]
fn after_an_error_what_comes_is_read_away_until_five_seconds_of_silence_and_then_reset() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write("NONSENSE\r\n\r\n");
    bed.run_one(&mut client, |client| client.finished);
    bed.settle_one(&mut client);
    bed.pass(LINGER - Duration::from_secs(1));
    client.write("more that was under way");
    bed.settle_one(&mut client);
    assert!(!client.reset, "the answer may not have been read yet");
    bed.pass(LINGER - Duration::from_secs(1));
    client.write("and more");
    bed.settle_one(&mut client);
    assert!(!client.reset, "it still sends");
    bed.pass(LINGER + Duration::from_secs(1));
    bed.turn();
    client.write("still more");
    bed.settle_one(&mut client);
    assert!(client.reset);
    assert_eq!(bed.report().tcp.data_not_read, 1);
    bed.assert_at_rest();
}
