//! What begins and ends a recovery, with segments of 1,000 bytes and a round trip of 100 ms.

// Lists of blocks, one of which is often enough.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::ack_run::Acks;
use crate::congestion::{Algorithm, Controller};

mod plain;
mod spurious;

const SMSS: u32 = 1000;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct Bed {
    loss: Outstanding,
    pool: FlightPool,
    controller: Controller,
    una: u64,
    nxt: u64,
    echo: Option<u64>,
}

impl Bed {
    /// `segments` are in flight, sent one per millisecond from 0 on.
    fn new(sack: bool, segments: u64) -> Bed {
        let mut bed = Bed {
            loss: Outstanding::new(sack, &Learnt::default()),
            pool: FlightPool::new(1),
            controller: Controller::new(Algorithm::NewReno, SMSS),
            una: 0,
            nxt: 0,
            echo: None,
        };
        for segment in 0..segments {
            bed.send(segment);
        }
        bed
    }

    fn path(now: u64) -> Path {
        Path {
            now: at(now),
            srtt: Some(ms(100)),
            min_rtt: Some(ms(100)),
            smss: SMSS,
        }
    }

    fn send(&mut self, now: u64) {
        self.nxt += 1000;
        self.loss
            .on_sent(self.nxt, at(now), Duration::ZERO, &mut self.pool);
    }

    /// Sends again what comes next; its first byte and whether it was sent again before.
    fn resend(&mut self, now: u64) -> Option<(u64, bool)> {
        let (range, again) = self.loss.next_retransmission()?;
        let range = range.start..range.end.min(range.start + 1000);
        self.loss
            .on_sent_again(&range, at(now), Duration::ZERO, &mut self.pool);
        Some((range.start, again))
    }

    fn seen(&self, ack: u64) -> AckSeen {
        AckSeen {
            snd_una: ack,
            snd_nxt: self.nxt,
            acked: ack - self.una,
            duplicate: false,
            dsack: None,
            echoed_ms: self.echo,
            is_newer: false,
            acks: Acks::ONE,
        }
    }

    fn hear(&mut self, seen: &AckSeen, blocks: &[Range<u64>], now: u64) -> Verdict {
        let path = Bed::path(now);
        let delivered = self
            .loss
            .deliver(seen, blocks.iter().cloned(), &path, &mut self.pool);
        let judged = self.loss.judge(seen, &delivered, &path, &mut self.pool);
        if judged.verdict == Verdict::Reduce {
            self.loss.remember(&self.controller);
            self.loss
                .begin_recovery(10_000, 5000, Some(&delivered), SMSS);
        }
        let safe = seen.acked > 0 && !judged.found_lost;
        self.loss.regulate(delivered.bytes, safe, SMSS, 10_000);
        self.una = seen.snd_una;
        judged.verdict
    }

    /// Acknowledges up to segment `ack`, SACKs the segments in `blocks`.
    fn ack(&mut self, ack: u64, blocks: &[Range<u64>], now: u64) -> Verdict {
        let blocks: Vec<Range<u64>> = blocks
            .iter()
            .map(|range| range.start * 1000..range.end * 1000)
            .collect();
        let seen = self.seen(ack * 1000);
        self.hear(&seen, &blocks, now)
    }

    fn dsack(&mut self, ack: u64, segment: u64, now: u64) -> Verdict {
        let seen = AckSeen {
            dsack: Some(segment * 1000..(segment + 1) * 1000),
            ..self.seen(ack * 1000)
        };
        self.hear(&seen, &[], now)
    }

    fn duplicate(&mut self, now: u64) -> Verdict {
        let seen = AckSeen {
            duplicate: true,
            ..self.seen(self.una)
        };
        self.hear(&seen, &[], now)
    }

    fn time_out(&mut self, now: u64) -> bool {
        let first = self
            .loss
            .on_timeout(&Bed::path(now), self.nxt, &mut self.pool);
        if first {
            self.loss.remember(&self.controller);
        }
        first
    }
}

#[test]
fn three_sacked_segments_begin_a_recovery_that_ends_where_it_began() {
    // RFC 8985 section 6.2, RFC 6675 section 5.
    let mut bed = Bed::new(true, 10);
    assert_eq!(bed.ack(0, &[1..2], 101), Verdict::Grow);
    assert_eq!(bed.ack(0, &[1..3], 102), Verdict::Grow);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.resend(103), Some((0, false)));
    assert_eq!(bed.ack(0, &[1..10], 109), Verdict::Hold);
    bed.send(109);
    assert_eq!(bed.ack(10, &[], 203), Verdict::Hold, "the end of it");
    assert_eq!(bed.ack(11, &[], 209), Verdict::Grow);
}

