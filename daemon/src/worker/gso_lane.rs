//! The TSO lane: runs of segments as super-segments through the packet socket, payload straight from the blocks.
//!
//! Runs wait for each other until there are enough for one system call, never beyond what is sent at once
//! ([`Worker::transmit`]). The rules keep the packets of a flow in order and lose none:
//! - Frames of the same flow that still wait in the TX ring are kicked first; if they cannot leave, the run goes behind
//!   them, frame by frame. Before anything of a flow goes to the ring, its runs that wait leave ([`Worker::leave`]).
//! - What the socket does not take goes to the ring at once, frame by frame: there is room, because the runs that wait
//!   are never longer than that together. What was dropped behind the socket counts as lost on the way, and loss recovery repeats it.
//! - A refusal that is no matter of the moment closes the lane for a second ([`REST`]): with something in front of the
//!   interface that takes no such packets, every run would cost a system call for nothing.
//! - Nor does the lane take a run whose flags a device would change on the way ([`is_cut_right`]).
//! - A single segment goes to the ring, where it shares a system call with those of other flows; but one behind a run of its
//!   flow that waits goes with that, so that the last bytes of a response cost no call and no wake-up of their own.
//!
//! "Leaves" means to the queueing discipline, which frames of the ring do not pass. So the order of a flow holds as far
//! as its super-segments do not wait there, and where the device sends both by one queue: behind a backlog, or on a
//! multi-queue device whose qdisc picks another TX queue, a single segment can overtake the run before it. That is
//! reordering as any path may do it; RACK waits for what is late (RFC 8985 section 6.2).

use core::time::Duration;

use sluice_afxdp::{
    GsoCut, GsoError, GsoSocket, SUPER_SEGMENT_BYTES, SUPER_SEGMENT_PIECES, SUPER_SEGMENTS_AT_ONCE,
    Sent, SuperSegment, TxChecksum,
};
use sluice_tcp::Outgoing;
use sluice_tcp::clock::Instant;
use sluice_wire::{TcpEmit, TcpFlags};

use super::Worker;
use super::egress::payload_len;
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
    /// Runs that leave together, of so many segments each.
    waiting: Vec<(Outgoing, u32)>,
}

impl GsoLane {
    /// For connection slots below `slots`.
    pub(super) fn new(socket: GsoSocket, slots: usize) -> Self {
        GsoLane {
            socket,
            queued_for: vec![0; slots],
            drains: 0,
            rest_until: Instant::ZERO,
            waiting: Vec::with_capacity(SUPER_SEGMENTS_AT_ONCE),
        }
    }

