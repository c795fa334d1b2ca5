//! Two stacks in memory on one core: what a segment costs our TCP and what it costs smoltcp, with the same client.
//!
//! Every server turn gets a batch of the client's acknowledgements, as a worker takes it from a ring, and sends whatever
//! the windows allow; only that is timed.
//! Connections are all busy, so the number of them shows what the tables, lists and timers of a stack cost. Servers
//! alternate, so that a ratio is of neighbours in time.
//!
//! | file | role |
//! |---|---|
//! | `idle` | another question: what a million idle connections cost (`--idle`) |
//! | `scale` | and another: what a second worker on a second core adds (`--workers`) |
//! | `client` | the ideal client: handshakes, acknowledges every second segment, checks everything |
//! | `nic` | the frames in between, and the stopwatch |
//! | `sluice`, `smol` | the two servers |
//! | `pattern` | the bytes they send |

mod client;
mod idle;
mod nic;
mod pattern;
mod scale;
mod sluice;
mod smol;

use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::Error;
use crate::measure::Summary;
use crate::report::{self, Conditions, Contender, Measure, Output, Report, Row};
use client::{Client, Faults};
use nic::{Nic, Server};
use pattern::Pattern;
use sluice::Sluice;
use smol::Smoltcp;

/// Virtual time of a round: the round-trip time that the servers see.
const ROUND: Duration = Duration::from_millis(1);
/// Rounds until every window must be full: slow start from 10 segments needs three, the handshake two.
const WARM_UP_ROUNDS: u32 = 40;

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Connections at once, one row each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1000, 10_000], value_parser = clap::value_parser!(u16).range(1..=60_000))]
    connections: Vec<u16>,

    /// Pairs of runs per row
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Segments in flight per connection: the client's window
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(2..=45))]
    window: u16,

    /// Frames the server receives before it may send: the batch of a ring
    #[arg(long, default_value_t = 64)]
    batch: usize,

    /// Least time of the server in a run, milliseconds
    #[arg(long, default_value_t = 300)]
    run_ms: u64,

    /// Who sums
    #[arg(long, value_enum, default_value_t = Checksums::Software)]
    checksums: Checksums,

    /// CPU to run on
    #[arg(long)]
    cpu: Option<usize>,

    /// Measure so many idle connections instead: memory, set-up time, and a request beside them
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    idle: Option<u32>,

    /// Compare one worker on CPU 0 with so many on as many CPUs instead, each with stack and client of its own
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=1024), conflicts_with_all = ["idle", "cpu"])]
    workers: Option<u16>,

    #[command(flatten)]
    output: Output,
}

/// Who computes and verifies checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Checksums {
    /// The stacks, of everything in both directions
    Software,
    /// A device that is not there: nobody
    Offload,
}

/// What one run of one server gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Server time per full segment sent, with its share of the acknowledgements, in nanoseconds.
    pub ns_per_segment: f64,
    /// Payload bits per second of server time, in units of 10^9.
    pub gbit_per_s: f64,
    /// Segments measured.
    pub segments: u64,
    /// Server time.
    pub seconds: f64,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    if let Some(cpu) = options.cpu {
        pin(cpu)?;
    }
    if let Some(connections) = options.idle {
        return idle::run(connections, options);
    }
    if let Some(workers) = options.workers {
        return scale::run(workers, options);
    }
    let conditions = Conditions::gather()?;
    let pattern = Pattern::new();
    let mut rows = Vec::new();
    for &connections in &options.connections {
        let (mut sluice, mut smoltcp) = (Vec::new(), Vec::new());
        let case = Case {
            connections,
            options,
            pattern: &pattern,
        };
        for round in 1..=options.rounds {
            let (ours, theirs) = (ours(&case)?, theirs(&case)?);
            eprintln!(
                "{connections:6} connections, round {round} of {}: sluice {:7.0} ns, smoltcp {:9.0} ns per segment",
                options.rounds, ours.ns_per_segment, theirs.ns_per_segment
            );
            sluice.push(ours);
            smoltcp.push(theirs);
        }
        rows.push(row(connections, &sluice, &smoltcp));
    }
    let mut report = Report::new(
        "engine",
        format!("segments of {} bytes in memory", client::MSS),
        conditions,
    );
    report.notes = options.notes();
    report.findings.extend(
        flatness(&rows).map(|flatness| {
            format!("sluice: the dearest row costs {flatness:.2} times the cheapest")
        }),
    );
    report.rows = rows;
    report::publish(vec![report.finish()], &options.output)
}

