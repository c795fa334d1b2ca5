//! HyStart++ (RFC 9406): slow start ends when the round-trip time rises, before the queue that makes it rise
//! overflows.
//!
//! The shortest round trips of two successive rounds are compared. A rise beyond the threshold begins
//! *conservative slow start*, which grows at a quarter of the pace: if the rise was noise the shortest round
//! trip falls again and slow start resumes; if it lasts five rounds, congestion avoidance follows. Rounds
//! are counted in stream offsets. Only for the initial slow start (section 4.3): later ones have an `ssthresh`
//! that was measured.
//!
//! Two things are stricter than in the RFC; with them a flow of 80 ms stops short of a buffer of one bandwidth-delay
//! product that it overflowed by 900 segments without (`make bench-grid`, 100 Mbit/s). A round is looked at in parts
//! of an eighth: what a doubling window does to the queue is else seen when the next round is over. And a second rise
//! by the threshold ends conservative slow start at once: a quarter of the pace has made it, so the first was no noise.

use core::time::Duration;

use super::AckSample;
use crate::clock::Instant;
use crate::rest::ShortNanos;

/// MIN_RTT_THRESH and MAX_RTT_THRESH.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
/// MIN_RTT_DIVISOR.
const MIN_RTT_DIVISOR: u32 = 8;
/// N_RTT_SAMPLE: a minimum of fewer samples is not compared.
const N_RTT_SAMPLE: u32 = 8;
/// Parts of a round that are looked at one by one.
const PARTS: u32 = 8;
/// CSS_GROWTH_DIVISOR.
const CSS_GROWTH_DIVISOR: u32 = 4;
/// CSS_ROUNDS.
const CSS_ROUNDS: u32 = 5;

/// What the next growth of the window is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Slow start; its growth is divided by this.
    SlowStart { divisor: u32 },
    /// Slow start is over.
    Over,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// windowEnd: the round ends when this offset is acknowledged.
    window_end: u64,
    last_round_min_rtt: Duration,
    current_round_min_rtt: Duration,
    part: Part,
    css: Option<Css>,
}

/// The shortest round trip of a part of the round.
#[derive(Clone, Copy, Debug)]
struct Part {
    began: Instant,
    samples: u32,
    min_rtt: Duration,
}

/// Conservative slow start.
#[derive(Clone, Copy, Debug)]
struct Css {
    baseline_min_rtt: Duration,
    /// Rounds that have ended in it; the first may have been a partial one.
    rounds: u32,
    /// The round-trip time rose by the threshold once more.
    confirmed: bool,
}

impl Part {
    fn new(began: Instant) -> Part {
        Part {
            began,
            samples: 0,
            min_rtt: Duration::MAX,
        }
    }
}

/// What is left between two rounds, with nothing in flight: the next ACK begins a round anyway.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestingHyStart {
    current_round_min_rtt: ShortNanos,
    css_baseline: ShortNanos,
    /// 0: not in conservative slow start; else one more than its rounds.
    css_rounds: u8,
}

impl HyStart {
    /// The packed form; `None` with a round trip beyond all use.
    pub(super) fn rest(&self) -> Option<RestingHyStart> {
        let rounds = self.css.as_ref().map(|css| match css.confirmed {
            // It has the same effect.
            true => CSS_ROUNDS,
            false => css.rounds.min(CSS_ROUNDS),
        });
        let baseline = self
            .css
            .as_ref()
            .map_or(0, |css| nanos(css.baseline_min_rtt));
        Some(RestingHyStart {
            current_round_min_rtt: ShortNanos::new(nanos(self.current_round_min_rtt))?,
            css_baseline: ShortNanos::new(baseline)?,
            css_rounds: u8::try_from(rounds.map_or(0, |rounds| rounds + 1)).ok()?,
        })
    }

    pub(super) fn wake(rest: &RestingHyStart) -> HyStart {
        HyStart {
            current_round_min_rtt: duration(rest.current_round_min_rtt.get()),
            css: rest.css_rounds.checked_sub(1).map(|rounds| Css {
                baseline_min_rtt: duration(rest.css_baseline.get()),
                rounds: rounds.into(),
                confirmed: false,
            }),
            ..HyStart::new()
        }
    }

    pub(super) fn new() -> HyStart {
        HyStart {
            window_end: 0,
            last_round_min_rtt: Duration::MAX,
            current_round_min_rtt: Duration::MAX,
            part: Part::new(Instant::ZERO),
            css: None,
        }
    }

    /// Section 4.2, for every ACK in the initial slow start.
    pub(super) fn on_ack(&mut self, ack: &AckSample) -> Pace {
        if ack.snd_una >= self.window_end {
            self.begin_round(ack);
        }
        if let Some(rtt) = ack.rtt {
            self.current_round_min_rtt = self.current_round_min_rtt.min(rtt);
            self.part.min_rtt = self.part.min_rtt.min(rtt);
            // Each would have measured; this is the shortest of them.
            self.part.samples += 1 + ack.merged;
            self.compare(ack.now);
        }
        match &self.css {
            None => Pace::SlowStart { divisor: 1 },
            Some(css) if css.confirmed || css.rounds >= CSS_ROUNDS => Pace::Over,
            Some(_) => Pace::SlowStart {
                divisor: CSS_GROWTH_DIVISOR,
            },
        }
    }

    fn begin_round(&mut self, ack: &AckSample) {
        self.window_end = ack.snd_nxt;
        self.last_round_min_rtt = self.current_round_min_rtt;
        self.current_round_min_rtt = Duration::MAX;
        self.part = Part::new(ack.now);
        if let Some(css) = &mut self.css {
            css.rounds += 1;
        }
    }

