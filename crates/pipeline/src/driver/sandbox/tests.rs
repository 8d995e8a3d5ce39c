//! Checks what a process in the sandbox can still do. The tests start this program again: the child
//! enters the sandbox and tries everything, and the parent reads the outcomes.

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

/// Tells the child which sandbox to enter.
const VARIABLE: &str = "QUIRE_TEST_SANDBOX";

type Attempt = (&'static str, fn() -> io::Result<()>);

fn without_value<T>(result: io::Result<T>) -> io::Result<()> {
    result.map(drop)
}

fn parent() -> Pid {
    unistd::getppid()
}

/// Accesses to files.
const FILES: &[Attempt] = &[
    ("open a file", || {
        without_value(fs::File::open("/etc/passwd"))
    }),
    ("read what the parent's environment holds", || {
        without_value(fs::read("/proc/1/environ"))
    }),
    ("list a folder", || without_value(fs::read_dir("/"))),
    ("write a file", || fs::write("/tmp/quire-sandbox-test", "x")),
    ("make a folder", || {
        fs::create_dir("/tmp/quire-sandbox-test.d")
    }),
];

const OTHERS: &[Attempt] = &[
    ("look at a file", || {
        without_value(fs::metadata("/etc/passwd"))
    }),
    ("read a link", || {
        without_value(fs::read_link("/proc/self/exe"))
    }),
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
        without_value(TcpStream::connect("127.0.0.1:9"))
    }),
    ("listen on the network", || {
        without_value(TcpListener::bind("127.0.0.1:0"))
    }),
    ("send a datagram", || {
        without_value(UdpSocket::bind("127.0.0.1:0"))
    }),
    ("connect to the engine", || {
        without_value(UnixStream::connect("/var/run/docker.sock"))
    }),
    ("listen on a socket", || {
        without_value(UnixListener::bind("/tmp/quire-sandbox-test.sock"))
    }),
    ("make a pair of sockets", || {
        without_value(UnixStream::pair())
    }),
    ("make a pipe", || {
        without_value(unistd::pipe().map_err(Into::into))
    }),
    ("copy a descriptor", || {
        without_value(unistd::dup(io::stdin()).map_err(Into::into))
    }),
    ("start a process", || start().map(|_| ())),
    ("become another program", || {
        without_value(unistd::execv(c"/bin/true", &[c"true"]).map_err(Into::into))
    }),
    ("start a thread", || {
        without_value(std::thread::Builder::new().spawn(|| ()))
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
        without_value(unistd::setsid().map_err(Into::into))
    }),
];

#[expect(
    clippy::disallowed_methods,
    reason = "the point is that it does not work"
)]
fn start() -> io::Result<std::process::Child> {
    Command::new("/bin/true").stdin(Stdio::inherit()).spawn()
}

/// Starts this program again to run only [`child`], and returns the outcomes by attempt.
#[expect(clippy::disallowed_methods, reason = "a test starts itself")]
fn run_child(what: &str) -> Vec<(String, String)> {
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

fn print_outcome(name: &str, outcome: &str) {
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
            |()| "without_value".to_owned(),
        );
        print_outcome(name, &outcome);
    }
}

/// Not a test of its own: [`run_child`] starts it.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("all") => {
            // Ends the line that the test runner has begun.
            println!();
            enter().unwrap();
            attempt(FILES);
            attempt(OTHERS);
            print_outcome("the end", "reached");
            // The sandbox does not allow what the end of a thread needs, so the process exits here.
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
            print_outcome(
                "enter",
                &enter().map_or_else(|error| error.to_string(), |()| "without_value".to_owned()),
            );
            std::process::exit(0);
        }
        Ok("landlock") => {
            println!();
            let status = restrict_file_system().map_or_else(
                |error| error.to_string(),
                |status| format!("{:?}", status.ruleset),
            );
            print_outcome("landlock", &status);
            attempt(FILES);
            std::process::exit(0);
        }
        _ => {}
    }
}

#[test]
fn the_sandbox_allows_only_computing() {
    let outcomes = run_child("all");
    let expected: Vec<(String, String)> = FILES
        .iter()
        .chain(OTHERS)
        .map(|(name, _)| ((*name).to_owned(), Errno::EPERM.to_string()))
        .chain([("the end".to_owned(), "reached".to_owned())])
        .collect();
    assert_eq!(outcomes, expected);
}

#[test]
fn landlock_denies_file_access_where_it_is_supported() {
    let outcomes = run_child("landlock");
    let (status, files) = outcomes.split_first().unwrap();
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
fn a_kernel_without_seccomp_is_an_error() {
    let outcomes = run_child("no seccomp");
    assert!(
        outcomes[0]
            .1
            .starts_with("the kernel does not accept a system call filter (seccomp): "),
        "{outcomes:?}"
    );
}
