//! AF_XDP for Sluice: packet memory, rings and frames with one owner each.
//!
//! The way of a frame through the crate:
//!
//! - [`Umem`] maps the memory: frames for the rings, and an area for file blocks beside them.
//! - [`Queue`] owns a UMEM, the four rings of one interface queue and the socket. It hands out received packets in an
//!   [`RxBatch`] and takes packets built in [`TxFrame`]s, or continued by [`Slice`]s of the file blocks.
//! - `frame` keeps who owns each frame; [`Ledger`] sums to the total at all times.
//! - `ring` is the only memory shared with somebody who runs at the same time: two indices, two barriers each way.
//! - [`GsoSocket`] is the other way out: super-segments of a flow through a packet socket, from memory of the caller.
//! - `syscall`, `netlink`, `gso` and `queue::open` are all that knows the kernel; [`testing::MemoryNic`] stands in for it over
//!   the same rings, so that everything above runs without NIC and root.
//!
//! Multi-buffer, TX metadata, the TX budget and huge pages are used where kernel and driver have them; [`Bound`] reports
//! what a queue got. Not done: shared UMEMs, unaligned chunks, launch time, busy polling.
//!
//! `unsafe` is confined to `syscall` (one call each), `ring` (slots and index words), `frame` and `testing` (a frame's
//! bytes) and `umem` (the block area); each block has one operation and its proof.

// Loom models the rings; what only a real socket needs is then compiled out or unused.
#![cfg_attr(loom, allow(dead_code))]
// They panic when nobody reads; what is to be said goes to the caller.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod batch;
mod error;
mod frame;
#[cfg(not(loom))]
mod gso;
mod kick;
#[cfg(not(loom))]
mod netlink;
mod port;
mod queue;
mod ring;
mod stats;
mod sync;
mod syscall;
pub mod testing;
mod uapi;
mod umem;

pub use batch::{Packets, RxBatch, RxPacket};
pub use error::{OpenError, UmemError};
pub use frame::{Ledger, RxFrame, TxFrame};
#[cfg(not(loom))]
pub use gso::{
    GsoCut, GsoError, GsoSocket, GsoTwin, SUPER_SEGMENT_BYTES, SUPER_SEGMENT_PIECES,
    SUPER_SEGMENTS_AT_ONCE, Sent, SuperSegment,
};
pub use kick::Kick;
pub use queue::{Bind, Cut, Queue, QueueConfig, Refused, Slice, TxChecksum};
pub use stats::{Bound, QueueCounters, XdpStatistics};
pub use uapi::{
    CHUNK_BYTES, MAX_PACKET_FRAMES, MIN_TX_BUDGET, MIN_TX_BYTES, RX_FRAME_BYTES, RX_HEADROOM,
    TX_METADATA_BYTES,
};
pub use umem::{HugePages, Umem, UmemConfig};
