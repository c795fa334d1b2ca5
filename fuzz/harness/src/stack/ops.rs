//! What the fuzzer can do to a stack: the peer's segments, the driver's calls, and time.
//!
//! Numbers are relative to where the connection stands, so that most segments land around the windows, where
//! the decisions are; absolute ones are there too.

use arbitrary::Arbitrary;
use sluice_tcp::clock::Instant;
use sluice_tcp::config::KeepAlive;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::skip::SkipConfig;
use sluice_tcp::{Autotune, StackConfig};
use sluice_wire::{AccEcnOption, AccEcnOrder, TcpFlags, TcpOptions, Timestamps};

use core::time::Duration;

/// Connections at once: few, so that tables are full soon.
pub(super) const CONNECTIONS: u32 = 3;
pub(super) const HALF_OPEN: u32 = 2;
const TIME_WAIT: u32 = 2;

#[derive(Arbitrary, Debug)]
pub(super) struct Setup {
    new_reno: bool,
    keep_alive: bool,
    /// How it ends: every connection aborted, or every peer silent.
    pub abort: bool,
    mtu: Mtu,
    receive_buffer: Buffer,
    send_limit: Buffer,
    secret: u8,
    /// The clock at the start, in 2^20 ns: around 2^32 ms, where timestamps wrap, and elsewhere.
    start: u32,
    autotune: Option<Tuning>,
    skip: Option<Skip>,
    /// In units of 8 s.
    user_timeout: Option<u8>,
}

/// Budgets so small that three connections fight for them, in units of 4 KiB.
#[derive(Arbitrary, Debug)]
struct Tuning {
    receive_max: Buffer,
    receive_budget: u8,
    send_budget: u8,
}

impl Tuning {
    fn config(&self) -> Autotune {
        Autotune {
            receive_max: self.receive_max.bytes(),
            receive_budget: u64::from(self.receive_budget) << 12,
            send_budget: u64::from(self.send_budget) << 12,
        }
    }
}

/// Tests of optimistic peers.
#[derive(Arbitrary, Debug)]
struct Skip {
    /// In 64 KiB per second.
    rate: u8,
    interval: u16,
}

