"""Both command lines against one apiserver: kubeling must say what kubectl says, and leave behind what kubectl leaves.

Ages, uids and the like are levelled out (conftest.plain). Where we mean to differ from kubectl the test says so and stands alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.live

Same = Callable[..., Any]

FIRST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1", ports: [{containerPort: 80}], env: [{name: A, value: "1"}, {name: B, value: "2"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {a: "1", b: "2", html: "<&>"}
"""
SECOND = FIRST.replace("replicas: 2", "replicas: 3").replace("nginx:1", "nginx:2").replace(', {name: B, value: "2"}', "")
SECOND = SECOND.replace('b: "2"', 'c: "3"').replace("port: 80, name: http", "port: 81, name: other")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "one.yaml").write_text(FIRST)
    (tmp_path / "two.yaml").write_text(SECOND)
    (tmp_path / "unknown.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndatas: {a: b}\n")
    (tmp_path / "nokind.yaml").write_text("kind: Pod\n")
    (tmp_path / "strange.yaml").write_text("apiVersion: foo/v1\nkind: Nope\nmetadata: {name: bad}\n")
    (tmp_path / "broken.yaml").write_text("a: b\n  c: [\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_get_shows_what_kubectl_shows(shell: Any, same: Same, files: Path) -> None:
    assert shell.kubeling("apply -f one.yaml").code == 0
    shell.kubeling("wait --for=jsonpath={.status.replicas}=2 deploy/web")
    for line in (
        "get deploy",
        "get deploy,svc,cm",
        "get pods --show-labels --show-kind",
        "get pods -L app,nope",
        "get svc -o wide",
        "get deploy web -o yaml",
        "get svc,cm -o json",
        "get deploy/web svc/web -o name",
        "get deploy/web svc/nope",
        "get cm conf nope",
        "get cm -l nope=nope",
        "get cm -l nope=nope -o yaml",
        "get cm --sort-by=.metadata.name --no-headers",
        "get -f one.yaml",
        "get nope",
        "get pods -A -o custom-columns=N:.metadata.namespace,X:.nope",
        ["get", "svc", "-o", 'jsonpath={range .items[*]}{.metadata.name}{"\\t"}{.spec.ports[0].port}{"\\n"}{end}'],
        ["get", "cm", "conf", "-o", "go-template={{range $k, $v := .data}}{{$k}}={{$v}} {{end}}"],
        ["get", "cm", "-o", "jsonpath={.items"],
        ["get", "cm", "conf", "-o", "jsonpath={.data}"],
        "get cm conf -o nope",
        "get",
        "get --raw /healthz",
        "get cm --bogus",
        "describe deploy web",
        "describe svc web",
        "describe sa default",
        "describe cm nope",
    ):
        same(line)


def test_apply_and_kubectls_apply_are_one(shell: Any, same: Same, files: Path) -> None:
    same("apply -f one.yaml --dry-run=server")
    assert shell.kubectl("apply -f one.yaml").code == 0
    same("apply -f one.yaml")
    assert "unchanged" in shell.kubeling("apply -f one.yaml").out
    assert shell.kubeling("apply -f two.yaml").out.count("configured") == 3
    same("apply -f two.yaml")
    assert shell.kubectl("apply -f two.yaml").out.count("unchanged") == 3
    assert shell.kubectl("diff -f two.yaml").code == 0
    ours = json.loads(shell.kubeling("get deploy,svc,cm -o json -l nope!=x").out)
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in ours["items"]}
    assert by_name["ConfigMap", "conf"]["data"] == {"a": "1", "c": "3", "html": "<&>"}
    container = by_name["Deployment", "web"]["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert [port["port"] for port in by_name["Service", "web"]["spec"]["ports"]] == [81]
    assert shell.kubectl("apply -f one.yaml").out.count("configured") == 3
    assert shell.kubeling("apply -f one.yaml").out.count("unchanged") == 3


def test_server_side_apply_says_who_else_owns_a_field(shell: Any, same: Same, files: Path) -> None:
    (files / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: '1'}\n")
    (files / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: '2'}\n")
    same("apply --server-side -f a.yaml")
    refused = shell.kubeling("apply --server-side --field-manager=other -f b.yaml")
    assert refused.code == 1
    assert refused.err.startswith('error: Apply failed with 1 conflict: conflict with "kubectl": .data.a\n')
    same("apply --server-side --field-manager=other -f b.yaml --force-conflicts")
    # From the client's side to the server's: what the former set is taken away by the latter.
    shell.kubeling("apply -f one.yaml")
    assert shell.kubeling("apply -f two.yaml --server-side --force-conflicts").code == 0
    assert set(json.loads(shell.kubeling("get cm conf -o json").out)["data"]) == {"a", "c", "html"}
    same("apply -f two.yaml --server-side")


def test_refusals_read_as_kubectls(same: Same, files: Path) -> None:
    for line in (
        "apply -f unknown.yaml",
        "apply -f strange.yaml",
        "apply -f broken.yaml",
        "apply -f nokind.yaml",
        "apply -f nope.yaml",
        "create -f unknown.yaml",
        "create cm kube-root-ca.crt",
        "create namespace default",
        "create deployment x",
        "scale deploy/nope --replicas=1",
        "patch cm kube-root-ca.crt --type=nope -p {}",
        "label cm kube-root-ca.crt",
        "delete cm nope other",
        "delete cm",
        "rollout status cm/kube-root-ca.crt",
        "logs nope",
        "exec nope -- ls",
        "explain pods.nope",
        "auth can-i nope nodes/x",
        "get pods --token=nonsense",
        "get pods --token=token-of-nobody",
    ):
        same(line)


def test_what_is_changed_and_said_is_what_kubectl_does(shell: Any, files: Path) -> None:
    """The same lines in two namespaces, one with each program: the same words, and the same objects afterwards."""
    twin = f"{shell.namespace}-k"
    assert shell.kubectl(f"create namespace {twin}").code in (0, 1)
    other = type(shell)(shell.plane, namespace=twin)
    other.namespace = ""
    other.kubectl(f"create namespace {twin}")
    other.namespace = twin
    lines: list[str | list[str]] = [
        "apply -f one.yaml",
        "create deployment made --image=nginx:1 --replicas=2 --port=80",
        "create configmap lit --from-literal=a=b",
        "create secret generic s --from-literal=a=b -o yaml",
        "create service clusterip made --tcp=80:8080",
        "create cronjob cj --image=busybox --schedule=0,30",
        ["create", "job", "j", "--image=busybox", "--", "sh", "-c", "echo hi"],
        "run p --image=nginx:1 --port=80 --env=A=b --restart=Never -- sleep 1",
        "expose deploy web --name=exposed --port=80 --target-port=8080",
        "label cm conf x=y",
        "label cm conf x=z",
        "label cm conf x=z --overwrite",
        "label cm conf x- nope-",
        ["annotate", "cm", "conf", "note=some text"],
        "annotate cm conf note-",
        "scale deploy/web --replicas=4 --current-replicas=2",
        ["patch", "deploy", "web", "-p", '{"spec":{"minReadySeconds":1}}'],
        ["patch", "deploy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/minReadySeconds","value":2}]'],
        ["patch", "cm", "conf", "--type=merge", "-p", '{"data":{"a":null}}', "-o", "jsonpath={.data}"],
        "patch deploy web --subresource=scale --type=merge -p spec:{replicas:1}",
        "set image deploy/web web=nginx:3",
        "set image deploy/web web=nginx:3",
        "set image deploy/web nope=nginx:3",
        "rollout pause deploy/web",
        "rollout pause deploy/web",
        "rollout undo deploy/web",
        "rollout resume deploy/web",
        "replace -f two.yaml",
        "wait --for=jsonpath={.data.c}=3 cm/conf",
        "wait --for=delete cm/nope",
        "wait --for=condition=Ready pod/p --timeout=1s",
        "delete cm lit --dry-run=server",
        "delete cm lit nope",
        "delete -f two.yaml --wait=false",
        "delete svc --all",
    ]
    from_conftest = sys.modules[type(shell).__module__]
    for line in lines:
        theirs, ours = other.kubectl(line), shell.kubeling(line)
        levelled = [
            from_conftest.plain(each, twin, shell.namespace).replace("kubectl ", "kubeling ") for each in (theirs.out, ours.out)
        ]
        assert levelled[0] == levelled[1], f"{line}\n{theirs}\n{ours}"
        levelled = [
            from_conftest.plain(each, twin, shell.namespace).replace("kubectl ", "kubeling ") for each in (theirs.err, ours.err)
        ]
        assert levelled[0] == levelled[1], f"{line}\n{theirs}\n{ours}"
        assert ours.code == theirs.code, f"{line}\n{theirs}\n{ours}"
    kinds = "deploy,secret,cronjob,cm"
    left = [json.loads(each.kubeling(f"get {kinds} -o json").out)["items"] for each in (other, shell)]
    assert [_essence(each) for each in left[0]] == [_essence(each) for each in left[1]]
    other.namespace = ""
    other.kubeling(f"delete namespace {twin} --wait=false")


