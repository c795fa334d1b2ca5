//! Congestion control on a bottleneck in virtual time: what each controller makes of a path.
//!
//! [`link`] is the path, [`receiver`] its far end. Every test is deterministic: the same seed gives the same
//! run to the nanosecond. Shares of the link count payload with its headers.
#![allow(clippy::cast_precision_loss)]

#[expect(
    dead_code,
    reason = "two controllers beside each other are in shares.rs"
)]
#[path = "control/link.rs"]
mod link;
#[path = "control/receiver.rs"]
mod receiver;

use core::time::Duration;

use core::net::{IpAddr, Ipv4Addr};

use link::{Departure, Lab, MSS, Path, Setup, stack_config};
use sluice_tcp::clock::Instant;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::{Segment, Stack};
use sluice_wire::{Ecn, TcpFlags, TcpHeader, TcpOptions};

const SECOND: Duration = Duration::from_secs(1);

fn lab(algorithm: Algorithm, path: Path) -> Lab {
    Lab::new(Setup::new(algorithm, path), 1, Duration::ZERO)
}

/// Share of the link from second 2 to second 12.
fn steady_share(lab: &mut Lab) -> f64 {
    lab.run(2 * SECOND);
    lab.forget_queue();
    let bytes = lab.run(10 * SECOND)[0];
    lab.utilisation(bytes, 10 * SECOND)
}

