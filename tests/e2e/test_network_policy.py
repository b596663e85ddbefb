"""NetworkPolicies in a whole cluster: by name, by Service, on open connections, and what no policy may forbid."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

from kubeling.tests.e2e.support import Bench

pytestmark = pytest.mark.live

Obj = dict[str, Any]
IMAGE = "kubeling.local/host"
#: Says line by line what it is asked, for as long as somebody asks: over both families, whichever the cluster has.
SERVER = """
import socket, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
with socketserver.ThreadingTCPServer(('', 0), Handler, bind_and_activate=False) as server:
    server.daemon_threads = True
    server.socket = socket.create_server(('::', 8080), family=socket.AF_INET6, dualstack_ipv6=True)
    server.serve_forever()
"""
ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as s:
        s.sendall(b'hello\\n'); print(s.recv(100).decode().strip())
except OSError as error:
    print('no:', type(error).__name__)
"""
#: One connection, a word every tenth of a second; ends when no answer comes any more.
TALK = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 8080), 5); s.settimeout(3)
while True:
    try:
        s.sendall(b'x\\n')
        if not s.recv(10): break
    except OSError:
        break
    print('.', flush=True); time.sleep(0.1)
print('cut', flush=True)
"""


def pod(name: str, command: list[str], probe: bool = False) -> Obj:
    container: Obj = {"name": "c", "image": IMAGE, "command": command, "ports": [{"name": "talk", "containerPort": 8080}]}
    if probe:
        container["readinessProbe"] = {"tcpSocket": {"port": "talk"}, "periodSeconds": 1, "failureThreshold": 1}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def policy(name: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, **spec},
    }


class Talkers:
    """Three pods: `server` with a Service `talk`, `friend` and `stranger`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.apply(pod("server", ["python3", "-c", SERVER], probe=True))
        for name in ("friend", "stranger"):
            bench.apply(pod(name, ["sleep", "infinity"]))
        ports = [{"port": 80, "targetPort": "talk"}]
        bench.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "talk"},
                "spec": {"selector": {"app": "server"}, "ports": ports},
            }
        )
        bench.cli("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        self.ip = bench.get("pod", "server")["status"]["podIP"]

    def ask(self, who: str, host: str = "", port: int = 8080, seconds: float = 1) -> bool:
        answer = self.bench.cli("exec", who, "--", "python3", "-c", ASK, host or self.ip, str(port), str(seconds))
        return answer.strip() == "hello"

    def settles(self, what: str, who: str, expected: bool, host: str = "", port: int = 8080) -> None:
        self.bench.until(what, lambda: self.ask(who, host, port) is expected, 30)


@pytest.fixture
def talkers(bench: Bench) -> Talkers:
    if shutil.which("nft") is None:
        pytest.skip("policies are enforced with nft, which is not installed")
    return Talkers(bench)


def test_who_may_talk_to_whom(talkers: Talkers) -> None:
    bench = talkers.bench
    for who in ("friend", "stranger"):
        talkers.settles(f"{who} gets through by the Service's name", who, True, "talk", 80)
    bench.apply(policy("nobody", policyTypes=["Ingress"]))
    talkers.settles("nobody gets in", "friend", False)
    assert not talkers.ask("stranger", "talk", 80)
    # A pod reaches itself, and its node reaches it: it stays ready.
    talkers.settles("the server meets itself by way of its Service", "server", True, "talk", 80)
    bench.apply(
        policy(
            "friends",
            podSelector={"matchLabels": {"app": "server"}},
            ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "talk"}]}],
        )
    )
    talkers.settles("friends get in", "friend", True)
    assert talkers.ask("friend", "talk", 80)
    assert not talkers.ask("stranger")
    conditions = {each["type"]: each["status"] for each in bench.get("pod", "server")["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    # Who may come in has also to be let out.
    bench.apply(policy("stay", podSelector={"matchLabels": {"app": "friend"}}, policyTypes=["Egress"]))
    talkers.settles("the friend is not let out", "friend", False)
    bench.cli("delete", "networkpolicy", "--all")
    for who in ("friend", "stranger"):
        talkers.settles(f"{who} gets through again", who, True, "talk", 80)


def test_a_policy_cuts_open_connections_that_it_forbids_and_no_others(talkers: Talkers) -> None:
    bench = talkers.bench

    def talk(who: str) -> subprocess.Popen[str]:
        command = ["-n", bench.namespace, "exec", who, "--", "python3", "-uc", TALK, talkers.ip]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "kubeling.cli", *command], env=bench.cluster.env, stdout=subprocess.PIPE, text=True
        )

    with talk("friend") as friend, talk("stranger") as stranger:
        try:
            for each in (friend, stranger):
                assert each.stdout is not None
                assert each.stdout.readline() == ".\n"
            bench.apply(
                policy(
                    "friends",
                    podSelector={"matchLabels": {"app": "server"}},
                    ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
                )
            )
            assert stranger.stdout is not None
            deadline = time.monotonic() + 30
            while stranger.stdout.readline() != "cut\n":
                assert time.monotonic() < deadline
            assert friend.stdout is not None
            assert [friend.stdout.readline() for _ in range(5)] == [".\n"] * 5
        finally:
            for each in (friend, stranger):
                each.kill()
