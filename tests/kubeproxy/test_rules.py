"""The rules that nft is given: what they say, that the kernel takes them, and where packets then go."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from kubeling.kubeproxy import model, rules
from kubeling.kubeproxy.model import Endpoint, Place, ServicePort
from kubeling.kubeproxy.text import short_hash

needs_nft = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")


def service(**spec: object) -> dict[str, object]:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


def endpoint_slice(*endpoints: dict[str, object]) -> dict[str, object]:
    return {
        "metadata": {"namespace": "default"},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def build(obj: dict[str, object], *endpoints: dict[str, object]) -> ServicePort:
    (port,) = model.build([obj], {("default", "web"): [endpoint_slice(*endpoints)]}, Place("here")).values()
    return port


ENDS = (Endpoint("10.0.0.9", 80),)
READY = {"addresses": ["10.0.0.1"], "nodeName": "here", "conditions": {"ready": True}}
REMOTE = {"addresses": ["10.0.0.2"], "nodeName": "there", "conditions": {"ready": True}}
ENDING = {"addresses": ["10.0.0.3"], "nodeName": "here", "conditions": {"ready": False, "serving": True, "terminating": True}}


def test_ending_endpoints_serve_only_where_nothing_else_does() -> None:
    assert [each.ip for each in build(service(), READY, ENDING).internal] == ["10.0.0.1"]
    assert [each.ip for each in build(service(), ENDING).internal] == ["10.0.0.3"]


def test_internal_policy_local_stays_on_the_node() -> None:
    assert [each.ip for each in build(service(internalTrafficPolicy="Local"), READY, REMOTE).internal] == ["10.0.0.1"]


def test_external_policy_local_keeps_the_source() -> None:
    port = build(service(type="NodePort", externalTrafficPolicy="Local", ports=[{"port": 80, "nodePort": 30080}]), REMOTE)
    assert port.external == ()
    # What pods of the cluster, and this node itself, send to the outer address may go anywhere.
    short = rules.build(port, ["10.0.0.0/16"])
    chain = short.elements["nodeports4", "tcp . 30080"].removeprefix("goto ")
    assert short.chains[chain][0].startswith("ip saddr 10.0.0.0/16 goto all-")
    assert short.chains[chain][1].startswith("fib saddr type local goto all-")
    assert short.chains[chain][-1] == "drop"


def test_headless_and_external_names_are_left_alone() -> None:
    assert model.build([service(clusterIP="None"), service(type="ExternalName", clusterIP="")], {}, Place("here")) == {}


def test_a_change_of_endpoints_touches_only_its_own_chains() -> None:
    other = ServicePort("default", "other", "", "TCP", 81, ("10.96.0.21",), internal=(Endpoint("10.0.0.9", 80),))
    table = rules.Table(["10.0.0.0/16"], [])
    one = build(service(), READY)
    table.change({one.key: one, other.key: other})
    two = build(service(), READY, REMOTE)
    script = table.change({two.key: two})
    assert "10.0.0.2 . 8080" in script
    assert "10.0.0.9" not in script
    assert table.change({two.key: two}) == ""


def test_who_comes_first_by_name_has_an_address_that_two_claim() -> None:
    first, second = (
        ServicePort("default", name, "", "TCP", 80, (f"10.96.0.{number}",), ("10.9.9.9",), internal=ENDS, external=ENDS)
        for number, name in enumerate("ab", 1)
    )
    table = rules.Table([], [])
    table.change({second.key: second})
    script = table.change({first.key: first})
    assert "delete element inet kubeling-proxy services4 { 10.9.9.9 . tcp . 80 }" in script
    assert f"10.9.9.9 . tcp . 80 : goto ext-{short_hash(first.key)}4" in script
    script = table.change({first.key: None})
    assert f"10.9.9.9 . tcp . 80 : goto ext-{short_hash(second.key)}4" in script


def test_pods_have_their_nodes_address_outside_of_the_networks_that_are_named() -> None:
    assert "daddr !=" not in rules.Table(["10.0.0.0/16"], []).full()
    script = rules.Table(["10.0.0.0/16", "fd00::/64"], [], ["10.0.0.0/16", "10.2.0.0/24"]).full()
    assert "ip saddr { 10.0.0.0/16 } ip daddr != { 10.0.0.0/16, 10.2.0.0/24 } masquerade" in script
    assert "ip6 daddr !=" not in script, "of IPv6 nothing was said"


def test_hints_keep_traffic_near_where_they_can_be_followed() -> None:
    def end(ip: str, zone: str | None, node: str | None = None) -> dict[str, object]:
        hints: dict[str, object] = {"forZones": [{"name": zone}]} if zone else {}
        if node:
            hints["forNodes"] = [{"name": node}]
        return {"addresses": [ip], "conditions": {"ready": True}, "hints": hints}

    def used(place: Place, *ends: dict[str, object]) -> list[str]:
        (port,) = model.build([service()], {("default", "web"): [endpoint_slice(*ends)]}, place).values()
        return [each.ip for each in port.internal]

    near = (end("10.0.0.1", "a"), end("10.0.0.2", "b"))
    assert used(Place("n", "a"), *near) == ["10.0.0.1"]
    assert used(Place("n", ""), *near) == ["10.0.0.1", "10.0.0.2"]
    assert used(Place("n", "c"), *near) == ["10.0.0.1", "10.0.0.2"]
    assert used(Place("n", "a"), *near, end("10.0.0.3", None)) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    nodes = (end("10.0.0.1", "a", "m"), end("10.0.0.2", "a", "n"))
    assert used(Place("n", "a"), *nodes) == ["10.0.0.2"]
    assert used(Place("o", "a"), *nodes) == ["10.0.0.1", "10.0.0.2"]


@needs_nft
def test_the_kernel_takes_the_rules_and_every_change() -> None:
    states = [
        [],
        [build(service(), READY)],
        [
            build(
                service(
                    type="LoadBalancer",
                    ports=[{"port": 80, "nodePort": 30080}],
                    sessionAffinity="ClientIP",
                    loadBalancerSourceRanges=["10.1.0.0/16"],
                    externalIPs=["10.9.9.9"],
                ),
                READY,
                REMOTE,
            )
        ],
        [build(service())],
        [
            ServicePort(
                "default",
                "six",
                "",
                "UDP",
                53,
                ("fd96::10", "10.96.0.77"),
                node_port=30053,
                internal=(Endpoint("fd44::1", 53, True), Endpoint("10.0.0.1", 53), Endpoint("fd44::2", 53)),
                external=(Endpoint("fd44::1", 53, True),),
                affinity_seconds=5,
            )
        ],
        [],
    ]
    table = rules.Table(
        ["10.0.0.0/16", "fd00::/64"], ["10.2.0.1", "127.0.0.1", "::1"], ["10.0.0.0/16", "10.2.0.0/24", "fd00::/64"]
    )
    scripts = [table.full()]
    known: dict[str, ServicePort] = {}
    for ports in states:
        wanted = {each.key: each for each in ports}
        scripts.append(table.change({key: wanted.get(key) for key in {*known, *wanted}}))
        known = wanted
    scripts = [each for each in scripts if each]
    program = "import json,subprocess,sys\nfor script in json.load(sys.stdin):\n subprocess.run(['nft','-f','-'],input=script,text=True,check=True)\nprint(subprocess.run(['nft','list','table','inet','kubeling-proxy'],text=True,capture_output=True,check=True).stdout)"
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", program], input=json.dumps(scripts), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "svc-" not in done.stdout
    assert "ep-" not in done.stdout


_TRAFFIC = """
import asyncio, json, subprocess, sys
async def main():
    for line in ("ip link set lo up", "ip addr add 10.0.0.1/32 dev lo", "ip addr add 10.0.0.2/32 dev lo", "ip addr add 10.2.0.1/32 dev lo", "ip route add default dev lo"):
        subprocess.run(line.split(), check=True)
    subprocess.run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"], check=True)
    subprocess.run(["nft", "-f", "-"], input=sys.stdin.read(), text=True, check=True)
    async def serve(ip):
        async def answer(reader, writer):
            writer.write(ip.encode()); writer.close()
        await asyncio.start_server(answer, ip, 8080)
    await serve("10.0.0.1"); await serve("10.0.0.2")
    async def ask(ip, port):
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), 3)
            return (await reader.read()).decode()
        except OSError as error:
            return type(error).__name__
    print(json.dumps({"cluster": [await ask("10.96.0.20", 80) for _ in range(40)], "node": [await ask("10.2.0.1", 30080) for _ in range(40)],
        "sticky": [await ask("10.96.0.21", 80) for _ in range(20)], "empty": [await ask("10.96.0.22", 80)]}))
