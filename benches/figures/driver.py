"""The driver: how soon it has a pipeline's graph."""

import json
import subprocess

from measure import Series, Stopwatch, bare_spawn, expect


def loop(jobs):
    """So many jobs out of a few lines."""
    return f'(local ci (require :quire.ci))\n(for [n 1 {jobs}] (ci.job (.. "job-" n) [:quire/push] (fn [{{: sh}}] (sh ["echo" n]))))\n'


def spelled_out(jobs):
    """So many jobs, each after the one before it and with a function of its own, in four lines."""
    lines = ["(local ci (require :quire.ci))"]
    for number in range(jobs):
        after = ":quire/push" if number == 0 else f":job-{number - 1}"
        lines.append(f'(ci.job :job-{number} [{after}]\n  (fn [{{: sh}}]\n    (let [seen (sh "git log -1")]\n      (when (= seen.exit 0) (sh ["echo" "{number}"])))))')
    return "\n".join(lines) + "\n"


def register(quire, text, compiled=()):
    """From the start of the process to the registered graph; also gives what was compiled for it."""
    source = {"language": "fennel", "file": ".quire/ci.fnl", "text": text, "helpers": []}
    question = json.dumps({"do": "register", "source": source, "limit_ms": 5000, "compiled": list(compiled)}).encode() + b"\n"
    fresh = []
    watch = Stopwatch()
    with subprocess.Popen([quire, "driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}) as process:
        process.stdin.write(question)
        process.stdin.flush()
        answer = process.stdout.readline()
        if answer.startswith(b'{"say":"compiled"'):
            fresh = json.loads(answer)["files"]
            answer = process.stdout.readline()
        taken = watch.ms()
        process.stdin.close()
    expect(answer, "the driver ended without an answer")
    return taken, json.loads(answer), fresh


def graph(report, quire, rounds):
    report.section("The driver", "From the start of its process until the runner has the graph.")
    floor = bare_spawn(rounds)
    for what, text, jobs, known, aim in (
        ("graph of 1 job", spelled_out(1), 1, False, None),
        ("graph of 100 jobs, out of a loop", loop(100), 100, False, 15),
        ("graph of 100 jobs, each spelled out in four lines", spelled_out(100), 100, True, 15),
        ("the same, the first time that serve sees its text", spelled_out(100), 100, False, None),
    ):
        series = Series()
        compiled = register(quire, text)[2] if known else ()
        for turn in range(rounds + 1):
            taken, answer, fresh = register(quire, text, compiled)
            expect(bool(fresh) != known, f"compiled although known, or not although new: {what}")
            expect(answer["say"] == "registered" and len(answer["jobs"]) == jobs, f"the driver said {str(answer)[:300]}")
            if turn:
                series.add(taken)
        report.row(what, series, aim=aim)
    report.row("floor: a process that does nothing", floor)
