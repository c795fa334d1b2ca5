//! Single heads and what becomes of them.

use super::*;

fn parse_one(input: &[u8]) -> Result<Request<'_>, Status> {
    match parse_request(input, &RequestLimits::default()) {
        Parsed::Complete { request, .. } => Ok(request),
        Parsed::Invalid(status) => Err(status),
        Parsed::Incomplete => panic!("incomplete: {:?}", input.escape_ascii().to_string()),
    }
}

/// A GET with one `Host` and the given further field lines.
fn get(fields: &str) -> Vec<u8> {
    format!("GET /f HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn status_of(input: &str) -> Option<Status> {
    parse_one(input.as_bytes()).err()
}

fn request_line(line: &str) -> Option<Status> {
    status_of(&format!("{line}\r\nHost: a\r\n\r\n"))
}

#[test]
fn a_plain_get_is_read() {
    let input = b"GET /a%20b?c=d HTTP/1.1\r\nHost: files.example.org:8080\r\n\r\n";
    let request = parse_one(input).expect("valid");
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.version, Version::Http11);
    assert_eq!(request.target, b"/a%20b?c=d");
    assert!(request.keep_alive);
    assert!(!request.body.is_some());
    assert_eq!(request.range(), Singleton::Absent);
    assert!(request.if_match().is_none());
}

#[test]
fn consumed_points_behind_the_head() {
    let input = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET";
    let Parsed::Complete { request, consumed } = parse_request(input, &RequestLimits::default())
    else {
        panic!("not complete");
    };
    assert_eq!(request.method, Method::Head);
    assert_eq!(&input[consumed..], b"GET");
}

#[test]
fn request_lines_that_break_the_grammar_are_400() {
    for line in [
        "GET",
        "GET /",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/1,1",
        "G@T / HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://a/b HTTP/1.1",
        "GET http:/a HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://user@a/b HTTP/1.1",
    ] {
        assert_eq!(request_line(line), Some(Status::BadRequest), "{line:?}");
    }
}

