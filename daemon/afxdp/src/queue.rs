//! One queue of one interface: four rings over one UMEM, and the frames that travel through them.
//!
//! The order of calls in a worker's turn is that of the methods here: [`reap`](Queue::reap) what was sent,
//! [`receive`](Queue::receive) a batch, [`recycle`](Queue::recycle) it, build and [`send`](Queue::send) packets,
//! [`kick`](Queue::kick) once. Nothing allocates, nothing blocks, and only `kick` (and, with some zero-copy drivers,
//! `refill`) makes a system call. Indices are published once per batch.
//!
//! The queue is mechanism: when to kick again, how long to spin, and what to do when the interface goes away is the
//! worker's policy.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use crate::batch::RxBatch;
use crate::frame::{Frames, Ledger, RxFrame, TxFrame};
use crate::kick::Kick;
use crate::port::Port;
use crate::ring::{Consumer, Producer};
use crate::stats::{Bound, QueueCounters, XdpStatistics};
use crate::uapi::{
    Desc, MAX_PACKET_FRAMES, MIN_TX_BYTES, PKT_CONTD, TX_METADATA, TX_METADATA_BYTES,
    TXMD_FLAGS_CHECKSUM,
};
use crate::umem::Umem;

mod config;
mod depth;
mod memory;
#[cfg(not(loom))]
mod open;
mod slices;
#[cfg(all(test, not(loom)))]
mod tests;

use depth::FillDepth;
use slices::BlockArea;

pub use config::{Bind, QueueConfig};
#[cfg(not(loom))]
pub(crate) use open::set_send_buffer;
pub use slices::{Cut, Refused, Slice};

/// One queue of one interface. See the module documentation for the order of calls.
pub struct Queue {
    // The rings come first: they are unmapped before the socket is closed, because a mapping keeps the queue busy.
    rx: Consumer<Desc>,
    tx: Producer<Desc>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    port: Port,
    frames: Frames,
    fill_depth: FillDepth,
    blocks: BlockArea,
    umem: Umem,
    bound: Bound,
    counters: QueueCounters,
    /// Entries of the completion ring: the most frames and slices that may be in flight.
    completion_entries: u32,
    /// Frames that refilling leaves for transmission.
    tx_reserve: u32,
    /// Frames already written of a packet whose last frame is still to come.
    tx_open: u32,
    /// Whether the rest of the packet at the head of the RX ring is to be thrown away.
    rx_broken: bool,
}

/// What a packet's checksum metadata asks for (`XDP_TXMD_FLAGS_CHECKSUM`).
///
/// The field must hold the folded pseudo-header sum already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxChecksum {
    /// Where summing starts, from the start of the packet: Ethernet and IP header, 34 for plain IPv4.
    pub start: u16,
    /// Where the checksum field is, from `start`: 16 for TCP.
    pub offset: u16,
}

