"""Who of the DNS instances is taken for dead."""

from __future__ import annotations

from kubeling.dns.peers import PATIENCE, Judge
from kubeling.dns.records import Obj


def lease(name: str, at: str) -> Obj:
    return {"metadata": {"name": name}, "spec": {"renewTime": at}}


def test_who_does_not_renew_while_we_do_is_dead() -> None:
    judge = Judge("me")
    for number in range(PATIENCE):
        assert judge.round([lease("me", str(number)), lease("dead", "once"), lease("well", str(number))], str(number)) == []
    leases = [lease("me", "x"), lease("dead", "once"), lease("well", "y"), lease("new", "z")]
    assert judge.round(leases, "x") == ["dead"]
    # Once it speaks again, all is forgotten.
    assert judge.round([lease("me", "u"), lease("dead", "again")], "u") == []


def test_nobody_is_judged_while_nobody_can_renew() -> None:
    judge = Judge("me")
    leases = [lease("me", "1"), lease("other", "1")]
    assert judge.round(leases, "1") == []
    # Our renewals get through and are not seen to come back: neither are those of others.
    for number in range(2, 10):
        assert judge.round(leases, str(number)) == []
    assert judge.round([lease("me", "10"), lease("other", "1")], "10") == []


def test_a_peer_that_has_gone_for_good_is_known_no_more() -> None:
    judge = Judge("me")
    for number in range(PATIENCE + 1):
        judge.round([lease("me", str(number)), lease("other", "once")], str(number))
    assert judge.round([lease("me", "x")], "x") == []
    assert judge.round([lease("me", "y"), lease("other", "once")], "y") == [], (
        "it came back with the renewal that we knew, and has its time again"
    )
