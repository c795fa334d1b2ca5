//! Two stacks talk with pauses over a path that loses segments, once with connections that rest and once without:
//! nobody outside can tell the difference.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::BTreeMap;

use proptest::prelude::*;
use sluice_wire::{Ecn, TcpHeader};

use super::*;
use crate::config::KeepAlive;
use crate::congestion::Algorithm;
use crate::ecn_terms::{EcnConfig, EcnLevel};
use crate::events::ConnId;
use crate::isn::Secret;
use crate::pacing::PacingConfig;
use crate::segment::{ControlView, Segment};
use crate::stack::Stack;

const START: Instant = Instant::from_nanos(77_000_000_000);
const DELAY: Duration = Duration::from_millis(10);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

const CLASSIC: EcnConfig = EcnConfig {
    accept: EcnLevel::Classic,
    offer: EcnLevel::Classic,
};

/// A request and its response in bytes, after a pause.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    pause_ms: u64,
    request: u64,
    response: u64,
}

#[derive(Clone, Debug)]
struct Scenario {
    congestion: Algorithm,
    seed: u64,
    ecn: EcnConfig,
    /// Segments lost of a thousand.
    loss: u64,
    /// ECN-capable segments marked of a thousand.
    marks: u64,
    exchanges: Vec<Exchange>,
}

/// What left, when and from whom, and how its sender was steered then.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    at: Instant,
    side: usize,
    header: TcpHeader,
    payload: core::ops::Range<u64>,
    ect: bool,
    view: Option<ControlView>,
}

struct Side {
    stack: Stack,
    conn: Option<ConnId>,
    supplied: u64,
    rested: u64,
}

struct World {
    now: Instant,
    sides: [Side; 2],
    wire: BTreeMap<(Instant, usize), (usize, Said, Ecn)>,
    random: u64,
    loss: u64,
    marks: u64,
    said: Vec<Said>,
}

fn config(congestion: Algorithm, ecn: EcnConfig) -> StackConfig {
    StackConfig {
        half_open: 4,
        time_wait: 4,
        receive_buffer: 1 << 18,
        congestion,
        pacing: Some(PacingConfig::default()),
        ecn,
        keep_alive: Some(KeepAlive {
            idle: Duration::from_secs(7),
            interval: Duration::from_secs(1),
            // So many are not lost by chance, one after the other: three were.
            probes: 10,
        }),
        ..StackConfig::new(2, [7; 16], Secret::new([9; 32]))
    }
}

impl World {
    fn new(scenario: &Scenario, is_restless: bool) -> World {
        let side = || {
            let mut stack = Stack::new(config(scenario.congestion, scenario.ecn), START);
            stack.slots.is_restless = is_restless;
            Side {
                stack,
                conn: None,
                supplied: 0,
                rested: 0,
            }
        };
        let mut world = World {
            now: START,
            sides: [side(), side()],
            wire: BTreeMap::new(),
            random: scenario.seed | 1,
            loss: scenario.loss,
            marks: scenario.marks,
            said: Vec::new(),
        };
        let key = FlowKey::new(CLIENT, 4000, SERVER, 80);
        let conn = world.sides[0].stack.connect(key, START);
        world.sides[0].conn = Some(conn.expect("a free tuple"));
        world
    }

    fn chance(&mut self, of_thousand: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < of_thousand
    }

    fn supply(&mut self, side: usize, bytes: u64) {
        let side = &mut self.sides[side];
        side.supplied += bytes;
        if let Some(conn) = side.conn {
            side.stack.supply(conn, side.supplied, false);
        }
    }

