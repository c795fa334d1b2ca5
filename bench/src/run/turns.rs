//! A row in the making: its servers take turns, and one that fails has no numbers in it.
//!
//! A B C, then C B A: whoever is always first, or always behind the same other one, has an advantage or a disadvantage that
//! no number of rounds takes away. So in every second round each comes before those that it came after.

use super::beds::Beds;
use super::counting;
use super::measures;
use super::trial::Done;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::report::{Contender, Latency, NotRun, Row};
use crate::scenario::{Case, Scenario};

/// A server and what became of it.
struct Entry {
    server: Contestant,
    contender: Contender,
    failure: Option<String>,
}

/// All servers of a row.
pub struct Turns<'a> {
    scenario: &'a Scenario,
    case: &'a Case,
    name: String,
    entries: Vec<Entry>,
    /// What a reader of the row has to know.
    warnings: Vec<String>,
}

impl<'a> Turns<'a> {
    /// Before the first run.
    pub fn new(scenario: &'a Scenario, case: &'a Case, servers: &[Contestant]) -> Turns<'a> {
        let entry = |server: &Contestant| Entry {
            server: *server,
            contender: Contender::new(server.name()),
            failure: None,
        };
        Turns {
            scenario,
            case,
            name: scenario.row_name(case),
            entries: servers.iter().map(entry).collect(),
            warnings: Vec::new(),
        }
    }

    /// All rounds. `rate` is that of the open loop, or why there is none.
    ///
    /// # Errors
    /// Bytes were wrong; every other failure is that of one server.
    pub fn run(
        &mut self,
        beds: &Beds<'_>,
        rate: &Result<Option<f64>, String>,
    ) -> Result<(), Error> {
        let rounds = self.scenario.rounds;
        for round in 1..=rounds {
            for at in order(round, self.entries.len()) {
                let entry = &mut self.entries[at];
                if entry.failure.is_some() {
                    continue;
                }
                let done = match rate {
                    Ok(rate) => beds.with(self.case, |bed| {
                        bed.run(entry.server, self.case, *rate, round)
                    }),
                    Err(why) => {
                        entry.failure = Some(why.clone());
                        continue;
                    }
                };
                let says = match done {
                    Ok(done) => {
                        let doubts = done.doubts.iter();
                        self.warnings.extend(doubts.map(|doubt| {
                            let who = entry.server.name();
                            format!("{}, {who}, round {round}: {doubt}", self.name)
                        }));
                        entry.take(done)
                    }
                    Err(error @ Error::WrongBytes { .. }) => return Err(error),
                    Err(error) => entry.failure.insert(error.to_string()).clone(),
                };
                eprintln!(
                    "{}, {}: round {round} of {rounds}: {:11} {says}",
                    self.scenario.name,
                    self.name,
                    entry.server.name()
                );
            }
        }
        Ok(())
    }

    /// One more run of each, in which system calls are counted and nothing else.
    ///
    /// # Errors
    /// Bytes were wrong; a server that fails here keeps the numbers that it has, and the report says why these are missing.
    pub fn count_calls(&mut self, beds: &Beds<'_>, rate: Option<f64>) -> Result<(), Error> {
        for entry in self.entries.iter_mut().filter(|one| one.failure.is_none()) {
            let name = entry.server.name();
            let counted = beds.with(self.case, |bed| {
                counting::run(bed, entry.server, self.case, rate)
            });
            match counted {
                Ok(values) => entry.contender.push_run(values),
                Err(error @ Error::WrongBytes { .. }) => return Err(error),
                Err(error) => self.warnings.push(format!(
                    "{}, {name}: its system calls are not counted: {error}",
                    self.name
                )),
            }
        }
        Ok(())
    }

    /// What was not as it should have been, beside servers without numbers.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The row of those that ran to the end, and the others.
    pub fn finish(self, rate: Option<f64>) -> (Row, Vec<NotRun>) {
        let Turns { case, scenario, .. } = self;
        let mut row = Row::new(self.name.clone())
            .with("mtu", case.mtu)
            .with("offloads", case.offloads.name())
            .with("object_bytes", case.object.0)
            .with("connections", case.connections)
            .with("resting", case.resting)
            .with("beside", case.beside)
            .with("keep_alive", scenario.load.keep_alive)
            .with("rate_per_s", rate);
        let mut missing = Vec::new();
        for entry in self.entries {
            // Runs of a server that failed later are not beside those of the others.
            match entry.failure {
                Some(why) => missing.push(not_run(&self.name, entry.server, why)),
                None => row.push(entry.contender),
            }
        }
        measures::compare(&mut row, scenario, case);
        (row, missing)
    }
}

impl Entry {
    /// Adds a run and says what it gave.
    fn take(&mut self, done: Done) -> String {
        let says = done.says();
        let contender = &mut self.contender;
        contender.serving = Some(done.serving);
        contender.push_run(done.values);
        contender.intervals.extend(done.intervals);
        contender.latency = Latency::of(&contender.intervals);
        contender.timeline = done.timeline;
        says
    }
}

/// Whose turn it is in a round: in even rounds the other way round.
fn order(round: u32, servers: usize) -> Vec<usize> {
    let forth = 0..servers;
    match round.is_multiple_of(2) {
        true => forth.rev().collect(),
        false => forth.collect(),
    }
}

/// A server without numbers.
pub fn not_run(row: &str, server: Contestant, why: String) -> NotRun {
    NotRun {
        row: row.to_owned(),
        contender: server.name().to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offloads::Offloads;
    use crate::report::Serving;

    fn done(rate: f64) -> Done {
        Done {
            serving: Serving {
                how: "well".to_owned(),
                offloads: Offloads::default(),
            },
            values: vec![(measures::REQUESTS, rate)],
            intervals: Vec::new(),
            timeline: None,
            work: (0, 0),
            doubts: Vec::new(),
        }
    }

    #[test]
    fn every_second_round_goes_the_other_way() {
        let orders = [1, 2, 3].map(|round| order(round, 3));
        assert_eq!(orders, [[0, 1, 2], [2, 1, 0], [0, 1, 2]]);
        // In two rounds nobody comes earlier than another on the whole.
        let [one, two] = [1, 2].map(|round| order(round, 5));
        let place = |order: &[usize], who| order.iter().position(|one| *one == who).unwrap();
        assert!((0..5).all(|who| place(&one, who) + place(&two, who) == 4));
    }

    #[test]
    fn a_server_that_fails_later_has_no_numbers_but_a_reason() {
        let scenario = Scenario::parse(
            "name = \"x\"\nabout = \"\"\nservers = [\"xdp\", \"kernel\", \"nginx\"]\nrounds = 2\n\
             [load]\nobject = [\"1KiB\"]\nconnections = [1]",
        )
        .unwrap();
        let case = &scenario.cases()[0];
        let mut turns = Turns::new(&scenario, case, &scenario.servers);
        for entry in &mut turns.entries {
            entry.take(done(10.0));
            entry.take(done(20.0));
        }
        turns.entries[1].failure = Some("it fell over".to_owned());
        let (row, missing) = turns.finish(None);
        assert_eq!(missing[0].why, "it fell over");
        let names: Vec<&str> = row.contenders.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["xdp", "nginx"]);
        assert_eq!(row.comparisons.len(), 1);
        assert_eq!(row.comparisons[0].pairs, [1.0, 1.0]);
    }
}
