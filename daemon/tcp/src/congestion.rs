//! Congestion control: how many bytes may be in flight.
//!
//! A [`Controller`] hears of acknowledgments, losses and timeouts and answers with `cwnd`, in bytes. It
//! knows no sequence numbers, segments or timers: what was lost, and the way `cwnd` is approached during
//! recovery (PRR, RFC 9937), is decided elsewhere. Invariant: one SMSS <= cwnd <= 1 GiB, and `cwnd` grows
//! only by acknowledged bytes of a flow that `cwnd` was holding back (RFC 7661), never by the number of ACKs
//! (RFC 3465): splitting or hurrying ACKs gains a receiver nothing. The algorithms are sibling files and a
//! closed set, hence an enum: no allocation, readable in a debugger.

use core::time::Duration;

use crate::clock::Instant;

mod cubic;
mod new_reno;

pub use cubic::Cubic;
pub use new_reno::NewReno;

/// No window can use more: 65,535 << 14 (RFC 7323 2.3).
const CWND_MAX: u32 = 1 << 30;

/// L of RFC 3465 2.2: slow start takes at most this many SMSS from one ACK, so that an ACK for a lot of
/// data does not let out a burst of the same size.
const SLOW_START_SEGMENTS_PER_ACK: u32 = 2;

/// Which algorithm a new connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// CUBIC (RFC 9438), what Linux uses by default.
    #[default]
    Cubic,
    /// Reno congestion control (RFC 5681), kept as the simple yardstick.
    NewReno,
}

/// One acknowledgment of new data, as congestion control sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckSample {
    /// When the ACK arrived.
    pub now: Instant,
    /// Bytes newly delivered to the peer (cumulatively or by SACK), not counting what was known before.
    pub acked_bytes: u32,
    /// Smoothed round-trip time, this ACK included.
    pub srtt: Option<Duration>,
    /// The smallest round-trip time of the connection.
    pub min_rtt: Option<Duration>,
    /// Bytes in flight before this ACK.
    pub in_flight: u32,
    /// The flow was held back by `cwnd` and not by the application or the peer's window. Only then does
    /// `cwnd` grow.
    pub cwnd_limited: bool,
}

/// Congestion control of one connection.
///
/// `Copy`, so that a caller can keep the state from before a reduction and hand it to
/// [`undo`](Self::undo) if the loss proves spurious.
///
/// Call [`on_ack`](Self::on_ack) for every ACK of new data outside of fast recovery;
/// [`on_congestion`](Self::on_congestion) once per window with loss or ECN echo;
/// [`on_rto`](Self::on_rto) when the retransmission timer expires;
/// [`on_idle_restart`](Self::on_idle_restart) before sending after a pause longer than the RTO.
#[derive(Clone, Copy, Debug)]
pub enum Controller {
    /// RFC 9438.
    Cubic(Cubic),
    /// RFC 5681.
    NewReno(NewReno),
}

impl Controller {
    /// A controller with the initial window of RFC 6928 for segments of `mss` payload bytes (at least 1).
    #[must_use]
    pub fn new(algorithm: Algorithm, mss: u32) -> Controller {
        match algorithm {
            Algorithm::Cubic => Controller::Cubic(Cubic::new(mss)),
            Algorithm::NewReno => Controller::NewReno(NewReno::new(mss)),
        }
    }

