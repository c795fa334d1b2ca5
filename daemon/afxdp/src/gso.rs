//! The packet-socket lane: super-segments of up to 64 KiB that the device, or the kernel in front of it, cuts into
//! packets.
//!
//! AF_XDP has no segmentation offload: every frame costs the kernel an skb. A packet socket with `PACKET_VNET_HDR`
//! takes the headers and the payload of many segments in one system call. What the device cannot cut, the kernel cuts
//! before it (`validate_xmit_skb`), so there is nothing to probe. The payload is copied during the call: its memory is
//! the caller's again when it returns.
//!
//! The socket is bound without a protocol and receives nothing. Unlike those of AF_XDP, its packets pass queueing
//! discipline, tc egress, nft egress and packet taps of the interface. So [`GsoSocket::send`] returning says that they
//! are behind everything that left before them only where nothing waits in the qdisc, and where it picks the TX queue that
//! the AF_XDP socket sends on.
//!
//! `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c` (`packet_snd`), `include/uapi/linux/virtio_net.h`.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::OpenError;
use crate::queue::{TxChecksum, set_send_buffer};
use crate::syscall;

/// Bytes of headers and payload of a super-segment at most: the IP length has 16 bits, and every device takes as much
/// (`GSO_LEGACY_MAX_SIZE`).
pub const SUPER_SEGMENT_BYTES: usize = 65_535;

/// Pieces in which the headers and the payload of one super-segment may lie at most.
pub const SUPER_SEGMENT_PIECES: usize = 15;

/// Super-segments that one call takes at most. More of them save little and leave later (docs/PERFORMANCE.md, "System
/// calls").
pub const SUPER_SEGMENTS_AT_ONCE: usize = syscall::MESSAGES_AT_ONCE;

