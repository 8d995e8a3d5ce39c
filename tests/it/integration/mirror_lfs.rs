//! Objects of Git LFS and mirrors: what a remote gets beside the refs, and what comes from there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_testkit::{
    Answer, CertificateAuthority, GitHttpServer, HttpReceiver, TestForge, Tree, files_below,
    hermetic_git, run_ok, stdout, transcript,
};
use serde_json::{Value, json};

use super::imports::push_into;
use super::mirrors::{
    TOKEN, configure, entry, forge_with, mirror, nas, other_appliance, refs, wait_for_refs,
    wait_for_state,
};

const LOGIN: &str = ":user \"me\" :token {:env \"MIRROR_TOKEN\"}";

/// Where an object is below a folder, as git-lfs lays them out.
fn place(oid: &str) -> String {
    format!("{}/{}/{oid}", &oid[..2], &oid[2..4])
}

/// A file in Git LFS with this content: its pointer in the tree. Returns its id.
fn add_pointer(tree: &Tree, path: &str, content: &str) -> String {
    let file = tree.path.join(".git/content");
    fs::write(&file, content).unwrap();
    let sum = run_ok(Command::new("sha256sum").arg(&file));
    let oid = sum.split(' ').next().unwrap().to_owned();
    let size = content.len();
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    tree.write(path, &text);
    oid
}

/// The same, and its object in a repository of the forge, as after `git lfs push`.
fn add_object(forge: &TestForge, tree: &Tree, path: &str, content: &str) -> String {
    let oid = add_pointer(tree, path, content);
    let object = forge
        .paths
        .repos()
        .join("app.git/lfs/objects")
        .join(place(&oid));
    fs::create_dir_all(object.parent().unwrap()).unwrap();
    fs::write(&object, content).unwrap();
    oid
}

/// A tree of `app`, whose `*.bin` are in Git LFS. The repository exists.
fn lfs_tree(forge: &TestForge) -> Tree {
    forge.ssh_ok("repo new app");
    let tree = forge.tree("work", "app");
    tree.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    tree
}

/// The names and contents of the files in a folder and those below it.
fn files(folder: &Path) -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    sorted(files_below(folder).into_iter().map(read).collect())
}

fn objects_of(repo: &Path) -> Vec<(String, String)> {
    files(&repo.join("lfs/objects"))
}

fn object(oid: &str, content: &str) -> (String, String) {
    (oid.to_owned(), content.to_owned())
}

fn sorted(mut objects: Vec<(String, String)>) -> Vec<(String, String)> {
    objects.sort();
    objects
}

/// The requests of a server whose path has this text, as `METHOD login`.
fn requests(server: &GitHttpServer, text: &str) -> Vec<String> {
    let requests = server.requests().into_iter();
    let of_path = requests.filter(|request| request["path"].as_str().unwrap().contains(text));
    let shown =
        |request: Value| format!("{} {}", request["method"], request["login"]).replace('"', "");
    of_path.map(shown).collect()
}

