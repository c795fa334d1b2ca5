//! What the configuration implies: every capacity that is allocated at start, as a sum with a line per owner.
//!
//! [`config`](crate::config) holds what was written; this file answers "why this many". Nothing grows after
//! start, so each number here is the bound of something: frames of a UMEM, blocks of file data, entries of a
//! table, descriptors, locked bytes. [`Limits::derive`] asserts the relations between them; they hold for every
//! valid configuration (a property test walks the ranges), so an assertion that fires is a bug here.

use crate::config::Config;

/// Bytes of a UMEM chunk: one page, the largest chunk without huge-page alignment rules
/// (`Documentation/networking/af_xdp.rst`, "UMEM").
pub const CHUNK_BYTES: u32 = 4096;

/// Packet bytes in a received chunk: the kernel keeps `XDP_PACKET_HEADROOM` = 256 in front.
pub const CHUNK_PACKET_BYTES: u32 = CHUNK_BYTES - 256;

/// Chunks of one packet at most: `MAX_SKB_FRAGS` (17) and the linear part.
pub const CHAIN_FRAMES: u32 = 18;

/// Ethernet header and two VLAN tags.
pub const LINK_HEADER_BYTES: u32 = 14 + 2 * 4;

/// Largest MTU whose frames fit one chain.
pub const MTU_MAX: u32 = CHAIN_FRAMES * CHUNK_PACKET_BYTES - LINK_HEADER_BYTES;

/// Bytes of a file block, the unit of reading, caching and sending.
pub const BLOCK_BYTES: u64 = 65_536;

/// Entries of the rings, as a power of two: at 1 Mpps 64 last 64 us and 4096 last 4 ms.
const RING_MIN: u32 = 64;
const RING_MAX: u32 = 4096;

/// Received frames that are processed in one turn: enough to amortise a ring access, few enough that the
/// oldest does not wait for the processing of all others.
const RX_BATCH_MAX: u32 = 256;

/// `SO_SNDBUF` of the sockets: the default of 212,992 stalls copy mode at about 92 full frames.
const SEND_BUFFER_BYTES: usize = 16 << 20;

/// Files a worker holds open at most; connections that read the same file share one.
const FILES_MAX: u32 = 4096;

/// Reads queued for the helper threads of a worker; a power of two.
const DISK_QUEUE: u32 = 1024;

/// Helper threads of the process for reads at most, unless there are more workers, and again as many for uploads: enough
/// for the queues of several NVMe drives, and a machine with 128 CPUs does not get 512 of them.
const DISK_THREADS_PROCESS: u32 = 64;

/// Uploads of a worker at once, each with two descriptors and some 5 KiB.
const UPLOADS_MAX: u32 = 256;

/// Memory for requests and responses, which most of the connections do not have under way at the same time: buffers
/// for long heads as if every connection had one of 1 KiB, response queues (some 12 KiB) for a third of them.
const REQUEST_BYTES_EACH: u32 = 1 << 10;
const REQUEST_BYTES_MIN: u32 = 4 << 20;
const RESPONSE_BYTES_EACH: u32 = 4 << 10;
const RESPONSE_BYTES_MIN: u32 = 16 << 20;

/// Handshakes in progress per worker at most: beyond it SYN cookies cost less than state.
const HALF_OPEN_MAX: u32 = 4096;

/// Descriptors of the process outside the workers: standard streams, signals, netlink, logs, BPF program,
/// link and maps, port reservations, with room to spare.
const DESCRIPTORS_PROCESS: u64 = 128;

/// Descriptors of a worker besides its files and connections: AF_XDP or epoll, eventfds, timer, root.
const DESCRIPTORS_WORKER: u64 = 16;

/// What the numbers depend on besides the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizing {
    /// The backend that runs (never "auto").
    pub backend: ActiveBackend,
    /// Workers: bound queues, or threads of the kernel backend. At least 1.
    pub workers: u32,
    /// `RLIMIT_NOFILE` in effect (after it was raised); `None` is unlimited.
    pub descriptors: Option<u64>,
}

