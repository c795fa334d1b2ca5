//! Buffers that follow the path: how far the receive window opens, and how many bytes may be in flight.
//!
//! *Receiving* is Dynamic Right-Sizing (Fisk and Feng, LACSI 2001), as Linux does it in `tcp_rcv_space_adjust`: what
//! the driver read in a round trip is what the peer's congestion window let out, so twice that is a window which
//! never holds the peer back, and while the peer is still in slow start four times that. A driver that does not read
//! gets no larger window. *Sending* has the congestion window for a measure: what is in flight beyond it are bytes
//! that the peer holds above a hole, and their blocks stay pinned.
//!
//! Both begin small, and what goes beyond that is held from a `Budget` of the worker. A window that was promised is
//! never taken back (RFC 9293 section 3.8.6): of a connection that has to give back, the right edge stands still while
//! the peer uses up what it has, and its holding shrinks with it. So the sum of what all receivers promise never
//! exceeds the budget and the least of each. What is in flight goes back with its acknowledgement.

use core::time::Duration;

use crate::budget::{Budget, BudgetView, Holding};
use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::{Connection, Env};
use crate::flight_pool::FlightPool;
use crate::segment::Segment;

/// The first bytes in flight need no budget: an initial window of jumbo frames, or one file block.
const SEND_FREE: u32 = 64 << 10;
/// What is in flight is held in steps of this, so that few segments touch the budget.
const SEND_STEP: u32 = 64 << 10;
/// Twice the congestion window before a reduction, which may have halved it: what was sent before the loss stays in
/// flight until the hole is filled, and as much again leaves meanwhile.
const FLIGHT_PER_CWND: u32 = 4;

/// Segments below this say nothing about the round trip: the peer may have waited for more (RFC 9293 section 3.7.1).
const FULL_SEGMENT: u32 = 536;
/// Timestamps tick in milliseconds: of echoes this short the shortest round trip of our own segments knows more.
const ECHO_COARSE: Duration = Duration::from_millis(2);
/// Until anything is known (RFC 6298 section 2.1).
const ROUND_TRIP_FIRST: Duration = Duration::from_secs(1);
/// A peer that was silent for this long, and for this many round trips, begins anew.
const IDLE: Duration = Duration::from_secs(1);
const IDLE_ROUNDS: u32 = 8;

/// How buffers follow the path: [`StackConfig::autotune`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autotune {
    /// Most that a receive window may grow to, in bytes; from it follows the window scale. A connection begins with
    /// [`StackConfig::receive_buffer`], which is also what it always may have.
    pub receive_max: u32,
    /// Bytes by which all receive windows together may exceed that.
    pub receive_budget: u64,
    /// Bytes that may be in flight on all connections together, beyond the first 64 KiB of each.
    /// [`StackConfig::send_limit`] bounds a single one.
    pub send_budget: u64,
}

impl StackConfig {
    /// The largest receive window of a connection.
    pub(crate) fn receive_max(&self) -> u32 {
        self.autotune.map_or(self.receive_buffer, |autotune| {
            autotune.receive_max.max(self.receive_buffer)
        })
    }

    /// Bytes that may be in flight without any budget.
    fn send_free(&self) -> u32 {
        match self.autotune {
            Some(_) => self.send_limit.min(SEND_FREE),
            None => self.send_limit,
        }
    }
}

/// What the connections of a worker share.
#[derive(Debug)]
pub(crate) struct Budgets {
    receive: Budget,
    send: Budget,
}

impl Budgets {
    pub(crate) fn new(config: &StackConfig) -> Self {
        Budgets {
            receive: Budget::new(
                config
                    .autotune
                    .map_or(0, |autotune| autotune.receive_budget),
            ),
            send: Budget::new(config.autotune.map_or(0, |autotune| autotune.send_budget)),
        }
    }

    /// Nothing beyond what every connection may have.
    pub(crate) fn none() -> Self {
        Budgets {
            receive: Budget::new(0),
            send: Budget::new(0),
        }
    }