/// The other side is giftless, a server of Git LFS, and the client that checks it is git-lfs.
#[test]
fn objects_go_over_https_before_the_refs() {
    let authority = CertificateAuthority::new();
    let server = GitHttpServer::start_with_lfs(&authority.certificate("127.0.0.1"), "me", TOKEN);
    let bare = server.repo("team/app.git");
    let mut forge = forge_with(&entry("web", &server.url("team/app.git"), LOGIN));
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    let tree = lfs_tree(&forge);
    let first = add_object(&forge, &tree, "first.bin", "the first content");
    let same = add_object(&forge, &tree, "folder/same.bin", "the first content");
    let second = add_object(&forge, &tree, "second.bin", "the second");
    assert_eq!(first, same);
    let commit = tree.commit("first");
    tree.push(&["main"]);
    let in_sync = wait_for_state(&forge, "web", "in-sync");
    assert_eq!(in_sync["lfs_problem"], json!(null));
    wait_for_refs(&bare, &[format!("refs/heads/main {commit}")]);
    let stored = || files(&server.lfs_objects("team/app"));
    let mut wanted = vec![
        object(&first, "the first content"),
        object(&second, "the second"),
    ];
    assert_eq!(stored(), sorted(wanted.clone()));
    // A commit that comes later brings its own object alone, also after a restart.
    forge.kill();
    forge.serve();
    let third = add_object(&forge, &tree, "third.bin", "the third");
    let commit = tree.push_new("second");
    wait_for_refs(&bare, &[format!("refs/heads/main {commit}")]);
    wait_for_state(&forge, "web", "in-sync");
    wanted.push(object(&third, "the third"));
    assert_eq!(stored(), sorted(wanted));
    // The server's own login for each object, and not the token. The objects come first.
    assert_eq!(
        requests(&server, "/objects/storage/"),
        ["PUT wrong", "POST wrong"].repeat(3)
    );
    let all: Vec<String> = server
        .requests()
        .iter()
        .map(|request| request["path"].as_str().unwrap().to_owned())
        .collect();
    let at = |text: &str| all.iter().position(|path| path.contains(text)).unwrap();
    assert!(at("/objects/storage/") < at("git-receive-pack"), "{all:?}");
    for request in server.requests() {
        assert_eq!(request["seen"], json!([]), "{request}");
    }
    // What is there is what git-lfs expects.
    let url = server
        .url("team/app.git")
        .replace("https://", &format!("https://me:{TOKEN}@"));
    let folder = tempfile::tempdir().unwrap();
    let git = |folder: &Path, arguments: &[&str]| {
        let mut command = hermetic_git(folder, folder, arguments);
        let output = command
            .env("GIT_SSL_CAINFO", authority.file())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", transcript(&output));
    };
    git(folder.path(), &["clone", "-q", &url, "clone"]);
    let clone = folder.path().join("clone");
    git(&clone, &["lfs", "install", "--local"]);
    git(&clone, &["lfs", "pull"]);
    let text = fs::read_to_string(clone.join("folder/same.bin")).unwrap();
    assert_eq!(text, "the first content");

    // And back: an import fetches them, and a mirror what is pushed later.
    let secret = forge.ssh_with("secret set token --repo none", TOKEN.as_bytes());
    assert!(secret.status.success());
    let import = format!(
        "repo import {} --secret token --user me",
        server.url("team/app.git")
    );
    let said = forge.ssh(&format!("{import} again --mirror"));
    assert!(
        stdout(&said).contains("fetched: 3 objects of Git LFS"),
        "{}",
        transcript(&said)
    );
    let again = forge.paths.repos().join("again.git");
    assert_eq!(objects_of(&again), stored());
    let fourth = add_object(&forge, &tree, "fourth.bin", "the fourth");
    let commit = tree.push_new("third");
    wait_for_refs(&bare, &[format!("refs/heads/main {commit}")]);
    assert_eq!(forge.ssh_ok("mirror sync again"), "origin: in sync\n");
    assert!(objects_of(&again).contains(&object(&fourth, "the fourth")));
    assert_eq!(objects_of(&again), stored());
    let said = forge.ssh_ok(&format!("{import} bare --no-lfs"));
    assert!(
        said.contains("not fetched: objects of Git LFS: --no-lfs leaves them out"),
        "{said}"
    );
    assert!(!forge.paths.repos().join("bare.git/lfs").exists());
}

/// Over SSH alone, as quire serves Git LFS.
#[test]
fn objects_go_to_another_appliance_and_come_back() {
    let mut forge = forge_with("");
    let other = other_appliance(&forge);
    configure(&forge, &entry("nas", &other.url("copy"), ""));
    forge.serve();
    let tree = lfs_tree(&forge);
    // More than one batch, and one that is larger than a packet.
    let mut wanted: Vec<_> = (0..120)
        .map(|index| {
            let content = format!("content {index}");
            let oid = add_object(&forge, &tree, &format!("{index}.bin"), &content);
            object(&oid, &content)
        })
        .collect();
    let large = "large ".repeat(50_000);
    wanted.push(object(
        &add_object(&forge, &tree, "large.bin", &large),
        &large,
    ));
    // An object that the server does not have yet.
    let late = add_pointer(&tree, "late.bin", "late");
    let commit = tree.commit("first");
    tree.push(&["main"]);
    let there = other.paths.repos().join("copy.git");
    let in_sync = wait_for_state(&forge, "nas", "in-sync");
    assert_eq!(
        in_sync["lfs_problem"],
        "the object of late.bin is neither here nor there; `git lfs push --all` from a clone that has what is missing sends it \
         here, and then it is mirrored"
    );
    assert_eq!(objects_of(&there), sorted(wanted.clone()));
    // It follows once it is here, without a push.
    assert_eq!(add_object(&forge, &tree, "late.bin", "late"), late);
    assert_eq!(forge.ssh_ok("mirror sync app"), "nas: in sync\n");
    assert_eq!(mirror(&forge, "nas")["lfs_problem"], json!(null));
    wanted.push(object(&late, "late"));
    assert_eq!(objects_of(&there), sorted(wanted.clone()));

    let said = forge.ssh_ok(&format!("repo import {} back --mirror", other.url("copy")));
    assert!(said.contains("fetched: 122 objects of Git LFS"), "{said}");
    let back = forge.paths.repos().join("back.git");
    assert_eq!(objects_of(&back), sorted(wanted.clone()));
    // What the other side lost is said, and the refs follow all the same.
    let lost = add_object(&forge, &tree, "lost.bin", "lost");
    let newest = tree.push_new("second");
    wait_for_refs(&there, &[format!("refs/heads/main {newest}")]);
    wait_for_state(&forge, "nas", "in-sync");
    fs::remove_file(there.join("lfs/objects").join(place(&lost))).unwrap();
    assert_eq!(forge.ssh_ok("mirror sync back"), "origin: in sync\n");
    let list: Value = serde_json::from_str(&forge.ssh_ok("mirror list back --json")).unwrap();
    assert_eq!(
        list["mirrors"][0]["lfs_problem"],
        "the object of lost.bin is not on the other side; what is missing is fetched once it is there"
    );
    assert_eq!(refs(&back), [format!("refs/heads/main {newest}")]);
    assert_ne!(commit, newest);
}

