//! Evidence that a recovery was not deserved: what was called lost was late.
//!
//! [`Undo`](crate::undo::Undo) keeps the state to return to and weighs echoes and DSACKs, [`Frto`](crate::undo::Frto)
//! the acknowledgements after a time-out; here both are asked, and what follows is undone in the record of the flight.
//! Congestion control is the caller's, by [`Verdict::Undo`](crate::verdict::Verdict::Undo).

use super::Outstanding;
use crate::congestion::Controller;
use crate::flight_pool::FlightPool;
use crate::undo::{Frto, FrtoAck, FrtoPlainAck};
use crate::verdict::{AckSeen, Delivered};

impl Outstanding {
    /// Before the reduction that a [`Verdict`](crate::verdict::Verdict) asked for.
    pub(crate) fn remember(&mut self, controller: &Controller) {
        // Nothing but F-RTO and the echoes of a time-out would show without SACK that it was not deserved.
        if self.sack || self.is_timeout() {
            self.undo.begin(controller, self.flight.start());
        }
    }

    /// The state of congestion control to return to.
    pub(crate) fn take_undo(&mut self) -> Option<Controller> {
        self.undo.take()
    }

    /// The peer may have said that something came twice.
    pub(super) fn hear_dsack(&mut self, ack: &AckSeen) {
        if let Some(range) = &ack.dsack
            && self.undo.on_dsack(range)
        {
            self.rack.on_dsack(ack.snd_una, ack.snd_nxt);
        }
    }

    /// Whether an acknowledgement shows that the last reduction was not deserved; F-RTO takes its next step by it.
    pub(super) fn is_spurious(&mut self, ack: &AckSeen, delivered: &Delivered) -> bool {
        if !self.undo.is_open() {
            return false;
        }
        let mut spurious = self.undo.is_all_duplicates();
        if !self.phase.is_open() {
            spurious |= self
                .undo
                .is_echo_older(ack.echoed_ms, delivered.first_sent_again_at);
        }
        if self.phase.fast_until().is_some() {
            spurious |= delivered.late && !self.undo.has_sent_again();
        }
        if let Some((until, frto)) = self.phase.time_out() {
            let (next, late) = self.ask_frto(frto, until, ack, delivered);
            self.phase.set_frto(next);
            spurious |= late;
        }
        spurious
    }

    /// The next step of F-RTO, and whether the time-out was spurious.
    fn ask_frto(
        &self,
        frto: Frto,
        until: u64,
        ack: &AckSeen,
        delivered: &Delivered,
    ) -> (Frto, bool) {
        let advanced = ack.acked > 0;
        if self.sack {
            return frto.on_ack(FrtoAck {
                original_delivered: delivered.original,
                advanced: advanced && ack.snd_una < until,
                delivered: delivered.bytes > 0,
                bare_duplicate: ack.duplicate,
            });
        }
        frto.on_plain_ack(FrtoPlainAck {
            duplicate: ack.duplicate,
            advanced,
            covers_repeated: !self.flight.is_first_retransmitted(),
            covers_all: ack.snd_una >= until,
            echoes_original: self.undo.is_before_first(ack.echoed_ms),
        })
    }

    /// A duplicate that reports nothing answers the new segments of F-RTO: without SACK, or because the receiver keeps
    /// nothing out of order (RFC 2018 section 8 allows it). They left the network, and in the pipe they would leave no room
    /// for the rest.
    pub(super) fn lose_what_was_not_kept(&mut self, snd_nxt: u64, pool: &mut FlightPool) {
        if let Some(from) = self.phase.frto_sends_from() {
            self.flight.lose(&(from..snd_nxt), pool);
            if !self.sack {
                // Nothing but this recovery would send them again.
                self.phase.extend_time_out(snd_nxt);
            }
        }
    }

    /// What was held lost was late. Not so what never left: that the peer will miss, for no other reason than that.
    pub(super) fn forget_losses(&mut self, pool: &mut FlightPool) {
        self.flight.forget_losses();
        if let Some(range) = self.skip.resume() {
            self.flight.hold_back(&range, pool);
        }
    }
}
