//! LISTEN and SYN-RECEIVED, segment by segment (RFC 9293 sections 3.10.7.1, 3.10.7.2 and 3.10.7.4).

mod support;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::{ConnectError, Disposition, Segment, SegmentDrop, Stack, State};
use sluice_wire::{Ecn, TcpFlags, TcpHeader, Timestamps};
use support::{Peer, SERVER, START, at, config};

fn stack() -> Stack {
    Stack::new(config(8, 64), START)
}

/// A stack that answers every SYN by a cookie: its table is full of somebody else's.
fn flooded() -> Stack {
    let mut stack = stack();
    for number in 0..64 {
        let _ = Peer::new(1 << 20 | number).say(&mut stack, START, &Peer::new(number).syn());
    }
    while stack.poll_transmit(START).is_some() {}
    assert!(stack.is_flooded());
    stack
}

#[test]
fn a_syn_takes_no_connection_slot_and_the_final_ack_does() {
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    assert_eq!((stack.half_open(), stack.connections().count()), (1, 0));
    let receipt = peer.say(&mut stack, at(30), &peer.ack(&syn_ack));
    let conn = receipt.conn.expect("a connection");
    assert_eq!(stack.state(conn), Some(State::Established));
    assert_eq!((stack.half_open(), stack.len()), (0, 1));
    let (id, events) = stack.poll_event().expect("news");
    assert!(id == conn && events.established);
}

#[test]
fn only_what_the_syn_offered_is_offered_in_return() {
    // RFC 7323 sections 1.3 and 2.2, RFC 2018 section 2.
    for mut stack in [stack(), flooded()] {
        let full = Peer::new(1).knock(&mut stack, at(0)).options;
        assert_eq!((full.mss, full.window_scale), (Some(1460), Some(5)));
        assert!(full.sack_permitted && full.timestamps.is_some_and(|ts| ts.echo == 1000));
        let plain = Peer::plain(2).knock(&mut stack, at(0)).options;
        assert_eq!((plain.mss, plain.window_scale), (Some(1460), None));
        assert!(!plain.sack_permitted && plain.timestamps.is_none());
    }
}

/// A SYN that offers ECN (RFC 3168 section 6.1.1).
fn ecn_syn(peer: &Peer) -> TcpHeader {
    let mut syn = peer.syn();
    syn.flags = syn.flags.union(TcpFlags::ECE).union(TcpFlags::CWR);
    syn
}

#[test]
fn an_offer_of_ecn_is_taken_through_an_entry_and_through_a_cookie() {
    // RFC 3168 section 6.1.1.
    for mut stack in [stack(), flooded()] {
        let peer = Peer::new(1);
        let answers = peer.ask(&mut stack, at(0), &ecn_syn(&peer));
        let flags = TcpFlags::SYN.union(TcpFlags::ACK).union(TcpFlags::ECE);
        assert_eq!(answers[0].flags, flags);
        let receipt = peer.say(&mut stack, at(1), &peer.ack(&answers[0]));
        let conn = receipt.conn.expect("a connection");
        assert!(stack.control_view(conn).is_some_and(|view| view.ecn));
        assert_eq!(stack.counters().ecn_negotiated, 1);
        stack.supply(conn, 1000, false);
        assert!(stack.poll_transmit(at(1)).is_some_and(|data| data.ect));
    }
}

#[test]
fn an_offer_of_accurate_ecn_is_taken_through_an_entry_and_through_a_cookie() {
    // RFC 9768 sections 3.1.2 and 5.1: the ACK tells what the cookie has no bit for.
    for (mut stack, peer) in [
        (stack(), Peer::new(1)),
        (flooded(), Peer::new(1)),
        (flooded(), Peer::plain(1)),
    ] {
        let mut syn = peer.syn();
        syn.flags = syn.flags.union(TcpFlags::ACE);
        let answers = peer.ask(&mut stack, at(0), &syn);
        assert_eq!(answers[0].flags.ace(), 0b010);
        assert_eq!(
            answers[0].options.accecn.map(|option| option.fields()),
            Some(3)
        );
        let mut ack = peer.ack(&answers[0]);
        ack.flags = ack.flags.with_ace(0b010);
        let receipt = peer.say(&mut stack, at(1), &ack);
        let conn = receipt.conn.expect("a connection");
        let view = stack.ecn_view(conn).expect("alive");
        assert!(view.accurate && view.sending);
        assert_eq!(stack.counters().accecn_negotiated, 1);
        stack.supply(conn, 1000, false);
        let data = stack.poll_transmit(at(1)).expect("data");
        assert_eq!((data.ect, data.header.flags.ace()), (true, 5));
    }
}

