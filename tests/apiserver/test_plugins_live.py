"""The smaller admission plug-ins, and which of them run."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.apiserver.harness import pod

pytestmark = pytest.mark.live
_MERGE = {"headers": {"content-type": "application/merge-patch+json"}}


def claim(name: str, **spec: object) -> dict[str, object]:
    base = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": {**base, **spec}}


def test_claims_have_a_class_and_are_kept_while_in_use(ns, http):
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    for name, marks, grows in (("slow", {}, False), ("usual", mark, True)):
        obj = {"metadata": {"name": name, "annotations": marks}, "provisioner": "x/y", "allowVolumeExpansion": grows}
        assert http.post(classes, json=obj).status_code == 201
    made = ns.create("persistentvolumeclaims", claim("c"))
    assert made["spec"]["storageClassName"] == "usual"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert ns.create("persistentvolumeclaims", claim("none", storageClassName=""))["spec"]["storageClassName"] == ""
    ns.create("persistentvolumeclaims", claim("s", storageClassName="slow"))
    more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    for name in ("c", "s"):
        http.patch(ns.path("persistentvolumeclaims", name) + "/status", json={"status": {"phase": "Bound"}}, **_MERGE)
    assert http.patch(ns.path("persistentvolumeclaims", "c"), json=more, **_MERGE).status_code == 200
    answer = http.patch(ns.path("persistentvolumeclaims", "s"), json=more, **_MERGE)
    assert "the storageclass that provisions the pvc must support resize" in answer.json()["message"]
    assert http.delete(ns.path("persistentvolumeclaims", "c")).status_code == 200
    assert ns.get("persistentvolumeclaims", "c")["metadata"]["deletionTimestamp"]
    for name in ("slow", "usual"):
        http.delete(f"{classes}/{name}")


def test_a_runtime_class_has_its_price_and_its_nodes(ns, http):
    obj = {
        "metadata": {"name": "vm"},
        "handler": "vm",
        "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
    }
    assert http.post("/apis/node.k8s.io/v1/runtimeclasses", json=obj).status_code == 201
    spec = ns.create("pods", pod("p", runtimeClassName="vm"))["spec"]
    assert spec["overhead"] == {"memory": "64Mi"}
    assert spec["nodeSelector"] == {"vm": "yes"}
    assert {"key": "vm", "operator": "Exists"} in spec["tolerations"]
    message = ns.create("pods", pod("q", runtimeClassName="vm", nodeSelector={"vm": "no"}), status=403)["message"]
    assert "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no" in message
    message = ns.create("pods", pod("q", runtimeClassName="gone"), status=403)["message"]
    assert message == 'pods "q" is forbidden: pod rejected: RuntimeClass "gone" not found'
    message = ns.create("pods", pod("q", overhead={"memory": "1Gi"}), status=403)["message"]
    assert message.endswith("pod rejected: Pod's Overhead set without corresponding RuntimeClass defined Overhead")
    http.delete("/apis/node.k8s.io/v1/runtimeclasses/vm")


def test_an_ingress_has_a_class(ns, http):
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"}
    classes = "/apis/networking.k8s.io/v1/ingressclasses"
    assert http.post(
        classes, json={"metadata": {"name": "usual", "annotations": annotations}, "spec": {"controller": "a/b"}}
    ).is_success
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    made = ns.create("ingresses", {"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}}, "networking.k8s.io/v1")
    assert made["spec"]["ingressClassName"] == "usual"
    http.delete(f"{classes}/usual")


def test_nobody_asks_to_be_a_master(http):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "x"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")]
    )
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    spec = {
        "request": base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
    }
    answer = http.post(
        "/apis/certificates.k8s.io/v1/certificatesigningrequests", json={"metadata": {"name": "evil"}, "spec": spec}
    )
    assert answer.status_code == 403
    assert "signer with system:masters group is not allowed" in answer.json()["message"]


def test_plugins_are_chosen_by_name(world):
    other = world.start_server(
        "--enable-admission-plugins=AlwaysPullImages,TaintNodesByCondition", "--disable-admission-plugins=ServiceAccount"
    )
    with other.client() as http:
        made = http.post("/api/v1/namespaces/default/pods", json=pod("pulled")).json()
        assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"
        assert "serviceAccountName" not in made["spec"]
        http.delete("/api/v1/namespaces/default/pods/pulled")
        node = http.post("/api/v1/nodes", json={"metadata": {"name": "n"}}).json()
        assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
        http.delete("/api/v1/nodes/n")
    other.daemon.stop()
    argv = [sys.executable, "-m", "kubeling.apiserver", "--etcd-servers", world.store_url, "--secure-port", "0"]
    done = subprocess.run([*argv, "--enable-admission-plugins=Nonsense"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "unknown plug-in Nonsense" in done.stderr
