//! The checks as text, one line each: `WARN what: why  -> fix`.

use std::fmt::Write;

use super::{Decision, Outcome, Preflight, Problem};
use crate::config::{Backend, Choice};
use crate::limits::ActiveBackend;

/// Column of the arrows; longer statements push theirs to the right.
const ARROW_COLUMN: usize = 56;

pub(super) fn report(preflight: &Preflight) -> String {
    let mut out = String::new();
    let mut warnings = 0;
    let mut failures = 0;
    for check in &preflight.checks {
        match &check.outcome {
            Outcome::Pass(text) => line(&mut out, "PASS", text),
            Outcome::Info(text) => line(&mut out, "INFO", text),
            Outcome::Warn(problem) => {
                warnings += 1;
                line(&mut out, "WARN", &with_fix(problem));
            }
            Outcome::Running(problem) => line(&mut out, "RUNS", &with_fix(problem)),
            Outcome::Fail(problem) => {
                failures += 1;
                line(&mut out, "FAIL", &with_fix(problem));
            }
        }
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{failures} FAIL, {warnings} WARN: {}",
        verdict(preflight)
    );
    out
}

fn line(out: &mut String, label: &str, text: &str) {
    let _ = writeln!(out, "{label} {text}");
}

fn with_fix(problem: &Problem) -> String {
    format!(
        "{:<width$}  -> {}",
        problem.statement(),
        problem.fix,
        width = ARROW_COLUMN - "WARN   ".len()
    )
}

fn verdict(preflight: &Preflight) -> String {
    let backend = preflight.backend.name();
    match preflight.decide() {
        Decision::Refuse(_) if preflight.is_running() => "a sluiced serves here".to_owned(),
        Decision::Refuse(_) => format!("backend = \"{backend}\" does not start"),
        Decision::Serve {
            backend: ActiveBackend::Xdp,
            ..
        } => "AF_XDP starts".to_owned(),
        Decision::Serve { .. } if preflight.backend == Backend::Auto => {
            format!("AF_XDP would not start; backend = \"{backend}\" falls back to kernel sockets")
        }
        Decision::Serve { .. } => "kernel sockets start".to_owned(),
    }
}
