//! Where a request head ends, and what its length fields say about a body (RFC 9112 sections 2 and 6).
//!
//! Two readers that disagree about where a message ends are how requests are smuggled, so nothing that
//! RFC 9112 calls invalid is repaired here: a bare CR or LF, NUL, a folded line, a doubtful length are
//! all 400 and the end of the connection.
//!
//! Invariant: the verdict is that of the *first* byte at which the head is beyond repair or complete.
//! So more bytes never change a verdict, and it does not matter how TCP cut the stream.

use crate::request::{Body, RequestLimits, Version};
use crate::status::Status;

/// Offsets of a complete head in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// First byte of the request line; empty lines before it were skipped (RFC 9112 2.2).
    pub(crate) start: usize,
    /// First byte of the field lines.
    pub(crate) fields: usize,
    /// First byte behind the empty line that ends the head.
    pub(crate) end: usize,
}

/// Finds the head at the start of `input`: `None` while it is incomplete.
///
/// `check_request_line` sees the request line, without its line end, as soon as it is whole, and before
/// any byte behind it is judged. `hear_field` sees every field line as it is passed, of a head that may turn out incomplete
/// or beyond repair: what it has to say against one counts only once all of the head is there.
pub(crate) fn find_head<'a, Checked>(
    input: &'a [u8],
    limits: &RequestLimits,
    check_request_line: impl FnOnce(&'a [u8]) -> Result<Checked, Status>,
    mut hear_field: impl FnMut(&'a [u8]),
) -> Result<Option<(Head, Checked)>, Status> {
    // A head that does not end inside this window is too large, whatever follows.
    let window = &input[..input.len().min(limits.header_bytes)];
    let incomplete = || {
        if input.len() >= limits.header_bytes {
            Err(Status::RequestHeaderFieldsTooLarge)
        } else {
            Ok(None)
        }
    };

    let mut start = 0;
    while window[start..].starts_with(b"\r\n") {
        start += 2;
    }
    let line = Line::at(&window[start..]);
    // Before the line end is looked at: the target may be too long long before that.
    if line.content.len() > limits.uri_bytes && target_so_far(line.content).len() > limits.uri_bytes
    {
        return Err(Status::UriTooLong);
    }
    let Some(len) = line.complete()? else {
        return incomplete();
    };
    let checked = check_request_line(line.content)?;

    let fields = start + len;
    let mut at = fields;
    let mut count = 0;
    loop {
        let line = Line::at(&window[at..]);
        match line.first {
            None => return incomplete(),
            // obs-fold, or white space before the first field (RFC 9112 2.2 and 5.2).
            Some(b' ' | b'\t') => return Err(Status::BadRequest),
            Some(b'\r') => {}
            Some(_) => count += 1,
        }
        if count > limits.fields_effective() {
            return Err(Status::RequestHeaderFieldsTooLarge);
        }
        let Some(len) = line.complete()? else {
            return incomplete();
        };
        at += len;
        if line.content.is_empty() {
            let head = Head {
                start,
                fields,
                end: at,
            };
            return Ok(Some((head, checked)));
        }
        hear_field(line.content);
    }
}

/// One line of a head, as far as it has arrived.
struct Line<'a> {
    /// First byte, if one has arrived.
    first: Option<u8>,
    /// The bytes before the first control byte (or all, if none has arrived).
    content: &'a [u8],
    /// That control byte and what follows it.
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn at(bytes: &'a [u8]) -> Line<'a> {
        let (content, rest) = bytes.split_at(find_control(bytes).unwrap_or(bytes.len()));
        Line {
            first: bytes.first().copied(),
            content,
            rest,
        }
    }

    /// Length with the line end, `None` while that is outstanding, an error if any other control byte
    /// comes first.
    fn complete(&self) -> Result<Option<usize>, Status> {
        match self.rest {
            [b'\r', b'\n', ..] => Ok(Some(self.content.len() + 2)),
            [] | [b'\r'] => Ok(None),
            _ => Err(Status::BadRequest),
        }
    }
}

/// Position of the first control byte other than HTAB: what can only be part of a line end, or wrong.
fn find_control(bytes: &[u8]) -> Option<usize> {
    fn is_control(byte: u8) -> bool {
        (byte < b' ' && byte != b'\t') || byte == 0x7f
    }
    // Sixteen at a time without a branch inside, so that the compiler can use vector compares: a head
    // is read again with every segment until it is complete.
    let clean = bytes
        .as_chunks::<16>()
        .0
        .iter()
        .take_while(|chunk| {
            !chunk
                .iter()
                .fold(false, |found, &byte| found | is_control(byte))
        })
        .count()
        * 16;
    let at = bytes[clean..].iter().position(|&byte| is_control(byte))?;
    Some(clean + at)
}

/// The part of an unfinished request line that is the target.
fn target_so_far(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b' ').nth(1).unwrap_or_default()
}

