"""Every scenario of :mod:`.crashpoints.scenarios`, disturbed at its writes: the end state is that of the undisturbed run.

By default so many deaths of each scenario are tried as fit in a test run, chosen by a seed; KUBELING_CRASH_POINTS=all tries every one, KUBELING_CRASH_SEED another choice.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from kubeling.client.rest import Client
from kubeling.controllers.registry import CONTROLLERS

from .crashpoints.harness import Theatre, all_of
from .crashpoints.scenarios import SCENARIOS

pytestmark = pytest.mark.live

SEED = int(os.environ.get("KUBELING_CRASH_SEED", "1"))
WANTED = os.environ.get("KUBELING_CRASH_POINTS", "1")
MOST = None if WANTED == "all" else int(WANTED)
PARALLEL = 4


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_end_is_the_same(tools: Any, plane: Any, client: Client, name: str) -> None:
    theatre = Theatre(client, plane.config("system:kube-controller-manager"), tools.Hollow)
    outcome, wrong = await all_of(theatre, name, SCENARIOS[name], random.Random(SEED), MOST, PARALLEL)
    assert outcome.writes, "a scenario in which nothing is written shows nothing"
    said = "\n\n".join(f"{way}:\n{what}" for way, what in wrong.items())
    writes = "\n".join(f"{number}: {each}" for number, each in enumerate(outcome.writes, 1))
    assert not wrong, f"{name}, seed {SEED}\n{writes}\n\n{said}"


def test_every_controller_has_a_scenario() -> None:
    played = {each for scenario in SCENARIOS.values() for each in scenario.controllers.split(",")}
    missing = {each for each in CONTROLLERS if each not in played | OTHERWISE}
    assert not missing, "add a line to SCENARIOS for them"


#: Those that act on what is there once in a cluster, so that runs could not go on side by side; they have live tests of their own.
OTHERWISE = {
    "attachdetach",
    "bootstrapsigner",
    "kubernetes-service",
    "local-volume-provisioner",
    "tokencleaner",
    "volume-expand",
}
