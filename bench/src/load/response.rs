//! An answer as it arrives: its head, which must say what is expected, and how much of the body is left.

use std::io;
use std::ops::Range;

/// A head of more bytes is none that the servers here send.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 32;

/// What the head must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// 200, and an object of so many bytes.
    Object(u64),
    /// 201 or 204: it is stored.
    Stored,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    expected: Expected,
    /// The head as far as it came, while it is not complete.
    head: Vec<u8>,
    /// Of the body, once the head is complete.
    left: Option<u64>,
}

impl Answer {
    /// Of which nothing came yet.
    pub fn new(expected: Expected) -> Answer {
        Answer {
            expected,
            head: Vec::new(),
            left: None,
        }
    }

    /// Waits for the next one.
    pub fn reset(&mut self) {
        self.head.clear();
        self.left = None;
    }

    /// Bytes from the connection; gives where in them the body is.
    ///
    /// # Errors
    /// The head says something else than what is expected, or there is more than the answer.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<Range<usize>> {
        let mut from = 0;
        if self.left.is_none() {
            let before = self.head.len();
            // Most heads come whole, and then nothing is copied.
            let whole = if before == 0 {
                head_bytes(bytes, self.expected)?
            } else {
                self.head.extend_from_slice(bytes);
                head_bytes(&self.head, self.expected)?
            };
            let Some((end, length)) = whole else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                if self.head.len() > HEAD_MAX {
                    return Err(io::Error::other("the head of the answer has no end"));
                }
                return Ok(0..0);
            };
            from = end - before;
            self.left = Some(length);
        }
        let body = from..bytes.len();
        let left = self.left.unwrap_or(0).checked_sub(body.len() as u64);
        self.left = Some(left.ok_or_else(|| io::Error::other("the answer is too long"))?);
        Ok(body)
    }

    /// Whether all of it came.
    pub fn is_complete(&self) -> bool {
        self.left == Some(0)
    }
}

/// Length of the head at the front of `bytes` and of the body behind it, if the head is whole.
fn head_bytes(bytes: &[u8], expected: Expected) -> io::Result<Option<(usize, u64)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or(0);
    let is_expected = match expected {
        Expected::Object(_) => status == 200,
        Expected::Stored => matches!(status, 201 | 204),
    };
    if !is_expected {
        return Err(io::Error::other(format!("the status is {status}")));
    }
    let said = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let said = said.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    match expected {
        Expected::Object(length) if said != Some(length) => Err(io::Error::other(format!(
            "the length is {said:?} instead of {length}"
        ))),
        Expected::Object(length) => Ok(Some((end, length))),
        // 204 has no body and need not say so (RFC 9110 section 8.6).
        Expected::Stored => Ok(Some((end, said.unwrap_or(0)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";

    #[test]
    fn an_answer_may_come_in_pieces_of_any_size() {
        for size in 1..=WHOLE.len() {
            let mut answer = Answer::new(Expected::Object(4));
            let mut body = Vec::new();
            for piece in WHOLE.chunks(size) {
                assert!(!answer.is_complete());
                body.extend_from_slice(&piece[answer.take(piece).unwrap()]);
            }
            assert!(answer.is_complete());
            assert_eq!(body, b"body", "pieces of {size}");
        }
    }

    #[test]
    fn the_next_answer_begins_anew() {
        let mut answer = Answer::new(Expected::Object(4));
        answer.take(WHOLE).unwrap();
        answer.reset();
        assert!(!answer.is_complete());
        assert_eq!(answer.take(WHOLE).unwrap(), 38..42);
    }

    #[test]
    fn another_status_another_length_and_too_much_are_refused() {
        let refused = |length, bytes: &[u8]| {
            let mut answer = Answer::new(Expected::Object(length));
            answer.take(bytes).unwrap_err().to_string()
        };
        assert_eq!(refused(5, WHOLE), "the length is Some(4) instead of 5");
        let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(refused(4, busy), "the status is 503");
        assert_eq!(
            refused(4, &[WHOLE, b"!"].concat()),
            "the answer is too long"
        );
        assert!(
            Answer::new(Expected::Object(4))
                .take(b"SSH-2.0-none\r\n\r\n")
                .is_err()
        );
    }

    #[test]
    fn what_is_stored_is_answered_by_201_or_204() {
        for (bytes, is_right) in [
            (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], true),
            (
                &b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nOK"[..],
                true,
            ),
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..], false),
            (
                &b"HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n"[..],
                false,
            ),
        ] {
            let mut answer = Answer::new(Expected::Stored);
            let is_stored = answer.take(bytes).is_ok() && answer.is_complete();
            assert_eq!(is_stored, is_right, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
