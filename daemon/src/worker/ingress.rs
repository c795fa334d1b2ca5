//! From a received frame to the stack: parse, verify, find the owner, keep the new bytes.
//!
//! Every frame of a batch is parsed and verified by itself. Acknowledgements of one connection that follow one another
//! in the batch are then taken by the stack as one ([`sluice_tcp::AckRun`]). They wait in `ack_runs` no longer than until
//! anything else of their connection comes, so its segments keep their order.

use core::net::SocketAddr;
use core::ops::Range;

use sluice_afxdp::{RxFrame, RxPacket};
use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::{AckRun, Disposition, Joining, Receipt, Segment, SegmentDrop};
use sluice_wire::{Packet, TcpPacket};

use super::Worker;
use super::handoff::{Handoff, Parcel};
use super::icmp::quoting;
use super::loans::{LEAST_BYTES, Lending};
use crate::exchange::Exchange;
use crate::services::Services;

/// Frames taken from the other workers in one turn: they may send as fast as we take.
const PARCELS_PER_TURN: usize = 256;

impl Worker {
    /// Takes one batch from the RX ring. True if there was any.
    pub(super) fn receive(&mut self, now: Instant) -> bool {
        // Taken out for the time of the loop, which needs the worker as a whole.
        let Some(mut batch) = self.batch.take() else {
            return false;
        };
        let packets = self.queue.receive(&mut batch);
        if self.loans.has_box() {
            for frame in batch.drain() {
                let is_last = frame.is_last();
                self.chain.push(frame);
                if is_last {
                    self.on_lendable(now);
                }
            }
        } else {
            for packet in batch.packets() {
                self.on_frame(&packet, now);
            }
        }
        self.end_runs(now);
        self.queue.recycle(&mut batch);
        self.batch = Some(batch);
        packets > 0
    }

    /// The packet in `chain`, whose frames then go back to the queue or are lent to the disk.
    fn on_lendable(&mut self, now: Instant) {
        let mut chain = core::mem::take(&mut self.chain);
        let packet = RxPacket::of(&chain);
        self.on_frame(&packet, now);
        if let Some(lending) = self.lending.take() {
            self.lend(&lending, &mut chain);
        }
        for frame in chain.drain(..) {
            self.queue.release(frame);
        }
        self.chain = chain;
    }

    fn lend(&mut self, lending: &Lending, chain: &mut Vec<RxFrame>) {
        let Lending {
            conn, skip, len, ..
        } = *lending;
        let until = lending.at + len as u64;
        let lent = self.exchanges[conn.slot()].as_mut().and_then(|exchange| {
            let loan = self.loans.make(chain, skip, len)?;
            Some(exchange.lend(until, loan, &mut self.services))
        });
        match lent {
            Some(Ok(())) => {
                self.services.counters.upload_bytes_lent += len as u64;
                return;
            }
            Some(Err(unwanted)) => self.loans.end(unwanted, &mut self.queue),
            None => {}
        }
        // They are acknowledged: without them the file would have a hole.
        self.counters.request_not_kept += 1;
        self.stack.abort(conn);
    }

    fn on_frame(&mut self, frame: &RxPacket<'_>, now: Instant) {
        match sluice_wire::parse(frame.head(), frame.len(), &self.parse) {
            Ok(Packet::Tcp(packet)) => {
                if let Err(reason) = packet.verify_checksum(frame.pieces(), self.config.checksum_rx)
                {
                    self.counters.drop(reason);
                } else if !self.is_ours(&packet) {
                    self.counters.not_ours += 1;
                } else if !self.joins(&packet, now)
                    && !self.accept(&packet, frame.pieces(), true, now)
                    && !self.pass_on(frame, now)
                {
                    self.refuse(&packet);
                }
            }
            Ok(other) => match quoting(&other) {
                Some(error) => {
                    self.end_runs(now);
                    self.on_icmp(&error, frame, now);
                }
                None => self.answer_host(&other),
            },
            Err(reason) => self.counters.drop(reason),
        }
    }

