//! One upload: from the head of a PUT to its answer.
//!
//! The file is begun before any byte of the body is wanted; when the disk says that it can be had, the client that waits
//! for it hears 100. Then the body goes into blocks and these to the disk (`incoming`), and when all of it is there and
//! durable under its name the answer is queued like any other. Whatever comes in between (an error of the disk, chunks
//! that are none, a client that ends or is too slow, a drain deadline) ends the upload, and nothing of it is left.
//!
//! No request behind it is looked at before: what the body leaves behind may depend on it.

mod holding;

use super::incoming::Incoming;
use super::request::{found, take_error};
use super::response::Planned;
use super::{Exchange, new_queue};
use crate::services::Services;
use core::ops::Range;
use holding::Held;
use sluice_disk::{Loan, Published, TakeBlock, UploadError, UploadHandle, UploadState};
use sluice_http::{Body, Put, Status, plan_continue, plan_stored};
use sluice_tcp::Awaited;
use sluice_tcp::clock::Instant;

/// Blocks of a window about whose path nothing is known: two at work on the network and the disk at once.
const FIRST_BLOCKS: usize = 2;

/// With less room than this the next block is taken whatever the share: a window is said in units of up to 16 KiB (RFC 7323
/// section 2.2), so the peer may not hear of what is left of a block, and would never fill it.
const LEAST_ROOM: u64 = 16 << 10;

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The file is being made. The body waits in the request buffer.
    Beginning,
    /// The body is invited; the first block for it is awaited.
    Inviting,
    /// The body goes into blocks.
    Storing,
    /// All of it is with the disk.
    Publishing,
    /// It is over, and will be answered so.
    Failed(Status),
}

/// What an upload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is over, and answered.
    Answered,
    /// The peer: bytes of the body, or acknowledgements that make room for an answer.
    Peer,
    /// Us.
    Ours(Awaited),
}

/// An upload and its memory, which is used again.
#[derive(Debug)]
pub(crate) struct Upload {
    put: Option<Put>,
    path: Vec<u8>,
    file: Option<UploadHandle>,
    stage: Stage,
    incoming: Incoming,
    /// What the peer could use, in bytes, as its transport says; `None` is as much as there is.
    wanted: Option<u32>,
    /// It could use a block more than it got, and one will come back.
    is_short: bool,
    /// Because of what others hold; known to [`Services`].
    is_refused: bool,
    /// Since when its first block is awaited.
    unserved_since: Option<Instant>,
    /// While it holds much.
    held: Option<Held>,
    /// The end of a chunked body left no safe way to the next request.
    close: bool,
}

impl Upload {
    /// For at most `blocks` blocks at once.
    pub(crate) fn new(blocks: usize) -> Upload {
        Upload {
            put: None,
            path: Vec::new(),
            file: None,
            stage: Stage::Failed(Status::InternalServerError),
            incoming: Incoming::new(blocks),
            wanted: Some(0),
            is_short: false,
            is_refused: false,
            unserved_since: None,
            held: None,
            close: false,
        }
    }

    /// Begins: `put` is for the file at `path`, and its body begins at stream offset `start`.
    pub(super) fn restart(&mut self, put: Put, path: &[u8], file: UploadHandle, start: u64) {
        debug_assert!(self.file.is_none(), "the upload before was ended");
        self.put = Some(put);
        self.path.clear();
        self.path.extend_from_slice(path);
        self.file = Some(file);
        self.stage = Stage::Beginning;
        self.incoming.restart(start, put.body);
        self.wanted = Some(0);
        self.is_short = false;
        self.unserved_since = None;
        self.held = None;
        self.close = false;
    }

    /// Bytes of the body go into blocks now.
    pub(super) fn is_storing(&self) -> bool {
        self.stage == Stage::Storing
    }

    /// It is whole and with the disk, and mostly past being called back.
    pub(super) fn is_publishing(&self) -> bool {
        self.stage == Stage::Publishing
    }

    /// It could use more blocks than it has.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// It is the peer's turn.
    pub(super) fn awaits_peer(&self) -> bool {
        self.is_storing() && self.incoming.room() > 0 && !self.incoming.is_whole()
    }

    pub(super) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    pub(super) fn incoming_mut(&mut self) -> &mut Incoming {
        &mut self.incoming
    }

    pub(super) fn set_wanted(&mut self, wanted: Option<u32>) {
        self.wanted = wanted;
    }

