"""Other people's clients, unchanged: every kubectl that is installed, and the official Python client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubeling.tests.e2e.kubectl import Kubectl, every_kubectl
from kubeling.tests.e2e.support import EXAMPLES, Bench

pytestmark = pytest.mark.live


@every_kubectl()
def test_kubectl_works_the_example(kubectl: Kubectl) -> None:
    first = kubectl.run("apply", "-f", str(EXAMPLES / "web.yaml"))
    assert "deployment.apps/web created" in first.stdout, first.stderr
    assert first.stderr == ""
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert "unchanged" in kubectl("apply", "-f", str(EXAMPLES / "web.yaml"))
    table = kubectl("get", "pods", "-o", "wide").splitlines()
    assert table[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(table) == 4
    assert all(line.split()[1:3] == ["1/1", "Running"] for line in table[1:])
    assert "LoadBalancer" in kubectl("get", "service", "web")
    kubectl("set", "env", "deployment/web", "VERSION=2")
    kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert "2" in kubectl("rollout", "history", "deployment/web")
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert (
        json.loads(kubectl("get", "deployment", "web", "-o", "json"))["spec"]["template"]["spec"]["containers"][0]["env"][0][
            "value"
        ]
        == "1"
    )
    assert "hello" in kubectl("get", "configmap", "web", "-o", "jsonpath={.data.serve\\.py}")
    assert "Normal" in kubectl("describe", "deployment", "web")
    pods = json.loads(kubectl("get", "pods", "-o", "json"))["items"]
    pod = next(each["metadata"]["name"] for each in pods if "deletionTimestamp" not in each["metadata"])
    assert "kubeling.local/host" in kubectl("describe", f"pod/{pod}")
    kubectl("scale", "deployment/web", "--replicas=1")
    kubectl("wait", "--for=jsonpath={.status.replicas}=1", "deployment/web", "--timeout=60s")
    kubectl("label", "deployment", "web", "tier=front")
    kubectl("create", "deployment", "other", "--image=kubeling.local/host", "--", "sleep", "1000")
    kubectl("wait", "--for=condition=Available", "deployment/other", "--timeout=60s")
    kubectl("delete", "-f", str(EXAMPLES / "web.yaml"))
    assert "NotFound" in kubectl.refused("get", "deployment", "web")


@every_kubectl()
def test_kubectl_shows_the_errors_that_upstream_shows(kubectl: Kubectl) -> None:
    def refused(text: str, *args: str) -> str:
        return kubectl.refused(*(args or ("create", "-f", "-")), stdin=text)

    def config_map(**more: Any) -> str:
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, **more})

    assert 'strict decoding error: unknown field "datas"' in refused(config_map(datas={}))
    wrong = json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": "three"}})
    assert "cannot unmarshal string into Go struct field" in refused(wrong)
    assert "metadata.name: Required value: name or generateName is required" in refused(
        json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})
    )
    assert 'no matches for kind "Nothing"' in refused(
        json.dumps({"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "n"}})
    )
    kubectl("create", "-f", "-", stdin=config_map())
    assert 'Error from server (AlreadyExists): error when creating "STDIN": configmaps "m" already exists' in refused(
        config_map()
    )
    stale = json.loads(kubectl("get", "configmap", "m", "-o", "json"))
    kubectl("annotate", "configmap", "m", "a=b")
    stale["data"] = {"x": "y"}
    assert "the object has been modified; please apply your changes to the latest version and try again" in refused(
        json.dumps(stale), "replace", "-f", "-"
    )
    assert "(RequestEntityTooLarge)" in refused(config_map(metadata={"name": "big"}, data={"x": "y" * 4_000_000}))
    no_image = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})
    assert "spec.containers[0].image: Required value" in refused(no_image)


def test_the_official_python_client(bench: Bench) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    kubernetes.config.load_kube_config(str(bench.cluster.kubeconfig))
    core, apps = kubernetes.client.CoreV1Api(), kubernetes.client.AppsV1Api()
    namespace = bench.namespace
    labels = {"app": "py"}
    container = kubernetes.client.V1Container(name="c", image="kubeling.local/host", command=["sleep", "1000"])
    template = kubernetes.client.V1PodTemplateSpec(
        metadata=kubernetes.client.V1ObjectMeta(labels=labels),
        spec=kubernetes.client.V1PodSpec(containers=[container], termination_grace_period_seconds=0),
    )
    spec = kubernetes.client.V1DeploymentSpec(
        replicas=2, selector=kubernetes.client.V1LabelSelector(match_labels=labels), template=template
    )
    made = apps.create_namespaced_deployment(
        namespace, kubernetes.client.V1Deployment(metadata=kubernetes.client.V1ObjectMeta(name="py"), spec=spec)
    )
    assert made.metadata.uid
    running: set[str] = set()
    for event in kubernetes.watch.Watch().stream(
        core.list_namespaced_pod, namespace, label_selector="app=py", timeout_seconds=60
    ):
        if event["object"].status.phase == "Running":
            running.add(event["object"].metadata.name)
        if len(running) == 2:
            break
    assert len(running) == 2
    apps.patch_namespaced_deployment_scale("py", namespace, {"spec": {"replicas": 1}})
    assert apps.read_namespaced_deployment("py", namespace).spec.replicas == 1
    with pytest.raises(kubernetes.client.ApiException) as caught:
        core.read_namespaced_pod("nothing", namespace)
    assert caught.value.status == 404
    assert json.loads(caught.value.body)["message"] == 'pods "nothing" not found'
    apps.delete_namespaced_deployment("py", namespace)
