//! Commands of a person in a run's container, beside those of its jobs.
//!
//! While the run is active, its own helper executes them. The helper of a container that is kept has
//! lost its connection when quire was restarted; so in such a container the engine starts a second
//! helper for each command, which ends with its connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::RunId;

use super::context::{DockerContext, USER_LABEL, WORKSPACE_DIR, container_name, label};
use super::helper_streams::helper_streams;
use super::helper_volume::HelperVolume;
use super::image::command_env;
use super::place::DockerPlace;
use super::warm_container::WarmContainers;
use crate::api::{Attach, AttachedCommand, Terminal, Workspace};
use crate::engine::ExecSpec;
use crate::error::{ExecutorError, InvalidCommand};
use crate::link::{HelperLink, HelperSession, LinkWorkspace, WorkspaceStart};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct DockerAttach {
    context: DockerContext,
    warm: WarmContainers,
    /// The runs of this process.
    sessions: Arc<Mutex<HashMap<RunId, Weak<HelperSession>>>>,
}

impl DockerAttach {
    pub(super) fn new(context: DockerContext, warm: WarmContainers) -> Self {
        Self {
            context,
            warm,
            sessions: Arc::default(),
        }
    }

    /// Enters the workspace of a run, for as long as it exists.
    pub(super) fn enter(&self, run: RunId, session: &Arc<HelperSession>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.strong_count() > 0);
        sessions.insert(run, Arc::downgrade(session));
    }

    fn session(&self, run: RunId) -> Option<Arc<HelperSession>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&run)?.upgrade()
    }

    async fn start_command(
        &self,
        run: RunId,
        argv: Vec<String>,
        terminal: Option<Terminal>,
    ) -> Result<AttachedCommand, ExecutorError> {
        let session = self.helper(run).await?;
        session.attach(argv, terminal).await
    }

    /// The helper of a run.
    async fn helper(&self, run: RunId) -> Result<Arc<HelperSession>, ExecutorError> {
        match self.session(run) {
            Some(session) => Ok(session),
            None => self.start_helper(run).await,
        }
    }

    /// Starts a second helper in the container of a run.
    async fn start_helper(&self, run: RunId) -> Result<Arc<HelperSession>, ExecutorError> {
        let start_error = |error| ExecutorError::from_engine("start the command", error);
        let engine = &self.context.engine;
        let container = container_name(run);
        if !self.context.is_container_of(&container, run).await {
            return Err(InvalidCommand::NoContainer.into());
        }
        let state = engine.container(&container).await.map_err(start_error)?;
        let labels = state.unwrap_or_default().labels;
        let image = engine
            .image_of_container(&container)
            .await
            .map_err(start_error)?
            .ok_or(InvalidCommand::NoContainer)?;
        let spec = ExecSpec {
            argv: vec![HelperVolume::program()],
            workdir: Some("/".to_owned()),
            stdin: true,
            user: Some("0:0".to_owned()),
        };
        let exec = engine
            .create_exec(&container, &spec)
            .await
            .map_err(start_error)?;
        let streams = engine.start_exec(&exec).await.map_err(start_error)?;
        let place = Arc::new(DockerPlace {
            context: self.context.clone(),
            run,
            container: container.clone(),
            memory: 0,
            services: None,
            _leases: Vec::new(),
            warm: self.warm.clone(),
        });
        let idle = engine.timeouts().stream_idle;
        let connection = HelperLink::new(helper_streams(streams, &container), place.clone(), idle);
        let user = match label(&labels, USER_LABEL) {
            Some(user) => user.to_owned(),
            None => image.user.clone(),
        };
        let session = WorkspaceStart {
            place,
            connection,
            folder: WORKSPACE_DIR.to_owned(),
            env: command_env(&image, &[]),
            user,
            groups: Vec::new(),
            caches: Vec::new(),
        };
        Ok(Arc::new(session.start(None).await?))
    }
}

impl Attach for DockerAttach {
    fn start_command(
        &self,
        run: RunId,
        argv: Vec<String>,
        terminal: Option<Terminal>,
    ) -> BoxFuture<'_, Result<AttachedCommand, ExecutorError>> {
        self.start_command(run, argv, terminal).boxed()
    }
    fn workspace(&self, run: RunId) -> BoxFuture<'_, Result<Arc<dyn Workspace>, ExecutorError>> {
        let helper = self.helper(run);
        async {
            let workspace = LinkWorkspace::new(helper.await?);
            Ok(Arc::new(workspace) as Arc<dyn Workspace>)
        }
        .boxed()
    }
}
