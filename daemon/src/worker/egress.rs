//! From a segment plan to frames on the TX ring: headers by `wire`, payload from the exchange's blocks.
//!
//! This is the copy lane: one copy from the block into the frame, summed only if the kernel or the device
//! does not do it.

use core::net::IpAddr;

use sluice_afxdp::{Kick, Queue, TxChecksum, TxFrame};
use sluice_tcp::Outgoing;
use sluice_tcp::clock::Instant;
use sluice_wire::{Ecn, LinkHeader, TcpEmit, TcpHeader, Unsealed, checksum};

use super::Worker;
use crate::exchange::Exchange;
use crate::services::Services;

/// Packets built per turn, about one TX ring kick's worth (kernel budget) of full frames.
pub(super) const TX_BATCH_PACKETS: usize = 256;

/// Frames of the longest packet we build: 9,000 bytes of MTU in chunks of 4 KiB. Fewer where the queue is bound
/// without chains.
pub const TX_FRAMES_MAX: usize = 3;

impl Worker {
    /// Sends what the stack lets go, as far as ring and frames reach. True if anything was sent.
    pub(super) fn transmit(&mut self, now: Instant) -> bool {
        if self.gso.is_some() {
            return self.transmit_trains(now);
        }
        let mut sent = 0;
        while sent < TX_BATCH_PACKETS && self.queue.tx_slots() as usize >= self.tx_frames_max {
            let Some(outgoing) = self.stack.poll_transmit(now) else {
                break;
            };
            self.send_segment(&outgoing, now);
            sent += 1;
        }
        sent > 0
    }

