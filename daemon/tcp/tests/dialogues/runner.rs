//! Runs a dialogue in virtual time: one stack, scripted peers, and a clock that jumps from deadline to
//! deadline.
//!
//! Everything that leaves the stack must be expected by the script, at its time and exactly as it is. Sequence
//! numbers of both sides and the timestamps of the peer begin just below 2^32, so that every dialogue that
//! moves some bytes crosses the wrap.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use sluice_tcp::clock::Instant;
use sluice_tcp::config::KeepAlive;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::ecn_terms::{EcnConfig, EcnLevel};
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::{self, Secret};
use sluice_tcp::skip::SkipConfig;
use sluice_tcp::{
    AckRun, Autotune, CloseReason, ConnId, ConnectionRecord, ControlView, Disposition, Events,
    Segment, Stack, StackConfig,
};
use sluice_wire::{Ecn, TcpFlags, TcpHeader};

use crate::expand::{at, option_bytes, pieces, relative, resolve, with_prologues};
use crate::frame::{self, Wire, WireError};
use crate::script::{
    self, Action, Call, Claim, DEFAULT_PORT, Dialogue, FLAG_SYN, IcmpPattern, Pattern, Stamps, Step,
};
use crate::text;

/// A segment may leave this much before or after the time of its line: the wheel rounds deadlines up to ticks
/// of 131 us, and over a series of lines that adds up.
const TOLERANCE: Duration = Duration::from_millis(2);
/// Steps of the clock within one line; more means that a timer spins.
const STEPS_MAX: u32 = 1_000_000;
const LOCAL_PORT: u16 = 80;
const SECRET: [u8; 32] = [7; 32];
/// Initial sequence number of every peer.
const IRS: u32 = u32::MAX - 4095;
/// What the peer's timestamp clock shows at the start.
const PEER_CLOCK: u32 = u32::MAX - 999;
/// ISS of the first connection of the default port if its SYN comes at once, give or take a millisecond.
const ISS: u32 = u32::MAX - 255;

/// Why a dialogue failed: ready to be printed.
pub type Failure = String;

/// The far end of one port.
#[derive(Debug, Default)]
struct Peer {
    irs: u32,
    iss: u32,
    iss_of: Option<ConnId>,
    conn: Option<ConnId>,
    timestamps: bool,
    window: u16,
    /// TSval of the newest segment from us.
    echo: u32,
    events: Events,
    closed: Option<CloseReason>,
    /// We opened.
    is_called: bool,
    /// What its driver supplied.
    supplied: u64,
    /// What was told of it at its end.
    record: Option<ConnectionRecord>,
}

#[derive(Debug)]
struct Leaving {
    at: Instant,
    port: u16,
    header: TcpHeader,
    len: u32,
    ect: bool,
}

/// What became of the segment that arrived last.
#[derive(Debug, Default)]
struct Arrived {
    drop: String,
    /// What became of it if it was an ICMP error.
    icmp: String,
    new: Vec<Range<u64>>,
    trusted: bool,
    rtt: Option<Duration>,
}

pub struct Runner {
    stack: Stack,
    start: Instant,
    /// Time of the stack.
    now: Instant,
    /// Time of the script.
    line_time: Instant,
    ipv6: bool,
    /// Nobody listens here: the driver refuses everything (RFC 9293 section 3.10.7.1).
    port_closed: bool,
    leaving: VecDeque<Leaving>,
    peers: BTreeMap<u16, Peer>,
    taking: Taking,
    /// The driver has no turn before the line that follows, and acknowledgements that wait for it.
    in_batch: bool,
    run: Option<AckRun>,
    arrived: Arrived,
    transcript: Vec<String>,
}

/// How the driver takes what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// Every segment by itself.
    Each,
    /// Acknowledgements in runs, be they of one.
    Runs,
}

/// Runs one dialogue.
pub fn run(dialogue: &Dialogue, prologues: &[Dialogue], taking: Taking) -> Result<(), Failure> {
    let steps = with_prologues(dialogue, prologues)?;
    let mut settings = Vec::new();
    for step in &steps {
        if let Action::Config(some) = &step.action {
            settings.extend(some.iter().cloned());
        }
    }
    let mut runner = Runner::new(&settings, taking).map_err(|what| at(&dialogue.at, &what))?;
    for step in &steps {
        runner.step(step).map_err(|what| {
            format!(
                "{}\n  what happened:\n    {}",
                at(&step.at, &what),
                runner.transcript.join("\n    ")
            )
        })?;
    }
    runner
        .nothing_leaves()
        .map_err(|what| at(&dialogue.at, &format!("at its end: {what}")))
}

