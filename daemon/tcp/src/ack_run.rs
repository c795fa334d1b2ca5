//! Runs of acknowledgements: pure ACKs of one connection that arrive in one batch are taken as one, the newest.
//!
//! A peer that receives a fast flow sends an ACK for every second segment, and a batch of frames holds a dozen of them
//! in a row. An acknowledgement is cumulative (RFC 9293 section 3.4), so each stands for those before it; the network
//! may lose all but the last, and some links thin them out on purpose (RFC 3449 section 5.2.1). What would be lost with
//! them is their *number*, so it is counted: slow start (RFC 3465), HyStart++ (RFC 9406) and AccECN (RFC 9768) hear it.
//!
//! A run begins where nothing hangs on a single one: the connection is synchronized, nothing is lost, SACKed, repaired
//! or probed for (F-RTO, Eifel, PRR and duplicates want each), and the first is exactly what is expected, which spares
//! the checks of RFC 9293 section 3.10.7.4 (Van Jacobson's header prediction). What follows differs in ACK number,
//! window and TSval alone and is acceptable by itself, so what has to be refused or challenged (RFC 5961 section 5.2)
//! neither hides an honest one nor is hidden. Linux merges alike (`tcp_add_backlog`), but also equal ACK numbers, which
//! are duplicates here (RFC 5681 section 2) and never join.

use sluice_wire::{Ecn, TcpFlags, TcpHeader, TcpOptions, Timestamps};

use crate::clock::Instant;
use crate::connection::Connection;
use crate::events::ConnId;
use crate::flow_table::FlowKey;
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::state::State;

/// How many acknowledgements one stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acks {
    /// Itself included.
    pub count: u32,
    /// Most bytes that one of them acknowledges; `None` if it is the only one, and they are all that it does.
    pub longest: Option<u32>,
}

impl Acks {
    pub(crate) const ONE: Acks = Acks {
        count: 1,
        longest: None,
    };
}

/// What a connection lets a run reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// SND.UNA.
    pub una: SeqNumber,
    /// SND.NXT: what is acknowledged beyond it is refused (RFC 9293 section 3.10.7.4).
    pub nxt: SeqNumber,
    /// Most bytes between one acknowledgement and the next.
    pub stretch: u32,
}

impl Reach {
    /// The bytes from `acknowledged` to `ack`, if it goes forward and not too far.
    fn step(&self, acknowledged: SeqNumber, ack: u32) -> Option<u32> {
        let step = SeqNumber::new(ack).since(acknowledged);
        let most = self.nxt.since(acknowledged).min(self.stretch);
        (1..=most).contains(&step).then_some(step)
    }
}

/// Acknowledgements that the stack will take as one: begun by [`crate::Stack::begin_run`], grown by
/// [`merge`](Self::merge), taken by [`crate::Stack::end_run`]. Nothing else may be told about their connection in between.
#[derive(Clone, Debug)]
#[must_use]
pub struct AckRun {
    conn: ConnId,
    key: FlowKey,
    /// Of the newest.
    header: TcpHeader,
    ecn: Ecn,
    reach: Reach,
    count: u32,
    longest: u32,
}

impl AckRun {
    pub(crate) fn new(conn: ConnId, first: &Segment<'_>, reach: Reach) -> Option<Self> {
        let longest = reach.step(reach.una, first.header.ack)?;
        Some(AckRun {
            conn,
            key: first.key,
            header: *first.header,
            ecn: first.ecn,
            reach,
            count: 1,
            longest,
        })
    }

    /// Whose acknowledgements they are. They were found valid and in the window: the link address of the peer may
    /// follow them.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Takes `segment`, if it continues the run.
    #[must_use]
    pub fn merge(&mut self, segment: &Segment<'_>) -> bool {
        let (newest, header) = (&mut self.header, segment.header);
        let acknowledged = SeqNumber::new(newest.ack);
        let Some(step) = self.reach.step(acknowledged, header.ack) else {
            return false;
        };
        if segment.key != self.key
            || header.seq != newest.seq
            || header.flags != newest.flags
            || segment.payload_len > 0
            || segment.ecn != self.ecn
            || !says_the_same(&newest.options, &header.options)
        {
            return false;
        }
        newest.ack = header.ack;
        newest.window = header.window;
        newest.options = header.options;
        self.count += 1;
        self.longest = self.longest.max(step);
        true
    }

    pub(crate) fn acks(&self) -> Acks {
        Acks {
            count: self.count,
            longest: (self.count > 1).then_some(self.longest),
        }
    }

    /// The one that stands for all.
    pub(crate) fn segment(&self) -> Segment<'_> {
        Segment {
            key: self.key,
            header: &self.header,
            payload_len: 0,
            ecn: self.ecn,
        }
    }
}

