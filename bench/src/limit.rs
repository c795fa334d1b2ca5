//! What the path itself carries: a bare AF_XDP transmitter and receiver over the veth pair, and our copy lane beside them.
//!
//! A copy of every frame and a trip through the driver for each is what AF_XDP costs on a veth pair; no TCP on top of it can
//! be faster. How near ours comes is the share of the limit. Transmitter, receiver and daemon sit on the same CPUs, and the
//! bulk download goes to the client over AF_XDP, which is the receiver of the limit with a TCP on it.

pub mod raw;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use clap::{Args, ValueEnum};

use crate::contestant::Contestant;
use crate::error::Error;
use crate::lab::{End, Lab, spawning};
use crate::offloads::{OffloadSet, napi_threads, pin_napi, threaded_napi};
use crate::report::{self, Conditions, Contender, Measure, Output, Report, Row};
use crate::run;
use crate::scenario::{Client, Direction, Link, Load, Scenario, Size};
use crate::seat::Seat;
use crate::usage::Receiver;
use crate::xsk::Attach;
use raw::Count;

const PROGRAM: &str = "sluice-bench raw";
/// What an Ethernet header adds to the MTU.
const ETHERNET: u32 = 14;
/// Headers of a full segment: Ethernet, IPv4, TCP with timestamps.
const HEADERS: u32 = ETHERNET + 20 + 32;
/// The least share of the limit that is good enough.
const SHARE: f64 = 0.85;
/// What the bulk flows download, MiB.
const OBJECT: Size = Size(64 << 20);
const WARM_UP: f64 = 0.3;

const LIMIT: &str = "transmitter";
const DROP: &str = "transmitter, dropped";
const LANE: &str = "copy lane";
const FRAMES: Measure = Measure::more("frames", "1/s");
const WIRE: Measure = Measure::plain("rate", "Gbit/s");
const SENT: Measure = Measure::plain("sent", "1/s");

/// Flags of the scenario.
#[derive(Args, Debug)]
pub struct Options {
    /// Lengths of frames with their Ethernet header; the copy lane runs beside full ones
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1514], value_parser = clap::value_parser!(u32).range(60..=1514))]
    frame: Vec<u32>,

    /// Where the program of the receiver runs
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["native", "generic"])]
    attach: Vec<Attach>,

    /// On which CPU an end with native XDP receives
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["softirq", "threaded"])]
    napi: Vec<Napi>,

    /// Bulk flows of the copy lane
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    flows: u32,

    /// Rounds of each row
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// What is measured of a run
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,

    #[command(flatten)]
    seat: Seat,

    #[command(flatten)]
    output: Output,
}

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Napi {
    /// The softirq of whoever sends, on the sender's CPU
    Softirq,
    /// A kernel thread on the receiver's CPU
    Threaded,
}

impl Napi {
    fn name(self) -> &'static str {
        match self {
            Napi::Softirq => "softirq",
            Napi::Threaded => "threaded",
        }
    }
}

/// A row in the making.
#[derive(Clone, Copy, Debug)]
struct Case {
    frame: u32,
    attach: Attach,
    napi: Napi,
}

/// Runs the scenario and prints its report.
pub fn run(options: &Options) -> Result<(), Error> {
    let binary = options.seat.daemon()?;
    let conditions = Conditions::with_network(1500, OffloadSet::Wire.name(), &options.seat)?;
    let mut report = Report::new("limit", "frames per second over a veth pair", conditions);
    report.notes = vec![
        "transmitter: a bare AF_XDP sender; its frames arrive at a bare AF_XDP receiver, or are dropped by an XDP program"
            .to_owned(),
        format!(
            "copy lane: {} downloads of {} from sluiced with tx_lane = \"copy\" by sluice-bench load over AF_XDP; a frame for \
             every {} bytes of body",
            options.flows,
            OBJECT.text(),
            full_frame() - HEADERS
        ),
        format!("frames are those that arrive; {} s after a warm-up of {WARM_UP} s", options.seconds),
        "NAPI: in the softirq of the sender, or in a thread on the receiver's CPU".to_owned(),
    ];
    for case in options.cases() {
        let mut row = Contenders::default();
        let mut ran_on = BTreeSet::new();
        for round in 1..=options.rounds {
            let lab = Lab::new(1500)?;
            OffloadSet::Wire.apply(&lab, Direction::Down)?;
            if case.napi == Napi::Threaded {
                threaded_napi(&lab, options.seat.client_cpu)?;
            }
            let [received, dropped] =
                [false, true].map(|drop| transmit(&lab, &case, drop, options));
            let receivers = napi_threads(&lab, End::Client)?;
            ran_on.extend(Receiver::all(&receivers).iter().map(|thread| thread.cpu));
            for (name, [arrived, left]) in [(LIMIT, received?), (DROP, dropped?)] {
                row.push(name, arrived, Some(left), case.frame);
            }
            if case.frame == full_frame() {
                let lane = lane(&case, &binary, options)?;
                row.push(LANE, lane.rate, None, case.frame);
                let doubts = lane.doubts.iter();
                report
                    .warnings
                    .extend(doubts.map(|doubt| format!("{}, {LANE}: {doubt}", case.name())));
            }
            eprintln!(
                "{}, round {round} of {}: {}",
                case.name(),
                options.rounds,
                row.says()
            );
        }
        if case.napi == Napi::Threaded {
            let (says, is_right) = where_it_ran(&ran_on, options.seat.client_cpu);
            let list = match is_right {
                true => &mut report.findings,
                false => &mut report.warnings,
            };
            list.push(format!("{}: {says}", case.name()));
        }
        report.rows.push(row.finish(&case));
    }
    report::publish(vec![report.finish()], &options.output)
}

