"""Series of measurements, waiting, and the kind of machine it all ran on."""

import os
import re
import statistics
import subprocess
import time


class Wrong(Exception):
    """An answer was not what it must be, so the figure would be one of an error."""


def expect(condition, what):
    """Fails the whole bench where an answer is wrong."""
    if not condition:
        raise Wrong(what)


class Series:
    """Measurements of one thing, in one unit."""

    def __init__(self, unit="ms"):
        self.unit = unit
        self.values = []

    def add(self, value):
        self.values.append(value)

    @property
    def median(self):
        expect(self.values, "nothing was measured")
        return statistics.median(self.values)

    @property
    def least(self):
        return min(self.values)


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self):
        self.begun = time.perf_counter()

    def ms(self):
        return (time.perf_counter() - self.begun) * 1000


def wait_for(what, look, patience=60, pause=0.002):
    """Polls until `look` gives something that counts as true."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        expect(time.monotonic() < deadline, f"never came: {what}")
        time.sleep(pause)


def run(arguments, **options):
    """Runs a program to its end; it must succeed. Gives its standard output."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    expect(done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def bare_spawn(rounds):
    """Starting `true` and waiting for it: what no process can undercut."""
    series = Series()
    for _ in range(rounds):
        watch = Stopwatch()
        subprocess.run(["/bin/true"], check=True)
        series.add(watch.ms())
    return series


def durable_append(folder, rounds):
    """4 KiB appended and synced: what no durable step can undercut."""
    series = Series()
    path = os.path.join(folder, "append")
    with open(path, "wb", buffering=0) as file:
        for _ in range(rounds):
            watch = Stopwatch()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            series.add(watch.ms())
    os.remove(path)
    return series


def machine():
    """When and where it was measured, in neutral words: what a reader needs to compare, and nothing that names the machine."""
    system = "Linux"
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            fields = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        system = " ".join(fields.get(key, "").strip('"').split(" ")[0] for key in ("NAME", "VERSION_ID")).strip()
    except OSError:
        pass
    kernel = ".".join(os.uname().release.split(".")[:2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    ssh = re.search(r"OpenSSH_([0-9.]+)", ssh)
    git = run(["git", "--version"]).split(" ")[2]
    load = os.getloadavg()[0]
    busy = " (busy: other work slowed what was measured)" if load > 0.7 * (os.cpu_count() or 1) else ""
    return (f"{time.strftime('%Y-%m-%d')} with {os.cpu_count()} cores ({os.uname().machine}) and {memory:.0f} GiB of memory, shared by client and server, "
            f"under {system}, kernel {kernel}, git {git}, OpenSSH {ssh.group(1) if ssh else 'of an unknown version'}, "
            f"at a load of {load:.1f} at the start{busy}")
