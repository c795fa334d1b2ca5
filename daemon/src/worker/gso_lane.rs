//! The TSO lane: runs of segments as super-segments through the packet socket, payload straight from the blocks.
//!
//! The rules keep the packets of a flow in order and lose none:
//! - What is sent here leaves during the call. Frames of the same flow that still wait in the TX ring are kicked
//!   first; if they cannot leave, the run goes behind them, frame by frame.
//! - What the socket does not take goes to the ring at once, frame by frame: there is room, because a run is never
//!   longer than that. What was dropped behind the socket counts as lost on the way, and loss recovery repeats it.
//! - A refusal that is no matter of the moment closes the lane for a second ([`REST`]): with something in front of the
//!   interface that takes no such packets, every run would cost a system call for nothing.
//! - Nor does the lane take a run whose flags a device would change on the way ([`is_cut_right`]).
//! - A single segment goes to the ring, where it shares a system call with those of other flows.
//!
//! "Leaves" means to the queueing discipline, which frames of the ring do not pass. So the order of a flow holds as far
//! as its super-segments do not wait there, and where the device sends both by one queue: behind a backlog, or on a
//! multi-queue device whose qdisc picks another TX queue, a single segment can overtake the run before it. That is
//! reordering as any path may do it; RACK waits for what is late (RFC 8985 section 6.2).

use core::time::Duration;

use sluice_afxdp::{
    GsoCut, GsoError, GsoSocket, SUPER_SEGMENT_BYTES, SUPER_SEGMENT_PIECES, TxChecksum,
};
use sluice_tcp::Outgoing;
use sluice_tcp::clock::Instant;
use sluice_wire::{TcpEmit, TcpFlags};

use super::Worker;
use super::egress::{headers, payload_len};
use crate::exchange::Exchange;
use crate::services::Services;

/// Payload of a run at most: whatever its headers, it fits one IP packet.
// Far below 2^32.
#[allow(clippy::cast_possible_truncation)]
pub(super) const GSO_PAYLOAD_MAX: u32 = (SUPER_SEGMENT_BYTES - TcpEmit::MAX_HEADERS) as u32;
/// Payload that costs about as much as a frame on the ring, for the budget of a turn.
const BYTES_PER_FRAME: usize = 4096;
/// How long nothing is tried after a refusal.
const REST: Duration = Duration::from_secs(1);

/// The lane of one worker, and what waits in the ring in front of it.
#[derive(Debug)]
pub(super) struct GsoLane {
    socket: GsoSocket,
    /// Per connection slot: the drain of the ring, by number, that its last frame there waits for.
    queued_for: Vec<u32>,
    /// Drains so far.
    drains: u32,
    /// After a refusal.
    rest_until: Instant,
}

impl GsoLane {
    /// For connection slots below `slots`.
    pub(super) fn new(socket: GsoSocket, slots: usize) -> Self {
        GsoLane {
            socket,
            queued_for: vec![0; slots],
            drains: 0,
            rest_until: Instant::ZERO,
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

impl Worker {
    /// A run of so many segments as one super-segment. Returns what it cost in packets on the ring; `None` if the ring
    /// has to carry it.
    pub(super) fn send_super_segment(
        &mut self,
        run: &Outgoing,
        segments: u32,
        now: Instant,
    ) -> Option<u32> {
        let gso = self.gso.as_ref()?;
        let may_try = now >= gso.rest_until && is_cut_right(run.header.flags);
        if !may_try || !self.has_left_ring(run.conn.slot()) {
            return None;
        }
        match self.hand_over(run, now) {
            Ok(()) => {
                self.counters.gso_sent += 1;
                self.counters.gso_segments += u64::from(segments);
                let frames = payload_len(run) / BYTES_PER_FRAME;
                return Some(1 + u32::try_from(frames).unwrap_or(segments));
            }
            Err(NotSent::Socket(GsoError::Dropped)) => {
                self.counters.gso_dropped += 1;
                return Some(1);
            }
            Err(NotSent::Socket(GsoError::Down)) => {
                self.counters.gso_dropped += 1;
                self.counters.link_down += 1;
                return Some(1);
            }
            Err(NotSent::Socket(GsoError::Refused(errno))) => {
                self.counters.gso_refused += 1;
                self.counters.gso_errno = errno;
                if let Some(gso) = &mut self.gso {
                    gso.rest_until = now + REST;
                }
            }
            Err(NotSent::Socket(GsoError::Full) | NotSent::Pieces) => {}
        }
        self.counters.gso_not_taken += 1;
        None
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

    fn hand_over(&mut self, run: &Outgoing, now: Instant) -> Result<(), NotSent> {
        let slot = run.conn.slot();
        let (Some(gso), Some(exchange)) = (&self.gso, self.exchanges[slot].as_mut()) else {
            return Err(NotSent::Pieces);
        };
        let len = payload_len(run);
        let emit = TcpEmit {
            payload_len: len,
            ..headers(run, &self.peers[slot])
        };
        let mut headers = [0; TcpEmit::MAX_HEADERS];
        let unsealed = emit.emit(&mut headers).map_err(|_| NotSent::Pieces)?;
        let headers_len = unsealed.headers_len();
        let checksum = unsealed.seal_partial(&mut headers);
        let (Ok(headers_bytes), Ok(each)) =
            (u16::try_from(headers_len), u16::try_from(run.segment_len))
        else {
            return Err(NotSent::Pieces);
        };
        let cut = GsoCut {
            ipv6: !run.key.local().is_ipv4(),
            headers: headers_bytes,
            payload: each,
            checksum: TxChecksum {
                start: checksum.start,
                offset: checksum.offset,
            },
        };
        let mut pieces: [&[u8]; SUPER_SEGMENT_PIECES] = [&[]; SUPER_SEGMENT_PIECES];
        pieces[0] = &headers[..headers_len];
        let used = gather(
            &mut pieces[1..],
            exchange,
            run.payload.start,
            len,
            &self.services,
        )
        .ok_or(NotSent::Pieces)?;
        gso.socket
            .send(&cut, &pieces[..=used])
            .map_err(NotSent::Socket)?;
        exchange.sent(run.payload.end, now, &mut self.services);
        Ok(())
    }
}

/// Whether a device that cuts a run gives each packet the flags that it is to have. CWR it leaves on the first alone
/// (`tcp_gso_segment`), which is right for RFC 3168; but the stack says that by a single segment, and in a run the bit
/// belongs to the counter of RFC 9768, the same in every packet.
fn is_cut_right(flags: TcpFlags) -> bool {
    !flags.contains(TcpFlags::CWR)
}

/// Why a run did not leave as a super-segment.
enum NotSent {
    /// Its bytes lie in too many pieces, or are not there.
    Pieces,
    Socket(GsoError),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9768 section 3.2.2: three bits of a counter, of which CWR is the middle one.
    #[test]
    fn a_counter_with_the_bit_of_cwr_is_left_to_the_ring() {
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        let right: Vec<u8> = (0..8)
            .filter(|ace| is_cut_right(flags.with_ace(*ace)))
            .collect();
        assert_eq!(right, [0, 1, 4, 5]);
    }
}
