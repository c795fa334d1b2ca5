//! One `Range` field against the size of the file (RFC 9110 section 14).
//!
//! One range of bytes is served, as positions or as a suffix. Everything the RFC allows to be ignored
//! is ignored, that is, answered by the whole file: other units, broken grammar, and more than one
//! range (multipart answers are not offered in this version). Invariant: a [`Selection::Part`] is never
//! empty and lies inside the file.

use core::ops::Range;

/// The part of a file that a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The field is to be ignored: 200 and the whole file.
    Whole,
    /// 206 and these bytes.
    Part(Range<u64>),
    /// 416: no byte of the file is in the range.
    Unsatisfiable,
}

/// Reads the value of a `Range` field for a file of `size` bytes.
pub(crate) fn select(value: &[u8], size: u64) -> Selection {
    match parse(value) {
        Some(spec) => spec.select(size),
        None => Selection::Whole,
    }
}

/// A `range-spec` (RFC 9110 14.1.1). Numbers too large for 64 bits count as the largest: every file
/// ends before that, so the answer is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RangeSpec {
    /// `first-pos "-" [ last-pos ]`, `first <= last`.
    Positions { first: u64, last: u64 },
    /// `"-" suffix-length`: that many bytes at the end.
    Suffix { len: u64 },
}

impl RangeSpec {
    fn select(self, size: u64) -> Selection {
        match self {
            RangeSpec::Positions { first, last } if first < size => {
                Selection::Part(first..last.saturating_add(1).min(size))
            }
            RangeSpec::Positions { .. } | RangeSpec::Suffix { len: 0 } => Selection::Unsatisfiable,
            // Satisfiable by RFC 9110 14.1.2, but `Content-Range` has no way to say "no bytes of none".
            RangeSpec::Suffix { .. } if size == 0 => Selection::Whole,
            RangeSpec::Suffix { len } => Selection::Part(size.saturating_sub(len)..size),
        }
    }
}

/// The one range of a valid set of one, in bytes.
fn parse(value: &[u8]) -> Option<RangeSpec> {
    let at = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (&value[..at], &value[at + 1..]);
    // Range units have no case (RFC 9110 14.1).
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    // A list may have empty elements (RFC 9110 5.6.1.2).
    let mut specs = set
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|spec| !spec.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else {
        return None;
    };
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (first, last) {
        (b"", _) => Some(RangeSpec::Suffix {
            len: position(last)?,
        }),
        (_, b"") => Some(RangeSpec::Positions {
            first: position(first)?,
            last: u64::MAX,
        }),
        _ => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(RangeSpec::Positions { first, last })
        }
    }
}

/// `1*DIGIT`, saturating.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |value, &byte| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(value: &str, size: u64) -> Selection {
        select(value.as_bytes(), size)
    }

    #[test]
    fn positions_are_inclusive_and_cut_at_the_end() {
        assert_eq!(selected("bytes=0-0", 10), Selection::Part(0..1));
        assert_eq!(selected("bytes=2-5", 10), Selection::Part(2..6));
        assert_eq!(selected("bytes=2-", 10), Selection::Part(2..10));
        assert_eq!(selected("bytes=9-99", 10), Selection::Part(9..10));
        assert_eq!(selected("bytes=0-", 10), Selection::Part(0..10));
    }

    #[test]
    fn a_suffix_is_counted_from_the_end() {
        assert_eq!(selected("bytes=-3", 10), Selection::Part(7..10));
        assert_eq!(selected("bytes=-10", 10), Selection::Part(0..10));
        assert_eq!(selected("bytes=-11", 10), Selection::Part(0..10));
    }

    #[test]
    fn a_range_beyond_the_end_is_unsatisfiable() {
        // `curl -C -` on a complete file asks for exactly this.
        assert_eq!(selected("bytes=10-", 10), Selection::Unsatisfiable);
        assert_eq!(selected("bytes=11-12", 10), Selection::Unsatisfiable);
        assert_eq!(selected("bytes=-0", 10), Selection::Unsatisfiable);
    }

    #[test]
    fn an_empty_file_has_no_range_but_every_suffix() {
        assert_eq!(selected("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(selected("bytes=-0", 0), Selection::Unsatisfiable);
        assert_eq!(selected("bytes=-1", 0), Selection::Whole);
    }

    #[test]
    fn several_ranges_get_the_whole_file() {
        assert_eq!(selected("bytes=0-1,3-4", 10), Selection::Whole);
        assert_eq!(selected("bytes=0-1, 20-", 10), Selection::Whole);
    }

    #[test]
    fn empty_list_elements_and_white_space_do_not_count() {
        assert_eq!(selected("bytes=,0-1,\t,", 10), Selection::Part(0..2));
        assert_eq!(selected("bytes= 0-1", 10), Selection::Part(0..2));
    }

    #[test]
    fn the_unit_has_no_case_and_others_are_ignored() {
        assert_eq!(selected("Bytes=0-1", 10), Selection::Part(0..2));
        assert_eq!(selected("lines=0-1", 10), Selection::Whole);
        assert_eq!(selected("bytes =0-1", 10), Selection::Whole);
    }

    #[test]
    fn what_breaks_the_grammar_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=--1",
            "bytes=5-2",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=0x1-2",
            "bytes=1 - 2",
            "bytes=1-2-3",
            "bytes=a-b",
            "bytes=1",
            "bytes=1.0-2",
            "=0-1",
            "bytes==0-1",
            "bytes:0-1",
        ] {
            assert_eq!(selected(value, 10), Selection::Whole, "{value:?}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_beyond_every_file() {
        let huge = "99999999999999999999999999";
        let (from, to) = (format!("bytes={huge}-"), format!("bytes=1-{huge}"));
        let suffix = format!("bytes=-{huge}");
        assert_eq!(selected(&from, u64::MAX), Selection::Unsatisfiable);
        assert_eq!(selected(&to, u64::MAX), Selection::Part(1..u64::MAX));
        assert_eq!(selected(&suffix, u64::MAX), Selection::Part(0..u64::MAX));
    }

    /// The RFC's words, byte by byte: the positions that a valid spec picks from a small file.
    fn picked(first: Option<u64>, last: Option<u64>, size: u64) -> Vec<u64> {
        (0..size)
            .filter(|&at| match (first, last) {
                (Some(first), Some(last)) => (first..=last).contains(&at),
                (Some(first), None) => at >= first,
                (None, Some(len)) => size - at <= len,
                (None, None) => false,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_range_picks_the_bytes_that_the_naive_model_picks(
            first in prop::option::of(0_u64..40),
            last in prop::option::of(0_u64..40),
            size in 0_u64..32,
        ) {
            let digits = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
            let value = format!("bytes={}-{}", digits(first), digits(last));
            let picked = picked(first, last, size);
            let malformed = matches!((first, last), (None, None))
                || matches!((first, last), (Some(first), Some(last)) if first > last);
            match selected(&value, size) {
                Selection::Part(part) => prop_assert_eq!(part.collect::<Vec<_>>(), picked),
                Selection::Unsatisfiable => prop_assert!(!malformed && picked.is_empty()),
                Selection::Whole => {
                    let suffix_of_nothing = first.is_none() && size == 0;
                    prop_assert!(malformed || suffix_of_nothing);
                }
            }
        }

        #[test]
        fn a_part_is_never_empty_and_inside_the_file(
            value in prop_oneof![
                "bytes=[0-9]{0,22}-[0-9]{0,22}",
                "bytes=[0-9, \t-]{0,16}",
                "\\PC{0,32}",
            ],
            size in any::<u64>(),
        ) {
            if let Selection::Part(part) = selected(&value, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }
}
