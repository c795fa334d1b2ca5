//! What leaves the stack: each segment is what its line says, at the time of the line, and nothing else leaves.

use sluice_wire::{Ecn, TcpFlags};

use super::{Leaving, PEER_CLOCK, Peer, Runner, TOLERANCE};
use crate::expand::{relative, resolve};
use crate::script::{Pattern, Stamps};
use crate::text;

impl Runner {
    /// What a `>` line expects.
    pub(super) fn leave(&mut self, pattern: &Pattern) -> Result<(), String> {
        let time = self.line_time;
        self.advance(time + TOLERANCE, true)?;
        let Some(leaving) = self.leaving.pop_front() else {
            return Err("expected this segment, nothing left".to_owned());
        };
        let mut wrong = self.differences(pattern, &leaving);
        if leaving.at + TOLERANCE < time {
            wrong.push("time");
        }
        // What follows is timed from what really happened.
        self.line_time = time.max(leaving.at);
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!(
            "differs in: {}\n  actual   {}",
            wrong.join(", "),
            self.render(&leaving)
        ))
    }

    /// Names of the fields that are not as the line says.
    fn differences(&self, pattern: &Pattern, leaving: &Leaving) -> Vec<&'static str> {
        let header = &leaving.header;
        let peer = &self.peers[&leaving.port];
        let options = &header.options;
        let sack: Vec<(u32, u32)> = options.sack.iter().map(|b| (b.start, b.end)).collect();
        let expected_sack: Vec<(u32, u32)> = pattern
            .sack
            .iter()
            .map(|(start, end)| (relative(peer.irs, *start), relative(peer.irs, *end)))
            .collect();
        let ack = pattern.ack.map_or(0, |ack| resolve(peer.irs, ack));
        let checks = [
            ("port", leaving.port == pattern.port),
            ("flags", header.flags.bits() == pattern.flags),
            ("seq", header.seq == resolve(peer.iss, pattern.seq)),
            ("length", leaving.len == pattern.len),
            ("ack", header.ack == ack),
            ("win", pattern.window.is_none_or(|win| win == header.window)),
            ("urg", header.urgent == pattern.urgent),
            ("mss", options.mss == pattern.mss),
            ("ws", options.window_scale == pattern.window_scale),
            ("sackok", options.sack_permitted == pattern.sack_permitted),
            ("sack", sack == expected_sack),
            ("acc", options.accecn == pattern.accecn),
            ("ect0", leaving.ect == (pattern.ecn == Ecn::Ect0)),
            ("ts", self.stamps_fit(pattern, leaving, peer)),
        ];
        let wrong = checks.iter().filter(|(_, right)| !right);
        wrong.map(|(name, _)| *name).collect()
    }

    fn stamps_fit(&self, pattern: &Pattern, leaving: &Leaving, peer: &Peer) -> bool {
        let actual = leaving.header.options.timestamps;
        let reset = leaving.header.flags.contains(TcpFlags::RST);
        match (pattern.stamps, actual) {
            // RFC 7323 section 3.2: in every segment once negotiated, and never without.
            (Stamps::Negotiated, actual) => reset || actual.is_some() == peer.timestamps,
            (Stamps::Without, actual) => actual.is_none(),
            (Stamps::Given(value, echo), Some(actual)) => {
                let value_fits = value.is_none_or(|value| {
                    relative(self.our_clock_start(leaving.port), value) == actual.value
                });
                value_fits && echo.is_none_or(|echo| relative(PEER_CLOCK, echo) == actual.echo)
            }
            (Stamps::Given(..), None) => false,
        }
    }

    pub(super) fn nothing_leaves(&mut self) -> Result<(), String> {
        match self.leaving.pop_front() {
            None => Ok(()),
            Some(leaving) => Err(format!(
                "nothing was expected to leave here\n  actual   {}",
                self.render(&leaving)
            )),
        }
    }

    /// A segment that left, as a line of the transcript.
    pub(super) fn render(&self, leaving: &Leaving) -> String {
        let peer = &self.peers[&leaving.port];
        let clock = self.our_clock_start(leaving.port);
        format!(
            "{} > {}",
            self.stamp(leaving.at),
            text::leaving(&leaving.header, leaving.len, peer.irs, peer.iss, clock)
        )
    }
}
