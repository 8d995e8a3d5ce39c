//! The volume with quire's helper: one for each version of the helper on an engine, shared by all
//! appliances there, and mounted read-only into the containers of runs.
//!
//! The volume is filled by an archive into a container that is never started. An image may have a
//! file at the same path, so no mount of this volume lets the engine fill it from the image; and
//! what is in it is compared with the helper once in the life of this process, so that neither a
//! crash within an upload nor another program on the engine makes runs use something else.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quire_step_program::PROGRAM;
use quire_types::token::hex;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::cleanup::CleanupGuard;
use super::context::{DockerContext, container_name};
use crate::api::StartSpec;
use crate::engine::{ContainerSpec, DockerError, Labels, VolumeMount, VolumeSource};
use crate::error::ExecutorError;

/// Where containers have the helper.
const HELPER_DIR: &str = "/.quire";
const HELPER_NAME: &str = "step";

/// The label of such a volume, with the digest of the helper.
pub(super) const HELPER_LABEL: &str = "io.quire.helper";

const PREPARE: &str = "put quire's helper onto the engine";

/// The archive of a file is little larger than the file.
const ARCHIVE_OVERHEAD: usize = 64 << 10;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct HelperVolume {
    context: DockerContext,
    /// Whether the volume is known to hold the helper. Locked while it is looked at or filled.
    is_filled: Arc<Mutex<bool>>,
}

impl HelperVolume {
    pub(super) fn new(context: DockerContext) -> Self {
        Self {
            context,
            is_filled: Arc::default(),
        }
    }

    /// The path of the helper in containers.
    pub(super) fn program() -> String {
        format!("{HELPER_DIR}/{HELPER_NAME}")
    }

    /// The mount of the volume in the containers of runs.
    pub(super) fn mount() -> VolumeMount {
        VolumeMount {
            source: VolumeSource::ReadOnly(volume_name()),
            target: HELPER_DIR.to_owned(),
        }
    }

    /// Makes sure that the volume holds the helper, by means of a container of the run's image.
    pub(super) async fn ensure(&self, spec: &StartSpec, image: &str) -> Result<(), ExecutorError> {
        let mut is_filled = self.is_filled.lock().await;
        if !*is_filled {
            self.fill(spec, image).await?;
            *is_filled = true;
        }
        Ok(())
    }

    /// The engine has no helper at its path any more: another engine, or a volume that was removed.
    pub(super) async fn forget(&self) {
        *self.is_filled.lock().await = false;
    }

    /// Whether the engine rejected a start because the helper is missing.
    pub(super) fn is_missing(error: &DockerError) -> bool {
        !error.is_unavailable() && error.engine_message().contains(&Self::program())
    }

    async fn fill(&self, spec: &StartSpec, image: &str) -> Result<(), ExecutorError> {
        let engine = &self.context.engine;
        let prepare_error = |error| ExecutorError::from_engine(PREPARE, error);
        let labels = vec![(HELPER_LABEL.to_owned(), digest())];
        engine
            .ensure_volume(&volume_name(), &labels)
            .await
            .map_err(prepare_error)?;
        let carrier = ContainerSpec {
            name: container_name(spec.run),
            image: image.to_owned(),
            entrypoint: vec![Self::program()],
            labels: self.context.spec_labels(spec),
            volumes: vec![VolumeMount {
                source: VolumeSource::Unfilled(volume_name()),
                target: HELPER_DIR.to_owned(),
            }],
            is_helper: true,
            ..Default::default()
        };
        let carrier = self
            .create_carrier(spec, &carrier)
            .await
            .map_err(prepare_error)?;
        let guard = CleanupGuard::of_container(&self.context, carrier.clone());
        let filled = self.upload(&carrier).await;
        guard.clean_up().await;
        filled?;
        self.remove_other_versions(&labels).await;
        Ok(())
    }

    async fn create_carrier(
        &self,
        spec: &StartSpec,
        carrier: &ContainerSpec,
    ) -> Result<String, DockerError> {
        let engine = &self.context.engine;
        match engine.create_container(carrier).await {
            // An earlier attempt at the same run has left it.
            Err(DockerError::Conflict { .. })
                if self.context.is_container_of(&carrier.name, spec.run).await =>
            {
                engine.remove_container(&carrier.name).await?;
                engine.create_container(carrier).await
            }
            created => created,
        }
    }

    async fn upload(&self, carrier: &str) -> Result<(), ExecutorError> {
        let prepare_error = |error| ExecutorError::from_engine(PREPARE, error);
        let engine = &self.context.engine;
        if self.is_complete(carrier).await.map_err(prepare_error)? {
            return Ok(());
        }
        let archive =
            helper_archive().map_err(|error| ExecutorError::caused_by(PREPARE, &error))?;
        let archive = stream::iter([Ok(Bytes::from(archive))]).boxed();
        engine
            .upload(carrier, HELPER_DIR, archive)
            .await
            .map_err(prepare_error)
    }

    /// Whether the volume in a container holds exactly this helper.
    async fn is_complete(&self, carrier: &str) -> Result<bool, DockerError> {
        let path = Self::program();
        let mut archive = self.context.engine.download(carrier, &path).await?;
        let mut bytes = Vec::new();
        // A file that is missing ends the stream at once with an error.
        while let Some(Ok(chunk)) = archive.next().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > PROGRAM.len() + ARCHIVE_OVERHEAD {
                return Ok(false);
            }
        }
        Ok(holds_helper(&bytes).unwrap_or(false))
    }

    /// Removes the volumes of other versions that no container uses.
    async fn remove_other_versions(&self, own: &Labels) {
        let any = vec![(HELPER_LABEL.to_owned(), String::new())];
        let Ok(volumes) = self.context.engine.volumes(&any).await else {
            return;
        };
        for volume in volumes.into_iter().filter(|volume| volume.labels != *own) {
            // One that is in use stays until the next start of quire.
            let _ = self.context.engine.remove_volume(&volume.name).await;
        }
    }
}

pub(super) fn digest() -> String {
    hex(&Sha256::digest(PROGRAM))
}

fn volume_name() -> String {
    format!("quire-helper-{}", &digest()[..32])
}

fn helper_archive() -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o555);
    header.set_size(PROGRAM.len() as u64);
    archive.append_data(&mut header, HELPER_NAME, PROGRAM)?;
    archive.into_inner()
}

/// Whether the only file of an archive is the helper.
fn holds_helper(archive: &[u8]) -> std::io::Result<bool> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else {
        return Ok(false);
    };
    let mut entry = entry?;
    let header = entry.header();
    if !header.entry_type().is_file() || header.mode()? & 0o777 != 0o555 {
        return Ok(false);
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    Ok(content == PROGRAM)
}
