"""Pages of a repository, against cgit behind lighttpd: requests of 16 connections by wrk, by turns."""

import json
import os
import shutil
import subprocess

from forge import free_port
from measure import Series, expect, run, wait_for

CONNECTIONS = 16
ROUNDS = 3
FOLDERS, FILES = 30, 10
LONG_FILE = "src/long.txt"
REPO = "history"
CGIT = "/usr/lib/cgit/cgit.cgi"
TICKS = os.sysconf("SC_CLK_TCK")

# Requests the addresses of a file one after the other, and checks every answer.
SCRIPT = """
local addresses, threads, at = {}, {}, 0
for line in io.lines(os.getenv("BENCH_ADDRESSES")) do addresses[#addresses + 1] = line end
wrong, repeated = 0, 0
function setup(thread) threads[#threads + 1] = thread end
function request()
  at = at + 1
  if at > #addresses then at, repeated = 1, repeated + 1 end
  return wrk.format("GET", addresses[at])
end
function response(status, _, body)
  if status ~= 200 or not body:find("</html>", 1, true) then wrong = wrong + 1 end
end
function done(summary, latency)
  local wrong, repeated = 0, 0
  for _, thread in ipairs(threads) do wrong, repeated = wrong + thread:get("wrong"), repeated + thread:get("repeated") end
  local errors = summary.errors
  io.write(string.format('BENCH {"requests": %d, "seconds": %f, "p99": %f, "wrong": %d, "repeated": %d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(99) / 1e3, wrong + errors.connect + errors.read + errors.write + errors.timeout, repeated))
end
"""


def path_of(number):
    return f"folder-{number % FOLDERS}/file-{number // FOLDERS % FILES}.txt"


def path_before(n):
    """A path that the nth commit has: the one that it, or the commit before, wrote."""
    number = n - 1 if (n - 1) % 10 else n - 2
    return path_of(max(number, 1))


