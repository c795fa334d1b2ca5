//! One safe function per system call, nothing else.
//!
//! Each wrapper states why the call cannot touch memory it was not given. Errors are the call's errno; what they mean
//! is decided by the callers.

use core::ffi::CStr;
use core::ptr::NonNull;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_void};

/// Messages that [`send_messages`] takes at most.
pub(crate) const MESSAGES_AT_ONCE: usize = 4;

/// Plain data that may cross the kernel border as bytes.
///
/// # Safety
/// The type has no padding, no pointer that the kernel would write through, and every bit pattern is a value of it.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers have no padding and no invalid value.
unsafe impl Plain for u32 {}
// SAFETY: as for u32.
unsafe impl Plain for c_int {}
// SAFETY: two u64 and four u32, no padding; the kernel reads through `addr` only under the rules of `umem.rs`.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: sixteen u64.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six u64.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: one u32.
unsafe impl Plain for libc::xdp_options {}

/// `socket(2)`, close-on-exec.
pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    own(fd)
}

/// `eventfd(2)`, non-blocking, close-on-exec, counting from zero.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    own(fd)
}

/// `memfd_create(2)`, close-on-exec: an empty file in memory.
pub(crate) fn memory_file(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with a NUL, and the kernel reads it during the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    own(fd)
}

/// `pwrite(2)` to the beginning of a file, of memory that is the kernel's to read and nobody's here: whatever stands at
/// `address` just then, or `EFAULT` where nothing is mapped. Returns how many bytes were written.
pub(crate) fn write_from(fd: BorrowedFd<'_>, address: usize, bytes: usize) -> io::Result<usize> {
    let start = core::ptr::without_provenance::<c_void>(address);
    // SAFETY: the kernel writes nothing in this process, and checks the range that it reads.
    let written = unsafe { libc::pwrite(fd.as_raw_fd(), start, bytes, 0) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// `setsockopt(2)` with a value of plain data.
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which the kernel reads during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            core::ptr::from_ref(value).cast::<c_void>(),
            socklen::<T>(),
        )
    };
    check(result).map(drop)
}

/// `sendmmsg(2)` on a socket that knows its peer, of at most [`MESSAGES_AT_ONCE`] messages, each in the pieces of a
/// vector. Returns how many were sent, at least one.
pub(crate) fn send_messages(fd: BorrowedFd<'_>, messages: &[&[IoSlice<'_>]]) -> io::Result<usize> {
    // SAFETY: numbers and pointers, of which none is also a value: no name, no control data, no pieces.
    let mut headers: [libc::mmsghdr; MESSAGES_AT_ONCE] = unsafe { core::mem::zeroed() };
    let mut count = 0;
    for (header, pieces) in headers.iter_mut().zip(messages) {
        // `IoSlice` has the layout of `iovec`, as its documentation says. The kernel does not write through it.
        header.msg_hdr.msg_iov = pieces.as_ptr().cast_mut().cast::<libc::iovec>();
        header.msg_hdr.msg_iovlen = pieces.len();
        count += 1;
    }
    // SAFETY: the first `count` headers name vectors of `messages`, whose pieces are borrowed until the call is over.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    check(sent).map(|sent| usize::try_from(sent).unwrap_or(0))
}

/// Whether `poll(2)` says that a socket takes more (`POLLOUT`); an error counts as that.
pub(crate) fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: the pointer names one entry, which lives until the call is over.
    let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
    ready != 0
}

/// `getsockopt(2)` into `value`, which the kernel must fill completely.
pub(crate) fn get_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    mut value: T,
) -> io::Result<T> {
    let mut length = socklen::<T>();
    // SAFETY: pointer and length describe `value`; the kernel writes at most `length` bytes, and T is `Plain`, so
    // whatever it writes is a value of T.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            core::ptr::from_mut(&mut value).cast::<c_void>(),
            &raw mut length,
        )
    };
    check(result)?;
    if length == socklen::<T>() {
        Ok(value)
    } else {
        // A shorter answer is an older kernel's structure.
        Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT))
    }
}

/// `bind(2)` of an AF_XDP socket.
pub(crate) fn bind_xdp(fd: BorrowedFd<'_>, address: &libc::sockaddr_xdp) -> io::Result<()> {
    // SAFETY: pointer and length describe `address`, which the kernel reads during the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            core::ptr::from_ref(address).cast::<libc::sockaddr>(),
            socklen::<libc::sockaddr_xdp>(),
        )
    };
    check(result).map(drop)
}

