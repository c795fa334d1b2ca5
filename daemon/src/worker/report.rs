//! What a worker reports: counters, ledgers and histograms, copied into memory of the control side.

use sluice_afxdp::{Bound, Ledger, QueueCounters, XdpStatistics};
use sluice_tcp::StackCounters;
use sluice_wire::DropReason;

use super::gather_lane::GatherLane;
use super::{GatherCounters, Worker};
use crate::services::ServiceReport;

/// What the worker itself counts; plain integers of one thread.
#[derive(Clone, Copy, Debug)]
pub struct WorkerCounters {
    /// Segments that could not be built for want of frames or bytes, or that the queue refused; they count as lost
    /// on the way.
    pub tx_not_built: u64,
    /// Super-segments sent by the TSO lane.
    pub gso_sent: u64,
    /// Segments in them.
    pub gso_segments: u64,
    /// Super-segments that the lane did not take and the ring carried.
    pub gso_not_taken: u64,
    /// Of those, refused by what is in front of the interface; nothing is tried for a second then.
    pub gso_refused: u64,
    /// The errno of the last refusal; 0 if there was none.
    pub gso_errno: i32,
    /// Super-segments dropped behind the lane, by queueing discipline, device or a link that is down.
    pub gso_dropped: u64,
    /// Frames for an address or port that is not ours: the XDP program should not have redirected them.
    pub not_ours: u64,
    /// ICMP errors about flows that no worker has.
    pub icmp_strays: u64,
    /// ICMP errors about flows unknown here that were dropped because so many came that they could fill the way to the
    /// other workers.
    pub icmp_not_passed_on: u64,
    /// Segments whose request bytes found no memory, which ended their connections.
    pub request_not_kept: u64,
    /// Kicks while the link was down.
    pub link_down: u64,
    /// Kicks on a socket that is not bound any more.
    pub queue_lost: u64,
    /// Waiting connections that were asked again because something was freed.
    pub waiting_asked: u64,
    /// Times the worker went to sleep.
    pub sleeps: u64,
    /// Frames that did not parse, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
}

impl Default for WorkerCounters {
    fn default() -> Self {
        WorkerCounters {
            tx_not_built: 0,
            gso_sent: 0,
            gso_segments: 0,
            gso_not_taken: 0,
            gso_refused: 0,
            gso_errno: 0,
            gso_dropped: 0,
            not_ours: 0,
            icmp_strays: 0,
            icmp_not_passed_on: 0,
            request_not_kept: 0,
            link_down: 0,
            queue_lost: 0,
            waiting_asked: 0,
            sleeps: 0,
            dropped: [0; DropReason::ALL.len()],
        }
    }
}

impl WorkerCounters {
    pub(super) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason.index()] += 1;
    }
}

/// Everything a worker says about itself at one moment.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    /// The worker's own counters.
    pub worker: WorkerCounters,
    /// The gather lane.
    pub gather: GatherCounters,
    /// TCP.
    pub tcp: StackCounters,
    /// Connections, half-open ones included.
    pub connections: u32,
    /// Of those in SYN-RECEIVED.
    pub half_open: u32,
    /// In TIME-WAIT.
    pub time_wait: u32,
    /// Armed timers.
    pub timers: u32,
    /// HTTP, disk and latencies.
    pub service: ServiceReport,
    /// Who owns the frames.
    pub frames: Option<Ledger>,
    /// Frames that the queue lets wait for packets at present.
    pub fill_depth: u32,
    /// How the queue is bound.
    pub bound: Option<Bound>,
    /// The rings.
    pub queue: QueueCounters,
    /// What the kernel counted for the socket.
    pub kernel: Option<XdpStatistics>,
    /// Frames passed on to other workers, and dropped on the way.
    pub passed_on: u64,
    /// Frames that could not be passed on.
    pub pass_on_dropped: u64,
}

impl Worker {
    /// Fills a report. Does not allocate.
    pub fn fill(&self, report: &mut WorkerReport) {
        report.worker = self.counters;
        let gather = self.gather.as_ref().map(GatherLane::counters);
        report.gather = gather.unwrap_or_default();
        report.tcp = *self.stack.counters();
        report.connections = self.stack.len();
        report.half_open = self.stack.half_open();
        report.time_wait = self.stack.time_wait();
        report.timers = self.stack.timers();
        self.services.report_into(&mut report.service);
        report.frames = Some(self.queue.ledger());
        report.fill_depth = self.queue.fill_depth();
        report.bound = Some(self.queue.bound());
        report.queue = *self.queue.counters();
        report.kernel = self.queue.statistics().ok();
        if let Some(handoff) = &self.handoff {
            report.passed_on = handoff.passed_on;
            report.pass_on_dropped = handoff.dropped;
        }
    }
}
