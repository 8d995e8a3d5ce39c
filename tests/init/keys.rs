//! Keys reach sshd from three sources at once, and a change of a source reaches it by itself.

use std::fs;

use quire_testkit::wait_for;

use crate::appliance::{Recipe, World};

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
const C: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";

#[test]
fn three_sources_and_a_change_while_it_runs() {
    let recipe = Recipe::new(World::First)
        .child("sshd", "exec sleep 1000")
        .child("serve", "exec sleep 1000");
    let recipe = recipe.variable("QUIRE_AUTHORIZED_KEYS", &format!("\"{A} from compose\""));
    let (kept, mounted, effective) = (
        recipe.path("data/authorized_keys"),
        recipe.path("mounted"),
        recipe.path("data/runtime/authorized_keys"),
    );
    let flag = format!("--keys={}", mounted.display());
    fs::write(
        &mounted,
        format!(
            "{A} again\n{B} mounted\nssh-ed25519 oops\ncommand=\"git-shell\" {C} less than a key\n"
        ),
    )
    .unwrap();
    let mut init = recipe.argument(&flag).start();
    let output = init.wait_for_output("ready:");
    assert!(
        output.contains("(2 keys)")
            && output.contains("mounted, line 3, is ignored: the key is cut short"),
        "{output}"
    );

    assert!(
        output.contains("mounted, line 4, is ignored: its option `command` has no effect here"),
        "{output}"
    );
    assert!(
        !fs::read_to_string(&effective).unwrap().contains(C),
        "a key for one command is no key for everything"
    );

    fs::write(&kept, format!("{C} kept\n")).unwrap();
    let text = wait_for("the third key", || {
        fs::read_to_string(&effective)
            .ok()
            .filter(|text| text.contains("kept"))
    });
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            format!("{C} kept"),
            format!("{A} again"),
            format!("{B} mounted")
        ]
    );
    wait_for("the status", || {
        init.status().filter(|status| {
            status.keys == 3 && status.warnings.iter().any(|w| w.contains("line 3"))
        })
    });

    fs::remove_file(&kept).unwrap();
    wait_for("the key to be gone", || {
        fs::read_to_string(&effective)
            .ok()
            .filter(|text| !text.contains("kept"))
    });
    fs::remove_file(&effective).unwrap();
    init.send(nix::libc::SIGHUP);
    init.wait_for_output("reloading");
    wait_for("the file to be made again", || {
        fs::read_to_string(&effective)
            .ok()
            .filter(|text| text.contains("mounted"))
    });
    init.stop();
}
