//! Who asks next and when: the requests that are due, the seats that are free, and what becomes of them.
//!
//! A seat is a place for one connection, numbered from 0; what sits there is the business of the driver. In the closed
//! loop a request is due as soon as a seat is released, in the open loop by the schedule, and at rest once per seat. The
//! clock of all that begins to run when the connections that only rest have settled.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::record::{Outcome, Record};
use super::schedule::Schedule;
use super::settling::Settling;
use super::{BEGIN, END, GRACE, Options, say};

/// Failures after which there is nothing to measure.
const FAILURES_MAX: u64 = 1000;
/// How long the connections that only rest may take to settle.
const SETTLING_MAX: Duration = Duration::from_secs(120);

/// When what happens.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Of the warm-up.
    start: Instant,
    /// Of what is measured.
    begin: Instant,
    end: Instant,
}

impl Clock {
    fn new(options: &Options, start: Instant) -> Clock {
        let begin = start + Duration::from_secs_f64(options.warm_up);
        let end = begin + Duration::from_secs_f64(options.seconds);
        Clock { start, begin, end }
    }

    /// The same, with another start.
    fn restarted(self, start: Instant) -> Clock {
        Clock {
            start,
            begin: start + (self.begin - self.start),
            end: start + (self.end - self.start),
        }
    }
}

/// See the module documentation.
pub struct Agenda {
    /// Seats that have nothing to do: the most recently used is taken first.
    free: Vec<usize>,
    /// Of those that ask.
    asking: usize,
    settling: Settling,
    /// When requests were due that no seat was free for.
    waiting: VecDeque<Instant>,
    rate: Option<f64>,
    schedule: Option<Schedule>,
    /// Whether a released seat asks again at once.
    asks_again: bool,
    clock: Clock,
    is_running: bool,
    has_begun: bool,
    has_ended: bool,
    /// What is counted.
    pub record: Record,
}

impl Agenda {
    /// For all the connections of `options`. The clock runs from `start` on, if nothing has to settle before.
    pub fn new(options: &Options, start: Instant) -> io::Result<Agenda> {
        let clock = Clock::new(options, start);
        let count = |connections: u32| usize::try_from(connections).map_err(io::Error::other);
        let asking = count(options.connections)?;
        let mut agenda = Agenda {
            free: (0..asking).rev().collect(),
            asking,
            settling: Settling::new(asking, count(options.resting)?),
            waiting: VecDeque::new(),
            rate: options.rate,
            schedule: None,
            asks_again: options.rate.is_none() && !options.idle,
            clock,
            is_running: false,
            has_begun: false,
            has_ended: false,
            record: Record::new(clock.begin, clock.end, options.rate.is_some()),
        };
        if agenda.settling.is_over() {
            agenda.run(start);
        }
        Ok(agenda)
    }

    /// Whether every answer brings the next request: the closed loop.
    pub fn asks_again(&self) -> bool {
        self.asks_again
    }

    /// Lets the clock run from `start` on.
    fn run(&mut self, start: Instant) {
        self.is_running = true;
        self.clock = self.clock.restarted(start);
        self.record.restart(self.clock.begin, self.clock.end);
        match self.rate {
            Some(rate) => self.schedule = Some(Schedule::new(start, self.clock.end, rate)),
            None => self.waiting = vec![start; self.asking].into(),
        }
    }

    /// Tells the parent when what is measured begins and ends, and gives the outcome when everything is over: at the
    /// end, in the open loop when everything is answered or the grace is over.
    ///
    /// # Errors
    /// So much failed that there is nothing to measure.
    pub fn proceed(&mut self, now: Instant) -> io::Result<Option<Outcome>> {
        if self.is_running {
            if let Some(outcome) = self.pass(now)? {
                return Ok(Some(outcome));
            }
        } else if self.settling.is_over() {
            self.run(now);
        } else if now >= self.clock.start + SETTLING_MAX {
            return Err(io::Error::other(format!(
                "only {} connections came to rest in {} s",
                self.settling.at_rest(),
                SETTLING_MAX.as_secs()
            )));
        }
        let (failed, first) = self.record.failures();
        if failed > FAILURES_MAX {
            return Err(io::Error::other(format!(
                "{failed} requests failed, the first: {first}"
            )));
        }
        Ok(None)
    }

    /// The times of the clock.
    fn pass(&mut self, now: Instant) -> io::Result<Option<Outcome>> {
        let Clock { begin, end, .. } = self.clock;
        if !self.has_begun && now >= begin {
            self.has_begun = true;
            say(BEGIN)?;
        }
        if !self.has_ended && now >= end {
            self.has_ended = true;
            say(END)?;
        }
        let unfinished = self.unfinished();
        let is_over = self.schedule.is_none() || unfinished == 0 || now >= end + GRACE;
        let at_rest = self.settling.at_rest() as u64;
        Ok((now >= end && is_over).then(|| self.record.outcome(unfinished, at_rest)))
    }

    /// How many there are.
    pub fn seats(&self) -> usize {
        self.settling.seats()
    }

    /// Takes what is due by now into the waiting line, and gives its length.
    pub fn collect(&mut self, now: Instant) -> usize {
        if !self.is_running {
            return self.settling.due();
        }
        if let Some(schedule) = &mut self.schedule {
            while let Some(due) = schedule.take(now) {
                self.waiting.push_back(due);
            }
        }
        self.waiting.len()
    }

    /// A seat for the request that waits longest, and when that was due.
    pub fn next(&mut self, now: Instant) -> Option<(usize, Instant)> {
        if !self.is_running {
            return self.settling.open().map(|seat| (seat, now));
        }
        if self.waiting.is_empty() {
            return None;
        }
        let seat = self.free.pop()?;
        Some((seat, self.waiting.pop_front()?))
    }

    /// The request of this seat is over.
    pub fn release(&mut self, seat: usize, now: Instant) {
        if self.settling.owns(seat) {
            return self.settling.settle();
        }
        self.give_back(seat, now);
    }

    fn give_back(&mut self, seat: usize, now: Instant) {
        self.free.push(seat);
        if self.asks_again {
            self.waiting.push_back(now);
        }
    }

    /// The request of this seat went wrong.
    pub fn fail(&mut self, seat: usize, error: &io::Error, now: Instant) {
        self.record.failed(error);
        if self.settling.owns(seat) {
            return self.settling.fail(seat);
        }
        self.give_back(seat, now);
    }

    /// The server closed the connection of this seat, which rested.
    pub fn lose(&mut self, seat: usize) {
        // Those that ask open another the next time.
        if self.settling.owns(seat) {
            self.settling.lose();
        }
    }

    /// How long nothing is due, if nobody answers: zero if something is.
    pub fn rest(&self, now: Instant) -> Duration {
        if !self.is_running {
            let is_due = self.settling.due() > 0 || self.settling.is_over();
            return if is_due { Duration::ZERO } else { GRACE };
        }
        let due = self.schedule.as_ref().and_then(Schedule::next);
        if due.is_some_and(|due| due <= now) {
            return Duration::ZERO;
        }
        let bounds = [
            due,
            Some(self.clock.begin),
            Some(self.clock.end),
            Some(self.clock.end + GRACE),
        ];
        let next = bounds.into_iter().flatten().filter(|at| *at > now).min();
        next.map_or(Duration::ZERO, |at| at - now)
    }

    /// Requests of the open loop that are not answered.
    fn unfinished(&self) -> u64 {
        if self.schedule.is_none() {
            return 0;
        }
        (self.waiting.len() + self.asking - self.free.len()) as u64
    }
}
