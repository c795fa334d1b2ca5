//! Operations on a whole TCP: a hostile peer, a driver and a clock, on up to three connections.
//!
//! Invariants, for every order of events: no panic; bytes that were taken are never taken again, so what is
//! delivered never changes; segments are well-formed, inside the peer's window and carry bytes that the driver
//! still has; the own window never shrinks and never promises more than there is; connections end for a reason that
//! there was; counters add up; and once
//! everything is aborted, or the peers are silent for long enough, no connection, no handshake and no timer is left.

mod driver;
mod opens;
mod ops;
mod shadow;

use core::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::{
    ConnId, Disposition, NewBytes, Receipt, RunLimit, Segment, SegmentDrop, Stack, StackConfig,
    State,
};
use sluice_wire::{Ecn, SackBlock, SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps};

use ops::{Ack, CONNECTIONS, HALF_OPEN, Op, Report, SegmentOp, Seq, Setup, Stamp, Syn};
use shadow::{Limits, Shadow, check_well_formed};

const STEPS_MAX: usize = 200;
/// More than the largest send limit holds segments; a stack that sends more at once does not stop.
const BURST_MAX: u32 = 4096;
/// No cookie is good for longer.
const COOKIE_MAX: Duration = Duration::from_secs(128);
/// Every state has a deadline: with silent peers all is over after this many timers, and this much time.
const LAST_TIMERS_MAX: u32 = 2000;
const LAST_TIME_MAX: Duration = Duration::from_secs(4 * 3600);

/// Runs operations on a stack.
pub fn stack(data: &[u8]) {
    let Some((setup, ops)) = decode(data) else {
        return;
    };
    let mut bench = Bench::new(setup.config(), setup.start());
    for op in ops {
        bench.step(&op);
        bench.check();
    }
    bench.end(setup.abort);
}

/// The operations that an input of [`stack`] stands for, one a line: to read a failure.
#[must_use]
pub fn stack_operations(data: &[u8]) -> Vec<String> {
    let Some((setup, ops)) = decode(data) else {
        return Vec::new();
    };
    let first = format!("{setup:?}");
    core::iter::once(first)
        .chain(ops.iter().map(|op| format!("{op:?}")))
        .collect()
}

fn decode(data: &[u8]) -> Option<(Setup, Vec<Op>)> {
    let mut input = Unstructured::new(data);
    let setup = Setup::arbitrary(&mut input).ok()?;
    let mut ops = Vec::new();
    while !input.is_empty() && ops.len() < STEPS_MAX {
        match Op::arbitrary(&mut input) {
            Ok(op) => ops.push(op),
            Err(_) => break,
        }
    }
    Some((setup, ops))
}

/// What was counted from outside.
#[derive(Default)]
struct Seen {
    segments_in: u64,
    segments_out: u64,
    dropped: u64,
    established: u64,
    resets: u64,
    refused: u64,
    icmp: u64,
}

struct Bench {
    stack: Stack,
    config: StackConfig,
    limits: Limits,
    now: Instant,
    /// Connections whose last event has not come, and handshakes that the stack remembers.
    live: Vec<Shadow>,
    /// Handshakes that it does not: what cookies hold, and when they left.
    cookies: Vec<(Instant, Shadow)>,
    seen: Seen,
}