fn jain(bytes: &[u64]) -> f64 {
    let shares: Vec<f64> = bytes.iter().map(|bytes| *bytes as f64).collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn every_controller_fills_a_path_of_100_mbit_and_20_ms() {
    for algorithm in Algorithm::ALL {
        let path = Path {
            mark_above: (algorithm == Algorithm::Dctcp).then_some(60_000),
            ..Path::USUAL
        };
        let mut lab = lab(algorithm, path);
        let share = steady_share(&mut lab);
        println!(
            "{algorithm:?}: {share:.3} of the link, queue {:?}",
            lab.queue
        );
        assert!(share >= 0.90, "{algorithm:?}: {share}");
    }
}

/// BBR keeps what it does not need out of the buffer; loss-based control fills it.
#[test]
fn bbr_keeps_the_queue_of_a_deep_buffer_short() {
    let deep = Path {
        buffer: 4 * Path::USUAL.bdp(),
        ..Path::USUAL
    };
    let mut bbr = lab(Algorithm::Bbr, deep);
    let share = steady_share(&mut bbr);
    let queue = bbr.queue.mean_backlog();
    let mut cubic = lab(Algorithm::Cubic, deep);
    steady_share(&mut cubic);
    let full = cubic.queue.mean_backlog();
    println!("BBR: {share:.3} of the link, mean queue {queue} bytes; CUBIC {full}");
    assert!(share >= 0.90, "{share}");
    assert!(queue <= deep.bdp() / 4, "{queue}");
    assert!(queue * 4 <= full, "{queue} {full}");
    assert_eq!(bbr.queue.dropped, 0);
}

#[test]
fn bbr_survives_one_per_cent_of_random_loss() {
    let lossy = Path {
        loss_ppm: 10_000,
        ..Path::USUAL
    };
    for seed in [7_919, 15_838, 23_757, 31_676] {
        let setup = Setup {
            seed,
            ..Setup::new(Algorithm::Bbr, lossy)
        };
        let mut lab = Lab::new(setup, 1, Duration::ZERO);
        let share = steady_share(&mut lab);
        println!("seed {seed}: {share:.3} of the link");
        assert!(share >= 0.80, "seed {seed}: {share}");
    }
}

/// Startup overflows the buffer: hundreds of holes, more than loss recovery can tell apart, whose round trips are
/// then too short to build a model on.
#[test]
fn bbr_recovers_on_a_long_path_from_a_burst_of_losses() {
    let long = Path {
        rtt: Duration::from_millis(80),
        buffer: 1_000_000,
        loss_ppm: 1_000,
        ..Path::USUAL
    };
    let setup = Setup {
        seed: 7_919,
        ..Setup::new(Algorithm::Bbr, long)
    };
    let mut lab = Lab::new(setup, 1, Duration::ZERO);
    let share = steady_share(&mut lab);
    println!("{share:.3} of the link");
    assert!(share >= 0.60, "{share}");
}

/// BBR halves its flight for 200 ms when the shortest round trip is ten seconds old
/// (draft-ietf-ccwg-bbr, ProbeRTT).
#[test]
fn bbr_empties_the_queue_when_its_shortest_round_trip_is_old() {
    let mut lab = lab(Algorithm::Bbr, Path::USUAL);
    let bdp = Path::USUAL.bdp();
    let mut lowest = u64::MAX;
    lab.run(3 * SECOND);
    for _ in 0..1_000 {
        lab.run(Duration::from_millis(10));
        lowest = lowest.min(u64::from(lab.view(0).cwnd));
    }
    println!("lowest window {lowest} of a path that holds {bdp}");
    assert!(lowest < bdp * 6 / 10, "{lowest}");
    assert!(lowest > bdp * 4 / 10, "{lowest}");
}

#[test]
fn two_cubic_flows_share_fairly() {
    let setup = Setup::new(Algorithm::Cubic, Path::USUAL);
    let mut lab = Lab::new(setup, 2, SECOND);
    lab.run(10 * SECOND);
    let bytes = lab.run(50 * SECOND);
    let index = jain(&bytes);
    println!("{bytes:?}: Jain {index:.3}");
    assert!(index >= 0.9, "{bytes:?} {index}");
    assert!(lab.utilisation(bytes.iter().sum(), 50 * SECOND) >= 0.95);
}

#[test]
fn two_flows_of_each_kind_share_fairly() {
    for algorithm in Algorithm::ALL {
        let path = Path {
            mark_above: (algorithm == Algorithm::Dctcp).then_some(60_000),
            ..Path::USUAL
        };
        let mut lab = Lab::new(Setup::new(algorithm, path), 2, SECOND);
        lab.run(20 * SECOND);
        let bytes = lab.run(40 * SECOND);
        let index = jain(&bytes);
        println!("{algorithm:?} {bytes:?}: Jain {index:.3}");
        assert!(index >= 0.9, "{algorithm:?} {bytes:?} {index}");
    }
}

/// RFC 9406: the rise of the round-trip time ends slow start before the buffer does.
#[test]
fn hystart_leaves_slow_start_without_loss_on_a_deep_buffer() {
    let deep = Path {
        // The rise is seen a round after it began, at almost four times what fills the path, and the five
        // rounds of conservative slow start may treble that: 320 ms of buffer.
        buffer: 16 * Path::USUAL.bdp(),
        ..Path::USUAL
    };
    let mut cubic = lab(Algorithm::Cubic, deep);
    let bytes = cubic.run(2 * SECOND)[0];
    let view = cubic.view(0);
    let share = cubic.utilisation(bytes, 2 * SECOND);
    println!(
        "CUBIC: ssthresh {} bytes after {} drops, {share:.3} of the link in two seconds",
        view.ssthresh, cubic.queue.dropped
    );
    assert_ne!(view.ssthresh, u32::MAX, "slow start is over");
    assert_eq!(cubic.queue.dropped, 0);
    assert!(share >= 0.75, "{share}");
    let mut reno = lab(Algorithm::NewReno, deep);
    reno.run(2 * SECOND);
    assert!(reno.queue.dropped > 100, "without HyStart++ it overflows");
}

/// RFC 8257.
#[test]
fn dctcp_holds_the_queue_near_the_marking_threshold() {
    let threshold = 60_000;
    let path = Path {
        mark_above: Some(threshold),
        buffer: 4 * Path::USUAL.bdp(),
        ..Path::USUAL
    };
    let mut lab = lab(Algorithm::Dctcp, path);
    let share = steady_share(&mut lab);
    let queue = lab.queue;
    println!(
        "DCTCP: {share:.3} of the link, queue {} in the mean, {} at most, {} of {} marked",
        queue.mean_backlog(),
        queue.backlog_max,
        queue.marked,
        queue.enqueued
    );
    assert!(share >= 0.95, "{share}");
    assert!(queue.mean_backlog() >= threshold / 2 && queue.mean_backlog() <= threshold * 5 / 4);
    assert!(queue.backlog_max <= threshold * 2);
    assert_eq!(queue.dropped, 0);
}

/// RFC 3168, RFC 8511: marks instead of drops, one reduction per round trip, announced by CWR.
#[test]
fn cubic_answers_marks_and_loses_nothing() {
    let path = Path {
        mark_above: Some(100_000),
        buffer: 4 * Path::USUAL.bdp(),
        ..Path::USUAL
    };
    let mut lab = lab(Algorithm::Cubic, path);
    lab.departures = Some(Vec::new());
    let share = steady_share(&mut lab);
    let reductions = lab.stack().counters().ecn_reductions;
    let departures = lab.departures.take().expect("recorded");
    let announced = departures
        .iter()
        .filter(|departure| departure.flags.contains(TcpFlags::CWR))
        .count();
    println!(
        "CUBIC with ECN: {share:.3} of the link, {reductions} reductions in 12 s, queue {} in the mean",
        lab.queue.mean_backlog()
    );
    assert!(share >= 0.90, "{share}");
    assert!(lab.view(0).ecn);
    assert_eq!(lab.queue.dropped, 0);
    assert!((1..=100).contains(&reductions), "{reductions}");
    assert_eq!(u64::try_from(announced), Ok(reductions));
    assert!(departures.iter().all(|departure| departure.ect));
}

/// RFC 3168 section 6.1.5: what is sent again is not ECN-capable.
#[test]
fn retransmissions_are_not_marked_as_ecn_capable() {
    let lossy = Path {
        loss_ppm: 5_000,
        ..Path::USUAL
    };
    let mut lab = lab(Algorithm::Cubic, lossy);
    lab.departures = Some(Vec::new());
    lab.run(3 * SECOND);
    let departures = lab.departures.take().expect("recorded");
    let mut highest = 0;
    let mut repeated = 0;
    for departure in &departures {
        let again = departure.payload.end <= highest;
        assert_eq!(departure.ect, !again, "{departure:?}");
        repeated += u32::from(again);
        highest = highest.max(departure.payload.end);
    }
    assert!(repeated > 10, "{repeated}");
}

#[test]
fn a_path_that_drops_ecn_capable_packets_is_used_without_ecn() {
    let path = Path {
        hates_ecn: true,
        ..Path::USUAL
    };
    let mut lab = lab(Algorithm::Cubic, path);
    lab.run(5 * SECOND);
    assert_eq!(lab.stack().counters().ecn_fallbacks, 1);
    let share = lab.run(5 * SECOND)[0];
    assert!(lab.utilisation(share, 5 * SECOND) >= 0.90);
}

/// The draft of BBR has no answer to ECE, so it must not ask for marks.
#[test]
fn bbr_does_not_negotiate_ecn() {
    let mut lab = lab(Algorithm::Bbr, Path::USUAL);
    lab.run(SECOND);
    assert!(!lab.view(0).ecn);
}

/// After the initial window no instant sees more than a quantum, and no millisecond more than a quantum and
/// what the rate allows in it.
#[test]
fn pacing_never_bursts_more_than_the_quantum() {
    for algorithm in Algorithm::ALL {
        let mut lab = lab(algorithm, Path::USUAL);
        lab.departures = Some(Vec::new());
        lab.run(5 * SECOND);
        let departures = lab.departures.take().expect("recorded");
        let paced: Vec<&Departure> = departures
            .iter()
            .filter(|departure| departure.payload.start >= 10 * u64::from(MSS))
            .collect();
        let mut largest = 0.0f64;
        for burst in paced.chunk_by(|left, right| left.at == right.at) {
            let bytes: u64 = burst.iter().map(|departure| len(departure)).sum();
            let quantum = burst[0].view.quantum;
            assert!(quantum > 0, "{algorithm:?}: not paced");
            largest = largest.max(bytes as f64 / f64::from(quantum));
        }
        println!("{algorithm:?}: largest burst {largest:.3} of the quantum");
        assert!(largest <= 1.0, "{algorithm:?}: {largest}");
        let most = busiest_millisecond(&paced);
        assert!(most <= 2.0, "{algorithm:?}: {most} quanta in a millisecond");
    }
}

/// The most quanta that left within a millisecond, where the rate did not change.
fn busiest_millisecond(paced: &[&Departure]) -> f64 {
    let mut most = 0.0f64;
    let mut first = 0;
    let mut bytes = 0;
    for departure in paced {
        bytes += len(departure);
        while departure.at.saturating_since(paced[first].at) >= Duration::from_millis(1) {
            bytes -= len(paced[first]);
            first += 1;
        }
        let slower = paced[first].view.quantum.min(departure.view.quantum);
        let faster = paced[first].view.quantum.max(departure.view.quantum);
        if slower == faster {
            most = most.max(bytes as f64 / f64::from(slower));
        }
    }
    most
}

fn len(departure: &Departure) -> u64 {
    departure.payload.end - departure.payload.start
}

/// Share of the link, longest burst, bursts per second, and losses, over paths whose phases of loss fall differently.
fn with_quanta(quanta: PacingConfig, algorithm: Algorithm, rate: u64, fifths: u64) -> [f64; 4] {
    const ROUND_TRIPS: [u64; 4] = [7, 11, 16, 23];
    let mut sums = [0.0; 4];
    for rtt in ROUND_TRIPS {
        let path = Path {
            rate,
            rtt: Duration::from_millis(rtt),
            ..Path::USUAL
        };
        let path = Path {
            buffer: path.bdp() * fifths / 5,
            ..path
        };
        let setup = Setup {
            quanta,
            ..Setup::new(algorithm, path)
        };
        let mut lab = Lab::new(setup, 1, Duration::ZERO);
        lab.run(SECOND);
        lab.forget_queue();
        lab.departures = Some(Vec::new());
        let bytes = lab.run(SECOND)[0];
        let departures = lab.departures.take().expect("recorded");
        let bursts: Vec<u64> = departures
            .chunk_by(|left, right| left.at == right.at)
            .map(|burst| burst.iter().map(len).sum())
            .collect();
        let longest = bursts.iter().copied().max().unwrap_or(0);
        let told = [
            lab.utilisation(bytes, SECOND),
            longest as f64,
            bursts.len() as f64,
            lab.queue.dropped as f64,
        ];
        for (sum, value) in sums.iter_mut().zip(told) {
            *sum += value / ROUND_TRIPS.len() as f64;
        }
    }
    sums
}

/// Frame by frame, shorter bursts carry as much over every path, although the loop sleeps between them.
#[test]
fn the_quantum_of_a_lane_of_frames_costs_no_goodput() {
    // 400 Mbit/s, 1 Gbit/s: below and far above them the bound does not show. A queue for a round trip, for a fifth.
    for rate in [50_000_000, 125_000_000] {
        for (algorithm, fifths) in [Algorithm::Cubic, Algorithm::Bbr]
            .into_iter()
            .flat_map(|algorithm| [5, 1].map(|fifths| (algorithm, fifths)))
        {
            let quanta = [PacingConfig::default(), PacingConfig::of_frames(1_500)];
            let [long, short] = quanta.map(|quanta| with_quanta(quanta, algorithm, rate, fifths));
            println!(
                "{} Mbit/s, {fifths}/5, {algorithm:?}: share, longest, bursts/s, dropped {long:.3?} {short:.3?}",
                rate / 125_000
            );
            assert!(short[0] >= long[0] - 0.01, "{algorithm:?}, {fifths}/5");
        }
    }
}

#[test]
fn without_pacing_a_window_leaves_as_it_is_acknowledged() {
    let setup = Setup {
        pacing: false,
        ..Setup::new(Algorithm::Cubic, Path::USUAL)
    };
    let mut lab = Lab::new(setup, 1, Duration::ZERO);
    let share = steady_share(&mut lab);
    assert_eq!((lab.view(0).pacing_rate, lab.view(0).quantum), (0, 0));
    assert!(share >= 0.90, "{share}");
}

/// The timer grain is coarser than the gaps there.
#[test]
fn a_path_shorter_than_200_us_is_not_paced() {
    let veth = Path {
        rate: 1_250_000_000,
        rtt: Duration::from_micros(100),
        buffer: 1_000_000,
        ..Path::USUAL
    };
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        let mut lab = lab(algorithm, veth);
        let time = Duration::from_millis(200);
        lab.run(time);
        let bytes = lab.run(time)[0];
        let share = lab.utilisation(bytes, time);
        println!("{algorithm:?}: {share:.3} of 10 Gbit/s");
        assert_eq!(lab.view(0).pacing_rate, 0);
        assert!(share >= 0.90, "{algorithm:?}: {share}");
    }
}

