//! A connection at rest, packed: what an idle connection costs is [`Resting`], whatever an awake one has.
//!
//! A [`Connection`] lives in a box of the worker's pool while something moves. Once it has been ESTABLISHED and
//! quiet for longer than its retransmission time-out it is packed, and its box is free for another; whatever
//! happens next unpacks it. The moment is chosen so that nothing is lost: what is sent after such a pause begins
//! anew anyway (RFC 5681 section 4.1), so what the restart forgets need not be kept, and everything else is kept
//! to the bit. One that has never sent data is as new and does not wait.
//!
//! To add state to a connection: put it into [`Connection`] or one of its parts, where it costs an idle connection
//! nothing. The compiler then asks here (and in the `rest` modules of the parts) what it is after a rest: a
//! constant, something that the rest already has, or a field of [`Resting`], which is paid a million times. If there
//! is a state in which it must not be forgotten, say `None` in [`Connection::rest`].

use core::time::Duration;

use crate::autotune::Buffers;
use crate::challenge::ChallengeBudget;
use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::Connection;
use crate::control::RestingControl;
use crate::deadlines::{Deadlines, Timer};
use crate::events::Events;
use crate::flow_table::FlowKey;
use crate::loss::RestingLoss;
use crate::path_mtu::RestingPathMtu;
use crate::receive::{Receiver, RestingWindow};
use crate::record::RestingRecord;
use crate::rtt::RestingRtt;
use crate::segment_size::packet_len;
use crate::send::RestingSender;
use crate::state::State;
use crate::timestamps::TimestampState;
use crate::waiting::{Silence, Waited};

mod short_nanos;

pub(crate) use short_nanos::ShortNanos;

/// The least pause before a connection is packed. Requests that follow one another closely find it awake.
const PATIENCE_MIN: Duration = Duration::from_millis(200);

/// An ESTABLISHED connection on which nothing is under way.
#[derive(Debug)]
pub(crate) struct Resting {
    receive: RestingWindow,
    send: RestingSender,
    path_mtu: RestingPathMtu,
    loss: RestingLoss,
    rtt: RestingRtt,
    control: RestingControl,
    has_timestamps: bool,
    /// Means something if there are any.
    timestamps: TimestampState,
    /// The only deadlines that a quiet connection has.
    driver: Instant,
    keep_alive: Instant,
    keep_alive_probes: u8,
    receive_closed: bool,
    user_timeout_ms: u32,
    /// Bytes of the receive budget.
    receive_held: u32,
    record: RestingRecord,
}

impl Connection {
    /// How long it has to be quiet before it is packed.
    fn patience(&self) -> Duration {
        self.rtt.rto().max(PATIENCE_MIN)
    }

    /// There is nothing to send: if nothing is under way either, it is looked at again when it may be packed.
    pub(crate) fn expect_rest(&mut self, now: Instant) {
        if self.state == State::Established
            && self.finish.is_none()
            && self.send.is_quiet()
            && !self.deadlines.is_set(Timer::Rest)
        {
            let at = now + self.patience() + Duration::from_millis(1);
            self.deadlines.set(Timer::Rest, at);
        }
    }

    /// The packed form; `None` while something is under way.
    pub(crate) fn rest(&self, now: Instant) -> Option<Resting> {
        let is_busy = self.state != State::Established
            || self.finish.is_some()
            || !self.events.is_empty()
            || self.probe_wanted
            || self.waited.counts_at(self.send.snd_una)
            || self.keep_alive_wanted
            || self.time_outs > 0
            || !self.deadlines.is_quiet()
            || !(self.send.is_paused(now, self.patience())
                || self.control.is_new(self.send.last_sent_at))
            || self.last_ack_sent != self.receive.window.ack_number()
            || !self.challenge_reset.is_full(now)
            || !self.challenge_other.is_full(now);
        if is_busy {
            return None;
        }
        let has_unread = self.receive.has_unread();
        Some(Resting {
            receive_held: self.buffers.rest(has_unread, now)?,
            receive: self.receive.rest()?,
            send: self.send.rest(now, self.patience())?,
            path_mtu: self.path_mtu.rest(),
            loss: self.loss.rest(self.send.snd_una)?,
            rtt: self.rtt.rest()?,
            has_timestamps: self.timestamps.is_some(),
            timestamps: self.timestamps.unwrap_or_default(),
            driver: self.deadlines.at(Timer::Driver),
            keep_alive: self.deadlines.at(Timer::KeepAlive),
            keep_alive_probes: self.keep_alive_probes,
            receive_closed: self.receive_closed,
            user_timeout_ms: self.user_timeout_ms,
            record: self.record.rest()?,
            control: self
                .control
                .rest(&self.congestion, self.send.snd_una, now)?,
        })
    }
}

impl Resting {
    /// The connection as it was. Parts are made where they belong: it is large, and a copy of a copy costs as much as
    /// a segment.
    pub(crate) fn wake(&self, key: FlowKey, config: &StackConfig) -> Connection {
        let send = self.send.wake();
        let receive = Receiver::with(self.receive.wake(config.receive_buffer));
        let timestamps = self.has_timestamps.then_some(self.timestamps);
        let mut deadlines = Deadlines::new();
        deadlines.set(Timer::Driver, self.driver);
        deadlines.set(Timer::KeepAlive, self.keep_alive);
        let mut connection = Connection {
            key,
            state: State::Established,
            // Everything that arrived is acknowledged.
            last_ack_sent: receive.window.ack_number(),
            receive,
            path_mtu: self.path_mtu.wake(
                packet_len(&key, self.has_timestamps, send.smss()),
                key.local().is_ipv6(),
            ),
            loss: self.loss.wake(send.snd_una),
            rtt: self.rtt.wake(config.rto),
            congestion: self.control.wake_congestion(&send, config),
            control: self.control.wake(&send),
            buffers: Buffers::wake(self.receive_held),
            timestamps,
            deadlines,
            // The wheel is asked anew.
            scheduled_at: None,
            events: Events::default(),
            finish: None,
            reset_wanted: false,
            syn_wanted: false,
            // What the handshake counted was used at its end.
            syns_sent: 0,
            syn_repeats: 0,
            probe_wanted: false,
            keep_alive_wanted: false,
            keep_alive_probes: self.keep_alive_probes,
            time_outs: 0,
            // Set anew when data begins to wait.
            progress_at: send.last_sent_at,
            waited: Waited::default(),
            silence: Silence::None,
            window_taken_at: Instant::ZERO,
            window_back_at: Instant::ZERO,
            challenge_reset: ChallengeBudget::default(),
            challenge_other: ChallengeBudget::default(),
            // Who asks so seldom that it rests between is answered each time.
            keep_alive_answers: ChallengeBudget::default(),
            sack: self.loss.sack(),
            // Only a SYN says it.
            offered_scale: None,
            our_mss: self.receive.mss(),
            user_timeout_ms: self.user_timeout_ms,
            receive_closed: self.receive_closed,
            record: self.record.wake(),
            send,
        };
        if self.control.is_paced() {
            connection.resume_pacing(config);
        }
        connection
    }

    /// The driver's own deadline, which needs no one awake.
    pub(crate) fn set_deadline(&mut self, at: Option<Instant>) {
        self.driver = at.unwrap_or(Deadlines::NEVER);
    }

    /// When the wheel should wake it.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let earliest = self.driver.min(self.keep_alive);
        (earliest != Deadlines::NEVER).then_some(earliest)
    }
}

#[cfg(test)]
mod tests;
