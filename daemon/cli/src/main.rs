//! `sluice`: the tool beside the daemon. One file per command; so far there is `doctor`.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod doctor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Looks after a Sluice daemon
#[derive(Debug, Parser)]
#[command(name = "sluice", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether the daemon could start here, on AF_XDP or kernel sockets, and what stands in the way
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Doctor(command) => command.run(),
    }
}
