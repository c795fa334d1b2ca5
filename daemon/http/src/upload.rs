//! What a PUT asks for, whether it may, and what it is answered (RFC 9110 9.3.4).
//!
//! Everything that a head can be refused for is found before a byte of the body is read, so that a
//! client which waits for 100 sends no body in vain. Whether a refused body follows after all nobody
//! knows, so every refusal of a request with a body closes the connection, and so does 411. A [`Put`] outlives its
//! request, whose bytes are gone when the body has come. The order of calls:
//!
//! 1. [`plan_put`]: what the head alone tells.
//! 2. With [`Put::is_guarded`], [`precondition_holds`] for the file that is there.
//! 3. [`plan_continue`] if [`Put::expects_continue`] and no byte of the body has come.
//! 4. [`plan_stored`] when the file is on disk, or [`plan_error`](crate::plan_error) without the request when it will
//!    never be: the rest of the body is on its way, so the connection ends.
//!
//! A part of a file is not taken: `Content-Range` on a PUT is how half a file becomes the whole one where
//! a server does not know it (RFC 9110 14.5). Nor is a coded one: it would be served without the word that it is.

use crate::conditional::{Validators, put_precondition_holds};
use crate::etag::{is_exact, settled_etag};
use crate::head::HeadWriter;
use crate::plan::{Found, Plan, PlanContext};
use crate::request::{Body, Method, Request, Version};
use crate::status::Status;
use crate::target::{TargetKind, decode_target};

/// What uploads are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadRules {
    /// Bytes of one file at most.
    pub max_size: u64,
}

/// A PUT that is allowed as far as its head goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// What follows the head; never [`Body::Unannounced`].
    pub body: Body,
    /// The client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// The file that is there decides whether it may be replaced: [`precondition_holds`].
    pub is_guarded: bool,
    /// The client wants the connection to go on behind the body.
    pub keep_alive: bool,
    version: Version,
}

impl Put {
    /// The size that was announced, in bytes.
    pub fn announced_size(&self) -> Option<u64> {
        match self.body {
            Body::Length(length) => Some(length),
            Body::Chunked | Body::Unannounced => None,
        }
    }
}

/// Checks the head of a PUT and decodes the path of the file into `path`, as
/// [`decode_target`](crate::decode_target) does. `rules` is `None` where uploads are off.
///
/// # Errors
/// 405 without uploads, 400 for a target that is none or a `Content-Range`, 403 for a name that is
/// never served, 409 for a directory, 411 without a length, 413 for a length above the limit, 415 for a coded body.
pub fn plan_put(
    request: &Request<'_>,
    rules: Option<&UploadRules>,
    path: &mut Vec<u8>,
) -> Result<Put, Status> {
    let rules = rules.ok_or(Status::MethodNotAllowed)?;
    debug_assert!(request.method == Method::Put);
    match decode_target(request.target, path) {
        Ok(TargetKind::File) => {}
        Ok(TargetKind::Directory) => return Err(Status::Conflict),
        // What GET could never find, nobody shall write.
        Err(Status::NotFound) => return Err(Status::Forbidden),
        Err(status) => return Err(status),
    }
    if request.has_content_range() {
        return Err(Status::BadRequest);
    }
    if request.has_content_coding() {
        return Err(Status::UnsupportedMediaType);
    }
    match request.body {
        // RFC 9112 6.3 takes it for an empty body. A client that forgot the length means another file.
        Body::Unannounced => return Err(Status::LengthRequired),
        Body::Length(length) if length > rules.max_size => return Err(Status::ContentTooLarge),
        Body::Length(_) | Body::Chunked => {}
    }
    Ok(Put {
        body: request.body,
        expects_continue: request.expects_continue() && request.body.is_some(),
        is_guarded: request.has_precondition(),
        keep_alive: request.wants_keep_alive(),
        version: request.version,
    })
}

/// Whether the preconditions of a PUT (RFC 9110 13.2.2) hold for the file at `path`, `None` if there is
/// none, when the clock shows `now_s`. If not, the answer is 412.
///
/// A young file goes by two tags: the weak one that GET shows, and the one that [`plan_stored`] told, strong already. An
/// upload that follows another within two seconds shall not be refused for being quick.
pub fn precondition_holds(
    request: &Request<'_>,
    path: &[u8],
    found: Option<&Found>,
    now_s: i64,
) -> bool {
    let validators = found.map(|found| Validators::new(path, found, now_s));
    put_precondition_holds(request, validators.as_ref())
}

/// Writes the interim response 100 (RFC 9110 15.2.1), after which the final one follows.
pub fn plan_continue(head: &mut Vec<u8>) {
    head.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Plans the answer to an upload that is on disk as `stored` at `path`: 201 if there was no file before,
/// else 204, with the tag that the file will have.
///
/// The tag is the strong one although the file is younger than two seconds: the caller vouches that no other upload was
/// given the same modification time, to the nanosecond and never a multiple of 100 (RFC 9110 9.3.4, 8.8.1). If the time
/// in `stored` is one, the file system has rounded it: then the next upload may look the same, and no tag is told.
pub fn plan_stored(
    put: &Put,
    path: &[u8],
    stored: &Found,
    created: bool,
    context: &PlanContext<'_>,
    head: &mut Vec<u8>,
) -> Plan {
    let status = if created {
        Status::Created
    } else {
        Status::NoContent
    };
    let close = context.close || !put.keep_alive;
    let mut writer = HeadWriter::start(head, status, context);
    if is_exact(stored.mtime_ns) {
        let tag = settled_etag(path, stored.size, stored.mtime_s, stored.mtime_ns);
        writer.field("ETag", tag.as_bytes());
    }
    // 204 has no content and must not say how long that is (RFC 9110 8.6).
    if created {
        writer.content_length(0);
    }
    writer.finish_for(close, Some(put.version));
    Plan {
        status,
        body: None,
        close,
    }
}

#[cfg(test)]
mod tests;
