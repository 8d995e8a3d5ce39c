"""A server of git over HTTPS: `git http-backend` behind Python's own HTTP server.

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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SETTINGS = json.loads(sys.stdin.readline())
PRINTING = threading.Lock()


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
        if self.path.startswith("/moved/"):
            self.answer(302, [("Location", self.path.replace("/moved/", "/", 1))], b"")
        elif self.path.startswith("/public/"):
            self.git()
        elif given is None:
            self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        elif given != wanted:
            self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], f"no such token: {given}".encode())
        else:
            self.git()

    def git(self):
        path, _, query = self.path.partition("?")
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
