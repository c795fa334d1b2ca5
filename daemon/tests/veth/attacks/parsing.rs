//! C: frames that lie about themselves. Each is dropped and counted, and changes nothing.

use sluice_wire::TcpOptions;

use super::Bed;
use crate::raw::{ACK, ANSWER, Flow, PSH_ACK, RST, Random, SYN, SYN_ACK, Sketch, Wire};

/// Where the headers of an untagged frame are.
const IP: usize = 14;
const TCP_V4: usize = IP + 20;
const TCP_V6: usize = IP + 40;

/// Counters of frames for the service that the XDP program dropped or could not read.
const UNFIT: [&str; 4] = [
    "xdp_unreadable",
    "xdp_truncated",
    "xdp_ip_header",
    "xdp_ip_length",
];

fn syn_v4(wire: &Wire, port: u16) -> Sketch {
    wire.sketch(wire.stranger(port), SYN, 1000, 0)
}

fn syn_v6(wire: &Wire, port: u16) -> Sketch {
    wire.sketch(wire.stranger_v6(port), SYN, 1000, 0)
}

/// Writes the header checksum of an IPv4 frame anew.
fn resum(frame: &mut [u8]) {
    frame[IP + 10..IP + 12].fill(0);
    let len = usize::from(frame[IP] & 15) * 4;
    let end = (IP + len.max(20)).min(frame.len());
    let sum = sluice_wire::checksum::sum(&frame[IP..end]).finish();
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Sends the frames, which must all be counted under these names, and none answered.
fn all_dropped(bed: Bed, frames: Vec<Vec<u8>>, names: &[&str]) {
    let count = frames.len();
    bed.wire.send_all(frames);
    bed.counted(names, count);
    bed.wire.assert_silent("such a frame has no answer");
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_over_ipv4_that_ends_anywhere_in_its_headers_is_dropped_and_counted() {
    let Some(bed) = Bed::new() else { return };
    let whole = syn_v4(&bed.wire, 1).frame();
    let frames = (IP..whole.len()).map(|len| whole[..len].to_vec()).collect();
    all_dropped(bed, frames, &UNFIT);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_over_ipv6_that_ends_anywhere_in_its_headers_is_dropped_and_counted() {
    let Some(bed) = Bed::new() else { return };
    let whole = syn_v6(&bed.wire, 1).frame();
    let frames = (IP..whole.len()).map(|len| whole[..len].to_vec()).collect();
    all_dropped(bed, frames, &UNFIT);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_that_ends_anywhere_in_its_payload_is_dropped_and_counted() {
    let Some(bed) = Bed::new() else { return };
    let mut sketch = bed.wire.sketch(bed.wire.stranger(1), PSH_ACK, 1, 1);
    sketch.payload = vec![7; 300];
    let whole = sketch.frame();
    let frames = (TCP_V4 + 20..whole.len())
        .map(|len| whole[..len].to_vec())
        .collect();
    all_dropped(bed, frames, &UNFIT);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_ip_length_below_its_headers_or_beyond_the_frame_is_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for length in (0..40).chain([41, 100, 1500, 0x7fff, 0xffff]) {
        let mut frame = syn_v4(&bed.wire, 1).frame();
        frame[IP + 2..IP + 4].copy_from_slice(&u16::to_be_bytes(length));
        resum(&mut frame);
        frames.push(frame);
    }
    for length in (0..20).chain([21, 100, 0xffff]) {
        let mut frame = syn_v6(&bed.wire, 1).frame();
        frame[IP + 4..IP + 6].copy_from_slice(&u16::to_be_bytes(length));
        frames.push(frame);
    }
    all_dropped(bed, frames, &UNFIT);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_ip_version_or_header_length_that_cannot_be_is_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for first in (0..=255u8).filter(|first| first >> 4 != 4 || first & 15 < 5) {
        let mut frame = syn_v4(&bed.wire, 1).frame();
        frame[IP] = first;
        resum(&mut frame);
        frames.push(frame);
    }
    for first in (0..=255u8).filter(|first| first >> 4 != 6) {
        let mut frame = syn_v6(&bed.wire, 1).frame();
        frame[IP] = first;
        frames.push(frame);
    }
    all_dropped(bed, frames, &["xdp_ip_header"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn ip_options_are_dropped_whatever_they_are() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for words in 6..=15u8 {
        let plain = syn_v4(&bed.wire, 1).frame();
        let more = usize::from(words - 5) * 4;
        let mut frame = plain[..TCP_V4].to_vec();
        // Loose source route (RFC 791), then padding.
        frame.extend([131, 3, 4].into_iter().chain([0; 64]).take(more));
        frame.extend(&plain[TCP_V4..]);
        frame[IP] = 0x40 | words;
        let length = u16::try_from(frame.len() - IP).expect("short");
        frame[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
        resum(&mut frame);
        frames.push(frame);
    }
    all_dropped(bed, frames, &["xdp_ip_options"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_data_offset_below_the_header_or_beyond_the_packet_is_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for (frame, at) in [
        (syn_v4(&bed.wire, 1).frame(), TCP_V4),
        (syn_v6(&bed.wire, 1).frame(), TCP_V6),
    ] {
        for words in (0..=15u8).filter(|words| *words != 5) {
            let mut frame = frame.clone();
            frame[at + 12] = words << 4;
            frames.push(frame);
        }
    }
    all_dropped(bed, frames, &["xdp_tcp_header"]);
}

/// A SYN whose 8 bytes of options are these.
fn with_options(wire: &Wire, options: [u8; 8]) -> Vec<u8> {
    let mut sketch = syn_v4(wire, 1);
    // Twelve bytes of options are made and then written over; the sum is made anew.
    sketch.header.options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        ..TcpOptions::default()
    };
    let mut frame = sketch.frame();
    assert_eq!(frame.len(), TCP_V4 + 28);
    frame[TCP_V4 + 20..].copy_from_slice(&options);
    resum_tcp(&mut frame);
    frame
}

fn resum_tcp(frame: &mut [u8]) {
    frame[TCP_V4 + 16..TCP_V4 + 18].fill(0);
    let address = |at: usize| std::net::Ipv4Addr::from([0, 1, 2, 3].map(|byte| frame[at + byte]));
    let length = u32::try_from(frame.len() - TCP_V4).expect("short");
    let mut sum = sluice_wire::checksum::pseudo_header(
        address(IP + 12).into(),
        address(IP + 16).into(),
        6,
        length,
    );
    sum.add_bytes(&frame[TCP_V4..]);
    frame[TCP_V4 + 16..TCP_V4 + 18].copy_from_slice(&sum.finish().to_be_bytes());
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn options_with_impossible_lengths_are_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for kind in [2, 3, 4, 5, 8, 30, 34, 254] {
        for length in [0, 1, 9, 255] {
            frames.push(with_options(&bed.wire, [kind, length, 0, 0, 0, 0, 0, 0]));
        }
        // The length byte itself is missing.
        frames.push(with_options(&bed.wire, [1, 1, 1, 1, 1, 1, 1, kind]));
    }
    all_dropped(bed, frames, &["drop_tcp_bad_option"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn unknown_options_are_stepped_over() {
    let Some(bed) = Bed::new() else { return };
    bed.wire
        .send(&with_options(&bed.wire, [254, 4, 1, 2, 2, 4, 2, 0]));
    let me = bed.wire.stranger(1);
    let answer = bed.wire.find(ANSWER, |seen| seen.to == me);
    assert!(answer.is_some_and(|seen| seen.has(SYN_ACK)));
    bed.wire.send(&bed.wire.sketch(me, RST, 1001, 0).frame());
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_with_any_bit_of_its_sum_wrong_is_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for bit in 0..16 {
        for (mut frame, at) in [
            (syn_v4(&bed.wire, 1).frame(), TCP_V4),
            (syn_v6(&bed.wire, 1).frame(), TCP_V6),
        ] {
            frame[at + 16 + bit / 8] ^= 1 << (bit % 8);
            frames.push(frame);
        }
    }
    all_dropped(bed, frames, &["drop_tcp_bad_checksum"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_with_any_bit_of_its_payload_flipped_is_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut flow = Flow::open(&bed.wire, bed.wire.stranger(1));
    let text = crate::raw::request("/small.bin");
    let right = flow.sketch(PSH_ACK, text.as_bytes()).frame();
    let bits = 8 * text.len();
    for bit in 0..bits {
        let mut frame = right.clone();
        frame[TCP_V4 + 20 + bit / 8] ^= 1 << (bit % 8);
        bed.wire.send(&frame);
    }
    bed.counted(&["drop_tcp_bad_checksum"], bits);
    flow.ask("/small.bin");
    flow.read_file(&bed.site.path("small.bin"));
    flow.reset();
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_sum_of_the_pseudo_header_alone_is_taken_from_a_virtual_peer_and_only_if_it_is_right() {
    let Some(bed) = Bed::new() else { return };
    let me = bed.wire.stranger(1);
    let syn = syn_v4(&bed.wire, 1);
    let mut wrong = syn.partial_frame();
    wrong[TCP_V4 + 17] ^= 1;
    bed.wire.send(&wrong);
    bed.counted(&["drop_tcp_bad_checksum"], 1);
    bed.wire.send(&syn.partial_frame());
    let answer = bed.wire.find(ANSWER, |seen| seen.to == me);
    assert!(answer.is_some_and(|seen| seen.has(SYN_ACK)));
    bed.wire.send(&bed.wire.sketch(me, RST, 1001, 0).frame());
    bed.healthy();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_wrong_ip_sum_and_a_dead_hop_count_are_dropped() {
    let Some(bed) = Bed::new() else { return };
    let mut frames = Vec::new();
    for bit in 0..16 {
        let mut frame = syn_v4(&bed.wire, 1).frame();
        frame[IP + 10 + bit / 8] ^= 1 << (bit % 8);
        frames.push(frame);
    }
    let mut dead = syn_v4(&bed.wire, 1).frame();
    dead[IP + 8] = 0;
    resum(&mut dead);
    let mut dead_v6 = syn_v6(&bed.wire, 1).frame();
    dead_v6[IP + 7] = 0;
    frames.extend([dead, dead_v6]);
    let names = [
        "drop_ipv4_bad_checksum",
        "drop_ipv4_zero_ttl",
        "drop_ipv6_zero_hop_limit",
    ];
    all_dropped(bed, frames, &names);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn fragments_are_never_put_together() {
    let Some(bed) = Bed::new() else { return };
    let fragment = |frame: &[u8], field: u16, bytes: std::ops::Range<usize>| {
        let mut piece = frame[..TCP_V4].to_vec();
        piece.extend(&frame[TCP_V4..][bytes]);
        let length = u16::try_from(piece.len() - IP).expect("short");
        piece[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
        piece[IP + 6..IP + 8].copy_from_slice(&field.to_be_bytes());
        resum(&mut piece);
        piece
    };
    let mut sketch = syn_v4(&bed.wire, 1);
    sketch.payload = vec![0; 44];
    let whole = sketch.frame();
    // The first 24 bytes and the rest; the tiny first fragment of RFC 1858; a lone atomic one of IPv6 (RFC 8021).
    let frames = vec![
        fragment(&whole, 0x2000, 0..24),
        fragment(&whole, 0x0003, 24..64),
        fragment(&whole, 0x2000, 0..8),
        fragment(&whole, 0x0001, 8..64),
    ];
    let mut atomic = syn_v6(&bed.wire, 1).frame();
    atomic.splice(TCP_V6..TCP_V6, [6, 0, 0, 0, 0, 0, 0, 1]);
    atomic[IP + 6] = 44;
    atomic[IP + 4..IP + 6].copy_from_slice(&28u16.to_be_bytes());
    bed.wire.send_all(frames);
    bed.wire.send(&atomic);
    let names = ["xdp_fragment", "xdp_later_fragment", "xdp_ip_length"];
    bed.counted(&names, 5);
    bed.wire.assert_silent("a fragment has no answer");
    bed.healthy();
}

/// An IPv6 SYN behind these extension headers: protocol number and bytes, whose first is filled in here.
fn extended(wire: &Wire, headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut frame = syn_v6(wire, 1).frame();
    let tcp = frame.split_off(TCP_V6);
    let mut next_at = IP + 6;
    for (protocol, bytes) in headers {
        frame[next_at] = *protocol;
        next_at = frame.len();
        frame.extend(bytes);
    }
    frame[next_at] = 6;
    frame.extend(tcp);
    let length = u16::try_from(frame.len() - TCP_V6).expect("short");
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn chains_of_ipv6_extension_headers_and_source_routes_are_dropped() {
    let Some(bed) = Bed::new() else { return };
    let pad = || (60, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let route = |kind, left| (43, vec![0, 0, kind, left, 0, 0, 0, 0]);
    let long = (60, [vec![0, 32, 1, 255], vec![0; 260]].concat());
    let frames = vec![
        extended(&bed.wire, &vec![pad(); 9]),
        extended(&bed.wire, &vec![pad(); 20]),
        extended(&bed.wire, &[long]),
        extended(&bed.wire, &[route(0, 0)]),
        extended(&bed.wire, &[route(2, 1)]),
        extended(&bed.wire, &[route(4, 255)]),
    ];
    let names = ["xdp_extension_headers", "xdp_routing_header"];
    all_dropped(bed, frames, &names);
}

/// The frame with up to four bits turned round behind the addresses of the link, and cut short in a quarter of the cases.
fn mutated(right: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frame = right.to_vec();
    for _ in 0..=random.below(4) {
        let at = IP + random.below(frame.len() - IP);
        frame[at] ^= 1 << random.below(8);
    }
    if random.below(4) == 0 {
        let len = IP + random.below(frame.len() - IP);
        frame.truncate(len);
    }
    frame
}

/// Both sums of a whole IPv4 frame are right. Two bits of the same column, one set and one cleared, keep a sum of
/// RFC 1071: what carries RST or FIN then is no damage that anybody could see, and ends the connection as it should.
fn has_right_sums(frame: &[u8]) -> bool {
    let mut sealed = frame.to_vec();
    resum(&mut sealed);
    resum_tcp(&mut sealed);
    sealed == frame
}

#[test]
fn damage_that_no_sum_shows_is_told_from_damage() {
    let peer = |last| std::net::SocketAddr::from(([192, 0, 2, last], 1));
    let sketch = Sketch {
        link: sluice_wire::LinkHeader {
            dst: sluice_wire::MacAddr([2; 6]),
            src: sluice_wire::MacAddr([4; 6]),
            vlan: sluice_wire::VlanTags::NONE,
        },
        from: peer(1),
        to: peer(2),
        header: sluice_wire::TcpHeader {
            src_port: 1,
            dst_port: 1,
            seq: 4,
            ack: 0,
            flags: ACK,
            window: 65_535,
            urgent: 0,
            options: TcpOptions::default(),
        },
        payload: Vec::new(),
    };
    let right = sketch.frame();
    assert!(has_right_sums(&right));
    // RST set, and the bit of the same column of the sequence number cleared.
    let mut reset = right.clone();
    reset[TCP_V4 + 13] ^= 4;
    assert!(!has_right_sums(&reset));
    reset[TCP_V4 + 7] ^= 4;
    assert!(has_right_sums(&reset));
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn two_thousand_mutated_frames_of_a_live_flow_leave_it_alive() {
    let Some(bed) = Bed::new() else { return };
    let given = std::env::var("SEED")
        .ok()
        .map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let mut random = Random(seed);
    let mut flow = Flow::open(&bed.wire, bed.wire.stranger(1));
    let right = flow.sketch(ACK, b"").frame();
    for _ in 0..2000 {
        let damaged = loop {
            let frame = mutated(&right, &mut random);
            if frame.len() < right.len() || !has_right_sums(&frame) {
                break frame;
            }
        };
        bed.wire.send(&damaged);
    }
    bed.wire.collect(std::time::Duration::from_millis(100));
    flow.ask("/small.bin");
    flow.read_file(&bed.site.path("small.bin"));
    flow.reset();
    bed.healthy();
}
