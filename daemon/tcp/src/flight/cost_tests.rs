//! What a verdict costs, in runs that are looked at, and that it is the verdict of one that looks at all of them.

use proptest::prelude::*;

use super::*;

const SEGMENT: u64 = 1000;
const ROUND_TRIP_US: u64 = 100_000;
/// Binary searches of a SACK block and the verdict that follows, with what they change, and no fewer than those of a
/// repetition; and a share of what it takes to merge runs where there is no room for more.
const SEARCHES: usize = 18;

fn at(micros: u64) -> Instant {
    Instant::from_nanos(1000 * micros)
}

/// A sender whose segments leave one a microsecond, and RACK as far as it concerns the record.
struct Sender {
    flight: Flight,
    pool: FlightPool,
    now: u64,
    /// RACK.xmit_ts and RACK.end_seq.
    newest: (Instant, u64),
    looks_max: usize,
    acks: usize,
}

impl Sender {
    fn new() -> Sender {
        Sender {
            flight: Flight::new(0),
            pool: FlightPool::new(1),
            now: 0,
            newest: (Instant::ZERO, 0),
            looks_max: 0,
            acks: 0,
        }
    }

    /// There is memory for so many runs, the size of a ring, and others have the rest.
    fn limit(&mut self, runs: usize) {
        self.pool.exhaust();
        self.pool.leave_ring(runs);
    }

    fn send(&mut self, segments: u64) {
        for _ in 0..segments {
            self.now += 1;
            let end = self.flight.end() + SEGMENT;
            self.flight
                .on_sent(end, at(self.now), Duration::ZERO, &mut self.pool);
        }
    }

    /// Sends again what is lost, at most so many segments; how many.
    fn repair(&mut self, segments: usize) -> usize {
        for repaired in 0..segments {
            let Some((range, _)) = self.flight.next_lost() else {
                return repaired;
            };
            self.now += 1;
            let range = range.start..range.end.min(range.start + SEGMENT);
            self.flight
                .on_sent_again(&range, at(self.now), Duration::ZERO, &mut self.pool);
        }
        segments
    }

    fn sack(&mut self, segment: u64) {
        let newest = &mut self.newest;
        let range = segment * SEGMENT..(segment + 1) * SEGMENT;
        self.flight
            .sack(range, &mut self.pool, |delivery| learn(newest, &delivery));
    }

    fn acknowledge(&mut self, segment: u64) {
        let newest = &mut self.newest;
        self.flight
            .acknowledge(segment * SEGMENT, &mut self.pool, |delivery| {
                learn(newest, &delivery);
            });
    }

    /// Step 5 of RFC 8985 section 6.2, as `rack` asks for it: whether anything was lost, and until when to wait.
    fn judge(&mut self, patience: u64) -> (bool, Option<Instant>) {
        let (now, newest) = (at(self.now), self.newest);
        let patience = Duration::from_micros(patience);
        let found = self.flight.lose_while(|pending| {
            if (pending.sent_at, pending.end) < newest && pending.sent_at + patience <= now {
                Judgement::Lose
            } else {
                Judgement::Keep
            }
        });
        let last = self.flight.newest_before(newest);
        (found, last.map(|pending| pending.sent_at + patience))
    }

    /// The same from every run: the bytes that are lost afterwards, and until when to wait.
    fn judge_by_walk(&self, patience: u64) -> (u64, Option<Instant>) {
        let patience = Duration::from_micros(patience);
        let (mut start, mut lost, mut until) = (self.flight.start, self.flight.lost_bytes, None);
        for run in self.flight.runs.iter() {
            if run.fate == Fate::InFlight && (run.sent_at, run.end) < self.newest {
                let deadline = run.sent_at + patience;
                if deadline <= at(self.now) {
                    lost += run.end - start;
                } else {
                    until = until.max(Some(deadline));
                }
            }
            start = run.end;
        }
        (lost, until)
    }

    /// One acknowledgement that reports `segment`, and the verdict that follows.
    fn hear(&mut self, segment: u64, patience: u64) {
        self.flight.runs.looks.set(0);
        self.sack(segment);
        self.judge(patience);
        self.looks_max = self.looks_max.max(self.flight.runs.looks.get());
        self.acks += 1;
    }
}

/// Whoever acknowledges what is held back is caught before RACK hears of it (see [`crate::skip`]).
fn learn(newest: &mut (Instant, u64), delivery: &Delivery) {
    if delivery.sent_at != NEVER {
        *newest = (*newest).max((delivery.sent_at, delivery.range.end));
    }
}

/// Runs that may be looked at: so many binary searches among `runs`, each with what is around its result. Less than half
/// of them all, or who looks at each would pass as well.
fn allowed(searches: usize, runs: usize) -> usize {
    let looks = searches * ((usize::BITS - runs.leading_zeros()) as usize + 3);
    assert!(looks < runs / 2, "{runs} runs are too few to tell");
    looks
}