def _essence(obj: Any) -> Any:
    meta = obj["metadata"]
    return [obj["kind"], meta["name"], meta.get("labels"), obj.get("spec"), obj.get("data"), obj.get("type")]


def test_discovery_and_explain(same: Same) -> None:
    for line in (
        "api-resources",
        "api-resources --api-group=apps -o name",
        "api-versions",
        "explain deploy.spec.strategy",
        "explain pods.spec.containers.resources.limits",
        "explain svc --recursive",
        "auth can-i get pods",
        "auth whoami",
    ):
        same(line)


def test_rollouts(shell: Any, same: Same, files: Path) -> None:
    shell.kubeling("create deployment web --image=nginx:1 --replicas=1")
    assert shell.kubeling(["wait", "--for=jsonpath={.status.observedGeneration}=1", "deploy/web"]).code == 0
    same("rollout status deploy/web --watch=false")
    shell.kubeling("set image deploy/web nginx=nginx:2")
    revision = "{.metadata.annotations.deployment\\.kubernetes\\.io/revision}"
    assert shell.kubeling(["wait", f"--for=jsonpath={revision}=2", "deploy/web"]).code == 0
    same("rollout history deploy/web")
    same("rollout history deploy -l app=web")
    same("rollout undo deploy/web --dry-run=server")
    assert shell.kubeling("rollout pause deploy/web -o name").out == "deployment.apps/web\n"
    shown = shell.kubeling("rollout resume deploy -l app=web --field-manager=me -o jsonpath --template={.spec.replicas}")
    assert shown.out == "1"
    assert shell.kubeling("rollout undo deploy/web").out == "deployment.apps/web rolled back\n"
    image = "{.spec.template.spec.containers[0].image}"
    assert shell.kubeling(["get", "deploy", "web", "-o", f"jsonpath={image}"]).out == "nginx:1"
    timed_out = shell.kubeling("rollout status deploy/web --timeout=1s")
    assert timed_out.code == 1
    assert "timed out waiting for the condition" in timed_out.err


