"""Stages: what happens to an object next, and when. No I/O and no clock.

A stage has a selector, a delay and a next state. Of the stages that an object matches one is chosen by weight; when its delay is over, what it says is
done, and the object is looked at again. The words are those of kwok's Stage, so what people have written for that can be read; what we add is `action` (what a
container runtime would have done, see :mod:`podlife`) beside `status` (what is to be written as it stands).

Chance is drawn from the object's uid, so that a process that starts again comes to the same choice, and delays count from the object's last change,
so that nobody waits anew because we were away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from kubeling.api.meta import Object, annotations_of, is_deleting, labels_of, metadata_of, status_of, uid_of
from kubeling.api.times import parse_duration, parse_time
from kubeling.kubelet.hollow.expressions import Path, as_text, values

#: What paths lead to in one object, by their text: stages ask for the same few again and again.
Seen = dict[str, list[Any]]
Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
#: No stage is done to one object more often than this, in seconds.
SHORTEST = 1.0
_DELETION = ".metadata.deletionTimestamp"


class BadValue(ValueError):
    """A value of an object cannot be read as a delay; the text says which."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """`text` is the path as it was written."""

    text: str
    path: Path
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, obj: Object, seen: Seen) -> bool:
        found = seen.get(self.text)
        if found is None:
            found = seen[self.text] = values(obj, self.path)
        if self.operator == "Exists":
            return bool(found)
        if self.operator == "DoesNotExist":
            return not found
        inside = any(as_text(each) in self.values for each in found)
        return inside if self.operator == "In" else not inside


@dataclass(frozen=True, slots=True)
class Selector:
    """All of it must hold."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[Requirement, ...] = ()

    def matches(self, obj: Object, seen: Seen) -> bool:
        return (
            (not self.labels or _within(self.labels, labels_of(obj)))
            and (not self.annotations or _within(self.annotations, annotations_of(obj)))
            and all(each.holds(obj, seen) for each in self.requirements)
        )

    @property
    def about_deletion(self) -> bool:
        """Whether it asks for objects that are being deleted."""
        return any(each.text.startswith(_DELETION) and each.operator in ("Exists", "In") for each in self.requirements)


