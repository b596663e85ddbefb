"""Clusters of both IP families, and of IPv6 alone: who reaches whom by which address and name, from pods, nodes and the host."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kubeling.cluster.pytest_plugin import ClusterHandle
from kubeling.tests.e2e.support import Bench, Obj

pytestmark = [pytest.mark.live, pytest.mark.root]

#: Says its own name and who asks, in both families.
_SERVER = """
import os, socket
server = socket.create_server(("", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    link, peer = server.accept()
    with link:
        link.sendall((os.environ["NAME"] + " " + peer[0].removeprefix("::ffff:")).encode())
"""
#: Asks all the targets of the argument (label, host, port, family), each a few times where several pods may answer; prints what was said.
_CLIENT = """
import concurrent.futures, json, socket, sys
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
def ask(target):
    label, host, port, family = target
    try:
        where = socket.getaddrinfo(host, port, FAMILIES[family], socket.SOCK_STREAM)[0][4]
        said = set()
        for _ in range(4):
            with socket.create_connection(where[:2], 4) as link:
                said.add(link.recv(200).decode())
        return label, sorted(said)
    except OSError as error:
        return label, [type(error).__name__]
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(json.dumps(dict(pool.map(ask, json.loads(sys.argv[1])))))
"""
Target = tuple[str, str, int, int]


def _cluster(tmp_path_factory: pytest.TempPathFactory, name: str, *flags: str) -> Iterator[Bench]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    folder = tmp_path_factory.mktemp(name)
    handle = ClusterHandle(f"{name}-{secrets.token_hex(3)}", folder / "home", folder / "kubeconfig")
    try:
        handle.up(f"--owner={os.getpid()}", *flags)
        yield Bench(handle, "default")
    finally:
        handle.down()


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from _cluster(tmp_path_factory, "dual", "--workers=2", "--ip-families=IPv4,IPv6")


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from _cluster(tmp_path_factory, "six", "--workers=1", "--ip-families=IPv6")


def _pod(name: str, node: str, **more: Any) -> Obj:
    def field(variable: str, path: str) -> Obj:
        return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    container = {
        "name": "main",
        "image": "kubeling.local/host",
        "command": ["python3", "-c", _SERVER],
        "env": [field("NAME", "metadata.name"), field("POD_IPS", "status.podIPs"), field("HOST_IPS", "status.hostIPs")],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0, **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web", "pod": name}}, "spec": spec}


def _service(name: str, selector: dict[str, str] | None = None, **spec: Any) -> Obj:
    ports = [{"name": "web", "port": 8080}]
    made = {"selector": selector or {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": made}


def _all_ready(bench: Bench, *names: str) -> dict[str, Obj]:
    def ready() -> dict[str, Obj] | None:
        found = {each["metadata"]["name"]: each for each in bench.pods()}
        good = {
            name
            for name, each in found.items()
            if any(one["type"] == "Ready" and one["status"] == "True" for one in each["status"].get("conditions") or ())
        }
        return found if good.issuperset(names) else None

    found: dict[str, Obj] = bench.until("all pods are ready", ready)
    return found


def _ips(pod: Obj) -> list[str]:
    return [each["ip"] for each in pod["status"]["podIPs"]]


def _family(ip: str) -> int:
    return 6 if ":" in ip else 4


def _ask(bench: Bench, pod: str, targets: list[Target]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(bench.cli("exec", pod, "--", "python3", "-c", _CLIENT, json.dumps(targets)))
    return found


def test_everybody_reaches_everybody_by_both_families(dual: Bench) -> None:
    bench = dual
    host = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    node = _pod("node", "worker-1", **host)
    node["metadata"]["labels"] = {"app": "none"}
    items = [
        _pod("a", "worker-1", hostname="a", subdomain="pods"),
        _pod("b", "worker-2", hostname="b", subdomain="pods"),
        node,
        _service("both", ipFamilyPolicy="RequireDualStack", type="NodePort"),
        _service("four", {"pod": "b"}),
        _service("six", {"pod": "b"}, ipFamilies=["IPv6"], type="LoadBalancer"),
        _service("pods", clusterIP="None", ipFamilyPolicy="PreferDualStack"),
    ]
    bench.apply({"apiVersion": "v1", "kind": "List", "items": items})
    pods = _all_ready(bench, "a", "b", "node")
    services = {name: bench.get("service", name)["spec"] for name in ("both", "four", "six", "pods", "kubernetes")}

    # What the API shows of them.
    assert [_family(each) for each in _ips(pods["a"])] == [4, 6]
    assert _ips(pods["node"]) == [each["ip"] for each in pods["node"]["status"]["hostIPs"]] == ["172.30.0.21", "fd00:172:30::21"]
    shown = bench.cli("exec", "a", "--", "sh", "-c", "echo $POD_IPS $HOST_IPS; tail -n 2 /etc/hosts").splitlines()
    assert shown[0] == ",".join(_ips(pods["a"])) + " 172.30.0.21,fd00:172:30::21"
    assert [line.split()[0] for line in shown[1:]] == _ips(pods["a"])
    families = {name: [_family(each) for each in spec["clusterIPs"] if each != "None"] for name, spec in services.items()}
    assert families == {"both": [4, 6], "four": [4], "six": [6], "pods": [], "kubernetes": [4]}
    assert services["pods"]["ipFamilies"] == ["IPv4", "IPv6"]

    # Who reaches whom. Of a Service of all pods both answer, sooner or later: one of them is enough here.
    targets: dict[Target, set[str]] = {}
    for name in ("a", "b"):
        for ip in _ips(pods[name]):
            targets[f"pod {name} {_family(ip)}", ip, 8080, _family(ip)] = {name}
        for family in (4, 6):
            targets[f"name {name}.pods {family}", f"{name}.pods.default.svc.cluster.local", 8080, family] = {name}
    for name, answer in (("both", {"a", "b"}), ("four", {"b"}), ("six", {"b"})):
        for ip in services[name]["clusterIPs"]:
            targets[f"service {name} {_family(ip)}", ip, 8080, _family(ip)] = answer
            targets[f"name {name} {_family(ip)}", f"{name}.default", 8080, _family(ip)] = answer
    node_port = services["both"]["ports"][0]["nodePort"]
    for ip in ("172.30.0.21", "fd00:172:30::22"):
        targets[f"node port {_family(ip)}", ip, node_port, _family(ip)] = {"a", "b"}
    nothing: list[Target] = [("name four 6", "four.default", 8080, 6), ("name six 4", "six.default", 8080, 4)]
    wrong = []
    for client in ("a", "b", "node"):
        said = _ask(bench, client, [*targets, *nothing])
        for (label, _, _, family), answer in targets.items():
            for words in said[label]:
                who, _, peer = words.partition(" ")
                # Between pods nobody's address is changed, but where one meets itself through a Service.
                direct = client != "node" and label.startswith(("pod ", "name a.", "name b.")) and who != client
                if who not in answer or (direct and peer != _ips(pods[client])[0 if family == 4 else 1]):
                    wrong.append((client, label, words))
        wrong += [(client, label, said[label]) for label, *_ in nothing if said[label] != ["gaierror"]]
    assert not wrong

    # Reverse names, and the load balancer of a Service that has node ports in IPv6 only.
    script = f"import socket; print(socket.gethostbyaddr({services['six']['clusterIP']!r})[0])"
    assert bench.cli("exec", "a", "--", "python3", "-c", script).strip() == "six.default.svc.cluster.local"
    outside = bench.until(
        "the load balancer has an address", lambda: bench.get("service", "six")["status"]["loadBalancer"].get("ingress")
    )

    def from_the_host() -> bool:
        with socket.create_connection((outside[0]["ip"], 8080), 5) as link:
            return link.recv(100).startswith(b"b ")

    bench.until("the load balancer answers", from_the_host)

    # A second family comes and goes with the policy; the first stays as it is.
    first = services["four"]["clusterIPs"]
    bench.cli("patch", "service", "four", "-p", '{"spec": {"ipFamilyPolicy": "PreferDualStack"}}')
    spec = bench.get("service", "four")["spec"]
    assert spec["clusterIPs"][:1] == first
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    target = ("four", spec["clusterIPs"][1], 8080, 6)
    bench.until("the second address works", lambda: _ask(bench, "a", [target])["four"] == [f"b {_ips(pods['a'])[1]}"])
    bench.cli("patch", "service", "four", "-p", '{"spec": {"ipFamilyPolicy": "SingleStack"}}')
    assert bench.get("service", "four")["spec"]["clusterIPs"] == first

    # A policy that names one address of IPv6 lets that in, and nothing of IPv4.
    rule = {"from": [{"ipBlock": {"cidr": f"{_ips(pods['a'])[1]}/128"}}]}
    policy = {"podSelector": {"matchLabels": {"pod": "b"}}, "policyTypes": ["Ingress"], "ingress": [rule]}
    bench.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "six"}, "spec": policy})
    both = [("4", _ips(pods["b"])[0], 8080, 4), ("6", _ips(pods["b"])[1], 8080, 6)]
    bench.until(
        "the policy is kept", lambda: _ask(bench, "a", both) == {"4": ["TimeoutError"], "6": [f"b {_ips(pods['a'])[1]}"]}, 60
    )


def test_a_cluster_of_ipv6_alone(six: Bench) -> None:
    bench = six
    bench.apply({"apiVersion": "v1", "kind": "List", "items": [_pod("a", "worker-1"), _service("web", type="LoadBalancer")]})
    pod = _all_ready(bench, "a")["a"]
    assert [_family(each) for each in _ips(pod)] == [6]
    spec = bench.get("service", "web")["spec"]
    assert (spec["ipFamilies"], _family(spec["clusterIP"])) == (["IPv6"], 6)
    said = _ask(bench, "a", [("web", "web", 8080, 6), ("four", "web", 8080, 4), ("ip", _ips(pod)[0], 8080, 6)])
    assert said["four"] == ["gaierror"]
    assert said["ip"] == [f"a {_ips(pod)[0]}"]
    assert [each.split()[0] for each in said["web"]] == ["a"]
    # The API from inside, as a program in a pod finds it.
    script = """
import os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
for host in ("kubernetes.default", "[" + os.environ["KUBERNETES_SERVICE_HOST"] + "]"):
    print(urllib.request.urlopen("https://" + host + "/version", context=context, timeout=10).status)
"""
    assert bench.cli("exec", "a", "--", "python3", "-c", script).split() == ["200", "200"]
    daemons = bench.cluster.status()["daemons"]
    assert {each["health"] for each in daemons if each["health"]} == {"ok"}
    outside = bench.until(
        "the load balancer has an address", lambda: bench.get("service", "web")["status"]["loadBalancer"].get("ingress")
    )
    with socket.create_connection((outside[0]["ip"], 8080), 10) as link:
        assert link.recv(100).startswith(b"a ")
