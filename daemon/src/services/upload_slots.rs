//! Slots for uploads, and who may have one more.
//!
//! A slot is held as long as its client goes on to send, however slowly `limits.min_rate` allows. So that no network can
//! hold them all, it gets another one only while it holds fewer than are free: one alone comes to half of them, and of
//! what is left the next has half again. Nothing is taken back, and nothing has to be configured.

use core::net::IpAddr;

/// The network that a connection comes from: a /24 of IPv4, a /64 of IPv6, since a host has a whole one of these to
/// choose its addresses from (RFC 4291 section 2.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source(u64);

impl Source {
    /// Nobody in particular: gets a slot while one is free. No network is taken for it: below `::/64` are only the
    /// unspecified and the loopback address.
    pub(crate) const UNKNOWN: Source = Source(0);

    pub(crate) fn of(peer: IpAddr) -> Source {
        match peer.to_canonical() {
            // Below `::/32`, which no host has.
            IpAddr::V4(address) => Source(1 << 24 | u64::from(address.to_bits() >> 8)),
            // 64 bits are left of 128.
            IpAddr::V6(address) => Source(u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
        }
    }
}

/// How many are held, and by whom.
#[derive(Debug)]
pub(crate) struct UploadSlots {
    most: usize,
    taken: usize,
    /// Of every network that holds some. As long as there are slots at most, and looked through once for an upload.
    holders: Vec<(Source, usize)>,
}

impl UploadSlots {
    pub(crate) fn new(most: usize) -> UploadSlots {
        UploadSlots {
            most,
            taken: 0,
            holders: Vec::with_capacity(most),
        }
    }

    /// Whether [`Self::take`] would give one.
    pub(crate) fn has_one_for(&self, source: Source) -> bool {
        let free = self.most - self.taken;
        free > 0 && self.held_by(source) < free
    }

    /// Takes a slot, if there is one for `source`.
    pub(crate) fn take(&mut self, source: Source) -> bool {
        if !self.has_one_for(source) {
            return false;
        }
        self.taken += 1;
        if source != Source::UNKNOWN {
            match self
                .holders
                .iter_mut()
                .find(|(holder, _)| *holder == source)
            {
                Some((_, held)) => *held += 1,
                None => self.holders.push((source, 1)),
            }
        }
        true
    }

    /// Gives back one that `source` took.
    pub(crate) fn give_back(&mut self, source: Source) {
        self.taken = self.taken.saturating_sub(1);
        let at = self
            .holders
            .iter()
            .position(|(holder, _)| *holder == source);
        if let Some(at) = at {
            self.holders[at].1 -= 1;
            if self.holders[at].1 == 0 {
                self.holders.swap_remove(at);
            }
        }
    }

    fn held_by(&self, source: Source) -> usize {
        let holder = self.holders.iter().find(|(holder, _)| *holder == source);
        holder.map_or(0, |(_, held)| *held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().expect("an address"))
    }

    /// Takes as many as it can get.
    fn take_all(slots: &mut UploadSlots, source: Source) -> usize {
        let mut taken = 0;
        while slots.take(source) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn one_network_gets_half_of_the_slots_and_the_next_half_of_the_rest() {
        let mut slots = UploadSlots::new(256);
        assert_eq!(take_all(&mut slots, source("192.0.2.1")), 128);
        assert_eq!(take_all(&mut slots, source("192.0.2.200")), 0, "the same");
        assert_eq!(take_all(&mut slots, source("198.51.100.1")), 64);
        assert_eq!(take_all(&mut slots, source("2001:db8::1")), 32);
        assert_eq!(take_all(&mut slots, source("2001:db8::ffff:0:0:2")), 0);
        assert_eq!(take_all(&mut slots, source("2001:db8:0:1::1")), 16);
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let mut slots = UploadSlots::new(4);
        let one = source("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(take_all(&mut slots, one), 2);
            slots.give_back(one);
            slots.give_back(one);
        }
        assert!(slots.holders.is_empty());
        assert_eq!(take_all(&mut slots, Source::UNKNOWN), 4);
    }

    #[test]
    fn a_single_slot_is_for_anybody() {
        let mut slots = UploadSlots::new(1);
        assert!(slots.take(source("192.0.2.1")));
        assert!(!slots.take(source("198.51.100.1")));
        let mut none = UploadSlots::new(0);
        assert!(!none.take(Source::UNKNOWN));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_is_of_its_ipv4_network() {
        assert_eq!(source("::ffff:192.0.2.9"), source("192.0.2.1"));
        assert_ne!(source("0.0.0.0"), Source::UNKNOWN);
    }
}