    /// Ends it, published or not.
    pub(crate) fn clear(&mut self, services: &mut Services) {
        self.incoming.clear(services);
        services.refuse_upload(&mut self.is_refused, false);
        if let Some(file) = self.file.take() {
            services.end_upload(file);
        }
    }

    fn state(&self, services: &Services) -> UploadState {
        match &self.file {
            Some(file) => services.disk.upload_state(file),
            None => UploadState::Failed(UploadError::TooMany),
        }
    }

    /// Takes blocks as far as the peer could use them and others leave some.
    fn take_blocks(&mut self, services: &mut Services) {
        let Some(file) = &self.file else {
            return;
        };
        let most = services.upload_allowance();
        let useful = match self.wanted {
            None => most,
            Some(bytes) => usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .div_ceil(sluice_disk::BLOCK_BYTES)
                .saturating_add(1)
                .max(FIRST_BLOCKS),
        };
        self.is_short = false;
        let mut is_refused = false;
        while self.incoming.needs_blocks() {
            let has_room = self.incoming.room() >= LEAST_ROOM;
            if has_room && self.incoming.blocks() >= useful.min(most) {
                break;
            }
            // Those at the disk count: else who is faster than the disk has more than a share. They come back.
            let out = services.disk.upload_blocks(file);
            if out >= most && (has_room || out > self.incoming.blocks()) {
                services.disk.hurry_uploads();
                self.is_short = true;
                break;
            }
            match services.disk.upload_block(file) {
                TakeBlock::Taken(block) => self.incoming.add(block),
                TakeBlock::NoBlock => {
                    self.is_short = true;
                    is_refused = !services.disk.has_upload_share(file);
                    break;
                }
                // The state says why in the next step.
                TakeBlock::Closed => break,
            }
        }
        services.refuse_upload(&mut self.is_refused, is_refused);
    }

    fn finish(&mut self, services: &mut Services) {
        let size = self.incoming.size();
        self.incoming.pass_on_last(services);
        services.refuse_upload(&mut self.is_refused, false);
        if let Some(file) = &self.file {
            services.disk.finish_upload(file, size);
        }
        self.stage = Stage::Publishing;
    }
}

impl Exchange {
    /// Lets the upload go on until it waits for something or is answered.
    pub(super) fn drive_upload(&mut self, now: Instant, services: &mut Services) -> Step {
        loop {
            let Some(upload) = &mut self.upload else {
                return Step::Answered;
            };
            let state = upload.state(services);
            if let UploadState::Failed(error) = state
                && !matches!(upload.stage, Stage::Failed(_))
            {
                upload.stage = Stage::Failed(status_of(error));
                services.note_upload_failure(error);
            }
            let waits = match upload.stage {
                Stage::Beginning => match state {
                    UploadState::Opening => Some(Step::Ours(Awaited::Disk)),
                    _ => self.invite(services),
                },
                Stage::Inviting => self.begin_storing(now, services),
                Stage::Storing => self.store(now, services),
                Stage::Publishing => match state {
                    UploadState::Published(published) => {
                        Some(self.answer_stored(&published, services))
                    }
                    _ => Some(Step::Ours(Awaited::Disk)),
                },
                Stage::Failed(status) => Some(self.answer_failed(status, services)),
            };
            if let Some(step) = waits {
                return step;
            }
        }
    }

    /// Stream offset up to which the body of an upload has come.
    pub(super) fn body_received(&self) -> u64 {
        let upload = self.upload.as_ref();
        upload.map_or(0, |upload| upload.incoming().delivered())
    }

    /// The upload whose body is being stored.
    pub(super) fn storing(&self) -> Option<&Upload> {
        self.upload.as_deref().filter(|upload| upload.is_storing())
    }

    pub(super) fn storing_mut(&mut self) -> Option<&mut Upload> {
        let upload = self.upload.as_deref_mut();
        upload.filter(|upload| upload.is_storing())
    }