impl Queue {
    /// How the queue is bound, as read back from the kernel.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// The socket: for the XSKMAP, and to wait in `poll()` for packets.
    ///
    /// Of an in-memory queue an event that is readable when packets were injected; it is cleared by a
    /// [`receive`](Self::receive) that finds none.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.port.fd()
    }

    /// The UMEM, for offsets of file blocks.
    #[must_use]
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Takes back all frames whose transmission is complete. Returns how many. Who sends slices of blocks calls
    /// [`reap_each`](Self::reap_each).
    pub fn reap(&mut self) -> u32 {
        self.reap_each(|_| ())
    }

    /// Appends received packets to `batch`, as many whole ones as it has room for. Returns how many packets.
    ///
    /// Pieces of a packet that is not complete yet, or does not fit, stay in the RX ring.
    pub fn receive(&mut self, batch: &mut RxBatch) -> usize {
        let mut available = self.rx.available();
        if available == 0 && self.port.clear_event() {
            available = self.rx.available();
        }
        let room = u32::try_from(batch.room()).unwrap_or(u32::MAX);
        let mut packets = 0;
        // Entries done with, and the frames in the batch that belong to whole packets.
        let mut taken = 0;
        let mut whole = batch.len();
        for ahead in 0..available.min(room) {
            let Some(desc) = self.rx.peek(ahead) else {
                break;
            };
            let last = desc.options & PKT_CONTD == 0;
            match self.frames.receive(desc.addr, desc.len, last) {
                Some(frame) => batch.push(frame),
                None => {
                    self.counters.rx_invalid += 1;
                    self.rx_broken = true;
                }
            }
            // The kernel never makes so long a chain; one without an end would block the ring.
            if !last && batch.len() - whole >= MAX_PACKET_FRAMES {
                self.rx_broken = true;
            }
            if self.rx_broken {
                while let Some(frame) = batch.pop_above(whole) {
                    self.frames.recycle(frame);
                }
                taken = ahead + 1;
                if last {
                    self.rx_broken = false;
                    self.counters.rx_broken_packets += 1;
                }
            } else if last {
                self.counters.rx_frames += (batch.len() - whole) as u64;
                whole = batch.len();
                taken = ahead + 1;
                packets += 1;
            }
        }
        while let Some(frame) = batch.pop_above(whole) {
            self.frames.unreceive(frame);
        }
        self.rx.release(taken);
        self.counters.rx_packets += packets as u64;
        packets
    }

    /// The bytes of the packet in `frame`.
    #[inline]
    #[must_use]
    pub fn data<'a>(&'a self, frame: &'a RxFrame) -> &'a [u8] {
        frame.bytes()
    }

    /// Takes back one received frame that was kept out of its batch. It is used again at the next refill.
    ///
    /// # Panics
    /// If the frame came from another queue.
    #[inline]
    pub fn release(&mut self, frame: RxFrame) {
        self.frames.recycle(frame);
    }

    /// Takes back all frames of `batch`, and refills.
    ///
    /// # Panics
    /// If a frame came from another queue.
    pub fn recycle(&mut self, batch: &mut RxBatch) {
        while let Some(frame) = batch.pop_above(0) {
            self.frames.recycle(frame);
        }
        self.refill();
    }

    /// Gives free frames to the kernel for receiving, up to [`fill_depth`](Self::fill_depth) and except those reserved
    /// for transmission.
    pub fn refill(&mut self) {
        let wanted = self.fill_depth.wanted(self.fill.free());
        let reserve = self.tx_reserve.saturating_sub(self.frames.tx_in_use());
        let spare = self.frames.free().saturating_sub(reserve);
        let mut added = 0;
        for _ in 0..spare.min(wanted) {
            let Some(address) = self.frames.fill() else {
                break;
            };
            let pushed = self.fill.push(address);
            debug_assert!(pushed, "free() found room");
            added += 1;
        }
        self.fill.publish();
        self.fill_depth.refilled(added);
        // A driver that ran out of frames waits for this call, also when the refill happened before it fell asleep;
        // in copy mode the bit is never set.
        if self.fill.needs_wakeup() {
            self.counters.fill_wakeups += 1;
            self.port.wake_rx();
        }
    }

    /// Frames that a refill lets wait for packets, if so many are free: in copy mode as few as bursts allow, in zero-copy
    /// mode as many as the fill ring has entries.
    #[must_use]
    pub fn fill_depth(&self) -> u32 {
        self.fill_depth.get()
    }

    /// A frame to build a packet in; None when all are in use.
    #[inline]
    #[must_use]
    pub fn tx_frame(&mut self) -> Option<TxFrame> {
        self.frames.build()
    }

    /// The buffer of `frame`: 4,096 bytes less the room for metadata.
    #[inline]
    #[must_use]
    pub fn buffer<'a>(&'a mut self, frame: &'a mut TxFrame) -> &'a mut [u8] {
        frame.bytes_mut()
    }

    /// Takes back a frame that is not sent after all.
    ///
    /// # Panics
    /// If the frame came from another queue.
    #[inline]
    pub fn unused(&mut self, frame: TxFrame) {
        self.frames.unused(frame);
    }

    /// Frames that [`send`](Self::send) will take now: free TX entries whose completions also have room.
    #[inline]
    #[must_use]
    pub fn tx_slots(&self) -> u32 {
        self.tx.free_now().min(self.completion_room())
    }

    /// TX entries that the kernel has not taken yet, sent or only written.
    #[inline]
    #[must_use]
    pub fn tx_queued(&self) -> u32 {
        self.tx.occupied()
    }

    /// Queues the first `len` bytes of `frame`; the kernel sees them at the next [`kick`](Self::kick).
    ///
    /// `more` says that the packet continues in the next frame sent; a packet becomes visible only when it is whole.
    /// `checksum` is for the first frame of a packet.
    ///
    /// # Errors
    /// The frame comes back if the ring is full ([`tx_slots`](Self::tx_slots) is 0), or if the kernel would refuse it,
    /// which is counted in [`QueueCounters::tx_refused`]: `len` 0, above the buffer, or in a first frame below 14;
    /// `more` without multi-buffer or for a packet of more than [`Bound::max_packet_frames`]; a checksum where
    /// [`Bound::tx_checksum`] is false, on a later frame, or outside `len`. If earlier frames of the same packet were
    /// taken, either send the rest later or call [`abandon_packet`](Self::abandon_packet).
    ///
    /// # Panics
    /// If the frame came from another queue.
    #[inline]
    pub fn send(
        &mut self,
        mut frame: TxFrame,
        len: u32,
        more: bool,
        checksum: Option<TxChecksum>,
    ) -> Result<(), TxFrame> {
        if !self.acceptable(len, more, checksum) {
            self.counters.tx_refused += 1;
            return Err(frame);
        }
        if self.completion_room() == 0 {
            return Err(frame);
        }
        let mut options = if more { PKT_CONTD } else { 0 };
        if let Some(checksum) = checksum {
            options |= TX_METADATA;
            frame
                .metadata_mut()
                .copy_from_slice(&metadata_bytes(checksum));
        }
        let addr = self.frames.address(&frame);
        if !self.tx.push(Desc { addr, len, options }) {
            return Err(frame);
        }
        self.frames.sent(frame);
        self.pushed(more);
        Ok(())
    }

    /// Notes that a piece of a packet was written into the ring.
    #[inline]
    fn pushed(&mut self, more: bool) {
        if more {
            self.tx_open += 1;
        } else {
            self.counters.tx_packets += 1;
            self.counters.tx_frames += u64::from(self.tx_open) + 1;
            self.tx_open = 0;
        }
    }

    /// Takes back the frames, and slices of blocks, of a packet whose last piece was not sent. Returns how many.
    pub fn abandon_packet(&mut self) -> u32 {
        let mut abandoned = 0;
        while self.tx_open > 0 {
            // Incomplete packets are never published, so their entries are still ours.
            let Some(desc) = self.tx.pop_unpublished() else {
                break;
            };
            if self.blocks.contains(desc.addr) {
                self.blocks.complete(desc.addr);
            } else {
                self.frames.complete(desc.addr);
            }
            self.tx_open -= 1;
            abandoned += 1;
        }
        abandoned
    }

    /// Shows the kernel every whole packet queued, and wakes it if it says that it needs that.
    ///
    /// One system call at most. In copy mode the packets are sent inside it, [`Bound::tx_budget`] frames at most. Call
    /// it every turn while [`tx_queued`](Self::tx_queued) is not 0: a driver may fall asleep just after it was asked.
    pub fn kick(&mut self) -> Kick {
        self.tx.publish_except(self.tx_open);
        if self.tx.pending() == 0 {
            return Kick::Idle;
        }
        if !self.tx.needs_wakeup() {
            return Kick::Done;
        }
        let answer = self.port.wake_tx();
        let unfinished = self.sends_inside_kick() && self.tx.pending() > 0;
        let kick = Kick::of(answer, unfinished);
        self.counters.count_kick(kick, answer.is_ok());
        kick
    }

    /// Who owns how many frames.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.frames.ledger()
    }

    /// What the kernel counted for this socket.
    ///
    /// # Errors
    /// Those of `getsockopt`; none is expected on a bound socket.
    pub fn statistics(&self) -> io::Result<XdpStatistics> {
        self.port.statistics()
    }

    /// What this queue counted.
    #[must_use]
    pub fn counters(&self) -> &QueueCounters {
        &self.counters
    }

    /// Whether the kernel would take such a frame next. Anything it would not take is either consumed without a
    /// completion or stays at the head of the ring for ever (`xp_validate_desc`, `xsk_build_skb`, `xsk_skb_metadata`).
    #[inline]
    fn acceptable(&self, len: u32, more: bool, checksum: Option<TxChecksum>) -> bool {
        let first = self.tx_open == 0;
        let least = if first { MIN_TX_BYTES } else { 1 };
        let length_fits = (least..=self.frames.tx_capacity()).contains(&len);
        // A last frame completes the packet; another to come needs room for itself.
        let frames = self.tx_open as usize + 1 + usize::from(more);
        let chain_fits = frames <= self.bound.max_packet_frames;
        let checksum_fits = checksum.is_none_or(|checksum| {
            let end = u32::from(checksum.start) + u32::from(checksum.offset) + 2;
            first && self.bound.tx_checksum && end <= len
        });
        length_fits && chain_fits && checksum_fits
    }

    #[inline]
    fn completion_room(&self) -> u32 {
        self.completion_entries.saturating_sub(self.tx_in_flight())
    }

    /// Copy mode on a socket transmits during the call; a driver, and the twin, later.
    #[inline]
    fn sends_inside_kick(&self) -> bool {
        !self.bound.zero_copy && matches!(self.port, Port::Socket(_))
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("bound", &self.bound)
            .field("ledger", &self.ledger())
            .finish_non_exhaustive()
    }
}

/// `struct xsk_tx_metadata` up to the checksum request.
#[inline]
fn metadata_bytes(checksum: TxChecksum) -> [u8; TX_METADATA_BYTES] {
    let mut bytes = [0; TX_METADATA_BYTES];
    bytes[..8].copy_from_slice(&TXMD_FLAGS_CHECKSUM.to_ne_bytes());
    bytes[8..10].copy_from_slice(&checksum.start.to_ne_bytes());
    bytes[10..12].copy_from_slice(&checksum.offset.to_ne_bytes());
    bytes
}
