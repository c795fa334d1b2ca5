//! Both halves of AccECN: what is counted, what is said, and what is made of it.

use sluice_wire::{AccEcnOption, AccEcnOrder, Ecn};

use super::reader::Reading;
use super::*;
use crate::ack_run::Acks;

const SMSS: u32 = 1000;

fn data(reporter: &mut Reporter, ecn: Ecn) -> bool {
    reporter.on_packet(ecn, SMSS, 1, true)
}

fn option(counters: [u32; 3]) -> AccEcnOption {
    AccEcnOption::new(AccEcnOrder::Ect0First, counters, 3)
}

fn report(ace: u8, segments: u32) -> Report<'static> {
    Report {
        ace,
        option: None,
        delivered: u64::from(segments * SMSS),
        acks: Acks::ONE,
        is_newer: true,
        smss: SMSS,
    }
}

fn marks(reader: &mut Reader, ace: u8, segments: u32) -> u32 {
    reader.on_ack(&report(ace, segments)).packets
}

fn with_option(reader: &mut Reader, ace: u8, segments: u32, counters: [u32; 3]) -> Reading {
    let option = option(counters);
    reader.on_ack(&Report {
        option: Some(&option),
        ..report(ace, segments)
    })
}

/// A reader that has seen many ACKs of two segments each.
fn used_reader() -> Reader {
    let mut reader = Reader::new();
    for _ in 0..20 {
        assert_eq!(marks(&mut reader, 5, 2), 0);
    }
    reader
}

/// 3.2.1.
#[test]
fn counters_begin_as_the_rfc_has_it() {
    let mut reporter = Reporter::new();
    assert_eq!(reporter.ace(), 5);
    assert_eq!(reporter.option(40), None, "nothing moved");
    reporter.want_option();
    assert_eq!(reporter.option(40), Some(option([1, 0, 1])));
    assert_eq!(Reporter::of_syn_ack(), option([1, 0, 1]));
    assert_eq!(Reader::new().reported(), (0, 0));
}

/// 3.2.
#[test]
fn bytes_are_counted_by_codepoint_and_marked_packets_once_each() {
    let mut reporter = Reporter::new();
    for (ecn, len) in [
        (Ecn::Ect0, 100),
        (Ecn::Ect1, 20),
        (Ecn::Ce, 3),
        (Ecn::NotEct, 7),
        (Ecn::Ce, 0),
    ] {
        reporter.on_packet(ecn, len, 1, true);
    }
    assert_eq!(reporter.ace(), 7);
    assert_eq!(reporter.option(40), Some(option([101, 3, 21])));
    assert_eq!(reporter.received(), (2, 3));
}

/// 3.2.2.5.1, last paragraphs: what was merged counts as what it was.
#[test]
fn a_merged_packet_counts_as_its_segments() {
    let mut reporter = Reporter::new();
    assert!(reporter.on_packet(Ecn::Ce, 10 * SMSS, 10, true));
    assert_eq!(reporter.ace(), (5 + 10) % 8);
}

/// 3.2.2.5.1.
#[test]
fn the_first_mark_after_an_unmarked_packet_is_said_at_once() {
    let mut reporter = Reporter::new();
    assert!(!data(&mut reporter, Ecn::Ect0));
    assert!(data(&mut reporter, Ecn::Ce));
    reporter.ace();
    assert!(!data(&mut reporter, Ecn::Ce), "one since the last ACK");
    assert!(data(&mut reporter, Ecn::Ce), "two");
    reporter.ace();
    assert!(!data(&mut reporter, Ecn::Ect0));
    assert!(data(&mut reporter, Ecn::Ce));
}

/// 3.2.2.5.1: n is 3 without data, so that ACKs of ACKs die out; and only data makes a change.
#[test]
fn three_marked_packets_without_data_make_an_ack() {
    let mut reporter = Reporter::new();
    let mut bare = || reporter.on_packet(Ecn::Ce, 0, 1, false);
    assert_eq!([bare(), bare(), bare()], [false, false, true]);
}

