//! Ethernet II with up to two VLAN tags: who sent the frame, to whom, and what it carries.
//!
//! 802.3 length fields and LLC are not IP as we speak it and end as an unsupported EtherType. Whether the
//! destination is our own MAC address is not decided here: the caller knows the interface.

use core::fmt;

use crate::emit::EmitError;
use crate::frame::Frame;
use crate::vlan::{TAG_LEN, VlanTag, VlanTags};
use crate::{DropReason, be};

pub(crate) const ETHER_TYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHER_TYPE_ARP: u16 = 0x0806;
pub(crate) const ETHER_TYPE_IPV6: u16 = 0x86dd;

/// Bytes of the header without tags: two addresses and the EtherType.
pub(crate) const HEADER_LEN: usize = 14;
/// Bytes of the two addresses, where tags or the EtherType begin.
const ADDRESSES_LEN: usize = 12;

/// A MAC address in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether it names a group (multicast or broadcast) rather than one station.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The group address that carries an IPv6 multicast address (RFC 2464 7).
    #[must_use]
    pub const fn ipv6_multicast(address: core::net::Ipv6Addr) -> MacAddr {
        let [.., a, b, c, d] = address.octets();
        MacAddr([0x33, 0x33, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The link layer of a frame, without its EtherType.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkHeader {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// VLAN tags, outermost first.
    pub vlan: VlanTags,
}

impl LinkHeader {
    /// The header of an answer: addresses swapped, tags kept.
    #[must_use]
    pub const fn reply(&self) -> LinkHeader {
        LinkHeader {
            dst: self.src,
            src: self.dst,
            vlan: self.vlan,
        }
    }

    /// Bytes on the wire, EtherType included: 14, 18 or 22.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN + TAG_LEN * self.vlan.len()
    }

    /// Writes the header; the number of bytes written is [`LinkHeader::encoded_len`].
    pub(crate) fn emit(&self, ether_type: u16, buf: &mut [u8]) -> Result<usize, EmitError> {
        let len = self.encoded_len();
        let header = buf.get_mut(..len).ok_or(EmitError::BufferTooSmall)?;
        header[..6].copy_from_slice(&self.dst.0);
        header[6..ADDRESSES_LEN].copy_from_slice(&self.src.0);
        let (tags, _) = header[ADDRESSES_LEN..].as_chunks_mut::<TAG_LEN>();
        for (place, tag) in tags.iter_mut().zip(self.vlan.as_slice()) {
            *place = tag.to_bytes();
        }
        header[len - 2..].copy_from_slice(&ether_type.to_be_bytes());
        Ok(len)
    }
}

/// Reads the link header; the offset of what follows is the header's `encoded_len`.
pub(crate) fn parse(frame: &Frame<'_>, accept_vlan: bool) -> Result<(LinkHeader, u16), DropReason> {
    let header: &[u8; HEADER_LEN] = frame.array(0, DropReason::EthernetTruncated)?;
    let mut link = LinkHeader {
        dst: MacAddr(be::array_at(header, 0)),
        src: MacAddr(be::array_at(header, 6)),
        vlan: VlanTags::NONE,
    };
    if link.src.is_group() {
        return Err(DropReason::EthernetGroupSource);
    }
    let mut ether_type = be::u16_at(header, ADDRESSES_LEN);
    while VlanTag::is_tpid(ether_type) {
        if !accept_vlan {
            return Err(DropReason::VlanNotAccepted);
        }
        // What follows a TPID is the rest of the tag and the next EtherType.
        let rest: &[u8; TAG_LEN] = frame.array(link.encoded_len(), DropReason::VlanTruncated)?;
        if !link.vlan.push(VlanTag {
            tpid: ether_type,
            tci: be::u16_at(rest, 0),
        }) {
            return Err(DropReason::VlanTooManyTags);
        }
        ether_type = be::u16_at(rest, 2);
    }
    Ok((link, ether_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const DST: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SRC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn frame_with(rest: &[u8]) -> std::vec::Vec<u8> {
        [&DST[..], &SRC[..], rest].concat()
    }

    fn parse_all(bytes: &[u8], vlan: bool) -> Result<(LinkHeader, u16), DropReason> {
        parse(&Frame::new(bytes, bytes.len()), vlan)
    }

    #[test]
    fn an_untagged_header_has_fourteen_bytes() {
        let (link, ether_type) = parse_all(&frame_with(&[0x08, 0x00]), false).unwrap();
        assert_eq!(
            (link.dst.0, link.src.0, ether_type),
            (DST, SRC, ETHER_TYPE_IPV4)
        );
        assert_eq!(link.encoded_len(), 14);
    }

    #[test]
    fn two_tags_are_kept_in_order() {
        let bytes = frame_with(&[0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x60, 0x07, 0x86, 0xdd]);
        let (link, ether_type) = parse_all(&bytes, true).unwrap();
        assert_eq!(ether_type, ETHER_TYPE_IPV6);
        assert_eq!(link.encoded_len(), 22);
        let vids: std::vec::Vec<_> = link
            .vlan
            .as_slice()
            .iter()
            .map(|t| (t.tpid, t.vid()))
            .collect();
        assert_eq!(vids, [(0x88a8, 5), (0x8100, 7)]);
    }

    #[test]
    fn a_third_tag_is_refused() {
        let bytes = frame_with(&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 0x08, 0x00]);
        assert_eq!(parse_all(&bytes, true), Err(DropReason::VlanTooManyTags));
    }

    #[test]
    fn tags_need_the_configurations_consent() {
        let bytes = frame_with(&[0x81, 0, 0, 1, 0x08, 0x00]);
        assert_eq!(parse_all(&bytes, false), Err(DropReason::VlanNotAccepted));
    }

    #[test]
    fn a_group_source_is_refused() {
        let mut bytes = frame_with(&[0x08, 0x00]);
        bytes[6] |= 1;
        assert_eq!(
            parse_all(&bytes, false),
            Err(DropReason::EthernetGroupSource)
        );
    }

    #[test]
    fn a_reply_goes_back_through_the_same_tags() {
        let (link, _) = parse_all(&frame_with(&[0x81, 0, 0, 9, 0x08, 0x00]), true).unwrap();
        let reply = link.reply();
        let mut out = [0; 18];
        assert_eq!(reply.emit(ETHER_TYPE_IPV4, &mut out), Ok(18));
        assert_eq!(
            out,
            [
                2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 9, 0x08, 0x00
            ]
        );
        assert_eq!(
            reply.emit(ETHER_TYPE_IPV4, &mut out[..17]),
            Err(EmitError::BufferTooSmall)
        );
    }

    #[test]
    fn addresses_print_in_the_usual_form() {
        assert_eq!(
            MacAddr([0xde, 0xad, 0, 0xbe, 0xef, 1]).to_string(),
            "de:ad:00:be:ef:01"
        );
    }
}
