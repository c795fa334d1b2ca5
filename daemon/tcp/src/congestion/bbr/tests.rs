//! The state machine of draft-ietf-ccwg-bbr, transition by transition (its appendix "Example Test Cases").

use super::*;
use crate::delivery_rate::RateSample;

mod loss;
mod probe_bw;
mod rest;
mod startup;

const MSS: u32 = 1_000;
const RTT: Duration = Duration::from_millis(20);
/// 100 segments per round trip.
const RATE: u64 = 5_000_000;
const BDP: u32 = 100 * MSS;

/// A flow on a path that is described ACK by ACK.
struct Flow {
    bbr: Bbr,
    now: Instant,
    delivered: u64,
}

/// One ACK that ends a packet-timed round trip.
#[derive(Clone, Copy)]
struct Round {
    rate: u64,
    rtt: Duration,
    in_flight: u32,
    app_limited: bool,
    cwnd_limited: bool,
    lost: u64,
}

const STEADY: Round = Round {
    rate: RATE,
    rtt: RTT,
    in_flight: BDP,
    app_limited: false,
    cwnd_limited: false,
    lost: 0,
};

impl Flow {
    fn new() -> Flow {
        Flow {
            bbr: Bbr::new(MSS),
            now: Instant::from_nanos(1_000_000_000),
            delivered: 0,
        }
    }

    /// Startup is over: the rate has not grown for three rounds.
    fn draining() -> Flow {
        let mut flow = Flow::new();
        for rate in [RATE / 2, RATE, RATE, RATE, RATE] {
            flow.round(&Round {
                rate,
                in_flight: 2 * BDP,
                ..STEADY
            });
        }
        assert_eq!(flow.bbr.state, State::Drain);
        flow
    }

    fn cruising() -> Flow {
        let mut flow = Flow::draining();
        flow.until(State::ProbeBwCruise);
        flow
    }

    fn probing() -> Flow {
        let mut flow = Flow::cruising();
        flow.until(State::ProbeBwUp);
        flow
    }

    fn round(&mut self, round: &Round) -> State {
        let rtt = round.rtt.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let bytes = (round.rate as f64 * rtt) as u32;
        let prior_delivered = self.delivered;
        self.delivered += u64::from(bytes);
        self.now = self.now + round.rtt;
        self.bbr.on_ack(&AckSample {
            now: self.now,
            acked_bytes: bytes,
            delivered_bytes: bytes,
            delivered_total: self.delivered,
            srtt: Some(round.rtt),
            rtt: Some(round.rtt),
            in_flight: round.in_flight,
            cwnd_limited: round.cwnd_limited,
            rate: Some(RateSample {
                rate: round.rate,
                delivered: u64::from(bytes),
                prior_delivered,
                lost: round.lost,
                in_flight: u64::from(round.in_flight),
                rtt: round.rtt,
                app_limited: round.app_limited,
            }),
            ..AckSample::default()
        });
        self.bbr.state
    }

    /// Steady rounds until a state is reached; how many.
    fn until(&mut self, state: State) -> u32 {
        for rounds in 1..1_000 {
            if self.round(&STEADY) == state {
                return rounds;
            }
        }
        panic!("{state:?} was not reached from {:?}", self.bbr.state);
    }

    fn lose(&mut self, segments: u32, in_flight: u32) {
        self.bbr.on_loss(&LossSample {
            bytes: segments * MSS,
            delivered_total: self.delivered,
            in_flight: in_flight.into(),
            lost_since: u64::from(segments * MSS),
            app_limited: false,
        });
    }
}

/// Minimum cwnd for Pipelining.
#[test]
fn the_window_is_at_least_four_segments() {
    let mut flow = Flow::new();
    for _ in 0..200 {
        flow.round(&Round {
            rate: 1_000,
            in_flight: 1_000,
            ..STEADY
        });
        assert!(flow.bbr.window.cwnd >= 4 * MSS);
    }
}
