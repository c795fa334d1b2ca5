//! What holds for every algorithm, and NewReno. CUBIC, DCTCP, BBR and HyStart++ have tests of their own.

use proptest::prelude::*;

use super::*;

const MSS: u32 = 1_000;
const RTT: Duration = Duration::from_millis(10);
/// Those that know a window and no rate.
const WINDOW_BASED: [Algorithm; 3] = [Algorithm::Cubic, Algorithm::NewReno, Algorithm::Dctcp];

fn ack(now: Instant, acked_bytes: u32) -> AckSample {
    AckSample {
        now,
        acked_bytes,
        delivered_bytes: acked_bytes,
        srtt: Some(RTT),
        cwnd_limited: true,
        ..AckSample::default()
    }
}

/// Acknowledges one window in pieces of `step` bytes.
fn round(controller: &mut Controller, now: Instant, step: u32) {
    let mut left = controller.cwnd();
    while left > 0 {
        controller.on_ack(&ack(now, step.min(left)));
        left = left.saturating_sub(step);
    }
}

/// In congestion avoidance with `cwnd` = `ssthresh` = `bytes`.
fn avoiding(algorithm: Algorithm, bytes: u32) -> Controller {
    let mut controller = Controller::new(algorithm, MSS);
    let flight = match algorithm {
        Algorithm::Cubic => bytes.div_ceil(7) * 10,
        _ => bytes * 2,
    };
    controller.on_congestion(Instant::ZERO, flight);
    assert_eq!(controller.cwnd(), bytes);
    controller
}

/// RFC 6928 2.
#[test]
fn the_initial_window_is_ten_segments_but_not_of_jumbo_size() {
    for algorithm in WINDOW_BASED {
        let initial = |mss| Controller::new(algorithm, mss).cwnd();
        assert_eq!(
            (initial(536), initial(1_448), initial(1_460)),
            (5_360, 14_480, 14_600)
        );
        assert_eq!((initial(4_000), initial(8_948)), (14_600, 17_896));
        assert_eq!(Controller::new(algorithm, MSS).ssthresh(), u32::MAX);
    }
}

#[test]
fn slow_start_doubles_the_window_each_round() {
    for algorithm in WINDOW_BASED {
        let mut controller = Controller::new(algorithm, MSS);
        round(&mut controller, Instant::ZERO, 2 * MSS);
        assert_eq!(controller.cwnd(), 20 * MSS);
        round(&mut controller, Instant::ZERO, MSS);
        assert_eq!(controller.cwnd(), 40 * MSS);
    }
}

/// RFC 3465 2.2 (L = 2), and 2.1 against ACK division.
#[test]
fn slow_start_counts_bytes_and_at_most_two_segments_per_ack() {
    for algorithm in WINDOW_BASED {
        let mut controller = Controller::new(algorithm, MSS);
        controller.on_ack(&ack(Instant::ZERO, 10 * MSS));
        assert_eq!(controller.cwnd(), 12 * MSS);
        for _ in 0..10 {
            controller.on_ack(&ack(Instant::ZERO, MSS / 10));
        }
        assert_eq!(controller.cwnd(), 13 * MSS);
    }
}

#[test]
fn a_paced_sender_may_take_more_from_one_ack() {
    let mut controller = Controller::new(Algorithm::Cubic, MSS);
    controller.set_slow_start_limit(8);
    controller.on_ack(&ack(Instant::ZERO, 10 * MSS));
    assert_eq!(controller.cwnd(), 18 * MSS);
}

#[test]
fn slow_start_does_not_jump_over_ssthresh() {
    for algorithm in WINDOW_BASED {
        let mut controller = avoiding(algorithm, 7 * MSS);
        controller.on_rto(Instant::ZERO, 11 * MSS, true);
        while controller.in_slow_start() {
            controller.on_ack(&ack(Instant::ZERO, 2 * MSS));
        }
        assert_eq!(controller.cwnd(), controller.ssthresh());
    }
}

/// RFC 7661, RFC 9438 5.8.
#[test]
fn the_window_does_not_grow_while_something_else_limits_the_flow() {
    for algorithm in WINDOW_BASED {
        for mut controller in [
            Controller::new(algorithm, MSS),
            avoiding(algorithm, 70 * MSS),
        ] {
            let before = controller.cwnd();
            for millis in 0..10_000 {
                let now = Instant::ZERO + Duration::from_millis(millis);
                controller.on_ack(&AckSample {
                    cwnd_limited: false,
                    ..ack(now, 10 * MSS)
                });
            }
            assert_eq!(controller.cwnd(), before);
        }
    }
}

