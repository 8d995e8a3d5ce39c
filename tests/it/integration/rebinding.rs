//! Names whose address is permitted when it is checked, and is that of a service of this machine when it is asked for again.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use quire_testkit::{
    CertificateAuthority, GitHttpServer, HttpReceiver, RebindingNameServer, TestForge, skipped,
    transcript,
};
use serde_json::json;

use super::mirrors::{TOKEN, entry, nas, refs, wait_for_state};
use crate::QUIRE;

/// Permitted by the configuration.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// An address of this machine, which is not.
const LATER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A service of this machine that nothing may reach.
struct Forbidden(TcpListener);

impl Forbidden {
    fn at(port: u16) -> Self {
        let listener = TcpListener::bind((LATER, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert!(self.0.accept().is_err(), "it was connected to");
    }
}

/// Each connection goes to the very address that was checked for it: of each name one address is asked for, and when the next connection
/// finds another one, that is checked.
#[test]
fn a_name_that_changes_its_address_reaches_nothing_more() {
    if skipped("root") {
        return;
    }
    let names = RebindingNameServer::start(FIRST, LATER);
    let authority = CertificateAuthority::new();
    let receiver = HttpReceiver::start();
    let objects = HttpReceiver::start_tls(&authority.certificate("objects.test"));
    let href = format!("https://objects.test:{}/OID", objects.port);
    let planned = json!({"art": {"actions": {"upload": {"href": href}}}});
    let login = ("me", TOKEN);
    let certificate = authority.certificate("127.0.0.1");
    let art = GitHttpServer::start_with_planned_lfs(&certificate, login, &planned);
    art.repo("art.git");
    let server = GitHttpServer::start(&authority.certificate("git.test"), login.0, login.1);
    let web = server.repo("app.git");
    let mut forge = TestForge::new(QUIRE);
    let nas = nas(&forge);
    let forbidden = [receiver.port, objects.port, server.port, nas.port].map(Forbidden::at);
    let token = ":user \"me\" :token {:env \"MIRROR_TOKEN\"}";
    let url = format!("https://git.test:{}/app.git", server.port);
    let mirrors = entry("web", &url, token)
        + &entry("nas", &nas.url("copy").replace("127.0.0.1", "nas.test"), "");
    let art = entry("art", &art.url("art.git"), token);
    let text = format!(
        "{{:mirrors {{:allowed-networks [\"127.0.0.1\"] :repos {{:app {{{mirrors}}} :art {{{art}}}}}}}
          :notify {{:allowed-networks [\"127.0.0.1\"]
                   :targets {{:hook {{:type :webhook :url \"http://hook.test:{}/x\"}}}}}}}}",
        receiver.port
    );
    fs::write(forge.paths.config_fennel(), text).unwrap();
    forge.set("MIRROR_TOKEN", TOKEN);
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.resolve_by(&RebindingNameServer::resolv_conf());
    forge.serve();
    forge.ssh_ok("repo new art");
    let tree = forge.tree("art", "art");
    let oid = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    tree.write(
        "a.bin",
        &format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 7\n"),
    );
    let object = forge.paths.repos().join("art.git/lfs/objects/ed/70");
    fs::create_dir_all(&object).unwrap();
    fs::write(object.join(oid), "content").unwrap();
    tree.push_new("art");
    wait_for_state(&forge, "art", "in-sync");
    let tree = forge.tree("work", "app");
    let first = tree.commit("first");
    tree.push(&["main"]);
    // git over HTTPS and SSH connect several times for what was checked once.
    for name in ["web", "nas"] {
        wait_for_state(&forge, name, "in-sync");
    }
    forge.ssh_ok("notify test hook");
    assert_eq!(receiver.requests().len(), 1);
    assert_eq!(objects.requests().len(), 1);
    let asked = ["hook.test", "objects.test", "git.test", "nas.test"];
    assert_eq!(asked.map(|name| names.asked(name)), [1; 4]);
    forbidden.iter().for_each(Forbidden::assert_untouched);
    // The next connection is checked again, and is not made.
    tree.push_new("second");
    for name in ["web", "nas"] {
        let failing = wait_for_state(&forge, name, "failing");
        assert_eq!(failing["failure"], "settings");
        let problem = failing["problem"].as_str().unwrap();
        assert!(
            problem.contains("has the address 127.0.0.2, which is one of this machine"),
            "{problem}"
        );
    }
    assert_eq!(refs(&web), [format!("refs/heads/main {first}")]);
    let refused = transcript(&forge.ssh("notify test hook"));
    assert!(
        refused.contains("hook.test has the address 127.0.0.2"),
        "{refused}"
    );
    assert_eq!(receiver.requests().len(), 1);
    forbidden.iter().for_each(Forbidden::assert_untouched);
}
