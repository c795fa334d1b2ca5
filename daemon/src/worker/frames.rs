//! One packet in frames of the TX ring: headers, then the payload from the exchange's blocks.
//!
//! One copy from the block into the frame, summed on the way if neither kernel nor device does it. A packet leaves whole
//! or not at all.

use sluice_afxdp::{Queue, TxChecksum, TxFrame};
use sluice_wire::checksum::{Sum, copy_and_sum};
use sluice_wire::{EmitError, Unsealed};

use crate::exchange::Exchange;
use crate::services::Services;

/// Frames of the longest packet we build: 9,000 bytes of MTU in chunks of 4 KiB. Fewer where the queue is bound
/// without chains.
pub const TX_FRAMES_MAX: usize = 3;

/// The payload of one packet: response bytes from a stream offset on.
pub(super) struct Payload<'a> {
    pub exchange: &'a Exchange,
    pub services: &'a Services,
    pub at: u64,
    pub len: usize,
}

/// Builds a packet of at most `most` frames and queues it: headers by `write_headers`, then the payload. False if there
/// is no frame, or a payload that is not there, or no room in the ring: then nothing of it leaves, and the segment
/// counts as lost and comes again.
pub(super) fn send_packet(
    queue: &mut Queue,
    most: usize,
    write_headers: impl FnOnce(&mut [u8]) -> Result<Unsealed, EmitError>,
    payload: Option<&Payload<'_>>,
) -> bool {
    let mut frames = Frames::new(most, queue.bound().tx_checksum);
    match frames.build(queue, write_headers, payload) {
        Some(unsealed) => frames.seal_and_send(queue, unsealed),
        None => {
            frames.abandon(queue);
            false
        }
    }
}

/// The frames of one packet under construction, with the bytes used in each.
struct Frames {
    parts: [Option<(TxFrame, usize)>; TX_FRAMES_MAX],
    /// Of the parts, at most this many.
    most: usize,
    used: usize,
    /// Of the payload so far, unless kernel or device compute it.
    sum: Option<Sum>,
}

impl Frames {
    fn new(most: usize, offload: bool) -> Self {
        Frames {
            parts: [None, None, None],
            most,
            used: 0,
            sum: (!offload).then(Sum::default),
        }
    }

    /// Headers and payload into frames.
    fn build(
        &mut self,
        queue: &mut Queue,
        write_headers: impl FnOnce(&mut [u8]) -> Result<Unsealed, EmitError>,
        payload: Option<&Payload<'_>>,
    ) -> Option<Unsealed> {
        let mut frame = queue.tx_frame()?;
        let unsealed = match write_headers(frame.bytes_mut()) {
            Ok(unsealed) => unsealed,
            Err(_) => {
                queue.unused(frame);
                return None;
            }
        };
        self.push(frame, unsealed.headers_len());
        if let Some(payload) = payload {
            self.copy_payload(queue, payload)?;
        }
        Some(unsealed)
    }

    fn push(&mut self, frame: TxFrame, len: usize) {
        self.parts[self.used] = Some((frame, len));
        self.used += 1;
    }

    fn copy_payload(&mut self, queue: &mut Queue, payload: &Payload<'_>) -> Option<()> {
        let mut copied = 0;
        while copied < payload.len {
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
            let wanted = room.len().min(payload.len - copied);
            let bytes =
                payload
                    .exchange
                    .bytes(payload.at + copied as u64, wanted, payload.services);
            if bytes.is_empty() {
                return None;
            }
            let room = &mut room[..bytes.len()];
            match &mut self.sum {
                Some(sum) => sum.add(copy_and_sum(room, bytes)),
                None => room.copy_from_slice(bytes),
            }
            *used += bytes.len();
            copied += bytes.len();
        }
        Some(())
    }

    /// Queues the packet. False if the queue refused a frame of it: then nothing of it leaves, since a later frame
    /// alone would go out as a packet that begins with file bytes.
    fn seal_and_send(mut self, queue: &mut Queue, unsealed: Unsealed) -> bool {
        let Some((first, _)) = self.parts[0].as_mut() else {
            return false;
        };
        let buffer = first.bytes_mut();
        let mut offload = seal(unsealed, buffer, self.sum);
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

/// Completes the checksum of the headers in `buffer` with the sum of the payload, or leaves it to the device, which gets what
/// it returns.
pub(super) fn seal(unsealed: Unsealed, buffer: &mut [u8], sum: Option<Sum>) -> Option<TxChecksum> {
    let Some(sum) = sum else {
        let at = unsealed.seal_partial(buffer);
        return Some(TxChecksum {
            start: at.start,
            offset: at.offset,
        });
    };
    unsealed.seal_full(buffer, sum);
    None
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use sluice_afxdp::{HugePages, Kick, QueueConfig, Umem, UmemConfig};
    use sluice_wire::{Ecn, LinkHeader, TcpEmit, TcpHeader};

    use super::*;

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
        let mut frames = Frames::new(TX_FRAMES_MAX, false);
        let unsealed = frames
            .build(&mut queue, |buffer| emit.emit(buffer), None)
            .expect("there are frames");
        for _ in 1..TX_FRAMES_MAX {
            let frame = queue.tx_frame().expect("there are frames");
            frames.push(frame, 1000);
        }
        assert!(!frames.seal_and_send(&mut queue, unsealed));
        assert_eq!(queue.kick(), Kick::Idle);
        assert_eq!(queue.tx_queued(), 0);
        nic.transmit(u32::MAX, |pieces, _| panic!("{} frames left", pieces.len()));
        assert!(queue.ledger().at_rest(), "{:?}", queue.ledger());
    }
}
