//! Deliveries to incoming webhooks: one with an id that was seen within the last day starts no second run.

use rusqlite::{Transaction, params};

use super::error::StoreError;
use super::new_run::NewRun;
use super::open::Store;
use super::redirects;
use super::row;
use super::sql;
use super::supersede::{SupersedeDecision, enter_queue};
use quire_types::clock::Millis;
use quire_types::names::RunId;

/// How long ids of deliveries are remembered.
const MAX_AGE_MS: i64 = 24 * 3600 * 1000;

/// A request to an incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDelivery {
    /// The name of the webhook.
    pub hook: String,
    /// The id that the sender chose, if it chose one.
    pub delivery: Option<String>,
}

/// Access to deliveries.
#[derive(Debug, Clone, Copy)]
pub struct HookDeliveries<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn hook_deliveries(&self) -> HookDeliveries<'_> {
        HookDeliveries { store: self }
    }
}

impl HookDeliveries<'_> {
    /// The run that a delivery with the same id has started.
    pub fn run_of(self, delivery: &HookDelivery) -> Result<Option<RunId>, StoreError> {
        let oldest = self.store.clock().now().plus(-MAX_AGE_MS);
        self.store
            .read(|connection| started(connection, delivery, oldest))
    }

    /// Queues the run of a delivery, in the same transaction as the record of its id. Returns its id, and whether an earlier
    /// delivery with the same id has started it.
    pub fn enqueue(
        self,
        delivery: &HookDelivery,
        run: &NewRun,
        decide: SupersedeDecision,
    ) -> Result<(RunId, bool), StoreError> {
        let now = self.store.clock().now();
        let oldest = now.plus(-MAX_AGE_MS);
        self.store.write(|tx| {
            forget_old(tx, oldest)?;
            if let Some(run) = started(tx, delivery, oldest)? {
                return Ok((run, true));
            }
            let run = NewRun {
                repo: redirects::resolve(tx, &run.repo)?,
                ..run.clone()
            };
            let (id, _) = enter_queue(tx, &run, None, now, decide)?;
            if let Some(name) = &delivery.delivery {
                sql::execute(
                    tx,
                    "record a delivery",
                    "INSERT INTO hook_deliveries (hook, delivery, run_id, received_at_ms) VALUES (?1, ?2, ?3, ?4)",
                    params![delivery.hook, name, id.to_string(), now.0],
                )?;
            }
            Ok((id, false))
        })
    }
}

fn forget_old(tx: &Transaction<'_>, oldest: Millis) -> Result<(), StoreError> {
    let sql = "DELETE FROM hook_deliveries WHERE received_at_ms < ?1";
    sql::execute(tx, "forget old deliveries", sql, [oldest.0]).map(drop)
}

fn started(
    connection: &rusqlite::Connection,
    delivery: &HookDelivery,
    oldest: Millis,
) -> Result<Option<RunId>, StoreError> {
    let Some(name) = &delivery.delivery else {
        return Ok(None);
    };
    sql::first(
        connection,
        "find a delivery",
        "SELECT run_id FROM hook_deliveries WHERE hook = ?1 AND delivery = ?2 AND received_at_ms >= ?3",
        params![delivery.hook, name, oldest.0],
        |found| row::parsed_at(found, 0),
    )
}