asyncio.run(main())
"""


@needs_nft
def test_packets_go_to_the_endpoints() -> None:
    ends = (Endpoint("10.0.0.1", 8080), Endpoint("10.0.0.2", 8080))
    ports = [
        ServicePort("default", "web", "", "TCP", 80, ("10.96.0.20",), node_port=30080, internal=ends, external=ends),
        ServicePort("default", "sticky", "", "TCP", 80, ("10.96.0.21",), internal=ends, affinity_seconds=60),
        ServicePort("default", "empty", "", "TCP", 80, ("10.96.0.22",)),
    ]
    table = rules.Table(["10.0.0.0/16"], ["10.2.0.1", "127.0.0.1"])
    table.change({each.key: each for each in ports})
    script = table.full()
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", textwrap.dedent(_TRAFFIC)],
        input=script,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert set(Counter(seen["cluster"])) == {"10.0.0.1", "10.0.0.2"}
    assert set(Counter(seen["node"])) == {"10.0.0.1", "10.0.0.2"}
    assert len(set(seen["sticky"])) == 1
    assert seen["empty"] == ["ConnectionRefusedError"]


async def test_userspace_relays_and_refuses() -> None:
    from kubeling.kubeproxy.userspace import UserspaceBackend

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = UserspaceBackend(node_port_addresses=[], manage_addresses=False)
    free = await asyncio.start_server(answer, "127.96.0.20", 0)
    service_port = free.sockets[0].getsockname()[1]
    free.close()
    served = ServicePort(
        "default",
        "web",
        "",
        "TCP",
        service_port,
        ("127.96.0.20",),
        internal=(Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", port)),
    )
    await backend.sync({served.key: served})
    try:
        for _ in range(3):  # The dead endpoint is passed over.
            reader, writer = await asyncio.open_connection("127.96.0.20", service_port)
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"you said hello"
            writer.close()
        await backend.sync({})
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.96.0.20", service_port)
    finally:
        await backend.close()
        server.close()
