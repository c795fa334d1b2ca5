//! What became of the goals of a scenario, for its report.

use super::measures;
use crate::report::{self, Measure, Row};
use crate::scenario::{Over, Quantity, Scenario};

/// Every goal in every row that it is about, whether that ran or not.
pub fn of(scenario: &Scenario, rows: &[Row]) -> Vec<report::Goal> {
    scenario
        .goals
        .iter()
        .map(|goal| {
            let measure = measure(goal.measure);
            let (over, unit) = match goal.over {
                None => (None, measure.unit.to_string()),
                Some(Over::Server(server)) => (Some(server), String::new()),
                Some(Over::Alone) => (Some(goal.of), String::new()),
            };
            let mut judged = report::Goal {
                measure: measure.name.to_string(),
                unit,
                of: goal.of.name().to_owned(),
                over: over.map(|server| server.name().to_owned()),
                bound: goal.bound,
                limit: goal.limit,
                when: goal.when.text(),
                results: Vec::new(),
            };
            for case in goal.cases(scenario) {
                let alone =
                    (goal.over == Some(Over::Alone)).then(|| scenario.row_name(&case.alone()));
                let result = judged.judge(rows, &scenario.row_name(&case), alone.as_deref());
                judged.results.push(result);
            }
            judged
        })
        .collect()
}

fn measure(quantity: Quantity) -> Measure {
    match quantity {
        Quantity::Goodput => measures::GOODPUT,
        Quantity::Requests => measures::REQUESTS,
        Quantity::P50 => measures::P50,
        Quantity::P99 => measures::P99,
        Quantity::P99_9 => measures::P99_9,
        Quantity::CpuPerGb => measures::CPU_PER_GB,
        Quantity::CpuPerRequests => measures::CPU_PER_REQUESTS,
        Quantity::IdleCpu => measures::IDLE_CPU,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Contender;

    /// A scenario with this `[[goal]]`.
    fn scenario(goal: &str) -> Scenario {
        Scenario::parse(&format!(
            "name = \"x\"\nabout = \"\"\nservers = [\"xdp\", \"nginx\"]\nrounds = 1\n[load]\nconnections = [1]\n\
             object = [\"4KiB\"]\narrivals = [\"100/s\"]\nbeside = [0, 4]\n[[goal]]\n{goal}"
        ))
        .unwrap()
    }

    fn row(name: &str, p99: f64) -> Row {
        let mut row = Row::new(name);
        row.push(Contender::new("xdp").with(measures::P99, vec![p99]));
        row
    }

    #[test]
    fn a_goal_over_alone_names_both_rows() {
        let scenario = scenario("measure = \"p99\"\nof = \"xdp\"\nover = \"alone\"\nat_most = 2.0");
        let rows = [
            row("4 KiB, 1 connection, alone, 100/s", 100.0),
            row("4 KiB, 1 connection, beside 4 bulk flows, 100/s", 250.0),
        ];
        let goals = of(&scenario, &rows);
        let [result] = goals[0].results.as_slice() else {
            panic!("{goals:?}");
        };
        assert_eq!(result.row, rows[1].name);
        assert_eq!(result.over_row.as_ref(), Some(&rows[0].name));
        assert_eq!(result.verdict(), "**missed** (2.50)");
    }

    #[test]
    fn a_row_that_did_not_run_is_there_as_not_known() {
        let scenario = scenario("measure = \"p99\"\nof = \"xdp\"\nbelow = 200");
        let goals = of(
            &scenario,
            &[row("4 KiB, 1 connection, alone, 100/s", 100.0)],
        );
        let met: Vec<_> = goals[0].results.iter().map(|one| one.met).collect();
        assert_eq!(met, [Some(true), None]);
        assert_eq!(goals[0].bound(), "below 200.0 µs");
    }

    #[test]
    fn every_measure_is_called_in_a_file_as_in_a_report() {
        for name in [
            "goodput",
            "requests",
            "p50",
            "p99",
            "p99.9",
            "CPU per GB",
            "CPU per 100k requests",
            "CPU of the process",
        ] {
            let value = serde_json::json!(name);
            let quantity: Quantity = serde_json::from_value(value).unwrap();
            assert_eq!(measure(quantity).name, name);
        }
    }
}
