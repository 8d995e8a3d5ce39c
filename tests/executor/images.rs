//! Images that quire brought onto the engine go again when nobody needs them; nobody else's ever do.

#![expect(clippy::disallowed_methods, reason = "tests start real programs")]

use std::fs;
use std::process::Command;

use quire_testkit::{TestForge, skipped, transcript, wait_for};
use quire_types::run::RunState;
use rusqlite::Connection;

use super::registry::Registry;
use super::support::{IMAGE, endpoint, remove_images_and_networks};
use crate::QUIRE;

/// A forge with runs in containers, that leaves no image of its own behind.
struct Contained(TestForge);

impl Contained {
    fn start() -> Self {
        let mut forge = TestForge::new(QUIRE);
        forge
            .set("QUIRE_CI_EXECUTOR", "docker")
            .set("QUIRE_CI_ENGINE", &endpoint());
        forge
            .set("QUIRE_CI_NETWORK", "false")
            .set("QUIRE_CI_MEMORY", "256m")
            .set("QUIRE_CI_REGISTRIES", "127.0.0.1")
            .serve();
        Self(forge)
    }

    fn instance(&self) -> String {
        self.0.store().instance().id().unwrap()
    }

    /// Has all images, layers and caches last been used so many days ago.
    fn days_go_by(&self, days: i64) {
        let database = Connection::open(self.0.paths.database()).unwrap();
        for table in ["images", "layers", "cache_uses"] {
            database
                .execute(
                    &format!("UPDATE {table} SET used_at_ms = used_at_ms - ?1 * 86400000"),
                    [days],
                )
                .unwrap();
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        if self.0.paths.database().exists() {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(remove_images_and_networks(&self.instance()));
        }
    }
}

/// What the engine's own client says.
pub(super) fn docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(["--host", &endpoint()])
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(transcript(&output))
    }
}

fn is_there(image: &str) -> bool {
    docker(&["image", "inspect", image]).is_ok()
}

/// Removes names that a test gave, also where it fails.
struct Names(Vec<String>);

impl Drop for Names {
    fn drop(&mut self) {
        self.0.iter().for_each(|name| drop(docker(&["rmi", name])));
    }
}

fn in_image(image: &str, command: &str) -> String {
    format!(
        "(local ci (require :quire.ci))\n(ci.image {image:?})\n(ci.job :test [:quire/push] (fn [{{: sh}}] (sh {command})))\n"
    )
}

#[test]
fn what_quire_pulled_goes_and_what_a_person_brought_stays() {
    if skipped("docker") {
        return;
    }
    let registry = Registry::start();
    let image = |name: &str| registry.image(name);
    let (ours, theirs, tagged, busy, moved) = (
        image("ours:1"),
        image("theirs:1"),
        image("tagged:1"),
        image("busy:1"),
        image("moved:1"),
    );
    let own_name = format!("a-persons-own:{}", uuid::Uuid::now_v7());
    let _names = Names(
        [&ours, &theirs, &tagged, &busy, &moved, &own_name]
            .map(Clone::clone)
            .to_vec(),
    );
    let contained = Contained::start();
    let forge = &contained.0;
    docker(&["pull", &theirs]).unwrap();
    for (repo, image) in [
        ("ours", &ours),
        ("theirs", &theirs),
        ("tagged", &tagged),
        ("moved", &moved),
    ] {
        forge
            .tree_with(repo, &in_image(image, "[\"sleep\" \"0\"]"))
            .push(&["main"]);
        let run = forge.end_of(forge.newest(repo).id);
        assert_eq!(
            run.state,
            RunState::Complete,
            "{:?} {}",
            run.message,
            forge.log()
        );
    }
    docker(&["tag", &tagged, &own_name]).unwrap();
    docker(&["rmi", &moved]).unwrap();
    docker(&["tag", IMAGE, &moved]).unwrap();
    // A run goes on in one; its image has been old for long.
    forge
        .tree_with("busy", &in_image(&busy, "[\"sleep\" \"600\"]"))
        .push(&["main"]);
    let run = forge.newest("busy");
    wait_for("the command", || {
        (!forge.steps(run.id).is_empty()).then_some(())
    });
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n", "used just now");
    contained.days_go_by(89);
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    contained.days_go_by(2);
    let freed = forge.ssh_ok("gc");
    assert!(
        freed.starts_with("removed 2 images: "),
        "{freed}\n{}",
        forge.log()
    );
    let there = [&ours, &theirs, &tagged, &busy, &moved, &own_name].map(|name| is_there(name));
    assert_eq!(there, [false, true, false, true, true, true]);
    assert!(is_there(IMAGE));
    // It is pulled again when it is wanted, and the one that was busy goes when its run has ended.
    let tree = forge.tree("ours-again", "ours");
    tree.git_ok(&["pull", "-q", "origin", "main"]);
    tree.push_new("again");
    assert_eq!(
        forge.end_of(forge.newest("ours").id).state,
        RunState::Complete
    );
    assert!(is_there(&ours));
    forge.ssh_ok(&format!("run cancel {}", run.id));
    forge.wait_for_quiet();
    // Its container is removed after the end of the run.
    wait_for("the image of the ended run", || {
        Some(forge.ssh_ok("gc")).filter(|freed| freed.starts_with("removed 1 image: "))
    });
    assert_eq!([&busy, &ours].map(|name| is_there(name)), [false, true]);
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
}

