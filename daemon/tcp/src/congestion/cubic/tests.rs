//! RFC 9438 section by section; the curve against the formulas in floating point.

use proptest::prelude::*;

use super::*;

const MSS: u32 = 1_000;

fn at(seconds: f64) -> Instant {
    Instant::ZERO + Duration::from_secs_f64(seconds)
}

fn ack(now: Instant, acked_bytes: u32, rtt: Duration) -> AckSample {
    AckSample {
        now,
        acked_bytes,
        srtt: Some(rtt),
        cwnd_limited: true,
        ..AckSample::default()
    }
}

/// A flow that lost something at `segments` in flight.
fn after_loss_at(segments: u32) -> Cubic {
    let mut cubic = Cubic::new(MSS);
    cubic.window.cwnd = segments * MSS;
    cubic.on_congestion(segments * MSS);
    cubic
}

/// Runs a saturated flow from `from` to `to` (seconds): each round trip acknowledges one window in 16 ACKs.
fn run(cubic: &mut Cubic, from: f64, to: f64, rtt: Duration) {
    let mut now = from;
    while now < to {
        let window = cubic.window.cwnd;
        for step in 0..16 {
            let when = now + rtt.as_secs_f64() * f64::from(step) / 16.0;
            cubic.on_ack(&ack(at(when), window / 16, rtt));
        }
        now += rtt.as_secs_f64();
    }
}

fn segments(cubic: &Cubic) -> f64 {
    f64::from(cubic.window.cwnd) / f64::from(MSS)
}

/// Equations 1 and 2 in segments and seconds.
fn w_cubic(w_max: f64, cwnd_epoch: f64, t: f64) -> f64 {
    let k = ((w_max - cwnd_epoch) / 0.4).cbrt();
    0.4 * (t - k).powi(3) + w_max
}

/// 4.6.
#[test]
fn a_loss_leaves_seven_tenths_of_the_flight() {
    let mut cubic = Cubic::new(MSS);
    cubic.window.cwnd = 100 * MSS;
    cubic.on_congestion(90 * MSS);
    assert_eq!(
        (cubic.window.cwnd, cubic.window.ssthresh),
        (63 * MSS, 63 * MSS)
    );
    assert_eq!((cubic.w_max, cubic.cwnd_prior), (100 * MSS, 100 * MSS));
}

/// 4.7.
#[test]
fn a_loss_below_the_last_plateau_lowers_the_next_one_further() {
    let mut cubic = after_loss_at(100);
    cubic.window.cwnd = 80 * MSS;
    cubic.on_congestion(80 * MSS);
    assert_eq!((cubic.w_max, cubic.cwnd_prior), (68 * MSS, 80 * MSS));
    cubic.window.cwnd = 90 * MSS;
    cubic.on_congestion(90 * MSS);
    assert_eq!(
        cubic.w_max,
        90 * MSS,
        "above the plateau: no fast convergence"
    );
}

/// Equations 1 and 2, at the begin, before, at, and after the plateau.
#[test]
fn the_curve_is_that_of_the_rfc() {
    for w_max in [10u32, 100, 1_000, 20_000, 300_000] {
        let mut cubic = after_loss_at(w_max);
        let cwnd_epoch = segments(&cubic);
        let epoch = cubic.begin_epoch(Instant::ZERO);
        let k = ((f64::from(w_max) - cwnd_epoch) / 0.4).cbrt();
        for t in [
            0.0,
            0.1 * k,
            0.5 * k,
            0.9 * k,
            k,
            1.1 * k,
            1.5 * k,
            2.0 * k,
            k + 10.0,
        ] {
            let bytes = cubic.curve(epoch.k, time(Duration::from_secs_f64(t)));
            let ours = f64::from(u32::try_from(bytes).unwrap()) / f64::from(MSS);
            let theirs = w_cubic(f64::from(w_max), cwnd_epoch, t);
            // K and t are exact to 2^-16 s; that times the slope.
            let slope = 1.2 * (t - k).powi(2);
            assert!(
                (ours - theirs).abs() <= slope / 30_000.0 + 0.003,
                "W_max {w_max} t {t}: {ours} {theirs}"
            );
        }
    }
}

/// 4.4, 4.5: a saturated flow follows the curve through the concave and the convex region.
#[test]
fn the_window_follows_the_curve() {
    let rtt = Duration::from_millis(100);
    let mut cubic = after_loss_at(1_000);
    let mut now = 0.0;
    for until in [1.0, 3.0, 6.0, 9.0, 10.0, 12.0, 15.0] {
        run(&mut cubic, now, until, rtt);
        now = until;
        let expected = w_cubic(1_000.0, 700.0, now);
        assert!(
            (segments(&cubic) / expected - 1.0).abs() < 0.01,
            "t {now}: {} {expected}",
            segments(&cubic)
        );
    }
}

#[test]
fn the_curve_does_not_depend_on_the_round_trip_time() {
    let final_window = |rtt| {
        let mut cubic = after_loss_at(4_000);
        run(&mut cubic, 0.0, 8.0, Duration::from_millis(rtt));
        segments(&cubic)
    };
    assert!((final_window(40) / final_window(160) - 1.0).abs() < 0.01);
}

/// 4.2: target is at most 1.5 * cwnd, so a round adds at most half a window.
#[test]
fn a_round_adds_at_most_half_of_the_window() {
    let mut cubic = after_loss_at(100);
    cubic.on_ack(&ack(at(0.0), MSS, Duration::from_millis(100)));
    let before = cubic.window.cwnd;
    // A minute without a single ACK, far up on the curve.
    cubic.on_ack(&ack(at(60.0), before, Duration::from_millis(100)));
    assert!(cubic.window.cwnd <= before + before / 2 + 1);
    assert!(cubic.window.cwnd > before + before / 3);
}

