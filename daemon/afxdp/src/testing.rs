//! The kernel's side of a queue, in memory: for tests and simulations without NIC and root.
//!
//! [`MemoryNic`] works on the same rings as the queue, by the same rules as the kernel: packets go into frames from the
//! fill ring behind 256 bytes of headroom, long ones as chains; TX descriptors are validated as the kernel validates
//! them (an invalid one is consumed and never completes, bad metadata wedges the ring); completions name what was sent.
//! File blocks are read by way of the kernel. It behaves like a driver: a kick only wakes, packets move when
//! [`transmit`](MemoryNic::transmit) is called, in the same thread or another.

mod blocks;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::frame::FrameMemory;
use crate::port::Switchboard;
use crate::queue::TxChecksum;
use crate::ring::{Consumer, Producer};
use crate::uapi::{
    CHUNK_BYTES, Desc, MAX_PACKET_FRAMES, PKT_CONTD, RX_FRAME_BYTES, RX_HEADROOM, TX_METADATA,
    TXMD_FLAGS_CHECKSUM,
};
pub(crate) use blocks::BlockReader;

/// What is sent of one piece of a packet.
type Chunk = [u8; CHUNK_BYTES];

/// The kernel and NIC of an in-memory queue. Made by [`Queue::in_memory`](crate::Queue::in_memory).
pub struct MemoryNic {
    fill: Consumer<u64>,
    completion: Producer<u64>,
    rx: Producer<Desc>,
    tx: Consumer<Desc>,
    memory: FrameMemory,
    /// What TX descriptors may name beside frames.
    blocks: BlockReader,
    /// Where blocks are read to, one for each piece of a packet.
    copies: Box<[Chunk]>,
    tx_headroom: usize,
    multi_buffer: bool,
    switchboard: Arc<Switchboard>,
    /// Completions kept back, oldest first.
    held: Vec<u64>,
    hold: bool,
    drop_completions: u32,
}

impl fmt::Debug for MemoryNic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNic")
            .field("held_completions", &self.held.len())
            .finish_non_exhaustive()
    }
}

/// Why the packet at the head of the TX ring cannot be sent.
enum Refusal {
    /// Consumed, counted, never completed.
    Invalid,
    /// Stays at the head.
    Wedged,
}

impl MemoryNic {
    #[allow(clippy::too_many_arguments)] // one caller, every argument a part of its own type
    pub(crate) fn new(
        fill: Consumer<u64>,
        completion: Producer<u64>,
        rx: Producer<Desc>,
        tx: Consumer<Desc>,
        memory: FrameMemory,
        blocks: BlockReader,
        tx_headroom: usize,
        multi_buffer: bool,
        switchboard: Arc<Switchboard>,
    ) -> Self {
        // As in copy mode, where the bit is always set.
        tx.set_need_wakeup(true);
        Self {
            fill,
            completion,
            rx,
            tx,
            memory,
            blocks,
            copies: vec![[0; CHUNK_BYTES]; MAX_PACKET_FRAMES].into_boxed_slice(),
            tx_headroom,
            multi_buffer,
            switchboard,
            held: Vec::new(),
            hold: false,
            drop_completions: 0,
        }
    }

