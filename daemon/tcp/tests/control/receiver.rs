//! A receiver as it is usual: delayed ACKs, SACK, and the echo of congestion marks.

use core::time::Duration;
use std::collections::BTreeMap;

use sluice_tcp::clock::Instant;
use sluice_wire::{Ecn, SackBlock, SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps};

use crate::link::MSS;

const DELAYED_ACK: Duration = Duration::from_millis(40);
/// The sender's window never ends here.
const WINDOW_SCALE: u8 = 12;
const ISS: u32 = 77;
/// Of the option in a segment, with its padding.
pub const STAMP_LEN: u32 = 12;

/// What a segment makes the receiver say.
pub struct Reply {
    pub ack: Option<TcpHeader>,
    pub delayed_until: Option<Instant>,
}

pub struct Receiver {
    port: u16,
    ecn: bool,
    dctcp: bool,
    /// IRS + 1, known after the SYN-ACK.
    origin: Option<u32>,
    rcv_nxt: u64,
    /// Start and end of what is held above `rcv_nxt`.
    held: BTreeMap<u64, u64>,
    newest: u64,
    unacknowledged: u32,
    delayed_until: Option<Instant>,
    echo: bool,
    timestamps: bool,
    /// TS.Recent, and Last.ACK.sent.
    recent: u32,
    acknowledged: u64,
}

impl Receiver {
    pub fn new(port: u16, ecn: bool, dctcp: bool) -> Receiver {
        Receiver {
            port,
            ecn,
            dctcp,
            origin: None,
            rcv_nxt: 0,
            held: BTreeMap::new(),
            newest: 0,
            unacknowledged: 0,
            delayed_until: None,
            echo: false,
            timestamps: false,
            recent: 0,
            acknowledged: 0,
        }
    }

    /// The same with timestamps (RFC 7323), which make evidence of what arrived.
    pub fn with_timestamps(self) -> Receiver {
        Receiver {
            timestamps: true,
            ..self
        }
    }

    fn stamp(&self, now: Instant) -> Option<Timestamps> {
        self.timestamps.then(|| Timestamps {
            value: u32::try_from(now.as_millis() & u64::from(u32::MAX)).expect("masked"),
            echo: self.recent,
        })
    }

    /// Bytes that arrived, in order or not.
    pub fn received(&self) -> u64 {
        let held: u64 = self.held.iter().map(|(start, end)| end - start).sum();
        self.rcv_nxt + held
    }

    pub fn syn(&self, now: Instant) -> TcpHeader {
        let stamp = self.stamp(now);
        let room = if stamp.is_some() { STAMP_LEN } else { 0 };
        let mut flags = TcpFlags::SYN;
        if self.ecn {
            flags = flags.union(TcpFlags::ECE).union(TcpFlags::CWR);
        }
        TcpHeader {
            src_port: self.port,
            dst_port: 80,
            seq: ISS,
            ack: 0,
            flags,
            window: u16::MAX,
            urgent: 0,
            options: TcpOptions {
                mss: Some(u16::try_from(MSS + room).expect("small")),
                window_scale: Some(WINDOW_SCALE),
                sack_permitted: true,
                timestamps: stamp,
                ..TcpOptions::default()
            },
        }
    }

    pub fn on_segment(&mut self, now: Instant, header: &TcpHeader, len: u32, ecn: Ecn) -> Reply {
        let stamp = header.options.timestamps.map_or(0, |stamp| stamp.value);
        if header.flags.contains(TcpFlags::SYN) {
            self.recent = stamp;
            if self.ecn {
                self.ecn = header.flags.contains(TcpFlags::ECE);
            }
            self.origin = Some(header.seq.wrapping_add(1));
            return self.reply(true, now);
        }
        let Some(origin) = self.origin else {
            return self.reply(false, now);
        };
        if len == 0 {
            return self.reply(false, now);
        }
        let changed = self.note_mark(header.flags, ecn);
        // Offsets wrap every 4 GiB; the nearest one is meant.
        let low = header.seq.wrapping_sub(origin);
        let expected = u32::try_from(self.rcv_nxt & u64::from(u32::MAX)).expect("masked");
        let ahead = i64::from(low.wrapping_sub(expected).cast_signed());
        let start = u64::try_from(i64::try_from(self.rcv_nxt).expect("small") + ahead).unwrap_or(0);
        let in_order = start == self.rcv_nxt && self.held.is_empty();
        // RFC 7323 section 4.3: what fills the place that was acknowledged last.
        if start <= self.acknowledged {
            self.recent = stamp;
        }
        self.take(start, start + u64::from(len));
        self.unacknowledged += 1;
        self.reply(!in_order || changed || self.unacknowledged >= 2, now)
    }

    pub fn on_delay(&mut self, now: Instant) -> Option<TcpHeader> {
        let due = self.delayed_until.is_some_and(|at| at <= now);
        if due { self.reply(true, now).ack } else { None }
    }

    /// True if DCTCP wants to say at once that marks begin or end.
    fn note_mark(&mut self, flags: TcpFlags, ecn: Ecn) -> bool {
        let marked = self.ecn && ecn == Ecn::Ce;
        let before = self.echo;
        self.echo = marked || (!self.dctcp && self.echo && !flags.contains(TcpFlags::CWR));
        self.dctcp && self.echo != before
    }

    fn take(&mut self, start: u64, end: u64) {
        if end <= self.rcv_nxt {
            return;
        }
        self.newest = start.max(self.rcv_nxt);
        let (mut start, mut end) = (start, end);
        while let Some((&first, &last)) = self.held.range(..=end).next_back() {
            if last < start {
                break;
            }
            start = start.min(first);
            end = end.max(last);
            self.held.remove(&first);
        }
        if start <= self.rcv_nxt {
            self.rcv_nxt = end;
        } else {
            self.held.insert(start, end);
        }
    }

    fn reply(&mut self, now_wanted: bool, now: Instant) -> Reply {
        if !now_wanted {
            let begins = self.unacknowledged > 0 && self.delayed_until.is_none();
            if begins {
                self.delayed_until = Some(now + DELAYED_ACK);
            }
            return Reply {
                ack: None,
                delayed_until: self.delayed_until.filter(|_| begins),
            };
        }
        self.unacknowledged = 0;
        self.delayed_until = None;
        self.acknowledged = self.rcv_nxt;
        let mut flags = TcpFlags::ACK;
        if self.echo {
            flags = flags.union(TcpFlags::ECE);
        }
        Reply {
            ack: Some(TcpHeader {
                src_port: self.port,
                dst_port: 80,
                seq: ISS + 1,
                ack: self.seq(self.rcv_nxt),
                flags,
                window: u16::MAX,
                urgent: 0,
                options: TcpOptions {
                    sack: self.blocks(),
                    timestamps: self.stamp(now),
                    ..TcpOptions::default()
                },
            }),
            delayed_until: None,
        }
    }

    /// The block with the newest segment first, then the highest others (RFC 2018 section 4).
    fn blocks(&self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let newest = self.held.range(..=self.newest).next_back();
        let newest = newest.filter(|(_, end)| **end > self.newest);
        let others = self
            .held
            .iter()
            .rev()
            .filter(|range| Some(*range) != newest);
        for (start, end) in newest.into_iter().chain(others).take(3) {
            blocks.push(SackBlock {
                start: self.seq(*start),
                end: self.seq(*end),
            });
        }
        blocks
    }

    fn seq(&self, offset: u64) -> u32 {
        let low = u32::try_from(offset & u64::from(u32::MAX)).expect("masked");
        self.origin.unwrap_or(0).wrapping_add(low)
    }
}
