//! The table at the head of `states.pkt`: which files have the dialogues of a state and an event.
//!
//! A row names an event by words that the names of its dialogues have, `/` between alternatives; a cell has a letter
//! per file, or `-` where the event cannot happen or is none. Both are held to what is there.

use std::path::Path;

use crate::library;
use crate::script::{self, Dialogue};

/// The file with the table.
const TABLE: &str = "states.pkt";
/// `// States: CL CLOSED, LI LISTEN, ...`: the columns in their order, on one line or several.
const STATES: &str = "// States: ";
/// `// Files: s states, l listen, ...`: the letters of the cells.
const FILES: &str = "// Files: ";
/// Lines of the table, of which the first is its head.
const ROW: &str = "// |";

/// RFC 9293 section 3.3.2.
const STATES_OF_TCP: [&str; 11] = [
    "CLOSED",
    "LISTEN",
    "SYN-SENT",
    "SYN-RECEIVED",
    "ESTABLISHED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "CLOSE-WAIT",
    "CLOSING",
    "LAST-ACK",
    "TIME-WAIT",
];

/// A file of the table.
#[derive(Debug)]
struct File {
    letter: String,
    dialogues: Vec<Dialogue>,
}

impl File {
    fn has(&self, state: &str, event: &str) -> bool {
        let mut names = self.dialogues.iter().map(|dialogue| &dialogue.name);
        names.any(|name| is_about(name, state, event))
    }
}

/// The number of cells, and those that are not true.
pub fn mistakes(directory: &Path) -> (usize, Vec<String>) {
    let text = library::read(directory, TABLE);
    let states = legend(&text, STATES);
    assert!(states.iter().map(|(_, state)| state).eq(STATES_OF_TCP));
    let files: Vec<_> = legend(&text, FILES)
        .into_iter()
        .map(|(letter, name)| file(directory, letter, &name))
        .collect();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix(ROW));
    let head = cells(rows.next().expect("the table has a head"));
    assert!(head[1..].iter().eq(states.iter().map(|(short, _)| short)));
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows.map(cells) {
        let [event, cells @ ..] = &row[..] else {
            continue;
        };
        assert_eq!(cells.len(), states.len(), "cells of {event}");
        count += cells.len();
        let of_states = states.iter().zip(cells);
        wrong
            .extend(of_states.filter_map(|((_, state), cell)| mistake(&files, state, event, cell)));
    }
    (count, wrong)
}

fn mistake(files: &[File], state: &str, event: &str, cell: &str) -> Option<String> {
    if cell == "-" {
        let there = files.iter().find(|file| file.has(state, event))?;
        return Some(format!(
            "{state}, {event}: there is one in {}",
            there.letter
        ));
    }
    let letters = cell.chars().map(String::from);
    let mut missing = letters.filter(|letter| {
        let file = files.iter().find(|file| file.letter == *letter);
        !file.is_some_and(|file| file.has(state, event))
    });
    let letter = missing.next()?;
    Some(format!("{state}, {event}: there is none in {letter}"))
}

/// Whether a dialogue of this name begins with the state and has the words of the event.
fn is_about(name: &str, state: &str, event: &str) -> bool {
    let name = words(name);
    let Some((first, rest)) = name.split_first() else {
        return false;
    };
    let has = |event: &str| {
        let event = words(event);
        rest.windows(event.len()).any(|some| some == event)
    };
    *first == state && event.split('/').any(has)
}

/// `SYN-ACK` is one word and not two.
fn words(text: &str) -> Vec<&str> {
    let is_between = |c: char| !c.is_alphanumeric() && c != '-';
    let words = text.split(is_between).filter(|word| !word.is_empty());
    words.collect()
}

fn file(directory: &Path, letter: String, name: &str) -> File {
    let name = format!("{name}.pkt");
    let dialogues = script::dialogues(&name, &library::read(directory, &name));
    File {
        letter,
        dialogues: dialogues.unwrap_or_else(|mistake| panic!("{mistake:?}")),
    }
}

/// Short names and what they stand for.
fn legend(text: &str, mark: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
    let entries = lines.flat_map(|line| line.split(", "));
    let entry = |entry: &str| {
        let (short, name) = entry.split_once(' ').expect("a short name and a name");
        (short.to_owned(), name.to_owned())
    };
    entries.map(entry).collect()
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_end_matches('|');
    row.split('|').map(|cell| cell.trim().to_owned()).collect()
}
