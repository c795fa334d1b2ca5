//! What a seed means: the connections, the path, and the habits of both ends.

use core::time::Duration;

use sluice_tcp::Autotune;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::skip::SkipConfig;

use crate::chance::{Chance, PARTS};
use crate::client::{Ending, Plan};
use crate::link::{Conditions, Narrow};

/// Four time-outs of a client in a row and two of ours.
const STALL_MAX: Duration = Duration::from_secs(150);
/// Longest bad phase of a path.
const BURST_MAX: Duration = Duration::from_millis(500);
const PERCENT: u32 = PARTS / 100;

/// Everything that a seed decides before the first segment.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub plans: Vec<Plan>,
    pub up: Conditions,
    pub down: Conditions,
    pub congestion: Algorithm,
    /// Receive buffer of our connections in bytes.
    pub receive_buffer: u32,
    /// Whether windows and flights follow the path, and within which budgets.
    pub autotune: Option<Autotune>,
    /// Bytes our driver reads every 50 ms; all at once if zero.
    pub server_reads: u32,
    /// Our driver holds only what the stack wants, and lets go of what it does not want any more.
    pub lean: bool,
    /// Segments our driver sends in a turn at most, as if its ring were short.
    pub turn_segments: u32,
    /// How long segments wait for company before the driver has its turn.
    pub batch: Duration,
    /// Our driver asks for runs of segments.
    pub runs: bool,
    /// What connections show of themselves is part of the trace.
    pub is_watched: bool,
    /// What arrives before a turn is taken in it, and acknowledgements in a row as one.
    pub merges: bool,
    /// Whether and when clients are tested for optimistic acknowledgements.
    pub skip: Option<SkipConfig>,
    /// Segments of an attacker per million of the client's.
    pub forged: u32,
    /// "Packet too big" messages of a liar per million of the client's segments.
    pub lies: u32,
    /// Turns of our driver per million that come up to three seconds late, as after a SIGSTOP.
    pub pauses: u32,
    /// Connections in SYN-RECEIVED at once.
    pub half_open: u32,
    /// How often every tuple is used.
    pub rounds: u32,
    /// A connection that is not done moves bytes at least this often.
    pub stall_max: Duration,
}

