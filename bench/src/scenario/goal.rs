//! What a scenario is held to: a `[[goal]]` of its file. docs/BENCH.md lists every key.
//!
//! A goal bounds a measure of one server: over that of another in the same row, over its own with nothing beside, or by
//! itself. It is about the rows that `when` names, or all. One that no run could ever meet or miss, because a server does not
//! take part or a row does not measure it, is an error when the file is read. Whether it is met, `report::Goal` says from
//! what was measured.

use clap::ValueEnum;
use serde::Deserialize;

use super::{Arrivals, Case, Client, Load, Scenario, Size};
use crate::contestant::Contestant;
use crate::offloads::OffloadSet;
use crate::report::Bound;

/// One goal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Goal {
    /// Of what.
    pub measure: Quantity,
    /// Whose.
    pub of: Contestant,
    /// What it is divided by; without it the measure itself is bounded, in its unit.
    pub over: Option<Over>,
    /// Which side of `limit` is good enough.
    pub bound: Bound,
    /// Above 0.
    pub limit: f64,
    /// In which rows.
    pub when: When,
}

/// Measures that a goal can be about, by their names in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Quantity {
    /// Bits of bodies.
    #[serde(rename = "goodput")]
    Goodput,
    /// Answers of a closed loop.
    #[serde(rename = "requests")]
    Requests,
    /// Half are faster.
    #[serde(rename = "p50")]
    P50,
    /// One in a hundred is slower.
    #[serde(rename = "p99")]
    P99,
    /// One in a thousand is slower.
    #[serde(rename = "p99.9")]
    P99_9,
    /// Of the whole CPU of the server.
    #[serde(rename = "CPU per GB")]
    CpuPerGb,
    /// Of the whole CPU of the server.
    #[serde(rename = "CPU per 100k requests")]
    CpuPerRequests,
    /// Of a server at rest.
    #[serde(rename = "CPU of the process")]
    IdleCpu,
}

/// What a measure is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Over {
    /// The same of another server, run by run.
    Server(Contestant),
    /// The same of the same server, in the row in which nothing is beside or at rest.
    Alone,
}

/// Rows by what they are; a list that is left out is about all of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Of `link.mtu`.
    pub mtu: Option<Vec<u16>>,
    /// Of `link.offloads`.
    pub offloads: Option<Vec<OffloadSet>>,
    /// Of `load.object`.
    pub object: Option<Vec<Size>>,
    /// Of `load.connections`.
    pub connections: Option<Vec<u32>>,
    /// Of `load.resting`.
    pub resting: Option<Vec<u32>>,
    /// Of `load.beside`.
    pub beside: Option<Vec<u32>>,
    /// Of `load.arrivals`.
    pub arrivals: Option<Vec<Arrivals>>,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    measure: Quantity,
    of: Contestant,
    over: Option<Over>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    below: Option<f64>,
    #[serde(default)]
    when: When,
}

impl TryFrom<Written> for Goal {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Goal, Self::Error> {
        let (bound, limit) = match (written.at_least, written.at_most, written.below) {
            (Some(limit), None, None) => (Bound::AtLeast, limit),
            (None, Some(limit), None) => (Bound::AtMost, limit),
            (None, None, Some(limit)) => (Bound::Below, limit),
            _ => return Err("a goal has one bound: write at_least, at_most or below"),
        };
        // What is printed decides, with two digits.
        if !(0.01..=1e9).contains(&limit) {
            return Err("the bound of a goal: write a number from 0.01 to 1e9");
        }
        Ok(Goal {
            measure: written.measure,
            of: written.of,
            over: written.over,
            bound,
            limit,
            when: written.when,
        })
    }
}

impl TryFrom<String> for Over {
    type Error = String;

    fn try_from(text: String) -> Result<Over, String> {
        match (text.as_str(), Contestant::from_str(&text, false)) {
            ("alone", _) => Ok(Over::Alone),
            (_, Ok(server)) => Ok(Over::Server(server)),
            _ => Err(format!(
                "\"{text}\" is no server; write one of servers, or \"alone\""
            )),
        }
    }
}

impl Goal {
    /// Whether it can be met or missed in every row that it is about.
    pub fn check(&self, scenario: &Scenario) -> Result<(), String> {
        self.check_servers(scenario)?;
        self.when.check(scenario)?;
        let cases = self.cases(scenario);
        if cases.is_empty() {
            return Err("over = \"alone\": no row has anything beside; write 0 and another number in load.beside or load.resting, and not 0 alone in when".to_owned());
        }
        let unmeasured = |case: &&Case| !self.measure.is_measured(&scenario.load, case);
        match cases.iter().find(unmeasured) {
            None => Ok(()),
            Some(case) => Err(format!(
                "measure: nobody measures it in the row \"{}\"; it needs {}, or narrow the rows by when",
                scenario.row_name(case),
                self.measure.needs()
            )),
        }
    }

