//! How connections end: time limits, draining, the peer's FIN. And what is measured of them.

use super::*;
use crate::exchange::{LINGER, LINGER_MOST};

#[test]
fn a_silent_connection_ends_after_the_idle_time() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.run(&mut site);
    assert_eq!(
        peer.exchange.deadline(&site.services),
        Some(site.now + Duration::from_secs(60))
    );
    site.pass(59);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert!(!peer.last.finish);
    site.pass(1);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert!(peer.last.finish && peer.received.is_empty());
    assert_eq!(
        peer.exchange.deadline(&site.services),
        Some(site.now + LINGER)
    );
    site.pass(LINGER.as_secs());
    assert!(!peer.exchange.has_lingered());
    peer.exchange.on_deadline(site.now, &mut site.services);
    assert!(peer.exchange.has_lingered());
    assert_eq!(peer.exchange.deadline(&site.services), None);
    assert_eq!(site.services.counters.idle_timeouts, 1);
    peer.end(&mut site);
}

/// RFC 9112 section 9.6.
#[test]
fn a_peer_that_still_sends_has_five_seconds_from_its_last_byte_but_thirty_at_most() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send("NONSENSE\r\n\r\n", &mut site);
    peer.run(&mut site);
    assert_eq!(status(&peer.only_response().0), "400");
    let began = site.now;
    let deadline = |peer: &Peer, site: &Site| peer.exchange.deadline(&site.services);
    assert_eq!(deadline(&peer, &site), Some(began + LINGER));
    // 7 times 4 s: the last one reaches beyond the end.
    for _ in 0..7 {
        site.pass(4);
        peer.exchange.on_deadline(site.now, &mut site.services);
        assert!(!peer.exchange.has_lingered());
        peer.send("what was under way", &mut site);
        peer.run(&mut site);
        let silent_until = (site.now + LINGER).min(began + LINGER_MOST);
        assert_eq!(deadline(&peer, &site), Some(silent_until));
    }
    site.pass(2);
    peer.exchange.on_deadline(site.now, &mut site.services);
    assert!(peer.exchange.has_lingered());
    peer.end(&mut site);
}

#[test]
fn a_kept_connection_has_the_idle_time_from_its_last_response_on() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.run(&mut site);
    site.pass(50);
    peer.get("/a", &mut site);
    peer.run(&mut site);
    assert!(peer.exchange.is_idle());
    assert_eq!(
        peer.exchange.deadline(&site.services),
        Some(site.now + Duration::from_secs(60))
    );
    peer.end(&mut site);
}

#[test]
fn a_head_that_drips_gets_408_after_ten_seconds() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send("G", &mut site);
    peer.run(&mut site);
    for byte in ["E", "T", " ", "/", " ", "H", "T", "T", "P"] {
        site.pass(1);
        peer.exchange.on_deadline(site.now, &mut site.services);
        peer.send(byte, &mut site);
        peer.run(&mut site);
        assert!(peer.received.is_empty());
    }
    site.pass(1);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    let (head, _) = peer.only_response();
    assert_eq!(status(&head), "408");
    assert_eq!(field(&head, "Connection"), Some("close"));
    assert!(peer.last.finish);
    assert_eq!(site.services.counters.head_timeouts, 1);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn bytes_out_of_order_alone_do_not_hold_a_workspace_for_longer_than_a_head() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    assert!(peer.exchange.place(5, b"x", &mut site.services));
    peer.run(&mut site);
    assert_eq!(site.services.active(), 1);
    site.pass(10);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert!(peer.last.finish);
    assert_eq!(site.services.active(), 0);
    peer.end(&mut site);
}

