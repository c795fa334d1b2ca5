//! Our stack as the receiver, with what a worker does around it: parse, verify, keep the new bytes, emit.
//!
//! Bytes are kept by their offset, so pieces that come early wait where they belong. Everything in order is consumed at
//! once, so the window follows the path and nothing else.

use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{
    Autotune, CloseReason, ConnId, ConnectError, Disposition, Outgoing, Segment, Stack, StackConfig,
};
use sluice_wire::{ChecksumPolicy, Ecn, LinkHeader, Packet, ParseConfig, TcpEmit, checksum, parse};

use crate::link::port::FRAME_BYTES;

/// How far the receive window may open: beyond every bandwidth-delay product of the links.
const RECEIVE_BUDGET: u32 = 64 << 20;

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Ethernet header of what we send.
    pub link: LinkHeader,
    /// We.
    pub local: SocketAddrV4,
    /// The server.
    pub remote: SocketAddrV4,
}

/// One connection: a request, and the stream that answers it.
pub struct Client {
    stack: Stack,
    conn: ConnId,
    link: LinkHeader,
    request: Vec<u8>,
    /// Up to the highest byte that came; in order up to `delivered`.
    stream: Vec<u8>,
    delivered: usize,
    /// When the last byte in order came; the SYN left at zero.
    last: Instant,
    closed: Option<CloseReason>,
    frame: Vec<u8>,
}

impl Client {
    /// The SYN leaves with the first turn, which is at [`Instant::ZERO`] or soon after it.
    ///
    /// # Errors
    /// None in a stack that has no other connection.
    pub fn open(ends: &Ends, request: &[u8]) -> Result<Client, ConnectError> {
        let config = StackConfig {
            autotune: Some(Autotune {
                receive_max: RECEIVE_BUDGET,
                receive_budget: RECEIVE_BUDGET.into(),
                send_budget: 0,
            }),
            ..StackConfig::new(
                1,
                *b"a key for a test",
                Secret::new(*b"a secret of the bench, known all"),
            )
        };
        let mut stack = Stack::new(config, Instant::ZERO);
        let (local, remote) = (ends.local, ends.remote);
        let key = FlowKey::new(
            IpAddr::V4(*local.ip()),
            local.port(),
            IpAddr::V4(*remote.ip()),
            remote.port(),
        );
        let conn = stack.connect(key, Instant::ZERO)?;
        stack.supply(conn, request.len() as u64, false);
        Ok(Client {
            stack,
            conn,
            link: ends.link,
            request: request.to_vec(),
            stream: Vec::new(),
            delivered: 0,
            last: Instant::ZERO,
            closed: None,
            frame: vec![0; FRAME_BYTES],
        })
    }

    /// A frame from the interface; others than those of the connection are passed over.
    pub fn receive(&mut self, now: Instant, frame: &[u8]) {
        let Ok(Packet::Tcp(packet)) = parse(frame, frame.len(), &ParseConfig::default()) else {
            return;
        };
        let is_sound = packet.verify_checksum([frame], ChecksumPolicy::Verify);
        if is_sound.is_err() {
            return;
        }
        let header = &packet.header;
        let payload = &frame[packet.payload()];
        let segment = Segment {
            key: FlowKey::new(packet.dst, header.dst_port, packet.src, header.src_port),
            header,
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            ecn: packet.ecn,
        };
        let receipt = self.stack.on_segment(now, &segment);
        if receipt.disposition == Disposition::Accepted {
            for piece in receipt.pieces {
                keep(&mut self.stream, piece, receipt.payload_start, payload);
            }
        }
    }

    /// Timers, what they and the segments gave, and what is to be sent.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn turn(
        &mut self,
        now: Instant,
        mut send: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.stack.on_timers(now);
        self.hear(now);
        while let Some(out) = self.stack.poll_transmit(now) {
            let len = self.write(&out)?;
            send(&self.frame[..len])?;
        }
        self.hear(now);
        Ok(())
    }

    /// Resets the connection; the RST leaves with the next turn.
    pub fn give_up(&mut self) {
        self.stack.abort(self.conn);
    }

    /// When a turn is due though no frame comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stack.next_deadline()
    }

    /// How the connection ended, if it did. Giving up is no end.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// What came in order.
    pub fn stream(&self) -> &[u8] {
        &self.stream[..self.delivered]
    }

    /// Time from the SYN to the last byte of it.
    pub fn took(&self) -> Duration {
        self.last.saturating_since(Instant::ZERO)
    }

    fn hear(&mut self, now: Instant) {
        while let Some((conn, events)) = self.stack.poll_event() {
            if events.readable {
                let delivered = self.stack.delivered(conn);
                self.stack.consume(conn, delivered);
                let delivered = usize::try_from(delivered).unwrap_or(usize::MAX);
                if delivered > self.delivered {
                    (self.delivered, self.last) = (delivered, now);
                }
            }
            if events.peer_finished {
                self.stack.close(conn, now);
            }
            let ended = events
                .closed
                .filter(|reason| *reason != CloseReason::Aborted);
            self.closed = self.closed.or(ended);
        }
    }

    /// Writes a frame into the buffer and gives its length.
    fn write(&mut self, out: &Outgoing) -> io::Result<usize> {
        let payload = slice(&self.request, &out.payload);
        let emit = TcpEmit {
            link: &self.link,
            src: out.key.local(),
            dst: out.key.remote(),
            ecn: Ecn::NotEct,
            header: &out.header,
            payload_len: payload.len(),
        };
        let unsealed = emit.emit(&mut self.frame).map_err(io::Error::other)?;
        let from = unsealed.headers_len();
        let end = from + payload.len();
        let sum = checksum::copy_and_sum(&mut self.frame[from..end], payload);
        unsealed.seal_full(&mut self.frame, sum);
        Ok(end)
    }
}

/// New bytes of a payload go where they belong in the stream. `origin` is the offset of the payload's first byte, which
/// may lie before the stream if the segment repeats what was before.
fn keep(stream: &mut Vec<u8>, piece: Range<u64>, origin: i64, payload: &[u8]) {
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let within = |offset: u64| place(offset.saturating_add_signed(origin.saturating_neg()));
    let new = &payload[within(piece.start)..within(piece.end)];
    let (from, to) = (place(piece.start), place(piece.end));
    if stream.len() < to {
        stream.resize(to, 0);
    }
    stream[from..to].copy_from_slice(new);
}

/// The bytes of the request that a segment carries.
fn slice<'a>(request: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    request
        .get(place(range.start)..place(range.end))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_come_early_wait_where_they_belong() {
        let mut stream = Vec::new();
        keep(&mut stream, 6..9, 6, b"ghi");
        keep(&mut stream, 0..6, -1, b"xabcdef");
        assert_eq!(stream, b"abcdefghi");
        keep(&mut stream, 9..10, 7, b"..j");
        assert_eq!(stream, b"abcdefghij");
    }
}
