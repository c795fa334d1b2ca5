//! CUBIC (RFC 9438): in congestion avoidance the window follows a cubic curve of the time since the last
//! reduction, flat around the window at which the loss happened, and independent of the round-trip time.
//!
//! `W_cubic(t) = C * (t - K)^3 + W_max`. Windows are bytes here, so C is multiplied by SMSS. All arithmetic
//! is integer: time counts in units of 2^-16 s, the cube is 128 bits wide, and the cube root is taken once
//! per epoch: a golden simulation table must not depend on the `cbrt` of a platform. Where the curve is below
//! what Reno would have, the window follows the estimate of Reno (the Reno-friendly region, section 4.3).

use core::time::Duration;

use super::hystart::{HyStart, Pace};
use super::{AckSample, Window};
use crate::clock::Instant;

/// beta_cubic = 0.7 (RFC 9438 4.6).
const BETA: (u32, u32) = (7, 10);
/// beta_ecn = 0.85: a mark comes from a queue that is kept short, and costs less (RFC 8511 3.1).
const BETA_ECN: (u32, u32) = (17, 20);
/// (1 + beta_cubic) / 2 = 0.85: fast convergence (RFC 9438 4.7).
const FAST_CONVERGENCE: (u64, u64) = (17, 20);
/// C = 0.4 segments per cubic second (RFC 9438 5.1).
const C: (u64, u64) = (2, 5);
/// alpha_cubic = 3 * (1 - beta) / (1 + beta) = 9/17 (RFC 9438 4.3), over the denominator ALPHA_UNIT.
const ALPHA_CUBIC: u64 = 9;
/// alpha = 1 over the same denominator, and that denominator.
const ALPHA_UNIT: u64 = 17;
/// Fractional bits of a second in [`Time`].
const TIME_BITS: u32 = 16;
/// Longest time the curve is evaluated for: 512 s past K it is above 5 * 10^7 segments.
const TIME_MAX: u64 = 512 << TIME_BITS;

/// State of one CUBIC flow.
#[derive(Clone, Copy, Debug)]
pub struct Cubic {
    pub(super) window: Window,
    /// W_max: where the curve has its plateau. 0 if unknown: the next epoch puts it where it begins.
    pub(super) w_max: u32,
    /// cwnd_prior: `cwnd` before the last reduction.
    pub(super) cwnd_prior: u32,
    pub(super) epoch: Option<Epoch>,
    pub(super) hystart: HyStart,
}

/// One stage of congestion avoidance: from its first ACK to the next reduction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    /// t = 0, moved forward by the pauses in which `cwnd` did not limit the flow.
    start: Instant,
    /// The newest ACK that moved the window along the curve.
    last_ack: Instant,
    /// ACKs have come since `last_ack` that found the flow limited by something else than `cwnd`.
    paused: bool,
    /// K.
    k: Time,
    /// W_est: what Reno would have by now, in bytes.
    w_est: u64,
    /// Remainders of the divisions behind `w_est` and `cwnd`: small ACKs on large windows must count.
    w_est_rest: u64,
    cwnd_rest: u64,
}

/// A span of time in units of 2^-16 s.
type Time = u64;

impl Cubic {
    pub(super) fn new(mss: u32) -> Cubic {
        Cubic {
            window: Window::new(mss),
            w_max: 0,
            cwnd_prior: 0,
            epoch: None,
            hystart: HyStart::new(),
        }
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        if ack.recovering {
            return;
        }
        let divisor = self.slow_start_divisor(ack);
        if ack.cwnd_limited {
            if self.window.in_slow_start() {
                self.window.slow_start(ack, divisor);
            } else {
                self.avoid_congestion(ack);
            }
        } else if let Some(epoch) = &mut self.epoch {
            epoch.paused = true;
        }
        self.window.count_repair(ack.acked_bytes);
    }

    /// HyStart++ in the initial slow start, which it may end.
    fn slow_start_divisor(&mut self, ack: &AckSample) -> u32 {
        if !self.window.in_initial_slow_start() {
            return 1;
        }
        match self.hystart.on_ack(ack) {
            Pace::SlowStart { divisor } => divisor,
            Pace::Over => {
                self.window.ssthresh = self.window.cwnd;
                1
            }
        }
    }

    pub(super) fn on_congestion(&mut self, in_flight: u32) {
        self.remember_reduction();
        self.window.enter_recovery(in_flight, BETA);
    }

    pub(super) fn on_ecn_echo(&mut self, in_flight: u32) {
        self.remember_reduction();
        self.window.enter_recovery(in_flight, BETA_ECN);
    }

    /// RFC 9438 4.8: the first epoch after a timeout has K = 0 and its plateau where it begins.
    pub(super) fn on_rto(&mut self, in_flight: u32, first_of_episode: bool) {
        if first_of_episode {
            self.remember_reduction();
        }
        self.w_max = 0;
        self.epoch = None;
        self.window.collapse(in_flight, first_of_episode, BETA);
    }

    pub(super) fn on_idle_restart(&mut self) {
        self.window.restart_after_idle();
        self.epoch = None;
    }

    pub(super) fn on_unvalidated(&mut self) {
        self.window.halve_unvalidated();
        self.epoch = None;
    }

