//! What each client may use: a number of units a minute, and more at once after a pause.
//!
//! The clients that asked last are remembered. One that is forgotten begins anew, and the limit of all together holds for it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quick_cache::sync::Cache;
use quire_types::clock::Millis;
use quire_types::leaky_bucket::LeakyBucket;
use quire_types::sync::lock;

use super::super::client_network::network_of;
use super::limits::StrangerLimits;

/// Of an IPv6 address, what one customer of a provider usually has: so many bits.
const IPV6_NETWORK_BITS: u8 = 56;
const MINUTE_MS: u64 = 60_000;

/// The network that counts as one client.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    network_of(address, IPV6_NETWORK_BITS)
}

/// The budgets of clients, by their networks.
pub(super) struct ClientBudgets {
    clients: Cache<IpAddr, Arc<Mutex<LeakyBucket>>>,
    /// How long one unit takes to drain.
    unit_ms: u64,
    capacity_ms: u64,
}

/// Units that were taken from the budget of a client.
#[derive(Debug)]
pub(crate) struct Charge {
    bucket: Arc<Mutex<LeakyBucket>>,
    cost_ms: u64,
}

impl Charge {
    /// Returns the units of a request that has cost nothing.
    pub(crate) fn refund(self) {
        lock(&self.bucket).refund(self.cost_ms);
    }
}

impl ClientBudgets {
    pub(super) fn new(limits: &StrangerLimits) -> Self {
        let unit_ms = MINUTE_MS / u64::from(limits.units_per_minute.max(1));
        Self {
            clients: Cache::new(limits.clients),
            unit_ms,
            capacity_ms: unit_ms * u64::from(limits.burst),
        }
    }

    /// Takes units from the budget of a client.
    ///
    /// # Errors
    /// It has not so many; the error is the time after which it has.
    pub(super) fn take(
        &self,
        address: IpAddr,
        units: u32,
        now: Millis,
    ) -> Result<Charge, Duration> {
        let client = client_of(address);
        let bucket = match self.clients.get(&client) {
            Some(bucket) => bucket,
            None => {
                let bucket = Arc::new(Mutex::new(LeakyBucket::new(now)));
                self.clients.insert(client, bucket.clone());
                bucket
            }
        };
        let cost_ms = self.unit_ms * u64::from(units);
        lock(&bucket).take(cost_ms, self.capacity_ms, now)?;
        Ok(Charge { bucket, cost_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_units_and_gets_them_back_with_time() {
        let budgets = ClientBudgets::new(&StrangerLimits::default());
        let take = |address: &str, units, seconds: i64| {
            budgets.take(address.parse().unwrap(), units, Millis(seconds * 1000))
        };
        take("192.0.2.1", 50, 0).unwrap();
        let second = take("192.0.2.1", 50, 0).unwrap();
        let wait = take("192.0.2.1", 50, 0).unwrap_err();
        assert_eq!(wait, Duration::from_secs(30));
        take("192.0.2.1", 20, 0).unwrap();
        take("::ffff:192.0.2.1", 1, 0).unwrap_err();
        take("192.0.2.2", 120, 0).unwrap();
        take("192.0.2.1", 50, 49).unwrap_err();
        take("192.0.2.1", 50, 50).unwrap();
        second.refund();
        take("192.0.2.1", 50, 50).unwrap();
        take("2001:db8:0:ff::1", 120, 0).unwrap();
        take("2001:db8:0:1::1", 1, 0).unwrap_err();
        take("2001:db8:0:100::1", 120, 0).unwrap();
    }

    #[test]
    fn not_more_clients_are_remembered_than_the_limit_says() {
        let budgets = ClientBudgets::new(&StrangerLimits {
            clients: 100,
            ..StrangerLimits::default()
        });
        for number in 0..10_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            budgets.take(address, 1, Millis(0)).unwrap();
        }
        assert!(budgets.clients.len() <= 100, "{}", budgets.clients.len());
    }
}