#[test]
fn a_remote_without_lfs_gets_the_refs_and_it_is_said() {
    let authority = CertificateAuthority::new();
    let server = GitHttpServer::start(&authority.certificate("127.0.0.1"), "me", TOKEN);
    let web = server.repo("app.git");
    let mut forge = forge_with("");
    let nas = nas(&forge);
    let bare = nas.paths.repos().join("copy.git");
    let targets = entry("nas", &nas.url("copy"), "") + &entry("web", &server.url("app.git"), LOGIN);
    configure(&forge, &targets);
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    let tree = lfs_tree(&forge);
    add_object(&forge, &tree, "a.bin", "content");
    let commit = tree.commit("first");
    tree.push(&["main"]);
    for (name, bare) in [("nas", &bare), ("web", &web)] {
        let in_sync = wait_for_state(&forge, name, "in-sync");
        let problem = in_sync["lfs_problem"].as_str().unwrap();
        assert!(
            problem.starts_with("the other side has no Git LFS ("),
            "{problem}"
        );
        assert_eq!(refs(bare), [format!("refs/heads/main {commit}")]);
    }
    assert_eq!(forge.health()["parts"]["mirrors"]["status"], "ok");
    for text in [forge.ssh_ok("mirror list app"), forge.get("/app").body] {
        let said =
            text.matches("objects of Git LFS are not mirrored: the other side has no Git LFS");
        assert!(said.count() >= 2, "{text}");
    }
}

/// An action of the batch API.
fn action(name: &str, href: &str) -> Value {
    json!({"actions": {name: {"href": href, "header": {"Authorization": "Bearer of-the-action"}}}})
}

