//! Opens that a helper thread has in hand: who asked, and the answer until it is fetched.
//!
//! Every ticket comes with a buffer for the name, made at the start, so that handing an open over allocates nothing;
//! the buffer travels to the helper and back. A ticket whose owner lost interest is kept until its answer is in.

use std::ffi::CStr;

use crate::handle::OpenTicket;
use crate::list::{Links, List};
use crate::root::{OpenError, Opened};

/// The longest name with its NUL: PATH_MAX of linux/limits.h.
const NAME_BYTES: usize = 4096;

/// A file name in the form system calls take.
#[derive(Debug)]
pub(crate) struct Name(Box<[u8; NAME_BYTES]>);

impl Name {
    pub(crate) fn new() -> Name {
        Name(Box::new([0; NAME_BYTES]))
    }

    /// Holds `path` from now on.
    ///
    /// # Errors
    /// `NotFound` if no file can have that name: too long, or a NUL in it.
    pub(crate) fn set(&mut self, path: &[u8]) -> Result<(), OpenError> {
        if path.len() >= NAME_BYTES || path.contains(&0) {
            return Err(OpenError::NotFound);
        }
        self.0[..path.len()].copy_from_slice(path);
        self.0[path.len()] = 0;
        Ok(())
    }

    /// Holds what `other` holds.
    pub(crate) fn copy_from(&mut self, other: &Name) {
        let len = other.as_c_str().to_bytes_with_nul().len();
        self.0[..len].copy_from_slice(&other.0[..len]);
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        // `set` ended it with a NUL, `new` with nothing but.
        CStr::from_bytes_until_nul(&self.0[..]).unwrap_or_default()
    }
}

#[derive(Debug)]
enum State {
    Free,
    /// On its way to or from a helper.
    Asked,
    /// The same, but nobody waits for the answer.
    Abandoned,
    Answered(Result<Opened, OpenError>),
}

struct Slot {
    state: State,
    /// Away while a helper has it.
    name: Option<Name>,
}

/// A fixed number of tickets.
pub(crate) struct TicketTable {
    slots: Box<[Slot]>,
    links: Links,
    free: List,
}

impl TicketTable {
    pub(crate) fn new(tickets: u32) -> TicketTable {
        let mut links = Links::new(tickets);
        let slot = |_| Slot {
            state: State::Free,
            name: Some(Name::new()),
        };
        TicketTable {
            slots: (0..tickets).map(slot).collect(),
            free: List::of_all(&mut links, tickets),
            links,
        }
    }

    /// Issues a ticket for opening `name`, and the copy of the name to send with it. `None` if all are out.
    pub(crate) fn issue(&mut self, name: &Name) -> Option<(OpenTicket, Name)> {
        let ticket = self.free.pop_front(&mut self.links)?;
        let slot = &mut self.slots[ticket as usize];
        slot.state = State::Asked;
        let mut copy = slot.name.take().unwrap_or_else(Name::new);
        copy.copy_from(name);
        Some((OpenTicket(ticket), copy))
    }

    /// Takes the answer for `ticket` and the name back. Returns a file that nobody wants any more.
    pub(crate) fn answer(
        &mut self,
        ticket: u32,
        name: Name,
        answer: Result<Opened, OpenError>,
    ) -> Option<Opened> {
        let slot = &mut self.slots[ticket as usize];
        slot.name = Some(name);
        if matches!(slot.state, State::Abandoned) {
            self.retire(ticket);
            return answer.ok();
        }
        slot.state = State::Answered(answer);
        None
    }

    /// Exchanges a ticket for its answer.
    pub(crate) fn redeem(
        &mut self,
        ticket: OpenTicket,
    ) -> Result<Result<Opened, OpenError>, OpenTicket> {
        let slot = &mut self.slots[ticket.0 as usize];
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Answered(answer) => {
                self.retire(ticket.0);
                Ok(answer)
            }
            other => {
                slot.state = other;
                Err(ticket)
            }
        }
    }

    /// Gives a ticket up. Returns the file if it was open already.
    pub(crate) fn abandon(&mut self, ticket: OpenTicket) -> Option<Opened> {
        match self.redeem(ticket) {
            Ok(answer) => answer.ok(),
            Err(ticket) => {
                self.slots[ticket.0 as usize].state = State::Abandoned;
                None
            }
        }
    }

    /// How many tickets are out, abandoned ones included until their answer is in.
    pub(crate) fn out(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX) - self.free.len()
    }

    fn retire(&mut self, ticket: u32) {
        self.slots[ticket as usize].state = State::Free;
        self.free.push_back(&mut self.links, ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &[u8]) -> Name {
        let mut name = Name::new();
        name.set(path).expect("a possible name");
        name
    }

    #[test]
    fn impossible_names_are_not_found() {
        let mut name = Name::new();
        assert_eq!(name.set(&[b'a'; NAME_BYTES]), Err(OpenError::NotFound));
        assert_eq!(name.set(b"a\0b"), Err(OpenError::NotFound));
        assert_eq!(name.set(&[b'a'; NAME_BYTES - 1]), Ok(()));
        assert_eq!(name.as_c_str().to_bytes().len(), NAME_BYTES - 1);
    }

    #[test]
    fn a_shorter_name_leaves_nothing_of_the_longer_one_before() {
        let mut name = named(b"a/long/name");
        name.set(b"b").expect("a possible name");
        assert_eq!(name.as_c_str(), c"b");
    }

    #[test]
    fn a_ticket_is_pending_until_answered_and_then_free_again() {
        let mut tickets = TicketTable::new(1);
        let (ticket, name) = tickets.issue(&named(b"x")).expect("a free ticket");
        assert!(tickets.issue(&named(b"y")).is_none());
        let ticket = tickets.redeem(ticket).expect_err("not answered yet");
        assert_eq!(name.as_c_str(), c"x");
        let unwanted = tickets.answer(ticket.0, name, Err(OpenError::NotFound));
        assert!(unwanted.is_none());
        let answer = tickets.redeem(ticket).expect("answered");
        assert_eq!(answer.err(), Some(OpenError::NotFound));
        assert_eq!(tickets.out(), 0);
    }

    #[test]
    fn an_abandoned_ticket_is_out_until_its_answer_is_in() {
        let mut tickets = TicketTable::new(2);
        let (ticket, name) = tickets.issue(&named(b"x")).expect("a free ticket");
        let number = ticket.0;
        assert!(tickets.abandon(ticket).is_none());
        assert_eq!(tickets.out(), 1);
        tickets.answer(number, name, Err(OpenError::Denied));
        assert_eq!(tickets.out(), 0);
    }
}
