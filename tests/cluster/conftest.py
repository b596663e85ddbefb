"""Clusters of one's own: each test that asks gets a home, a kubeconfig and a name that nobody else has."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeling.cluster import cgroups, state
from kubeling.cluster.pytest_plugin import ClusterHandle


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ClusterHandle]:
    """A cluster that is not up yet; whatever is left of it at the end is taken down."""
    handle = ClusterHandle(f"own-{secrets.token_hex(3)}", tmp_path / "home", tmp_path / "kubeconfig")
    yield handle
    handle.down()


class UserCluster(ClusterHandle):
    """The same, of an ordinary user: every command is run as that user, with an interpreter that the user may execute."""

    UID = 54321

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder / ".kubeling", folder / ".kube" / "config")
        self.folder = folder

    @property
    def env(self) -> dict[str, str]:
        import kubeling

        found = {k: v for k, v in super().env.items() if not k.startswith(("KUBECONFIG", "KUBELING_HOME"))}
        site = Path(pytest.__file__).parent.parent
        package = Path(kubeling.__file__).parent / ".typing"
        return {**found, "HOME": str(self.folder), "PYTHONPATH": f"{site}:{package}", "PYTHONDONTWRITEBYTECODE": "1"}

    def cli(self, *args: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        become = ["setpriv", f"--reuid={self.UID}", f"--regid={self.UID}", "--clear-groups"]
        command = [*become, interpreter(), "-P", "-m", "kubeling.cli", *args]
        return self._run(command, check, {"cwd": "/", **options})


def interpreter() -> str:
    """A Python of our own version that everybody may execute; the test is skipped where there is none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        real = Path(os.path.realpath(candidate))
        if real.exists() and all(parent.stat().st_mode & 0o001 for parent in real.parents):
            return candidate
    pytest.skip(f"no {version} here that an ordinary user may execute")


@pytest.fixture
def user_cluster() -> Iterator[UserCluster]:
    """A cluster of an ordinary user who has nothing but a home."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    folder = Path(tempfile.mkdtemp(prefix="kubeling-user-", dir="/tmp"))
    os.chown(folder, UserCluster.UID, UserCluster.UID)
    handle = UserCluster(f"user-{secrets.token_hex(3)}", folder)
    yield handle
    handle.down()
    shutil.rmtree(folder)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Leftovers:
    """What a cluster may leave behind, found by its name and its directory, which nobody else has."""

    def __init__(self, cluster: ClusterHandle) -> None:
        self._cluster = cluster
        self._namespaces: set[str] = set()
        # Held open, since the kernel gives the numbers of those that are gone to others.
        self._held: list[int] = []
        weakref.finalize(self, _close, self._held)

    def remember(self) -> None:
        """Note the namespaces of all its processes, to look for them afterwards."""
        for pid in self.processes():
            for kind in ("net", "mnt", "pid", "user"):
                link = os.readlink(f"/proc/{pid}/ns/{kind}")
                if link not in {os.readlink(f"/proc/self/ns/{kind}"), *self._namespaces}:
                    self._held.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
                    self._namespaces.add(link)

    def processes(self) -> list[int]:
        """The processes that bear the cluster's name or directory in their command line."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                try:
                    line = Path(f"/proc/{entry}/cmdline").read_bytes()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if line.startswith(b"kubeling-") and (
                    str(self._cluster.root).encode() in line or self._cluster.name.encode() in line
                ):
                    found.append(int(entry))
        return found

    def everything(self) -> list[str]:
        """In words, all that is still there."""
        left = [f"process {pid}" for pid in self.processes()]
        for entry in os.listdir("/proc"):
            for kind in ("net", "mnt", "pid", "user") if entry.isdigit() else ():
                try:
                    link = os.readlink(f"/proc/{entry}/ns/{kind}")
                except OSError:
                    continue
                # A zombie that nobody has fetched yet still shows the PID namespace that it was in.
                if link in self._namespaces and state.process_start(int(entry)):
                    left.append(f"namespace {link} of process {entry}")
        left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self._cluster.home) in line]
        left += [str(path) for h in cgroups.hierarchies() for path in (h / "kubeling").glob(f"{self._cluster.name}-*")]
        if self._cluster.root.exists():
            left.append(str(self._cluster.root))
        if self._cluster.kubeconfig.exists() and self._cluster.name in self._cluster.kubeconfig.read_text():
            left.append(f"a context in {self._cluster.kubeconfig}")
        return left