#[test]
fn a_cookie_without_timestamps_has_no_room_for_classic_ecn() {
    let mut stack = flooded();
    let peer = Peer::plain(1);
    let answers = peer.ask(&mut stack, at(0), &ecn_syn(&peer));
    assert_eq!(answers[0].flags, TcpFlags::SYN.union(TcpFlags::ACK));
    let receipt = peer.say(&mut stack, at(1), &peer.ack(&answers[0]));
    let conn = receipt.conn.expect("a connection");
    assert!(stack.control_view(conn).is_some_and(|view| !view.ecn));
}

#[test]
fn a_repeated_syn_without_the_offer_of_ecn_ends_sending_but_not_feedback() {
    // RFC 3168 section 6.1.1, RFC 9768 section 3.1.5: the client may still get the first answer, and use it.
    let mut stack = stack();
    let peer = Peer::new(1);
    let first = peer.ask(&mut stack, at(0), &ecn_syn(&peer));
    let again = peer.ask(&mut stack, at(900), &ecn_syn(&peer));
    assert_eq!(first[0].flags, again[0].flags);
    let plain = peer.ask(&mut stack, at(1800), &peer.syn());
    assert_eq!(plain[0].flags, TcpFlags::SYN.union(TcpFlags::ACK));
    let receipt = peer.say(&mut stack, at(1801), &peer.ack(&plain[0]));
    let conn = receipt.conn.expect("a connection");
    let view = stack.ecn_view(conn).expect("alive");
    assert!(view.negotiated && !view.sending);
}

#[test]
fn a_tuple_in_a_handshake_cannot_be_connected_to() {
    let mut stack = stack();
    let peer = Peer::new(1);
    peer.knock(&mut stack, at(0));
    assert_eq!(stack.connect(peer.key(), at(1)), Err(ConnectError::InUse));
}

#[test]
fn a_driver_that_sleeps_until_the_next_deadline_never_wakes_twice_for_the_same() {
    for mut stack in [stack(), flooded()] {
        Peer::new(1).knock(&mut stack, at(0));
        let mut last = None;
        while let Some(due) = stack.next_deadline() {
            assert!(last < Some(due), "{due:?} after {last:?}");
            last = Some(due);
            stack.on_timers(due);
            while stack.poll_transmit(due).is_some() {}
        }
        assert!(stack.is_empty() && !stack.is_flooded());
    }
}

#[test]
fn the_window_of_a_syn_ack_is_not_scaled() {
    // RFC 7323 section 2.2.
    for mut stack in [stack(), flooded()] {
        assert_eq!(Peer::new(1).knock(&mut stack, at(0)).window, u16::MAX);
    }
}

#[test]
fn a_cookie_leaves_nothing_behind_and_its_answer_opens_a_connection() {
    // RFC 4987 section 3.6.
    let mut stack = flooded();
    let peer = Peer::new(1);
    let before = (stack.len(), stack.half_open(), stack.timers());
    let sent = stack.counters().syn_cookies_sent;
    let syn_ack = peer.knock(&mut stack, at(0));
    assert_eq!(before, (stack.len(), stack.half_open(), stack.timers()));
    let receipt = peer.say(&mut stack, at(200), &peer.ack(&syn_ack));
    assert_eq!(
        receipt.conn.and_then(|conn| stack.state(conn)),
        Some(State::Established)
    );
    let counters = stack.counters();
    assert_eq!(counters.syn_cookies_sent, sent + 1);
    assert_eq!(counters.syn_cookies_accepted, 1);
    assert_eq!((counters.syn_cookies_failed, counters.accepted), (0, 1));
}

