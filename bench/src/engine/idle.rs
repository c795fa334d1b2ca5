//! Idle connections in memory: what one costs, how long a million takes to set up, and whether a request notices them.
//!
//! A stack is filled with connections that have each carried a request and its response and then fall silent; its
//! peers are crafted segments. Requests on connections of their own then take turns with requests to an empty stack,
//! so that a ratio is of neighbours in time. Timed is what the stack does between the segment with the request and the
//! last segment of the response; parsing, checksums and the file are the same in both and left out, which makes the
//! ratio as bad as it can be.
//! `host` is a stack with its crafted peers and its clock.

mod host;

use std::alloc::System;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::Options;
use crate::error::Error;
use crate::report::{self, Conditions, Contender, Measure, Report, Row};
use crate::usage::resident_bytes;
use host::Host;

/// Counts what the stack asks for.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests of a round, to each of the two stacks and to connections that slept.
const REQUESTS: u32 = 20_000;
/// Requests before the turn goes to the other stack: both find the cache as the other left it.
const TURN: u32 = 100;
/// Idle connections that are woken for a request in a round.
const WOKEN: u32 = 2_000;
/// Virtual time until everything that was busy rests.
const SETTLE: Duration = Duration::from_secs(3);

/// The goals: bytes of an idle connection, seconds for all of them, and how many times the p99 of an empty stack.
const BYTES_MAX: f64 = 512.0;
const SETUP_MAX_S: f64 = 20.0;
const RATIO_MAX: f64 = 2.0;

/// What an idle connection costs and how long it took to get there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What the stack holds from the allocator, per connection.
    pub allocated_bytes: f64,
    /// What the process became larger by, per connection.
    pub resident_bytes: f64,
    /// From the first SYN to the last connection at rest.
    pub setup_s: f64,
}

/// Latency in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// One of a hundred takes longer.
    pub p99: f64,
}

/// One round: requests that took turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// On new connections beside the idle ones.
    pub beside: Latency,
    /// On new connections of the empty stack.
    pub empty: Latency,
    /// On connections that were idle until then.
    pub woken: Latency,
}

/// Runs the scenario with so many connections and prints its report.
pub fn run(connections: u32, options: &Options) -> Result<(), Error> {
    let conditions = Conditions::gather()?;
    let (mut full, memory) = fill(connections)?;
    eprintln!(
        "{connections} idle connections: {:.0} bytes each ({:.0} resident), set up in {:.1} s",
        memory.allocated_bytes, memory.resident_bytes, memory.setup_s
    );
    let mut empty = Host::new(connections);
    // Every table and pool is used before it is measured.
    let _ = latencies(&mut full, &mut empty, REQUESTS / 10)?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let (beside, alone) = latencies(&mut full, &mut empty, REQUESTS)?;
        let woken = woken(&mut full, WOKEN)?;
        eprintln!(
            "round {number} of {}: p99 {:.0} ns beside them, {:.0} ns alone, {:.0} ns on one of them",
            options.rounds, beside.p99, alone.p99, woken.p99
        );
        rounds.push(Round {
            beside,
            empty: alone,
            woken,
        });
    }
    let mut report = Report::new(
        "engine-idle",
        format!("{connections} idle connections in memory"),
        conditions,
    );
    report.notes = vec![
        format!(
            "each has carried a request and {} bytes of response, and rests",
            host::RESPONSE
        ),
        format!(
            "a request is timed in the stack alone, from its segment to the last of the response; {REQUESTS} per round and stack"
        ),
    ];
    report.warnings = missed(&memory);
    report.rows = vec![costs(&memory), requests(&rounds)];
    report::publish(vec![report.finish()], &options.output)
}

fn costs(memory: &Memory) -> Row {
    let mut row = Row::new("an idle connection");
    row.push(
        Contender::new("sluice")
            .with(
                Measure::less("allocated", "B"),
                vec![memory.allocated_bytes],
            )
            .with(Measure::less("resident", "B"), vec![memory.resident_bytes])
            .with(Measure::less("set-up of all", "s"), vec![memory.setup_s]),
    );
    row
}

