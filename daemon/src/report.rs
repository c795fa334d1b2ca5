//! What the daemon prints at exit and on SIGUSR1: histograms and counters as aligned plain text.
//!
//! Plain ASCII, one row per series, units with every number: the text is read on consoles, in journals and by
//! people who compare two of them.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::histograms::WorkerHistograms;

/// The quantiles of a histogram row.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// One row per series: count, p50, p90, p99, p99.9, p99.99, max. A series without values shows dashes, so that
/// tables of two runs have the same rows.
#[must_use]
pub fn histogram_table(histograms: &WorkerHistograms) -> String {
    let mut rows = vec![heading()];
    rows.extend(histograms.series().map(|(name, series)| row(name, series)));
    align(&rows)
}

/// A title and one row per counter, in the order given; counters that are zero are left out unless all are.
#[must_use]
pub fn counter_table<'a>(
    title: &str,
    counters: impl IntoIterator<Item = (&'a str, u64)>,
) -> String {
    let rows: Vec<_> = counters
        .into_iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| vec![name.to_owned(), grouped(value)])
        .collect();
    if rows.is_empty() {
        return format!("{title}: all zero\n");
    }
    format!("{title}\n{}", align(&rows))
}

fn heading() -> Vec<String> {
    let quantiles = QUANTILES.iter().map(|(name, _)| *name);
    ["latency", "count"]
        .into_iter()
        .chain(quantiles)
        .chain(["max"])
        .map(str::to_owned)
        .collect()
}

fn row(name: &str, series: &Histogram<u64>) -> Vec<String> {
    let mut cells = vec![name.to_owned(), grouped(series.len())];
    if series.is_empty() {
        cells.extend(QUANTILES.map(|_| "-".to_owned()));
        cells.push("-".to_owned());
        return cells;
    }
    cells.extend(QUANTILES.map(|(_, quantile)| time(series.value_at_quantile(quantile))));
    cells.push(time(series.max()));
    cells
}

/// Microseconds with three digits and the unit that fits.
fn time(micros: u64) -> String {
    let millis = micros / 1000;
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => decimal(micros / 10, 2, "ms"),
        10_000..100_000 => decimal(micros / 100, 1, "ms"),
        100_000..1_000_000 => format!("{millis} ms"),
        1_000_000..10_000_000 => decimal(millis / 10, 2, "s"),
        10_000_000..100_000_000 => decimal(millis / 100, 1, "s"),
        _ => format!("{} s", millis / 1000),
    }
}

/// `value` with the last `places` digits behind the point.
fn decimal(value: u64, places: u32, unit: &str) -> String {
    let scale = 10_u64.pow(places);
    let width = if places == 2 { 2 } else { 1 };
    format!("{}.{:0width$} {unit}", value / scale, value % scale)
}

/// A number with its digits in groups of three.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Rows of equal length as columns two spaces apart: the first to the left, numbers to the right.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_histogram_table_looks_like_this() {
        let mut histograms = WorkerHistograms::new();
        for micros in 1..=1000 {
            histograms.record_ttfb(Duration::from_micros(micros));
            histograms.record_request(100, Duration::from_micros(20 * micros));
        }
        histograms.record_request(1 << 30, Duration::from_secs(215));
        histograms.record_rtt(Duration::from_micros(45));
        assert_eq!(
            histogram_table(&histograms),
            "\
latency             count      p50      p90      p99    p99.9   p99.99      max
time to first byte  1,000   500 us   900 us   990 us   999 us  1.00 ms  1.00 ms
request <= 4 KiB    1,000  10.0 ms  18.0 ms  19.8 ms  19.9 ms  20.0 ms  20.0 ms
request <= 64 KiB       0        -        -        -        -        -        -
request <= 1 MiB        0        -        -        -        -        -        -
request <= 64 MiB       0        -        -        -        -        -        -
request larger          1    215 s    215 s    215 s    215 s    215 s    215 s
round-trip time         1    45 us    45 us    45 us    45 us    45 us    45 us
"
        );
    }

    #[test]
    fn the_counter_table_leaves_zeros_out() {
        let counters = [("redirect", 1_234_567), ("fragment", 0), ("pass", 89)];
        assert_eq!(
            counter_table("xdp eth1", counters),
            "xdp eth1\nredirect  1,234,567\npass             89\n"
        );
    }

    #[test]
    fn a_table_of_zeros_says_so() {
        assert_eq!(
            counter_table("xdp eth1", [("fragment", 0)]),
            "xdp eth1: all zero\n"
        );
        assert_eq!(counter_table("none", []), "none: all zero\n");
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (micros, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.00 ms"),
            (1_050, "1.05 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (1_234_567, "1.23 s"),
            (60_000_000, "60.0 s"),
            (3_600_000_000, "3600 s"),
        ] {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn digits_stand_in_groups_of_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
