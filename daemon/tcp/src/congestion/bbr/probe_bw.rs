//! The cycle of ProbeBW: slower, steady, refill, faster (draft-ietf-ccwg-bbr, ProbeBW).

use core::time::Duration;

use super::{AckSample, Bbr, INFINITE, ShortTerm, State, percent};
use crate::clock::Instant;

/// Pacing gains of the phases, and the window of ProbeBW_UP.
pub(super) const DOWN_PACING_GAIN: u64 = 90;
pub(super) const UP_PACING_GAIN: u64 = 125;
pub(super) const UP_CWND_GAIN: u64 = 225;
/// 100 - BBR.Headroom (15 %).
const HEADROOM: u64 = 85;
/// T_bbr: two seconds and a random part of one more.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// T_reno_bound: a probe at the latest after so many round trips.
pub(super) const RENO_ROUNDS: u8 = 63;
/// Doublings of the growth of inflight_longterm in one ProbeBW_UP.
const UP_ROUNDS_MAX: u8 = 30;

/// BBR.ack_phase: which part of a probe the ACKs that arrive now are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum AckPhase {
    #[default]
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// State of the probing cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cycle {
    pub ack_phase: AckPhase,
    /// BBR.cycle_stamp + BBR.bw_probe_wait.
    pub probe_at: Instant,
    pub rounds_since_probe_up: u32,
    /// BBR.bw_probe_up_rounds, BBR.bw_probe_up_acked, BBR.probe_up_acked_per_inc.
    pub up_rounds: u8,
    pub up_acked: u64,
    pub up_acked_per_inc: u64,
    /// BBR.is_bw_probe_sample: losses now are of data that was sent while probing.
    pub is_probe_sample: bool,
    /// BBR.prev_probe_too_high and BBR.prev_probe_precautionary.
    pub previous_too_high: bool,
    pub previous_precautionary: bool,
    pub drain_start_round: u32,
    /// Rounds of ProbeBW_CRUISE in a row, up to the last one, that saw a queue: see [`super::background`].
    pub queued_rounds: u8,
    /// When the last ACK arrived, or the flight began.
    pub now: Instant,
}

impl Bbr {
    pub(super) fn is_in_probe_bw(&self) -> bool {
        matches!(
            self.state,
            State::ProbeBwDown | State::ProbeBwCruise | State::ProbeBwRefill | State::ProbeBwUp
        )
    }

    pub(super) fn enter_probe_bw(&mut self, now: Instant) {
        self.cycle.now = now;
        self.start_probe_bw_down();
    }

    /// At the time of the last ACK: losses are found while ACKs are processed.
    pub(super) fn start_probe_bw_down(&mut self) {
        self.reset_congestion_signals();
        self.cycle.up_acked_per_inc = INFINITE;
        self.pick_probe_wait();
        self.cycle.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::ProbeBwDown;
    }

    pub(super) fn start_probe_bw_cruise(&mut self) {
        self.state = State::ProbeBwCruise;
    }

    pub(super) fn start_probe_bw_refill(&mut self) {
        self.short_term = ShortTerm::INFINITE;
        self.cycle.up_rounds = 0;
        self.cycle.up_acked = 0;
        self.cycle.previous_precautionary = false;
        self.cycle.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::ProbeBwRefill;
    }

    fn start_probe_bw_up(&mut self, rate: u64) {
        self.cycle.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.full_pipe.reset();
        self.full_pipe.bw = rate;
        self.state = State::ProbeBwUp;
        self.raise_inflight_longterm_slope();
    }

    pub(super) fn stop_probing(&mut self, now: Instant) {
        self.cycle.now = now;
        self.cycle.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
    }

