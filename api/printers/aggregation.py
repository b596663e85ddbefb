"""Rows of what stands for other servers: APIServices, and the metrics that one of them may serve."""

from __future__ import annotations

from datetime import datetime

from kubeling.api.conditions import get_condition
from kubeling.api.meta import Object, spec_of
from kubeling.api.printers.columns import AGE, NAME, UNKNOWN, Cells, Column, Printer, name, since
from kubeling.api.quantity import total


def _service(obj: Object, now: datetime) -> Cells:
    service = spec_of(obj).get("service")
    where = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    available = get_condition(obj, "Available")
    state = str(available.get("status")) if available else UNKNOWN
    if available and state != "True":
        state += f" ({available.get('reason') or ''})"
    return [name(obj), where, state, since(obj, now)]


API_SERVICE = Printer(
    (
        NAME,
        Column("Service", "The Service that answers; Local where the apiserver does."),
        Column("Available", "Whether it answers."),
        AGE,
    ),
    _service,
)


def _amounts(usages: list[dict[str, str]]) -> list[str]:
    cpu = total(*(each.get("cpu") or "0" for each in usages))
    memory = total(*(each.get("memory") or "0" for each in usages))
    return [str(cpu), str(memory)]


def _node(obj: Object, now: datetime) -> Cells:
    return [name(obj), *_amounts([obj.get("usage") or {}]), obj.get("window") or ""]


def _pod(obj: Object, now: datetime) -> Cells:
    return [name(obj), *_amounts([each.get("usage") or {} for each in obj.get("containers") or ()]), obj.get("window") or ""]


_COLUMNS = (
    NAME,
    Column("CPU", "Processor time used per second."),
    Column("Memory", "Memory in use."),
    Column("Window", "The time over which it was measured."),
)
NODE_METRICS = Printer(_COLUMNS, _node)
POD_METRICS = Printer(_COLUMNS, _pod)
