//! The policy over a ring that is only a number.

use proptest::prelude::*;

use super::*;

/// A fill ring and the kernel that takes from it.
struct Kernel {
    depth: FillDepth,
    ring: u32,
    waiting: u32,
}

impl Kernel {
    /// In copy mode, from a pool that is never short.
    fn copying(ring: u32) -> Self {
        Self::with(FillDepth::full(ring).adapting(), ring)
    }

    fn with(depth: FillDepth, ring: u32) -> Self {
        let mut kernel = Self {
            depth,
            ring,
            waiting: 0,
        };
        kernel.refill(u32::MAX);
        kernel
    }

    /// Refills from a pool of `spare` frames. Returns how many it gave.
    fn refill(&mut self, spare: u32) -> u32 {
        let free = self.ring - self.waiting;
        let wanted = self.depth.wanted(free);
        assert!(wanted <= free);
        let added = wanted.min(spare);
        self.depth.refilled(added);
        self.waiting += added;
        added
    }

    /// Packets of one frame each between two refills. Returns how many found none.
    fn burst(&mut self, frames: u32) -> u32 {
        let taken = frames.min(self.waiting);
        self.waiting -= taken;
        self.refill(u32::MAX);
        frames - taken
    }

    /// At least `total` frames, `each` at a time.
    fn stream(&mut self, total: u32, each: u32) {
        for _ in 0..total.div_ceil(each) {
            assert_eq!(self.burst(each), 0);
        }
    }
}

#[test]
fn a_large_ring_begins_with_512_and_a_small_one_full() {
    for (ring, first) in [
        (32, 32),
        (512, 512),
        (1024, 512),
        (2048, 512),
        (65_536, 512),
    ] {
        let kernel = Kernel::copying(ring);
        assert_eq!((kernel.depth.get(), kernel.waiting), (first, first));
    }
}

#[test]
fn in_zero_copy_mode_the_whole_ring_waits_whatever_comes() {
    let mut kernel = Kernel::with(FillDepth::full(2048), 2048);
    for burst in [1, 2048, 1500, 0] {
        kernel.burst(burst);
        assert_eq!((kernel.depth.get(), kernel.waiting), (2048, 2048));
    }
    kernel.stream(4 * PATIENCE, 8);
    assert_eq!((kernel.depth.get(), kernel.waiting), (2048, 2048));
}

#[test]
fn more_than_half_of_the_depth_between_two_refills_doubles_it() {
    let mut kernel = Kernel::copying(4096);
    for (burst, depth) in [
        (256, 512),
        (257, 1024),
        (512, 1024),
        (513, 2048),
        (1024, 2048),
        (2000, 4096),
    ] {
        assert_eq!(kernel.burst(burst), 0);
        assert_eq!((kernel.depth.get(), kernel.waiting), (depth, depth));
    }
}

#[test]
fn a_ring_that_ran_dry_is_filled_whole() {
    let mut kernel = Kernel::copying(2048);
    assert_eq!(kernel.burst(2048), 1536);
    assert_eq!(kernel.waiting, 2048);
    assert_eq!(kernel.burst(2048), 0);
}

#[test]
fn a_ring_with_less_than_a_long_packet_needs_is_dry() {
    let mut kernel = Kernel::copying(2048);
    assert_eq!(kernel.burst(512 - 18), 0);
    assert_eq!(kernel.depth.get(), 1024);
    let mut kernel = Kernel::copying(2048);
    assert_eq!(kernel.burst(512 - 17), 0);
    assert_eq!(kernel.depth.get(), 2048);
}

#[test]
fn the_depth_never_exceeds_the_ring() {
    for ring in [32, 512, 1024] {
        let mut kernel = Kernel::copying(ring);
        for _ in 0..10 {
            kernel.burst(ring);
            assert_eq!((kernel.depth.get(), kernel.waiting), (ring, ring));
        }
    }
}

#[test]
fn many_frames_that_come_few_at_a_time_halve_the_depth() {
    let mut kernel = Kernel::copying(2048);
    kernel.burst(2048);
    kernel.stream(PATIENCE - 64, 64);
    assert_eq!(kernel.depth.get(), 2048);
    kernel.stream(64, 64);
    assert_eq!(kernel.depth.get(), 1024);
    kernel.stream(PATIENCE, 64);
    assert_eq!(kernel.depth.get(), 512);
    kernel.stream(4 * PATIENCE, 64);
    assert_eq!((kernel.depth.get(), kernel.waiting), (512, 512));
}

#[test]
fn more_than_a_quarter_at_a_time_keeps_the_depth() {
    let mut kernel = Kernel::copying(1024);
    kernel.burst(1024);
    for _ in 0..4 {
        kernel.stream(PATIENCE - 64, 64);
        kernel.stream(257, 257);
    }
    assert_eq!(kernel.depth.get(), 1024);
    // Half of what would be left is no burst there either.
    kernel.stream(PATIENCE, 256);
    assert_eq!(kernel.depth.get(), 512);
    kernel.stream(PATIENCE, 256);
    assert_eq!(kernel.depth.get(), 512);
}

