//! A stream of requests: how it is cut does not matter, and nobody disagrees about where a request ends.
//!
//! What is accepted is read again by httparse and by a naive reader of lines. A difference in the end of a
//! head, in the presence of a body or in the host is how requests are smuggled.

use sluice_http::{
    FIELDS_MAX, Method, Parsed, Request, RequestLimits, Status, Version, parse_request,
};

/// Small, so that short inputs reach every limit.
const NARROW: RequestLimits = RequestLimits {
    header_bytes: 192,
    fields: 6,
    uri_bytes: 48,
};

/// Requests read from one stream.
const PIPELINED_MAX: usize = 8;

/// Runs the request parser on a stream.
pub fn http_head(data: &[u8]) {
    let Some((&options, mut stream)) = data.split_first() else {
        return;
    };
    let limits = if options & 1 == 0 {
        RequestLimits::default()
    } else {
        NARROW
    };
    for _ in 0..PIPELINED_MAX {
        check_prefixes(stream, &limits);
        match parse_request(stream, &limits) {
            Parsed::Complete { request, consumed } => {
                check_complete(&stream[..consumed], &request, &limits);
                if request.body.is_some() {
                    return;
                }
                stream = &stream[consumed..];
            }
            Parsed::Incomplete => return check_incomplete(stream, &limits),
            Parsed::Invalid(status) => return check_status(status),
        }
    }
}

/// A verdict without borrowed parts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Incomplete,
    Invalid(Status),
    Complete { consumed: usize, request: String },
}

fn see(input: &[u8], limits: &RequestLimits) -> Seen {
    match parse_request(input, limits) {
        Parsed::Incomplete => Seen::Incomplete,
        Parsed::Invalid(status) => Seen::Invalid(status),
        Parsed::Complete { request, consumed } => Seen::Complete {
            consumed,
            request: format!("{request:?}"),
        },
    }
}

/// Each shorter input waits, or has the verdict of the whole.
fn check_prefixes(input: &[u8], limits: &RequestLimits) {
    let whole = see(input, limits);
    // Where lines end, and around; all places would be quadratic.
    let line_ends = (0..input.len()).filter(|&at| input[at] == b'\n' || input[at] == b'\r');
    let steps = (0..input.len()).step_by(1 + input.len() / 24);
    for len in line_ends.take(24).flat_map(|at| [at, at + 1]).chain(steps) {
        let prefix = see(&input[..len], limits);
        if prefix != Seen::Incomplete {
            assert_eq!(prefix, whole, "cut at {len}");
        } else if let Seen::Complete { consumed, .. } = &whole {
            assert!(len < *consumed, "waits at {len} for more than it uses");
        }
    }
    if let Seen::Complete { consumed, .. } = whole {
        assert_eq!(see(&input[..consumed - 1], limits), Seen::Incomplete);
    }
}

fn check_incomplete(input: &[u8], limits: &RequestLimits) {
    assert!(input.len() < limits.header_bytes, "a full buffer waits");
    let head = without_empty_lines(input);
    assert!(!head.windows(4).any(|bytes| bytes == b"\r\n\r\n"));
    assert!(!head.contains(&0));
}

fn check_status(status: Status) {
    assert!(matches!(
        status,
        Status::BadRequest
            | Status::UriTooLong
            | Status::RequestHeaderFieldsTooLarge
            | Status::NotImplemented
            | Status::HttpVersionNotSupported
    ));
}

