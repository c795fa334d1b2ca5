//! What all connections of one worker share: disk, served root, limits, clock, counters, pooled memory.
//!
//! Both transports own one and pass it to every call of an [`Exchange`](crate::exchange::Exchange). Nothing in it is
//! shared between threads. What a connection with a request under way needs is pooled and bounded: an idle connection
//! has none of it, a partial head takes some 800 bytes and grows with the bytes that come, a response takes a queue
//! (some 12 KiB). What a crowd needed is freed when it has left.

pub(crate) mod block_shares;
mod counters;
pub(crate) mod descriptions;
pub(crate) mod pool;
pub(crate) mod upload_slots;

pub use counters::Counters;

use crate::clock::WallClock;
use crate::exchange::{INPUT_BYTES, Input, ResponseQueue, Upload};
use crate::histograms::WorkerHistograms;
use crate::troubles::Troubles;
use block_shares::{BlockShares, Place};
use core::time::Duration;
use descriptions::Descriptions;
use pool::{Buffers, Pool};
use sluice_disk::{
    BlockRef, Disk, DiskCounters, DiskLedger, FileHandle, Root, UploadBlock, UploadError,
    UploadHandle, UploadLimits,
};
use sluice_http::{PlanContext, RESPONSE_HEAD_BYTES, RequestLimits, UploadRules};
use sluice_tcp::clock::Instant;
use upload_slots::{Source, UploadSlots};

/// Name of the file that stands for its directory.
pub(crate) const INDEX_FILE: &[u8] = b"index.html";

/// Connections with a request under way for which everything is made at construction. More is made when it is needed,
/// up to the limits: 65,536 connections that are mostly idle shall not cost a gigabyte.
const WARM: usize = 256;

/// The same for uploads.
const UPLOADS_WARM: usize = 16;

/// Bytes for request heads that do not fit their inputs, unless configured otherwise.
const REQUEST_BYTES: usize = 16 << 20;
/// Bytes for response queues, unless configured otherwise: some 5,000 responses under way.
const RESPONSE_BYTES: usize = 64 << 20;

/// Bytes per second a client has to take on average, unless configured otherwise.
pub const MIN_RATE: u64 = 1024;
/// The time over which that average is taken.
pub(crate) const RATE_TIME: Duration = Duration::from_secs(30);

/// Blocks (64 KiB) that one connection may pin unless configured otherwise: 4 MiB in flight fill 10 Gbit/s at 3 ms.
pub const BLOCKS_PER_CONNECTION: usize = 64;

/// Blocks that one connection reads ahead at most unless configured otherwise: 4 MiB hide 3 ms of disk at 10 Gbit/s, 30 ms
/// at 1 Gbit/s.
const READ_AHEAD_BLOCKS: usize = 64;

/// Bytes a path can grow by in a `Location` field, which escapes each byte as three; for path and query.
const LOCATION_GROWTH: usize = 6;

/// Sizes and limits of a worker's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicesConfig {
    /// Connections with request bytes under way at once, at least 1. Each costs some 800 bytes. Request bytes of
    /// further ones are refused until one is done.
    pub connections: usize,
    /// Bytes of buffers for heads longer than 512 bytes; at least one buffer is had. Bytes for which there is none are
    /// refused.
    pub request_bytes: usize,
    /// Bytes of response queues (8 KiB and some 100 bytes for every block and response); at least one is had. Requests
    /// for which there is none wait, within the time for their head.
    pub response_bytes: usize,
    /// Blocks (64 KiB) one connection may pin while others have enough, at least 1: bounds what is in flight to one
    /// peer.
    pub blocks_per_connection: usize,
    /// Blocks beyond the window that are read before the transport asks for them, at most and within the same share: how
    /// many they are follows from window and disk.
    pub read_ahead_blocks: usize,
    /// Request bytes a connection can hold, not less than the longest head in [`Self::http`].
    pub input_bytes: usize,
    /// Bounds on a request head.
    pub http: RequestLimits,
    /// Time for a whole request head from its first byte, then 408.
    pub header_timeout: Duration,
    /// Time a kept connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Bytes per second that a peer has to take of a response, on average over 30 s, or it is reset; `None` is off.
    /// Time in which it waits for us does not count. The same for what it has to send of an upload; `None` lets it pause
    /// for [`Self::idle_timeout`] there.
    pub min_rate: Option<u64>,
    /// What uploads are taken; `None` refuses them.
    pub uploads: Option<UploadConfig>,
}

/// Uploads of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadConfig {
    /// Which are allowed.
    pub rules: UploadRules,
    /// How many at once and with how many blocks: what the disk was made with.
    pub limits: UploadLimits,
}

