//! Why an executor could not do something. The kinds differ in what they mean for a run; the texts
//! are shown to the user as they are.

use std::time::Duration;

use quire_types::error_chain;
use quire_types::names::RepoName;
use quire_types::text::format_bytes;

use crate::engine::DockerError;

#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The engine does not respond; runs wait.
    #[error("the Docker engine cannot be reached: {}", .0.chain())]
    Unavailable(DockerError),
    /// The engine responds, but failed at something that it should be able to do.
    #[error("the Docker engine failed to {attempt}: {}", error.engine_message())]
    EngineFailed {
        attempt: &'static str,
        error: DockerError,
    },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    ContainerDied(#[from] ContainerFailure),
    /// Runs wait.
    #[error(
        "the Docker engine is not a manager of a swarm; make it one with `docker swarm init`, or set `:ci {{:executor :docker}}`"
    )]
    NoSwarmManager,
    #[error(
        "runs on a swarm need `:ci {{:callback …}}`, the address and port at which its nodes reach the appliance"
    )]
    NoCallback,
    /// Nothing is heard from the machine of the run, whose helper ends by itself then.
    #[error("the connection to the node {node} was lost, and the run with it")]
    NodeLost { node: String },
    #[error("the start was cancelled")]
    Cancelled,
    #[error(transparent)]
    Command(#[from] InvalidCommand),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "the service `{service}` was not ready within {} s; the log shows what it wrote last, and `:ready-within` gives it more time",
        within.as_secs_f32()
    )]
    ServiceNotReady { service: String, within: Duration },
    #[error(
        "the cache `{name}` of `{repo}` is in use by a run; try again when the run has finished"
    )]
    CacheInUse { repo: RepoName, name: String },
    /// Anything else.
    #[error("cannot {attempt}: {message}")]
    Failed {
        attempt: &'static str,
        message: String,
    },
}

impl ExecutorError {
    /// The error of a request to the engine, made in order to `attempt` something.
    pub(crate) fn from_engine(attempt: &'static str, error: DockerError) -> Self {
        if matches!(error, DockerError::NoManager) {
            Self::NoSwarmManager
        } else if error.is_unavailable() {
            Self::Unavailable(error)
        } else if error.is_server_error() {
            Self::EngineFailed { attempt, error }
        } else {
            Self::failed(attempt, &error.engine_message())
        }
    }

    pub(crate) fn failed(attempt: &'static str, message: &dyn std::fmt::Display) -> Self {
        Self::Failed {
            attempt,
            message: message.to_string(),
        }
    }

    pub(crate) fn caused_by(attempt: &'static str, error: &dyn std::error::Error) -> Self {
        Self::Failed {
            attempt,
            message: error_chain::chain(error),
        }
    }
}

