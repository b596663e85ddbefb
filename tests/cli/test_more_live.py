"""The verbs beyond the everyday ones, beside kubectl: diff, prune, kustomize, autoscale, edit after a refusal, credential plugins."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.live, pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")]

Same = Callable[..., Any]


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": "x"}}, "data": data}


def write(path: Path, *objects: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def changes(text: str) -> list[str]:
    """The lines of a diff that differ, without those that name files, times and versions."""
    lines = [line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return [line for line in lines if not any(word in line for word in ("uid", "creationTimestamp", "resourceVersion"))]


def test_diff_tells_what_apply_would_change(shell: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"

    def both(*flags: str) -> list[str]:
        theirs, ours = shell.kubectl(["diff", "-f", str(path), *flags]), shell.kubeling(["diff", "-f", str(path), *flags])
        assert (ours.code, changes(ours.out)) == (theirs.code, changes(theirs.out)), (ours, theirs)
        return changes(ours.out)

    write(path, config_map("m", a="1"))
    assert '+  a: "1"' in both()
    shell.kubeling(["apply", "-f", str(path)])
    assert both() == []
    write(path, config_map("m", b="2"))
    assert {'-  a: "1"', '+  b: "2"'} <= set(both())
    assert {'+  b: "2"'} <= set(both("--server-side", "--force-conflicts"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "hidden"}}
    write(path, secret)
    shell.kubeling(["apply", "-f", str(path)])
    write(path, {**secret, "stringData": {"a": "other"}})
    found = shell.kubeling(["diff", "-f", str(path)])
    assert found.code == 1
    assert {"-  a: '*** (before)'", "+  a: '*** (after)'"} <= set(changes(found.out))
    write(path, {**config_map("m"), "apiVersion": "v9"})
    theirs, ours = shell.kubectl(["diff", "-f", str(path)]), shell.kubeling(["diff", "-f", str(path)])
    assert (ours.code, ours.err) == (theirs.code, theirs.err)


def test_apply_prunes_what_is_in_the_files_no_more(shell: Any, same: Same, tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    flags = ["--prune", "-l", "set=x"]
    for program in (shell.kubectl, shell.kubeling):
        write(path, config_map("one", a="1"), config_map("two", a="1"))
        program(["apply", "-f", str(path)])
        shell.kubeling("create cm bystander")
        shell.kubeling("label cm bystander set=x")
        write(path, config_map("one", a="1"))
        done = program(["apply", "-f", str(path), *flags])
        assert (done.code, done.out) == (0, "configmap/one unchanged\nconfigmap/two pruned\n"), done
        assert shell.kubeling("get cm -l set=x -o name").out == "configmap/bystander\nconfigmap/one\n"
        shell.kubeling("delete cm one bystander")
    same(["apply", "-f", str(path), "--prune"], errors=False)
    write(path, config_map("one", a="1"))
    assert shell.kubeling(["apply", "-f", str(path), *flags, "--prune-allowlist=core/v1/Nothing"]).code == 1


def test_sets_that_are_applied_are_pruned(shell: Any, in_process: Callable[..., Any], tmp_path: Path) -> None:
    """Whichever program made a set, the other one goes on with it."""
    shell.environment["KUBECTL_APPLYSET"] = "true"
    path = tmp_path / "set.yaml"
    flags = ["apply", "-f", str(path), "--prune"]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": []}

    def parent(kind: str) -> tuple[Any, Any]:
        metadata = json.loads(in_process(["get", kind, "set", "-o", "json"]).out)["metadata"]
        annotations = {**metadata["annotations"]}
        assert annotations.pop("applyset.kubernetes.io/tooling").startswith("kubectl/v1.")
        return annotations, metadata["labels"]

    found = []
    for first, second, kind in ((shell.kubectl, in_process, "configmap"), (in_process, shell.kubectl, "secret")):
        applyset = "--applyset=configmaps/set" if kind == "configmap" else "--applyset=set"
        write(path, config_map("one", a="1"), config_map("two", a="1"), role)
        done = first([*flags, applyset])
        assert done.code == 0, done
        found.append(parent(kind)[0])
        write(path, config_map("one", a="2"), config_map("three", a="1"))
        done = second([*flags, applyset])
        assert (done.code, sorted(done.out.splitlines())) == (
            0,
            [
                "configmap/one configured",
                "configmap/three created",
                "configmap/two pruned",
                "role.rbac.authorization.k8s.io/r pruned",
            ],
        ), done
        annotations, labels = parent(kind)
        found.append(annotations)
        members = f"applyset.kubernetes.io/part-of={labels['applyset.kubernetes.io/id']}"
        assert in_process(["get", "cm", "-l", members, "-o", "name"]).out == "configmap/one\nconfigmap/three\n"
        in_process(f"delete {kind} set")
        in_process("delete cm one three")
    assert found[:2] == found[2:]
    assert found[1]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    in_process("create cm set")
    for line in (
        [*flags, "--applyset=configmaps/set"],
        [*flags, "--applyset=pods/set"],
    ):
        theirs, ours = shell.kubectl(line), in_process(line)
        assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err), line


def test_what_was_applied_last(shell: Any, same: Same, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    write(path, config_map("m", a="1"))
    shell.kubectl(["apply", "-f", str(path)])
    same("apply view-last-applied cm/m")
    same("apply view-last-applied cm -l set=x -o json")
    same(["apply", "set-last-applied", "-f", str(path)])
    write(path, config_map("m", b="2"))
    same(["apply", "set-last-applied", "-f", str(path), "--dry-run=server", "-o", "name"])
    same("apply view-last-applied cm/kube-root-ca.crt")
    write(path, {**config_map("kube-root-ca.crt"), "data": None})
    same(["apply", "set-last-applied", "-f", str(path)])


def test_deletion_asks_first(shell: Any, same: Same) -> None:
    shell.kubeling("create cm m")
    same("delete cm/m --interactive", "n\n")
    assert shell.kubeling("delete cm/m -i", "y\n").out.endswith('(y/n): configmap "m" deleted\n')
    shell.kubeling("create cm m")
    done = shell.kubeling(["delete", "--raw", f"/api/v1/namespaces/{shell.namespace}/configmaps/m"])
    assert json.loads(done.out)["status"] == "Success"


def test_kustomize_builds_what_is_applied(shell: Any, tmp_path: Path) -> None:
    write(tmp_path / "m.yaml", config_map("m", a="1"))
    (tmp_path / "kustomization.yaml").write_text("resources: [m.yaml]\nnamePrefix: my-\n")
    assert shell.kubeling(["apply", "-k", str(tmp_path)]).out == "configmap/my-m created\n"
    assert shell.kubeling(["diff", "-k", str(tmp_path)]).code == 0
    assert shell.kubeling(["get", "-k", str(tmp_path), "-o", "name"]).out == "configmap/my-m\n"
    assert shell.kubeling(["delete", "-k", str(tmp_path)]).out == 'configmap "my-m" deleted\n'
    refused = shell.kubeling(["apply", "-k", str(tmp_path / "nothing")])
    assert (refused.code, "nothing" in refused.err) == (1, True)
    assert "only one of -f or -k" in shell.kubeling(["apply", "-k", str(tmp_path), "-f", str(tmp_path)]).err


def test_autoscale(shell: Any, same: Same) -> None:
    shell.kubeling("create deployment d --image=i --replicas=0")
    same("autoscale deployment/d --min=2 --max=1", errors=False)
    same("autoscale deployment/d")
    assert shell.kubeling("autoscale deployment/d --min=2 --max=5 --cpu-percent=50").out == (
        "horizontalpodautoscaler.autoscaling/d autoscaled\n"
    )
    ours = json.loads(shell.kubeling("get hpa d -o json").out)["spec"]
    shell.kubeling("delete hpa d")
    shell.kubectl("autoscale deployment/d --min=2 --max=5 --cpu-percent=50")
    assert json.loads(shell.kubeling("get hpa d -o json").out)["spec"] == ours
    same("autoscale deployment/d --max=5", errors=True)


def test_the_editor_opens_again_after_a_refusal(shell: Any, tmp_path: Path) -> None:
    shell.kubeling("create deployment d --image=i --replicas=0")
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\n"
        f'if grep "^# . spec" "$1" > {tmp_path}/why; then sed -i "s/replicas: -1/replicas: 1/" "$1"\n'
        'else sed -i "s/replicas: 0/replicas: -1/" "$1"; fi\n'
    )
    editor.chmod(0o755)
    shell.environment["KUBE_EDITOR"] = str(editor)
    done = shell.kubeling("edit deployment d")
    assert (done.code, done.out) == (0, "deployment.apps/d edited\n"), done
    assert done.err == 'error: deployments.apps "d" is invalid\n'
    assert (tmp_path / "why").read_text() == "# * spec.replicas: Invalid value: -1: must be greater than or equal to 0\n"

    # One that gives up keeps what was written.
    editor.write_text('#!/bin/sh\ngrep -q "was not valid" "$1" || sed -i "s/replicas: 1/replicas: -1/" "$1"\n')
    for program in (shell.kubectl, shell.kubeling):
        gave_up = program("edit deployment d")
        assert gave_up.code == 1
        assert gave_up.err.splitlines()[-1] == "error: Edit cancelled, no valid changes were saved."
        kept = Path(gave_up.err.split('"')[-2])
        assert "replicas: -1" in kept.read_text()
        kept.unlink()


def test_a_credential_plugin_hands_out_who_we_are(shell: Any, tmp_path: Path) -> None:
    version = "client.authentication.k8s.io/v1"
    plugin = tmp_path / "plugin"
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": "token-of-nobody"}})
    plugin.write_text(
        f'#!/bin/sh\nprintenv KUBERNETES_EXEC_INFO > {tmp_path}/asked\n[ "$1$A" = yesb ] && echo {shlex.quote(answer)}\n'
    )
    plugin.chmod(0o755)
    config = yaml.safe_load(Path(shell.environment["KUBECONFIG"]).read_text())
    spec = {"apiVersion": version, "command": "./plugin", "args": ["yes"], "interactiveMode": "Never", "provideClusterInfo": True}
    spec["env"] = [{"name": "A", "value": "b"}]
    path = tmp_path / "config"
    shell.environment["KUBECONFIG"] = str(path)

    def use(**changes: Any) -> tuple[Any, Any]:
        config["users"][0]["user"] = {"exec": {**spec, **changes}}
        path.write_text(yaml.safe_dump(config))
        return shell.kubectl("auth whoami -o name"), shell.kubeling("auth whoami")

    _, ours = use()
    assert "nobody" in ours.out, ours
    asked = json.loads((tmp_path / "asked").read_text())
    assert (asked["kind"], asked["apiVersion"], asked["spec"]["interactive"]) == ("ExecCredential", version, False)
    assert asked["spec"]["cluster"]["server"] == shell.plane.url
    for changed, words in (
        ({"args": ["no"]}, "failed with exit code 1"),
        ({"command": "no-such-program", "installHint": "Get it."}, "Get it."),
        ({"apiVersion": "v9"}, "apiVersion 'v9'"),
    ):
        theirs, ours = use(**changed)
        assert (theirs.code, ours.code) == (1, 1)
        assert words in ours.err


def test_set_events_and_certificates(shell: Any, same: Same, tmp_path: Path, in_process: Callable[..., Any]) -> None:
    in_process("create deployment d --image=i --replicas=0")
    in_process("create configmap m --from-literal=a-b=1")
    in_process("create rolebinding b --clusterrole=view --user=u")
    in_process("create service clusterip s --tcp=80")
    file = tmp_path / "d.json"
    file.write_text(in_process("get deployment d -o json").out)
    for line in (
        "set env deploy/d A=1 B=2 --dry-run=server",
        "set env deploy/d -c nothing A=1",
        f"set env -f {file} --local B=3 -o name",
        "set image deploy/d i=j --dry-run=server",
        "set image deploy/d x=j",
        "set resources deploy/d",
        "set resources deploy/d --limits=cpu=0.1 --dry-run=server",
        "set sa deploy/d default --dry-run=server",
        "set subject rolebinding b --user=u --dry-run=server",
        "set subject rolebinding b --serviceaccount=a:b --dry-run=server -o yaml",
        "set subject rolebinding b",
        "set selector service s a=b --dry-run=server",
        "events --for=deployment/d",
        "events --types=odd",
        "events --for=d",
        "certificate approve",
        "certificate deny nothing",
        "get pods --as=nobody",
    ):
        same(line)
    assert in_process("set env deploy/d A=1 C=3").out == "deployment.apps/d env updated\n"
    assert in_process("set env deploy/d --from=cm/m --prefix=P_").out == "deployment.apps/d env updated\n"
    assert in_process("set env deploy/d A- C=4").code == 0
    same("set env deploy/d --list")
    same("set env deploy/d --list --resolve")
    assert in_process("set env deploy/d C=4").out == ""


ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: r, namespace: {space}}}
rules: [{{apiGroups: [""], resources: [pods], verbs: [{verb}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: r, namespace: {space}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {role}}}
subjects: [{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {user}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: passed-over}}
"""


def test_roles_are_reconciled(shell: Any, tmp_path: Path, in_process: Callable[..., Any]) -> None:
    # The namespace stands in the files: kubectl takes it from nowhere else.
    files = []
    for verb, role, user in (("get", "r", "u"), ("list", "r", "v"), ("list", "other", "v")):
        files.append(tmp_path / f"{verb}-{role}")
        files[-1].write_text(ROLE.format(verb=verb, role=role, user=user, space=shell.namespace))
    first, second, third = files
    extra = ["--remove-extra-permissions", "--remove-extra-subjects"]
    said: list[list[Any]] = []
    for program in (shell.kubectl, in_process):
        said.append([])
        for words in ([str(first)], [str(second)], [str(second), *extra], [str(second)], [str(third)]):
            said[-1].append(program(["auth", "reconcile", "-f", *words]))
            found = json.loads(in_process("get role,rolebinding r -o json").out)["items"]
            said[-1].append([[each.get(key) for key in ("rules", "subjects", "roleRef")] for each in found])
        in_process("delete role,rolebinding r")
    for theirs, ours in zip(*said, strict=True):
        assert ours == theirs
    assert "reconciliation required recreate" in said[0][-2].err
