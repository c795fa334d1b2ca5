//! Which block holds which bytes: states, pins and the order of eviction. No I/O, no memory, no clock.
//!
//! A block is free, loading, pinned (somebody holds references), evictable, or out for an upload and without a key. Evictable blocks leave in LRU order,
//! with one exception: a block that was loaded because somebody waits for it is kept back for two turns (calls of
//! [`BlockCache::next_turn`]) after it arrived. Without that, more waiters than blocks evict each other's answers
//! before they are taken, and all of them read for ever.
//!
//! Invariant: free + evictable + pinned + loading + uploading = all blocks; a block is in the list its state names and is found
//! by its key unless it is free or uploading.

use rustix::io::Errno;

use crate::file::FileId;
use crate::index::Index;
use crate::list::{Links, List};

/// Which bytes: a version of a file, and the number of the 64 KiB piece of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct BlockKey {
    pub(crate) file: FileId,
    pub(crate) block: u64,
}

/// What the cache knows about a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    /// Nothing.
    Absent,
    /// The block is being filled.
    Loading(u32),
    /// The block holds the bytes.
    Ready(u32),
    /// The last attempt to fill the block failed.
    Failed(u32, Errno),
}

/// For whom a block is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// Somebody will ask for it when it has arrived.
    Awaited,
    /// Read-ahead.
    Ahead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Loading(Urgency),
    Ready { valid: u32 },
    Failed(Errno),
    Uploading,
}

/// The list an unpinned, filled block is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    /// Evictable, coldest first.
    Lru,
    /// Arrived in this turn and not asked for since.
    Arrived(u64),
}

struct Slot {
    key: BlockKey,
    state: State,
    pins: u32,
    kept: Kept,
}

/// How many blocks are in which state. Their sum is the number of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Census {
    pub(crate) free: u32,
    pub(crate) cached: u32,
    pub(crate) pinned: u32,
    pub(crate) loading: u32,
    pub(crate) uploading: u32,
}

/// States, keys and eviction order of a fixed number of blocks.
pub(crate) struct BlockCache {
    slots: Box<[Slot]>,
    index: Index,
    links: Links,
    free: List,
    lru: List,
    /// Arrived and kept back, oldest arrival first.
    arrived: List,
    pinned: u32,
    loading: u32,
    uploading: u32,
    turn: u64,
    evictions: u64,
}

/// For how many turns an awaited block is kept back: asked again in the turn it arrived, or at the latest in the next.
const TURNS_KEPT: u64 = 2;

impl BlockCache {
    /// A cache of `blocks` free blocks.
    pub(crate) fn new(blocks: u32) -> BlockCache {
        let nothing = BlockKey {
            file: FileId::NONE,
            block: 0,
        };
        let slots = (0..blocks).map(|_| Slot {
            key: nothing,
            state: State::Free,
            pins: 0,
            kept: Kept::Lru,
        });
        let mut links = Links::new(blocks);
        BlockCache {
            slots: slots.collect(),
            index: Index::new(blocks),
            free: List::of_all(&mut links, blocks),
            links,
            lru: List::new(),
            arrived: List::new(),
            pinned: 0,
            loading: 0,
            uploading: 0,
            turn: 0,
            evictions: 0,
        }
    }

    /// Begins a turn: what arrived two turns ago and was not asked for becomes evictable. Says whether anything did.
    pub(crate) fn next_turn(&mut self) -> bool {
        self.turn += 1;
        let mut any = false;
        while let Some(block) = self.arrived.front() {
            let Kept::Arrived(turn) = self.slots[block as usize].kept else {
                break;
            };
            if turn + TURNS_KEPT > self.turn {
                break;
            }
            self.arrived.remove(&mut self.links, block);
            self.keep(block, Kept::Lru);
            any = true;
        }
        any
    }

