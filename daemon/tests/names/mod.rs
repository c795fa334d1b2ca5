//! What is in a directory: shared by the tests of uploads, which may leave nothing there but whole files.

use std::path::Path;

/// The names in `directory` in their order, hidden ones included.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}
