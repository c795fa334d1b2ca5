//! The gather lane: segments whose payload leaves from the file blocks, uncopied, behind headers in a frame of the ring.
//!
//! A packet is a chain of TX descriptors on the same ring as everything else, so the order of a flow is that of the ring.
//! The rules that keep the bytes right:
//! - A block with a descriptor under way is *held*: by a reference of this lane's own, from the first descriptor to the
//!   last completion. What the peer acknowledges meanwhile, or a connection that ends, does not set it free.
//! - A packet is planned as a whole before any of it is queued. What cannot be planned (too many pieces for the driver,
//!   bytes that are not there) goes by the copy lane, which has the same ring.
//! - Copied are the bytes that no descriptor may name ([`Queue::cut`]), heads of responses, and pieces so short that a
//!   descriptor costs more than they do ([`WORTH_A_DESCRIPTOR`]).
//! - The checksum is the device's, or a sum over the bytes where they lie.
//!
//! In copy mode the kernel copies what it is given, and every further descriptor costs it a page: then this lane is right
//! but slow, and good for tests. It is made for drivers with zero copy and multi-buffer.

use sluice_afxdp::{CHUNK_BYTES, Cut, Queue, Slice, TxFrame};
use sluice_disk::{BLOCK_BYTES, BlockRef};
use sluice_wire::checksum::{self, Sum, copy_and_sum};
use sluice_wire::{EmitError, Unsealed};

use super::Worker;
use super::frames::{Payload, TX_FRAMES_MAX, seal, send_packet};
use crate::exchange::Exchange;
use crate::services::Services;

/// Payload in one piece below which it is copied. A descriptor is 16 bytes for the NIC to fetch, a mapping to look up, a
/// completion to write and to read, and a bus transfer of its own: about what copying so much costs.
const WORTH_A_DESCRIPTOR: usize = 256;

/// Pieces of a packet at most, however many the driver takes: those of the longest we build, 11 KiB.
const PIECES_MAX: usize = pieces_of(TX_FRAMES_MAX * CHUNK_BYTES - 1);

/// What the kernel has of one block.
#[derive(Debug, Default)]
struct Held {
    /// Descriptors sent and not completed.
    descriptors: u32,
    /// The reference that keeps the block while there are any.
    block: Option<BlockRef>,
}

/// The lane of one worker.
#[derive(Debug)]
pub(super) struct GatherLane {
    /// Pieces that the driver takes of a packet.
    pieces_max: usize,
    /// Per block of the block area.
    held: Box<[Held]>,
    /// Blocks with a descriptor under way and without a reference yet, with a stream offset in them: from when a packet
    /// is queued until [`Self::hold`], in the same breath.
    to_hold: Vec<(usize, u64)>,
    counters: GatherCounters,
}

/// What a gather lane did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatherCounters {
    /// Packets sent with payload from the blocks.
    pub packets: u64,
    /// Pieces of payload sent from the blocks.
    pub slices: u64,
    /// Bytes of payload sent from the blocks.
    pub bytes: u64,
    /// Bytes of payload in packets of this lane that were copied.
    pub copied_bytes: u64,
    /// Packets that were left to the copy lane.
    pub not_taken: u64,
}

/// A piece of a packet under construction.
#[derive(Debug)]
enum Piece {
    Frame(TxFrame, usize),
    /// With the stream offset of its first byte.
    Slice(Slice, u64),
}

impl GatherLane {
    /// The lane over a queue whose packets have at most `mtu` bytes; `None` if they are frames without slices
    /// ([`can_gather`]).
    pub(super) fn new(queue: &Queue, mtu: u16) -> Option<Self> {
        let most = queue.bound().max_packet_frames;
        if !can_gather(most) {
            return None;
        }
        let blocks = queue.umem().block_bytes() / BLOCK_BYTES;
        let mut held = Vec::new();
        held.resize_with(blocks, Held::default);
        Some(GatherLane {
            pieces_max: pieces_of(mtu.into()).min(most).min(PIECES_MAX),
            held: held.into_boxed_slice(),
            to_hold: Vec::with_capacity(blocks),
            counters: GatherCounters::default(),
        })
    }

    /// Descriptors that a packet takes at most.
    pub(super) fn pieces_max(&self) -> usize {
        self.pieces_max
    }

    pub(super) fn counters(&self) -> GatherCounters {
        self.counters
    }

