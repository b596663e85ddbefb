"""The kubelet's other pure parts: environment, DNS, images, limits, admission, probes, patches."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeling.kubelet import (
    admission,
    atomic,
    cgroups,
    dnsconfig,
    fieldpath,
    imagename,
    nodestatus,
    projection,
    resources,
    security,
)
from kubeling.kubelet.atomic import File
from kubeling.kubelet.config import Config
from kubeling.kubelet.convert import stop_signal
from kubeling.kubelet.env import ConfigError, Sources, expand, make_environment, service_variables
from kubeling.kubelet.machine import Machine
from kubeling.kubelet.probing import ContainerProbes, ProbeState, probe_spec
from kubeling.kubelet.selfsigned import serving_certificate
from kubeling.kubelet.statuses import status_patch
from kubeling.kubelet.thresholds import parse as thresholds
from kubeling.proto import cri_pb2

from .builders import NOW, container, pod

# -- environment -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$$", "$$"),
        ("$(NONE)", "$(NONE)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("", ""),
    ],
)
def test_expansion(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == wanted


def sources(**objects: dict[str, Any]) -> Sources:
    return Sources("ns", lambda kind, name: objects.get(f"{kind}_{name}"), lambda path: f"<{path}>", lambda ref: ref["resource"])


def test_environment_in_order() -> None:
    config = {"data": {"FROM": "map", "BOTH": "map", "bad=name": "x"}}
    secret = {"data": {"KEY": base64.b64encode(b"hidden").decode()}}
    made = container(
        envFrom=[{"configMapRef": {"name": "c"}}, {"prefix": "P_", "secretRef": {"name": "s"}}],
        env=[
            {"name": "BOTH", "value": "own"},
            {"name": "REF", "value": "$(BOTH)-$(P_KEY)-$(SVC_SERVICE_HOST)-$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        ],
    )
    found = make_environment(made, sources(ConfigMap_c=config, Secret_s=secret), {"SVC_SERVICE_HOST": "10.0.0.1"})
    assert found == {
        "SVC_SERVICE_HOST": "10.0.0.1",
        "FROM": "map",
        "BOTH": "own",
        "P_KEY": "hidden",
        "REF": "own-hidden-10.0.0.1-$(LATER)",
        "LATER": "x",
        "FIELD": "<status.podIP>",
    }


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"configMapKeyRef": {"name": "c", "key": "k"}}, "couldn't find key k in ConfigMap ns/c"),
    ],
)
def test_a_missing_reference_is_named(env: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_environment(container(env=[{"name": "A", "valueFrom": env}]), sources(ConfigMap_c={"data": {}}), {})


def test_service_variables() -> None:
    def service(name: str, ns: str, ip: str, *ports: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": ns}, "spec": {"clusterIP": ip, "ports": list(ports)}}

    services = [
        service("kubernetes", "default", "10.96.0.1", {"port": 443, "name": "https"}),
        service("my-web", "ns", "10.96.0.5", {"port": 80, "name": "http-a"}, {"port": 53, "protocol": "UDP"}),
        service("other", "elsewhere", "10.96.0.6", {"port": 1}),
        service("headless", "ns", "None", {"port": 1}),
    ]
    found = service_variables(services, "ns", links=True)
    assert found["MY_WEB_SERVICE_HOST"] == "10.96.0.5"
    assert found["MY_WEB_SERVICE_PORT_HTTP_A"] == "80"
    assert found["MY_WEB_PORT"] == found["MY_WEB_PORT_80_TCP"] == "tcp://10.96.0.5:80"
    assert found["MY_WEB_PORT_53_UDP_PROTO"] == "udp"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert not [each for each in found if each.startswith(("OTHER", "HEADLESS"))]
    assert set(service_variables(services, "ns", links=False)) == {each for each in found if each.startswith("KUBERNETES")}


def test_field_paths() -> None:
    made = pod()
    made["metadata"].update(labels={"b": 'x"y', "a": "1"}, annotations={"k/n": "v"})

    def value(path: str) -> str:
        return fieldpath.field_value(made, path, node_name="n1", host_ips=["1.2.3.4", "fd::4"], pod_ips=["10.0.0.1", "fd::1"])

    assert value("metadata.labels") == 'a="1"\nb="x\\"y"'
    assert value("metadata.annotations['k/n']") == "v"
    assert value("metadata.labels['none']") == ""
    assert value("status.podIPs") == "10.0.0.1,fd::1"
    assert (value("status.hostIP"), value("status.hostIPs")) == ("1.2.3.4", "1.2.3.4,fd::4")
    assert value("spec.nodeName") == "n1"
    with pytest.raises(ConfigError, match="unsupported fieldPath"):
        value("spec.containers")


@pytest.mark.parametrize(
    ("resource", "divisor", "wanted"),
    [
        ("limits.cpu", "1m", "1500"),
        ("limits.cpu", "1", "2"),
        ("requests.memory", "1Mi", "64"),
        ("limits.memory", "1", "1000"),
        ("requests.cpu", "1", "0"),
    ],
)
def test_resource_fields(resource: str, divisor: str, wanted: str) -> None:
    made = container(resources={"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}})
    assert fieldpath.resource_value(made, resource, divisor, {"memory": "1000", "cpu": "4"}) == wanted


# -- DNS -------------------------------------------------------------------------------------------------------------------------------

NODE_DNS = dnsconfig.NodeDNS(
    ("10.96.0.10",),
    "cluster.local",
    dnsconfig.parse_resolv_conf("search corp.example\nnameserver 8.8.8.8 # google\noptions edns0 ndots:2\n"),
)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            {},
            "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ({"dnsPolicy": "Default"}, "search corp.example\nnameserver 8.8.8.8\noptions edns0 ndots:2\n"),
        ({"hostNetwork": True}, "search corp.example\nnameserver 8.8.8.8\noptions edns0 ndots:2\n"),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n",
        ),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["1.1.1.1"],
                    "searches": ["a.b"],
                    "options": [{"name": "ndots", "value": "1"}, {"name": "x"}],
                },
            },
            "search a.b\nnameserver 1.1.1.1\noptions ndots:1 x\n",
        ),
        (
            {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
            "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:1\n",
        ),
    ],
)
def test_resolv_conf(spec: dict[str, Any], wanted: str) -> None:
    assert dnsconfig.resolv_conf(dnsconfig.pod_dns(pod(**spec), NODE_DNS)) == wanted


def test_hosts_file_with_subdomain_and_aliases() -> None:
    made = pod(hostname="h", subdomain="sub", hostAliases=[{"ip": "9.9.9.9", "hostnames": ["a", "b"]}])
    text = dnsconfig.hosts_file(made, ["10.0.0.1"], "cluster.local", "")
    assert "10.0.0.1\th.sub.ns.svc.cluster.local\th\n" in text
    assert text.endswith("# Entries added by HostAliases.\n9.9.9.9\ta\tb\n")


def test_a_long_pod_name_is_cut_to_a_hostname() -> None:
    made = pod()
    made["metadata"]["name"] = "a" * 62 + "-b.c"
    assert dnsconfig.pod_hostname(made) == "a" * 62


def test_a_pod_may_be_called_by_its_whole_name() -> None:
    made = pod(hostname="h", subdomain="sub", setHostnameAsFQDN=True)
    assert dnsconfig.kernel_hostname(made, "cluster.local") == "h.sub.ns.svc.cluster.local"
    assert dnsconfig.kernel_hostname(pod(hostname="h", subdomain="sub"), "cluster.local") == "h"
    assert dnsconfig.kernel_hostname(pod(hostname="h", setHostnameAsFQDN=True), "cluster.local") == "h"
    long = pod(hostname="h" * 40, subdomain="sub", setHostnameAsFQDN=True)
    with pytest.raises(dnsconfig.NameTooLong, match=r"is too long \(64 characters is the max, 65 characters requested\)"):
        dnsconfig.kernel_hostname(long, "cluster.local")


@pytest.mark.parametrize(
    ("name", "signal"),
    [("SIGUSR1", "SIGUSR1"), ("SIGRTMIN+3", "SIGRTMINPLUS3"), ("SIGRTMAX-2", "SIGRTMAXMINUS2"), ("", "RUNTIME_DEFAULT")],
)
def test_the_signal_that_stops_a_container(name: str, signal: str) -> None:
    found = stop_signal({"name": "c", "lifecycle": {"stopSignal": name}} if name else {"name": "c"})
    assert cri_pb2.Signal.Name(found) == f"SIGNAL_{signal}"


# -- images ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("nginx", "docker.io library/nginx  "),
        ("nginx:1.2", "docker.io library/nginx 1.2 "),
        ("kubeling.local/host", "kubeling.local host  "),
        ("localhost:5000/a/b:t", "localhost:5000 a/b t "),
        (f"r.io/x@sha256:{'0' * 64}", f"r.io x  sha256:{'0' * 64}"),
        ("user/app", "docker.io user/app  "),
    ],
)
def test_references(image: str, wanted: str) -> None:
    found = imagename.parse(image)
    assert f"{found.registry} {found.path} {found.tag} {found.digest}" == wanted


@pytest.mark.parametrize("image", ["", "Bad Image", "UPPER", "a:b:c", "a//b", "-x", "x@sha256:12"])
def test_malformed_references(image: str) -> None:
    with pytest.raises(imagename.InvalidName):
        imagename.parse(image)


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), (f"a@sha256:{'0' * 64}", "IfNotPresent")],
)
def test_default_pull_policy(image: str, policy: str) -> None:
    assert imagename.pull_policy({"image": image}) == policy


def test_credentials_most_specific_first() -> None:
    def secret(**auths: dict[str, str]) -> dict[str, Any]:
        body = json.dumps({"auths": auths})
        return {"data": {".dockerconfigjson": base64.b64encode(body.encode()).decode()}}

    held = [
        secret(**{"https://r.io/v1/": {"username": "broad", "password": "x"}}),
        secret(**{"r.io/team": {"auth": base64.b64encode(b"narrow:pw").decode()}, "other.io": {"username": "no"}}),
        {"data": {".dockerconfigjson": "!!"}},
    ]
    assert [each.username for each in imagename.credentials_for("r.io/team/app:1", held)] == ["narrow", "broad"]
    assert [each.username for each in imagename.credentials_for("r.io/teams", held)] == ["broad"]
    assert imagename.credentials_for("nginx", held) == []


# -- limits ----------------------------------------------------------------------------------------------------------------------------


def test_container_limits() -> None:
    made = container(resources={"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}})
    found = resources.container_limits(pod(made), made, 4 * 2**30)
    assert (found.shares, found.quota, found.memory, found.oom_score_adj) == (256, 50_000, 2 * 2**30, 750)
    assert resources.container_limits(pod(), container(), 2**30).oom_score_adj == 1000
    same = container(resources={"limits": {"cpu": "1", "memory": "1Gi"}})
    assert resources.container_limits(pod(same), same, 2**30).oom_score_adj == -997


@pytest.mark.parametrize(
    ("millicores", "shares", "quota"), [(0, 2, 0), (1, 2, 1000), (1000, 1024, 100_000), (10**9, 262144, 10**11)]
)
def test_cpu(millicores: int, shares: int, quota: int) -> None:
    assert (resources.cpu_shares(millicores), resources.cpu_quota(millicores)) == (shares, quota)


def test_cgroups_by_quality() -> None:
    assert resources.pod_cgroup("", pod()) == "/kubepods/besteffort/podu1"
    burst = container(resources={"requests": {"cpu": "1"}})
    assert resources.pod_cgroup("/k/", pod(burst)) == "/k/kubepods/burstable/podu1"
    sure = container(resources={"limits": {"cpu": "1", "memory": "1Mi"}})
    assert resources.pod_cgroup("/k", pod(sure)) == "/k/kubepods/podu1"


def test_all_pods_together_have_what_is_not_reserved() -> None:
    reserved = {"memory": "100Mi", "ephemeral-storage": "1Gi"}
    made = Config("n", "", Path("/"), system_reserved={"cpu": "500m", "pid": "1000"}, kube_reserved=reserved)
    found = nodestatus.pods_share(made, MACHINE, 32768)
    assert found == {"cpu": MACHINE.cpus * 1000 - 500, "memory": MACHINE.memory - 100 * 2**20, "pid": 31768}


@pytest.mark.parametrize("unified", [True, False])
def test_the_cgroup_of_all_pods_is_limited(tmp_path: Path, unified: bool) -> None:
    trees = {"cpu": tmp_path, "memory": tmp_path, "pids": tmp_path} if unified else {}
    for name in ("cpu", "memory", "pids"):
        folder = trees.get(name, tmp_path / name) / "k" / "kubepods"
        folder.mkdir(parents=True, exist_ok=True)
    if unified:
        for folder in (tmp_path, tmp_path / "k", tmp_path / "k" / "kubepods"):
            (folder / "cgroup.controllers").write_text("cpu memory pids")
        for name in ("cpu.weight", "memory.max", "pids.max"):
            (tmp_path / "k" / "kubepods" / name).touch()
    cgroups.PodCgroups("/k", tmp_path).limit_all(2048, 2**30, 1000)
    files = ("cpu.weight", "memory.max", "pids.max") if unified else ("cpu.shares", "memory.limit_in_bytes", "pids.max")
    values = [
        (trees.get(name, tmp_path / name) / "k" / "kubepods" / file).read_text()
        for name, file in zip(("cpu", "memory", "pids"), files, strict=True)
    ]
    assert values == [str(cgroups.weight(2048)) if unified else "2048", str(2**30), "1000"]


def test_classes_weigh_by_what_their_pods_ask_for(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    made = cgroups.PodCgroups("/k", tmp_path)
    burst = container(resources={"requests": {"cpu": "500m"}})
    sure = container(resources={"limits": {"cpu": "1", "memory": "1Mi"}})
    made.weigh([pod(burst), pod(burst), pod(sure), pod()])
    top = tmp_path / "cpu" / "k" / "kubepods"
    assert [(top / name / "cpu.shares").read_text() for name in ("burstable", "besteffort")] == ["1024", "2"]
    made.weigh([pod(sure)])
    assert (top / "burstable" / "cpu.shares").read_text() == "2"


def test_a_pod_is_limited_only_when_all_its_containers_are() -> None:
    limited = container("a", resources={"limits": {"memory": "1Mi", "cpu": "1"}})
    assert resources.pod_limits(pod(limited)).memory == 2**20
    assert resources.pod_limits(pod(limited, container("b"))).memory == 0


# -- security --------------------------------------------------------------------------------------------------------------------------


def test_the_container_wins_over_the_pod() -> None:
    made = container(securityContext={"runAsUser": 2, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False})
    shared = {
        "runAsUser": 1,
        "runAsGroup": 5,
        "fsGroup": 7,
        "supplementalGroups": [6],
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    found = security.effective(pod(made, securityContext=shared), made)
    assert (found.run_as_user, found.run_as_group, found.supplemental_groups) == (2, 5, (6, 7))
    assert (found.drop, found.no_new_privileges, found.seccomp.kind) == (("ALL",), True, "RuntimeDefault")
    assert "/proc/kcore" in found.masked


@pytest.mark.parametrize(
    ("context", "uid", "user", "words"),
    [
        ({"runAsNonRoot": True}, 0, "", "image will run as root"),
        ({"runAsNonRoot": True}, None, "", "image will run as root"),
        ({"runAsNonRoot": True}, None, "app", "non-numeric user"),
        ({"runAsNonRoot": True, "runAsUser": 0}, 1, "", "breaks non-root policy"),
        ({"runAsNonRoot": True, "runAsUser": 3}, 0, "", ""),
        ({"runAsNonRoot": True}, 1000, "", ""),
        ({}, 0, "", ""),
    ],
)
def test_non_root(context: dict[str, Any], uid: int | None, user: str, words: str) -> None:
    made = container(securityContext=context)
    secure = security.effective(pod(made), made)
    if not words:
        security.verify_non_root(pod(made), made, secure, uid, user)
        return
    with pytest.raises(ConfigError, match=words):
        security.verify_non_root(pod(made), made, secure, uid, user)


# -- admission -------------------------------------------------------------------------------------------------------------------------

NODE = {
    "metadata": {"name": "n1", "labels": {"zone": "a"}},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
}
ONE_CPU = container(resources={"requests": {"cpu": "1"}})
PORT = container(ports=[{"containerPort": 80, "hostPort": 8080}])


@pytest.mark.parametrize(
    ("made", "others", "reason"),
    [
        (pod(ONE_CPU), [pod(ONE_CPU)], None),
        (pod(ONE_CPU), [pod(ONE_CPU), pod(ONE_CPU)], "OutOfcpu"),
        (pod(container(resources={"requests": {"memory": "2Gi"}})), [], "OutOfmemory"),
        (pod(container(resources={"requests": {"x.io/gpu": "1"}})), [], "OutOfx.io/gpu"),
        (pod(), [pod(), pod(), pod()], "OutOfpods"),
        (pod(nodeSelector={"zone": "b"}), [], "NodeAffinity"),
        (pod(nodeSelector={"zone": "a"}), [], None),
        (pod(PORT), [pod(PORT)], "NodePorts"),
        (pod(PORT), [pod()], None),
    ],
)
def test_admission(made: dict[str, Any], others: list[dict[str, Any]], reason: str | None) -> None:
    found = admission.admit(made, others, NODE)
    assert (found[0] if found else None) == reason


def test_admission_words() -> None:
    found = admission.admit(pod(ONE_CPU), [pod(ONE_CPU), pod(ONE_CPU)], NODE)
    assert found is not None
    assert found[1] == "Node didn't have enough resource: cpu, requested: 1000, used: 2000, capacity: 2000"


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [
        ("net.ipv4.tcp_syncookies", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, '"kernel.shm_rmid_forced" not allowed with host ipc enabled'),
        ("net.ipv4.tcp_rmem", {"hostNetwork": True}, '"net.ipv4.tcp_rmem" not allowed with host net enabled'),
        ("kernel.msgmax", {}, '"kernel.msgmax" not allowlisted'),
        ("net.core.somaxconn", {}, ""),
    ],
)
def test_kernel_settings_of_pods(name: str, more: dict[str, Any], complaint: str) -> None:
    """The safe ones, and those that the node was told to allow; none that would be the node's own."""
    made = pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **more)
    found = admission.admit(made, [], NODE, ["net.core.*"])
    assert found == (("SysctlForbidden", f"forbidden sysctl: {complaint}") if complaint else None)


