//! `sluice-bench run`: scenario files, each row by its servers in turn, with a fresh server for every run.
//!
//! A server that cannot start in a row, or whose client fails, has no numbers there, and the report says why. Wrong
//! bytes end everything: nothing that was measured beside them is worth printing.
//!
//! | file | role |
//! |---|---|
//! | `trial` | one run of one server |
//! | `loader`, `curl` | the clients |
//! | `measures` | what is measured, and by which of it who wins |

mod curl;
mod loader;
mod measures;
mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

pub use curl::fetch;

use crate::contestant::Contestant;
use crate::error::Error;
use crate::lab::{End, Lab};
use crate::offloads::threaded_napi;
use crate::report::{self, Conditions, Contender, Latency, NotRun, Output, Report, Row, check};
use crate::scenario::{Arrivals, Case, Client, Scenario};
use crate::seat::Seat;
use crate::site::Objects;
use trial::{Bed, Done};

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

    /// Write bench.json, bench.html and bench.hlog to this directory too
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
    for mut scenario in scenarios {
        scenario.rounds = options.rounds.unwrap_or(scenario.rounds);
        reports.push(measure(&scenario, &binary, &options.seat)?);
    }
    report::publish(reports, &options.outputs()?)
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
            output.html = output.html.or_else(|| within("html"));
            output.hlog = output.hlog.or_else(|| within("hlog"));
        }
        Ok(output)
    }
}

/// Runs a scenario.
pub fn measure(scenario: &Scenario, binary: &Path, seat: &Seat) -> Result<Report, Error> {
    let mut report = Report::new(&scenario.name, &scenario.about, conditions(scenario, seat)?);
    report.notes = notes(scenario);
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
        let lab = Lab::new(mtu)?;
        // A new connection for every request uses up the ports that are there by default.
        let ports = "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range";
        lab.run(End::Client, "sh", &["-c", ports])?;
        if scenario.link.threaded_napi {
            threaded_napi(&lab, seat.client_cpu)?;
        }
        let objects = Objects::create(&lab)?;
        let bed = Bed {
            lab: &lab,
            binary,
            objects: &objects,
            seat,
            load: &scenario.load,
        };
        // What the closed loop of the row before gave, for percentages of it.
        let mut capacities = BTreeMap::new();
        for case in cases.iter().filter(|case| case.mtu == mtu) {
            case.offloads.apply(&lab)?;
            let name = scenario.row_name(case);
            let rate = rate(scenario, case, &capacities);
            let (row, failures) = alternate(scenario, &bed, case, rate, &servers)?;
            if case.arrivals == Arrivals::Closed {
                capacities = row.contenders.iter().filter_map(capacity).collect();
            }
            let failed = failures.into_iter();
            report
                .not_run
                .extend(failed.map(|(server, why)| not_run(&name, server, why)));
            if !row.contenders.is_empty() {
                report.rows.push(row);
            }
        }
    }
    report.findings = measures::beside(&report.rows);
    Ok(report.finish())
}

/// The runs of a row, in turn, and which servers failed.
fn alternate(
    scenario: &Scenario,
    bed: &Bed<'_>,
    case: &Case,
    rate: Option<Rate>,
    servers: &[Contestant],
) -> Result<(Row, Vec<(Contestant, String)>), Error> {
    let name = scenario.row_name(case);
    let mut failures: Vec<(Contestant, String)> = Vec::new();
    let mut contenders: Vec<Contender> = servers
        .iter()
        .map(|server| Contender::new(server.name()))
        .collect();
    let rate = match rate {
        None => None,
        Some(Rate::Known(rate)) => Some(rate),
        Some(Rate::Unknown(why)) => {
            failures.extend(servers.iter().map(|server| (*server, why.clone())));
            None
        }
    };
    for round in 1..=scenario.rounds {
        for (server, contender) in servers.iter().zip(&mut contenders) {
            if failures.iter().any(|(failed, _)| failed == server) {
                continue;
            }
            match bed.run(*server, case, rate, round) {
                Ok(done) => {
                    eprintln!(
                        "{}: {name}: round {round} of {}: {:11} {}",
                        scenario.name,
                        scenario.rounds,
                        server.name(),
                        done.says()
                    );
                    take(contender, done);
                }
                Err(error @ Error::WrongBytes { .. }) => return Err(error),
                Err(error) => {
                    eprintln!("{}: {name}: {}: {error}", scenario.name, server.name());
                    failures.push((*server, error.to_string()));
                }
            }
        }
    }
    let mut row = Row::new(name)
        .with("mtu", case.mtu)
        .with("offloads", case.offloads.name())
        .with("object_bytes", case.object.0)
        .with("connections", case.connections)
        .with("beside", case.beside)
        .with("keep_alive", scenario.load.keep_alive)
        .with("rate_per_s", rate);
    for (server, mut contender) in servers.iter().zip(contenders) {
        // Runs of a server that failed later are not beside those of the others.
        if failures.iter().all(|(failed, _)| failed != server) {
            contender.latency = Latency::of(&contender.intervals);
            row.push(contender);
        }
    }
    measures::compare(&mut row, scenario, case);
    Ok((row, failures))
}

fn take(contender: &mut Contender, done: Done) {
    contender.serving = Some(done.serving);
    contender.push_run(done.values);
    contender.intervals.extend(done.intervals);
    contender.timeline = done.timeline;
}

/// Of an open loop.
enum Rate {
    Known(f64),
    Unknown(String),
}

fn rate(scenario: &Scenario, case: &Case, capacities: &BTreeMap<String, f64>) -> Option<Rate> {
    let percent = match case.arrivals {
        Arrivals::Closed => return None,
        Arrivals::Rate(rate) => return Some(Rate::Known(rate)),
        Arrivals::Percent(percent) => percent,
    };
    let of = scenario.load.capacity_of.map_or("", Contestant::name);
    let unknown = || {
        Rate::Unknown(format!(
            "the capacity of {of} is not known: its closed loop did not run"
        ))
    };
    Some(
        capacities
            .get(of)
            .map_or_else(unknown, |capacity| Rate::Known(capacity * percent / 100.0)),
    )
}

fn capacity(contender: &Contender) -> Option<(String, f64)> {
    let requests = contender.series(&measures::REQUESTS.name)?;
    Some((contender.name.clone(), requests.summary.median))
}

fn not_run(row: &str, server: Contestant, why: String) -> NotRun {
    NotRun {
        row: row.to_owned(),
        contender: server.name().to_owned(),
        why,
    }
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
    }
    Ok(conditions)
}

fn notes(scenario: &Scenario) -> Vec<String> {
    let load = &scenario.load;
    let client = match load.client {
        Client::Curl => {
            "client: curl; every connection downloads one object; the time is that of curl"
                .to_owned()
        }
        Client::Idle => format!(
            "client: every connection asks once and then rests; measured for {} s",
            load.seconds
        ),
        Client::Loader => format!(
            "client: sluice-bench load over kernel TCP, one thread; {} s after a warm-up of {} s{}",
            load.seconds,
            load.warm_up_seconds,
            if load.keep_alive {
                ""
            } else {
                "; a new connection for every request"
            }
        ),
    };
    let mut notes = vec![
        client,
        format!(
            "{} rounds, servers in turn, each run with a fresh server; page cache warm; every run compares one whole object",
            scenario.rounds
        ),
        "CPU is that of the whole CPU of the server, with softirqs".to_owned(),
    ];
    if load
        .arrivals
        .iter()
        .any(|arrivals| *arrivals != Arrivals::Closed)
    {
        notes.push("open loop: latency counts from when a request was due".to_owned());
    }
    notes
}
