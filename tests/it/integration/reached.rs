//! Addresses in links are those by which their reader reached the appliance, unless one is configured.

use std::fs;

use quire_testkit::TestForge;

use super::GREEN;
use crate::QUIRE;

/// Lets sessions have the variable that sshd sets for a client which connected to this address.
fn connect_to(forge: &TestForge, address: &str) {
    let script = fs::read_to_string(forge.file("client/ssh")).unwrap();
    let at = script.find("exec env -i ").unwrap();
    let rest = script[at..].trim_start_matches("exec env -i ");
    let rest = rest
        .strip_prefix("SSH_CONNECTION=")
        .map_or(rest, |rest| rest.split_once("\" ").unwrap().1);
    let script = format!(
        "{}exec env -i SSH_CONNECTION=\"10.0.0.9 50000 {address} 22\" {rest}",
        &script[..at]
    );
    fs::write(forge.file("client/ssh"), script).unwrap();
}

#[test]
fn links_have_the_address_by_which_their_reader_came() {
    let mut forge = TestForge::start(QUIRE);
    let app = forge.tree_with("app", GREEN);
    let port = forge.port;
    for (reached, host) in [
        ("127.0.0.1", "localhost"),
        ("10.0.0.7", "10.0.0.7"),
        ("fd00::7", "[fd00::7]"),
    ] {
        connect_to(&forge, reached);
        app.commit(reached);
        let pushed = app.push(&["main"]);
        let link = format!("http://{host}:{port}/runs/");
        assert!(pushed.contains(&link), "{link}: {pushed}");
        let login = forge.ssh_ok("login");
        let link = format!("http://{host}:{port}/login/");
        assert!(
            login.starts_with(&link) && !login.contains("QUIRE_HOST"),
            "{link}: {login}"
        );
    }
    // The page of a client that came by another name.
    let page = forge.try_get_as("10.0.0.7:3000", "/app").unwrap().body;
    assert!(page.contains("@10.0.0.7:2222/app.git"), "{page}");

    forge.stop();
    forge.set("QUIRE_SSH_HOST", "git.example.org");
    forge.serve();
    app.commit("configured");
    let pushed = app.push(&["main"]);
    let link = format!("http://git.example.org:{port}/runs/");
    assert!(pushed.contains(&link), "{pushed}");
    let page = forge.try_get_as("10.0.0.7:3000", "/app").unwrap().body;
    assert!(page.contains("@git.example.org:2222/app.git"), "{page}");
}

#[test]
fn behind_a_translation_of_addresses_login_says_what_to_replace() {
    let mut forge = TestForge::new(QUIRE);
    forge.unset("QUIRE_HTTP_LISTEN");
    forge.serve();
    connect_to(&forge, "172.18.0.2");
    let login = forge.ssh_ok("login");
    let link = format!("http://localhost:{}/login/", forge.port);
    assert!(
        login.starts_with(&link)
            && login.contains("put the name of the server in place of localhost"),
        "{login}"
    );
}
