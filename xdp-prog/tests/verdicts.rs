//! The program as a function: frame in, verdict and counter out, through the kernel's test-run call.
//!
//! Every case checks that exactly one counter rose, by one, and that the XDP action is the verdict of its reason. The frames
//! one can name are in `support/tables.rs`; a seeded random test compares the program with a plain twin of its rules
//! (`support/oracle.rs`) on mutations of all of them.

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_xdp_prog::{Endpoint, Reason, SteerConfig, Verdict};
use support::frames::{
    DESTINATION_OPTIONS, ETHERTYPE_ARP, HOP_BY_HOP, TPID_8021AD, TPID_8021Q, arp, ethernet,
    options, routing, tcp,
};
use support::namespace::in_namespace;
use support::run::Rig;
use support::tables::{
    foreign_traffic, good_segments, icmp_errors, ours_but_unfit, owned, tagged, v4, v6,
};
use support::{OWNED_V4, PORT, QUEUES, SERVED_V4, SERVED_V6, config, config_with_owned, oracle};

#[test]
fn the_tables_hold_at_least_sixty_frames() {
    let frames = good_segments().len()
        + foreign_traffic().len()
        + ours_but_unfit().len()
        + tagged().len()
        + owned().len();
    assert!(frames >= 60, "{frames}");
}

#[test]
fn segments_for_an_endpoint_are_redirected() {
    in_namespace(|| Rig::serving(&config()).check(&good_segments()));
}

#[test]
fn foreign_traffic_passes() {
    let cases = foreign_traffic();
    assert!(
        cases
            .iter()
            .all(|(_, _, reason)| reason.verdict() == Verdict::Pass)
    );
    in_namespace(|| Rig::serving(&config()).check(&cases));
}

#[test]
fn what_is_ours_but_unfit_is_dropped_by_name() {
    in_namespace(|| Rig::serving(&config()).check(&ours_but_unfit()));
}

#[test]
fn unfit_frames_are_dropped_before_the_service_is_up_too() {
    in_namespace(|| Rig::bare(&config()).check(&ours_but_unfit()));
}

#[test]
fn tagged_frames_for_an_endpoint_are_dropped_without_vlan() {
    let cases: Vec<_> = tagged()
        .into_iter()
        .map(|(name, frame, without, _)| (name, frame, without))
        .collect();
    in_namespace(|| Rig::serving(&config()).check(&cases));
}

#[test]
fn up_to_two_tags_are_accepted_with_vlan() {
    let cases: Vec<_> = tagged()
        .into_iter()
        .map(|(name, frame, _, with)| (name, frame, with))
        .collect();
    in_namespace(|| {
        let rig = Rig::serving(&SteerConfig {
            vlan: true,
            ..config()
        });
        rig.check(&cases);
        rig.check(&good_segments());
    });
}

#[test]
fn owned_addresses_get_arp_ndp_and_icmp() {
    in_namespace(|| Rig::serving(&config_with_owned()).check(&owned()));
}

#[test]
fn icmp_errors_about_our_segments_are_redirected() {
    in_namespace(|| Rig::serving(&config()).check(&icmp_errors()));
}

#[test]
fn icmp_errors_pass_until_the_service_is_enabled() {
    in_namespace(|| {
        let rig = Rig::bare(&config());
        let (_, frame, _) = &icmp_errors()[0];
        assert_eq!(rig.reason(frame), Reason::NotEnabled);
    });
}

#[test]
fn owned_addresses_change_nothing_for_endpoints() {
    in_namespace(|| {
        let rig = Rig::serving(&config_with_owned());
        rig.check(&good_segments());
        rig.check(&foreign_traffic());
        rig.check(&ours_but_unfit());
        rig.check(&icmp_errors());
    });
}

#[test]
fn arp_for_an_owned_address_may_carry_configured_tags() {
    let frame = ethernet(&[(TPID_8021Q, 1)], ETHERTYPE_ARP, &arp(1, OWNED_V4));
    in_namespace(|| {
        let rig = Rig::serving(&SteerConfig {
            vlan: true,
            ..config_with_owned()
        });
        assert_eq!(rig.reason(&frame), Reason::Owned);
    });
}

