//! `quire ci run` on a terminal: the log goes by, and below it stands how the run does. What is on
//! the screen at each moment is worked out by a terminal emulator.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Instant;

use nix::pty::{Winsize, openpty};
use quire_testkit::WAIT_TIMEOUT;

use super::run::Project;

const ROWS: u16 = 24;
const COLUMNS: u16 = 60;

/// Runs in a terminal; returns the screen after each change, and the exit code. `on_change` sees
/// the screens so far whenever there is a new one.
fn screens_of(
    project: &Project,
    term: &str,
    arguments: &[&str],
    mut on_change: impl FnMut(&[String]),
) -> (Vec<String>, i32) {
    let size = Winsize {
        ws_row: ROWS,
        ws_col: COLUMNS,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).unwrap();
    let mut command = project.command(arguments);
    command
        .env("TERM", term)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    let mut child = command
        .stdout(pty.slave)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(command);
    let mut terminal = vt100::Parser::new(ROWS.try_into().unwrap(), COLUMNS.try_into().unwrap(), 0);
    let (mut master, mut buffer, mut screens) =
        (File::from(pty.master), [0; 4096], Vec::<String>::new());
    // The end of a terminal is an error on Linux.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        terminal.process(&buffer[..read]);
        let rows: Vec<String> = terminal
            .screen()
            .rows(0, COLUMNS)
            .map(|row| row.trim_end().to_owned())
            .collect();
        let screen = rows.join("\n").trim_end().to_owned();
        if screens.last() != Some(&screen) {
            screens.push(screen);
            on_change(&screens);
        }
    }
    (screens, child.wait().unwrap().code().unwrap())
}

/// One job waits until the test lets it go, with a line that has no end yet; another waits for it.
fn held(project: &Project) -> (String, std::path::PathBuf) {
    let go = project.root().join("../go");
    let pipeline = format!(
        r#"(local ci (require :quire.ci))
         (ci.job :lint [:quire/push] (fn [{{: sh}}] (sh "echo fine")))
         (ci.job :test [:quire/push] (fn [{{: sh}}] (sh "echo first; printf 'no end yet'; until test -e {} ; do sleep 0.05; done; echo ' now'")))
         (ci.job :package [:lint :test] (fn [{{: sh}}] (sh "echo packed")))"#,
        go.display()
    );
    (pipeline, go)
}

/// Whether a screen shows the jobs of [`held`] below a line of the log that has no end yet.
fn shows_held_jobs(screen: &str) -> bool {
    let lines: Vec<&str> = screen.lines().collect();
    let foot = lines
        .iter()
        .rposition(|line| line.starts_with("no end yet") || line.ends_with("│ no end yet"));
    foot.is_some_and(|at| {
        let below = lines[at + 1..].to_vec();
        below.len() >= 4
            && below[0].starts_with("✓ lint     complete · ")
            && below[1].starts_with("● test     ")
            && below[2].starts_with("  └─ echo first; printf")
            && below[3] == "○ package  waits for lint, test"
    })
}

/// The lines of the job that runs, each with another time.
fn times_of_test(screens: &[String]) -> Vec<&str> {
    let mut times: Vec<&str> = screens
        .iter()
        .filter_map(|screen| screen.lines().find(|line| line.starts_with("● test")))
        .collect();
    times.dedup();
    times
}

#[test]
fn the_jobs_stand_below_the_log_and_are_gone_in_the_end() {
    let project = Project::new("");
    let (pipeline, go) = held(&project);
    std::fs::write(project.root().join(".quire/ci.fnl"), pipeline).unwrap();
    // It goes on when the jobs have been drawn and their times have moved. Were they not drawn, it
    // goes on all the same, and the assertions below say what there was.
    let deadline = Instant::now() + WAIT_TIMEOUT;
    let (screens, code) = screens_of(
        &project,
        "xterm-256color",
        &["run", "--executor", "host"],
        |screens| {
            let is_drawn = screens.iter().any(|screen| shows_held_jobs(screen));
            if is_drawn && times_of_test(screens).len() > 2 || Instant::now() > deadline {
                std::fs::write(&go, "").unwrap();
            }
        },
    );
    assert_eq!(code, 0, "{}", screens.last().unwrap());
    assert!(
        screens.iter().any(|screen| shows_held_jobs(screen)),
        "{}",
        screens.join("\n=====\n")
    );
    // Times go on while nothing happens.
    let times = times_of_test(&screens);
    assert!(times.len() > 2, "{times:?}");
    let end = screens.last().unwrap();
    assert!(!end.contains('●') && !end.contains('○'), "{end}");
    assert!(
        end.contains("test    │ no end yet now\n")
            && end.contains("✓ complete in")
            && end.contains("└─ ✓ package"),
        "{end}"
    );
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_plain_lines() {
    let project = Project::new(r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh "echo fine")))"#);
    let (screens, code) = screens_of(&project, "dumb", &["run", "--executor", "host"], |_| ());
    let end = screens.last().unwrap();
    assert!(code == 0 && end.contains("fine\n"), "{end}");
    assert!(
        screens
            .iter()
            .all(|screen| !screen.contains('●') && !screen.contains('○')),
        "{screens:?}"
    );
}