impl Scenario {
    pub fn of(seed: u64) -> Scenario {
        let chance = &mut Chance::new(seed);
        let flows = chance.pick(&[1, 1, 2, 4, 16, 64]);
        let kind = chance.range(0..8);
        let up = conditions(kind, chance);
        let mut scenario = Scenario {
            plans: (0..flows).map(|_| plan(flows, chance)).collect(),
            up,
            down: up,
            congestion: chance.pick(&[Algorithm::Cubic, Algorithm::NewReno]),
            receive_buffer: chance.pick(&[1000, 16 << 10, 65_535, 1 << 20]),
            autotune: None,
            server_reads: chance.pick(&[0, 0, 0, 4000, 20_000]),
            lean: chance.hit(PARTS / 2),
            turn_segments: chance.pick(&[u32::MAX, u32::MAX, 1, 16]),
            batch: chance.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_micros(300)]),
            forged: chance.pick(&[0, 0, 2 * PERCENT]),
            lies: 0,
            pauses: chance.pick(&[0, 0, 0, 1000]),
            half_open: chance.pick(&[160, 160, 160, 8]),
            rounds: chance.pick(&[1, 1, 3]),
            merges: false,
            skip: None,
            runs: false,
            is_watched: false,
            stall_max: STALL_MAX,
        };
        if scenario.half_open < flows {
            // Clients that vanished keep their places for a minute, and others wait for them.
            scenario.stall_max = Duration::from_secs(600);
        }
        // One direction in four is another path.
        if chance.hit(PARTS / 4) {
            scenario.down = conditions(chance.range(0..8), chance);
        }
        if chance.hit(PARTS / 4) {
            scenario.down.narrow = Some(narrow(chance));
        }
        scenario.lies = chance.pick(&[0, 0, 0, 5 * PERCENT]);
        // Last, so that older seeds keep their paths and connections.
        if chance.hit(PARTS / 2) {
            scenario.autotune = Some(Autotune {
                receive_max: chance.pick(&[0, 65_535, 1 << 20, 1 << 30]),
                receive_budget: chance.pick(&[0, 10_000, 1 << 20, 1 << 30]),
                send_budget: chance.pick(&[0, 10_000, 1 << 20, 1 << 30]),
            });
        }
        if chance.hit(PARTS / 2) {
            scenario.skip = Some(SkipConfig {
                rate: 1,
                interval: 10_000,
            });
        }
        scenario.runs = chance.hit(PARTS / 2);
        scenario.merges = chance.hit(PARTS / 2);
        // Half of the seeds keep the controller they had, and others have one that is driven by rate or by marks.
        if chance.hit(PARTS / 2) {
            scenario.congestion = chance.pick(&[Algorithm::Bbr, Algorithm::Dctcp]);
        }
        scenario.down.mark = chance.pick(&[0, PERCENT / 10, PERCENT, 20 * PERCENT]);
        for plan in &mut scenario.plans {
            plan.ecn = chance.hit(PARTS / 2);
        }
        scenario
    }

    /// The same connections over a path that loses nothing, and nobody aborts.
    pub fn clean(seed: u64) -> Scenario {
        let mut scenario = Scenario::of(seed);
        let delay = scenario.up.delay;
        let clean = Conditions {
            delay,
            ..Conditions::default()
        };
        (scenario.up, scenario.down) = (clean, clean);
        (scenario.forged, scenario.lies) = (0, 0);
        (scenario.pauses, scenario.half_open) = (0, 160);
        for plan in &mut scenario.plans {
            if matches!(plan.ending, Ending::Abort(_) | Ending::Vanish(_)) {
                plan.ending = Ending::ServerFirst;
            }
            (plan.shrinks, plan.reneges) = (false, false);
        }
        scenario
    }

    /// One download of `bytes` over a path of 100 Mbit/s with a queue of one round trip, and of 64 packets at least.
    pub fn download(
        congestion: Algorithm,
        bytes: u64,
        loss: u32,
        round_trip: Duration,
    ) -> Scenario {
        let rate = 12_500_000;
        let in_flight = rate * u64::try_from(round_trip.as_millis()).unwrap_or(0) / 1000;
        let path = Conditions {
            delay: round_trip / 2,
            ..Conditions::default()
        };
        let plan = Plan {
            request: 100,
            response: bytes,
            ending: Ending::ServerFirst,
            mss: 1460,
            window_scale: Some(7),
            sack: true,
            timestamps: true,
            receive_buffer: 4 << 20,
            read_slowly: 0,
            shrinks: false,
            optimistic: 0,
            ecn: false,
            reneges: false,
        };
        Scenario {
            plans: vec![plan],
            up: path,
            down: Conditions {
                loss,
                rate,
                buffer: in_flight.max(64 * 1500),
                ..path
            },
            congestion,
            receive_buffer: 1 << 20,
            autotune: None,
            server_reads: 0,
            lean: false,
            turn_segments: u32::MAX,
            batch: Duration::ZERO,
            merges: false,
            skip: None,
            runs: false,
            is_watched: false,
            forged: 0,
            lies: 0,
            pauses: 0,
            half_open: 160,
            rounds: 1,
            stall_max: STALL_MAX,
        }
    }

    /// The same connections over a path that loses nothing but what is too big for it, from its begin on. With `told`
    /// its router says so.
    pub fn narrow(seed: u64, told: bool) -> Scenario {
        let mut scenario = Scenario::clean(seed);
        let chance = &mut Chance::new(seed ^ 0x2a);
        scenario.down.narrow = Some(Narrow {
            after: Duration::ZERO,
            told: if told { PARTS } else { 0 },
            ..narrow(chance)
        });
        scenario
    }

    /// A client that acknowledges `lead` segments more than it has, over a path that loses nothing.
    pub fn optimist(lead: u64, sack: bool) -> Scenario {
        let round_trip = Duration::from_millis(40);
        let mut scenario = Scenario::download(Algorithm::Cubic, 4 << 20, 0, round_trip);
        scenario.skip = Some(SkipConfig {
            rate: 1,
            interval: 50_000,
        });
        let plan = &mut scenario.plans[0];
        (plan.optimistic, plan.sack) = (lead, sack);
        // It is over when it is reset.
        plan.ending = Ending::Vanish(u64::MAX);
        scenario
    }

    /// A path at the edge of what TCP can be used on: 30 % loss, 20 % reordered, duplicates, damage.
    pub fn terrible(seed: u64) -> Scenario {
        let mut scenario = Scenario::of(seed);
        let terrible = Conditions {
            delay: scenario.up.delay.min(Duration::from_millis(20)),
            loss: 30 * PERCENT,
            reorder: (20 * PERCENT, Duration::from_millis(30)),
            duplicate: 10 * PERCENT,
            corrupt: PERCENT / 10,
            ..Conditions::default()
        };
        (scenario.up, scenario.down) = (terrible, terrible);
        scenario.plans.truncate(4);
        for plan in &mut scenario.plans {
            // The client asks again until it hears something; one that only listens could wait for ever.
            plan.request = plan.request.clamp(1, 20_000);
            // Whoever takes its window back has 120 s (RFC 6429), in which such a path can lose every answer.
            plan.shrinks = false;
            plan.response = plan.response.min(40_000);
            plan.ending = match plan.ending {
                Ending::Abort(_) | Ending::Vanish(_) => Ending::ServerFirst,
                other => other,
            };
        }
        scenario.stall_max = Duration::from_secs(900);
        scenario
    }
}

