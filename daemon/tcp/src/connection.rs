//! One connection: its parts, its construction, and what the driver asks of it.
//!
//! The parts never point back at the connection: `input` and `output` hand values to them and act on what
//! they return. A connection that is over keeps `finish` set until `output` has nothing left to send (a last
//! ACK or a RST); then the stack frees it.

use core::time::Duration;

use crate::autotune::Buffers;
use crate::challenge::ChallengeBudget;
use crate::clock::Instant;
use crate::config::{FIN_WAIT_2, MSS_FLOOR, StackConfig};
use crate::congestion::Controller;
use crate::control::Control;
use crate::deadlines::{Deadlines, Timer};
use crate::events::{CloseReason, Events};
use crate::flight_pool::FlightPool;
use crate::flow_table::FlowKey;
use crate::handshake::{Handshake, SynAck, Terms};
use crate::loss::Loss;
use crate::path_mtu::PathMtu;
use crate::receive::{AckWanted, Receiver};
use crate::record::Record;
use crate::rtt::RttEstimator;
use crate::segment::SendView;
use crate::send::Sender;
use crate::seq::SeqNumber;
use crate::state::State;
use crate::stats::StackCounters;
use crate::timestamps::TimestampState;
use crate::waiting::{Silence, Waited};

/// Larger shift counts are used as this (RFC 7323 section 2.3).
pub(crate) const WINDOW_SCALE_MAX: u8 = 14;

/// Units of the scaled window field in the smallest buffer.
const LEAST_WINDOW_UNITS: u32 = 4;

/// A successor in TIME-WAIT begins this far above its predecessor: beyond any unscaled window.
const ISS_GAP: u32 = 1 << 16;

/// What the parts of a connection need from outside for one step.
pub(crate) struct Env<'a> {
    pub now: Instant,
    pub config: &'a StackConfig,
    pub counters: &'a mut StackCounters,
    /// Memory for what is in flight.
    pub flights: &'a mut FlightPool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub key: FlowKey,
    pub state: State,
    pub receive: Receiver,
    pub send: Sender,
    pub path_mtu: PathMtu,
    pub loss: Loss,
    pub rtt: RttEstimator,
    pub congestion: Controller,
    pub control: Control,
    pub buffers: Buffers,
    pub timestamps: Option<TimestampState>,
    pub deadlines: Deadlines,
    /// Where the wheel holds this connection; never later than the earliest deadline.
    pub scheduled_at: Option<Instant>,
    pub events: Events,
    /// Over: nothing more than a last segment leaves.
    pub finish: Option<CloseReason>,
    pub reset_wanted: bool,
    /// A SYN is to be sent, or after a simultaneous open a SYN-ACK.
    pub syn_wanted: bool,
    /// SYNs or SYN-ACKs sent, with those for a repeated SYN; 0 after a cookie, of which nobody knows when it left.
    pub syns_sent: u8,
    /// Of those, how many the timer repeated.
    pub syn_repeats: u8,
    pub probe_wanted: bool,
    pub keep_alive_wanted: bool,
    pub keep_alive_probes: u8,
    /// Time-outs since the last progress.
    pub time_outs: u8,
    /// When SND.UNA last moved, or data began to wait; before that, when the first SYN or SYN-ACK left.
    pub progress_at: Instant,
    /// What it waited for the window before, at the same SND.UNA.
    pub waited: Waited,
    /// Whether it answers window probes.
    pub silence: Silence,
    /// When the peer took its window from what is in flight, if that is later than [`Self::progress_at`].
    pub window_taken_at: Instant,
    /// When the peer gave back a window that it had taken from what was in flight.
    pub window_back_at: Instant,
    pub challenge_reset: ChallengeBudget,
    pub challenge_other: ChallengeBudget,
    pub keep_alive_answers: ChallengeBudget,
    /// Last.ACK.sent (RFC 7323 section 4.3).
    pub last_ack_sent: SeqNumber,
    pub sack: bool,
    pub offered_scale: Option<u8>,
    pub our_mss: u16,
    /// The user timeout (RFC 9293 section 3.9.1.8) in milliseconds; 0 is none.
    pub user_timeout_ms: u32,
    /// The driver reads no more.
    pub receive_closed: bool,
    /// What it did with its time.
    pub record: Record,
}

