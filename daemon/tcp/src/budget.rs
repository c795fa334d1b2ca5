//! Bytes of buffers that the connections of one worker share.
//!
//! Every connection has a little room without asking, so that none starves and an idle one costs nothing. What it
//! needs beyond that it holds from a `Budget`, and only as long as it needs it. Who may hold how much: a fifth stays
//! in reserve; the rest is divided into equal *parts* for those that hold anything. What some leave of theirs, others
//! take beyond their own. A newcomer takes its part out of the reserve, and when half of that is gone, those that hold
//! more than their part give back. A few instructions and no list of holders.
//!
//! Invariant: the holdings of all connections, awake and at rest, sum up to `used`, and `used <= total`. A `Holding` is
//! linear: only a budget makes it larger or smaller, and it goes back before it is dropped. But for a rest: there it is
//! dropped as a number, which nobody changes, and `Holding::after_rest` makes it again of that, once.

/// The reserve is this part of a budget. More makes newcomers faster, less lets one flow use more.
const RESERVE: u64 = 5;

/// What one connection holds of a budget, in bytes.
#[derive(Debug, Default)]
#[must_use = "it has to be given back"]
pub(crate) struct Holding(u32);

impl Holding {
    /// Bytes.
    pub(crate) fn bytes(&self) -> u32 {
        self.0
    }

    /// The holding of a connection that has rested: it was dropped as a number, and nobody gave it back.
    pub(crate) fn after_rest(bytes: u32) -> Self {
        Holding(bytes)
    }
}

/// The state of a budget, for metrics and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetView {
    /// Bytes that there are.
    pub total: u64,
    /// Bytes that connections hold: never more than `total`, and 0 when there are none.
    pub used: u64,
}

/// A number of bytes of which connections hold parts.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    used: u64,
    /// Connections that hold anything.
    holders: u32,
}

impl Budget {
    /// Nobody holds anything.
    pub(crate) fn new(total: u64) -> Self {
        Budget {
            total,
            used: 0,
            holders: 0,
        }
    }

    pub(crate) fn view(&self) -> BudgetView {
        BudgetView {
            total: self.total,
            used: self.used,
        }
    }

    /// Bytes that the owner of `holding` may hold in all. Less than it holds if others lack their parts, but then half
    /// as much at least, so that no window collapses.
    pub(crate) fn allowance(&self, holding: &Holding) -> u32 {
        let held = u64::from(holding.0);
        let free = self.total - self.used;
        let reserve = self.total / RESERVE;
        let holders = u64::from(self.holders) + u64::from(held == 0);
        let part = (self.total - reserve) / holders.max(1);
        let allowance = if held > part && free < reserve / 2 {
            part.max(held / 2)
        } else {
            // Half of what is there at a time, so that many that come at once all get something.
            let spare = free.saturating_sub(reserve);
            part.min(held + free / 2).max(held + spare / 2)
        };
        u32::try_from(allowance).unwrap_or(u32::MAX)
    }

    /// Makes `holding` as large as `wanted`: smaller always, larger as far as it is allowed.
    pub(crate) fn resize(&mut self, holding: &mut Holding, wanted: u32) {
        let granted = match wanted > holding.0 {
            true => wanted.min(self.allowance(holding)).max(holding.0),
            false => wanted,
        };
        self.used = self.used - u64::from(holding.0) + u64::from(granted);
        self.holders = self.holders - u32::from(holding.0 > 0) + u32::from(granted > 0);
        holding.0 = granted;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u32 = 1 << 20;

    fn sum(holdings: &[Holding]) -> u64 {
        holdings
            .iter()
            .map(|holding| u64::from(holding.bytes()))
            .sum()
    }

    fn holdings(count: usize) -> Vec<Holding> {
        (0..count).map(|_| Holding::default()).collect()
    }

    /// Everyone takes what it may, some rounds long.
    fn greed(budget: &mut Budget, flows: &mut [Holding], rounds: u32) {
        for _ in 0..rounds {
            for flow in &mut *flows {
                let allowance = budget.allowance(flow);
                budget.resize(flow, allowance);
            }
        }
    }

    #[test]
    fn one_flow_gets_four_fifths() {
        let mut budget = Budget::new(100 << 20);
        let mut flows = holdings(1);
        greed(&mut budget, &mut flows, 40);
        assert!(80 * MIB - flows[0].bytes() < 2, "{}", flows[0].bytes());
    }

    #[test]
    fn what_is_wanted_and_there_is_granted_exactly() {
        let mut budget = Budget::new(100 << 20);
        let mut holding = Holding::default();
        budget.resize(&mut holding, 12_345);
        assert_eq!(holding.bytes(), 12_345);
        assert_eq!(budget.view().used, 12_345);
    }

    #[test]
    fn a_budget_of_nothing_grants_nothing() {
        let mut budget = Budget::new(0);
        let mut holding = Holding::default();
        budget.resize(&mut holding, u32::MAX);
        assert_eq!(holding.bytes(), 0);
    }

    #[test]
    fn greedy_flows_that_come_one_by_one_all_have_their_parts() {
        let mut budget = Budget::new(100 << 20);
        let mut flows = holdings(10);
        for count in 1..=flows.len() {
            greed(&mut budget, &mut flows[..count], 10);
        }
        // A little more for those that took what was in reserve.
        for flow in &flows {
            let part = flow.bytes() / (80 * MIB / 1_000);
            assert!((99..150).contains(&part), "{part} hundredths");
        }
    }

    #[test]
    fn what_one_does_not_need_another_can_have() {
        let mut budget = Budget::new(100 << 20);
        let (mut modest, mut greedy) = (Holding::default(), holdings(1));
        budget.resize(&mut modest, MIB);
        greed(&mut budget, &mut greedy, 100);
        assert!(greedy[0].bytes() >= 78 * MIB, "{}", greedy[0].bytes());
    }

    #[test]
    fn a_newcomer_has_its_part_after_a_few_rounds() {
        let mut budget = Budget::new(100 << 20);
        let mut flows = holdings(2);
        greed(&mut budget, &mut flows[..1], 40);
        greed(&mut budget, &mut flows, 6);
        assert!(flows[1].bytes() >= 39 * MIB, "{}", flows[1].bytes());
    }

    #[test]
    fn the_thousandth_gets_its_part_too() {
        let mut budget = Budget::new(100 << 20);
        let mut flows = holdings(1_000);
        greed(&mut budget, &mut flows, 100);
        let part = 80 * MIB / 1_000;
        let least = flows.iter().map(Holding::bytes).min();
        assert!(least >= Some(part - part / 50), "{least:?} of {part}");
    }

    proptest! {
        #[test]
        fn holdings_sum_up_to_what_is_used_and_return_to_nothing(
            total in 0_u64..1 << 33,
            steps in proptest::collection::vec((0_usize..20, any::<u32>()), 1..200),
        ) {
            let mut budget = Budget::new(total);
            let mut flows = holdings(20);
            for (index, wanted) in steps {
                let before = flows[index].bytes();
                budget.resize(&mut flows[index], wanted);
                let after = flows[index].bytes();
                prop_assert!(after <= wanted.max(before));
                prop_assert!(wanted > before || after == wanted, "giving back is never refused");
                prop_assert_eq!(sum(&flows), budget.view().used);
                prop_assert!(budget.view().used <= total);
                let holders = flows.iter().filter(|flow| flow.bytes() > 0).count();
                prop_assert_eq!(budget.holders as usize, holders);
            }
            for flow in &mut flows {
                budget.resize(flow, 0);
            }
            prop_assert_eq!(budget.view().used, 0);
        }
    }
}
