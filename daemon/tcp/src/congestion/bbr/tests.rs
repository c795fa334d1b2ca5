//! The state machine of draft-ietf-ccwg-bbr, transition by transition (its appendix "Example Test Cases").

use super::*;
use crate::delivery_rate::RateSample;

const MSS: u32 = 1_000;
const RTT: Duration = Duration::from_millis(20);
/// 100 segments per round trip.
const RATE: u64 = 5_000_000;
const BDP: u32 = 100 * MSS;

/// A flow on a path that is described ACK by ACK.
struct Flow {
    bbr: Bbr,
    now: Instant,
    delivered: u64,
}

/// One ACK that ends a packet-timed round trip.
#[derive(Clone, Copy)]
struct Round {
    rate: u64,
    rtt: Duration,
    in_flight: u32,
    app_limited: bool,
    cwnd_limited: bool,
    lost: u64,
}

const STEADY: Round = Round {
    rate: RATE,
    rtt: RTT,
    in_flight: BDP,
    app_limited: false,
    cwnd_limited: false,
    lost: 0,
};

impl Flow {
    fn new() -> Flow {
        Flow {
            bbr: Bbr::new(MSS),
            now: Instant::from_nanos(1_000_000_000),
            delivered: 0,
        }
    }

    /// Startup is over: the rate has not grown for three rounds.
    fn draining() -> Flow {
        let mut flow = Flow::new();
        for rate in [RATE / 2, RATE, RATE, RATE, RATE] {
            flow.round(&Round {
                rate,
                in_flight: 2 * BDP,
                ..STEADY
            });
        }
        assert_eq!(flow.bbr.state, State::Drain);
        flow
    }

    fn cruising() -> Flow {
        let mut flow = Flow::draining();
        flow.until(State::ProbeBwCruise);
        flow
    }

    fn probing() -> Flow {
        let mut flow = Flow::cruising();
        flow.until(State::ProbeBwUp);
        flow
    }

    fn round(&mut self, round: &Round) -> State {
        let rtt = round.rtt.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let bytes = (round.rate as f64 * rtt) as u32;
        let prior_delivered = self.delivered;
        self.delivered += u64::from(bytes);
        self.now = self.now + round.rtt;
        self.bbr.on_ack(&AckSample {
            now: self.now,
            acked_bytes: bytes,
            delivered_bytes: bytes,
            delivered_total: self.delivered,
            srtt: Some(round.rtt),
            rtt: Some(round.rtt),
            in_flight: round.in_flight,
            cwnd_limited: round.cwnd_limited,
            rate: Some(RateSample {
                rate: round.rate,
                delivered: u64::from(bytes),
                prior_delivered,
                lost: round.lost,
                in_flight: u64::from(round.in_flight),
                rtt: round.rtt,
                app_limited: round.app_limited,
            }),
            ..AckSample::default()
        });
        self.bbr.state
    }

    /// Steady rounds until a state is reached; how many.
    fn until(&mut self, state: State) -> u32 {
        for rounds in 1..1_000 {
            if self.round(&STEADY) == state {
                return rounds;
            }
        }
        panic!("{state:?} was not reached from {:?}", self.bbr.state);
    }

    fn lose(&mut self, segments: u32, in_flight: u32) {
        self.bbr.on_loss(&LossSample {
            bytes: segments * MSS,
            delivered_total: self.delivered,
            in_flight: in_flight.into(),
            lost_since: u64::from(segments * MSS),
            app_limited: false,
        });
    }
}

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

