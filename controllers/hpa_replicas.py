"""How many pods a metric asks for: the arithmetic of an autoscaler, without I/O.

The wish is the number of pods that are ready times the ratio of usage and target, rounded up. Pods of which nothing is known never make it want more in the direction in which it goes: when
it would shrink they are taken to use all that they may, when it would grow, nothing; and if that turns the direction round, nothing is done. Pods that have just started count
as unready for CPU, since starting is no load. All values are thousandths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from kubeling.api import quantity
from kubeling.api.conditions import get_condition
from kubeling.api.meta import is_deleting, name_of, spec_of, status_of
from kubeling.api.pods import is_ready, phase_of
from kubeling.api.times import parse_time
from kubeling.controllers.context import Obj

CPU_INITIALIZATION = timedelta(minutes=5)
INITIAL_READINESS_DELAY = timedelta(seconds=30)


class MetricsError(Exception):
    """A metric says nothing that a number of pods could be computed from."""


class Sample(NamedTuple):
    """What one pod uses, in thousandths, when that was measured and over how long."""

    value: int
    timestamp: datetime
    window: timedelta = timedelta(0)


class Tolerance(NamedTuple):
    """How far the ratio may be off without a change, downwards and upwards."""

    down: float = 0.1
    up: float = 0.1

    def holds(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Wish(NamedTuple):
    """The number of pods, and the metric as it is: percent of the requests (or None), and the average or total."""

    replicas: int
    value: int
    percent: int | None = None


@dataclass(slots=True)
class Groups:
    """The pods of a target by what is known of them."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


def group(pods: Iterable[Obj], samples: Mapping[str, Sample], resource: str, now: datetime) -> Groups:
    """Sort the pods; `resource` is empty for metrics that are none of a resource."""
    found = Groups()
    for pod in pods:
        name = name_of(pod)
        if is_deleting(pod) or phase_of(pod) == "Failed":
            found.ignored.add(name)
        elif phase_of(pod) == "Pending":
            found.unready.add(name)
        elif name not in samples:
            found.missing.add(name)
        elif resource == "cpu" and _is_starting(pod, samples[name], now):
            found.unready.add(name)
        else:
            found.ready += 1
    return found


def _is_starting(pod: Obj, sample: Sample, now: datetime) -> bool:
    ready, started = get_condition(pod, "Ready"), status_of(pod).get("startTime")
    if ready is None or not started:
        return True
    is_false = ready.get("status") == "False"
    changed = parse_time(ready["lastTransitionTime"]) if ready.get("lastTransitionTime") else parse_time(started)
    if parse_time(started) + CPU_INITIALIZATION > now:
        # What was measured must have been after it became ready.
        return is_false or sample.timestamp < changed + sample.window
    return is_false and parse_time(started) + INITIAL_READINESS_DELAY > changed


def requests_of(pods: Iterable[Obj], resource: str, container: str = "") -> dict[str, int]:
    """What each pod (or that container of it) requests. Raises MetricsError where one requests nothing."""
    found = {}
    for pod in pods:
        spec, total = spec_of(pod), 0
        sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
        for each in [*(spec.get("containers") or ()), *sidecars]:
            if container and each["name"] != container:
                continue
            wanted = ((each.get("resources") or {}).get("requests") or {}).get(resource)
            if wanted is None:
                raise MetricsError(f"missing request for {resource} in container {each['name']} of Pod {name_of(pod)}")
            total += quantity.milli(wanted)
        found[name_of(pod)] = total
    return found


def by_utilization(
    pods: Sequence[Obj],
    samples: Mapping[str, Sample],
    requests: Mapping[str, int],
    current: int,
    target: int,
    resource: str,
    tolerance: Tolerance,
    now: datetime,
) -> Wish:
    """To use `target` percent of what is requested."""
    groups = group(pods, samples, resource, now)
    used = _counted(samples, groups)

    def ratio(values: Mapping[str, int]) -> tuple[float, int, int]:
        wanted = sum(requests[name] for name in values if name in requests)
        usage = sum(value for name, value in values.items() if name in requests)
        if not wanted:
            raise MetricsError("no metrics returned matched known pods")
        percent = usage * 100 // wanted
        return percent / target, percent, usage // max(1, len(values))

    first, percent, average = ratio(used)
    # What a missing pod is taken to use when the others say "fewer": at least all of its request.
    most = {name: requests[name] * max(100, target) // 100 for name in groups.missing}
    replicas = _rebalanced(current, used, groups, first, most, lambda values: ratio(values)[0], tolerance)
    return Wish(replicas, average, percent)


def by_average(
    pods: Sequence[Obj],
    samples: Mapping[str, Sample],
    current: int,
    target: int,
    resource: str,
    tolerance: Tolerance,
    now: datetime,
) -> Wish:
    """To use `target` in each pod."""
    groups = group(pods, samples, resource, now)
    used = _counted(samples, groups)

    def ratio(values: Mapping[str, int]) -> float:
        return sum(values.values()) // len(values) / target

    replicas = _rebalanced(current, used, groups, ratio(used), dict.fromkeys(groups.missing, target), ratio, tolerance)
    return Wish(replicas, sum(used.values()) // len(used))


def _counted(samples: Mapping[str, Sample], groups: Groups) -> dict[str, int]:
    left = {name: each.value for name, each in samples.items() if name not in groups.ignored and name not in groups.unready}
    if not left:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    return left


def _rebalanced(
    current: int,
    used: Mapping[str, int],
    groups: Groups,
    first: float,
    most: Mapping[str, int],
    ratio: Callable[[Mapping[str, int]], float],
    tolerance: Tolerance,
) -> int:
    """The wish, with what is not known taken as what speaks against it."""
    grows_with_unready = bool(groups.unready) and first > 1.0
    if not grows_with_unready and not groups.missing:
        return current if tolerance.holds(first) else math.ceil(first * groups.ready)
    values = dict(used)
    if first < 1.0:
        values |= most
    elif first > 1.0:
        values |= dict.fromkeys(groups.missing, 0)
    if grows_with_unready:
        values |= dict.fromkeys(groups.unready, 0)
    second = ratio(values)
    if tolerance.holds(second) or (first < 1.0 < second) or (first > 1.0 > second):
        return current
    replicas = math.ceil(second * len(values))
    if (second < 1.0 and replicas > current) or (second > 1.0 and replicas < current):
        return current
    return replicas


def by_value(usage: int, target: int, current: int, pods: Iterable[Obj], tolerance: Tolerance) -> Wish:
    """To bring a value that all pods share to `target`."""
    ratio = usage / target
    if current == 0:
        return Wish(math.ceil(ratio), usage)
    if tolerance.holds(ratio):
        return Wish(current, usage)
    ready = sum(1 for each in pods if phase_of(each) == "Running" and is_ready(each))
    return Wish(math.ceil(ratio * ready), usage)


def by_share(usage: int, target: int, pods: int, tolerance: Tolerance) -> Wish:
    """To have `target` of a shared value for each of the `pods` there are."""
    replicas = pods
    if not pods or not tolerance.holds(usage / (target * pods)):
        replicas = math.ceil(usage / target)
    return Wish(replicas, math.ceil(usage / pods) if pods else usage)


def known(pods: Collection[Obj], samples: Mapping[str, Sample]) -> dict[str, Sample]:
    """The samples of these pods."""
    names = {name_of(each) for each in pods}
    return {name: each for name, each in samples.items() if name in names}
