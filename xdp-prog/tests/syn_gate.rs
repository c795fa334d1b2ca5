//! The SYN gate by the kernel's test-run call: what passes, what is dropped, and what refills.
//!
//! The buckets refill by the clock of the kernel, so the rates of a test are far below what its own calls take.

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_xdp_prog::{Reason, SteerConfig, SynGate};
use support::frames::{HOP_BY_HOP, TPID_8021Q, options, syn, tcp};
use support::namespace::in_namespace;
use support::run::Rig;
use support::tables::{foreign_traffic, good_segments, ours_but_unfit, v4, v6};
use support::{PORT, config};

/// A burst of 5 per source and of 20 per queue: one more after 50 ms, or 12.5 ms.
const GATE: SynGate = SynGate {
    per_queue: 80,
    per_source: 20,
    repeats: 1,
};
const SOURCE_BURST: usize = 5;
const QUEUE_BURST: usize = 20;

/// Hardly anything for a source, and no limit for all.
const SLOW: SynGate = SynGate {
    per_queue: 10_000_000,
    per_source: 8,
    ..GATE
};

fn armed() -> Rig {
    let rig = Rig::serving(&config());
    rig.steer.set_syn_gate(Some(GATE)).unwrap();
    rig
}

fn syn_from(src: [u8; 4]) -> Vec<u8> {
    v4(|p| (p.src, p.body) = (src, syn(PORT)))
}

fn syn_from_v6(net: u8, host: u8) -> Vec<u8> {
    v6(|p| {
        (p.src[7], p.src[15]) = (net, host);
        p.body = syn(PORT);
    })
}

fn passed(rig: &Rig, frame: &[u8], tries: usize) -> usize {
    (0..tries)
        .filter(|_| rig.reason(frame) == Reason::Tcp)
        .count()
}

#[test]
fn a_disarmed_gate_lets_every_syn_pass() {
    in_namespace(|| {
        let rig = Rig::serving(&config());
        assert_eq!(passed(&rig, &syn_from([203, 0, 113, 1]), 200), 200);
    });
}

#[test]
fn the_syn_after_the_burst_of_its_source_is_dropped_by_name() {
    in_namespace(|| {
        let rig = armed();
        let frame = syn_from([203, 0, 113, 1]);
        assert_eq!(passed(&rig, &frame, SOURCE_BURST), SOURCE_BURST);
        assert_eq!(rig.reason(&frame), Reason::SynSourceRate);
    });
}

#[test]
fn a_source_is_a_24_of_ipv4_and_a_64_of_ipv6() {
    in_namespace(|| {
        let rig = armed();
        assert_eq!(passed(&rig, &syn_from([203, 0, 113, 1]), 9), SOURCE_BURST);
        let neighbour = syn_from([203, 0, 113, 200]);
        assert_eq!(rig.reason(&neighbour), Reason::SynSourceRate);
        assert_eq!(rig.reason(&syn_from([203, 0, 114, 1])), Reason::Tcp);
        assert_eq!(passed(&rig, &syn_from_v6(1, 1), 9), SOURCE_BURST);
        assert_eq!(rig.reason(&syn_from_v6(1, 2)), Reason::SynSourceRate);
        assert_eq!(rig.reason(&syn_from_v6(2, 1)), Reason::Tcp);
    });
}

#[test]
fn the_64_of_the_same_bytes_as_a_24_is_another_source() {
    in_namespace(|| {
        let rig = armed();
        assert_eq!(passed(&rig, &syn_from([203, 1, 113, 1]), 9), SOURCE_BURST);
        let alike = v6(|p| {
            p.src[..8].copy_from_slice(&[203, 1, 113, 0, 0, 0, 0, 0]);
            p.body = syn(PORT);
        });
        assert_eq!(rig.reason(&alike), Reason::Tcp);
    });
}

#[test]
fn a_source_that_spent_its_burst_is_not_forgotten_for_a_thousand_others() {
    in_namespace(|| {
        let rig = Rig::serving(&config());
        // A burst of 2, and one more after 125 ms. Until then who spent two owes more than who spent one.
        rig.steer.set_syn_gate(Some(SLOW)).unwrap();
        let flood = syn_from([198, 51, 100, 1]);
        let begun = Instant::now();
        assert_eq!(passed(&rig, &flood, 2), 2);
        for net in 0..1000u16 {
            let [high, low] = net.to_be_bytes();
            rig.verdict(&syn_from([11, high, low, 1]), 0);
        }
        let verdict = rig.reason(&flood);
        is_quick(begun);
        assert_eq!(verdict, Reason::SynSourceRate);
    });
}

#[test]
fn neighbouring_networks_have_buckets_of_their_own() {
    in_namespace(|| {
        let rig = Rig::serving(&config());
        rig.steer.set_syn_gate(Some(SLOW)).unwrap();
        let begun = Instant::now();
        // In turn, so that three in one set of two would forget one another each time.
        let all = (0..60).map(|turn| syn_from_v6(turn % 3, 1));
        let through = all.filter(|syn| rig.reason(syn) == Reason::Tcp).count();
        is_quick(begun);
        assert_eq!(through, 3 * 2);
    });
}

/// Before anything was earned by the rate of [`SLOW`].
fn is_quick(begun: Instant) {
    assert!(
        begun.elapsed() < Duration::from_millis(110),
        "the machine is too slow for this test: {:?}",
        begun.elapsed()
    );
}

