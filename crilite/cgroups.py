"""Resource limits and their accounting: one small interface over cgroup v1, cgroup v2, and neither.

Paths are relative to the hierarchy (``/kubeling/pod1/abc``). With the `none` backend (rootless without delegation) limits are accepted and
not enforced, which Status says, and usage is summed up from /proc by the caller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import Protocol

from kubeling.crilite import cgroup_views
from kubeling.proto import cri_pb2

Resources = cri_pb2.LinuxContainerResources


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cgroup has used: nanoseconds of CPU, bytes of memory."""

    cpu: int = 0
    memory: int = 0
    working_set: int = 0
    rss: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    memory_limit: int = 0
    processes: int = 0


class Cgroups(Protocol):
    """The part of a backend that the runtime uses."""

    name: str

    def exists(self, path: str) -> bool: ...

    def create(self, path: str, resources: Resources | None, pids: int = 0) -> None:
        """Make the cgroup with its limits, and those above it."""

    def update(self, path: str, resources: Resources, pids: int = 0) -> None: ...

    def joins(self, path: str) -> list[str]:
        """The files that a process of one thread writes ``0`` to, from that thread, in order to join."""

    def oom_file(self, path: str) -> str: ...

    def views(self) -> list[dict[str, str]]:
        """What a container is to see of them, see :func:`cgroup_views.show`."""

    def usage(self, path: str) -> Usage: ...

    def pids(self, path: str) -> list[int]: ...

    def kill(self, path: str) -> None: ...

    def remove(self, path: str) -> bool:
        """Whether it is gone."""


def _write(path: str, value: str | int) -> None:
    with open(path, "w") as file:
        file.write(str(value))


