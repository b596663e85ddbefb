"""The cgroups of pods, above those that the runtime makes for containers: `kubepods/<qos>/pod<uid>` with the pod's limits.

cgroup v1 has a tree per controller, v2 one tree; where neither can be written (an ordinary user without delegation) pods run without limits of
their own, and the runtime is left to place its containers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from kubeling.api.meta import Object
from kubeling.api.pods import qos_class, requests_of
from kubeling.daemon.log import get_logger
from kubeling.kubelet.resources import MIN_SHARES, Limits, cpu_shares, pod_cgroup, pod_limits

log = get_logger("kubelet.cgroups")

ROOT = Path("/sys/fs/cgroup")
#: v2 weights run from 1 to 10000, v1 shares from 2 to 262144.
_WEIGHT = (10000 - 1) / (262144 - 2)


def weight(shares: int) -> int:
    """cpu.weight for cpu shares, by the mapping that runtimes use."""
    return max(1, min(10000, int(1 + (shares - 2) * _WEIGHT)))


class PodCgroups:
    """`root` is the cgroup under which this kubelet works; empty for the top."""

    def __init__(self, root: str, mount: Path = ROOT) -> None:
        self.root = root
        self._mount = mount
        self._unified = (mount / "cgroup.controllers").exists()
        self.enabled = self._writable()
        self._weighed: tuple[int, int] | None = None

    def _writable(self) -> bool:
        at = self._mount if self._unified else self._mount / "cpu"
        inner = at / self.root.strip("/")
        return os.access(inner if inner.is_dir() else at, os.W_OK)

    def limit_all(self, shares: int, memory: int, pids: int) -> None:
        """What all pods together may have; 0: no limit. Held by the kernel, whatever each of them has been promised."""
        if not self.enabled:
            return
        top = f"{self.root.rstrip('/')}/kubepods"
        try:
            if self._unified:
                self._ensure_v2(top, Limits(shares, memory=memory), anew=True)
                at = self._mount / top.strip("/")
                if (at / "pids.max").exists():
                    (at / "pids.max").write_text(str(pids or "max"))
            else:
                self._ensure_v1(top, Limits(shares, memory=memory), anew=True)
                counted = self._mount / "pids" / top.strip("/")
                if (self._mount / "pids").is_dir():
                    counted.mkdir(parents=True, exist_ok=True)
                    (counted / "pids.max").write_text(str(pids or "max"))
        except OSError as error:
            log.warning("what is reserved cannot be kept from pods", cgroup=top, error=str(error))

    def weigh(self, pods: Iterable[Object]) -> None:
        """Let the classes weigh against each other when cpus are short: Burstable pods together by what they ask for, BestEffort ones as little as can be."""
        asked = sum(requests_of(each).get("cpu", 0) for each in pods if qos_class(each) == "Burstable")
        shares = (cpu_shares(asked), MIN_SHARES)
        if not self.enabled or shares == self._weighed:
            return
        for parent, each in zip(self._parents()[1:], shares, strict=True):
            try:
                if self._unified:
                    self._ensure_v2(parent, Limits(each), anew=False)
                else:
                    self._ensure_v1(parent, Limits(each), anew=False)
            except OSError as error:
                log.debug("a class of pods could not be weighed", cgroup=parent, error=str(error))
        self._weighed = shares

    def ensure(self, pod: Object, *, anew: bool = False) -> None:
        """Make the pod's cgroup and set its limits, as far as the machine allows. `anew` takes limits away that it has no more."""
        self._set(pod, pod_limits(pod), anew=anew)

    def resize(self, before: Object, after: Object) -> None:
        """Before a pod's containers change: make room for both what they have and what they will have."""
        old, new = pod_limits(before), pod_limits(after)

        def larger(left: int, right: int) -> int:
            return max(left, right) if left and right else 0

        wide = Limits(max(old.shares, new.shares), larger(old.quota, new.quota), new.period, larger(old.memory, new.memory))
        self._set(after, wide, anew=True)

    def _set(self, pod: Object, limits: Limits, *, anew: bool) -> None:
        if not self.enabled:
            return
        path = pod_cgroup(self.root, pod)
        try:
            if self._unified:
                self._ensure_v2(path, limits, anew)
            else:
                self._ensure_v1(path, limits, anew)
        except OSError as error:
            log.debug("a pod's cgroup could not be set up", cgroup=path, error=str(error))

    def _ensure_v1(self, path: str, limits: Limits, anew: bool) -> None:
        cpu = self._mount / "cpu" / path.strip("/")
        cpu.mkdir(parents=True, exist_ok=True)
        (cpu / "cpu.shares").write_text(str(limits.shares))
        if limits.quota or anew:
            (cpu / "cpu.cfs_period_us").write_text(str(limits.period))
            (cpu / "cpu.cfs_quota_us").write_text(str(limits.quota or -1))
        if limits.memory or anew:
            memory = self._mount / "memory" / path.strip("/")
            memory.mkdir(parents=True, exist_ok=True)
            (memory / "memory.limit_in_bytes").write_text(str(limits.memory or -1))

    def _ensure_v2(self, path: str, limits: Limits, anew: bool) -> None:
        at = self._mount
        for part in Path(path.strip("/")).parts:
            offered = set((at / "cgroup.controllers").read_text().split())
            for controller in ("cpu", "memory", "pids", "cpuset", "io"):
                if controller in offered:
                    (at / "cgroup.subtree_control").write_text(f"+{controller}")
            at /= part
            at.mkdir(exist_ok=True)
        if (at / "cpu.weight").exists():
            (at / "cpu.weight").write_text(str(weight(limits.shares)))
            (at / "cpu.max").write_text(f"{limits.quota or 'max'} {limits.period}")
        if (at / "memory.max").exists() and (limits.memory or anew):
            (at / "memory.max").write_text(str(limits.memory or "max"))

    def pids(self, pod: Object) -> int:
        """How many tasks the pod has; 0 where that is not counted."""
        path = pod_cgroup(self.root, pod).strip("/")
        folder = self._mount / path if self._unified else self._mount / "pids" / path
        try:
            return int((folder / "pids.current").read_text())
        except (OSError, ValueError):
            return 0

    def remove(self, pod: Object) -> None:
        """Remove the pod's cgroup, with what the runtime left in it."""
        self.remove_path(pod_cgroup(self.root, pod))

    def left_behind(self) -> set[str]:
        """The uids of all pods that have a cgroup here. Where the root is not ours alone, what is in it is none of our business."""
        if not self.enabled or not self.root:
            return set()
        found: set[str] = set()
        for tree in self._trees():
            for parent in self._parents():
                folder = tree / parent.strip("/")
                if folder.is_dir():
                    found |= {each.name.removeprefix("pod") for each in folder.iterdir() if each.name.startswith("pod")}
        return found

    def _parents(self) -> tuple[str, str, str]:
        """Of Guaranteed, Burstable and BestEffort pods."""
        top = f"{self.root.rstrip('/')}/kubepods"
        return top, f"{top}/burstable", f"{top}/besteffort"

    def _trees(self) -> list[Path]:
        """In v1 every hierarchy that is mounted, a v2 one beside them as well: runtimes make their cgroups in all of them."""
        return [self._mount] if self._unified else [each for each in self._mount.iterdir() if not each.is_symlink()]

    def remove_orphan(self, uid: str) -> None:
        """As :meth:`remove`, for a pod of which only the uid is known. OSError where something still uses it."""
        for parent in self._parents():
            self.remove_path(f"{parent}/pod{uid}")
        if uid in self.left_behind():
            raise OSError(errno.EBUSY, f"the cgroup of pod {uid} is still in use")

    def remove_path(self, path: str) -> None:
        if not self.enabled:
            return
        for tree in self._trees():
            folder = tree / path.strip("/")
            if not folder.is_dir():
                continue
            # Only folders can be removed here, and only empty ones: nothing that runs is hit.
            for inner, _, _ in os.walk(folder, topdown=False):
                try:
                    os.rmdir(inner)
                except OSError as error:
                    log.debug("a cgroup is still in use", cgroup=inner, error=str(error))