#[test]
fn a_cookie_is_good_at_another_worker() {
    let (mut one, mut other) = (flooded(), stack());
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut one, at(0));
    let receipt = peer.say(&mut other, at(1), &peer.ack(&syn_ack));
    assert_eq!(receipt.disposition, Disposition::Accepted);
    assert_eq!(other.counters().accepted, 1);
}

#[test]
fn a_cookie_is_answered_although_the_syn_came_again_and_got_an_entry() {
    let (mut stack, mut other) = (stack(), flooded());
    let peer = Peer::new(1);
    let cookie = peer.knock(&mut other, at(0));
    peer.knock(&mut stack, at(0));
    assert_eq!(stack.half_open(), 1);
    let receipt = peer.say(&mut stack, at(1), &peer.ack(&cookie));
    assert_eq!(receipt.disposition, Disposition::Accepted);
    assert_eq!((stack.half_open(), stack.len()), (0, 1));
}

#[test]
fn a_forged_cookie_changes_nothing_and_is_refused() {
    let mut stack = flooded();
    let peer = Peer::new(1);
    peer.knock(&mut stack, at(0));
    let len = stack.len();
    for guess in 0..1000u32 {
        let forged = peer.header(peer.iss.wrapping_add(1), guess << 20, TcpFlags::ACK);
        let receipt = peer.say(&mut stack, at(1), &forged);
        assert_eq!(receipt.disposition, Disposition::Unknown);
        let refusal = stack.refuse(&Segment {
            key: peer.key(),
            header: &forged,
            payload_len: 0,
            ecn: Ecn::NotEct,
        });
        let refusal = refusal.expect("a RST");
        assert_eq!((refusal.seq, refusal.flags), (forged.ack, TcpFlags::RST));
    }
    assert_eq!(stack.len(), len);
    assert_eq!(stack.counters().syn_cookies_failed, 1000);
    assert_eq!(stack.counters().syn_cookies_accepted, 0);
}

#[test]
fn a_source_gets_its_share_of_the_table_and_then_cookies() {
    let mut stack = Stack::new(config(8, 1024), START);
    for port in 0..100 {
        let peer = Peer {
            port: 1000 + port,
            ..Peer::new(1)
        };
        peer.knock(&mut stack, at(0));
    }
    assert_eq!(stack.half_open(), 64);
    assert_eq!(stack.counters().syn_cookies_sent, 36);
    Peer::new(2).knock(&mut stack, at(0));
    assert_eq!(stack.half_open(), 65, "others are not concerned");
    assert!(!stack.is_flooded());
}

#[test]
fn cookies_end_when_half_of_the_table_is_free_again() {
    let mut stack = flooded();
    let held = stack.half_open();
    assert_eq!(held, 48);
    // The first repeat leaves, and with the second timer the entries go.
    for ms in [1000, 3000] {
        stack.on_timers(at(ms));
        while stack.poll_transmit(at(ms)).is_some() {}
    }
    assert_eq!((stack.half_open(), stack.is_flooded()), (0, false));
    assert_eq!(stack.counters().half_open_evicted, u64::from(held));
    Peer::new(1).knock(&mut stack, at(3001));
    assert_eq!(stack.half_open(), 1);
}

#[test]
fn cookies_are_never_repeated() {
    let mut stack = flooded();
    let before = stack.counters().retransmitted_syn_ack;
    let held = u64::from(stack.half_open());
    Peer::new(1).knock(&mut stack, at(0));
    for ms in (0..100_000).step_by(100) {
        stack.on_timers(at(ms));
        while let Some(outgoing) = stack.poll_transmit(at(ms)) {
            assert_ne!(outgoing.key, Peer::new(1).key());
        }
    }
    let repeats = stack.counters().retransmitted_syn_ack - before;
    assert_eq!(repeats, held, "one for each entry, then they go");
}