#[test]
fn a_transfer_has_no_deadline_without_a_minimum_rate() {
    let config = ServicesConfig {
        min_rate: None,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(64, &config);
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    let _ = peer.exchange.advance(1000, site.now, &mut site.services);
    assert_eq!(peer.exchange.deadline(&site.services), None);
    peer.end(&mut site);
}

/// Takes `bytes` a second for a minute. True if the connection was reset.
fn is_reset_at(bytes: u64) -> bool {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    for second in 1..=60 {
        let horizon = second * bytes;
        while peer
            .exchange
            .advance(horizon, site.now, &mut site.services)
            .waiting
        {
            site.wait_for_disk();
        }
        site.pass(1);
        peer.exchange
            .acknowledged(horizon, site.now, &mut site.services);
        peer.exchange.on_deadline(site.now, &mut site.services);
    }
    let progress = peer.exchange.advance(0, site.now, &mut site.services);
    assert_eq!(u64::from(progress.abort), site.services.counters.too_slow);
    peer.end(&mut site);
    site.assert_at_rest();
    progress.abort
}

#[test]
fn a_peer_below_the_minimum_rate_is_reset_and_one_above_it_is_not() {
    assert!(is_reset_at(900));
    assert!(!is_reset_at(1100));
}

#[test]
fn time_in_which_a_peer_waits_for_us_does_not_count_against_it() {
    let mut site = Site::with(1, &ServicesConfig::default());
    site.file("a", BLOCK_BYTES);
    let content = site.file("b", BLOCK_BYTES);
    let mut holder = Peer::new(&site);
    holder.get("/a", &mut site);
    while holder
        .exchange
        .advance(1000, site.now, &mut site.services)
        .waiting
    {
        site.wait_for_disk();
    }
    let mut peer = Peer::new(&site);
    peer.get("/b", &mut site);
    peer.turn(&mut site);
    assert!(peer.last.waiting, "there is no block");
    for _ in 0..100 {
        site.pass(1);
        peer.exchange.on_deadline(site.now, &mut site.services);
    }
    holder.end(&mut site);
    peer.run(&mut site);
    assert!(peer.only_response().1 == content);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn draining_ends_idle_connections_at_once() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut fresh = Peer::new(&site);
    let mut kept = Peer::new(&site);
    fresh.run(&mut site);
    kept.get("/a", &mut site);
    kept.run(&mut site);
    site.services.draining = true;
    for peer in [&mut fresh, &mut kept] {
        peer.run(&mut site);
        assert!(peer.last.finish);
    }
    assert_eq!(site.services.counters.drained, 2);
    fresh.end(&mut site);
    kept.end(&mut site);
}

#[test]
fn draining_finishes_the_running_transfer_and_then_the_connection() {
    let mut site = Site::new();
    let content = site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 10_000;
    peer.get("/big", &mut site);
    peer.turn(&mut site);
    site.services.draining = true;
    peer.turn(&mut site);
    assert!(!peer.last.finish);
    peer.run(&mut site);
    assert!(peer.only_response().1 == content);
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn draining_answers_one_more_request_and_says_close() {
    let mut site = Site::new();
    let content = site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.send("GET /a HTTP/1.1\r\n", &mut site);
    peer.run(&mut site);
    site.services.draining = true;
    peer.run(&mut site);
    assert!(!peer.last.finish, "a request has begun");
    let request = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";
    peer.send(format!("Host: test\r\n\r\n{request}"), &mut site);
    peer.run(&mut site);
    let (head, body) = peer.only_response();
    assert_eq!(field(&head, "Connection"), Some("close"));
    assert_eq!(body, content);
    assert!(peer.last.finish);
    peer.end(&mut site);
}

#[test]
fn a_peer_that_has_finished_still_gets_its_responses() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    peer.get("/big", &mut site);
    peer.send("GET /never", &mut site);
    peer.exchange.peer_finished();
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses.len(), 2);
    assert!(responses.iter().all(|(_, body)| *body == content));
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn http_1_0_without_keep_alive_ends_after_its_response() {
    let mut site = Site::new();
    let content = site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.send("GET /a HTTP/1.0\r\n\r\n", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.only_response().1, content);
    assert!(peer.last.finish);
    peer.end(&mut site);
}

#[test]
fn latencies_run_from_the_last_byte_of_the_head() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.send("GET /a HTTP/1.1\r\n", &mut site);
    peer.run(&mut site);
    site.pass(3);
    peer.send("Host: test\r\n\r\n", &mut site);
    let progress = peer.exchange.advance(1000, site.now, &mut site.services);
    site.pass(1);
    peer.exchange.sent(1, site.now, &mut site.services);
    site.pass(1);
    peer.exchange
        .sent(progress.ready_until, site.now, &mut site.services);
    peer.exchange
        .acknowledged(progress.ready_until, site.now, &mut site.services);
    let seconds = |name: &str| {
        let found = site
            .services
            .histograms
            .series()
            .find(|(series, _)| *series == name);
        let (_, series) = found.expect("a series of that name");
        assert_eq!(series.len(), 1, "{name}");
        series.max() / 1_000_000
    };
    assert_eq!(seconds("time to first byte"), 1);
    assert_eq!(seconds("request <= 4 KiB"), 2);
    peer.end(&mut site);
}
