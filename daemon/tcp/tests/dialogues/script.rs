//! The text of a dialogue: lines to steps. The format is described in `README.md` beside this file.
//!
//! A mistake in a script is reported with its file and line; nothing is guessed.

use core::time::Duration;

use sluice_tcp::Awaited;
use sluice_wire::{AccEcnOption, AccEcnOrder, Ecn};

/// Remote port of a line that names none.
pub const DEFAULT_PORT: u16 = 50_000;

/// Where a line stands, for messages.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub text: String,
}

/// A mistake in a script.
#[derive(Debug)]
pub struct Mistake {
    pub at: Place,
    pub what: String,
}

/// One dialogue.
#[derive(Debug)]
pub struct Dialogue {
    pub name: String,
    pub clause: String,
    pub at: Place,
    /// Why it makes no sense on a wire, if it says so.
    pub off_wire: Option<String>,
    pub steps: Vec<Step>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Step {
    pub at: Place,
    /// Time since the step before.
    pub after: Duration,
    pub action: Action,
    pub turn: Turn,
}

/// What the driver does after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It sends what leaves and hears every event.
    Whole,
    /// `short`: it has room for one segment, and hears events only after the line that follows.
    Short,
    /// `batched`: it has its turn only after the line that follows.
    Later,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Settings of the stack, before anything else.
    Config(Vec<(String, String)>),
    /// The lines of a prologue follow here.
    Use(String),
    /// `<`: a segment arrives at the stack.
    Arrive(Pattern),
    /// `< icmp`: an ICMP error arrives at the stack.
    Icmp(IcmpPattern),
    /// `>`: a segment leaves the stack.
    Leave(Pattern),
    /// Nothing leaves until this moment.
    Silence,
    /// The driver calls.
    Do(Call, u16),
    /// Something must be true.
    Expect(String, Vec<String>, u16),
}

/// A call of the driver.
#[derive(Clone, Debug)]
pub enum Call {
    Supply(u64, bool),
    Consume(u64),
    /// And room for so many bytes beyond that.
    Room(u64, u32),
    Close,
    CloseReceive,
    WaitsFor(Option<Awaited>),
    UserTimeout(Option<Duration>),
    Abort,
    Deadline(Option<Duration>),
    Accepting(bool),
    /// We open.
    Connect,
}

/// A sequence number in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Relative to the initial sequence number of the side it belongs to.
    Relative(i64),
    /// `=5`: as it stands in the header.
    Absolute(u32),
}

/// The timestamps of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    /// What the connection has negotiated.
    Negotiated,
    /// `nots`: none.
    Without,
    /// `ts=V:E`; `*` leaves a side open.
    Given(Option<i64>, Option<i64>),
}

/// A segment in a script.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub flags: u16,
    pub seq: Number,
    pub len: u32,
    pub ack: Option<Number>,
    pub window: Option<u16>,
    pub urgent: u16,
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    pub stamps: Stamps,
    pub sack: Vec<(i64, i64)>,
    pub accecn: Option<AccEcnOption>,
    /// Codepoint of the IP header.
    pub ecn: Ecn,
    /// Option bytes put in front of the others.
    pub raw: Vec<u8>,
    pub bad_checksum: bool,
    /// `in 1460`: several segments in a row, each of this length but the last.
    pub pieces_of: Option<u32>,
    pub port: u16,
}

/// An ICMP error in a script.
#[derive(Clone, Copy, Debug)]
pub struct IcmpPattern {
    pub claim: Claim,
    /// Sequence number of the segment that it quotes.
    pub quoted: Number,
    pub port: u16,
}

/// What an ICMP error claims.
#[derive(Clone, Copy, Debug)]
pub enum Claim {
    /// `mtu 1400`: packet too big.
    TooBig(u32),
    /// `code 3`: destination unreachable.
    Unreachable(u8),
}

/// Names of the flag bits, from FIN up.
pub const FLAG_LETTERS: [char; 9] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C', 'e'];
pub const FLAG_SYN: u16 = 0x02;
pub const FLAG_ACK: u16 = 0x10;
/// FIN and PSH, which belong to the last of several segments.
pub const FLAGS_AT_THE_END: u16 = 0x09;
/// ECE, CWR and AE as the ACE field.
const FLAGS_OF_ACE: u16 = 0x1c0;
const ACE_SHIFT: u16 = 6;

