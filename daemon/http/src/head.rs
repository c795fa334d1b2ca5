//! Writes response heads (RFC 9112 section 4).
//!
//! Appends to a buffer of the caller and allocates nothing while that has room. Field values come from
//! this crate or are escaped by it, so no CR or LF of a peer or of a file name can get in.

use core::fmt;
use core::ops::Range;
use std::io::Write;

use crate::plan::PlanContext;
use crate::request::{Request, Version};
use crate::status::Status;

/// A response head in the making.
pub(crate) struct HeadWriter<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> HeadWriter<'v> {
    /// Status line and the fields of every answer. The version is ours, also towards HTTP/1.0 (RFC 9110
    /// 6.2).
    pub(crate) fn start(
        out: &'v mut Vec<u8>,
        status: Status,
        context: &PlanContext<'_>,
    ) -> HeadWriter<'v> {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.line().as_bytes());
        out.extend_from_slice(b"\r\nServer: sluice\r\nDate: ");
        out.extend_from_slice(context.date.as_bytes());
        out.extend_from_slice(b"\r\n");
        HeadWriter { out }
    }

    /// Fields that are written already, each with its line end.
    pub(crate) fn lines(&mut self, lines: &[u8]) {
        self.out.extend_from_slice(lines);
    }

    /// One field; `value` must be valid as it is.
    pub(crate) fn field(&mut self, name: &str, value: &[u8]) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    /// `Content-Length`, in bytes.
    pub(crate) fn content_length(&mut self, len: u64) {
        self.line(format_args!("Content-Length: {len}"));
    }

    /// `Content-Range` of a part that is not empty (RFC 9110 14.4).
    pub(crate) fn content_range(&mut self, part: &Range<u64>, size: u64) {
        let (first, last) = (part.start, part.end.saturating_sub(1));
        self.line(format_args!("Content-Range: bytes {first}-{last}/{size}"));
    }

    /// `Content-Range` of a 416. curl takes it for "the file is complete" if the size fits.
    pub(crate) fn content_range_unsatisfied(&mut self, size: u64) {
        self.line(format_args!("Content-Range: bytes */{size}"));
    }

    /// `Location` on this host: `path`, which is relative to the root, and a slash, then `query`.
    pub(crate) fn location(&mut self, path: &[u8], query: Option<&[u8]>) {
        self.out.extend_from_slice(b"Location: /");
        for piece in percent_encoding::percent_encode(path, PATH) {
            self.out.extend_from_slice(piece.as_bytes());
        }
        if !path.is_empty() {
            self.out.push(b'/');
        }
        if let Some(query) = query {
            self.out.push(b'?');
            for piece in percent_encoding::percent_encode(query, percent_encoding::CONTROLS) {
                self.out.extend_from_slice(piece.as_bytes());
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// `Connection` where it says more than the peer's version does (RFC 9112 9.3), and the end of the
    /// head.
    pub(crate) fn finish(self, close: bool, request: Option<&Request<'_>>) {
        self.finish_for(close, request.map(|request| request.version));
    }

    /// The same for a peer of `version`, `None` if it is not known.
    pub(crate) fn finish_for(mut self, close: bool, version: Option<Version>) {
        if close {
            self.field("Connection", b"close");
        } else if version == Some(Version::Http10) {
            self.field("Connection", b"keep-alive");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        let written = self.out.write_fmt(line);
        debug_assert!(written.is_ok(), "a Vec takes everything");
        self.out.extend_from_slice(b"\r\n");
    }
}

/// What is escaped in a path: all but the unreserved characters (RFC 3986 2.3) and the slash.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
