//! Bytes of a connection to a checked [`Request`] (RFC 9112).
//!
//! `framing` finds the lines and the end of the head and refuses what smugglers use; this file splits and checks the
//! lines as they pass (as httparse does, with which tests and the fuzzer compare) and keeps what serving a file needs:
//! method, target, the few fields with a meaning here, and whether the connection may go on. A [`Request`] borrows the
//! input and nothing is copied or allocated, so it is as cheap to drop as to make.
//!
//! A value of type [`Request`] has passed every framing rule; what is left to the caller is the method
//! (`Other` is answered by 405), the target ([`decode_target`](crate::decode_target)) and the file.

use crate::framing::{BodyFraming, Head, find_head};
use crate::status::Status;

/// Field lines a head can have at most, whatever [`RequestLimits::fields`] says.
pub const FIELDS_MAX: usize = 100;

/// Bounds on a request head. All are about memory and time that one peer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of the head with empty lines before it and the one that ends it; more is 431. Must not be
    /// larger than the input buffer of the caller, or a full buffer would wait for ever.
    pub header_bytes: usize,
    /// Field lines, 0..=[`FIELDS_MAX`] (larger values mean [`FIELDS_MAX`]); more is 431.
    pub fields: usize,
    /// Bytes of the request target; more is 414. Only of use below `header_bytes`.
    pub uri_bytes: usize,
}

impl RequestLimits {
    pub(crate) fn fields_effective(&self) -> usize {
        self.fields.min(FIELDS_MAX)
    }
}

impl Default for RequestLimits {
    /// 16 KiB, [`FIELDS_MAX`] fields, a target of 8 KiB (RFC 9112 section 3 asks for at least 8000
    /// bytes of request line).
    fn default() -> RequestLimits {
        RequestLimits {
            header_bytes: 16 * 1024,
            fields: FIELDS_MAX,
            uri_bytes: 8 * 1024,
        }
    }
}

/// What the start of the input is.
#[derive(Debug, Clone, Copy)]
pub enum Parsed<'a> {
    /// A head that is not whole yet, and good so far.
    Incomplete,
    /// A head that passed every check.
    Complete {
        /// The request.
        request: Request<'a>,
        /// Bytes of the input that belong to it. The next pipelined request starts here, unless the
        /// request has a body that is not read (then the connection closes after the answer).
        consumed: usize,
    },
    /// Answer with this status ([`plan_error`](crate::plan_error) without a request) and close: where
    /// the next request would start is unknown or not to be trusted (RFC 9112 2.2).
    Invalid(Status),
}

/// A request method (RFC 9110 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The file.
    Get,
    /// What GET would answer, without the file.
    Head,
    /// The body is to become the file ([`plan_put`](crate::plan_put)).
    Put,
    /// A registered method that files do not offer: 405. Methods nobody registered never become a
    /// request, they are `Invalid(Status::NotImplemented)`.
    Other,
}

/// What follows a head (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing, and nothing was announced: no length field at all.
    Unannounced,
    /// So many bytes, perhaps 0.
    Length(u64),
    /// Chunks, whose end says where they end ([`ChunkDecoder`](crate::ChunkDecoder)).
    Chunked,
}

impl Body {
    /// True if bytes follow the head.
    pub fn is_some(self) -> bool {
        !matches!(self, Body::Unannounced | Body::Length(0))
    }
}

/// The version in the request line, and with it the default for keeping the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes unless asked to keep alive, `Host` is optional.
    Http10,
    /// HTTP/1.1 and any later minor version of 1 (RFC 9110 2.5).
    Http11,
}

/// A field that has no meaning when it is sent more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Singleton<'a> {
    /// Not sent.
    Absent,
    /// Sent once, with this value (without white space around it).
    Once(&'a [u8]),
    /// Sent more than once. Kept apart from `Absent`: an `If-Range` that cannot be read must not read
    /// as one that holds.
    Repeated,
}

impl<'a> Singleton<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Singleton::Absent => Singleton::Once(value),
            Singleton::Once(_) | Singleton::Repeated => Singleton::Repeated,
        };
    }

    /// The value of a field that was sent exactly once.
    pub fn once(self) -> Option<&'a [u8]> {
        match self {
            Singleton::Once(value) => Some(value),
            Singleton::Absent | Singleton::Repeated => None,
        }
    }
}