    fn compare(&mut self, now: Instant) {
        let long_enough = self.last_round_min_rtt != Duration::MAX
            && now.saturating_since(self.part.began) >= self.last_round_min_rtt / PARTS;
        if self.part.samples < N_RTT_SAMPLE || !long_enough {
            return;
        }
        let current = self.part.min_rtt;
        self.part = Part::new(now);
        match &mut self.css {
            Some(css) if current < css.baseline_min_rtt => self.css = None,
            Some(css) => css.confirmed |= is_rise(css.baseline_min_rtt, current),
            None if is_rise(self.last_round_min_rtt, current) => {
                self.css = Some(Css {
                    baseline_min_rtt: current,
                    rounds: 0,
                    confirmed: false,
                });
            }
            None => {}
        }
    }
}

/// A rise by RttThresh. Without a round before there is nothing to rise from.
fn is_rise(from: Duration, to: Duration) -> bool {
    from != Duration::MAX
        && to >= from + (from / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH)
}

/// `Duration::MAX` stands for "none" and stays that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn duration(nanos: u64) -> Duration {
    if nanos == u64::MAX {
        Duration::MAX
    } else {
        Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of `samples` ACKs with one round-trip time; the paces it answered.
    fn round(hystart: &mut HyStart, number: u64, samples: u64, rtt_ms: u64) -> Vec<Pace> {
        (1..=samples)
            .map(|i| {
                hystart.on_ack(&AckSample {
                    now: Instant::from_nanos(number << 40)
                        + Duration::from_millis(rtt_ms) * u32::try_from(i).expect("few")
                            / u32::try_from(samples).expect("few"),
                    snd_una: number * 1_000 + i,
                    snd_nxt: (number + 1) * 1_000,
                    rtt: Some(Duration::from_millis(rtt_ms)),
                    ..AckSample::default()
                })
            })
            .collect()
    }

    /// Rounds of 8 samples with these round-trip times; the last pace of each.
    fn rounds(rtts_ms: &[u64]) -> Vec<Pace> {
        let mut hystart = HyStart::new();
        (0..)
            .zip(rtts_ms)
            .map(|(number, rtt_ms)| {
                let paces = round(&mut hystart, number, 8, *rtt_ms);
                *paces.last().expect("eight")
            })
            .collect()
    }

    const FULL: Pace = Pace::SlowStart { divisor: 1 };
    const CONSERVATIVE: Pace = Pace::SlowStart { divisor: 4 };

    /// 4.2: RttThresh = clamp(lastRoundMinRTT / 8, 4 ms, 16 ms).
    #[test]
    fn a_rise_by_the_threshold_begins_conservative_slow_start() {
        for (before, rise) in [(10, 4), (80, 10), (400, 16)] {
            assert_eq!(rounds(&[before, before + rise - 1]), [FULL, FULL]);
            assert_eq!(rounds(&[before, before + rise]), [FULL, CONSERVATIVE]);
        }
    }

    /// 4.2: N_RTT_SAMPLE.
    #[test]
    fn fewer_than_eight_samples_decide_nothing() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 8, 20);
        let paces = round(&mut hystart, 1, 8, 60);
        assert_eq!(paces[..7], [FULL; 7]);
        assert_eq!(paces[7], CONSERVATIVE);
    }

    /// 4.2: if the RTT falls below the baseline the rise was spurious.
    #[test]
    fn slow_start_resumes_when_the_round_trip_falls_again() {
        assert_eq!(rounds(&[20, 30, 29, 29]), [FULL, CONSERVATIVE, FULL, FULL]);
    }

    /// 4.2: CSS_ROUNDS, the partial first one included.
    #[test]
    fn five_rounds_of_conservative_slow_start_end_it() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 8, 20);
        for number in 1..6 {
            let paces = round(&mut hystart, number, 8, 40);
            assert_eq!(paces[7], CONSERVATIVE, "round {number}");
        }
        assert_eq!(round(&mut hystart, 6, 1, 40), [Pace::Over]);
    }

    /// Beyond the RFC: growth at a quarter of the pace raises it again, so it was no noise.
    #[test]
    fn a_second_rise_ends_slow_start_at_once() {
        assert_eq!(rounds(&[20, 30, 33]), [FULL, CONSERVATIVE, CONSERVATIVE]);
        assert_eq!(rounds(&[20, 30, 34]), [FULL, CONSERVATIVE, Pace::Over]);
    }

    /// Beyond the RFC: the queue that arises while a window doubles is seen in the round in which it arises.
    #[test]
    fn a_rise_within_a_round_is_seen_in_it() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 8, 80);
        let paces: Vec<Pace> = (1..=32u32)
            .map(|i| {
                hystart.on_ack(&AckSample {
                    now: Instant::from_nanos(1 << 40) + Duration::from_millis(80) * i / 32,
                    snd_una: 1_000 + u64::from(i),
                    snd_nxt: 2_000,
                    rtt: Some(Duration::from_millis(if i <= 16 { 80 } else { 95 })),
                    ..AckSample::default()
                })
            })
            .collect();
        assert_eq!(
            paces[15..],
            [[FULL; 8].as_slice(), &[CONSERVATIVE; 9]].concat()
        );
    }

    #[test]
    fn acks_without_a_sample_still_count_rounds() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 0, 8, 20);
        let silent = AckSample {
            snd_una: 2_000,
            snd_nxt: 3_000,
            ..AckSample::default()
        };
        assert_eq!(hystart.on_ack(&silent), FULL);
        // The round before had no minimum to compare with.
        assert_eq!(round(&mut hystart, 3, 8, 90)[7], FULL);
    }
}
