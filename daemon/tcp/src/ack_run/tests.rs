//! Runs of acknowledgements at a stack with one connection.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use sluice_wire::{AccEcnOption, AccEcnOrder, SackBlock, SackBlocks};

use super::*;
use crate::StackConfig;
use crate::congestion::Algorithm;
use crate::ecn_terms::EcnConfig;
use crate::isn::Secret;
use crate::pacing::PacingConfig;
use crate::segment::{Disposition, Receipt};
use crate::stack::Stack;

mod joining;
mod twins;

const START: Instant = Instant::from_nanos(1_000_000_000_000);
/// Of the peer.
const ISS: u32 = u32::MAX - 3;
const MSS: u32 = 1448;
/// What the peer echoes left so long ago, or a millisecond more.
const ECHOED_BEFORE: Duration = Duration::from_millis(5);

fn key(port: u16) -> FlowKey {
    FlowKey::new(
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        80,
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        port,
    )
}

fn config(congestion: Algorithm) -> StackConfig {
    StackConfig {
        congestion,
        ecn: EcnConfig::ACCEPT,
        pacing: Some(PacingConfig::default()),
        ..StackConfig::new(4, [7; 16], Secret::new([9; 32]))
    }
}

/// A stack with one connection that has something to send, and its peer.
struct Bed {
    stack: Stack,
    conn: ConnId,
    now: Instant,
    /// The ACK of everything received, with window, SEQ and timestamps of this moment.
    ack: TcpHeader,
    /// Where our stream begins.
    first: u32,
    /// Up to where it was sent, and when.
    sent: Vec<(u32, Instant)>,
}

impl Bed {
    fn new(syn_flags: TcpFlags, config: StackConfig) -> Bed {
        let mut stack = Stack::new(config, START);
        let mut ack = TcpHeader {
            src_port: 4000,
            dst_port: 80,
            seq: ISS,
            flags: TcpFlags::SYN.union(syn_flags),
            window: 60_000,
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
            ..TcpHeader::default()
        };
        let receipt = hear(&mut stack, START, &ack, 0);
        let syn_ack = receipt
            .reply
            .or_else(|| stack.poll_transmit(START).map(|outgoing| outgoing.header))
            .expect("the answer to a SYN");
        ack.seq = ISS.wrapping_add(1);
        ack.ack = syn_ack.seq.wrapping_add(1);
        ack.flags = TcpFlags::ACK;
        // Of a SYN-ACK that was not marked (RFC 9768 table 3).
        if syn_ack.flags.contains(TcpFlags::CWR) {
            ack.flags = ack.flags.with_ace(2);
        }
        ack.options = TcpOptions::default();
        let echo = syn_ack.options.timestamps.expect("offered").value;
        ack.options.timestamps = Some(Timestamps { value: 1001, echo });
        let now = START + Duration::from_millis(20);
        let conn = hear(&mut stack, now, &ack, 0).conn.expect("a connection");
        if ack.flags.ace() != 0 {
            // The counter begins with 5.
            ack.flags = ack.flags.with_ace(5);
        }
        let first = ack.ack;
        stack.supply(conn, 1 << 40, true);
        while stack.poll_event().is_some() {}
        Bed {
            stack,
            conn,
            now,
            ack,
            first,
            sent: Vec::new(),
        }
    }

    fn plain() -> Bed {
        Bed::new(TcpFlags::EMPTY, config(Algorithm::Cubic))
    }

    /// Everything that may leave, and the end of what did.
    fn transmit(&mut self) -> u32 {
        while self.stack.poll_transmit(self.now).is_some() {}
        let end = self.sent_until();
        if self.sent.last().is_none_or(|(last, _)| *last != end) {
            self.sent.push((end, self.now));
        }
        end
    }

    /// How long the first segment has been in flight.
    fn longest_wait(&mut self) -> Duration {
        let una = self.una();
        let is_in_flight = |end: u32| (1..=i32::MAX as u32).contains(&end.wrapping_sub(una));
        let first = self.sent.iter().find(|(end, _)| is_in_flight(*end));
        first.map_or(Duration::ZERO, |(_, at)| self.now.saturating_since(*at))
    }

    fn sent_until(&mut self) -> u32 {
        let connection = self.connection();
        connection.send.seq(connection.send.snd_nxt).raw()
    }

    fn connection(&mut self) -> &mut Connection {
        let (connection, _) = (self.stack.slots).awake(self.conn.slot).expect("awake");
        connection
    }

    fn una(&mut self) -> u32 {
        let connection = self.connection();
        connection.send.seq(connection.send.snd_una).raw()
    }

    /// The acknowledgement of so many full segments.
    fn ack_of(&self, segments: u32) -> TcpHeader {
        TcpHeader {
            ack: self.first.wrapping_add(segments * MSS),
            ..self.ack
        }
    }

    fn hear(&mut self, header: &TcpHeader) -> Receipt {
        hear(&mut self.stack, self.now, header, 0)
    }

    fn begin(&mut self, header: &TcpHeader) -> Option<AckRun> {
        self.stack.begin_run(self.now, &segment(header, 0))
    }

    /// As a driver does: what joins no run goes to the stack by itself.
    fn hear_batch(&mut self, batch: &[(TcpHeader, Ecn)]) {
        let mut run: Option<AckRun> = None;
        for (header, ecn) in batch {
            let segment = Segment {
                ecn: *ecn,
                ..segment(header, 0)
            };
            if run.as_mut().is_some_and(|run| run.merge(&segment)) {
                continue;
            }
            if let Some(run) = run.take() {
                self.stack.end_run(self.now, &run);
            }
            run = self.stack.begin_run(self.now, &segment);
            if run.is_none() {
                let _ = self.stack.on_segment(self.now, &segment);
            }
        }
        if let Some(run) = run {
            self.stack.end_run(self.now, &run);
        }
    }

    fn hear_each(&mut self, batch: &[(TcpHeader, Ecn)]) {
        for (header, ecn) in batch {
            let segment = Segment {
                ecn: *ecn,
                ..segment(header, 0)
            };
            let _ = self.stack.on_segment(self.now, &segment);
        }
    }
}

fn segment(header: &TcpHeader, payload_len: u32) -> Segment<'_> {
    Segment {
        key: key(header.src_port),
        header,
        payload_len,
        ecn: Ecn::NotEct,
    }
}

fn hear(stack: &mut Stack, now: Instant, header: &TcpHeader, payload_len: u32) -> Receipt {
    stack.on_segment(now, &segment(header, payload_len))
}

fn with_timestamps(header: TcpHeader, value: u32, echo: u32) -> TcpHeader {
    let mut header = header;
    header.options.timestamps = Some(Timestamps { value, echo });
    header
}

fn with_sack(header: TcpHeader, start: u32, end: u32) -> TcpHeader {
    let mut header = header;
    let mut sack = SackBlocks::EMPTY;
    sack.push(SackBlock { start, end });
    header.options.sack = sack;
    header
}
