//! What leaves: answers of handshakes first, then of connections whose turn it is.
//!
//! Whose turn it is is decided by [`Queues`](crate::queues::Queues), and what leaves by the connection. One that has
//! nothing (more) gives back what it does not need until it has, and may be packed.

use super::Stack;
use crate::clock::Instant;
use crate::connection::{Connection, Env};
use crate::deadlines::Timer;
use crate::runs::{Run, RunLimit};
use crate::segment::Outgoing;

impl Stack {
    /// Whether [`poll_transmit`](Self::poll_transmit) may have something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.queues.wants_transmit() || self.listener.table().has_due()
    }

    /// The next segment to send; `None` when nothing may leave now. Connections take turns.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        self.poll_transmit_run(now, RunLimit::ONE)
    }

    /// As [`poll_transmit`](Self::poll_transmit), with the segments that would follow at this moment joined to the first
    /// as far as `limit` goes. Polled by runs until it says `None`, a stack sends the same segments in the same order as
    /// polled one by one; what makes a segment different ends a run (see `runs`).
    pub fn poll_transmit_run(&mut self, now: Instant, limit: RunLimit) -> Option<Outgoing> {
        self.now = now;
        if self.listener.table().has_due() {
            return self.next_of_handshakes(now);
        }
        while let Some(slot) = self.queues.transmitter() {
            let Some((connection, queued)) = self.slots.awake(slot) else {
                self.queues.end_turn(self.slots.queued(slot));
                continue;
            };
            let mut env = self.common.env(now);
            let mut run = Run::new(limit, self.queues.turn_left());
            if let Some((header, payload)) = connection.next_segment(&mut run, &mut env) {
                let key = connection.key;
                let ect = connection.control.ecn.take_ect();
                if !connection.events.is_empty() {
                    self.queues.announce(slot, queued);
                }
                let segment_len = run.segment_len(&payload);
                self.common.counters.segments_out += u64::from(run.segments());
                self.queues.take_turn(run.segments());
                return Some(Outgoing {
                    conn: self.slots.id(slot),
                    key,
                    header,
                    payload,
                    segment_len,
                    ect,
                });
            }
            fall_silent(connection, &mut env);
            let is_fresh = connection.send.is_fresh();
            self.queues.end_turn(queued);
            if is_fresh && self.lay_to_rest(slot, now) {
                continue;
            }
            if let Some((connection, _)) = self.slots.awake(slot) {
                connection.expect_rest(now);
            }
            self.retire_if_done(slot);
            self.schedule(slot);
        }
        None
    }

    fn next_of_handshakes(&mut self, now: Instant) -> Option<Outgoing> {
        let mut env = self.common.env(now);
        let (entry, key, header) = self.listener.next_due(&mut env)?;
        self.common.counters.segments_out += 1;
        Some(Outgoing {
            conn: self.handshake_id(entry),
            key,
            header,
            payload: 0..0,
            segment_len: 0,
            ect: false,
        })
    }
}

/// Nothing more of a connection can leave now.
fn fall_silent(connection: &mut Connection, env: &mut Env<'_>) {
    connection.loss.clear(env.flights);
    connection.settle_buffers(env.config, env.flights);
    if connection.send.in_flight() == 0 {
        connection.record.let_go(env.flights);
    }
    if connection.finish.is_none()
        && connection.send.is_stalled_by_window()
        && !connection.deadlines.is_set(Timer::Retransmit)
    {
        connection.begin_to_wait(env.now);
    }
}
