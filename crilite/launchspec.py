"""The launch spec of a container: everything that the keeper's child needs to become it, as one JSON object in the container's state."""

from __future__ import annotations

import os
import stat
from typing import Any

from kubeling.crilite import oci, oci_tools, seccomp, spec, userns
from kubeling.crilite.core import Core
from kubeling.crilite.errors import FailedPrecondition, InvalidArgument
from kubeling.crilite.images import Image
from kubeling.crilite.records import RUNNING, Container, Sandbox
from kubeling.proto import cri_pb2

#: In the environment of every process of a container without namespaces: how its descendants are found.
MARKER = "KUBELING_CONTAINER_ID"


def build(core: Core, sandbox: Sandbox, container: Container, image: Image) -> dict[str, Any]:
    """See :func:`kubeling.crilite.launch.container` for how each part is used."""
    config = container.config
    context = config.linux.security_context
    process = sandbox.record.handler == "process"
    sets = spec.capability_sets(context)
    environment = {"HOSTNAME": sandbox.config.hostname} if sandbox.config.hostname else {}
    made: dict[str, Any] = {
        "id": container.id,
        "args": spec.command(config, image.config),
        "cwd": config.working_dir or image.config.cwd or "/",
        "tty": config.tty,
        "stdin": config.stdin,
        "log_path": _log_path(sandbox, config),
        "user": spec.user(context, image.config),
        "capabilities": sets,
        "seccomp": "" if process else seccomp.program(context, sets["bounding"] if sets else None).hex(),
        "privileged": context.privileged,
        "no_new_privs": context.no_new_privs,
        "rlimits": {},
        "oom_score_adj": config.linux.resources.oom_score_adj,
    }
    if process:
        made.update(_process(core, sandbox, container, image, made, environment))
    else:
        made.update(_native(core, sandbox, container, image))
        if sandbox.record.handler in oci.RUNTIMES:
            made["oci"] = _oci(core, sandbox, container, made)
        made["env"] = spec.environment(config, image.config, environment)
    return made


def _oci(core: Core, sandbox: Sandbox, container: Container, made: dict[str, Any]) -> dict[str, Any]:
    """What an OCI runtime needs beside the rest."""
    config = container.config
    if any(entry.get("propagation") == "shared" for entry in made["mounts"]):
        raise InvalidArgument(f"the handler {sandbox.record.handler!r} has no mounts that propagate to the node (Bidirectional)")
    devices = []
    for one in config.devices:
        info = os.stat(one.host_path)
        if not stat.S_ISCHR(info.st_mode) and not stat.S_ISBLK(info.st_mode):
            raise InvalidArgument(f"{one.host_path} is not a device")
        devices.append(
            {
                "path": one.container_path,
                "type": "c" if stat.S_ISCHR(info.st_mode) else "b",
                "major": os.major(info.st_rdev),
                "minor": os.minor(info.st_rdev),
                "fileMode": stat.S_IMODE(info.st_mode),
                "uid": info.st_uid,
                "gid": info.st_gid,
            }
        )
    sets = made["capabilities"]
    return {
        "command": oci_tools.command(sandbox.record.handler),
        "root": oci_tools.state(core.config.state, sandbox.record.handler),
        "cgroup": container.record.cgroup,
        "devices": devices,
        "seccomp": seccomp.profile(config.linux.security_context, sets["bounding"] if sets else None),
    }


def _log_path(sandbox: Sandbox, config: cri_pb2.ContainerConfig) -> str:
    if not config.log_path or not sandbox.config.log_directory:
        return ""
    return os.path.join(sandbox.config.log_directory, config.log_path)


