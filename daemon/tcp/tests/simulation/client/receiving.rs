//! The receiving half: what came, what is held, what of it is read and said.

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_wire::{SackBlock, SackBlocks, TcpFlags, TcpHeader};

use super::{Client, low, signed};

const READ_PERIOD: Duration = Duration::from_millis(50);
const DELAYED_ACK: Duration = Duration::from_millis(40);
const RENEGES_EVERY: u32 = 11;

impl Client {
    /// RFC 3168 section 6.1.3: a mark on the segment with CWR begins anew.
    pub(super) fn take_mark(&mut self, marked: bool, flags: TcpFlags) {
        let goes_on = self.echo && !flags.contains(TcpFlags::CWR);
        let is_new = self.use_ecn && marked && !goes_on;
        self.echo = goes_on || is_new;
        self.echoes += u64::from(is_new);
    }

    pub(super) fn note_timestamp(&mut self, header: &TcpHeader) {
        if let Some(stamps) = header.options.timestamps
            && self.rcv_position(header.seq) <= signed(self.rcv)
            && stamps.value.wrapping_sub(self.ts_recent).cast_signed() >= 0
        {
            self.ts_recent = stamps.value;
        }
    }

    pub(super) fn take_payload(&mut self, now: Instant, header: &TcpHeader, payload: &Range<u64>) {
        if header.flags.contains(TcpFlags::FIN) && self.fin_at.is_none() {
            self.fin_at = Some(self.plan.response);
            self.ack_now = true;
        }
        let position = self.rcv_position(header.seq);
        if payload.is_empty() {
            // A keep-alive, or something old: RFC 9293 section 3.10.7.4, first check.
            self.ack_now |= position < signed(self.rcv) || header.flags.contains(TcpFlags::FIN);
        } else if payload.end <= self.rcv || payload.start > self.rcv {
            self.ack_now = true;
        } else {
            self.unacknowledged += 1;
            self.ack_now |= self.unacknowledged >= 2 || !self.held.is_empty();
            self.ack_at = self.ack_at.or(Some(now + DELAYED_ACK));
        }
        // A probe beyond the window is not taken.
        let end = payload
            .end
            .min(self.read + u64::from(self.plan.receive_buffer));
        if payload.start < end {
            self.hold(payload.start, end);
        }
        while let Some((&start, &end)) = self.held.first_key_value()
            && start <= self.rcv
        {
            self.held.remove(&start);
            if end > self.rcv {
                self.rcv = end;
                self.progress_at = now;
            }
        }
        if self.plan.reneges && self.said.is_multiple_of(RENEGES_EVERY) {
            self.held.clear();
        }
        if self.plan.read_slowly == 0 {
            self.read = self.rcv;
        } else if self.read < self.rcv && self.read_at.is_none() {
            self.read_at = Some(now + READ_PERIOD);
        }
        if self.fin_at == Some(self.rcv) {
            self.ack_now = true;
        }
    }

    fn hold(&mut self, mut start: u64, mut end: u64) {
        self.newest = start;
        let touching: Vec<u64> = self
            .held
            .range(..=end)
            .filter(|(_, held_end)| **held_end >= start)
            .map(|(held_start, _)| *held_start)
            .collect();
        for key in touching {
            let held_end = self.held.remove(&key).expect("found just now");
            start = start.min(key);
            end = end.max(held_end);
        }
        self.held.insert(start, end);
    }

    pub(super) fn read_some(&mut self, now: Instant) {
        self.read = self.rcv.min(self.read + u64::from(self.plan.read_slowly));
        if self.read < self.rcv {
            self.read_at = Some(now + READ_PERIOD);
        }
        // Receiver's silly window avoidance (RFC 9293 section 3.8.6.2.2).
        let edge = self.read + u64::from(self.plan.receive_buffer);
        let useful = self.smss.min(u64::from(self.plan.receive_buffer / 2));
        self.ack_now |= edge >= self.advertised + useful;
    }

    /// RCV.NXT with the server's FIN.
    pub(super) fn rcv_nxt(&self) -> u64 {
        self.rcv + u64::from(self.fin_at == Some(self.rcv))
    }

    pub(super) fn ack_number(&self) -> u32 {
        if self.plan.optimistic > 0 && self.rcv > 0 {
            let highest = self.held.values().copied().max().unwrap_or(0).max(self.rcv);
            let claimed = (highest + self.plan.optimistic * self.smss).min(self.plan.response);
            return self.server_iss.wrapping_add(1).wrapping_add(low(claimed));
        }
        self.server_iss
            .wrapping_add(1)
            .wrapping_add(low(self.rcv_nxt()))
    }

    pub(super) fn sack_blocks(&self) -> SackBlocks {
        let mut blocks = SackBlocks::EMPTY;
        if !self.use_sack {
            return blocks;
        }
        let room = if self.use_timestamps { 3 } else { 4 };
        let newest = self.held.range(..=self.newest).next_back();
        let newest = newest.filter(|(_, end)| **end > self.newest);
        let others = self.held.iter().rev();
        let others = others.filter(|range| newest != Some(*range));
        for (start, end) in newest.into_iter().chain(others).take(room) {
            let wire = |offset: u64| self.server_iss.wrapping_add(1).wrapping_add(low(offset));
            blocks.push(SackBlock {
                start: wire(*start),
                end: wire(*end),
            });
        }
        blocks
    }

    /// Where a sequence number of the server lies in its stream.
    pub(super) fn rcv_position(&self, seq: u32) -> i64 {
        let next = self.server_iss.wrapping_add(1).wrapping_add(low(self.rcv));
        signed(self.rcv) + i64::from(seq.wrapping_sub(next).cast_signed())
    }
}