/// The dialogues of a file and nothing else: a file without one is a mistake.
pub fn dialogues(file: &str, text: &str) -> Result<Vec<Dialogue>, Mistake> {
    let found = blocks(file, text, '#')?;
    for dialogue in &found {
        let mistake = |what: &str| Mistake {
            at: dialogue.at.clone(),
            what: what.to_owned(),
        };
        if dialogue.clause.is_empty() {
            return Err(mistake("a dialogue cites its clause: # name [RFC section]"));
        }
        let asserts = dialogue.steps.iter().any(|step| {
            matches!(
                step.action,
                Action::Leave(_) | Action::Silence | Action::Expect(..)
            )
        });
        if !asserts {
            return Err(mistake("a dialogue expects something"));
        }
        let twice = found.iter().filter(|other| other.name == dialogue.name);
        if twice.count() > 1 {
            return Err(mistake("two dialogues of this file have the same name"));
        }
    }
    Ok(found)
}

/// The prologues of a file: blocks that begin with `=` and are inserted by `use`.
pub fn prologues(file: &str, text: &str) -> Result<Vec<Dialogue>, Mistake> {
    blocks(file, text, '=')
}

fn blocks(file: &str, text: &str, mark: char) -> Result<Vec<Dialogue>, Mistake> {
    let mut found: Vec<Dialogue> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default().trim();
        let at = Place {
            file: file.to_owned(),
            line: index + 1,
            text: line.trim_end().to_owned(),
        };
        let mistake = |what: String| Mistake {
            at: at.clone(),
            what,
        };
        if code.is_empty() {
            continue;
        }
        if let Some(title) = code.strip_prefix(mark) {
            let (name, clause) = title.split_once('[').unwrap_or((title, ""));
            found.push(Dialogue {
                name: name.trim().to_owned(),
                clause: clause.trim_end().trim_end_matches(']').to_owned(),
                at,
                off_wire: None,
                steps: Vec::new(),
            });
            continue;
        }
        let Some(dialogue) = found.last_mut() else {
            return Err(mistake(format!("a line before the first '{mark} name'")));
        };
        if let Some(reason) = code.strip_prefix("wire no ") {
            dialogue.off_wire = Some(reason.trim().to_owned());
            continue;
        }
        let step = step(code, at.clone()).map_err(mistake)?;
        dialogue.steps.push(step);
    }
    if let Some(empty) = found.iter().find(|dialogue| dialogue.steps.is_empty()) {
        return Err(Mistake {
            at: empty.at.clone(),
            what: "an empty dialogue".to_owned(),
        });
    }
    if found.is_empty() {
        return Err(Mistake {
            at: Place {
                file: file.to_owned(),
                line: 1,
                text: String::new(),
            },
            what: "no dialogue in this file".to_owned(),
        });
    }
    Ok(found)
}

fn step(code: &str, at: Place) -> Result<Step, String> {
    let mut words: Vec<&str> = code.split_whitespace().collect();
    let mut after = Duration::ZERO;
    if let Some(time) = words[0].strip_prefix('+') {
        after = duration(time)?;
        words.remove(0);
    }
    let turn = match words[..] {
        ["<" | "do", .., "batched"] => Turn::Later,
        ["<" | "do", .., "short"] => Turn::Short,
        _ => Turn::Whole,
    };
    if turn != Turn::Whole {
        words.pop();
    }
    let (verb, rest) = words.split_first().ok_or("a time and nothing to do")?;
    let action = match *verb {
        "<" if rest.first() == Some(&"icmp") => Action::Icmp(icmp(&rest[1..])?),
        "<" => Action::Arrive(pattern(rest)?),
        ">" => Action::Leave(pattern(rest)?),
        "silence" if rest.is_empty() && !after.is_zero() => Action::Silence,
        "silence" => return Err("write: +TIME silence".to_owned()),
        "use" => Action::Use(one(rest)?.to_owned()),
        "config" => Action::Config(settings(rest)?),
        "do" => {
            let (rest, port) = port_of(rest)?;
            Action::Do(call(rest)?, port)
        }
        "?" => {
            let (rest, port) = port_of(rest)?;
            let (key, values) = rest.split_first().ok_or("expect what?")?;
            let values = values.iter().map(|word| (*word).to_owned()).collect();
            Action::Expect((*key).to_owned(), values, port)
        }
        other => return Err(format!("unknown verb '{other}'")),
    };
    Ok(Step {
        at,
        after,
        action,
        turn,
    })
}

