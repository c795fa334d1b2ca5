//! Exchanges driven by bytes in memory, against real files.

use super::*;
use crate::services::ServicesConfig;
use core::time::Duration;
use proptest::prelude::*;
use rustix::fs::{Advice, fadvise};
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks};
use std::fs;
use std::fs::File;
use tempfile::TempDir;

/// Longer than any test; reached only by one that would hang.
const TURNS_MAX: usize = 200_000;

/// A served directory and the services of one worker.
struct Site {
    directory: TempDir,
    services: Services,
    now: Instant,
}

impl Site {
    fn new() -> Site {
        Site::with(64, &ServicesConfig::default())
    }

    fn with(blocks: usize, config: &ServicesConfig) -> Site {
        let directory = tempfile::tempdir().expect("temporary directory");
        let disk_config = DiskConfig {
            threads: 2,
            files: 1024,
            queue_depth: 64,
        };
        let disk = Disk::anonymous(blocks * BLOCK_BYTES, &disk_config).expect("disk");
        let root = Root::open(directory.path(), Symlinks::Never).expect("root");
        Site {
            directory,
            services: Services::new(disk, root, config),
            now: Instant::from_nanos(1_000_000_000_000),
        }
    }

    /// Writes a file of `size` bytes that no other name has.
    fn file(&self, name: &str, size: usize) -> Vec<u8> {
        let content = content(name, size);
        fs::write(self.directory.path().join(name), &content).expect("write file");
        content
    }

