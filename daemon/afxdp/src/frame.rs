//! Who owns each frame of the UMEM, and the values that prove it.
//!
//! A frame has exactly one owner at any time:
//!
//! ```text
//!            refill               kernel: a packet             receive
//!   pool ------------> fill ring ------------------> RX ring ------------> RxFrame
//!    ^ ^                                                                      |
//!    | +----------------------------- recycle --------------------------------+
//!    |      tx_frame              send                     kernel: sent
//!    +--- ------------> TxFrame ---------> TX ring ----------------------> completion ring --- reap ---> pool
//! ```
//!
//! [`RxFrame`] and [`TxFrame`] are linear: no clone, no public constructor, given back by value. Dropping one does
//! nothing, so a forgotten frame stays visible in the [`Ledger`] instead of being reused while somebody reads it.
//! [`Frames`] keeps the owner of every frame and refuses any transition that its owner cannot make; so even a
//! completion or packet that names a wrong frame cannot create a second owner.

use core::ptr::NonNull;

use crate::uapi::CHUNK_BYTES;

/// One frame's memory.
type Chunk = [u8; CHUNK_BYTES];

/// A received frame: a whole packet, or one piece of a packet that spans several.
///
/// Give it back with [`Queue::recycle`](crate::Queue::recycle) or [`Queue::release`](crate::Queue::release).
#[derive(Debug)]
#[must_use = "a dropped frame is lost to its queue: give it back"]
pub struct RxFrame {
    chunk: NonNull<Chunk>,
    offset: u16,
    len: u16,
    last: bool,
}

// SAFETY: the value is the only owner of its memory, which belongs to the process for ever.
unsafe impl Send for RxFrame {}

impl RxFrame {
    /// Bytes of the packet in this frame.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// Whether the frame holds no byte of the packet.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this is the last piece of its packet.
    #[inline]
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The bytes of the packet in this frame.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the chunk lies in a UMEM, is initialised and never unmapped; this value is its only owner, so nobody
        // writes to it while it is borrowed.
        let chunk = unsafe { self.chunk.as_ref() };
        &chunk[usize::from(self.offset)..][..usize::from(self.len)]
    }
}

/// An empty frame to build a packet, or a piece of one, in.
///
/// Hand it to [`Queue::send`](crate::Queue::send) or give it back with [`Queue::unused`](crate::Queue::unused).
#[derive(Debug)]
#[must_use = "a dropped frame is lost to its queue: send it or give it back"]
pub struct TxFrame {
    chunk: NonNull<Chunk>,
    headroom: u16,
}

// SAFETY: as for `RxFrame`.
unsafe impl Send for TxFrame {}

impl TxFrame {
    /// The buffer: a chunk less the room for TX metadata. What it holds at first is left over from earlier packets.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let headroom = usize::from(self.headroom);
        &mut self.chunk_mut()[headroom..]
    }

    /// The room in front of the buffer, of the length the queue's UMEM was made with.
    #[inline]
    pub(crate) fn metadata_mut(&mut self) -> &mut [u8] {
        let headroom = usize::from(self.headroom);
        &mut self.chunk_mut()[..headroom]
    }

    #[inline]
    fn chunk_mut(&mut self) -> &mut Chunk {
        // SAFETY: the chunk lies in a UMEM, is initialised and never unmapped; this value is its only owner and is
        // borrowed mutably.
        unsafe { self.chunk.as_mut() }
    }
}

/// How many frames each owner has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Frames of the UMEM.
    pub total: u32,
    /// Free.
    pub pool: u32,
    /// With the kernel for receiving: in the fill ring, in the NIC, or received and not yet taken from the RX ring.
    pub fill: u32,
    /// Taken by [`Queue::receive`](crate::Queue::receive) and not given back.
    pub rx_held: u32,
    /// Taken by [`Queue::tx_frame`](crate::Queue::tx_frame), neither sent nor given back.
    pub tx_building: u32,
    /// Sent and not yet reaped: in the TX ring, in the NIC, or in the completion ring.
    pub tx_in_flight: u32,
}

impl Ledger {
    /// Whether every frame has an owner. Always true; tests and debug builds say so.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.pool + self.fill + self.rx_held + self.tx_building + self.tx_in_flight == self.total
    }

    /// Whether nothing is in use: all frames are free or waiting for packets.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.pool + self.fill == self.total
    }
}

/// The memory of a UMEM's frames, by index and by address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameMemory {
    start: NonNull<Chunk>,
    frames: u32,
}

// SAFETY: the memory belongs to the process for ever; access follows the ownership that `Frames` keeps.
unsafe impl Send for FrameMemory {}

impl FrameMemory {
    /// The `frames` chunks from `start` on.
    ///
    /// # Safety
    /// They must be mapped, initialised, readable and writable until the process ends, and be accessed by nobody but
    /// the frame's owner of the moment.
    pub(crate) unsafe fn new(start: NonNull<u8>, frames: u32) -> Self {
        Self {
            start: start.cast(),
            frames,
        }
    }

