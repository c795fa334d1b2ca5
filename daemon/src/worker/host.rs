//! Owned addresses: what the kernel would answer for an address it has, and now we do (design section 3, "The
//! host stays the host"). ARP, neighbour discovery and echo; everything else is dropped and counted.

use core::net::IpAddr;

use sluice_wire::{ArpOperation, Icmpv4Message, Icmpv6Message, Packet};

use super::Worker;

impl Worker {
    /// Answers a frame that is not TCP, if it asks for an address we own.
    pub(super) fn answer_host(&mut self, packet: &Packet<'_>) {
        let mac = self.config.mac;
        match packet {
            Packet::Arp(arp)
                if arp.operation == ArpOperation::Request
                    && self.owns(IpAddr::V4(arp.target_ip)) =>
            {
                let reply = arp.reply(mac);
                self.send_frame(|buffer| reply.emit(buffer).ok());
            }
            Packet::Icmpv4(icmp)
                if matches!(icmp.message, Icmpv4Message::EchoRequest(_))
                    && self.owns(IpAddr::V4(icmp.dst)) =>
            {
                if let Some(reply) = icmp.reply() {
                    self.send_frame(|buffer| reply.emit(buffer).ok());
                }
            }
            Packet::Icmpv6(icmp) => {
                let asked = match icmp.message {
                    Icmpv6Message::EchoRequest(_) => Some(icmp.dst),
                    Icmpv6Message::NeighborSolicitation(ref question) => Some(question.target),
                    _ => None,
                };
                if let Some(address) = asked
                    && self.owns(IpAddr::V6(address))
                    && let Some(reply) = icmp.reply(mac)
                {
                    self.send_frame(|buffer| reply.emit(buffer).ok());
                } else {
                    self.counters.not_ours += 1;
                }
            }
            _ => self.counters.not_ours += 1,
        }
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.config.owned.contains(&address)
    }
}