#[test]
fn an_empty_slot_passes_until_the_service_is_enabled_and_drops_while_it_is() {
    in_namespace(|| {
        let rig = Rig::bare(&config());
        let frame = v4(|_| ());
        assert_eq!(rig.reason(&frame), Reason::NotEnabled);
        rig.steer.set_enabled(true).unwrap();
        assert_eq!(rig.reason(&frame), Reason::NoSocket);
        rig.steer.set_enabled(false).unwrap();
        assert_eq!(rig.reason(&frame), Reason::NotEnabled);
    });
}

#[test]
fn each_queue_has_its_own_slot() {
    in_namespace(|| {
        let mut rig = Rig::bare(&config());
        rig.steer.set_enabled(true).unwrap();
        rig.insert_socket(2);
        let reasons: Vec<_> = (0..QUEUES)
            .map(|queue| rig.reason_on_queue(&v4(|_| ()), queue))
            .collect();
        assert_eq!(
            reasons,
            [
                Reason::NoSocket,
                Reason::NoSocket,
                Reason::Tcp,
                Reason::NoSocket
            ]
        );
    });
}

#[test]
fn a_queue_beyond_those_configured_has_no_socket() {
    in_namespace(|| {
        let mut rig = Rig::bare(&SteerConfig {
            queues: 1,
            ..config()
        });
        rig.steer.set_enabled(true).unwrap();
        rig.insert_socket(0);
        assert_eq!(rig.reason_on_queue(&v4(|_| ()), 0), Reason::Tcp);
        assert_eq!(rig.reason_on_queue(&v4(|_| ()), 3), Reason::NoSocket);
    });
}

#[test]
fn a_removed_socket_leaves_its_slot_empty() {
    in_namespace(|| {
        let rig = Rig::serving(&config());
        rig.steer.remove_socket(1).unwrap();
        rig.steer.remove_socket(1).unwrap();
        assert_eq!(rig.reason_on_queue(&v4(|_| ()), 1), Reason::NoSocket);
        assert_eq!(rig.reason_on_queue(&v4(|_| ()), 0), Reason::Tcp);
    });
}

#[test]
fn a_closed_socket_leaves_its_slot_empty() {
    in_namespace(|| {
        let mut rig = Rig::serving(&config());
        rig.close_sockets();
        // A child that another test is just forking holds copies until it execs.
        let limit = Instant::now() + Duration::from_secs(1);
        let mut reason = rig.reason(&v6(|_| ()));
        while reason == Reason::Tcp && Instant::now() < limit {
            reason = rig.reason(&v6(|_| ()));
        }
        assert_eq!(reason, Reason::NoSocket);
    });
}

#[test]
fn sixty_four_endpoints_and_owned_addresses_fit_and_their_neighbours_are_not_served() {
    in_namespace(|| {
        let endpoints = (0..32)
            .flat_map(|n| {
                let (mut v4, mut v6) = (SERVED_V4, SERVED_V6);
                (v4[3], v6[15]) = (n + 1, n + 1);
                let port = 8_000 + u16::from(n);
                [
                    Endpoint {
                        address: v4.into(),
                        port,
                    },
                    Endpoint {
                        address: v6.into(),
                        port,
                    },
                ]
            })
            .collect();
        let owned = (0..64).map(|n| [198, 51, 100, n].into()).collect();
        let rig = Rig::serving(&SteerConfig {
            endpoints,
            owned,
            ..config()
        });
        for n in 0..32 {
            let port = 8_000 + u16::from(n);
            let ipv4 = |port| v4(|p| (p.dst[3], p.body) = (n + 1, tcp(port, 5, 8)));
            let ipv6 = |port| v6(|p| (p.dst[15], p.body) = (n + 1, tcp(port, 5, 8)));
            rig.check(&[
                ("IPv4", ipv4(port), Reason::Tcp),
                ("IPv6", ipv6(port), Reason::Tcp),
                ("IPv4, next port", ipv4(port + 1), Reason::NotLocal),
                ("IPv6, next port", ipv6(port + 1), Reason::NotLocal),
            ]);
        }
    });
}