    /// Index of the frame that the descriptor address `address` lies in, and the offset in it.
    #[inline]
    pub(crate) fn locate(self, address: u64) -> Option<(u32, usize)> {
        let index = u32::try_from(address / CHUNK_BYTES as u64).ok()?;
        // A remainder below 4096.
        #[allow(clippy::cast_possible_truncation)]
        let offset = (address % CHUNK_BYTES as u64) as usize;
        (index < self.frames).then_some((index, offset))
    }

    /// The memory of frame `index`.
    #[inline]
    pub(crate) fn chunk(self, index: u32) -> NonNull<Chunk> {
        assert!(index < self.frames, "frame index within the UMEM");
        // SAFETY: the index was just checked, so the result lies in the memory that `new` was promised.
        unsafe { self.start.add(index as usize) }
    }

    /// The inverse of [`chunk`](Self::chunk); None for memory of another UMEM.
    #[inline]
    fn index_of(self, chunk: NonNull<Chunk>) -> Option<u32> {
        let distance = (chunk.as_ptr() as usize).wrapping_sub(self.start.as_ptr() as usize);
        u32::try_from(distance / CHUNK_BYTES)
            .ok()
            .filter(|&index| index < self.frames)
    }
}

/// Who owns a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Owner {
    Pool,
    Fill,
    Rx,
    Building,
    Tx,
}

/// The owners of all frames, and the pool of free ones.
pub(crate) struct Frames {
    memory: FrameMemory,
    tx_headroom: u16,
    owners: Box<[Owner]>,
    /// Frames of each [`Owner`], by its discriminant.
    counts: [u32; 5],
    /// Free frames, last in first out: the one used last is the one in the cache.
    pool: Vec<u32>,
}

impl Frames {
    /// All frames of `memory`, free. `tx_headroom` bytes stay in front of every transmit buffer.
    pub(crate) fn new(memory: FrameMemory, tx_headroom: u16) -> Self {
        let total = memory.frames;
        Self {
            memory,
            tx_headroom,
            owners: vec![Owner::Pool; total as usize].into(),
            counts: [total, 0, 0, 0, 0],
            pool: (0..total).rev().collect(),
        }
    }

    /// Free frames.
    #[inline]
    pub(crate) fn free(&self) -> u32 {
        self.counts[Owner::Pool as usize]
    }

    /// Frames sent and not reaped.
    #[inline]
    pub(crate) fn tx_in_flight(&self) -> u32 {
        self.counts[Owner::Tx as usize]
    }

    /// Frames being built or in flight.
    #[inline]
    pub(crate) fn tx_in_use(&self) -> u32 {
        self.counts[Owner::Building as usize] + self.tx_in_flight()
    }

    /// The most bytes a transmit buffer holds.
    #[inline]
    pub(crate) fn tx_capacity(&self) -> u32 {
        // At most a chunk.
        #[allow(clippy::cast_possible_truncation)]
        let chunk = CHUNK_BYTES as u32;
        chunk - u32::from(self.tx_headroom)
    }

    /// Gives a free frame to the kernel for receiving: its descriptor address.
    #[inline]
    pub(crate) fn fill(&mut self) -> Option<u64> {
        let index = self.pool.pop()?;
        self.transfer(index, Owner::Pool, Owner::Fill);
        Some(u64::from(index) * CHUNK_BYTES as u64)
    }

    /// Takes a frame that the kernel says it received `len` bytes into, at `address`. None if that cannot be true.
    #[inline]
    pub(crate) fn receive(&mut self, address: u64, len: u32, last: bool) -> Option<RxFrame> {
        let (index, offset) = self.memory.locate(address)?;
        if offset + len as usize > CHUNK_BYTES || !self.transfer(index, Owner::Fill, Owner::Rx) {
            return None;
        }
        // Both at most 4096: offset by the remainder, length by the comparison.
        #[allow(clippy::cast_possible_truncation)]
        Some(RxFrame {
            chunk: self.memory.chunk(index),
            offset: offset as u16,
            len: len as u16,
            last,
        })
    }

    /// Undoes [`receive`](Self::receive): the entry stays in the RX ring.
    pub(crate) fn unreceive(&mut self, frame: RxFrame) {
        let index = self.own(frame.chunk);
        self.transfer(index, Owner::Rx, Owner::Fill);
    }

    /// Takes a received frame back.
    #[inline]
    pub(crate) fn recycle(&mut self, frame: RxFrame) {
        let index = self.own(frame.chunk);
        self.free_from(index, Owner::Rx);
    }

    /// Gives out a free frame to build a packet in.
    #[inline]
    pub(crate) fn build(&mut self) -> Option<TxFrame> {
        let index = self.pool.pop()?;
        self.transfer(index, Owner::Pool, Owner::Building);
        Some(TxFrame {
            chunk: self.memory.chunk(index),
            headroom: self.tx_headroom,
        })
    }

    /// Takes back a frame that was not sent.
    #[inline]
    pub(crate) fn unused(&mut self, frame: TxFrame) {
        let index = self.own(frame.chunk);
        self.free_from(index, Owner::Building);
    }