/// 3.2.2.1, table 3, and 3.2.2.2.
#[test]
fn the_ack_of_a_syn_ack_says_as_what_it_came() {
    for (ecn, ace, counter) in [
        (Ecn::NotEct, 0b010, 5),
        (Ecn::Ect1, 0b011, 5),
        (Ecn::Ect0, 0b100, 5),
        (Ecn::Ce, 0b110, 6),
    ] {
        let mut reporter = Reporter::new();
        for _ in 0..3 {
            reporter.on_syn_ack(ecn);
            assert!(reporter.owes_handshake_ack());
            assert_eq!(reporter.take_handshake_ace(), Some(ace));
            assert_eq!(reporter.take_handshake_ace(), None);
            assert_eq!(reporter.ace(), counter, "{ecn:?}");
        }
    }
}

/// 3.2.3.3 and its examples.
#[test]
fn an_option_has_the_counters_that_ever_moved() {
    let mut reporter = Reporter::new();
    let fields = |reporter: &mut Reporter| {
        let option = reporter.option(40)?;
        Some((option.ect0(), option.ce(), option.ect1()))
    };
    data(&mut reporter, Ecn::Ect0);
    assert_eq!(fields(&mut reporter), Some((Some(1001), None, None)));
    assert_eq!(fields(&mut reporter), None, "said");
    data(&mut reporter, Ecn::Ce);
    let both = (Some(1001), Some(1000), None);
    assert_eq!(fields(&mut reporter), Some(both));
    data(&mut reporter, Ecn::Ect0);
    let both = (Some(2001), Some(1000), None);
    assert_eq!(fields(&mut reporter), Some(both));
    data(&mut reporter, Ecn::Ect1);
    let all = (Some(2001), Some(1000), Some(1001));
    assert_eq!(fields(&mut reporter), Some(all));
    data(&mut reporter, Ecn::NotEct);
    assert_eq!(fields(&mut reporter), None, "there is no field for it");

    let mut reporter = Reporter::new();
    data(&mut reporter, Ecn::Ect1);
    assert_eq!(fields(&mut reporter), Some((None, None, Some(1001))));
    data(&mut reporter, Ecn::Ce);
    let both = (None, Some(1000), Some(1001));
    assert_eq!(fields(&mut reporter), Some(both));
}

/// 3.2.3.3, Necessary Option Length.
#[test]
fn without_room_the_unchanged_counters_are_left_out_and_then_the_option() {
    let mut reporter = Reporter::new();
    for ecn in [Ecn::Ect0, Ecn::Ce, Ecn::Ect1] {
        data(&mut reporter, ecn);
    }
    assert_eq!(reporter.option(8), None, "three changed");
    assert_eq!(reporter.option(12).map(|option| option.fields()), Some(3));
    data(&mut reporter, Ecn::Ce);
    let short = reporter.option(8).unwrap();
    assert_eq!((short.fields(), short.ce()), (2, Some(2000)));
    data(&mut reporter, Ecn::Ce);
    assert_eq!(reporter.option(4), None);
    assert_eq!(
        reporter.option(40).and_then(|option| option.ce()),
        Some(3000)
    );
}

/// 3.2.3.2.2.
#[test]
fn options_that_do_not_pass_are_not_sent() {
    let mut reporter = Reporter::new();
    reporter.stop_options();
    data(&mut reporter, Ecn::Ce);
    assert_eq!(reporter.option(40), None);
    assert_eq!(reporter.ace(), 6, "the field still says it");
}

/// 3.2.2.2.
#[test]
fn the_ace_field_is_the_smallest_increment() {
    let mut reader = Reader::new();
    assert_eq!(marks(&mut reader, 7, 4), 2);
    assert_eq!(marks(&mut reader, 7, 4), 0);
    assert_eq!(marks(&mut reader, 2, 4), 3, "it wraps");
    assert_eq!(reader.reported(), (5, 0));
}

