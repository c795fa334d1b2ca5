//! What a frame costs by the class of its verdict, the gate with all its lookups included. The goal is 300 ns, which the
//! worst class keeps by a few per cent on the machine it was set on; others are slower, so only twice as much fails.
//!
//! The best of several means is taken: whatever else the machine does only adds to a run. Caches are warm, so a flood
//! from everywhere pays a cache miss or two more.

mod support;

use sluice_xdp_prog::SynGate;
use support::frames::{HOP_BY_HOP, ICMP, ICMPV6, ROUTING, icmp_error, options, syn};
use support::namespace::in_namespace;
use support::run::Rig;
use support::tables::{v4, v6};
use support::{SERVED_V4, SERVED_V6, config};

const GOAL_NS: u32 = 300;
const LIMIT_NS: u32 = 2 * GOAL_NS;
const BATCHES: u32 = 40;
const RUNS: u32 = 2000;

#[test]
fn no_class_of_frames_costs_twice_the_goal() {
    in_namespace(|| {
        let rig = Rig::serving(&config());
        // After the first SYN its source has nothing left and the queue has: every other one takes all steps of the gate.
        let gate = SynGate {
            per_queue: 1_000_000,
            per_source: 1,
            repeats: 1,
        };
        rig.steer.set_syn_gate(Some(gate)).unwrap();
        let extensions: Vec<_> = (0..8).map(|_| options(HOP_BY_HOP, 2)).collect();
        let classes = [
            ("segment over IPv4", v4(|_| {})),
            ("segment over IPv6", v6(|_| {})),
            ("SYN over IPv4", v4(|p| p.body = syn(support::PORT))),
            ("SYN over IPv6", v6(|p| p.body = syn(support::PORT))),
            (
                "SYN behind 8 extension headers",
                v6(|p| (p.extensions, p.body) = (extensions.clone(), syn(support::PORT))),
            ),
            (
                "SYN behind 2 extension headers",
                v6(|p| (p.extensions, p.body) = (extensions[..2].to_vec(), syn(support::PORT))),
            ),
            (
                "segment behind 8 extension headers",
                v6(|p| p.extensions = extensions.clone()),
            ),
            ("fragment", v4(|p| p.fragment = 0x2000)),
            (
                "routing header",
                v6(|p| p.extensions = vec![(ROUTING, vec![0; 8])]),
            ),
            (
                "ICMP error over IPv4",
                v4(|p| (p.protocol, p.body) = (ICMP, icmp_error(3, 4, &SERVED_V4, support::PORT))),
            ),
            (
                "ICMP error over IPv6",
                v6(|p| {
                    (p.protocol, p.body) = (ICMPV6, icmp_error(2, 0, &SERVED_V6, support::PORT))
                }),
            ),
            (
                "ICMP error behind 8 extension headers",
                v6(|p| {
                    p.extensions = extensions.clone();
                    (p.protocol, p.body) = (ICMPV6, icmp_error(2, 0, &SERVED_V6, support::PORT));
                }),
            ),
        ];
        let mut costs = Vec::new();
        for (name, frame) in &classes {
            let best = (0..BATCHES)
                .map(|_| rig.cost_ns(frame, RUNS))
                .min()
                .unwrap();
            println!("{name}: {best} ns of {GOAL_NS}");
            costs.push((name, best));
        }
        costs.retain(|(_, best)| *best > LIMIT_NS);
        assert!(costs.is_empty(), "over {LIMIT_NS} ns: {costs:?}");
    });
}
