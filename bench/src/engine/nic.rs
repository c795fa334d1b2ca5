//! The wire between a server and the ideal client, in memory, with a stopwatch that runs for the server only.
//!
//! Frames leave through a ring as small as that of a NIC, so that both servers write into memory that is warm in
//! the cache. When the ring is full the client takes everything out at once with the watch stopped: neither server
//! ever waits for room, and no part of the client is measured.

use std::time::{Duration, Instant};

use super::client::Client;

/// Frames in the ring: 1.5 MiB, between L2 and L3 on most machines.
const SLOTS: usize = 1024;
/// Bytes of a frame: MTU 1500 and an Ethernet header.
pub const FRAME_BYTES: usize = 1514;
/// Bytes of an Ethernet header without tags.
pub const ETHERNET_BYTES: usize = 14;

/// Measures the server.
#[derive(Debug, Default)]
pub struct Stopwatch {
    total: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    /// Starts or continues.
    pub fn start(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Pauses.
    pub fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.total += since.elapsed();
        }
    }

    /// What it measured, from zero again.
    pub fn take(&mut self) -> Duration {
        std::mem::take(&mut self.total)
    }
}

/// Frames from the server to the client.
pub struct Outbox {
    slots: Vec<[u8; FRAME_BYTES]>,
    lengths: Vec<usize>,
    client: Client,
    watch: Stopwatch,
}

impl Outbox {
    /// Has room for one more frame, which `write` fills and gives the length of.
    pub fn send(&mut self, write: impl FnOnce(&mut [u8; FRAME_BYTES]) -> usize) {
        if self.lengths.len() == SLOTS {
            self.watch.stop();
            self.deliver();
            self.watch.start();
        }
        let len = write(&mut self.slots[self.lengths.len()]);
        self.lengths.push(len);
    }

    /// Gives what is in the ring to the client.
    fn deliver(&mut self) {
        for (slot, len) in self.slots.iter().zip(self.lengths.drain(..)) {
            self.client.take(&slot[..len]);
        }
    }
}

/// Frames from the client to the server, in order.
#[derive(Default)]
pub struct Inbox {
    frames: Vec<Small>,
    next: usize,
    /// Where the batch of this turn ends.
    end: usize,
}

/// A frame without payload: at most 14 + 20 + 60 bytes.
#[derive(Clone, Copy)]
pub struct Small {
    /// The frame is the front of it.
    pub bytes: [u8; 94],
    /// Its length.
    pub len: usize,
}

impl Inbox {
    /// The next frame of this turn.
    pub fn receive(&mut self) -> Option<&[u8]> {
        let frame = self.frames[..self.end].get(self.next)?;
        self.next += 1;
        Some(&frame.bytes[..frame.len])
    }

    /// Makes the next `batch` frames available; false if there are none.
    fn advance(&mut self, batch: usize) -> bool {
        self.end = self.next.saturating_add(batch).min(self.frames.len());
        self.next < self.end
    }
}

/// Both directions as a server sees them.
pub struct Nic {
    /// From the client.
    pub inbox: Inbox,
    /// To the client.
    pub outbox: Outbox,
}

/// A stack with an application that sends without end on every connection it accepts.
pub trait Server {
    /// Takes what arrived for this turn, then sends everything that may leave.
    fn turn(&mut self, now: Duration, nic: &mut Nic);
}

impl Nic {
    /// A wire with a client at its end.
    pub fn new(client: Client) -> Nic {
        let mut slot = [0; FRAME_BYTES];
        // A server without link layer leaves this as it is.
        slot[..ETHERNET_BYTES].copy_from_slice(&super::client::LINK_TO_CLIENT);
        Nic {
            inbox: Inbox::default(),
            outbox: Outbox {
                slots: vec![slot; SLOTS],
                lengths: Vec::with_capacity(SLOTS),
                client,
                watch: Stopwatch::default(),
            },
        }
    }

    /// One round trip: the client's answers to the round before arrive in batches, after each of which the server has
    /// a turn, and the client takes what was sent.
    pub fn round(&mut self, now: Duration, batch: usize, server: &mut impl Server) {
        self.inbox.frames.clear();
        self.inbox.next = 0;
        self.outbox.client.answers(now, &mut self.inbox.frames);
        while self.inbox.advance(batch) {
            self.outbox.watch.start();
            server.turn(now, self);
            self.outbox.watch.stop();
        }
        self.outbox.deliver();
    }

    /// The client.
    pub fn client(&mut self) -> &mut Client {
        &mut self.outbox.client
    }

    /// Time of the server since the last look.
    pub fn take_time(&mut self) -> Duration {
        self.outbox.watch.take()
    }
}