impl Bench {
    fn new(config: StackConfig, now: Instant) -> Bench {
        Bench {
            stack: Stack::new(config.clone(), now),
            limits: Limits::new(&config),
            config,
            now,
            live: Vec::new(),
            cookies: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Connect { flow, seq, syn } => self.connect(flow, seq, syn),
            Op::Syn { flow, seq, syn } => self.syn(flow, seq, syn),
            Op::Segment(ref op) => self.any_segment(op),
            Op::Data { flow, len, fin } => self.data(flow, len, fin),
            Op::Ack { flow, part, window } => self.acknowledge(flow, part, window),
            Op::Sack { flow, hole, len } => self.sack(flow, hole, len),
            Op::Transmit { count } => self.transmit(count.into()),
            Op::Wait { micros } => self.wait(Duration::from_micros(micros.into())),
            Op::Sleep { days } => self.wait(Duration::from_secs(86_400) * u32::from(days)),
            Op::Timer => self.sleep_until_deadline(),
            Op::Accepting(accepting) => self.stack.set_accepting(accepting),
            Op::Open { flow } => self.open(flow),
            Op::Answer {
                flow,
                seq,
                syn,
                crossing,
            } => self.answer(flow, seq, syn, crossing),
            Op::Icmp {
                flow,
                error,
                ref quoted,
            } => self.icmp(flow, error, quoted),
            Op::Feedback {
                flow,
                part,
                ace,
                report,
            } => self.feedback(flow, part, ace, report),
            _ => self.driver_step(op),
        }
    }

    fn connect(&mut self, flow: u8, seq: u32, syn: Syn) {
        self.syn(flow, seq, syn);
        self.transmit(BURST_MAX);
        let Some(shadow) = self.of_flow(flow) else {
            return;
        };
        let mut header = shadow.honest(TcpFlags::ACK);
        header.window = syn.window;
        self.give(flow, &header, 0, false);
    }

    fn syn(&mut self, flow: u8, seq: u32, syn: Syn) {
        let header = TcpHeader {
            seq,
            flags: syn.flags(),
            window: syn.window,
            options: syn.options(),
            ..ports(flow)
        };
        self.give(flow, &header, u32::from(syn.payload_len), false);
    }

    fn data(&mut self, flow: u8, len: u16, fin: bool) {
        let Some(shadow) = self.of_flow(flow) else {
            return;
        };
        let mut flags = TcpFlags::ACK;
        if fin {
            flags = flags | TcpFlags::FIN;
        }
        let header = shadow.honest(flags);
        self.give(flow, &header, u32::from(len), false);
    }

    fn acknowledge(&mut self, flow: u8, part: u8, window: u16) {
        let Some(shadow) = self.of_flow(flow) else {
            return;
        };
        let mut header = shadow.honest(TcpFlags::ACK);
        let out = shadow.sent_end - shadow.acknowledged().min(shadow.sent_end);
        header.ack = shadow.seq_out(shadow.acknowledged() + out * u64::from(part) / 255);
        header.window = window;
        self.give(flow, &header, 0, false);
    }

    fn feedback(&mut self, flow: u8, part: u8, ace: u8, report: Report) {
        let Some(shadow) = self.of_flow(flow) else {
            return;
        };
        let mut header = shadow.honest(TcpFlags::ACK.with_ace(ace));
        let out = shadow.sent_end - shadow.acknowledged().min(shadow.sent_end);
        header.ack = shadow.seq_out(shadow.acknowledged() + out * u64::from(part) / 255);
        header.options.accecn = Some(report.option());
        self.give(flow, &header, 0, false);
    }

    fn sack(&mut self, flow: u8, hole: u16, len: u16) {
        let Some(shadow) = self.of_flow(flow) else {
            return;
        };
        let mut header = shadow.honest(TcpFlags::ACK);
        header.ack = shadow.seq_out(shadow.acknowledged());
        let start = shadow.acknowledged() + u64::from(hole);
        let end = (start + u64::from(len)).min(shadow.sent_end);
        header.options.sack.push(SackBlock {
            start: shadow.seq_out(start),
            end: shadow.seq_out(end),
        });
        self.give(flow, &header, 0, false);
    }

