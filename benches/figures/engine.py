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


def exec_output(container, argv):
    """Runs a command as quire does, with both streams apart; its output and exit code."""
    body = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True}
    made = call("POST", f"/containers/{container}/exec", body)["Id"]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(SOCKET)
    body = b'{"Detach":false,"Tty":false}'
    connection.sendall(b"POST /v1.41/exec/%s/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: Upgrade\r\n"
                       b"Upgrade: tcp\r\nContent-Length: %d\r\n\r\n%s" % (made.encode(), len(body), body))
    answer = b""
    while part := connection.recv(65536):
        answer += part
    connection.close()
    head, _, frames = answer.partition(b"\r\n\r\n")
    expect(re.match(rb"HTTP/1.1 (101|200) ", head), f"exec answered {head[:200]}")
    output = b""
    while frames:
        size = int.from_bytes(frames[4:8], "big")
        output, frames = output + frames[8:8 + size], frames[8 + size:]
    return output.decode(), call("GET", f"/exec/{made}/json")["ExitCode"]
