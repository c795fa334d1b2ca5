//! The TSO lane: trains of segments as super-segments through the packet socket, payload straight from the blocks.
//!
//! The rules keep the packets of a flow in order and lose none:
//! - What is sent here leaves during the call. Frames of the same flow that still wait in the TX ring are kicked
//!   first; if they cannot leave, the train goes behind them, frame by frame.
//! - What the socket does not take goes to the ring at once, frame by frame. What was dropped behind the socket
//!   counts as lost on the way, and loss recovery repeats it.
//! - A single segment goes to the ring, where it shares a system call with those of other flows.

use sluice_afxdp::{
    GsoCut, GsoError, GsoSocket, SUPER_SEGMENT_BYTES, SUPER_SEGMENT_PIECES, TxChecksum,
};
use sluice_tcp::Outgoing;
use sluice_tcp::clock::Instant;
use sluice_wire::TcpEmit;

use super::Worker;
use super::egress::{TX_BATCH_PACKETS, ecn};
use super::train::Train;
use crate::exchange::Exchange;
use crate::services::Services;

/// Payload of a train at most: whatever its headers, it fits one IP packet.
const PAYLOAD_MAX: u64 = (SUPER_SEGMENT_BYTES - TcpEmit::MAX_HEADERS) as u64;
/// Payload that costs about as much as a frame on the ring, for the budget of a turn.
const BYTES_PER_FRAME: u64 = 4096;

/// The lane of one worker, and what waits in the ring in front of it.
#[derive(Debug)]
pub(super) struct GsoLane {
    socket: GsoSocket,
    /// Per connection slot: the drain of the ring, by number, that its last frame there waits for.
    queued_for: Vec<u32>,
    /// Drains so far.
    drains: u32,
}

impl GsoLane {
    /// For connection slots below `slots`.
    pub(super) fn new(socket: GsoSocket, slots: usize) -> Self {
        GsoLane {
            socket,
            queued_for: vec![0; slots],
            drains: 0,
        }
    }

    /// A frame of this slot was put into the ring.
    pub(super) fn on_queued(&mut self, slot: usize) {
        self.queued_for[slot] = self.drains.wrapping_add(1);
    }

    /// The ring is empty.
    pub(super) fn on_drained(&mut self) {
        self.drains = self.drains.wrapping_add(1);
    }

    fn is_queued(&self, slot: usize) -> bool {
        self.queued_for[slot] == self.drains.wrapping_add(1)
    }
}

/// What became of a train.
enum Sent {
    Whole,
    /// Not taken: the ring has to carry it.
    No,
    /// Gone, as if lost on the way.
    Lost,
}

impl Worker {
    /// As [`Self::transmit`], with runs of segments joined.
    pub(super) fn transmit_trains(&mut self, now: Instant) -> bool {
        let mut budget = TX_BATCH_PACKETS as u64;
        let mut train: Option<Train> = None;
        while budget > 0 && self.queue.tx_slots() as usize >= self.tx_frames_max {
            let Some(next) = self.stack.poll_transmit(now) else {
                break;
            };
            if let Some(train) = &mut train
                && train.couple(&next, PAYLOAD_MAX)
            {
                continue;
            }
            if let Some(whole) = train.replace(Train::new(next)) {
                budget = budget.saturating_sub(self.send_train(&whole, now));
            }
        }
        let busy = train.is_some();
        if let Some(last) = train {
            self.send_train(&last, now);
        }
        busy
    }

    /// Sends a train by the lane of its length. Returns what it cost in frames.
    fn send_train(&mut self, train: &Train, now: Instant) -> u64 {
        if train.segments() == 1 {
            self.send_segment(train.first(), now);
            return 1;
        }
        let whole = train.whole();
        if self.has_left_ring(whole.conn.slot()) {
            match self.send_whole(&whole, train.each(), now) {
                Sent::Whole => {
                    self.counters.gso_sent += 1;
                    self.counters.gso_segments += train.segments();
                    return 1 + (whole.payload.end - whole.payload.start) / BYTES_PER_FRAME;
                }
                Sent::Lost => {
                    self.counters.gso_dropped += 1;
                    return 1;
                }
                Sent::No => self.counters.gso_not_taken += 1,
            }
        }
        for car in train.cars() {
            self.send_segment(&car, now);
        }
        train.segments()
    }

    /// Nothing of this slot waits in the ring any more.
    fn has_left_ring(&mut self, slot: usize) -> bool {
        let is_queued =
            |worker: &Worker| worker.gso.as_ref().is_some_and(|gso| gso.is_queued(slot));
        if is_queued(self) {
            self.kick();
        }
        !is_queued(self)
    }

    fn send_whole(&mut self, whole: &Outgoing, each: u64, now: Instant) -> Sent {
        let slot = whole.conn.slot();
        let (Some(gso), Some(exchange)) = (&self.gso, self.exchanges[slot].as_mut()) else {
            return Sent::No;
        };
        let len = usize::try_from(whole.payload.end - whole.payload.start).unwrap_or(usize::MAX);
        let emit = TcpEmit {
            link: &self.peers[slot],
            src: whole.key.local(),
            dst: whole.key.remote(),
            ecn: ecn(whole),
            header: &whole.header,
            payload_len: len,
        };
        let mut headers = [0; TcpEmit::MAX_HEADERS];
        let Ok(unsealed) = emit.emit(&mut headers) else {
            return Sent::No;
        };
        let headers_len = unsealed.headers_len();
        let checksum = unsealed.seal_partial(&mut headers);
        let (Ok(headers_bytes), Ok(each)) = (u16::try_from(headers_len), u16::try_from(each))
        else {
            return Sent::No;
        };
        let cut = GsoCut {
            ipv6: !whole.key.local().is_ipv4(),
            headers: headers_bytes,
            payload: each,
            checksum: TxChecksum {
                start: checksum.start,
                offset: checksum.offset,
            },
        };
        let mut pieces: [&[u8]; SUPER_SEGMENT_PIECES] = [&[]; SUPER_SEGMENT_PIECES];
        pieces[0] = &headers[..headers_len];
        let Some(used) = gather(
            &mut pieces[1..],
            exchange,
            whole.payload.start,
            len,
            &self.services,
        ) else {
            return Sent::No;
        };
        match gso.socket.send(&cut, &pieces[..=used]) {
            Ok(()) => {}
            Err(GsoError::Full | GsoError::Refused(_)) => return Sent::No,
            Err(GsoError::Dropped) => return Sent::Lost,
            Err(GsoError::Down) => {
                self.counters.link_down += 1;
                return Sent::Lost;
            }
        }
        exchange.sent(whole.payload.end, now, &mut self.services);
        Sent::Whole
    }
}

/// Collects `len` response bytes from stream offset `at` on. Returns the pieces used; `None` if they do not suffice or
/// the bytes are not there.
fn gather<'a>(
    pieces: &mut [&'a [u8]],
    exchange: &'a Exchange,
    at: u64,
    len: usize,
    services: &'a Services,
) -> Option<usize> {
    let mut gathered = 0;
    for (used, piece) in pieces.iter_mut().enumerate() {
        if gathered == len {
            return Some(used);
        }
        *piece = exchange.bytes(at + gathered as u64, len - gathered, services);
        if piece.is_empty() {
            return None;
        }
        gathered += piece.len();
    }
    (gathered == len).then_some(pieces.len())
}
