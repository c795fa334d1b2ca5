//! What the application of one worker did so far: plain integers of one thread, added up by the reader.

use sluice_disk::{ReadError, UploadError};
use sluice_http::Status;

/// Counters of requests and responses. Every number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Responses planned with a 2xx status.
    pub responses_2xx: u64,
    /// Responses planned with a 3xx status.
    pub responses_3xx: u64,
    /// Responses planned with a 4xx status.
    pub responses_4xx: u64,
    /// Responses planned with a 5xx status.
    pub responses_5xx: u64,
    /// Response bytes, heads included, that the peer acknowledged (kernel backend: that the kernel took).
    pub response_bytes: u64,
    /// Responses cut off because the file got shorter.
    pub aborted_shrunk: u64,
    /// Responses cut off because the file was written to.
    pub aborted_changed: u64,
    /// Responses cut off because reading failed.
    pub aborted_io: u64,
    /// Responses the peer did not wait for: reset, time-out or drain deadline.
    pub abandoned: u64,
    /// Request heads that did not come in time (408).
    pub head_timeouts: u64,
    /// Kept connections closed because no further request came.
    pub idle_timeouts: u64,
    /// Kept connections reset between requests because a new client needed room.
    pub idle_evicted: u64,
    /// Connections ended between requests because the worker drains.
    pub drained: u64,
    /// Requests refused because the memory for requests or for responses was in use.
    pub no_workspace: u64,
    /// Connections reset because their peer took a response more slowly than the minimum rate.
    pub too_slow: u64,
    /// Uploads that are on disk under their name.
    pub uploads: u64,
    /// Bytes of their files.
    pub upload_bytes: u64,
    /// Uploads refused because every slot was taken, or too many of them by their network (503).
    pub uploads_refused: u64,
    /// Bytes of uploads that were written from received frames, without a copy of ours.
    pub upload_bytes_lent: u64,
    /// Uploads that were begun and came to nothing: cut off, refused on the way, too slow, failed on disk.
    pub uploads_discarded: u64,
    /// Of them: refused by permissions, or by a read-only mount (403).
    pub uploads_denied: u64,
    /// Of them: no space or quota was left (507).
    pub uploads_no_space: u64,
    /// Of them: the file system failed (500).
    pub uploads_io: u64,
    /// Uploads whose client left when they were whole and being published: most of their files are there.
    pub uploads_unanswered: u64,
    /// Connections reset because they held blocks without taking them while others waited for blocks.
    pub ended_for_blocks: u64,
}

