//! `sluiced`: reads flags and configuration, then serves. Everything else is in the library.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use sluiced::args::{Args, Mode, PrintConfig};
use sluiced::config::{Config, DEFAULT_FILE, EXIT_CONFIG};
use sluiced::console::say;
use sluiced::preflight::{self, Decision};
use sluiced::supervisor;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.mode() == Mode::Print(PrintConfig::Default) {
        say(stdout(), DEFAULT_FILE);
        return ExitCode::SUCCESS;
    }
    if args.mode() == Mode::Restore {
        return restore();
    }
    let config = match Config::load(args.file(), &args.overrides()) {
        Ok(config) => config,
        Err(errors) => {
            say(stderr(), &format!("{errors}\n"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match args.mode() {
        Mode::Check | Mode::Restore => ExitCode::SUCCESS,
        Mode::Print(_) => {
            say(stdout(), &config.to_toml());
            ExitCode::SUCCESS
        }
        Mode::Doctor => doctor(&config),
        Mode::Serve => match supervisor::serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                for problem in &failure.problems {
                    say(stderr(), &format!("sluiced: {problem}\n"));
                }
                ExitCode::FAILURE
            }
        },
    }
}

/// Puts back what a daemon that died left; a line for each setting.
fn restore() -> ExitCode {
    match supervisor::restore_all() {
        Ok(lines) => {
            for line in lines {
                say(stdout(), &format!("{line}\n"));
            }
            ExitCode::SUCCESS
        }
        Err(problem) => {
            say(stderr(), &format!("sluiced: {problem}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The preflight of start-up as a table; fails where the daemon would not start, unless one serves here already.
fn doctor(config: &Config) -> ExitCode {
    let (_, preflight) = preflight::run(config);
    say(stdout(), &format!("{}\n", preflight.render()));
    match preflight.decide() {
        Decision::Serve { .. } => ExitCode::SUCCESS,
        Decision::Refuse(_) if preflight.is_running() => ExitCode::SUCCESS,
        Decision::Refuse(_) => ExitCode::FAILURE,
    }
}
