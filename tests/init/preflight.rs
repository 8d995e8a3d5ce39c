//! What keeps the appliance from starting is one clear line and an exit code; what it can live
//! with is a warning.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;

use quire_testkit::{free_port, wait_for};
use quire_types::init_status::ChildState;

use crate::appliance::{Recipe, World};

const SLEEP: &str = "exec sleep 1000";

/// Starts it, and wants it to end with this code and one line that says all this.
#[track_caller]
fn refused(recipe: Recipe, code: i32, says: &[&str]) -> Recipe {
    let mut init = recipe.start();
    assert_eq!(init.end().code(), Some(code), "{}", init.output());
    let output = init.output();
    let errors: Vec<_> = output
        .lines()
        .filter(|line| line.starts_with("init  | error: "))
        .collect();
    let [error] = errors.as_slice() else {
        panic!("{output}")
    };
    for part in says {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    init.recipe.clone()
}

fn scripted(world: World) -> Recipe {
    Recipe::new(world)
        .child("sshd", SLEEP)
        .child("serve", SLEEP)
}

#[test]
fn a_read_only_volume() {
    let recipe =
        scripted(World::First).prelude(r#"mkdir "$F/data"; mount -t tmpfs -o ro none "$F/data""#);
    refused(recipe, 78, &["is mounted read-only", "without `:ro`"]);
}

#[test]
fn a_folder_of_somebody_else() {
    let recipe = scripted(World::Subreaper);
    fs::create_dir(recipe.path("data")).unwrap();
    chown(recipe.path("data"), Some(12345), None).unwrap();
    refused(recipe, 78, &["belongs to user 12345", "--data"]);
}

#[test]
fn a_file_where_a_folder_should_be() {
    let recipe = scripted(World::Subreaper);
    fs::write(recipe.path("data"), "").unwrap();
    refused(recipe, 78, &["is not a folder"]);
    let recipe = scripted(World::Subreaper);
    fs::create_dir(recipe.path("data")).unwrap();
    fs::write(recipe.path("data/spool"), "mine").unwrap();
    let recipe = refused(recipe, 78, &["data/spool is not a folder"]);
    assert_eq!(
        fs::read_to_string(recipe.path("data/spool")).unwrap(),
        "mine"
    );
}

#[test]
fn a_full_volume_starts_with_a_warning() {
    let full = r#"mkdir "$F/data"; mount -t tmpfs -o size=64k none "$F/data"; mkdir "$F/data/runtime"
        mount -t tmpfs none "$F/data/runtime"; for d in repos runs artifacts spool backups ssh; do mkdir "$F/data/$d"; done
        dd if=/dev/zero of="$F/data/fill" bs=4k 2>/dev/null"#;
    let mut init = scripted(World::First).prelude(full).start();
    let output = init.wait_for_output("ready:");
    assert!(output.contains("is full; fetches work"), "{output}");
    init.stop();
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let recipe = Recipe::new(World::Subreaper)
        .child("serve", SLEEP)
        .argument(&format!("--ssh-port={port}"));
    refused(
        recipe,
        78,
        &[
            "sshd cannot listen",
            &port.to_string(),
            "in use",
            "--ssh-port",
        ],
    );
    let recipe = Recipe::new(World::Subreaper)
        .child("sshd", SLEEP)
        .argument(&format!("--http-port={port}"));
    refused(recipe, 78, &["the web server cannot listen", "--http-port"]);
}

#[test]
fn two_over_one_folder() {
    let mut first = scripted(World::Subreaper).start();
    first.wait_until_running();
    let data = first.recipe.path("data");
    let status = first.status().unwrap();
    refused(
        scripted(World::Subreaper).data(data),
        78,
        &["already running"],
    );
    assert_eq!(
        first.status().unwrap().pid,
        status.pid,
        "the first one's status is untouched"
    );
    first.stop();
}

#[test]
fn bad_settings() {
    refused(
        scripted(World::Subreaper).variable("QUIRE_GRACE", "soon"),
        78,
        &["QUIRE_GRACE=\"soon\"", "seconds"],
    );
    refused(
        scripted(World::Subreaper).variable("PUID", "root"),
        78,
        &["PUID", "numeric"],
    );
}

#[test]
fn host_keys_are_made_once_and_never_replaced() {
    let flag = format!("--ssh-port={}", free_port());
    let real = |recipe: Recipe| recipe.child("serve", SLEEP).argument(&flag);
    let mut init = real(Recipe::new(World::First)).start();
    let output = init.wait_for_output("ready:");
    assert!(
        output.contains("host key: generated") && output.contains("SHA256:"),
        "{output}"
    );
    init.wait_for_output("sshd  | Server listening");
    init.stop();

    let mut recipe = init.recipe.clone();
    let path = recipe.path("data/ssh/ssh_host_ed25519_key");
    let key = fs::read(&path).unwrap();
    // Modes and owners in the volume do not matter: sshd reads a copy.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let mut again = recipe.start();
    let output = again.wait_for_output("ready:");
    assert!(!output.contains("host key: generated"), "{output}");
    again.stop();
    recipe = again.recipe.clone();
    assert_eq!(fs::read(&path).unwrap(), key);

    for (damage, says) in [
        (&b""[..], "is empty"),
        (&key[..key.len() / 2], "is damaged"),
        (b"\xff\xfe", "is damaged"),
    ] {
        fs::write(&path, damage).unwrap();
        recipe = refused(recipe, 78, &["ssh_host_ed25519_key", says, "from a backup"]);
        assert_eq!(fs::read(&path).unwrap(), damage);
    }
    fs::remove_file(&path).unwrap();
    recipe = refused(recipe, 78, &["is missing, although its .pub file exists"]);
    fs::remove_file(path.with_extension("pub")).unwrap();
    let mut renewed = recipe.start();
    renewed.wait_for_output("_key, because it was missing");
    renewed.wait_for_output("ready:");
    renewed.stop();
}

#[test]
fn in_the_image_serve_is_git_with_the_sockets_group() {
    let recipe = Recipe::image()
        .variable("PUID", "4001")
        .variable("PGID", "4002");
    let socket = recipe.path("docker.sock");
    let _engine = UnixListener::bind(&socket).unwrap();
    chown(&socket, Some(0), Some(4711)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).unwrap();
    fs::set_permissions(recipe.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(recipe.path("data/repos/deep/er")).unwrap();
    let script = r#"id -un; id -G; id -gn; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status; echo "$HOME $QUIRE_DATA $NPM_TOKEN"; umask
        touch "$QUIRE_DATA/repos/deep/er/x" && echo wrote; echo x > "$QUIRE_RUNTIME/status.json" || echo kept out; echo end; exec sleep 1000"#;
    let recipe = recipe
        .variable("DOCKER_HOST", &format!("unix://{}", socket.display()))
        .variable("NPM_TOKEN", "t0ken");
    let mut init = recipe.child("sshd", SLEEP).child("serve", script).start();
    let output = init.wait_for_output("serve | end");
    let data = init.recipe.path("data");
    for line in [
        "serve, and nothing else, is added to group 4711".to_owned(),
        "serve | 4002 4711".into(),
        "serve | NoNewPrivs:?1".replace('?', "\t"),
        "serve | CapEff:\t0000000000000000".into(),
        format!("serve | /var/quire {} t0ken", data.display()),
        "serve | 0027".into(),
        "serve | wrote".into(),
        "serve | kept out".into(),
    ] {
        assert!(output.contains(&line), "{line:?} is not in\n{output}");
    }
    let owner = fs::metadata(data.join("repos/deep/er")).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (4001, 4002));
    init.stop();
}

/// The engine that serve will use decides: that of its configuration file, before `DOCKER_HOST`.
#[test]
fn in_the_image_the_group_is_that_of_the_configured_socket() {
    let recipe = Recipe::image()
        .variable("PUID", "4001")
        .variable("PGID", "4002");
    let sockets = [("configured.sock", 4711), ("other.sock", 4712)].map(|(name, group)| {
        let path = recipe.path(name);
        let engine = UnixListener::bind(&path).unwrap();
        chown(&path, Some(0), Some(group)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        (path, engine)
    });
    fs::set_permissions(recipe.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = recipe.path("data");
    fs::create_dir(&data).unwrap();
    let [(configured, _engine), (other, _other)] = sockets;
    fs::write(
        data.join("config.fnl"),
        format!("{{:ci {{:engine \"unix://{}\"}}}}", configured.display()),
    )
    .unwrap();
    let mut init = recipe
        .variable("DOCKER_HOST", &format!("unix://{}", other.display()))
        .child("sshd", SLEEP)
        .start();
    let output = init.wait_for_output("is added to group");
    assert!(output.contains("is added to group 4711"), "{output}");
    init.stop();
}

#[test]
fn in_the_image_it_warns_about_who_can_use_the_docker_socket() {
    for (mode, group, warning) in [
        (
            0o666,
            4711,
            "everyone on this machine can write to the Docker socket",
        ),
        (
            0o662,
            4711,
            "everyone on this machine can write to the Docker socket",
        ),
        (
            0o660,
            4002,
            "is the group of the user git, so SSH sessions can use the engine, too",
        ),
        (0o600, 4711, "does not let its group 4711 read and write"),
    ] {
        let recipe = Recipe::image()
            .variable("PUID", "4001")
            .variable("PGID", "4002");
        let socket = recipe.path("docker.sock");
        let _engine = UnixListener::bind(&socket).unwrap();
        chown(&socket, Some(0), Some(group)).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(recipe.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut init = recipe
            .variable("DOCKER_HOST", &format!("unix://{}", socket.display()))
            .child("sshd", SLEEP)
            .child("serve", SLEEP)
            .start();
        let output = init.wait_for_output("ready:");
        assert!(output.contains(warning), "{mode:o}, {group}: {output}");
        init.stop();
    }
}

#[test]
fn in_the_image_the_git_user_gets_its_ids_and_sshd_runs() {
    let recipe = Recipe::image().child("serve", SLEEP);
    let data = recipe.path("data");
    fs::create_dir(&data).unwrap();
    // The owner of a bind-mounted folder decides.
    chown(&data, Some(4003), Some(4004)).unwrap();
    fs::set_permissions(recipe.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut init = recipe.start();
    let passwd = init.recipe.path("passwd");
    wait_for("the ids", || {
        fs::read_to_string(&passwd)
            .ok()
            .filter(|text| text.contains("\ngit:*:4003:4004::/var/quire:/bin/sh\n"))
    });
    let group = init.recipe.path("group");
    wait_for("the group", || {
        fs::read_to_string(&group)
            .ok()
            .filter(|text| text.contains("\ngit:x:4004:\n"))
    });
    init.wait_for_output("no volume is mounted at");
    init.wait_for_output("sshd  | Server listening on 0.0.0.0 port 22.");
    init.wait_for_child("sshd", |child| {
        child.state == ChildState::Running && child.restarts == 0
    });
    assert_eq!(
        fs::metadata(data.join("ssh/ssh_host_ed25519_key"))
            .unwrap()
            .uid(),
        4003
    );
    init.stop();
}

#[test]
fn in_the_image_without_a_git_user() {
    let recipe = Recipe::image()
        .prelude("umount /etc/passwd")
        .child("sshd", SLEEP)
        .child("serve", SLEEP);
    refused(recipe, 78, &["no user `git`"]);
}

#[test]
fn without_a_docker_socket_it_says_what_that_means() {
    let recipe = scripted(World::Subreaper);
    let nowhere = format!("unix://{}", recipe.path("none.sock").display());
    let mut init = recipe.variable("DOCKER_HOST", &nowhere).start();
    let output = init.wait_for_output("ready:");
    assert!(
        output.contains("no Docker socket at") && output.contains("runs will wait"),
        "{output}"
    );
    init.stop();
}
