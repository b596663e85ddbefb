"""kubectl's own commands about rights: the one on the path, the oldest and the newest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import Kubectl, Server, wait_until
from tests.kubectls import oldest_and_newest

pytestmark = pytest.mark.live

BINARIES = oldest_and_newest()

MANIFEST = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: r, namespace: {namespace}}}
rules:
- {{apiGroups: [""], resources: [pods], verbs: [get, list]}}
- {{apiGroups: [""], resources: [secrets], verbs: [get], resourceNames: [s]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: r, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: devs}}]
"""


@pytest.mark.parametrize("binary", BINARIES, ids=lambda each: Path(each).name)
def test_commands_about_rights(binary: str, ns: Namespace, server: Server, tmp_path: Path) -> None:
    admin = Kubectl(binary, server.kubeconfig(tmp_path / "admin"), tmp_path / "cache")
    bob = Kubectl(binary, server.kubeconfig(tmp_path / "bob", "bob"), tmp_path / "cache")

    def may(*what: str) -> bool:
        done = bob.run("auth", "can-i", *what, "-n", ns.name)
        assert (done.returncode, done.stdout.split()[0]) in ((0, "yes"), (1, "no")), done
        return done.returncode == 0

    assert not may("get", "pods")
    manifest = MANIFEST.format(namespace=ns.name)
    assert "reconciled" in admin("auth", "reconcile", "-f", "-", stdin=manifest)
    wait_until("bob may get pods", lambda: may("get", "pods"))
    assert may("get", "secrets/s")
    assert not may("get", "secrets/t")
    assert not may("get", "pods", "--subresource=log")
    assert may("get", "/version")
    assert not may("get", "/metrics")
    listed = bob("auth", "can-i", "--list", "-n", ns.name)
    assert [line.split() for line in listed.splitlines() if line.startswith(("pods", "secrets"))] == [
        ["pods", "[]", "[]", "[get", "list]"],
        ["secrets", "[]", "[s]", "[get]"],
    ]

    # What was added by hand stays when the manifest is reconciled, unless it is asked for otherwise.
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{ns.name}/roles/r"
    extra = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    assert ns.http.patch(path, json={"rules": extra}, headers={"content-type": "application/merge-patch+json"}).is_success
    for flags, expected in (([], {"nodes", "pods", "secrets"}), (["--remove-extra-permissions"], {"pods", "secrets"})):
        admin("auth", "reconcile", "-f", "-", *flags, stdin=manifest)
        assert {each["resources"][0] for each in ns.http.get(path).json()["rules"]} == expected

    info = json.loads(bob("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert (info["username"], info["groups"]) == ("bob", ["devs", "system:authenticated"])
    info = json.loads(admin("auth", "whoami", "-o", "json", "--as", "eve", "--as-group", "g", "--as-uid", "7"))["status"][
        "userInfo"
    ]
    assert (info["username"], info["groups"], info["uid"]) == ("eve", ["g", "system:authenticated"], "7")

    admin("create", "role", "made", "--verb=get", "--resource=pods/log,deployments.apps/scale", "-n", ns.name)
    admin("create", "rolebinding", "made", "--role=made", "--serviceaccount", f"{ns.name}:default", "-n", ns.name)
    account = f"system:serviceaccount:{ns.name}:default"
    wait_until(
        "the account may see logs",
        lambda: admin.run("auth", "can-i", "get", "pods", "--subresource=log", "--as", account, "-n", ns.name).returncode == 0,
    )
    token = admin("create", "token", "default", "-n", ns.name).strip()
    pod = Kubectl(binary, server.kubeconfig(tmp_path / "pod", token=token), tmp_path / "cache")
    assert json.loads(pod("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"] == account
    refused = bob.run("get", "nodes")
    assert refused.returncode == 1
    message = 'nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the cluster scope'
    assert refused.stderr.strip() == f"Error from server (Forbidden): {message}"
