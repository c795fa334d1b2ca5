//! D: peers that are connected and cost as much as they can, over IPv4 and IPv6. Others are served all the same.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_wire::{SackBlock, SackBlocks, TcpOptions};

use super::{Bed, over_both_families};
use crate::lab::eventually;
use crate::raw::{ACK, FIN, Flow, PSH_ACK, Seen, request, split};

/// What leaves at most before the first acknowledgement: ten segments (RFC 6928), and one as a tail loss probe (RFC 8985
/// section 7.3).
const INITIAL: usize = 11 * 1460;

/// Payload bytes of these segments beyond a sequence number.
fn reach(segments: &[Seen], from: u32) -> usize {
    let ends = segments.iter().map(|seen| {
        let len = u32::try_from(seen.payload.len()).expect("short");
        seen.header.seq.wrapping_add(len).wrapping_sub(from)
    });
    // What ends before it is a repetition.
    let beyond = ends.filter(|end| *end < 1 << 31).max();
    usize::try_from(beyond.unwrap_or(0)).expect("a window")
}

/// The first flight of a file whose connection scales its window up to a gigabyte.
fn first_flight(bed: &Bed, me: SocketAddr) -> (Flow<'_>, Vec<Seen>) {
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(14),
        sack_permitted: true,
        ..TcpOptions::default()
    };
    let mut flow = Flow::offering(&bed.wire, me, options);
    flow.ask("/file.bin");
    let flight = flow.all(Duration::from_millis(30));
    let sent = reach(&flight, flow.rcv_nxt);
    assert!((1460..=INITIAL).contains(&sent), "first flight {sent}");
    (flow, flight)
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_request_in_single_bytes_is_answered() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        for byte in request("/small.bin").bytes() {
            flow.send(PSH_ACK, &[byte]);
        }
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_request_in_single_bytes_from_its_end_to_its_beginning_is_answered() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let text = request("/small.bin");
        let bytes: Vec<(u32, u8)> = (0..).zip(text.bytes()).collect();
        for (offset, byte) in bytes.into_iter().rev() {
            flow.forge(PSH_ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_add(offset);
                sketch.payload = vec![byte];
            });
        }
        flow.snd_nxt = flow
            .snd_nxt
            .wrapping_add(u32::try_from(text.len()).expect("short"));
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_second_byte_of_a_window_is_bounded_work_and_bounded_memory() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        for _ in 0..4 {
            for offset in (1..8000).step_by(2) {
                flow.forge(PSH_ACK, |sketch| {
                    sketch.header.seq = sketch.header.seq.wrapping_add(offset);
                    sketch.payload = b"x".to_vec();
                });
            }
            bed.serves();
        }
        flow.wire.collect(Duration::from_millis(50));
        // The hole is filled at last, and what comes out of it is no request.
        let text = request("/small.bin");
        flow.send(PSH_ACK, text.as_bytes());
        // Of a segment that joins more than eight ranges only the first part is taken: a peer sends the rest again.
        for _ in 0..text.len() / 16 {
            flow.forge(PSH_ACK, |sketch| {
                let len = u32::try_from(text.len()).expect("short");
                sketch.header.seq = sketch.header.seq.wrapping_sub(len);
                sketch.payload = text.as_bytes().to_vec();
            });
        }
        let answer = flow.read_until(|bytes| split(bytes).is_some());
        assert!(answer.starts_with(b"HTTP/1.1 "));
        flow.reset();
    });
}

