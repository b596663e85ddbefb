"""What may be said of a Job's progress: counters that fit together, an end that is not taken back.

What has not changed is not looked at again, so that what an older server let in does not block a controller.
"""

from __future__ import annotations

from typing import Any

from kubeling.api.conditions import is_true
from kubeling.api.errors import INVALID, FieldError, duplicate_value, invalid_value, required_value
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.times import parse_time
from kubeling.api.validation.common import Errors, Map, not_negative
from kubeling.api.validation.jobs import interval, len_of_indexes

_ENDS = ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet")


class _Move:
    """A status before and after."""

    def __init__(self, new: Object, old: Object) -> None:
        self.after, self.before = status_of(new), status_of(old)
        self.true = {kind: is_true(new, kind) for kind in _ENDS}
        self.was = {kind: is_true(old, kind) for kind in _ENDS}
        self.resumed = is_true(old, "Suspended") and not is_true(new, "Suspended")

    def changed(self, *names: str) -> bool:
        """Whether one of these fields or conditions did."""
        return any(
            self.true[each] != self.was[each]
            if each in self.true
            else (self.after.get(each) or None) != (self.before.get(each) or None)
            for each in names
        )


def job_status(new: Object, old: Object) -> Errors:
    """What the controller writes."""
    move, spec = _Move(new, old), spec_of(new)
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        yield from not_negative(f"status.{field}", move.after.get(field))
    yield from _uncounted(move.after.get("uncountedTerminatedPods") or {})
    yield from _ends(move)
    yield from _times(move)
    yield from _finished(move)
    yield from _indexes(move, spec)
    ready, active = move.after.get("ready") or 0, move.after.get("active") or 0
    if ready > active and move.changed("ready", "active"):
        yield invalid_value("status.ready", ready, "cannot set more ready pods than active")
    if move.true["SuccessCriteriaMet"]:
        for kind in ("Failed", "FailureTarget"):
            if move.true[kind]:
                yield _wrong(f"cannot set SuccessCriteriaMet=True and {kind}=true conditions")
    yield from _taken_back(move, spec)


def _wrong(detail: str) -> FieldError:
    return FieldError(INVALID, "status.conditions", detail=detail)


def _uncounted(waiting: Map) -> Errors:
    seen = set()
    for field in ("succeeded", "failed"):
        for at, each in enumerate(waiting.get(field) or ()):
            where = f"status.uncountedTerminatedPods.{field}[{at}]"
            if not each:
                yield invalid_value(where, each, "must not be empty")
            elif each in seen:
                yield duplicate_value(where, each)
            seen.add(each)


def _ends(move: _Move) -> Errors:
    complete, failed = move.true["Complete"], move.true["Failed"]
    if complete and failed and move.changed("Complete", "Failed"):
        yield _wrong("cannot set Complete=True and Failed=true conditions")
    if complete and move.true["FailureTarget"] and move.changed("Complete", "FailureTarget"):
        yield _wrong("cannot set Complete=True and FailureTarget=true conditions")
    if failed and not move.true["FailureTarget"] and move.changed("Failed", "FailureTarget"):
        yield _wrong("cannot set Failed=True condition without the FailureTarget=true condition")
    if complete and not move.true["SuccessCriteriaMet"] and move.changed("Complete", "SuccessCriteriaMet"):
        yield _wrong("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")


def _times(move: _Move) -> Errors:
    end, start, complete = move.after.get("completionTime"), move.after.get("startTime"), move.true["Complete"]
    if move.changed("Complete", "completionTime"):
        if end is not None and not complete:
            detail = "cannot set completionTime when there is no Complete=True condition"
            yield invalid_value("status.completionTime", end, detail)
        elif end is None and complete:
            yield required_value("status.completionTime", "completionTime is required for Complete jobs")
    if start and end and move.changed("startTime", "completionTime") and _is_before(end, start):
        yield invalid_value("status.completionTime", end, "completionTime cannot be set before startTime")


def _is_before(one: str, other: str) -> bool:
    return parse_time(one) < parse_time(other)