impl Default for ServicesConfig {
    fn default() -> ServicesConfig {
        ServicesConfig {
            connections: 4096,
            request_bytes: REQUEST_BYTES,
            response_bytes: RESPONSE_BYTES,
            blocks_per_connection: BLOCKS_PER_CONNECTION,
            read_ahead_blocks: READ_AHEAD_BLOCKS,
            input_bytes: INPUT_BYTES,
            http: RequestLimits::default(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            min_rate: Some(MIN_RATE),
            uploads: None,
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
    pub(crate) min_rate: Option<u64>,
    /// As [`Self::min_rate`], of what a client sends: that is seen by every backend.
    body_rate: Option<u64>,
    pub(crate) uploads: Option<UploadRules>,
    pub(crate) buffers: Buffers,
    pub(crate) descriptions: Descriptions,
    /// The path of the request being answered.
    pub(crate) path: Vec<u8>,
    /// The head of the response being planned.
    pub(crate) head: Vec<u8>,
    input_bytes: usize,
    blocks_per_connection: usize,
    inputs: Pool<Box<Input>>,
    queues: Pool<Box<ResponseQueue>>,
    in_progress: Pool<Box<Upload>>,
    upload_slots: UploadSlots,
    /// Blocks of all uploads together, and of one.
    upload_blocks: usize,
    upload_blocks_each: usize,
    upload_loans: usize,
    /// Uploads that could use a block which others hold.
    uploads_refused: usize,
    troubles: Option<Troubles>,
    freed: bool,
}

impl Services {
    /// Services that read `root` through `disk`.
    #[must_use]
    pub fn new(disk: Disk, root: Root, config: &ServicesConfig) -> Services {
        let blocks = usize::try_from(disk.ledger().blocks_total).unwrap_or(usize::MAX);
        let blocks_per_connection = config.blocks_per_connection.clamp(1, blocks.max(1));
        let input_bytes = config.input_bytes.max(1);
        let connections = config.connections.max(1);
        let queues = config.response_bytes / ResponseQueue::bytes_for(blocks_per_connection);
        let uri_bytes = config.http.uri_bytes.min(input_bytes);
        let uploads = config.uploads.map_or(UploadLimits::NONE, |it| it.limits);
        let upload_blocks = uploads.blocks.min(blocks / 2).max(1);
        let upload_blocks_each = uploads.blocks_each.clamp(1, upload_blocks);
        Services {
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
            shares: BlockShares::new(blocks, blocks_per_connection, connections),
            read_ahead_blocks: config.read_ahead_blocks,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            min_rate: config.min_rate,
            body_rate: config.min_rate,
            uploads: config.uploads.map(|uploads| uploads.rules),
            buffers: Buffers::new(input_bytes, config.request_bytes),
            descriptions: Descriptions::new(),
            path: Vec::with_capacity(uri_bytes + INDEX_FILE.len()),
            head: Vec::with_capacity(RESPONSE_HEAD_BYTES + LOCATION_GROWTH * uri_bytes),
            input_bytes,
            blocks_per_connection,
            inputs: Pool::new(WARM, connections, || Box::new(Input::new(input_bytes))),
            queues: Pool::new(WARM, queues.clamp(1, connections), || {
                Box::new(ResponseQueue::new(blocks_per_connection))
            }),
            in_progress: Pool::new(UPLOADS_WARM, uploads.uploads, || {
                Box::new(Upload::new(upload_blocks_each))
            }),
            upload_slots: UploadSlots::new(uploads.uploads),
            upload_blocks,
            upload_blocks_each,
            upload_loans: uploads.loans,
            uploads_refused: 0,
            troubles: None,
            freed: false,
        }
    }

    /// Has the log hear of trouble with this machine.
    #[must_use]
    pub fn with_troubles(mut self, troubles: Troubles) -> Services {
        self.troubles = Some(troubles);
        self
    }

    /// Begins a turn of the worker's loop: takes finished disk work and sets the wall clock to `unix_seconds`. True if
    /// something was read or freed since the last call, so that waiting exchanges may go on.
    #[must_use]
    pub fn poll(&mut self, unix_seconds: i64) -> bool {
        self.wall.set(unix_seconds);
        let read = self.disk.poll();
        if self.disk.take_refused_direct()
            && let Some(troubles) = &self.troubles
        {
            troubles.note_not_direct();
        }
        core::mem::take(&mut self.freed) | read
    }

    /// Has names and files seen anew from here on: see [`Disk::forget_turn`].
    pub fn forget_turn(&mut self) {
        self.disk.forget_turn();
    }

    /// Ends a turn of the worker's loop. `is_busy`: the next follows at once; the last before a sleep says false.
    pub fn end_turn(&mut self, is_busy: bool) {
        self.disk.end_turn(is_busy);
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

    /// Connections with a request or a response under way: the more of both.
    #[must_use]
    pub fn active(&self) -> usize {
        let answering = self.inputs.out().max(self.queues.out());
        answering.max(self.in_progress.out())
    }

    #[cfg(test)]
    pub(crate) fn queues_out(&self) -> usize {
        self.queues.out()
    }

    /// Connections that stand in line for a block.
    #[must_use]
    pub fn waiting_for_blocks(&self) -> usize {
        self.shares.waiting()
    }

    /// Copies the state of the moment into `report`. Does not allocate.
    pub fn report_into(&self, report: &mut ServiceReport) {
        report.counters = self.counters;
        report.histograms.copy_from(&self.histograms);
        report.disk = self.disk.ledger();
        report.reads = self.disk.counters();
        report.active = self.active();
    }

    pub(crate) fn has_input(&self) -> bool {
        self.inputs.has_one()
    }

    pub(crate) fn take_input(&mut self) -> Option<Box<Input>> {
        let capacity = self.input_bytes;
        self.inputs.take(|| Box::new(Input::new(capacity)))
    }

    pub(crate) fn give_back_input(&mut self, mut input: Box<Input>) {
        // Nobody waits for what was there all the time.
        self.freed |= !self.inputs.has_one();
        input.shrink(&mut self.buffers);
        self.inputs.give_back(input);
    }

    pub(crate) fn take_queue(&mut self) -> Option<Box<ResponseQueue>> {
        let blocks = self.blocks_per_connection;
        self.queues.take(|| Box::new(ResponseQueue::new(blocks)))
    }

    pub(crate) fn give_back_queue(&mut self, mut queue: Box<ResponseQueue>) {
        self.freed |= !self.queues.has_one();
        queue.shrink();
        self.queues.give_back(queue);
    }

    pub(crate) fn release(&mut self, block: BlockRef) {
        self.disk.release(block);
        self.freed = true;
    }

    pub(crate) fn close(&mut self, file: FileHandle) {
        self.disk.close(file);
        self.freed = true;
    }

    /// What a response depends on now; `close`: whether the connection ends with it. Beside it the head to write, since
    /// both are parts of `self`.
    pub(crate) fn plan_context(&mut self, close: bool) -> (PlanContext<'_>, &mut Vec<u8>) {
        self.head.clear();
        let context = plan_context(&self.wall, self.uploads.as_ref(), close);
        (context, &mut self.head)
    }

    /// Whether one more upload of this source can be taken.
    pub(crate) fn has_upload(&self, source: Source) -> bool {
        self.in_progress.has_one() && self.upload_slots.has_one_for(source)
    }

    pub(crate) fn take_upload(&mut self, source: Source) -> Option<Box<Upload>> {
        if !self.has_upload(source) || !self.upload_slots.take(source) {
            return None;
        }
        let blocks = self.upload_blocks_each;
        self.in_progress.take(|| Box::new(Upload::new(blocks)))
    }

    pub(crate) fn give_back_upload(&mut self, upload: Box<Upload>, source: Source) {
        self.upload_slots.give_back(source);
        self.in_progress.give_back(upload);
        // The others' shares grow.
        self.freed = true;
    }

    /// Pieces of a transport's own memory that uploads may have lent at once.
    pub(crate) fn upload_loans(&self) -> usize {
        self.upload_loans
    }

    /// Blocks that one upload may hold ready now, at least one: an equal share.
    pub(crate) fn upload_allowance(&self) -> usize {
        let uploads = self.in_progress.out().max(1);
        (self.upload_blocks / uploads).clamp(1, self.upload_blocks_each)
    }

    /// Counts uploads that were refused a block for what others hold; `is` is the upload's own note of it.
    pub(crate) fn refuse_upload(&mut self, is: &mut bool, will: bool) {
        match (*is, will) {
            (false, true) => self.uploads_refused += 1,
            (true, false) => self.uploads_refused = self.uploads_refused.saturating_sub(1),
            _ => {}
        }
        *is = will;
    }

    /// Whether an upload other than the one that asks was refused a block; `own`: whether that one was.
    pub(crate) fn refuses_other_uploads(&self, own: bool) -> bool {
        self.uploads_refused > usize::from(own)
    }

    /// The disk failed an upload.
    pub(crate) fn note_upload_failure(&mut self, error: UploadError) {
        self.counters.count_upload_failure(error);
        if let Some(troubles) = &self.troubles {
            troubles.note(error);
        }
    }

    pub(crate) fn end_upload(&mut self, file: UploadHandle) {
        self.disk.end_upload(file);
        self.freed = true;
    }

    pub(crate) fn return_upload_block(&mut self, block: UploadBlock) {
        self.disk.return_block(block);
        self.freed = true;
    }

    /// Time over which a client has to send [`Self::body_least`] bytes of an upload.
    pub(crate) fn body_time(&self) -> Duration {
        match self.body_rate {
            Some(_) => RATE_TIME,
            None => self.idle_timeout,
        }
    }

    pub(crate) fn body_least(&self) -> u64 {
        self.body_rate
            .map_or(1, |rate| rate.saturating_mul(RATE_TIME.as_secs()))
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
}

/// The same for who needs other parts of [`Services`] meanwhile.
pub(crate) fn plan_context<'a>(
    wall: &'a WallClock,
    uploads: Option<&UploadRules>,
    close: bool,
) -> PlanContext<'a> {
    PlanContext {
        date: wall.date(),
        now_s: wall.seconds(),
        close,
        uploads: uploads.is_some(),
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
    /// Opens and reads so far.
    pub reads: DiskCounters,
    /// Connections with a request under way now.
    pub active: usize,
}
