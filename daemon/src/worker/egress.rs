//! From what the stack lets go to packets on the TX ring, or in the TSO lane: runs of segments, a lane each.
//!
//! This is the copy lane, and the way into the gather lane (`gather_lane`). The headers of a run are written once and copied
//! for each of its segments; the payload is copied from the exchange's blocks by `frames`. The stack is never asked for more
//! segments than the ring has room for, so that nothing it lets go is lost here for want of room.

use core::net::IpAddr;

use sluice_afxdp::Kick;
use sluice_tcp::clock::Instant;
use sluice_tcp::{Outgoing, RunLimit};
use sluice_wire::{Ecn, LinkHeader, RunTemplate, TcpEmit, TcpHeader};

use super::Worker;
use super::frames::{Payload, send_packet};
use super::gather_lane::{GatherLane, send_payload};
use super::gso_lane::{GSO_PAYLOAD_MAX, GsoLane};

/// Room in the ring, in packets, from which on runs wait for others: that of the longest with an MSS of 1,024 bytes.
const ROOM_TO_WAIT: u32 = 64;

impl Worker {
    /// Sends what the stack lets go, as far as ring, frames and what is left of the turn reach. True if anything was sent.
    pub(super) fn transmit(&mut self, now: Instant) -> bool {
        let before = self.tx_built;
        let most = self.turn_length.packets(now);
        while self.tx_built < most {
            let kept = self.gso.as_ref().map_or(0, GsoLane::waiting);
            let limit = match (&self.gso, self.ring_room().saturating_sub(kept)) {
                // What waits for company shall not make runs shorter.
                (Some(_), room) if kept > 0 && room < ROOM_TO_WAIT => {
                    self.leave(now);
                    continue;
                }
                (_, 0) => break,
                (None, room) => RunLimit::segments(room.min(most - self.tx_built)),
                // A super-segment costs less than its packets would, and a long one not much more than a short one.
                (Some(_), room) => RunLimit {
                    segments: room,
                    bytes: GSO_PAYLOAD_MAX,
                },
            };
            let Some(run) = &self.stack.poll_transmit_run(now, limit) else {
                break;
            };
            self.tx_built = self.tx_built.saturating_add(self.send(run, now));
            if !run.payload.is_empty() {
                self.refill.on_sent(run.conn);
            }
        }
        self.leave(now);
        self.tx_built > before
    }

    /// Packets that the ring takes now, however long they are.
    fn ring_room(&self) -> u32 {
        let pieces = self.gather.as_ref().map_or(0, GatherLane::pieces_max);
        let frames = u32::try_from(self.tx_frames_max.max(pieces)).unwrap_or(u32::MAX);
        self.queue.tx_slots() / frames
    }

    /// A run whole, by the lane of its length. Returns what it cost in packets on the ring.
    fn send(&mut self, run: &Outgoing, now: Instant) -> u32 {
        match run.count() {
            1 if !self.follows_run(run) => {
                self.leave_before(run.conn.slot(), now);
                self.send_segment(run, now);
                1
            }
            segments => match self.join_super_segments(run, segments, now) {
                Some(cost) => cost,
                None => {
                    self.leave_before(run.conn.slot(), now);
                    self.send_frames(run, segments, now);
                    segments
                }
            },
        }
    }

    pub(super) fn send_segment(&mut self, segment: &Outgoing, now: Instant) {
        let slot = segment.conn.slot();
        let len = payload_len(segment);
        let emit = TcpEmit {
            payload_len: len,
            ..headers(segment, &self.peers[slot])
        };
        // Of a handshake there is none.
        let exchange = if len == 0 {
            None
        } else {
            self.exchanges[slot].as_mut()
        };
        if len > 0 && exchange.is_none() {
            self.counters.tx_not_built += 1;
            return;
        }
        let payload = exchange.as_deref().map(|exchange| Payload {
            exchange,
            services: &self.services,
            at: segment.payload.start,
            len,
        });
        let sent = send_payload(
            self.gather.as_mut(),
            &mut self.queue,
            self.tx_frames_max,
            |buffer| emit.emit(buffer),
            payload.as_ref(),
        );
        if !sent {
            self.counters.tx_not_built += 1;
            return;
        }
        if let Some(exchange) = exchange {
            if let Some(gather) = &mut self.gather {
                gather.hold(exchange, &mut self.services);
            }
            exchange.sent(segment.payload.end, now, &mut self.services);
            if let Some(gso) = &mut self.gso {
                gso.on_queued(slot);
            }
        }
    }