/// A request whose framing is beyond doubt.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub method: Method,
    /// Which rules the peer follows.
    pub version: Version,
    /// Path and query as sent, without scheme and authority of an absolute-form target: UTF-8 without
    /// control byte, space or `#`. Starts with `/` for GET, HEAD and PUT; for [`Method::Other`] it can
    /// also be `*` or any other form.
    pub target: &'a [u8],
    /// The peer wants the connection to go on, and it can without reading a body: false for every request
    /// with one. What becomes of the connection behind a body that is read, [`Put`](crate::Put) knows.
    pub keep_alive: bool,
    /// What follows the head. If it is not read: answer and close, or it would be taken for a request.
    pub body: Body,
    fields: &'a [u8],
    known: KnownFields<'a>,
}

impl<'a> Request<'a> {
    /// `Range` (RFC 9110 14.2).
    pub fn range(&self) -> Singleton<'a> {
        self.known.range
    }

    /// `If-Range` (RFC 9110 13.1.5).
    pub fn if_range(&self) -> Singleton<'a> {
        self.known.if_range
    }

    /// `If-Modified-Since` (RFC 9110 13.1.3).
    pub fn if_modified_since(&self) -> Singleton<'a> {
        self.known.if_modified_since
    }

    /// `If-Unmodified-Since` (RFC 9110 13.1.4).
    pub fn if_unmodified_since(&self) -> Singleton<'a> {
        self.known.if_unmodified_since
    }

    /// The lines of `If-Match` (RFC 9110 13.1.1), `None` without one.
    pub fn if_match(&self) -> Option<FieldValues<'a>> {
        self.known.if_match.then(|| self.header("if-match"))
    }

    /// The lines of `If-None-Match` (RFC 9110 13.1.2), `None` without one.
    pub fn if_none_match(&self) -> Option<FieldValues<'a>> {
        self.known
            .if_none_match
            .then(|| self.header("if-none-match"))
    }

    /// A `Content-Range` field was sent, whatever it says (RFC 9110 14.4).
    pub(crate) fn has_content_range(&self) -> bool {
        self.known.content_range
    }

    /// The content is coded, by anything but `identity` (RFC 9110 8.4).
    pub(crate) fn has_content_coding(&self) -> bool {
        self.known.content_coding
    }

    /// The peer waits for 100 before it sends the body (RFC 9110 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.known.expects_continue && self.version == Version::Http11
    }

    /// The peer wants the connection to go on behind the body.
    pub(crate) fn wants_keep_alive(&self) -> bool {
        self.known.connection.keeps_alive(self.version)
    }

    /// Any precondition (RFC 9110 13.1) that has a meaning for PUT was sent.
    pub(crate) fn has_precondition(&self) -> bool {
        self.known.if_match
            || self.known.if_none_match
            || self.known.if_unmodified_since != Singleton::Absent
    }

    /// The values of any field, one per line, in order; the name is compared without case. Reads the
    /// head again: meant for lists and logs, not for asking after many names.
    pub fn header(&self, name: &'static str) -> FieldValues<'a> {
        FieldValues {
            lines: self.fields,
            name,
        }
    }
}

/// Iterator over the values of one field, see [`Request::header`].
#[derive(Debug, Clone)]
pub struct FieldValues<'a> {
    /// Checked field lines, each with its CRLF, and the empty line at the end.
    lines: &'a [u8],
    name: &'static str,
}

impl<'a> Iterator for FieldValues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.lines.is_empty() {
            // In a checked head CR stands only before LF, and every line but the last has a colon.
            let (line, rest) = split_once(self.lines, b'\n')?;
            self.lines = rest;
            let (name, value) = split_once(line, b':')?;
            if name.eq_ignore_ascii_case(self.name.as_bytes()) {
                return Some(value.trim_ascii());
            }
        }
        None
    }
}

/// Parses the request at the start of `input`.
///
/// A pure function of the bytes: how they were cut into segments has no influence, more bytes never
/// change an answer other than `Incomplete`, and what follows the head is not looked at. Costs time
/// linear in the head, so a caller whose peer drips bytes saves work by asking again only after a line
/// feed or at `header_bytes`.
///
/// # Errors
///
/// [`Parsed::Invalid`] with 400 (grammar, framing, `Host`), 414 (target), 431 (head), 501 (unknown
/// method) or 505 (major version).
pub fn parse_request<'a>(input: &'a [u8], limits: &RequestLimits) -> Parsed<'a> {
    match parse(input, limits) {
        Ok(None) => Parsed::Incomplete,
        Ok(Some((request, consumed))) => Parsed::Complete { request, consumed },
        Err(status) => Parsed::Invalid(status),
    }
}

