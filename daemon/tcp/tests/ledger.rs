//! docs/TCP.md says where each clause is followed and what proves it: the files that it names are there.

use std::fs;
use std::path::Path;

const LEDGER: &str = include_str!("../../../docs/TCP.md");

/// The Rust files in backticks of a cell.
fn files(cell: &str) -> impl Iterator<Item = String> + '_ {
    let words = cell.split('`').skip(1).step_by(2);
    words
        .filter(|word| word.ends_with(".rs"))
        .flat_map(alternatives)
}

/// `a/{b,c}.rs` is two files.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (names, after) = rest.split_once('}').expect("a brace that was opened ends");
    let join = |name| format!("{before}{name}{after}");
    names.split(',').map(join).collect()
}

/// Files are below `src`, those of tests below the crate, and others are named from the root of the repository.
fn is_there(file: &str) -> bool {
    let tcp = Path::new(env!("CARGO_MANIFEST_DIR"));
    let src = tcp.join("src");
    if let Some(name) = file.strip_prefix("*/") {
        let modules = fs::read_dir(src).expect("the crate has sources");
        return modules
            .flatten()
            .any(|module| module.path().join(name).exists());
    }
    [&src, tcp, &tcp.join("../..")]
        .iter()
        .any(|root| root.join(file).is_file())
}

#[test]
fn every_file_that_the_ledger_names_is_there() {
    let (_, table) = LEDGER
        .split_once("\n## What is there\n")
        .expect("the ledger has its table");
    let table = table.split("\n## ").next().unwrap_or(table);
    let rows = table.lines().filter(|line| line.starts_with("| "));
    // Clause, rule, files, tests.
    let named: Vec<String> = rows
        .flat_map(|row| row.rsplit(" | ").take(2).flat_map(files))
        .collect();
    assert!(named.len() > 100, "{} files", named.len());
    let missing: Vec<&String> = named.iter().filter(|file| !is_there(file)).collect();
    assert!(missing.is_empty(), "docs/TCP.md: no {missing:?}");
}

#[test]
fn names_in_braces_are_files_each() {
    let cell = "`a.rs`, `b/{c,d}.rs` and `no file`";
    assert_eq!(
        files(cell).collect::<Vec<_>>(),
        ["a.rs", "b/c.rs", "b/d.rs"]
    );
}
