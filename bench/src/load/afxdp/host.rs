//! Our TCP on the rings of one queue: frames in, bytes of streams out, requests in between.
//!
//! The stream that leaves a connection is the request, again and again, so nothing has to be kept of it: every byte
//! follows from its offset. What arrives is handed on where it lies, in the frame.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use sluice_afxdp::{Kick, Queue, RxBatch, RxPacket, TxChecksum, TxFrame};
use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{
    Autotune, ConnId, ConnectError, Disposition, Outgoing, Receipt, Segment, Stack, StackConfig,
};
use sluice_wire::checksum::{Sum, copy_and_sum};
use sluice_wire::{
    ChecksumPolicy, Ecn, LinkHeader, Packet, ParseConfig, TcpEmit, TcpHeader, TcpPacket, parse,
};

use crate::load::record::Lost;
use crate::xsk;

/// Frames taken from the ring before the stack has its turn, as the daemon takes them.
const BATCH: usize = 256;
/// Segments that leave in a turn.
const SEGMENTS: usize = 1024;
/// The ports that connections go out from, and how many.
const FIRST_PORT: u16 = 1024;
const PORTS: u32 = 65_536 - FIRST_PORT as u32;
/// Tuples that are tried before one that is free is believed not to be there.
const TRIES: u32 = 1000;
/// How far the receive window of one connection may open, and those of all: bulk is never held back by it.
const RECEIVE_MAX: u32 = 16 << 20;
const RECEIVE_BUDGET: u64 = 1 << 30;
/// Longest time until completions are looked at while frames are with the kernel.
const COMPLETION: Duration = Duration::from_millis(1);

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Ethernet header of what we send.
    pub link: LinkHeader,
    /// Our addresses, at least one. Each gives so many connections as there are ports.
    pub addresses: Vec<Ipv4Addr>,
    /// The server.
    pub server: SocketAddrV4,
    /// Bytes of the longest IP packet.
    pub mtu: u16,
}

/// See the module documentation.
pub struct Host {
    queue: Queue,
    /// Taken out for as long as it is walked through.
    batch: Option<RxBatch>,
    stack: Stack,
    ends: Ends,
    request: Vec<u8>,
    /// Counts the tuples that were tried.
    next_tuple: u32,
    /// Frames that were no segment of ours, or a broken one.
    refused: u64,
    /// Segments that found no frame or no room.
    unsent: u64,
}

impl Host {
    /// A stack for so many connections. `first_tuple` is where the search for ports begins.
    pub fn new(
        queue: Queue,
        ends: Ends,
        connections: u32,
        request: Vec<u8>,
        first_tuple: u32,
        now: Instant,
    ) -> Host {
        let config = StackConfig {
            mtu: ends.mtu,
            half_open: 1,
            time_wait: connections,
            autotune: Some(Autotune {
                receive_max: RECEIVE_MAX,
                receive_budget: RECEIVE_BUDGET,
                send_budget: 0,
            }),
            // Not secret, and the same in every process: the numbers of a tuple go on from one process to the next, so
            // that a server which still has it in TIME-WAIT opens it again (RFC 6191).
            ..StackConfig::new(
                connections,
                *b"a key for a test",
                Secret::new(*b"a secret of the bench, known all"),
            )
        };
        Host {
            queue,
            batch: Some(RxBatch::with_capacity(BATCH)),
            stack: Stack::new(config, now),
            ends,
            request,
            next_tuple: first_tuple,
            refused: 0,
            unsent: 0,
        }
    }

