"""Options of requests."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import Typed
from kubeling.api.types.scalars import Int64


class Preconditions(TypedDict, total=False):
    """What must hold for an operation to be carried out."""

    uid: Annotated[str, f(1, "The object must have this UID.", pointer=True)]
    resourceVersion: Annotated[str, f(2, "The object must be at this version.", pointer=True)]


class DeleteOptions(Typed, total=False):
    """How to delete."""

    gracePeriodSeconds: Annotated[Int64, f(1, "Seconds of grace; 0 is at once, the kind's own period by default.", pointer=True)]
    preconditions: Annotated[Preconditions, f(2, "What must hold; else the answer is 409.", pointer=True)]
    orphanDependents: Annotated[bool, f(3, "Old form of propagationPolicy: true for Orphan, false for Background.", pointer=True)]
    propagationPolicy: Annotated[str, f(4, "Orphan, Background or Foreground: what becomes of dependents.", pointer=True)]
    dryRun: Annotated[list[str], f(5, "All means that every stage runs but nothing is stored.", list_type="atomic")]
    ignoreStoreReadErrorWithClusterBreakingPotential: Annotated[
        bool, f(6, "Delete even what can no longer be read from the store; dangerous.", pointer=True)
    ]


class GetOptions(Typed, total=False):
    """How to get."""

    resourceVersion: Annotated[str, f(1, "The answer must not be older than this.")]


_ListOptionsWords = TypedDict("_ListOptionsWords", {"continue": Annotated[str, f(8, "Token from the last page.")]}, total=False)


class ListOptions(Typed, _ListOptionsWords, total=False):
    """How to list or watch."""

    labelSelector: Annotated[str, f(1, "Only objects with such labels, in text form.")]
    fieldSelector: Annotated[str, f(2, "Only objects with such fields, in text form.")]
    watch: Annotated[bool, f(3, "Watch instead of list.")]
    allowWatchBookmarks: Annotated[bool, f(9, "Whether BOOKMARK events are wanted.")]
    resourceVersion: Annotated[str, f(4, "Version from which to watch, or that a list must not be older than.")]
    resourceVersionMatch: Annotated[str, f(10, "NotOlderThan or Exact: how resourceVersion binds a list.")]
    timeoutSeconds: Annotated[Int64, f(5, "Seconds after which the answer ends.", pointer=True)]
    limit: Annotated[Int64, f(7, "Most objects on a page.")]
    sendInitialEvents: Annotated[
        bool, f(11, "Whether a watch begins with the objects that are there, and a bookmark.", pointer=True)
    ]


class CreateOptions(Typed, total=False):
    """How to create."""

    dryRun: Annotated[list[str], f(1, "All means that every stage runs but nothing is stored.", list_type="atomic")]
    fieldManager: Annotated[str, f(3, "Who makes the change; recorded in managedFields.")]
    fieldValidation: Annotated[str, f(4, "What to do about unknown or repeated fields: Ignore, Warn (the default) or Strict.")]


class UpdateOptions(Typed, total=False):
    """How to update."""

    dryRun: Annotated[list[str], f(1, "All means that every stage runs but nothing is stored.", list_type="atomic")]
    fieldManager: Annotated[str, f(2, "Who makes the change; recorded in managedFields.")]
    fieldValidation: Annotated[str, f(3, "What to do about unknown or repeated fields: Ignore, Warn (the default) or Strict.")]


class PatchOptions(Typed, total=False):
    """How to patch."""

    dryRun: Annotated[list[str], f(1, "All means that every stage runs but nothing is stored.", list_type="atomic")]
    force: Annotated[bool, f(2, "Take over fields that others manage; only for apply.", pointer=True)]
    fieldManager: Annotated[str, f(3, "Who makes the change; recorded in managedFields.")]
    fieldValidation: Annotated[str, f(4, "What to do about unknown or repeated fields: Ignore, Warn (the default) or Strict.")]


class ApplyOptions(Typed, total=False):
    """How to apply."""

    dryRun: Annotated[list[str], f(1, "All means that every stage runs but nothing is stored.", list_type="atomic")]
    force: Annotated[Required[bool], f(2, "Take over fields that others manage.")]
    fieldManager: Annotated[Required[str], f(3, "Who makes the change; recorded in managedFields.")]


class TableOptions(Typed, total=False):
    """How to make a table."""

    includeObject: Annotated[str, f(1, "None, Metadata or Object: what goes with a row; Metadata by default.")]


class Patch(TypedDict, total=False):
    """Any patch; its form is told by the content type."""