/// `mtu 1400 quote 1461`, `code 3 quote 1`, with `port N` at the end if it is another.
fn icmp(words: &[&str]) -> Result<IcmpPattern, String> {
    let (words, port) = port_of(words)?;
    let (claim, quoted) = match words {
        ["mtu", mtu, "quote", seq] => (Claim::TooBig(parse(mtu)?), seq),
        ["code", code, "quote", seq] => (Claim::Unreachable(parse(code)?), seq),
        _ => return Err("write: icmp mtu|code NUMBER quote SEQ".to_owned()),
    };
    Ok(IcmpPattern {
        claim,
        quoted: number(quoted)?,
        port,
    })
}

fn port_of<'a>(words: &'a [&'a str]) -> Result<(&'a [&'a str], u16), String> {
    match words {
        [rest @ .., "port", port] => Ok((rest, parse(port)?)),
        _ => Ok((words, DEFAULT_PORT)),
    }
}

fn call(words: &[&str]) -> Result<Call, String> {
    Ok(match words {
        ["supply", until] => Call::Supply(parse(until)?, false),
        ["supply", until, "more"] => Call::Supply(parse(until)?, true),
        ["consume", until] => Call::Consume(parse(until)?),
        ["room", until, bytes] => Call::Room(parse(until)?, parse(bytes)?),
        ["close"] => Call::Close,
        ["close_receive"] => Call::CloseReceive,
        ["waits_for", "nothing"] => Call::WaitsFor(None),
        ["waits_for", "application"] => Call::WaitsFor(Some(Awaited::Application)),
        ["waits_for", "disk"] => Call::WaitsFor(Some(Awaited::Disk)),
        ["waits_for", "memory"] => Call::WaitsFor(Some(Awaited::Memory)),
        ["user_timeout", "off"] => Call::UserTimeout(None),
        ["user_timeout", time] => Call::UserTimeout(Some(duration(time)?)),
        ["abort"] => Call::Abort,
        ["deadline", "off"] => Call::Deadline(None),
        ["deadline", time] => Call::Deadline(Some(duration(time)?)),
        ["accepting", "on"] => Call::Accepting(true),
        ["accepting", "off"] => Call::Accepting(false),
        ["connect"] => Call::Connect,
        other => return Err(format!("unknown call {other:?}")),
    })
}

fn settings(words: &[&str]) -> Result<Vec<(String, String)>, String> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').ok_or("write: config key=value")?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn pattern(words: &[&str]) -> Result<Pattern, String> {
    let [flags, range, options @ ..] = words else {
        return Err("write: FLAGS SEQ[+LEN] ...".to_owned());
    };
    let (seq, len) = sequence_range(range)?;
    let mut pattern = Pattern {
        flags: flag_bits(flags)?,
        seq,
        len,
        ack: None,
        window: None,
        urgent: 0,
        mss: None,
        window_scale: None,
        sack_permitted: false,
        stamps: Stamps::Negotiated,
        sack: Vec::new(),
        accecn: None,
        ecn: Ecn::NotEct,
        raw: Vec::new(),
        bad_checksum: false,
        pieces_of: None,
        port: DEFAULT_PORT,
    };
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or(format!("{word} what?"));
        match word.split_once('=').unwrap_or((word, "")) {
            ("ack", "") => pattern.ack = Some(number(value()?)?),
            ("win", "") => pattern.window = Some(parse(value()?)?),
            ("port", "") => pattern.port = parse(value()?)?,
            ("in", "") => pattern.pieces_of = Some(parse(value()?)?),
            ("urg", "") => pattern.urgent = parse(value()?)?,
            ("mss", size) => pattern.mss = Some(parse(size)?),
            ("ws", shift) => pattern.window_scale = Some(parse(shift)?),
            ("sackok", "") => pattern.sack_permitted = true,
            ("nots", "") => pattern.stamps = Stamps::Without,
            ("ts", "") => pattern.stamps = Stamps::Given(None, None),
            ("ts", stamps) => pattern.stamps = given_stamps(stamps)?,
            ("sack", blocks) => pattern.sack = sack_blocks(blocks)?,
            ("acc0", fields) => {
                pattern.accecn = Some(accecn(AccEcnOrder::Ect0First, fields)?);
            }
            ("acc1", fields) => {
                pattern.accecn = Some(accecn(AccEcnOrder::Ect1First, fields)?);
            }
            ("ace", value) => {
                let value: u16 = parse(value)?;
                if value > 7 {
                    return Err("ace is 0 to 7".to_owned());
                }
                pattern.flags = pattern.flags & !FLAGS_OF_ACE | value << ACE_SHIFT;
            }
            ("ect0", "") => pattern.ecn = Ecn::Ect0,
            ("ect1", "") => pattern.ecn = Ecn::Ect1,
            ("ce", "") => pattern.ecn = Ecn::Ce,
            ("raw", bytes) => pattern.raw = hex(bytes)?,
            ("badsum", "") => pattern.bad_checksum = true,
            _ => return Err(format!("unknown word '{word}'")),
        }
    }
    if (pattern.flags & FLAG_ACK != 0) != pattern.ack.is_some() {
        return Err("ACK flag and ack number go together".to_owned());
    }
    Ok(pattern)
}

