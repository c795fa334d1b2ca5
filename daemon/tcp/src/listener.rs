//! Segments that belong to no connection: LISTEN and CLOSED (RFC 9293 sections 3.10.7.1 and 3.10.7.2).

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

use crate::segment::Segment;
use crate::stats::SegmentDrop;

/// What a segment for no known flow asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A clean SYN.
    Open,
    /// Something for a connection that is not here: a RST is due.
    Stray,
    /// Nothing to be done.
    Drop(SegmentDrop),
}

/// Sorts a segment that matches no connection.
pub(crate) fn classify(header: &TcpHeader) -> Arrival {
    let flags = header.flags;
    let syn = flags.contains(TcpFlags::SYN);
    if syn && flags.intersects(TcpFlags::FIN.union(TcpFlags::RST)) {
        return Arrival::Drop(SegmentDrop::IllegalFlags);
    }
    if flags.contains(TcpFlags::RST) {
        return Arrival::Drop(SegmentDrop::UnknownReset);
    }
    if flags.contains(TcpFlags::ACK) {
        return Arrival::Stray;
    }
    if syn {
        return Arrival::Open;
    }
    Arrival::Drop(SegmentDrop::ListenNoSyn)
}

/// The RST that answers a segment for a closed port or an unknown flow (RFC 9293 section 3.10.7.1). `None`
/// for a RST, which is never answered.
pub(crate) fn refusal(segment: &Segment<'_>) -> Option<TcpHeader> {
    let header = segment.header;
    if header.flags.contains(TcpFlags::RST) {
        return None;
    }
    let (seq, ack, flags) = if header.flags.contains(TcpFlags::ACK) {
        (header.ack, 0, TcpFlags::RST)
    } else {
        let ack = header.seq.wrapping_add(segment.sequence_len());
        (0, ack, TcpFlags::RST.union(TcpFlags::ACK))
    };
    Some(TcpHeader {
        src_port: header.dst_port,
        dst_port: header.src_port,
        seq,
        ack,
        flags,
        window: 0,
        urgent: 0,
        options: TcpOptions::default(),
    })
}
