//! A path that reorders and loses nothing costs a file no time, in virtual time: the segments that are late come within
//! a quarter of the round trip (RFC 8985 section 6.2).
//!
//! Three SACKed segments prove a loss while no reordering was seen, so the first late one begins a recovery. What
//! counts is that its reduction is taken back: in slow start it would leave a window of a few segments, and with it a
//! third of the rate for the seconds that a window needs to grow by a segment a round trip.
#![allow(clippy::cast_precision_loss)]

#[path = "control/link.rs"]
#[allow(dead_code)]
mod link;
#[path = "control/receiver.rs"]
mod receiver;

use core::time::Duration;

use link::{Lab, Path, Setup};
use sluice_tcp::congestion::Algorithm;

const FILE: u64 = 4 << 20;
const SEEDS: u64 = 16;
/// 4 MiB take 0.46 s without reordering, slow start included.
const PATIENCE_MS: u32 = 60_000;

/// Segments that take longer, in millionths, and by how many milliseconds.
const LATE: [(u32, u64); 2] = [(100_000, 2), (10_000, 3)];

fn setup(algorithm: Algorithm, (late_ppm, late_ms): (u32, u64)) -> Setup {
    let path = Path {
        late_ppm,
        late_by: Duration::from_millis(late_ms),
        ..Path::USUAL
    };
    Setup {
        ecn: false,
        timestamps: true,
        ..Setup::new(algorithm, path)
    }
}

/// Mbit/s of payload until the file has arrived, and recoveries that were taken back.
fn rate(setup: Setup) -> (f64, u64) {
    let mut lab = Lab::new(setup, 1, Duration::ZERO);
    let mut millis = 0u32;
    while lab.received(0) < FILE {
        let _ = lab.run(Duration::from_millis(1));
        millis += 1;
        assert!(millis < PATIENCE_MS, "{:?}", lab.view(0));
    }
    let undone = lab.stack().counters().spurious_undone;
    (FILE as f64 * 8.0 / 1e3 / f64::from(millis), undone)
}

/// At least this share of the rate without reordering is reached by each controller with each seed. `change` is made to
/// each setup.
fn reordering_leaves(share: f64, change: impl Fn(&mut Setup)) {
    for algorithm in Algorithm::ALL {
        let mut clean = setup(algorithm, (0, 0));
        change(&mut clean);
        let (without, undone) = rate(clean);
        assert_eq!(undone, 0, "{algorithm:?} without reordering");
        for late in LATE {
            let mut undone_of_all = 0;
            for seed in 1..=SEEDS {
                let mut setup = setup(algorithm, late);
                change(&mut setup);
                // xorshift needs seeds with many bits.
                setup.seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let (with, undone) = rate(setup);
                let case = format!("{algorithm:?}, {late:?}, seed {seed}");
                println!("{case}: {with:.1} of {without:.1} Mbit/s, {undone} taken back");
                assert!(with >= share * without, "{case}: {with} < {without}");
                undone_of_all += undone;
            }
            assert!(
                undone_of_all > 0,
                "{algorithm:?}, {late:?}: it was never put to the test"
            );
        }
    }
}

/// The pacer holds the first repetition back for so long that the late segment comes before it.
#[test]
fn late_segments_cost_a_paced_file_no_time() {
    reordering_leaves(0.9, |_| {});
}

/// The repetition leaves at once, and what comes tells by its echo that it was needless (RFC 3522). Slow start takes longer,
/// as duplicates bring it nothing and the acknowledgement behind them no more than two segments (RFC 3465 section 2.2).
#[test]
fn late_segments_cost_a_file_without_pacing_no_time() {
    reordering_leaves(0.8, |setup| setup.pacing = false);
}
