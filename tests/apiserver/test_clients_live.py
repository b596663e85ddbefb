"""kubectl in every version that is installed, and the official Python client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apiserver.conftest import make_namespace
from tests.apiserver.harness import Kubectl, deployment, pod
from tests.kubectls import oldest_and_newest

pytestmark = pytest.mark.live
BINARIES = oldest_and_newest()


@pytest.fixture(
    params=BINARIES or [pytest.param("", marks=pytest.mark.skip(reason="kubectl is not installed"))],
    ids=lambda each: Path(each).name,
)
def kubectl(request, server, tmp_path):
    with server.client() as client:
        ns = make_namespace(client)
    made = Kubectl(request.param, server.kubeconfig(tmp_path / "config"), tmp_path / "cache")
    made("config", "set-context", "k", f"--namespace={ns.name}")
    return made


def test_a_day_with_kubectl(kubectl, tmp_path):
    assert "Server Version: v1." in kubectl("version") or "GitVersion" in kubectl("version")
    assert "deployments" in kubectl("api-resources")
    assert "apps/v1" in kubectl("api-versions")
    assert kubectl("get", "--raw", "/readyz") == "ok"

    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "token", "default")
    kubectl("expose", "deployment", "web", "--port=80")
    kubectl("autoscale", "deployment", "web", "--max=5")
    kubectl("run", "p", "--image=nginx")
    kubectl("label", "pod", "p", "tier=front")
    kubectl("annotate", "pod", "p", "note=hello")
    kubectl("scale", "deployment", "web", "--replicas=4")
    kubectl("set", "image", "deployment/web", "nginx=nginx:2")
    kubectl("patch", "deployment", "web", "-p", '{"spec":{"paused":true}}')
    kubectl("patch", "deployment", "web", "--type=json", "-p", '[{"op":"remove","path":"/spec/paused"}]')
    assert json.loads(kubectl("get", "deployment", "web", "-o", "json"))["spec"]["replicas"] == 4
    table = kubectl("get", "deployment,service,pod", "-o", "wide")
    assert "deployment.apps/web" in table
    assert "CLUSTER-IP" in table
    assert "0/1" in kubectl("get", "pods", "-l", "tier=front", "--show-labels")
    assert "Selector:" in kubectl("describe", "deployment", "web")
    assert "kind" in kubectl("explain", "deployment.spec").lower()
    assert "yes" in kubectl("auth", "can-i", "create", "pods")
    assert kubectl.run("auth", "can-i", "create", "pods", "--as=bob").stdout.strip() == "no"
    kubectl("rollout", "restart", "deployment/web")

    manifest = tmp_path / "web.json"
    manifest.write_text(json.dumps(deployment("applied", replicas=1)))
    assert "created" in kubectl("apply", "-f", str(manifest))
    assert "unchanged" in kubectl("apply", "-f", str(manifest))
    manifest.write_text(json.dumps(deployment("applied", replicas=2)))
    assert kubectl.run("diff", "-f", str(manifest)).returncode == 1
    assert "configured" in kubectl("apply", "-f", str(manifest))
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", str(manifest))
    assert "replaced" in kubectl("replace", "-f", str(manifest))
    kubectl("wait", "--for=jsonpath={.spec.replicas}=2", "deployment/applied", "--timeout=10s")
    kubectl("delete", "-f", str(manifest))
    kubectl("delete", "pod", "p", "--wait")
    assert "NotFound" in kubectl.run("get", "pod", "p").stderr
    kubectl("delete", "deployment,service,hpa", "--all")


def test_cordon_drain_and_taint(kubectl, server, tmp_path):
    name = f"n-{tmp_path.name[-12:].strip('_').lower().replace('_', '-')}"
    with server.client() as client:
        client.post("/api/v1/nodes", json={"metadata": {"name": name}})
    kubectl("taint", "node", name, "a=b:NoSchedule")
    kubectl("cordon", name)
    assert "SchedulingDisabled" in kubectl("get", "node", name)
    kubectl("drain", name, "--timeout=10s")
    kubectl("uncordon", name)
    kubectl("delete", "node", name)


def test_the_official_python_client(ns, server, tmp_path):
    from kubernetes import client, config, dynamic, watch

    api = config.new_client_from_config(str(server.kubeconfig(tmp_path / "config")))
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    core.create_namespaced_pod(ns.name, pod("p"))
    made = apps.create_namespaced_deployment(ns.name, deployment("x"))
    assert made.spec.replicas == 1
    apps.patch_namespaced_deployment_scale("x", ns.name, {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment("x", ns.name).spec.replicas == 3
    version = core.list_namespaced_pod(ns.name).metadata.resource_version
    core.patch_namespaced_pod("p", ns.name, {"metadata": {"labels": {"a": "b"}}})
    stream = watch.Watch().stream(core.list_namespaced_pod, ns.name, resource_version=version, timeout_seconds=5)
    event = next(iter(stream))
    assert (event["type"], event["object"].metadata.labels) == ("MODIFIED", {"a": "b"})
    with pytest.raises(client.ApiException) as missing:
        core.read_namespaced_pod("nobody", ns.name)
    assert missing.value.status == 404
    found = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    found.create(namespace=ns.name, body={"metadata": {"name": "d"}, "data": {"a": "b"}})
    assert found.get(name="d", namespace=ns.name).data.a == "b"
    core.delete_namespaced_pod("p", ns.name)
    assert not core.list_namespaced_pod(ns.name).items
