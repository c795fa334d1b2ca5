//! The round-trip estimate of a connection at rest: see [`crate::rest`].

use super::windowed_min::WindowedMin;
use super::{RtoConfig, RttEstimator};
use crate::rest::ShortNanos;

/// An [`RttEstimator`] without its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingRtt {
    /// `u64::MAX` without a sample.
    srtt: ShortNanos,
    rttvar: ShortNanos,
    min_rtt: ShortNanos,
    /// The bucket of the minimum: 80 years of them, as bytes, so that none is lost to alignment.
    min_bucket: [u8; 3],
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
        let (min_rtt, bucket) = self.min_rtt.packed();
        let [low, middle, high, _] = bucket.to_le_bytes();
        Some(RestingRtt {
            srtt: ShortNanos::new(srtt_ns)?,
            rttvar: ShortNanos::new(self.rttvar_ns)?,
            min_rtt: ShortNanos::new(min_rtt)?,
            min_bucket: [low, middle, high],
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
        let [low, middle, high] = self.min_bucket;
        let bucket = u32::from_le_bytes([low, middle, high, 0]);
        RttEstimator {
            srtt_ns: if has_sample { srtt_ns } else { 0 },
            rttvar_ns: self.rttvar.get(),
            min_rtt: WindowedMin::unpacked(self.min_rtt.get(), bucket),
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
    #[test]
    fn nor_do_many() {
        // Samples and rests in turn, closer together than a bucket is long.
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let ms = Duration::from_millis;
        for every in [100, 140, 151, 160] {
            let mut estimator = RttEstimator::new(RtoConfig::default());
            estimator.sample(at(1000), ms(20));
            for round in 1..10 {
                estimator = estimator
                    .rest()
                    .expect("it fits")
                    .wake(RtoConfig::default());
                estimator.sample(at(1000 + round * every), ms(90));
                let age = round * every;
                let min = estimator.min_rtt().expect("it was sampled");
                assert!(age < 300 || min == ms(90), "{min:?} after {age} s");
                assert!(age > 150 || min == ms(20), "{min:?} after {age} s");
            }
        }
    }
}