    /// Descriptor address of the buffer of `frame`.
    #[inline]
    pub(crate) fn address(&self, frame: &TxFrame) -> u64 {
        u64::from(self.own(frame.chunk)) * CHUNK_BYTES as u64 + u64::from(frame.headroom)
    }

    /// Notes that `frame` went into the TX ring.
    #[inline]
    pub(crate) fn sent(&mut self, frame: TxFrame) {
        let index = self.own(frame.chunk);
        self.transfer(index, Owner::Building, Owner::Tx);
    }

    /// Takes back a sent frame, by the address the kernel completed. False if no such frame was in flight.
    #[inline]
    pub(crate) fn complete(&mut self, address: u64) -> bool {
        match self.memory.locate(address) {
            Some((index, _)) => self.free_from(index, Owner::Tx),
            None => false,
        }
    }

    /// Who owns how many.
    pub(crate) fn ledger(&self) -> Ledger {
        debug_assert_eq!(self.counts, self.recount(), "counts follow the owner table");
        debug_assert_eq!(self.pool.len(), self.free() as usize);
        let [pool, fill, rx_held, tx_building, tx_in_flight] = self.counts;
        Ledger {
            total: self.memory.frames,
            pool,
            fill,
            rx_held,
            tx_building,
            tx_in_flight,
        }
    }

    /// Index of a frame value, which must be of this UMEM: given to another queue it would get two owners there.
    #[inline]
    fn own(&self, chunk: NonNull<Chunk>) -> u32 {
        self.memory
            .index_of(chunk)
            .expect("a frame goes back to the queue it came from")
    }

    #[inline]
    fn free_from(&mut self, index: u32, from: Owner) -> bool {
        let moved = self.transfer(index, from, Owner::Pool);
        if moved {
            // Never reallocates: the capacity is the number of frames, and each is here at most once.
            self.pool.push(index);
        }
        moved
    }

    #[inline]
    fn transfer(&mut self, index: u32, from: Owner, to: Owner) -> bool {
        let owner = &mut self.owners[index as usize];
        if *owner != from {
            return false;
        }
        *owner = to;
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
        true
    }

    fn recount(&self) -> [u32; 5] {
        let mut counts = [0; 5];
        for owner in &self.owners {
            counts[*owner as usize] += 1;
        }
        counts
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{HugePages, Umem, UmemConfig};

    fn frames() -> Frames {
        let umem = Umem::new(&UmemConfig {
            frames: 64,
            block_bytes: 0,
            huge_pages: HugePages::Off,
            tx_metadata: true,
        })
        .expect("memory");
        Frames::new(umem.frame_memory(), umem.tx_headroom())
    }

    #[test]
    fn a_frame_is_received_once_per_fill() {
        let mut frames = frames();
        let address = frames.fill().expect("a free frame") + 256;
        let frame = frames.receive(address, 100, true).expect("it was filled");
        assert_eq!(frame.len(), 100);
        assert!(frames.receive(address, 100, true).is_none());
        frames.recycle(frame);
        assert!(frames.receive(address, 100, true).is_none());
        assert!(frames.ledger().at_rest());
    }

    #[test]
    fn a_frame_is_completed_once_per_send() {
        let mut frames = frames();
        let frame = frames.build().expect("a free frame");
        let address = frames.address(&frame);
        assert!(!frames.complete(address));
        frames.sent(frame);
        assert!(frames.complete(address));
        assert!(!frames.complete(address));
        assert!(frames.ledger().at_rest());
    }

    #[test]
    fn descriptors_outside_the_frames_are_refused() {
        let mut frames = frames();
        let address = frames.fill().expect("a free frame");
        assert!(frames.receive(64 * 4096, 1, true).is_none());
        assert!(frames.receive(u64::MAX, 1, true).is_none());
        assert!(frames.receive(address + 4000, 97, true).is_none());
        assert!(frames.receive(address, u32::MAX, true).is_none());
        assert!(!frames.complete(u64::MAX));
        assert!(frames.ledger().balanced());
    }

    #[test]
    fn a_forgotten_frame_stays_in_the_ledger() {
        let mut frames = frames();
        drop(frames.build().expect("a free frame"));
        assert_eq!(frames.ledger().tx_building, 1);
        assert!(frames.ledger().balanced());
        assert!(!frames.ledger().at_rest());
    }

    #[test]
    #[should_panic(expected = "the queue it came from")]
    fn a_frame_of_another_umem_is_refused() {
        let mut foreign = frames();
        let frame = foreign.build().expect("a free frame");
        frames().unused(frame);
    }

    #[test]
    fn transmit_buffers_leave_room_for_the_metadata() {
        let mut frames = frames();
        let mut frame = frames.build().expect("a free frame");
        assert_eq!(frame.bytes_mut().len(), 4080);
        assert_eq!(frame.metadata_mut().len(), 16);
        assert_eq!(frames.address(&frame) % 4096, 16);
        frames.unused(frame);
    }
}