/// Bytes of the IP and TCP headers without options, which is what an MSS leaves out of an MTU.
pub(crate) fn headers_len(key: &FlowKey) -> u16 {
    if key.local().is_ipv4() { 40 } else { 60 }
}

/// Our MSS on an interface (RFC 9293 section 3.7.1: not reduced by options).
pub(crate) fn interface_mss(mtu: u16, key: &FlowKey) -> u16 {
    mtu.saturating_sub(headers_len(key)).max(MSS_FLOOR)
}

/// The shift with which a buffer of at most `largest` bytes fits the 16-bit window field. A window of `least` bytes
/// is still told to the quarter, or rounding could close it.
pub(crate) fn window_scale_for(largest: u32, least: u32) -> u8 {
    let mut scale = 0;
    while scale < WINDOW_SCALE_MAX
        && (largest >> scale) > u32::from(u16::MAX)
        && (least >> scale) >= 2 * LEAST_WINDOW_UNITS
    {
        scale += 1;
    }
    scale
}

impl Connection {
    /// A connection in SYN-RECEIVED whose final ACK is at hand: the caller gives it that segment next.
    pub(crate) fn from_handshake(handshake: &Handshake, env: &Env<'_>) -> Self {
        let (key, iss, irs) = (handshake.key, handshake.iss, handshake.irs);
        let mut terms = Terms::new(&key, &handshake.offer, env.config, env.now);
        if let SynAck::Several { repeats } = handshake.syn_ack {
            terms.ecn = terms.ecn.after_repeats(repeats);
        }
        let mut connection = Connection::new(key, State::SynReceived, iss, irs, &terms, env);
        connection.syn_wanted = false;
        match handshake.syn_ack {
            SynAck::Once(at) => {
                connection.progress_at = at;
                connection.syns_sent = 1;
            }
            SynAck::Several { repeats } => {
                connection.syns_sent = 2;
                connection.syn_repeats = repeats;
                if repeats > 0 {
                    // It went without the option then, in case that does not pass (RFC 9768 section 3.2.3.2.2).
                    connection.control.ecn.stop_options();
                }
            }
            SynAck::Cookie => {}
        }
        connection
    }

    /// A connection whose SYN is to be sent, with or without the acknowledgement of the peer's.
    pub(crate) fn new(
        key: FlowKey,
        state: State,
        iss: SeqNumber,
        irs: SeqNumber,
        terms: &Terms,
        env: &Env<'_>,
    ) -> Self {
        let (now, config) = (env.now, env.config);
        Connection {
            key,
            state,
            receive: terms.receiver(irs, config),
            send: Sender::new(iss, terms.smss, terms.peer_scale, now),
            path_mtu: PathMtu::new(terms.path_mtu, key.local().is_ipv6()),
            loss: Loss::new(terms.sack),
            rtt: RttEstimator::new(config.rto),
            congestion: controller(config, &key, terms.smss, iss),
            control: Control::new(&key, terms, env),
            buffers: Buffers::default(),
            timestamps: terms.timestamps,
            deadlines: Deadlines::new(),
            scheduled_at: None,
            events: Events::default(),
            finish: None,
            reset_wanted: false,
            syn_wanted: true,
            syns_sent: 0,
            syn_repeats: 0,
            probe_wanted: false,
            keep_alive_wanted: false,
            keep_alive_probes: 0,
            time_outs: 0,
            progress_at: now,
            waited: Waited::default(),
            silence: Silence::None,
            window_taken_at: Instant::ZERO,
            window_back_at: now,
            challenge_reset: ChallengeBudget::default(),
            challenge_other: ChallengeBudget::default(),
            keep_alive_answers: ChallengeBudget::default(),
            last_ack_sent: irs.add(1),
            sack: terms.sack,
            offered_scale: terms.offered_scale,
            our_mss: terms.our_mss,
            user_timeout_ms: millis(config.user_timeout),
            receive_closed: false,
            record: Record::new(),
        }
    }

    pub(crate) fn pipe(&self) -> u64 {
        self.loss.pipe(self.send.smss())
    }

