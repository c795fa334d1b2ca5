//! Active and simultaneous open (RFC 9293 sections 3.10.1 and 3.10.7.3): two stacks, or one and a script.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::config::SYN_REPEATS_MAX;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{
    CloseReason, ConnId, ConnectError, Events, IcmpVerdict, Outgoing, Receipt, Segment, Stack,
    StackConfig, State,
};
use sluice_wire::{Ecn, IcmpError, IcmpErrorKind, QuotedSegment, TcpFlags, TcpHeader, TcpOptions};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const PORT: u16 = 80;

const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);
const RST_ACK: TcpFlags = TcpFlags::RST.union(TcpFlags::ACK);

fn key() -> FlowKey {
    FlowKey::new(HERE, 40_000, THERE, PORT)
}

fn mirrored() -> FlowKey {
    FlowKey::new(THERE, PORT, HERE, 40_000)
}

fn config(secret: u8) -> StackConfig {
    StackConfig {
        time_wait: 4,
        receive_buffer: 1 << 18,
        ..StackConfig::new(2, [secret; 16], Secret::new([secret; 32]))
    }
}

/// One stack, its clock, and what it said about its only connection.
struct End {
    stack: Stack,
    now: Instant,
    events: Events,
    conn: Option<ConnId>,
}

impl End {
    fn new(secret: u8) -> End {
        let now = Instant::from_nanos(1_000_000_000_000);
        End {
            stack: Stack::new(config(secret), now),
            now,
            events: Events::default(),
            conn: None,
        }
    }

    fn connect(&mut self, key: FlowKey) -> ConnId {
        let conn = self.stack.connect(key, self.now).expect("there is room");
        self.conn = Some(conn);
        conn
    }

    fn state(&self) -> Option<State> {
        self.conn.and_then(|conn| self.stack.state(conn))
    }

    fn transmit(&mut self) -> Option<Outgoing> {
        let out = self.stack.poll_transmit(self.now);
        while let Some((conn, events)) = self.stack.poll_event() {
            self.conn = Some(conn);
            self.events.established |= events.established;
            self.events.closed = self.events.closed.or(events.closed);
        }
        out
    }

    fn receive(&mut self, key: FlowKey, header: &TcpHeader, payload_len: u32) -> Receipt {
        let segment = Segment {
            ecn: Ecn::NotEct,
            key,
            header,
            payload_len,
        };
        let receipt = self.stack.on_segment(self.now, &segment);
        self.conn = self.conn.or(receipt.conn);
        let delivered = self.conn.map(|conn| (conn, self.stack.delivered(conn)));
        if let Some((conn, delivered)) = delivered {
            self.stack.consume(conn, delivered);
        }
        receipt
    }

    /// Lets time go by, with nothing left to send.
    fn pass(&mut self, time: Duration) {
        assert!(self.transmit().is_none());
        self.now = self.now + time;
        self.stack.on_timers(self.now);
    }
}

/// Carries segments both ways until both are silent.
fn exchange(here: &mut End, there: &mut End) {
    loop {
        let mut moved = false;
        while let Some(out) = here.transmit() {
            moved = true;
            let len = u32::try_from(out.payload.end - out.payload.start).expect("one segment");
            let _ = there.receive(mirrored(), &out.header, len);
        }
        while let Some(out) = there.transmit() {
            moved = true;
            let len = u32::try_from(out.payload.end - out.payload.start).expect("one segment");
            let _ = here.receive(key(), &out.header, len);
        }
        if !moved {
            return;
        }
    }
}

fn answer(to: &TcpHeader, flags: TcpFlags) -> TcpHeader {
    TcpHeader {
        src_port: to.dst_port,
        dst_port: to.src_port,
        seq: 7_000,
        ack: to.seq.wrapping_add(1),
        flags,
        window: 10_000,
        urgent: 0,
        options: TcpOptions::default(),
    }
}

#[test]
fn two_stacks_agree_on_everything_and_carry_bytes_both_ways() {
    let (mut here, mut there) = (End::new(1), End::new(2));
    let conn = here.connect(key());
    here.stack.supply(conn, 1000, false);
    exchange(&mut here, &mut there);
    assert!(here.events.established && there.events.established);
    assert_eq!(here.state(), Some(State::Established));
    assert_eq!(there.state(), Some(State::Established));
    let peer = there.conn.expect("it accepted");
    assert_eq!(there.stack.delivered(peer), 1000);
    there.stack.supply(peer, 100_000, false);
    for _ in 0..40 {
        exchange(&mut here, &mut there);
        here.pass(Duration::from_millis(50));
        there.pass(Duration::from_millis(50));
    }
    assert_eq!(here.stack.delivered(conn), 100_000);
    assert_eq!(here.stack.counters().connected, 1);
    assert_eq!(here.stack.counters().accepted, 0);
}

