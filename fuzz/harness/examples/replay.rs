//! Runs a target on files and says what they stand for: `replay stack FILE...`.

use std::fs;
use std::process::ExitCode;

use sluice_fuzz::{TARGETS, stack_operations};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!(
            "usage: replay TARGET FILE... (targets: {})",
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    for path in args {
        let input = match fs::read(&path) {
            Ok(input) => input,
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        };
        println!("{path}: {} bytes", input.len());
        if target.name == "stack" {
            for line in stack_operations(&input) {
                println!("  {line}");
            }
        }
        (target.run)(&input);
    }
    ExitCode::SUCCESS
}
