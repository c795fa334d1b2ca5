//! Active open: SYN-SENT, and simultaneous open as far as it differs from the passive one.
//!
//! RFC 9293 sections 3.10.1 (OPEN), 3.10.7.3 (segments in SYN-SENT), 3.5 figure 7 (simultaneous open), RFC 7323
//! sections 2.2 and 3.2 (options on our SYN). Data on a SYN-ACK is not taken; it comes again, as in LISTEN.

use core::ops::Range;

use sluice_wire::{TcpFlags, TcpHeader};

use crate::clock::Instant;
use crate::config::SYN_REPEATS_MAX;
use crate::connection::{Connection, Env, controller};
use crate::control::Control;
use crate::deadlines::Timer;
use crate::ecn::EcnState;
use crate::events::CloseReason;
use crate::flow_table::FlowKey;
use crate::handshake::{Offer, Terms};
use crate::input::Outcome;
use crate::isn;
use crate::listener;
use crate::loss::Loss;
use crate::path_mtu::PathMtu;
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::state::State;
use crate::stats::SegmentDrop;

impl Connection {
    /// A connection whose SYN leaves next. The receiving side is made anew when the peer's SYN comes.
    pub(crate) fn active(key: FlowKey, env: &Env<'_>) -> Self {
        let iss = SeqNumber::new(isn::iss(env.now, &key, &env.config.secret));
        // We offer everything; the peer's SYN decides what is used.
        let offer = Offer {
            window_scale: Some(0),
            sack: true,
            timestamp: Some(0),
            ..Offer::none(&key)
        };
        let terms = Terms::new(&key, &offer, env.config, env.now);
        let mut connection =
            Connection::new(key, State::SynSent, iss, SeqNumber::new(0), &terms, env);
        let level = env.config.offers_ecn(key.local_port());
        connection.control.ecn = EcnState::offering(level);
        connection
    }

    /// RFC 9293 section 3.10.7.3.
    pub(crate) fn on_segment_syn_sent(
        &mut self,
        segment: &Segment<'_>,
        env: &mut Env<'_>,
    ) -> Outcome {
        let header = segment.header;
        let flags = header.flags;
        let acknowledges = flags.contains(TcpFlags::ACK);
        // Nothing but the SYN was sent, so there is one number to acknowledge.
        if acknowledges && header.ack != self.send.seq(0).raw() {
            // A RST for a connection that the peer still remembers and we do not; never an answer to a RST.
            return Outcome {
                reply: listener::refusal(segment),
                ..Outcome::dropped(SegmentDrop::AckOutOfRange)
            };
        }
        if flags.contains(TcpFlags::RST) {
            if !acknowledges {
                return Outcome::dropped(SegmentDrop::SynSentStray);
            }
            env.counters.resets_received += 1;
            if self.control.ecn.withdraw_offer(self.syn_repeats) {
                // Perhaps it is the offer that is refused: once more without (RFC 3168 section 6.1.1.1).
                env.counters.ecn_fallbacks += 1;
                self.deadlines.clear(Timer::Retransmit);
                self.syn_wanted = true;
            } else {
                self.end(CloseReason::Refused, false);
            }
            return Outcome::dropped(SegmentDrop::ConnectionReset);
        }
        if !flags.contains(TcpFlags::SYN) || flags.contains(TcpFlags::FIN) {
            return Outcome::dropped(SegmentDrop::SynSentStray);
        }
        self.agree(segment, env);
        if acknowledges {
            self.state = State::Established;
            env.counters.connected += 1;
            self.count_ecn(env);
            self.complete_handshake(header, env);
            if self.control.ecn.on_syn_ack(header, segment.ecn) {
                self.steer_by_handshake_mark(env);
            }
            self.keep_alive_restarts(env);
            self.receive.want_ack_now();
        } else {
            // Simultaneous open: both SYNs crossed. Ours goes again, with the acknowledgement of theirs.
            self.state = State::SynReceived;
            self.syn_wanted = true;
        }
        Outcome {
            trusted: true,
            rtt: self.rtt.latest(),
            ..Outcome::default()
        }
    }