fn parse<'a>(
    input: &'a [u8],
    limits: &RequestLimits,
) -> Result<Option<(Request<'a>, usize)>, Status> {
    let mut reading = FieldReader::new();
    let hear_field = |line| reading.hear(line);
    let Some((Head { fields, end, .. }, line)) =
        find_head(input, limits, RequestLine::parse, hear_field)?
    else {
        return Ok(None);
    };
    let fields = &input[fields..end];
    let known = reading.finish(line.version)?;
    let body = known.body.body(line.version)?;
    let request = Request {
        method: line.method,
        version: line.version,
        target: line.target,
        keep_alive: known.connection.keeps_alive(line.version) && !body.is_some(),
        body,
        fields,
        known,
    };
    Ok(Some((request, end)))
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3).
struct RequestLine<'a> {
    method: Method,
    target: &'a [u8],
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// `line` has no control byte but HTAB in it.
    fn parse(line: &'a [u8]) -> Result<RequestLine<'a>, Status> {
        // Exactly one SP between the parts: RFC 9112 3 allows more lenience, and advises against it.
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Status::BadRequest);
        };
        // The version first: it says whether the rest can be read by these rules at all.
        let version = parse_version(version)?;
        let method = parse_method(method)?;
        check_target(target)?;
        let target = match method {
            Method::Get | Method::Head | Method::Put => path_and_query(target)?,
            Method::Other => target,
        };
        Ok(RequestLine {
            method,
            target,
            version,
        })
    }
}

fn parse_version(version: &[u8]) -> Result<Version, Status> {
    match version {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Status::HttpVersionNotSupported)
        }
        _ => Err(Status::BadRequest),
    }
}

fn parse_method(method: &[u8]) -> Result<Method, Status> {
    match method {
        b"GET" => Ok(Method::Get),
        b"HEAD" => Ok(Method::Head),
        b"PUT" => Ok(Method::Put),
        b"POST" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH" => Ok(Method::Other),
        _ if !method.is_empty() && method.iter().all(|&byte| is_token(byte)) => {
            Err(Status::NotImplemented)
        }
        _ => Err(Status::BadRequest),
    }
}

/// `tchar` (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = table_of(b"!#$%&'*+-.^_`|~");
    TOKEN[usize::from(byte)]
}

/// What no form of target may hold. Unescaped UTF-8 is no URI either, but curl and others send it as
/// typed; a fragment is for the client alone (RFC 9110 4.2.5).
fn check_target(target: &[u8]) -> Result<(), Status> {
    let allowed = |&byte: &u8| byte > b' ' && byte != b'#';
    let is_text = target.is_ascii() || str::from_utf8(target).is_ok();
    if !target.is_empty() && is_text && target.iter().all(allowed) {
        Ok(())
    } else {
        Err(Status::BadRequest)
    }
}

/// Path and query of an origin-form or absolute-form target (RFC 9112 3.2.1, 3.2.2).
fn path_and_query(target: &[u8]) -> Result<&[u8], Status> {
    if target.starts_with(b"/") {
        return Ok(target);
    }
    let rest = strip_prefix_ignore_case(target, b"http://")
        .or_else(|| strip_prefix_ignore_case(target, b"https://"))
        .ok_or(Status::BadRequest)?;
    let end = rest
        .iter()
        .position(|&byte| byte == b'/' || byte == b'?')
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_authority(authority) {
        return Err(Status::BadRequest);
    }
    match path.first() {
        Some(b'/') => Ok(path),
        // An empty path means the root (RFC 9110 4.2.3); a query of the root has no meaning here.
        _ => Ok(b"/"),
    }
}

fn strip_prefix_ignore_case<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// True if `value` holds only what `uri-host [":" port]` can hold (RFC 9110 7.2). User information
/// (`@`) is refused with the rest, as RFC 9110 4.2.4 asks.
fn is_authority(value: &[u8]) -> bool {
    const ALLOWED: [bool; 256] = table_of(b"-._~!$&'()*+,;=%:[]");
    value.iter().all(|&byte| ALLOWED[usize::from(byte)])
}

/// By byte, whether it is a letter, a digit, or one of `others`.
const fn table_of(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// The fields that have a meaning to this server.
#[derive(Debug, Clone, Copy)]
struct KnownFields<'a> {
    range: Singleton<'a>,
    if_range: Singleton<'a>,
    if_modified_since: Singleton<'a>,
    if_unmodified_since: Singleton<'a>,
    /// At least one line of it was sent; the same below.
    if_match: bool,
    if_none_match: bool,
    content_range: bool,
    /// A coding other than `identity` was named.
    content_coding: bool,
    expects_continue: bool,
    connection: ConnectionOptions,
    body: BodyFraming,
}

/// Picks the known fields from the lines of a head, one after the other.
struct FieldReader<'a> {
    known: KnownFields<'a>,
    host: Singleton<'a>,
    /// Of the lines so far.
    verdict: Result<(), Status>,
}

