//! Segments of one flow that leave together: what the stack cut, joined again for a lane that cuts by itself.
//!
//! The stack knows nothing of super-segments: it records, paces and counts segment by segment. What it lets go within
//! one moment differs only in sequence number and payload, so a run of full segments and a last one of any length are
//! one header with all their bytes (`Documentation/networking/segmentation-offloads.rst`). The device repeats the
//! header: FIN and PSH only on the last packet. CWR it would repeat on none or all, so a segment with CWR, whether
//! of RFC 3168 or a counter of RFC 9768, travels alone.

use core::ops::Range;

use sluice_tcp::Outgoing;
use sluice_wire::TcpFlags;

/// Flags of a segment that may have others behind it, and those that end a train.
const THROUGH: TcpFlags = TcpFlags::ACK.union(TcpFlags::ECE).union(TcpFlags::AE);
const LAST: TcpFlags = TcpFlags::PSH.union(TcpFlags::FIN);

/// A segment, and those that follow it without a gap.
#[derive(Debug)]
pub(super) struct Train {
    first: Outgoing,
    /// Payload bytes of every segment but the last.
    each: u64,
    /// Stream offset behind the last byte.
    end: u64,
    last_flags: TcpFlags,
}

impl Train {
    /// A train of one.
    pub(super) fn new(first: Outgoing) -> Self {
        let Range { start, end } = first.payload;
        Train {
            each: end - start,
            end,
            last_flags: first.header.flags,
            first,
        }
    }

    /// Takes `next` in if it continues this train and the payload stays at or below `most` bytes; else says false.
    pub(super) fn couple(&mut self, next: &Outgoing, most: u64) -> bool {
        if !self.is_continued_by(next) || next.payload.end - self.first.payload.start > most {
            return false;
        }
        self.end = next.payload.end;
        self.last_flags = next.header.flags;
        true
    }

    fn is_continued_by(&self, next: &Outgoing) -> bool {
        let (one, other) = (&self.first.header, &next.header);
        let len = next.payload.end - next.payload.start;
        self.each > 0
            && next.conn == self.first.conn
            && next.payload.start == self.end
            // All full so far.
            && (self.end - self.first.payload.start).is_multiple_of(self.each)
            && (1..=self.each).contains(&len)
            && THROUGH.contains(self.last_flags)
            && THROUGH.union(LAST).contains(other.flags)
            && one.flags.ace() == other.flags.ace()
            && (one.ack, one.window, one.options) == (other.ack, other.window, other.options)
            && self.first.ect == next.ect
    }

    /// Its first segment as it is, which is all of a train of one.
    pub(super) fn first(&self) -> &Outgoing {
        &self.first
    }

    /// Segments in it.
    pub(super) fn segments(&self) -> u64 {
        (self.end - self.first.payload.start)
            .div_ceil(self.each.max(1))
            .max(1)
    }

    /// Payload bytes of every segment but the last.
    pub(super) fn each(&self) -> u64 {
        self.each
    }

    /// The train as one segment: the first header, all payload, the flags of the last.
    pub(super) fn whole(&self) -> Outgoing {
        let mut whole = self.first.clone();
        whole.header.flags = self.last_flags;
        whole.payload.end = self.end;
        whole
    }

    /// Its segments one by one, as the stack cut them.
    pub(super) fn cars(&self) -> impl Iterator<Item = Outgoing> + '_ {
        (0..self.segments()).map(|index| {
            let mut car = self.first.clone();
            let ahead = index * self.each;
            car.payload.start += ahead;
            car.payload.end = (car.payload.start + self.each).min(self.end);
            // Sequence numbers wrap; a train is far shorter.
            #[allow(clippy::cast_possible_truncation)]
            let ahead = ahead as u32;
            car.header.seq = car.header.seq.wrapping_add(ahead);
            if car.payload.end == self.end {
                car.header.flags = self.last_flags;
            }
            car
        })
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use sluice_tcp::ConnId;
    use sluice_tcp::flow_table::FlowKey;
    use sluice_wire::{TcpHeader, TcpOptions, Timestamps};

    use super::*;

    const MSS: u64 = 1448;
    const MOST: u64 = 45 * MSS;

    /// A segment of connection 0 with timestamps.
    fn segment(payload: Range<u64>, flags: TcpFlags) -> Outgoing {
        let key = FlowKey::new(
            IpAddr::from([192, 0, 2, 1]),
            80,
            IpAddr::from([192, 0, 2, 2]),
            40_000,
        );
        let seq = u32::try_from(payload.start).expect("a short stream");
        Outgoing {
            conn: ConnId::default(),
            key,
            header: TcpHeader {
                src_port: 80,
                dst_port: 40_000,
                seq: seq.wrapping_sub(3000),
                ack: 7,
                flags,
                window: 100,
                urgent: 0,
                options: TcpOptions {
                    timestamps: Some(Timestamps { value: 1, echo: 2 }),
                    ..TcpOptions::default()
                },
            },
            payload,
            ect: false,
        }
    }

