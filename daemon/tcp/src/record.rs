//! What a connection did with its time, always on: the cause of every pause in sending, and what was sent again why.
//!
//! A connection is *at rest* while nothing waits to be sent, else it is *sending* (the lane may take its next segment)
//! or *paused* for one [`Cause`]. The three follow each other without a gap, so the times add up to the life of a
//! connection: at rest too, which is not counted. Linux keeps three of the causes (`tcpi_busy_time`,
//! `tcpi_rwnd_limited`, `tcpi_sndbuf_limited`); here the rest of the time has a name as well.
//!
//! It has to be cheap, so a change of activity is all that is ever noted, never a segment: one comparison per segment,
//! and some additions at the begin and at the end of a burst. Times are differences of the clock cut to units of
//! 65.5 us, whose errors cancel in the sum; a counter that is full stays full.

use core::time::Duration;

use crate::clock::Instant;
use crate::connection::{Connection, Env};
use crate::event_ring::{Event, EventKind, EventRing, RingId};
use crate::events::CloseReason;
use crate::flight_pool::FlightPool;
use crate::flow_table::FlowKey;
use crate::state::State;
use crate::stats::{StackCounters, counted};

/// A unit of time is 2^16 ns. 32 bits of it last for three days.
const TICK_SHIFT: u32 = 16;

counted! {
    /// Why nothing more could leave although something waits.
    Cause {
        /// The peer's window has no room for a useful segment, or is closed.
        ReceiveWindow = "receive_window",
        /// The congestion window, or what loss recovery makes of it.
        CongestionWindow = "congestion_window",
        /// The pacer.
        Pacing = "pacing",
        /// The driver has nothing to supply, and waits for its application.
        Application = "application",
        /// The driver waits for the disk.
        Disk = "disk",
        /// A limit of memory: [`StackConfig::send_limit`](crate::StackConfig::send_limit), or the driver's blocks.
        Memory = "memory",
    }
}

counted! {
    /// Why data left once more.
    Repeat {
        /// Proven lost, for the first time.
        Fast = "fast",
        /// The repetition was lost too (RFC 8985).
        Rack = "rack",
        /// A tail loss probe (RFC 8985 section 7).
        TailProbe = "tlp",
        /// After a time-out (RFC 6298).
        TimeOut = "timeout",
        /// Cut smaller, because the path does not take so much (RFC 1191, RFC 8899).
        PathMtu = "path_mtu",
    }
}

/// What the driver waits for before it can supply more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its application.
    Application,
    /// The disk.
    Disk,
    /// Memory of its own.
    Memory,
}

impl Awaited {
    fn cause(self) -> Cause {
        match self {
            Awaited::Application => Cause::Application,
            Awaited::Disk => Cause::Disk,
            Awaited::Memory => Cause::Memory,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Rest,
    Sending,
    Paused(Cause),
}

/// The part of the record that a connection always carries.
#[derive(Debug)]
pub(crate) struct Record {
    /// When the activity began, in ticks.
    since: u32,
    /// Ticks spent in sending.
    sending: u32,
    /// Ticks paused, by [`Cause::index`].
    paused: [u32; Cause::ALL.len()],
    /// Pauses begun.
    pauses: [u16; Cause::ALL.len()],
    /// Segments sent again, by [`Repeat::index`].
    sent_again: [u16; Repeat::ALL.len()],
    recoveries: u16,
    undone: u8,
    time_outs: u8,
    activity: Activity,
    /// What the driver waits for.
    awaited: Option<Awaited>,
    ring: Option<RingId>,
}

fn ticks(now: Instant) -> u32 {
    // The difference of two of them is what counts.
    ((now.as_nanos() >> TICK_SHIFT) & 0xffff_ffff) as u32
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks << TICK_SHIFT)
}

impl Record {
    pub(crate) fn new() -> Self {
        Record {
            since: 0,
            sending: 0,
            paused: [0; Cause::ALL.len()],
            pauses: [0; Cause::ALL.len()],
            sent_again: [0; Repeat::ALL.len()],
            recoveries: 0,
            undone: 0,
            time_outs: 0,
            activity: Activity::Rest,
            awaited: None,
            ring: None,
        }
    }

