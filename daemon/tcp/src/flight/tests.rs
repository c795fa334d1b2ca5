//! The record against a twin that remembers every byte, and its bounds.

use proptest::prelude::*;

use super::*;

const GRAIN: Duration = Duration::from_micros(8);
/// What was sent again at a moment at which new data left too counts as a little later.
const MOMENT: Duration = Duration::from_micros(1);

fn at(micros: u64) -> Instant {
    Instant::from_nanos(1000 * micros)
}

/// A record and the pool it lives from.
struct Bed {
    flight: Flight,
    pool: FlightPool,
}

impl Bed {
    fn new() -> Bed {
        Bed {
            flight: Flight::new(0),
            pool: FlightPool::new(1),
        }
    }

    fn send(&mut self, end: u64, now: u64) {
        self.flight.on_sent(end, at(now), GRAIN, &mut self.pool);
    }

    fn resend(&mut self, range: Range<u64>, now: u64) {
        self.flight
            .on_sent_again(&range, at(now), GRAIN, &mut self.pool);
    }

    fn sack(&mut self, range: Range<u64>) -> Vec<Delivery> {
        let mut news = Vec::new();
        self.flight
            .sack(range, &mut self.pool, |delivery| news.push(delivery));
        news
    }

    fn acknowledge(&mut self, una: u64) -> Vec<Delivery> {
        let mut news = Vec::new();
        self.flight
            .acknowledge(una, &mut self.pool, |delivery| news.push(delivery));
        news
    }

    /// Everything that left by then is lost.
    fn lose_left_by(&mut self, then: u64) -> bool {
        self.flight.lose_while(|pending| {
            if pending.sent_at <= at(then) {
                Judgement::Lose
            } else {
                Judgement::Keep
            }
        })
    }

    fn check(&self) {
        let (mut start, mut sacked, mut lost) = (self.flight.start, 0, 0);
        for run in self.flight.runs.iter() {
            assert!(run.end > start, "runs are not empty and ascend");
            match run.fate {
                Fate::InFlight => {}
                Fate::Lost => lost += run.end - start,
                Fate::Sacked => sacked += run.end - start,
            }
            start = run.end;
        }
        assert_eq!(self.flight.sacked_bytes, sacked);
        assert_eq!(self.flight.lost_bytes, lost);
        assert!(self.flight.runs.len() <= RUNS_MAX);
        let all = || self.flight.runs.iter().copied();
        let mut in_flight: Vec<Run> = all()
            .filter(|run| run.fate == Fate::InFlight && run.sent_at != NEVER)
            .collect();
        in_flight.sort_by_key(|run| (run.sent_at, run.end));
        let lost = all().filter(|run| run.fate == Fate::Lost).collect();
        assert_eq!(self.flight.runs.chained(), [in_flight, lost]);
        let ranges = all().filter(|run| run.fate == Fate::Sacked);
        assert_eq!(self.flight.runs.sacked(), ranges.count());
    }
}

/// One byte of the twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Byte {
    sent_at: u64,
    fate: Fate,
    retransmitted: bool,
}

/// Every byte on its own.
#[derive(Default)]
struct Twin {
    start: usize,
    bytes: Vec<Byte>,
}

impl Twin {
    fn live(&mut self, range: Range<usize>) -> &mut [Byte] {
        let end = range.end.min(self.bytes.len());
        &mut self.bytes[range.start.max(self.start).min(end)..end]
    }

    fn count(&self, fate: Fate) -> u64 {
        self.bytes[self.start..]
            .iter()
            .filter(|byte| byte.fate == fate)
            .count() as u64
    }

