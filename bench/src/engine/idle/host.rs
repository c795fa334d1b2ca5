//! A stack with a small web server's habits, peers made of segments, and a clock that only moves when told to.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant as WallInstant};

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::{ConnId, Disposition, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpFlags, TcpHeader, TcpOptions, Timestamps};

use super::super::client::{PORT, SERVER};
use crate::error::Error;

/// Bytes of a request.
const REQUEST: u32 = 120;
/// Bytes of a response: three segments.
pub const RESPONSE: u64 = 4096;
/// Virtual time between two new connections: 100,000 a second.
const SPACING: Duration = Duration::from_micros(10);
/// Connections between two looks at the timers: the batch of a worker.
const TIMERS_EVERY: u32 = 32;
/// The driver's own deadline of every connection, as the daemon's for an idle one.
const KEEP_ALIVE: Duration = Duration::from_secs(3600);
/// Room for connections that are not idle.
const SPARE: u32 = 1024;
/// Every so many idle connections one is remembered, to be woken.
const REMEMBER_EVERY: u32 = 97;

/// One peer's view of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    key: FlowKey,
    seq: u32,
    ack: u32,
    echo: u32,
}

/// See the module documentation.
pub struct Host {
    stack: Stack,
    now: Instant,
    /// Connections ever made.
    made: u32,
    remembered: Vec<Peer>,
    next_to_wake: usize,
}

impl Host {
    /// A stack for `idle` connections and some more.
    pub fn new(idle: u32) -> Host {
        let config = StackConfig {
            half_open: 1024,
            time_wait: 1024,
            receive_buffer: 1 << 16,
            pacing: Some(PacingConfig::default()),
            ecn: sluice_tcp::ecn_terms::EcnConfig::ACCEPT,
            ..StackConfig::new(
                idle + SPARE,
                *b"a key for a test",
                Secret::new(*b"a secret of the bench, known all"),
            )
        };
        let start = Instant::ZERO + Duration::from_secs(1);
        Host {
            stack: Stack::new(config, start),
            now: start,
            made: 0,
            remembered: Vec::new(),
            next_to_wake: 0,
        }
    }

    /// A connection that has a request answered and stays.
    pub fn settle_down(&mut self) -> Result<(), Error> {
        let mut peer = self.connect()?;
        self.request(&mut peer)?;
        if self.made.is_multiple_of(REMEMBER_EVERY) {
            self.remembered.push(peer);
        }
        Ok(())
    }

    /// The time of a request on a connection of its own, which the peer then resets.
    pub fn request_on_new(&mut self) -> Result<Duration, Error> {
        let mut peer = self.connect()?;
        let time = self.request(&mut peer)?;
        self.say(&peer, TcpFlags::RST, 0);
        while self.stack.poll_event().is_some() {}
        Ok(time)
    }

