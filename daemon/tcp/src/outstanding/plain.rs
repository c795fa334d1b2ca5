//! Loss with a peer without SACK: duplicates prove it, and partial acknowledgements name what else is lost.
//!
//! RFC 5681 section 3.2 and RFC 6582. All that such a peer says of what arrived out of order are duplicates, one for
//! each segment; what they count for is known to [`Duplicates`](crate::duplicates::Duplicates). Nothing tells which
//! segments are missing behind the first, so each is sent again when the acknowledgement comes to it.

use super::Outstanding;
use crate::flight_pool::FlightPool;
use crate::rack::Path;
use crate::verdict::{AckSeen, Delivered, Verdict};

impl Outstanding {
    /// What follows from an acknowledgement.
    pub(super) fn judge_duplicates(
        &mut self,
        ack: &AckSeen,
        delivered: &Delivered,
        path: &Path,
        pool: &mut FlightPool,
    ) -> Verdict {
        if ack.duplicate {
            self.lose_what_was_not_kept(ack.snd_nxt, pool);
        }
        if self.is_timeout() && self.is_spurious(ack, delivered) {
            self.take_back_time_out(ack, path.smss, pool);
            return Verdict::Undo;
        }
        self.count_duplicates(ack, path.smss);
        let verdict = self.phase.verdict();
        if self.is_recut_over(ack.snd_una) {
            self.end_recut();
            return verdict;
        }
        if let Some(until) = self.phase.until()
            && ack.snd_una >= until
        {
            self.end_recovery(until, path.smss);
            // No DSACK will come, and no other evidence is looked for outside of a time-out.
            self.undo.forget();
            return verdict;
        }
        if self.phase.is_open() && self.duplicates.prove_loss(ack.snd_una) {
            self.enter_fast(ack.snd_nxt);
            self.lose_first(ack.snd_una, path.smss, pool);
            return Verdict::Reduce;
        }
        let is_partial = self.phase.fast_until().is_some() && ack.acked > 0;
        if is_partial && !self.flight.is_first_repeated() {
            // A partial acknowledgement names the next hole (RFC 6582 section 3.2, step 3); not one of a part of
            // what was just sent again, or each byte of it would be worth a segment.
            self.lose_first(ack.snd_una, path.smss, pool);
            self.phase.hurry();
        }
        verdict
    }

    fn take_back_time_out(&mut self, ack: &AckSeen, smss: u32, pool: &mut FlightPool) {
        let needless = self.undo.unreported().div_ceil(u64::from(smss.max(1)));
        let needless = u32::try_from(needless).unwrap_or(u32::MAX);
        self.end_recovery(ack.snd_una, smss);
        // But for their answers duplicates prove something from here on ("recover").
        self.duplicates
            .recovery_undone(ack.snd_una, ack.snd_nxt, needless);
        self.forget_losses(pool);
    }

    fn count_duplicates(&mut self, ack: &AckSeen, smss: u32) {
        if ack.acked > 0 {
            let recovering = self.phase.fast_until().is_some();
            self.duplicates.on_acknowledged(ack.acked, recovering, smss);
        } else if ack.duplicate && self.skip.explains_duplicate(ack.snd_una) {
            // The hole is of our making.
            self.skip.on_hole();
        } else if ack.duplicate {
            self.duplicates.on_duplicate(ack.snd_una);
        }
    }

    /// What of `pipe` bytes is in the network when duplicates say that so much has left it.
    pub(super) fn pipe_after_duplicates(&self, pipe: u64, smss: u32) -> u64 {
        let departed = self.duplicates.departed(smss);
        if self.phase.is_open() {
            pipe.saturating_sub(departed)
        } else if let Some(until) = self.phase.fast_until() {
            // A receiver that invents duplicates must not get more out of it than the flight in which the loss
            // happened (RFC 5681 section 5).
            pipe.saturating_sub(departed.min(until.saturating_sub(self.flight.start())))
        } else {
            pipe
        }
    }
}
