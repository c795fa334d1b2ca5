//! [`FlowTable`] beside a list: the same flows, however they collide and leave. A value is the name of its flow.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use sluice_tcp::flow_table::{FlowKey, FlowTable};

const FLOWS_MAX: u32 = 12;
const STEPS_MAX: usize = 500;

#[derive(Arbitrary, Debug)]
enum Op {
    Insert(u8),
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
    let mut list: Vec<u8> = Vec::new();
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
        for name in &list {
            assert_eq!(get(&table, *name), Some(u32::from(*name)));
        }
        assert_eq!(table.iter().count(), list.len());
        assert!(
            table
                .iter()
                .all(|value| list.iter().any(|name| u32::from(*name) == value))
        );
    }
}

fn get(table: &FlowTable, name: u8) -> Option<u32> {
    let wanted = key(name);
    table.get(&wanted, |value| {
        u8::try_from(value).is_ok_and(|other| key(other) == wanted)
    })
}

fn step(table: &mut FlowTable, list: &mut Vec<u8>, op: &Op) {
    match *op {
        Op::Insert(name) => {
            if list.iter().any(|other| key(*other) == key(name)) {
                return;
            }
            let added = table.insert(&key(name), name.into()).is_ok();
            assert_eq!(added, list.len() < FLOWS_MAX as usize);
            if added {
                list.push(name);
            }
        }
        Op::Remove(name) => {
            let at = list.iter().position(|other| *other == name);
            assert_eq!(table.remove(&key(name), name.into()), at.is_some());
            if let Some(at) = at {
                list.swap_remove(at);
            }
        }
        Op::Get(name) => {
            let expected = list.iter().find(|other| key(**other) == key(name));
            assert_eq!(get(table, name), expected.map(|name| u32::from(*name)));
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
