"""The pod network: host ports and bandwidth of the built-in one, and networks made by CNI plugins."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from kubeling.linux import netns
from kubeling.proto import cri_pb2 as cri
from tests.crilite.conftest import Cri, Node, eventually

pytestmark = [pytest.mark.live, pytest.mark.root]

#: An address of the node, as others know it.
ADDRESS, ADDRESS_V6 = "10.98.0.1", "fd00:98::1"
_PLUGINS = Path("/usr/lib/cni")
#: Says who asks, on TCP port 80.
_SERVER = """
import socket
server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    link, peer = server.accept()
    with link:
        link.sendall(peer[0].removeprefix("::ffff:").encode())
"""
_SINK = """
import contextlib, socket
server = socket.create_server(("", 81))
while True:
    link, peer = server.accept()
    with link, contextlib.suppress(OSError):
        while link.recv(1 << 16):
            pass
        link.sendall(bytes(700_000))
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    made = Node(
        tmp_path_factory.mktemp("node"), f"net-{worker_id}-{os.getpid()}", ("--pod-cidr=10.244.7.0/24,fd00:10:244:7::/64",)
    )
    # A data centre of one neighbour: the test itself, by way of a namespace of its own.
    made.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    made.run("ip", "address", "add", f"{ADDRESS}/24", "dev", "up0")
    made.run("ip", "address", "add", f"{ADDRESS_V6}/64", "dev", "up0", "nodad")
    made.run("ip", "link", "set", "up0", "up", "mtu", "1400")
    made.run("ip", "route", "add", "default", "via", "10.98.0.2")
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def outside(node: Node) -> Iterator[str]:
    """The network namespace of a machine beside the node."""
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    path = f"/proc/{holder.pid}/ns/net"
    netns.ip_batch([f"link set up1 netns {holder.pid}"], f"/proc/{node.pid}/ns/net")
    netns.ip_batch(
        ["addr add 10.98.0.2/24 dev up1", "addr add fd00:98::2/64 dev up1 nodad", "link set up1 up", "link set lo up"], path
    )
    yield path
    netns.ip_batch([f"link set up1 netns {node.pid}"], path)
    holder.kill()
    holder.wait()
    holder.stdout.close()


def ask(where: str, address: str, port: int) -> str:
    """Who we are to the server there; empty if there is none."""

    def connect() -> str:
        try:
            with socket.create_connection((address, port), 2) as link:
                return link.recv(100).decode()
        except OSError:
            return ""

    return netns.inside(where, connect)


async def listening(client: Cri, container: str, port: int) -> None:
    async def there() -> bool:
        _, table, _ = await client.exec(container, "cat", "/proc/net/tcp", "/proc/net/tcp6")
        return f":{port:04X} 00000000" in table

    await eventually(there, 20)


def port(host: int, address: str = "") -> cri.PortMapping:
    return cri.PortMapping(protocol=cri.TCP, container_port=80, host_port=host, host_ip=address)


