"""kubectl's commands that only look: get in every output, describe, explain, events, discovery, completion, proxy, dump."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.kubectl import Kubectl, every_kubectl, workload

pytestmark = pytest.mark.live

#: Kinds of other tests, which come and go meanwhile.
OTHERS = "example.com"


def sort_of(kubectl: Kubectl) -> list[str]:
    """Names of all that can be listed, as `get` takes them."""
    found = str(kubectl("api-resources", "--verbs=list", "-o", "name")).split()
    return [each for each in found if not each.endswith(OTHERS)]


@every_kubectl()
def test_get_in_every_output(kubectl: Kubectl, tmp_path: Path) -> None:
    for name, tier in (("a", "front"), ("b", "back")):
        kubectl("create", "configmap", name, f"--from-literal=k={name}")
        kubectl("label", "configmap", name, f"tier={tier}")
    get = ("get", "configmaps", "-l", "tier")
    assert kubectl(*get, "-o", "name") == "configmap/a\nconfigmap/b\n"
    assert re.fullmatch(r"NAME +DATA +AGE\na +1 +\d+s\nb +1 +\d+s\n", kubectl(*get))
    assert kubectl(*get, "--no-headers").split()[0] == "a"
    assert [line.split()[-1] for line in kubectl(*get, "--show-labels").splitlines()] == ["LABELS", "tier=front", "tier=back"]
    assert [line.split()[-1] for line in kubectl(*get, "-L", "tier").splitlines()] == ["TIER", "front", "back"]
    assert [line.split()[0] for line in kubectl(*get, "--sort-by=.metadata.labels.tier").splitlines()] == ["NAME", "b", "a"]
    assert kubectl(*get, "-o", "jsonpath={.items[*].data.k}") == "a b"
    assert kubectl(*get, "-o", "jsonpath-as-json={.items[*].data.k}").split() == ["[", '"a",', '"b"', "]"]
    assert kubectl(*get, "-o", 'go-template={{range .items}}{{.data.k}}{{"\\n"}}{{end}}') == "a\nb\n"
    assert kubectl(*get, "-o", "custom-columns=N:.metadata.name,K:.data.k") == "N     K\na     a\nb     b\n"
    (tmp_path / "columns").write_text("N              K\n.metadata.name .data.k\n")
    assert kubectl(*get, "-o", f"custom-columns-file={tmp_path}/columns") == "N     K\na     a\nb     b\n"
    (tmp_path / "path").write_text("{.items[0].data.k}")
    assert kubectl(*get, "-o", f"jsonpath-file={tmp_path}/path") == "a"
    assert "managedFields" not in kubectl(*get, "-o", "yaml")
    assert "managedFields" in kubectl(*get, "-o", "yaml", "--show-managed-fields")
    assert kubectl("get", "configmap/a", "configmap/b", "-o", "name") == "configmap/a\nconfigmap/b\n"
    assert "NAMESPACE" in kubectl("get", "configmaps", "-A", "--chunk-size=2")
    assert kubectl("get", "configmaps", "--field-selector=metadata.name=b", "-o", "name") == "configmap/b\n"
    assert kubectl("get", "configmap", "nothing", "--ignore-not-found") == ""
    assert 'configmaps "nothing" not found' in kubectl.refused("get", "configmap", "nothing")
    assert "No resources found in" in kubectl.run("get", "configmaps", "-l", "x=y").stderr
    assert "the server doesn't have a resource type" in kubectl.refused("get", "nothings")
    assert kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.bench.namespace}/configmaps/a", "parse")["data"] == {"k": "a"}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(kubectl.json("configmap", "a")))
    assert kubectl("get", "-f", str(path), "-o", "name") == "configmap/a\n"

    kubectl("apply", "-f", "-", stdin=json.dumps(workload("Deployment", "d", replicas=0)))
    assert kubectl("get", "deployment", "d", "--subresource=scale", "-o", "jsonpath={.kind}") == "Scale"
    assert kubectl("get", "deployment", "d", "--subresource=status", "-o", "name") == "deployment.apps/d\n"
    assert "deployment.apps/d" in kubectl("get", "all")
    # Everything that is served has a table, and can be listed as objects.
    listed = [each for each in sort_of(kubectl) if not each.endswith("metrics.k8s.io")]
    assert len(listed) > 35
    assert kubectl.run("get", ",".join(listed), "-o", "wide").returncode == 0
    kinds = {each["kind"] for each in kubectl.json(",".join(listed), "-A")["items"]}
    assert {"ConfigMap", "Deployment", "Node", "ClusterRole", "Lease", "Event", "EndpointSlice", "FlowSchema"} <= kinds


@every_kubectl()
def test_get_watches(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "first")
    with kubectl.running(
        "get", "configmaps", "-w", "--output-watch-events", "--field-selector=metadata.name!=kube-root-ca.crt"
    ) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert watch.stdout.readline().split()[:2] == ["ADDED", "first"]
        kubectl("create", "configmap", "second")
        assert watch.stdout.readline().split()[:2] == ["ADDED", "second"]
        kubectl("patch", "configmap", "second", "-p", '{"data":{"a":"b"}}')
        assert watch.stdout.readline().split()[:3] == ["MODIFIED", "second", "1"]
        kubectl("delete", "configmap", "second")
        assert watch.stdout.readline().split()[:2] == ["DELETED", "second"]


DESCRIBED = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: x}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: x}
spec: {limits: [{type: Container, default: {cpu: 1}}]}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: x}
spec: {hard: {configmaps: 50}}
---
apiVersion: v1
kind: PodTemplate
metadata: {name: x}
template: {spec: {containers: [{name: c, image: i}]}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: x}
spec: {replicas: 0, selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: x}
spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: x}
spec: {schedule: "0 0 1 1 *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: x}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: x}
spec: {rules: [{host: a, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: x, port: {number: 80}}}}]}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: x}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: x}
spec: {maxUnavailable: 1, selector: {matchLabels: {a: b}}}
---
apiVersion: v1
kind: Service
metadata: {name: x}
spec: {ports: [{port: 80}], selector: {a: b}}
---
apiVersion: v1
kind: Secret
metadata: {name: x}
stringData: {a: b}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: x}
revision: 1
data: {a: b}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: x}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: x}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: x}
subjects: [{kind: ServiceAccount, name: default}]
"""


