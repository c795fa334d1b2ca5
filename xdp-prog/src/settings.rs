//! What changes while the program runs: the Rust copy of `struct sluice_settings`.

/// Bytes of `struct sluice_settings`.
pub(crate) const SETTINGS_BYTES: usize = 56;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// A bucket that was not used holds this part of a second of its rate: what arrives between two ticks of a sender's
/// clock, or after a pause, is no flood.
const BURST_PART: u64 = 4;

/// The rates beyond which SYNs are dropped while the gate is armed. All buckets hold a quarter of a second of their
/// rate, at least one SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynGate {
    /// SYNs per second and receive queue, at least 1.
    pub per_queue: u32,
    /// SYNs per second and source network (/24 of IPv4, /64 of IPv6), at least 1.
    pub per_source: u32,
    /// Further SYNs per second and receive queue, at least 1: those that were dropped and come again 0.8 to 3.7 s later.
    pub repeats: u32,
}

/// `struct sluice_settings`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settings {
    pub enabled: bool,
    pub syn_gate: Option<SynGate>,
}

impl Settings {
    /// As the program reads them.
    pub(crate) fn to_bytes(self) -> [u8; SETTINGS_BYTES] {
        let mut bytes = [0; SETTINGS_BYTES];
        bytes[..4].copy_from_slice(&u32::from(self.enabled).to_ne_bytes());
        if let Some(gate) = self.syn_gate {
            bytes[4..8].copy_from_slice(&1u32.to_ne_bytes());
            for (rate, at) in [
                (gate.per_queue, 8),
                (gate.per_source, 24),
                (gate.repeats, 40),
            ] {
                let (interval_ns, burst_ns) = bucket(rate);
                bytes[at..at + 8].copy_from_slice(&interval_ns.to_ne_bytes());
                bytes[at + 8..at + 16].copy_from_slice(&burst_ns.to_ne_bytes());
            }
        }
        bytes
    }
}

/// What a SYN costs, and what a bucket may be ahead by: one SYN less than its burst, since the first of them is paid
/// for when it comes.
fn bucket(per_second: u32) -> (u64, u64) {
    let rate = u64::from(per_second.max(1));
    let interval_ns = NS_PER_SECOND / rate;
    let burst = (rate / BURST_PART).max(1);
    (interval_ns, (burst - 1) * interval_ns)
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;
    use crate::skeleton::types::sluice_settings;

    #[test]
    fn settings_have_the_layout_that_the_c_compiler_gave_them() {
        assert_eq!(size_of::<sluice_settings>(), SETTINGS_BYTES);
        assert_eq!(offset_of!(sluice_settings, enabled), 0);
        assert_eq!(offset_of!(sluice_settings, syn_gate), 4);
        assert_eq!(offset_of!(sluice_settings, queue_interval_ns), 8);
        assert_eq!(offset_of!(sluice_settings, queue_burst_ns), 16);
        assert_eq!(offset_of!(sluice_settings, source_interval_ns), 24);
        assert_eq!(offset_of!(sluice_settings, source_burst_ns), 32);
        assert_eq!(offset_of!(sluice_settings, repeat_interval_ns), 40);
        assert_eq!(offset_of!(sluice_settings, repeat_burst_ns), 48);
    }

    #[test]
    fn a_bucket_holds_a_quarter_of_a_second_and_at_least_one_syn() {
        assert_eq!(bucket(1000), (1_000_000, 249_000_000));
        assert_eq!(bucket(4), (250_000_000, 0));
        assert_eq!(bucket(1), (NS_PER_SECOND, 0));
        assert_eq!(bucket(0), bucket(1));
        assert_eq!(bucket(u32::MAX).0, 0, "as good as no limit");
    }

    #[test]
    fn disarmed_settings_hold_no_rates() {
        let settings = Settings {
            enabled: true,
            syn_gate: None,
        };
        let bytes = settings.to_bytes();
        assert_eq!(bytes[..4], 1u32.to_ne_bytes());
        assert!(bytes[4..].iter().all(|byte| *byte == 0));
    }
}