    /// See [`crate::Stack::waits_for`].
    pub(crate) fn wait_for(&mut self, awaited: Option<Awaited>) {
        self.awaited = awaited;
    }

    /// A segment with data leaves.
    #[inline]
    pub(crate) fn on_sending(&mut self, env: &mut Env<'_>) {
        if self.activity != Activity::Sending {
            self.turn_to(Activity::Sending, env);
        }
    }

    /// Books the time since the last change of activity.
    fn turn_to(&mut self, next: Activity, env: &mut Env<'_>) {
        let now = ticks(env.now);
        let spent = now.wrapping_sub(self.since);
        self.since = now;
        match core::mem::replace(&mut self.activity, next) {
            Activity::Rest => {
                if self.ring.is_none() {
                    self.ring = env.flights.rings.take(env.now);
                }
            }
            Activity::Sending => {
                self.sending = self.sending.saturating_add(spent);
                env.counters.sending_ticks += u64::from(spent);
            }
            Activity::Paused(cause) => {
                let paused = &mut self.paused[cause.index()];
                *paused = paused.saturating_add(spent);
                env.counters.paused_ticks[cause.index()] += u64::from(spent);
            }
        }
    }

    fn pause(&mut self, cause: Cause, at: (u64, u64), env: &mut Env<'_>) {
        if self.activity == Activity::Paused(cause) {
            return;
        }
        self.turn_to(Activity::Paused(cause), env);
        let pauses = &mut self.pauses[cause.index()];
        *pauses = pauses.saturating_add(1);
        env.counters.pauses[cause.index()] += 1;
        self.note(EventKind::Paused, cause as u8, at, env);
    }

    /// Nothing waits any more, or the connection is over: what it did last is booked. Its trail stays until it was told
    /// of.
    pub(crate) fn on_quiet(&mut self, env: &mut Env<'_>) {
        if self.activity != Activity::Rest {
            self.turn_to(Activity::Rest, env);
        }
    }

    /// Writes into the ring, if there is one.
    fn note(&mut self, kind: EventKind, detail: u8, at: (u64, u64), env: &mut Env<'_>) {
        if let Some(ring) = &self.ring {
            let ring = env.flights.rings.get_mut(ring);
            ring.push(env.now, kind, detail, at);
        }
    }

    /// Nothing is in flight and nothing waits: the ring goes back.
    pub(crate) fn let_go(&mut self, flights: &mut FlightPool) {
        if self.activity == Activity::Rest {
            self.release(flights);
        }
    }

    /// The connection is over and was told of.
    pub(crate) fn release(&mut self, flights: &mut FlightPool) {
        if let Some(ring) = self.ring.take() {
            flights.rings.give_back(ring);
        }
    }

    /// Time paused for `cause`, and how often: as far as the last change of activity.
    fn paused(&self, cause: Cause) -> Pauses {
        Pauses {
            times: u32::from(self.pauses[cause.index()]),
            total: duration(self.paused[cause.index()].into()),
        }
    }
}

/// What is kept of it while the connection rests: see [`crate::rest`]. How often it paused is not.
#[derive(Debug)]
pub(crate) struct RestingRecord {
    sending: u32,
    paused: [u32; Cause::ALL.len()],
    sent_again: [u16; Repeat::ALL.len()],
    recoveries: u16,
    undone: u8,
    time_outs: u8,
}

impl Record {
    /// The packed form; `None` while something waits, or the trail is kept.
    pub(crate) fn rest(&self) -> Option<RestingRecord> {
        let is_quiet =
            self.activity == Activity::Rest && self.awaited.is_none() && self.ring.is_none();
        is_quiet.then_some(RestingRecord {
            sending: self.sending,
            paused: self.paused,
            sent_again: self.sent_again,
            recoveries: self.recoveries,
            undone: self.undone,
            time_outs: self.time_outs,
        })
    }
}

impl RestingRecord {
    pub(crate) fn wake(&self) -> Record {
        Record {
            sending: self.sending,
            paused: self.paused,
            sent_again: self.sent_again,
            recoveries: self.recoveries,
            undone: self.undone,
            time_outs: self.time_outs,
            ..Record::new()
        }
    }
}

impl Connection {
    /// Something happened that a trail should show.
    pub(crate) fn note(&mut self, kind: EventKind, detail: u8, len: u64, env: &mut Env<'_>) {
        let at = (self.send.snd_una, len);
        match kind {
            EventKind::Recovery => {
                self.record.recoveries = self.record.recoveries.saturating_add(1);
            }
            EventKind::TimeOut => {
                self.record.time_outs = self.record.time_outs.saturating_add(1);
            }
            EventKind::Undone => self.record.undone = self.record.undone.saturating_add(1),
            _ => {}
        }
        self.record.note(kind, detail, at, env);
    }

