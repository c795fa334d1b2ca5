//! ICMP errors: to the connection whose segment they quote, wherever it lives.
//!
//! They come from routers, so the queue they lie on says nothing about the flow: who does not know it passes the
//! frame on around the ring of workers, like a segment. Whether to believe them is the stack's affair. Anybody can send
//! errors about flows that nobody has, so each worker passes on a bounded number of them: parcels are for live flows.

use core::net::SocketAddr;
use core::time::Duration;

use sluice_afxdp::RxPacket;
use sluice_tcp::clock::Instant;
use sluice_wire::{IcmpError, Icmpv4Message, Icmpv6Message, Packet};

use super::Worker;
use super::handoff::Parcel;

/// Errors about unknown flows that one worker passes on in a burst: an eighth of the parcels of its neighbour, enough for
/// every flow of a few dozen whose path has become narrower in the same moment.
const BURST: u32 = 64;
/// And one more after each such time: 10,000 in a second, some 0.3 % of a neighbour's core.
const EACH: Duration = Duration::from_micros(100);

/// How many errors about unknown flows may be passed on now: a bucket of [`BURST`] tokens, one more after every [`EACH`].
#[derive(Debug)]
pub(super) struct PassBudget {
    /// When the bucket is full again if nothing is taken. A token moves it by [`EACH`].
    full_at: Instant,
}

impl PassBudget {
    /// A full bucket.
    pub(super) const fn new(now: Instant) -> PassBudget {
        PassBudget { full_at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + EACH;
        let may = full_at.saturating_since(now) <= BURST * EACH;
        if may {
            self.full_at = full_at;
        }
        may
    }
}

/// The error in a packet, if it is one about a segment.
pub(super) fn quoting(packet: &Packet<'_>) -> Option<IcmpError> {
    match packet {
        Packet::Icmpv4(icmp) => match icmp.message {
            Icmpv4Message::Error(error) => Some(error),
            _ => None,
        },
        Packet::Icmpv6(icmp) => match icmp.message {
            Icmpv6Message::Error(error) => Some(error),
            _ => None,
        },
        _ => None,
    }
}

impl Worker {
    /// An error from the ring of this worker.
    pub(super) fn on_icmp(&mut self, error: &IcmpError, frame: &RxPacket<'_>, now: Instant) {
        let from = SocketAddr::new(error.quoted.src, error.quoted.src_port);
        if !self.config.endpoints.contains(&from) {
            self.counters.not_ours += 1;
        } else if self.stack.on_icmp(now, error).is_none() {
            self.pass_icmp_on(frame, now);
        }
    }

    fn pass_icmp_on(&mut self, frame: &RxPacket<'_>, now: Instant) {
        if self.handoff.is_none() {
            self.counters.icmp_strays += 1;
        } else if !self.icmp_budget.take(now) {
            self.counters.icmp_not_passed_on += 1;
        } else {
            self.pass_on(frame, now);
        }
    }

    /// An error that another worker passed on, who has checked that it is about an endpoint of ours. Gives the parcel back
    /// unless it travels on.
    pub(super) fn on_foreign_icmp(
        &mut self,
        error: &IcmpError,
        parcel: Box<Parcel>,
    ) -> Option<Box<Parcel>> {
        if self.stack.on_icmp(parcel.arrived, error).is_some() {
            return Some(parcel);
        }
        let seen_by_all = self.handoff.as_mut()?.pass_further(parcel)?;
        self.counters.icmp_strays += 1;
        Some(seen_by_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_error_at_a_time() {
        let mut now = Instant::from_nanos(5_000_000_000);
        let mut budget = PassBudget::new(now);
        let taken = |budget: &mut PassBudget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, now), BURST as usize);
        for _ in 0..10 {
            now = now + EACH;
            assert_eq!(taken(&mut budget, now), 1);
        }
        now = now + Duration::from_secs(60);
        assert_eq!(taken(&mut budget, now), BURST as usize);
    }
}