@every_kubectl()
def test_describe_every_kind(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DESCRIBED)
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        obj = workload(kind, "d")
        if kind == "DaemonSet":
            obj["spec"]["template"]["spec"]["nodeSelector"] = {"no": "such"}
        kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    kubectl("rollout", "status", "statefulset/d", "--timeout=90s")
    described = kubectl("describe", "pod", "d-0")
    assert re.search(r"Controlled By: +StatefulSet/d", described)
    assert "Scheduled" in described
    for text in ("Volumes:", "QoS Class:", "Tolerations:", "Container ID:", "Conditions:"):
        assert text in described
    for kind in sort_of(kubectl):
        # Of these, kubectl before 1.33 describes alpha versions, which no server of 1.33 serves.
        if kind.endswith("metrics.k8s.io") or (kubectl.minor < 33 and kind.startswith(("ipaddresses.", "servicecidrs."))):
            continue
        done = kubectl.run("describe", kind)
        assert done.returncode == 0, f"{kind}: {done.stderr}"
        assert "Name:" in done.stdout or "No resources found" in done.stderr, kind
    assert "Allocated resources:" in kubectl("describe", "nodes")
    assert re.search(r"configmaps +\d+ +50", kubectl("describe", "namespace", kubectl.bench.namespace))
    assert re.search(r"Endpoints: ", kubectl("describe", "service", "x"))
    assert "no such" not in kubectl("describe", "deployment", "d", "--show-events=false")
    kubectl("delete", "deployment,statefulset,daemonset", "d")


