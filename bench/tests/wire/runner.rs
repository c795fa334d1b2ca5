//! One dialogue with Linux, in real time.
//!
//! The clock of the script is that of its lines; the peer's timestamps follow it, so that echoes are as written. When a
//! line is late, those after it are too. Linux fires a timer within its jiffy or up to an eighth later (the levels of
//! kernel/time/timer.c), hence the tolerance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use sluice_wire::{TcpFlags, TcpHeader};

use crate::expand::{option_bytes, pieces, relative, resolve};
use crate::frame::{self, Wire};
use crate::place::{self, Arrival, Place};
use crate::script::{Action, Call, FLAG_ACK, FLAG_SYN, Pattern, Stamps, Step};
use crate::socket::Driver;
use crate::text;
use crate::tour::{self, Disagreement};

/// As in virtual time: the dialogue crosses the wrap.
const IRS: u32 = u32::MAX - 4095;
const PEER_CLOCK: u32 = u32::MAX - 999;
/// Two jiffies at 250 Hz, and one for luck.
const EARLY: Duration = Duration::from_millis(12);
/// Less than a delayed acknowledgement.
const LATE: Duration = Duration::from_millis(28);
/// After each call and segment, for what it causes.
const SETTLE: Duration = Duration::from_millis(1);
/// What Linux answers to the last line it answers within this; later come its timers, which no line asks for.
const REST: Duration = Duration::from_millis(5);
/// An echo in a script means a timestamp that Linux sent about then, not one that it never sent.
const SAME_STAMP_MS: u32 = 100;
/// How long an expectation may take to come true.
const PATIENCE: Duration = Duration::from_millis(60);

/// The far end of one port.
#[derive(Debug)]
struct Peer {
    irs: u32,
    iss: u32,
    timestamps: bool,
    window: u16,
    /// TSvals of the segments from Linux.
    stamps: Vec<u32>,
    /// What the timestamp clock of Linux showed at the start of the script.
    clock: Option<u32>,
    /// The newest SYN from here, until it is answered: its number, and whether it had timestamps.
    syn: Option<(u32, bool)>,
    /// Linux opened, and no SYN from here has answered yet.
    is_called: bool,
}

impl Peer {
    /// As Linux knows it before anything was said. With timestamps, as its own SYN offers them, if it opens.
    fn new(is_called: bool) -> Peer {
        Peer {
            irs: IRS,
            iss: 0,
            timestamps: is_called,
            window: u16::MAX,
            stamps: Vec::new(),
            clock: None,
            syn: None,
            is_called,
        }
    }

    /// The timestamp that a script means by a time on the clock of Linux.
    fn stamp_near(&self, time: i64) -> u32 {
        let wanted = relative(self.clock.unwrap_or(0), time);
        let distance = |stamp: &u32| {
            let ahead = stamp.wrapping_sub(wanted);
            ahead.min(ahead.wrapping_neg())
        };
        let nearest = self.stamps.iter().copied().min_by_key(distance);
        let nearest = nearest.filter(|stamp| distance(stamp) <= SAME_STAMP_MS);
        nearest.unwrap_or(wanted)
    }
}

struct Runner<'a> {
    place: &'a Place,
    arrivals: Receiver<Arrival>,
    driver: Driver,
    ipv6: bool,
    port: u16,
    /// When the current line is due.
    line: Instant,
    /// The same by the clock of the script.
    script: Duration,
    peers: BTreeMap<u16, Peer>,
    pending: VecDeque<Arrival>,
}