fn check_complete(input: &[u8], request: &Request<'_>, limits: &RequestLimits) {
    assert!(input.len() <= limits.header_bytes);
    assert!(request.target.len() <= limits.uri_bytes);
    let head = without_empty_lines(input);
    let lines = lines(head);
    assert!(lines.len() - 1 <= limits.fields.min(FIELDS_MAX));
    check_against_httparse(head, request, lines.len() - 1);

    let fields: Vec<Field<'_>> = lines[1..].iter().map(|line| field(line)).collect();
    let values = |name: &str| -> Vec<&[u8]> {
        fields
            .iter()
            .filter(|field| field.name == name)
            .map(|field| field.value)
            .collect()
    };
    let hosts = values("host").len();
    let least_hosts = usize::from(request.version == Version::Http11);
    assert!((least_hosts..=1).contains(&hosts));
    check_body(
        request,
        &values("content-length"),
        &values("transfer-encoding"),
    );
    check_keep_alive(request, &values("connection"));
    for name in ["if-match", "if-none-match", "user-agent"] {
        assert_eq!(request.header(name).collect::<Vec<_>>(), values(name));
    }
    assert_eq!(request.if_match().is_some(), !values("if-match").is_empty());
    for (name, singleton) in [
        ("range", request.range()),
        ("if-range", request.if_range()),
        ("if-modified-since", request.if_modified_since()),
        ("if-unmodified-since", request.if_unmodified_since()),
    ] {
        let once = match values(name)[..] {
            [value] => Some(value),
            _ => None,
        };
        assert_eq!(singleton.once(), once);
    }
}

/// The lines before the empty one, which is the last; no line end is anything but CRLF.
fn lines(head: &[u8]) -> Vec<&[u8]> {
    let text = head
        .strip_suffix(b"\r\n\r\n")
        .expect("an empty line at the end");
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    for line in &lines {
        assert!(!line.is_empty());
        let is_control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
        assert!(!line.iter().any(is_control));
    }
    lines
}

struct Field<'a> {
    name: String,
    value: &'a [u8],
}

fn field(line: &[u8]) -> Field<'_> {
    let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
    let name = str::from_utf8(&line[..colon]).expect("a token");
    assert!(!name.is_empty() && !name.contains([' ', '\t']));
    let mut value = &line[colon + 1..];
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Field {
        name: name.to_ascii_lowercase(),
        value,
    }
}

fn check_against_httparse(head: &[u8], request: &Request<'_>, fields: usize) {
    let mut table = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut other = httparse::Request::new(&mut table);
    // httparse knows two minor versions, we read all of them as the second.
    let mut known = head.to_vec();
    let line_end = known
        .iter()
        .position(|byte| *byte == b'\r')
        .expect("a line");
    if request.version == Version::Http11 {
        known[line_end - 1] = b'1';
    }
    let end = other
        .parse(&known)
        .expect("httparse accepts what we accept");
    assert_eq!(end, httparse::Status::Complete(head.len()));
    assert_eq!(other.headers.len(), fields);
    let version = u8::from(request.version == Version::Http11);
    assert_eq!(other.version, Some(version));
    let method = match request.method {
        Method::Get => Some("GET"),
        Method::Head => Some("HEAD"),
        Method::Put => Some("PUT"),
        Method::Other => other.method,
    };
    assert_eq!(other.method, method);
    let path = other.path.expect("complete").as_bytes();
    if path.starts_with(b"/") || request.method == Method::Other {
        assert_eq!(request.target, path);
    } else {
        assert!(path.ends_with(request.target) || request.target == b"/");
        assert!(request.target.starts_with(b"/"));
    }
}

/// RFC 9112 6.3, strictly: chunks, or one agreed length, or nothing.
fn check_body(request: &Request<'_>, lengths: &[&[u8]], codings: &[&[u8]]) {
    if !codings.is_empty() {
        assert!(lengths.is_empty() && codings.len() == 1);
        assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
        assert_eq!(request.version, Version::Http11);
        assert!(request.body.is_some());
        return;
    }
    let numbers: Vec<u64> = lengths
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|number| {
            let number = str::from_utf8(number).expect("digits").trim();
            assert!(number.bytes().all(|byte| byte.is_ascii_digit()));
            number.parse().expect("a length")
        })
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
    let length = numbers.first().copied().unwrap_or(0);
    assert_eq!(request.body.is_some(), length > 0);
}

fn check_keep_alive(request: &Request<'_>, values: &[&[u8]]) {
    let options: Vec<String> = values
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|option| String::from_utf8_lossy(option).trim().to_ascii_lowercase())
        .collect();
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    let wanted = !has("close") && (request.version == Version::Http11 || has("keep-alive"));
    assert_eq!(request.keep_alive, wanted && !request.body.is_some());
}

fn without_empty_lines(mut input: &[u8]) -> &[u8] {
    while let Some(rest) = input.strip_prefix(b"\r\n") {
        input = rest;
    }
    input
}