/// 4.3: with a short round trip Reno is faster, and CUBIC keeps up with it: 9/17 of a segment per round up to
/// cwnd_prior, a whole one after that.
#[test]
fn the_reno_friendly_region_grows_like_reno() {
    let rtt = Duration::from_millis(1);
    let mut cubic = after_loss_at(20);
    let start = segments(&cubic);
    run(&mut cubic, 0.0, 0.010, rtt);
    let gained = segments(&cubic) - start;
    assert!((gained - 10.0 * 9.0 / 17.0).abs() < 0.35, "{gained}");

    run(&mut cubic, 0.010, 0.020, rtt);
    let above = segments(&cubic);
    assert!(above > 20.0, "past cwnd_prior: {above}");
    run(&mut cubic, 0.020, 0.030, rtt);
    let gained = segments(&cubic) - above;
    assert!((gained - 10.0).abs() < 0.6, "{gained}");
}

/// 4.3, in steps: the region does not depend on how many ACKs a window was acknowledged with.
#[test]
fn divided_acks_earn_nothing() {
    let rtt = Duration::from_millis(1);
    let grown = |step: u32| {
        let mut cubic = after_loss_at(20);
        for round in 0..20 {
            let mut left = cubic.window.cwnd;
            while left > 0 {
                cubic.on_ack(&ack(at(f64::from(round) / 1_000.0), step.min(left), rtt));
                left = left.saturating_sub(step);
            }
        }
        segments(&cubic)
    };
    assert!(
        (grown(2 * MSS) - grown(11)).abs() < 0.7,
        "{} {}",
        grown(2 * MSS),
        grown(11)
    );
}

/// 4.8: after a timeout the plateau lies where slow start ended, and K is 0.
#[test]
fn the_first_epoch_after_a_timeout_starts_on_its_plateau() {
    let mut cubic = after_loss_at(1_000);
    cubic.on_rto(700 * MSS, true);
    cubic.window.cwnd = cubic.window.ssthresh;
    cubic.on_ack(&ack(at(5.0), MSS, Duration::from_millis(100)));
    assert_eq!(cubic.epoch.map(|epoch| epoch.k), Some(0));
    assert_eq!(cubic.w_max, 490 * MSS);
    assert_eq!(cubic.cwnd_prior, 700 * MSS);
}

/// 4.10: slow start that ends without loss has no W_max either.
#[test]
fn the_first_epoch_without_any_loss_starts_on_its_plateau() {
    let mut cubic = Cubic::new(MSS);
    cubic.window.ssthresh = cubic.window.cwnd;
    cubic.on_ack(&ack(at(5.0), MSS, Duration::from_millis(100)));
    assert_eq!(
        (cubic.epoch.map(|epoch| epoch.k), cubic.w_max),
        (Some(0), 10 * MSS)
    );
}

/// 5.8: time in which cwnd was not the limit is not part of t.
#[test]
fn a_pause_of_the_application_does_not_move_along_the_curve() {
    let rtt = Duration::from_millis(100);
    let mut steady = after_loss_at(1_000);
    let mut pausing = steady;
    run(&mut steady, 0.0, 4.0, rtt);
    run(&mut pausing, 0.0, 2.0, rtt);
    for second in 3..60 {
        let idle = AckSample {
            cwnd_limited: false,
            ..ack(at(f64::from(second)), MSS, rtt)
        };
        pausing.on_ack(&idle);
    }
    run(&mut pausing, 60.0, 62.0, rtt);
    assert!((segments(&pausing) / segments(&steady) - 1.0).abs() < 0.01);
}

/// An epoch begins with an ACK, not with the loss: recovery is not part of t.
#[test]
fn recovery_does_not_count_as_time_on_the_curve() {
    let mut cubic = after_loss_at(1_000);
    cubic.on_ack(&ack(at(30.0), MSS, Duration::from_millis(10)));
    assert!(segments(&cubic) < 701.0);
}

#[test]
fn small_acks_on_a_large_window_are_not_rounded_away() {
    let rtt = Duration::from_millis(50);
    let mut cubic = after_loss_at(50_000);
    let before = cubic.window.cwnd;
    for step in 0..20_000 {
        cubic.on_ack(&ack(at(f64::from(step) * 1e-5), MSS, rtt));
    }
    let expected = w_cubic(50_000.0, 35_000.0, 0.2);
    let gained = f64::from(cubic.window.cwnd - before) / f64::from(MSS);
    assert!(gained > 0.3 * (expected - 35_000.0), "{gained}");
}

proptest! {
    #[test]
    fn the_cube_root_is_exact_below_2_to_the_120(high in any::<u64>(), low in any::<u64>(), shift in 0..120u32) {
        let cube = ((u128::from(high) << 64 | u128::from(low)) >> 8) >> shift;
        let root = u128::from(cube_root(cube));
        prop_assert!(root.pow(3) <= cube);
        prop_assert!((root + 1).pow(3) > cube);
    }

    #[test]
    fn time_is_exact_to_its_unit(nanos in 0..2_048_000_000_000u64) {
        let exact = u128::from(nanos) * 65_536;
        let ours = u128::from(time(Duration::from_nanos(nanos))) * 1_000_000_000;
        prop_assert!(ours <= exact && exact < ours + 1_000_000_000);
    }
}
