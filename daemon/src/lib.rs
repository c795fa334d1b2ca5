//! The Sluice daemon as a library, so that its parts can be tested and `sluiced` stays a thin `main`.
//!
//! | module | role |
//! |---|---|
//! | `args`, `config`, `limits` | what the operator wrote, and what follows from it |
//! | `preflight`, `placement` | whether and where it can run |
//! | `supervisor` | builds workers, owns signals, drain and the report |
//! | `worker` | one queue: rings, TCP, application; the only file where all crates meet |
//! | `kernel_backend` | the same application over kernel sockets |
//! | `exchange`, `services` | one HTTP connection, and what all of a worker's share |
//! | `control`, `sync` | the border between control thread and worker, and what it is made of |
//! | `histograms`, `report` | what was measured, and how it is shown |
//! | `descriptors` | room for them, made before there are threads |
//! | `clock`, `console` | the one place that reads clocks, the one that prints |

#![forbid(unsafe_code)]
// They panic when nobody reads: `console::say` does not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod args;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod descriptors;
pub mod exchange;
pub mod farewells;
pub mod histograms;
pub mod kernel_backend;
pub mod limits;
pub mod placement;
pub mod preflight;
pub mod report;
pub mod services;
pub mod supervisor;
mod sync;
pub mod troubles;
pub mod worker;
