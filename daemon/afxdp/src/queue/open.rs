//! Opening a queue on a real interface, in the order that works on every driver.
//!
//! Socket, UMEM, four rings, **fill ring filled**, bind, options. Filling comes before binding because drivers take
//! their first frames while they bind, some fail without, and virtio_net swaps its first packets. Everything the kernel
//! may silently decide otherwise (zero copy, checksum, budget, buffer) is read back into [`Bound`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use super::{Bind, BlockArea, FillDepth, Queue, QueueConfig};
use crate::error::OpenError;
use crate::netlink::{self, XskFeatures};
use crate::port::Port;
use crate::ring::{Consumer, Producer, Ring};
use crate::stats::{Bound, QueueCounters};
use crate::syscall::{self, Mapping};
use crate::uapi::{MAX_PACKET_FRAMES, XDP_MAX_TX_SKB_BUDGET};
use crate::umem::Umem;

/// Waits between attempts to bind a busy queue, 500 ms in all. The kernel releases the queue of a closed socket later,
/// 20 to 40 ms as measured, so a restart would otherwise fail on its own predecessor.
const BUSY_BACK_OFF_MS: [u64; 7] = [5, 10, 20, 40, 80, 160, 185];

impl Queue {
    /// Opens queue [`QueueConfig::queue`] of interface [`QueueConfig::ifindex`] over `umem`.
    ///
    /// The thread must be in the interface's network namespace. Needs `CAP_NET_RAW`, a memlock limit that fits the
    /// UMEM or `CAP_IPC_LOCK`, and `CAP_NET_ADMIN` for a send buffer above the system's limit. Blocks up to half a
    /// second while another socket gives up the queue. Packets arrive once [`fd`](Queue::fd) is in the XSKMAP.
    ///
    /// # Errors
    /// See [`OpenError`]; each variant's text says what to do.
    pub fn open(umem: Umem, config: &QueueConfig) -> Result<Self, OpenError> {
        config.check().map_err(OpenError::Config)?;
        check_queue_exists(config)?;
        let socket = syscall::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(no_socket)?;
        let fd = socket.as_fd();
        let metadata = register(fd, &umem)?;
        let rings = Rings::create(fd, config)?;
        let mut queue = Self {
            rx: Consumer::new(rings.rx),
            tx: Producer::new(rings.tx),
            fill: Producer::new(rings.fill),
            completion: Consumer::new(rings.completion),
            frames: QueueConfig::frames(&umem),
            // Until the mode is known: drivers take their first frames while they bind.
            fill_depth: FillDepth::full(config.fill_ring),
            blocks: BlockArea::of(&umem),
            bound: Bound {
                zero_copy: false,
                tx_checksum: metadata,
                multi_buffer: false,
                max_packet_frames: 1,
                huge_pages: umem.huge_pages(),
                tx_budget: None,
                need_wakeup: true,
                send_buffer: 0,
            },
            counters: QueueCounters::default(),
            completion_entries: config.completion_ring,
            tx_reserve: config.tx_reserve(&umem),
            tx_open: 0,
            rx_broken: false,
            umem,
            port: Port::Socket(socket),
        };
        queue.refill();
        queue.bound.multi_buffer = bind(queue.fd(), config)?;
        queue.read_back(config)?;
        Ok(queue)
    }

    /// Sets the options of a bound socket and notes what the kernel made of everything.
    fn read_back(&mut self, config: &QueueConfig) -> Result<(), OpenError> {
        let fd = self.port.fd();
        let options = libc::xdp_options { flags: 0 };
        let options = syscall::get_option(fd, libc::SOL_XDP, libc::XDP_OPTIONS, options)
            .map_err(OpenError::os("getsockopt(XDP_OPTIONS)"))?;
        let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        if !zero_copy {
            self.fill_depth = self.fill_depth.adapting();
        }
        let features = if zero_copy {
            netlink::xsk_features(config.ifindex).unwrap_or_default()
        } else {
            XskFeatures::default()
        };
        let budget = config.tx_budget();
        let has_budget = syscall::set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget);
        let send_buffer = set_send_buffer(fd, config.send_buffer)
            .map_err(OpenError::os("setsockopt(SO_SNDBUF)"))?;
        self.bound = Bound {
            zero_copy,
            tx_checksum: self.bound.tx_checksum && (!zero_copy || features.tx_checksum),
            max_packet_frames: max_packet_frames(self.bound.multi_buffer, zero_copy, features),
            tx_budget: has_budget.is_ok().then_some(budget),
            send_buffer,
            ..self.bound
        };
        Ok(())
    }
}

