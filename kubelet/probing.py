"""What a probe's results add up to: thresholds, the state before the first result, and what a failure means. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ProbeKind = Literal["startup", "liveness", "readiness"]
KINDS: tuple[ProbeKind, ...] = ("startup", "liveness", "readiness")


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """A probe with its defaults filled in; seconds and counts."""

    kind: ProbeKind
    handler: Mapping[str, Any]
    initial_delay: float
    timeout: float
    period: float
    successes: int
    failures: int
    grace: int | None


def probe_spec(container: Mapping[str, Any], kind: ProbeKind) -> ProbeSpec | None:
    """The container's probe of that kind."""
    found = container.get(f"{kind}Probe")
    if not found:
        return None
    return ProbeSpec(
        kind,
        found,
        initial_delay=float(found.get("initialDelaySeconds") or 0),
        timeout=float(found.get("timeoutSeconds") or 1),
        period=float(found.get("periodSeconds") or 10),
        # More than one success makes sense for readiness alone; validation says so too.
        successes=int(found.get("successThreshold") or 1) if kind == "readiness" else 1,
        failures=int(found.get("failureThreshold") or 3),
        grace=found.get("terminationGracePeriodSeconds"),
    )


@dataclass(slots=True)
class ProbeState:
    """The verdict so far: readiness begins as failing, liveness as passing, startup as undecided."""

    spec: ProbeSpec
    verdict: bool | None = None
    _last: bool | None = field(default=None, init=False)
    _run: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.verdict is None:
            self.verdict = {"startup": None, "liveness": True, "readiness": False}[self.spec.kind]

    def record(self, success: bool) -> bool:
        """Take in one result; whether the verdict changed."""
        if success == self._last:
            self._run += 1
        else:
            self._last, self._run = success, 1
        if self._run < (self.spec.successes if success else self.spec.failures):
            return False
        if self.verdict == success:
            return False
        self.verdict = success
        return True


@dataclass(slots=True)
class ContainerProbes:
    """All probes of one running container."""

    states: dict[ProbeKind, ProbeState]

    @property
    def started(self) -> bool:
        startup = self.states.get("startup")
        return startup is None or startup.verdict is True

    @property
    def ready(self) -> bool:
        readiness = self.states.get("readiness")
        return self.started and (readiness is None or readiness.verdict is True)

    @property
    def failed(self) -> Literal["liveness", "startup", ""]:
        startup, liveness = self.states.get("startup"), self.states.get("liveness")
        if startup is not None and startup.verdict is False:
            return "startup"
        if liveness is not None and liveness.verdict is False:
            return "liveness"
        return ""


def may_run(kind: ProbeKind, probes: ContainerProbes) -> bool:
    """Startup probes run until they have passed, the others only then."""
    return not probes.started if kind == "startup" else probes.started
