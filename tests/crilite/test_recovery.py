"""What a new daemon makes of the records that it finds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kubeling.crilite import records
from kubeling.crilite.records import CREATED, EXITED, Container, ContainerRecord
from kubeling.crilite.recovery import agree_on_containers


def agreed(tmp_path: Path, boot: str) -> tuple[str, list[dict[str, Any]]]:
    """The phase of a container that had not been known to run, and what was said of its end."""
    record = ContainerRecord("c", "s", config="", image_id="", image_ref="", created_at=1, phase=CREATED, boot=boot)
    ends: list[dict[str, Any]] = []

    def ended(name: str, end: dict[str, Any]) -> None:
        record.phase = EXITED
        ends.append(end)

    core = SimpleNamespace(containers={"c": Container(record)}, container_state=lambda name: tmp_path / name)
    agree_on_containers(core, SimpleNamespace(ended=ended), {})  # type: ignore[arg-type]
    return record.phase, ends


@pytest.mark.parametrize("boot", ["", records.boot()], ids=["never asked for", "asked for in this boot"])
def test_what_has_not_run_can_still_be_started(tmp_path: Path, boot: str) -> None:
    assert agreed(tmp_path, boot) == (CREATED, [])


def test_what_was_asked_for_before_the_power_was_lost_may_have_run(tmp_path: Path) -> None:
    phase, ends = agreed(tmp_path, "an earlier boot")
    assert phase == EXITED
    assert [(each["code"], each["reason"]) for each in ends] == [(255, "Unknown")]