/// The backend that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveBackend {
    /// AF_XDP and our TCP.
    Xdp,
    /// Kernel sockets and epoll.
    Kernel,
}

/// All capacities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Number of workers.
    pub workers: u32,
    /// Rings and memory of one queue; with the kernel backend only the block memory is used.
    pub queue: QueueLimits,
    /// Tables of one worker.
    pub worker: WorkerLimits,
    /// Descriptors of the process at most.
    pub descriptors: u64,
    /// Bytes that the kernel locks for all UMEMs together; 0 with the kernel backend.
    pub memlock_bytes: u64,
}

/// One AF_XDP queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// Entries of the RX ring.
    pub rx_ring: u32,
    /// Entries of the TX ring.
    pub tx_ring: u32,
    /// Entries of the fill ring; as many as the RX ring measured best (Knot DNS).
    pub fill_ring: u32,
    /// Entries of the completion ring; every frame in flight needs one.
    pub completion_ring: u32,
    /// Frames taken from the RX ring in one turn.
    pub rx_batch: u32,
    /// Frames the kernel sends per kick (`XDP_MAX_TX_SKB_BUDGET`, 32 to the size of the TX ring).
    pub tx_budget: u32,
    /// `SO_SNDBUF` of the AF_XDP socket in bytes.
    pub send_buffer: usize,
    /// Chunks for frames.
    pub frames: FrameBudget,
    /// Memory for file blocks in bytes, a multiple of [`BLOCK_BYTES`].
    pub block_bytes: u64,
}

/// Who can hold frames at the same time. The pool is as large as the sum, so it is never the reason that
/// something stalls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameBudget {
    /// With the kernel, waiting for packets: the fill ring may be full.
    pub fill_ring: u32,
    /// Filled by the kernel, not yet taken: the RX ring may be full at the same time.
    pub rx_ring: u32,
    /// In processing.
    pub rx_batch: u32,
    /// The pieces of one packet whose last piece has not arrived.
    pub rx_chain: u32,
    /// Taken for one segment, not yet on the TX ring.
    pub tx_building: u32,
    /// On the TX ring, in the driver, or on the completion ring: bounded by the latter.
    pub tx_in_flight: u32,
    /// With uploads: lent to the disk until they are written.
    pub lent: u32,
    /// What is left of the UMEM after whole blocks; used as any other frame.
    pub spare: u32,
}

impl FrameBudget {
    /// `uploads`: whether received frames are lent to the disk.
    fn for_ring(ring: u32, uploads: bool) -> Self {
        Self {
            fill_ring: ring,
            rx_ring: ring,
            rx_batch: rx_batch(ring),
            rx_chain: CHAIN_FRAMES,
            tx_building: CHAIN_FRAMES,
            tx_in_flight: ring,
            lent: if uploads {
                upload_loans(ring) * CHAIN_FRAMES
            } else {
                0
            },
            spare: 0,
        }
    }

    /// All frames of the UMEM.
    #[must_use]
    pub fn total(&self) -> u32 {
        let Self {
            fill_ring,
            rx_ring,
            rx_batch,
            rx_chain,
            tx_building,
            tx_in_flight,
            lent,
            spare,
        } = self;
        fill_ring + rx_ring + rx_batch + rx_chain + tx_building + tx_in_flight + lent + spare
    }

