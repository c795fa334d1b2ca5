//! The report of the whole daemon: what every worker said, summed, as text.

use std::fmt::Write as _;

use sluice_tcp::StackCounters;
use sluice_wire::DropReason;
use sluice_xdp_prog::{AttachedMode, Steer};

use super::syn_guard::SynGuard;
use crate::histograms::WorkerHistograms;
use crate::kernel_backend::{KernelCounters, KernelReport};
use crate::report::{counter_table, histogram_table};
use crate::services::ServiceReport;
use crate::worker::WorkerReport;

/// Report of the AF_XDP service.
pub(super) fn xdp(
    reports: &[&WorkerReport],
    steer: &Steer,
    mode: AttachedMode,
    syn_guard: &SynGuard,
) -> String {
    let mut text = latencies(reports.iter().map(|report| &report.service));
    let sum = |pick: &dyn Fn(&WorkerReport) -> u64| reports.iter().map(|r| pick(r)).sum::<u64>();
    let frames = |pick: &dyn Fn(&sluice_afxdp::Ledger) -> u32| {
        sum(&|report| {
            report
                .frames
                .as_ref()
                .map_or(0, |ledger| u64::from(pick(ledger)))
        })
    };
    let balanced = reports
        .iter()
        .all(|report| report.frames.is_none_or(|ledger| ledger.balanced()));
    text += &table(
        "frames",
        [
            ("frames_total", frames(&|l| l.total)),
            ("frames_pool", frames(&|l| l.pool)),
            ("frames_fill", frames(&|l| l.fill)),
            ("frames_rx", frames(&|l| l.rx_held)),
            ("frames_building", frames(&|l| l.tx_building)),
            ("frames_tx", frames(&|l| l.tx_in_flight)),
            ("ledger_balanced", u64::from(balanced)),
        ],
    );
    text += &table(
        "connections",
        [
            ("connections", sum(&|r| r.connections.into())),
            ("half_open", sum(&|r| r.half_open.into())),
            ("time_wait", sum(&|r| r.time_wait.into())),
            ("timers", sum(&|r| r.timers.into())),
            ("misrouted_passed_on", sum(&|r| r.passed_on)),
            ("misrouted_dropped", sum(&|r| r.pass_on_dropped)),
        ],
    );
    text += &services(reports.iter().map(|report| &report.service));
    text += &tcp(reports);
    text += &rings(reports);
    text += &drops(reports);
    text += &program(steer, mode, syn_guard);
    text
}

/// Report of the service over kernel sockets.
pub(super) fn kernel(reports: &[&KernelReport]) -> String {
    let mut text = latencies(reports.iter().map(|report| &report.service));
    let connections = reports.iter().map(|report| report.connections as u64).sum();
    text += &table("connections", [("connections", connections)]);
    text += &services(reports.iter().map(|report| &report.service));
    let mut totals = KernelCounters::default();
    for report in reports {
        totals.merge(&report.kernel);
    }
    text += &table("kernel sockets", totals.rows());
    text
}

/// The latency table of several workers.
fn latencies<'a>(reports: impl Iterator<Item = &'a ServiceReport>) -> String {
    let mut all = WorkerHistograms::new();
    for report in reports {
        all.merge(&report.histograms);
    }
    histogram_table(&all) + "\n"
}

