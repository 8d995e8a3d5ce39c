"""Pushes against plain sshd and git; from the hook to the run's row; from the push to its first line of output."""

import os
import subprocess

from forge import PIPELINE
from measure import Series, Stopwatch, bare_spawn, durable_append, expect, wait_for


def pushes(report, forge, plain, client, rounds):
    """Small pushes by turns, then what became of those that had a pipeline."""
    report.section("A small push", "One commit with one changed file, over ssh on loopback: quire, and sshd and git alone with the same program, "
                   "settings, key and user. By turns.")
    legs = {name: (Series(), Series()) for name in ("without", "with")}
    trees = {"without": client.tree("without", {"file": "0"}), "with": client.tree("with", {"file": "0", ".quire/ci.fnl": PIPELINE})}
    for name in trees:
        plain.create(name)
    runs = []
    for turn in range(rounds + 2):
        for name, tree in trees.items():
            sha = client.commit(tree, {"file": str(turn)})
            ways = [(legs[name][0], forge.remote(name), forge.bare(name)), (legs[name][1], plain.remote(name), f"{plain.folder}/{name}.git")]
            for series, remote, bare in ways if turn % 2 else reversed(ways):
                taken, said = client.push(tree, remote)
                expect(client.git(bare, "rev-parse", "refs/heads/main") == sha, f"{remote} did not take the push")
                expect(("quire: run " in said) == (name == "with" and series is ways[0][0]), f"what a push said: {said}")
                if series is ways[0][0] and name == "with":
                    moved = os.stat(os.path.join(bare, "refs/heads/main")).st_mtime_ns / 1e6
                    runs.append((moved, forge.ended_run(sha)))
                # The first two pushes make the repository and warm everything up.
                if turn > 1:
                    series.add(taken)
    report.row("push, no pipeline", *legs["without"], aim=1.1)
    report.row("push that makes a run", *legs["with"], aim=1.1)
    first_line(report, forge, runs[2:])


def first_line(report, forge, runs):
    """Of runs with when git moved their ref: how long until the first byte of their output was in the log."""
    report.section("From an accepted push to the first line, host executor",
                   "Accepted: the time of the file of the ref, which the kernel's coarse clock sets up to 4 ms early. First line: its own time in the step's log.")
    parts = {what: Series() for what in ("accepted → hook has read the refs", "→ run recorded", "→ claimed", "→ command started", "→ first line")}
    whole, to_the_end = Series(), Series()
    for moved, row in runs:
        line, said = forge.first_line(row)
        expect(said == "first line", f"the step's log says {said}")
        marks = [moved, row["pushed_at_ms"], row["queued_at_ms"], row["started_at_ms"], forge.step_started(row), line]
        for series, begin, end in zip(parts.values(), marks, marks[1:]):
            series.add(end - begin)
        whole.add(line - moved)
        to_the_end.add(row["finished_at_ms"] - moved)
    report.row("push accepted → first line", whole, aim=30)
    for what, series in parts.items():
        report.row(f"of it: {what}", series)
    report.row("push accepted → run ended", to_the_end)


def hook(report, forge, client, rounds):
    """The hook alone, called as git calls it."""
    report.section("From the hook to the run's row", "The hook as git calls it, from its start until it has printed the run, which is after the row is durable.")
    tree = client.tree("hook", {"file": "0", ".quire/ci.fnl": PIPELINE})
    client.push(tree, forge.remote("hook"))
    forge.ended_run(client.git(tree, "rev-parse", "HEAD"))
    environment = {**forge.environment, "GIT_DIR": ".", "QUIRE_DATA": forge.data, "QUIRE_RUNTIME": forge.runtime, "QUIRE_PUSHER": "bench"}
    series = Series()
    for turn in range(rounds + 1):
        old, new = client.git(tree, "rev-parse", "HEAD"), client.commit(tree, {"file": f"hook {turn}"})
        # By path and without quire's configuration: no hook runs, so that this one is the first to tell.
        client.push(tree, forge.bare("hook"))
        watch = Stopwatch()
        done = subprocess.run([os.path.join(forge.runtime, "hooks/post-receive")], cwd=forge.bare("hook"), env=environment,
                              input=f"{old} {new} refs/heads/main\n", capture_output=True, text=True, check=True)
        taken = watch.ms()
        expect("quire: run " in done.stderr and "queued" in done.stderr, f"the hook said {done.stderr}")
        expect(len(forge.rows("SELECT 1 FROM runs WHERE sha = ?", new)) == 1, "the run has no row")
        forge.ended_run(new)
        if turn:
            series.add(taken)
    report.row("hook start → run recorded and printed", series, aim=10)
    report.row("floor: a process that does nothing", bare_spawn(rounds))
    report.row("floor: 4 KiB appended and synced", durable_append(forge.data, rounds))


def spooled(report, forge, client, count):
    """Events of pushes that arrived while the server was down."""
    report.section(f"{count} spooled events", "Pushes of one branch each that the hook recorded while the server was down; from the first event that a new server takes "
                   "to the last. The runs wait, since there is no engine.")
    tree = client.tree("spooled", {"file": "0", ".quire/ci.fnl": PIPELINE})
    client.push(tree, forge.remote("spooled"))
    new, bare, spool = client.git(tree, "rev-parse", "HEAD"), forge.bare("spooled"), os.path.join(forge.data, "spool")
    forge.stop()
    environment = {**forge.environment, "GIT_DIR": ".", "QUIRE_DATA": forge.data, "QUIRE_RUNTIME": forge.runtime, "QUIRE_PUSHER": "bench"}
    for number in range(count):
        ref = f"refs/heads/b{number}"
        client.git(bare, "-c", "core.hooksPath=/dev/null", "update-ref", ref, new)
        subprocess.run([os.path.join(forge.runtime, "hooks/post-receive")], cwd=bare, env=environment, input=f"{'0' * 40} {new} {ref}\n",
                       capture_output=True, text=True, check=True)
    events = lambda: sum(name.endswith(".json") for name in os.listdir(spool))
    expect(events() == count, f"{events()} events are in the spool, not {count}")
    forge.spawn()
    left = wait_for("the first event to be taken", lambda: next((now for now in [events()] if now < count), None), pause=0)
    watch = Stopwatch()
    wait_for("the spool to be empty", lambda: events() == 0)
    series = Series()
    series.add(watch.ms() / left)
    wait_for("a forge that is ready", lambda: forge.serves("/readyz"))
    expect(len(forge.rows("SELECT 1 FROM runs WHERE repo = 'spooled'")) == count + 1, "each event has one run")
    report.row("time for each event to be recorded with its run", series, aim=5)
