//! Buffers that follow the path, between two of our stacks on a link in virtual time ([`lab`]).
//!
//! Dynamic Right-Sizing (Fisk and Feng 2001); RFC 9293 section 3.8.6 (a window is never taken back); the budget of a
//! worker. What the ledgers and the right edges must never do is checked by the lab after every turn.
#![allow(clippy::cast_precision_loss)]

#[path = "autotune/lab.rs"]
mod lab;

use core::time::Duration;

use lab::{Direction, Lab, Setup};
use sluice_tcp::Autotune;
use sluice_tcp::congestion::Algorithm;

const SECOND: Duration = Duration::from_secs(1);
const ENDLESS: u64 = 1 << 50;
const MIB: u64 = 1 << 20;
const DIRECTIONS: [Direction; 2] = [Direction::Download, Direction::Upload];

/// Share of the link that one endless flow takes in the fourth second.
fn share_of_one(setup: Setup) -> f64 {
    let mut lab = Lab::new(setup);
    let flow = lab.open(ENDLESS);
    lab.run(3 * SECOND);
    let bytes = lab.run(SECOND)[0];
    let share = lab.utilisation(bytes, SECOND);
    println!(
        "{:?} {:?}: {share:.3} of the link, window {}, cwnd {}, lost {}",
        setup.algorithm,
        setup.direction,
        lab.window(flow),
        lab.cwnd(flow),
        lab.lost
    );
    share
}

fn jain(bytes: &[u64]) -> f64 {
    let shares: Vec<f64> = bytes.iter().map(|bytes| *bytes as f64).collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// 1 Gbit/s and 50 ms for flows that have to share `budget` on both sides.
fn crowded(direction: Direction, connections: u32, budget: u64) -> Setup {
    Setup {
        rate: 125_000_000,
        rtt: Duration::from_millis(50),
        queue: 100_000_000,
        mtu: 1_500,
        receive_buffer: 16 << 10,
        send_limit: 64 << 20,
        autotune: Some(Autotune {
            receive_max: 64 << 20,
            receive_budget: budget,
            send_budget: budget,
        }),
        connections,
        ..Setup::long_fat(Algorithm::Cubic, direction)
    }
}

#[test]
fn one_flow_fills_10_gbit_and_100_ms_in_both_roles() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        for direction in DIRECTIONS {
            let share = share_of_one(Setup::long_fat(algorithm, direction));
            assert!(share >= 0.90, "{algorithm:?} {direction:?}: {share}");
        }
    }
}

/// The round trip is then measured by the time in which a whole window arrives.
#[test]
fn a_peer_without_timestamps_fills_it_too() {
    for direction in DIRECTIONS {
        let share = share_of_one(Setup {
            timestamps: false,
            ..Setup::long_fat(Algorithm::Cubic, direction)
        });
        assert!(share >= 0.90, "{direction:?}: {share}");
    }
}

#[test]
fn fixed_buffers_fill_what_they_hold_and_no_more() {
    let share = share_of_one(Setup {
        autotune: None,
        receive_buffer: 4 << 20,
        ..Setup::long_fat(Algorithm::Cubic, Direction::Upload)
    });
    assert!((0.02..0.04).contains(&share), "4 MiB of 125 MB: {share}");
}

#[test]
fn a_small_budget_is_used_and_never_exceeded() {
    for direction in DIRECTIONS {
        for (receive_budget, send_budget) in [(8 * MIB, 1 << 30), (1 << 30, 8 * MIB)] {
            let setup = Setup {
                autotune: Some(Autotune {
                    receive_max: 1 << 30,
                    receive_budget,
                    send_budget,
                }),
                ..Setup::long_fat(Algorithm::Cubic, direction)
            };
            let share = share_of_one(setup);
            // Four fifths of 8 MiB in a path that holds 125 MB.
            assert!((0.045..0.06).contains(&share), "{direction:?}: {share}");
        }
    }
}