/// RFC 5681 3.1: cwnd is one segment and ssthresh comes from the flight, once.
#[test]
fn a_timeout_collapses_the_window_and_repeats_leave_ssthresh() {
    for (algorithm, ssthresh) in [
        (Algorithm::Cubic, 70 * MSS),
        (Algorithm::NewReno, 50 * MSS),
        (Algorithm::Dctcp, 50 * MSS),
    ] {
        let mut controller = avoiding(algorithm, 140 * MSS);
        controller.on_rto(Instant::ZERO, 100 * MSS, true);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (MSS, ssthresh));
        controller.on_rto(Instant::ZERO, MSS, false);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (MSS, ssthresh));
        assert!(controller.in_slow_start());
    }
}

/// RFC 3465 2.3.
#[test]
fn while_a_timeout_is_repaired_an_ack_counts_for_one_segment() {
    let mut controller = avoiding(Algorithm::NewReno, 100 * MSS);
    controller.on_rto(Instant::ZERO, 20 * MSS, true);
    controller.on_ack(&ack(Instant::ZERO, 19 * MSS));
    assert_eq!(controller.cwnd(), 2 * MSS);
    controller.on_ack(&ack(Instant::ZERO, 4 * MSS));
    assert_eq!(controller.cwnd(), 3 * MSS);
    controller.on_ack(&ack(Instant::ZERO, 4 * MSS));
    assert_eq!(controller.cwnd(), 5 * MSS);
}

/// RFC 5681 3.1, equation 4; RFC 9438 4.6.
#[test]
fn ssthresh_is_at_least_two_segments() {
    for algorithm in WINDOW_BASED {
        let mut controller = Controller::new(algorithm, MSS);
        controller.on_congestion(Instant::ZERO, MSS);
        assert_eq!(
            (controller.ssthresh(), controller.cwnd()),
            (2 * MSS, 2 * MSS)
        );
        controller.on_rto(Instant::ZERO, 0, true);
        assert_eq!((controller.ssthresh(), controller.cwnd()), (2 * MSS, MSS));
    }
}

/// RFC 5681 4.1.
#[test]
fn after_idle_the_window_restarts_and_remembers_most_of_itself() {
    for algorithm in WINDOW_BASED {
        let mut controller = avoiding(algorithm, 140 * MSS);
        controller.on_rto(Instant::ZERO, 20 * MSS, true);
        while controller.cwnd() < 60 * MSS {
            round(&mut controller, Instant::ZERO, MSS);
            let now = Instant::ZERO + Duration::from_secs(controller.cwnd().into());
            round(&mut controller, now, MSS);
        }
        let before = controller.cwnd();
        controller.on_idle_restart();
        assert_eq!(controller.cwnd(), 10 * MSS);
        assert_eq!(controller.ssthresh(), before / 4 * 3);
    }
}

#[test]
fn a_small_window_is_not_raised_by_an_idle_restart() {
    for algorithm in WINDOW_BASED {
        let mut controller = avoiding(algorithm, 70 * MSS);
        controller.on_rto(Instant::ZERO, 70 * MSS, true);
        let ssthresh = controller.ssthresh();
        controller.on_idle_restart();
        assert_eq!((controller.cwnd(), controller.ssthresh()), (MSS, ssthresh));
    }
}

#[test]
fn an_idle_restart_before_any_loss_leaves_ssthresh_open() {
    let mut controller = Controller::new(Algorithm::Cubic, MSS);
    round(&mut controller, Instant::ZERO, MSS);
    controller.on_idle_restart();
    assert_eq!(
        (controller.cwnd(), controller.ssthresh()),
        (10 * MSS, u32::MAX)
    );
}

/// RFC 9438 4.9.
#[test]
fn a_spurious_reduction_is_taken_back() {
    for algorithm in WINDOW_BASED {
        let mut controller = avoiding(algorithm, 140 * MSS);
        let before = controller;
        controller.on_rto(Instant::ZERO, 140 * MSS, true);
        controller.set_mss(500);
        controller.undo(&before);
        assert_eq!(
            (controller.cwnd(), controller.ssthresh()),
            (before.cwnd(), before.ssthresh())
        );
        assert_eq!(controller.window().mss, 500);
    }
}

#[test]
fn a_window_that_has_outgrown_the_old_one_is_not_undone() {
    let mut controller = Controller::new(Algorithm::NewReno, MSS);
    controller.undo(&avoiding(Algorithm::NewReno, 4 * MSS));
    controller.undo(&avoiding(Algorithm::NewReno, 10 * MSS));
    assert_eq!(
        (controller.cwnd(), controller.ssthresh()),
        (10 * MSS, u32::MAX)
    );
}

