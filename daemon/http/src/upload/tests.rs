//! Heads of uploads and their answers.

use super::*;
use crate::plan::plan_error;
use crate::request::{Parsed, RequestLimits, parse_request};

const CONTEXT: PlanContext<'_> = PlanContext {
    date: "Tue, 14 Nov 2023 22:30:00 GMT",
    now_s: 1_700_001_000,
    close: false,
    uploads: true,
};

const RULES: UploadRules = UploadRules { max_size: 1000 };

const FILE: Found = Found {
    size: 1000,
    mtime_s: 1_700_000_000,
    mtime_ns: 7,
};

fn request(input: &[u8]) -> Request<'_> {
    match parse_request(input, &RequestLimits::default()) {
        Parsed::Complete { request, .. } => request,
        other => panic!("{other:?}"),
    }
}

fn put_to(target: &str, version: &str, fields: &str) -> Result<(Put, String), Status> {
    let input = format!("PUT {target} HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    let mut path = Vec::new();
    let put = plan_put(&request(input.as_bytes()), Some(&RULES), &mut path)?;
    Ok((put, String::from_utf8(path).expect("UTF-8")))
}

fn put(fields: &str) -> Result<Put, Status> {
    put_to("/a.txt", "1.1", fields).map(|(put, _)| put)
}

fn tag() -> String {
    let tag = settled_etag(b"a.txt", FILE.size, FILE.mtime_s, FILE.mtime_ns);
    str::from_utf8(tag.as_bytes()).expect("ASCII").to_owned()
}

fn holds(fields: &str, found: Option<&Found>) -> bool {
    let input = format!("PUT /a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{fields}\r\n");
    holds_at(CONTEXT.now_s, &request(input.as_bytes()), found)
}

fn holds_at(now_s: i64, request: &Request<'_>, found: Option<&Found>) -> bool {
    precondition_holds(request, b"a.txt", found, now_s)
}

/// A moment in which [`FILE`] is young.
const THEN_S: i64 = FILE.mtime_s + 1;

/// The same as [`FILE`] on a file system that stores whole seconds.
const ROUNDED: Found = Found {
    mtime_ns: 0,
    ..FILE
};

/// Whether the preconditions of a PUT hold for a young file.
fn holds_young(fields: &str, found: &Found) -> bool {
    let input = format!("PUT /a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{fields}\r\n");
    holds_at(THEN_S, &request(input.as_bytes()), Some(found))
}

/// Status of a GET of a young file.
fn get_young(fields: &str, found: &Found) -> Status {
    let input = format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let context = PlanContext {
        now_s: THEN_S,
        ..CONTEXT
    };
    let mut head = Vec::new();
    crate::plan(
        &request(input.as_bytes()),
        b"a.txt",
        found,
        &context,
        &mut head,
    )
    .status
}

fn young_tag(found: &Found) -> String {
    let tag = crate::etag(b"a.txt", found.size, found.mtime_s, found.mtime_ns, THEN_S);
    str::from_utf8(tag.as_bytes()).expect("ASCII").to_owned()
}

#[test]
fn a_put_with_a_length_names_its_path_and_its_size() {
    let (put, path) = put_to("/d/a%20b?x", "1.1", "Content-Length: 7\r\n").expect("allowed");
    assert_eq!(path, "d/a b");
    assert_eq!(put.body, Body::Length(7));
    assert_eq!(put.announced_size(), Some(7));
    assert!(put.keep_alive && !put.expects_continue && !put.is_guarded);
}

#[test]
fn chunks_announce_no_size() {
    let put = put("Transfer-Encoding: chunked\r\n").expect("allowed");
    assert_eq!((put.body, put.announced_size()), (Body::Chunked, None));
}

#[test]
fn without_uploads_it_is_405() {
    let input = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    let mut path = Vec::new();
    let refused = plan_put(&request(input), None, &mut path);
    assert_eq!(refused, Err(Status::MethodNotAllowed));
}

#[test]
fn allow_names_put_where_uploads_are_on() {
    let input = b"DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut head = Vec::new();
    let _ = plan_error(
        Status::MethodNotAllowed,
        Some(&request(input)),
        &CONTEXT,
        &mut head,
    );
    let head = String::from_utf8(head).expect("ASCII");
    assert!(head.contains("\r\nAllow: GET, HEAD, PUT\r\n"), "{head}");
}

#[test]
fn a_part_of_a_file_is_400() {
    // RFC 9110 14.5.
    let refused = put("Content-Length: 5\r\nContent-Range: bytes 0-4/10\r\n");
    assert_eq!(refused, Err(Status::BadRequest));
}

#[test]
fn a_coded_body_is_415_and_hears_what_is_accepted() {
    // RFC 9110 8.4, 15.5.16.
    let coded = |value: &str| {
        let fields = format!("Content-Length: 5\r\nContent-Encoding: {value}\r\n");
        put(&fields).map(|_| ())
    };
    for value in ["gzip", "br", "identity, gzip", "GZIP", "x"] {
        assert_eq!(coded(value), Err(Status::UnsupportedMediaType), "{value}");
    }
    for value in ["identity", "Identity", "", "identity , identity"] {
        assert_eq!(coded(value), Ok(()), "{value}");
    }
    let input =
        b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n";
    let mut head = Vec::new();
    let status = Status::UnsupportedMediaType;
    let plan = plan_error(status, Some(&request(input)), &CONTEXT, &mut head);
    let head = String::from_utf8(head).expect("ASCII");
    assert!(plan.close, "its body may follow");
    assert!(head.contains("\r\nAccept-Encoding: identity\r\n"), "{head}");
}

#[test]
fn a_body_that_says_nothing_about_its_length_is_411() {
    assert_eq!(put(""), Err(Status::LengthRequired));
    assert!(put("Content-Length: 0\r\n").is_ok(), "an empty file is one");
}

#[test]
fn a_411_closes_because_what_was_not_announced_may_follow() {
    let input = b"PUT /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = |status| {
        let mut head = Vec::new();
        let plan = plan_error(status, Some(&request(input)), &CONTEXT, &mut head);
        (plan.close, String::from_utf8(head).expect("ASCII"))
    };
    let (close, head) = refused(Status::LengthRequired);
    assert!(
        close && head.contains("\r\nConnection: close\r\n"),
        "{head}"
    );
    assert!(
        !refused(Status::Conflict).0,
        "it has no body and no doubt about it"
    );
}

