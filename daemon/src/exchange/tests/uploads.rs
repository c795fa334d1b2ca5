//! Uploads: bodies in every cut, what ends them early, and that nothing of those is left.

mod holding;
mod lending;
#[path = "../../../tests/names/mod.rs"]
mod names;

use super::*;
use crate::services::UploadConfig;
use names::names;
use proptest::prelude::*;
use sluice_disk::UploadLimits;
use sluice_http::UploadRules;

const MAX_SIZE: u64 = 4 << 20;

/// A site that takes uploads into half of `blocks`.
fn site(blocks: usize) -> Site {
    let config = ServicesConfig {
        uploads: Some(UploadConfig {
            rules: UploadRules { max_size: MAX_SIZE },
            limits: UploadLimits {
                uploads: 4,
                threads: 2,
                blocks: blocks / 2,
                blocks_each: (blocks / 2).max(1),
                loans: 0,
            },
        }),
        ..ServicesConfig::default()
    };
    Site::with(blocks, &config)
}

fn put_head(path: &str, fields: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

fn with_length(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = put_head(path, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    request.extend_from_slice(body);
    request
}

/// The body in chunks of `size` bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn with_chunks(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut request = put_head(path, "Transfer-Encoding: chunked\r\n").into_bytes();
    request.extend_from_slice(&chunked(body, size));
    request
}

fn stored(site: &Site, name: &str) -> Vec<u8> {
    fs::read(site.directory.path().join(name)).expect("a stored file")
}

impl Peer {
    /// Sends as a transport does: never beyond the window, in pieces of `piece` bytes.
    fn send_within_window(&mut self, mut bytes: &[u8], piece: usize, site: &mut Site) {
        for _ in 0..TURNS_MAX {
            if bytes.is_empty() || self.last.abort || self.last.finish {
                return;
            }
            let room = self.window_room(site);
            let len = bytes.len().min(piece).min(room);
            if len > 0 {
                self.send(&bytes[..len], site);
                bytes = &bytes[len..];
            }
            self.turn(site);
            if len == 0 {
                site.wait_for_disk();
            }
        }
        panic!("the window stays closed with {} bytes left", bytes.len());
    }

    /// Bytes that its window still lets out, as a stack with our own TCP says it.
    fn window_room(&mut self, site: &Site) -> usize {
        let edge = match self.exchange.promise(&site.services) {
            Some(edge) => edge,
            None => self.exchange.consumed() + as_u64(site.services.input_bytes()),
        };
        usize::try_from(edge.saturating_sub(self.sent)).expect("small")
    }

    fn statuses(&self) -> Vec<String> {
        let responses = self.responses();
        responses
            .iter()
            .map(|(head, _)| status(head).to_owned())
            .collect()
    }
}

fn uploaded(site: &mut Site, request: &[u8], piece: usize) -> Peer {
    let mut peer = Peer::new(site);
    peer.send_within_window(request, piece, site);
    peer.run(site);
    peer
}

#[test]
fn an_upload_is_a_file_when_it_is_answered_and_the_connection_goes_on() {
    let mut site = site(16);
    let body = content("a", 300_000);
    let mut peer = uploaded(&mut site, &with_length("/a", &body), 1448);
    assert_eq!(peer.statuses(), ["201"]);
    assert_eq!(stored(&site, "a"), body);
    peer.get("/a", &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses[1].1, body);
    peer.end(&mut site);
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), ["a"]);
    assert_eq!(site.services.counters.uploads, 1);
    assert_eq!(site.services.counters.upload_bytes, 300_000);
    assert_eq!(site.services.counters.uploads_discarded, 0);
}

