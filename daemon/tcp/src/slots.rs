//! The places of the connections of one worker, by slot number.
//!
//! A connection is *awake*, in a box of the pool, or *resting*, packed into its slot (see [`crate::rest`]). Whoever
//! wants to change one wakes it; whoever only looks sees it as it would be. A generation tells the connections that
//! follow one another in a slot apart.

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::Connection;
use crate::events::ConnId;
use crate::flow_table::FlowKey;
use crate::pool::Pool;
use crate::queues::Queued;
use crate::rest::Resting;

// Packing into a box of its own would cost what it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Place {
    Free,
    Resting(Resting),
    Awake(Box<Connection>),
}

#[derive(Debug)]
struct Slot {
    key: FlowKey,
    generation: u32,
    /// Of the slot and not of its connection: the entry may outlive that.
    queued: Queued,
    place: Place,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    capacity: usize,
    boxes: Pool<Connection>,
    /// Nobody ever rests: what rest must not change.
    #[cfg(test)]
    pub is_restless: bool,
}

impl Slots {
    /// Room for `capacity` connections. Memory is reserved here and filled when a slot is used first.
    pub(crate) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        Slots {
            slots: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            boxes: Pool::new(),
            #[cfg(test)]
            is_restless: false,
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.capacity
    }

    /// A slot for the connection of `key`, which follows with [`Self::place`], or the slot goes back with
    /// [`Self::free`].
    pub(crate) fn take(&mut self, key: FlowKey) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize].key = key;
            return Some(slot);
        }
        if self.slots.len() >= self.capacity {
            return None;
        }
        let slot = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot {
            key,
            generation: 0,
            queued: Queued::default(),
            place: Place::Free,
        });
        Some(slot)
    }

    pub(crate) fn place(&mut self, slot: u32, connection: Connection) {
        self.slots[slot as usize].place = Place::Awake(self.boxes.hold(connection));
    }

    /// The slot is used no more, and neither is the [`ConnId`] of who had it.
    pub(crate) fn free(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        let place = core::mem::replace(&mut entry.place, Place::Free);
        entry.generation = entry.generation.wrapping_add(1);
        if let Place::Awake(connection) = place {
            self.boxes.give_back(connection);
        }
        self.free.push(slot);
    }

    /// Whose slot it is.
    pub(crate) fn key(&self, slot: u32) -> Option<&FlowKey> {
        self.slots.get(slot as usize).map(|slot| &slot.key)
    }

    pub(crate) fn queued(&mut self, slot: u32) -> &mut Queued {
        &mut self.slots[slot as usize].queued
    }

    pub(crate) fn id(&self, slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    /// The connection in a slot and the slot's queue entries, if it is there and awake.
    pub(crate) fn awake(&mut self, slot: u32) -> Option<(&mut Connection, &mut Queued)> {
        let entry = self.slots.get_mut(slot as usize)?;
        match &mut entry.place {
            Place::Awake(connection) => Some((connection, &mut entry.queued)),
            _ => None,
        }
    }

    /// The connection in a slot, awake from now on.
    pub(crate) fn wake(&mut self, slot: u32, config: &StackConfig) -> Option<&mut Connection> {
        let entry = self.slots.get_mut(slot as usize)?;
        if let Place::Resting(resting) = &entry.place {
            let connection = self.boxes.hold(resting.wake(entry.key, config));
            entry.place = Place::Awake(connection);
        }
        match &mut entry.place {
            Place::Awake(connection) => Some(connection),
            _ => None,
        }
    }

    /// Packs the connection in a slot if nothing is under way on it, and says whether it rests now.
    pub(crate) fn rest(&mut self, slot: u32, now: Instant) -> bool {
        let entry = &mut self.slots[slot as usize];
        let Place::Awake(connection) = &entry.place else {
            return false;
        };
        if entry.queued.for_transmit() {
            return false;
        }
        #[cfg(test)]
        if self.is_restless {
            return false;
        }
        let Some(resting) = connection.rest(now) else {
            return false;
        };
        if let Place::Awake(connection) =
            core::mem::replace(&mut entry.place, Place::Resting(resting))
        {
            self.boxes.give_back(connection);
        }
        true
    }

    /// The resting connection in a slot, for what can be done without waking it.
    pub(crate) fn resting(&mut self, slot: u32) -> Option<&mut Resting> {
        match &mut self.slots.get_mut(slot as usize)?.place {
            Place::Resting(resting) => Some(resting),
            _ => None,
        }
    }

    /// Whether `conn` is the connection that lives in its slot.
    pub(crate) fn is_live(&self, conn: ConnId) -> bool {
        self.at(conn.slot as usize) == Some(conn)
    }

    /// The live connection in a slot.
    pub(crate) fn at(&self, slot: usize) -> Option<ConnId> {
        let entry = self.slots.get(slot)?;
        let is_live = !matches!(entry.place, Place::Free);
        is_live.then_some(ConnId {
            slot: u32::try_from(slot).ok()?,
            generation: entry.generation,
        })
    }

    /// Every live connection. Walks all slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ConnId> + '_ {
        (0..self.slots.len()).filter_map(|slot| self.at(slot))
    }

    /// Looks at a connection as it is or would be if it were awake.
    pub(crate) fn view<T>(
        &self,
        conn: ConnId,
        config: &StackConfig,
        look: impl FnOnce(&Connection) -> T,
    ) -> Option<T> {
        let entry = self.slots.get(conn.slot as usize)?;
        if entry.generation != conn.generation {
            return None;
        }
        match &entry.place {
            Place::Free => None,
            Place::Resting(resting) => Some(look(&resting.wake(entry.key, config))),
            Place::Awake(connection) => Some(look(connection)),
        }
    }

    /// Connections that are awake.
    pub(crate) fn awake_count(&self) -> usize {
        self.boxes.in_use()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_leaves_room_for_tables_and_pools_in_512_bytes() {
        // Five cache lines. Beside it: 17 to 34 bytes in the flow table, 24 in the wheel, 12 in the queues, and a share
        // of the boxes.
        let size = size_of::<Slot>();
        assert!(size <= 320, "{size} bytes");
    }
}
