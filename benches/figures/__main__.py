"""Measures quire and writes docs/performance.md. Started by scripts/bench, which builds what is measured."""

import argparse
import os
import signal
import sys
import tempfile

import report as reports
from appliance import appliance
from browsing import browsing
from children import killed
from containers import containers
from driver import graph
from forge import Client, Forge, Plain
from load import clients, one_after_the_other, output
from measure import Wrong, machine
from pages import pages, programs
from pushes import hook, pushes, spooled
from runs import many_jobs, small_runs, steps
from strangers import strangers

SECTIONS = ("push", "hook", "spool", "driver", "steps", "jobs", "children", "pages", "browsing", "strangers", "programs", "containers", "appliance", "clients", "output", "series")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"only these: {' '.join(SECTIONS)}")
    parser.add_argument("--seconds", type=int, default=60, help="how long many clients push at quire, and as long at the floor (60)")
    parser.add_argument("--write", action="store_true", help="write the measured sections into docs/performance.md, which a run of all sections does by itself")
    parser.add_argument("--quick", action="store_true", help="few rounds; nothing is written")
    parser.add_argument("--quire", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--image", required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.quick and asked.write:
        parser.error("--quick only checks that everything can be measured; nothing is written")
    for section in asked.sections:
        if section not in SECTIONS:
            parser.error(f"there is no section '{section}' ({' '.join(SECTIONS)})")
    return asked


def native(report, asked, wanted, client, folder):
    """What is measured at one native quire with the host executor."""
    rounds = 5 if asked.quick else 40
    forge = Forge(asked.quire, folder, client)
    try:
        if wanted("push"):
            plain = Plain(forge, folder)
            try:
                pushes(report, forge, plain, client, rounds)
            finally:
                plain.stop()
        if wanted("hook"):
            hook(report, forge, client, rounds)
        if wanted("steps"):
            steps(report, forge, client, 2 if asked.quick else 7)
        if wanted("jobs"):
            many_jobs(report, forge, client, 100 if asked.quick else 1000)
            small_runs(report, forge, client, 20 if asked.quick else 200)
        if wanted("children"):
            killed(report, forge, 2 if asked.quick else 10)
        # Last: it fills the database.
        if wanted("pages"):
            pages(report, forge, client, 20 if asked.quick else 300)
    finally:
        forge.stop()


def crowd(report, asked, client, folder):
    """Many clients at a quire whose runs wait: the engine that they ask for is not there."""
    forge = Forge(asked.quire, folder, client, QUIRE_CI_EXECUTOR="docker", QUIRE_CI_ENGINE="unix:///nonexistent/docker.sock")
    plain = Plain(forge, folder)
    try:
        clients(report, forge, plain, client, 6 if asked.quick else asked.seconds, 2 if asked.quick else 4)
    finally:
        plain.stop()
        forge.stop()


def backlog(report, asked, client, folder):
    """What lies in the spool when quire starts; its runs wait for an engine that is not there."""
    forge = Forge(asked.quire, folder, client, QUIRE_CI_EXECUTOR="docker", QUIRE_CI_ENGINE="unix:///nonexistent/docker.sock")
    try:
        spooled(report, forge, client, 100 if asked.quick else 2000)
    finally:
        forge.stop()


def reading(report, asked, client, folder):
    """Pages of a repository with a history, at quire and at cgit."""
    forge = Forge(asked.quire, folder, client)
    try:
        browsing(report, forge, client, folder, 300 if asked.quick else 15_000, 0.3 if asked.quick else 1.5)
    finally:
        forge.stop()


def visitors(report, asked, client, folder):
    """Visitors who are not signed in, beside pushes and a person who is."""
    for shown in ("tip", "all"):
        place = os.path.join(folder, shown)
        os.makedirs(place)
        forge = Forge(asked.quire, place, client, QUIRE_HTTP_AUTH="ssh", QUIRE_HTTP_STRANGERS=shown)
        try:
            strangers(report, forge, client, shown, 200 if asked.quick else 2000, 3 if asked.quick else 20)
        finally:
            forge.stop()


def series(report, asked, client, folder):
    """Many runs one after the other, on the host and in containers."""
    for executor, count in (("host", 20 if asked.quick else 500), ("docker", 5 if asked.quick else 60)):
        place = os.path.join(folder, executor)
        os.makedirs(place)
        forge = Forge(asked.quire, place, client, QUIRE_CI_EXECUTOR=executor)
        try:
            one_after_the_other(report, forge, client, count, executor)
        finally:
            forge.stop()


def measure(report, asked, folder):
    def wanted(section):
        return not asked.sections or section in asked.sections

    # sshd's user must be able to read below it.
    os.chmod(folder, 0o755)
    client = Client(os.path.join(folder, "client"))
    if wanted("appliance"):
        appliance(report, asked.image, client, f"quire-bench-{os.getpid()}", 2 if asked.quick else 10)
    if any(map(wanted, ("push", "hook", "steps", "jobs", "children", "pages"))):
        os.makedirs(os.path.join(folder, "host"))
        native(report, asked, wanted, client, os.path.join(folder, "host"))
    if wanted("containers"):
        os.makedirs(os.path.join(folder, "docker"))
        containers(report, asked.quire, os.path.join(folder, "docker"), client, 3 if asked.quick else 20)
    for name, what in (("spool", backlog), ("clients", crowd), ("series", series), ("browsing", reading), ("strangers", visitors)):
        if wanted(name):
            os.makedirs(os.path.join(folder, name))
            what(report, asked, client, os.path.join(folder, name))
    if wanted("output"):
        os.makedirs(os.path.join(folder, "output"))
        output(report, asked.quire, os.path.join(folder, "output"), client, 20 if asked.quick else 100, 1 if asked.quick else 5)
    if wanted("driver"):
        graph(report, asked.quire, 5 if asked.quick else 50)
    if wanted("programs"):
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        programs(report, root, asked.quick)


def main():
    asked = arguments()
    # Ended from outside, everything that was started is still taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report, kind = reports.Report(), machine()
    with tempfile.TemporaryDirectory(prefix="quire-bench-", ignore_cleanup_errors=True) as folder:
        try:
            measure(report, asked, folder)
        except Wrong as wrong:
            raise SystemExit(f"bench: {wrong}") from wrong
    if asked.write or not (asked.quick or asked.sections):
        report.write(os.path.join(os.path.dirname(__file__), "../../docs/performance.md"), kind, not asked.sections)
    else:
        print("\n\n".join(report.markdown(kind).values()))
    if report.missed:
        print("\naims that were missed: " + "; ".join(report.missed), file=sys.stderr)


main()
