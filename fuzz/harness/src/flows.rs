//! [`FlowTable`] beside a list: the same flows with the same values, however they collide and leave.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use sluice_tcp::flow_table::{FlowKey, FlowTable};

const FLOWS_MAX: u32 = 12;
const STEPS_MAX: usize = 500;

#[derive(Arbitrary, Debug)]
enum Op {
    Insert(u8, u8),
    Remove(u8),
    Get(u8),
}

/// Runs operations on a flow table and on its twin.
pub fn flows(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // The hash key comes from the input: the fuzzer may aim at one probe sequence, as no peer can.
    let mut hash_key = [0; 16];
    if input.fill_buffer(&mut hash_key).is_err() {
        return;
    }
    let mut table = FlowTable::new(FLOWS_MAX, hash_key);
    let mut list: Vec<(FlowKey, u32)> = Vec::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            return;
        }
        let Ok(op) = Op::arbitrary(&mut input) else {
            return;
        };
        step(&mut table, &mut list, &op);
        assert_eq!(table.len() as usize, list.len());
        assert_eq!(table.is_empty(), list.is_empty());
        for (key, value) in &list {
            assert_eq!(table.get(key), Some(*value));
        }
        assert_eq!(table.iter().count(), list.len());
        assert!(table.iter().all(|entry| list.contains(&entry)));
    }
}

fn step(table: &mut FlowTable, list: &mut Vec<(FlowKey, u32)>, op: &Op) {
    match *op {
        Op::Insert(name, value) => {
            let (key, value) = (key(name), u32::from(value));
            let known = list.iter().position(|entry| entry.0 == key);
            let expected = match known {
                Some(at) => Ok(Some(core::mem::replace(&mut list[at].1, value))),
                None if list.len() == FLOWS_MAX as usize => Err(()),
                None => {
                    list.push((key, value));
                    Ok(None)
                }
            };
            assert_eq!(table.insert(key, value).map_err(|_| ()), expected);
        }
        Op::Remove(name) => {
            let key = key(name);
            let at = list.iter().position(|entry| entry.0 == key);
            let expected = at.map(|at| list.swap_remove(at).1);
            assert_eq!(table.remove(&key), expected);
        }
        Op::Get(name) => {
            let key = key(name);
            let expected = list.iter().find(|entry| entry.0 == key);
            assert_eq!(table.get(&key), expected.map(|entry| entry.1));
        }
    }
}

/// Flows that differ in one part each, and the same digits as IPv4 and as IPv6.
fn key(name: u8) -> FlowKey {
    let v4 = Ipv4Addr::new(192, 0, 2, name >> 6);
    let (local, remote): (IpAddr, IpAddr) = match name & 3 {
        0 => (v4.into(), Ipv4Addr::new(192, 0, 2, 9).into()),
        1 => (Ipv4Addr::new(192, 0, 2, 9).into(), v4.into()),
        2 => (v4.to_ipv6_mapped().into(), Ipv6Addr::LOCALHOST.into()),
        _ => (Ipv6Addr::LOCALHOST.into(), v4.to_ipv6_compatible().into()),
    };
    let port = 1000 + u16::from(name >> 2 & 15);
    FlowKey::new(local, port, remote, port ^ 1)
}