impl Counters {
    /// Every counter with its name, in the order tables show them.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, u64); 25] {
        [
            ("responses 2xx", self.responses_2xx),
            ("responses 3xx", self.responses_3xx),
            ("responses 4xx", self.responses_4xx),
            ("responses 5xx", self.responses_5xx),
            ("response bytes", self.response_bytes),
            ("aborted, file shrunk", self.aborted_shrunk),
            ("aborted, file changed", self.aborted_changed),
            ("aborted, read error", self.aborted_io),
            ("abandoned by peer", self.abandoned),
            ("head time-outs", self.head_timeouts),
            ("idle time-outs", self.idle_timeouts),
            ("idle, evicted", self.idle_evicted),
            ("drained", self.drained),
            ("no workspace", self.no_workspace),
            ("reset, too slow", self.too_slow),
            ("uploads", self.uploads),
            ("upload bytes", self.upload_bytes),
            ("uploads refused", self.uploads_refused),
            ("upload bytes lent", self.upload_bytes_lent),
            ("uploads discarded", self.uploads_discarded),
            ("uploads unanswered", self.uploads_unanswered),
            ("uploads denied", self.uploads_denied),
            ("uploads without space", self.uploads_no_space),
            ("uploads failed by the disk", self.uploads_io),
            ("reset for their blocks", self.ended_for_blocks),
        ]
    }

    /// Adds the counts of another worker.
    pub fn merge(&mut self, other: &Counters) {
        let Counters {
            responses_2xx,
            responses_3xx,
            responses_4xx,
            responses_5xx,
            response_bytes,
            aborted_shrunk,
            aborted_changed,
            aborted_io,
            abandoned,
            head_timeouts,
            idle_timeouts,
            idle_evicted,
            drained,
            no_workspace,
            too_slow,
            uploads,
            upload_bytes,
            uploads_refused,
            upload_bytes_lent,
            uploads_discarded,
            uploads_unanswered,
            uploads_denied,
            uploads_no_space,
            uploads_io,
            ended_for_blocks,
        } = other;
        self.responses_2xx += responses_2xx;
        self.responses_3xx += responses_3xx;
        self.responses_4xx += responses_4xx;
        self.responses_5xx += responses_5xx;
        self.response_bytes += response_bytes;
        self.aborted_shrunk += aborted_shrunk;
        self.aborted_changed += aborted_changed;
        self.aborted_io += aborted_io;
        self.abandoned += abandoned;
        self.head_timeouts += head_timeouts;
        self.idle_timeouts += idle_timeouts;
        self.idle_evicted += idle_evicted;
        self.drained += drained;
        self.no_workspace += no_workspace;
        self.too_slow += too_slow;
        self.uploads += uploads;
        self.upload_bytes += upload_bytes;
        self.uploads_refused += uploads_refused;
        self.upload_bytes_lent += upload_bytes_lent;
        self.uploads_discarded += uploads_discarded;
        self.uploads_unanswered += uploads_unanswered;
        self.uploads_denied += uploads_denied;
        self.uploads_no_space += uploads_no_space;
        self.uploads_io += uploads_io;
        self.ended_for_blocks += ended_for_blocks;
    }

    /// Responses planned, whatever their status.
    #[must_use]
    pub fn responses(&self) -> u64 {
        self.responses_2xx + self.responses_3xx + self.responses_4xx + self.responses_5xx
    }

    pub(crate) fn count_response(&mut self, status: Status) {
        match status.code() {
            ..300 => self.responses_2xx += 1,
            300..400 => self.responses_3xx += 1,
            400..500 => self.responses_4xx += 1,
            500.. => self.responses_5xx += 1,
        }
    }

    /// Counts why an upload failed, where the reason is this machine's.
    pub(crate) fn count_upload_failure(&mut self, error: UploadError) {
        match error {
            UploadError::Denied | UploadError::ReadOnly => self.uploads_denied += 1,
            UploadError::NoSpace | UploadError::Quota => self.uploads_no_space += 1,
            UploadError::Io(_) | UploadError::NotDurable(_) => self.uploads_io += 1,
            _ => {}
        }
    }

    pub(crate) fn count_abort(&mut self, cause: ReadError) {
        match cause {
            ReadError::Shrunk => self.aborted_shrunk += 1,
            ReadError::Changed => self.aborted_changed += 1,
            ReadError::Io(_) => self.aborted_io += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_falls_into_its_class() {
        let mut counters = Counters::default();
        for &status in Status::ALL {
            counters.count_response(status);
        }
        let expected = |class| {
            let of_class = |status: &&Status| status.code() / 100 == class;
            u64::try_from(Status::ALL.iter().filter(of_class).count()).expect("small")
        };
        assert_eq!(counters.responses_2xx, expected(2));
        assert_eq!(counters.responses_3xx, expected(3));
        assert_eq!(counters.responses_4xx, expected(4));
        assert_eq!(counters.responses_5xx, expected(5));
    }

    #[test]
    fn merging_adds_every_row() {
        let mut one = Counters::default();
        one.count_response(Status::Ok);
        one.count_abort(ReadError::Shrunk);
        one.response_bytes = 7;
        one.drained = 2;
        let mut sum = one;
        sum.merge(&one);
        for ((name, single), (_, double)) in one.rows().into_iter().zip(sum.rows()) {
            assert_eq!(double, 2 * single, "{name}");
        }
    }
}
