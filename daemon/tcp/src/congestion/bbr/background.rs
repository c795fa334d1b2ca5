//! The loss that a path has of its own: how much it loses while its queue is empty.
//!
//! BBR.LossThresh takes 2 % of loss for a sign that too much is in flight. A radio link or a broken fibre loses that
//! much whatever is in flight, and the flow would shrink for nothing. What a congested queue loses comes with the
//! delay of that queue; so a round whose shortest round trip is that of the empty path shows what the path loses by
//! itself, and only what exceeds that counts as congestion. Rounds that probe for bandwidth, and those that drain what
//! a probe left, are not looked at: there a queue may overflow that is too short to be seen as delay. See
//! docs/decisions/004-bbr-background-loss.md.

use core::time::Duration;

use super::{AckSample, Bbr, State};

/// A round trip of up to this much more than the shortest, in its parts, is one through an empty queue.
const EMPTY_QUEUE_PARTS: u32 = 8;
/// Memory in delivered bytes: some 700 segments, in which 3 % of loss are told from 1 % and 5 %.
const MEMORY_BYTES: u64 = 1 << 20;
/// No more than one byte in this many is excused. A queue that is too short to be seen loses a fifth of what comes
/// while a probe sends a quarter too much, and must not pass for a bad path.
const SHARE_MAX: u64 = 10;

/// What was lost and delivered in rounds with an empty queue, lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Background {
    lost: u64,
    delivered: u64,
    round: Round,
}

/// The round under way.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    lost: u64,
    delivered: u64,
    min_rtt: Option<Duration>,
}

impl Background {
    pub(super) fn on_loss(&mut self, bytes: u32) {
        self.round.lost += u64::from(bytes);
    }

    /// Of so many bytes, those that the path loses with an empty queue.
    pub(super) fn of(&self, in_flight: u64) -> u64 {
        let sent = u128::from((self.lost + self.delivered).max(1));
        let share = u128::from(in_flight) * u128::from(self.lost) / sent;
        u64::try_from(share)
            .unwrap_or(u64::MAX)
            .min(in_flight / SHARE_MAX)
    }

    fn on_ack(&mut self, ack: &AckSample) {
        self.round.delivered += u64::from(ack.delivered_bytes);
        self.round.min_rtt = match (self.round.min_rtt, ack.rtt) {
            (Some(least), Some(rtt)) => Some(least.min(rtt)),
            (least, rtt) => least.or(rtt),
        };
    }

    fn end_round(&mut self, counts: bool, min_rtt: Duration) {
        let round = core::mem::take(&mut self.round);
        let empty = round
            .min_rtt
            .is_some_and(|rtt| rtt <= min_rtt + min_rtt / EMPTY_QUEUE_PARTS);
        if !counts || !empty {
            return;
        }
        self.lost += round.lost;
        self.delivered += round.delivered;
        if self.delivered > MEMORY_BYTES {
            self.lost /= 2;
            self.delivered /= 2;
        }
    }
}

impl Bbr {
    /// At the end of a round in which the flow neither probed nor drained.
    pub(super) fn update_background(&mut self, ack: &AckSample) {
        if self.rounds.start
            && let Some(min_rtt) = self.min_rtt.value
        {
            let counts = matches!(
                self.state,
                State::Startup | State::ProbeBwCruise | State::ProbeBwRefill | State::ProbeRtt
            );
            self.background.end_round(counts, min_rtt);
        }
        self.background.on_ack(ack);
    }
}
