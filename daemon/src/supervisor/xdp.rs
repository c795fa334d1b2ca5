//! The AF_XDP service: program, queues, workers, in the order of start-up that loses no packet.
//!
//! Program loaded with empty slots (everything passes) -> port reservation -> per queue UMEM, socket, slot ->
//! threads running -> attach -> enabled: from then on our traffic without a socket is dropped instead of
//! reaching the kernel, which would answer RST. Down in reverse: the link goes last.

use core::net::SocketAddr;
use core::time::Duration;
use std::thread;

use rustix::fd::{BorrowedFd, OwnedFd};
use sluice_afxdp::{self as afxdp, Queue, QueueConfig, Umem, UmemConfig};
use sluice_disk::{Disk, DiskConfig};
use sluice_tcp::StackConfig;
use sluice_tcp::config::KeepAlive;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::rtt::RtoConfig;
use sluice_wire::{ChecksumPolicy, MacAddr};
use sluice_xdp_prog::{AttachMode, Attached, Endpoint, Steer, SteerConfig};

use super::{
    Failure, Running, Service, disk_problem, drain_all, no_placement, pin_to, served_root,
    services_config, summary, worker_died,
};
use crate::clock::monotonic;
use crate::config::{self, Config};
use crate::control::channel;
use crate::limits::{ActiveBackend, Limits, Sizing};
use crate::placement;
use crate::preflight::{Facts, InterfaceFacts, Problem, reserve, served_addresses, served_queues};
use crate::services::Services;
use crate::worker::{Handoff, Poll, Worker, WorkerConfig, WorkerReport, handoff_ring};

/// The address of the interface, which owned-address mode answers with. Zero if sysfs has none.
fn interface_mac(name: &str) -> MacAddr {
    let text =
        std::fs::read_to_string(format!("/sys/class/net/{name}/address")).unwrap_or_default();
    let mut octets = [0u8; 6];
    for (octet, digits) in octets.iter_mut().zip(text.trim().split(':')) {
        *octet = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    MacAddr(octets)
}

/// Keep-alive probes after the first silence (Linux: 75 s apart, nine of them).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEP_ALIVE_PROBES: u8 = 9;

struct XdpService {
    workers: Vec<Running<WorkerReport, Worker>>,
    steer: Steer,
    attached: Attached,
    /// Kernel sockets bound to our addresses and ports, never listening: nobody else can take them.
    reserved: Vec<OwnedFd>,
    description: String,
    draining: core::cell::Cell<bool>,
}

/// Starts the service.
pub(super) fn start(config: &Config, facts: &Facts) -> Result<Box<dyn Service>, Failure> {
    let Some(Ok(link)) = &facts.interface else {
        return Err(Problem::new(
            "no interface",
            "AF_XDP takes packets from the queues of one",
            "name it: --interface NAME",
        )
        .into());
    };
    let queues = served_queues(config, link);
    let plan = placement::plan(&facts.cpus, &queues, config.xdp.cores.as_deref())
        .map_err(|error| no_placement(&error))?;
    let limits = Limits::derive(
        config,
        &Sizing {
            backend: ActiveBackend::Xdp,
            workers: u32::try_from(queues.len()).unwrap_or(u32::MAX),
            descriptors: facts.privileges.descriptors,
        },
    );
    let endpoints = config.endpoints(&served_addresses(config, link));
    let reserved = reserve_ports(facts)?;
    let mut steer = load(config, link, &queues, &endpoints)?;
    let builder = Builder {
        config,
        link,
        limits: &limits,
        endpoints: &endpoints,
        secret: random()?,
        hash_key: random()?,
    };
    let mut handoffs = handoff_ring(queues.len(), parcel_len(link))
        .map_err(|error| disk_problem("cannot connect the workers", &error))?
        .into_iter();
    let mut workers = Vec::new();
    let mut bound = None;
    for seat in &plan.seats {
        let worker = builder.worker(seat.queue, handoffs.next())?;
        bound = Some(worker.queue().bound());
        insert(&steer, seat.queue, worker.queue().fd())?;
        workers.push(spawn(worker, seat.cpu)?);
    }
    let attached = steer
        .attach(link.index, attach_mode(config))
        .map_err(|error| {
            Problem::new(
                format!("cannot attach the XDP program to {}", link.name),
                error.to_string(),
                "see the message; `bpftool net` lists what is attached where",
            )
        })?;
    steer.set_enabled(true).map_err(|error| {
        Problem::new(
            "cannot enable the XDP program",
            error.to_string(),
            "this is a bug",
        )
    })?;
    if let Some(warning) = &attached.warning {
        super::log(&format!("warning: {warning}"));
    }
    let description = bound.map_or_else(String::new, |bound| {
        describe(link, &attached, &bound, &queues, &endpoints)
    });
    Ok(Box::new(XdpService {
        workers,
        steer,
        attached,
        reserved,
        description,
        draining: core::cell::Cell::new(false),
    }))
}

fn describe(
    link: &InterfaceFacts,
    attached: &Attached,
    bound: &afxdp::Bound,
    queues: &[u32],
    endpoints: &[SocketAddr],
) -> String {
    let bind = if bound.zero_copy { "zero-copy" } else { "copy" };
    let checksum = if bound.tx_checksum {
        "offload"
    } else {
        "software"
    };
    let pages = if bound.huge_pages { "huge" } else { "4k" };
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!(
        "backend=xdp interface={} driver={} mtu={} attach={} bind={bind} checksum={checksum} \
         multi_buffer={} pages={pages} queues={queues:?} serving {}",
        link.name,
        link.driver(),
        link.mtu,
        attached.mode.name(),
        bound.multi_buffer,
        endpoints.join(" ")
    )
}

fn reserve_ports(facts: &Facts) -> Result<Vec<OwnedFd>, Failure> {
    facts
        .xdp_ports
        .iter()
        .map(|(endpoint, _)| {
            reserve(*endpoint).map_err(|error| {
                Problem::new(
                    format!("cannot reserve {endpoint}"),
                    error.to_string(),
                    "stop the program that has the port (ss -ltnp), or serve another",
                )
                .into()
            })
        })
        .collect()
}

fn load(
    config: &Config,
    link: &InterfaceFacts,
    queues: &[u32],
    endpoints: &[SocketAddr],
) -> Result<Steer, Failure> {
    let steer_config = SteerConfig {
        endpoints: endpoints
            .iter()
            .map(|endpoint| Endpoint {
                address: endpoint.ip(),
                port: endpoint.port(),
            })
            .collect(),
        owned: config.xdp.owned_addresses.clone(),
        vlan: config.xdp.vlan,
        queues: queues.iter().max().map_or(1, |last| last + 1),
        pin: None,
    };
    Steer::load(&steer_config).map_err(|error| {
        Problem::new(
            format!("cannot load the XDP program for {}", link.name),
            error.to_string(),
            "CAP_BPF and CAP_NET_ADMIN are needed, and a kernel of 6.0 or newer",
        )
        .into()
    })
}

fn insert(steer: &Steer, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Failure> {
    steer.insert_socket(queue, socket).map_err(|error| {
        Problem::new(
            format!("cannot give queue {queue} to the XDP program"),
            error.to_string(),
            "this is a bug",
        )
        .into()
    })
}

fn attach_mode(config: &Config) -> AttachMode {
    match config.xdp.attach {
        config::Attach::Auto => AttachMode::Auto,
        config::Attach::Native => AttachMode::Native,
        config::Attach::Generic => AttachMode::Generic,
    }
}

/// The longest frame another worker may have to be given: a whole packet of the interface, or what GRO merged.
fn parcel_len(link: &InterfaceFacts) -> usize {
    link.mtu as usize + crate::limits::LINK_HEADER_BYTES as usize
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0u8; N];
    // Up to 256 bytes come whole (getrandom(2)).
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).map_err(
        |error| {
            Problem::new(
                "no random numbers for keys",
                error.to_string(),
                "getrandom(2) must be allowed",
            )
        },
    )?;
    Ok(bytes)
}

