"""The bootstrap policy at the start of a server: what was taken away is back, what was added stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from kubeling.cluster import rbac
from tests.apiserver import harness
from tests.apiserver.harness import Obj, Server, World

pytestmark = pytest.mark.live

RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE = {"content-type": "application/merge-patch+json"}
EXTRA = {"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}


@pytest.fixture
def again(world: World, server: Server) -> Iterator[httpx.Client]:
    """The client of a first server; whoever uses it starts the second."""
    with server.client() as client:
        yield client


def get(client: httpx.Client, path: str) -> Obj:
    answer = client.get(RBAC + path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(client: httpx.Client, path: str, body: Obj) -> None:
    answer = client.patch(RBAC + path, json=body, headers=MERGE)
    assert answer.status_code == 200, answer.text


def test_a_server_that_starts_mends_the_policy(world: World, again: httpx.Client) -> None:
    client = again
    scheduler, dns = get(client, "/clusterroles/system:kube-scheduler"), get(client, "/clusterroles/system:kube-dns")
    untouched = get(client, "/clusterroles/cluster-admin")
    change(client, "/clusterroles/system:kube-scheduler", {"rules": [EXTRA]})
    change(
        client,
        "/clusterroles/system:kube-dns",
        {"rules": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}},
    )
    change(client, "/clusterroles/edit", {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"mine": "1"}}]}})
    mine = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mine"}
    change(client, "/clusterrolebindings/system:basic-user", {"subjects": [mine]})
    assert client.delete(f"{RBAC}/clusterroles/system:discovery").is_success
    assert client.delete(f"{RBAC}/namespaces/kube-system/roles/system:controller:token-cleaner").is_success
    bound = get(client, "/clusterrolebindings/system:node-proxier")
    assert client.delete(f"{RBAC}/clusterrolebindings/system:node-proxier").is_success
    for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
        bound["metadata"].pop(key, None)
    bound["roleRef"]["name"] = "view"
    assert client.post(f"{RBAC}/clusterrolebindings", json=bound).status_code == 201

    second = world.start_server()
    try:
        rules = get(client, "/clusterroles/system:kube-scheduler")["rules"]
        assert EXTRA in rules
        assert all(each in rules for each in scheduler["rules"])
        assert get(client, "/clusterroles/system:kube-dns").get("rules", []) == []
        selectors = get(client, "/clusterroles/edit")["aggregationRule"]["clusterRoleSelectors"]
        labels = {"mine": "1"}, {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}
        assert selectors == [{"matchLabels": each} for each in labels]
        subjects = get(client, "/clusterrolebindings/system:basic-user")["subjects"]
        assert [each["name"] for each in subjects] == ["mine", "system:authenticated"]
        assert get(client, "/clusterroles/system:discovery")["rules"]
        assert get(client, "/namespaces/kube-system/roles/system:controller:token-cleaner")["rules"]
        assert get(client, "/clusterrolebindings/system:node-proxier")["roleRef"]["name"] == "system:node-proxier"
        assert get(client, "/clusterroles/cluster-admin") == untouched
    finally:
        second.daemon.stop()
        change(
            client,
            "/clusterroles/system:kube-dns",
            {"rules": dns["rules"], "metadata": {"annotations": dns["metadata"]["annotations"]}},
        )


def test_roles_from_a_file_are_there_when_the_server_is_ready(world: World, tmp_path: Path) -> None:
    path = tmp_path / "rbac.json"
    rbac.write(path)
    server = world.start_server(f"--rbac-bootstrap-file={path}")
    try:
        with server.client() as client:
            kinds = {
                "ClusterRole": "clusterroles",
                "ClusterRoleBinding": "clusterrolebindings",
                "Role": "roles",
                "RoleBinding": "rolebindings",
            }
            for each in json.loads(path.read_text()):
                namespace = each["metadata"].get("namespace")
                where = f"/namespaces/{namespace}" if namespace else ""
                found = get(client, f"{where}/{kinds[each['kind']]}/{each['metadata']['name']}")
                assert found["metadata"]["labels"]["kubeling.dev/addon"] == "rbac"
                # What a binding is of exists.
                if "roleRef" in each:
                    get(
                        client,
                        f"{where if each['roleRef']['kind'] == 'Role' else ''}/{kinds[each['roleRef']['kind']]}/{each['roleRef']['name']}",
                    )
    finally:
        server.daemon.stop()


@pytest.mark.parametrize(
    "store", ["etcdlite", pytest.param("etcd", marks=pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd"))]
)
def test_servers_that_begin_together_make_one_policy(store: str, tmp_path: Path) -> None:
    with harness.world(tmp_path, store) as world, ThreadPoolExecutor(2) as pool:
        servers = [each.result() for each in [pool.submit(world.start_server) for _ in range(2)]]
        found = []
        for server in servers:
            with server.client() as client:
                found.append(
                    {
                        kind: get(client, f"/{kind}")["items"]
                        for kind in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
                    }
                )
        assert found[0] == found[1]
        named = [each["metadata"]["name"] for each in found[0]["clusterroles"]]
        assert {"cluster-admin", "admin", "edit", "view", "system:node", "system:controller:job-controller"} <= set(named)
        with servers[1].client("scheduler") as scheduler:
            assert scheduler.get("/api/v1/nodes").status_code == 200
