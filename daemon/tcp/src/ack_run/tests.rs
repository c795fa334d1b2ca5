//! What joins a run and what does not; and a stack that hears runs beside one that hears every acknowledgement.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use sluice_wire::{AccEcnOption, AccEcnOrder, SackBlock, SackBlocks};

use super::*;
use crate::StackConfig;
use crate::congestion::Algorithm;
use crate::ecn_terms::EcnConfig;
use crate::isn::Secret;
use crate::pacing::PacingConfig;
use crate::segment::{Disposition, Receipt};
use crate::stack::Stack;

const START: Instant = Instant::from_nanos(1_000_000_000_000);
/// Of the peer.
const ISS: u32 = u32::MAX - 3;
const MSS: u32 = 1448;
/// What the peer echoes left so long ago, or a millisecond more.
const ECHOED_BEFORE: Duration = Duration::from_millis(5);

fn key(port: u16) -> FlowKey {
    FlowKey::new(
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        80,
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        port,
    )
}

fn config(congestion: Algorithm) -> StackConfig {
    StackConfig {
        congestion,
        ecn: EcnConfig::ACCEPT,
        pacing: Some(PacingConfig::default()),
        ..StackConfig::new(4, [7; 16], Secret::new([9; 32]))
    }
}

/// A stack with one connection that has something to send, and its peer.
struct Bed {
    stack: Stack,
    conn: ConnId,
    now: Instant,
    /// The ACK of everything received, with window, SEQ and timestamps of this moment.
    ack: TcpHeader,
    /// Where our stream begins.
    first: u32,
    /// Up to where it was sent, and when.
    sent: Vec<(u32, Instant)>,
}

impl Bed {
    fn new(syn_flags: TcpFlags, config: StackConfig) -> Bed {
        let mut stack = Stack::new(config, START);
        let mut ack = TcpHeader {
            src_port: 4000,
            dst_port: 80,
            seq: ISS,
            flags: TcpFlags::SYN.union(syn_flags),
            window: 60_000,
            options: TcpOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some(Timestamps {
                    value: 1000,
                    echo: 0,
                }),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        };
        let receipt = hear(&mut stack, START, &ack, 0);
        let syn_ack = receipt
            .reply
            .or_else(|| stack.poll_transmit(START).map(|outgoing| outgoing.header))
            .expect("the answer to a SYN");
        ack.seq = ISS.wrapping_add(1);
        ack.ack = syn_ack.seq.wrapping_add(1);
        ack.flags = TcpFlags::ACK;
        // Of a SYN-ACK that was not marked (RFC 9768 table 3).
        if syn_ack.flags.contains(TcpFlags::CWR) {
            ack.flags = ack.flags.with_ace(2);
        }
        ack.options = TcpOptions::default();
        let echo = syn_ack.options.timestamps.expect("offered").value;
        ack.options.timestamps = Some(Timestamps { value: 1001, echo });
        let now = START + Duration::from_millis(20);
        let conn = hear(&mut stack, now, &ack, 0).conn.expect("a connection");
        if ack.flags.ace() != 0 {
            // The counter begins with 5.
            ack.flags = ack.flags.with_ace(5);
        }
        let first = ack.ack;
        stack.supply(conn, 1 << 40, true);
        while stack.poll_event().is_some() {}
        Bed {
            stack,
            conn,
            now,
            ack,
            first,
            sent: Vec::new(),
        }
    }

    fn plain() -> Bed {
        Bed::new(TcpFlags::EMPTY, config(Algorithm::Cubic))
    }

    /// Everything that may leave, and the end of what did.
    fn transmit(&mut self) -> u32 {
        while self.stack.poll_transmit(self.now).is_some() {}
        let end = self.sent_until();
        if self.sent.last().is_none_or(|(last, _)| *last != end) {
            self.sent.push((end, self.now));
        }
        end
    }

