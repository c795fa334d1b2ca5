//! Who may take the next file block when connections outnumber blocks.
//!
//! Two rules. A connection that holds blocks may take more only up to an equal share, or to a part of what is left, and
//! only while nobody stands in line: its own blocks come back as its peer acknowledges, so it moves anyway. Readers of one
//! file share its blocks, so there may be plenty left however many they are, and who holds a single block stops at the end
//! of each until its peer has acknowledged the last bytes of it. A connection that holds none and was refused one stands in
//! a *line*, first come first served, and as many may ask again as there are blocks that nobody pins. So every connection
//! that can go on with one block gets it, however many others there are, and no two that are next evict each other's block
//! while it is being read.

/// While so many parts of the blocks are pinned by nobody, a connection may hold one of these parts: what is left
/// shrinks as they take it, so everybody stops before there is nothing (Choudhury and Hahne, "Dynamic queue length thresholds
/// for shared-memory packet switches", 1998).
const LEFT_PARTS: usize = 8;

/// A place in the line. Linear: give it back with [`BlockShares::leave`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Place(u64);

/// Shares and line of one worker's blocks.
#[derive(Debug)]
pub(crate) struct BlockShares {
    blocks: usize,
    per_connection: usize,
    contending: usize,
    /// Whether the place `n` has been left, at `n % left.len()`, for the places from `front` to `back`.
    left: Box<[bool]>,
    front: u64,
    back: u64,
    waiting: usize,
}

impl BlockShares {
    /// For `blocks` blocks of which a connection takes at most `per_connection`; `connections` can stand in line.
    pub(crate) fn new(blocks: usize, per_connection: usize, connections: usize) -> BlockShares {
        BlockShares {
            blocks,
            per_connection: per_connection.max(1),
            contending: 0,
            // Places left in the middle of the line keep their slot until the front passes them.
            left: vec![false; connections.max(1).saturating_mul(2)].into_boxed_slice(),
            front: 0,
            back: 0,
            waiting: 0,
        }
    }

    /// Blocks that one connection may read ahead now, at least one: an equal share.
    pub(crate) fn share(&self) -> usize {
        (self.blocks / self.contending.max(1)).clamp(1, self.per_connection)
    }

    /// Blocks that one connection may hold while nobody pins `unpinned` of all.
    pub(crate) fn allowance(&self, unpinned: usize) -> usize {
        let of_the_rest = (unpinned / LEFT_PARTS).min(self.per_connection);
        self.share().max(of_the_rest)
    }

    /// Counts connections that hold or await blocks; `is` is the connection's own note of it.
    pub(crate) fn contend(&mut self, is: &mut bool, will: bool) {
        match (*is, will) {
            (false, true) => self.contending += 1,
            (true, false) => self.contending = self.contending.saturating_sub(1),
            _ => {}
        }
        *is = will;
    }

    /// True while somebody stands in line.
    pub(crate) fn has_line(&self) -> bool {
        self.front < self.back
    }

    /// Connections in the line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Goes to the end of the line. `None` while it is too long (places left behind a stuck front): ask again
    /// later.
    pub(crate) fn join(&mut self) -> Option<Place> {
        let length = usize::try_from(self.back - self.front).ok()?;
        if length >= self.left.len() {
            return None;
        }
        let place = self.back;
        let slot = self.slot(place);
        self.left[slot] = false;
        self.back += 1;
        self.waiting += 1;
        Some(Place(place))
    }

    /// Whether `place` is near enough to the front for `unpinned` blocks. The front itself may always ask: what it
    /// wants may be pinned by another reader of the same file.
    pub(crate) fn may_ask(&self, place: &Place, unpinned: usize) -> bool {
        let before = usize::try_from(place.0 - self.front).unwrap_or(usize::MAX);
        before < unpinned.max(1)
    }

    /// Leaves the line, served or not.
    #[expect(clippy::needless_pass_by_value, reason = "a place is left once")]
    pub(crate) fn leave(&mut self, place: Place) {
        let slot = self.slot(place.0);
        self.left[slot] = true;
        self.waiting = self.waiting.saturating_sub(1);
        while self.front < self.back && self.left[self.slot(self.front)] {
            self.front += 1;
        }
    }

    fn slot(&self, place: u64) -> usize {
        let slots = u64::try_from(self.left.len()).unwrap_or(u64::MAX);
        usize::try_from(place % slots).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_shrink_with_contenders_but_never_below_one_block() {
        let mut shares = BlockShares::new(64, 32, 200);
        assert_eq!(shares.share(), 32);
        let mut notes = [false; 200];
        for note in notes.iter_mut().take(8) {
            shares.contend(note, true);
        }
        assert_eq!(shares.share(), 8);
        for note in &mut notes {
            shares.contend(note, true);
        }
        assert_eq!(shares.share(), 1);
        for note in &mut notes {
            shares.contend(note, false);
        }
        assert_eq!(shares.share(), 32);
    }

    #[test]
    fn while_plenty_is_left_many_may_hold_more_than_their_share() {
        let mut shares = BlockShares::new(64, 6, 200);
        let mut notes = [false; 200];
        for note in &mut notes {
            shares.contend(note, true);
        }
        let allowances = [64, 40, 16, 15, 0].map(|unpinned| shares.allowance(unpinned));
        assert_eq!(allowances, [6, 5, 2, 1, 1]);
    }

    #[test]
    fn contending_twice_counts_once() {
        let mut shares = BlockShares::new(8, 8, 4);
        let mut note = false;
        shares.contend(&mut note, true);
        shares.contend(&mut note, true);
        shares.contend(&mut note, false);
        assert_eq!(shares.contending, 0);
    }

    #[test]
    fn as_many_may_ask_as_blocks_are_free_and_always_the_front() {
        let mut shares = BlockShares::new(4, 4, 8);
        let first = shares.join().expect("room");
        let second = shares.join().expect("room");
        let third = shares.join().expect("room");
        assert!(shares.may_ask(&first, 0));
        assert!(shares.may_ask(&second, 2));
        assert!(!shares.may_ask(&third, 2));
        shares.leave(first);
        assert!(shares.may_ask(&third, 2));
        shares.leave(second);
        shares.leave(third);
        assert!(!shares.has_line());
    }

    #[test]
    fn a_place_left_in_the_middle_frees_the_way_when_the_front_goes() {
        let mut shares = BlockShares::new(1, 1, 4);
        let first = shares.join().expect("room");
        let second = shares.join().expect("room");
        let third = shares.join().expect("room");
        shares.leave(second);
        assert!(!shares.may_ask(&third, 1));
        shares.leave(first);
        assert!(shares.may_ask(&third, 1));
        shares.leave(third);
    }

    #[test]
    fn a_line_too_long_for_its_table_refuses_instead_of_forgetting() {
        let mut shares = BlockShares::new(1, 1, 2);
        let front = shares.join().expect("room");
        for _ in 0..3 {
            let place = shares.join().expect("room");
            shares.leave(place);
        }
        assert!(shares.join().is_none());
        shares.leave(front);
        let place = shares.join().expect("the front took all with it");
        shares.leave(place);
    }
}