/// A short file is not made to wait: the initial window leaves at once (RFC 6928).
#[test]
fn the_initial_window_leaves_as_one_burst() {
    for algorithm in Algorithm::ALL {
        let mut lab = lab(algorithm, Path::USUAL);
        lab.departures = Some(Vec::new());
        lab.run(Duration::from_millis(45));
        let departures = lab.departures.take().expect("recorded");
        let begin = departures[0].at;
        let burst = departures
            .iter()
            .take_while(|departure| departure.at == begin)
            .count();
        assert_eq!(burst, 10, "{algorithm:?}");
        assert_eq!(departures.len(), 10, "{algorithm:?}");
    }
}

/// RFC 7661: an application that asks for little does not inflate the window.
#[test]
fn an_application_limited_flow_does_not_grow_its_window() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno, Algorithm::Dctcp] {
        let mut lab = lab(algorithm, Path::USUAL);
        lab.limit(0, 0);
        lab.run(Duration::from_millis(50));
        let initial = lab.view(0).cwnd;
        for request in 1..200 {
            // Four segments every 25 ms.
            lab.limit(0, request * 4 * u64::from(MSS));
            lab.run(Duration::from_millis(25));
        }
        assert_eq!(lab.received(0), 199 * 4 * u64::from(MSS));
        assert_eq!(lab.view(0).cwnd, initial, "{algorithm:?}");
    }
}

