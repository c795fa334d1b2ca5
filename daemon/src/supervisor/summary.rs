//! The report of the whole daemon: what every worker said, summed, as text.

use std::fmt::Write as _;

use sluice_afxdp::{QueueCounters, XdpStatistics};
use sluice_disk::DiskCounters;
use sluice_tcp::StackCounters;
use sluice_wire::DropReason;
use sluice_xdp_prog::{AttachedMode, Steer};

use super::syn_guard::SynGuard;
use crate::histograms::WorkerHistograms;
use crate::kernel_backend::{KernelCounters, KernelReport};
use crate::report::{counter_table, histogram_table};
use crate::services::ServiceReport;
use crate::worker::WorkerReport;

/// Report of the AF_XDP service: what each queue's worker said.
pub(super) fn xdp(
    reports: &[(u32, &WorkerReport)],
    steer: &Steer,
    mode: AttachedMode,
    syn_guard: &SynGuard,
) -> String {
    let workers: Vec<&WorkerReport> = reports.iter().map(|(_, report)| *report).collect();
    let mut text = latencies(workers.iter().map(|report| &report.service));
    let sum = |pick: &dyn Fn(&WorkerReport) -> u64| workers.iter().map(|r| pick(r)).sum::<u64>();
    let frames = |pick: &dyn Fn(&sluice_afxdp::Ledger) -> u32| {
        sum(&|report| {
            report
                .frames
                .as_ref()
                .map_or(0, |ledger| u64::from(pick(ledger)))
        })
    };
    let balanced = workers
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
            ("fill_depth", sum(&|r| r.fill_depth.into())),
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
    text += &services(workers.iter().map(|report| &report.service));
    text += &tcp(&workers);
    text += &rings(&workers);
    text += &sockets(reports);
    text += &drops(&workers);
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
            ("blocks_uploading", blocks(&|r| r.disk.uploading.into())),
            ("uploads_active", blocks(&|r| r.disk.uploads.into())),
            ("files_open", blocks(&|r| r.disk.files_open.into())),
            ("requests_active", blocks(&|r| r.active as u64)),
        ],
    );
    text += &table(
        "disk",
        summed(reports.clone().map(|report| disk_rows(&report.reads))),
    );
    text += &table("http", summed(reports.map(|report| report.counters.rows())));
    text
}

