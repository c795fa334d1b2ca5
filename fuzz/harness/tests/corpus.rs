//! Replays the corpora of the fuzzer: every input that ever showed something new is a test.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sluice_fuzz::{TARGETS, Target};

/// A corpus is read at every test run: few files, and short ones.
const FILES_MAX: usize = 150;
const FILE_BYTES_MAX: u64 = 1024;

/// No input of a kilobyte may take this long, in a debug build on a busy machine.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(target.name)
}

fn inputs(target: &Target) -> Vec<PathBuf> {
    let folder = corpus(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry of a folder").path())
        .collect();
    paths.sort();
    paths
}

/// The message of a panic is on stderr already; what is missing is the input.
fn replay(target: &Target) {
    for path in inputs(target) {
        let input = fs::read(&path).expect("a file of the corpus");
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        assert!(
            result.is_ok(),
            "{} fails on {}",
            target.name,
            path.display()
        );
        let time = start.elapsed();
        assert!(time < INPUT_TIME_MAX, "{time:?} for {}", path.display());
    }
}

macro_rules! replays {
    ($($test:ident = $name:literal,)+) => {
        $(#[test]
        fn $test() {
            let target = TARGETS.iter().find(|target| target.name == $name);
            replay(target.expect("a target of that name"));
        })+

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),+]);
        }
    };
}

replays! {
    frames_are_parsed = "packet",
    option_fields_are_parsed = "tcp_options",
    request_heads_are_parsed = "http_head",
    chunked_bodies_are_decoded = "http_chunks",
    requests_are_answered = "http_answer",
    configurations_are_read = "config",
    stacks_keep_their_invariants = "stack",
    range_sets_agree_with_a_bitmap = "ranges",
    timer_wheels_agree_with_a_map = "wheel",
    flow_tables_agree_with_a_list = "flows",
}

#[test]
fn corpora_stay_small() {
    for target in TARGETS {
        let paths = inputs(target);
        assert!(
            (1..=FILES_MAX).contains(&paths.len()),
            "{}: {}",
            target.name,
            paths.len()
        );
        for path in paths {
            let len = fs::metadata(&path).expect("a file of the corpus").len();
            assert!(len <= FILE_BYTES_MAX, "{len} bytes in {}", path.display());
        }
    }
}

/// Random inputs of every length, so that a target that was never fuzzed here is at least tried.
#[test]
fn short_random_inputs_pass_every_target() {
    let seed = 0x5eed_0001_u64;
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for target in TARGETS {
        for len in 0..200 {
            let input: Vec<u8> = (0..len).map(|_| next().to_le_bytes()[0]).collect();
            let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            assert!(result.is_ok(), "{} fails on {input:?}", target.name);
        }
    }
}
