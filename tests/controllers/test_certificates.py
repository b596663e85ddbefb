"""Certificate requests and bootstrap tokens: what is signed, approved and removed, and what a token's signature is."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeling.api.times import format_time
from kubeling.controllers import bootstrap_tokens, node_ttl
from kubeling.controllers import certificates_plan as plan
from kubeling.controllers.certificates_ca import Authority

Obj = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLIENT_USAGES, SERVING_USAGES = ["digital signature", "client auth"], ["digital signature", "key encipherment", "server auth"]


def request(name: str = "system:node:n", group: str = "system:nodes", *alternatives: str) -> bytes:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if alternatives:
        found: list[x509.GeneralName] = [
            x509.IPAddress(ip_address(each)) if each[0].isdigit() else x509.DNSName(each) for each in alternatives
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def csr(signer: str, usages: list[str], body: bytes | None = None, **more: Any) -> Obj:
    spec = {"signerName": signer, "usages": usages, "request": base64.b64encode(body or request()).decode(), "username": "u"}
    meta = {"name": "r", "uid": "r", "creationTimestamp": format_time(NOW)}
    return {"metadata": meta, "spec": spec | more, "status": {}}


def problem(one: Obj) -> str:
    try:
        plan.check(one, plan.parsed(one))
    except plan.Unfit as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (csr(plan.KUBELET_CLIENT, CLIENT_USAGES), ""),
        (csr(plan.KUBELET_CLIENT, CLIENT_USAGES, request("bob")), "subject common name does not begin with system:node:"),
        (csr(plan.KUBELET_CLIENT, CLIENT_USAGES, request(group="other")), "subject organization is not system:nodes"),
        (
            csr(plan.KUBELET_CLIENT, CLIENT_USAGES, request("system:node:n", "system:nodes", "n")),
            "DNS subjectAltNames are not allowed",
        ),
        (csr(plan.KUBELET_CLIENT, SERVING_USAGES), "usages did not match"),
        (csr(plan.KUBELET_SERVING, SERVING_USAGES, request("system:node:n", "system:nodes", "n", "10.0.0.1")), ""),
        (csr(plan.KUBELET_SERVING, SERVING_USAGES), "DNS or IP subjectAltName is required"),
        (csr(plan.CLIENT, CLIENT_USAGES, request("bob", "team")), ""),
        (csr(plan.CLIENT, [*CLIENT_USAGES, "server auth"]), "invalid usage for client certificate: server auth"),
        (csr(plan.CLIENT, ["digital signature"]), "missing required usage for client certificate: client auth"),
        (csr(plan.LEGACY, ["server auth", "code signing"], request("x", "y", "z")), ""),
        (csr(plan.LEGACY, [], b"nonsense"), "unable to parse csr 'r'"),
    ],
)
def test_each_signer_has_its_own_demands(one: Obj, words: str) -> None:
    found = problem(one)
    assert found.startswith(words)
    assert bool(found) == bool(words)


def authority(days: int = 365) -> tuple[Authority, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return Authority(made.public_bytes(pem).decode(), text.decode()), made


def test_a_certificate_says_what_was_asked_for_and_no_more() -> None:
    signer, ca = authority()
    one = csr(plan.KUBELET_SERVING, SERVING_USAGES, request("system:node:n", "system:nodes", "n", "10.0.0.1"))
    made = x509.load_pem_x509_certificate(signer.sign(plan.parsed(one), SERVING_USAGES, timedelta(days=30), NOW))
    made.verify_directly_issued_by(ca)
    assert made.subject.rfc4514_string() == "O=system:nodes,CN=system:node:n"
    assert (made.not_valid_before_utc, made.not_valid_after_utc) == (NOW - timedelta(minutes=5), NOW + timedelta(days=30))
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each.value) for each in names] == ["n", "10.0.0.1"]


def test_no_certificate_outlives_its_authority() -> None:
    signer, ca = authority(days=10)
    made = x509.load_pem_x509_certificate(signer.sign(plan.parsed(csr(plan.LEGACY, [])), [], timedelta(days=365), NOW))
    assert made.not_valid_after_utc == ca.not_valid_after_utc
    with pytest.raises(plan.Unfit, match="expired in the past"):
        signer.sign(plan.parsed(csr(plan.LEGACY, [])), [], timedelta(days=365), NOW + timedelta(days=11))


def test_how_long() -> None:
    year = timedelta(days=365)
    assert plan.lifetime(csr(plan.LEGACY, []), year) == year
    assert plan.lifetime(csr(plan.LEGACY, [], expirationSeconds=3600), year) == timedelta(hours=1)
    assert plan.lifetime(csr(plan.LEGACY, [], expirationSeconds=10**9), year) == year


def test_what_is_approved_for_a_kubelet() -> None:
    own = csr(plan.KUBELET_CLIENT, CLIENT_USAGES, username="system:node:n")
    assert [each for each, _ in plan.recognized(own, plan.parsed(own))] == ["selfnodeclient", "nodeclient"]
    new = csr(plan.KUBELET_CLIENT, CLIENT_USAGES, username="system:bootstrap:abcdef")
    assert [each for each, _ in plan.recognized(new, plan.parsed(new))] == ["nodeclient"]
    serving = csr(plan.KUBELET_SERVING, SERVING_USAGES, request("system:node:n", "system:nodes", "n"))
    assert plan.recognized(serving, plan.parsed(serving)) == []


def test_when_a_request_goes() -> None:
    one = csr(plan.LEGACY, [])
    assert plan.removal(one) == NOW + timedelta(hours=24)
    at = NOW + timedelta(minutes=3)
    for kind in ("Approved", "Denied", "Failed"):
        one["status"] = {"conditions": [{"type": kind, "status": "True", "lastUpdateTime": format_time(at)}]}
        assert plan.removal(one) == at + timedelta(hours=1)
    signer, _ = authority()
    short = base64.b64encode(signer.sign(plan.parsed(csr(plan.LEGACY, [])), [], timedelta(minutes=10), NOW)).decode()
    one["status"]["certificate"] = short
    assert plan.removal(one) == NOW + timedelta(minutes=10)


# -- bootstrap tokens ------------------------------------------------------------------------------------------------------------------


def token(**fields: str) -> Obj:
    data = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"} | fields
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}, "data": encoded}


@pytest.mark.filterwarnings("ignore:The HMAC key is 16 bytes long")  # As long as a token's secret is.
def test_a_signature_is_a_jws_without_its_payload() -> None:
    jwt = pytest.importorskip("jwt")
    found = bootstrap_tokens.signature("kubeconfig\n", "abcdef", "0123456789abcdef")
    head, nothing, mac = found.split(".")
    assert not nothing
    payload = base64.urlsafe_b64encode(b"kubeconfig\n").rstrip(b"=").decode()
    checked = jwt.PyJWS().decode_complete(f"{head}.{payload}.{mac}", "0123456789abcdef", algorithms=["HS256"])
    assert checked["header"] == {"alg": "HS256", "kid": "abcdef"}
    assert checked["payload"] == b"kubeconfig\n"


def test_exactly_the_tokens_that_may_sign_have_signatures() -> None:
    info = {"data": {"kubeconfig": "k", "jws-kubeconfig-former": "x", "other": "y"}}
    name = "jws-kubeconfig-abcdef"
    assert set(bootstrap_tokens.signed(info, [token()], NOW)) == {"kubeconfig", "other", name}
    for refused in (
        token(expiration=format_time(NOW)),
        token(expiration="tomorrow"),
        token(**{"usage-bootstrap-signing": "false"}),
        token(**{"token-id": "fedcba"}),
    ):
        assert set(bootstrap_tokens.signed(info, [refused], NOW)) == {"kubeconfig", "other"}
    assert name in bootstrap_tokens.signed(info, [token(expiration=format_time(NOW + timedelta(seconds=1)))], NOW)


def test_the_steps_of_ttls_overlap() -> None:
    steps, at = [], 0
    for nodes in (50, 101, 95, 89, 1001, 950, 899, 5000, 1799, 10):
        at = node_ttl.step(at, nodes)
        steps.append(node_ttl.STEPS[at][2])
    assert steps == [0, 15, 15, 0, 60, 60, 30, 300, 60, 0]