/// What the length fields of one request say about its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BodyFraming {
    content_length: Option<u64>,
    chunked: bool,
}

impl BodyFraming {
    /// Takes one `Content-Length` field line. Equal repeats are one length (RFC 9110 8.6); differing or
    /// malformed ones are 400.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Status> {
        for element in value.split(|&byte| byte == b',') {
            let length = decimal(element.trim_ascii()).ok_or(Status::BadRequest)?;
            if self.content_length.is_some_and(|before| before != length) {
                return Err(Status::BadRequest);
            }
            self.content_length = Some(length);
        }
        Ok(())
    }

    /// Takes one `Transfer-Encoding` field line: exactly one `chunked` is the only coding there is
    /// here.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Status::BadRequest);
        }
        self.chunked = true;
        Ok(())
    }

    /// What follows the head. Both fields at once, or chunks in HTTP/1.0, are the classical smuggling
    /// forms and refused (RFC 9112 6.1, 6.3).
    pub(crate) fn body(&self, version: Version) -> Result<Body, Status> {
        match (self.content_length, self.chunked) {
            (Some(_), true) => Err(Status::BadRequest),
            (None, true) if version == Version::Http10 => Err(Status::BadRequest),
            (None, true) => Ok(Body::Chunked),
            (Some(length), false) => Ok(Body::Length(length)),
            (None, false) => Ok(Body::Unannounced),
        }
    }
}

