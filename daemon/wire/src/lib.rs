//! Bytes to headers and headers to bytes: Ethernet, VLAN, IPv4, IPv6, TCP, ARP, NDP and ICMP.
//!
//! A frame is checked once, by [`parse`], and becomes a value that cannot be wrong; or it is refused with
//! the one [`DropReason`] that is counted for it. In the other direction [`TcpEmit`] writes the headers of
//! a segment and yields an [`Unsealed`], which must be given a checksum (by the device or by us) before
//! anybody has a length to transmit. A [`RunTemplate`] does so for many segments of one flow that leave together.
//!
//! The crate keeps no state, does no I/O, allocates nothing and depends on nothing. Nothing here panics on
//! any input of a peer: lengths are compared before bytes are read, and arithmetic on them is checked.
//! What needs knowledge beyond one frame is left to the caller: which local addresses, ports, VLANs and
//! MAC addresses are ours, and every rule of the TCP state machine.

#![no_std]
#![forbid(unsafe_code)]
// They panic when nobody reads; what is to be said goes to the caller.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(test)]
extern crate std;

mod accecn_option;
mod address;
mod arp;
mod be;
pub mod checksum;
mod drop_reason;
mod ecn;
mod emit;
mod ethernet;
mod frame;
mod icmp;
mod icmpv4;
mod icmpv6;
mod ip;
mod ipv4;
mod ipv6;
mod ndp;
mod packet;
mod run;
mod tcp;
mod tcp_options;
mod vlan;
mod words;

pub use accecn_option::{AccEcnOption, AccEcnOrder};
pub use arp::{ArpOperation, ArpPacket};
pub use drop_reason::DropReason;
pub use ecn::Ecn;
pub use emit::{CsumOffload, EmitError, TcpEmit, Unsealed};
pub use ethernet::{LinkHeader, MacAddr};
pub use icmp::{Echo, IcmpError, IcmpErrorKind, QuotedSegment};
pub use icmpv4::{Icmpv4Message, Icmpv4Packet};
pub use icmpv6::{Icmpv6Message, Icmpv6Packet};
pub use ndp::{NeighborAdvertisement, NeighborSolicitation, solicited_node};
pub use packet::{ChecksumPolicy, MAX_PARSED_HEADERS, Packet, ParseConfig, TcpPacket, parse};
pub use run::RunTemplate;
pub use tcp::{TcpFlags, TcpHeader};
pub use tcp_options::{SackBlock, SackBlocks, TcpOptions, Timestamps};
pub use vlan::{VlanTag, VlanTags};
