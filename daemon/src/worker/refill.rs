//! How far a response is made ready ahead of what was sent, and who gets more in the next turn.
//!
//! A window may be megabytes, and all of it may leave; but in one turn a connection sends a few super-segments. What was
//! read for it any earlier has left the CPU's cache when it is sent, is pinned meanwhile, and took the time of the turn from
//! everybody else. So of a window only some super-segments are asked for (what TCP_NOTSENT_LOWAT is for a kernel socket),
//! and when some of them were sent the connection is due for more.
//!
//! What is asked for are whole super-segments, and no more is supplied though blocks reach further: what is left over behind
//! the last of them would leave as a packet of its own.

use std::collections::VecDeque;

use sluice_tcp::{ConnId, SendView};

use super::gso_lane::GSO_PAYLOAD_MAX;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// All that may leave was asked for.
    Nothing,
    /// More may leave than was asked for.
    More,
    /// And some of what was asked for has left: it is in the line.
    Due,
}

/// Connections of which less is ready than may leave.
pub(super) struct Refill {
    /// By slot.
    wants: Box<[Want]>,
    /// Slots that do not want [`Want::Nothing`].
    wanting: usize,
    /// An entry may outlive its connection by a turn.
    due: VecDeque<ConnId>,
}

/// What may be made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Stream offset up to which.
    pub horizon: u64,
    /// The window reaches further.
    pub capped: bool,
}

impl Reach {
    /// `runs` super-segments ahead of what was sent, or the whole window if it ends before.
    pub(super) fn of(view: &SendView, runs: u32) -> Reach {
        let segment = u64::from(view.segment.max(1));
        let segments = (u64::from(GSO_PAYLOAD_MAX) / segment).max(1);
        let most = view
            .sent
            .saturating_add(u64::from(runs) * segments * segment);
        Reach {
            horizon: view.horizon.min(most),
            capped: view.horizon > most,
        }
    }

    /// Whether what lies between the horizon and `ready`, the end of a block behind it, is kept for the next turn.
    pub(super) fn cuts(&self, ready: u64) -> bool {
        self.capped && ready > self.horizon
    }
}

impl Refill {
    /// For connection slots below `slots`.
    pub(super) fn new(slots: usize) -> Refill {
        Refill {
            wants: vec![Want::Nothing; slots].into_boxed_slice(),
            wanting: 0,
            due: VecDeque::with_capacity(2 * slots),
        }
    }

    /// Notes whether a connection wants more than it got.
    pub(super) fn note(&mut self, conn: ConnId, wants_more: bool) {
        let want = if wants_more {
            Want::More
        } else {
            Want::Nothing
        };
        let before = core::mem::replace(&mut self.wants[conn.slot()], want);
        match (before, want) {
            (Want::Nothing, Want::More) => self.wanting += 1,
            (Want::More | Want::Due, Want::Nothing) => self.wanting -= 1,
            _ => {}
        }
    }

    /// Payload of a connection left.
    pub(super) fn on_sent(&mut self, conn: ConnId) {
        let want = &mut self.wants[conn.slot()];
        if *want == Want::More {
            *want = Want::Due;
            self.due.push_back(conn);
        }
    }

    /// How many connections want more than they got.
    pub(super) fn wanting(&self) -> usize {
        self.wanting
    }

    /// How many are due.
    pub(super) fn due(&self) -> usize {
        self.due.len()
    }

    /// The next of them.
    pub(super) fn take(&mut self) -> Option<ConnId> {
        self.due.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 45 segments of 1,448 bytes.
    const RUN: u64 = 65_160;

    fn view(sent: u64, horizon: u64) -> SendView {
        SendView {
            acknowledged: 0,
            sent,
            horizon,
            segment: 1448,
        }
    }

    #[test]
    fn of_a_long_window_whole_super_segments_are_made_ready() {
        let reach = Reach::of(&view(1000, 10 << 20), 3);
        assert_eq!(reach.horizon, 1000 + 3 * RUN);
        assert!(reach.capped);
        assert!(!reach.cuts(reach.horizon));
        assert!(reach.cuts(reach.horizon + 1));
    }

    #[test]
    fn a_short_window_is_made_ready_whole_and_a_closed_one_not_at_all() {
        for horizon in [1000, 1000 + 2 * RUN, 7] {
            let reach = Reach::of(&view(1000, horizon), 2);
            assert_eq!((reach.horizon, reach.capped), (horizon, false));
            assert!(!reach.cuts(u64::MAX));
        }
    }

    #[test]
    fn a_segment_longer_than_a_super_segment_is_one() {
        let view = SendView {
            segment: 1 << 20,
            ..view(0, u64::MAX)
        };
        assert_eq!(Reach::of(&view, 2).horizon, 2 << 20);
    }

    #[test]
    fn who_wanted_more_is_due_once_when_it_has_sent() {
        let mut refill = Refill::new(1);
        let conn = ConnId::default();
        refill.on_sent(conn);
        assert_eq!(refill.due(), 0);
        refill.note(conn, true);
        refill.on_sent(conn);
        refill.on_sent(conn);
        assert_eq!(refill.due(), 1);
        assert_eq!(refill.take(), Some(conn));
        assert_eq!(refill.take(), None);
    }

    #[test]
    fn who_wants_more_counts_once_whatever_it_sends() {
        let mut refill = Refill::new(1);
        let conn = ConnId::default();
        refill.note(conn, true);
        refill.on_sent(conn);
        assert_eq!(refill.wanting(), 1);
        refill.note(conn, true);
        assert_eq!(refill.wanting(), 1);
        refill.note(conn, false);
        refill.note(conn, false);
        assert_eq!(refill.wanting(), 0);
    }
}
