"""Jobs and CronJobs: what they run and how it may fail. What may be said of their progress is in `jobstatus`."""

from __future__ import annotations

import re
import zoneinfo
from typing import Any

from kubeling.api import cron, labels, names
from kubeling.api.errors import (
    INVALID,
    FieldError,
    duplicate_value,
    invalid_value,
    required_value,
    too_long_value,
    too_many_values,
    unsupported_value,
)
from kubeling.api.meta import Object, copy_json, name_of, spec_of, status_of, uid_of
from kubeling.api.validation.common import (
    Errors,
    Map,
    checked,
    domain_prefixed_path,
    label_selector,
    not_negative,
    one_of,
    selects,
    unchanged,
)
from kubeling.api.validation.pod import template

_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_MANY, _MANY_AT_ONCE = 100_000, 10_000
_MAX_RULES, _MAX_CODES, _MAX_INDEXES, _MAX_MANAGER = 20, 255, 64 * 1024, 63
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")
_REPLACEMENT = ("Failed", "TerminatingOrFailed")


def job(obj: Object) -> Errors:
    """A Job that is created."""
    spec = spec_of(obj)
    if not spec.get("manualSelector") and spec.get("selector") is not None and uid_of(obj):
        yield from _generated(obj, spec)
    yield from job_spec("spec", spec)
    yield from _selects_its_own(spec)
    completions = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and completions:
        last = f"{name_of(obj)}-{completions - 1}"
        if names.dns1123_label(last):
            detail = f"will not able to create pod with invalid DNS label: {last}"
            yield invalid_value("metadata.name", name_of(obj), detail)


def _generated(obj: Object, spec: Map) -> Errors:
    """The selector that the server makes, and the labels that it goes by."""
    expected: dict[str, str] = {}
    found = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    for domain in ("", "batch.kubernetes.io/"):
        for label, value in (("controller-uid", uid_of(obj)), ("job-name", name_of(obj))):
            key = f"{domain}{label}"
            expected[key] = value
            if key not in found:
                yield required_value(f"spec.template.metadata.labels[{key}]", f"must be '{value}'")
            elif found[key] != value:
                yield invalid_value("spec.template.metadata.labels", found, f"must be '{value}'")
    try:
        selector = labels.from_selector(spec["selector"])
    except ValueError:
        return
    if not selector.matches(expected):
        yield invalid_value("spec.selector", spec["selector"], "`selector` not auto-generated")


def _selects_its_own(spec: Map) -> Errors:
    selector = spec.get("selector")
    if selector is None:
        yield required_value("spec.selector")
        return
    yield from label_selector("spec.selector", selector)
    found = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not selects(selector, found):
        yield invalid_value("spec.template.metadata.labels", found, "`selector` does not match template `labels`")


