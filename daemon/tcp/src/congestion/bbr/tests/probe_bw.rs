//! PROBE_BW: the cycle, its probes and the bounds that they move.

use super::*;

/// Summary of Control Behavior in the State Machine.
#[test]
fn the_cycle_goes_down_cruise_refill_up_with_the_gains_of_the_table() {
    let mut flow = Flow::draining();
    for (state, pacing_gain, cwnd_gain) in [
        (State::ProbeBwDown, 90, 200),
        (State::ProbeBwCruise, 100, 200),
        (State::ProbeBwRefill, 100, 200),
        (State::ProbeBwUp, 125, 225),
        (State::ProbeBwDown, 90, 200),
    ] {
        flow.until(state);
        assert_eq!(
            (state.pacing_gain(), state.cwnd_gain()),
            (pacing_gain, cwnd_gain),
            "{state:?}"
        );
        assert_eq!(flow.bbr.pacing_rate(), RATE / 100 * pacing_gain / 100 * 99);
    }
}

/// Time Scale for Bandwidth Probing: the bound by rounds is 62 or 63, that by time two to three seconds.
#[test]
fn a_probe_comes_after_63_rounds_or_three_seconds() {
    let rounds = Flow::cruising().until(State::ProbeBwRefill);
    assert!((58..=63).contains(&rounds), "{rounds}");

    let mut slow = Flow::cruising();
    let long = Round {
        rtt: Duration::from_millis(200),
        ..STEADY
    };
    let begin = slow.bbr.min_rtt.value;
    let mut rounds = 0;
    while slow.round(&long) == State::ProbeBwCruise {
        rounds += 1;
    }
    assert_eq!(begin, Some(RTT));
    assert!((9..=15).contains(&rounds), "{rounds} of 200 ms");
}

#[test]
fn flows_with_different_seeds_do_not_probe_in_step() {
    let waits = |seed| {
        let mut bbr = Bbr::new(MSS);
        bbr.seed(seed);
        (bbr.next_random(), bbr.next_random())
    };
    assert_ne!(waits(1), waits(2));
    assert_ne!(waits(0), (0, 0));
}

/// Exiting PROBE_UP on Bandwidth Plateau.
#[test]
fn probing_ends_when_the_rate_does_not_grow() {
    let mut flow = Flow::probing();
    assert_eq!(flow.round(&STEADY), State::ProbeBwUp);
    assert_eq!(flow.until(State::ProbeBwDown), 2);
    assert_eq!(flow.bbr.inflight_longterm, INFINITE, "nothing was lost");
}

/// HandleInflightTooHigh.
#[test]
fn heavy_loss_while_probing_bounds_the_flight_and_ends_the_probe() {
    let mut flow = Flow::probing();
    let in_flight = 2 * BDP;
    flow.lose(20, in_flight);
    assert_eq!(flow.bbr.state, State::ProbeBwDown);
    let bound = flow.bbr.inflight_longterm;
    // The flight before the loss and the prefix of it that 2 % allow.
    assert_eq!(bound, 180_000 + 180_000 / 49);
    // One reaction per probe.
    flow.lose(40, BDP);
    assert_eq!(flow.bbr.inflight_longterm, bound);
}

#[test]
fn a_few_losses_while_probing_are_taken_for_chance() {
    let mut flow = Flow::probing();
    flow.lose(6, BDP);
    assert_eq!(flow.bbr.state, State::ProbeBwUp);
    flow.lose(7, BDP);
    assert_eq!(flow.bbr.state, State::ProbeBwDown);
}

/// Bounding cwnd Based on Recent Congestion: Cruise leaves 15 % of headroom.
#[test]
fn cruise_leaves_headroom_below_the_long_term_bound() {
    let mut flow = Flow::probing();
    flow.lose(20, 2 * BDP);
    flow.bbr.inflight_longterm = u64::from(BDP);
    let drained = Round {
        in_flight: BDP / 2,
        ..STEADY
    };
    while flow.round(&drained) != State::ProbeBwCruise {
        assert!(u64::from(flow.bbr.window.cwnd) <= flow.bbr.inflight_longterm);
    }
    assert!(u64::from(flow.bbr.window.cwnd) <= flow.bbr.inflight_longterm * 85 / 100);
}