fn requests(rounds: &[Round]) -> Row {
    let contender = |name: &str, of: fn(&Round) -> Latency| {
        let values = |value: fn(Latency) -> f64| rounds.iter().map(of).map(value).collect();
        Contender::new(name)
            .with(Measure::less("p99", "ns"), values(|latency| latency.p99))
            .with(Measure::less("p50", "ns"), values(|latency| latency.p50))
    };
    let (beside, empty) = ("new, beside the idle ones", "new, empty stack");
    let mut row = Row::new("a request");
    row.push(contender(empty, |round| round.empty));
    row.push(contender(beside, |round| round.beside));
    row.push(contender("on one that was idle", |round| round.woken));
    row.compare(beside, empty, Some(1.0 / RATIO_MAX));
    row
}

/// Goals that were missed; that of requests is one of their row.
fn missed(memory: &Memory) -> Vec<String> {
    let bytes = memory.allocated_bytes.max(memory.resident_bytes);
    let mut missed = Vec::new();
    if bytes > BYTES_MAX {
        missed.push(format!(
            "{bytes:.0} bytes per connection: the goal is {BYTES_MAX:.0}"
        ));
    }
    if memory.setup_s > SETUP_MAX_S {
        missed.push(format!(
            "set up in {:.1} s: the goal is {SETUP_MAX_S:.0} s",
            memory.setup_s
        ));
    }
    missed
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn fill(connections: u32) -> Result<(Host, Memory), Error> {
    let region = Region::new(ALLOCATOR);
    let resident = resident_bytes(std::process::id())?;
    let wall = Instant::now();
    let mut host = Host::new(connections);
    for _ in 0..connections {
        host.settle_down()?;
    }
    host.pass(SETTLE);
    let setup_s = wall.elapsed().as_secs_f64();
    host.check_all_rest(connections)?;
    let change = region.change();
    let allocated = change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated);
    let grown = resident_bytes(std::process::id())?.saturating_sub(resident);
    let memory = Memory {
        allocated_bytes: allocated as f64 / f64::from(connections),
        resident_bytes: grown as f64 / f64::from(connections),
        setup_s,
    };
    Ok((host, memory))
}

fn latencies(
    full: &mut Host,
    empty: &mut Host,
    requests: u32,
) -> Result<(Latency, Latency), Error> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..requests / TURN {
        for (host, times) in [&mut *full, &mut *empty].into_iter().zip(&mut times) {
            for _ in 0..TURN {
                times.push(host.request_on_new()?);
            }
        }
    }
    let [beside, alone] = times;
    Ok((Latency::of(beside), Latency::of(alone)))
}

fn woken(full: &mut Host, requests: u32) -> Result<Latency, Error> {
    let mut times = Vec::new();
    for _ in 0..requests {
        times.push(full.request_on_idle()?);
    }
    full.pass(SETTLE);
    Ok(Latency::of(times))
}

impl Latency {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds far below 2^52")]
    fn of(mut times: Vec<Duration>) -> Latency {
        times.sort_unstable();
        let at = |share: usize| {
            let index = times.len() * share / 100;
            let time = times.get(index.min(times.len().saturating_sub(1)));
            time.map_or(0.0, |time| time.as_nanos() as f64)
        };
        Latency {
            p50: at(50),
            p99: at(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_of_a_small_run_costs_its_share_and_serves_again() {
        let (mut full, memory) = fill(2_000).unwrap();
        assert!(memory.setup_s > 0.0);
        let mut empty = Host::new(2_000);
        let (beside, alone) = latencies(&mut full, &mut empty, 2 * TURN).unwrap();
        assert!(beside.p99 >= beside.p50 && alone.p50 > 0.0);
        assert!(woken(&mut full, 10).unwrap().p50 > 0.0);
        full.check_all_rest(2_000).unwrap();
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = (1..=200).rev().map(Duration::from_nanos).collect();
        let latency = Latency::of(times);
        assert_eq!((latency.p50, latency.p99), (101.0, 199.0));
    }

    #[test]
    fn the_resident_set_is_known() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn goals_that_were_missed_are_named() {
        let memory = Memory {
            allocated_bytes: 430.0,
            resident_bytes: 600.0,
            setup_s: 21.0,
        };
        let missed = missed(&memory).join("\n");
        assert!(
            missed.contains("600 bytes") && missed.contains("21.0 s"),
            "{missed}"
        );
        let round = |p99| {
            let latency = |p99| Latency { p50: 1000.0, p99 };
            Round {
                beside: latency(p99),
                empty: latency(2000.0),
                woken: latency(4000.0),
            }
        };
        assert_eq!(
            requests(&[round(3000.0)]).comparisons[0].is_met(),
            Some(true)
        );
        assert_eq!(
            requests(&[round(9000.0)]).comparisons[0].is_met(),
            Some(false)
        );
    }
}