#[test]
fn the_syn_offers_all_options_and_acknowledges_nothing() {
    // RFC 9293 section 3.1; RFC 7323 section 3.2: TSecr is zero without ACK.
    let mut here = End::new(1);
    here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    assert_eq!(syn.flags, TcpFlags::SYN);
    assert_eq!(syn.ack, 0);
    assert_eq!(syn.options.mss, Some(1460));
    assert_eq!(syn.options.window_scale, Some(3));
    assert!(syn.options.sack_permitted);
    assert_eq!(syn.options.timestamps.map(|ts| ts.echo), Some(0));
    assert_eq!(syn.window, u16::MAX, "never scaled");
}

#[test]
fn what_the_peer_does_not_offer_is_not_used() {
    // RFC 7323 sections 2.2 and 3.2; RFC 9293 section 3.7.1 (MUST-15).
    let mut here = End::new(1);
    let conn = here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    let _ = here.receive(key(), &answer(&syn, SYN_ACK), 0);
    let ack = here.transmit().expect("the final ACK").header;
    assert_eq!(ack.flags, TcpFlags::ACK);
    assert_eq!((ack.seq, ack.ack), (syn.seq.wrapping_add(1), 7_001));
    assert_eq!(ack.options, TcpOptions::default());
    assert_eq!(ack.window, u16::MAX, "of 256 KiB, without a scale");
    here.stack.supply(conn, 5000, false);
    let data = here.transmit().expect("data");
    assert_eq!(data.payload, 0..536);
}

#[test]
fn an_acknowledgement_of_something_else_is_reset_and_the_syn_stays() {
    // RFC 9293 section 3.10.7.3, first check.
    let mut here = End::new(1);
    here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    for ack in [syn.seq, syn.seq.wrapping_add(2)] {
        let stray = TcpHeader {
            ack,
            ..answer(&syn, SYN_ACK)
        };
        let reply = here.receive(key(), &stray, 0).reply.expect("a RST");
        assert_eq!((reply.flags, reply.seq), (TcpFlags::RST, ack));
        let reset = TcpHeader {
            flags: RST_ACK,
            ..stray
        };
        assert!(here.receive(key(), &reset, 0).reply.is_none());
    }
    assert_eq!(here.state(), Some(State::SynSent));
}

#[test]
fn a_reset_ends_it_only_with_our_number() {
    // RFC 9293 section 3.10.7.3, second check.
    let mut here = End::new(1);
    here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    let _ = here.receive(key(), &answer(&syn, TcpFlags::RST), 0);
    assert_eq!(
        here.state(),
        Some(State::SynSent),
        "it acknowledges nothing"
    );
    let _ = here.receive(key(), &answer(&syn, RST_ACK), 0);
    assert!(here.transmit().is_none());
    assert_eq!(here.events.closed, Some(CloseReason::Refused));
    assert_eq!(here.stack.timers(), 0);
    assert!(here.stack.is_empty());
}

fn unreachable(code: u8, seq: u32) -> IcmpError {
    IcmpError {
        kind: IcmpErrorKind::Unreachable { code },
        quoted: QuotedSegment {
            src: HERE,
            dst: THERE,
            src_port: 40_000,
            dst_port: PORT,
            seq,
        },
    }
}

#[test]
fn a_hard_error_about_our_syn_ends_the_open() {
    // RFC 9293 section 3.9.2.2: protocol and port unreachable.
    for code in [2, 3] {
        let mut here = End::new(1);
        here.connect(key());
        let syn = here.transmit().expect("a SYN").header;
        let verdict = here.stack.on_icmp(here.now, &unreachable(code, syn.seq));
        assert_eq!(verdict, Some(IcmpVerdict::Refused));
        assert!(here.transmit().is_none());
        assert_eq!(here.events.closed, Some(CloseReason::Unreachable));
        assert_eq!(here.stack.timers(), 0);
        assert!(here.stack.is_empty());
    }
}