    /// Stores what belongs to the body of an upload. What follows it, or `None` if there was no place for it.
    pub(super) fn place_in_upload<'b>(
        &mut self,
        offset: u64,
        bytes: &'b [u8],
    ) -> Option<(u64, &'b [u8])> {
        let Some(upload) = self.storing_mut() else {
            return Some((offset, bytes));
        };
        let incoming = upload.incoming_mut();
        let (body, rest) = bytes.split_at(incoming.share(offset, bytes.len()));
        if !body.is_empty() && !incoming.place(offset, body) {
            return None;
        }
        Some((offset + u64::try_from(body.len()).unwrap_or(0), rest))
    }

    /// How many of the first bytes of `range` of the stream have to be [placed](Self::place) if the others shall be
    /// written from the transport's memory ([`Self::lend`]); `None` if all of them have to.
    pub(crate) fn lends(&self, range: &Range<u64>, services: &Services) -> Option<usize> {
        let upload = self.storing()?;
        let to_place = upload.incoming().lends(range)?;
        let takes = |file| services.disk.takes_loan(file);
        upload.file.as_ref().is_some_and(takes).then_some(to_place)
    }

    /// Has the bytes up to stream offset `until` that were not placed written from `loan`, which comes back by the disk.
    ///
    /// # Errors
    /// The loan, if the upload is over: nobody wants the bytes any more.
    pub(crate) fn lend(
        &mut self,
        until: u64,
        loan: Box<dyn Loan>,
        services: &mut Services,
    ) -> Result<(), Box<dyn Loan>> {
        let Some(upload) = self.storing_mut() else {
            return Err(loan);
        };
        let offset = upload.incoming.skip(until, services);
        match &upload.file {
            Some(file) => services.disk.submit_loan(file, loan, offset),
            None => Err(loan),
        }
    }

    /// The file can be had: says so if the client waits to hear it, and none of the body has come (RFC 9110 10.1.1).
    fn invite(&mut self, services: &mut Services) -> Option<Step> {
        let has_begun = self.input.as_ref().is_some_and(|input| !input.is_empty());
        let expects = self
            .upload
            .as_ref()
            .and_then(|upload| upload.put)
            .is_some_and(|put| put.expects_continue);
        if expects && !has_begun && !self.peer_finished {
            if let Some(step) = self.await_queue(services) {
                return Some(step);
            }
            services.head.clear();
            plan_continue(&mut services.head);
            self.push_head(services);
        }
        if let Some(upload) = &mut self.upload {
            upload.stage = Stage::Inviting;
        }
        None
    }

    /// Moves what has come of the body into the first block; what follows goes there by itself.
    fn begin_storing(&mut self, now: Instant, services: &mut Services) -> Option<Step> {
        let upload = self.upload.as_mut()?;
        upload.take_blocks(services);
        let incoming = &mut upload.incoming;
        if incoming.needs_blocks() && incoming.blocks() == 0 {
            upload.unserved_since.get_or_insert(now);
            return Some(Step::Ours(Awaited::Memory));
        }
        if let Some(input) = &mut self.input {
            let (from, held) = (input.consumed(), input.held());
            let share = incoming.share(from, held.len());
            // The request buffer is shorter than a block.
            let placed = incoming.place(from, &held[..share]);
            debug_assert!(placed, "the first block holds a request buffer");
            incoming.deliver(input.delivered());
            let behind = from + u64::try_from(share).unwrap_or(0);
            input.skip_to(incoming.end().unwrap_or(behind).max(behind));
        }
        if let Some(end) = incoming.end() {
            self.request_offset = end;
        }
        upload.stage = Stage::Storing;
        None
    }

    /// Hands what has come to the disk, and takes blocks for what may come.
    fn store(&mut self, now: Instant, services: &mut Services) -> Option<Step> {
        let upload = self.upload.as_mut()?;
        let max_size = services.uploads.map_or(0, |rules| rules.max_size);
        if let Err(status) = upload.incoming.pass_on(max_size, services) {
            upload.stage = Stage::Failed(status);
            return None;
        }
        if upload.incoming.is_whole() {
            if upload.put.is_some_and(|put| put.body == Body::Chunked) {
                self.leave_chunks(services);
            }
            self.upload.as_mut()?.finish(services);
            return None;
        }
        if self.peer_finished {
            // It ended before its body did (RFC 9112 section 8).
            upload.stage = Stage::Failed(Status::BadRequest);
            return None;
        }
        upload.take_blocks(services);
        upload.note_held(now, services);
        Some(if upload.incoming.room() > 0 {
            Step::Peer
        } else if upload.is_refused {
            Step::Ours(Awaited::Memory)
        } else {
            Step::Ours(Awaited::Disk)
        })
    }

    /// What has come behind the last chunk is the next request, as far as the request buffer can hold what may still
    /// come. If not, the connection ends with the answer: a window that was promised is not taken back.
    fn leave_chunks(&mut self, services: &mut Services) {
        let Some(upload) = &mut self.upload else {
            return;
        };
        let incoming = &mut upload.incoming;
        let Some(end) = incoming.end() else {
            return;
        };
        let (beyond, delivered) = (incoming.beyond(), incoming.delivered());
        self.request_offset = end;
        let fits = usize::try_from(beyond).is_ok_and(|beyond| beyond <= services.input_bytes());
        let mut kept = fits;
        if fits && beyond > 0 {
            let mut input = self.input.take().or_else(|| services.take_input());
            if let Some(input) = &mut input {
                input.restart(end);
                let buffers = &mut services.buffers;
                incoming.each_beyond(|at, bytes| kept &= input.place(at, bytes, buffers));
                input.deliver(delivered.min(input.placed()));
            }
            kept &= input.is_some();
            self.input = input;
        }
        if !kept {
            upload.close = true;
            self.take_no_more();
            self.request_offset = self.request_offset.max(delivered);
        }
    }

    fn answer_stored(&mut self, published: &Published, services: &mut Services) -> Step {
        if let Some(step) = self.await_queue(services) {
            return step;
        }
        let Some(mut upload) = self.upload.take() else {
            return Step::Answered;
        };
        let Some(put) = upload.put else {
            return Step::Answered;
        };
        let (context, head) = services.plan_context(upload.close || services.draining);
        let plan = plan_stored(
            &put,
            &upload.path,
            &found(&published.meta),
            published.created,
            &context,
            head,
        );
        self.push_head(services);
        services.counters.count_response(plan.status);
        services.counters.uploads += 1;
        services.counters.upload_bytes += published.meta.size;
        upload.clear(services);
        services.give_back_upload(upload, self.source);
        if plan.close {
            self.take_no_more();
        }
        Step::Answered
    }

    fn answer_failed(&mut self, status: Status, services: &mut Services) -> Step {
        // At once, whether there is room for an answer or not: others may have use for its blocks.
        if let Some(upload) = &mut self.upload {
            upload.clear(services);
        }
        self.take_no_more();
        if let Some(step) = self.await_queue(services) {
            return step;
        }
        self.discard_upload(services);
        if let Some(queue) = &mut self.queue {
            take_error(status, queue, services);
        }
        Step::Answered
    }

    /// The peer sends its body too slowly: what came is worth nothing, and it hears why.
    pub(super) fn end_slow_upload(&mut self, services: &mut Services) {
        if self.upload.is_some() {
            services.counters.too_slow += 1;
            self.fail_upload(Status::RequestTimeout);
        }
    }

    /// Ends the upload with `status` outside of [`Self::advance`]. What still comes belongs nowhere, also before that is
    /// called: a transport may read first.
    fn fail_upload(&mut self, status: Status) {
        if let Some(upload) = &mut self.upload {
            upload.stage = Stage::Failed(status);
            self.take_no_more();
        }
    }

    /// Gives up the upload, if there is one, and all that belongs to it.
    pub(super) fn discard_upload(&mut self, services: &mut Services) {
        if let Some(mut upload) = self.upload.take() {
            let counters = &mut services.counters;
            if upload.is_publishing() {
                counters.uploads_unanswered += 1;
            } else {
                counters.uploads_discarded += 1;
            }
            upload.clear(services);
            services.give_back_upload(upload, self.source);
        }
    }

    /// A queue with room for one more answer; else what it waits for.
    fn await_queue(&mut self, services: &mut Services) -> Option<Step> {
        if self.queue.is_none() {
            self.queue = new_queue(self.response_offset, services);
        }
        match &self.queue {
            None => Some(Step::Ours(Awaited::Memory)),
            Some(queue) if !queue.has_room() => Some(Step::Peer),
            Some(_) => None,
        }
    }

    /// Queues the head that was written, for which there is room.
    fn push_head(&mut self, services: &mut Services) {
        if let Some(queue) = &mut self.queue {
            queue.push(
                &services.head,
                Planned {
                    body: 0..0,
                    file: None,
                    requested_at: None,
                },
            );
        }
    }
}

/// What a client may know of a failure. Nothing is said about names that lead out of the root.
pub(super) fn status_of(error: UploadError) -> Status {
    match error {
        UploadError::NoDirectory | UploadError::IsDirectory | UploadError::NotAFile => {
            Status::Conflict
        }
        UploadError::BadName
        | UploadError::Denied
        | UploadError::Escapes
        | UploadError::ReadOnly => Status::Forbidden,
        UploadError::Exists | UploadError::Changed => Status::PreconditionFailed,
        UploadError::NoSpace | UploadError::Quota => Status::InsufficientStorage,
        UploadError::TooLarge => Status::ContentTooLarge,
        UploadError::TooMany => Status::ServiceUnavailable,
        UploadError::Io(_) | UploadError::NotDurable(_) => Status::InternalServerError,
    }
}
