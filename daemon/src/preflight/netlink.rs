//! The few bytes of netlink that preflight needs: requests out, messages and attributes in.
//!
//! Netlink instead of sysfs where both know an answer, because it speaks about the network namespace of the
//! socket, while `/sys` may be mounted from another one. Formats: `linux/netlink.h`; host byte order
//! throughout. Parsing trusts no length: what does not fit ends the iteration.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

const HEADER_BYTES: usize = 16;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The upper two bits of an attribute type are flags (`NLA_TYPE_MASK`).
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// The kernel fills replies up to the size of the buffer, 32 KiB at most.
const BUFFER_BYTES: usize = 64 << 10;

/// The two netlink protocols in use: `NETLINK_ROUTE` is 0, which rustix writes as `None`.
pub(super) const ROUTE: Option<Protocol> = None;
pub(super) const GENERIC: Option<Protocol> = Some(netlink::GENERIC);

/// A request under construction.
pub(super) struct Request {
    bytes: Vec<u8>,
    dump: bool,
}

impl Request {
    /// `payload` is the fixed header of the message type, such as `ifinfomsg`.
    pub(super) fn new(kind: u16, dump: bool, payload: &[u8]) -> Self {
        let flags = NLM_F_REQUEST | if dump { NLM_F_DUMP } else { 0 };
        let mut bytes = Vec::with_capacity(64);
        // The length is written when it is known; sequence number and port stay 0: one request per socket.
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(payload);
        pad(&mut bytes);
        Self { bytes, dump }
    }

    /// Appends an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(&mut self.bytes);
        self
    }

    /// Sends the request and returns the payloads of all answers.
    ///
    /// # Errors
    /// The kernel's refusal, or that of the socket calls.
    pub(super) fn send(mut self, protocol: Option<Protocol>) -> io::Result<Vec<Vec<u8>>> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let socket = open(protocol)?;
        sendto(
            &socket,
            &self.bytes,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        let mut answers = Vec::new();
        loop {
            let (_, length) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            let mut last = !self.dump;
            for (kind, payload) in messages(buffer.get(..length).unwrap_or_default()) {
                match kind {
                    NLMSG_DONE => last = true,
                    NLMSG_ERROR => refusal(payload)?,
                    _ => answers.push(payload.to_vec()),
                }
            }
            if last {
                return Ok(answers);
            }
        }
    }
}

fn open(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    // The kernel answers within the call; the limit only keeps a surprise from hanging the start.
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(2)))?;
    Ok(socket)
}

/// `NLMSG_ERROR`: a negative errno, 0 for an acknowledgement.
fn refusal(payload: &[u8]) -> io::Result<()> {
    let code = u32_at(payload, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code.saturating_neg()))
}

/// Type and payload of each message of a datagram.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let kind = u16_at(rest, 4)?;
        let payload = rest.get(HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// Type and value of each attribute.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & ATTRIBUTE_TYPE;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// A `u16` in host byte order.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

/// A `u32` in host byte order.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

/// A `u64` in host byte order.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*field))
}

/// Text without its terminating NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_attribute_survives_the_way_through_a_request() {
        let request = Request::new(18, false, &[7; 16])
            .attribute(3, b"eth1\0")
            .attribute(43 | 0x8000, &[1, 2, 3, 4]);
        let mut bytes = request.bytes;
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let (kind, payload) = messages(&bytes).next().unwrap();
        assert_eq!(kind, 18);
        let attributes: Vec<_> = attributes(&payload[16..]).collect();
        assert_eq!(attributes, [(3, &b"eth1\0"[..]), (43, &[1, 2, 3, 4][..])]);
        assert_eq!(text(attribute(&payload[16..], 3).unwrap()), "eth1");
    }

    #[test]
    fn a_refusal_is_an_error_and_an_acknowledgement_is_none() {
        let refused = refusal(&(-19_i32).to_ne_bytes()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(19));
        assert!(refusal(&0_i32.to_ne_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_iteration(bytes: Vec<u8>) {
            for (_, payload) in messages(&bytes) {
                prop_assert!(attributes(payload).count() <= payload.len() / 4 + 1);
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
