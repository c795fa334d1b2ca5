//! B: TIME-WAIT on the wire, over IPv4 and IPv6. Old duplicates and forged resets do not end it, and only who is newer opens
//! the tuple again (RFC 9293 section 3.6.1, RFC 1337, RFC 6191).
//!
//! An entry stays for a minute and longer than its test, so that every test has a port of its own.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use sluice_wire::{TcpOptions, Timestamps};

use super::{Bed, over_both_families};
use crate::raw::{ACK, ANSWER, FIN, Flow, PSH_ACK, RST, SYN, Seen, last_request, request, split};

/// An entry answers once in half a second.
const SPACING: Duration = Duration::from_millis(600);

fn stamped(value: u32) -> TcpOptions {
    TcpOptions {
        mss: Some(1460),
        timestamps: Some(Timestamps { value, echo: 0 }),
        ..TcpOptions::default()
    }
}

/// A conversation that the server ended first and the peer has ended since: the server is in TIME-WAIT.
fn finished<'a>(bed: &'a Bed, me: SocketAddr, port: u16, options: TcpOptions) -> Flow<'a> {
    let me = SocketAddr::new(me.ip(), port);
    let before = bed.daemon.report().get("time_wait");
    let mut flow = Flow::offering(&bed.wire, me, options);
    flow.send(PSH_ACK, last_request("/small.bin").as_bytes());
    let response = flow.read_to_end();
    assert!(split(&response).is_some(), "a response");
    flow.send(FIN | ACK, b"");
    let last = bed
        .wire
        .find(ANSWER, |seen| is_last_word(&flow, seen))
        .expect("the FIN is acknowledged");
    assert!(last.payload.is_empty());
    let report = bed.daemon.report();
    assert_eq!(report.get("time_wait"), before + 1, "{}", report.text());
    assert_eq!(report.get("connections"), 0, "{}", report.text());
    flow
}

/// `<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>`: all that TIME-WAIT ever says.
fn is_last_word(flow: &Flow, seen: &Seen) -> bool {
    let header = &seen.header;
    seen.to == flow.me
        && (header.flags, header.seq, header.ack) == (ACK, flow.rcv_nxt, flow.snd_nxt)
        && seen.payload.is_empty()
}

/// The FIN again, as if the answer to it had been lost: only TIME-WAIT still knows what to say.
fn still_waits(flow: &Flow) {
    flow.forge(FIN | ACK, |sketch| {
        sketch.header.seq = sketch.header.seq.wrapping_sub(1);
    });
    let answer = flow.next(ANSWER).expect("the FIN is acknowledged again");
    assert!(is_last_word(flow, &answer), "{answer:?}");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_rst_does_not_end_time_wait() {
    over_both_families(|bed, me| {
        let flow = finished(bed, me, 60_001, TcpOptions::default());
        let next = flow.snd_nxt;
        for (flags, seq) in [
            (RST, next),
            (RST | ACK, next),
            (RST, next.wrapping_add(100)),
            (RST, next.wrapping_add(1 << 30)),
        ] {
            flow.forge(flags, |sketch| sketch.header.seq = seq);
        }
        bed.counted(&["tcp_time_wait_reset"], 4);
        bed.wire.assert_silent("a RST in TIME-WAIT");
        still_waits(&flow);
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn old_duplicates_get_the_last_acknowledgement_and_seldom() {
    over_both_families(|bed, me| {
        let flow = finished(bed, me, 60_002, TcpOptions::default());
        flow.forge(ACK, |_| {});
        bed.wire.assert_silent("an exact ACK in TIME-WAIT");
        let asked = request("/small.bin");
        for _ in 0..100 {
            // What was received, an old ACK, and a request behind the end of the stream.
            flow.forge(PSH_ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_sub(20);
                sketch.payload = vec![b'x'; 19];
            });
            flow.forge(ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_sub(5);
            });
            flow.forge(PSH_ACK, |sketch| {
                sketch.payload = asked.clone().into_bytes();
            });
        }
        let answers = flow.all(Duration::from_millis(100));
        // One in half a second, on a machine that may have taken a whole one for it.
        assert!((1..=3).contains(&answers.len()), "{}", answers.len());
        for seen in answers {
            assert!(is_last_word(&flow, &seen), "{seen:?}");
        }
        assert_eq!(bed.daemon.report().get("connections"), 0);
        thread::sleep(SPACING);
        still_waits(&flow);
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_syn_with_a_newer_timestamp_opens_anew_and_the_past_stays_out() {
    over_both_families(|bed, me| {
        let old = finished(bed, me, 60_003, stamped(5000));
        // Its sequence number is older: the timestamp decides (RFC 6191 section 2).
        let mut flow = Flow::half_open(&bed.wire, old.me, stamped(old.my_clock + 1));
        let ahead = flow.rcv_nxt.wrapping_sub(old.rcv_nxt);
        assert!(ahead < 1 << 31, "it begins {ahead} beyond the last life");
        flow.send(ACK, b"");
        // A segment of the last life whose number would fit.
        flow.forge(PSH_ACK, |sketch| {
            sketch.header.options.timestamps = old.sketch(ACK, b"").header.options.timestamps;
            sketch.payload = b"DELETE / HTTP/1.1\r\n\r\n".to_vec();
        });
        bed.counted(&["tcp_paws"], 1);
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_syn_with_no_newer_timestamp_gets_the_last_acknowledgement() {
    over_both_families(|bed, me| {
        let old = finished(bed, me, 60_004, stamped(5000));
        for age in [0, 1, 1 << 30] {
            old.forge(SYN, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_add(1 << 20);
                sketch.header.options = stamped(old.my_clock.wrapping_sub(age));
            });
            let answer = old.next(ANSWER).expect("a challenge");
            assert!(is_last_word(&old, &answer), "{answer:?}");
            // A peer that knows of nothing says so, which changes nothing.
            old.forge(RST, |sketch| sketch.header.seq = answer.header.ack);
            thread::sleep(SPACING);
        }
        bed.counted(&["tcp_time_wait_reset"], 3);
        still_waits(&old);
        let mut flow = Flow::half_open(&bed.wire, old.me, stamped(old.my_clock + 1));
        flow.send(ACK, b"");
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn without_timestamps_the_sequence_number_of_a_syn_decides() {
    over_both_families(|bed, me| {
        let old = finished(bed, me, 60_005, TcpOptions::default());
        old.forge(SYN, |sketch| {
            sketch.header.seq = sketch.header.seq.wrapping_sub(100);
        });
        let answer = old.next(ANSWER).expect("a challenge");
        assert!(is_last_word(&old, &answer), "{answer:?}");
        let newer = old.snd_nxt.wrapping_add(1000);
        let options = TcpOptions::default();
        let mut flow = Flow::half_open_at(&bed.wire, old.me, newer, options);
        flow.send(ACK, b"");
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}