#[test]
fn what_a_hostile_server_answers_harms_nothing() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate("127.0.0.1");
    let receiver = HttpReceiver::start_tls(&certificate);
    // This address is one of the machine as well, and is not permitted.
    let forbidden = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = forbidden.local_addr().unwrap().port();
    let to = |path: &str| action("upload", &receiver.url(path));
    let mut verified = to("/verified");
    verified["actions"]["verify"] = json!({"href": receiver.url("/verify?secret-in-path")});
    let planned = json!({
        "busy": 503,
        "denied": 403,
        "refused": {"error": {"code": 422, "message": format!("no\nroom for {TOKEN}")}},
        "others": {"oid": "f".repeat(64)},
        "own": action("upload", &format!("https://127.0.0.2:{port}/x")),
        "plain": action("upload", &format!("http://127.0.0.1:{}/x", receiver.port)),
        "moved": to("/moved"),
        "error": to("/error?secret-in-path"),
        "cut": to("/cut"),
        "verified": verified,
    });
    let login = ("me", TOKEN);
    let server = GitHttpServer::start_with_planned_lfs(&certificate, login, &planned);
    let names: Vec<&String> = planned.as_object().unwrap().keys().collect();
    let mut forge = forge_with("");
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    let tree = lfs_tree(&forge);
    add_object(&forge, &tree, "a.bin", "content");
    let commit = tree.commit("first");
    tree.push(&["main"]);
    let answer = |name: &str| match name {
        "moved" => vec![Answer::Status(
            format!("307 Temporary Redirect\r\nLocation: https://127.0.0.2:{port}/\r\n"),
            String::new(),
        )],
        "error" => vec![Answer::status(
            "500 Internal Server Error",
            "{\"message\": \"Bearer of-the-action and /error?secret-in-path\"}",
        )],
        "cut" => vec![Answer::Close],
        "verified" => vec![
            Answer::status("200 OK", ""),
            Answer::status("422 Wrong", "other size"),
        ],
        _ => Vec::new(),
    };
    // One after the other, since the receiver answers in order.
    let mut said = Vec::new();
    for name in names {
        let bare = server.repo(&format!("{name}.git"));
        receiver.plan(answer(name));
        configure(
            &forge,
            &entry(name, &server.url(&format!("{name}.git")), LOGIN),
        );
        forge.signal(nix::sys::signal::Signal::SIGHUP);
        let failing = wait_for_state(&forge, name, "failing");
        assert_eq!(failing["failure"], "lfs", "{failing}");
        // The refs are there all the same.
        assert_eq!(refs(&bare), [format!("refs/heads/main {commit}")]);
        said.push(format!("{name}: {}", failing["problem"].as_str().unwrap()));
        fs::write(forge.paths.config_fennel(), "{}").unwrap();
    }
    let said = said.join("\n");
    let said = said.replace(&server.port.to_string(), "PORT");
    let said = said.replace(&receiver.port.to_string(), "RECEIVER");
    insta::assert_snapshot!(said.replace(&port.to_string(), "OTHER"));
    forbidden.set_nonblocking(true).unwrap();
    assert!(forbidden.accept().is_err(), "nothing connects to it");
    for request in receiver.requests() {
        if request.path.starts_with("/verify?") {
            // The server named no login for it, and the token is for another one.
            assert!(
                request
                    .headers
                    .iter()
                    .all(|(name, _)| name != "authorization")
            );
        } else {
            assert_eq!(request.header("authorization"), "Bearer of-the-action");
            assert_eq!(request.body, "content");
        }
    }
    for text in [forge.log(), said] {
        assert!(
            ![TOKEN, "of-the-action", "secret-in-path"]
                .iter()
                .any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}

/// A server that names another one, the receiver, for each object of a repository.
fn planned_server(
    authority: &CertificateAuthority,
    repo: &str,
    direction: &str,
) -> (HttpReceiver, GitHttpServer) {
    let certificate = authority.certificate("127.0.0.1");
    let receiver = HttpReceiver::start_tls(&certificate);
    let planned = json!({repo: action(direction, &receiver.url("/OID"))});
    let server = GitHttpServer::start_with_planned_lfs(&certificate, ("me", TOKEN), &planned);
    (receiver, server)
}

#[test]
fn an_upload_that_was_cut_is_made_again_by_itself() {
    let authority = CertificateAuthority::new();
    let (receiver, server) = planned_server(&authority, "app", "upload");
    let bare = server.repo("app.git");
    let mut forge = forge_with(&entry("web", &server.url("app.git"), LOGIN));
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    receiver.plan([Answer::Close]);
    let tree = lfs_tree(&forge);
    add_object(&forge, &tree, "a.bin", "content");
    let commit = tree.commit("first");
    tree.push(&["main"]);
    let failing = wait_for_state(&forge, "web", "failing");
    let wait = failing["next_attempt_ms"].as_i64().unwrap()
        - failing["failing_since_ms"].as_i64().unwrap();
    assert!((1..=10_000).contains(&wait), "{failing}");
    assert_eq!(refs(&bare), [format!("refs/heads/main {commit}")]);
    // A push does not wait for the delay.
    let commit = tree.push_new("second");
    wait_for_refs(&bare, &[format!("refs/heads/main {commit}")]);
    wait_for_state(&forge, "web", "in-sync");
    let bodies: Vec<String> = receiver
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert_eq!(bodies, ["content"; 2]);
}

#[test]
fn an_object_that_is_refused_does_not_hold_up_the_others() {
    let authority = CertificateAuthority::new();
    let (receiver, server) = planned_server(&authority, "app", "upload");
    server.repo("app.git");
    let mut forge = forge_with(&entry("web", &server.url("app.git"), LOGIN));
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    receiver.plan([
        Answer::status("413 Content Too Large", "too large"),
        Answer::status("200 OK", ""),
        Answer::status("403 Forbidden", "not yours"),
    ]);
    let tree = lfs_tree(&forge);
    for name in ["a", "b", "c"] {
        add_object(&forge, &tree, &format!("{name}.bin"), name);
    }
    tree.commit("first");
    tree.push(&["main"]);
    let failing = wait_for_state(&forge, "web", "failing");
    let problem = failing["problem"].as_str().unwrap();
    assert!(
        problem.contains("2 were not transferred; that of") && problem.contains("413"),
        "{problem}"
    );
    let requests = receiver.requests().into_iter();
    let bodies: Vec<String> = requests.take(3).map(|request| request.body).collect();
    assert_eq!(bodies, ["a", "b", "c"]);
}

/// A plain sshd whose `git-lfs-authenticate` names a server over HTTPS, as that of a git host does.
#[test]
fn ssh_names_the_server_for_objects() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate("127.0.0.1");
    let server = GitHttpServer::start_with_lfs(&certificate, "me", TOKEN);
    let mut forge = forge_with("");
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    let nas = nas(&forge);
    configure(&forge, &entry("nas", &nas.url("copy"), ""));
    let login = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("me:{TOKEN}"),
    );
    let printed = json!({"href": server.url("team/copy.git/info/lfs"), "header": {"Authorization": format!("Basic {login}")}});
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{}\necho '{printed}'\n",
        nas.paths.data().join("asked").display()
    );
    nas.add_program("git-lfs-authenticate", &script);
    forge.serve();
    let tree = lfs_tree(&forge);
    let oid = add_object(&forge, &tree, "a.bin", "content");
    tree.commit("first");
    tree.push(&["main"]);
    let in_sync = wait_for_state(&forge, "nas", "in-sync");
    assert_eq!(in_sync["lfs_problem"], json!(null));
    assert_eq!(
        files(&server.lfs_objects("team/copy")),
        [object(&oid, "content")]
    );
    let bare = nas.paths.repos().join("copy.git");
    let asked = fs::read_to_string(nas.paths.data().join("asked")).unwrap();
    assert_eq!(asked, format!("{} upload\n", bare.display()));
    // One that has the command and fails is not one without Git LFS.
    let script = "#!/bin/sh\necho 'you have no access' >&2\nexit 1\n";
    nas.add_program("git-lfs-authenticate", script);
    add_object(&forge, &tree, "b.bin", "second");
    tree.push_new("second");
    let failing = wait_for_state(&forge, "nas", "failing");
    assert_eq!(failing["failure"], "lfs");
    assert_eq!(
        failing["problem"],
        "objects of Git LFS are missing: git-lfs-authenticate failed (you have no access)"
    );
}

