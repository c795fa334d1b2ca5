//! Congestion control of a connection at rest: see [`crate::rest`].
//!
//! What a restart after an idle period forgets (RFC 5681 section 4.1) is forgotten here already: the epoch of
//! CUBIC. Everything else is kept to the bit. The model of BBR outlives such a period and is too large: whoever
//! packs it has to find it a place.

use core::time::Duration;

use super::hystart::{Css, HyStart};
use super::window::Window;
use super::{Bbr, Controller, Cubic, Dctcp, NewReno};

/// What is left of a [`Controller`] that follows a window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RestingController {
    Cubic(RestingCubic),
    NewReno(NewReno),
    Dctcp(Dctcp),
}

/// A [`Cubic`] between two epochs, its times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingCubic {
    window: Window,
    w_max: u32,
    cwnd_prior: u32,
    rtt_sample_count: u32,
    window_end: u64,
    last_round_min_rtt: u64,
    current_round_min_rtt: u64,
    css_baseline: u64,
    /// 0: not in conservative slow start; else one more than its rounds.
    css_rounds: u32,
}

impl Controller {
    /// The packed form, or else the model.
    pub(crate) fn rest(&self) -> Result<RestingController, &Bbr> {
        match self {
            Controller::Cubic(cubic) => Ok(RestingController::Cubic(cubic.rest())),
            Controller::NewReno(reno) => Ok(RestingController::NewReno(*reno)),
            Controller::Dctcp(dctcp) => Ok(RestingController::Dctcp(*dctcp)),
            Controller::Bbr(bbr) => Err(bbr),
        }
    }
}

impl RestingController {
    pub(crate) fn wake(&self) -> Controller {
        match self {
            RestingController::Cubic(cubic) => Controller::Cubic(cubic.wake()),
            RestingController::NewReno(reno) => Controller::NewReno(*reno),
            RestingController::Dctcp(dctcp) => Controller::Dctcp(*dctcp),
        }
    }
}

impl Cubic {
    fn rest(&self) -> RestingCubic {
        let hystart = &self.hystart;
        RestingCubic {
            window: self.window,
            w_max: self.w_max,
            cwnd_prior: self.cwnd_prior,
            rtt_sample_count: hystart.rtt_sample_count,
            window_end: hystart.window_end,
            last_round_min_rtt: nanos(hystart.last_round_min_rtt),
            current_round_min_rtt: nanos(hystart.current_round_min_rtt),
            css_baseline: hystart.css.map_or(0, |css| nanos(css.baseline_min_rtt)),
            css_rounds: hystart.css.map_or(0, |css| css.rounds.saturating_add(1)),
        }
    }
}

impl RestingCubic {
    fn wake(&self) -> Cubic {
        Cubic {
            window: self.window,
            w_max: self.w_max,
            cwnd_prior: self.cwnd_prior,
            epoch: None,
            hystart: HyStart {
                window_end: self.window_end,
                last_round_min_rtt: duration(self.last_round_min_rtt),
                current_round_min_rtt: duration(self.current_round_min_rtt),
                rtt_sample_count: self.rtt_sample_count,
                css: self.css_rounds.checked_sub(1).map(|rounds| Css {
                    baseline_min_rtt: duration(self.css_baseline),
                    rounds,
                }),
            },
        }
    }
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