#[test]
fn a_second_upload_replaces_the_first_and_is_204() {
    let mut site = site(16);
    uploaded(&mut site, &with_length("/a", b"one"), 100).end(&mut site);
    let peer = uploaded(&mut site, &with_length("/a", b"two and more"), 100);
    assert_eq!(peer.statuses(), ["204"]);
    assert_eq!(stored(&site, "a"), b"two and more");
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn an_empty_body_is_an_empty_file() {
    let mut site = site(16);
    let mut request = with_length("/a", b"");
    request.extend_from_slice(&with_chunks("/b", b"", 10));
    let peer = uploaded(&mut site, &request, 1000);
    assert_eq!(peer.statuses(), ["201", "201"]);
    assert!(stored(&site, "a").is_empty() && stored(&site, "b").is_empty());
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_body_in_single_bytes_is_stored() {
    let mut site = site(4);
    let body = content("a", 3000);
    for request in [with_length("/a", &body), with_chunks("/a", &body, 7)] {
        let peer = uploaded(&mut site, &request, 1);
        assert!(
            peer.statuses()[0].starts_with("20"),
            "{:?}",
            peer.statuses()
        );
        assert_eq!(stored(&site, "a"), body);
        peer.end(&mut site);
    }
    site.assert_at_rest();
}

#[test]
fn who_expects_100_hears_it_before_its_body() {
    let mut site = site(16);
    let mut peer = Peer::new(&site);
    let fields = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    peer.send(put_head("/a", fields), &mut site);
    peer.run(&mut site);
    assert_eq!(peer.received, b"HTTP/1.1 100 Continue\r\n\r\n");
    peer.send(b"hello", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["100", "201"]);
    assert_eq!(stored(&site, "a"), b"hello");
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn who_does_not_wait_for_100_does_not_hear_it() {
    // RFC 9110 10.1.1: it may be left out once some of the content has come.
    let mut site = site(16);
    let fields = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let request = put_head("/a", fields) + "hello";
    let peer = uploaded(&mut site, request.as_bytes(), 1000);
    assert_eq!(peer.statuses(), ["201"]);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn what_cannot_be_stored_is_refused_without_100() {
    let mut site = site(16);
    fs::create_dir(site.directory.path().join("d")).expect("a directory");
    site.file("there", 10);
    for (path, fields, expected) in [
        ("/d", "", "409"),
        ("/d/", "", "409"),
        ("/none/a", "", "409"),
        ("/.a", "", "403"),
        ("/there", "If-None-Match: *\r\n", "412"),
        ("/there", "If-Match: \"other\"\r\n", "412"),
        ("/a", "If-Match: *\r\n", "412"),
        ("/a", "Content-Range: bytes 0-4/10\r\n", "400"),
        ("/a", "Content-Encoding: gzip\r\n", "415"),
    ] {
        let mut peer = Peer::new(&site);
        let fields = format!("Content-Length: 5\r\nExpect: 100-continue\r\n{fields}");
        peer.send(put_head(path, &fields), &mut site);
        peer.run(&mut site);
        assert_eq!(peer.statuses(), [expected], "{path} {fields}");
        assert!(peer.last.finish, "its body may follow all the same");
        peer.end(&mut site);
    }
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), ["d", "there"]);
}

#[test]
fn failures_that_are_this_machines_are_counted_by_reason() {
    let mut site = site(16);
    // A name that leads elsewhere is nothing to write to (403).
    std::os::unix::fs::symlink("there", site.directory.path().join("a")).expect("a link");
    for (path, expected) in [("/a", "403"), ("/none/a", "409")] {
        let peer = uploaded(&mut site, &with_length(path, b"hello"), 1000);
        assert_eq!(peer.statuses(), [expected]);
        peer.end(&mut site);
    }
    let counters = site.services.counters;
    assert_eq!(counters.uploads_discarded, 2);
    assert_eq!(
        (
            counters.uploads_denied,
            counters.uploads_no_space,
            counters.uploads_io
        ),
        (1, 0, 0)
    );
    site.assert_at_rest();
}

#[test]
fn without_uploads_put_is_405_and_names_the_methods() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send(with_length("/a", b"hello"), &mut site);
    peer.run(&mut site);
    let (head, _) = peer.only_response();
    assert_eq!(status(&head), "405");
    assert_eq!(field(&head, "Allow"), Some("GET, HEAD"));
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn the_tag_of_an_upload_guards_the_next() {
    let mut site = site(16);
    let peer = uploaded(&mut site, &with_length("/a", b"one"), 1000);
    let (head, _) = peer.only_response();
    let tag = field(&head, "ETag").expect("a tag").to_owned();
    assert!(tag.starts_with('"'), "strong: {tag}");
    peer.end(&mut site);
    for expected in ["204", "412"] {
        let fields = format!("If-Match: {tag}\r\nContent-Length: 3\r\n");
        let request = put_head("/a", &fields) + "two";
        let peer = uploaded(&mut site, request.as_bytes(), 1000);
        assert_eq!(peer.statuses(), [expected], "the tag of the first version");
        peer.end(&mut site);
    }
    site.assert_at_rest();
}

#[test]
fn requests_behind_an_upload_are_answered_after_it() {
    let mut site = site(16);
    let there = site.file("there", 5000);
    let body = content("a", 100_000);
    for upload in [with_length("/a", &body), with_chunks("/a", &body, 3000)] {
        let mut request = b"GET /there HTTP/1.1\r\nHost: t\r\n\r\n".to_vec();
        request.extend_from_slice(&upload);
        request.extend_from_slice(b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n");
        request.extend_from_slice(&with_length("/b", b"short"));
        let peer = uploaded(&mut site, &request, 1448);
        let responses = peer.responses();
        assert_eq!(responses.len(), 4, "{:?}", peer.statuses());
        assert_eq!(responses[0].1, there);
        assert_eq!(responses[2].1, body);
        assert_eq!(stored(&site, "b"), b"short");
        peer.end(&mut site);
    }
    site.assert_at_rest();
}

#[test]
fn pieces_out_of_order_find_their_places() {
    let mut site = site(16);
    let body = content("a", 200_000);
    let request = with_length("/a", &body);
    let head = request.len() - body.len();
    let mut peer = Peer::new(&site);
    peer.send(&request[..head + 100], &mut site);
    peer.run(&mut site);
    // Windows of pieces in reverse order, delivered when the first of them has come.
    let mut at = head + 100;
    while at < request.len() {
        let room = peer.window_room(&site).min(request.len() - at);
        let mut pieces: Vec<usize> = (at..at + room).step_by(1448).collect();
        pieces.reverse();
        for from in pieces {
            let to = (from + 1448).min(at + room);
            assert!(
                peer.exchange
                    .place(as_u64(from), &request[from..to], &mut site.services)
            );
        }
        at += room;
        peer.sent = as_u64(at);
        peer.exchange.delivered(peer.sent);
        peer.turn(&mut site);
        site.wait_for_disk();
    }
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["201"]);
    assert_eq!(stored(&site, "a"), body);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn bytes_beyond_a_hole_survive_the_way_from_the_request_buffer_into_a_block() {
    let mut site = site(16);
    let body = content("a", 9000);
    let request = with_length("/a", &body);
    let head = request.len() - body.len();
    let mut peer = Peer::new(&site);
    // All but 1000 bytes of the body, before the exchange has looked at anything.
    let hole = head + 500..head + 1500;
    let services = &mut site.services;
    assert!(peer.exchange.place(0, &request[..hole.start], services));
    assert!(
        peer.exchange
            .place(as_u64(hole.end), &request[hole.end..], services)
    );
    peer.exchange.delivered(as_u64(hole.start));
    peer.run(&mut site);
    assert!(peer.received.is_empty());
    let services = &mut site.services;
    assert!(
        peer.exchange
            .place(as_u64(hole.start), &request[hole.clone()], services)
    );
    peer.exchange.delivered(as_u64(request.len()));
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["201"]);
    assert_eq!(stored(&site, "a"), body);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing() {
    let mut site = site(16);
    let body = content("a", 300_000);
    for (request, sent) in [
        (with_length("/a", &body), 200_000),
        (with_length("/a", &body), 60),
        (with_chunks("/a", &body, 5000), 200_000),
    ] {
        let peer = uploaded(&mut site, &request[..sent], 1448);
        assert!(peer.received.is_empty());
        peer.end(&mut site);
    }
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), Vec::<String>::new());
    assert_eq!(site.services.counters.uploads_discarded, 3);
}

#[test]
fn an_upload_whose_client_leaves_while_it_is_published_is_not_counted_as_discarded() {
    let mut site = site(16);
    let mut peer = Peer::new(&site);
    peer.send_within_window(&with_length("/a", b"hello"), 1000, &mut site);
    let is_publishing = |peer: &Peer| {
        let upload = peer.exchange.upload.as_ref();
        upload.is_some_and(|upload| upload.is_publishing())
    };
    while !is_publishing(&peer) {
        peer.turn(&mut site);
        if !is_publishing(&peer) {
            site.wait_for_disk();
        }
    }
    // The disk goes on; the exchange does not look at what it answers.
    for _ in 0..TURNS_MAX {
        if names(site.directory.path()) == ["a"] {
            break;
        }
        site.wait_for_disk();
    }
    peer.end(&mut site);
    site.assert_at_rest();
    assert_eq!(stored(&site, "a"), b"hello");
    let counters = site.services.counters;
    assert_eq!((counters.uploads, counters.uploads_unanswered), (0, 1));
    assert_eq!(counters.uploads_discarded, 0);
}

#[test]
fn a_fin_in_the_middle_of_a_body_is_400_and_leaves_nothing() {
    let mut site = site(16);
    let body = content("a", 100_000);
    let mut peer = uploaded(&mut site, &with_length("/a", &body)[..50_000], 1448);
    peer.exchange.peer_finished();
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["400"]);
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), Vec::<String>::new());
}

