//! What the daemon prints on SIGUSR1 and at exit, read back: the numbers by name.

use std::collections::BTreeMap;

/// First words of a report, and the title of the last table of each backend.
const FIRST: &str = "latency ";
const LAST: [&str; 2] = ["\nXDP program", "\nhttp"];

/// One report.
pub struct Report {
    text: String,
    values: BTreeMap<String, u64>,
}

impl Report {
    /// The report in `text`, if all of it is there.
    pub fn complete(text: &str) -> Option<Report> {
        // The kernel backend has no XDP program, and what follows its last table is the end of the text.
        let last = match text.find("\nframes") {
            Some(_) => LAST[0],
            None => LAST[1],
        };
        let (_, tail) = text.split_once(last)?;
        tail.contains("\n\n").then(|| Report::parse(text))
    }

    /// The last report in everything a daemon printed.
    pub fn last(text: &str) -> Report {
        let last = Report::last_text(text);
        assert!(!last.is_empty(), "no report in: {text}");
        Report::parse(last)
    }

    /// The same as text; empty if there is none.
    pub fn last_text(text: &str) -> &str {
        text.rfind(FIRST).map_or("", |start| &text[start..])
    }

    fn parse(text: &str) -> Report {
        let mut values = BTreeMap::new();
        for line in text.lines() {
            let Some((name, value)) = line.trim().rsplit_once(' ') else {
                continue;
            };
            // Digits stand in groups: 1,234,567.
            if let Ok(value) = value.replace(',', "").parse() {
                values.insert(name.trim().to_owned(), value);
            }
        }
        Report {
            text: text.to_owned(),
            values,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// A counter by its name. Zeros are not printed.
    pub fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// The sum of the counters whose names begin with `prefix`.
    pub fn sum(&self, prefix: &str) -> u64 {
        self.values
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, value)| value)
            .sum()
    }

    /// What an idle daemon still holds, or which ledger does not add up; `None` if all is as it should be.
    pub fn leftovers(&self) -> Option<String> {
        let held = [
            "connections",
            "half_open",
            "requests_active",
            "blocks_pinned",
            "blocks_loading",
            "blocks_uploading",
            "uploads_active",
            "files_open",
            "frames_rx",
            "frames_building",
            "frames_tx",
        ]
        .into_iter()
        .filter(|name| self.get(name) != 0)
        .map(|name| format!("{name} = {}", self.get(name)));
        let frames = ["pool", "fill", "rx", "building", "tx"];
        let blocks = ["free", "cached", "pinned", "loading", "uploading"];
        let sums = [("frames", &frames[..]), ("blocks", &blocks[..])]
            .into_iter()
            .filter_map(|(kind, owners)| {
                let total = self.get(&format!("{kind}_total"));
                let sum: u64 = owners
                    .iter()
                    .map(|owner| self.get(&format!("{kind}_{owner}")))
                    .sum();
                (sum != total).then(|| format!("{kind}_total = {total}, but its owners have {sum}"))
            });
        let has_frames = self.get("frames_total") > 0;
        let unbalanced = (has_frames && self.get("ledger_balanced") != 1)
            .then(|| "ledger_balanced is not 1".to_owned());
        let found: Vec<String> = held.chain(sums).chain(unbalanced).collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}
