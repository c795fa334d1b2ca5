//! The loss that a path has of its own: how much it loses while its queue is empty.
//!
//! BBR.LossThresh takes 2 % of loss for a sign that too much is in flight. A radio link or a broken fibre loses that
//! much whatever is in flight, and the flow would shrink for nothing. What a congested queue loses comes with the
//! delay of that queue; so a round whose shortest round trip is that of the empty path shows what the path loses by
//! itself, and only what exceeds that counts as congestion. Rounds that probe for bandwidth, and those that drain what
//! a probe left, are not looked at: there a queue may overflow that is too short to be seen as delay. See
//! docs/decisions/004-bbr-background-loss.md.

use core::num::NonZeroU64;
use core::time::Duration;

use super::{AckSample, Bbr, CWND_MAX, State};

/// A round trip of up to this much more than the shortest, in its parts, is one through an empty queue.
const EMPTY_QUEUE_PARTS: u32 = 8;
/// Memory in delivered bytes: some 700 segments, in which 3 % of loss are told from 1 % and 5 %.
const MEMORY_BYTES: u32 = 1 << 20;
/// No more than one byte in this many is excused. A queue that is too short to be seen loses a fifth of what comes
/// while a probe sends a quarter too much, and must not pass for a bad path.
pub(super) const SHARE_MAX: u64 = 10;
/// Bytes are counted by this much during a rest: up to 4 MiB.
const REST_UNIT: u32 = 64;

/// What was lost and delivered in rounds with an empty queue, lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Background {
    lost: u32,
    delivered: u32,
    round: Round,
}

/// The round under way. Bytes of a round are less than a window, 1 GiB at most.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    lost: u32,
    delivered: u32,
    min_rtt_ns: Option<NonZeroU64>,
}

impl Background {
    pub(super) fn on_loss(&mut self, bytes: u32) {
        self.round.lost = self.round.lost.saturating_add(bytes);
    }

    /// In units, without the round under way.
    pub(super) fn rest(&self) -> (u16, u16) {
        let (mut lost, mut delivered) = (self.lost / REST_UNIT, self.delivered / REST_UNIT);
        loop {
            if let (Ok(lost), Ok(delivered)) = (u16::try_from(lost), u16::try_from(delivered)) {
                return (lost, delivered);
            }
            (lost, delivered) = (lost / 2, delivered / 2);
        }
    }

    pub(super) fn wake(&mut self, (lost, delivered): (u16, u16)) {
        self.lost = u32::from(lost) * REST_UNIT;
        self.delivered = u32::from(delivered) * REST_UNIT;
    }

    /// Of so many bytes, those that the path loses with an empty queue.
    pub(super) fn of(&self, in_flight: u64) -> u64 {
        let lost = u64::from(self.lost);
        let sent = (lost + u64::from(self.delivered)).max(1);
        // 30 bits of flight, 32 of losses.
        let share = in_flight.min(u64::from(CWND_MAX)) * lost / sent;
        share.min(in_flight / SHARE_MAX)
    }

    fn on_ack(&mut self, ack: &AckSample) {
        let round = &mut self.round;
        round.delivered = round.delivered.saturating_add(ack.delivered_bytes);
        let rtt = ack.rtt.and_then(|rtt| u64::try_from(rtt.as_nanos()).ok());
        let rtt = rtt.and_then(NonZeroU64::new);
        round.min_rtt_ns = round.min_rtt_ns.into_iter().chain(rtt).min();
    }

    /// True if the queue was empty.
    fn end_round(&mut self, counts: bool, min_rtt: Duration) -> bool {
        let round = core::mem::take(&mut self.round);
        let limit = min_rtt + min_rtt / EMPTY_QUEUE_PARTS;
        let empty = round
            .min_rtt_ns
            .is_some_and(|rtt| Duration::from_nanos(rtt.get()) <= limit);
        if !counts || !empty {
            return empty;
        }
        self.lost = self.lost.saturating_add(round.lost);
        self.delivered = self.delivered.saturating_add(round.delivered);
        if self.delivered > MEMORY_BYTES {
            self.lost /= 2;
            self.delivered /= 2;
        }
        empty
    }
}

impl Bbr {
    /// At the end of a round in which the flow neither probed nor drained.
    pub(super) fn update_background(&mut self, ack: &AckSample) {
        self.background.on_ack(ack);
        if self.rounds.start {
            // Nothing is known of the path before the first round is over.
            let min_rtt = self.min_rtt.value.unwrap_or_default();
            let counts = matches!(
                self.state,
                State::Startup | State::ProbeBwCruise | State::ProbeBwRefill | State::ProbeRtt
            );
            self.full_pipe.queue_was_empty = self.background.end_round(counts, min_rtt);
        }
    }
}