    fn check_servers(&self, scenario: &Scenario) -> Result<(), String> {
        let over = match self.over {
            Some(Over::Server(server)) => Some(("over", server)),
            _ => None,
        };
        if over == Some(("over", self.of)) {
            return Err("over: a server over itself is 1; name another, or \"alone\" for the same without what is beside".to_owned());
        }
        let absent = |(_, server): &(&str, Contestant)| !scenario.servers.contains(server);
        match [("of", self.of)].into_iter().chain(over).find(absent) {
            None => Ok(()),
            Some((key, server)) => Err(format!(
                "{key}: {} does not take part; name one of servers, or add it there",
                server.name()
            )),
        }
    }

    /// Those that it is about.
    pub fn cases(&self, scenario: &Scenario) -> Vec<Case> {
        let all = scenario.cases();
        let is_meant = |case: &&Case| {
            let alone = case.alone();
            let has_other =
                self.over != Some(Over::Alone) || (alone != **case && all.contains(&alone));
            has_other && self.when.holds(case)
        };
        all.iter().filter(is_meant).cloned().collect()
    }
}

impl Quantity {
    /// Whether the runs of a case have it.
    fn is_measured(self, load: &Load, case: &Case) -> bool {
        let asks = matches!(load.client, Client::Loader | Client::Afxdp);
        let is_bulk = case.object.is_bulk();
        match self {
            Quantity::Goodput => load.client != Client::Idle,
            Quantity::Requests => asks && !is_bulk && case.arrivals == Arrivals::Closed,
            Quantity::P50 | Quantity::P99 | Quantity::P99_9 => asks && !is_bulk,
            Quantity::CpuPerGb => {
                load.client == Client::Curl || (asks && is_bulk && case.beside == 0)
            }
            Quantity::CpuPerRequests => asks && !is_bulk && case.beside == 0,
            Quantity::IdleCpu => load.client == Client::Idle,
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Quantity::Goodput => "client = \"loader\", \"afxdp\" or \"curl\"",
            Quantity::Requests => {
                "client = \"loader\" or \"afxdp\", objects below 1 MiB and arrivals \"closed\""
            }
            Quantity::P50 | Quantity::P99 | Quantity::P99_9 => {
                "client = \"loader\" or \"afxdp\" and objects below 1 MiB"
            }
            Quantity::CpuPerGb => "client = \"curl\", or objects from 1 MiB on with nothing beside",
            Quantity::CpuPerRequests => {
                "client = \"loader\" or \"afxdp\" and objects below 1 MiB with nothing beside"
            }
            Quantity::IdleCpu => "client = \"idle\"",
        }
    }
}

impl When {
    fn holds(&self, case: &Case) -> bool {
        has(self.mtu.as_deref(), &case.mtu)
            && has(self.offloads.as_deref(), &case.offloads)
            && has(self.object.as_deref(), &case.object)
            && has(self.connections.as_deref(), &case.connections)
            && has(self.resting.as_deref(), &case.resting)
            && has(self.beside.as_deref(), &case.beside)
            && has(self.arrivals.as_deref(), &case.arrivals)
    }

    /// Whether every value stands in the scenario too. The lists of a scenario multiply, so then there is a row for it.
    fn check(&self, scenario: &Scenario) -> Result<(), String> {
        let Scenario { link, load, .. } = scenario;
        let known = [
            ("link.mtu", are_of(self.mtu.as_deref(), &link.mtu)),
            (
                "link.offloads",
                are_of(self.offloads.as_deref(), &link.offloads),
            ),
            ("load.object", are_of(self.object.as_deref(), &load.object)),
            (
                "load.connections",
                are_of(self.connections.as_deref(), &load.connections),
            ),
            (
                "load.resting",
                are_of(self.resting.as_deref(), &load.resting),
            ),
            ("load.beside", are_of(self.beside.as_deref(), &load.beside)),
            (
                "load.arrivals",
                are_of(self.arrivals.as_deref(), &load.arrivals),
            ),
        ];
        match known.iter().find(|(_, known)| !known) {
            None => Ok(()),
            Some((list, _)) => Err(format!(
                "when.{}: no row is so; write values of {list}, or leave the key out for all of them",
                list.split_once('.').map_or(*list, |(_, key)| key)
            )),
        }
    }

