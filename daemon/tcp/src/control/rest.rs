//! The steering of a connection at rest: see [`crate::rest`].

use super::Control;
use crate::clock::Instant;
use crate::congestion::{Bbr, Controller, RestingController, initial_window};
use crate::delivery_rate::DeliveryRate;
use crate::ecn::EcnState;
use crate::markers::Markers;
use crate::pacing::Pacer;
use crate::pool::Pool;
use crate::send::Sender;
use crate::validation::RestingValidation;

/// What is left of congestion control and of a [`Control`].
///
/// Nothing of the pacer: by then everything has left at its rate, the rate follows from the window and the round
/// trip, and what is granted to a begin or a restart is granted then. The delivery rate is only measured for a model.
#[derive(Debug)]
pub(crate) struct RestingControl {
    pub ecn: EcnState,
    validation: RestingValidation,
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
    /// The packed form; `None` while something is under way.
    pub(crate) fn rest(
        &self,
        congestion: &Controller,
        now: Instant,
        models: &mut Pool<Model>,
    ) -> Option<RestingControl> {
        if self.repairing || !self.markers.is_empty() || !self.pacer.is_clear(now) {
            return None;
        }
        Some(RestingControl {
            ecn: self.ecn,
            validation: self.validation.rest(),
            is_paced: self.pacer.rate() > 0,
            congestion: match congestion.rest() {
                Ok(window) => Steering::Window(window),
                Err(bbr) => Steering::Model(models.hold(Model {
                    bbr: *bbr,
                    delivery: self.delivery,
                })),
            },
        })
    }
}

impl RestingControl {
    /// `send` is the sending half.
    pub(crate) fn wake(&self, send: &Sender) -> (Controller, Control) {
        let (congestion, delivery) = match &self.congestion {
            Steering::Window(window) => (window.wake(), DeliveryRate::new(Instant::ZERO)),
            Steering::Model(model) => (Controller::Bbr(model.bbr), model.delivery),
        };
        let mut pacer = Pacer::new();
        if send.is_fresh() {
            pacer.grant(initial_window(send.smss()));
        }
        let control = Control {
            ecn: self.ecn,
            delivery,
            markers: Markers::new(),
            pacer,
            validation: self.validation.wake(send.snd_una),
            repairing: false,
        };
        (congestion, control)
    }

    /// Gives back what [`Control::rest`] took.
    pub(crate) fn release(self, models: &mut Pool<Model>) {
        if let Steering::Model(model) = self.congestion {
            models.give_back(model);
        }
    }
}