#[test]
fn a_fin_right_behind_the_body_does_no_harm() {
    let mut site = site(16);
    let body = content("a", 100_000);
    let mut peer = Peer::new(&site);
    peer.send_within_window(&with_length("/a", &body), 1448, &mut site);
    peer.exchange.peer_finished();
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["201"]);
    assert_eq!(stored(&site, "a"), body);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_chunked_body_beyond_the_limit_is_413_in_its_middle() {
    let mut site = site(16);
    let body = vec![7; usize::try_from(MAX_SIZE).expect("small") + 1];
    let peer = uploaded(&mut site, &with_chunks("/a", &body, 60_000), 1448);
    assert_eq!(peer.statuses(), ["413"]);
    assert!(peer.last.finish);
    peer.end(&mut site);
    let whole = uploaded(&mut site, &with_chunks("/a", &body[1..], 60_000), 1448);
    assert_eq!(whole.statuses(), ["201"], "the limit itself is allowed");
    whole.end(&mut site);
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), ["a"]);
}

#[test]
fn the_size_of_a_chunk_above_the_limit_is_enough_for_413() {
    let mut site = site(16);
    let request = put_head("/a", "Transfer-Encoding: chunked\r\n") + "ffffffff\r\nabc";
    let peer = uploaded(&mut site, request.as_bytes(), 1448);
    assert_eq!(peer.statuses(), ["413"]);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn chunks_that_are_none_are_400_and_leave_nothing() {
    let mut site = site(16);
    let request = put_head("/a", "Transfer-Encoding: chunked\r\n") + "3\r\nabcX";
    let peer = uploaded(&mut site, request.as_bytes(), 1448);
    assert_eq!(peer.statuses(), ["400"]);
    peer.end(&mut site);
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), Vec::<String>::new());
}