#[test]
fn an_acknowledgement_costs_the_logarithm_of_the_holes() {
    // Each other segment is missing, and a path that reorders leaves none of them long enough to be lost: what RACK
    // waits for grows with every acknowledgement.
    let holes = 250;
    let mut sender = Sender::new();
    sender.send(2 * holes);
    sender.now += ROUND_TRIP_US;
    for hole in 0..holes {
        sender.hear(2 * hole + 1, 2 * ROUND_TRIP_US);
    }
    let runs = sender.flight.runs.len();
    assert!(runs as u64 >= 2 * holes - 1, "{runs} runs");
    let looks = sender.looks_max;
    println!("at most {looks} looks among {runs} runs");
    assert!(looks <= allowed(SEARCHES, runs), "{looks} looks");
}

#[test]
fn blocks_for_which_there_is_no_room_cost_no_more_than_others() {
    // CVE-2019-11477: every other segment, far beyond the bound.
    let mut sender = Sender::new();
    sender.send(20_000);
    sender.now += ROUND_TRIP_US;
    let mut looks = 0;
    for hole in 0..10_000 {
        sender.hear(2 * hole + 1, 2 * ROUND_TRIP_US);
        looks += sender.flight.runs.looks.get();
    }
    let runs = sender.flight.runs.len();
    let looks = looks / sender.acks;
    println!("{looks} looks among {runs} runs");
    assert!(looks <= allowed(SEARCHES, runs), "{looks} looks");
}

/// A long flow with `window` segments in flight of which one in ten is never SACKed, whatever is sent again: runs, and
/// looks for each acknowledgement and each segment that it has sent again.
fn lossy_flow(window: u64) -> (usize, usize) {
    let mut sender = Sender::new();
    let (mut looks, mut runs) = (0, 0);
    for sent in 0..10_000u64 {
        sender.send(1);
        sender.now += 50;
        let Some(arrived) = sent.checked_sub(window).filter(|arrived| arrived % 10 != 3) else {
            continue;
        };
        sender.flight.runs.looks.set(0);
        sender.sack(arrived);
        sender.judge(window * 51);
        let repaired = sender.repair(2);
        sender.acknowledge(arrived.saturating_sub(window));
        looks += sender.flight.runs.looks.get();
        sender.acks += 1 + repaired;
        runs = sender.flight.runs.len().max(runs);
    }
    (runs, looks / sender.acks)
}

#[test]
fn a_long_flow_that_loses_a_tenth_costs_the_logarithm_on_average() {
    for window in [800, 1600] {
        let (runs, looks) = lossy_flow(window);
        println!("{looks} looks among {runs} runs");
        assert!(looks <= allowed(SEARCHES, runs), "{looks} looks");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u64),
    Pass(u64),
    Sack(u64),
    Acknowledge(u64),
    Judge(u64),
    Repair(usize),
    HoldBack,
    Forget(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..20).prop_map(Step::Send),
        3 => (0u64..40).prop_map(Step::Pass),
        8 => (0u64..80).prop_map(Step::Sack),
        1 => (0u64..20).prop_map(Step::Acknowledge),
        8 => (0u64..200).prop_map(Step::Judge),
        4 => (1usize..6).prop_map(Step::Repair),
        1 => Just(Step::HoldBack),
        1 => any::<bool>().prop_map(Step::Forget),
    ]
}

/// Memory that a record may have: of the smallest ring, in which merging is tried at each change, of the next, or all.
fn rings() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![Just(Some(8)), Just(Some(64)), Just(None)]
}

proptest! {
    #[test]
    fn the_verdicts_are_those_of_a_walk_over_all_runs(
        steps in proptest::collection::vec(step(), 1..400),
        runs in rings(),
    ) {
        let mut sender = Sender::new();
        if let Some(runs) = runs {
            sender.limit(runs);
        }
        for step in steps {
            let first = sender.flight.start() / SEGMENT;
            match step {
                Step::Send(segments) => sender.send(segments),
                Step::Pass(time) => sender.now += time,
                Step::Sack(segment) => sender.sack(first + segment),
                Step::Acknowledge(segments) => {
                    let most = sender.flight.end() / SEGMENT;
                    sender.acknowledge((first + segments).min(most));
                }
                Step::Judge(patience) => {
                    let (lost, until) = sender.judge_by_walk(patience);
                    let before = sender.flight.lost_bytes();
                    prop_assert_eq!(sender.judge(patience), (lost > before, until));
                    prop_assert_eq!(sender.flight.lost_bytes(), lost);
                }
                Step::Repair(segments) => {
                    sender.repair(segments);
                }
                Step::HoldBack => {
                    sender.send(1);
                    let end = sender.flight.end();
                    sender.flight.hold_back(&(end - SEGMENT..end), &mut sender.pool);
                }
                Step::Forget(losses) if losses => sender.flight.forget_losses(),
                Step::Forget(_) => sender.flight.forget_sacks(),
            }
            if let Some(runs) = runs {
                prop_assert!(sender.flight.runs.capacity() <= runs);
            }
            let stranded = sender.flight.runs.iter().any(|run| run.never_left() && run.spread_ns > 0);
            prop_assert!(!stranded, "what left became one with what did not");
        }
    }
}