    /// `range` is sent again.
    pub(crate) fn note_repeat(
        &mut self,
        repeat: Repeat,
        range: &core::ops::Range<u64>,
        env: &mut Env<'_>,
    ) {
        let count = &mut self.record.sent_again[repeat.index()];
        *count = count.saturating_add(1);
        let at = (range.start, range.end - range.start);
        self.record.on_sending(env);
        self.record
            .note(EventKind::SentAgain, repeat as u8, at, env);
    }

    /// The pacer holds back what is next.
    pub(crate) fn note_paced(&mut self, env: &mut Env<'_>) {
        let at = (self.send.snd_una, self.send.in_flight());
        self.record.pause(Cause::Pacing, at, env);
    }

    /// Nothing can leave: why?
    pub(crate) fn note_quiet(&mut self, env: &mut Env<'_>) {
        match self.obstacle(env) {
            Some(cause) => {
                let at = (self.send.snd_una, self.send.in_flight());
                self.record.pause(cause, at, env);
            }
            None => self.record.on_quiet(env),
        }
    }

    /// What stands between the next segment and the lane, or `None` if none waits. Of several limits the narrowest
    /// counts.
    fn obstacle(&self, env: &Env<'_>) -> Option<Cause> {
        let send = &self.send;
        let awaited = self.record.awaited;
        if self.loss.awaits_verdict() || self.loss.has_lost() {
            return Some(Cause::CongestionWindow);
        }
        if send.unsent() == 0 && !send.has_more() && awaited.is_none() {
            return None;
        }
        let wanted = match send.unsent() {
            0 => u64::from(send.smss()),
            unsent => unsent.min(send.smss().into()),
        };
        // Half of the largest window is room enough (RFC 9293 section 3.8.6.2.1, MUST-38).
        let useful = wanted.min(u64::from(send.max_window() / 2).max(1));
        let by_memory = u64::from(env.config.send_limit).saturating_sub(send.in_flight());
        let narrowest = [
            (send.window_room(), useful, Cause::ReceiveWindow),
            (self.send_room(), wanted, Cause::CongestionWindow),
            (by_memory, wanted, Cause::Memory),
        ]
        .into_iter()
        .filter(|(room, wanted, _)| room < wanted)
        .min_by_key(|(room, ..)| *room);
        let by_driver = || awaited.map_or(Cause::Application, Awaited::cause);
        Some(narrowest.map_or_else(by_driver, |(.., cause)| cause))
    }

