"""What to do next about a pod, from what it should be and what the runtime holds of it: the kubelet's decision core.

No I/O and no clock. The worker reads the runtime, calls :func:`compute_pod_actions`, does what it says, and comes back when anything has changed.
The order is upstream's: a broken sandbox is replaced with everything in it; init containers run one after another, the restartable ones
(sidecars, KEP-753) only have to have started; then the containers run side by side. When none of them will ever run again, the pod is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kubeling.api.hashing import canonical_json, fnv1a_32
from kubeling.api.meta import Object, is_deleting, spec_of
from kubeling.api.pods import containers_of, init_containers_of, is_sidecar
from kubeling.kubelet.backoff import KeyedBackoff
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime, SandboxRecord

Kind = Literal["init", "regular", "ephemeral"]


class ProbeView(Protocol):
    """What is known of a container by its probes; the argument is a container ID."""

    def started(self, container_id: str) -> bool:
        """Its startup probe has passed, or it has none."""

    def ready(self, container_id: str) -> bool:
        """Its readiness probe passes, or it has none."""

    def failed(self, container_id: str) -> Literal["liveness", "startup", ""]:
        """Which probe demands that it is killed."""


@dataclass(frozen=True, slots=True)
class Start:
    """A container to start; `last` is the dead one before it."""

    container: dict[str, Any]
    kind: Kind
    last: ContainerRecord | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """A container to stop, and why. `probe` is set where a probe demands it, for its own grace period."""

    record: ContainerRecord
    message: str
    probe: Literal["liveness", "startup", ""] = ""


@dataclass(slots=True)
class PodActions:
    """`kill_pod` comes first, then `kill`, then the sandbox, then `start` in order."""

    kill_pod: bool = False
    create_sandbox: bool = False
    sandbox: SandboxRecord | None = None
    attempt: int = 0
    start: list[Start] = field(default_factory=list)
    kill: list[Kill] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not (self.kill_pod or self.create_sandbox or self.start or self.kill)


def container_hash(container: dict[str, Any]) -> str:
    """Changes when a container must be replaced: its name and image, as upstream since 1.31."""
    picked = {"name": container.get("name"), "image": container.get("image")}
    return f"{fnv1a_32(canonical_json(picked)):x}"


def compute_pod_actions(pod: Object, runtime: PodRuntime, probes: ProbeView) -> PodActions:
    """The next steps towards the pod that `pod` describes. The pod is neither deleted nor over: those are the worker's other states."""
    actions = _sandbox_actions(pod, runtime)
    if actions.create_sandbox or (actions.kill_pod and not actions.start):
        return actions
    for each in spec_of(pod).get("ephemeralContainers") or ():
        if runtime.latest(each["name"]) is None:
            actions.start.append(Start(each, "ephemeral"))
    initialized = _init_actions(pod, runtime, probes, actions)
    if not initialized or actions.kill_pod:
        return actions
    keep = 0
    for each in containers_of(pod):
        keep += _container_actions(pod, each, runtime, probes, actions)
    if keep == 0 and not any(each.kind == "regular" for each in actions.start):
        return PodActions(kill_pod=True, sandbox=actions.sandbox)
    return actions


def _sandbox_actions(pod: Object, runtime: PodRuntime) -> PodActions:
    changed, attempt = sandbox_changed(pod, runtime)
    actions = PodActions(sandbox=runtime.sandbox, attempt=attempt)
    if not changed:
        return actions
    actions.kill_pod = bool(runtime.sandboxes)
    policy = restart_policy(pod)
    if policy == "Never" and attempt != 0 and runtime.containers:
        # What ran in the lost sandbox does not run again.
        actions.kill_pod = True
        return actions
    wanted = [each for each in containers_of(pod) if not _succeeded_for_good(policy, runtime.latest(each["name"]))]
    if not wanted:
        actions.kill_pod = True
        return actions
    actions.create_sandbox = True
    init = init_containers_of(pod)
    if init:
        actions.start = [Start(init[0], "init", runtime.latest(init[0]["name"]))]
    else:
        actions.start = [Start(each, "regular", runtime.latest(each["name"])) for each in wanted]
    return actions


def sandbox_changed(pod: Object, runtime: PodRuntime) -> tuple[bool, int]:
    """Whether a new sandbox is needed, and its attempt number."""
    latest = runtime.sandbox
    if latest is None:
        return True, 0
    ready = [each for each in runtime.sandboxes if each.ready]
    if len(ready) > 1 or not latest.ready:
        return True, latest.attempt + 1
    host_network = bool(spec_of(pod).get("hostNetwork"))
    if latest.host_network != host_network:
        return True, latest.attempt + 1
    if not host_network and not latest.ips:
        return True, latest.attempt + 1
    return False, latest.attempt


