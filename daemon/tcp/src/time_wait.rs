//! TIME-WAIT (RFC 9293 section 3.6.1): a compact table beside the connections.
//!
//! Every entry lives equally long, so they leave in the order they came and a ring replaces timers. A repeated FIN
//! begins the time again: the entry keeps its place, and goes to the end of the ring when its turn comes. When the
//! ring is full the oldest entry leaves early. A RST is ignored (RFC 1337); a SYN that is provably newer opens the
//! tuple anew (RFC 6191). Answers are limited as challenge ACKs are (RFC 5961 section 7).

use core::time::Duration;

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

use crate::clock::Instant;
use crate::config::TIME_WAIT;
use crate::flow_table::{FlowKey, FlowTable};
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::stats::SegmentDrop;

/// One answer per entry and this long: an endless FIN costs us next to nothing, and two sides that both think the
/// other is wrong do not shout. Shorter than the second repeat of any FIN.
const ANSWER_SPACING: Duration = Duration::from_millis(500);

/// What is remembered of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remnant {
    pub key: FlowKey,
    pub snd_nxt: SeqNumber,
    pub rcv_nxt: SeqNumber,
    pub window: u16,
    /// TS.Recent and our timestamp offset.
    pub timestamps: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    remnant: Remnant,
    /// Its turn at the front of the ring.
    due_at: Instant,
    /// The end of its 2 MSL: later than `due_at` once a FIN came again.
    expires_at: Instant,
    /// No further answer before.
    silent_until: Instant,
    live: bool,
}

/// What TIME-WAIT says to a segment.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The tuple is free: treat the SYN as new. Our last sequence number was `snd_nxt`.
    Reopen { snd_nxt: SeqNumber },
    /// Acknowledge again.
    Acknowledge(TcpHeader),
    /// Silence.
    Drop(SegmentDrop),
}

/// The connections in TIME-WAIT.
#[derive(Debug)]
pub(crate) struct TimeWaitTable {
    flows: FlowTable,
    ring: Vec<Option<Entry>>,
    oldest: usize,
    len: usize,
}

impl TimeWaitTable {
    pub(crate) fn new(capacity: u32, hash_key: [u8; 16]) -> Self {
        let capacity = capacity.max(1);
        TimeWaitTable {
            flows: FlowTable::new(capacity, hash_key),
            ring: vec![None; capacity as usize],
            oldest: 0,
            len: 0,
        }
    }

    /// Entries that have not expired.
    pub(crate) fn len(&self) -> u32 {
        self.flows.len()
    }

    /// Whether a tuple is in TIME-WAIT.
    pub(crate) fn contains(&self, key: &FlowKey) -> bool {
        self.flows.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, remnant: Remnant, now: Instant) {
        self.expire(now);
        self.forget(&remnant.key);
        if self.len == self.ring.len() {
            let _ = self.take_oldest();
        }
        let expires_at = now + TIME_WAIT;
        self.append(Entry {
            remnant,
            due_at: expires_at,
            expires_at,
            silent_until: now,
            live: true,
        });
    }

