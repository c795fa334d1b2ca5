//! The other side of the rings as far as system calls reach: an AF_XDP socket, or its twin in memory.
//!
//! The rings themselves do not know the difference; only waking, statistics and the file descriptor do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use libc::c_int;

use crate::stats::XdpStatistics;
use crate::syscall;

/// What a queue's system calls go to.
#[derive(Debug)]
pub(crate) enum Port {
    /// The kernel.
    Socket(OwnedFd),
    /// The twin.
    Memory(Arc<Switchboard>),
}

impl Port {
    /// For `poll()`.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(fd) => fd.as_fd(),
            Self::Memory(twin) => twin.event.as_fd(),
        }
    }

    /// Wakes the transmit side; the errno if that failed.
    #[inline]
    pub(crate) fn wake_tx(&self) -> Result<(), c_int> {
        match self {
            Self::Socket(fd) => syscall::wake_tx(fd.as_fd()),
            Self::Memory(twin) => twin.kick(),
        }
    }

    /// Wakes the receive side of a zero-copy socket. Its errors (interface down) show at the next kick.
    pub(crate) fn wake_rx(&self) {
        if let Self::Socket(fd) = self {
            let _ = syscall::wake_rx(fd.as_fd());
        }
    }

    /// Notes that the RX ring was found empty. True if it is worth another look.
    ///
    /// The kernel computes readiness from the ring; the twin's event must be cleared, and an injection between the
    /// look and the clearing would be slept through.
    #[inline]
    pub(crate) fn clear_event(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Memory(twin) => twin.clear_event(),
        }
    }

    /// What the other side counted.
    pub(crate) fn statistics(&self) -> io::Result<XdpStatistics> {
        match self {
            Self::Socket(fd) => {
                let zero = libc::xdp_statistics {
                    rx_dropped: 0,
                    rx_invalid_descs: 0,
                    tx_invalid_descs: 0,
                    rx_ring_full: 0,
                    rx_fill_ring_empty_descs: 0,
                    tx_ring_empty_descs: 0,
                };
                let s = syscall::get_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS, zero)?;
                Ok(XdpStatistics {
                    rx_dropped: s.rx_dropped,
                    rx_invalid_descs: s.rx_invalid_descs,
                    tx_invalid_descs: s.tx_invalid_descs,
                    rx_ring_full: s.rx_ring_full,
                    rx_fill_ring_empty_descs: s.rx_fill_ring_empty_descs,
                    tx_ring_empty_descs: s.tx_ring_empty_descs,
                })
            }
            Self::Memory(twin) => Ok(twin.statistics()),
        }
    }
}

/// What a queue and its twin share beside the rings: the answers to kicks, the counters, the event.
///
/// All of it is advice or counting, so `Relaxed` suffices: no memory is handed over by these values.
#[derive(Debug)]
pub(crate) struct Switchboard {
    event: File,
    pub(crate) next_errno: AtomicI32,
    pub(crate) stalled: AtomicBool,
    pub(crate) wedged: AtomicBool,
    pub(crate) kicks: AtomicU64,
    pub(crate) rx_dropped: AtomicU64,
    pub(crate) rx_ring_full: AtomicU64,
    pub(crate) rx_fill_ring_empty: AtomicU64,
    pub(crate) tx_invalid_descs: AtomicU64,
}

impl Switchboard {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            event: File::from(syscall::eventfd()?),
            next_errno: AtomicI32::new(0),
            stalled: AtomicBool::new(false),
            wedged: AtomicBool::new(false),
            kicks: AtomicU64::new(0),
            rx_dropped: AtomicU64::new(0),
            rx_ring_full: AtomicU64::new(0),
            rx_fill_ring_empty: AtomicU64::new(0),
            tx_invalid_descs: AtomicU64::new(0),
        })
    }

    /// Makes the queue's file descriptor readable.
    pub(crate) fn raise_event(&self) {
        // The counter cannot overflow in the life of a test, and a full one is readable anyway.
        let _ = (&self.event).write(&1_u64.to_ne_bytes());
    }

    fn clear_event(&self) -> bool {
        // "Would block" means that nothing was raised since the last time.
        (&self.event).read(&mut [0; 8]).is_ok()
    }

    fn kick(&self) -> Result<(), c_int> {
        self.kicks.fetch_add(1, Ordering::Relaxed);
        match self.next_errno.swap(0, Ordering::Relaxed) {
            0 if self.wedged.load(Ordering::Relaxed) => Err(libc::EINVAL),
            0 if self.stalled.load(Ordering::Relaxed) => Err(libc::EAGAIN),
            0 => Ok(()),
            errno => Err(errno),
        }
    }

    fn statistics(&self) -> XdpStatistics {
        XdpStatistics {
            rx_dropped: self.rx_dropped.load(Ordering::Relaxed),
            rx_invalid_descs: 0,
            tx_invalid_descs: self.tx_invalid_descs.load(Ordering::Relaxed),
            rx_ring_full: self.rx_ring_full.load(Ordering::Relaxed),
            rx_fill_ring_empty_descs: self.rx_fill_ring_empty.load(Ordering::Relaxed),
            tx_ring_empty_descs: 0,
        }
    }
}
