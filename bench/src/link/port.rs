//! One interface as raw frames: an AF_PACKET socket that sees everything that arrives there.
//!
//! `nix` wraps the calls but has no constructor for a `sockaddr_ll`. The address list of the interfaces
//! (getifaddrs(3)) contains one per interface, with its index and protocol 0, and bind(2) with protocol 0 keeps
//! the protocol that socket(2) was given (packet_bind in net/packet/af_packet.c). So no line here is unsafe.
//!
//! Frames must be as long on the wire as here: `ethtool -K IF tso off gso off gro off` at the interfaces of the
//! middle, and `tx off` at the senders behind them, because a packet socket shows the unfinished checksum that a
//! virtual sender leaves to its device (kernel-documented as TP_STATUS_CSUMNOTREADY, packet(7)).

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimestampns, RxqOvfl, SndBufForce};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind,
    recvmsg, send, setsockopt, socket,
};
use nix::sys::time::TimeSpec;

/// What the kernel may keep for us in each direction, in bytes of its accounting (about 2,304 per 1,514-byte
/// frame): a tenth of a second of gigabit traffic, in case the forwarder does not get the CPU.
const BUFFER_BYTES: usize = 32 << 20;
/// Frames of any MTU fit; a longer one is a super-packet.
pub const FRAME_BYTES: usize = 9216 + 18;
/// `sll_pkttype` of a copy of what this host sent (packet(7)).
const PACKET_OUTGOING: u8 = 4;

/// A bound socket.
pub struct Port {
    socket: OwnedFd,
    index: usize,
    control: Vec<u8>,
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes in the buffer; more than the buffer has if it was cut.
    pub len: usize,
    /// How long ago the kernel got it.
    pub age: Duration,
    /// Frames that the kernel dropped so far because the socket was full.
    pub overflow: Option<u32>,
}

/// What a look at the socket gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing is waiting.
    Empty,
    /// Something that is not for the link: a copy of what it sent itself.
    Skip,
    /// A frame.
    Frame(Received),
}

impl Port {
    /// Opens the interface. Needs CAP_NET_RAW and CAP_NET_ADMIN in its namespace.
    pub fn open(name: &str) -> io::Result<Port> {
        let (socket, address) = open(name, Some(SockProtocol::EthAll))?;
        setsockopt(&socket, RcvBufForce, &BUFFER_BYTES)?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        Ok(Port {
            socket,
            index: address.ifindex(),
            control: cmsg_space!(TimeSpec, u32),
        })
    }

    /// Takes the next frame into `buffer`.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Look> {
        let room = buffer.len();
        let mut pieces = [IoSliceMut::new(buffer)];
        // MSG_TRUNC asks for the length that the frame had before it was cut to the buffer.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let message = recvmsg::<LinkAddr>(
            self.socket.as_raw_fd(),
            &mut pieces,
            Some(&mut self.control),
            flags,
        );
        let message = match message {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Look::Empty),
            Err(error) => return Err(error.into()),
        };
        // Between socket(2) and bind(2) the socket hears every interface.
        let ours =
            |from: LinkAddr| from.ifindex() == self.index && from.pkttype() != PACKET_OUTGOING;
        if !message.address.is_some_and(ours) {
            return Ok(Look::Skip);
        }
        let mut received = Received {
            len: message.bytes.min(room.saturating_add(1)),
            age: Duration::ZERO,
            overflow: None,
        };
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(stamp) => received.age = age(stamp),
                ControlMessageOwned::RxqOvfl(count) => received.overflow = Some(count),
                _ => {}
            }
        }
        Ok(Look::Frame(received))
    }

    /// Sends a frame; false if the device or the socket had no room and the frame is lost.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EMSGSIZE | Errno::ENETDOWN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A socket that sends frames on an interface and hears none, so that what arrives there is not copied for it.
pub fn sender(name: &str) -> io::Result<OwnedFd> {
    Ok(open(name, None)?.0)
}

/// A socket that is bound to an interface, and its address.
fn open(name: &str, protocol: Option<SockProtocol>) -> io::Result<(OwnedFd, LinkAddr)> {
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or(Errno::ENODEV)?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    bind(socket.as_raw_fd(), &address)?;
    setsockopt(&socket, SndBufForce, &BUFFER_BYTES)?;
    Ok((socket, address))
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The kernel stamps in CLOCK_REALTIME, which may be set while we run: an impossible age is none.
fn age(stamp: TimeSpec) -> Duration {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let age = now.saturating_sub(Duration::from(stamp));
    if age > Duration::from_secs(1) {
        Duration::ZERO
    } else {
        age
    }
}
