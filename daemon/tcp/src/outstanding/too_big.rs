//! What is lost because it was too big for the path: sent again in shorter segments, and no sign of congestion.
//!
//! The phase *Recut* ends when everything that was in flight at its begin is acknowledged. Whatever is lost in it
//! once more was short enough for the path, and starts a fast recovery like any other loss. A recovery that runs
//! already is not replaced: it has reduced the window, and its end is the same.

use super::Outstanding;
use crate::flight_pool::FlightPool;
use crate::undo::{Frto, Undo};

impl Outstanding {
    /// The path takes less than what full segments had: nothing of what is in flight arrives.
    ///
    /// It leaves again by slow start from `window` bytes, on top of an unchanged cwnd (RFC 1191 section 6.5, RFC 8201
    /// section 5.4), so that a forged message cannot bring forth a burst.
    pub(crate) fn recut_all(&mut self, snd_nxt: u64, window: u64, pool: &mut FlightPool) {
        let snd_una = self.flight.start();
        self.flight.lose(&(snd_una..snd_nxt), pool);
        self.path_probe.on_loss();
        self.probe.abandon();
        self.phase.hurry();
        if self.phase.is_open() || self.phase.is_recut() {
            self.enter_recut(snd_nxt);
            self.duplicates.forget();
            self.phase.catch_up_from(window);
        } else {
            // What new data could tell is known now.
            self.phase.set_frto(Frto::Off);
        }
    }

    /// A router refused the path probe in flight.
    pub(crate) fn refuse_path_probe(&mut self, snd_nxt: u64, pool: &mut FlightPool) {
        let Some(range) = self.path_probe.range().cloned() else {
            return;
        };
        self.path_probe.on_refused();
        self.flight.lose(&range, pool);
        if self.phase.is_open() {
            self.enter_recut(snd_nxt);
        }
    }

    /// Whether a path probe may leave: nothing is lost or late, so that the loss of the probe would stand out. Never
    /// with a peer without SACK, with whom it would not.
    pub(crate) fn may_probe_path(&self) -> bool {
        self.sack
            && self.phase.is_open()
            && self.flight.sacked_bytes() == 0
            && self.flight.lost_bytes() == 0
            && self.path_probe.range().is_none()
            && !self.probe.is_pending()
    }

    /// Whether what is lost is the path probe and nothing else.
    pub(super) fn is_path_probe_alone_lost(&mut self) -> bool {
        let Some(probe) = self.path_probe.range() else {
            return false;
        };
        self.flight.lost_bytes() == probe.end - probe.start
            && self
                .flight
                .next_lost()
                .is_some_and(|(range, _)| range == *probe)
    }

    pub(super) fn enter_recut(&mut self, snd_nxt: u64) {
        self.phase.begin_recut(snd_nxt);
        self.probe.abandon();
        // No duplicate of what leaves now is evidence about an earlier reduction.
        self.undo = Undo::default();
    }

    pub(super) fn is_recut_over(&self, snd_una: u64) -> bool {
        self.phase.is_recut() && self.phase.until().is_some_and(|until| snd_una >= until)
    }

    pub(super) fn end_recut(&mut self) {
        self.phase.end_recut(self.flight.is_empty());
    }

    /// Whether what is lost was too big for the path.
    pub(crate) fn is_recut(&self) -> bool {
        self.phase.is_recut()
    }
}
