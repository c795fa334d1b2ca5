//! BBR version 3 (draft-ietf-ccwg-bbr): send at the rate at which the path delivers, with little more in
//! flight than its bandwidth-delay product, and probe for more now and then.
//!
//! The model is the largest delivery rate of the last two probing cycles and the shortest round trip of the
//! last ten seconds, bounded by what losses have taught in the long term (over cycles) and in the short term
//! (within one). A state machine steers pacing and window: [`startup`] doubles the rate until it stops
//! growing and drains the queue, [`probe_bw`] cycles through slower, steady and faster, [`probe_rtt`] empties
//! the queue when the shortest round trip has become old; [`model`] does the estimating. Functions carry the
//! names of the draft in this language's spelling; rates are bytes per second, gains percent, volumes bytes.
//!
//! Deviations: a loss is described by the nearest timed segment; ACKs that complete no rate sample only move
//! the window; losses are not seen without SACK; the extra_acked filter has two slots of five rounds instead of
//! ten of one; ProbeRTT comes every ten seconds and not every five; behind a queue that others keep filled any loss is
//! too much, and elsewhere a loss rate has to be more than chance, see [`losses_by_chance`] and
//! `adapt_lower_bounds_from_congestion`, and more than what the path loses by itself, see [`background`]; a restart
//! forgets what was about the flight before it, see [`rest`].

use core::time::Duration;

use super::{AckSample, CWND_MAX, LossSample, Window, initial_window};
use crate::clock::Instant;

mod background;
mod model;
mod probe_bw;
mod probe_rtt;
mod rest;
mod startup;

use background::Background;
use model::{Aggregation, Losses, MaxBw, Rounds, ShortTerm};
use probe_bw::Cycle;
use probe_rtt::MinRtt;
use rest::Rate;
pub(crate) use rest::RestingBbr;
use startup::FullPipe;

/// A bound or estimate that is not known yet.
const INFINITE: u64 = u64::MAX;
/// BBR.MinPipeCwnd in segments.
const MIN_PIPE_SEGMENTS: u64 = 4;
/// BBR.DefaultCwndGain.
const DEFAULT_CWND_GAIN: u64 = 200;
/// 100 - BBR.PacingMarginPercent.
const PACING_MARGIN: u64 = 99;
/// C.send_quantum: a millisecond at the pacing rate, but at most 64 KiB and at least two segments.
const SEND_QUANTUM_MAX: u64 = 64 << 10;
/// BBR.offload_budget in quanta.
const OFFLOAD_QUANTA: u64 = 3;
/// Segments that a flight may lose by chance.
const LOSSES_BY_CHANCE: u64 = 6;
/// Before the first round trip is known, one of this length is assumed (InitPacingRate).
const RTT_UNKNOWN: Duration = Duration::from_millis(1);

/// BBR.state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Startup,
    Drain,
    ProbeBwDown,
    ProbeBwCruise,
    ProbeBwRefill,
    ProbeBwUp,
    ProbeRtt,
}

impl State {
    /// BBR.pacing_gain.
    fn pacing_gain(self) -> u64 {
        match self {
            State::Startup => startup::PACING_GAIN,
            State::Drain => startup::DRAIN_PACING_GAIN,
            State::ProbeBwDown => probe_bw::DOWN_PACING_GAIN,
            State::ProbeBwUp => probe_bw::UP_PACING_GAIN,
            State::ProbeBwCruise | State::ProbeBwRefill | State::ProbeRtt => 100,
        }
    }

    /// BBR.cwnd_gain.
    fn cwnd_gain(self) -> u64 {
        match self {
            State::ProbeBwUp => probe_bw::UP_CWND_GAIN,
            State::ProbeRtt => probe_rtt::PROBE_RTT_CWND_GAIN,
            _ => DEFAULT_CWND_GAIN,
        }
    }
}

