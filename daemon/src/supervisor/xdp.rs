//! The AF_XDP service: program, queues, workers, in the order of start-up that loses no packet.
//!
//! Port reservation -> program loaded with empty slots -> attach (everything passes) -> threaded NAPI -> per queue UMEM,
//! socket, slot -> threads running -> enabled: from then on our traffic without a socket is dropped instead of reaching the
//! kernel, which would answer RST. Down: the workers end, NAPI is put back, the link goes, then the ports.

use core::net::SocketAddr;
use std::collections::BTreeSet;

use rustix::fd::{BorrowedFd, OwnedFd};
use sluice_afxdp::{Bound, MIN_TX_BUDGET};
use sluice_tcp::clock::Instant;
use sluice_xdp_prog::{Attached, AttachedMode, Endpoint, Reason, Steer, SteerConfig, SynGate};

use super::napi::ThreadedNapi;
use super::syn_guard::{Change, SynGuard};
use super::team::{Crew, Joined, Team};
use super::xdp_worker::{Builder, lane_of};
use super::{Ended, Failure, Service, disk_problem, no_placement, served_root, summary};
use crate::config::{self, Config};
use crate::farewells::{FarewellBook, farewells};
use crate::limits::{ActiveBackend, Limits, Sizing};
use crate::placement::{self, Plan};
use crate::preflight::{
    Facts, InterfaceFacts, OLDEST, Problem, attach_choice, hears_tx_metadata, look_at_interface,
    no_mac, reserve, served_addresses, served_queues, why_bound,
};
use crate::troubles::Troubles;
use crate::worker::{Worker, WorkerReport, handoff_ring};

/// What a full frame costs of a socket buffer: 1,514 bytes and the kernel's overhead, as measured.
const FULL_FRAME_CHARGE: usize = 2304;

struct XdpService {
    workers: Team<WorkerReport, Worker>,
    /// After the workers and before the program goes: then there are NAPI instances to take out of their threads.
    napi: Option<ThreadedNapi>,
    steer: Steer,
    attached: Attached,
    /// Name and index of the interface at the start.
    interface: (String, u32),
    /// Kernel sockets bound to our addresses and ports, never listening: nobody else can take them.
    reserved: Vec<OwnedFd>,
    description: String,
    syn_guard: SynGuard,
    farewells: Vec<FarewellBook>,
}

