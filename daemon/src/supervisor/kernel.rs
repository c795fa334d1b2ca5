//! The service over kernel sockets: one epoll worker per CPU, each with its own listeners.

use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::thread;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use sluice_disk::{Disk, DiskConfig};

use super::{
    Failure, Running, Service, disk_problem, drain_all, no_placement, pin_to, served_root,
    services_config, summary, worker_died,
};
use crate::clock::monotonic;
use crate::config::Config;
use crate::control::channel;
use crate::kernel_backend::{KernelReport, KernelWorker, KernelWorkerConfig, Listener};
use crate::limits::{ActiveBackend, Limits, Sizing};
use crate::placement::{self, kernel_queues};
use crate::preflight::{Facts, Problem};
use crate::services::Services;

struct KernelService {
    workers: Vec<Running<KernelReport, Result<KernelWorker, Errno>>>,
    description: String,
    draining: Cell<bool>,
}

/// Starts the service.
pub(super) fn start(config: &Config, facts: &Facts) -> Result<Box<dyn Service>, Failure> {
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
    let endpoints = config.endpoints(&config.kernel_addresses());
    let mut workers = Vec::new();
    for seat in &plan.seats {
        let worker = worker(config, &limits, &endpoints)?;
        workers.push(spawn(worker, seat.cpu)?);
    }
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    Ok(Box::new(KernelService {
        description: format!(
            "backend=kernel workers={} serving {}",
            workers.len(),
            endpoints.join(" ")
        ),
        workers,
        draining: Cell::new(false),
    }))
}

fn worker(
    config: &Config,
    limits: &Limits,
    endpoints: &[SocketAddr],
) -> Result<KernelWorker, Failure> {
    let listeners: Vec<Listener> = listeners(config, endpoints)?;
    let disk_config = DiskConfig {
        threads: limits.worker.disk_threads as usize,
        files: limits.worker.files as usize,
        queue_depth: limits.worker.disk_queue as usize,
    };
    let bytes = usize::try_from(limits.queue.block_bytes).unwrap_or(usize::MAX);
    let disk = Disk::anonymous(bytes, &disk_config)
        .map_err(|error| disk_problem("cannot start the disk threads", &error))?;
    let services = Services::new(disk, served_root(config)?, &services_config(config, limits));
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

type Thread = Running<KernelReport, Result<KernelWorker, Errno>>;

fn spawn(worker: KernelWorker, cpu: u32) -> Result<Thread, Failure> {
    let (control, side) =
        channel().map_err(|error| disk_problem("cannot make a control channel", &error))?;
    let thread = thread::Builder::new()
        .name(format!("sluice-k{cpu}"))
        .spawn(move || {
            pin_to(cpu);
            worker.run(side)
        })
        .map_err(|error| disk_problem("cannot start a worker thread", &error))?;
    Ok(Running { control, thread })
}

impl Service for KernelService {
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
        let reports: Vec<&KernelReport> = reports.iter().map(|report| &**report).collect();
        summary::kernel(&reports)
    }

    fn stop(mut self: Box<Self>) -> Result<String, Failure> {
        let mut reports = Vec::new();
        for running in self.workers.drain(..) {
            let ended = running.thread.join().map_err(|_| worker_died())?;
            let worker =
                ended.map_err(|error| disk_problem("the epoll set of a worker broke", &error))?;
            let mut report = KernelReport::default();
            worker.report_into(&mut report);
            reports.push(report);
        }
        let reports: Vec<&KernelReport> = reports.iter().collect();
        Ok(summary::kernel(&reports))
    }
}
