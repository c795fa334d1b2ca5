//! Goodput over random loss and round-trip time in virtual time.
#![allow(clippy::cast_precision_loss)]

#[path = "control/link.rs"]
#[allow(dead_code)]
mod link;
#[path = "control/receiver.rs"]
mod receiver;

use core::time::Duration;

use link::{Lab, Path, Setup};
use sluice_tcp::congestion::Algorithm;

fn path(rtt_ms: u64, loss_ppm: u32) -> Path {
    let bdp = 12_500 * rtt_ms;
    Path {
        rtt: Duration::from_millis(rtt_ms),
        buffer: bdp.max(65_536),
        loss_ppm,
        ..Path::USUAL
    }
}

#[test]
#[ignore = "prints a table"]
fn table() {
    let seeds: u64 = std::env::var("SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(10);
    let secs: u64 = std::env::var("SECS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(10);
    let algs: Vec<Algorithm> = match std::env::var("ALG").as_deref() {
        Ok("bbr") => vec![Algorithm::Bbr],
        Ok("cubic") => vec![Algorithm::Cubic],
        _ => vec![Algorithm::Cubic, Algorithm::Bbr],
    };
    for algorithm in algs {
        for rtt_ms in [1, 20, 80] {
            for loss_ppm in [0, 1_000, 10_000, 30_000] {
                let mut rates = Vec::new();
                let (mut rto, mut tlp, mut undo, mut fast, mut rtx, mut lost, mut over) =
                    (0, 0, 0, 0, 0, 0, 0);
                for seed in 1..=seeds {
                    let late = std::env::var("LATE_US")
                        .ok()
                        .and_then(|s| s.parse().ok())
                        .unwrap_or(60);
                    let setup = Setup {
                        late: Duration::from_micros(late),
                        seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                        ..Setup::new(algorithm, path(rtt_ms, loss_ppm))
                    };
                    let mut lab = Lab::new(setup, 1, Duration::ZERO);
                    let bytes = lab.run(Duration::from_secs(secs))[0];
                    rates.push(bytes as f64 * 8.0 / 1e6 / secs as f64);
                    let c = lab.stack.counters();
                    rto += c.timeouts;
                    tlp += c.tail_probes;
                    undo += c.spurious_undone;
                    fast += c.fast_recoveries;
                    rtx += c.retransmitted_fast
                        + c.retransmitted_rack
                        + c.retransmitted_timeout
                        + c.retransmitted_tlp;
                    lost += lab.queue.lost;
                    over += lab.queue.dropped;
                }
                rates.sort_by(f64::total_cmp);
                let mean = rates.iter().sum::<f64>() / rates.len() as f64;
                println!(
                    "{algorithm:?} {rtt_ms:3} ms {:4.1} %: mean {mean:6.2} ({:6.2}..{:6.2})  per run: rto {} tlp {} undo {} fast {} rtx {} lost {} over {}",
                    f64::from(loss_ppm) / 1e4,
                    rates[0],
                    rates[rates.len() - 1],
                    rto as f64 / seeds as f64,
                    tlp as f64 / seeds as f64,
                    undo as f64 / seeds as f64,
                    fast / seeds,
                    rtx / seeds,
                    lost / seeds,
                    over / seeds
                );
            }
        }
    }
}

#[test]
#[ignore = "prints a trace"]
fn trace() {
    let var = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(default)
    };
    let algorithm = if std::env::var("ALG").as_deref() == Ok("bbr") {
        Algorithm::Bbr
    } else {
        Algorithm::Cubic
    };
    let setup = Setup {
        late: Duration::from_micros(var("LATE_US", 60)),
        seed: var("SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..Setup::new(algorithm, path(var("RTT", 80), var("LOSS", 0) as u32))
    };
    let mut lab = Lab::new(setup, 1, Duration::ZERO);
    let step = Duration::from_micros(var("STEP_US", 80_000));
    lab.run(Duration::from_micros(var("RTT", 80) * 1_100));
    for i in 0..var("STEPS", 60) {
        lab.forget_queue();
        let bytes = lab.run(step)[0];
        let view = lab.view(0);
        let c = lab.stack.counters();
        println!(
            "{:6.2}s cwnd {:6} ssthresh {:10} inflight {:6} srtt {:6.1} pace {:7.2} rate {:6.2} dropped {} lost {} qmax {} fast {} rtx {}+{} rto {} tlp {} undo {}",
            (i as f64 + 1.0) * step.as_secs_f64(),
            view.cwnd / 1448,
            view.ssthresh / 1448,
            view.in_flight / 1448,
            view.srtt.map_or(0.0, |s| s.as_secs_f64() * 1e3),
            view.pacing_rate as f64 * 8e-6,
            bytes as f64 * 8e-6 / step.as_secs_f64(),
            lab.queue.dropped,
            lab.queue.lost,
            lab.queue.backlog_max,
            c.fast_recoveries,
            c.retransmitted_fast,
            c.retransmitted_rack,
            c.timeouts,
            c.tail_probes,
            c.spurious_undone
        );
    }
}