#[test]
fn turns_without_packets_change_nothing() {
    let mut kernel = Kernel::copying(2048);
    kernel.burst(2048);
    kernel.stream(PATIENCE - 64, 64);
    for _ in 0..PATIENCE {
        kernel.burst(0);
    }
    assert_eq!(kernel.depth.get(), 2048);
}

#[test]
fn each_halving_that_proves_wrong_doubles_the_patience_within_a_bound() {
    let mut kernel = Kernel::copying(1024);
    kernel.burst(300);
    let mut patience = PATIENCE;
    for _ in 0..10 {
        kernel.stream(patience - 128, 128);
        assert_eq!(kernel.depth.get(), 1024);
        kernel.stream(128, 128);
        assert_eq!(kernel.depth.get(), 512);
        kernel.stream(300, 300);
        patience = (2 * patience).min(PATIENCE_MAX);
    }
    assert_eq!(patience, PATIENCE_MAX);
}

#[test]
fn what_waited_before_the_depth_was_lowered_is_taken_and_not_replaced() {
    let mut kernel = Kernel::with(FillDepth::full(2048), 2048);
    kernel.depth = kernel.depth.adapting();
    for waiting in [1848, 1648, 1448] {
        assert_eq!(kernel.burst(200), 0);
        assert_eq!(kernel.waiting, waiting);
    }
    kernel.stream(1000, 100);
    assert_eq!((kernel.depth.get(), kernel.waiting), (512, 512));
}

#[test]
fn a_pool_that_others_have_emptied_is_no_burst() {
    let mut kernel = Kernel::copying(2048);
    kernel.waiting -= 200;
    // Two hundred were kept by the receiver, and so are all that come.
    assert_eq!(kernel.refill(0), 0);
    while kernel.waiting > 0 {
        kernel.waiting -= 4;
        assert_eq!(kernel.refill(0), 0);
    }
    assert_eq!(kernel.depth.get(), 512);
    assert_eq!(kernel.refill(40), 40);
    kernel.waiting = 0;
    assert_eq!(kernel.refill(u32::MAX), 512);
    assert_eq!(kernel.depth.get(), 512);
}

#[test]
fn a_pool_that_others_have_emptied_is_no_calm() {
    let mut kernel = Kernel::copying(2048);
    kernel.burst(2048);
    kernel.waiting = 0;
    kernel.refill(100);
    for _ in 0..2 * PATIENCE / 100 {
        // All that waited; of a thousand packets just as of a hundred.
        kernel.waiting = 0;
        kernel.refill(100);
    }
    assert_eq!(kernel.depth.get(), 2048);
}

proptest! {
    #[test]
    fn the_depth_stays_in_bounds_and_what_was_lost_once_is_not_lost_again(
        ring in (5..13_u32).prop_map(|log| 1 << log),
        bursts in prop::collection::vec((0..5000_u32, 1..2000_u32, any::<bool>()), 1..100),
    ) {
        let mut kernel = Kernel::copying(ring);
        let least = ring.min(LEAST);
        for (frames, repeats, is_calm) in bursts {
            // Long quiet passages between bursts, so that all depths occur.
            let (frames, repeats) = match is_calm {
                true => (frames % 200, repeats),
                false => (frames, 1),
            };
            for _ in 0..repeats {
                let before = kernel.depth.get();
                let lost = kernel.burst(frames);
                let depth = kernel.depth.get();
                prop_assert!(depth.is_power_of_two() && (least..=ring).contains(&depth));
                prop_assert!(kernel.waiting >= depth && kernel.waiting <= ring);
                prop_assert!(depth >= before / 2);
                if lost > 0 {
                    prop_assert_eq!(kernel.burst(frames), frames.saturating_sub(ring));
                }
            }
        }
    }

    /// Against a model that keeps all it saw and reads the rule off that.
    #[test]
    fn the_depth_falls_only_after_many_frames_of_which_few_came_at_a_time(
        passages in prop::collection::vec((0..700_u32, 1..8_u32), 1..60),
    ) {
        let mut kernel = Kernel::copying(2048);
        let mut taken: Vec<u32> = Vec::new();
        for (each, lengths) in passages {
            for _ in 0..lengths * PATIENCE / 3 / each.max(64) {
                let (before, waiting) = (kernel.depth.get(), kernel.waiting);
                kernel.burst(each);
                taken.push(each.min(waiting));
                let depth = kernel.depth.get();
                if depth == before {
                    continue;
                }
                if depth < before {
                    let is_few = |frames: &&u32| **frames <= before / 4;
                    let calm: u32 = taken.iter().rev().take_while(is_few).sum();
                    prop_assert!(calm >= PATIENCE, "{} frames", calm);
                }
                taken.clear();
            }
        }
    }
}
