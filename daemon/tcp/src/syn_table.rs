//! Half-open handshakes: 64 bytes each beside their index, bounded, no allocation after construction.
//!
//! An entry waits in one of several lists. There is a list per number of repeats, and since every entry of a list
//! waits equally long (1, 2, 4... s, RFC 6298 section 5.5), each is in the order of its deadlines and replaces a
//! timer per entry. What is due for transmission waits in a list of its own until the driver asks. Entries are
//! counted by source (/32 of IPv4, /64 of IPv6); two sources may share a counter, which costs the second one no
//! more than a cookie. What a segment means to an entry is decided in `listener`.

use core::net::IpAddr;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use crate::clock::Instant;
use crate::config::SYN_ACK_REPEATS_MAX;
use crate::ecn_terms::EcnTerms;
use crate::flow_table::{FlowKey, FlowTable};
use crate::handshake::{Handshake, Offer, SynAck};
use crate::rtt::RtoConfig;
use crate::seq::SeqNumber;

/// Entries at most: links have 16 bits.
pub(crate) const CAPACITY_MAX: u32 = NONE as u32;

const NONE: u16 = u16::MAX;
/// A waiting list for each number of repeats from 0 to the maximum.
const WAITING: usize = SYN_ACK_REPEATS_MAX as usize + 1;
/// Due for transmission.
const DUE: usize = WAITING;
/// Not in use.
const FREE: usize = WAITING + 1;
const LISTS: usize = WAITING + 2;

/// Names an entry while it lives. The generation tells a reused place from its former owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId {
    pub index: u16,
    pub generation: u16,
}

/// What is to be sent for an entry that is due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// The SYN-ACK; `repeated` if the timer asked for it.
    SynAck {
        handshake: Handshake,
        repeated: bool,
    },
    /// A RST; the entry is gone.
    Reset(Handshake),
}

/// Entries that a call of [`SynTable::expire`] gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    /// After all their repeats.
    pub timed_out: u32,
    /// Before, because room was needed.
    pub evicted: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    key: FlowKey,
    mss: u16,
    irs: u32,
    iss: u32,
    ts_recent: u32,
    /// What was agreed on ECN in the high four bits; below them the low bits of the microseconds at which the last
    /// SYN-ACK left. They are unique for four minutes, an entry lives for one.
    ecn_and_sent_at_us: u32,
    next: u16,
    previous: u16,
    generation: u16,
    options: u8,
    status: u8,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    // `options`: the window scale, 15 for none, and what else the SYN offered.
    const SCALE_MASK: u8 = 0x0f;
    const SACK: u8 = 0x10;
    const TIMESTAMPS: u8 = 0x40;

    // `status`: repeats by the timer in the low bits.
    const REPEATS_MASK: u8 = 0x07;
    /// In list `DUE`.
    const IS_DUE: u8 = 0x08;
    /// At least one SYN-ACK left.
    const SENT: u8 = 0x10;
    /// More than one did.
    const SENT_AGAIN: u8 = 0x20;
    /// Answered an unacceptable segment since the last SYN-ACK of the timer.
    const CHALLENGED: u8 = 0x40;
    /// Due for a RST, and gone with it.
    const RESET: u8 = 0x80;

    const VACANT: Entry = Entry {
        key: FlowKey::EMPTY,
        mss: 0,
        irs: 0,
        iss: 0,
        ts_recent: 0,
        ecn_and_sent_at_us: 0,
        next: NONE,
        previous: NONE,
        generation: 0,
        options: 0,
        status: 0,
    };

    /// Of `ecn_and_sent_at_us`.
    const TIME_MASK: u32 = (1 << Self::TIME_BITS) - 1;
    const TIME_BITS: u32 = 28;

    fn ecn(&self) -> EcnTerms {
        // Four bits.
        let bits = u8::try_from(self.ecn_and_sent_at_us >> Self::TIME_BITS);
        EcnTerms::from_bits(bits.unwrap_or(0))
    }

    fn set_ecn(&mut self, terms: EcnTerms) {
        let bits = u32::from(terms.to_bits()) << Self::TIME_BITS;
        self.ecn_and_sent_at_us = self.ecn_and_sent_at_us & Self::TIME_MASK | bits;
    }

    fn set_sent_at_us(&mut self, low: u32) {
        self.ecn_and_sent_at_us =
            self.ecn_and_sent_at_us & !Self::TIME_MASK | low & Self::TIME_MASK;
    }

    fn repeats(&self) -> u8 {
        self.status & Self::REPEATS_MASK
    }

    fn has(&self, bit: u8) -> bool {
        self.status & bit != 0
    }

    /// The list that a live entry is in.
    fn list(&self) -> usize {
        if self.has(Self::IS_DUE) {
            DUE
        } else {
            usize::from(self.repeats())
        }
    }

    fn offer(&self) -> Offer {
        let scale = self.options & Self::SCALE_MASK;
        Offer {
            mss: self.mss,
            window_scale: (scale != Self::SCALE_MASK).then_some(scale),
            sack: self.options & Self::SACK != 0,
            ecn: self.ecn(),
            timestamp: (self.options & Self::TIMESTAMPS != 0).then_some(self.ts_recent),
        }
    }

    fn options_of(offer: &Offer) -> u8 {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        (offer.window_scale.unwrap_or(Self::SCALE_MASK) & Self::SCALE_MASK)
            | bit(offer.sack, Self::SACK)
            | bit(offer.timestamp.is_some(), Self::TIMESTAMPS)
    }
}

