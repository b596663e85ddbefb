"""Exec, attach and port-forward over WebSockets, spoken by a client that knows only the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

# Runs inside the node's network namespace, where the streaming server listens. It prints what comes as JSON lines: [channel, text].
CLIENT = """
import json, select, socket, sys, urllib.parse
import wsproto
from wsproto.events import *
url, protocol, script = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
parts = urllib.parse.urlparse(url)
s = socket.create_connection((parts.hostname, parts.port), 10)
c = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
s.sendall(c.send(Request(host=parts.netloc, target=parts.path, subprotocols=[protocol])))
wait = lambda text: any(text in t for _, t in seen)
seen, part, open_, ready = [], b"", True, False
while open_:
    while ready and script and (script[0][0] == "send" or wait(script[0][1])):
        step = script.pop(0)
        if step[0] == "send":
            s.sendall(c.send(BytesMessage(bytes([step[1]]) + step[2].encode("latin-1"))))
        elif step[0] == "leave":
            script, open_ = [], False
    if not open_: break
    data = s.recv(65536)
    c.receive_data(data or None)
    for e in c.events():
        if isinstance(e, BytesMessage):
            part += bytes(e.data)
            if e.message_finished:
                seen.append((part[0], part[1:].decode("latin-1"))); part = b""
        elif isinstance(e, AcceptConnection):
            ready = True
        elif isinstance(e, RejectConnection):
            seen.append((-1, str(e.status_code))); open_ = False
        elif isinstance(e, CloseConnection):
            open_ = False
    if not data: break
print(json.dumps(seen))
"""


def talk(node: Node, url: str, *script: Any, protocol: str = "v5.channel.k8s.io") -> dict[int, str]:
    """Everything that came, joined by channel."""
    command = node.inside(sys.executable, "-c", CLIENT, url, protocol, json.dumps(script))
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[int, str] = {}
    for channel, text in json.loads(done.stdout):
        found[channel] = found.get(channel, "") + text
    return found


async def test_exec(client: Cri, node: Node) -> None:
    _, container = await client.pod("sleep", "1000")

    async def url(*command: str, **values: Any) -> str:
        request = cri.ExecRequest(container_id=container, cmd=command, stdout=True, stderr=not values.get("tty"), **values)
        return str((await client.runtime.Exec(request)).url)

    got = talk(node, await url("sh", "-c", "echo out; echo err >&2; exit 4"))
    assert (got[1], got[2]) == ("out\n", "err\n")
    status = json.loads(got[3])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]

    # v5 can say that its input has ended, and cat then ends.
    got = talk(node, await url("cat", stdin=True), ["send", 0, "hello "], ["send", 0, "world"], ["send", 255, "\0"])
    assert got[1] == "hello world"
    assert json.loads(got[3])["status"] == "Success"

    address = await url("sh", "-c", "stty size; read x; echo got $x; tty; stty size", stdin=True, tty=True)
    steps = [["wait", "0 0"], ["send", 4, '{"Width": 100, "Height": 30}'], ["send", 0, "line\n"]]
    got = talk(node, address, *steps, protocol="v4.channel.k8s.io")
    assert "got line\r\n/dev/pts/0\r\n30 100" in got[1]

    # A URL is good once, and an unknown one never.
    assert talk(node, address) == {-1: "404"}
    assert talk(node, await url("true"), protocol="v9.channel.k8s.io") == {-1: "400"}


async def test_a_client_that_leaves_takes_its_command_along(client: Cri, node: Node) -> None:
    _, container = await client.pod("sleep", "1000")
    request = cri.ExecRequest(
        container_id=container, cmd=["sh", "-c", "echo up; sleep 777"], stdout=True, stderr=True, stdin=True
    )
    url = (await client.runtime.Exec(request)).url
    talk(node, url, ["leave", "up"])

    async def gone() -> bool:
        return "777" not in (await client.exec(container, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))[1].replace(
            "grep", ""
        )

    await eventually(gone)


async def test_attach(client: Cri, node: Node) -> None:
    _, container = await client.pod("sh", "-c", "while read x; do echo got $x; done; echo eof", stdin=True, stdin_once=True)
    request = cri.AttachRequest(container_id=container, stdin=True, stdout=True, stderr=True)
    url = (await client.runtime.Attach(request)).url
    got = talk(node, url, ["send", 0, "one\n"], ["wait", "got one"], ["send", 255, "\0"])
    assert got[1] == "got one\neof\n"
    status = await client.finished(container)
    assert client.text(status.log_path) == "got one\neof\n"

    _, container = await client.pod("sh", "-c", "read x; echo got $x; tty", stdin=True, tty=True, name="tty")
    request = cri.AttachRequest(container_id=container, stdin=True, stdout=True, tty=True)
    got = talk(node, (await client.runtime.Attach(request)).url, ["send", 0, "two\n"])
    assert "got two\r\n/dev/pts/0" in got[1]


async def test_port_forward(client: Cri, node: Node) -> None:
    serve = "import socket; s=socket.create_server(('127.0.0.1',8080))\nwhile 1: c,a=s.accept(); c.sendall(c.recv(99).upper()); c.close()"
    sandbox, container = await client.pod("python3", "-c", serve)

    async def listening() -> bool:
        return ":1F90" in (await client.exec(container, "cat", "/proc/net/tcp"))[1]

    await eventually(listening)
    request = cri.PortForwardRequest(pod_sandbox_id=sandbox, port=[8080, 9])
    url = (await client.runtime.PortForward(request)).url
    got = talk(
        node, url, ["send", 0, "hello"], ["wait", "HELLO"], ["wait", "cannot"], ["leave", "HELLO"], protocol="v4.channel.k8s.io"
    )
    assert got[0] == "\x90\x1fHELLO"
    assert got[1] == "\x90\x1f"
    assert got[2] == "\x09\x00"
    assert "cannot connect to port 9" in got[3]


# A client of SPDY/3.1: opens the streams of argv[3], sends what is given, prints what each stream got as JSON.
SPDY_CLIENT = """
import json, socket, struct, sys, urllib.parse, zlib
from kubeling.crilite.spdy import DICTIONARY
url, protocol, streams = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
parts = urllib.parse.urlparse(url)
s = socket.create_connection((parts.hostname, parts.port), 10)
s.sendall(f"POST {parts.path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: SPDY/3.1\\r\\n"
          f"X-Stream-Protocol-Version: v9\\r\\nX-Stream-Protocol-Version: {protocol}\\r\\n\\r\\n".encode())
