//! What begins a run, what joins it, and how several wait.

use super::*;

#[test]
fn acknowledgements_in_a_row_are_taken_as_the_newest() {
    let mut bed = Bed::plain();
    bed.transmit();
    let before = bed.stack.counters().segments_in;
    let mut run = bed.begin(&bed.ack_of(1)).expect("the first of a run");
    assert_eq!(bed.una(), bed.first, "nothing has become of it yet");
    for segments in [2, 4, 7] {
        let newest = TcpHeader {
            window: 50_000,
            ..bed.ack_of(segments)
        };
        assert!(run.merge(&segment(&newest, 0)));
    }
    let rtt = bed.stack.end_run(bed.now, &run);
    assert_eq!(bed.una(), bed.ack_of(7).ack);
    assert_eq!(bed.connection().send.window(), 50_000 << 7);
    assert!(rtt.is_some(), "the timed segment is among them");
    let counters = bed.stack.counters();
    assert_eq!(
        (counters.segments_in - before, counters.acks_merged),
        (4, 3)
    );
    let (conn, events) = bed.stack.poll_event().expect("news");
    assert!(conn == bed.conn && events.acknowledged);
}

#[test]
fn what_says_anything_else_does_not_join() {
    let mut bed = Bed::plain();
    let end = bed.transmit();
    let (first, next) = (bed.ack_of(2), bed.ack_of(4));
    let value = first.options.timestamps.expect("offered").value;
    let echo = first.options.timestamps.expect("offered").echo;
    let with_flags = |flags: TcpFlags| TcpHeader {
        flags: flags.union(TcpFlags::ACK),
        ..next
    };
    let mut without_timestamps = next;
    without_timestamps.options.timestamps = None;
    let mut with_marks = next;
    with_marks.options.accecn = Some(AccEcnOption::new(AccEcnOrder::Ect0First, [1, 0, 1], 3));
    let strangers = [
        ("a duplicate (RFC 5681 2)", first),
        ("an older ACK", bed.ack_of(1)),
        (
            "an ACK of what was never sent (RFC 5961 5.2)",
            TcpHeader {
                ack: end.wrapping_add(1),
                ..next
            },
        ),
        (
            "another SEQ: data lies between",
            TcpHeader {
                seq: next.seq.wrapping_add(1),
                ..next
            },
        ),
        ("FIN", with_flags(TcpFlags::FIN)),
        ("SYN", with_flags(TcpFlags::SYN)),
        ("RST", with_flags(TcpFlags::RST)),
        ("PSH", with_flags(TcpFlags::PSH)),
        ("URG", with_flags(TcpFlags::URG)),
        (
            "an echo of a mark (RFC 3168 6.1.3)",
            with_flags(TcpFlags::ECE),
        ),
        (
            "no ACK",
            TcpHeader {
                flags: TcpFlags::EMPTY,
                ..next
            },
        ),
        (
            "a SACK block (RFC 2018)",
            with_sack(next, end.wrapping_sub(10), end),
        ),
        (
            "another echo (RFC 3522)",
            with_timestamps(next, value, echo.wrapping_add(1)),
        ),
        (
            "an older TSval (RFC 7323 5.3)",
            with_timestamps(next, value.wrapping_sub(1), echo),
        ),
        ("no timestamps (RFC 7323 3.2)", without_timestamps),
        ("counters of marked bytes (RFC 9768 3.2.3)", with_marks),
        (
            "another flow",
            TcpHeader {
                src_port: 4001,
                ..next
            },
        ),
    ];
    let run = bed.begin(&first).expect("the first of a run");
    for (why, stranger) in strangers {
        assert!(!run.clone().merge(&segment(&stranger, 0)), "{why}");
    }
    assert!(!run.clone().merge(&segment(&next, 1)), "data");
    let marked = Segment {
        ecn: Ecn::Ce,
        ..segment(&next, 0)
    };
    assert!(!run.clone().merge(&marked), "another codepoint");
    let newer = with_timestamps(next, value.wrapping_add(1), echo);
    assert!(run.clone().merge(&segment(&newer, 0)), "a newer TSval may");
}

#[test]
fn only_what_is_expected_begins_a_run() {
    let mut bed = Bed::plain();
    let end = bed.transmit();
    let good = bed.ack_of(2);
    let old = with_timestamps(good, 999, good.options.timestamps.expect("offered").echo);
    let strangers = [
        ("a duplicate", bed.ack_of(0)),
        (
            "an old ACK",
            TcpHeader {
                ack: bed.first.wrapping_sub(1),
                ..good
            },
        ),
        (
            "an ACK of what was never sent",
            TcpHeader {
                ack: end.wrapping_add(1),
                ..good
            },
        ),
        (
            "the SEQ of a keep-alive",
            TcpHeader {
                seq: good.seq.wrapping_sub(1),
                ..good
            },
        ),
        ("an old TSval", old),
        ("a SACK block", with_sack(good, end.wrapping_sub(10), end)),
        (
            "a FIN",
            TcpHeader {
                flags: TcpFlags::FIN.union(TcpFlags::ACK),
                ..good
            },
        ),
        (
            "an unknown flow",
            TcpHeader {
                src_port: 4001,
                ..good
            },
        ),
    ];
    for (why, stranger) in strangers {
        assert!(bed.begin(&stranger).is_none(), "{why}");
    }
    assert!(bed.stack.begin_run(bed.now, &segment(&good, 1)).is_none());
    assert!(bed.begin(&good).is_some());
}

