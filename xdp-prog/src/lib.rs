//! The XDP program of Sluice and its loader.
//!
//! The program (`steer.bpf.c`, named `sluice_steer`) gives one verdict per frame: TCP for a served address and port goes to
//! the AF_XDP socket of its receive queue, what the kernel would answer with RST in our place is dropped, everything else
//! passes. It is an optimisation, never a guard: user space checks each frame again.
//!
//! The order of use, which keeps the kernel from resetting live connections:
//!
//! 1. [`Steer::load`] with the endpoints; nothing sees traffic yet.
//! 2. Open a socket per queue and [`Steer::insert_socket`] it.
//! 3. [`Steer::attach`] to the interface: a `bpf_link`, so a crash of the process detaches it.
//! 4. [`Steer::set_enabled`]: from now on a queue without a socket drops our traffic instead of passing it.
//! 5. [`Steer::set_syn_gate`] while a flood of SYNs lasts.
//! 6. [`Steer::counters`] at any time; in reverse order at the end, or drop the [`Steer`].
//!
//! [`Catcher`] is a second, tiny program (`catch.bpf.c`, `sluice_catch`) for the other end of a measurement: load generators
//! and raw receivers.
//!
//! Loading and attaching take `CAP_BPF` and `CAP_NET_ADMIN`, everything afterwards takes none. The maps `sluice_xsks`,
//! `sluice_stats`, `sluice_config`, `sluice_local`, `sluice_queues` and `sluice_sources` carry BTF for `bpftool map dump`.

// They panic when nobody reads; what is to be said goes to the caller.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod attach;
mod catch;
mod config;
mod error;
mod libbpf_log;
mod reason;
mod settings;
mod steer;

pub use attach::{AttachMode, Attached, AttachedMode, foreign_programs};
pub use catch::{Catch, Catcher, Fate};
pub use config::{ENDPOINTS_MAX, Endpoint, OWNED_MAX, SteerConfig};
pub use error::{AttachError, ForeignProgram, LoadError, MapError};
pub use reason::{Reason, Verdict};
pub use settings::SynGate;
pub use steer::{PROGRAM_NAME, Steer};

/// The skeleton that `build.rs` generates from `steer.bpf.c`: not our text, so not under our lints.
#[allow(
    missing_docs,
    unused_imports,
    clippy::all,
    clippy::cast_possible_truncation,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

/// The same from `catch.bpf.c`.
#[allow(
    missing_docs,
    unused_imports,
    clippy::all,
    clippy::cast_possible_truncation,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
mod catch_skeleton {
    include!(concat!(env!("OUT_DIR"), "/catch.skel.rs"));
}
