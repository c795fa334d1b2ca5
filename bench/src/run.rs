//! `sluice-bench run`: scenario files, each row by its servers in turn, with a fresh server for every run.
//!
//! A server that cannot start in a row, or whose client fails, has no numbers there, and the report says why. Wrong
//! bytes end everything: nothing that was measured beside them is worth printing.
//!
//! | file | role |
//! |---|---|
//! | `beds` | the labs that runs take place in |
//! | `turns` | a row: its servers in turn |
//! | `trial` | one run of one server |
//! | `upload` | one that stores |
//! | `counting` | a run in which its system calls are counted |
//! | `goals` | what became of the goals of the file |
//! | `loader`, `curl` | the clients |
//! | `measures` | what is measured, and by which of it who wins |

mod beds;
mod counting;
mod curl;
mod goals;
mod loader;
mod measures;
mod trial;
mod turns;
mod upload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;

pub use curl::fetch;

/// Name of the measure of bulk.
pub const GOODPUT: &str = "goodput";

use crate::contestant::Contestant;
use crate::error::Error;
use crate::lab::output;
use crate::load::raise_file_limit;
use crate::offloads::OWN_CPUS;
use crate::report::{self, Conditions, Contender, Output, Report, check};
use crate::scenario::{Arrivals, Case, Client, Direction, Scenario};
use crate::seat::Seat;
use crate::syscalls;
use beds::Beds;
use turns::{Turns, not_run};

/// Name of the reports in `--out`.
const NAME: &str = "bench";

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct Options {
    /// Scenario files (docs/BENCH.md)
    #[arg(required = true, value_name = "SCENARIO.toml")]
    scenarios: Vec<PathBuf>,

    /// Rounds instead of those of the files
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Write bench.json, bench.md, bench.html and bench.hlog to this directory too
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    seat: Seat,

    #[command(flatten)]
    output: Output,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub struct CheckOptions {
    /// Reports as JSON
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Contenders that must have run in every row
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    needs: Vec<String>,
}

/// Runs every file and prints the reports.
pub fn run(options: &Options) -> Result<(), Error> {
    let read = options.scenarios.iter().map(|path| Scenario::read(path));
    let scenarios = read.collect::<Result<Vec<_>, _>>()?;
    let binary = options.seat.daemon()?;
    let mut reports = Vec::new();
    let mut wrong = Ok(());
    for mut scenario in scenarios {
        scenario.rounds = options.rounds.unwrap_or(scenario.rounds);
        let began = Instant::now();
        match measure(&scenario, &binary, &options.seat) {
            Ok(report) => reports.push(report),
            Err(error @ Error::WrongBytes { .. }) => {
                // What was measured before is not lost.
                wrong = Err(error);
                break;
            }
            Err(error) => reports.push(nothing(&scenario, &options.seat, &error)?),
        }
        let took = began.elapsed().as_secs();
        eprintln!("{}: took {took} s", scenario.name);
    }
    report::publish(reports, &options.outputs()?)?;
    wrong
}

/// The report of a scenario that ended early: nothing ran, and why.
fn nothing(scenario: &Scenario, seat: &Seat, error: &Error) -> Result<Report, Error> {
    let mut report = Report::new(&scenario.name, &scenario.about, conditions(scenario, seat)?);
    let servers = scenario.servers.iter();
    report.not_run = servers
        .map(|server| not_run("every row", *server, error.to_string()))
        .collect();
    report.goals = goals::of(scenario, &report.rows);
    Ok(report.finish())
}

/// Checks documents: the schema, and that every number is finite and follows from the runs.
pub fn run_check(options: &CheckOptions) -> Result<(), Error> {
    for path in &options.files {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(Error::io(file.clone()))?;
        let document = check::document(&text, &options.needs)
            .map_err(|what| Error::Document { file, what })?;
        let rows = document.reports.iter().map(|report| report.rows.len());
        println!(
            "{}: {} reports, {} rows: sound",
            path.display(),
            document.reports.len(),
            rows.sum::<usize>()
        );
    }
    Ok(())
}

impl Options {
    fn outputs(&self) -> Result<Output, Error> {
        let mut output = self.output.clone();
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder).map_err(Error::io(folder.display().to_string()))?;
            let within = |extension| Some(folder.join(NAME).with_extension(extension));
            output.json = output.json.or_else(|| within("json"));
            output.markdown = output.markdown.or_else(|| within("md"));
            output.html = output.html.or_else(|| within("html"));
            output.hlog = output.hlog.or_else(|| within("hlog"));
        }
        Ok(output)
    }
}

/// Runs a scenario, and each server once more to count its system calls.
pub fn measure(scenario: &Scenario, binary: &Path, seat: &Seat) -> Result<Report, Error> {
    measure_and(syscalls::missing(), scenario, binary, seat)
}

/// Runs a scenario in which system calls are nobody's question.
pub fn measure_uncounted(scenario: &Scenario, binary: &Path, seat: &Seat) -> Result<Report, Error> {
    measure_and(Some("nobody asked"), scenario, binary, seat)
}