    pub(crate) fn view(&self) -> BuffersView {
        BuffersView {
            receive: self.receive.view(),
            send: self.send.view(),
        }
    }
}

/// Both budgets of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuffersView {
    /// Receive windows beyond [`StackConfig::receive_buffer`] each.
    pub receive: BudgetView,
    /// Bytes in flight beyond 64 KiB each.
    pub send: BudgetView,
}

/// What a connection holds and has measured.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    reading: Reading,
    /// What the last rounds asked for, where the driver decides.
    wanted: Wanted,
    receive: Holding,
    send: Holding,
}

impl Buffers {
    /// The packed form: bytes held of the receive budget, which stay promised to the peer. `None` while more is to be
    /// known: of a window that grew until its peer was idle for so long that it would begin anew anyway, and the
    /// driver has read everything. What was measured is measured anew.
    pub(crate) fn rest(&self, has_unread: bool, now: Instant) -> Option<u32> {
        let held = self.receive.bytes();
        let begins_anew = held == 0 || (!has_unread && self.reading.is_idle(micros_of(now)));
        (begins_anew && self.send.bytes() == 0).then_some(held)
    }

    /// What [`Self::rest`] has left.
    pub(crate) fn wake(held: u32) -> Self {
        Buffers {
            receive: Holding::after_rest(held),
            ..Buffers::default()
        }
    }
}

/// What the driver reads in a round trip. Times are microseconds and positions bytes, both modulo 2^32: what wraps
/// within a round can only make a round seem short.
#[derive(Debug, Default)]
struct Reading {
    /// Round trip as the peer sees it; 0 before the first data.
    round_trip: u32,
    /// The round that runs: its begin, and what was read until then.
    begun_at: u32,
    begun_from: u32,
    /// Bytes read in the round before; 0 if there was none.
    last_round: u32,
    /// Shortest echo in the round that runs; 0 if there was none.
    echo: u32,
    /// For a peer without timestamps: a right edge, and when it was promised. It sends beyond it no earlier than a
    /// round trip later.
    edge: u32,
    edge_at: u32,
}

/// Bytes of room that the last two rounds asked for: one in which the driver was late takes nothing away, and what was
/// needed once, in another upload maybe, does not bind memory for good.
#[derive(Debug, Default)]
struct Wanted {
    newest: u32,
    before: u32,
}

impl Wanted {
    fn on_round(&mut self, bytes: u32) {
        (self.before, self.newest) = (self.newest, bytes);
    }

    fn bytes(&self) -> u32 {
        self.newest.max(self.before)
    }
}

/// The receiver at an arrival, in the units of [`Reading`].
#[derive(Clone, Copy)]
struct Position {
    now: u32,
    read: u32,
    rcv_nxt: u32,
    right_edge: u32,
}

/// What an arrival means for the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// The round is not over.
    Unknown,
    /// So many bytes for the next round.
    Bytes(u32),
    /// The peer was idle: as at the beginning.
    Least,
}

impl Reading {
    fn begin(&mut self, at: &Position) {
        (self.begun_at, self.begun_from) = (at.now, at.read);
        self.echo = 0;
    }

    /// Data arrived. `echo` is a round trip by the timestamp of a full segment.
    fn on_arrival(&mut self, at: &Position, echo: Option<u32>) -> Demand {
        if let Some(echo) = echo {
            let shortest = if self.echo == 0 { echo } else { self.echo };
            self.echo = shortest.min(echo);
        } else {
            self.measure_window(at);
        }
        if at.now.wrapping_sub(self.begun_at) < self.round_trip {
            return Demand::Unknown;
        }
        let was_idle = self.is_idle(at.now);
        let read = at.read.wrapping_sub(self.begun_from);
        let last = core::mem::replace(&mut self.last_round, read);
        // The first echoes after a pause name what was acknowledged before it.
        if self.echo != 0 && last != 0 {
            self.round_trip = self.echo.min(self.round_trip.saturating_mul(2));
        }
        self.begin(at);
        if was_idle {
            self.last_round = 0;
            return Demand::Least;
        }
        // A peer in slow start sends in the next round twice of what it sent in this, and then twice again.
        let growth = read.saturating_sub(last).min(read / 2);
        let demand = read.saturating_mul(2);
        Demand::Bytes(demand.saturating_add(growth.saturating_mul(4)))
    }

