"""The two levels of securityContext as one: what the container says wins over what the pod says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeling.api.meta import Object, metadata_of, spec_of, uid_of
from kubeling.kubelet.env import ConfigError

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class Seccomp:
    """`kind` is RuntimeDefault, Unconfined or Localhost; `path` is for the last."""

    kind: str = "Unconfined"
    path: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """What holds for one container."""

    run_as_user: int | None
    run_as_group: int | None
    run_as_non_root: bool
    privileged: bool
    read_only_root: bool
    no_new_privileges: bool
    add: tuple[str, ...]
    drop: tuple[str, ...]
    seccomp: Seccomp
    supplemental_groups: tuple[int, ...]
    groups_policy: str
    masked: tuple[str, ...]
    read_only: tuple[str, ...]


def effective(pod: Object, container: Mapping[str, Any]) -> Security:
    """Merge the levels."""
    shared: Mapping[str, Any] = spec_of(pod).get("securityContext") or {}
    own: Mapping[str, Any] = container.get("securityContext") or {}

    def pick(name: str) -> Any:
        return own[name] if own.get(name) is not None else shared.get(name)

    privileged = bool(own.get("privileged"))
    capabilities = own.get("capabilities") or {}
    added = tuple(capabilities.get("add") or ())
    unmasked = privileged or own.get("procMount") == "Unmasked"
    # Privileged, or able to mount, containers could not give up what they are.
    may_escalate = own.get("allowPrivilegeEscalation")
    return Security(
        run_as_user=pick("runAsUser"),
        run_as_group=pick("runAsGroup"),
        run_as_non_root=bool(pick("runAsNonRoot")),
        privileged=privileged,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=may_escalate is False,
        add=added,
        drop=tuple(capabilities.get("drop") or ()),
        seccomp=_seccomp(pick("seccompProfile")),
        supplemental_groups=pod_groups(pod),
        groups_policy=str(shared.get("supplementalGroupsPolicy") or "Merge"),
        masked=() if unmasked else MASKED_PATHS,
        read_only=() if unmasked else READ_ONLY_PATHS,
    )


def pod_groups(pod: Object) -> tuple[int, ...]:
    """The groups that every process of the pod is in, the volumes' group among them."""
    shared = spec_of(pod).get("securityContext") or {}
    groups = list(shared.get("supplementalGroups") or ())
    if shared.get("fsGroup") is not None:
        groups.append(shared["fsGroup"])
    return tuple(dict.fromkeys(groups))


def _seccomp(profile: Mapping[str, Any] | None) -> Seccomp:
    return Seccomp(profile.get("type") or "Unconfined", profile.get("localhostProfile") or "") if profile else Seccomp()


def pod_seccomp(pod: Object) -> Seccomp:
    """The pod level's profile, for the sandbox."""
    return _seccomp((spec_of(pod).get("securityContext") or {}).get("seccompProfile"))


def verify_non_root(
    pod: Object, container: Mapping[str, Any], security: Security, image_uid: int | None, image_user: str
) -> None:
    """ConfigError where `runAsNonRoot` would be broken, or cannot be judged."""
    if not security.run_as_non_root:
        return
    where = f'(pod: "{metadata_of(pod).get("name")}_{metadata_of(pod).get("namespace")}({uid_of(pod)})", container: {container["name"]})'
    if security.run_as_user is not None:
        if security.run_as_user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    if image_uid == 0 or (image_uid is None and image_user in ("", "root", "0")):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if image_uid is None:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root {where}"
        )