#[test]
fn the_largest_size_is_taken_and_one_byte_more_is_413() {
    assert!(put("Content-Length: 1000\r\n").is_ok());
    let refused = put("Content-Length: 1001\r\n");
    assert_eq!(refused, Err(Status::ContentTooLarge));
}

#[test]
fn directories_are_409_and_hidden_names_403() {
    let length = "Content-Length: 1\r\n";
    for (target, status) in [
        ("/", Status::Conflict),
        ("/d/", Status::Conflict),
        ("/d/..", Status::Conflict),
        ("/.hidden", Status::Forbidden),
        ("/.d/a", Status::Forbidden),
        ("/a/../../b", Status::BadRequest),
        ("/a%2fb", Status::BadRequest),
    ] {
        let refused = put_to(target, "1.1", length).map(|_| ());
        assert_eq!(refused, Err(status), "{target}");
    }
}

#[test]
fn only_who_can_wait_is_told_to_go_on() {
    let expects = |version: &str, fields: &str| {
        let fields = format!("{fields}Expect: 100-Continue\r\n");
        let (put, _) = put_to("/a", version, &fields).expect("allowed");
        put.expects_continue
    };
    assert!(expects("1.1", "Content-Length: 5\r\n"));
    assert!(expects("1.1", "Transfer-Encoding: chunked\r\n"));
    // RFC 9110 10.1.1: nothing to wait with, and a version that does not know it.
    assert!(!expects("1.1", "Content-Length: 0\r\n"));
    assert!(!expects("1.0", "Content-Length: 5\r\n"));
}

#[test]
fn a_refused_upload_closes_because_its_body_may_follow() {
    let input = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let mut head = Vec::new();
    let plan = plan_error(Status::Conflict, Some(&request(input)), &CONTEXT, &mut head);
    assert!(plan.close);
}

#[test]
fn star_in_if_none_match_guards_against_any_file() {
    assert!(holds("If-None-Match: *\r\n", None));
    assert!(!holds("If-None-Match: *\r\n", Some(&FILE)));
}

#[test]
fn if_match_wants_a_file_and_this_version() {
    let fields = format!("If-Match: \"x\", {}\r\n", tag());
    assert!(holds(&fields, Some(&FILE)));
    assert!(!holds(&fields, None));
    assert!(!holds("If-Match: \"x\"\r\n", Some(&FILE)));
    assert!(holds("If-Match: *\r\n", Some(&FILE)));
    assert!(!holds("If-Match: *\r\n", None));
    let weak = format!("If-Match: W/{}\r\n", tag());
    assert!(!holds(&weak, Some(&FILE)), "strong comparison");
}

#[test]
fn if_none_match_with_a_tag_refuses_that_version_alone() {
    let fields = format!("If-None-Match: {}\r\n", tag());
    assert!(!holds(&fields, Some(&FILE)));
    assert!(holds("If-None-Match: \"x\"\r\n", Some(&FILE)));
    assert!(holds(&fields, None));
}