#[test]
fn the_syn_after_the_burst_of_its_queue_is_dropped_by_name() {
    in_namespace(|| {
        let rig = armed();
        let reasons: Vec<_> = (0..200)
            .map(|net| rig.reason(&syn_from([203, 0, net, 1])))
            .collect();
        let passed = reasons.iter().filter(|reason| **reason == Reason::Tcp);
        // The calls take some time themselves, in which the bucket refills.
        assert!((QUEUE_BURST..QUEUE_BURST + 40).contains(&passed.count()));
        assert!(
            reasons[..QUEUE_BURST]
                .iter()
                .all(|reason| *reason == Reason::Tcp)
        );
        assert!(reasons.contains(&Reason::SynRate));
        assert!(!reasons.contains(&Reason::SynSourceRate));
    });
}

#[test]
fn queues_have_their_own_buckets() {
    in_namespace(|| {
        let rig = armed();
        while rig.reason(&syn_from([203, 0, 0, 1])) == Reason::Tcp {}
        let mut net = 0;
        while rig.reason(&syn_from([203, 1, net, 1])) == Reason::Tcp {
            net += 1;
        }
        let frame = syn_from([203, 2, 0, 1]);
        assert_eq!(rig.reason_on_queue(&frame, 1), Reason::Tcp);
    });
}

#[test]
fn what_is_dropped_by_its_source_costs_the_queue_nothing() {
    in_namespace(|| {
        let rig = armed();
        let flood = syn_from([203, 0, 113, 1]);
        for _ in 0..100 {
            rig.reason(&flood);
        }
        assert_eq!(rig.reason(&syn_from([192, 0, 2, 77])), Reason::Tcp);
    });
}

#[test]
fn everything_that_is_no_syn_passes_an_armed_gate() {
    in_namespace(|| {
        let rig = armed();
        let flood = syn_from([198, 51, 100, 9]);
        while rig.reason(&flood) == Reason::Tcp {}
        // The tables' segments are ACKs of that source.
        for _ in 0..5 {
            rig.check(&good_segments());
        }
        for flags in [0x10, 0x12, 0x18, 0x11, 0x04, 0x14] {
            let frame = v4(|p| p.body[13] = flags);
            assert_eq!(rig.reason(&frame), Reason::Tcp, "flags {flags:#x}");
        }
        rig.check(&foreign_traffic());
        rig.check(&ours_but_unfit());
        let elsewhere = v4(|p| p.body = syn(22));
        assert_eq!(rig.reason(&elsewhere), Reason::NotLocal);
    });
}

#[test]
fn syns_behind_extension_headers_and_tags_are_gated_too() {
    in_namespace(|| {
        let rig = Rig::serving(&SteerConfig {
            vlan: true,
            ..config()
        });
        rig.steer.set_syn_gate(Some(GATE)).unwrap();
        let extended = v6(|p| {
            p.extensions = vec![options(HOP_BY_HOP, 1)];
            p.body = syn(PORT);
        });
        assert_eq!(passed(&rig, &extended, 20), SOURCE_BURST);
        let tagged = v4(|p| (p.tags, p.body) = (vec![(TPID_8021Q, 5)], syn(PORT)));
        assert_eq!(passed(&rig, &tagged, 20), SOURCE_BURST);
        // The same source without the tag.
        let plain = v4(|p| p.body = syn(PORT));
        assert_eq!(rig.reason(&plain), Reason::SynSourceRate);
    });
}

#[test]
fn a_syn_behind_more_than_two_extension_headers_does_not_pass_an_armed_gate() {
    in_namespace(|| {
        let rig = armed();
        let behind = |headers: usize| {
            v6(|p| {
                p.extensions = vec![options(HOP_BY_HOP, 0); headers];
                p.body = syn(PORT);
            })
        };
        assert_eq!(rig.reason(&behind(2)), Reason::Tcp);
        assert_eq!(rig.reason(&behind(3)), Reason::SynRate);
        rig.steer.set_syn_gate(None).unwrap();
        assert_eq!(rig.reason(&behind(8)), Reason::Tcp);
    });
}

#[test]
fn a_bucket_refills_with_time() {
    in_namespace(|| {
        let rig = armed();
        let frame = syn_from([203, 0, 113, 1]);
        while rig.reason(&frame) == Reason::Tcp {}
        sleep(Duration::from_millis(60));
        assert_eq!(rig.reason(&frame), Reason::Tcp);
        assert_eq!(rig.reason(&frame), Reason::SynSourceRate);
        sleep(Duration::from_millis(400));
        assert_eq!(passed(&rig, &frame, SOURCE_BURST), SOURCE_BURST);
        assert_eq!(
            rig.reason(&frame),
            Reason::SynSourceRate,
            "not more than a burst"
        );
    });
}

#[test]
fn disarming_takes_effect_at_once_and_leaves_the_service_enabled() {
    in_namespace(|| {
        let rig = armed();
        let frame = syn_from([203, 0, 113, 1]);
        while rig.reason(&frame) == Reason::Tcp {}
        rig.steer.set_syn_gate(None).unwrap();
        assert_eq!(passed(&rig, &frame, 50), 50);
        rig.steer.remove_socket(0).unwrap();
        assert_eq!(rig.reason(&frame), Reason::NoSocket, "still enabled");
    });
}

#[test]
fn a_syn_of_a_burst_is_not_charged_twice_by_its_payload() {
    // Data on a SYN is legal (RFC 9293 section 3.4) and one SYN still.
    in_namespace(|| {
        let rig = armed();
        let mut body = tcp(PORT, 5, 100);
        body[13] = 0x02;
        let frame = v4(|p| p.body = body);
        assert_eq!(passed(&rig, &frame, 20), SOURCE_BURST);
    });
}
