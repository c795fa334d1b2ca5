//! Deterministic simulation: our stack against many small clients over a bad path, from a seed.
//!
//! `SEEDS=n` runs n seeds instead of a few hundred, from `SEED` on; `SEED=n` alone runs that one and prints every
//! segment. A seed decides everything, so what it does today it does tomorrow.
//!
//! After each seed every byte is where it belongs, exactly once, both ends agree that the connection is over, and
//! neither connection nor timer nor TIME-WAIT entry is left. Meanwhile states follow each other as RFC 9293 has it,
//! nothing stalls, and the client has checked every segment for position, window, acknowledgement and options.

#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/scenario.rs"]
mod scenario;
#[path = "simulation/world.rs"]
mod world;

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use scenario::Scenario;
use sluice_tcp::congestion::Algorithm;
use world::{Report, World};

/// Seeds of a run without `SEEDS`.
const SEEDS: u64 = 600;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What this thread has used of a core, which is not what the clock shows beside other work.
fn core_time() -> Duration {
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").expect("procfs is there");
    let nanos = used.split_whitespace().next().expect("three numbers");
    Duration::from_nanos(nanos.parse().expect("a number"))
}

/// Runs a seed; a panic is a failure like any other.
fn run(seed: u64, scenario: Scenario, trace: bool) -> Result<Report, String> {
    let mut world = World::new(seed, scenario);
    world.trace = trace.then(String::new);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()))
        .unwrap_or_else(|_| Err("it panicked".to_owned()));
    if let Some(trace) = &world.trace {
        println!("{trace}");
    }
    result.map_err(|failure| {
        format!(
            "seed {seed}: {failure}\nreplay: SEED={seed} cargo test -p sluice-tcp --test simulation -- --nocapture"
        )
    })
}

#[test]
fn every_seed_ends_with_equal_bytes_and_nothing_left() {
    let single = number("SEED").is_some() && number("SEEDS").is_none();
    let first = number("SEED").unwrap_or(0);
    let count = if single {
        1
    } else {
        number("SEEDS").unwrap_or(SEEDS)
    };
    let began = core_time();
    let (mut segments, mut given_up, mut withheld, mut merged) = (0, 0, 0, 0);
    let (mut marked, mut marks_heard) = (0, 0);
    let (mut hash, mut failures) = (0_u64, Vec::new());
    for seed in first..first + count {
        match run(seed, Scenario::of(seed), single) {
            Ok(report) => {
                segments += report.segments;
                given_up += report.given_up;
                withheld += report.withheld;
                merged += report.merged;
                marked += report.marked;
                marks_heard += report.marks_heard;
                hash = hash.rotate_left(1) ^ report.trace_hash;
            }
            Err(failure) => failures.push(failure),
        }
        if failures.len() >= 3 {
            break;
        }
    }
    let seconds = core_time().saturating_sub(began).as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let per_second = segments as f64 / seconds;
    println!(
        "{count} seeds, {segments} segments, {withheld} held back, {merged} ACKs merged, {marked} marked, {marks_heard} \
         reductions for it, {per_second:.0} segments per core-second, trace {hash:016x}"
    );
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    assert!(
        given_up <= count / 1000,
        "{given_up} handshakes were given up"
    );
    assert!(
        merged > 0 || single,
        "runs of ACKs are what half of the seeds are for"
    );
    assert!(
        marks_heard > 0 || single,
        "no window was reduced for any of {marked} marks"
    );
}

