"""CertificateSigningRequests at their doors: who asks is noted by the server, and verdict and certificate are written each through its own door."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.live
PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def body(name: str, **spec: Any) -> dict[str, Any]:
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    text = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    return {
        "metadata": {"name": name},
        "spec": {"request": text, "signerName": "example.com/s", "usages": ["client auth"], **spec},
    }


def test_a_request_from_its_making_to_its_certificate(http: httpx.Client) -> None:
    name = f"r-{uuid.uuid4().hex[:8]}"
    made = http.post(PATH, json=body(name, username="somebody-else", groups=["system:masters"], uid="7"))
    assert made.status_code == 201, made.text
    obj = made.json()
    assert obj["spec"]["username"] == "kubernetes-admin"
    assert obj["spec"]["groups"] == ["system:masters", "system:authenticated"]
    assert obj["spec"].get("uid") != "7"
    approved = {"type": "Approved", "status": "True", "reason": "r", "message": "m"}
    obj["status"] = {"conditions": [approved], "certificate": "YQ=="}
    for door, seen in (
        ("", {}),
        ("/status", {"certificate": "YQ=="}),
        ("/approval", {"certificate": "YQ==", "conditions": [approved]}),
    ):
        obj["spec"]["signerName"] = "example.com/other"
        answer = http.put(f"{PATH}/{name}{door}", json=obj)
        assert answer.status_code == 200, answer.text
        status = answer.json().get("status") or {}
        assert status.get("certificate") == seen.get("certificate"), door
        assert [each["type"] for each in status.get("conditions") or ()] == [
            each["type"] for each in seen.get("conditions") or ()
        ], door
        assert answer.json()["spec"]["signerName"] == "example.com/s"
        obj["metadata"]["resourceVersion"] = answer.json()["metadata"]["resourceVersion"]
    obj["status"]["conditions"] = []
    refused = http.put(f"{PATH}/{name}/approval", json=obj)
    assert refused.status_code == 422
    http.delete(f"{PATH}/{name}")
