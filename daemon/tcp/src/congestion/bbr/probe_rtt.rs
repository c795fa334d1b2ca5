//! The shortest round trip, and ProbeRTT, which empties the queue to measure it again
//! (draft-ietf-ccwg-bbr, ProbeRTT).

use core::time::Duration;

use super::{AckSample, Bbr, ShortTerm, State};
use crate::clock::Instant;

/// BBR.MinRTTFilterLen, and BBR.ProbeRTTInterval, which the draft has at five seconds up to revision 06: half as many
/// pauses, as in version 1 and in the editors' text since, for a shortest round trip that is of one window and not of
/// two. All flows use the same, so that they empty a common queue together.
const MIN_RTT_FILTER_LEN: Duration = Duration::from_secs(10);
/// BBR.ProbeRTTDuration.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// BBR.ProbeRTTCwndGain.
pub(super) const PROBE_RTT_CWND_GAIN: u64 = 50;

/// BBR.min_rtt and the schedule of ProbeRTT that follows from its age.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MinRtt {
    /// BBR.min_rtt.
    pub value: Option<Duration>,
    pub stamp: Instant,
    pub expired: bool,
    /// BBR.probe_rtt_cwnd: from the estimate before it expired.
    pub probe_cwnd: u64,
    /// BBR.probe_rtt_done_stamp and BBR.probe_rtt_round_done.
    pub done_at: Option<Instant>,
    pub round_done: bool,
}

impl Bbr {
    pub(super) fn update_min_rtt(&mut self, ack: &AckSample) {
        let age = ack.now.saturating_since(self.min_rtt.stamp);
        self.min_rtt.expired = self.min_rtt.value.is_some() && age > MIN_RTT_FILTER_LEN;
        if self.min_rtt.expired && self.state != State::ProbeRtt {
            self.min_rtt.probe_cwnd = self
                .bdp_multiple(self.bw, PROBE_RTT_CWND_GAIN)
                .max(self.min_pipe_cwnd());
        }
        if let Some(rtt) = ack.rtt
            && (self.min_rtt.expired || self.min_rtt.value.is_none_or(|min_rtt| rtt < min_rtt))
        {
            self.min_rtt.value = Some(rtt);
            self.min_rtt.stamp = ack.now;
        }
    }

    pub(super) fn check_probe_rtt(&mut self, ack: &AckSample) {
        if self.state != State::ProbeRtt && self.min_rtt.expired && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.min_rtt.done_at = None;
            self.stop_probing(ack.now);
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(ack);
        }
        self.idle_restart = false;
    }

    /// That the samples of this time are application-limited the caller knows by
    /// [`super::super::Controller::holds_back`].
    fn handle_probe_rtt(&mut self, ack: &AckSample) {
        if self.min_rtt.done_at.is_none() {
            if u64::from(ack.in_flight) <= self.min_rtt.probe_cwnd {
                self.min_rtt.done_at = Some(ack.now + PROBE_RTT_DURATION);
                self.min_rtt.round_done = false;
                self.start_round();
            }
            return;
        }
        self.min_rtt.round_done |= self.rounds.start;
        if self.min_rtt.round_done {
            self.check_probe_rtt_done(ack.now);
        }
    }

    pub(super) fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.min_rtt.done_at.is_none_or(|done_at| now <= done_at) {
            return;
        }
        self.min_rtt.stamp = now;
        self.restore_cwnd();
        self.short_term = ShortTerm::INFINITE;
        if self.full_pipe.reached {
            self.enter_probe_bw(now);
            self.start_probe_bw_cruise();
        } else {
            self.enter_startup();
        }
    }
}