    fn train(segments: u64) -> Train {
        let mut train = Train::new(segment(0..MSS, TcpFlags::ACK));
        for index in 1..segments {
            let next = segment(index * MSS..(index + 1) * MSS, TcpFlags::ACK);
            assert!(train.couple(&next, MOST));
        }
        train
    }

    fn takes(train: &mut Train, next: Outgoing) -> bool {
        train.couple(&next, MOST)
    }

    #[test]
    fn cars_are_the_segments_that_were_coupled() {
        let segments = [
            segment(0..MSS, TcpFlags::ACK),
            segment(MSS..2 * MSS, TcpFlags::ACK),
            segment(2 * MSS..2 * MSS + 10, TcpFlags::ACK | TcpFlags::PSH),
        ];
        let mut train = Train::new(segments[0].clone());
        for next in &segments[1..] {
            assert!(takes(&mut train, next.clone()));
        }
        assert_eq!(train.segments(), 3);
        for (car, segment) in train.cars().zip(&segments) {
            assert_eq!(car.header, segment.header);
            assert_eq!(car.payload, segment.payload);
        }
        let whole = train.whole();
        assert_eq!(whole.payload, 0..2 * MSS + 10);
        assert_eq!(whole.header.seq, segments[0].header.seq);
        assert_eq!(whole.header.flags, TcpFlags::ACK | TcpFlags::PSH);
    }

    #[test]
    fn nothing_follows_a_short_segment_or_one_with_psh_or_fin() {
        let mut short = train(2);
        assert!(takes(
            &mut short,
            segment(2 * MSS..2 * MSS + 1, TcpFlags::ACK)
        ));
        assert!(!takes(
            &mut short,
            segment(2 * MSS + 1..2 * MSS + 2, TcpFlags::ACK)
        ));
        for last in [TcpFlags::PSH, TcpFlags::FIN] {
            let mut ended = train(1);
            assert!(takes(
                &mut ended,
                segment(MSS..2 * MSS, TcpFlags::ACK | last)
            ));
            assert!(!takes(&mut ended, segment(2 * MSS..3 * MSS, TcpFlags::ACK)));
        }
    }

    #[test]
    fn only_the_next_bytes_are_coupled() {
        assert!(!takes(
            &mut train(2),
            segment(3 * MSS..4 * MSS, TcpFlags::ACK)
        ));
        assert!(!takes(&mut train(2), segment(0..MSS, TcpFlags::ACK)));
        assert!(!takes(
            &mut train(2),
            segment(2 * MSS..2 * MSS, TcpFlags::ACK)
        ));
        let longer = segment(2 * MSS..3 * MSS + 1, TcpFlags::ACK);
        assert!(!takes(&mut train(2), longer));
    }

    #[test]
    fn a_header_that_differs_in_more_than_its_place_is_not_coupled() {
        let next = || segment(MSS..2 * MSS, TcpFlags::ACK);
        let mut other = next();
        other.header.ack += 1;
        assert!(!takes(&mut train(1), other));
        let mut other = next();
        other.header.window += 1;
        assert!(!takes(&mut train(1), other));
        let mut other = next();
        other.header.options.timestamps = None;
        assert!(!takes(&mut train(1), other));
        let mut other = next();
        other.ect = true;
        assert!(!takes(&mut train(1), other));
        let echo = segment(MSS..2 * MSS, TcpFlags::ACK | TcpFlags::ECE);
        assert!(!takes(&mut train(1), echo));
        assert!(takes(&mut train(1), next()));
    }

    #[test]
    fn a_segment_with_cwr_travels_alone() {
        let cwr = TcpFlags::ACK | TcpFlags::CWR;
        assert!(!takes(&mut train(1), segment(MSS..2 * MSS, cwr)));
        let mut first = Train::new(segment(0..MSS, cwr));
        assert!(!takes(&mut first, segment(MSS..2 * MSS, TcpFlags::ACK)));
    }

    #[test]
    fn a_train_ends_at_the_limit() {
        let mut full = train(45);
        assert!(!takes(
            &mut full,
            segment(45 * MSS..46 * MSS, TcpFlags::ACK)
        ));
    }

    #[test]
    fn a_segment_without_payload_is_a_train_of_its_own() {
        let ack = segment(5..5, TcpFlags::ACK);
        let mut alone = Train::new(ack.clone());
        assert!(!takes(&mut alone, segment(5..5 + MSS, TcpFlags::ACK)));
        assert_eq!(alone.segments(), 1);
        let cars: Vec<Outgoing> = alone.cars().collect();
        assert_eq!(cars.len(), 1);
        assert_eq!(cars[0].payload, ack.payload);
    }
}
