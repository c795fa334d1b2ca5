//! Accurate ECN of a connection at rest: see [`crate::rest`]. Counters last as long as the connection does.

use super::{AccEcn, Reader, Reporter};

// Bits of `flags`.
const OPTION_DUE: u8 = 1;
const OPTIONS: u8 = 1 << 1;
const LAST_WAS_CE: u8 = 1 << 2;
const ACE_SEEN: u8 = 1 << 3;
const ACE_TAKEN: u8 = 1 << 4;
const OPTION_SEEN: u8 = 1 << 5;
const IGNORES_OPTIONS: u8 = 1 << 6;
const IGNORES_ALL: u8 = 1 << 7;

/// An [`AccEcn`] that owes no acknowledgement of a SYN-ACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestingAccEcn {
    received_ceb: u32,
    e0b: u32,
    e1b: u32,
    reported_ceb: u32,
    received_cep: u16,
    reported_cep: u16,
    average: u16,
    marks_unsaid: u8,
    segments_unproven: u8,
    marks_unproven: u8,
    /// The counters that moved in the low half, those to be said in the high one.
    moved: u8,
    flags: u8,
}

impl AccEcn {
    /// The packed form; `None` while there is more to know.
    pub(crate) fn rest(&self) -> Option<RestingAccEcn> {
        let (reporter, reader) = (&self.reporter, &self.reader);
        if reporter.owes_handshake_ack() {
            return None;
        }
        let flags = [
            (reporter.option_due, OPTION_DUE),
            (reporter.options, OPTIONS),
            (reporter.last_was_ce, LAST_WAS_CE),
            (reader.ace_seen, ACE_SEEN),
            (reader.ace_taken, ACE_TAKEN),
            (reader.option_seen, OPTION_SEEN),
            (reader.ignores_options, IGNORES_OPTIONS),
            (reader.ignores_all, IGNORES_ALL),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        Some(RestingAccEcn {
            received_ceb: reporter.ceb,
            e0b: reporter.e0b,
            e1b: reporter.e1b,
            reported_ceb: reader.ceb,
            received_cep: reporter.cep,
            reported_cep: reader.cep,
            average: reader.average,
            marks_unsaid: reporter.marks_unsaid,
            segments_unproven: reader.segments_unproven,
            marks_unproven: reader.marks_unproven,
            moved: reporter.moved | reporter.unsaid << 4,
            flags: set.fold(0, |flags, (_, bit)| flags | bit),
        })
    }
}

impl RestingAccEcn {
    pub(crate) fn wake(&self) -> AccEcn {
        let has = |bit| self.flags & bit != 0;
        AccEcn {
            reporter: Reporter {
                ceb: self.received_ceb,
                e0b: self.e0b,
                e1b: self.e1b,
                cep: self.received_cep,
                marks_unsaid: self.marks_unsaid,
                moved: self.moved & 0xf,
                unsaid: self.moved >> 4,
                option_due: has(OPTION_DUE),
                options: has(OPTIONS),
                last_was_ce: has(LAST_WAS_CE),
                syn_ack: None,
            },
            reader: Reader {
                ceb: self.reported_ceb,
                cep: self.reported_cep,
                average: self.average,
                segments_unproven: self.segments_unproven,
                marks_unproven: self.marks_unproven,
                ace_seen: has(ACE_SEEN),
                ace_taken: has(ACE_TAKEN),
                option_seen: has(OPTION_SEEN),
                ignores_options: has(IGNORES_OPTIONS),
                ignores_all: has(IGNORES_ALL),
            },
        }
    }
}
