//! The scripts as files.

use std::fs;
use std::path::Path;

use crate::script::{self, Dialogue};

/// Blocks that dialogues insert by `use`.
const PROLOGUES: &str = "prologues.txt";

/// The text of a file.
pub fn read(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All prologues.
pub fn prologues(directory: &Path) -> Vec<Dialogue> {
    let text = read(directory, PROLOGUES);
    script::prologues(PROLOGUES, &text).unwrap_or_else(|mistake| panic!("{mistake:?}"))
}

/// Names of the scripts, in order.
pub fn scripts(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the scripts are there");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".pkt"))
        .collect();
    names.sort();
    names
}
