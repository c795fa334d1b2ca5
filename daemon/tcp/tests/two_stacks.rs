//! Two stacks of ours against each other, both with both roles at once: some connections are opened by one, some by the
//! other, some by both (RFC 9293 section 3.5, figure 7), over bad paths, with bytes in both directions.
//!
//! A seed decides everything: `SEEDS=n` runs n of them from `SEED` on. After each, every byte was delivered exactly once
//! at its place, both ends agree that the connection is over, and neither stack has anything left.

#[path = "simulation/chance.rs"]
mod chance;
#[expect(dead_code, reason = "the simulation uses more of it")]
#[path = "simulation/link.rs"]
mod link;
#[path = "two_stacks/world.rs"]
mod world;

use core::time::Duration;

use chance::{Chance, PARTS};
use link::Conditions;
use sluice_tcp::congestion::Algorithm;
use world::{Closes, Opens, Plan, Report, Scenario, World};

const SEEDS: u64 = 400;
const PERCENT: u32 = PARTS / 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn path(chance: &mut Chance) -> Conditions {
    let delay = Duration::from_micros(chance.pick(&[50, 1000, 20_000, 100_000]));
    let some = |chance: &mut Chance, most: u32| chance.word() % (most * PERCENT);
    Conditions {
        delay,
        loss: some(chance, 5),
        reorder: (some(chance, 10), delay * 3),
        duplicate: some(chance, 5),
        corrupt: some(chance, 1),
        jitter: delay / 4,
        ..Conditions::default()
    }
}

fn plan(chance: &mut Chance, bytes_max: u64) -> Plan {
    let bytes = |chance: &mut Chance| {
        let most = chance.pick(&[0, 1, 1460, 20_000, 300_000]);
        chance.range(0..most.min(bytes_max) + 1)
    };
    Plan {
        opens: chance.pick(&[Opens::First, Opens::Second, Opens::Both]),
        bytes: [bytes(chance), bytes(chance)],
        closes: chance.pick(&[Closes::AtOnce, Closes::FirstWaits, Closes::SecondWaits]),
        starts: chance.duration(Duration::from_secs(1)),
    }
}

fn scenario(seed: u64) -> Scenario {
    let chance = &mut Chance::new(seed);
    let flows = chance.pick(&[1, 2, 4, 16]);
    let algorithms = Algorithm::ALL;
    let receive_buffer = chance.pick(&[2000, 65_535, 1 << 20]);
    // Who closed first is in FIN-WAIT-2 for 60 s at most, and the other is to be done by then.
    let bytes_max = u64::from(receive_buffer) * 10;
    Scenario {
        plans: (0..flows).map(|_| plan(chance, bytes_max)).collect(),
        paths: [path(chance), path(chance)],
        congestion: [chance.pick(&algorithms), chance.pick(&algorithms)],
        receive_buffer,
    }
}

fn run(seed: u64, scenario: Scenario) -> Report {
    let shown = format!("{scenario:?}");
    World::new(seed, scenario)
        .run()
        .unwrap_or_else(|failure| panic!("SEED={seed}: {failure}\n{shown}"))
}

#[test]
fn both_roles_at_once_over_bad_paths_end_with_equal_bytes_and_nothing_left() {
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { SEEDS });
    let (mut segments, mut hash, mut crossed) = (0, 0_u64, 0);
    for seed in first..first + count {
        let report = run(seed, scenario(seed));
        segments += report.segments;
        crossed += report.crossed;
        hash = hash.rotate_left(1) ^ report.trace_hash;
    }
    println!("{count} seeds, {segments} segments, {crossed} crossing SYNs, trace {hash:016x}");
    assert!(crossed > 0 || count < SEEDS, "no SYNs ever crossed");
}

#[test]
fn a_seed_of_two_stacks_does_the_same_twice() {
    for seed in 5000..5020 {
        let first = run(seed, scenario(seed));
        assert_eq!(first, run(seed, scenario(seed)), "SEED={seed}");
    }
}

#[test]
fn over_a_clean_path_neither_stack_sends_anything_again() {
    for seed in 0..100 {
        let mut scenario = scenario(seed);
        for path in &mut scenario.paths {
            *path = Conditions {
                delay: path.delay,
                ..Conditions::default()
            };
        }
        // A SYN that crosses another is sent again with its acknowledgement.
        for plan in &mut scenario.plans {
            if plan.opens == Opens::Both {
                plan.opens = Opens::First;
            }
        }
        let report = run(seed, scenario);
        assert_eq!(report.sent_again, 0, "SEED={seed}");
    }
}
