"""What a hostile container reaches beyond what its spec grants: nothing. The attacks themselves are in `hostile.py`, which runs inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.pods import phase_of
from tests.kubelet.conftest import IMAGE, Pods, shell

pytestmark = [pytest.mark.live, pytest.mark.root, pytest.mark.xdist_group("cluster")]

NODE = "worker-1"
HOSTILE = Path(__file__).with_name("hostile.py").read_text()
#: The capabilities that a container has when its spec says nothing, as upstream.
DEFAULT = 0xA80425FB
SYS_PTRACE, NET_ADMIN = 1 << 19, 1 << 12
#: A pod that has everything that others must not find, and says what datagrams it gets.
VICTIM = """
import ctypes, os, socket
libc = ctypes.CDLL(None)
libc.shmget(0x6B756265, 4096, 0o1600 | 0o1000)
libc.syscall(250 if os.uname().machine == "x86_64" else 219, 1, 0)
number = 248 if os.uname().machine == "x86_64" else 217
libc.syscall(number, b"user", b"kubeling-secret", b"found", 5, -3)
open("/dev/shm/kubeling-secret", "w").close()
abstract = socket.socket(socket.AF_UNIX)
abstract.bind(b"\\0other-pod")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 9999))
print("there", flush=True)
while True:
    data, source = udp.recvfrom(100)
    print("datagram from", source[0], data.decode(), flush=True)
"""

#: Name to (the pod's spec, the container's security context, capabilities that are granted, attacks that this grants).
CONTEXTS: dict[str, tuple[dict[str, Any], dict[str, Any], int, set[str]]] = {
    "default": ({}, {}, DEFAULT, set()),
    "seccomp": ({}, {"seccompProfile": {"type": "RuntimeDefault"}}, DEFAULT, set()),
    "user": ({}, {"runAsUser": 1000, "runAsGroup": 1000}, DEFAULT, set()),
    "tight": ({}, {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}, 0, set()),
    "shared-processes": ({"shareProcessNamespace": True}, {}, DEFAULT, set()),
    "ptrace": ({}, {"capabilities": {"add": ["SYS_PTRACE"]}}, DEFAULT | SYS_PTRACE, set()),
    "shared-ptrace": (
        {"shareProcessNamespace": True},
        {"capabilities": {"add": ["SYS_PTRACE"]}},
        DEFAULT | SYS_PTRACE,
        set(),
    ),
    "net-admin": ({}, {"capabilities": {"add": ["NET_ADMIN"]}}, DEFAULT | NET_ADMIN, {"change_the_network"}),
    "host-network": ({"hostNetwork": True}, {}, DEFAULT, {"abstract_sockets"}),
    "host-pid": ({"hostPID": True}, {}, DEFAULT, {"other_processes"}),
    "host-ipc": ({"hostIPC": True}, {}, DEFAULT, set()),
}


async def neighbour(pods: Pods, name: str = "victim") -> str:
    """A pod with secrets; its address."""
    await pods.run(name, {**shell("", name="c"), "command": ["python3", "-c", VICTIM]}, nodeName=NODE)
    pod = await pods.ready(name)
    await pods.logged(name, "there")
    return str(pod["status"]["podIP"])


async def attacked(
    pods: Pods, name: str, *attacks: str, context: dict[str, Any], caps: int, env: dict[str, str], **spec: Any
) -> dict[str, str]:
    """Run the hostile container to its end; what it reached."""
    variables = {
        "FORBIDDEN": ":".join(
            str(pods.cluster.root / each)
            for each in ("", "pki", f"nodes/{NODE}/kubelet", f"nodes/{NODE}/crilite", "control.sock")
        )
        + ":/run/kubeling:/run/kubeling/crilite.sock",
        "EXPECTED_CAPS": f"{caps:x}",
        **({"SYS_PTRACE": "yes"} if caps & SYS_PTRACE else {}),
        # The kubelet's own health port, which is on the node's loopback.
        "NODE_PORTS": "10248",
        **env,
    }
    container = {
        "name": "c",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", 'FDS=$(ls /proc/$$/fd) exec python3 -c "$SCRIPT" "$@"', "sh", *attacks],
        "env": [
            {"name": "SCRIPT", "value": HOSTILE},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            *({"name": key, "value": value} for key, value in variables.items()),
        ],
        "securityContext": context,
        "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    await pods.run(name, container, nodeName=NODE, restartPolicy="Never", volumes=[{"name": "volume", "emptyDir": {}}], **spec)
    pod = await pods.until(name, lambda pod: phase_of(pod) in ("Succeeded", "Failed"), 120)
    log = await pods.log(name)
    last = log.splitlines()[-1] if log else ""
    assert last.startswith("REACHED "), f"{log}\n{pod['status']}"
    found: dict[str, str] = json.loads(last.removeprefix("REACHED "))
    return found


@pytest.mark.parametrize("name", sorted(CONTEXTS))
async def test_a_hostile_container_reaches_nothing_that_its_spec_does_not_grant(pods: Pods, name: str) -> None:
    spec, context, caps, granted = CONTEXTS[name]
    address = await neighbour(pods)
    spoofed = await neighbour(pods, "somebody")
    words = ("hostPID",) if spec.get("hostPID") else ()
    reached = await attacked(
        pods, "hostile", *words, context=context, caps=caps, env={"VICTIM": address, "SPOOFED": spoofed}, **spec
    )
    beyond = {attack: words for attack, words in reached.items() if attack not in granted}
    assert not beyond, json.dumps(beyond, indent=1)
    if not spec.get("hostNetwork"):
        assert f"datagram from {spoofed}" not in await pods.log("victim")
