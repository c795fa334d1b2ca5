//! What arrives: segments of connections, of handshakes and of neither, and ICMP errors.
//!
//! A segment belongs to a connection if its flow has a slot; else TIME-WAIT is asked, then the listener. Whatever becomes
//! of it is said in the [`Receipt`], and what follows from it leaves with [`Stack::poll_transmit`]. Acknowledgements that
//! come in runs are in `runs`.

use sluice_wire::{IcmpError, TcpHeader};

use super::Stack;
use crate::clock::Instant;
use crate::connection::Connection;
use crate::event_ring::EventKind;
use crate::events::CloseReason;
use crate::flow_table::FlowKey;
use crate::handshake::Handshake;
use crate::listener::{self, Arrival};
use crate::segment::{Disposition, Receipt, Segment};
use crate::seq::SeqNumber;
use crate::stats::{IcmpVerdict, SegmentDrop};
use crate::syn_table::EntryId;
use crate::time_wait::{Answer, Remnant};
use crate::timestamps::TimestampState;

impl Stack {
    /// Processes one segment. The driver keeps the payload bytes that the receipt names.
    ///
    /// [`Disposition::Unknown`] asks the driver to look for another owner of the flow, and to call
    /// [`refuse`](Self::refuse) if there is none.
    pub fn on_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Receipt {
        self.common.counters.segments_in += 1;
        self.now = now;
        match self.flows.find(&segment.key, &self.slots) {
            Some(slot) => {
                self.flows.note(slot);
                self.on_connection_segment(slot, now, segment)
            }
            None => self.on_strange_segment(now, segment),
        }
    }

    /// The answer to a segment that belongs to no worker: a RST, or nothing (RFC 9293 section 3.10.7.1).
    #[must_use]
    pub fn refuse(&mut self, segment: &Segment<'_>) -> Option<TcpHeader> {
        let answer = listener::refusal(segment)?;
        self.common.counters.refused += 1;
        Some(answer)
    }

    /// An ICMP error that quotes a segment of ours; the driver has checked it and that the address quoted is ours.
    ///
    /// What changes is done by the time of the next [`poll_transmit`](Self::poll_transmit).
    /// `None`, which is not counted here: no flow of this stack. With several workers it may be another's, so the driver
    /// looks for its owner, as with a segment, and counts it once.
    pub fn on_icmp(&mut self, now: Instant, error: &IcmpError) -> Option<IcmpVerdict> {
        let quoted = &error.quoted;
        let key = FlowKey::new(quoted.src, quoted.src_port, quoted.dst, quoted.dst_port);
        let verdict = match self.flows.find(&key, &self.slots) {
            Some(slot) => self.on_connection_icmp(slot, now, error)?,
            // What a handshake has sent is short, and it is repeated anyway.
            None if self.listener.table().find(&key).is_some() => IcmpVerdict::Soft,
            None => return None,
        };
        self.common.counters.icmp[verdict.index()] += 1;
        Some(verdict)
    }

    fn on_connection_icmp(
        &mut self,
        slot: u32,
        now: Instant,
        error: &IcmpError,
    ) -> Option<IcmpVerdict> {
        if self.slots.resting(slot).is_some() {
            // Nothing is in flight, so nobody has to wake up for it.
            return Some(IcmpVerdict::NotInFlight);
        }
        let (connection, mut env) = self.common.with(&mut self.slots, slot, now)?;
        let verdict = connection.on_icmp(error, &mut env);
        self.settle(slot);
        Some(verdict)
    }

    fn on_connection_segment(&mut self, slot: u32, now: Instant, segment: &Segment<'_>) -> Receipt {
        let Some((connection, mut env)) = self.common.with(&mut self.slots, slot, now) else {
            return Receipt::unknown();
        };
        let outcome = connection.on_segment(segment, &mut env);
        if let Some(reason) = outcome.dropped {
            let len = segment.payload_len.into();
            connection.note(EventKind::Dropped, reason as u8, len, &mut env);
        }
        if outcome.time_wait {
            connection.end(CloseReason::Finished, false);
            let remnant = remnant(connection);
            self.time_wait.insert(&remnant, now);
        }
        let origin = connection
            .receive
            .window
            .offset_of(SeqNumber::new(segment.header.seq));
        self.settle(slot);
        Receipt {
            conn: Some(self.slots.id(slot)),
            disposition: match outcome.dropped {
                Some(reason) => {
                    self.common.counters.drop(reason);
                    Disposition::Dropped(reason)
                }
                None => Disposition::Accepted,
            },
            pieces: outcome.pieces,
            payload_start: origin,
            trusted: outcome.trusted,
            rtt: outcome.rtt,
            reply: outcome.reply,
        }
    }

    fn on_strange_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Receipt {
        let after = match self
            .time_wait
            .answer(segment, &self.common.config.secret, now)
        {
            Some(Answer::Acknowledge(header)) => {
                return Receipt {
                    reply: Some(header),
                    ..self.dropped(SegmentDrop::TimeWait)
                };
            }
            Some(Answer::Drop(reason)) => return self.dropped(reason),
            Some(Answer::Reopen { snd_nxt }) => Some(snd_nxt),
            None => None,
        };
        let room = self.slots.has_room();
        let mut env = self.common.env(now);
        let arrival = self.listener.on_segment(segment, after, room, &mut env);
        if after.is_some() && matches!(arrival, Arrival::Pending(..)) {
            self.time_wait.reopened(&segment.key);
        }
        match arrival {
            Arrival::Complete(handshake, entry) => self.complete(now, segment, &handshake, entry),
            Arrival::Pending(entry, reply) => Receipt {
                conn: Some(self.handshake_id(entry)),
                disposition: Disposition::Accepted,
                trusted: true,
                reply,
                ..Receipt::unknown()
            },
            Arrival::Cookie(header) => Receipt {
                disposition: Disposition::Accepted,
                reply: Some(header),
                ..Receipt::unknown()
            },
            Arrival::Stray => Receipt::unknown(),
            Arrival::Drop(reason, reply) => Receipt {
                reply,
                ..self.dropped(reason)
            },
        }
    }

    /// The final ACK of a handshake takes a connection slot. Without a free one it is dropped: the peer will send it
    /// again with its data, and nobody is ESTABLISHED whom nobody serves.
    fn complete(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        handshake: &Handshake,
        entry: Option<EntryId>,
    ) -> Receipt {
        let Some(slot) = self.flows.add(segment.key, &mut self.slots) else {
            return self.dropped(SegmentDrop::ConnectionsFull);
        };
        let mut env = self.common.env(now);
        self.listener.complete(handshake, entry, &mut env);
        let connection = Connection::from_handshake(handshake, &env);
        self.slots.place(slot, connection);
        self.on_connection_segment(slot, now, segment)
    }

    fn dropped(&mut self, reason: SegmentDrop) -> Receipt {
        self.common.counters.drop(reason);
        Receipt::dropped(reason)
    }
}

fn remnant(connection: &mut Connection) -> Remnant {
    let ts = connection.timestamps.as_ref();
    Remnant {
        key: connection.key,
        snd_nxt: connection.send.seq(connection.send.snd_nxt),
        rcv_nxt: connection.receive.window.ack_number(),
        window: connection.receive.window.unscaled(),
        ts_recent: ts.map(TimestampState::ts_recent),
    }
}