def _finished(move: _Move) -> Errors:
    if not move.true["Complete"] and not move.true["Failed"]:
        return
    fresh = (move.true["Complete"] or move.true["Failed"]) != (move.was["Complete"] or move.was["Failed"])
    for field in ("active", "terminating"):
        if move.after.get(field) and (fresh or move.changed(field)):
            yield invalid_value(f"status.{field}", move.after[field], f"{field}>0 is invalid for finished job")
    if not move.after.get("startTime") and (fresh or move.changed("startTime")):
        yield required_value("status.startTime", "startTime is required for finished job")
    left = move.after.get("uncountedTerminatedPods") or {}
    if (left.get("succeeded") or left.get("failed")) and (fresh or move.changed("uncountedTerminatedPods")):
        detail = "uncountedTerminatedPods needs to be empty for finished job"
        yield invalid_value("status.uncountedTerminatedPods", left, detail)


def _indexes(move: _Move, spec: Map) -> Errors:
    done, lost = move.after.get("completedIndexes") or "", move.after.get("failedIndexes")
    completions, path = spec.get("completions"), "status"
    done_changed, lost_changed = move.changed("completedIndexes"), lost != move.before.get("failedIndexes")
    if done_changed and completions is not None:
        yield from _parsed(f"{path}.completedIndexes", done, completions)
    if lost_changed and lost is not None and completions is not None and spec.get("backoffLimitPerIndex") is not None:
        yield from _parsed(f"{path}.failedIndexes", lost, completions)
    if done and done_changed and spec.get("completionMode") != "Indexed":
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        yield invalid_value(f"{path}.completedIndexes", done, detail)
    if lost is not None and lost_changed and spec.get("backoffLimitPerIndex") is None:
        detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        yield invalid_value(f"{path}.failedIndexes", lost, detail)
    if done and lost and completions is not None and (done_changed or lost_changed):
        both = _overlap(_intervals(done, completions), _intervals(lost, completions))
        if both is not None:
            detail = f"failedIndexes and completedIndexes overlap at index: {both}"
            yield invalid_value(f"{path}.failedIndexes", lost, detail)


def _parsed(path: str, text: str, completions: int) -> Errors:
    try:
        len_of_indexes(text, completions)
    except ValueError as error:
        yield invalid_value(path, text, f"error parsing {path.rpartition('.')[2]}: {error}")


def _intervals(text: str, completions: int) -> list[tuple[int, int]]:
    """Those that can be read: what is wrong with the others is said elsewhere."""
    found = []
    for part in text.split(","):
        try:
            found.append(interval(part, completions))
        except ValueError:
            continue
    return found


def _overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int | None:
    """The first index that both lists of intervals have; both are in order."""
    left, right = 0, 0
    while left < len(one) and right < len(other):
        (first, last), (begin, end) = one[left], other[right]
        if first <= end and begin <= last:
            return max(first, begin)
        if first <= begin:
            left += 1
        else:
            right += 1
    return None


def _taken_back(move: _Move, spec: Map) -> Errors:
    after, before = move.after, move.before
    for kind in ("Failed", "Complete", "FailureTarget"):
        if move.was[kind] and not move.true[kind]:
            yield _wrong(f"cannot disable the terminal {kind}=True condition")

    def fell(field: str) -> Any:
        return (after.get(field) or 0) < (before.get(field) or 0)

    if fell("failed"):
        yield invalid_value("status.failed", after.get("failed") or 0, "cannot decrease the failed counter")
    # An Indexed job that shrinks counts fewer of its indexes.
    shrinks = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if fell("succeeded") and not shrinks:
        yield invalid_value("status.succeeded", after.get("succeeded") or 0, "cannot decrease the succeeded counter")
    end, start = after.get("completionTime"), before.get("startTime")
    if end and before.get("completionTime") and end != before["completionTime"]:
        yield invalid_value("status.completionTime", end, "completionTime cannot be mutated")
    # Upstream has let a resumed Job start anew since 1.33.6.
    if start and start != after.get("startTime") and not spec.get("suspend") and not (move.resumed and after.get("startTime")):
        yield required_value("status.startTime", "startTime cannot be removed for unsuspended job")
    if move.was["SuccessCriteriaMet"] and not move.true["SuccessCriteriaMet"]:
        yield _wrong("cannot disable the SuccessCriteriaMet=True condition")
    if move.was["Complete"] and not move.was["SuccessCriteriaMet"] and move.true["SuccessCriteriaMet"]:
        yield _wrong("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