    /// Whether what arrives now begins anew.
    fn is_idle(&self, now: u32) -> bool {
        let pause = self.round_trip.saturating_mul(IDLE_ROUNDS);
        now.wrapping_sub(self.begun_at) >= micros(IDLE).max(pause)
    }

    /// The time in which a whole window arrives is an upper bound of the round trip.
    fn measure_window(&mut self, at: &Position) {
        if at.rcv_nxt.wrapping_sub(self.edge).cast_signed() >= 0 {
            let took = at.now.wrapping_sub(self.edge_at).max(1);
            self.round_trip = self.round_trip.min(took);
            (self.edge, self.edge_at) = (at.right_edge, at.now);
        }
    }
}

impl Connection {
    /// Data arrived and RCV.NXT is up to date: the window follows what the driver read.
    pub(crate) fn tune_receive(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        if env.config.autotune.is_none() || segment.payload_len == 0 {
            return;
        }
        let at = Position {
            now: micros_of(env.now),
            read: low(self.receive.window.consumed()),
            rcv_nxt: low(self.receive.delivered()),
            right_edge: low(self.receive.window.right_edge()),
        };
        let echo = self.echoed_to_reader(segment, env.now);
        if self.buffers.reading.round_trip == 0 {
            let own = self.rtt.min_rtt().map(micros);
            let reading = &mut self.buffers.reading;
            reading.round_trip = own.or(echo).unwrap_or(micros(ROUND_TRIP_FIRST)).max(1);
            (reading.edge, reading.edge_at) = (at.right_edge, at.now);
            reading.begin(&at);
            return;
        }
        let demand = self.buffers.reading.on_arrival(&at, echo);
        if !self.receive.window.is_driven() {
            self.buffers.wanted = Wanted::default();
        }
        match demand {
            Demand::Unknown => {}
            Demand::Least => {
                self.buffers.wanted = Wanted::default();
                if !self.receive.window.is_driven() {
                    self.resize_window(0, env.config, env.flights);
                }
            }
            Demand::Bytes(bytes) if self.receive.window.is_driven() => {
                self.buffers.wanted.on_round(bytes);
            }
            Demand::Bytes(bytes) => {
                let wanted = bytes.max(self.receive.window.capacity());
                self.resize_window(wanted, env.config, env.flights);
            }
        }
    }

    /// What the peer could use of the driver's room, in bytes; 0 if nothing is known.
    pub(crate) fn receive_wanted(&self) -> u32 {
        self.buffers.wanted.bytes()
    }

    /// The round trip that a full segment echoes, in microseconds; `None` without timestamps.
    fn echoed_to_reader(&self, segment: &Segment<'_>, now: Instant) -> Option<u32> {
        let full = segment.payload_len >= FULL_SEGMENT.min(u32::from(self.our_mss));
        let echo = self
            .echoed_round_trip(segment.header, now)
            .filter(|_| full)?;
        let exact = match self.rtt.min_rtt() {
            Some(own) if echo <= ECHO_COARSE => own.min(ECHO_COARSE),
            _ => echo.max(Duration::from_millis(1)),
        };
        Some(micros(exact).max(1))
    }

    fn resize_window(&mut self, wanted: u32, config: &StackConfig, pool: &mut FlightPool) {
        let (budget, holding) = (&mut pool.budgets.receive, &mut self.buffers.receive);
        let least = config.receive_buffer;
        let most = config.receive_max().min(self.receive.window.largest());
        let room = wanted.min(most).saturating_sub(least);
        let room = room.min(budget.allowance(holding));
        let promised = beyond(self.receive.promised(), least);
        budget.resize(holding, room.max(promised));
        self.receive.window.set_capacity(least.saturating_add(room));
    }

