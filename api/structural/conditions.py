"""What is to be said of a CustomResourceDefinition: which names it gets, and whether its kind is served.

Pure functions over all definitions; :mod:`kubeling.apiserver.custom.controller` writes the outcome. Whoever had a name first keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from kubeling.api.meta import Object, add_finalizer, copy_json, is_deleting, metadata_of, spec_of, status_of
from kubeling.api.structural.definition import CLEANUP_FINALIZER, condition, holds
from kubeling.api.times import format_time

ESTABLISHED, NAMES_ACCEPTED, NON_STRUCTURAL, TERMINATING = "Established", "NamesAccepted", "NonStructuralSchema", "Terminating"
APPROVED = "KubernetesAPIApprovalPolicyConformant"
APPROVAL_ANNOTATION = "api-approved.kubernetes.io"
_PROTECTED = ("k8s.io", "kubernetes.io")
Condition = dict[str, str]


def is_protected(group: str) -> bool:
    """Whether the group belongs to the Kubernetes project."""
    return group in _PROTECTED or group.endswith(tuple(f".{each}" for each in _PROTECTED))


def set_condition(status: dict[str, Any], wanted: Condition, now: datetime) -> None:
    """Put a condition into a status, in place; its time moves only where its status does."""
    found: list[Condition] = status.setdefault("conditions", [])
    for each in found:
        if each.get("type") == wanted["type"]:
            if each.get("status") != wanted["status"]:
                each["lastTransitionTime"] = format_time(now)
            each.update({key: wanted[key] for key in ("status", "reason", "message")})
            return
    found.append({"lastTransitionTime": format_time(now), **wanted})


def _condition(kind: str, status: bool, reason: str, message: str) -> Condition:
    return {"type": kind, "status": "True" if status else "False", "reason": reason, "message": message}


def reconciled(definition: Object, others: Iterable[Object], now: datetime) -> dict[str, Any]:
    """The status that the definition should have. `others` are all other definitions; `definition` is not changed."""
    status: dict[str, Any] = copy_json(dict(status_of(definition)))
    accepted, verdict = names_for(definition, others)
    status["acceptedNames"] = accepted
    set_condition(status, verdict, now)
    was_established = holds(definition, ESTABLISHED)
    if verdict["status"] == "True" and not is_deleting(definition):
        words = "the initial names have been accepted"
        if not was_established:
            set_condition(status, _condition(ESTABLISHED, True, "InitialNamesAccepted", words), now)
    elif not was_established:
        set_condition(status, _condition(ESTABLISHED, False, "NotAccepted", "not all names are accepted"), now)
    approval = _approval(definition)
    if approval is not None:
        set_condition(status, approval, now)
    if not status.get("storedVersions"):
        status["storedVersions"] = [each["name"] for each in spec_of(definition)["versions"] if each.get("storage")]
    return status


def _approval(definition: Object) -> Condition | None:
    if not is_protected(spec_of(definition)["group"]):
        return None
    value = (metadata_of(definition).get("annotations") or {}).get(APPROVAL_ANNOTATION)
    if not value:
        why = f'protected groups must have approval annotation "{APPROVAL_ANNOTATION}", see https://github.com/kubernetes/enhancements/pull/1111'
        return _condition(APPROVED, False, "MissingAnnotation", why)
    if value.startswith("unapproved"):
        return _condition(APPROVED, False, "UnapprovedAnnotation", f"not approved: {value!r}")
    return _condition(APPROVED, True, "ApprovedAnnotation", f"approved in {value}")


def seniority(definition: Object) -> tuple[str, str]:
    """A sort key: the older one first."""
    return metadata_of(definition).get("creationTimestamp") or "", metadata_of(definition)["name"]


class _Taken:
    """The names of a group that other definitions hold."""

    def __init__(self, definition: Object, others: Iterable[Object]) -> None:
        self.resources: set[str] = set()
        self.kinds: set[str] = set()
        own = seniority(definition)
        resources, kinds = _names(status_of(definition).get("acceptedNames") or {})
        for each in others:
            if spec_of(each)["group"] != spec_of(definition)["group"] or metadata_of(each)["name"] == own[-1]:
                continue
            if is_settled(each):
                its_resources, its_kinds = _names(status_of(each).get("acceptedNames") or {})
            elif seniority(each) < own:
                # Nobody has looked at it yet, but it came first: what this one was not given meanwhile is kept for it.
                its_resources, its_kinds = _names(spec_of(each)["names"])
                its_resources -= resources
                its_kinds -= kinds
            else:
                continue
            self.resources |= its_resources
            self.kinds |= its_kinds


def _names(names: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Those of resources, and those of kinds."""
    resources = (names.get("plural"), names.get("singular"), *(names.get("shortNames") or ()))
    return set(filter(None, resources)), set(filter(None, (names.get("kind"), names.get("listKind"))))


