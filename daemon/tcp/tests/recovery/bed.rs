//! One stack that sends a stream, one peer, and a path between them in virtual time.
//!
//! The path is a function: it hears of every data segment that leaves and says when it arrives, if at all.
//! Acknowledgements take the same one-way time, unless a test loses some.

use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{ConnId, Segment, Stack, StackConfig, StackCounters};
use sluice_wire::{TcpFlags, TcpHeader};

use crate::peer::{Offer, Peer};

/// One-way time of the path.
pub const ONE_WAY: Duration = Duration::from_millis(10);
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// A data segment that leaves.
#[derive(Clone, Debug)]
pub struct Departure {
    pub at: Instant,
    pub range: Range<u64>,
    /// Data segments that left before.
    pub index: u64,
    /// How often the first byte left before.
    pub repeats: u32,
}

/// What the path does to a segment.
pub enum Fate {
    Arrives(Duration),
    Lost,
}

pub fn arrives() -> Fate {
    Fate::Arrives(ONE_WAY)
}

enum Event {
    ToPeer(TcpHeader, u64),
    ToStack(TcpHeader),
    DelayedAck,
}

pub struct Bed {
    pub stack: Stack,
    pub peer: Peer,
    pub now: Instant,
    pub conn: ConnId,
    /// Everything that left.
    pub log: Vec<Departure>,
    /// Which acknowledgements are lost, by number.
    pub lose_ack: Box<dyn FnMut(u64) -> bool>,
    acks: u64,
    sent_before: BTreeMap<u64, u32>,
    events: BTreeMap<(Instant, u64), Event>,
    event_number: u64,
}

pub fn key() -> FlowKey {
    let local = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    FlowKey::new(local, 80, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 40_000)
}

fn config() -> StackConfig {
    StackConfig {
        receive_buffer: 1 << 16,
        send_limit: 1 << 24,
        ..StackConfig::new(4, [1; 16], Secret::new([2; 32]))
    }
}

impl Bed {
    /// An open connection with a measured round trip, which may send nothing yet.
    pub fn connected(offer: Offer) -> Bed {
        let start = Instant::from_nanos(1_000_000_000);
        let mut stack = Stack::new(config(), start);
        let mut peer = Peer::new(offer);
        let syn = peer.syn(start);
        let _ = give(&mut stack, start, &syn, 0);
        let syn_ack = stack.poll_transmit(start).expect("an answer").header;
        assert!(syn_ack.flags.contains(TcpFlags::SYN));
        let now = start + 2 * ONE_WAY;
        let ack = peer.on_syn_ack(&syn_ack, now);
        let conn = give(&mut stack, now, &ack, 0).expect("a connection");
        Bed {
            stack,
            peer,
            now,
            conn,
            log: Vec::new(),
            lose_ack: Box::new(|_| false),
            acks: 0,
            sent_before: BTreeMap::new(),
            events: BTreeMap::new(),
            event_number: 0,
        }
    }

    /// Sends a stream of `bytes` and runs until it has arrived. Returns how long that took.
    pub fn transfer(&mut self, bytes: u64, path: impl FnMut(&Departure) -> Fate) -> Duration {
        let begin = self.now;
        self.stack.supply(self.conn, bytes, false);
        let patience = Duration::from_secs(600);
        self.run(begin + patience, |bed| bed.peer.received >= bytes, path);
        assert_eq!(self.peer.received, bytes, "the stream arrived whole");
        self.now.saturating_since(begin)
    }

    /// Runs until nothing more happens within a second: late acknowledgements arrive.
    pub fn settle(&mut self) {
        let end = self.now + Duration::from_secs(1);
        self.run(end, |_| false, |_| arrives());
    }

    pub fn run(
        &mut self,
        end: Instant,
        done: impl Fn(&Bed) -> bool,
        mut path: impl FnMut(&Departure) -> Fate,
    ) {
        loop {
            self.send(&mut path);
            if done(self) {
                return;
            }
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timer = self.stack.next_deadline();
            let Some(next) = event.into_iter().chain(timer).min() else {
                return;
            };
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now
            {
                let event = entry.remove();
                self.happen(event);
            }
            self.stack.on_timers(self.now);
            while self.stack.poll_event().is_some() {}
        }
    }

    fn send(&mut self, path: &mut impl FnMut(&Departure) -> Fate) {
        while let Some(out) = self.stack.poll_transmit(self.now) {
            let len = out.payload.end - out.payload.start;
            if len == 0 {
                continue;
            }
            let repeats = self.sent_before.entry(out.payload.start).or_default();
            let departure = Departure {
                at: self.now,
                range: out.payload,
                index: self.log.len() as u64,
                repeats: *repeats,
            };
            *repeats += 1;
            if let Fate::Arrives(after) = path(&departure) {
                self.schedule(after, Event::ToPeer(out.header, len));
            }
            self.log.push(departure);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToPeer(header, len) => {
                if self.peer.on_segment(&header, len) {
                    self.acknowledge();
                } else {
                    self.schedule(DELAYED_ACK, Event::DelayedAck);
                }
            }
            Event::DelayedAck => {
                if self.peer.has_waiting() {
                    self.acknowledge();
                }
            }
            Event::ToStack(header) => {
                let _ = give(&mut self.stack, self.now, &header, 0);
            }
        }
    }

    fn acknowledge(&mut self) {
        let header = self.peer.acknowledge(self.now + ONE_WAY);
        self.acks += 1;
        if !(self.lose_ack)(self.acks - 1) {
            self.schedule(ONE_WAY, Event::ToStack(header));
        }
    }

    /// A header from the peer, or from someone in its name.
    pub fn inject(&mut self, header: &TcpHeader) {
        let _ = give(&mut self.stack, self.now, header, 0);
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.event_number += 1;
        self.events
            .insert((self.now + after, self.event_number), event);
    }

    pub fn cwnd(&self) -> u32 {
        self.stack.control_view(self.conn).expect("it lives").cwnd
    }

    pub fn counters(&self) -> StackCounters {
        *self.stack.counters()
    }

    /// Segments that left more than once.
    pub fn repeated(&self) -> Vec<&Departure> {
        self.log.iter().filter(|d| d.repeats > 0).collect()
    }
}

fn give(stack: &mut Stack, now: Instant, header: &TcpHeader, len: u32) -> Option<ConnId> {
    let segment = Segment {
        key: key(),
        header,
        payload_len: len,
        ecn: sluice_wire::Ecn::NotEct,
    };
    stack.on_segment(now, &segment).conn
}
