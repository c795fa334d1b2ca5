//! The shortest round trip of the last minutes (RFC 8985 section 6.2, step 1: "recently").
//!
//! A path can get longer for good: a route changes, a phone moves. Then the shortest round trip ever is that of a path
//! which is gone, and whatever is measured by it, the reordering window first of all, is too short. Two buckets of half
//! a window, as in the bandwidth filter of BBR: a minimum is forgotten between a half and a whole window after it
//! was seen last, which is as exact as anybody needs it. Buckets begin at fixed times of the clock, so that both and the
//! number of the current one are all that survives a rest, however often the connection rests.

use crate::clock::Instant;

/// Half of the window, in seconds. Linux: tcp_min_rtt_wlen, 300 s.
const BUCKET_S: u64 = 150;

/// Nothing was seen.
pub(super) const NONE: u64 = u64::MAX;

/// Round trips in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WindowedMin {
    previous_ns: u64,
    current_ns: u64,
    /// The current bucket, counted from the begin of the clock.
    bucket: u32,
}

impl WindowedMin {
    pub(super) const fn new() -> Self {
        WindowedMin {
            previous_ns: NONE,
            current_ns: NONE,
            bucket: 0,
        }
    }

    /// Previous and current bucket, and the number of the current one.
    pub(super) fn packed(&self) -> (u64, u64, u32) {
        (self.previous_ns, self.current_ns, self.bucket)
    }

    pub(super) const fn unpacked(previous_ns: u64, current_ns: u64, bucket: u32) -> Self {
        WindowedMin {
            previous_ns,
            current_ns,
            bucket,
        }
    }

    /// [`NONE`] before the first sample. What is old is forgotten only for something newer.
    pub(super) fn get(&self) -> u64 {
        self.previous_ns.min(self.current_ns)
    }

    pub(super) fn observe(&mut self, now: Instant, rtt_ns: u64) {
        let seconds = now.as_millis() / 1_000;
        let bucket = u32::try_from(seconds / BUCKET_S).unwrap_or(u32::MAX);
        let passed = bucket.saturating_sub(self.bucket);
        if passed > 0 {
            self.previous_ns = if passed == 1 { self.current_ns } else { NONE };
            self.current_ns = NONE;
            self.bucket = bucket;
        }
        self.current_ns = self.current_ns.min(rtt_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// The minimum after samples of so many nanoseconds at so many seconds.
    fn after(samples: &[(u64, u64)]) -> u64 {
        let mut min = WindowedMin::new();
        for (seconds, rtt_ns) in samples {
            min.observe(at(6 * BUCKET_S + seconds), *rtt_ns);
        }
        min.get()
    }

    #[test]
    fn the_smallest_counts_for_half_of_the_window_at_least() {
        assert_eq!(after(&[(0, 10), (1, 30), (149, 20)]), 10);
        assert_eq!(after(&[(149, 10), (150, 30), (299, 20)]), 10);
    }

    #[test]
    fn a_path_that_got_longer_is_believed_after_the_window() {
        let longer: Vec<(u64, u64)> = (1..=300).map(|second| (second, 50)).collect();
        let mut samples = vec![(0, 10)];
        samples.extend(&longer[..298]);
        assert_eq!(after(&samples), 10);
        samples.extend(&longer[298..]);
        assert_eq!(after(&samples), 50);
    }

    #[test]
    fn after_a_long_silence_the_next_sample_is_all_there_is() {
        assert_eq!(after(&[(0, 10), (299, 30)]), 10);
        assert_eq!(after(&[(0, 10), (300, 30)]), 30);
    }

    #[test]
    fn nothing_is_forgotten_by_silence_alone() {
        assert_eq!(after(&[(0, 10)]), 10);
        assert_eq!(after(&[]), NONE);
    }
}
