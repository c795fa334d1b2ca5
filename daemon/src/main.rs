//! `sluiced`: reads flags and configuration, then serves. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use sluiced::args::{Args, Mode, PrintConfig};
use sluiced::config::{Config, DEFAULT_FILE, EXIT_CONFIG};
use sluiced::preflight::{self, Decision};
use sluiced::supervisor;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.mode() == Mode::Print(PrintConfig::Default) {
        print!("{DEFAULT_FILE}");
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(args.file(), &args.overrides()) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match args.mode() {
        Mode::Check => ExitCode::SUCCESS,
        Mode::Print(_) => {
            print!("{}", config.to_toml());
            ExitCode::SUCCESS
        }
        Mode::Doctor => doctor(&config),
        Mode::Serve => match supervisor::serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                for problem in &failure.problems {
                    eprintln!("sluiced: {problem}");
                }
                ExitCode::FAILURE
            }
        },
    }
}

/// The preflight of start-up as a table; fails where the daemon would not start.
fn doctor(config: &Config) -> ExitCode {
    let (_, preflight) = preflight::run(config);
    println!("{}", preflight.render());
    match preflight.decide() {
        Decision::Serve { .. } => ExitCode::SUCCESS,
        Decision::Refuse(_) => ExitCode::FAILURE,
    }
}