def job_spec(path: str, spec: Map) -> Errors:
    """The spec of a Job, wherever it stands."""
    for field in _COUNTS:
        yield from not_negative(f"{path}.{field}", spec.get(field))
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield required_value(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    manager = spec.get("managedBy")
    if manager is not None:
        yield from domain_prefixed_path(f"{path}.managedBy", manager)
        if len(manager) > _MAX_MANAGER:
            yield too_long_value(f"{path}.managedBy", _MAX_MANAGER)
    yield from _mode(path, spec)
    policy = spec.get("podFailurePolicy")
    if policy is not None:
        yield from _failures(f"{path}.podFailurePolicy", policy, spec)
    if spec.get("successPolicy") is not None:
        yield from _success(f"{path}.successPolicy", spec["successPolicy"], spec)
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if policy is not None else _REPLACEMENT
    if replacement is not None and replacement not in allowed:
        yield unsupported_value(f"{path}.podReplacementPolicy", replacement, allowed)
    found = spec.get("template") or {}
    yield from template(f"{path}.template", found)
    restart = (found.get("spec") or {}).get("restartPolicy")
    where = f"{path}.template.spec.restartPolicy"
    if restart in ("", None, "Always"):
        yield required_value(where, 'valid values: "OnFailure", "Never"')
    elif restart not in ("OnFailure", "Never"):
        yield unsupported_value(where, restart, ("OnFailure", "Never"))
    elif policy is not None and restart != "Never":
        yield invalid_value(where, restart, 'only "Never" is supported when podFailurePolicy is specified')


def _mode(path: str, spec: Map) -> Errors:
    mode, completions, parallelism = spec.get("completionMode"), spec.get("completions"), spec.get("parallelism")
    most = spec.get("maxFailedIndexes")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        yield unsupported_value(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode in (None, "NonIndexed"):
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                yield invalid_value(f"{path}.{field}", spec[field], "requires indexed completion mode")
    if mode != "Indexed":
        return
    if completions is None:
        yield required_value(f"{path}.completions", "when completion mode is Indexed")
    if parallelism is not None and parallelism > _MANY:
        detail = f"must be less than or equal to {_MANY} when completion mode is Indexed"
        yield invalid_value(f"{path}.parallelism", parallelism, detail)
    if most is not None and completions is not None and most > completions:
        yield invalid_value(f"{path}.maxFailedIndexes", most, "must be less than or equal to completions")
    if most is not None and most > _MANY:
        yield invalid_value(f"{path}.maxFailedIndexes", most, f"must be less than or equal to {_MANY}")
    if completions is not None and completions > _MANY and spec.get("backoffLimitPerIndex") is not None:
        if most is None:
            yield required_value(f"{path}.maxFailedIndexes", f"must be specified when completions is above {_MANY}")
        for field, value in (("parallelism", parallelism), ("maxFailedIndexes", most)):
            if value is not None and value > _MANY_AT_ONCE:
                detail = f"must be less than or equal to {_MANY_AT_ONCE} when completions are above {_MANY}"
                yield invalid_value(f"{path}.{field}", value, f"{detail} and used with backoff limit per index")


def _listed(values: tuple[str, ...]) -> str:
    """As Go prints a list of strings."""
    shown = " ".join(f'"{each}"' for each in values)
    return f"valid values: [{shown}]"


def _failures(path: str, policy: Map, spec: Map) -> Errors:
    """podFailurePolicy (KEP-3329)."""
    rules = policy.get("rules") or []
    if len(rules) > _MAX_RULES:
        yield too_many_values(f"{path}.rules", len(rules), _MAX_RULES)
    pod = (spec.get("template") or {}).get("spec") or {}
    held = {each.get("name") for field in ("containers", "initContainers") for each in pod.get(field) or ()}
    for at, rule in enumerate(rules):
        where, action = f"{path}.rules[{at}]", rule.get("action")
        if not action:
            yield required_value(f"{where}.action", _listed(_ACTIONS))
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            yield invalid_value(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        elif action not in _ACTIONS:
            yield unsupported_value(f"{where}.action", action, _ACTIONS)
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if codes is not None:
            yield from _exit_codes(f"{where}.onExitCodes", codes, held)
        if len(patterns) > _MAX_RULES:
            yield too_many_values(f"{where}.onPodConditions", len(patterns), _MAX_RULES)
        for index, each in enumerate(patterns):
            place = f"{where}.onPodConditions[{index}]"
            yield from checked(f"{place}.type", each.get("type") or "", names.qualified_name)
            if not each.get("status"):
                yield required_value(f"{place}.status", _listed(_STATUSES))
            elif each["status"] not in _STATUSES:
                yield unsupported_value(f"{place}.status", each["status"], _STATUSES)
        if codes is not None and patterns:
            yield FieldError(INVALID, where, detail="specifying both OnExitCodes and OnPodConditions is not supported")
        elif codes is None and not patterns:
            yield FieldError(INVALID, where, detail="specifying one of OnExitCodes and OnPodConditions is required")


def _exit_codes(path: str, found: Map, held: set[Any]) -> Errors:
    operator, values = found.get("operator"), found.get("values") or []
    if not operator:
        yield required_value(f"{path}.operator", _listed(("In", "NotIn")))
    elif operator not in ("In", "NotIn"):
        yield unsupported_value(f"{path}.operator", operator, ("In", "NotIn"))
    name = found.get("containerName")
    if name is not None and name not in held:
        detail = "must be one of the container or initContainer names in the pod template"
        yield invalid_value(f"{path}.containerName", name, detail)
    if not values:
        yield invalid_value(f"{path}.values", values, "at least one value is required")
    elif len(values) > _MAX_CODES:
        yield too_many_values(f"{path}.values", len(values), _MAX_CODES)
    seen: set[int] = set()
    for at, each in enumerate(values):
        if operator == "In" and each == 0:
            yield invalid_value(f"{path}.values[{at}]", each, "must not be 0 for the In operator")
        if each in seen:
            yield duplicate_value(f"{path}.values[{at}]", each)
        seen.add(each)
    if values != sorted(values):
        yield invalid_value(f"{path}.values", values, "must be ordered")


def _success(path: str, policy: Map, spec: Map) -> Errors:
    """successPolicy (KEP-3998)."""
    if spec.get("completionMode") != "Indexed":
        yield invalid_value(path, policy, "requires indexed completion mode")
        return
    rules, completions = policy.get("rules") or [], spec.get("completions") or 0
    if not rules:
        yield required_value(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
    if len(rules) > _MAX_RULES:
        yield too_many_values(f"{path}.rules", len(rules), _MAX_RULES)
    for at, rule in enumerate(rules):
        where, count, text = f"{path}.rules[{at}]", rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and text is None:
            yield required_value(where, "at least one of succeededCount or succeededIndexes must be specified")
        total = 0
        if text is not None:
            if len(text) > _MAX_INDEXES:
                yield too_long_value(f"{where}.succeededIndexes", _MAX_INDEXES)
            try:
                total = len_of_indexes(text, completions)
            except ValueError as error:
                yield invalid_value(f"{where}.succeededIndexes", text, f"error parsing succeededIndexes: {error}")
        if count is not None:
            yield from not_negative(f"{where}.succeededCount", count)
            if count > completions:
                detail = f"must be less than or equal to {completions} (the number of specified completions)"
                yield invalid_value(f"{where}.succeededCount", count, detail)
            if text is not None and count > total:
                what = "the number of indexes in the specified succeededIndexes field"
                yield invalid_value(f"{where}.succeededCount", count, f"must be less than or equal to {total} ({what})")


def len_of_indexes(text: str, completions: int) -> int:
    """How many indexes `1,3-5` means. Raises ValueError for what is none, too large or out of order."""
    total, before = 0, -1
    for part in text.split(",") if text else ():
        first, last = interval(part, completions)
        if first <= before:
            raise ValueError(f"non-increasing order, previous: {before}, current: {first}")
        before = last
        total += last - first + 1
    return total


def interval(part: str, completions: int) -> tuple[int, int]:
    """The ends of `3-5` or `3`. Raises ValueError."""
    ends = part.split("-")
    if len(ends) > 2:
        rule = "violates the requirement that an index interval can have at most two parts separated by '-'"
        raise ValueError(f'the fragment "{part}" {rule}')
    first, *rest = (_index(each, completions) for each in ends)
    if rest and rest[0] <= first:
        raise ValueError(f"non-increasing order, previous: {first}, current: {rest[0]}")
    return first, rest[0] if rest else first


def _index(text: str, completions: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)


def job_update(new: Object, old: Object) -> Errors:
    """A job's work cannot change; its pods' placement can while it is suspended and has not begun (KEP-2926)."""
    after, before = spec_of(new), spec_of(old)
    yield from job_spec("spec", after)
    yield from _selects_its_own(after)
    if after.get("completions") != before.get("completions"):
        if after.get("completionMode") != "Indexed":
            yield from unchanged("spec.completions", after.get("completions"), before.get("completions"))
        elif after.get("completions") is not None and after["completions"] != after.get("parallelism"):
            detail = "can only be modified in tandem with spec.parallelism"
            yield invalid_value("spec.completions", after["completions"], detail)
    for field in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        yield from unchanged(f"spec.{field}", after.get(field), before.get(field))
    found, held = after.get("template"), before.get("template")
    if found != held and before.get("suspend") and not status_of(old).get("startTime"):
        found, held = _unplaced(found or {}), _unplaced(held or {})
    if found != held:
        yield from unchanged("spec.template", after.get("template"), held)


def _unplaced(found: Map) -> Map:
    """The template without what decides where its pods run."""
    bare: Map = copy_json(found)
    spec = bare.get("spec") or {}
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        spec.pop(field, None)
    if spec.get("affinity"):
        spec["affinity"].pop("nodeAffinity", None)
    if not spec.get("affinity"):
        spec.pop("affinity", None)
    for field in ("labels", "annotations"):
        (bare.get("metadata") or {}).pop(field, None)
    return bare


def cron_job(obj: Object) -> Errors:
    """A CronJob that is created."""
    yield from _cron_spec(spec_of(obj), None)
    if len(name_of(obj)) > 52:
        yield invalid_value("metadata.name", name_of(obj), "must be no more than 52 characters")


def cron_job_update(new: Object, old: Object) -> Errors:
    """What an older server let in (a long name, a zone in the schedule) may stay."""
    yield from _cron_spec(spec_of(new), spec_of(old))


def _cron_spec(spec: Map, before: Map | None) -> Errors:
    schedule, zone = spec.get("schedule"), spec.get("timeZone")
    if not schedule:
        yield required_value("spec.schedule")
    elif "TZ" in schedule:
        if before is None or "TZ" not in (before.get("schedule") or ""):
            detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            yield invalid_value("spec.schedule", schedule, detail)
        elif zone is not None:
            yield invalid_value("spec.schedule", schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")
    else:
        try:
            cron.parse(schedule)
        except ValueError as error:
            yield invalid_value("spec.schedule", schedule, str(error))
    yield from not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if zone is not None and (before is None or before.get("timeZone") != zone):
        yield from _zone("spec.timeZone", zone)
    yield from one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    inner, path = (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec"
    yield from job_spec(path, inner)
    if inner.get("selector") is not None:
        yield invalid_value(f"{path}.selector", inner["selector"], "`selector` will be auto-generated")
    if inner.get("manualSelector"):
        yield unsupported_value(f"{path}.manualSelector", True, ("nil", "false"))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from not_negative(f"spec.{field}", spec.get(field))


_ZONE_PART = re.compile(r"[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}")


def _zone(path: str, zone: str) -> Errors:
    if not zone:
        yield invalid_value(path, zone, "timeZone must be nil or non-empty string")
    elif any(part in (".", "..") or not _ZONE_PART.fullmatch(part) for part in zone.split("/")):
        yield invalid_value(path, zone, f"unknown time zone {zone}")
    elif zone.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        yield invalid_value(path, zone, detail)
    elif zone != "UTC":
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield invalid_value(path, zone, f"unknown time zone {zone}")