/// Of an MTU of 1500.
fn full_frame() -> u32 {
    1500 + ETHERNET
}

impl Options {
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &attach in &self.attach {
            for &napi in &self.napi {
                // Behind the driver there is no NAPI to be had.
                if attach == Attach::Generic && napi == Napi::Threaded {
                    continue;
                }
                cases.extend(self.frame.iter().map(|&frame| Case {
                    frame,
                    attach,
                    napi,
                }));
            }
        }
        cases
    }
}

impl Case {
    fn name(&self) -> String {
        format!(
            "{} B, {}, {}",
            self.frame,
            self.attach.name(),
            self.napi.name()
        )
    }
}

/// The runs of a row, in order of appearance.
#[derive(Default)]
struct Contenders(Vec<Contender>);

impl Contenders {
    /// A run: frames per second that arrived, and that left if that was counted.
    fn push(&mut self, name: &str, arrived: f64, left: Option<f64>, frame: u32) {
        let at = self.0.iter().position(|one| one.name == name);
        let at = at.unwrap_or_else(|| {
            self.0.push(Contender::new(name));
            self.0.len() - 1
        });
        let bits = f64::from(frame) * 8.0 / 1e9;
        let sent = left.map(|left| (SENT, left));
        let run = [(FRAMES, arrived), (WIRE, arrived * bits)];
        self.0[at].push_run(run.into_iter().chain(sent));
    }

