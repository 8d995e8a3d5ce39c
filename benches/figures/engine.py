"""The Docker engine by hand: one request a connection, over its socket, without any client."""

import http.client
import json
import os
import re
import socket

from measure import expect

SOCKET = (os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").removeprefix("unix://")


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(SOCKET)


def call(method, path, body=None, expected=(200, 201, 204)):
    connection = Connection("localhost")
    text = json.dumps(body) if body is not None else None
    connection.request(method, "/v1.41" + path, body=text, headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    expect(answer.status in expected, f"{method} {path} answered {answer.status}: {content[:300]}")
    return json.loads(content) if content.startswith((b"{", b"[")) else None


def exec_stream(container, argv):
    """Runs a command as quire does, with both streams apart: an iterator of its frames' bytes as they come, and its exec's id."""
    body = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True}
    made = call("POST", f"/containers/{container}/exec", body)["Id"]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(SOCKET)
    body = b'{"Detach":false,"Tty":false}'
    connection.sendall(b"POST /v1.41/exec/%s/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: Upgrade\r\n"
                       b"Upgrade: tcp\r\nContent-Length: %d\r\n\r\n%s" % (made.encode(), len(body), body))
    file = connection.makefile("rb", buffering=1 << 18)
    head = file.readline()
    expect(re.match(rb"HTTP/1.1 (101|200) ", head), f"exec answered {head[:200]}")
    while file.readline() not in (b"\r\n", b""):
        pass

    def frames():
        while header := file.read(8):
            yield file.read(int.from_bytes(header[4:8], "big"))
        file.close()
        connection.close()
    return frames(), made


def exec_output(container, argv):
    """Runs a command; its output and exit code."""
    frames, made = exec_stream(container, argv)
    output = b"".join(frames).decode()
    return output, call("GET", f"/exec/{made}/json")["ExitCode"]


def exec_size(container, argv):
    """Runs a command and throws its output away; the bytes of it and the exit code."""
    frames, made = exec_stream(container, argv)
    size = sum(map(len, frames))
    return size, call("GET", f"/exec/{made}/json")["ExitCode"]
