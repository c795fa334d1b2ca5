//! The data sender of AccECN: s.cep and s.ceb, and what an acknowledgement adds to them.
//!
//! RFC 9768 sections 3.2.2.2 to 3.2.2.5 and 3.2.3.2, appendices A.1 and A.2. The three bits of the ACE field may
//! have gone round unseen while acknowledgements were lost: then the option decides, and without one the worst that
//! is likely is assumed, unless this peer usually acknowledges so many segments at once that it would nearly always
//! be wrong.

use sluice_wire::AccEcnOption;

use super::{ACE_MASK, CEP_INITIAL, FIELD_MASK, counted_on};
use crate::ack_run::Acks;

/// The ACE field goes round with so many marks.
const ACE_ROUND: u32 = ACE_MASK + 1;
/// Segments per ACK, on average, from which stretches of [`ACE_ROUND`] are what this peer does and no sign of lost
/// ACKs: well below it (appendix A.2.1).
const STRETCHES: u32 = 4;
/// Of the moving average: a fixed point of 4 bits, and a weight of 1/8.
const AVERAGE_SHIFT: u32 = 4;
const WEIGHT_SHIFT: u32 = 3;

/// An acknowledgement, as far as feedback depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    /// The ACE field.
    pub ace: u8,
    pub option: Option<&'a AccEcnOption>,
    /// Bytes that it newly delivers.
    pub delivered: u64,
    /// How many acknowledgements it stands for.
    pub acks: Acks,
    /// Its timestamp is newer than all before it: it is no old one, though it delivers nothing.
    pub is_newer: bool,
    pub smss: u32,
}

/// What an acknowledgement adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reading {
    /// Marked packets.
    pub packets: u32,
    /// Payload bytes in them, exact with an option.
    pub bytes: u32,
    /// What it says cannot be: the path changes it, and our packets should not be ECN-capable any more.
    pub mangled: bool,
}

