//! PROBE_RTT, and what a pause leaves of the model.

use super::*;

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
