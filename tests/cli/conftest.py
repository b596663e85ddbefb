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
from dataclasses import dataclass, fields
from typing import Any

import pytest

from kubeling.cli import globalflags
from kubeling.cli.__main__ import _run as main
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


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], Result]:
    """Runs kubeling inside of the test, which costs no process. The environment is the test's."""

    def run(words: Sequence[str]) -> Result:
        for each in fields(globalflags.Options):
            monkeypatch.setattr(globalflags.options, each.name, getattr(globalflags.Options(), each.name))
        capsys.readouterr()
        code = main(list(words))
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def in_process(
    shell: Shell, inside: Callable[[Sequence[str]], Result], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | Sequence[str]], Result]:
    """As `shell.kubeling`, inside of the test."""
    for key in ("KUBECONFIG", "HOME", "COLUMNS", "NO_COLOR"):
        monkeypatch.setenv(key, shell.environment[key])

    def run(line: str | Sequence[str]) -> Result:
        words = line.split() if isinstance(line, str) else list(line)
        return inside([words[0], f"--namespace={shell.namespace}", *words[1:]])

    return run


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
def same(shell: Shell, in_process: Callable[[str | Sequence[str]], Result]) -> Callable[..., Result]:
    """Runs one line with both programs and holds kubeling to what kubectl says; returns kubeling's result."""

    def check(line: str | Sequence[str], stdin: str = "", *, errors: bool = True) -> Result:
        theirs, ours = shell.kubectl(line, stdin), shell.kubeling(line, stdin) if stdin else in_process(line)
        where = f"\n$ {line if isinstance(line, str) else ' '.join(line)}\nkubectl: {theirs}\nkubeling: {ours}"
        assert plain(ours.out, shell.namespace) == plain(theirs.out, shell.namespace), where
        if errors:
            assert plain(ours.err, shell.namespace) == plain(theirs.err.replace("kubectl", "kubeling"), shell.namespace), where
        assert ours.code == theirs.code, where
        return ours

    return check