    /// How long the first segment has been in flight.
    fn longest_wait(&mut self) -> Duration {
        let una = self.una();
        let is_in_flight = |end: u32| (1..=i32::MAX as u32).contains(&end.wrapping_sub(una));
        let first = self.sent.iter().find(|(end, _)| is_in_flight(*end));
        first.map_or(Duration::ZERO, |(_, at)| self.now.saturating_since(*at))
    }

    fn sent_until(&mut self) -> u32 {
        let connection = self.connection();
        connection.send.seq(connection.send.snd_nxt).raw()
    }

    fn connection(&mut self) -> &mut Connection {
        let (connection, _) = (self.stack.slots).awake(self.conn.slot).expect("awake");
        connection
    }

    fn una(&mut self) -> u32 {
        let connection = self.connection();
        connection.send.seq(connection.send.snd_una).raw()
    }

    /// The acknowledgement of so many full segments.
    fn ack_of(&self, segments: u32) -> TcpHeader {
        TcpHeader {
            ack: self.first.wrapping_add(segments * MSS),
            ..self.ack
        }
    }

    fn hear(&mut self, header: &TcpHeader) -> Receipt {
        hear(&mut self.stack, self.now, header, 0)
    }

    fn begin(&mut self, header: &TcpHeader) -> Option<AckRun> {
        self.stack.begin_run(self.now, &segment(header, 0))
    }

    /// As a driver does: what joins no run goes to the stack by itself.
    fn hear_batch(&mut self, batch: &[(TcpHeader, Ecn)]) {
        let mut run: Option<AckRun> = None;
        for (header, ecn) in batch {
            let segment = Segment {
                ecn: *ecn,
                ..segment(header, 0)
            };
            if run.as_mut().is_some_and(|run| run.merge(&segment)) {
                continue;
            }
            if let Some(run) = run.take() {
                self.stack.end_run(self.now, &run);
            }
            run = self.stack.begin_run(self.now, &segment);
            if run.is_none() {
                let _ = self.stack.on_segment(self.now, &segment);
            }
        }
        if let Some(run) = run {
            self.stack.end_run(self.now, &run);
        }
    }

    fn hear_each(&mut self, batch: &[(TcpHeader, Ecn)]) {
        for (header, ecn) in batch {
            let segment = Segment {
                ecn: *ecn,
                ..segment(header, 0)
            };
            let _ = self.stack.on_segment(self.now, &segment);
        }
    }
}

fn segment(header: &TcpHeader, payload_len: u32) -> Segment<'_> {
    Segment {
        key: key(header.src_port),
        header,
        payload_len,
        ecn: Ecn::NotEct,
    }
}

fn hear(stack: &mut Stack, now: Instant, header: &TcpHeader, payload_len: u32) -> Receipt {
    stack.on_segment(now, &segment(header, payload_len))
}

fn with_timestamps(header: TcpHeader, value: u32, echo: u32) -> TcpHeader {
    let mut header = header;
    header.options.timestamps = Some(Timestamps { value, echo });
    header
}

fn with_sack(header: TcpHeader, start: u32, end: u32) -> TcpHeader {
    let mut header = header;
    let mut sack = SackBlocks::EMPTY;
    sack.push(SackBlock { start, end });
    header.options.sack = sack;
    header
}

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

