//! The other side: a small TCP that opens actively, as a kernel would, and doubts everything it is told.
//!
//! It exists to be read, not to be fast: go-back-N from the first unacknowledged byte with three duplicate ACKs or a
//! time-out, slow start, SACK and delayed ACKs as a receiver. Every segment of the server is checked: position of
//! its payload, window, acknowledgement, timestamps. What is wrong is an `Err` that ends the simulation.

use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeMap;

use sluice_tcp::clock::Instant;
use sluice_wire::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

#[path = "client/doubts.rs"]
mod doubts;
#[path = "client/plan.rs"]
mod plan;
#[path = "client/receiving.rs"]
mod receiving;

pub use plan::{Ending, Plan};

const RTO_FIRST: Duration = Duration::from_secs(1);
const RTO_MAX: Duration = Duration::from_secs(8);
const SHRINKS_EVERY: u32 = 7;
const WINDOW_SCALE_MAX: u8 = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SynSent,
    Open,
    /// Reset: every segment gets RST.
    Dead,
    /// Gone without a word.
    Silent,
}

/// A segment of the client, to be carried by the world.
pub type Said = (TcpHeader, Range<u64>);

#[derive(Debug)]
pub struct Client {
    pub plan: Plan,
    phase: Phase,
    pub iss: u32,
    server_iss: u32,
    ports: (u16, u16),
    // Sending, in offsets of the stream; the FIN counts one after `request`.
    una: u64,
    nxt: u64,
    max: u64,
    closing: bool,
    right_edge: u64,
    scale: u8,
    cwnd: u64,
    ssthresh: u64,
    duplicates: u32,
    rto: Duration,
    smss: u64,
    // Receiving.
    rcv: u64,
    read: u64,
    held: BTreeMap<u64, u64>,
    newest: u64,
    fin_at: Option<u64>,
    advertised: u64,
    unacknowledged: u32,
    ack_now: bool,
    use_sack: bool,
    use_timestamps: bool,
    ts_recent: u32,
    use_ecn: bool,
    /// A mark came, and no CWR since.
    echo: bool,
    /// Marks with which an echo began: those behind them that came before CWR say nothing new.
    pub echoes: u64,
    // Timers.
    resend_at: Option<Instant>,
    ack_at: Option<Instant>,
    read_at: Option<Instant>,
    /// When bytes moved last, in either direction.
    pub progress_at: Instant,
    /// The server's RST was accepted.
    pub was_reset: bool,
    /// Segments sent, for what happens now and then.
    said: u32,
}

impl Client {
    pub fn new(plan: Plan, ports: (u16, u16), iss: u32, now: Instant) -> Client {
        Client {
            plan,
            phase: Phase::SynSent,
            iss,
            server_iss: 0,
            ports,
            una: 0,
            nxt: 0,
            max: 0,
            closing: plan.ending == Ending::HalfClose,
            right_edge: 0,
            scale: 0,
            cwnd: 10 * u64::from(plan.mss),
            ssthresh: u64::MAX,
            duplicates: 0,
            rto: RTO_FIRST,
            smss: u64::from(plan.mss),
            rcv: 0,
            read: 0,
            held: BTreeMap::new(),
            newest: 0,
            fin_at: None,
            advertised: u64::from(plan.receive_buffer.min(65_535)),
            unacknowledged: 0,
            ack_now: false,
            use_sack: false,
            use_timestamps: false,
            ts_recent: 0,
            use_ecn: false,
            echo: false,
            echoes: 0,
            resend_at: None,
            ack_at: None,
            read_at: None,
            progress_at: now,
            was_reset: false,
            said: 0,
        }
    }

    pub fn open(&mut self, now: Instant, out: &mut Vec<Said>) {
        self.resend_at = Some(now + self.rto);
        let flags = match self.plan.ecn {
            true => TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR,
            false => TcpFlags::SYN,
        };
        let mut header = self.header(flags, self.iss, now);
        header.ack = 0;
        header.window = u16::try_from(self.plan.receive_buffer).unwrap_or(u16::MAX);
        header.options.mss = Some(self.plan.mss);
        header.options.window_scale = self.plan.window_scale;
        header.options.sack_permitted = self.plan.sack;
        header.options.timestamps = self.plan.timestamps.then(|| Timestamps {
            value: clock(now),
            echo: 0,
        });
        out.push((header, 0..0));
    }