    /// The algorithm in use.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Controller::Cubic(_) => Algorithm::Cubic,
            Controller::NewReno(_) => Algorithm::NewReno,
        }
    }

    /// Congestion window: the bytes that may be in flight, at least one SMSS.
    #[must_use]
    pub fn cwnd(&self) -> u32 {
        self.window().cwnd
    }

    /// Slow start threshold in bytes; `u32::MAX` before the first congestion event.
    #[must_use]
    pub fn ssthresh(&self) -> u32 {
        self.window().ssthresh
    }

    /// `cwnd < ssthresh`: the window doubles each round trip.
    #[must_use]
    pub fn in_slow_start(&self) -> bool {
        self.window().in_slow_start()
    }

    /// New data was acknowledged, outside of fast recovery.
    pub fn on_ack(&mut self, ack: &AckSample) {
        match self {
            Controller::Cubic(cubic) => cubic.on_ack(ack),
            Controller::NewReno(reno) => reno.on_ack(ack),
        }
    }

    /// Loss was detected (or ECE received) and fast recovery begins: `ssthresh` is lowered from the
    /// `in_flight` bytes at that moment and `cwnd = ssthresh`. Once per window of data (RFC 5681 4.3).
    /// `_now` is for algorithms that date their reductions; CUBIC's epoch begins with the first ACK after it.
    pub fn on_congestion(&mut self, _now: Instant, in_flight: u32) {
        match self {
            Controller::Cubic(cubic) => cubic.on_congestion(in_flight),
            Controller::NewReno(reno) => reno.on_congestion(in_flight),
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
        }
    }

    /// Nothing was sent for longer than the RTO: `cwnd = min(IW, cwnd)` (RFC 5681 4.1, RFC 6928 2).
    ///
    /// `ssthresh` remembers three quarters of the window that was in use, so that the flow gets most of
    /// it back by slow start (RFC 7661 4.4.1 does so at the end of a non-validated period).
    pub fn on_idle_restart(&mut self) {
        match self {
            Controller::Cubic(cubic) => cubic.on_idle_restart(),
            Controller::NewReno(reno) => reno.window.restart_after_idle(),
        }
    }

    /// The reduction since `before` was copied was spurious (RFC 5682, 4015, 3708): take it back, unless
    /// `cwnd` has outgrown the old one meanwhile (RFC 9438 4.9.2). The current SMSS stays.
    pub fn undo(&mut self, before: &Controller) {
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
        }
    }

    fn window_mut(&mut self) -> &mut Window {
        match self {
            Controller::Cubic(cubic) => &mut cubic.window,
            Controller::NewReno(reno) => &mut reno.window,
        }
    }
}

/// Initial window: ten segments, but not more than 14,600 bytes of large ones (RFC 6928 2).
fn initial_window(mss: u32) -> u32 {
    mss.saturating_mul(10)
        .min(14_600.max(mss.saturating_mul(2)))
}

/// What all algorithms share: the window itself and slow start.
#[derive(Clone, Copy, Debug)]
struct Window {
    mss: u32,
    cwnd: u32,
    ssthresh: u32,
    slow_start_segments: u32,
    /// Bytes that were outstanding at the last RTO and are not yet acknowledged since.
    repair_bytes: u32,
}

impl Window {
    fn new(mss: u32) -> Window {
        let mss = mss.clamp(1, CWND_MAX / 16);
        Window {
            mss,
            cwnd: initial_window(mss),
            ssthresh: u32::MAX,
            slow_start_segments: SLOW_START_SEGMENTS_PER_ACK,
            repair_bytes: 0,
        }
    }

    fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    fn set_cwnd(&mut self, bytes: u64) {
        let bytes = bytes.clamp(u64::from(self.mss), u64::from(CWND_MAX));
        self.cwnd = u32::try_from(bytes).unwrap_or(CWND_MAX);
    }

    /// RFC 3465 2.2, 2.3: by acknowledged bytes, at most L * SMSS per ACK, and not beyond `ssthresh`.
    fn slow_start(&mut self, acked_bytes: u32) {
        // While the losses of an RTO are repaired, one ACK can cover much that was received long before
        // and says nothing about the path now: L = 1.
        let segments = if self.repair_bytes > 0 {
            1
        } else {
            self.slow_start_segments
        };
        let growth = acked_bytes.min(segments.saturating_mul(self.mss));
        self.set_cwnd(u64::from(
            self.cwnd.saturating_add(growth).min(self.ssthresh),
        ));
    }

    /// Called for each ACK of new data, whether the window may grow or not.
    fn count_repair(&mut self, acked_bytes: u32) {
        self.repair_bytes = self.repair_bytes.saturating_sub(acked_bytes);
    }

    /// RFC 5681 3.1 (equation 4) and RFC 9438 4.6: a fraction of the flight, at least two segments.
    fn lower_ssthresh(&mut self, in_flight: u32, (numerator, denominator): (u32, u32)) {
        let share = u64::from(in_flight) * u64::from(numerator) / u64::from(denominator);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        self.ssthresh = share.max(self.mss.saturating_mul(2));
    }

    fn enter_recovery(&mut self, in_flight: u32, factor: (u32, u32)) {
        self.lower_ssthresh(in_flight, factor);
        self.set_cwnd(u64::from(self.ssthresh));
    }

    fn collapse(&mut self, in_flight: u32, first_of_episode: bool, factor: (u32, u32)) {
        if first_of_episode {
            self.lower_ssthresh(in_flight, factor);
            self.repair_bytes = in_flight;
        }
        self.cwnd = self.mss;
    }

    fn restart_after_idle(&mut self) {
        if self.ssthresh != u32::MAX {
            self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
        }
        self.cwnd = self.cwnd.min(initial_window(self.mss));
    }
}

#[cfg(test)]
mod tests;
