//! The round-trip estimate of a connection at rest: see [`crate::rest`].

use super::windowed_min::{NONE, WindowedMin};
use super::{RtoConfig, RttEstimator};
use crate::rest::ShortNanos;

/// Short against a bucket; in three bytes it lasts for eight years.
const BEGAN_UNIT_S: u32 = 16;

/// An [`RttEstimator`] without its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingRtt {
    /// `u64::MAX` without a sample.
    srtt: ShortNanos,
    rttvar: ShortNanos,
    min_rtt: ShortNanos,
    /// When the bucket of the minimum began, in units of [`BEGAN_UNIT_S`]; as bytes, so that none is lost to alignment.
    began: [u8; 3],
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
            // Of both buckets, as if the current one had it: it counts for one bucket more at most.
            min_rtt: ShortNanos::new(self.min_rtt.get())?,
            began: began_of(self.min_rtt.began_s),
            latest: ShortNanos::new(self.latest_ns)?,
            base_rto: ShortNanos::new(self.base_rto_ns)?,
            back_offs: u8::try_from(self.back_offs).ok()?,
        })
    }
}

fn began_of(began_s: u32) -> [u8; 3] {
    let [low, middle, high, _] = (began_s / BEGAN_UNIT_S).to_le_bytes();
    [low, middle, high]
}

impl RestingRtt {
    pub(crate) fn wake(&self, config: RtoConfig) -> RttEstimator {
        let srtt_ns = self.srtt.get();
        let has_sample = srtt_ns != u64::MAX;
        RttEstimator {
            srtt_ns: if has_sample { srtt_ns } else { 0 },
            rttvar_ns: self.rttvar.get(),
            min_rtt: WindowedMin {
                previous_ns: NONE,
                current_ns: self.min_rtt.get(),
                began_s: u32::from_le_bytes([self.began[0], self.began[1], self.began[2], 0])
                    * BEGAN_UNIT_S,
            },
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
    use crate::clock::Instant;

    #[test]
    fn a_round_trip_that_was_sampled_before_the_rest_counts_once_after_it() {
        let ms = Duration::from_millis;
        let mut awake = RttEstimator::new(RtoConfig::default());
        awake.sample(Instant::ZERO, ms(20));
        awake.sample(Instant::ZERO, ms(28));
        let rested = awake.rest().expect("it fits");
        let mut rested = rested.wake(RtoConfig::default());
        for estimator in [&mut awake, &mut rested] {
            estimator.observe(Instant::ZERO, ms(28));
        }
        assert_eq!(awake.srtt(), Some(ms(21)));
        assert_eq!(rested.srtt(), awake.srtt());
    }

    #[test]
    fn without_a_sample_there_is_none_after_the_rest_either() {
        let mut fresh = RttEstimator::new(RtoConfig::default());
        fresh.handshake_was_retransmitted();
        fresh.observe_least(Instant::ZERO, Duration::from_millis(3));
        let rested = fresh.rest().expect("it fits").wake(RtoConfig::default());
        assert_eq!(rested.srtt(), None);
        assert_eq!(rested.rto(), Duration::from_secs(3));
        assert_eq!(rested.min_rtt.get(), fresh.min_rtt.get());
    }

    #[test]
    fn a_rest_does_not_make_the_minimum_last() {
        // RFC 8985 section 6.2, step 1.
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let ms = Duration::from_millis;
        let mut awake = RttEstimator::new(RtoConfig::default());
        awake.sample(at(1000), ms(20));
        let rest = awake.rest().expect("it fits");
        for (later, min) in [(1100, 20), (1400, 90)] {
            let mut rested = rest.wake(RtoConfig::default());
            assert_eq!(rested.min_rtt(), Some(ms(20)));
            rested.sample(at(later), ms(90));
            assert_eq!(rested.min_rtt(), Some(ms(min)));
        }
    }
}
