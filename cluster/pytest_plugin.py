"""pytest fixtures: a real cluster for the tests, and a fresh namespace for each.

``kubeling_cluster`` brings one cluster up for the whole run, shared by all xdist workers (the first that needs it starts it, under a file lock), with a home and
a kubeconfig of its own, and takes it down at the end. The cluster is owned by the process that runs the tests: if that is killed, the cluster goes too.
``kubeling_namespace`` is a namespace of that cluster for one test.

Options: ``--kubeling-name``, ``--kubeling-workers``, ``--kubeling-control-planes``, ``--kubeling-network``, ``--kubeling-ip-families``,
``--kubeling-keep``, or the environment variables ``KUBELING_TEST_NAME``, ``_WORKERS``, ``_CONTROL_PLANES``, ``_NETWORK``, ``_IP_FAMILIES``, ``_KEEP``. With ``KUBELING_TEST_USE`` set to the name of a running cluster
that one is used, and left alone.

This module is loaded in every pytest run of everybody who has kubeling installed, so it imports nothing that pytest has not imported already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kubeling.client.rest import Client
    from kubeling.cluster.faults import Faults

_FOLDER = "kubeling-cluster"
_OPTIONS = {"name": "pytest", "workers": "2", "control-planes": "1", "network": "netns", "ip-families": "IPv4"}
UP_SECONDS = 180


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kubeling", "clusters for tests")
    for name, default in _OPTIONS.items():
        group.addoption(f"--kubeling-{name}", default=None, help=f"the test cluster's {name} (default {default})")
    group.addoption("--kubeling-keep", action="store_true", default=False, help="leave the test cluster running at the end")


class ClusterHandle:
    """A running cluster, as tests see it."""

    def __init__(self, name: str, home: Path, kubeconfig: Path) -> None:
        self.name = name
        self.home = home
        self.kubeconfig = kubeconfig

    @property
    def root(self) -> Path:
        """The cluster's directory: logs, certificates, disks."""
        return self.home / self.name

    @property
    def env(self) -> dict[str, str]:
        """An environment in which kubectl and kubeling find this cluster and no other."""
        bin_dir = str(Path(sys.executable).parent)
        path = f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}"
        return {
            **os.environ,
            "PATH": path,
            "KUBELING_HOME": str(self.home),
            "KUBELING_NAME": self.name,
            "KUBECONFIG": str(self.kubeconfig),
        }

    @property
    def server(self) -> str:
        """The URL of the API."""
        import json

        found: str = json.loads((self.root / "kubeconfig" / "admin.conf").read_bytes())["clusters"][0]["cluster"]["server"]
        return found

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes as they are now, those that do not run as well."""
        from kubeling.cluster.control import Control

        with Control(self.root) as control:
            return [node["name"] for node in control.call("nodes")["nodes"]]

    @property
    def faults(self) -> Faults:
        """What can be made to go wrong."""
        from kubeling.cluster.faults import Faults

        return Faults(self.root)

    def status(self) -> dict[str, Any]:
        """What `kubeling status` knows."""
        from kubeling.cluster.control import Control

        with Control(self.root) as control:
            return control.call("status")

    def client(self) -> Client:
        """A new client with the administrator's rights, to be used with ``async with``."""
        from kubeling.client import kubeconfig
        from kubeling.client.rest import Client

        return Client(kubeconfig.load(self.root / "kubeconfig" / "admin.conf"))

    def cli(self, *args: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `kubeling ARGS` against this cluster; with `check`, a failure fails the test with what it printed."""
        return self._run([sys.executable, "-P", "-m", "kubeling.cli", *args], check, options)

    def kubectl(self, *args: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `kubectl ARGS` against this cluster; skips the test where kubectl is not installed."""
        import shutil

        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("kubectl is not installed")
        return self._run([program, *args], check, options)

    def _run(self, command: list[str], check: bool, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        given = {"capture_output": True, "text": True, "timeout": 120, "env": self.env, **options}
        done: subprocess.CompletedProcess[str] = subprocess.run(command, check=False, **given)
        if check and done.returncode != 0:
            words = " ".join(command[-len(command) + 1 :])
            pytest.fail(f"`{words}` ended with {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
        return done

    def up(self, *args: str) -> None:
        """Bring the cluster up, owned by the process that runs the tests."""
        done = self.cli("up", f"--name={self.name}", *args, check=False, timeout=UP_SECONDS)
        if done.returncode != 0:
            logs = "".join(_tail(path) for path in sorted((self.root / "logs").glob("*.log")))
            pytest.fail(f"the test cluster did not come up:\n{done.stdout}{done.stderr}\n{logs}", pytrace=False)

    def down(self) -> None:
        """Take the cluster down; one that is not there is as good."""
        if self.root.exists():
            self.cli("down", f"--name={self.name}", check=False)


def _tail(path: Path, lines: int = 15) -> str:
    return f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"


def _option(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"--kubeling-{name}")
    return str(given or os.environ.get(f"KUBELING_TEST_{name.replace('-', '_').upper()}") or _OPTIONS[name])


@pytest.fixture(scope="session")
def kubeling_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClusterHandle:
    """A real cluster, one for the whole run."""
    if used := os.environ.get("KUBELING_TEST_USE"):
        from kubeling.cluster import state

        return ClusterHandle(used, state.home(), state.root_of(used) / "kubeconfig" / "admin.conf")
    import fcntl

    config = request.config
    worker = hasattr(config, "workerinput")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if worker else base) / _FOLDER
    folder.mkdir(exist_ok=True)
    handle = ClusterHandle(_option(config, "name"), folder / "home", folder / "kubeconfig")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "up").exists():
            # The process that runs all the tests: with xdist our parent, which outlives every worker.
            owner = os.getppid() if worker else os.getpid()
            keep = config.getoption("--kubeling-keep") or bool(os.environ.get("KUBELING_TEST_KEEP"))
            handle.up(
                f"--workers={_option(config, 'workers')}",
                f"--control-planes={_option(config, 'control-planes')}",
                f"--network={_option(config, 'network')}",
                f"--ip-families={_option(config, 'ip-families')}",
                *([] if keep else [f"--owner={owner}"]),
            )
            (folder / "up").touch()
    return handle


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the shared cluster down, once, when all workers have ended."""
    config = session.config
    if hasattr(config, "workerinput") or config.getoption("--kubeling-keep", False) or os.environ.get("KUBELING_TEST_KEEP"):
        return
    factory = getattr(config, "_tmp_path_factory", None)
    base = getattr(factory, "_basetemp", None)  # Asking for it would make one, in runs that need none.
    if base is None:
        return
    folder = Path(base) / _FOLDER
    if (folder / "up").exists():
        (folder / "up").unlink()
        ClusterHandle(_option(config, "name"), folder / "home", folder / "kubeconfig").down()


@pytest.fixture
def kubeling_namespace(kubeling_cluster: ClusterHandle, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that nobody else uses; everything in it is deleted after the test."""
    import re
    import secrets

    from kubeling.api.resources import NAMESPACES

    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    name = f"{test}-{secrets.token_hex(3)}".lstrip("-")

    async def make() -> None:
        async with kubeling_cluster.client() as client:
            await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def delete() -> None:
        async with kubeling_cluster.client() as client:
            await client.delete(NAMESPACES, name)

    _in_thread(make)
    yield name
    _in_thread(delete)


def _in_thread(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine apart from whatever event loops the tests have."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(work())).result()
