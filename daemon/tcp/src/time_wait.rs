//! TIME-WAIT (RFC 9293 section 3.6.1): a compact table beside the connections, 64 bytes for each of its entries.
//!
//! Every entry lives equally long, so they leave in the order they came and a ring replaces timers. A repeated FIN
//! begins the time again: the entry keeps its place, and goes to the end of the ring when its turn comes. When the
//! ring is full the oldest entry leaves early. A RST is ignored (RFC 1337); a SYN that is provably newer opens the
//! tuple anew (RFC 6191). Answers are limited as challenge ACKs are (RFC 5961 section 7).
//!
//! The entries of one hash value are chained through the ring. Times are 16 bits of 17 ms, relative to the latest
//! time anybody told; after a silence longer than any life everything is over.

use core::time::Duration;

use siphasher::sip::SipHasher13;
use sluice_wire::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

use crate::clock::Instant;
use crate::config::TIME_WAIT;
use crate::flow_table::FlowKey;
use crate::isn::{self, Secret};
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::stats::SegmentDrop;

/// One answer per entry and this long: an endless FIN costs us next to nothing, and two sides that both think the
/// other is wrong do not shout. Shorter than the second repeat of any FIN.
const ANSWER_SPACING: Duration = Duration::from_millis(500);

/// log2 of the nanoseconds in a tick: 16.8 ms, so that half of the 16-bit circle is 550 s.
const TICK_SHIFT: u32 = 24;
/// Nobody lives so long: twice 2 MSL, a FIN having come again in the last moment.
const LONGEST_LIFE: Duration = Duration::from_secs(2 * TIME_WAIT.as_secs() + 1);

/// What is remembered of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remnant {
    pub key: FlowKey,
    pub snd_nxt: SeqNumber,
    pub rcv_nxt: SeqNumber,
    pub window: u16,
    /// TS.Recent, with timestamps. Our offset follows from the tuple.
    pub ts_recent: Option<u32>,
}

/// A moment on a circle of 18 minutes.
#[derive(Clone, Copy, Debug)]
struct Tick(u16);

impl Tick {
    /// The last tick that has begun.
    fn begun(now: Instant) -> Self {
        // The low bits are the circle.
        #[allow(clippy::cast_possible_truncation)]
        Tick((now.as_nanos() >> TICK_SHIFT) as u16)
    }

    /// The first that is not before `time`: nothing is over early.
    fn at(time: Instant) -> Self {
        Tick::begun(time + Duration::from_nanos((1 << TICK_SHIFT) - 1))
    }

    fn is_past(self, now: Instant) -> bool {
        Tick::begun(now).0.wrapping_sub(self.0) <= u16::MAX / 2
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The tuple as it is hashed: 12 or 36 bytes, and zeros.
    tuple: [u8; 36],
    window: u16,
    expires_at: Tick,
    /// No further answer before.
    silent_until: Tick,
    flags: u8,
    snd_nxt: SeqNumber,
    rcv_nxt: SeqNumber,
    ts_recent: u32,
    /// The place of the next entry of the same hash value and one; 0 ends the chain.
    next: u32,
}

impl Entry {
    const IPV6: u8 = 1;
    const TIMESTAMPS: u8 = 2;
    /// In the table, and not only in the ring.
    const LIVE: u8 = 4;
    /// A FIN came again: not done when its turn comes.
    const PROLONGED: u8 = 8;

