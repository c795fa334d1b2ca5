//! The memory of the SYN gate by the kernel's test-run call: a SYN that was dropped passes when it comes again.
//!
//! What counts as coming again is a matter of seconds by the clock of the kernel, so these tests wait.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_xdp_prog::{Reason, SteerConfig, SynGate, Verdict};
use support::frames::{HOP_BY_HOP, TPID_8021Q, options, syn};
use support::namespace::in_namespace;
use support::run::Rig;
use support::tables::{v4, v6};
use support::{PORT, PORT_V4_ONLY, QUEUES, config};

/// One SYN per second and queue; those that come again have as much as they want.
const GATE: SynGate = SynGate {
    per_queue: 1,
    per_source: 1_000_000,
    repeats: 1_000_000,
};
/// After which clients repeat a SYN (RFC 6298 section 2.1).
const REPEAT: Duration = Duration::from_millis(1000);

/// A program whose gate has no SYN left that is not a repetition.
fn shut(config: &SteerConfig, gate: SynGate) -> Rig {
    let rig = Rig::serving(config);
    rig.steer.set_syn_gate(Some(gate)).unwrap();
    shut_again(&rig);
    rig
}

/// Takes what the buckets of all queues have gained: for the next second nothing passes them.
fn shut_again(rig: &Rig) {
    // None of them comes again.
    static NUMBER: AtomicU32 = AtomicU32::new(1 << 31);
    let other = || syn_of(40_000, NUMBER.fetch_add(1, Ordering::Relaxed), PORT);
    for queue in 0..QUEUES {
        while rig.verdict(&other(), queue) == Verdict::Redirect {}
    }
}

/// Lets a second pass; what comes now is new to the buckets or a repetition.
fn a_second_later(rig: &Rig) {
    sleep(REPEAT);
    shut_again(rig);
}

/// A SYN with this sequence number from this port to that one.
fn syn_of(from: u16, seq: u32, to: u16) -> Vec<u8> {
    let mut body = syn(to);
    body[..2].copy_from_slice(&from.to_be_bytes());
    body[4..8].copy_from_slice(&seq.to_be_bytes());
    v4(|p| p.body = body)
}

#[test]
fn a_dropped_syn_passes_when_it_comes_again_after_a_second() {
    in_namespace(|| {
        let rig = shut(&config(), GATE);
        let frame = syn_of(50_000, 7, PORT);
        assert_eq!(rig.reason(&frame), Reason::SynRate);
        a_second_later(&rig);
        assert_eq!(rig.reason(&frame), Reason::SynAgain);
        assert_eq!(rig.reason(&frame), Reason::SynRate, "not as a flood");
        a_second_later(&rig);
        assert_eq!(rig.reason(&frame), Reason::SynAgain, "its answer was lost");
    });
}

#[test]
fn a_syn_that_its_source_network_spent_is_remembered_too() {
    in_namespace(|| {
        let gate = SynGate {
            per_queue: 1_000_000,
            per_source: 1,
            ..GATE
        };
        let rig = Rig::serving(&config());
        rig.steer.set_syn_gate(Some(gate)).unwrap();
        // The neighbour comes first every time.
        let neighbour = syn_of(40_000, 1, PORT);
        let frame = syn_of(50_000, 7, PORT);
        while rig.reason(&neighbour) == Reason::Tcp {}
        assert_eq!(rig.reason(&frame), Reason::SynSourceRate);
        sleep(REPEAT);
        while rig.reason(&neighbour) == Reason::Tcp {}
        assert_eq!(rig.reason(&frame), Reason::SynAgain);
    });
}

#[test]
fn a_syn_that_comes_again_too_soon_is_dropped_and_keeps_its_time() {
    in_namespace(|| {
        let rig = shut(&config(), GATE);
        let frame = syn_of(50_000, 7, PORT);
        assert_eq!(rig.reason(&frame), Reason::SynRate);
        sleep(REPEAT / 2);
        assert_eq!(rig.reason(&frame), Reason::SynRate);
        sleep(REPEAT / 2);
        shut_again(&rig);
        assert_eq!(rig.reason(&frame), Reason::SynAgain);
    });
}

#[test]
fn a_syn_is_forgotten_after_four_seconds() {
    in_namespace(|| {
        let rig = shut(&config(), GATE);
        let frame = syn_of(50_000, 7, PORT);
        assert_eq!(rig.reason(&frame), Reason::SynRate);
        sleep(Duration::from_millis(4100));
        shut_again(&rig);
        assert_eq!(rig.reason(&frame), Reason::SynRate);
        a_second_later(&rig);
        assert_eq!(rig.reason(&frame), Reason::SynAgain, "remembered anew");
    });
}