/// State of one BBR flow.
#[derive(Clone, Copy, Debug)]
pub struct Bbr {
    /// `cwnd` and SMSS; `ssthresh` is not used.
    window: Window,
    state: State,
    random: u32,
    pacing_rate: u64,
    /// The pacing rate comes from a measured round trip.
    has_rtt: bool,
    /// C.delivered as of the last ACK.
    delivered: u64,
    rounds: Rounds,
    max_bw: MaxBw,
    /// BBR.bw.
    bw: u64,
    short_term: ShortTerm,
    /// BBR.inflight_longterm.
    inflight_longterm: u64,
    losses: Losses,
    background: Background,
    aggregation: Aggregation,
    full_pipe: FullPipe,
    cycle: Cycle,
    min_rtt: MinRtt,
    /// BBR.prior_cwnd.
    prior_cwnd: u32,
    in_recovery: bool,
    /// BBR.undo_state: left because of a loss that may prove spurious.
    undo_state: Option<State>,
    idle_restart: bool,
}

impl Bbr {
    pub(super) fn new(mss: u32) -> Bbr {
        let window = Window::new(mss);
        let mut bbr = Bbr {
            window,
            state: State::Startup,
            random: 1,
            pacing_rate: 0,
            has_rtt: false,
            delivered: 0,
            rounds: Rounds::default(),
            max_bw: MaxBw::default(),
            bw: 0,
            short_term: ShortTerm::INFINITE,
            inflight_longterm: INFINITE,
            losses: Losses::default(),
            background: Background::default(),
            aggregation: Aggregation::default(),
            full_pipe: FullPipe::default(),
            cycle: Cycle::default(),
            min_rtt: MinRtt::default(),
            prior_cwnd: 0,
            in_recovery: false,
            undo_state: None,
            idle_restart: false,
        };
        bbr.init_pacing_rate(RTT_UNKNOWN);
        bbr
    }

    pub(super) fn seed(&mut self, seed: u32) {
        // Zero is the one state that xorshift does not leave.
        self.random = seed.max(1);
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    pub(super) fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    pub(super) fn is_probing_rtt(&self) -> bool {
        self.state == State::ProbeRtt
    }

    /// HandleRestartFromIdle.
    pub(super) fn on_sent(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        if in_flight > 0 {
            return;
        }
        // Losses of this flight are found before its first ACK is looked at.
        self.cycle.now = now;
        if !app_limited {
            return;
        }
        self.idle_restart = true;
        self.aggregation.restart(now);
        if self.is_in_probe_bw() {
            self.set_pacing_rate(100);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    /// Nothing was sent for longer than the RTO. Who rested in between must not fare otherwise than who did not.
    pub(super) fn on_idle_restart(&mut self) {
        if let Some(resting) = self.rest() {
            let segments = self.window.slow_start_segments;
            *self = resting.wake(self.window.mss, self.delivered);
            self.window.slow_start_segments = segments;
        }
    }

    /// UpdateOnACK: the order is the draft's.
    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        if ack.delivered_bytes == 0 {
            return;
        }
        self.delivered = ack.delivered_total;
        if !self.has_rtt
            && let Some(srtt) = ack.srtt
        {
            self.has_rtt = true;
            self.init_pacing_rate(srtt);
        }
        self.update_latest_delivery_signals(ack);
        self.update_congestion_signals(ack);
        self.update_background(ack);
        self.update_ack_aggregation(ack);
        self.check_full_bw_reached(ack);
        self.check_startup_done(ack);
        self.check_drain_done(ack);
        self.update_probe_bw_cycle_phase(ack);
        self.update_min_rtt(ack);
        self.check_probe_rtt(ack);
        self.advance_latest_delivery_signals(ack);
        self.bound_bw_for_model();
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_cwnd(ack.delivered_bytes);
    }

    /// HandleLostPacket.
    pub(super) fn on_loss(&mut self, loss: &LossSample) {
        self.note_loss();
        self.background.on_loss(loss.bytes);
        if self.cycle.is_probe_sample && self.is_too_high(loss.lost_since, loss.in_flight) {
            let inflight = self.inflight_at_loss(loss);
            self.handle_inflight_too_high(inflight, loss.app_limited);
        }
    }

    /// OnEnterFastRecovery.
    pub(super) fn on_congestion(&mut self) {
        self.save_cwnd();
        self.in_recovery = true;
    }

    /// OnEnterRTO. Nothing that was outstanding counts as in flight any more.
    pub(super) fn on_rto(&mut self) {
        self.save_cwnd();
        self.in_recovery = true;
        self.window.set_cwnd(u64::from(self.window.mss));
    }

    /// The last known good window is back, within the bounds of the model.
    pub(super) fn on_recovery_end(&mut self) {
        self.in_recovery = false;
        self.restore_cwnd();
        self.bound_cwnd();
    }

    /// HandleSpuriousLossDetection.
    pub(super) fn undo(&mut self, before: &Bbr) {
        self.window.cwnd = self.window.cwnd.max(before.window.cwnd);
        self.losses.in_round = false;
        self.full_pipe.reset();
        self.short_term.raise_to(&before.short_term);
        self.inflight_longterm = self.inflight_longterm.max(before.inflight_longterm);
        match self.undo_state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_pipe.reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::ProbeBwUp)
                if self.state != State::ProbeBwUp && self.state != State::ProbeRtt =>
            {
                self.start_probe_bw_refill();
            }
            _ => {}
        }
    }

