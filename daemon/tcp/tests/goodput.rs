//! Goodput by controller, loss and round-trip time, in virtual time: the table is `goodput.txt` beside this file.
//!
//! The same numbers come out on every machine, so a change of a controller, of loss recovery or of pacing shows in the
//! diff of the table. `BLESS=1 cargo test -p sluice-tcp --test goodput` writes it anew; what must hold of every table is
//! asserted besides.
#![allow(clippy::cast_precision_loss)]

#[expect(dead_code, reason = "the tests of the controllers use more of it")]
#[path = "control/link.rs"]
mod link;
#[path = "control/receiver.rs"]
mod receiver;

use core::fmt::Write as _;
use core::time::Duration;
use std::fs;
use std::path::Path as FilePath;

use link::{Lab, Path, Setup};
use sluice_tcp::congestion::Algorithm;

/// Losses by chance, in millionths.
const LOSSES_PPM: [u32; 5] = [0, 1_000, 10_000, 30_000, 100_000];
const ROUND_TRIPS_MS: [u64; 4] = [1, 10, 50, 100];
/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
const LINK_MBIT: f64 = 100.0;
const TIME: Duration = Duration::from_secs(5);
const SEEDS: [u64; 2] = [1, 2];
/// Queue of a short path.
const BUFFER_MIN: u64 = 64 * 1_514;
/// Two seeds are no average: a row may be above the one with less loss by this.
const NOISE: f64 = 1.10;

type Cells = [[f64; ROUND_TRIPS_MS.len()]; LOSSES_PPM.len()];

/// Mbit/s of payload in the first seconds of a connection, slow start included.
fn goodput(algorithm: Algorithm, loss_ppm: u32, round_trip_ms: u64) -> f64 {
    let bytes: u64 = SEEDS
        .into_iter()
        .map(|seed| {
            let mut path = Path {
                rate: RATE,
                rtt: Duration::from_millis(round_trip_ms),
                loss_ppm,
                ..Path::USUAL
            };
            path.buffer = path.bdp().max(BUFFER_MIN);
            path.mark_above = (algorithm == Algorithm::Dctcp).then_some(path.buffer / 4);
            let setup = Setup {
                // xorshift needs seeds with many bits.
                seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ..Setup::new(algorithm, path)
            };
            Lab::new(setup, 1, Duration::ZERO).run(TIME)[0]
        })
        .sum();
    let seconds = TIME.as_secs_f64() * SEEDS.len() as f64;
    bytes as f64 * 8.0 / seconds / 1e6
}

fn cells(algorithm: Algorithm) -> Cells {
    LOSSES_PPM.map(|loss| ROUND_TRIPS_MS.map(|rtt| goodput(algorithm, loss, rtt)))
}

fn table(all: &[(Algorithm, Cells)]) -> String {
    let mut text = String::from(
        "Mbit/s of payload over a link of 100 Mbit/s in the first 5 s, by loss in percent and round trip in ms.\n",
    );
    for (algorithm, cells) in all {
        let _ = write!(text, "\n{:<8}", format!("{algorithm:?}"));
        for rtt in ROUND_TRIPS_MS {
            let _ = write!(text, "{rtt:>9}");
        }
        text.push('\n');
        for (loss, row) in LOSSES_PPM.iter().zip(cells) {
            let _ = write!(text, "{:>7}%", f64::from(*loss) / 1e4);
            for cell in row {
                let _ = write!(text, "{cell:>9.3}");
            }
            text.push('\n');
        }
    }
    text
}

#[test]
fn goodput_is_that_of_the_table() {
    let all: Vec<(Algorithm, Cells)> = Algorithm::ALL
        .into_iter()
        .map(|algorithm| (algorithm, cells(algorithm)))
        .collect();
    for (algorithm, cells) in &all {
        more_loss_is_never_faster(*algorithm, cells);
        nothing_is_faster_than_the_link(*algorithm, cells);
        a_clean_path_is_used(*algorithm, cells);
        a_lossy_path_is_slower_the_longer_it_is(*algorithm, cells);
    }
    random_loss_hurts_bbr_least(&all);
    let text = table(&all);
    let file = FilePath::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goodput.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, &text).expect("the tree is writable");
    }
    let golden = fs::read_to_string(file).expect("the table is beside this file");
    assert!(
        golden == text,
        "goodput.txt says\n{golden}\nand now it is\n{text}\nBLESS=1 writes it anew"
    );
}

fn more_loss_is_never_faster(algorithm: Algorithm, cells: &Cells) {
    for (less, more) in cells.iter().zip(&cells[1..]) {
        for (fast, slow) in less.iter().zip(more) {
            assert!(*slow <= fast * NOISE, "{algorithm:?}: {cells:.1?}");
        }
    }
}

fn nothing_is_faster_than_the_link(algorithm: Algorithm, cells: &Cells) {
    let fastest = cells.as_flattened().iter().copied().fold(0.0, f64::max);
    assert!(fastest < LINK_MBIT, "{algorithm:?}: {cells:.1?}");
}

/// The first seconds of the longest path are slow start, and what it overshoots.
fn a_clean_path_is_used(algorithm: Algorithm, cells: &Cells) {
    for (rtt, reached) in ROUND_TRIPS_MS.iter().zip(&cells[0]) {
        let least = if *rtt <= 10 { 0.9 } else { 0.6 };
        assert!(
            *reached >= least * LINK_MBIT,
            "{algorithm:?} over {rtt} ms: {reached}"
        );
    }
}

fn a_lossy_path_is_slower_the_longer_it_is(algorithm: Algorithm, cells: &Cells) {
    for row in &cells[2..] {
        for (short, long) in row.iter().zip(&row[1..]) {
            assert!(*long <= short * NOISE, "{algorithm:?}: {cells:.1?}");
        }
    }
}

fn random_loss_hurts_bbr_least(all: &[(Algorithm, Cells)]) {
    let of = |wanted| {
        let found = all.iter().find(|(algorithm, _)| *algorithm == wanted);
        found.expect("it is in the table").1
    };
    let (bbr, cubic) = (of(Algorithm::Bbr), of(Algorithm::Cubic));
    for (fast, slow) in bbr[2].iter().zip(&cubic[2]) {
        assert!(fast >= slow, "at 1 %: {:?} and {:?}", bbr[2], cubic[2]);
    }
}
