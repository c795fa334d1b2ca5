//! One request and one file: the answer is well-formed, and true by naive readings of range and path.

use core::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use sluice_http::{
    Found, Parsed, Plan, PlanContext, Request, RequestLimits, Status, TargetKind, decode_target,
    parse_request, plan, plan_error, plan_redirect,
};

const DATE: &str = "Tue, 14 Nov 2023 22:30:00 GMT";

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: Verb,
    http10: bool,
    close: bool,
    size: Size,
    mtime_s: i64,
    mtime_ns: u32,
    /// Age of the file in seconds, around the two that make a tag strong.
    age_s: i8,
    redirect: bool,
    target: &'a [u8],
    fields: Vec<(Name, Value<'a>)>,
}

#[derive(Arbitrary, Debug)]
enum Verb {
    Get,
    Head,
    Post,
}

#[derive(Arbitrary, Debug)]
enum Size {
    Small(u8),
    Any(u64),
    Largest,
}

#[derive(Arbitrary, Debug, PartialEq, Clone, Copy)]
enum Name {
    Range,
    IfRange,
    IfMatch,
    IfNoneMatch,
    IfModifiedSince,
    IfUnmodifiedSince,
    Connection,
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Raw(&'a [u8]),
    /// `bytes=a-b`, `bytes=a-`, `bytes=-b`.
    Positions(Option<u8>, Option<u8>),
    /// The tag of the file, as it is.
    ItsTag,
    /// The date that the answer names.
    ItsDate,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Name::Range => "Range",
            Name::IfRange => "If-Range",
            Name::IfMatch => "If-Match",
            Name::IfNoneMatch => "If-None-Match",
            Name::IfModifiedSince => "If-Modified-Since",
            Name::IfUnmodifiedSince => "If-Unmodified-Since",
            Name::Connection => "Connection",
        }
    }
}

/// Runs target, conditions and ranges of one request.
pub fn http_answer(data: &[u8]) {
    let mut unstructured = Unstructured::new(data);
    let Ok(mut input) = Input::arbitrary(&mut unstructured) else {
        return;
    };
    input.fields.truncate(8);
    let found = Found {
        size: match input.size {
            Size::Small(size) => size.into(),
            Size::Any(size) => size,
            Size::Largest => u64::MAX,
        },
        mtime_s: input.mtime_s,
        mtime_ns: input.mtime_ns % 1_000_000_000,
    };
    let context = PlanContext {
        date: DATE,
        now_s: input.mtime_s.saturating_add(input.age_s.into()),
        close: input.close,
        uploads: false,
    };
    check_target(&input.target[..input.target.len().min(512)]);

    // What the file says of itself, for the fields that give it back.
    let plain = answer(
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        &found,
        &context,
        false,
    );
    assert_eq!(plain.plan.status, Status::Ok);
    let text = request_text(&input, &plain);
    let given = answer(&text, &found, &context, input.redirect);
    given.check(&found);
    check_range(&input, &given, &found, &plain);
}

fn request_text(input: &Input<'_>, plain: &Answer) -> Vec<u8> {
    let mut text = match input.method {
        Verb::Get => b"GET /".to_vec(),
        Verb::Head => b"HEAD /".to_vec(),
        Verb::Post => b"POST /".to_vec(),
    };
    text.extend(&input.target[..input.target.len().min(512)]);
    let version: &[u8] = if input.http10 {
        b" HTTP/1.0"
    } else {
        b" HTTP/1.1"
    };
    text.extend(version);
    text.extend(b"\r\nHost: h");
    for (name, value) in &input.fields {
        text.extend(format!("\r\n{}: ", name.text()).bytes());
        text.extend(value.text(plain));
    }
    text.extend(b"\r\n\r\n");
    text
}

impl Value<'_> {
    fn text(&self, plain: &Answer) -> Vec<u8> {
        let number = |number: &Option<u8>| number.map_or_else(String::new, |n| n.to_string());
        match self {
            Value::Raw(bytes) => bytes[..bytes.len().min(128)].to_vec(),
            Value::Positions(first, last) => {
                format!("bytes={}-{}", number(first), number(last)).into_bytes()
            }
            Value::ItsTag => plain.field("ETag").unwrap_or_default().into(),
            Value::ItsDate => plain.field("Last-Modified").unwrap_or_default().into(),
        }
    }
}

/// What a server would send.
struct Answer {
    plan: Plan,
    /// Status line and fields.
    lines: Vec<String>,
    /// Text behind the head.
    text: Vec<u8>,
    is_get: bool,
    /// The input was one request, to its last byte.
    is_whole: bool,
}

