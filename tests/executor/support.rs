//! A started executor per test, that leaves nothing behind even where the test panics.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quire_executor::{
    BuiltImage, CommandEnd, CommandSpec, DockerConfig, DockerExecutor, Executor, ExecutorError,
    HostConfig, HostExecutor, ImageLook, ImageSource, LookResult, OutputSink, ResourceLimits,
    StartObserver, StartSpec, Stream, SwarmConfig, SwarmExecutor, Tree, Workspace,
};
use quire_testkit::skipped;
use quire_types::names::RunId;
use quire_types::run::ExecutorName;
use tokio_util::sync::CancellationToken;

/// The image that every machine of ours has.
pub(crate) const IMAGE: &str = "debian:trixie-slim";

/// The same, as the nodes of a swarm can pull it.
pub(crate) const SWARM_IMAGE: &str = "10.77.0.1:5000/debian:trixie-slim";

pub(crate) fn endpoint() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// A tree made of files.
#[derive(Clone, Default)]
pub(crate) struct Files {
    entries: Vec<(String, Vec<u8>, u32)>,
    id: Option<String>,
}

impl Files {
    pub(crate) fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.entries.push((path.into(), content.into(), 0o644));
        self
    }

    pub(crate) fn script(mut self, path: &str, content: &str) -> Self {
        self.entries.push((path.into(), content.into(), 0o755));
        self
    }

    pub(crate) fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content, mode) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(1_700_000_000);
            builder
                .append_data(&mut header, path, content.as_slice())
                .unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "link", "plain.txt")
            .unwrap();
        builder.into_inner().unwrap()
    }
}

impl Tree for Files {
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        let chunks: Vec<_> = self
            .tar()
            .chunks(8192)
            .map(|c| Ok(Bytes::copy_from_slice(c)))
            .collect();
        futures_util::stream::iter(chunks).boxed()
    }

    fn has_dockerfile(&self) -> bool {
        self.entries
            .iter()
            .any(|(path, ..)| path == ".quire/Dockerfile")
    }

    fn id(&self) -> Option<String> {
        self.id.clone()
    }
}

/// A tree whose stream never ends, or ends with an error.
pub(crate) struct Broken {
    pub(crate) error: Option<&'static str>,
}

impl Tree for Broken {
    fn archive(&self) -> BoxStream<'static, std::io::Result<Bytes>> {
        let start = futures_util::stream::iter([Ok(Bytes::from(
            Files::default().with("plain.txt", "x").tar()[..700].to_vec(),
        ))]);
        match self.error {
            Some(words) => start
                .chain(futures_util::stream::iter([Err(std::io::Error::other(
                    words,
                ))]))
                .boxed(),
            None => start.chain(futures_util::stream::pending()).boxed(),
        }
    }

    fn has_dockerfile(&self) -> bool {
        false
    }
}

/// Everything a command wrote.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Output {
    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }

    pub(crate) fn stderr(&self) -> Vec<u8> {
        self.0.lock().unwrap().1.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout()).into_owned()
    }

    pub(crate) fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr()).into_owned()
    }
}

impl OutputSink for Output {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let mut both = self.0.lock().unwrap();
        match stream {
            Stream::Stdout => both.0.extend_from_slice(bytes),
            Stream::Stderr => both.1.extend_from_slice(bytes),
        }
    }
}

/// What a start reported, in order; cancels when it reports `cancel_at`.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) log: Arc<Mutex<String>>,
    pub(crate) steps: Arc<Mutex<Vec<String>>>,
    pub(crate) services: Arc<Mutex<std::collections::HashMap<String, Output>>>,
    pub(crate) looks: Arc<Mutex<std::collections::HashMap<String, (Instant, LookResult)>>>,
    pub(crate) cancel_at: Option<(&'static str, CancellationToken)>,
}

impl Seen {
    fn step(&self, name: &str, detail: &str) {
        self.steps
            .lock()
            .unwrap()
            .push(format!("{name} {detail}").trim_end().to_owned());
        if let Some((at, token)) = &self.cancel_at
            && *at == name
        {
            token.cancel();
        }
    }

    pub(crate) fn steps(&self) -> Vec<String> {
        self.steps.lock().unwrap().clone()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What a service has written so far.
    pub(crate) fn output(&self, service: &str) -> String {
        let output = self.services.lock().unwrap()[service].clone();
        output.text() + &output.error_text()
    }
}

impl StartObserver for Seen {
    fn line(&mut self, _: Stream, bytes: &[u8]) {
        self.log
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(bytes));
    }

    fn build_started(&mut self, engine: &str, tag: &str) {
        assert!(!engine.is_empty() && !tag.is_empty());
        self.step("build-started", "");
    }

    fn build_finished(&mut self, image: &BuiltImage) {
        self.step("build-finished", &image.tag);
    }

    fn container_created(&mut self, id: &str, _: &str) {
        self.step("created", id);
    }

    fn container_started(&mut self) {
        self.step("started", "");
    }