/// Every counter of the disk side. Naming them all here makes the compiler ask for a new one.
fn disk_rows(counters: &DiskCounters) -> [(&'static str, u64); 25] {
    let &DiskCounters {
        opens_inline,
        opens_helper,
        opens_recent,
        opens_shared,
        reads_inline,
        reads_helper,
        reads_direct,
        read_calls,
        version_checks,
        bytes_inline,
        bytes_helper,
        bytes_direct,
        hits,
        evictions,
        no_block,
        put_off,
        queue_full,
        read_errors,
        files_changed,
        direct_refused,
        uploads_begun,
        uploads_published,
        uploads_failed,
        bytes_uploaded,
        upload_no_block,
    } = counters;
    [
        ("disk_opens_inline", opens_inline),
        ("disk_opens_helper", opens_helper),
        ("disk_opens_recent", opens_recent),
        ("disk_opens_shared", opens_shared),
        ("disk_reads_inline", reads_inline),
        ("disk_reads_helper", reads_helper),
        ("disk_reads_direct", reads_direct),
        ("disk_read_calls", read_calls),
        ("disk_version_checks", version_checks),
        ("disk_bytes_inline", bytes_inline),
        ("disk_bytes_helper", bytes_helper),
        ("disk_bytes_direct", bytes_direct),
        ("disk_block_hits", hits),
        ("disk_block_evictions", evictions),
        ("disk_no_block", no_block),
        ("disk_put_off", put_off),
        ("disk_queue_full", queue_full),
        ("disk_read_errors", read_errors),
        ("disk_files_changed", files_changed),
        ("disk_direct_refused", direct_refused),
        ("disk_uploads_begun", uploads_begun),
        ("disk_uploads_published", uploads_published),
        ("disk_uploads_failed", uploads_failed),
        ("disk_bytes_uploaded", bytes_uploaded),
        ("disk_upload_no_block", upload_no_block),
    ]
}

fn tcp(reports: &[&WorkerReport]) -> String {
    let rows = summed(
        reports
            .iter()
            .map(|report| StackCounters::rows(&report.tcp)),
    );
    named_table(
        "tcp",
        rows.into_iter()
            .map(|(name, value)| (format!("tcp_{name}"), value)),
    )
}

fn rings(reports: &[&WorkerReport]) -> String {
    let sum = |pick: &dyn Fn(&WorkerReport) -> u64| reports.iter().map(|r| pick(r)).sum::<u64>();
    // Of one of the workers: they send on the same interface.
    let gso_errno = reports.iter().map(|r| r.worker.gso_errno).max();
    let gso_errno = gso_errno.and_then(|errno| u64::try_from(errno).ok());
    let gso_errno = gso_errno.unwrap_or(0);
    let mut rows = summed(reports.iter().map(|report| queue_rows(&report.queue)));
    rows.extend([
        ("tx_not_built", sum(&|r| r.worker.tx_not_built)),
        ("gso_sent", sum(&|r| r.worker.gso_sent)),
        ("gso_segments", sum(&|r| r.worker.gso_segments)),
        ("gso_not_taken", sum(&|r| r.worker.gso_not_taken)),
        ("gso_refused", sum(&|r| r.worker.gso_refused)),
        ("gso_last_errno", gso_errno),
        ("gso_dropped", sum(&|r| r.worker.gso_dropped)),
        ("gather_packets", sum(&|r| r.gather.packets)),
        ("gather_slices", sum(&|r| r.gather.slices)),
        ("gather_bytes", sum(&|r| r.gather.bytes)),
        ("gather_copied_bytes", sum(&|r| r.gather.copied_bytes)),
        ("gather_not_taken", sum(&|r| r.gather.not_taken)),
        ("kicks_link_down", sum(&|r| r.worker.link_down)),
        ("kicks_queue_lost", sum(&|r| r.worker.queue_lost)),
        ("sleeps", sum(&|r| r.worker.sleeps)),
    ]);
    table("rings", rows)
}

/// Every counter of a queue. `kicks_down` is left to the worker, which tells a link that is down from a queue that is
/// lost.
fn queue_rows(counters: &QueueCounters) -> [(&'static str, u64); 17] {
    let &QueueCounters {
        rx_packets,
        rx_frames,
        rx_invalid,
        rx_broken_packets,
        tx_packets,
        tx_frames,
        tx_slices,
        tx_refused,
        completions,
        completions_invalid,
        kicks,
        kicks_again,
        kicks_unfinished,
        kicks_frame_lost,
        kicks_no_memory,
        kicks_down: _,
        kicks_wedged,
        fill_wakeups,
    } = counters;
    [
        ("packets_in", rx_packets),
        ("packets_in_frames", rx_frames),
        ("rx_invalid", rx_invalid),
        ("rx_broken_packets", rx_broken_packets),
        ("packets_out", tx_packets),
        ("packets_out_frames", tx_frames),
        ("packets_out_slices", tx_slices),
        ("tx_refused", tx_refused),
        ("completions", completions),
        ("completions_invalid", completions_invalid),
        ("kicks", kicks),
        ("kicks_again", kicks_again),
        ("kicks_unfinished", kicks_unfinished),
        ("kicks_frame_lost", kicks_frame_lost),
        ("kicks_no_memory", kicks_no_memory),
        ("kicks_wedged", kicks_wedged),
        ("fill_wakeups", fill_wakeups),
    ]
}

/// What the kernel counted per socket; of several, each by itself, because one full ring among idle ones is what one
/// looks for.
fn sockets(reports: &[(u32, &WorkerReport)]) -> String {
    let rows = reports.iter().flat_map(|(queue, report)| {
        let statistics = report.kernel.unwrap_or_default();
        socket_rows(&statistics).map(|(name, value)| match reports {
            [_] => (name.to_owned(), value),
            _ => (format!("{name} queue {queue}"), value),
        })
    });
    named_table("AF_XDP sockets", rows)
}

/// Every counter of `XDP_STATISTICS`.
fn socket_rows(statistics: &XdpStatistics) -> [(&'static str, u64); 6] {
    let &XdpStatistics {
        rx_dropped,
        rx_invalid_descs,
        tx_invalid_descs,
        rx_ring_full,
        rx_fill_ring_empty_descs,
        tx_ring_empty_descs,
    } = statistics;
    [
        ("xsk_rx_dropped", rx_dropped),
        ("xsk_rx_invalid_descs", rx_invalid_descs),
        ("xsk_tx_invalid_descs", tx_invalid_descs),
        ("xsk_rx_ring_full", rx_ring_full),
        ("xsk_rx_fill_ring_empty_descs", rx_fill_ring_empty_descs),
        ("xsk_tx_ring_empty_descs", tx_ring_empty_descs),
    ]
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
        "drop_icmp_strays".to_owned(),
        reports.iter().map(|report| report.worker.icmp_strays).sum(),
    ));
    rows.push((
        "drop_icmp_not_passed_on".to_owned(),
        reports
            .iter()
            .map(|report| report.worker.icmp_not_passed_on)
            .sum(),
    ));
    rows.push((
        "drop_request_not_kept".to_owned(),
        reports
            .iter()
            .map(|report| report.worker.request_not_kept)
            .sum(),
    ));
    named_table("frames dropped in user space", rows)
}

fn program(steer: &Steer, mode: AttachedMode, syn_guard: &SynGuard) -> String {
    let counters = match steer.counters() {
        Ok(counters) => counters,
        Err(error) => return format!("XDP program: counters cannot be read: {error}\n"),
    };
    let armed = u64::from(syn_guard.is_armed());
    named_table(
        &format!("XDP program ({})", mode.name()),
        counters
            .into_iter()
            .map(|(reason, count)| (format!("xdp_{}", reason.name()), count))
            .chain([
                ("syn_gate_armed".to_owned(), armed),
                ("syn_gate_armings".to_owned(), syn_guard.armings()),
            ]),
    )
}

fn table<'a>(title: &str, rows: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let mut text = counter_table(title, rows);
    // A blank line between tables; writing to a string cannot fail.
    let _ = writeln!(text);
    text
}

