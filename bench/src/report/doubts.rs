//! What makes the numbers of a report doubtful, each with what to do about it.

use super::{Better, Contender, Report};

/// Runs that differ by more than this, relative to their median, say more about the machine than about the server.
const SPREAD_DOUBTFUL: f64 = 0.2;
/// A load average before the run beyond this means that something else was running.
const LOAD_DOUBTFUL: f64 = 0.5;
/// A client that is this busy may be what was measured, if the server is not as busy.
const BUSY: f64 = 95.0;
/// More than this of the server's CPU in other hands says that the server did not have it to itself.
const OTHERS_DOUBTFUL: f64 = 10.0;
/// More than this says that the harness did not get a CPU when a run began or ended.
const LATE_DOUBTFUL: f64 = 5.0;
/// A hypervisor that took more than this of a CPU.
const STOLEN_DOUBTFUL: f64 = 2.0;

/// Names of measures that doubts are about: whoever measures these uses them.
pub mod known {
    /// Percent of the server's CPU that were used.
    pub const SERVER_BUSY: &str = "server CPU";
    /// Percent of the client's CPU that were used.
    pub const CLIENT_BUSY: &str = "client CPU";
    /// Percent of the server's CPU that other tasks than the server used.
    pub const OTHERS: &str = "others";
    /// Percent of a CPU that the hypervisor took.
    pub const STOLEN: &str = "stolen";
    /// Percent of a run by which the time over which CPUs were counted differs from the run.
    pub const LATE: &str = "counted late";
    /// How often heat slowed a CPU down.
    pub const THROTTLED: &str = "throttled";
    /// Requests that did not end well.
    pub const FAILED: &str = "failed";
    /// Frames that the client lost itself.
    pub const CLIENT_DROPS: &str = "lost by the client";
}

/// All of them.
pub fn of(report: &Report) -> Vec<String> {
    let mut doubts = Vec::new();
    let conditions = &report.conditions;
    if cfg!(debug_assertions) && !cfg!(test) {
        doubts.push("built without optimisation: use the release profile".to_owned());
    }
    if conditions.load > LOAD_DOUBTFUL {
        doubts.push(format!(
            "load average was {:.2} before the run: something else used the CPUs; repeat on a quiet machine",
            conditions.load
        ));
    }
    if let Some(network) = &conditions.network
        && network.server_cpu == network.client_cpu
    {
        doubts.push("server and client share a CPU: their sum is measured".to_owned());
    }
    for row in &report.rows {
        for contender in &row.contenders {
            let name = format!("{}, {}", row.name, contender.name);
            doubts.extend(
                of_contender(contender, &row.decided_by).map(|doubt| format!("{name}: {doubt}")),
            );
        }
    }
    doubts
}

fn of_contender(contender: &Contender, decided_by: &str) -> impl Iterator<Item = String> {
    let median = |name| {
        let series = contender.series(name);
        series.map_or(0.0, |series| series.summary.median)
    };
    let spread = contender
        .series(decided_by)
        .filter(|series| series.measure.better != Better::Neither)
        .map_or(0.0, |series| series.summary.spread());
    let sum = |name| -> f64 {
        let series = contender.series(name);
        series.map_or(0.0, |series| series.runs.iter().sum())
    };
    let (failed, lost) = (sum(known::FAILED), sum(known::CLIENT_DROPS));
    let throttled = sum(known::THROTTLED);
    let client_bound = median(known::CLIENT_BUSY) > BUSY && median(known::SERVER_BUSY) < BUSY;
    [
        (spread > SPREAD_DOUBTFUL).then(|| {
            let percent = spread * 100.0;
            format!("runs differ by {percent:.0} % of their median: use more rounds")
        }),
        client_bound.then(|| {
            format!(
                "the client's CPU was {:.0} % busy and the server's {:.0} %: this is the speed of the client",
                median(known::CLIENT_BUSY),
                median(known::SERVER_BUSY)
            )
        }),
        (median(known::OTHERS) > OTHERS_DOUBTFUL).then(|| {
            let percent = median(known::OTHERS);
            format!("other tasks used {percent:.0} % of the server's CPU; repeat on a quiet machine")
        }),
        (median(known::LATE) > LATE_DOUBTFUL).then(|| {
            let percent = median(known::LATE);
            format!("CPUs were counted {percent:.0} % too long or too short; repeat on a quiet machine")
        }),
        (median(known::STOLEN) > STOLEN_DOUBTFUL).then(|| {
            let percent = median(known::STOLEN);
            format!("the hypervisor took {percent:.1} % of a CPU; repeat on a quiet machine")
        }),
        (throttled > 0.0)
            .then(|| format!("heat slowed the CPUs down {throttled} times; let the machine cool")),
        (failed > 0.0).then(|| format!("{failed} requests failed")),
        (lost > 0.0).then(|| {
            format!("the client lost {lost} frames itself: its limits are in these numbers; fewer connections, or another client")
        }),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Measure, sample};

    #[test]
    fn a_quiet_run_has_no_doubts() {
        assert_eq!(of(&sample::report([2.0, 2.1], [1.0, 1.0])).len(), 0);
    }

    #[test]
    fn noise_load_and_a_shared_cpu_are_doubted() {
        let mut report = sample::report([1.0, 2.0], [1.0, 1.0]);
        report.conditions.load = 1.5;
        if let Some(network) = &mut report.conditions.network {
            network.client_cpu = 0;
        }
        let doubts = of(&report);
        assert_eq!(doubts.len(), 3, "{doubts:?}");
        assert!(doubts[2].starts_with("1 flow, xdp: runs differ by 67 %"));
    }

    #[test]
    fn a_client_that_is_busier_than_the_server_is_doubted() {
        let mut report = sample::report([1.0, 1.0], [1.0, 1.0]);
        let busy = |name| Measure::plain(name, "%");
        report.rows[0].contenders[1].push_run([
            (busy(known::CLIENT_BUSY), 99.0),
            (busy(known::SERVER_BUSY), 60.0),
            (busy(known::OTHERS), 30.0),
            (busy(known::LATE), 12.0),
            (busy(known::STOLEN), 5.0),
            (busy(known::THROTTLED), 3.0),
            (busy(known::FAILED), 2.0),
            (busy(known::CLIENT_DROPS), 3.0),
        ]);
        let doubts = of(&report).join("\n");
        for doubt in [
            "speed of the client",
            "other tasks used 30 %",
            "12 % too long",
            "took 5.0 %",
            "down 3 times",
            "2 requests failed",
            "lost 3 frames itself",
        ] {
            assert!(doubts.contains(doubt), "{doubt}: {doubts}");
        }
    }
}