#[derive(Clone, Copy)]
struct List {
    head: u16,
    tail: u16,
}

/// The half-open handshakes of one stack.
pub(crate) struct SynTable {
    entries: Box<[Entry]>,
    index: FlowTable,
    lists: [List; LISTS],
    waits: [Duration; WAITING],
    sources: Sources,
    /// The latest time anybody told: what the short times of entries are relative to.
    newest: Instant,
}

impl SynTable {
    /// A table for `capacity` handshakes, at least 1 and at most [`CAPACITY_MAX`].
    pub(crate) fn new(capacity: u32, hash_key: [u8; 16], rto: &RtoConfig, now: Instant) -> Self {
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        let mut table = SynTable {
            entries: vec![Entry::VACANT; capacity as usize].into_boxed_slice(),
            index: FlowTable::new(capacity, hash_key),
            lists: [List {
                head: NONE,
                tail: NONE,
            }; LISTS],
            waits: core::array::from_fn(|repeats| {
                rto.initial.saturating_mul(1 << repeats).min(rto.max)
            }),
            sources: Sources::new(capacity, hash_key),
            newest: now,
        };
        for index in 0..u16::try_from(capacity).unwrap_or(NONE) {
            table.append(FREE, index);
        }
        table
    }

    /// Handshakes under way.
    pub(crate) fn len(&self) -> u32 {
        self.index.len()
    }

    /// Room for so many.
    pub(crate) fn capacity(&self) -> u32 {
        self.index.max_flows()
    }

    /// Handshakes under way from the source of this flow, or from one that shares its counter.
    pub(crate) fn of_source(&self, key: &FlowKey) -> u32 {
        self.sources.count(key)
    }

    /// The entry of a flow.
    pub(crate) fn find(&self, key: &FlowKey) -> Option<EntryId> {
        if self.index.is_empty() {
            return None;
        }
        let index = u16::try_from(self.lookup(key)?).ok()?;
        Some(self.id(index))
    }

    fn lookup(&self, key: &FlowKey) -> Option<u32> {
        self.index
            .get(key, |index| self.entries[index as usize].key == *key)
    }

    /// The live entry in a place, if any.
    pub(crate) fn at(&self, index: usize) -> Option<EntryId> {
        let index = u16::try_from(index).ok()?;
        let entry = self.entries.get(usize::from(index))?;
        let live = self.lookup(&entry.key) == Some(u32::from(index));
        live.then(|| self.id(index))
    }

    /// Adds a handshake whose SYN-ACK is due. `None` if there is no room or the flow is there already.
    pub(crate) fn insert(&mut self, handshake: &Handshake) -> Option<EntryId> {
        let index = self.lists[FREE].head;
        if index == NONE || self.find(&handshake.key).is_some() {
            return None;
        }
        self.index.insert(&handshake.key, u32::from(index)).ok()?;
        self.unlink(FREE, index);
        let entry = self.entry_mut(index);
        *entry = Entry {
            key: handshake.key,
            mss: handshake.offer.mss,
            irs: handshake.irs.raw(),
            iss: handshake.iss.raw(),
            ts_recent: handshake.offer.timestamp.unwrap_or(0),
            options: Entry::options_of(&handshake.offer),
            status: Entry::IS_DUE,
            ..*entry
        };
        entry.set_ecn(handshake.offer.ecn);
        self.append(DUE, index);
        self.sources.add(&handshake.key);
        Some(self.id(index))
    }

    /// What an entry stands for.
    pub(crate) fn handshake(&self, id: EntryId) -> Handshake {
        let entry = self.entry(id.index);
        let syn_ack = if entry.has(Entry::SENT) && !entry.has(Entry::SENT_AGAIN) {
            SynAck::Once(self.sent_at(entry))
        } else {
            SynAck::Several {
                repeats: entry.repeats(),
            }
        };
        Handshake {
            key: entry.key,
            irs: SeqNumber::new(entry.irs),
            iss: SeqNumber::new(entry.iss),
            offer: entry.offer(),
            syn_ack,
        }
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, id: EntryId) {
        if self.is_live(id) {
            self.free(id.index);
        }
    }