#[test]
fn a_final_ack_without_a_free_slot_is_dropped_and_welcome_later() {
    let mut stack = Stack::new(config(1, 64), START);
    let (first, second) = (Peer::new(1), Peer::new(2));
    let (one, two) = (
        first.knock(&mut stack, at(0)),
        second.knock(&mut stack, at(0)),
    );
    let conn = first.say(&mut stack, at(1), &first.ack(&one)).conn;
    let receipt = second.say(&mut stack, at(1), &second.ack(&two));
    let full = Disposition::Dropped(SegmentDrop::ConnectionsFull);
    assert_eq!((receipt.disposition, stack.half_open()), (full, 1));
    let third = Peer::new(3);
    let receipt = third.say(&mut stack, at(1), &third.syn());
    assert_eq!(receipt.disposition, full);
    stack.abort(conn.expect("a connection"));
    while stack.poll_transmit(at(2)).is_some() {}
    while stack.poll_event().is_some() {}
    let receipt = second.say(&mut stack, at(3), &second.ack(&two));
    assert_eq!(receipt.disposition, Disposition::Accepted);
}

#[test]
fn an_ack_of_another_number_is_for_another_worker_and_the_handshake_stays() {
    // RFC 9293 section 3.10.7.4, fifth check: <SEQ=SEG.ACK><CTL=RST> if nobody has it.
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let mut wrong = peer.ack(&syn_ack);
    wrong.ack = wrong.ack.wrapping_add(5);
    assert_eq!(
        peer.say(&mut stack, at(1), &wrong).disposition,
        Disposition::Unknown
    );
    assert_eq!(stack.half_open(), 1);
    let receipt = peer.say(&mut stack, at(2), &peer.ack(&syn_ack));
    assert_eq!(receipt.disposition, Disposition::Accepted);
}

#[test]
fn a_reset_ends_a_handshake_only_if_it_is_exact() {
    // RFC 5961 section 3.2.
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let next = peer.iss.wrapping_add(1);
    let inside = peer.header(next.wrapping_add(9), 0, TcpFlags::RST);
    let answers = peer.ask(&mut stack, at(1), &inside);
    assert_eq!(answers.len(), 1, "a challenge");
    assert_eq!(
        (answers[0].seq, answers[0].ack, answers[0].flags),
        (syn_ack.seq.wrapping_add(1), next, TcpFlags::ACK)
    );
    assert!(peer.ask(&mut stack, at(2), &inside).is_empty(), "one only");
    let outside = peer.header(next.wrapping_sub(9), 0, TcpFlags::RST);
    assert!(peer.ask(&mut stack, at(3), &outside).is_empty());
    assert_eq!(stack.half_open(), 1);
    let exact = peer.header(next, 0, TcpFlags::RST);
    assert!(peer.ask(&mut stack, at(4), &exact).is_empty());
    assert!(stack.is_empty() && stack.timers() == 0);
    assert_eq!(stack.counters().resets_received, 1);
}

#[test]
fn another_syn_is_challenged_and_the_handshake_stays() {
    // RFC 5961 section 4.2.
    let mut stack = stack();
    let peer = Peer::new(1);
    peer.knock(&mut stack, at(0));
    let mut other = peer.syn();
    other.seq = other.seq.wrapping_add(100);
    let answers = peer.ask(&mut stack, at(1), &other);
    assert_eq!((answers.len(), answers[0].flags), (1, TcpFlags::ACK));
    assert_eq!((stack.half_open(), stack.counters().challenge_acks), (1, 1));
}

#[test]
fn nothing_is_challenged_before_the_syn_ack_has_left() {
    let mut stack = stack();
    let peer = Peer::new(1);
    let _ = peer.say(&mut stack, at(0), &peer.syn());
    let mut other = peer.syn();
    other.seq = other.seq.wrapping_add(100);
    let receipt = peer.say(&mut stack, at(0), &other);
    assert!(receipt.reply.is_none() && stack.half_open() == 1);
}

#[test]
fn a_repeated_syn_gets_the_same_syn_ack_with_its_own_timestamp() {
    let mut stack = stack();
    let peer = Peer::new(1);
    let first = peer.knock(&mut stack, at(0));
    let mut again = peer.syn();
    again.options.timestamps = Some(Timestamps {
        value: 2000,
        echo: 0,
    });
    let answers = peer.ask(&mut stack, at(900), &again);
    assert_eq!((answers.len(), answers[0].seq), (1, first.seq));
    // RFC 7323 section 4.3: what tells the peer which of its SYNs arrived.
    let echo = answers[0].options.timestamps.map(|ts| ts.echo);
    assert_eq!((echo, stack.half_open()), (Some(2000), 1));
}