const FROM_DOCKERFILE: &str = r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "cat /made; test ! -e fails")))
"#;

#[test]
fn what_builds_made_goes_with_its_repository_or_when_it_is_old() {
    if skipped("docker") {
        return;
    }
    let (mut contained, other) = (Contained::start(), Contained::start());
    let stages = |word: &str| {
        format!(
            "FROM {IMAGE} AS one\nRUN echo {word} {} > /made\nFROM {IMAGE}\nCOPY --from=one /made /made\n",
            contained.instance()
        )
    };
    let built = |contained: &Contained, repo: &str, recipe: &str, push: &[&str], fails: bool| {
        let tree = contained.0.tree(repo, repo);
        tree.write(".quire/ci.fnl", FROM_DOCKERFILE);
        tree.write(".quire/Dockerfile", recipe);
        if fails {
            tree.write("fails", "");
        }
        tree.commit("first");
        tree.push(push);
        contained.0.end_of(contained.0.newest(repo).id)
    };
    let image = |contained: &Contained, repo: &str| contained.0.newest(repo).image_tag.unwrap();
    for (repo, push, fails) in [
        ("app", &["main"][..], false),
        ("gone", &["main"], false),
        ("kept", &["-o", "ci.keep", "main"], true),
    ] {
        let run = built(&contained, repo, &stages(repo), push, fails);
        assert_eq!(
            run.state == RunState::Complete,
            !fails,
            "{:?}\n{}",
            run.message,
            contained.0.log()
        );
    }
    let failed = built(
        &contained,
        "failed",
        &format!(
            "FROM {IMAGE}\nRUN echo {} > /made\nRUN false\n",
            contained.instance()
        ),
        &["main"],
        false,
    );
    assert_eq!(
        failed.failure_kind,
        Some(quire_types::run::FailureKind::Image)
    );
    assert_eq!(
        built(&other, "gone", &stages("other"), &["main"], false).state,
        RunState::Complete
    );
    let [app, gone, kept] = ["app", "gone", "kept"].map(|repo| image(&contained, repo));
    let others = image(&other, "gone");
    assert_eq!(contained.0.ssh_ok("gc"), "nothing to remove\n");
    // The repository is gone, and the appliance with the same name for one of its own has it still.
    contained.0.ssh_ok("repo rm gone --yes");
    let freed = contained.0.ssh_ok("gc");
    assert!(freed.starts_with("removed 1 image: "), "{freed}");
    assert_eq!(
        [&app, &gone, &kept, &others].map(|name| is_there(name)),
        [true, false, true, true]
    );
    // Old: all but what the kept container stands on.
    contained.days_go_by(92);
    contained.0.ssh_ok("gc");
    assert_eq!(
        [&app, &kept, &others].map(|name| is_there(name)),
        [false, true, true]
    );
    let run = contained.0.newest("kept");
    assert!(
        contained
            .0
            .ssh_ok(&format!("run attach {} cat /made", run.id))
            .starts_with("kept ")
    );
    assert!(contained.0.stop().success());
    let database = Connection::open(contained.0.paths.database()).unwrap();
    database
        .execute("UPDATE kept_containers SET until_ms = 1", [])
        .unwrap();
    drop(database);
    contained.0.serve();
    let name = format!("quire-{}", run.id);
    wait_for("the container to go", || {
        docker(&["container", "inspect", &name])
            .is_err()
            .then_some(())
    });
    wait_for("its image to go", || {
        contained.0.ssh_ok("gc");
        (!is_there(&kept)).then_some(())
    });
    assert!(is_there(&others) && is_there(IMAGE));
}

