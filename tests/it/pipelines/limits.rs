//! What a pipeline may not do, through the binary: each fails with one sentence that a person can
//! read, and the program that ran it goes on.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::{Checked, check, program};

/// The longest line that may be shown, in characters: a sentence, its place and what is drawn around it.
const READABLE: usize = 2_400;

fn tree(file: &str, text: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".quire")).unwrap();
    std::fs::write(folder.path().join(".quire").join(file), text).unwrap();
    folder
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the binary as a person would"
)]
fn on_host(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .args(["ci", "run", "--executor", "host"])
        .current_dir(folder)
        .env("NO_COLOR", "1");
    command
}

fn ran(text: &str) -> Checked {
    let folder = tree("ci.fnl", text.as_bytes());
    let output = on_host(folder.path()).output().unwrap();
    Checked {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// All that was said, unwrapped.
fn transcript(checked: &Checked) -> String {
    let text = format!("{}\n{}", checked.stdout, checked.stderr);
    assert!(
        !text.contains("panicked") && !text.contains("internal error"),
        "{text:.2000}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= READABLE),
        "a line of {:?}",
        text.lines().map(str::len).max()
    );
    text.replace("\n  │ ", " ")
}

#[test]
fn a_file_that_asks_for_too_much_is_refused_with_a_sentence() {
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let cases: [(&str, &str, String, &str); 16] = [
        ("a string of 10 GB", "ci.fnl", "(string.rep :x 10000000000)".to_owned(), "it needs more memory than a pipeline may use (256 MiB)"),
        ("a million jobs", "ci.fnl", "(local ci (require :quire.ci)) (for [i 1 1000000] (ci.job (.. :j i) [:quire/push] #nil))".to_owned(), "the pipeline registers more than 10000 jobs"),
        ("an id of a megabyte", "ci.fnl", "((. (require :quire.ci) :job) (string.rep :x 1048576) [:quire/push] #nil)".to_owned(), "it is 1048576 bytes long, the longest allowed is 128"),
        ("an id with NUL", "ci.fnl", r#"((. (require :quire.ci) :job) "a\0b" [:quire/push] #nil)"#.to_owned(), "is not a job id: it contains white space or a control character"),
        ("an id that is no UTF-8", "ci.fnl", r#"((. (require :quire.ci) :job) "\255" [:quire/push] #nil)"#.to_owned(), "a job's id is not valid UTF-8"),
        ("an input that is no UTF-8", "ci.fnl", "((. (require :quire.ci) :job) :a [\"\\255\"] #nil)".to_owned(), "job `a` waits for `\u{fffd}`, which is not a job"),
        ("NUL in the source", "ci.fnl", "\0(local ci 1)".to_owned(), "the file cannot be parsed: invalid character: \u{fffd}"),
        ("more than a line of the protocol", "ci.fnl", r#"(local ci (require :quire.ci)) (local ins []) (for [i 1 10] (tset ins i (.. (string.rep :x 500) i))) (for [i 1 9999] (ci.job (.. (string.rep "\0" 500) i) ins #nil))"#.to_owned(), "the pipeline registers more than can be reported | evaluating the pipeline took longer than 5 seconds and was stopped"),
        ("an error of 10 MB", "ci.fnl", "(error (string.rep :x 10000000))".to_owned(), "x…"),
        ("recursion", "ci.lua", "local function f() return 1 + f() end f()".to_owned(), "it calls itself too deeply (stack overflow) | the file ran for longer than 5s and was stopped | evaluating the pipeline took longer than 5 seconds and was stopped"),
        ("parentheses never closed", "ci.fnl", "(".repeat(100_000), "the file cannot be parsed: expected closing delimiters | or is it nested very deeply?"),
        ("nested parentheses", "ci.fnl", deep("(", ")"), "the file does not compile: expected a function, macro, or special to call | or is it nested very deeply?"),
        ("nested brackets", "ci.fnl", deep("[", "]"), "the file does not compile: it is nested too deeply | or is it nested very deeply?"),
        ("nested braces", "ci.fnl", deep("{", "}"), "the file cannot be parsed: expected even number of values | or is it nested very deeply?"),
        ("nested Lua", "ci.lua", format!("local x = {}", deep("(", ")")), "it calls itself too deeply (stack overflow)"),
        ("a file of 2 MiB", "ci.fnl", ";".repeat(2 << 20), ".quire/ci.fnl is not UTF-8 text of at most 1024 KiB"),
    ];
    for (what, file, text, expected) in cases {
        let checked = check(&[(&format!(".quire/{file}"), &text)], &[]);
        assert_eq!(
            checked.code, 1,
            "{what}: {:.300}{:.300}",
            checked.stdout, checked.stderr
        );
        let printed = transcript(&checked);
        // On a busy machine the time is over before Lua or the compiler has seen how deep it goes.
        assert!(
            expected.split(" | ").any(|one| printed.contains(one)),
            "{what}: {printed:.1000}"
        );
    }
    let folder = tree("ci.fnl", b"(local ci \"\xff\")");
    let checked = super::support::check_in(folder.path(), &[]);
    assert!(
        checked.code == 1 && transcript(&checked).contains(".quire/ci.fnl is not UTF-8 text"),
        "{}",
        checked.stderr
    );
}

#[test]
fn what_a_job_cannot_return_or_run_fails_it_with_a_sentence() {
    for (body, expected) in [
        (
            "(local t {}) (set t.t [t]) t",
            "the value that it returned cannot be stored: `t[1]` contains itself",
        ),
        (
            "#1",
            "the value that it returned cannot be stored: it is a function",
        ),
        (
            "{:f [#1]}",
            "the value that it returned cannot be stored: `f[1]` is a function",
        ),
        (
            "(coroutine.create #1)",
            "the value that it returned cannot be stored: it is a thread",
        ),
        (
            "{:x (/ 0 0)}",
            "the value that it returned cannot be stored: `x` is not a finite number",
        ),
        (
            "[(/ 1 0)]",
            "the value that it returned cannot be stored: `[1]` is not a finite number",
        ),
        (
            "{true 1}",
            "it has a key of type boolean: keys are strings, or numbers from 1 without a gap",
        ),
        ("{[] 1}", "it has a key of type table: keys are strings"),
        ("{1.5 1}", "it has a key of type number: keys are strings"),
        (
            "(var t {}) (for [i 1 100000] (set t {: t})) t",
            "is nested more than 64 tables deep",
        ),
        (
            "(local t []) (for [i 1 200000] (tset t i i)) t",
            "it has more than 100000 values",
        ),
        (
            "(string.rep :x 5000000)",
            "it has more than 4194304 bytes of text",
        ),
        (
            "\"\\255\"",
            "the value that it returned cannot be stored: it is text that is not valid UTF-8",
        ),
        ("{:exit (string.rep :x 1000000)}", "it returned :exit xxxxx"),
        (r#"(sh "echo a\0b")"#, "a command contains a NUL byte"),
        (
            r#"(sh ["echo" "\255"])"#,
            "each part of a command is not valid UTF-8",
        ),
        (
            "(sh (string.rep :x 3000000))",
            "the command is longer than 1 MiB",
        ),
        (
            r#"(sh :true {:env {:A "a\0b"}})"#,
            "the variable A contains a NUL byte",
        ),
        (r#"(sh :true {:cwd "a\0b"})"#, ":cwd contains a NUL byte"),
        ("(log #1)", "`log` takes text, not function"),
        (
            "(string.rep :x 10000000000)",
            "it needs more memory than a pipeline may use (256 MiB)",
        ),
        (
            "(fn f [] (+ 1 (f))) (f)",
            "it calls itself too deeply (stack overflow)",
        ),
        ("(error (string.rep :x 10000000))", "x…"),
        ("(error (doto {} (tset :e (string.rep :x 3000000))))", "x…"),
        (
            "(while true nil)",
            "it ran for longer than its time limit of 1s and was stopped",
        ),
        (
            "(while true (pcall #(while true nil)))",
            "it ran for longer than its time limit of 1s and was stopped",
        ),
        (
            "(. (setmetatable {} {:__index #(while true nil)}) :x)",
            "it ran for longer than its time limit of 1s and was stopped",
        ),
        (
            "(table.sort [3 2 1 5 4] #(while true nil))",
            "it ran for longer than its time limit of 1s and was stopped",
        ),
        (
            "(while true (log :x))",
            "it ran for longer than its time limit of 1s and was stopped",
        ),
    ] {
        // Time enough for what is not a loop, however busy the machine.
        let limit = if body.contains("while true") {
            "1s"
        } else {
            "2m"
        };
        let checked = ran(&format!(
            r#"(local ci (require :quire.ci))
(ci.job :a [:quire/push] {{:timeout "{limit}"}} (fn [{{: sh : log}}]
{body}))
(ci.job :b [:quire/push] #:fine)"#
        ));
        let printed = transcript(&checked);
        assert_eq!(checked.code, 1, "{body}: {printed:.1000}");
        assert!(
            printed.contains(expected) && printed.contains("✗ failed after"),
            "{body}: {printed:.1000}"
        );
        assert!(
            printed.contains("✓ b  complete"),
            "{body}: the other job went on: {printed:.1000}"
        );
    }
}

/// Where nothing can interrupt a function, the run ends with it, a little after the job's time.
#[test]
fn a_job_that_cannot_be_interrupted_ends_the_run() {
    for body in [
        "(table.sort [3 2 1 5 4] (fn [] (while true (pcall #(while true nil)))))",
        "(string.find (string.rep :a 5000) (.. (string.rep \"a*\" 30) :b))",
    ] {
        let checked = ran(&format!(
            r#"(local ci (require :quire.ci))
(ci.job :a [:quire/push] {{:timeout "1s"}} (fn []
{body}))"#
        ));
        let printed = transcript(&checked);
        assert_eq!(checked.code, 1, "{body}: {printed:.1000}");
        assert!(
            printed.contains("job `a` timed out and its function could not be stopped"),
            "{body}: {printed:.1000}"
        );
    }
}

#[test]
fn bytes_of_any_kind_are_taken_where_they_are_data() {
    let checked = ran(r#"(local ci (require :quire.ci))
(ci.job :a [:quire/push] (fn [{: sh : log}]
  (log "a\0b\255")
  (let [r (sh "printf 'x\\0\\377y'; wc -c" {:stdin "\0\255\n"})]
    (assert (= r.stdout "x\0\255y3\n") "the bytes are not the same")
    {:nul "a\0b" : r})))"#);
    assert_eq!(
        (checked.code, checked.stderr.as_str()),
        (0, ""),
        "{}",
        checked.stdout
    );
}

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

/// Runs a job that prints so many bytes in one command; the most memory of the process that ran it.
fn peak_with_output(bytes: u64) -> u64 {
    let mark: PathBuf = tempfile::tempdir().unwrap().keep();
    let text = format!(
        r#"(local ci (require :quire.ci))
(ci.job :a [:quire/push] (fn [{{: sh}}]
  (let [r (sh "head -c {bytes} /dev/zero | tr '\\0' '\\n'")]
    (assert (= r.exit 0)))
  (sh "touch {0}/printed; while [ ! -e {0}/seen ]; do sleep 0.05; done")))"#,
        mark.display()
    );
    let folder = tree("ci.fnl", text.as_bytes());
    let mut child = on_host(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !mark.join("printed").exists()
        && child.try_wait().unwrap().is_none()
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let peak = peak(child.id());
    std::fs::write(mark.join("seen"), "").unwrap();
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    let status = child.wait().unwrap();
    std::fs::remove_dir_all(mark).unwrap();
    assert!(status.success(), "{errors}");
    peak.unwrap()
}

#[test]
fn memory_does_not_grow_with_the_output_of_a_command() {
    let (little, much) = (peak_with_output(1_000), peak_with_output(100_000_000));
    assert!(
        much < little + (40 << 10),
        "{little} KiB with little output, {much} KiB with 100 MB"
    );
}
