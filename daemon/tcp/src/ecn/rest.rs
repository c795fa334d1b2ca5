//! ECN of a connection at rest: see [`crate::rest`].

use super::{Classic, EcnState, Feedback};
use crate::accecn::RestingAccEcn;
use crate::ecn_terms::{EcnLevel, EcnTerms};

/// An [`EcnState`] without what the handshake needed, with nothing in flight: all congestion has been answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingEcn {
    feedback: RestingFeedback,
    marking: bool,
    proven: bool,
    ect_next: bool,
    /// An echo before anything is sent would be about congestion that was answered.
    is_answered: bool,
}

#[derive(Clone, Copy, Debug)]
enum RestingFeedback {
    None,
    Classic(Classic),
    Accurate(RestingAccEcn),
}

impl EcnState {
    /// The packed form; `None` while an answer to congestion is about more than what is below `snd_una`.
    pub(crate) fn rest(&self, snd_una: u64) -> Option<RestingEcn> {
        if self.is_holding(snd_una) || self.answered_until > snd_una + 1 {
            return None;
        }
        Some(RestingEcn {
            feedback: match &self.feedback {
                Feedback::None => RestingFeedback::None,
                Feedback::Classic(classic) => RestingFeedback::Classic(*classic),
                Feedback::Accurate(accurate) => RestingFeedback::Accurate(accurate.rest()?),
            },
            marking: self.marking,
            proven: self.proven,
            ect_next: self.ect_next,
            is_answered: self.answered_until > snd_una,
        })
    }
}

impl RestingEcn {
    pub(crate) fn wake(&self, snd_una: u64) -> EcnState {
        EcnState {
            feedback: match &self.feedback {
                RestingFeedback::None => Feedback::None,
                RestingFeedback::Classic(classic) => Feedback::Classic(*classic),
                RestingFeedback::Accurate(accurate) => Feedback::Accurate(accurate.wake()),
            },
            // No SYN will leave any more.
            terms: EcnTerms::None,
            offered: EcnLevel::Off,
            withdrawn: false,
            marking: self.marking,
            proven: self.proven,
            ect_next: self.ect_next,
            answered_until: if self.is_answered { snd_una + 1 } else { 0 },
            held_until: 0,
        }
    }
}
