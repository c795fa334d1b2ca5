//! Congestion control on a bottleneck in virtual time: what each controller makes of a path.
//!
//! [`link`] is the path, [`receiver`] its far end. Every test is deterministic: the same seed gives the same
//! run to the nanosecond. Shares of the link count payload with its headers.
#![allow(clippy::cast_precision_loss)]

#[path = "control/link.rs"]
mod link;
#[path = "control/receiver.rs"]
mod receiver;

use core::time::Duration;

use link::{Lab, MSS, Path, Setup};
use sluice_tcp::congestion::Algorithm;
use sluice_wire::TcpFlags;

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

#[test]
fn trace() {
    let alg = match std::env::var("ALG").as_deref() {
        Ok("reno") => Algorithm::NewReno,
        Ok("bbr") => Algorithm::Bbr,
        Ok("dctcp") => Algorithm::Dctcp,
        _ => Algorithm::Cubic,
    };
    let loss = std::env::var("LOSS")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let step: u64 = std::env::var("STEP")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(50);
    let mut lab = lab(
        alg,
        Path {
            loss_ppm: loss,
            ..Path::USUAL
        },
    );
    for i in 0..60 {
        let b = lab.run(Duration::from_millis(step))[0];
        let v = lab.view(0);
        let c = lab.stack.counters();
        println!(
            "{:5} ms {:.2} cwnd {} ssthresh {} flight {} srtt {:?} rate {} q {} drops {} lost {} rtx {} rto {} fr {} mean q {}",
            (i + 1) * step,
            lab.utilisation(b, Duration::from_millis(step)),
            v.cwnd / 1448,
            v.ssthresh / 1448,
            v.in_flight / 1448,
            v.srtt,
            v.pacing_rate,
            v.quantum,
            lab.queue.dropped,
            lab.queue.lost,
            c.retransmitted_fast + c.retransmitted_timeout,
            c.timeouts,
            c.fast_recoveries,
            lab.queue.mean_backlog()
        );
        lab.forget_queue();
    }
}
#[test]
fn lossy() {
    for seed in 1..5 {
        let mut s = Setup::new(
            Algorithm::Bbr,
            Path {
                loss_ppm: 10_000,
                ..Path::USUAL
            },
        );
        s.seed = seed * 7919;
        s.rto_min = Duration::from_millis(
            std::env::var("RTO")
                .ok()
                .and_then(|v| v.parse().ok())
                .unwrap_or(200),
        );
        let mut lab = Lab::new(s, 1, Duration::ZERO);
        let share = steady_share(&mut lab);
        println!(
            "share {share:.3} rto {} mean q {}",
            lab.stack.counters().timeouts,
            lab.queue.mean_backlog()
        );
    }
}