    /// In words; empty if it is about all rows.
    pub fn text(&self) -> String {
        let number = |value: &u32| value.to_string();
        let words = [
            listed("MTU", self.mtu.as_deref(), |mtu| mtu.to_string()),
            listed("offloads", self.offloads.as_deref(), |set| {
                set.name().to_owned()
            }),
            listed("object", self.object.as_deref(), |size| size.text()),
            listed("connections", self.connections.as_deref(), number),
            listed("at rest", self.resting.as_deref(), number),
            listed("bulk flows beside", self.beside.as_deref(), number),
            listed("arrivals", self.arrivals.as_deref(), |arrivals| {
                arrivals.text()
            }),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

fn has<T: PartialEq>(list: Option<&[T]>, value: &T) -> bool {
    list.is_none_or(|list| list.contains(value))
}

/// Whether there are any, and all of them stand in the other list.
fn are_of<T: PartialEq>(some: Option<&[T]>, all: &[T]) -> bool {
    some.is_none_or(|some| !some.is_empty() && some.iter().all(|one| all.contains(one)))
}

fn listed<T>(name: &str, list: Option<&[T]>, text: impl Fn(&T) -> String) -> Option<String> {
    let words: Vec<String> = list?.iter().map(text).collect();
    Some(format!("{name} {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = r#"
        name = "x"
        about = ""
        servers = ["xdp", "nginx"]
        rounds = 1
        [load]
        object = ["4KiB", "1MiB"]
        connections = [1, 16]
        beside = [0, 4]
    "#;

    fn parsed(goal: &str) -> Result<Scenario, String> {
        Scenario::parse(&format!("{MIXED}\n[[goal]]\n{goal}"))
    }

    fn cases(goal: &str) -> Vec<Case> {
        let scenario = parsed(goal).unwrap();
        scenario.goals[0].cases(&scenario)
    }

    #[test]
    fn a_goal_is_about_the_rows_that_it_names() {
        let goal = "measure = \"goodput\"\nof = \"xdp\"\nover = \"nginx\"\nat_least = 1.0";
        assert_eq!(cases(goal).len(), 8);
        let one = cases(&format!(
            "{goal}\nwhen = {{ connections = [16], beside = [0] }}"
        ));
        assert!(
            one.iter()
                .all(|case| case.connections == 16 && case.beside == 0)
        );
        assert_eq!(one.len(), 2);
    }

    #[test]
    fn what_is_set_against_alone_has_something_beside() {
        let all = cases(
            "measure = \"p99\"\nof = \"xdp\"\nover = \"alone\"\nat_most = 2\nwhen = { object = [\"4KiB\"] }",
        );
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|case| case.beside == 4));
    }

    #[test]
    fn where_it_holds_is_said_in_words() {
        let scenario = parsed(
            "measure = \"p99\"\nof = \"xdp\"\nbelow = 1e3\nwhen = { object = [\"4KiB\"], connections = [1, 16], arrivals = [\"closed\"] }",
        );
        let said = scenario.unwrap().goals[0].when.text();
        assert_eq!(said, "object 4 KiB; connections 1, 16; arrivals closed");
        assert_eq!(When::default().text(), "");
    }

    #[test]
    fn a_goal_that_cannot_be_is_refused_with_its_fix() {
        let goal = "measure = \"goodput\"\nof = \"xdp\"\nover = \"nginx\"\nat_least = 1.0\nwhen = { mtu = [1500] }";
        assert!(parsed(goal).is_ok());
        for (from, to, said) in [
            (
                "goodput",
                "godput",
                "unknown variant `godput`, expected one of `goodput`",
            ),
            (
                "\"xdp\"",
                "\"apache\"",
                "unknown variant `apache`, expected one of `xdp`",
            ),
            (
                "\"nginx\"",
                "\"apache\"",
                "\"apache\" is no server; write one of servers, or \"alone\"",
            ),
            (
                "\"xdp\"",
                "\"kernel\"",
                "goal 1: of: kernel does not take part",
            ),
            (
                "\"nginx\"",
                "\"kernel\"",
                "goal 1: over: kernel does not take part",
            ),
            ("\"nginx\"", "\"xdp\"", "a server over itself is 1"),
            ("at_least = 1.0", "", "write at_least, at_most or below"),
            (
                "at_least = 1.0",
                "at_least = 1.0\nat_most = 2.0",
                "a goal has one bound",
            ),
            ("1.0", "0.0", "from 0.01 to 1e9"),
            ("1.0", "nan", "from 0.01 to 1e9"),
            (
                "at_least",
                "atleast",
                "unknown field `atleast`, expected one of",
            ),
            (
                "[1500]",
                "[9000]",
                "goal 1: when.mtu: no row is so; write values of link.mtu",
            ),
            ("[1500]", "[]", "when.mtu: no row is so"),
            (
                "mtu",
                "flows",
                "unknown field `flows`, expected one of `mtu`",
            ),
            (
                "goodput",
                "CPU of the process",
                "in the row \"4 KiB, 1 connection, alone\"; it needs client = \"idle\"",
            ),
            (
                "goodput",
                "p99",
                "in the row \"1 MiB, 1 connection, alone\"; it needs",
            ),
        ] {
            assert!(goal.contains(from), "{from}");
            let error = parsed(&goal.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(said), "{to}: {error}");
        }
        let alone = goal
            .replace("\"nginx\"", "\"alone\"")
            .replace("mtu = [1500]", "beside = [0]");
        let error = parsed(&alone).unwrap_err();
        assert!(
            error.contains("write 0 and another number in load.beside"),
            "{error}"
        );
    }
}
