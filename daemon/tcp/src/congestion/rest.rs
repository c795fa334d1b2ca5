//! Congestion control of a connection at rest: see [`crate::rest`].
//!
//! What a restart after an idle period forgets (RFC 5681 section 4.1) is forgotten here already: the epoch of
//! CUBIC. Everything else is kept to the bit. The model of BBR outlives such a period and is too large: whoever
//! packs it has to find it a place.

use super::hystart::{HyStart, RestingHyStart};
use super::window::Window;
use super::{Bbr, Controller, Cubic, Dctcp, NewReno};

/// What is left of a [`Controller`] that follows a window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RestingController {
    Cubic(RestingCubic),
    NewReno(NewReno),
    Dctcp(Dctcp),
}

/// A [`Cubic`] between two epochs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingCubic {
    window: Window,
    w_max: u32,
    cwnd_prior: u32,
    hystart: RestingHyStart,
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
        RestingCubic {
            window: self.window,
            w_max: self.w_max,
            cwnd_prior: self.cwnd_prior,
            hystart: self.hystart.rest(),
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
            hystart: HyStart::wake(&self.hystart),
        }
    }
}
