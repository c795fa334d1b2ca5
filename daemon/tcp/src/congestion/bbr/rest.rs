//! The model of a connection at rest, in 68 bytes: see [`crate::rest`].
//!
//! What outlives an idle period (draft-ietf-ccwg-bbr, Restarting From Idle) is what was learnt of the path: bandwidth,
//! shortest round trip, the bounds of losses and aggregation, and where in its phase the state machine stands. What
//! was about the flight before the pause is over with it: the round under way and its losses, how far into it a probe
//! had raised its bound, and ProbeRTT, because a pause longer than the RTO empties any queue that is ours.
//!
//! Rates keep 27 significant bits, times their upper six bytes. Invariant: packing what was unpacked changes nothing,
//! so a restart without a rest, which packs and unpacks as well, comes to the same.

use core::time::Duration;

use super::probe_bw::{AckPhase, Cycle, RENO_ROUNDS};
use super::probe_rtt::MinRtt;
use super::startup::{DRAIN_ROUNDS_MAX, FullPipe};
use super::{Bbr, INFINITE, ShortTerm, State, Window};
use crate::clock::Instant;
use crate::rest::ShortNanos;

// Bits of `flags`.
const HAS_RTT: u8 = 1;
const REACHED: u8 = 1 << 1;
const QUEUE_WAS_EMPTY: u8 = 1 << 2;
const IS_PROBE_SAMPLE: u8 = 1 << 3;
const PREVIOUS_TOO_HIGH: u8 = 1 << 4;
const PREVIOUS_PRECAUTIONARY: u8 = 1 << 5;

/// A [`Bbr`] with nothing in flight. The sender knows the SMSS, and how much was delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingBbr {
    phase: Phase,
    cwnd: u32,
    random: u32,
    pacing_rate: Rate,
    previous_bw: Rate,
    current_bw: Rate,
    short_term_bw: Rate,
    /// `u32::MAX` for none, as with the bound of the long term.
    short_term_inflight: u32,
    inflight_longterm: u32,
    extra_acked: u32,
    background: (u16, u16),
    min_rtt: ShortNanos,
    min_rtt_stamp: Ticks,
    ack_phase: AckPhase,
    flags: u8,
}

/// BBR.state with what only matters in it. The search for a full pipe is flat for the sake of its padding.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Startup {
        full_bw: Rate,
        full_bw_count: u8,
    },
    Drain {
        rounds: u8,
    },
    ProbeBwDown {
        wait: Wait,
    },
    ProbeBwCruise {
        wait: Wait,
    },
    ProbeBwRefill,
    ProbeBwUp {
        full_bw: Rate,
        full_bw_count: u8,
        rounds: u8,
    },
    /// Startup follows it if the pipe was never full.
    ProbeRtt {
        prior_cwnd: u32,
        full_bw: Rate,
        full_bw_count: u8,
    },
}

/// When the next probe is due.
#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Ticks,
    rounds: u8,
}