f = s.makefile("rb")
head = b""
while not head.endswith(b"\\r\\n\\r\\n"):
    head += f.read(1)
assert b" 101 " in head and protocol.encode() in head, head
deflate, inflate = zlib.compressobj(zdict=DICTIONARY), zlib.decompressobj(zdict=DICTIONARY)
got, left = {}, set()
for index, (headers, data) in enumerate(streams):
    number = 2 * index + 1
    block = struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(t)) + t.encode() for pair in headers.items() for t in pair)
    block = deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)
    s.sendall(struct.pack(">HHI", 0x8003, 1, len(block) + 10) + struct.pack(">IIH", number, 0, 0) + block)
    got[number] = b""
    if headers["streamtype"] not in ("stdin", "resize"):
        left.add(number)
s.sendall(struct.pack(">HHI", 0x8003, 6, 4) + struct.pack(">I", 77))
for index, (headers, data) in enumerate(streams):
    for piece in data or []:
        s.sendall(struct.pack(">II", 2 * index + 1, len(piece)) + piece.encode())
    if data is not None:
        s.sendall(struct.pack(">II", 2 * index + 1, 1 << 24))
pinged = False
while left:
    head = f.read(8)
    if len(head) < 8:
        break
    first, flags = struct.unpack(">II", head)
    body = f.read(flags & 0xFFFFFF)
    if first & 0x80000000:
        pinged |= first & 0xFFFF == 6 and body == struct.pack(">I", 77)
    else:
        got[first] += body
        if flags >> 24 & 1:
            left.discard(first)
assert pinged
print(json.dumps([got[2 * index + 1].decode() for index in range(len(streams))]))
"""


def talk_spdy(node: Node, url: str, protocol: str, *streams: Any) -> list[str]:
    command = node.inside(sys.executable, "-c", SPDY_CLIENT, url, protocol, json.dumps(streams))
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


async def test_spdy(client: Cri, node: Node) -> None:
    serve = "import socket; s=socket.create_server(('127.0.0.1',8080))\nwhile 1: c,a=s.accept(); c.sendall(c.recv(99).upper()); c.close()"
    sandbox, container = await client.pod("python3", "-c", serve)
    command = ["sh", "-c", "echo err >&2; cat; exit 6"]
    request = cri.ExecRequest(container_id=container, cmd=command, stdin=True, stdout=True, stderr=True)
    url = (await client.runtime.Exec(request)).url
    streams = [
        [{"streamtype": name}, data]
        for name, data in (("error", None), ("stdin", ["a" * 9, "b"]), ("stdout", None), ("stderr", None))
    ]
    error, _, stdout, stderr = talk_spdy(node, url, "v4.channel.k8s.io", *streams)
    assert json.loads(error)["details"]["causes"][0]["message"] == "6"
    assert (stdout, stderr) == ("a" * 9 + "b", "err\n")

    async def listening() -> bool:
        return ":1F90" in (await client.exec(container, "cat", "/proc/net/tcp"))[1]

    await eventually(listening)
    url = (await client.runtime.PortForward(cri.PortForwardRequest(pod_sandbox_id=sandbox, port=[8080]))).url
    streams = [
        [{"streamtype": kind, "port": port, "requestid": number}, ["hi"] if kind == "data" else None]
        for number, port in (("0", "8080"), ("1", "8080"), ("2", "9"))
        for kind in ("error", "data")
    ]
    got = talk_spdy(node, url, "portforward.k8s.io", *streams)
    assert got[:4] == ["", "HI", "", "HI"]
    assert "cannot connect to port 9" in got[4]