impl<'a> FieldReader<'a> {
    fn new() -> FieldReader<'a> {
        FieldReader {
            known: KnownFields {
                range: Singleton::Absent,
                if_range: Singleton::Absent,
                if_modified_since: Singleton::Absent,
                if_unmodified_since: Singleton::Absent,
                if_match: false,
                if_none_match: false,
                content_range: false,
                content_coding: false,
                expects_continue: false,
                connection: ConnectionOptions::default(),
                body: BodyFraming::default(),
            },
            host: Singleton::Absent,
            verdict: Ok(()),
        }
    }

    /// `line` is without its end, and has no control byte but HTAB in it.
    fn hear(&mut self, line: &'a [u8]) {
        if self.verdict.is_ok() {
            self.verdict = self.read(line);
        }
    }

    fn read(&mut self, line: &'a [u8]) -> Result<(), Status> {
        let (name, value) = split_field(line).ok_or(Status::BadRequest)?;
        let known = &mut self.known;
        match KnownName::of(name) {
            Some(KnownName::Host) => self.host.add(value),
            Some(KnownName::Connection) => known.connection.add(value),
            Some(KnownName::ContentLength) => known.body.content_length(value)?,
            Some(KnownName::TransferEncoding) => known.body.transfer_encoding(value)?,
            Some(KnownName::Range) => known.range.add(value),
            Some(KnownName::IfRange) => known.if_range.add(value),
            Some(KnownName::IfModifiedSince) => known.if_modified_since.add(value),
            Some(KnownName::IfUnmodifiedSince) => known.if_unmodified_since.add(value),
            Some(KnownName::IfMatch) => known.if_match = true,
            Some(KnownName::IfNoneMatch) => known.if_none_match = true,
            Some(KnownName::ContentRange) => known.content_range = true,
            Some(KnownName::ContentEncoding) => known.content_coding |= is_coded(value),
            Some(KnownName::Expect) => known.expects_continue |= asks(value, b"100-continue"),
            None => {}
        }
        Ok(())
    }

    /// What a whole head holds.
    fn finish(self, version: Version) -> Result<KnownFields<'a>, Status> {
        self.verdict?;
        check_host(self.host, version)?;
        Ok(self.known)
    }
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5). No white space before the colon (section 5.1).
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|&byte| !is_token(byte))?;
    let (name, rest) = line.split_at(at);
    let value = rest.strip_prefix(b":")?;
    (!name.is_empty()).then_some((name, value.trim_ascii()))
}

/// RFC 9112 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0, and a valid one.
fn check_host(host: Singleton<'_>, version: Version) -> Result<(), Status> {
    match host {
        Singleton::Once(value) if is_authority(value) => Ok(()),
        Singleton::Absent if version == Version::Http10 => Ok(()),
        _ => Err(Status::BadRequest),
    }
}

/// Names of [`KnownFields`].
#[derive(Clone, Copy)]
enum KnownName {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Range,
    IfRange,
    IfModifiedSince,
    IfUnmodifiedSince,
    IfMatch,
    IfNoneMatch,
    ContentRange,
    ContentEncoding,
    Expect,
}

impl KnownName {
    const TABLE: [(&'static [u8], KnownName); 13] = [
        (b"host", KnownName::Host),
        (b"connection", KnownName::Connection),
        (b"content-length", KnownName::ContentLength),
        (b"transfer-encoding", KnownName::TransferEncoding),
        (b"range", KnownName::Range),
        (b"if-range", KnownName::IfRange),
        (b"if-modified-since", KnownName::IfModifiedSince),
        (b"if-unmodified-since", KnownName::IfUnmodifiedSince),
        (b"if-match", KnownName::IfMatch),
        (b"if-none-match", KnownName::IfNoneMatch),
        (b"content-range", KnownName::ContentRange),
        (b"content-encoding", KnownName::ContentEncoding),
        (b"expect", KnownName::Expect),
    ];

    /// Names have no case (RFC 9110 5.1); lftp sends `Content-length`.
    fn of(name: &[u8]) -> Option<KnownName> {
        let entry = Self::TABLE
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(entry.1)
    }
}

/// What the `Connection` lines ask for (RFC 9112 9.3).
#[derive(Debug, Clone, Copy, Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    fn add(&mut self, value: &[u8]) {
        self.close |= asks(value, b"close");
        self.keep_alive |= asks(value, b"keep-alive");
    }

    /// `close` wins over everything, then the version, then the wish of an HTTP/1.0 peer.
    fn keeps_alive(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Whether `option`, which has no case, is in the list `value`.
fn asks(value: &[u8], option: &[u8]) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(option))
}

/// Whether the list of codings `value` names one that changes the bytes.
fn is_coded(value: &[u8]) -> bool {
    let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// The parts of `bytes` before and behind the first `separator`.
fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests;
