//! Congestion control: how many bytes may be in flight, and how fast they may leave.
//!
//! A [`Controller`] hears of departures, acknowledgments, losses, congestion marks and timeouts and answers
//! with `cwnd` in bytes and a pacing rate. It keeps no segments and no timers: what was lost, and the way
//! `cwnd` is approached during recovery (PRR, RFC 9937), is decided elsewhere. Invariant: one SMSS <= cwnd <=
//! 1 GiB, and `cwnd` grows only by acknowledged bytes, never by the number of ACKs (RFC 3465): splitting or
//! hurrying ACKs gains a receiver nothing. The algorithms are sibling files and a closed set, hence an enum:
//! no allocation, readable in a debugger.

use core::time::Duration;

use crate::clock::Instant;
use crate::delivery_rate::RateSample;

mod bbr;
mod cubic;
mod dctcp;
mod hystart;
mod new_reno;
mod rest;
mod window;

pub use bbr::Bbr;
pub(crate) use bbr::RestingBbr;
pub use cubic::Cubic;
pub use dctcp::Dctcp;
pub use new_reno::NewReno;
pub(crate) use rest::{Rested, RestingController};
use window::Window;
pub(crate) use window::initial_window;

/// No window can use more: 65,535 << 14 (RFC 7323 2.3).
const CWND_MAX: u32 = 1 << 30;

/// Pacing of the algorithms that only know a window: twice `cwnd` per round trip while slow start doubles it,
/// else a fifth more than `cwnd`, so that pacing spreads the window and `cwnd` stays the limit. In percent.
const PACING_SLOW_START: u64 = 200;
const PACING_AVOIDANCE: u64 = 120;

/// Which algorithm a new connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406), what Linux uses by default.
    #[default]
    Cubic,
    /// Reno congestion control (RFC 5681), kept as the simple yardstick.
    NewReno,
    /// DCTCP (RFC 8257), for networks whose switches mark at a low threshold.
    Dctcp,
    /// BBR version 3 (draft-ietf-ccwg-bbr).
    Bbr,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] = [
        Algorithm::Cubic,
        Algorithm::NewReno,
        Algorithm::Dctcp,
        Algorithm::Bbr,
    ];

    /// Whether it answers to ECN. Who does not must not claim to be ECN-capable: a queue that marks instead of
    /// dropping would get no answer at all (RFC 3168 5). The BBR draft defines none.
    #[must_use]
    pub fn answers_ecn(self) -> bool {
        self != Algorithm::Bbr
    }
}

/// One acknowledgment, as congestion control sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AckSample {
    /// When the ACK arrived.
    pub now: Instant,
    /// Bytes by which it moved SND.UNA: what a window may grow by.
    pub acked_bytes: u32,
    /// Acknowledgements that arrived with it and for which it stands, itself not included: see [`crate::AckRun`].
    pub merged: u32,
    /// Bytes newly delivered to the peer, cumulatively or by SACK, not counting what was known before.
    pub delivered_bytes: u32,
    /// Delivered on this connection so far, in bytes.
    pub delivered_total: u64,
    /// Smoothed round-trip time, this ACK included.
    pub srtt: Option<Duration>,
    /// Round-trip time of the newest segment that this ACK delivered.
    pub rtt: Option<Duration>,
    /// Bytes in flight after this ACK.
    pub in_flight: u32,
    /// SND.UNA and SND.NXT after this ACK, in stream offsets.
    pub snd_una: u64,
    /// See `snd_una`.
    pub snd_nxt: u64,
    /// The flow was held back by `cwnd` and not by the application or the peer's window. Only then does
    /// `cwnd` grow.
    pub cwnd_limited: bool,
    /// A reduction is being carried out (fast recovery, or the round trip after an ECN echo): a window that is
    /// steered by losses or marks does not grow.
    pub recovering: bool,
    /// Bytes of ours that met congestion, as far as this ACK tells: with classic ECN all that it acknowledges, if it
    /// carries ECE.
    pub marked_bytes: u32,
    /// Delivery rate, if this ACK completed a measurement.
    pub rate: Option<RateSample>,
}