    /// The time of a request on a connection that was idle until now.
    pub fn request_on_idle(&mut self) -> Result<Duration, Error> {
        self.advance();
        let index = self.next_to_wake % self.remembered.len().max(1);
        self.next_to_wake += 1;
        let mut peer = *self
            .remembered
            .get(index)
            .ok_or_else(|| wrong("no idle connection was remembered"))?;
        let time = self.request(&mut peer)?;
        self.remembered[index] = peer;
        Ok(time)
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + Duration::from_millis(1);
            self.stack.on_timers(self.now);
            while self.stack.poll_transmit(self.now).is_some() {}
        }
    }

    /// Fails unless so many connections are there and all of them rest.
    pub fn check_all_rest(&self, connections: u32) -> Result<(), Error> {
        if (self.stack.len(), self.stack.awake()) == (connections, 0) {
            return Ok(());
        }
        Err(wrong(format!(
            "{} of {} connections are awake",
            self.stack.awake(),
            self.stack.len()
        )))
    }

    fn advance(&mut self) {
        self.now = self.now + SPACING;
        if self.made.is_multiple_of(TIMERS_EVERY) {
            self.stack.on_timers(self.now);
            while self.stack.poll_transmit(self.now).is_some() {}
        }
    }

    fn connect(&mut self) -> Result<Peer, Error> {
        self.advance();
        self.made += 1;
        // Sixteen million clients of 10.0.0.0/8, then their next port.
        let address = Ipv4Addr::from_bits(0x0a00_0000 | (self.made & 0x00ff_ffff));
        let port = 50_000 + u16::try_from(self.made >> 24).unwrap_or(0);
        let iss = self.made.wrapping_mul(0x9e37_79b9);
        let mut peer = Peer {
            key: FlowKey::new(IpAddr::V4(SERVER), PORT, IpAddr::V4(address), port),
            seq: iss,
            ack: 0,
            echo: 0,
        };
        let syn = TcpHeader {
            options: TcpOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: peer.timestamps(self.now),
                ..TcpOptions::default()
            },
            ..peer.header(TcpFlags::SYN, self.now)
        };
        let (_, reply) = self.give(&peer, &syn, 0);
        let syn_ack = match reply {
            Some(header) => header,
            None => self
                .stack
                .poll_transmit(self.now)
                .map(|outgoing| outgoing.header)
                .ok_or_else(|| wrong("a SYN was not answered"))?,
        };
        peer.seq = iss.wrapping_add(1);
        peer.hear(&syn_ack, 1);
        self.say(&peer, TcpFlags::ACK, 0);
        while let Some((conn, _)) = self.stack.poll_event() {
            self.stack.set_deadline(conn, Some(self.now + KEEP_ALIVE));
        }
        while self.stack.poll_transmit(self.now).is_some() {}
        Ok(peer)
    }

    /// A request, its response and the acknowledgement of that; the time until the response had left.
    fn request(&mut self, peer: &mut Peer) -> Result<Duration, Error> {
        let header = peer.header(TcpFlags::ACK.union(TcpFlags::PSH), self.now);
        let wall = WallInstant::now();
        let (disposition, _) = self.give(peer, &header, REQUEST);
        self.serve();
        let mut last = None;
        let mut bytes = 0;
        while let Some(outgoing) = self.stack.poll_transmit(self.now) {
            let len = outgoing.payload.end - outgoing.payload.start;
            bytes += len;
            last = Some((outgoing.header, len));
        }
        let time = wall.elapsed();
        let Some((header, len)) = last.filter(|_| bytes == RESPONSE) else {
            return Err(wrong(format!(
                "a response had {bytes} bytes, after {disposition:?}"
            )));
        };
        peer.seq = peer.seq.wrapping_add(REQUEST);
        peer.hear(&header, u32::try_from(len).unwrap_or(0));
        self.say(peer, TcpFlags::ACK, 0);
        while self.stack.poll_event().is_some() {}
        while self.stack.poll_transmit(self.now).is_some() {}
        Ok(time)
    }

    /// What the application does with a request.
    fn serve(&mut self) {
        while let Some((conn, events)) = self.stack.poll_event() {
            if events.readable {
                let delivered = self.stack.delivered(conn);
                self.stack.consume(conn, delivered);
                self.answer(conn);
                self.stack.set_deadline(conn, Some(self.now + KEEP_ALIVE));
            }
        }
    }

    fn answer(&mut self, conn: ConnId) {
        let sent = self.stack.send_view(conn).map_or(0, |view| view.sent);
        self.stack.supply(conn, sent + RESPONSE, false);
    }

    fn say(&mut self, peer: &Peer, flags: TcpFlags, payload_len: u32) {
        let header = peer.header(flags, self.now);
        let _ = self.give(peer, &header, payload_len);
    }

    fn give(
        &mut self,
        peer: &Peer,
        header: &TcpHeader,
        payload_len: u32,
    ) -> (Disposition, Option<TcpHeader>) {
        let segment = Segment {
            key: peer.key,
            header,
            payload_len,
            ecn: Ecn::NotEct,
        };
        let receipt = self.stack.on_segment(self.now, &segment);
        (receipt.disposition, receipt.reply)
    }
}

impl Peer {
    fn header(&self, flags: TcpFlags, now: Instant) -> TcpHeader {
        TcpHeader {
            src_port: self.key.remote_port(),
            dst_port: self.key.local_port(),
            seq: self.seq,
            ack: self.ack,
            flags,
            window: 1000,
            options: TcpOptions {
                timestamps: self.timestamps(now),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        }
    }

    fn timestamps(&self, now: Instant) -> Option<Timestamps> {
        Some(Timestamps {
            value: u32::try_from(now.as_millis()).unwrap_or(u32::MAX),
            echo: self.echo,
        })
    }

    /// Takes a segment with so many sequence numbers.
    fn hear(&mut self, header: &TcpHeader, len: u32) {
        self.ack = header.seq.wrapping_add(len);
        self.echo = header.options.timestamps.map_or(0, |option| option.value);
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::WrongBytes {
        backend: "sluice",
        what: what.into(),
    }
}
