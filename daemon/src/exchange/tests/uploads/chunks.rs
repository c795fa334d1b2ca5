//! Chunked bodies: their limits, and what may follow them.

use super::*;

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
