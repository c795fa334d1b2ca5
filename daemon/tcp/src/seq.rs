//! TCP sequence numbers: positions on a circle of 2^32 (RFC 9293 3.4).
//!
//! There is no first and no last point on a circle, so [`SeqNumber`] has no `Ord`, no `Hash` and no
//! operators: a sorted map of sequence numbers, or a `<` that forgets the wrap, does not compile. Every
//! comparison is named and modular, and holds as long as the two numbers are less than 2^31 apart, which
//! windows of at most 2^30 bytes (RFC 7323 2.3) guarantee for anything that passed the window check.
//! What must be ordered for longer is kept as a u64 stream offset instead.

use core::fmt;

/// A sequence or acknowledgment number.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SeqNumber(u32);

impl SeqNumber {
    /// The number as it stands in the header.
    #[must_use]
    pub const fn new(raw: u32) -> SeqNumber {
        SeqNumber(raw)
    }

    /// The value to put into the header.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The number `count` positions further on, around the circle.
    #[must_use]
    pub const fn add(self, count: u32) -> SeqNumber {
        SeqNumber(self.0.wrapping_add(count))
    }

    /// How many positions `self` lies after `other`, going forward only: 0..2^32.
    ///
    /// Meaningful when `other` is known not to be later, such as `seg_seq.since(rcv_nxt)` after a window check.
    #[must_use]
    pub const fn since(self, other: SeqNumber) -> u32 {
        self.0.wrapping_sub(other.0)
    }

    /// Signed distance `self - other`: negative when `self` comes first, within ±2^31.
    #[must_use]
    pub const fn distance(self, other: SeqNumber) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// `self` comes before `other`. Two numbers exactly 2^31 apart come before each other.
    #[must_use]
    pub const fn lt(self, other: SeqNumber) -> bool {
        self.distance(other) < 0
    }

    /// `self` comes before `other` or is the same.
    #[must_use]
    pub const fn le(self, other: SeqNumber) -> bool {
        self.distance(other) <= 0
    }

    /// `self` comes after `other`.
    #[must_use]
    pub const fn gt(self, other: SeqNumber) -> bool {
        self.distance(other) > 0
    }

    /// `self` comes after `other` or is the same.
    #[must_use]
    pub const fn ge(self, other: SeqNumber) -> bool {
        self.distance(other) >= 0
    }

    /// The later of the two.
    #[must_use]
    pub const fn max(self, other: SeqNumber) -> SeqNumber {
        if self.lt(other) { other } else { self }
    }

    /// The earlier of the two.
    #[must_use]
    pub const fn min(self, other: SeqNumber) -> SeqNumber {
        if other.lt(self) { other } else { self }
    }

    /// `start <= self < start + len`: one of the `len` positions beginning at `start`. Never true for `len` 0.
    #[must_use]
    pub const fn in_window(self, start: SeqNumber, len: u32) -> bool {
        self.since(start) < len
    }
}

impl fmt::Debug for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {}", self.0)
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers around 0, 2^31 and 2^32, where every off-by-one of wrapping arithmetic lives, and anywhere else.
    fn any_seq() -> impl Strategy<Value = u32> {
        let near = |centre: u32| {
            (0..64u32).prop_map(move |step| centre.wrapping_sub(32).wrapping_add(step))
        };
        prop_oneof![near(0), near(1 << 31), any::<u32>()]
    }

    #[test]
    fn comparison_crosses_the_wrap() {
        let before = SeqNumber::new(u32::MAX - 1);
        let after = before.add(4);
        assert_eq!(after.raw(), 2);
        assert!(before.lt(after) && before.le(after) && after.gt(before) && after.ge(before));
        assert_eq!((before.max(after), before.min(after)), (after, before));
        assert_eq!(
            (
                after.since(before),
                after.distance(before),
                before.distance(after)
            ),
            (4, 4, -4)
        );
    }

    #[test]
    fn a_number_is_neither_before_nor_after_itself() {
        let seq = SeqNumber::new(u32::MAX);
        assert!(!seq.lt(seq) && !seq.gt(seq) && seq.le(seq) && seq.ge(seq));
    }

    #[test]
    fn the_window_is_half_open_and_may_cross_the_wrap() {
        let start = SeqNumber::new(u32::MAX);
        assert!(start.in_window(start, 1));
        assert!(SeqNumber::new(0).in_window(start, 2));
        assert!(!SeqNumber::new(1).in_window(start, 2));
        assert!(!SeqNumber::new(u32::MAX - 1).in_window(start, 2));
        assert!(!start.in_window(start, 0));
    }

    proptest! {
        /// The naive twin: the same two points on a line of u64 without any wrap.
        #[test]
        fn order_agrees_with_unwrapped_offsets(base in any_seq(), gap in 0..(1u32 << 31)) {
            let low = 5 * (1u64 << 32) + u64::from(base);
            let high = low + u64::from(gap);
            let wrap = |offset: u64| SeqNumber::new((offset & 0xffff_ffff) as u32);
            let (a, b) = (wrap(low), wrap(high));
            prop_assert_eq!(a.lt(b), low < high);
            prop_assert_eq!(a.le(b), low <= high);
            prop_assert_eq!(b.gt(a), high > low);
            prop_assert_eq!(b.ge(a), high >= low);
            prop_assert_eq!(a.gt(b), low > high);
            prop_assert_eq!(a.ge(b), low >= high);
            prop_assert_eq!((a.max(b), a.min(b)), (b, a));
            prop_assert_eq!(b.since(a), gap);
            prop_assert_eq!(i64::from(b.distance(a)), i64::from(gap));
            prop_assert_eq!(i64::from(a.distance(b)), -i64::from(gap));
            prop_assert_eq!(a.add(gap), b);
        }

        #[test]
        fn window_membership_agrees_with_unwrapped_offsets(
            base in any_seq(),
            len in 0..=(1u32 << 30),
            before in 0..=(1u64 << 31),
            step in 0..(1u64 << 32),
        ) {
            let start = (1u64 << 40) + u64::from(base);
            let point = start - before + step % (before + 2 * u64::from(len) + 2);
            let wrapped = SeqNumber::new((point & 0xffff_ffff) as u32);
            let inside = start <= point && point < start + u64::from(len);
            prop_assert_eq!(wrapped.in_window(SeqNumber::new(base), len), inside);
        }
    }
}