#[test]
fn a_larger_segment_size_lifts_a_window_below_one_segment() {
    let mut controller = Controller::new(Algorithm::Cubic, MSS);
    controller.on_rto(Instant::ZERO, 0, true);
    controller.set_mss(8_948);
    assert_eq!(controller.cwnd(), 8_948);
}

/// RFC 5681 3.1.
#[test]
fn new_reno_grows_by_one_segment_per_round_and_halves() {
    let mut controller = avoiding(Algorithm::NewReno, 50 * MSS);
    for expected in 51..=60 {
        round(&mut controller, Instant::ZERO, 2 * MSS);
        assert_eq!(controller.cwnd(), expected * MSS);
    }
    controller.on_congestion(Instant::ZERO, 60 * MSS);
    assert_eq!(
        (controller.cwnd(), controller.ssthresh()),
        (30 * MSS, 30 * MSS)
    );
}

#[test]
fn new_reno_earns_nothing_by_divided_acks() {
    let mut controller = avoiding(Algorithm::NewReno, 50 * MSS);
    round(&mut controller, Instant::ZERO, 17);
    assert_eq!(controller.cwnd(), 51 * MSS);
}

/// RFC 8511 3.1 for loss-based control; RFC 8257 3.3 with alpha = 1.
#[test]
fn an_echo_costs_less_than_a_loss() {
    for (algorithm, after) in [
        (Algorithm::Cubic, 85 * MSS),
        (Algorithm::NewReno, 80 * MSS),
        (Algorithm::Dctcp, 50 * MSS),
    ] {
        let mut controller = avoiding(algorithm, 140 * MSS);
        let window = controller.window_mut();
        window.cwnd = 100 * MSS;
        controller.on_ecn_echo(Instant::ZERO, 100 * MSS);
        assert_eq!((controller.cwnd(), controller.ssthresh()), (after, after));
    }
}

#[test]
fn the_algorithm_that_has_no_answer_to_echoes_says_so() {
    let answers: Vec<bool> = Algorithm::ALL
        .iter()
        .map(|algorithm| algorithm.answers_ecn())
        .collect();
    assert_eq!(answers, [true, true, true, false]);
}

/// RFC 5681 3.2: the window of a recovery is not that of slow start or congestion avoidance.
#[test]
fn nothing_grows_while_a_reduction_is_carried_out() {
    for algorithm in WINDOW_BASED {
        for mut controller in [
            Controller::new(algorithm, MSS),
            avoiding(algorithm, 70 * MSS),
        ] {
            let before = controller.cwnd();
            for millis in 0..1_000 {
                let now = Instant::ZERO + Duration::from_millis(millis);
                controller.on_ack(&AckSample {
                    recovering: true,
                    ..ack(now, 10 * MSS)
                });
            }
            assert_eq!(controller.cwnd(), before);
        }
    }
}

/// RFC 7661 4.4.3.
#[test]
fn a_window_unused_for_long_is_halved_and_remembers_three_quarters() {
    for algorithm in WINDOW_BASED {
        let mut controller = avoiding(algorithm, 140 * MSS);
        controller.on_unvalidated();
        assert_eq!(
            (controller.cwnd(), controller.ssthresh()),
            (70 * MSS, 140 * MSS)
        );
        let mut small = Controller::new(algorithm, MSS);
        small.on_unvalidated();
        assert_eq!(small.cwnd(), 10 * MSS, "never below the initial window");
    }
}

#[test]
fn a_window_is_paced_at_twice_itself_in_slow_start_and_a_fifth_above_after() {
    for algorithm in WINDOW_BASED {
        let controller = Controller::new(algorithm, MSS);
        assert_eq!(controller.pacing_rate(RTT), 2_000_000);
        let controller = avoiding(algorithm, 70 * MSS);
        assert_eq!(controller.pacing_rate(RTT), 8_400_000);
        assert!(
            controller.pacing_rate(Duration::ZERO) > 0,
            "no division by it"
        );
    }
}