#[test]
fn caches_in_volumes_have_a_size_and_go_when_they_are_old() {
    if skipped("docker") {
        return;
    }
    let contained = Contained::start();
    let forge = &contained.0;
    let pipeline = |command: &str| {
        format!(
            r#"(local ci (require :quire.ci))
(ci.cache :deps "deps")
(ci.job :test [:quire/push] (fn [{{: sh}}] (sh {command:?})))
"#
        )
    };
    forge
        .tree_with("app", &pipeline("head -c 100000 /dev/zero > deps/file"))
        .push(&["main"]);
    forge
        .tree_with(
            "held",
            &pipeline("head -c 100000 /dev/zero > deps/file; touch begun; sleep 600"),
        )
        .push(&["main"]);
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    let held = forge.newest("held");
    wait_for("the command", || {
        forge
            .ssh(&format!("run attach {} test -e begun", held.id))
            .status
            .success()
            .then_some(())
    });
    let listed: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok("cache list --json")).unwrap();
    let bytes = listed["caches"][0]["bytes"].as_u64();
    assert!(
        bytes.is_some_and(|bytes| (100_000..200_000).contains(&bytes))
            && listed["caches"][0]["used_at_ms"].is_i64(),
        "{listed}"
    );
    contained.days_go_by(91);
    // The image is a person's, the cache of the run that goes on stays.
    assert_eq!(
        forge.ssh_ok("gc").split(':').next(),
        Some("removed 1 cache")
    );
    let names = || {
        let listed: serde_json::Value =
            serde_json::from_str(&forge.ssh_ok("cache list --json")).unwrap();
        listed["caches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cache| cache["repo"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["held"]);
    forge.ssh_ok(&format!("run cancel {}", held.id));
    forge.wait_for_quiet();
    // By its size this time.
    fs::write(
        forge.paths.config_fennel(),
        "{:keep {:days 0 :caches \"50k\"}}",
    )
    .unwrap();
    forge.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("the configuration", || {
        forge.log().contains("configuration reloaded").then_some(())
    });
    wait_for("the cache to go", || {
        forge.ssh_ok("gc");
        names().is_empty().then_some(())
    });
}

/// What a person made with an image that quire built. Removed when dropped.
struct Belongings {
    name: String,
    build: std::process::Child,
}

impl Belongings {
    /// Containers, a volume, a tag, a derived image and a build that waits for `/go`.
    fn make(contained: &Contained, built: &str, run: &str) -> Self {
        let name = format!("guard-{}", uuid::Uuid::now_v7());
        let instance = format!("io.quire.instance={}", contained.instance());
        let run_label = format!("io.quire.run={run}");
        let container = format!("{name}-container");
        let labelled = format!("{name}-labelled");
        for arguments in [
            &["tag", built, &format!("{name}:tag")][..],
            &[
                "run", "-d", "--name", &container, "-v", "/data", built, "sleep", "3000",
            ],
            // As from `docker commit` of a run's container, which puts its labels into an image.
            &[
                "run", "-d", "--name", &labelled, "--label", &instance, "--label", &run_label,
                built, "sleep", "3000",
            ],
            &[
                "volume",
                "create",
                "--label",
                &instance,
                "--label",
                "io.quire.repo=app",
                "--label",
                "io.quire.cache=deps",
                &name,
            ],
            &[
                "commit",
                "--change",
                &format!("LABEL {instance}"),
                &container,
                &format!("{name}:commit"),
            ],
        ] {
            docker(arguments).unwrap();
        }
        let derived = format!("FROM {built}\nRUN echo {name} > /derived\n");
        let mut building = legacy_build(&format!("{name}:derived"), &derived);
        assert!(building.wait().unwrap().success());
        let waiting =
            format!("FROM {built}\nRUN echo {name}; until [ -e /go ]; do sleep 0.1; done\n");
        let belongings = Self {
            build: legacy_build(&format!("{name}:built"), &waiting),
            name,
        };
        wait_for("the build", || belongings.build_container());
        belongings
    }

    fn build_container(&self) -> Option<String> {
        let listed = docker(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Command}}"]).ok()?;
        let line = listed
            .lines()
            .find(|line| line.contains(&format!("echo {};", self.name)))?;
        Some(line.split(' ').next()?.to_owned())
    }

    #[track_caller]
    fn check(&self, when: &str) {
        let name = &self.name;
        for container in [format!("{name}-container"), format!("{name}-labelled")] {
            let running = docker(&["inspect", "--format", "{{.State.Running}}", &container]);
            assert_eq!(running.as_deref(), Ok("true"), "{container}, {when}");
        }
        let mount = "{{range .Mounts}}{{.Name}}{{end}}";
        let anonymous = docker(&["inspect", "--format", mount, &format!("{name}-container")]);
        for volume in [name.clone(), anonymous.unwrap()] {
            let found = docker(&["volume", "inspect", &volume]);
            assert!(found.is_ok(), "the volume {volume}, {when}");
        }
        for tag in ["tag", "derived", "commit"] {
            assert!(is_there(&format!("{name}:{tag}")), "{tag}, {when}");
        }
        assert!(self.build_container().is_some(), "the build, {when}");
    }
}

