//! From a configuration to a running service and back: builds the workers, waits for signals, drains, reports.
//!
//! The supervisor never touches a packet. It owns what must outlive the workers (XDP program and link, port
//! reservations) and takes it down in the order that keeps the kernel from answering for us: workers first,
//! the link last.

mod kernel;
mod napi;
mod signals;
mod summary;
mod syn_guard;
mod team;
mod xdp;
mod xdp_worker;

use core::time::Duration;
use std::io::{stderr, stdout};

use crate::clock::monotonic;
use crate::config::{Backend, Config};
use crate::console::say;
use crate::limits::{ActiveBackend, Limits};
use crate::placement::PlacementError;
use crate::preflight::{self, Decision, Preflight, Problem};
use crate::services::{ServicesConfig, UploadConfig};
use crate::troubles::{TroubleBook, Troubles, troubles};
use rustix::process::geteuid;
use sluice_disk::UploadLimits;
use sluice_http::{RequestLimits, UploadRules};
use sluice_tcp::clock::Instant;

pub use napi::restore_all;
use signals::{Signal, Signals};
use team::Crew;

/// How often a service looks whether it can still be reached. A loss is not reported to anybody: the sockets of a
/// detached program just stay silent.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why the daemon ends before it serves, or ends badly. Each problem is shown with its fix.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, one entry per cause; empty if the log has told all of it.
    pub problems: Vec<Problem>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure {
            problems: vec![problem],
        }
    }
}

/// A backend that serves.
trait Service {
    /// One line for the log: how it serves.
    fn describe(&self) -> String;
    /// Its worker threads.
    fn team(&self) -> &dyn Crew;
    /// Whether clients can still reach it.
    fn check(&self) -> Result<(), Problem>;
    /// Acts on what the workers say of themselves. Called after every wake-up, and at least once per
    /// [`CHECK_INTERVAL`].
    fn tend(&mut self, _now: Instant) {}
    /// The report, from live workers.
    fn report(&mut self) -> String;
    /// Waits for the workers and takes everything down.
    fn stop(self: Box<Self>) -> Ended;
}

/// What is left of a service.
struct Ended {
    /// The last report.
    report: String,
    /// Workers that did not end in order.
    problems: Vec<Problem>,
}

/// Why a service stops.
enum End {
    /// A signal asked for it.
    Asked,
    /// A worker ended unasked.
    WorkerGone,
    /// Nobody can reach it any more.
    Lost(Problem),
}

/// Serves until a signal says otherwise.
///
/// # Errors
/// The problems that kept it from serving, or ended it.
pub fn serve(config: &Config) -> Result<(), Failure> {
    preflight::raise_soft_limits();
    let signals = Signals::new().map_err(|error| {
        Problem::new(
            "signal handlers cannot be set",
            error.to_string(),
            "raise the limit of open files (ulimit -n)",
        )
    })?;
    let (troubles, mut book) = troubles(geteuid().as_raw());
    let mut service = start(config, &troubles)?;
    log(&format!("ready: {}", service.describe()));
    let end = watch(&mut *service, &signals, &mut book);
    drain(&mut *service, &signals, patience(&end, config));
    let Ended { report, problems } = service.stop();
    say(stdout(), &report);
    match end {
        End::Asked if problems.is_empty() => {
            log("stopped");
            Ok(())
        }
        _ => Err(Failure { problems }),
    }
}

/// Serves until there is a reason to stop.
fn watch(service: &mut dyn Service, signals: &Signals, book: &mut TroubleBook) -> End {
    loop {
        match signals.wait(&service.team().wake_fds(), CHECK_INTERVAL) {
            Some(Signal::Report) => say(stdout(), &service.report()),
            Some(Signal::Stop) => return End::Asked,
            None => service.team().discard_late_reports(),
        }
        // First, because workers that lost their queues end too.
        if let Err(problem) = service.check() {
            return End::Lost(problem);
        }
        let now = monotonic();
        service.tend(now);
        if let Some(line) = book.line(now) {
            log(&line);
        }
        // Last, because all before may clear the wake-ups of the workers: an end after this look wakes again.
        if service.team().failed() {
            return End::WorkerGone;
        }
    }
}

/// How long running transfers get, with the reason for the log.
fn patience(end: &End, config: &Config) -> Duration {
    let limit = config.limits.drain_timeout;
    match end {
        End::Asked => log(&format!(
            "draining: running transfers have {} s, a second signal ends them at once",
            limit.as_secs()
        )),
        End::WorkerGone => log("a worker ended unexpectedly: stopping"),
        End::Lost(problem) => {
            log(&format!("stopping: {problem}"));
            // Nothing that is sent or acknowledged arrives any more.
            return Duration::ZERO;
        }
    }
    limit
}

