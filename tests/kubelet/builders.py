"""Pods and runtime records for tests of the decision core."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from kubeling.kubelet.actions import container_hash
from kubeling.kubelet.podstate import ContainerRecord, PodRuntime, SandboxRecord

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SECOND = 10**9
START = int(NOW.timestamp()) * SECOND


def container(name: str = "web", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "img:1", **more}


def pod(
    *containers: dict[str, Any], init: list[dict[str, Any]] | None = None, status: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
        "spec": {
            "nodeName": "n1",
            "containers": list(containers) or [container()],
            **({"initContainers": init} if init else {}),
            **spec,
        },
        "status": status or {},
    }


def record(
    name: str = "web",
    state: Literal["created", "running", "exited", "unknown"] = "running",
    *,
    attempt: int = 0,
    exit_code: int = 0,
    sandbox: str = "s0",
    finished: int = 0,
    image: str = "img:1",
    reason: str = "",
) -> ContainerRecord:
    return ContainerRecord(
        id=f"{name}-{attempt}",
        name=name,
        attempt=attempt,
        state=state,
        sandbox_id=sandbox,
        created_at=START + attempt * SECOND,
        started_at=START + attempt * SECOND,
        finished_at=START + finished * SECOND if state == "exited" else 0,
        exit_code=exit_code,
        reason=reason,
        image=image,
        image_id="sha256:1",
        hash=container_hash({"name": name, "image": image}),
    )


def sandbox(attempt: int = 0, *, ready: bool = True, ips: tuple[str, ...] = ("10.0.0.1",), host: bool = False) -> SandboxRecord:
    return SandboxRecord(f"s{attempt}", attempt, ready, START, ips, host)


def runtime(*containers: ContainerRecord, boxes: tuple[SandboxRecord, ...] | None = None) -> PodRuntime:
    return PodRuntime("u1", "p", "ns", (sandbox(),) if boxes is None else boxes, containers)


class Probes:
    """A ProbeView that says what it was told."""

    def __init__(
        self, *, failed: dict[str, str] | None = None, unready: set[str] | None = None, unstarted: set[str] | None = None
    ) -> None:
        self._failed = failed or {}
        self._unready = unready or set()
        self._unstarted = unstarted or set()

    def started(self, container_id: str) -> bool:
        return container_id not in self._unstarted

    def ready(self, container_id: str) -> bool:
        return container_id not in self._unready

    def failed(self, container_id: str) -> Literal["liveness", "startup", ""]:
        return self._failed.get(container_id, "")  # type: ignore[return-value]
