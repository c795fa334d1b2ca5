//! From pending request bytes to a queued response.
//!
//! parse -> decode the target -> open the file -> plan -> queue. A step that cannot be done now (the open
//! goes to a helper thread, the queue is full, every file slot is taken) leaves the request where it is, in the input
//! buffer, and the same way is walked again later: nothing half-done is kept but the ticket of the open.

use super::upload::{Upload, status_of as status_of_upload};
use crate::exchange::input::Input;
use crate::exchange::response::{Planned, ResponseQueue};
use crate::services::descriptions::Descriptions;
use crate::services::upload_slots::Source;
use crate::services::{INDEX_FILE, Services, plan_context};
use sluice_disk::{
    Disk, FileHandle, FileKind, FileMeta, OpenError, OpenTicket, Opening, Precondition, Space,
    UploadError, UploadHandle, UploadOptions,
};
use sluice_http::{
    Found, Method, Parsed, Plan, PlanContext, Put, Request, RequestLimits, Status, TargetKind,
    UploadRules, decode_target, parse_request, plan_described, plan_error, plan_put, plan_redirect,
    precondition_holds,
};
use sluice_tcp::clock::Instant;

/// What became of the pending bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// A response was queued; after the last one nothing more is read.
    Response { last: bool },
    /// They hold no whole request.
    Nothing,
    /// They hold one that has to wait until a response is acknowledged.
    Full,
    /// They hold one whose file is being opened.
    Opening,
    /// They hold something to look at, for which no memory is free.
    NoQueue,
    /// They held the head of an upload, which is begun: its body is next.
    Upload,
}

/// What to do with one request.
enum Answer {
    /// The head is written.
    Planned {
        plan: Plan,
        file: Option<FileHandle>,
    },
    Opening(OpenTicket),
    /// An upload to the path of the request.
    Upload {
        put: Put,
        file: UploadHandle,
    },
    /// Every file slot is taken.
    NoFileSlot,
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) source: Source,
    /// How far the request stream had come when the worker began to drain. The response to the last whole request before
    /// it says `Connection: close`, since after that word nothing more may be answered (RFC 9112 section 9.6).
    pub(super) drained_at: Option<u64>,
    pub(super) now: Instant,
}

/// Takes one request from the input and queues its response.
pub(super) fn take_request(
    input: &mut Input,
    queue: &mut ResponseQueue,
    ticket: &mut Option<OpenTicket>,
    upload: &mut Option<Box<Upload>>,
    asking: &Asking,
    services: &mut Services,
) -> Taken {
    let Asking {
        source,
        drained_at,
        now,
    } = *asking;
    if !queue.has_room() {
        return if input.worth_parsing() {
            Taken::Full
        } else {
            Taken::Nothing
        };
    }
    let opened = match ticket.take() {
        None if !input.worth_parsing() => return Taken::Nothing,
        None => None,
        Some(pending) => match services.disk.opened(pending) {
            Ok(opened) => Some(opened),
            Err(pending) => {
                *ticket = Some(pending);
                return Taken::Opening;
            }
        },
    };
    services.head.clear();
    let context = plan_context(&services.wall, services.uploads.as_ref(), services.draining);
    let (answer, consumed) = match parse_request(input.pending(), &services.http) {
        Parsed::Complete { request, consumed } => {
            let context = PlanContext {
                close: drained_at
                    .is_some_and(|until| !another_follows(input, consumed, until, &services.http)),
                ..context
            };
            let has_upload = services.has_upload(source);
            let tools = Tools {
                disk: &mut services.disk,
                root: &services.root,
                descriptions: &mut services.descriptions,
                path: &mut services.path,
                head: &mut services.head,
                uploads: services.uploads,
                has_upload,
                refused: &mut services.counters.uploads_refused,
                context,
            };
            (tools.answer(&request, opened), consumed)
        }
        Parsed::Incomplete if !input.is_full() => {
            close_opened(opened, &mut services.disk);
            input.searched();
            return Taken::Nothing;
        }
        Parsed::Incomplete => {
            close_opened(opened, &mut services.disk);
            let status = Status::RequestHeaderFieldsTooLarge;
            (
                no_file(plan_error(status, None, &context, &mut services.head)),
                0,
            )
        }
        Parsed::Invalid(status) => {
            close_opened(opened, &mut services.disk);
            (
                no_file(plan_error(status, None, &context, &mut services.head)),
                0,
            )
        }
    };
    let (plan, file) = match answer {
        Answer::Planned { plan, file } => (plan, file),
        Answer::Opening(pending) => {
            *ticket = Some(pending);
            return Taken::Opening;
        }
        Answer::Upload { put, file } => {
            let Some(mut taken) = services.take_upload(source) else {
                services.end_upload(file);
                return Taken::NoQueue;
            };
            input.consume(consumed);
            taken.restart(put, &services.path, file, input.consumed());
            *upload = Some(taken);
            return Taken::Upload;
        }
        // A slot comes back when this connection's own responses are done; without any it would wait for others.
        Answer::NoFileSlot if !queue.is_empty() => return Taken::Full,
        Answer::NoFileSlot => {
            let status = Status::ServiceUnavailable;
            (plan_error(status, None, &context, &mut services.head), None)
        }
    };
    if services.head.len() > queue.head_room() {
        return too_long(queue, file, services);
    }
    queue.push(
        &services.head,
        Planned {
            body: plan.body.clone().unwrap_or(0..0),
            file,
            requested_at: requested_at(input, consumed, now),
        },
    );
    input.consume(consumed);
    services.counters.count_response(plan.status);
    Taken::Response { last: plan.close }
}

