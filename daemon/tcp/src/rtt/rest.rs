//! The round-trip estimate of a connection at rest: see [`crate::rest`].

use super::{RtoConfig, RttEstimator};
use crate::rest::ShortNanos;

/// An [`RttEstimator`] without its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingRtt {
    /// `u64::MAX` without a sample.
    srtt: ShortNanos,
    rttvar: ShortNanos,
    min_rtt: ShortNanos,
    latest: ShortNanos,
    base_rto: ShortNanos,
    back_offs: u8,
}

impl RttEstimator {
    /// The packed form; `None` with a round trip beyond all use.
    pub(crate) fn rest(&self) -> Option<RestingRtt> {
        let srtt_ns = if self.has_sample {
            self.srtt_ns
        } else {
            u64::MAX
        };
        Some(RestingRtt {
            srtt: ShortNanos::new(srtt_ns)?,
            rttvar: ShortNanos::new(self.rttvar_ns)?,
            min_rtt: ShortNanos::new(self.min_rtt_ns)?,
            latest: ShortNanos::new(self.latest_ns)?,
            base_rto: ShortNanos::new(self.base_rto_ns)?,
            back_offs: u8::try_from(self.back_offs).ok()?,
        })
    }
}

impl RestingRtt {
    pub(crate) fn wake(&self, config: RtoConfig) -> RttEstimator {
        let srtt_ns = self.srtt.get();
        let has_sample = srtt_ns != u64::MAX;
        RttEstimator {
            srtt_ns: if has_sample { srtt_ns } else { 0 },
            rttvar_ns: self.rttvar.get(),
            min_rtt_ns: self.min_rtt.get(),
            latest_ns: self.latest.get(),
            base_rto_ns: self.base_rto.get(),
            has_sample,
            back_offs: self.back_offs.into(),
            ..RttEstimator::new(config)
        }
    }
}
