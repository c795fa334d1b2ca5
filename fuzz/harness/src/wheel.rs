//! [`TimerWheel`] beside a sorted map: never early, never more than a tick late, in order, each once.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use sluice_tcp::clock::Instant;
use sluice_tcp::wheel::TimerWheel;

const TIMERS: u8 = 24;
const STEPS_MAX: usize = 400;
/// The grain that the wheel documents, in nanoseconds.
const TICK_NS: u64 = 2_048;

#[derive(Arbitrary, Debug)]
enum Op {
    /// A deadline `mantissa << shift` ticks away: small and huge ones alike.
    Schedule {
        id: u8,
        mantissa: u16,
        shift: u8,
    },
    /// The same moment as another timer.
    ScheduleLike {
        id: u8,
        other: u8,
    },
    /// A deadline that has passed.
    SchedulePast {
        id: u8,
        ago: u16,
    },
    Cancel {
        id: u8,
    },
    Wait {
        mantissa: u16,
        shift: u8,
    },
    /// To the deadline that the wheel names.
    Sleep,
    /// One timer only; the others stay due.
    PopOne,
}

struct Twins {
    wheel: TimerWheel,
    deadlines: BTreeMap<u8, Deadline>,
    now: u64,
}

#[derive(Clone, Copy)]
struct Deadline {
    at: u64,
    /// The last tick whose turn it can have: its own, or that of the moment it was armed in.
    turn: u64,
}

/// Runs operations on a timer wheel and on its twin.
pub fn wheel(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let start = u64::arbitrary(&mut input).unwrap_or(0);
    let mut twins = Twins {
        wheel: TimerWheel::new(u32::from(TIMERS), Instant::from_nanos(start)),
        deadlines: BTreeMap::new(),
        now: start,
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(op) = Op::arbitrary(&mut input) else {
            break;
        };
        twins.step(&op);
        twins.check();
    }
}

impl Twins {
    fn step(&mut self, op: &Op) {
        match *op {
            Op::Schedule {
                id,
                mantissa,
                shift,
            } => self.schedule(id, self.now.saturating_add(distance(mantissa, shift))),
            Op::ScheduleLike { id, other } => {
                if let Some(other) = self.deadlines.get(&(other % TIMERS)) {
                    self.schedule(id, other.at);
                }
            }
            Op::SchedulePast { id, ago } => {
                let ago = u64::from(ago) * 1000;
                self.schedule(id, self.now.saturating_sub(ago));
            }
            Op::Cancel { id } => {
                let id = id % TIMERS;
                let was = self.deadlines.remove(&id).is_some();
                assert_eq!(self.wheel.cancel(u32::from(id)), was);
            }
            Op::Wait { mantissa, shift } => {
                self.now = self.now.saturating_add(distance(mantissa, shift));
                self.fire_all();
            }
            Op::Sleep => {
                if let Some(at) = self.wheel.next_deadline() {
                    self.now = self.now.max(at.as_nanos());
                    self.fire_all();
                }
            }
            Op::PopOne => {
                self.fire();
            }
        }
    }

    fn schedule(&mut self, id: u8, at: u64) {
        let id = id % TIMERS;
        self.wheel.schedule(u32::from(id), Instant::from_nanos(at));
        let turn = at.div_ceil(TICK_NS).max(self.now / TICK_NS);
        self.deadlines.insert(id, Deadline { at, turn });
    }

    fn fire_all(&mut self) {
        for _ in 0..1000 {
            if !self.fire() && !self.is_behind() {
                let late = self.now.saturating_sub(TICK_NS - 1);
                let overdue = self.deadlines.values().any(|other| other.at <= late);
                assert!(!overdue, "not fired at {}", self.now);
                return;
            }
        }
        panic!("the wheel does not come to rest");
    }

    /// More is left to do now, after a portion of cascading.
    fn is_behind(&self) -> bool {
        self.now < u64::MAX - TICK_NS
            && self
                .wheel
                .next_deadline()
                .is_some_and(|at| at.as_nanos() <= self.now)
    }

    /// One timer, if one is due.
    fn fire(&mut self) -> bool {
        let Some(id) = self.wheel.pop_expired(Instant::from_nanos(self.now)) else {
            return false;
        };
        let id = u8::try_from(id).expect("an id of ours");
        let fired = self.deadlines.remove(&id).expect("armed, and fired once");
        let at = fired.at;
        assert!(at <= self.now, "early: {at} at {}", self.now);
        for other in self.deadlines.values() {
            assert!(at.div_ceil(TICK_NS) <= other.turn, "not in order of ticks");
        }
        true
    }

    fn check(&self) {
        assert_eq!(self.wheel.len() as usize, self.deadlines.len());
        assert_eq!(self.wheel.is_empty(), self.deadlines.is_empty());
        for id in 0..TIMERS {
            let armed = self.deadlines.get(&id);
            assert_eq!(self.wheel.is_scheduled(u32::from(id)), armed.is_some());
            let told = self.wheel.deadline(u32::from(id)).map(Instant::as_nanos);
            let rounded = armed.map(|timer| rounded_up(timer.at));
            assert_eq!(told, rounded);
        }
        let first = self.deadlines.values().map(|timer| timer.at).min();
        match (self.wheel.next_deadline(), first) {
            (None, None) => {}
            (Some(told), Some(first)) => {
                let latest = rounded_up(first).max(self.now);
                assert!(told.as_nanos() <= latest, "later than a timer");
            }
            (told, first) => panic!("{told:?} with {first:?}"),
        }
    }
}

fn distance(mantissa: u16, shift: u8) -> u64 {
    u64::from(mantissa) << (shift % 48)
}

fn rounded_up(at: u64) -> u64 {
    at.div_ceil(TICK_NS).saturating_mul(TICK_NS)
}
