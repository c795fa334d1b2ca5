//! Exchanges driven by bytes in memory, against real files: the served site and the peer of the tests.

mod blocks;
mod endings;
mod read_ahead;
mod requests;
mod together;
mod uploads;

use super::*;
use crate::services::ServicesConfig;
use core::time::Duration;
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks};
use std::fs;
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
        Site::within(&std::env::temp_dir(), blocks, config)
    }

    /// A site on the file system of `parent`.
    fn within(parent: &std::path::Path, blocks: usize, config: &ServicesConfig) -> Site {
        let directory = tempfile::tempdir_in(parent).expect("temporary directory");
        let disk_config = DiskConfig {
            threads: 2,
            files: 1024,
            queue_depth: 64,
            direct_above: None,
            uploads: config
                .uploads
                .map_or(sluice_disk::UploadLimits::NONE, |uploads| uploads.limits),
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
        self.services.end_turn(false);
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
        assert!(!self.services.refuses_other_uploads(false));
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