/// Bytes declared lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LossSample {
    /// How many.
    pub bytes: u32,
    /// Delivered on this connection so far, in bytes.
    pub delivered_total: u64,
    /// Bytes in flight when they left, themselves included.
    pub in_flight: u64,
    /// Bytes declared lost since they left, themselves included.
    pub lost_since: u64,
    /// They left while the application had nothing more to send.
    pub app_limited: bool,
}

/// Congestion control of one connection.
///
/// `Copy`, so that a caller can keep the state from before a reduction and hand it to
/// [`undo`](Self::undo) if the loss proves spurious.
///
/// | event | call |
/// |---|---|
/// | data leaves | [`on_sent`](Self::on_sent) |
/// | every ACK of data, or with news about it | [`on_ack`](Self::on_ack) |
/// | bytes are declared lost | [`on_loss`](Self::on_loss), each time |
/// | once per window with a loss | [`on_congestion`](Self::on_congestion) |
/// | once per window with ECE | [`on_ecn_echo`](Self::on_ecn_echo), after `on_ack` |
/// | the losses of a window are repaired | [`on_recovery_end`](Self::on_recovery_end) |
/// | the retransmission timer expires | [`on_rto`](Self::on_rto) |
/// | before sending after a pause longer than the RTO | [`on_idle_restart`](Self::on_idle_restart) |
/// | most of `cwnd` was not used for long | [`on_unvalidated`](Self::on_unvalidated) |
#[derive(Clone, Copy, Debug)]
pub enum Controller {
    /// RFC 9438.
    Cubic(Cubic),
    /// RFC 5681.
    NewReno(NewReno),
    /// RFC 8257.
    Dctcp(Dctcp),
    /// draft-ietf-ccwg-bbr.
    Bbr(Bbr),
}

impl Controller {
    /// A controller with the initial window of RFC 6928 for segments of `mss` payload bytes (at least 1).
    #[must_use]
    pub fn new(algorithm: Algorithm, mss: u32) -> Controller {
        match algorithm {
            Algorithm::Cubic => Controller::Cubic(Cubic::new(mss)),
            Algorithm::NewReno => Controller::NewReno(NewReno::new(mss)),
            Algorithm::Dctcp => Controller::Dctcp(Dctcp::new(mss)),
            Algorithm::Bbr => Controller::Bbr(Bbr::new(mss)),
        }
    }

    /// Randomness for algorithms that stagger their probes so that flows do not probe in step (BBR). Need
    /// not be secret.
    #[must_use]
    pub fn with_seed(mut self, seed: u32) -> Controller {
        if let Controller::Bbr(bbr) = &mut self {
            bbr.seed(seed);
        }
        self
    }