    /// Bytes that the congestion window, or PRR in a recovery, lets out now.
    pub(crate) fn send_room(&self) -> u64 {
        self.send_room_beside(self.pipe())
    }

    /// The same for who knows the pipe already.
    pub(crate) fn send_room_beside(&self, pipe: u64) -> u64 {
        let paced = self.control.is_paced();
        let window = self.loss.window(self.congestion.cwnd(), paced);
        window.saturating_sub(pipe)
    }

    /// FlightSize (RFC 5681 section 2) for a reduction. What limited transmit let out beyond cwnd does not count
    /// (RFC 6675 section 5, step 4.2).
    pub(crate) fn flight_size(&self) -> u32 {
        u32::try_from(self.send.in_flight())
            .unwrap_or(u32::MAX)
            .min(self.congestion.cwnd())
    }

    /// Over, and no last segment is owed.
    pub(crate) fn is_done(&self) -> bool {
        self.finish.is_some() && !self.reset_wanted && !self.owes_ack()
    }

    /// An ACK is to leave now, also from a connection that is over as both sides wanted. A RST has no answer, not even
    /// the ACK that was owed before it came (RFC 5961 section 3.2), and nothing follows one of ours, whatever the driver
    /// reads until it hears of the end (RFC 9293 section 3.10.5).
    pub(crate) fn owes_ack(&self) -> bool {
        self.receive.ack_wanted() == AckWanted::Now
            && matches!(self.finish, None | Some(CloseReason::Finished))
    }

    /// The connection is over. A RST is sent if `reset`.
    pub(crate) fn end(&mut self, reason: CloseReason, reset: bool) {
        if self.finish.is_none() {
            self.finish = Some(reason);
            self.reset_wanted = reset;
            self.deadlines = Deadlines::new();
        }
    }

    /// The driver gives the connection up: RST, except in SYN-SENT, where there is nothing to reset
    /// (RFC 9293 section 3.10.5).
    pub(crate) fn abort(&mut self) {
        self.end(CloseReason::Aborted, self.state != State::SynSent);
    }

    /// The driver's side is complete: FIN after what was supplied (RFC 9293 section 3.10.4). In SYN-RECEIVED it
    /// is queued until the handshake is complete; in SYN-SENT the connection is deleted.
    pub(crate) fn close(&mut self, now: Instant) {
        match self.state {
            State::SynSent => {
                self.end(CloseReason::Aborted, false);
                return;
            }
            State::SynReceived => {}
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            _ => return,
        }
        // Of an open the user timeout goes on from its first SYN.
        let is_open = self.state != State::SynReceived;
        if is_open && self.send.in_flight() == 0 && self.send.unsent() == 0 {
            self.progress_at = now;
        }
        self.send.finish();
        self.reset_if_unread();
    }

    /// The driver reads no more: what comes is thrown away while our direction is open, and answered by RST after
    /// that.
    pub(crate) fn close_receive(&mut self) {
        self.receive_closed = true;
        self.reset_if_unread();
        self.receive.on_consumed(self.receive.delivered());
    }

    /// The driver has closed both directions and there is data that it will not read: the peer is told that it was
    /// lost (RFC 9293 section 3.6.1, RFC 1122 section 4.2.2.13).
    fn reset_if_unread(&mut self) {
        if self.is_closed_for_good() && self.receive.has_unread() {
            self.end(CloseReason::DataNotRead, true);
        }
    }

    /// Whether the driver has closed both directions.
    pub(crate) fn is_closed_for_good(&self) -> bool {
        self.receive_closed && self.send.is_finishing()
    }