/// The four rings of a socket.
struct Rings {
    rx: Ring<crate::uapi::Desc>,
    tx: Ring<crate::uapi::Desc>,
    fill: Ring<u64>,
    completion: Ring<u64>,
}

impl Rings {
    fn create(fd: BorrowedFd<'_>, config: &QueueConfig) -> Result<Self, OpenError> {
        let sizes = [
            (libc::XDP_UMEM_FILL_RING, config.fill_ring),
            (libc::XDP_UMEM_COMPLETION_RING, config.completion_ring),
            (libc::XDP_RX_RING, config.rx_ring),
            (libc::XDP_TX_RING, config.tx_ring),
        ];
        for (name, entries) in sizes {
            syscall::set_option(fd, libc::SOL_XDP, name, &entries)
                .map_err(OpenError::os("setsockopt(ring size)"))?;
        }
        let offsets = syscall::get_option(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, NO_OFFSETS)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ENOPROTOOPT) => OpenError::KernelTooOld("rings with a need-wakeup flag"),
                _ => OpenError::Os {
                    call: "getsockopt(XDP_MMAP_OFFSETS)",
                    source,
                },
            })?;
        Ok(Self {
            rx: ring(fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, config.rx_ring)?,
            tx: ring(fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, config.tx_ring)?,
            fill: ring(
                fd,
                page_offset(libc::XDP_UMEM_PGOFF_FILL_RING),
                &offsets.fr,
                config.fill_ring,
            )?,
            completion: ring(
                fd,
                page_offset(libc::XDP_UMEM_PGOFF_COMPLETION_RING),
                &offsets.cr,
                config.completion_ring,
            )?,
        })
    }
}

const NO_RING: libc::xdp_ring_offset = libc::xdp_ring_offset {
    producer: 0,
    consumer: 0,
    desc: 0,
    flags: 0,
};
const NO_OFFSETS: libc::xdp_mmap_offsets = libc::xdp_mmap_offsets {
    rx: NO_RING,
    tx: NO_RING,
    fr: NO_RING,
    cr: NO_RING,
};

/// `libc` has two of the four page offsets in another type; all of them are below 2^33.
fn page_offset(offset: libc::c_ulonglong) -> libc::off_t {
    offset.cast_signed()
}

fn ring<T: Copy>(
    fd: BorrowedFd<'_>,
    page_offset: libc::off_t,
    offsets: &libc::xdp_ring_offset,
    entries: u32,
) -> Result<Ring<T>, OpenError> {
    // The entries lie behind the indices, so the ring ends where they end.
    let bytes = usize::try_from(offsets.desc)
        .ok()
        .and_then(|desc| desc.checked_add(entries as usize * size_of::<T>()))
        .ok_or(OpenError::KernelTooOld("rings of this layout"))?;
    let mapping = Mapping::ring(fd, bytes, page_offset).map_err(OpenError::os("mmap(ring)"))?;
    Ring::mapped(mapping, offsets, entries).ok_or(OpenError::KernelTooOld("rings of this layout"))
}

/// Registers the UMEM. Returns whether TX metadata is understood; a kernel without it still carries packets.
fn register(fd: BorrowedFd<'_>, umem: &Umem) -> Result<bool, OpenError> {
    let mut registration = umem.registration();
    let wanted = registration.tx_metadata_len > 0;
    let mut result = syscall::set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration);
    let refused = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EINVAL));
    if wanted && refused {
        registration.flags = 0;
        registration.tx_metadata_len = 0;
        result = syscall::set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration);
    }
    result.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOBUFS) => OpenError::Memlock {
            needed: registration.len,
        },
        _ => OpenError::Os {
            call: "setsockopt(XDP_UMEM_REG)",
            source,
        },
    })?;
    Ok(wanted && !refused)
}

