//! KILL: nothing is left of a command, whatever it did.

use quire_step::ToHelper;

use crate::client::{Event, Helper, LinkKind, Spec};
use crate::over_both;

over_both!(
    daemons_without_environment_and_signals_are_killed,
    a_fork_storm_at_the_limit_of_processes_is_killed,
    one_command_is_killed_while_another_floods,
    a_tree_that_never_ends_is_killed,
);

/// Kills a command once it has printed `ready`, and shows that no process is left of it.
fn killed_without_rest(helper: &mut Helper, spec: &Spec) {
    let id = helper.begin(spec);
    helper.wait_for(id, "ready");
    helper.kill(id);
    assert_eq!(helper.processes(), Vec::<String>::new());
}

fn daemons_without_environment_and_signals_are_killed(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    for uid in [0, 1000] {
        let script = "trap '' HUP INT TERM QUIT USR1 USR2 PIPE; \
            setsid env -i /bin/sh -c 'trap \"\" HUP TERM; /bin/sleep 1000 & /bin/sleep 1001' </dev/null >/dev/null 2>&1 & \
            (setsid sh -c 'setsid sleep 1002 & exit' & ); \
            sh -c 'kill -STOP $$' & sleep 0.2; echo ready; sleep 1003";
        killed_without_rest(&mut helper, &Spec::shell(script).uid(uid));
    }
}

#[test]
fn a_thousand_sessions_are_killed() {
    let mut helper = Helper::debian(&[]);
    let script =
        "i=0; while [ $i -lt 1000 ]; do setsid -f sleep 1000; i=$((i+1)); done; echo ready";
    killed_without_rest(&mut helper, &Spec::shell(script));
}

fn a_fork_storm_at_the_limit_of_processes_is_killed(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &["--pids-limit", "200"]);
    // A shell that cannot fork ends, so that a storm of shells may end by itself. Perl goes on.
    let storm = r#"$| = 1; print "ready\n"; fork while 1"#;
    let id = helper.begin(&Spec::new(["perl", "-e", storm]).uid(1000));
    helper.wait_for(id, "ready");
    // Until the limit is hit: a further command cannot be started.
    let mut tries = 0;
    while helper.run(&Spec::new(["true"])).error.is_none() {
        tries += 1;
        assert!(tries < 10_000, "the limit is not reached");
    }
    helper.kill(id);
    assert_eq!(helper.processes(), Vec::<String>::new());
    assert_eq!(helper.run(&Spec::new(["true"])).code(), Some(0));
}

#[test]
fn processes_that_fork_and_exit_all_the_time_are_killed() {
    let mut helper = Helper::debian(&[]);
    let script = "echo 'sh ./chain & exit' >chain; sh ./chain; echo ready; sleep 1000";
    killed_without_rest(&mut helper, &Spec::shell(script));
}

#[test]
fn a_stopped_nanny_does_not_hold_up_the_kill() {
    let mut helper = Helper::debian(&[]);
    let script = "kill -STOP $PPID; sleep 1000 & echo ready; exit";
    killed_without_rest(&mut helper, &Spec::shell(script));
}

fn one_command_is_killed_while_another_floods(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let flood = helper.begin(&Spec::shell("yes flood"));
    let quiet = helper.begin(&Spec::shell("sleep 1000"));
    helper.send(quiet, &ToHelper::Kill);
    let mut is_done = false;
    while !is_done {
        match helper.event() {
            (id, Event::Stdout(bytes)) if id == flood => {
                let credit = u32::try_from(bytes.len()).unwrap();
                helper.send(flood, &ToHelper::Credit(credit));
            }
            (id, Event::Done) if id == quiet => is_done = true,
            (id, event) if id == flood => panic!("{event:?}"),
            _ => {}
        }
    }
    helper.kill(flood);
    assert_eq!(helper.processes(), Vec::<String>::new());
}

#[test]
fn a_kill_that_crosses_the_end_is_ignored() {
    let mut helper = Helper::debian(&[]);
    let id = helper.begin(&Spec::new(["true"]));
    helper.finish(id);
    helper.send(id, &ToHelper::Kill);
    helper.send(id, &ToHelper::Stdin(b"late"));
    helper.send(id, &ToHelper::Credit(1));
    helper.send(0, &ToHelper::Ping { nonce: 4, lease: 0 });
    assert_eq!(helper.event(), (0, Event::Pong(4)));
}

fn a_tree_that_never_ends_is_killed(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let id = helper.new_id();
    let frame = ToHelper::Tree {
        uid: 0,
        gid: 0,
        folder: b"/work",
        caches: Vec::new(),
    };
    helper.send(id, &frame);
    assert_eq!(helper.kill(id).error, None);
    assert_eq!(helper.processes(), Vec::<String>::new());
}