fn answer(input: &[u8], found: &Found, context: &PlanContext<'_>, directory: bool) -> Answer {
    let mut head = Vec::new();
    let mut is_whole = false;
    let (plan, request) = match parse_request(input, &RequestLimits::default()) {
        Parsed::Complete { request, consumed } => {
            is_whole = consumed == input.len();
            let plan = plan_request(&request, found, context, directory, &mut head);
            (plan, Some(request))
        }
        Parsed::Invalid(status) => {
            let plan = plan_error(status, None, context, &mut head);
            assert!(plan.close);
            (plan, None)
        }
        // A target or value with an empty line in it, and something doubtful after that.
        Parsed::Incomplete => (
            plan_error(Status::RequestTimeout, None, context, &mut head),
            None,
        ),
    };
    let end = head
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("a head that ends");
    let lines = str::from_utf8(&head[..end]).expect("ASCII").split("\r\n");
    if let Some(request) = &request {
        assert!(plan.close || (request.keep_alive && !context.close));
    }
    Answer {
        plan,
        lines: lines.map(str::to_owned).collect(),
        text: head[end + 4..].to_vec(),
        is_get: request.is_some_and(|r| r.method == sluice_http::Method::Get),
        is_whole,
    }
}

fn plan_request(
    request: &Request<'_>,
    found: &Found,
    context: &PlanContext<'_>,
    directory: bool,
    head: &mut Vec<u8>,
) -> Plan {
    let mut path = Vec::new();
    match decode_target(request.target, &mut path) {
        Err(status) => plan_error(status, Some(request), context, head),
        Ok(TargetKind::File) if directory => {
            let plan = plan_redirect(request, &path, context, head);
            check_location(head, &path);
            plan
        }
        Ok(_) => plan(request, &path, found, context, head),
    }
}

/// A redirect leads to the same path, with the slash, on this host.
fn check_location(head: &[u8], path: &[u8]) {
    let head = str::from_utf8(head).expect("ASCII");
    let location = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Location: "))
        .expect("a redirect says where to");
    assert!(!location.starts_with("//"));
    let mut decoded = Vec::new();
    let kind = decode_target(location.as_bytes(), &mut decoded);
    assert_eq!(kind, Ok(TargetKind::Directory));
    assert_eq!(decoded.strip_suffix(b"/"), Some(path));
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    fn check(&self, found: &Found) {
        const KNOWN: [&str; 11] = [
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
        for line in &self.lines[1..] {
            let (name, value) = line.split_once(": ").expect("a field");
            assert!(KNOWN.contains(&name), "{line:?}");
            assert!(!value.contains(|c: char| c.is_control() || !c.is_ascii()));
        }
        let status = format!("HTTP/1.1 {}", self.plan.status);
        assert_eq!(self.lines[0], status);
        assert_eq!(self.field("Connection") == Some("close"), self.plan.close);
        self.check_length(found);
    }

    fn check_length(&self, found: &Found) {
        let told: Option<u64> = self
            .field("Content-Length")
            .map(|n| n.parse().expect("digits"));
        if let Some(body) = &self.plan.body {
            assert!(self.is_get && self.text.is_empty());
            assert!(body.start < body.end && body.end <= found.size);
            assert_eq!(told, Some(body.end - body.start));
        } else if !self.text.is_empty() {
            assert_eq!(told, Some(self.text.len() as u64));
        }
        match self.plan.status {
            Status::Ok => assert_eq!(told, Some(found.size)),
            Status::PartialContent => {
                let body = self.plan.body.as_ref().expect("only GET has parts");
                let range = format!("bytes {}-{}/{}", body.start, body.end - 1, found.size);
                assert_eq!(self.field("Content-Range"), Some(&range[..]));
            }
            Status::RangeNotSatisfiable => {
                assert_eq!(told, Some(0));
                let range = format!("bytes */{}", found.size);
                assert_eq!(self.field("Content-Range"), Some(&range[..]));
            }
            Status::NotModified => assert!(told.is_none() && self.text.is_empty()),
            _ => assert!(told.is_some()),
        }
    }
}

/// With one field only, what the answer must be is plain.
fn check_range(input: &Input<'_>, given: &Answer, found: &Found, plain: &Answer) {
    let [(name, value)] = &input.fields[..] else {
        return;
    };
    let text = value.text(plain);
    let has_more_lines = text.contains(&b'\r') || input.target.contains(&b'\r');
    if !given.is_get || !given.is_whole || has_more_lines {
        return;
    }
    let served = !matches!(
        given.plan.status,
        Status::BadRequest | Status::NotFound | Status::MovedPermanently
    );
    if !served {
        return;
    }
    match (name, value) {
        (Name::Range, _) => {
            let expected = match naive_range(&text, found.size) {
                None => (Status::Ok, 0..found.size),
                Some(part) if part.is_empty() => (Status::RangeNotSatisfiable, 0..0),
                Some(part) => (Status::PartialContent, part),
            };
            let body = given.plan.body.clone().unwrap_or(0..0);
            let is_empty = body.is_empty() && expected.1.is_empty();
            assert!(is_empty || body == expected.1, "{body:?} {expected:?}");
            assert_eq!(given.plan.status, expected.0);
        }
        // The path is part of the tag, so it is this file's only if the path is the root.
        (Name::IfNoneMatch, Value::ItsTag) if input.target.is_empty() => {
            assert_eq!(given.plan.status, Status::NotModified);
        }
        (Name::IfMatch, Value::ItsTag) if input.target.is_empty() => {
            let status = if text.starts_with(b"W/") {
                Status::PreconditionFailed
            } else {
                Status::Ok
            };
            assert_eq!(given.plan.status, status);
        }
        (Name::IfModifiedSince, Value::ItsDate) if !text.is_empty() => {
            assert_eq!(given.plan.status, Status::NotModified);
        }
        (Name::IfUnmodifiedSince, Value::ItsDate) => assert_eq!(given.plan.status, Status::Ok),
        _ => {}
    }
}

/// RFC 9110 14.1: `None` is to be ignored, an empty range cannot be satisfied.
fn naive_range(value: &[u8], size: u64) -> Option<Range<u64>> {
    let value = str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let (unit, set) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs: Vec<&str> = set
        .split(',')
        .map(|spec| spec.trim_matches([' ', '\t']))
        .filter(|spec| !spec.is_empty())
        .collect();
    let [spec] = specs[..] else { return None };
    let (first, last) = spec.split_once('-')?;
    let size = u128::from(size);
    let picked = match (first, last) {
        ("", last) => {
            let len = number(last)?;
            if size == 0 && len > 0 {
                return None;
            }
            size - len.min(size)..size
        }
        (first, "") => number(first)?.min(size)..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            first.min(size)..(last + 1).min(size)
        }
    };
    let end = |at: u128| u64::try_from(at).expect("not beyond the size");
    Some(end(picked.start)..end(picked.end))
}

