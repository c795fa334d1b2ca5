//! Preconditions of a request, in the order of RFC 9110 13.2.2.
//!
//! Decides, for a file that exists, between going on, 304 and 412, and whether `Range` counts. A field
//! that cannot be read is never taken to hold: it fails `If-Match`, and is ignored where ignoring
//! means sending the file. The clock has no part in it beyond what [`Validators`] were made from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::etag::{ETag, etag, is_exact, settled_etag};
use crate::plan::Found;
use crate::request::{FieldValues, Method, Request, Singleton};

/// The last second that an HTTP date can name (year 9999), in seconds of Unix time.
const HTTP_DATE_MAX_S: u64 = 253_402_300_799;

/// What a version of a file is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validators {
    /// The one to be shown.
    pub(crate) etag: ETag,
    /// The one that a young file will have, if an upload may have been told it already: as strong as it will be then.
    settled: Option<ETag>,
    /// `None` where no HTTP date can name the time.
    pub(crate) last_modified: Option<LastModified>,
}

impl Validators {
    /// The validators of the file `found` at `path` when the clock shows `now_s`.
    pub(crate) fn new(path: &[u8], found: &Found, now_s: i64) -> Validators {
        let etag = etag(path, found.size, found.mtime_s, found.mtime_ns, now_s);
        let may_be_told = etag.is_weak() && is_exact(found.mtime_ns);
        Validators {
            etag,
            settled: may_be_told
                .then(|| settled_etag(path, found.size, found.mtime_s, found.mtime_ns)),
            // Never later than the answer itself (RFC 9110 8.8.2.1).
            last_modified: LastModified::from_unix(found.mtime_s.min(now_s)),
        }
    }

    /// Every tag that this version of the file is known by.
    fn tags(&self) -> impl Iterator<Item = &ETag> {
        core::iter::once(&self.etag).chain(&self.settled)
    }
}

/// A time that an HTTP date can name, in whole seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LastModified(u64);

impl LastModified {
    fn from_unix(seconds: i64) -> Option<LastModified> {
        let seconds = u64::try_from(seconds).ok()?;
        (seconds <= HTTP_DATE_MAX_S).then_some(LastModified(seconds))
    }

    /// Reads any of the three forms of RFC 9110 5.6.7.
    fn parse(value: &[u8]) -> Option<LastModified> {
        let date: HttpDate = str::from_utf8(value).ok()?.parse().ok()?;
        let since_epoch = SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?;
        Some(LastModified(since_epoch.as_secs()))
    }

    /// For output as an IMF-fixdate.
    pub(crate) fn http_date(self) -> HttpDate {
        // In the years 1970 to 9999 by construction, outside of which httpdate would panic.
        HttpDate::from(UNIX_EPOCH + Duration::from_secs(self.0))
    }
}

/// What the preconditions allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer with the file, and look at `Range` or not.
    Proceed { range: bool },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// Evaluates the preconditions of a GET or HEAD. The numbers are the steps of RFC 9110 13.2.2.
pub(crate) fn evaluate(request: &Request<'_>, validators: &Validators) -> Verdict {
    // 1 and 2: guards, on behalf of clients that must not get another version.
    let guarded = match request.if_match() {
        Some(tags) => any_tag(tags, |tag| tag.matches_strongly(validators)),
        None => unmodified_since(request.if_unmodified_since(), validators),
    };
    if !guarded {
        return Verdict::PreconditionFailed;
    }
    // 3 and 4: does the client already have this version?
    let current = match request.if_none_match() {
        Some(tags) => any_tag(tags, |tag| tag.matches_weakly(validators)),
        None => not_modified_since(request.if_modified_since(), validators),
    };
    if current {
        return Verdict::NotModified;
    }
    // 5: is the range wanted from this version? Range has a meaning for GET alone (RFC 9110 14.2).
    let range = request.method == Method::Get && if_range_holds(request.if_range(), validators);
    Verdict::Proceed { range }
}