/// Queues an answer to no request in particular, after which the connection ends.
pub(super) fn take_error(status: Status, queue: &mut ResponseQueue, services: &mut Services) {
    let (context, head) = services.plan_context(true);
    let plan = plan_error(status, None, &context, head);
    queue.push(
        &services.head,
        Planned {
            body: 0..0,
            file: None,
            requested_at: None,
        },
    );
    services.counters.count_response(plan.status);
}

/// A head that does not fit: a redirect to a very long path. It waits for room, or is refused if there is all the
/// room there will ever be.
fn too_long(queue: &mut ResponseQueue, file: Option<FileHandle>, services: &mut Services) -> Taken {
    if let Some(file) = file {
        services.close(file);
    }
    if !queue.is_empty() {
        return Taken::Full;
    }
    take_error(Status::UriTooLong, queue, services);
    Taken::Response { last: true }
}

/// Whether behind the first `consumed` pending bytes, and before stream offset `until`, there is another whole request.
fn another_follows(input: &Input, consumed: usize, until: u64, limits: &RequestLimits) -> bool {
    let pending = input.pending();
    let known = until.saturating_sub(input.consumed());
    let end = usize::try_from(known).map_or(pending.len(), |known| known.min(pending.len()));
    let rest = pending.get(consumed..end).unwrap_or_default();
    matches!(parse_request(rest, limits), Parsed::Complete { .. })
}

/// When the head that ends `consumed` bytes into the pending ones had arrived; `None` if there was no head.
fn requested_at(input: &Input, consumed: usize, now: Instant) -> Option<Instant> {
    let end = input.consumed() + u64::try_from(consumed).unwrap_or(0);
    (consumed > 0).then(|| input.arrived(end, now))
}

fn no_file(plan: Plan) -> Answer {
    Answer::Planned { plan, file: None }
}

/// An open whose request is not there any more. Cannot happen, as pending bytes do not change; but a handle is linear.
fn close_opened(opened: Option<Result<FileHandle, OpenError>>, disk: &mut Disk) {
    if let Some(Ok(file)) = opened {
        disk.close(file);
    }
}

/// The parts of [`Services`] that answering needs, apart from each other for the borrow checker.
struct Tools<'a> {
    disk: &'a mut Disk,
    root: &'a sluice_disk::Root,
    descriptions: &'a mut Descriptions,
    path: &'a mut Vec<u8>,
    head: &'a mut Vec<u8>,
    uploads: Option<UploadRules>,
    /// Memory for one more upload is free.
    has_upload: bool,
    /// Counts uploads for which there is none.
    refused: &'a mut u64,
    context: PlanContext<'a>,
}