    fn new(remnant: &Remnant, now: Instant) -> Self {
        let (tuple, family) = tuple_of(&remnant.key);
        let timestamps = remnant.ts_recent.map_or(0, |_| Entry::TIMESTAMPS);
        Entry {
            tuple,
            window: remnant.window,
            expires_at: Tick::at(now + TIME_WAIT),
            silent_until: Tick::begun(now),
            flags: Entry::LIVE | family | timestamps,
            snd_nxt: remnant.snd_nxt,
            rcv_nxt: remnant.rcv_nxt,
            ts_recent: remnant.ts_recent.unwrap_or(0),
            next: 0,
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn is_of(&self, tuple: &[u8; 36], family: u8) -> bool {
        self.has(Entry::LIVE) && self.flags & Entry::IPV6 == family && self.tuple == *tuple
    }

    /// First check of RFC 9293 section 3.10.7.4, but for what is empty and exact.
    fn is_acceptable(&self, segment: &Segment<'_>) -> bool {
        let offset = |seq: u32| seq.wrapping_sub(self.rcv_nxt.raw());
        let (first, len) = (segment.header.seq, segment.sequence_len());
        let last = first.wrapping_add(len.saturating_sub(1));
        offset(first) < self.window.into() || offset(last) < self.window.into()
    }

    fn acknowledge(&mut self, segment: &Segment<'_>, secret: &Secret, now: Instant) -> Answer {
        if !self.silent_until.is_past(now) {
            return Answer::Drop(SegmentDrop::TimeWait);
        }
        self.silent_until = Tick::at(now + ANSWER_SPACING);
        Answer::Acknowledge(self.acknowledgement(&segment.key, secret, now))
    }

    fn acknowledgement(&self, key: &FlowKey, secret: &Secret, now: Instant) -> TcpHeader {
        // The low 32 bits are the timestamp clock.
        #[allow(clippy::cast_possible_truncation)]
        let clock = now.as_millis() as u32;
        TcpHeader {
            src_port: key.local_port(),
            dst_port: key.remote_port(),
            seq: self.snd_nxt.raw(),
            ack: self.rcv_nxt.raw(),
            flags: TcpFlags::ACK,
            window: self.window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.has(Entry::TIMESTAMPS).then(|| Timestamps {
                    value: clock.wrapping_add(isn::timestamp_offset(key, secret)),
                    echo: self.ts_recent,
                }),
                ..TcpOptions::default()
            },
        }
    }

    /// RFC 6191: a SYN with a greater timestamp, or without timestamps a greater sequence number.
    fn is_older_than(&self, syn: &TcpHeader) -> bool {
        match syn
            .options
            .timestamps
            .filter(|_| self.has(Entry::TIMESTAMPS))
        {
            Some(timestamps) => SeqNumber::new(self.ts_recent).lt(SeqNumber::new(timestamps.value)),
            None => self.rcv_nxt.lt(SeqNumber::new(syn.seq)),
        }
    }
}

fn tuple_of(key: &FlowKey) -> ([u8; 36], u8) {
    let digest = key.digest();
    let bytes = digest.as_slice();
    let mut tuple = [0; 36];
    tuple[..bytes.len()].copy_from_slice(bytes);
    let family = if bytes.len() == tuple.len() {
        Entry::IPV6
    } else {
        0
    };
    (tuple, family)
}

/// What TIME-WAIT says to a segment.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The tuple is free for this SYN. Our last sequence number was `snd_nxt`. If it is taken,
    /// [`TimeWaitTable::reopened`] follows.
    Reopen { snd_nxt: SeqNumber },
    /// Acknowledge again.
    Acknowledge(TcpHeader),
    /// Silence.
    Drop(SegmentDrop),
}

/// The connections in TIME-WAIT.
pub(crate) struct TimeWaitTable {
    /// Per hash value the place of the first entry and one; 0 is none.
    heads: Box<[u32]>,
    hasher: SipHasher13,
    /// Filled in its first round, then used again.
    ring: Vec<Entry>,
    capacity: usize,
    oldest: usize,
    len: usize,
    live: u32,
    newest: Instant,
}

impl TimeWaitTable {
    pub(crate) fn new(capacity: u32, hash_key: [u8; 16]) -> Self {
        let capacity = capacity.max(1) as usize;
        TimeWaitTable {
            heads: vec![0; capacity].into_boxed_slice(),
            hasher: SipHasher13::new_with_key(&hash_key),
            ring: Vec::with_capacity(capacity),
            capacity,
            oldest: 0,
            len: 0,
            live: 0,
            newest: Instant::ZERO,
        }
    }

