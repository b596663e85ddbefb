"""From CRI's words to what the launcher does: plain functions without I/O."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubeling.crilite import userns
from kubeling.crilite.errors import InvalidArgument
from kubeling.linux import capabilities
from kubeling.proto import cri_pb2

#: What a container may do that asks for nothing: the set that containerd and docker give.
DEFAULT_CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
]

_PROPAGATION = {
    cri_pb2.PROPAGATION_PRIVATE: "private",
    cri_pb2.PROPAGATION_HOST_TO_CONTAINER: "slave",
    cri_pb2.PROPAGATION_BIDIRECTIONAL: "shared",
}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of an image's configuration that a container takes over."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = field(default=())


def command(config: cri_pb2.ContainerConfig, image: ImageConfig) -> list[str]:
    """`command` replaces the image's entry point and its arguments too; `args` replaces the arguments only."""
    if config.command:
        return [*config.command, *config.args]
    return [*image.entrypoint, *(config.args or image.cmd)]


def environment(config: cri_pb2.ContainerConfig, image: ImageConfig, extra: dict[str, str]) -> list[str]:
    """`extra`, then the image's, then the container's; a later value of a name replaces an earlier one in its place."""
    merged = dict(extra)
    for entry in image.env:
        name, _, value = entry.partition("=")
        merged[name] = value
    for pair in config.envs:
        merged[pair.key] = pair.value.decode("utf-8", "surrogateescape")
    return [f"{name}={value}" for name, value in merged.items()]


def capability_sets(context: cri_pb2.LinuxContainerSecurityContext) -> dict[str, int] | None:
    """Bit sets for ``bounding`` and ``ambient``; None for a privileged container, which keeps all that the runtime has."""
    if context.privileged:
        return None
    asked = context.capabilities
    add, drop = (
        [name.upper().removeprefix("CAP_") for name in names] for names in (asked.add_capabilities, asked.drop_capabilities)
    )
    try:
        bits = (1 << len(capabilities.NAMES)) - 1 if "ALL" in add else capabilities.mask(DEFAULT_CAPABILITIES)
        if "ALL" in drop:
            bits = 0
        bits |= capabilities.mask([name for name in add if name != "ALL"])
        bits &= ~capabilities.mask([name for name in drop if name != "ALL"])
        ambient = capabilities.mask(list(asked.add_ambient_capabilities))
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    return {"bounding": bits | ambient, "ambient": ambient}


def user(context: cri_pb2.LinuxContainerSecurityContext, image: ImageConfig) -> dict[str, Any]:
    """For :func:`kubeling.crilite.users.resolve`."""
    if context.HasField("run_as_group") and not (context.HasField("run_as_user") or context.run_as_username):
        raise InvalidArgument("run_as_group is given without run_as_user or run_as_username")
    return {
        "uid": context.run_as_user.value if context.HasField("run_as_user") else None,
        "name": context.run_as_username or image.user,
        "gid": context.run_as_group.value if context.HasField("run_as_group") else None,
        "groups": list(context.supplemental_groups),
        "strict": context.supplemental_groups_policy == cri_pb2.Strict,
    }


def mounts(config: cri_pb2.ContainerConfig, options: cri_pb2.NamespaceOption | None = None) -> list[dict[str, Any]]:
    """The container's own mounts, outer paths before inner ones. `options` are those of its sandbox."""
    made = []
    for mount in config.mounts:
        if not os.path.isabs(mount.container_path) or ".." in mount.container_path.split("/"):
            raise InvalidArgument(f"mount path {mount.container_path!r} must be absolute and without '..'")
        if mount.recursive_read_only and (not mount.readonly or mount.propagation != cri_pb2.PROPAGATION_PRIVATE):
            raise InvalidArgument(f"mount {mount.container_path}: recursive_read_only needs readonly and private propagation")
        if mount.uidMappings or mount.gidMappings:
            users = options.userns_options if options is not None and userns.wanted(options) else None
            if users is None or not userns.same(mount.uidMappings, users.uids) or not userns.same(mount.gidMappings, users.gids):
                raise InvalidArgument(f"mount {mount.container_path}: its ids can only be mapped as those of the pod are")
        made.append(
            {
                "map_ids": bool(mount.uidMappings),
                "source": mount.host_path,
                "target": os.path.normpath(mount.container_path),
                "readonly": mount.readonly,
                "noexec": bool(mount.image.image),
                "recursive_readonly": mount.recursive_read_only,
                "propagation": _PROPAGATION[mount.propagation],
            }
        )
    return sorted(made, key=lambda entry: str(entry["target"]).count("/") if entry["target"] != "/" else 0)


def resolv_conf(dns: cri_pb2.DNSConfig) -> str:
    """The text of /etc/resolv.conf."""
    lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"nameserver {server}" for server in dns.servers]
    if dns.options:
        lines.append(f"options {' '.join(dns.options)}")
    return "\n".join(lines) + "\n" if lines else ""


def hosts(hostname: str, ips: Iterable[str]) -> str:
    """/etc/hosts for clients that mount none of their own."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{ip}\t{hostname}" for ip in ips if hostname]
    return "\n".join(lines) + "\n"


def rewrite_paths(texts: list[str], table: dict[str, str]) -> list[str]:
    """For processes without a mount namespace: a word that is one of the container's mount paths, or lies below one, or has such a path after
    its first ``=``, is given the path on the node instead."""

    def path(text: str) -> str:
        for target, source in sorted(table.items(), key=lambda item: -len(item[0])):
            if text == target or text.startswith(target + "/"):
                return source + text[len(target) :]
        return text

    def word(text: str) -> str:
        if text.startswith("/"):
            return path(text)
        name, equals, value = text.partition("=")
        return f"{name}={path(value)}" if equals and value.startswith("/") else text

    return [word(text) for text in texts]