    fn turn(&mut self) {
        let now = self.now;
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= now) {
            let (to, said, ecn) = entry.remove();
            let (local, remote) = if to == 0 {
                (CLIENT, SERVER)
            } else {
                (SERVER, CLIENT)
            };
            let segment = Segment {
                key: FlowKey::new(local, said.header.dst_port, remote, said.header.src_port),
                ecn,
                header: &said.header,
                payload_len: u32::try_from(said.payload.end - said.payload.start)
                    .expect("a segment"),
            };
            let receipt = self.sides[to].stack.on_segment(now, &segment);
            if let Some(header) = receipt.reply {
                self.say(to, header, 0..0, false);
            }
        }
        for index in 0..2 {
            let side = &mut self.sides[index];
            side.stack.on_timers(now);
            while let Some((conn, events)) = side.stack.poll_event() {
                assert_eq!(events.closed, None);
                side.conn = Some(conn);
                let delivered = side.stack.delivered(conn);
                side.stack.consume(conn, delivered);
                let pending = side.supplied;
                side.stack.supply(conn, pending, false);
            }
            while let Some(out) = self.sides[index].stack.poll_transmit(now) {
                self.say(index, out.header, out.payload, out.ect);
            }
            let side = &mut self.sides[index];
            side.rested += u64::from(side.conn.is_some() && side.stack.awake() == 0);
        }
    }

    fn say(&mut self, side: usize, header: TcpHeader, payload: core::ops::Range<u64>, ect: bool) {
        let from = &self.sides[side];
        let said = Said {
            at: self.now,
            side,
            header,
            payload,
            ect,
            view: from.conn.and_then(|conn| from.stack.control_view(conn)),
        };
        self.said.push(said.clone());
        if self.chance(self.loss) {
            return;
        }
        let ecn = match said.ect {
            true if self.chance(self.marks) => Ecn::Ce,
            true => Ecn::Ect0,
            false => Ecn::NotEct,
        };
        let order = self.said.len();
        self.wire
            .insert((self.now + DELAY, order), (1 - side, said, ecn));
    }

    /// Runs until `until`.
    fn run(&mut self, until: Instant) {
        loop {
            self.turn();
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let timers = self
                .sides
                .iter()
                .filter_map(|side| side.stack.next_deadline());
            let next = timers.chain(arrival).min().filter(|next| *next < until);
            match next {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = until;
    }
}

/// Everything said, and in how many turns each side rested.
fn play(scenario: &Scenario, is_restless: bool) -> (Vec<Said>, [u64; 2]) {
    let mut world = World::new(scenario, is_restless);
    for exchange in &scenario.exchanges {
        let until = world.now + Duration::from_millis(exchange.pause_ms);
        world.run(until);
        world.supply(0, exchange.request);
        world.turn();
        let until = world.now + DELAY * 2;
        world.run(until);
        world.supply(1, exchange.response);
        world.turn();
    }
    let until = world.now + Duration::from_secs(30);
    world.run(until);
    let acknowledged = world.sides.each_ref().map(|side| {
        let view = side.conn.and_then(|conn| side.stack.send_view(conn));
        (view.map(|view| view.acknowledged), side.supplied)
    });
    for (acknowledged, supplied) in acknowledged {
        assert_eq!(acknowledged, Some(supplied));
    }
    let rested = world.sides.each_ref().map(|side| side.rested);
    (world.said, rested)
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let pause = prop_oneof![1u64..50, 150u64..500, 900u64..9_000];
    let size = prop_oneof![1u64..2_000, 5_000u64..400_000];
    (pause, 0u64..3_000, size).prop_map(|(pause_ms, request, response)| Exchange {
        pause_ms,
        request,
        response,
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (
        prop::sample::select(Algorithm::ALL.to_vec()),
        any::<u64>(),
        prop::sample::select(vec![EcnConfig::OFFER, CLASSIC, EcnConfig::OFF]),
        prop_oneof![Just(0u64), Just(15u64)],
        prop_oneof![Just(0u64), Just(30u64)],
        prop::collection::vec(exchange(), 1..8),
    )
        .prop_map(|(congestion, seed, ecn, loss, marks, exchanges)| Scenario {
            congestion,
            seed,
            ecn,
            loss,
            marks,
            exchanges,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nobody_can_tell_a_connection_that_rested(scenario in scenario()) {
        let (resting, _) = play(&scenario, false);
        let (restless, rested) = play(&scenario, true);
        prop_assert_eq!(rested, [0, 0]);
        for (one, other) in resting.iter().zip(&restless) {
            prop_assert_eq!(one, other);
        }
        prop_assert_eq!(resting.len(), restless.len());
    }
}

#[test]
fn both_sides_rest_between_exchanges_and_wake_for_the_next() {
    let exchange = Exchange {
        pause_ms: 5_000,
        request: 100,
        response: 50_000,
    };
    for congestion in Algorithm::ALL {
        let scenario = Scenario {
            congestion,
            seed: 1,
            ecn: EcnConfig::OFFER,
            loss: 0,
            marks: 0,
            exchanges: vec![exchange; 3],
        };
        let (_, rested) = play(&scenario, false);
        assert!(
            rested.iter().all(|turns| *turns >= 3),
            "{congestion:?}: {rested:?}"
        );
    }
}

#[test]
fn a_connection_at_rest_is_small() {
    // Paid a million times: grows only with a reason. 28 of them are the counters of AccECN and 42 the record, which
    // last as long as the connection does.
    let size = size_of::<Resting>();
    assert!(size <= 272, "{size} bytes");
}