impl Runner {
    fn new(settings: &[(String, String)], taking: Taking) -> Result<Runner, String> {
        let mut config = StackConfig {
            congestion: Algorithm::NewReno,
            ..StackConfig::new(64, [3; 16], Secret::new(SECRET))
        };
        let (mut ipv6, mut port_closed) = (false, false);
        for (key, value) in settings {
            match key.as_str() {
                "ip" => ipv6 = value == "6",
                "port" => port_closed = value == "closed",
                "connections" => config.connections = script::parse(value)?,
                "half_open" => config.half_open = script::parse(value)?,
                "time_wait" => config.time_wait = script::parse(value)?,
                "mtu" => config.mtu = script::parse(value)?,
                "receive_buffer" => config.receive_buffer = script::parse(value)?,
                "receive_max" => autotune(&mut config).receive_max = script::parse(value)?,
                "receive_budget" => {
                    autotune(&mut config).receive_budget = script::parse(value)?;
                }
                "send_budget" => autotune(&mut config).send_budget = script::parse(value)?,
                "user_timeout" => config.user_timeout = Some(script::duration(value)?),
                "skip" => config.skip = Some(skip(value)?),
                "send_limit" => config.send_limit = script::parse(value)?,
                "congestion" if value == "cubic" => config.congestion = Algorithm::Cubic,
                "congestion" if value == "dctcp" => config.congestion = Algorithm::Dctcp,
                "congestion" if value == "bbr" => config.congestion = Algorithm::Bbr,
                "ecn" => config.ecn = ecn(value)?,
                "congestion" if value == "reno" => config.congestion = Algorithm::NewReno,
                "keep_alive" => config.keep_alive = Some(keep_alive(value)?),
                _ => return Err(format!("unknown setting {key}={value}")),
            }
        }
        // The clock of RFC 6528 ticks every 4 us: begin at the whole millisecond before the first ISS is ISS.
        let epoch = Instant::from_nanos(1_000_000_000_000);
        let first = isn::iss(epoch, &key(ipv6, DEFAULT_PORT), &config.secret);
        let ticks = u64::from(ISS.wrapping_sub(first)) / 250 * 250;
        let start = epoch + Duration::from_nanos(ticks * 4_000);
        Ok(Runner {
            stack: Stack::new(config, start),
            start,
            now: start,
            line_time: start,
            ipv6,
            port_closed,
            leaving: VecDeque::new(),
            peers: BTreeMap::new(),
            taking,
            in_batch: false,
            run: None,
            arrived: Arrived::default(),
            transcript: Vec::new(),
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.line_time = self.line_time + step.after;
        let time = self.line_time;
        match &step.action {
            Action::Config(_) | Action::Use(_) => Ok(()),
            Action::Leave(pattern) => pieces(pattern)
                .iter()
                .try_for_each(|piece| self.leave(piece)),
            Action::Silence => {
                self.advance(Instant::from_nanos(time.as_nanos() - 1), false)?;
                self.nothing_leaves()
            }
            Action::Arrive(pattern) => {
                if !self.in_batch {
                    self.advance(time, false)?;
                    self.nothing_leaves()?;
                }
                pieces(pattern)
                    .iter()
                    .try_for_each(|piece| self.arrive(piece))
            }
            Action::Icmp(pattern) => {
                self.advance(time, false)?;
                self.nothing_leaves()?;
                self.arrive_icmp(pattern)
            }
            Action::Do(call, port) => {
                self.advance(time, false)?;
                self.nothing_leaves()?;
                self.call(call, *port)
            }
            Action::Expect(key, values, port) => {
                self.advance(time, false)?;
                self.nothing_leaves()?;
                let actual = self.observe(key, values, *port)?;
                let expected = values.join(" ");
                let expected = match key.as_str() {
                    "counter" | "paused" | "pauses" | "sent_again" => {
                        values.last().cloned().unwrap_or_default()
                    }
                    _ => expected,
                };
                if actual == expected {
                    return Ok(());
                }
                Err(format!(
                    "expected {key} {expected}\n  actual   {key} {actual}"
                ))
            }
        }
    }

    fn nothing_leaves(&mut self) -> Result<(), String> {
        match self.leaving.pop_front() {
            None => Ok(()),
            Some(leaving) => Err(format!(
                "nothing was expected to leave here\n  actual   {}",
                self.render(&leaving)
            )),
        }
    }

    /// Moves the clock to `until`, or to the first segment that leaves.
    fn advance(&mut self, until: Instant, stop_at_segment: bool) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            if stop_at_segment && !self.leaving.is_empty() {
                return Ok(());
            }
            let due = self.stack.next_deadline().filter(|due| *due <= until);
            self.now = self.now.max(due.unwrap_or(until));
            self.stack.on_timers(self.now);
            self.pump();
            if due.is_none() {
                return Ok(());
            }
        }
        Err("a timer spins".to_owned())
    }