#[test]
fn a_thousand_flows_share_a_small_budget_and_none_starves() {
    for direction in DIRECTIONS {
        // A path that is wider than all windows together, and a slow start without HyStart++, which a thousand initial
        // windows at once would end: so that the buffers decide.
        let setup = Setup {
            algorithm: Algorithm::NewReno,
            rate: 1_250_000_000,
            rtt: Duration::from_millis(100),
            ..crowded(direction, 1_000, 16 * MIB)
        };
        let mut lab = Lab::new(setup);
        for _ in 0..1_000 {
            lab.open(ENDLESS);
        }
        lab.run(2 * SECOND);
        let bytes = lab.run(3 * SECOND);
        let least = bytes.iter().min().copied().unwrap_or(0);
        let mean = bytes.iter().sum::<u64>() / 1_000;
        let fair = jain(&bytes);
        let view = (lab.receiving().receive, lab.sending().send);
        println!("{direction:?}: least {least} of {mean}, Jain {fair:.3}, {view:?}");
        assert!(least >= mean / 4, "{direction:?}: {least} of {mean}");
        assert!(fair >= 0.95, "{direction:?}: {fair}");
        assert!(lab.promised_max <= 16 * MIB + 1_000 * (16 << 10));
    }
}

#[test]
fn a_newcomer_gets_its_share_of_what_another_has_taken() {
    for direction in DIRECTIONS {
        let mut lab = Lab::new(crowded(direction, 2, 4 * MIB));
        lab.open(ENDLESS);
        lab.run(3 * SECOND);
        lab.open(ENDLESS);
        lab.run(5 * SECOND);
        let bytes = lab.run(5 * SECOND);
        let fair = jain(&bytes);
        println!("{direction:?}: {bytes:?}");
        assert!(fair >= 0.95, "{direction:?}: {bytes:?} {fair}");
    }
}

#[test]
fn idle_flows_hold_nothing() {
    let mut lab = Lab::new(crowded(Direction::Upload, 1_000, 16 * MIB));
    for _ in 0..1_000 {
        lab.open(1_000);
    }
    lab.run(2 * SECOND);
    assert!((0..1_000).all(|flow| lab.delivered(flow) == 1_000));
    assert_eq!(lab.receiving().receive.used, 0);
    assert_eq!(lab.sending().send.used, 0);
}

#[test]
fn nothing_in_flight_holds_nothing_of_the_send_budget() {
    let mut lab = Lab::new(crowded(Direction::Download, 1, 16 * MIB));
    let flow = lab.open(20_000_000);
    lab.run(Duration::from_millis(400));
    assert!(lab.sending().send.used > 0);
    lab.run(2 * SECOND);
    assert_eq!(lab.delivered(flow), 20_000_000);
    assert_eq!(lab.sending().send.used, 0);
}

#[test]
fn the_last_byte_before_a_fin_gives_the_window_back() {
    for direction in DIRECTIONS {
        let mut lab = Lab::new(crowded(direction, 1, 16 * MIB));
        let flow = lab.open(20_000_000);
        lab.run(2 * SECOND);
        assert_eq!(lab.delivered(flow), 20_000_000);
        assert!(lab.receiving().receive.used > 0, "it is promised");
        lab.close(flow);
        lab.run(Duration::from_millis(200));
        assert!(lab.flows[flow].finished);
        assert_eq!(lab.receiving().receive.used, 0);
    }
}

/// RFC 9293 section 3.8.6: what was promised stays, so a window becomes smaller as it is used.
#[test]
fn a_flow_that_was_idle_gives_back_as_it_goes_on() {
    let mut lab = Lab::new(crowded(Direction::Upload, 1, 16 * MIB));
    let flow = lab.open(20_000_000);
    lab.run(2 * SECOND);
    let promised = lab.receiving().receive.used;
    assert!(promised > 500_000, "{promised}");
    let mut before = promised;
    for _ in 0..10 {
        lab.run(2 * SECOND);
        lab.extend(flow, 20_000);
        lab.run(Duration::from_millis(200));
        let used = lab.receiving().receive.used;
        assert!(used + 18_000 <= before, "{used} of {before}");
        before = used;
    }
}

#[test]
fn a_reader_that_stops_gets_no_larger_window_and_can_go_on() {
    let mut lab = Lab::new(crowded(Direction::Upload, 1, 16 * MIB));
    let flow = lab.open(ENDLESS);
    lab.run(Duration::from_millis(500));
    lab.flows[flow].reads = false;
    lab.run(SECOND);
    let (held, edge) = (lab.receiving().receive.used, lab.flows[flow].edge);
    assert_eq!(lab.delivered(flow), edge, "all of it is used");
    lab.run(5 * SECOND);
    assert_eq!(lab.receiving().receive.used, held);
    assert_eq!(lab.flows[flow].edge, edge);
    lab.flows[flow].reads = true;
    lab.resume(flow);
    let bytes = lab.run(4 * SECOND)[0];
    assert!(bytes > 100_000_000, "{bytes}");
}