    /// The record as it stands at `now`.
    pub(crate) fn told_record(&self, now: Instant, flights: &FlightPool) -> ConnectionRecord {
        let record = &self.record;
        let mut pauses = Cause::ALL.iter().map(|cause| record.paused(*cause));
        let mut told = ConnectionRecord {
            key: self.key,
            state: self.state,
            reason: self.finish,
            sending: duration(record.sending.into()),
            pauses: core::array::from_fn(|_| pauses.next().unwrap_or_default()),
            sent_again: record.sent_again.map(u32::from),
            recoveries: record.recoveries.into(),
            undone: record.undone.into(),
            time_outs: record.time_outs.into(),
            acknowledged: self.send.acknowledged(),
            sent: self.send.sent(),
            received: self.receive.delivered(),
            in_flight: self.send.in_flight(),
            smoothed_rtt: self.rtt.srtt(),
            min_rtt: self.rtt.min_rtt(),
            cwnd: self.congestion.cwnd(),
            peer_window: self.send.window(),
            reordering_seen: self.loss.has_seen_reordering(),
            trail: match &record.ring {
                Some(ring) => *flights.rings.get(ring),
                None => EventRing::EMPTY,
            },
        };
        // What has not ended yet counts until now.
        let running = duration(ticks(now).wrapping_sub(record.since).into());
        match record.activity {
            Activity::Rest => {}
            Activity::Sending => told.sending += running,
            Activity::Paused(cause) => told.pauses[cause.index()].total += running,
        }
        told
    }
}

impl StackCounters {
    /// Time that connections paused for `cause`, as far as their pauses are over.
    #[must_use]
    pub fn paused(&self, cause: Cause) -> Duration {
        duration(self.paused_ticks[cause.index()])
    }

    /// Time that connections had something to send that the lane did not take yet.
    #[must_use]
    pub fn sending(&self) -> Duration {
        duration(self.sending_ticks)
    }
}

/// Pauses of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    /// How often since the connection was last packed as idle; 65,535 stands for more.
    pub times: u32,
    /// All together, in units of 65.5 us.
    pub total: Duration,
}

/// What is known of a connection, in particular of one that has just ended: [`crate::Stack::last_record`].
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRecord {
    /// Addresses and ports.
    pub key: FlowKey,
    /// Its state, or the one in which it ended.
    pub state: State,
    /// Why it ended, if it has.
    pub reason: Option<CloseReason>,
    /// Time in which something waited for its turn in the lane.
    pub sending: Duration,
    /// Pauses by [`Cause::index`].
    pub pauses: [Pauses; Cause::ALL.len()],
    /// Segments sent again, by [`Repeat::index`]; 65,535 stands for more.
    pub sent_again: [u32; Repeat::ALL.len()],
    /// Fast recoveries.
    pub recoveries: u32,
    /// Reductions taken back; 255 stands for more.
    pub undone: u32,
    /// Times the retransmission timer fired; 255 stands for more.
    pub time_outs: u32,
    /// Bytes that the peer acknowledged.
    pub acknowledged: u64,
    /// Bytes sent, each counted once.
    pub sent: u64,
    /// Bytes of the peer delivered in order.
    pub received: u64,
    /// Bytes sent and not acknowledged.
    pub in_flight: u64,
    /// SRTT (RFC 6298).
    pub smoothed_rtt: Option<Duration>,
    /// The shortest round trip.
    pub min_rtt: Option<Duration>,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// SND.WND in bytes.
    pub peer_window: u32,
    /// The path was seen to reorder (RFC 8985, RACK.reordering_seen).
    pub reordering_seen: bool,
    trail: EventRing,
}

impl ConnectionRecord {
    /// The last events, oldest first; none of a connection that was at rest.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.trail.iter()
    }

    /// Time in which something waited to be sent: sending and all pauses.
    #[must_use]
    pub fn busy(&self) -> Duration {
        let paused: Duration = self.pauses.iter().map(|pauses| pauses.total).sum();
        self.sending + paused
    }

    /// The name of an event's detail, if it has one.
    #[must_use]
    pub fn detail(event: &Event) -> Option<&'static str> {
        let index = usize::from(event.detail);
        match event.kind {
            EventKind::Paused => Cause::ALL.get(index).map(|cause| cause.name()),
            EventKind::SentAgain => Repeat::ALL.get(index).map(|repeat| repeat.name()),
            EventKind::Dropped => crate::SegmentDrop::ALL.get(index).map(|drop| drop.name()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
