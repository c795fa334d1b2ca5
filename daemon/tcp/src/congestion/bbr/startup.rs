//! Startup and Drain (draft-ietf-ccwg-bbr, Startup; Drain).

use super::{AckSample, Bbr, State, background, percent};

/// BBR.StartupPacingGain: 4 ln 2, the least that doubles the rate each round.
pub(super) const PACING_GAIN: u64 = 277;
/// BBR.DrainPacingGain.
pub(super) const DRAIN_PACING_GAIN: u64 = 50;
/// Rounds after which Drain ends even if the queue did not.
pub(super) const DRAIN_ROUNDS_MAX: u8 = 3;
/// Growth that a round must show, and rounds without it that mean a full pipe.
const FULL_BW_GROWTH: u64 = 125;
const FULL_BW_COUNT: u8 = 3;
/// BBRStartupFullLossCnt.
const FULL_LOSS_COUNT: u32 = 6;

/// The estimator of a full pipe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullPipe {
    /// BBR.full_bw and BBR.full_bw_count.
    pub bw: u64,
    pub count: u8,
    /// BBR.full_bw_now.
    pub now: bool,
    /// BBR.full_bw_reached: ever.
    pub reached: bool,
    /// The last round saw an empty queue.
    pub queue_was_empty: bool,
}

impl FullPipe {
    /// ResetFullBW.
    pub(super) fn reset(&mut self) {
        (self.bw, self.count, self.now) = (0, 0, false);
    }
}

impl Bbr {
    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    pub(super) fn check_full_bw_reached(&mut self, ack: &AckSample) {
        let Some(rate) = &ack.rate else {
            return;
        };
        // A sample without a rate says nothing about growth.
        if self.full_pipe.now || !self.rounds.start || rate.app_limited || rate.rate == 0 {
            return;
        }
        let full_pipe = &mut self.full_pipe;
        if rate.rate >= percent(full_pipe.bw, FULL_BW_GROWTH) {
            full_pipe.reset();
            full_pipe.bw = rate.rate;
            return;
        }
        full_pipe.count += 1;
        full_pipe.now = full_pipe.count >= FULL_BW_COUNT;
        full_pipe.reached |= full_pipe.now;
    }

    pub(super) fn check_startup_done(&mut self, ack: &AckSample) {
        if self.state != State::Startup {
            return;
        }
        self.check_startup_high_loss(ack);
        if self.full_pipe.reached {
            self.state = State::Drain;
            self.cycle.drain_start_round = self.rounds.count;
        }
    }

    /// A full round in recovery, more than 2 % of it lost, in six places.
    fn check_startup_high_loss(&mut self, ack: &AckSample) {
        let Some(rate) = &ack.rate else {
            return;
        };
        let high = self.in_recovery
            && self.losses.round_start
            && self.losses.events_last_round >= FULL_LOSS_COUNT
            && self.is_loss_of_startup_too_high(rate.lost, rate.in_flight);
        if high && !self.full_pipe.reached {
            self.undo_state = Some(State::Startup);
            self.full_pipe.reached = true;
            let bdp = self.bdp_multiple(self.max_bw.get(), 100);
            self.inflight_longterm = bdp.max(self.losses.inflight_latest);
        }
    }

    /// While the queue is empty the pipe is not full, so up to a tenth is the path's own, and half as much again by
    /// chance: in the few segments since the begin its share is not known well enough, and who leaves Startup at a third
    /// of the rate needs ten seconds to make up for it. A queue that is too short to be seen loses more than half of what
    /// this pacing gain sends.
    pub(super) fn is_loss_of_startup_too_high(&self, lost: u64, in_flight: u64) -> bool {
        let background = if self.full_pipe.queue_was_empty {
            in_flight / background::SHARE_MAX
        } else {
            self.background_of(in_flight)
        };
        self.is_too_high_beside(background, lost, in_flight)
    }

    pub(super) fn check_drain_done(&mut self, ack: &AckSample) {
        if self.state != State::Drain {
            return;
        }
        let rounds = self.rounds.count.wrapping_sub(self.cycle.drain_start_round);
        if u64::from(ack.in_flight) <= self.inflight(self.bw) || rounds > DRAIN_ROUNDS_MAX.into() {
            self.enter_probe_bw(ack.now);
        }
    }
}