/// Evaluates the preconditions of a PUT for a file with these validators, `None` if there is no file. The
/// numbers are the steps of RFC 9110 13.2.2; what is left of them for a method that changes the file are guards.
pub(crate) fn put_precondition_holds(
    request: &Request<'_>,
    validators: Option<&Validators>,
) -> bool {
    // 1 and 2. Without a file there is nothing that could match, and nothing that was modified.
    let guarded = match (request.if_match(), validators) {
        (Some(tags), Some(validators)) => any_tag(tags, |tag| tag.matches_strongly(validators)),
        (Some(_), None) => false,
        (None, Some(validators)) => unmodified_since(request.if_unmodified_since(), validators),
        (None, None) => true,
    };
    // 3: `*` is matched by any file.
    let matched = match (request.if_none_match(), validators) {
        (Some(tags), Some(validators)) => any_tag(tags, |tag| tag.matches_weakly(validators)),
        _ => false,
    };
    guarded && !matched
}

/// `If-Unmodified-Since` (RFC 9110 13.1.4). What is no date, or more than one, is ignored.
fn unmodified_since(field: Singleton<'_>, validators: &Validators) -> bool {
    let date = field.once().and_then(LastModified::parse);
    match (date, validators.last_modified) {
        (Some(date), Some(last_modified)) => last_modified <= date,
        _ => true,
    }
}

/// `If-Modified-Since`, negated (RFC 9110 13.1.3). What is no date, or more than one, is ignored.
fn not_modified_since(field: Singleton<'_>, validators: &Validators) -> bool {
    let date = field.once().and_then(LastModified::parse);
    match (date, validators.last_modified) {
        (Some(date), Some(last_modified)) => last_modified <= date,
        _ => false,
    }
}

/// `If-Range` (RFC 9110 13.1.5): a strong match of the tag, or the very date that was sent.
fn if_range_holds(field: Singleton<'_>, validators: &Validators) -> bool {
    let value = match field {
        Singleton::Absent => return true,
        Singleton::Repeated => return false,
        Singleton::Once(value) => value,
    };
    let mut rest = value;
    if let Some(tag) = EntityTag::next(&mut rest) {
        return rest.is_empty() && tag.matches_strongly(validators);
    }
    // A date is a strong validator only for a file at rest (RFC 9110 8.8.2.2); whether it already was
    // at the time of the first answer is for the client to know.
    let date = LastModified::parse(value);
    date.is_some() && date == validators.last_modified && !validators.etag.is_weak()
}

/// True if a list field is `*`, which every existing file matches, or one of its tags passes `test`.
fn any_tag(mut lines: FieldValues<'_>, test: impl Fn(&EntityTag<'_>) -> bool) -> bool {
    lines.any(|line| {
        let mut rest = line;
        line == b"*" || core::iter::from_fn(|| EntityTag::next(&mut rest)).any(|tag| test(&tag))
    })
}

/// A tag that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntityTag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Takes the next tag off a list. `None` at its end, and at anything that is no tag: where one
    /// begins after that is anybody's guess, since commas may stand inside tags.
    fn next(list: &mut &'a [u8]) -> Option<EntityTag<'a>> {
        let separator = |byte: &u8| matches!(byte, b' ' | b'\t' | b',');
        let start = list.iter().position(|byte| !separator(byte))?;
        let tag = &list[start..];
        let (weak, quoted) = match tag.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, tag),
        };
        let len = quoted
            .strip_prefix(b"\"")?
            .iter()
            .position(|&byte| byte == b'"')?;
        let (opaque, rest) = quoted.split_at(len + 2);
        if !rest.first().is_none_or(separator) {
            return None;
        }
        *list = rest;
        Some(EntityTag { weak, opaque })
    }

    /// Strong comparison (RFC 9110 8.8.3.2).
    fn matches_strongly(&self, file: &Validators) -> bool {
        let matches = |etag: &ETag| !etag.is_weak() && self.opaque == etag.opaque();
        !self.weak && file.tags().any(matches)
    }

    /// Weak comparison (RFC 9110 8.8.3.2).
    fn matches_weakly(&self, file: &Validators) -> bool {
        file.tags().any(|etag| self.opaque == etag.opaque())
    }
}

#[cfg(test)]
mod tests;
