//! `linux.txt`: where Linux does otherwise, what, and why we do not.
//!
//! `= name` begins a cause; what follows in plain text says what Linux does and why we differ. Then come its dialogues,
//! `file.pkt: name`, each followed by the line of the script at which they part and by what Linux did instead.

use std::collections::BTreeMap;
use std::path::Path;

use crate::library;
use crate::tour::{Disagreement, Outcome, Tour};

/// Name of the table, beside the scripts.
pub const FILE: &str = "linux.txt";

/// Between the line of the script and what Linux did.
const INSTEAD: &str = " | ";

#[derive(Debug)]
struct Entry {
    cause: String,
    expected: Disagreement,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    /// By `file.pkt: name`.
    entries: BTreeMap<String, Entry>,
}

impl Table {
    /// Reads it.
    pub fn read(directory: &Path) -> Table {
        let text = library::read(directory, FILE);
        let (mut entries, mut cause, mut title) = (BTreeMap::new(), None, None);
        for line in text.lines().filter(|line| !line.starts_with("//")) {
            if let Some(name) = line.strip_prefix("= ") {
                cause = Some(name.to_owned());
            } else if line
                .split_once(": ")
                .is_some_and(|(file, _)| file.ends_with(".pkt"))
            {
                title = Some(line.to_owned());
            } else if let Some((line, did)) = line.trim().split_once(INSTEAD) {
                let title: String = title.take().expect("a dialogue stands above its line");
                let expected = Disagreement {
                    line: line.to_owned(),
                    did: did.to_owned(),
                };
                let cause = cause.clone().expect("a cause stands above its dialogues");
                let twice = entries.insert(title, Entry { cause, expected });
                assert!(twice.is_none(), "a dialogue stands in {FILE} once");
            }
        }
        Table { entries }
    }

    /// What is expected of a dialogue.
    pub fn outcome(&self, title: &str) -> Outcome {
        self.entries.get(title).map(|entry| entry.expected.clone())
    }

    /// What is to be changed in the table, or in us.
    pub fn complaint(&self, title: &str, outcome: &Outcome) -> Option<String> {
        let expected = self.outcome(title);
        if expected == *outcome {
            return None;
        }
        let shown = |outcome: &Outcome| match outcome {
            None => "as the script says".to_owned(),
            Some(disagreement) => format!("{}{INSTEAD}{}", disagreement.line, disagreement.did),
        };
        Some(format!(
            "{title}\n    {}\n  and the table says\n    {}",
            shown(outcome),
            shown(&expected)
        ))
    }

    /// Entries whose dialogue does not run.
    pub fn entries_without(&self, tour: &Tour) -> Vec<String> {
        let titles = self.entries.keys();
        titles
            .filter(|title| !tour.has(title))
            .map(|title| format!("{title}\n    is in the table and not on the wire"))
            .collect()
    }

    /// Every cause with the number of its dialogues.
    pub fn causes(&self) -> BTreeMap<&str, usize> {
        let mut causes = BTreeMap::new();
        for entry in self.entries.values() {
            *causes.entry(entry.cause.as_str()).or_default() += 1;
        }
        causes
    }
}
