//! Memory that comes and goes with work: boxes of one kind, shared by the connections of one worker.
//!
//! A box is made when none is free, and what was given back is used again, last first, so that it is still in
//! the cache. There are never more boxes than were needed at once. Invariant: giving back never allocates, because
//! the list of what is free grows when a box is made.

/// Boxes that are not in use.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    // Boxed because the box is what a connection holds: it moves without copying.
    #[allow(clippy::vec_box)]
    free: Vec<Box<T>>,
    made: usize,
}

impl<T> Pool<T> {
    /// Nothing is in it yet.
    pub(crate) const fn new() -> Self {
        Pool {
            free: Vec::new(),
            made: 0,
        }
    }

    /// Makes `count` boxes of what `make` returns, beside those there are.
    pub(crate) fn stock(&mut self, count: usize, make: impl Fn() -> T) {
        self.made += count;
        self.free.reserve(self.made - self.free.len());
        self.free.extend((0..count).map(|_| Box::new(make())));
    }

    /// A box with `value` in it.
    pub(crate) fn hold(&mut self, value: T) -> Box<T> {
        match self.free.pop() {
            Some(mut held) => {
                *held = value;
                held
            }
            None => {
                self.made += 1;
                self.free.reserve(self.made);
                Box::new(value)
            }
        }
    }

    /// A box that is not needed any more. What is in it stays until it is used again.
    pub(crate) fn give_back(&mut self, held: Box<T>) {
        self.free.push(held);
    }

    /// Boxes in use.
    pub(crate) fn in_use(&self) -> usize {
        self.made - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_that_was_given_back_is_used_again() {
        let mut pool = Pool::new();
        let first = pool.hold(1);
        let address: *const i32 = &raw const *first;
        pool.give_back(first);
        let second = pool.hold(2);
        assert!(core::ptr::eq(address, &raw const *second));
        assert_eq!((*second, pool.made, pool.in_use()), (2, 1, 1));
    }

    #[test]
    fn giving_back_finds_room_for_everything_that_was_made() {
        let mut pool = Pool::new();
        pool.stock(3, || 0);
        let held: Vec<_> = (0..100).map(|n| pool.hold(n)).collect();
        let capacity = pool.free.capacity();
        for one in held {
            pool.give_back(one);
        }
        assert_eq!(pool.free.capacity(), capacity);
        assert_eq!((pool.made, pool.in_use()), (100, 0));
    }
}
