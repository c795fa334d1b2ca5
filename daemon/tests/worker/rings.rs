//! A device that is late, full, down or gone. Bytes are never lost to it, and every frame keeps its one owner.
//!
//! The ledger is checked after every turn by the [`bed`](crate::bed); here it is also checked for exact numbers.

use core::time::Duration;

use rustix::io::Errno;

use crate::bed::{Bed, Setup, deliver, get};
use crate::client::{Client, Offer};
use crate::frames;
use crate::site::{KIB, MIB, Site};

/// A round at whose end the kick fails and nothing leaves the TX ring.
fn round_without_kick(bed: &mut Bed, client: &mut Client, errno: Errno) {
    bed.inject_from(client);
    bed.nic.stall(true);
    bed.nic.fail_next_kick(errno.raw_os_error());
    assert!(bed.turn().is_empty());
    bed.nic.stall(false);
}

#[test]
fn a_kick_that_fails_for_a_while_costs_nothing_but_time() {
    let site = Site::new();
    let content = site.file("big", 4 * MIB);
    for errno in [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM, Errno::NETDOWN] {
        let mut bed = Bed::new(&site);
        let mut client = bed.connect();
        client.write(get("/big"));
        let mut rounds = 0;
        while !client.has_response() {
            if rounds % 3 == 0 {
                round_without_kick(&mut bed, &mut client, errno);
            }
            bed.round(core::slice::from_mut(&mut client));
            rounds += 1;
        }
        assert!(client.take_response().is_some_and(|r| r.body == content));
        let report = bed.report();
        let (again, no_memory, down) = (
            report.queue.kicks_again,
            report.queue.kicks_no_memory,
            report.queue.kicks_down,
        );
        let failed = again + no_memory + down;
        assert!(failed > 3, "{errno}: {failed} kicks failed");
        match errno {
            Errno::AGAIN => assert_eq!(again, failed),
            Errno::NETDOWN => assert_eq!((down, report.worker.link_down), (failed, failed)),
            _ => assert_eq!(no_memory, failed),
        }
        let tcp = report.tcp;
        assert_eq!((tcp.retransmitted_fast, tcp.timeouts), (0, 0), "{errno}");
        assert_eq!(report.worker.tx_not_built, 0);
        bed.close(client);
        bed.assert_at_rest();
    }
}

