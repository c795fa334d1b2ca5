//! The data path of a worker, in memory: no interface, no privilege, no thread but the disk's helpers
//! (and, for a test of its loop and one of hand-over, the worker's own).
//!
//! Every test builds a worker over [`MemoryNic`](sluice_afxdp::testing::MemoryNic) rings ([`bed`]), talks to it
//! as a TCP client would ([`client`]), frame by frame ([`frames`]), and moves its clock by hand. Every frame
//! that leaves is parsed and its checksums are verified; every payload byte is compared.
//!
//! | file | what is tested |
//! |---|---|
//! | `requests` | what HTTP clients see |
//! | `packets` | MTU, chains of frames, checksums, IPv6 |
//! | `path_mtu` | paths that carry less than the interface |
//! | `loss` | lost, doubled and reordered segments; closed windows |
//! | `rings` | kicks that fail, completions that are late or lost, full and empty rings |
//! | `slow` | clients that hardly take anything, and what they cost |
//! | `endings` | FIN, RST, files that change, time-outs, ten thousand connections |
//! | `hoarding` | a full table of connections, and who makes room |
//! | `cold` | ten thousand readers of what is not in memory |
//! | `direct` | large files, read past the page cache |
//! | `draining` | the last words of a worker, and its deadline |
//! | `strangers` | segments of unknown flows, ARP, NDP, echo, noise |
//! | `super_segments` | the TSO lane |
//! | `gathered` | the gather lane |
//! | `ack_runs` | acknowledgements of one batch that are taken as one |
//! | `uploads` | bodies that are copied, and those whose frames the disk gets |
//! | `workers` | several workers, and flows that arrive at the wrong one |
//! | `threads` | the same on threads, under load |
//! | `chance` | everything at once, from a seed |
//!
//! `steady_state.rs`, a binary of its own, counts allocations on the same bench.

#[path = "worker/ack_runs.rs"]
mod ack_runs;
#[path = "worker/bed.rs"]
mod bed;
#[path = "worker/chance.rs"]
mod chance;
#[path = "worker/client.rs"]
mod client;
#[path = "worker/cold.rs"]
mod cold;
#[path = "worker/direct.rs"]
mod direct;
#[path = "worker/draining.rs"]
mod draining;
#[path = "worker/endings.rs"]
mod endings;
#[path = "worker/frames.rs"]
mod frames;
#[path = "worker/gathered.rs"]
mod gathered;
#[path = "worker/hoarding.rs"]
mod hoarding;
#[path = "worker/loss.rs"]
mod loss;
#[path = "worker/packets.rs"]
mod packets;
#[path = "worker/path_mtu.rs"]
mod path_mtu;
#[path = "worker/records.rs"]
mod records;
#[path = "worker/requests.rs"]
mod requests;
#[path = "worker/rings.rs"]
mod rings;
#[path = "worker/site.rs"]
mod site;
#[path = "skip.rs"]
mod skip;
#[path = "worker/slow.rs"]
mod slow;
#[path = "worker/strangers.rs"]
mod strangers;
#[path = "worker/super_segments.rs"]
mod super_segments;
#[path = "worker/threads.rs"]
mod threads;
#[path = "worker/uploads.rs"]
mod uploads;
#[path = "worker/workers.rs"]
mod workers;

/// That of the daemon: with glibc's the threads of a test wait for each other's memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
