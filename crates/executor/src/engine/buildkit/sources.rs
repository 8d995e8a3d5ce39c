//! What a build fetches, and which commands have a network, as BuildKit itself understands the Dockerfile: read from the
//! operations that its frontend made of it.

use prost::Message as _;

use super::messages::definition::{Definition, NETWORK_NONE, Op};

/// The scheme of an image among the sources of a build.
pub(super) const IMAGE_SCHEME: &str = "docker-image://";

/// What a build reads beside its own folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSources {
    /// Names of images, with the registry.
    pub images: Vec<String>,
    /// Addresses of everything else.
    pub addresses: Vec<String>,
    /// Whether a command has a network.
    pub network: bool,
}

impl BuildSources {
    /// Reads the operations of a build; `None` if they hold something that quire does not know.
    pub(super) fn read(definitions: &[&Definition]) -> Option<Self> {
        let mut sources = Self::default();
        let operations = definitions
            .iter()
            .flat_map(|definition| &definition.operations);
        for bytes in operations {
            let operation = Op::decode(bytes.as_slice()).ok()?;
            if operation.build.is_some() {
                return None;
            }
            sources.network |= operation
                .exec
                .is_some_and(|exec| exec.network != NETWORK_NONE);
            let Some(source) = operation.source else {
                continue;
            };
            let identifier = source.identifier;
            if let Some(image) = identifier.strip_prefix(IMAGE_SCHEME) {
                sources.images.push(image.to_owned());
            } else if !identifier.starts_with("local://") {
                sources.addresses.push(identifier);
            }
        }
        for list in [&mut sources.images, &mut sources.addresses] {
            list.sort();
            list.dedup();
        }
        Some(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Empty;
    use super::super::messages::definition::{ExecOp, SourceOp};
    use super::*;

    #[test]
    fn sources_and_networks_are_found() {
        let source = |identifier: &str| Op {
            source: Some(SourceOp {
                identifier: identifier.to_owned(),
            }),
            ..Op::default()
        };
        let exec = |network| Op {
            exec: Some(ExecOp { network }),
            ..Op::default()
        };
        let definition = |operations: &[Op]| Definition {
            operations: operations.iter().map(Op::encode_to_vec).collect(),
        };
        let read = |operations: &[Op]| BuildSources::read(&[&definition(operations)]);
        let found = read(&[
            source("docker-image://docker.io/library/debian:13"),
            source("docker-image://docker.io/library/debian:13"),
            source("local://context"),
            source("https://example.org/x"),
            source("git://example.org/y"),
            exec(NETWORK_NONE),
        ]);
        let expected = BuildSources {
            images: vec!["docker.io/library/debian:13".into()],
            addresses: vec!["git://example.org/y".into(), "https://example.org/x".into()],
            network: false,
        };
        assert_eq!(found, Some(expected));
        assert!(read(&[exec(0)]).is_some_and(|sources| sources.network));
        let nested = Op {
            build: Some(Empty {}),
            ..Op::default()
        };
        assert_eq!(read(&[nested]), None);
    }
}
