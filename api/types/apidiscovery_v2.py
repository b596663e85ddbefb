"""Discovery in one document."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_discovery_v1 import GroupVersionKind
from kubeling.api.types.meta_v1 import KubeList, KubeObject


class APISubresourceDiscovery(TypedDict, total=False):
    """A subresource."""

    subresource: Annotated[Required[str], f(1, "Its name.")]
    responseKind: Annotated[GroupVersionKind, f(2, "Kind of its objects.", pointer=True)]
    acceptedTypes: Annotated[list[GroupVersionKind], f(3, "Kinds that it takes.", keys="group version kind")]
    verbs: Annotated[Required[list[str]], f(4, "Verbs that it knows.", list_type="set")]


class APIResourceDiscovery(TypedDict, total=False):
    """A resource."""

    resource: Annotated[Required[str], f(1, "Its plural name.")]
    responseKind: Annotated[GroupVersionKind, f(2, "Kind of its objects.", pointer=True)]
    scope: Annotated[Required[str], f(3, "Cluster or Namespaced.")]
    singularResource: Annotated[Required[str], f(4, "Its singular name.")]
    verbs: Annotated[Required[list[str]], f(5, "Verbs that it knows.", list_type="set")]
    shortNames: Annotated[list[str], f(6, "Short names for the command line.", list_type="set")]
    categories: Annotated[list[str], f(7, "Groups of resources that it is in, such as all.", list_type="set")]
    subresources: Annotated[list[APISubresourceDiscovery], f(8, "Its subresources.", keys="subresource")]


class APIVersionDiscovery(TypedDict, total=False):
    """A version of a group."""

    version: Annotated[Required[str], f(1, "Name of the version.")]
    resources: Annotated[list[APIResourceDiscovery], f(2, "Its resources.", keys="resource")]
    freshness: Annotated[str, f(3, "Current, or Stale where its server does not answer.")]


class APIGroupDiscovery(KubeObject, total=False):
    """A group."""

    versions: Annotated[list[APIVersionDiscovery], f(2, "Its versions, preferred first.", keys="version")]


class APIGroupDiscoveryList(KubeList, total=False):
    """A list of APIGroupDiscoveries."""

    items: Annotated[Required[list[APIGroupDiscovery]], f(2, "The APIGroupDiscoveries.")]
