"""deploy/identities.py: each machine gets what it needs, and nobody gets an authority's key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from kubeling.tests.deploy.support import load

identities = load("identities")

FLAGS = [
    "--etcd=cp-1=192.0.2.11",
    "--apiserver=cp-1=192.0.2.11",
    "--api-name=api.example",
    "--node=w-1=192.0.2.21",
    "--server=https://192.0.2.11:6443",
]


def make(out: Path, *more: str) -> None:
    assert identities.main([f"--out={out}", *FLAGS, *more]) == 0


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> set[str]:
    found = certificate(path).extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(found, x509.SubjectAlternativeName)
    return {str(each.value) for each in found}


def subject(cert: x509.Certificate) -> tuple[str, list[str]]:
    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(each.value) for each in cert.subject.get_attributes_for_oid(oid)]

    return values(NameOID.COMMON_NAME)[0], values(NameOID.ORGANIZATION_NAME)


def test_each_folder_holds_what_its_machine_needs_and_the_authorities_keys_are_in_one_only(tmp_path: Path) -> None:
    make(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in files if name.startswith("w-1/")} == {
        "w-1/ca.crt",
        "w-1/kubelet.crt",
        "w-1/kubelet.key",
        "w-1/kubelet.conf",
        "w-1/kubeproxy.conf",
    }
    assert {name for name in files if name.startswith("admin/")} == {"admin/admin.conf"}
    assert {name for name in files if name.endswith("ca.key")} == {"ca/ca.key", "ca/etcd-ca.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*"))


def test_certificates_name_the_machines_and_who_they_are(tmp_path: Path) -> None:
    make(tmp_path)
    control = tmp_path / "control-plane"
    assert names(control / "apiserver.crt") >= {
        "api.example",
        "192.0.2.11",
        "cp-1",
        "10.96.0.1",
        "kubernetes.default.svc",
        "127.0.0.1",
    }
    assert names(control / "etcd-cp-1.crt") >= {"cp-1", "192.0.2.11"}
    assert names(tmp_path / "w-1" / "kubelet.crt") >= {"w-1", "192.0.2.21"}
    assert subject(certificate(tmp_path / "w-1" / "kubelet.crt")) == ("system:node:w-1", ["system:nodes"])
    assert subject(certificate(control / "apiserver-kubelet-client.crt")) == ("kube-apiserver-kubelet-client", [])
    certificate(control / "apiserver.crt").verify_directly_issued_by(certificate(tmp_path / "ca" / "ca.crt"))
    certificate(control / "etcd-cp-1.crt").verify_directly_issued_by(certificate(tmp_path / "ca" / "etcd-ca.crt"))


def test_a_second_run_keeps_all_and_adds_the_new_node(tmp_path: Path) -> None:
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    make(tmp_path, "--node=w-2")
    assert {path: path.read_bytes() for path in before} == before
    new = {path.parent.name for path in tmp_path.rglob("*") if path.is_file() and path not in before}
    assert new == {"w-2"}


def test_kubeconfigs_fail_over_and_the_administrator_has_an_address_of_his_own(tmp_path: Path) -> None:
    make(tmp_path, "--server=https://192.0.2.12:6443", "--admin-server=https://127.0.0.1:7443")
    cluster = json.loads((tmp_path / "w-1" / "kubelet.conf").read_text())["clusters"][0]["cluster"]
    assert cluster["server"] == "https://192.0.2.11:6443"
    assert cluster["extensions"][0]["extension"]["servers"] == ["https://192.0.2.11:6443", "https://192.0.2.12:6443"]
    admin = json.loads((tmp_path / "admin" / "admin.conf").read_text())
    assert admin["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:7443"


@pytest.mark.parametrize("name", ["ca", "control-plane", "../w", "=192.0.2.1"])
def test_a_node_cannot_have_the_name_of_another_folder(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        identities.main([f"--out={tmp_path / 'out'}", *FLAGS, f"--node={name}"])
    assert "--node" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
