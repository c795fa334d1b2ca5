//! What must be true during a seed, and at its end.

use core::fmt::Write as _;
use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeMap;

use sluice_tcp::{CloseReason, ConnId, StackCounters, State};

use super::{Report, World};
use crate::client::Ending;
use crate::scenario::Scenario;

/// Longer than TIME-WAIT.
const AFTERWARDS: Duration = Duration::from_secs(61);

impl World {
    /// Nothing may be left.
    pub(super) fn check_end(&mut self) -> Result<Report, String> {
        for index in 0..self.flows.len() {
            self.given_up += self.check_flow(index)?;
        }
        self.now = self.now + AFTERWARDS;
        self.stack.on_timers(self.now);
        let stack = &self.stack;
        let left = [
            ("connections", stack.len()),
            ("half-open", stack.half_open()),
            ("timers", stack.timers()),
            ("TIME-WAIT", stack.time_wait()),
            ("trails", u32::try_from(stack.trails()).unwrap_or(u32::MAX)),
        ];
        if left.iter().any(|(_, count)| *count > 0) {
            return Err(format!("left at the end: {left:?}"));
        }
        let buffers = stack.buffers();
        if (buffers.receive.used, buffers.send.used) != (0, 0) {
            return Err(format!("held at the end: {buffers:?}"));
        }
        self.check_reductions()?;
        let counters = self.stack.counters();
        let progress = self.flows.iter().map(|flow| flow.client.progress_at);
        let last = progress.max().unwrap_or(self.start);
        let took = last.saturating_since(self.start);
        Ok(Report {
            segments: counters.segments_in + counters.segments_out,
            trace_hash: self.hash,
            sent_again: sent_again(counters),
            timeouts: counters.timeouts,
            black_holes: counters.black_holes,
            marked: self.marked,
            marks_heard: counters.ecn_reductions,
            withheld: counters.withheld,
            merged: counters.acks_merged,
            optimists: counters.optimistic_acks,
            given_up: self.given_up,
            longest_run: self.longest_run,
            took,
        })
    }

    /// A window is reduced once for each echo that a client begins, and once more for each CWR that came late or never.
    ///
    /// The stack does not hear of marks: a client echoes the first that comes, on every ACK until it hears CWR (RFC 3168
    /// section 6.1.3), and those that come meanwhile add nothing. The stack says CWR once per reduction, on new data, and
    /// listens again when the first byte of that is acknowledged (6.1.2). A client that got that byte with CWR has ended its
    /// echo by then, and what the stack hears next began with another mark. One that got it from a repetition, which says no
    /// CWR, goes on with the old echo.
    fn check_reductions(&self) -> Result<(), String> {
        let now = self.flows.iter().map(|flow| flow.client.echoes);
        let echoes = self.echoes + now.sum::<u64>();
        let late = u64::try_from(self.unheard_cwrs.len()).unwrap_or(u64::MAX);
        let reductions = self.stack.counters().ecn_reductions;
        if reductions > echoes + late {
            return Err(format!(
                "{reductions} reductions for {echoes} echoes and {late} CWRs that came late or never"
            ));
        }
        Ok(())
    }

    /// Every byte of a flow that is over must be where it belongs. How many handshakes were given up: 0 or 1.
    pub(super) fn check_flow(&self, index: usize) -> Result<u64, String> {
        let flow = &self.flows[index];
        let plan = &flow.client.plan;
        // Entries had to make room before their final ACK came.
        let was_crowded = self.stack.counters().half_open_evicted > 0;
        if flow.conn.is_none() && plan.request == 0 && flow.client.is_open() {
            // Its final ACK was lost, as was every SYN-ACK that would have brought another; a cookie comes once.
            return Ok(u64::from(!flow.cookie && !was_crowded));
        }
        if flow.was_torn() || (flow.conn.is_none() && flow.client.was_reset && was_crowded) {
            return Ok(0);
        }
        if plan.optimistic > 0 && flow.closed == Some(CloseReason::OptimisticAck) {
            // It may not believe the RST, whose number is of a stream that it only claims to have.
            return Ok(0);
        }
        if !flow.client.is_done() {
            return Err(format!("flow {index} is not done: {}", self.summary(index)));
        }
        let finished = flow.closed == Some(CloseReason::Finished) && !flow.client.was_reset;
        let kept_all =
            plan.request == 0 || (flow.kept.len() == 1 && flow.kept.get(&0) == Some(&plan.request));
        let ended_right = match plan.ending {
            Ending::ServerFirst | Ending::HalfClose | Ending::ClientLast => {
                finished && kept_all && flow.closing
            }
            // A RST that comes after both FINs finds nothing to reset.
            Ending::Abort(_) | Ending::Vanish(_) => flow.closed.is_some() || flow.conn.is_none(),
        };
        if ended_right {
            Ok(0)
        } else {
            Err(format!("flow {index} ended wrong: {}", self.summary(index)))
        }
    }

