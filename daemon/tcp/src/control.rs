//! How a connection is steered: where its segments and acknowledgements meet congestion control, delivery
//! rate, pacing, window validation and ECN.
//!
//! `input` and `output` call here at the few points that matter: something left, an ACK was judged by loss
//! detection, the timer expired, the application ran dry. Here the parts are asked in a fixed order and told
//! of one another's answers; none of them knows another. What was lost is loss detection's business alone.

use core::ops::Range;
use core::time::Duration;

use sluice_wire::TcpHeader;

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::congestion::{AckSample, Algorithm, LossSample, initial_window};
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::delivery_rate::{DeliveryRate, RateSample};
use crate::ecn::EcnState;
use crate::flight_pool::FlightPool;
use crate::markers::Markers;
use crate::pacing::Pacer;
use crate::segment::{ControlView, Segment};
use crate::seq::SeqNumber;
use crate::validation::{Validation, WindowUse};
use crate::verdict::Verdict;

/// The parts that steer a connection, besides [`Connection::congestion`].
#[derive(Debug)]
pub(crate) struct Control {
    pub ecn: EcnState,
    delivery: DeliveryRate,
    markers: Markers,
    pacer: Pacer,
    validation: Validation,
    /// A fast recovery or a time-out is being repaired.
    repairing: bool,
}

impl Control {
    /// For a connection with segments of `smss` bytes, and with ECN if the handshake agreed on it.
    pub(crate) fn new(ecn: bool, smss: u32, config: &StackConfig, now: Instant) -> Self {
        let mut pacer = Pacer::new();
        pacer.grant(initial_window(smss));
        Control {
            ecn: EcnState::new(ecn, config.congestion == Algorithm::Dctcp),
            delivery: DeliveryRate::new(now),
            markers: Markers::new(),
            pacer,
            validation: Validation::new(now),
            repairing: false,
        }
    }
}

impl Control {
    /// Whether a pacer spreads what the window lets out.
    pub(crate) fn is_paced(&self) -> bool {
        self.pacer.rate() > 0
    }
}

/// An ACK as loss detection left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgedAck {
    /// Bytes by which it moved SND.UNA.
    pub acked: u64,
    /// Bytes that it delivered.
    pub delivered: u64,
    /// Shortest round trip of what it delivered and was sent once.
    pub rtt: Option<Duration>,
    /// Bytes in flight before it.
    pub in_flight: u32,
    pub verdict: Verdict,
}

impl Connection {
    /// Whether the pacer holds the next segment back; its timer is armed then.
    pub(crate) fn is_held(&mut self, now: Instant) -> bool {
        let smss = self.send.smss();
        let release = self.control.pacer.release_at(now, smss);
        if let Some(at) = release {
            self.deadlines.set(Timer::Pacing, at);
        }
        release.is_some()
    }

    /// The window has no room for a segment that waits.
    pub(crate) fn on_refused_by_window(&mut self) {
        self.control.validation.on_refused(self.send.snd_nxt);
    }

    /// There is nothing to send. If there were room to, the flight that is out ends in a bubble.
    pub(crate) fn on_nothing_to_send(&mut self) {
        let in_flight = self.pipe();
        if self.send.unsent() < u64::from(self.send.smss())
            && in_flight < u64::from(self.congestion.cwnd())
        {
            self.control.delivery.on_app_limited(in_flight);
        }
    }

    /// New data is about to leave.
    pub(crate) fn note_new(&mut self, range: &Range<u64>, env: &mut Env<'_>) {
        let len = range.end - range.start;
        let in_flight = self.pipe();
        let control = &mut self.control;
        let record = control.delivery.on_sent(env.now, in_flight, len);
        if self.congestion.needs_rate() {
            let cwnd = self.congestion.cwnd();
            let pool = &mut env.flights.markers;
            control.markers.on_sent(range.end, cwnd, &record, pool);
        }
        control.validation.on_sent(saturated(record.in_flight));
        self.congestion
            .on_sent(env.now, in_flight, record.app_limited);
        if in_flight == 0 {
            // A restart may have changed the rate.
            self.refresh_pacing(env);
        }
        self.control.pacer.on_sent(env.now, saturated(len));
    }

