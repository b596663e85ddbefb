"""The READMEs of the examples are true: each command in them is run as it stands, and each line of output that they show comes, in that order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kubeling.tests.e2e.support import EXAMPLES, Bench

pytestmark = pytest.mark.live

_MARK = "=== command"


def steps(readme: Path) -> list[tuple[str, list[str]]]:
    """The commands of the ```console blocks, each with the lines that it is to write."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", readme.read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def said(wanted: str, line: str) -> bool:
    """`…` stands for anything, blanks for any blanks."""
    pattern = re.escape(" ".join(wanted.split())).replace("…", ".*")
    return re.fullmatch(pattern, " ".join(line.split())) is not None


@pytest.mark.parametrize("readme", sorted(EXAMPLES.glob("rollouts/*/README.md")), ids=lambda path: path.parent.name)
def test_what_the_readme_says(readme: Path, bench: Bench) -> None:
    program = f'kubeling() {{ {shlex.quote(sys.executable)} -m kubeling.cli -n {bench.namespace} "$@"; }}'
    script = [program]
    for number, (command, _) in enumerate(steps(readme)):
        script += [f"echo '{_MARK} {number}'", command]
    environment = {**os.environ, "KUBECONFIG": str(bench.cluster.kubeconfig)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=readme.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    parts = re.split(rf"{_MARK} \d+\n", done.stdout)[1:]
    for (command, wanted), written in zip(steps(readme), parts, strict=True):
        lines = iter(written.splitlines())
        for each in wanted:
            assert any(said(each, line) for line in lines), f"$ {command}\ndid not write {each!r} but\n{written}\n\n{done.stdout}"
