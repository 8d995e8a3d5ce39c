//! Which addresses messages may be sent to, and refs pushed to.
//!
//! Addresses of this machine, of its link and of the machine of the engine are reached without passing any firewall of the
//! owner, so they are permitted only if the configuration names them. The address that a name has is checked, and that
//! address is connected to, so a name that changes its address in between gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quire_runtime::blocking::{BlockingInterrupted, run_blocking};
use quire_types::network::Network;

/// Why a host has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("the address of {host} cannot be found")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{} of this machine, of its link or of the engine's machine", subject(.host, *.address))]
    NotPermitted { host: String, address: IpAddr },
    #[error("{host} has the address {address}, which is one of a private network")]
    NotPublic { host: String, address: IpAddr },
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
}

/// Which addresses may be connected to without being named by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressRange {
    /// Also those of private networks: the owner chose the address, and knows them.
    Private,
    /// Those that are reached from everywhere.
    Public,
}

/// The addresses that may be connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReachableAddresses<'a> {
    pub(crate) range: AddressRange,
    /// Networks that the configuration permits.
    pub(crate) allowed: &'a [Network],
}

fn subject(host: &str, address: IpAddr) -> String {
    match host.parse() == Ok(address) {
        true => format!("{address} is an address"),
        false => format!("{host} has the address {address}, which is one"),
    }
}

/// The addresses of a host and port that may be connected to, at least one.
pub(crate) async fn permitted(
    (host, port): (&str, u16),
    reachable: ReachableAddresses<'_>,
) -> Result<Vec<SocketAddr>, AddressError> {
    let (range, allowed) = (reachable.range, reachable.allowed.to_vec());
    let policy = run_blocking(move || AddressPolicy::of_this_machine(&allowed, range)).await?;
    let resolve = |source| AddressError::Resolve {
        host: host.to_owned(),
        source,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(resolve)?
        .collect();
    match policy.choose(host, found)? {
        permitted if permitted.is_empty() => Err(resolve(io::ErrorKind::NotFound.into())),
        permitted => Ok(permitted),
    }
}

/// Decides about addresses.
#[derive(Debug, Clone)]
struct AddressPolicy {
    /// Networks that the configuration permits.
    allowed: Vec<Network>,
    /// Addresses of the interfaces of this machine, and of its default gateways: in a container the engine's machine.
    own: Vec<IpAddr>,
    range: AddressRange,
}

impl AddressPolicy {
    /// A policy for this machine. Reads files of the kernel.
    fn of_this_machine(allowed: &[Network], range: AddressRange) -> Self {
        Self {
            allowed: allowed.to_vec(),
            own: interface_addresses().chain(gateways()).collect(),
            range,
        }
    }

    /// Those of the addresses of a host that may be connected to. An error if the host has only others.
    fn choose(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, AddressError> {
        let is_permitted = |address: &SocketAddr| self.permits(address.ip());
        let (permitted, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_permitted);
        match others.first() {
            Some(other) if permitted.is_empty() => {
                let (host, address) = (host.to_owned(), other.ip());
                Err(match self.is_near(address) {
                    true => AddressError::NotPermitted { host, address },
                    false => AddressError::NotPublic { host, address },
                })
            }
            _ => Ok(permitted),
        }
    }

    fn permits(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        let is_in_range =
            !self.is_near(address) && (self.range == AddressRange::Private || is_public(canonical));
        let is_allowed = |network: &Network| network.contains(canonical);
        is_in_range || self.allowed.iter().any(is_allowed)
    }

    /// Whether it is an address of this machine, of its link or of the engine's machine.
    fn is_near(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_special = match address {
            IpAddr::V4(address) => is_special_v4(address),
            IpAddr::V6(address) => is_special_v6(address),
        };
        is_special || self.own.contains(&address)
    }
}

/// Whether an address is reached from everywhere, as far as the address says.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_for_protocols = (a, b, c) == (192, 0, 0);
            let is_for_benchmarks = a == 198 && b & 0xfe == 18;
            let is_for_documents = address.is_documentation();
            let others = is_shared || is_for_protocols || is_for_benchmarks || is_for_documents;
            !address.is_private() && !others && a < 224
        }
        // Others embed addresses of version 4 (such as NAT64, 6to4 and Teredo), or are not routed.
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            let embeds = a == 0x2002 || (a, b) == (0x2001, 0);
            a & 0xe000 == 0x2000 && !embeds && (a, b) != (0x2001, 0xdb8)
        }
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.is_broadcast()
        || address.is_multicast()
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unicast_link_local()
        || address.is_unspecified()
        || address.is_multicast()
}

fn interface_addresses() -> impl Iterator<Item = IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
}

fn gateways() -> impl Iterator<Item = IpAddr> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = gateways_v4(&read("/proc/net/route"));
    let v6 = gateways_v6(&read("/proc/net/ipv6_route"));
    v4.into_iter().chain(v6)
}

