//! The memory of the blocks, and who may touch it.
//!
//! A block is either *here*, readable through a shared borrow of [`BlockMemory`], or *lent*: exactly one
//! [`LoadBuffer`] exists for it, which alone may read and write its bytes, on whatever thread it is. Lending needs
//! `&mut BlockMemory`, so no slice of any block is alive at that moment; reading a lent block is refused. Every
//! unsafe line of this file rests on that one rule, and nothing outside this file can break it. What the bytes mean
//! (which file, how many are valid) is the cache's business.

use std::fmt;
use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// The size of a block: 64 KiB. A multiple of the page size, and what one super-segment carries at most.
pub const BLOCK_BYTES: usize = 65536;

/// [`BLOCK_BYTES`] in the arithmetic of file offsets.
pub(crate) const BLOCK_BYTES_U64: u64 = 65536;
const _: () = assert!(BLOCK_BYTES as u64 == BLOCK_BYTES_U64);

/// The memory of all blocks, cut into pieces of [`BLOCK_BYTES`].
pub(crate) struct BlockMemory {
    base: NonNull<u8>,
    /// Whether a [`LoadBuffer`] for the block exists, per block.
    lent: Box<[bool]>,
    lent_now: usize,
    /// Length of our own mapping; `None` for memory that the caller gave for ever.
    mapped_bytes: Option<usize>,
}

// SAFETY: `base` points to memory that only this value and its `LoadBuffer`s reach (`from_static` consumes the only
// reference, `anonymous` makes a new private mapping), and nothing about that memory is tied to a thread.
unsafe impl Send for BlockMemory {}

impl BlockMemory {
    /// Takes over `memory` until the end of the process. A remainder smaller than a block stays unused.
    ///
    /// # Errors
    /// `InvalidInput` if it holds no block, or more than 2^32 - 2.
    pub(crate) fn from_static(memory: &'static mut [u8]) -> io::Result<BlockMemory> {
        let lent = none_lent(memory.len())?;
        Ok(BlockMemory {
            base: NonNull::from(memory).cast(),
            lent,
            lent_now: 0,
            mapped_bytes: None,
        })
    }

    /// Maps private memory of `bytes`, given back on drop. Pages come from the kernel as blocks are first used, so
    /// that a large cache of a lightly loaded service costs what it uses.
    ///
    /// # Errors
    /// `InvalidInput` as above; the errors of mmap(2).
    pub(crate) fn anonymous(bytes: usize) -> io::Result<BlockMemory> {
        let lent = none_lent(bytes)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint lets the kernel choose an unused range, so no existing memory is replaced.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, MapFlags::PRIVATE) }?;
        let base = NonNull::new(base.cast())
            .ok_or_else(|| io::Error::other("mmap returned the null page"))?;
        Ok(BlockMemory {
            base,
            lent,
            lent_now: 0,
            mapped_bytes: Some(bytes),
        })
    }

    /// Asks for huge pages, where the kernel gives them: the disk writes into a block by one piece then, and not by a piece for
    /// each page.
    pub(crate) fn ask_for_huge_pages(&self) {
        let Some(bytes) = self.mapped_bytes else {
            return;
        };
        // SAFETY: the range is exactly what `anonymous` mapped, and the advice changes the size of its pages but not what is in
        // them. Refused, it stays as it is.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
    }

    /// The largest power of two, up to the size of a block, at whose multiples all blocks begin.
    pub(crate) fn alignment(&self) -> usize {
        let address = self.base.as_ptr() as usize | BLOCK_BYTES;
        1 << address.trailing_zeros()
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> u32 {
        // `none_lent` refused what does not fit.
        u32::try_from(self.lent.len()).unwrap_or(u32::MAX - 1)
    }

    /// The bytes of a block; empty while it is lent.
    pub(crate) fn bytes(&self, block: u32) -> &[u8] {
        if self.lent[block as usize] {
            return &[];
        }
        let start = self.start_of(block);
        // SAFETY: `start_of` gives `BLOCK_BYTES` initialised bytes of one allocation (mappings start as zeros). The
        // block is not lent, so no `LoadBuffer` writes to it, and becoming lent needs `&mut self`, which the
        // returned borrow of `self` excludes.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), BLOCK_BYTES) }
    }

    /// Gives the only right to read and write the block to the returned value, until [`BlockMemory::take_back`].
    ///
    /// # Panics
    /// If the block is lent already: two owners of one block would be undefined behaviour, whoever caused it.
    pub(crate) fn lend(&mut self, block: u32) -> LoadBuffer {
        let lent = &mut self.lent[block as usize];
        assert!(!*lent, "block {block} is lent already");
        *lent = true;
        self.lent_now += 1;
        LoadBuffer {
            block,
            start: self.start_of(block),
        }
    }

    /// Ends the loan that `buffer` stands for.
    pub(crate) fn take_back(&mut self, buffer: LoadBuffer) {
        let lent = &mut self.lent[buffer.block as usize];
        debug_assert!(*lent, "block {} was not lent", buffer.block);
        *lent = false;
        self.lent_now -= 1;
    }

    fn start_of(&self, block: u32) -> NonNull<u8> {
        assert!((block as usize) < self.lent.len(), "no block {block}");
        // SAFETY: `none_lent` made one entry per whole block of the memory, so with `block` below their number the
        // offset and the `BLOCK_BYTES` after it are inside the one allocation at `base`.
        unsafe { self.base.add(block as usize * BLOCK_BYTES) }
    }
}

