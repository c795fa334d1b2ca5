//! Memory that connections use for a while: taken from a pool, given back to it, and freed when fewer use it.
//!
//! A pool keeps a fixed number warm, made at construction, and besides that as many free ones as are in use: load that
//! goes up and down by half touches no allocator, and memory of a crowd that has left is freed. Nothing grows beyond
//! the limit given at construction.

/// Objects of one kind.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    free: Vec<T>,
    out: usize,
    warm: usize,
    most: usize,
}

impl<T> Pool<T> {
    /// At most `most` at once; `warm` of them are made now and never freed.
    pub(crate) fn new(warm: usize, most: usize, mut make: impl FnMut() -> T) -> Pool<T> {
        let warm = warm.min(most);
        let mut free = Vec::with_capacity(most);
        free.extend((0..warm).map(|_| make()));
        Pool {
            free,
            out: 0,
            warm,
            most,
        }
    }

    /// A free object, or one that `make` makes. `None` at the limit.
    pub(crate) fn take(&mut self, make: impl FnOnce() -> T) -> Option<T> {
        if !self.has_one() {
            return None;
        }
        self.out += 1;
        Some(self.free.pop().unwrap_or_else(make))
    }

    /// Whether [`Self::take`] would give one.
    pub(crate) fn has_one(&self) -> bool {
        self.out < self.most
    }

    /// Takes an object back.
    pub(crate) fn give_back(&mut self, object: T) {
        self.out = self.out.saturating_sub(1);
        self.free.push(object);
        // One came and one less is used, so two may be too many.
        let kept = self.warm.max(self.out);
        for _ in 0..2 {
            if self.free.len() > kept {
                self.free.pop();
            }
        }
    }

    /// Objects in use.
    pub(crate) fn out(&self) -> usize {
        self.out
    }
}

/// Buffers for request heads that are not small, of two sizes, bounded by bytes.
#[derive(Debug)]
pub(crate) struct Buffers {
    middle: Pool<Box<[u8]>>,
    whole: Pool<Box<[u8]>>,
    middle_bytes: usize,
    whole_bytes: usize,
    bytes_out: usize,
    bytes_most: usize,
}

/// Bytes of the smaller buffers: heads with cookies.
const MIDDLE_BYTES: usize = 4096;
/// Buffers made at construction.
const MIDDLE_WARM: usize = 64;
const WHOLE_WARM: usize = 16;

impl Buffers {
    /// For heads of up to `whole_bytes`, together at most `bytes_most` but at least one of them.
    pub(crate) fn new(whole_bytes: usize, bytes_most: usize) -> Buffers {
        let whole_bytes = whole_bytes.max(1);
        let middle_bytes = MIDDLE_BYTES.min(whole_bytes);
        // Who grows from one size to the other holds both for a moment.
        let bytes_most = bytes_most.max(whole_bytes + middle_bytes);
        Buffers {
            middle: Pool::new(MIDDLE_WARM, bytes_most / middle_bytes, || {
                zeroed(middle_bytes)
            }),
            whole: Pool::new(WHOLE_WARM, bytes_most / whole_bytes, || zeroed(whole_bytes)),
            middle_bytes,
            whole_bytes,
            bytes_out: 0,
            bytes_most,
        }
    }

    /// A buffer of at least `bytes`; `None` if there is none so large, or the limit is reached.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Box<[u8]>> {
        let (pool, size) = if bytes <= self.middle_bytes {
            (&mut self.middle, self.middle_bytes)
        } else {
            (&mut self.whole, self.whole_bytes)
        };
        if bytes > size || self.bytes_out + size > self.bytes_most {
            return None;
        }
        let buffer = pool.take(|| zeroed(size))?;
        self.bytes_out += size;
        Some(buffer)
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Box<[u8]>) {
        self.bytes_out = self.bytes_out.saturating_sub(buffer.len());
        if buffer.len() == self.middle_bytes {
            self.middle.give_back(buffer);
        } else {
            self.whole.give_back(buffer);
        }
    }
}

fn zeroed(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_leaves_takes_its_memory_with_it() {
        let mut pool = Pool::new(2, 100, || 0);
        let crowd: Vec<i32> = (0..100).filter_map(|n| pool.take(|| n)).collect();
        assert_eq!(crowd.len(), 100);
        assert!(!pool.has_one());
        for (gone, object) in (1..).zip(crowd) {
            pool.give_back(object);
            assert!(pool.free.len() <= pool.out().max(2), "{gone} have left");
        }
        assert_eq!((pool.out(), pool.free.len()), (0, 2));
    }

    #[test]
    fn load_that_halves_and_comes_back_makes_nothing_anew() {
        let mut pool = Pool::new(0, 100, || 0);
        let mut out: Vec<i32> = (0..80).filter_map(|n| pool.take(|| n)).collect();
        for _ in 0..10 {
            for object in out.split_off(40) {
                pool.give_back(object);
            }
            out.extend((0..40).filter_map(|_| pool.take(|| panic!("there is a free one"))));
            assert_eq!(out.len(), 80);
        }
    }

    #[test]
    fn buffers_are_bounded_by_their_bytes() {
        let mut buffers = Buffers::new(16 << 10, 40 << 10);
        let large = buffers.take(10_000).expect("within the limit");
        assert_eq!(large.len(), 16 << 10);
        let second = buffers.take(10_000).expect("within the limit");
        assert!(buffers.take(10_000).is_none());
        let middle = buffers.take(600).expect("within the limit");
        assert_eq!(middle.len(), 4096);
        assert!(buffers.take(20_000).is_none(), "no head is so long");
        buffers.give_back(large);
        assert!(buffers.take(10_000).is_some());
        buffers.give_back(second);
        buffers.give_back(middle);
    }
}
