//! Pacing: when the next segment of a connection may leave, so that a window is spread over a round trip
//! instead of hitting the bottleneck as one burst.
//!
//! A generic cell rate algorithm: `cleared_at` is the time at which everything sent so far would have left
//! at exactly the pacing rate, and a segment may leave while it is at most one *quantum* ahead of that. So
//! any burst is at most a quantum, and what a stall (a late timer, a stopped process) left unsent is made
//! good by at most a quantum as well, never by all that the rate would have allowed meanwhile. Once the
//! quantum is used up, half of it has to be earned before anything leaves again: the timer is armed once per
//! half quantum and not once per segment, and the other half is the slack for a timer that comes late.
//!
//! The rate comes from congestion control and the clock from the caller. The time of a segment is computed once for
//! all of one length that leave at one rate; 56 bytes of state.

use core::time::Duration;

use crate::clock::Instant;

/// A quantum is this much time at the pacing rate, as far as its bounds allow (draft-ietf-ccwg-bbr, Send
/// Quantum: 1 ms).
const QUANTUM_TIME: Duration = Duration::from_millis(1);
/// But never less than this much, whatever its upper bound: half of it is the slack for late timers, and a
/// worker that sleeps in poll(2) wakes up some 60 us late (timer slack 50 us). With less, a fast flow could
/// not keep its rate.
const QUANTUM_TIME_MIN: Duration = Duration::from_micros(250);
/// Segments of a quantum at least, or nothing could ever be acknowledged in pairs (same section).
const QUANTUM_SEGMENTS_MIN: u32 = 2;

/// Frames of a quantum at most where no super-segments are made.
const FRAMES_OF_QUANTUM: u32 = 16;

/// Pacing of all connections of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacingConfig {
    /// Upper bound of a burst in bytes: what the transmit lane makes one unit of work. 64 KiB is one
    /// super-segment of the TSO lane, and the bound that draft-ietf-ccwg-bbr gives for any sender.
    pub quantum_max: u32,
    /// Connections whose shortest round trip is below this are not paced. On such a path (a veth, the same
    /// rack) a whole window leaves within less than the time by which a sleeping loop wakes up late (50 us of
    /// timer slack and the wake-up itself), so a pacer would add idle gaps instead of removing bursts. The
    /// shortest round trip counts and not the smoothed one: a queue that the flow built itself does not make
    /// timers better.
    pub unpaced_below: Duration,
}

impl Default for PacingConfig {
    fn default() -> Self {
        PacingConfig {
            quantum_max: 64 << 10,
            unpaced_below: Duration::from_micros(200),
        }
    }
}

impl PacingConfig {
    /// For a lane that sends frame by frame: bursts of 16 packets of `packet` bytes, 64 KiB at most. Such a lane has no
    /// unit of work that a longer burst would fill, and every queue on the path sees all of it. 16 are more than the
    /// ten of an initial window (RFC 6928), and what fast flows need to keep their rate is above this bound anyway.
    #[must_use]
    pub fn of_frames(packet: u16) -> PacingConfig {
        let pacing = PacingConfig::default();
        PacingConfig {
            quantum_max: (u32::from(packet) * FRAMES_OF_QUANTUM).min(pacing.quantum_max),
            ..pacing
        }
    }

    /// Whether a path is too short to be paced. A shortest round trip far below the smoothed one is a measuring
    /// error, not a path.
    pub(crate) fn is_too_short(&self, min_rtt: Duration, srtt: Duration) -> bool {
        min_rtt < self.unpaced_below && srtt < self.unpaced_below * 32
    }
}

/// Pacing state of one connection. Without a rate everything passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    /// Bytes per second; 0: not paced.
    rate: u64,
    /// Longest burst in bytes, and what was asked for beside the rate.
    quantum: u32,
    burst: u32,
    /// The same in time at `rate`.
    quantum_ns: u64,
    cleared_at: Instant,
    /// The quantum was used up: nothing leaves before this.
    held_until: Instant,
    /// Bytes that still leave without pacing: an initial window.
    unpaced_bytes: u32,
    /// The length that was asked for last, nearly always that of a full segment, and its time at `rate`.
    segment: u32,
    segment_ns: u64,
}