    fn next_lost(&self) -> Option<(usize, bool)> {
        let at = (self.start..self.bytes.len()).find(|at| self.bytes[*at].fate == Fate::Lost)?;
        Some((at, self.bytes[at].retransmitted))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Send(usize),
    Sack(usize, usize),
    Acknowledge(usize),
    Resend(usize),
    LoseOlderThan(u64),
    Lose(usize, usize),
    ForgetLosses,
    ForgetSacks,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..20).prop_map(Step::Pass),
        6 => (1usize..30).prop_map(Step::Send),
        4 => (0usize..100, 1usize..40).prop_map(|(at, len)| Step::Sack(at, len)),
        2 => (0usize..40).prop_map(Step::Acknowledge),
        4 => (1usize..12).prop_map(Step::Resend),
        2 => (0u64..60).prop_map(Step::LoseOlderThan),
        1 => (0usize..60, 1usize..40).prop_map(|(at, len)| Step::Lose(at, len)),
        1 => Just(Step::ForgetLosses),
        1 => Just(Step::ForgetSacks),
    ]
}

fn wide(offset: usize) -> u64 {
    offset as u64
}

fn span(range: &Range<usize>) -> Range<u64> {
    wide(range.start)..wide(range.end)
}

/// Plays `steps` on both and compares what they say. The record keeps a send time per run, so it may be later than
/// that of a byte, by no more than the grain; where it is merged for other reasons it does not matter any more.
fn play(steps: &[Step]) {
    let mut bed = Bed::new();
    let mut twin = Twin::default();
    let mut now = 0;
    for step in steps {
        match step {
            Step::Pass(time) => now += time,
            Step::Send(len) => {
                let byte = Byte {
                    sent_at: now,
                    fate: Fate::InFlight,
                    retransmitted: false,
                };
                twin.bytes.extend(std::iter::repeat_n(byte, *len));
                bed.send(wide(twin.bytes.len()), now);
            }
            Step::Sack(from, len) => {
                let range = twin.start + from..twin.start + from + len;
                let news: u64 = bed
                    .sack(span(&range))
                    .iter()
                    .map(|news| news.range.end - news.range.start)
                    .sum();
                let mut expected = 0;
                for byte in twin.live(range) {
                    expected += u64::from(byte.fate != Fate::Sacked);
                    byte.fate = Fate::Sacked;
                }
                assert_eq!(news, expected);
            }
            Step::Acknowledge(len) => {
                let una = (twin.start + len).min(twin.bytes.len());
                let news = bed.acknowledge(wide(una));
                let mut heard = vec![false; una];
                for delivery in news {
                    let range = delivery.range.start..delivery.range.end;
                    for at in range {
                        let at = usize::try_from(at).expect("small");
                        let byte = twin.bytes[at];
                        assert_eq!(delivery.retransmitted, byte.retransmitted);
                        assert_ne!(byte.fate, Fate::Sacked);
                        heard[at] = true;
                    }
                }
                for (at, heard) in heard.iter().enumerate().skip(twin.start) {
                    assert_eq!(*heard, twin.bytes[at].fate != Fate::Sacked);
                }
                twin.start = una;
            }
            Step::Resend(len) => {
                if let Some((range, _)) = bed.flight.next_lost() {
                    let range = range.start..range.end.min(range.start + wide(*len));
                    bed.resend(range.clone(), now);
                    let from = usize::try_from(range.start).expect("small");
                    let to = usize::try_from(range.end).expect("small");
                    for byte in twin.live(from..to) {
                        *byte = Byte {
                            sent_at: now,
                            fate: Fate::InFlight,
                            retransmitted: true,
                        };
                    }
                }
            }
            Step::LoseOlderThan(age) => {
                let limit = now.saturating_sub(*age);
                // Coarse times make a difference only within the grain: ask between two of them.
                let mut shown = Vec::new();
                let mut start = bed.flight.start;
                for run in bed.flight.runs.iter() {
                    shown.push((start..run.end, run.sent_at));
                    start = run.end;
                }
                bed.lose_left_by(limit);
                for (range, sent_at) in shown {
                    let from = usize::try_from(range.start).expect("small");
                    let to = usize::try_from(range.end).expect("small");
                    for byte in twin.live(from..to) {
                        if byte.fate == Fate::InFlight && sent_at <= at(limit) {
                            byte.fate = Fate::Lost;
                        }
                    }
                }
            }
            Step::Lose(from, len) => {
                let range = twin.start + from..twin.start + from + len;
                bed.flight.lose(&span(&range), &mut bed.pool);
                for byte in twin.live(range) {
                    if byte.fate == Fate::InFlight {
                        byte.fate = Fate::Lost;
                    }
                }
            }
            Step::ForgetLosses | Step::ForgetSacks => {
                let fate = if matches!(step, Step::ForgetLosses) {
                    bed.flight.forget_losses();
                    Fate::Lost
                } else {
                    bed.flight.forget_sacks();
                    Fate::Sacked
                };
                // Which of the bytes of merged ranges were sent again is not kept.
                let mut start = bed.flight.start;
                for run in bed.flight.runs.iter() {
                    let from = usize::try_from(start).expect("small");
                    let to = usize::try_from(run.end).expect("small");
                    for byte in twin.live(from..to) {
                        if byte.fate == fate {
                            assert!(run.retransmitted >= byte.retransmitted);
                            byte.fate = Fate::InFlight;
                            byte.retransmitted = run.retransmitted;
                            byte.sent_at = run.sent_at.as_nanos() / 1000;
                        }
                    }
                    start = run.end;
                }
            }
        }
        bed.check();
        compare(&mut bed, &twin);
    }
}

