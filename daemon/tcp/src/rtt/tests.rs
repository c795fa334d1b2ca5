//! RFC 6298 rule by rule, and the whole against the formulas in floating point.

use proptest::prelude::*;

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The RFC without our larger G, to see the variance term at work.
fn fine_grained() -> RttEstimator {
    RttEstimator::new(RtoConfig {
        min: Duration::ZERO,
        granularity: Duration::ZERO,
        ..RtoConfig::default()
    })
}

/// RFC 6298 2.1.
#[test]
fn the_first_timeout_is_one_second() {
    let rtt = RttEstimator::new(RtoConfig::default());
    assert_eq!(rtt.rto(), ms(1_000));
    assert_eq!(
        (rtt.srtt(), rtt.rttvar(), rtt.min_rtt(), rtt.latest()),
        (None, None, None, None)
    );
}

/// RFC 6298 2.2.
#[test]
fn the_first_sample_sets_srtt_and_half_of_it_as_variance() {
    let mut rtt = fine_grained();
    rtt.sample(Instant::ZERO, ms(100));
    assert_eq!(
        (rtt.srtt(), rtt.rttvar(), rtt.rto()),
        (Some(ms(100)), Some(ms(50)), ms(300))
    );
}

/// RFC 6298 2.3: RTTVAR is updated before SRTT.
#[test]
fn later_samples_move_srtt_by_an_eighth_and_rttvar_by_a_quarter() {
    let mut rtt = fine_grained();
    rtt.sample(Instant::ZERO, ms(100));
    rtt.sample(Instant::ZERO, ms(180));
    assert_eq!(rtt.srtt(), Some(ms(110)));
    assert_eq!(rtt.rttvar(), Some(Duration::from_micros(57_500)));
    assert_eq!(rtt.rto(), ms(110 + 230));
    assert_eq!(
        (rtt.min_rtt(), rtt.latest()),
        (Some(ms(100)), Some(ms(180)))
    );
}

/// RFC 6298 2.3: max(G, 4 * RTTVAR).
#[test]
fn on_a_steady_path_the_variance_term_does_not_vanish() {
    let mut rtt = RttEstimator::new(RtoConfig::default());
    for _ in 0..200 {
        rtt.sample(Instant::ZERO, ms(300));
    }
    assert_eq!(rtt.rto(), ms(500));
}

/// RFC 6298 2.4.
#[test]
fn the_timeout_has_a_floor() {
    let config = RtoConfig {
        granularity: Duration::from_micros(131),
        ..RtoConfig::default()
    };
    let mut rtt = RttEstimator::new(config);
    rtt.sample(Instant::ZERO, Duration::from_micros(40));
    assert_eq!(rtt.rto(), ms(200));
}

/// RFC 6298 2.3, 2.4: the variance term must not stay above the floor.
#[test]
fn another_floor_is_reached_on_a_steady_path() {
    for floor in [10, 200, 3_000] {
        let mut rtt = RttEstimator::new(RtoConfig::default().with_min(ms(floor)));
        for _ in 0..100 {
            rtt.sample(Instant::ZERO, ms(1));
        }
        assert_eq!(rtt.rto(), ms(1 + floor));
    }
}

/// RFC 6298 2.1: a floor above the first RTO is the first RTO.
#[test]
fn a_floor_above_the_first_timeout_holds_without_a_sample() {
    let of = |floor| RttEstimator::new(RtoConfig::default().with_min(ms(floor))).rto();
    assert_eq!([10, 200, 3_000].map(of), [1_000, 1_000, 3_000].map(ms));
}

/// RFC 6298 2.5, 5.5.
#[test]
fn each_expiry_doubles_the_timeout_up_to_the_ceiling() {
    let mut rtt = RttEstimator::new(RtoConfig::default());
    let mut timeouts = Vec::new();
    for _ in 0..8 {
        timeouts.push(rtt.rto().as_secs());
        rtt.back_off();
    }
    assert_eq!(timeouts, [1, 2, 4, 8, 16, 32, 60, 60]);
    for _ in 0..100 {
        rtt.back_off();
    }
    assert_eq!((rtt.rto(), rtt.back_offs()), (ms(60_000), 108));
}

/// RFC 6298 5, the note after 5.7.
#[test]
fn a_sample_ends_the_back_off() {
    let mut rtt = RttEstimator::new(RtoConfig::default());
    rtt.back_off();
    rtt.back_off();
    rtt.sample(Instant::ZERO, ms(10));
    assert_eq!((rtt.rto(), rtt.back_offs()), (ms(210), 0));
}

#[test]
fn progress_without_a_sample_returns_to_the_computed_timeout() {
    let mut rtt = RttEstimator::new(RtoConfig::default());
    rtt.sample(Instant::ZERO, ms(10));
    rtt.back_off();
    assert_eq!(rtt.rto(), ms(420));
    rtt.reset_back_off();
    assert_eq!(rtt.rto(), ms(210));
}

/// RFC 6298 5.7.
#[test]
fn after_a_repeated_syn_data_starts_with_three_seconds() {
    let mut rtt = RttEstimator::new(RtoConfig::default());
    rtt.back_off();
    rtt.handshake_was_retransmitted();
    assert_eq!(rtt.rto(), ms(3_000));
    rtt.sample(Instant::ZERO, ms(20));
    assert_eq!(rtt.rto(), ms(220));
}

#[test]
fn contradictory_bounds_are_put_in_order() {
    let config = RtoConfig {
        min: ms(500),
        max: ms(100),
        ..RtoConfig::default()
    };
    assert_eq!(RttEstimator::new(config).rto(), ms(500));
}

proptest! {
    /// Samples of any size, forged ones included, keep the timeout within its bounds.
    #[test]
    fn the_timeout_stays_within_its_bounds(
        steps in prop::collection::vec((any::<u64>(), any::<u32>(), 0..70u32), 1..60),
    ) {
        let config = RtoConfig::default();
        let mut rtt = RttEstimator::new(config);
        for (secs, nanos, back_offs) in steps {
            rtt.sample(Instant::ZERO, Duration::new(secs >> (nanos % 64), nanos % 1_000_000_000));
            for _ in 0..back_offs {
                rtt.back_off();
            }
            prop_assert!(config.min <= rtt.rto() && rtt.rto() <= config.max);
            prop_assert!(rtt.min_rtt() <= rtt.latest());
        }
    }

    #[test]
    fn agrees_with_the_formulas_in_floating_point(samples_us in prop::collection::vec(1..5_000_000u64, 1..100)) {
        let mut rtt = fine_grained();
        let (mut srtt, mut rttvar) = (0.0f64, 0.0f64);
        for (index, &sample_us) in samples_us.iter().enumerate() {
            rtt.sample(Instant::ZERO, Duration::from_micros(sample_us));
            let r = Duration::from_micros(sample_us).as_secs_f64();
            if index == 0 {
                (srtt, rttvar) = (r, r / 2.0);
            } else {
                rttvar = 0.75 * rttvar + 0.25 * (srtt - r).abs();
                srtt = 0.875 * srtt + 0.125 * r;
            }
            let rto = (srtt + 4.0 * rttvar).min(60.0);
            // Each integer division loses less than a nanosecond, and the loss decays.
            prop_assert!((rtt.srtt().unwrap().as_secs_f64() - srtt).abs() < 1e-7);
            prop_assert!((rtt.rttvar().unwrap().as_secs_f64() - rttvar).abs() < 1e-7);
            prop_assert!((rtt.rto().as_secs_f64() - rto).abs() < 1e-6);
        }
    }
}
