//! HTTP/1.1 for files: from the bytes of a request to the bytes of a response head and a range of a
//! file.
//!
//! GET, HEAD and PUT over HTTP/1.1 and 1.0, with keep-alive, pipelining, one byte range and the
//! conditional requests of RFC 9110. No I/O, no clock, no state between requests, and no allocation: heads are read
//! in place and written into buffers that the caller uses again. The order of calls for one request:
//!
//! 1. [`parse_request`] on what has arrived; on `Invalid`, [`plan_error`] without a request, then
//!    close.
//! 2. [`decode_target`] on [`Request::target`]; on an error, [`plan_error`] with the request.
//! 3. The caller opens the file.
//! 4. [`plan()`] for a file, [`plan_redirect`] for a directory without its slash, [`plan_error`]
//!    otherwise.
//!    For a file that is asked for again and again [`plan_described`] spares what its [`Description`] says already.
//! 5. The caller sends the head, then [`Plan::body`], then closes if [`Plan::close`] says so; else step
//!    1 with the bytes behind the request.
//!
//! For a PUT see `upload`: [`plan_put`] takes the place of the steps 2 to 4, and [`ChunkDecoder`] reads a
//! body without a length.
//!
//! Not here: multipart ranges, resumable uploads, listings, content negotiation. Clauses read strictly where
//! lenience would let two readers disagree are named in `framing` and `request`.

#![forbid(unsafe_code)]
// They panic when nobody reads; what is to be said goes to the caller.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod chunked;
mod conditional;
mod description;
mod etag;
mod framing;
mod head;
mod mime;
mod plan;
mod range;
mod request;
mod status;
mod target;
mod upload;

pub use chunked::{ChunkDecoder, Decoded};
pub use description::Description;
pub use etag::{ETag, etag};
pub use mime::content_type;
pub use plan::{
    Found, Plan, PlanContext, RESPONSE_HEAD_BYTES, plan, plan_described, plan_error, plan_redirect,
};
pub use request::{
    Body, FIELDS_MAX, FieldValues, Method, Parsed, Request, RequestLimits, Singleton, Version,
    parse_request,
};
pub use status::Status;
pub use target::{TargetKind, decode_target};
pub use upload::{Put, UploadRules, plan_continue, plan_put, plan_stored, precondition_holds};