# -- probes ----------------------------------------------------------------------------------------------------------------------------


def probe(kind: str, **more: Any) -> ProbeState:
    spec = probe_spec({f"{kind}Probe": {"exec": {"command": ["x"]}, **more}}, kind)  # type: ignore[arg-type]
    assert spec is not None
    return ProbeState(spec)


def test_readiness_thresholds() -> None:
    state = probe("readiness", successThreshold=2, failureThreshold=3)
    assert state.verdict is False
    changes = [state.record(each) for each in (True, True, False, False, True, False, False, False)]
    assert changes == [False, True, False, False, False, False, False, True]
    assert state.verdict is False


def test_liveness_begins_alive_and_startup_undecided() -> None:
    probes = ContainerProbes({"liveness": probe("liveness", failureThreshold=1), "startup": probe("startup", failureThreshold=2)})
    assert (probes.started, probes.ready, probes.failed) == (False, False, "")
    probes.states["startup"].record(True)
    assert (probes.started, probes.ready, probes.failed) == (True, True, "")
    probes.states["liveness"].record(False)
    assert probes.failed == "liveness"


def test_a_startup_probe_that_fails_kills() -> None:
    probes = ContainerProbes({"startup": probe("startup", failureThreshold=2)})
    assert [probes.states["startup"].record(False), probes.failed] == [False, ""]
    assert [probes.states["startup"].record(False), probes.failed] == [True, "startup"]


