//! Doubly linked lists of slot numbers, threaded through one table of links.
//!
//! Free lists and LRU orders need removal from the middle in O(1) and must not allocate, so the links live beside
//! the slots in a table made once. Invariant, kept by the caller: a slot is in at most one list of its table.

/// "No slot": the end of a list or of a chain. No table is this long.
pub(crate) const NONE: u32 = u32::MAX;

/// The neighbours of one slot.
#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// The links of all slots of a table; shared by every [`List`] over these slots.
pub(crate) struct Links(Box<[Link]>);

impl Links {
    /// Links for slots `0..slots`, all in no list.
    pub(crate) fn new(slots: u32) -> Links {
        let unlinked = Link {
            prev: NONE,
            next: NONE,
        };
        Links(vec![unlinked; slots as usize].into_boxed_slice())
    }

    fn at(&mut self, slot: u32) -> &mut Link {
        &mut self.0[slot as usize]
    }
}

/// One order of slots, oldest first.
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    /// A list of nothing.
    pub(crate) const fn new() -> List {
        List {
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }

    /// A list of all slots `0..slots`, in order.
    pub(crate) fn of_all(links: &mut Links, slots: u32) -> List {
        let mut list = List::new();
        for slot in 0..slots {
            list.push_back(links, slot);
        }
        list
    }

    /// How many slots are in the list.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Whether the list holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The oldest slot.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Appends `slot`, which is in no list, as the newest.
    pub(crate) fn push_back(&mut self, links: &mut Links, slot: u32) {
        *links.at(slot) = Link {
            prev: self.tail,
            next: NONE,
        };
        match self.tail {
            NONE => self.head = slot,
            tail => links.at(tail).next = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    /// Puts `slot`, which is in no list, before the oldest.
    pub(crate) fn push_front(&mut self, links: &mut Links, slot: u32) {
        *links.at(slot) = Link {
            prev: NONE,
            next: self.head,
        };
        match self.head {
            NONE => self.tail = slot,
            head => links.at(head).prev = slot,
        }
        self.head = slot;
        self.len += 1;
    }

    /// Takes the oldest slot out.
    pub(crate) fn pop_front(&mut self, links: &mut Links) -> Option<u32> {
        let slot = self.front()?;
        self.remove(links, slot);
        Some(slot)
    }

    /// Takes `slot`, which is in this list, out of it.
    pub(crate) fn remove(&mut self, links: &mut Links, slot: u32) {
        let Link { prev, next } = *links.at(slot);
        match prev {
            NONE => self.head = next,
            prev => links.at(prev).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => links.at(next).prev = prev,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(list: &mut List, links: &mut Links) -> Vec<u32> {
        std::iter::from_fn(|| list.pop_front(links)).collect()
    }

    #[test]
    fn slots_leave_in_the_order_they_came() {
        let mut links = Links::new(4);
        let mut list = List::of_all(&mut links, 4);
        assert_eq!(list.len(), 4);
        assert_eq!(drain(&mut list, &mut links), [0, 1, 2, 3]);
        assert!(list.is_empty());
    }

    #[test]
    fn a_slot_put_in_front_leaves_first() {
        let mut links = Links::new(3);
        let mut list = List::new();
        list.push_front(&mut links, 1);
        list.push_back(&mut links, 2);
        list.push_front(&mut links, 0);
        assert_eq!(list.len(), 3);
        assert_eq!(drain(&mut list, &mut links), [0, 1, 2]);
        list.push_front(&mut links, 1);
        list.remove(&mut links, 1);
        assert!(list.is_empty() && list.front().is_none());
    }

    #[test]
    fn head_middle_and_tail_can_be_removed() {
        let mut links = Links::new(5);
        let mut list = List::of_all(&mut links, 5);
        for slot in [0, 2, 4] {
            list.remove(&mut links, slot);
        }
        assert_eq!(list.front(), Some(1));
        assert_eq!(drain(&mut list, &mut links), [1, 3]);
    }

    #[test]
    fn a_removed_slot_can_move_to_another_list() {
        let mut links = Links::new(3);
        let mut first = List::of_all(&mut links, 3);
        let mut second = List::new();
        first.remove(&mut links, 1);
        second.push_back(&mut links, 1);
        assert_eq!(drain(&mut first, &mut links), [0, 2]);
        assert_eq!(drain(&mut second, &mut links), [1]);
    }
}
