"""kubectl's commands for the cluster: nodes, measurements, rights, certificates, custom resources, credentials."""

from __future__ import annotations

import base64
import json
import re
import shlex
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeling.tests.e2e.kubectl import Kubectl, every_kubectl, workload

pytestmark = pytest.mark.live


@every_kubectl()
def test_nodes(kubectl: Kubectl) -> None:
    # A node of our own, with no kubelet behind it: the shared ones are not to be disturbed.
    node = kubectl.bench.namespace
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}))
    try:
        assert kubectl("cordon", node) == f"node/{node} cordoned\n"
        assert kubectl("cordon", node) == f"node/{node} already cordoned\n"
        assert "SchedulingDisabled" in kubectl("get", "node", node)
        assert kubectl("taint", "node", node, "k=v:NoSchedule") == f"node/{node} tainted\n"
        assert "already has k taint(s)" in kubectl.refused("taint", "node", node, "k=w:NoSchedule")
        kubectl("taint", "node", node, "k=w:NoSchedule", "--overwrite")
        assert "k=w:NoSchedule" in kubectl("describe", "node", node)
        assert kubectl("taint", "node", node, "k-") == f"node/{node} untainted\n"

        pod = workload("Pod", "p")["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {"name": "p", "labels": {"app": "p"}}}
        pod["spec"] |= {"nodeName": node, "tolerations": [{"operator": "Exists"}]}
        kubectl("create", "-f", "-", stdin=json.dumps(pod))
        assert "cannot delete" in kubectl.refused("drain", node, "--timeout=20s")
        kubectl("create", "poddisruptionbudget", "pdb", "--selector=app=p", "--min-available=1")
        # A pod that is not running may always be evicted; no kubelet says that this one is.
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}

        def counted() -> bool:
            # Said again and again: on a slow machine this node, of which nobody hears, is lost by now, and its pods are marked as not ready.
            kubectl("patch", "pod", "p", "--subresource=status", "-p", json.dumps({"status": ready}))
            return bool(kubectl.json("pdb", "pdb")["status"].get("currentHealthy") == 1)

        kubectl.bench.until("the budget counts the pod", counted)
        refused = kubectl.refused("drain", node, "--force", "--timeout=6s")
        assert "Cannot evict pod as it would violate the pod's disruption budget." in refused
        kubectl("delete", "pdb", "pdb")
        drained = kubectl("drain", node, "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        assert drained.endswith(f"node/{node} drained\n")
        assert "pod/p evicted" in drained
        assert kubectl("uncordon", node) == f"node/{node} uncordoned\n"
    finally:
        kubectl("delete", "node", node)


@every_kubectl()
def test_top(kubectl: Kubectl) -> None:
    kubectl("run", "p", "--image=kubeling.local/host", "--labels=a=b", "--", "sleep", "1000")
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=90s")
    kubectl.bench.until("nodes are measured", lambda: kubectl.run("top", "nodes").stdout.count("worker-") == 2)
    assert re.match(r"NAME +CPU\(cores\) +CPU(%|\(%\)) +MEMORY\(bytes\) +MEMORY(%|\(%\)) *\n", kubectl("top", "node", "worker-1"))
    kubectl.bench.until("the pod is measured", lambda: kubectl.run("top", "pod", "p").returncode == 0)
    assert re.search(r"^p +p +\d+m +\d+Mi", kubectl("top", "pods", "--containers", "-l", "a=b"), re.MULTILINE)
    assert "p" in kubectl("top", "pod", "--sort-by=memory", "--no-headers")
    assert "NAMESPACE" in kubectl("top", "pods", "-A", "--sum")


@every_kubectl()
def test_rights_and_identities(kubectl: Kubectl, tmp_path: Path) -> None:
    space = kubectl.bench.namespace
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    kubectl("create", "role", "reads", "--verb=get,list", "--resource=pods,pods/log")
    kubectl("create", "rolebinding", "reads", "--role=reads", f"--serviceaccount={space}:default")
    account = f"--as=system:serviceaccount:{space}:default"
    kubectl.bench.until("the account may read", lambda: kubectl.run("auth", "can-i", "list", "pods", account).returncode == 0)
    assert kubectl.run("auth", "can-i", "delete", "pods", account).stdout == "no\n"
    assert kubectl("auth", "can-i", "get", "pods", "--subresource=log", account) == "yes\n"
    assert re.search(r"^pods +\[\] +\[\] +\[get list\]", kubectl("auth", "can-i", "--list", account), re.MULTILINE)
    who = kubectl("auth", "whoami", "--as=eve", "--as-group=g", "--as-uid=7", "-o", "json", "parse")["status"]["userInfo"]
    assert (who["username"], who["uid"], who["groups"]) == ("eve", "7", ["g", "system:authenticated"])
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reads", "namespace": space},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }
    assert "reconciled" in kubectl("auth", "reconcile", "-f", "-", stdin=json.dumps(role))
    assert len(kubectl.json("role", "reads")["rules"]) == 2

    # A token, and a program that hands it out.
    token = kubectl("create", "token", "default", "--duration=10m").strip()
    assert kubectl.run("--token", token, "get", "nodes").returncode in (0, 1)
    server, ca = kubectl.bench.cluster.server, tmp_path / "ca"
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    ca.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    plugin = tmp_path / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    plugin.write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps(answer))}\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": answer["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}}
    path = tmp_path / "config"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": str(ca)}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    assert kubectl("get", "pods", KUBECONFIG=str(path)) == ""
    refused = kubectl.refused("get", "nodes", KUBECONFIG=str(path))
    assert f'User "system:serviceaccount:{space}:default" cannot list resource "nodes"' in refused
    assert "You must be logged in" in kubectl.refused("get", "pods", "--token=wrong", KUBECONFIG=str(_bare(path)))


