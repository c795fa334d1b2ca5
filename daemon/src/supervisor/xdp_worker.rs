//! One worker from the configuration: UMEM, queue, disk, services and stack.

use core::net::SocketAddr;
use core::time::Duration;

use sluice_afxdp::{self as afxdp, Bound, GsoSocket, Queue, QueueConfig, Umem, UmemConfig};
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root};
use sluice_tcp::config::KeepAlive;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::ecn_terms::{EcnConfig, EcnLevel};
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::rtt::RtoConfig;
use sluice_tcp::skip::SkipConfig;
use sluice_tcp::{Autotune, StackConfig};
use sluice_wire::{ChecksumPolicy, MacAddr};

use super::{Failure, disk_problem, services_config, upload_limits};
use crate::clock::monotonic;
use crate::config::{self, Config};
use crate::limits::Limits;
use crate::preflight::{
    InterfaceFacts, Lane, LaneChoice, Problem, TxPath, lane_choice, metadata_hinders,
};
use crate::services::{Services, ServicesConfig};
use crate::troubles::Troubles;
use crate::worker::{Handoff, Poll, Worker, WorkerConfig};

/// Keep-alive probes after the first silence (Linux: 75 s apart, nine of them).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEP_ALIVE_PROBES: u8 = 9;

/// Blocks that straddle the ends of what is in flight.
const BLOCKS_AT_ENDS: usize = 2;

/// The lane of a queue, as it is bound.
pub(super) fn lane_of(
    lane: config::TxLane,
    link: &InterfaceFacts,
    bound: &Bound,
) -> Result<LaneChoice, Problem> {
    let path = TxPath {
        driver: link.driver(),
        zero_copy: bound.zero_copy,
        packet_frames: bound.max_packet_frames,
    };
    lane_choice(lane, &path)
}

/// Builds one worker per queue from the same ingredients.
pub(super) struct Builder<'a> {
    pub config: &'a Config,
    pub link: &'a InterfaceFacts,
    /// The program runs in the driver.
    pub is_native: bool,
    /// Address of the interface, which owned-address mode answers with.
    pub mac: MacAddr,
    pub limits: &'a Limits,
    /// See [`served_root`](super::served_root).
    pub root: Root,
    pub endpoints: &'a [SocketAddr],
    /// Checksums may be asked for in the metadata of a frame.
    pub tx_metadata: bool,
    pub secret: [u8; 32],
    pub hash_key: [u8; 16],
    pub troubles: &'a Troubles,
}

