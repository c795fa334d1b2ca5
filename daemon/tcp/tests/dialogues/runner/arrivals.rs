//! What arrives at the stack: segments of the peers, one by one or in runs, and errors from the path.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_tcp::{ConnId, Disposition, Events, Segment};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

use super::{Arrived, IRS, LOCAL_PORT, PEER_CLOCK, Peer, Runner, Taking, key};
use crate::expand::{option_bytes, relative, resolve};
use crate::frame::{self, Wire, WireError};
use crate::script::{Claim, FLAG_ACK, FLAG_SYN, IcmpPattern, Pattern, Stamps, Turn};
use crate::text;

impl Runner {
    pub(super) fn arrive(&mut self, pattern: &Pattern, turn: Turn) -> Result<(), String> {
        let port = pattern.port;
        let clock = i64::try_from(self.now.saturating_since(self.start).as_millis());
        let clock = clock.map_err(|error| error.to_string())?;
        let our_clock = self.our_clock_start(port);
        let peer = self.peers.entry(port).or_insert_with(|| Peer {
            irs: IRS,
            window: u16::MAX,
            ..Peer::default()
        });
        peer.window = pattern.window.unwrap_or(peer.window);
        let stamps = match pattern.stamps {
            Stamps::Negotiated if peer.timestamps => Some((None, None)),
            Stamps::Negotiated | Stamps::Without => None,
            Stamps::Given(value, echo) => Some((value, echo)),
        };
        let stamps = stamps.map(|(value, echo)| {
            let echoes = pattern.flags & FLAG_ACK != 0;
            let echo = echo.map(|echo| relative(our_clock, echo));
            (
                relative(PEER_CLOCK, value.unwrap_or(clock)),
                echo.unwrap_or(if echoes { peer.echo } else { 0 }),
            )
        });
        let options = option_bytes(pattern, stamps, peer.iss);
        let seq = resolve(peer.irs, pattern.seq);
        let key = key(self.ipv6, port);
        let frame = frame::frame(&Wire {
            src: key.remote(),
            dst: key.local(),
            src_port: port,
            dst_port: LOCAL_PORT,
            seq,
            ack: pattern.ack.map_or(0, |ack| resolve(peer.iss, ack)),
            flags: pattern.flags,
            window: peer.window,
            urgent: pattern.urgent,
            options: &options,
            payload_len: usize::try_from(pattern.len).expect("a segment"),
            bad_checksum: pattern.bad_checksum,
            ecn: pattern.ecn,
        });
        self.arrived = Arrived::default();
        match frame::read(&frame) {
            Ok((header, len, ecn)) => {
                let rendered = text::arriving(&header, len, peer.irs, peer.iss, PEER_CLOCK);
                self.transcript
                    .push(format!("{} < {rendered}", self.stamp(self.now)));
                self.deliver((port, ecn), &header, len, stamps.is_some());
            }
            Err(reason) => self.arrived.drop = reason,
        }
        self.end_turn(turn);
        Ok(())
    }

    /// An error from a router on the path.
    pub(super) fn arrive_icmp(&mut self, pattern: &IcmpPattern) -> Result<(), String> {
        let iss = self.peers.get(&pattern.port).map_or(0, |peer| peer.iss);
        let key = key(self.ipv6, pattern.port);
        let (kind, code, mtu) = match (pattern.claim, self.ipv6) {
            (Claim::TooBig(mtu), false) => (3, 4, mtu),
            (Claim::TooBig(mtu), true) => (2, 0, mtu),
            (Claim::Unreachable(code), false) => (3, code, 0),
            (Claim::Unreachable(code), true) => (1, code, 0),
        };
        let frame = frame::error_frame(&WireError {
            src: router(self.ipv6),
            dst: key.local(),
            peer: key.remote(),
            src_port: LOCAL_PORT,
            dst_port: pattern.port,
            seq: resolve(iss, pattern.quoted),
            kind,
            code,
            mtu,
        });
        self.arrived = Arrived::default();
        self.transcript
            .push(format!("{} < icmp {pattern:?}", self.stamp(self.now)));
        self.arrived.icmp = match frame::read_error(&frame) {
            Ok(error) => {
                let verdict = self.stack.on_icmp(self.now, &error);
                verdict
                    .map_or("icmp_unknown_flow", |verdict| verdict.name())
                    .to_owned()
            }
            Err(reason) => reason,
        };
        self.pump();
        Ok(())
    }

    fn deliver(&mut self, (port, ecn): (u16, Ecn), header: &TcpHeader, len: u32, has_stamps: bool) {
        let segment = Segment {
            ecn,
            key: key(self.ipv6, port),
            header,
            payload_len: len,
        };
        if self.port_closed {
            if let Some(header) = self.stack.refuse(&segment) {
                self.sent(port, header, 0, None);
            }
            return;
        }
        if self.taking == Taking::Runs && self.joins(&segment) {
            return;
        }
        let before = self.peers.get(&port).and_then(|peer| peer.conn);
        let before = before.and_then(|conn| self.stack.state(conn));
        let receipt = self.stack.on_segment(self.now, &segment);
        let peer = self.peers.get_mut(&port).expect("entered on arrival");
        let is_syn = header.flags.bits() & FLAG_SYN != 0;
        let cookie = receipt.reply.filter(|_| is_syn && receipt.conn.is_none());
        let cookie = cookie.filter(|reply| reply.flags.contains(TcpFlags::SYN));
        let is_new = receipt.conn.is_some() && receipt.conn != peer.conn;
        if is_syn && (is_new || cookie.is_some()) {
            // A new handshake: numbers are relative to this SYN from now on.
            peer.irs = header.seq;
            peer.timestamps = has_stamps;
            peer.conn = receipt.conn;
            peer.closed = None;
            peer.events = Events::default();
            if let Some(cookie) = cookie {
                peer.iss = cookie.seq;
                peer.iss_of = None;
            }
        } else if is_syn && peer.is_called && self.stack.state(conn_of(peer)) != before {
            // The answer to a SYN of ours.
            peer.timestamps = has_stamps;
        } else if is_new {
            // The final ACK made a connection of the handshake.
            peer.conn = receipt.conn;
        }
        self.arrived = Arrived {
            icmp: String::new(),
            drop: match receipt.disposition {
                Disposition::Accepted => "none".to_owned(),
                Disposition::Unknown => "unknown".to_owned(),
                Disposition::Dropped(reason) => reason.name().to_owned(),
            },
            new: receipt.pieces.collect(),
            trusted: receipt.trusted,
            rtt: receipt.rtt,
        };
        let answer = match receipt.disposition {
            Disposition::Unknown => self.stack.refuse(&segment),
            _ => receipt.reply,
        };
        if let Some(header) = answer {
            let conn = self.peers[&port].iss_of;
            self.sent(port, header, 0, conn);
        }
    }

    /// Whether a segment is an acknowledgement that is taken in a run.
    fn joins(&mut self, segment: &Segment<'_>) -> bool {
        if self.run.as_mut().is_some_and(|run| run.merge(segment)) {
            return true;
        }
        self.end_run();
        self.run = self.stack.begin_run(self.now, segment);
        self.run.is_some()
    }

    pub(super) fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.arrived = Arrived {
                drop: "none".to_owned(),
                trusted: true,
                rtt: self.stack.end_run(self.now, &run),
                ..Arrived::default()
            };
        }
    }
}

/// A router on the path.
fn router(ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))
    } else {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))
    }
}

fn conn_of(peer: &Peer) -> ConnId {
    peer.conn.expect("we opened")
}
