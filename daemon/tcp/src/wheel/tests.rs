//! The wheel against a map of deadlines, and the promises of its documentation one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TICK_NS: u64 = 1 << TICK_SHIFT;

fn at(ticks: u64) -> Instant {
    Instant::from_nanos(ticks * TICK_NS)
}

/// Pops until neither a due timer nor an unfinished cascade is left.
fn drain(wheel: &mut TimerWheel, now: Instant) -> Vec<u32> {
    let mut fired = Vec::new();
    loop {
        fired.extend(core::iter::from_fn(|| wheel.pop_expired(now)));
        if wheel.next_deadline().is_none_or(|next| next > now) {
            return fired;
        }
    }
}

#[test]
fn a_timer_fires_at_the_first_tick_at_or_after_its_deadline() {
    let mut wheel = TimerWheel::new(1, Instant::ZERO);
    wheel.schedule(0, Instant::from_nanos(5 * TICK_NS + 1));
    assert_eq!(wheel.next_deadline(), Some(at(6)));
    assert_eq!(
        wheel.pop_expired(Instant::from_nanos(6 * TICK_NS - 1)),
        None
    );
    assert_eq!(wheel.pop_expired(at(6)), Some(0));
    assert_eq!(wheel.pop_expired(at(6)), None);
    assert!(wheel.is_empty());
}

#[test]
fn a_deadline_in_the_past_fires_at_the_next_call() {
    let mut wheel = TimerWheel::new(2, at(1_000));
    assert_eq!(wheel.pop_expired(at(1_000)), None);
    wheel.schedule(0, at(3));
    wheel.schedule(1, at(1_000));
    assert_eq!(wheel.next_deadline(), Some(at(1_000)));
    let mut fired = drain(&mut wheel, at(1_000));
    fired.sort_unstable();
    assert_eq!(fired, [0, 1]);
}

#[test]
fn scheduling_again_replaces_the_deadline() {
    let mut wheel = TimerWheel::new(1, Instant::ZERO);
    wheel.schedule(0, at(10));
    wheel.schedule(0, at(500_000));
    assert_eq!(wheel.len(), 1);
    assert_eq!(wheel.deadline(0), Some(at(500_000)));
    assert_eq!(drain(&mut wheel, at(499_999)), []);
    wheel.schedule(0, at(499_999));
    assert_eq!(drain(&mut wheel, at(499_999)), [0]);
}

#[test]
fn a_cancelled_timer_does_not_fire() {
    let mut wheel = TimerWheel::new(3, Instant::ZERO);
    for id in 0..3 {
        wheel.schedule(id, at(100));
    }
    assert!(wheel.cancel(1));
    assert!(!wheel.cancel(1));
    assert!(!wheel.is_scheduled(1) && wheel.is_scheduled(0));
    let mut fired = drain(&mut wheel, at(100));
    fired.sort_unstable();
    assert_eq!(fired, [0, 2]);
}

#[test]
fn an_earlier_now_finds_nothing_due() {
    let mut wheel = TimerWheel::new(1, at(50));
    wheel.schedule(0, at(40));
    assert_eq!(wheel.pop_expired(at(45)), None);
    assert_eq!(wheel.pop_expired(at(50)), Some(0));
}

#[test]
fn the_end_of_the_clock_is_an_ordinary_deadline() {
    let end = Instant::from_nanos(u64::MAX);
    let mut wheel = TimerWheel::new(2, at(77));
    wheel.schedule(0, end);
    wheel.schedule(1, Instant::from_nanos(u64::MAX - TICK_NS));
    assert_eq!(wheel.deadline(0), Some(end));
    assert_eq!(drain(&mut wheel, Instant::from_nanos(u64::MAX - 1)), [1]);
    assert_eq!(wheel.next_deadline(), Some(end));
    assert!(wheel.cancel(0));
}

#[test]
fn a_large_cascade_comes_in_portions_and_asks_to_be_continued() {
    let count = CASCADE_MAX * 10;
    let mut wheel = TimerWheel::new(count, Instant::ZERO);
    for id in 0..count {
        wheel.schedule(id, at(64 + u64::from(id % 7)));
    }
    let now = at(71);
    let first = wheel.pop_expired(now);
    assert_eq!(first, None, "the first portion does not finish the slot");
    assert!(wheel.next_deadline().is_some_and(|next| next <= now));
    let mut fired = drain(&mut wheel, now);
    fired.sort_unstable();
    assert_eq!(fired, (0..count).collect::<Vec<_>>());
}

