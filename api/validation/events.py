"""Events, which live beside what they are about. Both APIs store the one form of core/v1, and it is this form that is checked."""

from __future__ import annotations

from kubeling.api import names
from kubeling.api.errors import invalid_value, required_value
from kubeling.api.meta import Object, namespace_of
from kubeling.api.validation.common import Errors, checked, unchanged

_LIMITS = (("reportingInstance", 128), ("action", 128), ("reason", 128))
_MAX_NOTE = 1024
_FIXED = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)


def event(obj: Object) -> Errors:
    """What clients of either API must say; one with an eventTime was made by the newer rules."""
    about, own = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace") or "", namespace_of(obj)
    modern = bool(obj.get("eventTime"))
    allowed = (about,) if about and not modern else ("default", "kube-system") if modern else ("default", "")
    if own not in allowed and not (about and modern):
        yield invalid_value("involvedObject.namespace", about, "does not match event.namespace")
    if modern:
        reporter = obj.get("reportingComponent") or ""
        if not reporter:
            yield required_value("reportingComponent")
        yield from checked("reportingComponent", reporter, names.qualified_name)
        for field, limit in _LIMITS:
            if not obj.get(field):
                yield required_value(field)
            elif len(obj[field]) > limit:
                yield invalid_value(field, "", f"can have at most {limit} characters")
        if len((obj.get("message") or "").encode()) > _MAX_NOTE:
            yield invalid_value("message", "", f"can have at most {_MAX_NOTE} characters")


def strict_event(obj: Object) -> Errors:
    """What events.k8s.io/v1 asks for besides."""
    yield from _series(obj)
    if not obj.get("eventTime"):
        yield required_value("eventTime")
    kind = obj.get("type") or ""
    if kind not in ("Normal", "Warning"):
        yield invalid_value("type", "", f"has invalid value: {kind}")
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if obj.get(field):
            yield invalid_value(field, "", "needs to be unset")
    if any((obj.get("source") or {}).values()):
        yield invalid_value("source", "", "needs to be unset")


def strict_event_update(new: Object, old: Object) -> Errors:
    """Only a series goes on."""
    if new.get("series") != old.get("series"):
        yield from _series(new)
    for field in _FIXED:
        yield from unchanged(field, new.get(field), old.get(field))


def _series(obj: Object) -> Errors:
    series = obj.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        yield invalid_value("series.count", "", "should be at least 2")
    if not series.get("lastObservedTime"):
        yield required_value("series.lastObservedTime")