    /// Our FIN was acknowledged (RFC 9293 section 3.10.7.4, fifth check). True if TIME-WAIT follows.
    pub(crate) fn on_fin_acknowledged(&mut self, now: Instant) -> bool {
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.deadlines.set(Timer::FinWait2, now + FIN_WAIT_2);
                false
            }
            State::Closing => true,
            State::LastAck => {
                self.end(CloseReason::Finished, false);
                false
            }
            _ => false,
        }
    }

    /// The peer's FIN came in order (RFC 9293 section 3.10.7.4, eighth check). True if TIME-WAIT follows.
    pub(crate) fn on_peer_finished(&mut self) -> bool {
        self.events.peer_finished = true;
        match self.state {
            State::Established => {
                self.state = State::CloseWait;
                false
            }
            State::FinWait1 => {
                self.state = State::Closing;
                false
            }
            State::FinWait2 => true,
            _ => false,
        }
    }

    /// `reach`: the end of what may be in flight as far as buffers go.
    pub(crate) fn send_view(&self, reach: u64) -> SendView {
        let window_end = self.send.snd_una + u64::from(self.send.window());
        let acknowledged = self.send.acknowledged();
        let horizon = match self.send.is_stalled_by_window() {
            true if self.probe_wanted => self.send.probe_end(),
            true => acknowledged,
            // What was sent may have to be sent again, however small the window is now.
            false => (self.send.snd_nxt + self.send_room())
                .min(window_end)
                .min(reach)
                .max(self.send.needed()),
        };
        SendView {
            acknowledged,
            sent: self.send.sent(),
            horizon,
            segment: self.send.smss(),
        }
    }
}

/// A time limit as a connection keeps it.
pub(crate) fn millis(limit: Option<Duration>) -> u32 {
    let millis = limit.map_or(0, |limit| limit.as_millis().max(1));
    u32::try_from(millis).unwrap_or(u32::MAX)
}

pub(crate) fn controller(
    config: &StackConfig,
    key: &FlowKey,
    smss: u32,
    iss: SeqNumber,
) -> Controller {
    let algorithm = config.congestion_of(key.local_port());
    let mut controller = Controller::new(algorithm, smss).with_seed(iss.raw());
    hurry_slow_start(&mut controller, config);
    controller
}

/// RFC 9406 section 4.2: without a limit when paced. Where the round trip is too short for that, nothing is gained by
/// counting a super-ACK of 64 KiB as two segments either.
pub(crate) fn hurry_slow_start(controller: &mut Controller, config: &StackConfig) {
    if config.pacing.is_some() {
        controller.set_slow_start_limit(u32::MAX);
    }
}

/// ISS. A connection that follows another of its tuple within TIME-WAIT begins above everything that one sent
/// (RFC 9293 section 3.6.1, MAY-2), also if it sent faster than the clock of `chosen` runs.
pub(crate) fn first_sequence_number(chosen: u32, after: Option<SeqNumber>) -> SeqNumber {
    let chosen = SeqNumber::new(chosen);
    match after {
        Some(last) if chosen.le(last.add(ISS_GAP)) => last.add(ISS_GAP),
        _ => chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_awake_connection_is_bounded() {
        // What an idle one costs is in `rest` and `slots`.
        let size = size_of::<Connection>();
        assert!(size <= 1648, "{size} bytes");
    }

    #[test]
    fn a_successor_begins_above_what_its_predecessor_sent() {
        // RFC 9293 section 3.6.1.
        let last = SeqNumber::new(u32::MAX - 10);
        assert!(first_sequence_number(last.raw() - 1000, Some(last)).gt(last));
        assert_eq!(
            first_sequence_number(1 << 20, Some(last)),
            SeqNumber::new(1 << 20)
        );
        assert_eq!(first_sequence_number(7, None), SeqNumber::new(7));
    }

    #[test]
    fn the_scale_is_the_smallest_that_fits() {
        // RFC 7323 section 2.3.
        let scales: Vec<u8> = [0, 65_535, 65_536, 1 << 20, u32::MAX]
            .map(|buffer| window_scale_for(buffer, buffer))
            .to_vec();
        assert_eq!(scales, vec![0, 0, 1, 5, 14]);
    }

    #[test]
    fn the_scale_fits_the_largest_window_and_tells_the_smallest_to_the_quarter() {
        let scales: Vec<u8> = [
            (1 << 30, 65_536),
            (1 << 30, 16_384),
            (1 << 28, 65_536),
            (1 << 30, 1_000),
        ]
        .map(|(largest, least)| window_scale_for(largest, least))
        .to_vec();
        assert_eq!(scales, vec![14, 12, 13, 7]);
    }
}
