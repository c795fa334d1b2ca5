//! An answer as it arrives: its head, which must say 200 and the right length, and how much of the body is left.

use std::io;
use std::ops::Range;

/// A head of more bytes is none that the servers here send.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 32;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    length: u64,
    /// The head as far as it came, while it is not complete.
    head: Vec<u8>,
    /// Of the body, once the head is complete.
    left: Option<u64>,
}

impl Answer {
    /// To a request for an object of `length` bytes.
    pub fn new(length: u64) -> Answer {
        Answer {
            length,
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
    /// The head says something else than 200 and the length, or there is more than the answer.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<Range<usize>> {
        let mut from = 0;
        if self.left.is_none() {
            let before = self.head.len();
            // Most heads come whole, and then nothing is copied.
            let whole = if before == 0 {
                head_bytes(bytes, self.length)?
            } else {
                self.head.extend_from_slice(bytes);
                head_bytes(&self.head, self.length)?
            };
            let Some(end) = whole else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                if self.head.len() > HEAD_MAX {
                    return Err(io::Error::other("the head of the answer has no end"));
                }
                return Ok(0..0);
            };
            from = end - before;
            self.left = Some(self.length);
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

/// Length of the head at the front of `bytes`, if it is whole.
fn head_bytes(bytes: &[u8], length: u64) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    if response.code != Some(200) {
        let status = response.code.unwrap_or(0);
        return Err(io::Error::other(format!("the status is {status}")));
    }
    let said = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let said = said.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    if said != Some(length) {
        return Err(io::Error::other(format!(
            "the length is {said:?} instead of {length}"
        )));
    }
    Ok(Some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";

    #[test]
    fn an_answer_may_come_in_pieces_of_any_size() {
        for size in 1..=WHOLE.len() {
            let mut answer = Answer::new(4);
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
        let mut answer = Answer::new(4);
        answer.take(WHOLE).unwrap();
        answer.reset();
        assert!(!answer.is_complete());
        assert_eq!(answer.take(WHOLE).unwrap(), 38..42);
    }

    #[test]
    fn another_status_another_length_and_too_much_are_refused() {
        let refused =
            |length, bytes: &[u8]| Answer::new(length).take(bytes).unwrap_err().to_string();
        assert_eq!(refused(5, WHOLE), "the length is Some(4) instead of 5");
        let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(refused(4, busy), "the status is 503");
        assert_eq!(
            refused(4, &[WHOLE, b"!"].concat()),
            "the answer is too long"
        );
        assert!(Answer::new(4).take(b"SSH-2.0-none\r\n\r\n").is_err());
    }
}