/// Requests, blocks and files of several workers.
fn services<'a>(reports: impl Iterator<Item = &'a ServiceReport> + Clone) -> String {
    let blocks = |pick: &dyn Fn(&ServiceReport) -> u64| reports.clone().map(pick).sum::<u64>();
    let mut text = table(
        "blocks and files",
        [
            ("blocks_total", blocks(&|r| r.disk.blocks_total.into())),
            ("blocks_free", blocks(&|r| r.disk.free.into())),
            ("blocks_cached", blocks(&|r| r.disk.cached.into())),
            ("blocks_pinned", blocks(&|r| r.disk.pinned.into())),
            ("blocks_loading", blocks(&|r| r.disk.loading.into())),
            ("files_open", blocks(&|r| r.disk.files_open.into())),
            ("requests_active", blocks(&|r| r.active as u64)),
        ],
    );
    let mut rows: Vec<(&'static str, u64)> = Vec::new();
    for report in reports {
        for (name, value) in report.counters.rows() {
            add(&mut rows, name, value);
        }
    }
    text += &table("http", rows);
    text
}

fn tcp(reports: &[&WorkerReport]) -> String {
    let mut rows: Vec<(&'static str, u64)> = Vec::new();
    for report in reports {
        for (name, value) in StackCounters::rows(&report.tcp) {
            add(&mut rows, name, value);
        }
    }
    let rows: Vec<(String, u64)> = rows
        .into_iter()
        .map(|(name, value)| (format!("tcp_{name}"), value))
        .collect();
    table(
        "tcp",
        rows.iter().map(|(name, value)| (name.as_str(), *value)),
    )
}

fn rings(reports: &[&WorkerReport]) -> String {
    let sum = |pick: &dyn Fn(&WorkerReport) -> u64| reports.iter().map(|r| pick(r)).sum::<u64>();
    let kernel = |pick: &dyn Fn(&sluice_afxdp::XdpStatistics) -> u64| {
        sum(&|report| report.kernel.as_ref().map_or(0, pick))
    };
    table(
        "rings",
        [
            ("packets_in", sum(&|r| r.queue.rx_packets)),
            ("packets_out", sum(&|r| r.queue.tx_packets)),
            ("tx_not_built", sum(&|r| r.worker.tx_not_built)),
            ("kicks", sum(&|r| r.queue.kicks)),
            ("kicks_again", sum(&|r| r.queue.kicks_again)),
            ("kicks_frame_lost", sum(&|r| r.queue.kicks_frame_lost)),
            ("kicks_link_down", sum(&|r| r.worker.link_down)),
            ("kicks_queue_lost", sum(&|r| r.worker.queue_lost)),
            ("sleeps", sum(&|r| r.worker.sleeps)),
            ("xsk_rx_dropped", kernel(&|k| k.rx_dropped)),
            ("xsk_rx_ring_full", kernel(&|k| k.rx_ring_full)),
            ("xsk_rx_fill_empty", kernel(&|k| k.rx_fill_ring_empty_descs)),
            ("xsk_tx_invalid", kernel(&|k| k.tx_invalid_descs)),
        ],
    )
}

fn drops(reports: &[&WorkerReport]) -> String {
    let mut rows: Vec<(String, u64)> = DropReason::ALL
        .iter()
        .map(|reason| {
            let count = reports
                .iter()
                .map(|report| report.worker.dropped[reason.index()])
                .sum();
            (format!("drop_{}", reason.name()), count)
        })
        .collect();
    rows.push((
        "drop_not_ours".to_owned(),
        reports.iter().map(|report| report.worker.not_ours).sum(),
    ));
    rows.push((
        "drop_request_not_kept".to_owned(),
        reports
            .iter()
            .map(|report| report.worker.request_not_kept)
            .sum(),
    ));
    table(
        "frames dropped in user space",
        rows.iter().map(|(name, value)| (name.as_str(), *value)),
    )
}

fn program(steer: &Steer, mode: AttachedMode, syn_guard: &SynGuard) -> String {
    let mut rows: Vec<(String, u64)> = match steer.counters() {
        Ok(counters) => counters
            .into_iter()
            .map(|(reason, count)| (format!("xdp_{}", reason.name()), count))
            .collect(),
        Err(error) => return format!("XDP program: counters cannot be read: {error}\n"),
    };
    let armed = u64::from(syn_guard.is_armed());
    rows.push(("syn_gate_armed".to_owned(), armed));
    rows.push(("syn_gate_armings".to_owned(), syn_guard.armings()));
    table(
        &format!("XDP program ({})", mode.name()),
        rows.iter().map(|(name, value)| (name.as_str(), *value)),
    )
}

fn table<'a>(title: &str, rows: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let mut text = counter_table(title, rows);
    // A blank line between tables; writing to a string cannot fail.
    let _ = writeln!(text);
    text
}

fn add(rows: &mut Vec<(&'static str, u64)>, name: &'static str, value: u64) {
    match rows.iter_mut().find(|(known, _)| *known == name) {
        Some((_, total)) => *total += value,
        None => rows.push((name, value)),
    }
}