impl Pacer {
    /// Not paced yet.
    pub(crate) fn new() -> Self {
        Pacer {
            rate: 0,
            quantum: 0,
            burst: 0,
            quantum_ns: 0,
            cleared_at: Instant::ZERO,
            held_until: Instant::ZERO,
            unpaced_bytes: 0,
            segment: 0,
            segment_ns: 0,
        }
    }

    /// The next `bytes` leave at once. For initial and restart windows: RFC 6928 and RFC 5681 section 4.1 allow
    /// them as a burst, and half a round trip of waiting is most of the time that a small file takes.
    pub(crate) fn grant(&mut self, bytes: u32) {
        self.unpaced_bytes = bytes;
    }

    /// New rate in bytes per second, `None` to let everything through, and the bytes that may leave at once although they
    /// take longer than a quantum of time, up to the bound of a quantum. What is owed at the old rate is owed in bytes: a
    /// faster rate clears it sooner.
    pub(crate) fn set_rate(
        &mut self,
        now: Instant,
        rate: Option<u64>,
        burst: u32,
        smss: u32,
        config: &PacingConfig,
    ) {
        // A segment per second at least: after a pause of the machine a single round trip may look like days, and
        // no path that carries anything is that slow.
        let rate = rate.map_or(0, |rate| rate.max(u64::from(smss).max(1)));
        if (rate, burst) == (self.rate, self.burst) {
            return;
        }
        self.burst = burst;
        let old = core::mem::replace(&mut self.rate, rate);
        if rate == 0 {
            (self.cleared_at, self.held_until) = (Instant::ZERO, Instant::ZERO);
            return;
        }
        let rescale = |at: Instant| match at.as_nanos().checked_sub(now.as_nanos()) {
            None | Some(0) => at,
            Some(owed) => {
                let owed = u128::from(owed) * u128::from(old) / u128::from(rate);
                now + Duration::from_nanos(u64::try_from(owed).unwrap_or(u64::MAX))
            }
        };
        self.cleared_at = rescale(self.cleared_at);
        self.held_until = rescale(self.held_until);
        self.quantum = quantum(rate, smss, config.quantum_max).max(burst.min(config.quantum_max));
        self.quantum_ns = self.time_of(self.quantum);
        (self.segment, self.segment_ns) = (0, 0);
    }

    /// Longest burst in bytes; 0 if not paced.
    pub(crate) fn quantum(&self) -> u32 {
        if self.rate == 0 { 0 } else { self.quantum }
    }

    /// Bytes per second; 0 if not paced.
    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    /// Everything that was sent would have left by now at the pacing rate.
    pub(crate) fn is_clear(&self, now: Instant) -> bool {
        self.cleared_at <= now
    }

    /// When a segment of `len` bytes may leave: `None` for now.
    pub(crate) fn release_at(&mut self, now: Instant, len: u32) -> Option<Instant> {
        if self.rate == 0 || self.unpaced_bytes > 0 {
            return None;
        }
        if now < self.held_until {
            return Some(self.held_until);
        }
        // One that is longer than the quantum leaves when nothing is owed.
        let allowed = earlier(self.after(len), self.quantum_ns).min(self.cleared_at);
        if allowed <= now {
            return None;
        }
        let at = allowed.max(earlier(self.cleared_at, self.quantum_ns / 2));
        self.held_until = at;
        Some(at)
    }

    /// `len` bytes left.
    pub(crate) fn on_sent(&mut self, now: Instant, len: u32) {
        if self.unpaced_bytes > 0 {
            self.unpaced_bytes = self.unpaced_bytes.saturating_sub(len);
        } else if self.rate != 0 {
            self.cleared_at = self.cleared_at.max(now);
            self.cleared_at = self.after(len);
        }
    }

