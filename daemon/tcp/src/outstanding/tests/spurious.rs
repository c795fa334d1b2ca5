//! Recoveries that were not deserved, and those that were, with SACK.

use super::*;

#[test]
fn originals_that_arrive_after_a_time_out_undo_it() {
    // RFC 5682 section 3.1.
    let mut bed = Bed::new(true, 5);
    assert!(bed.time_out(400));
    assert_eq!(bed.resend(400), Some((0, false)));
    assert_eq!(bed.ack(1, &[], 410), Verdict::Grow);
    assert_eq!(bed.resend(410), None, "new data first");
    bed.send(410);
    bed.send(410);
    assert!(bed.loss.awaits_verdict());
    assert_eq!(bed.ack(2, &[], 411), Verdict::Undo);
    assert!(bed.loss.take_undo().is_some());
    assert_eq!(bed.resend(411), None);
    assert_eq!(bed.loss.pipe(SMSS), 5000);
}

#[test]
fn a_time_out_that_was_taken_back_proves_no_loss_of_other_originals() {
    // RFC 8985 section 6.2, step 2: longer than a round trip after it left, the repetition might have been it.
    let mut bed = Bed::new(true, 8);
    assert!(bed.time_out(400));
    assert_eq!(bed.resend(400), Some((0, false)));
    assert_eq!(bed.ack(2, &[], 600), Verdict::Undo);
    for (ack, now) in [(4, 600), (6, 600), (7, 601)] {
        assert_eq!(bed.ack(ack, &[], now), Verdict::Grow);
        assert!(!bed.loss.has_lost());
    }
    // What is really missing is noticed as ever.
    for _ in 0..4 {
        bed.send(601);
    }
    assert_eq!(bed.ack(7, &[8..11], 701), Verdict::Reduce);
}

#[test]
fn a_real_time_out_goes_on_after_the_new_segments_are_sacked() {
    // RFC 5682 section 3.1, step 3a.
    let mut bed = Bed::new(true, 5);
    assert!(bed.time_out(400));
    let _ = bed.resend(400);
    let _ = bed.ack(1, &[], 500);
    bed.send(500);
    bed.send(500);
    assert_eq!(bed.ack(1, &[5..6], 600), Verdict::Grow);
    assert_eq!(bed.resend(600), Some((1000, false)));
}

#[test]
fn without_new_data_a_time_out_is_repaired_conventionally() {
    let mut bed = Bed::new(true, 5);
    assert!(bed.time_out(400));
    let _ = bed.resend(400);
    let _ = bed.ack(1, &[], 500);
    assert!(bed.loss.on_nothing_new());
    assert_eq!(bed.resend(500), Some((1000, false)));
}

#[test]
fn what_was_held_back_and_never_left_is_shown_after_an_undo_and_reduces_nothing() {
    // See `skip`: the time-out gives the test up, and the hole is still of our making.
    for sack in [true, false] {
        let mut bed = Bed::new(sack, 5);
        bed.loss.withhold(4000..5000, &mut bed.pool);
        assert!(bed.time_out(400));
        assert_eq!(bed.resend(400), Some((0, false)));
        bed.echo = Some(400);
        assert_eq!(bed.ack(1, &[], 410), Verdict::Grow);
        bed.send(410);
        bed.send(410);
        bed.echo = Some(1);
        assert_eq!(bed.ack(2, &[], 411), Verdict::Undo);
        assert!(bed.loss.take_undo().is_some());
        assert!(!bed.loss.has_lost());
        let missed = bed.loss.skip.missed().cloned();
        assert_eq!(missed, Some(4000..5000), "SACK: {sack}");
        assert_eq!(bed.ack(4, &[], 412), Verdict::Grow);
        bed.loss
            .on_shown(&(4000..5000), at(413), Duration::ZERO, &mut bed.pool);
        for now in 414..420 {
            assert_eq!(bed.duplicate(now), Verdict::Grow, "SACK: {sack}");
        }
        assert_eq!(bed.resend(420), None);
        assert_eq!(bed.ack(7, &[], 513), Verdict::Grow);
    }
}

#[test]
fn an_echo_of_the_original_undoes_a_fast_recovery() {
    // RFC 3522.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.resend(103), Some((0, false)));
    bed.echo = Some(0);
    assert_eq!(bed.ack(4, &[], 104), Verdict::Undo);
    assert!(bed.loss.take_undo().is_some());
    bed.echo = Some(5);
    assert_eq!(bed.ack(6, &[], 106), Verdict::Grow);
}

