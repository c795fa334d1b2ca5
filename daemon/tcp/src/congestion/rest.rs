//! Congestion control of a connection at rest: see [`crate::rest`].
//!
//! What a restart after an idle period forgets (RFC 5681 section 4.1) is forgotten here already: the epoch of
//! CUBIC. Everything else is kept to the bit. What BBR keeps of its model is in its own `rest` module.

use super::hystart::{HyStart, RestingHyStart};
use super::window::Window;
use super::{Controller, Cubic, RestingBbr};

/// What is left of a [`Controller`] that follows a window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RestingController {
    Cubic(RestingCubic),
    NewReno(RestingReno),
    Dctcp(RestingDctcp),
}

/// What is left of a [`Controller`].
pub(crate) enum Rested {
    Window(RestingController),
    Model(RestingBbr),
}

/// A [`Window`] without the SMSS, which the sender knows, and the pace of slow start, which the configuration says.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestingWindow {
    cwnd: u32,
    ssthresh: u32,
    repair_bytes: u32,
}

/// A [`Cubic`] between two epochs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingCubic {
    window: RestingWindow,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The initial slow start, before any reduction.
    Initial(RestingHyStart),
    /// After it. HyStart++ is never asked again.
    Later { w_max: u32, cwnd_prior: u32 },
}

/// A [`NewReno`](super::NewReno).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingReno {
    pub(super) window: RestingWindow,
    pub(super) bytes_acked: u32,
}

/// A [`Dctcp`](super::Dctcp). Everything sent is acknowledged: the next acknowledgement ends its window of
/// observation, whatever that was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingDctcp {
    pub(super) reno: RestingReno,
    pub(super) alpha: u32,
    pub(super) bytes_acked: u32,
    pub(super) bytes_marked: u32,
}

impl Controller {
    /// The packed form; `None` while there is more to know.
    pub(crate) fn rest(&self, snd_una: u64) -> Option<Rested> {
        let window = match self {
            Controller::Cubic(cubic) => RestingController::Cubic(cubic.rest()?),
            Controller::NewReno(reno) => RestingController::NewReno(reno.rest()),
            Controller::Dctcp(dctcp) => RestingController::Dctcp(dctcp.rest(snd_una)?),
            Controller::Bbr(bbr) => return bbr.rest().map(Rested::Model),
        };
        Some(Rested::Window(window))
    }
}

impl RestingController {
    /// With segments of `smss` payload bytes, and slow start as it is without pacing.
    pub(crate) fn wake(&self, smss: u32, snd_una: u64) -> Controller {
        match self {
            RestingController::Cubic(cubic) => Controller::Cubic(cubic.wake(smss)),
            RestingController::NewReno(reno) => Controller::NewReno(reno.wake(smss)),
            RestingController::Dctcp(dctcp) => Controller::Dctcp(dctcp.wake(smss, snd_una)),
        }
    }
}

impl RestingBbr {
    /// The same after `delivered` bytes.
    pub(crate) fn wake_controller(&self, smss: u32, delivered: u64) -> Controller {
        Controller::Bbr(self.wake(smss, delivered))
    }
}

impl Window {
    pub(super) fn rest(&self) -> RestingWindow {
        RestingWindow {
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
            repair_bytes: self.repair_bytes,
        }
    }
}

impl RestingWindow {
    pub(super) fn wake(&self, smss: u32) -> Window {
        Window {
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
            repair_bytes: self.repair_bytes,
            ..Window::new(smss)
        }
    }
}

impl Cubic {
    fn rest(&self) -> Option<RestingCubic> {
        Some(RestingCubic {
            window: self.window.rest(),
            stage: match self.window.in_initial_slow_start() {
                true => Stage::Initial(self.hystart.rest()?),
                false => Stage::Later {
                    w_max: self.w_max,
                    cwnd_prior: self.cwnd_prior,
                },
            },
        })
    }
}

impl RestingCubic {
    fn wake(&self, smss: u32) -> Cubic {
        let (hystart, w_max, cwnd_prior) = match self.stage {
            Stage::Initial(hystart) => (HyStart::wake(&hystart), 0, 0),
            Stage::Later { w_max, cwnd_prior } => (HyStart::new(), w_max, cwnd_prior),
        };
        Cubic {
            window: self.window.wake(smss),
            w_max,
            cwnd_prior,
            epoch: None,
            hystart,
        }
    }
}
