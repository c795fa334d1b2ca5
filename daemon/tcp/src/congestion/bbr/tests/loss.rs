//! Recoveries and what takes them back; losses that the path has by itself.

use super::*;

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
    assert_eq!(limit_after(30, 2 * RTT), 1, "others fill it");
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
    assert_eq!(too_high(&shared), 1);
    // It holds while probing, and until a round of cruising sees an empty queue.
    shared.bbr.state = State::ProbeBwUp;
    shared.round(&STEADY);
    assert_eq!(too_high(&shared), 1);
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