# -- volumes ---------------------------------------------------------------------------------------------------------------------------


def inputs(**objects: dict[str, Any]) -> projection.Inputs:
    return projection.Inputs(
        pod(),
        lookup=lambda kind, name: objects.get(f"{kind}_{name}"),
        token=lambda audience, seconds: f"token-{audience}-{seconds}",
        node_name="n1",
        host_ips=["1.2.3.4"],
        allocatable={},
    )


CONFIG = {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\xff").decode()}}


@pytest.mark.parametrize(
    ("volume", "wanted"),
    [
        ({"configMap": {"name": "c"}}, {"a": (b"1", 0o644), "b": (b"2", 0o644), "c": (b"\xff", 0o644)}),
        (
            {
                "configMap": {
                    "name": "c",
                    "defaultMode": 0o400,
                    "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o777}],
                }
            },
            {"x/y": (b"1", 0o400), "z": (b"2", 0o777)},
        ),
        ({"configMap": {"name": "none", "optional": True}}, {}),
        ({"configMap": {"name": "c", "optional": True, "items": [{"key": "no", "path": "p"}]}}, {}),
        ({"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}, {"n": (b"p", 0o644)}),
        (
            {
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {"configMap": {"name": "c", "items": [{"key": "a", "path": "a"}]}},
                        {"serviceAccountToken": {"path": "t", "audience": "aud", "expirationSeconds": 600}},
                    ],
                }
            },
            {"a": (b"1", 0o440), "t": (b"token-aud-600", 0o440)},
        ),
    ],
)
def test_projection(volume: dict[str, Any], wanted: dict[str, tuple[bytes, int]]) -> None:
    found = projection.payload(volume, inputs(ConfigMap_c=CONFIG))
    assert {path: (file.data, file.mode) for path, file in found.items()} == wanted


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "c", "items": [{"key": "no", "path": "p"}]}}, "references non-existent config key: no"),
    ],
)
def test_projection_names_what_is_missing(volume: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        projection.payload(volume, inputs(ConfigMap_c=CONFIG))


def test_files_change_all_at_once(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    first = (tmp_path / "..data").readlink()
    assert not atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert (tmp_path / "..data").readlink() == first
    assert atomic.write(tmp_path, {"a": File(b"changed", 0o644), "e": File(b"3", 0o644)})
    assert (tmp_path / "a").read_text() == "changed"
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith("..")) == ["a", "e"]
    assert (tmp_path / "a").is_symlink()
    assert len(list(tmp_path.glob("..2*"))) == 1


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../../b", "..data/x", "a//b", ""])
def test_no_path_leaves_the_volume(tmp_path: Path, path: str) -> None:
    with pytest.raises(atomic.UnsafePath):
        atomic.write(tmp_path, {path: File(b"", 0o644)})


# -- patches ---------------------------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_sent() -> None:
    before = {
        "phase": "Pending",
        "hostIP": "1.1.1.1",
        "conditions": [{"type": "Ready", "status": "False", "reason": "X"}, {"type": "mine", "status": "True"}],
    }
    wanted = {"phase": "Running", "hostIP": "1.1.1.1", "conditions": [{"type": "Ready", "status": "True"}]}
    assert status_patch(before, wanted, "u") == {
        "metadata": {"uid": "u"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "reason": None}]},
    }
    assert status_patch(wanted, wanted, "u") is None


