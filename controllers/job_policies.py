"""What the failures and successes of single pods mean for a Job: pod failure policy (KEP-3329), back-off by index (KEP-3850), success policy (KEP-3998).

How often an index has failed stands in an annotation of the pod that replaced the failed one. So the newest failed pod of an index keeps its finalizer, uncounted, until its
replacement exists: nothing is forgotten by a crash between the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from kubeling.api.meta import annotations_of, finalizers_of, is_deleting, name_of, namespace_of, spec_of, status_of
from kubeling.api.pods import phase_of
from kubeling.controllers import job_indexes as indexes
from kubeling.controllers.context import Obj

TRACKING = "batch.kubernetes.io/job-tracking"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


class Verdict(NamedTuple):
    """The rule that a failed pod matches: FailJob, FailIndex, Ignore or Count, and why."""

    action: str
    message: str


class Failures(NamedTuple):
    """How often an index has failed before: what counts, and what is ignored."""

    counted: int = 0
    ignored: int = 0


def tracked(pod: Obj) -> bool:
    """Whether the pod is still to be counted."""
    return TRACKING in finalizers_of(pod)


def replaces_early(job: Obj) -> bool:
    """Whether a terminating pod is replaced before it has stopped."""
    policy = spec_of(job).get("podReplacementPolicy") or (
        "Failed" if spec_of(job).get("podFailurePolicy") else "TerminatingOrFailed"
    )
    return bool(policy == "TerminatingOrFailed")


def has_succeeded(pod: Obj) -> bool:
    """Whether it has ended well."""
    return phase_of(pod) == "Succeeded"


def has_failed(pod: Obj, job: Obj) -> bool:
    """Failed; or on its way out, unless the Job wants to wait for how that ends."""
    if phase_of(pod) == "Failed":
        return True
    return replaces_early(job) and is_deleting(pod) and not has_succeeded(pod)


# -- pod failure policy ----------------------------------------------------------------------------------------------------------------


def verdict(job: Obj, pod: Obj) -> Verdict | None:
    """The first rule of the Job's pod failure policy that a failed pod matches."""
    for number, rule in enumerate((spec_of(job).get("podFailurePolicy") or {}).get("rules") or ()):
        action = rule.get("action", "")
        if action == "FailIndex" and not by_index(job):
            continue
        what = _by_exit_code(pod, rule["onExitCodes"]) if rule.get("onExitCodes") else _by_condition(pod, rule)
        if what:
            return Verdict(action, f"{what} matching {action} rule at index {number}")
    return None


def _by_exit_code(pod: Obj, wanted: dict[str, Any]) -> str:
    status = status_of(pod)
    for each in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        code = ((each.get("state") or {}).get("terminated") or {}).get("exitCode") or 0
        if code == 0 or (wanted.get("containerName") is not None and wanted["containerName"] != each.get("name")):
            continue
        if (code in (wanted.get("values") or ())) == (wanted.get("operator") == "In"):
            return f"Container {each.get('name')} for pod {namespace_of(pod)}/{name_of(pod)} failed with exit code {code}"
    return ""


def _by_condition(pod: Obj, rule: dict[str, Any]) -> str:
    has = {each.get("type"): each.get("status") for each in status_of(pod).get("conditions") or ()}
    for pattern in rule.get("onPodConditions") or ():
        if has.get(pattern.get("type")) == (pattern.get("status") or "True"):
            return f"Pod {namespace_of(pod)}/{name_of(pod)} has condition {pattern.get('type')}"
    return ""


def is_ignored(job: Obj, pod: Obj) -> bool:
    """Whether this pod's failure counts for nothing."""
    found = verdict(job, pod) if phase_of(pod) == "Failed" else None
    return found is not None and found.action == "Ignore"


def fails_job(job: Obj, mine: Iterable[Obj]) -> str:
    """Why the whole Job has failed by its policy, or nothing."""
    for pod in mine:
        found = verdict(job, pod) if phase_of(pod) == "Failed" else None
        if found is not None and found.action == "FailJob":
            return found.message
    return ""


# -- by index --------------------------------------------------------------------------------------------------------------------------


def by_index(job: Obj) -> bool:
    """Whether failures are counted for each index of its own."""
    return spec_of(job).get("backoffLimitPerIndex") is not None and spec_of(job).get("completionMode") == "Indexed"


def failures_before(pod: Obj) -> Failures:
    """How often the index of this pod had failed before the pod was made."""
    found = annotations_of(pod)
    counted, ignored = found.get(FAILURES) or "0", found.get(IGNORED_FAILURES) or "0"
    return Failures(int(counted) if counted.isdecimal() else 0, int(ignored) if ignored.isdecimal() else 0)


def failures_with(job: Obj, pod: Obj) -> Failures:
    """The same, with the failure of this pod."""
    before = failures_before(pod)
    if is_ignored(job, pod):
        return Failures(before.counted, before.ignored + 1)
    return Failures(before.counted + 1, before.ignored)


def failed_indexes(job: Obj, mine: Iterable[Obj]) -> set[int]:
    """The indexes that are given up: those that the status says, and those of pods that have failed once too often, or by a rule."""
    spec = spec_of(job)
    completions, limit = int(spec.get("completions") or 0), int(spec.get("backoffLimitPerIndex") or 0)
    found = indexes.parse(status_of(job).get("failedIndexes"), completions)
    for pod in mine:
        index = indexes.index_of(pod)
        if index is None or index >= completions or not tracked(pod) or not has_failed(pod, job):
            continue
        rule = verdict(job, pod) if phase_of(pod) == "Failed" else None
        if (rule is not None and rule.action == "FailIndex") or (
            (rule is None or rule.action != "Ignore") and failures_before(pod).counted >= limit
        ):
            found.add(index)
    return found


def waiting_for_successor(job: Obj, mine: Sequence[Obj], settled: Collection[int]) -> dict[int, Obj]:
    """For each index that is neither settled nor at work: the newest pod that failed, which has to stay until its replacement exists."""
    if not by_index(job):
        return {}
    completions = int(spec_of(job).get("completions") or 0)
    busy = {indexes.index_of(each) for each in mine if not has_failed(each, job)}
    newest: dict[int, Obj] = {}
    for pod in mine:
        index = indexes.index_of(pod)
        if index is None or index >= completions or index in settled or index in busy:
            continue
        if tracked(pod) and has_failed(pod, job):
            known = newest.get(index)
            if known is None or sum(failures_before(known)) <= sum(failures_before(pod)):
                newest[index] = pod
    return newest


def failure_annotations(failures: Failures | None) -> dict[str, str]:
    """What a pod of a Job with back-off by index says of the failures before it; None for another Job's."""
    if failures is None:
        return {}
    said = {FAILURES: str(failures.counted)}
    if failures.ignored:
        said[IGNORED_FAILURES] = str(failures.ignored)
    return said


# -- success policy --------------------------------------------------------------------------------------------------------------------


def success_rule(job: Obj, done: Collection[int]) -> int | None:
    """The number of the first rule of the success policy that the completed indexes satisfy."""
    spec = spec_of(job)
    completions = int(spec.get("completions") or 0)
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        relevant, count = set(done), rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = indexes.parse(rule["succeededIndexes"], completions)
            relevant &= wanted
            count = len(wanted) if count is None else count
        if count is not None and len(relevant) >= int(count) > 0:
            return number
    return None
