//! STARTUP and DRAIN: what fills the pipe, and what ends that.

use super::*;

/// InitPacingRate.
#[test]
fn before_the_first_round_trip_the_initial_window_leaves_within_a_millisecond() {
    let bbr = Bbr::new(MSS);
    assert_eq!(bbr.pacing_rate(), 27_700_000);
    assert_eq!(bbr.window.cwnd, 10 * MSS);
}

/// Startup Dynamics.
#[test]
fn startup_paces_at_2_77_times_the_rate_with_twice_the_bdp_in_flight() {
    let mut flow = Flow::new();
    for rate in [RATE / 8, RATE / 4, RATE / 2, RATE] {
        assert_eq!(flow.round(&Round { rate, ..STEADY }), State::Startup);
        assert_eq!(flow.bbr.pacing_rate(), percent(percent(rate, 277), 99));
    }
    assert_eq!(
        flow.bbr.max_inflight(),
        2 * u64::from(BDP) + flow.bbr.aggregation.extra_acked()
    );
}

/// Exiting STARTUP on Bandwidth Plateau.
#[test]
fn three_rounds_with_less_than_a_quarter_of_growth_mean_a_full_pipe() {
    let mut flow = Flow::new();
    flow.round(&STEADY);
    for rate in [RATE * 124 / 100, RATE] {
        assert_eq!(flow.round(&Round { rate, ..STEADY }), State::Startup);
    }
    let last = Round {
        in_flight: 2 * BDP,
        ..STEADY
    };
    assert_eq!(flow.round(&last), State::Drain);
    assert_eq!(flow.bbr.state.pacing_gain(), 50);
}

/// Never Exiting STARTUP When Application-Limited With No Loss.
#[test]
fn application_limited_rounds_do_not_end_startup() {
    let mut flow = Flow::new();
    let starved = Round {
        app_limited: true,
        ..STEADY
    };
    for _ in 0..100 {
        assert_eq!(flow.round(&starved), State::Startup);
    }
}

/// In Startup and in recovery, after so many losses of a segment each.
fn starting_and_losing(times: u32) -> Flow {
    let mut flow = Flow::new();
    flow.round(&STEADY);
    flow.bbr.on_congestion();
    for _ in 0..times {
        flow.lose(1, BDP);
    }
    flow
}

/// Exiting Startup Based on Packet Loss.
#[test]
fn a_round_of_recovery_with_high_loss_ends_startup() {
    let mut flow = starting_and_losing(6);
    let lossy = Round {
        app_limited: true,
        lost: 8 * u64::from(MSS),
        in_flight: 2 * BDP,
        // The queue that overflows.
        rtt: 2 * RTT,
        rate: RATE / 2,
        ..STEADY
    };
    assert_eq!(flow.round(&lossy), State::Drain);
    assert!(flow.bbr.full_pipe.reached);
    assert_eq!(flow.bbr.inflight_longterm, u64::from(BDP));
}

/// docs/decisions/004-bbr-background-loss.md: the same losses.
#[test]
fn losses_with_an_empty_queue_do_not_end_startup() {
    let mut flow = starting_and_losing(6);
    let lossy = Round {
        app_limited: true,
        lost: 8 * u64::from(MSS),
        in_flight: 2 * BDP,
        rate: RATE / 2,
        ..STEADY
    };
    assert_eq!(flow.round(&lossy), State::Startup);
    assert!(!flow.bbr.full_pipe.reached);
}

/// The same: a tenth on average is more than a tenth in every second round.
#[test]
fn a_path_that_loses_a_tenth_by_itself_does_not_end_startup_by_chance() {
    let in_flight = 100 * u64::from(MSS);
    let ends_with = |lost: u64| {
        let mut flow = Flow::new();
        flow.bbr.full_pipe.queue_was_empty = true;
        flow.bbr
            .is_loss_of_startup_too_high(lost * u64::from(MSS), in_flight)
    };
    assert!(!ends_with(14), "10 expected: one round in ten");
    assert!(ends_with(25), "a queue that is too short to be seen");
}

#[test]
fn few_losses_do_not_end_startup() {
    let mut flow = starting_and_losing(5);
    let lossy = Round {
        app_limited: true,
        lost: 8 * u64::from(MSS),
        ..STEADY
    };
    assert_eq!(flow.round(&lossy), State::Startup);
}

/// Exiting DRAIN Based on Inflight.
#[test]
fn drain_ends_when_the_bdp_is_in_flight() {
    let mut flow = Flow::draining();
    let queued = Round {
        in_flight: BDP + MSS,
        ..STEADY
    };
    assert_eq!(flow.round(&queued), State::Drain);
    // Down has nothing to do then.
    assert_eq!(flow.round(&STEADY), State::ProbeBwCruise);
}

/// Exiting DRAIN Based on Time.
#[test]
fn drain_ends_after_three_rounds_even_with_a_queue() {
    let mut flow = Flow::draining();
    let queued = Round {
        in_flight: 2 * BDP,
        ..STEADY
    };
    for _ in 0..3 {
        assert_eq!(flow.round(&queued), State::Drain);
    }
    assert_eq!(flow.round(&queued), State::ProbeBwDown);
}
