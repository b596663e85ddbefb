"""Certificate requests, bootstrap tokens and TTLs through the wire."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from kubeling.api.conditions import get_condition, set_condition
from kubeling.api.resources import CERTIFICATE_SIGNING_REQUESTS, CONFIG_MAPS, NAMESPACES, NODES, SECRETS
from kubeling.api.times import format_time
from kubeling.client.rest import Client

from .test_certificates import CLIENT_USAGES, Obj, plan, request

pytestmark = pytest.mark.live


async def ask(client: Client, name: str, signer: str, usages: list[str], body: bytes) -> Obj:
    spec = {"request": base64.b64encode(body).decode(), "signerName": signer, "usages": usages}
    made = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": spec}
    return await client.create(CERTIFICATE_SIGNING_REQUESTS, made)


async def approve(client: Client, one: Obj) -> None:
    status: Obj = {"conditions": []}
    set_condition(status["conditions"], "Approved", "True", datetime.now(UTC), reason="Test", message="by hand")
    await client.update(CERTIFICATE_SIGNING_REQUESTS, {**one, "status": status}, subresource="approval")


async def test_requests_are_approved_signed_and_refused(
    tools: Any, client: Client, namespace: str, plane: Any, manager: Any
) -> None:
    manager(
        "--controllers=csrsigning,csrapproving,csrcleaning",
        f"--cluster-signing-cert-file={plane.folder / 'ca.crt'}",
        f"--cluster-signing-key-file={plane.folder / 'ca.key'}",
    )
    ca = x509.load_pem_x509_certificate((plane.folder / "ca.crt").read_bytes())
    names = [f"{namespace}-{each}" for each in ("node", "user", "unfit")]
    try:
        # The administrator may approve any kubelet's, so the controller does it for him.
        await ask(client, names[0], plan.KUBELET_CLIENT, CLIENT_USAGES, request())
        user = await ask(client, names[1], plan.CLIENT, CLIENT_USAGES, request("bob", "team"))
        unfit = await ask(client, names[2], plan.CLIENT, ["server auth"], request("bob", "team"))

        async def signed(name: str) -> x509.Certificate | None:
            status = (await client.get(CERTIFICATE_SIGNING_REQUESTS, name)).get("status") or {}
            return x509.load_pem_x509_certificate(base64.b64decode(found)) if (found := status.get("certificate")) else None

        await tools.until(lambda: signed(names[0]), "a kubelet has its certificate")
        assert await signed(names[1]) is None, "nobody has approved it"
        await approve(client, user)
        await approve(client, unfit)
        await tools.until(lambda: signed(names[1]), "the user has it")
        made = await signed(names[1])
        assert made is not None
        made.verify_directly_issued_by(ca)

        async def refused() -> bool:
            found = get_condition(await client.get(CERTIFICATE_SIGNING_REQUESTS, names[2]), "Failed")
            return found is not None and found["reason"] == "SignerValidationFailure"

        await tools.until(refused, "what its signer does not sign has failed")
    finally:
        for name in names:
            await client.delete(CERTIFICATE_SIGNING_REQUESTS, name)


async def test_tokens_sign_and_end(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    for each in ("kube-system", "kube-public"):
        await tools.until(lambda each=each: client.get(NAMESPACES, each), f"{each} is there")
    info = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "k"}}
    await client.create(CONFIG_MAPS, info, "kube-public")
    node = await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"{namespace}-n"}})
    names = []
    try:
        for identity, seconds in (("aaaaaa", 3600), ("bbbbbb", 3)):
            end = format_time(datetime.now(UTC) + timedelta(seconds=seconds))
            fields = {
                "token-id": identity,
                "token-secret": "0123456789abcdef",
                "usage-bootstrap-signing": "true",
                "expiration": end,
            }
            name = f"bootstrap-token-{identity}"
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token"}
            await client.create(SECRETS, body | {"stringData": fields}, "kube-system")
            names.append(name)
        manager("--controllers=bootstrapsigner,tokencleaner,ttl")

        async def one_left() -> bool:
            data = (await client.get(CONFIG_MAPS, "cluster-info", "kube-public"))["data"]
            left = {each["metadata"]["name"] for each in (await client.list(SECRETS, "kube-system"))["items"]} & set(names)
            return set(data) == {"kubeconfig", "jws-kubeconfig-aaaaaa"} and left == set(names[:1])

        await tools.until(one_left, "one token has signed, the other has ended")

        async def annotated() -> bool:
            found = await client.get(NODES, node["metadata"]["name"])
            return (found["metadata"].get("annotations") or {}).get("node.alpha.kubernetes.io/ttl") == "0"

        await tools.until(annotated, "the node has its TTL")
    finally:
        await client.delete(CONFIG_MAPS, "cluster-info", "kube-public")
        await client.delete(NODES, node["metadata"]["name"])
        for name in names[:1]:
            await client.delete(SECRETS, name, "kube-system")
