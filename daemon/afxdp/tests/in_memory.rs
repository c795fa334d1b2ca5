//! A queue against the in-memory twin of the kernel: behaviours one by one, then random operations against an oracle.
//!
//! Every test ends with a ledger at rest: no frame is lost, whatever happened.
//!
//! | file | what is tested |
//! |---|---|
//! | `depth` | how many frames wait in the fill ring |
//! | `receiving` | packets, chains of frames, the fill ring |
//! | `sending` | packets, checksum requests, full rings |
//! | `kicks` | answers of the kernel, completions |
//! | `threads` | both sides at once |
//! | `chance` | everything in any order |
#![cfg(not(loom))]

#[path = "in_memory/bed.rs"]
mod bed;
#[path = "in_memory/chance.rs"]
mod chance;
#[path = "in_memory/depth.rs"]
mod depth;
#[path = "in_memory/kicks.rs"]
mod kicks;
#[path = "in_memory/receiving.rs"]
mod receiving;
#[path = "in_memory/sending.rs"]
mod sending;
#[path = "in_memory/threads.rs"]
mod threads;