def test_nodes_are_cordoned_tainted_and_drained(shell: Any, same: Same, files: Path) -> None:
    name = f"node-{shell.namespace}"
    (files / "node.yaml").write_text(f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n")
    assert shell.kubeling("create -f node.yaml").code == 0
    try:
        assert shell.kubeling(f"cordon {name}").out == f"node/{name} cordoned\n"
        same(f"cordon {name}")
        assert shell.kubeling(f"uncordon {name}").out == f"node/{name} uncordoned\n"
        same(f"uncordon {name}")
        assert shell.kubeling(f"taint node {name} a=b:NoSchedule").out == f"node/{name} tainted\n"
        same(f"taint node {name} a=c:NoSchedule")
        same(f"taint node {name} nope-")
        assert shell.kubeling(f"taint node {name} a-").out == f"node/{name} untainted\n"
        (files / "pod.yaml").write_text(
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: lone}}\nspec: {{nodeName: {name}, containers: [{{name: c, image: x}}]}}\n"
        )
        assert shell.kubeling("create -f pod.yaml").code == 0
        refused = shell.kubeling(f"drain {name}")
        assert refused.code == 1
        assert "declare no controller" in refused.err
        drained = subprocess.Popen(
            [sys.executable, "-m", "kubeling.cli", "drain", name, "--force"],
            env=shell.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            # No kubelet ends the pod here: it is deleted as one would.
            shell.kubeling("wait --for=jsonpath={.metadata.deletionTimestamp} pod/lone --timeout=20s")
            shell.kubeling("delete pod lone --force --grace-period=0")
            out, _ = drained.communicate(timeout=20)
        finally:
            drained.kill()
        assert out.splitlines()[-1] == f"node/{name} drained"
        assert drained.returncode == 0
    finally:
        shell.kubeling(f"delete node {name}")


def test_a_watch_shows_changes_and_ends_quietly(shell: Any) -> None:
    watch = shell.start("get cm -w", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert watch.stdout.readline().split() == [b"NAME", b"DATA", b"AGE"]
        assert watch.stdout.readline().split()[0] == b"kube-root-ca.crt"
        shell.kubeling("create cm a-name-that-is-longer-than-all-others")
        assert watch.stdout.readline().split()[:2] == [b"a-name-that-is-longer-than-all-others", b"0"]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 130
        assert watch.stderr.read() == b""
    finally:
        watch.kill()
        watch.communicate()


def test_a_reader_that_leaves_is_no_error(shell: Any) -> None:
    line = f"{sys.executable} -m kubeling.cli explain pods --recursive | head -1"
    done = subprocess.run(["sh", "-c", line], env=shell.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "KIND:       Pod\n"
    assert done.stderr == ""


def test_edit_sends_what_was_changed(shell: Any, tmp_path: Path) -> None:
    shell.kubeling("create cm e --from-literal=a=b")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/a: b/a: c/" "$1"\n')
    editor.chmod(0o755)
    shell.environment["KUBE_EDITOR"] = str(editor)
    assert shell.kubeling("edit cm e").out == "configmap/e edited\n"
    assert shell.kubeling("edit cm e").out == "Edit cancelled, no changes made.\n"
    assert shell.kubeling(["get", "cm", "e", "-o", "jsonpath={.data.a}"]).out == "c"


def test_no_cluster_is_one_line(shell: Any, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "kubeling.cli", "get", "pods"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "kubeling up" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    unreachable = shell.kubeling("get pods --server=https://127.0.0.1:1")
    assert unreachable.code == 1
    assert len(unreachable.err.splitlines()) == 1


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubeling_deletes_and_waits(shell: Any, same: Same) -> None:
    shell.kubeling("create cm gone")
    began = time.monotonic()
    assert shell.kubeling("delete cm gone").out == 'configmap "gone" deleted\n'
    assert time.monotonic() - began < 15
    same("get cm gone")