def names_for(definition: Object, others: Iterable[Object]) -> tuple[dict[str, Any], Condition]:
    """The names that the definition gets, and its NamesAccepted condition. What it cannot have stays as it was."""
    spec = spec_of(definition)
    wanted: Mapping[str, Any] = spec["names"]
    held: Mapping[str, Any] = status_of(definition).get("acceptedNames") or {}
    taken = _Taken(definition, others)
    accepted: dict[str, Any] = {}
    conflicts: list[tuple[str, str]] = []

    def settle(field: str, names: set[str], reason: str) -> None:
        name = wanted.get(field) or ""
        if name and name in names:
            conflicts.append((reason, f'"{name}" is already in use'))
            accepted[field] = held.get(field) or ""
        else:
            accepted[field] = name

    settle("plural", taken.resources, "PluralConflict")
    settle("singular", taken.resources, "SingularConflict")
    short = list(wanted.get("shortNames") or ())
    clashes = [f'"{each}" is already in use' for each in short if each in taken.resources]
    if clashes:
        conflicts.append(("ShortNamesConflict", clashes[0] if len(clashes) == 1 else f"[{', '.join(clashes)}]"))
        short = list(held.get("shortNames") or ())
    if short:
        accepted["shortNames"] = short
    settle("kind", taken.kinds, "KindConflict")
    settle("listKind", taken.kinds, "ListKindConflict")
    if wanted.get("categories"):
        accepted["categories"] = list(wanted["categories"])
    accepted = {key: value for key, value in accepted.items() if value or key in ("plural", "kind")}
    if conflicts:
        reason, message = conflicts[-1]
        return accepted, _condition(NAMES_ACCEPTED, False, reason, message)
    return accepted, _condition(NAMES_ACCEPTED, True, "NoConflicts", "no conflicts found")


def held(definition: Object) -> tuple[dict[str, Any], bool]:
    """The names that a definition has, and whether they are all that it wants."""
    return status_of(definition).get("acceptedNames") or {}, holds(definition, NAMES_ACCEPTED)


def is_settled(definition: Object) -> bool:
    """Whether its names were ever looked at."""
    return bool(condition(definition, NAMES_ACCEPTED))


def begin_termination(definition: Object, now: datetime) -> None:
    """What the first request to delete a definition does to it, in place: the objects go first."""
    add_finalizer(definition, CLEANUP_FINALIZER)
    why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    status = definition.setdefault("status", {})
    set_condition(status, _condition(TERMINATING, True, "InstanceDeletionPending", why), now)


def terminating(status: dict[str, Any], now: datetime, left: int | None) -> None:
    """Note in the status how far the deletion of the objects is; `left` None says that it begins."""
    if left is None:
        verdict = _condition(TERMINATING, True, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
    elif left:
        why = "CustomResource instances are left that finalizers hold"
        verdict = _condition(TERMINATING, True, "InstanceDeletionCheck", why)
    else:
        verdict = _condition(TERMINATING, False, "InstanceDeletionCompleted", "removed all instances")
    set_condition(status, verdict, now)
