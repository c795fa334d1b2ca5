//! Requests and their answers.

use super::*;

#[test]
fn a_file_of_many_blocks_arrives_byte_for_byte() {
    let mut site = Site::new();
    let content = site.file("big", 10 * BLOCK_BYTES + 17);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    peer.run(&mut site);
    let (head, body) = peer.only_response();
    assert_eq!(status(&head), "200");
    assert!(body == content);
    assert!(!peer.last.finish, "the connection is kept");
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn request_bytes_may_come_in_any_order() {
    let mut site = Site::new();
    let content = site.file("a", 1000);
    let request = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut peer = Peer::new(&site);
    for from in (0..request.len()).rev() {
        assert!(
            peer.exchange
                .place(as_u64(from), &request[from..=from], &mut site.services)
        );
        assert!(!peer.turn(&mut site), "nothing is in order yet");
    }
    peer.exchange.delivered(as_u64(request.len()));
    peer.run(&mut site);
    assert_eq!(peer.only_response().1, content);
    assert_eq!(peer.exchange.consumed(), as_u64(request.len()));
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order() {
    let mut site = Site::new();
    let files: Vec<_> = (0..50)
        .map(|n| site.file(&format!("f{n}"), 1000 * n + 1))
        .collect();
    let mut peer = Peer::new(&site);
    for n in 0..50 {
        peer.get(&format!("/f{n}"), &mut site);
    }
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses.len(), 50);
    for ((head, body), content) in responses.iter().zip(&files) {
        assert_eq!(status(head), "200");
        assert!(body == content);
    }
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn pipelining_is_bounded_and_leaves_the_rest_in_the_input() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    let request = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";
    peer.send(request.repeat(50), &mut site);
    // Nothing is acknowledged, so nothing is freed.
    let _ = peer
        .exchange
        .advance(u64::MAX, site.now, &mut site.services);
    let answered = site.services.counters.responses();
    assert_eq!(answered, as_u64(RESPONSES_MAX));
    assert_eq!(peer.exchange.consumed(), answered * as_u64(request.len()));
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn head_requests_get_the_head_only() {
    let mut site = Site::new();
    site.file("a", 5000);
    let mut peer = Peer::new(&site);
    peer.send("HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n", &mut site);
    peer.run(&mut site);
    assert!(peer.received.ends_with(b"\r\n\r\n"));
    let head = String::from_utf8(peer.received.clone()).expect("ASCII");
    assert_eq!(status(&head), "200");
    assert_eq!(field(&head, "Content-Length"), Some("5000"));
    site.services.end_turn(false);
    assert_eq!(
        site.services.disk.ledger().files_open,
        0,
        "the file is closed with the turn"
    );
    peer.end(&mut site);
}

#[test]
fn a_resumed_download_gets_exactly_the_rest() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let from = BLOCK_BYTES + 12_345;
    let mut peer = Peer::new(&site);
    peer.send(
        format!("GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes={from}-\r\n\r\n"),
        &mut site,
    );
    peer.run(&mut site);
    let (head, body) = peer.only_response();
    assert_eq!(status(&head), "206");
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    assert_eq!(field(&head, "Content-Range"), Some(range.as_str()));
    assert!(body == content[from..]);
    peer.end(&mut site);
}

#[test]
fn a_short_range_across_a_block_border_is_exact() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.send(
        "GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes=65530-65541\r\n\r\n",
        &mut site,
    );
    peer.run(&mut site);
    assert_eq!(peer.only_response().1, &content[65_530..65_542]);
    peer.end(&mut site);
}

#[test]
fn an_empty_file_is_a_response_without_body() {
    let mut site = Site::new();
    site.file("empty", 0);
    let mut peer = Peer::new(&site);
    peer.get("/empty", &mut site);
    peer.get("/empty", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.responses().len(), 2);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_missing_file_is_404_and_the_connection_goes_on() {
    let mut site = Site::new();
    let content = site.file("a", 100);
    let mut peer = Peer::new(&site);
    peer.get("/missing", &mut site);
    peer.get("/a", &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(status(&responses[0].0), "404");
    assert_eq!(responses[1].1, content);
    peer.end(&mut site);
}

#[test]
fn other_methods_get_405_and_what_follows_is_ignored() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send(
        "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
        &mut site,
    );
    peer.run(&mut site);
    let (head, _) = peer.only_response();
    assert_eq!(status(&head), "405");
    assert_eq!(field(&head, "Connection"), Some("close"));
    assert!(peer.last.finish);
    peer.get("/", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.responses().len(), 1);
    assert_eq!(
        peer.exchange.consumed(),
        peer.sent,
        "ignored bytes do not close the window"
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_directory_serves_its_index_and_redirects_to_its_slash() {
    let mut site = Site::new();
    fs::create_dir(site.directory.path().join("sub")).expect("create directory");
    let index = site.file("sub/index.html", 77);
    let mut peer = Peer::new(&site);
    peer.get("/sub", &mut site);
    peer.get("/sub/", &mut site);
    peer.get("/", &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(status(&responses[0].0), "301");
    assert_eq!(field(&responses[0].0, "Location"), Some("/sub/"));
    assert_eq!(responses[1].1, index);
    assert_eq!(status(&responses[2].0), "404", "no index, no listing");
    peer.end(&mut site);
}

#[test]
fn a_redirect_longer_than_the_head_ring_is_refused() {
    let mut site = Site::new();
    fs::create_dir(site.directory.path().join("d")).expect("create directory");
    let mut peer = Peer::new(&site);
    peer.get(&format!("/d?{}", "q".repeat(4000)), &mut site);
    peer.get(&format!("/d?{}", "q".repeat(4000)), &mut site);
    peer.get(&format!("/d?{}", "q".repeat(8150)), &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    let statuses: Vec<_> = responses.iter().map(|(head, _)| status(head)).collect();
    assert_eq!(
        statuses,
        ["301", "301", "414"],
        "long ones wait for room, too long ones are refused"
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_broken_request_is_answered_once_and_ends_the_connection() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.get("/a", &mut site);
    peer.send(
        "GET /a HTTP/1.1\nHost : test\r\n\r\nGET /a HTTP/1.1\r\nHost: test\r\n\r\n",
        &mut site,
    );
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses.len(), 2);
    assert_eq!(status(&responses[0].0), "200");
    assert_eq!(status(&responses[1].0), "400");
    assert!(peer.last.finish && !peer.last.abort);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_head_that_fills_the_buffer_is_431() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send(
        format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}", "x".repeat(8000)),
        &mut site,
    );
    peer.run(&mut site);
    assert!(peer.received.is_empty());
    let room = peer.exchange.room(&site.services);
    peer.send("y".repeat(room), &mut site);
    peer.run(&mut site);
    assert_eq!(status(&peer.only_response().0), "431");
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}