    /// Entries that have not expired.
    pub(crate) fn len(&self) -> u32 {
        self.live
    }

    /// Whether a tuple is in TIME-WAIT.
    pub(crate) fn contains(&self, key: &FlowKey) -> bool {
        self.find(key).is_some()
    }

    pub(crate) fn insert(&mut self, remnant: &Remnant, now: Instant) {
        self.expire(now);
        if let Some(index) = self.find(&remnant.key) {
            self.forget(index);
        }
        if self.len == self.capacity {
            let _ = self.take_oldest();
        }
        self.append(Entry::new(remnant, now));
    }

    /// Drops what is over; called once per turn. An entry is touched once per 2 MSL.
    pub(crate) fn expire(&mut self, now: Instant) {
        // Short times mean nothing after so long a silence.
        let all = now.saturating_since(self.newest) > LONGEST_LIFE;
        self.newest = self.newest.max(now);
        while self.len > 0 {
            let entry = &self.ring[self.oldest];
            let stays = entry.has(Entry::LIVE) && !entry.expires_at.is_past(now) && !all;
            if stays && !entry.has(Entry::PROLONGED) {
                break;
            }
            if let Some(mut entry) = self.take_oldest()
                && stays
            {
                // Those that came after it may be due before.
                entry.flags &= !Entry::PROLONGED;
                self.append(entry);
            }
        }
    }

    /// The tuple has a new life.
    pub(crate) fn reopened(&mut self, key: &FlowKey) {
        if let Some(index) = self.find(key) {
            self.forget(index);
        }
    }

    fn append(&mut self, mut entry: Entry) {
        let index = (self.oldest + self.len) % self.capacity;
        let head = self.head_of(&entry);
        entry.next = self.heads[head];
        // At most 2^32 entries, of which the last has no place.
        let Ok(place) = u32::try_from(index + 1) else {
            return;
        };
        self.heads[head] = place;
        if index < self.ring.len() {
            self.ring[index] = entry;
        } else {
            self.ring.push(entry);
        }
        self.len += 1;
        self.live += 1;
    }

    /// Frees the first place of the ring. Who lived there is out of the table, and given back.
    fn take_oldest(&mut self) -> Option<Entry> {
        let entry = self.ring[self.oldest];
        let is_live = entry.has(Entry::LIVE);
        if is_live {
            self.forget(self.oldest);
        }
        self.oldest = (self.oldest + 1) % self.capacity;
        self.len -= 1;
        is_live.then_some(entry)
    }

    /// Takes an entry out of its chain. Its place stays taken until its turn comes.
    fn forget(&mut self, index: usize) {
        let entry = &mut self.ring[index];
        entry.flags &= !Entry::LIVE;
        self.live -= 1;
        let next = entry.next;
        let head = self.head_of(&self.ring[index]);
        let mut place = self.heads[head];
        if place_of(place) == Some(index) {
            self.heads[head] = next;
            return;
        }
        while let Some(before) = place_of(place) {
            place = self.ring[before].next;
            if place_of(place) == Some(index) {
                self.ring[before].next = next;
                return;
            }
        }
    }

    fn find(&self, key: &FlowKey) -> Option<usize> {
        if self.live == 0 {
            return None;
        }
        let (tuple, family) = tuple_of(key);
        let mut place = self.heads[self.head_of_bytes(key.digest().as_slice())];
        while let Some(index) = place_of(place) {
            let entry = &self.ring[index];
            if entry.is_of(&tuple, family) {
                return Some(index);
            }
            place = entry.next;
        }
        None
    }

    fn head_of(&self, entry: &Entry) -> usize {
        let len = if entry.has(Entry::IPV6) { 36 } else { 12 };
        self.head_of_bytes(&entry.tuple[..len])
    }

    fn head_of_bytes(&self, bytes: &[u8]) -> usize {
        // As even as the hash, for any number of chains.
        let share = (self.hasher.hash(bytes) >> 32) * self.heads.len() as u64;
        (share >> 32) as usize
    }

