//! Random numbers of a seed: SplitMix64 (Steele, Lea, Flood 2014), the same on every platform.

use core::ops::Range;
use core::time::Duration;

/// One part in this many.
pub const PARTS: u32 = 1_000_000;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A stream of its own, so that what one part of the world draws does not change what another does.
    pub fn fork(&mut self) -> Chance {
        Chance(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).expect("32 bits are left")
    }

    /// A number of a range that is not empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True in `parts` of a million cases.
    pub fn hit(&mut self, parts: u32) -> bool {
        parts > 0 && self.word() % PARTS < parts
    }

    pub fn duration(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).expect("a short time");
        Duration::from_nanos(self.range(0..nanos + 1))
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = u64::try_from(choices.len()).expect("a short list");
        let index = usize::try_from(self.range(0..count)).expect("below the length");
        choices[index]
    }
}