#[test]
fn a_frame_cut_anywhere_is_never_redirected() {
    let extended = v6(|p| {
        p.extensions = vec![
            options(HOP_BY_HOP, 2),
            routing(4, 0),
            options(DESTINATION_OPTIONS, 1),
        ]
    });
    let tagged = v6(|p| p.tags = vec![(TPID_8021AD, 7), (TPID_8021Q, 100)]);
    in_namespace(|| {
        let vlan = SteerConfig {
            vlan: true,
            ..config()
        };
        let rig = Rig::serving(&vlan);
        for frame in [
            v4(|_| ()),
            v4(|p| p.body = tcp(PORT, 15, 60)),
            v6(|_| ()),
            extended.clone(),
            tagged.clone(),
        ] {
            assert_eq!(rig.reason(&frame), Reason::Tcp);
            for length in 14..frame.len() {
                let piece = &frame[..length];
                let reason = rig.reason(piece);
                assert_ne!(
                    reason.verdict(),
                    Verdict::Redirect,
                    "{length} of {} bytes",
                    frame.len()
                );
                assert_eq!(
                    reason,
                    oracle::reason(&vlan, piece),
                    "{length} of {} bytes",
                    frame.len()
                );
            }
        }
    });
}

#[test]
fn random_mutations_get_the_verdict_of_the_plain_twin() {
    const FRAMES: u32 = 20_000;
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::from(since.subsec_nanos()))
        });
    println!("SEED={seed}");
    let mut parents: Vec<_> = [
        good_segments(),
        foreign_traffic(),
        ours_but_unfit(),
        owned(),
        icmp_errors(),
    ]
    .concat();
    parents.retain(|(_, frame, _)| frame.len() < 2_000);
    let mut frames: Vec<_> = parents.into_iter().map(|(_, frame, _)| frame).collect();
    frames.extend(tagged().into_iter().map(|(_, frame, _, _)| frame));

    in_namespace(|| {
        let config = SteerConfig {
            vlan: seed.is_multiple_of(2),
            ..config_with_owned()
        };
        let rig = Rig::serving(&config);
        let mut random = Random(seed);
        let mut seen = [false; 64];
        for _ in 0..FRAMES {
            let mut frame = frames[random.below(frames.len())].clone();
            random.mutate(&mut frame);
            let reason = rig.reason(&frame);
            assert_eq!(
                reason,
                oracle::reason(&config, &frame),
                "SEED={seed}, {frame:02x?}"
            );
            seen[usize::from(reason.number())] = true;
        }
        let missing: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| !seen[usize::from(reason.number())])
            .collect();
        // With a socket in every slot two reasons cannot occur, with the gate disarmed three more, and with VLAN another.
        let impossible = |reason: &Reason| {
            matches!(
                reason,
                Reason::NotEnabled
                    | Reason::NoSocket
                    | Reason::SynAgain
                    | Reason::SynRate
                    | Reason::SynSourceRate
            ) || (config.vlan && *reason == Reason::VlanTag)
        };
        assert!(
            missing.iter().all(|reason| impossible(reason)),
            "SEED={seed}: never seen: {missing:?}"
        );
    });
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    /// Up to three changes among the first 120 bytes, where the headers are; sometimes a cut.
    fn mutate(&mut self, frame: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = 12 + self.below(frame.len().min(120) - 12);
            frame[at] = match self.below(4) {
                0 => frame[at] ^ 1 << self.below(8),
                1 => [0, 6, 0xff, 0x45, 0x60][self.below(5)],
                2 => frame[at].wrapping_add(1),
                _ => self.next().to_le_bytes()[0],
            };
        }
        if self.below(8) == 0 {
            frame.truncate(14 + self.below(frame.len() - 13));
        }
    }
}