#[test]
fn a_long_chunked_upload_closes_because_its_window_was_promised() {
    let mut site = site(32);
    let body = content("a", 2_000_000);
    let peer = uploaded(&mut site, &with_chunks("/a", &body, 100_000), 1448);
    let (head, _) = peer.only_response();
    assert_eq!(
        (status(&head), field(&head, "Connection")),
        ("201", Some("close"))
    );
    assert_eq!(stored(&site, "a"), body);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn the_window_never_promises_more_than_there_are_blocks_for() {
    let mut site = site(8);
    let body = content("a", 3_000_000);
    let mut peer = Peer::new(&site);
    peer.exchange.set_wanted(None);
    let request = with_length("/a", &body);
    let mut edge = 0;
    let mut rest = request.as_slice();
    for _ in 0..TURNS_MAX {
        peer.exchange.set_wanted(None);
        let room = peer.window_room(&site);
        assert!(peer.sent + as_u64(room) >= edge, "it never shrinks");
        edge = peer.sent + as_u64(room);
        assert!(
            room <= 4 * BLOCK_BYTES + site.services.input_bytes(),
            "{room}"
        );
        let len = room.min(rest.len());
        peer.send(&rest[..len], &mut site);
        rest = &rest[len..];
        peer.turn(&mut site);
        if rest.is_empty() {
            break;
        }
        site.wait_for_disk();
    }
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["201"]);
    assert_eq!(stored(&site, "a"), body);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn several_uploads_and_a_download_share_few_blocks() {
    let mut site = site(6);
    let there = site.file("there", 500_000);
    let bodies: Vec<Vec<u8>> = (0..3).map(|n| content(&n.to_string(), 400_000)).collect();
    let mut peers: Vec<Peer> = bodies.iter().map(|_| Peer::new(&site)).collect();
    let mut reader = Peer::new(&site);
    reader.get("/there", &mut site);
    let requests: Vec<Vec<u8>> = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| with_length(&format!("/u{n}"), body))
        .collect();
    let mut sent = [0; 3];
    for _ in 0..TURNS_MAX {
        reader.turn(&mut site);
        for (n, peer) in peers.iter_mut().enumerate() {
            let len = peer
                .window_room(&site)
                .min(20_000)
                .min(requests[n].len() - sent[n]);
            peer.send(&requests[n][sent[n]..sent[n] + len], &mut site);
            sent[n] += len;
            peer.turn(&mut site);
        }
        if peers.iter().all(|peer| !peer.received.is_empty()) {
            break;
        }
        site.wait_for_disk();
    }
    reader.run(&mut site);
    assert_eq!(reader.only_response().1, there);
    for (n, peer) in peers.into_iter().enumerate() {
        assert_eq!(peer.statuses(), ["201"]);
        assert_eq!(stored(&site, &format!("u{n}")), bodies[n]);
        peer.end(&mut site);
    }
    reader.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn more_uploads_than_slots_are_503() {
    let mut site = site(16);
    let request = with_length("/a", b"hello");
    let begun: Vec<Peer> = (0..4)
        .map(|_| uploaded(&mut site, &request[..request.len() - 1], 1000))
        .collect();
    let peer = uploaded(&mut site, &request, 1000);
    assert_eq!(peer.statuses(), ["503"]);
    assert_eq!(site.services.counters.uploads_refused, 1);
    peer.end(&mut site);
    for peer in begun {
        peer.end(&mut site);
    }
    site.assert_at_rest();
    assert_eq!(uploaded(&mut site, &request, 1000).statuses(), ["201"]);
}

#[test]
fn one_network_leaves_slots_for_others() {
    let mut site = site(16);
    let request = with_length("/a", b"hello");
    let unfinished = |address: [u8; 4], site: &mut Site| {
        let mut peer = Peer::new(site);
        peer.exchange = Exchange::new(site.now).with_peer(Some(address.into()));
        peer.send(&request[..request.len() - 1], site);
        peer.run(site);
        peer
    };
    let mut begun = vec![
        unfinished([192, 0, 2, 1], &mut site),
        unfinished([192, 0, 2, 1], &mut site),
    ];
    let refused = unfinished([192, 0, 2, 7], &mut site);
    assert_eq!(refused.statuses(), ["503"], "two of four are its half");
    begun.push(unfinished([198, 51, 100, 1], &mut site));
    assert!(begun.iter().all(|peer| peer.received.is_empty()));
    assert_eq!(site.services.counters.uploads_refused, 1);
    refused.end(&mut site);
    for mut peer in begun {
        peer.send(b"o", &mut site);
        peer.run(&mut site);
        assert_eq!(peer.statuses().len(), 1, "it goes on to its end");
        peer.end(&mut site);
    }
    let next = unfinished([192, 0, 2, 7], &mut site);
    assert!(next.received.is_empty(), "they were given back");
    next.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_body_that_stops_coming_is_408_and_leaves_nothing() {
    let mut site = site(16);
    let body = content("a", 300_000);
    let mut peer = uploaded(&mut site, &with_length("/a", &body)[..200_000], 1448);
    let deadline = peer.exchange.deadline(&site.services).expect("a limit");
    assert_eq!(deadline, site.now + Duration::from_secs(30));
    site.pass(30);
    // What came before this limit was enough; nothing came since.
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    site.pass(30);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert_eq!(peer.statuses(), ["408"]);
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
    assert_eq!(names(site.directory.path()), Vec::<String>::new());
    assert_eq!(site.services.counters.too_slow, 1);
}

#[test]
fn a_drain_lets_an_upload_end_and_then_closes() {
    let mut site = site(16);
    let body = content("a", 100_000);
    let request = with_length("/a", &body);
    let mut peer = uploaded(&mut site, &request[..50_000], 1448);
    site.services.draining = true;
    peer.run(&mut site);
    peer.send_within_window(&request[50_000..], 1448, &mut site);
    peer.run(&mut site);
    let (head, _) = peer.only_response();
    assert_eq!(
        (status(&head), field(&head, "Connection")),
        ("201", Some("close"))
    );
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Uploads of both kinds and downloads in one pipeline, cut anywhere, on few blocks.
    #[test]
    fn any_pipeline_in_any_cut_is_answered_in_order(
        steps in proptest::collection::vec((0_usize..90_000, 0_usize..3, 1_usize..30_000), 1..5),
        piece in 1_usize..20_000,
    ) {
        let mut site = site(6);
        let mut request = Vec::new();
        let mut expected = Vec::new();
        for (n, (size, kind, chunk)) in steps.into_iter().enumerate() {
            let (path, body) = (format!("/f{n}"), content(&n.to_string(), size));
            match kind {
                0 => request.extend_from_slice(&with_length(&path, &body)),
                1 => request.extend_from_slice(&with_chunks(&path, &body, chunk)),
                _ => request.extend_from_slice(&with_chunks(&path, &body, 1 + chunk % 100)),
            }
            request.extend_from_slice(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
            expected.push(body);
        }
        let peer = uploaded(&mut site, &request, piece);
        let responses = peer.responses();
        for (n, (head, body)) in responses.iter().enumerate() {
            if n % 2 == 0 {
                prop_assert_eq!(status(head), "201");
                if field(head, "Connection").is_some() {
                    // What follows a long chunked body is not promised an answer.
                    break;
                }
            } else {
                prop_assert!(*body == expected[n / 2], "body {}", n / 2);
            }
        }
        let closed = responses.last().is_some_and(|(head, _)| field(head, "Connection").is_some());
        prop_assert!(closed || responses.len() == 2 * expected.len());
        peer.end(&mut site);
        site.assert_at_rest();
    }
}