fn compare(bed: &mut Bed, twin: &Twin) {
    assert_eq!(bed.flight.start, wide(twin.start));
    assert_eq!(bed.flight.end(), wide(twin.bytes.len()));
    assert_eq!(bed.flight.sacked_bytes(), twin.count(Fate::Sacked));
    assert_eq!(bed.flight.lost_bytes(), twin.count(Fate::Lost));
    assert_eq!(bed.flight.pipe(), twin.count(Fate::InFlight));
    let next = bed.flight.next_lost();
    assert_eq!(
        next.map(|(range, again)| (range.start, again)),
        twin.next_lost().map(|(at, again)| (wide(at), again))
    );
    let mut start = twin.start;
    for run in bed.flight.runs.iter() {
        let end = usize::try_from(run.end).expect("small");
        for byte in &twin.bytes[start..end] {
            assert_eq!(run.fate, byte.fate);
            if run.fate == Fate::InFlight {
                assert_eq!(run.retransmitted, byte.retransmitted);
                let later = run.sent_at.saturating_since(at(byte.sent_at));
                assert!(run.sent_at >= at(byte.sent_at) && later < GRAIN + MOMENT);
                assert!(run.earliest() < at(byte.sent_at) + MOMENT);
            }
        }
        start = end;
    }
}

proptest! {
    #[test]
    fn the_record_agrees_with_one_of_every_byte(
        steps in proptest::collection::vec(step(), 1..200)
    ) {
        play(&steps);
    }

    /// Whatever a peer does, the record stays within its bounds and its sums are right.
    #[test]
    fn no_sequence_of_blocks_breaks_the_bounds(
        ends in proptest::collection::vec((1u64..3000, any::<bool>(), 0u64..30), 1..1500),
        starved in any::<bool>(),
    ) {
        let mut bed = Bed::new();
        if starved {
            bed.pool.exhaust();
        }
        bed.send(2000, 1);
        for (index, (from, sacked, len)) in ends.into_iter().enumerate() {
            let now = 100 * (index as u64 + 2);
            if sacked {
                bed.sack(from..from + len);
            } else if from % 7 == 0 {
                bed.send(bed.flight.end() + len, now);
            } else if from % 5 == 0 {
                bed.lose_left_by(now - 150);
            } else if let Some((range, _)) = bed.flight.next_lost() {
                let range = range.start..range.end.min(range.start + len.max(1));
                bed.resend(range, now);
            }
            bed.check();
        }
        let end = bed.flight.end();
        bed.acknowledge(end);
        prop_assert!(bed.flight.is_empty());
        prop_assert_eq!(bed.flight.pipe(), 0);
    }
}

