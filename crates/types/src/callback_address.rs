//! The address at which the machines of a swarm reach the appliance.

use std::fmt;
use std::str::FromStr;

/// The address to which helpers connect. The server listens on the port at all of its own addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackAddress {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, which is not 0.
    pub port: u16,
}

/// A text is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address: write a host and a port, such as `forge.lan:7474`")]
pub struct InvalidCallback(String);

impl FromStr for CallbackAddress {
    type Err = InvalidCallback;

    fn from_str(text: &str) -> Result<Self, InvalidCallback> {
        let error = || InvalidCallback(text.chars().take(100).collect());
        let authority: http::uri::Authority = text.parse().map_err(|_| error())?;
        let host = authority.host().trim_matches(['[', ']']);
        match authority.port_u16() {
            Some(port) if port > 0 && !host.is_empty() && !text.contains('@') => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for CallbackAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_has_a_host_and_a_port() {
        for text in ["forge.lan:7474", "192.0.2.1:1", "[2001:db8::1]:7474"] {
            assert_eq!(text.parse::<CallbackAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "forge.lan",
            "forge.lan:",
            "forge.lan:0",
            ":7474",
            "forge.lan:70000",
            "a@b:1",
            "a b:1",
            "http://a:1",
            "a:1/b",
            "2001:db8::1",
        ] {
            assert!(text.parse::<CallbackAddress>().is_err(), "{text}");
        }
        insta::assert_snapshot!("forge".parse::<CallbackAddress>().unwrap_err(), @"`forge` is not an address: write a host and a port, such as `forge.lan:7474`");
    }
}