    fn says(&self) -> String {
        let words = self.0.iter().filter_map(|one| {
            let frames = one.series(&FRAMES.name)?.runs.last()?;
            Some(format!("{} {frames:.0}/s", one.name))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn finish(self, case: &Case) -> Row {
        let mut row = Row::new(case.name())
            .with("frame_bytes", case.frame)
            .with("attach", case.attach.name())
            .with("napi", case.napi.name());
        row.decided_by = FRAMES.name.to_string();
        for contender in self.0 {
            row.push(contender);
        }
        row.compare(LANE, LIMIT, Some(SHARE));
        row
    }
}

/// One run of the transmitter. Gives frames per second that arrived, and that left.
fn transmit(lab: &Lab, case: &Case, drop: bool, options: &Options) -> Result<[f64; 2], Error> {
    let Seat {
        server_cpu,
        client_cpu,
        ..
    } = options.seat;
    let mut flags = vec!["--attach", case.attach.name()];
    if drop {
        flags.push("--drop");
    }
    let (warm_up, seconds) = (WARM_UP.to_string(), options.seconds.to_string());
    flags.extend(["--warm-up", &warm_up, "--seconds", &seconds]);
    let mut receiver = Raw::start(lab, End::Client, client_cpu, "receive", &flags)?;
    receiver.wait_ready()?;
    if case.napi == Napi::Threaded {
        // Not before the receiver, as beside a client with a TCP (`Trial::place`): nothing slows this sender down, and the thread
        // would have the CPU for itself.
        pin_napi(lab, End::Client, client_cpu)?;
    }
    let file = format!("/sys/class/net/{}/address", lab.link(End::Client));
    let to = lab.run(End::Client, "cat", &[&file])?;
    // It sends until the receiver has counted for long enough.
    let (bytes, lasts) = (
        case.frame.to_string(),
        (options.seconds + 2.0 * WARM_UP).to_string(),
    );
    let flags = ["--to", to.trim(), "--bytes", &bytes, "--seconds", &lasts];
    let sender = Raw::start(lab, End::Server, server_cpu, "send", &flags)?;
    let arrived = receiver.finish();
    // If nothing was sent the receiver knows only that nothing came.
    let left = sender.finish()?;
    Ok([arrived?.rate(), left.rate()])
}

/// A running end. Dropping it kills it.
struct Raw {
    child: Child,
    stdout: Box<dyn BufRead>,
}

impl Raw {
    fn start(lab: &Lab, end: End, cpu: u32, role: &str, flags: &[&str]) -> Result<Raw, Error> {
        let own = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
        let mut command = lab.command(end, "taskset");
        command.args(["-c", &cpu.to_string()]).arg(own);
        command.args(["raw", role, "--interface", &lab.link(end)]);
        let mut child = command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(spawning(PROGRAM))?;
        let stdout = child.stdout.take().ok_or(Error::Lab)?;
        Ok(Raw {
            child,
            stdout: Box::new(BufReader::new(stdout)),
        })
    }

    /// Until a receiver counts.
    fn wait_ready(&mut self) -> Result<(), Error> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .map_err(Error::io(PROGRAM))?;
        match line.trim() {
            "ready" => Ok(()),
            _ => Err(self.failure()),
        }
    }

    fn finish(mut self) -> Result<Count, Error> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .map_err(Error::io(PROGRAM))?;
        serde_json::from_str(&line).map_err(|_| self.failure())
    }

    fn failure(&mut self) -> Error {
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // It says why it failed, or nothing.
            let _ = stderr.read_to_string(&mut said);
        }
        Error::Failed {
            program: PROGRAM.to_owned(),
            said: said.trim().to_owned(),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One run of the copy lane.
struct Lane {
    /// Full frames per second that its downloads stand for.
    rate: f64,
    /// What its own report warns of in that row.
    doubts: Vec<String>,
}

/// Runs the copy lane once.
fn lane(case: &Case, binary: &std::path::Path, options: &Options) -> Result<Lane, Error> {
    let scenario = Scenario {
        name: LANE.to_owned(),
        about: String::new(),
        servers: vec![Contestant::XdpCopy],
        rounds: 1,
        link: Link {
            threaded_napi: case.napi == Napi::Threaded,
            ..Link::default()
        },
        load: Load {
            client: Client::Afxdp,
            attach: case.attach,
            seconds: options.seconds,
            warm_up_seconds: WARM_UP,
            ..Load::of(OBJECT, options.flows)
        },
        goals: Vec::new(),
    };
    let report = run::measure_uncounted(&scenario, binary, &options.seat)?;
    let goodput = report.rows.first().and_then(|row| {
        let contender = row.contenders.first()?;
        contender.series(run::GOODPUT)?.runs.first().copied()
    });
    let goodput = goodput.ok_or_else(|| Error::Failed {
        program: LANE.to_owned(),
        said: report
            .not_run
            .first()
            .map_or_else(String::new, |one| one.why.clone()),
    })?;
    Ok(Lane {
        rate: goodput * 1e9 / 8.0 / f64::from(full_frame() - HEADERS),
        doubts: of_the_row(&report),
    })
}

/// On which CPUs the receiver's NAPI ran at the end of the transmitter's runs, and whether that is the one it belongs on.
fn where_it_ran(cpus: &BTreeSet<u32>, wanted: u32) -> (String, bool) {
    let names: Vec<String> = cpus.iter().map(u32::to_string).collect();
    match cpus.is_empty() {
        true => ("the receiver had no NAPI thread".to_owned(), false),
        false => (
            format!(
                "the receiver's NAPI thread ran on CPU {}",
                names.join(" and ")
            ),
            cpus.iter().all(|cpu| *cpu == wanted),
        ),
    }
}

/// The warnings of a report with one row that are about this row. Those about the machine the report around it has too.
fn of_the_row(report: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    for row in &report.rows {
        let about = |warning: &&String| warning.starts_with(&row.name);
        doubts.extend(report.warnings.iter().filter(about).cloned());
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{known, sample};

    #[test]
    fn what_the_lane_doubts_of_itself_is_kept_and_what_it_doubts_of_the_machine_is_not() {
        let mut report = sample::report([2.0, 2.0], [1.0, 1.0]);
        report.conditions.load = 3.0;
        report.rows[0].contenders[0].push_run([(Measure::plain(known::FAILED, ""), 2.0)]);
        let report = report.finish();
        assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
        assert_eq!(of_the_row(&report), ["1 flow, xdp: 2 requests failed"]);
    }

    #[test]
    fn a_thread_that_ran_elsewhere_or_not_at_all_is_doubted() {
        for (cpus, is_right) in [(vec![1], true), (vec![0, 1], false), (Vec::new(), false)] {
            let cpus = cpus.into_iter().collect();
            assert_eq!(where_it_ran(&cpus, 1).1, is_right, "{cpus:?}");
        }
    }

    #[test]
    fn the_share_of_the_limit_is_that_of_frames() {
        let case = Case {
            frame: 1514,
            attach: Attach::Native,
            napi: Napi::Softirq,
        };
        let mut row = Contenders::default();
        for (limit, lane) in [(500_000.0, 450_000.0), (400_000.0, 320_000.0)] {
            row.push(LIMIT, limit, Some(limit), 1514);
            row.push(LANE, lane, None, 1514);
        }
        let row = row.finish(&case);
        assert_eq!(row.name, "1514 B, native, softirq");
        assert_eq!(row.comparisons[0].pairs, [0.9, 0.8]);
        assert_eq!(row.comparisons[0].is_met(), Some(true));
        let rate = row.contenders[0].series(&WIRE.name).unwrap().runs[0];
        assert!((rate - 6.056).abs() < 1e-9, "{rate}");
        assert!(row.contenders[0].series(&SENT.name).is_some());
        assert!(
            row.contenders[1].series(&SENT.name).is_none(),
            "nobody counts what the copy lane sends"
        );
    }
}