/// A.1 and A.2.1.
#[test]
fn an_ack_that_is_overtaken_says_nothing() {
    let mut reader = Reader::new();
    assert_eq!(marks(&mut reader, 7, 4), 2);
    let old = Report {
        is_newer: false,
        ..report(6, 0)
    };
    assert_eq!(reader.on_ack(&old), Reading::default());
    assert_eq!(marks(&mut reader, 7, 1), 0);
    let newer = report(0, 0);
    assert_eq!(reader.on_ack(&newer).packets, 1, "a newer timestamp");
}

/// A.2.1, with its examples.
#[test]
fn after_lost_acks_the_worst_that_is_likely_is_assumed() {
    assert_eq!(marks(&mut used_reader(), 7, 9), 2);
    assert_eq!(marks(&mut used_reader(), 7, 10), 10);
    assert_eq!(marks(&mut used_reader(), 5, 8), 8);
    assert_eq!(marks(&mut used_reader(), 5, 7), 0);
}

/// A.2.1: "only use dSafer.cep rather than d.cep if the moving average of newlyAckedPkt was well below 8".
#[test]
fn a_peer_of_long_stretches_is_not_mistrusted() {
    let mut reader = Reader::new();
    for _ in 0..20 {
        assert_eq!(marks(&mut reader, 5, 44), 0);
    }
    assert_eq!(marks(&mut reader, 7, 44), 2);
    for _ in 0..40 {
        assert_eq!(marks(&mut reader, 7, 2), 0);
    }
    assert_eq!(marks(&mut reader, 1, 10), 10, "habits change");
}

/// 3.2.2.5.2, with the examples of A.2.2.
#[test]
fn with_an_option_the_bytes_decide() {
    let packets = |ace, segments, ceb| {
        let mut reader = used_reader();
        with_option(&mut reader, ace, segments, [1, ceb, 1]).packets
    };
    assert_eq!(packets(5, 8, 1000), 8, "none would be more than SMSS each");
    assert_eq!(packets(7, 10, 1000), 2);
    assert_eq!(packets(4, 15, 6990), 7);
    assert_eq!(packets(7, 10, 9000), 10);
    assert_eq!(packets(5, 30, 0), 0);
}

/// A.1, with its example.
#[test]
fn bytes_are_counted_across_the_wrap_of_their_field() {
    let mut reader = Reader::new();
    let mut total: u32 = 0;
    let mut ace: u8 = 5;
    for _ in 0..4_000 {
        total += 7 * SMSS;
        ace = (ace + 7) % 8;
        let reading = with_option(&mut reader, ace, 7, [1, total, 1]);
        assert_eq!((reading.packets, reading.bytes), (7, 7 * SMSS));
    }
    assert_eq!(reader.reported(), (28_000, total));
    assert!(total > 1 << 24);
}

/// A.3.
#[test]
fn without_an_option_marked_bytes_are_estimated() {
    let mut reader = Reader::new();
    assert_eq!(reader.on_ack(&report(7, 4)).bytes, 2 * SMSS);
    let short = Report {
        delivered: 300,
        ..report(0, 0)
    };
    assert_eq!(reader.on_ack(&short).bytes, 300, "not more than arrived");
}

/// 3.2.3.3: a counter that ever moved is in the option, so one that is not there did not.
#[test]
fn an_option_without_ce_says_that_nothing_was_marked_yet() {
    let mut reader = used_reader();
    let only_ect0 = AccEcnOption::new(AccEcnOrder::Ect0First, [9000, 0, 0], 1);
    let report = Report {
        option: Some(&only_ect0),
        ..report(5, 8)
    };
    assert_eq!(reader.on_ack(&report).packets, 0);
}

/// 3.2.2.4.
#[test]
fn a_first_ace_field_of_zero_is_not_believed_nor_what_follows() {
    let mut reader = Reader::new();
    let reading = reader.on_ack(&report(0, 2));
    assert!(reading.mangled);
    assert_eq!(reading.packets, 0);
    assert_eq!(marks(&mut reader, 3, 2), 0);

    let mut reader = used_reader();
    assert!(!reader.on_ack(&report(0, 4)).mangled, "it wrapped");
}

