//! Reno congestion avoidance (RFC 5681 3.1) with byte counting (RFC 3465 2.1).
//!
//! The window grows by one SMSS for each window of acknowledged bytes and is halved by a loss. The "New"
//! of RFC 6582, staying in recovery over partial ACKs, is the caller's: here a congestion event is one call.

use super::rest::RestingReno;
use super::{AckSample, Window};

/// beta: a loss leaves half of the flight (RFC 5681 3.1, equation 4).
const BETA: (u32, u32) = (1, 2);
/// beta_ecn: a mark comes from a queue that is kept short, and costs less (RFC 8511 3.1).
const BETA_ECN: (u32, u32) = (4, 5);

/// State of one NewReno flow.
#[derive(Clone, Copy, Debug)]
pub struct NewReno {
    pub(super) window: Window,
    /// Acknowledged in congestion avoidance since the last growth; below `cwnd`.
    bytes_acked: u32,
}

impl NewReno {
    pub(super) fn new(mss: u32) -> NewReno {
        NewReno {
            window: Window::new(mss),
            bytes_acked: 0,
        }
    }

    pub(super) fn rest(&self) -> RestingReno {
        RestingReno {
            window: self.window.rest(),
            bytes_acked: self.bytes_acked,
        }
    }

    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        if ack.recovering {
            return;
        }
        if ack.cwnd_limited {
            if self.window.in_slow_start() {
                self.window.slow_start(ack, 1);
            } else {
                self.avoid_congestion(ack.acked_bytes);
            }
        }
        self.window.count_repair(ack.acked_bytes);
    }

    pub(super) fn on_congestion(&mut self, in_flight: u32) {
        self.window.enter_recovery(in_flight, BETA);
        self.bytes_acked = 0;
    }

    pub(super) fn on_ecn_echo(&mut self, in_flight: u32) {
        self.window.enter_recovery(in_flight, BETA_ECN);
        self.bytes_acked = 0;
    }

    pub(super) fn on_rto(&mut self, in_flight: u32, first_of_episode: bool) {
        self.window.collapse(in_flight, first_of_episode, BETA);
        self.bytes_acked = 0;
    }

    /// `cwnd = ssthresh = bytes`, but at least two segments.
    pub(super) fn reduce_to(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.window.enter_recovery(bytes, (1, 1));
        self.bytes_acked = 0;
    }

    fn avoid_congestion(&mut self, acked_bytes: u32) {
        let cwnd = self.window.cwnd;
        let bytes_acked = self.bytes_acked.saturating_add(acked_bytes);
        if bytes_acked < cwnd {
            self.bytes_acked = bytes_acked;
            return;
        }
        // One SMSS per ACK at most, and never a second one on credit.
        self.bytes_acked = (bytes_acked - cwnd).min(cwnd - 1);
        self.window
            .set_cwnd(u64::from(cwnd) + u64::from(self.window.mss));
    }
}

impl RestingReno {
    pub(super) fn wake(&self, smss: u32) -> NewReno {
        NewReno {
            window: self.window.wake(smss),
            bytes_acked: self.bytes_acked,
        }
    }
}