/// `uncounted`: why no system calls are counted, if they are not.
fn measure_and(
    uncounted: Option<&str>,
    scenario: &Scenario,
    binary: &Path,
    seat: &Seat,
) -> Result<Report, Error> {
    let mut report = Report::new(&scenario.name, &scenario.about, conditions(scenario, seat)?);
    report.notes = notes(scenario);
    raise_file_limit()?;
    let real_time = real_time(scenario, &mut report);
    report.notes.push(match uncounted {
        None => "system calls: of all threads of the server, counted at the kernel's tracepoint in a further run that is not timed".to_owned(),
        Some(why) => format!("system calls are not counted: {why}"),
    });
    let mut servers = scenario.servers.clone();
    servers.retain(|server| match server.missing() {
        None => true,
        Some(why) => {
            report.not_run.push(not_run("every row", *server, why));
            false
        }
    });
    let cases = scenario.cases();
    for &mtu in &scenario.link.mtu {
        let beds = Beds::new(scenario, binary, seat, mtu, real_time)?;
        // What the closed loop of the row before gave, for percentages of it.
        let mut capacities = BTreeMap::new();
        for case in cases.iter().filter(|case| case.mtu == mtu) {
            let rate = rate(scenario, case, &capacities);
            let mut turns = Turns::new(scenario, case, &servers);
            turns.run(&beds, &rate)?;
            // At a part of a capacity latency is the question; a run of each server more would be a third of its time.
            let is_counted = !matches!(case.arrivals, Arrivals::Percent(_));
            if let (Ok(rate), None, true) = (&rate, uncounted, is_counted) {
                turns.count_calls(&beds, *rate)?;
            }
            report.warnings.extend(turns.warnings());
            let (row, missing) = turns.finish(rate.unwrap_or(None));
            if case.arrivals == Arrivals::Closed {
                capacities = row.contenders.iter().filter_map(capacity).collect();
            }
            report.not_run.extend(missing);
            if !row.contenders.is_empty() {
                report.rows.push(row);
            }
        }
    }
    report.findings = measures::beside(&report.rows);
    report.findings.extend(counting::kinds(&report.rows));
    report.goals = goals::of(scenario, &report.rows);
    Ok(report.finish())
}

/// Whether the client gets real-time priority, and what the report says of it.
fn real_time(scenario: &Scenario, report: &mut Report) -> bool {
    if !scenario.load.real_time {
        return false;
    }
    let tried = output("chrt", Command::new("chrt").args(["--fifo", "1", "true"]));
    match &tried {
        Ok(_) => report
            .notes
            .push("the client that is measured has real-time priority (FIFO 1)".to_owned()),
        Err(error) => report.warnings.push(format!(
            "the client has no real-time priority, so latency is that of the scheduler, too: {error}"
        )),
    }
    tried.is_ok()
}

/// The rate of an open loop, none for the closed one, or why it is not known.
fn rate(
    scenario: &Scenario,
    case: &Case,
    capacities: &BTreeMap<String, f64>,
) -> Result<Option<f64>, String> {
    let percent = match case.arrivals {
        Arrivals::Closed => return Ok(None),
        Arrivals::Rate(rate) => return Ok(Some(rate)),
        Arrivals::Percent(percent) => percent,
    };
    let of = scenario.load.capacity_of.map_or("", Contestant::name);
    let capacity = capacities
        .get(of)
        .ok_or_else(|| format!("the capacity of {of} is not known: its closed loop did not run"))?;
    Ok(Some(capacity * percent / 100.0))
}

fn capacity(contender: &Contender) -> Option<(String, f64)> {
    let requests = contender.series(&measures::REQUESTS.name)?;
    Some((contender.name.clone(), requests.summary.median))
}

fn conditions(scenario: &Scenario, seat: &Seat) -> Result<Conditions, Error> {
    let mut conditions = Conditions::with_network(1500, "", seat)?;
    if let Some(network) = &mut conditions.network {
        network.mtu.clone_from(&scenario.link.mtu);
        network.offloads = scenario
            .link
            .offloads
            .iter()
            .map(|set| set.name().to_owned())
            .collect();
        if scenario.link.threaded_napi {
            network.napi = "threaded NAPI on its own CPU".to_owned();
        }
        if scenario.link.own_cpus {
            network.napi = OWN_CPUS.to_owned();
        }
    }
    Ok(conditions)
}

fn notes(scenario: &Scenario) -> Vec<String> {
    let load = &scenario.load;
    let client = match load.client {
        Client::Curl if load.direction == Direction::Up => {
            "client: curl; every connection uploads one object, from tmpfs to tmpfs; the time is that of curl, until the answer"
                .to_owned()
        }
        Client::Curl => {
            "client: curl; every connection downloads one object; the time is that of curl"
                .to_owned()
        }
        Client::Idle => format!(
            "client: every connection asks once and then rests; measured for {} s",
            load.seconds
        ),
        Client::Loader | Client::Afxdp => format!(
            "client: sluice-bench load over {}, one thread; {} s after a warm-up of {} s{}",
            match load.client {
                Client::Afxdp => format!("AF_XDP and our own TCP, {} attach", load.attach.name()),
                _ => "kernel TCP".to_owned(),
            },
            load.seconds,
            load.warm_up_seconds,
            if load.keep_alive {
                ""
            } else {
                "; a new connection for every request, new namespaces for every run: none has TIME-WAIT of the one before"
            }
        ),
    };
    let mut notes = vec![
        client,
        format!(
            "{} rounds, servers in turn, in every second round the other way round, each run with a fresh server; page cache warm; every run compares one whole object",
            scenario.rounds
        ),
        "CPU is that of the whole CPU of the server, with softirqs; packets are those of the client's link in both directions, \
         a super-packet is one"
            .to_owned(),
    ];
    if scenario.servers.contains(&Contestant::XdpNapi) {
        notes.push(
            "xdp-napi: the time of the thread that receives for it is in its CPU per GB and per request, wherever that runs"
                .to_owned(),
        );
    }
    if load
        .arrivals
        .iter()
        .any(|arrivals| *arrivals != Arrivals::Closed)
    {
        notes.push("open loop: latency counts from when a request was due".to_owned());
    }
    notes
}
