//! The memory that packets live in: one mapping, cut into frames for the rings and an area for file blocks.
//!
//! ```text
//!   0                     frames * 4096                    + block_bytes
//!   | frame 0 | frame 1 | ... | block area (given out once, as a slice) |
//! ```
//!
//! The whole mapping is registered with the kernel, so a file block can later be named by a TX descriptor. It is
//! **never unmapped**: the block area is a `'static` slice, frames are addressed by pointer, and a driver may write to
//! a frame for some time after its socket was closed. A process that opens and closes queues for ever would grow;
//! Sluice opens its queues once.

use core::ptr::NonNull;
use std::io;

use crate::error::UmemError;
use crate::frame::FrameMemory;
use crate::syscall::{Advice, Mapping};
use crate::uapi::{CHUNK_BYTES, TX_HEADROOM};

/// Bytes of a huge page on every architecture with 4 KiB base pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// What a UMEM consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UmemConfig {
    /// Frames of [`CHUNK_BYTES`] for the rings, 64 to 2^20.
    pub frames: u32,
    /// Bytes of the area for file blocks, a multiple of [`CHUNK_BYTES`], possibly 0.
    pub block_bytes: usize,
    /// Whether to try for huge pages.
    pub huge_pages: HugePages,
    /// Whether to keep [`TX_METADATA_BYTES`](crate::TX_METADATA_BYTES) in front of every transmit buffer, so that
    /// the kernel or NIC can be asked to fill in checksums.
    pub tx_metadata: bool,
}

/// Whether to try for huge pages, which spare most TLB misses of a multi-megabyte UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Reserved huge pages if the pool has enough, else transparent ones, else ordinary pages.
    Auto,
    /// Ordinary pages, faulted in on first use.
    Off,
}

/// The packet memory of one queue. See the module documentation.
#[derive(Debug)]
pub struct Umem {
    start: NonNull<u8>,
    config: UmemConfig,
    blocks_taken: bool,
    huge_pages: bool,
}

// SAFETY: the memory belongs to the process, and `Umem` is the only one to hand out parts of it.
unsafe impl Send for Umem {}

impl Umem {
    /// The fewest frames that can hold a full packet in both directions with some to spare.
    pub const MIN_FRAMES: u32 = 64;
    /// The most frames (4 GiB): indices and lengths stay far from the limits of the kernel interface.
    pub const MAX_FRAMES: u32 = 1 << 20;

    /// Maps the memory. It is pinned, and charged against the memlock limit, when a queue is opened with it.
    ///
    /// # Errors
    /// [`UmemError::Config`] if a size is out of range, [`UmemError::Map`] if there is not enough memory.
    pub fn new(config: &UmemConfig) -> Result<Self, UmemError> {
        if !(Self::MIN_FRAMES..=Self::MAX_FRAMES).contains(&config.frames) {
            return Err(UmemError::Config("frames must be 64 to 1048576"));
        }
        if !config.block_bytes.is_multiple_of(CHUNK_BYTES) {
            return Err(UmemError::Config(
                "the block area must be a multiple of 4096 bytes",
            ));
        }
        let bytes = (config.frames as usize * CHUNK_BYTES)
            .checked_add(config.block_bytes)
            .filter(|&bytes| bytes <= isize::MAX as usize - 2 * HUGE_PAGE_BYTES)
            .ok_or(UmemError::Config("the block area is too large"))?;
        let (start, huge_pages) =
            map(bytes, config.huge_pages).map_err(|source| UmemError::Map { bytes, source })?;
        Ok(Self {
            start,
            config: *config,
            blocks_taken: false,
            huge_pages,
        })
    }

