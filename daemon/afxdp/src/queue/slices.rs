//! Packets whose payload stays where it is: descriptors that name parts of the block area.
//!
//! A packet of this kind begins with a frame, which has the headers, and goes on with [`Slice`]s, or with further frames
//! for what no descriptor may name. In zero-copy mode the NIC reads a slice from the block; in copy mode the kernel does,
//! during the kick. Either way the bytes must stay as they are until [`Queue::reap_each`] has named their place, or they leave
//! garbled: the queue counts what is under way, and whoever owns the blocks keeps them.

use super::Queue;
use crate::uapi::{CHUNK_BYTES, Desc, PKT_CONTD};
use crate::umem::Umem;

/// Bytes of the block area that one descriptor can name. Made by [`Queue::cut`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    addr: u64,
    place: u64,
    len: u32,
}

impl Slice {
    /// Offset of the first byte in the block area.
    #[inline]
    #[must_use]
    pub fn place(&self) -> u64 {
        self.place
    }

    /// Bytes, at least one and at most [`CHUNK_BYTES`](crate::CHUNK_BYTES).
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // there is no empty slice
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// What can be done about the first of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A descriptor may name them.
    Slice(Slice),
    /// So many must be copied into a frame: they lie elsewhere, or where the kernel would look for metadata.
    Copy(usize),
}

/// The block area as descriptors see it, and how much of it the kernel has.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockArea {
    /// Address of its first byte, which is the end of the frames, and behind its last one.
    start: u64,
    end: u64,
    /// Bytes at the front of every chunk that no descriptor may name.
    reserved: usize,
    in_flight: u32,
}

impl BlockArea {
    pub(super) fn of(umem: &Umem) -> Self {
        Self {
            start: u64::from(umem.frames()) * CHUNK_BYTES as u64,
            end: umem.len() as u64,
            reserved: umem.tx_headroom().into(),
            in_flight: 0,
        }
    }

    /// Whether a descriptor of this address names a slice and no frame.
    #[inline]
    pub(super) fn contains(&self, addr: u64) -> bool {
        (self.start..self.end).contains(&addr)
    }

    /// Whether a slice was cut of an area that lies as this one does.
    #[inline]
    fn has(&self, slice: Slice) -> bool {
        self.contains(slice.addr)
            && slice.addr - self.start == slice.place
            && slice.addr % CHUNK_BYTES as u64 >= self.reserved as u64
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Takes back a slice by the address the kernel completed: its place. None if none was under way.
    #[inline]
    pub(super) fn complete(&mut self, addr: u64) -> Option<u64> {
        self.in_flight = self.in_flight.checked_sub(1)?;
        Some(addr - self.start)
    }
}

impl Queue {
    /// The longest beginning of `bytes`, which are not empty, that can be treated in one way.
    ///
    /// A descriptor must not cross a chunk, nor, once the UMEM has room for TX metadata, begin within that room: the
    /// kernel checks every descriptor of a packet as if it were the first (`xp_aligned_validate_desc`). So of a block
    /// that is sent from end to end 16 of every 4,096 bytes are copied, or none without metadata.
    #[inline]
    #[must_use]
    pub fn cut(&self, bytes: &[u8]) -> Cut {
        let place = self
            .umem
            .offset_of(bytes)
            .filter(|addr| self.blocks.contains(*addr));
        let Some(addr) = place else {
            return Cut::Copy(bytes.len());
        };
        // A remainder below 4096.
        #[allow(clippy::cast_possible_truncation)]
        let offset = (addr % CHUNK_BYTES as u64) as usize;
        if let Some(reserved @ 1..) = self.blocks.reserved.checked_sub(offset) {
            return Cut::Copy(reserved.min(bytes.len()));
        }
        let len = bytes.len().min(CHUNK_BYTES - offset);
        // At most a chunk.
        #[allow(clippy::cast_possible_truncation)]
        Cut::Slice(Slice {
            addr,
            place: addr - self.blocks.start,
            len: len as u32,
        })
    }

    /// Queues a slice as the next piece of the packet that [`send`](Self::send) has begun with `more`. `more` as there.
    ///
    /// Until its place is reaped, its bytes must not be written to: others would leave than were meant, which the peer takes
    /// for good where the device computes the checksum. That is the worst of it, so this function is safe: kernel and NIC
    /// read the memory and never write to it, it is never unmapped, and nobody makes a reference to the bytes for them, not
    /// even the twin ([`testing`](crate::testing), `blocks`).
    ///
    /// # Errors
    /// [`Refused`] if the ring is full ([`tx_slots`](Self::tx_slots) is 0), or for a piece that the kernel would not
    /// take, which is counted in [`QueueCounters::tx_refused`](crate::QueueCounters::tx_refused): the first one, one
    /// beyond [`Bound::max_packet_frames`](crate::Bound::max_packet_frames), or one that was cut by a queue whose memory is
    /// laid out otherwise: its address may be that of a frame here. Then call
    /// [`abandon_packet`](Self::abandon_packet), which also takes back the slices queued so far.
    #[inline]
    pub fn send_slice(&mut self, slice: Slice, more: bool) -> Result<(), Refused> {
        let pieces = self.tx_open as usize + 1 + usize::from(more);
        let fits = pieces <= self.bound.max_packet_frames && self.blocks.has(slice);
        if self.tx_open == 0 || !fits {
            self.counters.tx_refused += 1;
            return Err(Refused);
        }
        let desc = Desc {
            addr: slice.addr,
            len: slice.len,
            options: if more { PKT_CONTD } else { 0 },
        };
        if self.completion_room() == 0 || !self.tx.push(desc) {
            return Err(Refused);
        }
        self.blocks.in_flight += 1;
        self.counters.tx_slices += 1;
        self.pushed(more);
        Ok(())
    }

    /// As [`reap`](Self::reap), and tells `slice_done` the place of every slice that kernel and NIC are done with.
    ///
    /// The same place comes as often as it was sent. Returns how many frames and slices.
    pub fn reap_each(&mut self, mut slice_done: impl FnMut(u64)) -> u32 {
        let available = self.completion.available();
        let mut reaped = 0;
        for ahead in 0..available {
            let Some(addr) = self.completion.peek(ahead) else {
                break;
            };
            let taken = if self.blocks.contains(addr) {
                self.blocks.complete(addr).map(&mut slice_done).is_some()
            } else {
                self.frames.complete(addr)
            };
            match taken {
                true => reaped += 1,
                false => self.counters.completions_invalid += 1,
            }
        }
        self.completion.release(available);
        self.counters.completions += u64::from(reaped);
        reaped
    }

    /// Slices sent and not yet reaped.
    #[inline]
    #[must_use]
    pub fn slices_in_flight(&self) -> u32 {
        self.blocks.in_flight()
    }

    /// Frames and slices sent and not yet reaped.
    #[inline]
    #[must_use]
    pub fn tx_in_flight(&self) -> u32 {
        self.frames.tx_in_flight() + self.blocks.in_flight()
    }
}

/// A slice was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refused;