#[test]
fn a_seed_does_the_same_twice() {
    for seed in 1000..1020 {
        let first = run(seed, Scenario::of(seed), false).expect("the seed passes");
        let second = run(seed, Scenario::of(seed), false).expect("the seed passes");
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Polled by runs, which the driver cuts, a stack does what it does polled one by one: the same segments at the same
/// times, and between them every view of a connection is the same.
#[test]
fn runs_leave_as_their_segments_would_one_by_one() {
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { 120 });
    let mut longest = 0;
    for seed in first..first + count {
        let algorithm = Algorithm::ALL[usize::try_from(seed % 4).expect("four")];
        for scenario in [Scenario::of(seed), Scenario::clean(seed)] {
            let [by_one, by_run] = [false, true].map(|runs| {
                let scenario = Scenario {
                    congestion: algorithm,
                    runs,
                    is_watched: true,
                    ..scenario.clone()
                };
                run(seed, scenario, false).unwrap_or_else(|failure| panic!("{failure}"))
            });
            longest = longest.max(by_run.longest_run);
            let by_run = Report {
                longest_run: by_one.longest_run,
                ..by_run
            };
            assert_eq!(by_run, by_one, "seed {seed}");
        }
    }
    assert!(longest == 45 || count < 100, "{longest} segments at most");
}

#[test]
fn nothing_is_sent_again_over_a_path_that_loses_nothing() {
    let mut withheld = 0;
    for seed in 0..200 {
        let single = number("SEED") == Some(seed);
        let report = run(seed, Scenario::clean(seed), single).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(report.sent_again, 0, "seed {seed}");
        withheld += report.withheld;
    }
    // What is held back as a test is not lost either.
    assert!(withheld > 100, "{withheld}");
}

/// An honest client is never caught: `every_seed_ends_with_equal_bytes_and_nothing_left` would fail.
#[test]
fn a_client_that_acknowledges_what_it_does_not_have_is_reset() {
    // More, and its first ACK names what never left: it is challenged, and nobody gets anywhere.
    for lead in 1..=8 {
        for sack in [true, false] {
            let scenario = Scenario::optimist(lead, sack);
            let report = run(lead, scenario, false).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(report.optimists, 1, "{lead} segments ahead, SACK {sack}");
        }
    }
}

#[test]
fn a_router_that_says_what_passes_costs_no_time_out() {
    for seed in 0..200 {
        let report =
            run(seed, Scenario::narrow(seed, true), false).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(report.timeouts, 0, "seed {seed}");
    }
}

#[test]
fn a_black_hole_is_survived_by_every_connection() {
    let mut black_holes = 0;
    for seed in 0..200 {
        let report =
            run(seed, Scenario::narrow(seed, false), false).unwrap_or_else(|e| panic!("{e}"));
        black_holes += report.black_holes;
    }
    assert!(black_holes > 100, "{black_holes}");
}

#[test]
fn a_terrible_path_is_survived() {
    for seed in 0..200 {
        run(seed, Scenario::terrible(seed), false).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// Mbit/s of a download, the mean of some seeds.
fn goodput(congestion: Algorithm, loss: u32, round_trip_ms: u64) -> f64 {
    const BYTES: u64 = 8 << 20;
    const SEEDS: u64 = 3;
    let round_trip = Duration::from_millis(round_trip_ms);
    let took: Duration = (0..SEEDS)
        .map(|seed| {
            let scenario = Scenario::download(congestion, BYTES, loss, round_trip);
            let report = run(seed, scenario, false).unwrap_or_else(|failure| panic!("{failure}"));
            report.took
        })
        .sum();
    #[allow(clippy::cast_precision_loss)]
    let bits = (BYTES * SEEDS * 8) as f64;
    bits / took.as_secs_f64() / 1e6
}

#[test]
fn goodput_under_loss_is_near_what_the_loss_rate_allows() {
    let percent = chance::PARTS / 100;
    println!("Mbit/s of 100, by loss in percent and round trip in ms (1, 20, 80)");
    for congestion in [Algorithm::Cubic, Algorithm::NewReno] {
        for loss in [0, percent / 10, percent, 3 * percent] {
            let row = [1, 20, 80].map(|round_trip| goodput(congestion, loss, round_trip));
            println!(
                "{congestion:?} {:>4} {row:6.1?}",
                f64::from(loss) / f64::from(percent)
            );
            if loss < percent {
                continue;
            }
            // Mathis, Semke, Mahdavi and Ott 1997: MSS / RTT * sqrt(3/2) / sqrt(p). A sender that lives from
            // time-outs is far below it.
            let probability = f64::from(loss) / f64::from(chance::PARTS);
            for (round_trip, reached) in [0.020, 0.080].into_iter().zip(&row[1..]) {
                let allowed = 1448.0 * 8.0 / round_trip * (1.5 / probability).sqrt() / 1e6;
                assert!(
                    *reached > 0.6 * allowed,
                    "{congestion:?} at {loss}: {reached} of {allowed}"
                );
            }
        }
    }
}
