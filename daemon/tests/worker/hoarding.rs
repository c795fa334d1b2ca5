//! A full table of connections: who has been idle for longest makes room, who is busy is left alone.

use core::time::Duration;

use sluice_wire::TcpFlags;

use crate::bed::{Bed, Setup, get};
use crate::client::Client;
use crate::frames;
use crate::site::{KIB, MIB, Site};
use crate::strangers;

const ROOM: usize = 4;
const SECOND: Duration = Duration::from_secs(1);

fn small() -> Setup {
    Setup {
        connections: 4,
        ..Setup::default()
    }
}

/// Clients that have connected one after the other and said nothing.
fn hoard(bed: &mut Bed, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let client = bed.connect();
            bed.pass(Duration::from_millis(10));
            client
        })
        .collect()
}

#[test]
fn the_connection_that_was_idle_for_longest_makes_room() {
    let site = Site::new();
    let content = site.file("file", 100 * KIB);
    let mut bed = Bed::with(&site, &small());
    let mut clients = hoard(&mut bed, ROOM);
    // The first one is not the oldest any more.
    assert!(bed.get(&mut clients[0], "/file").body == content);
    bed.pass(2 * SECOND);
    bed.settle(&mut clients);
    clients.push(Client::connect(bed.take_port()));
    bed.run(&mut clients, |clients| clients[ROOM].is_established());
    clients[ROOM].write(get("/file"));
    bed.run(&mut clients, |clients| clients[ROOM].has_response());
    assert!(
        clients[ROOM]
            .take_response()
            .is_some_and(|answer| answer.body == content)
    );
    let reset: Vec<bool> = clients.iter().map(|client| client.reset).collect();
    assert!(!reset[0] && reset[1], "{reset:?}");
    assert!(bed.report().service.counters.idle_evicted >= 1);
}

#[test]
fn a_connection_with_a_response_under_way_is_never_evicted() {
    let site = Site::new();
    site.file("big", 8 * MIB);
    let mut bed = Bed::with(&site, &small());
    let mut busy: Vec<Client> = hoard(&mut bed, ROOM);
    for client in &mut busy {
        client.set_window(0);
        client.write(get("/big"));
    }
    bed.settle(&mut busy);
    for _ in 0..5 {
        bed.pass(SECOND);
        bed.settle(&mut busy);
    }
    busy.push(Client::connect(bed.take_port()));
    bed.settle(&mut busy);
    assert!(!busy[ROOM].is_established(), "there is no room");
    assert!(
        busy.iter().all(|client| !client.reset),
        "{:?}",
        bed.report().service.counters
    );
    assert_eq!(bed.report().service.counters.idle_evicted, 0);
}

#[test]
fn a_connection_that_has_just_come_is_left_alone_for_a_second() {
    let site = Site::new();
    let mut bed = Bed::with(&site, &small());
    let mut clients = hoard(&mut bed, ROOM);
    bed.settle(&mut clients);
    clients.push(Client::connect(bed.take_port()));
    bed.settle(&mut clients);
    assert!(!clients[ROOM].is_established(), "there is no room yet");
    assert!(clients.iter().all(|client| !client.reset));
}

#[test]
fn one_connection_makes_room_at_a_time_however_long_its_reset_waits_for_the_ring() {
    const RING: u32 = 32;
    let site = Site::new();
    let setup = Setup {
        ring: RING,
        rx_ring: RING,
        frames: 8 * RING,
        ..small()
    };
    let mut bed = Bed::with(&site, &setup);
    let clients = hoard(&mut bed, ROOM);
    // Nothing leaves, and the ring is full of answers to strangers.
    bed.nic.stall(true);
    while bed.nic.tx_queued() < RING {
        assert!(bed.nic.inject(&strangers::segment(TcpFlags::ACK, b"")));
        bed.worker.turn(|| bed.now, crate::bed::UNIX_SECONDS);
    }
    bed.pass(2 * SECOND);
    for _ in 0..10 {
        bed.worker.turn(|| bed.now, crate::bed::UNIX_SECONDS);
    }
    assert_eq!(bed.report().service.counters.idle_evicted, 1);
    bed.nic.stall(false);
    let mut sent = bed.collect();
    sent.extend(bed.turn());
    let resets = sent.iter().filter(|frame| {
        let (packet, _) = frames::read(frame);
        let to = packet.header.dst_port;
        clients.iter().any(|client| client.local.port() == to)
    });
    assert_eq!(resets.count(), 1);
    assert_eq!(bed.report().service.counters.idle_evicted, 1);
}
