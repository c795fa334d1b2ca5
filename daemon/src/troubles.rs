//! What the log hears of uploads that fail because of this machine: permissions, a read-only mount, the disk.
//!
//! A client learns a status, the operator has to learn the reason. One failure is told, then none for a minute: how
//! often they come is for clients to decide, and the counters have all of them. The workers share one slot; the
//! supervisor looks into it at least once a second.

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
pub struct UploadTroubles(Arc<ArrayQueue<UploadError>>);

/// The end of the supervisor.
#[derive(Debug)]
pub struct TroubleBook {
    slot: Arc<ArrayQueue<UploadError>>,
    told_at: Option<Instant>,
    /// Named to the operator, who may have to let it write.
    uid: u32,
}

/// The border between the workers and the log of a service that runs as `uid`.
#[must_use]
pub fn upload_troubles(uid: u32) -> (UploadTroubles, TroubleBook) {
    let slot = Arc::new(ArrayQueue::new(1));
    let book = TroubleBook {
        slot: Arc::clone(&slot),
        told_at: None,
        uid,
    };
    (UploadTroubles(slot), book)
}

impl UploadTroubles {
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
            let _ = self.0.push(error);
        }
    }
}

impl TroubleBook {
    /// The line that is due, if one is.
    pub fn line(&mut self, now: Instant) -> Option<String> {
        if self
            .told_at
            .is_some_and(|at| now.saturating_since(at) < PAUSE)
        {
            return None;
        }
        let error = self.slot.pop()?;
        self.told_at = Some(now);
        let (why, fix) = upload_remedy(error, self.uid);
        let problem = Problem::new("an upload failed", why, fix);
        Some(format!("warning: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_remedy_and_the_next_ones_only_after_a_pause() {
        let (worker, mut book) = upload_troubles(998);
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
    fn what_a_client_did_wrong_is_not_told() {
        let (worker, mut book) = upload_troubles(998);
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
