//! What the log hears of trouble that workers have with this machine.
//!
//! Uploads that fail because of it: permissions, a read-only mount, the disk. A client learns a status, the operator has to
//! learn the reason. One failure is told, then none for a minute: how often they come is for clients to decide, and the
//! counters have all of them.
//!
//! Files that are to be read past the page cache, and cannot be: clients get them all the same, so it is told once.
//!
//! The workers share one slot for each; the supervisor looks into them at least once a second.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use sluice_disk::UploadError;
use sluice_tcp::clock::Instant;

use crate::preflight::{Problem, upload_remedy};

/// Between two lines of the log.
const PAUSE: Duration = Duration::from_secs(60);

/// The end of a worker. Clones lead to the same log.
#[derive(Debug, Clone)]
pub struct Troubles(Arc<Slots>);

#[derive(Debug)]
struct Slots {
    upload: ArrayQueue<UploadError>,
    not_direct: AtomicBool,
}

/// The end of the supervisor.
#[derive(Debug)]
pub struct TroubleBook {
    slots: Arc<Slots>,
    told_at: Option<Instant>,
    has_told_not_direct: bool,
    /// Named to the operator, who may have to let it write.
    uid: u32,
}

/// The border between the workers and the log of a service that runs as `uid`.
#[must_use]
pub fn troubles(uid: u32) -> (Troubles, TroubleBook) {
    let slots = Arc::new(Slots {
        upload: ArrayQueue::new(1),
        not_direct: AtomicBool::new(false),
    });
    let book = TroubleBook {
        slots: Arc::clone(&slots),
        told_at: None,
        has_told_not_direct: false,
        uid,
    };
    (Troubles(slots), book)
}

impl Troubles {
    /// Hands a failure over, if it is one to be told and none waits. Neither waits nor allocates.
    pub(crate) fn note(&self, error: UploadError) {
        let is_ours = matches!(
            error,
            UploadError::ReadOnly
                | UploadError::Denied
                | UploadError::NoSpace
                | UploadError::Quota
                | UploadError::Io(_)
                | UploadError::NotDurable(_)
        );
        if is_ours {
            // A full slot: another one is told, and both are counted.
            let _ = self.0.upload.push(error);
        }
    }

    /// A file that is to be read past the page cache cannot be.
    pub(crate) fn note_not_direct(&self) {
        // Nothing else is handed over with it.
        self.0.not_direct.store(true, Ordering::Relaxed);
    }
}

impl TroubleBook {
    /// The line that is due, if one is.
    pub fn line(&mut self, now: Instant) -> Option<String> {
        let problem = self.upload(now).or_else(|| self.not_direct())?;
        Some(format!("warning: {problem}"))
    }

    fn not_direct(&mut self) -> Option<Problem> {
        let is_due = !self.has_told_not_direct && self.slots.not_direct.load(Ordering::Relaxed);
        self.has_told_not_direct |= is_due;
        is_due.then(|| {
            Problem::new(
                "a file of disk.direct_above or more is read through the page cache",
                "its file system takes no direct reads of it (O_DIRECT); disk_direct_refused of the report counts such files",
                "nothing if it is few files, else serve them from another file system, or set disk.direct_above = \"off\"",
            )
        })
    }

    fn upload(&mut self, now: Instant) -> Option<Problem> {
        if self
            .told_at
            .is_some_and(|at| now.saturating_since(at) < PAUSE)
        {
            return None;
        }
        let error = self.slots.upload.pop()?;
        self.told_at = Some(now);
        let (why, fix) = upload_remedy(error, self.uid);
        Some(Problem::new("an upload failed", why, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_remedy_and_the_next_ones_only_after_a_pause() {
        let (worker, mut book) = troubles(998);
        assert_eq!(book.line(Instant::ZERO), None);
        worker.note(UploadError::Denied);
        worker.note(UploadError::ReadOnly);
        let line = book.line(Instant::ZERO).expect("the first one");
        assert_eq!(
            line,
            "warning: an upload failed: uid 998 may not write there, or a symbolic link is in the way \
             -> chown or chmod it, or `setfacl -m u:998:rwx` on it"
        );
        worker.note(UploadError::ReadOnly);
        assert_eq!(book.line(Instant::ZERO + PAUSE / 2), None);
        let line = book.line(Instant::ZERO + PAUSE).expect("it waited");
        assert!(line.contains("read-only"), "{line}");
    }

    #[test]
    fn a_file_that_cannot_be_read_directly_is_told_once() {
        let (worker, mut book) = troubles(998);
        worker.note_not_direct();
        worker.note(UploadError::Denied);
        let upload = book.line(Instant::ZERO).expect("an upload");
        assert!(upload.contains("upload"), "{upload}");
        let line = book.line(Instant::ZERO).expect("it is told beside it");
        assert!(line.contains("disk.direct_above = \"off\""), "{line}");
        worker.note_not_direct();
        assert_eq!(book.line(Instant::ZERO + 2 * PAUSE), None);
    }

    #[test]
    fn what_a_client_did_wrong_is_not_told() {
        let (worker, mut book) = troubles(998);
        for error in [
            UploadError::NoDirectory,
            UploadError::Exists,
            UploadError::TooLarge,
        ] {
            worker.note(error);
        }
        assert_eq!(book.line(Instant::ZERO), None);
    }
}
