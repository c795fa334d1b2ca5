//! Who asks next and when: the requests that are due, the seats that are free, and what becomes of them.
//!
//! A seat is a place for one connection, numbered from 0; what sits there is the business of the driver. In the closed
//! loop a request is due as soon as a seat is released, in the open loop by the schedule, and at rest once per seat.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::record::{Outcome, Record};
use super::schedule::Schedule;
use super::{BEGIN, END, GRACE, Options, say};

/// Failures after which there is nothing to measure.
const FAILURES_MAX: u64 = 1000;

/// See the module documentation.
pub struct Agenda {
    /// Seats that have nothing to do: the most recently used is taken first.
    free: Vec<usize>,
    seats: usize,
    /// When requests were due that no seat was free for.
    waiting: VecDeque<Instant>,
    schedule: Option<Schedule>,
    /// Whether a released seat asks again at once.
    asks_again: bool,
    begin: Instant,
    end: Instant,
    has_begun: bool,
    has_ended: bool,
    /// What is counted.
    pub record: Record,
}

impl Agenda {
    /// For all the connections of `options`. The clock runs from `start` on.
    pub fn new(options: &Options, start: Instant) -> io::Result<Agenda> {
        let begin = start + Duration::from_secs_f64(options.warm_up);
        let end = begin + Duration::from_secs_f64(options.seconds);
        let seats = usize::try_from(options.connections).map_err(io::Error::other)?;
        let schedule = options.rate.map(|rate| Schedule::new(start, end, rate));
        let at_once = if schedule.is_none() { seats } else { 0 };
        Ok(Agenda {
            free: (0..seats).rev().collect(),
            seats,
            waiting: vec![start; at_once].into(),
            asks_again: schedule.is_none() && !options.idle,
            schedule,
            begin,
            end,
            has_begun: false,
            has_ended: false,
            record: Record::new(begin, end, options.rate.is_some()),
        })
    }

    /// Tells the parent when what is measured begins and ends, and gives the outcome when everything is over: at the
    /// end, in the open loop when everything is answered or the grace is over.
    ///
    /// # Errors
    /// So much failed that there is nothing to measure.
    pub fn proceed(&mut self, now: Instant) -> io::Result<Option<Outcome>> {
        if !self.has_begun && now >= self.begin {
            self.has_begun = true;
            say(BEGIN)?;
        }
        if !self.has_ended && now >= self.end {
            self.has_ended = true;
            say(END)?;
        }
        let unfinished = self.unfinished();
        let is_over = self.schedule.is_none() || unfinished == 0 || now >= self.end + GRACE;
        if now >= self.end && is_over {
            return Ok(Some(self.record.outcome(unfinished)));
        }
        let (failed, first) = self.record.failures();
        if failed > FAILURES_MAX {
            return Err(io::Error::other(format!(
                "{failed} requests failed, the first: {first}"
            )));
        }
        Ok(None)
    }

    /// How many there are.
    pub fn seats(&self) -> usize {
        self.seats
    }

    /// Takes what is due by now into the waiting line, and gives its length.
    pub fn collect(&mut self, now: Instant) -> usize {
        if let Some(schedule) = &mut self.schedule {
            while let Some(due) = schedule.take(now) {
                self.waiting.push_back(due);
            }
        }
        self.waiting.len()
    }

    /// A seat for the request that waits longest, and when that was due.
    pub fn next(&mut self) -> Option<(usize, Instant)> {
        if self.waiting.is_empty() {
            return None;
        }
        let seat = self.free.pop()?;
        Some((seat, self.waiting.pop_front()?))
    }

    /// The request of this seat is over.
    pub fn release(&mut self, seat: usize, now: Instant) {
        self.free.push(seat);
        if self.asks_again {
            self.waiting.push_back(now);
        }
    }

    /// The request of this seat went wrong.
    pub fn fail(&mut self, seat: usize, error: &io::Error, now: Instant) {
        self.record.failed(error);
        self.release(seat, now);
    }

    /// How long nothing is due, if nobody answers: zero if something is.
    pub fn rest(&self, now: Instant) -> Duration {
        let due = self.schedule.as_ref().and_then(Schedule::next);
        if due.is_some_and(|due| due <= now) {
            return Duration::ZERO;
        }
        let bounds = [
            due,
            Some(self.begin),
            Some(self.end),
            Some(self.end + GRACE),
        ];
        let next = bounds.into_iter().flatten().filter(|at| *at > now).min();
        next.map_or(Duration::ZERO, |at| at - now)
    }

    /// Requests of the open loop that are not answered.
    fn unfinished(&self) -> u64 {
        if self.schedule.is_none() {
            return 0;
        }
        (self.waiting.len() + self.seats - self.free.len()) as u64
    }
}
