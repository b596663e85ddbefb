"""CertificateSigningRequests: what may be asked for, and what may become of it."""

from __future__ import annotations

import base64
import binascii

from kubeling.api import names
from kubeling.api.errors import duplicate_value, forbidden_value, invalid_value, required_value, unsupported_value
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.validation.common import Errors, unchanged

_USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_FINAL = ("Approved", "Denied", "Failed")
_VERDICTS = ("Approved", "Denied")
_FORM = "must be a fully qualified domain and path of the form 'example.com/signer-name'"


def signing_request(obj: Object) -> Errors:
    """A new request."""
    spec = spec_of(obj)
    yield from _request(spec.get("request"))
    usages = spec.get("usages") or []
    if not usages:
        yield required_value("spec.usages")
    for at, each in enumerate(usages):
        if each not in _USAGES:
            yield unsupported_value(f"spec.usages[{at}]", each, _USAGES)
        elif each in usages[:at]:
            yield duplicate_value(f"spec.usages[{at}]", each)
    yield from signer_name("spec.signerName", spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        yield invalid_value("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)")
    yield from _conditions(obj)


def _request(text: str | None) -> Errors:
    if not text:
        yield invalid_value("spec.request", text or "", "PEM block type must be CERTIFICATE REQUEST")
        return
    try:
        pem = base64.b64decode(text)
    except (binascii.Error, ValueError):
        pem = b""
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        yield invalid_value("spec.request", text, "PEM block type must be CERTIFICATE REQUEST")
        return
    from cryptography import x509

    try:
        x509.load_pem_x509_csr(pem)
    except ValueError as error:
        yield invalid_value("spec.request", text, f"unable to parse csr: {error}")


def signer_name(path: str, name: str) -> Errors:
    """`example.com/path`: a domain with a dot, and a path."""
    if not name:
        yield required_value(path)
        return
    domain, slash, rest = name.partition("/")
    if not slash or not rest or "/" in rest:
        yield invalid_value(path, name, _FORM)
        return
    for message in names.dns1123_subdomain(domain):
        yield invalid_value(path, domain, f"validating label {domain!r}: {message}")
    if "." not in domain:
        yield invalid_value(path, domain, "should be a domain with at least two segments separated by dots")
    for message in names.dns1123_subdomain(rest):
        yield invalid_value(path, rest, f"validating label {rest!r}: {message}")


def _conditions(obj: Object) -> Errors:
    seen: set[str] = set()
    for at, each in enumerate(status_of(obj).get("conditions") or ()):
        path, kind, status = f"status.conditions[{at}]", each.get("type") or "", each.get("status") or ""
        if not kind:
            yield required_value(f"{path}.type")
        if not status:
            yield required_value(f"{path}.status")
        elif status not in ("True", "False", "Unknown"):
            yield unsupported_value(f"{path}.status", status, ("True", "False", "Unknown"))
        if kind in _FINAL and status not in ("", "True"):
            yield unsupported_value(f"{path}.status", status, ("True",))
        if kind in seen:
            yield duplicate_value(f"{path}.type", kind)
        if kind in _VERDICTS and seen & (set(_VERDICTS) - {kind}):
            yield invalid_value(f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive")
        seen.add(kind)


def signing_request_update(new: Object, old: Object) -> Errors:
    """What was asked for stays."""
    yield from unchanged("spec", spec_of(new), spec_of(old))


def signing_request_status(new: Object, old: Object) -> Errors:
    """/approval and /status: a verdict is not taken back, a certificate not exchanged."""
    after, before = ({each.get("type") for each in status_of(obj).get("conditions") or ()} for obj in (new, old))
    for kind in _FINAL:
        if kind in before and kind not in after:
            yield forbidden_value("status.conditions", f'updates may not remove a condition of type "{kind}"')
    held = status_of(old).get("certificate")
    if held and status_of(new).get("certificate") != held:
        yield forbidden_value("status.certificate", "updates may not modify existing certificate content")
    yield from _conditions(new)
