//! How a connection is steered: where its segments and acknowledgements meet congestion control, delivery
//! rate, pacing, window validation and ECN.
//!
//! `input` and `output` call here at the few points that matter: something left, an ACK was judged by loss
//! detection, the timer expired, the application ran dry. Here the parts are asked in a fixed order and told
//! of one another's answers; none of them knows another. What was lost is loss detection's business alone.

use core::ops::Range;
use core::time::Duration;

use sluice_wire::{Ecn, TcpFlags, TcpHeader};

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::congestion::{AckSample, Algorithm, LossSample, initial_window};
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::delivery_rate::{self, DeliveryRate, RateSample, SentRecord};
use crate::ecn::{AckOfEct, Arrived, EcnState, Marks};
use crate::flight_pool::FlightPool;
use crate::flow_table::FlowKey;
use crate::handshake::Terms;
use crate::markers::Markers;
use crate::pacing::Pacer;
use crate::receive::AckWanted;
use crate::segment::{ControlView, EcnView, Segment};
use crate::seq::SeqNumber;
use crate::state::State;
use crate::validation::{Validation, WindowUse};
use crate::verdict::{AckSeen, Verdict};

mod rest;

pub(crate) use rest::RestingControl;

/// Bytes that timestamps take from every segment (RFC 7323 appendix A).
const TIMESTAMPS_LEN: u32 = 12;

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
    /// For a connection on these terms.
    pub(crate) fn new(key: &FlowKey, terms: &Terms, env: &Env<'_>) -> Self {
        let algorithm = env.config.congestion_of(key.local_port());
        let mut pacer = Pacer::new();
        pacer.grant(initial_window(terms.smss));
        Control {
            ecn: EcnState::new(terms.ecn, algorithm == Algorithm::Dctcp),
            delivery: DeliveryRate::new(env.now),
            markers: Markers::new(),
            pacer,
            validation: Validation::new(env.now),
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
    /// Acknowledgements for which it stands, itself included.
    pub acks: u32,
    /// Bytes that it delivered.
    pub delivered: u64,
    /// Shortest round trip of what it delivered and was sent once.
    pub rtt: Option<Duration>,
    /// Bytes in flight before it.
    pub in_flight: u32,
    pub verdict: Verdict,
    /// Marks that it reports.
    pub marks: Marks,
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
        let (cwnd, smss) = (self.congestion.cwnd(), self.send.smss());
        if delivery_rate::is_dry(self.send.unsent(), in_flight, cwnd, smss) {
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

    /// Segments of a run behind the first: `full` of SMSS bytes from `start` on, and `rest` bytes.
    pub(crate) fn note_more(&mut self, start: u64, full: u32, rest: u32, env: &mut Env<'_>) {
        let smss = self.send.smss();
        let in_flight = self.pipe();
        let len = u64::from(full) * u64::from(smss) + u64::from(rest);
        let control = &mut self.control;
        let record = control.delivery.on_sent(env.now, in_flight, len);
        if self.congestion.needs_rate() {
            let cwnd = self.congestion.cwnd();
            let pool = &mut env.flights.markers;
            let mut behind = 0;
            let rest = Some(rest).filter(|rest| *rest > 0);
            for len in (0..full).map(|_| smss).chain(rest) {
                behind += u64::from(len);
                let record = SentRecord {
                    in_flight: in_flight + behind,
                    ..record
                };
                control.markers.on_sent(start + behind, cwnd, &record, pool);
            }
        }
        control.validation.on_sent(saturated(record.in_flight));
        control.pacer.on_burst_sent(env.now, full, smss);
        if rest > 0 {
            control.pacer.on_sent(env.now, rest);
        }
    }

    /// Segments of SMSS bytes that the pacer lets go at once.
    pub(crate) fn released_segments(&mut self, now: Instant) -> u64 {
        self.control.pacer.burst(now, self.send.smss())
    }

    /// `range` is about to be sent again.
    pub(crate) fn note_again(&mut self, range: &Range<u64>, env: &Env<'_>) {
        self.control.markers.on_sent_again(range);
        let len = saturated(range.end - range.start);
        self.control.pacer.on_sent(env.now, len);
    }

    /// `range`, which was accounted for as new data, leaves at last: its time says nothing.
    pub(crate) fn note_shown(&mut self, range: &Range<u64>) {
        self.control.markers.on_sent_again(range);
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

    /// An acceptable segment arrived, as this codepoint.
    pub(crate) fn note_codepoint(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        let has_data = segment.payload_len > 0;
        let is_negotiated = self.control.ecn.is_negotiated();
        if !is_negotiated || segment.header.flags.contains(TcpFlags::SYN) {
            return;
        }
        let counts = has_data || self.control.ecn.is_accurate();
        // What is longer than our MSS was merged on its way, of packets with the same mark.
        let packets = segment.payload_len.div_ceil(self.longest_segment()).max(1);
        if counts && segment.ecn == Ecn::Ce {
            env.counters.ecn_marks_received += u64::from(packets);
        }
        let ack_now = self.control.ecn.on_segment(&Arrived {
            ecn: segment.ecn,
            flags: segment.header.flags,
            payload_len: segment.payload_len,
            packets,
            awaits_ack: has_data || self.receive.ack_wanted() != AckWanted::No,
        });
        if ack_now {
            self.receive.want_ack_now();
        }
    }

    /// Payload of the longest segment that the peer sends, at least 1.
    fn longest_segment(&self) -> u32 {
        let options = self.timestamps.map_or(0, |_| TIMESTAMPS_LEN);
        u32::from(self.our_mss).saturating_sub(options).max(1)
    }

    /// What an acknowledgement, of which `delivered` bytes were news, reports of marks on what we sent.
    pub(crate) fn hear_marks(
        &mut self,
        ack: &AckSeen,
        delivered: u64,
        header: &TcpHeader,
        env: &mut Env<'_>,
    ) -> Marks {
        if self.is_without_counters(delivered, header) {
            return Marks::default();
        }
        let (marks, is_mangled) = self.control.ecn.on_ack(&AckOfEct {
            header,
            acked: ack.acked,
            delivered,
            is_overtaken: SeqNumber::new(header.ack).lt(self.send.seq(ack.snd_una)),
            acks: ack.acks,
            is_newer: ack.is_newer,
            smss: self.send.smss(),
        });
        if self.control.ecn.is_accurate() {
            env.counters.ecn_marks_reported += u64::from(marks.packets);
        }
        env.counters.ecn_mangled += u64::from(is_mangled);
        marks
    }

    /// Whether an acknowledgement is as of TIME-WAIT, where nobody keeps counters: Linux too leaves the ACE field zero
    /// there, from FIN-WAIT-2 on. As a counter it would report up to seven marks that were none.
    fn is_without_counters(&self, delivered: u64, header: &TcpHeader) -> bool {
        let peer_has_finished = matches!(
            self.state,
            State::CloseWait | State::LastAck | State::Closing
        );
        let is_about_data = delivered > 0 && !self.send.is_fin_acknowledged();
        peer_has_finished && !is_about_data && header.flags.ace() == 0
    }

    /// The handshake is complete, and with it what was agreed on.
    pub(crate) fn count_ecn(&self, env: &mut Env<'_>) {
        env.counters.ecn_negotiated += u64::from(self.control.ecn.is_negotiated());
        env.counters.accecn_negotiated += u64::from(self.control.ecn.is_accurate());
    }

    /// A packet of the handshake was marked: the initial window shrinks as any other would (RFC 9768
    /// section 3.2.2.2).
    pub(crate) fn steer_by_handshake_mark(&mut self, env: &mut Env<'_>) {
        env.counters.ecn_reductions += 1;
        self.congestion.on_ecn_echo(env.now, self.congestion.cwnd());
    }

    /// Loss detection has judged an ACK: congestion control hears of it. The reduction that the judgement may
    /// ask for follows with [`Self::steer_reduction`].
    pub(crate) fn steer(&mut self, ack: &JudgedAck, header: &TcpHeader, env: &mut Env<'_>) {
        let now = env.now;
        let (una, nxt) = (self.send.snd_una, self.send.snd_nxt);
        self.steer_repair(ack.verdict);
        let echo = ack.marks.any();
        let rate = self.measure(ack.delivered, header, env);
        let window = self.window_use();
        let control = &mut self.control;
        let cwnd_limited = control
            .validation
            .is_limited(una - ack.acked, ack.in_flight, &window);
        let sample = AckSample {
            now,
            acked_bytes: saturated(ack.acked),
            merged: ack.acks - 1,
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
            marked_bytes: ack.marks.bytes,
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
    pub(crate) fn steer_by_echo(&mut self, ack: &JudgedAck, env: &mut Env<'_>) {
        let ecn = &mut self.control.ecn;
        if ack.verdict == Verdict::Grow && ack.marks.any() && !ecn.is_answered(self.send.snd_una) {
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
            path_mtu: self.path_mtu.mtu(),
        }
    }

    pub(crate) fn ecn_view(&self) -> EcnView {
        let ecn = &self.control.ecn;
        let (received, reported) = ecn.totals();
        EcnView {
            negotiated: ecn.is_negotiated(),
            accurate: ecn.is_accurate(),
            sending: ecn.is_marking(),
            ce_packets_received: received.0,
            ce_bytes_received: received.1,
            ce_packets_reported: reported.0,
            ce_bytes_reported: reported.1,
        }
    }

    /// After a rest: the pacer has nothing but a rate.
    pub(crate) fn resume_pacing(&mut self, config: &StackConfig) {
        self.set_pacing(Instant::ZERO, config);
    }

    /// The pacing rate follows the window, and the length of a segment.
    pub(crate) fn refresh_pacing(&mut self, env: &Env<'_>) {
        self.set_pacing(env.now, env.config);
    }

    fn set_pacing(&mut self, now: Instant, config: &StackConfig) {
        let Some(config) = &config.pacing else {
            return;
        };
        let rate = match (self.rtt.min_rtt(), self.rtt.srtt()) {
            (Some(min_rtt), Some(srtt)) if !config.is_too_short(min_rtt, srtt) => {
                Some(self.congestion.pacing_rate(srtt))
            }
            _ => None,
        };
        let burst = self.congestion.starting_burst();
        let smss = self.send.smss();
        self.control.pacer.set_rate(now, rate, burst, smss, config);
    }
}

fn saturated(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
