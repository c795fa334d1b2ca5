//! The service over kernel sockets: one epoll worker per CPU, each with its own listeners.

use core::net::SocketAddr;

use rustix::io::Errno;
use sluice_disk::{Disk, DiskConfig, Root};

use super::team::{Crew, Joined, Team};
use super::{
    Ended, Failure, Service, disk_problem, no_placement, served_root, services_config, summary,
    upload_limits,
};
use crate::clock::monotonic;
use crate::config::{Choice as _, Config};
use crate::kernel_backend::{KernelReport, KernelWorker, KernelWorkerConfig, Listener};
use crate::limits::{ActiveBackend, Limits, Sizing};
use crate::placement::{self, kernel_queues};
use crate::preflight::{Facts, Problem};
use crate::services::Services;
use crate::troubles::Troubles;

struct KernelService {
    workers: Team<KernelReport, Result<KernelWorker, Errno>>,
    description: String,
}

/// Starts the service.
pub(super) fn start(
    config: &Config,
    facts: &Facts,
    troubles: &Troubles,
) -> Result<Box<dyn Service>, Failure> {
    let cores = config.xdp.cores.as_deref();
    let queues = kernel_queues(&facts.cpus, cores);
    let plan =
        placement::plan(&facts.cpus, &queues, cores).map_err(|error| no_placement(&error))?;
    let limits = Limits::derive(
        config,
        &Sizing {
            backend: ActiveBackend::Kernel,
            workers: u32::try_from(queues.len()).unwrap_or(u32::MAX),
            descriptors: facts.privileges.descriptors,
        },
    );
    crate::descriptors::make_room(limits.descriptors);
    let root = served_root(config)?;
    let endpoints = config.endpoints(&config.kernel_addresses());
    let mut refused = Vec::new();
    // All before the first runs: what fails here fails without a thread to stop.
    let built: Vec<KernelWorker> = plan
        .seats
        .iter()
        .map(|_| worker(config, &limits, &root, &endpoints, troubles, &mut refused))
        .collect::<Result<_, _>>()?;
    for problem in &refused {
        super::log(&format!("warning: {problem}"));
    }
    let mut workers = Team::new();
    for (seat, worker) in plan.seats.iter().zip(built) {
        workers.spawn("sluice-k", seat, move |side| worker.run(side))?;
    }
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    Ok(Box::new(KernelService {
        description: format!(
            "backend=kernel workers={} serving {}",
            workers.len(),
            endpoints.join(" ")
        ),
        workers,
    }))
}

fn worker(
    config: &Config,
    limits: &Limits,
    root: &Root,
    endpoints: &[SocketAddr],
    troubles: &Troubles,
    refused: &mut Vec<Problem>,
) -> Result<KernelWorker, Failure> {
    let listeners: Vec<Listener> = listeners(config, endpoints)?;
    for listener in &listeners {
        refused.extend(choose_congestion(config, listener).filter(|new| !refused.contains(new)));
    }
    let disk_config = DiskConfig {
        threads: limits.worker.disk_threads as usize,
        files: limits.worker.files as usize,
        queue_depth: limits.worker.disk_queue as usize,
        direct_above: config.disk.direct_above,
        uploads: upload_limits(limits),
    };
    let bytes = usize::try_from(limits.queue.block_bytes).unwrap_or(usize::MAX);
    let disk = Disk::anonymous(bytes, &disk_config)
        .map_err(|error| disk_problem("cannot start the disk threads", &error))?;
    let services = Services::new(disk, root.clone(), &services_config(config, limits))
        .with_troubles(troubles.clone());
    let worker_config = KernelWorkerConfig {
        connections: limits.worker.connections as usize,
    };
    KernelWorker::new(&worker_config, listeners, services, monotonic())
        .map_err(|error| disk_problem("cannot make an epoll set", &error).into())
}

/// Listeners on every endpoint. Where no address was asked for, a machine without IPv6 is served over IPv4.
fn listeners(config: &Config, endpoints: &[SocketAddr]) -> Result<Vec<Listener>, Failure> {
    let by_default = config.listen_addresses.is_empty() && config.xdp.addresses.is_none();
    let mut listeners = Vec::new();
    for endpoint in endpoints {
        match Listener::bind(*endpoint) {
            Ok(listener) => listeners.push(listener),
            Err(error) if by_default && endpoint.is_ipv6() && error.errno == Errno::AFNOSUPPORT => {
            }
            Err(error) => {
                return Err(Problem::new(
                    error.to_string(),
                    "",
                    "free the port, or serve another: --port N",
                )
                .into());
            }
        }
    }
    Ok(listeners)
}

/// Has the connections of a listener use what the configuration says. Not if the kernel does not have it: they are
/// served all the same.
fn choose_congestion(config: &Config, listener: &Listener) -> Option<Problem> {
    let name = config.congestion_of(listener.address().port()).name();
    let errno = listener.set_congestion(name).err()?;
    let remedy = match errno {
        Errno::PERM => format!("add {name} to net.ipv4.tcp_allowed_congestion_control"),
        _ => format!("load it: modprobe tcp_{name}"),
    };
    Some(Problem::new(
        format!("this kernel does not let connections use {name} congestion control ({errno})"),
        "they use net.ipv4.tcp_congestion_control",
        remedy,
    ))
}

impl Service for KernelService {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn team(&self) -> &dyn Crew {
        &self.workers
    }

    /// Kernel sockets need nothing of ours between them and the clients.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }

    fn report(&mut self) -> String {
        let reports = self.workers.reports();
        let reports: Vec<&KernelReport> = reports.iter().map(|(_, report)| &**report).collect();
        summary::kernel(&reports)
    }

    fn stop(mut self: Box<Self>) -> Ended {
        let Joined {
            ended,
            mut problems,
        } = self.workers.join();
        let mut reports = Vec::new();
        for (_, result) in ended {
            match result {
                Ok(worker) => {
                    let mut report = KernelReport::default();
                    worker.report_into(&mut report);
                    reports.push(report);
                }
                Err(error) => {
                    problems.push(disk_problem("the epoll set of a worker broke", &error));
                }
            }
        }
        let reports: Vec<&KernelReport> = reports.iter().collect();
        Ended {
            report: summary::kernel(&reports),
            problems,
        }
    }
}
