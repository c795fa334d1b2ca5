//! The last events of a connection, for the day it ends badly.
//!
//! An event is 16 bytes and a ring holds 64 of them. Neighbours of one kind become one event with a count, so that a
//! bulk transfer whose window is the limit writes the same event again and again and the ring reaches back over what
//! was unusual. A ring belongs to a connection that has something to send or in flight; at rest it goes back to the
//! pool of the worker (`RingPool`), which has a bounded number of them: without one a connection is counted
//! ([`crate::record`]) and leaves no trail.

use core::num::NonZeroU16;
use core::time::Duration;

use crate::clock::Instant;
use crate::stats::counted;

/// Events that a ring holds.
pub const EVENTS_MAX: usize = 64;
/// Rings of one worker at most: 4 MiB.
const RINGS_MAX: usize = 4096;
/// Time is kept in units of 1,024 ns: 73 minutes fit, and what is later reads as that.
const TICK_SHIFT: u32 = 10;

counted! {
    /// What happened on a connection.
    EventKind {
        /// Nothing more could leave; the detail is the [`Cause`](crate::record::Cause).
        Paused = "paused",
        /// Data left again; the detail is the [`Repeat`](crate::record::Repeat).
        SentAgain = "sent_again",
        /// A fast recovery began.
        Recovery = "recovery",
        /// The retransmission timer fired.
        TimeOut = "time_out",
        /// A reduction was taken back.
        Undone = "undone",
        /// The peer reported data that came twice (RFC 2883).
        Duplicate = "duplicate",
        /// A tail loss probe left with new data.
        TailProbe = "tail_probe",
        /// A window probe left.
        WindowProbe = "window_probe",
        /// A segment of the peer had no effect; the detail is the [`SegmentDrop`](crate::SegmentDrop).
        Dropped = "dropped",
        /// The peer's FIN came in order.
        PeerFinished = "peer_finished",
        /// A segment was held back to see whether the peer acknowledges what it cannot have ([`crate::skip`]).
        Withheld = "withheld",
        /// It left.
        Shown = "shown",
    }
}

/// An event as it is kept.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When it happened first, in ticks since the begin of the ring.
    at: u32,
    /// Low half of a stream offset.
    offset: u32,
    len: u32,
    kind: EventKind,
    detail: u8,
    times: u16,
}

const NOTHING: Entry = Entry {
    at: 0,
    offset: 0,
    len: 0,
    kind: EventKind::Paused,
    detail: 0,
    times: 0,
};

/// An event as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time since the ring began to be written, when this happened for the first time in a row.
    pub at: Duration,
    /// What happened.
    pub kind: EventKind,
    /// Index of a cause, by the kind.
    pub detail: u8,
    /// How often in a row, saturating.
    pub times: u16,
    /// Low 32 bits of the stream offset that it is about: of what was sent, else SND.UNA. The last one of the row.
    pub offset: u32,
    /// Bytes that it is about: of a pause what is in flight. The last one of the row.
    pub len: u32,
}

/// The last [`EVENTS_MAX`] events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventRing {
    began: Instant,
    /// Where the next event goes.
    next: u8,
    len: u8,
    entries: [Entry; EVENTS_MAX],
}

impl EventRing {
    pub(crate) const EMPTY: EventRing = EventRing {
        began: Instant::ZERO,
        next: 0,
        len: 0,
        entries: [NOTHING; EVENTS_MAX],
    };

    /// Begins anew.
    fn restart(&mut self, now: Instant) {
        (self.began, self.next, self.len) = (now, 0, 0);
    }

    /// Writes an event. The same kind and detail as the one before makes one of both.
    pub(crate) fn push(&mut self, now: Instant, kind: EventKind, detail: u8, at: (u64, u64)) {
        // What is told is the low half: a trail is read beside a trace with sequence numbers.
        let (offset, len) = (low_half(at.0), low_half(at.1));
        let last = usize::from(self.next).wrapping_sub(1) % EVENTS_MAX;
        let before = &mut self.entries[last];
        if self.len > 0 && before.kind == kind && before.detail == detail {
            before.times = before.times.saturating_add(1);
            (before.offset, before.len) = (offset, len);
            return;
        }
        let ticks = now.saturating_since(self.began).as_nanos() >> TICK_SHIFT;
        self.entries[usize::from(self.next) % EVENTS_MAX] = Entry {
            at: u32::try_from(ticks).unwrap_or(u32::MAX),
            offset,
            len,
            kind,
            detail,
            times: 1,
        };
        self.next = (self.next + 1) % EVENTS_LEN;
        self.len = (self.len + 1).min(EVENTS_LEN);
    }

    /// What is there, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        let first = usize::from(self.next) + EVENTS_MAX - usize::from(self.len);
        (first..first + usize::from(self.len)).map(|index| {
            let entry = &self.entries[index % EVENTS_MAX];
            Event {
                at: Duration::from_nanos(u64::from(entry.at) << TICK_SHIFT),
                kind: entry.kind,
                detail: entry.detail,
                times: entry.times,
                offset: entry.offset,
                len: entry.len,
            }
        })
    }
}

