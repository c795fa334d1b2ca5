//! From a segment's tuple to the connection that owns it: one lookup per received packet.
//!
//! Open addressing with linear probing over one array of 8-byte slots, at most half full, so a lookup touches one
//! cache line and a million connections take 16 MiB. The keys are where the flows are: who looks one up compares the
//! key with that of the candidate, which he is about to read anyway; hash bits in the slot keep strangers out of
//! that. The hash is SipHash-1-3 under a random key: a peer who picks his ports and addresses cannot aim at one
//! probe sequence. Removal shifts the followers back, so there are no tombstones and the table does not age.
//! Invariant: no empty slot lies between an entry and its home slot. Everything is allocated by
//! [`FlowTable::new`]; what the values mean is the caller's business.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

use siphasher::sip::SipHasher13;

/// The four-tuple of a connection, seen from this side.
///
/// 38 bytes. IPv4 and IPv6 stay apart: an IPv6 segment with a v4-mapped address is not the IPv4 flow of the
/// same digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    addresses: Addresses,
    local_port: u16,
    remote_port: u16,
}

/// Local address first, network byte order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Addresses {
    V4([u8; 8]),
    V6([u8; 32]),
}

impl FlowKey {
    /// What unused places of tables hold; no segment has it, since no port is 0 on both sides.
    pub(crate) const EMPTY: FlowKey = FlowKey {
        addresses: Addresses::V4([0; 8]),
        local_port: 0,
        remote_port: 0,
    };

    /// The flow between our `local` end and the peer's `remote` end.
    ///
    /// Both addresses of an IP packet are of one family. Should a caller mix them, the IPv4 one is stored
    /// (and given back) in its v4-mapped IPv6 form.
    #[must_use]
    pub fn new(local: IpAddr, local_port: u16, remote: IpAddr, remote_port: u16) -> FlowKey {
        let addresses = match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                Addresses::V4(join(&local.octets(), &remote.octets()))
            }
            _ => Addresses::V6(join(&widen(local).octets(), &widen(remote).octets())),
        };
        FlowKey {
            addresses,
            local_port,
            remote_port,
        }
    }

    /// Our address.
    #[must_use]
    pub fn local(&self) -> IpAddr {
        match &self.addresses {
            Addresses::V4(both) => IpAddr::from(half::<8, 4>(both, 0)),
            Addresses::V6(both) => IpAddr::from(half::<32, 16>(both, 0)),
        }
    }

    /// The peer's address.
    #[must_use]
    pub fn remote(&self) -> IpAddr {
        match &self.addresses {
            Addresses::V4(both) => IpAddr::from(half::<8, 4>(both, 1)),
            Addresses::V6(both) => IpAddr::from(half::<32, 16>(both, 1)),
        }
    }

    /// Our port.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// The peer's port.
    #[must_use]
    pub fn remote_port(&self) -> u16 {
        self.remote_port
    }

    /// The bytes to hash: 12 for IPv4 (two SipHash blocks with the length), 36 for IPv6 (five). SipHash
    /// includes the length, so the two families cannot collide by construction.
    pub(crate) fn digest(&self) -> Digest {
        let [[a, b], [c, d]] = [self.local_port, self.remote_port].map(u16::to_be_bytes);
        let ports = [a, b, c, d];
        let mut bytes = [0; 36];
        let len = match &self.addresses {
            Addresses::V4(both) => {
                bytes[..8].copy_from_slice(both);
                bytes[8..12].copy_from_slice(&ports);
                12
            }
            Addresses::V6(both) => {
                bytes[..32].copy_from_slice(both);
                bytes[32..].copy_from_slice(&ports);
                36
            }
        };
        Digest { bytes, len }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, remote) = (self.local(), self.remote());
        write!(
            f,
            "[{local}]:{} <- [{remote}]:{}",
            self.local_port, self.remote_port
        )
    }
}

/// A [`FlowKey`] laid out for a keyed hash.
pub(crate) struct Digest {
    bytes: [u8; 36],
    len: usize,
}

impl Digest {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The table holds its maximum of flows. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFull;

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the flow table holds its maximum of flows")
    }
}

impl core::error::Error for TableFull {}

/// How far entries lie from their home slots. See [`FlowTable::probe_stats`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProbeStats {
    /// New entries by the number of slots tried: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more.
    pub inserts_by_probes: [u64; 8],
    /// The most slots any insertion had to try.
    pub longest: u32,
}

impl ProbeStats {
    fn record(&mut self, probes: u32) {
        let class = usize::try_from((probes.max(1) - 1).checked_ilog2().map_or(0, |log| log + 1))
            .unwrap_or(7);
        self.inserts_by_probes[class.min(7)] += 1;
        self.longest = self.longest.max(probes);
    }
}

/// Bit 31 of a slot's tag: the slot is taken. The other 31 bits are hash bits.
const TAKEN: u32 = 1 << 31;

#[derive(Clone, Copy)]
struct Slot {
    /// 0 if empty. Kept so that removal can find an entry's home without hashing again, and so that a probe asks
    /// for the key of a stranger only once in 2^31.
    tag: u32,
    value: u32,
}

