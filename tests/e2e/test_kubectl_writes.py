"""kubectl's commands that write: create, apply, replace, patch, edit, label, annotate, delete, diff, kustomize."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.kubectl import IMAGE, Kubectl, every_kubectl, workload

pytestmark = pytest.mark.live

CREATED = [
    ("deployment d --image=a --image=b --replicas=0 --port=80", "deployment.apps/d"),
    ("job j --image=a -- true", "job.batch/j"),
    ("cronjob cj --image=a --schedule=0_0_*_*_*", "cronjob.batch/cj"),
    ("job j2 --from=cronjob/cj", "job.batch/j2"),
    ("configmap cm --from-literal=a=b", "configmap/cm"),
    ("secret generic s --from-literal=a=b", "secret/s"),
    ("secret docker-registry dr --docker-server=r --docker-username=u --docker-password=p", "secret/dr"),
    ("service clusterip c --tcp=80:81", "service/c"),
    ("service nodeport n --tcp=80", "service/n"),
    ("service loadbalancer l --tcp=80", "service/l"),
    ("service externalname e --external-name=example.com", "service/e"),
    ("serviceaccount sa", "serviceaccount/sa"),
    ("role r --verb=get,list --resource=pods,deployments.apps", "role.rbac.authorization.k8s.io/r"),
    ("rolebinding rb --role=r --user=u --group=g", "rolebinding.rbac.authorization.k8s.io/rb"),
    ("ingress i --rule=example.com/path*=c:80,tls=s --annotation=a=b", "ingress.networking.k8s.io/i"),
    ("quota q --hard=configmaps=100 --scopes=", "resourcequota/q"),
    ("poddisruptionbudget pdb --selector=app=x --min-available=1", "poddisruptionbudget.policy/pdb"),
]
CLUSTER_WIDE = [
    ("namespace {}", "namespace/{}"),
    ("clusterrole {} --verb=get --resource=nodes --resource-name=x", "clusterrole.rbac.authorization.k8s.io/{}"),
    ("clusterrole {}-agg --aggregation-rule=a=b", "clusterrole.rbac.authorization.k8s.io/{}-agg"),
    ("clusterrolebinding {} --clusterrole={} --serviceaccount=a:b", "clusterrolebinding.rbac.authorization.k8s.io/{}"),
    ("priorityclass {} --value=7 --description=seven", "priorityclass.scheduling.k8s.io/{}"),
]


def words(text: str) -> list[str]:
    return [each.replace("_", " ") for each in text.split()]


@every_kubectl()
def test_every_create(kubectl: Kubectl) -> None:
    def create(line: str, said: str) -> None:
        for flags, more in ((["--dry-run=client"], " (dry run)"), (["--dry-run=server"], " (server dry run)"), ([], "")):
            command, *rest = words(line)
            at = rest.index("--") if "--" in rest else len(rest)
            assert kubectl("create", command, *rest[:at], *flags, *rest[at:]) == f"{said} created{more}\n"

    try:
        for line, said in CREATED:
            create(line, said)
        name = kubectl.bench.namespace + "-x"
        for line, said in CLUSTER_WIDE:
            create(line.replace("{}", name), said.replace("{}", name))
        assert kubectl("create", "token", "sa", "--duration=1h").count(".") == 2
        assert 'configmaps "cm" already exists' in kubectl.refused("create", "configmap", "cm")
        assert kubectl.json("ingress", "i")["spec"]["rules"][0]["http"]["paths"][0]["pathType"] == "Prefix"
        assert kubectl.json("deployment", "d")["spec"]["template"]["spec"]["containers"][0]["ports"] == [
            {"containerPort": 80, "protocol": "TCP"}
        ]
    finally:
        for kind in ("namespace", "clusterrole", "clusterrolebinding", "priorityclass"):
            kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")
        kubectl("delete", "clusterrole", f"{name}-agg", "--ignore-not-found")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": "x"}}, "data": data}


@every_kubectl()
def test_apply_of_the_client(kubectl: Kubectl, tmp_path: Path) -> None:
    def apply(*objects: dict[str, Any], flags: tuple[str, ...] = ()) -> str:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return str(kubectl("apply", "-f", "-", *flags, stdin=json.dumps(items)))

    one, two = config_map("one", a="1"), config_map("two", a="1")
    assert apply(one, two, flags=("--dry-run=server",)) == (
        "configmap/one created (server dry run)\nconfigmap/two created (server dry run)\n"
    )
    assert apply(one, two) == "configmap/one created\nconfigmap/two created\n"
    assert apply(one, two) == "configmap/one unchanged\nconfigmap/two unchanged\n"
    one["data"] = {"b": "2"}
    assert apply(one, two, flags=("--dry-run=client",)).startswith("configmap/one configured (dry run)\n")
    assert apply(one, two) == "configmap/one configured\nconfigmap/two unchanged\n"
    assert kubectl.json("configmap", "one")["data"] == {"b": "2"}
    assert 'a: "1"' in kubectl("apply", "view-last-applied", "configmap", "two")
    kubectl("apply", "edit-last-applied", "configmap", "two", KUBE_EDITOR='sed -i \'s/"1"/"5"/\'')
    assert 'a: "5"' in kubectl("apply", "view-last-applied", "configmap", "two")
    path = tmp_path / "two.json"
    path.write_text(json.dumps(two))
    assert kubectl("apply", "set-last-applied", "-f", str(path)) == "configmap/two configured\n"

    allowed = ("--prune", "-l", "set=x", "--prune-allowlist=core/v1/ConfigMap")
    assert "configmap/two pruned" in apply(one, flags=allowed)
    apply(two)
    # With no list of kinds: kubectl's own, each of which has to be served.
    assert "configmap/two pruned" in apply(one, flags=("--prune", "-l", "set=x"))
    assert [each["metadata"]["name"] for each in kubectl.json("configmaps", "-l", "set=x")["items"]] == ["one"]

    # The applyset of 1.27 and later.
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [config_map("k"), config_map("l")]}))
    flags = ("--prune", "--applyset=set")
    assert "configmap/l" in kubectl("apply", "-f", str(path), *flags, KUBECTL_APPLYSET="true")
    path.write_text(json.dumps(config_map("k")))
    assert "configmap/l pruned" in kubectl("apply", "-f", str(path), *flags, KUBECTL_APPLYSET="true")

    # A deployment: lists by key, an owner's field left alone, a field taken away.
    made = workload("Deployment", "d", replicas=0)
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"containerPort": 80}, {"containerPort": 81}]
    container["env"] = [{"name": "A", "value": "1"}]
    apply(made)
    kubectl("set", "env", "deployment/d", "B=2")
    container["ports"].pop(0)
    apply(made)
    found = kubectl.json("deployment", "d")["spec"]["template"]["spec"]["containers"][0]
    assert found["ports"] == [{"containerPort": 81, "protocol": "TCP"}]
    assert found["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]


@every_kubectl()
def test_apply_of_the_server(kubectl: Kubectl) -> None:
    def apply(obj: dict[str, Any], *flags: str) -> str:
        return str(kubectl("apply", "--server-side", "-f", "-", *flags, stdin=json.dumps(obj)))

    made = workload("Deployment", "d", replicas=0)
    assert apply(made) == "deployment.apps/d serverside-applied\n"
    made["spec"]["replicas"] = 1
    refused = kubectl.refused("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=json.dumps(made))
    assert 'conflict with "kubectl": .spec.replicas' in refused
    assert "Apply failed with 1 conflict" in refused
    assert "--force-conflicts" in refused
    apply(made, "--field-manager=other", "--force-conflicts")
    managers = {
        each["manager"]: each for each in kubectl.json("deployment", "d", "--show-managed-fields")["metadata"]["managedFields"]
    }
    assert {"kubectl", "other"} <= set(managers)
    assert "f:replicas" in managers["other"]["fieldsV1"]["f:spec"]
    assert "f:replicas" not in managers["kubectl"]["fieldsV1"]["f:spec"]
    del made["spec"]["replicas"]
    apply(made)
    assert kubectl.json("deployment", "d")["spec"]["replicas"] == 1
    assert apply(made, "--dry-run=server") == "deployment.apps/d serverside-applied (server dry run)\n"

    # An object that was applied by the client passes to the server's side, with what it then leaves out.
    kubectl("apply", "-f", "-", stdin=json.dumps(config_map("m", a="1", b="2")))
    apply(config_map("m", a="1"))
    assert kubectl.json("configmap", "m")["data"] == {"a": "1"}


@every_kubectl()
def test_changes(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(workload("Deployment", "d", replicas=0)))
    template = {"spec": {"template": {"spec": {"containers": [{"name": "two", "image": IMAGE}]}}}}
    assert kubectl("patch", "deployment", "d", "-p", json.dumps(template)) == "deployment.apps/d patched\n"
    kubectl("create", "configmap", "m", "--from-literal=a=b")
    assert kubectl("patch", "configmap", "m", "-p", '{"data":{"a":"b"}}') == "configmap/m patched (no change)\n"
    names = [each["name"] for each in kubectl.json("deployment", "d")["spec"]["template"]["spec"]["containers"]]
    assert names == ["two", "main"]
    kubectl("patch", "deployment", "d", "--type=merge", "-p", '{"metadata":{"annotations":{"a":"b"}}}')
    kubectl(
        "patch",
        "deployment/d",
        "--type=json",
        "-p",
        '[{"op":"test","path":"/spec/replicas","value":0},{"op":"add","path":"/metadata/labels","value":{"x":"y"}}]',
    )
    refused = kubectl.refused("patch", "deployment/d", "--type=json", "-p", '[{"op":"remove","path":"/spec/nothing"}]')
    assert "the server rejected our request due to an error in our request" in refused
    kubectl("patch", "deployment/d", "--subresource=status", "--type=merge", "-p", '{"status":{"collisionCount":3}}')
    assert kubectl.json("deployment", "d")["status"]["collisionCount"] == 3
    assert kubectl("patch", "deployment/d", "--dry-run=server", "-p", '{"spec":{"replicas":5}}') == "deployment.apps/d patched\n"
    assert '"replicas":5' not in kubectl("get", "deployment", "d", "-o", "json").replace(" ", "")

    assert kubectl("label", "deployment", "d", "a=b", "c=d") == "deployment.apps/d labeled\n"
    assert "already has a value (b)" in kubectl.refused("label", "deployment", "d", "a=z")
    kubectl("label", "deployment", "d", "a=z", "--overwrite")
    assert "unlabeled" in kubectl("label", "deployment", "-l", "a=z", "c-")
    assert kubectl.json("deployment", "d")["metadata"]["labels"] == {"x": "y", "a": "z"}
    assert "a=z" in kubectl("label", "deployment", "d", "--list")
    assert kubectl("annotate", "deployment", "d", "n=1").startswith("deployment.apps/d annotate")

    # edit: changed, unchanged, and refused (the editor opens again, and is left without a change).
    assert kubectl("edit", "deployment", "d", KUBE_EDITOR="sed -i s/replicas:.0/replicas:\\ 2/") == "deployment.apps/d edited\n"
    assert kubectl.json("deployment", "d")["spec"]["replicas"] == 2
    assert "no changes made" in kubectl.run("edit", "deployment", "d", KUBE_EDITOR="true").stderr
    editor = tmp_path / "editor"
    editor.write_text(f'#!/bin/sh\ngrep "^# . spec" "$1" > {tmp_path}/why && exit 0\nsed -i "s/replicas: 2/replicas: -1/" "$1"\n')
    editor.chmod(0o755)
    assert 'deployments.apps "d" is invalid' in kubectl.refused("edit", "deployment", "d", KUBE_EDITOR=str(editor))
    reason = "# * spec.replicas: Invalid value: -1: must be greater than or equal to 0\n"
    assert (tmp_path / "why").read_text() == reason
    assert "edited" in kubectl(
        "edit", "deployment", "d", "--subresource=status", KUBE_EDITOR="sed -i s/collisionCount:.3/collisionCount:\\ 4/"
    )
    kubectl("delete", "deployment", "d")


@every_kubectl()
def test_replace_and_delete(kubectl: Kubectl, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"

    def write(*objects: dict[str, Any]) -> str:
        path.write_text("\n".join(map(json.dumps, objects)))
        return str(path)

    kubectl("create", "-f", write(config_map("m", a="1")), "--save-config")
    assert 'configmaps "n" not found' in kubectl.refused("replace", "-f", write(config_map("n")))
    assert kubectl("replace", "-f", write(config_map("m", a="2"))) == "configmap/m replaced\n"
    uid = kubectl.json("configmap", "m")["metadata"]["uid"]
    out = kubectl("replace", "--force", "-f", write(config_map("m", a="3")))
    assert out.splitlines()[-1] == "configmap/m replaced"
    found = kubectl.json("configmap", "m")
    assert found["metadata"]["uid"] != uid
    assert found["data"] == {"a": "3"}
    assert "unknown field" in kubectl.refused("create", "-f", "-", stdin=json.dumps({**config_map("w"), "datas": {}}))
    warned = kubectl.run("create", "--validate=warn", "-f", "-", stdin=json.dumps({**config_map("w"), "datas": {}}))
    assert (warned.returncode, warned.stderr) == (0, 'Warning: unknown field "datas"\n')
    assert kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps({**config_map("v"), "datas": {}}))

    # Deletions with each cascade, by file, by selector, by field, all of them.
    kubectl(
        "create",
        "-f",
        write(
            workload("ReplicaSet", "keeps", replicas=1),
            workload("ReplicaSet", "takes", replicas=1),
            workload("ReplicaSet", "leaves", replicas=1),
        ),
    )

    def pods(name: str) -> list[Any]:
        return [each for each in kubectl.bench.pods(f"app={name}") if not each["metadata"].get("deletionTimestamp")]

    for name in ("keeps", "takes", "leaves"):
        kubectl.bench.until(f"{name} has a pod", lambda name=name: pods(name))
    kubectl("delete", "replicaset", "keeps", "--cascade=orphan")
    assert "ownerReferences" not in pods("keeps")[0]["metadata"]
    kubectl("delete", "replicaset", "takes", "--cascade=foreground", "--timeout=60s")
    assert not pods("takes")
    kubectl("delete", "replicaset", "leaves", "--cascade=background")
    kubectl.bench.until("the pod is gone", lambda: not pods("leaves"))
    said = kubectl.run("delete", "pod", "-l", "app=keeps", "--force", "--grace-period=0")
    assert "Immediate deletion does not wait" in said.stderr
    assert "force deleted" in said.stdout
    assert "(dry run)" in kubectl("delete", "configmap", "m", "--dry-run=client")
    assert "(server dry run)" in kubectl("delete", "configmap", "m", "--dry-run=server")
    kubectl("delete", "configmap", "--field-selector", "metadata.name=w", "--now")
    kubectl("delete", "-f", write(config_map("m")), "--ignore-not-found")
    assert kubectl("delete", "-f", str(path), "--ignore-not-found") == ""
    assert 'configmaps "m" not found' in kubectl.refused("delete", "-f", str(path))
    kubectl("delete", "configmaps", "--all")
    assert kubectl("delete", "--raw", f"/api/v1/namespaces/{kubectl.bench.namespace}/serviceaccounts/default")


@every_kubectl()
def test_diff_and_kustomize(kubectl: Kubectl, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(config_map("m", a="1")))
    assert '+  a: "1"' in kubectl.run("diff", "-f", str(path)).stdout
    kubectl("apply", "-f", str(path))
    assert kubectl.run("diff", "-f", str(path)).returncode == 0
    path.write_text(json.dumps(config_map("m", a="2")))
    for flags in ((), ("--server-side", "--force-conflicts")):
        done = kubectl.run("diff", "-f", str(path), *flags)
        assert done.returncode == 1, done.stderr
        assert '-  a: "1"\n+  a: "2"\n' in done.stdout
    path.write_text(json.dumps({**config_map("m"), "apiVersion": "v2"}))
    assert "no matches for kind" in kubectl.refused("diff", "-f", str(path), code=2)

    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "d.json").write_text(json.dumps(workload("Deployment", "d", replicas=0)))
    (tmp_path / "base" / "kustomization.yaml").write_text(
        "resources: [d.json]\nnamePrefix: my-\nconfigMapGenerator: [{name: c, literals: [a=b]}]\n"
        'patches: [{patch: \'[{"op": "replace", "path": "/spec/replicas", "value": 1}]\', target: {kind: Deployment}}]\n'
    )
    assert "name: my-d" in kubectl("kustomize", str(tmp_path / "base"))
    assert "deployment.apps/my-d created" in kubectl("apply", "-k", str(tmp_path / "base"))
    assert kubectl.run("diff", "-k", str(tmp_path / "base")).returncode == 0
    assert kubectl.json("-k", str(tmp_path / "base"))["items"]
    kubectl("wait", "--for=condition=Available", "deployment/my-d", "--timeout=90s")
    kubectl("delete", "-k", str(tmp_path / "base"))
