//! How the NIC in memory reads file blocks: through the kernel, as a real one does.
//!
//! Blocks have owners elsewhere in the process, and nothing but a promise ([`Queue::send_slice`](crate::Queue::send_slice))
//! keeps these from writing while a descriptor names their bytes. To make a reference to such bytes, or only to read them
//! here, would be undefined behaviour where the promise is broken. A system call that reads them is not: what was overwritten
//! comes out garbled, in memory as on a wire.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::syscall;
use crate::umem::Umem;

/// The block area, to be read and never written.
#[derive(Debug)]
pub(crate) struct BlockReader {
    /// Of the area in this process. A number, so that nothing here can read by way of it.
    address: usize,
    /// The same as descriptors count: from the start of the UMEM.
    start: u64,
    /// Behind its last byte.
    end: u64,
    /// Where bytes go on their way here.
    file: File,
}

impl BlockReader {
    pub(crate) fn new(umem: &Umem) -> io::Result<Self> {
        let end = umem.len() as u64;
        Ok(Self {
            address: umem.blocks_address(),
            start: end - umem.block_bytes() as u64,
            end,
            file: File::from(syscall::memory_file(c"sluice-nic")?),
        })
    }

    /// Fills `into` with what a descriptor of this address names. False if that is not all in the area.
    pub(super) fn read(&self, addr: u64, into: &mut [u8]) -> bool {
        let last = addr.checked_add(into.len() as u64);
        if addr < self.start || last.is_none_or(|last| last > self.end) {
            return false;
        }
        let Ok(place) = usize::try_from(addr - self.start) else {
            return false;
        };
        let written = syscall::write_from(self.file.as_fd(), self.address + place, into.len());
        // Whoever sees this has a kernel without room for a page of a file in memory.
        assert_eq!(written.ok(), Some(into.len()), "the kernel reads a block");
        let read = self.file.read_exact_at(into, 0);
        read.expect("what was written a moment ago");
        true
    }
}