impl Bbr {
    /// The packed form; `None` while a recovery is under way, and with a round trip beyond all use.
    pub(in crate::congestion) fn rest(&self) -> Option<RestingBbr> {
        if self.in_recovery {
            return None;
        }
        let flags = [
            (self.has_rtt, HAS_RTT),
            (self.full_pipe.reached, REACHED),
            (self.full_pipe.queue_was_empty, QUEUE_WAS_EMPTY),
            (self.cycle.is_probe_sample, IS_PROBE_SAMPLE),
            (self.cycle.previous_too_high, PREVIOUS_TOO_HIGH),
            (self.cycle.previous_precautionary, PREVIOUS_PRECAUTIONARY),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        let min_rtt = self.min_rtt.value.map_or(Some(u64::MAX), |min_rtt| {
            u64::try_from(min_rtt.as_nanos()).ok()
        });
        Some(RestingBbr {
            phase: self.rest_phase(),
            cwnd: self.window.cwnd,
            random: self.random,
            pacing_rate: Rate::new(self.pacing_rate),
            previous_bw: Rate::new(self.max_bw.previous),
            current_bw: Rate::new(self.max_bw.current),
            short_term_bw: Rate::new(self.short_term.bw),
            short_term_inflight: bound(self.short_term.inflight),
            inflight_longterm: bound(self.inflight_longterm),
            extra_acked: bound(self.aggregation.extra_acked()),
            background: self.background.rest(),
            min_rtt: ShortNanos::new(min_rtt?)?,
            min_rtt_stamp: Ticks::new(self.min_rtt.stamp),
            ack_phase: self.cycle.ack_phase,
            flags: set.fold(0, |flags, (_, bit)| flags | bit),
        })
    }

    fn rest_phase(&self) -> Phase {
        let full_bw = Rate::new(self.full_pipe.bw);
        let full_bw_count = self.full_pipe.count;
        let rounds = self.cycle.rounds_since_probe_up.min(RENO_ROUNDS.into());
        let wait = Wait {
            until: Ticks::new(self.cycle.probe_at),
            rounds: u8::try_from(rounds).unwrap_or(RENO_ROUNDS),
        };
        match self.state {
            State::Startup => Phase::Startup {
                full_bw,
                full_bw_count,
            },
            State::Drain => {
                let rounds = self.rounds.count.wrapping_sub(self.cycle.drain_start_round);
                Phase::Drain {
                    rounds: u8::try_from(rounds).unwrap_or(DRAIN_ROUNDS_MAX + 1),
                }
            }
            State::ProbeBwDown => Phase::ProbeBwDown { wait },
            State::ProbeBwCruise => Phase::ProbeBwCruise { wait },
            State::ProbeBwRefill => Phase::ProbeBwRefill,
            State::ProbeBwUp => Phase::ProbeBwUp {
                full_bw,
                full_bw_count,
                rounds: self.cycle.up_rounds,
            },
            State::ProbeRtt => Phase::ProbeRtt {
                prior_cwnd: self.prior_cwnd,
                full_bw,
                full_bw_count,
            },
        }
    }
}

impl RestingBbr {
    /// With segments of `smss` payload bytes, after `delivered` bytes. What is sent next begins a round.
    pub(in crate::congestion) fn wake(&self, smss: u32, delivered: u64) -> Bbr {
        let has = |bit| self.flags & bit != 0;
        let min_rtt = self.min_rtt.get();
        let mut bbr = Bbr {
            window: Window {
                cwnd: self.cwnd,
                ..Window::new(smss)
            },
            random: self.random,
            pacing_rate: self.pacing_rate.get(),
            has_rtt: has(HAS_RTT),
            delivered,
            short_term: ShortTerm {
                bw: self.short_term_bw.get(),
                inflight: unbound(self.short_term_inflight),
            },
            inflight_longterm: unbound(self.inflight_longterm),
            full_pipe: FullPipe {
                reached: has(REACHED),
                queue_was_empty: has(QUEUE_WAS_EMPTY),
                ..FullPipe::default()
            },
            cycle: Cycle {
                ack_phase: self.ack_phase,
                is_probe_sample: has(IS_PROBE_SAMPLE),
                previous_too_high: has(PREVIOUS_TOO_HIGH),
                previous_precautionary: has(PREVIOUS_PRECAUTIONARY),
                up_acked_per_inc: INFINITE,
                ..Cycle::default()
            },
            min_rtt: MinRtt {
                value: (min_rtt != u64::MAX).then(|| Duration::from_nanos(min_rtt)),
                stamp: self.min_rtt_stamp.get(),
                // If it is ProbeRTT, then it is over.
                done_at: Some(Instant::ZERO),
                round_done: true,
                ..MinRtt::default()
            },
            ..Bbr::new(smss)
        };
        bbr.start_round();
        bbr.losses.round_delivered = delivered;
        bbr.max_bw.previous = self.previous_bw.get();
        bbr.max_bw.current = self.current_bw.get();
        bbr.bound_bw_for_model();
        bbr.background.wake(self.background);
        // For one more slot of its filter.
        bbr.aggregation.slots[0] = u64::from(self.extra_acked);
        bbr.wake_phase(self.phase);
        bbr
    }
}

impl Bbr {
    fn wake_phase(&mut self, phase: Phase) {
        match phase {
            Phase::Startup {
                full_bw,
                full_bw_count,
            } => {
                self.state = State::Startup;
                self.wake_full_bw(full_bw, full_bw_count);
            }
            Phase::Drain { rounds } => {
                self.state = State::Drain;
                self.cycle.drain_start_round = 0u32.wrapping_sub(rounds.into());
            }
            Phase::ProbeBwDown { wait } => {
                self.state = State::ProbeBwDown;
                self.wake_wait(wait);
            }
            Phase::ProbeBwCruise { wait } => {
                self.state = State::ProbeBwCruise;
                self.wake_wait(wait);
            }
            Phase::ProbeBwRefill => self.state = State::ProbeBwRefill,
            Phase::ProbeBwUp {
                full_bw,
                full_bw_count,
                rounds,
            } => {
                self.state = State::ProbeBwUp;
                self.wake_full_bw(full_bw, full_bw_count);
                // The growth of this round begins anew.
                self.cycle.up_rounds = rounds.saturating_sub(1);
                self.raise_inflight_longterm_slope();
            }
            Phase::ProbeRtt {
                prior_cwnd,
                full_bw,
                full_bw_count,
            } => {
                self.state = State::ProbeRtt;
                self.prior_cwnd = prior_cwnd;
                self.wake_full_bw(full_bw, full_bw_count);
            }
        }
    }