/// Starts the service.
pub(super) fn start(
    config: &Config,
    facts: &Facts,
    troubles: &Troubles,
) -> Result<Box<dyn Service>, Failure> {
    let Some(Ok(link)) = &facts.interface else {
        return Err(Problem::new(
            "no interface",
            "AF_XDP takes packets from the queues of one",
            "name it: --interface NAME",
        )
        .into());
    };
    let mac = link.mac.ok_or_else(|| no_mac(&link.name))?;
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
    crate::descriptors::make_room(limits.descriptors);
    let endpoints = config.endpoints(&served_addresses(config, link));
    let root = served_root(config)?;
    let reserved = reserve_ports(facts)?;
    let mut steer = load(config, link, &queues, &endpoints)?;
    let choice = attach_choice(config, link, facts.kernel_version());
    // First, because it decides how queues can be bound; it lets everything pass until it is enabled.
    let attached = steer.attach(link.index, choice.mode).map_err(|error| {
        Problem::new(
            format!("cannot attach the XDP program to {}", link.name),
            error.to_string(),
            error.fix(),
        )
    })?;
    super::napi::recover(link);
    let napi = threaded_napi(config, link, facts, &plan);
    let builder = Builder {
        config,
        link,
        is_native: attached.mode == AttachedMode::Native,
        mac,
        limits: &limits,
        root,
        endpoints: &endpoints,
        tx_metadata: hears_tx_metadata(facts.kernel_version(), link.driver()),
        secret: random()?,
        hash_key: random()?,
        troubles,
    };
    let mut handoffs = handoff_ring(queues.len(), parcel_len(link))
        .map_err(|error| disk_problem("cannot connect the workers", &error))?
        .into_iter();
    // All before the first runs: a queue that somebody else has is found without a thread to stop.
    let mut built: Vec<Worker> = Vec::new();
    let mut books = Vec::new();
    for seat in &plan.seats {
        let (farewells, book) = farewells();
        let worker = builder
            .worker(seat.queue, handoffs.next())?
            .with_farewells(farewells);
        books.push(book);
        insert(&steer, seat.queue, worker.queue().fd())?;
        built.push(worker);
    }
    let bound: Vec<Bound> = built.iter().map(|worker| worker.queue().bound()).collect();
    let lanes = distinct(&built, |worker| worker.tx_lane());
    let mut workers = Team::new();
    for (seat, worker) in plan.seats.iter().zip(built) {
        workers.spawn("sluice-w", seat, move |side| worker.run(side))?;
    }
    steer.set_enabled(true).map_err(|error| {
        Problem::new(
            "cannot enable the XDP program",
            error.to_string(),
            "this is a bug",
        )
    })?;
    if config.xdp.attach == config::Attach::Auto && attached.warning.is_none() {
        super::log(&format!(
            "attach = \"auto\" took {} on {}: {}",
            attached.mode.name(),
            link.name,
            choice.why
        ));
    }
    if config.xdp.bind == config::Bind::Auto {
        // They are bound alike, as one driver with one MTU binds them.
        let zero_copy = bound.iter().all(|bound| bound.zero_copy);
        super::log(&format!(
            "bind = \"auto\" took {} on {}: {}",
            bind_modes(&bound),
            link.name,
            why_bound(link, builder.is_native, zero_copy)
        ));
    }
    if let Some(why) = why_lane(config, link, &bound) {
        super::log(&format!(
            "tx_lane = \"auto\" took {lanes} on {}: {why}",
            link.name
        ));
    }
    if let Some(warning) = &attached.warning {
        super::log(&format!("warning: {warning}"));
    }
    if let Some(problem) = small_send_buffer(&link.name, &bound, limits.queue.send_buffer) {
        super::log(&format!("warning: {problem}"));
    }
    Ok(Box::new(XdpService {
        description: describe(
            link,
            &attached,
            &bound,
            &lanes,
            &receiving(config, napi.as_ref()),
            &queues,
            &endpoints,
        ),
        workers,
        napi,
        steer,
        attached,
        interface: (link.name.clone(), link.index),
        reserved,
        syn_guard: SynGuard::new(syn_gate(config, queues.len())),
        farewells: books,
    }))
}

fn describe(
    link: &InterfaceFacts,
    attached: &Attached,
    bound: &[Bound],
    lanes: &str,
    receiving: &str,
    queues: &[u32],
    endpoints: &[SocketAddr],
) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!(
        "backend=xdp interface={} driver={} mtu={} attach={} bind={} tx_lane={} checksum={} multi_buffer={} tx_budget={} \
         pages={} {receiving} queues={queues:?} serving {}",
        link.name,
        link.driver(),
        link.mtu,
        attached.mode.name(),
        bind_modes(bound),
        lanes,
        distinct(bound, |b| if b.tx_checksum {
            "offload"
        } else {
            "software"
        }),
        distinct(bound, |b| b.multi_buffer),
        distinct(bound, |b| b.tx_budget.unwrap_or(MIN_TX_BUDGET)),
        distinct(bound, |b| if b.huge_pages { "huge" } else { "4k" }),
        endpoints.join(" ")
    )
}

fn bind_modes(bound: &[Bound]) -> String {
    distinct(bound, |b| if b.zero_copy { "zero-copy" } else { "copy" })
}

/// Why the queues have the lane that they have, if the configuration left the choice.
fn why_lane(config: &Config, link: &InterfaceFacts, bound: &[Bound]) -> Option<String> {
    let lane = config.xdp.tx_lane;
    // They are bound alike, as one driver with one MTU binds them.
    let first = bound.first().filter(|_| lane == config::TxLane::Auto)?;
    lane_of(lane, link, first).ok().map(|choice| choice.why)
}

/// How workers and kernel wait for packets.
fn receiving(config: &Config, napi: Option<&ThreadedNapi>) -> String {
    let poll = config.xdp.poll;
    match napi {
        None => format!("poll={poll} napi=keep"),
        Some(threaded) => format!("poll={poll} napi=threaded on CPUs {:?}", threaded.cpus),
    }
}