    fn any_segment(&mut self, op: &SegmentOp) {
        let mut header = TcpHeader {
            flags: TcpFlags::from_bits(op.flags),
            window: op.window,
            ..ports(op.flow)
        };
        match self.of_flow(op.flow) {
            Some(shadow) => shadow.aim(op, &mut header),
            None => aim_at_nothing(op, &mut header),
        }
        if op.junk {
            header.options.mss = Some(op.window);
            header.options.window_scale = Some(op.flags.to_le_bytes()[0]);
            header.options.sack_permitted = true;
        }
        header.options.accecn = op.accecn.as_ref().map(Report::option);
        // The wire has room for 40 bytes of options.
        if whole_len(&header.options) > 40 {
            header.options.accecn = None;
        }
        self.give(op.flow, &header, u32::from(op.len), op.refuse);
    }

    /// A segment arrives.
    fn give(&mut self, flow: u8, header: &TcpHeader, payload_len: u32, refuse: bool) {
        let segment = Segment {
            key: key(flow),
            header,
            payload_len,
            ecn: if payload_len % 8 == 3 {
                Ecn::Ce
            } else {
                Ecn::Ect0
            },
        };
        self.forget_lost_handshakes();
        let known = self
            .live
            .iter()
            .rposition(|shadow| shadow.key == segment.key);
        if let Some(at) = known {
            self.live[at].before_segment(header);
        }
        let receipt = self.take(&segment);
        self.seen.segments_in += 1;
        self.seen.dropped += u64::from(matches!(receipt.disposition, Disposition::Dropped(_)));
        if let Some(reply) = &receipt.reply {
            self.check_reply(known, &segment, reply);
        }
        let is_syn = header.flags.bits() & 0x17 == TcpFlags::SYN.bits();
        match (receipt.conn, known) {
            (Some(id), Some(at)) if self.live[at].id == Some(id) => {
                self.live[at].after_segment(&segment, &receipt);
            }
            (Some(id), Some(at)) if !is_syn && self.live[at].is_completed_by(header) => {
                self.live[at].on_open(id);
                self.live[at].after_segment(&segment, &receipt);
            }
            (Some(id), _) if is_syn => {
                assert!(receipt.pieces.is_empty());
                self.live.push(Shadow::new(id, &segment, self.limits));
            }
            (Some(id), _) => self.open_by_cookie(id, &segment, &receipt),
            (None, _) => {
                assert!(receipt.pieces.is_empty());
                let cookie = receipt
                    .reply
                    .filter(|reply| is_syn && reply.flags.contains(TcpFlags::SYN));
                if let Some(cookie) = cookie {
                    let mut shadow = Shadow::of_cookie(&segment, self.limits);
                    shadow.check_outgoing(&segment.key, &cookie, &(0..0), self.now);
                    self.cookies.push((self.now, shadow));
                }
            }
        }
        if receipt.disposition == Disposition::Unknown && refuse {
            self.refuse(&segment);
        }
    }

    /// Acknowledgements with an odd window go in as runs, where they may.
    fn take(&mut self, segment: &Segment<'_>) -> Receipt {
        let run = (segment.header.window % 2 == 1)
            .then(|| self.stack.begin_run(self.now, segment))
            .flatten();
        let Some(run) = run else {
            return self.stack.on_segment(self.now, segment);
        };
        Receipt {
            conn: Some(run.conn()),
            disposition: Disposition::Accepted,
            pieces: NewBytes::default(),
            payload_start: 0,
            trusted: true,
            rtt: self.stack.end_run(self.now, &run),
            reply: None,
        }
    }

    /// An answer that goes back at once: from a handshake, a cookie, or from TIME-WAIT.
    fn check_reply(&mut self, known: Option<usize>, segment: &Segment<'_>, reply: &TcpHeader) {
        check_well_formed(&segment.key, reply, &(0..0));
        match known.map(|at| &mut self.live[at]) {
            Some(shadow) if shadow.is_handshake => {
                shadow.check_outgoing(&segment.key, reply, &(0..0), self.now);
            }
            // Only a handshake challenges it (RFC 5961 section 3.2).
            _ => assert!(
                !segment.header.flags.contains(TcpFlags::RST),
                "an answer to a RST"
            ),
        }
    }