    /// The response is here and both FINs are done, or the plan was to go earlier.
    pub fn is_done(&self) -> bool {
        match self.phase {
            Phase::Dead | Phase::Silent => true,
            Phase::SynSent => false,
            Phase::Open => {
                self.rcv == self.plan.response
                    && self.fin_at == Some(self.rcv)
                    && self.una > self.plan.request
            }
        }
    }

    /// Whether `ack` acknowledges the SYN-ACK it got and nothing more.
    pub fn knows(&self, ack: u32) -> bool {
        ack == self.server_iss.wrapping_add(1)
    }

    /// Whether the byte at `offset` of the server's stream, and with it what it would be acknowledged for, is to come.
    pub fn awaits(&self, offset: u64) -> bool {
        self.rcv <= offset
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        [self.resend_at, self.ack_at, self.read_at]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn on_timers(&mut self, now: Instant, out: &mut Vec<Said>) {
        if due(&mut self.read_at, now) {
            self.read_some(now);
        }
        if due(&mut self.ack_at, now) {
            self.ack_now = true;
        }
        if due(&mut self.resend_at, now) {
            self.rto = (self.rto * 2).min(RTO_MAX);
            if self.phase == Phase::SynSent {
                self.open(now, out);
                return;
            }
            self.ssthresh = ((self.nxt - self.una) / 2).max(2 * self.smss);
            self.cwnd = self.smss;
            self.nxt = self.una;
            self.duplicates = 0;
            if self.unsent() > 0 && self.right_edge <= self.nxt {
                // A window probe.
                let end = (self.nxt + 1).min(self.plan.request);
                self.send(self.nxt..end, now, out);
                self.nxt = self.una;
            }
            self.resend_at = Some(now + self.rto);
        }
        self.say(now, out);
    }

    /// Takes a segment of the server; `payload` is the range of the server's stream it was made from. The path may have
    /// `marked` it.
    pub fn on_segment(
        &mut self,
        now: Instant,
        header: &TcpHeader,
        payload: &Range<u64>,
        marked: bool,
        out: &mut Vec<Said>,
    ) -> Result<(), String> {
        let flags = header.flags;
        match self.phase {
            Phase::Silent => return Ok(()),
            Phase::Dead => {
                if !flags.contains(TcpFlags::RST) {
                    out.push((self.reset(header.ack), 0..0));
                }
                return Ok(());
            }
            Phase::SynSent => return self.on_answer(now, header, out),
            Phase::Open => {}
        }
        if flags.contains(TcpFlags::RST) {
            // RFC 5961 section 3.2: exact, or not at all. RFC 1337: not in TIME-WAIT.
            if !self.is_done() && self.rcv_position(header.seq) == signed(self.rcv_nxt()) {
                self.was_reset = true;
                self.fall(Phase::Silent);
            }
            return Ok(());
        }
        if flags.contains(TcpFlags::SYN) {
            self.ack_now = true;
            self.say(now, out);
            return Ok(());
        }
        self.check(header, payload)?;
        self.note_timestamp(header);
        self.take_mark(marked, flags);
        self.take_ack(now, header, payload);
        self.take_payload(now, header, payload);
        self.follow_plan(out);
        self.say(now, out);
        Ok(())
    }

    /// SYN-SENT (RFC 9293 section 3.10.7.3).
    fn on_answer(
        &mut self,
        now: Instant,
        header: &TcpHeader,
        out: &mut Vec<Said>,
    ) -> Result<(), String> {
        let flags = header.flags;
        if flags.contains(TcpFlags::ACK) && header.ack != self.iss.wrapping_add(1) {
            if !flags.contains(TcpFlags::RST) {
                out.push((self.reset(header.ack), 0..0));
            }
            return Ok(());
        }
        if !flags.intersects(TcpFlags::SYN.union(TcpFlags::RST))
            || flags.contains(TcpFlags::RST) && !flags.contains(TcpFlags::ACK)
        {
            // Fifth: drop. A challenge ACK of SYN-RECEIVED, or a RST for another connection of this tuple.
            return Ok(());
        }
        let takes_ecn = self.plan.ecn && flags.contains(TcpFlags::ECE);
        if flags.without(if takes_ecn {
            TcpFlags::ECE
        } else {
            TcpFlags::EMPTY
        }) != TcpFlags::SYN.union(TcpFlags::ACK)
        {
            return Err(format!("a SYN was answered with {header:?}"));
        }
        self.use_ecn = takes_ecn;
        let options = &header.options;
        if options.window_scale.is_some() && self.plan.window_scale.is_none()
            || options.sack_permitted && !self.plan.sack
            || options.timestamps.is_some() != self.plan.timestamps
            || options.mss.is_none()
        {
            return Err(format!("options that were not offered: {options:?}"));
        }
        self.server_iss = header.seq;
        self.use_sack = options.sack_permitted;
        self.use_timestamps = options.timestamps.is_some();
        self.ts_recent = options.timestamps.map_or(0, |stamps| stamps.value);
        self.scale = options.window_scale.unwrap_or(0).min(WINDOW_SCALE_MAX);
        self.right_edge = u64::from(header.window);
        let mss = u64::from(options.mss.unwrap_or(536)).min(self.smss);
        self.smss = mss - if self.use_timestamps { 12 } else { 0 };
        self.phase = Phase::Open;
        self.rto = RTO_FIRST;
        self.resend_at = None;
        self.progress_at = now;
        self.ack_now = true;
        self.follow_plan(out);
        self.say(now, out);
        Ok(())
    }

    /// An initial sequence number for the next connection of this tuple, beyond everything of this one.
    pub fn next_iss(&self) -> u32 {
        self.iss.wrapping_add(low(self.max)).wrapping_add(100_000)
    }

    fn take_ack(&mut self, now: Instant, header: &TcpHeader, payload: &Range<u64>) {
        let Ok(ack) = u64::try_from(self.snd_position(header.ack)) else {
            return;
        };
        let edge = ack + (u64::from(header.window) << self.scale);
        let opened = edge > self.right_edge;
        self.right_edge = self.right_edge.max(edge);
        if ack > self.una {
            let acked = ack - self.una;
            self.una = ack;
            self.nxt = self.nxt.max(ack);
            self.duplicates = 0;
            self.rto = RTO_FIRST;
            self.progress_at = now;
            self.cwnd += if self.cwnd < self.ssthresh {
                acked
            } else {
                self.smss * self.smss / self.cwnd
            };
            self.resend_at = (self.una < self.max).then(|| now + self.rto);
        } else if ack == self.una && payload.is_empty() && self.una < self.max && !opened {
            self.duplicates += 1;
            if self.duplicates == 3 {
                self.ssthresh = ((self.nxt - self.una) / 2).max(2 * self.smss);
                self.cwnd = self.ssthresh;
                self.nxt = self.una;
            }
        }
    }

    fn follow_plan(&mut self, out: &mut Vec<Said>) {
        match self.plan.ending {
            Ending::Abort(at) if self.rcv >= at => {
                let mut header = self.reset(self.iss.wrapping_add(1).wrapping_add(low(self.nxt)));
                header.flags = TcpFlags::RST.union(TcpFlags::ACK);
                header.ack = self.ack_number();
                out.push((header, 0..0));
                self.fall(Phase::Dead);
            }
            Ending::Vanish(at) if self.rcv >= at => self.fall(Phase::Silent),
            Ending::ClientLast if self.rcv >= self.plan.response => self.closing = true,
            Ending::ServerFirst if self.fin_at == Some(self.rcv) => self.closing = true,
            _ => {}
        }
    }

    fn fall(&mut self, phase: Phase) {
        self.phase = phase;
        (self.resend_at, self.ack_at, self.read_at) = (None, None, None);
    }

    fn unsent(&self) -> u64 {
        self.plan.request.saturating_sub(self.nxt)
    }

    /// Sends what may be sent, or an ACK that is due.
    fn say(&mut self, now: Instant, out: &mut Vec<Said>) {
        if self.phase != Phase::Open {
            return;
        }
        let before = out.len();
        loop {
            let window = self.right_edge.min(self.una + self.cwnd);
            let len = self
                .unsent()
                .min(window.saturating_sub(self.nxt))
                .min(self.smss);
            let fin_is_next = self.closing && self.nxt + len == self.plan.request;
            if len == 0 && !fin_is_next {
                break;
            }
            self.send(self.nxt..self.nxt + len, now, out);
        }
        let waits = self.unsent() > 0 || self.una < self.max;
        if waits && self.resend_at.is_none() {
            self.resend_at = Some(now + self.rto);
        }
        if self.ack_now && out.len() == before {
            let seq = self.iss.wrapping_add(1).wrapping_add(low(self.nxt));
            let mut header = self.header(TcpFlags::ACK, seq, now);
            header.options.sack = self.sack_blocks();
            out.push((header, 0..0));
        }
    }

    fn send(&mut self, range: Range<u64>, now: Instant, out: &mut Vec<Said>) {
        let fin = self.closing && range.end == self.plan.request;
        let mut flags = TcpFlags::ACK;
        if fin {
            flags = flags.union(TcpFlags::FIN);
        }
        if range.end == self.plan.request && !range.is_empty() {
            flags = flags.union(TcpFlags::PSH);
        }
        let seq = self.iss.wrapping_add(1).wrapping_add(low(range.start));
        let header = self.header(flags, seq, now);
        self.nxt = range.end + u64::from(fin);
        self.max = self.max.max(self.nxt);
        out.push((header, range));
    }

    fn header(&mut self, flags: TcpFlags, seq: u32, now: Instant) -> TcpHeader {
        let edge = (self.read + u64::from(self.plan.receive_buffer)).max(self.advertised);
        let scale = match self.phase {
            Phase::Open if self.use_scale() => self.plan.window_scale.unwrap_or(0),
            _ => 0,
        };
        let window = u16::try_from(edge.saturating_sub(self.rcv) >> scale).unwrap_or(u16::MAX);
        if self.phase == Phase::Open {
            self.advertised = self.advertised.max(self.rcv + (u64::from(window) << scale));
            self.unacknowledged = 0;
            self.ack_now = false;
            self.ack_at = None;
        }
        self.said += 1;
        let window = match self.phase {
            Phase::Open if self.plan.shrinks && self.said.is_multiple_of(SHRINKS_EVERY) => 0,
            _ => window,
        };
        TcpHeader {
            src_port: self.ports.0,
            dst_port: self.ports.1,
            seq,
            ack: self.ack_number(),
            flags: match self.echo && self.phase == Phase::Open {
                true => flags | TcpFlags::ECE,
                false => flags,
            },
            window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.use_timestamps.then(|| Timestamps {
                    value: clock(now),
                    echo: self.ts_recent,
                }),
                ..TcpOptions::default()
            },
        }
    }

    /// The server scales exactly if we offered to.
    fn use_scale(&self) -> bool {
        self.plan.window_scale.is_some()
    }

    fn reset(&self, seq: u32) -> TcpHeader {
        TcpHeader {
            src_port: self.ports.0,
            dst_port: self.ports.1,
            seq,
            flags: TcpFlags::RST,
            ..TcpHeader::default()
        }
    }

    /// Where an acknowledgement lies in our stream.
    fn snd_position(&self, ack: u32) -> i64 {
        let una = self.iss.wrapping_add(1).wrapping_add(low(self.una));
        signed(self.una) + i64::from(ack.wrapping_sub(una).cast_signed())
    }
}

fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    let due = timer.is_some_and(|at| at <= now);
    if due {
        *timer = None;
    }
    due
}

fn clock(now: Instant) -> u32 {
    low(now.as_millis())
}

/// Sequence numbers are offsets modulo 2^32.
fn low(offset: u64) -> u32 {
    u32::try_from(offset & 0xffff_ffff).expect("masked")
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).expect("a short stream")
}
