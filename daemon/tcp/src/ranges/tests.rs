//! The set against a bitmap of the first few hundred bytes of a stream.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]

use proptest::prelude::*;

use super::*;

fn set<const N: usize>(ranges: &[Range<u64>]) -> RangeSet<N> {
    let mut set = RangeSet::new();
    for range in ranges {
        set.insert(range.clone()).expect("fits");
    }
    set
}

fn pieces<const N: usize>(set: &mut RangeSet<N>, range: Range<u64>) -> Vec<Range<u64>> {
    set.insert(range).expect("fits").collect()
}

#[test]
fn touching_ranges_become_one() {
    let mut set = set::<4>(&[0..10, 20..30]);
    assert_eq!(pieces(&mut set, 10..20), [10..20]);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0..30]);
}

#[test]
fn only_the_holes_of_a_range_are_new() {
    let mut set = set::<4>(&[10..20, 30..40]);
    assert_eq!(pieces(&mut set, 5..45), [5..10, 20..30, 40..45]);
    assert_eq!(pieces(&mut set, 5..45), []);
    assert_eq!((set.len(), set.covered_bytes()), (1, 40));
}

#[test]
fn a_range_over_a_full_set_yields_one_piece_more_than_it_has_entries() {
    let mut set = set::<3>(&[10..11, 20..21, 30..31]);
    let inserted = set.insert(0..40).expect("merges");
    assert_eq!((inserted.len(), inserted.bytes()), (4, 37));
    assert_eq!(
        inserted.collect::<Vec<_>>(),
        [0..10, 11..20, 21..30, 31..40]
    );
}

#[test]
fn a_full_set_refuses_new_holes_and_takes_everything_else() {
    let mut full = set::<2>(&[0..5, 10..15]);
    let before = full.clone();
    assert_eq!(full.insert(20..25).map(|_| ()), Err(Full));
    assert_eq!(full, before);
    assert_eq!(pieces(&mut full, 15..16), [15..16]);
    assert_eq!(pieces(&mut full, 12..14), []);
}

#[test]
fn an_empty_range_adds_nothing() {
    let mut set = set::<1>(&[0..5]);
    assert!(set.insert(9..9).expect("nothing to store").is_empty());
    let inverted = Range { start: 9, end: 3 };
    assert!(set.insert(inverted).expect("nothing to store").is_empty());
    assert_eq!(set.len(), 1);
}

#[test]
fn removal_cuts_a_range_that_straddles_the_offset() {
    let mut set = set::<4>(&[0..10, 20..30, 40..50]);
    set.remove_below(25);
    assert_eq!(set.iter().collect::<Vec<_>>(), [25..30, 40..50]);
    assert_eq!(
        (set.first(), set.last(), set.covered_bytes()),
        (Some(25..30), Some(40..50), 15)
    );
}

#[test]
fn the_end_of_the_stream_space_is_usable() {
    let mut set = RangeSet::<2>::new();
    assert_eq!(
        pieces(&mut set, u64::MAX - 4..u64::MAX),
        [u64::MAX - 4..u64::MAX]
    );
    assert!(set.contains(u64::MAX - 1) && !set.contains(u64::MAX));
    set.remove_below(u64::MAX);
    assert!(set.is_empty());
}

const BYTES: usize = 160;
const ENTRIES: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    Insert(Range<u64>),
    RemoveBelow(u64),
    Clear,
}

fn any_range() -> impl Strategy<Value = Range<u64>> {
    (0..BYTES as u64, 0..40u64).prop_map(|(start, len)| start..(start + len).min(BYTES as u64))
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => any_range().prop_map(Op::Insert),
        2 => (0..BYTES as u64).prop_map(Op::RemoveBelow),
        1 => Just(Op::Clear),
    ]
}

/// Maximal runs of `wanted` within `range` of the bitmap.
fn runs(bitmap: &[bool; BYTES], range: Range<u64>, wanted: bool) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for at in range.filter(|&at| bitmap[usize::try_from(at).unwrap()] == wanted) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

proptest! {
    #[test]
    fn agrees_with_a_bitmap(
        ops in prop::collection::vec(any_op(), 1..120),
        questions in prop::collection::vec(any_range(), 8),
    ) {
        let mut set = RangeSet::<ENTRIES>::new();
        let mut bitmap = [false; BYTES];
        for op in ops {
            match op {
                Op::Insert(range) => {
                    let missing = runs(&bitmap, range.clone(), false);
                    let mut after = bitmap;
                    range.clone().for_each(|at| after[usize::try_from(at).unwrap()] = true);
                    let fits = runs(&after, 0..BYTES as u64, true).len() <= ENTRIES;
                    prop_assert_eq!(set.missing(range.clone()).collect::<Vec<_>>(), missing.clone());
                    match set.insert(range) {
                        Ok(pieces) => {
                            prop_assert!(fits);
                            prop_assert_eq!(pieces.collect::<Vec<_>>(), missing);
                            bitmap = after;
                        }
                        Err(Full) => prop_assert!(!fits),
                    }
                }
                Op::RemoveBelow(offset) => {
                    set.remove_below(offset);
                    (0..offset).for_each(|at| bitmap[usize::try_from(at).unwrap()] = false);
                }
                Op::Clear => {
                    set.clear();
                    bitmap = [false; BYTES];
                }
            }
            let held = runs(&bitmap, 0..BYTES as u64, true);
            prop_assert_eq!(set.covered_bytes(), held.iter().map(|run| run.end - run.start).sum::<u64>());
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), held);
        }
        for question in questions {
            let held = runs(&bitmap, question.clone(), true);
            prop_assert_eq!(set.overlaps(&question), !held.is_empty());
            let all = question.is_empty() || held.first() == Some(&question);
            prop_assert_eq!(set.covers(&question), all);
            let around = runs(&bitmap, 0..BYTES as u64, true);
            let around = around.into_iter().find(|run| run.contains(&question.start));
            prop_assert_eq!(set.contains(question.start), around.is_some());
            prop_assert_eq!(set.enclosing(question.start), around);
        }
    }
}