/// Why a run or a service has no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(
        "the image {name} is not pulled: the registry {registry} is on the machine of the Docker engine or its link, which \
         runs must not reach through the engine; if it is yours, list it in the configuration (`:ci {{:registries [\"{registry}\"]}}`)"
    )]
    LocalRegistry { name: String, registry: String },
    #[error(
        "the image {name} cannot be pulled: {message}; check its name and that the engine reaches the registry"
    )]
    Pull { name: String, message: String },
    #[error("a newer version of the image {name} cannot be looked for: {message}")]
    Look { name: String, message: String },
    #[error("the engine says that it pulled the image {name}, but does not have it; retry the run")]
    MissingAfterPull { name: String },
    #[error("the engine has no image {name} any more: {message}; retry the run")]
    Removed { name: String, message: String },
    #[error(
        "the commit has no {dockerfile} to build an image from; add it, or name an image instead"
    )]
    NoDockerfile { dockerfile: &'static str },
    #[error("the image cannot be built from {dockerfile}: {message}")]
    Build {
        dockerfile: &'static str,
        message: String,
    },
    #[error("the image cannot be built: {dockerfile} cannot be read ({message})")]
    UnreadableDockerfile {
        dockerfile: &'static str,
        message: String,
    },
    #[error(
        "the image cannot be built: {dockerfile} lets the engine download {address}, on the network of its own machine; download \
         it with RUN, or add the file to the repository and use COPY"
    )]
    RemoteSource {
        dockerfile: &'static str,
        address: String,
    },
    #[error(
        "the image cannot be built: {dockerfile} has a command that asks for a network, and the pipeline has none (`ci.network`)"
    )]
    BuildNetwork { dockerfile: &'static str },
    #[error(
        "the image cannot be built: the engine does not have the image {name}, and fetches none for a pipeline without a \
         network (`ci.network`); pull it on the engine's machine"
    )]
    MissingBaseImage { name: String },
    #[error(
        "the image cannot be built: which image {dockerfile} means by `{name}` is not known; write its name out"
    )]
    UnknownBaseImage {
        dockerfile: &'static str,
        name: String,
    },
    #[error(
        "nodes of a swarm pull what is built from .quire/Dockerfile from a registry, and none is configured; set `:ci {{:registry \
         \"registry.lan:5000\"}}`"
    )]
    NoSwarmRegistry,
    #[error("the image cannot be pushed to the registry {registry}: {message}")]
    Push { registry: String, message: String },
    #[error(
        "the password for the registry {registry} cannot be read: {message}; correct `:ci {{:registry …}}`"
    )]
    RegistryPassword { registry: String, message: String },
    #[error(
        "the image {name} is on the engine of the appliance alone, and not on the node {node}; use an image of a registry, or set \
         `:ci {{:registry \"registry.lan:5000\"}}`"
    )]
    NotOnNode { name: String, node: String },
    #[error("the image has no user or group `{missing}`, which its `USER {user}` names")]
    UnknownUser { user: String, missing: String },
    #[error("the service `{service}`: {error}")]
    OfService {
        service: String,
        error: Box<ImageError>,
    },
}

/// What a run can have from a single engine, and not on a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SwarmLimit {
    #[error(
        "a run on a swarm has a network, because quire reaches it through that: remove `ci.network` from the pipeline, or use \
         `:ci {{:executor :docker}}`"
    )]
    NoNetwork,
    #[error(
        "the socket of the Docker engine is not available on a swarm, whose engines are other machines: use `:ci {{:executor :docker}}`"
    )]
    EngineSocket,
    #[error(
        "a swarm has no fully privileged containers: name the capabilities that the pipeline needs (`:privileges`), or use \
         `:ci {{:executor :docker}}`"
    )]
    AllPrivileges,
}

impl ImageError {
    /// The same, as that of a service's image.
    pub(crate) fn of_service(service: &str, error: Self) -> Self {
        Self::OfService {
            service: service.to_owned(),
            error: Box::new(error),
        }
    }
}

/// Why a container ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerFailure {
    #[error(
        "the container ran out of memory, the limit is {}; raise it with `ci.resources`, or use less",
        format_bytes(*limit)
    )]
    OutOfMemory { limit: u64 },
    /// A container that is being removed first looks killed, so both have the same text.
    #[error("the container was stopped or removed from outside of quire; retry the run")]
    EndedFromOutside,
    /// A swarm tells only that its first process was killed, not what killed it.
    #[error(
        "the container was killed on the node {node}, for want of memory or from outside of quire; if the run needs more than its \
         limit of {}, raise it with `ci.resources`, otherwise retry the run",
        format_bytes(*limit)
    )]
    KilledOnNode { node: String, limit: u64 },
    #[error("the container could not run: {message}")]
    CouldNotRun { message: String },
    /// The first process of the container, which is quire's own, ended or broke the protocol.
    #[error("quire's process in the container failed: {message}; retry the run")]
    HelperFailed { message: String },
    #[error("the container ended with exit code {code}")]
    Exited { code: i64 },
    #[error(
        "a command that was cancelled or timed out could not be killed alone, so its container was killed"
    )]
    KilledWithCommand,
    #[error("the service `{service}` cannot start: {message}; check its image and command")]
    ServiceCannotStart { service: String, message: String },
    #[error("the service `{service}` {how} before it was ready; the log shows what it wrote last")]
    ServiceEnded { service: String, how: String },
    #[error(
        "the container of the service `{service}` was removed from outside of quire; retry the run"
    )]
    ServiceRemoved { service: String },
}