def test_a_new_address_replaces_the_old() -> None:
    found = status_patch({"podIPs": [{"ip": "1"}]}, {"podIPs": [{"ip": "2"}]}, "u")
    assert found is not None
    assert found["status"]["podIPs"] == [{"$patch": "replace"}, {"ip": "2"}]


# -- the node --------------------------------------------------------------------------------------------------------------------------

CONFIGURED = Config("n1", "unix:///x", Path("/r"), node_labels={"mine": "1"})
MACHINE = Machine(2, 2**30, 2**34, 1000, "m", "s", "b", "6.1", "Debian", "amd64")


def node_status(conditions: nodestatus.Conditions | None, pressure: frozenset[str] = frozenset()) -> dict[str, Any]:
    made = nodestatus.new_node(CONFIGURED, MACHINE)
    return nodestatus.node_status(
        made, CONFIGURED, MACHINE, pressure, conditions, runtime_version="crilite://1", host_ips=["1.2.3.4"], images=[], now=NOW
    )


UP: nodestatus.Conditions = {"RuntimeReady": (True, "", ""), "NetworkReady": (True, "", "")}


@pytest.mark.parametrize(
    ("conditions", "ready", "words"),
    [
        (UP, "True", "kubelet is posting ready status"),
        (None, "False", "container runtime is down"),
        (
            {**UP, "NetworkReady": (False, "NetworkPluginNotReady", "no CIDR")},
            "False",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no CIDR",
        ),
    ],
)
def test_node_readiness(conditions: nodestatus.Conditions | None, ready: str, words: str) -> None:
    found = next(each for each in node_status(conditions)["conditions"] if each["type"] == "Ready")
    assert (found["status"], found["message"]) == (ready, words)