    /// `range` is about to be sent again.
    pub(crate) fn note_again(&mut self, range: &Range<u64>, env: &Env<'_>) {
        self.control.markers.on_sent_again(range);
        let len = saturated(range.end - range.start);
        self.control.pacer.on_sent(env.now, len);
    }

    /// Loss detection has looked at what is in flight, of which `pipe` bytes were in the network by its account
    /// before. What is not any more is lost.
    pub(crate) fn note_lost(&mut self, pipe: u64) {
        let lost = pipe.saturating_sub(self.pipe());
        if lost == 0 || !self.sack {
            // Without SACK a duplicate takes a segment out of the pipe as well.
            return;
        }
        // What was sent again left later than its marker says, and a round trip more of losses would count for it.
        let first = self.loss.next_retransmission().filter(|(_, again)| !again);
        let record = first.and_then(|(range, _)| self.control.markers.near(range.start));
        let delivery = &mut self.control.delivery;
        delivery.on_lost(lost);
        self.congestion.on_loss(&LossSample {
            bytes: saturated(lost),
            delivered_total: delivery.delivered(),
            in_flight: record.map_or(pipe, |record| record.in_flight),
            lost_since: record.map_or(lost, |record| delivery.lost() - record.lost),
            app_limited: record.is_some_and(|record| record.app_limited),
        });
    }

    /// Payload arrived in an acceptable segment.
    pub(crate) fn note_codepoint(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        if segment.payload_len == 0 {
            // Only data is ever ECN-capable: a mark on anything else is forged (RFC 3168 section 6.1.4).
            return;
        }
        if self.control.ecn.is_negotiated() && segment.ecn == sluice_wire::Ecn::Ce {
            env.counters.ecn_marks_received += 1;
        }
        if self.control.ecn.on_data(segment.ecn, segment.header.flags) {
            self.receive.want_ack_now();
        }
    }

    /// Loss detection has judged an ACK: congestion control hears of it. The reduction that the judgement may
    /// ask for follows with [`Self::steer_reduction`].
    pub(crate) fn steer(&mut self, ack: &JudgedAck, header: &TcpHeader, env: &mut Env<'_>) {
        let now = env.now;
        let (una, nxt) = (self.send.snd_una, self.send.snd_nxt);
        self.steer_repair(ack.verdict);
        let echo = self.control.ecn.is_echo(header.flags);
        let rate = self.measure(ack.delivered, header, env);
        let window = self.window_use();
        let control = &mut self.control;
        let cwnd_limited = control
            .validation
            .is_limited(una - ack.acked, ack.in_flight, &window);
        let sample = AckSample {
            now,
            acked_bytes: saturated(ack.acked),
            delivered_bytes: saturated(ack.delivered),
            delivered_total: control.delivery.delivered(),
            srtt: self.rtt.srtt(),
            // A marker has the exact time. Loss recovery keeps one for neighbours, the latest, and far apart
            // ones when holes are many: too short a round trip for a model that is built on the shortest.
            rtt: if self.congestion.needs_rate() {
                rate.map(|rate| rate.rtt)
            } else {
                ack.rtt
            },
            in_flight: saturated(self.loss.pipe(window.smss)),
            snd_una: una,
            snd_nxt: nxt,
            cwnd_limited,
            // Nothing grows on an ACK that reports congestion (RFC 3168 section 6.1.2).
            recovering: ack.verdict != Verdict::Grow || echo || control.ecn.is_holding(una),
            ecn_echo: echo,
            rate,
        };
        self.congestion.on_ack(&sample);
        if control.validation.on_ack(now, una, nxt, window.cwnd) {
            self.congestion.on_unvalidated();
        }
        if self.congestion.holds_back() {
            control.delivery.on_app_limited(u64::from(sample.in_flight));
        }
    }