fn spawn(worker: Worker, cpu: u32) -> Result<Running<WorkerReport, Worker>, Failure> {
    let (control, side) =
        channel().map_err(|error| disk_problem("cannot make a control channel", &error))?;
    let thread = thread::Builder::new()
        .name(format!("sluice-w{cpu}"))
        .spawn(move || {
            pin_to(cpu);
            worker.run(side)
        })
        .map_err(|error| disk_problem("cannot start a worker thread", &error))?;
    Ok(Running { control, thread })
}

/// Builds one worker per queue from the same ingredients.
struct Builder<'a> {
    config: &'a Config,
    link: &'a InterfaceFacts,
    limits: &'a Limits,
    endpoints: &'a [SocketAddr],
    secret: [u8; 32],
    hash_key: [u8; 16],
}

impl Builder<'_> {
    fn worker(&self, queue: u32, handoff: Option<Handoff>) -> Result<Worker, Failure> {
        let queue_limits = &self.limits.queue;
        let mut umem = Umem::new(&UmemConfig {
            frames: queue_limits.frames.total(),
            block_bytes: usize::try_from(queue_limits.block_bytes).unwrap_or(usize::MAX),
            huge_pages: match self.config.xdp.huge_pages {
                config::HugePages::Auto => afxdp::HugePages::Auto,
                config::HugePages::Off => afxdp::HugePages::Off,
            },
            tx_metadata: true,
        })
        .map_err(|error| {
            Problem::new(
                format!("no memory for queue {queue}"),
                error.to_string(),
                "make xdp.umem smaller",
            )
        })?;
        let blocks = umem.take_blocks().unwrap_or_default();
        let opened = Queue::open(umem, &self.queue_config(queue)).map_err(|error| {
            Problem::new(
                format!("cannot open queue {queue} of {}", self.link.name),
                error.to_string(),
                "see the message",
            )
        })?;
        let disk = Disk::new(blocks, &self.disk_config())
            .map_err(|error| disk_problem("cannot start the disk threads", &error))?;
        let services = Services::new(
            disk,
            served_root(self.config)?,
            &services_config(self.config, self.limits),
        );
        let worker = self.worker_config(opened.bound().multi_buffer);
        Ok(Worker::new(worker, opened, services, handoff, monotonic()))
    }

    fn queue_config(&self, queue: u32) -> QueueConfig {
        let limits = &self.limits.queue;
        QueueConfig {
            ifindex: self.link.index,
            queue,
            bind: match self.config.xdp.bind {
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
        }
    }

    fn worker_config(&self, multi_buffer: bool) -> WorkerConfig {
        let partial = self
            .config
            .xdp
            .checksum_rx
            .accepts_partial(self.link.is_virtual());
        WorkerConfig {
            endpoints: self.endpoints.to_vec(),
            owned: self.config.xdp.owned_addresses.clone(),
            mac: interface_mac(&self.link.name),
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
            stack: self.stack_config(multi_buffer),
        }
    }

    fn stack_config(&self, multi_buffer: bool) -> StackConfig {
        let limits = &self.limits.worker;
        StackConfig {
            connections: limits.connections,
            half_open: limits.half_open,
            time_wait: limits.time_wait,
            mtu: self.mtu(multi_buffer),
            receive_buffer: limits.input_bytes,
            send_limit: u32::try_from(SEND_LIMIT).unwrap_or(u32::MAX),
            congestion: match self.config.tcp.congestion {
                config::Congestion::Cubic => Algorithm::Cubic,
                config::Congestion::NewReno => Algorithm::NewReno,
                config::Congestion::Dctcp => Algorithm::Dctcp,
                config::Congestion::Bbr => Algorithm::Bbr,
            },
            pacing: Some(PacingConfig::default()),
            // As Linux by default: for peers that ask for it.
            ecn: true,
            rto: RtoConfig::default(),
            keep_alive: self.config.tcp.keepalive.map(|idle| KeepAlive {
                idle,
                interval: KEEP_ALIVE_INTERVAL,
                probes: KEEP_ALIVE_PROBES,
            }),
            flow_hash_key: self.hash_key,
            secret: Secret::new(self.secret),
        }
    }

    /// Bytes of the longest IP packet we build: the interface's, what fits the frames, and `tcp.mss`.
    fn mtu(&self, multi_buffer: bool) -> u16 {
        let frames = if multi_buffer {
            crate::worker::TX_FRAMES_MAX
        } else {
            1
        };
        let room = frames * crate::limits::CHUNK_PACKET_BYTES as usize
            - crate::limits::LINK_HEADER_BYTES as usize;
        let by_mss = self
            .config
            .tcp
            .mss
            .map_or(u32::from(u16::MAX), |mss| u32::from(mss) + 40);
        let mtu = self
            .link
            .mtu
            .min(by_mss)
            .min(u32::try_from(room).unwrap_or(u32::MAX));
        u16::try_from(mtu).unwrap_or(u16::MAX)
    }
}

