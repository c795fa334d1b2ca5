//! What all connections of one worker share: disk, served root, limits, clock, counters, pooled memory.
//!
//! Both transports own one and pass it to every call of an [`Exchange`](crate::exchange::Exchange). Nothing in it is
//! shared between threads. Workspaces (buffers and queues of a connection with a request under way) are pooled: an idle
//! connection has none, and none is made while no more connections are active than ever before.

pub(crate) mod block_shares;
mod counters;

pub use counters::Counters;

use crate::clock::WallClock;
use crate::exchange::{INPUT_BYTES, Workspace};
use crate::histograms::WorkerHistograms;
use block_shares::{BlockShares, Place};
use core::time::Duration;
use sluice_disk::{BlockRef, Disk, DiskLedger, FileHandle, Root};
use sluice_http::{RESPONSE_HEAD_BYTES, RequestLimits};
use sluice_tcp::clock::Instant;

/// Name of the file that stands for its directory.
pub(crate) const INDEX_FILE: &[u8] = b"index.html";

/// Workspaces made at construction. Further ones, up to the limit, when they are first needed: 65,536 connections that
/// are mostly idle shall not cost two gigabytes.
const WORKSPACES_WARM: usize = 256;

/// Blocks (64 KiB) that one connection may pin unless configured otherwise: 4 MiB in flight fill 10 Gbit/s at 3 ms.
pub const BLOCKS_PER_CONNECTION: usize = 64;

/// Bytes a path can grow by in a `Location` field, which escapes each byte as three; for path and query.
const LOCATION_GROWTH: usize = 6;

/// Sizes and limits of a worker's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicesConfig {
    /// Connections with a request under way at once, at least 1. Each costs [`Self::input_bytes`] plus 8 KiB plus
    /// about 50 bytes per block it may pin. Request bytes of further ones are refused until one is done.
    pub connections: usize,
    /// Blocks (64 KiB) one connection may pin while others have enough, at least 1: bounds what is in flight to one
    /// peer.
    pub blocks_per_connection: usize,
    /// Blocks that are read before the transport asks for them, within the same share.
    pub read_ahead_blocks: usize,
    /// Request bytes a connection can hold, not less than the longest head in [`Self::http`].
    pub input_bytes: usize,
    /// Bounds on a request head.
    pub http: RequestLimits,
    /// Time for a whole request head from its first byte, then 408.
    pub header_timeout: Duration,
    /// Time a kept connection may wait for its next request.
    pub idle_timeout: Duration,
}