#[test]
fn what_an_upload_was_told_holds_at_once_for_every_method() {
    // RFC 9110 13.1.1, 13.1.2.
    let told = tag();
    assert!(holds_young(&format!("If-Match: {told}\r\n"), &FILE));
    assert_eq!(
        get_young(&format!("If-Match: {told}\r\n"), &FILE),
        Status::Ok
    );
    assert_eq!(
        get_young(&format!("If-None-Match: {told}\r\n"), &FILE),
        Status::NotModified
    );
    assert_eq!(
        get_young("If-Match: \"other\"\r\n", &FILE),
        Status::PreconditionFailed
    );
}

#[test]
fn the_weak_tag_of_a_young_file_refuses_that_version_and_guards_none() {
    let young = young_tag(&FILE);
    assert!(young.starts_with("W/"), "{young}");
    assert!(!holds_young(&format!("If-None-Match: {young}\r\n"), &FILE));
    assert!(!holds_young(&format!("If-Match: {young}\r\n"), &FILE));
}

#[test]
fn where_times_are_rounded_a_young_file_has_no_strong_tag() {
    let settled = settled_etag(b"a.txt", ROUNDED.size, ROUNDED.mtime_s, ROUNDED.mtime_ns);
    let settled = str::from_utf8(settled.as_bytes()).expect("ASCII");
    let fields = format!("If-Match: {settled}\r\n");
    assert!(!holds_young(&fields, &ROUNDED));
    assert_eq!(get_young(&fields, &ROUNDED), Status::PreconditionFailed);
    assert!(holds(&fields, Some(&ROUNDED)), "at rest it has one");
    let (put, path) = put_to("/a.txt", "1.1", "Content-Length: 1000\r\n").expect("allowed");
    let mut head = Vec::new();
    let plan = plan_stored(&put, path.as_bytes(), &ROUNDED, true, &CONTEXT, &mut head);
    let head = String::from_utf8(head).expect("ASCII");
    assert_eq!(plan.status, Status::Created);
    assert!(!head.contains("ETag"), "{head}");
}

#[test]
fn if_unmodified_since_guards_a_file_and_nothing_else() {
    let before = "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n";
    let then = "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
    assert!(!holds(before, Some(&FILE)));
    assert!(holds(then, Some(&FILE)));
    assert!(holds(before, None));
}

fn stored(created: bool, version: &str, fields: &str, context: &PlanContext<'_>) -> (Plan, String) {
    let fields = format!("Content-Length: 1000\r\n{fields}");
    let (put, path) = put_to("/a.txt", version, &fields).expect("allowed");
    let mut head = Vec::new();
    let plan = plan_stored(&put, path.as_bytes(), &FILE, created, context, &mut head);
    (plan, String::from_utf8(head).expect("ASCII"))
}

#[test]
fn a_new_file_is_201_with_the_tag_it_will_have() {
    let (plan, head) = stored(true, "1.1", "", &CONTEXT);
    assert_eq!(plan.status, Status::Created);
    assert!(!plan.close && plan.body.is_none());
    let expected = format!(
        "HTTP/1.1 201 Created\r\n\
         Server: sluice\r\n\
         Date: Tue, 14 Nov 2023 22:30:00 GMT\r\n\
         ETag: {}\r\n\
         Content-Length: 0\r\n\r\n",
        tag()
    );
    assert_eq!(head, expected);
}

#[test]
fn the_tag_is_that_of_the_first_get_after_two_seconds() {
    let later = crate::etag(
        b"a.txt",
        FILE.size,
        FILE.mtime_s,
        FILE.mtime_ns,
        FILE.mtime_s + 3,
    );
    assert_eq!(later.as_bytes(), tag().as_bytes());
}

#[test]
fn a_replaced_file_is_204_without_a_length() {
    // RFC 9110 8.6.
    let (plan, head) = stored(false, "1.1", "", &CONTEXT);
    assert_eq!(plan.status, Status::NoContent);
    assert!(!head.contains("Content-Length"), "{head}");
}

#[test]
fn the_connection_goes_on_as_the_client_and_the_server_want() {
    assert!(!stored(true, "1.1", "", &CONTEXT).0.close);
    assert!(
        stored(true, "1.1", "Connection: close\r\n", &CONTEXT)
            .0
            .close
    );
    assert!(stored(true, "1.0", "", &CONTEXT).0.close);
    let (plan, head) = stored(true, "1.0", "Connection: keep-alive\r\n", &CONTEXT);
    assert!(!plan.close && head.contains("\r\nConnection: keep-alive\r\n"));
    let draining = PlanContext {
        close: true,
        ..CONTEXT
    };
    let (plan, head) = stored(true, "1.1", "", &draining);
    assert!(plan.close && head.contains("\r\nConnection: close\r\n"));
}