def restart_policy(pod: Object) -> str:
    return spec_of(pod).get("restartPolicy") or "Always"


def _succeeded_for_good(policy: str, last: ContainerRecord | None) -> bool:
    return policy == "OnFailure" and last is not None and last.state == "exited" and last.exit_code == 0


def should_restart(pod: Object, container: dict[str, Any], last: ContainerRecord | None) -> bool:
    """Whether a container that does not run now ought to."""
    if is_deleting(pod):
        return False
    if last is None or last.state in ("created", "unknown"):
        return True
    if last.state == "running":
        return False
    policy = container.get("restartPolicy") or restart_policy(pod)
    if policy == "Never":
        return False
    return policy == "Always" or last.exit_code != 0


def _init_actions(pod: Object, runtime: PodRuntime, probes: ProbeView, actions: PodActions) -> bool:
    """Adds what init containers need; whether the regular containers may run."""
    sandbox_id = actions.sandbox.id if actions.sandbox else ""

    def here(name: str) -> ContainerRecord | None:
        # A new sandbox initialises anew, so what an earlier one has done does not count.
        found = runtime.latest(name)
        return found if found is not None and found.sandbox_id == sandbox_id else None

    begun = any(here(each["name"]) is not None for each in containers_of(pod))
    for each in init_containers_of(pod):
        record, last = here(each["name"]), runtime.latest(each["name"])
        if is_sidecar(each):
            if record is not None and record.state == "running":
                killed = _demanded(each, "init", record, probes, actions)
                if not begun and (killed or not probes.started(record.id)):
                    return False
                continue
            if record is not None and record.state == "unknown":
                actions.kill.append(Kill(record, "Container is in an unknown state"))
            actions.start.append(Start(each, "init", last))
            if not begun:
                return False
            continue
        if begun:
            continue
        if record is None or record.state == "created":
            actions.start.append(Start(each, "init", last))
            return False
        if record.state == "running":
            return False
        if record.state == "unknown":
            actions.kill.append(Kill(record, "Init container is in an unknown state"))
            actions.start.append(Start(each, "init", last))
            return False
        if record.exit_code != 0:
            if restart_policy(pod) == "Never":
                actions.kill_pod, actions.start, actions.kill = True, [], []
            else:
                actions.start.append(Start(each, "init", last))
            return False
    return True


def _container_actions(
    pod: Object, container: dict[str, Any], runtime: PodRuntime, probes: ProbeView, actions: PodActions
) -> bool:
    """Adds what one regular container needs; whether it goes on as it is."""
    record = runtime.latest(container["name"])
    if record is None or record.state != "running":
        if should_restart(pod, container, record):
            if record is not None and record.state == "unknown":
                actions.kill.append(Kill(record, "Container is in an unknown state"))
            actions.start.append(Start(container, "regular", record))
        return False
    _demanded(container, "regular", record, probes, actions)
    return True


def _demanded(container: dict[str, Any], kind: Kind, record: ContainerRecord, probes: ProbeView, actions: PodActions) -> bool:
    """Adds the kill of a running container that its spec or a probe demands; whether it did.

    What a probe has killed is started by the next round, which sees it dead and holds it back as any crash; a new image does not wait.
    """
    name = container["name"]
    if record.hash and record.hash != container_hash(container):
        actions.kill.append(Kill(record, f"Container {name} definition changed, will be restarted"))
        actions.start.append(Start(container, kind, record))
        return True
    probe = probes.failed(record.id)
    if probe:
        actions.kill.append(Kill(record, f"Container {name} failed {probe} probe, will be restarted", probe))
        return True
    return False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A start that has to wait: `delay` is the whole back-off, `remaining` what is left of it, in seconds."""

    start: Start
    delay: float
    remaining: float


def hold_back(
    starts: list[Start], backoff: KeyedBackoff, key: Callable[[dict[str, Any]], str]
) -> tuple[list[Start], list[Waiting]]:
    """Divide `starts` into those that may go ahead and those that crashed too recently. The first are taken to be done: their back-off grows."""
    ready: list[Start] = []
    waiting: list[Waiting] = []
    for each in starts:
        if each.last is None or each.last.state != "exited":
            ready.append(each)
            continue
        ended = each.last.finished_at / 1e9
        # A restarted kubelet reads off the restart count how often it has crashed, so that the back-off survives.
        backoff.seed(key(each.container), each.last.attempt, each.last.started_at / 1e9, ended)
        left = backoff.remaining(key(each.container), ended)
        if left > 0:
            waiting.append(Waiting(each, backoff.delay(key(each.container)), left))
        else:
            backoff.next(key(each.container), ended)
            ready.append(each)
    return ready, waiting
