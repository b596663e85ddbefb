"""Real etcd and etcdlite as processes, with the same flags, on the same disk."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from kubeling.bench.etcd import calls
from kubeling.bench.etcd.h2 import Failed

COMMANDS: dict[str, list[str]] = {
    "etcd": ["etcd", "--log-level=error"],
    "etcdlite": [sys.executable, "-m", "kubeling.etcdlite", "--v=0"],
}


def available() -> list[str]:
    """The stores that can be measured here."""
    return [kind for kind, command in COMMANDS.items() if shutil.which(command[0])]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Cluster:
    """One to three members of one kind of store. Ends with :meth:`stop`."""

    kind: str
    folder: Path
    members: int
    urls: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _commands: list[list[str]] = field(default_factory=list)

    def start(self) -> Cluster:
        """Start all members, and wait until a write succeeds."""
        self.folder.mkdir(parents=True)
        ports = _free_ports(2 * self.members)
        clients, peers = ports[: self.members], ports[self.members :]
        self.urls = [f"http://127.0.0.1:{port}" for port in clients]
        names = ",".join(f"m{at}=http://127.0.0.1:{port}" for at, port in enumerate(peers))
        for at in range(self.members):
            peer = f"http://127.0.0.1:{peers[at]}"
            self._commands.append(
                [
                    *COMMANDS[self.kind],
                    f"--name=m{at}",
                    f"--data-dir={self.folder / f'm{at}'}",
                    f"--listen-client-urls={self.urls[at]}",
                    f"--advertise-client-urls={self.urls[at]}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster={names}",
                ]
            )
            self.processes.append(self._spawn(at))
        for at in range(self.members):
            self.wait_for(at)
        if self.members > 1:
            self.leader_first()
        return self

    def _spawn(self, at: int) -> subprocess.Popen[bytes]:
        with open(self.folder / f"m{at}.log", "ab") as log:
            return subprocess.Popen(self._commands[at], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_for(self, at: int, seconds: float = 60) -> float:
        """Wait until a member answers a linearizable read; returns the moment. Raises Failed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                calls.revision(self.urls[at])
                return time.monotonic()
            except (OSError, Failed):
                if self.processes[at].poll() is not None:
                    raise Failed(f"{self.kind} has ended: {(self.folder / f'm{at}.log').read_text()[-500:]}") from None
                # Nothing tells a client when a port begins to be listened on.
                time.sleep(0.01)
        raise Failed(f"{self.kind} does not answer")

    def leader_first(self) -> int:
        """Put the leader at the head of the lists, so that a single client speaks to it in both stores."""
        deadline = time.monotonic() + 30
        while (at := calls.leader(self.urls)) < 0:
            if time.monotonic() > deadline:
                raise Failed(f"{self.kind} has no leader")
            time.sleep(0.05)
        for each in (self.urls, self.processes, self._commands):
            each.insert(0, each.pop(at))
        return at

    def kill(self, at: int) -> None:
        """End a member as a crash does."""
        self.processes[at].send_signal(signal.SIGKILL)
        self.processes[at].wait()

    def restart(self, at: int) -> float:
        """Start a member again; returns the seconds until it answers."""
        began = time.monotonic()
        self.processes[at] = self._spawn(at)
        return self.wait_for(at) - began

    def pss(self) -> float:
        """Memory of all members in MB, shared pages counted once."""
        total = 0
        for process in self.processes:
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024

    def stop(self) -> None:
        """End all members and delete their data."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def disk_sync_ms(folder: Path) -> float:
    """The median time of an fdatasync of 400 bytes on this disk, for comparison with the latencies."""
    path = folder / "probe"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    took = []
    try:
        os.posix_fallocate(fd, 0, 1 << 20)
        for number in range(200):
            began = time.perf_counter()
            os.pwrite(fd, b"x" * 400, number * 400)
            os.fdatasync(fd)
            took.append(time.perf_counter() - began)
    finally:
        os.close(fd)
        path.unlink()
    return sorted(took)[len(took) // 2] * 1000
