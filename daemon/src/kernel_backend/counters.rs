//! What the kernel backend counts beside the application's counters.

/// Counters of connections. Every number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused because all slots were busy.
    pub refused_full: u64,
    /// Connections refused because the process, or the machine, had no descriptor left.
    pub refused_descriptors: u64,
    /// Idle connections closed to make room for new ones.
    pub evicted_idle: u64,
    /// Connections that the peer, or the network, broke.
    pub reset_by_peer: u64,
    /// Connections reset because a response could not be completed.
    pub reset_by_us: u64,
    /// Connections reset because the peer took no bytes.
    pub reset_stalled: u64,
    /// Connections reset at the drain deadline.
    pub reset_by_drain: u64,
}

impl KernelCounters {
    /// Every counter with its name, in the order tables show them.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, u64); 8] {
        [
            ("accepted", self.accepted),
            ("refused, full", self.refused_full),
            ("refused, descriptors", self.refused_descriptors),
            ("evicted idle", self.evicted_idle),
            ("reset by peer", self.reset_by_peer),
            ("reset by us", self.reset_by_us),
            ("reset, stalled", self.reset_stalled),
            ("reset, drain deadline", self.reset_by_drain),
        ]
    }

    /// Adds the counts of another worker.
    pub fn merge(&mut self, other: &KernelCounters) {
        let KernelCounters {
            accepted,
            refused_full,
            refused_descriptors,
            evicted_idle,
            reset_by_peer,
            reset_by_us,
            reset_stalled,
            reset_by_drain,
        } = other;
        self.accepted += accepted;
        self.refused_full += refused_full;
        self.refused_descriptors += refused_descriptors;
        self.evicted_idle += evicted_idle;
        self.reset_by_peer += reset_by_peer;
        self.reset_by_us += reset_by_us;
        self.reset_stalled += reset_stalled;
        self.reset_by_drain += reset_by_drain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_every_row() {
        let one = KernelCounters {
            accepted: 1,
            refused_full: 2,
            refused_descriptors: 3,
            evicted_idle: 4,
            reset_by_peer: 5,
            reset_by_us: 6,
            reset_stalled: 7,
            reset_by_drain: 8,
        };
        let mut sum = one;
        sum.merge(&one);
        for ((name, single), (_, double)) in one.rows().into_iter().zip(sum.rows()) {
            assert!(single > 0);
            assert_eq!(double, 2 * single, "{name}");
        }
    }
}