/// The table of loans for memory of `bytes`, in which nothing is lent.
fn none_lent(bytes: usize) -> io::Result<Box<[bool]>> {
    let blocks = bytes / BLOCK_BYTES;
    // u32::MAX itself means "no slot" in the lists.
    if blocks > 0 && u32::try_from(blocks).is_ok_and(|blocks| blocks < u32::MAX) {
        return Ok(vec![false; blocks].into_boxed_slice());
    }
    let problem = "block memory must hold at least one block of 64 KiB, and fewer than 2^32 - 1";
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

impl Drop for BlockMemory {
    fn drop(&mut self) {
        let Some(bytes) = self.mapped_bytes else {
            return;
        };
        // A loan that never came back may still be written to: then the address range is lost instead.
        if self.lent_now == 0 {
            // SAFETY: the range is exactly what `anonymous` mapped, borrows of it ended with `self`, and no
            // `LoadBuffer` is left. Nothing can be done about an error, and unmapping a valid range has none.
            let _ = unsafe { munmap(self.base.as_ptr().cast(), bytes) };
        }
    }
}

/// The only right to one block's bytes while a read fills it. Linear: goes back by [`BlockMemory::take_back`].
#[must_use = "a block that is not taken back is lost"]
pub(crate) struct LoadBuffer {
    block: u32,
    start: NonNull<u8>,
}

// SAFETY: a `LoadBuffer` is the only way to its block's bytes while it exists (rule of this module), so moving it
// moves that right as a whole. The memory outlives it: `BlockMemory` does not unmap while a loan is open.
unsafe impl Send for LoadBuffer {}

impl LoadBuffer {
    /// Which block it is.
    pub(crate) fn block(&self) -> u32 {
        self.block
    }

    /// The bytes of the block.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` has `BLOCK_BYTES` initialised bytes of one allocation behind it (`lend`), the memory is
        // mapped while this loan is open, and `&mut self` makes this the only slice of a block that only this value
        // may touch.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), BLOCK_BYTES) }
    }
}

impl fmt::Debug for LoadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadBuffer({})", self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_without_a_whole_block_is_refused() {
        let error = BlockMemory::anonymous(BLOCK_BYTES - 1).err();
        assert_eq!(
            error.map(|error| error.kind()),
            Some(io::ErrorKind::InvalidInput)
        );
    }

    #[test]
    fn a_lent_block_shows_nothing_and_comes_back_with_what_was_written() {
        let mut memory = BlockMemory::anonymous(2 * BLOCK_BYTES).expect("map");
        let mut buffer = memory.lend(1);
        assert!(memory.bytes(1).is_empty());
        buffer.bytes_mut().fill(7);
        memory.take_back(buffer);
        assert!(memory.bytes(1).iter().all(|&byte| byte == 7));
        assert!(memory.bytes(0).iter().all(|&byte| byte == 0));
    }

    #[test]
    #[should_panic(expected = "lent already")]
    fn a_block_cannot_be_lent_twice() {
        let mut memory = BlockMemory::anonymous(BLOCK_BYTES).expect("map");
        let _first = memory.lend(0);
        let _second = memory.lend(0);
    }

    #[test]
    fn a_loan_that_outlives_the_memory_still_points_to_memory() {
        let mut memory = BlockMemory::anonymous(BLOCK_BYTES).expect("map");
        let mut buffer = memory.lend(0);
        drop(memory);
        buffer.bytes_mut().fill(9);
        assert_eq!(buffer.bytes_mut()[BLOCK_BYTES - 1], 9);
    }

    #[test]
    fn blocks_of_given_memory_do_not_overlap() {
        let given = vec![0_u8; 3 * BLOCK_BYTES + 100].leak();
        let mut memory = BlockMemory::from_static(given).expect("take over");
        assert_eq!(memory.blocks(), 3);
        for block in 0..3_u8 {
            let mut buffer = memory.lend(block.into());
            buffer.bytes_mut().fill(block + 1);
            memory.take_back(buffer);
        }
        for block in 0..3_u8 {
            assert!(
                memory
                    .bytes(block.into())
                    .iter()
                    .all(|&byte| byte == block + 1)
            );
        }
    }
}