    /// Drops what is over; called once per turn. An entry is touched once per 2 MSL.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.len > 0 {
            match &self.ring[self.oldest] {
                Some(entry) if entry.live && entry.due_at > now => break,
                _ => {}
            }
            if let Some(mut entry) = self.take_oldest()
                && entry.expires_at > now
            {
                entry.due_at = entry.expires_at;
                self.append(entry);
            }
        }
    }

    fn append(&mut self, entry: Entry) {
        let index = (self.oldest + self.len) % self.ring.len();
        if let Ok(value) = u32::try_from(index)
            && self.flows.insert(entry.remnant.key, value).is_ok()
        {
            self.ring[index] = Some(entry);
            self.len += 1;
        }
    }

    /// Frees the first place of the ring. Who lived there is out of the table, and given back.
    fn take_oldest(&mut self) -> Option<Entry> {
        let entry = self.ring[self.oldest].take().filter(|entry| entry.live);
        if let Some(entry) = &entry {
            self.flows.remove(&entry.remnant.key);
        }
        self.oldest = (self.oldest + 1) % self.ring.len();
        self.len -= 1;
        entry
    }

    fn forget(&mut self, key: &FlowKey) {
        if let Some(index) = self.flows.remove(key)
            && let Some(entry) = &mut self.ring[index as usize]
        {
            entry.live = false;
        }
    }

    /// What to say to a segment of this tuple; `None` if it is not in TIME-WAIT.
    pub(crate) fn answer(&mut self, segment: &Segment<'_>, now: Instant) -> Option<Answer> {
        let index = self.flows.get(&segment.key)? as usize;
        let entry = self.ring[index].as_mut()?;
        let header = segment.header;
        let remnant = entry.remnant;
        if header.flags.contains(TcpFlags::RST) {
            return Some(Answer::Drop(SegmentDrop::TimeWaitReset));
        }
        if header.flags.contains(TcpFlags::SYN) {
            if !header.flags.contains(TcpFlags::ACK) && is_newer(&remnant, header) {
                self.forget(&segment.key);
                return Some(Answer::Reopen {
                    snd_nxt: remnant.snd_nxt,
                });
            }
            return Some(entry.acknowledge(now));
        }
        let exact = header.seq == remnant.rcv_nxt.raw() && segment.sequence_len() == 0;
        if exact {
            return Some(Answer::Drop(SegmentDrop::TimeWait));
        }
        let end = header.seq.wrapping_add(segment.sequence_len());
        if header.flags.contains(TcpFlags::FIN) && end == remnant.rcv_nxt.raw() {
            // Our last ACK was lost: 2 MSL begin again.
            entry.expires_at = now + TIME_WAIT;
        }
        Some(entry.acknowledge(now))
    }
}

impl Entry {
    fn acknowledge(&mut self, now: Instant) -> Answer {
        if now < self.silent_until {
            return Answer::Drop(SegmentDrop::TimeWait);
        }
        self.silent_until = now + ANSWER_SPACING;
        Answer::Acknowledge(acknowledgement(&self.remnant, now))
    }
}

/// RFC 6191: a SYN with a greater timestamp, or without timestamps a greater sequence number.
fn is_newer(remnant: &Remnant, header: &TcpHeader) -> bool {
    match (remnant.timestamps, header.options.timestamps) {
        (Some((recent, _)), Some(syn)) => SeqNumber::new(recent).lt(SeqNumber::new(syn.value)),
        _ => remnant.rcv_nxt.lt(SeqNumber::new(header.seq)),
    }
}

fn acknowledgement(remnant: &Remnant, now: Instant) -> TcpHeader {
    // The low 32 bits are the timestamp clock.
    #[allow(clippy::cast_possible_truncation)]
    let clock = now.as_millis() as u32;
    TcpHeader {
        src_port: remnant.key.local_port(),
        dst_port: remnant.key.remote_port(),
        seq: remnant.snd_nxt.raw(),
        ack: remnant.rcv_nxt.raw(),
        flags: TcpFlags::ACK,
        window: remnant.window,
        urgent: 0,
        options: TcpOptions {
            timestamps: remnant.timestamps.map(|(recent, offset)| Timestamps {
                value: clock.wrapping_add(offset),
                echo: recent,
            }),
            ..TcpOptions::default()
        },
    }
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
                timestamps: None,
            };
            table.insert(remnant, at(0));
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
        table.answer(&segment, now).expect("it is in TIME-WAIT")
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
        assert!(!table.contains(&key(1)));
    }

    #[test]
    fn the_oldest_leaves_when_there_is_no_room() {
        let table = table(&[1, 2, 3, 4, 5]);
        assert!(!table.contains(&key(1)));
        assert_eq!(table.len(), 4);
    }
}