#[test]
fn only_the_same_ports_addresses_and_sequence_number_are_the_same_syn() {
    in_namespace(|| {
        let rig = shut(&config(), GATE);
        let frame = syn_of(50_000, 7, PORT);
        assert_eq!(rig.reason(&frame), Reason::SynRate);
        a_second_later(&rig);
        for other in [
            syn_of(50_001, 7, PORT),
            syn_of(50_000, 8, PORT),
            syn_of(50_000, 7, PORT_V4_ONLY),
            v4(|p| {
                p.src[3] ^= 1;
                p.body[..8].copy_from_slice(&frame[34..42]);
                p.body[13] = 0x02;
            }),
        ] {
            assert_eq!(rig.reason(&other), Reason::SynRate);
        }
        assert_eq!(rig.reason(&frame), Reason::SynAgain);
    });
}

#[test]
fn every_byte_of_an_ipv6_source_counts() {
    in_namespace(|| {
        let rig = shut(&config(), GATE);
        let from = |at: usize, byte: u8| {
            v6(|p| {
                p.src[at] ^= byte;
                p.body = syn(PORT);
            })
        };
        assert_eq!(rig.reason(&from(0, 0)), Reason::SynRate);
        a_second_later(&rig);
        for at in 1..16 {
            assert_eq!(rig.reason(&from(at, 1)), Reason::SynRate, "byte {at}");
        }
        assert_eq!(rig.reason(&from(0, 0)), Reason::SynAgain);
    });
}

#[test]
fn a_syn_may_come_again_on_another_queue_behind_tags_or_extension_headers() {
    in_namespace(|| {
        let tagging = SteerConfig {
            vlan: true,
            ..config()
        };
        let rig = shut(&tagging, GATE);
        let plain = syn_of(50_000, 7, PORT);
        let tagged = v4(|p| (p.tags, p.body) = (vec![(TPID_8021Q, 5)], plain[34..].to_vec()));
        let bare = v6(|p| p.body = syn(PORT));
        let extended = v6(|p| {
            p.extensions = vec![options(HOP_BY_HOP, 1)];
            p.body = syn(PORT);
        });
        assert_eq!(rig.reason_on_queue(&plain, 0), Reason::SynRate);
        assert_eq!(rig.reason_on_queue(&extended, 0), Reason::SynRate);
        a_second_later(&rig);
        assert_eq!(rig.reason_on_queue(&tagged, 1), Reason::SynAgain);
        assert_eq!(rig.reason_on_queue(&bare, 1), Reason::SynAgain);
    });
}

#[test]
fn what_comes_again_has_a_rate_of_its_own() {
    in_namespace(|| {
        // A burst of 5, and one more every 50 ms.
        let gate = SynGate {
            repeats: 20,
            ..GATE
        };
        let rig = shut(&config(), gate);
        let frames: Vec<_> = (0..60).map(|port| syn_of(port + 1, 7, PORT)).collect();
        let passed = |rig: &Rig| {
            let reasons = frames.iter().map(|frame| rig.reason(frame));
            reasons.filter(|reason| *reason == Reason::SynAgain).count()
        };
        assert_eq!(passed(&rig), 0);
        a_second_later(&rig);
        let begun = Instant::now();
        let first = passed(&rig);
        let gained = usize::try_from(begun.elapsed().as_millis() / 50).unwrap() + 1;
        assert!(
            (5..=5 + gained).contains(&first),
            "{first} passed, {gained} were gained"
        );
        // Who had no luck is still remembered.
        a_second_later(&rig);
        assert!(passed(&rig) >= 5);
    });
}

#[test]
fn a_hundred_thousand_other_syns_do_not_make_the_gate_forget() {
    in_namespace(|| {
        let rig = shut(&config(), GATE);
        let honest: Vec<_> = (0..32).map(|port| syn_of(port + 1, 7, PORT)).collect();
        for frame in &honest {
            assert_eq!(rig.reason(frame), Reason::SynRate);
        }
        let begun = Instant::now();
        let mut flood = syn_of(50_000, 0, PORT);
        for number in 0..100_000u32 {
            flood[38..42].copy_from_slice(&number.to_be_bytes());
            rig.verdict(&flood, 0);
        }
        assert!(
            begun.elapsed() < Duration::from_millis(2900),
            "the machine is too slow for this test: {:?}",
            begun.elapsed()
        );
        sleep(REPEAT.saturating_sub(begun.elapsed()));
        shut_again(&rig);
        for frame in &honest {
            assert_eq!(rig.reason(frame), Reason::SynAgain);
        }
    });
}
