//! Loss recovery of a connection at rest: see [`crate::rest`].

use super::Loss;
use crate::outstanding::Learnt;
use crate::rack::Tolerance;

/// What is left of a [`Loss`] with nothing in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingLoss {
    telling_from: u64,
    tolerance: Tolerance,
    sack: bool,
}

impl Loss {
    /// The packed form; `None` while something is in flight or awaited.
    pub(crate) fn rest(&self) -> Option<RestingLoss> {
        self.outstanding.is_none().then_some(RestingLoss {
            telling_from: self.learnt.telling_from,
            tolerance: self.learnt.tolerance,
            sack: self.sack,
        })
    }
}

impl RestingLoss {
    /// `snd_una`: where the record begins.
    pub(crate) fn wake(&self, snd_una: u64) -> Loss {
        Loss {
            sack: self.sack,
            learnt: Learnt {
                snd_una,
                tolerance: self.tolerance,
                telling_from: self.telling_from,
            },
            outstanding: None,
        }
    }

    pub(crate) fn sack(&self) -> bool {
        self.sack
    }
}