/// A seed, so that a failure can be told and repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let high = u32::try_from(self.0 >> 33).expect("31 bits");
        high % limit
    }

    fn hits(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

/// What a peer says at one moment: acknowledgements of up to `limit`, honest or not.
fn batch(bed: &mut Bed, limit: u32, wild: bool, chance: &mut Chance) -> Vec<(TcpHeader, Ecn)> {
    let mut said = Vec::new();
    let millis = u32::try_from(bed.now.saturating_since(START).as_millis()).expect("short");
    let echo = bed
        .connection()
        .timestamps
        .expect("negotiated")
        .value(bed.now);
    for _ in 0..chance.below(24) {
        let room = limit.wrapping_sub(bed.ack.ack);
        let step = (1 + chance.below(3)) * MSS - u32::from(chance.hits(10));
        bed.ack.ack = bed.ack.ack.wrapping_add(step.min(room));
        if chance.hits(5) {
            bed.ack.window = u16::try_from(20_000 + chance.below(40_000)).expect("16 bits");
        }
        let late = chance.below(2);
        let age = u32::try_from(ECHOED_BEFORE.as_millis()).expect("short");
        bed.ack = with_timestamps(
            bed.ack,
            2000 + millis,
            echo.wrapping_sub(age + if chance.hits(10) { late } else { 0 }),
        );
        let mut header = bed.ack;
        if wild && chance.hits(10) {
            header = match chance.below(6) {
                // Late, and so old that it is refused.
                0 => TcpHeader {
                    ack: header.ack.wrapping_sub(chance.below(20) * MSS),
                    ..header
                },
                1 => with_sack(
                    TcpHeader {
                        ack: header.ack.wrapping_sub(step.min(room)),
                        ..header
                    },
                    header.ack.wrapping_sub(u32::from(step.min(room) > 0)),
                    header.ack,
                ),
                2 => TcpHeader {
                    ack: limit.wrapping_add((1 << 26) + chance.below(1 << 20)),
                    ..header
                },
                3 => with_timestamps(header, 1500, echo),
                4 => TcpHeader {
                    seq: header.seq.wrapping_sub(1),
                    ..header
                },
                _ => TcpHeader {
                    flags: header.flags.union(TcpFlags::ECE),
                    ..header
                },
            };
        }
        said.push((header, Ecn::NotEct));
    }
    said
}

const ALGORITHMS: [Algorithm; 4] = Algorithm::ALL;

/// Two beds that were told the same so far, one acknowledgement at a time.
fn twins(seed: u32, chance: &mut Chance) -> [Bed; 2] {
    let algorithm = ALGORITHMS[(seed % 4) as usize];
    let ecn = [
        TcpFlags::EMPTY,
        TcpFlags::ECE.union(TcpFlags::CWR),
        TcpFlags::ACE,
    ][chance.below(3) as usize];
    let mut config = config(algorithm);
    if chance.hits(30) {
        config.pacing = None;
    }
    [(), ()].map(|()| Bed::new(ecn, config.clone()))
}

/// One moment later in both, up to the acknowledgements that arrive then.
fn advance(twins: &mut [Bed; 2], wait: Duration) -> u32 {
    let [first, second] = twins.each_mut().map(|bed| {
        // What the pacer lets out in between.
        let until = bed.now + wait;
        while bed.now < until {
            bed.transmit();
            bed.now = bed.now + wait / 4;
            bed.stack.on_timers(bed.now);
        }
        bed.transmit()
    });
    // The peer may acknowledge what both have sent.
    if first.wrapping_sub(second) > i32::MAX as u32 {
        first
    } else {
        second
    }
}

#[test]
fn one_batch_leaves_a_stack_where_every_acknowledgement_would() {
    let mut past_slow_start = 0;
    for seed in 0..600u32 {
        let mut chance = Chance(u64::from(seed) << 20 | 1);
        let mut beds = twins(seed, &mut chance);
        let moments = chance.below(20);
        let mut last = Vec::new();
        for moment in 0..=moments {
            let wait = Duration::from_micros(u64::from(500 + chance.below(8000)));
            let limit = advance(&mut beds, wait);
            let wild = moment < moments && seed % 8 < 4;
            last = batch(&mut beds[0], limit, wild, &mut chance);
            if moment < moments {
                for bed in &mut beds {
                    bed.hear_each(&last);
                }
            }
        }
        let [each, merged] = &mut beds;
        let before = each.stack.control_view(each.conn).expect("alive");
        let una = each.una();
        each.hear_each(&last);
        let longest = merged.longest_wait();
        merged.hear_batch(&last);
        assert_eq!(each.una(), merged.una(), "seed {seed}");
        let window = each.connection().send.window();
        assert_eq!(window, merged.connection().send.window(), "seed {seed}");
        let state = each.stack.state(each.conn);
        assert_eq!(state, merged.stack.state(merged.conn), "seed {seed}");
        let [one, other] = [&*each, &*merged].map(|bed| {
            let view = bed.stack.control_view(bed.conn);
            view.expect("alive")
        });
        assert_eq!(one.in_flight, other.in_flight, "seed {seed}");
        // Slow start takes no more than what is acknowledged, and may take less: two segments of each ACK without a pacer
        // (RFC 3465 section 2.3), of several in a row two of each on average; a quarter from the ACK on at which the
        // round trip is seen to rise (RFC 9406), or from the next. Else growth by parts and growth at once differ by what
        // the parts earn from one another. The window of BBR follows its samples of the rate, of which there are fewer.
        let growth = before.cwnd..=before.cwnd + each.una().wrapping_sub(una);
        let is_reduced = one.cwnd.min(other.cwnd) < before.cwnd;
        let is_within = if each.connection().congestion.algorithm() == Algorithm::Bbr {
            true
        } else if before.cwnd < before.ssthresh && !is_reduced {
            growth.contains(&one.cwnd) && growth.contains(&other.cwnd)
        } else {
            past_slow_start += 1;
            one.cwnd.abs_diff(other.cwnd) <= 2 * MSS
        };
        assert!(is_within, "seed {seed}: {one:?} {other:?} after {before:?}");
        let least = each.connection().rtt.min_rtt();
        assert_eq!(least, merged.connection().rtt.min_rtt(), "seed {seed}");
        // It hears the shortest round trip of a run where the other hears each.
        let longest = longest.max(ECHOED_BEFORE + Duration::from_millis(1));
        let (srtt, of_runs) = (before.srtt.max(Some(longest)), other.srtt);
        assert!(
            least <= of_runs && of_runs <= srtt,
            "seed {seed}: {of_runs:?} of {least:?} to {srtt:?}"
        );
    }
    assert!(past_slow_start > 20, "{past_slow_start}");
}

#[test]
fn a_stack_that_hears_runs_gets_everything_through_as_the_other_does() {
    let mut merges = 0;
    for seed in 0..400u32 {
        let mut chance = Chance(u64::from(seed) << 20 | 3);
        let mut beds = twins(seed, &mut chance);
        for _ in 0..40 {
            let wait = Duration::from_micros(u64::from(500 + chance.below(20_000)));
            let limit = advance(&mut beds, wait);
            let said = batch(&mut beds[0], limit, true, &mut chance);
            let [each, merged] = &mut beds;
            each.hear_each(&said);
            merged.hear_batch(&said);
            let states = [&*each, &*merged].map(|bed| bed.stack.state(bed.conn));
            assert_eq!(states, [Some(State::Established); 2], "seed {seed}");
            assert_eq!(each.una(), merged.una(), "seed {seed}");
            let window = each.connection().send.window();
            assert_eq!(window, merged.connection().send.window(), "seed {seed}");
        }
        // Neither stands still: what is left is sent again and acknowledged.
        for bed in &mut beds {
            let target = bed.una().wrapping_add(200 * MSS);
            for _ in 0..400 {
                bed.now = bed.now + Duration::from_millis(300);
                bed.stack.on_timers(bed.now);
                let end = bed.transmit();
                let value = 3_000_000;
                let echo = bed.connection().timestamps.expect("negotiated");
                let echo = echo.value(bed.now);
                bed.ack.ack = end;
                bed.ack.window = 60_000;
                let header = with_timestamps(bed.ack, value, echo);
                bed.hear_batch(&[(header, Ecn::NotEct)]);
            }
            let una = bed.una();
            assert!(target.wrapping_sub(una) > i32::MAX as u32, "seed {seed}");
        }
        merges += beds[1].stack.counters().acks_merged;
    }
    assert!(merges > 10_000, "{merges} merged");
}