    /// An ACK that fits no handshake opened a connection: a cookie must say so.
    fn open_by_cookie(&mut self, id: ConnId, segment: &Segment<'_>, receipt: &Receipt) {
        let is_answer = |(_, shadow): &(Instant, Shadow)| {
            shadow.key == segment.key
                && shadow.is_completed_by(segment.header)
                && shadow.stream_start() == segment.header.seq
        };
        let at = self.cookies.iter().rposition(is_answer);
        // It is good for a replay too, once the connection is gone.
        let (made_at, mut shadow) = self.cookies[at.expect("a cookie that was given")].clone();
        assert!(self.now.saturating_since(made_at) <= COOKIE_MAX);
        shadow.before_segment(segment.header);
        shadow.on_open(id);
        shadow.after_segment(segment, receipt);
        self.live.push(shadow);
    }

    /// Handshakes end without an event: by a RST, by time, or to make room.
    fn forget_lost_handshakes(&mut self) {
        let stack = &self.stack;
        self.live.retain(|shadow| {
            !shadow.is_handshake || shadow.id.is_some_and(|id| stack.state(id).is_some())
        });
    }

    fn refuse(&mut self, segment: &Segment<'_>) {
        let answer = self.stack.refuse(segment);
        let is_reset = segment.header.flags.contains(TcpFlags::RST);
        assert_eq!(answer.is_none(), is_reset);
        if let Some(answer) = answer {
            self.seen.refused += 1;
            check_well_formed(&segment.key, &answer, &(0..0));
            assert!(answer.flags.contains(TcpFlags::RST));
        }
    }