#[test]
fn a_loss_after_the_begin_of_a_recovery_is_a_new_one() {
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    let _ = bed.resend(103);
    for _ in 0..4 {
        bed.send(104);
    }
    // Of those sent in the recovery the first is lost.
    assert_eq!(bed.ack(0, &[1..6, 7..10], 206), Verdict::Hold);
    assert_eq!(bed.ack(6, &[7..10], 207), Verdict::Reduce);
    assert_eq!(bed.resend(207), Some((6000, false)));
}

#[test]
fn a_lost_retransmission_is_sent_again_without_a_time_out() {
    // RFC 8985 section 6.2.
    let mut bed = Bed::new(true, 6);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert_eq!(bed.resend(103), Some((0, false)));
    bed.send(104);
    assert_eq!(bed.ack(0, &[1..7], 204), Verdict::Hold);
    assert_eq!(bed.resend(204), Some((0, true)));
}

#[test]
fn duplicates_without_news_prove_nothing_to_a_sack_sender() {
    // RFC 6675 section 2: duplicated packets cause such acknowledgements too.
    let mut bed = Bed::new(true, 10);
    for now in 101..106 {
        assert_eq!(bed.duplicate(now), Verdict::Grow);
    }
}

#[test]
fn a_time_out_sends_everything_again_that_is_not_sacked() {
    let mut bed = Bed::new(true, 5);
    let _ = bed.ack(0, &[2..3], 102);
    assert!(bed.time_out(400));
    assert!(!bed.time_out(800), "ssthresh is lowered once");
    let sent: Vec<u64> = std::iter::from_fn(|| bed.resend(800))
        .map(|s| s.0)
        .collect();
    assert_eq!(sent, vec![0, 1000, 3000, 4000]);
    assert!(!bed.time_out(2000));
    assert_eq!(bed.resend(2000), Some((0, true)), "and once more");
}

#[test]
fn reneging_is_noticed_at_the_time_out() {
    // RFC 2018 section 8.
    let mut bed = Bed::new(true, 3);
    let _ = bed.ack(0, &[0..2], 102);
    assert!(bed.time_out(400));
    assert_eq!(bed.resend(400), Some((0, false)));
    assert_eq!(bed.resend(400), Some((1000, false)));
    assert_eq!(bed.resend(400), Some((2000, false)));
}

#[test]
fn the_flight_returns_to_the_window_without_a_burst() {
    let mut bed = Bed::new(true, 10);
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    let _ = bed.resend(103);
    assert_eq!(bed.ack(0, &[1..10], 109), Verdict::Hold);
    bed.send(109);
    assert_eq!(bed.ack(10, &[], 203), Verdict::Hold);
    assert_eq!(bed.loss.pipe(SMSS), 1000);
    assert_eq!(
        bed.loss.window(10_000, false),
        3000,
        "one for the delivery, one more"
    );
    bed.send(203);
    bed.send(203);
    let _ = bed.ack(11, &[], 210);
    assert_eq!(bed.loss.window(10_000, false), 4000);
    let _ = bed.ack(13, &[], 303);
    assert_eq!(
        bed.loss.window(10_000, false),
        10_000,
        "nothing is in flight"
    );
}

#[test]
fn a_tail_is_probed_only_while_nothing_is_wrong() {
    // RFC 8985 section 7.2.
    let mut bed = Bed::new(true, 6);
    assert!(bed.loss.may_probe());
    let _ = bed.ack(0, &[1..2], 101);
    assert!(!bed.loss.may_probe());
    assert_eq!(bed.ack(0, &[1..4], 103), Verdict::Reduce);
    assert!(!bed.loss.may_probe(), "first things first");
    let _ = bed.resend(103);
    assert!(bed.loss.may_probe(), "the repetition may be lost");
    assert!(!Bed::new(false, 6).loss.may_probe());
}

#[test]
fn a_probe_that_was_the_repair_reduces_the_window_once() {
    // RFC 8985 section 7.4.2.
    let mut bed = Bed::new(true, 3);
    let _ = bed.ack(2, &[], 102);
    let tail = bed.loss.tail(SMSS).expect("in flight");
    bed.loss
        .on_sent_again(&tail, at(300), Duration::ZERO, &mut bed.pool);
    bed.loss.on_probe_sent(bed.nxt, true);
    assert_eq!(bed.ack(3, &[], 400), Verdict::Grow);
    bed.send(400);
    assert_eq!(bed.ack(4, &[], 500), Verdict::ReduceForProbe);
    bed.send(500);
    assert_eq!(bed.ack(5, &[], 600), Verdict::Grow);
}
