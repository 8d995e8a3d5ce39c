"""Under load: many clients pushing at once, a log that comes as fast as it can, many runs one after the other."""

import os
import re
import subprocess
import sys
import threading
import time

import engine
from containers import IMAGE
from forge import PIPELINE, Forge
from measure import Series, Stopwatch, expect, run, wait_for

CLIENTS = 32
FOLLOWERS = 50
LINE = 200


def chain(client, name, count):
    """A repository with a chain of commits, made at once; their ids, oldest first."""
    tree = client.tree(name, {".quire/ci.fnl": PIPELINE})
    stream = []
    for number in range(count):
        stream.append(f"commit refs/heads/chain\ncommitter Bench <bench@example.org> {1_700_000_000 + number} +0000\ndata 1\nx\n"
                      + ("from refs/heads/main^0\n" if number == 0 else "") + f"M 100644 inline file\ndata {len(str(number))}\n{number}\n")
    subprocess.run(["git", "-C", tree, "fast-import", "--quiet"], input="".join(stream), text=True, env=client.environment, check=True)
    ids = client.git(tree, "rev-list", "--reverse", "main..chain").split()
    expect(len(ids) == count, f"{len(ids)} commits")
    return tree, ids


class Pusher:
    """One client that pushes the next commit of its chain, again and again."""

    def __init__(self, client, name, count):
        self.client, self.name = client, name
        self.tree, self.ids = chain(client, name, count)
        self.pushed = {}

    def push_until(self, way, remote, end):
        pushed = self.pushed.setdefault(way, [])
        while time.monotonic() < end and len(pushed) < len(self.ids):
            sha = self.ids[len(pushed)]
            done = subprocess.run(["git", "-C", self.tree, "push", "-q", remote, f"{sha}:refs/heads/main"], env=self.client.environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode != 0:
                self.pushed["refused"] = done.stdout
                return
            pushed.append(sha)


def slice_of(pushers, way, remote, seconds):
    """All clients push for so long; pushes and the seconds they took."""
    before = sum(len(one.pushed.get(way, [])) for one in pushers)
    begun = time.monotonic()
    threads = [threading.Thread(target=one.push_until, args=(way, remote(one.name), begun + seconds)) for one in pushers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in pushers:
        expect("refused" not in one.pushed, f"a push to {remote(one.name)} was refused: {one.pushed.get('refused')}")
    return sum(len(one.pushed[way]) for one in pushers) - before, time.monotonic() - begun


def clients(report, forge, plain, client, seconds, turns):
    """By turns at quire and at the floor, each for `seconds` in all."""
    report.section(f"{CLIENTS} clients at once", f"{CLIENTS} clients push one commit after the other, each to a repository of its own, over ssh on loopback, "
                   f"for {seconds} s; by turns at quire, and at sshd and git alone. Every push makes a run. The runs wait for an engine that is not there, so that "
                   "pushing is measured against pushing. No push may be refused, and every commit must have its run.")
    count = max(20, seconds * 4)
    pushers = [Pusher(client, f"crowd-{number}", count) for number in range(CLIENTS)]
    for one in pushers:
        plain.create(one.name)
    ours, floor = Series(), Series()
    total = 0
    for turn in range(turns):
        ways = [("quire", forge.remote, ours), ("plain", plain.remote, floor)]
        for way, remote, series in ways if turn % 2 == 0 else reversed(ways):
            done, took = slice_of(pushers, way, remote, seconds / turns)
            series.add(took * 1000 / done)
            total += done if way == "quire" else 0
    for one in pushers:
        expect(client.git(forge.bare(one.name), "rev-parse", "refs/heads/main") == one.pushed["quire"][-1], f"{one.name} lost a push")

    def recorded():
        return forge.rows("SELECT count(*) AS count FROM (SELECT DISTINCT repo, sha FROM runs WHERE repo LIKE 'crowd-%')")[0]["count"]
    wait_for("a run for every commit", lambda: recorded() >= total)
    for one in pushers:
        found = {row["sha"] for row in forge.rows("SELECT sha FROM runs WHERE repo = ?", one.name)}
        expect(found == set(one.pushed["quire"]), f"{one.name}: {len(found)} runs of {len(one.pushed['quire'])} pushes")
    report.row(f"time per push, all clients together ({total} pushes, each with its run)", ours, floor, aim=1.11)


def serve_pid(forge):
    return forge.status()["children"]["serve"]["pid"]


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) / 1024


FOLLOW = """
import selectors, socket, sys
port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
chosen, open_, total = selectors.DefaultSelector(), count, 0
for _ in range(count):
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
    chosen.register(one, selectors.EVENT_READ)
print("attached", flush=True)
while open_:
    for key, _ in chosen.select():
        part = key.fileobj.recv(1 << 20)
        total += len(part)
        if not part or part.endswith(b"0\\r\\n\\r\\n"):
            chosen.unregister(key.fileobj)
            open_ -= 1
print(total, flush=True)
"""


def output(report, quire, folder, client, megabytes, rounds):
    report.section("From a container to the log, followed by many", f"A command prints {megabytes} MB in lines of {LINE} bytes in a container of {IMAGE}; {FOLLOWERS} pages "
                   "follow the run's log meanwhile. The floor is the engine's own stream of the same command, read and thrown away.")
    forge = Forge(quire, folder, client, QUIRE_CI_EXECUTOR="docker", QUIRE_CI_IMAGE=IMAGE)
    network = f"quire-{forge.rows('SELECT id FROM instance')[0]['id']}"
    try:
        gate = ["sh", "-c", "sleep 3"]
        printing = ["sh", "-c", f"yes {'x' * (LINE - 1)} | head -c {megabytes * 1_000_000}"]
        text = (f'(local ci (require :quire.ci))\n(ci.job :first [:quire/push] (fn [{{: sh}}] '
                f'(sh [{" ".join(map(quoted, gate))}]) (sh [{" ".join(map(quoted, printing))}])))\n')
        tree = client.tree("output", {".quire/ci.fnl": text})
        ours, floor, peak, rest = Series(), Series(), Series("MiB"), Series("MiB")
        for turn in range(rounds):
            one_log(forge, client, tree, turn, megabytes, (ours, peak, rest))
            floor.add(raw_stream(network, printing, megabytes))
        report.row(f"{megabytes} MB from the container to the disk", ours, floor, aim=1.43)
        report.row("memory of `serve` before it (RSS)", rest)
        report.row("memory of `serve`, most meanwhile", peak, aim=64)
    finally:
        forge.stop()
        engine.call("DELETE", f"/networks/{network}", expected=(204, 404))


def quoted(word):
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_log(forge, client, tree, turn, megabytes, series):
    ours, peak, rest = series
    pid = serve_pid(forge)
    rest.add(resident(pid))
    sha = client.commit(tree, {"turn": str(turn)})
    client.push(tree, forge.remote("output"))
    found = wait_for("the run to begin", lambda: forge.rows("SELECT r.id FROM runs r JOIN steps s ON s.run_id = r.id WHERE r.sha = ?", sha), pause=0.05)
    run_id = found[0]["id"]
    followers = subprocess.Popen([sys.executable, "-c", FOLLOW, str(forge.http_port), f"/runs/{run_id}/events", str(FOLLOWERS)], stdout=subprocess.PIPE, text=True)
    try:
        expect(followers.stdout.readline() == "attached\n", "the followers did not attach")
        most, over = 0, None
        while not over:
            most = max(most, resident(pid))
            over = forge.rows("SELECT state FROM runs WHERE id = ? AND finished_at_ms IS NOT NULL", run_id)
            time.sleep(0.05)
        expect(over[0]["state"] == "complete", f"the run is {over[0]['state']}")
    finally:
        followers.kill()
        followers.wait()
    step = forge.rows("SELECT * FROM steps WHERE run_id = ? AND seq = 2", run_id)[0]
    log = os.path.join(forge.data, "runs", "output", run_id, "jobs", "first", "2.log")
    lines = megabytes * 1_000_000 // LINE
    with open(log, "rb") as file:
        # A line may stand in two pieces, of which the last is its end.
        found = sum(b" stdout F " in line for line in file)
    expect(found == lines, f"the log holds {found} lines of {lines}")
    ours.add(step["finished_at_ms"] - step["started_at_ms"])
    peak.add(most)


def raw_stream(network, argv, megabytes):
    """The same command by hand in a container with the same settings: milliseconds until its stream has ended."""
    body = {"Image": IMAGE, "Entrypoint": ["sleep", "2147483647"], "HostConfig": {"NetworkMode": network, "Init": True, "LogConfig": {"Type": "none"}}}
    container = engine.call("POST", "/containers/create", body)["Id"]
    try:
        engine.call("POST", f"/containers/{container}/start")
        watch = Stopwatch()
        size, code = engine.exec_size(container, argv)
        taken = watch.ms()
        expect(code == 0 and size == megabytes * 1_000_000, f"by hand it printed {size} bytes and ended with {code}")
        return taken
    finally:
        engine.call("DELETE", f"/containers/{container}?force=1&v=1")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def one_after_the_other(report, forge, client, count, executor):
    """The same run repeated; what `serve` holds near the beginning and at the end."""
    report.section(f"{count} runs of `true` one after the other, {executor} executor", "Each run begins when the one before has ended. This shows what grows with every run.")
    text = '(local ci (require :quire.ci))\n(ci.job :first [:quire/push] (fn [{: sh}] (sh ["true"])))\n'
    tree = client.tree(f"series-{executor}", {".quire/ci.fnl": text})
    repo = f"series-{executor}"
    client.push(tree, forge.remote(repo))
    last = forge.ended_run(client.git(tree, "rev-parse", "HEAD"))["id"]
    pid, warm = serve_pid(forge), max(1, count // 5)
    instance = forge.rows("SELECT id FROM instance")[0]["id"]
    seen = {}
    for number in range(1, count + 1):
        run([forge.quire, "run", "retry", last], env={**forge.environment, "QUIRE_DATA": forge.data, "QUIRE_RUNTIME": forge.runtime})
        last = wait_for("the repetition", lambda old=last: forge.rows("SELECT id FROM runs WHERE retry_of = ?", old), pause=0.005)[0]["id"]
        ended = wait_for("its end", lambda now=last: forge.rows("SELECT state FROM runs WHERE id = ? AND finished_at_ms IS NOT NULL", now), pause=0.005)
        expect(ended[0]["state"] == "complete", f"run {number} is {ended[0]['state']}")
        if number in (warm, count):
            # What ends a little later has ended.
            time.sleep(1)
            seen[number] = (resident(pid), descriptors(pid), containers_of(instance) if executor == "docker" else 0)
    expect(serve_pid(forge) == pid, "serve was started again meanwhile")
    for place, (what, unit, most) in enumerate((("memory of `serve` (RSS)", "MiB", 2), ("its open descriptors", "descriptors", 4), ("containers", "containers", 0))):
        if executor != "docker" and what == "containers":
            continue
        first, final = seen[warm][place], seen[count][place]
        series = Series(unit)
        series.add(final - first)
        report.row(f"{what}: {first:.1f} after {warm} runs, {final:.1f} after {count}; grown by", series, aim=most)


def containers_of(instance):
    filters = '{"label":["io.quire.instance=%s"]}' % instance
    return len(engine.call("GET", f"/containers/json?all=1&filters={filters.replace(chr(34), '%22')}") or [])