    fn transmit(&mut self, most: u32) {
        let mut count = 0;
        while count < most {
            assert!(count < BURST_MAX, "the stack does not stop sending");
            // Single segments, and runs of many lengths.
            let length = u32::try_from(self.seen.segments_out % 47).unwrap_or(0);
            let limit = RunLimit::segments((most - count).min(length + 1));
            let Some(run) = self.stack.poll_transmit_run(self.now, limit) else {
                assert!(!self.stack.wants_transmit());
                return;
            };
            assert!(run.count() <= limit.segments);
            count += run.count();
            for out in run.segments() {
                self.seen.segments_out += 1;
                self.seen.resets += u64::from(out.header.flags.contains(TcpFlags::RST));
                let now = self.now;
                let shadow = self.shadow(out.conn);
                shadow.check_outgoing(&out.key, &out.header, &out.payload, now);
            }
            if let Some(view) = self.stack.send_view(run.conn) {
                self.shadow(run.conn).check_sent(&view);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        // As the worker does before it sleeps.
        for _ in 0..8 {
            self.stack.on_timers(self.now);
            if self.stack.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("timers that stay due");
    }

    fn sleep_until_deadline(&mut self) {
        if let Some(at) = self.stack.next_deadline() {
            self.wait(at.saturating_since(self.now));
        }
    }

    /// After every step: events are taken, and everything adds up.
    fn check(&mut self) {
        self.take_events();
        self.forget_lost_handshakes();
        let mut half_open = 0;
        for shadow in &mut self.live {
            let id = shadow.id.expect("it lives");
            let state = self.stack.state(id).expect("it lives");
            let view = self.stack.send_view(id);
            assert_eq!(shadow.is_handshake, view.is_none());
            match view {
                Some(view) => shadow.check(self.stack.delivered(id), &view, state),
                None => {
                    assert_eq!(state, State::SynReceived);
                    half_open += 1;
                }
            }
        }
        let connections = self.stack.connections().count();
        assert_eq!(self.stack.half_open(), half_open);
        assert_eq!(self.stack.len() as usize, self.live.len());
        assert_eq!(connections + half_open as usize, self.live.len());
        assert!(connections <= CONNECTIONS as usize && half_open <= HALF_OPEN);
        assert!(self.stack.timers() <= self.stack.len());
        assert!(self.stack.time_wait() <= self.config.time_wait);
        self.check_budgets();
        self.check_counters();
    }

    /// What windows promise beyond the least of each, and what is in flight beyond that, is in the budgets. A driver that
    /// says its room has its own.
    fn check_budgets(&self) {
        let view = self.stack.buffers();
        assert!(view.receive.used <= view.receive.total && view.send.used <= view.send.total);
        let promised: u64 = self.live.iter().map(Shadow::promised_beyond).sum();
        assert!(
            promised <= view.receive.total,
            "{promised} of {:?}",
            view.receive
        );
    }

    fn check_counters(&self) {
        let (counters, seen) = (self.stack.counters(), &self.seen);
        assert_eq!(counters.segments_in, seen.segments_in);
        assert_eq!(counters.segments_out, seen.segments_out);
        assert_eq!(counters.accepted + counters.connected, seen.established);
        assert_eq!(counters.icmp.iter().sum::<u64>(), seen.icmp);
        assert_eq!(counters.resets_sent, seen.resets);
        assert_eq!(counters.refused, seen.refused);
        // One reason for each that was dropped; a refused out-of-order segment counts without being one, and so does an
        // ACK that fits no handshake and may be another worker's.
        let dropped: u64 = counters.dropped.iter().sum();
        let not_dropped: u64 = [SegmentDrop::OutOfOrderFull, SegmentDrop::HandshakeAck]
            .iter()
            .map(|reason| counters.dropped[reason.index()])
            .sum();
        assert_eq!(dropped - not_dropped, seen.dropped);
    }

    fn take_events(&mut self) {
        while let Some((id, events)) = self.stack.poll_event() {
            self.seen.established += u64::from(events.established);
            let shadow = self.shadow(id);
            if events.established {
                shadow.on_established();
            }
            if events.peer_finished {
                shadow.on_peer_finished();
            }
            if let Some(reason) = events.closed {
                shadow.check_end(reason);
                self.live.retain(|shadow| shadow.id != Some(id));
                assert_eq!(self.stack.state(id), None);
                assert_eq!(self.stack.send_view(id), None);
            }
        }
    }

    /// Everything ends: at once when it is aborted, within its deadlines when the peers are silent.
    fn end(&mut self, abort: bool) {
        let ids: Vec<ConnId> = self.stack.connections().collect();
        for id in ids {
            let shadow = self.shadow(id);
            if abort {
                shadow.aborted = true;
                self.stack.abort(id);
            } else {
                shadow.closed = true;
                self.stack.close(id, self.now);
            }
        }
        if abort {
            for shadow in self.live.iter().filter(|shadow| shadow.is_handshake) {
                self.stack.abort(shadow.id.expect("it lives"));
            }
        }
        self.transmit(u32::MAX);
        self.check();
        if abort {
            self.check_nothing_left();
        }
        let end = self.now + LAST_TIME_MAX;
        for _ in 0..LAST_TIMERS_MAX {
            if self.stack.is_empty() {
                break;
            }
            assert!(self.stack.next_deadline().is_some(), "no timer, no end");
            self.sleep_until_deadline();
            self.transmit(u32::MAX);
            self.check();
            assert!(self.now < end, "still alive");
        }
        self.check_nothing_left();
        // The table counts in ticks of 17 ms, and ends nothing early.
        self.wait(sluice_tcp::config::TIME_WAIT + Duration::from_millis(20));
        assert_eq!(self.stack.time_wait(), 0);
    }

    fn check_nothing_left(&mut self) {
        if self.stack.is_flooded() {
            // The end of a flood is told by a timer.
            self.sleep_until_deadline();
        }
        assert!(self.stack.is_empty() && self.live.is_empty());
        assert_eq!((self.stack.timers(), self.stack.half_open()), (0, 0));
        assert_eq!(self.stack.next_deadline(), None);
        let view = self.stack.buffers();
        assert_eq!((view.receive.used, view.send.used), (0, 0));
        assert_eq!(self.stack.trails(), 0);
    }

    fn of_flow(&self, flow: u8) -> Option<&Shadow> {
        let key = key(flow);
        let cookies = self.cookies.iter().map(|(_, shadow)| shadow);
        let shadows = cookies.chain(&self.live);
        shadows.rev().find(|shadow| shadow.key == key)
    }

    fn shadow(&mut self, id: ConnId) -> &mut Shadow {
        let found = self.live.iter_mut().find(|shadow| shadow.id == Some(id));
        found.expect("a connection that we know")
    }
}

impl Shadow {
    /// The header that a peer without malice would send next.
    fn honest(&self, flags: TcpFlags) -> TcpHeader {
        let (value, echo) = self.stamp();
        TcpHeader {
            src_port: self.key.remote_port(),
            dst_port: self.key.local_port(),
            seq: self.rcv_nxt(),
            ack: self.seq_out(self.sent_end),
            flags,
            window: u16::MAX,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.has_timestamps().then_some(Timestamps { value, echo }),
                ..TcpOptions::default()
            },
        }
    }

    /// The numbers that an operation asks for.
    fn aim(&self, op: &SegmentOp, header: &mut TcpHeader) {
        header.seq = match op.seq {
            Seq::Next(by) => self.rcv_nxt().wrapping_add_signed(by.into()),
            Seq::Edge(by) => self.edge_seq().wrapping_add_signed(by.into()),
            Seq::Start(by) => self.stream_start().wrapping_add_signed(by.into()),
            Seq::Absolute(seq) => seq,
        };
        let una = self.seq_out(self.acknowledged());
        header.ack = match op.ack {
            Ack::Sent(by) => self.seq_out(self.sent_end).wrapping_add_signed(by.into()),
            Ack::Una(by) => una.wrapping_add_signed(by.into()),
            Ack::Absolute(ack) => ack,
        };
        let (value, echo) = self.stamp();
        header.options.timestamps = match op.timestamp {
            Stamp::Honest => self.has_timestamps().then_some(Timestamps { value, echo }),
            Stamp::Offset(by) => Some(Timestamps {
                value: value.wrapping_add_signed(by.into()),
                echo: echo.wrapping_add_signed(by.into()),
            }),
            Stamp::Absolute(value, echo) => Some(Timestamps { value, echo }),
            Stamp::Missing => None,
        };
        for block in op.sack.iter().flatten() {
            let start = una.wrapping_add_signed(block.start.into());
            header.options.sack.push(SackBlock {
                start,
                end: start.wrapping_add_signed(block.len.into()),
            });
        }
    }
}

fn aim_at_nothing(op: &SegmentOp, header: &mut TcpHeader) {
    if let Seq::Absolute(seq) = op.seq {
        header.seq = seq;
    }
    if let Ack::Absolute(ack) = op.ack {
        header.ack = ack;
    }
    if let Stamp::Absolute(value, echo) = op.timestamp {
        header.options.timestamps = Some(Timestamps { value, echo });
    }
}

/// Bytes of options with every SACK block.
fn whole_len(options: &TcpOptions) -> usize {
    let others = TcpOptions {
        sack: SackBlocks::EMPTY,
        ..*options
    };
    let sack = match options.sack.len() {
        0 => 0,
        blocks => 4 + 8 * blocks,
    };
    others.encoded_len() + sack
}

fn ports(flow: u8) -> TcpHeader {
    let key = key(flow);
    TcpHeader {
        src_port: key.remote_port(),
        dst_port: key.local_port(),
        ..TcpHeader::default()
    }
}

/// Five flows, one more than fit with one in TIME-WAIT; one of them over IPv6.
fn key(flow: u8) -> FlowKey {
    let number = flow % 5;
    let port = 40_000 + u16::from(number);
    if number == 1 {
        let local = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
        let remote = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2];
        FlowKey::new(local.into(), 80, remote.into(), port)
    } else {
        FlowKey::new([192, 0, 2, 1].into(), 80, [192, 0, 2, 2].into(), port)
    }
}
