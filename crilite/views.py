"""The CRI's answers about sandboxes and containers, made from the records."""

from __future__ import annotations

import json

from kubeling.crilite import signals
from kubeling.crilite.containers import labels_match, log_path
from kubeling.crilite.core import Core
from kubeling.crilite.records import CREATED, EXITED, READY, RUNNING, Container, Sandbox
from kubeling.proto import cri_pb2

_STATES = {CREATED: cri_pb2.CONTAINER_CREATED, RUNNING: cri_pb2.CONTAINER_RUNNING, EXITED: cri_pb2.CONTAINER_EXITED}


def sandbox_state(sandbox: Sandbox) -> cri_pb2.PodSandboxState:
    return cri_pb2.SANDBOX_READY if sandbox.record.phase == READY else cri_pb2.SANDBOX_NOTREADY


def sandbox_status(sandbox: Sandbox) -> cri_pb2.PodSandboxStatus:
    config = sandbox.config
    # A pod on the node's network has the node's address, which the kubelet knows and the runtime does not.
    own = sandbox.record.ip if sandbox.record.phase == READY else ""
    return cri_pb2.PodSandboxStatus(
        id=sandbox.id,
        metadata=config.metadata,
        state=sandbox_state(sandbox),
        created_at=sandbox.record.created_at,
        network=cri_pb2.PodSandboxNetworkStatus(
            ip=own, additional_ips=[cri_pb2.PodIP(ip=one) for one in sandbox.record.ips[1:] if own]
        ),
        linux=cri_pb2.LinuxPodSandboxStatus(namespaces=cri_pb2.Namespace(options=sandbox.options)),
        labels=config.labels,
        annotations=config.annotations,
        runtime_handler=sandbox.record.handler,
    )


def container_status(core: Core, container: Container) -> cri_pb2.ContainerStatus:
    record, config = container.record, container.config
    sandbox = core.sandboxes.get(record.sandbox_id)
    status = cri_pb2.ContainerStatus(
        id=container.id,
        metadata=config.metadata,
        state=_STATES[record.phase],
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        exit_code=record.exit_code,
        image=config.image,
        image_ref=record.image_ref,
        image_id=record.image_id,
        reason=record.reason,
        message=record.message,
        labels=config.labels,
        annotations=config.annotations,
        mounts=config.mounts,
        log_path=log_path(sandbox.config, config) if sandbox else "",
        resources=cri_pb2.ContainerResources(linux=config.linux.resources),
        stop_signal=signals.to_cri(record.stop_signal),  # type: ignore[arg-type]
    )
    if record.user:
        uid, gid, groups = record.user
        status.user.CopyFrom(
            cri_pb2.ContainerUser(linux=cri_pb2.LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=groups))
        )
    return status


def snapshot(core: Core, sandbox: Sandbox) -> tuple[cri_pb2.PodSandboxStatus, list[cri_pb2.ContainerStatus]]:
    """A sandbox with all its containers, as events carry them."""
    return sandbox_status(sandbox), [container_status(core, one) for one in core.containers_of(sandbox.id)]


def sandbox_info(sandbox: Sandbox) -> dict[str, str]:
    """What a verbose status adds."""
    record = sandbox.record
    return {
        "info": json.dumps({"handler": record.handler, "cgroup": record.cgroup, "pid": record.pause_pid, "phase": record.phase})
    }


def container_info(container: Container) -> dict[str, str]:
    record = container.record
    return {
        "info": json.dumps({"sandboxID": record.sandbox_id, "pid": record.pid, "cgroup": record.cgroup, "phase": record.phase})
    }


def list_sandboxes(core: Core, wanted: cri_pb2.PodSandboxFilter) -> list[cri_pb2.PodSandbox]:
    made = []
    for sandbox in core.sandboxes.values():
        state = sandbox_state(sandbox)
        if wanted.id and not sandbox.id.startswith(wanted.id):
            continue
        if wanted.HasField("state") and wanted.state.state != state:
            continue
        if not labels_match(wanted.label_selector, sandbox.config.labels):
            continue
        made.append(
            cri_pb2.PodSandbox(
                id=sandbox.id,
                metadata=sandbox.config.metadata,
                state=state,
                created_at=sandbox.record.created_at,
                labels=sandbox.config.labels,
                annotations=sandbox.config.annotations,
                runtime_handler=sandbox.record.handler,
            )
        )
    return made


def list_containers(core: Core, wanted: cri_pb2.ContainerFilter) -> list[cri_pb2.Container]:
    made = []
    for container in core.containers.values():
        record = container.record
        if wanted.id and not container.id.startswith(wanted.id):
            continue
        if wanted.pod_sandbox_id and not record.sandbox_id.startswith(wanted.pod_sandbox_id):
            continue
        if wanted.HasField("state") and wanted.state.state != _STATES[record.phase]:
            continue
        if not labels_match(wanted.label_selector, container.config.labels):
            continue
        made.append(
            cri_pb2.Container(
                id=container.id,
                pod_sandbox_id=record.sandbox_id,
                metadata=container.config.metadata,
                image=container.config.image,
                image_ref=record.image_ref,
                image_id=record.image_id,
                state=_STATES[record.phase],
                created_at=record.created_at,
                labels=container.config.labels,
                annotations=container.config.annotations,
            )
        )
    return made