#[derive(Clone, Debug)]
enum Event {
    Ack {
        acked_bytes: u32,
        cwnd_limited: bool,
    },
    Congestion,
    Rto {
        first: bool,
    },
    Echo,
    Idle,
    Repaired,
    SetMss(u32),
    Wait(u64),
    Undo,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => (0..26u32, any::<u32>(), any::<bool>()).prop_map(|(bits, noise, cwnd_limited)| {
            Event::Ack { acked_bytes: noise & ((1 << bits) - 1), cwnd_limited }
        }),
        2 => Just(Event::Congestion),
        1 => any::<bool>().prop_map(|first| Event::Rto { first }),
        1 => Just(Event::Echo),
        1 => Just(Event::Idle),
        1 => Just(Event::Repaired),
        1 => prop_oneof![216..9_000u32, Just(1), Just(u32::MAX)].prop_map(Event::SetMss),
        10 => (0..40u32, any::<u64>()).prop_map(|(bits, noise)| Event::Wait(noise & ((1 << bits) - 1))),
        1 => Just(Event::Undo),
    ]
}

proptest! {
    /// Any history: no overflow, the window in its bounds, and growth only as documented.
    #[test]
    fn the_window_stays_within_its_bounds(
        algorithm in 0..Algorithm::ALL.len(),
        flight_permille in 0..1_200u64,
        events in prop::collection::vec(any_event(), 1..400),
    ) {
        let algorithm = Algorithm::ALL[algorithm];
        let window_based = algorithm != Algorithm::Bbr;
        let mut controller = Controller::new(algorithm, 1_448).with_seed(7);
        let mut before_reduction = controller;
        let mut now = Instant::from_nanos(1 << 40);
        let mut delivered = 0u64;
        for event in events {
            let cwnd = controller.cwnd();
            let flight = u32::try_from(u64::from(cwnd) * flight_permille / 1_000).unwrap();
            match event {
                Event::Ack { acked_bytes, cwnd_limited } => {
                    let was_slow_start = controller.in_slow_start();
                    let prior_delivered = delivered;
                    delivered += u64::from(acked_bytes);
                    controller.on_ack(&AckSample {
                        cwnd_limited,
                        rtt: Some(RTT),
                        in_flight: flight,
                        delivered_total: delivered,
                        snd_una: delivered,
                        snd_nxt: delivered + u64::from(flight),
                        marked_bytes: if acked_bytes % 7 == 0 { acked_bytes } else { 0 },
                        rate: Some(RateSample {
                            rate: u64::from(acked_bytes) << 10,
                            delivered: acked_bytes.into(),
                            prior_delivered,
                            lost: u64::from(acked_bytes % 5) << 12,
                            in_flight: flight.into(),
                            rtt: RTT,
                            app_limited: !cwnd_limited,
                        }),
                        ..ack(now, acked_bytes)
                    });
                    if window_based {
                        let growth = controller.cwnd() - cwnd;
                        if !cwnd_limited {
                            prop_assert_eq!(growth, 0);
                        } else if was_slow_start {
                            let mss = controller.window().mss;
                            prop_assert!(growth <= acked_bytes.min(2 * mss));
                        }
                    }
                }
                Event::Congestion => {
                    before_reduction = controller;
                    controller.on_loss(&LossSample {
                        bytes: flight / 8,
                        delivered_total: delivered,
                        in_flight: flight.into(),
                        lost_since: u64::from(flight / 8),
                        app_limited: false,
                    });
                    controller.on_congestion(now, flight);
                    if window_based {
                        let mss = controller.window().mss;
                        prop_assert!(controller.cwnd() <= flight.max(2 * mss));
                        prop_assert!(!controller.in_slow_start());
                    }
                }
                Event::Echo => {
                    controller.on_ecn_echo(now, flight);
                    let mss = controller.window().mss;
                    prop_assert!(controller.cwnd() <= cwnd.max(flight).max(2 * mss));
                }
                Event::Rto { first } => {
                    before_reduction = controller;
                    controller.on_rto(now, flight, first);
                    prop_assert_eq!(controller.cwnd(), controller.window().mss);
                }
                Event::Idle => {
                    controller.on_idle_restart();
                    controller.on_unvalidated();
                    prop_assert!(controller.cwnd() <= cwnd);
                    controller.on_sent(now, 0, true);
                }
                Event::Repaired => controller.on_recovery_end(),
                Event::SetMss(mss) => controller.set_mss(mss),
                Event::Wait(nanos) => now = now + Duration::from_nanos(nanos),
                Event::Undo => {
                    controller.undo(&before_reduction);
                    prop_assert!(controller.cwnd() >= cwnd);
                }
            }
            let mss = controller.window().mss;
            prop_assert!(mss <= controller.cwnd() && controller.cwnd() <= CWND_MAX);
            prop_assert!(controller.pacing_rate(RTT) > 0);
            prop_assert_eq!(controller.algorithm(), algorithm);
        }
    }
}
