//! Who gets in: keys in three ways, and nobody else.

use std::fs;

use quire_testkit::{text, wait_for_or_report};

use crate::appliance::Appliance;
use crate::client::Client;

#[test]
fn keys_from_environment_mounted_file_and_volume_work_together() {
    let mut appliance = Appliance::prepare();
    let [by_environment, by_file, by_volume] =
        ["environment", "file", "volume"].map(|name| Client::new(&appliance, name));
    // Quotes as a compose file may leave them.
    appliance.set(
        "QUIRE_AUTHORIZED_KEYS",
        &format!("'{}'", by_environment.public_key()),
    );
    let file = appliance.folder.path().join("mounted_keys");
    fs::write(&file, by_file.public_key() + "\n").unwrap();
    // Owned by a stranger of the host: modes and owners must not matter.
    std::os::unix::fs::chown(&file, Some(4321), Some(4321)).unwrap();
    appliance.add_to_service(&format!(
        "    volumes:\n      - {}:/etc/quire/authorized_keys:ro",
        file.display()
    ));
    appliance.up();
    by_environment.ssh_ok(&["repo", "list"]);
    by_file.ssh_ok(&["repo", "list"]);

    let script = format!(
        "echo '{}' >> /var/quire/authorized_keys",
        by_volume.public_key()
    );
    appliance.exec(&["sh", "-c", &script]);
    let let_in = || {
        by_volume
            .ssh(&["repo", "list"])
            .status
            .success()
            .then_some(())
    };
    wait_for_or_report("a key added to the volume to be let in", let_in, || {
        appliance.log()
    });
    for name in ["environment", "file", "volume"] {
        assert!(by_volume.ssh_ok(&["key", "list"]).contains(name));
    }
}

#[test]
fn a_strangers_key_is_refused_and_so_is_every_other_user() {
    let (appliance, owner) = Appliance::with_client();
    let stranger = Client::new(&appliance, "stranger");
    let refused = stranger.ssh(&["repo", "list"]);
    assert_eq!(
        refused.status.code(),
        Some(255),
        "{}",
        text(&refused.stderr)
    );
    assert!(
        text(&refused.stderr).contains("Permission denied (publickey)"),
        "{}",
        text(&refused.stderr)
    );
    for user in ["root", "nobody"] {
        let refused = quire_testkit::run(&mut owner.ssh_command_as(user, &["status"]));
        assert_eq!(
            refused.status.code(),
            Some(255),
            "{user}: {}",
            text(&refused.stdout)
        );
    }
}

#[test]
fn what_is_not_on_the_list_is_refused_without_a_shell() {
    let (_appliance, owner) = Appliance::with_client();
    for command in [
        "sh",
        "cat /etc/passwd",
        "git-upload-pack '../../etc'; id",
        "$(id)",
        "git-shell",
    ] {
        let refused = owner.ssh(&[command]);
        assert_eq!(
            refused.status.code(),
            Some(128),
            "{command}: {}{}",
            text(&refused.stdout),
            text(&refused.stderr)
        );
        assert!(!text(&refused.stdout).contains("uid="), "{command}");
    }
}