#[test]
fn what_is_not_the_object_is_not_stored() {
    let authority = CertificateAuthority::new();
    let (receiver, server) = planned_server(&authority, "public/app", "download");
    let mut forge = forge_with("");
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    let bare = server.repo("public/app.git");
    let tree = lfs_tree(&forge);
    let oid = add_pointer(&tree, "a.bin", "content");
    tree.commit("first");
    push_into(&tree.path, &bare, &["main"]);
    let import = format!("repo import {} copy", server.url("public/app.git"));
    let mut said = Vec::new();
    for answer in [
        Answer::status("200 OK", "CONTENT"),
        Answer::status("200 OK", "content that is longer"),
        Answer::status("200 OK", "short"),
        Answer::Close,
        Answer::status("503 Busy", "later"),
        Answer::status("302 Found", ""),
    ] {
        receiver.plan([answer.clone()]);
        let output = forge.ssh(&import);
        let text = transcript(&output).replace(&receiver.port.to_string(), "RECEIVER");
        let line = text
            .lines()
            .find(|line| line.contains("Git LFS:") || line.contains("Git LFS were"));
        said.push(
            format!(
                "{}: {}",
                output.status.code().unwrap(),
                line.unwrap_or(&text)
            )
            .replace(&oid, "OID"),
        );
        if output.status.success() {
            forge.ssh_ok("repo rm copy --yes --now");
        }
    }
    insta::assert_snapshot!(said.join("\n"));
    // What was fetched before goes on to be used, and the right object is stored.
    receiver.plan([Answer::status("200 OK", "content")]);
    forge.ssh_ok(&import);
    assert_eq!(
        objects_of(&forge.paths.repos().join("copy.git")),
        [object(&oid, "content")]
    );
    // An object that has no room is not asked for.
    let huge = "f".repeat(64);
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{huge}\nsize {}\n",
        1_u64 << 60
    );
    tree.write("huge.bin", &pointer);
    tree.commit("huge");
    push_into(&tree.path, &bare, &["main"]);
    receiver.plan([Answer::status("200 OK", "content")]);
    let output = forge.ssh(&format!("{import}2"));
    assert!(
        transcript(&output).contains("the disk has no room for an object of"),
        "{}",
        transcript(&output)
    );
    let mut paths = receiver.requests().into_iter().map(|request| request.path);
    assert!(!paths.any(|path| path.contains(&huge)));
}
