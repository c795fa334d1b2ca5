//! The round-trip estimate of a connection at rest: see [`crate::rest`].

use super::{RtoConfig, RttEstimator};

/// An [`RttEstimator`] without its configuration and its newest sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingRtt {
    srtt_ns: u64,
    rttvar_ns: u64,
    min_rtt_ns: u64,
    base_rto_ns: u64,
    back_offs: u32,
    has_sample: bool,
}

impl RttEstimator {
    pub(crate) fn rest(&self) -> RestingRtt {
        RestingRtt {
            srtt_ns: self.srtt_ns,
            rttvar_ns: self.rttvar_ns,
            min_rtt_ns: self.min_rtt_ns,
            base_rto_ns: self.base_rto_ns,
            back_offs: self.back_offs,
            has_sample: self.has_sample,
        }
    }
}

impl RestingRtt {
    pub(crate) fn wake(&self, config: RtoConfig) -> RttEstimator {
        RttEstimator {
            srtt_ns: self.srtt_ns,
            rttvar_ns: self.rttvar_ns,
            min_rtt_ns: self.min_rtt_ns,
            // Nobody asks for the newest sample of a connection that slept.
            latest_ns: self.srtt_ns,
            base_rto_ns: self.base_rto_ns,
            has_sample: self.has_sample,
            back_offs: self.back_offs,
            ..RttEstimator::new(config)
        }
    }
}
