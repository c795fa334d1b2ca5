//! The TSO lane: what leaves as one super-segment arrives as the packets the stack meant, whole and in order. The
//! client compares every byte and refuses what lies beyond its window; `frames::cut` checks the sums over the whole.

use core::time::Duration;

use sluice_afxdp::GsoError;

use crate::bed::{Bed, Setup, deliver, get, wait_for_helpers};
use crate::client::Client;
use crate::site::{KIB, MIB, Site};

fn setup() -> Setup {
    Setup {
        gso: true,
        // The client acknowledges every packet, and a turn sends more of them than one of frames.
        ring: 4096,
        rx_ring: 4096,
        frames: 16_384,
        ..Setup::default()
    }
}

fn bed(site: &Site) -> Bed {
    Bed::with(site, &setup())
}

#[test]
fn a_large_file_leaves_as_super_segments() {
    let site = Site::new();
    let content = site.file("big", 4 * MIB + 17);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/big").body == content);
    let worker = bed.report().worker;
    let segments = content.len() as u64 / 1448;
    assert!(worker.gso_segments > segments * 9 / 10, "{worker:?}");
    // 45 segments fit, and a window of the client is 44.
    assert!(worker.gso_segments > 20 * worker.gso_sent, "{worker:?}");
    assert_eq!((worker.gso_not_taken, worker.gso_dropped), (0, 0));
    assert_eq!(client.duplicates, 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn super_segments_over_ipv6_arrive_whole() {
    let site = Site::new();
    let content = site.file("big", MIB + 17);
    let mut bed = bed(&site);
    let mut client = Client::connect_v6(bed.take_port());
    bed.run_one(&mut client, Client::is_established);
    assert!(bed.get(&mut client, "/big").body == content);
    assert!(bed.report().worker.gso_sent > 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_single_segment_leaves_by_the_ring() {
    let site = Site::new();
    let content = site.file("small", KIB);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/small").body == content);
    assert_eq!(bed.report().worker.gso_sent, 0);
    assert!(bed.offloaded > 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_flow_in_long_turns_reads_four_blocks_by_a_call() {
    const BLOCKS: usize = 512;
    let site = Site::new();
    let content = site.file("big", BLOCKS * 64 * KIB);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.round(core::slice::from_mut(&mut client));
    // Turns are long again.
    bed.pass(Duration::from_millis(25));
    assert!(bed.response(&mut client).body == content);
    let reads = bed.report().service.reads;
    if reads.reads_helper > 0 {
        eprintln!("the temporary directory cannot tell what is in memory: calls are not counted");
    } else {
        assert_eq!(reads.reads_inline, BLOCKS as u64, "each once");
        assert!(reads.read_calls < BLOCKS as u64 / 3, "{reads:?}");
        assert!(reads.version_checks <= reads.read_calls + 1, "{reads:?}");
    }
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn many_flows_of_one_turn_keep_their_bytes_apart() {
    let site = Site::new();
    let contents = site.files(40, 200 * KIB);
    let mut bed = bed(&site);
    bed.download_at_once(&contents);
    let sent = bed.report().worker.gso_sent;
    assert!(sent > 40);
    let calls = bed.gso.as_ref().expect("asked for").calls() as u64;
    assert!(calls < sent / 2, "{calls} calls for {sent} super-segments");
}

#[test]
fn the_last_bytes_of_a_response_leave_with_what_is_before_them() {
    let site = Site::new();
    let content = site.file("object", 64 * KIB);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    client.set_window(262_144);
    // The window of the sender grows until it holds a response, which is one segment longer than a super-segment.
    for _ in 0..4 {
        assert!(bed.get(&mut client, "/object").body == content);
    }
    let ring = bed.report().queue.tx_packets;
    let calls = bed.gso.as_ref().expect("asked for").calls();
    assert!(bed.get(&mut client, "/object").body == content);
    assert_eq!(bed.gso.as_ref().expect("asked for").calls(), calls + 1);
    assert_eq!(bed.report().queue.tx_packets, ring, "nothing by the ring");
    assert_eq!((client.duplicates, client.out_of_order), (0, 0));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn what_left_together_keeps_its_order_behind_one_that_was_not_taken() {
    for (taken, error) in [
        (1, GsoError::Full),
        (2, GsoError::Refused(22)),
        (3, GsoError::Full),
    ] {
        let site = Site::new();
        let content = site.file("big", 600 * KIB);
        let mut bed = bed(&site);
        let mut client = bed.connect();
        bed.gso
            .as_ref()
            .expect("asked for")
            .fail_after(taken, error);
        assert!(bed.get(&mut client, "/big").body == content);
        let worker = bed.report().worker;
        assert_eq!((worker.gso_not_taken, worker.gso_dropped), (1, 0));
        assert_eq!((client.duplicates, client.out_of_order), (0, 0));
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn what_the_socket_does_not_take_leaves_by_the_ring_at_once() {
    for error in [GsoError::Full, GsoError::Refused(22)] {
        let site = Site::new();
        let content = site.file("big", 300 * KIB);
        let mut bed = bed(&site);
        let mut client = bed.connect();
        bed.gso.as_ref().expect("asked for").fail_next(error);
        assert!(bed.get(&mut client, "/big").body == content);
        let worker = bed.report().worker;
        assert_eq!((worker.gso_not_taken, worker.gso_dropped), (1, 0));
        assert_eq!(client.duplicates, 0, "nothing was sent twice");
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn a_refusal_rests_the_lane_for_a_second() {
    let site = Site::new();
    let content = site.file("big", 600 * KIB);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    let twin = bed.gso.as_ref().expect("asked for");
    twin.fail_next(GsoError::Refused(22));
    let began = bed.now;
    assert!(bed.get(&mut client, "/big").body == content);
    let worker = bed.report().worker;
    assert!(bed.now.saturating_since(began) < Duration::from_secs(1));
    assert_eq!((worker.gso_refused, worker.gso_errno), (1, 22));
    assert_eq!(worker.gso_sent, 0, "frames meanwhile");
    bed.settle_one(&mut client);
    bed.pass(Duration::from_secs(1));
    assert!(bed.get(&mut client, "/big").body == content);
    assert!(bed.report().worker.gso_sent > 0, "{worker:?}");
    bed.close(client);
    bed.assert_at_rest();
}

/// The stack is never asked for more than the ring takes, however the socket answers.
#[test]
fn of_a_run_that_a_short_ring_has_to_carry_nothing_is_lost() {
    for multi_buffer in [false, true] {
        let site = Site::new();
        let content = site.file("big", 300 * KIB);
        let setup = Setup {
            gso: true,
            multi_buffer,
            ring: 32,
            ..Setup::default()
        };
        let mut bed = Bed::with(&site, &setup);
        let mut client = bed.connect();
        client.write(get("/big"));
        while !client.has_response() {
            let twin = bed.gso.as_ref().expect("asked for");
            twin.fail_next(GsoError::Full);
            if bed.round(core::slice::from_mut(&mut client)) == 0 {
                wait_for_helpers();
            }
            bed.pass(Duration::from_micros(50));
        }
        assert!(bed.response(&mut client).body == content);
        let worker = bed.report().worker;
        assert!(worker.gso_not_taken >= 5, "{worker:?}");
        assert_eq!(worker.tx_not_built, 0, "{worker:?}");
        assert_eq!((client.duplicates, client.out_of_order), (0, 0));
        bed.close(client);
        bed.assert_at_rest();
    }
}

/// And not offered again, which would send twice what of it has left: alone or first, in the middle, and last of a call.
#[test]
fn a_super_segment_dropped_behind_the_socket_is_repeated_by_loss_recovery() {
    for taken in 0..4 {
        let site = Site::new();
        let content = site.file("big", 600 * KIB);
        let mut bed = bed(&site);
        let mut client = bed.connect();
        bed.gso
            .as_ref()
            .expect("asked for")
            .fail_after(taken, GsoError::Dropped);
        client.write(get("/big"));
        // What is lost at the tail needs a timer.
        while !client.has_response() {
            if bed.round(core::slice::from_mut(&mut client)) == 0 {
                bed.pass(Duration::from_millis(50));
                wait_for_helpers();
            } else {
                bed.pass(Duration::from_micros(50));
            }
        }
        assert!(bed.response(&mut client).body == content);
        let worker = bed.report().worker;
        assert_eq!((worker.gso_dropped, worker.gso_not_taken), (1, 0));
        assert_eq!(client.duplicates, 0, "{taken} taken");
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn a_run_does_not_overtake_frames_of_its_flow_in_the_ring() {
    let site = Site::new();
    let content = site.file("big", 600 * KIB);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    // The first run cannot leave: its segments wait in a ring that the device does not empty.
    bed.gso
        .as_ref()
        .expect("asked for")
        .fail_next(GsoError::Full);
    client.write(get("/big"));
    bed.nic.stall(true);
    while bed.worker.queue().tx_queued() < 10 {
        bed.inject_from(&mut client);
        assert!(bed.turn().is_empty(), "a stalled device sends nothing");
        wait_for_helpers();
    }
    bed.nic.stall(false);
    // All that follows goes behind them until the ring is empty.
    for frame in bed.collect() {
        deliver(&frame, core::slice::from_mut(&mut client), bed.now);
    }
    assert!(bed.response(&mut client).body == content);
    assert_eq!(client.duplicates, 0);
    assert_eq!(client.out_of_order, 0, "in the order of the stream");
    bed.close(client);
    bed.assert_at_rest();
}

/// Blocks end elsewhere than super-segments do: what lies between is kept for the next one.
#[test]
fn no_packets_of_their_own_are_left_over_between_super_segments() {
    let site = Site::new();
    let content = site.file("big", 12 * MIB);
    let mut bed = bed(&site);
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/big").body == content);
    let worker = bed.report().worker;
    let single = u64::from(client.data_segments) - worker.gso_segments;
    // Slow start and the end have some; it would be another for every fourth of the 200 super-segments.
    assert!(single < 12, "{single} of {}", client.data_segments);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn turns_are_long_when_nobody_has_asked_for_a_while_and_short_after_a_request() {
    let site = Site::new();
    let content = site.file("big", 16 * MIB);
    site.file("small", KIB);
    let mut bed = Bed::with(
        &site,
        &Setup {
            // All of the file: no turn waits for the disk.
            blocks: 300,
            ..setup()
        },
    );
    let mut clients = [bed.connect(), bed.connect()];
    assert!(bed.get(&mut clients[0], "/big").body == content);
    // The most super-segments of one turn, of some turns.
    let most = |bed: &mut Bed, clients: &mut [Client]| {
        let sent = |bed: &Bed| bed.report().worker.gso_sent;
        let of_turn = |_| {
            let before = sent(bed);
            bed.round(clients);
            bed.pass(Duration::from_micros(50));
            sent(bed) - before
        };
        (0..12).map(of_turn).max()
    };
    clients[0].write(get("/big"));
    assert_eq!(most(&mut bed, &mut clients), Some(2), "of one connection");
    bed.pass(Duration::from_millis(20));
    assert_eq!(most(&mut bed, &mut clients), Some(8));
    clients[1].write(get("/small"));
    assert!(
        most(&mut bed, &mut clients) <= Some(8),
        "the turn before it"
    );
    assert_eq!(most(&mut bed, &mut clients), Some(2));
    bed.run(&mut clients, |clients| {
        clients.iter().all(Client::has_response)
    });
    assert!(
        clients[0]
            .take_response()
            .is_some_and(|answer| answer.body == content)
    );
    bed.settle(&mut clients);
    for client in clients {
        bed.close(client);
    }
    bed.assert_at_rest();
}