    fn bytes(&self) -> u64 {
        u64::from(self.total()) * u64::from(CHUNK_BYTES)
    }
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Established connections.
    pub connections: u32,
    /// Handshakes in progress.
    pub half_open: u32,
    /// Connections in TIME-WAIT: as many as can close at once.
    pub time_wait: u32,
    /// Entries of the flow table: the three above.
    pub flows: u32,
    /// Ids of the timer wheel: one per flow.
    pub timers: u32,
    /// Files open at once.
    pub files: u32,
    /// Reads waiting for a helper thread.
    pub disk_queue: u32,
    /// Helper threads for reads that would block.
    pub disk_threads: u32,
    /// Input buffer of a connection in bytes: holds the largest request head.
    pub input_bytes: u32,
    /// Bytes of buffers for request heads longer than 512 bytes, at once.
    pub request_bytes: u32,
    /// Bytes of the queues of responses under way, at once.
    pub response_bytes: u32,
    /// Uploads at once; 0 where they are off.
    pub uploads: u32,
    /// Helper threads for uploads: as many again as for reads, which a slow fdatasync must not hold up.
    pub upload_threads: u32,
    /// Blocks that all uploads together hold: half of them, so that downloads have the other half.
    pub upload_blocks: u32,
    /// Blocks that one upload holds. Three quarters of that, so that the next has some while one stalls.
    pub upload_blocks_each: u32,
    /// Received packets that uploads have lent to the disk at once; 0 with the kernel backend, which receives into blocks.
    pub upload_loans: u32,
}

impl Limits {
    /// Works out every capacity.
    #[must_use]
    pub fn derive(config: &Config, sizing: &Sizing) -> Self {
        let workers = sizing.workers.max(1);
        let queue =
            QueueLimits::derive(config.xdp.umem_bytes, sizing.backend, config.upload.enabled);
        let blocks = u32::try_from(queue.block_bytes / BLOCK_BYTES).unwrap_or(u32::MAX);
        let mut worker =
            WorkerLimits::derive(config, sizing.backend, workers, sizing.descriptors, blocks);
        worker.upload_loans = queue.frames.lent / CHAIN_FRAMES;
        let memlock_bytes = match sizing.backend {
            ActiveBackend::Xdp => u64::from(workers) * (queue.frames.bytes() + queue.block_bytes),
            ActiveBackend::Kernel => 0,
        };
        let limits = Self {
            workers,
            descriptors: descriptors(&worker, sizing.backend, workers),
            queue,
            worker,
            memlock_bytes,
        };
        limits.check(config.xdp.umem_bytes);
        limits
    }

    /// The relations that the rest of the program relies on.
    fn check(&self, umem_bytes: u64) {
        let queue = &self.queue;
        for ring in [
            queue.rx_ring,
            queue.tx_ring,
            queue.fill_ring,
            queue.completion_ring,
        ] {
            assert!(ring.is_power_of_two(), "AF_XDP rings are powers of two");
        }
        assert!(
            queue.rx_batch >= CHAIN_FRAMES,
            "a batch holds the largest packet"
        );
        assert!(
            queue.rx_ring >= CHAIN_FRAMES,
            "the RX ring holds the largest packet"
        );
        assert!(
            (32..=queue.tx_ring).contains(&queue.tx_budget),
            "the kernel refuses other budgets"
        );
        assert!(
            queue.frames.bytes() + queue.block_bytes <= umem_bytes,
            "frames and blocks fit the configured memory"
        );
        assert!(queue.block_bytes >= BLOCK_BYTES, "at least one block");
        assert!(
            queue.block_bytes.is_multiple_of(BLOCK_BYTES),
            "whole blocks"
        );
        assert!(self.worker.connections > 0, "at least one connection");
    }
}

impl QueueLimits {
    /// Rings as large as fit half of the memory; the other half and what is left over are file blocks, which
    /// bound the distinct bytes in flight.
    fn derive(umem_bytes: u64, backend: ActiveBackend, uploads: bool) -> Self {
        let mut ring = RING_MAX;
        while ring > RING_MIN && FrameBudget::for_ring(ring, uploads).bytes() > umem_bytes / 2 {
            ring /= 2;
        }
        let mut frames = FrameBudget::for_ring(ring, uploads);
        let block_area = match backend {
            ActiveBackend::Xdp => umem_bytes - frames.bytes(),
            // No rings: everything is blocks.
            ActiveBackend::Kernel => umem_bytes,
        };
        let block_bytes = block_area / BLOCK_BYTES * BLOCK_BYTES;
        match backend {
            ActiveBackend::Xdp => {
                let rest = (block_area - block_bytes) / u64::from(CHUNK_BYTES);
                // Less than a block is left, so less than 16 chunks.
                frames.spare = u32::try_from(rest).unwrap_or(0);
            }
            ActiveBackend::Kernel => frames = FrameBudget::default(),
        }
        Self {
            rx_ring: ring,
            tx_ring: ring,
            fill_ring: ring,
            completion_ring: ring,
            rx_batch: rx_batch(ring),
            tx_budget: ring,
            send_buffer: SEND_BUFFER_BYTES,
            frames,
            block_bytes,
        }
    }
}

