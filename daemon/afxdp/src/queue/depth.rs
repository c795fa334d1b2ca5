//! How many frames wait in the fill ring for packets.
//!
//! The kernel takes frames in the order in which they were filled, so all that wait are written to before the first
//! comes round again: a ring of 2,048 walks through 8 MiB, and every packet is copied into memory that has left the
//! cache. So in copy mode no more frames wait than bursts have needed; the others stay in the pool, which is a stack. Of
//! a burst that is longer the rest is lost, so the depth grows at once, well before the ring is dry, and shrinks slowly.
//! The size of the ring is the most.
//!
//! What counts is what the kernel took out of the ring between two refills. Frames that a receiver keeps, or that the
//! disk has, make the pool small and the ring shallow, but they are no burst.
//!
//! In zero-copy mode the whole ring waits: the driver fetches frames ahead of packets into a ring of its own.

use crate::uapi::MAX_PACKET_FRAMES;

/// What a large ring begins with and comes back to: 2 MiB, two full batches of a worker, thirty packets of 64 KiB.
/// Measured against 2,048 in docs/PERFORMANCE.md, "Uploads".
const LEAST: u32 = 512;

/// Frames that must come, all of them few at a time, before the depth is halved: a quarter of a second at a million a
/// second.
const PATIENCE: u32 = 1 << 18;

/// What the patience grows to, by doubling, if halving keeps being wrong.
const PATIENCE_MAX: u32 = 1 << 24;

/// Fewer entries than one packet may need are as good as none: the kernel drops what does not fit as a whole.
#[allow(clippy::cast_possible_truncation)] // 18
const DRY_BELOW: u32 = MAX_PACKET_FRAMES as u32;

/// The depth that refilling keeps, from what the kernel takes. See the module documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillDepth {
    /// Entries of the ring.
    ring: u32,
    /// Bound below; the ring's size where the depth is fixed.
    least: u32,
    depth: u32,
    /// Frames that waited after the last refill. More than `depth` for a while after that was lowered, fewer where the
    /// pool had no more.
    offered: u32,
    /// Frames taken since more than a quarter of the depth was taken at a time.
    calm: u32,
    /// The `calm` that halves the depth.
    patience: u32,
    /// Whether the depth was lowered after it last grew.
    lowered: bool,
}

impl FillDepth {
    /// All of a ring of `ring` entries (a power of two), at all times: zero copy.
    pub(super) fn full(ring: u32) -> Self {
        Self {
            ring,
            least: ring,
            depth: ring,
            offered: 0,
            calm: 0,
            patience: PATIENCE,
            lowered: false,
        }
    }

    /// From now on as few as bursts allow: copy mode. What waits already is taken first.
    pub(super) fn adapting(self) -> Self {
        let least = LEAST.min(self.ring);
        Self {
            least,
            depth: least,
            ..self
        }
    }

    /// Entries of the ring.
    pub(super) fn ring(&self) -> u32 {
        self.ring
    }

    /// Frames that wait after a refill, if there are so many.
    #[inline]
    pub(super) fn get(&self) -> u32 {
        self.depth
    }

    /// Frames to add to a ring that has `free` entries, at most `free`. To be followed by [`refilled`](Self::refilled).
    #[inline]
    pub(super) fn wanted(&mut self, free: u32) -> u32 {
        let waiting = self.ring.saturating_sub(free);
        let taken = self.offered.saturating_sub(waiting);
        if taken > 0 {
            self.note(taken, waiting < DRY_BELOW);
        }
        self.offered = waiting;
        self.depth.saturating_sub(waiting)
    }

    /// Notes how many frames were added: fewer than wanted if the pool had no more.
    #[inline]
    pub(super) fn refilled(&mut self, added: u32) {
        self.offered += added;
    }

    /// `taken` frames were taken since the last refill, and after that the ring was dry.
    fn note(&mut self, taken: u32, dry: bool) {
        if taken > self.depth / 2 {
            self.grow(dry);
        } else if dry || taken > self.depth / 4 {
            // Dry without a burst: the pool had too few frames, and nobody knows how many would have been taken.
            self.calm = 0;
        } else {
            self.calm += taken;
            if self.calm >= self.patience {
                self.shrink();
            }
        }
    }

    /// To twice as many, or to all if the burst may have been longer than the ring was deep.
    fn grow(&mut self, dry: bool) {
        self.calm = 0;
        if self.depth == self.ring {
            return;
        }
        self.depth = if dry { self.ring } else { 2 * self.depth };
        if self.lowered {
            // Bursts come more seldom than it waited for, and each costs packets.
            self.patience = (2 * self.patience).min(PATIENCE_MAX);
            self.lowered = false;
        }
    }

    /// By half: the most that was taken at a time is then half of the depth, which is not yet a burst.
    fn shrink(&mut self) {
        self.calm = 0;
        if self.depth > self.least {
            self.depth /= 2;
            self.lowered = true;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