/// `1*DIGIT` as a number; `None` for anything else, signs and overflow included.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        header_bytes: 256,
        fields: 3,
        uri_bytes: 16,
    };

    fn head(input: &[u8]) -> Result<Option<Head>, Status> {
        find_head(input, &LIMITS, |_| Ok(()), |_| {}).map(|found| found.map(|(head, ())| head))
    }

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest\r\n\r\n";
        let expected = Head {
            start: 0,
            fields: 16,
            end: 27,
        };
        assert_eq!(head(input), Ok(Some(expected)));
    }

    #[test]
    fn empty_lines_before_the_request_line_are_skipped() {
        let found = head(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n").expect("valid");
        assert_eq!(found.expect("complete").start, 4);
    }

    #[test]
    fn a_bare_line_feed_is_refused_wherever_it_stands() {
        for input in [
            &b"\nGET / HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        ] {
            assert_eq!(head(input), Err(Status::BadRequest), "{input:?}");
        }
    }

    #[test]
    fn a_bare_carriage_return_is_refused_but_a_last_one_waits() {
        assert_eq!(head(b"GET /\r HTTP/1.1\r\n"), Err(Status::BadRequest));
        assert_eq!(head(b"GET / HTTP/1.1\r\r\n"), Err(Status::BadRequest));
        assert_eq!(head(b"GET / HTTP/1.1\r"), Ok(None));
    }

    #[test]
    fn control_bytes_are_refused_at_any_distance() {
        for bad in [0_u8, 1, 0x1b, 0x7f] {
            for distance in 0..40 {
                let mut input = b"GET / HTTP/1.1\r\nX:".to_vec();
                input.extend(std::iter::repeat_n(b'x', distance));
                assert_eq!(head(&input), Ok(None));
                input.push(bad);
                assert_eq!(
                    head(&input),
                    Err(Status::BadRequest),
                    "{bad:#x} at {distance}"
                );
            }
        }
    }

    #[test]
    fn folded_lines_are_refused() {
        for input in [
            &b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nA: b\r\n\t",
            b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
        ] {
            assert_eq!(head(input), Err(Status::BadRequest), "{input:?}");
        }
    }

    #[test]
    fn a_target_beyond_the_limit_is_414_before_its_line_ends() {
        assert_eq!(head(b"GET /123456789abcdef"), Ok(None));
        assert_eq!(head(b"GET /123456789abcdef0"), Err(Status::UriTooLong));
        assert_eq!(head(b"GET /123456789abcdef0\n"), Err(Status::UriTooLong));
    }

    #[test]
    fn one_field_more_than_the_limit_is_431() {
        let three = b"GET / HTTP/1.1\r\na:1\r\nb:2\r\nc:3\r\n\r\n";
        let four = b"GET / HTTP/1.1\r\na:1\r\nb:2\r\nc:3\r\nd";
        assert!(matches!(head(three), Ok(Some(_))));
        assert_eq!(head(four), Err(Status::RequestHeaderFieldsTooLarge));
    }

    #[test]
    fn a_head_may_fill_the_limit_and_not_one_byte_more() {
        let sized = |len: usize| {
            let mut input = b"GET / HTTP/1.1\r\na:".to_vec();
            input.resize(len - 4, b'x');
            input.extend_from_slice(b"\r\n\r\n");
            input
        };
        assert!(matches!(head(&sized(256)), Ok(Some(_))));
        assert_eq!(head(&sized(257)), Err(Status::RequestHeaderFieldsTooLarge));
    }

    #[test]
    fn a_full_window_without_an_end_is_431_so_that_no_caller_waits_with_a_full_buffer() {
        let mut input = b"GET / HTTP/1.1\r\na:".to_vec();
        input.resize(255, b'x');
        assert_eq!(head(&input), Ok(None));
        input.push(b'x');
        assert_eq!(head(&input), Err(Status::RequestHeaderFieldsTooLarge));
    }

    #[test]
    fn the_request_line_is_judged_before_what_follows_it() {
        let refuse = |_: &[u8]| Err::<(), _>(Status::NotImplemented);
        let found = find_head(b"BREW / HTTP/1.1\r\n\0", &LIMITS, refuse, |_| {});
        assert_eq!(found, Err(Status::NotImplemented));
    }

    fn body(lengths: &[&str], codings: &[&str], version: Version) -> Result<Body, Status> {
        let mut framing = BodyFraming::default();
        for value in lengths {
            framing.content_length(value.as_bytes())?;
        }
        for value in codings {
            framing.transfer_encoding(value.as_bytes())?;
        }
        framing.body(version)
    }

    #[test]
    fn a_body_is_announced_by_a_length_or_by_chunks() {
        use Version::{Http10, Http11};
        assert_eq!(body(&[], &[], Http11), Ok(Body::Unannounced));
        assert_eq!(body(&["0"], &[], Http11), Ok(Body::Length(0)));
        assert_eq!(body(&["7"], &[], Http10), Ok(Body::Length(7)));
        assert_eq!(body(&[], &["chunked"], Http11), Ok(Body::Chunked));
        assert_eq!(body(&[], &["Chunked"], Http11), Ok(Body::Chunked));
    }

    #[test]
    fn repeated_lengths_must_agree() {
        let agreed = body(&["7, 7", "7"], &[], Version::Http11);
        assert_eq!(agreed, Ok(Body::Length(7)));
        for lengths in [&["7, 8"][..], &["7", "8"], &["7", "07", "8"]] {
            assert_eq!(body(lengths, &[], Version::Http11), Err(Status::BadRequest));
        }
    }

    #[test]
    fn malformed_lengths_are_refused() {
        for length in [
            "",
            "+7",
            "-7",
            "0x7",
            "7 7",
            "7,",
            "7.0",
            "18446744073709551616",
        ] {
            let result = body(&[length], &[], Version::Http11);
            assert_eq!(result, Err(Status::BadRequest), "{length:?}");
        }
    }

    #[test]
    fn doubtful_transfer_codings_are_refused() {
        for codings in [
            &["gzip"][..],
            &["gzip, chunked"],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["identity"],
            &[""],
            &["\u{b}chunked"],
            &["chunked;x=1"],
        ] {
            let result = body(&[], codings, Version::Http11);
            assert_eq!(result, Err(Status::BadRequest), "{codings:?}");
        }
    }

    #[test]
    fn chunks_with_a_length_or_in_http_1_0_are_refused() {
        assert_eq!(
            body(&["7"], &["chunked"], Version::Http11),
            Err(Status::BadRequest)
        );
        assert_eq!(
            body(&["0"], &["chunked"], Version::Http11),
            Err(Status::BadRequest)
        );
        assert_eq!(
            body(&[], &["chunked"], Version::Http10),
            Err(Status::BadRequest)
        );
    }
}
