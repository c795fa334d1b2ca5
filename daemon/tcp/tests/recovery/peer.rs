//! A receiver written from the RFCs alone, not from the stack: takes segments in any order and acknowledges them.

use std::collections::BTreeMap;

use sluice_tcp::clock::Instant;
use sluice_wire::{SackBlock, SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps};

/// What the peer offers and how it acknowledges.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub sack: bool,
    pub timestamps: bool,
    /// Acknowledge every n-th segment in order; 40 ms late otherwise.
    pub ack_every: u32,
    /// Keep what comes out of order. Who does not has nothing to report either (RFC 2018 section 4).
    pub keeps: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Offer {
            sack: true,
            timestamps: true,
            ack_every: 2,
            keeps: true,
        }
    }
}

const SCALE: u8 = 10;
pub const MSS: u16 = 1460;

pub struct Peer {
    pub offer: Offer,
    /// What it says in the window field.
    pub window: u16,
    iss: u32,
    irs: u32,
    /// Bytes received in order.
    pub received: u64,
    /// Out of order: start to end.
    held: BTreeMap<u64, u64>,
    /// Starts of segments that came last, newest first.
    recent: Vec<u64>,
    duplicate: Option<(u64, u64)>,
    /// Segments that came although every byte of them was there.
    pub duplicates: u64,
    waiting: u32,
    ts_recent: u32,
}

impl Peer {
    pub fn new(offer: Offer) -> Peer {
        Peer {
            offer,
            window: 60_000,
            iss: 7_000_000,
            irs: 0,
            received: 0,
            held: BTreeMap::new(),
            recent: Vec::new(),
            duplicate: None,
            duplicates: 0,
            waiting: 0,
            ts_recent: 0,
        }
    }

    pub fn syn(&self, now: Instant) -> TcpHeader {
        TcpHeader {
            flags: TcpFlags::SYN,
            ack: 0,
            options: TcpOptions {
                mss: Some(MSS),
                window_scale: Some(SCALE),
                sack_permitted: self.offer.sack,
                timestamps: self.timestamps(now),
                ..TcpOptions::default()
            },
            ..self.bare(self.iss, now)
        }
    }

    pub fn on_syn_ack(&mut self, header: &TcpHeader, now: Instant) -> TcpHeader {
        self.irs = header.seq;
        self.note_timestamp(header);
        self.bare(self.iss.wrapping_add(1), now)
    }

    /// Whether an acknowledgement is due at once, else one is due in 40 ms.
    pub fn on_segment(&mut self, header: &TcpHeader, len: u64) -> bool {
        // The stream begins after the SYN.
        let ahead = header
            .seq
            .wrapping_sub(self.wire(self.received))
            .cast_signed();
        let start = self
            .received
            .checked_add_signed(i64::from(ahead))
            .expect("the stack sends nothing from before the stream");
        let end = start + len;
        if start <= self.received {
            self.note_timestamp(header);
        }
        if end <= self.received || self.holds(start, end) {
            self.duplicates += 1;
            self.duplicate = Some((start, end));
            return true;
        }
        if start > self.received && !self.offer.keeps {
            return true;
        }
        let in_order = start <= self.received && self.held.is_empty();
        self.insert(start, end);
        self.waiting += 1;
        !in_order || self.waiting >= self.offer.ack_every
    }

    /// The acknowledgement of everything so far.
    pub fn acknowledge(&mut self, now: Instant) -> TcpHeader {
        self.waiting = 0;
        let mut header = self.bare(self.iss.wrapping_add(1), now);
        if self.offer.sack {
            header.options.sack = self.blocks();
        }
        header
    }

    pub fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// DSACK first (RFC 2883), then the ranges that changed last (RFC 2018 section 4).
    fn blocks(&mut self) -> SackBlocks {
        let room = if self.offer.timestamps { 3 } else { 4 };
        let mut blocks = SackBlocks::default();
        let mut push = |(start, end): (u64, u64), irs: u32| {
            if blocks.len() < room {
                blocks.push(SackBlock {
                    start: wire(irs, start),
                    end: wire(irs, end),
                });
            }
        };
        if let Some(range) = self.duplicate.take() {
            push(range, self.irs);
        }
        let mut said = Vec::new();
        for start in &self.recent {
            let range = self.held.range(..=start).next_back();
            if let Some((from, to)) = range
                && to > start
                && !said.contains(from)
            {
                said.push(*from);
                push((*from, *to), self.irs);
            }
        }
        blocks
    }

    fn insert(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start.max(self.received), end);
        self.recent.retain(|at| *at != start);
        self.recent.insert(0, start);
        self.recent.truncate(8);
        let touching: Vec<u64> = self
            .held
            .range(..=end)
            .filter(|(_, to)| **to >= start)
            .map(|(from, _)| *from)
            .collect();
        for from in touching {
            let to = self.held.remove(&from).expect("just found");
            start = start.min(from);
            end = end.max(to);
        }
        if start <= self.received {
            self.received = end;
        } else {
            self.held.insert(start, end);
        }
    }

    fn holds(&self, start: u64, end: u64) -> bool {
        let range = self.held.range(..=start).next_back();
        range.is_some_and(|(_, to)| *to >= end)
    }

    fn note_timestamp(&mut self, header: &TcpHeader) {
        if let Some(timestamps) = header.options.timestamps {
            self.ts_recent = timestamps.value;
        }
    }

    fn timestamps(&self, now: Instant) -> Option<Timestamps> {
        self.offer.timestamps.then(|| Timestamps {
            value: u32::try_from(now.as_millis()).expect("a short test") + 1,
            echo: self.ts_recent,
        })
    }

    pub fn wire(&self, offset: u64) -> u32 {
        wire(self.irs, offset)
    }

    pub fn bare(&self, seq: u32, now: Instant) -> TcpHeader {
        TcpHeader {
            src_port: 40_000,
            dst_port: 80,
            seq,
            ack: self.wire(self.received),
            flags: TcpFlags::ACK,
            window: self.window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.timestamps(now),
                ..TcpOptions::default()
            },
        }
    }
}

fn wire(irs: u32, offset: u64) -> u32 {
    let low = u32::try_from(offset & u64::from(u32::MAX)).expect("masked");
    irs.wrapping_add(1).wrapping_add(low)
}
