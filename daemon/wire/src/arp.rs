//! ARP for IPv4 over Ethernet (RFC 826, RFC 5227).
//!
//! Used in owned-address mode only, where the kernel does not have the address and somebody must answer.
//! Whether a request is for one of our addresses is the caller's question.

use core::net::Ipv4Addr;

use crate::address::is_unicast_v4;
use crate::emit::EmitError;
use crate::ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, LinkHeader, MacAddr};
use crate::frame::Frame;
use crate::{DropReason, be};

const LEN: usize = 28;
const HARDWARE_ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What an ARP packet wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpPacket {
    /// Link header.
    pub link: LinkHeader,
    /// Request or reply.
    pub operation: ArpOperation,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender; 0.0.0.0 in a probe (RFC 5227 1.1).
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; without meaning in a request.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// The answer to this request, saying that `mac` has the target address.
    #[must_use]
    pub fn reply(&self, mac: MacAddr) -> ArpPacket {
        ArpPacket {
            link: LinkHeader {
                dst: self.sender_mac,
                src: mac,
                vlan: self.link.vlan,
            },
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Writes the frame and returns its length in bytes; padding to 60 is left to the device.
    ///
    /// # Errors
    /// [`EmitError::BufferTooSmall`].
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize, EmitError> {
        let offset = self.link.emit(ETHER_TYPE_ARP, buf)?;
        let packet: &mut [u8; LEN] = buf[offset..]
            .first_chunk_mut()
            .ok_or(EmitError::BufferTooSmall)?;
        let operation = match self.operation {
            ArpOperation::Request => REQUEST,
            ArpOperation::Reply => REPLY,
        };
        be::put(packet, 0, HARDWARE_ETHERNET.to_be_bytes());
        be::put(packet, 2, ETHER_TYPE_IPV4.to_be_bytes());
        // Lengths of a hardware and a protocol address.
        be::put(packet, 4, [6, 4]);
        be::put(packet, 6, operation.to_be_bytes());
        be::put(packet, 8, self.sender_mac.0);
        be::put(packet, 14, self.sender_ip.octets());
        be::put(packet, 18, self.target_mac.0);
        be::put(packet, 24, self.target_ip.octets());
        Ok(offset + LEN)
    }
}

pub(crate) fn parse(frame: &Frame<'_>, link: LinkHeader) -> Result<ArpPacket, DropReason> {
    let packet: &[u8; LEN] = frame.array(link.encoded_len(), DropReason::ArpTruncated)?;
    let ipv4_over_ethernet = be::u16_at(packet, 0) == HARDWARE_ETHERNET
        && be::u16_at(packet, 2) == ETHER_TYPE_IPV4
        && packet[4..6] == [6, 4];
    let operation = match be::u16_at(packet, 6) {
        REQUEST if ipv4_over_ethernet => ArpOperation::Request,
        REPLY if ipv4_over_ethernet => ArpOperation::Reply,
        _ => return Err(DropReason::ArpUnsupported),
    };
    let arp = ArpPacket {
        link,
        operation,
        sender_mac: MacAddr(be::array_at(packet, 8)),
        sender_ip: Ipv4Addr::from_octets(be::array_at(packet, 14)),
        target_mac: MacAddr(be::array_at(packet, 18)),
        target_ip: Ipv4Addr::from_octets(be::array_at(packet, 24)),
    };
    let probe = arp.operation == ArpOperation::Request && arp.sender_ip.is_unspecified();
    let sender_is_host = probe || is_unicast_v4(arp.sender_ip);
    if arp.sender_mac.is_group() || !sender_is_host || !is_unicast_v4(arp.target_ip) {
        return Err(DropReason::ArpBadAddress);
    }
    Ok(arp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A request as seen on a wire: who has 192.0.2.1? tell 192.0.2.9.
    const REQUEST_FRAME: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x08, 0x06, // link
        0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, lengths, request
        2, 0, 0, 0, 0, 9, 192, 0, 2, 9, // sender
        0, 0, 0, 0, 0, 0, 192, 0, 2, 1, // target
    ];

    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn parse_all(bytes: &[u8]) -> Result<ArpPacket, DropReason> {
        let frame = Frame::new(bytes, bytes.len());
        let (link, _) = crate::ethernet::parse(&frame, false)?;
        parse(&frame, link)
    }

    fn with(change: impl FnOnce(&mut [u8; 42])) -> [u8; 42] {
        let mut frame = REQUEST_FRAME;
        change(&mut frame);
        frame
    }

    #[test]
    fn a_request_is_read() {
        let request = parse_all(&REQUEST_FRAME).unwrap();
        assert_eq!(request.operation, ArpOperation::Request);
        assert_eq!(request.sender_mac, MacAddr([2, 0, 0, 0, 0, 9]));
        assert_eq!(request.sender_ip, Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(request.target_ip, Ipv4Addr::new(192, 0, 2, 1));
    }

    #[test]
    fn the_reply_is_written_byte_for_byte() {
        let mut out = [0xee; 64];
        assert_eq!(
            parse_all(&REQUEST_FRAME)
                .unwrap()
                .reply(OURS)
                .emit(&mut out),
            Ok(42)
        );
        let expected: [u8; 42] = [
            2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x06, // link
            0, 1, 8, 0, 6, 4, 0, 2, // reply
            2, 0, 0, 0, 0, 1, 192, 0, 2, 1, // sender: us
            2, 0, 0, 0, 0, 9, 192, 0, 2, 9, // target: who asked
        ];
        assert_eq!(out[..42], expected);
        assert_eq!(out[42..], [0xee; 22]);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let reply = parse_all(&REQUEST_FRAME).unwrap().reply(OURS);
        let mut out = [0; 42];
        reply.emit(&mut out).unwrap();
        assert_eq!(parse_all(&out), Ok(reply));
    }

    #[test]
    fn a_probe_without_a_sender_address_is_a_request() {
        let probe = with(|f| f[28..32].fill(0));
        assert_eq!(parse_all(&probe).unwrap().sender_ip, Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn each_broken_field_has_its_reason() {
        let cases: Vec<(&str, [u8; 42], DropReason)> = std::vec![
            (
                "hardware type",
                with(|f| f[15] = 6),
                DropReason::ArpUnsupported
            ),
            (
                "protocol type",
                with(|f| f[16] = 0x86),
                DropReason::ArpUnsupported
            ),
            (
                "hardware length",
                with(|f| f[18] = 8),
                DropReason::ArpUnsupported
            ),
            (
                "protocol length",
                with(|f| f[19] = 16),
                DropReason::ArpUnsupported
            ),
            (
                "reverse ARP",
                with(|f| f[21] = 3),
                DropReason::ArpUnsupported
            ),
            (
                "group sender hardware",
                with(|f| f[22] = 0xff),
                DropReason::ArpBadAddress
            ),
            (
                "multicast sender",
                with(|f| f[28] = 224),
                DropReason::ArpBadAddress
            ),
            (
                "loopback target",
                with(|f| f[38] = 127),
                DropReason::ArpBadAddress
            ),
            (
                "reply without sender",
                with(|f| {
                    f[21] = 2;
                    f[28..32].fill(0);
                }),
                DropReason::ArpBadAddress
            ),
        ];
        for (what, frame, reason) in cases {
            assert_eq!(parse_all(&frame), Err(reason), "{what}");
        }
    }

    #[test]
    fn a_buffer_one_byte_short_is_refused() {
        let reply = parse_all(&REQUEST_FRAME).unwrap().reply(OURS);
        assert_eq!(reply.emit(&mut [0; 41]), Err(EmitError::BufferTooSmall));
        assert_eq!(reply.emit(&mut [0; 13]), Err(EmitError::BufferTooSmall));
    }
}
