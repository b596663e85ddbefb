"""A store, an apiserver and a controller-manager of this test run's own, and both command lines against them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.plane import Plane, running_plane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running_plane(tmp_path_factory.mktemp("plane")) as made:
        made.manager()
        shell = Shell(made)
        deadline = time.monotonic() + 30
        while shell.kubeling("get serviceaccount default -o name").code and time.monotonic() < deadline:
            time.sleep(0.1)
        yield made


@dataclass(frozen=True)
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str


class Shell:
    """Runs command lines against a plane."""

    def __init__(self, plane: Plane, user: str = "admin", namespace: str = "") -> None:
        self.plane, self.user, self.namespace = plane, user, namespace
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig(user)),
            "HOME": str(plane.folder),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def run(self, program: Sequence[str], line: str | Sequence[str], stdin: str = "", timeout: float = 60) -> Result:
        words = line.split() if isinstance(line, str) else list(line)
        if self.namespace:
            words = [words[0], f"--namespace={self.namespace}", *words[1:]]
        done = subprocess.run(
            [*program, *words], input=stdin, capture_output=True, text=True, env=self.environment, timeout=timeout, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def kubeling(self, line: str | Sequence[str], stdin: str = "", timeout: float = 60) -> Result:
        return self.run([sys.executable, "-m", "kubeling.cli"], line, stdin, timeout)

    def kubectl(self, line: str | Sequence[str], stdin: str = "", timeout: float = 60) -> Result:
        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("kubectl is not installed: nothing to compare with")
        return self.run([program], line, stdin, timeout)

    def start(self, line: str | Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """kubeling in the background; the caller ends it."""
        words = line.split() if isinstance(line, str) else list(line)
        if self.namespace:
            words = [words[0], f"--namespace={self.namespace}", *words[1:]]
        return subprocess.Popen([sys.executable, "-m", "kubeling.cli", *words], env=self.environment, **options)


@pytest.fixture
def shell(plane: Plane) -> Iterator[Shell]:
    """A shell in a namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    shell = Shell(plane)
    assert shell.kubeling(f"create namespace {name}").code == 0
    shell.namespace = name
    yield shell
    shell.namespace = ""
    shell.kubeling(f"delete namespace {name} --wait=false")


_VARYING = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\b\d+(m?s|[mhd])(\d+[smh])?\b"), "AGE"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"resourceVersion: \"\d+\""), "resourceVersion: RV"),
    (re.compile(r"10\.96\.\d+\.\d+"), "CLUSTERIP"),
]


def plain(text: str, *namespaces: str) -> str:
    """Without what differs from one object to its twin: ages, uids, versions, the test's namespace."""
    for namespace in namespaces:
        text = text.replace(namespace, "NS")
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return re.sub(r"  +", "  ", text)


@pytest.fixture
def same(shell: Shell) -> Callable[..., Result]:
    """Runs one line with both programs and holds kubeling to what kubectl says; returns kubeling's result."""

    def check(line: str | Sequence[str], stdin: str = "", *, errors: bool = True) -> Result:
        theirs, ours = shell.kubectl(line, stdin), shell.kubeling(line, stdin)
        where = f"\n$ {line if isinstance(line, str) else ' '.join(line)}\nkubectl: {theirs}\nkubeling: {ours}"
        assert plain(ours.out, shell.namespace) == plain(theirs.out, shell.namespace), where
        if errors:
            assert plain(ours.err, shell.namespace) == plain(theirs.err.replace("kubectl", "kubeling"), shell.namespace), where
        assert ours.code == theirs.code, where
        return ours

    return check
