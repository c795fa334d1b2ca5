//! A: everything before a connection. No state, no amplification, and honest clients get in.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use sluice_wire::{TcpFlags, TcpOptions, Timestamps};

use super::Bed;
use crate::client::PATIENCE;
use crate::lab::eventually;
use crate::raw::{ACK, ANSWER, FIN, Flow, PSH_ACK, RST, Random, SYN, SYN_ACK, Sketch, Wire};

/// Entries of the SYN table with the default limits.
const HALF_OPEN: u64 = 4096;

/// SYN number `number` of a flood from everywhere in 198.18.0.0/15.
fn syn_from_anywhere(wire: &Wire, random: &mut Random) -> Sketch {
    let word = random.next().to_be_bytes();
    let source = Ipv4Addr::new(198, 18 + (word[0] & 1), word[1], word[2] | 1);
    let port = u16::from_be_bytes([word[3] | 4, word[4]]);
    wire.sketch(SocketAddr::new(source.into(), port), SYN, random.word(), 0)
}

/// Takes the handshakes of a flood back, so that the table is empty at once and not in a minute.
fn forget(bed: &Bed, flood: &[Sketch]) {
    eventually("the table is empty", Duration::from_secs(15), || {
        for syn in flood {
            let mut reset = syn.clone();
            reset.header.flags = RST;
            reset.header.seq = syn.header.seq.wrapping_add(1);
            bed.wire.send(&reset.frame());
        }
        (bed.daemon.report().get("half_open") == 0).then_some(())
    });
    bed.wire.collect(Duration::from_millis(50));
}

