//! The parser on whole connections: pipelined, cut anywhere, and fed with rubbish.

use proptest::prelude::*;
use sluice_http::{
    Found, Method, Parsed, PlanContext, RequestLimits, Status, TargetKind, decode_target,
    parse_request, plan, plan_error, plan_redirect,
};

/// Small, so that inputs of a few hundred bytes reach every limit.
const LIMITS: RequestLimits = RequestLimits {
    header_bytes: 160,
    fields: 6,
    uri_bytes: 48,
};

const CONTEXT: PlanContext<'_> = PlanContext {
    date: "Tue, 14 Nov 2023 22:30:00 GMT",
    now_s: 1_700_001_000,
    close: false,
    uploads: false,
};

/// A verdict without borrowed parts, to compare those of different inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Incomplete,
    Invalid(Status),
    Complete {
        consumed: usize,
        /// Everything that is known of the request, printed.
        request: String,
    },
}

fn see(input: &[u8]) -> Seen {
    match parse_request(input, &LIMITS) {
        Parsed::Incomplete => Seen::Incomplete,
        Parsed::Invalid(status) => Seen::Invalid(status),
        Parsed::Complete { request, consumed } => Seen::Complete {
            consumed,
            request: format!("{request:?}"),
        },
    }
}

/// Each shorter input is incomplete, or has the verdict of the whole: how TCP cuts the stream is no
/// input.
fn every_prefix_agrees(input: &[u8]) -> Result<(), TestCaseError> {
    let whole = see(input);
    for len in 0..input.len() {
        let prefix = see(&input[..len]);
        if prefix != Seen::Incomplete {
            prop_assert_eq!(&prefix, &whole, "cut at {}", len);
        } else if let Seen::Complete { consumed, .. } = &whole {
            prop_assert!(len < *consumed, "waits at {} for more than it uses", len);
        }
    }
    Ok(())
}

/// Heads made of parts that are right, doubtful and wrong.
fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        &b"GET /a HTTP/1.1"[..],
        b"HEAD /a?b HTTP/1.0",
        b"GET http://h/a HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"BREW /a HTTP/1.1",
        b"GET /a HTTP/2.0",
        b"GET  /a HTTP/1.1",
        b"GET /a/very/long/target/that/is/beyond/the/limit/of HTTP/1.1",
        b"",
        b"\x16\x03\x01",
    ]);
    let field = prop::sample::select(vec![
        &b"Host: h"[..],
        b"Host: h",
        b"Host: h",
        b"Range: bytes=0-1",
        b"If-None-Match: \"x\"",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Space : x",
        b" folded",
        b"no colon",
        b"Text: \xc3\xa4\x80",
        b"Nul: \0",
        b"Cr: \r",
    ]);
    let end = || {
        prop::sample::select(vec![
            &b"\r\n"[..],
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
        ])
    };
    (
        0..3_usize,
        (line, end()),
        prop::collection::vec((field, end()), 0..8),
        end(),
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(empty_lines, line, fields, end, rest)| {
            let mut input = b"\r\n".repeat(empty_lines);
            for (content, end) in [line].into_iter().chain(fields) {
                input.extend_from_slice(content);
                input.extend_from_slice(end);
            }
            input.extend_from_slice(end);
            input.extend(rest);
            input
        })
}

/// Everything a server would call for the request at the start of `input`.
fn serve(input: &[u8], found: &Found) {
    let mut path = Vec::new();
    let mut head = Vec::new();
    let request = match parse_request(input, &RequestLimits::default()) {
        Parsed::Incomplete => return,
        Parsed::Invalid(status) => {
            assert!(plan_error(status, None, &CONTEXT, &mut head).close);
            return;
        }
        Parsed::Complete { request, consumed } => {
            assert!(consumed <= input.len());
            request
        }
    };
    let answer = match decode_target(request.target, &mut path) {
        Ok(TargetKind::Directory) => plan_redirect(&request, &path, &CONTEXT, &mut head),
        Ok(TargetKind::File) => plan(&request, &path, found, &CONTEXT, &mut head),
        Err(status) => plan_error(status, Some(&request), &CONTEXT, &mut head),
    };
    assert!(answer.close || request.keep_alive);
    if let Some(body) = answer.body {
        assert_eq!(request.method, Method::Get);
        assert!(body.start < body.end && body.end <= found.size);
    }
    // No byte of the peer may end a line of ours: every line has a name of ours.
    let end = head
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head that ends");
    let text = str::from_utf8(&head[..end]).expect("ASCII");
    let known = [
        "Server",
        "Date",
        "Content-Length",
        "Content-Type",
        "Content-Range",
        "Accept-Ranges",
        "Last-Modified",
        "ETag",
        "Location",
        "Allow",
        "Connection",
    ];
    for line in text.split("\r\n").skip(1) {
        let name = line.split(':').next().expect("a name");
        assert!(
            known.contains(&name) && !line.contains(['\r', '\n', '\0']),
            "{line:?}"
        );
    }
}

