"""`up` is read in two ways: what the quick one understands, typer understands in the same way."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from kubeling.cli import quick
from kubeling.cli.__main__ import _run
from kubeling.cluster import launch

LINES = [
    [],
    ["--name", "a"],
    ["--name=a", "--workers=0"],
    ["--control-planes", "3", "--workers", "2", "--network", "host", "--no-wait"],
    ["--workers=2", "--workers=3", "--no-wait", "--wait"],
]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def up(*args: Any, **named: Any) -> Path:
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        found.append({key: value for key, value in bound.arguments.items() if key != "tell"})
        return Path("/nowhere")

    signature = inspect.signature(launch.up)
    monkeypatch.setattr(launch, "up", up)
    return found


@pytest.mark.parametrize("line", LINES, ids=" ".join)
@pytest.mark.parametrize("variable", [None, "b", ""])
def test_both_readings_are_the_same(
    line: list[str], variable: str | None, taken: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBELING_NAME", raising=False)
    if variable is not None:
        monkeypatch.setenv("KUBELING_NAME", variable)
    assert quick.read(["up", *line]) is not None
    assert quick.read(["up", *line, "--v=0"]) is None
    assert _run(["up", *line]) == 0
    assert _run(["up", *line, "--v=0"]) == 0
    assert taken[0] == taken[1]
    assert len(taken) == 2


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["--workers"],
        ["--workers", "-1"],
        ["--workers=two"],
        ["--workers=²"],
        ["--wait=true"],
        ["--name="],
        ["--name", "--workers"],
        ["--control_planes=1"],
        ["--timeout=5"],
        ["-n", "x"],
        ["name"],
        ["--"],
    ],
    ids=" ".join,
)
def test_everything_else_is_left_to_typer(line: list[str]) -> None:
    assert quick.read(["up", *line]) is None


def test_other_verbs_are_left_alone() -> None:
    assert quick.read([]) is None
    assert quick.read(["get", "pods"]) is None
