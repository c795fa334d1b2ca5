//! What answers say of one version of a file, whoever asks: its validators, and the field lines about it.
//!
//! All of it follows from path, size and modification time, and most of the work of an answer goes into it: two dates of
//! the calendar, a hash for the tag, a table for the media type. So it is written once, and a caller that keeps it
//! answers further requests for the same file by copying. A [`Description`] knows what it is of
//! ([`Description::is_of`]) and holds no pointer to anything, so one that is kept for too long is found out and not wrong.

use std::io::{self, Write};

use crate::conditional::Validators;
use crate::mime::content_type;
use crate::plan::Found;

/// The longest path that is recognised: those of longer ones are described anew for every answer.
const PATH_BYTES: usize = 128;

/// Room for the field lines: a length of 20 digits, and the longest media type that mime_guess knows (73 bytes).
const FIELDS_BYTES: usize = 256;

/// One version of a file in the words of a response head.
#[derive(Debug, Clone)]
pub struct Description {
    path: [u8; PATH_BYTES],
    /// Of the path, also if it is longer than `path`.
    path_len: usize,
    found: Found,
    /// What the clock showed.
    made_s: i64,
    validators: Validators,
    fields: [u8; FIELDS_BYTES],
    fields_len: usize,
    /// Where behind `Content-Length` those fields begin that are the same for a part of the file.
    common: usize,
}

impl Description {
    /// Describes the file `found` at `path` (relative to the root, decoded) when the clock shows `now_s`, in seconds
    /// since the epoch.
    #[must_use]
    pub fn new(path: &[u8], found: &Found, now_s: i64) -> Description {
        let mut description = Description {
            path: [0; PATH_BYTES],
            path_len: path.len(),
            found: *found,
            made_s: now_s,
            validators: Validators::new(path, found, now_s),
            fields: [0; FIELDS_BYTES],
            fields_len: 0,
            common: 0,
        };
        if let Some(kept) = description.path.get_mut(..path.len()) {
            kept.copy_from_slice(path);
        }
        let written = description.write_fields(path);
        debug_assert!(written.is_ok(), "there is room for the longest fields");
        description
    }

    /// Whether [`Description::new`] would make the same of these. May be false although it would.
    #[inline]
    #[must_use]
    pub fn is_of(&self, path: &[u8], found: &Found, now_s: i64) -> bool {
        // Only of a young file the words change with the clock: its tag becomes strong.
        let is_timely =
            now_s == self.made_s || (now_s > self.made_s && !self.validators.etag.is_weak());
        is_timely && *found == self.found && self.path.get(..self.path_len) == Some(path)
    }

    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    pub(crate) fn validators(&self) -> &Validators {
        &self.validators
    }

    /// Field lines of an answer with the whole file, each with its line end.
    pub(crate) fn fields(&self) -> &[u8] {
        &self.fields[..self.fields_len]
    }

    /// Those of an answer with a part of it, without `Content-Length`.
    pub(crate) fn fields_of_part(&self) -> &[u8] {
        &self.fields[self.common..self.fields_len]
    }

    fn write_fields(&mut self, path: &[u8]) -> io::Result<()> {
        let mut rest = &mut self.fields[..];
        write!(rest, "Content-Length: {}\r\n", self.found.size)?;
        self.common = FIELDS_BYTES - rest.len();
        write!(rest, "Content-Type: {}\r\n", content_type(path))?;
        rest.write_all(b"Accept-Ranges: bytes\r\n")?;
        if let Some(date) = self.validators.last_modified {
            write!(rest, "Last-Modified: {}\r\n", date.http_date())?;
        }
        rest.write_all(b"ETag: ")?;
        rest.write_all(self.validators.etag.as_bytes())?;
        rest.write_all(b"\r\n")?;
        self.fields_len = FIELDS_BYTES - rest.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOUND: Found = Found {
        size: 1000,
        mtime_s: 100,
        mtime_ns: 1,
    };

    #[test]
    fn a_description_is_of_its_file_and_of_no_other() {
        let description = Description::new(b"a", &FOUND, 200);
        assert!(description.is_of(b"a", &FOUND, 200));
        assert!(description.is_of(b"a", &FOUND, 300));
        assert!(!description.is_of(b"b", &FOUND, 200));
        assert!(!description.is_of(b"", &FOUND, 200));
        for other in [
            Found {
                size: 1001,
                ..FOUND
            },
            Found {
                mtime_s: 101,
                ..FOUND
            },
            Found {
                mtime_ns: 2,
                ..FOUND
            },
        ] {
            assert!(!description.is_of(b"a", &other, 200), "{other:?}");
        }
    }

    #[test]
    fn a_young_file_is_described_anew_every_second() {
        let description = Description::new(b"a", &FOUND, 101);
        assert!(description.is_of(b"a", &FOUND, 101));
        assert!(!description.is_of(b"a", &FOUND, 102));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_a_file_young_again() {
        let description = Description::new(b"a", &FOUND, 200);
        assert!(!description.is_of(b"a", &FOUND, 101));
    }

    #[test]
    fn a_path_too_long_to_be_kept_is_described_right_and_never_recognised() {
        let path = [b'a'; PATH_BYTES + 1];
        let description = Description::new(&path, &FOUND, 200);
        assert!(!description.is_of(&path, &FOUND, 200));
        assert!(!description.is_of(&path[..PATH_BYTES], &FOUND, 200));
        assert_eq!(
            description.validators.etag,
            crate::etag(&path, 1000, 100, 1, 200)
        );
        let longest = &path[..PATH_BYTES];
        assert!(Description::new(longest, &FOUND, 200).is_of(longest, &FOUND, 200));
    }

    #[test]
    fn the_longest_fields_fit() {
        let widest = Found {
            size: u64::MAX,
            mtime_s: 1_700_000_999,
            mtime_ns: 999_999_999,
        };
        // The longest media type mime_guess knows.
        let description = Description::new(b"a.pptx", &widest, 1_700_001_000);
        assert!(description.fields().ends_with(b"\"\r\n"));
        assert!(description.fields_of_part().starts_with(b"Content-Type: "));
    }

    proptest! {
        /// Whatever the clock does, a description that says it is of a file says what a new one would.
        #[test]
        fn what_is_recognised_is_what_would_be_written_now(
            mtime_s in 95_i64..110,
            mtime_ns in 0_u32..3,
            made_s in 95_i64..115,
            now_s in 95_i64..115,
        ) {
            let found = Found { mtime_s, mtime_ns, ..FOUND };
            let kept = Description::new(b"a.txt", &found, made_s);
            if kept.is_of(b"a.txt", &found, now_s) {
                let new = Description::new(b"a.txt", &found, now_s);
                prop_assert_eq!(kept.fields(), new.fields());
                prop_assert_eq!(kept.fields_of_part(), new.fields_of_part());
                prop_assert_eq!(kept.validators, new.validators);
            }
        }
    }
}