impl WorkerLimits {
    fn derive(
        config: &Config,
        backend: ActiveBackend,
        workers: u32,
        descriptors: Option<u64>,
        blocks: u32,
    ) -> Self {
        let wanted = config.limits.connections.div_ceil(workers);
        let share = descriptors
            .unwrap_or(u64::MAX)
            .saturating_sub(DESCRIPTORS_PROCESS)
            / u64::from(workers);
        let share = share.saturating_sub(DESCRIPTORS_WORKER);
        let upload_blocks = (blocks / 2).max(1);
        let uploads = match config.upload.enabled {
            // Each needs a block to go on.
            true => at_most(UPLOADS_MAX.min(wanted).min(upload_blocks), share / 8),
            false => 0,
        };
        let disk_threads = config
            .disk
            .threads
            .min(DISK_THREADS_PROCESS / workers)
            .max(1);
        let upload_threads = disk_threads.min(uploads);
        let share = share.saturating_sub(upload_descriptors(uploads, upload_threads));
        // A connection reads one file at a time. Of scarce descriptors files get a quarter where connections
        // need them too; half would starve connections that share a file.
        let (files, connections) = match backend {
            ActiveBackend::Xdp => (at_most(FILES_MAX.min(wanted), share), wanted),
            ActiveBackend::Kernel => {
                let files = at_most(FILES_MAX.min(wanted), share / 4);
                (files, at_most(wanted, share.saturating_sub(files.into())))
            }
        };
        let half_open = HALF_OPEN_MAX.min(connections);
        let time_wait = connections;
        let flows = connections + half_open + time_wait;
        Self {
            connections,
            half_open,
            time_wait,
            flows,
            timers: flows,
            files,
            disk_queue: DISK_QUEUE,
            disk_threads,
            uploads,
            upload_threads,
            upload_blocks,
            upload_blocks_each: (upload_blocks / 4 * 3).max(1),
            upload_loans: 0,
            input_bytes: config.limits.header_bytes,
            request_bytes: at_least(REQUEST_BYTES_MIN, REQUEST_BYTES_EACH, connections),
            response_bytes: at_least(RESPONSE_BYTES_MIN, RESPONSE_BYTES_EACH, connections),
        }
    }
}

/// Packets of 64 KiB that the disk may have: half as many bytes as the ring holds, which a thread writes in a millisecond.
fn upload_loans(ring: u32) -> u32 {
    ring / 32
}

/// Frames of a turn: a quarter of the ring, so that the kernel has room for new ones meanwhile, but never less
/// than the largest packet.
fn rx_batch(ring: u32) -> u32 {
    (ring / 4).clamp(CHAIN_FRAMES, RX_BATCH_MAX)
}

/// The smaller of both, but at least 1: a table without entries serves nobody, and so dire a shortage is
/// better reported by the system call that meets it.
fn at_most(value: u32, bound: u64) -> u32 {
    u32::try_from(bound).unwrap_or(u32::MAX).min(value).max(1)
}

/// So many bytes for each connection, but not less than `least`.
fn at_least(least: u32, each: u32, connections: u32) -> u32 {
    each.saturating_mul(connections).max(least)
}

/// File and directory of each upload; where one is published, the directory a second time.
fn upload_descriptors(uploads: u32, threads: u32) -> u64 {
    2 * u64::from(uploads) + u64::from(threads)
}