/// ProbeInflightLongtermUpward: the pace doubles each round.
#[test]
fn a_probe_raises_the_long_term_bound_faster_from_round_to_round() {
    let mut flow = Flow::probing();
    flow.bbr.inflight_longterm = u64::from(BDP);
    flow.bbr.window.cwnd = BDP;
    let pushing = Round {
        cwnd_limited: true,
        ..STEADY
    };
    let mut before = flow.bbr.inflight_longterm;
    let mut steps = Vec::new();
    for _ in 0..4 {
        flow.round(&pushing);
        steps.push((flow.bbr.inflight_longterm - before) / u64::from(MSS));
        before = flow.bbr.inflight_longterm;
        flow.bbr.window.cwnd = u32::try_from(before).expect("small");
    }
    assert!(steps.is_sorted() && steps[3] > steps[1], "{steps:?}");
}

/// When not Probing for Bandwidth, with the deviation that the loss has to be more than chance.
#[test]
fn heavy_loss_while_cruising_follows_what_is_delivered() {
    let mut flow = Flow::cruising();
    let slower = Round {
        rate: RATE * 8 / 10,
        lost: 10 * u64::from(MSS),
        ..STEADY
    };
    flow.lose(10, BDP);
    flow.round(&slower);
    flow.lose(10, BDP);
    flow.round(&slower);
    assert_eq!(flow.bbr.bw, RATE * 8 / 10);
    // Never by more than CUBIC would reduce.
    let much_slower = Round {
        rate: RATE / 10,
        ..slower
    };
    for _ in 0..2 {
        flow.lose(10, BDP);
        flow.round(&much_slower);
    }
    assert!(flow.bbr.bw >= RATE * 8 / 10 * 49 / 100, "{}", flow.bbr.bw);

    let mut spared = Flow::cruising();
    for _ in 0..10 {
        spared.lose(1, BDP);
        spared.round(&Round {
            lost: u64::from(MSS),
            rate: RATE * 99 / 100,
            ..STEADY
        });
    }
    assert_eq!(spared.bbr.bw, RATE);
}

/// Refill forgets what the last cycle learnt in the short term.
#[test]
fn refilling_discards_the_short_term_bounds() {
    let mut flow = Flow::cruising();
    flow.bbr.short_term.bw = RATE / 2;
    flow.bbr.short_term.inflight = u64::from(BDP / 2);
    flow.until(State::ProbeBwRefill);
    assert_eq!(flow.bbr.bw, RATE);
    assert_eq!(flow.bbr.short_term.inflight, INFINITE);
}

/// BBR.max_bw and Application-limited Delivery Rate Samples.
#[test]
fn an_application_limited_sample_counts_only_if_it_is_higher() {
    let mut flow = Flow::new();
    flow.round(&STEADY);
    let starved = |rate| Round {
        rate,
        app_limited: true,
        ..STEADY
    };
    flow.round(&starved(RATE / 2));
    assert_eq!(flow.bbr.max_bw.get(), RATE);
    flow.round(&starved(RATE * 2));
    assert_eq!(flow.bbr.max_bw.get(), RATE * 2);
}

/// Tracking Time for the BBR.max_bw Max Filter: two cycles.
#[test]
fn a_slower_path_is_believed_after_two_probing_cycles() {
    let mut flow = Flow::cruising();
    let slower = Round {
        rate: RATE / 2,
        in_flight: BDP / 2,
        ..STEADY
    };
    let mut cycles = 0;
    let mut before = flow.bbr.state;
    while flow.bbr.max_bw.get() == RATE {
        let state = flow.round(&slower);
        cycles += u32::from(state == State::ProbeBwUp && before != state);
        before = state;
        assert!(cycles <= 3);
    }
    assert!(cycles >= 1);
    assert_eq!(flow.bbr.max_bw.get(), RATE / 2);
}