/// Lets the workers finish, at most for `patience`.
fn drain(service: &mut dyn Service, signals: &Signals, patience: Duration) {
    service.team().drain(patience);
    while !service.team().finished() {
        match signals.wait(&service.team().wake_fds(), CHECK_INTERVAL) {
            Some(Signal::Report) => say(stdout(), &service.report()),
            Some(Signal::Stop) => service.team().drain(Duration::ZERO),
            None => service.team().discard_late_reports(),
        }
        service.tend(monotonic());
    }
}

/// Chooses the backend and starts it. `backend = "auto"` falls back to kernel sockets with one warning.
fn start(config: &Config, troubles: &Troubles) -> Result<Box<dyn Service>, Failure> {
    let (facts, preflight) = preflight::run(config);
    let backend = match preflight.decide() {
        Decision::Refuse(problems) => return Err(Failure { problems }),
        Decision::Serve { backend, fallback } => {
            if let Some(why) = fallback {
                log(&format!("warning: {why}"));
            }
            backend
        }
    };
    warn(&preflight, backend);
    match backend {
        ActiveBackend::Kernel => kernel::start(config, &facts, troubles),
        ActiveBackend::Xdp => match xdp::start(config, &facts, troubles) {
            Err(failure) if config.xdp.backend == Backend::Auto => {
                log(&format!(
                    "warning: {}",
                    preflight::fallback(&failure.problems)
                ));
                kernel::start(config, &facts, troubles)
            }
            other => other,
        },
    }
}

fn warn(preflight: &Preflight, backend: ActiveBackend) {
    for problem in preflight.warnings(backend) {
        log(&format!("warning: {problem}"));
    }
}

fn log(line: &str) {
    say(stderr(), &format!("sluiced: {line}\n"));
}

fn no_placement(error: &PlacementError) -> Problem {
    Problem::new(
        "the workers cannot be placed on CPUs",
        error.to_string(),
        "correct xdp.cores, or remove it and let the daemon choose",
    )
}

/// Pins the calling thread. A refusal costs speed, not correctness, so it is only logged.
fn pin_to(cpu: u32) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu as usize);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        log(&format!(
            "warning: cannot pin a worker to CPU {cpu}: {error}"
        ));
    }
}

fn disk_problem(what: &str, error: &dyn core::fmt::Display) -> Problem {
    Problem::new(
        what,
        error.to_string(),
        "see that the directory exists, is readable for this user, and that limits allow more files and threads",
    )
}

/// Opens what is served: once, and each worker gets a clone. Only uploads below clones of one root are given their names
/// one after the other, without which two workers can both find a precondition to hold that only one may use.
fn served_root(config: &Config) -> Result<sluice_disk::Root, Failure> {
    let Some(site) = config.sites.first() else {
        return Err(Problem::new(
            "no directory is served",
            "there is no [[site]] and no --root",
            "name one: --root DIR",
        )
        .into());
    };
    let symlinks = match site.symlinks {
        crate::config::Symlinks::Never => sluice_disk::Symlinks::Never,
        crate::config::Symlinks::InsideRoot => sluice_disk::Symlinks::InsideRoot,
    };
    sluice_disk::Root::open(&site.root, symlinks).map_err(|error| {
        disk_problem(&format!("cannot open root {}", site.root.display()), &error).into()
    })
}

/// Sizes of the uploads of a worker.
fn upload_limits(limits: &Limits) -> UploadLimits {
    let limits = &limits.worker;
    UploadLimits {
        uploads: limits.uploads as usize,
        threads: limits.upload_threads as usize,
        blocks: limits.upload_blocks as usize,
        blocks_each: limits.upload_blocks_each as usize,
        loans: limits.upload_loans as usize,
    }
}

/// Sizes of a worker's application, the same for both backends.
fn services_config(config: &Config, limits: &Limits) -> ServicesConfig {
    ServicesConfig {
        connections: limits.worker.connections as usize,
        input_bytes: limits.worker.input_bytes as usize,
        http: RequestLimits {
            header_bytes: config.limits.header_bytes as usize,
            ..RequestLimits::default()
        },
        header_timeout: config.limits.header_timeout,
        idle_timeout: config.limits.idle_timeout,
        min_rate: config.limits.min_rate,
        uploads: config.upload.enabled.then(|| UploadConfig {
            rules: UploadRules {
                max_size: config.upload.max_size,
            },
            limits: upload_limits(limits),
        }),
        request_bytes: limits.worker.request_bytes as usize,
        response_bytes: limits.worker.response_bytes as usize,
        ..ServicesConfig::default()
    }
}