impl Skip {
    fn config(&self) -> SkipConfig {
        SkipConfig {
            rate: u64::from(self.rate) << 16,
            interval: 1 + u64::from(self.interval),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Mtu {
    Least,
    Ethernet,
    Jumbo,
    Largest,
}

#[derive(Arbitrary, Debug)]
enum Buffer {
    Tiny(u8),
    Unscaled(u16),
    Scaled(u8),
}

impl Buffer {
    fn bytes(&self) -> u32 {
        match *self {
            Buffer::Tiny(bytes) => 1 + u32::from(bytes),
            Buffer::Unscaled(bytes) => 256 + u32::from(bytes),
            Buffer::Scaled(units) => (1 + u32::from(units)) << 13,
        }
    }
}

impl Setup {
    pub(super) fn config(&self) -> StackConfig {
        StackConfig {
            half_open: HALF_OPEN,
            time_wait: TIME_WAIT,
            mtu: match self.mtu {
                Mtu::Least => 576,
                Mtu::Ethernet => 1500,
                Mtu::Jumbo => 9000,
                Mtu::Largest => 65_535,
            },
            receive_buffer: self.receive_buffer.bytes(),
            send_limit: self.send_limit.bytes().min(1 << 18),
            congestion: if self.new_reno {
                Algorithm::NewReno
            } else {
                // Taken from a value that has no other effect worth telling apart, so that old inputs keep their meaning.
                [Algorithm::Cubic, Algorithm::Dctcp, Algorithm::Bbr][usize::from(self.secret % 3)]
            },
            pacing: Some(PacingConfig::default()),
            ecn: sluice_tcp::ecn_terms::EcnConfig::OFFER,
            keep_alive: self.keep_alive.then_some(KeepAlive {
                idle: Duration::from_secs(7200),
                interval: Duration::from_secs(75),
                probes: 3,
            }),
            autotune: self.autotune.as_ref().map(Tuning::config),
            skip: self.skip.as_ref().map(Skip::config),
            user_timeout: self.user_timeout.map(user_timeout),
            ..StackConfig::new(
                CONNECTIONS,
                [self.secret; 16],
                Secret::new([self.secret; 32]),
            )
        }
    }

    pub(super) fn start(&self) -> Instant {
        Instant::from_nanos(u64::from(self.start) << 20)
    }
}

/// A user timeout; 0 is the shortest there is.
pub(super) fn user_timeout(units: u8) -> Duration {
    Duration::from_secs(8) * u32::from(units)
}

#[derive(Arbitrary, Debug)]
pub(super) enum Op {
    /// A whole handshake.
    Connect {
        flow: u8,
        seq: u32,
        syn: Syn,
    },
    /// A SYN and nothing else.
    Syn {
        flow: u8,
        seq: u32,
        syn: Syn,
    },
    /// Anything, around the windows.
    Segment(SegmentOp),
    /// The next bytes in order, with an honest acknowledgement.
    Data {
        flow: u8,
        len: u16,
        fin: bool,
    },
    /// An honest acknowledgement of a part of what is out: all for 255.
    Ack {
        flow: u8,
        part: u8,
        window: u16,
    },
    /// A duplicate acknowledgement with a block above a hole.
    Sack {
        flow: u8,
        hole: u16,
        len: u16,
    },
    Supply {
        flow: u8,
        bytes: u16,
        more: bool,
    },
    /// Drops what was read ahead and not sent.
    SupplyLess {
        flow: u8,
    },
    Consume {
        flow: u8,
        part: u8,
    },
    Close {
        flow: u8,
    },
    Abort {
        flow: u8,
    },
    Deadline {
        flow: u8,
        after_ms: Option<u16>,
    },
    Transmit {
        count: u8,
    },
    Wait {
        micros: u32,
    },
    Sleep {
        days: u8,
    },
    /// To the next deadline.
    Timer,
    Accepting(bool),
    /// An active open.
    Open {
        flow: u8,
    },
    /// The peer's SYN to that, with the acknowledgement of ours, or crossing it.
    Answer {
        flow: u8,
        seq: u32,
        syn: Syn,
        crossing: bool,
    },
    /// An ICMP error that quotes a segment.
    Icmp {
        flow: u8,
        error: Error,
        quoted: Ack,
    },
    CloseReceive {
        flow: u8,
    },
    /// The driver stores elsewhere: it has room for so many times 16 bytes.
    ConsumeWithRoom {
        flow: u8,
        part: u8,
        room: u16,
    },
    UserTimeout {
        flow: u8,
        limit: Option<u8>,
    },
    WaitsFor {
        flow: u8,
        what: u8,
    },
    /// An honest acknowledgement of a part of what is out, which says what became of it.
    Feedback {
        flow: u8,
        part: u8,
        ace: u8,
        report: Report,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Error {
    Unreachable(u8),
    TooBig(u16),
}

/// An AccECN option. The counters are small: what was sent is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Report {
    ect1_first: bool,
    fields: u8,
    ect0: u16,
    ce: u16,
    ect1: u16,
}

impl Report {
    pub(super) fn option(&self) -> AccEcnOption {
        let order = match self.ect1_first {
            true => AccEcnOrder::Ect1First,
            false => AccEcnOrder::Ect0First,
        };
        let counters = [self.ect0, self.ce, self.ect1].map(u32::from);
        AccEcnOption::new(order, counters, self.fields % 4)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Syn {
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
    timestamps: Option<u32>,
    pub window: u16,
    pub payload_len: u8,
    /// AE, CWR and ECE: what it offers of ECN, or takes.
    ace: u8,
}

impl Syn {
    pub(super) fn flags(&self) -> TcpFlags {
        TcpFlags::SYN.with_ace(self.ace)
    }

    pub(super) fn options(&self) -> TcpOptions {
        TcpOptions {
            mss: self.mss,
            window_scale: self.scale,
            sack_permitted: self.sack,
            timestamps: self.timestamps.map(|value| Timestamps { value, echo: 0 }),
            ..TcpOptions::default()
        }
    }
}

#[derive(Arbitrary, Debug)]
pub(super) struct SegmentOp {
    pub flow: u8,
    pub flags: u16,
    pub seq: Seq,
    pub ack: Ack,
    pub window: u16,
    pub len: u16,
    pub timestamp: Stamp,
    pub sack: [Option<Block>; 2],
    /// Options that belong in a SYN.
    pub junk: bool,
    /// Whether a segment for nobody is refused by this stack.
    pub refuse: bool,
    pub accecn: Option<Report>,
}

#[derive(Arbitrary, Debug)]
pub(super) enum Seq {
    /// From RCV.NXT.
    Next(i16),
    /// From the right edge of the window.
    Edge(i8),
    /// From the start of the stream.
    Start(i8),
    Absolute(u32),
}

#[derive(Arbitrary, Debug)]
pub(super) enum Ack {
    /// From the highest sequence number that we were sent.
    Sent(i8),
    /// From what is acknowledged.
    Una(i16),
    Absolute(u32),
}

/// TSval, from the last honest one.
#[derive(Arbitrary, Debug)]
pub(super) enum Stamp {
    Honest,
    Offset(i16),
    Absolute(u32, u32),
    Missing,
}

/// From what is acknowledged: start, and end from there.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Block {
    pub start: i16,
    pub len: i16,
}