impl Tools<'_> {
    fn answer(
        self,
        request: &Request<'_>,
        opened: Option<Result<FileHandle, OpenError>>,
    ) -> Answer {
        if request.method == Method::Put {
            return self.begin_upload(request, opened);
        }
        if request.method == Method::Other {
            close_opened(opened, self.disk);
            return self.refuse(Status::MethodNotAllowed, request);
        }
        let kind = match decode_target(request.target, self.path) {
            Ok(kind) => kind,
            Err(status) => {
                close_opened(opened, self.disk);
                return self.refuse(status, request);
            }
        };
        if kind == TargetKind::Directory {
            self.path.extend_from_slice(INDEX_FILE);
        }
        let opened = match opened {
            Some(opened) => opened,
            None => match self.disk.open(self.root, self.path) {
                Opening::Done(opened) => opened,
                Opening::Pending(ticket) => return Answer::Opening(ticket),
            },
        };
        match opened {
            Ok(file) => self.serve(file, request),
            Err(OpenError::NotAFile(FileKind::Directory)) if kind == TargetKind::File => {
                no_file(plan_redirect(request, self.path, &self.context, self.head))
            }
            Err(OpenError::TooManyFiles) => Answer::NoFileSlot,
            Err(error) => self.refuse(status_of(error), request),
        }
    }

    /// Begins an upload, unless its head alone is reason not to.
    fn begin_upload(
        mut self,
        request: &Request<'_>,
        opened: Option<Result<FileHandle, OpenError>>,
    ) -> Answer {
        let put = match plan_put(request, self.uploads.as_ref(), self.path) {
            Ok(put) if self.has_upload => put,
            Ok(_) => {
                close_opened(opened, self.disk);
                *self.refused += 1;
                return self.refuse(Status::ServiceUnavailable, request);
            }
            Err(status) => {
                close_opened(opened, self.disk);
                return self.refuse(status, request);
            }
        };
        let precondition = if put.is_guarded {
            let opened = match opened {
                Some(opened) => opened,
                None => match self.disk.open(self.root, self.path) {
                    Opening::Done(opened) => opened,
                    Opening::Pending(ticket) => return Answer::Opening(ticket),
                },
            };
            match self.guard(request, opened) {
                Ok(precondition) => precondition,
                Err(Status::ServiceUnavailable) => return Answer::NoFileSlot,
                Err(status) => return self.refuse(status, request),
            }
        } else {
            close_opened(opened, self.disk);
            Precondition::None
        };
        let options = UploadOptions {
            precondition,
            space: put.announced_size().map_or(Space::Unknown, Space::Expected),
            ..UploadOptions::default()
        };
        match self.disk.begin_upload(self.root, self.path, &options) {
            Ok(file) => Answer::Upload { put, file },
            Err(error) => {
                *self.refused += u64::from(error == UploadError::TooMany);
                self.refuse(status_of_upload(error), request)
            }
        }
    }

    /// What must still be true of the file when the upload takes its place, if the preconditions hold now.
    fn guard(
        &mut self,
        request: &Request<'_>,
        opened: Result<FileHandle, OpenError>,
    ) -> Result<Precondition, Status> {
        let meta = match opened {
            Ok(file) => {
                let meta = self.disk.meta(&file);
                self.disk.close(file);
                Some(meta)
            }
            Err(OpenError::NotFound) => None,
            Err(OpenError::NotAFile(_)) => return Err(Status::Conflict),
            Err(OpenError::Denied | OpenError::Escapes) => return Err(Status::Forbidden),
            Err(error) => return Err(status_of(error)),
        };
        let found = meta.as_ref().map(found);
        if !precondition_holds(request, self.path, found.as_ref(), self.context.now_s) {
            return Err(Status::PreconditionFailed);
        }
        Ok(meta.map_or(Precondition::Absent, Precondition::Version))
    }

    fn serve(self, file: FileHandle, request: &Request<'_>) -> Answer {
        let found = found(&self.disk.meta(&file));
        let now_s = self.context.now_s;
        let description = self.descriptions.of(&file, self.path, &found, now_s);
        let plan = plan_described(request, description, &self.context, self.head);
        let file = if plan.body.is_some() {
            Some(file)
        } else {
            self.disk.close(file);
            None
        };
        Answer::Planned { plan, file }
    }

    fn refuse(self, status: Status, request: &Request<'_>) -> Answer {
        no_file(plan_error(status, Some(request), &self.context, self.head))
    }
}

pub(super) fn found(meta: &FileMeta) -> Found {
    Found {
        size: meta.size,
        mtime_s: meta.mtime_s,
        mtime_ns: meta.mtime_ns,
    }
}

/// Everything that is there but not to be had looks as if it were not there: the difference is nobody's business.
fn status_of(error: OpenError) -> Status {
    match error {
        OpenError::NotFound | OpenError::NotAFile(_) | OpenError::Denied | OpenError::Escapes => {
            Status::NotFound
        }
        OpenError::TooManyFiles => Status::ServiceUnavailable,
        OpenError::Io(_) => Status::InternalServerError,
    }
}