/// What the queues have in common, or everything that occurs: `copy`, `copy,zero-copy`.
fn distinct<S, T: ToString>(queues: &[S], of: impl Fn(&S) -> T) -> String {
    let words: BTreeSet<String> = queues.iter().map(|queue| of(queue).to_string()).collect();
    Vec::from_iter(words).join(",")
}

/// A socket buffer that was not granted limits what copy mode keeps in flight. (A budget below the one asked for only
/// takes more system calls, and no setting would raise it.)
fn small_send_buffer(interface: &str, bound: &[Bound], wanted: usize) -> Option<Problem> {
    let granted = bound
        .iter()
        .filter(|bound| !bound.zero_copy)
        .map(|bound| bound.send_buffer)
        .min()
        .filter(|granted| *granted < wanted)?;
    Some(Problem::new(
        format!(
            "the queues of {interface} have a socket buffer of {} KiB instead of {} KiB",
            granted >> 10,
            wanted >> 10
        ),
        format!(
            "copy mode stalls at about {} full frames in flight",
            granted / FULL_FRAME_CHARGE
        ),
        format!("grant CAP_NET_ADMIN, or `sysctl net.core.wmem_max={wanted}`"),
    ))
}

/// The kernel's part of receiving in threads, if that is asked for and can be had.
fn threaded_napi(
    config: &Config,
    link: &InterfaceFacts,
    facts: &Facts,
    plan: &Plan,
) -> Option<ThreadedNapi> {
    if config.xdp.napi == config::Napi::Keep {
        return None;
    }
    let cores = config.xdp.napi_cores.as_deref();
    match ThreadedNapi::set(link, plan, &facts.cpus, cores) {
        Ok((napi, warnings)) => {
            for warning in warnings {
                super::log(&format!("warning: {warning}"));
            }
            Some(napi)
        }
        Err(problem) => {
            super::log(&format!("warning: {problem}"));
            None
        }
    }
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
                    "stop who listens there (`ss -ltnp`) or the sluiced that holds it, or serve another port",
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
        hash_key: [u64::from_ne_bytes(random()?), u64::from_ne_bytes(random()?)],
    };
    Steer::load(&steer_config).map_err(|error| {
        Problem::new(
            format!("cannot load the XDP program for {}", link.name),
            error.to_string(),
            format!("CAP_BPF and CAP_NET_ADMIN are needed, and a kernel of {OLDEST} or newer"),
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

/// The rates of the SYN gate: each queue has an equal share, as with connections, and a quarter of it is kept for SYNs that
/// come again.
fn syn_gate(config: &Config, queues: usize) -> Option<SynGate> {
    let queues = u32::try_from(queues).unwrap_or(u32::MAX).max(1);
    let share = config.limits.syn_rate.div_ceil(queues);
    let repeats = (share / 4).max(1);
    (config.xdp.syn_gate == config::SynGate::Auto).then(|| SynGate {
        per_queue: (share - repeats).max(1),
        per_source: config.limits.syn_rate_per_source,
        repeats,
    })
}

/// The longest frame that is handed to another worker: a whole packet of the interface. What GRO merged in generic mode
/// can be longer; it is dropped and counted, and its retransmission comes as single packets.
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
    /// SYNs that the gate has dropped so far; `None` if the kernel does not say.
    fn gated(&self) -> Option<u64> {
        let counters = self.steer.counters().ok()?;
        let by_the_gate =
            |reason: &Reason| matches!(reason, Reason::SynRate | Reason::SynSourceRate);
        let dropped = counters.iter().filter(|(reason, _)| by_the_gate(reason));
        Some(dropped.map(|(_, frames)| frames).sum())
    }

    fn apply(&mut self, change: Change, now: Instant, dropped: Option<u64>) {
        let (gate, what) = match change {
            Change::Arm(rates) => (Some(rates), "flood of SYNs: the XDP program limits them"),
            Change::Disarm => (None, "the flood of SYNs is over"),
        };
        match self.steer.set_syn_gate(gate) {
            Ok(()) => {
                self.syn_guard.done();
                super::log(what);
            }
            Err(error) => {
                if self.syn_guard.failed(change, now, dropped) {
                    super::log(&format!("warning: the SYN gate cannot be set: {error}"));
                }
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

    fn check(&self) -> Result<(), Problem> {
        if self.steer.is_attached() {
            return Ok(());
        }
        let (name, index) = &self.interface;
        let is_there = look_at_interface(name).is_ok_and(|link| link.index == *index);
        Err(lost(name, is_there))
    }

    fn tend(&mut self, now: Instant) {
        let flooded = self.workers.is_flooded();
        // What it dropped matters from the arming on; before, the counters are not worth a read per second.
        let dropped = (flooded || self.syn_guard.is_armed())
            .then(|| self.gated())
            .flatten();
        if let Some(change) = self.syn_guard.judge(now, flooded, dropped) {
            self.apply(change, now, dropped);
        }
        for line in self.farewells.iter_mut().flat_map(|book| book.lines(now)) {
            super::log(&line);
        }
    }

    fn report(&mut self) -> String {
        let reports = self.workers.reports();
        let reports: Vec<(u32, &WorkerReport)> = reports
            .iter()
            .map(|(queue, report)| (*queue, &**report))
            .collect();
        summary::xdp(&reports, &self.steer, self.attached.mode, &self.syn_guard)
    }

    fn stop(mut self: Box<Self>) -> Ended {
        let Joined {
            ended,
            mut problems,
        } = self.workers.join();
        for line in self.farewells.drain(..).flat_map(FarewellBook::last_lines) {
            super::log(&line);
        }
        let mut reports = Vec::new();
        for (queue, worker) in ended {
            let mut report = WorkerReport::default();
            worker.fill(&mut report);
            // Without the program there is no queue either, and that has been told.
            if report.worker.queue_lost > 0 && self.steer.is_attached() {
                problems.push(queue_lost(&self.interface.0, queue));
            }
            reports.push((queue, report));
        }
        let reports: Vec<(u32, &WorkerReport)> =
            reports.iter().map(|(queue, r)| (*queue, r)).collect();
        let report = summary::xdp(&reports, &self.steer, self.attached.mode, &self.syn_guard);
        drop(self.napi.take());
        self.steer.detach();
        self.reserved.clear();
        Ended { report, problems }
    }
}

/// The interface does not run our program any more.
fn lost(interface: &str, is_there: bool) -> Problem {
    if is_there {
        return Problem::new(
            format!("the XDP program was detached from {interface}"),
            "packets go to the kernel, which answers our connections with RST",
            "find who did it (`bpftool link detach` does), then start sluiced again",
        );
    }
    Problem::new(
        format!("{interface} is gone"),
        "it was deleted, or moved to another network namespace, and the XDP program with it",
        "bring it back (`ip -br link` lists what is there), then start sluiced again",
    )
}

fn queue_lost(interface: &str, queue: u32) -> Problem {
    Problem::new(
        format!("the socket of queue {queue} of {interface} does not work any more"),
        "the kernel unbound it or refuses every packet",
        "see the log of the kernel (`dmesg`), then start sluiced again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: usize = 16 << 20;

    fn bound(zero_copy: bool, send_buffer: usize) -> Bound {
        Bound {
            zero_copy,
            tx_checksum: true,
            multi_buffer: !zero_copy,
            max_packet_frames: 1,
            huge_pages: false,
            tx_budget: None,
            need_wakeup: true,
            send_buffer,
        }
    }

    #[test]
    fn queues_that_are_bound_differently_are_both_described() {
        let copy = bound(false, WANTED);
        assert_eq!(bind_modes(&[copy, copy]), "copy");
        assert_eq!(bind_modes(&[bound(true, WANTED), copy]), "copy,zero-copy");
    }

    #[test]
    fn a_socket_buffer_that_was_not_granted_is_warned_about_in_copy_mode() {
        let granted = bound(false, 2 * WANTED);
        let refused = bound(false, 425_984);
        assert_eq!(small_send_buffer("eth1", &[granted, granted], WANTED), None);
        assert_eq!(
            small_send_buffer("eth1", &[bound(true, 425_984)], WANTED),
            None
        );
        assert_eq!(
            small_send_buffer("eth1", &[granted, refused], WANTED)
                .map(|problem| problem.to_string())
                .as_deref(),
            Some(
                "the queues of eth1 have a socket buffer of 416 KiB instead of 16384 KiB: copy mode stalls at about \
                 184 full frames in flight -> grant CAP_NET_ADMIN, or `sysctl net.core.wmem_max=16777216`"
            )
        );
    }
}
