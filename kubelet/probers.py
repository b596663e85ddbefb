"""Running the probes: one task per probe of each running container, started and stopped with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.cri import Runtime
from kubeling.kubelet.handlers import Answer, Target, ask
from kubeling.kubelet.probing import KINDS, ContainerProbes, ProbeKind, ProbeSpec, ProbeState, may_run, probe_spec

log = get_logger("kubelet.probes")

AGENT = "kube-probe/1.33"


@dataclass(slots=True)
class _Watched:
    probes: ContainerProbes
    tasks: list[asyncio.Task[None]]
    #: Set when the startup probe has passed, for those that wait for it.
    passed: asyncio.Event


@dataclass(frozen=True, slots=True)
class Running:
    """A container to probe: when it began in seconds of the wall clock, and what the API has said of it before."""

    container: dict[str, Any]
    ip: str
    began: float
    was_started: bool = False
    was_ready: bool = False


#: Called with the container's name, "Warning", the reason and words of an event.
Tell = Callable[[str, str, str, str], None]


#: Called with the container's name, the kind, whether it succeeded and the seconds that it took, of each probe that was run.
Count = Callable[[str, str, bool, float], None]


class PodProbes:
    """The probes of one pod. Implements :class:`kubeling.kubelet.actions.ProbeView`; `changed` is called when a verdict does."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        changed: Callable[[], None],
        tell: Tell,
        rand: Callable[[], float] = random.random,
        count: Count | None = None,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._changed = changed
        self._tell = tell
        self._rand = rand
        self._count = count
        self._watched: dict[str, _Watched] = {}
        #: Set with each change of a verdict, for who waits for nothing else.
        self.judged = asyncio.Event()

    # -- what decisions see --------------------------------------------------------------------------------------------------------

    def started(self, container_id: str) -> bool:
        found = self._watched.get(container_id)
        return found is None or found.probes.started

    def ready(self, container_id: str) -> bool:
        found = self._watched.get(container_id)
        return found is None or found.probes.ready

    def failed(self, container_id: str) -> Literal["liveness", "startup", ""]:
        found = self._watched.get(container_id)
        return found.probes.failed if found is not None else ""

    def grace(self, container: dict[str, Any], kind: Literal["liveness", "startup", ""]) -> int | None:
        """The probe's own grace period for a container that it has killed."""
        spec = probe_spec(container, kind) if kind else None
        return spec.grace if spec is not None else None

    # -- following containers ------------------------------------------------------------------------------------------------------

    def follow(self, running: dict[str, Running]) -> None:
        """Probe exactly these, by container ID."""
        self.drop_all_but(set(running))
        for container_id, about in running.items():
            if container_id not in self._watched:
                self._start(container_id, about)

    def drop_all_but(self, alive: set[str]) -> None:
        """Stop probing what has died."""
        for each in [each for each in self._watched if each not in alive]:
            self._stop(each)

    def stop_killing(self) -> None:
        """The pod is being stopped: it is not to be killed by probes, and readiness goes on."""
        for each in self._watched.values():
            for task in each.tasks:
                if not task.get_name().startswith("readiness"):
                    task.cancel()

    def close(self) -> None:
        for each in list(self._watched):
            self._stop(each)

    def _stop(self, container_id: str) -> None:
        for task in self._watched.pop(container_id).tasks:
            task.cancel()

    def _start(self, container_id: str, about: Running) -> None:
        container = about.container
        specs = {kind: spec for kind in KINDS if (spec := probe_spec(container, kind)) is not None}
        if not specs:
            return
        states: dict[ProbeKind, ProbeState] = {kind: ProbeState(spec) for kind, spec in specs.items()}
        # Where the kubelet was restarted and the container was not, it is taken to be what it was until its probes say otherwise.
        if about.was_started and "startup" in states:
            states["startup"].verdict = True
        if about.was_ready and "readiness" in states:
            states["readiness"].verdict = True
        watched = _Watched(ContainerProbes(states), [], asyncio.Event())
        if watched.probes.started:
            watched.passed.set()
        self._watched[container_id] = watched
        target = Target(container, container_id, about.ip)
        for kind, spec in specs.items():
            if kind == "startup" and watched.probes.started:
                continue
            work = self._run(watched, spec, states[kind], target, about.began)
            watched.tasks.append(asyncio.get_running_loop().create_task(work, name=f"{kind} {container['name']}"))

    async def _run(self, watched: _Watched, spec: ProbeSpec, state: ProbeState, target: Target, began: float) -> None:
        name = target.container["name"]
        # A restarted kubelet meets all its containers at once; those that have just started are probed at once.
        age = self._clock.now().timestamp() - began
        if age > spec.period:
            await self._clock.sleep(self._rand() * spec.period)
        if spec.kind != "startup":
            await watched.passed.wait()
        # A clock that was set back has the container begin in the future.
        left = spec.initial_delay - max(0.0, self._clock.now().timestamp() - began)
        if left > 0:
            await self._clock.sleep(left)
        while may_run(spec.kind, watched.probes):
            asked = self._clock.monotonic()
            answer = await self._ask(spec, target)
            if self._count is not None:
                self._count(name, spec.kind, answer.success, self._clock.monotonic() - asked)
            if answer.error:
                # As upstream: what could not be asked counts neither for nor against the container.
                self._tell(
                    name,
                    "Warning",
                    "Unhealthy",
                    f"{spec.kind.capitalize()} probe errored and resulted in unknown state: {answer.words}",
                )
            elif not answer.success:
                self._tell(name, "Warning", "Unhealthy", f"{spec.kind.capitalize()} probe failed: {answer.words}")
            elif answer.warning:
                self._tell(name, "Warning", "ProbeWarning", f"{spec.kind.capitalize()} probe warning: {answer.words}")
            if not answer.error and state.record(answer.success):
                log.debug("a probe's verdict changed", container=name, probe=spec.kind, success=answer.success)
                if spec.kind == "startup" and answer.success:
                    watched.passed.set()
                self.judged.set()
                self._changed()
                if spec.kind != "readiness" and not answer.success:
                    return  # The container will be killed; the next one is probed anew.
            await self._clock.sleep(max(0.0, spec.period - (self._clock.monotonic() - asked)))

    async def _ask(self, spec: ProbeSpec, target: Target) -> Answer:
        try:
            return await ask(spec.handler, target, self._runtime, spec.timeout, AGENT)
        except Exception:  # A handler's own fault must not end the probing.
            log.exception("a probe could not be run", container=target.container["name"], probe=spec.kind)
            return Answer(False, "internal error of the probe", error=True)
