//! A path that carries less than the interface: with a router that says so, and with one that does not.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use sluice_wire::{
    IcmpError, IcmpErrorKind, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet,
    QuotedSegment, TcpPacket,
};
use sluiced::worker::handoff_ring;

use crate::bed::{Bed, Setup, deliver, get, wait_for_helpers};
use crate::client::Client;
use crate::frames;
use crate::site::{KIB, Site};

const LINK_HEADER: usize = 14;
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// "Packet too big" about a segment, as a frame.
fn too_big(packet: &TcpPacket, seq: u32, mtu: u32) -> Vec<u8> {
    let error = IcmpError {
        kind: IcmpErrorKind::PacketTooBig { mtu },
        quoted: QuotedSegment {
            src: packet.src,
            dst: packet.dst,
            src_port: packet.header.src_port,
            dst_port: packet.header.dst_port,
            seq,
        },
    };
    let mut frame = vec![0; 200];
    let link = packet.link.reply();
    let len = match packet.src {
        IpAddr::V4(dst) => Icmpv4Packet {
            link,
            src: ROUTER,
            dst,
            message: Icmpv4Message::Error(error),
        }
        .emit(&mut frame),
        IpAddr::V6(dst) => Icmpv6Packet {
            link,
            src: ROUTER6,
            dst,
            message: Icmpv6Message::Error(error),
        }
        .emit(&mut frame),
    };
    frame.truncate(len.expect("it fits"));
    frame
}

/// A link in front of the client that drops what is longer than `mtu`.
struct Narrow {
    mtu: usize,
    dropped: usize,
}

impl Narrow {
    fn new(mtu: usize) -> Narrow {
        Narrow { mtu, dropped: 0 }
    }

    /// Carries a frame, or gives the answer of a router that drops it.
    fn carry(&mut self, frame: &[u8], client: &mut Client, bed: &Bed) -> Option<Vec<u8>> {
        if frame.len() <= self.mtu + LINK_HEADER {
            deliver(frame, core::slice::from_mut(client), bed.now);
            return None;
        }
        self.dropped += 1;
        let (packet, _) = frames::read(frame);
        let mtu = u32::try_from(self.mtu).expect("small");
        Some(too_big(&packet, packet.header.seq, mtu))
    }
}

/// Rounds until the client has its answer. `told`: the router says what it dropped.
fn download(bed: &mut Bed, client: &mut Client, link: &mut Narrow, told: bool) -> Vec<u8> {
    client.write(get("/big"));
    for _ in 0..200_000 {
        let mut moved = bed.inject_from(client);
        let sent = bed.turn();
        moved += sent.len();
        for frame in &sent {
            if let Some(answer) = link.carry(frame, client, bed)
                && told
            {
                assert!(bed.nic.inject(&answer));
            }
        }
        if client.has_response() {
            return client.take_response().expect("it has one").body;
        }
        if moved == 0 {
            wait_for_helpers();
            bed.pass(Duration::from_millis(1));
        } else {
            bed.pass(Duration::from_micros(50));
        }
    }
    panic!("no answer: {} bytes", client.received.len());
}

/// Workers that know each other.
fn team(site: &Site, workers: usize) -> Vec<Bed> {
    let ring = handoff_ring(workers, 20_000).expect("eventfd");
    ring.into_iter()
        .map(|handoff| Bed::with_handoff(site, &Setup::default(), Some(handoff)))
        .collect()
}

fn icmp_counter(bed: &Bed, name: &str) -> u64 {
    let counters = bed.worker.stack().counters();
    let found = counters.rows().find(|(row, _)| *row == name);
    found.expect("a counter of that name").1
}

