//! What to answer: a response head, and which bytes of the file follow it.
//!
//! Every answer of the server is written here, with its length (a 304 has none, RFC 9110 8.6), so a
//! client always knows where it ends and the connection can go on. Nothing is read: the file's size and
//! times come with the request, and the plan says which range of the file to stream. If the file turns
//! out shorter than that, the caller has to cut the connection; the length is already on its way.

use core::ops::Range;

use crate::conditional::{Validators, Verdict, evaluate};
use crate::description::Description;
use crate::head::HeadWriter;
use crate::range::{Selection, select};
use crate::request::{Method, Request};
use crate::status::Status;

/// Room in the head buffer that is enough for every [`plan()`] and [`plan_error`], in bytes.
/// [`plan_redirect`] may need three bytes more for each byte of its path and query, all of them
/// escaped.
pub const RESPONSE_HEAD_BYTES: usize = 512;

/// Seconds after which to come again (RFC 9110 10.2.3): in this time what was held for clients that are too
/// slow for others to wait is free.
const RETRY_AFTER: &[u8] = b"10";

/// What the file system says about an open regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Length in bytes.
    pub size: u64,
    /// Modification time in whole seconds since the epoch; may be negative.
    pub mtime_s: i64,
    /// The rest of the modification time, 0..=999,999,999 ns.
    pub mtime_ns: u32,
}

/// What the answer depends on beyond request and file.
#[derive(Debug, Clone, Copy)]
pub struct PlanContext<'a> {
    /// The current time as an IMF-fixdate (RFC 9110 5.6.7), which the caller formats once a second.
    pub date: &'a str,
    /// The same time in seconds since the epoch.
    pub now_s: i64,
    /// Close after this answer whatever the peer wants (draining, limits).
    pub close: bool,
    /// Files can be uploaded: what `Allow` says.
    pub uploads: bool,
}

/// What to send, and what to do then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// The status that was written, for logs and counters.
    pub status: Status,
    /// The bytes of the file that follow the head; never an empty range. `None` if nothing follows:
    /// HEAD, an empty file, 301, 304, errors (their short text is part of the head).
    pub body: Option<Range<u64>>,
    /// Finish the connection after the last byte. Said in the head too.
    pub close: bool,
}

/// Plans the answer for a file that exists: `found` at `path` (from
/// [`decode_target`](crate::decode_target), with the name of the index file if one was taken).
///
/// Appends the head to `head`. The status is 200, 206, 304, 412 or 416 (or 405 if the method is neither
/// GET nor HEAD).
pub fn plan(
    request: &Request<'_>,
    path: &[u8],
    found: &Found,
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    let description = Description::new(path, found, context.now_s);
    plan_described(request, &description, context, head)
}

/// The same for a file that the caller has a description of, which [is of it](Description::is_of) now.
pub fn plan_described(
    request: &Request<'_>,
    file: &Description,
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    if !matches!(request.method, Method::Get | Method::Head) {
        return plan_error(Status::MethodNotAllowed, Some(request), context, head);
    }
    let (found, validators) = (file.found(), file.validators());
    let part = match evaluate(request, validators) {
        Verdict::NotModified => return plan_not_modified(request, validators, context, head),
        Verdict::PreconditionFailed => {
            return plan_error(Status::PreconditionFailed, Some(request), context, head);
        }
        Verdict::Proceed { range: false } => None,
        Verdict::Proceed { range: true } => {
            let range = request.range().once();
            match range.map(|value| select(value, found.size)) {
                None | Some(Selection::Whole) => None,
                Some(Selection::Part(part)) => Some(part),
                Some(Selection::Unsatisfiable) => {
                    return plan_unsatisfiable(request, found, context, head);
                }
            }
        }
    };

    let close = closes(request, context);
    let (status, body) = match part {
        None => {
            let mut writer = HeadWriter::start(head, Status::Ok, context);
            writer.lines(file.fields());
            writer.finish(close, Some(request));
            (Status::Ok, 0..found.size)
        }
        Some(part) => {
            let mut writer = HeadWriter::start(head, Status::PartialContent, context);
            writer.content_range(&part, found.size);
            writer.content_length(part.end - part.start);
            writer.lines(file.fields_of_part());
            writer.finish(close, Some(request));
            (Status::PartialContent, part)
        }
    };
    Plan {
        status,
        body: (request.method == Method::Get && !body.is_empty()).then_some(body),
        close,
    }
}

/// Plans an answer without a file: a head with a short text, which HEAD leaves out. 405 names the
/// methods there are (RFC 9110 15.5.6), 415 the coding that is accepted, and 503 when to come again.
///
/// Without a request (it could not be read, or did not come in time) the connection closes after it, and
/// so it does after 411: the client may send the content that it did not announce, which would be read as
/// the next request.
pub fn plan_error(
    status: Status,
    request: Option<&Request<'_>>,
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    let close =
        status == Status::LengthRequired || request.is_none_or(|request| closes(request, context));
    let text = status.line();
    let mut writer = HeadWriter::start(head, status, context);
    if status == Status::MethodNotAllowed {
        let methods: &[u8] = if context.uploads {
            b"GET, HEAD, PUT"
        } else {
            b"GET, HEAD"
        };
        writer.field("Allow", methods);
    }
    if status == Status::UnsupportedMediaType {
        // What is accepted instead (RFC 9110 12.5.3).
        writer.field("Accept-Encoding", b"identity");
    }
    if status == Status::ServiceUnavailable {
        writer.field("Retry-After", RETRY_AFTER);
    }
    writer.field("Content-Type", b"text/plain");
    // usize has at most 64 bits on every platform there is.
    writer.content_length(text.len() as u64 + 1);
    writer.finish(close, request);
    if request.is_none_or(|request| request.method != Method::Head) {
        head.extend_from_slice(text.as_bytes());
        head.push(b'\n');
    }
    Plan {
        status,
        body: None,
        close,
    }
}

/// Plans the 301 for a directory that was named without its slash, so that relative links in its index
/// resolve: to `path` (decoded, relative to the root) with a slash, on this host, with the query kept.
pub fn plan_redirect(
    request: &Request<'_>,
    path: &[u8],
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    let status = Status::MovedPermanently;
    let close = closes(request, context);
    let query = request.target.iter().position(|&byte| byte == b'?');
    let mut writer = HeadWriter::start(head, status, context);
    writer.location(path, query.map(|at| &request.target[at + 1..]));
    writer.content_length(0);
    writer.finish(close, Some(request));
    Plan {
        status,
        body: None,
        close,
    }
}

/// 304: the validator and nothing else about the file, no length either (RFC 9110 15.4.5).
fn plan_not_modified(
    request: &Request<'_>,
    validators: &Validators,
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    let status = Status::NotModified;
    let close = closes(request, context);
    let mut writer = HeadWriter::start(head, status, context);
    writer.field("ETag", validators.etag.as_bytes());
    writer.finish(close, Some(request));
    Plan {
        status,
        body: None,
        close,
    }
}

/// 416: without any text, which a client that resumes could append to a good file.
fn plan_unsatisfiable(
    request: &Request<'_>,
    found: &Found,
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    let status = Status::RangeNotSatisfiable;
    let close = closes(request, context);
    let mut writer = HeadWriter::start(head, status, context);
    writer.content_range_unsatisfied(found.size);
    writer.content_length(0);
    writer.field("Accept-Ranges", b"bytes");
    writer.finish(close, Some(request));
    Plan {
        status,
        body: None,
        close,
    }
}

fn closes(request: &Request<'_>, context: &PlanContext<'_>) -> bool {
    context.close || !request.keep_alive
}

#[cfg(test)]
mod tests;
