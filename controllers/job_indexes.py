"""Completion indexes of an Indexed Job: which are done, which are missing, written as `1,3-5,7`."""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api.meta import annotations_of, labels_of
from kubeling.controllers.context import Obj

INDEX = "batch.kubernetes.io/job-completion-index"


def index_of(pod: Obj) -> int | None:
    """The pod's completion index, None where it has none that is a number."""
    text = annotations_of(pod).get(INDEX) or labels_of(pod).get(INDEX)
    return int(text) if text and text.isdecimal() else None


def parse(text: str | None, completions: int) -> set[int]:
    """The set that a string means; what is out of range or no number is dropped."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        if first.isdecimal() and (not dash or last.isdecimal()):
            found.update(range(int(first), min(int(last) if dash else int(first), completions - 1) + 1))
    return {each for each in found if each < completions}


def render(indexes: Iterable[int]) -> str:
    """The string for a set; two neighbours are written with a comma, three or more as a range."""
    parts: list[str] = []
    run: list[int] = []
    for each in [*sorted(indexes), None]:
        if each is not None and run and each == run[-1] + 1:
            run.append(each)
            continue
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts += map(str, run)
        run = [] if each is None else [each]
    return ",".join(parts)


def missing(completions: int, taken: Iterable[int], count: int) -> list[int]:
    """The lowest `count` indexes that are neither done nor under way."""
    blocked = set(taken)
    found: list[int] = []
    for each in range(completions):
        if len(found) >= count:
            break
        if each not in blocked:
            found.append(each)
    return found
