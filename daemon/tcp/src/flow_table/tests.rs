//! The table against a set, full and near full, so that clusters form, wrap around and are shifted back.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const KEY: [u8; 16] = *b"0123456789abcdef";

fn v4(last: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, last])
}

fn v6(last: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])
}

fn key(number: u16) -> FlowKey {
    match number % 3 {
        0 => FlowKey::new(v6(1), 443, v6(number), 5_000),
        1 => FlowKey::new(v4(1), 443, v4(2), number),
        _ => FlowKey::new(v4(1), number, v4(2), 443),
    }
}

/// The invariant of the module: a walk from home to the entry meets no empty slot.
fn assert_reachable(table: &FlowTable) {
    for (index, slot) in table
        .slots
        .iter()
        .enumerate()
        .filter(|(_, slot)| slot.tag != 0)
    {
        let mut walk = table.home(slot.tag);
        while walk != index {
            assert_ne!(
                table.slots[walk].tag, 0,
                "empty slot {walk} before entry {index}"
            );
            walk = (walk + 1) & table.mask();
        }
    }
    assert_eq!(table.iter().count(), table.len() as usize);
}

#[test]
fn a_key_gives_back_what_it_was_made_of() {
    for (local, remote) in [(v4(1), v4(2)), (v6(1), v6(2))] {
        let key = FlowKey::new(local, 80, remote, 51_000);
        assert_eq!((key.local(), key.remote()), (local, remote));
        assert_eq!((key.local_port(), key.remote_port()), (80, 51_000));
    }
}

#[test]
fn a_mapped_ipv6_address_is_another_flow_than_the_ipv4_one() {
    let mapped = |address| IpAddr::V6(widen(address));
    let plain = FlowKey::new(v4(1), 80, v4(2), 1_000);
    let wide = FlowKey::new(mapped(v4(1)), 80, mapped(v4(2)), 1_000);
    assert_ne!(plain, wide);
    assert_ne!(plain.digest().as_slice(), wide.digest().as_slice());
    assert_eq!(wide.local(), mapped(v4(1)));
}

#[test]
fn mixed_families_are_stored_as_mapped_addresses() {
    let key = FlowKey::new(v4(1), 80, v6(2), 1_000);
    assert_eq!(
        (key.local(), key.remote()),
        (IpAddr::V6(widen(v4(1))), v6(2))
    );
}

#[test]
fn the_two_directions_of_a_tuple_are_different_flows() {
    assert_ne!(
        FlowKey::new(v4(1), 80, v4(2), 81),
        FlowKey::new(v4(2), 81, v4(1), 80)
    );
}

#[test]
fn keys_and_slots_are_small() {
    assert!(size_of::<FlowKey>() <= 40);
    assert_eq!(size_of::<Slot>(), 8);
    assert_eq!(key(1).digest().as_slice().len(), 12);
    assert_eq!(key(3).digest().as_slice().len(), 36);
}

/// Where the key of a value is: `value` is the flow of `key(value)`.
fn get(table: &FlowTable, number: u16) -> Option<u32> {
    let wanted = key(number);
    table.get(&wanted, |value| {
        u16::try_from(value).is_ok_and(|other| key(other) == wanted)
    })
}

#[test]
fn a_full_table_refuses_new_flows_until_one_leaves() {
    let mut table = FlowTable::new(3, KEY);
    for number in 0..3 {
        assert_eq!(table.insert(&key(number), number.into()), Ok(()));
    }
    assert_eq!(table.insert(&key(3), 3), Err(TableFull));
    assert_eq!(get(&table, 3), None);
    assert!(table.remove(&key(0), 0));
    assert_eq!(table.insert(&key(3), 3), Ok(()));
    assert_eq!(get(&table, 3), Some(3));
    assert_eq!((table.len(), table.max_flows()), (3, 3));
}

#[test]
fn a_flow_leaves_only_by_its_own_key_and_value() {
    let mut table = FlowTable::new(3, KEY);
    assert_eq!(table.insert(&key(1), 1), Ok(()));
    assert!(!table.remove(&key(1), 2));
    assert!(!table.remove(&key(2), 1));
    assert!(table.remove(&key(1), 1));
    assert!(table.is_empty());
}

#[test]
fn the_layout_depends_on_the_secret_key() {
    let (one, other) = (FlowTable::new(1_000, KEY), FlowTable::new(1_000, [0; 16]));
    let same = (0..100)
        .filter(|&number| one.tag(&key(number)) == other.tag(&key(number)))
        .count();
    assert_eq!(same, 0);
}

#[test]
fn keys_with_the_same_hash_bits_are_told_apart() {
    let mut table = FlowTable::new(8, KEY);
    for value in [1, 2] {
        // Two flows of one key are two flows of one hash to the table.
        assert_eq!(table.insert(&key(1), value), Ok(()));
    }
    assert_eq!(table.get(&key(1), |value| value == 2), Some(2));
    assert_eq!(table.get(&key(1), |value| value == 1), Some(1));
    assert_eq!(table.get(&key(1), |_| false), None);
}

#[test]
fn a_full_table_needs_few_probes() {
    let mut table = FlowTable::new(8_192, KEY);
    for number in 0..8_192 {
        assert_eq!(table.insert(&key(number), number.into()), Ok(()));
    }
    let stats = table.probe_stats();
    assert_eq!(stats.inserts_by_probes.iter().sum::<u64>(), 8_192);
    assert!(stats.inserts_by_probes[0] > 8_192 / 2, "{stats:?}");
    assert!(stats.longest < 64, "{stats:?}");
}

#[test]
fn probe_lengths_fall_into_their_classes() {
    let mut stats = ProbeStats::default();
    for probes in [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 1_000] {
        stats.record(probes);
    }
    assert_eq!(stats.inserts_by_probes, [1, 1, 2, 2, 2, 2, 2, 2]);
    assert_eq!(stats.longest, 1_000);
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16),
    Remove(u16),
    Get(u16),
}

fn any_op() -> impl Strategy<Value = Op> {
    // Twice as many keys as the largest table holds.
    let number = 0..64u16;
    prop_oneof![
        3 => number.clone().prop_map(Op::Insert),
        2 => number.clone().prop_map(Op::Remove),
        1 => number.prop_map(Op::Get),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_set(
        max_flows in 1..=32u32,
        secret in any::<[u8; 16]>(),
        ops in prop::collection::vec(any_op(), 1..300),
    ) {
        let mut table = FlowTable::new(max_flows, secret);
        let mut twin: HashSet<u16> = HashSet::new();
        for op in ops {
            match op {
                Op::Insert(number) if twin.contains(&number) => {}
                Op::Insert(number) => {
                    let full = twin.len() == max_flows as usize;
                    let expected = if full { Err(TableFull) } else { Ok(()) };
                    prop_assert_eq!(table.insert(&key(number), number.into()), expected);
                    if !full {
                        twin.insert(number);
                    }
                }
                Op::Remove(number) => {
                    prop_assert_eq!(table.remove(&key(number), number.into()), twin.remove(&number));
                }
                Op::Get(number) => {
                    let expected = twin.contains(&number).then_some(number.into());
                    prop_assert_eq!(get(&table, number), expected);
                }
            }
            assert_reachable(&table);
        }
        for number in 0..64 {
            let expected = twin.contains(&number).then_some(u32::from(number));
            prop_assert_eq!(get(&table, number), expected);
            prop_assert_eq!(table.remove(&key(number), number.into()), twin.remove(&number));
        }
        prop_assert!(table.is_empty());
        prop_assert!(table.slots.iter().all(|slot| slot.tag == 0), "no tombstones");
    }
}
