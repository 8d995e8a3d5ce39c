"""What visitors who read everything take from pushes, runs and those who are signed in."""

import http.client
import json
import os
import random
import selectors
import socket
import subprocess
import sys
import time

from browsing import history
from forge import PIPELINE
from measure import Series, Stopwatch, expect, run

ADDRESSES = 200
REPO = "history"
PAUSE = 0.5


def visitor(number):
    """An address of the loopback network."""
    return f"127.0.{1 + number // 200}.{1 + number % 200}"


def scrape(port, addresses):
    """Requests the addresses that standard input lists, as so many visitors at once, until it is ended. Prints how many had which status."""
    paths = [line.strip() for line in sys.stdin]
    waiting = [(time.monotonic() + random.random() * PAUSE, visitor(number)) for number in range(addresses)]
    chosen, counted, told = selectors.DefaultSelector(), {}, time.monotonic()
    while True:
        now = time.monotonic()
        due = [source for at, source in waiting if at <= now]
        waiting = [(at, source) for at, source in waiting if at > now]
        for source in due:
            one = socket.socket()
            one.bind((source, 0))
            one.settimeout(30)
            one.connect(("127.0.0.1", port))
            one.sendall(f"GET {random.choice(paths)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            chosen.register(one, selectors.EVENT_READ, [source, None])
        for key, _ in chosen.select(0.05) if chosen.get_map() else []:
            part = key.fileobj.recv(1 << 16)
            if part and key.data[1] is None:
                key.data[1] = part.split(b" ", 2)[1].decode()
            if not part:
                counted[key.data[1]] = counted.get(key.data[1], 0) + 1
                chosen.unregister(key.fileobj)
                key.fileobj.close()
                waiting.append((time.monotonic() + PAUSE, key.data[0]))
        if now - told >= 1:
            told = now
            print(" ".join(f"{status}:{count}" for status, count in sorted(counted.items())), flush=True)


class Scraper:
    """The visitors, in a process of their own with the lowest priority, so that what they cost is what quire does for them."""

    def __init__(self, port, paths):
        command = ["nice", "-n", "19", sys.executable, "-B", __file__, str(port), str(ADDRESSES)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write("\n".join(paths))
        self.process.stdin.close()
        self.counted = self.process.stdout.readline().strip()

    def stop(self):
        """How many requests had which status."""
        self.process.terminate()
        lines = self.process.stdout.read().splitlines()
        self.process.wait()
        return lines[-1] if lines else self.counted


def get(port, path, token=None, source=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0) if source else None)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    body = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, body


def strangers(report, forge, client, shown, commits, rounds):
    report.section(f"While strangers ask for everything, `http.strangers` is `{shown}`", f"{ADDRESSES} visitors, each with an address of its own and a request every half second, ask a public repository with {commits:,} commits for all commits, blames and "
                   "archives. Meanwhile a push with its run, and a page of a person who is signed in; by turns with the same without visitors.")
    repo = f"{REPO}-{shown}"
    tree, ids = history(client, repo, commits)
    client.commit(tree, {".quire/config.fnl": "{:public true}\n", ".quire/ci.fnl": PIPELINE}, "make it public")
    client.push(tree, forge.remote(repo))
    forge.ended_run(client.git(tree, "rev-parse", "HEAD"))
    environment = {**forge.environment, "QUIRE_DATA": forge.data, "QUIRE_RUNTIME": forge.runtime}
    token = json.loads(run([forge.quire, "login", "--token", "bench", "--json"], env=environment))["token"]
    paths = [f"/{repo}/-/{what}" for sha in ids for what in (f"commit/{sha}", f"blame/{sha}/src/long.txt", f"archive/{sha}.tar.gz")]
    legs = {what: (Series(), Series()) for what in ("push", "push accepted → first line", "page of a person who is signed in")}
    said = []
    for turn in range(4):
        busy = turn % 2 == 1
        scraper = Scraper(forge.http_port, paths) if busy else None
        try:
            for number in range(rounds):
                measure_one(forge, client, (repo, tree), f"{turn} {number}", token, {what: both[0 if busy else 1] for what, both in legs.items()})
            if busy:
                status, body = get(forge.http_port, f"/{repo}", source=visitor(ADDRESSES + 50 + turn))
                expect(status == 200 and "README" in body, f"a new visitor received {status} for the page of the repository")
        finally:
            if scraper:
                said.append(scraper.stop())
    for what, (ours, floor) in legs.items():
        report.row(what, ours, floor, aim=1.5)
    report.block("answers to the visitors, by status: " + "; ".join(said))


def measure_one(forge, client, pushed, name, token, series):
    repo, tree = pushed
    sha = client.commit(tree, {"file": name})
    taken, _ = client.push(tree, forge.remote(repo))
    series["push"].add(taken)
    moved = os.stat(os.path.join(forge.bare(repo), "refs/heads/main")).st_mtime_ns / 1e6
    line, _ = forge.first_line(forge.ended_run(sha))
    series["push accepted → first line"].add(line - moved)
    watch = Stopwatch()
    status, body = get(forge.http_port, f"/{repo}/-/commit/{sha}", token)
    series["page of a person who is signed in"].add(watch.ms())
    expect(status == 200 and sha in body, f"the page of the commit answered {status}")


if __name__ == "__main__":
    scrape(int(sys.argv[1]), int(sys.argv[2]))