impl Default for ServicesConfig {
    fn default() -> ServicesConfig {
        ServicesConfig {
            connections: 4096,
            blocks_per_connection: BLOCKS_PER_CONNECTION,
            read_ahead_blocks: 4,
            input_bytes: INPUT_BYTES,
            http: RequestLimits::default(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// The shared state of one worker's connections.
///
/// In every turn of its loop a transport calls [`Self::poll`] once; when that says so, it calls
/// [`advance`](crate::exchange::Exchange::advance) of every exchange that was waiting, oldest first.
pub struct Services {
    /// Files and blocks.
    pub disk: Disk,
    /// The served directory.
    pub root: Root,
    /// Latencies.
    pub histograms: WorkerHistograms,
    /// What was done so far.
    pub counters: Counters,
    /// Every connection is to end with its next response. Set once, when the worker drains.
    pub draining: bool,
    pub(crate) wall: WallClock,
    pub(crate) http: RequestLimits,
    pub(crate) shares: BlockShares,
    pub(crate) read_ahead_blocks: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// The path of the request being answered.
    pub(crate) path: Vec<u8>,
    /// The head of the response being planned.
    pub(crate) head: Vec<u8>,
    input_bytes: usize,
    blocks_per_connection: usize,
    #[expect(
        clippy::vec_box,
        reason = "boxes move between pool and connections as they are"
    )]
    workspaces: Vec<Box<Workspace>>,
    workspaces_made: usize,
    workspaces_max: usize,
    freed: bool,
}

impl Services {
    /// Services that read `root` through `disk`.
    #[must_use]
    pub fn new(disk: Disk, root: Root, config: &ServicesConfig) -> Services {
        let blocks = usize::try_from(disk.ledger().blocks_total).unwrap_or(usize::MAX);
        let blocks_per_connection = config.blocks_per_connection.clamp(1, blocks.max(1));
        let input_bytes = config.input_bytes.max(1);
        let workspaces_max = config.connections.max(1);
        let uri_bytes = config.http.uri_bytes.min(input_bytes);
        let mut services = Services {
            disk,
            root,
            histograms: WorkerHistograms::new(),
            counters: Counters::default(),
            draining: false,
            http: RequestLimits {
                // A longer head could never be whole in the buffer.
                header_bytes: config.http.header_bytes.min(input_bytes),
                ..config.http
            },
            wall: WallClock::new(crate::clock::unix_seconds()),
            shares: BlockShares::new(blocks, blocks_per_connection, workspaces_max),
            read_ahead_blocks: config.read_ahead_blocks,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            path: Vec::with_capacity(uri_bytes + INDEX_FILE.len()),
            head: Vec::with_capacity(RESPONSE_HEAD_BYTES + LOCATION_GROWTH * uri_bytes),
            input_bytes,
            blocks_per_connection,
            workspaces: Vec::with_capacity(workspaces_max),
            workspaces_made: 0,
            workspaces_max,
            freed: false,
        };
        for _ in 0..workspaces_max.min(WORKSPACES_WARM) {
            let workspace = services.make_workspace();
            services.workspaces.push(workspace);
        }
        services
    }

    /// Begins a turn of the worker's loop: takes finished disk work and sets the wall clock to `unix_seconds`. True if
    /// something was read or freed since the last call, so that waiting exchanges may go on.
    #[must_use]
    pub fn poll(&mut self, unix_seconds: i64) -> bool {
        self.wall.set(unix_seconds);
        let read = self.disk.poll();
        core::mem::take(&mut self.freed) | read
    }

    /// True if something was freed since the last [`Self::poll`]: do not sleep while exchanges wait.
    #[must_use]
    pub fn has_freed(&self) -> bool {
        self.freed
    }

    /// Request bytes a connection can hold: the largest receive window to offer.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        self.input_bytes
    }

    /// Connections with a request under way.
    #[must_use]
    pub fn active(&self) -> usize {
        self.workspaces_made - self.workspaces.len()
    }

    /// Copies the state of the moment into `report`. Does not allocate.
    pub fn report_into(&self, report: &mut ServiceReport) {
        report.counters = self.counters;
        report.histograms.copy_from(&self.histograms);
        report.disk = self.disk.ledger();
        report.active = self.active();
    }

    pub(crate) fn has_workspace(&self) -> bool {
        !self.workspaces.is_empty() || self.workspaces_made < self.workspaces_max
    }

    pub(crate) fn take_workspace(&mut self) -> Option<Box<Workspace>> {
        let pooled = self.workspaces.pop();
        if pooled.is_some() || self.workspaces_made == self.workspaces_max {
            return pooled;
        }
        Some(self.make_workspace())
    }

    pub(crate) fn give_back_workspace(&mut self, workspace: Box<Workspace>) {
        self.workspaces.push(workspace);
        self.freed = true;
    }

    pub(crate) fn release(&mut self, block: BlockRef) {
        self.disk.release(block);
        self.freed = true;
    }

    pub(crate) fn close(&mut self, file: FileHandle) {
        self.disk.close(file);
        self.freed = true;
    }

    pub(crate) fn leave_line(&mut self, place: Place) {
        self.shares.leave(place);
        // Everybody behind moves up.
        self.freed = true;
    }

    /// Blocks that a waiting connection could get: free, cached, or being read for someone in the line.
    pub(crate) fn unpinned_blocks(&self) -> usize {
        let ledger = self.disk.ledger();
        usize::try_from(ledger.blocks_total - ledger.pinned).unwrap_or(0)
    }

    pub(crate) fn record_first_byte(&mut self, requested_at: Option<Instant>, now: Instant) {
        if let Some(at) = requested_at {
            self.histograms.record_ttfb(now.saturating_since(at));
        }
    }

    pub(crate) fn record_whole(
        &mut self,
        body_bytes: u64,
        requested_at: Option<Instant>,
        now: Instant,
    ) {
        if let Some(at) = requested_at {
            self.histograms
                .record_request(body_bytes, now.saturating_since(at));
        }
    }

    fn make_workspace(&mut self) -> Box<Workspace> {
        self.workspaces_made += 1;
        Box::new(Workspace::new(self.input_bytes, self.blocks_per_connection))
    }
}

impl core::fmt::Debug for Services {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Services")
            .field("disk", &self.disk)
            .field("counters", &self.counters)
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

/// The state of a worker's application at one moment.
#[derive(Debug, Clone, Default)]
pub struct ServiceReport {
    /// What was done so far.
    pub counters: Counters,
    /// Latencies so far.
    pub histograms: WorkerHistograms,
    /// Blocks, files and tickets now.
    pub disk: DiskLedger,
    /// Connections with a request under way now.
    pub active: usize,
}
