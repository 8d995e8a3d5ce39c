"""Runs in containers, against the same container made by hand."""

import io
import os
import re
import tarfile
import time

import engine
import runs
from forge import Forge
from measure import Series, Stopwatch, expect

IMAGE = "debian:trixie-slim"


def by_hand(network, argv):
    """Create, start, exec, remove: milliseconds until it runs, until the command's end, and until all is gone; what the command said."""
    watch = Stopwatch()
    # What quire's own container has (src/docker/container.rs).
    body = {"Image": IMAGE, "Entrypoint": ["sleep", "2147483647"], "WorkingDir": "/work",
            "HostConfig": {"NetworkMode": network, "Init": True, "LogConfig": {"Type": "none"}, "Memory": 4 << 30, "MemorySwap": 4 << 30,
                           "PidsLimit": 4096, "CapDrop": ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETPCAP"], "SecurityOpt": ["no-new-privileges"]}}
    container = engine.call("POST", "/containers/create", body)["Id"]
    try:
        engine.call("POST", f"/containers/{container}/start")
        started = watch.ms()
        output, code = engine.exec_output(container, argv)
        done = watch.ms()
        expect(code == 0, f"the command ended with {code}: {output}")
    finally:
        engine.call("DELETE", f"/containers/{container}?force=1&v=1")
    return started, done, watch.ms(), output


def containers(report, quire, folder, client, rounds):
    for warm, name in ((0, "A run in a container"), (2, "A run in a container that is ready")):
        report.section(name, f"A push whose pipeline runs one `echo` in {IMAGE}, by turns with create, start, exec and remove of a container with the "
                       "same settings in the same network, by hand over the engine's socket. The run also takes the push in, evaluates the pipeline, sends the tree in, "
                       f"and writes rows and logs. `ci.warm` is {warm}.")
        in_containers(report, quire, os.path.join(folder, f"warm-{warm}"), client, rounds, warm)


def in_containers(report, quire, folder, client, rounds, warm):
    os.makedirs(folder)
    forge = Forge(quire, folder, client, QUIRE_CI_EXECUTOR="docker", QUIRE_CI_IMAGE=IMAGE, QUIRE_CI_WARM=str(warm))
    instance = forge.rows("SELECT id FROM instance")[0]["id"]
    network = f"quire-{instance}"
    try:
        measure(report, forge, client, network, rounds, warm)
        if warm:
            idle(report, instance)
        else:
            runs.steps(report, forge, client, rounds, "in a container", 3)
            trees(report, forge, client, rounds)
    finally:
        forge.stop()
        engine.call("DELETE", f"/networks/{network}", expected=(204, 404))


def measure(report, forge, client, network, rounds, warm):
    text = '(local ci (require :quire.ci))\n(ci.job :first [:quire/push] (fn [{: sh}] (sh ["echo" "first line"])))\n'
    tree = client.tree(f"containers-{warm}", {".quire/ci.fnl": text})
    ours, hand = [[Series() for _ in range(count)] for count in (5, 3)]
    for turn in range(rounds + 1):
        sha = client.commit(tree, {"file": str(turn)})
        client.push(tree, forge.remote("containers"))
        moved = os.stat(os.path.join(forge.bare("containers"), "refs/heads/main")).st_mtime_ns / 1e6
        row = forge.ended_run(sha)
        line, said = forge.first_line(row)
        expect(said == "first line" and row["executor"] == "docker", f"the step's log says {said}")
        *by_now, output = by_hand(network, ["echo", "first line"])
        expect(output == "first line\n", f"by hand it said {output}")
        # The first run makes the network.
        if turn:
            marks = (row["started_at_ms"], row["container_started_at_ms"], forge.step_started(row), line, row["finished_at_ms"])
            for series, mark in zip(ours, marks):
                series.add(mark - moved)
            for series, mark in zip(hand, by_now):
                series.add(mark)
    claimed, started, step, line, whole = ours
    report.row("push accepted → claimed", claimed)
    report.row("push accepted → container runs", started, hand[0], compare="difference")
    report.row("push accepted → command started", step)
    report.row("push accepted → first line", line, hand[1], compare="difference", aim=50)
    report.row("push accepted → run ended, container ended", whole, hand[2], compare="difference", aim=50)


def idle(report, instance):
    """What a container that waits for a run costs."""
    report.section("A container that is kept ready")
    label = f'%7B%22label%22%3A%5B%22io.quire.instance%3D{instance}%22%5D%7D'
    waiting = engine.call("GET", f"/containers/json?filters={label}")
    expect(waiting, "no container waits")
    pid = engine.call("GET", f"/containers/{waiting[0]['Id']}/json")["State"]["Pid"]

    def field(file, name):
        with open(f"/proc/{pid}/{file}", encoding="utf-8") as text:
            return int(re.search(rf"^{name}:\s+(\d+)", text.read(), re.MULTILINE).group(1))

    memory, wakeups = Series("MiB"), Series("wake-ups")
    memory.add(field("smaps_rollup", "Pss") / 1024)
    before = field("status", "voluntary_ctxt_switches")
    time.sleep(10)
    wakeups.add(field("status", "voluntary_ctxt_switches") - before)
    report.row("memory of its process (PSS)", memory, aim=6)
    report.row("wake-ups in 10 s", wakeups, aim=0)


def archive(files):
    """A tar archive of files by name."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def upload(content):
    """The same tree through the engine's archive call, into the file system of a container; milliseconds."""
    container = engine.call("POST", "/containers/create", {"Image": IMAGE, "WorkingDir": "/work"})["Id"]
    try:
        watch = Stopwatch()
        connection = engine.Connection("localhost")
        connection.request("PUT", f"/v1.41/containers/{container}/archive?path=/work", body=content, headers={"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        expect(answer.status == 200, f"the archive call answered {answer.status}")
        return watch.ms()
    finally:
        engine.call("DELETE", f"/containers/{container}?force=1&v=1")


def trees(report, forge, client, rounds):
    report.section("A tree on its way into a container", "From the start of the container to the start of the first command, which includes reading the tree from git; "
                   "by turns with the engine's archive call, which gets a finished archive.")
    large = {"large": bytes(100_000_000)}
    small = {f"{number // 100}/{number}": os.urandom(500).hex().encode() for number in range(5000)}
    for name, files, aim in (("one file of 100 MB", large, 1.8), ("5,000 files of 1 kB", small, 1.1)):
        repo = name.split(" ", maxsplit=1)[0].replace(",", "")
        text = '(local ci (require :quire.ci))\n(ci.job :first [:quire/push] (fn [{: sh}] (sh ["true"])))\n'
        tree = client.tree(f"tree-{repo}", {".quire/ci.fnl": text, **{path: content.decode() for path, content in files.items()}})
        content = archive(files)
        ours, floor = Series(), Series()
        for turn in range(max(rounds // 4, 2)):
            sha = client.commit(tree, {"turn": str(turn)})
            client.push(tree, forge.remote(f"tree-{repo}"))
            row = forge.ended_run(sha)
            ours.add(forge.step_started(row) - row["container_started_at_ms"])
            floor.add(upload(content))
        report.row(name, ours, floor, compare="ratio", aim=aim)