    /// How many segments of `len` bytes [`Self::release_at`] lets go one after another at this moment; of a window that
    /// was granted, those of the grant.
    pub(crate) fn burst(&mut self, now: Instant, len: u32) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        if self.unpaced_bytes > 0 {
            return self.unpaced_bytes.div_ceil(len.max(1)).into();
        }
        let each = self.segment_time(len);
        if now < self.held_until {
            0
        } else if each > self.quantum_ns {
            u64::from(self.cleared_at <= now)
        } else {
            let owed = self.cleared_at.saturating_since(now).as_nanos();
            let owed = u64::try_from(owed).unwrap_or(u64::MAX);
            let ahead = self.quantum_ns.saturating_sub(owed);
            ahead.checked_div(each).unwrap_or(u64::MAX)
        }
    }

    /// As many segments of `len` bytes left, not more than [`Self::burst`] said, as if one by one.
    pub(crate) fn on_burst_sent(&mut self, now: Instant, segments: u32, len: u32) {
        if self.unpaced_bytes > 0 {
            let bytes = segments.saturating_mul(len);
            self.unpaced_bytes = self.unpaced_bytes.saturating_sub(bytes);
        } else if self.rate != 0 && segments > 0 {
            let time = self.segment_time(len).saturating_mul(segments.into());
            self.cleared_at = self.cleared_at.max(now) + Duration::from_nanos(time);
        }
    }

    fn after(&mut self, len: u32) -> Instant {
        self.cleared_at + Duration::from_nanos(self.segment_time(len))
    }

    fn segment_time(&mut self, len: u32) -> u64 {
        if len != self.segment {
            (self.segment, self.segment_ns) = (len, self.time_of(len));
        }
        self.segment_ns
    }

    fn time_of(&self, bytes: u32) -> u64 {
        u64::from(bytes) * 1_000_000_000 / self.rate.max(1)
    }
}

fn quantum(rate: u64, smss: u32, quantum_max: u32) -> u32 {
    let bytes_in = |time: Duration| {
        let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    };
    bytes_in(QUANTUM_TIME)
        .min(quantum_max)
        .max(bytes_in(QUANTUM_TIME_MIN))
        .max(smss.saturating_mul(QUANTUM_SEGMENTS_MIN))
}

