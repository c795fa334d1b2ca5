//! Acknowledgements that arrive in one batch and are taken as one.
//!
//! The client acknowledges every segment, so a batch is full of them.

use core::time::Duration;

use sluice_wire::DropReason;

use crate::bed::{Bed, deliver, get};
use crate::client::Client;
use crate::site::{KIB, MIB, Site};

/// A download with its window open, and the acknowledgements of a flight in `client.out`.
fn in_full_flow(bed: &mut Bed, path: &str) -> Client {
    let mut client = bed.connect();
    client.write(get(path));
    bed.run_one(&mut client, |client| client.received.len() >= 200 * KIB);
    assert!(client.out.len() >= 16, "{} frames", client.out.len());
    client
}

/// One turn, with whatever is in the ring.
fn turn(bed: &mut Bed, clients: &mut [Client]) {
    for frame in bed.turn() {
        deliver(&frame, clients, bed.now);
    }
    bed.pass(Duration::from_micros(50));
}

#[test]
fn a_batch_of_them_is_one_to_the_stack_and_every_byte_arrives() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = in_full_flow(&mut bed, "/big");
    let before = bed.report().tcp;
    let frames = bed.inject_from(&mut client) as u64;
    turn(&mut bed, core::slice::from_mut(&mut client));
    let after = bed.report().tcp;
    assert_eq!(after.segments_in - before.segments_in, frames);
    assert_eq!(after.acks_merged - before.acks_merged, frames - 1);
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn every_one_of_them_is_verified() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut client = in_full_flow(&mut bed, "/big");
    let before = bed.report();
    let damaged = client.out.len() / 2;
    let last = client.out[damaged].len() - 1;
    client.out[damaged][last] ^= 1;
    let frames = bed.inject_from(&mut client) as u64;
    turn(&mut bed, core::slice::from_mut(&mut client));
    let after = bed.report();
    let bad = DropReason::TcpBadChecksum.index();
    assert_eq!(after.worker.dropped[bad] - before.worker.dropped[bad], 1);
    assert_eq!(after.tcp.segments_in - before.tcp.segments_in, frames - 1);
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn those_of_two_connections_among_one_another_are_two_to_the_stack() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let mut bed = Bed::new(&site);
    let mut clients = [(); 2].map(|()| bed.connect());
    for client in &mut clients {
        client.write(get("/big"));
    }
    let in_full_flow =
        |client: &Client| client.received.len() >= 200 * KIB && client.out.len() >= 16;
    bed.run(&mut clients, |clients| clients.iter().all(in_full_flow));
    let [one, other] = clients
        .each_mut()
        .map(|client| core::mem::take(&mut client.out));
    let before = bed.report().tcp;
    for (one, other) in one.iter().zip(&other) {
        assert!(bed.nic.inject(one) && bed.nic.inject(other));
    }
    turn(&mut bed, &mut clients);
    let after = bed.report().tcp;
    let frames = after.segments_in - before.segments_in;
    assert!(frames >= 32, "{frames}");
    assert_eq!(after.acks_merged - before.acks_merged, frames - 2);
    bed.run(&mut clients, |clients| {
        clients.iter().all(Client::has_response)
    });
    for mut client in clients {
        let response = client.take_response().expect("it is there");
        assert!(response.body == content);
        bed.close(client);
    }
    bed.assert_at_rest();
}

#[test]
fn a_request_behind_them_is_answered() {
    let site = Site::new();
    let content = site.file("big", MIB);
    let small = site.file("small", 100);
    let mut bed = Bed::new(&site);
    let mut client = in_full_flow(&mut bed, "/big");
    client.write(get("/small"));
    let before = bed.report().tcp.acks_merged;
    bed.inject_from(&mut client);
    turn(&mut bed, core::slice::from_mut(&mut client));
    assert!(bed.report().tcp.acks_merged > before);
    assert!(bed.response(&mut client).body == content);
    assert!(bed.response(&mut client).body == small);
    bed.close(client);
    bed.assert_at_rest();
}
