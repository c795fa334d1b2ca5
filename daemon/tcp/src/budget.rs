//! Bytes of buffers that the connections of one worker share.
//!
//! Every connection has a little room without asking, so that none starves and an idle one costs nothing. What it
//! needs beyond that it holds from a [`Budget`], and only as long as it needs it. Who may hold how much follows the
//! *dynamic threshold* of shared-memory switches (Choudhury and Hahne, IEEE/ACM ToN 6, 1998): at most
//! [`SHARE_OF_FREE`] times what is free. So a flow that is alone gets four fifths of everything, n flows that want
//! more than there is end up with equal parts, and something is always left for the next one, without a list of
//! holders and in a few instructions.
//!
//! Invariant: the holdings of all connections sum up to `used`, and `used <= total`. A [`Holding`] is linear: only a
//! budget makes it larger or smaller, and it goes back before it is dropped.

/// A holding is at most this many times what is free. More lets one flow use more of the budget; less makes
/// newcomers wait for fewer round trips until those before them have given back.
const SHARE_OF_FREE: u64 = 4;

/// What one connection holds of a budget, in bytes.
#[derive(Debug, Default)]
#[must_use = "it has to be given back"]
pub(crate) struct Holding(u32);

impl Holding {
    /// Bytes.
    pub(crate) fn bytes(&self) -> u32 {
        self.0
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
}

impl Budget {
    /// Nobody holds anything.
    pub(crate) fn new(total: u64) -> Self {
        Budget { total, used: 0 }
    }

    pub(crate) fn view(&self) -> BudgetView {
        BudgetView {
            total: self.total,
            used: self.used,
        }
    }

    /// Bytes that the owner of `holding` may hold in all. Less than it holds if others came meanwhile.
    pub(crate) fn share(&self, holding: &Holding) -> u32 {
        let reach = self.total - self.used + u64::from(holding.0);
        let share = u128::from(reach) * u128::from(SHARE_OF_FREE) / u128::from(SHARE_OF_FREE + 1);
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    /// Makes `holding` as large as `wanted`: smaller always, larger up to its share.
    pub(crate) fn resize(&mut self, holding: &mut Holding, wanted: u32) {
        let granted = match wanted > holding.0 {
            true => wanted.min(self.share(holding)).max(holding.0),
            false => wanted,
        };
        self.used = self.used - u64::from(holding.0) + u64::from(granted);
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

    #[test]
    fn one_flow_gets_four_fifths() {
        let mut budget = Budget::new(100 << 20);
        let mut holding = Holding::default();
        budget.resize(&mut holding, u32::MAX);
        assert_eq!(holding.bytes(), 80 * MIB);
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
    fn greedy_flows_that_come_one_by_one_end_up_with_equal_parts() {
        let mut budget = Budget::new(100 << 20);
        let mut flows = holdings(10);
        for count in 1..=flows.len() {
            for _ in 0..60 {
                for flow in &mut flows[..count] {
                    let share = budget.share(flow);
                    budget.resize(flow, share);
                }
            }
        }
        // 4 / (1 + 4 n) of the total each.
        let fair = f64::from(400 * MIB) / 41.0;
        for flow in &flows {
            let part = f64::from(flow.bytes()) / fair;
            assert!((0.98..1.02).contains(&part), "{part}");
        }
    }

    #[test]
    fn something_is_left_for_the_next_one() {
        let mut budget = Budget::new(100 << 20);
        let mut flows = holdings(1_000);
        for flow in &mut flows {
            budget.resize(flow, u32::MAX);
        }
        let view = budget.view();
        assert!(view.used < view.total);
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
            }
            for flow in &mut flows {
                budget.resize(flow, 0);
            }
            prop_assert_eq!(budget.view().used, 0);
        }
    }
}
