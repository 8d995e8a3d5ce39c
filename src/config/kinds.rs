//! The kinds of values that a setting can have: how each is read from data and from text, what
//! is said when it is something else, and how it is shown.

use std::time::Duration;

use serde_json::Value;

use super::Auth;
use super::network::Network;
use crate::pipeline::{
    format_cpus, format_duration, format_size, parse_cpus, parse_duration, parse_size,
};
use crate::run::ExecutorKind;

/// A kind of value.
pub(super) trait Kind {
    /// What it becomes.
    type Value;
    /// What it has to be, for messages: "a port number, 1 to 65535".
    const EXPECTED: &'static str;

    /// Reads what an environment variable holds.
    fn text(text: &str) -> Option<Self::Value>;
    /// Reads what a configuration file gives.
    fn data(value: &Value) -> Option<Self::Value>;
    /// As [`Kind::text`] reads it.
    fn show(value: &Self::Value) -> String;
}

pub(super) struct Port;
pub(super) struct Count;
pub(super) struct Positive;
pub(super) struct Flag;
pub(super) struct Size;
pub(super) struct MemorySize;
pub(super) struct Time;
pub(super) struct Cpus;
pub(super) struct Url;
pub(super) struct Host;
pub(super) struct Engine;
pub(super) struct Image;
pub(super) struct Networks;
pub(super) struct AuthWord;
pub(super) struct ExecutorWord;

impl Kind for Port {
    type Value = u16;
    const EXPECTED: &'static str = "a port number from 1 to 65535";

    fn text(text: &str) -> Option<u16> {
        text.parse().ok().filter(|port| *port > 0)
    }

    fn data(value: &Value) -> Option<u16> {
        value.as_u64()?.try_into().ok().filter(|port| *port > 0)
    }

    fn show(value: &u16) -> String {
        value.to_string()
    }
}

impl Kind for Count {
    type Value = u32;
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn text(text: &str) -> Option<u32> {
        text.parse().ok()
    }

    fn data(value: &Value) -> Option<u32> {
        value.as_u64()?.try_into().ok()
    }

    fn show(value: &u32) -> String {
        value.to_string()
    }
}

impl Kind for Positive {
    type Value = u32;
    const EXPECTED: &'static str = "a whole number, 1 or more";

    fn text(text: &str) -> Option<u32> {
        Count::text(text).filter(|n| *n > 0)
    }

    fn data(value: &Value) -> Option<u32> {
        Count::data(value).filter(|n| *n > 0)
    }

    fn show(value: &u32) -> String {
        value.to_string()
    }
}

impl Kind for Flag {
    type Value = bool;
    const EXPECTED: &'static str = "true or false";

    fn text(text: &str) -> Option<bool> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    fn data(value: &Value) -> Option<bool> {
        value.as_bool()
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }
}

impl Kind for Size {
    type Value = u64;
    const EXPECTED: &'static str = "a size such as \"512m\" or \"2g\"";

    fn text(text: &str) -> Option<u64> {
        parse_size(text)
    }

    fn data(value: &Value) -> Option<u64> {
        value.as_u64().or_else(|| parse_size(value.as_str()?))
    }

    fn show(value: &u64) -> String {
        format_size(*value)
    }
}

/// Docker starts nothing with less.
const MIN_MEMORY: u64 = 6 << 20;

impl Kind for MemorySize {
    type Value = u64;
    const EXPECTED: &'static str = "a size such as \"512m\" or \"2g\", and at least \"6m\"";

    fn text(text: &str) -> Option<u64> {
        Size::text(text).filter(|bytes| *bytes >= MIN_MEMORY)
    }

    fn data(value: &Value) -> Option<u64> {
        Size::data(value).filter(|bytes| *bytes >= MIN_MEMORY)
    }

    fn show(value: &u64) -> String {
        format_size(*value)
    }
}

impl Kind for Time {
    type Value = Duration;
    const EXPECTED: &'static str = "a duration such as \"90s\" or \"1h30m\"";

