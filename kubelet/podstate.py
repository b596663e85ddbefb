"""What the runtime holds of a pod, in the shape that decisions are made on.

Everything that must survive the kubelet's own death is read back from the labels and annotations that it gave to sandboxes and containers; the
names are upstream's, so that other tools find their way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"
PRE_STOP = "io.kubernetes.container.preStopHandler"
#: The resources of the container's spec, as JSON: ours alone.
RESOURCES = "kubeling.dev/container.resources"
PORTS = "io.kubernetes.container.ports"

State = Literal["created", "running", "exited", "unknown"]
_STATES: tuple[State, ...] = ("created", "running", "exited", "unknown")


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """One container, alive or dead. Times are nanoseconds since the epoch, 0 where they have not come yet."""

    id: str
    name: str
    attempt: int
    state: State
    sandbox_id: str = ""
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_id: str = ""
    hash: str = ""
    grace_period: int | None = None
    pre_stop: str = ""
    resources: str = ""
    user: tuple[int, int, tuple[int, ...]] | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def alive(self) -> bool:
        """There may be a process to stop."""
        return self.state in ("running", "unknown")


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """One sandbox: what the containers of a pod share."""

    id: str
    attempt: int
    ready: bool
    created_at: int = 0
    ips: tuple[str, ...] = ()
    host_network: bool = False
    handler: str = ""


@dataclass(frozen=True, slots=True)
class PodRuntime:
    """A pod as the runtime knows it; both lists are newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[SandboxRecord, ...] = ()
    containers: tuple[ContainerRecord, ...] = field(default=())

    @property
    def sandbox(self) -> SandboxRecord | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    def latest(self, name: str) -> ContainerRecord | None:
        """The newest container of that name."""
        return next((each for each in self.containers if each.name == name), None)

    def history(self, name: str) -> list[ContainerRecord]:
        """All containers of that name, newest first."""
        return [each for each in self.containers if each.name == name]

    @property
    def any_alive(self) -> bool:
        return any(each.alive for each in self.containers)


def moment(nanos: int) -> datetime:
    """A CRI timestamp as a time."""
    return datetime.fromtimestamp(nanos / 1e9, UTC)


def sandbox_record(status: cri_pb2.PodSandboxStatus) -> SandboxRecord:
    """From PodSandboxStatus."""
    network = status.network
    ips = tuple(ip for ip in (network.ip, *(each.ip for each in network.additional_ips)) if ip)
    return SandboxRecord(
        id=status.id,
        attempt=status.metadata.attempt,
        ready=status.state == 0,
        created_at=status.created_at,
        ips=ips,
        host_network=status.linux.namespaces.options.network == 2,
        handler=status.runtime_handler,
    )


def container_record(status: cri_pb2.ContainerStatus, sandbox_id: str) -> ContainerRecord:
    """From ContainerStatus; the sandbox is known from the list only."""
    notes = status.annotations
    linux = status.user.linux if status.HasField("user") and status.user.HasField("linux") else None
    return ContainerRecord(
        id=status.id,
        name=status.labels.get(CONTAINER_NAME, status.metadata.name),
        attempt=_number(notes.get(RESTART_COUNT)) or status.metadata.attempt,
        state=_STATES[status.state] if 0 <= status.state < len(_STATES) else "unknown",
        sandbox_id=sandbox_id,
        created_at=status.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        image=status.image.user_specified_image or status.image.image,
        image_id=status.image_ref or status.image_id,
        hash=notes.get(HASH, ""),
        grace_period=_number(notes.get(GRACE_PERIOD)),
        pre_stop=notes.get(PRE_STOP, ""),
        resources=notes.get(RESOURCES, ""),
        user=(linux.uid, linux.gid, tuple(linux.supplemental_groups)) if linux is not None else None,
    )


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None
