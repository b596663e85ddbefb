"""Usage of containers and sandboxes: from cgroups, or summed up over processes where there are none."""

from __future__ import annotations

import asyncio
import os
import time
from typing import NamedTuple

from kubeling.crilite.cgroups import Usage
from kubeling.crilite.containers import labels_match
from kubeling.crilite.core import Core
from kubeling.crilite.network import link_name
from kubeling.crilite.records import READY, RUNNING, Container, Sandbox
from kubeling.linux import netns
from kubeling.proto import cri_pb2

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
#: Walking a writable layer is dear; its size may be this many seconds old.
_LAYER_SECONDS = 15.0


class _Sample(NamedTuple):
    at: int
    cpu: int
    rate: int


class Stats:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._samples: dict[str, _Sample] = {}
        self._layers: dict[str, tuple[float, int, int]] = {}

    async def container(self, container: Container) -> cri_pb2.ContainerStats:
        return await asyncio.to_thread(self._container, container)

    async def containers(self, wanted: cri_pb2.ContainerStatsFilter) -> list[cri_pb2.ContainerStats]:
        chosen = [
            one
            for one in self._core.containers.values()
            if one.record.phase == RUNNING
            and one.id.startswith(wanted.id)
            and one.record.sandbox_id.startswith(wanted.pod_sandbox_id)
            and labels_match(wanted.label_selector, one.config.labels)
        ]
        return await asyncio.to_thread(lambda: [self._container(one) for one in chosen])

    async def sandbox(self, sandbox: Sandbox) -> cri_pb2.PodSandboxStats:
        return await asyncio.to_thread(lambda: self._sandbox(sandbox, _link_counters()))

    async def sandboxes(self, wanted: cri_pb2.PodSandboxStatsFilter) -> list[cri_pb2.PodSandboxStats]:
        chosen = [
            one
            for one in self._core.sandboxes.values()
            if one.record.phase == READY
            and one.id.startswith(wanted.id)
            and labels_match(wanted.label_selector, one.config.labels)
        ]

        def all_of_them() -> list[cri_pb2.PodSandboxStats]:
            links = _link_counters()
            return [self._sandbox(one, links) for one in chosen]

        return await asyncio.to_thread(all_of_them)

    # -- in a thread ---------------------------------------------------------------------------------------------------------------------------

    def _container(self, container: Container) -> cri_pb2.ContainerStats:
        record, now = container.record, time.time_ns()
        usage = self._core.cgroups.usage(record.cgroup)
        if self._core.cgroups.name == "none" and record.pid:
            usage = usage_of_tree(record.pid)
        stats = cri_pb2.ContainerStats(
            attributes=cri_pb2.ContainerAttributes(
                id=container.id,
                metadata=container.config.metadata,
                labels=container.config.labels,
                annotations=container.config.annotations,
            ),
            writable_layer=self._layer(container, now),
        )
        if record.phase == RUNNING:
            limit = container.config.linux.resources.memory_limit_in_bytes
            stats.cpu.CopyFrom(self._cpu(container.id, usage, now))
            stats.memory.CopyFrom(_memory(usage, limit, now))
        return stats

    def _sandbox(self, sandbox: Sandbox, links: dict[str, list[int]]) -> cri_pb2.PodSandboxStats:
        now = time.time_ns()
        containers = [self._container(one) for one in self._core.containers_of(sandbox.id) if one.record.phase == RUNNING]
        usage = self._core.cgroups.usage(sandbox.record.cgroup)
        if self._core.cgroups.name == "none":
            trees = [usage_of_tree(one.record.pid) for one in self._core.containers_of(sandbox.id) if one.record.pid]
            usage = Usage(
                cpu=sum(tree.cpu for tree in trees),
                memory=sum(tree.memory for tree in trees),
                working_set=sum(tree.working_set for tree in trees),
                rss=sum(tree.rss for tree in trees),
                processes=sum(tree.processes for tree in trees),
            )
        linux = cri_pb2.LinuxPodSandboxStats(
            cpu=self._cpu(sandbox.id, usage, now),
            memory=_memory(usage, 0, now),
            process=cri_pb2.ProcessUsage(timestamp=now, process_count=cri_pb2.UInt64Value(value=usage.processes)),
            containers=containers,
        )
        counters = links.get(link_name(sandbox.id))
        if counters is not None:
            # What the node's end receives, the pod has sent.
            counters = counters[8:] + counters[:8]
        elif sandbox.record.ip and sandbox.record.handler != "process":
            counters = self._inside(sandbox)
        if counters is not None:
            interface = cri_pb2.NetworkInterfaceUsage(
                name="eth0",
                rx_bytes=cri_pb2.UInt64Value(value=counters[0]),
                rx_errors=cri_pb2.UInt64Value(value=counters[2]),
                tx_bytes=cri_pb2.UInt64Value(value=counters[8]),
                tx_errors=cri_pb2.UInt64Value(value=counters[10]),
            )
            linux.network.CopyFrom(cri_pb2.NetworkUsage(timestamp=now, default_interface=interface, interfaces=[interface]))
        return cri_pb2.PodSandboxStats(
            attributes=cri_pb2.PodSandboxAttributes(
                id=sandbox.id,
                metadata=sandbox.config.metadata,
                labels=sandbox.config.labels,
                annotations=sandbox.config.annotations,
            ),
            linux=linux,
        )

    def _inside(self, sandbox: Sandbox) -> list[int] | None:
        """The pod's own view of its link, for networks that others have made."""
        try:
            return netns.inside(str(self._core.sandbox_state(sandbox.id) / "net"), _link_counters).get("eth0")
        except OSError:
            return None

    def _cpu(self, name: str, usage: Usage, now: int) -> cri_pb2.CpuUsage:
        """The rate is that since the last time somebody asked, if that was at least a tenth of a second ago."""
        last = self._samples.get(name)
        rate = last.rate if last else 0
        if last is None or now - last.at > 100_000_000:
            if last is not None:
                rate = max(0, (usage.cpu - last.cpu) * 1_000_000_000 // (now - last.at))
            if len(self._samples) > 4096:
                self._samples.clear()
            self._samples[name] = _Sample(now, usage.cpu, rate)
        return cri_pb2.CpuUsage(
            timestamp=now,
            usage_core_nano_seconds=cri_pb2.UInt64Value(value=usage.cpu),
            usage_nano_cores=cri_pb2.UInt64Value(value=rate),
        )

    def _layer(self, container: Container, now: int) -> cri_pb2.FilesystemUsage:
        upper = self._core.container_records.path(container.id, "upper")
        known = self._layers.get(container.id)
        if known is None or time.monotonic() - known[0] > _LAYER_SECONDS:
            if len(self._layers) > 4096:
                self._layers.clear()
            known = self._layers[container.id] = (time.monotonic(), *disk_usage(upper))
        return cri_pb2.FilesystemUsage(
            timestamp=now,
            fs_id=cri_pb2.FilesystemIdentifier(mountpoint=str(self._core.config.root)),
            used_bytes=cri_pb2.UInt64Value(value=known[1]),
            inodes_used=cri_pb2.UInt64Value(value=known[2]),
        )


def _memory(usage: Usage, limit: int, now: int) -> cri_pb2.MemoryUsage:
    stats = cri_pb2.MemoryUsage(
        timestamp=now,
        working_set_bytes=cri_pb2.UInt64Value(value=usage.working_set),
        usage_bytes=cri_pb2.UInt64Value(value=usage.memory),
        rss_bytes=cri_pb2.UInt64Value(value=usage.rss),
        page_faults=cri_pb2.UInt64Value(value=usage.page_faults),
        major_page_faults=cri_pb2.UInt64Value(value=usage.major_page_faults),
    )
    if limit > 0:
        stats.available_bytes.value = max(0, limit - usage.working_set)
    return stats


def disk_usage(folder: str) -> tuple[int, int]:
    """(bytes, inodes) below `folder`, as far as it can be read."""
    size = count = 0
    stack = [folder]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    count += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:
            continue
    return size, count


def usage_of_tree(pid: int) -> Usage:
    """A process and its descendants, for nodes without cgroups."""
    cpu = memory = count = 0
    stack = [pid]
    while stack:
        one = stack.pop()
        try:
            with open(f"/proc/{one}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{one}/task/{one}/children") as file:
                stack += [int(child) for child in file.read().split()]
        except (OSError, ValueError):
            continue
        cpu += (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) * 1_000_000_000 // _TICK
        memory += int(fields[21]) * _PAGE
        count += 1
    return Usage(cpu=cpu, memory=memory, working_set=memory, rss=memory, processes=count)


def _link_counters() -> dict[str, list[int]]:
    """The kernel's counters of every link of this network namespace: received bytes, packets, errors …, then those sent."""
    found: dict[str, list[int]] = {}
    with open("/proc/thread-self/net/dev") as table:
        for line in table:
            name, colon, numbers = line.partition(":")
            if colon:
                found[name.strip()] = [int(number) for number in numbers.split()]
    return found
