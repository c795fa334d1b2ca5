//! The status codes this server answers with (RFC 9110 section 15).
//!
//! A closed set: what is not listed here is never sent, so a table of counters can be sized from
//! [`Status::ALL`], and a `match` on it is checked for completeness.

use core::fmt;

/// A status code of a final response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// The whole file follows, or would follow a GET (RFC 9110 15.3.1).
    Ok = 200,
    /// The upload is a new file now (RFC 9110 15.3.2).
    Created = 201,
    /// The upload has taken the place of a file (RFC 9110 15.3.5).
    NoContent = 204,
    /// One byte range of the file follows (RFC 9110 15.3.7).
    PartialContent = 206,
    /// A directory was named without its final slash (RFC 9110 15.4.2).
    MovedPermanently = 301,
    /// The copy of the client is still good (RFC 9110 15.4.5).
    NotModified = 304,
    /// The request breaks the grammar or a framing rule (RFC 9110 15.5.1).
    BadRequest = 400,
    /// The name is not one that a client may write (RFC 9110 15.5.4).
    Forbidden = 403,
    /// No such file, or one that is not to be seen (RFC 9110 15.5.5).
    NotFound = 404,
    /// A method of the standard that files do not offer (RFC 9110 15.5.6).
    MethodNotAllowed = 405,
    /// The head did not arrive in time (RFC 9110 15.5.9).
    RequestTimeout = 408,
    /// There is no directory for the file, or a directory in its place (RFC 9110 15.5.10).
    Conflict = 409,
    /// An upload that does not say how long it is (RFC 9110 15.5.12).
    LengthRequired = 411,
    /// A precondition does not hold (RFC 9110 15.5.13).
    PreconditionFailed = 412,
    /// An upload above the limit (RFC 9110 15.5.14).
    ContentTooLarge = 413,
    /// The request target is longer than the limit (RFC 9110 15.5.15).
    UriTooLong = 414,
    /// An upload in a content coding, which would be served without it (RFC 9110 15.5.16).
    UnsupportedMediaType = 415,
    /// The range lies outside the file (RFC 9110 15.5.17).
    RangeNotSatisfiable = 416,
    /// The head is longer, or has more fields, than the limits (RFC 6585 section 5).
    RequestHeaderFieldsTooLarge = 431,
    /// Reading the file failed (RFC 9110 15.6.1).
    InternalServerError = 500,
    /// A method the server has never heard of (RFC 9110 15.6.2).
    NotImplemented = 501,
    /// Out of some resource; the same request may work later (RFC 9110 15.6.4).
    ServiceUnavailable = 503,
    /// A major version other than 1 (RFC 9110 15.6.6).
    HttpVersionNotSupported = 505,
    /// The disk is full, or the quota used up (RFC 4918 11.5).
    InsufficientStorage = 507,
}

impl Status {
    /// Every status, ascending by code.
    pub const ALL: &'static [Status] = &[
        Status::Ok,
        Status::Created,
        Status::NoContent,
        Status::PartialContent,
        Status::MovedPermanently,
        Status::NotModified,
        Status::BadRequest,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::Conflict,
        Status::LengthRequired,
        Status::PreconditionFailed,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::UnsupportedMediaType,
        Status::RangeNotSatisfiable,
        Status::RequestHeaderFieldsTooLarge,
        Status::InternalServerError,
        Status::NotImplemented,
        Status::ServiceUnavailable,
        Status::HttpVersionNotSupported,
        Status::InsufficientStorage,
    ];

    /// The three-digit code, 200..=507.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Code and reason phrase as they stand in a status line, without version and line end.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Created => "201 Created",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::NotModified => "304 Not Modified",
            Status::BadRequest => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::LengthRequired => "411 Length Required",
            Status::PreconditionFailed => "412 Precondition Failed",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::UnsupportedMediaType => "415 Unsupported Media Type",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::RequestHeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::InternalServerError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::InsufficientStorage => "507 Insufficient Storage",
            Status::HttpVersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// True for 4xx and 5xx.
    pub fn is_error(self) -> bool {
        self.code() >= 400
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_starts_with_its_own_code() {
        for status in Status::ALL {
            let (code, reason) = status.line().split_once(' ').expect("code and reason");
            assert_eq!(code, status.code().to_string());
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn the_list_is_ascending_so_no_status_is_in_it_twice() {
        assert!(Status::ALL.is_sorted_by(|a, b| a.code() < b.code()));
    }

    #[test]
    fn errors_are_those_from_400_on() {
        assert!(!Status::NotModified.is_error());
        assert!(Status::BadRequest.is_error());
    }
}
