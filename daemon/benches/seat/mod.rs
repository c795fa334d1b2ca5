//! A worker at a bench: its rings in memory, and a peer that asks it for one file on many connections.
//!
//! Time is virtual and moves by [`TURN`] with every turn, whatever that took.

pub mod peer;

use core::time::Duration;
use std::path::Path;

use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{HugePages, Queue, QueueConfig, Umem, UmemConfig};
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks, UploadLimits};
use sluice_tcp::StackConfig;
use sluice_tcp::clock::Instant;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_wire::ChecksumPolicy;
use sluiced::services::{Services, ServicesConfig};
use sluiced::worker::{Handoff, Poll, Worker, WorkerConfig};

use peer::{Peer, SERVER, SERVER_MAC};

pub const MIB: usize = 1 << 20;

/// Virtual time of a turn: the round-trip time that the stack sees.
const TURN: Duration = Duration::from_micros(50);
/// The wall clock: a second in November 1994.
const UNIX_SECONDS: i64 = 784_111_777;
const RING: u32 = 2048;
/// What a connection may have in flight.
const WINDOW: u32 = 65_536;

/// What is asked for, and of whom.
pub struct SeatConfig {
    /// Of the file.
    pub bytes: usize,
    /// Of the worker, of 64 KiB.
    pub blocks: usize,
    /// A device completes checksums.
    pub offload: bool,
    pub connections: u16,
}

/// A worker with its wire and its peer.
pub struct Seat {
    worker: Worker,
    nic: MemoryNic,
    peer: Peer,
    now: Instant,
    /// Bytes of two responses for everybody.
    warm_bytes: u64,
}

impl Seat {
    /// `site` holds the file, of the name `file`. `handoff` as in [`Worker::new`].
    pub fn new(config: &SeatConfig, site: &Path, handoff: Option<Handoff>) -> Seat {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut umem = Umem::new(&UmemConfig {
            frames: 4 * RING,
            block_bytes: config.blocks * BLOCK_BYTES,
            huge_pages: HugePages::Auto,
            tx_metadata: config.offload,
        })
        .expect("memory");
        let blocks = umem.take_blocks().expect("blocks were asked for");
        let queue = QueueConfig {
            rx_ring: RING,
            tx_ring: RING,
            fill_ring: RING,
            completion_ring: RING,
            ..QueueConfig::new(0, 0)
        };
        let (queue, nic) = Queue::in_memory(umem, &queue, 0);
        let disk = DiskConfig {
            threads: 1,
            files: 64,
            queue_depth: 64,
            direct_above: None,
            uploads: UploadLimits::NONE,
        };
        let disk = Disk::new(blocks, &disk).expect("a helper thread");
        let root = Root::open(site, Symlinks::Never).expect("the site can be read");
        let limits = ServicesConfig {
            connections: usize::from(config.connections),
            ..ServicesConfig::default()
        };
        let worker = WorkerConfig {
            endpoints: vec![SERVER],
            owned: Vec::new(),
            mac: SERVER_MAC,
            vlan: false,
            checksum_rx: ChecksumPolicy::Verify,
            poll: Poll::Busy,
            stack: StackConfig {
                pacing: Some(PacingConfig::default()),
                ..StackConfig::new(config.connections.into(), [7; 16], Secret::new([9; 32]))
            },
        };
        let services = Services::new(disk, root, &limits);
        Seat {
            worker: Worker::new(worker, queue, services, handoff, now),
            nic,
            peer: Peer::new(config.connections, WINDOW, "/file"),
            now,
            warm_bytes: 2 * u64::from(config.connections) * config.bytes as u64,
        }
    }

    /// Two responses for everybody, so that every table has been used.
    pub fn warm_up(&mut self) {
        let mut bytes = 0;
        let mut turns = 0u32;
        while bytes < self.warm_bytes.min(256 * MIB as u64) {
            self.turn();
            bytes += self.take_received().0;
            turns += 1;
            assert!(
                turns < 10_000_000,
                "{bytes} bytes of {} came",
                self.warm_bytes
            );
        }
    }

    /// Body bytes and responses since the last look.
    pub fn take_received(&mut self) -> (u64, u64) {
        self.peer.take_received()
    }

    /// One turn; how long it took.
    pub fn turn(&mut self) -> Duration {
        self.turn_by(take_turn)
    }

    /// The same, with the worker's part done by `work`, which calls [`take_turn`].
    pub fn turn_by(&mut self, work: impl FnOnce(&mut Worker, Instant)) -> Duration {
        self.now = self.now + TURN;
        let now_ms = u32::try_from(self.now.as_millis() & 0xffff_ffff).expect("32 bits");
        self.peer.speak(&mut self.nic, now_ms);
        let begin = std::time::Instant::now();
        work(&mut self.worker, self.now);
        let time = begin.elapsed();
        let peer = &mut self.peer;
        self.nic
            .transmit(u32::MAX, |pieces, _| peer.hear(pieces[0]));
        time
    }
}

/// One turn of the worker alone.
pub fn take_turn(worker: &mut Worker, now: Instant) {
    worker.turn(|| now, UNIX_SECONDS);
}
