//! What can end a run, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a benchmark gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("needs root for network namespaces and AF_XDP -> sudo make bench")]
    NotRoot,
    /// Lists that do not match.
    #[error("{ours} congestion controls of ours and {kernel} of the kernel -> name one for each")]
    Pairs {
        /// How many of ours.
        ours: usize,
        /// How many of the kernel's.
        kernel: usize,
    },
    /// A choice of pairs that none of them meets.
    #[error("--only {part:?} is part of no pair's name -> {known}")]
    NoPair {
        /// What was asked for.
        part: String,
        /// Their names.
        known: String,
    },
    /// More workers than CPUs.
    #[error(
        "--workers {asked}: this process may use {most} CPUs, and each worker needs its own -> {fix}"
    )]
    Workers {
        /// How many.
        asked: u16,
        /// How many there can be.
        most: usize,
        /// What to do.
        fix: String,
    },
    /// A scenario that is not understood.
    #[error("{file}: {what} -> docs/BENCH.md lists every key")]
    Scenario {
        /// Its file.
        file: String,
        /// What, and how to write it.
        what: String,
    },
    /// A report that is none.
    #[error("{file}: {what} -> docs/BENCH.md describes the schema")]
    Document {
        /// Its file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// No binary to measure.
    #[error("{0} is missing -> make build, or --sluiced FILE")]
    NoDaemon(PathBuf),
    /// No nginx to compare with.
    #[error("nginx is not installed -> apt-get install nginx-light")]
    NoNginx,
    /// `netlab.sh` failed; it said why.
    #[error("the network namespaces could not be built -> see the message above")]
    Lab,
    /// No room for what a scenario keeps in memory.
    #[error(
        "needs {needs_mib} MiB in {folder}, which has {free_mib} -> mount -o remount,size={size_mib}M {folder}"
    )]
    Room {
        /// Where.
        folder: &'static str,
        /// How much is needed.
        needs_mib: u64,
        /// How much there is.
        free_mib: u64,
        /// How large the file system has to be.
        size_mib: u64,
    },
    /// A program could not be run.
    #[error("cannot run {program}: {source} -> make setup")]
    Spawn {
        /// Its name.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Its name.
        program: String,
        /// Its status and what it wrote to stderr.
        said: String,
    },
    /// The daemon did not become ready, or ended.
    #[error("sluiced ({backend}) does not serve: {said}")]
    Daemon {
        /// Its backend.
        backend: &'static str,
        /// What it wrote to stderr.
        said: String,
    },
    /// What arrived is not what is served.
    #[error("{backend}: {what} -> this is a bug of sluice: please report it")]
    WrongBytes {
        /// Backend, or what else brought it.
        backend: &'static str,
        /// What differs.
        what: String,
    },
    /// A download did not end in time.
    #[error("{0}: not everything came in time -> more --seconds, or a bug of sluice")]
    Unfinished(String),
    /// No AF_XDP socket where one is needed.
    #[error("AF_XDP on {interface}: {said}")]
    Xdp {
        /// The interface.
        interface: String,
        /// What failed, and what to do about it.
        said: String,
    },
    /// Fewer descriptors than connections.
    #[error(
        "it needs {needed} open files and the hard limit is {most} -> ulimit -Hn {needed}, as root with CAP_SYS_RESOURCE"
    )]
    Files {
        /// What it needs.
        needed: u64,
        /// What it may have.
        most: u64,
    },
    /// Reading or writing a file.
    #[error("{what}: {source}")]
    Io {
        /// The file and what was done with it.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Names the file of an I/O error.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
