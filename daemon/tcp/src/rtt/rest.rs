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
    /// Of the previous bucket and of the current one.
    min_rtt: [ShortNanos; 2],
    /// The number of the current bucket: 80 years of them, as bytes, so that none is lost to alignment.
    min_bucket: [u8; 3],
    latest: ShortNanos,
    /// With [`AFTER_HANDSHAKE_LOSS`].
    back_offs: u8,
}

/// In `back_offs`: the RTO is what a repeated handshake begins with, and nothing was sampled since.
const AFTER_HANDSHAKE_LOSS: u8 = 1 << 7;
/// Any more make no difference: the RTO has come to its ceiling long before.
const BACK_OFFS_MAX: u32 = 64;

impl RttEstimator {
    /// The packed form; `None` with a round trip beyond all use.
    pub(crate) fn rest(&self) -> Option<RestingRtt> {
        let srtt_ns = if self.has_sample {
            self.srtt_ns
        } else {
            u64::MAX
        };
        let (previous, current, bucket) = self.min_rtt.packed();
        let [low, middle, high, _] = bucket.to_le_bytes();
        Some(RestingRtt {
            srtt: ShortNanos::new(srtt_ns)?,
            rttvar: ShortNanos::new(self.rttvar_ns)?,
            min_rtt: [ShortNanos::new(previous)?, ShortNanos::new(current)?],
            min_bucket: [low, middle, high],
            latest: ShortNanos::new(self.latest_ns)?,
            back_offs: self.packed_back_offs()?,
        })
    }

    /// The RTO follows from the rest, but for what a repeated handshake has made of it.
    fn packed_back_offs(&self) -> Option<u8> {
        let back_offs = u8::try_from(self.back_offs.min(BACK_OFFS_MAX)).ok()?;
        let after_loss = self.base_rto_ns != self.computed_rto_ns();
        Some(back_offs | if after_loss { AFTER_HANDSHAKE_LOSS } else { 0 })
    }
}

impl RestingRtt {
    pub(crate) fn wake(&self, config: RtoConfig) -> RttEstimator {
        let srtt_ns = self.srtt.get();
        let has_sample = srtt_ns != u64::MAX;
        let [low, middle, high] = self.min_bucket;
        let bucket = u32::from_le_bytes([low, middle, high, 0]);
        let [previous, current] = self.min_rtt.map(ShortNanos::get);
        let mut estimator = RttEstimator {
            srtt_ns: if has_sample { srtt_ns } else { 0 },
            rttvar_ns: self.rttvar.get(),
            min_rtt: WindowedMin::unpacked(previous, current, bucket),
            latest_ns: self.latest.get(),
            has_sample,
            ..RttEstimator::new(config)
        };
        estimator.base_rto_ns = estimator.computed_rto_ns();
        if self.back_offs & AFTER_HANDSHAKE_LOSS != 0 {
            estimator.handshake_was_retransmitted();
        }
        estimator.back_offs = (self.back_offs & !AFTER_HANDSHAKE_LOSS).into();
        estimator
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
    fn the_time_out_is_the_same_after_the_rest() {
        // RFC 6298 section 5.7: 3 s after a repeated handshake, until there is a sample.
        let ms = Duration::from_millis;
        for (before, handshake_lost, after, back_offs) in [
            (None, false, None, 0),
            (None, true, None, 0),
            (Some(20), true, None, 2),
            (Some(900), true, None, 0),
            (Some(20), true, Some(30), 1),
            (Some(20), false, Some(300), 200),
        ] {
            let mut awake = RttEstimator::new(RtoConfig::default());
            if let Some(rtt) = before {
                awake.sample(Instant::ZERO, ms(rtt));
            }
            if handshake_lost {
                awake.handshake_was_retransmitted();
            }
            if let Some(rtt) = after {
                awake.observe(Instant::ZERO, ms(rtt));
            }
            for _ in 0..back_offs {
                awake.back_off();
            }
            let rested = awake.rest().expect("it fits").wake(RtoConfig::default());
            assert_eq!(rested.base_rto(), awake.base_rto());
            assert_eq!(rested.rto(), awake.rto());
        }
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
    fn a_rest_forgets_no_minimum_that_counts_longer() {
        // An older bucket has the smaller one, and goes first.
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let ms = Duration::from_millis;
        let mut awake = RttEstimator::new(RtoConfig::default());
        awake.sample(at(1000), ms(10));
        awake.sample(at(1100), ms(30));
        let rest = awake.rest().expect("it fits");
        for later in [1150, 1250, 1400] {
            let mut awake = awake;
            let mut rested = rest.wake(RtoConfig::default());
            assert_eq!(rested.min_rtt(), awake.min_rtt());
            awake.sample(at(later), ms(50));
            rested.sample(at(later), ms(50));
            assert_eq!(rested.min_rtt(), awake.min_rtt(), "at {later} s");
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
