"""Transcripts: a text file with commands and, beneath each, what they are expected to print. They read as documentation.

A case is a command line `verb key=value …`, then YAML documents separated by `---` as its input, a line `----`, and the output up to the next empty
line. Lines that begin with `#` between cases are comments. With KUBELING_REWRITE=1 in the environment the outputs are written anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTDATA = Path(__file__).parents[1] / "testdata"


@dataclass
class Case:
    """One command of a transcript."""

    line: int
    verb: str
    options: dict[str, str]
    documents: list[Any]


Answer = Callable[[Case], str]


def _cases(lines: list[str]) -> list[tuple[int, int, int]]:
    """(first line, its `----`, end of its output) of every case."""
    found, at = [], 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            at += 1
            continue
        dash = lines.index("----", at)
        end = next((index for index in range(dash + 1, len(lines)) if not lines[index].strip()), len(lines))
        found.append((at, dash, end))
        at = end
    return found


def play(name: str, answer: Answer) -> None:
    """Run a transcript and compare, or rewrite it."""
    path = TESTDATA / name
    lines = path.read_text().splitlines()
    rewritten: list[str] = []
    wrong: list[str] = []
    last = 0
    for first, dash, end in _cases(lines):
        words = lines[first].split()
        options = dict(word.split("=", 1) for word in words[1:])
        documents = [each for each in yaml.safe_load_all("\n".join(lines[first + 1 : dash])) if each is not None]
        got = answer(Case(first + 1, words[0], options, documents)).rstrip().splitlines()
        got = [line if line.strip() else "." for line in got]
        if got != lines[dash + 1 : end]:
            expected = "\n".join(lines[dash + 1 : end])
            wrong.append(f"{name}:{first + 1}: {lines[first]}\n--- expected\n{expected}\n--- got\n" + "\n".join(got))
        rewritten += [*lines[last : dash + 1], *got]
        last = end
    rewritten += lines[last:]
    if os.environ.get("KUBELING_REWRITE"):
        path.write_text("\n".join(rewritten) + "\n")
    elif wrong:
        pytest.fail("\n\n".join(wrong), pytrace=False)


@pytest.fixture
def transcript() -> Callable[[str, Answer], None]:
    """Plays a file of testdata/ through a function that answers its commands."""
    return play
