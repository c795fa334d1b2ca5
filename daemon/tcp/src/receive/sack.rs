//! What the SACK blocks of the next acknowledgement report.
//!
//! Of the ranges that are held the newest first, then those that changed last, so that a lost acknowledgement is made
//! up for by the next ones (RFC 2018 section 4). What came twice goes before them, once (RFC 2883 section 4). Which
//! ranges are held is known to [`Held`]; here are only their order and the duplicate.

use core::ops::Range;

use sluice_wire::{SackBlock, SackBlocks};

use super::NewBytes;
use super::window::Window;
use crate::held::Held;

/// What is reported first.
#[derive(Debug)]
pub(super) struct SackReport {
    /// Starts of the held ranges that changed last, newest first.
    recent: [u64; SackBlocks::MAX],
    duplicate: Option<Range<u64>>,
}

impl SackReport {
    /// Nothing was held yet, and nothing came twice.
    pub(super) fn new() -> Self {
        SackReport {
            recent: [u64::MAX; SackBlocks::MAX],
            duplicate: None,
        }
    }

    /// The held range at `start` is the newest.
    pub(super) fn note_held(&mut self, start: u64) {
        if self.recent[0] != start {
            self.recent.rotate_right(1);
            self.recent[0] = start;
        }
    }

    /// `range`, which is not empty, came twice.
    pub(super) fn note_duplicate(&mut self, range: Range<u64>) {
        self.duplicate = Some(range);
    }

    pub(super) fn has_duplicate(&self) -> bool {
        self.duplicate.is_some()
    }

    /// At most `room` blocks; the duplicate is then reported.
    pub(super) fn take_blocks(&mut self, held: &Held, window: &Window, room: usize) -> SackBlocks {
        let block = |range: &Range<u64>| SackBlock {
            start: window.to_seq(range.start).raw(),
            end: window.to_seq(range.end).raw(),
        };
        let mut blocks = SackBlocks::default();
        let duplicate = self.duplicate.take();
        if let Some(range) = &duplicate {
            blocks.push(block(range));
        }
        // Duplicates inside held data: the enclosing range follows, even if it is the same, because that is
        // how the peer tells a DSACK from an ordinary block.
        let enclosing = duplicate.and_then(|range| held.enclosing(range.start));
        let recent = self.recent.iter().filter_map(|at| held.enclosing(*at));
        let mut reported = [const { 0..0 }; SackBlocks::MAX];
        let mut count = 0;
        for range in enclosing.into_iter().chain(recent).chain(held.iter()) {
            if blocks.len() >= room || count == reported.len() {
                break;
            }
            if !reported[..count].contains(&range) {
                blocks.push(block(&range));
                reported[count] = range;
                count += 1;
            }
        }
        blocks
    }
}

/// The first part of `range` that is not among its `new` ones: what of it came twice.
pub(super) fn first_repeated(range: &Range<u64>, new: &NewBytes) -> Range<u64> {
    let mut at = range.start;
    for piece in new.clone() {
        if piece.start > at {
            break;
        }
        at = piece.end;
    }
    let end = new
        .clone()
        .map(|piece| piece.start)
        .find(|start| *start > at)
        .unwrap_or(range.end);
    at..end
}

#[cfg(test)]
mod tests {
    use crate::receive::Receiver;
    use crate::seq::SeqNumber;

    const IRS: SeqNumber = SeqNumber::new(u32::MAX - 50);

    fn receiver() -> Receiver {
        Receiver::new(IRS, 4000, 0, 1000)
    }

    /// A segment comes; what is reported then.
    fn take(receiver: &mut Receiver, offset: u32, len: u32) -> Vec<(u32, u32)> {
        let _ = receiver.on_payload(IRS.add(1).add(offset), len, false);
        blocks(receiver)
    }

    fn blocks(receiver: &mut Receiver) -> Vec<(u32, u32)> {
        let offset = |raw: u32| SeqNumber::new(raw).since(IRS.add(1));
        let blocks = receiver.sack_blocks(3);
        blocks
            .iter()
            .map(|block| (offset(block.start), offset(block.end)))
            .collect()
    }

    #[test]
    fn a_gap_is_reported_until_it_is_filled() {
        // RFC 2018 section 4.
        let mut receiver = receiver();
        assert_eq!(take(&mut receiver, 100, 100), vec![(100, 200)]);
        assert_eq!(blocks(&mut receiver), vec![(100, 200)]);
        assert_eq!(take(&mut receiver, 0, 100), vec![]);
    }

    #[test]
    fn first_sack_block_holds_the_newest_segment() {
        let mut receiver = receiver();
        let _ = take(&mut receiver, 100, 50);
        let _ = take(&mut receiver, 300, 50);
        assert_eq!(
            take(&mut receiver, 200, 50),
            vec![(200, 250), (300, 350), (100, 150)]
        );
    }

    #[test]
    fn a_duplicate_is_reported_first_and_once() {
        // RFC 2883 section 4.
        let mut receiver = receiver();
        let _ = take(&mut receiver, 0, 100);
        assert_eq!(take(&mut receiver, 0, 100), vec![(0, 100)]);
        assert_eq!(blocks(&mut receiver), vec![]);
    }

    #[test]
    fn a_duplicate_inside_held_data_names_the_enclosing_block_second() {
        let mut receiver = receiver();
        let _ = take(&mut receiver, 100, 200);
        assert_eq!(take(&mut receiver, 150, 50), vec![(150, 200), (100, 300)]);
    }

    #[test]
    fn a_duplicate_of_a_whole_held_range_is_named_twice() {
        // RFC 2883 section 4: the second block is the "(possibly larger)" block, or it is no DSACK.
        let mut receiver = receiver();
        let _ = take(&mut receiver, 100, 100);
        assert_eq!(take(&mut receiver, 100, 100), vec![(100, 200), (100, 200)]);
        assert_eq!(blocks(&mut receiver), vec![(100, 200)]);
    }

    #[test]
    fn of_a_segment_that_holds_something_new_the_first_repeated_part_is_the_duplicate() {
        let mut receiver = receiver();
        let _ = take(&mut receiver, 100, 100);
        let _ = take(&mut receiver, 300, 100);
        let reported = take(&mut receiver, 50, 400);
        assert_eq!(reported, vec![(100, 200), (50, 450)]);
    }
}
