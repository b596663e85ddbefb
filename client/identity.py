"""Who we are as the holder of a Lease: a name by which a successor on the same machine can tell that we have died.

A daemon that was killed cannot give its Lease up, and its own successor would wait for the Lease's end. So the name says in which PID namespace of which
boot of which machine which process this is, and since when. Who looks from that same namespace can see whether the process is still there; everybody
else waits, as ever. (Safety rests on compare-and-set, not on this.)
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def make() -> str:
    """`<host>_<boot>.<pid namespace>.<pid>.<start time>`; unique on this machine for as long as it is up."""
    where, pid = _where(), _pid()
    started = _started(pid) if pid else None
    if where is None or started is None:
        return f"{socket.gethostname()}_{os.urandom(8).hex()}"
    return f"{socket.gethostname()}_{where}.{pid}.{started}"


def is_known_dead(holder: str) -> bool:
    """True only where the process that made this name certainly runs no more."""
    where = _where()
    parts = holder.rpartition("_")[2].split(".")
    if where is None or len(parts) != 4 or ".".join(parts[:2]) != where or not parts[2].isdecimal():
        return False
    return _started(int(parts[2])) != parts[3]


def _where() -> str | None:
    try:
        boot = _BOOT.read_text().strip().replace("-", "")[:12]
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _pid() -> int:
    """Ours as /proc has it, which is what others will look up; 0 where there is no /proc."""
    try:
        return int(os.readlink("/proc/self"))
    except OSError:
        return 0


def _started(pid: int) -> str | None:
    """The process's start in clock ticks since boot: together with the PID it is never used twice. None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
