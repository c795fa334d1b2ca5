//! The run in which the system calls of a server are counted, and what is made of the counts.
//!
//! Calls per GB where bodies are what is measured, per request where answers are, per second of a server that rests.
//! Kinds are details of the JSON; [`kinds`] says the frequent ones in words.

use std::borrow::Cow;

use super::trial::Bed;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::lab::Lab;
use crate::report::{Better, Measure, Row};
use crate::scenario::{Case, Client};
use crate::syscalls::{Calls, Counter};

/// The number of the round: those that are timed begin at 1.
pub const COUNTED: u32 = 0;

/// Longest time in which calls are counted.
pub const COUNTED_SECONDS: f64 = 0.3;

/// What precedes the name of a kind.
const KIND: &str = "syscalls: ";
/// Kinds that are said in words.
const SAID: usize = 5;

/// The counter of a run, from its first snapshot to its second.
pub struct Counting {
    counter: Counter,
    began: bool,
}

impl Counting {
    /// Of the server with this process id.
    pub fn of(server: u32, lab: &Lab) -> Result<Counting, Error> {
        let counter = Counter::attach(server, lab.scratch())?;
        let began = false;
        Ok(Counting { counter, began })
    }

    /// Begins, or ends what was begun.
    pub fn step(&mut self) -> Result<(), Error> {
        if self.began {
            return self.counter.end();
        }
        self.began = true;
        self.counter.begin()
    }
}

/// Runs a case once and counts.
pub fn run(
    bed: &Bed<'_>,
    server: Contestant,
    case: &Case,
    rate: Option<f64>,
) -> Result<Vec<(Measure, f64)>, Error> {
    let done = bed.run(server, case, rate, COUNTED);
    // As long as the counter is there.
    let seconds = bed.seconds();
    // Taken whatever happened: perf ends with it.
    let counting = bed.calls.take();
    let done = done?;
    let calls = counting.ok_or(Error::Lab)?.counter.finish()?;
    let (bytes, requests) = done.work;
    let (unit, of) = match bed.load.client {
        Client::Idle => ("1/s", seconds),
        _ if case.object.is_bulk() => ("1/GB", float(bytes) / 1e9),
        _ => ("1/request", float(requests)),
    };
    Ok(match of > 0.0 {
        true => values(&calls, unit, of),
        false => Vec::new(),
    })
}

fn values(calls: &Calls, unit: &'static str, of: f64) -> Vec<(Measure, f64)> {
    let measure = |name: Cow<'static, str>, detail| Measure {
        name,
        unit: unit.into(),
        better: Better::Less,
        detail,
    };
    let total = (measure("syscalls".into(), false), float(calls.total) / of);
    let kinds = calls.by_kind.iter().map(|(kind, count)| {
        let name = format!("{KIND}{kind}");
        (measure(name.into(), true), float(*count) / of)
    });
    std::iter::once(total).chain(kinds).collect()
}

/// Which calls the servers make most, a sentence for each.
pub fn kinds(rows: &[Row]) -> Vec<String> {
    let mut findings = Vec::new();
    for row in rows {
        for contender in &row.contenders {
            let kinds = contender.series.iter().filter_map(|series| {
                let kind = series.measure.name.strip_prefix(KIND)?;
                Some((kind, series))
            });
            let words: Vec<String> = kinds
                .clone()
                .take(SAID)
                .map(|(kind, series)| format!("{kind} {}", short(series.summary.median)))
                .collect();
            if let Some((_, series)) = kinds.clone().next() {
                findings.push(format!(
                    "{}, {}: system calls, {}: {}",
                    row.name,
                    contender.name,
                    series.measure.unit,
                    words.join(", ")
                ));
            }
        }
    }
    findings
}

/// Three digits or more.
fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Contender;

    #[test]
    fn the_frequent_kinds_are_said_in_words() {
        let calls = Calls {
            total: 5000,
            by_kind: vec![("sendto".to_owned(), 4000), ("ppoll".to_owned(), 3)],
        };
        let mut contender = Contender::new("xdp");
        contender.push_run(values(&calls, "1/GB", 2.0));
        assert_eq!(contender.series[0].summary.median, 2500.0);
        let mut row = Row::new("1 flow");
        row.push(contender);
        assert_eq!(
            kinds(&[row]),
            ["1 flow, xdp: system calls, 1/GB: sendto 2000, ppoll 1.5"]
        );
    }
}
