//! The store against a list that is searched from end to end.

use proptest::prelude::*;

use super::*;

/// Bytes of the stream; a range every few of them.
const BYTES: u64 = 3_000;

#[derive(Clone, Debug)]
enum Op {
    Insert(Range<u64>),
    RemoveBelow(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let short = (0..BYTES, 1..4u64);
    let long = (0..BYTES, 1..200u64);
    prop_oneof![
        200 => short.prop_map(|(start, len)| Op::Insert(start..start + len)),
        10 => long.prop_map(|(start, len)| Op::Insert(start..start + len)),
        1 => (0..BYTES / 4).prop_map(Op::RemoveBelow),
    ]
}

/// Disjoint ranges that do not touch, ascending, after `range` was added; and what of it was new.
fn naive_insert(list: &[Range<u64>], range: &Range<u64>) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let holds = |at: u64| list.iter().any(|held| held.contains(&at));
    let mut new: Vec<Range<u64>> = Vec::new();
    for at in range.clone().filter(|at| !holds(*at)) {
        match new.last_mut() {
            Some(piece) if piece.end == at => piece.end += 1,
            _ => new.push(at..at + 1),
        }
    }
    let mut all: Vec<Range<u64>> = list.iter().chain(&new).cloned().collect();
    all.sort_by_key(|held| held.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for held in all {
        match merged.last_mut() {
            Some(last) if last.end == held.start => last.end = held.end,
            _ => merged.push(held),
        }
    }
    (merged, new)
}

fn touched(list: &[Range<u64>], range: &Range<u64>) -> usize {
    let touches = |held: &&Range<u64>| held.start <= range.end && range.start <= held.end;
    list.iter().filter(touches).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn agrees_with_a_list(
        ops in prop::collection::vec(any_op(), 1..900),
        questions in prop::collection::vec(0..BYTES, 8),
        rings in 0usize..3,
    ) {
        let mut pool = HeldPool::new(rings);
        if rings == 0 {
            pool.rings.exhaust();
        }
        let most = if rings == 0 { HELD_FEW } else { HELD_MAX };
        let mut held = Held::new();
        let mut list: Vec<Range<u64>> = Vec::new();
        for op in ops {
            held.make_room(&mut pool);
            match op {
                Op::Insert(range) => {
                    let tellable = held.tellable(range.clone());
                    prop_assert!(touched(&list, &tellable) <= HELD_FEW);
                    prop_assert!(tellable == range || touched(&list, &range) > HELD_FEW);
                    let (after, new) = naive_insert(&list, &tellable);
                    match held.insert(tellable) {
                        Ok(pieces) => {
                            prop_assert_eq!(pieces.collect::<Vec<_>>(), new);
                            list = after;
                        }
                        Err(Full) => prop_assert!(after.len() > most),
                    }
                }
                Op::RemoveBelow(offset) => {
                    held.remove_below(offset);
                    list.retain(|range| range.end > offset);
                    if let Some(first) = list.first_mut() {
                        first.start = first.start.max(offset);
                    }
                }
            }
            held.tidy(&mut pool);
            prop_assert!(list.len() <= most);
            prop_assert_eq!(held.iter().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(held.first(), list.first().cloned());
            prop_assert_eq!(held.last(), list.last().cloned());
            prop_assert_eq!(held.is_empty(), list.is_empty());
        }
        for at in questions {
            let around = list.iter().find(|range| range.contains(&at)).cloned();
            prop_assert_eq!(held.enclosing(at), around);
        }
        held.remove_below(u64::MAX);
        held.tidy(&mut pool);
        prop_assert_eq!(pool.rings.in_use(), 0);
    }
}

fn fill(held: &mut Held, pool: &mut HeldPool, holes: u64) -> u64 {
    let mut taken = 0;
    for hole in 0..holes {
        held.make_room(pool);
        taken += u64::from(held.insert(2 * hole + 1..2 * hole + 2).is_ok());
        held.tidy(pool);
    }
    taken
}

#[test]
fn a_few_ranges_need_no_memory() {
    let mut pool = HeldPool::new(1);
    let mut held = Held::new();
    assert_eq!(fill(&mut held, &mut pool, 8), 8);
    assert_eq!(pool.rings.in_use(), 0);
}

#[test]
fn a_connection_holds_256_ranges_and_refuses_the_next() {
    let mut pool = HeldPool::new(1);
    let mut held = Held::new();
    assert_eq!(fill(&mut held, &mut pool, 300), 256);
    assert_eq!(held.last(), Some(511..512));
    assert_eq!(pool.rings.in_use(), 1);
    held.release(&mut pool);
    assert_eq!(pool.rings.in_use(), 0);
}

#[test]
fn all_connections_together_hold_no_more_than_the_budget() {
    let mut pool = HeldPool::new(1);
    let mut all: Vec<Held> = (0..500).map(|_| Held::new()).collect();
    let taken: u64 = all.iter_mut().map(|held| fill(held, &mut pool, 300)).sum();
    let free = 500 * HELD_FEW as u64;
    assert!(taken > free + BUDGET_MIN as u64 / 2, "{taken}");
    assert!(taken <= free + BUDGET_MIN as u64, "{taken}");
    for held in &mut all {
        held.release(&mut pool);
    }
    let mut next = Held::new();
    assert_eq!(fill(&mut next, &mut pool, 300), 256, "it is there again");
}
