//! What is measured, and by which of it the servers are compared.

use crate::report::{Better, Contender, Measure, Row, known};
use crate::scenario::{Arrivals, Case, Client, Scenario};

/// Bits of bodies.
pub const GOODPUT: Measure = Measure::more(super::GOODPUT, "Gbit/s");
/// Answers.
pub const REQUESTS: Measure = Measure::more("requests", "1/s");
/// Requests of an open loop: given, not reached.
pub const ANSWERED: Measure = Measure::plain("answered", "1/s");
/// Of the whole CPU of the server.
pub const CPU_PER_GB: Measure = Measure::less("CPU per GB", "s");
/// Of the whole CPU of the server.
pub const CPU_PER_REQUESTS: Measure = Measure::less("CPU per 100k requests", "s");
/// Of the server's process.
pub const IDLE_CPU: Measure = Measure::less("CPU of the process", "%");
/// Of the server's process.
pub const MEMORY: Measure = Measure::plain("memory", "MiB");
/// That the kernel has for TCP sockets, of everybody.
pub const SOCKETS: Measure = Measure::plain("kernel's sockets", "MiB");
/// Of the server's CPU.
pub const SERVER_BUSY: Measure = Measure::plain(known::SERVER_BUSY, "%");
/// Of the client's CPU.
pub const CLIENT_BUSY: Measure = Measure::plain(known::CLIENT_BUSY, "%");
/// Of one CPU, in the server's threads; softirqs are not in it, nor what others do on the server's CPU.
pub const THREADS_BUSY: Measure = Measure::plain("server's threads", "%").detail();
/// Of the server's CPU.
pub const OTHERS: Measure = Measure::plain(known::OTHERS, "%").detail();
/// Of the time that was measured.
pub const LATE: Measure = Measure::plain(known::LATE, "%").detail();
/// Of both CPUs.
pub const STOLEN: Measure = Measure::plain(known::STOLEN, "%").detail();
/// Of both CPUs, by heat.
pub const THROTTLED: Measure = Measure::plain(known::THROTTLED, "").detail();
/// At the client's link, both directions; a super-packet is one.
pub const PACKETS: Measure = Measure::plain("packets", "1/s");
/// Requests.
pub const FAILED: Measure = Measure::plain(known::FAILED, "").detail();
/// Frames.
pub const CLIENT_DROPS: Measure = Measure::plain(known::CLIENT_DROPS, "").detail();
/// Requests.
pub const UNFINISHED: Measure = Measure::less("unfinished", "").detail();
/// The bulk flows beside.
pub const BESIDE: Measure = Measure::plain("bulk beside", "Gbit/s");
/// Half are faster.
pub const P50: Measure = Measure::less("p50", "µs");
/// One in a hundred is slower.
pub const P99: Measure = Measure::less("p99", "µs");
/// One in a thousand.
pub const P99_9: Measure = Measure::less("p99.9", "µs");
/// One in ten thousand.
pub const P99_99: Measure = Measure::less("p99.99", "µs").detail();
/// The slowest.
pub const MAX: Measure = Measure::less("max", "µs").detail();

/// The measures that decide a case, the most important first.
fn deciding(scenario: &Scenario, case: &Case) -> Vec<Measure> {
    match (scenario.load.client, case.arrivals) {
        (Client::Idle, _) => vec![IDLE_CPU],
        (Client::Loader | Client::Afxdp, Arrivals::Rate(_) | Arrivals::Percent(_)) => {
            vec![P99_9, P99]
        }
        (Client::Loader, _) if scenario.load.beside.len() > 1 => vec![P99, REQUESTS],
        _ if case.object.is_bulk() => vec![GOODPUT, CPU_PER_GB],
        _ => vec![REQUESTS, CPU_PER_REQUESTS, P99],
    }
}

/// Compares the first contender with each of the others.
pub fn compare(row: &mut Row, scenario: &Scenario, case: &Case) {
    let deciding = deciding(scenario, case);
    if let Some(first) = deciding.first() {
        row.decided_by = first.name.to_string();
    }
    let Some(first) = scenario.servers.first().map(|server| server.name()) else {
        return;
    };
    for measure in deciding
        .iter()
        .filter(|measure| measure.better != Better::Neither)
    {
        for other in &scenario.servers[1..] {
            row.compare_by(&measure.name, first, other.name(), None);
        }
    }
}

/// What stands beside the requests of a row, and what it costs the same server: of rows that differ in nothing else.
pub fn beside(rows: &[Row]) -> Vec<String> {
    let mut findings = Vec::new();
    for (parameter, what) in [("beside", "bulk flows"), ("resting", "connections at rest")] {
        for row in rows {
            let count = number(row, parameter);
            let mut alone = row.parameters.clone();
            alone.insert(parameter.to_owned(), 0.into());
            let alone = rows.iter().find(|row| row.parameters == alone);
            let Some(alone) = alone.filter(|_| count > 0) else {
                continue;
            };
            for with in &row.contenders {
                if let Some(without) = alone.find(&with.name) {
                    findings.extend(slower(with, without, &format!("{count} {what}")));
                    if parameter == "resting" {
                        findings.extend(larger(with, without, count));
                    }
                }
            }
        }
    }
    findings
}