    pub(super) fn check_state(&mut self, index: usize) -> Result<(), String> {
        let state = self.state_of(&self.flows[index]);
        let flow = &mut self.flows[index];
        if let (Some(before), Some(after)) = (flow.state, state)
            && !may_follow(before, after)
        {
            return Err(format!("{} after {}", after.name(), before.name()));
        }
        if state.is_some() {
            flow.state = state;
        }
        Ok(())
    }

    pub(super) fn check_progress(&self, index: usize) -> Result<(), String> {
        let flow = &self.flows[index];
        let since = self
            .now
            .saturating_since(flow.progress_at.max(flow.client.progress_at));
        if !flow.client.is_done() && since > self.scenario.stall_max {
            return Err(format!("flow {index} stalls: {}", self.summary(index)));
        }
        Ok(())
    }

    /// What a connection says of itself agrees with the clock, and with the counters if it is the only one.
    pub(super) fn check_record(&self, conn: ConnId) -> Result<(), String> {
        let Some(record) = self.stack.record(conn) else {
            return Ok(());
        };
        let unit = Duration::from_micros(66);
        if record.busy() > self.now.saturating_since(self.start) + unit {
            return Err(format!("more pauses than time: {record:?}"));
        }
        if self.flows.len() > 1 || self.scenario.rounds > 1 {
            return Ok(());
        }
        let counters = self.stack.counters();
        let counted = [
            counters.retransmitted_fast,
            counters.retransmitted_rack,
            counters.retransmitted_tlp,
            counters.retransmitted_timeout,
            counters.retransmitted_path_mtu,
        ];
        // A record counts no further, and a client that reneges makes some connections repeat more than that.
        let counted = counted.map(|count| count.min(u16::MAX.into()));
        if record.sent_again.map(u64::from) != counted {
            return Err(format!("{:?} instead of {counted:?}", record.sent_again));
        }
        // The pause that is not over is in the record alone.
        let paused = sluice_tcp::Cause::ALL.iter().map(|cause| {
            let pauses = record.pauses[cause.index()];
            (pauses.total + unit, counters.paused(*cause))
        });
        match paused.into_iter().find(|(told, counted)| told < counted) {
            Some(wrong) => Err(format!("a pause less than what was counted: {wrong:?}")),
            None => Ok(()),
        }
    }

    /// A flow and what surrounds it, for the message of a failure.
    pub(super) fn summary(&self, index: usize) -> String {
        let flow = &self.flows[index];
        let mut text = format!(
            "{:?}, closed {:?}, kept {:?}, consumed {}, acknowledged {}\n{:#?}\n",
            flow.state, flow.closed, flow.kept, flow.consumed, flow.acknowledged, flow.client
        );
        let scenario = Scenario {
            plans: Vec::new(),
            ..self.scenario.clone()
        };
        let _ = writeln!(text, "{scenario:?}");
        for (name, value) in self.stack.counters().rows().filter(|(_, value)| *value > 0) {
            let _ = write!(text, "{name} {value}, ");
        }
        text
    }
}

/// Adds a range; false if any of it was there.
pub(super) fn keep(kept: &mut BTreeMap<u64, u64>, piece: &Range<u64>) -> bool {
    let (mut start, mut end) = (piece.start, piece.end);
    let before = kept.range(..=start).next_back().map(|(s, e)| (*s, *e));
    if let Some((before_start, before_end)) = before {
        if before_end > start {
            return false;
        }
        if before_end == start {
            start = before_start;
        }
    }
    if let Some((&after_start, &after_end)) = kept.range(piece.start..).next() {
        if after_start < end {
            return false;
        }
        if after_start == end {
            kept.remove(&after_start);
            end = after_end;
        }
    }
    kept.insert(start, end);
    true
}

/// Whether a connection can get from one state to the other, over several steps within one event.
fn may_follow(before: State, after: State) -> bool {
    use State::{
        CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
    };
    before == after
        || match before {
            SynSent | SynReceived => after != SynSent,
            Established => !matches!(after, SynSent | SynReceived),
            FinWait1 => matches!(after, FinWait2 | Closing),
            CloseWait => after == LastAck,
            FinWait2 | Closing | LastAck => false,
        }
}

fn sent_again(counters: &StackCounters) -> u64 {
    counters.retransmitted_fast
        + counters.retransmitted_rack
        + counters.retransmitted_tlp
        + counters.retransmitted_timeout
        + counters.retransmitted_path_mtu
        + counters.retransmitted_syn_ack
}