/// RFC 5681 section 4.1, RFC 6928 section 2.
#[test]
fn after_an_idle_period_the_window_restarts_from_the_initial_one() {
    let mut lab = lab(Algorithm::Cubic, Path::USUAL);
    let file = 4_000_000;
    lab.limit(0, file);
    lab.run(2 * SECOND);
    assert_eq!(lab.received(0), file);
    assert!(lab.view(0).cwnd > 20 * MSS);
    lab.limit(0, 2 * file);
    assert_eq!(lab.view(0).cwnd, 10 * MSS);
}

/// draft-ietf-ccwg-bbr, Restarting From Idle: the window stays, and the rate is that of the path.
#[test]
fn after_an_idle_period_bbr_resumes_at_the_rate_of_the_path() {
    let mut lab = lab(Algorithm::Bbr, Path::USUAL);
    let file = 20_000_000;
    lab.limit(0, file);
    lab.run(4 * SECOND);
    assert_eq!(lab.received(0), file);
    assert_eq!(lab.stack().awake(), 0, "it rests in the meantime");
    lab.limit(0, 2 * file);
    let bytes = lab.run(SECOND)[0];
    let share = lab.utilisation(bytes, SECOND);
    println!("{share:.3} of the link in the second after the pause");
    assert!(share >= 0.85, "{share}");
    assert!(lab.queue.mean_backlog() < Path::USUAL.bdp() / 2);
}

