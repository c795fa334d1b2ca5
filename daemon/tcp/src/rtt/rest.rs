//! The round-trip estimate of a connection at rest: see [`crate::rest`].

use super::{RtoConfig, RttEstimator};
use crate::rest::ShortNanos;

/// An [`RttEstimator`] without its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingRtt {
    /// `u64::MAX` without a sample.
    srtt: ShortNanos,
    rttvar: ShortNanos,
    min_rtt: ShortNanos,
    latest: ShortNanos,
    base_rto: ShortNanos,
    back_offs: u8,
}

impl RttEstimator {
    /// The packed form; `None` with a round trip beyond all use.
    pub(crate) fn rest(&self) -> Option<RestingRtt> {
        let srtt_ns = if self.has_sample {
            self.srtt_ns
        } else {
            u64::MAX
        };
        Some(RestingRtt {
            srtt: ShortNanos::new(srtt_ns)?,
            rttvar: ShortNanos::new(self.rttvar_ns)?,
            min_rtt: ShortNanos::new(self.min_rtt_ns)?,
            latest: ShortNanos::new(self.latest_ns)?,
            base_rto: ShortNanos::new(self.base_rto_ns)?,
            back_offs: u8::try_from(self.back_offs).ok()?,
        })
    }
}

impl RestingRtt {
    pub(crate) fn wake(&self, config: RtoConfig) -> RttEstimator {
        let srtt_ns = self.srtt.get();
        let has_sample = srtt_ns != u64::MAX;
        RttEstimator {
            srtt_ns: if has_sample { srtt_ns } else { 0 },
            rttvar_ns: self.rttvar.get(),
            min_rtt_ns: self.min_rtt.get(),
            latest_ns: self.latest.get(),
            base_rto_ns: self.base_rto.get(),
            has_sample,
            back_offs: self.back_offs.into(),
            ..RttEstimator::new(config)
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_round_trip_that_was_sampled_before_the_rest_counts_once_after_it() {
        let ms = Duration::from_millis;
        let mut awake = RttEstimator::new(RtoConfig::default());
        awake.sample(ms(20));
        awake.sample(ms(28));
        let rested = awake.rest().expect("it fits");
        let mut rested = rested.wake(RtoConfig::default());
        for estimator in [&mut awake, &mut rested] {
            estimator.observe(ms(28));
        }
        assert_eq!(awake.srtt(), Some(ms(21)));
        assert_eq!(rested.srtt(), awake.srtt());
    }

    #[test]
    fn without_a_sample_there_is_none_after_the_rest_either() {
        let mut fresh = RttEstimator::new(RtoConfig::default());
        fresh.handshake_was_retransmitted();
        fresh.observe_least(Duration::from_millis(3));
        let rested = fresh.rest().expect("it fits").wake(RtoConfig::default());
        assert_eq!(rested.srtt(), None);
        assert_eq!(rested.rto(), Duration::from_secs(3));
        assert_eq!(rested.min_rtt_ns, fresh.min_rtt_ns);
    }
}
