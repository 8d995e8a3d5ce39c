"""Pages over a database with many runs, and what the programs say that measure the store and the logs."""

import contextlib
import http.client
import os
import sqlite3
import subprocess

from measure import Series, Stopwatch, expect

RUNS = 10_000


def fill(forge):
    """Ten thousand ended runs, each with a job, straight into the database; ids sort by their number."""
    with contextlib.closing(sqlite3.connect(os.path.join(forge.data, "quire.db"), timeout=30)) as database, database:
        ids = [f"01900000-0000-7000-8000-{number:012d}" for number in range(RUNS)]
        database.executemany(
            "INSERT INTO runs (id, repo, number, ref_name, sha, \"trigger\", pusher, state, pushed_at_ms, queued_at_ms, started_at_ms, finished_at_ms, executor) "
            "VALUES (?, 'pages', ?, 'refs/heads/main', ?, 'push', 'bench', 'complete', ?, ?, ?, ?, 'host')",
            [(run, 1_000_000 + number, f"{number:040x}", *(1_700_000_000_000 + number * 1000 + part for part in (0, 1, 2, 900))) for number, run in enumerate(ids)])
        database.executemany(
            "INSERT INTO jobs (run_id, job_id, position, inputs, state, started_at_ms, finished_at_ms) VALUES (?, 'first', 0, '[\"quire/push\"]', 'complete', ?, ?)",
            [(run, 1_700_000_000_000 + number * 1000 + 3, 1_700_000_000_000 + number * 1000 + 899) for number, run in enumerate(ids)])
    return ids


def pages(report, forge, client, rounds):
    report.section("Pages", f"One client on one persistent connection over loopback; {RUNS:,} runs of one repository.")
    tree = client.tree("pages", {"file": "0"})
    client.push(tree, forge.remote("pages"))
    ids = fill(forge)
    connection = http.client.HTTPConnection("127.0.0.1", forge.http_port, timeout=30)
    for what, path, holds in (("home", "/", "pages"), ("newest runs of the repository", "/pages", ids[-1][-8:]), ("one run", f"/runs/{ids[-1]}", "first")):
        series = Series()
        for turn in range(rounds + 5):
            watch = Stopwatch()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
            taken = watch.ms()
            expect(answer.status == 200 and holds in body, f"{path} answered {answer.status}: {body[:300]}")
            if turn >= 5:
                series.add(taken)
        report.row(what, series)


def programs(report, root, quick):
    """The benches in Rust print tables of their own and assert what they measure."""
    for name, title in (("store", "The store with 1,000,000 runs"), ("logs", "Output through redaction into the log, and out of it again")):
        report.section(title)
        environment = {**os.environ, **({"QUIRE_BENCH_QUICK": "1"} if quick else {})}
        done = subprocess.run(["cargo", "bench", "--quiet", "--locked", "--bench", name], cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        expect(done.returncode == 0, f"the bench `{name}` failed")
        report.block(done.stdout.strip("\n"))