/// What the peer has reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    pub(super) ceb: u32,
    pub(super) cep: u16,
    /// Segments per ACK.
    pub(super) average: u16,
    /// Segments and marks since the last option, up to 255.
    pub(super) segments_unproven: u8,
    pub(super) marks_unproven: u8,
    /// An ACE field was seen that is a counter.
    pub(super) ace_seen: bool,
    /// The handshake took the ACE field of the segment at hand.
    pub(super) ace_taken: bool,
    /// An option was seen.
    pub(super) option_seen: bool,
    /// Options are zeroed on the way (section 3.2.3.2.4).
    pub(super) ignores_options: bool,
    /// The ACE field is zeroed on the way, or the peer is not in AccECN mode after all (section 3.2.2.4).
    pub(super) ignores_all: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Reader {
            ceb: 0,
            cep: CEP_INITIAL,
            average: 0,
            segments_unproven: 0,
            marks_unproven: 0,
            ace_seen: false,
            ace_taken: false,
            option_seen: false,
            ignores_options: false,
            ignores_all: false,
        }
    }

    /// A pure ACK of our SYN-ACK said that this one was marked (table 4).
    pub(crate) fn on_marked_syn_ack(&mut self) {
        self.cep += 1;
    }

    /// The ACE field of the segment at hand is no counter.
    pub(crate) fn take_ace(&mut self) {
        self.ace_taken = true;
    }

    /// No feedback is believed any more (table 4, note 1).
    pub(crate) fn ignore_all(&mut self) {
        self.ignores_all = true;
    }

    /// The option of a segment, before all else that is done with it. The first one must not begin with zero.
    pub(crate) fn see_option(&mut self, option: &AccEcnOption) {
        if !core::mem::replace(&mut self.option_seen, true) {
            self.ignores_options = option.ect0() == Some(0) || option.ect1() == Some(0);
        }
    }

    /// An acceptable acknowledgement.
    pub(crate) fn on_ack(&mut self, report: &Report<'_>) -> Reading {
        if let Some(option) = report.option {
            self.see_option(option);
        }
        let is_superseded = report.delivered == 0 && !report.is_newer;
        let ace_taken = core::mem::take(&mut self.ace_taken);
        if self.ignores_all || is_superseded {
            return Reading::default();
        }
        if !ace_taken && !core::mem::replace(&mut self.ace_seen, true) && report.ace == 0 {
            self.ignores_all = true;
            return Reading {
                mangled: true,
                ..Reading::default()
            };
        }
        let counted = match ace_taken {
            true => 0,
            false => u32::from(u16::from(report.ace).wrapping_sub(self.cep)) & ACE_MASK,
        };
        let segments = segments(report.delivered, report.smss);
        // The ACE field of each was the same: it has gone round in between only if one of them covers enough.
        let stretch = match report.acks.longest {
            Some(longest) => self::segments(longest.into(), report.smss),
            None => segments,
        };
        let average = segments.div_ceil(report.acks.count.max(1));
        if self.average == 0 {
            self.average = sample(average);
        }
        let bytes = self.marked_bytes(report.option);
        let packets = self.decide(counted, stretch, bytes, report.smss);
        let mangled = self.is_contradicted(counted, segments, bytes);
        self.learn(average);
        self.cep = counted_on(self.cep, packets);
        self.ceb = self.ceb.wrapping_add(bytes.unwrap_or(0));
        let estimate = u64::from(packets) * u64::from(report.smss);
        let estimate = u32::try_from(estimate.min(report.delivered)).unwrap_or(u32::MAX);
        Reading {
            packets,
            bytes: bytes.unwrap_or(estimate),
            mangled,
        }
    }

    /// Appendix A.1; `None` if there is nothing to know it by.
    fn marked_bytes(&self, option: Option<&AccEcnOption>) -> Option<u32> {
        let option = option.filter(|_| !self.ignores_options)?;
        match option.ce() {
            Some(field) => Some(field.wrapping_sub(self.ceb) & FIELD_MASK),
            // A counter that ever moved is in every option that has room for it.
            None if self.ceb == 0 => Some(0),
            None => None,
        }
    }

    /// Section 3.2.2.5.2: how many marks, of which three bits are `counted`.
    fn decide(&self, counted: u32, segments: u32, bytes: Option<u32>, smss: u32) -> u32 {
        if segments < ACE_ROUND {
            return counted;
        }
        let most = segments - (segments.wrapping_sub(counted) & ACE_MASK);
        if most <= counted {
            return counted;
        }
        let Some(bytes) = bytes else {
            let stretches = u32::from(self.average) >> AVERAGE_SHIFT >= STRETCHES;
            return if stretches { counted } else { most };
        };
        // As many rounds as it takes to hold the marked bytes in full segments, which ours nearly always are.
        let missing = bytes.saturating_sub(counted.saturating_mul(smss));
        let rounds = missing.div_ceil(ACE_ROUND.saturating_mul(smss.max(1)));
        most.min(counted + rounds.saturating_mul(ACE_ROUND))
    }

    /// Bytes were marked and no packet was, with too few of them for a round of the ACE field (section 3.2.3.2.5).
    fn is_contradicted(&mut self, counted: u32, segments: u32, bytes: Option<u32>) -> bool {
        self.segments_unproven = saturated(self.segments_unproven, segments);
        self.marks_unproven = saturated(self.marks_unproven, counted);
        let Some(bytes) = bytes else {
            return false;
        };
        let segments = core::mem::take(&mut self.segments_unproven);
        let marks = core::mem::take(&mut self.marks_unproven);
        bytes > 0 && marks == 0 && u32::from(segments) < ACE_ROUND
    }

    fn learn(&mut self, segments: u32) {
        if segments > 0 {
            let sample = sample(segments);
            self.average = self.average - (self.average >> WEIGHT_SHIFT) + (sample >> WEIGHT_SHIFT);
        }
    }

    /// Marked packets that the peer has reported, and the payload bytes in them as far as options said so.
    pub(crate) fn reported(&self) -> (u32, u32) {
        (self.cep.wrapping_sub(CEP_INITIAL).into(), self.ceb)
    }
}

/// Most bytes between two acknowledgements with one ACE field of which the later says all that both do: in more, the
/// field may have gone round.
pub(crate) fn longest_stretch(smss: u32) -> u32 {
    smss.saturating_mul(ACE_ROUND - 1)
}

/// Full segments that an acknowledgement of `delivered` bytes delivers: at least one if anything.
fn segments(delivered: u64, smss: u32) -> u32 {
    let segments = delivered.div_ceil(u64::from(smss.max(1)));
    u32::try_from(segments).unwrap_or(u32::MAX)
}

/// Beyond 255 it is a stretch, however long: no overflow, and it is forgotten in time.
fn sample(segments: u32) -> u16 {
    u16::try_from(segments.min(255) << AVERAGE_SHIFT).unwrap_or(u16::MAX)
}

fn saturated(count: u8, more: u32) -> u8 {
    count.saturating_add(u8::try_from(more).unwrap_or(u8::MAX))
}
