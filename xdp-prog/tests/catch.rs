//! The program of load generators and raw receivers: what it catches, where that goes, and what it lets pass.

mod support;

use std::net::SocketAddrV4;
use std::num::NonZeroU16;
use std::os::fd::AsFd;

use sluice_xdp_prog::{
    AttachMode, AttachedMode, Catch, Catcher, Fate, LoadError, MapError, Verdict,
};
use support::frames::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, MORE_FRAGMENTS, TPID_8021Q, UDP, arp, ethernet, tcp,
};
use support::namespace::{has_program, in_namespace, veth};
use support::run::{run, xdp_socket};
use support::tables::{cut, v4, v6};
use support::{PORT, SERVED_V4};

/// The source of `support::frames`.
const SERVER: [u8; 4] = [198, 51, 100, 9];
const SERVER_PORT: u16 = 50_000;
/// For local experiments.
const ETHER_TYPE: NonZeroU16 = NonZeroU16::new(0x88b5).unwrap();

fn server() -> Catch {
    Catch::SegmentsFrom(SocketAddrV4::new(SERVER.into(), SERVER_PORT))
}

fn load(what: Catch, fate: Fate) -> Catcher {
    Catcher::load(what, fate, 1).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn answers_of_the_server_go_to_the_socket_and_everything_else_passes() {
    in_namespace(|| {
        let (ifindex, _) = veth();
        let catcher = load(server(), Fate::ToSocket);
        let socket = xdp_socket();
        catcher.insert_socket(0, socket.as_fd()).unwrap();
        let mut elsewhere = tcp(PORT, 5, 8);
        elsewhere[1] ^= 1;
        let cases = [
            ("its segment", v4(|_| ()), Verdict::Redirect),
            (
                "to another port",
                v4(|p| p.body = tcp(9, 15, 40)),
                Verdict::Redirect,
            ),
            (
                "to another address",
                v4(|p| p.dst = [192, 0, 2, 77]),
                Verdict::Redirect,
            ),
            ("of another port", v4(|p| p.body = elsewhere), Verdict::Pass),
            (
                "of another host",
                v4(|p| p.src = [198, 51, 100, 8]),
                Verdict::Pass,
            ),
            ("UDP", v4(|p| p.protocol = UDP), Verdict::Pass),
            (
                "a fragment",
                v4(|p| p.fragment = MORE_FRAGMENTS),
                Verdict::Pass,
            ),
            (
                "with IP options",
                v4(|p| p.options = vec![1; 4]),
                Verdict::Pass,
            ),
            (
                "tagged",
                v4(|p| p.tags = vec![(TPID_8021Q, 5)]),
                Verdict::Pass,
            ),
            ("IPv6", v6(|_| ()), Verdict::Pass),
            (
                "ARP",
                ethernet(&[], ETHERTYPE_ARP, &arp(1, SERVED_V4)),
                Verdict::Pass,
            ),
            ("without ports", cut(v4(|_| ()), 36), Verdict::Pass),
        ];
        for (name, frame, expected) in &cases {
            let (verdict, _) = run(catcher.as_fd(), ifindex, frame, 0, 1);
            assert_eq!(verdict, *expected, "{name}");
        }
        assert_eq!(catcher.caught().unwrap(), 3);
    });
}

#[test]
fn what_finds_no_socket_is_dropped_because_the_kernel_would_answer_it() {
    in_namespace(|| {
        let (ifindex, _) = veth();
        let catcher = load(server(), Fate::ToSocket);
        let (verdict, _) = run(catcher.as_fd(), ifindex, &v4(|_| ()), 0, 1);
        assert_eq!(verdict, Verdict::Drop);
    });
}

#[test]
fn frames_of_a_type_are_counted_and_dropped() {
    in_namespace(|| {
        let (ifindex, _) = veth();
        let catcher = load(Catch::EtherType(ETHER_TYPE), Fate::Dropped);
        let socket = xdp_socket();
        catcher.insert_socket(0, socket.as_fd()).unwrap();
        let wanted = ethernet(&[], ETHER_TYPE.get(), &[0; 46]);
        let (verdict, _) = run(catcher.as_fd(), ifindex, &wanted, 0, 5);
        assert_eq!((verdict, catcher.caught().unwrap()), (Verdict::Drop, 5));
        let other = ethernet(&[], ETHERTYPE_IPV4, &[0; 46]);
        let (verdict, _) = run(catcher.as_fd(), ifindex, &other, 0, 1);
        assert_eq!((verdict, catcher.caught().unwrap()), (Verdict::Pass, 5));
    });
}

#[test]
fn it_is_attached_as_long_as_it_lives() {
    in_namespace(|| {
        let (ours, _) = veth();
        let mut catcher = load(server(), Fate::ToSocket);
        let attached = catcher.attach(ours, AttachMode::Native).unwrap();
        assert_eq!(attached.mode, AttachedMode::Native);
        assert!(has_program("ours"));
        assert!(catcher.attach(ours, AttachMode::Native).is_err());
        drop(catcher);
        assert!(!has_program("ours"));
    });
}

#[test]
fn queues_are_counted_from_zero_and_there_is_at_least_one() {
    in_namespace(|| {
        let catcher = load(server(), Fate::ToSocket);
        let refused = catcher.insert_socket(1, xdp_socket().as_fd());
        assert!(matches!(
            refused,
            Err(MapError::NoSuchQueue { queue: 1, .. })
        ));
        let none = Catcher::load(server(), Fate::ToSocket, 0);
        assert!(matches!(none, Err(LoadError::NoQueue)));
    });
}