    /// Bytes that may leave now as far as buffers go, whatever the windows say.
    pub(crate) fn flight_room(&mut self, env: &mut Env<'_>) -> u64 {
        let in_flight = self.send.in_flight();
        let free = env.config.send_free();
        let holding = &mut self.buffers.send;
        let most = flight_limit(self.congestion.cwnd(), env.config);
        let wanted = in_flight + u64::from(self.send.smss());
        if wanted > u64::from(free) + u64::from(holding.bytes()) {
            let step = beyond(wanted + u64::from(SEND_STEP), free).min(most - free);
            let step = step.max(holding.bytes());
            env.flights.budgets.send.resize(holding, step);
        }
        // Nearly every flight has room in what is free, and the allowance of none costs a division.
        let usable = match holding.bytes() {
            0 => 0,
            held => held.min(env.flights.budgets.send.allowance(holding)),
        };
        u64::from(free + usable)
            .min(most.into())
            .saturating_sub(in_flight)
    }

    /// The same as far as what is held already reaches.
    pub(crate) fn flight_room_held(&self, env: &Env<'_>) -> u64 {
        let holding = &self.buffers.send;
        let usable = match holding.bytes() {
            0 => 0,
            held => held.min(env.flights.budgets.send.allowance(holding)),
        };
        let most = flight_limit(self.congestion.cwnd(), env.config);
        u64::from((env.config.send_free() + usable).min(most)).saturating_sub(self.send.in_flight())
    }

    /// End of what the driver may have to produce, as far as buffers go.
    pub(crate) fn flight_end(&self, config: &StackConfig, pool: &FlightPool) -> u64 {
        let holding = &self.buffers.send;
        let allowance = pool.budgets.send.allowance(holding);
        let reach = config.send_free().saturating_add(allowance);
        let most = flight_limit(self.congestion.cwnd(), config);
        self.send.snd_una + u64::from(reach.min(most))
    }

    /// A window that would begin anew with the next data does so before a rest: memory that no promise needs is not
    /// kept for as long as the rest lasts.
    pub(crate) fn begin_anew_at_rest(&mut self, env: &mut Env<'_>) {
        let has_unread = self.receive.has_unread();
        let is_grown = self.buffers.receive.bytes() > 0 && !self.receive.window.is_driven();
        if is_grown && self.buffers.rest(has_unread, env.now).is_some() {
            self.receive.window.set_capacity(env.config.receive_buffer);
            self.settle_buffers(env.config, env.flights);
        }
    }

    /// Gives back what is neither promised nor in flight any more.
    pub(crate) fn settle_buffers(&mut self, config: &StackConfig, pool: &mut FlightPool) {
        let (receive, send) = (&mut self.buffers.receive, &mut self.buffers.send);
        if receive.bytes() > 0 {
            let least = config.receive_buffer;
            let promised = beyond(self.receive.promised(), least);
            let open = if self.receive.is_finished() {
                0
            } else {
                self.receive.window.capacity().saturating_sub(least)
            };
            let needed = promised.max(open).min(receive.bytes());
            pool.budgets.receive.resize(receive, needed);
        }
        if send.bytes() > 0 {
            let in_flight = self.send.in_flight();
            let needed = if in_flight == 0 {
                0
            } else {
                beyond(in_flight + u64::from(SEND_STEP), config.send_free())
            };
            // Two steps, or every acknowledgement would give back what the next segment takes.
            if needed == 0 || needed.saturating_add(SEND_STEP) < send.bytes() {
                pool.budgets.send.resize(send, needed);
            }
        }
    }

    /// The connection is over: everything goes back.
    pub(crate) fn release_buffers(&mut self, pool: &mut FlightPool) {
        pool.budgets.receive.resize(&mut self.buffers.receive, 0);
        pool.budgets.send.resize(&mut self.buffers.send, 0);
    }
}

/// Bytes that may be in flight with a congestion window of `cwnd`, if there is budget for them.
fn flight_limit(cwnd: u32, config: &StackConfig) -> u32 {
    cwnd.saturating_mul(FLIGHT_PER_CWND)
        .max(config.send_free())
        .min(config.send_limit)
}