    pub(super) fn update_probe_bw_cycle_phase(&mut self, ack: &AckSample) {
        self.cycle.now = ack.now;
        if !self.full_pipe.reached || self.adapt_long_term_model(ack) {
            return;
        }
        match self.state {
            State::ProbeBwDown => {
                if !self.probe_bw_if_time() && self.is_time_to_cruise(ack) {
                    self.start_probe_bw_cruise();
                }
            }
            State::ProbeBwCruise => {
                self.probe_bw_if_time();
            }
            State::ProbeBwRefill => {
                if self.rounds.start {
                    self.cycle.is_probe_sample = true;
                    self.start_probe_bw_up(ack.rate.map_or(0, |rate| rate.rate));
                }
            }
            State::ProbeBwUp => {
                if self.is_time_to_go_down(ack) {
                    // No high loss yet.
                    self.cycle.previous_too_high = false;
                    self.start_probe_bw_down();
                }
            }
            State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    /// IsTimeToProbeBW.
    fn probe_bw_if_time(&mut self) -> bool {
        // A Reno flow of our size would have filled the path after one round per segment of it.
        let reno_rounds = self.target_inflight() / u64::from(self.window.mss);
        let is_time = self.cycle.now > self.cycle.probe_at
            || u64::from(self.cycle.rounds_since_probe_up) >= reno_rounds.min(RENO_ROUNDS.into());
        if is_time {
            self.start_probe_bw_refill();
        }
        is_time
    }

    fn pick_probe_wait(&mut self) {
        let random = self.next_random();
        self.cycle.rounds_since_probe_up = random & 1;
        let fraction = (u64::from(random >> 1) * 1_000_000_000) >> 31;
        self.cycle.probe_at = self.cycle.now + PROBE_WAIT + Duration::from_nanos(fraction);
    }

    fn is_time_to_cruise(&self, ack: &AckSample) -> bool {
        let in_flight = u64::from(ack.in_flight);
        in_flight <= self.inflight_with_headroom() && in_flight <= self.inflight(self.max_bw.get())
    }

    fn is_time_to_go_down(&mut self, ack: &AckSample) -> bool {
        if self.cycle.previous_too_high && u64::from(ack.in_flight) >= self.inflight_longterm {
            self.cycle.previous_precautionary = true;
            return true;
        }
        if self.is_bound_by_longterm(ack) {
            // The bound is the limit, not the path: what was measured says nothing.
            self.full_pipe.reset();
            self.full_pipe.bw = ack.rate.map_or(0, |rate| rate.rate);
            return false;
        }
        self.full_pipe.now
    }

    fn is_bound_by_longterm(&self, ack: &AckSample) -> bool {
        ack.cwnd_limited && u64::from(self.window.cwnd) >= self.inflight_longterm
    }

    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_longterm == INFINITE {
            return INFINITE;
        }
        let mss = u64::from(self.window.mss);
        percent(self.inflight_longterm, HEADROOM)
            .min(self.inflight_longterm.saturating_sub(mss))
            .max(self.min_pipe_cwnd())
    }

    pub(super) fn raise_inflight_longterm_slope(&mut self) {
        let growth_this_round = 1u64 << self.cycle.up_rounds;
        self.cycle.up_rounds = (self.cycle.up_rounds + 1).min(UP_ROUNDS_MAX);
        self.cycle.up_acked_per_inc =
            (u64::from(self.window.cwnd) / growth_this_round).max(u64::from(self.window.mss));
    }

    /// ProbeInflightLongtermUpward: by 1, 2, 4... segments per round, spread over the round.
    fn probe_inflight_longterm_upward(&mut self, ack: &AckSample) {
        if !self.is_bound_by_longterm(ack) {
            return;
        }
        self.cycle.up_acked += u64::from(ack.delivered_bytes);
        let steps = self.cycle.up_acked / self.cycle.up_acked_per_inc.max(1);
        if steps > 0 {
            self.cycle.up_acked -= steps * self.cycle.up_acked_per_inc;
            self.inflight_longterm = self
                .inflight_longterm
                .saturating_add(steps * u64::from(self.window.mss));
        }
        if self.rounds.start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// AdaptLongTermModel. True if it decided a transition.
    fn adapt_long_term_model(&mut self, ack: &AckSample) -> bool {
        if self.cycle.ack_phase == AckPhase::ProbeStarting && self.rounds.start {
            self.cycle.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.cycle.ack_phase == AckPhase::ProbeStopping && self.rounds.start {
            // The samples of the probe are all in.
            self.cycle.is_probe_sample = false;
            self.cycle.ack_phase = AckPhase::Init;
            if self.is_in_probe_bw() {
                if ack.rate.is_some_and(|rate| !rate.app_limited) {
                    self.max_bw.advance();
                }
                if self.cycle.previous_precautionary && !self.cycle.previous_too_high {
                    self.start_probe_bw_refill();
                    return true;
                }
            }
        }
        let too_high = ack
            .rate
            .is_some_and(|rate| self.is_too_high(rate.lost, rate.in_flight));
        if self.inflight_longterm == INFINITE || too_high {
            return false;
        }
        if let Some(rate) = &ack.rate {
            self.inflight_longterm = self.inflight_longterm.max(rate.in_flight);
        }
        if self.state == State::ProbeBwUp {
            self.probe_inflight_longterm_upward(ack);
        }
        false
    }
}
