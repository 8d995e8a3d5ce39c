"""A server of git over HTTPS: `git http-backend` behind Python's own HTTP server. Git LFS is giftless, or an answer that a test has planned.

The settings are one line of JSON on standard input. The port is printed; then each request, a line of JSON each.
"""

import base64
import glob
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SETTINGS = json.loads(sys.stdin.readline())
PRINTING = threading.Lock()
BATCH = ".git/info/lfs/objects/batch"


def giftless():
    """The program of giftless, with its objects beside the repositories."""
    os.chdir(SETTINGS["root"])
    sys.path.insert(0, SETTINGS["giftless"])
    from giftless.app import init_app

    settings = {"AUTH_PROVIDERS": ["giftless.auth.allow_anon:read_write"], "LEGACY_ENDPOINTS": False}
    return init_app(additional_config=settings)


LFS = giftless() if SETTINGS["giftless"] else None


def command_lines_with(secret):
    """The command lines of this machine that have the secret."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                words = file.read()
        except OSError:
            continue
        if secret.encode() in words:
            found.append(words.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def do_PUT(self):
        self.serve()

    def log_message(self, *arguments):
        pass

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        login = f"{SETTINGS['user']}:{SETTINGS['token']}"
        wanted = "Basic " + base64.b64encode(login.encode()).decode()
        given = self.headers.get("Authorization")
        request = {
            "method": self.command,
            "path": self.path,
            "login": "none" if given is None else "right" if given == wanted else "wrong",
            "seen": command_lines_with(SETTINGS["token"]),
        }
        with PRINTING:
            print(json.dumps(request), flush=True)
        if "/objects/storage/" in self.path:
            # Their addresses and headers have a login of their own.
            self.lfs()
        elif self.path.startswith("/moved/"):
            self.answer(302, [("Location", self.path.replace("/moved/", "/", 1))], b"")
        elif self.path.startswith("/public/"):
            self.git()
        elif given is None:
            self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        elif given != wanted:
            self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], f"no such token: {given}".encode())
        else:
            self.git()

    def lfs(self):
        path, _, query = self.path.partition("?")
        answers = []
        environment = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": urllib.parse.unquote(path),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": self.headers.get("Content-Length") or "0",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": self.rfile,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        environment.update({"HTTP_" + name.upper().replace("-", "_"): value for name, value in self.headers.items()})
        if BATCH in path:
            # The login was checked here.
            del environment["HTTP_AUTHORIZATION"]
        body = b"".join(LFS(environment, lambda status, headers, problem=None: answers.append((status, headers))))
        status, headers = answers[0]
        self.answer(int(status[:3]), [pair for pair in headers if pair[0].lower() != "content-length"], body)

    def planned(self, plan):
        """Answers the batch API: a status, or the same actions for each object."""
        objects = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["objects"]
        if isinstance(plan, int):
            self.answer(plan, [("Content-Type", "application/json")], b'{"message": "as it was planned"}')
            return
        for one in objects:
            one.update(json.loads(json.dumps(plan).replace("OID", one["oid"])))
        body = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self.answer(200, [("Content-Type", "application/vnd.git-lfs+json")], body)

    def git(self):
        path, _, query = self.path.partition("?")
        plan = SETTINGS["planned"].get(path.removesuffix(BATCH).removeprefix("/"))
        if path.endswith(BATCH) and plan is not None:
            self.planned(plan)
            return
        if path.endswith(BATCH) and LFS is not None:
            self.lfs()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/stuck/") and b"command=fetch" in body:
            time.sleep(3600)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": SETTINGS["root"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": SETTINGS["gitconfig"],
            "GIT_PROJECT_ROOT": SETTINGS["root"],
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "REMOTE_USER": SETTINGS["user"],
        }
        backend = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE)
        head, _, rest = backend.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if line]
        status = next((int(value[:3]) for name, value in headers if name == "Status"), 200)
        self.answer(status, [(name, value) for name, value in headers if name != "Status"], rest)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(SETTINGS["certificate"])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
