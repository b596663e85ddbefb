"""How objects point at one another, and the selectors that several kinds share."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import atomic, f
from kubeling.api.types.scalars import Quantity


class ObjectReference(TypedDict, total=False):
    """Points at an object, or at a part of one."""

    kind: Annotated[str, f(1, "Kind of the object.")]
    namespace: Annotated[str, f(2, "Namespace of the object.")]
    name: Annotated[str, f(3, "Name of the object.")]
    uid: Annotated[str, f(4, "The one identity of an object in time and space; a namesake made later has another.")]
    apiVersion: Annotated[str, f(5, "Group and version of the object.")]
    resourceVersion: Annotated[str, f(6, "Version of the object when this was written.")]
    fieldPath: Annotated[str, f(7, "Part of the object, such as spec.containers{name}.")]


atomic(ObjectReference)


class LocalObjectReference(TypedDict, total=False):
    """Points at an object in the same namespace."""

    name: Annotated[str, f(1, "Name of the object.", default="")]


atomic(LocalObjectReference)


class SecretReference(TypedDict, total=False):
    """Points at a Secret in any namespace."""

    name: Annotated[str, f(1, "Name of the Secret.")]
    namespace: Annotated[str, f(2, "Namespace of the Secret.")]


atomic(SecretReference)


class TypedLocalObjectReference(TypedDict, total=False):
    """Points at an object of any kind in the same namespace."""

    apiGroup: Annotated[str, f(1, "API group, without version; empty for the core group.", pointer=True)]
    kind: Annotated[Required[str], f(2, "Kind of the object.")]
    name: Annotated[Required[str], f(3, "Name of the object.")]


atomic(TypedLocalObjectReference)


class TypedObjectReference(TypedDict, total=False):
    """Points at an object of any kind in any namespace."""

    apiGroup: Annotated[str, f(1, "API group, without version; empty for the core group.", pointer=True)]
    kind: Annotated[Required[str], f(2, "Kind of the object.")]
    name: Annotated[Required[str], f(3, "Name of the object.")]
    namespace: Annotated[
        str, f(4, "Namespace of the object; another than the own one needs a ReferenceGrant there.", pointer=True)
    ]


class NodeSelectorRequirement(TypedDict, total=False):
    """One test on a label or field of a node."""

    key: Annotated[Required[str], f(1, "The label's key, or the field's path.")]
    operator: Annotated[Required[str], f(2, "In, NotIn, Exists, DoesNotExist, Gt or Lt.")]
    values: Annotated[
        list[str],
        f(
            3,
            "What the operator compares with: none for Exists and DoesNotExist, one whole number for Gt and Lt.",
            list_type="atomic",
        ),
    ]


class NodeSelectorTerm(TypedDict, total=False):
    """Tests that must all hold; a term without tests matches no node."""

    matchExpressions: Annotated[list[NodeSelectorRequirement], f(1, "Tests on the node's labels.", list_type="atomic")]
    matchFields: Annotated[
        list[NodeSelectorRequirement], f(2, "Tests on the node's fields; metadata.name is the only one.", list_type="atomic")
    ]


atomic(NodeSelectorTerm)


class NodeSelector(TypedDict, total=False):
    """Terms of which one must match."""

    nodeSelectorTerms: Annotated[
        Required[list[NodeSelectorTerm]], f(1, "The terms; one that matches is enough.", list_type="atomic")
    ]


atomic(NodeSelector)


class TopologySelectorLabelRequirement(TypedDict, total=False):
    """A label and its allowed values."""

    key: Annotated[Required[str], f(1, "The label's key.")]
    values: Annotated[Required[list[str]], f(2, "The allowed values.", list_type="atomic")]


class TopologySelectorTerm(TypedDict, total=False):
    """Labels that must all have one of their allowed values."""

    matchLabelExpressions: Annotated[
        list[TopologySelectorLabelRequirement], f(1, "The labels and their allowed values.", list_type="atomic")
    ]


atomic(TopologySelectorTerm)


class ResourceClaim(TypedDict, total=False):
    """Names a claim of the pod that a container uses."""

    name: Annotated[Required[str], f(1, "Name of an entry in the pod's spec.resourceClaims.")]
    request: Annotated[str, f(2, "Name of one request in the claim; empty means everything in it.")]


class ResourceRequirements(TypedDict, total=False):
    """What a container may use, and what is set aside for it."""

    limits: Annotated[dict[str, Quantity], f(1, "The most that may be used, by resource name.")]
    requests: Annotated[dict[str, Quantity], f(2, "What is set aside, by resource name; the limit where it is not given.")]
    claims: Annotated[list[ResourceClaim], f(3, "Claims of the pod's that this container uses.", keys="name")]