fn conditions(kind: u64, chance: &mut Chance) -> Conditions {
    let delay = chance.pick(&[0, 50, 1000, 20_000, 100_000]);
    let delay = Duration::from_micros(delay);
    let base = Conditions {
        delay,
        ..Conditions::default()
    };
    let some = |chance: &mut Chance, most: u32| chance.word() % (most * PERCENT);
    let late = delay.max(Duration::from_millis(1)) * 3;
    match kind {
        0 => base,
        1 => Conditions {
            loss: some(chance, 5),
            ..base
        },
        2 => Conditions {
            burst: (some(chance, 1), chance.duration(BURST_MAX)),
            ..base
        },
        3 => Conditions {
            reorder: (some(chance, 20), late),
            ..base
        },
        4 => Conditions {
            duplicate: some(chance, 20),
            jitter: delay,
            ..base
        },
        5 => Conditions {
            rate: 125_000 * chance.range(1..100),
            buffer: 1500 * chance.range(5..100),
            ..base
        },
        6 => Conditions {
            loss: some(chance, 5),
            reorder: (some(chance, 10), late),
            duplicate: some(chance, 10),
            corrupt: some(chance, 1),
            jitter: delay / 2,
            ..base
        },
        _ => Conditions {
            loss: some(chance, 2),
            burst: (some(chance, 1), chance.duration(BURST_MAX)),
            reorder: (some(chance, 5), late),
            duplicate: some(chance, 5),
            rate: 125_000 * chance.range(1..100),
            buffer: 1500 * chance.range(10..100),
            jitter: delay / 4,
            corrupt: 1000,
            ..base
        },
    }
}

fn narrow(chance: &mut Chance) -> Narrow {
    let later = chance.duration(Duration::from_secs(2));
    Narrow {
        // IPv6 needs 1,280.
        mtu: chance.pick(&[1492, 1420, 1400, 1300, 1280]),
        after: chance.pick(&[Duration::ZERO, later]),
        told: chance.pick(&[0, PARTS / 2, PARTS]),
    }
}

fn plan(flows: u32, chance: &mut Chance) -> Plan {
    let large = if flows > 4 { 60_000 } else { 600_000 };
    let request = size(large, chance);
    let response = size(large, chance);
    let ending = match chance.range(0..10) {
        0..4 => Ending::ServerFirst,
        4..6 => Ending::HalfClose,
        6..8 => Ending::ClientLast,
        8 => Ending::Abort(chance.range(0..response + 1)),
        _ => Ending::Vanish(chance.range(0..response + 1)),
    };
    Plan {
        request,
        response,
        ending,
        mss: chance.pick(&[216, 536, 1460, 1460, 1460]),
        window_scale: chance.pick(&[None, Some(0), Some(7)]),
        sack: chance.hit(PARTS / 3 * 2),
        timestamps: chance.hit(PARTS / 3 * 2),
        receive_buffer: chance.pick(&[2000, 20_000, 65_535, 500_000]),
        read_slowly: chance.pick(&[0, 0, 0, 3000, 30_000]),
        shrinks: chance.hit(PARTS / 10),
        optimistic: 0,
        ecn: false,
        reneges: chance.hit(PARTS / 10),
    }
}

fn size(large: u64, chance: &mut Chance) -> u64 {
    let most = chance.pick(&[0, 1, 200, 1460, 10_000, large]);
    chance.range(0..most + 1)
}