/// Runs of several connections, whose acknowledgements arrive among one another.
#[derive(Debug)]
pub struct AckRuns {
    /// Never more than it has room for from the start.
    runs: Vec<AckRun>,
}

/// What became of a segment that might continue a run.
#[derive(Debug)]
#[must_use]
pub enum Joining {
    /// It is part of one now.
    Joined,
    /// It is not, and the run of its connection has to end before it is taken.
    Ends(AckRun),
    /// No run of its connection waits.
    Free,
}

impl AckRuns {
    /// As GRO in Linux has for each of its buckets (MAX_GRO_SKBS). More would make the search longer than what it saves.
    const MOST: usize = 8;

    /// None yet. Memory for all that there can be is reserved here.
    #[must_use]
    pub fn new() -> Self {
        AckRuns {
            runs: Vec::with_capacity(Self::MOST),
        }
    }

    /// Takes `segment`, if it continues the run of its connection.
    #[inline]
    pub fn join(&mut self, segment: &Segment<'_>) -> Joining {
        // The newest first: most often it is that one again.
        let found = self.runs.iter().rposition(|run| run.key == segment.key);
        match found {
            None => Joining::Free,
            Some(at) if self.runs[at].merge(segment) => Joining::Joined,
            Some(at) => Joining::Ends(self.runs.remove(at)),
        }
    }

    /// Lets a run wait for more. The one that has to end for it, if there were too many.
    #[must_use]
    pub fn wait(&mut self, run: AckRun) -> Option<AckRun> {
        let oldest = (self.runs.len() == Self::MOST).then(|| self.runs.remove(0));
        self.runs.push(run);
        oldest
    }

    /// One that waits no longer; all of them, at the end of a batch.
    pub fn end_next(&mut self) -> Option<AckRun> {
        self.runs.pop()
    }
}

impl Default for AckRuns {
    fn default() -> Self {
        Self::new()
    }
}

/// Nothing but an acknowledgement, without any report: what a run may consist of, as far as the segment tells. One that
/// arrived marked is not, because AccECN counts packets (RFC 9768 section 3.2.1).
pub(crate) fn is_pure_ack(segment: &Segment<'_>) -> bool {
    let flags = segment.header.flags;
    segment.payload_len == 0
        && flags.union(TcpFlags::ACE) == TcpFlags::ACK.union(TcpFlags::ACE)
        && segment.ecn != Ecn::Ce
        && segment.header.options.sack.is_empty()
}

/// Whether the options of the later acknowledgement say all that those of the earlier one do.
///
/// An equal echo, because it tells an original from its repetition (RFC 3522) and measures a round trip; a TSval that
/// PAWS does not find old (RFC 7323 section 5.3). An equal count of marked bytes, if there is one: counters are
/// cumulative, and those of unmarked bytes are used by nobody (RFC 9768 section 3.2.1).
fn says_the_same(earlier: &TcpOptions, later: &TcpOptions) -> bool {
    let timestamps = match (&earlier.timestamps, &later.timestamps) {
        (None, None) => true,
        (Some(earlier), Some(later)) => earlier.echo == later.echo && !is_older(later, earlier),
        _ => false,
    };
    let marks = match (&earlier.accecn, &later.accecn) {
        (None, None) => true,
        (Some(earlier), Some(later)) => earlier.ce() == later.ce(),
        _ => false,
    };
    timestamps && marks && later.sack.is_empty()
}

fn is_older(one: &Timestamps, than: &Timestamps) -> bool {
    one.value.wrapping_sub(than.value) > i32::MAX as u32
}

impl Connection {
    /// What a run that begins with `segment`, a pure ACK, may reach; `None` if it is to be taken by itself, by all the
    /// steps of RFC 9293 section 3.10.7.4.
    pub(crate) fn expect_run(&self, segment: &Segment<'_>, now: Instant) -> Option<Reach> {
        let header = segment.header;
        let is_steady = matches!(
            self.state,
            State::Established | State::CloseWait | State::FinWait1
        ) && self.finish.is_none()
            && self.loss.is_steady()
            && !self.send.is_probing();
        let is_next = SeqNumber::new(header.seq) == self.receive.window.ack_number();
        let is_timely = match (&self.timestamps, &header.options.timestamps) {
            (None, _) => true,
            (Some(state), Some(timestamps)) => !state.is_old(timestamps.value, now),
            (Some(_), None) => false,
        };
        (is_steady && is_next && is_timely).then(|| Reach {
            una: self.send.seq(self.send.snd_una),
            nxt: self.send.seq(self.send.snd_nxt),
            stretch: self.control.ecn.longest_stretch(self.send.smss()),
        })
    }
}

#[cfg(test)]
mod tests;
