"""kubectl, as upstream released it, on a namespace of the shared cluster: the newest that is installed, or with KUBELING_ALL_KUBECTLS=1 every one."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.support import Bench
from kubeling.tests.kubectls import newest

IMAGE = "kubeling.local/host"
Obj = dict[str, Any]


def every_kubectl() -> Any:
    """Marks a test that is run with each."""
    return pytest.mark.parametrize(
        "binary",
        newest() or [pytest.param("", marks=pytest.mark.skip(reason="kubectl is not installed"))],
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
