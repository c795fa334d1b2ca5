//! The path MTU of a connection at rest: see [`crate::rest`].

use super::PathMtu;

/// What is left of a [`PathMtu`] with nothing in flight, so that nothing vanishes and no probe is out. What full
/// segments fill is known from SMSS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingPathMtu {
    probe_at_s: u32,
    ceiling: u16,
    refused: u16,
    lost_probes: u8,
    told: bool,
}

impl PathMtu {
    pub(crate) fn rest(&self) -> RestingPathMtu {
        RestingPathMtu {
            probe_at_s: self.probe_at_s,
            ceiling: self.ceiling,
            refused: self.refused,
            lost_probes: self.lost_probes,
            told: self.told,
        }
    }
}

impl RestingPathMtu {
    /// `mtu`: what full segments fill.
    pub(crate) fn wake(&self, mtu: u16, ipv6: bool) -> PathMtu {
        PathMtu {
            mtu,
            refused: self.refused,
            probe_at_s: self.probe_at_s,
            lost_probes: self.lost_probes,
            told: self.told,
            ..PathMtu::new(self.ceiling, ipv6)
        }
    }
}