    /// The block area, zeroed; once, and None if it was taken or is empty.
    pub fn take_blocks(&mut self) -> Option<&'static mut [u8]> {
        if self.blocks_taken || self.config.block_bytes == 0 {
            return None;
        }
        self.blocks_taken = true;
        let start = self.start.as_ptr().wrapping_add(self.frames_bytes());
        // SAFETY: the area lies in the mapping behind the last frame, is initialised (the kernel zeroed it), and the
        // mapping is never unmapped. It is handed out once (flag above), no frame overlaps it, and no descriptor that
        // the kernel writes to ever names it: the fill ring gets frames only.
        Some(unsafe { core::slice::from_raw_parts_mut(start, self.config.block_bytes) })
    }

    /// Whether the whole memory lies on huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Frames for the rings.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.config.frames
    }

    /// Bytes of the area for file blocks.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.config.block_bytes
    }

    /// Offset of `bytes` in the UMEM, if it lies there completely: what a descriptor would name.
    #[must_use]
    pub fn offset_of(&self, bytes: &[u8]) -> Option<u64> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.start.as_ptr() as usize)?;
        let end = offset.checked_add(bytes.len())?;
        (end <= self.len()).then_some(offset as u64)
    }

    /// Bytes of frames and blocks together.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // there is no empty UMEM
    pub fn len(&self) -> usize {
        self.frames_bytes() + self.config.block_bytes
    }

    /// Bytes kept in front of every transmit buffer.
    pub(crate) fn tx_headroom(&self) -> u16 {
        if self.config.tx_metadata {
            TX_HEADROOM
        } else {
            0
        }
    }

    /// The area of the frames, for the ledger that tracks who owns each.
    pub(crate) fn frame_memory(&self) -> FrameMemory {
        // SAFETY: these are the first `frames` chunks of the mapping, which is initialised and never unmapped, and no
        // slice of the block area overlaps them. Only the queue that consumes this `Umem` asks, for itself and for its
        // twin, and `Frames` there decides who may touch which frame.
        unsafe { FrameMemory::new(self.start, self.config.frames) }
    }

    /// Where the block area begins in this process: for the twin, which lets the kernel read it.
    pub(crate) fn blocks_address(&self) -> usize {
        self.start.as_ptr().addr() + self.frames_bytes()
    }

    /// What to register with the kernel.
    #[cfg(not(loom))]
    pub(crate) fn registration(&self) -> libc::xdp_umem_reg {
        let metadata = self.config.tx_metadata;
        // Constants of this crate, far below 2^32.
        #[allow(clippy::cast_possible_truncation)]
        libc::xdp_umem_reg {
            addr: self.start.as_ptr() as u64,
            len: self.len() as u64,
            chunk_size: CHUNK_BYTES as u32,
            headroom: 0,
            flags: if metadata {
                libc::XDP_UMEM_TX_METADATA_LEN
            } else {
                0
            },
            tx_metadata_len: self.tx_headroom().into(),
        }
    }

    fn frames_bytes(&self) -> usize {
        self.config.frames as usize * CHUNK_BYTES
    }
}

/// Maps `bytes` that stay until the process ends; the flag says whether all of them lie on huge pages.
fn map(bytes: usize, huge_pages: HugePages) -> io::Result<(NonNull<u8>, bool)> {
    if huge_pages == HugePages::Off {
        let mapping = Mapping::anonymous(bytes, 0)?;
        let start = mapping.start();
        mapping.leak();
        return Ok((start, false));
    }
    let rounded = bytes.next_multiple_of(HUGE_PAGE_BYTES);
    if let Some(start) = map_reserved(rounded) {
        return Ok((start, true));
    }
    // One huge page more than needed, so that an aligned range lies inside. The surplus is address space only.
    let mapping = Mapping::anonymous(rounded + HUGE_PAGE_BYTES, 0)?;
    let misaligned = mapping.start().as_ptr() as usize % HUGE_PAGE_BYTES;
    let skip = (HUGE_PAGE_BYTES - misaligned) % HUGE_PAGE_BYTES;
    // Advice may be refused (no THP in this kernel): then these are ordinary pages, and `Collapse` says so.
    let _ = mapping.advise(skip, rounded, Advice::HugePage);
    mapping
        .advise(skip, rounded, Advice::Populate)
        .or_else(|error| {
            // Before Linux 5.14 the advice is unknown; the pages then come one by one.
            if error.raw_os_error() == Some(libc::EINVAL) {
                Ok(())
            } else {
                Err(error)
            }
        })?;
    let huge = mapping.advise(skip, rounded, Advice::Collapse).is_ok();
    let offset = skip as u64;
    let start = mapping
        .at::<u8>(offset, rounded)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
    mapping.leak();
    Ok((start, huge))
}

