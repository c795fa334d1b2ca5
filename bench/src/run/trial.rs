//! One run: a fresh server, a client, and what both used meanwhile.

use std::cell::RefCell;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::counting::{COUNTED, COUNTED_SECONDS, Counting};
use super::measures::*;
use super::{curl, loader};
use crate::contestant::{Contestant, Demand, Running};
use crate::error::Error;
use crate::lab::{End, Lab};
use crate::load::Outcome;
use crate::offloads::{napi_threads, pin_napi, place_napi};
use crate::report::{Interval, Latency, Measure, Serving, Timeline};
use crate::scenario::{Case, Client, Direction, Link, Load, Size};
use crate::seat::Seat;
use crate::site::{Inbox, Objects};
use crate::usage::{Receiver, Snapshot, Usage, packets};

/// What the bulk flows beside download.
const BESIDE_OBJECT: Size = Size(64 << 20);
/// How much earlier than the requests they begin.
const BESIDE_EARLIER: Duration = Duration::from_millis(500);

/// What all runs of a scenario have in common.
pub struct Bed<'a> {
    /// The network.
    pub lab: &'a Lab,
    /// The daemon.
    pub binary: &'a Path,
    /// What is served.
    pub objects: &'a Objects,
    /// Where everything runs.
    pub seat: &'a Seat,
    /// What is asked for.
    pub load: &'a Load,
    /// Counts the system calls of the present run, if they are counted.
    pub calls: RefCell<Option<Counting>>,
    /// How the ends receive.
    pub link: &'a Link,
    /// Threads that receive for the server in the present run.
    pub receivers: RefCell<Vec<u32>>,
    /// Connections of the case that has most.
    pub most_connections: u32,
    /// Whether the client comes before everything else on its CPU.
    pub real_time: bool,
}

/// One run.
pub struct Done {
    /// How the server served.
    pub serving: Serving,
    /// A value for each measure.
    pub values: Vec<(Measure, f64)>,
    /// Latencies.
    pub intervals: Vec<Interval>,
    /// Throughput.
    pub timeline: Option<Timeline>,
    /// Body bytes and answers of what is measured.
    pub work: (u64, u64),
    /// What was not as it should have been.
    pub doubts: Vec<String>,
}

impl Done {
    /// Without a client's numbers yet.
    fn new(serving: Serving) -> Done {
        Done {
            serving,
            values: Vec::new(),
            intervals: Vec::new(),
            timeline: None,
            work: (0, 0),
            doubts: Vec::new(),
        }
    }

    /// In a few words.
    pub fn says(&self) -> String {
        let words = self
            .values
            .iter()
            .filter(|(measure, _)| !measure.detail)
            .take(3);
        let words: Vec<String> = words
            .map(|(measure, value)| format!("{} {value:.2} {}", measure.name, measure.unit))
            .collect();
        words.join(", ")
    }
}