    fn last_look(&mut self, image: &str) -> Option<ImageLook> {
        let looks = self.looks.lock().unwrap();
        looks.get(image).map(|(at, result)| ImageLook {
            age: at.elapsed(),
            result: result.clone(),
        })
    }

    fn looked_for_newer(&mut self, image: &str, result: &LookResult) {
        let look = (Instant::now(), result.clone());
        self.looks.lock().unwrap().insert(image.to_owned(), look);
    }

    fn service_output(&mut self, service: &str) -> Box<dyn OutputSink> {
        Box::new(
            self.services
                .lock()
                .unwrap()
                .entry(service.to_owned())
                .or_default()
                .clone(),
        )
    }
}

/// An executor of an appliance that exists for one test.
pub(crate) struct Fixture {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) docker: Option<DockerExecutor>,
    pub(crate) instance: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Fixture {
    /// None where `QUIRE_SKIP` says so.
    pub(crate) fn docker() -> Option<Self> {
        let instance = format!("test-{}", RunId::new());
        Self::docker_with(DockerConfig::new(&endpoint(), &instance))
    }

    pub(crate) fn docker_with(config: DockerConfig) -> Option<Self> {
        if skipped("docker") {
            return None;
        }
        let instance = config.instance.clone();
        let docker = DockerExecutor::new(config);
        let folder = tempfile::tempdir().unwrap();
        Some(Self {
            executor: Arc::new(docker.clone()),
            docker: Some(docker),
            instance,
            folder,
        })
    }

    /// On the swarm of `scripts/other-engine --swarm`.
    pub(crate) fn swarm() -> Self {
        Self::swarm_with(swarm_config(&format!("test-{}", RunId::new())))
    }

    pub(crate) fn swarm_with(config: SwarmSettings) -> Self {
        Self::swarm_beside(&DockerExecutor::new(config.docker.clone()), config)
    }

    /// On the swarm of another executor's engine.
    pub(crate) fn swarm_beside(docker: &DockerExecutor, config: SwarmSettings) -> Self {
        Self {
            instance: config.docker.instance.clone(),
            executor: Arc::new(SwarmExecutor::new(docker, config.swarm)),
            docker: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn host() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let instance = format!("test-{}", RunId::new());
        let executor = HostExecutor::new(HostConfig::new(
            &instance,
            Some(folder.path().to_owned()),
            Some(folder.path().join("caches")),
        ));
        Self {
            executor: Arc::new(executor),
            docker: None,
            instance,
            folder,
        }
    }

    pub(crate) fn is_isolated(&self) -> bool {
        self.executor.capabilities().isolated
    }

    pub(crate) fn is_swarm(&self) -> bool {
        *self.executor.name() == ExecutorName::SWARM
    }

    pub(crate) fn spec(&self, tree: impl Tree + 'static) -> StartSpec {
        let run = RunId::new();
        StartSpec {
            run,
            repo: "group/Some.Repo".parse().unwrap(),
            // Another image tells whether another shell does: `QUIRE_TEST_IMAGE`.
            image: ImageSource::Reference(match self.is_swarm() {
                true => SWARM_IMAGE.parse().unwrap(),
                false => std::env::var("QUIRE_TEST_IMAGE")
                    .unwrap_or_else(|_| IMAGE.into())
                    .parse()
                    .unwrap(),
            }),
            tree: Arc::new(tree),
            limits: ResourceLimits {
                memory: 512 << 20,
                milli_cpus: 64_000,
                pids: 256,
                network: self.is_swarm(),
            },
            container: quire_executor::ContainerSettings::default(),
            caches: Vec::new(),
            services: Vec::new(),
            may_be_kept: false,
            rebuild: false,
            node: None,
            env: vec![("GREETING".into(), "hello world".into())],
            workspace: self.workspace_path(run),
        }
    }

    pub(crate) fn workspace_path(&self, run: RunId) -> PathBuf {
        self.folder
            .path()
            .join("group/Some.Repo")
            .join(run.to_string())
            .join("workspace")
    }

    pub(crate) async fn start_with(
        &self,
        spec: StartSpec,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        self.executor
            .start_workspace(spec, &mut Seen::default(), CancellationToken::new())
            .await
    }

    /// Starts a workspace, and returns it with what the start reported.
    pub(crate) async fn start_and_see(&self, spec: StartSpec) -> (Box<dyn Workspace>, Seen) {
        let mut seen = Seen::default();
        let workspace = self
            .executor
            .start_workspace(spec, &mut seen, CancellationToken::new())
            .await
            .unwrap();
        (workspace, seen)
    }

    /// A workspace with a small tree.
    pub(crate) async fn start(&self) -> Box<dyn Workspace> {
        self.start_with(self.spec(small_tree())).await.unwrap()
    }

    /// Containers of this instance; on a swarm, its services.
    pub(crate) async fn containers(&self) -> Vec<String> {
        match self.is_swarm() {
            true => services_of(&self.instance).await,
            false => containers_of(&self.instance).await,
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (executor, docker) = (Arc::clone(&self.executor), self.docker.clone());
        let instance = self.instance.clone();
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                for service in services_of_test(&*executor, &instance).await {
                    let limit = engine().timeouts().lifecycle;
                    let _ = engine().remove_service(&service, limit).await;
                }
                // A fresh executor knows of no run in hand.
                if docker.is_some() {
                    let fresh = DockerExecutor::new(DockerConfig::new(&endpoint(), &instance));
                    let _ = fresh.sweep(&[]).await;
                    remove_images_and_networks(&instance).await;
                } else {
                    let _ = executor.sweep(&[]).await;
                }
            });
        });
        let _ = cleaning.join();
    }
}

