"""The real image: how soon it is healthy, what it needs, how it stops."""

import subprocess
import time
import urllib.request

import engine
from forge import free_port
from measure import Series, Stopwatch, expect, run, wait_for

BASE = "debian:trixie-slim"


class Appliance:
    """A container with a volume of its own and the settings of compose.yaml."""

    def __init__(self, image, client, name):
        self.image, self.name, self.http_port = image, name, free_port()
        run(["docker", "volume", "create", "--label", "quire.bench=1", name])
        run(["docker", "create", "--name", name, "--label", "quire.bench=1", "-v", f"{name}:/var/quire", "-v", f"{engine.SOCKET}:/var/run/docker.sock",
             "-p", f"127.0.0.1:{self.http_port}:3000", "-p", "127.0.0.1::22", "-e", f"QUIRE_AUTHORIZED_KEYS={client.public_key}",
             "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
             *[word for cap in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_CHROOT") for word in ("--cap-add", cap)], image])

    def start(self):
        """Starts it: milliseconds until the web answers that all is well, and until Docker calls it healthy."""
        watch = Stopwatch()
        engine.call("POST", f"/containers/{self.name}/start")
        started = watch.ms()
        wait_for("an answer", self.answers, pause=0.005)
        answering = watch.ms()
        wait_for("healthy", lambda: self.state()["Health"]["Status"] == "healthy", pause=0.005)
        return started, answering, watch.ms()

    def state(self):
        state = engine.call("GET", f"/containers/{self.name}/json")["State"]
        expect(state["Running"], f"the appliance ended: {state}")
        return state

    def answers(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        watch = Stopwatch()
        engine.call("POST", f"/containers/{self.name}/stop?t=15")
        taken = watch.ms()
        state = engine.call("GET", f"/containers/{self.name}/json")["State"]
        expect(state["ExitCode"] == 0 and not state["Running"], f"it did not stop in order: {state}")
        return taken

    def processes(self):
        """What the kernel says of the memory of PID 1 and of `serve`: shown only to who may trace them, so a container beside them looks."""
        script = """cat /proc/1/smaps_rollup; for p in /proc/[0-9]*; do
            case $(tr '\\0' ' ' <$p/cmdline) in *'quire serve ') echo serve; cat $p/status ;; esac; done"""
        said = run(["docker", "run", "--rm", "--label", "quire.bench=1", "--network", "none", "--pid", f"container:{self.name}",
                    "--cap-add", "SYS_PTRACE", "--entrypoint", "sh", self.image, "-c", script])
        init, mark, serve = said.partition("serve\n")
        expect(mark, f"no serve among the processes: {said}")
        return init, serve

    def remove(self):
        subprocess.run(["docker", "rm", "-f", "-v", self.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["docker", "volume", "rm", "-f", self.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def kilobytes(text, field):
    found = [int(line.split()[1]) for line in text.splitlines() if line.startswith(field + ":")]
    expect(len(found) == 1 and found[0] > 0, f"no {field} in {text}")
    return found[0]


def appliance(report, image, client, name, rounds):
    report.section("The appliance", "The image as `scripts/image` builds it, with the rights that compose.yaml gives it and a volume of its own. "
                   "The floor of its start is the same of a container that only sleeps.")
    one = Appliance(image, client, name)
    try:
        boots(report, one, rounds)
    finally:
        one.remove()
    sizes(report, image)


def boots(report, one, rounds):
    series = {what: Series() for what in ("first", "healthy", "answering", "floor", "stop")}
    pss, rss, peak = Series("MiB"), Series("MiB"), Series("MiB")
    for turn in range(rounds + 1):
        started, answering, healthy = one.start()
        if turn == 0:
            series["first"].add(healthy)
        else:
            series["floor"].add(started)
            series["answering"].add(answering)
            series["healthy"].add(healthy)
        # Memory of an appliance that has come to rest.
        time.sleep(2)
        init, serve = one.processes()
        pss.add(kilobytes(init, "Pss") / 1024)
        rss.add(kilobytes(serve, "VmRSS") / 1024)
        peak.add(kilobytes(serve, "VmHWM") / 1024)
        series["stop"].add(one.stop())
    report.row("start → healthy, as Docker says", series["healthy"], aim=1000, unit="ms")
    report.row("of it: the engine's own start of the container", series["floor"])
    report.row("start → /healthz answers", series["answering"])
    report.row("very first start → healthy (makes keys and the database)", series["first"])
    report.row("`docker stop`, idle", series["stop"], aim=2000)
    report.row("memory of PID 1 (PSS)", pss, aim=1.5)
    report.row("memory of `serve`, idle (RSS)", rss, aim=15)
    report.row("memory of `serve`, most since its start", peak)


def sizes(report, image):
    size = lambda name: engine.call("GET", f"/images/{name}/json")["Size"] / 1e6
    over, whole = Series("MB"), Series("MB")
    whole.add(size(image))
    over.add(size(image) - size(BASE))
    expect(over.median > 1, f"the image is not larger than {BASE}")
    report.row(f"image, over {BASE}", over, aim=50)
    report.row("image, whole", whole)