const EVENTS_LEN: u8 = 64;
const _: () = assert!(EVENTS_LEN as usize == EVENTS_MAX);

fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Names a ring of the pool, counted from 1. It is what a connection holds, so it is small.
#[derive(Debug)]
#[must_use]
pub(crate) struct RingId(NonZeroU16);

/// The rings of a worker. One is made when none is free, and stays.
#[derive(Debug)]
pub(crate) struct RingPool {
    // Boxed: a list that can grow long costs little while it is short.
    #[allow(clippy::vec_box)]
    rings: Vec<Box<EventRing>>,
    free: Vec<RingId>,
    most: usize,
}

impl RingPool {
    /// For `connections` connections.
    pub(crate) fn new(connections: usize) -> Self {
        let most = connections.min(RINGS_MAX);
        RingPool {
            rings: Vec::with_capacity(most),
            free: Vec::with_capacity(most),
            most,
        }
    }

    /// An empty ring that begins at `now`, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Option<RingId> {
        let ring = match self.free.pop() {
            Some(ring) => ring,
            None if self.rings.len() < self.most => {
                self.rings.push(Box::new(EventRing::EMPTY));
                RingId(NonZeroU16::new(u16::try_from(self.rings.len()).ok()?)?)
            }
            None => return None,
        };
        self.get_mut(&ring).restart(now);
        Some(ring)
    }

    pub(crate) fn give_back(&mut self, ring: RingId) {
        self.free.push(ring);
    }

    pub(crate) fn get(&self, ring: &RingId) -> &EventRing {
        &self.rings[usize::from(ring.0.get()) - 1]
    }

    pub(crate) fn get_mut(&mut self, ring: &RingId) -> &mut EventRing {
        &mut self.rings[usize::from(ring.0.get()) - 1]
    }

    /// Rings that connections hold.
    pub(crate) fn out(&self) -> usize {
        self.rings.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1024)
    }

    fn kinds(ring: &EventRing) -> Vec<(EventKind, u8, u16)> {
        let told = |event: Event| (event.kind, event.detail, event.times);
        ring.iter().map(told).collect()
    }

    #[test]
    fn an_event_is_sixteen_bytes_and_a_ring_a_little_more_than_a_kibibyte() {
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(size_of::<EventRing>(), 64 * 16 + 16);
        assert_eq!(size_of::<Option<RingId>>(), 2);
    }

    #[test]
    fn neighbours_of_one_kind_are_one_event_that_tells_of_the_last() {
        let mut ring = EventRing::EMPTY;
        ring.restart(at(10));
        ring.push(at(12), EventKind::Paused, 1, (100, 50));
        ring.push(at(13), EventKind::Paused, 1, (150, 70));
        ring.push(at(14), EventKind::Paused, 2, (160, 80));
        ring.push(at(15), EventKind::Paused, 1, (170, 90));
        assert_eq!(
            kinds(&ring),
            [
                (EventKind::Paused, 1, 2),
                (EventKind::Paused, 2, 1),
                (EventKind::Paused, 1, 1)
            ]
        );
        let first = ring.iter().next().expect("an event");
        assert_eq!((first.offset, first.len), (150, 70));
        assert_eq!(first.at, Duration::from_nanos(2 * 1024));
    }

    #[test]
    fn the_last_sixty_four_events_stay_in_order() {
        let mut ring = EventRing::EMPTY;
        ring.restart(at(0));
        for count in 0..200u32 {
            let kind = [EventKind::Paused, EventKind::TimeOut][usize::from(count % 2 == 0)];
            ring.push(at(count.into()), kind, 0, (count.into(), 0));
            let expected: Vec<u32> = ((count + 1).saturating_sub(64)..count + 1).collect();
            let offsets: Vec<u32> = ring.iter().map(|event| event.offset).collect();
            assert_eq!(offsets, expected);
        }
    }

    #[test]
    fn a_ring_that_was_given_back_is_empty_when_it_is_taken_again() {
        let mut pool = RingPool::new(1);
        let ring = pool.take(at(0)).expect("a ring");
        pool.get_mut(&ring)
            .push(at(1), EventKind::TimeOut, 0, (0, 0));
        assert!(pool.take(at(1)).is_none(), "no more than connections");
        assert_eq!(pool.out(), 1);
        pool.give_back(ring);
        let ring = pool.take(at(2)).expect("a ring");
        assert_eq!(pool.get(&ring).iter().count(), 0);
    }

    #[test]
    fn time_that_does_not_fit_is_the_longest_that_does() {
        let mut ring = EventRing::EMPTY;
        ring.restart(Instant::ZERO);
        ring.push(
            Instant::from_nanos(u64::MAX),
            EventKind::TimeOut,
            0,
            (u64::MAX, 1),
        );
        let event = ring.iter().next().expect("an event");
        assert_eq!(event.at.as_secs(), 4398);
        assert_eq!(event.offset, u32::MAX);
    }
}