    /// What to say to a segment of this tuple; `None` if it is not in TIME-WAIT.
    pub(crate) fn answer(
        &mut self,
        segment: &Segment<'_>,
        secret: &Secret,
        now: Instant,
    ) -> Option<Answer> {
        self.expire(now);
        let index = self.find(&segment.key)?;
        let entry = &mut self.ring[index];
        let header = segment.header;
        if header.flags.contains(TcpFlags::RST) {
            return Some(Answer::Drop(SegmentDrop::TimeWaitReset));
        }
        if header.flags.contains(TcpFlags::SYN) {
            if !header.flags.contains(TcpFlags::ACK) && entry.is_older_than(header) {
                let snd_nxt = entry.snd_nxt;
                return Some(Answer::Reopen { snd_nxt });
            }
            return Some(entry.acknowledge(segment, secret, now));
        }
        let exact = header.seq == entry.rcv_nxt.raw() && segment.sequence_len() == 0;
        if exact {
            return Some(Answer::Drop(SegmentDrop::TimeWait));
        }
        if !header.flags.contains(TcpFlags::ACK) && entry.is_acceptable(segment) {
            // RFC 9293 section 3.10.7.4, fifth check.
            return Some(Answer::Drop(SegmentDrop::NoAck));
        }
        let end = header.seq.wrapping_add(segment.sequence_len());
        if header.flags.contains(TcpFlags::FIN) && end == entry.rcv_nxt.raw() {
            // Our last ACK was lost: 2 MSL begin again.
            entry.expires_at = Tick::at(now + TIME_WAIT);
            entry.flags |= Entry::PROLONGED;
        }
        Some(entry.acknowledge(segment, secret, now))
    }
}

fn place_of(place: u32) -> Option<usize> {
    place.checked_sub(1).map(|index| index as usize)
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    const RCV_NXT: u32 = 5000;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn key(port: u16) -> FlowKey {
        FlowKey::new(HERE, 80, THERE, port)
    }

    fn table(ports: &[u16]) -> TimeWaitTable {
        let mut table = TimeWaitTable::new(4, [7; 16]);
        for port in ports {
            let remnant = Remnant {
                key: key(*port),
                snd_nxt: SeqNumber::new(900),
                rcv_nxt: SeqNumber::new(RCV_NXT),
                window: 1000,
                ts_recent: None,
            };
            table.insert(&remnant, at(0));
        }
        table
    }

    fn says(
        table: &mut TimeWaitTable,
        port: u16,
        flags: TcpFlags,
        seq: u32,
        now: Instant,
    ) -> Answer {
        let header = TcpHeader {
            src_port: port,
            dst_port: 80,
            seq,
            ack: 900,
            flags,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let segment = Segment {
            key: key(port),
            ecn: sluice_wire::Ecn::NotEct,
            header: &header,
            payload_len: 0,
        };
        table
            .answer(&segment, &Secret::new([3; 32]), now)
            .expect("it is in TIME-WAIT")
    }

    const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);

    #[test]
    fn a_fin_that_comes_again_begins_the_time_again() {
        // RFC 9293 section 3.10.7.4, eighth check, TIME-WAIT.
        let mut table = table(&[1, 2]);
        let answer = says(&mut table, 1, FIN_ACK, RCV_NXT - 1, at(30));
        assert!(matches!(answer, Answer::Acknowledge(header) if header.ack == RCV_NXT));
        table.expire(at(61));
        assert!(table.contains(&key(1)));
        assert!(!table.contains(&key(2)));
        table.expire(at(91));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_endless_fin_pushes_nobody_out_and_gets_two_answers_per_second() {
        let mut table = table(&[1, 2, 3, 4]);
        let mut answers = 0;
        for tick in 0..1000 {
            let now = at(1) + Duration::from_millis(tick);
            let answer = says(&mut table, 1, FIN_ACK, RCV_NXT - 1, now);
            answers += u32::from(matches!(answer, Answer::Acknowledge(_)));
        }
        assert_eq!(answers, 2);
        for port in [1, 2, 3, 4] {
            assert!(table.contains(&key(port)));
        }
    }

    #[test]
    fn a_fin_elsewhere_does_not_prolong_it() {
        let mut table = table(&[1]);
        let _ = says(&mut table, 1, FIN_ACK, RCV_NXT + 77, at(30));
        table.expire(at(61));
        assert!(!table.contains(&key(1)));
    }

    #[test]
    fn a_reset_is_ignored() {
        // RFC 1337.
        let mut table = table(&[1]);
        let answer = says(&mut table, 1, TcpFlags::RST, RCV_NXT, at(1));
        assert!(matches!(answer, Answer::Drop(SegmentDrop::TimeWaitReset)));
        assert!(table.contains(&key(1)));
    }

    #[test]
    fn a_newer_syn_opens_the_tuple_and_an_older_one_is_acknowledged() {
        // RFC 6191 section 2.
        let mut table = table(&[1]);
        let older = says(&mut table, 1, TcpFlags::SYN, RCV_NXT - 1, at(1));
        assert!(matches!(older, Answer::Acknowledge(_)));
        let newer = says(&mut table, 1, TcpFlags::SYN, RCV_NXT + 1, at(2));
        assert!(matches!(newer, Answer::Reopen { snd_nxt } if snd_nxt == SeqNumber::new(900)));
        // Nobody has taken it yet.
        assert!(table.contains(&key(1)));
        table.reopened(&key(1));
        assert!(!table.contains(&key(1)));
    }

    #[test]
    fn the_oldest_leaves_when_there_is_no_room() {
        let table = table(&[1, 2, 3, 4, 5]);
        assert!(!table.contains(&key(1)));
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn an_entry_and_its_index_take_sixty_four_bytes() {
        assert!(size_of::<Entry>() + size_of::<u32>() <= 64);
        let table = TimeWaitTable::new(1000, [7; 16]);
        assert_eq!((table.heads.len(), table.ring.capacity()), (1000, 1000));
    }

    #[test]
    fn entries_of_one_chain_leave_one_by_one() {
        // More entries than chains would have for themselves, and every one in the middle of some.
        let ports: Vec<u16> = (1..=64).collect();
        let mut table = TimeWaitTable::new(64, [7; 16]);
        for port in &ports {
            let remnant = Remnant {
                key: key(*port),
                snd_nxt: SeqNumber::new(900),
                rcv_nxt: SeqNumber::new(RCV_NXT),
                window: 1000,
                ts_recent: None,
            };
            table.insert(&remnant, at(0));
        }
        for gone in 0..64 {
            // Not in the order they came.
            let port = gone * 37 % 64 + 1;
            assert_eq!(table.len(), 64 - u32::from(gone));
            table.reopened(&key(port));
            assert!(!table.contains(&key(port)));
        }
        table.expire(at(61));
        assert_eq!(table.len, 0);
    }

    #[test]
    fn everything_is_over_after_a_silence_of_many_circles() {
        let mut table = table(&[1, 2]);
        // Sixteen bits of ticks later the short times say what they said at first.
        table.expire(Instant::from_nanos(3 << (16 + TICK_SHIFT)) + Duration::from_secs(1));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn the_answer_carries_the_timestamps_of_the_connection() {
        // RFC 7323 section 3.2.
        let mut table = TimeWaitTable::new(4, [7; 16]);
        let remnant = Remnant {
            key: key(1),
            snd_nxt: SeqNumber::new(900),
            rcv_nxt: SeqNumber::new(RCV_NXT),
            window: 1000,
            ts_recent: Some(77),
        };
        table.insert(&remnant, at(0));
        let Answer::Acknowledge(header) = says(&mut table, 1, FIN_ACK, RCV_NXT - 1, at(30)) else {
            panic!("a FIN is acknowledged");
        };
        let offset = isn::timestamp_offset(&key(1), &Secret::new([3; 32]));
        let expected = Timestamps {
            value: offset.wrapping_add(30_000),
            echo: 77,
        };
        assert_eq!(header.options.timestamps, Some(expected));
    }
}