#[test]
fn a_target_that_is_not_text_is_400() {
    let result = parse_one(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(result.err(), Some(Status::BadRequest));
}

#[test]
fn unescaped_utf_8_in_the_target_is_taken_as_typed() {
    assert_eq!(request_line("GET /größe HTTP/1.1"), None);
}

#[test]
fn another_major_version_is_505_and_a_later_minor_one_is_1_1() {
    for line in [
        "GET / HTTP/2.0",
        "PRI * HTTP/2.0",
        "GET / HTTP/0.9",
        "BREW / HTTP/3.0",
    ] {
        let expected = Some(Status::HttpVersionNotSupported);
        assert_eq!(request_line(line), expected, "{line:?}");
    }
    let later = parse_one(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n").expect("valid");
    assert_eq!(later.version, Version::Http11);
}

#[test]
fn registered_methods_are_other_and_unknown_ones_are_501() {
    for method in ["POST", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"] {
        let input = format!("{method} * HTTP/1.1\r\nHost: a\r\n\r\n");
        let request = parse_one(input.as_bytes()).expect("valid");
        assert_eq!(request.method, Method::Other, "{method}");
    }
    // Methods have case (RFC 9110 9.1).
    for method in ["BREW", "get", "Get", "GETX", "GE"] {
        let line = format!("{method} / HTTP/1.1");
        assert_eq!(
            request_line(&line),
            Some(Status::NotImplemented),
            "{method}"
        );
    }
}

#[test]
fn absolute_form_is_reduced_to_its_path() {
    for (target, path) in [
        ("http://a/b?c", "/b?c"),
        ("HTTPS://a:443/b", "/b"),
        ("http://[::1]:80/b", "/b"),
        ("http://a", "/"),
        ("http://a?c", "/"),
    ] {
        let input = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
        let request = parse_one(input.as_bytes()).expect("valid");
        assert_eq!(request.target, path.as_bytes(), "{target}");
    }
}

#[test]
fn http_1_1_needs_exactly_one_valid_host() {
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a, b\r\n",
    ] {
        let input = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(status_of(&input), Some(Status::BadRequest), "{fields:?}");
    }
    // RFC 9112 3.2: empty where the target has no authority.
    for host in [
        "",
        "a",
        "a:80",
        "192.0.2.1",
        "[2001:db8::1]:8080",
        "A_b.example",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(status_of(&input), None, "{host:?}");
    }
}

#[test]
fn http_1_0_may_leave_the_host_out_but_not_repeat_it() {
    assert_eq!(status_of("GET / HTTP/1.0\r\n\r\n"), None);
    assert_eq!(
        status_of("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        Some(Status::BadRequest)
    );
}

#[test]
fn field_lines_that_break_the_grammar_are_400() {
    for fields in [
        "Range : bytes=0-1\r\n",
        "Range\t: bytes=0-1\r\n",
        "No colon\r\n",
        ": no name\r\n",
        "Na(me: x\r\n",
        "Näme: x\r\n",
    ] {
        let result = parse_one(&get(fields)).err();
        assert_eq!(result, Some(Status::BadRequest), "{fields:?}");
    }
}

#[test]
fn names_have_no_case_and_values_no_white_space_around() {
    let input = get("rAnGe:\t bytes=0-1 \t\r\nIF-RANGE:\"x\"\r\nEmpty:\r\n");
    let request = parse_one(&input).expect("valid");
    assert_eq!(request.range(), Singleton::Once(b"bytes=0-1"));
    assert_eq!(request.if_range(), Singleton::Once(b"\"x\""));
    assert_eq!(request.header("empty").next(), Some(&b""[..]));
}

#[test]
fn a_repeated_singleton_is_neither_absent_nor_one_of_its_values() {
    let input = get("Range: bytes=0-1\r\nrange: bytes=2-3\r\n");
    let range = parse_one(&input).expect("valid").range();
    assert_eq!(range, Singleton::Repeated);
    assert_eq!(range.once(), None);
}

#[test]
fn list_fields_keep_every_line_in_order() {
    let input = get("If-None-Match: \"a\"\r\nX: y\r\nif-none-match: \"b\", \"c\"\r\n");
    let request = parse_one(&input).expect("valid");
    let lines: Vec<&[u8]> = request.if_none_match().expect("sent").collect();
    assert_eq!(lines, [&b"\"a\""[..], b"\"b\", \"c\""]);
    assert!(request.if_match().is_none());
}

#[test]
fn values_found_in_the_raw_lines_are_those_httparse_found() {
    let input = get("A:1\r\nAA: 2\r\na:\t\r\nB: a: 3\r\nA: x:y \r\n");
    let request = parse_one(&input).expect("valid");
    let mut table = [httparse::EMPTY_HEADER; 8];
    let parsed = httparse::parse_headers(request.fields, &mut table).expect("valid");
    let httparse::Status::Complete((_, fields)) = parsed else {
        panic!("not complete");
    };
    let expected: Vec<&[u8]> = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("a"))
        .map(|field| field.value)
        .collect();
    assert_eq!(request.header("a").collect::<Vec<_>>(), expected);
}

/// What httparse makes of a head with this one field line.
fn by_httparse(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let head = [line, b"\r\n\r\n"].concat();
    let mut table = [httparse::EMPTY_HEADER; 2];
    match httparse::parse_headers(&head, &mut table) {
        Ok(httparse::Status::Complete((_, [field]))) => {
            Some((field.name.as_bytes().to_vec(), field.value.to_vec()))
        }
        _ => None,
    }
}

#[test]
fn every_byte_in_every_part_of_a_field_line_is_judged_as_by_httparse() {
    for byte in (b' '..=u8::MAX).filter(|&byte| byte != 0x7f).chain([b'\t']) {
        for line in [
            &b"?a: b"[..],
            b"a?: b",
            b"a? b",
            b"a:?b",
            b"a: b?",
            b"a: b?c",
            b"?",
        ] {
            let line = line.to_vec();
            let line: Vec<u8> = (line.iter())
                .map(|&at| if at == b'?' { byte } else { at })
                .collect();
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                continue;
            }
            let ours = split_field(&line).map(|(name, value)| (name.to_vec(), value.to_vec()));
            assert_eq!(ours, by_httparse(&line), "{line:?}");
        }
    }
}

#[test]
fn the_version_decides_on_keeping_alive_unless_the_peer_says_otherwise() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Upgrade, CLOSE\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        let request = parse_one(input.as_bytes()).expect("valid");
        assert_eq!(request.keep_alive, expected, "{version} {connection:?}");
    }
}

#[test]
fn a_request_with_a_body_does_not_keep_the_connection() {
    for fields in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
        let input = get(fields);
        let request = parse_one(&input).expect("valid");
        assert!(request.body.is_some(), "{fields:?}");
        assert!(!request.keep_alive, "{fields:?}");
    }
}

#[test]
fn an_empty_body_is_no_body() {
    let input = get("Content-Length: 0\r\n");
    let request = parse_one(&input).expect("valid");
    assert!(!request.body.is_some());
    assert!(request.keep_alive);
}

#[test]
fn both_length_fields_together_are_400_in_either_order() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-length: 3\r\n",
    ] {
        let result = parse_one(&get(fields)).err();
        assert_eq!(result, Some(Status::BadRequest), "{fields:?}");
    }
}

#[test]
fn a_limit_above_the_table_means_the_table() {
    let limits = RequestLimits {
        fields: usize::MAX,
        ..RequestLimits::default()
    };
    let with_fields = |count: usize| get(&"X: y\r\n".repeat(count - 1));
    let (most, more) = (with_fields(FIELDS_MAX), with_fields(FIELDS_MAX + 1));
    assert!(matches!(
        parse_request(&most, &limits),
        Parsed::Complete { .. }
    ));
    assert!(matches!(
        parse_request(&more, &limits),
        Parsed::Invalid(Status::RequestHeaderFieldsTooLarge)
    ));
}

#[test]
fn a_tls_hello_on_the_plain_port_is_refused_at_its_first_byte() {
    let parsed = parse_request(b"\x16", &RequestLimits::default());
    assert!(matches!(parsed, Parsed::Invalid(Status::BadRequest)));
}