def _read_int(path: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(path) as file:
        text = file.read().strip()
        return 0 if text == "max" else int(text)
    return 0


def _table(path: str) -> dict[str, int]:
    """A file of ``name number`` lines."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError), open(path) as file:
        for line in file:
            name, _, number = line.partition(" ")
            with contextlib.suppress(ValueError):
                found[name] = int(number)
    return found


def _remove(folder: str, attempts: int = 50) -> bool:
    """rmdir from the bottom up. A cgroup whose last process is just going away is busy for a moment."""
    for inner, _folders, _files in os.walk(folder, topdown=False):
        for attempt in range(attempts):
            try:
                os.rmdir(inner)
                break
            except FileNotFoundError:
                break
            except OSError:
                if attempt == attempts - 1:
                    return False
                time.sleep(0.002 * (attempt + 1))
    return not os.path.exists(folder)


def _pids_in(path: str) -> list[int]:
    with contextlib.suppress(OSError), open(path) as file:
        return [int(line) for line in file]
    return []


class V1:
    """One directory for each controller."""

    name = "v1"

    def __init__(self, mounts: dict[str, str]) -> None:
        # A machine with both has each controller in one of the two.
        self._unified = mounts.get("unified", "")
        self._unified_hugetlb = cgroup_views.has_controller(self._unified, "hugetlb")
        self._hugetlb = mounts.get("hugetlb", self._unified if self._unified_hugetlb else "")
        self._views = cgroup_views.describe(mounts)
        wanted = ("memory", "cpu", "cpuacct", "pids")
        self._mounts = {name: mounts[name] for name in wanted if name in mounts}
        self._cpuset = mounts.get("cpuset", "")
        # Of the others nothing is asked. But a process sees a hierarchy from its own cgroup down, with a new cgroup namespace: were that the top, root of a
        # container could freeze its neighbours, or take the node's devices away.
        self._others = sorted(set(mounts.values()) - set(self._mounts.values()) - {self._cpuset})

    def _folders(self, path: str) -> list[str]:
        mounts = [*self._mounts.values(), self._cpuset, *self._others]
        return list(dict.fromkeys(mount + path for mount in mounts if mount))

    def views(self) -> list[dict[str, str]]:
        return self._views

    def exists(self, path: str) -> bool:
        return os.path.isdir(self._mounts["memory"] + path)

    def create(self, path: str, resources: Resources | None, pids: int = 0) -> None:
        for mount in dict.fromkeys(self._mounts.values()):
            os.makedirs(mount + path, exist_ok=True)
        for mount in self._others:
            # What was not delegated to us cannot be changed by what we start either.
            with contextlib.suppress(OSError):
                os.makedirs(mount + path, exist_ok=True)
        if self._unified_hugetlb:
            with contextlib.suppress(OSError):
                cgroup_views.enable(self._unified, path, "hugetlb")
        if self._cpuset:
            with contextlib.suppress(OSError):
                self._make_cpuset(path)
        if resources is not None:
            self.update(path, resources, pids)

    def update(self, path: str, resources: Resources, pids: int = 0) -> None:
        mounts = self._mounts
        if self._hugetlb:
            cgroup_views.limit_huge_pages(self._hugetlb + path, resources)
        if "cpu" in mounts:
            if resources.cpu_shares:
                _write(f"{mounts['cpu']}{path}/cpu.shares", max(2, resources.cpu_shares))
            if resources.cpu_period:
                _write(f"{mounts['cpu']}{path}/cpu.cfs_period_us", resources.cpu_period)
            if resources.cpu_quota:
                _write(f"{mounts['cpu']}{path}/cpu.cfs_quota_us", resources.cpu_quota)
        if resources.memory_limit_in_bytes and "memory" in mounts:
            folder = mounts["memory"] + path
            swap = resources.memory_swap_limit_in_bytes or resources.memory_limit_in_bytes
            limits = [("memory.limit_in_bytes", resources.memory_limit_in_bytes), ("memory.memsw.limit_in_bytes", swap)]
            current = _read_int(f"{folder}/memory.memsw.limit_in_bytes")
            # The limit with swap may never be the lower of the two: which goes first depends on the direction.
            for name, value in reversed(limits) if current and swap > current else limits:
                if os.path.exists(f"{folder}/{name}"):
                    _write(f"{folder}/{name}", value)
        pids = int(resources.unified.get("pids.max", "0").replace("max", "0")) or pids
        if pids and "pids" in mounts:
            _write(f"{mounts['pids']}{path}/pids.max", pids)
        if self._cpuset:
            for name, text in (("cpuset.cpus", resources.cpuset_cpus), ("cpuset.mems", resources.cpuset_mems)):
                if text:
                    _write(f"{self._cpuset}{path}/{name}", text)

    def _make_cpuset(self, path: str) -> None:
        """A new cpuset is empty on v1, and nothing can join it before it has what its parent has."""
        folder = f"{self._cpuset}/{path.strip('/')}"
        os.makedirs(folder, exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            self._inherit(folder, name)

    def _inherit(self, folder: str, name: str) -> str:
        """What the cpuset has in `name`, from its nearest ancestor that has anything if it is empty."""
        with open(f"{folder}/{name}") as file:
            value = file.read().strip()
        if not value and folder != self._cpuset:
            value = self._inherit(os.path.dirname(folder), name)
            _write(f"{folder}/{name}", value)
        return value

    def joins(self, path: str) -> list[str]:
        # A thread that moves itself need not wait for anybody, a whole process waits for all processors (5 ms and more). But on the unified
        # hierarchy a thread cannot leave its process.
        names = dict.fromkeys(self._folders(path), "tasks")
        if self._unified:
            names[self._unified + path] = "cgroup.procs"
        return [f"{folder}/{name}" for folder, name in names.items() if os.path.isdir(folder)]

    def oom_file(self, path: str) -> str:
        return f"{self._mounts['memory']}{path}/memory.oom_control" if "memory" in self._mounts else ""

    def usage(self, path: str) -> Usage:
        memory = self._mounts.get("memory", "/nonexistent") + path
        used = _read_int(f"{memory}/memory.usage_in_bytes")
        table = _table(f"{memory}/memory.stat")
        return Usage(
            cpu=_read_int(f"{self._mounts.get('cpuacct', '/nonexistent')}{path}/cpuacct.usage"),
            memory=used,
            working_set=max(0, used - table.get("total_inactive_file", 0)),
            rss=table.get("total_rss", 0),
            page_faults=table.get("total_pgfault", 0),
            major_page_faults=table.get("total_pgmajfault", 0),
            memory_limit=table.get("hierarchical_memory_limit", 0),
            processes=_read_int(f"{self._mounts.get('pids', '/nonexistent')}{path}/pids.current"),
        )

    def pids(self, path: str) -> list[int]:
        return _pids_in(f"{self._mounts['memory']}{path}/cgroup.procs")

    def kill(self, path: str) -> None:
        _kill_pids(lambda: self.pids(path))

    def remove(self, path: str) -> bool:
        gone = True
        for folder in self._folders(path):
            # Who is still in one hierarchy is in the others too: it is waited for once.
            gone = _remove(folder, 50 if gone else 1) and gone
        return gone


class V2:
    """The unified hierarchy."""

    name = "v2"

    def __init__(self, mount: str) -> None:
        self._mount = mount

    def exists(self, path: str) -> bool:
        return os.path.isdir(self._mount + path)

    def create(self, path: str, resources: Resources | None, pids: int = 0) -> None:
        folder = self._mount
        for part in path.strip("/").split("/"):
            for controller in ("cpu", "memory", "pids", "cpuset", "hugetlb"):
                # A controller that is not there, or not delegated to us, leaves its limits unenforced.
                with contextlib.suppress(OSError):
                    _write(f"{folder}/cgroup.subtree_control", f"+{controller}")
            folder = f"{folder}/{part}"
            os.makedirs(folder, exist_ok=True)
        if resources is not None:
            self.update(path, resources, pids)

    def update(self, path: str, resources: Resources, pids: int = 0) -> None:
        values: dict[str, str | int] = {}
        if resources.cpu_shares:
            values["cpu.weight"] = 1 + (max(2, min(262144, resources.cpu_shares)) - 2) * 9999 // 262142
        if resources.cpu_quota:
            values["cpu.max"] = f"{resources.cpu_quota if resources.cpu_quota > 0 else 'max'} {resources.cpu_period or 100000}"
        if resources.memory_limit_in_bytes:
            limit = resources.memory_limit_in_bytes
            values["memory.max"] = limit if limit > 0 else "max"
            swap = resources.memory_swap_limit_in_bytes
            values["memory.swap.max"] = max(0, swap - limit) if swap > 0 else 0
        if pids:
            values["pids.max"] = pids
        if resources.cpuset_cpus:
            values["cpuset.cpus"] = resources.cpuset_cpus
        if resources.cpuset_mems:
            values["cpuset.mems"] = resources.cpuset_mems
        values.update(resources.unified)
        cgroup_views.limit_huge_pages(self._mount + path, resources)
        for name, value in values.items():
            file = f"{self._mount}{path}/{name}"
            if "/" not in name and os.path.exists(file):
                _write(file, value)

    def joins(self, path: str) -> list[str]:
        return [f"{self._mount}{path}/cgroup.procs"]

    def oom_file(self, path: str) -> str:
        return f"{self._mount}{path}/memory.events"

    def views(self) -> list[dict[str, str]]:
        return cgroup_views.UNIFIED

    def usage(self, path: str) -> Usage:
        folder = self._mount + path
        used = _read_int(f"{folder}/memory.current")
        table = _table(f"{folder}/memory.stat")
        return Usage(
            cpu=_table(f"{folder}/cpu.stat").get("usage_usec", 0) * 1000,
            memory=used,
            working_set=max(0, used - table.get("inactive_file", 0)),
            rss=table.get("anon", 0),
            page_faults=table.get("pgfault", 0),
            major_page_faults=table.get("pgmajfault", 0),
            memory_limit=_read_int(f"{folder}/memory.max"),
            processes=_read_int(f"{folder}/pids.current"),
        )

    def pids(self, path: str) -> list[int]:
        return [
            pid
            for inner, _folders, _files in os.walk(self._mount + path)
            for pid in _pids_in(os.path.join(inner, "cgroup.procs"))
        ]

    def kill(self, path: str) -> None:
        try:
            _write(f"{self._mount}{path}/cgroup.kill", 1)
        except OSError:
            _kill_pids(lambda: self.pids(path))

    def remove(self, path: str) -> bool:
        return _remove(self._mount + path)


class Nothing:
    """No cgroups: every limit is accepted and none is enforced."""

    name = "none"

    def exists(self, path: str) -> bool:
        return True

    def create(self, path: str, resources: Resources | None, pids: int = 0) -> None:
        return None

    def update(self, path: str, resources: Resources, pids: int = 0) -> None:
        return None

    def joins(self, path: str) -> list[str]:
        return []

    def oom_file(self, path: str) -> str:
        return ""

    def views(self) -> list[dict[str, str]]:
        return []

    def usage(self, path: str) -> Usage:
        return Usage()

    def pids(self, path: str) -> list[int]:
        return []

    def kill(self, path: str) -> None:
        return None

    def remove(self, path: str) -> bool:
        return True


def _kill_pids(listing: object) -> None:
    """Kill until nothing is listed, for a bounded number of rounds: what forks faster than that is held by its pids limit."""
    assert callable(listing)
    for _ in range(100):
        pids: list[int] = listing()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if pid > 0:
                    os.kill(pid, signal.SIGKILL)


def detect(root: str, mountinfo: str = "/proc/self/mountinfo") -> tuple[Cgroups, str]:
    """The backend that works here for cgroups below `root`, and what is wrong where it is `none`."""
    controllers: dict[str, str] = {}
    unified = ""
    with open(mountinfo) as table:
        for line in table:
            left, _, right = line.partition(" - ")
            point = left.split()[4]
            kind, _source, options = right.split()[:3]
            if kind == "cgroup":
                for option in options.split(","):
                    controllers.setdefault(option, point)
            elif kind == "cgroup2":
                unified = unified or point
    backend: Cgroups
    if "memory" in controllers:
        # In a hybrid the unified hierarchy is one more, without the controllers that matter.
        backend = V1(controllers | ({"unified": unified} if unified else {}))
    elif unified:
        backend = V2(unified)
    else:
        return Nothing(), "no cgroup file system is mounted"
    trial = f"{root}/trial-{os.getpid()}"
    try:
        backend.create(root, None)
        # The root may have been there, and be another user's.
        backend.create(trial, None)
        backend.remove(trial)
    except OSError as error:
        return Nothing(), f"cgroups cannot be made: {error}"
    return backend, ""