    /// Has a RST sent for an entry, which is then forgotten. False if the entry is gone already.
    pub(crate) fn reset(&mut self, id: EntryId) -> bool {
        if !self.is_live(id) || self.entry(id.index).has(Entry::RESET) {
            return false;
        }
        self.make_due(id.index);
        self.entry_mut(id.index).status |= Entry::RESET;
        true
    }

    /// A newer timestamp of the peer (RFC 7323 section 4.3). The caller has compared it with the last one.
    pub(crate) fn set_ts_recent(&mut self, id: EntryId, value: u32) {
        self.entry_mut(id.index).ts_recent = value;
    }

    /// What a repeated SYN has made of the terms.
    pub(crate) fn set_ecn(&mut self, id: EntryId, terms: EcnTerms) {
        self.entry_mut(id.index).set_ecn(terms);
    }

    /// The peer repeated its SYN. True if the SYN-ACK is to be sent again at once; it may wait to be sent anyway.
    pub(crate) fn on_repeated_syn(&mut self, id: EntryId) -> bool {
        let entry = self.entry_mut(id.index);
        if entry.has(Entry::IS_DUE) {
            return false;
        }
        // The timer goes on as it was, or a peer that repeats its SYN would keep the entry for ever.
        entry.status |= Entry::SENT_AGAIN;
        true
    }

    /// Takes the right to answer one unacceptable segment: one per wait for the final ACK, so about one a second
    /// and six in the life of an entry. The limit belongs to the entry alone (RFC 5961 section 7). Nothing is said
    /// before the first SYN-ACK has named our numbers.
    pub(crate) fn take_challenge(&mut self, id: EntryId) -> bool {
        let entry = self.entry_mut(id.index);
        let may_answer = entry.has(Entry::SENT) && !entry.has(Entry::CHALLENGED);
        entry.status |= Entry::CHALLENGED;
        may_answer
    }

    /// Gives up the handshake that is closest to being given up anyway. False if there is none.
    pub(crate) fn evict_oldest(&mut self) -> bool {
        let waiting = (0..WAITING)
            .rev()
            .map(|list| self.lists[list].head)
            .find(|head| *head != NONE);
        let index = waiting.unwrap_or(self.lists[DUE].head);
        if index != NONE {
            self.free(index);
        }
        index != NONE
    }

    /// Makes due what has waited long enough, and gives up what has waited often enough: entries with `repeats_max`
    /// repeats (never more than [`SYN_ACK_REPEATS_MAX`]). At most `budget` entries; the rest is due at once again.
    pub(crate) fn expire(&mut self, now: Instant, repeats_max: u8, budget: u32) -> Expired {
        self.newest = self.newest.max(now);
        let mut expired = Expired::default();
        let mut budget = budget;
        for list in 0..WAITING {
            while let Some(index) = self.overdue(list) {
                if budget == 0 {
                    return expired;
                }
                budget -= 1;
                let repeats = self.entry(index).repeats();
                if repeats < repeats_max.min(SYN_ACK_REPEATS_MAX) {
                    self.make_due(index);
                    let entry = self.entry_mut(index);
                    entry.status += 1;
                    entry.status &= !Entry::CHALLENGED;
                    continue;
                }
                self.free(index);
                if repeats < SYN_ACK_REPEATS_MAX {
                    expired.evicted += 1;
                } else {
                    expired.timed_out += 1;
                }
            }
        }
        expired
    }

    /// Whether [`Self::next_due`] has something.
    pub(crate) fn has_due(&self) -> bool {
        self.lists[DUE].head != NONE
    }

