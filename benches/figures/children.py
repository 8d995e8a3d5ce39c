"""A killed child of `quire init`, and its successor."""

import os
import signal

from measure import Series, Stopwatch, expect, wait_for


def killed(report, forge, rounds):
    """Kills a child for the first time; each round has an `init` of its own, as a second time within a minute waits on purpose."""
    report.section("Restart of a killed child", "From `kill -9` until init's status file names the new process, and until that answers. The first restart of each.")
    for name, reached in (("sshd", lambda: forge.answers(forge.ssh_port)), ("serve", lambda: forge.serves("/healthz"))):
        again, answering = Series(), Series()
        for _ in range(rounds):
            old = forge.status()["children"][name]["pid"]
            watch = Stopwatch()
            os.kill(old, signal.SIGKILL)
            new = wait_for(f"a new {name}", lambda: successor(forge, name, old), pause=0.0002)
            again.add(watch.ms())
            wait_for(f"{name} to answer", reached, pause=0.001)
            answering.add(watch.ms())
            expect(os.path.exists(f"/proc/{new}"), f"the new {name} is gone again")
            forge.stop()
            forge.start()
        report.row(f"{name} killed → running again", again, aim=10)
        report.row(f"{name} killed → answers again", answering)


def successor(forge, name, old):
    child = forge.status()["children"][name]
    return child["pid"] if child["pid"] not in (None, old) and child["restarts"] >= 1 else None
