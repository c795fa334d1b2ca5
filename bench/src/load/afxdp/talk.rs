//! One connection as the client sees it: what was asked, and the answer as far as it came.
//!
//! Bytes are handed over where they lie in a frame, with their offset in the stream. They are looked at in order; those
//! behind a gap are copied and wait, which on the links of a benchmark is rare.

use std::io;
use std::time::Instant;

use sluice_tcp::ConnId;

use super::super::response::{Answer, Expected};

/// What the connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A request is on its way, or its answer.
    Asked,
    /// Answered, and ready for the next.
    Resting,
    /// Answered, and the server is to close.
    Closing,
}

/// One connection. See the module documentation.
#[derive(Debug)]
pub struct Talk {
    /// Which.
    pub conn: ConnId,
    /// What it is doing.
    pub state: State,
    /// When the request was due.
    pub due: Instant,
    /// Requests so far.
    pub requests: u64,
    answer: Answer,
    /// Bytes of the stream that were looked at.
    taken: u64,
    /// Bytes of the body that were looked at.
    body: u64,
    /// Pieces behind a gap.
    early: Vec<(u64, Vec<u8>)>,
}

impl Talk {
    /// With a first request that was due then, for an object of `length` bytes.
    pub fn new(conn: ConnId, length: u64, due: Instant) -> Talk {
        Talk {
            conn,
            state: State::Asked,
            due,
            requests: 1,
            answer: Answer::new(Expected::Object(length)),
            taken: 0,
            body: 0,
            early: Vec::new(),
        }
    }

    /// The next request, on a connection that rests.
    pub fn ask(&mut self, due: Instant) {
        self.state = State::Asked;
        self.due = due;
        self.requests += 1;
        self.answer.reset();
        self.body = 0;
    }

    /// New bytes of the stream. `each` gets those of the body with their offset in it. True if the answer is complete.
    ///
    /// # Errors
    /// They are not what was asked for, or nothing was.
    pub fn take(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut each: impl FnMut(u64, &[u8]),
    ) -> io::Result<bool> {
        if offset > self.taken {
            self.early.push((offset, bytes.to_vec()));
            return Ok(false);
        }
        self.look(bytes, &mut each)?;
        while let Some(at) = self.early.iter().position(|(from, _)| *from == self.taken) {
            let (_, bytes) = self.early.swap_remove(at);
            self.look(&bytes, &mut each)?;
        }
        Ok(self.answer.is_complete())
    }

    fn look(&mut self, bytes: &[u8], each: &mut impl FnMut(u64, &[u8])) -> io::Result<()> {
        self.taken += bytes.len() as u64;
        if self.state != State::Asked {
            return Err(io::Error::other("an answer to nothing"));
        }
        let body = &bytes[self.answer.take(bytes)?];
        if !body.is_empty() {
            each(self.body, body);
            self.body += body.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nabcdefgh";

    fn talk() -> Talk {
        Talk::new(ConnId::default(), 8, Instant::now())
    }

    /// Hands over a piece of the answer and gives whether it is complete.
    fn give(talk: &mut Talk, stream: u64, from: usize, to: usize, body: &mut [u8; 8]) -> bool {
        let each = |at: u64, bytes: &[u8]| {
            let at = usize::try_from(at).unwrap();
            body[at..at + bytes.len()].copy_from_slice(bytes);
        };
        talk.take(stream + from as u64, &ANSWER[from..to], each)
            .unwrap()
    }

    #[test]
    fn pieces_in_any_order_make_the_answer() {
        let cuts = [0, 10, 38, 41, ANSWER.len()];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let (mut talk, mut body) = (talk(), [0; 8]);
            for (nth, part) in order.into_iter().enumerate() {
                let complete = give(&mut talk, 0, cuts[part], cuts[part + 1], &mut body);
                assert_eq!(complete, nth == 3, "{order:?}");
            }
            assert_eq!(&body, b"abcdefgh");
        }
    }

    #[test]
    fn a_second_answer_follows_in_the_same_stream() {
        let (mut talk, mut body) = (talk(), [0; 8]);
        assert!(give(&mut talk, 0, 0, ANSWER.len(), &mut body));
        talk.state = State::Resting;
        talk.ask(Instant::now());
        body = [0; 8];
        let stream = ANSWER.len() as u64;
        assert!(give(&mut talk, stream, 0, ANSWER.len(), &mut body));
        assert_eq!((&body, talk.requests), (b"abcdefgh", 2));
    }

    #[test]
    fn what_nobody_asked_for_is_an_error() {
        let mut talk = talk();
        assert!(talk.take(0, ANSWER, |_, _| {}).unwrap());
        talk.state = State::Resting;
        let error = talk.take(ANSWER.len() as u64, b"more", |_, _| {});
        assert_eq!(error.unwrap_err().to_string(), "an answer to nothing");
    }
}
