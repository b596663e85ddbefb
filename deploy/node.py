"""The init of a node that is a container: makes the container fit to run containers, then keeps the node's daemons running.

    node.py [--pod-cidr CIDR] MODULE FLAG… [-- MODULE FLAG…]…

It is PID 1. Before the first daemon it makes writable what the container runtime mounts read-only (/proc/sys, /sys, the cgroups), lets mounts propagate into
pods, on cgroup v2 moves everything into a cgroup of its own (a cgroup with processes cannot pass controllers on), sets the sysctls of a router and loads the rules by
which pods reach the outside. After that it starts the daemons, each again with a growing delay when it ends, collects orphans, and hands signals on. SIGTERM stops the
daemons, last first; what still runs in pods ends with the container. In flags $NAME stands for an environment variable, so that all nodes can share one command line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubeling.cluster.nodeinit import SYSCTLS
from kubeling.cluster.topology import CLUSTER_CIDR
from kubeling.cluster.units import HEALTHY_SECONDS, describe
from kubeling.daemon.backoff import Backoff

#: Each daemon gets this long to end when it is asked to.
STOP_SECONDS = 8.0
ENDING = (signal.SIGTERM, signal.SIGINT)
FORWARDED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
RULES = Path(__file__).with_name("pod-egress.nft")
CGROUPS = Path("/sys/fs/cgroup")


def say(text: str) -> None:
    print(f"node: {text}", flush=True)


# -- the container becomes a node -----------------------------------------------------------------------------------------------------


def prepare(pod_cidr: str) -> None:
    """All that the daemons take for granted. Raises CalledProcessError and OSError where the container has not the rights of a node."""
    for where, kind, options in mount_points():
        if "ro" in options.split(",") and (where in ("/proc/sys", "/sys") or where.startswith(str(CGROUPS))):
            # What is a view of another mount is made writable as such; the file systems of our own, as a whole.
            how = "remount,rw" if kind in ("sysfs", "tmpfs") else "remount,bind,rw"
            subprocess.run(["mount", "-o", how, where], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    leave_root_cgroup()
    for name, value in SYSCTLS.items():
        try:
            (Path("/proc/sys") / name).write_text(value)
        except OSError as error:
            # Some kernels lack some; those that matter show in the daemons.
            say(f"sysctl {name}={value}: {error.strerror}")
    subprocess.run(["nft", "-D", f"pods={pod_cidr}", "-f", str(RULES)], check=True)
    Path("/run/kubeling").mkdir(parents=True, exist_ok=True)


def mount_points() -> list[tuple[str, str, str]]:
    """(where, type, options) of every mount."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        found.append((fields[4], after.split(" ", 1)[0], fields[5]))
    return found


def leave_root_cgroup() -> None:
    """Version 2 only: processes go to the cgroup /init, so that the root may pass its controllers on to /kubeling."""
    controllers = CGROUPS / "cgroup.controllers"
    if not controllers.exists():
        return
    (CGROUPS / "init").mkdir(exist_ok=True)
    for pid in (CGROUPS / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (CGROUPS / "init" / "cgroup.procs").write_text(pid)
    for controller in controllers.read_text().split():
        try:
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            say(f"cgroup controller {controller} stays out of pods' reach: {error.strerror}")


# -- daemons --------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Daemon:
    """One process to keep running. `due` is when to start it, on the monotonic clock; None while it runs."""

    argv: tuple[str, ...]
    pid: int = 0
    since: float = 0.0
    due: float | None = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.1, limit=30))

    @property
    def name(self) -> str:
        return self.argv[0].removeprefix("kubeling.")

    def start(self) -> None:
        # The empty mask undoes ours: the daemon's signals are its own.
        self.pid = os.posix_spawn(sys.executable, [sys.executable, "-m", *self.argv], os.environ, setsigmask=())
        self.since, self.due = time.monotonic(), None

    def ended(self, status: int, *, restart: bool) -> None:
        self.pid, now = 0, time.monotonic()
        if not restart:
            return
        if now - self.since > HEALTHY_SECONDS:
            self.backoff.reset()
        self.due = now + self.backoff.next()
        say(f"{self.name} ended ({describe(status)}); again in {self.due - now:.1f} s")

    def send(self, number: int) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Init:
    """The loop of PID 1: it waits for signals only, for as long as nothing is due."""

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        self._daemons = daemons
        self._signals = {signal.SIGCHLD, *ENDING, *FORWARDED}
        # Blocked, not handled: none is lost between two waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def run(self) -> int:
        while True:
            for daemon in self._daemons:
                if daemon.due is not None and daemon.due <= time.monotonic():
                    daemon.start()
            number = self._wait(min((d.due for d in self._daemons if d.due is not None), default=None))
            self._reap()
            if number in ENDING:
                return self._stop()
            if number in FORWARDED:
                for daemon in self._daemons:
                    daemon.send(number)

    def _wait(self, until: float | None) -> int:
        """The next signal, 0 when `until` has come."""
        if until is None:
            return signal.sigwaitinfo(self._signals).si_signo
        found = signal.sigtimedwait(self._signals, max(0.0, until - time.monotonic()))
        return found.si_signo if found else 0

    def _reap(self, *, restart: bool = True) -> None:
        """Every dead child: our daemons, and orphans of theirs and of the pods'."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for daemon in self._daemons:
                    if daemon.pid == ended[0]:
                        daemon.ended(os.waitstatus_to_exitcode(ended[1]), restart=restart)

    def _stop(self) -> int:
        say("stopping")
        for daemon in reversed(self._daemons):
            daemon.send(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while daemon.pid and (left := deadline - time.monotonic()) > 0:
                signal.sigtimedwait({signal.SIGCHLD}, left)
                self._reap(restart=False)
            if daemon.pid:
                daemon.send(signal.SIGKILL)
                os.waitpid(daemon.pid, 0)
        return 0


def commands(words: Sequence[str]) -> list[Daemon]:
    """The daemons on the command line, with $NAMEs replaced. Raises KeyError for a variable that is not set."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            found.append([])
        else:
            found[-1].append(string.Template(word).substitute(os.environ))
    return [Daemon(tuple(argv)) for argv in found if argv]


def main(argv: Sequence[str] | None = None) -> int:
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    flags.add_argument("--pod-cidr", default=CLUSTER_CIDR, help="the pods' range (default %(default)s)")
    flags.add_argument("command", nargs=argparse.REMAINDER, help="MODULE FLAG… [-- MODULE FLAG…]…")
    args = flags.parse_args(argv)
    try:
        daemons = commands(args.command)
        prepare(args.pod_cidr)
    except KeyError as error:
        say(f"error: the environment variable {error} is not set")
        return 2
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"error: {error}: a node needs `privileged: true`, or what docker-compose.unprivileged.yml gives it")
        return 1
    if not daemons:
        flags.error("name at least one daemon, for example kubeling.kubelet")
    return Init(daemons).run()


if __name__ == "__main__":
    sys.exit(main())
