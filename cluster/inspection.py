"""What `status` shows: health, memory and leadership of every process, measured when asked and at no other time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from kubeling.cluster import staticpods
from kubeling.cluster.nodes import NodeRuntime
from kubeling.cluster.topology import Daemon, Probe
from kubeling.cluster.units import Unit
from kubeling.linux import netns

PROBE_SECONDS = 2.0
_MAX_PAGE = 1024 * 1024
_LEADER = re.compile(rb"^etcd_server_is_leader(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)


def pss_kib(pid: int) -> int:
    """The memory of process `pid` in KiB, what it shares divided among those that share it; 0 where it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time that process `pid` has used, in seconds."""
    with contextlib.suppress(OSError, ValueError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / 100
    return 0.0


async def fetch(probe: Probe, path: str, netns_path: str = "") -> tuple[int, bytes]:
    """GET `path` from where `probe` points to, seen from the namespace at `netns_path`. Returns status and body; raises OSError, TimeoutError."""
    family = socket.AF_INET6 if ":" in probe.host else socket.AF_INET
    sock = await asyncio.to_thread(netns.make_socket, netns_path, family) if netns_path else socket.socket(family)
    sock.setblocking(False)
    context = None
    if probe.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            try:
                await asyncio.get_running_loop().sock_connect(sock, (probe.host, probe.port))
            except BaseException:
                sock.close()
                raise
            return await _exchange(sock, context, probe.host, path)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise OSError(f"no HTTP answer: {error}") from error


async def _exchange(sock: socket.socket, context: ssl.SSLContext | None, host: str, path: str) -> tuple[int, bytes]:
    # From here on the socket belongs to the transport, which closes it in its own time.
    reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="localhost" if context else None)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read(_MAX_PAGE)
        return int(head.split(b" ", 2)[1]), body
    finally:
        writer.close()


async def health(probe: Probe | None, netns_path: str) -> str:
    """``ok``, or in a few words what is wrong; empty where there is nothing to ask."""
    if probe is None:
        return ""
    try:
        status, body = await fetch(probe, probe.path, netns_path)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if status in (401, 403):
        return "ok"  # It serves and knows us not: that is what this question can find out.
    return "ok" if status == 200 else f"{status}: {body[:80].decode(errors='replace').strip()}"


async def unit_report(unit: Unit, node: NodeRuntime) -> dict[str, Any]:
    """One line of `status`."""
    daemon, running = unit.daemon, unit.running
    where = "" if daemon.on_host else node.netns_path
    report: dict[str, Any] = {
        "daemon": daemon.name,
        "node": daemon.node,
        "state": "paused" if unit.paused else unit.state,
        "restarts": unit.restarts,
        "last_exit": unit.last_exit,
        "pid": running.pid if running else 0,
        "age": round(time.monotonic() - unit.since, 1) if running else 0.0,
        "pss_kib": pss_kib(running.pid) if running else 0,
        "cpu_seconds": cpu_seconds(running.pid) if running else 0.0,
        "health": "",
    }
    if running and not unit.paused:
        report["health"] = await health(daemon.probe, where)
        if daemon.name == "etcdlite" and daemon.probe is not None:
            report["leader"] = await _leads(daemon.probe, where)
    return report


async def static_report(daemon: Daemon, node: NodeRuntime) -> dict[str, Any]:
    """The same of a daemon that the node's kubelet runs."""
    pid = await asyncio.to_thread(staticpods.pid, daemon.name, node.netns_path)
    report: dict[str, Any] = {
        "daemon": daemon.name,
        "node": daemon.node,
        "state": "pod" if pid else "waiting",
        "restarts": 0,
        "last_exit": "",
        "pid": pid,
        "age": 0.0,
        "pss_kib": pss_kib(pid) if pid else 0,
        "cpu_seconds": cpu_seconds(pid) if pid else 0.0,
        "health": await health(daemon.probe, node.netns_path) if pid else "",
    }
    if pid and daemon.name == "etcdlite" and daemon.probe is not None:
        report["leader"] = await _leads(daemon.probe, node.netns_path)
    return report


async def _leads(probe: Probe, netns_path: str) -> bool:
    """Whether this member of the store says that it is the leader."""
    with contextlib.suppress(OSError, TimeoutError):
        _status, body = await fetch(probe, "/metrics", netns_path)
        found = _LEADER.search(body)
        return found is not None and float(found.group(1)) == 1
    return False
