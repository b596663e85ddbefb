"""The configuration of hollow nodes: a HollowConfiguration and Stages, as documents of one YAML file.

What is not said has a default; what is not known is refused with its place, so that a typing error does not become a default.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeling.api import quantity
from kubeling.kubelet.hollow.defaults import STAGES
from kubeling.kubelet.hollow.expressions import BadExpression, compile_path
from kubeling.kubelet.hollow.podlife import ACTIONS
from kubeling.kubelet.hollow.stages import Delay, Next, Requirement, Selector, Stage

KIND, STAGE = "HollowConfiguration", "Stage"
#: Every Node with this label is one of ours, whoever has made it.
LABEL = "kubeling.dev/hollow"
#: As kwok marks the Nodes that it plays.
KWOK_ANNOTATION = ("kwok.x-k8s.io/node", "fake")
_KINDS = ("Pod", "Node")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class BadConfig(ValueError):
    """The configuration cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of one kind. `{index}` counts from 0 over all nodes, `{number}` within the group; `{zone}` is one of `zones` in turn."""

    name: str = "hollow-{index}"
    #: None: what the other groups leave.
    count: int | None = None
    capacity: Mapping[str, str] = field(default_factory=lambda: {"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti"})
    allocatable: Mapping[str, str] = field(default_factory=dict)
    max_pods: int = 110
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[dict[str, Any], ...] = ()
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node to register."""

    name: str
    index: int
    group: Group
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it."""

    groups: tuple[Group, ...] = (Group(),)
    stages: tuple[Stage, ...] = ()
    #: The pool of podCIDRs, a /24 each; empty to leave it to the node IPAM controller.
    pod_cidr: str = "10.128.0.0/10"
    lease_duration: float = 40.0
    #: Seconds from one renewal of a Lease to the next; 0: a quarter of the duration, or longer (up to half of it) where that were more than `lease_rate`.
    lease_interval: float = 0.0
    #: Renewals a second that are thought of as cheap.
    lease_rate: float = 40.0
    status_interval: float = 300.0
    #: Writes under way at once.
    parallel: int = 16

    def renewal(self, nodes: int) -> float:
        """The interval for so many nodes. It leaves a missed renewal time to be made good before anybody notices."""
        if self.lease_interval:
            return self.lease_interval
        quarter = self.lease_duration / 4
        return min(self.lease_duration / 2, max(quarter, nodes / self.lease_rate))


def load(path: str) -> Settings:
    """Read the file; the empty path stands for the defaults. Raises BadConfig."""
    if not path:
        return parse(())
    import yaml

    try:
        return parse(list(yaml.safe_load_all(Path(path).read_text())))
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise BadConfig(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except BadConfig as error:
        raise BadConfig(f"{path}: {error}") from error


def parse(documents: Iterable[Any]) -> Settings:
    """The settings that the documents make, over the defaults. Raises BadConfig."""
    settings: dict[str, Any] = {}
    stages = {str(each["metadata"]["name"]): _stage(each, "default stage") for each in STAGES}
    for number, document in enumerate(each for each in documents if each is not None):
        where = f"document {number + 1}"
        kind = _dict(document, where).get("kind")
        if kind == KIND:
            settings |= _settings(_dict(document, where), where)
        elif kind == STAGE:
            stage = _stage(document, where)
            stages[stage.name] = stage
        else:
            raise BadConfig(f"{where}: kind {kind!r} is neither {KIND} nor {STAGE}")
    return Settings(**settings, stages=tuple(stages.values()))


# -- nodes -----------------------------------------------------------------------------------------------------------------------------


def _settings(raw: dict[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        place = f"{where}: {key}"
        if key in ("apiVersion", "kind", "metadata"):
            continue
        if key == "nodes":
            found["groups"] = tuple(_group(each, f"{place}[{at}]") for at, each in enumerate(_list(value, place)))
        elif key == "podCIDR":
            found["pod_cidr"] = _cidr(value, place)
        elif key == "lease":
            names = {
                "durationSeconds": "lease_duration",
                "renewIntervalSeconds": "lease_interval",
                "maxRenewalsPerSecond": "lease_rate",
            }
            for name, one in _dict(value, place).items():
                found[_known(name, names, place)] = _number(one, f"{place}.{name}")
        elif key == "statusIntervalSeconds":
            found["status_interval"] = _number(value, place)
        elif key == "parallelWrites":
            found["parallel"] = max(1, int(_number(value, place)))
        else:
            raise BadConfig(f"{place} is not known: nodes, podCIDR, lease, statusIntervalSeconds, parallelWrites")
    for name in ("lease_duration", "lease_rate", "status_interval"):
        if found.get(name) == 0:
            raise BadConfig(f"{where}: {name.replace('_', ' ')} must be above 0")
    return found


def _cidr(value: Any, where: str) -> str:
    text = _text(value, where)
    try:
        return str(ipaddress.ip_network(text)) if text else ""
    except ValueError as error:
        raise BadConfig(f"{where}: {error}") from error


def _group(raw: Any, where: str) -> Group:
    found: dict[str, Any] = {}
    names = ("name", "count", "capacity", "allocatable", "maxPods", "labels", "annotations", "taints", "zones")
    for key, value in _dict(raw, where).items():
        place = f"{where}.{_known(key, {name: name for name in names}, where)}"
        if key == "name":
            found["name"] = _text(value, place)
        elif key in ("count", "maxPods"):
            found["max_pods" if key == "maxPods" else key] = int(_number(value, place))
        elif key in ("capacity", "allocatable"):
            found[key] = {str(name): _quantity(one, f"{place}.{name}") for name, one in _dict(value, place).items()}
        elif key in ("labels", "annotations"):
            found[key] = {str(name): str(one) for name, one in _dict(value, place).items()}
        elif key == "taints":
            found["taints"] = tuple(dict(_dict(each, place)) for each in _list(value, place))
        else:
            found["zones"] = tuple(str(each) for each in _list(value, place))
    group = Group(**found)
    try:
        group.name.format(index=0, number=0, zone="")
    except (KeyError, IndexError, ValueError) as error:
        raise BadConfig(f"{where}.name: only {{index}}, {{number}} and {{zone}} may stand in braces ({error})") from error
    pods = group.capacity.get("pods")
    return group if pods is None else Group(**{**found, "max_pods": quantity.units(pods)})


def specs(groups: Sequence[Group], total: int) -> list[NodeSpec]:
    """The nodes to register, `total` in all; a group without a count has what is left. Raises BadConfig where that cannot be."""
    open_groups = [each for each in groups if each.count is None]
    fixed = sum(each.count or 0 for each in groups)
    if fixed > total:
        raise BadConfig(f"the groups of nodes have {fixed} together, and {total} were asked for")
    if fixed < total and not open_groups:
        raise BadConfig(f"the groups of nodes have {fixed} together, and {total} were asked for: leave the count out of one")
    rest = total - fixed
    counts = []
    for each in groups:
        if each.count is not None:
            counts.append(each.count)
        else:
            share = -(-rest // len(open_groups))
            open_groups.pop()
            counts.append(share)
            rest -= share
    made = list(_numbered(groups, counts))
    if len({each.name for each in made}) != len(made):
        raise BadConfig("two nodes would have the same name: put {index} or {number} into the names of the groups")
    return made


def _numbered(groups: Sequence[Group], counts: Sequence[int]) -> Iterator[NodeSpec]:
    index = 0
    for group, count in zip(groups, counts, strict=True):
        for number in range(count):
            zone = group.zones[number % len(group.zones)] if group.zones else ""
            fill = {"index": index, "number": number, "zone": zone}
            labels = {name: _fill(value, fill) for name, value in group.labels.items()}
            if zone:
                labels.setdefault("topology.kubernetes.io/zone", zone)
            notes = {name: _fill(value, fill) for name, value in group.annotations.items()}
            yield NodeSpec(_fill(group.name, fill), index, group, {**labels, LABEL: "true"}, notes)
            index += 1


def _fill(text: str, values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


# -- stages ----------------------------------------------------------------------------------------------------------------------------


def _stage(raw: Any, where: str) -> Stage:
    document = _dict(raw, where)
    name = str(_dict(document.get("metadata"), f"{where}: metadata").get("name") or "")
    if not name:
        raise BadConfig(f"{where}: a stage needs metadata.name")
    where = f"stage {name}"
    spec = _dict(document.get("spec"), f"{where}: spec")
    for key in spec:
        _known(
            key,
            dict.fromkeys(("resourceRef", "selector", "weight", "weightFrom", "delay", "next", "immediateNextStage"), ""),
            where,
        )
    kind = _dict(spec.get("resourceRef") or {"kind": "Pod"}, where).get("kind")
    if kind not in _KINDS:
        raise BadConfig(f"{where}: resourceRef.kind {kind!r} is not one of {', '.join(_KINDS)}")
    following = _next(spec.get("next"), f"{where}: next")
    if kind == "Node" and (following.action or following.delete):
        raise BadConfig(f"{where}: next: a Node has no actions, and is not deleted by a stage")
    return Stage(
        name=name,
        kind=kind,
        selector=_selector(spec.get("selector"), f"{where}: selector"),
        next=following,
        delay=_delay(spec.get("delay"), f"{where}: delay"),
        weight=int(_number(spec.get("weight", 1), f"{where}: weight")),
        weight_source=_source(spec.get("weightFrom"), f"{where}: weightFrom"),
    )


def _selector(raw: Any, where: str) -> Selector:
    selector = _dict(raw or {}, where)
    for key in selector:
        _known(key, dict.fromkeys(("matchLabels", "matchAnnotations", "matchExpressions"), ""), where)
    requirements = []
    for at, each in enumerate(_list(selector.get("matchExpressions") or [], where)):
        place = f"{where}.matchExpressions[{at}]"
        entry = _dict(each, place)
        operator = entry.get("operator")
        if operator not in _OPERATORS:
            raise BadConfig(f"{place}: operator {operator!r} is not one of {', '.join(_OPERATORS)}")
        wanted = frozenset(_word(one) for one in _list(entry.get("values") or [], place))
        if operator in ("In", "NotIn") and not wanted:
            raise BadConfig(f"{place}: {operator} needs values")
        key = _text(entry.get("key"), f"{place}.key")
        requirements.append(Requirement(key, _path(key, place), operator, wanted))

    def words(name: str) -> dict[str, str]:
        return {str(key): _word(value) for key, value in _dict(selector.get(name) or {}, f"{where}.{name}").items()}

    return Selector(words("matchLabels"), words("matchAnnotations"), tuple(requirements))


def _delay(raw: Any, where: str) -> Delay:
    names = {
        "durationMilliseconds": "seconds",
        "jitterDurationMilliseconds": "jitter",
        "backoffMilliseconds": "backoff",
        "maxBackoffMilliseconds": "backoff_limit",
        "durationFrom": "source",
        "jitterDurationFrom": "jitter_source",
    }
    found: dict[str, Any] = {}
    for key, value in _dict(raw or {}, where).items():
        name, place = _known(key, names, where), f"{where}.{key}"
        found[name] = _source(value, place) if key.endswith("From") else _number(value, place) / 1000
    return Delay(**found)


def _source(raw: Any, where: str) -> Any:
    if raw is None:
        return None
    return _path(_text(_dict(raw, where).get("expressionFrom"), f"{where}.expressionFrom"), where)


def _next(raw: Any, where: str) -> Next:
    following = _dict(raw, where)
    if following.get("statusTemplate"):
        raise BadConfig(
            f"{where}.statusTemplate: Go templates are not read; say what is to be written as `status`, or use an `action`"
        )
    names = ("action", "options", "status", "statusTemplate", "statusSubresource", "event", "finalizers", "delete")
    for key in following:
        _known(key, dict.fromkeys(names, ""), where)
    action = following.get("action") or ""
    if action and action not in ACTIONS:
        raise BadConfig(f"{where}: there is no action {action!r}: one of {', '.join(ACTIONS)}")
    finalizers = _dict(following.get("finalizers") or {}, f"{where}.finalizers")
    event = following.get("event")
    return Next(
        action=action,
        options=_dict(following.get("options") or {}, f"{where}.options"),
        status=_dict(following["status"], f"{where}.status") if following.get("status") is not None else None,
        event=_event(event, f"{where}.event") if event is not None else None,
        add_finalizers=_finalizers(finalizers.get("add")),
        remove_finalizers=_finalizers(finalizers.get("remove")),
        empty_finalizers=bool(finalizers.get("empty")),
        delete=bool(following.get("delete")),
    )


def _finalizers(raw: Any) -> tuple[str, ...]:
    return tuple(str(each["value"]) if isinstance(each, dict) else str(each) for each in raw or ())


def _event(raw: Any, where: str) -> Any:
    event = _dict(raw, where)
    kind = event.get("type") or "Normal"
    if kind not in ("Normal", "Warning"):
        raise BadConfig(f"{where}.type {kind!r} is neither Normal nor Warning")
    return kind, _text(event.get("reason"), f"{where}.reason"), str(event.get("message") or "")


# -- values ----------------------------------------------------------------------------------------------------------------------------


def _path(text: str, where: str) -> Any:
    try:
        return compile_path(text)
    except BadExpression as error:
        raise BadConfig(f"{where}: {error}") from error


def _known(key: Any, names: Mapping[str, str], where: str) -> str:
    if key not in names:
        raise BadConfig(f"{where}: {key!r} is not known: {', '.join(names)}")
    return names[key]


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadConfig(f"{where}: a mapping is needed, not {value!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadConfig(f"{where}: a list is needed, not {value!r}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadConfig(f"{where}: a text is needed, not {value!r}")
    return value


def _word(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadConfig(f"{where}: a number from 0 is needed, not {value!r}")
    return float(value)


def _quantity(value: Any, where: str) -> str:
    try:
        quantity.units(str(value))
    except ValueError as error:
        raise BadConfig(f"{where}: {error}") from error
    return str(value)