    fn init_pacing_rate(&mut self, rtt: Duration) {
        let nominal = rate(u64::from(initial_window(self.window.mss)), rtt);
        self.pacing_rate = Rate::new(percent(nominal, startup::PACING_GAIN)).get();
    }

    /// SetPacingRateWithGain: until the pipe was full once, the rate only rises.
    fn set_pacing_rate(&mut self, gain: u64) {
        let rate = percent(percent(self.bw, gain), PACING_MARGIN);
        if rate > 0 && (self.full_pipe.reached || rate > self.pacing_rate) {
            self.pacing_rate = Rate::new(rate).get();
        }
    }

    /// SetCwnd.
    fn set_cwnd(&mut self, newly_acked: u32) {
        let cwnd = u64::from(self.window.cwnd);
        let grown = cwnd + u64::from(newly_acked);
        let max_inflight = self.max_inflight();
        if self.full_pipe.reached {
            self.window.set_cwnd(grown.min(max_inflight));
        } else if cwnd < max_inflight || self.delivered < u64::from(initial_window(self.window.mss))
        {
            self.window.set_cwnd(grown);
        }
        self.bound_cwnd();
    }

    /// BoundCwndForProbeRTT and BoundCwndForModel.
    fn bound_cwnd(&mut self) {
        let mut cwnd = u64::from(self.window.cwnd).max(self.min_pipe_cwnd());
        if self.state == State::ProbeRtt {
            cwnd = cwnd.min(self.min_rtt.probe_cwnd.max(self.min_pipe_cwnd()));
        }
        let cap = match self.state {
            State::ProbeBwDown | State::ProbeBwRefill | State::ProbeBwUp => self.inflight_longterm,
            State::ProbeRtt | State::ProbeBwCruise => self.inflight_with_headroom(),
            State::Startup | State::Drain => INFINITE,
        };
        let cap = cap.min(self.short_term.inflight).max(self.min_pipe_cwnd());
        self.window.set_cwnd(cwnd.min(cap));
    }

    /// BDPMultiple.
    fn bdp_multiple(&self, bw: u64, gain: u64) -> u64 {
        match self.min_rtt.value {
            None => u64::from(initial_window(self.window.mss)),
            Some(min_rtt) => percent(volume(bw, min_rtt), gain),
        }
    }

