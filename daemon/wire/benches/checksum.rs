//! Bytes per second of the checksum, per length: `cargo bench -p sluice-wire`.
//!
//! Plain timing without a framework, the best of several rounds, because the question is what the code can
//! do and not what the machine was doing. `copy` is `copy_from_slice`, the floor of `copy and sum`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sluice_wire::checksum::{copy_and_sum, sum};

/// A header, a full segment, a jumbo segment, a super-segment and a file block (all within a second-level cache).
const LENGTHS: [usize; 5] = [60, 1448, 8948, 57_920, 65_536];
const ROUNDS: usize = 20;
const BYTES_PER_ROUND: usize = 64 << 20;

fn main() {
    println!(
        "{:>8} {:>12} {:>14} {:>12}  GB/s",
        "bytes", "sum", "copy and sum", "copy"
    );
    for len in LENGTHS {
        let src: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        let mut dst = vec![0; len];
        let summed = rate(len, || {
            black_box(sum(black_box(&src)));
        });
        let fused = rate(len, || {
            black_box(copy_and_sum(black_box(&mut dst), black_box(&src)));
        });
        let copied = rate(len, || black_box(&mut dst).copy_from_slice(black_box(&src)));
        println!("{len:>8} {summed:>12.1} {fused:>14.1} {copied:>12.1}");
    }
}

/// Bytes per nanosecond of the best round.
fn rate(len: usize, mut work: impl FnMut()) -> f64 {
    let calls = BYTES_PER_ROUND / len;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..calls {
            work();
        }
        best = best.min(start.elapsed());
    }
    let bytes = u32::try_from(calls * len).map_or(f64::INFINITY, f64::from);
    bytes / best.as_secs_f64() / 1e9
}