    /// Whether blocks are kept back for their waiters, so that a refused [`BlockCache::reserve`] may soon succeed.
    pub(crate) fn keeps_back(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// What is known about `key`.
    pub(crate) fn lookup(&self, key: &BlockKey) -> Lookup {
        let Some(block) = self.index.find(key, |slot| self.slot(slot).key == *key) else {
            return Lookup::Absent;
        };
        match self.slot(block).state {
            State::Free | State::Uploading => Lookup::Absent,
            State::Loading(_) => Lookup::Loading(block),
            State::Ready { .. } => Lookup::Ready(block),
            State::Failed(errno) => Lookup::Failed(block, errno),
        }
    }

    /// The same for who remembers that `key` was in `block`.
    #[inline]
    pub(crate) fn lookup_near(&self, key: &BlockKey, block: u32) -> Lookup {
        match self.slots.get(block as usize) {
            // Ready, it is the only one that is filed under its key.
            Some(slot) if slot.key == *key && matches!(slot.state, State::Ready { .. }) => {
                Lookup::Ready(block)
            }
            _ => self.lookup(key),
        }
    }

    /// Takes a free block, or else the coldest evictable one, to be filled for `key`, which is absent. `None` if
    /// every block is pinned, loading or kept back.
    pub(crate) fn reserve(&mut self, key: BlockKey, urgency: Urgency) -> Option<u32> {
        let block = self.take()?;
        self.index.insert(&key, block);
        self.loading += 1;
        *self.slot_mut(block) = Slot {
            key,
            state: State::Loading(urgency),
            pins: 0,
            kept: Kept::Lru,
        };
        Some(block)
    }

    /// Takes a block as [`BlockCache::reserve`] does, for bytes on their way to a file. `None` as there.
    pub(crate) fn begin_upload(&mut self) -> Option<u32> {
        let block = self.take()?;
        self.uploading += 1;
        self.slot_mut(block).state = State::Uploading;
        Some(block)
    }

    /// Takes back a block from an upload. What is in it is nobody's: the page cache has it.
    pub(crate) fn end_upload(&mut self, block: u32) {
        debug_assert!(matches!(self.slot(block).state, State::Uploading));
        self.uploading -= 1;
        self.slot_mut(block).state = State::Free;
        // The next to be taken: its bytes are in the processor's cache.
        self.free.push_front(&mut self.links, block);
    }

    /// Notes that somebody waits for `block`, which is loading.
    pub(crate) fn awaited(&mut self, block: u32) {
        debug_assert!(matches!(self.slot(block).state, State::Loading(_)));
        self.slot_mut(block).state = State::Loading(Urgency::Awaited);
    }

    /// Ends loading: the first `valid` bytes of the block are the key's.
    pub(crate) fn finish(&mut self, block: u32, valid: u32) {
        self.arrive(block, State::Ready { valid });
    }

    /// Ends loading without bytes; the next to ask is told why.
    pub(crate) fn fail(&mut self, block: u32, errno: Errno) {
        self.arrive(block, State::Failed(errno));
    }

    /// Ends loading as if it had not begun.
    pub(crate) fn cancel(&mut self, block: u32) {
        debug_assert!(matches!(self.slot(block).state, State::Loading(_)));
        self.loading -= 1;
        self.set_free(block);
    }

    /// Forgets a failed attempt.
    pub(crate) fn discard(&mut self, block: u32) {
        debug_assert!(matches!(self.slot(block).state, State::Failed(_)));
        self.unkeep(block);
        self.set_free(block);
    }

    /// Adds a reference to `block`, which is ready: it stays until the last is gone.
    pub(crate) fn pin(&mut self, block: u32) {
        debug_assert!(matches!(self.slot(block).state, State::Ready { .. }));
        if self.slot(block).pins == 0 {
            self.unkeep(block);
            self.pinned += 1;
        }
        self.slot_mut(block).pins += 1;
    }

    /// Takes a reference away. Without references the block is the warmest of the evictable ones.
    pub(crate) fn unpin(&mut self, block: u32) {
        let slot = self.slot_mut(block);
        debug_assert!(slot.pins > 0, "block {block} has no reference");
        if slot.pins == 0 {
            return;
        }
        slot.pins -= 1;
        if slot.pins == 0 {
            self.pinned -= 1;
            self.keep(block, Kept::Lru);
        }
    }

    /// How many bytes of `block` are valid: none unless it is ready.
    pub(crate) fn valid(&self, block: u32) -> u32 {
        match self.slot(block).state {
            State::Ready { valid } => valid,
            State::Free | State::Loading(_) | State::Failed(_) | State::Uploading => 0,
        }
    }

    /// The blocks by state.
    pub(crate) fn census(&self) -> Census {
        Census {
            free: self.free.len(),
            cached: self.lru.len() + self.arrived.len(),
            pinned: self.pinned,
            loading: self.loading,
            uploading: self.uploading,
        }
    }

    /// How often a block with content was taken for other content.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// A free block, or else the coldest evictable one, which loses its key.
    fn take(&mut self) -> Option<u32> {
        if let Some(block) = self.free.pop_front(&mut self.links) {
            return Some(block);
        }
        let coldest = self.lru.pop_front(&mut self.links)?;
        self.unfile(coldest);
        self.evictions += 1;
        Some(coldest)
    }

    fn arrive(&mut self, block: u32, state: State) {
        let turn = self.turn;
        let slot = self.slot_mut(block);
        let kept = match slot.state {
            State::Loading(Urgency::Awaited) => Kept::Arrived(turn),
            _ => Kept::Lru,
        };
        slot.state = state;
        self.loading -= 1;
        self.keep(block, kept);
    }

    fn keep(&mut self, block: u32, kept: Kept) {
        self.slot_mut(block).kept = kept;
        match kept {
            Kept::Lru => self.lru.push_back(&mut self.links, block),
            Kept::Arrived(_) => self.arrived.push_back(&mut self.links, block),
        }
    }

    fn unkeep(&mut self, block: u32) {
        match self.slot(block).kept {
            Kept::Lru => self.lru.remove(&mut self.links, block),
            Kept::Arrived(_) => self.arrived.remove(&mut self.links, block),
        }
    }

    fn set_free(&mut self, block: u32) {
        self.unfile(block);
        self.slot_mut(block).state = State::Free;
        self.free.push_back(&mut self.links, block);
    }

    fn unfile(&mut self, block: u32) {
        let key = self.slot(block).key;
        self.index.remove(&key, block);
    }

    fn slot(&self, block: u32) -> &Slot {
        &self.slots[block as usize]
    }

    fn slot_mut(&mut self, block: u32) -> &mut Slot {
        &mut self.slots[block as usize]
    }
}

#[cfg(test)]
mod tests;