/// Why a command cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    #[error("the command is empty")]
    Empty,
    #[error("the command's program is an empty string")]
    EmptyProgram,
    #[error("the argument `{}` of the command contains a NUL byte", printable(.0))]
    NulInArgument(String),
    #[error("`{}` cannot be the name of a variable", printable(.0))]
    InvalidVariable(String),
    #[error("the value of the variable `{0}` contains a NUL byte")]
    NulInVariable(String),
    #[error("the folder `{}` {problem}", printable(path))]
    Workdir { path: String, problem: PathProblem },
    #[error("the workspace has no folder `{0}`")]
    MissingWorkdir(String),
    #[error("the folder `{0}` leads out of the workspace through a symbolic link")]
    WorkdirEscapes(String),
    #[error("the cache `{name}` cannot be at `{}`: {problem}", printable(path))]
    CachePath {
        name: String,
        path: String,
        problem: CachePathProblem,
    },
    #[error(
        "the commit has a file or a link at `{0}`, where a cache is to be; give the cache another path, or remove the file"
    )]
    CacheOverFile(String),
    #[error("services need containers: run this pipeline with the docker executor")]
    ServicesNeedContainers,
    #[error("{0}")]
    OnSwarm(SwarmLimit),
    #[error("the run has no container any more")]
    NoContainer,
}

/// Why a cache cannot be at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CachePathProblem {
    #[error("the path {0}")]
    Path(PathProblem),
    #[error("an absolute path must not contain `..`")]
    ParentInAbsolutePath,
    #[error("it would replace the whole workspace")]
    ReplacesWorkspace,
    #[error("it would replace the root of the file system")]
    ReplacesRoot,
}

/// Why a path of a pipeline cannot be used, as a predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    #[error("contains a NUL byte")]
    NulByte,
    #[error("lies outside of the workspace")]
    Outside,
    #[error("is absolute; write it relative to the workspace")]
    Absolute,
}

/// A file of the workspace that cannot be read, written or exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    pub path: String,
    pub problem: FileProblem,
}

/// Why a file of the workspace cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileProblem {
    Path(PathProblem),
    Missing,
    /// A symbolic link on its way leads out of the workspace.
    Escapes,
    /// It is a folder, and a file is expected.
    Directory,
    /// A pipe, a socket or a device.
    Special,
    /// A part of its path is a file.
    NotADirectory,
    /// It is larger than `limit` bytes.
    TooLarge {
        limit: u64,
    },
    /// The user of the commands may not use it.
    PermissionDenied,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = printable(&self.path);
        match self.problem {
            FileProblem::Path(problem) => write!(f, "`{path}` {problem}"),
            FileProblem::Missing => write!(f, "the workspace has no `{path}`"),
            FileProblem::Escapes => write!(
                f,
                "`{path}` leads out of the workspace through a symbolic link"
            ),
            FileProblem::Directory => write!(f, "`{path}` is a folder"),
            FileProblem::Special => write!(f, "`{path}` is neither a file nor a folder"),
            FileProblem::NotADirectory => write!(f, "a part of the path `{path}` is not a folder"),
            FileProblem::TooLarge { limit } => write!(
                f,
                "`{path}` is larger than {} MiB, the limit for reading a file at once",
                limit >> 20
            ),
            FileProblem::PermissionDenied => write!(f, "permission to use `{path}` was denied"),
        }
    }
}

impl std::error::Error for FileError {}

fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<E: std::fmt::Display>(errors: impl IntoIterator<Item = E>) -> String {
        let texts: Vec<String> = errors.into_iter().map(|error| error.to_string()).collect();
        texts.join("\n")
    }

    #[test]
    fn messages_of_executor_errors() {
        let engine_error = || DockerError::Failed {
            attempt: "create the container",
            status: 500,
            message: "why".into(),
        };
        let errors = [
            ExecutorError::Unavailable(DockerError::ConnectionRefused {
                path: "/run/d.sock".into(),
            }),
            ExecutorError::EngineFailed {
                attempt: "start the container",
                error: engine_error(),
            },
            ExecutorError::Cancelled,
            ExecutorError::ServiceNotReady {
                service: "db".into(),
                within: Duration::from_secs(60),
            },
            ExecutorError::CacheInUse {
                repo: "app".parse().unwrap(),
                name: "target".into(),
            },
            ExecutorError::Failed {
                attempt: "remove the container",
                message: "why".into(),
            },
        ];
        insta::assert_snapshot!(texts(errors), @r#"
        the Docker engine cannot be reached: no process listens at the socket /run/d.sock; check that the Docker engine runs
        the Docker engine failed to start the container: why
        the start was cancelled
        the service `db` was not ready within 60 s; the log shows what it wrote last, and `:ready-within` gives it more time
        the cache `target` of `app` is in use by a run; try again when the run has finished
        cannot remove the container: why
        "#);
    }

    #[test]
    fn messages_of_image_errors() {
        let dockerfile = ".quire/Dockerfile";
        let message = || "why".to_owned();
        let pull = || ImageError::Pull {
            name: "a:1".into(),
            message: message(),
        };
        let errors = [
            ImageError::LocalRegistry {
                name: "localhost:1/a".into(),
                registry: "localhost:1".into(),
            },
            pull(),
            ImageError::Look {
                name: "a:1".into(),
                message: "unauthorized".into(),
            },
            ImageError::MissingAfterPull { name: "a:1".into() },
            ImageError::Removed {
                name: "a:1".into(),
                message: message(),
            },
            ImageError::NoDockerfile { dockerfile },
            ImageError::Build {
                dockerfile,
                message: message(),
            },
            ImageError::UnreadableDockerfile {
                dockerfile,
                message: message(),
            },
            ImageError::RemoteSource {
                dockerfile,
                address: "http://h/f".into(),
            },
            ImageError::BuildNetwork { dockerfile },
            ImageError::MissingBaseImage { name: "a:1".into() },
            ImageError::UnknownBaseImage {
                dockerfile,
                name: "${A#b}".into(),
            },
            ImageError::UnknownUser {
                user: "person:staff".into(),
                missing: "staff".into(),
            },
            ImageError::OfService {
                service: "db".into(),
                error: Box::new(pull()),
            },
        ];
        insta::assert_snapshot!(texts(errors), @r#"
        the image localhost:1/a is not pulled: the registry localhost:1 is on the machine of the Docker engine or its link, which runs must not reach through the engine; if it is yours, list it in the configuration (`:ci {:registries ["localhost:1"]}`)
        the image a:1 cannot be pulled: why; check its name and that the engine reaches the registry
        a newer version of the image a:1 cannot be looked for: unauthorized
        the engine says that it pulled the image a:1, but does not have it; retry the run
        the engine has no image a:1 any more: why; retry the run
        the commit has no .quire/Dockerfile to build an image from; add it, or name an image instead
        the image cannot be built from .quire/Dockerfile: why
        the image cannot be built: .quire/Dockerfile cannot be read (why)
        the image cannot be built: .quire/Dockerfile lets the engine download http://h/f, on the network of its own machine; download it with RUN, or add the file to the repository and use COPY
        the image cannot be built: .quire/Dockerfile has a command that asks for a network, and the pipeline has none (`ci.network`)
        the image cannot be built: the engine does not have the image a:1, and fetches none for a pipeline without a network (`ci.network`); pull it on the engine's machine
        the image cannot be built: which image .quire/Dockerfile means by `${A#b}` is not known; write its name out
        the image has no user or group `staff`, which its `USER person:staff` names
        the service `db`: the image a:1 cannot be pulled: why; check its name and that the engine reaches the registry
        "#);
    }

    #[test]
    fn messages_of_container_failures() {
        let service = || "db".to_owned();
        let errors = [
            ContainerFailure::OutOfMemory { limit: 64 << 20 },
            ContainerFailure::EndedFromOutside,
            ContainerFailure::KilledOnNode {
                node: "worker".into(),
                limit: 64 << 20,
            },
            ContainerFailure::CouldNotRun {
                message: "why".into(),
            },
            ContainerFailure::HelperFailed {
                message: "why".into(),
            },
            ContainerFailure::Exited { code: 3 },
            ContainerFailure::KilledWithCommand,
            ContainerFailure::ServiceCannotStart {
                service: service(),
                message: "why".into(),
            },
            ContainerFailure::ServiceEnded {
                service: service(),
                how: "ended with exit code 7".into(),
            },
            ContainerFailure::ServiceRemoved { service: service() },
        ];
        insta::assert_snapshot!(texts(errors), @r#"
        the container ran out of memory, the limit is 64 MiB; raise it with `ci.resources`, or use less
        the container was stopped or removed from outside of quire; retry the run
        the container was killed on the node worker, for want of memory or from outside of quire; if the run needs more than its limit of 64 MiB, raise it with `ci.resources`, otherwise retry the run
        the container could not run: why
        quire's process in the container failed: why; retry the run
        the container ended with exit code 3
        a command that was cancelled or timed out could not be killed alone, so its container was killed
        the service `db` cannot start: why; check its image and command
        the service `db` ended with exit code 7 before it was ready; the log shows what it wrote last
        the container of the service `db` was removed from outside of quire; retry the run
        "#);
    }

    #[test]
    fn messages_of_command_errors() {
        let path = || "a/../..".to_owned();
        let cache = |problem| InvalidCommand::CachePath {
            name: "deps".into(),
            path: path(),
            problem,
        };
        let errors = [
            InvalidCommand::Empty,
            InvalidCommand::EmptyProgram,
            InvalidCommand::NulInArgument("b\0c".into()),
            InvalidCommand::InvalidVariable("A\0".into()),
            InvalidCommand::NulInVariable("A".into()),
            InvalidCommand::Workdir {
                path: path(),
                problem: PathProblem::NulByte,
            },
            InvalidCommand::Workdir {
                path: path(),
                problem: PathProblem::Outside,
            },
            InvalidCommand::Workdir {
                path: path(),
                problem: PathProblem::Absolute,
            },
            InvalidCommand::MissingWorkdir("a".into()),
            InvalidCommand::WorkdirEscapes("a".into()),
            cache(CachePathProblem::Path(PathProblem::Outside)),
            cache(CachePathProblem::ParentInAbsolutePath),
            cache(CachePathProblem::ReplacesWorkspace),
            cache(CachePathProblem::ReplacesRoot),
            InvalidCommand::ServicesNeedContainers,
            InvalidCommand::NoContainer,
        ];
        insta::assert_snapshot!(texts(errors), @r#"
        the command is empty
        the command's program is an empty string
        the argument `b�c` of the command contains a NUL byte
        `A�` cannot be the name of a variable
        the value of the variable `A` contains a NUL byte
        the folder `a/../..` contains a NUL byte
        the folder `a/../..` lies outside of the workspace
        the folder `a/../..` is absolute; write it relative to the workspace
        the workspace has no folder `a`
        the folder `a` leads out of the workspace through a symbolic link
        the cache `deps` cannot be at `a/../..`: the path lies outside of the workspace
        the cache `deps` cannot be at `a/../..`: an absolute path must not contain `..`
        the cache `deps` cannot be at `a/../..`: it would replace the whole workspace
        the cache `deps` cannot be at `a/../..`: it would replace the root of the file system
        services need containers: run this pipeline with the docker executor
        the run has no container any more
        "#);
    }

    #[test]
    fn messages_of_file_errors() {
        let problems = [
            FileProblem::Path(PathProblem::Absolute),
            FileProblem::Missing,
            FileProblem::Escapes,
            FileProblem::Directory,
            FileProblem::Special,
            FileProblem::NotADirectory,
            FileProblem::TooLarge { limit: 4 << 20 },
            FileProblem::PermissionDenied,
        ];
        let errors = problems.map(|problem| FileError {
            path: "a/b".into(),
            problem,
        });
        insta::assert_snapshot!(texts(errors), @r#"
        `a/b` is absolute; write it relative to the workspace
        the workspace has no `a/b`
        `a/b` leads out of the workspace through a symbolic link
        `a/b` is a folder
        `a/b` is neither a file nor a folder
        a part of the path `a/b` is not a folder
        `a/b` is larger than 4 MiB, the limit for reading a file at once
        permission to use `a/b` was denied
        "#);
    }
}
