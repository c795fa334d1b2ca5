//! A run: neighbouring segments with one fate, one send time and one answer to "was it sent again?".
//!
//! When two of them may become one is decided here, and what is then known of both.

use core::ops::Range;
use core::time::Duration;

use super::{Delivery, NEVER, Pending};
use crate::clock::Instant;

/// What is known about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Believed to be in the network.
    InFlight,
    /// Proven lost and not sent again yet.
    Lost,
    /// The peer holds it.
    Sacked,
}

/// Neighbouring segments of one fate. It begins where the run before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) end: u64,
    /// When its last segment left.
    pub(super) sent_at: Instant,
    /// How much earlier its first segment left, in nanoseconds.
    pub(super) spread_ns: u32,
    pub(super) fate: Fate,
    pub(super) retransmitted: bool,
}

impl Run {
    /// Whether `next`, which follows in sequence, can be part of this run.
    pub(super) fn joins(&self, next: &Run, grain: Duration) -> bool {
        self.is_like(next)
            && match self.fate {
                Fate::Sacked => true,
                Fate::Lost => self.retransmitted == next.retransmitted,
                Fate::InFlight => {
                    self.retransmitted == next.retransmitted
                        && (self.sent_at == next.sent_at || self.is_within(next.sent_at, grain))
                }
            }
    }

    /// Whether both have one fate, and left or did not.
    pub(super) fn is_like(&self, other: &Run) -> bool {
        self.fate == other.fate && self.never_left() == other.never_left()
    }

    /// It was held back, and nobody has shown it since.
    pub(super) fn never_left(&self) -> bool {
        self.sent_at == NEVER
    }

    /// Whether a segment sent at `at`, not before this run, may share its record.
    fn is_within(&self, at: Instant, grain: Duration) -> bool {
        let since_last = at.saturating_since(self.sent_at);
        at >= self.sent_at && since_last + Duration::from_nanos(self.spread_ns.into()) <= grain
    }

    /// Becomes one with `next`. Any of the two may have left first: what was sent again did so after its neighbours.
    pub(super) fn join(&mut self, next: &Run) {
        let earliest = self.earliest().min(next.earliest());
        self.sent_at = self.sent_at.max(next.sent_at);
        let spread = self.sent_at.saturating_since(earliest).as_nanos();
        self.spread_ns = u32::try_from(spread).unwrap_or(u32::MAX);
        self.end = next.end;
        self.retransmitted |= next.retransmitted;
    }

    /// All of it leaves once more.
    pub(super) fn leave_again(&mut self, at: Instant) {
        self.retransmitted = true;
        self.sent_at = at;
        self.spread_ns = 0;
    }

    /// When its first segment left.
    pub(super) fn earliest(&self) -> Instant {
        earlier(self.sent_at, self.spread_ns.into())
    }

    pub(super) fn delivery(&self, range: Range<u64>) -> Delivery {
        Delivery {
            range,
            sent_at: self.sent_at,
            spread: Duration::from_nanos(self.spread_ns.into()),
            retransmitted: self.retransmitted,
            held_lost: self.fate == Fate::Lost,
        }
    }

    pub(super) fn pending(&self) -> Pending {
        Pending {
            end: self.end,
            sent_at: self.sent_at,
        }
    }
}

/// `nanos` before `at`.
pub(super) fn earlier(at: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_sub(nanos))
}