def history(client, name, commits):
    """A repository with so many commits, each of which changes a line of one file; their ids, oldest first."""
    tree = client.tree(name, {"README.md": "# History\n\nA repository with a history.\n"})
    lines = [f"line {number} of the long file\n" for number in range(2000)]
    stream = []
    for number in range(commits):
        path = LONG_FILE if number % 10 == 0 else path_of(number)
        if path == LONG_FILE:
            lines[number // 10 % len(lines)] = f"line {number // 10 % len(lines)} was changed by commit {number}\n"
        content = "".join(lines) if path == LONG_FILE else f"written by commit {number}\n" * 40
        stream.append(f"commit refs/heads/main\ncommitter Bench <bench@example.org> {1_700_000_000 + number * 60} +0000\n"
                      f"data {len(f'change {number}')}\nchange {number}\n" + ("from refs/heads/main^0\n" if number == 0 else "")
                      + f"M 100644 inline {path}\ndata {len(content)}\n{content}\n")
    subprocess.run(["git", "-C", tree, "fast-import", "--quiet"], input="".join(stream), text=True, env=client.environment, check=True)
    client.git(tree, "repack", "-adq")
    ids = client.git(tree, "rev-list", "--reverse", "main").split()
    expect(len(ids) == commits + 1, f"{len(ids)} commits")
    return tree, ids


class Cgit:
    """cgit behind lighttpd, reading the same repository."""

    def __init__(self, folder, bare):
        self.folder = os.path.join(folder, "cgit")
        os.makedirs(os.path.join(self.folder, "cache"))
        self.bare, self.port, self.process = bare, free_port(), None
        self.cache = False

    def start(self, cache):
        self.stop()
        size = 100_000 if cache else 0
        with open(os.path.join(self.folder, "cgitrc"), "w", encoding="utf-8") as file:
            file.write(f"cache-size={size}\ncache-root={self.folder}/cache\ncache-dynamic-ttl=60\ncache-repo-ttl=60\ncache-root-ttl=60\n"
                       f"css=/cgit.css\nenable-http-clone=0\nvirtual-root=/\nrepo.url={REPO}\nrepo.path={self.bare}\nrepo.desc=A history\n")
        with open(os.path.join(self.folder, "lighttpd.conf"), "w", encoding="utf-8") as file:
            file.write(f'server.port = {self.port}\nserver.bind = "127.0.0.1"\nserver.document-root = "{self.folder}"\n'
                       f'server.modules = ("mod_alias", "mod_setenv", "mod_cgi")\nserver.errorlog = "{self.folder}/errors"\n'
                       f'alias.url = ("/" => "{CGIT}/")\ncgi.assign = ("" => "")\nsetenv.set-environment = ("CGIT_CONFIG" => "{self.folder}/cgitrc")\n')
        self.process = subprocess.Popen([shutil.which("lighttpd") or "/usr/sbin/lighttpd", "-D", "-f", os.path.join(self.folder, "lighttpd.conf")],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("lighttpd", self.answers)

    def answers(self):
        expect(self.process.poll() is None, "lighttpd ended")
        done = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{self.port}/"], capture_output=True, text=True, check=False)
        return REPO in done.stdout

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None


def processor_ms(pid):
    """Processor time of a process and of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) * 1000 / TICKS


def requests(folder, port, pid, addresses, seconds):
    """Requests these addresses for so long: requests per second, processor milliseconds for each, and the 99th percentile in ms."""
    script, listing = os.path.join(folder, "requests.lua"), os.path.join(folder, "addresses")
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    with open(listing, "w", encoding="utf-8") as file:
        file.write("\n".join(addresses) + "\n")
    before = processor_ms(pid)
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s", "--timeout", "30s", "-s", script, f"http://127.0.0.1:{port}"]
    said = run(command, env={**os.environ, "BENCH_ADDRESSES": listing})
    spent = processor_ms(pid) - before
    result = json.loads(said.split("BENCH ", 1)[1])
    expect(result["wrong"] == 0, f"{result['wrong']} wrong answers for addresses like {addresses[0]}")
    return result["requests"] / result["seconds"], spent / result["requests"], result["p99"]


def kinds(ids):
    """The pages: their name, the address at quire and at cgit for a commit, and the most processor time for one in ms, if there is an aim.
    Home and repository have one address each."""
    def folder(n):
        return path_before(n).split("/", 1)[0]
    return [
        ("home", lambda _: "/", lambda _: "/", None),
        ("repository", lambda _: f"/{REPO}", lambda _: f"/{REPO}/", None),
        ("tree", lambda n: f"/{REPO}/-/tree/{ids[n]}/{folder(n)}", lambda n: f"/{REPO}/tree/{folder(n)}?id={ids[n]}", 0.1),
        ("file", lambda n: f"/{REPO}/-/file/{ids[n]}/{path_before(n)}", lambda n: f"/{REPO}/tree/{path_before(n)}?id={ids[n]}", 0.15),
        ("log", lambda n: f"/{REPO}/-/log/{ids[n]}", lambda n: f"/{REPO}/log/?id={ids[n]}", 0.25),
        ("commit", lambda n: f"/{REPO}/-/commit/{ids[n]}", lambda n: f"/{REPO}/commit/?id={ids[n]}", 0.5),
        ("log of a path", lambda n: f"/{REPO}/-/log/{ids[n]}/{LONG_FILE}", lambda n: f"/{REPO}/log/{LONG_FILE}?id={ids[n]}", None),
    ]


def compare(report, name, both, least, most_ms):
    """A row for the rate and one for the processor time."""
    ours, theirs = both
    rate, floor = Series("requests/s"), Series("requests/s")
    rate.values, floor.values = [one[0] for one in ours], [one[0] for one in theirs]
    report.row(f"{name}: rate", rate, floor, aim=least, at_least=True)
    spent, floor = Series(), Series()
    spent.values, floor.values = [one[1] for one in ours], [one[1] for one in theirs]
    report.row(f"{name}: processor time of a request", spent, floor, compare="none", aim=most_ms)
    latency = Series()
    latency.values = [one[2] for one in ours]
    report.row(f"{name}: 99th percentile", latency, aim=20 if name in ("home", "tree", "file", "log") or least == 5 else None)


def browsing(report, forge, client, folder, commits, seconds):
    tree, ids = history(client, REPO, commits)
    client.push(tree, forge.remote(REPO))
    bare = forge.bare(REPO)
    pid = forge.status()["children"]["serve"]["pid"]
    cgit = Cgit(folder, bare)
    per_round = commits // ROUNDS
    try:
        for title, cache, least in (("each page for the first time", False, 10), ("the same pages again", True, 5)):
            report.section(f"Pages of a repository, {title}", f"{commits:,} commits, {CONNECTIONS} connections of wrk on the same machine; quire and cgit behind lighttpd by turns, "
                           f"{ROUNDS} times. " + ("Every address is requested once, so no body of a page is kept; cgit has no cache." if not cache
                                                 else "Twenty addresses of each kind again and again, so bodies are kept; cgit has its cache."))
            cgit.start(cache)
            for name, ours, theirs, most_ms in kinds(ids):
                both = ([], [])
                for turn in range(ROUNDS):
                    chosen = range(turn * per_round + 3, (turn + 1) * per_round + 1) if not cache else range(commits - 20, commits)
                    places = [(forge.http_port, pid, ours, both[0]), (cgit.port, cgit.process.pid, theirs, both[1])]
                    for port, process, address, into in places if turn % 2 == 0 else reversed(places):
                        into.append(requests(folder, port, process, [address(number) for number in chosen], seconds))
                compare(report, name, both, least, most_ms if not cache else 0.1)
    finally:
        cgit.stop()