    /// What the driver does every turn.
    fn pump(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(outgoing) = self.stack.poll_transmit(self.now) {
                quiet = false;
                let len = outgoing.payload.end - outgoing.payload.start;
                let port = outgoing.key.remote_port();
                self.sent(port, outgoing.header, len, Some(outgoing.conn));
                if let Some(leaving) = self.leaving.back_mut() {
                    leaving.ect = outgoing.ect;
                }
            }
            while let Some((conn, events)) = self.stack.poll_event() {
                quiet = false;
                if let Some(peer) = self.peers.values_mut().find(|p| p.conn == Some(conn)) {
                    peer.events = merged(peer.events, events);
                    peer.closed = peer.closed.or(events.closed);
                    if events.closed.is_some() {
                        peer.record = self.stack.last_record().copied();
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn sent(&mut self, port: u16, header: TcpHeader, len: u64, conn: Option<ConnId>) {
        let peer = self.peers.entry(port).or_default();
        if header.flags.contains(TcpFlags::SYN) && peer.iss_of != conn {
            peer.iss = header.seq;
            peer.iss_of = conn;
        }
        if let Some(timestamps) = header.options.timestamps {
            peer.echo = timestamps.value;
        }
        let leaving = Leaving {
            at: self.now,
            port,
            header,
            len: u32::try_from(len).expect("a segment"),
            ect: false,
        };
        self.transcript.push(self.render(&leaving));
        self.leaving.push_back(leaving);
    }

    fn leave(&mut self, pattern: &Pattern) -> Result<(), String> {
        let time = self.line_time;
        self.advance(time + TOLERANCE, true)?;
        let Some(leaving) = self.leaving.pop_front() else {
            return Err("expected this segment, nothing left".to_owned());
        };
        let mut wrong = self.differences(pattern, &leaving);
        if leaving.at + TOLERANCE < time {
            wrong.push("time");
        }
        // What follows is timed from what really happened.
        self.line_time = time.max(leaving.at);
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!(
            "differs in: {}\n  actual   {}",
            wrong.join(", "),
            self.render(&leaving)
        ))
    }

    fn differences(&self, pattern: &Pattern, leaving: &Leaving) -> Vec<&'static str> {
        let header = &leaving.header;
        let peer = &self.peers[&leaving.port];
        let options = &header.options;
        let sack: Vec<(u32, u32)> = options.sack.iter().map(|b| (b.start, b.end)).collect();
        let expected_sack: Vec<(u32, u32)> = pattern
            .sack
            .iter()
            .map(|(start, end)| (relative(peer.irs, *start), relative(peer.irs, *end)))
            .collect();
        let ack = pattern.ack.map_or(0, |ack| resolve(peer.irs, ack));
        let checks = [
            ("port", leaving.port == pattern.port),
            ("flags", header.flags.bits() == pattern.flags),
            ("seq", header.seq == resolve(peer.iss, pattern.seq)),
            ("length", leaving.len == pattern.len),
            ("ack", header.ack == ack),
            ("win", pattern.window.is_none_or(|win| win == header.window)),
            ("urg", header.urgent == pattern.urgent),
            ("mss", options.mss == pattern.mss),
            ("ws", options.window_scale == pattern.window_scale),
            ("sackok", options.sack_permitted == pattern.sack_permitted),
            ("sack", sack == expected_sack),
            ("acc", options.accecn == pattern.accecn),
            ("ect0", leaving.ect == (pattern.ecn == Ecn::Ect0)),
            ("ts", self.stamps_fit(pattern, leaving, peer)),
        ];
        let wrong = checks.iter().filter(|(_, right)| !right);
        wrong.map(|(name, _)| *name).collect()
    }

    fn stamps_fit(&self, pattern: &Pattern, leaving: &Leaving, peer: &Peer) -> bool {
        let actual = leaving.header.options.timestamps;
        let reset = leaving.header.flags.contains(TcpFlags::RST);
        match (pattern.stamps, actual) {
            // RFC 7323 section 3.2: in every segment once negotiated, and never without.
            (Stamps::Negotiated, actual) => reset || actual.is_some() == peer.timestamps,
            (Stamps::Without, actual) => actual.is_none(),
            (Stamps::Given(value, echo), Some(actual)) => {
                let value_fits = value.is_none_or(|value| {
                    relative(self.our_clock_start(leaving.port), value) == actual.value
                });
                value_fits && echo.is_none_or(|echo| relative(PEER_CLOCK, echo) == actual.echo)
            }
            (Stamps::Given(..), None) => false,
        }
    }

    /// What our timestamp clock showed on this port at the start.
    fn our_clock_start(&self, port: u16) -> u32 {
        let secret = Secret::new(SECRET);
        let millis = u32::try_from(self.start.as_millis() & 0xffff_ffff).expect("masked");
        millis.wrapping_add(isn::timestamp_offset(&key(self.ipv6, port), &secret))
    }

    fn arrive(&mut self, pattern: &Pattern) -> Result<(), String> {
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
            let echoes = pattern.flags & script::FLAG_ACK != 0;
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
        self.in_batch = pattern.batched;
        if !pattern.batched {
            self.end_run();
            self.pump();
        }
        Ok(())
    }

    /// An error from a router on the path.
    fn arrive_icmp(&mut self, pattern: &IcmpPattern) -> Result<(), String> {
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

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.arrived = Arrived {
                drop: "none".to_owned(),
                trusted: true,
                rtt: self.stack.end_run(self.now, &run),
                ..Arrived::default()
            };
        }
    }

    fn call(&mut self, call: &Call, port: u16) -> Result<(), String> {
        self.transcript
            .push(format!("{} do {call:?}", self.stamp(self.now)));
        if let Call::Accepting(accepting) = call {
            self.stack.set_accepting(*accepting);
            return Ok(());
        }
        if let Call::Connect = call {
            return self.connect(port);
        }
        let peer = self.peers.get(&port).and_then(|peer| peer.conn);
        let conn = peer.ok_or("no connection on this port")?;
        match call {
            Call::Supply(until, more) => {
                self.stack.supply(conn, *until, *more);
                if let Some(peer) = self.peers.get_mut(&port) {
                    peer.supplied = *until;
                }
            }
            Call::Consume(until) => self.stack.consume(conn, *until),
            Call::Room(until, bytes) => self.stack.consume_with_room(conn, *until, *bytes),
            Call::Close => self.stack.close(conn, self.now),
            Call::CloseReceive => self.stack.close_receive(conn),
            Call::WaitsFor(awaited) => {
                self.stack.waits_for(conn, *awaited);
                let view = self.stack.send_view(conn);
                // As a driver does that has nothing more to give.
                let supplied = self.peers[&port].supplied.max(view.map_or(0, |v| v.sent));
                self.stack.supply(conn, supplied, awaited.is_some());
            }
            Call::UserTimeout(limit) => self.stack.set_user_timeout(conn, *limit),
            Call::Abort => self.stack.abort(conn),
            Call::Deadline(time) => {
                let at = time.map(|time| self.now + time);
                self.stack.set_deadline(conn, at);
            }
            Call::Accepting(_) | Call::Connect => {}
        }
        self.pump();
        Ok(())
    }

    fn connect(&mut self, port: u16) -> Result<(), String> {
        let conn = self.stack.connect(key(self.ipv6, port), self.now);
        let conn = conn.map_err(|error| error.to_string())?;
        let peer = self.peers.entry(port).or_default();
        *peer = Peer {
            irs: IRS,
            window: u16::MAX,
            conn: Some(conn),
            is_called: true,
            // As our SYN offers.
            timestamps: true,
            ..Peer::default()
        };
        self.pump();
        Ok(())
    }

    /// What a `?` line asks for, as text.
    fn observe(&mut self, key: &str, values: &[String], port: u16) -> Result<String, String> {
        let counters = self.stack.counters();
        match key {
            "live" => return Ok(self.stack.len().to_string()),
            "half_open" => return Ok(self.stack.half_open().to_string()),
            "time_wait" => return Ok(self.stack.time_wait().to_string()),
            "timers" => return Ok(self.stack.timers().to_string()),
            "drop" => return Ok(self.arrived.drop.clone()),
            "icmp" => return Ok(self.arrived.icmp.clone()),
            "trusted" => return Ok(self.arrived.trusted.to_string()),
            "new" => return Ok(text::ranges(&self.arrived.new)),
            "rtt" => return Ok(text::optional_duration(self.arrived.rtt)),
            "counter" => {
                let name = values.first().ok_or("which counter?")?;
                let row = counters.rows().find(|(row, _)| row == name);
                let (_, value) = row.ok_or(format!("no counter {name}"))?;
                return Ok(value.to_string());
            }
            _ => {}
        }
        let peer = self.peers.get_mut(&port).ok_or("nothing on this port")?;
        if key == "events" {
            return Ok(text::events(core::mem::take(&mut peer.events)));
        }
        if key == "closed" {
            return Ok(peer
                .closed
                .map_or("no".to_owned(), |why| format!("{why:?}")));
        }
        let conn = peer.conn.ok_or("no connection on this port")?;
        let record = self.stack.record(conn).or(peer.record);
        if let Some(record) = record
            && let Some(told) = text::of_record(key, values, &record)
        {
            return Ok(told);
        }
        let view = self.stack.send_view(conn);
        let view_of = |side: fn(&sluice_tcp::SendView) -> u64| {
            view.as_ref()
                .map_or("gone".to_owned(), |view| side(view).to_string())
        };
        Ok(match key {
            "state" => self
                .stack
                .state(conn)
                .map_or("CLOSED".to_owned(), |state| state.name().to_owned()),
            "delivered" => self.stack.delivered(conn).to_string(),
            "acknowledged" => view_of(|view| view.acknowledged),
            "sent" => view_of(|view| view.sent),
            "horizon" => view_of(|view| view.horizon),
            "ecn" => self
                .stack
                .ecn_view(conn)
                .map_or("gone".to_owned(), text::ecn),
            "mtu" => self.control(conn, |view| view.path_mtu.into()),
            "cwnd" => self.control(conn, |view| view.cwnd.into()),
            _ => return Err(format!("unknown expectation '{key}'")),
        })
    }

    fn control(&self, conn: ConnId, side: fn(&ControlView) -> u64) -> String {
        let view = self.stack.control_view(conn);
        view.map_or("gone".to_owned(), |view| side(&view).to_string())
    }

    fn render(&self, leaving: &Leaving) -> String {
        let peer = &self.peers[&leaving.port];
        let clock = self.our_clock_start(leaving.port);
        format!(
            "{} > {}",
            self.stamp(leaving.at),
            text::leaving(&leaving.header, leaving.len, peer.irs, peer.iss, clock)
        )
    }

    fn stamp(&self, at: Instant) -> String {
        let since = at.saturating_since(self.start);
        format!("{:>12.3} ms", since.as_secs_f64() * 1e3)
    }
}

fn ecn(value: &str) -> Result<EcnConfig, String> {
    let level = |level| EcnConfig {
        accept: level,
        offer: level,
    };
    Ok(match value {
        "off" => EcnConfig::OFF,
        "classic" => level(EcnLevel::Classic),
        "accurate" => level(EcnLevel::Accurate),
        _ => return Err(format!("unknown level of ECN {value}")),
    })
}

fn conn_of(peer: &Peer) -> ConnId {
    peer.conn.expect("we opened")
}

fn key(ipv6: bool, port: u16) -> FlowKey {
    let address = |last: u8| {
        if ipv6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()))
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
        }
    };
    FlowKey::new(address(1), LOCAL_PORT, address(2), port)
}

