use proptest::prelude::*;

use super::*;
use crate::config::StackConfig;
use crate::isn::Secret;

fn config() -> StackConfig {
    StackConfig {
        send_limit: 65_535,
        ..StackConfig::new(1, [0; 16], Secret::new([0; 32]))
    }
}

struct Bed {
    config: StackConfig,
    counters: StackCounters,
    flights: FlightPool,
    record: Record,
    now: Instant,
}

impl Bed {
    fn new() -> Bed {
        Bed {
            config: config(),
            counters: StackCounters::default(),
            flights: FlightPool::new(1),
            record: Record::new(),
            now: Instant::from_nanos(u64::from(u32::MAX) << TICK_SHIFT),
        }
    }

    /// After `wait_us` microseconds the record hears of something: 0 rest, 1 sending, else a pause.
    fn step(&mut self, wait_us: u64, what: usize) {
        self.now = self.now + Duration::from_micros(wait_us);
        let mut env = Env {
            now: self.now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        };
        match what {
            0 => self.record.on_quiet(&mut env),
            1 => self.record.on_sending(&mut env),
            _ => self
                .record
                .pause(Cause::ALL[(what - 2) % Cause::ALL.len()], (0, 0), &mut env),
        }
    }

    fn busy(&self) -> Duration {
        let paused = self.record.paused.iter().map(|ticks| u64::from(*ticks));
        duration(u64::from(self.record.sending) + paused.sum::<u64>())
    }
}

const TICK: Duration = Duration::from_nanos(1 << TICK_SHIFT);

#[test]
fn a_pause_lasts_until_something_leaves() {
    let mut bed = Bed::new();
    bed.step(0, 2);
    bed.step(500_000, 2);
    bed.step(500_000, 1);
    bed.step(0, 0);
    let pauses = bed.record.paused(Cause::ReceiveWindow);
    assert_eq!(pauses.times, 1, "the same cause again is the same pause");
    assert!(pauses.total + TICK > Duration::from_secs(1));
    assert!(pauses.total < Duration::from_secs(1) + TICK);
    assert_eq!(bed.counters.paused(Cause::ReceiveWindow), pauses.total);
    assert_eq!(bed.counters.pauses[Cause::ReceiveWindow.index()], 1);
}

#[test]
fn short_pauses_add_up_although_each_is_less_than_a_unit() {
    let mut bed = Bed::new();
    for _ in 0..100_000 {
        bed.step(0, 4);
        bed.step(10, 1);
        bed.step(0, 4);
    }
    bed.step(0, 0);
    let paused = bed.record.paused(Cause::Pacing).total;
    let exact = Duration::from_secs(1);
    assert!(paused + TICK > exact && paused < exact + TICK, "{paused:?}");
}

#[test]
fn a_ring_is_held_from_the_first_segment_until_rest() {
    let mut bed = Bed::new();
    bed.step(0, 1);
    assert_eq!(bed.flights.rings.out(), 1);
    bed.record.let_go(&mut bed.flights);
    assert_eq!(bed.flights.rings.out(), 1, "it is not at rest");
    bed.step(10, 0);
    bed.record.let_go(&mut bed.flights);
    assert_eq!(bed.flights.rings.out(), 0);
}

#[test]
fn what_a_rest_keeps_is_everything_but_the_number_of_pauses() {
    let mut bed = Bed::new();
    bed.step(0, 3);
    bed.step(100_000, 1);
    bed.step(100_000, 0);
    assert!(bed.record.rest().is_none(), "its trail is kept");
    bed.record.let_go(&mut bed.flights);
    let woken = bed.record.rest().expect("at rest").wake();
    assert_eq!(woken.paused, bed.record.paused);
    assert_eq!(woken.sending, bed.record.sending);
    assert_eq!(woken.pauses, [0; Cause::ALL.len()]);
}

#[test]
fn a_counter_that_is_full_stays_full() {
    let mut bed = Bed::new();
    for _ in 0..70_000 {
        bed.step(0, 2);
        bed.step(0, 1);
    }
    assert_eq!(bed.record.paused(Cause::ReceiveWindow).times, 65_535);
    assert_eq!(bed.counters.pauses[Cause::ReceiveWindow.index()], 70_000);
}

proptest! {
    /// Sending and pauses are the time in which something waited, whatever follows what: the clock wraps in the
    /// middle of it.
    #[test]
    fn pauses_and_sending_add_up_to_the_time_that_was_not_rest(
        steps in proptest::collection::vec((0u64..200_000, 0usize..8), 1..300)
    ) {
        let mut bed = Bed::new();
        let (mut busy, mut resting) = (Duration::ZERO, true);
        let mut turns = 0;
        for (wait, what) in steps {
            bed.step(wait, what);
            if !resting {
                busy += Duration::from_micros(wait);
            }
            turns += u32::from(resting != (what == 0));
            resting = what == 0;
        }
        bed.step(0, 0);
        let counted = bed.busy();
        // Each time of rest is cut to whole units as well.
        let slack = TICK * (turns + 1);
        prop_assert!(counted <= busy + slack && busy <= counted + slack, "{counted:?} {busy:?}");
        let totals: Duration = Cause::ALL.iter().map(|cause| bed.counters.paused(*cause)).sum();
        prop_assert_eq!(totals + bed.counters.sending(), counted);
    }
}
