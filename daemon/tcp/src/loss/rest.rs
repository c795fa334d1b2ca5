//! Loss recovery of a connection at rest: see [`crate::rest`].

use super::Loss;
use crate::outstanding::Learnt;
use crate::rack::Tolerance;
use crate::tail_probe::TailProbe;

/// What is left of a [`Loss`] with nothing in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingLoss {
    tolerance: Tolerance,
    /// Duplicates tell nothing before SND.UNA has moved.
    is_deaf: bool,
    sack: bool,
    probe_pending: bool,
    probe_unsampled: bool,
}

impl Loss {
    /// The packed form; `None` while something is in flight, or its memory was not given back yet.
    pub(crate) fn rest(&self, snd_una: u64) -> Option<RestingLoss> {
        let telling_from = self.learnt.telling_from;
        if self.outstanding.is_some() || telling_from > snd_una + 1 {
            return None;
        }
        Some(RestingLoss {
            tolerance: self.learnt.tolerance,
            is_deaf: telling_from > snd_una,
            sack: self.sack,
            probe_pending: self.learnt.probe.is_pending(),
            probe_unsampled: self.learnt.probe.is_unsampled(),
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
                // What lies below is the same as 0.
                telling_from: if self.is_deaf { snd_una + 1 } else { 0 },
                probe: if self.probe_pending {
                    TailProbe::unaccounted(snd_una, self.probe_unsampled)
                } else {
                    TailProbe::default()
                },
            },
            outstanding: None,
        }
    }

    pub(crate) fn sack(&self) -> bool {
        self.sack
    }
}
