//! Peers for a stack in memory: they say one segment at a time and read one answer.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::{Receipt, Segment, Stack, StackConfig};
use sluice_wire::{Ecn, TcpFlags, TcpHeader, TcpOptions, Timestamps};

/// Where the stack listens.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Some time after the epoch of the clock.
pub const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// A stack with room for so many connections and handshakes.
pub fn config(connections: u32, half_open: u32) -> StackConfig {
    StackConfig {
        half_open,
        time_wait: 64,
        receive_buffer: 1 << 20,
        ecn: sluice_tcp::ecn_terms::EcnConfig::ACCEPT,
        ..StackConfig::new(connections, [7; 16], Secret::new([9; 32]))
    }
}

/// `START` and so many milliseconds.
pub fn at(ms: u64) -> Instant {
    START + Duration::from_millis(ms)
}

/// A client by its address.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
    pub port: u16,
    pub iss: u32,
    pub options: TcpOptions,
}

impl Peer {
    /// A host of 10.0.0.0/8 that offers what Linux does.
    pub fn new(number: u32) -> Peer {
        Peer {
            address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | (number & 0x00ff_ffff))),
            port: 50_000,
            iss: number.wrapping_mul(2_654_435_761),
            options: TcpOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some(Timestamps {
                    value: 1000,
                    echo: 0,
                }),
                ..TcpOptions::default()
            },
        }
    }

    /// The same without any option.
    pub fn plain(number: u32) -> Peer {
        Peer {
            options: TcpOptions::default(),
            ..Peer::new(number)
        }
    }

    pub fn key(&self) -> FlowKey {
        FlowKey::new(IpAddr::V4(SERVER), 80, self.address, self.port)
    }

    pub fn header(&self, seq: u32, ack: u32, flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            src_port: self.port,
            dst_port: 80,
            seq,
            ack,
            flags,
            window: 1000,
            urgent: 0,
            options: TcpOptions::default(),
        }
    }

    pub fn syn(&self) -> TcpHeader {
        TcpHeader {
            options: self.options,
            ..self.header(self.iss, 0, TcpFlags::SYN)
        }
    }

    /// The final ACK for this SYN-ACK.
    pub fn ack(&self, syn_ack: &TcpHeader) -> TcpHeader {
        let mut header = self.header(
            self.iss.wrapping_add(1),
            syn_ack.seq.wrapping_add(1),
            TcpFlags::ACK,
        );
        header.options.timestamps = syn_ack.options.timestamps.map(|timestamps| Timestamps {
            value: 1001,
            echo: timestamps.value,
        });
        header
    }

    /// Gives a segment of this peer to the stack.
    pub fn say(&self, stack: &mut Stack, now: Instant, header: &TcpHeader) -> Receipt {
        stack.on_segment(
            now,
            &Segment {
                key: self.key(),
                header,
                payload_len: 0,
                ecn: Ecn::NotEct,
            },
        )
    }

    /// Says a segment and gives every answer to it, in the order they leave.
    pub fn ask(&self, stack: &mut Stack, now: Instant, header: &TcpHeader) -> Vec<TcpHeader> {
        let receipt = self.say(stack, now, header);
        receipt
            .reply
            .into_iter()
            .chain(core::iter::from_fn(|| {
                stack.poll_transmit(now).map(|outgoing| outgoing.header)
            }))
            .collect()
    }

    /// Says a SYN and gives the SYN-ACK.
    pub fn knock(&self, stack: &mut Stack, now: Instant) -> TcpHeader {
        let answers = self.ask(stack, now, &self.syn());
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].flags, TcpFlags::SYN.union(TcpFlags::ACK));
        assert_eq!(answers[0].ack, self.iss.wrapping_add(1));
        answers[0]
    }
}
