//! Which slot a flow has: the table of all flows, and the one that was looked for last.
//!
//! Segments of one flow come in a row, so the slot of the last one is asked before the table. A slot is remembered only
//! until a flow ends. Keys are kept by the [`Slots`]; invariant: every slot that is taken and not over is in the table
//! once.

use crate::config::StackConfig;
use crate::flow_table::{FlowKey, FlowTable};
use crate::slots::Slots;

/// The flows of a stack.
pub(super) struct Flows {
    table: FlowTable,
    recent: Option<u32>,
}

impl Flows {
    /// For as many as there may be connections.
    pub(super) fn new(config: &StackConfig) -> Self {
        Flows {
            table: FlowTable::new(config.connections, config.flow_hash_key),
            recent: None,
        }
    }

    /// The slot of a flow.
    pub(super) fn find(&self, key: &FlowKey, slots: &Slots) -> Option<u32> {
        let is_flow = |slot| slots.key(slot) == Some(key);
        match self.recent {
            Some(slot) if is_flow(slot) => Some(slot),
            _ => self.table.get(key, is_flow),
        }
    }

    /// A segment came for the flow in `slot`.
    pub(super) fn note(&mut self, slot: u32) {
        self.recent = Some(slot);
    }

    /// A slot for a new flow, `None` if there is no room.
    pub(super) fn add(&mut self, key: FlowKey, slots: &mut Slots) -> Option<u32> {
        let slot = slots.take(key)?;
        if self.table.insert(&key, slot).is_err() {
            slots.free(slot);
            return None;
        }
        Some(slot)
    }

    /// The flow in `slot` is over.
    pub(super) fn remove(&mut self, key: &FlowKey, slot: u32) {
        self.table.remove(key, slot);
        self.recent = None;
    }

    pub(super) fn len(&self) -> u32 {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::isn::Secret;

    fn key(port: u16) -> FlowKey {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        FlowKey::new(address, 80, address, port)
    }

    #[test]
    fn the_flow_of_the_last_segment_is_not_taken_for_another() {
        let config = StackConfig::new(2, [0; 16], Secret::new([0; 32]));
        let (mut flows, mut slots) = (Flows::new(&config), Slots::new(2));
        let one = flows.add(key(1), &mut slots).expect("room for two");
        let other = flows.add(key(2), &mut slots).expect("room for two");
        assert_eq!(flows.add(key(3), &mut slots), None);
        flows.note(one);
        assert_eq!(flows.find(&key(1), &slots), Some(one));
        assert_eq!(flows.find(&key(2), &slots), Some(other));
        assert_eq!(flows.find(&key(3), &slots), None);
    }

    #[test]
    fn a_flow_that_is_over_is_not_found_by_its_last_segment() {
        let config = StackConfig::new(1, [0; 16], Secret::new([0; 32]));
        let (mut flows, mut slots) = (Flows::new(&config), Slots::new(1));
        let slot = flows.add(key(1), &mut slots).expect("room for one");
        flows.note(slot);
        flows.remove(&key(1), slot);
        assert_eq!(flows.find(&key(1), &slots), None);
        assert_eq!(flows.len(), 0);
    }
}
