//! Frames on the wire: lengths, chains, checksums, both IP versions.

use core::net::{IpAddr, SocketAddr};

use sluice_wire::{ChecksumPolicy, DropReason, Ecn, TcpFlags, TcpHeader, TcpOptions};

use crate::bed::{Bed, Setup, get, wait_for_helpers};
use crate::client::{Client, Offer};
use crate::frames::{self, CLIENT_IP, SERVER, Seal};
use crate::site::{KIB, MIB, Site};

/// Bytes of an MTU of 9,000 that TCP payload with timestamps gets.
const JUMBO_PAYLOAD: usize = 9000 - 20 - 20 - 12;

fn jumbo(offload: bool) -> Setup {
    Setup {
        mtu: 9000,
        offload,
        ..Setup::default()
    }
}

fn jumbo_client(bed: &mut Bed) -> Client {
    let offer = Offer {
        mss: 8960,
        ..Offer::default()
    };
    let mut client = Client::with(bed.take_port(), offer);
    bed.run_one(&mut client, Client::is_established);
    client
}

#[test]
fn responses_at_an_mtu_of_9000_leave_as_chains_of_frames() {
    let site = Site::new();
    let content = site.file("big", 2 * MIB + 17);
    let mut bed = Bed::with(&site, &jumbo(true));
    let mut client = jumbo_client(&mut bed);
    assert!(bed.get(&mut client, "/big").body == content);
    assert_eq!(client.longest_payload, JUMBO_PAYLOAD);
    // 9,014 bytes in frames of 4,080.
    assert_eq!(bed.longest_chain, 3);
    assert_eq!(bed.sealed, 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn chains_of_frames_are_summed_across_their_borders_in_software() {
    let site = Site::new();
    let content = site.file("big", 2 * MIB + 17);
    let mut bed = Bed::with(&site, &jumbo(false));
    let mut client = jumbo_client(&mut bed);
    assert!(bed.get(&mut client, "/big").body == content);
    assert_eq!(client.longest_payload, JUMBO_PAYLOAD);
    // 9,014 bytes in frames of 4,096.
    assert_eq!(bed.longest_chain, 3);
    assert_eq!(bed.offloaded, 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_small_mss_of_the_peer_is_kept_on_a_large_mtu() {
    let site = Site::new();
    let content = site.file("big", 100 * KIB);
    let mut bed = Bed::with(&site, &jumbo(true));
    let offer = Offer {
        mss: 1200,
        ..Offer::default()
    };
    let mut client = Client::with(bed.take_port(), offer);
    bed.run_one(&mut client, Client::is_established);
    assert!(bed.get(&mut client, "/big").body == content);
    assert_eq!(client.longest_payload, 1200 - 12);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn checksums_are_left_to_a_device_that_offers_it() {
    let site = Site::new();
    let content = site.file("big", 100 * KIB + 1);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/big").body == content);
    bed.close(client);
    assert!(bed.offloaded > 70);
    assert_eq!(bed.sealed, 0);
    bed.assert_at_rest();
}

#[test]
fn checksums_are_computed_for_a_device_that_cannot() {
    let site = Site::new();
    let content = site.file("big", 100 * KIB + 1);
    let setup = Setup {
        offload: false,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/big").body == content);
    bed.close(client);
    assert!(bed.sealed > 70);
    assert_eq!(bed.offloaded, 0);
    bed.assert_at_rest();
}

#[test]
fn the_service_speaks_ipv6() {
    let site = Site::new();
    let content = site.file("big", 100 * KIB + 1);
    for offload in [true, false] {
        let setup = Setup {
            offload,
            ..Setup::default()
        };
        let mut bed = Bed::with(&site, &setup);
        let mut client = Client::connect_v6(bed.take_port());
        bed.run_one(&mut client, Client::is_established);
        assert!(bed.get(&mut client, "/big").body == content);
        assert_eq!(client.longest_payload, 1500 - 40 - 20 - 12);
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn a_client_without_any_option_is_served() {
    // RFC 9293 section 3.7.1: options are optional; without scaling the window ends at 65,535.
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let mut bed = Bed::new(&site);
    let offer = Offer {
        mss: 536,
        window_scale: None,
        sack: false,
        timestamps: false,
    };
    let mut client = Client::with(bed.take_port(), offer);
    bed.run_one(&mut client, Client::is_established);
    assert!(bed.get(&mut client, "/big").body == content);
    assert_eq!(client.longest_payload, 536);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_partial_checksum_is_accepted_where_the_policy_says_so() {
    let site = Site::new();
    let content = site.file("small", 5000);
    let setup = Setup {
        checksum_rx: ChecksumPolicy::AcceptPartial,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut client = bed.connect();
    client.seal = Seal::Partial;
    assert!(bed.get(&mut client, "/small").body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_partial_checksum_is_refused_otherwise() {
    let site = Site::new();
    site.file("small", 5000);
    let mut bed = Bed::new(&site);
    assert_refused(&mut bed, Seal::Partial);
}

#[test]
fn a_wrong_checksum_is_refused_whatever_the_policy() {
    let site = Site::new();
    site.file("small", 5000);
    for checksum_rx in [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial] {
        let setup = Setup {
            checksum_rx,
            ..Setup::default()
        };
        let mut bed = Bed::with(&site, &setup);
        assert_refused(&mut bed, Seal::Wrong);
    }
}

/// A request sealed like this is dropped, counted and not answered; sent again as it should be, it is.
fn assert_refused(bed: &mut Bed, seal: Seal) {
    let mut client = bed.connect();
    client.seal = seal;
    client.write(get("/small"));
    bed.settle_one(&mut client);
    assert!(client.received.is_empty() && !client.is_heard() && !client.reset);
    let report = bed.report();
    assert_eq!(
        report.worker.dropped[DropReason::TcpBadChecksum.index()],
        1,
        "{seal:?}"
    );
    client.seal = Seal::Full;
    client.resend();
    assert_eq!(bed.response(&mut client).status, 200);
}

/// A request head of exactly `len` bytes.
fn long_request(path: &str, len: usize) -> String {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: sluice.test\r\n");
    let end = "\r\n";
    while request.len() + end.len() < len {
        let left = len - request.len() - end.len();
        // No rest that is too short for a field.
        let field = if left > 600 { 500 } else { left };
        let value = "v".repeat(field - "X-F: \r\n".len());
        request.push_str(&format!("X-F: {value}\r\n"));
    }
    request.push_str(end);
    assert_eq!(request.len(), len);
    request
}

#[test]
fn a_request_as_long_as_the_limit_comes_in_one_chain_of_frames() {
    let site = Site::new();
    let content = site.file("small", 5000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let request = long_request("/small", 16 * KIB);
    client.hold_back(&request);
    // As GRO merges it: one packet of 16,450 bytes in five frames.
    let frame = client.segment(0..request.len());
    client.out.push(frame);
    assert!(bed.response(&mut client).body == content);
    let queue = bed.report().queue;
    assert_eq!(queue.rx_frames - queue.rx_packets, 4);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_chain_with_old_and_new_bytes_gives_only_the_new_ones() {
    let site = Site::new();
    let content = site.file("small", 5000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let request = long_request("/small", 12_000);
    client.hold_back(&request);
    // A hole before 5,000..9,000, then everything in one chain whose pieces end elsewhere.
    for range in [5000..9000, 0..1000, 0..request.len()] {
        let frame = client.segment(range);
        client.out.push(frame);
    }
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_request_one_byte_longer_than_the_limit_is_431() {
    let site = Site::new();
    site.file("small", 5000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(long_request("/small", 16 * KIB + 1));
    let response = bed.response(&mut client);
    assert_eq!(response.status, 431);
    bed.run_one(&mut client, |client| client.finished);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn frames_that_do_not_parse_are_counted_by_reason_and_not_answered() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = Client::connect(bed.take_port());
    let syn = client.out.remove(0);
    // Cut in every layer, and a version that is none.
    for cut in [10, 20, 40] {
        assert!(bed.nic.inject(&syn[..cut]));
    }
    let mut odd = syn.clone();
    odd[14] = 0x55;
    assert!(bed.nic.inject(&odd));
    assert!(bed.turn().is_empty());
    let dropped: u64 = bed.report().worker.dropped.iter().sum();
    assert_eq!(dropped, 4);
    bed.assert_at_rest();
}

/// Writes CE into the IPv4 header of a frame and its checksum anew.
fn mark(frame: &mut [u8]) {
    frame[15] |= 0b11;
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded).expect("twenty bytes");
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 9768 sections 3.1.2 and 3.2: flags, option and codepoint between the frame and the stack.
#[test]
fn accurate_ecn_passes_between_the_frame_and_the_stack() {
    let site = Site::new();
    // One short segment: a full one has no room for the option.
    site.file("a", 100);
    let mut bed = Bed::new(&site);
    let from = SocketAddr::new(IpAddr::V4(CLIENT_IP), bed.take_port());
    let mut header = TcpHeader {
        src_port: from.port(),
        dst_port: SERVER.port(),
        seq: 1_000,
        ack: 0,
        flags: TcpFlags::SYN.union(TcpFlags::ACE),
        window: 60_000,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let syn = frames::segment(from, SERVER, &header, &[], Seal::Full);
    assert!(bed.nic.inject(&syn));
    let answer = bed.turn();
    let (syn_ack, _) = frames::read(&answer[0]);
    assert_eq!(syn_ack.header.flags.ace(), 0b010, "it arrived as Not-ECT");
    let option = syn_ack.header.options.accecn.expect("an option");
    assert_eq!((option.ect0(), option.ce()), (Some(1), Some(0)));

    header.seq = 1_001;
    header.ack = syn_ack.header.seq.wrapping_add(1);
    header.flags = TcpFlags::ACK.with_ace(5);
    let request = get("/a");
    let mut frame = frames::segment(from, SERVER, &header, request.as_bytes(), Seal::Full);
    mark(&mut frame);
    assert!(bed.nic.inject(&frame));
    let mut told = None;
    for _ in 0..50_000 {
        for frame in &bed.turn() {
            let (packet, payload) = frames::read(frame);
            assert_eq!(packet.header.flags.ace(), 6, "one more than 5");
            told = told.or(packet.header.options.accecn.and_then(|option| option.ce()));
            if !payload.is_empty() {
                assert_eq!(packet.ecn, Ecn::Ect0);
                assert_eq!(told, u32::try_from(request.len()).ok());
                return;
            }
        }
        wait_for_helpers();
    }
    panic!("no answer");
}

/// RFC 3168 sections 5 and 6.1: both ways between the IP header and the stack.
#[test]
fn congestion_marks_pass_between_the_ip_header_and_the_stack() {
    let site = Site::new();
    site.file("a", 3 * KIB);
    let mut bed = Bed::new(&site);
    let from = SocketAddr::new(IpAddr::V4(CLIENT_IP), bed.take_port());
    let mut header = TcpHeader {
        src_port: from.port(),
        dst_port: SERVER.port(),
        seq: 1_000,
        ack: 0,
        flags: TcpFlags::SYN.union(TcpFlags::ECE).union(TcpFlags::CWR),
        window: 60_000,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let syn = frames::segment(from, SERVER, &header, &[], Seal::Full);
    assert!(bed.nic.inject(&syn));
    let answer = bed.turn();
    let (syn_ack, _) = frames::read(&answer[0]);
    assert!(syn_ack.header.flags.contains(TcpFlags::ECE));
    assert!(!syn_ack.header.flags.contains(TcpFlags::CWR));
    assert_eq!(syn_ack.ecn, Ecn::NotEct);

    header.seq = 1_001;
    header.ack = syn_ack.header.seq.wrapping_add(1);
    header.flags = TcpFlags::ACK;
    let mut request = frames::segment(from, SERVER, &header, get("/a").as_bytes(), Seal::Full);
    mark(&mut request);
    assert!(bed.nic.inject(&request));
    for _ in 0..50_000 {
        let sent = bed.turn();
        let data = sent.iter().map(|frame| frames::read(frame));
        let data: Vec<_> = data.filter(|(_, payload)| !payload.is_empty()).collect();
        if let Some((packet, _)) = data.first() {
            assert_eq!(packet.ecn, Ecn::Ect0);
            assert!(packet.header.flags.contains(TcpFlags::ECE), "the echo");
            return;
        }
        wait_for_helpers();
    }
    panic!("no answer");
}