fn earlier(at: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_sub(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMSS: u32 = 1_000;
    /// 8 Mbit/s: a segment per millisecond.
    const SLOW: u64 = 1_000_000;
    /// 800 Mbit/s.
    const FAST: u64 = 100_000_000;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + micros * 1_000)
    }

    fn pacer(rate: u64) -> Pacer {
        let mut pacer = Pacer::new();
        pacer.set_rate(at(0), Some(rate), 0, SMSS, &PacingConfig::default());
        pacer
    }

    #[test]
    fn no_round_trip_is_so_long_that_a_segment_waits_for_more_than_a_second() {
        let mut pacer = pacer(1);
        assert_eq!(pacer.rate(), u64::from(SMSS));
        let _ = burst(&mut pacer, at(0));
        let release = pacer.release_at(at(0), SMSS).expect("the burst is over");
        assert!(release.saturating_since(at(0)) <= Duration::from_secs(1));
    }

    /// Sends segments as long as the pacer lets them go; how many that were.
    fn burst(pacer: &mut Pacer, now: Instant) -> u32 {
        let mut sent = 0;
        while sent < 10_000 && pacer.release_at(now, SMSS).is_none() {
            pacer.on_sent(now, SMSS);
            sent += 1;
        }
        sent
    }

    #[test]
    fn without_a_rate_everything_passes() {
        let mut pacer = Pacer::new();
        assert_eq!(burst(&mut pacer, at(0)), 10_000);
    }

    /// draft-ietf-ccwg-bbr, Send Quantum.
    #[test]
    fn the_quantum_is_a_millisecond_within_its_bounds() {
        assert_eq!(pacer(SLOW).quantum(), 2 * SMSS);
        assert_eq!(pacer(10_000_000).quantum(), 10_000);
        assert_eq!(pacer(FAST).quantum(), 65_536);
        assert_eq!(pacer(4_000_000_000).quantum(), 1_000_000, "250 us");
    }

    #[test]
    fn the_quantum_of_a_lane_of_frames_is_sixteen_of_them_within_the_bounds() {
        assert_eq!(PacingConfig::of_frames(1_500).quantum_max, 24_000);
        assert_eq!(PacingConfig::of_frames(9_000).quantum_max, 65_536);
        let quantum = |rate| {
            let mut pacer = Pacer::new();
            pacer.set_rate(at(0), Some(rate), 0, SMSS, &PacingConfig::of_frames(1_500));
            pacer.quantum()
        };
        assert_eq!(quantum(SLOW), 2 * SMSS, "no path is slower for it");
        assert_eq!(quantum(10_000_000), 10_000);
        assert_eq!(quantum(50_000_000), 24_000);
        assert_eq!(quantum(FAST), 25_000, "250 us");
    }

    #[test]
    fn a_burst_may_be_longer_than_a_millisecond_up_to_the_bound() {
        let quantum = |burst| {
            let mut pacer = Pacer::new();
            pacer.set_rate(at(0), Some(SLOW), burst, SMSS, &PacingConfig::default());
            pacer.quantum()
        };
        assert_eq!(quantum(SMSS), 2 * SMSS);
        assert_eq!(quantum(20 * SMSS), 20 * SMSS);
        assert_eq!(quantum(1000 * SMSS), 65_536);
    }

    #[test]
    fn a_burst_ends_although_the_rate_stays() {
        let mut pacer = Pacer::new();
        for (burst, quantum) in [(20 * SMSS, 20 * SMSS), (0, 2 * SMSS)] {
            pacer.set_rate(at(0), Some(SLOW), burst, SMSS, &PacingConfig::default());
            assert_eq!(pacer.quantum(), quantum);
        }
    }

    #[test]
    fn a_burst_is_a_quantum_at_most() {
        assert_eq!(burst(&mut pacer(SLOW), at(0)), 2);
        assert_eq!(burst(&mut pacer(FAST), at(0)), 65);
    }

    #[test]
    fn half_a_quantum_is_earned_before_the_next_segment_leaves() {
        let mut pacer = pacer(10_000_000);
        assert_eq!(burst(&mut pacer, at(0)), 10);
        assert_eq!(pacer.release_at(at(0), SMSS), Some(at(500)));
        assert_eq!(pacer.release_at(at(499), SMSS), Some(at(500)));
        assert_eq!(burst(&mut pacer, at(500)), 5);
    }

    #[test]
    fn a_late_timer_costs_nothing_within_half_a_quantum() {
        let mut pacer = pacer(10_000_000);
        let mut sent = burst(&mut pacer, at(0));
        let mut now = at(0);
        for _ in 0..1_000 {
            let due = pacer.release_at(now, SMSS).expect("the quantum is used up");
            now = due + Duration::from_micros(400);
            sent += burst(&mut pacer, now);
        }
        let elapsed = now.saturating_since(at(0)).as_micros();
        let earned = u32::try_from(elapsed / 100).expect("small") + 10;
        assert!(earned - sent <= 2, "{earned} {sent}");
    }

    #[test]
    fn a_stall_is_made_good_by_a_quantum_and_no_more() {
        let mut pacer = pacer(10_000_000);
        burst(&mut pacer, at(0));
        assert_eq!(burst(&mut pacer, at(1_000_000)), 10);
    }

    #[test]
    fn what_is_owed_shrinks_with_a_faster_rate() {
        let mut pacer = pacer(SLOW);
        burst(&mut pacer, at(0));
        assert_eq!(pacer.release_at(at(0), SMSS), Some(at(1_000)));
        pacer.set_rate(at(0), Some(10 * SLOW), 0, SMSS, &PacingConfig::default());
        assert!(
            pacer
                .release_at(at(0), SMSS)
                .is_none_or(|release| release <= at(100))
        );
    }

    #[test]
    fn a_path_is_too_short_by_its_shortest_round_trip_unless_that_is_absurd() {
        let config = PacingConfig::default();
        let micros = Duration::from_micros;
        assert!(
            config.is_too_short(micros(60), micros(3_000)),
            "a queue of its own"
        );
        assert!(!config.is_too_short(micros(200), micros(210)));
        assert!(!config.is_too_short(micros(60), micros(20_000)));
    }

    /// RFC 6928: the initial window may leave at once.
    #[test]
    fn a_granted_window_is_not_paced_and_not_owed() {
        let mut pacer = pacer(SLOW);
        pacer.grant(10 * SMSS);
        assert_eq!(burst(&mut pacer, at(0)), 10 + 2);
    }

    #[test]
    fn a_segment_longer_than_the_quantum_leaves_when_nothing_is_owed() {
        let mut pacer = pacer(SLOW);
        assert_eq!(pacer.release_at(at(0), 64_000), None);
        pacer.on_sent(at(0), 64_000);
        assert_eq!(pacer.release_at(at(0), 64_000), Some(at(64_000)));
        assert!(pacer.release_at(at(63_999), 64_000).is_some());
        assert_eq!(pacer.release_at(at(64_000), 64_000), None);
    }

    proptest! {
        /// A run costs what its segments would, and is as long as they would be.
        #[test]
        fn a_burst_is_as_long_as_one_by_one(
            rate in prop::option::of(10_000..20_000_000_000u64),
            grant in 0..20_000u32,
            steps in prop::collection::vec((0..3_000_000u64, 0..100u32), 1..50),
        ) {
            let mut by_one = Pacer::new();
            by_one.set_rate(at(0), rate, 0, SMSS, &PacingConfig::default());
            by_one.grant(grant);
            let mut by_run = by_one;
            let mut now = at(0);
            for (pause, most) in steps {
                now = now + Duration::from_nanos(pause);
                let mut sent = 0;
                while sent < most && by_one.release_at(now, SMSS).is_none() {
                    by_one.on_sent(now, SMSS);
                    sent += 1;
                }
                let mut run = 0;
                while run < most && by_run.release_at(now, SMSS).is_none() {
                    let segments = by_run.burst(now, SMSS).min(u64::from(most - run));
                    prop_assert!(segments > 0);
                    let segments = u32::try_from(segments).unwrap();
                    by_run.on_burst_sent(now, segments, SMSS);
                    run += segments;
                }
                prop_assert_eq!(run, sent);
                prop_assert_eq!(by_run.cleared_at, by_one.cleared_at);
                prop_assert_eq!(by_run.held_until, by_one.held_until);
                prop_assert_eq!(by_run.unpaced_bytes, by_one.unpaced_bytes);
            }
        }

        /// Over any span: at most a quantum more than the rate allows, whenever the loop looks.
        #[test]
        fn no_span_sees_more_than_its_time_and_a_quantum(
            rate in 10_000..2_000_000_000u64,
            pauses in prop::collection::vec(0..3_000_000u64, 1..200),
        ) {
            let mut pacer = pacer(rate);
            let mut now = at(0);
            let mut sent = 0u64;
            for pause in pauses {
                now = now + Duration::from_nanos(pause);
                sent += u64::from(burst(&mut pacer, now)) * u64::from(SMSS);
                let elapsed = now.saturating_since(at(0)).as_nanos();
                let earned = u64::try_from(elapsed * u128::from(rate) / 1_000_000_000).unwrap();
                // A nanosecond is rounded away per segment.
                let rounding = sent / u64::from(SMSS) * rate / 1_000_000_000 + 1;
                prop_assert!(sent <= earned + u64::from(pacer.quantum()) + rounding);
            }
        }
    }
}