    /// Whether a segment is an acknowledgement that now waits for others of its connection. If it is not, none of those
    /// before it waits any more.
    fn joins(&mut self, packet: &TcpPacket, now: Instant) -> bool {
        let segment = segment(packet);
        match self.ack_runs.join(&segment) {
            Joining::Joined => return true,
            Joining::Ends(run) => self.end_run(&run, now),
            Joining::Free => {}
        }
        let Some(run) = self.stack.begin_run(now, &segment) else {
            return false;
        };
        self.peers[run.conn().slot()] = packet.link.reply();
        if let Some(oldest) = self.ack_runs.wait(run) {
            self.end_run(&oldest, now);
        }
        true
    }

    fn end_run(&mut self, run: &AckRun, now: Instant) {
        if let Some(rtt) = self.stack.end_run(now, run) {
            self.services.histograms.record_rtt(rtt);
        }
    }

    fn end_runs(&mut self, now: Instant) {
        while let Some(run) = self.ack_runs.end_next() {
            self.end_run(&run, now);
        }
    }

    /// Frames that other workers passed on, as many as one turn may take; true if there were any. They were stamped
    /// when they left the first worker's ring.
    pub(super) fn receive_handed_over(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..PARCELS_PER_TURN {
            let Some(parcel) = self.handoff.as_mut().and_then(Handoff::take) else {
                break;
            };
            busy = true;
            self.on_parcel(parcel);
        }
        if let Some(handoff) = &mut self.handoff {
            handoff.flush();
        }
        busy
    }

    fn on_parcel(&mut self, parcel: Box<Parcel>) {
        let frame = parcel.frame();
        // The first worker checked it: a parcel that is neither cannot be, and would only be given back.
        let done = match sluice_wire::parse(frame, frame.len(), &self.parse) {
            Ok(Packet::Tcp(packet)) => self.on_foreign_segment(&packet, parcel),
            Ok(other) => match quoting(&other) {
                Some(error) => self.on_foreign_icmp(&error, parcel),
                None => Some(parcel),
            },
            Err(_) => Some(parcel),
        };
        if let (Some(parcel), Some(handoff)) = (done, &mut self.handoff) {
            handoff.return_parcel(parcel);
        }
    }

    /// Gives the parcel back unless it travels on.
    fn on_foreign_segment(
        &mut self,
        packet: &TcpPacket,
        parcel: Box<Parcel>,
    ) -> Option<Box<Parcel>> {
        let frame = core::iter::once(parcel.frame());
        if self.accept(packet, frame, false, parcel.arrived) {
            return Some(parcel);
        }
        let seen_by_all = self.handoff.as_mut()?.pass_further(parcel)?;
        self.refuse(packet);
        Some(seen_by_all)
    }

    pub(super) fn pass_on(&mut self, frame: &RxPacket<'_>, now: Instant) -> bool {
        self.handoff
            .as_mut()
            .is_some_and(|handoff| handoff.pass_on(frame.pieces(), now))
    }

