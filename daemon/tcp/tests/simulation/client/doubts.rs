//! What may never be wrong in a segment of the server: what is, ends the simulation.

use core::ops::Range;

use sluice_wire::{TcpFlags, TcpHeader};

use super::{Client, signed};

impl Client {
    /// What may never be wrong in a segment of the server.
    pub(super) fn check(&self, header: &TcpHeader, payload: &Range<u64>) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}: {header:?} with {payload:?}, {self:?}"));
        let position = self.rcv_position(header.seq);
        if !payload.is_empty() && position != signed(payload.start) {
            return wrong("SEQ is not where the payload was cut");
        }
        let len = payload.end - payload.start;
        if len > self.smss {
            return wrong("a segment longer than our MSS");
        }
        if payload.end > self.plan.response {
            return wrong("bytes beyond the response");
        }
        let probe = len == 1 && payload.start <= self.advertised;
        if payload.end > self.advertised && !probe {
            return wrong("bytes beyond our window");
        }
        if header.flags.contains(TcpFlags::FIN)
            && position + signed(len) != signed(self.plan.response)
        {
            return wrong("a FIN that is not at the end");
        }
        if !header.flags.contains(TcpFlags::ACK) {
            return wrong("a segment without ACK");
        }
        if header.flags.contains(TcpFlags::ECE) {
            return wrong("an echo of a mark that nobody made");
        }
        if header.flags.contains(TcpFlags::CWR) && !self.use_ecn {
            return wrong("an answer to a mark without ECN");
        }
        if self.snd_position(header.ack) > signed(self.max) {
            return wrong("an ACK of what was never sent");
        }
        if header.options.timestamps.is_some() != self.use_timestamps {
            return wrong("timestamps");
        }
        if !header.options.sack.is_empty() && !self.use_sack {
            return wrong("SACK that was not negotiated");
        }
        for block in &header.options.sack {
            let (start, end) = (self.snd_position(block.start), self.snd_position(block.end));
            if start < 0 || start >= end || end > signed(self.max) {
                return wrong("a SACK block of what was never sent");
            }
        }
        Ok(())
    }
}