    /// Takes references to the blocks that were queued since the last call and had none, which are blocks of `exchange`.
    pub(super) fn hold(&mut self, exchange: &Exchange, services: &mut Services) {
        for (block, at) in self.to_hold.drain(..) {
            let reference = exchange.block_at(at);
            debug_assert!(reference.is_some(), "bytes were read from this block");
            self.held[block].block = reference.map(|it| services.disk.clone_ref(it));
        }
    }

    /// A piece is on the wire. The last of its block sets it free.
    fn completed(&mut self, place: u64, services: &mut Services) {
        let Some(held) = self.held.get_mut(block_of(place)) else {
            return;
        };
        held.descriptors = held.descriptors.saturating_sub(1);
        if held.descriptors == 0
            && let Some(block) = held.block.take()
        {
            services.release(block);
        }
    }

    /// Builds a packet and queues it. False if this lane cannot carry it: then nothing of it was queued.
    fn send(
        &mut self,
        queue: &mut Queue,
        write_headers: impl FnOnce(&mut [u8]) -> Result<Unsealed, EmitError>,
        payload: &Payload<'_>,
    ) -> bool {
        let mut pieces = Pieces::new(self.pieces_max, queue.bound().tx_checksum);
        let Some(unsealed) = self.plan(&mut pieces, queue, write_headers, payload) else {
            pieces.abandon(queue);
            return false;
        };
        let mut slices = [None; PIECES_MAX];
        if !pieces.seal_and_send(queue, unsealed, &mut slices) {
            return false;
        }
        for (slice, at) in slices.into_iter().flatten() {
            self.note(slice, at);
        }
        let of_blocks: usize = slices.iter().flatten().map(|(slice, _)| slice.len()).sum();
        self.counters.packets += u64::from(of_blocks > 0);
        self.counters.bytes += of_blocks as u64;
        self.counters.copied_bytes += (payload.len - of_blocks) as u64;
        true
    }

    fn plan(
        &self,
        pieces: &mut Pieces,
        queue: &mut Queue,
        write_headers: impl FnOnce(&mut [u8]) -> Result<Unsealed, EmitError>,
        payload: &Payload<'_>,
    ) -> Option<Unsealed> {
        let mut frame = queue.tx_frame()?;
        let written = write_headers(frame.bytes_mut());
        pieces.push(Piece::Frame(
            frame,
            written.as_ref().map_or(0, Unsealed::headers_len),
        ));
        let unsealed = written.ok()?;
        let mut planned = 0;
        while planned < payload.len {
            let at = payload.at + planned as u64;
            let left = payload.len - planned;
            let bytes = payload.exchange.bytes(at, left, payload.services);
            if bytes.is_empty() {
                return None;
            }
            planned += match queue.cut(bytes) {
                Cut::Slice(slice) if slice.len() >= WORTH_A_DESCRIPTOR => {
                    self.slice(pieces, slice, &bytes[..slice.len()], at, payload.exchange)?
                }
                Cut::Slice(slice) => pieces.copy(queue, &bytes[..slice.len()])?,
                Cut::Copy(len) => pieces.copy(queue, &bytes[..len])?,
            };
        }
        Some(unsealed)
    }

    /// Plans a slice; `None` if there is no room, or nothing that would hold its block.
    fn slice(
        &self,
        pieces: &mut Pieces,
        slice: Slice,
        bytes: &[u8],
        at: u64,
        exchange: &Exchange,
    ) -> Option<usize> {
        let held = self.held.get(block_of(slice.place()))?;
        if pieces.is_full() || (held.descriptors == 0 && exchange.block_at(at).is_none()) {
            return None;
        }
        if let Some(sum) = &mut pieces.sum {
            sum.add(checksum::sum(bytes));
        }
        pieces.push(Piece::Slice(slice, at));
        Some(bytes.len())
    }

    /// A slice at stream offset `at` was queued.
    fn note(&mut self, slice: Slice, at: u64) {
        let block = block_of(slice.place());
        let held = &mut self.held[block];
        if held.descriptors == 0 {
            self.to_hold.push((block, at));
        }
        held.descriptors += 1;
        self.counters.slices += 1;
    }
}

/// Whether a queue whose packets have so many pieces can send from blocks: headers are one of them.
#[must_use]
pub fn can_gather(max_packet_frames: usize) -> bool {
    max_packet_frames >= 2
}

/// Pieces of a packet of so many bytes out of one response: headers, a slice, and for each chunk that begins in it the
/// bytes at its front, copied, and another slice.
const fn pieces_of(packet_bytes: usize) -> usize {
    2 + 2 * packet_bytes.div_ceil(CHUNK_BYTES)
}

