"""Runs in containers, against the same container made by hand."""

import os

import engine
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
    report.section("A run in a container", f"A push whose pipeline runs one `echo` in {IMAGE}, by turns with create, start, exec and remove of a container with the "
                   "same settings in the same network, by hand over the engine's socket. The run also takes the push in, evaluates the pipeline, sends the tree in, "
                   "and writes rows and logs.")
    forge = Forge(quire, folder, client, QUIRE_CI_EXECUTOR="docker", QUIRE_CI_IMAGE=IMAGE)
    instance = forge.rows("SELECT id FROM instance")[0]["id"]
    network = f"quire-{instance}"
    try:
        measure(report, forge, client, network, rounds)
    finally:
        forge.stop()
        engine.call("DELETE", f"/networks/{network}", expected=(204, 404))


def measure(report, forge, client, network, rounds):
    text = '(local ci (require :quire.ci))\n(ci.job :first [:quire/push] (fn [{: sh}] (sh ["echo" "first line"])))\n'
    tree = client.tree("containers", {".quire/ci.fnl": text})
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
    report.row("push accepted → container runs, tree in it", started, hand[0], compare="difference")
    report.row("push accepted → command started", step)
    report.row("push accepted → first line", line, hand[1], compare="difference", aim=50)
    report.row("push accepted → run ended, container gone", whole, hand[2], compare="difference", aim=50)
