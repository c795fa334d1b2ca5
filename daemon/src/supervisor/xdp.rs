//! The AF_XDP service: program, queues, workers, in the order of start-up that loses no packet.
//!
//! Program loaded with empty slots (everything passes) -> port reservation -> per queue UMEM, socket, slot ->
//! threads running -> attach -> enabled: from then on our traffic without a socket is dropped instead of
//! reaching the kernel, which would answer RST. Down in reverse: the link goes last.

use core::net::SocketAddr;
use core::time::Duration;

use rustix::fd::{BorrowedFd, OwnedFd};
use sluice_afxdp as afxdp;
use sluice_tcp::clock::Instant;
use sluice_xdp_prog::{AttachMode, Attached, Endpoint, Reason, Steer, SteerConfig, SynGate};

use super::syn_guard::{Change, SynGuard};
use super::team::{Crew, Team};
use super::xdp_worker::Builder;
use super::{Failure, Service, disk_problem, no_placement, summary};
use crate::config::{self, Config};
use crate::limits::{ActiveBackend, Limits, Sizing};
use crate::placement;
use crate::preflight::{Facts, InterfaceFacts, Problem, reserve, served_addresses, served_queues};
use crate::worker::{Worker, WorkerReport, handoff_ring};

struct XdpService {
    workers: Team<WorkerReport, Worker>,
    steer: Steer,
    attached: Attached,
    /// Kernel sockets bound to our addresses and ports, never listening: nobody else can take them.
    reserved: Vec<OwnedFd>,
    description: String,
    syn_guard: SynGuard,
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
    let mut workers = Team::new();
    let mut bound = None;
    for seat in &plan.seats {
        let worker = builder.worker(seat.queue, handoffs.next())?;
        bound = Some(worker.queue().bound());
        insert(&steer, seat.queue, worker.queue().fd())?;
        let name = format!("sluice-w{}", seat.cpu);
        workers.spawn(name, seat.cpu, move |side| worker.run(side))?;
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
        syn_guard: SynGuard::new(syn_gate(config, queues.len())),
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

/// The rates of the SYN gate: each queue has an equal share, as with connections.
fn syn_gate(config: &Config, queues: usize) -> Option<SynGate> {
    let queues = u32::try_from(queues).unwrap_or(u32::MAX).max(1);
    (config.xdp.syn_gate == config::SynGate::Auto).then(|| SynGate {
        per_queue: config.limits.syn_rate.div_ceil(queues),
        per_source: config.limits.syn_rate_per_source,
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

impl XdpService {
    /// SYNs that the gate has dropped so far.
    fn gated(&self) -> u64 {
        let counters = self.steer.counters().unwrap_or_default();
        counters
            .iter()
            .filter(|(reason, _)| matches!(reason, Reason::SynRate | Reason::SynSourceRate))
            .map(|(_, frames)| frames)
            .sum()
    }

    fn apply(&mut self, change: Change, now: Instant, dropped: u64) {
        let (gate, what) = match change {
            Change::Arm(rates) => (Some(rates), "flood of SYNs: the XDP program limits them"),
            Change::Disarm => (None, "the flood of SYNs is over"),
        };
        match self.steer.set_syn_gate(gate) {
            Ok(()) => super::log(what),
            Err(error) => {
                super::log(&format!("warning: the SYN gate cannot be set: {error}"));
                self.syn_guard.failed(change, now, dropped);
            }
        }
    }
}

impl Service for XdpService {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn team(&self) -> &dyn Crew {
        &self.workers
    }

    fn tend(&mut self, now: Instant) -> Option<Duration> {
        let flooded = self.workers.is_flooded();
        let dropped = if self.syn_guard.is_armed() {
            self.gated()
        } else {
            0
        };
        if let Some(change) = self.syn_guard.judge(now, flooded, dropped) {
            self.apply(change, now, dropped);
        }
        self.syn_guard.next_look()
    }

    fn report(&mut self) -> String {
        let reports = self.workers.reports();
        let reports: Vec<&WorkerReport> = reports.iter().map(|report| &**report).collect();
        summary::xdp(&reports, &self.steer, self.attached.mode, &self.syn_guard)
    }

    fn stop(mut self: Box<Self>) -> Result<String, Failure> {
        let mut reports = Vec::new();
        for worker in self.workers.join()? {
            let mut report = WorkerReport::default();
            worker.fill(&mut report);
            reports.push(report);
        }
        let reports: Vec<&WorkerReport> = reports.iter().collect();
        let text = summary::xdp(&reports, &self.steer, self.attached.mode, &self.syn_guard);
        self.steer.detach();
        self.reserved.clear();
        Ok(text)
    }
}