    fn wake_full_bw(&mut self, bw: Rate, count: u8) {
        self.full_pipe.bw = bw.get();
        self.full_pipe.count = count;
    }

    fn wake_wait(&mut self, wait: Wait) {
        self.cycle.probe_at = wait.until.get();
        self.cycle.rounds_since_probe_up = wait.rounds.into();
    }
}

fn bound(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn unbound(bytes: u32) -> u64 {
    match bytes {
        u32::MAX => INFINITE,
        bytes => bytes.into(),
    }
}

/// A rate in four bytes: 27 bits, and how far they are shifted. Exact up to 134 MB/s, within 15 parts of 10^9 beyond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rate(u32);

impl Rate {
    const MANTISSA_BITS: u32 = 27;
    const MANTISSA: u32 = (1 << Self::MANTISSA_BITS) - 1;
    /// From 2^58 on, which nothing is but what is not known.
    const INFINITE: Rate = Rate(u32::MAX);

    pub(super) fn new(rate: u64) -> Rate {
        let shift = (u64::BITS - rate.leading_zeros()).saturating_sub(Self::MANTISSA_BITS);
        let mantissa = u32::try_from(rate >> shift).unwrap_or(Self::MANTISSA);
        if shift > u32::MAX >> Self::MANTISSA_BITS {
            return Rate::INFINITE;
        }
        Rate(shift << Self::MANTISSA_BITS | mantissa)
    }

    pub(super) fn get(self) -> u64 {
        if self == Rate::INFINITE {
            return INFINITE;
        }
        u64::from(self.0 & Self::MANTISSA) << (self.0 >> Self::MANTISSA_BITS)
    }
}

/// A point in time in six bytes: in units of 2^16 ns, rounded down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ticks([u8; 6]);

impl Ticks {
    fn new(at: Instant) -> Ticks {
        let [_, _, ticks @ ..] = at.as_nanos().to_le_bytes();
        Ticks(ticks)
    }

    fn get(self) -> Instant {
        let [a, b, c, d, e, f] = self.0;
        Instant::from_nanos(u64::from_le_bytes([0, 0, a, b, c, d, e, f]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_exact_up_to_27_bits_and_nearly_so_beyond() {
        for rate in [0, 1, 27_700_000, (1 << 27) - 1, INFINITE] {
            assert_eq!(Rate::new(rate).get(), rate);
        }
        for rate in [(1 << 27) + 1, 12_345_678_901, (1 << 57) + 99] {
            let kept = Rate::new(rate).get();
            assert!(kept <= rate && rate - kept <= rate >> 26, "{rate}: {kept}");
            assert_eq!(Rate::new(kept).get(), kept);
        }
    }

    #[test]
    fn a_rate_beyond_all_networks_is_not_known() {
        assert_eq!(Rate::new(1 << 58).get(), INFINITE);
    }

    #[test]
    fn a_point_in_time_is_at_most_66_us_too_early() {
        for nanos in [0, 65_535, 65_536, 77_123_456_789, u64::MAX] {
            let kept = Ticks::new(Instant::from_nanos(nanos)).get().as_nanos();
            assert!(kept <= nanos && nanos - kept < 1 << 16);
        }
    }
}