#[test]
fn soft_and_forged_errors_do_not_end_an_open() {
    // RFC 9293 section 3.9.2.2: net and host unreachable; RFC 5927 section 4.1: the number is that of the SYN.
    let mut here = End::new(1);
    here.connect(key());
    let early = here.stack.on_icmp(here.now, &unreachable(3, 0));
    assert_eq!(early, Some(IcmpVerdict::NotInFlight), "nothing has left");
    let syn = here.transmit().expect("a SYN").header;
    let claims = [
        (0, syn.seq, IcmpVerdict::Soft),
        (1, syn.seq, IcmpVerdict::Soft),
        (13, syn.seq, IcmpVerdict::Soft),
        (3, syn.seq.wrapping_add(1), IcmpVerdict::NotInFlight),
        (3, syn.seq.wrapping_sub(1), IcmpVerdict::NotInFlight),
    ];
    for (code, seq, verdict) in claims {
        let said = here.stack.on_icmp(here.now, &unreachable(code, seq));
        assert_eq!(said, Some(verdict), "code {code}");
    }
    assert_eq!(here.state(), Some(State::SynSent));
    assert_eq!(here.events.closed, None);
}

#[test]
fn segments_without_syn_are_ignored() {
    // RFC 9293 section 3.10.7.3, fifth check.
    let mut here = End::new(1);
    here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    for flags in [TcpFlags::ACK, TcpFlags::FIN, SYN_ACK.union(TcpFlags::FIN)] {
        let receipt = here.receive(key(), &answer(&syn, flags), 0);
        assert!(receipt.reply.is_none());
        assert!(here.transmit().is_none());
        assert_eq!(here.state(), Some(State::SynSent));
    }
}

/// Lets an open come to nothing. How often its timer said `flags`, with the number of the first SYN, and when it ended.
fn give_up(here: &mut End, iss: u32, flags: TcpFlags) -> (u8, Instant) {
    let mut repeats = 0;
    while here.events.closed.is_none() {
        assert!(here.transmit().is_none());
        let due = here.stack.next_deadline().expect("a timer runs");
        let wait = due.saturating_since(here.now).max(Duration::from_millis(1));
        here.pass(wait);
        if let Some(again) = here.transmit() {
            repeats += 1;
            assert_eq!(again.header.seq, iss);
            assert_eq!(again.header.flags, flags);
        }
    }
    assert_eq!(here.events.closed, Some(CloseReason::HandshakeTimeout));
    (repeats, here.now)
}

#[test]
fn an_unanswered_syn_is_repeated_ever_more_rarely_and_given_up_after_three_minutes() {
    // RFC 9293 section 3.8.3 (MUST-23); RFC 6298 section 2.
    let mut here = End::new(1);
    here.connect(key());
    let first = here.transmit().expect("a SYN").header;
    let begin = here.now;
    let (repeats, end) = give_up(&mut here, first.seq, TcpFlags::SYN);
    assert_eq!(repeats, SYN_REPEATS_MAX);
    assert!(end.saturating_since(begin) >= Duration::from_secs(180));
    assert_eq!(here.stack.counters().retransmitted_syn, u64::from(repeats));
}

#[test]
fn an_open_whose_syn_crossed_another_has_its_three_minutes_too() {
    // RFC 9293 section 3.8.3 (MUST-23): what is repeated is still our SYN, with an acknowledgement.
    let mut here = End::new(1);
    here.connect(key());
    let first = here.transmit().expect("a SYN").header;
    let begin = here.now;
    let _ = here.receive(key(), &answer(&first, TcpFlags::SYN), 0);
    assert_eq!(here.state(), Some(State::SynReceived));
    let syn_ack = here.transmit().expect("a SYN-ACK").header;
    assert_eq!((syn_ack.seq, syn_ack.flags), (first.seq, SYN_ACK));
    let (repeats, end) = give_up(&mut here, first.seq, SYN_ACK);
    assert_eq!(repeats, SYN_REPEATS_MAX);
    assert!(end.saturating_since(begin) >= Duration::from_secs(180));
    let counters = here.stack.counters();
    assert_eq!(counters.retransmitted_syn_ack, u64::from(repeats));
}

#[test]
fn crossing_syns_make_one_connection() {
    // RFC 9293 section 3.5, figure 7.
    let (mut here, mut there) = (End::new(1), End::new(2));
    here.connect(key());
    there.connect(mirrored());
    let (ours, theirs) = (
        here.transmit().expect("a SYN").header,
        there.transmit().expect("a SYN").header,
    );
    let _ = here.receive(key(), &theirs, 0);
    let _ = there.receive(mirrored(), &ours, 0);
    assert_eq!(here.state(), Some(State::SynReceived));
    exchange(&mut here, &mut there);
    assert_eq!(here.state(), Some(State::Established));
    assert_eq!(there.state(), Some(State::Established));
    assert_eq!((here.stack.half_open(), there.stack.half_open()), (0, 0));
    let conn = here.conn.expect("it lives");
    here.stack.supply(conn, 3000, false);
    exchange(&mut here, &mut there);
    let peer = there.conn.expect("it lives");
    assert_eq!(there.stack.delivered(peer), 3000);
}

