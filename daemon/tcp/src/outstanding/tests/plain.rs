//! Recoveries with a peer without SACK, and time-outs of such that are taken back.

use super::*;

#[test]
fn the_third_duplicate_enters_recovery_once_without_sack() {
    // RFC 5681 section 3.2.
    let mut bed = Bed::new(false, 10);
    assert_eq!(bed.duplicate(101), Verdict::Grow);
    assert_eq!(bed.duplicate(102), Verdict::Grow);
    assert_eq!(bed.duplicate(103), Verdict::Reduce);
    assert_eq!(bed.duplicate(104), Verdict::Hold);
    assert_eq!(bed.resend(104), Some((0, false)));
    assert_eq!(bed.resend(104), None);
}

#[test]
fn a_partial_acknowledgement_names_the_next_hole_without_sack() {
    // RFC 6582 section 3.2.
    let mut bed = Bed::new(false, 10);
    for now in 101..104 {
        let _ = bed.duplicate(now);
    }
    assert_eq!(bed.resend(104), Some((0, false)));
    assert_eq!(bed.ack(4, &[], 204), Verdict::Hold);
    assert!(bed.loss.goes_at_once());
    assert_eq!(bed.resend(204), Some((4000, false)));
    assert_eq!(bed.ack(10, &[], 304), Verdict::Hold);
    assert_eq!(bed.resend(304), None);
}

#[test]
fn invented_duplicates_gain_no_more_than_the_flight_of_the_loss() {
    // RFC 5681 section 5.
    let mut bed = Bed::new(false, 10);
    for _ in 0..1000 {
        let _ = bed.duplicate(101);
    }
    for _ in 0..5 {
        bed.send(102);
    }
    assert_eq!(bed.loss.pipe(SMSS), 4000);
}

/// Of five segments without SACK the first is sent again after a time-out and acknowledged, with `echo`; two new ones
/// follow.
fn plain_time_out(echo: Option<u64>) -> Bed {
    let mut bed = Bed::new(false, 5);
    assert!(bed.time_out(400));
    assert_eq!(bed.resend(400), Some((0, false)));
    bed.echo = echo;
    assert_eq!(bed.ack(1, &[], 500), Verdict::Grow);
    assert_eq!(bed.resend(500), None, "new data first");
    bed.send(500);
    bed.send(500);
    assert!(bed.loss.awaits_verdict());
    bed
}

#[test]
fn a_split_acknowledgement_undoes_no_real_time_out() {
    // RFC 5682 section 6: segments 1 to 3 were kept behind the first hole, 4 is missing too.
    let mut bed = plain_time_out(None);
    assert_eq!(bed.ack(2, &[], 501), Verdict::Grow);
    assert!(!bed.loss.awaits_verdict(), "one more new segment");
    bed.send(501);
    assert!(bed.loss.awaits_verdict());
    assert_eq!(bed.ack(4, &[], 502), Verdict::Grow);
    assert_eq!(bed.duplicate(600), Verdict::Grow);
    assert_eq!(bed.resend(600), Some((4000, false)));
    // What is repaired says nothing about the time-out.
    assert_eq!(bed.ack(8, &[], 700), Verdict::Grow);
}

#[test]
fn a_split_acknowledgement_that_echoes_the_repetition_ends_the_test() {
    // RFC 3522 section 3.2.
    let mut bed = plain_time_out(Some(400));
    assert_eq!(bed.ack(2, &[], 501), Verdict::Grow);
    assert_eq!(bed.resend(501), Some((2000, false)));
}

#[test]
fn without_sack_the_echo_of_an_original_is_enough() {
    // RFC 3522 section 3.2, RFC 5682 section 2.1 step 3b.
    let mut bed = plain_time_out(Some(400));
    bed.echo = Some(1);
    assert_eq!(bed.ack(2, &[], 501), Verdict::Undo);
    assert!(bed.loss.take_undo().is_some());
}

#[test]
fn without_sack_and_timestamps_the_whole_flight_has_to_arrive() {
    // RFC 5682 sections 2.1 and 6.
    let mut bed = plain_time_out(None);
    for ack in 2..5 {
        assert_eq!(bed.ack(ack, &[], 500 + ack), Verdict::Grow);
    }
    assert_eq!(bed.ack(5, &[], 510), Verdict::Undo);
    assert!(bed.loss.take_undo().is_some());
}

