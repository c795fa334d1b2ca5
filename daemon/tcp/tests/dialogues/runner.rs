//! Runs a dialogue in virtual time: one stack, scripted peers, and a clock that jumps from deadline to
//! deadline.
//!
//! Everything that leaves the stack must be expected by the script, at its time and exactly as it is. Sequence
//! numbers of both sides and the timestamps of the peer begin just below 2^32, so that every dialogue that
//! moves some bytes crosses the wrap.
//!
//! [`settings`] say what the stack is made of, [`arrivals`] reach it, [`driver`] calls it, [`departures`] are
//! compared with their lines, [`observations`] are what else a script may ask.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::{self, Secret};
use sluice_tcp::{AckRun, CloseReason, ConnId, ConnectionRecord, Events, Stack};
use sluice_wire::{TcpFlags, TcpHeader};

use crate::expand::{at, pieces, with_prologues};
use crate::script::{Action, DEFAULT_PORT, Dialogue, Step, Turn};
use settings::Settings;

#[path = "runner/arrivals.rs"]
mod arrivals;
#[path = "runner/departures.rs"]
mod departures;
#[path = "runner/driver.rs"]
mod driver;
#[path = "runner/observations.rs"]
mod observations;
#[path = "runner/settings.rs"]
mod settings;

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
    /// The driver has no whole turn before the line that follows, and acknowledgements that wait for it.
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
        let Settings {
            config,
            ipv6,
            port_closed,
        } = Settings::read(settings)?;
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
                    .try_for_each(|piece| self.arrive(piece, step.turn))
            }
            Action::Icmp(pattern) => {
                self.advance(time, false)?;
                self.nothing_leaves()?;
                self.arrive_icmp(pattern)
            }
            Action::Do(call, port) => {
                if !self.in_batch {
                    self.advance(time, false)?;
                    self.nothing_leaves()?;
                }
                self.end_run();
                self.call(call, *port)?;
                self.end_turn(step.turn);
                Ok(())
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

    /// After a line at which something arrived or was called.
    fn end_turn(&mut self, turn: Turn) {
        self.in_batch = turn != Turn::Whole;
        match turn {
            Turn::Whole => {
                self.end_run();
                self.pump();
            }
            Turn::Short => {
                self.end_run();
                self.transmit();
            }
            Turn::Later => {}
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

    /// What our timestamp clock showed on this port at the start.
    fn our_clock_start(&self, port: u16) -> u32 {
        let secret = Secret::new(SECRET);
        let millis = u32::try_from(self.start.as_millis() & 0xffff_ffff).expect("masked");
        millis.wrapping_add(isn::timestamp_offset(&key(self.ipv6, port), &secret))
    }

    fn stamp(&self, at: Instant) -> String {
        let since = at.saturating_since(self.start);
        format!("{:>12.3} ms", since.as_secs_f64() * 1e3)
    }
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
