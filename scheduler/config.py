"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles, their plugins and arguments, extenders.

Which plugins run at an extension point follows upstream's rules: `multiPoint` enables a plugin wherever it has something to say; what a point lists
itself comes before, where it names a plugin of `multiPoint` again (to reorder it or to change its weight), and after, where it adds one. `disabled` takes
out by name, or everything with `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeling.scheduler import registry
from kubeling.scheduler.framework import POINTS, Framework
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.registry import ConfigError

Obj = dict[str, Any]
Enabled = list[tuple[str, int]]

API_VERSION = "kubescheduler.config.k8s.io/v1"
DEFAULT_NAME = "default-scheduler"

#: The name of each extension point in the configuration.
WIRE_POINTS = {
    "pre_enqueue": "preEnqueue",
    "sort_key": "queueSort",
    "pre_filter": "preFilter",
    "filter": "filter",
    "post_filter": "postFilter",
    "pre_score": "preScore",
    "score": "score",
    "reserve": "reserve",
    "permit": "permit",
    "pre_bind": "preBind",
    "bind": "bind",
    "post_bind": "postBind",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One `schedulerName`. `plugins` and `args` as they stand in the file."""

    name: str = DEFAULT_NAME
    percentage: int = 0
    plugins: Mapping[str, Obj] = field(default_factory=dict)
    args: Mapping[str, Obj] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """What can be set. Times in seconds."""

    profiles: tuple[Profile, ...] = (Profile(),)
    extenders: tuple[Obj, ...] = ()
    initial_backoff: float = 1.0
    max_backoff: float = 10.0
    #: Only what the file itself says of leader election; flags decide otherwise.
    leader_elect: bool | None = None


def load(path: str | Path) -> SchedulerConfig:
    """Read a file. ConfigError where it cannot be meant."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: a KubeSchedulerConfiguration is expected")
    return parse(found)


def parse(found: Obj) -> SchedulerConfig:
    """The same from a dict."""
    kind = (found.get("apiVersion"), found.get("kind"))
    if kind != (API_VERSION, "KubeSchedulerConfiguration"):
        raise ConfigError(
            f"apiVersion and kind must be {API_VERSION} and KubeSchedulerConfiguration, not {kind[0]} and {kind[1]}"
        )
    percentage = _percentage(found, "percentageOfNodesToScore", 0)
    profiles = tuple(_profile(each, at, percentage) for at, each in enumerate(found.get("profiles") or [{}]))
    names = [each.name for each in profiles]
    if len(set(names)) != len(names):
        raise ConfigError(f"profiles: each schedulerName may be there once, found {', '.join(names)}")
    initial, highest = found.get("podInitialBackoffSeconds"), found.get("podMaxBackoffSeconds")
    return SchedulerConfig(
        profiles,
        tuple(_extender(each, at) for at, each in enumerate(found.get("extenders") or ())),
        1.0 if initial is None else float(initial),
        10.0 if highest is None else float(highest),
        (found.get("leaderElection") or {}).get("leaderElect"),
    )


def _percentage(found: Obj, name: str, default: int) -> int:
    value = found.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or not 0 <= value <= 100:
        raise ConfigError(f"{name}: {value!r} is not between 0 and 100")
    return value


def _profile(found: Obj, at: int, percentage: int) -> Profile:
    plugins = found.get("plugins") or {}
    unknown = set(plugins) - {"multiPoint", *WIRE_POINTS.values()}
    if unknown:
        raise ConfigError(f"profiles[{at}].plugins: there is no extension point {', '.join(sorted(unknown))}")
    args: dict[str, Obj] = {}
    for each in found.get("pluginConfig") or ():
        if each.get("name") in args:
            raise ConfigError(f"profiles[{at}].pluginConfig: {each['name']} is there twice")
        args[each.get("name") or ""] = each.get("args") or {}
    return Profile(
        found.get("schedulerName") or DEFAULT_NAME, _percentage(found, "percentageOfNodesToScore", percentage), plugins, args
    )


def _extender(found: Obj, at: int) -> Obj:
    if not found.get("urlPrefix"):
        raise ConfigError(f"extenders[{at}].urlPrefix: required")
    if found.get("prioritizeVerb") and int(found.get("weight") or 0) <= 0:
        raise ConfigError(f"extenders[{at}].weight: must be above 0 where there is a prioritizeVerb")
    return found


def resolve(plugins: Mapping[str, Obj]) -> tuple[dict[str, Enabled], dict[str, int]]:
    """(extension point → (plugin, weight) in order; plugin → weight of `multiPoint`)."""
    multi = _merged(list(registry.DEFAULTS), plugins.get("multiPoint") or {})
    names = {name for name, _ in multi}
    found: dict[str, Enabled] = {}
    for point, wire in WIRE_POINTS.items():
        said = plugins.get(wire) or {}
        enabled = [(each["name"], int(each.get("weight") or 0)) for each in said.get("enabled") or ()]
        disabled = {each["name"] for each in said.get("disabled") or ()}
        again = [each for each in enabled if each[0] in names]
        listed = {name for name, _ in enabled}
        rest = [each for each in multi if "*" not in disabled and each[0] not in disabled and each[0] not in listed]
        found[point] = again + rest + [each for each in enabled if each[0] not in names]
    return found, dict(multi)


def _merged(defaults: Enabled, said: Obj) -> Enabled:
    disabled = {each["name"] for each in said.get("disabled") or ()}
    enabled = {each["name"]: int(each.get("weight") or 0) for each in said.get("enabled") or ()}
    kept = [] if "*" in disabled else [each for each in defaults if each[0] not in disabled]
    merged = [(name, enabled.pop(name) if name in enabled else weight) for name, weight in kept]
    return merged + list(enabled.items())


def build(profile: Profile, handle: Handle) -> Framework:
    """The framework of a profile. ConfigError where a plugin is unknown, or the points do not make sense."""
    points, weights = resolve(profile.plugins)
    names = list(dict.fromkeys(name for enabled in points.values() for name, _ in enabled))
    made: dict[str, Plugin] = {name: registry.make(name, dict(profile.args.get(name) or {}), handle) for name in names}
    framework = Framework(
        [(plugin, dict(points["score"]).get(name) or weights.get(name) or 1) for name, plugin in made.items()],
        points={point: [made[name] for name, _ in points[point]] for point in POINTS},
        scheduler_name=profile.name,
        percentage=profile.percentage,
    )
    if len(framework.at("sort_key")) != 1:
        found = ", ".join(plugin.name for plugin in framework.at("sort_key")) or "none"
        raise ConfigError(f"profile {profile.name}: exactly one plugin sorts the queue, found {found}")
    if not framework.at("bind"):
        raise ConfigError(f"profile {profile.name}: at least one plugin must bind")
    return framework