/// Bytes in flight on one connection at most: the blocks it may pin, less two that straddle its ends.
const SEND_LIMIT: usize = (crate::services::BLOCKS_PER_CONNECTION - 2) * sluice_disk::BLOCK_BYTES;

impl Service for XdpService {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn drain(&self, patience: Duration) {
        self.draining.set(true);
        drain_all(&self.workers, patience);
    }

    fn finished(&self) -> bool {
        self.workers.iter().all(|worker| worker.control.finished())
    }

    fn failed(&self) -> bool {
        !self.draining.get() && self.workers.iter().any(|worker| worker.control.finished())
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.workers
            .iter()
            .filter(|worker| !worker.control.finished())
            .map(|worker| worker.control.report_fd())
            .collect()
    }

    fn report(&mut self) -> String {
        let reports: Vec<_> = self
            .workers
            .iter()
            .filter_map(|worker| worker.report(Box::default()))
            .collect();
        let reports: Vec<&WorkerReport> = reports.iter().map(|report| &**report).collect();
        summary::xdp(&reports, &self.steer, self.attached.mode)
    }

    fn stop(mut self: Box<Self>) -> Result<String, Failure> {
        let mut reports = Vec::new();
        for running in self.workers.drain(..) {
            let worker = running.thread.join().map_err(|_| worker_died())?;
            let mut report = WorkerReport::default();
            worker.fill(&mut report);
            reports.push(report);
        }
        let reports: Vec<&WorkerReport> = reports.iter().collect();
        let text = summary::xdp(&reports, &self.steer, self.attached.mode);
        self.steer.detach();
        self.reserved.clear();
        Ok(text)
    }
}
