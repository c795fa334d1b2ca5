//! Can this machine do what the configuration asks for? Asked before anything is changed.
//!
//! [`Facts::gather`] looks (system calls, nothing is kept but facts), [`judge`] decides (pure, so every verdict
//! has a test), [`Preflight::decide`] turns the verdicts into a backend or a refusal. Start-up and
//! `sluice doctor` run the same checks, so they always agree. Every problem says what is wrong, why, and what to
//! do; errors that only show when a program is attached or a socket bound are the crates' that do it.

mod addresses;
mod attach;
mod binding;
mod facts;
mod interface;
mod kernel;
mod lane;
mod link;
mod napi;
mod netlink;
mod ports;
mod privileges;
mod render;
mod root;
mod uploads;

#[cfg(test)]
#[path = "../tests/skip.rs"]
mod skip;
#[cfg(test)]
mod tests;

use std::fmt;

pub use addresses::served_addresses;
pub use attach::{AttachChoice, attach_choice};
pub use binding::why_bound;
pub use facts::Facts;
pub use interface::{no_mac, served_queues};
pub use kernel::{OLDEST, Release, hears_tx_metadata};
pub use lane::{Lane, LaneChoice, TxPath, lane_choice, metadata_hinders};
pub use link::{DeviceFacts, InterfaceFacts, XdpFeatures, interface as look_at_interface};
pub use napi::{Napi, napis};
pub use ports::reserve;
pub use privileges::{Privileges, raise_soft_limits};
pub use uploads::upload_remedy;

use crate::config::{Backend, Config};
use crate::limits::ActiveBackend;

/// What is wrong, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The thing and what is wrong with it.
    pub what: String,
    /// Why that matters, or what the kernel said; may be empty where `what` says it all.
    pub why: String,
    /// The next command or setting to try.
    pub fix: String,
}

impl Problem {
    /// A problem from its three parts.
    pub fn new(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    /// What and why in one sentence.
    fn statement(&self) -> String {
        match self.why.as_str() {
            "" => self.what.clone(),
            why => format!("{}: {why}", self.what),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.statement(), self.fix)
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be; the text says what was seen.
    Pass(String),
    /// Worth knowing, nothing to do.
    Info(String),
    /// It works, but not as well as it could or as asked.
    Warn(Problem),
    /// It does not work, for the best of reasons: a sluiced does it already.
    Running(Problem),
    /// It does not work.
    Fail(Problem),
}

/// Whom a failed check stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Both backends.
    Service,
    /// Both backends too: something the operator named does not exist, and a fallback would hide it.
    Named,
    /// AF_XDP; `backend = "auto"` falls back to kernel sockets.
    Xdp,
    /// Kernel sockets.
    Kernel,
}

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Whom a failure stops.
    pub scope: Scope,
    /// What was found.
    pub outcome: Outcome,
}

impl Check {
    fn pass(scope: Scope, text: impl Into<String>) -> Self {
        let outcome = Outcome::Pass(text.into());
        Self { scope, outcome }
    }

    fn info(scope: Scope, text: impl Into<String>) -> Self {
        let outcome = Outcome::Info(text.into());
        Self { scope, outcome }
    }

    fn warn(scope: Scope, problem: Problem) -> Self {
        let outcome = Outcome::Warn(problem);
        Self { scope, outcome }
    }

    fn fail(scope: Scope, problem: Problem) -> Self {
        let outcome = Outcome::Fail(problem);
        Self { scope, outcome }
    }

    /// Stops any backend: a fallback beside a sluiced that serves would hide the mistake of starting another.
    fn running(problem: Problem) -> Self {
        let outcome = Outcome::Running(problem);
        let scope = Scope::Named;
        Self { scope, outcome }
    }

    fn failure(&self) -> Option<&Problem> {
        match &self.outcome {
            Outcome::Fail(problem) | Outcome::Running(problem) => Some(problem),
            _ => None,
        }
    }
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// In the order they are shown.
    pub checks: Vec<Check>,
    backend: Backend,
}

/// What start-up does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Serve with this backend.
    Serve {
        /// The backend.
        backend: ActiveBackend,
        /// Why it is not AF_XDP although that was wanted; one line, to be logged once.
        fallback: Option<String>,
    },
    /// Do not start; every problem that stops us.
    Refuse(Vec<Problem>),
}

