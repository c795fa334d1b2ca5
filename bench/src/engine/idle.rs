//! Idle connections in memory: what one costs, how long a million takes to set up, and whether a request notices them.
//!
//! A stack is filled with connections that have each carried a request and its response and then fall silent; its
//! peers are crafted segments. Requests on connections of their own then take turns with requests to an empty stack,
//! so that a ratio is of neighbours in time. Timed is what the stack does between the segment with the request and the
//! last segment of the response; parsing, checksums and the file are the same in both and left out, which makes the
//! ratio as bad as it can be.
//!
//! | file | role |
//! |---|---|
//! | `host` | a stack, its crafted peers and its clock |
//! | `report` | table and JSON |

mod host;
mod report;

use std::alloc::System;
use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::Options;
use crate::environment::Machine;
use crate::error::Error;
use host::Host;
use report::Report;

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

/// What an idle connection costs and how long it took to get there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// What the stack holds from the allocator, per connection.
    pub allocated_bytes: f64,
    /// What the process became larger by, per connection.
    pub resident_bytes: f64,
    /// From the first SYN to the last connection at rest.
    pub setup_s: f64,
}

/// Latency in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// One of a hundred takes longer.
    pub p99: f64,
}

/// One round: requests that took turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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
    let machine = Machine::gather()?;
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
    let report = Report {
        scenario: "engine-idle",
        connections,
        response_bytes: host::RESPONSE,
        requests: REQUESTS,
        machine,
        memory,
        rounds,
    };
    print!("{}", report.markdown());
    if let Some(path) = &options.json {
        fs::write(path, report.json()).map_err(Error::io(path.display().to_string()))?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn fill(connections: u32) -> Result<(Host, Memory), Error> {
    let region = Region::new(ALLOCATOR);
    let resident = resident_bytes()?;
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
    let grown = resident_bytes()?.saturating_sub(resident);
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

/// Resident set of this process: `man 5 proc_pid_statm`.
fn resident_bytes() -> Result<u64, Error> {
    const PATH: &str = "/proc/self/status";
    let status = fs::read_to_string(PATH).map_err(Error::io(PATH))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
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
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