/// The part of `bytes` that goes beyond `least`.
fn beyond(bytes: u64, least: u32) -> u32 {
    u32::try_from(bytes.saturating_sub(least.into())).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// A moment in the units of [`Reading`].
fn micros_of(now: Instant) -> u32 {
    low(now.as_micros())
}

/// The low 32 bits: times and positions of [`Reading`] are compared modulo 2^32.
fn low(value: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation)]
    let low = value as u32;
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 ms in the units of [`Reading`].
    const ROUND: u32 = 100_000;

    fn reading() -> Reading {
        Reading {
            round_trip: ROUND,
            ..Reading::default()
        }
    }

    fn at(now: u32, read: u32) -> Position {
        Position {
            now,
            read,
            rcv_nxt: read,
            right_edge: read.wrapping_add(65_536),
        }
    }

    #[test]
    fn a_steady_flow_demands_twice_what_is_read_in_a_round_trip() {
        let mut reading = reading();
        let demands: Vec<Demand> = (1..=3)
            .map(|round| reading.on_arrival(&at(round * ROUND, round * 5_000), Some(ROUND)))
            .collect();
        let [_, steady @ ..] = &demands[..] else {
            panic!("three rounds");
        };
        assert_eq!(steady, [Demand::Bytes(10_000); 2]);
    }

    #[test]
    fn a_flow_that_doubles_demands_four_times_as_much() {
        let mut reading = reading();
        let _ = reading.on_arrival(&at(ROUND, 5_000), Some(ROUND));
        let demand = reading.on_arrival(&at(2 * ROUND, 15_000), Some(ROUND));
        assert_eq!(demand, Demand::Bytes(40_000));
    }

    #[test]
    fn a_driver_is_asked_for_the_more_of_the_last_two_rounds() {
        let mut wanted = Wanted::default();
        let asked: Vec<u32> = [10_000, 40_000, 0, 30_000, 2_000, 1_000, 0, 0]
            .into_iter()
            .map(|bytes| {
                wanted.on_round(bytes);
                wanted.bytes()
            })
            .collect();
        let expected = [10_000, 40_000, 40_000, 30_000, 30_000, 2_000, 1_000, 0];
        assert_eq!(asked, expected);
    }

    #[test]
    fn times_and_positions_wrap() {
        let mut reading = reading();
        let begin = at(u32::MAX - ROUND / 2, u32::MAX - 1_000);
        reading.begin(&begin);
        reading.last_round = 5_000;
        let later = at(ROUND / 2, 3_999);
        assert_eq!(
            reading.on_arrival(&later, Some(ROUND)),
            Demand::Bytes(10_000)
        );
    }

    #[test]
    fn the_shortest_echo_of_a_round_is_its_round_trip() {
        let mut reading = reading();
        reading.last_round = 1;
        for (now, echo) in [(1, 180_000), (2, 150_000), (ROUND, 160_000)] {
            let _ = reading.on_arrival(&at(now, 0), Some(echo));
        }
        assert_eq!(reading.round_trip, 150_000);
    }

    #[test]
    fn without_echoes_a_round_trip_is_at_most_the_time_of_a_window() {
        let mut reading = reading();
        reading.edge = 65_536;
        let mut position = at(60_000, 0);
        position.rcv_nxt = 65_535;
        let _ = reading.on_arrival(&position, None);
        assert_eq!(reading.round_trip, ROUND);
        position.rcv_nxt = 65_536;
        let _ = reading.on_arrival(&position, None);
        assert_eq!(reading.round_trip, 60_000);
    }

    #[test]
    fn a_pause_of_a_second_and_eight_round_trips_begins_anew() {
        for (round_trip, pause, demand) in [
            (ROUND, 999_999, Demand::Bytes(0)),
            (ROUND, 1_000_000, Demand::Least),
            (4 * ROUND, 3_199_999, Demand::Bytes(0)),
            (4 * ROUND, 3_200_000, Demand::Least),
        ] {
            let mut reading = Reading {
                round_trip,
                ..Reading::default()
            };
            assert_eq!(reading.on_arrival(&at(pause, 0), None), demand, "{pause}");
        }
    }
}
