//! Runs: new segments of one connection that leave at one moment, decided and recorded as one.
//!
//! What one segment costs besides its bytes, a run costs once: windows, pacing, the record of the flight, timers, the
//! header. Invariant, which `tests/simulation.rs` proves by doing everything twice: the segments of a run are those that
//! would have left one by one, at the same time, and nobody can tell later how they were polled. So a run ends where
//! the next segment would differ in more than its place in the stream, or where it takes a decision of its own:
//! - windows, the pacer, the turn of the connection, and memory that is not held yet end it as they would end a burst;
//! - it has full segments only, but for the last; PSH and FIN are the last one's;
//! - CWR leaves alone, and so does what has room for an AccECN option that is due;
//! - a segment that may be held back as a test (see `skip`) begins the next one;
//! - repetitions, probes of any kind, and new data while F-RTO counts it or something is lost are no runs.
//!
//! The lane cuts a run again: a device by `segment_len`, or the driver by [`Outgoing::segments`].

use core::ops::Range;

use sluice_wire::TcpFlags;

use crate::connection::{Connection, Env};
use crate::segment::Outgoing;
use crate::send::{Cut, Sender};

/// Flags that belong to the last segment of a run.
const FLAGS_OF_LAST: TcpFlags = TcpFlags::PSH.union(TcpFlags::FIN);

/// How much one call of [`poll_transmit_run`](crate::Stack::poll_transmit_run) may yield. A single segment is never
/// refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimit {
    /// Segments, from 1 on.
    pub segments: u32,
    /// Payload bytes.
    pub bytes: u32,
}

impl RunLimit {
    /// No runs.
    pub const ONE: RunLimit = RunLimit {
        segments: 1,
        bytes: u32::MAX,
    };

    /// So many segments of any length.
    #[must_use]
    pub const fn segments(segments: u32) -> RunLimit {
        RunLimit {
            segments,
            bytes: u32::MAX,
        }
    }
}

/// A run under construction: first what it may be, then what it is.
#[derive(Debug)]
pub(crate) struct Run {
    /// Segments that may follow the first.
    more: u32,
    bytes: u64,
    /// How many there are.
    segments: u32,
    /// What all but the last have, if there are several.
    segment_len: u32,
}

impl Run {
    /// Of one segment, and at most as many as both limits say.
    pub(crate) fn new(limit: RunLimit, segments: u32) -> Run {
        Run {
            more: limit.segments.min(segments).saturating_sub(1),
            bytes: limit.bytes.into(),
            segments: 1,
            segment_len: 0,
        }
    }

    /// Whether anything may follow the first segment.
    pub(crate) fn has_room(&self) -> bool {
        self.more > 0
    }

    /// How many segments it has.
    pub(crate) fn segments(&self) -> u32 {
        self.segments
    }

    /// Payload bytes of each of them but the last; `payload` is that of the run.
    pub(crate) fn segment_len(&self, payload: &Range<u64>) -> u32 {
        match self.segments {
            1 => u32::try_from(payload.end - payload.start).unwrap_or(u32::MAX),
            _ => self.segment_len,
        }
    }
}

impl Connection {
    /// Has everything leave that may follow `cut`, a new segment that is accounted for, and makes it part of `cut`.
    pub(crate) fn extend(&mut self, cut: &mut Cut, run: &mut Run, env: &mut Env<'_>) {
        let smss = self.send.smss();
        let whole = u64::from(smss);
        let is_full = cut.payload.end - cut.payload.start == whole;
        if !is_full
            || self.send.unsent() == 0
            || self.control.ecn.marks_next(0)
            || !self.loss.may_run()
        {
            return;
        }
        let from = cut.payload.end;
        let room = self.send_room().min(self.flight_room_held(env));
        let bytes = run.bytes.saturating_sub(whole);
        let bytes = bytes.min(self.bytes_before_test(env));
        let most = u64::from(run.more).min(self.released_segments(env.now));
        let full = self.send.full_segments(room.min(bytes), most);
        let end = from + full * whole;
        let tail = if full < most {
            self.tail_of_run(end, room - full * whole, bytes - full * whole)
        } else {
            None
        };
        let segments = full + u64::from(tail.is_some());
        if segments == 0 {
            return;
        }
        let more = tail.unwrap_or_else(|| self.send.cut_of(from..end));
        self.account_more(&(from..more.payload.end), &more, env);
        (cut.payload.end, cut.fin, cut.push) = (more.payload.end, more.fin, more.push);
        // At most `run.more` of them.
        run.segments += u32::try_from(segments).unwrap_or(0);
        run.segment_len = smss;
    }