impl Drop for Belongings {
    fn drop(&mut self) {
        let name = self.name.clone();
        let _ = self.build.kill();
        let _ = self.build.wait();
        let build = self.build_container();
        for container in [format!("{name}-container"), format!("{name}-labelled")]
            .into_iter()
            .chain(build)
        {
            let _ = docker(&["rm", "--force", "--volumes", &container]);
        }
        let _ = docker(&["volume", "rm", &name]);
        for tag in ["built", "derived", "commit", "tag"] {
            let _ = docker(&["rmi", &format!("{name}:{tag}")]);
        }
    }
}

/// Starts a build as a person does it, with the builder that makes containers.
fn legacy_build(tag: &str, dockerfile: &str) -> std::process::Child {
    use std::io::Write;

    let mut child = Command::new("docker")
        .args(["--host", &endpoint(), "build", "--quiet", "--tag", tag, "-"])
        .env("DOCKER_BUILDKIT", "0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(dockerfile.as_bytes()).unwrap();
    child
}

#[test]
fn what_a_person_made_of_a_built_image_survives_everything() {
    if skipped("docker") {
        return;
    }
    let mut contained = Contained::start();
    let instance = contained.instance();
    let tree = contained.0.tree("app", "app");
    let push = |contained: &Contained, number: u32, first: bool| {
        tree.write(".quire/ci.fnl", FROM_DOCKERFILE);
        let text = format!("FROM {IMAGE}\nRUN echo {instance} {number} > /made\n");
        tree.write(".quire/Dockerfile", &text);
        tree.commit(&format!("build {number}"));
        if first {
            tree.push(&["main"]);
        } else {
            tree.git_ok(&["push", "-q", "origin", "main"]);
        }
        let run = contained.0.end_of(contained.0.newest("app").id);
        assert_eq!(run.state, RunState::Complete, "{:?}", run.message);
        run
    };
    let run = push(&contained, 0, true);
    let first = run.image_tag.clone().unwrap();
    let belongings = Belongings::make(&contained, &first, &run.id.to_string());
    // The server sweeps when it starts.
    assert!(contained.0.stop().success());
    contained.0.serve();
    contained.0.ssh_ok("gc");
    belongings.check("after a sweep");
    let mut tags: Vec<String> = Vec::new();
    for number in 1..5 {
        tags.push(push(&contained, number, false).image_tag.unwrap());
    }
    wait_for("the removal of the oldest build", || {
        (!is_there(&first)).then_some(())
    });
    wait_for("three builds", || {
        (tags.iter().filter(|tag| is_there(tag)).count() == 3).then_some(())
    });
    belongings.check("after four more builds");
    contained.0.ssh_ok("repo rename app renamed");
    contained.0.ssh_ok("gc");
    wait_for("the builds of the former name to go", || {
        contained.0.ssh_ok("gc");
        tags.iter().all(|tag| !is_there(tag)).then_some(())
    });
    belongings.check("after a rename");
    contained.0.ssh_ok("repo rm renamed --yes");
    contained.days_go_by(91);
    contained.0.ssh_ok("gc");
    belongings.check("after the repository was removed");
    let container = belongings.build_container().unwrap();
    // The build may be over, and its container gone, before this has ended.
    let _ = docker(&["exec", &container, "touch", "/go"]);
    wait_for("the person's build", || {
        is_there(&format!("{}:built", belongings.name)).then_some(())
    });
}
