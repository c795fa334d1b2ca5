//! The steering of a connection at rest: see [`crate::rest`].

use super::Control;
use crate::clock::Instant;
use crate::config::StackConfig;
use crate::congestion::{Controller, Rested, RestingBbr, RestingController, initial_window};
use crate::connection::hurry_slow_start;
use crate::delivery_rate::DeliveryRate;
use crate::ecn::{EcnState, RestingEcn};
use crate::ecn_terms::EcnTerms;
use crate::markers::Markers;
use crate::pacing::Pacer;
use crate::send::Sender;
use crate::validation::Validation;

/// What is left of congestion control and of a [`Control`].
///
/// Nothing of the pacer: by then everything has left at its rate, the rate follows from the window and the round
/// trip, and what is granted to a begin or a restart is granted then. Nothing of the use of the window, which begins
/// anew with a restart. The model of BBR lies where others have ECN, which BBR does not answer to.
#[derive(Debug)]
pub(crate) enum RestingControl {
    Window {
        ecn: RestingEcn,
        congestion: RestingController,
        is_paced: bool,
    },
    Model {
        bbr: RestingBbr,
        is_paced: bool,
        /// Flights have a bubble.
        is_app_limited: bool,
    },
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
    ) -> Option<RestingControl> {
        if self.repairing || !self.markers.is_empty() || !self.pacer.is_clear(now) {
            return None;
        }
        let ecn = self.ecn.rest(snd_una)?;
        let is_paced = self.pacer.rate() > 0;
        match congestion.rest(snd_una)? {
            Rested::Window(congestion) => Some(RestingControl::Window {
                ecn,
                congestion,
                is_paced,
            }),
            Rested::Model(_) if self.ecn.is_negotiated() => None,
            Rested::Model(bbr) => Some(RestingControl::Model {
                bbr,
                is_paced,
                is_app_limited: self.delivery.is_app_limited(),
            }),
        }
    }
}

impl RestingControl {
    /// The pacer had a rate.
    pub(crate) fn is_paced(&self) -> bool {
        match self {
            RestingControl::Window { is_paced, .. } | RestingControl::Model { is_paced, .. } => {
                *is_paced
            }
        }
    }

    /// Congestion control; `send` is the sending half.
    #[inline]
    pub(crate) fn wake_congestion(&self, send: &Sender, config: &StackConfig) -> Controller {
        let mut controller = match self {
            RestingControl::Window { congestion, .. } => congestion.wake(send.smss(), send.snd_una),
            // All that was sent was delivered.
            RestingControl::Model { bbr, .. } => bbr.wake_controller(send.smss(), send.snd_una),
        };
        hurry_slow_start(&mut controller, config);
        controller
    }

    /// All else.
    #[inline]
    pub(crate) fn wake(&self, send: &Sender) -> Control {
        let mut pacer = Pacer::new();
        if send.is_fresh() {
            pacer.grant(initial_window(send.smss()));
        }
        let (ecn, delivery) = match self {
            // The delivery rate is only measured for a model.
            RestingControl::Window { ecn, .. } => {
                (ecn.wake(send.snd_una), DeliveryRate::new(Instant::ZERO))
            }
            RestingControl::Model { is_app_limited, .. } => (
                EcnState::new(EcnTerms::None, false),
                DeliveryRate::resumed(send.snd_una, *is_app_limited),
            ),
        };
        Control {
            ecn,
            delivery,
            markers: Markers::new(),
            pacer,
            // What is sent next either begins a new period or is the first.
            validation: Validation::new(send.last_sent_at),
            repairing: false,
        }
    }
}
