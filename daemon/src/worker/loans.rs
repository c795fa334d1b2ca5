//! Received frames lent to the disk: the payload of an upload is written from where the kernel put it.
//!
//! Long packets only, of several frames each: what GRO or a sender on the same machine made. Their frames are full, so a
//! loan holds little memory that is not payload, and a box of this pool is worth its while. What is short, comes out of
//! order, or finds no box free is copied into a block, for which there is always one.

use core::ops::Range;

use sluice_afxdp::{MAX_PACKET_FRAMES, Queue, RxFrame};
use sluice_disk::Loan;
use sluice_tcp::ConnId;
use std::any::Any;

use crate::services::Services;

/// Payload from which on a packet is lent: four frames.
pub(super) const LEAST_BYTES: usize = 15 << 10;

/// What is to be lent of the packet at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lending {
    /// Whose.
    pub conn: ConnId,
    /// Stream offset of the first byte of the packet: from there up to `at` is copied.
    pub from: u64,
    /// Stream offset of the first byte that is lent.
    pub at: u64,
    /// Bytes of the packet before that one.
    pub skip: usize,
    /// How many bytes are lent.
    pub len: usize,
}

/// The frames of one packet and which bytes of each.
#[derive(Debug)]
struct Chain {
    frames: Vec<RxFrame>,
    /// The frame of each piece by its index, and the bytes of it.
    parts: Vec<(usize, Range<usize>)>,
}

impl Chain {
    /// Finds `len` bytes behind the first `skip`.
    fn cut(&mut self, skip: usize, len: usize) {
        self.parts.clear();
        let mut start = 0;
        for (index, frame) in self.frames.iter().enumerate() {
            let from = skip.saturating_sub(start).min(frame.len());
            let to = (skip + len).saturating_sub(start).min(frame.len());
            start += frame.len();
            if from < to {
                self.parts.push((index, from..to));
            }
        }
    }
}

impl Loan for Chain {
    fn piece(&self, index: usize) -> Option<&[u8]> {
        let (frame, part) = self.parts.get(index)?.clone();
        self.frames.get(frame)?.bytes().get(part)
    }
}

/// Boxes for loans. Nothing allocates after [`Loans::new`].
pub(super) struct Loans {
    #[expect(
        clippy::vec_box,
        reason = "the disk takes boxes and gives the same ones back"
    )]
    boxes: Vec<Box<Chain>>,
}

impl Loans {
    /// For `count` loans at once.
    pub(super) fn new(count: usize) -> Self {
        let chain = || {
            Box::new(Chain {
                frames: Vec::with_capacity(MAX_PACKET_FRAMES),
                parts: Vec::with_capacity(MAX_PACKET_FRAMES),
            })
        };
        Loans {
            boxes: core::iter::repeat_with(chain).take(count).collect(),
        }
    }

    /// Whether one more can be made.
    pub(super) fn has_box(&self) -> bool {
        !self.boxes.is_empty()
    }

    /// A loan of `len` bytes behind the first `skip` of the packet in `frames`, which are taken out.
    pub(super) fn make(
        &mut self,
        frames: &mut Vec<RxFrame>,
        skip: usize,
        len: usize,
    ) -> Option<Box<dyn Loan>> {
        let mut chain = self.boxes.pop()?;
        chain.frames.append(frames);
        chain.cut(skip, len);
        Some(chain)
    }

    /// Gives the frames of a loan back to the queue they came from.
    pub(super) fn end(&mut self, loan: Box<dyn Loan>, queue: &mut Queue) {
        let any: Box<dyn Any> = loan;
        // Nobody else lends to this disk.
        if let Ok(mut chain) = any.downcast::<Chain>() {
            for frame in chain.frames.drain(..) {
                queue.release(frame);
            }
            self.boxes.push(chain);
        }
    }

    /// Takes what was written.
    pub(super) fn reclaim(&mut self, services: &mut Services, queue: &mut Queue) {
        while let Some(loan) = services.disk.take_loan() {
            self.end(loan, queue);
        }
    }
}