def _native(core: Core, sandbox: Sandbox, container: Container, image: Image) -> dict[str, Any]:
    config = container.config
    context = config.linux.security_context
    folder = core.sandbox_state(sandbox.id)

    def pinned(kind: str) -> str:
        path = folder / kind
        return str(path) if path.exists() else ""

    mounts = spec.mounts(config, sandbox.options)
    present = {entry["target"] for entry in mounts}
    for name in ("resolv.conf", "hostname", "hosts"):
        if f"/etc/{name}" not in present:
            mounts.insert(
                0,
                {
                    "source": core.sandbox_records.path(sandbox.id, name),
                    "target": f"/etc/{name}",
                    "readonly": context.readonly_rootfs,
                },
            )
    if "/dev/shm" not in present:
        shared = folder / "shm"
        mounts.insert(0, {"source": str(shared) if shared.exists() else "/dev/shm", "target": "/dev/shm"})
    for device in config.devices:
        mounts.append({"source": device.host_path, "target": device.container_path, "device": True})
    if not context.privileged:
        privileged_sandbox = False
    else:
        privileged_sandbox = sandbox.config.linux.security_context.privileged
        if not privileged_sandbox:
            raise InvalidArgument("a privileged container needs a privileged sandbox")
    return {
        "rootfs": core.images.rootfs(image, core.container_records.path(container.id), hidden(core)),
        "mounts": mounts,
        "namespaces": {
            "pid": _pid_namespace(core, sandbox, context.namespace_options),
            "net": pinned("net"),
            "ipc": pinned("ipc"),
            "uts": pinned("uts"),
            "user": pinned("user"),
        },
        "user_namespace": userns.owner(sandbox.options) if pinned("user") else None,
        "masked_paths": [] if context.privileged else list(context.masked_paths),
        "readonly_paths": [] if context.privileged else list(context.readonly_paths),
        "readonly_rootfs": context.readonly_rootfs,
    }


def hidden(core: Core) -> list[str]:
    """What a view of the node's own files must not show: our own data, and what we were told to hide."""
    return [str(core.config.root), str(core.config.state), *core.config.hide]


def _pid_namespace(core: Core, sandbox: Sandbox, options: cri_pb2.NamespaceOption) -> str | int:
    """``new``, ``node``, or the pid of a process whose namespace is to be shared."""
    if options.pid == cri_pb2.NODE:
        return "node"
    if options.pid == cri_pb2.TARGET:
        target = core.container(options.target_id)
        if target.record.phase != RUNNING:
            raise FailedPrecondition(f"target container {options.target_id!r} is not running")
        return target.record.pid
    if options.pid == cri_pb2.POD and sandbox.record.pause_pid:
        return sandbox.record.pause_pid
    return "new"


def _process(
    core: Core, sandbox: Sandbox, container: Container, image: Image, made: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    if image.kind != "host":
        raise InvalidArgument(
            f"image {image.reference!r} needs a root file system of its own, which the handler `process` cannot give: it runs "
            "kubeling.local/host only"
        )
    config = container.config
    root = str(core.container_state(container.id) / "rootfs")
    table = {entry["target"]: entry["source"] for entry in spec.mounts(config)}
    environment |= {MARKER: container.id, "KUBELING_ROOT": root}
    # POD_IP is a name that pods often fill by the downward API; theirs wins.
    environment["POD_IP"] = sandbox.record.ip
    return {
        "rootfs": {"kind": "none"},
        "mounts": [],
        "namespaces": {"pid": "node", "net": "", "ipc": "", "uts": "", "user": ""},
        "marker": f"{MARKER}={container.id}",
        "args": spec.rewrite_paths(made["args"], table),
        "env": spec.rewrite_paths(spec.environment(config, image.config, environment), table),
        "cwd": spec.rewrite_paths([made["cwd"]], table)[0],
        "masked_paths": [],
        "readonly_paths": [],
        "readonly_rootfs": False,
    }


def link_volumes(config: cri_pb2.ContainerConfig, root: str) -> None:
    """For a container without a mount namespace: its volumes as symbolic links below KUBELING_ROOT, each at its path in the container."""
    for entry in spec.mounts(config):
        path = os.path.normpath(root + entry["target"])
        if not os.path.lexists(path):
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.symlink(entry["source"], path)
            except (FileExistsError, NotADirectoryError):
                # A volume inside another volume is reached through the outer one, or not at all.
                continue
