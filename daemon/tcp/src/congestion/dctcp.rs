//! DCTCP (RFC 8257): the window shrinks by the fraction of bytes that met congestion, so that a queue with a
//! low marking threshold stays short and the link full.
//!
//! Growth is Reno's, and so is the answer to loss (section 3.5): without marks this *is* Reno. For networks
//! under one administration whose switches mark by DCTCP's rule; on the Internet its reductions are too
//! small to share with others (section 5).

use super::new_reno::NewReno;
use super::rest::RestingDctcp;
use super::{AckSample, Window};

/// Fixed point of `alpha`: 2^20 is 1. Ten bits more than g, so that small fractions do not stick
/// (section 4.2: insufficient precision makes alpha stop short of zero).
const ONE: u32 = 1 << 20;
/// g = 1/16 (section 4.2), as a shift.
const GAIN_SHIFT: u32 = 4;

/// State of one DCTCP flow.
#[derive(Clone, Copy, Debug)]
pub struct Dctcp {
    pub(super) reno: NewReno,
    /// DCTCP.Alpha: estimated fraction of marked bytes, in units of 2^-20.
    alpha: u32,
    /// DCTCP.BytesAcked and DCTCP.BytesMarked of the observation window.
    bytes_acked: u64,
    bytes_marked: u64,
    /// DCTCP.WindowEnd.
    window_end: u64,
}

impl Dctcp {
    pub(super) fn new(mss: u32) -> Dctcp {
        Dctcp {
            reno: NewReno::new(mss),
            // Section 4.2: 1, so that the first marks count in full.
            alpha: ONE,
            bytes_acked: 0,
            bytes_marked: 0,
            window_end: 0,
        }
    }

    /// The packed form; `None` while the window of observation ends above `snd_una`, or has outgrown its place.
    pub(super) fn rest(&self, snd_una: u64) -> Option<RestingDctcp> {
        if self.window_end > snd_una {
            return None;
        }
        Some(RestingDctcp {
            reno: self.reno.rest(),
            alpha: self.alpha,
            bytes_acked: u32::try_from(self.bytes_acked).ok()?,
            bytes_marked: u32::try_from(self.bytes_marked).ok()?,
        })
    }

    pub(super) fn window(&self) -> &Window {
        &self.reno.window
    }

    /// Section 3.3, steps 2 to 7.
    pub(super) fn on_ack(&mut self, ack: &AckSample) {
        self.reno.on_ack(ack);
        let bytes = u64::from(ack.acked_bytes);
        self.bytes_acked += bytes;
        // With accurate ECN they may be of segments above a hole, which are acknowledged later: over a window it
        // comes to the same.
        self.bytes_marked += u64::from(ack.marked_bytes);
        if ack.snd_una <= self.window_end || self.bytes_acked == 0 {
            return;
        }
        // alpha = alpha * (1 - g) + g * M. The product has 20 + 30 bits and more only with absurd windows.
        let marked = self.bytes_marked.saturating_mul(u64::from(ONE)) / self.bytes_acked;
        let marked = u32::try_from(marked).unwrap_or(ONE).min(ONE);
        self.alpha = self.alpha - (self.alpha >> GAIN_SHIFT) + (marked >> GAIN_SHIFT);
        if self.alpha < 1 << GAIN_SHIFT && marked == 0 {
            // What the shift above cannot take away any more.
            self.alpha = 0;
        }
        (self.bytes_acked, self.bytes_marked) = (0, 0);
        self.window_end = ack.snd_nxt;
    }

    /// Step 9: cwnd = cwnd * (1 - alpha / 2), once per window.
    pub(super) fn on_ecn_echo(&mut self) {
        let cwnd = self.reno.window.cwnd;
        let cut = u64::from(cwnd) * u64::from(self.alpha) / (2 * u64::from(ONE));
        let target = u64::from(cwnd) - cut;
        self.reno.reduce_to(target);
    }
}

impl RestingDctcp {
    pub(super) fn wake(&self, smss: u32, snd_una: u64) -> Dctcp {
        Dctcp {
            reno: self.reno.wake(smss),
            alpha: self.alpha,
            bytes_acked: self.bytes_acked.into(),
            bytes_marked: self.bytes_marked.into(),
            window_end: snd_una,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    /// One observation window of 100 segments, `marked` of them with ECE.
    fn observe(dctcp: &mut Dctcp, window: u64, marked: u64) {
        for segment in 1..=100 {
            dctcp.on_ack(&AckSample {
                acked_bytes: MSS,
                marked_bytes: if segment <= marked { MSS } else { 0 },
                snd_una: (window * 100 + segment) * u64::from(MSS),
                snd_nxt: (window + 1) * 100 * u64::from(MSS) + 100 * u64::from(MSS),
                ..AckSample::default()
            });
        }
    }

    fn alpha(dctcp: &Dctcp) -> f64 {
        f64::from(dctcp.alpha) / f64::from(ONE)
    }

    /// 4.2.
    #[test]
    fn alpha_begins_at_one_so_the_first_mark_halves_the_window() {
        let mut dctcp = Dctcp::new(MSS);
        dctcp.reno.window.cwnd = 100 * MSS;
        dctcp.on_ecn_echo();
        assert_eq!(dctcp.reno.window.cwnd, 50 * MSS);
        assert_eq!(dctcp.reno.window.ssthresh, 50 * MSS);
    }

    /// 3.3, step 6.
    #[test]
    fn alpha_converges_to_the_fraction_of_marked_bytes() {
        for marked in [0u32, 1, 10, 50, 100] {
            let mut dctcp = Dctcp::new(MSS);
            for window in 0..400 {
                observe(&mut dctcp, window, u64::from(marked));
            }
            let expected = f64::from(marked) / 100.0;
            assert!(
                (alpha(&dctcp) - expected).abs() < 0.002,
                "{marked} {}",
                alpha(&dctcp)
            );
        }
    }

    #[test]
    fn without_marks_alpha_reaches_zero_and_a_late_echo_costs_nothing() {
        let mut dctcp = Dctcp::new(MSS);
        for window in 0..400 {
            observe(&mut dctcp, window, 0);
        }
        assert_eq!(dctcp.alpha, 0);
        dctcp.reno.window.cwnd = 100 * MSS;
        dctcp.on_ecn_echo();
        assert_eq!(dctcp.reno.window.cwnd, 100 * MSS);
    }

    /// 3.3, step 9.
    #[test]
    fn the_window_shrinks_by_half_of_alpha() {
        let mut dctcp = Dctcp::new(MSS);
        for window in 0..400 {
            observe(&mut dctcp, window, 20);
        }
        dctcp.reno.window.cwnd = 100 * MSS;
        dctcp.on_ecn_echo();
        let expected = 100.0 * (1.0 - alpha(&dctcp) / 2.0);
        assert!((f64::from(dctcp.reno.window.cwnd) / 1_000.0 - expected).abs() < 0.1);
    }

    #[test]
    fn the_window_is_never_below_two_segments() {
        let mut dctcp = Dctcp::new(MSS);
        dctcp.reno.window.cwnd = 3 * MSS;
        dctcp.on_ecn_echo();
        assert_eq!(dctcp.reno.window.cwnd, 2 * MSS);
    }
}
