//! How a connection is steered: where its segments and acknowledgements meet congestion control, delivery
//! rate, pacing, window validation and ECN.
//!
//! `input` and `output` call here at the few points that matter: something left, an ACK was judged by loss
//! detection, the timer expired, the application ran dry. Here the parts are asked in a fixed order and told
//! of one another's answers; none of them knows another. What was lost is loss detection's business alone.

use core::ops::Range;

use sluice_wire::{TcpFlags, TcpHeader};

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::congestion::{AckSample, Algorithm, LossSample, initial_window};
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::delivery_rate::DeliveryRate;
use crate::ecn::EcnState;
use crate::loss::Verdict;
use crate::markers::Markers;
use crate::pacing::Pacer;
use crate::segment::{ControlView, Segment};
use crate::validation::{Validation, WindowUse};

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
    /// For a connection that a SYN with these flags opens, with segments of `smss` bytes.
    pub(crate) fn new(syn: TcpFlags, smss: u32, config: &StackConfig, now: Instant) -> Self {
        let ecn_wanted = config.ecn && config.congestion.answers_ecn();
        let mut pacer = Pacer::new();
        pacer.grant(initial_window(smss));
        Control {
            ecn: EcnState::from_syn(syn, ecn_wanted, config.congestion == Algorithm::Dctcp),
            delivery: DeliveryRate::new(now),
            markers: Markers::new(),
            pacer,
            validation: Validation::new(now),
            repairing: false,
        }
    }
}

/// An ACK as loss detection left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgedAck {
    /// Bytes by which it moved SND.UNA.
    pub acked: u64,
    /// Bytes in flight before it.
    pub in_flight: u32,
    /// FlightSize for a reduction.
    pub flight_size: u32,
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
    pub(crate) fn note_new(&mut self, range: &Range<u64>, env: &Env<'_>) {
        let len = range.end - range.start;
        let in_flight = self.pipe();
        let record = self.control.delivery.on_sent(env.now, in_flight, len);
        let cwnd = self.congestion.cwnd();
        self.control.markers.on_sent(range.end, cwnd, &record);
        self.control.validation.on_sent(saturated(record.in_flight));
        self.congestion
            .on_sent(env.now, in_flight, record.app_limited);
        if in_flight == 0 {
            // A restart may have changed the rate.
            self.refresh_pacing(env);
        }
        self.control.pacer.on_sent(env.now, saturated(len));
    }

    /// `range` is about to be sent again. Until loss detection names what it declares lost when it does,
    /// this is the moment at which congestion control hears of it.
    pub(crate) fn note_again(&mut self, range: &Range<u64>, env: &Env<'_>) {
        let len = range.end - range.start;
        let record = self.control.markers.near(range.start);
        self.control.delivery.on_lost(len);
        self.congestion.on_loss(&LossSample {
            bytes: saturated(len),
            delivered_total: self.control.delivery.delivered(),
            in_flight: record.map_or_else(|| self.pipe(), |record| record.in_flight),
            lost_since: record.map_or(len, |record| self.control.delivery.lost() - record.lost),
            app_limited: record.is_some_and(|record| record.app_limited),
        });
        self.control.markers.on_sent_again(range);
        self.control.pacer.on_sent(env.now, saturated(len));
    }

    /// A SACK block above SND.UNA.
    pub(crate) fn note_sacked(&mut self, range: &Range<u64>, now: Instant) {
        let control = &mut self.control;
        control.markers.on_sack(now, range, &mut control.delivery);
    }

    /// SND.UNA moved.
    pub(crate) fn note_acknowledged(&mut self, una_before: u64, now: Instant) {
        let control = &mut self.control;
        control.ecn.on_acknowledged();
        control
            .markers
            .on_acknowledged(now, una_before, self.send.snd_una, &mut control.delivery);
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

    /// Loss detection has judged an ACK: now the window, the rate and the pacing follow.
    pub(crate) fn steer(&mut self, ack: &JudgedAck, header: &TcpHeader, env: &mut Env<'_>) {
        let now = env.now;
        let una_before = self.send.snd_una - ack.acked;
        let echo = self.control.ecn.is_echo(header.flags);
        let holding = self.control.ecn.is_holding(self.send.snd_una);
        self.steer_repair(ack.verdict);
        let window = WindowUse {
            cwnd: self.congestion.cwnd(),
            smss: self.send.smss(),
            slow_start: self.congestion.in_slow_start(),
        };
        let rate = self.control.delivery.take_sample(now, self.rtt.min_rtt());
        self.congestion.on_ack(&AckSample {
            now,
            acked_bytes: saturated(ack.acked),
            delivered_bytes: saturated(self.control.markers.take_delivered()),
            delivered_total: self.control.delivery.delivered(),
            srtt: self.rtt.srtt(),
            rtt: rate.map(|rate| rate.rtt),
            in_flight: saturated(self.pipe()),
            snd_una: self.send.snd_una,
            snd_nxt: self.send.snd_nxt,
            cwnd_limited: self
                .control
                .validation
                .is_limited(una_before, ack.in_flight, &window),
            // Nothing grows on an ACK that reports congestion (RFC 3168 section 6.1.2).
            recovering: ack.verdict != Verdict::Grow || holding || echo,
            ecn_echo: echo,
            rate,
        });
        self.steer_reduction(ack, echo, holding, env);
        let (una, nxt) = (self.send.snd_una, self.send.snd_nxt);
        if self.control.validation.on_ack(now, una, nxt, window.cwnd) {
            self.congestion.on_unvalidated();
        }
        if self.congestion.holds_back() {
            self.control.delivery.on_app_limited(self.pipe());
        }
        self.refresh_pacing(env);
    }

    fn steer_repair(&mut self, verdict: Verdict) {
        let repairing = verdict != Verdict::Grow || self.loss.is_timeout();
        if self.control.repairing && !repairing {
            self.congestion.on_recovery_end();
        }
        self.control.repairing = repairing;
    }

    /// One reduction per window of data, by loss or by echo, whichever comes first (RFC 3168 section 6.1.2).
    fn steer_reduction(&mut self, ack: &JudgedAck, echo: bool, holding: bool, env: &mut Env<'_>) {
        let (una, nxt) = (self.send.snd_una, self.send.snd_nxt);
        match ack.verdict {
            Verdict::Reduce => {
                env.counters.fast_recoveries += 1;
                if !holding {
                    self.congestion.on_congestion(env.now, ack.flight_size);
                    self.control.ecn.on_reduced_by_loss(nxt);
                }
            }
            Verdict::Grow if echo && !self.control.ecn.is_answered(una) => {
                env.counters.ecn_reductions += 1;
                self.congestion.on_ecn_echo(env.now, ack.flight_size);
                self.control.ecn.on_reduced_by_echo(nxt);
            }
            Verdict::Grow | Verdict::Hold => {}
        }
    }

    /// The retransmission timer expired and everything outstanding is taken as lost.
    pub(crate) fn steer_time_out(&mut self, flight_size: u32, first: bool, env: &mut Env<'_>) {
        if self.control.ecn.on_time_out(self.send.snd_nxt) {
            env.counters.ecn_fallbacks += 1;
        }
        self.control.repairing = true;
        self.control.markers.forget();
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
            (Some(min_rtt), Some(srtt)) if min_rtt >= config.unpaced_below => {
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
