//! How far a response is made ready ahead of what was sent, and who gets more in the next turn.
//!
//! A window may be megabytes, and all of it may leave; but in one turn a connection sends a few super-segments. What was
//! read for it any earlier has left the CPU's cache when it is sent, is pinned meanwhile, and took the time of the turn from
//! everybody else. So of a window only [`AHEAD_BYTES`] are asked for (what TCP_NOTSENT_LOWAT is for a kernel socket), and
//! when some of them were sent the connection is due for more.

use std::collections::VecDeque;

use sluice_tcp::{ConnId, SendView};

/// Bytes ready ahead of what was sent: the super-segment that is about to leave and the next. Chosen by measurement
/// (docs/PERFORMANCE.md, "Small requests beside bulk").
const AHEAD_BYTES: u64 = 128 << 10;

/// Connections of which less is ready than may leave.
pub(super) struct Refill {
    /// By slot: whether more was wanted than [`AHEAD_BYTES`].
    capped: Box<[bool]>,
    /// Of those, who has sent since. An entry may outlive its connection by a turn.
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
    pub(super) fn of(view: &SendView) -> Reach {
        let most = view.sent.saturating_add(AHEAD_BYTES);
        Reach {
            horizon: view.horizon.min(most),
            capped: view.horizon > most,
        }
    }
}

impl Refill {
    /// For connection slots below `slots`.
    pub(super) fn new(slots: usize) -> Refill {
        Refill {
            capped: vec![false; slots].into_boxed_slice(),
            due: VecDeque::with_capacity(2 * slots),
        }
    }

    /// Notes whether a connection wants more than it got.
    pub(super) fn note(&mut self, conn: ConnId, capped: bool) {
        self.capped[conn.slot()] = capped;
    }

    /// Payload of a connection left.
    pub(super) fn on_sent(&mut self, conn: ConnId) {
        if core::mem::take(&mut self.capped[conn.slot()]) {
            self.due.push_back(conn);
        }
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

    fn view(sent: u64, horizon: u64) -> SendView {
        SendView {
            acknowledged: 0,
            sent,
            horizon,
        }
    }

    #[test]
    fn of_a_long_window_a_part_is_made_ready() {
        let reach = Reach::of(&view(1000, 10 << 20));
        assert_eq!(reach.horizon, 1000 + AHEAD_BYTES);
        assert!(reach.capped);
    }

    #[test]
    fn a_short_window_is_made_ready_whole_and_a_closed_one_not_at_all() {
        for horizon in [1000, 1000 + AHEAD_BYTES, 7] {
            let reach = Reach::of(&view(1000, horizon));
            assert_eq!((reach.horizon, reach.capped), (horizon, false));
        }
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
}