    /// The segments of a run, frame by frame. The caller has seen that the ring has room for all of them.
    pub(super) fn send_frames(&mut self, run: &Outgoing, segments: u32, now: Instant) {
        let slot = run.conn.slot();
        // An MSS.
        let each = usize::try_from(run.segment_len).unwrap_or(0);
        let emit = TcpEmit {
            payload_len: each,
            ..headers(run, &self.peers[slot])
        };
        let (Ok(template), Some(exchange)) =
            (RunTemplate::new(&emit), self.exchanges[slot].as_mut())
        else {
            self.counters.tx_not_built += u64::from(segments);
            return;
        };
        let mut sent_until = None;
        for index in 0..segments {
            // A run is far shorter than the sequence space.
            let ahead = index * run.segment_len;
            let at = run.payload.start + u64::from(ahead);
            let is_last = index + 1 == segments;
            let end = if is_last {
                run.payload.end
            } else {
                at + u64::from(run.segment_len)
            };
            let payload = Payload {
                exchange,
                services: &self.services,
                at,
                len: usize::try_from(end - at).unwrap_or(each),
            };
            let headers = |buffer: &mut [u8]| match is_last {
                true => template.emit_last(ahead, payload.len, buffer),
                false => template.emit(ahead, buffer),
            };
            let sent = send_payload(
                self.gather.as_mut(),
                &mut self.queue,
                self.tx_frames_max,
                headers,
                Some(&payload),
            );
            if sent {
                sent_until = Some(end);
            } else {
                self.counters.tx_not_built += 1;
            }
        }
        if let Some(gather) = &mut self.gather {
            gather.hold(exchange, &mut self.services);
        }
        if let Some(end) = sent_until {
            exchange.sent(end, now, &mut self.services);
            if let Some(gso) = &mut self.gso {
                gso.on_queued(slot);
            }
        }
    }

    /// Sends a segment without payload that belongs to no connection, or to TIME-WAIT.
    pub(super) fn send_bare(
        &mut self,
        link: &LinkHeader,
        src: IpAddr,
        dst: IpAddr,
        header: &TcpHeader,
    ) {
        if self.queue.tx_slots() == 0 {
            self.counters.tx_not_built += 1;
            return;
        }
        let emit = TcpEmit {
            link,
            src,
            dst,
            ecn: Ecn::NotEct,
            header,
            payload_len: 0,
        };
        let sent = send_packet(
            &mut self.queue,
            self.tx_frames_max,
            |buffer| emit.emit(buffer),
            None,
        );
        self.counters.tx_not_built += u64::from(!sent);
    }

    /// Sends a frame that needs no TCP: an answer of `host`, written by `emit` into the frame.
    pub(super) fn send_frame(&mut self, emit: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let Some(mut frame) = self.queue.tx_frame() else {
            self.counters.tx_not_built += 1;
            return;
        };
        let len = emit(frame.bytes_mut()).and_then(|len| u32::try_from(len).ok());
        let sent = match len {
            Some(len) => self.queue.send(frame, len, false, None),
            None => Err(frame),
        };
        if let Err(frame) = sent {
            self.queue.unused(frame);
            self.counters.tx_not_built += 1;
        }
    }

    /// Whether the socket will never send again: it was unbound, or refuses every kick.
    pub(super) fn has_lost_queue(&self) -> bool {
        self.counters.queue_lost > 0
    }

    /// Tells the kernel about queued frames, once per turn.
    pub(super) fn kick(&mut self) {
        let kick = self.queue.kick();
        if let Some(gso) = &mut self.gso
            && self.queue.tx_queued() == 0
        {
            gso.on_drained();
        }
        match kick {
            Kick::Down => self.counters.link_down += 1,
            Kick::Gone | Kick::Wedged(_) => self.counters.queue_lost += 1,
            // Counted by the queue itself; what is left is kicked again next turn.
            Kick::Idle | Kick::Done | Kick::Again | Kick::FrameLost | Kick::NoMemory => {}
        }
    }
}

/// The headers of what leaves, without the length of its payload.
pub(super) fn headers<'a>(outgoing: &'a Outgoing, link: &'a LinkHeader) -> TcpEmit<'a> {
    TcpEmit {
        link,
        src: outgoing.key.local(),
        dst: outgoing.key.remote(),
        ecn: if outgoing.ect { Ecn::Ect0 } else { Ecn::NotEct },
        header: &outgoing.header,
        payload_len: 0,
    }
}

/// Bytes of payload, of a run of all its segments.
pub(super) fn payload_len(outgoing: &Outgoing) -> usize {
    usize::try_from(outgoing.payload.end - outgoing.payload.start).unwrap_or(0)
}