fn descriptors(worker: &WorkerLimits, backend: ActiveBackend, workers: u32) -> u64 {
    let connections = match backend {
        ActiveBackend::Xdp => 0,
        ActiveBackend::Kernel => worker.connections,
    };
    let each = DESCRIPTORS_WORKER
        + u64::from(worker.files)
        + u64::from(connections)
        + upload_descriptors(worker.uploads, worker.upload_threads);
    DESCRIPTORS_PROCESS + u64::from(workers) * each
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use proptest::prelude::*;

    fn config() -> Config {
        let overrides = Overrides {
            root: Some("/srv".into()),
            ..Overrides::default()
        };
        Config::load(None, &overrides).unwrap()
    }

    fn xdp(workers: u32) -> Sizing {
        Sizing {
            backend: ActiveBackend::Xdp,
            workers,
            descriptors: None,
        }
    }

    fn kernel(workers: u32, descriptors: u64) -> Sizing {
        Sizing {
            backend: ActiveBackend::Kernel,
            workers,
            descriptors: Some(descriptors),
        }
    }

    #[test]
    fn the_default_queue_splits_64_mib_into_frames_and_blocks() {
        let limits = Limits::derive(&config(), &xdp(1));
        assert_eq!(limits.queue.rx_ring, 2048);
        assert_eq!(limits.queue.rx_batch, 256);
        let frames = limits.queue.frames;
        assert_eq!(frames.total(), 3 * 2048 + 256 + 2 * 18 + frames.spare);
        assert_eq!(limits.queue.block_bytes / BLOCK_BYTES, 621);
        assert_eq!(limits.memlock_bytes, 64 << 20);
    }

    #[test]
    fn uploads_cost_nothing_while_they_are_off() {
        let limits = Limits::derive(&config(), &kernel(2, 10_000));
        assert_eq!(
            (limits.worker.uploads, limits.worker.upload_threads),
            (0, 0)
        );
    }

    #[test]
    fn uploads_have_half_of_the_blocks_and_each_can_have_one() {
        let mut config = config();
        config.upload.enabled = true;
        for umem in [4 << 20, 64 << 20] {
            config.xdp.umem_bytes = umem;
            let limits = Limits::derive(&config, &xdp(1));
            let blocks = limits.queue.block_bytes / BLOCK_BYTES;
            assert_eq!(u64::from(limits.worker.upload_blocks), blocks / 2);
            assert!(limits.worker.uploads <= limits.worker.upload_blocks);
            assert!(limits.worker.upload_blocks_each < limits.worker.upload_blocks);
        }
    }

    /// As docs/CONFIG.md has it: the blocks of an upload are its receive window.
    #[test]
    fn one_upload_has_a_window_for_ten_gbit_and_a_tenth_of_a_second_with_512_mib() {
        let window = |umem_mib: u64| {
            let mut config = config();
            config.upload.enabled = true;
            config.xdp.umem_bytes = umem_mib << 20;
            let limits = Limits::derive(&config, &xdp(1));
            u64::from(limits.worker.upload_blocks_each) * BLOCK_BYTES / 1_000_000
        };
        assert_eq!([window(64), window(512)], [13, 178]);
    }

    #[test]
    fn frames_that_uploads_lend_are_beside_those_of_the_rings() {
        let without = Limits::derive(&config(), &xdp(1));
        let mut config = config();
        config.upload.enabled = true;
        let limits = Limits::derive(&config, &xdp(1));
        let loans = limits.worker.upload_loans;
        assert!(loans > 0 && without.worker.upload_loans == 0);
        assert_eq!(limits.queue.frames.lent, loans * CHAIN_FRAMES);
        assert_eq!(limits.queue.rx_ring, without.queue.rx_ring);
        let kernel = Limits::derive(&config, &kernel(1, 1 << 20));
        assert_eq!(kernel.worker.upload_loans, 0);
    }

    #[test]
    fn an_upload_has_two_descriptors_and_a_third_while_a_thread_publishes_it() {
        let without = Limits::derive(&config(), &xdp(2));
        let mut config = config();
        config.upload.enabled = true;
        let limits = Limits::derive(&config, &xdp(2));
        let worker = limits.worker;
        assert!(worker.upload_threads > 1 && worker.upload_threads < worker.uploads);
        let of_uploads = 2 * u64::from(worker.uploads) + u64::from(worker.upload_threads);
        assert_eq!(limits.descriptors - without.descriptors, 2 * of_uploads);
    }

    #[test]
    fn the_descriptors_of_uploads_are_taken_from_the_others() {
        let mut config = config();
        config.upload.enabled = true;
        let limits = Limits::derive(&config, &kernel(1, 1024));
        assert!(limits.worker.uploads > 0);
        assert!(limits.descriptors <= 1024, "{}", limits.descriptors);
    }

    #[test]
    fn the_smallest_umem_fits_the_usual_memlock_limit_and_still_has_blocks() {
        let mut config = config();
        config.xdp.umem_bytes = 4 << 20;
        let limits = Limits::derive(&config, &xdp(1));
        assert_eq!(limits.queue.rx_ring, 128);
        assert!(limits.memlock_bytes <= 8 << 20);
        assert!(limits.queue.block_bytes / BLOCK_BYTES >= 32);
    }

    #[test]
    fn locked_memory_is_the_sum_over_the_queues() {
        assert_eq!(
            Limits::derive(&config(), &xdp(3)).memlock_bytes,
            3 * (64 << 20)
        );
    }

    #[test]
    fn the_kernel_backend_locks_nothing_and_uses_all_memory_for_blocks() {
        let limits = Limits::derive(&config(), &kernel(2, 1 << 20));
        assert_eq!(limits.memlock_bytes, 0);
        assert_eq!(limits.queue.block_bytes, 64 << 20);
        assert_eq!(limits.queue.frames.total(), 0);
    }

    #[test]
    fn connections_are_shared_by_the_workers() {
        assert_eq!(
            Limits::derive(&config(), &xdp(3)).worker.connections,
            21_846
        );
    }

    #[test]
    fn scarce_descriptors_bound_the_kernel_backend() {
        let limits = Limits::derive(&config(), &kernel(2, 4096));
        assert!(limits.descriptors <= 4096, "{limits:?}");
        assert!(limits.worker.connections > 1000, "{limits:?}");
        assert!(limits.worker.files > 100, "{limits:?}");
    }

    #[test]
    fn many_workers_share_the_helper_threads() {
        for (workers, threads) in [(1, 4), (16, 4), (32, 2), (64, 1), (128, 1)] {
            for sizing in [xdp(workers), kernel(workers, 1 << 20)] {
                let limits = Limits::derive(&config(), &sizing);
                assert_eq!(limits.worker.disk_threads, threads, "{workers} workers");
            }
        }
    }

    #[test]
    fn connections_of_our_own_tcp_need_no_descriptors() {
        let sizing = Sizing {
            descriptors: Some(1024),
            ..xdp(1)
        };
        let limits = Limits::derive(&config(), &sizing);
        assert_eq!(limits.worker.connections, 65_536);
        assert!(limits.descriptors <= 1024, "{limits:?}");
    }

    #[test]
    fn every_ethernet_mtu_fits_a_chain() {
        assert_eq!(MTU_MAX, 69_098);
    }

    proptest! {
        #[test]
        fn the_relations_hold_for_every_valid_configuration(
            umem in (4_u64 << 20)..=(16 << 30),
            connections in 1_u32..=4_194_304,
            workers in 1_u32..=1024,
            descriptors in proptest::option::of(0_u64..=1 << 21),
            is_kernel: bool,
        ) {
            let mut config = config();
            config.xdp.umem_bytes = umem;
            config.limits.connections = connections;
            let backend = if is_kernel { ActiveBackend::Kernel } else { ActiveBackend::Xdp };
            // `derive` asserts the relations itself.
            let limits = Limits::derive(&config, &Sizing { backend, workers, descriptors });
            prop_assert!(limits.memlock_bytes <= umem * u64::from(workers));
            prop_assert!(limits.worker.flows >= limits.worker.connections);
            prop_assert!(limits.queue.frames.spare < 16);
        }
    }
}
