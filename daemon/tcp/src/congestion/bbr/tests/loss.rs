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
    assert_eq!(limit_after(30, 2 * RTT), 21);
}

#[test]
fn losses_by_chance_are_six_segments_or_a_tenth() {
    let segments = |count: u64| count * u64::from(MSS);
    assert!(!is_inflight_too_high(segments(6), segments(170), MSS));
    assert!(is_inflight_too_high(segments(7), segments(170), MSS));
    assert!(!is_inflight_too_high(segments(20), segments(1_000), MSS));
    assert!(is_inflight_too_high(segments(21), segments(1_000), MSS));
    assert!(!is_inflight_too_high(segments(1), segments(10), MSS));
    assert!(is_inflight_too_high(segments(2), segments(10), MSS));
}