#[test]
fn a_hole_where_a_time_out_was_undone_takes_four_duplicates() {
    // RFC 5681 section 3.2; the fourth, because one of them answers the repetition.
    let mut bed = plain_time_out(Some(400));
    bed.echo = Some(1);
    assert_eq!(bed.ack(2, &[], 501), Verdict::Undo);
    for now in 502..505 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
    assert_eq!(bed.duplicate(505), Verdict::Reduce);
    assert_eq!(bed.resend(505), Some((2000, false)));
}

/// The first of five segments without SACK is sent again three times, and the echo of an original in the acknowledgement
/// of `ack` segments takes the time-out back.
fn needless_repetitions(ack: u64) -> Bed {
    let mut bed = Bed::new(false, 5);
    for (now, again) in [(400, false), (800, true), (1600, true)] {
        assert_eq!(bed.time_out(now), !again);
        assert_eq!(bed.resend(now), Some((0, again)));
    }
    bed.echo = Some(1);
    assert_eq!(bed.ack(ack, &[], 2000), Verdict::Undo);
    bed
}

#[test]
fn answers_of_needless_repetitions_prove_no_loss_although_more_was_acknowledged_meanwhile() {
    // RFC 3522: the first late acknowledgement takes the time-out back. A path that keeps the order delivers the
    // repetitions behind all originals, and their answers are about what comes then.
    let mut bed = needless_repetitions(1);
    for _ in 0..5 {
        bed.send(2001);
    }
    assert_eq!(bed.ack(5, &[], 2002), Verdict::Grow);
    for now in 2003..2008 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
    assert_eq!(
        bed.duplicate(2008),
        Verdict::Reduce,
        "three answer new data"
    );
    assert_eq!(bed.resend(2008), Some((5000, false)));
}

#[test]
fn beyond_what_was_in_flight_at_an_undo_three_duplicates_are_enough() {
    let mut bed = needless_repetitions(1);
    for _ in 0..5 {
        bed.send(2001);
    }
    assert_eq!(bed.ack(6, &[], 2002), Verdict::Grow);
    for now in 2003..2005 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
    assert_eq!(bed.duplicate(2005), Verdict::Reduce);
}

#[test]
fn answers_of_needless_repetitions_prove_no_loss_in_the_next_flight() {
    let mut bed = needless_repetitions(5);
    assert!(bed.loss.is_over());
    bed.loss = Outstanding::new(false, &bed.loss.learnt());
    for _ in 0..5 {
        bed.send(2001);
    }
    for now in 2002..2005 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
    assert_eq!(bed.ack(6, &[], 2005), Verdict::Grow);
    for now in 2006..2008 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
    assert_eq!(bed.duplicate(2008), Verdict::Reduce);
}

#[test]
fn an_echo_brings_back_no_window_from_before_an_earlier_time_out() {
    // RFC 3522 section 3.2: the evidence is about one reduction. Here one without SACK that is not even tested.
    let mut bed = Bed::new(false, 5);
    assert!(bed.time_out(400));
    assert_eq!(bed.resend(400), Some((0, false)));
    for _ in 0..4 {
        bed.send(450);
    }
    assert_eq!(bed.ack(5, &[], 500), Verdict::Grow, "the end of it");
    assert_eq!(bed.ack(6, &[], 501), Verdict::Grow);
    for now in 502..504 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
    assert_eq!(bed.duplicate(504), Verdict::Reduce);
    assert_eq!(bed.resend(504), Some((6000, false)));
    assert!(!bed.time_out(900));
    assert_eq!(bed.resend(900), Some((6000, true)));
    bed.echo = Some(1);
    assert_eq!(bed.ack(7, &[], 1000), Verdict::Grow);
}

#[test]
fn a_part_of_what_is_lost_once_more_is_no_first_acknowledgement() {
    // RFC 5682 section 2.1, step 2a.
    let mut bed = Bed::new(false, 5);
    assert!(bed.time_out(400));
    assert_eq!(bed.resend(400), Some((0, false)));
    assert!(!bed.time_out(1000));
    let seen = bed.seen(500);
    assert_eq!(bed.hear(&seen, &[], 1001), Verdict::Grow);
    assert_eq!(bed.resend(1001), Some((500, true)), "conventionally");
}
