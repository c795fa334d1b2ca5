//! A run: neighbouring segments with one fate, one send time and one answer to "was it sent again?".
//!
//! When two of them may become one is decided here, and what is then known of both.

use core::ops::Range;
use core::time::Duration;

use super::{Delivery, Pending};
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
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
        self.fate == next.fate
            && match self.fate {
                Fate::Sacked => true,
                Fate::Lost => self.retransmitted == next.retransmitted,
                Fate::InFlight => {
                    self.retransmitted == next.retransmitted
                        && (self.sent_at == next.sent_at || self.is_within(next.sent_at, grain))
                }
            }
    }

    /// Whether a segment sent at `at`, not before this run, may share its record.
    fn is_within(&self, at: Instant, grain: Duration) -> bool {
        let since_last = at.saturating_since(self.sent_at);
        at >= self.sent_at && since_last + Duration::from_nanos(self.spread_ns.into()) <= grain
    }

    pub(super) fn join(&mut self, next: &Run) {
        let latest = self.sent_at.max(next.sent_at);
        // Both may have begun before the other ended.
        let earlier = |run: &Run| {
            let before = latest.saturating_since(run.sent_at).as_nanos();
            before.saturating_add(run.spread_ns.into())
        };
        self.spread_ns = u32::try_from(earlier(self).max(earlier(next))).unwrap_or(u32::MAX);
        self.sent_at = latest;
        self.end = next.end;
        self.retransmitted |= next.retransmitted;
    }

    pub(super) fn delivery(&self, range: Range<u64>) -> Delivery {
        Delivery {
            range,
            sent_at: self.sent_at,
            spread: Duration::from_nanos(self.spread_ns.into()),
            retransmitted: self.retransmitted,
        }
    }

    pub(super) fn pending(&self) -> Pending {
        Pending {
            end: self.end,
            sent_at: self.sent_at,
        }
    }
}
