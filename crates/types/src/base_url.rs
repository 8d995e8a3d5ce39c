//! The address that links to the pages begin with, as the reader of a link can use it.
//!
//! Where the operator has configured it, it is that one. Otherwise it depends on the reader: natively each reader has
//! reached the machine by an address at which the pages are too. In a container sshd sees an address of the container, behind
//! the engine's translation of addresses, so that the address of the machine is not known.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::url_host::{host_in_url, host_of_url};

/// The environment variable that tells the hook by which address its client reached this machine.
pub const REACHED_VARIABLE: &str = "QUIRE_REACHED_ADDRESS";

/// Where the host of the [`BaseUrl`] is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UrlHost {
    /// From the configuration.
    #[default]
    Configured,
    /// From the connection of each reader.
    Connection,
    /// Not known.
    Unknown,
}

/// The address that links begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseUrl {
    /// A URL without a slash at its end. Its host is `localhost` if none is configured.
    pub url: String,
    /// Where its host is from.
    #[serde(default)]
    pub host: UrlHost,
}

impl BaseUrl {
    /// The URL for a reader who has reached this machine by this address.
    #[must_use]
    pub fn for_reader(&self, reached: Option<IpAddr>) -> String {
        let host = host_of_url(&self.url).map(|host| host_in_url(&host).into_owned());
        match (self.host, reached, host) {
            (UrlHost::Connection, Some(reached), Some(host)) if !is_local(reached) => {
                let reached = reached.to_string();
                self.url.replacen(&host, &host_in_url(&reached), 1)
            }
            _ => self.url.clone(),
        }
    }
}

/// Whether this is the address that the name `localhost` stands for.
fn is_local(address: IpAddr) -> bool {
    ["127.0.0.1", "::1"].contains(&address.to_string().as_str())
}

/// The address by which the client of an SSH connection reached this machine, from the variable `SSH_CONNECTION` of its session.
#[must_use]
pub fn reached_address(ssh_connection: &str) -> Option<IpAddr> {
    let address = ssh_connection.split(' ').nth(2)?;
    Some(address.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_the_address_by_which_the_reader_came() {
        let of = |host, url: &str, connection: &str| {
            let base = BaseUrl {
                url: url.to_owned(),
                host,
            };
            base.for_reader(reached_address(connection))
        };
        let (lan, local) = ("10.0.0.2 5000 10.0.0.1 2222", "127.0.0.1 5000 127.0.0.1 22");
        let localhost = "http://localhost:3000";
        assert_eq!(
            of(UrlHost::Connection, localhost, lan),
            "http://10.0.0.1:3000"
        );
        assert_eq!(of(UrlHost::Connection, localhost, local), localhost);
        for unreadable in ["", "10.0.0.2 5000", "a b c d", "x 1 fe80::1%eth0 22"] {
            assert_eq!(of(UrlHost::Connection, localhost, unreadable), localhost);
        }
        assert_eq!(
            of(UrlHost::Connection, localhost, "::1 5000 fd00::7 22"),
            "http://[fd00::7]:3000"
        );
        assert_eq!(
            of(
                UrlHost::Connection,
                localhost,
                "::1 5000 ::ffff:10.0.0.1 22"
            ),
            "http://10.0.0.1:3000"
        );
        assert_eq!(of(UrlHost::Unknown, localhost, lan), localhost);
        assert_eq!(
            of(UrlHost::Configured, "https://git.example.org", lan),
            "https://git.example.org"
        );
    }

    #[test]
    fn an_address_without_an_origin_is_one_of_an_older_server() {
        let base: BaseUrl = serde_json::from_str(r#"{"url":"http://nas:3000"}"#).unwrap();
        assert_eq!(base.host, UrlHost::Configured);
    }
}
