//! E: frames that are strange below TCP, and neighbours that lie.

use std::net::IpAddr;
use std::time::Duration;

use sluice_wire::{ArpOperation, ArpPacket, LinkHeader, MacAddr, VlanTag, VlanTags};

use super::Bed;
use crate::client::Client;
use crate::raw::{ACK, ANSWER, Flow, PSH_ACK, Random, SYN, SYN_ACK, request};
use crate::site::assert_same;

const ELSEWHERE: MacAddr = MacAddr([2, 0xbd, 0, 0, 0, 1]);

/// A SYN with these tags.
fn tagged(bed: &Bed, tags: &[(u16, u16)]) -> Vec<u8> {
    let mut sketch = bed.wire.sketch(bed.wire.stranger(1), SYN, 1, 0);
    let mut vlan = VlanTags::NONE;
    for &(tpid, tci) in tags {
        assert!(vlan.push(VlanTag { tpid, tci }));
    }
    sketch.link.vlan = vlan;
    sketch.frame()
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn tagged_frames_are_dropped_where_no_tag_is_configured() {
    let Some(bed) = Bed::new() else { return };
    // A VLAN, a priority tag, which the kernel would take for none, and QinQ.
    let frames = [
        tagged(&bed, &[(0x8100, 5)]),
        tagged(&bed, &[(0x8100, 0xe000)]),
        tagged(&bed, &[(0x88a8, 0)]),
        tagged(&bed, &[(0x88a8, 7), (0x8100, 0)]),
    ];
    bed.wire.send_all(frames);
    // The kernel strips a tag before XDP sees it where the device says so; dropped or counted it is all the same.
    bed.wire.assert_silent("no tag is configured");
    assert_eq!(bed.grown("xdp_vlan_tag"), 4);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_third_tag_makes_a_frame_nobodys() {
    let Some(bed) = Bed::new() else { return };
    let mut frame = tagged(&bed, &[(0x88a8, 1), (0x8100, 2)]);
    frame.splice(12..12, [0x88, 0xa8, 0, 3]);
    bed.wire.send(&frame);
    bed.wire.assert_silent("three tags");
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn tunnels_are_never_opened() {
    let Some(bed) = Bed::new() else { return };
    let inner = bed.wire.sketch(bed.wire.stranger(1), SYN, 1, 0).frame();
    let packet = &inner[14..];
    let gre = [&[0, 0, 8, 0][..], packet].concat();
    let vxlan = [
        &[0x12, 0xb5, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0][..],
        &inner,
    ]
    .concat();
    // IP in IP, GRE, UDP with VXLAN, ESP, AH, 6in4.
    for (protocol, body) in [
        (4, packet),
        (47, &gre[..]),
        (17, &vxlan[..]),
        (50, packet),
        (51, packet),
        (41, packet),
    ] {
        let mut frame = inner[..34].to_vec();
        frame.extend(body);
        frame[23] = protocol;
        let length = u16::try_from(frame.len() - 14).expect("short");
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[24..26].fill(0);
        let sum = sluice_wire::checksum::sum(&frame[14..34]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        bed.wire.send(&frame);
    }
    bed.wire.assert_silent("what is in a tunnel");
    assert_eq!(bed.grown("half_open"), 0);
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn bytes_behind_the_ip_packet_are_no_data() {
    let Some(bed) = Bed::new() else { return };
    let mut flow = Flow::open(&bed.wire, bed.wire.stranger(1));
    let text = request("/small.bin");
    let (head, tail) = text.as_bytes().split_at(7);
    for part in [head, tail] {
        let mut frame = flow.sketch(PSH_ACK, part).frame();
        frame.extend(b"garbage in the padding");
        bed.wire.send(&frame);
        flow.snd_nxt = flow
            .snd_nxt
            .wrapping_add(u32::try_from(part.len()).expect("short"));
    }
    flow.read_file(&bed.site.path("small.bin"));
    flow.reset();
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn segments_to_group_addresses_open_nothing() {
    let Some(bed) = Bed::new() else { return };
    let group = [
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
        MacAddr([0x33, 0x33, 0, 0, 0, 1]),
    ];
    for dst in group {
        let mut sketch = bed.wire.sketch(bed.wire.stranger(1), SYN, 1, 0);
        sketch.link.dst = dst;
        bed.wire.send(&sketch.frame());
    }
    bed.counted(&["drop_ethernet_group_destination"], group.len());
    for src in group {
        let mut sketch = bed.wire.sketch(bed.wire.stranger(1), SYN, 1, 0);
        sketch.link.src = src;
        bed.wire.send(&sketch.frame());
    }
    bed.counted(&["drop_ethernet_group_source"], group.len());
    bed.wire.assert_silent("a frame of a group");
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn lies_in_arp_do_not_lead_a_download_away() {
    let Some(bed) = Bed::with(&[]) else { return };
    let client = bed.client();
    let mut running = client.begin("file.bin", "4M");
    let IpAddr::V4(victim) = bed.lab.client.ipv4 else {
        unreachable!("an IPv4 address")
    };
    let IpAddr::V4(server) = bed.lab.server.ipv4 else {
        unreachable!("an IPv4 address")
    };
    let lie = ArpPacket {
        link: LinkHeader {
            dst: bed.wire.link.dst,
            src: ELSEWHERE,
            vlan: VlanTags::NONE,
        },
        operation: ArpOperation::Reply,
        sender_mac: ELSEWHERE,
        sender_ip: victim,
        target_mac: bed.wire.link.dst,
        target_ip: server,
    };
    let mut frame = vec![0; 60];
    lie.emit(&mut frame).expect("it fits");
    while !running.has_ended() {
        bed.wire.send(&frame);
        std::thread::sleep(Duration::from_millis(1));
    }
    running.succeeded();
    assert_same(&bed.site.path("file.bin"), &client.path("file.bin"));
    // The kernel of the server has believed it; the service answers to where a segment comes from.
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn lies_in_neighbour_discovery_do_not_lead_a_download_away() {
    let Some(bed) = Bed::with(&[]) else { return };
    let client = Client::new(&bed.lab.client, bed.lab.server.ipv6);
    let mut running = client.begin("file.bin", "4M");
    let frame = advertisement(&bed);
    while !running.has_ended() {
        bed.wire.send(&frame);
        std::thread::sleep(Duration::from_millis(1));
    }
    running.succeeded();
    assert_same(&bed.site.path("file.bin"), &client.path("file.bin"));
    bed.healthy();
}

/// An unsolicited neighbour advertisement that says that the client is elsewhere (RFC 4861 section 4.4).
fn advertisement(bed: &Bed) -> Vec<u8> {
    let (IpAddr::V6(client), IpAddr::V6(server)) = (bed.lab.client.ipv6, bed.lab.server.ipv6)
    else {
        unreachable!("IPv6 addresses")
    };
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(client.octets());
    message.extend([2, 1]);
    message.extend(ELSEWHERE.0);
    let length = u32::try_from(message.len()).expect("short");
    let mut sum = sluice_wire::checksum::pseudo_header(client.into(), server.into(), 58, length);
    sum.add_bytes(&message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let mut frame = bed.wire.link.dst.0.to_vec();
    frame.extend(ELSEWHERE.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(length).expect("short").to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(client.octets());
    frame.extend(server.octets());
    frame.extend(message);
    frame
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn forged_segments_from_another_mac_do_not_lead_a_download_away() {
    let Some(bed) = Bed::new() else { return };
    let client = bed.client();
    let from = std::net::SocketAddr::new(bed.lab.client.ipv4, 19_999);
    let mut running = client.begin_from("file.bin", "4M", 19_999);
    let mut random = Random(21);
    while !running.has_ended() {
        for _ in 0..20 {
            let mut sketch = bed.wire.sketch(from, ACK, random.word(), random.word());
            sketch.link.src = ELSEWHERE;
            bed.wire.send(&sketch.frame());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    running.succeeded();
    assert_same(&bed.site.path("file.bin"), &client.path("file.bin"));
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_peer_moves_to_another_mac_by_a_valid_segment_and_by_no_other() {
    let Some(bed) = Bed::new() else { return };
    let mut flow = Flow::open(&bed.wire, bed.wire.stranger(1));
    let home = bed.wire.link.src;
    let invalid: [fn(u32) -> u32; 2] = [
        |seq| seq.wrapping_add(1 << 30),
        |seq| seq.wrapping_sub(1 << 20),
    ];
    for wrong in invalid {
        flow.forge(ACK, |sketch| {
            sketch.link.src = ELSEWHERE;
            sketch.header.seq = wrong(sketch.header.seq);
        });
    }
    flow.forge(ACK, |sketch| {
        sketch.link.src = ELSEWHERE;
        sketch.header.ack = sketch.header.ack.wrapping_add(1 << 20);
    });
    flow.all(Duration::from_millis(100));
    // What the server says next of its own accord goes home.
    flow.ask("/small.bin");
    let first = flow.next(ANSWER).expect("data");
    assert_eq!(first.link.dst, home);
    flow.forge(ACK, |sketch| sketch.link.src = ELSEWHERE);
    let again = bed.wire.find(ANSWER, |seen| {
        seen.to == flow.me && seen.link.dst == ELSEWHERE
    });
    assert!(again.is_some(), "it has not moved");
    flow.reset();
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn no_frame_of_a_live_flow_makes_the_kernel_answer() {
    let Some(bed) = Bed::new() else { return };
    for v6 in [false, true] {
        let me = if v6 {
            bed.wire.stranger_v6(1)
        } else {
            bed.wire.stranger(1)
        };
        let mut flow = Flow::open(&bed.wire, me);
        let good = flow.sketch(ACK, b"0123456789").frame();
        let ip = 14;
        let mut odd = Vec::new();
        // Cut, with a tag, with a wrong sum, as a fragment, with a version of its own, with another header length.
        odd.extend((ip + 34..good.len()).map(|len| good[..len].to_vec()));
        let mut changed = vec![(ip, 0xf0), (good.len() - 18, 0xf0), (good.len() - 12, 0xff)];
        if !v6 {
            changed.push((ip, 0x0f));
        }
        for (at, mask) in changed {
            let mut frame = good.clone();
            frame[at] ^= mask;
            odd.push(frame);
        }
        if !v6 {
            for field in [0x20, 0x3f] {
                let mut frame = good.clone();
                frame[ip + 6] = field;
                odd.push(frame);
            }
        }
        let mut vlan = flow.sketch(ACK, b"x");
        assert!(vlan.link.vlan.push(VlanTag {
            tpid: 0x8100,
            tci: 0
        }));
        odd.push(vlan.frame());
        bed.wire.send_all(odd);
        let answers = flow.all(Duration::from_millis(200));
        assert!(
            answers.iter().all(|seen| seen.header.flags == ACK),
            "{answers:?}"
        );
        assert!(
            bed.wire.others().is_empty(),
            "ICMP: {:?}",
            bed.wire.others()
        );
        flow.ask("/small.bin");
        flow.read_file(&bed.site.path("small.bin"));
        flow.reset();
    }
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_frame_longer_than_the_mtu_is_taken_whole_or_not_at_all() {
    let Some(bed) = Bed::with(&[]) else { return };
    let link = bed.lab.client.link.as_str();
    bed.lab
        .client
        .run("ip", &["link", "set", link, "mtu", "3000"]);
    let mut flow = Flow::open(&bed.wire, bed.wire.stranger(1));
    // The link takes four bytes more than the MTU, for a tag; and nothing like 2,500.
    for length in [1464, 2500] {
        let padding = "y".repeat(length - request("/small.bin").len() - 5);
        let text = request("/small.bin").replace("\r\n\r\n", &format!("\r\nX: {padding}\r\n\r\n"));
        assert_eq!(text.len(), length);
        bed.wire
            .try_send(&flow.sketch(PSH_ACK, text.as_bytes()).frame());
        // The same in pieces that fit: what is there already changes nothing.
        for piece in text.as_bytes().chunks(1000) {
            flow.send(PSH_ACK, piece);
        }
        flow.read_file(&bed.site.path("small.bin"));
    }
    flow.reset();
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn other_ports_are_still_the_kernels() {
    let Some(bed) = Bed::with(&[]) else { return };
    let me = bed.wire.stranger(1);
    let mut sketch = bed.wire.sketch(me, SYN, 1, 0);
    sketch.to.set_port(22);
    sketch.header.dst_port = 22;
    bed.lab.server.run(
        "ip",
        &[
            "neigh",
            "replace",
            "192.0.2.77",
            "lladdr",
            &bed.wire.link.src.to_string(),
            "dev",
            &bed.lab.server.link,
        ],
    );
    bed.wire.send(&sketch.frame());
    let answer = bed.wire.find(ANSWER, |seen| seen.from.port() == 22);
    let answer = answer.expect("the kernel refuses the connection");
    assert!(!answer.has(SYN_ACK));
    bed.healthy();
}