#[test]
fn a_router_that_says_what_passes_costs_no_time_out() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB + 1);
    for v6 in [false, true] {
        let mut bed = Bed::new(&site);
        let port = bed.take_port();
        let mut client = if v6 {
            Client::connect_v6(port)
        } else {
            Client::connect(port)
        };
        bed.run_one(&mut client, Client::is_established);
        let mut link = Narrow::new(1400);
        assert!(download(&mut bed, &mut client, &mut link, true) == content);
        assert_eq!(icmp_counter(&bed, "icmp_mtu_lowered"), 1);
        assert_eq!(icmp_counter(&bed, "timeouts"), 0, "IPv6: {v6}");
        assert_eq!(icmp_counter(&bed, "fast_recoveries"), 0);
        assert!(link.dropped <= 10, "the first window");
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn a_black_hole_is_left_by_shorter_segments() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB + 1);
    for v6 in [false, true] {
        let mut bed = Bed::new(&site);
        let port = bed.take_port();
        let mut client = if v6 {
            Client::connect_v6(port)
        } else {
            Client::connect(port)
        };
        bed.run_one(&mut client, Client::is_established);
        let mut link = Narrow::new(1300);
        assert!(download(&mut bed, &mut client, &mut link, false) == content);
        assert_eq!(icmp_counter(&bed, "black_holes"), 2, "1400, then 1280");
        assert_eq!(icmp_counter(&bed, "timeouts"), 3);
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn an_error_that_quotes_nothing_in_flight_changes_nothing() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB + 1);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 20_000);
    let sent = bed.turn();
    for frame in &sent {
        let (packet, _) = frames::read(frame);
        let forged = too_big(&packet, packet.header.seq.wrapping_add(1 << 30), 600);
        assert!(bed.nic.inject(&forged));
        deliver(frame, core::slice::from_mut(&mut client), bed.now);
    }
    let response = bed.response(&mut client);
    assert!(response.body == content);
    assert_eq!(icmp_counter(&bed, "icmp_mtu_lowered"), 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn an_error_about_a_port_that_is_not_served_is_counted() {
    let site = Site::new();
    site.file("big", 1);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.inject_from(&mut client);
    let mut sent = bed.turn();
    while sent.is_empty() {
        wait_for_helpers();
        sent = bed.turn();
    }
    let (mut packet, _) = frames::read(&sent[0]);
    packet.header.src_port = 22;
    assert!(bed.nic.inject(&too_big(&packet, packet.header.seq, 1400)));
    packet.header.src_port = 80;
    packet.header.dst_port = 9;
    assert!(bed.nic.inject(&too_big(&packet, packet.header.seq, 1400)));
    for frame in &sent {
        deliver(frame, core::slice::from_mut(&mut client), bed.now);
    }
    bed.settle_one(&mut client);
    let report = bed.report();
    assert_eq!((report.worker.not_ours, report.worker.icmp_strays), (1, 1));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn an_error_that_lies_on_another_queue_reaches_its_flow() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB + 1);
    let mut beds = team(&site, 3);
    let mut client = Client::connect(beds[0].take_port());
    beds[0].run_one(&mut client, Client::is_established);
    client.write(get("/big"));
    let mut link = Narrow::new(1400);
    let mut quiet = 0;
    while !client.has_response() {
        let mut moved = beds[0].inject_from(&mut client);
        for index in 0..beds.len() {
            let sent = beds[index].turn();
            moved += sent.len();
            for frame in &sent {
                if let Some(answer) = link.carry(frame, &mut client, &beds[0]) {
                    // Two hops away.
                    assert!(beds[1].nic.inject(&answer));
                    moved += 1;
                }
            }
        }
        if moved == 0 {
            wait_for_helpers();
            quiet += 1;
            assert!(quiet < 50_000, "nothing moves any more");
        }
        for bed in &mut beds {
            bed.pass(Duration::from_micros(if moved == 0 { 0 } else { 50 }));
        }
    }
    assert!(client.take_response().expect("it has one").body == content);
    assert_eq!(icmp_counter(&beds[0], "icmp_mtu_lowered"), 1);
    assert_eq!(icmp_counter(&beds[0], "timeouts"), 0);
    let strays: u64 = beds.iter().map(|bed| bed.report().worker.icmp_strays).sum();
    assert_eq!(strays, 0);
    assert!(beds[1].report().passed_on > 0);
}

/// Errors about `count` flows that nobody has.
fn tell_of_strangers(bed: &mut Bed, like: &TcpPacket, count: u16) {
    let mut packet = *like;
    for port in 0..count {
        packet.header.dst_port = 1024 + port;
        assert!(bed.nic.inject(&too_big(&packet, packet.header.seq, 1400)));
        if port % 128 == 0 {
            bed.turn();
        }
    }
    bed.turn();
}

/// A segment of ours.
fn a_segment(bed: &mut Bed) -> TcpPacket {
    let mut client = Client::connect(bed.take_port());
    bed.inject_from(&mut client);
    let sent = bed.turn();
    frames::read(&sent[0]).0
}

#[test]
fn an_error_about_a_flow_that_nobody_has_is_counted_once() {
    let site = Site::new();
    let mut beds = team(&site, 3);
    let segment = a_segment(&mut beds[0]);
    tell_of_strangers(&mut beds[0], &segment, 5);
    beds[1].turn();
    beds[2].turn();
    let strays: u64 = beds.iter().map(|bed| bed.report().worker.icmp_strays).sum();
    assert_eq!(strays, 5);
    for bed in &beds {
        let counters = bed.worker.stack().counters();
        let heard: u64 = counters.icmp.iter().sum();
        assert_eq!(heard, 0, "about no flow of this stack");
    }
}

#[test]
fn a_flood_of_errors_leaves_parcels_for_segments() {
    let site = Site::new();
    let mut beds = team(&site, 2);
    let segment = a_segment(&mut beds[0]);
    // The neighbour is busy with something else all the time.
    tell_of_strangers(&mut beds[0], &segment, 1000);
    let report = beds[0].report();
    assert_eq!(report.pass_on_dropped, 0, "{:?}", report.passed_on);
    assert!(report.passed_on <= 64, "{}", report.passed_on);
    let not_passed = report.worker.icmp_not_passed_on;
    assert_eq!(report.passed_on + not_passed, 1000);
}
