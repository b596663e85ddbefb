"""Requests for certificates."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeList, KubeObject
from kubeling.api.types.scalars import Bytes, Int32, StringBox, Time


class CertificateSigningRequestSpec(TypedDict, total=False):
    """Which certificate is asked for, and by whom."""

    request: Annotated[Required[Bytes], f(1, "The request, as PKCS #10 in PEM (base64).", list_type="atomic")]
    signerName: Annotated[Required[str], f(7, "Who is to sign, such as kubernetes.io/kube-apiserver-client.")]
    expirationSeconds: Annotated[
        Int32, f(8, "How long the certificate should be valid, 600 or more; the signer decides.", pointer=True)
    ]
    usages: Annotated[list[str], f(5, "What the key is for, such as digital signature or client auth.", list_type="atomic")]
    username: Annotated[str, f(2, "Name of the user who asks; set by the system.")]
    uid: Annotated[str, f(3, "UID of the user who asks; set by the system.")]
    groups: Annotated[list[str], f(4, "Groups of the user who asks; set by the system.", list_type="atomic")]
    extra: Annotated[dict[str, StringBox], f(6, "More about the user who asks; set by the system.")]


class CertificateSigningRequestCondition(TypedDict, total=False):
    """One observation of a request."""

    type: Annotated[Required[str], f(1, "Approved, Denied or Failed.")]
    status: Annotated[Required[str], f(6, "True, False or Unknown.")]
    reason: Annotated[str, f(2, "One CamelCase word for the last change, for programs.")]
    message: Annotated[str, f(3, "Details of the last change, for people.")]
    lastUpdateTime: Annotated[Time, f(4, "When the condition was last written.")]
    lastTransitionTime: Annotated[Time, f(5, "When the status last changed.")]


class CertificateSigningRequestStatus(TypedDict, total=False):
    """State of a request."""

    conditions: Annotated[
        list[CertificateSigningRequestCondition], f(1, "The latest observations, one for each type.", keys="type")
    ]
    certificate: Annotated[Bytes, f(2, "The certificate chain in PEM (base64), once it is issued.", list_type="atomic")]


class CertificateSigningRequest(KubeObject, total=False):
    """Asks a signer for a certificate."""

    spec: Annotated[Required[CertificateSigningRequestSpec], f(2, "What is wanted.")]
    status: Annotated[CertificateSigningRequestStatus, f(3, "What has been observed; written by the system.")]


class CertificateSigningRequestList(KubeList, total=False):
    """A list of CertificateSigningRequests."""

    items: Annotated[Required[list[CertificateSigningRequest]], f(2, "The CertificateSigningRequests.")]
