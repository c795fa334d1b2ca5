//! Uploads over rings: packets of one frame, and those of many, whose frames the disk gets.

use std::fs;

use sluice_disk::UploadLimits;

use crate::bed::{Bed, Setup};
use crate::client::Client;
use crate::site::{KIB, MIB, Random, Site};

/// More packets than a window of a client has.
const LOANS: usize = 64;

fn bed(site: &Site, loans: usize) -> Bed {
    let setup = Setup {
        // All clients send what they have in the same round.
        zero_copy: true,
        blocks: 96,
        uploads: UploadLimits {
            uploads: 16,
            threads: 2,
            blocks: 48,
            blocks_each: 36,
            loans,
        },
        ..Setup::default()
    };
    Bed::with(site, &setup)
}

fn bytes(len: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    let words = core::iter::repeat_with(|| random.next().to_le_bytes());
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// A client whose packets are up to `longest` bytes, as those of a sender on the same machine.
fn client(bed: &mut Bed, longest: usize) -> Client {
    let mut client = bed.connect();
    client.longest_segment = Some(longest);
    client
}

fn put(client: &mut Client, path: &str, body: &[u8]) {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: sluice.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write([head.as_bytes(), body].concat());
}

fn assert_stored(site: &Site, name: &str, body: &[u8]) {
    let stored = fs::read(site.path(name)).expect("a stored file");
    assert!(stored == body, "{name}: {} bytes", stored.len());
}

#[test]
fn an_upload_of_long_packets_is_written_from_their_frames() {
    let site = Site::new();
    let mut bed = bed(&site, LOANS);
    let mut client = client(&mut bed, 60 * KIB);
    let body = bytes(3 * MIB + 17);
    put(&mut client, "/new", &body);
    assert_eq!(bed.response(&mut client).status, 201);
    assert_stored(&site, "new", &body);
    let lent = bed.report().service.counters.upload_bytes_lent;
    assert!(lent > 2 * MIB as u64, "{lent}");
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn an_upload_of_packets_of_one_frame_is_copied() {
    let site = Site::new();
    let mut bed = bed(&site, LOANS);
    let mut client = bed.connect();
    let body = bytes(MIB + 17);
    put(&mut client, "/new", &body);
    assert_eq!(bed.response(&mut client).status, 201);
    assert_stored(&site, "new", &body);
    assert_eq!(bed.report().service.counters.upload_bytes_lent, 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn uploads_that_outrun_the_loans_are_whole_and_their_frames_come_back() {
    let site = Site::new();
    let mut bed = bed(&site, 3);
    let bodies: Vec<Vec<u8>> = (0..5).map(|n| bytes(700 * KIB + n)).collect();
    let mut clients: Vec<Client> = bodies.iter().map(|_| client(&mut bed, 33_000)).collect();
    for (n, (client, body)) in clients.iter_mut().zip(&bodies).enumerate() {
        put(client, &format!("/{n}"), body);
    }
    bed.run(&mut clients, |clients| {
        clients.iter().all(Client::has_response)
    });
    for (n, body) in bodies.iter().enumerate() {
        assert_stored(&site, &n.to_string(), body);
    }
    bed.settle(&mut clients);
    for client in clients {
        bed.close(client);
    }
    bed.assert_at_rest();
}

#[test]
fn frames_of_an_upload_that_is_reset_come_back() {
    let site = Site::new();
    let mut bed = bed(&site, LOANS);
    let mut client = client(&mut bed, 60 * KIB);
    put(&mut client, "/new", &bytes(2 * MIB));
    bed.run_one(&mut client, |client| client.acknowledged() > MIB as u64);
    client.abort();
    bed.settle_one(&mut client);
    bed.assert_at_rest();
    assert!(!site.path("new").exists());
}
