"""What the parts of the runtime share: the objects that exist, where things lie on disk, and the events about them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from kubeling.crilite.attachment import Attachment, attachment
from kubeling.crilite.cgroups import Cgroups
from kubeling.crilite.config import Config
from kubeling.crilite.errors import NotFound
from kubeling.crilite.held import write_atomically
from kubeling.crilite.images import ImageStore
from kubeling.crilite.keeper_client import KeeperClient
from kubeling.crilite.network import LoopbackNetwork, PodNetwork
from kubeling.crilite.records import Container, ContainerRecord, Folder, Sandbox, SandboxRecord
from kubeling.proto import cri_pb2

#: What a listener to events may lag behind before its stream is ended; it then lists, as after any reconnect.
MAX_EVENTS = 4096

Snapshot = Callable[[Sandbox], tuple[cri_pb2.PodSandboxStatus, list[cri_pb2.ContainerStatus]]]


class Core:
    """State and no behaviour: see :mod:`sandboxes`, :mod:`containers` and :mod:`recovery`."""

    def __init__(
        self,
        config: Config,
        keeper: KeeperClient,
        cgroups: Cgroups,
        cgroup_problem: str,
        native: PodNetwork,
        loopback: LoopbackNetwork,
    ) -> None:
        self.config = config
        self.keeper = keeper
        self.cgroups = cgroups
        self.cgroup_problem = cgroup_problem
        self.native_network = native
        self.loopback_network = loopback
        self.sandbox_records = Folder(config.root / "sandboxes")
        self.container_records = Folder(config.root / "containers")
        self.images = ImageStore(config.root / "images", config.registries, config.image_policy)
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        self.sandbox_names: dict[str, str] = {}
        self.container_names: dict[str, str] = {}
        self.snapshot: Snapshot | None = None
        self._listeners: set[asyncio.Queue[cri_pb2.ContainerEventResponse | None]] = set()

    # -- lookups -------------------------------------------------------------------------------------------------------------------------------

    def sandbox(self, name: str) -> Sandbox:
        found = self.sandboxes.get(name)
        if found is None:
            raise NotFound(f"sandbox {name!r} not found")
        return found

    def container(self, name: str) -> Container:
        found = self.containers.get(name)
        if found is None:
            raise NotFound(f"container {name!r} not found")
        return found

    def containers_of(self, sandbox: str) -> list[Container]:
        return [container for container in self.containers.values() if container.record.sandbox_id == sandbox]

    def network_of(self, sandbox: Sandbox) -> PodNetwork:
        return self.loopback_network if sandbox.record.handler == "process" else self.native_network

    def attachment(self, sandbox: Sandbox) -> Attachment:
        """The sandbox as its network knows it."""
        netns = str(self.sandbox_state(sandbox.id) / "net")
        return attachment(sandbox.id, sandbox.config, netns, sandbox.record.ips, sandbox.record.cgroup)

    def sandbox_state(self, sandbox: str) -> Path:
        """Where the sandbox's namespaces are pinned."""
        return self.config.state / "sandboxes" / sandbox

    def container_state(self, container: str) -> Path:
        """What the keeper works with: the launch spec, the pipes, and the end."""
        return self.config.state / "containers" / container

    @staticmethod
    def now() -> int:
        """Nanoseconds of wall time, as CRI's timestamps are."""
        return time.time_ns()

    # -- the node's pod CIDR -------------------------------------------------------------------------------------------------------------------

    def set_pod_cidr(self, cidr: str) -> None:
        """Give pods addresses of `cidr` (or two, one of each family, with a comma between them) from now on, after a restart too. A ValueError if it is none."""
        self.native_network.configure(cidr)
        write_atomically(str(self.config.root / "network.json"), json.dumps({"podCIDR": cidr}).encode())

    def load_pod_cidr(self) -> None:
        """What was set last, or what the flag says."""
        cidr = self.config.pod_cidr
        with contextlib.suppress(OSError, ValueError, KeyError):
            cidr = json.loads((self.config.root / "network.json").read_bytes())["podCIDR"]
        if cidr:
            self.native_network.configure(cidr)

    # -- registration --------------------------------------------------------------------------------------------------------------------------

    def add_sandbox(self, record: SandboxRecord) -> Sandbox:
        sandbox = Sandbox(record)
        self.sandboxes[record.id] = sandbox
        self.sandbox_names[sandbox_name(sandbox.config.metadata)] = record.id
        return sandbox

    def forget_sandbox(self, sandbox: Sandbox) -> None:
        self.sandboxes.pop(sandbox.id, None)
        self.sandbox_names.pop(sandbox_name(sandbox.config.metadata), None)

    def add_container(self, record: ContainerRecord) -> Container:
        container = Container(record)
        self.containers[record.id] = container
        self.container_names[container_name(record.sandbox_id, container.config.metadata)] = record.id
        return container

    def forget_container(self, container: Container) -> None:
        self.containers.pop(container.id, None)
        self.container_names.pop(container_name(container.record.sandbox_id, container.config.metadata), None)

    # -- events --------------------------------------------------------------------------------------------------------------------------------

    def listen(self) -> asyncio.Queue[cri_pb2.ContainerEventResponse | None]:
        """A queue of all events from now on; None in it means that some were lost, and is the last."""
        queue: asyncio.Queue[cri_pb2.ContainerEventResponse | None] = asyncio.Queue()
        self._listeners.add(queue)
        return queue

    def unlisten(self, queue: asyncio.Queue[cri_pb2.ContainerEventResponse | None]) -> None:
        self._listeners.discard(queue)

    def emit(self, kind: cri_pb2.ContainerEventType, name: str, sandbox: Sandbox | None) -> None:
        """Tell every listener; `name` is a container's id or the sandbox's own."""
        if not self._listeners:
            return
        event = cri_pb2.ContainerEventResponse(container_id=name, container_event_type=kind, created_at=time.time_ns())
        if sandbox is not None and self.snapshot is not None:
            status, containers = self.snapshot(sandbox)
            event.pod_sandbox_status.CopyFrom(status)
            event.containers_statuses.extend(containers)
        for queue in list(self._listeners):
            if queue.qsize() >= MAX_EVENTS:
                self._listeners.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)


def new_id() -> str:
    return secrets.token_hex(32)


def sandbox_name(metadata: cri_pb2.PodSandboxMetadata) -> str:
    """What no two sandboxes may share."""
    return f"{metadata.name}_{metadata.namespace}_{metadata.uid}_{metadata.attempt}"


def container_name(sandbox: str, metadata: cri_pb2.ContainerMetadata) -> str:
    return f"{metadata.name}_{sandbox}_{metadata.attempt}"