    /// Takes over what the peer's SYN says.
    fn agree(&mut self, segment: &Segment<'_>, env: &Env<'_>) {
        let irs = SeqNumber::new(segment.header.seq);
        let mut offer = Offer::of_syn(segment, env.config);
        if segment.header.flags.contains(TcpFlags::ACK) {
            offer.ecn = self.control.ecn.terms_of(segment.header.flags);
        }
        let terms = Terms::new(&self.key, &offer, env.config, env.now);
        self.receive = terms.receiver(irs, env.config);
        self.send.negotiate(terms.smss, terms.peer_scale);
        self.path_mtu = PathMtu::new(terms.path_mtu, self.key.local().is_ipv6());
        // The window in a SYN is never scaled (RFC 7323 section 2.2).
        self.send
            .set_first_window(irs, segment.header.window, false);
        self.loss = Loss::new(terms.sack);
        self.congestion = controller(env.config, &self.key, terms.smss, self.send.iss());
        self.control = Control::new(&self.key, &terms, env);
        self.timestamps = terms.timestamps;
        self.sack = terms.sack;
        self.offered_scale = terms.offered_scale;
        self.last_ack_sent = irs.add(1);
    }

    /// Our SYN, if it is due.
    pub(crate) fn syn(&mut self, env: &Env<'_>) -> Option<(TcpHeader, Range<u64>)> {
        if !core::mem::take(&mut self.syn_wanted) {
            return None;
        }
        self.on_syn_sent(env.now);
        let flags = self.control.ecn.syn_flags(self.syn_repeats);
        let mut header = self.syn_header(TcpFlags::SYN.union(flags), env.now);
        // Nothing to acknowledge yet; a zero TSecr goes with that (RFC 7323 section 3.2).
        header.ack = 0;
        Some((header, 0..0))
    }

    /// A SYN or a SYN-ACK leaves: its timer, which fires at the user timeout at the latest, and the moment from which the
    /// round trip counts.
    pub(crate) fn on_syn_sent(&mut self, now: Instant) {
        if self.syns_sent == 0 {
            self.progress_at = now;
        }
        self.syns_sent = self.syns_sent.saturating_add(1);
        if !self.deadlines.is_set(Timer::Retransmit) {
            let next = now + self.rtt.rto();
            let next = self.open_ends_at().map_or(next, |end| next.min(end));
            self.deadlines.set(Timer::Retransmit, next);
        }
    }

    /// The SYN was not answered, or after a simultaneous open the SYN-ACK.
    pub(crate) fn on_syn_timer(&mut self, env: &mut Env<'_>) {
        if let Some(reason) = self.gives_up_opening(env.now) {
            self.end(reason, false);
            return;
        }
        self.syn_repeats = self.syn_repeats.saturating_add(1);
        self.syn_wanted = true;
        if self.state == State::SynReceived {
            env.counters.retransmitted_syn_ack += 1;
        } else {
            env.counters.retransmitted_syn += 1;
        }
        self.rtt.back_off();
    }

    /// R2 of a SYN (RFC 9293 section 3.8.3, MUST-23): the user timeout if there is one, else a number of repetitions.
    /// After a simultaneous open the SYN-ACK still says our SYN, so it has what is left of the same three minutes. The
    /// short limit of a passive open is against those who let us wait; here it is our own user who waits.
    fn gives_up_opening(&self, now: Instant) -> Option<CloseReason> {
        match self.open_ends_at() {
            Some(end) => (now >= end).then_some(CloseReason::UserTimeout),
            None => (self.syn_repeats >= SYN_REPEATS_MAX).then_some(CloseReason::HandshakeTimeout),
        }
    }

    /// When the user timeout ends, which counts from the first SYN (RFC 9293 section 3.10.8).
    fn open_ends_at(&self) -> Option<Instant> {
        Some(self.progress_at + self.user_timeout()?)
    }
}