fn number(row: &Row, parameter: &str) -> u64 {
    let value = row.parameters.get(parameter);
    value.and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// The medians of a measure in both.
fn medians(with: &Contender, without: &Contender, measure: &Measure) -> Option<[f64; 2]> {
    let median = |one: &Contender| Some(one.series(&measure.name)?.summary.median);
    Some([median(with)?, median(without)?])
}

fn slower(with: &Contender, without: &Contender, beside: &str) -> Option<String> {
    let ratio = |measure: &Measure| {
        let [with, without] =
            medians(with, without, measure).filter(|[_, without]| *without > 0.0)?;
        Some(format!(
            "{} beside {beside} is {:.2} times that alone ({with:.0} µs and {without:.0} µs)",
            measure.name,
            with / without
        ))
    };
    let words: Vec<String> = [P50, P99].iter().filter_map(ratio).collect();
    (!words.is_empty()).then(|| format!("{}: {}", with.name, words.join("; ")))
}

/// Memory for each connection at rest.
fn larger(with: &Contender, without: &Contender, connections: u64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "connections far below 2^52")]
    let each = |[with, without]: [f64; 2]| (with - without) * 1_048_576.0 / connections as f64;
    let own = each(medians(with, without, &MEMORY)?);
    let sockets = medians(with, without, &SOCKETS).map(each);
    let kernel = sockets.map_or(String::new(), |bytes| {
        format!(", and {bytes:.0} of the kernel's sockets")
    });
    Some(format!(
        "{}: {own:.0} bytes of the process for each of {connections} connections at rest{kernel}",
        with.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(load: &str) -> Scenario {
        Scenario::parse(&format!(
            "name = \"x\"\nabout = \"\"\nservers = [\"xdp\", \"nginx\"]\nrounds = 1\n[load]\nconnections = [1]\n{load}"
        ))
        .unwrap()
    }

    fn headline(load: &str) -> String {
        let scenario = scenario(load);
        let case = scenario.cases().pop().unwrap();
        let mut row = Row::new("row");
        for server in &scenario.servers {
            let all = [
                MEMORY,
                GOODPUT,
                REQUESTS,
                P99,
                P99_9,
                CPU_PER_REQUESTS,
                IDLE_CPU,
            ];
            let one = all
                .into_iter()
                .fold(Contender::new(server.name()), |one, measure| {
                    one.with(measure, vec![1.0])
                });
            row.push(one);
        }
        compare(&mut row, &scenario, &case);
        assert!(!row.comparisons.is_empty());
        row.decided_by
    }

    #[test]
    fn what_decides_follows_from_the_load() {
        assert_eq!(headline("object = [\"1GiB\"]"), "goodput");
        assert_eq!(headline("object = [\"1KiB\"]"), "requests");
        assert_eq!(
            headline("object = [\"1KiB\"]\narrivals = [\"100/s\"]"),
            "p99.9"
        );
        assert_eq!(headline("object = [\"4KiB\"]\nbeside = [0, 4]"), "p99");
        assert_eq!(
            headline("object = [\"4KiB\"]\nclient = \"idle\""),
            "CPU of the process"
        );
    }

    #[test]
    fn latency_beside_bulk_is_set_against_that_alone() {
        let row = |flows: u32, p99: f64| {
            let mut row = Row::new("row").with("beside", flows).with("mtu", 1500);
            row.push(Contender::new("xdp").with(P99, vec![p99]));
            row
        };
        let findings = beside(&[row(0, 100.0), row(4, 150.0)]);
        assert_eq!(
            findings,
            ["xdp: p99 beside 4 bulk flows is 1.50 times that alone (150 µs and 100 µs)"]
        );
    }

    #[test]
    fn memory_for_a_connection_at_rest_is_the_difference_to_none() {
        let row = |resting: u32, memory: f64, sockets: f64| {
            let mut row = Row::new("row").with("resting", resting);
            let with = [(P50, 20.0), (MEMORY, memory), (SOCKETS, sockets)];
            let mut contender = Contender::new("kernel");
            contender.push_run(with);
            row.push(contender);
            row
        };
        let findings = beside(&[row(0, 100.0, 1.0), row(1024, 101.0, 4.0)]);
        assert_eq!(
            findings,
            [
                "kernel: p50 beside 1024 connections at rest is 1.00 times that alone (20 µs and 20 µs)",
                "kernel: 1024 bytes of the process for each of 1024 connections at rest, and 3072 of the kernel's sockets"
            ]
        );
    }
}