/// Waits until the daemon has no connection left; ends those whose numbers the test has lost by their silence.
fn flow_is_gone(bed: &Bed) {
    eventually("the connection is gone", Duration::from_secs(10), || {
        (bed.daemon.report().get("connections") == 0).then_some(())
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn bytes_that_came_first_stay_whatever_comes_in_their_place() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let text = request("/small.bin");
        let (head, tail) = text.as_bytes().split_at(10);
        flow.forge(PSH_ACK, |sketch| {
            sketch.header.seq = sketch.header.seq.wrapping_add(10);
            sketch.payload = tail.to_vec();
        });
        // The same places with other bytes, three times: whole, in part, and beyond both ends.
        for (offset, len) in [(10, tail.len()), (12, 5), (10, tail.len() - 1)] {
            flow.forge(PSH_ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_add(offset);
                sketch.payload = vec![b'Z'; len];
            });
        }
        flow.send(PSH_ACK, head);
        flow.snd_nxt = flow
            .snd_nxt
            .wrapping_add(u32::try_from(tail.len()).expect("short"));
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn sack_blocks_for_every_second_byte_cost_a_bounded_scoreboard() {
    over_both_families(|bed, me| {
        let (mut flow, flight) = first_flight(bed, me);
        let sent = u32::try_from(reach(&flight, flow.rcv_nxt)).expect("short");
        for start in (1..sent.saturating_sub(8)).step_by(8) {
            flow.forge(ACK, |sketch| {
                let base = sketch.header.ack;
                let mut blocks = SackBlocks::default();
                for more in [0, 2, 4, 6] {
                    blocks.push(SackBlock {
                        start: base.wrapping_add(start + more),
                        end: base.wrapping_add(start + more + 1),
                    });
                }
                sketch.header.options.sack = blocks;
            });
        }
        bed.serves();
        flow.wire.collect(Duration::from_millis(50));
        // From here on like everybody else: all bytes come, in order.
        flow.forge(ACK, |_| {});
        flow.read_file(&bed.site.path("file.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn sack_blocks_that_cannot_be_are_ignored() {
    over_both_families(|bed, me| {
        let (mut flow, _) = first_flight(bed, me);
        for (start, end) in [
            (5000u32, 100u32),
            (1 << 20, 1 << 21),
            (0u32.wrapping_sub(5000), 10),
            (7, 7),
        ] {
            flow.forge(ACK, |sketch| {
                let base = sketch.header.ack;
                sketch.header.options.sack.push(SackBlock {
                    start: base.wrapping_add(start),
                    end: base.wrapping_add(end),
                });
            });
        }
        flow.wire.collect(Duration::from_millis(20));
        flow.forge(ACK, |_| {});
        flow.read_file(&bed.site.path("file.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn acknowledging_a_segment_in_a_hundred_pieces_opens_the_window_once() {
    over_both_families(|bed, me| {
        let (mut flow, flight) = first_flight(bed, me);
        let sent = reach(&flight, flow.rcv_nxt);
        let from = flow.rcv_nxt;
        for _ in 0..100 {
            flow.rcv_nxt = flow.rcv_nxt.wrapping_add(14);
            flow.forge(ACK, |_| {});
        }
        let more = flow.all(Duration::from_millis(50));
        let now = reach(&more, from);
        // 1,400 bytes acknowledged: they leave the flight, and it grows by no more than as many in slow start.
        assert!(now <= sent + 2 * 1400 + 1460, "{sent}, then {now}");
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_thousand_duplicate_acks_release_no_flood() {
    over_both_families(|bed, me| {
        let (flow, flight) = first_flight(bed, me);
        let sent = reach(&flight, flow.rcv_nxt);
        for _ in 0..1000 {
            flow.forge(ACK, |_| {});
        }
        let more = flow.all(Duration::from_millis(50));
        let now = reach(&more, flow.rcv_nxt);
        // Limited transmit allows two segments (RFC 3042).
        assert!(now <= sent + 2 * 1460, "{sent}, then {now}");
        assert!(more.len() < 50, "{} segments for 1,000 ACKs", more.len());
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_ack_ahead_of_the_data_is_challenged_and_speeds_nothing_up() {
    over_both_families(|bed, me| {
        let (flow, flight) = first_flight(bed, me);
        let sent = u32::try_from(reach(&flight, flow.rcv_nxt)).expect("short");
        for ahead in [1, 1460, 1 << 20] {
            flow.forge(ACK, |sketch| {
                sketch.header.ack = sketch.header.ack.wrapping_add(sent + ahead);
            });
        }
        bed.counted(&["tcp_ack_out_of_range"], 3);
        let more = flow.all(Duration::from_millis(50));
        let new = more
            .iter()
            .filter(|seen| !seen.payload.is_empty())
            .filter(|seen| seen.header.seq.wrapping_sub(flow.rcv_nxt) >= sent)
            .count();
        assert_eq!(new, 0, "new data for an ACK of what was never sent");
        assert!(
            more.iter().any(|seen| seen.payload.is_empty()),
            "no challenge"
        );
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_closed_window_holds_no_block_and_opens_again() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        flow.window = 0;
        flow.ask("/small.bin");
        // Probes of a byte at most, after 0.2, 0.6, 1.4 s.
        let probes = flow.all(Duration::from_secs(2));
        assert!((1..=6).contains(&probes.len()), "{} probes", probes.len());
        assert!(probes.iter().all(|seen| seen.payload.len() <= 1));
        assert_eq!(bed.daemon.report().get("blocks_pinned"), 0);
        bed.serves();
        flow.window = 65_535;
        flow.forge(ACK, |_| {});
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_window_of_one_byte_is_not_filled_with_segments_of_one_byte() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        flow.window = 1;
        flow.ask("/small.bin");
        let mut bytes = 0;
        for _ in 0..100 {
            if let Some(seen) = flow.next(Duration::from_millis(20))
                && seen.header.seq == flow.rcv_nxt
            {
                bytes += seen.payload.len();
                flow.rcv_nxt = flow
                    .rcv_nxt
                    .wrapping_add(u32::try_from(seen.payload.len()).expect("short"));
                flow.send(ACK, b"");
            }
        }
        assert!(bytes <= 10, "{bytes} bytes in silly windows within 2 s");
        bed.serves();
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_window_that_is_taken_back_is_survived() {
    over_both_families(|bed, me| {
        let (mut flow, _) = first_flight(bed, me);
        flow.window = 0;
        flow.forge(ACK, |_| {});
        flow.window = 1;
        flow.forge(ACK, |_| {});
        flow.all(Duration::from_millis(300));
        flow.window = 4;
        flow.forge(ACK, |_| {});
        flow.read_file(&bed.site.path("file.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_gigantic_window_is_filled_no_faster_than_it_is_acknowledged() {
    over_both_families(|bed, me| {
        let (mut flow, mut all) = first_flight(bed, me);
        let from = flow.rcv_nxt;
        for _ in 0..4 {
            let now = u32::try_from(reach(&all, from)).expect("short");
            flow.rcv_nxt = from.wrapping_add(now);
            flow.forge(ACK, |_| {});
            all.extend(flow.all(Duration::from_millis(20)));
        }
        // Four round trips of slow start double the first flight four times at most.
        let in_flight = reach(&all, flow.rcv_nxt);
        assert!(in_flight <= 16 * INITIAL, "{in_flight} bytes in flight");
        bed.serves();
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_tiny_mss_is_raised_to_the_floor() {
    over_both_families(|bed, me| {
        for mss in [1, 64, 215] {
            let options = TcpOptions {
                mss: Some(mss),
                ..TcpOptions::default()
            };
            let mut flow = Flow::offering(&bed.wire, me, options);
            flow.ask("/small.bin");
            let flight = flow.all(Duration::from_millis(30));
            let largest = flight.iter().map(|seen| seen.payload.len()).max();
            assert_eq!(largest, Some(216), "MSS {mss}");
            flow.reset();
        }
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_head_that_comes_a_byte_at_a_time_gets_408_at_its_deadline() {
    let Some(bed) = Bed::with(&[("limits.header_timeout", "\"1s\"")]) else {
        return;
    };
    for me in bed.wire.strangers(1) {
        let mut flow = Flow::open(&bed.wire, me);
        let text = format!("GET / HTTP/1.1\r\nHost: lab\r\nX: {}", "y".repeat(200));
        let mut answer = Vec::new();
        for byte in text.bytes() {
            flow.send(PSH_ACK, &[byte]);
            if let Some(seen) = flow.next(Duration::from_millis(20))
                && !seen.payload.is_empty()
            {
                answer = seen.payload;
                break;
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
        // What is left of the connection goes when it is reset; how far it acknowledged us is not known here.
        let last = flow.all(Duration::from_millis(100));
        let next = last.last().map_or(flow.snd_nxt, |seen| seen.header.ack);
        flow.snd_nxt = next.max(flow.snd_nxt);
        flow.reset();
        flow_is_gone(&bed);
    }
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn data_beyond_the_window_is_not_kept() {
    over_both_families(|bed, me| {
        let flow = Flow::open(&bed.wire, me);
        let window = u32::from(flow.syn_ack.header.window);
        for offset in 0..50 {
            flow.forge(PSH_ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_add(window + offset * 1000);
                sketch.payload = vec![b'x'; 1000];
            });
        }
        bed.counted(&["tcp_outside_window"], 50);
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn keep_alives_are_answered_one_for_one_at_most() {
    over_both_families(|bed, me| {
        let flow = Flow::open(&bed.wire, me);
        for _ in 0..1000 {
            flow.forge(ACK, |sketch| {
                sketch.header.seq = sketch.header.seq.wrapping_sub(1);
            });
        }
        let answers = flow.all(Duration::from_millis(300));
        assert!((1..=1000).contains(&answers.len()), "{}", answers.len());
        assert!(answers.iter().all(|seen| seen.payload.is_empty()));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_half_closed_peer_gets_its_whole_response() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        flow.send(PSH_ACK | FIN, request("/small.bin").as_bytes());
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn urgent_bytes_are_part_of_the_stream() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let text = request("/small.bin");
        flow.forge(PSH_ACK | sluice_wire::TcpFlags::URG, |sketch| {
            sketch.header.urgent = 5;
            sketch.payload = text.as_bytes().to_vec();
        });
        flow.snd_nxt = flow
            .snd_nxt
            .wrapping_add(u32::try_from(text.len()).expect("short"));
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    });
}