impl Options {
    fn notes(&self) -> Vec<String> {
        let checksums = match self.checksums {
            Checksums::Software => "computed and verified by both stacks",
            Checksums::Offload => "left to a device by both stacks",
        };
        vec![
            format!(
                "every connection busy, {} segments in flight each, an acknowledgement for every second segment, no loss",
                self.window
            ),
            format!(
                "a turn of the server takes {} frames and sends all that may leave",
                self.batch
            ),
            format!("checksums: {checksums}; server time only"),
        ]
    }
}

fn row(connections: u16, sluice: &[Run], smoltcp: &[Run]) -> Row {
    let contender = |name: &str, runs: &[Run]| {
        let of = |value: fn(&Run) -> f64| runs.iter().map(value).collect();
        Contender::new(name)
            .with(
                Measure::less("cost", "ns/segment"),
                of(|run| run.ns_per_segment),
            )
            .with(Measure::more("goodput", "Gbit/s"), of(|run| run.gbit_per_s))
    };
    let plural = if connections == 1 { "" } else { "s" };
    let mut row =
        Row::new(format!("{connections} connection{plural}")).with("connections", connections);
    row.push(contender("sluice", sluice));
    row.push(contender("smoltcp", smoltcp));
    row.compare("sluice", "smoltcp", None);
    row
}

/// Our dearest row over our cheapest, by medians.
fn flatness(rows: &[Row]) -> Option<f64> {
    let ours = rows
        .iter()
        .filter_map(|row| row.find("sluice")?.series.first());
    let medians: Vec<f64> = ours.map(|series| series.summary.median).collect();
    let all = Summary::of(&medians)?;
    Some(all.max / all.min)
}

fn pin(cpu: usize) -> Result<(), Error> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
        .map_err(|error| Error::io(format!("CPU {cpu}"))(error.into()))
}

fn ours(case: &Case<'_>) -> Result<Run, Error> {
    let mut nic = Nic::new(Client::new(case.connections, case.options.window));
    let mut server = case.sluice();
    case.measure("sluice", &mut server, &mut nic)
}

fn theirs(case: &Case<'_>) -> Result<Run, Error> {
    let Options {
        window, checksums, ..
    } = *case.options;
    let mut nic = Nic::new(Client::new(case.connections, window));
    let pattern = case.pattern.clone();
    let mut server = Smoltcp::new(case.connections, window, checksums, pattern, &mut nic);
    case.measure("smoltcp", &mut server, &mut nic)
}

/// What a server is measured with.
struct Case<'a> {
    connections: u16,
    options: &'a Options,
    pattern: &'a Pattern,
}

impl Case<'_> {
    fn sluice(&self) -> Sluice {
        let checksums = self.options.checksums;
        Sluice::new(self.connections, checksums, self.pattern.clone())
    }

    /// Segments of a round when every window is full.
    fn full(&self) -> u64 {
        u64::from(self.connections) * u64::from(self.options.window)
    }

    /// Warms up until every window is full, with all checks on; then times whole rounds.
    fn measure(
        &self,
        name: &'static str,
        server: &mut impl Server,
        nic: &mut Nic,
    ) -> Result<Run, Error> {
        let now = self.warm_up(name, server, nic)?;
        let (run, _) = self.timed(name, server, nic, now)?;
        Ok(run)
    }

    /// Rounds with all checks on until every window is full. Returns the time of the next one.
    fn warm_up(
        &self,
        name: &'static str,
        server: &mut impl Server,
        nic: &mut Nic,
    ) -> Result<Duration, Error> {
        // Without checksums there is nothing that a check of them could say.
        if self.options.checksums == Checksums::Software {
            nic.client().thorough = Some(self.pattern.clone());
        }
        let mut now = ROUND;
        let mut warm = 0;
        while warm < 2 {
            if now > ROUND * WARM_UP_ROUNDS {
                let what = format!("the windows were not full after {WARM_UP_ROUNDS} rounds");
                return Err(wrong(name, what));
            }
            nic.round(now, self.options.batch, server);
            now += ROUND;
            let (segments, _) = nic.client().take_received();
            warm += u32::from(nic.client().is_established() && segments == self.full());
        }
        nic.client().thorough = None;
        nic.take_time();
        Ok(now)
    }

    /// Times whole rounds from `now` on, and asks whether the client was content. Returns the time of the next one too.
    fn timed(
        &self,
        name: &'static str,
        server: &mut impl Server,
        nic: &mut Nic,
        mut now: Duration,
    ) -> Result<(Run, Duration), Error> {
        let Options {
            window,
            batch,
            run_ms,
            ..
        } = *self.options;
        let (mut time, mut segments, mut bytes) = (Duration::ZERO, 0, 0);
        while time < Duration::from_millis(run_ms) {
            nic.round(now, batch, server);
            now += ROUND;
            time += nic.take_time();
            let (more_segments, more_bytes) = nic.client().take_received();
            if more_segments != self.full() {
                let full = self.full();
                let what = format!("a round had {more_segments} segments instead of {full}");
                return Err(wrong(name, what));
            }
            segments += more_segments;
            bytes += more_bytes;
        }
        let faults = nic.client().faults();
        if faults != Faults::default() {
            return Err(wrong(name, format!("{faults:?}")));
        }
        let (least, most) = nic.client().shares();
        if most - least > u64::from(window) * u64::from(client::MSS) * u64::from(WARM_UP_ROUNDS) {
            let what = format!("connections got between {least} and {most} bytes");
            return Err(wrong(name, what));
        }
        Ok((rates(segments, bytes, time), now))
    }
}