    /// The stack, to be told and asked about connections.
    pub fn stack(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// What was lost on this side so far.
    ///
    /// # Errors
    /// The kernel does not say what it dropped.
    pub fn lost(&self) -> io::Result<Lost> {
        let (counters, kernel) = (self.queue.counters(), self.queue.statistics()?);
        Ok(Lost {
            refused: self.refused + counters.rx_broken_packets,
            unsent: self.unsent + counters.kicks_frame_lost,
            dropped: kernel.rx_dropped + kernel.rx_ring_full,
        })
    }

    /// Begins a connection whose first request leaves with the end of the handshake.
    ///
    /// # Errors
    /// No tuple is free, or too many connections are open.
    pub fn open(&mut self, now: Instant) -> Result<ConnId, ConnectError> {
        let mut found = Err(ConnectError::InUse);
        for _ in 0..TRIES {
            let local = self.next_local();
            let server = self.ends.server;
            let key = FlowKey::new(
                IpAddr::V4(*local.ip()),
                local.port(),
                IpAddr::V4(*server.ip()),
                server.port(),
            );
            found = self.stack.connect(key, now);
            if found != Err(ConnectError::InUse) {
                break;
            }
        }
        found
    }

    /// Asks once more on a connection that was asked `times` before.
    pub fn ask(&mut self, conn: ConnId, times: u64) {
        let length = self.request.len() as u64;
        self.stack.supply(conn, (times + 1) * length, false);
    }

    /// Takes a batch from the ring. `each` gets every new piece of a stream, with its offset. Gives the number of frames.
    pub fn receive(&mut self, now: Instant, mut each: impl FnMut(ConnId, u64, &[u8])) -> usize {
        self.queue.reap();
        let Some(mut batch) = self.batch.take() else {
            return 0;
        };
        let frames = self.queue.receive(&mut batch);
        for frame in batch.packets() {
            self.on_frame(&frame, now, &mut each);
        }
        self.queue.recycle(&mut batch);
        self.batch = Some(batch);
        frames
    }

    /// Sends what the stack lets go. Gives the number of segments.
    ///
    /// # Errors
    /// The socket will never send again.
    pub fn transmit(&mut self, now: Instant) -> io::Result<usize> {
        let mut sent = 0;
        while sent < SEGMENTS && self.queue.tx_slots() > 0 {
            let Some(outgoing) = self.stack.poll_transmit(now) else {
                break;
            };
            let Outgoing {
                key,
                header,
                payload,
                ..
            } = &outgoing;
            self.send(key.local(), key.remote(), header, payload);
            sent += 1;
        }
        match self.queue.kick() {
            Kick::Gone => Err(io::Error::other("the interface is gone")),
            Kick::Wedged(errno) => Err(io::Error::from_raw_os_error(errno)),
            // What is left in the ring is kicked again in the next turn; what was lost TCP repeats.
            _ => Ok(sent),
        }
    }

    /// Sleeps until a frame comes, a timer is due, or `most` is over.
    pub fn sleep(&self, now: Instant, most: Duration) {
        let timer = self.stack.next_deadline();
        let timer = timer.map_or(most, |at| at.saturating_since(now));
        let in_flight = self.queue.ledger().tx_in_flight > 0;
        let completion = if in_flight { COMPLETION } else { most };
        xsk::sleep(&self.queue, most.min(timer).min(completion));
    }

    fn next_local(&mut self) -> SocketAddrV4 {
        let addresses = u32::try_from(self.ends.addresses.len()).unwrap_or(1).max(1);
        let tuple = self.next_tuple % (addresses * PORTS);
        self.next_tuple = tuple + 1;
        let address = self.ends.addresses.get((tuple % addresses) as usize);
        let port = u16::try_from(tuple / addresses).unwrap_or(0);
        SocketAddrV4::new(
            address.copied().unwrap_or(Ipv4Addr::UNSPECIFIED),
            FIRST_PORT.saturating_add(port),
        )
    }

    fn on_frame(
        &mut self,
        frame: &RxPacket<'_>,
        now: Instant,
        each: &mut impl FnMut(ConnId, u64, &[u8]),
    ) {
        let Ok(Packet::Tcp(packet)) = parse(frame.head(), frame.len(), &ParseConfig::default())
        else {
            self.refused += 1;
            return;
        };
        // A server on a virtual link leaves the sum to a device that is not there.
        let policy = ChecksumPolicy::AcceptPartial;
        let is_sound = packet.verify_checksum(frame.pieces(), policy).is_ok();
        let is_ours = |address: &Ipv4Addr| packet.dst == IpAddr::V4(*address);
        if !is_sound || !self.ends.addresses.iter().any(is_ours) {
            self.refused += 1;
            return;
        }
        let segment = Segment {
            key: FlowKey::new(
                packet.dst,
                packet.header.dst_port,
                packet.src,
                packet.header.src_port,
            ),
            header: &packet.header,
            payload_len: u32::try_from(packet.payload_len).unwrap_or(u32::MAX),
            ecn: packet.ecn,
        };
        let receipt = self.stack.on_segment(now, &segment);
        let answer = match receipt.disposition {
            Disposition::Unknown => self.stack.refuse(&segment),
            _ => receipt.reply,
        };
        if let Some(header) = answer {
            self.send(packet.dst, packet.src, &header, &(0..0));
        }
        if let Some(conn) = receipt.conn {
            hand_on(&receipt, &packet, frame, |offset, bytes| {
                each(conn, offset, bytes);
            });
        }
    }

    /// Queues a segment. Without a frame or room it is lost and counted, and TCP repeats it.
    fn send(&mut self, src: IpAddr, dst: IpAddr, header: &TcpHeader, payload: &Range<u64>) {
        let Some(mut frame) = self.queue.tx_frame() else {
            self.unsent += 1;
            return;
        };
        let emit = TcpEmit {
            link: &self.ends.link,
            src,
            dst,
            ecn: Ecn::NotEct,
            header,
            payload_len: usize::try_from(payload.end - payload.start).unwrap_or(0),
        };
        let offload = self.queue.bound().tx_checksum;
        let sent = match write(&mut frame, &emit, &self.request, payload.start, offload) {
            Some((len, checksum)) => self.queue.send(frame, len, false, checksum),
            None => Err(frame),
        };
        if let Err(frame) = sent {
            self.unsent += 1;
            self.queue.unused(frame);
        }
    }
}

/// Writes headers and the part of the request from stream offset `from` on; gives the length.
fn write(
    frame: &mut TxFrame,
    emit: &TcpEmit<'_>,
    request: &[u8],
    from: u64,
    offload: bool,
) -> Option<(u32, Option<TxChecksum>)> {
    let buffer = frame.bytes_mut();
    let unsealed = emit.emit(buffer).ok()?;
    let headers = unsealed.headers_len();
    let end = headers + emit.payload_len;
    let sum = repeat(buffer.get_mut(headers..end)?, request, from);
    let checksum = if offload {
        let at = unsealed.seal_partial(buffer);
        Some(TxChecksum {
            start: at.start,
            offset: at.offset,
        })
    } else {
        unsealed.seal_full(buffer, sum);
        None
    };
    Some((u32::try_from(end).ok()?, checksum))
}

/// Fills `room` with the request, repeated without end, from an offset of that on.
pub(super) fn repeat(room: &mut [u8], request: &[u8], from: u64) -> Sum {
    let mut sum = Sum::default();
    let length = request.len().max(1) as u64;
    let mut at = usize::try_from(from % length).unwrap_or(0);
    let mut filled = 0;
    while filled < room.len() && at < request.len() {
        let part = (request.len() - at).min(room.len() - filled);
        sum.add(copy_and_sum(
            &mut room[filled..filled + part],
            &request[at..at + part],
        ));
        (filled, at) = (filled + part, 0);
    }
    sum
}

/// The new ranges of a segment, wherever they lie in the pieces of its frame.
fn hand_on(
    receipt: &Receipt,
    packet: &TcpPacket,
    frame: &RxPacket<'_>,
    mut each: impl FnMut(u64, &[u8]),
) {
    for range in receipt.pieces.clone() {
        let skip = i64::try_from(range.start)
            .ok()
            .and_then(|start| usize::try_from(start - receipt.payload_start).ok());
        let Some(skip) = skip else {
            continue;
        };
        let (mut from, mut offset) = (packet.payload_offset + skip, range.start);
        for piece in frame.pieces() {
            let left = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
            match piece.get(from..) {
                Some(bytes) if !bytes.is_empty() && left > 0 => {
                    let bytes = &bytes[..bytes.len().min(left)];
                    each(offset, bytes);
                    offset += bytes.len() as u64;
                    from = 0;
                }
                // It begins in a later piece.
                _ => from = from.saturating_sub(piece.len()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_that_leaves_is_the_request_again_and_again() {
        for (from, expected) in [(0, "abcabca"), (2, "cabcabc"), (30_001, "bcabcab")] {
            let mut room = [0; 7];
            repeat(&mut room, b"abc", from);
            assert_eq!(std::str::from_utf8(&room), Ok(expected));
        }
        repeat(&mut [], b"", 5);
    }
}
