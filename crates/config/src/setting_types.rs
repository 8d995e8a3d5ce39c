//! The types of settings: how a value is parsed from data and from text, how it is formatted, and
//! what a message says is expected.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::run_grant::RunGrant;
use super::sections::{Auth, StrangerAccess};
use super::setting_addresses::{read_engine, read_host, read_url};
use quire_pipeline::{
    format_cpus, format_duration, format_size, parse_cpus, parse_duration, parse_size,
};
use quire_types::callback_address::CallbackAddress;
use quire_types::image_reference::{ImageReference, is_registry};
use quire_types::landing::LandingMethod;
use quire_types::network::Network;
use quire_types::pull_policy::PullPolicy;
use quire_types::run::ExecutorName;

/// The type of a setting.
pub(super) trait SettingType {
    type Value;
    /// The expected value, for messages, such as "a port number from 1 to 65535".
    const EXPECTED: &'static str;

    /// Parses the text of an environment variable.
    fn text(text: &str) -> Option<Self::Value>;
    /// Parses a value of a configuration file.
    fn data(value: &Value) -> Option<Self::Value>;
    /// Formats a value so that [`SettingType::text`] returns it.
    fn show(value: &Self::Value) -> String;
}

pub(super) struct Port;
pub(super) struct Count;
pub(super) struct Positive;
pub(super) struct Flag;
pub(super) struct Size;
pub(super) struct MemorySize;
pub(super) struct Time;
pub(super) struct TimeOrZero;
pub(super) struct Cpus;
pub(super) struct Url;
pub(super) struct Host;
pub(super) struct EngineUrl;
pub(super) struct Image;
pub(super) struct Networks;
pub(super) struct Grants;
pub(super) struct Registries;
pub(super) struct AuthMode;
pub(super) struct StrangersSetting;
pub(super) struct Pull;
pub(super) struct Land;
pub(super) struct CallbackSetting;
pub(super) struct ExecutorSetting;
pub(super) struct FolderPath;

impl SettingType for Port {
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

impl SettingType for Count {
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

impl SettingType for Positive {
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

impl SettingType for Flag {
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

impl SettingType for FolderPath {
    type Value = Option<PathBuf>;
    const EXPECTED: &'static str = "an absolute path, such as \"/backups\"";

    fn text(text: &str) -> Option<Option<PathBuf>> {
        let path = PathBuf::from(text);
        path.is_absolute().then_some(Some(path))
    }

    fn data(value: &Value) -> Option<Option<PathBuf>> {
        Self::text(value.as_str()?)
    }

    fn show(value: &Option<PathBuf>) -> String {
        value
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }
}

impl SettingType for Size {
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

/// Docker's minimum for the memory of a container, in bytes.
const MIN_MEMORY: u64 = 6 << 20;

impl SettingType for MemorySize {
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

impl SettingType for Time {
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

impl SettingType for TimeOrZero {
    type Value = Duration;
    const EXPECTED: &'static str = "a duration such as \"7d\" or \"12h\", or 0";

    fn text(text: &str) -> Option<Duration> {
        match text {
            "0" => Some(Duration::ZERO),
            text => Time::text(text),
        }
    }

    fn data(value: &Value) -> Option<Duration> {
        match value.as_u64() {
            Some(0) => Some(Duration::ZERO),
            _ => Self::text(value.as_str()?),
        }
    }

