//! The gather lane: payload that leaves from the file blocks. The twin of the kernel refuses descriptors that the kernel
//! would, and reads the bytes when it sends them, so a block that changed before its completion would show.

use core::time::Duration;

use sluice_wire::TcpPacket;

use crate::bed::{Bed, Setup, deliver, get, wait_for_helpers};
use crate::client::{Client, Offer};
use crate::frames;
use crate::site::{KIB, MIB, Site};

const BLOCK: usize = 64 * KIB;

fn setup() -> Setup {
    Setup {
        gather: true,
        ..Setup::default()
    }
}

/// Downloads a file by one client and looks at what the lane did.
fn downloads(setup: &Setup, v6: bool) {
    let site = Site::new();
    let content = site.file("big", 4 * MIB + 17);
    let mut bed = Bed::with(&site, setup);
    let offer = Offer {
        mss: setup.mtu - 40,
        ..Offer::default()
    };
    let port = bed.take_port();
    let mut client = match v6 {
        true => Client::connect_v6(port),
        false => Client::with(port, offer),
    };
    bed.run_one(&mut client, Client::is_established);
    assert!(bed.get(&mut client, "/big").body == content);
    assert_eq!((client.duplicates, client.out_of_order), (0, 0));
    let gather = bed.report().gather;
    let all = content.len() as u64;
    assert!(gather.bytes > all * 9 / 10, "{gather:?}");
    assert_eq!(gather.not_taken, 0, "{gather:?}");
    let sums = match setup.offload {
        true => bed.sealed,
        false => bed.offloaded,
    };
    assert_eq!(sums, 0, "checksums as the copy lane does them");
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_large_file_leaves_from_the_blocks() {
    downloads(&setup(), false);
}

#[test]
fn a_large_file_leaves_from_the_blocks_over_ipv6() {
    downloads(&setup(), true);
}

#[test]
fn without_metadata_payload_is_summed_where_it_lies() {
    let software = Setup {
        offload: false,
        ..setup()
    };
    downloads(&software, false);
    downloads(&software, true);
}

#[test]
fn jumbo_packets_leave_as_slices_of_several_chunks() {
    for offload in [true, false] {
        let jumbo = Setup {
            mtu: 9000,
            offload,
            ..setup()
        };
        downloads(&jumbo, false);
    }
}

#[test]
fn the_smallest_rings_lose_no_packet() {
    let small = Setup {
        mtu: 9000,
        ring: 32,
        ..setup()
    };
    downloads(&small, false);
}

#[test]
fn a_small_response_is_a_single_frame() {
    let site = Site::new();
    let content = site.file("small", 100);
    let mut bed = Bed::with(&site, &setup());
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/small").body == content);
    assert_eq!(bed.report().gather.packets, 0);
    assert_eq!(bed.longest_chain, 1);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn responses_in_one_segment_leave_in_the_order_of_the_stream() {
    let site = Site::new();
    let first = site.file("first", 500);
    let second = site.file("second", BLOCK + 500);
    let mut bed = Bed::with(&site, &setup());
    let mut client = bed.connect();
    client.write(get("/first") + &get("/second") + &get("/first"));
    for content in [&first, &second, &first] {
        assert!(bed.response(&mut client).body == *content);
    }
    assert!(bed.report().gather.packets > 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_driver_of_few_pieces_gets_the_rest_by_the_copy_lane() {
    for (pieces, takes_all) in [(2, false), (3, false), (4, true)] {
        let few = Setup {
            packet_frames: pieces,
            ..setup()
        };
        let site = Site::new();
        let content = site.file("big", MIB + 17);
        let mut bed = Bed::with(&site, &few);
        assert_eq!(bed.worker.tx_lane(), "gather");
        let mut client = bed.connect();
        assert!(bed.get(&mut client, "/big").body == content);
        let gather = bed.report().gather;
        assert_eq!(gather.not_taken == 0, takes_all, "{pieces}: {gather:?}");
        assert!(gather.bytes > content.len() as u64 / 2, "{gather:?}");
        assert!(bed.longest_chain <= pieces);
        assert_eq!((client.duplicates, client.out_of_order), (0, 0));
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn a_driver_of_one_piece_has_the_copy_lane() {
    let site = Site::new();
    let one = Setup {
        multi_buffer: false,
        ..setup()
    };
    let bed = Bed::with(&site, &one);
    assert_eq!(bed.worker.tx_lane(), "copy");
}

#[test]
fn a_block_is_pinned_until_the_last_completion() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let mut bed = Bed::with(&site, &setup());
    let mut client = bed.connect();
    bed.nic.hold_completions(true);
    assert!(bed.get(&mut client, "/big").body == content);
    bed.close(client);
    assert!(bed.worker.stack().is_empty(), "everything is acknowledged");
    let blocks = content.len().div_ceil(BLOCK);
    let pinned = |bed: &Bed| bed.report().service.disk.pinned as usize;
    assert_eq!(pinned(&bed), blocks);
    while bed.worker.queue().slices_in_flight() > 1 {
        bed.nic.complete(1);
        bed.turn();
        assert!(pinned(&bed) <= blocks);
    }
    assert_eq!(pinned(&bed), 1);
    bed.nic.hold_completions(false);
    bed.nic.complete(u32::MAX);
    bed.assert_at_rest();
}

/// The bytes of the file that a packet carries, by their place in the stream of the connection.
fn payload(frame: &[u8]) -> Option<(TcpPacket, Vec<u8>)> {
    let (packet, payload) = frames::read(frame);
    (!payload.is_empty()).then(|| (packet, payload.to_vec()))
}

/// A retransmission waits in the ring while its original is acknowledged, the connection ends, and others want every
/// block there is. What leaves at last must be what was to be sent.
#[test]
fn a_block_is_not_used_again_while_a_retransmission_of_it_waits_in_the_ring() {
    let site = Site::new();
    site.file("old", BLOCK);
    let new = site.file("new", 8 * BLOCK);
    let tight = Setup {
        blocks: 2,
        ..setup()
    };
    let mut bed = Bed::with(&site, &tight);
    let mut client = bed.connect();
    client.write(get("/old"));
    // All of it arrives and nothing of it is acknowledged, until the RTO.
    let mut originals = Vec::new();
    while client.received.len() < BLOCK {
        bed.inject_from(&mut client);
        for frame in bed.turn() {
            deliver(&frame, core::slice::from_mut(&mut client), bed.now);
            originals.extend(payload(&frame));
        }
        if originals.len() < 10 {
            bed.pass(Duration::from_micros(50));
            wait_for_helpers();
        } else {
            break;
        }
    }
    client.out.clear();
    bed.nic.stall(true);
    loop {
        bed.pass(Duration::from_millis(250));
        assert!(bed.turn().is_empty(), "a stalled device sends nothing");
        if bed.worker.queue().slices_in_flight() > 0 {
            break;
        }
    }
    client.abort();
    bed.inject_from(&mut client);
    bed.turn();
    assert_eq!(bed.report().service.disk.pinned, 1, "by the lane alone");
    // The other block is all that a second client can have, for several blocks one after the other.
    let mut second = Client::connect(bed.take_port());
    second.write(get("/new"));
    for _ in 0..20 {
        bed.inject_from(&mut second);
        bed.turn();
        wait_for_helpers();
        bed.pass(Duration::from_micros(50));
    }
    bed.nic.stall(false);
    let late: Vec<_> = bed
        .collect()
        .iter()
        .filter(|frame| frames::read(frame).0.header.dst_port == client.local.port())
        .filter_map(|frame| payload(frame))
        .collect();
    assert!(!late.is_empty(), "the retransmission left");
    for (packet, bytes) in late {
        let original = originals
            .iter()
            .find(|(original, _)| original.header.seq == packet.header.seq);
        if let Some((_, original)) = original {
            assert!(*original == bytes, "SEQ {}", packet.header.seq);
        }
    }
    second.resend();
    let mut both = [client, second];
    bed.run(&mut both, |clients| clients[1].has_response());
    let [_, mut second] = both;
    assert!(bed.response(&mut second).body == new);
    bed.close(second);
    bed.assert_at_rest();
}

#[test]
fn many_flows_share_few_blocks() {
    let site = Site::new();
    let contents = site.files(40, 200 * KIB);
    let tight = Setup {
        blocks: 8,
        ..setup()
    };
    let mut bed = Bed::with(&site, &tight);
    bed.download_at_once(&contents);
}

#[test]
fn what_is_lost_is_sent_again_from_the_blocks() {
    let site = Site::new();
    let content = site.file("big", 2 * MIB);
    let mut bed = Bed::with(&site, &setup());
    let mut client = bed.connect();
    client.write(get("/big"));
    let mut sent = 0_u32;
    while !client.has_response() {
        bed.inject_from(&mut client);
        let frames = bed.turn();
        for frame in &frames {
            sent += 1;
            if !sent.is_multiple_of(40) {
                deliver(frame, core::slice::from_mut(&mut client), bed.now);
            }
        }
        if frames.is_empty() {
            wait_for_helpers();
            bed.pass(Duration::from_millis(5));
        } else {
            bed.pass(Duration::from_micros(50));
        }
    }
    assert!(bed.response(&mut client).body == content);
    assert!(bed.worker.stack().counters().retransmitted_fast > 10);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_drain_waits_for_slices_that_the_device_still_has() {
    let site = Site::new();
    let content = site.file("big", 100 * KIB);
    let mut bed = Bed::with(&site, &setup());
    let mut client = bed.connect();
    bed.nic.hold_completions(true);
    assert!(bed.get(&mut client, "/big").body == content);
    let now = bed.now;
    bed.worker.drain(now + Duration::from_secs(10), now);
    bed.close(client);
    while bed.worker.queue().ledger().tx_in_flight > 0 {
        bed.nic.complete(1);
        bed.turn();
    }
    let slices = bed.worker.queue().slices_in_flight();
    let now = bed.now;
    assert_eq!(bed.worker.has_drained(now), slices == 0);
    bed.nic.hold_completions(false);
    bed.nic.complete(u32::MAX);
    bed.turn();
    assert!(bed.worker.has_drained(now));
    bed.assert_at_rest();
}