/// Refuses queue numbers that `bind` may accept although the interface has no such channel in both directions.
fn check_queue_exists(config: &QueueConfig) -> Result<(), OpenError> {
    match netlink::channels(config.ifindex) {
        Ok(channels) if config.queue >= channels.rx || config.queue >= channels.tx => {
            Err(OpenError::NoSuchQueue {
                queue: config.queue,
                rx: Some(channels.rx),
                tx: Some(channels.tx),
            })
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            Err(OpenError::NoSuchInterface {
                ifindex: config.ifindex,
            })
        }
        // Fine, or the driver does not tell: `bind` decides.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Binds. Returns whether packets may span frames.
fn bind(fd: BorrowedFd<'_>, config: &QueueConfig) -> Result<bool, OpenError> {
    bind_as_far_as_possible(config, |flags| bind_patiently(fd, config, flags))
        .map_err(|source| bind_error(source, config))
}

/// Tries what is wanted in the order of its worth. `XDP_USE_SG` is given up where it is refused: by kernels before 6.6,
/// which call it an unknown flag (`EINVAL`), and by zero-copy drivers with one buffer per packet (`EOPNOTSUPP`).
///
/// [`Bind::Auto`] asks for zero copy by name: without a mode the kernel takes a refused `XDP_USE_SG` as a reason to
/// copy. Like the kernel it then copies whatever the driver had against it.
fn bind_as_far_as_possible(
    config: &QueueConfig,
    attempt: impl Fn(u16) -> io::Result<()>,
) -> io::Result<bool> {
    let in_mode = |mode: u16| {
        let flags = mode | libc::XDP_USE_NEED_WAKEUP;
        if config.multi_buffer {
            match attempt(flags | libc::XDP_USE_SG) {
                Err(error) if is_unsupported(&error) => {}
                result => return result.map(|()| true),
            }
        }
        attempt(flags).map(|()| false)
    };
    match config.bind {
        Bind::Copy => in_mode(libc::XDP_COPY),
        Bind::ZeroCopy => in_mode(libc::XDP_ZEROCOPY),
        Bind::Auto => match in_mode(libc::XDP_ZEROCOPY) {
            Err(error) if !concerns_copies_too(&error) => in_mode(libc::XDP_COPY),
            result => result,
        },
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// Errors of the interface or of our rights, not of zero copy.
fn concerns_copies_too(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::ENODEV | libc::ENXIO | libc::ENETDOWN | libc::EPERM)
    )
}

/// Waits for a queue that its last owner is still giving up.
fn bind_patiently(fd: BorrowedFd<'_>, config: &QueueConfig, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: AF_XDP,
        sxdp_flags: flags,
        sxdp_ifindex: config.ifindex,
        sxdp_queue_id: config.queue,
        sxdp_shared_umem_fd: 0,
    };
    let mut result = syscall::bind_xdp(fd, &address);
    for wait in BUSY_BACK_OFF_MS {
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                thread::sleep(Duration::from_millis(wait));
                result = syscall::bind_xdp(fd, &address);
            }
            _ => break,
        }
    }
    result
}

/// `AF_XDP` in the width of the address structure.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 44
const AF_XDP: u16 = libc::AF_XDP as u16;

fn bind_error(source: io::Error, config: &QueueConfig) -> OpenError {
    let &QueueConfig { ifindex, queue, .. } = config;
    match source.raw_os_error() {
        Some(libc::EBUSY) => OpenError::QueueBusy { ifindex, queue },
        Some(libc::ENODEV | libc::ENXIO) => OpenError::NoSuchInterface { ifindex },
        Some(libc::ENETDOWN) => OpenError::InterfaceDown { ifindex },
        // EINVAL too: an MTU that does not fit, or virtio without the platform flag.
        Some(libc::EOPNOTSUPP | libc::EINVAL) if config.bind == Bind::ZeroCopy => {
            OpenError::ZeroCopyUnsupported { ifindex, source }
        }
        Some(libc::EINVAL | libc::EOPNOTSUPP) => OpenError::BindRefused {
            ifindex,
            queue,
            source,
        },
        _ => OpenError::Os {
            call: "bind(AF_XDP)",
            source,
        },
    }
}

fn no_socket(source: io::Error) -> OpenError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::MissingCapability,
        Some(libc::EAFNOSUPPORT) => OpenError::KernelTooOld("sockets of family AF_XDP"),
        _ => OpenError::Os {
            call: "socket(AF_XDP)",
            source,
        },
    }
}

/// Raises the send buffer, by force if allowed, else as far as the system lets anybody. Returns what it is now.
pub(crate) fn set_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if wanted > 0 {
        syscall::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &wanted)
            .or_else(|_| syscall::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &wanted))?;
    }
    let now = syscall::get_option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, 0)?;
    Ok(usize::try_from(now).unwrap_or(0))
}