impl Builder<'_> {
    pub(super) fn worker(&self, queue: u32, handoff: Option<Handoff>) -> Result<Worker, Failure> {
        let queue_limits = &self.limits.queue;
        let mut umem = Umem::new(&UmemConfig {
            frames: queue_limits.frames.total(),
            block_bytes: usize::try_from(queue_limits.block_bytes).unwrap_or(usize::MAX),
            huge_pages: match self.config.xdp.huge_pages {
                config::HugePages::Auto => afxdp::HugePages::Auto,
                config::HugePages::Off => afxdp::HugePages::Off,
            },
            tx_metadata: self.tx_metadata
                && !metadata_hinders(self.config, self.link, self.is_native),
        })
        .map_err(|error| {
            Problem::new(
                format!("no memory for queue {queue} of {}", self.link.name),
                error.to_string(),
                "make xdp.umem smaller, or give the service more memory",
            )
        })?;
        let blocks = umem.take_blocks().unwrap_or_default();
        let opened = Queue::open(umem, &self.queue_config(queue)).map_err(|error| {
            Problem::new(
                format!("cannot open queue {queue} of {}", self.link.name),
                error.to_string(),
                error.fix(),
            )
        })?;
        let disk = Disk::new(blocks, &self.disk_config())
            .map_err(|error| disk_problem("cannot start the disk threads", &error))?;
        let services = Services::new(
            disk,
            self.root.clone(),
            &ServicesConfig {
                blocks_per_connection: self.config.tcp.send_buffer_max as usize / BLOCK_BYTES
                    + BLOCKS_AT_ENDS,
                ..services_config(self.config, self.limits)
            },
        )
        .with_troubles(self.troubles.clone());
        let lane = lane_of(self.config.xdp.tx_lane, self.link, &opened.bound())?.lane;
        let socket = match lane {
            Lane::Tso => self.gso_socket()?,
            Lane::Copy | Lane::Gather => None,
        };
        let config = self.worker_config(socket.is_some());
        let worker = Worker::new(config, opened, services, handoff, monotonic());
        Ok(match (lane, socket) {
            (_, Some(socket)) => worker.with_gso(socket),
            (Lane::Gather, None) => worker.with_gather(),
            (Lane::Copy | Lane::Tso, None) => worker,
        })
    }

    /// The socket of the TSO lane. Where the configuration leaves the choice, one that cannot be had is a warning.
    fn gso_socket(&self) -> Result<Option<GsoSocket>, Failure> {
        match GsoSocket::open(self.link.index, self.limits.queue.send_buffer) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) => {
                let problem = Problem::new(
                    format!("cannot open a packet socket on {}", self.link.name),
                    format!("{error}, and the TSO lane sends through one"),
                    "CAP_NET_RAW, and AF_PACKET in RestrictAddressFamilies= of the unit, or tx_lane = \"copy\"",
                );
                if self.config.xdp.tx_lane == config::TxLane::Tso {
                    return Err(problem.into());
                }
                super::log(&format!("warning: {problem}"));
                Ok(None)
            }
        }
    }

    fn queue_config(&self, queue: u32) -> QueueConfig {
        let limits = &self.limits.queue;
        QueueConfig {
            ifindex: self.link.index,
            queue,
            bind: match self.config.xdp.bind {
                // What a generic program redirects has left the driver and its zero-copy buffers behind; and packets that
                // need several of them are worth more than a copy.
                config::Bind::Auto if !self.is_native || !self.link.fits_zero_copy() => {
                    afxdp::Bind::Copy
                }
                config::Bind::Auto => afxdp::Bind::Auto,
                config::Bind::Copy => afxdp::Bind::Copy,
                config::Bind::ZeroCopy => afxdp::Bind::ZeroCopy,
            },
            rx_ring: limits.rx_ring,
            tx_ring: limits.tx_ring,
            fill_ring: limits.fill_ring,
            completion_ring: limits.completion_ring,
            multi_buffer: true,
            tx_budget: limits.tx_budget,
            send_buffer: limits.send_buffer,
        }
    }

    fn disk_config(&self) -> DiskConfig {
        let limits = &self.limits.worker;
        DiskConfig {
            threads: limits.disk_threads as usize,
            files: limits.files as usize,
            queue_depth: limits.disk_queue as usize,
            direct_above: self.config.disk.direct_above,
            uploads: upload_limits(self.limits),
        }
    }

    /// `makes_super_segments`: of the TSO lane.
    fn worker_config(&self, makes_super_segments: bool) -> WorkerConfig {
        let partial = self
            .config
            .xdp
            .checksum_rx
            .accepts_partial(self.link.has_software_peer());
        WorkerConfig {
            endpoints: self.endpoints.to_vec(),
            owned: self.config.xdp.owned_addresses.clone(),
            mac: self.mac,
            vlan: self.config.xdp.vlan,
            checksum_rx: if partial {
                ChecksumPolicy::AcceptPartial
            } else {
                ChecksumPolicy::Verify
            },
            poll: match self.config.xdp.poll {
                config::Poll::Adaptive => Poll::Adaptive,
                config::Poll::Interrupt => Poll::Interrupt,
                config::Poll::Busy => Poll::Busy,
            },
            stack: self.stack_config(makes_super_segments),
        }
    }

    fn stack_config(&self, makes_super_segments: bool) -> StackConfig {
        let limits = &self.limits.worker;
        StackConfig {
            connections: limits.connections,
            half_open: limits.half_open,
            time_wait: limits.time_wait,
            mtu: self.mtu(),
            receive_buffer: limits.input_bytes,
            send_limit: self.config.tcp.send_buffer_max,
            autotune: Some(Autotune {
                // A request head is all that a connection holds of its peer's bytes, but for an upload, whose blocks are
                // the budget.
                receive_max: self.upload_window().max(limits.input_bytes),
                receive_budget: 0,
                send_budget: self.limits.queue.block_bytes,
            }),
            congestion: algorithm(self.config.tcp.congestion),
            congestion_by_port: self
                .config
                .listen
                .iter()
                .filter_map(|listen| Some((listen.port, algorithm(listen.congestion?))))
                .collect(),
            pacing: Some(if makes_super_segments {
                PacingConfig::default()
            } else {
                PacingConfig::of_frames(self.mtu())
            }),
            // For peers that ask for it; no connection of ours is opened.
            ecn: EcnConfig {
                accept: match self.config.tcp.ecn {
                    config::Ecn::Accurate => EcnLevel::Accurate,
                    config::Ecn::Classic => EcnLevel::Classic,
                    config::Ecn::Off => EcnLevel::Off,
                },
                offer: EcnLevel::Off,
            },
            rto: RtoConfig::default().with_min(self.config.tcp.rto_min),
            keep_alive: self.config.tcp.keepalive.map(|idle| KeepAlive {
                idle,
                interval: KEEP_ALIVE_INTERVAL,
                probes: KEEP_ALIVE_PROBES,
            }),
            user_timeout: self.config.tcp.user_timeout,
            skip: Some(SkipConfig::default()),
            flow_hash_key: self.hash_key,
            secret: Secret::new(self.secret),
        }
    }

    /// Bytes of the largest window that an upload can have: from it follows the window scale.
    fn upload_window(&self) -> u32 {
        let limits = &self.limits.worker;
        match limits.uploads {
            0 => 0,
            _ => limits
                .upload_blocks_each
                .saturating_mul(u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX)),
        }
    }

    /// Bytes of the longest IP packet we build: the interface's, and `tcp.mss`. The worker lowers it to what the frames
    /// of its queue hold.
    fn mtu(&self) -> u16 {
        let by_mss = self
            .config
            .tcp
            .mss
            .map_or(u32::from(u16::MAX), |mss| u32::from(mss) + 40);
        u16::try_from(self.link.mtu.min(by_mss)).unwrap_or(u16::MAX)
    }
}

fn algorithm(choice: config::Congestion) -> Algorithm {
    match choice {
        config::Congestion::Cubic => Algorithm::Cubic,
        config::Congestion::NewReno => Algorithm::NewReno,
        config::Congestion::Dctcp => Algorithm::Dctcp,
        config::Congestion::Bbr => Algorithm::Bbr,
    }
}
