"""Rows of what stands for other servers: APIServices, the metrics that one of them may serve, and what each server does with the store."""

from __future__ import annotations

from datetime import datetime

from kubeling.api.conditions import get_condition, is_true
from kubeling.api.meta import Object, spec_of, status_of
from kubeling.api.printers.columns import AGE, NAME, UNKNOWN, UNSET, Cells, Column, Printer, name, since
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


def _storage_version(obj: Object, now: datetime) -> Cells:
    status = status_of(obj)
    every = status.get("storageVersions") or ()
    said = ",".join(f"{each.get('apiServerID')}={each.get('encodingVersion')}" for each in every[:3])
    more = f" + {len(every) - 3} more..." if len(every) > 3 else ""
    return [name(obj), status.get("commonEncodingVersion") or UNSET, (said + more) or UNSET, since(obj, now)]


STORAGE_VERSION = Printer(
    (
        NAME,
        Column("CommonEncodingVersion", "The version in which all servers write."),
        Column("StorageVersions", "The version in which each server writes."),
        AGE,
    ),
    _storage_version,
)


def _migration(obj: Object, now: datetime) -> Cells:
    resource = spec_of(obj).get("resource") or {}
    state = next((each for each in ("Succeeded", "Failed", "Running") if is_true(obj, each)), "Pending")
    kind = ".".join(filter(None, (resource.get("resource"), resource.get("version"), resource.get("group"))))
    return [name(obj), kind, state, since(obj, now)]


MIGRATION = Printer(
    (NAME, Column("Resource", "What is migrated."), Column("Status", "How far the migration is."), AGE),
    _migration,
)