/// A loop that sleeps too long makes up for at most a quantum.
#[test]
fn a_late_loop_keeps_the_rate_and_does_not_burst() {
    let setup = Setup {
        late: Duration::from_micros(300),
        ..Setup::new(Algorithm::Cubic, Path::USUAL)
    };
    let mut lab = Lab::new(setup, 1, Duration::ZERO);
    let share = steady_share(&mut lab);
    println!("{share:.3} of the link with timers 300 us late");
    assert!(share >= 0.90, "{share}");
}

/// Acknowledgements that come in clumps are taken as one, and no controller makes less of the path.
#[test]
fn runs_of_acknowledgements_cost_no_controller_anything() {
    let path = Path {
        rate: 2 * Path::USUAL.rate,
        buffer: 2 * Path::USUAL.bdp(),
        ..Path::USUAL
    };
    for algorithm in Algorithm::ALL {
        let [each, merged] = [false, true].map(|merges| {
            let setup = Setup {
                coalesced: Duration::from_millis(1),
                merges,
                timestamps: true,
                ..Setup::new(algorithm, path)
            };
            let mut lab = Lab::new(setup, 1, Duration::ZERO);
            let share = steady_share(&mut lab);
            println!(
                "{algorithm:?}: {share:.3} of the link, {} merged, queue {:?}",
                lab.merged(),
                lab.queue
            );
            assert_eq!(lab.merged() > 10_000, merges, "{algorithm:?}");
            share
        });
        assert!(merged >= each - 0.02, "{algorithm:?}: {merged} of {each}");
    }
}