#[test]
fn what_arrives_before_anything_was_sent_again_undoes_a_fast_recovery() {
    // RFC 3522 section 1: of what was sent once there is nothing to confuse it with. No echo is needed.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.ack(4, &[], 104), Verdict::Undo);
    assert!(bed.loss.take_undo().is_some());
    assert_eq!(bed.resend(104), None);
    assert_eq!(bed.ack(6, &[], 106), Verdict::Grow);
    // RFC 8985 section 6.2, step 3: reordering is expected now.
    for now in 107..112 {
        bed.send(now);
    }
    assert_eq!(bed.ack(6, &[7..10], 210), Verdict::Grow);
}

#[test]
fn what_was_sent_again_and_echoes_nothing_undoes_nothing() {
    // RFC 3522 section 1: it may be the one or the other.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[2..5], 104), Verdict::Reduce);
    assert_eq!(bed.resend(104), Some((0, false)));
    assert_eq!(bed.ack(1, &[2..5], 105), Verdict::Hold);
    // The second hole was not sent again, but the first one was: the window may be due for that.
    assert_eq!(bed.ack(5, &[], 106), Verdict::Hold);
}

#[test]
fn after_an_undo_what_is_still_missing_is_looked_at_again_in_time() {
    // RFC 8985 section 6.2, step 5: no acknowledgement need come to ask for it.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..2, 3..6], 105), Verdict::Reduce);
    let seen = bed.seen(2000);
    let path = Bed::path(106);
    let delivered = bed
        .loss
        .deliver(&seen, [3000..6000].into_iter(), &path, &mut bed.pool);
    let judged = bed.loss.judge(&seen, &delivered, &path, &mut bed.pool);
    assert_eq!(judged.verdict, Verdict::Undo);
    assert!(!bed.loss.has_lost());
    // It left at 2 ms; the round trip of the late one, and a window that the needless recovery has doubled to 50 ms.
    assert_eq!(judged.reorder_timeout, Some(ms(52)));
    let later = bed.loss.on_reorder_timer(6000, &Bed::path(158));
    assert_eq!(later.verdict, Verdict::Reduce);
    assert_eq!(bed.resend(158), Some((2000, false)));
}

#[test]
fn an_echo_of_what_the_last_recovery_sent_again_does_not_undo_the_next() {
    // RFC 3522 section 3.2: with many losses the retransmissions of one recovery are acknowledged in the next.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.resend(103), Some((0, false)));
    for now in 104..108 {
        bed.send(now);
    }
    bed.echo = Some(103);
    assert_eq!(bed.ack(5, &[], 203), Verdict::Hold);
    // Segments 5 and 6 are sent again in the recovery that ends with segment 5.
    assert_eq!(bed.ack(5, &[7..10], 205), Verdict::Hold);
    assert_eq!(bed.resend(205), Some((5000, false)));
    for _ in 10..14 {
        bed.send(206);
    }
    assert_eq!(bed.resend(206), Some((6000, false)));
    bed.echo = Some(205);
    assert_eq!(bed.ack(6, &[7..10], 305), Verdict::Hold);
    // Segment 10 begins the next one, and only then segment 6 is acknowledged.
    assert_eq!(bed.ack(6, &[7..10, 11..14], 306), Verdict::Reduce);
    assert_eq!(bed.resend(306), Some((10_000, false)));
    bed.echo = Some(206);
    assert_eq!(bed.ack(10, &[11..14], 307), Verdict::Hold);
    assert!(bed.loss.take_undo().is_some(), "still open to evidence");
}

#[test]
fn a_dsack_after_the_recovery_undoes_it_and_widens_the_window() {
    // RFC 3708, RFC 8985 section 6.2 step 4.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.resend(103), Some((0, false)));
    bed.send(104);
    assert_eq!(bed.ack(6, &[], 106), Verdict::Hold);
    assert_eq!(bed.dsack(6, 0, 203), Verdict::Undo);
    assert!(bed.loss.take_undo().is_some());
    // What was enough the first time is not now: reordering is expected.
    for now in 204..209 {
        bed.send(now);
    }
    assert_eq!(bed.ack(7, &[8..11], 308), Verdict::Grow);
}

#[test]
fn a_recovery_without_evidence_is_not_undone() {
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.resend(103), Some((0, false)));
    bed.echo = Some(103);
    assert_eq!(bed.ack(6, &[], 203), Verdict::Hold);
    bed.send(203);
    assert_eq!(bed.ack(7, &[], 303), Verdict::Grow);
}
