"""`exec`, `logs` and `drain` on pods that run."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live

Run = Callable[..., subprocess.CompletedProcess[bytes]]
LOOP = "echo first; echo to-stderr >&2; exec sleep 1000"


@pytest.fixture
def kubeling(kubeling_cluster: Any, kubeling_namespace: str) -> Run:
    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        line = [sys.executable, "-m", "kubeling.cli", words[0], "-n", kubeling_namespace, *words[1:]]
        return subprocess.run(line, input=stdin, capture_output=True, timeout=120, check=False, env=kubeling_cluster.env)

    made = run("run", "sh", "--image=kubeling.local/host", "--command", "--", "sh", "-c", LOOP)
    assert made.returncode == 0, made
    ready = run("wait", "--for=condition=Ready", "pod/sh", "--timeout=60s")
    assert ready.returncode == 0, (ready, run("describe", "pod", "sh").stdout)
    return run


def test_exec_and_logs(kubeling: Run, kubeling_cluster: Any, kubeling_namespace: str) -> None:
    assert kubeling("exec", "sh", "--", "echo", "-n", "hi").stdout == b"hi"
    failed = kubeling("exec", "pod/sh", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (failed.returncode, failed.stdout) == (3, b"out\n")
    assert failed.stderr == b"err\ncommand terminated with exit code 3\n"

    data = os.urandom(3_000_000)
    assert kubeling("exec", "-i", "sh", "--", "cat", stdin=data).stdout == data
    missing = kubeling("exec", "sh", "--", "no-such-command")
    assert missing.returncode == 1
    assert b"no-such-command" in missing.stderr
    assert kubeling("exec", "sh", "-c", "nope", "--", "ls").returncode == 1

    assert sorted(kubeling("logs", "sh").stdout.splitlines()) == [b"first", b"to-stderr"]
    assert kubeling("logs", "sh", "--tail=1", "--prefix").stdout.startswith(b"[pod/sh/sh] ")
    assert kubeling("logs", "-l", "run=sh").stdout.count(b"\n") == 2

    parent, child = pty.openpty()
    line = [
        sys.executable,
        "-m",
        "kubeling.cli",
        "exec",
        "-n",
        kubeling_namespace,
        "-it",
        "sh",
        "--",
        "sh",
        "-c",
        "read x; echo got $x; tty",
    ]
    session = subprocess.Popen(line, stdin=child, stdout=child, stderr=child, env=kubeling_cluster.env, start_new_session=True)
    os.close(child)
    try:
        os.write(parent, b"word\r")
        shown = b""
        while b"/dev/" not in shown:
            assert select.select([parent], [], [], 60)[0], f"nothing more is shown after {shown!r}"
            shown += os.read(parent, 4096)
        assert b"got word" in shown
        assert session.wait(60) == 0
    finally:
        session.kill()
        session.wait()
        os.close(parent)


def test_attach_cp_and_port_forward(kubeling: Run, kubeling_cluster: Any, kubeling_namespace: str, tmp_path: Path) -> None:
    def start(*words: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "kubeling.cli", words[0], "-n", kubeling_namespace, *words[1:]]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(line, env=kubeling_cluster.env, text=True, **pipes)

    # cp: a file, a folder into a folder, and back.
    data = os.urandom(2_000_000)
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "file").write_bytes(data)
    (tmp_path / "up" / "empty").mkdir()
    assert kubeling("cp", str(tmp_path / "up" / "file"), "sh:/tmp/one").returncode == 0
    assert kubeling("cp", str(tmp_path / "up"), f"{kubeling_namespace}/sh:/tmp/").returncode == 0
    assert kubeling("exec", "sh", "--", "cat", "/tmp/up/file").stdout == data
    down = kubeling("cp", "sh:/tmp/up", str(tmp_path / "down"))
    assert down.returncode == 0, down
    assert sorted(each.name for each in (tmp_path / "down").iterdir()) == ["empty", "file"]
    assert (tmp_path / "down" / "file").read_bytes() == data
    assert kubeling("cp", "sh:/tmp/one", str(tmp_path)).returncode == 0
    assert (tmp_path / "one").read_bytes() == data
    # A link that leads out of the folder is not followed, nor made.
    kubeling("exec", "sh", "--", "sh", "-c", "mkdir /tmp/bad && ln -s /etc /tmp/bad/link && echo x > /tmp/bad/file")
    linked = kubeling("cp", "sh:/tmp/bad", str(tmp_path / "bad"))
    assert b"skipping symlink" in linked.stderr
    assert [each.name for each in (tmp_path / "bad").iterdir()] == ["file"]
    assert kubeling("cp", "sh:/no/such", str(tmp_path / "none")).returncode != 0
    assert b"doesn't exist in local filesystem" in kubeling("cp", str(tmp_path / "none"), "sh:/tmp").stderr
    assert b"one of src or dest must be a remote file" in kubeling("cp", "a", "b").stderr

    # attach: to one that reads.
    talks = "while read line; do echo got $line; done"
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talks", "labels": {"app": "talks"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "main", "image": "kubeling.local/host", "stdin": True, "command": ["sh", "-c", talks]},
                {
                    "name": "web",
                    "image": "kubeling.local/host",
                    "command": ["python3", "-m", "http.server", "8080", "--directory", "/proc/self/fd"],
                    "ports": [{"name": "http", "containerPort": 8080}],
                },
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "talks"},
        "spec": {"selector": {"app": "talks"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    for each in (manifest, service):
        assert kubeling("apply", "-f", "-", stdin=json.dumps(each).encode()).returncode == 0
    assert kubeling("wait", "--for=condition=Ready", "pod/talks", "--timeout=60s").returncode == 0
    attached = start("attach", "-i", "-q", "talks", "-c", "main")
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write("a line\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "got a line\n"
    attached.kill()
    attached.communicate()

    # port-forward: by pod and port, by Service and its port, by the port's name.
    for what, port in (("pod/talks", ":8080"), ("svc/talks", ":80"), ("talks", ":http")):
        forwarding = start("port-forward", what, port)
        try:
            assert forwarding.stdout is not None
            match = re.fullmatch(r"Forwarding from 127\.0\.0\.1:(\d+) -> 8080\n", forwarding.stdout.readline())
            assert match is not None
            for _ in range(3):
                # The server ends each connection, and so must we: a reader to the end would wait for ever.
                with socket.create_connection(("127.0.0.1", int(match[1])), 30) as local:
                    local.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    answer = b"".join(iter(lambda local=local: local.recv(65536), b""))
                    assert answer.startswith(b"HTTP/1.0 200 ")
        finally:
            forwarding.send_signal(signal.SIGINT)
            said, _ = forwarding.communicate(timeout=30)
            assert said.count("Handling connection for") == 3, said
    nowhere = start("port-forward", "talks", ":9")
    assert nowhere.stdout is not None
    match = re.search(r":(\d+) -> 9\n", nowhere.stdout.readline())
    assert match is not None
    with socket.create_connection(("127.0.0.1", int(match[1])), 30) as local:
        assert local.recv(10) == b""
    nowhere.send_signal(signal.SIGINT)
    assert "an error occurred forwarding" in nowhere.communicate(timeout=30)[0]
    assert b"does not have a service port 81" in kubeling("port-forward", "svc/talks", "81").stderr


def test_top(kubeling: Run, kubeling_cluster: Any, kubeling_namespace: str) -> None:
    deadline = time.monotonic() + 90
    while not (found := kubeling("top", "pod", "sh")).stdout and time.monotonic() < deadline:
        time.sleep(0.5)
    assert re.fullmatch(r"NAME +CPU\(cores\) +MEMORY\(bytes\) +\nsh +\d+m +\d+Mi +\n", found.stdout.decode()), found
    assert re.search(r"^sh +sh +\d+m +\d+Mi", kubeling("top", "pod", "--containers").stdout.decode(), re.MULTILINE)
    nodes = kubeling("top", "node", "--sort-by=cpu").stdout.decode().splitlines()
    theirs = kubeling_cluster.kubectl("top", "node").stdout.splitlines()
    assert nodes[0].split() == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    assert sorted(line.split()[0] for line in nodes) == sorted(line.split()[0] for line in theirs)


def test_debug_run_and_proxy(kubeling: Run, kubeling_cluster: Any, kubeling_namespace: str) -> None:
    image = ("--image=kubeling.local/host", "--profile=general", "-q")
    # In the pod: it sees the other's processes.
    seen = kubeling(
        "debug", "sh", *image, "-c", "dbg", "--target=sh", "--attach", "--", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; echo"
    )
    assert (seen.returncode, seen.stdout.split()) == (0, [b"sleep", b"1000"]), seen
    # A copy of it with another command, and without its labels.
    copied = kubeling(
        "debug", "sh", "--copy-to=copy", "--container=sh", "-q", "--same-node", "--", "sh", "-c", "echo copied; sleep 99"
    )
    assert copied.returncode == 0, copied
    assert kubeling("wait", "--for=condition=Ready", "pod/copy", "--timeout=60s").returncode == 0
    assert kubeling("logs", "copy").stdout == b"copied\n"
    assert kubeling("get", "pod", "copy", "-o", "jsonpath={.metadata.labels}").stdout == b""
    node = kubeling("get", "pod", "copy", "-o", "jsonpath={.spec.nodeName}").stdout.decode()
    # On the node.
    there = kubeling(
        "debug", f"node/{node}", "--image=kubeling.local/host", "--profile=sysadmin", "--attach", "--", "ls", "/host"
    )
    assert b"etc" in there.stdout.split(), there
    assert f"Creating debugging pod node-debugger-{node}-".encode() in there.stderr

    ended = kubeling(
        *("run", "once", "--image=kubeling.local/host", "--restart=Never", "--rm", "-i", "--command", "--"),
        *("sh", "-c", "cat; exit 3"),
        stdin=b"from here",
    )
    assert (ended.returncode, ended.stdout) == (3, b'from herepod "once" deleted\n'), ended
    assert b"NotFound" in kubeling("get", "pod", "once").stderr

    line = [sys.executable, "-m", "kubeling.cli", "proxy", "--port=0", "--reject-methods=^DELETE$"]
    front = subprocess.Popen(line, env=kubeling_cluster.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert front.stdout is not None
        match = re.fullmatch(r"Starting to serve on 127\.0\.0\.1:(\d+)\n", front.stdout.readline())
        assert match is not None
        pods = f"/api/v1/namespaces/{kubeling_namespace}/pods"

        def ask(method: str, path: str, host: str = "localhost") -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=60)
            connection.request(method, path, headers={"Host": host})
            answer = connection.getresponse()
            found = answer.status, answer.readline() if "watch=1" in path else answer.read()
            connection.close()
            return found

        status, body = ask("GET", f"{pods}/sh")
        assert (status, json.loads(body)["metadata"]["name"]) == (200, "sh")
        assert json.loads(ask("GET", f"{pods}?watch=1&resourceVersion=0")[1])["type"] == "ADDED"
        assert ask("GET", f"{pods}/nothing")[0] == 404
        assert [ask("DELETE", f"{pods}/sh")[0], ask("GET", f"{pods}/sh/exec")[0], ask("GET", "/api", "evil")[0]] == [403] * 3
    finally:
        front.send_signal(signal.SIGINT)
        front.communicate(timeout=30)