/// `5`, `=5`, `-1` or, with a length, `5+100`.
fn sequence_range(word: &str) -> Result<(Number, u32), String> {
    match word.split_once('+') {
        Some((seq, len)) => Ok((number(seq)?, parse(len)?)),
        None => Ok((number(word)?, 0)),
    }
}

fn number(word: &str) -> Result<Number, String> {
    match word.strip_prefix('=') {
        Some(raw) => Ok(Number::Absolute(parse(raw)?)),
        None => Ok(Number::Relative(parse(word)?)),
    }
}

/// The fields in the order of the wire.
fn accecn(order: AccEcnOrder, word: &str) -> Result<AccEcnOption, String> {
    let words = word.split(',').filter(|word| !word.is_empty());
    let values: Vec<u32> = words.map(parse).collect::<Result<_, _>>()?;
    let at = |index: usize| values.get(index).copied().unwrap_or(0);
    let counters = match order {
        AccEcnOrder::Ect0First => [at(0), at(1), at(2)],
        AccEcnOrder::Ect1First => [at(2), at(1), at(0)],
    };
    let fields = u8::try_from(values.len())
        .ok()
        .filter(|fields| *fields <= 3);
    Ok(AccEcnOption::new(
        order,
        counters,
        fields.ok_or("at most three counters")?,
    ))
}

fn flag_bits(word: &str) -> Result<u16, String> {
    if word == "-" {
        return Ok(0);
    }
    word.chars().try_fold(0, |bits, letter| {
        let at = FLAG_LETTERS.iter().position(|known| *known == letter);
        let at = at.ok_or(format!("unknown flag '{letter}'"))?;
        Ok(bits | (1 << at))
    })
}

fn given_stamps(word: &str) -> Result<Stamps, String> {
    let side = |text: &str| match text {
        "*" => Ok(None),
        number => parse(number).map(Some),
    };
    let (value, echo) = word.split_once(':').ok_or("write: ts=VALUE:ECHO")?;
    Ok(Stamps::Given(side(value)?, side(echo)?))
}

fn sack_blocks(word: &str) -> Result<Vec<(i64, i64)>, String> {
    word.split(',')
        .map(|block| {
            let (start, end) = block.split_once('-').ok_or("write: sack=1-5,7-9")?;
            Ok((parse(start)?, parse(end)?))
        })
        .collect()
}

fn hex(word: &str) -> Result<Vec<u8>, String> {
    let digits = word.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let text = core::str::from_utf8(pair).map_err(|error| error.to_string())?;
            u8::from_str_radix(text, 16).map_err(|error| error.to_string())
        })
        .collect()
}

/// `5us`, `40ms`, `1.5s`, `2h`, `25d`.
pub fn duration(word: &str) -> Result<Duration, String> {
    if word == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let nanos = match &word[digits.len()..] {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "h" => 3600e9,
        "d" => 86_400e9,
        _ => return Err(format!("unknown time '{word}': us, ms, s, h or d")),
    };
    let count: f64 = parse(digits)?;
    Ok(Duration::from_secs_f64(count * nanos / 1e9))
}

fn one<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        _ => Err("one word is expected".to_owned()),
    }
}

pub fn parse<T: core::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("'{word}' is not a number that fits"))
}
