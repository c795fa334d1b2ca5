//! Sizes and durations as people write them: `"64MiB"`, `"10s"`.
//!
//! One number, one unit, nothing between them, and no bare numbers: a size without a unit is the classic way
//! to configure a kilobyte where a megabyte was meant. Decimal units (`MB`) are refused with the binary one
//! named, because disks and memory disagree about what they mean. [`format_size`] and [`format_duration`]
//! write the largest unit that loses nothing, so what they print reads back as the same value.

use std::time::Duration;

/// What a size looks like; error messages end with it.
pub const SIZE_HELP: &str = "a number and one of B, KiB, MiB, GiB, TiB, such as \"64MiB\"";

/// What a duration looks like; error messages end with it.
pub const DURATION_HELP: &str = "a number and one of ms, s, m, h, d, such as \"10s\"";

/// Size units in bytes, largest first so that the formatter finds the largest exact one.
const SIZES: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Duration units in milliseconds, largest first.
const DURATIONS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a size in bytes.
///
/// # Errors
/// The reason in words, without the rejected text, when the text is not [`SIZE_HELP`] or exceeds `u64`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES).map_err(|problem| match problem {
        Problem::Unit(unit) => match binary_twin(unit) {
            Some(twin) => format!("unit \"{unit}\" is ambiguous, did you mean \"{twin}\"?"),
            None => format!("unknown unit \"{unit}\""),
        },
        other => other.describe(),
    })
}

/// Reads a duration; the finest unit is a millisecond.
///
/// # Errors
/// The reason in words, without the rejected text, when the text is not [`DURATION_HELP`] or is too long.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATIONS)
        .map(Duration::from_millis)
        .map_err(|problem| match problem {
            Problem::Unit(unit) => format!("unknown unit \"{unit}\""),
            other => other.describe(),
        })
}

/// Writes a size in bytes with the largest unit that divides it: `67108864` becomes `64MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    format_scaled(bytes, &SIZES, "B")
}

/// Writes a duration with the largest unit that divides it; parts of a millisecond are dropped.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    format_scaled(millis, &DURATIONS, "s")
}

/// Why a text is no quantity.
enum Problem<'a> {
    NoNumber,
    NoUnit,
    Unit(&'a str),
    TooLarge,
}

impl Problem<'_> {
    fn describe(self) -> String {
        match self {
            Self::NoNumber => "does not start with a whole number".to_owned(),
            Self::NoUnit => "has no unit".to_owned(),
            Self::Unit(unit) => format!("unknown unit \"{unit}\""),
            Self::TooLarge => "is too large".to_owned(),
        }
    }
}

fn scaled<'a>(text: &'a str, units: &[(&str, u64)]) -> Result<u64, Problem<'a>> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Problem::NoNumber);
    }
    if unit.is_empty() {
        return Err(Problem::NoUnit);
    }
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or(Problem::Unit(unit))?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or(Problem::TooLarge)
}

/// `MB`, `mb`, `M` -> `MiB`.
fn binary_twin(unit: &str) -> Option<&'static str> {
    SIZES.iter().map(|(name, _)| *name).find(|name| {
        let short = &name[..1];
        unit.eq_ignore_ascii_case(name)
            || unit.eq_ignore_ascii_case(short)
            || unit.eq_ignore_ascii_case(&format!("{short}B"))
    })
}

fn format_scaled(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return format!("0{zero}");
    }
    units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .map_or_else(
            || value.to_string(),
            |(name, factor)| format!("{}{name}", value / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("0B"), Ok(0));
        assert_eq!(parse_size("16777215TiB"), Ok(16_777_215 << 40));
    }

    #[test]
    fn a_bare_number_is_refused() {
        assert_eq!(parse_size("4096").unwrap_err(), "has no unit");
        assert_eq!(parse_duration("10").unwrap_err(), "has no unit");
    }

    #[test]
    fn decimal_and_short_units_name_the_binary_one() {
        for unit in ["MB", "mb", "M", "mib"] {
            assert_eq!(
                parse_size(&format!("64{unit}")).unwrap_err(),
                format!("unit \"{unit}\" is ambiguous, did you mean \"MiB\"?")
            );
        }
        assert_eq!(parse_size("64é").unwrap_err(), "unknown unit \"é\"");
    }

    #[test]
    fn spaces_signs_and_fractions_are_refused() {
        assert_eq!(
            parse_size(" 1MiB").unwrap_err(),
            "does not start with a whole number"
        );
        assert_eq!(
            parse_size("-1B").unwrap_err(),
            "does not start with a whole number"
        );
        assert_eq!(
            parse_size("").unwrap_err(),
            "does not start with a whole number"
        );
        assert_eq!(parse_size("1.5MiB").unwrap_err(), "unknown unit \".5MiB\"");
        assert_eq!(parse_duration("1 s").unwrap_err(), "unknown unit \" s\"");
    }

    #[test]
    fn overflow_is_an_error_not_a_wrap() {
        assert_eq!(parse_size("16777216TiB").unwrap_err(), "is too large");
        assert_eq!(
            parse_size("99999999999999999999B").unwrap_err(),
            "is too large"
        );
        assert_eq!(parse_duration("213503982335d").unwrap_err(), "is too large");
    }

    #[test]
    fn formatting_picks_the_largest_exact_unit() {
        assert_eq!(format_size(64 << 20), "64MiB");
        assert_eq!(format_size(1025), "1025B");
        assert_eq!(format_size(0), "0B");
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_secs(7200)), "2h");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, millis: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_gives_a_result(text in "\\PC{0,12}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }
}