#[test]
fn segments_of_one_batch_share_a_run_and_so_do_those_within_the_grain() {
    let mut bed = Bed::new();
    for (end, now) in [(10, 0), (20, 0), (30, 5), (40, 8), (50, 9)] {
        bed.send(end, now);
    }
    let runs: Vec<(u64, Instant)> = bed.flight.runs.iter().map(|r| (r.end, r.sent_at)).collect();
    assert_eq!(runs, vec![(40, at(8)), (50, at(9))]);
}

#[test]
fn a_window_of_any_size_is_some_dozen_runs() {
    let mut bed = Bed::new();
    // One round trip of 32 grains.
    for segment in 0..100_000u64 {
        bed.send(segment + 1, segment * 32 * 8 / 100_000);
    }
    assert!(
        bed.flight.runs.len() <= 33,
        "{} runs",
        bed.flight.runs.len()
    );
}

#[test]
fn a_repeated_block_is_no_news() {
    // RFC 6675 section 2.
    let mut bed = Bed::new();
    bed.send(100, 0);
    assert_eq!(bed.sack(20..40).len(), 1);
    assert_eq!(bed.sack(20..40), vec![]);
    assert_eq!(bed.sack(20..50).len(), 1);
    assert_eq!(bed.flight.sacked_bytes(), 30);
}

#[test]
fn blocks_beyond_the_bound_are_ignored_and_the_stream_still_ends() {
    // CVE-2019-11477: every other byte, thousands of times.
    let mut bed = Bed::new();
    bed.send(10_000, 0);
    for hole in 0..5000 {
        bed.sack(2 * hole + 1..2 * hole + 2);
    }
    assert!(bed.flight.runs.len() <= RUNS_MAX - RESERVE);
    assert!(bed.flight.sacked_bytes() > 100);
    bed.lose_left_by(1);
    let mut now = 1000;
    while let Some((range, _)) = bed.flight.next_lost() {
        bed.resend(range.start..range.end.min(range.start + 100), now);
        now += 1000;
        bed.check();
    }
    bed.acknowledge(10_000);
    assert!(bed.flight.is_empty());
}

#[test]
fn memory_goes_back_when_nothing_is_in_flight() {
    let mut bed = Bed::new();
    bed.send(10, 0);
    assert!(bed.flight.runs.capacity() > 0);
    bed.acknowledge(10);
    assert_eq!(bed.flight.runs.capacity(), 0);
}

#[test]
fn a_window_probe_that_is_taken_back_leaves_no_trace() {
    let mut bed = Bed::new();
    bed.send(1, 0);
    bed.flight.take_back(0, &mut bed.pool);
    assert!(bed.flight.is_empty());
    assert_eq!((bed.flight.end(), bed.flight.pipe()), (0, 0));
    bed.acknowledge(1);
    assert_eq!((bed.flight.start(), bed.flight.end()), (1, 1));
}

#[test]
fn the_tail_is_the_last_segment_that_did_not_arrive() {
    // RFC 8985 section 7.3.
    let mut bed = Bed::new();
    bed.send(5000, 0);
    assert_eq!(bed.flight.tail(1000), Some(4000..5000));
    bed.send(5300, 100);
    assert_eq!(bed.flight.tail(1000), Some(5000..5300));
    bed.sack(5000..5300);
    assert_eq!(bed.flight.tail(1000), Some(4000..5000));
    bed.sack(0..5000);
    assert_eq!(bed.flight.tail(1000), None);
}

#[test]
fn a_coarse_record_measures_no_round_trip() {
    let delivery = |spread, retransmitted| Delivery {
        range: 0..1000,
        sent_at: at(1_000),
        spread: Duration::from_micros(spread),
        retransmitted,
        held_lost: false,
    };
    let rtt = Some(Duration::from_micros(800));
    assert_eq!(delivery(0, false).round_trip(at(1_800)), rtt);
    assert_eq!(delivery(100, false).round_trip(at(1_800)), rtt);
    assert_eq!(delivery(101, false).round_trip(at(1_800)), None);
    assert_eq!(delivery(0, true).round_trip(at(1_800)), None, "Karn");
}

