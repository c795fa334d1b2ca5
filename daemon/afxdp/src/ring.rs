//! The two ends of a single-producer single-consumer ring, as the kernel lays it out for AF_XDP.
//!
//! A ring is two free-running `u32` indices, a flags word and a power of two of entries. [`Producer`] and
//! [`Consumer`] each own one index, keep a private copy of it and a cached copy of the other side's, and talk to the
//! other side once per batch. Neither type can be cloned, so there is one of each per ring: the kernel (or its twin)
//! is the other.
//!
//! Invariant: entries in `[consumer, producer)` belong to the consumer, all others to the producer. The two barriers
//! that hand entries over, and what breaks without them:
//!
//! - **A** (producer publishes, store-release) pairs with **B** (consumer looks, load-acquire): without it the consumer
//!   may see the new index before the entry, and use a stale address.
//! - **C** (consumer releases, store-release) pairs with **D** (producer looks, load-acquire): without it the producer
//!   may overwrite an entry that is still being read.

use core::ptr::NonNull;

use crate::sync::{Arc, AtomicU32, Ordering, UnsafeCell};
use crate::syscall::Mapping;
use crate::uapi::RING_NEED_WAKEUP;

#[cfg(test)]
mod tests;

/// The end that writes entries: fill and TX for us.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    ring: Ring<T>,
    /// Next entry to write. Private until published.
    head: u32,
    /// What the other side was told.
    published: u32,
    /// The other side's index when it was last looked at.
    consumer_seen: u32,
}

impl<T: Copy> Producer<T> {
    /// Takes the producing end of `ring`, at the index that the ring starts from.
    pub(crate) fn new(ring: Ring<T>) -> Self {
        let start = ring.producer().load(Ordering::Relaxed);
        Self {
            ring,
            head: start,
            published: start,
            consumer_seen: start,
        }
    }

    /// Entries that can be written now, by a look at the other side.
    #[inline]
    pub(crate) fn free(&mut self) -> u32 {
        // D: pairs with C in `Consumer::release`.
        self.consumer_seen = self.ring.consumer().load(Ordering::Acquire);
        self.free_seen()
    }

    /// As [`free`](Self::free), without remembering what was seen.
    #[inline]
    pub(crate) fn free_now(&self) -> u32 {
        self.ring.size().saturating_sub(self.occupied())
    }

    /// Entries written (published or not) that the other side has not released.
    #[inline]
    pub(crate) fn occupied(&self) -> u32 {
        // D: pairs with C in `Consumer::release`.
        self.head
            .wrapping_sub(self.ring.consumer().load(Ordering::Acquire))
    }

    /// Writes one entry, invisible to the other side until [`publish`](Self::publish). False if the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> bool {
        if self.free_seen() == 0 && self.free() == 0 {
            return false;
        }
        self.ring.slot(self.head).with_mut(|slot| {
            // SAFETY: `slot` comes from a live cell of the ring's memory, aligned for T. `head` lies outside
            // `[consumer, published)` because a free entry was just found, so the entry belongs to the producer, and
            // `&mut self` is the only producer.
            unsafe { slot.write(value) }
        });
        self.head = self.head.wrapping_add(1);
        true
    }

    /// Takes back the entry written last, if it was not published.
    pub(crate) fn pop_unpublished(&mut self) -> Option<T> {
        if self.head == self.published {
            return None;
        }
        self.head = self.head.wrapping_sub(1);
        Some(self.ring.slot(self.head).with(|slot| {
            // SAFETY: `slot` comes from a live cell of the ring's memory. The entry was written by `push` and never
            // published, so it is initialised and still belongs to the producer, which is `&mut self`.
            unsafe { slot.read() }
        }))
    }

    /// Hands everything written, except the last `hold_back` entries, to the other side.
    #[inline]
    pub(crate) fn publish_except(&mut self, hold_back: u32) {
        let until = self.head.wrapping_sub(hold_back);
        if until != self.published {
            self.published = until;
            // A: pairs with B in `Consumer::available`.
            self.ring.producer().store(until, Ordering::Release);
        }
    }

    /// Hands everything written to the other side.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.publish_except(0);
    }

    /// Published entries that the other side has not released.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        // D: pairs with C in `Consumer::release`.
        let consumer = self.ring.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(consumer)
    }

    /// Whether the other side sleeps until a system call wakes it. Only a hint in time: ask again every turn.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        // Relaxed: the word guards no memory. An atomic load, because a plain one may be hoisted out of a spin loop.
        self.ring.flags().load(Ordering::Relaxed) & RING_NEED_WAKEUP != 0
    }

    #[inline]
    fn free_seen(&self) -> u32 {
        // Saturating: an impossible index of the other side means a full ring, never an unowned entry.
        self.ring
            .size()
            .saturating_sub(self.head.wrapping_sub(self.consumer_seen))
    }
}

/// The end that reads entries: RX and completion for us.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    ring: Ring<T>,
    /// Next entry to read; everything before it was released.
    tail: u32,
    /// The other side's index when it was last looked at.
    producer_seen: u32,
}

impl<T: Copy> Consumer<T> {
    /// Takes the consuming end of `ring`, at the index that the ring starts from.
    pub(crate) fn new(ring: Ring<T>) -> Self {
        let start = ring.consumer().load(Ordering::Relaxed);
        Self {
            ring,
            tail: start,
            producer_seen: start,
        }
    }

