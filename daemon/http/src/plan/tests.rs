//! Whole answers, byte for byte, and the rules that hold for all of them.

use super::*;
use crate::request::{Parsed, RequestLimits, parse_request};

const CONTEXT: PlanContext<'_> = PlanContext {
    date: "Tue, 14 Nov 2023 22:30:00 GMT",
    now_s: 1_700_001_000,
    close: false,
    uploads: false,
};

const FILE: Found = Found {
    size: 1000,
    mtime_s: 1_700_000_000,
    mtime_ns: 0,
};

fn request(input: &[u8]) -> Request<'_> {
    match parse_request(input, &RequestLimits::default()) {
        Parsed::Complete { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

/// A request for `/a.txt` with further field lines, and its plan for a file of 1000 bytes.
fn planned(method: &str, fields: &str) -> (Plan, String) {
    let input = format!("{method} /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    written(|head| plan(&request(input.as_bytes()), b"a.txt", &FILE, &CONTEXT, head))
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Plan) -> (Plan, String) {
    let mut head = Vec::with_capacity(RESPONSE_HEAD_BYTES);
    let plan = write(&mut head);
    (plan, String::from_utf8(head).expect("ASCII"))
}

fn tag() -> String {
    let tag = crate::etag(
        b"a.txt",
        FILE.size,
        FILE.mtime_s,
        FILE.mtime_ns,
        CONTEXT.now_s,
    );
    str::from_utf8(tag.as_bytes()).expect("ASCII").to_owned()
}

#[test]
fn a_get_is_answered_by_the_whole_file() {
    let (plan, head) = planned("GET", "");
    let expected = format!(
        "HTTP/1.1 200 OK\r\n\
         Server: sluice\r\n\
         Date: Tue, 14 Nov 2023 22:30:00 GMT\r\n\
         Content-Length: 1000\r\n\
         Content-Type: text/plain\r\n\
         Accept-Ranges: bytes\r\n\
         Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
         ETag: {}\r\n\
         \r\n",
        tag()
    );
    assert_eq!(head, expected);
    assert_eq!(plan.status, Status::Ok);
    assert_eq!(plan.body, Some(0..1000));
    assert!(!plan.close);
}

#[test]
fn head_gets_the_same_head_and_no_body() {
    let (get, get_head) = planned("GET", "");
    let (head, head_head) = planned("HEAD", "");
    assert_eq!(get_head, head_head);
    assert_eq!(get.status, head.status);
    assert_eq!(head.body, None);
}

#[test]
fn a_range_is_answered_by_206_and_its_part() {
    let (plan, head) = planned("GET", "Range: bytes=100-199\r\n");
    assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"));
    assert!(head.contains("\r\nContent-Range: bytes 100-199/1000\r\n"));
    assert!(head.contains("\r\nContent-Length: 100\r\n"));
    assert!(head.contains(&format!("\r\nETag: {}\r\n", tag())));
    assert_eq!(plan.body, Some(100..200));
}

#[test]
fn several_or_repeated_ranges_get_the_whole_file() {
    for fields in [
        "Range: bytes=0-1,5-6\r\n",
        "Range: bytes=0-1\r\nRange: bytes=0-1\r\n",
    ] {
        let (plan, head) = planned("GET", fields);
        assert_eq!(plan.status, Status::Ok, "{fields:?}");
        assert_eq!(plan.body, Some(0..1000));
        assert!(!head.contains("Content-Range"));
    }
}

#[test]
fn the_range_of_a_head_is_ignored() {
    // RFC 9110 14.2: Range is defined for GET only.
    let (plan, head) = planned("HEAD", "Range: bytes=0-1\r\n");
    assert_eq!(plan.status, Status::Ok);
    assert!(head.contains("\r\nContent-Length: 1000\r\n"));
}

#[test]
fn resuming_a_complete_file_is_416_with_its_size_and_no_text() {
    let (plan, head) = planned("GET", "Range: bytes=1000-\r\n");
    let expected = "HTTP/1.1 416 Range Not Satisfiable\r\n\
         Server: sluice\r\n\
         Date: Tue, 14 Nov 2023 22:30:00 GMT\r\n\
         Content-Range: bytes */1000\r\n\
         Content-Length: 0\r\n\
         Accept-Ranges: bytes\r\n\
         \r\n";
    assert_eq!(head, expected);
    assert_eq!(plan.status, Status::RangeNotSatisfiable);
    assert_eq!(plan.body, None);
    assert!(!plan.close);
}

#[test]
fn a_range_of_another_version_is_the_whole_file_not_416() {
    let (plan, _) = planned("GET", "Range: bytes=1000-\r\nIf-Range: \"old\"\r\n");
    assert_eq!(plan.status, Status::Ok);
    let (plan, _) = planned(
        "GET",
        &format!("Range: bytes=5-\r\nIf-Range: {}\r\n", tag()),
    );
    assert_eq!(plan.body, Some(5..1000));
}

#[test]
fn a_304_has_its_tag_and_neither_length_nor_body() {
    let (plan, head) = planned("GET", &format!("If-None-Match: {}\r\n", tag()));
    let expected = format!(
        "HTTP/1.1 304 Not Modified\r\n\
         Server: sluice\r\n\
         Date: Tue, 14 Nov 2023 22:30:00 GMT\r\n\
         ETag: {}\r\n\
         \r\n",
        tag()
    );
    assert_eq!(head, expected);
    assert_eq!(plan.body, None);
}

#[test]
fn a_failed_precondition_is_412_before_the_range_is_looked_at() {
    let (plan, _) = planned("GET", "If-Match: \"x\"\r\nRange: bytes=1000-\r\n");
    assert_eq!(plan.status, Status::PreconditionFailed);
    assert_eq!(plan.body, None);
}

#[test]
fn an_empty_file_is_answered_without_a_body() {
    let input = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let empty = Found { size: 0, ..FILE };
    let (plan, head) = written(|head| plan(&request(input), b"a", &empty, &CONTEXT, head));
    assert_eq!(plan.status, Status::Ok);
    assert_eq!(plan.body, None);
    assert!(head.contains("\r\nContent-Length: 0\r\n"));
}

#[test]
fn http_1_0_gets_206_and_is_told_when_the_connection_stays() {
    // axel: HTTP/1.0 with a range.
    for (fields, connection, close) in [
        ("", "close", true),
        ("Connection: keep-alive\r\n", "keep-alive", false),
    ] {
        let input = format!("GET /a HTTP/1.0\r\nRange: bytes=0-\r\n{fields}\r\n");
        let (plan, head) =
            written(|head| plan(&request(input.as_bytes()), b"a", &FILE, &CONTEXT, head));
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert!(head.contains("\r\nContent-Range: bytes 0-999/1000\r\n"));
        assert!(head.contains(&format!("\r\nConnection: {connection}\r\n")));
        assert_eq!(plan.close, close);
    }
}

#[test]
fn the_connection_closes_when_the_peer_wants_it() {
    let (plan, head) = planned("GET", "Connection: close\r\n");
    assert!(plan.close);
    assert!(head.contains("\r\nConnection: close\r\n"));
}

#[test]
fn the_connection_closes_when_the_server_wants_it() {
    let draining = PlanContext {
        close: true,
        ..CONTEXT
    };
    let input = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (plan, head) = written(|head| plan(&request(input), b"a", &FILE, &draining, head));
    assert!(plan.close);
    assert!(head.contains("\r\nConnection: close\r\n"));
}

#[test]
fn a_request_with_a_body_is_answered_and_the_connection_closed() {
    let (plan, _) = planned("GET", "Content-Length: 3\r\n");
    assert_eq!(plan.status, Status::Ok);
    assert!(plan.close);
}

#[test]
fn other_methods_are_405_with_the_ones_there_are() {
    let (plan, head) = planned("DELETE", "");
    assert_eq!(plan.status, Status::MethodNotAllowed);
    assert!(head.contains("\r\nAllow: GET, HEAD\r\n"));
    assert!(!plan.close);
}

#[test]
fn an_error_has_a_short_text_as_long_as_it_says() {
    let input = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (plan, head) =
        written(|head| plan_error(Status::NotFound, Some(&request(input)), &CONTEXT, head));
    let (fields, text) = head.split_once("\r\n\r\n").expect("a head and a text");
    assert_eq!(text, "404 Not Found\n");
    assert!(fields.contains(&format!("\r\nContent-Length: {}", text.len())));
    assert!(!plan.close);
}

#[test]
fn an_error_for_head_says_the_length_and_leaves_the_text_out() {
    let input = b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (_, head) =
        written(|head| plan_error(Status::NotFound, Some(&request(input)), &CONTEXT, head));
    assert!(head.contains("\r\nContent-Length: 14\r\n"));
    assert!(head.ends_with("\r\n\r\n"));
}

#[test]
fn an_error_without_a_request_closes() {
    let (plan, head) = written(|head| plan_error(Status::BadRequest, None, &CONTEXT, head));
    assert!(plan.close);
    assert!(head.contains("\r\nConnection: close\r\n"));
    assert!(head.ends_with("\r\n\r\n400 Bad Request\n"));
}

fn location(target: &str, path: &[u8]) -> String {
    let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (plan, head) =
        written(|head| plan_redirect(&request(input.as_bytes()), path, &CONTEXT, head));
    assert_eq!(plan.status, Status::MovedPermanently);
    assert_eq!(plan.body, None);
    assert!(head.contains("\r\nContent-Length: 0\r\n"));
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Location: "));
    line.expect("a location").to_owned()
}

#[test]
fn a_redirect_adds_the_slash_and_keeps_the_query() {
    assert_eq!(location("/a/b", b"a/b"), "/a/b/");
    assert_eq!(location("/a?b=c?d", b"a"), "/a/?b=c?d");
    assert_eq!(location("/", b""), "/");
}

#[test]
fn a_redirect_escapes_the_path_and_cannot_name_another_host() {
    let path = b"a b\r\nX: y/\xff%?#";
    assert_eq!(
        location("/a?\u{e4}", path),
        "/a%20b%0D%0AX%3A%20y/%FF%25%3F%23/?%C3%A4"
    );
    let mut decoded = Vec::new();
    crate::decode_target(b"//evil.example/x", &mut decoded).expect("valid");
    let location = location("//evil.example/x", &decoded);
    assert_eq!(location, "/evil.example/x/");
}

#[test]
fn every_head_fits_the_room_that_is_promised() {
    let widest = Found {
        size: u64::MAX,
        mtime_s: 1_700_000_999,
        mtime_ns: 999_999_999,
    };
    // The longest media type mime_guess knows.
    let path = b"a.pptx";
    let input = format!(
        "GET /a HTTP/1.0\r\nConnection: keep-alive\r\nRange: bytes={}-\r\n\r\n",
        u64::MAX / 2
    );
    let (_, head) = written(|head| plan(&request(input.as_bytes()), path, &widest, &CONTEXT, head));
    assert!(head.contains("presentationml") && head.contains("206") && head.contains("W/"));
    assert!(head.len() <= RESPONSE_HEAD_BYTES, "{}", head.len());
    for status in Status::ALL {
        let (_, head) = written(|head| plan_error(*status, None, &CONTEXT, head));
        assert!(head.len() <= RESPONSE_HEAD_BYTES, "{status}");
    }
}

#[test]
fn a_buffer_that_is_used_again_does_not_grow() {
    let mut head = Vec::with_capacity(RESPONSE_HEAD_BYTES);
    let capacity = head.capacity();
    let input = b"GET /a.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n";
    for _ in 0..3 {
        head.clear();
        let plan = plan(&request(input), b"a.txt", &FILE, &CONTEXT, &mut head);
        assert_eq!(plan.status, Status::PartialContent);
    }
    assert_eq!(head.capacity(), capacity);
}

#[test]
fn a_plan_appends_and_leaves_what_is_there() {
    let mut head = b"before".to_vec();
    let _ = plan_error(Status::NotFound, None, &CONTEXT, &mut head);
    assert!(head.starts_with(b"beforeHTTP/1.1 404 "));
}
