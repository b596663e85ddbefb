"""Certificates and kubeconfigs: who may speak to whom, and that the user's own file is left as it was found."""

from __future__ import annotations

import json
import os
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubeling.cluster import kubeconfig, pki, plan, rbac
from kubeling.cluster.topology import ClusterSpec, Layout, Topology, nodes_for


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    spec = ClusterSpec("t", control_planes=3, workers=2, api_port=7443)
    return Topology(spec, nodes_for(spec), Layout(tmp_path))


def subject(cert: x509.Certificate) -> tuple[str, list[str]]:
    name = cert.subject
    cn = str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    return cn, [str(a.value) for a in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def test_every_file_that_a_flag_names_is_made(topology: Topology) -> None:
    kubeconfig.write_all(topology, pki.ensure(topology))
    for node in topology.nodes:
        for daemon in plan.daemons(topology, node):
            for arg in daemon.args:
                value = arg.partition("=")[2]
                if value.endswith((".crt", ".key", ".pub", ".conf")) and value.startswith(str(topology.layout.root)):
                    assert Path(value).exists(), arg


def test_keys_are_for_their_owner_only(topology: Topology) -> None:
    kubeconfig.write_all(topology, pki.ensure(topology))
    for path in topology.layout.root.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_nothing_that_exists_is_made_again(topology: Topology) -> None:
    kubeconfig.write_all(topology, pki.ensure(topology))
    before = {path: path.read_bytes() for path in topology.layout.root.rglob("*") if path.is_file()}
    kubeconfig.write_all(topology, pki.ensure(topology))
    assert {path: path.read_bytes() for path in topology.layout.root.rglob("*") if path.is_file()} == before


def test_the_apiserver_answers_to_all_its_names(topology: Topology) -> None:
    pki.ensure(topology)
    pair = pki.Store(topology.layout.pki).load("apiserver")
    assert pair is not None
    names = pair.cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "kubernetes", "kubernetes.default.svc.cluster.local", "control-plane-2"} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    assert {"127.0.0.1", "::1", "10.96.0.1", "172.30.0.13"} <= {str(a) for a in names.get_values_for_type(x509.IPAddress)}


def test_the_two_authorities_do_not_vouch_for_each_other(topology: Topology) -> None:
    pki.ensure(topology)
    store = pki.Store(topology.layout.pki)
    ca, etcd_ca, member = store.load("ca"), store.load("etcd/ca"), store.load("etcd/control-plane-1")
    assert ca is not None
    assert etcd_ca is not None
    assert member is not None
    member.cert.verify_directly_issued_by(etcd_ca.cert)
    with pytest.raises(ValueError, match="does not match"):
        member.cert.verify_directly_issued_by(ca.cert)


def test_identities_are_upstreams(topology: Topology) -> None:
    kubeconfig.write_all(topology, pki.ensure(topology))

    def who(component: str) -> tuple[str, list[str]]:
        user = json.loads(topology.layout.kubeconfig(component).read_bytes())["users"][0]["user"]
        import base64

        return subject(x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"])))

    assert who("admin") == ("kubernetes-admin", ["system:masters"])
    assert who("worker-2-kubelet") == ("system:node:worker-2", ["system:nodes"])
    assert who("control-plane-1-scheduler") == ("system:kube-scheduler", [])
    assert who("control-plane-1-cloud") == ("system:cloud-controller-manager", [])


def test_the_apiserver_comes_to_kubelets_as_no_administrator(topology: Topology) -> None:
    """Or a node that says it lives at the API's address would have the apiserver talk to itself as one."""
    pki.ensure(topology)
    found = pki.Store(topology.layout.pki).load("apiserver-kubelet-client")
    assert found is not None
    assert subject(found.cert) == (pki.KUBELET_CLIENT, [])
    bound = [
        each
        for each in rbac.objects()
        if each["kind"] == "ClusterRoleBinding" and each["subjects"][0]["name"] == pki.KUBELET_CLIENT
    ]
    assert [each["roleRef"]["name"] for each in bound] == ["system:kubelet-api-admin"]


def test_our_client_learns_of_every_apiserver(topology: Topology) -> None:
    from kubeling.client import kubeconfig as client

    kubeconfig.write_all(topology, pki.ensure(topology))
    config = client.load(topology.layout.kubeconfig("worker-2-kubelet"))
    assert config.servers == ("https://172.30.0.12:6443", "https://172.30.0.13:6443", "https://172.30.0.11:6443")
    assert isinstance(config.ssl_context(), ssl.SSLContext)


def ours(name: str) -> dict[str, object]:
    return {
        "clusters": [{"name": name, "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


FOREIGN = """\
apiVersion: v1
kind: Config
current-context: work
preferences: {colors: true}
clusters:
- name: work
  cluster: {server: "https://work:6443", extensions: [{name: x, extension: {a: 1}}]}
users:
- name: me
  user: {exec: {command: aws, args: [eks, get-token], apiVersion: client.authentication.k8s.io/v1}}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: dev}
"""


def test_merging_and_unmerging_leaves_what_was(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(FOREIGN)
    assert kubeconfig.merge(ours("kubeling-a"), path) == "work"
    merged = yaml.safe_load(path.read_text())
    assert merged["current-context"] == "kubeling-a"
    assert [c["name"] for c in merged["contexts"]] == ["work", "kubeling-a"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kubeconfig.unmerge("kubeling-a", path, "work")
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(FOREIGN)


def test_merging_twice_replaces(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "config"
    assert kubeconfig.merge(ours("kubeling-a"), path) == ""
    assert kubeconfig.merge(ours("kubeling-a"), path) == "kubeling-a"
    assert len(yaml.safe_load(path.read_text())["clusters"]) == 1


def test_the_context_that_the_user_chose_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(FOREIGN)
    kubeconfig.merge(ours("kubeling-a"), path)
    path.write_text(path.read_text().replace("current-context: kubeling-a", "current-context: work"))
    kubeconfig.unmerge("kubeling-a", path, "")
    assert yaml.safe_load(path.read_text())["current-context"] == "work"


def test_a_previous_context_that_has_gone_is_not_made_current(tmp_path: Path) -> None:
    path = tmp_path / "config"
    kubeconfig.merge(ours("kubeling-a"), path)
    kubeconfig.unmerge("kubeling-a", path, "gone")
    assert yaml.safe_load(path.read_text())["current-context"] == ""


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(FOREIGN)
    path = tmp_path / "config"
    path.symlink_to(tmp_path / "real")
    kubeconfig.merge(ours("kubeling-a"), path)
    assert path.is_symlink()
    assert "kubeling-a" in (tmp_path / "real").read_text()


@pytest.mark.parametrize("content", ["{", "[]", "- a"])
def test_a_broken_file_is_left_alone_and_said(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(kubeconfig.KubeconfigBroken, match="KUBECONFIG"):
        kubeconfig.merge(ours("kubeling-a"), path)
    assert path.read_text() == content
    assert os.listdir(tmp_path) == ["config"]


def test_a_held_lock_is_waited_for_and_a_stale_one_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    lock.touch()
    monkeypatch.setattr(kubeconfig, "_LOCK_SECONDS", 0.05)
    with pytest.raises(kubeconfig.KubeconfigBroken, match="cannot be changed"):
        kubeconfig.merge(ours("kubeling-a"), path)
    os.utime(lock, (1, 1))
    kubeconfig.merge(ours("kubeling-a"), path)
    assert not lock.exists()
