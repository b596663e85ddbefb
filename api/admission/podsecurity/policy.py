"""Levels and versions, as a namespace's labels say them, and what a pod breaks of a level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubeling.api.admission.podsecurity import baseline, restricted
from kubeling.api.admission.podsecurity.check import Check, Pod
from kubeling.api.errors import FieldError, invalid_value

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
#: Stands for the latest version, which is that of all checks.
LATEST = 1 << 31


@dataclass(frozen=True, slots=True)
class Level:
    """A level at the minor version of Kubernetes whose idea of it counts."""

    name: str = "privileged"
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.name}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"


class Policy(NamedTuple):
    """What a namespace asks for."""

    enforce: Level = Level()
    audit: Level = Level()
    warn: Level = Level()


def parse(labels: Mapping[str, str] | None, defaults: Mapping[str, str] | None = None) -> tuple[Policy, list[FieldError]]:
    """The policy of a namespace's labels, and what is wrong with them. `defaults` are labels that count where it has none.

    An `enforce` that cannot be read is `restricted`.
    """
    if defaults:
        labels = {**defaults, **(labels or {})}
    found: dict[str, Level] = {}
    wrong: list[FieldError] = []
    for mode in MODES:
        name, minor = "privileged", LATEST
        key = PREFIX + mode
        if labels and key in labels:
            name = labels[key]
            if name not in LEVELS:
                wrong.append(_wrong(key, name, f"must be one of {', '.join(LEVELS)}"))
                # Better too strict than too lax, but what only warns and records says nothing then.
                name = "restricted" if mode == "enforce" else "privileged"
        key += "-version"
        if labels and key in labels:
            text = labels[key]
            match = _VERSION.fullmatch(text)
            if match:
                minor = int(match[1])
            elif text != "latest":
                wrong.append(_wrong(key, text, 'must be "latest" or "v1.x"'))
        found[mode] = Level(name, minor)
    return Policy(**found), wrong


def _wrong(key: str, value: str, detail: str) -> FieldError:
    return invalid_value(f"metadata.labels[{key}]", value, detail)


class Violation(NamedTuple):
    """One check that a pod does not pass."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def violations(level: Level, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Violation]:
    """What the pod breaks, the baseline's checks first."""
    if level.name == "privileged":
        return []
    pod = Pod(metadata, spec)
    checks: list[Check] = list(baseline.CHECKS)
    if level.name == "restricted":
        replaced = {each.replaces for each in restricted.CHECKS if level.minor >= each.since}
        checks = [each for each in checks if each.name not in replaced] + list(restricted.CHECKS)
    found: list[Violation] = []
    for each in checks:
        if level.minor >= each.since:
            result = each.run(pod, level.minor)
            if result is not None:
                found.append(Violation(*result))
    return found


def text_of(found: list[Violation]) -> str:
    """All of them, as they stand in a message."""
    return ", ".join(map(str, found))
