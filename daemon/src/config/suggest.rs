//! "Did you mean": the nearest of a few known words.
//!
//! Optimal string alignment (insert, delete, replace, swap of neighbours), because the common slips on a
//! keyboard are exactly these four. A word is near when it is within a third of its length, so that `"lisen"`
//! finds `"listen"` and `"tls"` finds nothing.

/// The known word nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance, ignoring ASCII case.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().map(|c| c.to_ascii_lowercase()).collect();
    let right: Vec<char> = right.chars().map(|c| c.to_ascii_lowercase()).collect();
    // Three rows of the usual table: before the last, last, current.
    let mut before: Vec<usize> = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut current = vec![0; right.len() + 1];
    for i in 0..left.len() {
        current[0] = i + 1;
        for j in 0..right.len() {
            let replace = last[j] + usize::from(left[i] != right[j]);
            let mut best = replace.min(last[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && left[i] == right[j - 1] && left[i - 1] == right[j] {
                best = best.min(before[j - 1] + 1);
            }
            current[j + 1] = best;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut current);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keyboard_slip_costs_one() {
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("listten", "listen"), 1);
        assert_eq!(distance("lizten", "listen"), 1);
        assert_eq!(distance("litsen", "listen"), 1);
        assert_eq!(distance("LISTEN", "listen"), 0);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn a_slip_finds_its_word() {
        let known = ["backend", "interface", "queues"];
        assert_eq!(nearest("bakcend", known), Some("backend"));
        assert_eq!(nearest("queue", known), Some("queues"));
    }

    #[test]
    fn a_foreign_word_finds_nothing() {
        assert_eq!(nearest("tls", ["xdp", "tcp", "disk"]), None);
        assert_eq!(nearest("metrics", ["limits", "listen"]), None);
        assert_eq!(nearest("", ["xdp"]), None);
    }
}