fn wrong(backend: &'static str, what: String) -> Error {
    Error::WrongBytes { backend, what }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rates(segments: u64, bytes: u64, time: Duration) -> Run {
    Run {
        ns_per_segment: time.as_secs_f64() * 1e9 / segments as f64,
        gbit_per_s: bytes as f64 * 8.0 / time.as_secs_f64() / 1e9,
        segments,
        seconds: time.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn options(checksums: Checksums) -> Options {
        Options {
            connections: Vec::new(),
            rounds: 1,
            window: 8,
            batch: 64,
            run_ms: 1,
            checksums,
            cpu: None,
            idle: None,
            workers: None,
            output: Output::default(),
        }
    }

    /// A few rounds with every check of the client.
    fn checked(server: &mut impl Server, mut nic: Nic, connections: u64) {
        let pattern = Pattern::new();
        nic.client().thorough = Some(pattern);
        for round in 1..=12 {
            nic.round(ROUND * round, 5, server);
        }
        assert!(nic.client().is_established());
        assert_eq!(nic.client().faults(), Faults::default());
        nic.client().take_received();
        nic.round(ROUND * 13, 5, server);
        let full = 8 * connections;
        assert_eq!(
            nic.client().take_received(),
            (full, full * u64::from(client::MSS))
        );
    }

    #[test]
    fn our_stack_fills_every_window_with_the_right_bytes() {
        let server = &mut Sluice::new(33, Checksums::Software, Pattern::new());
        checked(server, Nic::new(Client::new(33, 8)), 33);
    }

    #[test]
    fn smoltcp_fills_every_window_with_the_right_bytes() {
        let mut nic = Nic::new(Client::new(33, 8));
        let server = &mut Smoltcp::new(33, 8, Checksums::Software, Pattern::new(), &mut nic);
        checked(server, nic, 33);
    }

    #[test]
    fn both_servers_can_be_measured_without_checksums_too() {
        for checksums in [Checksums::Software, Checksums::Offload] {
            let case = Case {
                connections: 3,
                options: &options(checksums),
                pattern: &Pattern::new(),
            };
            for run in [ours, theirs] {
                let run = run(&case).unwrap();
                assert!(run.segments >= 3 * 8);
            }
        }
    }

    #[test]
    fn rates_are_of_server_time() {
        let run = rates(1000, 1_448_000, Duration::from_micros(500));
        assert!((run.ns_per_segment - 500.0).abs() < 1e-9);
        assert!((run.gbit_per_s - 23.168).abs() < 1e-9);
    }

    #[test]
    fn the_advantage_is_how_many_times_our_time_the_other_takes() {
        let runs = |ns: f64| {
            [Run {
                ns_per_segment: ns,
                gbit_per_s: 11_584.0 / ns,
                segments: 1000,
                seconds: ns / 1e6,
            }]
        };
        let rows = [
            row(1, &runs(200.0), &runs(400.0)),
            row(64, &runs(250.0), &runs(1000.0)),
        ];
        assert_eq!(rows[1].comparisons[0].summary.median, 4.0);
        assert_eq!(flatness(&rows), Some(1.25));
    }
}