proptest! {
    #[test]
    fn where_the_stream_is_cut_does_not_matter(input in nearly_a_request()) {
        every_prefix_agrees(&input)?;
    }

    #[test]
    fn where_rubbish_is_cut_does_not_matter(
        input in prop::collection::vec(prop_oneof![
            any::<u8>(),
            prop::sample::select(b"GET / HTTP/1.1\r\n: ".to_vec()),
        ], 0..200),
    ) {
        every_prefix_agrees(&input)?;
    }

    #[test]
    fn a_full_window_always_has_a_verdict(mut input in nearly_a_request()) {
        input.resize(LIMITS.header_bytes.max(input.len()), b'x');
        prop_assert_ne!(see(&input), Seen::Incomplete);
    }

    #[test]
    fn no_bytes_make_it_panic(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            nearly_a_request(),
        ],
        size in any::<u64>(),
        mtime_s in any::<i64>(),
        mtime_ns in any::<u32>(),
    ) {
        serve(&input, &Found { size, mtime_s, mtime_ns });
    }

    #[test]
    fn no_target_and_no_field_value_makes_it_panic_or_gets_into_a_line_of_ours(
        target in prop::collection::vec(0x21_u8.., 0..40),
        range in "(bytes=)?[0-9,-]{0,12}|\\PC{0,12}",
        name in prop::sample::select(vec![
            "If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since",
        ]),
        value in prop::collection::vec(prop_oneof![
            prop::sample::select(b"\"W/,* ".to_vec()),
            (0x20_u8..0x7f),
            0x80_u8..,
        ], 0..24),
        size in prop_oneof![0_u64..20, any::<u64>()],
    ) {
        let mut input = b"GET /".to_vec();
        input.extend(target);
        input.extend(b" HTTP/1.1\r\nHost: h\r\nRange: ");
        input.extend(range.bytes());
        input.extend(b"\r\n");
        input.extend(name.bytes());
        input.extend(b": ");
        input.extend(value);
        input.extend(b"\r\n\r\n");
        serve(&input, &Found { size, mtime_s: 1_700_000_000, mtime_ns: 0 });
    }

    #[test]
    fn pipelined_requests_are_read_one_after_the_other(
        targets in prop::collection::vec("/[a-z]{0,8}", 1..6),
        rest in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut stream = Vec::new();
        for target in &targets {
            stream.extend(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").bytes());
        }
        stream.extend(&rest);
        let mut at = 0;
        for target in &targets {
            let Parsed::Complete { request, consumed } = parse_request(&stream[at..], &LIMITS)
            else {
                return Err(TestCaseError::fail("a whole request is there"));
            };
            prop_assert_eq!(request.target, target.as_bytes());
            prop_assert!(request.keep_alive);
            at += consumed;
        }
        prop_assert_eq!(&stream[at..], &rest[..]);
    }
}

#[test]
fn a_request_of_a_real_client_is_complete_at_its_last_byte_and_not_before() {
    for input in [
        "GET /f HTTP/1.1\r\n\
         Host: 192.0.2.1:8080\r\n\
         Range: bytes=1000-\r\n\
         User-Agent: curl/7.88.1\r\n\
         Accept: */*\r\n\r\n",
        "GET /f HTTP/1.1\r\n\
         Host: h\r\n\
         User-Agent: Wget/1.21.3\r\n\
         Accept: */*\r\n\
         Accept-Encoding: identity\r\n\
         Connection: Keep-Alive\r\n\r\n",
        "GET /f HTTP/1.0\r\n\
         Host: h\r\n\
         Range: bytes=0-\r\n\
         User-Agent: Axel/2.17.11\r\n\
         Accept: */*\r\n\r\n",
        "GET /f HTTP/1.1\r\n\
         User-Agent: aria2/1.36.0\r\n\
         Accept: */*\r\n\
         Host: h\r\n\
         Pragma: no-cache\r\n\
         Cache-Control: no-cache\r\n\
         Want-Digest: SHA-512;q=1, SHA-256;q=1, SHA;q=0.1\r\n\
         Range: bytes=20971520-41943039\r\n\r\n",
    ] {
        let limits = RequestLimits::default();
        let input = input.as_bytes();
        for len in 0..input.len() {
            let parsed = parse_request(&input[..len], &limits);
            assert!(matches!(parsed, Parsed::Incomplete), "cut at {len}");
        }
        let Parsed::Complete { consumed, .. } = parse_request(input, &limits) else {
            panic!("not complete");
        };
        assert_eq!(consumed, input.len());
    }
}