impl Bed<'_> {
    /// Runs a case once. `rate` is that of the open loop.
    pub fn run(
        &self,
        server: Contestant,
        case: &Case,
        rate: Option<f64>,
        round: u32,
    ) -> Result<Done, Error> {
        let name = self.objects.of(case.object.0)?;
        let direction = self.load.direction;
        let inbox = match direction {
            Direction::Down => None,
            Direction::Up => Some(Inbox::create(self.lab)?),
        };
        let root = inbox
            .as_ref()
            .map_or(&self.objects.root, |inbox| &inbox.root);
        let demand = Demand {
            direction,
            connections: case.open_connections(),
            most_connections: self.most_connections,
        };
        let running = server.start(self.lab, self.binary, root, self.seat, &demand)?;
        let mut done = Done::new(running.serving(self.lab)?);
        if round == COUNTED {
            let counting = Counting::of(running.pid(), self.lab)?;
            self.calls.replace(Some(counting));
        }
        match (self.load.client, &inbox) {
            (Client::Curl, Some(inbox)) => {
                self.upload(&running, case, &name, inbox, server, &mut done)?
            }
            (Client::Curl, None) => self.curl(&running, case, &name, server, &mut done)?,
            (Client::Idle, _) => self.idle(&running, case, &name, &mut done)?,
            (Client::Loader | Client::Afxdp, _) => {
                self.load(&running, case, rate, &name, round, &mut done)?
            }
        }
        running.stop()?;
        if let Some(inbox) = &inbox {
            inbox.check(server.name(), case.object.0)?;
        }
        Ok(done)
    }

    /// Seconds that are measured of a run: fewer if all that is measured is a ratio of counts.
    pub(super) fn seconds(&self) -> f64 {
        // At rest there is so little to count that it takes its time.
        let is_short = self.load.client != Client::Idle && self.calls.borrow().is_some();
        let most = if is_short { COUNTED_SECONDS } else { f64::MAX };
        self.load.seconds.min(most)
    }

    /// Counters of now; with those of the client's link if a process is in its namespace.
    pub(super) fn snapshot(
        &self,
        running: &Running,
        within: Option<u32>,
    ) -> Result<Snapshot, Error> {
        let link = self.lab.link(End::Client);
        let link = within.map(|pid| (pid, link.as_str()));
        if let Some(counting) = self.calls.borrow_mut().as_mut() {
            counting.step()?;
        }
        Snapshot::take(self.seat, running.pid(), &self.receivers.borrow(), link)
    }

    fn curl(
        &self,
        running: &Running,
        case: &Case,
        name: &str,
        server: Contestant,
        done: &mut Done,
    ) -> Result<(), Error> {
        let cpu = self.seat.client_cpu;
        self.place()?;
        curl::verify(self.lab, self.objects, name, server.name())?;
        let (moved, usage) = self.moving(running, || {
            curl::fetch(self.lab, name, case.connections, cpu)
        })?;
        let (bytes, _) = moved;
        let expected = case.object.0 * u64::from(case.connections);
        if bytes != expected {
            return Err(Error::WrongBytes {
                backend: server.name(),
                what: format!("{bytes} bytes arrived instead of {expected}"),
            });
        }
        self.bulk(case, moved, &usage, done)
    }

    /// Bytes and seconds of a transfer by curl, and what both ends used meanwhile.
    pub(super) fn moving(
        &self,
        running: &Running,
        transfer: impl FnOnce() -> Result<(u64, f64), Error>,
    ) -> Result<((u64, f64), Usage), Error> {
        let packets = self.packets()?;
        let before = self.snapshot(running, None)?;
        let moved = transfer()?;
        let mut usage = self.snapshot(running, None)?.since(&before);
        usage.packets = self.packets()?.saturating_sub(packets);
        Ok((moved, usage))
    }

    /// Of the client's link so far: a look into its namespace that takes too long for a snapshot.
    fn packets(&self) -> Result<u64, Error> {
        let devices = self.lab.run(End::Client, "cat", &["/proc/net/dev"])?;
        Ok(packets(&devices, &self.lab.link(End::Client)).unwrap_or(0))
    }

    /// What is measured of objects that curl moved in so many seconds.
    pub(super) fn bulk(
        &self,
        case: &Case,
        (bytes, seconds): (u64, f64),
        usage: &Usage,
        done: &mut Done,
    ) -> Result<(), Error> {
        done.work = (bytes, u64::from(case.connections));
        done.values.push((GOODPUT, gbit_per_s(bytes, seconds)));
        done.values
            .push((CPU_PER_GB, usage.serving_s() / gigabytes(bytes)));
        done.values
            .push((PACKETS, float(usage.packets) / usage.seconds));
        self.common(usage, done)
    }

    fn idle(
        &self,
        running: &Running,
        case: &Case,
        name: &str,
        done: &mut Done,
    ) -> Result<(), Error> {
        let mut before = None;
        let mut begin = |_| {
            before = Some(self.snapshot(running, None)?);
            Ok(())
        };
        let usage = if case.connections == 0 {
            self.place()?;
            thread::sleep(Duration::from_secs_f64(self.load.warm_up_seconds));
            begin(0)?;
            thread::sleep(Duration::from_secs_f64(self.seconds()));
            self.snapshot(running, None)?
        } else {
            let mut after = None;
            let mut end = |_| {
                after = Some(self.snapshot(running, None)?);
                Ok(())
            };
            let mut client =
                loader::start(self, name, case.connections, &["--idle".to_owned()], false)?;
            let outcome = client.attend(&mut begin, &mut end)?;
            whole(&outcome, running)?;
            after.ok_or(Error::Lab)?
        };
        let usage = usage.since(&before.ok_or(Error::Lab)?);
        done.values
            .push((IDLE_CPU, 100.0 * usage.process_s / usage.seconds));
        self.common(&usage, done)
    }

    fn load(
        &self,
        running: &Running,
        case: &Case,
        rate: Option<f64>,
        name: &str,
        round: u32,
        done: &mut Done,
    ) -> Result<(), Error> {
        let beside = self.beside(case)?;
        let mut flags = Vec::new();
        if let Some(rate) = rate {
            flags.extend(["--rate".to_owned(), rate.to_string()]);
        }
        if !self.load.keep_alive {
            flags.push("--close".to_owned());
        }
        if self.load.direction == Direction::Up {
            flags.push("--upload".to_owned());
        }
        if case.resting > 0 {
            flags.extend(["--resting".to_owned(), case.resting.to_string()]);
        }
        let (mut before, mut after) = (None, None);
        if self.load.client == Client::Afxdp {
            let attach = self.load.attach.name();
            flags.extend(["--client", "afxdp", "--attach", attach].map(str::to_owned));
        }
        let mut client = loader::start(self, name, case.connections, &flags, self.real_time)?;
        let outcome = client.attend(
            &mut |pid| {
                before = Some(self.snapshot(running, Some(pid))?);
                Ok(())
            },
            &mut |pid| {
                after = Some(self.snapshot(running, Some(pid))?);
                Ok(())
            },
        )?;
        let usage = after
            .zip(before)
            .map(|(after, before)| after.since(&before));
        let mut usage = usage.ok_or(Error::Lab)?;
        usage.client_s = (usage.client_s - outcome.waited_s).max(0.0);
        all_rest(&outcome, case)?;
        done.intervals = client.intervals(round, outcome.seconds)?;
        self.evaluate(case, rate, &outcome, &usage, done);
        if let Some(mut beside) = beside {
            let bulk = beside.attend(&mut |_| Ok(()), &mut |_| Ok(()))?;
            done.values
                .push((BESIDE, gbit_per_s(bulk.bytes, bulk.seconds)));
        }
        self.common(&usage, done)
    }

    /// Puts the threads that receive where they belong, and remembers those of the server. They begin when a program is
    /// attached, so this is done in every run.
    pub(super) fn place(&self) -> Result<(), Error> {
        if self.link.own_cpus {
            place_napi(self.lab, End::Server, self.seat.server_cpu)?;
            place_napi(self.lab, End::Client, self.seat.client_cpu)?;
        }
        if self.link.threaded_napi {
            // A client that looks for frames all the time would let it wait.
            let put = match self.load.client {
                Client::Afxdp => place_napi,
                Client::Loader | Client::Curl | Client::Idle => pin_napi,
            };
            put(self.lab, End::Client, self.seat.client_cpu)?;
        }
        let receivers = napi_threads(self.lab, End::Server)?;
        self.receivers.replace(receivers);
        Ok(())
    }

    /// Threads that receive and did not run where they belong.
    fn misplaced(&self) -> Result<Vec<String>, Error> {
        let Link {
            own_cpus,
            threaded_napi,
            ..
        } = *self.link;
        let mut doubts = Vec::new();
        for (end, cpu, is_placed) in [
            (End::Server, self.seat.server_cpu, own_cpus),
            (End::Client, self.seat.client_cpu, own_cpus || threaded_napi),
        ] {
            if is_placed {
                let ran = Receiver::all(&napi_threads(self.lab, end)?);
                let elsewhere = ran
                    .iter()
                    .find(|thread| thread.has_run() && thread.cpu != cpu);
                doubts.extend(elsewhere.map(|thread| {
                    let at = thread.cpu;
                    format!("{end:?}: NAPI ran on CPU {at} instead of {cpu}")
                }));
            }
        }
        Ok(doubts)
    }

    /// The bulk flows, which begin before the requests and end after them.
    fn beside(&self, case: &Case) -> Result<Option<loader::Loader<'_>>, Error> {
        if case.beside == 0 {
            return Ok(None);
        }
        let name = self.objects.of(BESIDE_OBJECT.0)?;
        let seconds = self.seconds() + self.load.warm_up_seconds + 1.0;
        let flags = ["--seconds".to_owned(), seconds.to_string()];
        let loader = loader::start(self, &name, case.beside, &flags, false)?;
        thread::sleep(BESIDE_EARLIER);
        Ok(Some(loader))
    }

    fn evaluate(
        &self,
        case: &Case,
        rate: Option<f64>,
        outcome: &Outcome,
        usage: &Usage,
        done: &mut Done,
    ) {
        let per_s = |count: u64| float(count) / outcome.seconds;
        let is_bulk = case.object.is_bulk();
        let answered = if rate.is_some() { ANSWERED } else { REQUESTS };
        let goodput = (GOODPUT, gbit_per_s(outcome.bytes, outcome.seconds));
        // What was answered after the end was not paid for before it.
        done.work = (outcome.bytes, outcome.answers);
        if is_bulk {
            done.values.push(goodput);
        } else {
            done.values
                .extend([(answered, per_s(outcome.requests)), goodput]);
        }
        if let Some(latency) = Latency::of(&done.intervals).filter(|_| !is_bulk) {
            done.values.extend([
                (P50, latency.p50_us),
                (P99, latency.p99_us),
                (P99_9, latency.p99_9_us),
                (P99_99, latency.p99_99_us),
                (MAX, latency.max_us),
            ]);
        }
        // The CPU of bulk beside is not that of the requests.
        if case.beside == 0 && is_bulk && outcome.bytes > 0 {
            done.values
                .push((CPU_PER_GB, usage.serving_s() / gigabytes(outcome.bytes)));
        }
        if case.beside == 0 && !is_bulk && outcome.answers > 0 {
            done.values.push((
                CPU_PER_REQUESTS,
                usage.serving_s() / float(outcome.answers) * 1e5,
            ));
        }
        let packets = float(usage.packets) / usage.seconds;
        done.values.extend([
            (LATE, 100.0 * (usage.seconds / outcome.seconds - 1.0).abs()),
            (PACKETS, packets),
            (FAILED, float(outcome.failed)),
            (CLIENT_DROPS, float(outcome.lost.total())),
            (UNFINISHED, float(outcome.unfinished)),
        ]);
        if is_bulk {
            done.intervals.clear();
        }
        done.timeline = Some(timeline(outcome, is_bulk));
    }

    /// What is measured of every run.
    fn common(&self, usage: &Usage, done: &mut Done) -> Result<(), Error> {
        let percent = |seconds: f64| 100.0 * seconds / usage.seconds;
        done.values.extend([
            (SERVER_BUSY, percent(usage.server_s)),
            (CLIENT_BUSY, percent(usage.client_s)),
            (THREADS_BUSY, percent(usage.process_s)),
            (STOLEN, percent(usage.stolen_s)),
            (MEMORY, mebibytes(usage.resident)),
            (OTHERS, percent(usage.others_s)),
        ]);
        // Of those of a client in the kernel nobody could tell the server's.
        let is_known = self.load.client == Client::Afxdp && self.load.resting != [0];
        if let Some(sockets) = usage.sockets.filter(|_| is_known) {
            done.values.push((SOCKETS, mebibytes(sockets)));
        }
        if let Some(times) = usage.throttled {
            done.values.push((THROTTLED, float(times)));
        }
        done.doubts = self.misplaced()?;
        Ok(())
    }
}