/// `struct virtio_net_hdr`.
const VNET_HEADER_BYTES: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`, `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_TCPV6`.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// How a super-segment is cut into packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GsoCut {
    /// IPv6; else IPv4.
    pub ipv6: bool,
    /// Bytes of all headers in front of the payload.
    pub headers: u16,
    /// Payload bytes of every packet but the last, which may be shorter.
    pub payload: u16,
    /// The checksum to be completed in every packet. Its field holds the pseudo-header sum of the whole super-segment.
    pub checksum: TxChecksum,
}

/// Why a super-segment did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoError {
    /// The send buffer is full (`EAGAIN`): nothing was taken.
    Full,
    /// Queueing discipline or device dropped it, or some of its packets (`ENOBUFS`): they count as lost on the way.
    Dropped,
    /// The interface is down (`ENETDOWN`).
    Down,
    /// Any other errno: the interface is gone, or something in front of it refuses such packets.
    Refused(i32),
}

/// Headers and payload of a super-segment, where they lie. If they are no longer than one packet it is not cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuperSegment<'a> {
    /// How it is cut.
    pub cut: GsoCut,
    /// Its bytes, headers first; what is not used is empty.
    pub pieces: [&'a [u8]; SUPER_SEGMENT_PIECES],
}

/// A socket that sends super-segments on one interface.
#[derive(Debug)]
pub struct GsoSocket {
    port: Port,
}

#[derive(Debug)]
enum Port {
    Kernel(File),
    Memory(Arc<Mutex<Taken>>),
}

/// Super-segments between two calls of [`GsoTwin::take`] that the twin has memory for; more are an allocation each.
const TWIN_STOCK: usize = 64;

/// What the twin of a socket took, and how it answers.
#[derive(Debug, Default)]
struct Taken {
    super_segments: Vec<(GsoCut, Vec<u8>)>,
    /// Memory for more, so that sending does not allocate, as it does not with a kernel.
    spare: Vec<Vec<u8>>,
    /// How the send after so many more fails.
    failing: Option<(usize, GsoError)>,
    calls: usize,
}

impl Taken {
    fn stock(&mut self) {
        self.super_segments.reserve(TWIN_STOCK);
        let buffer = || Vec::with_capacity(SUPER_SEGMENT_BYTES);
        self.spare.resize_with(TWIN_STOCK, buffer);
    }

    fn send(&mut self, batch: &[SuperSegment<'_>]) -> Sent {
        self.calls += 1;
        let works = self.failing.map_or(batch.len(), |(left, _)| left);
        for segment in batch.iter().take(works) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            for piece in segment.pieces {
                bytes.extend_from_slice(piece);
            }
            self.super_segments.push((segment.cut, bytes));
        }
        let taken = works.min(batch.len());
        let mut error = None;
        if let Some((left, next)) = &mut self.failing {
            *left -= taken;
            if taken < batch.len() {
                error = Some(*next);
                self.failing = None;
            }
        }
        Sent { taken, error }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Super-segments that were taken, from the first on.
    pub taken: usize,
    /// What became of the next one, if there is one. Those behind it were not touched.
    pub error: Option<GsoError>,
}

impl GsoSocket {
    /// A socket for interface `ifindex` of the calling thread's network namespace, with a send buffer of `send_buffer`
    /// bytes, or of as much as the system grants. Needs CAP_NET_RAW now and nothing later.
    ///
    /// # Errors
    /// [`OpenError::MissingCapability`], [`OpenError::NoSuchInterface`], or what another system call answered.
    pub fn open(ifindex: u32, send_buffer: usize) -> Result<Self, OpenError> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
        let socket = syscall::socket(libc::AF_PACKET, kind, 0).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => OpenError::MissingCapability,
                _ => OpenError::Os {
                    call: "socket(AF_PACKET)",
                    source,
                },
            }
        })?;
        let fd = socket.as_fd();
        let on: libc::c_int = 1;
        syscall::set_option(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)
            .map_err(OpenError::os("setsockopt(PACKET_VNET_HDR)"))?;
        set_send_buffer(fd, send_buffer).map_err(OpenError::os("setsockopt(SO_SNDBUF)"))?;
        syscall::bind_packet(fd, ifindex).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV) => OpenError::NoSuchInterface { ifindex },
            _ => OpenError::Os {
                call: "bind(AF_PACKET)",
                source,
            },
        })?;
        Ok(GsoSocket {
            port: Port::Kernel(File::from(socket)),
        })
    }

    /// A socket without a kernel, and what takes its place.
    #[must_use]
    pub fn in_memory() -> (Self, GsoTwin) {
        let mut taken = Taken::default();
        taken.stock();
        let taken = Arc::new(Mutex::new(taken));
        let port = Port::Memory(Arc::clone(&taken));
        (GsoSocket { port }, GsoTwin { taken })
    }

    /// Sends super-segments in their order up to the first that is not taken, and of more than
    /// [`SUPER_SEGMENTS_AT_ONCE`] none of the rest. The pieces are the caller's again in any case. One system call, and
    /// another one where it is to be found out why a later one was not taken.
    pub fn send(&self, batch: &[SuperSegment<'_>]) -> Sent {
        let batch = &batch[..batch.len().min(SUPER_SEGMENTS_AT_ONCE)];
        match &self.port {
            Port::Kernel(socket) => send(socket, batch),
            Port::Memory(taken) => {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.send(batch)
            }
        }
    }
}

fn send(socket: &File, batch: &[SuperSegment<'_>]) -> Sent {
    let mut headers = [[0; VNET_HEADER_BYTES]; SUPER_SEGMENTS_AT_ONCE];
    for (header, segment) in headers.iter_mut().zip(batch) {
        *header = vnet_header(segment);
    }
    let mut vectors = [empty(); SUPER_SEGMENTS_AT_ONCE];
    let mut messages: [&[IoSlice<'_>]; SUPER_SEGMENTS_AT_ONCE] = [&[]; SUPER_SEGMENTS_AT_ONCE];
    let all = messages.iter_mut().zip(&mut vectors).zip(&headers);
    for (((message, vector), header), segment) in all.zip(batch) {
        let used = fill(vector, header, &segment.pieces);
        *message = &vector[..used];
    }
    // Packet sockets take all of a message or nothing.
    match syscall::send_messages(socket.as_fd(), &messages[..batch.len()]) {
        Ok(taken) if taken < batch.len() => Sent {
            taken,
            // The call keeps the reason to itself, and to try once more would send again what was dropped on the way.
            error: Some(match syscall::is_writable(socket.as_fd()) {
                true => GsoError::Dropped,
                false => GsoError::Full,
            }),
        },
        Ok(taken) => Sent { taken, error: None },
        Err(error) => Sent {
            taken: 0,
            error: Some(GsoError::of(&error)),
        },
    }
}

impl GsoError {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => GsoError::Full,
            Some(libc::ENOBUFS) => GsoError::Dropped,
            Some(libc::ENETDOWN) => GsoError::Down,
            other => GsoError::Refused(other.unwrap_or(0)),
        }
    }
}

/// The kernel's side of [`GsoSocket::in_memory`].
#[derive(Debug)]
pub struct GsoTwin {
    taken: Arc<Mutex<Taken>>,
}

impl GsoTwin {
    /// The super-segments sent since the last call: how they are to be cut, headers and payload.
    #[must_use]
    pub fn take(&self) -> Vec<(GsoCut, Vec<u8>)> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = core::mem::take(&mut taken.super_segments);
        taken.stock();
        sent
    }

    /// Makes the next send fail.
    pub fn fail_next(&self, error: GsoError) {
        self.fail_after(0, error);
    }

    /// Makes the send after `count` more super-segments fail.
    pub fn fail_after(&self, count: usize, error: GsoError) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.failing = Some((count, error));
    }

    /// What would have been system calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.calls
    }
}

/// A vector for the header of the socket and a super-segment.
type Vector<'a> = [IoSlice<'a>; SUPER_SEGMENT_PIECES + 1];

fn empty<'a>() -> Vector<'a> {
    [IoSlice::new(&[]); SUPER_SEGMENT_PIECES + 1]
}

/// Puts header and pieces, up to the first that is empty, into a vector. Returns the number of both.
fn fill<'a>(vector: &mut Vector<'a>, header: &'a [u8], pieces: &[&'a [u8]]) -> usize {
    vector[0] = IoSlice::new(header);
    let pieces = pieces.iter().take_while(|piece| !piece.is_empty());
    let filled = vector[1..].iter_mut().zip(pieces).map(|(slot, piece)| {
        *slot = IoSlice::new(piece);
    });
    1 + filled.count()
}

impl SuperSegment<'_> {
    /// Whether it is longer than one packet.
    fn is_cut(&self) -> bool {
        let whole = usize::from(self.cut.headers) + usize::from(self.cut.payload);
        self.pieces.iter().map(|piece| piece.len()).sum::<usize>() > whole
    }
}

/// The header of the packet socket: flags, GSO type, header length, segment size, start and offset of the checksum, in
/// the byte order of the machine. A single packet must not name a type: the kernel refuses it.
fn vnet_header(segment: &SuperSegment<'_>) -> [u8; VNET_HEADER_BYTES] {
    let cut = &segment.cut;
    let (kind, payload) = match (segment.is_cut(), cut.ipv6) {
        (false, _) => (GSO_NONE, 0),
        (true, false) => (GSO_TCPV4, cut.payload),
        (true, true) => (GSO_TCPV6, cut.payload),
    };
    let words = [
        cut.headers,
        payload,
        cut.checksum.start,
        cut.checksum.offset,
    ];
    let mut header = [0; VNET_HEADER_BYTES];
    header[0] = NEEDS_CSUM;
    header[1] = kind;
    for (place, word) in header[2..].chunks_exact_mut(2).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: GsoCut = GsoCut {
        ipv6: true,
        headers: 0x0102,
        payload: 0x0304,
        checksum: TxChecksum {
            start: 0x0506,
            offset: 0x0708,
        },
    };

    fn super_segment(payload: &[u8]) -> SuperSegment<'_> {
        let mut pieces: [&[u8]; SUPER_SEGMENT_PIECES] = [&[]; SUPER_SEGMENT_PIECES];
        pieces[0] = &[0; 0x0102];
        pieces[1] = payload;
        SuperSegment { cut: CUT, pieces }
    }

    #[test]
    fn the_header_has_the_layout_of_virtio_net() {
        let [h, p, s, o] = [0x0102_u16, 0x0304, 0x0506, 0x0708].map(u16::to_ne_bytes);
        let expected = [1, 4, h[0], h[1], p[0], p[1], s[0], s[1], o[0], o[1]];
        assert_eq!(vnet_header(&super_segment(&[0; 0x0305])), expected);
    }

    #[test]
    fn a_single_packet_is_not_cut() {
        let [h, s, o] = [0x0102_u16, 0x0506, 0x0708].map(u16::to_ne_bytes);
        let expected = [1, 0, h[0], h[1], 0, 0, s[0], s[1], o[0], o[1]];
        assert_eq!(vnet_header(&super_segment(&[0; 0x0304])), expected);
    }

    #[test]
    fn what_is_sent_together_ends_at_the_first_that_is_not_taken() {
        let (socket, twin) = GsoSocket::in_memory();
        let mut batch = [SuperSegment::default(); SUPER_SEGMENTS_AT_ONCE];
        let bytes: Vec<[u8; 1]> = (0..4).map(|number| [number]).collect();
        for (segment, byte) in batch.iter_mut().zip(&bytes) {
            segment.cut = CUT;
            segment.pieces[0] = byte;
        }
        let sent = |taken, error| Sent { taken, error };
        twin.fail_after(5, GsoError::Full);
        assert_eq!(socket.send(&batch), sent(4, None));
        assert_eq!(socket.send(&batch), sent(1, Some(GsoError::Full)));
        assert_eq!(socket.send(&batch[1..]), sent(3, None));
        let all: Vec<u8> = twin.take().into_iter().flat_map(|(_, it)| it).collect();
        assert_eq!(all, [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(twin.calls(), 3);
    }

    #[test]
    fn errors_say_whether_anything_was_taken() {
        let of = |errno| GsoError::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::EAGAIN), GsoError::Full);
        assert_eq!(of(libc::ENOBUFS), GsoError::Dropped);
        assert_eq!(of(libc::ENETDOWN), GsoError::Down);
        assert_eq!(of(libc::ENXIO), GsoError::Refused(libc::ENXIO));
    }
}