/// RFC 9406 section 4.2 wants eight samples: those of a run count, or slow start would see no rise in a few clumps.
#[test]
fn hystart_sees_the_rise_in_runs_of_acknowledgements_too() {
    let setup = Setup {
        coalesced: Duration::from_millis(4),
        merges: true,
        ..Setup::new(
            Algorithm::Cubic,
            Path {
                buffer: 16 * Path::USUAL.bdp(),
                ..Path::USUAL
            },
        )
    };
    let mut lab = Lab::new(setup, 1, Duration::ZERO);
    lab.run(2 * SECOND);
    let (view, merged) = (lab.view(0), lab.merged());
    println!("{merged} merged, {view:?}, queue {:?}", lab.queue);
    assert!(merged > 1000, "{merged}");
    assert_ne!(view.ssthresh, u32::MAX, "slow start is over");
    assert_eq!(lab.queue.dropped, 0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let lossy = Path {
        loss_ppm: 3_000,
        ..Path::USUAL
    };
    for algorithm in Algorithm::ALL {
        let run = |seed| {
            let setup = Setup {
                seed,
                ..Setup::new(algorithm, lossy)
            };
            let mut lab = Lab::new(setup, 2, SECOND);
            let bytes = lab.run(4 * SECOND);
            (bytes, lab.queue.enqueued, lab.queue.lost, lab.view(0))
        };
        assert_eq!(run(5), run(5), "{algorithm:?}");
        assert_ne!(run(5), run(6), "{algorithm:?}");
    }
}

/// A client that speaks segment by segment.
struct Talk {
    stack: Stack,
    now: Instant,
    seq: u32,
    ack: u32,
}

impl Talk {
    /// The flags of the SYN-ACK that answers a SYN with `flags` besides SYN.
    fn open(algorithm: Algorithm, flags: TcpFlags) -> (Talk, TcpFlags) {
        let now = Instant::from_nanos(1_000_000_000);
        let setup = Setup::new(algorithm, Path::USUAL);
        let mut talk = Talk {
            stack: Stack::new(stack_config(&setup), now),
            now,
            seq: 100,
            ack: 0,
        };
        talk.say(flags.union(TcpFlags::SYN), 0, Ecn::NotEct);
        let answer = talk.hear().expect("a SYN-ACK");
        talk.seq += 1;
        talk.ack = answer.seq.wrapping_add(1);
        talk.say(TcpFlags::ACK, 0, Ecn::NotEct);
        (talk, answer.flags)
    }

    fn say(&mut self, flags: TcpFlags, payload_len: u32, ecn: Ecn) {
        let header = TcpHeader {
            src_port: 9_000,
            dst_port: 80,
            seq: self.seq,
            ack: self.ack,
            flags,
            window: 60_000,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let address = |host| IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
        let segment = Segment {
            key: FlowKey::new(address(1), 80, address(2), 9_000),
            header: &header,
            payload_len,
            ecn,
        };
        let _ = self.stack.on_segment(self.now, &segment);
        self.seq = self.seq.wrapping_add(payload_len);
    }

    fn hear(&mut self) -> Option<TcpHeader> {
        Some(self.stack.poll_transmit(self.now)?.header)
    }

    /// Two full segments, and whether their acknowledgement says ECE.
    fn is_echoed(&mut self, flags: TcpFlags, marks: [Ecn; 2]) -> bool {
        for mark in marks {
            self.say(flags.union(TcpFlags::ACK), 1_000, mark);
        }
        let answer = self.hear().expect("every second segment is acknowledged");
        answer.flags.contains(TcpFlags::ECE)
    }
}

/// RFC 3168 section 6.1.1; RFC 9768 sections 3.1.2 and 3.1.3.
#[test]
fn an_offer_of_ecn_is_answered_by_its_kind() {
    let setup = TcpFlags::ECE.union(TcpFlags::CWR);
    let answer = |algorithm, flags| Talk::open(algorithm, flags).1;
    let plain = TcpFlags::SYN.union(TcpFlags::ACK);
    assert_eq!(answer(Algorithm::Cubic, setup), plain.union(TcpFlags::ECE));
    assert_eq!(answer(Algorithm::Cubic, TcpFlags::EMPTY), plain);
    for ace in [0b001, 0b010, 0b100, 0b101, 0b110, 0b111] {
        let flags = TcpFlags::EMPTY.with_ace(ace);
        assert_eq!(answer(Algorithm::Cubic, flags), plain.with_ace(0b010));
        assert_eq!(answer(Algorithm::Bbr, flags), plain);
    }
    assert_eq!(answer(Algorithm::Bbr, setup), plain);
}

/// RFC 3168 section 6.1.3.
#[test]
fn a_mark_is_echoed_on_every_acknowledgement_until_cwr() {
    let (mut talk, _) = Talk::open(Algorithm::Cubic, TcpFlags::ECE.union(TcpFlags::CWR));
    let none = TcpFlags::EMPTY;
    assert!(!talk.is_echoed(none, [Ecn::Ect0, Ecn::Ect0]));
    assert!(talk.is_echoed(none, [Ecn::Ce, Ecn::Ect0]));
    assert!(talk.is_echoed(none, [Ecn::Ect0, Ecn::Ect0]));
    assert!(!talk.is_echoed(TcpFlags::CWR, [Ecn::Ect0, Ecn::Ect0]));
    assert_eq!(talk.stack.counters().ecn_marks_received, 1);
}

#[test]
fn without_the_handshake_a_mark_is_not_echoed() {
    let (mut talk, _) = Talk::open(Algorithm::Cubic, TcpFlags::EMPTY);
    assert!(!talk.is_echoed(TcpFlags::EMPTY, [Ecn::Ce, Ecn::Ce]));
}
