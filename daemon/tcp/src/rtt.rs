//! Round-trip time and the retransmission timeout (RFC 6298).
//!
//! Decides how long to wait for an acknowledgment: `RTO = SRTT + max(G, 4 * RTTVAR)`, within a floor and a
//! ceiling, doubled by every expiry. Invariant: `min <= rto() <= max`, whatever the samples were. Which
//! segments may be sampled (Karn's rule, or timestamps), and when the timer runs, is left to the caller.
//! All state is integer nanoseconds; shifts replace the divisions of the formulas.

use core::time::Duration;

mod rest;
mod windowed_min;

pub(crate) use rest::RestingRtt;
use windowed_min::WindowedMin;

use crate::clock::Instant;

/// What to use after a SYN or SYN-ACK was repeated, until the first sample (RFC 6298 5.7).
const RTO_AFTER_HANDSHAKE_LOSS: Duration = Duration::from_secs(3);

/// Bounds of the retransmission timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtoConfig {
    /// RTO before the first sample: 1 s (RFC 6298 2.1).
    pub initial: Duration,
    /// Floor of the RTO. RFC 6298 2.4 says 1 s; 200 ms is what Linux uses and what peers are used to.
    pub min: Duration,
    /// Ceiling of the RTO, also when backed off; at least 60 s (RFC 6298 2.5).
    pub max: Duration,
    /// G: the least that the variance term adds to SRTT (RFC 6298 2.3).
    ///
    /// The RFC means the grain of the clock. On a steady path RTTVAR decays to nothing, and SRTT plus a
    /// grain of 128 us would fire on the first ACK that the peer delays by its 40 ms; so, like Linux, the
    /// default is the 200 ms of the floor.
    pub granularity: Duration,
}

impl RtoConfig {
    /// With another floor. G goes with it: an RTO of `SRTT + G` would never come near a floor below G. So does the first
    /// RTO where it is lower, that of SYN-ACKs too.
    #[must_use]
    pub fn with_min(self, min: Duration) -> RtoConfig {
        RtoConfig {
            initial: self.initial.max(min),
            min,
            granularity: min,
            ..self
        }
    }
}

impl Default for RtoConfig {
    fn default() -> Self {
        RtoConfig {
            initial: Duration::from_secs(1),
            min: Duration::from_millis(200),
            max: Duration::from_secs(60),
            granularity: Duration::from_millis(200),
        }
    }
}

/// Smoothed round-trip time, its variation, and the timeout that follows from them.
#[derive(Clone, Copy, Debug)]
pub struct RttEstimator {
    srtt_ns: u64,
    rttvar_ns: u64,
    min_rtt: WindowedMin,
    latest_ns: u64,
    /// Base RTO before back-off, within the configured bounds.
    base_rto_ns: u64,
    has_sample: bool,
    back_offs: u32,
    initial_ns: u64,
    min_ns: u64,
    max_ns: u64,
    granularity_ns: u64,
}

impl RttEstimator {
    /// An estimator without any sample yet. A `max` below `min` counts as `min`.
    #[must_use]
    pub fn new(config: RtoConfig) -> RttEstimator {
        let min_ns = nanos(config.min);
        let max_ns = nanos(config.max).max(min_ns);
        let initial_ns = nanos(config.initial).clamp(min_ns, max_ns);
        RttEstimator {
            srtt_ns: 0,
            rttvar_ns: 0,
            min_rtt: WindowedMin::new(),
            latest_ns: 0,
            base_rto_ns: initial_ns,
            has_sample: false,
            back_offs: 0,
            initial_ns,
            min_ns,
            max_ns,
            granularity_ns: nanos(config.granularity),
        }
    }

    /// Takes one measurement, made `now` (RFC 6298 2.2 for the first, 2.3 for the others), and ends any back-off: a
    /// sample means that new data went through (RFC 6298 5, note after 5.7).
    ///
    /// The caller guarantees that the measured segment was not ambiguous: not retransmitted (Karn), or
    /// identified by its timestamp.
    pub fn sample(&mut self, now: Instant, rtt: Duration) {
        let rtt_ns = nanos(rtt);
        if self.has_sample {
            // RTTVAR first, with the old SRTT. beta = 1/4, alpha = 1/8.
            self.rttvar_ns =
                self.rttvar_ns - self.rttvar_ns / 4 + self.srtt_ns.abs_diff(rtt_ns) / 4;
            self.srtt_ns = self.srtt_ns - self.srtt_ns / 8 + rtt_ns / 8;
        } else {
            self.srtt_ns = rtt_ns;
            self.rttvar_ns = rtt_ns / 2;
            self.has_sample = true;
        }
        self.latest_ns = rtt_ns;
        self.min_rtt.observe(now, rtt_ns);
        self.update_rto();
        self.back_offs = 0;
    }

