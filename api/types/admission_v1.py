"""What the API server asks a webhook, and what it answers."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.authentication_v1 import UserInfo
from kubeling.api.types.declare import f
from kubeling.api.types.meta_discovery_v1 import GroupVersionKind, GroupVersionResource
from kubeling.api.types.meta_v1 import Status, Typed
from kubeling.api.types.scalars import Bytes, RawExtension


class AdmissionRequest(TypedDict, total=False):
    """A request that is up for admission."""

    uid: Annotated[Required[str], f(1, "ID of this question; the answer repeats it.")]
    kind: Annotated[Required[GroupVersionKind], f(2, "Kind of the object, as the webhook asked for it.")]
    resource: Annotated[Required[GroupVersionResource], f(3, "Resource, as the webhook asked for it.")]
    subResource: Annotated[str, f(4, "Subresource, if any.")]
    requestKind: Annotated[GroupVersionKind, f(13, "Kind of the object in the original request.", pointer=True)]
    requestResource: Annotated[GroupVersionResource, f(14, "Resource of the original request.", pointer=True)]
    requestSubResource: Annotated[str, f(15, "Subresource of the original request.")]
    name: Annotated[str, f(5, "Name of the object; may be missing on creation.")]
    namespace: Annotated[str, f(6, "Namespace of the request.")]
    operation: Annotated[Required[str], f(7, "CREATE, UPDATE, DELETE or CONNECT.")]
    userInfo: Annotated[Required[UserInfo], f(8, "Who makes the request.")]
    object: Annotated[RawExtension, f(9, "The object as it would be.")]
    oldObject: Annotated[RawExtension, f(10, "The object as it is, for UPDATE and DELETE.")]
    dryRun: Annotated[bool, f(11, "Whether nothing will be stored.", pointer=True)]
    options: Annotated[RawExtension, f(12, "Options of the operation.")]


class AdmissionResponse(TypedDict, total=False):
    """What a webhook says."""

    uid: Annotated[Required[str], f(1, "ID of the question.")]
    allowed: Annotated[Required[bool], f(2, "Whether the request is let in.")]
    status: Annotated[Status, f(3, "Why not.", pointer=True)]
    patch: Annotated[Bytes, f(4, "Changes to the object, as JSON Patch (base64).")]
    patchType: Annotated[str, f(5, "JSONPatch.", pointer=True)]
    auditAnnotations: Annotated[dict[str, str], f(6, "Annotations for the audit event.")]
    warnings: Annotated[list[str], f(7, "Warnings for the client.")]


class AdmissionReview(Typed, total=False):
    """A question to a webhook, or its answer."""

    request: Annotated[AdmissionRequest, f(1, "The question.", pointer=True)]
    response: Annotated[AdmissionResponse, f(2, "The answer.", pointer=True)]
