//! ICMP errors: to the connection whose segment they quote, wherever it lives.
//!
//! They come from routers, so the queue they lie on says nothing about the flow: who does not know it passes the
//! frame on around the ring of workers, like a segment. Whether to believe them is the stack's affair.

use core::net::SocketAddr;

use sluice_tcp::IcmpVerdict;
use sluice_tcp::clock::Instant;
use sluice_wire::{IcmpError, Icmpv4Message, Icmpv6Message, Packet};

use super::Worker;
use super::handoff::Parcel;

/// The error in a packet, if it is one about a segment.
pub(super) fn quoting(packet: &Packet<'_>) -> Option<IcmpError> {
    match packet {
        Packet::Icmpv4(icmp) => match icmp.message {
            Icmpv4Message::Error(error) => Some(error),
            _ => None,
        },
        Packet::Icmpv6(icmp) => match icmp.message {
            Icmpv6Message::Error(error) => Some(error),
            _ => None,
        },
        _ => None,
    }
}

impl Worker {
    /// Tells the stack of an error. False if the flow is unknown here.
    pub(super) fn hear_icmp(&mut self, error: &IcmpError, arrived: Instant) -> bool {
        let from = SocketAddr::new(error.quoted.src, error.quoted.src_port);
        if !self.config.endpoints.contains(&from) {
            self.counters.not_ours += 1;
            return true;
        }
        self.stack.on_icmp(arrived, error) != IcmpVerdict::Unknown
    }

    /// Gives the parcel back unless it travels on.
    pub(super) fn on_foreign_icmp(
        &mut self,
        error: &IcmpError,
        parcel: Box<Parcel>,
    ) -> Option<Box<Parcel>> {
        if self.hear_icmp(error, parcel.arrived) {
            return Some(parcel);
        }
        let seen_by_all = self.handoff.as_mut()?.pass_further(parcel)?;
        self.counters.icmp_strays += 1;
        Some(seen_by_all)
    }
}