/// Of a repetition and the older data behind it, that data left first.
#[test]
fn a_merged_record_knows_when_its_first_segment_left() {
    let mut bed = Bed::new();
    bed.send(10, 100);
    bed.send(20, 300);
    bed.resend(0..10, 900);
    let [first, second] = [0, 1].map(|index| *bed.flight.runs.get(index).expect("two runs"));
    let mut merged = first;
    merged.join(&second);
    let delivery = merged.delivery(0..20);
    assert_eq!((delivery.sent_at, delivery.earliest()), (at(900), at(300)));
    assert!(delivery.is_coarse(at(1_000)) && !first.delivery(0..10).is_coarse(at(1_000)));
}

/// RFC 8985 section 6.2 compares times of sending: what left before a repetition must not look later than it.
#[test]
fn new_data_before_and_after_a_repetition_has_times_of_its_own() {
    let mut bed = Bed::new();
    bed.send(10, 0);
    bed.send(20, 2);
    bed.resend(0..10, 3);
    bed.send(30, 4);
    let times: Vec<Instant> = bed.flight.runs.iter().map(|run| run.sent_at).collect();
    assert_eq!(times, [at(3), at(2), at(4)]);
}

#[test]
fn of_one_moment_a_repetition_is_later_than_new_data_before_it() {
    let mut bed = Bed::new();
    bed.send(10, 0);
    bed.send(20, 50);
    bed.resend(0..10, 50);
    bed.send(30, 50);
    let times: Vec<Instant> = bed.flight.runs.iter().map(|run| run.sent_at).collect();
    assert!(times[0] > times[1] && times[2] >= times[0], "{times:?}");
    assert!(times[2] < at(51), "{times:?}");
}

/// In flight it would be in no order of time, and so never lost.
#[test]
fn what_never_left_stays_lost_when_losses_are_forgotten() {
    let mut bed = Bed::new();
    bed.send(10, 0);
    bed.send(20, 50);
    bed.flight.hold_back(&(10..20), &mut bed.pool);
    bed.send(30, 100);
    bed.flight.lose(&(0..30), &mut bed.pool);
    bed.resend(0..10, 200);
    bed.flight.forget_losses();
    bed.check();
    assert_eq!(bed.flight.next_lost(), Some((10..20, true)));
    // A peer that SACKs it lies; and takes it back.
    bed.sack(10..30);
    bed.check();
    bed.flight.forget_sacks();
    bed.check();
    assert_eq!(bed.flight.next_lost(), Some((10..20, true)));
    assert_eq!(bed.flight.pipe(), 20);
}

#[test]
fn without_room_what_is_held_back_counts_as_having_left() {
    let mut bed = Bed::new();
    bed.pool.exhaust();
    for segment in 0..8 {
        bed.send(10 * segment + 10, 100 * segment);
    }
    // No two neighbours can become one.
    for segment in [0, 2, 4, 6] {
        bed.sack(10 * segment..10 * segment + 10);
    }
    assert_eq!(bed.flight.runs.len(), bed.flight.runs.capacity());
    bed.flight.hold_back(&(78..80), &mut bed.pool);
    assert!(bed.flight.runs.iter().all(|run| !run.never_left()));
    bed.flight.hold_back(&(70..80), &mut bed.pool);
    assert!(bed.flight.runs.iter().any(Run::never_left));
    bed.send(90, 800);
    bed.check();
    assert!(bed.lose_left_by(800));
    assert_eq!(bed.flight.lost_bytes(), 50, "nothing is stranded");
}

#[test]
fn what_is_held_back_is_never_late_until_it_has_left() {
    let mut bed = Bed::new();
    bed.send(10, 0);
    bed.send(20, 50);
    bed.flight.hold_back(&(10..20), &mut bed.pool);
    bed.send(30, 100);
    assert!(bed.lose_left_by(1000));
    assert_eq!(bed.flight.lost_bytes(), 20);
    bed.resend(10..20, 2000);
    assert!(bed.lose_left_by(3000));
    assert_eq!(bed.flight.lost_bytes(), 30);
}
