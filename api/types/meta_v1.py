"""What every object has in common: metadata, selectors, conditions, and the envelopes around objects."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import atomic, f
from kubeling.api.types.scalars import FieldsV1, Int32, Int64, RawExtension, Time


class TypeMeta(TypedDict, total=False):
    """What kind of object it is."""

    kind: Annotated[str, f(1, "Kind of the object.")]
    apiVersion: Annotated[str, f(2, "Group and version of the object.")]


class OwnerReference(TypedDict, total=False):
    """An object that this one belongs to; in the same namespace, or without one."""

    apiVersion: Annotated[Required[str], f(5, "Group and version of the owner.")]
    kind: Annotated[Required[str], f(1, "Kind of the owner.")]
    name: Annotated[Required[str], f(3, "Name of the owner.")]
    uid: Annotated[Required[str], f(4, "UID of the owner.")]
    controller: Annotated[bool, f(6, "Whether this is the one owner that manages the object.", pointer=True)]
    blockOwnerDeletion: Annotated[bool, f(7, "Whether a foreground deletion of the owner waits for this object.", pointer=True)]


atomic(OwnerReference)


class ManagedFieldsEntry(TypedDict, total=False):
    """Which fields somebody manages."""

    manager: Annotated[str, f(1, "Who.")]
    operation: Annotated[str, f(2, "Apply or Update.")]
    apiVersion: Annotated[str, f(3, "Version in which the fields are written.")]
    time: Annotated[Time, f(4, "When it was last changed.", pointer=True)]
    fieldsType: Annotated[str, f(6, "FieldsV1.")]
    fieldsV1: Annotated[FieldsV1, f(7, "The set of fields.", pointer=True)]
    subresource: Annotated[str, f(8, "Subresource that was written; empty for the object itself.")]


class ObjectMeta(TypedDict, total=False):
    """Name, labels, owners and the rest that every object carries."""

    name: Annotated[str, f(1, "Name, unique for the kind in the namespace; cannot be changed.")]
    generateName: Annotated[str, f(2, "Start of the name that is made up where there is none.")]
    namespace: Annotated[str, f(3, "Namespace; empty for kinds without. Cannot be changed.")]
    selfLink: Annotated[str, f(4, "Old link to the object; no longer set.")]
    uid: Annotated[str, f(5, "The one identity of the object in time and space; set by the system.")]
    resourceVersion: Annotated[str, f(6, "Version of the object for watches and for optimistic locking; opaque.")]
    generation: Annotated[Int64, f(7, "Grows with every change of what is wanted; set by the system.")]
    creationTimestamp: Annotated[Time, f(8, "When it was created; set by the system.")]
    deletionTimestamp: Annotated[Time, f(9, "When it is to go; set by the system when its deletion is asked for.", pointer=True)]
    deletionGracePeriodSeconds: Annotated[
        Int64, f(10, "Seconds of grace until then; set together with deletionTimestamp.", pointer=True)
    ]
    labels: Annotated[dict[str, str], f(11, "Keys and values by which objects are selected.")]
    annotations: Annotated[dict[str, str], f(12, "Keys and values of any kind, for tools.")]
    ownerReferences: Annotated[
        list[OwnerReference], f(13, "Objects that it belongs to; it is collected when all are gone.", merge_key="uid", keys="uid")
    ]
    finalizers: Annotated[list[str], f(14, "What must be removed before it can go.", strategy="merge", list_type="set")]
    managedFields: Annotated[list[ManagedFieldsEntry], f(17, "Who manages which fields.", list_type="atomic")]


class Typed(TypedDict, total=False):
    """What stands at the top of everything that is sent on its own."""

    apiVersion: Annotated[str, f(0, "Group and version of the object, as in apps/v1.")]
    kind: Annotated[str, f(0, "Kind of the object.")]


class KubeObject(Typed, total=False):
    """An object of any kind."""

    metadata: Annotated[ObjectMeta, f(1, "Name, labels, owners and the rest that every object carries.")]


_ListMetaWords = TypedDict(
    "_ListMetaWords", {"continue": Annotated[str, f(3, "Token for the next page; empty at the end.")]}, total=False
)


class ListMeta(_ListMetaWords, total=False):
    """Version and paging of a list."""

    selfLink: Annotated[str, f(1, "Old link to the list; no longer set.")]
    resourceVersion: Annotated[str, f(2, "Version at which the list was made.")]
    remainingItemCount: Annotated[Int64, f(4, "How many are still to come, where it is known.", pointer=True)]


class KubeList(Typed, total=False):
    """A list of any kind."""

    metadata: Annotated[ListMeta, f(1, "Version and paging of the list.")]


class LabelSelectorRequirement(TypedDict, total=False):
    """A test on a label."""

    key: Annotated[Required[str], f(1, "Key of the label.")]
    operator: Annotated[Required[str], f(2, "In, NotIn, Exists or DoesNotExist.")]
    values: Annotated[list[str], f(3, "Values to compare with, for In and NotIn.", list_type="atomic")]


class FieldSelectorRequirement(TypedDict, total=False):
    """A test on a field."""

    key: Annotated[Required[str], f(1, "Path of the field.")]
    operator: Annotated[Required[str], f(2, "In, NotIn, Exists or DoesNotExist.")]
    values: Annotated[list[str], f(3, "Values to compare with, for In and NotIn.", list_type="atomic")]


class LabelSelector(TypedDict, total=False):
    """Tests on labels that must all hold; without any, everything matches."""

    matchLabels: Annotated[dict[str, str], f(1, "Labels that must have exactly this value.")]
    matchExpressions: Annotated[list[LabelSelectorRequirement], f(2, "Further tests.", list_type="atomic")]


atomic(LabelSelector)


class Condition(TypedDict, total=False):
    """One observation of an object."""

    type: Annotated[Required[str], f(1, "What the condition is about.")]
    status: Annotated[Required[str], f(2, "True, False or Unknown.")]
    observedGeneration: Annotated[Int64, f(3, "The metadata.generation that it was made from.")]
    lastTransitionTime: Annotated[Required[Time], f(4, "When the status last changed.")]
    reason: Annotated[Required[str], f(5, "One CamelCase word for the last change, for programs.")]
    message: Annotated[Required[str], f(6, "Details of the last change, for people.")]


class StatusCause(TypedDict, total=False):
    """One cause of a failure."""

    reason: Annotated[str, f(1, "The cause, in one word.")]
    message: Annotated[str, f(2, "The cause, for people.")]
    field: Annotated[str, f(3, "Path of the field that is to blame, such as items[0].name.")]


class StatusDetails(TypedDict, total=False):
    """More about an answer."""

    name: Annotated[str, f(1, "Name of the object.")]
    group: Annotated[str, f(2, "API group of the object.")]
    kind: Annotated[str, f(3, "Kind or resource of the object.")]
    uid: Annotated[str, f(6, "UID of the object.")]
    causes: Annotated[list[StatusCause], f(4, "What caused the failure.", list_type="atomic")]
    retryAfterSeconds: Annotated[Int32, f(5, "Seconds after which to try again.")]


class Status(Typed, total=False):
    """The outcome of a request that does not answer with an object."""

    metadata: Annotated[ListMeta, f(1, "Version and paging; mostly empty.")]
    status: Annotated[str, f(2, "Success or Failure.")]
    message: Annotated[str, f(3, "What happened, for people.")]
    reason: Annotated[str, f(4, "What happened, in one CamelCase word, for programs.")]
    details: Annotated[StatusDetails, f(5, "More about it.", pointer=True, list_type="atomic")]
    code: Annotated[Int32, f(6, "HTTP status code.")]


class PartialObjectMetadata(KubeObject, total=False):
    """The metadata of an object, without the rest."""


class PartialObjectMetadataList(KubeList, total=False):
    """A list of metadata."""

    items: Annotated[Required[list[PartialObjectMetadata]], f(2, "The metadata.")]


class List(KubeList, total=False):
    """A list of objects of any kind."""

    items: Annotated[Required[list[RawExtension]], f(2, "The objects.")]


class WatchEvent(TypedDict, total=False):
    """A change that a watch tells of."""

    type: Annotated[Required[str], f(1, "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.")]
    object: Annotated[Required[RawExtension], f(2, "The object after the change, or a Status for ERROR.")]
