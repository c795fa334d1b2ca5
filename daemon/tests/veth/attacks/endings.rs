//! D: peers that will not let go. Every state in which we wait for them has an end.
//!
//! What lasts minutes is no test here: FIN-WAIT-2 in silence (60 s) is in the dialogues `closing`, a closed window of a
//! peer that answers every probe (120 s, RFC 6429) in `send_window`. Neither has a setting that shortens it.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use sluice_wire::TcpOptions;

use super::{Bed, over_both_families};
use crate::raw::{ACK, ANSWER, FIN, Flow, PSH_ACK, RST, last_request, request};

/// The end of a peer that says nothing any more.
const IMPATIENT: [(&str, &str); 1] = [("tcp.user_timeout", "\"1s\"")];
/// It is over by then, and so is the wait for the probe before it.
const OVER: Duration = Duration::from_secs(8);
/// What a peer has after the last response to close, in the daemon.
const LINGER: Duration = Duration::from_secs(5);

/// Reads and acknowledges everything but the FIN.
fn read_but_the_fin(flow: &mut Flow) {
    loop {
        let seen = flow.next(ANSWER).expect("the response goes on");
        assert!(!seen.has(RST), "reset within the response");
        if seen.header.seq != flow.rcv_nxt {
            continue;
        }
        let len = u32::try_from(seen.payload.len()).expect("short");
        flow.rcv_nxt = flow.rcv_nxt.wrapping_add(len);
        if len > 0 {
            flow.send(ACK, b"");
        }
        if seen.has(FIN) {
            return;
        }
    }
}

/// Which of us ended first.
#[derive(Clone, Copy, Debug)]
enum State {
    FinWait1,
    Closing,
    LastAck,
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn whoever_never_acknowledges_our_fin_is_reset_in_every_state_that_waits_for_it() {
    let Some(bed) = Bed::with(&IMPATIENT) else {
        return;
    };
    let mut flows = Vec::new();
    for (port, state) in [
        (1, State::FinWait1),
        (2, State::Closing),
        (3, State::LastAck),
    ] {
        for me in bed.wire.strangers(port) {
            let mut flow = Flow::open(&bed.wire, me);
            match state {
                State::LastAck => flow.send(PSH_ACK | FIN, request("/small.bin").as_bytes()),
                _ => flow.send(PSH_ACK, last_request("/small.bin").as_bytes()),
            }
            read_but_the_fin(&mut flow);
            if let State::Closing = state {
                flow.send(FIN | ACK, b"");
            }
            flows.push((flow, state));
        }
    }
    for (flow, state) in &flows {
        let end = bed
            .wire
            .find(OVER, |seen| seen.to == flow.me && seen.has(RST));
        assert!(end.is_some(), "{state:?} has no end for {}", flow.me);
    }
    let heard = bed.wire.collect(Duration::ZERO);
    for (flow, state) in &flows {
        let fins = heard
            .iter()
            .filter(|seen| seen.to == flow.me && seen.has(FIN));
        // Beside the one that was read.
        assert!(fins.count() >= 1, "{state:?} did not repeat its FIN");
    }
    bed.counted(&["tcp_user_timeouts"], flows.len());
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_closed_window_without_answers_to_probes_ends_with_the_user_timeout() {
    let Some(bed) = Bed::with(&IMPATIENT) else {
        return;
    };
    let flows = bed.wire.strangers(1).map(|me| {
        let mut flow = Flow::open(&bed.wire, me);
        flow.window = 0;
        flow.ask("/small.bin");
        flow
    });
    for flow in &flows {
        let end = bed
            .wire
            .find(OVER, |seen| seen.to == flow.me && seen.has(RST));
        assert!(end.is_some(), "no end for {}", flow.me);
    }
    let heard = bed.wire.collect(Duration::ZERO);
    for flow in &flows {
        let probes = heard
            .iter()
            .filter(|seen| seen.to == flow.me && !seen.payload.is_empty())
            .inspect(|seen| assert_eq!(seen.payload.len(), 1, "a probe has a byte"));
        let probes = probes.count();
        // Several, since a probe or an answer can be lost; and no flood.
        assert!((2..=8).contains(&probes), "{probes} probes");
    }
    bed.counted(&["tcp_user_timeouts"], 2);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn fins_that_cross_end_in_time_wait() {
    over_both_families(|bed, me| {
        let before = bed.daemon.report().get("time_wait");
        // It stays there for longer than this test.
        let me = SocketAddr::new(me.ip(), 60_010);
        let mut flow = Flow::offering(&bed.wire, me, TcpOptions::default());
        flow.send(PSH_ACK, last_request("/small.bin").as_bytes());
        read_but_the_fin(&mut flow);
        flow.send(FIN | ACK, b"");
        let next = flow.snd_nxt;
        let acknowledged = bed
            .wire
            .find(ANSWER, |seen| seen.to == me && seen.header.ack == next);
        assert!(acknowledged.is_some(), "our FIN is not acknowledged");
        let report = bed.daemon.report();
        assert_eq!(
            (report.get("connections"), report.get("time_wait")),
            (1, before),
            "CLOSING"
        );
        flow.rcv_nxt = flow.rcv_nxt.wrapping_add(1);
        flow.send(ACK, b"");
        bed.daemon.settle();
        assert_eq!(bed.daemon.report().get("time_wait"), before + 1);
        bed.wire.forget();
        flow.forge(FIN | ACK, |sketch| {
            sketch.header.seq = next.wrapping_sub(1);
        });
        let answer = flow.next(ANSWER).expect("TIME-WAIT acknowledges it again");
        assert_eq!(
            (answer.header.flags, answer.header.seq, answer.header.ack),
            (ACK, flow.rcv_nxt, next)
        );
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_peer_that_never_ends_its_side_is_drained_for_a_while_and_then_reset() {
    let Some(bed) = Bed::new() else { return };
    let mut flows = bed.wire.strangers(1).map(|me| Flow::open(&bed.wire, me));
    for flow in &mut flows {
        flow.send(PSH_ACK, last_request("/small.bin").as_bytes());
        flow.read_to_end();
        // FIN-WAIT-2. What comes now is read away: the peer may not have seen the end yet.
        flow.send(PSH_ACK, b"more of it");
        let next = flow.snd_nxt;
        let drained = bed
            .wire
            .find(ANSWER, |seen| seen.to == flow.me && seen.header.ack == next);
        assert!(drained.is_some_and(|seen| !seen.has(RST)), "it is drained");
    }
    thread::sleep(LINGER + Duration::from_millis(700));
    let report = bed.daemon.report();
    assert_eq!(report.get("connections"), 2, "{}", report.text());
    assert_eq!(report.get("blocks_pinned"), 0, "{}", report.text());
    for flow in &mut flows {
        flow.send(PSH_ACK, b"and more");
        let answer = flow.next(ANSWER).expect("nobody reads it");
        assert!(answer.has(RST), "{answer:?}");
    }
    bed.counted(&["tcp_data_not_read"], 2);
    bed.healthy();
}
