"""A few hundred schedules of the simulation, and proof that it would notice."""

from __future__ import annotations

import pytest

from .__main__ import run
from .mutations import MUTATIONS

#: A bug has to show within so many schedules.
_WITHIN = 1500
#: Schedules that show those that few do: they are tried first, which saves a minute while they still do.
_SHOWN_BY = {"commit_entries_of_earlier_terms": 813, "read_without_a_round": 517, "forget_the_vote": 121}


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_no_schedule_breaks_a_promise(first: int) -> None:
    for seed in range(first, first + 50):
        violated = run(seed)[1]
        assert not violated, f"seed {seed}: {violated}"


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_simulation_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch.setattr)
    seeds = [_SHOWN_BY.get(name, 0), *range(_WITHIN)]
    assert any(run(seed)[1] for seed in seeds), f"{_WITHIN} schedules do not notice: {MUTATIONS[name].__doc__}"