    fn text(text: &str) -> Option<Duration> {
        parse_duration(text).ok().map(Duration::from_millis)
    }

    fn data(value: &Value) -> Option<Duration> {
        Self::text(value.as_str()?)
    }

    fn show(value: &Duration) -> String {
        format_duration(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Kind for Cpus {
    type Value = u64;
    const EXPECTED: &'static str = "a number of CPUs such as 2 or 0.5";

    fn text(text: &str) -> Option<u64> {
        parse_cpus(text).filter(|milli| *milli >= 10)
    }

    fn data(value: &Value) -> Option<u64> {
        match value {
            Value::Number(number) => Self::text(&number.to_string()),
            _ => None,
        }
    }

    fn show(value: &u64) -> String {
        format_cpus(*value)
    }
}

/// A kind whose values are single words of text, none where it is not set.
macro_rules! text_kind {
    ($name:ident, $value:ty, $expected:literal, $read:expr, $show:expr) => {
        impl Kind for $name {
            type Value = $value;
            const EXPECTED: &'static str = $expected;

            fn text(text: &str) -> Option<$value> {
                if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
                    None
                } else {
                    $read(text)
                }
            }

            fn data(value: &Value) -> Option<$value> {
                Self::text(value.as_str()?)
            }

            fn show(value: &$value) -> String {
                $show(value)
            }
        }
    };
}

text_kind!(
    Url,
    Option<String>,
    "an address such as \"https://git.example.org\"",
    read_url,
    show_option
);
text_kind!(
    Host,
    Option<String>,
    "a host name such as \"git.example.org\"",
    read_host,
    show_option
);
text_kind!(
    Engine,
    String,
    "an engine's address such as \"unix:///var/run/docker.sock\"",
    read_engine,
    String::clone
);
text_kind!(
    Image,
    String,
    "an image such as \"debian:trixie-slim\"",
    read_image,
    String::clone
);
text_kind!(
    AuthWord,
    Auth,
    "one of :ssh, :proxy and :open",
    |text: &str| Auth::ALL.into_iter().find(|auth| auth.as_str() == text),
    |auth: &Auth| { auth.as_str().to_owned() }
);
text_kind!(
    ExecutorWord,
    Option<ExecutorKind>,
    "one of :docker, :host and :auto",
    read_executor,
    |kind: &Option<ExecutorKind>| { kind.map_or("auto", ExecutorKind::as_str).to_owned() }
);

fn show_option(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn read_url(text: &str) -> Option<Option<String>> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))?;
    let plain = !host.is_empty()
        && !host.starts_with('/')
        && !host.contains(['?', '#', '"', '<', '>', '@']);
    plain.then(|| Some(text.trim_end_matches('/').to_owned()))
}

fn read_host(text: &str) -> Option<Option<String>> {
    let plain = !text.starts_with('-')
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'));
    plain.then(|| Some(text.to_owned()))
}

fn read_engine(text: &str) -> Option<String> {
    let known = ["unix:///", "tcp://", "http://", "https://"]
        .iter()
        .any(|scheme| {
            text.strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        });
    known.then(|| text.to_owned())
}

fn read_image(text: &str) -> Option<String> {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@'));
    plain.then(|| text.to_owned())
}

fn read_executor(text: &str) -> Option<Option<ExecutorKind>> {
    if text == "auto" {
        Some(None)
    } else {
        text.parse().ok().map(Some)
    }
}

impl Kind for Networks {
    type Value = Vec<Network>;
    const EXPECTED: &'static str = "a list of networks such as [\"172.16.0.0/12\"]";

    fn text(text: &str) -> Option<Vec<Network>> {
        text.split(',').map(|part| part.parse().ok()).collect()
    }

    fn data(value: &Value) -> Option<Vec<Network>> {
        match value {
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str()?.parse().ok())
                .collect(),
            // An empty table of Lua may be either.
            Value::Object(fields) if fields.is_empty() => Some(Vec::new()),
            _ => None,
        }
    }

    fn show(value: &Vec<Network>) -> String {
        value
            .iter()
            .map(Network::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}
