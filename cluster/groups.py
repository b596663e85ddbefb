"""Node groups: what the cluster autoscaler may add and take away, as the user wrote it, and the machines of a group.

A group has a name, a smallest and a greatest size, and what each of its machines is like. Machines are made as workers are; what belongs to no group
(`--workers N`, `node add`) is never taken away by the autoscaler. Here stands the configuration and what follows from it for a node's daemons; making
and removing machines is the supervisor's, see :mod:`growth`.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeling.api import quantity

GROUP_LABEL = "kubeling.dev/node-group"
INSTANCE_TYPE_LABEL = "node.kubernetes.io/instance-type"
#: Of a node that the cloud-controller-manager has not yet told what it is.
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
DEFAULT_NAME = "workers"
#: What the kubelet's hard eviction thresholds keep from pods, see :mod:`nodeconfig`.
EVICTION_MEMORY = 100 * 1024 * 1024
EVICTION_DISK = 256 * 1024 * 1024
MAX_PODS = 110
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_KNOWN = frozenset(("name", "min", "max", "cpu", "memory", "labels", "taints", "zone", "region", "instanceType"))


class GroupError(ValueError):
    """What is written of a group cannot be meant; the text says what and why."""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """One group. `cpu` and `memory` are what pods may have of a machine; empty: all that the host has."""

    name: str = DEFAULT_NAME
    minimum: int = 0
    maximum: int = 0
    cpu: str = ""
    memory: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    zone: str = ""
    region: str = ""
    instance_type: str = ""


@dataclass(frozen=True, slots=True)
class Membership:
    """Which machine a node is: `machine` is never given out twice, while names of nodes are. `created` in seconds of the epoch."""

    group: str
    machine: str
    created: float = 0.0


def new_machine() -> str:
    return secrets.token_hex(4)


def parse_range(text: str) -> NodeGroup:
    """`MIN:MAX`: the group of plain workers."""
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal()):
        raise GroupError(f"{text!r} is no range: write MIN:MAX, such as 0:5, or the name of a file with node groups")
    return _checked(NodeGroup(minimum=int(low), maximum=int(high)))


def load(text: str) -> tuple[tuple[NodeGroup, ...], dict[str, str]]:
    """What `--autoscale` says: `MIN:MAX`, or a YAML file with `groups` and the `autoscaler`'s flags. Raises GroupError."""
    path = Path(text)
    if ":" in text and not path.exists():
        return (parse_range(text),), {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GroupError(f"{text}: {error}") from error
    return parse(found)


def parse(found: Any) -> tuple[tuple[NodeGroup, ...], dict[str, str]]:
    """The same from what the file holds."""
    if not isinstance(found, dict) or not isinstance(found.get("groups"), list) or set(found) - {"groups", "autoscaler"}:
        raise GroupError("a mapping with `groups` (a list), and perhaps `autoscaler` (flags and their values), is expected")
    groups = tuple(_group(each) for each in found["groups"])
    names = [each.name for each in groups]
    if len(set(names)) != len(names):
        raise GroupError(f"two groups have the same name: {', '.join(sorted(names))}")
    flags = found.get("autoscaler") or {}
    if not isinstance(flags, dict):
        raise GroupError("autoscaler: a mapping of flags to their values is expected")
    return groups, {str(name).lstrip("-"): _text(value) for name, value in flags.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _group(found: Any) -> NodeGroup:
    if not isinstance(found, dict):
        raise GroupError("groups: each is a mapping with name, min and max")
    if unknown := sorted(set(found) - _KNOWN):
        raise GroupError(f"groups: nothing is known of {', '.join(unknown)}; there are {', '.join(sorted(_KNOWN))}")
    taints = [_taint(each) for each in found.get("taints") or ()]
    try:
        return _checked(
            NodeGroup(
                str(found.get("name", DEFAULT_NAME)),
                int(found.get("min", 0)),
                int(found["max"]),
                str(found.get("cpu") or ""),
                str(found.get("memory") or ""),
                {str(key): _text(value) for key, value in (found.get("labels") or {}).items()},
                tuple(taints),
                str(found.get("zone") or ""),
                str(found.get("region") or ""),
                str(found.get("instanceType") or ""),
            )
        )
    except (KeyError, TypeError) as error:
        raise GroupError(f"group {found.get('name', DEFAULT_NAME)}: max is a number and must be there ({error})") from error


def _taint(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not found.get("key") or found.get("effect") not in _EFFECTS:
        raise GroupError(f"taints: each has a key, an effect ({', '.join(_EFFECTS)}) and perhaps a value")
    return {key: str(found[key]) for key in ("key", "value", "effect") if found.get(key)}


def _checked(group: NodeGroup) -> NodeGroup:
    if not _NAME.fullmatch(group.name):
        raise GroupError(f"group {group.name!r}: names are of small letters, digits and hyphens")
    if not 0 <= group.minimum <= group.maximum:
        raise GroupError(f"group {group.name}: min {group.minimum} and max {group.maximum}: 0 ≤ min ≤ max is expected")
    for what, value in (("cpu", group.cpu), ("memory", group.memory)):
        try:
            given = quantity.milli(value or "1")
        except ValueError as error:
            raise GroupError(f"group {group.name}: {what}: {error}") from error
        if given <= 0:
            raise GroupError(f"group {group.name}: {what} must be more than nothing")
    return group


def from_json(raw: Mapping[str, Any]) -> NodeGroup:
    """The inverse of :func:`dataclasses.asdict`."""
    return NodeGroup(**{**raw, "taints": tuple(raw["taints"])})


# -- what follows for a node ----------------------------------------------------------------------------------------------------------


def labels(group: NodeGroup) -> dict[str, str]:
    """The labels that the kubelet gives its Node; zone and kind of machine come from the cloud-controller-manager."""
    return {**group.labels, GROUP_LABEL: group.name}


def kubelet_flags(group: NodeGroup) -> tuple[str, ...]:
    """What makes a kubelet's node one of the group's."""
    taints = [f"{each['key']}={each.get('value', '')}:{each['effect']}" for each in group.taints]
    taints.append(f"{UNINITIALIZED}=true:NoSchedule")
    reserved = reserve(group)
    kept = (f"--system-reserved={','.join(f'{name}={value}' for name, value in reserved.items())}",) if reserved else ()
    return (
        f"--node-labels={','.join(f'{key}={value}' for key, value in labels(group).items())}",
        f"--register-with-taints={','.join(taints)}",
        *kept,
    )


def host_size() -> tuple[int, int]:
    """(millicores, bytes) that this machine has."""
    return len(os.sched_getaffinity(0)) * 1000, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def reserve(group: NodeGroup) -> dict[str, str]:
    """What a kubelet keeps from pods so that they have what the group says; nothing where that is more than the host has."""
    cpu, memory = host_size()
    found = {}
    if group.cpu and (spare := cpu - quantity.milli(group.cpu)) > 0:
        found["cpu"] = f"{spare}m"
    if group.memory and (spare := memory - EVICTION_MEMORY - quantity.units(group.memory)) > 0:
        found["memory"] = str(spare)
    return found


def template(group: NodeGroup, disk: int) -> dict[str, Any]:
    """The Node that a new machine of the group will have, as far as scheduling goes; `disk` in bytes."""
    cpu, memory = host_size()
    reserved = reserve(group)
    cpu -= quantity.milli(reserved.get("cpu", "0"))
    memory -= EVICTION_MEMORY + quantity.units(reserved.get("memory", "0"))
    # As the kubelet says it: whole KiB, and never more than is there.
    allocatable = {
        "cpu": f"{cpu}m",
        "memory": f"{max(0, memory) // 1024}Ki",
        "ephemeral-storage": str(max(0, disk - EVICTION_DISK)),
        "pods": str(MAX_PODS),
    }
    places = {"topology.kubernetes.io/zone": group.zone, "topology.kubernetes.io/region": group.region}
    machine = platform.machine()
    arch = _ARCHITECTURES.get(machine, machine)
    usual = {"kubernetes.io/arch": arch, "beta.kubernetes.io/arch": arch}
    shown = {
        **usual,
        **labels(group),
        INSTANCE_TYPE_LABEL: instance_type(group),
        **{key: value for key, value in places.items() if value},
    }
    taints = [dict(each) for each in group.taints]
    return {"labels": shown, "taints": taints, "allocatable": allocatable}


def instance_type(group: NodeGroup) -> str:
    """What is shown as the kind of machine."""
    return group.instance_type or f"local.{group.name}"


def machines_of(group: str, machines: Mapping[str, Membership]) -> Sequence[str]:
    """The names of the group's nodes."""
    return [name for name, each in machines.items() if each.group == group]
