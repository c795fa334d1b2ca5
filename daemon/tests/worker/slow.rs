//! Clients that hardly take anything: they hold no block while they do not read, and are ended in time.

use core::time::Duration;

use crate::bed::{Bed, Setup, get};
use crate::client::Client;
use crate::site::{KIB, MIB, Site};

const SECOND: Duration = Duration::from_secs(1);

fn range(path: &str, from: usize) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sluice.test\r\nRange: bytes={from}-\r\n\r\n")
}

fn callers(bed: &mut Bed, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count)
        .map(|_| Client::connect(bed.take_port()))
        .collect();
    bed.settle(&mut clients);
    clients
}

/// Reads at most `bytes` and then closes the window.
fn sip(bed: &mut Bed, crowd: &mut [Client], bytes: u32) {
    for client in crowd.iter_mut() {
        client.set_window(bytes);
    }
    for _ in 0..30 {
        bed.round(crowd);
        for client in crowd.iter_mut() {
            // Its acknowledgement would offer the window again.
            client.out.clear();
        }
        crate::bed::wait_for_helpers();
    }
    for client in crowd.iter_mut() {
        client.set_window(0);
    }
    bed.settle(crowd);
}

/// Connections that ask for a block each and take next to nothing of it.
fn lazy_crowd(bed: &mut Bed, count: usize) -> Vec<Client> {
    let mut crowd = callers(bed, count);
    for (n, client) in crowd.iter_mut().enumerate() {
        client.write(range("/big", n * 64 * KIB));
    }
    sip(bed, &mut crowd, 4096);
    for _ in 0..100 {
        bed.settle(&mut crowd);
        crate::bed::wait_for_helpers();
    }
    crowd
}

fn crowded(min_rate: Option<u64>) -> Setup {
    Setup {
        ring: 4096,
        rx_ring: 4096,
        frames: 16_384,
        connections: 2048,
        blocks: 64,
        min_rate,
        // A release time that no frame brings nearer would stop the clock: it moves with frames only.
        pacing: false,
        // All call in the same round.
        zero_copy: true,
        ..Setup::default()
    }
}

#[test]
fn a_thousand_clients_that_do_not_read_hold_no_block_and_a_normal_one_is_served_at_once() {
    let site = Site::new();
    site.file("big", 70 * MIB);
    let content = site.file("other", MIB);
    let mut bed = Bed::with(&site, &crowded(None));
    let mut crowd = lazy_crowd(&mut bed, 1000);
    assert_eq!(bed.report().service.disk.pinned, 0, "nothing is in flight");
    crowd.push(Client::connect(bed.take_port()));
    // Also while they are probed.
    for _ in 0..4 {
        let before = bed.now;
        crowd[1000].write(get("/other"));
        bed.run(&mut crowd, |clients| clients[1000].has_response());
        assert!(bed.now.saturating_since(before) < SECOND);
        let response = crowd[1000].take_response();
        assert!(response.is_some_and(|response| response.body == content));
        bed.pass(Duration::from_millis(700));
        bed.settle(&mut crowd);
    }
    let report = bed.report();
    assert!(report.tcp.window_probes > 1000);
    assert!(crowd[..1000].iter().all(|client| client.probes > 0));
    assert!(crowd.iter().all(|client| !client.reset));
    assert_eq!(
        (report.worker.tx_not_built, report.service.disk.pinned),
        (0, 0)
    );
    // Who reads again goes on where he was.
    crowd[7].set_window(1 << 20);
    bed.run(&mut crowd, |clients| clients[7].received.len() > 2 * MIB);
}

#[test]
fn a_client_below_the_minimum_rate_is_reset_however_lively_it_is() {
    let site = Site::new();
    site.file("big", 70 * MIB);
    let mut bed = Bed::with(&site, &crowded(Some(1024)));
    let mut crowd = lazy_crowd(&mut bed, 50);
    let mut seconds = 0;
    while !crowd.iter().all(|client| client.reset) {
        sip(&mut bed, &mut crowd, 512);
        bed.pass(SECOND);
        seconds += 1;
        assert!(
            seconds < 70,
            "512 bytes a second are not a transfer: {:?} {:?}",
            bed.report().service.counters,
            bed.report().tcp
        );
    }
    assert!(seconds >= 30, "after {seconds} s");
    assert_eq!(bed.report().service.counters.too_slow, 50);
    bed.assert_at_rest();
}

#[test]
fn who_holds_blocks_without_acknowledging_is_reset_once_others_wait() {
    let site = Site::new();
    site.file("big", 70 * MIB);
    let content = site.file("other", MIB);
    let mut bed = Bed::with(&site, &crowded(None));
    let mut crowd = callers(&mut bed, 100);
    for (n, client) in crowd.iter_mut().enumerate() {
        client.write(range("/big", n * 64 * KIB));
        client.mute = true;
    }
    bed.settle(&mut crowd);
    assert!(bed.report().service.disk.pinned > 60);
    crowd.push(Client::connect(bed.take_port()));
    bed.settle(&mut crowd);
    crowd[100].write(get("/other"));
    bed.settle(&mut crowd);
    assert!(!crowd[100].has_response(), "there is no block");
    let mut seconds = 0;
    while !crowd[100].has_response() {
        bed.settle(&mut crowd);
        bed.pass(SECOND);
        seconds += 1;
        assert!(seconds < 20, "no block after {seconds} s");
    }
    let report = bed.report();
    assert!(report.service.counters.ended_for_blocks > 0);
    assert_eq!(report.service.counters.abandoned, 0);
    assert!(crowd.pop().is_some_and(|mut client| {
        client
            .take_response()
            .is_some_and(|response| response.body == content)
    }));
}

#[test]
fn of_many_that_wait_a_turn_asks_a_bounded_number() {
    let site = Site::new();
    site.file("big", 70 * MIB);
    let setup = Setup {
        blocks: 1,
        ..crowded(None)
    };
    let mut bed = Bed::with(&site, &setup);
    let mut crowd = callers(&mut bed, 1001);
    crowd[0].mute = true;
    crowd[0].write(get("/big"));
    bed.settle(&mut crowd);
    for (n, client) in crowd.iter_mut().enumerate().skip(1) {
        client.write(range("/big", n * 64 * KIB));
        // It stays mute, so that nothing but the holder's end frees anything.
        client.mute = true;
    }
    for _ in 0..20 {
        bed.settle(&mut crowd);
    }
    crowd[0].abort();
    bed.inject_from(&mut crowd[0]);
    let mut before = bed.report().worker.waiting_asked;
    let mut asked = Vec::new();
    for _ in 0..6 {
        bed.turn();
        let now = bed.report().worker.waiting_asked;
        asked.push(now - before);
        before = now;
    }
    assert!(asked.iter().all(|&asked| asked <= 256), "{asked:?}");
    assert!(asked.iter().sum::<u64>() >= 900, "{asked:?}");
}
