//! How the flight returns to the congestion window after a recovery: no faster than in slow start, not in one burst.
//!
//! When a recovery ends, much of what it filled the pipe with has arrived, and the difference to cwnd could leave at
//! once. So what is in flight is limited, at first to little more than it is then; what is delivered may be replaced, and
//! grow by as much again, until the limit is cwnd. The same serves whatever else begins again below an unchanged cwnd.

use crate::prr::PrrAck;

/// A limit of what is in flight, in bytes, beside cwnd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CatchUp(u64);

impl CatchUp {
    /// Nothing is limited.
    pub(super) const NONE: CatchUp = CatchUp(u64::MAX);

    /// So many bytes at first.
    pub(super) fn from(bytes: u64) -> Self {
        CatchUp(bytes)
    }

    /// More was delivered, and something is still in flight.
    pub(super) fn on_delivered(&mut self, ack: &PrrAck, cwnd: u32) {
        if *self == CatchUp::NONE {
            return;
        }
        // What was delivered may be replaced, and grow by as much again.
        let grown = ack.in_flight + ack.delivered + ack.delivered.max(u64::from(ack.smss));
        self.0 = self.0.max(grown);
        if self.0 >= u64::from(cwnd) {
            *self = CatchUp::NONE;
        }
    }

    /// What may be in flight.
    pub(super) fn window(self, cwnd: u32) -> u64 {
        self.0.min(u64::from(cwnd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivered: u64, in_flight: u64) -> PrrAck {
        PrrAck {
            delivered,
            in_flight,
            safe: true,
            smss: 1000,
        }
    }

    #[test]
    fn without_a_recovery_nothing_limits_the_window() {
        let mut catch_up = CatchUp::NONE;
        catch_up.on_delivered(&ack(1000, 1000), 10_000);
        assert_eq!(catch_up.window(10_000), 10_000);
    }

    #[test]
    fn what_is_delivered_may_be_replaced_twice_over() {
        let mut catch_up = CatchUp::from(2000);
        assert_eq!(catch_up.window(10_000), 2000);
        catch_up.on_delivered(&ack(2000, 0), 10_000);
        assert_eq!(catch_up.window(10_000), 4000);
        catch_up.on_delivered(&ack(100, 2900), 10_000);
        assert_eq!(catch_up.window(10_000), 4000, "it does not shrink");
        catch_up.on_delivered(&ack(0, 4000), 10_000);
        assert_eq!(catch_up.window(10_000), 5000, "a segment at least");
    }

    #[test]
    fn the_limit_ends_at_the_congestion_window() {
        let mut catch_up = CatchUp::from(8000);
        catch_up.on_delivered(&ack(2000, 6000), 10_000);
        assert_eq!(catch_up, CatchUp::NONE);
    }
}
