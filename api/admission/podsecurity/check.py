"""What the checks are made of: a pod to look at, and how its faults are put into words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Container = Mapping[str, Any]
#: A reason and a detail; None where the pod passes.
Result = tuple[str, str] | None


class Pod:
    """A pod's parts, absent ones as empty."""

    def __init__(self, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        self.annotations: Mapping[str, str] = metadata.get("annotations") or {}
        self.spec = spec
        self.security: Mapping[str, Any] = spec.get("securityContext") or {}
        self.containers: list[Container] = [
            each for field in ("initContainers", "containers", "ephemeralContainers") for each in spec.get(field) or ()
        ]
        self.volumes: list[Mapping[str, Any]] = list(spec.get("volumes") or ())
        self.is_windows = (spec.get("os") or {}).get("name") == "windows"


class Check(NamedTuple):
    """One of the standards: since which minor version it is one, and which other it takes the place of."""

    name: str
    since: int
    run: Callable[[Pod, int], Result]
    replaces: str = ""


def security_of(container: Container) -> Mapping[str, Any]:
    return container.get("securityContext") or {}


def quoted(values: Iterable[str]) -> str:
    return ", ".join(f'"{each}"' for each in values)


def counted(what: str, names: list[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{what if len(names) == 1 else what + 's'} {quoted(names)}"


def names_where(pod: Pod, holds: Callable[[Container], bool]) -> list[str]:
    return [str(each.get("name") or "") for each in pod.containers if holds(each)]


class Setters:
    """Who has set something to which forbidden values."""

    def __init__(self) -> None:
        self.pod = False
        self.containers: list[str] = []
        self.values: set[str] = set()

    def __bool__(self) -> bool:
        return self.pod or bool(self.containers)

    @property
    def who(self) -> str:
        parts = ["pod"] if self.pod else []
        if self.containers:
            parts.append(counted("container", self.containers))
        return " and ".join(parts)

    @property
    def what(self) -> str:
        return quoted(sorted(self.values))


def setters(pod: Pod, field: str, is_bad: Callable[[Any], bool], shown: Callable[[Any], str] = str) -> Setters:
    """Who has a forbidden value in a field of the security context."""
    found = Setters()
    value = pod.security.get(field)
    if value is not None and is_bad(value):
        found.pod = True
        found.values.add(shown(value))
    for each in pod.containers:
        value = security_of(each).get(field)
        if value is not None and is_bad(value):
            found.containers.append(str(each.get("name") or ""))
            found.values.add(shown(value))
    return found