#[test]
fn an_old_or_missing_timestamp_does_not_complete_a_handshake() {
    // RFC 7323 sections 3.2 and 5.3.
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let mut ack = peer.ack(&syn_ack);
    ack.options.timestamps = None;
    let receipt = peer.say(&mut stack, at(1), &ack);
    let missing = Disposition::Dropped(SegmentDrop::TimestampMissing);
    assert_eq!(receipt.disposition, missing);
    ack.options.timestamps = Some(Timestamps {
        value: 999,
        echo: 0,
    });
    let receipt = peer.say(&mut stack, at(1), &ack);
    assert_eq!(receipt.disposition, Disposition::Dropped(SegmentDrop::Paws));
    assert!(receipt.reply.is_some() && stack.half_open() == 1);
}

#[test]
fn an_ack_outside_the_window_is_challenged() {
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let mut ack = peer.ack(&syn_ack);
    ack.seq = ack.seq.wrapping_sub(70_000);
    let receipt = peer.say(&mut stack, at(1), &ack);
    let outside = Disposition::Dropped(SegmentDrop::OutsideWindow);
    assert_eq!(receipt.disposition, outside);
    assert!(receipt.reply.is_some() && stack.half_open() == 1);
}

#[test]
fn the_number_of_a_segment_is_judged_before_its_ack_bit() {
    // RFC 9293 section 3.10.7.4, first and fifth check.
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let next = peer.ack(&syn_ack).seq;
    for (seq, reason) in [
        (next, SegmentDrop::NoAck),
        (next.wrapping_add(70_000), SegmentDrop::OutsideWindow),
    ] {
        let mut bare = peer.ack(&syn_ack);
        (bare.seq, bare.flags) = (seq, TcpFlags::PSH);
        let receipt = peer.say(&mut stack, at(1), &bare);
        assert_eq!(receipt.disposition, Disposition::Dropped(reason));
        let is_answered = receipt.reply.is_some();
        assert_eq!(is_answered, reason == SegmentDrop::OutsideWindow);
    }
    assert_eq!(stack.half_open(), 1);
}

#[test]
fn the_round_trip_of_the_handshake_is_measured_unless_it_was_repeated() {
    // RFC 6298 sections 3 and 5.7: seen in the time-out of the first data.
    let time_out_of = |lose: bool, cookie: bool| {
        let mut stack = if cookie { flooded() } else { stack() };
        let peer = Peer::plain(1);
        let syn_ack = peer.knock(&mut stack, at(0));
        let mut now = 40;
        if lose {
            stack.on_timers(at(1000));
            while stack.poll_transmit(at(1000)).is_some() {}
            now = 1040;
        }
        let receipt = peer.say(&mut stack, at(now), &peer.ack(&syn_ack));
        let conn = receipt.conn.expect("a connection");
        stack.supply(conn, 1000, false);
        while stack.poll_transmit(at(now)).is_some() {}
        let fires = (now..now + 10_000)
            .find(|ms| {
                stack.on_timers(at(*ms));
                stack.counters().timeouts > 0
            })
            .expect("a time-out");
        fires - now
    };
    // 40 ms and G = 200 ms; then nothing is known: 3 s after a repeat, 1 s after a cookie.
    assert!((240..250).contains(&time_out_of(false, false)));
    assert!((3000..3010).contains(&time_out_of(true, false)));
    assert!((1000..1010).contains(&time_out_of(false, true)));
}

