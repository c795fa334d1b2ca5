//! `Expect: 100-continue`, and uploads that are refused, before their bodies or after.

use super::*;

#[test]
fn who_expects_100_hears_it_before_its_body() {
    let mut site = site(16);
    let fields = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut peer = begun(put_head("/a", fields), &mut site);
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
        let fields = format!("Content-Length: 5\r\nExpect: 100-continue\r\n{fields}");
        let peer = begun(put_head(path, &fields), &mut site);
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
    let peer = begun(with_length("/a", b"hello"), &mut site);
    let (head, _) = peer.only_response();
    assert_eq!(status(&head), "405");
    assert_eq!(field(&head, "Allow"), Some("GET, HEAD"));
    peer.end(&mut site);
    site.assert_at_rest();
}