/// What is measured beside fewer connections than were asked for is something else.
fn all_rest(outcome: &Outcome, case: &Case) -> Result<(), Error> {
    if outcome.at_rest == u64::from(case.resting) {
        return Ok(());
    }
    Err(Error::Failed {
        program: "sluice-bench load".to_owned(),
        said: format!(
            "{} of {} connections rested to the end",
            outcome.at_rest, case.resting
        ),
    })
}

/// Idle connections that were not answered are none.
fn whole(outcome: &Outcome, running: &Running) -> Result<(), Error> {
    if outcome.failed == 0 {
        return Ok(());
    }
    let why = outcome.first_failure.as_deref().unwrap_or_default();
    Err(Error::Failed {
        program: "sluice-bench load".to_owned(),
        said: format!(
            "{} connections of process {} failed: {why}",
            outcome.failed,
            running.pid()
        ),
    })
}

fn timeline(outcome: &Outcome, is_bulk: bool) -> Timeline {
    let values = outcome
        .slices
        .iter()
        .map(|[bytes, requests]| match is_bulk {
            true => gbit_per_s(*bytes, outcome.slice_s),
            false => float(*requests) / outcome.slice_s,
        });
    Timeline {
        interval_s: outcome.slice_s,
        unit: if is_bulk { "Gbit/s" } else { "requests/s" }.to_owned(),
        values: values.collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes >> 10) / 1024.0
}

fn gigabytes(bytes: u64) -> f64 {
    float(bytes) / 1e9
}

fn gbit_per_s(bytes: u64, seconds: f64) -> f64 {
    8.0 * gigabytes(bytes) / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_in_the_unit_of_its_load() {
        let outcome = Outcome {
            slice_s: 0.1,
            slices: vec![[125_000_000, 7], [0, 0]],
            ..Outcome::default()
        };
        assert_eq!(timeline(&outcome, true).values, [10.0, 0.0]);
        let requests = timeline(&outcome, false);
        assert!((requests.values[0] - 70.0).abs() < 1e-9);
        assert_eq!(requests.unit, "requests/s");
    }
}