    /// QuantizationBudget.
    fn quantize(&self, inflight: u64) -> u64 {
        let quantum = volume(self.pacing_rate, Duration::from_millis(1))
            .min(SEND_QUANTUM_MAX)
            .max(2 * u64::from(self.window.mss));
        let inflight = inflight
            .max(OFFLOAD_QUANTA * quantum)
            .max(self.min_pipe_cwnd());
        if self.state == State::ProbeBwUp {
            inflight.saturating_add(2 * u64::from(self.window.mss))
        } else {
            inflight
        }
    }

    /// UpdateMaxInflight.
    fn max_inflight(&self) -> u64 {
        let bdp = self.bdp_multiple(self.bw, self.state.cwnd_gain());
        self.quantize(bdp.saturating_add(self.aggregation.extra_acked()))
    }

    /// Inflight(1.0) at `bw`.
    fn inflight(&self, bw: u64) -> u64 {
        self.quantize(self.bdp_multiple(bw, 100))
    }

    fn is_too_high(&self, lost: u64, in_flight: u64) -> bool {
        self.is_too_high_beside(self.background_of(in_flight), lost, in_flight)
    }

    /// The same where the path loses `background` of this flight by itself. Behind a queue that others fill any loss is
    /// too much: see [`background`].
    fn is_too_high_beside(&self, background: u64, lost: u64, in_flight: u64) -> bool {
        if self.is_queue_shared() {
            return lost > 0;
        }
        // Half as much again: of six losses that are to be expected nine are no surprise.
        let excused = background * 3 / 2;
        let chance = losses_by_chance(in_flight, self.window.mss);
        is_inflight_too_high(lost.saturating_sub(excused), in_flight, chance)
    }

    /// InflightAtLoss: the flight at which losses passed 2 % and those of the background, somewhere in the lost bytes.
    fn inflight_at_loss(&self, loss: &LossSample) -> u64 {
        if self.is_queue_shared() {
            return loss.in_flight;
        }
        let size = u64::from(loss.bytes);
        let inflight_before = loss.in_flight.saturating_sub(size);
        let lost_before = loss.lost_since.saturating_sub(size);
        let lost_before = lost_before.saturating_sub(self.background_of(inflight_before));
        // (2 % of inflight_before - lost_before) / 98 %.
        let lost_prefix = inflight_before.saturating_sub(lost_before.saturating_mul(50)) / 49;
        inflight_before + lost_prefix
    }

    fn min_pipe_cwnd(&self) -> u64 {
        MIN_PIPE_SEGMENTS * u64::from(self.window.mss)
    }

    fn save_cwnd(&mut self) {
        let cwnd = self.window.cwnd;
        self.prior_cwnd = if self.in_recovery || self.state == State::ProbeRtt {
            self.prior_cwnd.max(cwnd)
        } else {
            cwnd
        };
    }

    fn restore_cwnd(&mut self) {
        self.window.cwnd = self.window.cwnd.max(self.prior_cwnd);
    }

    /// xorshift32 (Marsaglia 2003): probes have to be out of step, not unpredictable.
    fn next_random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// IsInflightTooHigh: more than BBR.LossThresh, 2 %, of a flight was lost, and more than by `chance`.
fn is_inflight_too_high(lost: u64, in_flight: u64, chance: u64) -> bool {
    lost > (in_flight / 50).max(chance)
}

/// What a flight may lose without saying anything: six segments (BBRStartupFullLossCnt, which guards Startup against the
/// same). Of a flight of 170 segments 1 % of random loss takes four once in eleven rounds, and with each of these the
/// flow would give up a seventh of its window. A tenth of a smaller flight is no accident.
fn losses_by_chance(in_flight: u64, mss: u32) -> u64 {
    (LOSSES_BY_CHANCE * u64::from(mss)).min(in_flight / 10)
}

fn percent(value: u64, gain: u64) -> u64 {
    value.saturating_mul(gain) / 100
}

/// Bytes that `rate` carries in `time`, at most what any window can be.
fn volume(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes)
        .unwrap_or(u64::MAX)
        .min(u64::from(CWND_MAX))
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
