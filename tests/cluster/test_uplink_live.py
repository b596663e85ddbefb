"""A cluster with a way out. Its host is a network namespace of the test's, and so is what is outside: nothing leaves them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.linux.netns import ip_batch

pytestmark = [pytest.mark.live, pytest.mark.root]

OUTSIDE, OUTSIDE6 = "203.0.113.1", "2001:db8:1::1"
NAME = "outside.example"
SCRIPT = Path(__file__).parent / "outside.py"


class Place:
    """A network namespace with a process in it that keeps it."""

    def __init__(self, stack: contextlib.ExitStack, *words: str) -> None:
        command = ["unshare", "--net", "--mount", "sh", "-c", " && ".join([*words, "echo ready", "exec sleep 600"])]
        self._process = stack.enter_context(_running(command))
        self.pid = self._process.pid
        self.net = f"/proc/{self.pid}/ns/net"

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--net={self.net}", f"--mount=/proc/{self.pid}/ns/mnt", "--"]


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has said `ready`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class PlacedCluster(ClusterHandle):
    """A cluster whose host is `place`."""

    def __init__(self, place: Place, folder: Path) -> None:
        super().__init__(f"up-{secrets.token_hex(3)}", folder / "home", folder / "kubeconfig")
        self._place = place

    def cli(self, *args: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        command = [*self._place.enter, sys.executable, "-P", "-m", "kubeling.cli", *args]
        return self._run(command, check, dict(options))

    def start(self, *flags: str) -> None:
        self.cli("up", f"--name={self.name}", f"--owner={os.getpid()}", *flags)
        self.cli("run", "probe", "--image=kubeling.local/host", "--command", "--", "sleep", "600")
        self.cli("wait", "pod/probe", "--for=condition=Ready", "--timeout=60s")

    def ask(self, url: str) -> str:
        """What a pod is answered, or why not."""
        code = (
            "import urllib.request\n"
            f"try: print(urllib.request.urlopen('{url}', timeout=5).read().decode())\n"
            "except OSError as error: print(error)"
        )
        done = self.cli("exec", "probe", "--", "python3", "-c", code, check=False)
        return done.stdout.strip()

    def expect(self, url: str, answer: str) -> None:
        """A pod is answered so, soon."""
        deadline = time.monotonic() + 60
        while (said := self.ask(url)) != answer:
            assert time.monotonic() < deadline, f"{url}: {said!r} and not {answer!r}"


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed")
    with contextlib.ExitStack() as found:
        yield found


def outside(stack: contextlib.ExitStack, place: Place) -> None:
    """Let somebody answer at the addresses outside."""
    ip_batch([f"addr add {OUTSIDE}/32 dev lo", f"addr add {OUTSIDE6}/128 dev lo nodad"], netns=place.net)
    stack.enter_context(_running([*place.enter, sys.executable, str(SCRIPT), OUTSIDE, OUTSIDE6]))


def host(stack: contextlib.ExitStack, folder: Path) -> Place:
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {OUTSIDE}\n")
    target = os.path.realpath("/etc/resolv.conf")
    return Place(stack, "ip link set lo up", f"mount --bind {resolv} {target}")


@pytest.mark.parametrize("loopback", [False, True])
def test_by_sockets_of_the_host(loopback: bool, stack: contextlib.ExitStack, tmp_path: Path) -> None:
    if shutil.which("slirp4netns") is None:
        pytest.skip("slirp4netns is not installed")
    place = host(stack, tmp_path)
    outside(stack, place)
    cluster = PlacedCluster(place, tmp_path)
    stack.callback(cluster.down)
    stack.enter_context(_running([*place.enter, sys.executable, str(SCRIPT), "127.0.0.1"]))
    cluster.start("--uplink=user,host-loopback" if loopback else "--uplink=user", "--ip-families=IPv4,IPv6")
    cluster.expect(f"http://{OUTSIDE}:8000/", OUTSIDE)
    cluster.expect(f"http://[{OUTSIDE6}]:8000/", OUTSIDE6)
    cluster.expect(f"http://{NAME}:8000/", OUTSIDE)
    assert (cluster.ask("http://10.0.2.2:8000/") == "127.0.0.1") is loopback
    # What is for a pod or a Service that is not there does not leave the cluster.
    for address in ("10.244.0.250", "10.244.77.1", "10.96.77.1"):
        assert "No route to host" in cluster.ask(f"http://{address}:8000/")
    # Who makes the way may die.
    cluster.faults.kill("control-plane-1", "uplink")
    cluster.expect(f"http://{OUTSIDE}:8000/", OUTSIDE)


def test_by_an_interface_of_the_host(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    place, world = host(stack, tmp_path), Place(stack, "ip link set lo up")
    ip_batch(
        [
            f"link add lan address 02:00:00:00:00:01 type veth peer name out netns {world.pid}",
            "addr add 198.51.100.2/24 dev lan",
            "addr add 2001:db8::2/64 dev lan nodad",
            "link set lan up",
        ],
        netns=place.net,
    )
    ip_batch(["addr add 198.51.100.1/24 dev out", "addr add 2001:db8::1/64 dev out nodad", "link set out up"], netns=world.net)
    ip_batch(["route add default via 198.51.100.1", "route add default via 2001:db8::1"], netns=place.net)
    outside(stack, world)
    cluster = PlacedCluster(place, tmp_path)
    stack.callback(cluster.down)
    cluster.start("--uplink=link=lan", "--ip-families=IPv4,IPv6")
    cluster.expect(f"http://{OUTSIDE}:8000/", "198.51.100.2")
    cluster.expect(f"http://[{OUTSIDE6}]:8000/", "2001:db8::2")
    cluster.expect(f"http://{NAME}:8000/", "198.51.100.2")

    # Nobody outside gets in, also not whoever knows the cluster's addresses.
    node = next(each for each in cluster.status()["nodes"] if each["role"] == "control-plane")
    ip_batch([f"route add {node['address']} via 198.51.100.2"], netns=world.net)
    command = [*world.enter, "nc", "-z", "-w", "2", node["address"], "6443"]
    assert subprocess.run(command, check=False).returncode != 0

    # What was lent comes back, and a cluster that is booted again takes it again.
    supervisor = next(each["pid"] for each in cluster.status()["own"] if each["name"] == "supervisor")
    descriptor = os.pidfd_open(supervisor)
    os.kill(supervisor, signal.SIGTERM)
    assert select.select([descriptor], [], [], 60)[0], "the supervisor did not stop"
    os.close(descriptor)
    assert "lan" in links(place)
    cluster.cli("up", f"--name={cluster.name}", f"--owner={os.getpid()}")
    cluster.cli("wait", "pod/probe", "--for=condition=Ready", "--timeout=60s")
    assert "lan" not in links(place)
    cluster.expect(f"http://{OUTSIDE}:8000/", "198.51.100.2")
    cluster.down()
    assert "lan" in links(place)


def links(place: Place) -> list[str]:
    done = subprocess.run([*place.enter, "ip", "-j", "link", "show"], capture_output=True, text=True, check=True)
    return [each["ifname"] for each in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--uplink=link=nosuch",), "no network interface 'nosuch'"),
        (("--uplink=link=lo",), "lo has no address: say one with address="),
        (("--uplink=bridge",), "user, or link=NAME"),
        (("--uplink=user", "--network=host"), "--network=netns"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], says: str, stack: contextlib.ExitStack, tmp_path: Path) -> None:
    cluster = PlacedCluster(Place(stack, "ip link set lo up"), tmp_path)
    done = cluster.cli("up", f"--name={cluster.name}", *words, check=False)
    assert done.returncode == 1
    assert says in done.stderr
    assert not cluster.root.exists()