const EMPTY: Slot = Slot { tag: 0, value: 0 };

/// Fixed-capacity map from [`FlowKey`] to a `u32` that names the flow and leads to its key. See the module documentation.
pub struct FlowTable {
    slots: Box<[Slot]>,
    hasher: SipHasher13,
    len: u32,
    max_flows: u32,
    probe_stats: ProbeStats,
}

impl FlowTable {
    /// A table for at most `max_flows` flows (at least 1 and at most 2^29 are made of it), hashed under
    /// `key`, which must come from the system's random source.
    ///
    /// Memory: 8 bytes for each of 2 to 4 slots per flow (the next power of two).
    #[must_use]
    pub fn new(max_flows: u32, key: [u8; 16]) -> FlowTable {
        let max_flows = max_flows.clamp(1, 1 << 29);
        let slots = (max_flows * 2).next_power_of_two() as usize;
        FlowTable {
            slots: vec![EMPTY; slots].into_boxed_slice(),
            hasher: SipHasher13::new_with_key(&key),
            len: 0,
            max_flows,
            probe_stats: ProbeStats::default(),
        }
    }

    /// The value of `key`: the one for which `has_key` says that it is the flow of `key`. It is asked about values
    /// in the table only, and hardly ever about another than the right one.
    #[must_use]
    pub fn get(&self, key: &FlowKey, has_key: impl Fn(u32) -> bool) -> Option<u32> {
        let index = self.find(self.tag(key), has_key)?;
        Some(self.slots[index].value)
    }

    /// Adds a flow. The caller has found that neither `key` nor `value` is in the table.
    ///
    /// # Errors
    /// [`TableFull`] if the table holds `max_flows` entries; nothing is changed.
    pub fn insert(&mut self, key: &FlowKey, value: u32) -> Result<(), TableFull> {
        if self.len == self.max_flows {
            return Err(TableFull);
        }
        let tag = self.tag(key);
        let mut index = self.home(tag);
        let mut probes = 1;
        while self.slots[index].tag != 0 {
            index = (index + 1) & self.mask();
            probes += 1;
        }
        self.slots[index] = Slot { tag, value };
        self.len += 1;
        self.probe_stats.record(probes);
        Ok(())
    }

    /// Removes the flow of `key` that has `value`; true if it was there.
    pub fn remove(&mut self, key: &FlowKey, value: u32) -> bool {
        let Some(index) = self.find(self.tag(key), |candidate| candidate == value) else {
            return false;
        };
        self.close_gap(index);
        self.len -= 1;
        true
    }

    /// Number of flows in the table.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// No flow is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most flows the table takes.
    #[must_use]
    pub fn max_flows(&self) -> u32 {
        self.max_flows
    }

    /// Probe lengths of all insertions so far: the proof that the hash spreads and the load is right.
    #[must_use]
    pub fn probe_stats(&self) -> &ProbeStats {
        &self.probe_stats
    }

    /// The values of all flows, in no particular order. Walks the whole array: for control, not for packets.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .filter(|slot| slot.tag != 0)
            .map(|slot| slot.value)
    }

    fn tag(&self, key: &FlowKey) -> u32 {
        let hash = self.hasher.hash(key.digest().as_slice());
        (hash >> 32) as u32 | TAKEN
    }

    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// At most 2^30 slots, so the TAKEN bit is never part of the index.
    fn home(&self, tag: u32) -> usize {
        tag as usize & self.mask()
    }

    /// Ends because at least half of the slots are empty.
    fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mut index = self.home(tag);
        loop {
            let slot = &self.slots[index];
            if slot.tag == 0 {
                return None;
            }
            if slot.tag == tag && is_it(slot.value) {
                return Some(index);
            }
            index = (index + 1) & self.mask();
        }
    }

    /// Backward-shift deletion: pulls each follower that does not sit at or behind its home into the gap,
    /// which then moves to where the follower was.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.mask();
        let mut index = gap;
        loop {
            index = (index + 1) & mask;
            let slot = self.slots[index];
            if slot.tag == 0 {
                break;
            }
            let from_home = index.wrapping_sub(self.home(slot.tag)) & mask;
            let from_gap = index.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.slots[gap] = slot;
                gap = index;
            }
        }
        self.slots[gap] = EMPTY;
    }
}

impl fmt::Debug for FlowTable {
    /// Sizes only: the hash key stays out of logs, and a million flows too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable")
            .field("len", &self.len)
            .field("max_flows", &self.max_flows)
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

fn widen(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn join<const HALF: usize, const BOTH: usize>(
    first: &[u8; HALF],
    second: &[u8; HALF],
) -> [u8; BOTH] {
    let mut both = [0; BOTH];
    both[..HALF].copy_from_slice(first);
    both[HALF..].copy_from_slice(second);
    both
}

fn half<const BOTH: usize, const HALF: usize>(both: &[u8; BOTH], which: usize) -> [u8; HALF] {
    let mut one = [0; HALF];
    one.copy_from_slice(&both[which * HALF..][..HALF]);
    one
}

#[cfg(test)]
mod tests;
