//! D: peers that want more than their share: pipelines without end, and acknowledgements ahead of the data.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use sluice_wire::TcpOptions;

use super::{Bed, over_both_families};
use crate::client::Client;
use crate::raw::{ACK, ANSWER, Flow, RST, Seen};
use crate::site::MIB;

/// Honest downloads at a time, and in all for one measurement.
const PARALLEL: u8 = 4;
const DOWNLOADS: u8 = 12;
/// Requests of a greedy peer before it has seen an answer: 1.6 GiB.
const GREED: usize = 200;
/// Measurements with and without the attacker, in turns.
const ROUNDS: usize = 3;
/// What a fast flow takes until it is tested: a draw of at most 32 MiB, and others where it fell on the end of a file.
const TESTED_WITHIN: usize = 512 * MIB;

/// Bytes that a segment brings beyond those that are acknowledged.
fn news(flow: &Flow, seen: &Seen) -> u32 {
    let len = u32::try_from(seen.payload.len()).expect("short");
    let ahead = seen.header.seq.wrapping_add(len).wrapping_sub(flow.rcv_nxt);
    // Half of the circle is behind.
    if ahead < 1 << 31 { ahead } else { 0 }
}

/// Bytes per second of all parallel downloads together.
fn honest_rate(client: &Client) -> f64 {
    let parallel = PARALLEL.to_string();
    let mut args = vec!["--fail", "--parallel", "--parallel-immediate"];
    args.extend(["--parallel-max", &parallel]);
    args.extend(["--write-out", "%{speed_download}\\n"]);
    let url = client.url("file.bin");
    for _ in 0..DOWNLOADS {
        args.extend(["--output", "/dev/null", &url]);
    }
    let said = client.curl_text(&args);
    let rates: Vec<f64> = said
        .lines()
        .map(|line| line.parse().expect("curl writes a number"))
        .collect();
    assert_eq!(rates.len(), usize::from(DOWNLOADS), "{said}");
    rates.iter().sum::<f64>() * f64::from(PARALLEL) / f64::from(DOWNLOADS)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The same beside a peer that asks so many times for a large file at once and acknowledges whatever comes; and what it
/// got. One that asks for nothing costs this machine as much: it sees every frame of the others.
fn honest_rate_beside(bed: &Bed, me: SocketAddr, requests: usize) -> (f64, usize) {
    let client = bed.client_of(me);
    // Half a MiB of window: more than a download that shares the link fills.
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(3),
        ..TcpOptions::default()
    };
    let mut flow = Flow::offering(&bed.wire, me, options);
    for _ in 0..requests {
        flow.ask("/file.bin");
    }
    let (mut taken, mut accepted) = (0, flow.snd_nxt);
    let rate = thread::scope(|scope| {
        let honest = scope.spawn(|| honest_rate(&client));
        while !honest.is_finished() {
            let Some(seen) = flow.next(Duration::from_millis(1)) else {
                continue;
            };
            assert!(!seen.has(RST), "it is served too");
            if seen.header.seq == flow.rcv_nxt {
                flow.rcv_nxt = flow.rcv_nxt.wrapping_add(news(&flow, &seen));
                taken += seen.payload.len();
            }
            accepted = seen.header.ack;
            flow.send(ACK, b"");
        }
        honest.join().expect("the downloads succeed")
    });
    // Of the requests it may have taken fewer: only what it acknowledged last ends it.
    let last = flow.all(Duration::from_millis(20));
    flow.snd_nxt = last.last().map_or(accepted, |seen| seen.header.ack);
    flow.reset();
    (rate, taken)
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_greedy_pipeliner_leaves_others_their_share() {
    over_both_families(|bed, me| {
        let (mut alone, mut beside, mut taken) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            alone.push(honest_rate_beside(bed, me, 0).0);
            let (rate, got) = honest_rate_beside(bed, me, GREED);
            beside.push(rate);
            taken += got;
        }
        let (alone, beside) = (median(&mut alone) / 1e6, median(&mut beside) / 1e6);
        let said = format!(
            "{PARALLEL} downloads: {beside:.0} MB/s beside a greedy peer (which took {} MiB), {alone:.0} MB/s without it",
            taken / MIB
        );
        println!("{said}");
        assert!(taken > MIB, "nobody was greedy: {said}");
        // Equal shares are 80 %, which is the goal. The CPUs are those of the clients too, and the machine may do other
        // things meanwhile: less than half is what no noise explains.
        assert!(beside >= alone / 2.0, "less than half: {said}");
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_fast_peer_that_acknowledges_what_it_never_got_is_reset() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let (mut asked, mut taken) = (0, 0);
        loop {
            while asked < taken + 32 * MIB {
                flow.ask("/file.bin");
                asked += 8 * MIB;
            }
            let seen = flow.next(ANSWER);
            let seen = seen.unwrap_or_else(|| panic!("no more after {taken} bytes"));
            if seen.has(RST) {
                break;
            }
            // Whatever is missing below the newest byte is acknowledged with it.
            let ahead = news(&flow, &seen);
            taken += usize::try_from(ahead).expect("a window");
            flow.rcv_nxt = flow.rcv_nxt.wrapping_add(ahead);
            flow.send(ACK, b"");
            assert!(taken < TESTED_WITHIN, "not caught within {taken} bytes");
        }
        println!("caught after {} MiB", taken / MIB);
        bed.counted(&["tcp_optimistic_acks"], 1);
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_fast_peer_that_tells_of_the_hole_gets_every_byte() {
    over_both_families(|bed, me| {
        let mut flow = Flow::open(&bed.wire, me);
        let mut taken = 0;
        while bed.grown("tcp_withheld") == 0 {
            assert!(taken < TESTED_WITHIN, "not tested within {taken} bytes");
            flow.ask("/file.bin");
            flow.read_file(&bed.site.path("file.bin"));
            taken += 8 * MIB;
        }
        bed.counted(&["tcp_optimistic_acks"], 0);
        flow.reset();
    });
}