#[test]
fn a_tuple_fresh_from_time_wait_gets_an_entry_even_in_a_flood() {
    // RFC 6191, RFC 9293 section 3.6.1: its numbers must begin above those of the last connection.
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let ack = peer.ack(&syn_ack);
    let conn = peer.say(&mut stack, at(1), &ack).conn.expect("open");
    stack.close(conn, at(2));
    let fin = stack.poll_transmit(at(2)).expect("FIN").header;
    let mut last = ack;
    last.ack = fin.seq.wrapping_add(1);
    last.flags = TcpFlags::FIN.union(TcpFlags::ACK);
    let _ = peer.ask(&mut stack, at(3), &last);
    assert_eq!(stack.time_wait(), 1);
    for number in 0..200 {
        let _ = Peer::new(1000 + number).ask(&mut stack, at(4), &Peer::new(number).syn());
    }
    assert!(stack.is_flooded());
    let again = Peer {
        iss: peer.iss.wrapping_add(1 << 20),
        options: sluice_wire::TcpOptions {
            timestamps: Some(Timestamps {
                value: 5000,
                echo: 0,
            }),
            ..peer.options
        },
        ..peer
    };
    let half_open = stack.half_open();
    let syn_ack = again.knock(&mut stack, at(5));
    assert!(syn_ack.seq.wrapping_sub(fin.seq) < 1 << 31, "above");
    assert_eq!(stack.half_open(), half_open + 1);
}

#[test]
fn bogus_tuples_get_silence() {
    // RFC 9293 MUST-57 and MUST-63.
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let v6 = |first: u16, last: u16| IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last));
    let server6 = v6(0x2001, 1);
    let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
    let server = IpAddr::V4(SERVER);
    let tuples = [
        (server, v4(0, 0, 0, 0)),
        (server, v4(0, 1, 2, 3)),
        (server, v4(127, 0, 0, 1)),
        (server, v4(224, 0, 0, 1)),
        (server, v4(239, 255, 255, 255)),
        (server, v4(255, 255, 255, 255)),
        (server, server),
        (v4(224, 0, 0, 1), v4(10, 0, 0, 1)),
        (v4(255, 255, 255, 255), v4(10, 0, 0, 1)),
        (server6, v6(0, 0)),
        (server6, v6(0, 1)),
        (server6, v6(0xff02, 1)),
        (server6, mapped),
        (server6, server6),
        (v6(0xff02, 1), v6(0x2001, 2)),
    ];
    let mut stack = stack();
    for (local, remote) in tuples {
        let key = FlowKey::new(local, 80, remote, 80);
        for flags in [TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST, TcpFlags::EMPTY] {
            let header = Peer::new(1).header(7, 7, flags);
            let receipt = stack.on_segment(
                START,
                &Segment {
                    key,
                    header: &header,
                    payload_len: 0,
                    ecn: Ecn::NotEct,
                },
            );
            let bogus = Disposition::Dropped(SegmentDrop::BogusAddress);
            assert_eq!(receipt.disposition, bogus, "{key:?} {flags:?}");
            assert!(receipt.reply.is_none() && stack.is_empty());
        }
    }
}

#[test]
fn an_aborted_handshake_is_reset() {
    // RFC 9293 section 3.10.5.
    let mut stack = stack();
    let peer = Peer::new(1);
    let syn_ack = peer.knock(&mut stack, at(0));
    let slots = config(8, 64).slots();
    let ids: Vec<_> = (0..slots).filter_map(|slot| stack.at_slot(slot)).collect();
    assert_eq!(ids.len(), 1);
    stack.abort(ids[0]);
    assert!(stack.wants_transmit());
    let reset = stack.poll_transmit(at(1)).expect("a RST").header;
    assert!(reset.flags.contains(TcpFlags::RST));
    assert_eq!(reset.seq, syn_ack.seq.wrapping_add(1));
    assert!(stack.is_empty() && stack.poll_transmit(at(1)).is_none());
}

#[test]
fn the_next_deadline_is_that_of_a_handshake_too() {
    let mut stack = stack();
    Peer::new(1).knock(&mut stack, at(0));
    assert_eq!(stack.next_deadline(), Some(START + Duration::from_secs(1)));
}

#[test]
fn illegal_flags_get_silence_and_a_clean_syn_works_afterwards() {
    let mut stack = stack();
    let peer = Peer::new(1);
    for other in [TcpFlags::FIN, TcpFlags::RST] {
        let header = peer.header(peer.iss, 0, TcpFlags::SYN.union(other));
        assert!(peer.ask(&mut stack, at(0), &header).is_empty());
    }
    let nothing = peer.header(peer.iss, 0, TcpFlags::EMPTY);
    assert!(peer.ask(&mut stack, at(0), &nothing).is_empty());
    peer.knock(&mut stack, at(1));
}