/// 3.2.2.4: other first values may mean something one day.
#[test]
fn any_other_first_ace_field_is_a_counter() {
    for ace in 1..8 {
        assert!(!Reader::new().on_ack(&report(ace, 2)).mangled, "{ace}");
    }
}

/// Table 4 and 3.2.2.2: the ACK of the SYN-ACK has no counter.
#[test]
fn the_field_of_the_final_ack_is_taken_once() {
    let mut reader = Reader::new();
    reader.take_ace();
    reader.on_marked_syn_ack();
    assert_eq!(marks(&mut reader, 6, 0), 0);
    assert_eq!(marks(&mut reader, 6, 1), 0, "that mark is known");
    assert_eq!(marks(&mut reader, 7, 1), 1);
    assert_eq!(reader.reported().0, 2);
}

/// 3.2.3.2.4.
#[test]
fn an_option_that_begins_with_zero_is_ignored_for_good() {
    let mut reader = Reader::new();
    assert_eq!(with_option(&mut reader, 5, 2, [0, 0, 0]).packets, 0);
    let reading = with_option(&mut reader, 6, 2, [5, 2000, 1]);
    assert_eq!((reading.packets, reading.bytes), (1, SMSS), "estimated");

    let mut reader = Reader::new();
    with_option(&mut reader, 5, 2, [1, 0, 1]);
    let wrapped = with_option(&mut reader, 6, 2, [0, 2000, 1]);
    assert_eq!(wrapped.bytes, 2000, "later ones may be zero");
}

/// 3.2.3.2.5.
#[test]
fn marked_bytes_without_a_marked_packet_cannot_be() {
    let mut reader = used_reader();
    with_option(&mut reader, 5, 2, [1, 0, 1]);
    assert!(with_option(&mut reader, 5, 2, [1, 1000, 1]).mangled);

    let mut reader = used_reader();
    with_option(&mut reader, 5, 2, [1, 0, 1]);
    assert_eq!(marks(&mut reader, 6, 2), 1);
    let late = with_option(&mut reader, 6, 2, [1, 1000, 1]);
    assert!(!late.mangled, "the packet was known before its bytes");

    let mut reader = used_reader();
    with_option(&mut reader, 5, 2, [1, 0, 1]);
    let round = with_option(&mut reader, 5, 8, [1, 8000, 1]);
    assert_eq!((round.packets, round.mangled), (8, false));
}

/// The wire between both halves: any marks, any ACKs lost, and the option at the end sets it right.
#[test]
fn both_halves_agree_after_any_losses_of_acks() {
    let seed: u64 = 0x5eed;
    println!("seed {seed:#x}");
    let mut random = seed;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) % below
    };
    for run in 0..300 {
        let (marking, losing) = (1 + next(20), 1 + next(6));
        let (mut reporter, mut reader) = (Reporter::new(), Reader::new());
        let mut unheard: u64 = 0;
        for step in 0..400 {
            let mark = if next(marking) == 0 {
                Ecn::Ce
            } else {
                Ecn::Ect0
            };
            unheard += 1;
            if !data(&mut reporter, mark) && next(2) == 0 && step < 399 {
                continue;
            }
            let (ace, option) = (reporter.ace(), reporter.option(40));
            // A sender has so many segments out at most, and the last ACK arrives. So does the first, or its field
            // might have wrapped to the zero that is not believed.
            if next(losing) > 0 && unheard < 30 && step < 399 && step > 5 {
                continue;
            }
            let reading = reader.on_ack(&Report {
                ace,
                option: option.as_ref(),
                delivered: std::mem::take(&mut unheard) * u64::from(SMSS),
                acks: Acks::ONE,
                is_newer: true,
                smss: SMSS,
            });
            assert!(!reading.mangled, "run {run} step {step}");
        }
        assert_eq!(reader.reported(), reporter.received(), "run {run}");
    }
}