def _bare(path: Path) -> Path:
    """The same without the user's credentials."""
    config = json.loads(path.read_text())
    config["users"][0]["user"] = {}
    bare = path.with_name("bare")
    bare.write_text(json.dumps(config))
    return bare


@every_kubectl()
def test_certificates(kubectl: Kubectl) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "eve")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)

    def ask(csr: str) -> None:
        spec = {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        }
        obj = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": csr},
            "spec": spec,
        }
        kubectl("create", "-f", "-", stdin=json.dumps(obj))

    one, two = kubectl.bench.namespace + "-1", kubectl.bench.namespace + "-2"
    try:
        ask(one)
        ask(two)
        assert "Pending" in kubectl("get", "csr", one)
        assert kubectl("certificate", "approve", one) == f"certificatesigningrequest.certificates.k8s.io/{one} approved\n"
        kubectl("wait", "--for=jsonpath={.status.conditions[0].type}=Approved", f"csr/{one}", "--timeout=30s")
        kubectl.bench.until("it is issued", lambda: "certificate" in kubectl.json("csr", one)["status"])
        assert "Approved,Issued" in kubectl("get", "csr", one)
        issued = base64.b64decode(kubectl.json("csr", one)["status"]["certificate"])
        assert x509.load_pem_x509_certificate(issued).subject == name
        assert kubectl("certificate", "deny", two) == f"certificatesigningrequest.certificates.k8s.io/{two} denied\n"
        assert "Denied" in kubectl("get", "csr", two)
        assert "eve" in kubectl("describe", "csr", one)
    finally:
        kubectl("delete", "csr", one, two, "--ignore-not-found")


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: {plural}, singular: widget, kind: Widget, shortNames: [wdg], categories: [toys]}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {{status: {{}}, scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}}}
    additionalPrinterColumns: [{{name: Size, type: integer, jsonPath: .spec.replicas}}]
    schema:
      openAPIV3Schema:
        type: object
        description: A thing.
        properties:
          spec:
            type: object
            required: [replicas]
            properties:
              replicas: {{type: integer, minimum: 0, description: How many.}}
              parts: {{type: array, items: {{type: string}}}}
          status: {{type: object, properties: {{replicas: {{type: integer}}}}}}
"""


@every_kubectl()
def test_custom_resources(kubectl: Kubectl) -> None:
    group = f"{kubectl.bench.namespace}.example.com"
    plural = "widgets"
    kind = f"{plural}.v1.{group}"

    def widget(**spec: object) -> str:
        return json.dumps({"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})

    kubectl("apply", "-f", "-", stdin=CRD.format(group=group, plural=plural))
    try:
        kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=60s")
        kubectl.bench.until(
            "it can be made", lambda: kubectl.run("apply", "-f", "-", stdin=widget(replicas=1, parts=["a"])).returncode == 0
        )
        assert "unchanged" in kubectl("apply", "-f", "-", stdin=widget(replicas=1, parts=["a"]))
        assert "configured" in kubectl("apply", "-f", "-", stdin=widget(replicas=2, parts=["b"]))
        assert "spec.replicas: Invalid value" in kubectl.refused("apply", "-f", "-", stdin=widget(replicas=-1))
        assert 'unknown field "spec.nothing"' in kubectl.refused("apply", "-f", "-", stdin=widget(replicas=1, nothing=1))
        assert "serverside-applied" in kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=widget(replicas=2))
        assert [line.split() for line in kubectl("get", kind).splitlines()] == [["NAME", "SIZE"], ["w", "2"]]
        assert "Widget" in kubectl("get", kind, "-o", "yaml")
        assert "FIELD: replicas <integer> DESCRIPTION: How many." in " ".join(
            kubectl("explain", f"{plural}.spec.replicas", f"--api-version={group}/v1").split()
        )
        kubectl("scale", f"{kind}/w", "--replicas=4")
        assert kubectl.json(kind, "w")["spec"]["replicas"] == 4
        kubectl("patch", kind, "w", "--type=merge", "-p", '{"spec":{"replicas":5}}')
        assert "not supported by" in kubectl.refused("patch", kind, "w", "-p", '{"spec":{"replicas":6}}')
        kubectl("patch", kind, "w", "--type=merge", "--subresource=status", "-p", '{"status":{"replicas":5}}')
        kubectl("label", kind, "w", "a=b")
        assert "edited" in kubectl("edit", kind, "w", KUBE_EDITOR="sed -i s/replicas:.5/replicas:\\ 6/")
        assert "Widget" in kubectl("describe", kind, "w")
        assert plural in kubectl("api-resources", f"--api-group={group}")
        kubectl("delete", kind, "--all")
    finally:
        kubectl("delete", "crd", f"{plural}.{group}", "--timeout=60s")
