//! A hash index from keys to slot numbers: chains through a table of links, fixed in size, never rehashed.
//!
//! The keys stay in the caller's slots; the index gets their hash and an equality test. `std`'s map is not used here
//! because it reorganises itself, all at once, after enough insertions and removals: a pause of the loop that grows
//! with the cache. The hash is keyed, because peers choose which blocks of which files are asked for.

use std::hash::{BuildHasher, Hash, RandomState};

use crate::list::NONE;

/// Finds the slot that holds a key.
pub(crate) struct Index {
    hasher: RandomState,
    /// First slot of each chain; the length is a power of two.
    heads: Box<[u32]>,
    /// The next slot of the same chain, per slot.
    next: Box<[u32]>,
}

impl Index {
    /// An empty index over slots `0..slots`.
    pub(crate) fn new(slots: u32) -> Index {
        let chains = (slots as usize).next_power_of_two();
        Index {
            hasher: RandomState::new(),
            heads: vec![NONE; chains].into_boxed_slice(),
            next: vec![NONE; slots as usize].into_boxed_slice(),
        }
    }

    /// The first slot filed under `key`'s chain that `is_it` accepts.
    pub(crate) fn find<K: Hash>(&self, key: &K, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut slot = self.heads[self.chain(key)];
        while slot != NONE {
            if is_it(slot) {
                return Some(slot);
            }
            slot = self.next[slot as usize];
        }
        None
    }

    /// Files `slot`, which is not in the index, under `key`.
    pub(crate) fn insert<K: Hash>(&mut self, key: &K, slot: u32) {
        let chain = self.chain(key);
        self.next[slot as usize] = self.heads[chain];
        self.heads[chain] = slot;
    }

    /// Takes out `slot`, filed under `key`. Nothing happens if it is not there.
    pub(crate) fn remove<K: Hash>(&mut self, key: &K, slot: u32) {
        let chain = self.chain(key);
        let after = self.next[slot as usize];
        if self.heads[chain] == slot {
            self.heads[chain] = after;
            return;
        }
        let mut at = self.heads[chain];
        while at != NONE {
            let next = self.next[at as usize];
            if next == slot {
                self.next[at as usize] = after;
                return;
            }
            at = next;
        }
    }

    fn chain<K: Hash>(&self, key: &K) -> usize {
        let mask = self.heads.len() as u64 - 1;
        // Masked to less than the length of a slice: nothing is lost on any target.
        usize::try_from(self.hasher.hash_one(key) & mask).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filed_key_is_found_until_it_is_removed() {
        let keys = [10_u64, 20, 30];
        let mut index = Index::new(3);
        for (slot, key) in (0..).zip(&keys) {
            index.insert(key, slot);
        }
        let find = |index: &Index, key: u64| index.find(&key, |slot| keys[slot as usize] == key);
        assert_eq!(find(&index, 20), Some(1));
        index.remove(&20_u64, 1);
        assert_eq!(find(&index, 20), None);
        assert_eq!(find(&index, 10), Some(0));
        assert_eq!(find(&index, 30), Some(2));
    }

    #[test]
    fn keys_of_one_chain_do_not_disturb_each_other() {
        // One slot per chain at most would never collide: here every key lands in the only chain.
        let mut index = Index::new(1);
        index.next = vec![NONE; 4].into_boxed_slice();
        for slot in 0..4 {
            index.insert(&slot, slot);
        }
        for removed in [2, 0, 3] {
            index.remove(&removed, removed);
        }
        let left: Vec<u32> = (0..4)
            .filter(|&slot| index.find(&slot, |at| at == slot).is_some())
            .collect();
        assert_eq!(left, [1]);
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let mut index = Index::new(4);
        index.insert(&1_u32, 0);
        index.remove(&2_u32, 3);
        assert_eq!(index.find(&1_u32, |slot| slot == 0), Some(0));
    }
}