#[test]
fn random_loss_leaves_the_ledgers_exact() {
    for seed in 1..=20 {
        let setup = Setup {
            loss_ppm: 2_000,
            queue: 2_000_000,
            seed,
            ..crowded(DIRECTIONS[usize::from(seed % 2 == 0)], 32, 2 * MIB)
        };
        let mut lab = Lab::new(setup);
        for flow in 0..32_u64 {
            lab.open(flow * flow * 20_000);
        }
        lab.run(2 * SECOND);
        for flow in 0..32 {
            lab.close(flow);
        }
        lab.run(300 * SECOND);
        for flow in 0..32_u64 {
            let index = usize::try_from(flow).expect("small");
            assert_eq!(lab.delivered(index), flow * flow * 20_000, "seed {seed}");
        }
        for view in [lab.sending(), lab.receiving()] {
            assert_eq!((view.receive.used, view.send.used), (0, 0), "seed {seed}");
        }
    }
}

/// Longer than an idle connection waits before it rests: what a receiver has measured outlives the pauses of slow start.
#[test]
fn a_window_grows_over_round_trips_longer_than_a_rest() {
    for rtt in [250, 400, 600] {
        let mut lab = Lab::new(Setup {
            rate: 12_500_000,
            rtt: Duration::from_millis(rtt),
            mtu: 1_500,
            ..Setup::long_fat(Algorithm::Cubic, Direction::Upload)
        });
        lab.open(ENDLESS);
        lab.run(Duration::from_millis(rtt * 14));
        let bytes = lab.run(SECOND)[0];
        let share = lab.utilisation(bytes, SECOND);
        assert!(share >= 0.90, "{rtt} ms: {share}");
    }
}

#[test]
fn a_connection_whose_window_grew_rests_and_keeps_what_it_promised() {
    for direction in DIRECTIONS {
        let setup = Setup {
            rate: 12_500_000,
            ..Setup::long_fat(Algorithm::Cubic, direction)
        };
        let mut lab = Lab::new(setup);
        let flow = lab.open(20 * MIB);
        lab.run(10 * SECOND);
        assert_eq!(lab.delivered(flow), 20 * MIB);
        assert_eq!(lab.awake(), 0);
        let window = lab.window(flow);
        assert!(window > MIB, "{window}");
        // A window field is rounded up to its unit.
        let held = lab.receiving().receive.used + u64::from(setup.receive_buffer);
        assert!(held.abs_diff(window) <= 1 << 14, "{held} for {window}");
        lab.extend(flow, 20 * MIB);
        lab.run(10 * SECOND);
        assert_eq!(lab.delivered(flow), 40 * MIB);
        assert_eq!(lab.awake(), 0);
        lab.close(flow);
        lab.run(SECOND);
        assert_eq!(lab.receiving().receive.used, 0);
    }
}

#[test]
fn a_connection_that_rests_holds_no_more_than_it_promised() {
    // What was read after the last acknowledgement opened the window for nobody.
    let setup = Setup {
        rate: 12_500_000,
        ..Setup::long_fat(Algorithm::Cubic, Direction::Upload)
    };
    let mut lab = Lab::new(setup);
    let flow = lab.open(20 * MIB);
    while lab.delivered(flow) < 20 * MIB {
        lab.run(Duration::from_millis(50));
    }
    lab.flows[flow].reads = false;
    lab.extend(flow, MIB / 8);
    lab.run(Duration::from_millis(400));
    lab.flows[flow].reads = true;
    lab.resume(flow);
    assert_eq!(lab.flows[flow].consumed, 20 * MIB + MIB / 8);
    let promised = lab.window(flow) - u64::from(setup.receive_buffer);
    let held = lab.receiving().receive.used;
    assert!(held > promised + MIB / 16, "{held} for {promised}");
    lab.run(10 * SECOND);
    assert_eq!(lab.awake(), 0);
    let held = lab.receiving().receive.used;
    assert!(held.abs_diff(promised) <= 1 << 14, "{held} for {promised}");
}