    /// What was delivered, and how fast. SACK blocks that are not ours name no marker.
    fn measure(&mut self, bytes: u64, header: &TcpHeader, env: &mut Env<'_>) -> Option<RateSample> {
        let control = &mut self.control;
        if bytes == 0 {
            return None;
        }
        control.ecn.on_delivered();
        control.delivery.on_delivered(env.now, bytes);
        let pool = &mut env.flights.markers;
        for block in header.options.sack.iter() {
            let start = self.send.offset_of(SeqNumber::new(block.start));
            let end = self.send.offset_of(SeqNumber::new(block.end));
            if let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end)) {
                control
                    .markers
                    .on_sack(&(start..end), &mut control.delivery);
            }
        }
        control
            .markers
            .on_acknowledged(self.send.snd_una, &mut control.delivery, pool);
        control.delivery.take_sample(env.now, self.rtt.min_rtt())
    }

    fn window_use(&self) -> WindowUse {
        WindowUse {
            cwnd: self.congestion.cwnd(),
            smss: self.send.smss(),
            slow_start: self.congestion.in_slow_start(),
        }
    }

    fn steer_repair(&mut self, verdict: Verdict) {
        let repairing = match verdict {
            Verdict::Grow => self.loss.is_timeout(),
            Verdict::Undo => false,
            Verdict::Reduce | Verdict::ReduceForProbe | Verdict::Hold => true,
        };
        if self.control.repairing && !repairing {
            self.congestion.on_recovery_end();
        }
        self.control.repairing = repairing;
    }

    /// A loss was proven. One reduction per window of data, by loss or by echo, whichever comes first
    /// (RFC 3168 section 6.1.2).
    pub(crate) fn steer_reduction(&mut self, now: Instant) {
        if !self.control.ecn.is_holding(self.send.snd_una) {
            let window = self.window_use();
            let flight_size = self.flight_size();
            let in_use = if self
                .control
                .validation
                .is_in_use(self.send.snd_una, &window)
            {
                self.congestion.window_in_use(flight_size)
            } else {
                flight_size
            };
            self.congestion.on_congestion(now, in_use);
            self.control.ecn.on_reduced_by_loss(self.send.snd_nxt);
        }
    }

    /// The same for an echo, and pacing follows what has become of the window.
    pub(crate) fn steer_by_echo(&mut self, ack: &JudgedAck, header: &TcpHeader, env: &mut Env<'_>) {
        let ecn = &mut self.control.ecn;
        if ack.verdict == Verdict::Grow
            && ecn.is_echo(header.flags)
            && !ecn.is_answered(self.send.snd_una)
        {
            ecn.on_reduced_by_echo(self.send.snd_nxt);
            env.counters.ecn_reductions += 1;
            self.congestion.on_ecn_echo(env.now, self.flight_size());
        }
        self.refresh_pacing(env);
    }

    /// The retransmission timer expired and everything outstanding is taken as lost.
    pub(crate) fn steer_time_out(&mut self, flight_size: u32, first: bool, env: &mut Env<'_>) {
        if self.control.ecn.on_time_out(self.send.snd_nxt) {
            env.counters.ecn_fallbacks += 1;
        }
        self.control.repairing = true;
        self.congestion.on_rto(env.now, flight_size, first);
        self.refresh_pacing(env);
    }

    /// Nothing was sent for longer than the RTO (RFC 5681 section 4.1).
    pub(crate) fn steer_restart(&mut self, env: &Env<'_>) {
        self.congestion.on_idle_restart();
        self.control.validation.on_restart(env.now);
        let window = self.congestion.cwnd().min(initial_window(self.send.smss()));
        self.control.pacer.grant(window);
        self.refresh_pacing(env);
    }

    /// The connection is over: memory goes back.
    pub(crate) fn release_markers(&mut self, pool: &mut FlightPool) {
        self.control.markers.release(&mut pool.markers);
    }

    pub(crate) fn control_view(&self) -> ControlView {
        ControlView {
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            in_flight: self.pipe(),
            srtt: self.rtt.srtt(),
            pacing_rate: self.control.pacer.rate(),
            quantum: self.control.pacer.quantum(),
            ecn: self.control.ecn.is_negotiated(),
        }
    }

    fn refresh_pacing(&mut self, env: &Env<'_>) {
        let Some(config) = &env.config.pacing else {
            return;
        };
        let rate = match (self.rtt.min_rtt(), self.rtt.srtt()) {
            (Some(min_rtt), Some(srtt)) if !config.is_too_short(min_rtt, srtt) => {
                Some(self.congestion.pacing_rate(srtt))
            }
            _ => None,
        };
        let smss = self.send.smss();
        self.control.pacer.set_rate(env.now, rate, smss, config);
    }
}

fn saturated(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