    fn show(value: &Duration) -> String {
        match value.is_zero() {
            true => "0".to_owned(),
            false => Time::show(value),
        }
    }
}

impl SettingType for Cpus {
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

/// A type whose values are written as one word.
macro_rules! word_type {
    ($name:ident, $value:ty, $expected:literal, $read:expr, $show:expr) => {
        impl SettingType for $name {
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

word_type!(
    Url,
    Option<String>,
    "an address without a path, such as \"https://git.example.org\"",
    read_url,
    show_option
);
word_type!(
    Host,
    Option<String>,
    "a host name or an IP address, without a port, such as \"git.example.org\"",
    read_host,
    show_option
);
word_type!(
    EngineUrl,
    String,
    "the address of an engine's socket such as \"unix:///var/run/docker.sock\"",
    read_engine,
    String::clone
);
word_type!(
    CallbackSetting,
    Option<CallbackAddress>,
    "a host and a port, such as \"forge.lan:7474\"",
    |text: &str| text.parse().ok().map(Some),
    |address: &Option<CallbackAddress>| {
        let address = address.as_ref();
        address.map(ToString::to_string).unwrap_or_default()
    }
);
word_type!(
    Image,
    ImageReference,
    "an image such as \"debian:trixie-slim\"",
    |text: &str| text.parse().ok(),
    ToString::to_string
);
word_type!(
    AuthMode,
    Auth,
    "one of :ssh, :proxy and :open",
    |text: &str| Auth::ALL.into_iter().find(|auth| auth.as_str() == text),
    |auth: &Auth| { auth.as_str().to_owned() }
);
word_type!(
    StrangersSetting,
    StrangerAccess,
    "one of :tip, :all and :signed-in",
    |text: &str| StrangerAccess::ALL
        .into_iter()
        .find(|access| access.as_str() == text),
    |access: &StrangerAccess| { access.as_str().to_owned() }
);
word_type!(
    Pull,
    PullPolicy,
    "one of :missing, :daily and :always",
    |text: &str| PullPolicy::ALL
        .into_iter()
        .find(|policy| policy.as_str() == text),
    |policy: &PullPolicy| { policy.as_str().to_owned() }
);
word_type!(
    Land,
    LandingMethod,
    "one of :ff, :rebase and :merge",
    |text: &str| text.parse().ok(),
    |method: &LandingMethod| { method.as_str().to_owned() }
);
word_type!(
    ExecutorSetting,
    Option<ExecutorName>,
    "one of :docker, :host, :swarm and :auto",
    read_executor,
    |name: &Option<ExecutorName>| {
        let name = name.as_ref();
        name.map_or("auto", ExecutorName::as_str).to_owned()
    }
);

fn show_option(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn read_executor(text: &str) -> Option<Option<ExecutorName>> {
    if text == "auto" {
        return Some(None);
    }
    // The executors that `serve` can start.
    [
        ExecutorName::DOCKER,
        ExecutorName::HOST,
        ExecutorName::SWARM,
    ]
    .into_iter()
    .find(|name| name.as_str() == text)
    .map(Some)
}

impl SettingType for Grants {
    type Value = Vec<RunGrant>;
    const EXPECTED: &'static str = "a list of repositories, each with a ref if only runs of that are meant, such as [\"app@refs/heads/main\"]";

    fn text(text: &str) -> Option<Vec<RunGrant>> {
        text.split(',').map(RunGrant::parse).collect()
    }

    fn data(value: &Value) -> Option<Vec<RunGrant>> {
        match value {
            Value::Array(items) => items
                .iter()
                .map(|item| RunGrant::parse(item.as_str()?))
                .collect(),
            Value::Object(fields) if fields.is_empty() => Some(Vec::new()),
            _ => None,
        }
    }

    fn show(value: &Vec<RunGrant>) -> String {
        value
            .iter()
            .map(RunGrant::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl SettingType for Networks {
    type Value = Vec<Network>;
    const EXPECTED: &'static str = "a list of networks such as [\"172.16.0.0/12\"]";

    fn text(text: &str) -> Option<Vec<Network>> {
        list_of_text(text, |part| part.parse().ok())
    }

    fn data(value: &Value) -> Option<Vec<Network>> {
        list_of_data(value, |part| part.parse().ok())
    }

    fn show(value: &Vec<Network>) -> String {
        let networks: Vec<String> = value.iter().map(Network::to_string).collect();
        networks.join(",")
    }
}

impl SettingType for Registries {
    type Value = Vec<String>;
    const EXPECTED: &'static str = "a list of registries such as [\"127.0.0.1:5000\"]";

    fn text(text: &str) -> Option<Vec<String>> {
        list_of_text(text, read_registry)
    }

    fn data(value: &Value) -> Option<Vec<String>> {
        list_of_data(value, read_registry)
    }

    fn show(value: &Vec<String>) -> String {
        value.join(",")
    }
}

fn read_registry(text: &str) -> Option<String> {
    let text = text.trim();
    is_registry(text).then(|| text.to_owned())
}

/// Parses items with commas between them; none if the text is empty.
fn list_of_text<T>(text: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',').map(item).collect()
}

fn list_of_data<T>(value: &Value, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    match value {
        Value::Array(items) => items.iter().map(|text| item(text.as_str()?)).collect(),
        // Lua's empty table may have become an empty object.
        Value::Object(fields) if fields.is_empty() => Some(Vec::new()),
        _ => None,
    }
}
