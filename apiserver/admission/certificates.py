"""CertificateSigningRequests: who may approve and who may sign for a signer, and what nobody may be given."""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.x509.oid import NameOID

from kubeling.api import errors
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.authn.user import MASTERS
from kubeling.apiserver.authz.authorizer import Attributes as Access
from kubeling.apiserver.authz.authorizer import Authorizer

_GROUP = "certificates.k8s.io"
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class _ForSigner(Plugin):
    """A verb on the virtual resource `signers`, by the signer's name or its domain with `/*`."""

    verb = ""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def _check(self, attributes: Attributes) -> None:
        assert attributes.old is not None
        signer = str((attributes.old.get("spec") or {}).get("signerName") or "")
        for name in (signer, signer.partition("/")[0] + "/*"):
            access = Access(attributes.user, self.verb, _GROUP, "signers", name=name)
            if (await self._authorizer.authorize(access)).allowed:
                return
        why = f'user not permitted to {self.verb} requests with signerName "{signer}"'
        raise errors.forbidden(_GROUP, "certificatesigningrequests", attributes.name, why)


class CertificateApproval(_ForSigner):
    """Who approves must have the verb `approve` for the signer."""

    verb = "approve"

    async def validate(self, attributes: Attributes) -> None:
        if _is_request(attributes) and attributes.subresource == "approval" and attributes.operation == "UPDATE":
            await self._check(attributes)


class CertificateSigning(_ForSigner):
    """Who writes the certificate must have the verb `sign` for the signer."""

    verb = "sign"

    async def validate(self, attributes: Attributes) -> None:
        if not _is_request(attributes) or attributes.subresource != "status" or attributes.operation != "UPDATE":
            return
        new, old = ((each or {}).get("status") or {} for each in (attributes.obj, attributes.old))
        failed = [[each for each in status.get("conditions") or () if each.get("type") == "Failed"] for status in (new, old)]
        if new.get("certificate") != old.get("certificate") or failed[0] != failed[1]:
            await self._check(attributes)


class CertificateSubjectRestriction(Plugin):
    """No client certificate is asked for in the name of system:masters."""

    async def validate(self, attributes: Attributes) -> None:
        if not _is_request(attributes) or attributes.subresource or attributes.operation != "CREATE" or attributes.obj is None:
            return
        spec = attributes.obj.get("spec") or {}
        if spec.get("signerName") == _CLIENT_SIGNER and MASTERS in _organizations(str(spec.get("request") or "")):
            why = f"use of {_CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
            raise errors.forbidden(_GROUP, "certificatesigningrequests", attributes.name, why)


def _is_request(attributes: Attributes) -> bool:
    return attributes.resource.plural == "certificatesigningrequests" and attributes.resource.group == _GROUP


def _organizations(request: str) -> list[str]:
    """The groups that a request asks for. What cannot be read has been refused by validation."""
    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(request))
    except (ValueError, binascii.Error):
        return []
    return [str(each.value) for each in parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
