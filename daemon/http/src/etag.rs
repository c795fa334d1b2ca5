//! Entity tags from what the file system says about a file (RFC 9110 8.8.3).
//!
//! The tag is a hash of path, size and modification time to the nanosecond. No inode, no change time
//! and no secret of this process go into it, so every node on shared storage, and this one after a
//! restart, gives the same tag: a resume with `If-Range` works on whichever node answers. The path is
//! in it because wget2 skips a second URL whose tag it has seen.
//!
//! While the file is younger than two seconds the tag is weak, and has another value: a second write
//! may fall into the same tick of the file system's clock and change neither size nor time. What was
//! fetched in that time is never resumed, and never confirmed afterwards.
//!
//! An upload is told the tag that its file will have, since no other upload leaves the same time: its time is set to the
//! nanosecond. That holds only where the file system keeps it ([`is_exact`]); ext4 with inodes of 128 bytes, FAT and
//! some NFS servers round it.

use core::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

/// Not a secret: it only keeps these hashes apart from other uses of SipHash. Fixed, since all nodes
/// and all runs must agree; a change of it makes every client start its downloads over.
const KEY: [u8; 16] = *b"sluice/etag/v1\0\0";

/// Age from which a modification time can no longer be that of a second write (FAT stores it in steps
/// of two seconds, the coarsest in use).
const SETTLED_NS: i128 = 2_000_000_000;

/// Bytes of `W/"` and `"` around 32 hex digits.
const TEXT_BYTES: usize = 2 + 1 + 32 + 1;

/// An `entity-tag`, ready for a field value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    /// Always with the `W/`, which a strong tag leaves out.
    text: [u8; TEXT_BYTES],
    weak: bool,
}

impl ETag {
    /// The whole tag: `"…"` or `W/"…"`.
    pub fn as_bytes(&self) -> &[u8] {
        if self.weak { &self.text } else { self.opaque() }
    }

    /// The `opaque-tag` with its quotes, which weak comparison looks at alone (RFC 9110 8.8.3.2).
    pub fn opaque(&self) -> &[u8] {
        &self.text[2..]
    }

    /// True while a change of the file could go unnoticed.
    pub fn is_weak(&self) -> bool {
        self.weak
    }
}

/// The tag of a file of `size` bytes at `path` (relative to the root, decoded), changed `mtime_s`
/// seconds and `mtime_ns` nanoseconds after the epoch, as seen when the clock is at or after `now_s`.
pub fn etag(path: &[u8], size: u64, mtime_s: i64, mtime_ns: u32, now_s: i64) -> ETag {
    // `now_s` is cut to seconds, so the true age is at least this. A time in the future is never
    // settled.
    let age_ns = (i128::from(now_s) - i128::from(mtime_s)) * 1_000_000_000 - i128::from(mtime_ns);
    tag(path, size, mtime_s, mtime_ns, age_ns < SETTLED_NS)
}

/// Whether a file system that stores times in coarser steps cannot have stored this one. The coarsest step below a
/// microsecond is 100 ns (NTFS, SMB), which all others are multiples of; uploads are never given a multiple of it.
pub(crate) fn is_exact(mtime_ns: u32) -> bool {
    !mtime_ns.is_multiple_of(100)
}

/// The tag that [`etag`] gives to the same file once it is settled.
pub(crate) fn settled_etag(path: &[u8], size: u64, mtime_s: i64, mtime_ns: u32) -> ETag {
    tag(path, size, mtime_s, mtime_ns, false)
}

fn tag(path: &[u8], size: u64, mtime_s: i64, mtime_ns: u32, weak: bool) -> ETag {
    let mut hasher = SipHasher24::new_with_key(&KEY);
    // Fixed widths first, so that no two inputs run together.
    hasher.write(&size.to_le_bytes());
    hasher.write(&mtime_s.to_le_bytes());
    hasher.write(&mtime_ns.to_le_bytes());
    hasher.write(&[u8::from(weak)]);
    hasher.write(path);

    let mut text = *b"W/\"________________________________\"";
    let digits = text[3..TEXT_BYTES - 1].chunks_exact_mut(2);
    for (digits, byte) in digits.zip(hasher.finish128().as_bytes()) {
        digits[0] = hex_digit(byte >> 4);
        digits[1] = hex_digit(byte & 0xf);
    }
    ETag { text, weak }
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble - 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_settled_file_has_a_strong_tag_in_quotes() {
        let tag = etag(b"a", 1, 100, 0, 200);
        assert!(!tag.is_weak());
        let text = str::from_utf8(tag.as_bytes()).expect("ASCII");
        let digits = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let digits = digits.expect("quotes");
        assert_eq!(digits.len(), 32);
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn tags_do_not_change_between_releases() {
        // A new value here costs every client its half-finished downloads.
        let tag = etag(
            b"models/weights.bin",
            49_000_000_000,
            1_700_000_000,
            5,
            1_800_000_000,
        );
        assert_eq!(tag.as_bytes(), b"\"172daa032478cb78ecb64b3cb946dd11\"");
    }

    #[test]
    fn the_tag_is_weak_until_the_file_is_two_seconds_old() {
        for (now_s, mtime_ns, weak) in [
            (100, 0, true),
            (101, 0, true),
            (102, 0, false),
            // Somewhere in second 102 the file may be less than two seconds old.
            (102, 1, true),
            (103, 1, false),
        ] {
            let tag = etag(b"a", 1, 100, mtime_ns, now_s);
            assert_eq!(tag.is_weak(), weak, "{now_s} {mtime_ns}");
            assert_eq!(tag.as_bytes().starts_with(b"W/\""), weak);
        }
    }

    #[test]
    fn a_file_from_the_future_has_a_weak_tag() {
        assert!(etag(b"a", 1, 300, 0, 200).is_weak());
    }

    #[test]
    fn a_young_tag_is_not_confirmed_once_the_file_has_settled() {
        let young = etag(b"a", 1, 100, 0, 101);
        let settled = etag(b"a", 1, 100, 0, 200);
        assert_ne!(young.opaque(), settled.opaque());
    }

    #[test]
    fn the_whole_range_of_times_is_hashed_without_overflow() {
        assert!(etag(b"", u64::MAX, i64::MAX, u32::MAX, i64::MIN).is_weak());
        assert!(!etag(b"", 0, i64::MIN, 0, i64::MAX).is_weak());
    }

    proptest! {
        #[test]
        fn any_difference_in_path_size_or_time_gives_another_tag(
            path in prop::collection::vec(any::<u8>(), 0..32),
            size in any::<u64>(),
            mtime_s in 0_i64..1_000_000,
            mtime_ns in 0_u32..1_000_000_000,
        ) {
            let tag = |path: &[u8], size, mtime_s, mtime_ns| {
                etag(path, size, mtime_s, mtime_ns, 2_000_000)
            };
            let base = tag(&path, size, mtime_s, mtime_ns);
            prop_assert_eq!(base, tag(&path, size, mtime_s, mtime_ns));
            let mut longer = path.clone();
            longer.push(0);
            prop_assert_ne!(base, tag(&longer, size, mtime_s, mtime_ns));
            prop_assert_ne!(base, tag(&path, size ^ 1, mtime_s, mtime_ns));
            prop_assert_ne!(base, tag(&path, size, mtime_s + 1, mtime_ns));
            prop_assert_ne!(base, tag(&path, size, mtime_s, mtime_ns ^ 1));
        }
    }
}
