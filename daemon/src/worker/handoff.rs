//! Worker to worker: a frame whose flow another worker owns (design section 3, the third border).
//!
//! A veth re-hashes a flow to another queue when its client's RTO fires, and RSS tables change: a frame of a
//! live flow can arrive at any worker. Who does not know the flow passes the frame on around the ring of
//! workers; the last one answers with RST. Frames are copied into preallocated parcels, since each worker
//! has its own UMEM; when all parcels are under way the frame is dropped and counted, as on a full NIC ring.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use sluice_tcp::clock::Instant;

/// Parcels per worker: some hundred frames while the owner takes a turn.
const PARCELS: usize = 512;

/// A frame on its way to another worker.
#[derive(Debug)]
pub struct Parcel {
    bytes: Box<[u8]>,
    len: usize,
    /// Workers that have not seen it yet.
    hops_left: usize,
    /// When it came out of the ring of the first worker.
    pub arrived: Instant,
}

impl Parcel {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

struct Inbox {
    full: ArrayQueue<Box<Parcel>>,
    empty: ArrayQueue<Box<Parcel>>,
    wake: OwnedFd,
}

/// One worker's place in the ring of workers.
pub struct Handoff {
    own: Arc<Inbox>,
    next: Arc<Inbox>,
    others: usize,
    wake_next: bool,
    /// Frames dropped because every parcel was under way or the frame was too long for one.
    pub dropped: u64,
    /// Frames passed on.
    pub passed_on: u64,
}

/// The ring of `workers` places, with parcels for frames of up to `frame_len` bytes. Empty for one worker,
/// who has nobody to pass to.
///
/// # Errors
/// eventfd(2) failed: out of descriptors.
pub fn handoff_ring(workers: usize, frame_len: usize) -> Result<Vec<Handoff>, Errno> {
    if workers < 2 {
        return Ok(Vec::new());
    }
    let mut inboxes = Vec::with_capacity(workers);
    for _ in 0..workers {
        inboxes.push(Arc::new(Inbox::new(frame_len)?));
    }
    Ok((0..workers)
        .map(|index| Handoff {
            own: Arc::clone(&inboxes[index]),
            next: Arc::clone(&inboxes[(index + 1) % workers]),
            others: workers - 1,
            wake_next: false,
            dropped: 0,
            passed_on: 0,
        })
        .collect())
}

impl Inbox {
    fn new(frame_len: usize) -> Result<Self, Errno> {
        let empty = ArrayQueue::new(PARCELS);
        for _ in 0..PARCELS {
            let parcel = Parcel {
                bytes: vec![0; frame_len].into_boxed_slice(),
                len: 0,
                hops_left: 0,
                arrived: Instant::ZERO,
            };
            // The queue has room for exactly these.
            let _ = empty.push(Box::new(parcel));
        }
        Ok(Inbox {
            full: ArrayQueue::new(PARCELS),
            empty,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }
}

impl Handoff {
    /// Passes a frame that arrived here to the next worker. False if that is not possible.
    pub fn pass_on<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]>,
        arrived: Instant,
    ) -> bool {
        let Some(mut parcel) = self.next.empty.pop() else {
            self.dropped += 1;
            return true;
        };
        parcel.len = 0;
        for piece in pieces {
            let end = parcel.len + piece.len();
            let Some(room) = parcel.bytes.get_mut(parcel.len..end) else {
                self.dropped += 1;
                self.give_back(parcel);
                return true;
            };
            room.copy_from_slice(piece);
            parcel.len = end;
        }
        parcel.hops_left = self.others - 1;
        parcel.arrived = arrived;
        self.push(parcel);
        true
    }

    /// Passes on a parcel that is not for this worker either. Gives it back if every worker has seen it.
    pub fn pass_further(&mut self, mut parcel: Box<Parcel>) -> Option<Box<Parcel>> {
        if parcel.hops_left == 0 {
            return Some(parcel);
        }
        parcel.hops_left -= 1;
        // Parcels belong to the inbox they travel in: swap with one of the next worker's.
        let Some(mut other) = self.next.empty.pop() else {
            self.dropped += 1;
            self.return_parcel(parcel);
            return None;
        };
        core::mem::swap(&mut other, &mut parcel);
        self.return_parcel(parcel);
        self.push(other);
        None
    }

    /// The next parcel for this worker.
    pub fn take(&mut self) -> Option<Box<Parcel>> {
        self.own.full.pop()
    }

    /// Gives a processed parcel back to this worker's inbox.
    pub fn return_parcel(&mut self, parcel: Box<Parcel>) {
        // Every parcel has a place in the queue it came from.
        let _ = self.own.empty.push(parcel);
    }

    /// Wakes the next worker if it got anything since the last call: once per turn, not per frame.
    pub fn flush(&mut self) {
        if core::mem::take(&mut self.wake_next) {
            // EAGAIN means that a wake-up is pending already.
            let _ = rustix::io::write(&self.next.wake, &1u64.to_ne_bytes());
        }
    }

    /// Readable when parcels wait.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.own.wake.as_fd()
    }

    /// Ends the readable state of [`Self::wake_fd`]; call it before taking parcels.
    pub fn clear_wake(&self) {
        let mut count = [0u8; 8];
        // EAGAIN means that nobody woke us.
        let _ = rustix::io::read(&self.own.wake, &mut count);
    }

    fn push(&mut self, parcel: Box<Parcel>) {
        self.passed_on += 1;
        self.wake_next = true;
        // As many places as parcels.
        let _ = self.next.full.push(parcel);
    }

    fn give_back(&mut self, parcel: Box<Parcel>) {
        let _ = self.next.empty.push(parcel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(workers: usize) -> Vec<Handoff> {
        handoff_ring(workers, 64).expect("eventfd is available")
    }

    #[test]
    fn one_worker_has_nobody_to_pass_to() {
        assert!(ring(1).is_empty());
    }

    #[test]
    fn a_parcel_visits_every_other_worker_once() {
        let mut ring = ring(3);
        assert!(ring[0].pass_on([&b"ab"[..], b"c"].into_iter(), Instant::ZERO));
        let parcel = ring[1].take().expect("worker 1 is next");
        assert_eq!(parcel.frame(), b"abc");
        assert!(ring[1].pass_further(parcel).is_none());
        let parcel = ring[2].take().expect("worker 2 is next");
        assert_eq!(parcel.frame(), b"abc");
        let parcel = ring[2].pass_further(parcel).expect("all have seen it");
        ring[2].return_parcel(parcel);
        assert!(ring[0].take().is_none());
    }

    #[test]
    fn a_frame_longer_than_a_parcel_is_dropped_and_counted() {
        let mut ring = ring(2);
        assert!(ring[0].pass_on([&[0u8; 65][..]].into_iter(), Instant::ZERO));
        assert_eq!(ring[0].dropped, 1);
        assert!(ring[1].take().is_none());
    }

    #[test]
    fn parcels_come_back_and_are_used_again() {
        let mut ring = ring(2);
        for round in 0..3 * PARCELS {
            assert!(ring[0].pass_on([&b"x"[..]].into_iter(), Instant::ZERO));
            let parcel = ring[1].take().unwrap_or_else(|| panic!("round {round}"));
            ring[1].return_parcel(parcel);
        }
        assert_eq!(ring[0].dropped, 0);
    }
}
