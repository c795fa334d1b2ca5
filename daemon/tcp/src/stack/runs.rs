//! Acknowledgements of one batch that are taken as one: see [`crate::ack_run`].

use core::time::Duration;

use super::Stack;
use crate::ack_run::{AckRun, is_pure_ack};
use crate::clock::Instant;
use crate::segment::Segment;

impl Stack {
    /// Whether `segment`, which has just arrived, is an acknowledgement that others may follow in the same batch.
    ///
    /// If so nothing has become of it yet: those that [follow](AckRun::merge) join it, and before anything else is told
    /// about their connection, [`end_run`](Self::end_run) takes them all. If not, it goes to
    /// [`on_segment`](Self::on_segment) as any other.
    pub fn begin_run(&mut self, now: Instant, segment: &Segment<'_>) -> Option<AckRun> {
        if !is_pure_ack(segment) {
            return None;
        }
        let slot = self.flows.find(&segment.key, &self.slots)?;
        self.flows.note(slot);
        let (connection, _) = self.slots.awake(slot)?;
        let reach = connection.expect_run(segment, now)?;
        AckRun::new(self.slots.id(slot), segment, reach)
    }

    /// Processes a run, and says the round-trip time that it measured.
    pub fn end_run(&mut self, now: Instant, run: &AckRun) -> Option<Duration> {
        let acks = run.acks();
        self.now = now;
        self.common.counters.segments_in += u64::from(acks.count);
        self.common.counters.acks_merged += u64::from(acks.count - 1);
        if !self.slots.is_live(run.conn()) {
            return None;
        }
        let slot = run.conn().slot;
        let (connection, mut env) = self.common.with(&mut self.slots, slot, now)?;
        let rtt = connection.on_acks(&run.segment(), acks, &mut env);
        self.settle(slot);
        rtt
    }
}