/// So many honest connections, one after another; each must succeed.
fn honest_connections(bed: &Bed, count: usize) {
    let client = bed.client();
    for number in 0..count {
        client
            .connect_within(PATIENCE)
            .unwrap_or_else(|error| panic!("honest connection {number}: {error}"));
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_flood_of_syns_from_everywhere_meets_cookies_and_honest_clients_get_in() {
    let Some(bed) = Bed::with(&[("xdp.syn_gate", "\"off\"")]) else {
        return;
    };
    let mut random = Random(1);
    let flood: Vec<Sketch> = (0..8192)
        .map(|_| syn_from_anywhere(&bed.wire, &mut random))
        .collect();
    for syn in &flood {
        bed.wire.send(&syn.frame());
    }
    honest_connections(&bed, 20);
    let report = bed.daemon.report();
    assert!(report.get("half_open") < HALF_OPEN, "{}", report.text());
    assert!(bed.grown("tcp_syn_cookies_sent") > 0, "{}", report.text());
    forget(&bed, &flood);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_source_that_floods_gets_its_share_of_the_table_and_no_more() {
    let Some(bed) = Bed::with(&[("xdp.syn_gate", "\"off\"")]) else {
        return;
    };
    let flood: Vec<Sketch> = (1..=4000)
        .map(|port| bed.wire.sketch(bed.wire.stranger(port), SYN, 7, 0))
        .collect();
    for syn in &flood {
        bed.wire.send(&syn.frame());
    }
    let report = bed.daemon.report();
    let held = report.get("half_open");
    assert!((1..=HALF_OPEN / 16).contains(&held), "{held} of its own");
    honest_connections(&bed, 20);
    forget(&bed, &flood);
    bed.wire.collect(Duration::from_millis(100));
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_armed_gate_lets_every_honest_client_in_at_its_second_syn() {
    // Next to nothing passes the gate at the first try.
    let Some(bed) = Bed::with(&[
        ("limits.syn_rate", "100"),
        ("limits.syn_rate_per_source", "10"),
    ]) else {
        return;
    };
    let mut random = Random(2);
    let mut flood = Vec::new();
    let begun = Instant::now();
    let clients: Vec<_> = thread::scope(|scope| {
        let bed = &bed;
        let mut waiting = Vec::new();
        while begun.elapsed() < Duration::from_secs(6) {
            for _ in 0..200 {
                let syn = syn_from_anywhere(&bed.wire, &mut random);
                bed.wire.send(&syn.frame());
                flood.push(syn);
            }
            // Ten each second, once the gate is armed.
            if begun.elapsed() > Duration::from_secs(2) && waiting.len() < 40 {
                let client = &bed.lab.client;
                let server = bed.wire.server_v4;
                waiting.push(scope.spawn(move || {
                    client.inside(|| crate::client::connect_here(server, PATIENCE))
                }));
                thread::sleep(Duration::from_millis(50));
            }
        }
        let ends = waiting.into_iter().map(|thread| thread.join());
        ends.map(|end| end.expect("no client panics")).collect()
    });
    let refused = clients.iter().filter(|end| end.is_err()).count();
    assert_eq!((clients.len(), refused), (40, 0));
    assert!(bed.grown("xdp_syn_rate") > 1000);
    assert!(bed.grown("xdp_syn_again") > 0);
    drop(clients);
    forget(&bed, &flood);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn acks_with_invented_cookies_get_one_rst_each_and_open_nothing() {
    let Some(bed) = Bed::new() else { return };
    let mut random = Random(3);
    let before = bed.daemon.report().get("tcp_accepted");
    for port in 1..=2000 {
        let me = bed.wire.stranger(port);
        let ack = bed.wire.sketch(me, ACK, random.word(), random.word());
        bed.wire.send(&ack.frame());
    }
    let answers = bed.wire.collect(Duration::from_millis(500));
    assert!(answers.len() <= 2000, "{} answers", answers.len());
    assert!(
        answers
            .iter()
            .all(|seen| seen.has(RST) && seen.payload.is_empty())
    );
    assert_eq!(bed.daemon.report().get("tcp_accepted"), before);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn no_answer_to_a_stranger_is_longer_than_its_segment_but_for_the_counters_of_ecn() {
    let Some(bed) = Bed::new() else { return };
    let mut sent = Vec::new();
    for bits in 0..=255u8 {
        for payload in [0, 100, 1400] {
            let port = u16::try_from(sent.len() + 1).expect("few");
            let me = bed.wire.stranger(port);
            let mut sketch = bed
                .wire
                .sketch(me, TcpFlags::from_bits(bits.into()), 1000, 77);
            sketch.payload = vec![b'x'; payload];
            bed.wire.send(&sketch.frame());
            sent.push(sketch);
        }
    }
    // Before the first repetition of a SYN-ACK, which a handshake without cookie has.
    let answers = bed.wire.collect(Duration::from_millis(500));
    let mut answered = BTreeSet::new();
    for seen in &answers {
        let asked = &sent[usize::from(seen.to.port()) - 1];
        let flags = asked.header.flags;
        assert!(answered.insert(seen.to.port()), "{flags:?}: two answers");
        assert!(!flags.contains(RST), "{flags:?}: a RST is answered");
        assert!(seen.payload.is_empty(), "{flags:?}: answered by payload");
        // RFC 9768 section 3.2.3.2.1 adds the option to the answer alone: three counters, padded.
        let counters = match seen.header.options.accecn {
            Some(_) => 12,
            None => 0,
        };
        assert!(
            seen.wire_len <= asked.frame().len().max(60) + counters,
            "{flags:?}: {seen:?}"
        );
        if seen.has(SYN_ACK) {
            bed.wire
                .send(&bed.wire.sketch(seen.to, RST, 1001, 0).frame());
        }
    }
    assert!(answered.len() > 100, "{} answers", answered.len());
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_cookie_is_sent_once_and_never_again() {
    let Some(bed) = Bed::with(&[("xdp.syn_gate", "\"off\"")]) else {
        return;
    };
    // 300 of one source: the first 256 have entries, the others get cookies.
    for port in 1..=300 {
        bed.wire
            .send(&bed.wire.sketch(bed.wire.stranger(port), SYN, 7, 0).frame());
    }
    let answers = bed.wire.collect(Duration::from_millis(2500));
    let of = |port: u16| answers.iter().filter(|seen| seen.to.port() == port).count();
    assert!(of(1) >= 2, "an entry repeats its SYN-ACK after a second");
    for port in 257..=300 {
        assert_eq!(of(port), 1, "port {port}");
    }
    for port in 1..=300 {
        bed.wire
            .send(&bed.wire.sketch(bed.wire.stranger(port), RST, 8, 0).frame());
    }
    bed.healthy();
}

// That it is good in the period after its own and no longer is tested where the clock is an argument: a period lasts 64 s
// (`daemon/tcp/src/syn_cookie/tests.rs`).
#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_cookie_opens_the_connection_it_was_made_for_and_no_other() {
    let Some(bed) = Bed::with(&[("xdp.syn_gate", "\"off\"")]) else {
        return;
    };
    const LAST: u16 = 300;
    const IRS: u32 = 7;
    let from = |me: SocketAddr, port: u16| SocketAddr::new(me.ip(), port);
    for me in bed.wire.strangers(LAST) {
        // More of one source than it may have entries.
        for port in 1..=LAST {
            let syn = bed.wire.sketch(from(me, port), SYN, IRS, 0);
            bed.wire.send(&syn.frame());
        }
        let syn_ack = bed.wire.find(ANSWER, |seen| seen.to == me);
        let syn_ack = syn_ack.expect("a SYN-ACK with a cookie");
        let mut flow = Flow::answered(&bed.wire, TcpOptions::default(), syn_ack);
        // Another port, another number of the peer; another MSS, and the other period, by the bits that tell them.
        let wrong = [
            (LAST + 1, 1, 0),
            (LAST, 2, 0),
            (LAST, 1, 1 << 28),
            (LAST, 1, 1 << 31),
        ];
        for (port, ahead, change) in wrong {
            let cookie = flow.syn_ack.header.seq ^ change;
            let (seq, ack) = (IRS + ahead, cookie.wrapping_add(1));
            let me = from(me, port);
            bed.wire.send(&bed.wire.sketch(me, ACK, seq, ack).frame());
            let answer = bed.wire.find(ANSWER, |seen| seen.to == me);
            let answer = answer.expect("a RST").header;
            assert_eq!((answer.flags, answer.seq), (RST, ack));
        }
        flow.send(ACK, b"");
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
        for port in 1..LAST {
            let reset = bed.wire.sketch(from(me, port), RST, IRS + 1, 0);
            bed.wire.send(&reset.frame());
        }
        bed.wire.collect(Duration::from_millis(50));
    }
    bed.counted(&["tcp_syn_cookies_accepted"], 2);
    bed.counted(&["tcp_syn_cookies_failed"], 8);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_from_our_own_address_is_dropped_in_silence() {
    let Some(bed) = Bed::new() else { return };
    for own in [bed.wire.server_v4, bed.wire.server_v6] {
        for flags in [SYN, ACK, SYN_ACK, RST, FIN] {
            bed.wire.send(&bed.wire.sketch(own, flags, 1, 1).frame());
        }
    }
    bed.counted(&["drop_ip_source_is_destination"], 10);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn sources_that_no_host_has_are_dropped_in_silence() {
    let Some(bed) = Bed::new() else { return };
    let sources = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "ff0e::5",
        "::ffff:192.0.2.2",
    ];
    for source in sources {
        let from = SocketAddr::new(source.parse().expect("an address"), 5000);
        for flags in [SYN, ACK, FIN] {
            bed.wire.send(&bed.wire.sketch(from, flags, 1, 1).frame());
        }
    }
    bed.counted(&["drop_ip_bad_source"], 3 * sources.len());
    bed.wire.assert_silent("there is nobody to answer to");
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn illegal_flags_at_the_listener_are_dropped_and_a_clean_syn_opens_afterwards() {
    let Some(bed) = Bed::new() else { return };
    let me = bed.wire.stranger(1);
    let all = TcpFlags::from_bits(0xff);
    let illegal = [SYN | FIN, SYN | RST, SYN | FIN | RST, all, TcpFlags::EMPTY];
    for flags in illegal {
        bed.wire.send(&bed.wire.sketch(me, flags, 1, 1).frame());
    }
    let names = [
        "tcp_illegal_flags",
        "tcp_listen_no_syn",
        "tcp_unknown_reset",
    ];
    bed.counted(&names, illegal.len());
    bed.wire.assert_silent("illegal flags");
    let mut flow = Flow::open(&bed.wire, me);
    flow.ask("/small.bin");
    flow.read_file(&bed.site.path("small.bin"));
    flow.reset();
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn floods_of_rst_and_fin_for_no_flow_are_counted_and_not_answered() {
    let Some(bed) = Bed::new() else { return };
    let mut random = Random(4);
    for port in 1..=1000 {
        let me = bed.wire.stranger(port);
        for flags in [RST, RST | ACK, FIN] {
            let sketch = bed.wire.sketch(me, flags, random.word(), random.word());
            bed.wire.send(&sketch.frame());
        }
    }
    bed.counted(&["tcp_unknown_reset"], 2000);
    bed.counted(&["tcp_listen_no_syn"], 1000);
    bed.wire.assert_silent("neither RST nor a FIN without ACK");
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_ack_for_no_flow_gets_the_rst_of_rfc_9293_and_no_more() {
    let Some(bed) = Bed::new() else { return };
    for (number, flags) in [ACK, PSH_ACK, FIN | ACK, SYN_ACK].into_iter().enumerate() {
        let me = bed.wire.stranger(1 + u16::try_from(number).expect("few"));
        bed.wire.send(&bed.wire.sketch(me, flags, 5, 4711).frame());
        let answer = bed.wire.find(ANSWER, |seen| seen.to == me).expect("a RST");
        assert_eq!(answer.header.flags, RST);
        assert_eq!((answer.header.seq, answer.header.window), (4711, 0));
    }
    bed.wire.assert_silent("one answer each");
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn data_on_a_syn_is_not_acknowledged_and_comes_again() {
    let Some(bed) = Bed::new() else { return };
    let me = bed.wire.stranger(1);
    let mut syn = bed.wire.sketch(me, SYN, 1000, 0);
    syn.payload = crate::raw::request("/small.bin").into_bytes();
    bed.wire.send(&syn.frame());
    let answer = bed
        .wire
        .find(ANSWER, |seen| seen.to == me)
        .expect("a SYN-ACK");
    assert_eq!(answer.header.ack, 1001);
    assert!(answer.payload.is_empty());
    bed.wire.send(&bed.wire.sketch(me, RST, 1001, 0).frame());
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn half_open_handshakes_pile_up_to_a_bound_and_active_flows_go_on() {
    let Some(bed) = Bed::with(&[("limits.connections", "64"), ("xdp.syn_gate", "\"off\"")]) else {
        return;
    };
    let download = bed.client();
    let running = download.begin("file.bin", "4M");
    let mut random = Random(5);
    let flood: Vec<Sketch> = (0..1000)
        .map(|_| syn_from_anywhere(&bed.wire, &mut random))
        .collect();
    for syn in &flood {
        bed.wire.send(&syn.frame());
    }
    let held = bed.daemon.report().get("half_open");
    assert!(held <= 64, "{held} entries");
    honest_connections(&bed, 10);
    running.succeeded();
    forget(&bed, &flood);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_hoarder_of_idle_connections_loses_the_oldest_to_new_clients() {
    const ROOM: u16 = 31;
    let Some(bed) = Bed::with(&[("limits.connections", "32")]) else {
        return;
    };
    let download = bed.client();
    let running = download.begin("file.bin", "2M");
    // All but the one of the download.
    let hoard: Vec<Flow> = (1..=ROOM)
        .map(|port| Flow::open(&bed.wire, bed.wire.stranger(port)))
        .collect();
    // A second of idleness is granted.
    thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        bed.serves();
    }
    running.succeeded();
    assert!(bed.grown("idle, evicted") >= 1, "nobody made room");
    let first = hoard[0].next(ANSWER).expect("the oldest is told");
    assert!(first.has(RST), "{first:?}");
    for flow in hoard {
        flow.reset();
    }
    bed.wire.collect(Duration::from_millis(50));
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn numbers_and_timestamps_of_one_connection_say_nothing_of_the_next() {
    let Some(bed) = Bed::new() else { return };
    let options = TcpOptions {
        mss: Some(1460),
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..TcpOptions::default()
    };
    let flows: Vec<Flow> = (1..=64)
        .map(|port| Flow::offering(&bed.wire, bed.wire.stranger(port), options))
        .collect();
    let apart = |words: Vec<u32>| {
        let steps = words
            .windows(2)
            .map(|two| two[1].wrapping_sub(two[0]) >> 16);
        steps.collect::<BTreeSet<u32>>().len()
    };
    let numbers = flows.iter().map(|flow| flow.syn_ack.header.seq).collect();
    let stamps = flows.iter().filter_map(|flow| flow.timestamp).collect();
    assert!(
        apart(numbers) > 55,
        "initial sequence numbers follow a clock"
    );
    assert!(apart(stamps) > 55, "timestamps follow one clock");
    for flow in flows {
        flow.reset();
    }
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_wrong_final_ack_gets_a_rst_and_the_right_one_still_opens() {
    let Some(bed) = Bed::new() else { return };
    let me = bed.wire.stranger(1);
    let mut flow = Flow::half_open(&bed.wire, me, TcpOptions::default());
    for wrong in [1, 1000, 1 << 31] {
        let right = flow.rcv_nxt;
        flow.forge(ACK, |sketch| sketch.header.ack = right.wrapping_add(wrong));
        let answer = flow.next(ANSWER).expect("a RST");
        assert_eq!(answer.header.flags, RST);
        assert_eq!(answer.header.seq, right.wrapping_add(wrong));
    }
    flow.send(ACK, b"");
    flow.ask("/small.bin");
    flow.read_file(&bed.site.path("small.bin"));
    flow.reset();
    bed.healthy();
}
