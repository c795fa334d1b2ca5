//! The loss that a path has of its own: how much it loses while its queue is empty.
//!
//! BBR.LossThresh takes 2 % of loss for a sign that too much is in flight. A radio link or a broken fibre loses that
//! much whatever is in flight, and the flow would shrink for nothing. What a congested queue loses comes with the
//! delay of that queue; so a round whose shortest round trip is that of the empty path shows what the path loses by
//! itself, and only what exceeds that counts as congestion. Rounds that probe for bandwidth, and those that drain what
//! a probe left, are not looked at: there a queue may overflow that is too short to be seen as delay.
//!
//! A flow that is alone leaves the queue empty while it cruises. If it sees one there, others keep it filled: then every
//! loss may be theirs and ours, nothing is excused, and any loss is too much. The 2 % of the draft would let a probe go
//! on while those who answer their first loss give way, into the room that they leave. See
//! docs/decisions/004-bbr-background-loss.md.

use core::num::NonZeroU64;
use core::time::Duration;

use super::{AckSample, Bbr, CWND_MAX, OFFLOAD_QUANTA, State};

/// A round trip of up to this much more than the shortest, in its parts, is one through an empty queue.
const EMPTY_QUEUE_PARTS: u32 = 8;
/// Memory in delivered bytes: some 700 segments, in which 3 % of loss are told from 1 % and 5 %.
const MEMORY_BYTES: u32 = 1 << 20;
/// No more than one byte in this many is excused. A queue that is too short to be seen loses a fifth of what comes
/// while a probe sends a quarter too much, and must not pass for a bad path.
pub(super) const SHARE_MAX: u64 = 10;
/// A queue of up to this much may be our own on a path however short: BBR.offload_budget, quanta of a millisecond.
const OWN_QUEUE: Duration = Duration::from_millis(OFFLOAD_QUANTA);
/// So many rounds of cruising in a row with a queue mean that others fill it. The first may still see what our own probe
/// left.
const SHARED_ROUNDS: u8 = 3;
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
    fn of(&self, in_flight: u64) -> u64 {
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

    /// The delay of the queue, where it was shortest.
    fn end_round(&mut self, counts: bool, min_rtt: Duration) -> Option<Duration> {
        let round = core::mem::take(&mut self.round);
        let shortest = round.min_rtt_ns?;
        let delay = Duration::from_nanos(shortest.get()).saturating_sub(min_rtt);
        if !counts || !is_empty(delay, min_rtt) {
            return Some(delay);
        }
        self.lost = self.lost.saturating_add(round.lost);
        self.delivered = self.delivered.saturating_add(round.delivered);
        if self.delivered > MEMORY_BYTES {
            self.lost /= 2;
            self.delivered /= 2;
        }
        Some(delay)
    }
}

fn is_empty(delay: Duration, min_rtt: Duration) -> bool {
    delay <= min_rtt / EMPTY_QUEUE_PARTS
}

impl Bbr {
    /// Others keep the queue filled: seen when the flow last cruised. A restart forgets it.
    pub(super) fn is_queue_shared(&self) -> bool {
        self.cycle.queued_rounds >= SHARED_ROUNDS
    }

    /// Of so many bytes, those that the path is known to lose whatever is in flight.
    pub(super) fn background_of(&self, in_flight: u64) -> u64 {
        if self.is_queue_shared() {
            0
        } else {
            self.background.of(in_flight)
        }
    }

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
            let delay = self.background.end_round(counts, min_rtt);
            let was_empty = delay.is_some_and(|delay| is_empty(delay, min_rtt));
            self.full_pipe.queue_was_empty = was_empty;
            if let Some(delay) = delay
                && self.state == State::ProbeBwCruise
            {
                let is_own = was_empty || delay <= OWN_QUEUE;
                let queued_rounds = self.cycle.queued_rounds.saturating_add(1);
                self.cycle.queued_rounds = if is_own { 0 } else { queued_rounds };
            }
        }
    }
}