    /// The algorithm in use.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Controller::Cubic(_) => Algorithm::Cubic,
            Controller::NewReno(_) => Algorithm::NewReno,
            Controller::Dctcp(_) => Algorithm::Dctcp,
            Controller::Bbr(_) => Algorithm::Bbr,
        }
    }

    /// Congestion window: the bytes that may be in flight, at least one SMSS.
    #[must_use]
    pub fn cwnd(&self) -> u32 {
        self.window().cwnd
    }

    /// Slow start threshold in bytes; `u32::MAX` before the first congestion event, and always with BBR.
    #[must_use]
    pub fn ssthresh(&self) -> u32 {
        self.window().ssthresh
    }

    /// `cwnd < ssthresh`: the window doubles each round trip.
    #[must_use]
    pub fn in_slow_start(&self) -> bool {
        self.window().in_slow_start()
    }

    /// Bytes per second at which segments should leave on a path with the smoothed round-trip time `srtt`.
    #[must_use]
    pub fn pacing_rate(&self, srtt: Duration) -> u64 {
        if let Controller::Bbr(bbr) = self {
            return bbr.pacing_rate();
        }
        let percent = if self.in_slow_start() {
            PACING_SLOW_START
        } else {
            PACING_AVOIDANCE
        };
        let srtt_ns = u64::try_from(srtt.as_nanos()).unwrap_or(u64::MAX).max(1);
        // 30 bits of cwnd and 30 of nanoseconds leave no room for the percentage.
        let window_rate = u64::from(self.cwnd()) * 1_000_000_000 / srtt_ns;
        window_rate.saturating_mul(percent) / 100
    }

    /// Bytes that may leave at once before anything was lost, while a small file waits for nothing but its first round
    /// trips: as if they were not paced, as far as one burst of the lane reaches. BBR has a quantum of its own, and a
    /// burst is what the low thresholds mark that DCTCP is made for.
    #[must_use]
    pub(crate) fn starting_burst(&self) -> u32 {
        match self {
            Controller::Bbr(_) | Controller::Dctcp(_) => 0,
            _ if self.window().in_initial_slow_start() => self.cwnd(),
            _ => 0,
        }
    }

    /// Whether `cwnd` after a loss is `ssthresh`, to be approached by PRR (RFC 9937). Not so with BBR, whose
    /// window follows its model during recovery too.
    #[must_use]
    pub fn uses_prr(&self) -> bool {
        !matches!(self, Controller::Bbr(_))
    }

    /// Whether it wants [`AckSample::rate`]; the others do without.
    #[must_use]
    pub fn needs_rate(&self) -> bool {
        matches!(self, Controller::Bbr(_))
    }

    /// Whether it sends less than the path carries on purpose: delivery rates measured now are too low, and
    /// the sampler has to be told so (BBR's ProbeRTT).
    #[must_use]
    pub fn holds_back(&self) -> bool {
        matches!(self, Controller::Bbr(bbr) if bbr.is_probing_rtt())
    }

    /// A segment is about to leave with `in_flight` bytes out; `app_limited` as in [`RateSample`].
    pub fn on_sent(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        if let Controller::Bbr(bbr) = self {
            bbr.on_sent(now, in_flight, app_limited);
        }
    }

    /// An ACK of data, or with SACK or ECN news.
    pub fn on_ack(&mut self, ack: &AckSample) {
        match self {
            Controller::Cubic(cubic) => cubic.on_ack(ack),
            Controller::NewReno(reno) => reno.on_ack(ack),
            Controller::Dctcp(dctcp) => dctcp.on_ack(ack),
            Controller::Bbr(bbr) => bbr.on_ack(ack),
        }
    }

    /// Bytes were declared lost.
    pub fn on_loss(&mut self, loss: &LossSample) {
        if let Controller::Bbr(bbr) = self {
            bbr.on_loss(loss);
        }
    }

    /// What a reduction starts from while `cwnd` limits the flow: the flight, by RFC 5681 3.1. With CUBIC the window,
    /// as RFC 9438 4.6 lets senders do that validate it (RFC 7661). Pacing spreads a window that doubles over the round
    /// trip in which it doubles: the flight is a quarter short of it then, and would cost as much of what was gained.
    #[must_use]
    pub fn window_in_use(&self, flight_size: u32) -> u32 {
        match self {
            Controller::Cubic(cubic) => cubic.window.cwnd.max(flight_size),
            _ => flight_size,
        }
    }

    /// Loss was detected and fast recovery begins: `ssthresh` is lowered from the `in_flight` bytes at that
    /// moment and `cwnd = ssthresh`. Once per window of data (RFC 5681 4.3).
    /// `_now` is for algorithms that date their reductions; CUBIC's epoch begins with the first ACK after it.
    pub fn on_congestion(&mut self, _now: Instant, in_flight: u32) {
        match self {
            Controller::Cubic(cubic) => cubic.on_congestion(in_flight),
            Controller::NewReno(reno) => reno.on_congestion(in_flight),
            Controller::Dctcp(dctcp) => dctcp.reno.on_congestion(in_flight),
            Controller::Bbr(bbr) => bbr.on_congestion(),
        }
    }

    /// ECE was received: reduce, once per window of data and not in addition to a loss (RFC 3168 6.1.2).
    pub fn on_ecn_echo(&mut self, _now: Instant, in_flight: u32) {
        match self {
            Controller::Cubic(cubic) => cubic.on_ecn_echo(in_flight),
            Controller::NewReno(reno) => reno.on_ecn_echo(in_flight),
            Controller::Dctcp(dctcp) => dctcp.on_ecn_echo(),
            // Never negotiated, see `Algorithm::answers_ecn`.
            Controller::Bbr(_) => {}
        }
    }

    /// Everything that was outstanding when a recovery or a timeout began is acknowledged.
    pub fn on_recovery_end(&mut self) {
        if let Controller::Bbr(bbr) = self {
            bbr.on_recovery_end();
        }
    }

    /// The retransmission timer expired with `in_flight` bytes outstanding: `cwnd` = one SMSS, slow start.
    ///
    /// `first_of_episode`: no earlier expiry since the last progress. Otherwise `ssthresh` stays (RFC 5681
    /// 3.1), or a long outage would end in slow start up to 2 SMSS.
    pub fn on_rto(&mut self, _now: Instant, in_flight: u32, first_of_episode: bool) {
        match self {
            Controller::Cubic(cubic) => cubic.on_rto(in_flight, first_of_episode),
            Controller::NewReno(reno) => reno.on_rto(in_flight, first_of_episode),
            Controller::Dctcp(dctcp) => dctcp.reno.on_rto(in_flight, first_of_episode),
            Controller::Bbr(bbr) => bbr.on_rto(),
        }
    }

    /// Nothing was sent for longer than the RTO: `cwnd = min(IW, cwnd)` (RFC 5681 4.1, RFC 6928 2).
    ///
    /// `ssthresh` remembers three quarters of the window that was in use, so that the flow gets most of
    /// it back by slow start (RFC 7661 4.4.1 does so at the end of a non-validated period). BBR keeps its
    /// window: it resumes at the paced rate of its model (draft-ietf-ccwg-bbr, Restarting From Idle).
    pub fn on_idle_restart(&mut self) {
        match self {
            Controller::Cubic(cubic) => cubic.on_idle_restart(),
            Controller::NewReno(reno) => reno.window.restart_after_idle(),
            Controller::Dctcp(dctcp) => dctcp.reno.window.restart_after_idle(),
            Controller::Bbr(bbr) => bbr.on_idle_restart(),
        }
    }

    /// Less than half of `cwnd` was used for the five minutes of a non-validated period: `cwnd` is halved and
    /// `ssthresh` keeps three quarters of it (RFC 7661 4.4.3). BBR's model ages by itself.
    pub fn on_unvalidated(&mut self) {
        match self {
            Controller::Cubic(cubic) => cubic.on_unvalidated(),
            Controller::NewReno(reno) => reno.window.halve_unvalidated(),
            Controller::Dctcp(dctcp) => dctcp.reno.window.halve_unvalidated(),
            Controller::Bbr(_) => {}
        }
    }

    /// The reduction since `before` was copied was spurious (RFC 5682, 4015, 3708): take it back, unless
    /// `cwnd` has outgrown the old one meanwhile (RFC 9438 4.9.2). The current SMSS stays.
    pub fn undo(&mut self, before: &Controller) {
        if let (Controller::Bbr(bbr), Controller::Bbr(before)) = (&mut *self, before) {
            // What was measured since then stays.
            bbr.undo(before);
            return;
        }
        if self.cwnd() < before.cwnd() {
            let mss = self.window().mss;
            *self = *before;
            self.set_mss(mss);
        }
    }

    /// The payload of a full segment changed (path MTU). `cwnd` keeps its bytes, but is at least one SMSS.
    pub fn set_mss(&mut self, mss: u32) {
        let window = self.window_mut();
        window.mss = mss.clamp(1, CWND_MAX / 16);
        window.set_cwnd(u64::from(window.cwnd));
    }

    /// Lets slow start take up to `segments` SMSS (at least 1) from one ACK instead of the 2 of RFC 3465.
    ///
    /// For paced senders only (RFC 9406 4.2 allows 8, or no limit). A receiver behind GRO sends one ACK per
    /// 64 KiB; with 2 SMSS from each of them slow start is not exponential any more.
    pub fn set_slow_start_limit(&mut self, segments: u32) {
        self.window_mut().slow_start_segments = segments.max(1);
    }

    fn window(&self) -> &Window {
        match self {
            Controller::Cubic(cubic) => &cubic.window,
            Controller::NewReno(reno) => &reno.window,
            Controller::Dctcp(dctcp) => dctcp.window(),
            Controller::Bbr(bbr) => bbr.window(),
        }
    }

    fn window_mut(&mut self) -> &mut Window {
        match self {
            Controller::Cubic(cubic) => &mut cubic.window,
            Controller::NewReno(reno) => &mut reno.window,
            Controller::Dctcp(dctcp) => &mut dctcp.reno.window,
            Controller::Bbr(bbr) => bbr.window_mut(),
        }
    }
}

#[cfg(test)]
mod tests;
