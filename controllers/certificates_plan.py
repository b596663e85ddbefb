"""Certificate requests: which signer demands what, what a certificate says, and when a request is old. No I/O.

The four signers of Kubernetes differ in what may stand in a request: `kubelet-serving` and `kube-apiserver-client-kubelet` only sign for `system:node:…` in `system:nodes`, `kube-apiserver-client`
only clients, `legacy-unknown` anything.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from kubeling.api.conditions import is_true
from kubeling.api.meta import spec_of, status_of
from kubeling.api.times import parse_time

if TYPE_CHECKING:
    from cryptography import x509

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = (KUBELET_SERVING, KUBELET_CLIENT, CLIENT, LEGACY)

#: Clocks differ.
BACKDATE = timedelta(minutes=5)
_DECIDED, _PENDING = timedelta(hours=1), timedelta(hours=24)
_KUBELET_USAGES = {"digital signature", "key encipherment"}

Request = dict[str, Any]


class Unfit(Exception):
    """The request is not one that its signer signs."""


def parsed(csr: Request) -> x509.CertificateSigningRequest:
    """The PKCS #10 request. Raises Unfit."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_csr(base64.b64decode(spec_of(csr).get("request") or ""))
        sound = found.is_signature_valid
    except ValueError as error:
        raise Unfit(f"unable to parse csr {csr['metadata']['name']!r}: {error}") from error
    if not sound:
        raise Unfit(f"unable to parse csr {csr['metadata']['name']!r}: its signature is not valid")
    return found


def names_of(request: x509.CertificateSigningRequest) -> tuple[str, list[str]]:
    """Common name and organisations."""
    from cryptography.x509.oid import NameOID

    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(each.value) for each in request.subject.get_attributes_for_oid(oid)]

    return "".join(values(NameOID.COMMON_NAME)[:1]), values(NameOID.ORGANIZATION_NAME)


def check(csr: Request, request: x509.CertificateSigningRequest) -> None:
    """Whether the request is one for its signer. Raises Unfit."""
    signer, usages = spec_of(csr).get("signerName"), list(spec_of(csr).get("usages") or ())
    if signer == KUBELET_CLIENT:
        check_kubelet(request, usages, "client auth")
    elif signer == KUBELET_SERVING:
        check_kubelet(request, usages, "server auth")
    elif signer == CLIENT:
        for each in usages:
            if each not in (*_KUBELET_USAGES, "client auth"):
                raise Unfit(f"invalid usage for client certificate: {each}")
        if "client auth" not in usages:
            raise Unfit("missing required usage for client certificate: client auth")


def check_kubelet(request: x509.CertificateSigningRequest, usages: list[str], purpose: str) -> None:
    """A kubelet's request, for what `purpose` says. Raises Unfit."""
    from cryptography import x509

    name, organizations = names_of(request)
    if organizations != ["system:nodes"]:
        raise Unfit("subject organization is not system:nodes")
    if not name.startswith("system:node:"):
        raise Unfit("subject common name does not begin with system:node:")
    try:
        alternatives: x509.SubjectAlternativeName | list[x509.GeneralName] = request.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        alternatives = []
    allowed = (x509.DNSName, x509.IPAddress) if purpose == "server auth" else ()
    for kind, words in (
        (x509.DNSName, "DNS"),
        (x509.RFC822Name, "Email"),
        (x509.IPAddress, "IP"),
        (x509.UniformResourceIdentifier, "URI"),
    ):
        if kind not in allowed and any(isinstance(each, kind) for each in alternatives):
            raise Unfit(f"{words} subjectAltNames are not allowed")
    if allowed and not any(isinstance(each, allowed) for each in alternatives):
        raise Unfit("DNS or IP subjectAltName is required")
    if not {"digital signature", purpose} <= set(usages) <= _KUBELET_USAGES | {purpose}:
        raise Unfit(f"usages did not match: they must be digital signature, {purpose}, and key encipherment or not")


def recognized(csr: Request, request: x509.CertificateSigningRequest) -> list[tuple[str, str]]:
    """What a request for a kubelet's client certificate may be approved as: (subresource that the asking user must be allowed to create, message)."""
    if spec_of(csr).get("signerName") != KUBELET_CLIENT:
        return []
    try:
        check_kubelet(request, list(spec_of(csr).get("usages") or ()), "client auth")
    except Unfit:
        return []
    found = [("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")]
    if names_of(request)[0] == spec_of(csr).get("username"):
        found.insert(0, ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."))
    return found


def wants_certificate(csr: Request) -> bool:
    """Whether it is approved and nobody has dealt with it yet."""
    done = status_of(csr).get("certificate") or is_true(csr, "Denied") or is_true(csr, "Failed")
    return is_true(csr, "Approved") and not done


def undecided(csr: Request) -> bool:
    """Whether nobody has approved or denied it."""
    return not any(is_true(csr, kind) for kind in ("Approved", "Denied", "Failed")) and not status_of(csr).get("certificate")


def lifetime(csr: Request, longest: timedelta) -> timedelta:
    """How long its certificate is to be valid."""
    wanted = spec_of(csr).get("expirationSeconds")
    return longest if wanted is None else max(timedelta(minutes=10), min(timedelta(seconds=int(wanted)), longest))


def removal(csr: Request) -> datetime | None:
    """When a request is nobody's business any more: an hour after it was decided, a day after it was made, or when its certificate has run out."""
    moments = [parse_time(csr["metadata"]["creationTimestamp"]) + _PENDING] if undecided(csr) else []
    for each in status_of(csr).get("conditions") or ():
        stamp = each.get("lastUpdateTime") or each.get("lastTransitionTime")
        if each.get("status") != "True" or not stamp:
            continue
        decided = each.get("type") in ("Denied", "Failed") or (each.get("type") == "Approved")
        if decided:
            moments.append(parse_time(stamp) + _DECIDED)
    if certificate := status_of(csr).get("certificate"):
        moments += _expiry(certificate)
    return min(moments, default=None)


def _expiry(certificate: str) -> list[datetime]:
    from cryptography import x509

    try:
        return [x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc]
    except ValueError:
        return []
