"""A native quire and a plain sshd beside it, both on loopback, and a client that is the same for both."""

import contextlib
import datetime
import getpass
import http.client
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess

from measure import Stopwatch, expect, run, wait_for

PIPELINE = '(local ci (require :quire.ci))\n(ci.job :first [:quire/push] (fn [{: sh}] (sh ["echo" "first line"])))\n'


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Client:
    """Somebody with a key: git and ssh without anything of this machine's configuration."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        self.key = os.path.join(folder, "key")
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", self.key])
        with open(self.key + ".pub", encoding="utf-8") as file:
            self.public_key = file.read()
        options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR",
                   f"UserKnownHostsFile={folder}/known_hosts"]
        self.ssh = ["ssh", "-F", "none", "-i", self.key] + [word for option in options for word in ("-o", option)]
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": folder, "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_SSH_COMMAND": shlex.join(self.ssh), "GIT_SSH_VARIANT": "ssh",
            **{f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in (("NAME", "Bench"), ("EMAIL", "bench@example.org"))},
        }

    def git(self, tree, *arguments):
        return run(["git", "-C", tree, *arguments], env=self.environment)

    def tree(self, name, files):
        """A working tree with these files in one commit on `main`."""
        tree = os.path.join(self.folder, name)
        os.makedirs(tree)
        self.git(tree, "init", "-q", "-b", "main")
        self.commit(tree, files)
        return tree

    def commit(self, tree, files, message="a change"):
        for path, content in files.items():
            path = os.path.join(tree, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        self.git(tree, "add", "--all")
        self.git(tree, "commit", "-q", "--allow-empty", "-m", message)
        return self.git(tree, "rev-parse", "HEAD")

    def push(self, tree, remote):
        """Pushes `main`; milliseconds and what the person at the terminal reads."""
        watch = Stopwatch()
        done = subprocess.run(["git", "-C", tree, "push", remote, "HEAD:refs/heads/main"], env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        taken = watch.ms()
        expect(done.returncode == 0, f"push to {remote}: {done.stdout}")
        return taken, done.stdout


class Forge:
    """`quire init --native`, its files and its database."""

    def __init__(self, quire, folder, client, **environment):
        self.data = os.path.join(folder, "data")
        self.runtime = os.path.join(self.data, "runtime")
        self.quire = quire
        self.user = getpass.getuser()
        self.ssh_port, self.http_port = free_port(), free_port()
        os.makedirs(self.data)
        with open(os.path.join(self.data, "authorized_keys"), "w", encoding="utf-8") as file:
            file.write(client.public_key)
        self.log = os.path.join(folder, "forge.log")
        self.environment = {"PATH": os.environ["PATH"], "HOME": folder, "QUIRE_HTTP_AUTH": "open", "QUIRE_CI_EXECUTOR": "host", **environment}
        self.process = None
        self.start()

    def start(self):
        self.spawn()
        wait_for("a forge that is ready", lambda: self.serves("/readyz"))
        wait_for("its sshd", lambda: self.answers(self.ssh_port))

    def spawn(self):
        """Starts it and waits for nothing."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.quire, "init", "--native", "--data", self.data, "--ssh-port", str(self.ssh_port), "--http-port", str(self.http_port)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            expect(self.process.wait(timeout=30) == 0, "quire init did not end in order")
            self.process = None

    def serves(self, path):
        """Whether it answers 200: `/healthz` from its start on, `/readyz` once it is ready."""
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                expect(False, "quire init ended: " + "".join(log.readlines()[-20:]))
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False

    @staticmethod
    def answers(port):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def status(self):
        """What init says of its children."""
        with open(os.path.join(self.runtime, "status.json"), encoding="utf-8") as file:
            return json.load(file)

    def remote(self, repo):
        return f"ssh://{self.user}@127.0.0.1:{self.ssh_port}/{repo}"

    def bare(self, repo):
        return os.path.join(self.data, "repos", repo + ".git")

    def rows(self, sql, *values):
        with contextlib.closing(sqlite3.connect(os.path.join(self.data, "quire.db"), timeout=20)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(sql, values).fetchall()

    def ended_run(self, sha, patience=120):
        """The run of a commit, once it is over; it must be green."""
        def over():
            found = self.rows("SELECT * FROM runs WHERE sha = ? AND finished_at_ms IS NOT NULL", sha)
            return found[0] if found else None
        found = wait_for(f"the end of the run of {sha}", over, patience)
        expect(found["state"] == "complete", f"the run is {found['state']}: {found['message']}")
        return found

    def step_started(self, run_row):
        """When its first step began, in milliseconds."""
        return self.rows("SELECT started_at_ms FROM steps WHERE run_id = ? AND seq = 1", run_row["id"])[0]["started_at_ms"]

    def first_line(self, run_row):
        """When the first line of its first step came, in milliseconds, and what it says."""
        log = os.path.join(self.data, "runs", run_row["repo"], run_row["id"], "jobs", "first", "1.log")
        with open(log, encoding="utf-8") as file:
            time, stream, kind, said = file.readline().rstrip("\n").split(" ", 3)
        expect((stream, kind) == ("stdout", "F"), f"the first line is {kind} of {stream}: {said}")
        return datetime.datetime.fromisoformat(time).timestamp() * 1000, said


class Plain:
    """sshd and git alone: the same program, settings, host key and user; no forced command and no quire."""

    def __init__(self, forge, folder):
        self.folder = os.path.join(folder, "plain")
        os.makedirs(self.folder)
        self.port = free_port()
        with open(os.path.join(forge.runtime, "sshd_config"), encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith(("Port ", "ForceCommand "))]
        expect(len(lines) > 10, "the forge's sshd configuration is not where it was expected")
        if os.geteuid() == 0:
            # What init gives its sshd by an option where it runs natively as root.
            lines = ["PermitRootLogin prohibit-password\n", *lines]
        configuration = os.path.join(self.folder, "sshd_config")
        with open(configuration, "w", encoding="utf-8") as file:
            file.writelines([f"Port {self.port}\n", *lines])
        self.user = forge.user
        with open(os.path.join(self.folder, "sshd.log"), "wb") as log:
            self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("a plain sshd", lambda: Forge.answers(self.port))

    def create(self, repo):
        bare = os.path.join(self.folder, repo + ".git")
        run(["git", "init", "-q", "--bare", "-b", "main", bare])
        return bare

    def remote(self, repo):
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.folder}/{repo}.git"

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)
