//! All connections of the client: who sits where, and what their answers count for.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use sluice_tcp::{CloseReason, ConnId};

use super::super::agenda::Agenda;
use super::talk::{State, Talk};
use crate::load::DIFFERS;

/// Of so many answers one is compared with the file, byte by byte. The others are only counted, as by the other loader.
const SAMPLE: u64 = 256;
/// Nobody's seat.
const NOBODY: u32 = u32::MAX;

/// See the module documentation.
pub struct Table {
    /// What is due.
    pub agenda: Agenda,
    /// Connections that are to be reset: their answers were wrong.
    pub doomed: Vec<ConnId>,
    talks: Vec<Option<Talk>>,
    /// The seat of each slot of the stack.
    seats: Vec<u32>,
    content: Rc<[u8]>,
    /// Every request is on a connection of its own.
    close: bool,
    answers: u64,
    /// All answers are compared.
    is_thorough: bool,
}

/// What a seat needs to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// A connection to begin with.
    Open,
    /// One more on this, which had so many.
    Again(ConnId, u64),
}

impl Table {
    /// For the requests of `agenda` for `content`, on a stack with so many slots.
    pub fn new(agenda: Agenda, slots: usize, content: Rc<[u8]>, close: bool) -> Table {
        Table {
            talks: (0..agenda.seats()).map(|_| None).collect(),
            agenda,
            doomed: Vec::new(),
            seats: vec![NOBODY; slots],
            content,
            close,
            answers: 0,
            is_thorough: false,
        }
    }

    /// The same, and every answer is compared.
    pub fn thorough(self) -> Table {
        Table {
            is_thorough: true,
            ..self
        }
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// A request that was due then begins at a seat.
    pub fn ask(&mut self, seat: usize, due: Instant) -> Asking {
        match &mut self.talks[seat] {
            Some(talk) => {
                let asking = Asking::Again(talk.conn, talk.requests);
                talk.ask(due);
                asking
            }
            None => Asking::Open,
        }
    }

    /// The connection that [`ask`](Self::ask) wanted.
    pub fn opened(&mut self, seat: usize, conn: ConnId, due: Instant) {
        self.seats[conn.slot()] = u32::try_from(seat).unwrap_or(NOBODY);
        self.talks[seat] = Some(Talk::new(conn, self.content.len() as u64, due));
    }

    /// New bytes on a connection.
    pub fn take(&mut self, conn: ConnId, offset: u64, bytes: &[u8], now: Instant) {
        let Some(seat) = self.seat_of(conn) else {
            return;
        };
        let Some(talk) = self.talks[seat].as_mut() else {
            return;
        };
        let compares = self.is_thorough || self.answers.is_multiple_of(SAMPLE);
        let (content, mut is_right) = (&self.content, true);
        let mut counted = 0;
        let taken = talk.take(offset, bytes, |at, body| {
            counted += body.len();
            if compares {
                is_right &= expected(content, at, body.len()) == Some(body);
            }
        });
        if counted > 0 {
            self.agenda.record.body(now, counted);
        }
        match taken {
            Ok(_) if !is_right => self.fail(seat, &io::Error::other(DIFFERS), now),
            Ok(false) => {}
            Ok(true) => self.answered(seat, now),
            Err(error) => self.fail(seat, &error, now),
        }
    }

    /// The peer closes, and we will, too.
    pub fn peer_finished(&mut self, conn: ConnId, now: Instant) {
        let Some(seat) = self.seat_of(conn) else {
            return;
        };
        match self.talks[seat].as_ref().map(|talk| talk.state) {
            Some(State::Closing) => {
                self.leave(seat);
                self.agenda.release(seat, now);
            }
            // A server may close what rests; the seat is free already and opens another next time.
            Some(State::Resting) => self.lose(seat),
            Some(State::Asked) => {
                self.fail(seat, &io::Error::other("the answer is cut short"), now);
            }
            None => {}
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, conn: ConnId, reason: CloseReason, now: Instant) {
        let Some(seat) = self.seat_of(conn) else {
            return;
        };
        if self.talks[seat]
            .as_ref()
            .is_some_and(|talk| talk.state == State::Resting)
        {
            self.lose(seat);
        } else {
            let error = io::Error::other(format!("the connection ended: {reason:?}"));
            self.fail(seat, &error, now);
        }
    }

    /// The request at a seat went wrong; its connection will be reset.
    pub fn fail(&mut self, seat: usize, error: &io::Error, now: Instant) {
        if let Some(talk) = &self.talks[seat] {
            self.doomed.push(talk.conn);
        }
        self.leave(seat);
        self.agenda.fail(seat, error, now);
    }

    fn answered(&mut self, seat: usize, now: Instant) {
        let Some(talk) = self.talks[seat].as_mut() else {
            return;
        };
        self.answers += 1;
        self.agenda.record.answered(talk.due, now);
        if self.close {
            talk.state = State::Closing;
        } else {
            talk.state = State::Resting;
            self.agenda.release(seat, now);
        }
    }

    /// The server closed a connection that rested.
    fn lose(&mut self, seat: usize) {
        self.leave(seat);
        self.agenda.lose(seat);
    }

    /// What becomes of the connection at a seat is of no interest any more.
    fn leave(&mut self, seat: usize) {
        if let Some(talk) = self.talks[seat].take() {
            self.seats[talk.conn.slot()] = NOBODY;
        }
    }

    fn seat_of(&self, conn: ConnId) -> Option<usize> {
        let seat = *self.seats.get(conn.slot())? as usize;
        let talk = self.talks.get(seat)?.as_ref()?;
        (talk.conn == conn).then_some(seat)
    }
}

fn expected(content: &[u8], at: u64, len: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    content.get(at..at.checked_add(len)?)
}