/// A table whose rows got their names at run time.
fn named_table(title: &str, rows: impl IntoIterator<Item = (String, u64)>) -> String {
    let rows: Vec<(String, u64)> = rows.into_iter().collect();
    table(
        title,
        rows.iter().map(|(name, value)| (name.as_str(), *value)),
    )
}

/// The rows of several workers, which all have the same, added up.
fn summed(
    workers: impl Iterator<Item = impl IntoIterator<Item = (&'static str, u64)>>,
) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for rows in workers {
        for (index, (name, value)) in rows.into_iter().enumerate() {
            match sums.get_mut(index) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name, value)),
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ring_full: u64, refused: u64) -> WorkerReport {
        WorkerReport {
            queue: QueueCounters {
                tx_refused: refused,
                ..QueueCounters::default()
            },
            kernel: Some(XdpStatistics {
                rx_ring_full: ring_full,
                ..XdpStatistics::default()
            }),
            ..WorkerReport::default()
        }
    }

    #[test]
    fn what_the_kernel_counted_is_told_per_queue_where_there_are_several() {
        let (first, second) = (report(0, 0), report(7, 0));
        assert_eq!(
            sockets(&[(0, &first), (3, &second)]),
            "AF_XDP sockets\nxsk_rx_ring_full queue 3  7\n\n"
        );
        assert_eq!(
            sockets(&[(3, &second)]),
            "AF_XDP sockets\nxsk_rx_ring_full  7\n\n"
        );
    }

    #[test]
    fn what_the_queues_counted_is_summed() {
        let (first, second) = (report(0, 2), report(0, 3));
        assert_eq!(rings(&[&first, &second]), "rings\ntx_refused  5\n\n");
    }

    #[test]
    fn reads_of_the_disk_are_told() {
        let mut report = ServiceReport::default();
        report.reads.reads_helper = 4;
        let text = services([&report, &report].into_iter());
        assert!(text.contains("disk\ndisk_reads_helper  8\n"), "{text}");
    }
}