def test_node_pressure_and_what_counts_as_a_change() -> None:
    fine = node_status(UP)
    assert not nodestatus.differs(fine, node_status(UP))
    low = node_status(UP, frozenset({"MemoryPressure", "DiskPressure"}))
    assert nodestatus.differs(fine, low)
    kinds = {each["type"]: (each["status"], each["reason"]) for each in low["conditions"]}
    assert kinds["MemoryPressure"] == ("True", "KubeletHasInsufficientMemory")
    assert kinds["DiskPressure"] == ("True", "KubeletHasDiskPressure")


def test_what_is_reserved_is_not_for_pods() -> None:
    config = replace(
        CONFIGURED,
        system_reserved={"cpu": "250m", "memory": "100Mi"},
        kube_reserved={"cpu": "250m", "ephemeral-storage": "1Gi"},
        thresholds=thresholds({"memory.available": "24Mi", "nodefs.available": "50%"}, {}, {}, {}),
    )
    found = nodestatus.allocatable(config, MACHINE)
    assert (found["cpu"], found["memory"], found["pods"]) == ("1500m", f"{900 * 1024}Ki", "110")
    assert found["ephemeral-storage"] == str(2**33 - 2**30)
    assert nodestatus.capacity(config, MACHINE)["cpu"] == "2"


def test_the_node_that_is_registered() -> None:
    made = nodestatus.new_node(CONFIGURED, MACHINE)
    assert made["metadata"]["labels"] == {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": "n1",
        "kubernetes.io/os": "linux",
        "mine": "1",
    }
    assert made["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def test_a_serving_certificate_that_was_torn_is_made_anew(tmp_path: Path) -> None:
    cert, key = (Path(each) for each in serving_certificate(tmp_path, "n1", ["10.0.0.1"]))
    first = cert.read_bytes()
    serving_certificate(tmp_path, "n1", ["10.0.0.1"])
    assert cert.read_bytes() == first
    key.write_bytes(key.read_bytes()[:50])
    serving_certificate(tmp_path, "n1", ["10.0.0.1"])
    assert cert.read_bytes() != first
    cert.write_bytes(b"")
    serving_certificate(tmp_path, "n1", ["10.0.0.1"])
    assert cert.read_bytes().startswith(b"-----BEGIN")
    assert key.stat().st_mode & 0o777 == 0o600