/// `bind(2)` of a packet socket to an interface, without a protocol: it receives nothing.
pub(crate) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let interface =
        c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let address = libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: 0,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: pointer and length describe `address`, which the kernel reads during the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            core::ptr::from_ref(&address).cast::<libc::sockaddr>(),
            socklen::<libc::sockaddr_ll>(),
        )
    };
    check(result).map(drop)
}

/// `AF_PACKET` in the width of the address structure.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 17
const AF_PACKET: u16 = libc::AF_PACKET as u16;

/// Wakes the transmit side of an AF_XDP socket: `sendto(2)` of nothing, `MSG_DONTWAIT`.
#[inline]
pub(crate) fn wake_tx(fd: BorrowedFd<'_>) -> Result<(), c_int> {
    // SAFETY: null pointers with length zero: nothing is read or written through them.
    let result = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            core::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            core::ptr::null(),
            0,
        )
    };
    if result >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

/// Wakes the receive side of a zero-copy AF_XDP socket: `recv(2)` of nothing, `MSG_DONTWAIT`.
pub(crate) fn wake_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a null pointer with length zero: nothing is written through it.
    let result =
        unsafe { libc::recv(fd.as_raw_fd(), core::ptr::null_mut(), 0, libc::MSG_DONTWAIT) };
    if result >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A mapping that is unmapped when dropped.
///
/// Only raw pointers into it are handed out ([`at`](Self::at)); whoever keeps one keeps the mapping beside it.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Anonymous private memory, zeroed, readable and writable. `flags` are added to `mmap`'s.
    pub(crate) fn anonymous(bytes: usize, flags: c_int) -> io::Result<Self> {
        Self::new(
            bytes,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    }

    /// The ring at page offset `offset` of an AF_XDP socket, faulted in.
    pub(crate) fn ring(fd: BorrowedFd<'_>, bytes: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::new(
            bytes,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn new(bytes: usize, flags: c_int, fd: c_int, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a null hint without MAP_FIXED makes the kernel choose a free range, so no existing memory changes.
        let start = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start)
            .map(|start| Self { start, bytes })
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }

    /// Gives advice about `[offset, offset + bytes)` of the mapping; never of a kind that changes its content.
    pub(crate) fn advise(&self, offset: usize, bytes: usize, advice: Advice) -> io::Result<()> {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset);
        let start = self.start.as_ptr().wrapping_byte_add(offset);
        // SAFETY: the range lies in this mapping (asserted), and no `Advice` discards or moves what is in it.
        let result = unsafe { libc::madvise(start, bytes, advice as c_int) };
        check(result).map(drop)
    }

    /// A pointer to `count` values of T at `offset`, if they lie inside and the offset is aligned for T.
    pub(crate) fn at<T>(&self, offset: u64, count: usize) -> Option<NonNull<T>> {
        let offset = usize::try_from(offset).ok()?;
        let end = count.checked_mul(size_of::<T>())?.checked_add(offset)?;
        let start = self.start.as_ptr().wrapping_byte_add(offset).cast::<T>();
        (end <= self.bytes && start.is_aligned())
            .then(|| NonNull::new(start))
            .flatten()
    }

    /// First address.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }

    /// Keeps the memory until the process ends.
    pub(crate) fn leak(self) {
        core::mem::forget(self);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is unmapped once; pointers from `at` are kept beside the mapping
        // by their owners and go with it.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// Kinds of [`Mapping::advise`]; none of them changes what the memory holds.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum Advice {
    /// Use transparent huge pages when faulting in.
    HugePage = libc::MADV_HUGEPAGE,
    /// Fault everything in now, with an error instead of a signal when that is impossible (Linux 5.14).
    Populate = libc::MADV_POPULATE_WRITE,
    /// Make the range huge pages now, or say that it cannot be done (Linux 6.1).
    Collapse = libc::MADV_COLLAPSE,
}

fn own(fd: c_int) -> io::Result<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: `fd` was just returned by the kernel for us alone and is not owned by anything else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: c_int) -> io::Result<c_int> {
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

const fn socklen<T>() -> libc::socklen_t {
    // Option structures are tens of bytes.
    #[allow(clippy::cast_possible_truncation)]
    let length = size_of::<T>() as libc::socklen_t;
    length
}
