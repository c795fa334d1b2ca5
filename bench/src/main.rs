//! `sluice-bench`: the same scenario over several servers, alternating in one run, with ratios and their spread.
//!
//! | module | role |
//! |---|---|
//! | [`run`], [`scenario`] | scenario files: servers in turn under bulk, small objects, new connections and more |
//! | [`load`] | the client of most of them: many connections over kernel TCP or our own, closed and open loop |
//! | [`goodput`] | a scenario of them from flags: large files, curl as the client |
//! | [`engine`] | scenario: our stack and smoltcp in memory, cost per segment by number of connections |
//! | [`flood`] | scenario: a download and new connections under a flood of SYNs |
//! | [`grid`] | scenario: goodput over loss and round-trip time, AF_XDP against the kernel backend, through the link |
//! | [`fairness`] | scenario: two flows share a bottleneck, ours beside kernel CUBIC, and Jain's index |
//! | [`peers`] | scenario: Linux as the peer, either way, through 20 kinds of bad links, every byte compared |
//! | [`limit`] | scenario: frames per second of a bare AF_XDP transmitter, and our copy lane beside it |
//! | [`transfer`] | one download through the link |
//! | [`fetch`] | a client of our own TCP, over raw frames: the receiver of other scenarios |
//! | [`link`] | a link with seeded delay, loss, reordering, rate: the path of other scenarios |
//! | [`lab`] | two network namespaces and a veth pair, built by `netlab.sh`, removed with the process |
//! | [`path`] | the link as a process between the ends of a lab |
//! | [`site`], [`offloads`] | the files that are served, and what the ends of the veth pair do for the stacks |
//! | [`contestant`], [`server`], [`nginx`] | who takes part: `sluiced` and nginx in the lab |
//! | [`seat`] | which daemon is measured, and on which CPUs everything runs |
//! | [`usage`], [`syscalls`] | CPU, memory, packets and system calls as the kernel counts them |
//! | [`measure`] | median, range, ratio |
//! | [`xsk`] | an AF_XDP socket on an interface, for clients and receivers without the kernel's TCP |
//! | [`report`] | what every scenario ends with: JSON, Markdown, HTML with plots, interval log |
//!
//! The harness talks to the daemon only over the network, by signals and by what it prints: a benchmark that knows
//! insides compares unlike things.

mod contestant;
mod engine;
mod error;
mod fairness;
mod fetch;
mod flood;
mod goodput;
mod grid;
mod lab;
mod limit;
mod link;
mod load;
mod measure;
mod nginx;
mod offloads;
mod path;
mod peers;
mod report;
mod run;
mod scenario;
mod seat;
mod server;
mod site;
#[cfg(test)]
#[path = "../../daemon/tests/skip.rs"]
mod skip;
mod syscalls;
mod transfer;
mod usage;
mod xsk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of Sluice.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Scenario files: each row by all servers in turn, as Markdown, JSON, HTML and interval log
    Run(run::Options),
    /// Check reports: the schema, and that every number is finite and follows from the runs
    Check(run::CheckOptions),
    /// Large files over one or more flows, curl over kernel TCP as the client: AF_XDP, kernel backend and nginx in turn
    Goodput(goodput::Options),
    /// Cost of a segment in memory, our stack and smoltcp with the same client, 1 to 10,000 connections
    Engine(engine::Options),
    /// Goodput over loss and round-trip time through the link, AF_XDP and kernel CUBIC with the same seeds
    Grid(grid::Options),
    /// Goodput and new connections under a flood of SYNs, against a flood of frames that are dropped at once
    Flood(flood::Options),
    /// Two flows share a bottleneck: ours beside kernel CUBIC, with Jain's index
    Fairness(fairness::Options),
    /// Linux as the peer through 20 kinds of bad links, as the receiver and as the sender, every byte compared
    Peers(peers::Options),
    /// Frames per second of a bare AF_XDP transmitter and receiver, and of our copy lane beside them
    Limit(limit::Options),
    /// One end of that: send frames as fast as the socket takes them, or count those that arrive
    Raw(limit::raw::Options),
    /// Ask an HTTP server by many connections over kernel TCP or our own, in a closed or an open loop
    Load(load::Options),
    /// Forward frames between two interfaces with seeded delay, loss, reordering, rate and more
    Link(Box<link::Options>),
    /// Fetch a file by our own TCP, over raw frames and from an address that no kernel has
    Fetch(fetch::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.scenario {
        Scenario::Run(options) => run::run(options),
        Scenario::Check(options) => run::run_check(options),
        Scenario::Goodput(options) => goodput::run(options),
        Scenario::Engine(options) => engine::run(options),
        Scenario::Grid(options) => grid::run(options),
        Scenario::Flood(options) => flood::run(options),
        Scenario::Fairness(options) => fairness::run(options),
        Scenario::Peers(options) => peers::run(options),
        Scenario::Limit(options) => limit::run(options),
        Scenario::Raw(options) => limit::raw::run(options),
        Scenario::Load(options) => load::run(options),
        Scenario::Link(options) => link::run(options),
        Scenario::Fetch(options) => fetch::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