pub(crate) fn engine() -> quire_executor::engine::Engine {
    quire_executor::engine::Engine::new(&endpoint(), quire_executor::engine::Timeouts::default())
}

/// The images and networks of an appliance that existed for one test.
pub(crate) async fn remove_images_and_networks(instance: &str) {
    let label = |key: &str| vec![(key.to_owned(), instance.to_owned())];
    let (engine, own) = (engine(), label("io.quire.instance"));
    let built = label("io.quire.built-by");
    for image in engine.images(&built).await.unwrap_or_default() {
        for tag in image.tags.iter().chain([&image.id]) {
            let _ = engine.remove_image(tag).await;
        }
    }
    for volume in engine.volumes(&own).await.unwrap_or_default() {
        let _ = engine.remove_volume(&volume.name).await;
    }
    for network in engine.networks(&own).await.unwrap_or_default() {
        let _ = engine
            .remove_network(&network.id, engine.timeouts().lifecycle)
            .await;
    }
}

pub(crate) async fn containers_of(instance: &str) -> Vec<String> {
    let label = vec![("io.quire.instance".to_owned(), instance.to_owned())];
    engine()
        .containers(&label)
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.id)
        .collect()
}

pub(crate) async fn services_of(instance: &str) -> Vec<String> {
    let label = vec![("io.quire.instance".to_owned(), instance.to_owned())];
    let services = engine().services(&label).await.unwrap();
    services.into_iter().map(|service| service.id).collect()
}

/// What a test left on the swarm, if it was on one.
async fn services_of_test(executor: &dyn Executor, instance: &str) -> Vec<String> {
    match *executor.name() == ExecutorName::SWARM {
        true => services_of(instance).await,
        false => Vec::new(),
    }
}

/// The settings of an appliance on a swarm.
pub(crate) struct SwarmSettings {
    pub(crate) docker: DockerConfig,
    pub(crate) swarm: SwarmConfig,
}

impl SwarmSettings {
    pub(crate) fn executor(self) -> SwarmExecutor {
        SwarmExecutor::new(&DockerExecutor::new(self.docker), self.swarm)
    }
}

/// The settings of an appliance on the swarm of `scripts/other-engine --swarm`.
pub(crate) fn swarm_config(instance: &str) -> SwarmSettings {
    assert!(
        std::env::var_os("QUIRE_SWARM").is_some(),
        "this test needs a swarm: run it by `scripts/other-engine --swarm`"
    );
    let callback = format!("10.77.0.1:{}", quire_testkit::free_port());
    SwarmSettings {
        docker: DockerConfig::new(&endpoint(), instance),
        swarm: SwarmConfig {
            registry: None,
            callback: Some(callback.parse().unwrap()),
        },
    }
}

pub(crate) fn small_tree() -> Files {
    Files::default()
        .with("plain.txt", "plain\n")
        .script("bin/tool", "#!/bin/sh\necho tool \"$@\"\n")
        .with("a/deep/er/file", "deep")
}

pub(crate) fn argv(argv: &[&str]) -> CommandSpec {
    CommandSpec {
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        stdin: None,
        timeout: None,
        merge: false,
    }
}

pub(crate) fn shell(script: &str) -> CommandSpec {
    argv(&["/bin/sh", "-c", script])
}

/// Stops a workspace and removes it.
pub(crate) async fn finish(workspace: &dyn Workspace) {
    workspace.stop().await.unwrap();
    workspace.remove().await.unwrap();
}

/// Runs a command to its end.
pub(crate) async fn run(
    workspace: &dyn Workspace,
    command: CommandSpec,
) -> (Result<CommandEnd, ExecutorError>, Output) {
    let output = Output::default();
    let end = workspace
        .run_command(command, Box::new(output.clone()), CancellationToken::new())
        .await;
    (end, output)
}

/// Runs a command that must exit so; gives its output.
pub(crate) async fn run_exit(workspace: &dyn Workspace, command: CommandSpec, code: i32) -> Output {
    let shown = command.argv.join(" ");
    let (end, output) = run(workspace, command).await;
    match end {
        Ok(CommandEnd::Exited(got)) if got == code => output,
        end => panic!(
            "{shown}: {end:?}, stdout {:?}, stderr {:?}",
            output.text(),
            output.error_text()
        ),
    }
}
