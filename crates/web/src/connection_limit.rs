//! Limits the connections of one address, so that one client cannot use up all of them.

use super::client_network::network_of;
use quire_types::sync::lock;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// An IPv6 client usually has a network of so many bits to itself, which counts as one address.
const IPV6_NETWORK_BITS: u8 = 64;

/// Addresses of proxies. Their connections are not counted, because a proxy connects for many clients, and they are
/// believed when they name the address of a client.
#[derive(Clone)]
pub struct TrustedProxies(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl TrustedProxies {
    /// Those addresses of which this holds.
    pub fn new(holds: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    pub(super) fn holds(&self, address: IpAddr) -> bool {
        (self.0)(address.to_canonical())
    }
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self::new(|address| address.is_loopback())
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustedProxies")
    }
}

/// The connections that there are, by address.
#[derive(Debug, Clone)]
pub(super) struct PerAddressLimit {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct CountedConnection {
    address: IpAddr,
    peers: PerAddressLimit,
}

impl PerAddressLimit {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            held: Arc::default(),
        }
    }

    /// Counts a connection; `None` if the address has as many as it may.
    pub(super) fn count(&self, address: IpAddr) -> Option<CountedConnection> {
        let address = network_of(address, IPV6_NETWORK_BITS);
        let mut held = lock(&self.held);
        let count = held.entry(address).or_default();
        (*count < self.most).then(|| {
            *count += 1;
            CountedConnection {
                address,
                peers: self.clone(),
            }
        })
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut held = lock(&self.peers.held);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_counted_by_itself_and_forgotten() {
        let peers = PerAddressLimit::new(2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let held = [
            peers.count(address("192.0.2.1")),
            peers.count(address("::ffff:192.0.2.1")),
        ];
        assert!(held.iter().all(Option::is_some) && peers.count(address("192.0.2.1")).is_none());
        assert!(peers.count(address("192.0.2.2")).is_some());
        let six = [
            peers.count(address("2001:db8::1")),
            peers.count(address("2001:db8::2")),
        ];
        assert!(
            peers.count(address("2001:db8::ffff:3")).is_none()
                && peers.count(address("2001:db8:0:1::1")).is_some()
        );
        drop(held);
        drop(six);
        assert!(peers.held.lock().unwrap().is_empty());
    }
}