#[test]
fn cancelling_what_a_cascade_has_left_ends_the_cascade() {
    let count = CASCADE_MAX + 2;
    let mut wheel = TimerWheel::new(count, Instant::ZERO);
    for id in 0..count {
        wheel.schedule(id, at(70));
    }
    assert_eq!(wheel.pop_expired(at(64)), None);
    for id in 0..count {
        wheel.cancel(id);
    }
    assert!(wheel.is_empty());
    assert_eq!(drain(&mut wheel, at(100)), []);
    assert_eq!(wheel.next_deadline(), None);
}

/// A driver that sleeps until `next_deadline` is woken at most once per level and timer for nothing.
#[test]
fn sleeping_until_the_next_deadline_fires_every_timer_on_its_tick() {
    let mut wheel = TimerWheel::new(40, at(12_345));
    let mut expected = BTreeMap::new();
    for id in 0..40u32 {
        let tick = 12_345 + (1u64 << id) + u64::from(id) * 3;
        wheel.schedule(id, at(tick));
        expected.insert(id, tick);
    }
    let mut wakes = 0;
    while let Some(now) = wheel.next_deadline() {
        wakes += 1;
        while let Some(id) = wheel.pop_expired(now) {
            assert_eq!(expected.remove(&id).map(at), Some(now));
        }
    }
    assert!(expected.is_empty());
    assert!(wakes <= 40 * LEVELS, "{wakes} wakes");
}

#[derive(Clone, Debug)]
enum Op {
    Schedule {
        id: u32,
        from_now: i64,
    },
    Cancel {
        id: u32,
    },
    Advance {
        by: u64,
    },
    /// One call only: may leave a cascade unfinished.
    PopOnce,
}

const IDS: u32 = 24;

/// Durations of every order of magnitude: each level of the wheel is used.
fn any_nanos() -> impl Strategy<Value = u64> {
    (0..50u32, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1))
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..IDS, any_nanos(), any::<bool>()).prop_map(|(id, nanos, past)| {
            let nanos = nanos.cast_signed();
            Op::Schedule { id, from_now: if past { -nanos / 1_000 } else { nanos } }
        }),
        1 => (0..IDS).prop_map(|id| Op::Cancel { id }),
        2 => any_nanos().prop_map(|by| Op::Advance { by }),
        1 => Just(Op::PopOnce),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_map_of_deadlines(
        start in prop_oneof![any_nanos(), Just((1u64 << 53) - 1), Just((1u64 << 59) + 7)],
        ops in prop::collection::vec(any_op(), 1..200),
    ) {
        let mut now = Instant::from_nanos(start);
        let mut wheel = TimerWheel::new(IDS, now);
        let mut twin: BTreeMap<u32, Instant> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Schedule { id, from_now } => {
                    let deadline = Instant::from_nanos(now.as_nanos().saturating_add_signed(from_now));
                    wheel.schedule(id, deadline);
                    twin.insert(id, deadline);
                }
                Op::Cancel { id } => {
                    prop_assert_eq!(wheel.cancel(id), twin.remove(&id).is_some());
                }
                Op::PopOnce => {
                    if let Some(id) = wheel.pop_expired(now) {
                        let deadline = twin.remove(&id);
                        prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                    }
                }
                Op::Advance { by } => {
                    let stood_at = now.as_nanos() / TICK_NS;
                    now = Instant::from_nanos(now.as_nanos() + by);
                    let mut newest = 0;
                    for id in drain(&mut wheel, now) {
                        let deadline = twin.remove(&id).expect("fires only what is armed");
                        prop_assert!(deadline <= now, "early");
                        let tick = deadline.as_nanos().div_ceil(TICK_NS);
                        // What was armed in the past has no place in the order.
                        if tick > stood_at {
                            prop_assert!(tick >= newest, "tick {tick} after {newest}");
                            newest = tick;
                        }
                    }
                    for (id, deadline) in &twin {
                        let late = now.saturating_since(*deadline).as_nanos();
                        prop_assert!(late < u128::from(TICK_NS), "timer {id} is {late} ns late");
                    }
                }
            }
            prop_assert_eq!(wheel.len() as usize, twin.len());
            for id in 0..IDS {
                prop_assert_eq!(wheel.is_scheduled(id), twin.contains_key(&id));
            }
            // Never later than the earliest timer, which fires at the end of its tick.
            let earliest = twin.values().min().map(|deadline| deadline.as_nanos().div_ceil(TICK_NS));
            match (wheel.next_deadline(), earliest) {
                (None, None) => {}
                (Some(next), Some(earliest)) => {
                    let bound = at(earliest).max(Instant::from_nanos(now.as_nanos() / TICK_NS * TICK_NS));
                    prop_assert!(next <= bound, "{next:?} is after {bound:?}");
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
