//! Duplicate acknowledgements of a peer without SACK: all it says about what arrived out of order
//! (RFC 5681 section 3.2, RFC 6582).

use crate::rack::DUP_THRESH;

/// Counter of duplicates, and where they prove nothing.
#[derive(Debug)]
pub(crate) struct Duplicates {
    count: u32,
    /// Duplicates prove something from this SND.UNA on. Up to the end of the last recovery they are echoes of what
    /// was sent again (RFC 6582 section 3.2, "recover").
    telling_from: u64,
    /// Duplicates still to come that answer what was sent again for nothing.
    needless: u32,
    /// They come at SND.UNA up to this: the repetitions left before what was new at the undo, so nothing above it
    /// can stand in their answers on a path that keeps the order.
    needless_to: u64,
}

impl Duplicates {
    /// None so far, and none that would prove anything below `telling_from`.
    pub(crate) fn new(telling_from: u64) -> Self {
        Duplicates {
            count: 0,
            telling_from,
            needless: 0,
            needless_to: 0,
        }
    }

    /// From where on they tell when everything below `snd_una` is acknowledged and nothing is in flight. Answers of
    /// needless repetitions are not counted over the end of a flight: while any may come, none tells anything there.
    pub(crate) fn telling_after(&self, snd_una: u64) -> u64 {
        if self.expects_needless(snd_una) {
            self.telling_from.max(snd_una + 1)
        } else {
            self.telling_from
        }
    }

    fn expects_needless(&self, snd_una: u64) -> bool {
        self.needless > 0 && snd_una <= self.needless_to
    }

    /// A duplicate at `snd_una`.
    pub(crate) fn on_duplicate(&mut self, snd_una: u64) {
        if self.expects_needless(snd_una) {
            self.needless -= 1;
        } else {
            self.count = self.count.saturating_add(1);
        }
    }

    /// `acked` bytes of new data were acknowledged: the duplicates below are spent. In recovery those of
    /// segments above stay, because the acknowledgement covers one segment that was sent again, and others that
    /// had been duplicates.
    pub(crate) fn on_acknowledged(&mut self, acked: u64, recovering: bool, smss: u32) {
        self.count = if recovering {
            let segments = acked.div_ceil(u64::from(smss.max(1)));
            let spent = u32::try_from(segments - 1).unwrap_or(u32::MAX);
            self.count.saturating_sub(spent)
        } else {
            0
        };
    }

    /// Whether they prove that the segment at `snd_una` is lost.
    pub(crate) fn prove_loss(&self, snd_una: u64) -> bool {
        self.count >= DUP_THRESH && snd_una >= self.telling_from
    }

    /// Bytes that have left the network: each duplicate says so of one segment (RFC 5681 section 3.2, step 4;
    /// RFC 3042 for the first two).
    pub(crate) fn departed(&self, smss: u32) -> u64 {
        u64::from(self.count) * u64::from(smss)
    }

    /// A recovery that was to repair everything below `until` is over.
    pub(crate) fn recovery_ended(&mut self, until: u64) {
        self.telling_from = until + 1;
        self.count = 0;
    }

    /// A recovery was not deserved, as the acknowledgement of `snd_una` shows: what is missing there was never sent
    /// again. `needless` segments were, and each of them is worth a duplicate until `snd_nxt` is acknowledged.
    pub(crate) fn recovery_undone(&mut self, snd_una: u64, snd_nxt: u64, needless: u32) {
        let before = if self.expects_needless(snd_una) {
            self.needless
        } else {
            0
        };
        self.needless = before.saturating_add(needless);
        (self.telling_from, self.needless_to) = (snd_una, snd_nxt);
        self.count = 0;
    }

    pub(crate) fn forget(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(count: u32) -> Duplicates {
        let mut duplicates = Duplicates::new(0);
        for _ in 0..count {
            duplicates.on_duplicate(0);
        }
        duplicates
    }

    #[test]
    fn the_third_duplicate_proves_a_loss() {
        // RFC 5681 section 3.2.
        assert!(!counted(2).prove_loss(0));
        assert!(counted(3).prove_loss(0));
    }

    #[test]
    fn duplicates_up_to_the_end_of_the_last_recovery_are_its_echo() {
        // RFC 6582 section 3.2.
        let mut duplicates = Duplicates::new(0);
        duplicates.recovery_ended(10_000);
        for _ in 0..4 {
            duplicates.on_duplicate(10_000);
        }
        assert!(!duplicates.prove_loss(10_000));
        assert!(duplicates.prove_loss(10_001));
    }

    #[test]
    fn each_needless_repetition_is_worth_a_duplicate_until_all_of_the_flight_is_acknowledged() {
        // RFC 5682 section 2.1: the repetition arrives as well, and its answer says nothing about what follows.
        for (snd_una, needed) in [(10_000, 5), (15_000, 5), (20_000, 5), (20_001, 3)] {
            let mut duplicates = Duplicates::new(0);
            duplicates.recovery_undone(10_000, 20_000, 2);
            for count in 1..=5 {
                duplicates.on_duplicate(snd_una);
                let proves = duplicates.prove_loss(snd_una);
                assert_eq!(proves, count >= needed, "{count} at {snd_una}");
            }
            assert!(!duplicates.prove_loss(9_999));
        }
    }

    #[test]
    fn answers_that_came_are_not_expected_again() {
        let mut duplicates = Duplicates::new(0);
        duplicates.recovery_undone(10_000, 20_000, 2);
        duplicates.on_duplicate(15_000);
        duplicates.on_acknowledged(1000, false, 1000);
        for _ in 0..4 {
            assert!(!duplicates.prove_loss(16_000));
            duplicates.on_duplicate(16_000);
        }
        assert!(duplicates.prove_loss(16_000));
    }

    #[test]
    fn those_of_two_time_outs_add_up() {
        let mut duplicates = Duplicates::new(0);
        duplicates.recovery_undone(10_000, 20_000, 1);
        duplicates.recovery_ended(12_000);
        duplicates.recovery_undone(12_000, 22_000, 1);
        for _ in 0..5 {
            assert!(!duplicates.prove_loss(12_000));
            duplicates.on_duplicate(12_000);
        }
        assert!(duplicates.prove_loss(12_000));
    }

    #[test]
    fn where_a_flight_ends_while_answers_are_expected_none_tells_anything() {
        let mut duplicates = Duplicates::new(0);
        duplicates.recovery_undone(10_000, 20_000, 1);
        assert_eq!(duplicates.telling_after(20_000), 20_001);
        assert_eq!(duplicates.telling_after(20_001), 10_000);
        duplicates.on_duplicate(15_000);
        assert_eq!(duplicates.telling_after(20_000), 10_000);
    }

    #[test]
    fn a_partial_acknowledgement_keeps_the_duplicates_above_it() {
        // RFC 6582 section 3.2, step 3: deflate by what was acknowledged, add one segment.
        let mut duplicates = counted(8);
        duplicates.on_acknowledged(1000, true, 1000);
        assert_eq!(duplicates.departed(1000), 8000);
        duplicates.on_acknowledged(3000, true, 1000);
        assert_eq!(duplicates.departed(1000), 6000);
        duplicates.on_acknowledged(1000, false, 1000);
        assert_eq!(duplicates.departed(1000), 0);
    }
}
