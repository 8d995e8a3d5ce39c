//! From which registries the engine may fetch images: it does so on the network of its own machine, where a pipeline
//! must not reach what only that machine reaches. So an image of a registry on that machine or its link is refused unless the owner
//! lists the registry.

use quire_types::image_reference::ImageReference;

use crate::error::ImageError;

/// Fails if the engine would fetch an image from its own machine or its link, unless the owner
/// lists that registry.
pub(super) fn check_registry(
    reference: &ImageReference,
    registries: &[String],
) -> Result<(), ImageError> {
    let Some(registry) = reference
        .registry()
        .filter(|_| reference.has_local_registry())
    else {
        return Ok(());
    };
    if registries
        .iter()
        .any(|listed| is_of_registry(registry, listed))
    {
        return Ok(());
    }
    Err(ImageError::LocalRegistry {
        name: reference.to_string(),
        registry: registry.to_owned(),
    })
}

/// Whether a registry is the listed one; a listed host without a port stands for all of its ports.
fn is_of_registry(registry: &str, listed: &str) -> bool {
    let (host, port) = registry.rsplit_once(':').unwrap_or((registry, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    registry.eq_ignore_ascii_case(listed) || (is_port && host.eq_ignore_ascii_case(listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_registry_is_used_only_if_it_is_listed() {
        let check = |name: &str, listed: &[&str]| {
            let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
            check_registry(&name.parse().unwrap(), &listed).is_ok()
        };
        for name in ["127.0.0.1:5000/x", "localhost/x", "[::1]:5000/x"] {
            assert!(!check(name, &[]), "{name}");
        }
        for name in ["debian:13", "registry.example.org:5000/x"] {
            assert!(check(name, &[]), "{name}");
        }
        assert!(check("127.0.0.1:5000/x", &["127.0.0.1:5000"]));
        assert!(check("127.0.0.1:5000/x", &["127.0.0.1"]));
        assert!(!check("127.0.0.1:5000/x", &["127.0.0.1:5001"]));
    }
}
