"""What a run costs beside its commands, with the host executor."""

from forge import PIPELINE
from measure import Series, expect, wait_for

MANY = 200


def steps(report, forge, client, rounds, where="host executor", aim=2):
    """Many `sh ["true"]`, against a shell that starts `true` as often, in the same run."""
    report.section(f"What a step costs, {where}",
                   f"{MANY} times `sh [\"true\"]`, one after the other, each a step with its rows, its log and its answer to the pipeline; "
                   f"against one shell that starts `/bin/true` {MANY} times in the same run.")
    text = f"""(local ci (require :quire.ci))
(ci.job :first [:quire/push] (fn [{{: sh}}]
  (sh "i=0; while [ $i -lt {MANY} ]; do /bin/true; i=$((i+1)); done")
  (for [_ 1 {MANY}] (sh ["true"]))))
"""
    tree = client.tree("steps", {".quire/ci.fnl": text})
    ours, floor = Series(), Series()
    for turn in range(rounds):
        sha = client.commit(tree, {"file": str(turn)})
        client.push(tree, forge.remote("steps"))
        row = forge.ended_run(sha)
        found = forge.rows("SELECT exit_code, started_at_ms, finished_at_ms FROM steps WHERE run_id = ? ORDER BY seq", row["id"])
        expect(len(found) == MANY + 1 and all(step["exit_code"] == 0 for step in found), f"{len(found)} steps")
        floor.add((found[0]["finished_at_ms"] - found[0]["started_at_ms"]) / MANY)
        ours.add((found[-1]["finished_at_ms"] - found[1]["started_at_ms"]) / MANY)
    report.row("one `sh [\"true\"]`", ours, floor, compare="difference", aim=aim)


def many_jobs(report, forge, client, jobs):
    """One run of very many jobs that may all start at once."""
    report.section("Many jobs in one run, host executor")
    text = f'(local ci (require :quire.ci))\n(for [n 1 {jobs}] (ci.job (.. "job-" n) [:quire/push] (fn [{{: sh}}] (sh ["true"]))))\n'
    tree = client.tree("jobs", {".quire/ci.fnl": text})
    sha = client.git(tree, "rev-parse", "HEAD")
    client.push(tree, forge.remote("jobs"))
    row = forge.ended_run(sha, patience=600)
    found = forge.rows("SELECT count(*) AS count FROM jobs WHERE run_id = ? AND state = 'complete'", row["id"])
    expect(found[0]["count"] == jobs, f"{found[0]['count']} jobs are complete")
    seconds = Series("s")
    seconds.add((row["finished_at_ms"] - row["started_at_ms"]) / 1000)
    report.row(f"run of {jobs:,} jobs of one `true` each", seconds)
    rate = Series("jobs/s")
    rate.add(jobs / seconds.median)
    report.row("jobs per second", rate)


def small_runs(report, forge, client, rounds):
    """Runs of one command, as many as there are, by pushing to branches of their own at once."""
    tree = client.tree("small", {".quire/ci.fnl": PIPELINE})
    client.push(tree, forge.remote("small"))
    forge.ended_run(client.git(tree, "rev-parse", "HEAD"))
    client.commit(tree, {"file": "1"})
    specs = [f"HEAD:refs/heads/branch-{number}" for number in range(rounds)]
    client.git(tree, "push", forge.remote("small"), *specs)
    sha = client.git(tree, "rev-parse", "HEAD")

    def over():
        found = forge.rows("SELECT min(started_at_ms) AS begin, max(finished_at_ms) AS end, count(*) AS count FROM runs WHERE sha = ? AND state = 'complete'", sha)[0]
        return found if found["count"] == rounds else None
    found = wait_for("many small runs", over, patience=300)
    rate = Series("runs/s")
    rate.add(rounds * 1000 / (found["end"] - found["begin"]))
    report.row(f"runs of one `echo` per second ({rounds} runs waiting)", rate)