    /// Lets time pass.
    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// Waits for helper threads.
    fn wait_for_disk(&mut self) {
        if !self.services.poll(784_111_777) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn assert_at_rest(&mut self) {
        for _ in 0..10_000 {
            if self.services.disk.ledger().at_rest() {
                break;
            }
            self.wait_for_disk();
        }
        assert!(
            self.services.disk.ledger().at_rest(),
            "{:?}",
            self.services.disk.ledger()
        );
        assert_eq!(self.services.active(), 0);
        assert!(!self.services.shares.has_line());
    }
}

/// Bytes that differ from file to file and from block to block.
fn content(name: &str, size: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(0x9e37_79b9u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

/// The other end: sends request bytes in order and takes whatever is ready.
struct Peer {
    exchange: Exchange,
    sent: u64,
    /// Response bytes read, all of them acknowledged.
    received: Vec<u8>,
    /// Bytes in flight at most.
    window: u64,
    last: Progress,
}

impl Peer {
    fn new(site: &Site) -> Peer {
        Peer {
            exchange: Exchange::new(site.now),
            sent: 0,
            received: Vec::new(),
            window: 256 * 1024,
            last: Progress::default(),
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>, site: &mut Site) {
        let bytes = bytes.as_ref();
        assert!(
            self.exchange.place(self.sent, bytes, &mut site.services),
            "room for the request"
        );
        self.sent += as_u64(bytes.len());
        self.exchange.delivered(self.sent);
    }

    fn get(&mut self, path: &str, site: &mut Site) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"), site);
    }

    fn acknowledged(&self) -> u64 {
        as_u64(self.received.len())
    }

    /// One turn of a transport: advance, read what is ready, acknowledge it. True if anything moved.
    fn turn(&mut self, site: &mut Site) -> bool {
        let from = self.acknowledged();
        self.last = self
            .exchange
            .advance(from + self.window, site.now, &mut site.services);
        let mut at = from;
        while at < self.last.ready_until {
            let piece = self.exchange.bytes(at, 1448, &site.services);
            assert!(!piece.is_empty(), "ready bytes can be read");
            self.received.extend_from_slice(piece);
            at += as_u64(piece.len());
        }
        self.exchange.sent(at, site.now, &mut site.services);
        self.exchange.acknowledged(at, site.now, &mut site.services);
        at > from
    }

    /// Turns until nothing moves and nothing is waited for.
    fn run(&mut self, site: &mut Site) {
        for _ in 0..TURNS_MAX {
            let moved = self.turn(site);
            if self.last.abort || (!moved && !self.last.waiting) {
                return;
            }
            if self.last.waiting {
                site.wait_for_disk();
            }
        }
        panic!("an exchange does not come to an end: {:?}", self.last);
    }

    /// Splits what was received into (head, body) of responses that have a length.
    fn responses(&self) -> Vec<(String, Vec<u8>)> {
        let mut responses = Vec::new();
        let mut rest = self.received.as_slice();
        while !rest.is_empty() {
            let end = rest
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .expect("a whole head")
                + 4;
            let head = String::from_utf8(rest[..end].to_vec()).expect("ASCII");
            let length =
                field(&head, "Content-Length").map_or(0, |value| value.parse().expect("a number"));
            let length = length.min(rest.len() - end);
            responses.push((head, rest[end..end + length].to_vec()));
            rest = &rest[end + length..];
        }
        responses
    }

    fn only_response(&self) -> (String, Vec<u8>) {
        let responses = self.responses();
        assert_eq!(responses.len(), 1, "{responses:?}");
        responses.into_iter().next().expect("one")
    }

    fn end(mut self, site: &mut Site) {
        self.exchange.teardown(&mut site.services);
    }
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).expect("usize has at most 64 bits")
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn status(head: &str) -> &str {
    &head[9..12]
}

#[test]
fn a_file_of_many_blocks_arrives_byte_for_byte() {
    let mut site = Site::new();
    let content = site.file("big", 10 * BLOCK_BYTES + 17);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    peer.run(&mut site);
    let (head, body) = peer.only_response();
    assert_eq!(status(&head), "200");
    assert!(body == content);
    assert!(!peer.last.finish, "the connection is kept");
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn request_bytes_may_come_in_any_order() {
    let mut site = Site::new();
    let content = site.file("a", 1000);
    let request = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut peer = Peer::new(&site);
    for from in (0..request.len()).rev() {
        assert!(
            peer.exchange
                .place(as_u64(from), &request[from..=from], &mut site.services)
        );
        assert!(!peer.turn(&mut site), "nothing is in order yet");
    }
    peer.exchange.delivered(as_u64(request.len()));
    peer.run(&mut site);
    assert_eq!(peer.only_response().1, content);
    assert_eq!(peer.exchange.consumed(), as_u64(request.len()));
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order() {
    let mut site = Site::new();
    let files: Vec<_> = (0..50)
        .map(|n| site.file(&format!("f{n}"), 1000 * n + 1))
        .collect();
    let mut peer = Peer::new(&site);
    for n in 0..50 {
        peer.get(&format!("/f{n}"), &mut site);
    }
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses.len(), 50);
    for ((head, body), content) in responses.iter().zip(&files) {
        assert_eq!(status(head), "200");
        assert!(body == content);
    }
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn pipelining_is_bounded_and_leaves_the_rest_in_the_input() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    let request = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";
    peer.send(request.repeat(50), &mut site);
    // Nothing is acknowledged, so nothing is freed.
    let _ = peer
        .exchange
        .advance(u64::MAX, site.now, &mut site.services);
    let answered = site.services.counters.responses();
    assert_eq!(answered, as_u64(RESPONSES_MAX));
    assert_eq!(peer.exchange.consumed(), answered * as_u64(request.len()));
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn head_requests_get_the_head_only() {
    let mut site = Site::new();
    site.file("a", 5000);
    let mut peer = Peer::new(&site);
    peer.send("HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n", &mut site);
    peer.run(&mut site);
    assert!(peer.received.ends_with(b"\r\n\r\n"));
    let head = String::from_utf8(peer.received.clone()).expect("ASCII");
    assert_eq!(status(&head), "200");
    assert_eq!(field(&head, "Content-Length"), Some("5000"));
    assert_eq!(
        site.services.disk.ledger().files_open,
        0,
        "the file is closed at once"
    );
    peer.end(&mut site);
}

#[test]
fn a_resumed_download_gets_exactly_the_rest() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let from = BLOCK_BYTES + 12_345;
    let mut peer = Peer::new(&site);
    peer.send(
        format!("GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes={from}-\r\n\r\n"),
        &mut site,
    );
    peer.run(&mut site);
    let (head, body) = peer.only_response();
    assert_eq!(status(&head), "206");
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    assert_eq!(field(&head, "Content-Range"), Some(range.as_str()));
    assert!(body == content[from..]);
    peer.end(&mut site);
}

#[test]
fn a_short_range_across_a_block_border_is_exact() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.send(
        "GET /big HTTP/1.1\r\nHost: test\r\nRange: bytes=65530-65541\r\n\r\n",
        &mut site,
    );
    peer.run(&mut site);
    assert_eq!(peer.only_response().1, &content[65_530..65_542]);
    peer.end(&mut site);
}

#[test]
fn an_empty_file_is_a_response_without_body() {
    let mut site = Site::new();
    site.file("empty", 0);
    let mut peer = Peer::new(&site);
    peer.get("/empty", &mut site);
    peer.get("/empty", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.responses().len(), 2);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_missing_file_is_404_and_the_connection_goes_on() {
    let mut site = Site::new();
    let content = site.file("a", 100);
    let mut peer = Peer::new(&site);
    peer.get("/missing", &mut site);
    peer.get("/a", &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(status(&responses[0].0), "404");
    assert_eq!(responses[1].1, content);
    peer.end(&mut site);
}

#[test]
fn other_methods_get_405_and_what_follows_is_ignored() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send(
        "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
        &mut site,
    );
    peer.run(&mut site);
    let (head, _) = peer.only_response();
    assert_eq!(status(&head), "405");
    assert_eq!(field(&head, "Connection"), Some("close"));
    assert!(peer.last.finish);
    peer.get("/", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.responses().len(), 1);
    assert_eq!(
        peer.exchange.consumed(),
        peer.sent,
        "ignored bytes do not close the window"
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_directory_serves_its_index_and_redirects_to_its_slash() {
    let mut site = Site::new();
    fs::create_dir(site.directory.path().join("sub")).expect("create directory");
    let index = site.file("sub/index.html", 77);
    let mut peer = Peer::new(&site);
    peer.get("/sub", &mut site);
    peer.get("/sub/", &mut site);
    peer.get("/", &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(status(&responses[0].0), "301");
    assert_eq!(field(&responses[0].0, "Location"), Some("/sub/"));
    assert_eq!(responses[1].1, index);
    assert_eq!(status(&responses[2].0), "404", "no index, no listing");
    peer.end(&mut site);
}

#[test]
fn a_redirect_longer_than_the_head_ring_is_refused() {
    let mut site = Site::new();
    fs::create_dir(site.directory.path().join("d")).expect("create directory");
    let mut peer = Peer::new(&site);
    peer.get(&format!("/d?{}", "q".repeat(4000)), &mut site);
    peer.get(&format!("/d?{}", "q".repeat(4000)), &mut site);
    peer.get(&format!("/d?{}", "q".repeat(8150)), &mut site);
    peer.run(&mut site);
    let responses = peer.responses();
    let statuses: Vec<_> = responses.iter().map(|(head, _)| status(head)).collect();
    assert_eq!(
        statuses,
        ["301", "301", "414"],
        "long ones wait for room, too long ones are refused"
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_broken_request_is_answered_once_and_ends_the_connection() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.get("/a", &mut site);
    peer.send(
        "GET /a HTTP/1.1\nHost : test\r\n\r\nGET /a HTTP/1.1\r\nHost: test\r\n\r\n",
        &mut site,
    );
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses.len(), 2);
    assert_eq!(status(&responses[0].0), "200");
    assert_eq!(status(&responses[1].0), "400");
    assert!(peer.last.finish && !peer.last.abort);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_head_that_fills_the_buffer_is_431() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send(
        format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}", "x".repeat(8000)),
        &mut site,
    );
    peer.run(&mut site);
    assert!(peer.received.is_empty());
    let room = peer.exchange.room(&site.services);
    peer.send("y".repeat(room), &mut site);
    peer.run(&mut site);
    assert_eq!(status(&peer.only_response().0), "431");
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_file_truncated_while_served_ends_in_an_abort_and_no_wrong_byte() {
    let mut site = Site::new();
    let content = site.file("big", 20 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 100_000;
    peer.get("/big", &mut site);
    for _ in 0..3 {
        peer.turn(&mut site);
    }
    let file = File::options()
        .write(true)
        .open(site.directory.path().join("big"))
        .expect("open");
    file.set_len(as_u64(5 * BLOCK_BYTES)).expect("truncate");
    peer.run(&mut site);
    assert!(peer.last.abort);
    assert!(
        !peer.last.finish,
        "a FIN would make the cut body look whole"
    );
    let (_, body) = peer.only_response();
    assert!(body.len() < content.len());
    assert!(content.starts_with(&body));
    assert_eq!(
        site.services.counters.aborted_shrunk + site.services.counters.aborted_changed,
        1
    );
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn responses_before_a_failing_one_go_out_whole() {
    let mut site = Site::new();
    let small = site.file("small", 100_000);
    site.file("big", 4 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 1000;
    peer.get("/small", &mut site);
    peer.get("/big", &mut site);
    peer.turn(&mut site);
    let file = File::options()
        .write(true)
        .open(site.directory.path().join("big"))
        .expect("open");
    file.set_len(1).expect("truncate");
    peer.window = 1 << 20;
    peer.run(&mut site);
    assert!(peer.last.abort);
    assert!(peer.responses()[0].1 == small);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn unacknowledged_bytes_can_be_read_again() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    let progress = peer
        .exchange
        .advance(u64::MAX, site.now, &mut site.services);
    let read_all = |exchange: &Exchange, services: &Services| {
        let mut all = Vec::new();
        while as_u64(all.len()) < progress.ready_until {
            all.extend_from_slice(exchange.bytes(as_u64(all.len()), 999, services));
        }
        all
    };
    let first = read_all(&peer.exchange, &site.services);
    let again = read_all(&peer.exchange, &site.services);
    assert!(first == again);
    assert!(first.ends_with(&content));
    peer.end(&mut site);
}

#[test]
fn a_peer_that_closes_its_window_keeps_no_block() {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    let _ = peer.exchange.advance(300_000, site.now, &mut site.services);
    assert!(site.services.disk.ledger().pinned > 0);
    let progress = peer.exchange.advance(0, site.now, &mut site.services);
    assert_eq!(site.services.disk.ledger().pinned, 0);
    assert!(progress.more);
    peer.run(&mut site);
    assert_eq!(peer.only_response().1.len(), 8 * BLOCK_BYTES);
    peer.end(&mut site);
    site.assert_at_rest();
}

/// Sets all of a file's pages free, so that the next read of it goes to a helper thread where the file system has a
/// disk behind it.
fn cool(path: &std::path::Path) {
    let file = File::open(path).expect("open");
    file.sync_all().expect("fsync");
    fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
}

#[test]
fn two_hundred_connections_share_sixty_four_blocks() {
    for cold in [false, true] {
        let mut site = Site::with(64, &ServicesConfig::default());
        let files: Vec<_> = (0..200)
            .map(|n| site.file(&format!("f{n}"), 5 * BLOCK_BYTES + n))
            .collect();
        if cold {
            for n in 0..200 {
                cool(&site.directory.path().join(format!("f{n}")));
            }
        }
        let mut peers: Vec<_> = (0..200).map(|_| Peer::new(&site)).collect();
        for (n, peer) in peers.iter_mut().enumerate() {
            peer.window = 1 << 20;
            peer.get(&format!("/f{n}"), &mut site);
        }
        let done = |peer: &Peer| peer.exchange.is_idle() && !peer.received.is_empty();
        let mut turns = 0;
        // In flight for one round each, so that all of them hold what they got at the same time.
        while !peers.iter().all(done) {
            let mut moved = false;
            for peer in &mut peers {
                let from = peer.acknowledged();
                peer.last = peer
                    .exchange
                    .advance(from + peer.window, site.now, &mut site.services);
            }
            assert!(site.services.disk.ledger().balanced());
            for peer in &mut peers {
                let mut at = peer.acknowledged();
                while at < peer.last.ready_until {
                    let piece = peer.exchange.bytes(at, 65_536, &site.services);
                    assert!(!piece.is_empty());
                    peer.received.extend_from_slice(piece);
                    at += as_u64(piece.len());
                    moved = true;
                }
                peer.exchange.acknowledged(at, site.now, &mut site.services);
            }
            if !moved {
                site.wait_for_disk();
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "a connection starves");
        }
        for (peer, content) in peers.iter().zip(&files) {
            assert!(peer.only_response().1 == *content);
        }
        for peer in peers {
            peer.end(&mut site);
        }
        site.assert_at_rest();
    }
}

#[test]
fn a_connection_without_blocks_goes_before_those_that_have_some() {
    let config = ServicesConfig {
        read_ahead_blocks: 0,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(4, &config);
    site.file("greedy", 40 * BLOCK_BYTES);
    let late = site.file("late", 2 * BLOCK_BYTES);
    let mut greedy = Peer::new(&site);
    greedy.window = 1 << 30;
    greedy.get("/greedy", &mut site);
    greedy.last = greedy
        .exchange
        .advance(greedy.window, site.now, &mut site.services);
    assert_eq!(site.services.disk.ledger().pinned, 4, "all there are");
    let mut other = Peer::new(&site);
    other.get("/late", &mut site);
    other.turn(&mut site);
    assert!(other.last.waiting);
    // One block of the greedy one comes back: it is not for the greedy one.
    greedy
        .exchange
        .acknowledged(as_u64(BLOCK_BYTES) + 500, site.now, &mut site.services);
    let progress = greedy
        .exchange
        .advance(1 << 30, site.now, &mut site.services);
    assert_eq!(progress.ready_until, greedy.last.ready_until);
    assert!(site.services.poll(784_111_777));
    other.run(&mut site);
    assert!(other.only_response().1 == late);
    greedy.end(&mut site);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn a_silent_connection_ends_after_the_idle_time() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.run(&mut site);
    assert_eq!(
        peer.exchange.deadline(&site.services),
        Some(site.now + Duration::from_secs(60))
    );
    site.pass(59);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert!(!peer.last.finish);
    site.pass(1);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert!(peer.last.finish && peer.received.is_empty());
    assert_eq!(peer.exchange.deadline(&site.services), None);
    assert_eq!(site.services.counters.idle_timeouts, 1);
    peer.end(&mut site);
}

#[test]
fn a_kept_connection_has_the_idle_time_from_its_last_response_on() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.run(&mut site);
    site.pass(50);
    peer.get("/a", &mut site);
    peer.run(&mut site);
    assert!(peer.exchange.is_idle());
    assert_eq!(
        peer.exchange.deadline(&site.services),
        Some(site.now + Duration::from_secs(60))
    );
    peer.end(&mut site);
}

#[test]
fn a_head_that_drips_gets_408_after_ten_seconds() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    peer.send("G", &mut site);
    peer.run(&mut site);
    for byte in ["E", "T", " ", "/", " ", "H", "T", "T", "P"] {
        site.pass(1);
        peer.exchange.on_deadline(site.now, &mut site.services);
        peer.send(byte, &mut site);
        peer.run(&mut site);
        assert!(peer.received.is_empty());
    }
    site.pass(1);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    let (head, _) = peer.only_response();
    assert_eq!(status(&head), "408");
    assert_eq!(field(&head, "Connection"), Some("close"));
    assert!(peer.last.finish);
    assert_eq!(site.services.counters.head_timeouts, 1);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn bytes_out_of_order_alone_do_not_hold_a_workspace_for_longer_than_a_head() {
    let mut site = Site::new();
    let mut peer = Peer::new(&site);
    assert!(peer.exchange.place(5, b"x", &mut site.services));
    peer.run(&mut site);
    assert_eq!(site.services.active(), 1);
    site.pass(10);
    peer.exchange.on_deadline(site.now, &mut site.services);
    peer.run(&mut site);
    assert!(peer.last.finish);
    assert_eq!(site.services.active(), 0);
    peer.end(&mut site);
}

#[test]
fn a_transfer_has_no_deadline() {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    let _ = peer.exchange.advance(1000, site.now, &mut site.services);
    assert_eq!(peer.exchange.deadline(&site.services), None);
    peer.end(&mut site);
}

#[test]
fn draining_ends_idle_connections_at_once() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut fresh = Peer::new(&site);
    let mut kept = Peer::new(&site);
    fresh.run(&mut site);
    kept.get("/a", &mut site);
    kept.run(&mut site);
    site.services.draining = true;
    for peer in [&mut fresh, &mut kept] {
        peer.run(&mut site);
        assert!(peer.last.finish);
    }
    assert_eq!(site.services.counters.drained, 2);
    fresh.end(&mut site);
    kept.end(&mut site);
}

#[test]
fn draining_finishes_the_running_transfer_and_then_the_connection() {
    let mut site = Site::new();
    let content = site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.window = 10_000;
    peer.get("/big", &mut site);
    peer.turn(&mut site);
    site.services.draining = true;
    peer.turn(&mut site);
    assert!(!peer.last.finish);
    peer.run(&mut site);
    assert!(peer.only_response().1 == content);
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn draining_answers_one_more_request_and_says_close() {
    let mut site = Site::new();
    let content = site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.send("GET /a HTTP/1.1\r\n", &mut site);
    peer.run(&mut site);
    site.services.draining = true;
    peer.run(&mut site);
    assert!(!peer.last.finish, "a request has begun");
    let request = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n";
    peer.send(format!("Host: test\r\n\r\n{request}"), &mut site);
    peer.run(&mut site);
    let (head, body) = peer.only_response();
    assert_eq!(field(&head, "Connection"), Some("close"));
    assert_eq!(body, content);
    assert!(peer.last.finish);
    peer.end(&mut site);
}

#[test]
fn a_peer_that_has_finished_still_gets_its_responses() {
    let mut site = Site::new();
    let content = site.file("big", 3 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    peer.get("/big", &mut site);
    peer.get("/big", &mut site);
    peer.send("GET /never", &mut site);
    peer.exchange.peer_finished();
    peer.run(&mut site);
    let responses = peer.responses();
    assert_eq!(responses.len(), 2);
    assert!(responses.iter().all(|(_, body)| *body == content));
    assert!(peer.last.finish);
    peer.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn http_1_0_without_keep_alive_ends_after_its_response() {
    let mut site = Site::new();
    let content = site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.send("GET /a HTTP/1.0\r\n\r\n", &mut site);
    peer.run(&mut site);
    assert_eq!(peer.only_response().1, content);
    assert!(peer.last.finish);
    peer.end(&mut site);
}

#[test]
fn without_a_workspace_request_bytes_are_refused_until_one_is_free() {
    let config = ServicesConfig {
        connections: 1,
        ..ServicesConfig::default()
    };
    let mut site = Site::with(8, &config);
    let content = site.file("a", 10);
    let mut first = Peer::new(&site);
    let mut second = Peer::new(&site);
    first.send("GET /a", &mut site);
    first.run(&mut site);
    assert_eq!(second.exchange.room(&site.services), 0);
    assert!(!second.exchange.place(0, b"GET", &mut site.services));
    assert_eq!(site.services.counters.no_workspace, 1);
    first.send(" HTTP/1.1\r\nHost: test\r\n\r\n", &mut site);
    first.run(&mut site);
    assert!(site.services.poll(784_111_777), "waiters are told");
    second.get("/a", &mut site);
    second.run(&mut site);
    assert_eq!(second.only_response().1, content);
    first.end(&mut site);
    second.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn when_every_file_slot_is_taken_a_request_waits_for_its_own_or_gets_503() {
    let mut site = Site::new();
    let disk_config = DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 4,
    };
    site.services.disk = Disk::anonymous(8 * BLOCK_BYTES, &disk_config).expect("disk");
    let (a, b) = (site.file("a", 100), site.file("b", 200));
    let mut own = Peer::new(&site);
    own.get("/a", &mut site);
    own.get("/b", &mut site);
    let _ = own.exchange.advance(10, site.now, &mut site.services);
    let mut other = Peer::new(&site);
    other.get("/b", &mut site);
    other.run(&mut site);
    assert_eq!(status(&other.only_response().0), "503");
    own.run(&mut site);
    let bodies: Vec<_> = own.responses().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [a, b]);
    own.end(&mut site);
    other.end(&mut site);
    site.assert_at_rest();
}

#[test]
fn latencies_run_from_the_last_byte_of_the_head() {
    let mut site = Site::new();
    site.file("a", 10);
    let mut peer = Peer::new(&site);
    peer.send("GET /a HTTP/1.1\r\n", &mut site);
    peer.run(&mut site);
    site.pass(3);
    peer.send("Host: test\r\n\r\n", &mut site);
    let progress = peer.exchange.advance(1000, site.now, &mut site.services);
    site.pass(1);
    peer.exchange.sent(1, site.now, &mut site.services);
    site.pass(1);
    peer.exchange
        .sent(progress.ready_until, site.now, &mut site.services);
    peer.exchange
        .acknowledged(progress.ready_until, site.now, &mut site.services);
    let seconds = |name: &str| {
        let found = site
            .services
            .histograms
            .series()
            .find(|(series, _)| *series == name);
        let (_, series) = found.expect("a series of that name");
        assert_eq!(series.len(), 1, "{name}");
        series.max() / 1_000_000
    };
    assert_eq!(seconds("time to first byte"), 1);
    assert_eq!(seconds("request <= 4 KiB"), 2);
    peer.end(&mut site);
}

#[test]
fn tearing_down_in_the_middle_gives_everything_back() {
    let mut site = Site::new();
    site.file("big", 8 * BLOCK_BYTES);
    let mut peer = Peer::new(&site);
    for _ in 0..5 {
        peer.get("/big", &mut site);
    }
    let _ = peer.exchange.advance(400_000, site.now, &mut site.services);
    peer.end(&mut site);
    assert_eq!(site.services.counters.abandoned, 1);
    site.assert_at_rest();
}

#[test]
fn an_idle_exchange_is_small() {
    assert!(size_of::<Exchange>() <= 128, "{}", size_of::<Exchange>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the transport wants, reads and acknowledges in whatever order, the stream is the same.
    #[test]
    fn any_schedule_of_the_transport_gives_the_same_stream(
        seed_sizes in proptest::collection::vec(0usize..200_000, 1..6),
        steps in proptest::collection::vec((0u64..300_000, 0u64..200_000, any::<bool>()), 20..200),
    ) {
        let mut site = Site::with(6, &ServicesConfig::default());
        let mut expected = Peer::new(&site);
        let mut peer = Peer::new(&site);
        for (n, &size) in seed_sizes.iter().enumerate() {
            site.file(&format!("f{n}"), size);
            // An old file, whose tag is strong whenever it is asked for.
            let path = site.directory.path().join(format!("f{n}"));
            let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options().write(true).open(path).and_then(|file| file.set_modified(old)).expect("set mtime");
            expected.get(&format!("/f{n}"), &mut site);
            expected.run(&mut site);
            peer.get(&format!("/f{n}"), &mut site);
        }
        let stream = expected.received.clone();
        let mut in_flight = 0;
        for (window, acknowledge, look) in steps {
            let from = peer.acknowledged();
            // Not below what was sent.
            let horizon = (from + window).max(in_flight);
            let progress = peer.exchange.advance(horizon, site.now, &mut site.services);
            prop_assert!(!progress.abort);
            in_flight = in_flight.max(progress.ready_until.min(horizon));
            if look && from < progress.ready_until {
                let piece = peer.exchange.bytes(from, 5000, &site.services);
                let at = usize::try_from(from).expect("small");
                prop_assert!(stream[at..].starts_with(piece));
            }
            let until = (from + acknowledge).min(in_flight);
            let mut at = from;
            while at < until {
                let most = usize::try_from(until - at).expect("small");
                let piece = peer.exchange.bytes(at, most, &site.services);
                prop_assert!(!piece.is_empty());
                peer.received.extend_from_slice(piece);
                at += as_u64(piece.len());
            }
            peer.exchange.acknowledged(at, site.now, &mut site.services);
            let _ = site.services.poll(784_111_777);
            prop_assert!(site.services.disk.ledger().balanced());
        }
        peer.run(&mut site);
        prop_assert!(peer.received == stream);
        peer.end(&mut site);
        expected.end(&mut site);
        site.assert_at_rest();
    }
}
