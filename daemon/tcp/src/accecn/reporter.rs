//! The data receiver of AccECN: r.cep, r.ceb, r.e0b, r.e1b, and when and how the peer hears of them.
//!
//! RFC 9768 sections 3.2.1, 3.2.2.1 (the ACK of a SYN-ACK), 3.2.2.5.1 (when an ACK leaves), 3.2.3.3 (the option).
//! Counters are those of the RFC modulo 2^16 for packets and 2^32 for bytes, which the 3 and 24 bits of the wire divide.

use sluice_wire::{AccEcnOption, AccEcnOrder, Ecn};

use super::{CEP_INITIAL, ace_of, counted_on};
use crate::ecn_terms::handshake_ace;

// Byte counters, as bits of a set.
const ECT0: u8 = 1;
const CE: u8 = 2;
const ECT1: u8 = 4;
const ALL: u8 = ECT0 | CE | ECT1;

/// So many marks make an ACK leave while data waits for one (section 3.2.2.5.1).
const MARKS_WITH_DATA: u8 = 2;
/// And without: the least allowed, so that ACKs of marked ACKs die out.
const MARKS_WITHOUT_DATA: u8 = 3;

/// What arrived, and how much of it was said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporter {
    pub(super) ceb: u32,
    pub(super) e0b: u32,
    pub(super) e1b: u32,
    pub(super) cep: u16,
    /// Marks since the last acknowledgement left, up to 255.
    pub(super) marks_unsaid: u8,
    /// Byte counters that ever moved.
    pub(super) moved: u8,
    /// Those that moved since the last option.
    pub(super) unsaid: u8,
    /// The handshake asks for an option, changed or not.
    pub(super) option_due: bool,
    /// Options are sent.
    pub(super) options: bool,
    /// The last packet was marked.
    pub(super) last_was_ce: bool,
    /// The codepoint of the SYN-ACK that the next pure ACK reports.
    pub(super) syn_ack: Option<Ecn>,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        Reporter {
            ceb: 0,
            e0b: 1,
            e1b: 1,
            cep: CEP_INITIAL,
            marks_unsaid: 0,
            moved: 0,
            unsaid: 0,
            option_due: false,
            options: true,
            last_was_ce: false,
            syn_ack: None,
        }
    }

    /// A SYN-ACK arrived, perhaps again: the next pure ACK says as what. However many are marked, one counts
    /// (section 3.2.2.2).
    pub(crate) fn on_syn_ack(&mut self, ecn: Ecn) {
        self.syn_ack = Some(ecn);
        if ecn == Ecn::Ce && self.cep == CEP_INITIAL {
            self.cep += 1;
            self.marks_unsaid += 1;
        }
    }

    /// The handshake is complete for the side that opened: an option on the ACK of the SYN-ACK tests the path
    /// (section 3.2.3.2.1).
    pub(crate) fn want_option(&mut self) {
        self.option_due = true;
    }

    /// Packets with options seem to be dropped: none any more (section 3.2.3.2.2).
    pub(crate) fn stop_options(&mut self) {
        self.options = false;
    }

    /// An acceptable segment, SYNs excluded, that arrived as one or, merged on its way, as several `packets`.
    /// `awaits_ack` if data, its own included, is not acknowledged yet. True if an ACK is to leave now.
    pub(crate) fn on_packet(
        &mut self,
        ecn: Ecn,
        payload_len: u32,
        packets: u32,
        awaits_ack: bool,
    ) -> bool {
        let is_ce = ecn == Ecn::Ce;
        let begins = is_ce && !self.last_was_ce && payload_len > 0;
        self.last_was_ce = is_ce;
        self.count_bytes(ecn, payload_len);
        if !is_ce {
            return false;
        }
        let packets = packets.max(1);
        self.cep = counted_on(self.cep, packets);
        let more = u8::try_from(packets).unwrap_or(u8::MAX);
        self.marks_unsaid = self.marks_unsaid.saturating_add(more);
        let marks = if awaits_ack {
            MARKS_WITH_DATA
        } else {
            MARKS_WITHOUT_DATA
        };
        begins || self.marks_unsaid >= marks
    }

    fn count_bytes(&mut self, ecn: Ecn, len: u32) {
        let (counter, bit) = match ecn {
            Ecn::NotEct => return,
            Ecn::Ect0 => (&mut self.e0b, ECT0),
            Ecn::Ce => (&mut self.ceb, CE),
            Ecn::Ect1 => (&mut self.e1b, ECT1),
        };
        if len > 0 {
            *counter = counter.wrapping_add(len);
            self.moved |= bit;
            self.unsaid |= bit;
        }
    }

    /// The ACE field of a segment that leaves now.
    pub(crate) fn ace(&mut self) -> u8 {
        self.marks_unsaid = 0;
        ace_of(self.cep)
    }

    /// Whether a pure ACK has to leave before any data (section 3.2.2.1).
    pub(crate) fn owes_handshake_ack(&self) -> bool {
        self.syn_ack.is_some()
    }

    /// The ACE field of a pure ACK without SACK blocks instead, if it is the ACK of a SYN-ACK.
    pub(crate) fn take_handshake_ace(&mut self) -> Option<u8> {
        self.syn_ack.take().map(handshake_ace)
    }

    /// The option of a SYN-ACK: all counters as they begin.
    pub(crate) fn of_syn_ack() -> AccEcnOption {
        AccEcnOption::new(AccEcnOrder::Ect0First, [1, 0, 1], 3)
    }

    /// The option of a segment with `room` for it, if it has something to say. Counters that moved since the last
    /// one are all in it, or there is none; those that ever moved, where there is room (section 3.2.3.3).
    pub(crate) fn option(&mut self, room: usize) -> Option<AccEcnOption> {
        if !self.has_option() {
            return None;
        }
        let most = if self.option_due { ALL } else { self.moved };
        let (order, fields) = [most, self.moved, self.unsaid]
            .map(shape)
            .into_iter()
            .find(|(_, fields)| AccEcnOption::padded_len_of(*fields) <= room)?;
        self.option_due = false;
        self.unsaid = 0;
        Some(AccEcnOption::new(
            order,
            [self.e0b, self.ceb, self.e1b],
            fields,
        ))
    }

    /// Whether the next segment with room for an option has one.
    pub(crate) fn has_option(&self) -> bool {
        self.options && (self.option_due || self.unsaid != 0)
    }

    /// Marked packets so far, and the payload bytes in them.
    pub(crate) fn received(&self) -> (u32, u32) {
        (self.cep.wrapping_sub(CEP_INITIAL).into(), self.ceb)
    }
}

/// The shortest option with these counters.
fn shape(counters: u8) -> (AccEcnOrder, u8) {
    match counters {
        0 => (AccEcnOrder::Ect0First, 0),
        ECT0 => (AccEcnOrder::Ect0First, 1),
        ECT1 => (AccEcnOrder::Ect1First, 1),
        // Which one goes before CE alone is free.
        CE | 3 => (AccEcnOrder::Ect0First, 2),
        6 => (AccEcnOrder::Ect1First, 2),
        _ => (AccEcnOrder::Ect0First, 3),
    }
}
