"""What a server serves, in the older form."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import Typed
from kubeling.api.types.scalars import StringBox


class GroupVersionForDiscovery(TypedDict, total=False):
    """A version of a group."""

    groupVersion: Annotated[Required[str], f(1, "Group and version, as in apps/v1.")]
    version: Annotated[Required[str], f(2, "The version alone.")]


class ServerAddressByClientCIDR(TypedDict, total=False):
    """An address for some clients."""

    clientCIDR: Annotated[Required[str], f(1, "Range of the clients' addresses.")]
    serverAddress: Annotated[Required[str], f(2, "Address of the server, host or host:port.")]


class APIGroup(Typed, total=False):
    """A group."""

    name: Annotated[Required[str], f(1, "Name of the group.")]
    versions: Annotated[Required[list[GroupVersionForDiscovery]], f(2, "Its versions.", list_type="atomic")]
    preferredVersion: Annotated[GroupVersionForDiscovery, f(3, "The version that is best used.")]
    serverAddressByClientCIDRs: Annotated[list[ServerAddressByClientCIDR], f(4, "Addresses of the server.", list_type="atomic")]


class APIGroupList(Typed, total=False):
    """The groups of a server."""

    groups: Annotated[Required[list[APIGroup]], f(1, "The groups.", list_type="atomic")]


class APIResource(TypedDict, total=False):
    """A resource or subresource."""

    name: Annotated[Required[str], f(1, "Plural name.")]
    singularName: Annotated[Required[str], f(6, "Singular name.")]
    namespaced: Annotated[Required[bool], f(2, "Whether it lives in namespaces.")]
    group: Annotated[str, f(8, "API group of its objects, where it is another.")]
    version: Annotated[str, f(9, "API version of its objects, where it is another.")]
    kind: Annotated[Required[str], f(3, "Kind of its objects.")]
    verbs: Annotated[Required[StringBox], f(4, "Verbs that it knows.")]
    shortNames: Annotated[list[str], f(5, "Short names for the command line.", list_type="atomic")]
    categories: Annotated[list[str], f(7, "Groups of resources that it is in, such as all.", list_type="atomic")]
    storageVersionHash: Annotated[str, f(10, "Stands for the version in which it is stored.")]


class APIResourceList(Typed, total=False):
    """The resources of a version."""

    groupVersion: Annotated[Required[str], f(1, "Group and version, as in apps/v1.")]
    resources: Annotated[Required[list[APIResource]], f(2, "The resources.", list_type="atomic")]


class APIVersions(Typed, total=False):
    """The versions of the core group."""

    versions: Annotated[Required[list[str]], f(1, "The versions.", list_type="atomic")]
    serverAddressByClientCIDRs: Annotated[
        Required[list[ServerAddressByClientCIDR]], f(2, "Addresses of the server.", list_type="atomic")
    ]


class RootPaths(TypedDict, total=False):
    """Paths that a server has."""

    paths: Annotated[Required[list[str]], f(1, "The paths.", list_type="atomic")]


class GroupKind(TypedDict, total=False):
    """A kind in any version."""

    group: Annotated[Required[str], f(1, "API group; empty for the core group.")]
    kind: Annotated[Required[str], f(2, "Kind of the object.")]


class GroupResource(TypedDict, total=False):
    """A resource in any version."""

    group: Annotated[Required[str], f(1, "API group; empty for the core group.")]
    resource: Annotated[Required[str], f(2, "Plural name of the resource, in lower case.")]


class GroupVersion(TypedDict, total=False):
    """A version of a group."""

    group: Annotated[Required[str], f(1, "API group; empty for the core group.")]
    version: Annotated[Required[str], f(2, "API version.")]


class GroupVersionKind(TypedDict, total=False):
    """A kind in a version."""

    group: Annotated[Required[str], f(1, "API group; empty for the core group.")]
    version: Annotated[Required[str], f(2, "API version.")]
    kind: Annotated[Required[str], f(3, "Kind of the object.")]


class GroupVersionResource(TypedDict, total=False):
    """A resource in a version."""

    group: Annotated[Required[str], f(1, "API group; empty for the core group.")]
    version: Annotated[Required[str], f(2, "API version.")]
    resource: Annotated[Required[str], f(3, "Plural name of the resource, in lower case.")]