#[test]
fn what_a_failed_kick_left_is_kicked_again_though_nothing_else_happens() {
    let site = Site::new();
    let content = site.file("small", 3000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/small"));
    while bed.nic.tx_queued() == 0 {
        round_without_kick(&mut bed, &mut client, Errno::AGAIN);
    }
    bed.nic.stall(true);
    let kicks = bed.nic.kicks();
    for turn in 1..4 {
        bed.turn();
        assert_eq!(bed.nic.kicks(), kicks + turn);
    }
    bed.nic.stall(false);
    assert!(bed.response(&mut client).body == content);
    let kicks = bed.nic.kicks();
    bed.settle_one(&mut client);
    let kicks_to_settle = bed.nic.kicks() - kicks;
    for _ in 0..10 {
        bed.turn();
    }
    assert_eq!(
        bed.nic.kicks(),
        kicks + kicks_to_settle,
        "with nothing in the ring there is no system call"
    );
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_frame_that_the_driver_dropped_is_sent_again() {
    // EBUSY: the frame completes as if it had been sent (net/xdp/xsk.c, __xsk_generic_xmit).
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    let mut lost: u64 = 0;
    while !client.has_response() {
        bed.inject_from(&mut client);
        let drop_one = client.received.len() / (200 * KIB) > usize::try_from(lost).expect("few");
        if drop_one {
            bed.nic.fail_next_kick(Errno::BUSY.raw_os_error());
        }
        let sent = bed.turn();
        let dropped = usize::from(drop_one && !sent.is_empty());
        if drop_one && dropped == 0 {
            // Nothing was sent, so nothing was dropped: the answer waits for the next kick.
            bed.nic.fail_next_kick(0);
        }
        for frame in &sent[dropped..] {
            deliver(frame, core::slice::from_mut(&mut client), bed.now);
        }
        lost += u64::from(dropped == 1);
        bed.pass(Duration::from_micros(50));
    }
    assert!(client.take_response().is_some_and(|r| r.body == content));
    let report = bed.report();
    assert!(lost >= 3);
    assert_eq!(report.queue.kicks_frame_lost, lost);
    assert_eq!(report.tcp.timeouts, 0);
    bed.settle_one(&mut client);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_socket_that_is_not_bound_any_more_is_counted_and_breaks_nothing() {
    // ENXIO: the interface was removed. EINVAL: the kernel refuses the head of the ring for ever.
    let site = Site::new();
    site.file("big", MIB);
    for errno in [Errno::NXIO, Errno::INVAL] {
        let mut bed = Bed::new(&site);
        let mut client = bed.connect();
        client.write(get("/big"));
        bed.run_one(&mut client, |client| client.received.len() > 100 * KIB);
        for _ in 0..5 {
            round_without_kick(&mut bed, &mut client, errno);
        }
        assert_eq!(bed.report().worker.queue_lost, 5, "{errno}");
        assert_eq!(bed.worker.stack().len(), 1);
    }
}

#[test]
fn frames_whose_completion_is_late_are_not_used_and_sending_goes_on_as_they_come() {
    const RING: u32 = 64;
    let site = Site::new();
    let content = site.file("big", MIB);
    let setup = Setup {
        ring: RING,
        rx_ring: RING,
        frames: 4 * RING,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 100 * KIB);
    bed.nic.hold_completions(true);
    bed.settle_one(&mut client);
    let stopped_at = client.received.len();
    let in_flight = bed.worker.queue().ledger().tx_in_flight;
    assert!(
        (RING - 2..=RING).contains(&in_flight),
        "every completion has its place in the ring: {in_flight} in flight"
    );
    assert!(stopped_at < MIB);
    while !client.has_response() {
        assert!(bed.nic.complete(7) > 0, "frames are with the device");
        bed.settle_one(&mut client);
        let in_flight = bed.worker.queue().ledger().tx_in_flight;
        assert!(in_flight <= RING, "{in_flight} frames in flight");
    }
    assert!(client.take_response().is_some_and(|r| r.body == content));
    bed.nic.hold_completions(false);
    while bed.nic.complete(u32::MAX) > 0 {
        bed.turn();
    }
    let report = bed.report();
    assert_eq!((report.tcp.timeouts, report.worker.tx_not_built), (0, 0));
    bed.settle_one(&mut client);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn frames_whose_completion_never_comes_are_missed_and_nothing_else_is() {
    const LOST: u32 = 10;
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.received.len() > 100 * KIB);
    bed.nic.drop_completions(LOST);
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.turn();
    let ledger = bed.worker.queue().ledger();
    assert_eq!((ledger.tx_in_flight, ledger.tx_building), (LOST, 0));
    assert!(ledger.balanced(), "{ledger:?}");
    assert!(bed.worker.stack().is_empty());
    bed.assert_nothing_odd();
}

#[test]
fn a_transmit_ring_that_fills_up_stops_the_sender_and_loses_nothing() {
    const RING: u32 = 32;
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let setup = Setup {
        ring: RING,
        rx_ring: RING,
        frames: 8 * RING,
        mtu: 9000,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let offer = Offer {
        mss: 8960,
        ..Offer::default()
    };
    let mut client = Client::with(bed.take_port(), offer);
    bed.run_one(&mut client, Client::is_established);
    client.write(get("/big"));
    let mut fullest = 0;
    while !client.has_response() {
        // The link takes a chain of three frames now and then.
        bed.nic.stall(true);
        for _ in 0..3 {
            bed.inject_from(&mut client);
            bed.turn();
        }
        fullest = fullest.max(bed.nic.tx_queued());
        bed.nic.stall(false);
        let mut sent = Vec::new();
        bed.nic.transmit(3, |pieces, checksum| {
            let mut frame = pieces.concat();
            frames::complete(&mut frame, checksum.expect("offloaded"));
            sent.push(frame);
        });
        for frame in &sent {
            deliver(frame, core::slice::from_mut(&mut client), bed.now);
        }
    }
    assert!(client.take_response().is_some_and(|r| r.body == content));
    // A packet of three frames needs three places.
    assert!(
        (RING - 2..=RING).contains(&fullest),
        "{fullest} in the ring"
    );
    let report = bed.report();
    assert_eq!(report.worker.tx_not_built, 0);
    assert_eq!((report.tcp.timeouts, report.tcp.retransmitted_fast), (0, 0));
    bed.settle_one(&mut client);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_queue_without_chains_sends_packets_of_one_frame_however_large_the_mtu() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let setup = Setup {
        mtu: 9000,
        multi_buffer: false,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let offer = Offer {
        mss: 8960,
        ..Offer::default()
    };
    let mut client = Client::with(bed.take_port(), offer);
    bed.run_one(&mut client, Client::is_established);
    assert!(bed.get(&mut client, "/big").body == content);
    assert_eq!(bed.longest_chain, 1);
    assert!(client.longest_payload > 3500, "{}", client.longest_payload);
    assert_eq!(bed.report().worker.tx_not_built, 0);
    bed.settle_one(&mut client);
    bed.close(client);
    bed.assert_at_rest();
}

/// `Client`s whose SYNs wait.
fn callers(bed: &mut Bed, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| Client::connect(bed.take_port()))
        .collect()
}

/// Everybody calls at once. The frames for which the rings have no room are lost; who was not heard calls again.
fn connect_all(bed: &mut Bed, clients: &mut [Client]) -> usize {
    let mut lost = 0;
    for client in clients.iter_mut() {
        for frame in core::mem::take(&mut client.out) {
            lost += usize::from(!bed.nic.inject(&frame));
        }
    }
    bed.settle(clients);
    for client in clients.iter_mut().filter(|client| !client.is_established()) {
        client.resend();
    }
    bed.settle(clients);
    assert!(clients.iter().all(Client::is_established));
    lost
}

fn hang_up(bed: &mut Bed, clients: &mut [Client]) {
    for client in clients.iter_mut() {
        client.finish();
        bed.settle_one(client);
    }
    bed.assert_at_rest();
}

#[test]
fn a_receive_ring_that_overflows_loses_frames_and_no_ownership() {
    let site = Site::new();
    let setup = Setup {
        rx_ring: 32,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut clients = callers(&mut bed, 40);
    assert_eq!(connect_all(&mut bed, &mut clients), 8);
    let kernel = bed.report().kernel.expect("statistics");
    assert_eq!(
        (kernel.rx_ring_full, kernel.rx_fill_ring_empty_descs),
        (8, 0)
    );
    hang_up(&mut bed, &mut clients);
}

#[test]
fn a_fill_ring_that_runs_dry_loses_frames_and_is_filled_again() {
    let site = Site::new();
    let setup = Setup {
        ring: 32,
        frames: 128,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut clients = callers(&mut bed, 40);
    assert_eq!(connect_all(&mut bed, &mut clients), 8);
    let kernel = bed.report().kernel.expect("statistics");
    assert_eq!(
        (kernel.rx_ring_full, kernel.rx_fill_ring_empty_descs),
        (0, 8)
    );
    assert_eq!(bed.nic.fill_level(), 32);
    hang_up(&mut bed, &mut clients);
}

#[test]
fn a_burst_longer_than_a_batch_is_taken_in_several_turns() {
    const BURST: u64 = 500;
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let syn = Client::connect(bed.take_port()).out.remove(0);
    for _ in 0..BURST {
        assert!(bed.nic.inject(&syn));
    }
    let mut turns = 0;
    let mut before = 0;
    while before < BURST {
        bed.turn();
        let taken = bed.report().queue.rx_packets;
        // Timers and transmission have their turn after this many frames.
        assert!(
            taken > before && taken - before <= 256,
            "{taken} after {before}"
        );
        before = taken;
        turns += 1;
    }
    assert_eq!(turns, 2);
    assert_eq!(bed.worker.stack().len(), 1);
    assert_eq!(bed.worker.queue().ledger().rx_held, 0);
}
