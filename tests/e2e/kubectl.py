"""Every kubectl that is installed, each as upstream released it, on a namespace of the shared cluster.

The oldest and the newest stand for those between; with KUBELING_ALL_KUBECTLS=1 all of them are run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.support import Bench

IMAGE = "kubeling.local/host"
Obj = dict[str, Any]


def installed() -> list[str]:
    """kubectl on the path, and versions beside its real place (kubectl.1.29 …) or in the folders of $KUBECTL_DIRS, the oldest first."""
    first = shutil.which("kubectl")
    if first is None:
        return []
    folders = [Path(os.path.realpath(first)).parent, *map(Path, filter(None, os.environ.get("KUBECTL_DIRS", "").split(":")))]
    beside = [each for folder in folders for each in folder.glob("kubectl.1.*") if re.fullmatch(r"kubectl\.1\.\d+", each.name)]
    beside.sort(key=lambda path: int(path.name.rpartition(".")[2]))
    return [str(path) for path in beside] or [first]


def chosen() -> list[str]:
    """Those that are run."""
    found = installed()
    if os.environ.get("KUBELING_ALL_KUBECTLS") or len(found) < 3:
        return found
    return [found[0], found[-1]]


def every_kubectl() -> Any:
    """Marks a test that is run with each."""
    return pytest.mark.parametrize(
        "binary",
        chosen() or [pytest.param("", marks=pytest.mark.skip(reason="kubectl is not installed"))],
        ids=lambda path: Path(path).name or "kubectl",
    )


class Kubectl:
    """One kubectl. A call returns what it wrote; a failure fails the test with what it said."""

    def __init__(self, binary: str, bench: Bench) -> None:
        self.binary, self.bench = binary, bench
        self.minor = int(self("version", "--client", "-o", "json", "parse")["clientVersion"]["minor"].rstrip("+"))

    def env(self, more: dict[str, str]) -> dict[str, str]:
        """The cluster's environment, and a cache that no other version writes."""
        cache = self.bench.cluster.home / f"cache-{Path(self.binary).name}"
        return {**self.bench.cluster.env, "KUBECACHEDIR": str(cache), **more}

    def run(self, *args: str, stdin: str = "", timeout: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
        """Run it in the test's namespace, to its end."""
        # What completion asks has its flags where the user types them.
        place = [] if args[0].startswith("_") else ["-n", self.bench.namespace]
        command = [self.binary, *place, *args]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env=self.env(env), check=False
        )

    def __call__(self, *args: str, **more: Any) -> Any:
        """With "parse" as the last argument, the JSON it wrote."""
        parse = args[-1] == "parse"
        done = self.run(*(args[:-1] if parse else args), **more)
        if done.returncode:
            pytest.fail(
                f"{Path(self.binary).name} {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False
            )
        return json.loads(done.stdout) if parse else done.stdout

    def refused(self, *args: str, code: int = 1, **more: Any) -> str:
        """What it says when it fails, as it has to."""
        done = self.run(*args, **more)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def json(self, *args: str) -> Any:
        """An object, or a list of them."""
        return self("get", *args, "-o", "json", "parse")

    @contextlib.contextmanager
    def running(self, *args: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """A command that does not end by itself."""
        process = subprocess.Popen(
            [self.binary, "-n", self.bench.namespace, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.env(env),
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def workload(kind: str, name: str, *, api: str = "apps/v1", command: Sequence[str] = ("sleep", "10000"), **spec: Any) -> Obj:
    """A Deployment, StatefulSet … with one container that sleeps."""
    labels = {"app": name}
    container = {"name": "main", "image": IMAGE, "command": list(command)}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    made = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": made}
