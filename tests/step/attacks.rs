//! What a command, also one of root, cannot do to the helper.

use quire_step::{ExitStatus, ToHelper};

use crate::client::{Event, Helper, LinkKind, Spec};
use crate::over_both;

over_both!(
    the_helper_cannot_be_killed_or_stopped,
    a_command_that_kills_its_nanny_is_lost_and_leaves_nothing,
    a_command_that_kills_all_processes_ends_the_others_only,
    the_helper_cannot_be_looked_into,
    the_helper_cannot_be_traced_nor_its_descriptors_taken,
);

/// The helper still answers, and still runs commands.
fn is_well(helper: &mut Helper) {
    helper.send(0, &ToHelper::Ping { nonce: 9, lease: 0 });
    while helper.event() != (0, Event::Pong(9)) {}
    assert_eq!(helper.run(&Spec::new(["echo", "well"])).stdout(), "well\n");
    assert_eq!(helper.processes(), Vec::<String>::new());
}

fn the_helper_cannot_be_killed_or_stopped(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    for uid in [0, 1000] {
        let script = "for s in HUP INT QUIT ILL ABRT KILL SEGV PIPE TERM STOP TSTP CHLD USR1; do kill -$s 1 2>/dev/null; done; echo done";
        let outcome = helper.run(&Spec::shell(script).uid(uid));
        assert_eq!(outcome.stdout(), "done\n");
        is_well(&mut helper);
    }
}

fn a_command_that_kills_its_nanny_is_lost_and_leaves_nothing(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let script = "setsid sleep 1000 & kill -9 $PPID; sleep 1000; echo alive";
    let outcome = helper.run(&Spec::shell(script));
    assert_eq!(outcome.status, Some(ExitStatus::Lost));
    is_well(&mut helper);
    // The same after its first process has ended.
    let script = "n=$PPID; (sleep 0.2; kill -9 $n; sleep 1000) & echo started";
    let outcome = helper.run(&Spec::shell(script));
    assert_eq!(outcome.code(), Some(0));
    is_well(&mut helper);
    // A user that is not root cannot.
    let outcome = helper.run(&Spec::shell("kill -9 $PPID 2>/dev/null || echo denied").uid(1000));
    assert_eq!(outcome.stdout(), "denied\n");
}

fn a_command_that_kills_all_processes_ends_the_others_only(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    let other = helper.begin(&Spec::shell("echo ready; sleep 1000"));
    helper.wait_for(other, "ready");
    let killer = helper.begin(&Spec::shell("kill -9 -1; echo survived; exit 5"));
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let (id, event) = helper.event();
        if let Event::Exited(status) = event {
            ends.push((id, status));
        }
    }
    ends.sort_by_key(|(id, _)| *id);
    assert_eq!(
        ends,
        [(other, ExitStatus::Lost), (killer, ExitStatus::Lost)]
    );
    is_well(&mut helper);
}

fn the_helper_cannot_be_looked_into(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    for uid in [0, 1000] {
        // The helper, and the nanny of the command.
        let script = "for p in 1 $PPID; do \
            for f in fd/0 fd/1 mem environ maps root cwd exe; do \
              if ls -L /proc/$p/$f/ >/dev/null 2>&1 || head -c1 /proc/$p/$f >/dev/null 2>&1 || readlink /proc/$p/$f >/dev/null 2>&1; then echo open $p $f; fi; \
            done; echo x >/proc/$p/fd/1; done 2>/dev/null; echo end";
        let outcome = helper.run(&Spec::shell(script).uid(uid));
        assert_eq!(outcome.stdout(), "end\n", "uid {uid}");
    }
    is_well(&mut helper);
}

fn the_helper_cannot_be_traced_nor_its_descriptors_taken(link: LinkKind) {
    let mut helper = Helper::debian_over(link, &[]);
    // perl-base is part of Debian. ptrace(PTRACE_ATTACH and PTRACE_SEIZE), pidfd_open and pidfd_getfd,
    // process_vm_readv: numbers of x86_64.
    let script = r#"
        for my $pid (1, getppid()) {
            for my $request (16, 0x4206) {
                print "traced $pid\n" if syscall(101, $request, $pid, 0, 0) == 0;
            }
            my $pidfd = syscall(434, $pid, 0);
            for my $fd (0..20) {
                print "taken $pid $fd\n" if $pidfd >= 0 && syscall(438, $pidfd, $fd, 0) >= 0;
            }
        }
        print "end\n";
    "#;
    for uid in [0, 1000] {
        let outcome = helper.run(&Spec::new(["perl", "-e", script]).uid(uid));
        assert_eq!(outcome.stdout(), "end\n", "uid {uid}: {outcome:?}");
    }
    is_well(&mut helper);
}
