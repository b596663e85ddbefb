"""What hollow pods say that they use, as a kubelet's `/metrics/resource` shows it: for `kubectl top` and for autoscalers.

A container uses what its pod's annotations say, from when it started. CPU is shown as seconds so far, so the seconds of each rate are added up
from one look to the next: a rate that changes does not change the past.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from kubeling.api import quantity
from kubeling.api.meta import Object, annotations_of, name_of, namespace_of, status_of, uid_of
from kubeling.api.times import parse_time
from kubeling.kubelet.hollow.defaults import PREFIX

CPU, MEMORY = f"{PREFIX}cpu", f"{PREFIX}memory"
#: Containers whose seconds are remembered; the oldest are forgotten, and then counted as if they had always used what they use now.
_REMEMBERED = 100_000


class Meter:
    """Seconds of CPU by container, in cores' seconds."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, int], tuple[float, float]] = {}

    def seconds(self, key: tuple[str, str, int], rate: float, started: float, now: float) -> float:
        """What `key` (pod uid, container, restart) has used by `now`, given that it uses `rate` cores since the last look (or since it `started`)."""
        at, used = self._known.pop(key, (started, 0.0))
        used += rate * max(0.0, now - at)
        self._known[key] = (max(at, now), used)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return used


def page(pods: Iterable[Object], meter: Meter, now: datetime) -> str:
    """The page of the node that has these pods, in Prometheus' text format."""
    moment, millis = now.timestamp(), int(now.timestamp() * 1000)
    lines: list[str] = []
    cpu_total = memory_total = 0.0
    for pod in pods:
        notes = annotations_of(pod)
        try:
            rate, memory = quantity.milli(notes.get(CPU, "0")) / 1000, quantity.units(notes.get(MEMORY, "0"))
        except ValueError:
            continue
        for each in status_of(pod).get("containerStatuses") or ():
            running = (each.get("state") or {}).get("running")
            if not running or not (CPU in notes or MEMORY in notes):
                continue
            started = parse_time(running["startedAt"]).timestamp()
            key = (uid_of(pod), each["name"], each.get("restartCount") or 0)
            used = meter.seconds(key, rate, started, moment)
            where = f'{{container="{each["name"]}",namespace="{namespace_of(pod)}",pod="{name_of(pod)}"}}'
            lines.append(f"container_cpu_usage_seconds_total{where} {used:.6f} {millis}")
            lines.append(f"container_memory_working_set_bytes{where} {memory} {millis}")
            lines.append(f"container_start_time_seconds{where} {started:.3f}")
            cpu_total += used
            memory_total += memory
    lines.append(f"node_cpu_usage_seconds_total {cpu_total:.6f} {millis}")
    lines.append(f"node_memory_working_set_bytes {memory_total:.0f} {millis}")
    return "\n".join(lines) + "\n"
