//! `linux.txt`: where Linux does otherwise, what, and why we do not.
//!
//! `kernel X.Y` says of which Linux all of it is true. `= name` begins a cause; what follows in plain text says what Linux does and why we differ. Then come its dialogues,
//! `file.pkt: name`, each followed by the line of the script at which they part and by what Linux did instead.

use std::collections::BTreeMap;
use std::fs;
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
    /// One of them: a line that waits may see the answer before the state or after it.
    expected: Vec<Disagreement>,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    /// Version of the kernel, such as `6.18`.
    pub kernel: String,
    /// By `file.pkt: name`.
    entries: BTreeMap<String, Entry>,
}

impl Table {
    /// Reads it.
    pub fn read(directory: &Path) -> Table {
        let text = library::read(directory, FILE);
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let (mut kernel, mut cause, mut title) = (None, None, String::new());
        for line in text.lines().filter(|line| !line.starts_with("//")) {
            if let Some(version) = line.strip_prefix("kernel ") {
                kernel = Some(version.to_owned());
            } else if let Some(name) = line.strip_prefix("= ") {
                cause = Some(name.to_owned());
            } else if is_title(line) {
                assert!(!entries.contains_key(line), "{line} is twice in {FILE}");
                line.clone_into(&mut title);
                let entry = Entry {
                    cause: cause.clone().expect("a cause stands above its dialogues"),
                    expected: Vec::new(),
                };
                entries.insert(title.clone(), entry);
            } else if let Some((line, did)) = line.trim().split_once(INSTEAD) {
                let entry = entries.get_mut(&title);
                let entry = entry.expect("a dialogue stands above its lines");
                entry.expected.push(Disagreement {
                    line: line.to_owned(),
                    did: did.to_owned(),
                });
            }
        }
        Table {
            kernel: kernel.expect("the table names its kernel"),
            entries,
        }
    }

    /// Whether this machine runs the kernel of the table.
    pub fn is_of_this_kernel(&self) -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs is there");
        release.starts_with(&format!("{}.", self.kernel))
    }

    /// Whether that is what is expected of a dialogue.
    pub fn expects(&self, title: &str, outcome: &Outcome) -> bool {
        match (self.entries.get(title), outcome) {
            (None, outcome) => outcome.is_none(),
            (Some(_), None) => false,
            (Some(entry), Some(disagreement)) => entry.expected.contains(disagreement),
        }
    }

    /// What is to be changed in the table, or in us.
    pub fn complaint(&self, title: &str, outcome: &Outcome) -> Option<String> {
        if self.expects(title, outcome) {
            return None;
        }
        let line = |disagreement: &Disagreement| {
            format!("    {}{INSTEAD}{}\n", disagreement.line, disagreement.did)
        };
        let did = outcome
            .as_ref()
            .map_or("    as the script says\n".to_owned(), line);
        let entry = self.entries.get(title);
        let expected: String = entry
            .map(|entry| entry.expected.iter().map(line).collect())
            .unwrap_or_else(|| "    as the script says\n".to_owned());
        Some(format!("{title}\n{did}  and the table says\n{expected}"))
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

fn is_title(line: &str) -> bool {
    let file = line.split_once(": ").map(|(file, _)| file);
    file.is_some_and(|file| file.ends_with(".pkt") && !file.starts_with(' '))
}