    /// The short segment that follows full ones up to `from`, if it may leave as one of them.
    fn tail_of_run(&self, from: u64, room: u64, bytes: u64) -> Option<Cut> {
        let whole = u64::from(self.send.smss());
        let unsent = self.send.unsent_behind(from);
        // As for a segment of its own: rather wait for room for a whole one than send a sliver.
        if unsent == 0 || room < whole.min(unsent) {
            return None;
        }
        let tail = self.send.next_behind(from, room)?;
        let len = tail.payload.end - from;
        let fits = len > 0 && len <= bytes;
        let room = usize::try_from(whole - len).unwrap_or(0);
        (fits && !self.control.ecn.marks_next(room)).then_some(tail)
    }

    /// New segments behind the first of a run leave: `range`, whose end is that of `last`.
    fn account_more(&mut self, range: &Range<u64>, last: &Cut, env: &mut Env<'_>) {
        let smss = u64::from(self.send.smss());
        let len = Sender::end_of(last) - range.start;
        // A segment with FIN counts one more.
        let full = (range.end - range.start - u64::from(last.fin)) / smss.max(1);
        let rest = len - full * smss;
        // A run is far shorter than the sequence space.
        let (full, rest) = (narrow(full), narrow(rest));
        self.note_more(range.start, full, rest, env);
        self.send.on_sent_new(last, env.now);
        self.record_new(env);
        env.counters.bytes_out += range.end - range.start;
    }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Outgoing {
    /// How many segments it is: 1 if it is no run.
    #[must_use]
    pub fn count(&self) -> u32 {
        let len = self.payload.end - self.payload.start;
        if len <= u64::from(self.segment_len) {
            return 1;
        }
        narrow(len.div_ceil(self.segment_len.max(1).into()))
    }

    /// Its segments one by one, as they would have been polled.
    pub fn segments(&self) -> impl Iterator<Item = Outgoing> + '_ {
        let each = u64::from(self.segment_len);
        (0..self.count()).map(move |index| {
            let ahead = u64::from(index) * each;
            let start = self.payload.start + ahead;
            let end = (start + each).min(self.payload.end);
            let mut header = self.header;
            header.seq = header.seq.wrapping_add(narrow(ahead));
            if end < self.payload.end {
                header.flags = header.flags.without(FLAGS_OF_LAST);
            }
            Outgoing {
                header,
                payload: start..end,
                segment_len: narrow(end - start),
                ..*self
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use sluice_wire::TcpHeader;

    use super::*;
    use crate::events::ConnId;
    use crate::flow_table::FlowKey;

    fn outgoing(payload: Range<u64>, segment_len: u32, flags: TcpFlags) -> Outgoing {
        let (ours, theirs) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        Outgoing {
            conn: ConnId::default(),
            key: FlowKey::new(ours, 80, theirs, 40_000),
            header: TcpHeader {
                seq: u32::MAX - 1000,
                flags,
                window: 100,
                ..TcpHeader::default()
            },
            payload,
            segment_len,
            ect: true,
        }
    }

    #[test]
    fn a_run_is_cut_into_full_segments_and_a_last_one() {
        let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN;
        let run = outgoing(5000..7900, 1448, flags);
        assert_eq!(run.count(), 3);
        let cut: Vec<_> = run
            .segments()
            .map(|one| {
                (
                    one.header.seq,
                    one.header.flags,
                    one.payload,
                    one.segment_len,
                )
            })
            .collect();
        let seq = u32::MAX - 1000;
        let expected = [
            (seq, TcpFlags::ACK, 5000..6448, 1448),
            (seq.wrapping_add(1448), TcpFlags::ACK, 6448..7896, 1448),
            (seq.wrapping_add(2896), flags, 7896..7900, 4),
        ];
        assert_eq!(cut, expected);
        assert!(
            run.segments()
                .all(|one| one.ect && one.header.window == 100)
        );
    }

    #[test]
    fn what_is_no_run_is_cut_into_itself() {
        for (payload, len) in [(7..7, 0), (0..1448, 1448), (0..9, 9)] {
            let single = outgoing(payload.clone(), len, TcpFlags::ACK | TcpFlags::PSH);
            assert_eq!(single.count(), 1);
            let cut: Vec<_> = single.segments().collect();
            assert_eq!((cut.len(), &cut[0].payload), (1, &payload));
            assert_eq!(cut[0].header, single.header);
        }
    }
}
