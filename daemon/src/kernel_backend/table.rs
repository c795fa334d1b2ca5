//! The connections of a worker: a slab whose keys go stale.
//!
//! A batch of epoll events can hold one for a connection that an earlier event of the batch ended. The key in the
//! event carries the generation of its slot, so such an event finds nothing instead of the slot's next tenant.

use super::connection::Connection;

/// Names a connection, for epoll and for the worker's queues. Bit 63 is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// The key as epoll data.
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// The key in epoll data that came from [`Self::to_bits`].
    pub(super) fn from_bits(bits: u64) -> Key {
        Key(bits)
    }

    fn new(slot: usize, generation: u32) -> Key {
        let slot = u64::try_from(slot).unwrap_or(u64::MAX) & SLOT_MASK;
        Key(u64::from(generation) << 32 | slot)
    }

    fn slot(self) -> usize {
        usize::try_from(self.0 & SLOT_MASK).unwrap_or(usize::MAX)
    }

    fn generation(self) -> u64 {
        self.0 >> 32
    }
}

const SLOT_MASK: u64 = 0xffff_ffff;

/// Generations count in 31 bits, so that keys leave bit 63 free.
const GENERATION_MASK: u32 = 0x7fff_ffff;

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// A fixed number of slots.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Table {
        let slot = || Slot {
            generation: 0,
            connection: None,
        };
        Table {
            slots: core::iter::repeat_with(slot).take(capacity).collect(),
            free: (0..capacity).rev().collect(),
        }
    }

    /// Adds a connection. `Err` gives it back when every slot is taken.
    #[expect(
        clippy::result_large_err,
        reason = "a table that is full is rare, and a box for every connection is not"
    )]
    pub(super) fn insert(&mut self, connection: Connection) -> Result<Key, Connection> {
        let Some(index) = self.free.pop() else {
            return Err(connection);
        };
        let slot = &mut self.slots[index];
        slot.connection = Some(connection);
        Ok(Key::new(index, slot.generation))
    }

    /// The connection, unless it is gone.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(key.slot())?;
        if u64::from(slot.generation) != key.generation() {
            return None;
        }
        slot.connection.as_mut()
    }

    /// Takes a connection out; its key is stale from now on.
    pub(super) fn remove(&mut self, key: Key) -> Option<Connection> {
        self.get_mut(key)?;
        let slot = self.slots.get_mut(key.slot())?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(key.slot());
        slot.connection.take()
    }

    /// The key of whatever is in slot number `slot`.
    pub(super) fn key_at(&self, slot: usize) -> Option<Key> {
        let tenant = self.slots.get(slot)?;
        tenant.connection.as_ref()?;
        Some(Key::new(slot, tenant.generation))
    }

    /// Connections now.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots, taken or not.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// True if there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, socket};
    use sluice_tcp::clock::Instant;

    fn connection() -> Connection {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
        Connection::new(socket, None, Instant::ZERO)
    }

    #[test]
    fn a_key_finds_nothing_after_its_connection_is_gone() {
        let mut table = Table::new(1);
        let first = table.insert(connection()).expect("room");
        assert!(table.get_mut(first).is_some());
        assert!(table.remove(first).is_some());
        let second = table.insert(connection()).expect("room");
        assert_ne!(first, second);
        assert!(table.get_mut(first).is_none());
        assert!(table.remove(first).is_none());
        assert!(table.get_mut(Key::from_bits(second.to_bits())).is_some());
    }

    #[test]
    fn a_full_table_gives_the_connection_back() {
        let mut table = Table::new(1);
        let key = table.insert(connection()).expect("room");
        assert!(table.insert(connection()).is_err());
        assert_eq!(table.len(), table.capacity());
        assert_eq!(table.key_at(0), Some(key));
        assert!(table.remove(key).is_some());
        assert!(table.is_empty());
        assert_eq!(table.key_at(0), None);
    }
}