    /// A round trip beside those that are sampled: one for every acknowledgement.
    ///
    /// SRTT follows each of them, as in Linux: slow start doubles a queue within one round trip, and with one
    /// sample per round trip SRTT would be half a second behind it, and with it pacing, loss probes and the
    /// reordering window. RTTVAR does not: with so many samples it would forget within a round trip (RFC 7323
    /// appendix G).
    pub fn observe(&mut self, now: Instant, rtt: Duration) {
        let rtt_ns = nanos(rtt);
        self.min_rtt.observe(now, rtt_ns);
        // One that was sampled a moment ago counts once.
        if self.has_sample && rtt_ns != self.latest_ns {
            self.srtt_ns = self.srtt_ns - self.srtt_ns / 8 + rtt_ns / 8;
            self.update_rto();
        }
    }

    /// A round trip that may be the smallest so far, and says nothing else: without SACK what arrived behind a hole is
    /// acknowledged when the hole is filled.
    pub fn observe_least(&mut self, now: Instant, rtt: Duration) {
        self.min_rtt.observe(now, nanos(rtt));
    }

    fn update_rto(&mut self) {
        self.base_rto_ns = self.computed_rto_ns();
    }

    /// What the samples make of it, or the configuration while there is none.
    fn computed_rto_ns(&self) -> u64 {
        if !self.has_sample {
            return self.initial_ns;
        }
        let variance_ns = self.rttvar_ns.saturating_mul(4).max(self.granularity_ns);
        self.srtt_ns
            .saturating_add(variance_ns)
            .clamp(self.min_ns, self.max_ns)
    }

    /// A span that is short against a round trip: a 32nd of SRTT; zero before the first sample.
    #[must_use]
    pub fn grain(&self) -> Duration {
        Duration::from_nanos(self.srtt_ns / 32)
    }

    /// The timeout to arm now, back-off included.
    #[must_use]
    pub fn rto(&self) -> Duration {
        let factor = 1u64.checked_shl(self.back_offs).unwrap_or(u64::MAX);
        Duration::from_nanos(self.base_rto_ns.saturating_mul(factor).min(self.max_ns))
    }

    /// The same without the back-off.
    #[must_use]
    pub fn base_rto(&self) -> Duration {
        Duration::from_nanos(self.base_rto_ns)
    }

    /// The timer expired: double the timeout (RFC 6298 5.5).
    pub fn back_off(&mut self) {
        self.back_offs = self.back_offs.saturating_add(1);
    }

    /// New data was acknowledged: back to the computed timeout, even if the segment gave no sample.
    ///
    /// RFC 6298 waits for a sample; without timestamps Karn's rule could hold that off for a whole lossy
    /// window, each loss costing a maximal timeout. Linux does the same.
    pub fn reset_back_off(&mut self) {
        self.back_offs = 0;
    }

    /// How often the timeout was doubled since the last progress.
    #[must_use]
    pub fn back_offs(&self) -> u32 {
        self.back_offs
    }

    /// The handshake needed a retransmission: start the data phase with 3 s (RFC 6298 5.7). Lasts until
    /// the next sample; a larger computed RTO stays.
    pub fn handshake_was_retransmitted(&mut self) {
        let floor_ns = nanos(RTO_AFTER_HANDSHAKE_LOSS).min(self.max_ns);
        self.base_rto_ns = self.base_rto_ns.max(floor_ns);
        self.back_offs = 0;
    }

    /// Smoothed round-trip time; `None` before the first sample.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        self.sampled(self.srtt_ns)
    }

    /// Round-trip time variation; `None` before the first sample.
    #[must_use]
    pub fn rttvar(&self) -> Option<Duration> {
        self.sampled(self.rttvar_ns)
    }

    /// The smallest sample of the last two and a half to five minutes with samples (RFC 8985 section 6.2); `None`
    /// before the first sample.
    #[must_use]
    pub fn min_rtt(&self) -> Option<Duration> {
        self.sampled(self.min_rtt.get())
    }

    /// The newest sample; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Duration> {
        self.sampled(self.latest_ns)
    }

    fn sampled(&self, value_ns: u64) -> Option<Duration> {
        self.has_sample.then(|| Duration::from_nanos(value_ns))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