    /// Lets a packet arrive, as a chain if it is longer than a frame. False if it was dropped: empty, too long, or for
    /// want of frames in the fill ring or room in the RX ring; [`Queue::statistics`](crate::Queue::statistics) tells.
    pub fn inject(&mut self, packet: &[u8]) -> bool {
        let pieces = packet.len().div_ceil(RX_FRAME_BYTES);
        let most = if self.multi_buffer {
            MAX_PACKET_FRAMES
        } else {
            1
        };
        if pieces == 0 || pieces > most {
            self.switchboard.rx_dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        // At most 18.
        #[allow(clippy::cast_possible_truncation)]
        if !self.has_room_for(pieces as u32) {
            return false;
        }
        let mut rest = packet;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(RX_FRAME_BYTES));
            self.write_piece(piece, !after.is_empty());
            rest = after;
        }
        self.rx.publish();
        self.switchboard.raise_event();
        true
    }

    /// Lets one piece of a packet arrive (at most [`RX_FRAME_BYTES`], `more` to follow), as a driver does that hands
    /// over a chain in two polls. Builds any chain, also such as the kernel never makes. False if it was dropped.
    pub fn inject_piece(&mut self, piece: &[u8], more: bool) -> bool {
        if piece.is_empty() || piece.len() > RX_FRAME_BYTES || !self.has_room_for(1) {
            return false;
        }
        self.write_piece(piece, more);
        self.rx.publish();
        self.switchboard.raise_event();
        true
    }

    /// Lets an RX descriptor arrive that names `address`, which must not be in the fill ring: what a broken driver
    /// would do. Not for other crates: of a frame that *is* in the fill ring it would make two owners.
    #[cfg(test)]
    pub(crate) fn inject_descriptor(&mut self, address: u64, len: u32, more: bool) -> bool {
        let options = if more { PKT_CONTD } else { 0 };
        let pushed = self.rx.push(Desc {
            addr: address,
            len,
            options,
        });
        self.rx.publish();
        self.switchboard.raise_event();
        pushed
    }

    /// Sends whole packets from the TX ring, `limit` frames at most: `sink` gets the pieces of each and its checksum
    /// request. Their frames complete at once unless completions are held or dropped. Returns how many packets.
    pub fn transmit(
        &mut self,
        limit: u32,
        mut sink: impl FnMut(&[&[u8]], Option<TxChecksum>),
    ) -> u32 {
        let mut packets = 0;
        let mut budget = limit;
        let mut copies = core::mem::take(&mut self.copies);
        while !self.switchboard.stalled.load(Ordering::Relaxed) {
            self.tx.available();
            let Some(frames) = self.next_packet() else {
                break;
            };
            // As the kernel: without room for the completion the packet stays where it is.
            if frames > budget || (!self.hold && self.completion.free() < frames) {
                break;
            }
            budget -= frames;
            match self.send_head(frames, &mut copies, &mut sink) {
                Ok(()) => {
                    self.complete_head(frames);
                    packets += 1;
                }
                Err(Refusal::Invalid) => {
                    let counter = &self.switchboard.tx_invalid_descs;
                    counter.fetch_add(frames.into(), Ordering::Relaxed);
                }
                Err(Refusal::Wedged) => {
                    self.switchboard.wedged.store(true, Ordering::Relaxed);
                    break;
                }
            }
            self.tx.release(frames);
        }
        self.copies = copies;
        self.completion.publish();
        packets
    }

    /// Keeps completions back until [`complete`](Self::complete), as hardware that sends later.
    pub fn hold_completions(&mut self, hold: bool) {
        self.hold = hold;
    }

    /// Completes up to `frames` of the frames whose completions were held, oldest first. Returns how many.
    pub fn complete(&mut self, frames: u32) -> u32 {
        let room = self.completion.free();
        let count = (frames.min(room) as usize).min(self.held.len());
        for address in self.held.drain(..count) {
            self.completion.push(address);
        }
        self.completion.publish();
        // At most `frames`.
        #[allow(clippy::cast_possible_truncation)]
        let completed = count as u32;
        completed
    }

    /// Loses the next `frames` completions: those frames never come back.
    pub fn drop_completions(&mut self, frames: u32) {
        self.drop_completions = frames;
    }

    /// Stops (or resumes) sending: nothing leaves the TX ring, kicks answer `EAGAIN`.
    pub fn stall(&mut self, stalled: bool) {
        self.switchboard.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Makes the next kick fail with `errno`.
    pub fn fail_next_kick(&mut self, errno: i32) {
        self.switchboard.next_errno.store(errno, Ordering::Relaxed);
    }

    /// Tells the queue whether it must kick (at first: yes), or the NIC polls the ring by itself.
    pub fn need_wakeup(&mut self, need: bool) {
        self.tx.set_need_wakeup(need);
    }

    /// Kicks so far.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.switchboard.kicks.load(Ordering::Relaxed)
    }

    /// Frames in the TX ring that the queue has published and this side has not sent.
    pub fn tx_queued(&mut self) -> u32 {
        self.tx.available()
    }

    /// Frames in the fill ring.
    pub fn fill_level(&mut self) -> u32 {
        self.fill.available()
    }

    fn has_room_for(&mut self, pieces: u32) -> bool {
        if self.fill.available() < pieces {
            let counter = &self.switchboard.rx_fill_ring_empty;
            counter.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if self.rx.free() < pieces {
            self.switchboard
                .rx_ring_full
                .fetch_add(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Moves one frame from the fill ring to the RX ring, with `piece` in it. There must be room for it.
    fn write_piece(&mut self, piece: &[u8], more: bool) {
        let address = self.fill.peek(0).expect("a frame in the fill ring");
        let (index, _) = self
            .memory
            .locate(address)
            .expect("the queue fills with its own frames");
        let mut chunk = self.memory.chunk(index);
        {
            // SAFETY: the chunk is initialised memory of the UMEM, mapped for ever. Its frame was in the fill ring, so
            // it belongs to this side until the RX entry below is published; the slice ends before that.
            let chunk = unsafe { chunk.as_mut() };
            chunk[RX_HEADROOM..][..piece.len()].copy_from_slice(piece);
        }
        self.fill.release(1);
        let pushed = self.rx.push(Desc {
            addr: u64::from(index) * CHUNK_BYTES as u64 + RX_HEADROOM as u64,
            len: u32::try_from(piece.len()).expect("a piece of a frame"),
            options: if more { PKT_CONTD } else { 0 },
        });
        assert!(pushed, "room in the RX ring");
    }

    /// Frames of the packet at the head of the TX ring, if it is there as a whole.
    fn next_packet(&self) -> Option<u32> {
        let mut frames = 0;
        loop {
            let desc = self.tx.peek(frames)?;
            frames += 1;
            if desc.options & PKT_CONTD == 0 {
                return Some(frames);
            }
        }
    }

    fn send_head(
        &self,
        frames: u32,
        copies: &mut [Chunk],
        sink: &mut impl FnMut(&[&[u8]], Option<TxChecksum>),
    ) -> Result<(), Refusal> {
        let frames = frames as usize;
        if frames > MAX_PACKET_FRAMES || (frames > 1 && !self.multi_buffer) {
            return Err(Refusal::Invalid);
        }
        let mut pieces: [&[u8]; MAX_PACKET_FRAMES] = [&[]; MAX_PACKET_FRAMES];
        let mut checksum = None;
        for ((ahead, piece), copy) in (0..).zip(&mut pieces[..frames]).zip(copies) {
            let desc = self.tx.peek(ahead).ok_or(Refusal::Invalid)?;
            let (metadata, bytes) = self.buffer(&desc, copy)?;
            if ahead == 0 && desc.options & TX_METADATA != 0 {
                checksum = read_metadata(metadata, desc.len)?;
            }
            *piece = bytes;
        }
        sink(&pieces[..frames], checksum);
        Ok(())
    }

    /// Metadata and bytes of a TX descriptor, by the rules of `xp_validate_desc` for aligned chunks. Those of a block are
    /// read into `copy`, and have no metadata.
    fn buffer<'a>(
        &'a self,
        desc: &Desc,
        copy: &'a mut Chunk,
    ) -> Result<(&'a [u8], &'a [u8]), Refusal> {
        // A remainder below 4096.
        #[allow(clippy::cast_possible_truncation)]
        let offset = (desc.addr % CHUNK_BYTES as u64) as usize;
        let end = offset + desc.len as usize;
        let known = desc.options & !(PKT_CONTD | TX_METADATA) == 0;
        if desc.len == 0 || !known || offset < self.tx_headroom || end > CHUNK_BYTES {
            return Err(Refusal::Invalid);
        }
        let Some((index, _)) = self.memory.locate(desc.addr) else {
            let bytes = &mut copy[offset..end];
            return match self.blocks.read(desc.addr, bytes) {
                true => Ok((&[], bytes)),
                false => Err(Refusal::Invalid),
            };
        };
        let chunk = self.memory.chunk(index);
        // SAFETY: the chunk is initialised memory of the UMEM, mapped for ever. Its frame is in the TX ring, so it belongs
        // to this side until its completion is published, and the borrow of `self` ends before.
        let chunk = unsafe { chunk.as_ref() };
        Ok((
            &chunk[offset - self.tx_headroom..offset],
            &chunk[offset..end],
        ))
    }

    /// Completes the frames of the packet at the head, which was sent.
    fn complete_head(&mut self, frames: u32) {
        for ahead in 0..frames {
            let Some(desc) = self.tx.peek(ahead) else {
                break;
            };
            if self.drop_completions > 0 {
                self.drop_completions -= 1;
            } else if self.hold {
                self.held.push(desc.addr);
            } else {
                self.completion.push(desc.addr);
            }
        }
    }
}

/// The checksum request in `metadata`, by the rules of `xsk_skb_metadata`.
fn read_metadata(metadata: &[u8], len: u32) -> Result<Option<TxChecksum>, Refusal> {
    let (Some(flags), Some(start), Some(offset)) = (
        metadata.first_chunk::<8>(),
        metadata.get(8..10).and_then(<[u8]>::first_chunk::<2>),
        metadata.get(10..12).and_then(<[u8]>::first_chunk::<2>),
    ) else {
        return Err(Refusal::Wedged);
    };
    let flags = u64::from_ne_bytes(*flags);
    let checksum = TxChecksum {
        start: u16::from_ne_bytes(*start),
        offset: u16::from_ne_bytes(*offset),
    };
    if flags & !TXMD_FLAGS_CHECKSUM != 0 {
        return Err(Refusal::Wedged);
    }
    if flags == 0 {
        return Ok(None);
    }
    let end = u32::from(checksum.start) + u32::from(checksum.offset) + 2;
    if end > len {
        return Err(Refusal::Wedged);
    }
    Ok(Some(checksum))
}