def _within(wanted: Mapping[str, str], have: Mapping[str, str]) -> bool:
    return all(have.get(key) == value for key, value in wanted.items())


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds; with a `jitter`, anything from `seconds` up to it. What an object says itself (`source`, `jitter_source`) comes first."""

    seconds: float = 0.0
    jitter: float | None = None
    source: Path | None = None
    jitter_source: Path | None = None
    #: Doubled with every restart of the container that was restarted most, up to the other; 0 for none.
    backoff: float = 0.0
    backoff_limit: float = 300.0

    def of(self, obj: Object, fraction: float, since: datetime) -> float:
        """The delay for `obj`, counted from `since`; `fraction` is chance, from 0 to 1. Raises BadValue."""
        low, high = _span(obj, self.source, self.seconds, since)
        if self.jitter_source is not None or self.jitter is not None:
            _, latest = _span(obj, self.jitter_source, self.jitter if self.jitter is not None else high, since)
            low, high = min(low, latest), latest
        if self.backoff:
            restarts = max((each.get("restartCount") or 0 for each in _container_statuses(obj)), default=0)
            low = high = min(self.backoff_limit, self.backoff * 2 ** min(restarts, 30))
        return max(0.0, low + (high - low) * fraction)


def _container_statuses(obj: Object) -> Iterable[dict[str, Any]]:
    status = status_of(obj)
    for name in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(name) or ()


def _span(obj: Object, source: Path | None, default: float, since: datetime) -> tuple[float, float]:
    found = values(obj, source) if source is not None else []
    return parse_span(as_text(found[0]), since) if found else (default, default)


def parse_span(text: str, since: datetime) -> tuple[float, float]:
    """Seconds from and to: of `5s`, `2s-5s`, `1.5` (seconds) or a moment in RFC 3339. Raises BadValue."""
    try:
        if "T" in text and ":" in text:
            seconds = (parse_time(text) - since).total_seconds()
            return seconds, seconds
        first, _, last = text.partition("-")
        low = _seconds(first)
        return low, _seconds(last) if last else low
    except ValueError as error:
        raise BadValue(f"{text!r} is no duration such as 5s or 2s-5s, and no time") from error


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_duration(text.strip()).total_seconds()


@dataclass(frozen=True, slots=True)
class Next:
    """What is done. `options` are those of the action; `status` is merged into the object's."""

    action: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] | None = None
    event: tuple[Literal["Normal", "Warning"], str, str] | None = None
    add_finalizers: tuple[str, ...] = ()
    remove_finalizers: tuple[str, ...] = ()
    empty_finalizers: bool = False
    delete: bool = False

    def finalizers(self, have: Sequence[str]) -> list[str]:
        """What the object's finalizers become."""
        if self.empty_finalizers:
            kept: list[str] = []
        else:
            kept = [each for each in have if each not in self.remove_finalizers]
        return [*kept, *(each for each in self.add_finalizers if each not in kept)]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage for objects of `kind` (Pod or Node)."""

    name: str
    kind: str
    selector: Selector
    next: Next
    delay: Delay = field(default_factory=Delay)
    #: Stages of weight 0 are only for objects that no other stage wants.
    weight: int = 1
    weight_source: Path | None = None

    def weight_for(self, obj: Object) -> int:
        found = values(obj, self.weight_source) if self.weight_source is not None else []
        try:
            return max(0, int(found[0])) if found else self.weight
        except (TypeError, ValueError):
            return self.weight


def choose(stages: Iterable[Stage], obj: Object, done: Collection[str] = ()) -> Stage | None:
    """The stage that comes next for `obj`, None where there is none; those named in `done` have nothing more to do.

    An object that is being deleted is only a matter of stages that ask for that: else one that always matches would keep it for ever.
    """
    deleting = is_deleting(obj)
    seen: Seen = {}
    stages = [each for each in stages if each.name not in done] if done else stages
    found = [each for each in stages if (not deleting or each.selector.about_deletion) and each.selector.matches(obj, seen)]
    if len(found) <= 1:
        return found[0] if found else None
    weights = [each.weight_for(obj) for each in found]
    total = sum(weights)
    if total == 0:
        return found[0]
    at = chance(obj, "choice") * total
    for stage, weight in zip(found, weights, strict=True):
        at -= weight
        if weight and at < 0:
            return stage
    return next(stage for stage, weight in zip(found, weights, strict=True) if weight)


def chance(obj: Object, purpose: str) -> float:
    """A number from 0 to below 1 that is the same whenever the same is asked about an object in the same state."""
    key = f"{uid_of(obj)}/{purpose}/{last_change(obj)}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big") / (1 << 56)


def last_change(obj: Object) -> str:
    """When the object came into the state that it is in, as far as it says so; the empty string where it does not."""
    status, metadata = status_of(obj), metadata_of(obj)
    moments = [metadata.get("creationTimestamp") or "", status.get("startTime") or ""]
    moments += [each.get("lastTransitionTime") or "" for each in status.get("conditions") or ()]
    for each in _container_statuses(obj):
        state = each.get("state") or {}
        moments.append((state.get("running") or {}).get("startedAt") or "")
        moments.append((state.get("terminated") or {}).get("finishedAt") or "")
        moments.append(((each.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or "")
    # All are of one form, in which the later one is the greater.
    return max(moments)


def deletion_began(obj: Object) -> datetime | None:
    """When somebody asked for the object's end; None where nobody has."""
    from datetime import timedelta

    metadata = metadata_of(obj)
    if not metadata.get("deletionTimestamp"):
        return None
    grace = metadata.get("deletionGracePeriodSeconds") or 0
    return parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=grace)