/// Exiting Startup Based on Packet Loss.
#[test]
fn a_round_of_recovery_with_high_loss_ends_startup() {
    let mut flow = Flow::new();
    flow.round(&STEADY);
    flow.bbr.on_congestion();
    for _ in 0..6 {
        flow.lose(1, BDP);
    }
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
    let mut flow = Flow::new();
    flow.round(&STEADY);
    flow.bbr.on_congestion();
    for _ in 0..6 {
        flow.lose(1, BDP);
    }
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
    let mut flow = Flow::new();
    flow.round(&STEADY);
    flow.bbr.on_congestion();
    for _ in 0..5 {
        flow.lose(1, BDP);
    }
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

/// ProbeRTT Logic.
#[test]
fn after_ten_seconds_the_queue_is_emptied_for_200_ms_with_half_of_the_bdp() {
    let mut flow = Flow::cruising();
    let queued = Round {
        rtt: 2 * RTT,
        ..STEADY
    };
    let begin = flow.now;
    while flow.round(&queued) != State::ProbeRtt {}
    let after = flow.now.saturating_since(begin);
    assert!((9..11).contains(&after.as_secs()), "{after:?}");
    assert_eq!(flow.bbr.window.cwnd, BDP / 2, "of the old estimate");
    assert!(flow.bbr.is_probing_rtt());
    let drained = Round {
        in_flight: BDP / 2,
        ..STEADY
    };
    let begin = flow.now;
    while flow.round(&drained) == State::ProbeRtt {}
    let lasted = flow.now.saturating_since(begin);
    assert!((200..300).contains(&lasted.as_millis()), "{lasted:?}");
    assert_eq!(flow.bbr.state, State::ProbeBwCruise);
    assert_eq!(flow.bbr.min_rtt.value, Some(RTT));
    assert!(flow.bbr.window.cwnd >= BDP, "the window is back");
}

/// Restarting From Idle.
#[test]
fn after_idle_the_flow_resumes_at_the_rate_of_the_path_without_probe_rtt() {
    let mut flow = Flow::cruising();
    flow.bbr.set_pacing_rate(125);
    let window = flow.bbr.window.cwnd;
    flow.now = flow.now + Duration::from_secs(60);
    flow.bbr.on_sent(flow.now, 0, true);
    assert_eq!(flow.bbr.pacing_rate(), RATE / 100 * 99);
    assert_eq!(flow.bbr.window.cwnd, window);
    assert_ne!(flow.round(&STEADY), State::ProbeRtt);
}

impl Flow {
    fn rest(&mut self) {
        let resting = self.bbr.rest().expect("nothing is being repaired");
        self.bbr = resting.wake(MSS, self.delivered);
    }
}

/// Restarting From Idle: the packed model is the same for the path.
#[test]
fn a_flow_that_rested_resumes_at_the_bandwidth_of_the_path_with_its_window() {
    let mut flow = Flow::cruising();
    flow.bbr.inflight_longterm = u64::from(BDP);
    let before = flow.bbr;
    flow.now = flow.now + Duration::from_secs(60);
    flow.rest();
    assert_eq!(flow.bbr.window.cwnd, before.window.cwnd);
    assert_eq!(flow.bbr.pacing_rate(), before.pacing_rate());
    flow.bbr.on_sent(flow.now, 0, true);
    assert_eq!(flow.bbr.pacing_rate(), RATE / 100 * 99);
    assert_eq!((flow.bbr.bw, flow.bbr.min_rtt.value), (RATE, Some(RTT)));
    assert_eq!(flow.bbr.inflight_longterm, u64::from(BDP));
    // Two to three seconds have passed: the next ACK begins a probe, and no ProbeRTT.
    assert_eq!(flow.round(&STEADY), State::ProbeBwRefill);
    assert_eq!(flow.round(&STEADY), State::ProbeBwUp);
}

#[test]
fn a_flow_that_rested_in_startup_goes_on_doubling() {
    let mut flow = Flow::new();
    flow.round(&Round {
        rate: RATE / 2,
        ..STEADY
    });
    flow.round(&STEADY);
    flow.rest();
    assert_eq!(flow.round(&STEADY), State::Startup);
    assert_eq!(
        flow.bbr.full_pipe.count, 1,
        "rounds without growth count on"
    );
    assert_eq!(flow.bbr.pacing_rate(), percent(percent(RATE, 277), 99));
}

/// A pause longer than the RTO empties the queue at least as well as 200 ms with half of the BDP.
#[test]
fn a_rest_ends_probe_rtt_and_the_window_comes_back() {
    let mut flow = Flow::cruising();
    let queued = Round {
        rtt: 2 * RTT,
        ..STEADY
    };
    while flow.round(&queued) != State::ProbeRtt {}
    let window = flow.bbr.prior_cwnd;
    assert!(flow.bbr.window.cwnd < window);
    flow.now = flow.now + Duration::from_millis(300);
    flow.rest();
    flow.bbr.on_sent(flow.now, 0, true);
    assert_eq!(flow.bbr.state, State::ProbeBwCruise);
    assert_eq!(flow.bbr.window.cwnd, window);
}

/// Who did not rest packs and unpacks as well, and then again.
#[test]
fn packing_what_was_unpacked_changes_nothing() {
    let probing_rtt = || {
        let mut flow = Flow::cruising();
        while flow.round(&Round {
            rtt: 2 * RTT,
            ..STEADY
        }) != State::ProbeRtt
        {}
        flow
    };
    let lossy = || {
        let mut flow = Flow::cruising();
        flow.lose(40, BDP);
        flow.bbr.short_term.bw = 123_456_789_012;
        flow.bbr.short_term.inflight = 77_777;
        flow.bbr.aggregation.slots = [3_000, 99_999];
        flow.round(&Round {
            lost: 1 << 30,
            ..STEADY
        });
        flow
    };
    for mut flow in [
        Flow::new(),
        Flow::draining(),
        Flow::cruising(),
        Flow::probing(),
        probing_rtt(),
        lossy(),
    ] {
        flow.rest();
        let once = format!("{:?}", flow.bbr);
        flow.rest();
        assert_eq!(once, format!("{:?}", flow.bbr));
    }
}

/// Who recovers has something in flight.
#[test]
fn a_flow_does_not_rest_in_a_recovery() {
    let mut flow = Flow::cruising();
    flow.bbr.on_congestion();
    assert!(flow.bbr.rest().is_none());
    flow.bbr.on_recovery_end();
    assert!(flow.bbr.rest().is_some());
}

/// Modulating cwnd in Loss Recovery.
#[test]
fn a_timeout_leaves_one_segment_and_the_end_of_recovery_restores_the_window() {
    let mut flow = Flow::cruising();
    let before = flow.bbr.window.cwnd;
    flow.bbr.on_rto();
    assert_eq!(flow.bbr.window.cwnd, MSS);
    flow.bbr.on_rto();
    flow.bbr.on_recovery_end();
    assert_eq!(flow.bbr.window.cwnd, before);
}

/// Handling a Spurious Loss Recovery.
#[test]
fn a_spurious_loss_gives_bounds_window_and_probe_back() {
    let mut flow = Flow::probing();
    let before = flow.bbr;
    flow.bbr.on_congestion();
    flow.lose(20, 2 * BDP);
    flow.bbr.window.cwnd = BDP / 2;
    assert_eq!(flow.bbr.state, State::ProbeBwDown);
    flow.bbr.undo(&before);
    assert_eq!(flow.bbr.state, State::ProbeBwRefill);
    assert_eq!(flow.bbr.inflight_longterm, INFINITE);
    assert_eq!(flow.bbr.window.cwnd, before.window.cwnd);
}

/// Minimum cwnd for Pipelining.
#[test]
fn the_window_is_at_least_four_segments() {
    let mut flow = Flow::new();
    for _ in 0..200 {
        flow.round(&Round {
            rate: 1_000,
            in_flight: 1_000,
            ..STEADY
        });
        assert!(flow.bbr.window.cwnd >= 4 * MSS);
    }
}

/// Rounds through an empty queue that lose `per_mille`; then what counts as too much of a flight of 1,000 segments.
fn limit_after(per_mille: u32, rtt: Duration) -> u64 {
    let mut flow = Flow::cruising();
    for _ in 0..20 {
        flow.lose(BDP / MSS * per_mille / 1_000, BDP);
        flow.round(&Round { rtt, ..STEADY });
        flow.bbr.state = State::ProbeBwCruise;
    }
    let segments = |count: u64| count * u64::from(MSS);
    (0..1_000)
        .find(|lost| flow.bbr.is_too_high(segments(*lost), segments(1_000)))
        .expect("everything lost is too much")
}

/// docs/decisions/004-bbr-background-loss.md
#[test]
fn what_the_path_loses_with_an_empty_queue_is_excused_up_to_a_tenth() {
    assert_eq!(limit_after(0, RTT), 21);
    assert!((55..=75).contains(&limit_after(30, RTT)));
    assert!((160..=175).contains(&limit_after(300, RTT)));
}

#[test]
fn what_is_lost_behind_a_queue_is_not_excused() {
    assert_eq!(limit_after(30, 2 * RTT), 21);
}

/// A queue that the flow does not drain while it cruises, for so many rounds.
fn cruising_behind_a_queue(rounds: u32) -> Flow {
    let mut flow = Flow::cruising();
    let queued = Round {
        rtt: 2 * RTT,
        ..STEADY
    };
    for _ in 0..rounds {
        assert_eq!(flow.round(&queued), State::ProbeBwCruise);
    }
    flow
}

/// When not Probing for Bandwidth, to the letter.
#[test]
fn a_single_loss_behind_a_queue_that_others_fill_follows_what_is_delivered() {
    let slower = Round {
        rtt: 2 * RTT,
        rate: RATE * 9 / 10,
        ..STEADY
    };
    let bw_after = |queued_rounds| {
        let mut flow = cruising_behind_a_queue(queued_rounds);
        // The round of the loss, and its end.
        for _ in 0..2 {
            flow.lose(1, BDP);
            flow.round(&slower);
        }
        flow.bbr.bw
    };
    assert_eq!(bw_after(0), RATE, "it may be our own queue");
    assert_eq!(bw_after(3), slower.rate);
}

#[test]
fn nothing_is_excused_behind_a_queue_that_others_fill() {
    let segments = |count: u64| count * u64::from(MSS);
    let too_high = |flow: &Flow| {
        (0..100)
            .find(|lost| flow.bbr.is_too_high(segments(*lost), segments(170)))
            .expect("more than half is too much")
    };
    assert_eq!(too_high(&cruising_behind_a_queue(2)), 7, "own queue");
    let mut shared = cruising_behind_a_queue(3);
    assert_eq!(too_high(&shared), 4);
    // It holds while probing, and until a round of cruising sees an empty queue.
    shared.bbr.state = State::ProbeBwUp;
    shared.round(&STEADY);
    assert_eq!(too_high(&shared), 4);
    shared.bbr.state = State::ProbeBwCruise;
    shared.round(&STEADY);
    assert_eq!(too_high(&shared), 7);
}

#[test]
fn losses_by_chance_are_six_segments_or_a_tenth() {
    let segments = |count: u64| count * u64::from(MSS);
    let too_high = |lost, in_flight| {
        let (lost, in_flight) = (segments(lost), segments(in_flight));
        is_inflight_too_high(lost, in_flight, losses_by_chance(in_flight, MSS))
    };
    assert!(!too_high(6, 170));
    assert!(too_high(7, 170));
    assert!(!too_high(20, 1_000));
    assert!(too_high(21, 1_000));
    assert!(!too_high(1, 10));
    assert!(too_high(2, 10));
}
