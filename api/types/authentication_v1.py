"""Who somebody is: reviews of tokens, and tokens for service accounts."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import KubeObject
from kubeling.api.types.scalars import Int64, StringBox, Time


class UserInfo(TypedDict, total=False):
    """A user."""

    username: Annotated[str, f(1, "Name of the user.")]
    uid: Annotated[str, f(2, "UID of the user, where the authenticator has one.")]
    groups: Annotated[list[str], f(3, "Groups of the user.", list_type="atomic")]
    extra: Annotated[dict[str, StringBox], f(4, "More that the authenticator knows.")]


class TokenReviewSpec(TypedDict, total=False):
    """A token to check."""

    token: Annotated[str, f(1, "The token.")]
    audiences: Annotated[list[str], f(2, "Who the token should be for; the API server by default.", list_type="atomic")]


class TokenReviewStatus(TypedDict, total=False):
    """What the check found."""

    authenticated: Annotated[bool, f(1, "Whether the token is good.")]
    user: Annotated[UserInfo, f(2, "Whose it is.")]
    audiences: Annotated[list[str], f(4, "Audiences of the token that were asked for.", list_type="atomic")]
    error: Annotated[str, f(3, "Why the check could not be made.")]


class TokenReview(KubeObject, total=False):
    """Asks whose a token is."""

    spec: Annotated[Required[TokenReviewSpec], f(2, "What is wanted.")]
    status: Annotated[TokenReviewStatus, f(3, "What has been observed; written by the system.")]


class SelfSubjectReviewStatus(TypedDict, total=False):
    """Who asks."""

    userInfo: Annotated[UserInfo, f(1, "The user who asks.")]


class SelfSubjectReview(KubeObject, total=False):
    """Asks who one is."""

    status: Annotated[SelfSubjectReviewStatus, f(2, "What has been observed; written by the system.")]


class BoundObjectReference(TypedDict, total=False):
    """The object that a token lives and dies with."""

    kind: Annotated[str, f(1, "Pod, Secret or Node.")]
    apiVersion: Annotated[str, f(2, "Group and version of the object.")]
    name: Annotated[str, f(3, "Name of the object.")]
    uid: Annotated[str, f(4, "UID of the object.", wire="uID")]


class TokenRequestSpec(TypedDict, total=False):
    """Which token is asked for."""

    audiences: Annotated[Required[list[str]], f(1, "Who the token is for; the API server by default.", list_type="atomic")]
    expirationSeconds: Annotated[Int64, f(4, "How long the token should live; 3600 by default.", pointer=True)]
    boundObjectRef: Annotated[BoundObjectReference, f(3, "Object with which the token dies.", pointer=True)]


class TokenRequestStatus(TypedDict, total=False):
    """The token."""

    token: Annotated[Required[str], f(1, "The token.")]
    expirationTimestamp: Annotated[Required[Time], f(2, "When it expires.")]


class TokenRequest(KubeObject, total=False):
    """Asks for a token of a service account."""

    spec: Annotated[Required[TokenRequestSpec], f(2, "What is wanted.")]
    status: Annotated[TokenRequestStatus, f(3, "What has been observed; written by the system.")]
