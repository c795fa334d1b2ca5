//! What all algorithms share: the window itself, slow start, and what RFC 5681 does to both.

use super::{AckSample, CWND_MAX};

/// L of RFC 3465 2.2: slow start takes at most this many SMSS from one ACK, so that an ACK for a lot of
/// data does not let out a burst of the same size.
const SLOW_START_SEGMENTS_PER_ACK: u32 = 2;

/// Initial window: ten segments, but not more than 14,600 bytes of large ones (RFC 6928 2).
pub(crate) fn initial_window(mss: u32) -> u32 {
    mss.saturating_mul(10)
        .min(14_600.max(mss.saturating_mul(2)))
}

/// `cwnd` and `ssthresh` in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub mss: u32,
    pub cwnd: u32,
    pub ssthresh: u32,
    pub slow_start_segments: u32,
    /// Bytes that were outstanding at the last RTO and are not yet acknowledged since.
    pub repair_bytes: u32,
}

impl Window {
    pub(super) fn new(mss: u32) -> Window {
        let mss = mss.clamp(1, CWND_MAX / 16);
        Window {
            mss,
            cwnd: initial_window(mss),
            ssthresh: u32::MAX,
            slow_start_segments: SLOW_START_SEGMENTS_PER_ACK,
            repair_bytes: 0,
        }
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// In the slow start of a new connection: nothing is known of the path yet.
    pub(super) fn in_initial_slow_start(&self) -> bool {
        self.ssthresh == u32::MAX
    }

    pub(super) fn set_cwnd(&mut self, bytes: u64) {
        let bytes = bytes.clamp(u64::from(self.mss), u64::from(CWND_MAX));
        self.cwnd = u32::try_from(bytes).unwrap_or(CWND_MAX);
    }

    /// RFC 3465 2.2, 2.3: by acknowledged bytes, at most L * SMSS per ACK, and not beyond `ssthresh`. An ACK that
    /// stands for others has the share of each. `divisor` is 1, or CSS_GROWTH_DIVISOR of RFC 9406.
    pub(super) fn slow_start(&mut self, ack: &AckSample, divisor: u32) {
        // While the losses of an RTO are repaired, one ACK can cover much that was received long before
        // and says nothing about the path now: L = 1.
        let segments = if self.repair_bytes > 0 {
            1
        } else {
            self.slow_start_segments
        };
        let most = segments
            .saturating_mul(1 + ack.merged)
            .saturating_mul(self.mss);
        let growth = ack.acked_bytes.min(most) / divisor;
        self.set_cwnd(u64::from(
            self.cwnd.saturating_add(growth).min(self.ssthresh),
        ));
    }

    /// Called for each ACK of new data, whether the window may grow or not.
    pub(super) fn count_repair(&mut self, acked_bytes: u32) {
        self.repair_bytes = self.repair_bytes.saturating_sub(acked_bytes);
    }

    /// RFC 5681 3.1 (equation 4) and RFC 9438 4.6: a fraction of the flight, at least two segments.
    pub(super) fn lower_ssthresh(&mut self, in_flight: u32, (numerator, denominator): (u32, u32)) {
        let share = u64::from(in_flight) * u64::from(numerator) / u64::from(denominator);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        self.ssthresh = share.max(self.mss.saturating_mul(2));
    }

    pub(super) fn enter_recovery(&mut self, in_flight: u32, factor: (u32, u32)) {
        self.lower_ssthresh(in_flight, factor);
        self.set_cwnd(u64::from(self.ssthresh));
    }

    pub(super) fn collapse(&mut self, in_flight: u32, first_of_episode: bool, factor: (u32, u32)) {
        if first_of_episode {
            self.lower_ssthresh(in_flight, factor);
            self.repair_bytes = in_flight;
        }
        self.cwnd = self.mss;
    }

    pub(super) fn restart_after_idle(&mut self) {
        self.remember_most();
        self.cwnd = self.cwnd.min(initial_window(self.mss));
    }

    /// The end of a non-validated period (RFC 7661 4.4.3).
    pub(super) fn halve_unvalidated(&mut self) {
        let floor = self.cwnd.min(initial_window(self.mss));
        self.ssthresh = self.ssthresh.max(three_quarters(self.cwnd));
        self.cwnd = (self.cwnd / 2).max(floor);
    }

    /// `ssthresh` keeps three quarters of the window, so that slow start brings most of it back.
    fn remember_most(&mut self) {
        if !self.in_initial_slow_start() {
            self.ssthresh = self.ssthresh.max(three_quarters(self.cwnd));
        }
    }
}

fn three_quarters(cwnd: u32) -> u32 {
    cwnd / 4 * 3
}