    /// Entries that can be read, by a look at the other side.
    #[inline]
    pub(crate) fn available(&mut self) -> u32 {
        // B: pairs with A in `Producer::publish_except`.
        self.producer_seen = self.ring.producer().load(Ordering::Acquire);
        self.available_seen()
    }

    /// The entry `ahead` places behind the next one, if the last look found that many.
    #[inline]
    pub(crate) fn peek(&self, ahead: u32) -> Option<T> {
        if ahead >= self.available_seen() {
            return None;
        }
        let index = self.tail.wrapping_add(ahead);
        Some(self.ring.slot(index).with(|slot| {
            // SAFETY: `slot` comes from a live cell of the ring's memory, aligned for T. The index lies in
            // `[tail, producer_seen)`, so the producer wrote the entry before it published (barrier A/B) and will not
            // touch it until `release`; T is plain data for which every bit pattern is valid.
            unsafe { slot.read() }
        }))
    }

    /// Gives `count` entries (at most what was available) back to the producer.
    #[inline]
    pub(crate) fn release(&mut self, count: u32) {
        let count = count.min(self.available_seen());
        if count > 0 {
            self.tail = self.tail.wrapping_add(count);
            // C: pairs with D in `Producer::free`.
            self.ring.consumer().store(self.tail, Ordering::Release);
        }
    }

    /// Sets or clears the bit that tells the producer to wake this side with a system call.
    pub(crate) fn set_need_wakeup(&self, on: bool) {
        let flags = if on { RING_NEED_WAKEUP } else { 0 };
        self.ring.flags().store(flags, Ordering::Relaxed);
    }

    #[inline]
    fn available_seen(&self) -> u32 {
        // An impossible index of the other side yields at most one lap, never an access outside the ring.
        self.producer_seen
            .wrapping_sub(self.tail)
            .min(self.ring.size())
    }
}

/// Memory of one ring: shared with the kernel, or with the kernel's twin.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: NonNull<[UnsafeCell<T>]>,
    /// Keeps the memory behind the pointers alive.
    _memory: Memory<T>,
}

#[derive(Debug)]
#[allow(dead_code)] // held for their Drop only
enum Memory<T> {
    Mapped(Mapping),
    Heap(Arc<HeapRing<T>>),
}

/// A ring in ordinary memory: what the kernel would have mapped.
#[derive(Debug)]
struct HeapRing<T> {
    producer: AtomicU32,
    consumer: AtomicU32,
    flags: AtomicU32,
    slots: Box<[UnsafeCell<T>]>,
}

// SAFETY: the pointers lead into `_memory`, which moves along; nothing in it is tied to a thread. All access goes
// through atomics or through entries that the index protocol gives to this end.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy + Default> Ring<T> {
    /// Both views of a new ring of `size` entries (a power of two) in ordinary memory, whose indices start at `start`.
    pub(crate) fn heap(size: u32, start: u32) -> (Self, Self) {
        assert!(size.is_power_of_two(), "ring sizes are powers of two");
        let memory = Arc::new(HeapRing {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            flags: AtomicU32::new(0),
            slots: (0..size).map(|_| UnsafeCell::new(T::default())).collect(),
        });
        (Self::over(memory.clone()), Self::over(memory))
    }

    fn over(memory: Arc<HeapRing<T>>) -> Self {
        Self {
            producer: NonNull::from(&memory.producer),
            consumer: NonNull::from(&memory.consumer),
            flags: NonNull::from(&memory.flags),
            slots: NonNull::from(&*memory.slots),
            _memory: Memory::Heap(memory),
        }
    }
}

#[cfg(not(loom))]
impl<T: Copy> Ring<T> {
    /// A ring of `size` entries that the kernel laid out in `mapping`, at the `offsets` it told.
    ///
    /// None if an offset does not fit in the mapping or is not aligned for what lies there.
    pub(crate) fn mapped(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> Option<Self> {
        if !size.is_power_of_two() {
            return None;
        }
        let entries = size as usize;
        let slots = mapping.at::<UnsafeCell<T>>(offsets.desc, entries)?;
        Some(Self {
            producer: mapping.at(offsets.producer, 1)?,
            consumer: mapping.at(offsets.consumer, 1)?,
            flags: mapping.at(offsets.flags, 1)?,
            slots: NonNull::slice_from_raw_parts(slots, entries),
            _memory: Memory::Mapped(mapping),
        })
    }
}

impl<T> Ring<T> {
    #[inline(always)]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: the pointer leads into `_memory`, aligned and in bounds since construction, alive as long as `self`;
        // both sides access the word only as an atomic.
        unsafe { self.producer.as_ref() }
    }

    #[inline(always)]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    #[inline(always)]
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.flags.as_ref() }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> &UnsafeCell<T> {
        // SAFETY: pointer and length were checked against `_memory` at construction, which lives as long as `self`.
        // The elements are cells, so the other side may write to them while this reference exists.
        let slots = unsafe { self.slots.as_ref() };
        // The size is a power of two, so the mask keeps the index in bounds; the check that remains is one compare.
        &slots[index as usize & (slots.len() - 1)]
    }

    #[inline(always)]
    fn size(&self) -> u32 {
        // Sizes come from a u32 at construction.
        #[allow(clippy::cast_possible_truncation)]
        let size = self.slots.len() as u32;
        size
    }
}
