//! Clients that are not signed in: what they may use of the appliance.
//!
//! A request has a [`CostClass`], which stands beside its route. Before a stranger's request is handled, its units are taken from the
//! budget of the client, and all strangers together must have processor time left. Their repositories are read on threads of their own,
//! whose time is measured, so that clients that are signed in do not wait for them.

mod client_budgets;
mod cost;
mod limits;
mod paced_writer;
mod passes;
mod processor_share;
mod reading;
mod refused;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quire_git::read::{CpuTimeObserver, ReadTurn};
use quire_server::metrics::Metrics;
use quire_types::clock::Clock;

pub(super) use client_budgets::Charge;
use client_budgets::ClientBudgets;
pub(super) use cost::CostClass;
pub use limits::{StrangerLimits, StrangerSettings};
pub(super) use paced_writer::{Pace, PacedWriter};
pub(super) use passes::PASS_SECONDS;
use passes::Passes;
use processor_share::ProcessorShare;
use reading::StrangerReading;
pub use refused::StrangerRefused;

/// What is kept about strangers, and the threads that read for them.
pub(super) struct Strangers {
    budgets: ClientBudgets,
    share: Arc<ProcessorShare>,
    clock: Clock,
    metrics: Arc<Metrics>,
    pub(super) passes: Passes,
    /// Reads repositories for their pages.
    reading: StrangerReading,
    /// Is told of the time of calls that are made for strangers.
    pub(super) observer: CpuTimeObserver,
}

impl Strangers {
    pub(super) fn new(limits: &StrangerLimits, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let share = Arc::new(ProcessorShare::new(limits.processor_time));
        let (used, at) = (share.clone(), clock.clone());
        let observer: CpuTimeObserver = Arc::new(move |time| used.add(time, at.now()));
        Self {
            budgets: ClientBudgets::new(limits),
            share,
            clock,
            metrics,
            passes: Passes::default(),
            reading: StrangerReading::new(limits, observer.clone()),
            observer,
        }
    }

    /// Waits for a thread that reads for strangers.
    pub(super) async fn turn(&self, cost: CostClass) -> Result<ReadTurn, StrangerRefused> {
        let turn = self.reading.turn(cost).await;
        turn.ok_or_else(|| self.busy())
    }

    /// The pace of what is written for a stranger.
    pub(super) fn pace(&self) -> Pace {
        Pace {
            share: self.share.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Counts a request that found no thread or place.
    pub(super) fn busy(&self) -> StrangerRefused {
        let count = &self.metrics.strangers_refused_busy;
        count.fetch_add(1, Ordering::Relaxed);
        StrangerRefused::Busy
    }

    /// Takes what a request costs from the budget of its client.
    ///
    /// # Errors
    /// The client, or all of them together, have used up what they may use.
    pub(super) fn charge(
        &self,
        address: IpAddr,
        cost: CostClass,
    ) -> Result<Charge, StrangerRefused> {
        let now = self.clock.now();
        let charge = self
            .budgets
            .take(address, cost.units(), now)
            .map_err(|after| {
                let count = &self.metrics.strangers_refused_client;
                count.fetch_add(1, Ordering::Relaxed);
                StrangerRefused::Client { after }
            })?;
        if let Some(after) = self.share.wait(cost, now) {
            charge.refund();
            let count = &self.metrics.strangers_refused_processor;
            count.fetch_add(1, Ordering::Relaxed);
            return Err(StrangerRefused::Processor { after });
        }
        Ok(charge)
    }
}