#[test]
fn each_acknowledgement_counts_while_something_may_be_lost() {
    // RFC 5682, 3522, 8985 and 9937 look at single ones.
    let mut bed = Bed::plain();
    bed.transmit();
    let hole = with_sack(bed.ack_of(1), bed.ack_of(2).ack, bed.ack_of(3).ack);
    let _ = bed.hear(&hole);
    assert!(bed.begin(&bed.ack_of(3)).is_none(), "a hole was reported");
    let _ = bed.hear(&bed.ack_of(3));
    assert!(bed.begin(&bed.ack_of(4)).is_some(), "it is filled");
}

#[test]
fn each_acknowledgement_counts_after_a_probe_and_after_a_time_out() {
    // RFC 8985 section 7.4.2, RFC 5682 section 2.1, RFC 3522 section 3.2.
    let mut bed = Bed::plain();
    bed.transmit();
    for (why, pause_ms) in [
        ("a tail loss probe is out", 300),
        ("everything timed out", 3000),
    ] {
        bed.now = bed.now + Duration::from_millis(pause_ms);
        bed.stack.on_timers(bed.now);
        bed.transmit();
        assert!(bed.begin(&bed.ack_of(1)).is_none(), "{why}");
    }
    assert_eq!(bed.stack.counters().timeouts, 1);
}

#[test]
fn what_is_challenged_hides_nothing() {
    // RFC 5961 section 5.2: a forged acknowledgement between two of the peer's.
    let mut bed = Bed::plain();
    let end = bed.transmit();
    let forged = TcpHeader {
        ack: end.wrapping_add(1_000_000),
        ..bed.ack_of(1)
    };
    let batch = [bed.ack_of(1), bed.ack_of(2), forged, bed.ack_of(3)];
    bed.hear_batch(&batch.map(|header| (header, Ecn::NotEct)));
    assert_eq!(bed.una(), bed.ack_of(3).ack);
    assert_eq!(bed.stack.counters().challenge_acks, 1);
}

#[test]
fn a_run_whose_connection_is_gone_is_nothing() {
    let mut bed = Bed::plain();
    bed.transmit();
    let run = bed.begin(&bed.ack_of(1)).expect("the first of a run");
    bed.stack.abort(bed.conn);
    while bed.stack.poll_transmit(bed.now).is_some() {}
    while bed.stack.poll_event().is_some() {}
    assert_eq!(bed.stack.end_run(bed.now, &run), None);
    let receipt = bed.hear(&bed.ack_of(2));
    assert_eq!(receipt.disposition, Disposition::Unknown);
}

#[test]
fn with_accurate_ecn_a_stretch_that_may_hide_a_round_of_the_counter_is_heard_by_itself() {
    // RFC 9768 section 3.2.2.5.2: three bits.
    let mut bed = Bed::new(TcpFlags::ACE, config(Algorithm::Cubic));
    assert!(bed.connection().control.ecn.is_accurate());
    bed.transmit();
    assert!(bed.begin(&bed.ack_of(8)).is_none());
    let run = bed.begin(&bed.ack_of(1)).expect("the first of a run");
    assert!(!run.clone().merge(&segment(&bed.ack_of(9), 0)));
    assert!(run.clone().merge(&segment(&bed.ack_of(8), 0)));
}

/// A run of one acknowledgement on the connection of `port`.
fn run_on(port: u16, header: &TcpHeader) -> AckRun {
    let reach = Reach {
        una: SeqNumber::new(0),
        nxt: SeqNumber::new(1000),
        stretch: 1000,
    };
    let conn = ConnId {
        slot: port.into(),
        generation: 0,
    };
    let segment = Segment {
        key: key(port),
        ..segment(header, 0)
    };
    AckRun::new(conn, &segment, reach).expect("within reach")
}

#[test]
fn runs_of_several_connections_wait_beside_one_another() {
    let mut header = TcpHeader {
        ack: 1,
        flags: TcpFlags::ACK,
        ..TcpHeader::default()
    };
    let mut runs = AckRuns::new();
    for port in 1..=8 {
        assert!(runs.wait(run_on(port, &header)).is_none(), "{port}");
    }
    header.ack = 2;
    for port in [3, 8, 1] {
        header.src_port = port;
        assert!(matches!(runs.join(&segment(&header, 0)), Joining::Joined));
    }
    header.src_port = 9;
    assert!(matches!(runs.join(&segment(&header, 0)), Joining::Free));
    let oldest = runs.wait(run_on(9, &header)).expect("no room for nine");
    assert_eq!((oldest.key, oldest.acks().count), (key(1), 2));
    header.src_port = 3;
    let Joining::Ends(third) = runs.join(&segment(&header, 5)) else {
        panic!("data ends a run");
    };
    assert_eq!((third.key, third.acks().count), (key(3), 2));
    let left: Vec<FlowKey> = core::iter::from_fn(|| runs.end_next())
        .map(|run| run.key)
        .collect();
    assert_eq!(left, [9, 8, 7, 6, 5, 4, 2].map(key));
}
