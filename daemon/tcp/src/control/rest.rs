//! The steering of a connection at rest: see [`crate::rest`].

use super::Control;
use crate::clock::Instant;
use crate::config::StackConfig;
use crate::congestion::{Bbr, Controller, Rested, RestingController, initial_window};
use crate::connection::hurry_slow_start;
use crate::delivery_rate::DeliveryRate;
use crate::ecn::RestingEcn;
use crate::markers::Markers;
use crate::pacing::Pacer;
use crate::pool::Pool;
use crate::send::Sender;
use crate::validation::Validation;

/// What is left of congestion control and of a [`Control`].
///
/// Nothing of the pacer: by then everything has left at its rate, the rate follows from the window and the round
/// trip, and what is granted to a begin or a restart is granted then. Nothing of the use of the window, which begins
/// anew with a restart. The delivery rate is only measured for a model.
#[derive(Debug)]
pub(crate) struct RestingControl {
    ecn: RestingEcn,
    /// The pacer had a rate.
    pub is_paced: bool,
    congestion: Steering,
}

#[derive(Debug)]
enum Steering {
    Window(RestingController),
    Model(Box<Model>),
}

/// What outlives an idle period and is too large for one who does not need it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    bbr: Bbr,
    delivery: DeliveryRate,
}

impl Control {
    /// Nothing was ever sent, and the use of the window counts from `at`.
    pub(crate) fn is_new(&self, at: Instant) -> bool {
        self.validation.is_new(at)
    }

    /// The packed form; `None` while something is under way.
    pub(crate) fn rest(
        &self,
        congestion: &Controller,
        snd_una: u64,
        now: Instant,
        models: &mut Pool<Model>,
    ) -> Option<RestingControl> {
        if self.repairing || !self.markers.is_empty() || !self.pacer.is_clear(now) {
            return None;
        }
        Some(RestingControl {
            ecn: self.ecn.rest(snd_una)?,
            is_paced: self.pacer.rate() > 0,
            congestion: match congestion.rest(snd_una)? {
                Rested::Window(window) => Steering::Window(window),
                Rested::Model(bbr) => Steering::Model(models.hold(Model {
                    bbr: *bbr,
                    delivery: self.delivery,
                })),
            },
        })
    }
}

impl RestingControl {
    /// Congestion control; `send` is the sending half.
    #[inline]
    pub(crate) fn wake_congestion(&self, send: &Sender, config: &StackConfig) -> Controller {
        match &self.congestion {
            Steering::Window(window) => {
                let mut controller = window.wake(send.smss(), send.snd_una);
                hurry_slow_start(&mut controller, config);
                controller
            }
            Steering::Model(model) => Controller::Bbr(model.bbr),
        }
    }

    /// All else.
    #[inline]
    pub(crate) fn wake(&self, send: &Sender) -> Control {
        let mut pacer = Pacer::new();
        if send.is_fresh() {
            pacer.grant(initial_window(send.smss()));
        }
        Control {
            ecn: self.ecn.wake(),
            delivery: match &self.congestion {
                Steering::Window(_) => DeliveryRate::new(Instant::ZERO),
                Steering::Model(model) => model.delivery,
            },
            markers: Markers::new(),
            pacer,
            // What is sent next either begins a new period or is the first.
            validation: Validation::new(send.last_sent_at),
            repairing: false,
        }
    }

    /// Gives back what [`Control::rest`] took.
    pub(crate) fn release(self, models: &mut Pool<Model>) {
        if let Steering::Model(model) = self.congestion {
            models.give_back(model);
        }
    }
}
