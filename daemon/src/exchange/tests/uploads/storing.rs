//! Bodies that become files, in every cut and order, between other requests.

use super::*;

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
    peer.end_stored("a", &body, &mut site);
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
    peer.end_stored("a", &body, &mut site);
}
