//! Tail loss probe: what is lost at the end of a flight has nothing behind it that could prove the loss, so after
//! two quiet round trips one segment is sent to provoke an acknowledgement (RFC 8985 section 7).
//!
//! The probe is the next new segment, or else the last one again. One probe per tail; after it only the
//! retransmission timer is left. A probe that was the repair itself is a loss that nobody else noticed, and the
//! window is reduced for it.
//!
//! Beyond section 7.2 a fast recovery is probed as well, when all that is lost was sent again and then nothing is
//! heard: the repetition was lost, or its acknowledgement, and in a small window nothing follows that could tell
//! (RFC 9002 section 6.2 does the same for QUIC). Such a probe says nothing more about congestion.

use core::time::Duration;

/// What one segment in flight may wait longer, for the peer's delayed ACK (TLP.max_ack_delay).
const MAX_ACK_DELAY: Duration = Duration::from_millis(200);
/// PTO without a measured round trip (RFC 8985 section 7.2).
const PTO_WITHOUT_SRTT: Duration = Duration::from_secs(1);
/// Shortest PTO. Two round trips of a local network are less than the jitter of a busy host; Linux waits at
/// least two ticks of its clock.
const PTO_MIN: Duration = Duration::from_millis(2);

/// What an acknowledgement says about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeEnd {
    /// Nothing, or that all is well.
    Nothing,
    /// The probe filled the hole that it looked for: a loss, for congestion control.
    Repaired,
}

/// Probe state of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TailProbe {
    /// TLP.end_seq: SND.NXT after the probe that is not accounted for yet; 0 is none.
    end_seq: u64,
    /// TLP.is_retrans.
    is_retransmission: bool,
    /// No round trip was measured since the last probe.
    unsampled: bool,
    wanted: bool,
}

/// PTO (RFC 8985 section 7.2). `delayed`: what is in flight may wait for the peer's delayed ACK.
pub(crate) fn probe_timeout(srtt: Option<Duration>, delayed: bool) -> Duration {
    let Some(srtt) = srtt else {
        return PTO_WITHOUT_SRTT;
    };
    let pto = (srtt * 2).max(PTO_MIN);
    if delayed { pto + MAX_ACK_DELAY } else { pto }
}

impl TailProbe {
    /// Whether another probe may be sent: none is out, and the path was measured since the last (section 7.3).
    pub(crate) fn is_allowed(&self) -> bool {
        self.end_seq == 0 && !self.unsampled && !self.wanted
    }

    /// A repetition of the last segment whose end is `end_seq`, acknowledged and not accounted for.
    pub(crate) fn unaccounted(end_seq: u64, unsampled: bool) -> Self {
        TailProbe {
            end_seq,
            is_retransmission: true,
            unsampled,
            wanted: false,
        }
    }

    /// No round trip was measured since the last probe.
    pub(crate) fn is_unsampled(&self) -> bool {
        self.unsampled
    }

    /// Whether it is still to be seen what the last probe was good for.
    pub(crate) fn is_pending(&self) -> bool {
        self.end_seq != 0
    }

    pub(crate) fn on_rtt_sample(&mut self) {
        self.unsampled = false;
    }

    /// The probe timer fired.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether a probe is to be sent now; asked once.
    pub(crate) fn take_wanted(&mut self) -> bool {
        core::mem::take(&mut self.wanted)
    }

    /// A probe left; SND.NXT is then `snd_nxt`.
    pub(crate) fn on_sent(&mut self, snd_nxt: u64, is_retransmission: bool) {
        self.end_seq = snd_nxt;
        self.is_retransmission = is_retransmission;
        self.unsampled = true;
    }

    /// The probe is of no more interest: a recovery has taken over.
    pub(crate) fn abandon(&mut self) {
        self.end_seq = 0;
        self.wanted = false;
    }

    /// RFC 8985 section 7.4.2. `bare_duplicate`: a duplicate acknowledgement without SACK blocks;
    /// `dsack_end`: the end of its DSACK block.
    pub(crate) fn on_ack(
        &mut self,
        snd_una: u64,
        bare_duplicate: bool,
        dsack_end: Option<u64>,
    ) -> ProbeEnd {
        if self.end_seq == 0 || snd_una < self.end_seq {
            return ProbeEnd::Nothing;
        }
        let both_arrived = dsack_end == Some(self.end_seq) || bare_duplicate;
        if self.is_retransmission && !both_arrived && snd_una == self.end_seq {
            // The original or the probe: what comes next will tell.
            return ProbeEnd::Nothing;
        }
        let repaired = self.is_retransmission && !both_arrived;
        self.end_seq = 0;
        if repaired {
            ProbeEnd::Repaired
        } else {
            ProbeEnd::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn probed(is_retransmission: bool) -> TailProbe {
        let mut probe = TailProbe::default();
        probe.on_sent(5000, is_retransmission);
        probe
    }

    #[test]
    fn the_timeout_is_two_round_trips_and_more_for_a_single_segment() {
        // RFC 8985 section 7.2.
        assert_eq!(probe_timeout(Some(ms(50)), false), ms(100));
        assert_eq!(probe_timeout(Some(ms(50)), true), ms(300));
        assert_eq!(probe_timeout(None, false), ms(1000));
        assert_eq!(probe_timeout(Some(ms(0)), false), PTO_MIN);
    }

    #[test]
    fn there_is_one_probe_per_tail_and_per_measured_round_trip() {
        // RFC 8985 section 7.3.
        let mut probe = TailProbe::default();
        assert!(probe.is_allowed());
        probe.on_sent(5000, false);
        assert!(!probe.is_allowed());
        assert_eq!(probe.on_ack(5000, false, None), ProbeEnd::Nothing);
        assert!(!probe.is_allowed());
        probe.on_rtt_sample();
        assert!(probe.is_allowed());
    }

    #[test]
    fn a_probe_with_new_data_repairs_nothing() {
        // RFC 8985 section 7.4.1.
        let mut probe = probed(false);
        assert_eq!(probe.on_ack(5000, false, None), ProbeEnd::Nothing);
        assert_eq!(probe.on_ack(6000, false, None), ProbeEnd::Nothing);
    }

    #[test]
    fn a_probe_whose_original_arrived_too_is_no_loss() {
        // RFC 8985 section 7.4.1, cases 1 and 2.
        let mut probe = probed(true);
        assert_eq!(probe.on_ack(5000, false, Some(5000)), ProbeEnd::Nothing);
        assert_eq!(probe.on_ack(6000, false, None), ProbeEnd::Nothing);
        let mut probe = probed(true);
        assert_eq!(probe.on_ack(5000, false, None), ProbeEnd::Nothing);
        assert_eq!(probe.on_ack(5000, true, None), ProbeEnd::Nothing);
        assert_eq!(probe.on_ack(6000, false, None), ProbeEnd::Nothing);
    }

    #[test]
    fn a_probe_that_was_the_repair_is_reported_once() {
        // RFC 8985 section 7.4.2.
        let mut probe = probed(true);
        assert_eq!(probe.on_ack(4000, false, None), ProbeEnd::Nothing);
        assert_eq!(probe.on_ack(5000, false, None), ProbeEnd::Nothing);
        assert_eq!(probe.on_ack(6000, false, None), ProbeEnd::Repaired);
        assert_eq!(probe.on_ack(7000, false, None), ProbeEnd::Nothing);
    }
}
