//! What an interface says about itself over generic netlink: channels, and AF_XDP abilities of its driver.
//!
//! Two questions that `bind` answers wrongly. It accepts queue numbers that the driver uses for something else
//! (virtio_net, which later crashes) or that only receive; and it accepts checksum metadata that the driver then ignores
//! (igb, virtio_net in zero-copy mode). Both answers are optional: a kernel or driver that does not tell is taken at
//! `bind`'s word for queues, and at no word for checksums.
//!
//! Formats: `Documentation/netlink/specs/{ethtool,netdev}.yaml`, `Documentation/userspace-api/netlink/intro.rst`.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::syscall;

/// `NETDEV_XSK_FLAGS_TX_CHECKSUM`.
const XSK_TX_CHECKSUM: u64 = 1 << 1;

/// `ETHTOOL_MSG_CHANNELS_GET`, `ETHTOOL_A_CHANNELS_*`.
mod channels {
    pub(super) const GET: u8 = 17;
    pub(super) const HEADER: u16 = 1;
    pub(super) const HEADER_DEV_INDEX: u16 = 1;
    pub(super) const RX_COUNT: u16 = 6;
    pub(super) const TX_COUNT: u16 = 7;
    pub(super) const COMBINED_COUNT: u16 = 9;
}

/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_*`.
mod netdev {
    pub(super) const GET: u8 = 1;
    pub(super) const IFINDEX: u16 = 1;
    pub(super) const XDP_ZC_MAX_SEGS: u16 = 4;
    pub(super) const XSK_FEATURES: u16 = 6;
}

const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
/// Bits of an attribute's type that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const NLA_FLAGS: u16 = 0xc000;
const NLA_NESTED: u16 = 0x8000;

/// Queues of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) rx: u32,
    pub(crate) tx: u32,
}

/// AF_XDP abilities of an interface's driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct XskFeatures {
    /// Zero-copy transmission honours the checksum metadata.
    pub(crate) tx_checksum: bool,
    /// The most frames of a packet in zero-copy mode.
    pub(crate) zero_copy_frames: Option<u32>,
}

/// Queues of interface `ifindex`.
///
/// # Errors
/// Those of the kernel; `EOPNOTSUPP` where the driver has no notion of channels.
pub(crate) fn channels(ifindex: u32) -> io::Result<Channels> {
    let mut header = Vec::new();
    put(
        &mut header,
        channels::HEADER_DEV_INDEX,
        &ifindex.to_ne_bytes(),
    );
    let mut request = Vec::new();
    put(&mut request, channels::HEADER | NLA_NESTED, &header);
    let reply = Genl::open("ethtool")?.ask(channels::GET, &request)?;
    let count = |wanted| find_u32(&reply, wanted).unwrap_or(0);
    let combined = count(channels::COMBINED_COUNT);
    Ok(Channels {
        rx: combined.saturating_add(count(channels::RX_COUNT)),
        tx: combined.saturating_add(count(channels::TX_COUNT)),
    })
}

/// AF_XDP abilities of interface `ifindex`.
///
/// # Errors
/// Those of the kernel; `ENOENT` before Linux 6.3.
pub(crate) fn xsk_features(ifindex: u32) -> io::Result<XskFeatures> {
    let mut request = Vec::new();
    put(&mut request, netdev::IFINDEX, &ifindex.to_ne_bytes());
    let reply = Genl::open("netdev")?.ask(netdev::GET, &request)?;
    let features = find(&reply, netdev::XSK_FEATURES)
        .and_then(|value| value.try_into().ok())
        .map_or(0, u64::from_ne_bytes);
    Ok(XskFeatures {
        tx_checksum: features & XSK_TX_CHECKSUM != 0,
        zero_copy_frames: find_u32(&reply, netdev::XDP_ZC_MAX_SEGS),
    })
}

/// A generic netlink socket and the family it speaks to.
struct Genl {
    socket: File,
    family: u16,
}

impl Genl {
    /// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
    const CONTROL: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;

    fn open(name: &str) -> io::Result<Self> {
        let fd = syscall::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC)?;
        let mut control = Self {
            socket: File::from(fd),
            family: Self::CONTROL,
        };
        let mut request = Vec::new();
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        put(&mut request, Self::FAMILY_NAME, &text);
        let reply = control.ask(Self::GET_FAMILY, &request)?;
        control.family = find(&reply, Self::FAMILY_ID)
            .and_then(|value| value.try_into().ok())
            .map(u16::from_ne_bytes)
            .ok_or_else(malformed)?;
        Ok(control)
    }

    /// Sends one request without dump and returns the attributes of the one answer.
    fn ask(&mut self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        self.socket
            .write_all(&request(self.family, command, attributes))?;
        // Room for the longest answer, `CTRL_CMD_GETFAMILY` with its list of operations.
        let mut buffer = vec![0; 16 << 10];
        let length = self.socket.read(&mut buffer)?;
        buffer.truncate(length);
        answer(&buffer).map(<[u8]>::to_vec)
    }
}

fn request(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    const NLM_F_REQUEST: u16 = 1;
    let length = NLMSG_HEADER + GENL_HEADER + attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one question, one answer
    message.extend([command, 1, 0, 0]); // version 1
    message.extend(attributes);
    message
}

/// The attributes of a message, or the error it carries.
fn answer(message: &[u8]) -> io::Result<&[u8]> {
    const NLMSG_ERROR: u16 = 2;
    let length = read_u32(message, 0).ok_or_else(malformed)? as usize;
    let kind = read_u16(message, 4).ok_or_else(malformed)?;
    if kind == NLMSG_ERROR {
        let code = read_u32(message, NLMSG_HEADER).ok_or_else(malformed)?;
        return Err(io::Error::from_raw_os_error(
            0_i32.wrapping_sub(code.cast_signed()),
        ));
    }
    message
        .get(NLMSG_HEADER + GENL_HEADER..length)
        .ok_or_else(malformed)
}

/// Appends an attribute, padded to 4 bytes.
fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = ATTRIBUTE_HEADER + value.len();
    out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The value of the first attribute of `kind`.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(read_u16(attributes, 0)?);
        let found = read_u16(attributes, 2)? & !NLA_FLAGS;
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn find_u32(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind).and_then(|value| read_u32(value, 0))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_padding_and_flags() {
        let mut attributes = Vec::new();
        put(&mut attributes, 3, b"abc");
        put(&mut attributes, 5 | NLA_NESTED, &7_u32.to_ne_bytes());
        assert_eq!(find(&attributes, 3), Some(&b"abc"[..]));
        assert_eq!(find_u32(&attributes, 5), Some(7));
        assert_eq!(find(&attributes, 6), None);
    }

    #[test]
    fn truncated_attributes_end_the_search() {
        let mut attributes = Vec::new();
        put(&mut attributes, 3, b"abcdefgh");
        for length in 0..attributes.len() {
            assert_eq!(find(&attributes[..length], 3), None, "{length}");
        }
        // A length of zero must not loop.
        assert_eq!(find(&[0; 16], 3), None);
    }

    #[test]
    fn an_error_answer_is_its_errno() {
        let mut message = request(16, 0, &[]);
        message[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        message[16..20].copy_from_slice(&(-libc::ENODEV).to_ne_bytes());
        let error = answer(&message).expect_err("it carries an error");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_loopback_interface_has_no_zero_copy_features() {
        // Interface 1 is the loopback of every network namespace. Sandboxes may forbid netlink: then nothing is known.
        if let Ok(features) = xsk_features(1) {
            assert!(!features.tx_checksum);
        }
    }
}