/// Looks at the machine and judges.
#[must_use]
pub fn run(config: &Config) -> (Facts, Preflight) {
    let facts = Facts::gather(config);
    let preflight = judge(config, &facts);
    (facts, preflight)
}

/// Judges facts. Checks of a backend that will not serve are left out: those of AF_XDP with
/// `backend = "kernel"`, those of kernel sockets where AF_XDP can run.
#[must_use]
pub fn judge(config: &Config, facts: &Facts) -> Preflight {
    let mut checks = Vec::new();
    if config.xdp.backend != Backend::Kernel {
        checks.push(kernel::check(facts));
        checks.push(privileges::capabilities(facts));
        match &facts.interface {
            None => checks.push(interface::unnamed()),
            Some(Err(error)) => checks.push(interface::missing(config, error)),
            Some(Ok(link)) => {
                checks.push(privileges::memlock(config, facts, link));
                checks.extend(interface::checks(config, facts, link));
                checks.extend(addresses::checks(config, link));
            }
        }
    }
    checks.push(privileges::descriptors(config, facts));
    checks.extend(ports::checks(config, facts));
    checks.push(root::check(config, facts));
    checks.extend(uploads::checks(config, facts));
    let mut preflight = Preflight {
        checks,
        backend: config.xdp.backend,
    };
    let needs_no_fallback = match config.xdp.backend {
        Backend::Xdp => true,
        Backend::Kernel => false,
        Backend::Auto => preflight.failures(&[Scope::Xdp]).is_empty(),
    };
    if needs_no_fallback {
        preflight
            .checks
            .retain(|check| check.scope != Scope::Kernel);
    }
    preflight
}

impl Preflight {
    /// The problems of some scopes.
    fn failures(&self, scopes: &[Scope]) -> Vec<Problem> {
        self.checks
            .iter()
            .filter(|check| scopes.contains(&check.scope))
            .filter_map(Check::failure)
            .cloned()
            .collect()
    }

    /// Warnings that concern a backend, to be logged at start.
    pub fn warnings(&self, backend: ActiveBackend) -> impl Iterator<Item = &Problem> {
        let other = match backend {
            ActiveBackend::Xdp => Scope::Kernel,
            ActiveBackend::Kernel => Scope::Xdp,
        };
        self.checks
            .iter()
            .filter(move |check| check.scope != other)
            .filter_map(|check| match &check.outcome {
                Outcome::Warn(problem) => Some(problem),
                _ => None,
            })
    }

    /// The backend to serve with, or why there is none.
    #[must_use]
    pub fn decide(&self) -> Decision {
        let always = self.failures(&[Scope::Service, Scope::Named]);
        let xdp = self.failures(&[Scope::Xdp]);
        let kernel = self.failures(&[Scope::Kernel]);
        let (backend, stops, fallback) = match self.backend {
            Backend::Xdp => (ActiveBackend::Xdp, [always, xdp].concat(), None),
            Backend::Kernel => (ActiveBackend::Kernel, [always, kernel].concat(), None),
            Backend::Auto if xdp.is_empty() => (ActiveBackend::Xdp, always, None),
            Backend::Auto => {
                // If the fallback is impossible too, both halves of the story are needed to fix either.
                let reason = fallback(&xdp);
                let stops = if kernel.is_empty() {
                    always
                } else {
                    [always, kernel, xdp].concat()
                };
                (ActiveBackend::Kernel, stops, Some(reason))
            }
        };
        if stops.is_empty() {
            Decision::Serve { backend, fallback }
        } else {
            Decision::Refuse(stops)
        }
    }

    /// Whether nothing but a sluiced that serves here keeps another one from starting.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let of = |is: fn(&Outcome) -> bool| self.checks.iter().any(|check| is(&check.outcome));
        of(|outcome| matches!(outcome, Outcome::Running(_)))
            && !of(|outcome| matches!(outcome, Outcome::Fail(_)))
    }

    /// One line per check and a summary, as `sluice doctor` prints it.
    #[must_use]
    pub fn render(&self) -> String {
        render::report(self)
    }
}

/// The one warning that says why kernel sockets are used although AF_XDP was wanted. Also for problems that
/// only show when the program is attached or the sockets are bound.
#[must_use]
pub fn fallback(problems: &[Problem]) -> String {
    let reasons: Vec<_> = problems.iter().map(Problem::to_string).collect();
    format!(
        "serving over kernel sockets, AF_XDP cannot run: {}",
        reasons.join("; ")
    )
}