    /// The next entry for which something is to be sent. The SYN-ACK counts as sent now.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<(EntryId, Due)> {
        let index = self.lists[DUE].head;
        if index == NONE {
            return None;
        }
        self.newest = self.newest.max(now);
        let id = self.id(index);
        if self.entry(index).has(Entry::RESET) {
            let handshake = self.handshake(id);
            self.free(index);
            return Some((id, Due::Reset(handshake)));
        }
        self.unlink(DUE, index);
        let sent_at_us = low_half(self.newest.as_micros());
        let entry = self.entry_mut(index);
        entry.set_sent_at_us(sent_at_us);
        entry.status &= !Entry::IS_DUE;
        let repeated = entry.has(Entry::SENT);
        entry.status |= Entry::SENT;
        if repeated {
            entry.status |= Entry::SENT_AGAIN;
        }
        let list = entry.list();
        self.append(list, index);
        let handshake = self.handshake(id);
        Some((
            id,
            Due::SynAck {
                handshake,
                repeated,
            },
        ))
    }

    /// Earliest moment at which [`Self::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.index.is_empty() {
            return None;
        }
        (0..WAITING)
            .filter(|list| self.lists[*list].head != NONE)
            .map(|list| self.deadline(list, self.lists[list].head))
            .min()
    }

    fn overdue(&self, list: usize) -> Option<u16> {
        let head = self.lists[list].head;
        (head != NONE && self.deadline(list, head) <= self.newest).then_some(head)
    }

    fn deadline(&self, list: usize, index: u16) -> Instant {
        self.sent_at(self.entry(index)) + self.waits[list]
    }

    fn sent_at(&self, entry: &Entry) -> Instant {
        let newest_us = self.newest.as_micros();
        let age_us = low_half(newest_us).wrapping_sub(entry.ecn_and_sent_at_us) & Entry::TIME_MASK;
        let sent_at_us = newest_us.saturating_sub(u64::from(age_us));
        Instant::from_nanos(sent_at_us.saturating_mul(1000))
    }

    /// Moves a live entry to the end of the due list, unless it is there.
    fn make_due(&mut self, index: u16) {
        let entry = self.entry(index);
        if entry.has(Entry::IS_DUE) {
            return;
        }
        self.unlink(entry.list(), index);
        self.entry_mut(index).status |= Entry::IS_DUE;
        self.append(DUE, index);
    }

    fn free(&mut self, index: u16) {
        let entry = self.entry(index);
        let (key, list) = (entry.key, entry.list());
        self.index.remove(&key, u32::from(index));
        self.sources.remove(&key);
        self.unlink(list, index);
        let entry = self.entry_mut(index);
        entry.generation = entry.generation.wrapping_add(1);
        self.append(FREE, index);
    }

    /// Whether the entry is still under way.
    pub(crate) fn is_live(&self, id: EntryId) -> bool {
        self.at(usize::from(id.index)) == Some(id)
    }

    fn id(&self, index: u16) -> EntryId {
        EntryId {
            index,
            generation: self.entry(index).generation,
        }
    }

    fn entry(&self, index: u16) -> &Entry {
        &self.entries[usize::from(index)]
    }

    fn entry_mut(&mut self, index: u16) -> &mut Entry {
        &mut self.entries[usize::from(index)]
    }

    fn append(&mut self, list: usize, index: u16) {
        let tail = self.lists[list].tail;
        let entry = self.entry_mut(index);
        entry.next = NONE;
        entry.previous = tail;
        if tail == NONE {
            self.lists[list].head = index;
        } else {
            self.entry_mut(tail).next = index;
        }
        self.lists[list].tail = index;
    }

    fn unlink(&mut self, list: usize, index: u16) {
        let Entry { next, previous, .. } = *self.entry(index);
        if previous == NONE {
            self.lists[list].head = next;
        } else {
            self.entry_mut(previous).next = next;
        }
        if next == NONE {
            self.lists[list].tail = previous;
        } else {
            self.entry_mut(next).previous = previous;
        }
    }
}

/// Handshakes under way by source: counters that sources are hashed to under a secret key, so that nobody can aim
/// at the counter of another.
struct Sources {
    counts: Box<[u16]>,
    hasher: SipHasher13,
}

impl Sources {
    /// Four counters per entry: even a full table leaves most of them at 0.
    fn new(capacity: u32, hash_key: [u8; 16]) -> Self {
        let counters = (capacity as usize * 4).next_power_of_two();
        Sources {
            counts: vec![0; counters].into_boxed_slice(),
            hasher: SipHasher13::new_with_key(&hash_key),
        }
    }

    fn count(&self, key: &FlowKey) -> u32 {
        u32::from(self.counts[self.place(key)])
    }

    /// The sum of all counters is the number of entries, so none overflows.
    fn add(&mut self, key: &FlowKey) {
        let place = self.place(key);
        self.counts[place] += 1;
    }

    fn remove(&mut self, key: &FlowKey) {
        let place = self.place(key);
        self.counts[place] -= 1;
    }

    fn place(&self, key: &FlowKey) -> usize {
        let hash = match key.remote() {
            IpAddr::V4(address) => self.hasher.hash(&address.octets()),
            // A host has a whole /64 to choose its addresses from (RFC 4291 section 2.5.4).
            IpAddr::V6(address) => self.hasher.hash(&address.octets()[..8]),
        };
        low_half(hash) as usize & (self.counts.len() - 1)
    }
}

fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests;