/// Digits; more than fit are as good as 2^100.
fn number(digits: &str) -> Option<u128> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    match significant.len() {
        0 => Some(0),
        1..=30 => significant.parse().ok(),
        _ => Some(1 << 100),
    }
}

/// A target names what a naive walk over its decoded parts names, or nothing.
fn check_target(raw: &[u8]) {
    let mut target = b"/".to_vec();
    target.extend(raw);
    let mut out = b"left over".to_vec();
    let decoded = decode_target(&target, &mut out);
    assert!(out.len() <= target.len());
    match (decoded, naive_path(&target)) {
        (Ok(kind), Ok((parts, is_directory))) => {
            let mut path = parts.join(&b'/');
            if is_directory && !path.is_empty() {
                path.push(b'/');
            }
            assert_eq!(out, path);
            let is_directory = is_directory || path.is_empty();
            assert_eq!(kind == TargetKind::Directory, is_directory);
        }
        (Err(status), Err(())) => {
            assert!(out.is_empty());
            assert!(matches!(status, Status::BadRequest | Status::NotFound));
        }
        // Too long to exist, which the naive walk does not know.
        (Err(Status::NotFound), Ok((parts, _))) => {
            let long = |part: &Vec<u8>| part.len() > 255;
            assert!(target.len() > 255, "{parts:?} {}", parts.iter().any(long));
        }
        (ours, theirs) => panic!("{ours:?} {theirs:?}"),
    }
}

type Path = (Vec<Vec<u8>>, bool);

fn naive_path(target: &[u8]) -> Result<Path, ()> {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(b"");
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut is_directory = true;
    for raw in path.split(|byte| *byte == b'/').skip(1) {
        let part = naive_decode(raw)?;
        if part.contains(&0) || part.contains(&b'/') {
            return Err(());
        }
        is_directory = part.is_empty() || part == b"." || part == b"..";
        if part == b".." {
            parts.pop().ok_or(())?;
        } else if !is_directory {
            parts.push(part);
        }
    }
    if parts.iter().any(|part| part[0] == b'.') {
        return Err(());
    }
    Ok((parts, is_directory))
}

fn naive_decode(raw: &[u8]) -> Result<Vec<u8>, ()> {
    let mut out = Vec::new();
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(*bytes.next().ok_or(())?);
            digit.to_digit(16).ok_or(())
        };
        let value = digit()? * 16 + digit()?;
        out.push(u8::try_from(value).map_err(|_| ())?);
    }
    Ok(out)
}
