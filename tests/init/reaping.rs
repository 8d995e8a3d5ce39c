//! What is orphaned below `init` is reaped, in any number; and the same test without reaping
//! shows that it is reaping that does it.

use quire_testkit::wait_for;
use quire_types::init_status::ChildState;

use crate::appliance::{Init, Recipe, World, alive};

/// Makes children that end at once, unreaped by their parent; when there are enough, the parent
/// leaves them all to `init` in one go.
fn orphans(count: usize) -> String {
    format!(
        r#"perl -e 'for (1..{count}) {{ my $p = fork; die "fork: $!" unless defined $p; exit 0 unless $p }}' && echo done > "$F/orphaned"; exec sleep 1000"#
    )
}

fn start(world: World, count: usize, leave: bool) -> Init {
    let recipe = Recipe::new(world)
        .child("sshd", "exec sleep 1000")
        .child("serve", &orphans(count));
    let recipe = if leave {
        recipe.argument("--leave-zombies")
    } else {
        recipe
    };
    let init = recipe.start();
    init.wait_for_file("orphaned");
    init
}

#[test]
fn ten_thousand_adopted_zombies_are_gone() {
    for world in [World::First, World::Subreaper] {
        let mut init = start(world, 10_000, false);
        let from = std::time::Instant::now();
        wait_for("no zombie left", || (init.zombies() == 0).then_some(()));
        println!(
            "{world:?}: 10,000 zombies seen gone {:?} after the last was orphaned",
            from.elapsed()
        );
        let serve = init.wait_for_child("serve", |child| child.state == ChildState::Running);
        assert_eq!(
            serve.restarts, 0,
            "a stranger's end is not taken for a child's"
        );
        init.stop();
    }
}

#[test]
fn without_reaping_they_stay() {
    for world in [World::First, World::Subreaper] {
        let mut init = start(world, 100, true);
        wait_for("a hundred zombies", || {
            (init.zombies() == 100).then_some(())
        });
        // Its loop goes round: it sees the end of its own child, by the very signal that tells of orphans too.
        let sshd = init.child("sleep 1000");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(sshd),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        wait_for("a restart", || {
            init.status()
                .filter(|status| status.children.values().any(|child| child.restarts == 1))
        });
        assert_eq!(init.zombies(), 100);
    }
}

#[test]
fn an_orphan_that_ends_later_is_reaped_too() {
    for world in [World::First, World::Subreaper] {
        let script = r#"perl -e 'my $p = fork; if (!$p) { sleep 1 until -e "$ENV{F}/go"; exit 7 } print "$p\n"' > "$F/orphan"; exec sleep 1000"#;
        let mut init = Recipe::new(world)
            .child("sshd", "exec sleep 1000")
            .child("serve", script)
            .start();
        init.wait_for_file("orphan");
        let orphan = init.child("perl");
        std::fs::write(init.recipe.path("go"), "").unwrap();
        wait_for("the orphan to be gone", || (!alive(orphan)).then_some(()));
        init.stop();
    }
}
