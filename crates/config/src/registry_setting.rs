//! Reads `ci.registry`.

use serde_json::Value;

use super::mirror_reader::read_user;
use super::registry::RegistryConfig;
use super::secrets::SecretSource;
use super::setting_types::SettingType;
use quire_types::image_reference::ImageReference;

pub(super) struct RegistrySetting;

impl SettingType for RegistrySetting {
    type Value = Option<RegistryConfig>;
    const EXPECTED: &'static str = "the address of a registry such as \"registry.lan:5000\", or {:address \"registry.lan:5000\" :user \"ci\" :password \
         {:file \"/path\"}} (or {:env \"NAME\"}; where the password is, never the password itself)";

    fn text(text: &str) -> Option<Self::Value> {
        let address = read_address(text)?;
        Some(Some(RegistryConfig {
            address,
            login: None,
        }))
    }

    fn data(value: &Value) -> Option<Self::Value> {
        let Some(fields) = value.as_object() else {
            return Self::text(value.as_str()?);
        };
        let field = |name: &str| fields.get(name);
        let (Some(address), Some(user), Some(password), 3) = (
            field("address"),
            field("user"),
            field("password"),
            fields.len(),
        ) else {
            return None;
        };
        Some(Some(RegistryConfig {
            address: read_address(address.as_str()?)?,
            login: Some((read_user(user)?, SecretSource::from_data(password)?)),
        }))
    }

    fn show(value: &Self::Value) -> String {
        let Some(RegistryConfig { address, login }) = value else {
            return String::new();
        };
        match login {
            None => address.clone(),
            Some((user, password)) => {
                format!("{address}, user {user}, password {password}")
            }
        }
    }
}

/// A host, with a port and a path if it has them, in front of the names of images.
fn read_address(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    let image: ImageReference = format!("{text}/image").parse().ok()?;
    image.registry().map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_registry_has_a_user_and_a_password_or_neither() {
        let read =
            |value: Value| RegistrySetting::data(&value).map(|read| RegistrySetting::show(&read));
        let shown = |value: Value| read(value).unwrap_or_else(|| "invalid".to_owned());
        assert_eq!(
            shown(json!("registry.lan:5000/ci/")),
            "registry.lan:5000/ci"
        );
        assert_eq!(
            shown(
                json!({"address": "registry.lan", "user": "ci", "password": {"file": "/run/secrets/r"}})
            ),
            "registry.lan, user ci, password file /run/secrets/r"
        );
        for wrong in [
            json!("images"),
            json!({"address": "registry.lan"}),
            json!({"address": "registry.lan", "user": "ci"}),
            json!({"address": "registry.lan", "user": "ci", "password": "plain"}),
            json!({"address": "registry.lan", "user": "c:i", "password": {"env": "P"}}),
            json!({"address": "registry.lan", "user": "ci", "password": {"env": "P"}, "port": 1}),
        ] {
            assert_eq!(shown(wrong.clone()), "invalid", "{wrong}");
        }
    }
}