    /// Gives a segment to the stack and keeps its new bytes. False if the flow is unknown here, for all that this
    /// worker can tell. `is_own`: `pieces` are the frames in `chain`, which may be lent.
    fn accept<'p>(
        &mut self,
        packet: &TcpPacket,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
        is_own: bool,
        arrived: Instant,
    ) -> bool {
        let receipt = self.give_to_stack(packet, arrived);
        if let Some(conn) = receipt.conn
            && !receipt.pieces.is_empty()
        {
            let peer = || self.stack.remote(conn);
            let exchange = self.exchanges[conn.slot()]
                .get_or_insert_with(|| Exchange::new(arrived).with_peer(peer()));
            let services = &mut self.services;
            self.lending = match is_own && self.loans.has_box() {
                true => lending(exchange, services, packet, &receipt),
                false => None,
            };
            let is_kept = match self.lending {
                Some(lending) => {
                    let copied = core::iter::once(lending.from..lending.at);
                    keep_payload(exchange, services, pieces, packet, &receipt, copied)
                }
                None => {
                    let copied = receipt.pieces.clone();
                    keep_payload(exchange, services, pieces, packet, &receipt, copied)
                }
            };
            if !is_kept {
                self.lending = None;
                // They are acknowledged already: without them the stream cannot go on.
                self.counters.request_not_kept += 1;
                self.stack.abort(conn);
            }
        }
        is_known_here(receipt.disposition)
    }

    /// Hands a checked segment to the stack and acts on what it says, except for the payload.
    fn give_to_stack(&mut self, packet: &TcpPacket, now: Instant) -> Receipt {
        let receipt = self.stack.on_segment(now, &segment(packet));
        if let Some(conn) = receipt.conn
            && receipt.trusted
        {
            self.peers[conn.slot()] = packet.link.reply();
        }
        if let Some(rtt) = receipt.rtt {
            self.services.histograms.record_rtt(rtt);
        }
        if let Some(header) = &receipt.reply {
            self.send_bare(&packet.link.reply(), packet.dst, packet.src, header);
        }
        receipt
    }

    fn refuse(&mut self, packet: &TcpPacket) {
        if let Some(header) = self.stack.refuse(&segment(packet)) {
            self.send_bare(&packet.link.reply(), packet.dst, packet.src, &header);
        }
    }

    /// The XDP program matched before; user space checks again, the filter is only an optimisation.
    fn is_ours(&self, packet: &TcpPacket) -> bool {
        let to = SocketAddr::new(packet.dst, packet.header.dst_port);
        self.config.endpoints.contains(&to)
    }
}

/// Whether the flow of a segment is this worker's business. A RST for an unknown flow is not: it is never answered,
/// but another worker may have the connection that it ends.
fn is_known_here(disposition: Disposition) -> bool {
    !matches!(
        disposition,
        Disposition::Unknown | Disposition::Dropped(SegmentDrop::UnknownReset)
    )
}

fn segment(packet: &TcpPacket) -> Segment<'_> {
    Segment {
        key: FlowKey::new(
            packet.dst,
            packet.header.dst_port,
            packet.src,
            packet.header.src_port,
        ),
        header: &packet.header,
        // At most 65,515 by the IP length.
        payload_len: u32::try_from(packet.payload_len).unwrap_or(u32::MAX),
        ecn: packet.ecn,
    }
}

/// What can be lent of a long segment that came whole and in order, for an upload.
fn lending(
    exchange: &Exchange,
    services: &Services,
    packet: &TcpPacket,
    receipt: &Receipt,
) -> Option<Lending> {
    let conn = receipt.conn?;
    let mut ranges = receipt.pieces.clone();
    let range = ranges.next()?;
    let from = u64::try_from(receipt.payload_start).ok()?;
    let len = packet.payload_len;
    let is_whole = range == (from..from + len as u64);
    if len < LEAST_BYTES || !is_whole {
        return None;
    }
    let to_copy = exchange.lends(&range, services)?;
    Some(Lending {
        conn,
        from,
        at: from + to_copy as u64,
        skip: packet.payload_offset + to_copy,
        len: len - to_copy,
    })
}

/// Copies `ranges` of the stream, wherever they lie in the pieces of the segment's frame, into the request buffer.
/// False if the buffer refused any, which the window makes impossible.
fn keep_payload<'p>(
    exchange: &mut Exchange,
    services: &mut Services,
    pieces: impl Iterator<Item = &'p [u8]> + Clone,
    packet: &TcpPacket,
    receipt: &Receipt,
    ranges: impl Iterator<Item = Range<u64>>,
) -> bool {
    let mut kept = true;
    for range in ranges {
        let Some(skip) = i64::try_from(range.start)
            .ok()
            .and_then(|start| usize::try_from(start - receipt.payload_start).ok())
        else {
            continue;
        };
        let mut from = packet.payload_offset + skip;
        let mut offset = range.start;
        let mut piece_start = 0;
        for piece in pieces.clone() {
            let piece_end = piece_start + piece.len();
            if from < piece_end && offset < range.end {
                let bytes = &piece[from - piece_start..];
                let wanted = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
                let bytes = &bytes[..bytes.len().min(wanted)];
                kept &= exchange.place(offset, bytes, services);
                offset += bytes.len() as u64;
                from += bytes.len();
            }
            piece_start = piece_end;
        }
    }
    kept
}
