//! Preconditions against one file; the clauses are those of RFC 9110.

use super::*;
use crate::request::{Parsed, RequestLimits, parse_request};

/// 2023-11-14 22:13:20 UTC.
const MTIME_S: i64 = 1_700_000_000;
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

const FILE: Found = Found {
    size: 10,
    mtime_s: MTIME_S,
    mtime_ns: 5,
};

const WHOLE: Verdict = Verdict::Proceed { range: true };
const NO_RANGE: Verdict = Verdict::Proceed { range: false };

fn settled() -> Validators {
    Validators::new(b"f", &FILE, MTIME_S + 1000)
}

fn young() -> Validators {
    Validators::new(b"f", &FILE, MTIME_S + 1)
}

fn text(etag: &ETag) -> &str {
    str::from_utf8(etag.as_bytes()).expect("ASCII")
}

/// The verdict on a GET with these field lines.
fn verdict(validators: &Validators, fields: &[(&str, &str)]) -> Verdict {
    verdict_of("GET", validators, fields)
}

fn verdict_of(method: &str, validators: &Validators, fields: &[(&str, &str)]) -> Verdict {
    let mut input = format!("{method} /f HTTP/1.1\r\nHost: a\r\n");
    for (name, value) in fields {
        input.push_str(&format!("{name}: {value}\r\n"));
    }
    input.push_str("\r\n");
    match parse_request(input.as_bytes(), &RequestLimits::default()) {
        Parsed::Complete { request, .. } => evaluate(&request, validators),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_preconditions_the_file_is_sent() {
    assert_eq!(verdict(&settled(), &[]), WHOLE);
}

#[test]
fn if_match_needs_a_strong_match_of_one_of_its_tags() {
    let validators = settled();
    let tag = text(&validators.etag);
    for (value, expected) in [
        (tag.to_owned(), WHOLE),
        (format!("\"x\", {tag}"), WHOLE),
        ("*".to_owned(), WHOLE),
        ("\"x\"".to_owned(), Verdict::PreconditionFailed),
        (format!("W/{tag}"), Verdict::PreconditionFailed),
        (tag.replace('"', ""), Verdict::PreconditionFailed),
        (String::new(), Verdict::PreconditionFailed),
    ] {
        let result = verdict(&validators, &[("If-Match", &value)]);
        assert_eq!(result, expected, "{value}");
    }
}

#[test]
fn if_match_never_matches_the_weak_tag_of_a_young_file() {
    let validators = young();
    let weak = text(&validators.etag);
    for value in [weak, &weak["W/".len()..]] {
        let result = verdict(&validators, &[("If-Match", value)]);
        assert_eq!(result, Verdict::PreconditionFailed, "{value}");
    }
    assert_eq!(verdict(&validators, &[("If-Match", "*")]), WHOLE);
}

#[test]
fn if_unmodified_since_fails_for_a_later_file() {
    for (value, expected) in [
        (BEFORE, Verdict::PreconditionFailed),
        (DATE, WHOLE),
        (AFTER, WHOLE),
        ("yesterday", WHOLE),
    ] {
        let result = verdict(&settled(), &[("If-Unmodified-Since", value)]);
        assert_eq!(result, expected, "{value}");
    }
}

#[test]
fn if_none_match_compares_weakly() {
    for validators in [settled(), young()] {
        let tag = text(&validators.etag);
        let opaque = tag.trim_start_matches("W/");
        for (value, expected) in [
            (opaque.to_owned(), Verdict::NotModified),
            (format!("W/{opaque}"), Verdict::NotModified),
            (format!("\"a,b\" ,,W/{opaque}"), Verdict::NotModified),
            ("*".to_owned(), Verdict::NotModified),
            ("\"x\", \"y\"".to_owned(), WHOLE),
            (opaque.replace('"', ""), WHOLE),
            (format!("w/{opaque}"), WHOLE),
            ("\"".to_owned(), WHOLE),
            ("*, \"x\"".to_owned(), WHOLE),
        ] {
            let result = verdict(&validators, &[("If-None-Match", &value)]);
            assert_eq!(result, expected, "{value}");
        }
    }
}

#[test]
fn a_tag_list_may_be_spread_over_lines() {
    let validators = settled();
    let lines = [
        ("If-None-Match", "\"x\""),
        ("If-None-Match", text(&validators.etag)),
    ];
    assert_eq!(verdict(&validators, &lines), Verdict::NotModified);
}

#[test]
fn tags_behind_broken_ones_are_not_guessed_at() {
    let validators = settled();
    let value = format!("\"x\"y, {}", text(&validators.etag));
    assert_eq!(verdict(&validators, &[("If-None-Match", &value)]), WHOLE);
}

#[test]
fn if_modified_since_holds_back_what_is_not_newer() {
    for (value, expected) in [
        (BEFORE, WHOLE),
        (DATE, Verdict::NotModified),
        (AFTER, Verdict::NotModified),
        // The obsolete forms (5.6.7).
        ("Tuesday, 14-Nov-23 22:13:20 GMT", Verdict::NotModified),
        ("Tue Nov 14 22:13:20 2023", Verdict::NotModified),
        ("1700000000", WHOLE),
        ("", WHOLE),
    ] {
        let result = verdict(&settled(), &[("If-Modified-Since", value)]);
        assert_eq!(result, expected, "{value}");
    }
}

#[test]
fn a_repeated_date_is_ignored() {
    let twice = |name| [(name, DATE), (name, BEFORE)];
    assert_eq!(verdict(&settled(), &twice("If-Modified-Since")), WHOLE);
    assert_eq!(verdict(&settled(), &twice("If-Unmodified-Since")), WHOLE);
}

#[test]
fn tags_take_precedence_over_dates() {
    // 13.1.4: If-Unmodified-Since is ignored next to If-Match.
    let validators = settled();
    let tag = text(&validators.etag);
    let guards = [("If-Unmodified-Since", BEFORE), ("If-Match", tag)];
    assert_eq!(verdict(&validators, &guards), WHOLE);
    // 13.1.3: If-Modified-Since is ignored next to If-None-Match.
    let caches = [("If-Modified-Since", AFTER), ("If-None-Match", "\"x\"")];
    assert_eq!(verdict(&validators, &caches), WHOLE);
}

#[test]
fn guards_come_before_caches() {
    let validators = settled();
    let tag = text(&validators.etag);
    let fields = [("If-None-Match", tag), ("If-Match", "\"x\"")];
    assert_eq!(verdict(&validators, &fields), Verdict::PreconditionFailed);
    let fields = [("If-Modified-Since", DATE), ("If-Unmodified-Since", BEFORE)];
    assert_eq!(verdict(&validators, &fields), Verdict::PreconditionFailed);
}

#[test]
fn if_range_needs_a_strong_match_or_the_exact_date() {
    let validators = settled();
    let tag = text(&validators.etag);
    for (value, expected) in [
        (tag.to_owned(), WHOLE),
        (DATE.to_owned(), WHOLE),
        (format!("W/{tag}"), NO_RANGE),
        ("\"x\"".to_owned(), NO_RANGE),
        (format!("{tag}, \"x\""), NO_RANGE),
        ("*".to_owned(), NO_RANGE),
        (BEFORE.to_owned(), NO_RANGE),
        (AFTER.to_owned(), NO_RANGE),
        ("junk".to_owned(), NO_RANGE),
        (String::new(), NO_RANGE),
    ] {
        let result = verdict(&validators, &[("If-Range", &value)]);
        assert_eq!(result, expected, "{value}");
    }
}

#[test]
fn if_range_never_holds_for_a_young_file() {
    let validators = young();
    let weak = text(&validators.etag);
    for value in [weak, &weak["W/".len()..], DATE] {
        let result = verdict(&validators, &[("If-Range", value)]);
        assert_eq!(result, NO_RANGE, "{value}");
    }
}

#[test]
fn a_repeated_if_range_does_not_hold() {
    let validators = settled();
    let tag = text(&validators.etag);
    let fields = [("If-Range", tag), ("If-Range", tag)];
    assert_eq!(verdict(&validators, &fields), NO_RANGE);
}

#[test]
fn head_is_conditional_too_but_has_no_ranges() {
    let validators = settled();
    let tag = text(&validators.etag);
    assert_eq!(verdict_of("HEAD", &validators, &[]), NO_RANGE);
    let result = verdict_of("HEAD", &validators, &[("If-None-Match", tag)]);
    assert_eq!(result, Verdict::NotModified);
}

#[test]
fn a_date_from_the_future_is_replaced_by_now() {
    // 8.8.2.1
    let found = Found {
        mtime_s: MTIME_S + 500,
        ..FILE
    };
    let validators = Validators::new(b"f", &found, MTIME_S);
    let date = validators.last_modified.expect("a date").http_date();
    assert_eq!(date.to_string(), DATE);
}

#[test]
fn times_that_no_http_date_can_name_give_no_date_and_match_none() {
    for mtime_s in [-1, i64::MIN, 253_402_300_800, i64::MAX] {
        let found = Found { mtime_s, ..FILE };
        let validators = Validators::new(b"f", &found, i64::MAX);
        assert!(validators.last_modified.is_none(), "{mtime_s}");
        let fields = [
            ("If-Modified-Since", AFTER),
            ("If-Unmodified-Since", BEFORE),
        ];
        assert_eq!(verdict(&validators, &fields), WHOLE, "{mtime_s}");
    }
}

#[test]
fn the_last_second_of_9999_is_still_a_date() {
    let date = LastModified::from_unix(253_402_300_799).expect("a date");
    assert_eq!(
        date.http_date().to_string(),
        "Fri, 31 Dec 9999 23:59:59 GMT"
    );
}
