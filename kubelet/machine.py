"""The machine under the node: how big it is, what it is called, how full it is."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What does not change while the kubelet runs. Sizes in bytes."""

    cpus: int
    memory: int
    disk: int
    inodes: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Pressure:
    """What may run short: bytes and counts that are left."""

    memory_available: int
    disk_available: int
    inodes_available: int
    pids_available: int


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def read_machine(root_dir: Path) -> Machine:
    """Look at the machine; `root_dir` is where the pods' files will be."""
    disk = os.statvfs(root_dir)
    machine_id = _line("/etc/machine-id") or _line("/var/lib/dbus/machine-id")
    boot_id = _line("/proc/sys/kernel/random/boot_id")
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory=_meminfo().get("MemTotal", 0),
        disk=disk.f_blocks * disk.f_frsize,
        inodes=disk.f_files,
        machine_id=machine_id or boot_id.replace("-", ""),
        system_uuid=_line("/sys/class/dmi/id/product_uuid") or boot_id,
        boot_id=boot_id,
        kernel=platform.release(),
        os_image=_os_release().get("PRETTY_NAME", "Linux"),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def read_pressure(root_dir: Path) -> Pressure:
    """How much is left now."""
    disk = os.statvfs(root_dir)
    return Pressure(
        memory_available=_meminfo().get("MemAvailable", 0),
        disk_available=disk.f_bavail * disk.f_frsize,
        # File systems without a fixed number of inodes report none at all.
        inodes_available=disk.f_favail if disk.f_files else 1 << 40,
        pids_available=pid_limit() - _processes(),
    )


def pid_limit() -> int:
    """How many tasks the kernel can number."""
    return int(_line("/proc/sys/kernel/pid_max") or 32768)


def _processes() -> int:
    """How many tasks the kernel runs, from the fourth field of loadavg."""
    fields = _line("/proc/loadavg").split()
    return int(fields[3].partition("/")[2]) if len(fields) > 3 else 0


def _meminfo() -> dict[str, int]:
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_release() -> dict[str, str]:
    found = {}
    for line in _line("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        found[key] = value.strip('"')
    return found