    /// Segments of the runs that wait: the room in the ring that is kept for them.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.iter().map(|(_, segments)| segments).sum()
    }

    fn waits(&self, slot: usize) -> bool {
        self.waiting.iter().any(|(run, _)| run.conn.slot() == slot)
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
    /// Lets a run of so many segments wait for others, or leave with them. Returns what it costs in packets on the ring; `None`
    /// if the ring has to carry it.
    pub(super) fn join_super_segments(
        &mut self,
        run: &Outgoing,
        segments: u32,
        now: Instant,
    ) -> Option<u32> {
        if !self.takes_super_segment(run, now) {
            return None;
        }
        let gso = self.gso.as_mut()?;
        gso.waiting.push((run.clone(), segments));
        if gso.waiting.len() == SUPER_SEGMENTS_AT_ONCE {
            self.leave(now);
        }
        let frames = payload_len(run) / BYTES_PER_FRAME;
        Some(1 + u32::try_from(frames).unwrap_or(segments))
    }

    /// Whether a run of its flow waits to leave, with which this payload can go.
    pub(super) fn follows_run(&self, run: &Outgoing) -> bool {
        let slot = run.conn.slot();
        !run.payload.is_empty() && self.gso.as_ref().is_some_and(|gso| gso.waits(slot))
    }

    /// Before something of this slot goes to the ring.
    pub(super) fn leave_before(&mut self, slot: usize, now: Instant) {
        if self.gso.as_ref().is_some_and(|gso| gso.waits(slot)) {
            self.leave(now);
        }
    }

    /// Sends the runs that wait. True if there were any.
    pub(super) fn leave(&mut self, now: Instant) -> bool {
        let Some(gso) = self.gso.as_mut().filter(|gso| !gso.waiting.is_empty()) else {
            return false;
        };
        // Taken out for the time of the loop, which needs the worker as a whole.
        let mut waiting = core::mem::take(&mut gso.waiting);
        let Sent { taken, error } = self.hand_over(&waiting, now);
        // Behind the first that was not taken one by one: any of them may have to follow frames of its flow.
        let mut failed = error;
        for one in &waiting[taken..] {
            let (run, segments) = one;
            let sent = match failed.take() {
                Some(error) => Sent {
                    taken: 0,
                    error: Some(error),
                },
                None if self.takes_super_segment(run, now) => {
                    self.hand_over(core::slice::from_ref(one), now)
                }
                None => {
                    self.send_frames(run, *segments, now);
                    continue;
                }
            };
            let is_gone = |error| self.is_gone(error, now);
            if sent.taken == 0 && !sent.error.is_some_and(is_gone) {
                self.counters.gso_not_taken += 1;
                self.send_frames(run, *segments, now);
            }
        }
        waiting.clear();
        if let Some(gso) = &mut self.gso {
            gso.waiting = waiting;
        }
        true
    }

    /// Whether the lane may carry a run now.
    fn takes_super_segment(&mut self, run: &Outgoing, now: Instant) -> bool {
        let is_open = |gso: &GsoLane| now >= gso.rest_until && is_cut_right(run.header.flags);
        self.gso.as_ref().is_some_and(is_open) && self.has_left_ring(run.conn.slot())
    }

    /// Counts that a run was not taken. True if it counts as sent all the same: some of its packets may have left.
    fn is_gone(&mut self, error: GsoError, now: Instant) -> bool {
        match error {
            GsoError::Dropped => self.counters.gso_dropped += 1,
            GsoError::Down => {
                self.counters.gso_dropped += 1;
                self.counters.link_down += 1;
            }
            GsoError::Refused(errno) => {
                self.counters.gso_refused += 1;
                self.counters.gso_errno = errno;
                if let Some(gso) = &mut self.gso {
                    gso.rest_until = now + REST;
                }
            }
            GsoError::Full => {}
        }
        matches!(error, GsoError::Dropped | GsoError::Down)
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

    /// Gives runs to the socket, in their order up to the first that it does not take, or whose bytes lie in too many
    /// pieces.
    fn hand_over(&mut self, runs: &[(Outgoing, u32)], now: Instant) -> Sent {
        let mut headers = [[0; TcpEmit::MAX_HEADERS]; SUPER_SEGMENTS_AT_ONCE];
        let mut segments = [SuperSegment::default(); SUPER_SEGMENTS_AT_ONCE];
        let mut built = 0;
        for ((slot, headers), (run, _)) in segments.iter_mut().zip(&mut headers).zip(runs) {
            let Some(segment) = self.super_segment(run, headers) else {
                break;
            };
            *slot = segment;
            built += 1;
        }
        let sent = match &self.gso {
            Some(gso) if built > 0 => gso.socket.send(&segments[..built]),
            _ => Sent {
                taken: 0,
                error: None,
            },
        };
        for (run, segments) in &runs[..sent.taken] {
            self.counters.gso_sent += 1;
            self.counters.gso_segments += u64::from(*segments);
            self.has_sent(run, now);
        }
        sent
    }

    fn has_sent(&mut self, run: &Outgoing, now: Instant) {
        if let Some(exchange) = &mut self.exchanges[run.conn.slot()] {
            exchange.sent(run.payload.end, now, &mut self.services);
        }
    }

    /// A run where it lies, its headers written into `headers`. `None` if its bytes lie in too many pieces, or are not
    /// there.
    fn super_segment<'a>(
        &'a self,
        run: &Outgoing,
        headers: &'a mut [u8; TcpEmit::MAX_HEADERS],
    ) -> Option<SuperSegment<'a>> {
        let slot = run.conn.slot();
        let exchange = self.exchanges[slot].as_ref()?;
        let len = payload_len(run);
        let emit = TcpEmit {
            payload_len: len,
            ..super::egress::headers(run, &self.peers[slot])
        };
        let unsealed = emit.emit(headers).ok()?;
        let headers_len = unsealed.headers_len();
        let checksum = unsealed.seal_partial(headers);
        let cut = GsoCut {
            ipv6: !run.key.local().is_ipv4(),
            headers: u16::try_from(headers_len).ok()?,
            payload: u16::try_from(run.segment_len).ok()?,
            checksum: TxChecksum {
                start: checksum.start,
                offset: checksum.offset,
            },
        };
        let mut pieces: [&[u8]; SUPER_SEGMENT_PIECES] = [&[]; SUPER_SEGMENT_PIECES];
        pieces[0] = &headers[..headers_len];
        gather(
            &mut pieces[1..],
            exchange,
            run.payload.start,
            len,
            &self.services,
        )?;
        Some(SuperSegment { cut, pieces })
    }
}

/// Whether a device that cuts a run gives each packet the flags that it is to have. CWR it leaves on the first alone
/// (`tcp_gso_segment`), which is right for RFC 3168; but the stack says that by a single segment, and in a run the bit
/// belongs to the counter of RFC 9768, the same in every packet.
fn is_cut_right(flags: TcpFlags) -> bool {
    !flags.contains(TcpFlags::CWR)
}

/// Collects `len` response bytes from stream offset `at` on. `None` if the pieces do not suffice or the bytes are not there.
fn gather<'a>(
    pieces: &mut [&'a [u8]],
    exchange: &'a Exchange,
    at: u64,
    len: usize,
    services: &'a Services,
) -> Option<()> {
    let mut gathered = 0;
    for piece in pieces {
        if gathered == len {
            break;
        }
        *piece = exchange.bytes(at + gathered as u64, len - gathered, services);
        if piece.is_empty() {
            return None;
        }
        gathered += piece.len();
    }
    (gathered == len).then_some(())
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