    pub(super) fn send_segment(&mut self, outgoing: &Outgoing, now: Instant) {
        let slot = outgoing.conn.slot();
        let len = usize::try_from(outgoing.payload.end - outgoing.payload.start).unwrap_or(0);
        let emit = TcpEmit {
            link: &self.peers[slot],
            src: outgoing.key.local(),
            dst: outgoing.key.remote(),
            ecn: ecn(outgoing),
            header: &outgoing.header,
            payload_len: len,
        };
        let exchange = if len == 0 {
            None
        } else {
            self.exchanges[slot].as_mut()
        };
        let mut frames = Frames::new(self.tx_frames_max);
        let built = frames.build(
            &mut self.queue,
            &emit,
            exchange.as_deref().map(|exchange| Payload {
                exchange,
                services: &self.services,
                at: outgoing.payload.start,
            }),
        );
        let Some((unsealed, payload_sum)) = built else {
            // No frame, or a payload that is not there: the segment counts as lost and comes again.
            frames.abandon(&mut self.queue);
            self.counters.tx_not_built += 1;
            return;
        };
        if !frames.seal_and_send(&mut self.queue, unsealed, payload_sum) {
            self.counters.tx_not_built += 1;
            return;
        }
        if let Some(gso) = &mut self.gso
            && len > 0
        {
            gso.on_queued(slot);
        }
        if let Some(exchange) = exchange {
            exchange.sent(outgoing.payload.end, now, &mut self.services);
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
        let mut frames = Frames::new(self.tx_frames_max);
        let sent = match frames.build(&mut self.queue, &emit, None) {
            Some((unsealed, sum)) => frames.seal_and_send(&mut self.queue, unsealed, sum),
            None => {
                frames.abandon(&mut self.queue);
                false
            }
        };
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

/// The ECN field of a segment's IP header.
pub(super) fn ecn(outgoing: &Outgoing) -> Ecn {
    if outgoing.ect { Ecn::Ect0 } else { Ecn::NotEct }
}

/// Where the payload of one segment comes from.
struct Payload<'a> {
    exchange: &'a Exchange,
    services: &'a Services,
    at: u64,
}

/// The frames of one packet under construction, with the bytes used in each.
struct Frames {
    parts: [Option<(TxFrame, usize)>; TX_FRAMES_MAX],
    /// Of the parts, at most this many.
    most: usize,
    used: usize,
    first_payload_at: usize,
}

impl Frames {
    fn new(most: usize) -> Self {
        Frames {
            parts: [None, None, None],
            most,
            used: 0,
            first_payload_at: 0,
        }
    }

    /// Headers and payload into frames. The sum covers the payload if the kernel will not compute it.
    fn build(
        &mut self,
        queue: &mut Queue,
        emit: &TcpEmit<'_>,
        payload: Option<Payload<'_>>,
    ) -> Option<(Unsealed, Option<checksum::Sum>)> {
        let mut frame = queue.tx_frame()?;
        let unsealed = match emit.emit(frame.bytes_mut()) {
            Ok(unsealed) => unsealed,
            Err(_) => {
                queue.unused(frame);
                return None;
            }
        };
        let headers = unsealed.headers_len();
        self.first_payload_at = headers;
        self.push(frame, headers);
        if let Some(payload) = payload {
            self.copy_payload(queue, emit.payload_len, &payload)?;
        }
        let sum = (!queue.bound().tx_checksum).then(|| self.payload_sum());
        Some((unsealed, sum))
    }

    fn push(&mut self, frame: TxFrame, len: usize) {
        self.parts[self.used] = Some((frame, len));
        self.used += 1;
    }

    fn copy_payload(&mut self, queue: &mut Queue, len: usize, payload: &Payload<'_>) -> Option<()> {
        let mut copied = 0;
        while copied < len {
            let (frame, used) = self.parts[self.used - 1].as_mut()?;
            let room = &mut frame.bytes_mut()[*used..];
            if room.is_empty() {
                if self.used == self.most {
                    return None;
                }
                let next = queue.tx_frame()?;
                self.push(next, 0);
                continue;
            }
            let wanted = room.len().min(len - copied);
            let bytes =
                payload
                    .exchange
                    .bytes(payload.at + copied as u64, wanted, payload.services);
            if bytes.is_empty() {
                return None;
            }
            room[..bytes.len()].copy_from_slice(bytes);
            *used += bytes.len();
            copied += bytes.len();
        }
        Some(())
    }

    fn payload_sum(&mut self) -> checksum::Sum {
        let mut sum = checksum::Sum::default();
        let mut skip = self.first_payload_at;
        for (frame, used) in self.parts.iter_mut().flatten() {
            sum.add_bytes(&frame.bytes_mut()[skip..*used]);
            skip = 0;
        }
        sum
    }

    /// Queues the packet. False if the queue refused a frame of it: then nothing of it leaves, since a later frame
    /// alone would go out as a packet that begins with file bytes.
    fn seal_and_send(
        mut self,
        queue: &mut Queue,
        unsealed: Unsealed,
        payload_sum: Option<checksum::Sum>,
    ) -> bool {
        let Some((first, _)) = self.parts[0].as_mut() else {
            return false;
        };
        let buffer = first.bytes_mut();
        let mut offload = match payload_sum {
            Some(sum) => {
                unsealed.seal_full(buffer, sum);
                None
            }
            None => {
                let at = unsealed.seal_partial(buffer);
                Some(TxChecksum {
                    start: at.start,
                    offset: at.offset,
                })
            }
        };
        for index in 0..self.used {
            let Some((frame, len)) = self.parts[index].take() else {
                break;
            };
            let more = index + 1 < self.used;
            let len = u32::try_from(len).unwrap_or(0);
            if let Err(frame) = queue.send(frame, len, more, offload.take()) {
                queue.unused(frame);
                queue.abandon_packet();
                self.abandon(queue);
                return false;
            }
        }
        true
    }

    fn abandon(self, queue: &mut Queue) {
        for (frame, _) in self.parts.into_iter().flatten() {
            queue.unused(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_afxdp::{HugePages, QueueConfig, Umem, UmemConfig};

    #[test]
    fn of_a_packet_whose_first_frame_is_refused_nothing_leaves() {
        let umem = Umem::new(&UmemConfig {
            frames: 256,
            block_bytes: 0,
            huge_pages: HugePages::Off,
            tx_metadata: false,
        })
        .expect("memory");
        let config = QueueConfig {
            rx_ring: 64,
            tx_ring: 64,
            fill_ring: 64,
            completion_ring: 64,
            multi_buffer: false,
            ..QueueConfig::new(0, 0)
        };
        let (mut queue, mut nic) = Queue::in_memory(umem, &config, 0);
        let header = TcpHeader::default();
        let emit = TcpEmit {
            link: &LinkHeader::default(),
            src: IpAddr::from([192, 0, 2, 1]),
            dst: IpAddr::from([192, 0, 2, 2]),
            ecn: Ecn::NotEct,
            header: &header,
            payload_len: 0,
        };
        let mut frames = Frames::new(TX_FRAMES_MAX);
        let (unsealed, sum) = frames
            .build(&mut queue, &emit, None)
            .expect("there are frames");
        for _ in 1..TX_FRAMES_MAX {
            let frame = queue.tx_frame().expect("there are frames");
            frames.push(frame, 1000);
        }
        assert!(!frames.seal_and_send(&mut queue, unsealed, sum));
        assert_eq!(queue.kick(), Kick::Idle);
        assert_eq!(queue.tx_queued(), 0);
        nic.transmit(u32::MAX, |pieces, _| panic!("{} frames left", pieces.len()));
        assert!(queue.ledger().at_rest(), "{:?}", queue.ledger());
    }
}
