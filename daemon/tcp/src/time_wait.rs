//! TIME-WAIT (RFC 9293 section 3.6.1): a compact table beside the connections.
//!
//! Every entry lives equally long, so they leave in the order they came and a ring replaces timers. When the
//! ring is full the oldest entry leaves early. A RST is ignored (RFC 1337); a SYN that is provably newer
//! opens the tuple anew (RFC 6191).

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

use crate::clock::Instant;
use crate::config::TIME_WAIT;
use crate::flow_table::{FlowKey, FlowTable};
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::stats::SegmentDrop;

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
    expires_at: Instant,
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
            self.drop_oldest();
        }
        let index = (self.oldest + self.len) % self.ring.len();
        let Ok(value) = u32::try_from(index) else {
            return;
        };
        if self.flows.insert(remnant.key, value).is_ok() {
            self.ring[index] = Some(Entry {
                remnant,
                expires_at: now + TIME_WAIT,
                live: true,
            });
            self.len += 1;
        }
    }

    /// Drops what is over; called once per turn, each entry is touched once.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.len > 0 {
            match &self.ring[self.oldest] {
                Some(entry) if entry.live && entry.expires_at > now => break,
                _ => self.drop_oldest(),
            }
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.ring[self.oldest].take()
            && entry.live
        {
            self.flows.remove(&entry.remnant.key);
        }
        self.oldest = (self.oldest + 1) % self.ring.len();
        self.len -= 1;
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
        let entry = self.ring[index].as_ref()?;
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
            return Some(Answer::Acknowledge(acknowledgement(&remnant, now)));
        }
        let exact = header.seq == remnant.rcv_nxt.raw() && segment.sequence_len() == 0;
        if exact {
            return Some(Answer::Drop(SegmentDrop::TimeWait));
        }
        if header.flags.contains(TcpFlags::FIN) {
            // Our last ACK was lost: 2 MSL begin again, at the end of the ring.
            self.insert(remnant, now);
        }
        Some(Answer::Acknowledge(acknowledgement(&remnant, now)))
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