fn max_packet_frames(multi_buffer: bool, zero_copy: bool, features: XskFeatures) -> usize {
    match (multi_buffer, zero_copy) {
        (false, _) => 1,
        (true, false) => MAX_PACKET_FRAMES,
        (true, true) => features
            .zero_copy_frames
            .map_or(1, |frames| frames.clamp(1, 18) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_zero_copy_on_a_driver_without_is_named() {
        let config = QueueConfig {
            bind: Bind::ZeroCopy,
            ..QueueConfig::new(7, 0)
        };
        let error = bind_error(io::Error::from_raw_os_error(libc::EOPNOTSUPP), &config);
        assert!(matches!(
            error,
            OpenError::ZeroCopyUnsupported { ifindex: 7, .. }
        ));
        assert!(error.fix().contains("bind = \"auto\""), "{}", error.fix());
    }

    #[test]
    fn a_refused_socket_names_the_capability_and_an_unknown_family_the_kernel() {
        let error = no_socket(io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(error, OpenError::MissingCapability));
        assert!(error.fix().contains("CAP_NET_RAW"), "{}", error.fix());
        let error = no_socket(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        assert!(matches!(error, OpenError::KernelTooOld(_)));
    }

    #[test]
    fn a_zero_copy_packet_has_as_many_frames_as_the_driver_says() {
        let features = XskFeatures {
            tx_checksum: false,
            zero_copy_frames: Some(8),
        };
        assert_eq!(max_packet_frames(true, true, features), 8);
        assert_eq!(max_packet_frames(true, true, XskFeatures::default()), 1);
        assert_eq!(
            max_packet_frames(true, false, XskFeatures::default()),
            MAX_PACKET_FRAMES
        );
        assert_eq!(max_packet_frames(false, false, features), 1);
    }

    /// What `bind` of a kernel says that knows `known` and no other flag (`xsk_bind()`).
    fn kernel_with(known: u16) -> impl Fn(u16) -> io::Result<()> {
        move |flags| match flags & !known {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    #[test]
    fn a_kernel_without_multi_buffer_binds_without() {
        let since_5_4 = libc::XDP_COPY | libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP;
        let since_6_6 = since_5_4 | libc::XDP_USE_SG;
        for bind in [Bind::Auto, Bind::Copy, Bind::ZeroCopy] {
            let config = QueueConfig {
                bind,
                ..QueueConfig::new(7, 0)
            };
            let bound = |known| bind_as_far_as_possible(&config, kernel_with(known)).ok();
            assert_eq!(bound(since_5_4), Some(false));
            assert_eq!(bound(since_6_6), Some(true));
        }
    }

    #[test]
    fn zero_copy_with_one_buffer_per_packet_binds_without_multi_buffer() {
        let driver = |flags| match flags & (libc::XDP_USE_SG | libc::XDP_COPY) {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        };
        for bind in [Bind::Auto, Bind::ZeroCopy] {
            let config = QueueConfig {
                bind,
                ..QueueConfig::new(7, 0)
            };
            assert_eq!(bind_as_far_as_possible(&config, driver).ok(), Some(false));
        }
    }

    #[test]
    fn a_driver_without_zero_copy_is_copied_in_chains() {
        let driver = |flags| match flags & libc::XDP_ZEROCOPY {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        };
        let config = QueueConfig::new(7, 0);
        assert_eq!(bind_as_far_as_possible(&config, driver).ok(), Some(true));
    }

    #[test]
    fn what_a_driver_has_against_zero_copy_is_no_reason_not_to_copy() {
        for errno in [libc::ENOMEM, libc::ENOENT, libc::ENOSPC, libc::EINVAL] {
            let driver = |flags| match flags & libc::XDP_ZEROCOPY {
                0 => Ok(()),
                _ => Err(io::Error::from_raw_os_error(errno)),
            };
            let config = QueueConfig::new(7, 0);
            assert_eq!(bind_as_far_as_possible(&config, driver).ok(), Some(true));
            let forced = QueueConfig {
                bind: Bind::ZeroCopy,
                ..QueueConfig::new(7, 0)
            };
            assert!(bind_as_far_as_possible(&forced, driver).is_err());
        }
    }

    #[test]
    fn a_busy_queue_is_not_tried_in_another_way() {
        let attempts = core::cell::Cell::new(0);
        let busy = |_| {
            attempts.set(attempts.get() + 1);
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        };
        let error = bind_as_far_as_possible(&QueueConfig::new(7, 0), busy).expect_err("busy");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(attempts.get(), 1);
    }

    #[test]
    fn the_back_off_is_half_a_second() {
        assert_eq!(BUSY_BACK_OFF_MS.iter().sum::<u64>(), 500);
    }
}
