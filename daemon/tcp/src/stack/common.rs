//! What all connections of a stack have in common: its settings, its totals and its memory.
//!
//! Connections own none of it. For each step one of them, or the listener, gets it as its [`Env`].

use crate::autotune::Budgets;
use crate::clock::Instant;
use crate::config::StackConfig;
use crate::connection::{Connection, Env};
use crate::flight_pool::FlightPool;
use crate::slots::Slots;
use crate::stats::StackCounters;

/// The common part of a stack.
pub(super) struct Common {
    pub config: StackConfig,
    pub counters: StackCounters,
    pub flights: FlightPool,
}

impl Common {
    /// All memory is reserved here.
    pub(super) fn new(config: StackConfig) -> Self {
        Common {
            counters: StackCounters::default(),
            flights: FlightPool::new(config.connections).with_budgets(Budgets::new(&config)),
            config,
        }
    }

    /// For one step at `now`.
    pub(super) fn env(&mut self, now: Instant) -> Env<'_> {
        Env {
            now,
            config: &self.config,
            counters: &mut self.counters,
            flights: &mut self.flights,
        }
    }

    /// The connection in a slot, awake, and what it needs for one step, borrowed side by side.
    pub(super) fn with<'a>(
        &'a mut self,
        slots: &'a mut Slots,
        slot: u32,
        now: Instant,
    ) -> Option<(&'a mut Connection, Env<'a>)> {
        let connection = slots.wake(slot, &self.config)?;
        Some((connection, self.env(now)))
    }
}