async def test_host_ports(client: Cri, node: Node, outside: str) -> None:
    config = client.pod_config(port_mappings=[port(8080), port(8081, ADDRESS), port(8082, "127.0.0.1")])
    sandbox, container = await client.pod(sys.executable, "-c", _SERVER, pod=config)
    await listening(client, container, 80)
    here = f"/proc/{node.pid}/ns/net"
    status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
    assert ask(outside, ADDRESS, 8080) == "10.98.0.2"
    assert ask(outside, ADDRESS, 8081) == "10.98.0.2"
    assert ask(outside, ADDRESS, 8082) == ""
    assert ask(here, ADDRESS, 8080)
    assert ask(here, "127.0.0.1", 8080)
    assert ask(here, "127.0.0.1", 8082)
    assert ask(here, "127.0.0.1", 8081) == ""
    assert ask(outside, ADDRESS_V6, 8080) == "fd00:98::2"
    assert ask(outside, ADDRESS_V6, 8081) == "", "that was asked for of an IPv4 address"
    assert ask(here, ADDRESS_V6, 8080)
    # Hairpin: the pod asks itself by the node's port.
    second = status.network.additional_ips[0].ip
    for address, own in ((ADDRESS, status.network.ip), (ADDRESS_V6, second)):
        script = f"import socket; print(socket.create_connection(('{address}', 8080), 3).recv(99).decode())"
        code, said, problem = await client.exec(container, sys.executable, "-c", script)
        assert (code, problem) == (0, "")
        assert said.strip() != own
    # Another pod cannot have the same port, and is not half there afterwards.
    with pytest.raises(grpc.aio.AioRpcError, match="host port 8080/tcp is taken"):
        await client.sandbox(client.pod_config(port_mappings=[port(8080)]))
    await client.sandbox(client.pod_config(port_mappings=[port(8081, "10.98.0.77")]))
    # The loopback of the node is nobody else's, though the kernel now routes it on the pod's link.
    pod = f"/proc/{(await client.pid(container))}/ns/net"
    with netns.inside(here, lambda: socket.create_server(("127.0.0.1", 0))) as private:
        number = private.getsockname()[1]
        assert ask(pod, status.network.ip, 80)

        def lead_astray() -> None:
            Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")

        netns.inside(pod, lead_astray)
        lines = [
            "route del table local 127.0.0.0/8 dev lo",
            "route del table local 127.0.0.1 dev lo",
            "route add 127.0.0.1/32 via 169.254.1.1 dev eth0",
        ]
        netns.ip_batch(lines, pod)
        with pytest.raises(TimeoutError):
            netns.inside(pod, lambda: socket.create_connection(("127.0.0.1", number), 1, (status.network.ip, 0)))

    # A new daemon knows them, and what is gone goes.
    node.kill_daemon(signal.SIGKILL)
    node.start()
    await client.ready()
    assert ask(outside, ADDRESS, 8080) == "10.98.0.2"
    await client.clean()
    assert "crilite_hostports" not in node.run("nft", "list", "tables")


