"""The short form of the fuzz run (`make fuzz` is the long one): always the same requests, of both generators."""

from __future__ import annotations

import pytest

from tests.apiserver.conftest import make_namespace
from tests.apiserver.fuzz.hostile import Case, Hostile
from tests.apiserver.fuzz.run import run
from tests.apiserver.fuzz.target import Target
from tests.apiserver.harness import Server

pytestmark = pytest.mark.live
_CASES = 350
#: What the first round fills (message classes, validators, caches) stays; later ones add nothing to speak of.
_GROWTH_MB = 60


def test_no_request_is_too_odd(server: Server):
    target = Target(server)
    memory = 0.0
    for seed in (1, 2):
        with server.client() as client:
            namespace = make_namespace(client).name
        report = run(server, namespace, seed, seconds=120, cases=_CASES)
        assert not report.faults, "\n".join(map(str, report.faults[:5]))
        assert sum(report.statuses.values()) >= 6 * _CASES
        # Some of everything: requests that are refused at the door only would show little.
        assert {200, 201, 400, 404, 405, 406, 409, 413, 415, 422} <= set(report.statuses)
        assert not target.in_order()
        memory = memory or target.memory()
    assert target.memory() < memory + _GROWTH_MB
    assert "a request failed" not in server.daemon.log.read_text()


def test_a_seed_gives_the_same_requests_again():
    one, other = ([Hostile(7, "n").next() for _ in range(200)] for _ in range(2))
    assert [(each.method, each.target, each.body, each.raw) for each in one] == [
        (each.method, each.target, each.body, each.raw) for each in other
    ]


def test_what_is_wrong_is_seen(server: Server):
    """The target itself: a fault that is none must not be, and one that is must be."""
    target = Target(server)
    assert target.send(Case("GET", "/api/v1/pods?limit=x")) == 400
    assert target.send(Case("", "", raw=b"EHLO\r\n\r\n")) == 400
    assert target.send(Case("GET", "/version", headers={"connection": "close"})) == 200
    assert target.send(Case("GET", "/version")) == 200
    assert not target.report.faults
    dead = Target(Server(server.daemon, "https://127.0.0.1:1", server.world))
    dead.send(Case("GET", "/version"))
    assert "the connection broke" in dead.report.faults[0].why
    assert target.memory() > 10