/// Memory from the pool of reserved huge pages, if it has enough.
fn map_reserved(bytes: usize) -> Option<NonNull<u8>> {
    let mapping = Mapping::anonymous(bytes, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB).ok()?;
    // A cgroup limit on huge pages strikes at the first touch, with a signal; populating turns that into an error.
    mapping.advise(0, bytes, Advice::Populate).ok()?;
    let start = mapping.start();
    mapping.leak();
    Some(start)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn config() -> UmemConfig {
        UmemConfig {
            frames: 64,
            block_bytes: 8192,
            huge_pages: HugePages::Off,
            tx_metadata: true,
        }
    }

    #[test]
    fn blocks_are_handed_out_once_and_lie_behind_the_frames() {
        let mut umem = Umem::new(&config()).expect("memory");
        let blocks = umem.take_blocks().expect("a block area was asked for");
        assert_eq!(blocks.len(), 8192);
        assert_eq!(umem.offset_of(blocks), Some(64 * 4096));
        assert_eq!(umem.offset_of(&blocks[4096..]), Some(65 * 4096));
        assert!(umem.take_blocks().is_none());
    }

    #[test]
    fn memory_elsewhere_has_no_offset() {
        let umem = Umem::new(&config()).expect("memory");
        assert_eq!(umem.offset_of(&[0; 16]), None);
    }

    #[test]
    fn auto_huge_pages_give_aligned_writable_memory_and_tell_the_truth() {
        let mut umem = Umem::new(&UmemConfig {
            block_bytes: 4 << 20,
            huge_pages: HugePages::Auto,
            ..config()
        })
        .expect("memory");
        assert_eq!(umem.start.as_ptr() as usize % HUGE_PAGE_BYTES, 0);
        let reported = umem.huge_pages();
        let blocks = umem.take_blocks().expect("a block area was asked for");
        blocks.fill(7);
        if reported {
            assert!(huge_bytes_of(umem.start) >= umem.len());
        }
    }

    /// Huge-page bytes of the mapping at `start`, as the kernel accounts them.
    fn huge_bytes_of(start: NonNull<u8>) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("own memory map");
        let address = start.as_ptr() as usize;
        let mut inside = false;
        for line in smaps.lines() {
            let first = line.split_whitespace().next().unwrap_or_default();
            if let Some((from, to)) = first.split_once('-') {
                let bounds = usize::from_str_radix(from, 16)
                    .ok()
                    .zip(usize::from_str_radix(to, 16).ok());
                if let Some((from, to)) = bounds {
                    inside = (from..to).contains(&address);
                }
            } else if inside && (first == "AnonHugePages:" || first == "Private_Hugetlb:") {
                let kib: usize = line
                    .split_whitespace()
                    .nth(1)
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0);
                if kib > 0 {
                    return kib * 1024;
                }
            }
        }
        0
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for bad in [
            UmemConfig {
                frames: 63,
                ..config()
            },
            UmemConfig {
                frames: Umem::MAX_FRAMES + 1,
                ..config()
            },
            UmemConfig {
                block_bytes: 4097,
                ..config()
            },
            UmemConfig {
                block_bytes: usize::MAX - 4095,
                ..config()
            },
        ] {
            assert!(
                matches!(Umem::new(&bad), Err(UmemError::Config(_))),
                "{bad:?}"
            );
        }
    }
}