/// The gateways of the default routes in `/proc/net/route`: interface, destination, gateway, in hexadecimal digits.
fn gateways_v4(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let bits = u32::from_str_radix(gateway, 16).ok()?;
        // The kernel prints the number as the machine stores it.
        (destination == "00000000" && bits != 0).then(|| Ipv4Addr::from(bits.to_ne_bytes()).into())
    };
    routes.lines().filter_map(gateway).collect()
}

/// The same in `/proc/net/ipv6_route`: destination, its prefix, source, its prefix, gateway.
fn gateways_v6(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default =
            fields.first()?.bytes().all(|digit| digit == b'0') && *fields.get(1)? == "00";
        let bits = u128::from_str_radix(fields.get(4)?, 16).ok()?;
        (is_default && bits != 0).then(|| Ipv6Addr::from_bits(bits).into())
    };
    routes.lines().filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_its_link_need_permission() {
        let policy_of = |range, allowed: &[&str]| AddressPolicy {
            allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
            own: vec![
                "172.17.0.1".parse().unwrap(),
                "2001:db8::5".parse().unwrap(),
            ],
            range,
        };
        let policy = |allowed: &[&str]| policy_of(AddressRange::Private, allowed);
        let addresses = [
            "93.184.216.34",
            "10.0.0.7",
            "192.168.1.9",
            "2606:2800::1",
            "fd00::1", // permitted
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "172.17.0.1",
            "::ffff:172.17.0.1",
            "2001:db8::5",
        ];
        let permitted = |policy: &AddressPolicy| {
            let is_permitted = |text: &&str| policy.permits(text.parse().unwrap());
            addresses
                .into_iter()
                .filter(is_permitted)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            permitted(&policy(&[])),
            "93.184.216.34 10.0.0.7 192.168.1.9 2606:2800::1 fd00::1"
        );
        assert_eq!(
            permitted(&policy(&["127.0.0.1", "172.17.0.0/16"])),
            "93.184.216.34 10.0.0.7 192.168.1.9 2606:2800::1 fd00::1 127.0.0.1 ::ffff:127.0.0.1 172.17.0.1 ::ffff:172.17.0.1"
        );
        let public = |allowed| permitted(&policy_of(AddressRange::Public, allowed));
        assert_eq!(public(&[]), "93.184.216.34 2606:2800::1");
        assert_eq!(
            public(&["192.168.1.0/24", "127.0.0.1"]),
            "93.184.216.34 192.168.1.9 2606:2800::1 127.0.0.1 ::ffff:127.0.0.1"
        );
    }

    #[test]
    fn public_addresses_are_those_that_are_reached_from_everywhere() {
        let is_public = |text: &&str| super::is_public(text.parse().unwrap());
        let private = [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.19.0.1",
            "203.0.113.5",
            "240.0.0.1",
            "fd00::1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001:0:1::1",
            "2001:db8::1",
            "::a00:1",
        ];
        assert_eq!(private.into_iter().find(is_public), None);
        let public = ["9.9.9.9", "100.128.0.1", "172.32.0.1", "2606:2800::1"];
        assert_eq!(public.iter().filter(|text| is_public(text)).count(), 4);
    }

    /// A name can have addresses of both kinds, as one that an attacker controls.
    #[test]
    fn of_the_addresses_of_a_name_only_those_that_are_permitted_are_used() {
        let policy = AddressPolicy {
            allowed: Vec::new(),
            own: vec!["172.17.0.1".parse().unwrap()],
            range: AddressRange::Private,
        };
        let chosen = |addresses: &[&str]| {
            let found = addresses.iter().map(|text| text.parse().unwrap());
            match policy.choose("name.example", found.collect()) {
                Ok(chosen) => format!("{chosen:?}"),
                Err(error) => error.to_string(),
            }
        };
        let (public, own, metadata) = ("192.0.2.7:443", "172.17.0.1:443", "169.254.169.254:443");
        assert_eq!(
            [chosen(&[own, public, metadata]), chosen(&[public])],
            ["[192.0.2.7:443]", "[192.0.2.7:443]"]
        );
        assert_eq!(
            chosen(&[metadata, own]),
            "name.example has the address 169.254.169.254, which is one of this machine, of its link or of the engine's machine"
        );
        assert_eq!(chosen(&[]), "[]");
    }

    #[test]
    fn default_gateways_are_read() {
        let v4 = "Iface\tDestination\tGateway \tFlags\n\
                  eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\n\
                  eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n";
        assert_eq!(gateways_v4(v4), ["172.17.0.1".parse::<IpAddr>().unwrap()]);
        let zero = "0".repeat(32);
        let gateway = "20010db8000000000000000000000001";
        let v6 = format!(
            "{zero} 00 {zero} 00 {gateway} 00000400\n{zero} 00 {zero} 00 {zero} ffffffff\n"
        );
        assert_eq!(gateways_v6(&v6), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert!(
            AddressPolicy::of_this_machine(&[], AddressRange::Private)
                .own
                .contains(&Ipv4Addr::LOCALHOST.into())
        );
    }
}
