//! What the process may still do, for the day when Lua is broken out of. This test starts itself
//! anew: the child enters the sandbox and tries everything, the parent reads how that went.

use std::fs;
use std::io::{self, Write};

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal;
use nix::unistd::{self, Pid};

use super::*;

/// Tells the child that it is one, and what is to be closed.
const VARIABLE: &str = "QUIRE_TEST_SANDBOX";

type Attempt = (&'static str, fn() -> io::Result<()>);

fn done<T>(result: io::Result<T>) -> io::Result<()> {
    result.map(drop)
}

fn parent() -> Pid {
    unistd::getppid()
}

/// Files. The one that is opened without harm comes first.
const FILES: &[Attempt] = &[
    ("open a file", || done(fs::File::open("/etc/passwd"))),
    ("read what the parent's environment holds", || {
        done(fs::read("/proc/1/environ"))
    }),
    ("list a folder", || done(fs::read_dir("/"))),
    ("write a file", || fs::write("/tmp/quire-sandbox-test", "x")),
    ("make a folder", || {
        fs::create_dir("/tmp/quire-sandbox-test.d")
    }),
];

/// Everything else.
const OTHERS: &[Attempt] = &[
    ("look at a file", || done(fs::metadata("/etc/passwd"))),
    ("read a link", || done(fs::read_link("/proc/self/exe"))),
    ("remove a file", || {
        fs::remove_file("/tmp/quire-sandbox-test")
    }),
    ("rename a file", || {
        fs::rename("/tmp/quire-sandbox-test", "/tmp/quire-sandbox-test.2")
    }),
    ("change the folder", || {
        unistd::chdir("/tmp").map_err(Into::into)
    }),
    ("change the root", || {
        unistd::chroot("/").map_err(Into::into)
    }),
    ("connect to the network", || {
        done(TcpStream::connect("127.0.0.1:9"))
    }),
    ("listen on the network", || {
        done(TcpListener::bind("127.0.0.1:0"))
    }),
    ("send a datagram", || done(UdpSocket::bind("127.0.0.1:0"))),
    ("connect to the engine", || {
        done(UnixStream::connect("/var/run/docker.sock"))
    }),
    ("listen on a socket", || {
        done(UnixListener::bind("/tmp/quire-sandbox-test.sock"))
    }),
    ("make a pair of sockets", || done(UnixStream::pair())),
    ("make a pipe", || done(unistd::pipe().map_err(Into::into))),
    ("copy a descriptor", || {
        done(unistd::dup(io::stdin()).map_err(Into::into))
    }),
    ("start a process", || start().map(|_| ())),
    ("become another program", || {
        done(unistd::execv(c"/bin/true", &[c"true"]).map_err(Into::into))
    }),
    ("start a thread", || {
        done(std::thread::Builder::new().spawn(|| ()))
    }),
    ("look whether the parent lives", || {
        signal::kill(parent(), None).map_err(Into::into)
    }),
    ("take the limits back", || {
        setrlimit(Resource::RLIMIT_AS, u64::MAX, u64::MAX).map_err(Into::into)
    }),
    ("let others look in", || {
        nix::sys::prctl::set_dumpable(true).map_err(Into::into)
    }),
    ("enter another name space", || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into)
    }),
    ("mount", || {
        nix::mount::mount(
            Some("none"),
            "/tmp",
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .map_err(Into::into)
    }),
    ("become a leader of a session", || {
        done(unistd::setsid().map_err(Into::into))
    }),
];

#[expect(
    clippy::disallowed_methods,
    reason = "the point is that it does not work"
)]
fn start() -> io::Result<std::process::Child> {
    Command::new("/bin/true").stdin(Stdio::inherit()).spawn()
}

/// The tests' own process, started once more to run [`child`] alone.
#[expect(clippy::disallowed_methods, reason = "a test starts itself")]
fn said(what: &str) -> Vec<(String, String)> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "driver::sandbox::tests::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(VARIABLE, what)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("tried: ")?.split_once(" = "));
    lines
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect()
}

fn tell(name: &str, outcome: &str) {
    let _ = writeln!(io::stdout(), "tried: {name} = {outcome}");
}

fn attempt(attempts: &[Attempt]) {
    for (name, act) in attempts {
        let outcome = act().map_or_else(
            |error| {
                error
                    .raw_os_error()
                    .map_or(error.to_string(), |raw| Errno::from_raw(raw).to_string())
            },
            |()| "done".to_owned(),
        );
        tell(name, &outcome);
    }
}

/// Not a test of its own: what [`said`] starts.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("all") => {
            // Not on the line that the test's own name stands on.
            println!();
            enter().unwrap();
            attempt(FILES);
            attempt(OTHERS);
            tell("the end", "reached");
            // Not even the end of a thread is left as it was; the process ends here.
            std::process::exit(0);
        }
        Ok("no seccomp") => {
            println!();
            let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
            let denied = BTreeMap::from([(libc::SYS_seccomp, Vec::new())]);
            let denied = SeccompFilter::new(
                denied,
                SeccompAction::Allow,
                SeccompAction::Errno(libc::EPERM.unsigned_abs()),
                arch,
            )
            .unwrap();
            let denied: BpfProgram = denied.try_into().unwrap();
            seccompiler::apply_filter(&denied).unwrap();
            tell(
                "enter",
                &enter().map_or_else(|error| error.to_string(), |()| "done".to_owned()),
            );
            std::process::exit(0);
        }
        Ok("landlock") => {
            println!();
            let status = close_file_system().map_or_else(
                |error| error.to_string(),
                |status| format!("{:?}", status.ruleset),
            );
            tell("landlock", &status);
            attempt(FILES);
            std::process::exit(0);
        }
        _ => {}
    }
}

#[test]
fn nothing_is_left_but_computing() {
    let said = said("all");
    let wanted: Vec<(String, String)> = FILES
        .iter()
        .chain(OTHERS)
        .map(|(name, _)| ((*name).to_owned(), Errno::EPERM.to_string()))
        .chain([("the end".to_owned(), "reached".to_owned())])
        .collect();
    assert_eq!(said, wanted);
}

#[test]
fn where_the_kernel_has_landlock_it_closes_the_file_system_too() {
    let said = said("landlock");
    let (status, files) = said.split_first().unwrap();
    // Elsewhere seccomp alone holds.
    let enforced = ["FullyEnforced", "PartiallyEnforced"].contains(&status.1.as_str());
    assert!(enforced || status.1 == "NotEnforced", "{status:?}");
    println!("landlock on this kernel: {}", status.1);
    if enforced {
        for (name, outcome) in files {
            assert_eq!(*outcome, Errno::EACCES.to_string(), "{name}");
        }
    }
}

#[test]
fn a_kernel_that_takes_no_filter_is_told() {
    let said = said("no seccomp");
    assert!(
        said[0]
            .1
            .starts_with("this kernel takes no filter of system calls (seccomp): "),
        "{said:?}"
    );
}