@every_kubectl()
def test_explain_everything(kubectl: Kubectl) -> None:
    table = kubectl("api-resources", "--no-headers").splitlines()
    wanted = {}
    for line in table:
        words = line.split()
        plural, (api_version, _, _) = words[0], words[-3:]
        if not api_version.partition("/")[0].endswith(OTHERS):
            wanted[api_version, plural] = words[-1]
    assert len(wanted) > 50
    for (api_version, plural), kind in wanted.items():
        done = kubectl.run("explain", plural, f"--api-version={api_version}", "--recursive")
        assert done.returncode == 0, f"{api_version} {plural}: {done.stderr}"
        assert f"KIND:       {kind}" in done.stdout
        assert "<empty>" not in done.stdout, plural
    field = kubectl("explain", "pods.spec.containers.ports.protocol")
    assert "FIELD: protocol <string>" in field
    assert "-required-" in kubectl("explain", "pod.spec.containers")
    if kubectl.minor >= 30:  # Older ones do not show them.
        assert re.search(r"ENUM:\s+Always\s+Never\s+OnFailure", kubectl("explain", "pods.spec.restartPolicy"))
    assert "does not exist" in kubectl.refused("explain", "pods.spec.nothing")
    # The document of version 2, in which old clients look.
    for plural in ("pods", "deployments", "customresourcedefinitions"):
        assert "KIND:     " in kubectl("explain", plural, "--recursive", "--output=plaintext-openapiv2")
    assert "-required-" in kubectl("explain", "pods.spec.containers.ports", "--output=plaintext-openapiv2")


@every_kubectl()
def test_what_is_served(kubectl: Kubectl) -> None:
    assert {"v1", "apps/v1", "autoscaling/v2", "metrics.k8s.io/v1beta1"} <= set(kubectl("api-versions").split())
    assert "pods po v1 true Pod" in [" ".join(line.split()) for line in kubectl("api-resources").splitlines()]
    assert set(kubectl("api-resources", "--api-group=apps", "-o", "name").split()) == {
        f"{each}.apps" for each in ("controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets")
    }
    assert "configmaps" not in kubectl("api-resources", "--namespaced=false")
    assert "deployments.apps" in kubectl("api-resources", "--categories=all", "-o", "name")
    assert kubectl("version", "-o", "json", "parse")["serverVersion"]["major"] == "1"
    info = kubectl("cluster-info")
    assert "Kubernetes control plane" in info
    assert "is running at" in info
    for plugin in ("config view", "config get-contexts", "config current-context", "options"):
        kubectl(*plugin.split())


@every_kubectl()
def test_events_dump_completion_proxy(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("run", "p", "--image=kubeling.local/host", "--", "sleep", "1000")
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=90s")
    kubectl.bench.until("the pod has events", lambda: "Started" in kubectl("events", "--for=pod/p"))
    assert "Scheduled" in kubectl("events", "--for=pod/p", "--types=Normal")
    assert "No events found" in kubectl.run("events", "--types=Warning", "--for=pod/p").stderr
    kubectl("events", "-A", "--no-headers", "-o", "json")

    kubectl("cluster-info", "dump", f"--output-directory={tmp_path}", f"--namespaces={kubectl.bench.namespace}")
    found = {each.name for each in tmp_path.rglob("*") if each.is_file()}
    assert {"nodes.json", "pods.json", "events.json", "logs.txt"} <= found

    def complete(*typed: str) -> list[str]:
        place = ("-n", kubectl.bench.namespace)
        return [line.split("\t")[0] for line in kubectl("__complete", *typed[:1], *place, *typed[1:]).splitlines()]

    assert "p" in complete("get", "pod", "")
    assert "pods" in complete("get", "po")
    assert "p" in complete("logs", "")
    assert kubectl.bench.namespace in complete("get", "pods", "--namespace", kubectl.bench.namespace[:6])
    assert "worker-1" in complete("cordon", "wor")
    assert "__start_kubectl" in kubectl("completion", "bash")

    with kubectl.running("proxy", "--port=0", "--reject-paths=^/nothing") as proxy:
        url = _proxy_url(proxy)
        base = f"{url}/api/v1/namespaces/{kubectl.bench.namespace}"
        with urllib.request.urlopen(f"{base}/pods/p", timeout=30) as answer:
            assert json.load(answer)["metadata"]["name"] == "p"
        with urllib.request.urlopen(f"{base}/pods?watch=1&resourceVersion=0", timeout=30) as answer:
            event: dict[str, Any] = json.loads(answer.readline())
            assert event["type"] == "ADDED"


def _proxy_url(proxy: subprocess.Popen[str]) -> str:
    assert proxy.stdout is not None
    line = proxy.stdout.readline()
    match = re.search(r"Starting to serve on (\S+)", line)
    assert match is not None, line
    return f"http://{match[1]}"