#[test]
fn after_crossing_syns_a_wrong_ack_is_reset_inside_the_window_and_acknowledged_outside() {
    // RFC 9293 section 3.10.7.4: the first check comes before the fifth.
    let mut here = End::new(1);
    here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    let theirs = answer(&syn, TcpFlags::SYN);
    let _ = here.receive(key(), &theirs, 0);
    assert!(here.transmit().is_some(), "a SYN-ACK");
    let wrong = TcpHeader {
        seq: theirs.seq.wrapping_add(1),
        ack: syn.seq.wrapping_add(2),
        ..answer(&syn, TcpFlags::ACK)
    };
    let receipt = here.receive(key(), &wrong, 0);
    let reset = receipt.reply.expect("a RST");
    assert_eq!((reset.flags, reset.seq), (TcpFlags::RST, wrong.ack));
    assert!(here.transmit().is_none());

    let beyond = TcpHeader {
        seq: theirs.seq.wrapping_add(70_001),
        ..wrong
    };
    let receipt = here.receive(key(), &beyond, 10);
    assert!(receipt.reply.is_none() && receipt.pieces.is_empty());
    let challenge = here.transmit().expect("an ACK").header;
    assert_eq!(challenge.flags, TcpFlags::ACK);
    assert_eq!(
        (challenge.seq, challenge.ack),
        (syn.seq.wrapping_add(1), theirs.seq.wrapping_add(1))
    );
    assert_eq!(here.state(), Some(State::SynReceived));
}

#[test]
fn closing_or_aborting_before_the_answer_deletes_it_in_silence() {
    // RFC 9293 sections 3.10.4 and 3.10.5.
    for abort in [false, true] {
        let mut here = End::new(1);
        let conn = here.connect(key());
        assert!(here.transmit().is_some());
        if abort {
            here.stack.abort(conn);
        } else {
            here.stack.close(conn, here.now);
        }
        assert!(here.transmit().is_none());
        assert_eq!(here.events.closed, Some(CloseReason::Aborted));
        assert!(here.stack.is_empty());
    }
}

#[test]
fn a_tuple_is_opened_once_and_connections_are_bounded() {
    let mut here = End::new(1);
    here.connect(key());
    let now = here.now;
    assert_eq!(here.stack.connect(key(), now), Err(ConnectError::InUse));
    let other = |port| FlowKey::new(HERE, port, THERE, PORT);
    assert!(here.stack.connect(other(2), now).is_ok());
    assert_eq!(here.stack.connect(other(3), now), Err(ConnectError::Full));
}

#[test]
fn the_one_who_closes_first_waits_and_its_tuple_is_not_reused() {
    // RFC 9293 section 3.6.1.
    let (mut here, mut there) = (End::new(1), End::new(2));
    let conn = here.connect(key());
    exchange(&mut here, &mut there);
    let peer = there.conn.expect("it accepted");
    here.stack.close(conn, here.now);
    exchange(&mut here, &mut there);
    there.stack.close(peer, there.now);
    exchange(&mut here, &mut there);
    assert_eq!(here.stack.time_wait(), 1);
    assert_eq!(
        here.stack.connect(key(), here.now),
        Err(ConnectError::InUse)
    );
    here.pass(Duration::from_secs(61));
    assert!(here.stack.connect(key(), here.now).is_ok());
}

#[test]
fn one_round_trip_is_measured_unless_the_syn_was_repeated() {
    // RFC 6298 section 3 (Karn).
    let mut here = End::new(1);
    here.connect(key());
    let syn = here.transmit().expect("a SYN").header;
    here.pass(Duration::from_millis(30));
    let receipt = here.receive(key(), &answer(&syn, SYN_ACK), 0);
    assert_eq!(receipt.rtt, Some(Duration::from_millis(30)));

    let mut again = End::new(1);
    again.connect(key());
    let syn = again.transmit().expect("a SYN").header;
    again.pass(Duration::from_secs(2));
    assert!(again.transmit().is_some(), "repeated");
    let receipt = again.receive(key(), &answer(&syn, SYN_ACK), 0);
    assert_eq!(receipt.rtt, None);
}
