//! Uploads that end early, and what is left of them.

use super::*;

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
    peer.end_stored("a", &body, &mut site);
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
