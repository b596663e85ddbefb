"""Transcripts: a text file of commands with what they print beneath, which is both test and documentation.

A case is one or more command lines beginning with ``>``, followed by the output lines, followed by an empty line. ``KUBELING_REWRITE=1`` writes the
actual output into the file instead of failing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def play(path: Path, run: Callable[[list[str]], str]) -> None:
    """Run every command of the file with `run` (given its words) and compare what it returns."""
    written: list[str] = []
    wrong: list[str] = []
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.startswith("> "):
            written.append(line)
            continue
        expected: list[str] = []
        while at < len(lines) and lines[at] and not lines[at].startswith("> "):
            expected.append(lines[at])
            at += 1
        actual = run(line[2:].split()).splitlines()
        written += [line, *actual]
        if actual != expected:
            wrong.append(
                "\n".join([line, *[f"  expected: {one}" for one in expected], *[f"  actual:   {one}" for one in actual]])
            )
    if os.environ.get("KUBELING_REWRITE"):
        path.write_text("\n".join(written) + "\n")
    else:
        assert not wrong, f"{path.name}:\n" + "\n".join(wrong)
