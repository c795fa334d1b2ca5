//! What the link does to the bytes of a frame: read and set ECN, invert a bit.

use super::model::Arrival;

const ETHERNET: usize = 14;
/// EtherType and the bits of version 4 with the shortest header.
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Not-ECT (RFC 3168 section 5).
const NOT_ECT: u8 = 0b00;
const CE: u8 = 0b11;

/// What the model needs to know of a frame.
pub fn arrival(frame: &[u8]) -> Arrival {
    Arrival {
        bytes: frame.len() as u64,
        ecn_capable: ecn(frame).is_some_and(|ecn| ecn != NOT_ECT),
    }
}

/// Sets Congestion Experienced; leaves alone what is not IP.
pub fn mark(frame: &mut [u8]) {
    match (ether_type(frame), frame.get_mut(ETHERNET..)) {
        (Some(IPV4), Some(ip)) if ip.len() >= 20 => {
            let before = u16::from_be_bytes([ip[0], ip[1]]);
            ip[1] |= CE;
            let after = u16::from_be_bytes([ip[0], ip[1]]);
            let checksum = u16::from_be_bytes([ip[10], ip[11]]);
            ip[10..12].copy_from_slice(&updated(checksum, before, after).to_be_bytes());
        }
        // The traffic class lies across the first two bytes: ECN is bits 4 and 5 of the second. No checksum.
        (Some(IPV6), Some(ip)) if ip.len() >= 40 => ip[1] |= CE << 4,
        _ => {}
    }
}

/// Inverts the bit behind the Ethernet header that `number` names, so that the frame still reaches its station.
pub fn corrupt(frame: &mut [u8], number: u64) {
    let Some(packet) = frame.get_mut(ETHERNET..).filter(|rest| !rest.is_empty()) else {
        return;
    };
    let bit = number % (packet.len() as u64 * 8);
    // Below the length of the packet, which is a usize.
    let at = usize::try_from(bit / 8).unwrap_or(0);
    packet[at] ^= 1 << (bit % 8);
}

fn ether_type(frame: &[u8]) -> Option<[u8; 2]> {
    frame.get(12..ETHERNET)?.try_into().ok()
}

fn ecn(frame: &[u8]) -> Option<u8> {
    let second = *frame.get(ETHERNET + 1)?;
    match ether_type(frame)? {
        IPV4 => Some(second & 0b11),
        IPV6 => Some(second >> 4 & 0b11),
        _ => None,
    }
}

/// A header checksum after one of its words changed (RFC 1624 equation 3).
fn updated(checksum: u16, before: u16, after: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 frame with this ECN field and a right header checksum.
    fn ipv4(ecn: u8) -> Vec<u8> {
        let mut frame = vec![0u8; ETHERNET];
        frame[12..].copy_from_slice(&IPV4);
        let mut ip = [
            0x45, ecn, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00,
            0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        let checksum = !folded(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(ip);
        frame
    }

    fn folded(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks_exact(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    fn ipv6(ecn: u8) -> Vec<u8> {
        let mut frame = vec![0u8; ETHERNET + 40];
        frame[12..14].copy_from_slice(&IPV6);
        frame[ETHERNET] = 0x60;
        frame[ETHERNET + 1] = ecn << 4 | 0x05;
        frame
    }

    #[test]
    fn ecn_capable_is_everything_but_not_ect() {
        for ecn in 0..4 {
            assert_eq!(arrival(&ipv4(ecn)).ecn_capable, ecn != 0);
            assert_eq!(arrival(&ipv6(ecn)).ecn_capable, ecn != 0);
        }
        assert!(!arrival(&[0xff; 60]).ecn_capable);
        assert!(!arrival(&[]).ecn_capable);
    }

    #[test]
    fn a_mark_keeps_the_ipv4_checksum_right() {
        for ecn in 1..4 {
            let mut frame = ipv4(ecn);
            mark(&mut frame);
            assert_eq!(frame[ETHERNET + 1] & CE, CE);
            assert_eq!(folded(&frame[ETHERNET..]), 0xffff);
        }
    }

    #[test]
    fn a_mark_leaves_the_rest_of_the_ipv6_header_alone() {
        let mut frame = ipv6(2);
        mark(&mut frame);
        assert_eq!(frame, ipv6(3));
    }

    #[test]
    fn frames_that_are_not_ip_are_not_marked() {
        let mut frame = vec![0x11; 60];
        mark(&mut frame);
        assert_eq!(frame, [0x11; 60]);
        mark(&mut []);
    }

    #[test]
    fn corruption_inverts_one_bit_behind_the_ethernet_header() {
        for number in [0, 1, 159, 160, u64::MAX] {
            let (before, mut after) = (ipv4(0), ipv4(0));
            corrupt(&mut after, number);
            let differing: u32 = before
                .iter()
                .zip(&after)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert_eq!(differing, 1);
            assert_eq!(before[..ETHERNET], after[..ETHERNET]);
        }
        corrupt(&mut [0; 14], 3);
    }
}