/// A router on the path.
fn router(ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))
    } else {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))
    }
}

/// Autotuning is on once a setting names any of it.
fn autotune(config: &mut StackConfig) -> &mut Autotune {
    config.autotune.get_or_insert(Autotune {
        receive_max: 0,
        receive_budget: 1 << 30,
        send_budget: 1 << 30,
    })
}

/// `rate,interval`.
fn skip(value: &str) -> Result<SkipConfig, String> {
    let (rate, interval) = value.split_once(',').ok_or("write: skip=RATE,INTERVAL")?;
    Ok(SkipConfig {
        rate: script::parse(rate)?,
        interval: script::parse(interval)?,
    })
}

/// `idle,interval,probes`.
fn keep_alive(value: &str) -> Result<KeepAlive, String> {
    let parts: Vec<&str> = value.split(',').collect();
    let [idle, interval, probes] = parts[..] else {
        return Err("write: keep_alive=IDLE,INTERVAL,PROBES".to_owned());
    };
    Ok(KeepAlive {
        idle: script::duration(idle)?,
        interval: script::duration(interval)?,
        probes: script::parse(probes)?,
    })
}

fn merged(before: Events, after: Events) -> Events {
    Events {
        established: before.established | after.established,
        readable: before.readable | after.readable,
        acknowledged: before.acknowledged | after.acknowledged,
        peer_finished: before.peer_finished | after.peer_finished,
        deadline: before.deadline | after.deadline,
        closed: before.closed.or(after.closed),
    }
}
