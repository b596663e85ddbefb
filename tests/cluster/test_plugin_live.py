"""The pytest plugin as its users have it: a shared cluster, and a namespace for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubeling.cluster.families import IPV4, IPV6, Family, at
from kubeling.cluster.pytest_plugin import ClusterHandle

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("cluster")]


def primary(cluster: ClusterHandle) -> Family:
    """The family of IP addresses that the cluster's daemons talk to each other by."""
    address = cluster.cli("get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}").stdout
    return next(each for each in (IPV4, IPV6) if each.api_service == address)


def test_a_namespace_is_there_for_the_test(kubeling_cluster: ClusterHandle, kubeling_namespace: str) -> None:
    kubeling_cluster.kubectl("create", "configmap", "here", "-n", kubeling_namespace, "--from-literal=a=b")
    found = kubeling_cluster.kubectl("get", "configmap", "here", "-n", kubeling_namespace, "-o", "json").stdout
    assert json.loads(found)["data"] == {"a": "b"}


async def test_a_client_speaks_to_the_same_cluster(kubeling_cluster: ClusterHandle) -> None:
    from kubeling.api.resources import SERVICES

    async with kubeling_cluster.client() as client:
        dns = await client.get(SERVICES, "kube-dns", "kube-system")
    assert dns["spec"]["clusterIP"] == primary(kubeling_cluster).dns_service


def test_both_kubeconfigs_are_printed(kubeling_cluster: ClusterHandle) -> None:
    assert json.loads(kubeling_cluster.cli("kubeconfig").stdout)["clusters"][0]["cluster"]["server"] == kubeling_cluster.server
    inside = json.loads(kubeling_cluster.cli("kubeconfig", "--internal").stdout)
    assert inside["clusters"][0]["cluster"]["server"] == f"https://{at(primary(kubeling_cluster).address(11), 6443)}"


def test_the_plugin_costs_nothing_to_those_who_do_not_use_it() -> None:
    """It is imported in every pytest run of every user."""
    program = (
        "import sys, pytest; before = set(sys.modules); import kubeling.cluster.pytest_plugin; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"kubeling", "kubeling.cluster", "kubeling.cluster.pytest_plugin"}


def test_xdist_workers_share_one_cluster_that_is_gone_afterwards(tmp_path: Path) -> None:
    test = """
import os, pathlib, pytest
@pytest.mark.parametrize("n", range(4))
def test_uses(kubeling_cluster, kubeling_namespace, n):
    pathlib.Path(os.environ["SEEN"], f"{os.getpid()}-{n}").write_text(str(kubeling_cluster.root))
"""
    (tmp_path / "test_it.py").write_text(test)
    (tmp_path / "seen").mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    env = {**os.environ, "SEEN": str(tmp_path / "seen"), "KUBELING_TEST_WORKERS": "0"}
    env.pop("KUBELING_TEST_USE", None)
    done = subprocess.run(
        [*command, str(tmp_path)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    roots = {path.read_text() for path in (tmp_path / "seen").iterdir()}
    workers = {path.name.partition("-")[0] for path in (tmp_path / "seen").iterdir()}
    assert len(roots) == 1
    assert len(workers) == 2
    assert not Path(roots.pop()).exists()