/// Which block of the block area a place in it belongs to.
fn block_of(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX) / BLOCK_BYTES
}

/// A packet with payload: by the gather lane if there is one and it can, else copied into at most `most` frames. False
/// as in [`send_packet`].
pub(super) fn send_payload(
    gather: Option<&mut GatherLane>,
    queue: &mut Queue,
    most: usize,
    write_headers: impl Fn(&mut [u8]) -> Result<Unsealed, EmitError>,
    payload: Option<&Payload<'_>>,
) -> bool {
    if let (Some(gather), Some(payload)) = (gather, payload) {
        if gather.send(queue, &write_headers, payload) {
            return true;
        }
        gather.counters.not_taken += 1;
    }
    send_packet(queue, most, write_headers, payload)
}

impl Worker {
    /// Takes back what was sent. True if there was anything.
    pub(super) fn reap(&mut self) -> bool {
        let Some(gather) = &mut self.gather else {
            return self.queue.reap() > 0;
        };
        let services = &mut self.services;
        self.queue
            .reap_each(|place| gather.completed(place, services))
            > 0
    }
}

/// The pieces of one packet under construction.
struct Pieces {
    parts: [Option<Piece>; PIECES_MAX],
    /// Of the parts, at most this many.
    most: usize,
    used: usize,
    /// Of the payload so far, unless kernel or device compute it.
    sum: Option<Sum>,
}

impl Pieces {
    fn new(most: usize, offload: bool) -> Self {
        Pieces {
            parts: [const { None }; PIECES_MAX],
            most,
            used: 0,
            sum: (!offload).then(Sum::default),
        }
    }

    fn is_full(&self) -> bool {
        self.used == self.most
    }

    fn push(&mut self, piece: Piece) {
        self.parts[self.used] = Some(piece);
        self.used += 1;
    }

    /// Copies as much of `bytes` as fits behind what was copied last, or into a frame of its own behind a slice.
    fn copy(&mut self, queue: &mut Queue, bytes: &[u8]) -> Option<usize> {
        let has_room = match &mut self.parts[self.used - 1] {
            Some(Piece::Frame(frame, used)) => *used < frame.bytes_mut().len(),
            _ => false,
        };
        if !has_room {
            if self.is_full() {
                return None;
            }
            self.push(Piece::Frame(queue.tx_frame()?, 0));
        }
        let Some(Piece::Frame(frame, used)) = &mut self.parts[self.used - 1] else {
            return None;
        };
        let room = &mut frame.bytes_mut()[*used..];
        let len = room.len().min(bytes.len());
        match &mut self.sum {
            Some(sum) => sum.add(copy_and_sum(&mut room[..len], &bytes[..len])),
            None => room[..len].copy_from_slice(&bytes[..len]),
        }
        *used += len;
        Some(len)
    }

    /// Queues the packet and notes its slices. False if the queue refused a piece of it: then nothing of it leaves.
    fn seal_and_send(
        mut self,
        queue: &mut Queue,
        unsealed: Unsealed,
        slices: &mut [Option<(Slice, u64)>; PIECES_MAX],
    ) -> bool {
        let Some(Piece::Frame(first, _)) = &mut self.parts[0] else {
            self.abandon(queue);
            return false;
        };
        let buffer = first.bytes_mut();
        let mut offload = seal(unsealed, buffer, self.sum);
        for (index, queued_slice) in slices.iter_mut().enumerate().take(self.used) {
            let more = index + 1 < self.used;
            let queued = match self.parts[index].take() {
                Some(Piece::Frame(frame, len)) => {
                    let len = u32::try_from(len).unwrap_or(0);
                    match queue.send(frame, len, more, offload.take()) {
                        Ok(()) => true,
                        Err(frame) => {
                            queue.unused(frame);
                            false
                        }
                    }
                }
                Some(Piece::Slice(slice, at)) => {
                    *queued_slice = Some((slice, at));
                    queue.send_slice(slice, more).is_ok()
                }
                None => false,
            };
            if !queued {
                queue.abandon_packet();
                self.abandon(queue);
                return false;
            }
        }
        true
    }

    fn abandon(self, queue: &mut Queue) {
        for piece in self.parts.into_iter().flatten() {
            if let Piece::Frame(frame, _) = piece {
                queue.unused(frame);
            }
        }
    }
}
