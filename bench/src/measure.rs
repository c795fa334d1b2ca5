//! What a few runs say together: median and range, and the ratio of neighbouring runs.
//!
//! Ratios are taken per pair of neighbours, because the machine drifts more between the first run and the last than
//! between two that follow each other.

use serde::{Deserialize, Serialize};

/// Median and range of some runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The middle value; of an even count the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Summary of `values`; `None` without any.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Summary { median, min, max })
    }

    /// Range over median: how far the runs disagree.
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// The ratio of each pair of runs that followed each other.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_count_has_a_middle_and_an_even_one_two() {
        let odd = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn spread_is_the_range_relative_to_the_median() {
        assert_eq!(Summary::of(&[9.0, 10.0, 12.0]).unwrap().spread(), 0.3);
    }

    #[test]
    fn ratios_pair_neighbours() {
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
    }
}