async def test_both_families(client: Cri, node: Node, outside: str) -> None:
    pods = [await client.pod(sys.executable, "-c", _SERVER) for _ in range(2)]
    addresses = []
    for sandbox, container in pods:
        status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
        addresses.append((status.network.ip, status.network.additional_ips[0].ip))
        await listening(client, container, 80)
    (mine, mine_v6), (theirs, theirs_v6) = addresses
    assert mine.startswith("10.244.7.")
    assert mine_v6.startswith("fd00:10:244:7::")
    pod, other, here = *[f"/proc/{await client.pid(each)}/ns/net" for _, each in pods], f"/proc/{node.pid}/ns/net"
    assert (ask(pod, theirs, 80), ask(pod, theirs_v6, 80)) == (mine, mine_v6)
    assert " mtu 1400 " in node.run("ip", "link", "show", "type", "veth", "up"), "as wide as the way out of the node"
    assert " mtu 1400 " in subprocess.check_output(["nsenter", f"--net={pod}", "ip", "link", "show", "eth0"], text=True)
    assert ask(here, mine_v6, 80) == ADDRESS_V6
    _, hosts, _ = await client.exec(pods[0][1], "cat", "/etc/hosts")
    assert [line.split()[0] for line in hosts.splitlines()][-2:] == [mine, mine_v6]
    # What says that it comes from another pod's address gets no further than the link.
    netns.ip_batch([f"addr add {mine_v6} dev eth0 nodad"], other)
    with netns.inside(here, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as receiver:
        receiver.bind((ADDRESS_V6, 0))
        receiver.settimeout(10)

        def say(source: str) -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.bind((source, 0))
                sock.sendto(source.encode(), receiver.getsockname())

        netns.inside(other, lambda: [say(each) for each in (mine_v6, theirs_v6)])
        assert receiver.recv(100).decode() == theirs_v6


async def test_bandwidth(client: Cri, node: Node) -> None:
    rates = {"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "4M"}
    _, container = await client.pod(sys.executable, "-c", _SINK, pod=client.pod_config(annotations=rates))
    await listening(client, container, 81)
    sandbox = client.sandboxes[-1]
    status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
    shown = node.run("tc", "qdisc", "show")
    assert "tbf" in shown
    assert "rate 8Mbit" in shown
    assert "rate 4Mbit" in shown

    def send() -> float:
        began = time.monotonic()
        with socket.create_connection((status.network.ip, 81), 5) as link:
            link.sendall(bytes(1_500_000))
            link.shutdown(socket.SHUT_WR)
            link.recv(1)
        return time.monotonic() - began

    def receive() -> float:
        began, left = time.monotonic(), 700_000
        with socket.create_connection((status.network.ip, 81), 5) as link:
            link.shutdown(socket.SHUT_WR)
            while data := link.recv(1 << 16):
                left -= len(data)
        assert left == 0
        return time.monotonic() - began

    # 12 million bits at 8 million a second, less what the bucket and the buffers hold; and 5.6 million at 4 million.
    assert netns.inside(f"/proc/{node.pid}/ns/net", send) > 0.8
    assert netns.inside(f"/proc/{node.pid}/ns/net", receive) > 0.8
    with pytest.raises(grpc.aio.AioRpcError, match="is not a rate"):
        await client.sandbox(client.pod_config(annotations={"kubernetes.io/ingress-bandwidth": "fast"}))
    # What a daemon that died leaves of a pod is cleared away by the next.
    await client.clean()
    assert "ifb" not in node.run("ip", "-d", "link", "show")


# -- CNI -----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cni_node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0 or not (_PLUGINS / "ptp").exists():
        pytest.skip("needs root and apt-get install containernetworking-plugins")
    folder = tmp_path_factory.mktemp("node")
    (folder / "net.d").mkdir()
    (folder / "bin").mkdir()
    flags = (f"--cni-conf-dir={folder}/net.d", f"--cni-bin-dir={folder}/bin", f"--cni-bin-dir={_PLUGINS}")
    made = Node(folder, f"cni-{worker_id}-{os.getpid()}", flags)
    # A plugin that writes down what it is asked, and fails when told to.
    (folder / "bin" / "scribe").write_text(_SCRIBE.format(python=sys.executable, folder=folder))
    (folder / "bin" / "scribe").chmod(0o755)
    made.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    made.start()
    try:
        yield made
    finally:
        made.close()


_SCRIBE = """#!{python}
import json, os, sys
folder, command = "{folder}", os.environ["CNI_COMMAND"]
config = json.load(sys.stdin)
if command == "VERSION":
    print(json.dumps({{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}}))
    sys.exit()
entry = {{"command": command, "config": config, "env": {{k: v for k, v in os.environ.items() if k.startswith("CNI_")}}}}
with open(folder + "/scribe.log", "a") as file:
    file.write(json.dumps(entry) + chr(10))
if os.path.exists(folder + "/fail-" + command):
    print(json.dumps({{"cniVersion": "1.0.0", "code": 11, "msg": "no luck", "details": "told to"}}))
    sys.exit(1)
if command == "ADD":
    print(json.dumps(config["prevResult"]))
"""


def configure(node: Node, name: str = "pods") -> None:
    ipam = {
        "type": "host-local",
        "subnet": "10.97.0.0/24",
        "dataDir": str(node.folder / "ipam"),
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins: list[dict[str, object]] = [
        {"type": "ptp", "ipam": ipam},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "scribe", "capabilities": {"portMappings": True, "dns": True, "ipRanges": False}},
    ]
    body = {"cniVersion": "1.0.0", "name": name, "plugins": plugins}
    (node.folder / "net.d" / "10-pods.conflist").write_text(json.dumps(body))


def calls(node: Node, *commands: str) -> list[dict[str, object]]:
    path = node.folder / "scribe.log"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [one for one in entries if one["command"] in commands]


async def test_cni_plugins(cni_node: Node) -> None:
    node = cni_node
    client = Cri(f"unix://{node.socket}", node.logs)
    try:
        await client.ready()

        async def condition() -> cri.RuntimeCondition:
            answer = await client.runtime.Status(cri.StatusRequest())
            return next(one for one in answer.status.conditions if one.type == "NetworkReady")

        found = await condition()
        assert not found.status
        assert "no CNI configuration" in found.message
        configure(node)
        assert (await condition()).status
        # Another file that comes later by its name is not looked at; one that names an unknown plugin says so.
        (node.folder / "net.d" / "05-x.conflist").write_text(
            '{"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "nope"}]}'
        )
        assert "no CNI plugin 'nope'" in (await condition()).message
        (node.folder / "net.d" / "05-x.conflist").unlink()
        (node.folder / "net.d" / "90-broken.conf").write_text("{")

        config = client.pod_config(
            port_mappings=[port(8090)],
            annotations={"kubernetes.io/ingress-bandwidth": "10M"},
            dns_config=cri.DNSConfig(servers=["10.96.0.10"]),
        )
        sandbox, container = await client.pod(sys.executable, "-c", _SERVER, pod=config)
        status = (await client.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox))).status
        assert status.network.ip.startswith("10.97.0.")
        await listening(client, container, 80)
        assert ask(f"/proc/{node.pid}/ns/net", status.network.ip, 80) == "10.97.0.1"
        assert "rate 10Mbit" in node.run("tc", "qdisc", "show")
        stats = await client.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=sandbox))
        assert stats.stats.linux.network.default_interface.rx_bytes.value > 0

        [added] = calls(node, "ADD")
        told = added["config"]
        environment = added["env"]
        assert isinstance(told, dict)
        assert isinstance(environment, dict)
        assert told["runtimeConfig"] == {
            "portMappings": [{"hostPort": 8090, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
            "dns": {"servers": ["10.96.0.10"], "searches": [], "options": []},
        }
        assert told["prevResult"]["ips"][0]["address"].startswith(status.network.ip)
        assert "capabilities" not in told
        assert environment["CNI_IFNAME"] == "eth0"
        assert environment["CNI_CONTAINERID"] == sandbox
        assert f"K8S_POD_NAME={config.metadata.name}" in environment["CNI_ARGS"]

        # The configuration changes, and the daemon dies: it is still taken away as it was made.
        configure(node, "renamed")
        node.kill_daemon(signal.SIGKILL)
        node.start()
        await client.ready()
        [checked] = calls(node, "CHECK")
        assert checked["config"] == told | {"prevResult": told["prevResult"]}
        # A plugin that cannot take away is asked again, and the pod's stop says so.
        (node.folder / "fail-DEL").touch()
        with pytest.raises(grpc.aio.AioRpcError, match=r"scribe DEL: no luck: told to \(code 11\)"):
            await client.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
        (node.folder / "fail-DEL").unlink()
        await client.clean()
        deleted = calls(node, "DEL")[-1]["config"]
        assert isinstance(deleted, dict)
        assert deleted["name"] == "pods"
        assert deleted["prevResult"] == told["prevResult"]
        assert not [path for path in (node.folder / "ipam" / "pods").iterdir() if path.name.startswith("10.97")]
        assert not list((node.root / "cni").iterdir())

        # One that cannot connect is no sandbox, and leaves nothing.
        (node.folder / "fail-ADD").touch()
        with pytest.raises(grpc.aio.AioRpcError, match="scribe ADD: no luck"):
            await client.sandbox()
        (node.folder / "fail-ADD").unlink()
        assert not [path for path in (node.folder / "ipam" / "renamed").iterdir() if path.name.startswith("10.97")]
        assert "veth" not in node.run("ip", "-o", "link", "show", "type", "veth")
        assert not list((node.root / "cni").iterdir())
    finally:
        await client.channel.close()