/// Runs the steps of a dialogue from a thread that is with Linux; or says where the two part.
pub fn run(place: &Place, steps: &[Step]) -> Result<(), Disagreement> {
    let setting = |name: &str| {
        steps.iter().find_map(|step| match &step.action {
            Action::Config(settings) => settings.iter().find(|(key, _)| key == name),
            _ => None,
        })
    };
    let is = |name: &str, value: &str| setting(name).is_some_and(|(_, set)| set == value);
    let congestion = setting("congestion").map_or("reno", |(_, name)| name.as_str());
    let connects = |step: &Step| matches!(step.action, Action::Do(Call::Connect, _));
    let listens = !is("port", "closed") && !steps.iter().any(connects);
    let (port, arrivals) = place.reserve();
    let ipv6 = is("ip", "6");
    let mut runner = Runner {
        place,
        arrivals,
        driver: Driver::new(ipv6, port, listens, congestion),
        ipv6,
        port,
        line: Instant::now(),
        script: Duration::ZERO,
        peers: BTreeMap::new(),
        pending: VecDeque::new(),
    };
    let result = runner.dialogue(steps);
    place.release(port);
    result
}

impl Runner<'_> {
    fn dialogue(&mut self, steps: &[Step]) -> Result<(), Disagreement> {
        for step in steps {
            self.step(step).map_err(|did| Disagreement {
                line: code(&step.at.text),
                did,
            })?;
        }
        self.wait(Instant::now() + REST);
        self.nothing_more().map_err(|did| Disagreement {
            line: "the end".to_owned(),
            did,
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.line += step.after;
        self.script += step.after;
        match &step.action {
            Action::Config(_) | Action::Use(_) => Ok(()),
            Action::Leave(pattern) => pieces(pattern)
                .iter()
                .try_for_each(|piece| self.leave(piece, step.after)),
            Action::Silence => {
                self.wait(self.line);
                self.nothing_before(self.line)
            }
            Action::Arrive(pattern) => {
                self.on_time()?;
                for piece in pieces(pattern) {
                    self.arrive(&piece);
                }
                self.settle();
                self.driver.delay_acknowledgements();
                Ok(())
            }
            Action::Icmp(_) => Err("an error from a router".to_owned()),
            Action::Do(call, port) => {
                self.on_time()?;
                self.call(call, *port)?;
                self.settle();
                Ok(())
            }
            Action::Expect(..) if tour::is_inside(&step.action) => Ok(()),
            Action::Expect(key, values, port) => {
                self.on_time()?;
                self.expect(key, &values.join(" "), *port)
            }
        }
    }

    /// Waits for the time of a line at which nothing is expected to leave.
    fn on_time(&mut self) -> Result<(), String> {
        self.wait(self.line);
        self.line = self.line.max(Instant::now());
        self.nothing_more()
    }

    fn nothing_more(&mut self) -> Result<(), String> {
        match self.pending.pop_front() {
            None => Ok(()),
            Some(arrival) => Err(self.render(&arrival)),
        }
    }

    /// What leaves right before a line may belong to the next one.
    fn nothing_before(&mut self, line: Instant) -> Result<(), String> {
        let first = self.pending.front();
        if first.is_some_and(|arrival| arrival.at + EARLY < line) {
            return self.nothing_more();
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.wait(Instant::now() + SETTLE);
    }

    /// Listens until then.
    fn wait(&mut self, until: Instant) {
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            match self.arrivals.recv_timeout(rest) {
                Ok(arrival) => self.heard(arrival),
                Err(_) if Instant::now() >= until => return,
                Err(_) => thread::yield_now(),
            }
        }
    }

    fn heard(&mut self, arrival: Arrival) {
        let header = &arrival.header;
        let script = i64::try_from(self.script.as_millis()).expect("seconds");
        let Some(peer) = self.peers.get_mut(&header.dst_port) else {
            return;
        };
        if let (true, Some((seq, has_stamps))) = (header.flags.contains(TcpFlags::SYN), peer.syn)
            && header.ack == seq.wrapping_add(1)
        {
            // A new handshake: numbers are relative to this SYN from now on.
            (peer.irs, peer.iss, peer.timestamps) = (seq, header.seq, has_stamps);
        } else if header.flags.contains(TcpFlags::SYN) && peer.is_called {
            peer.iss = header.seq;
        }
        if let Some(stamps) = header.options.timestamps {
            peer.stamps.push(stamps.value);
            peer.clock
                .get_or_insert_with(|| relative(stamps.value, -script));
        }
        self.pending.push_back(arrival);
    }

    fn leave(&mut self, pattern: &Pattern, after: Duration) -> Result<(), String> {
        let latest = self.line + LATE + after / 8;
        while self.pending.is_empty() && Instant::now() < latest {
            let rest = latest.saturating_duration_since(Instant::now());
            if let Ok(arrival) = self.arrivals.recv_timeout(rest) {
                self.heard(arrival);
            }
        }
        let Some(arrival) = self.pending.pop_front() else {
            return Err("nothing".to_owned());
        };
        if !self.fits(pattern, &arrival) {
            return Err(self.render(&arrival));
        }
        if arrival.at + EARLY < self.line {
            return Err("the same, too early".to_owned());
        }
        if arrival.at > latest {
            return Err("the same, too late".to_owned());
        }
        // What follows is timed from what really happened.
        self.line = self.line.max(arrival.at);
        Ok(())
    }

    fn fits(&self, pattern: &Pattern, arrival: &Arrival) -> bool {
        let header = &arrival.header;
        let peer = &self.peers[&header.dst_port];
        let options = &header.options;
        let sack = options.sack.iter().map(|block| (block.start, block.end));
        let expected_sack = pattern
            .sack
            .iter()
            .map(|(start, end)| (relative(peer.irs, *start), relative(peer.irs, *end)));
        let ack = pattern.ack.map_or(0, |ack| resolve(peer.irs, ack));
        header.dst_port == pattern.port
            && header.flags.bits() == pattern.flags
            && header.seq == resolve(peer.iss, pattern.seq)
            && arrival.len == pattern.len
            && header.ack == ack
            && pattern
                .window
                .is_none_or(|window| (window == 0) == (header.window == 0))
            && header.urgent == pattern.urgent
            && arrival.ecn == pattern.ecn
            && options.mss == pattern.mss
            && options.window_scale.is_some() == pattern.window_scale.is_some()
            && options.sack_permitted == pattern.sack_permitted
            && sack.eq(expected_sack)
            && self.stamps_fit(pattern, header, peer)
    }

    fn stamps_fit(&self, pattern: &Pattern, header: &TcpHeader, peer: &Peer) -> bool {
        let reset = header.flags.contains(TcpFlags::RST);
        match (pattern.stamps, header.options.timestamps) {
            (Stamps::Negotiated, actual) => reset || actual.is_some() == peer.timestamps,
            (Stamps::Without, actual) => actual.is_none(),
            (Stamps::Given(value, echo), Some(actual)) => {
                let clock = peer.clock.unwrap_or(actual.value);
                let off = |value| actual.value.wrapping_sub(relative(clock, value));
                let late = i64::try_from((EARLY + LATE).as_millis()).expect("milliseconds");
                // Lines that were late have put off all after them.
                let value_fits = value.is_none_or(|value| {
                    let off = i64::from(off(value).cast_signed());
                    off >= -late && off <= 3 * late + value / 8
                });
                value_fits && echo.is_none_or(|echo| relative(PEER_CLOCK, echo) == actual.echo)
            }
            (Stamps::Given(..), None) => false,
        }
    }

    fn arrive(&mut self, pattern: &Pattern) {
        let clock = i64::try_from(self.script.as_millis()).expect("seconds");
        let peer = self.peers.entry(pattern.port);
        let peer = peer.or_insert_with(|| Peer::new(false));
        peer.window = pattern.window.unwrap_or(peer.window);
        let stamps = match pattern.stamps {
            Stamps::Negotiated if peer.timestamps => Some((None, None)),
            Stamps::Negotiated | Stamps::Without => None,
            Stamps::Given(value, echo) => Some((value, echo)),
        };
        let echoes = pattern.flags & FLAG_ACK != 0;
        let stamps = stamps.map(|(value, echo)| {
            let value = relative(PEER_CLOCK, value.unwrap_or(clock));
            let newest = peer.stamps.last().filter(|_| echoes);
            let echo = echo.map(|echo| peer.stamp_near(echo));
            (value, echo.or(newest.copied()).unwrap_or(0))
        });
        let seq = resolve(peer.irs, pattern.seq);
        let ack = pattern.ack.map(|ack| resolve(peer.iss, ack));
        if pattern.flags & FLAG_SYN != 0 {
            peer.syn = Some((seq, stamps.is_some()));
            let of_iss = peer.iss.wrapping_add(1);
            if peer.is_called && ack.is_none_or(|ack| ack == of_iss) {
                // The answer to a SYN of Linux.
                (peer.is_called, peer.timestamps) = (false, stamps.is_some());
            }
        }
        let frame = frame::frame(&Wire {
            src: place::peer(self.ipv6),
            dst: place::linux(self.ipv6),
            src_port: pattern.port,
            dst_port: self.port,
            seq,
            ack: ack.unwrap_or(0),
            flags: pattern.flags,
            window: peer.window,
            urgent: pattern.urgent,
            options: &option_bytes(pattern, stamps, peer.iss),
            payload_len: usize::try_from(pattern.len).expect("a segment"),
            bad_checksum: pattern.bad_checksum,
            ecn: pattern.ecn,
        });
        self.place.send(&frame);
    }

    fn call(&mut self, call: &Call, port: u16) -> Result<(), String> {
        match call {
            Call::Supply(until, more) => self.driver.supply(port, *until, *more),
            Call::Consume(until) => self.driver.consume(port, *until),
            Call::Close => self.driver.close(port),
            Call::Abort => self.driver.abort(port),
            Call::Connect => {
                self.peers.insert(port, Peer::new(true));
                self.driver.connect(port)
            }
            Call::Room(..)
            | Call::Deadline(_)
            | Call::Accepting(_)
            | Call::CloseReceive
            | Call::WaitsFor(_)
            | Call::UserTimeout(_) => Err("a call of our driver".to_owned()),
        }
    }

    fn expect(&mut self, key: &str, expected: &str, port: u16) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let actual = match key {
                "state" => Ok(self.driver.state(port)),
                "closed" => Ok(self.driver.closed(port)),
                "delivered" => self.driver.delivered(port).map(|bytes| bytes.to_string()),
                "acknowledged" => self
                    .driver
                    .acknowledged(port)
                    .map(|bytes| bytes.to_string()),
                "live" => Ok(self.driver.live().to_string()),
                "half_open" => Ok(self.driver.count("SYN-RECEIVED").to_string()),
                "time_wait" => Ok(self.driver.count("TIME-WAIT").to_string()),
                _ => Err(format!("nobody knows {key}")),
            }?;
            if actual == expected {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{key} {actual}"));
            }
            self.settle();
        }
    }

    /// A segment of Linux without what differs from run to run, and from one machine to the next: windows other than
    /// zero, their shift, and timestamps.
    fn render(&self, arrival: &Arrival) -> String {
        let header = &arrival.header;
        let Some(peer) = self.peers.get(&header.dst_port) else {
            return format!("a segment to port {}", header.dst_port);
        };
        let rendered = text::leaving(header, arrival.len, peer.irs, peer.iss, 0);
        let mut words = Vec::new();
        let mut all = rendered.split_whitespace();
        if header.seq == 0 {
            // The RST of RFC 9293 section 3.10.7.1 counts from no initial number.
            words.extend(all.next().map(str::to_owned));
            words.push("=0".to_owned());
            all.next();
        }
        while let Some(word) = all.next() {
            match word {
                "win" => {
                    let window = all.next();
                    words.extend(window.filter(|w| *w == "0").map(|_| "win 0".to_owned()));
                }
                word if word.starts_with("ts=") => {
                    all.next();
                    words.push("ts".to_owned());
                }
                word if word.starts_with("ws=") => words.push("ws".to_owned()),
                word => words.push(word.to_owned()),
            }
        }
        words.join(" ")
    }
}

/// A line without its comment.
fn code(text: &str) -> String {
    let code = text.split("//").next().unwrap_or_default();
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}