    /// RFC 9438 4.6, 4.7. A flow whose window shrinks from loss to loss makes room for newcomers faster.
    fn remember_reduction(&mut self) {
        let cwnd = self.window.cwnd;
        self.cwnd_prior = cwnd;
        self.w_max = if cwnd < self.w_max {
            let (numerator, denominator) = FAST_CONVERGENCE;
            // Smaller than `cwnd`, so it fits.
            u32::try_from(u64::from(cwnd) * numerator / denominator).unwrap_or(cwnd)
        } else {
            cwnd
        };
        self.epoch = None;
    }

    /// RFC 9438 4.2 to 4.5.
    fn avoid_congestion(&mut self, ack: &AckSample) {
        let mut epoch = self.epoch.unwrap_or_else(|| self.begin_epoch(ack.now));
        epoch.resume(ack.now);
        let cwnd = u64::from(self.window.cwnd);
        // More than a window cannot have been earned by one window; cwnd would overshoot its target.
        let acked = u64::from(ack.acked_bytes).min(cwnd);
        let t = time(ack.now.saturating_since(epoch.start));
        let grown =
            if self.curve(epoch.k, t) < epoch.grow_w_est(acked, &self.window, self.cwnd_prior) {
                // Reno-friendly region (4.3). An ACK never shrinks the window.
                epoch.w_est.max(cwnd)
            } else {
                let rtt = time(ack.srtt.unwrap_or_default());
                let target = self.curve(epoch.k, t + rtt).clamp(cwnd, cwnd + cwnd / 2);
                // cwnd += (target - cwnd) / cwnd for each acknowledged segment, in bytes.
                let earned = (target - cwnd) * acked + epoch.cwnd_rest;
                epoch.cwnd_rest = earned % cwnd;
                cwnd + earned / cwnd
            };
        self.window.set_cwnd(grown);
        self.epoch = Some(epoch);
    }

    /// The first ACK in congestion avoidance: fixes W_max, K and W_est (4.2, 4.3; 4.8 and 4.10 if the window
    /// is at or above W_max, or W_max is unknown).
    fn begin_epoch(&mut self, now: Instant) -> Epoch {
        let cwnd = self.window.cwnd;
        self.w_max = self.w_max.max(cwnd);
        // K = cbrt((W_max - cwnd_epoch) / (C * SMSS)).
        let (numerator, denominator) = C;
        let cube = (u128::from(self.w_max - cwnd) * u128::from(denominator)) << (3 * TIME_BITS);
        Epoch {
            start: now,
            last_ack: now,
            paused: false,
            k: cube_root(cube / (u128::from(numerator) * u128::from(self.window.mss))),
            w_est: u64::from(cwnd),
            w_est_rest: 0,
            cwnd_rest: 0,
        }
    }

    /// W_cubic(t) in bytes (equation 1).
    fn curve(&self, k: Time, t: Time) -> u64 {
        let (numerator, denominator) = C;
        let from_k = u128::from(t.abs_diff(k).min(TIME_MAX));
        // 25 bits of time cubed, 26 of SMSS: 102 bits, 54 after the shift.
        let scaled = from_k * from_k * from_k * u128::from(numerator) * u128::from(self.window.mss);
        let height = u64::try_from(scaled >> (3 * TIME_BITS)).unwrap_or(u64::MAX) / denominator;
        let w_max = u64::from(self.w_max);
        if t < k {
            w_max.saturating_sub(height)
        } else {
            w_max.saturating_add(height)
        }
    }
}

impl Epoch {
    /// RFC 9438 5.8: t must not include time in which cwnd was not in use.
    fn resume(&mut self, now: Instant) {
        if self.paused {
            self.start = self.start + now.saturating_since(self.last_ack);
            self.paused = false;
        }
        self.last_ack = now;
    }

    /// W_est += alpha * segments_acked / cwnd (equation 4), and returns it. alpha is alpha_cubic until the
    /// estimate reaches the window before the reduction, then 1.
    fn grow_w_est(&mut self, acked: u64, window: &Window, cwnd_prior: u32) -> u64 {
        let alpha = if self.w_est < u64::from(cwnd_prior) {
            ALPHA_CUBIC
        } else {
            ALPHA_UNIT
        };
        let divisor = ALPHA_UNIT * u64::from(window.cwnd);
        // 5 bits of alpha, 26 of SMSS, 30 of a window.
        let earned = alpha * u64::from(window.mss) * acked + self.w_est_rest;
        self.w_est_rest = earned % divisor;
        self.w_est += earned / divisor;
        self.w_est
    }
}

/// In units of 2^-16 s, at most 2,048 s: longer than any K of a window below 1 GiB.
fn time(duration: Duration) -> Time {
    const NANOS_MAX: u128 = 2_048 * 1_000_000_000;
    let nanos = u64::try_from(duration.as_nanos().min(NANOS_MAX)).unwrap_or(0);
    (nanos << TIME_BITS) / 1_000_000_000
}

/// The largest root with `root^3 <= cube`, bit by bit: 40 steps, once per epoch.
fn cube_root(cube: u128) -> u64 {
    let mut root = 0u64;
    for bit in (0..40).rev() {
        let candidate = u128::from(root | 1 << bit);
        if candidate * candidate * candidate <= cube {
            root |= 1 << bit;
        }
    }
    root
}

#[cfg(test)]
mod tests;
